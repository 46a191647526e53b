"""The CRM of the demonstration: what is in it, who of it is in Marketo, and whom the story is about."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from tools.checker import UNKNOWN, Expected, usable_address
from tools.demo.screen import Failed
from tools.demo.services import REPOSITORY
from tools.emulators.admin import Admin

UK = REPOSITORY.parent / "shared" / "data" / "crm" / "uk_public_procurement_ocds" / "derived"
FILES = ("accounts", "contacts", "opportunities", "connections")
OPPORTUNITIES, ACCOUNTS, CONTACTS, ROLES_EACH = 370, 545, 301, 0.84
SUPPLIERS, COLLEAGUES, NAMELESS = 240, 12, 6  # connections that give no role: to accounts, of other kinds, without role
MISSING_PEOPLE = 5
MANY = 200  # deletions at once: twice what the removal guard lets pass
SHARE = 0.02

Row = Mapping[str, Any]
Tables = Mapping[str, Sequence[Row]]


# --- filling both services ------------------------------------------------------------------------------------


def beside_us() -> Path | None:
    """The UK data, which a fresh clone does not have."""
    return UK if UK.is_dir() else None


def fill(dataverse: Admin, folder: Path | None, seed: int) -> str:
    """Load *folder*, or generated rows; says which."""
    if folder is not None:
        dataverse.post("load", {"tables": _read(folder)})
        return "UK public procurement notices" if folder == UK else f"from {folder.name}"
    shape = {"opportunities": OPPORTUNITIES, "accounts": ACCOUNTS, "contacts": CONTACTS}
    dataverse.post("generate", {"seed": seed, **shape, "roles_per_opportunity": ROLES_EACH})
    dataverse.post("edit", list(_connections_without_role(dataverse, random.Random(seed))))
    return f"generated, seed {seed}"


def _read(folder: Path) -> dict[str, Any]:
    paths = {name: folder / f"{name}.json" for name in FILES}
    if missing := [path.name for path in paths.values() if not path.is_file()]:
        raise Failed(f"--data: {folder.name} lacks {', '.join(missing)}")
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items()}


def _connections_without_role(dataverse: Admin, chance: random.Random) -> Iterator[Row]:
    """Suppliers, which are accounts; people who are no stakeholders; people connected without saying as what."""
    ids = {
        name: [row[f"{name}id"] for row in dataverse.get(f"rows/{name}")]
        for name in ("opportunity", "account", "contact")
    }
    for number, kind, role in (
        (SUPPLIERS, "account", "Supplier"),
        (COLLEAGUES, "contact", "Colleague"),
        (NAMELESS, "contact", None),
    ):
        for _ in range(number):
            yield {
                "op": "connect", "opportunity": chance.choice(ids["opportunity"]), kind: chance.choice(ids[kind]),
                "role": role,
            }  # fmt: skip


def introduce_people(marketo: Admin, contacts: Iterable[Row], wanted: Expected, seed: int) -> int:
    """Put the contacts' addresses into Marketo, all but a few who would have a role; returns how many are there.

    *wanted* tells who would: for it, nobody is in Marketo yet.
    """
    addresses = sorted({usable_address(row.get("emailaddress1")) for row in contacts} - {""})
    missing = set(random.Random(seed).sample(sorted(wanted.unknown), min(MISSING_PEOPLE, len(wanted.unknown) // 2)))
    marketo.post("leads", {"leads": [{"email": address} for address in addresses if address not in missing]})
    return len(addresses) - len(missing)


# --- the cast -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cast:
    """Ids of contacts, opportunities and accounts; `left_out` is (opportunity, contact, role)."""

    newcomer: str
    welcoming: str
    moving: str
    new_account: str
    loser: str
    loser_deal: str
    winner: str
    won: str
    explained: str
    left_out: tuple[str, str, str]
    deleted: tuple[str, ...]


class Casting:
    """Finds whom the story needs. Only deals where nobody is missing in Marketo: each change then stands alone."""

    def __init__(self, rows: Tables, wanted: Expected, leads: Iterable[Row], seed: int) -> None:
        self.wanted = wanted
        self.deals = {row["opportunityid"]: row for row in rows["opportunity"]}
        self.accounts = {row["accountid"]: row for row in rows["account"]}
        self.contacts = {row["contactid"]: row for row in rows["contact"]}
        self.lead_of = {row["email"].lower(): row["id"] for row in leads}
        self.roles_of = Counter(lead for _, lead, _ in wanted.roles)
        self.waiting = {item.opportunity for item in wanted.left_out if item.why == UNKNOWN}
        self.deals_of = _deals_of(rows)
        self.taken: set[str] = set()
        self.random = random.Random(seed)

    def cast(self) -> Cast:
        loser = self._first("contact with one role", (c for c in self.people() if self._has_one_role(c)))
        loser_deal = next(key for key, lead, _ in self.wanted.roles if lead == self.lead(loser))
        self.taken.add(loser_deal)
        newcomer, winner = (self._first("contact without a role", self._without_role()) for _ in range(2))
        welcoming = self._first("open deal with a stakeholder", (key for key in self._open() if self._roles(key)))
        moving = self._first(
            "open deal of an account", (k for k in self._open() if self.deals[k].get("_accountid_value"))
        )
        new_account = self._first("account without a deal", self._unused_accounts())
        won = self._first(
            "open deal with an amount", (key for key in self._open() if self.deals[key].get("estimatedvalue"))
        )
        explained = self._first("deal with stakeholders, some of them left out", self._mixed())
        deleted = self._doomed()
        left_out = self._example()
        return Cast(
            newcomer, welcoming, moving, new_account, loser, loser_deal, winner, won, explained, left_out, deleted
        )  # fmt: skip

    def lead(self, contact: str) -> int | None:
        return self.lead_of.get(usable_address(self.contacts[contact].get("emailaddress1")))

    def people(self) -> Iterator[str]:
        """Contacts who are in Marketo, share their address with nobody, and touch no deal that waits for somebody."""
        shared = Counter(usable_address(row.get("emailaddress1")) for row in self.contacts.values())
        for key, row in sorted(self.contacts.items()):
            alone = shared[usable_address(row.get("emailaddress1"))] == 1
            if self.lead(key) and alone and not row.get("_masterid_value") and not self.deals_of[key] & self.waiting:
                yield key

    def _first(self, what: str, found: Iterable[str]) -> str:
        key = next((key for key in found if key not in self.taken), None)
        if key is None:
            raise Failed(f"this data has no {what}; try another --seed or --data")
        self.taken.add(key)
        return key

    def _has_one_role(self, contact: str) -> bool:
        lead = self.lead(contact)
        primary = any(role["isPrimary"] for key, role in self.wanted.roles.items() if key[1] == lead)
        return self.roles_of[lead] == 1 and not primary

    def _without_role(self) -> Iterator[str]:
        return (key for key in self.people() if not self.roles_of[self.lead(key)])

    def _roles(self, deal: str) -> int:
        return sum(key[0] == deal for key in self.wanted.roles)

    def _open(self) -> Iterator[str]:
        deals = sorted(self.deals.items())
        return (
            key for key, row in deals if row.get("statecode", 0) == 0 and key not in self.waiting and row.get("name")
        )

    def _unused_accounts(self) -> Iterator[str]:
        return (
            key for key, row in sorted(self.accounts.items()) if key not in self.wanted.companies and row.get("name")
        )

    def _mixed(self) -> list[str]:
        """The shortest to tell first."""
        left = Counter(item.opportunity for item in self.wanted.left_out)
        found = [key for key in self.deals if left[key] and self._roles(key) > 1]
        return sorted(found, key=lambda key: (self._roles(key) + left[key], key))

    def _doomed(self) -> tuple[str, ...]:
        number = max(MANY, int(SHARE * len(self.deals)))
        if len(self.deals) < number + 50:
            raise Failed(f"the demonstration deletes {number} deals and needs 50 more; this data has {len(self.deals)}")
        return tuple(self.random.sample(sorted(self.deals.keys() - self.taken), number))

    def _example(self) -> tuple[str, str, str]:
        """Somebody left out for a reason that a person can put right."""
        contacts = [item for item in self.wanted.left_out if item.record in self.contacts]
        if not contacts:
            raise Failed("this data has nobody who is left out; try another --seed or --data")
        item = min(contacts, key=lambda item: (item.why == UNKNOWN, item.opportunity, item.record))
        return item.opportunity, item.record, item.role


def _deals_of(rows: Tables) -> defaultdict[str, set[str]]:
    """The opportunities that a contact has to do with, in whatever way."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows["opportunity"]:
        for name in ("_customerid_value", "_parentcontactid_value"):
            found[row.get(name) or ""].add(row["opportunityid"])
    for row in rows["connection"]:
        found[row["_record2id_value"]].add(row["_record1id_value"])
    return found


def a_week_later(row: Row) -> str:
    closes = row.get("estimatedclosedate") or row["createdon"]
    return (date.fromisoformat(closes[:10]) + timedelta(days=7)).isoformat()
