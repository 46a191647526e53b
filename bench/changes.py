"""What a company changes in Dynamics between two ticks: opportunities, stakeholders, and where people work.

    change(dataverse, opportunities=500, stakeholders=20, contacts=10, seed=1)

All edits are one transaction through the emulator's own door. The same seed and rows, the same edits; another day is
another seed. It reads all rows of four tables into this process: at size, call it where their memory isn't measured.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tools.emulators.admin import Admin
from tools.emulators.dataverse.generate import ROLES

ENDED = "2026-01-05T08:00:00Z"  # after which no row was generated
LOOKUP = "@Microsoft.Dynamics.CRM.lookuplogicalname"
OPPORTUNITY, CONTACT = 3, 2  # as connections name their ends

Row = Mapping[str, Any]
Edit = dict[str, Any]
Tables = Mapping[str, Sequence[Row]]


def change(
    dataverse: Admin, *, opportunities: int = 500, stakeholders: int = 20, contacts: int = 10, seed: int = 1
) -> dict[str, int]:
    """Make the changes; how many there were of each kind.

    *opportunities* open ones are renamed, get another amount or are won, a third each. Of the *stakeholders* half are
    new, a quarter deactivated or ended by date, a quarter deleted. *contacts* go to work for another account.
    """
    tables = {name: dataverse.get(f"rows/{name}") for name in ("opportunity", "connection", "contact", "account")}
    chance, made = random.Random(seed), list[tuple[str, Edit]]()
    made += _opportunities(tables, chance, opportunities, seed)
    made += _stakeholders(tables, chance, stakeholders)
    made += _contacts(tables, chance, contacts)
    dataverse.post("edit", [edit for _, edit in made])
    return dict(Counter(kind for kind, _ in made))


def _opportunities(tables: Tables, chance: random.Random, number: int, seed: int) -> Iterator[tuple[str, Edit]]:
    for index, row in enumerate(chance.sample(_open(tables), number)):
        key = {"table": "opportunity", "id": row["opportunityid"]}
        if index % 3 == 0:
            yield "renamed", {"op": "update", **key, "values": {"name": f"{row['name'][:80]}, day {seed}"}}
        elif index % 3 == 1:
            amount = row.get("estimatedvalue", 0) + chance.randrange(500, 50_000, 500)
            yield "amounts", {"op": "update", **key, "values": {"estimatedvalue": amount}}
        else:
            yield "won", {"op": "win", "id": row["opportunityid"]}


def _stakeholders(tables: Tables, chance: random.Random, number: int) -> Iterator[tuple[str, Edit]]:
    pairs = {(row["_record1id_value"], row["_record2id_value"]) for row in tables["connection"]}
    known = [row["contactid"] for row in tables["contact"] if row.get("emailaddress1")]
    deals, added = _open(tables), number // 2
    while added:
        deal, contact = pair = chance.choice(deals)["opportunityid"], chance.choice(known)
        if pair not in pairs:
            pairs.add(pair)
            added -= 1
            yield "connected", {"op": "connect", "opportunity": deal, "contact": contact, "role": chance.choice(ROLES)}
    standing = [row["connectionid"] for row in tables["connection"] if _is_stakeholder(row)]
    for index, key in enumerate(chance.sample(standing, number - number // 2)):
        if index % 2:
            yield "disconnected", {"op": "disconnect", "id": key}
        else:
            over: Edit = {"statecode": 1} if index % 4 else {"effectiveend": ENDED}
            yield "ended", {"op": "update", "table": "connection", "id": key, "values": over}


def _is_stakeholder(row: Row) -> bool:
    """Still standing, and seen from the opportunity: its mirror follows it."""
    ends = row["record1objecttypecode"], row["record2objecttypecode"]
    return ends == (OPPORTUNITY, CONTACT) and row.get("statecode", 0) == 0 and not row.get("effectiveend")


def _contacts(tables: Tables, chance: random.Random, number: int) -> Iterator[tuple[str, Edit]]:
    accounts = [row["accountid"] for row in tables["account"]]
    employed = [row for row in tables["contact"] if row.get("_parentcustomerid_value")]
    for row in chance.sample(employed, number):
        other = chance.choice([key for key in accounts if key != row["_parentcustomerid_value"]])
        values = {"_parentcustomerid_value": other, f"_parentcustomerid_value{LOOKUP}": "account"}
        yield "moved", {"op": "update", "table": "contact", "id": row["contactid"], "values": values}


def _open(tables: Tables) -> list[Row]:
    """Closed opportunities are read-only."""
    return [row for row in tables["opportunity"] if row.get("statecode", 0) == 0]
