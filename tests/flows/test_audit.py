"""The audit finds what is different between the two services, invents nothing, and what it finds is mended."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from sync_core.errors import ConfigurationError, RetryLater, Unavailable
from sync_core.flows import audit as audits
from sync_core.flows.status import pause
from sync_core.model import State
from tests.flows.mapped import a_stage
from tests.flows.org import Org
from tests.stage import CONFIG, Stage
from tools.checker import differences, expected
from tools.emulators.dataverse.generate import rows
from tools.emulators.dataverse.loading import load

PER_CALL = 300
TABLES = ("opportunity", "contact", "account", "connection", "connectionrole")
OBJECTS = ("opportunities", "roles", "companies", "leads")


def audited(stage: Stage, **options: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []
    return audits.audit(stage.world, found.append, **options), found


def an_org(opportunities: int = 240, *, seed: int = 1, **options: Any) -> Stage:
    """Synced; every contact with an address is a person in Marketo, but for one in ten."""
    stage = Stage(seed=seed, **options)
    tables = rows(seed=seed, opportunities=opportunities)
    load(stage.dataverse, tables)
    addresses = [row["emailaddress1"] for row in tables["contact"] if row.get("emailaddress1")]
    stage.people(*(address for number, address in enumerate(addresses) if number % 10))
    stage.sync()
    return stage


def wrong(stage: Stage) -> list[str]:
    """What an independent checker finds."""
    tables = {name: stage.dataverse.rows(name) for name in TABLES}
    marketo = {name: stage.marketo.rows(name) for name in OBJECTS}
    return differences(expected(tables, marketo["leads"], now=stage.clock.now()), marketo)


def test_nothing_differs_after_a_sync(stage: Stage, org: Org) -> None:
    org.stakeholder(org.bob)
    stage.sync()
    before = stage.writes()

    summary, found = audited(stage)

    assert (found, summary["differences"], summary["counters that are wrong"]) == ([], 0, {})
    assert summary["complete"]
    assert summary["compared"] == {"opportunities": 1, "companies": 1, "roles": 1}
    assert summary["sums"] == [
        {
            "stage": "Open",
            "month": "-",
            "Dynamics": {"count": 1, "amount": 1000.0},
            "Marketo": {"count": 1, "amount": 1000.0},
        }
    ]
    assert stage.writes() == before


# --- damage -----------------------------------------------------------------------------------------------------


class Vandal:
    """Changes Marketo by hand, each time another record; `done`: by (object, id in Dynamics) what it did."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.chance = random.Random(seed)
        self.done: dict[tuple[str, str], str] = {}
        self.roles: dict[str, list[dict[str, Any]]] = {}
        for row in stage.marketo.rows("roles"):
            self.roles.setdefault(row["externalOpportunityId"], []).append(row)
        self.opportunities = sorted(stage.opportunities())
        self.companies = sorted(row["externalCompanyId"] for row in stage.marketo.rows("companies"))
        self.chance.shuffle(self.opportunities)
        self.chance.shuffle(self.companies)
        ledger = stage.world.opportunities
        waiting = {key for page in ledger.in_state(State.WAITING) for key in page}
        self.opportunities = [key for key in self.opportunities if key not in waiting]
        self.gone = sorted({key for page in ledger.ids(gone=True) for key in page} - {*stage.opportunities()})

    def edit(self, op: str, table: str, key: dict[str, Any], **values: Any) -> None:
        self.stage.marketo.edit({"op": op, "object": table, "key": key, "values": values})

    def _one(self, fits: Callable[[str], bool] = lambda _: True) -> str:
        key = next(each for each in self.opportunities if fits(each))
        self.opportunities.remove(key)
        return key

    def _with_role(self) -> tuple[str, dict[str, Any]]:
        key = self._one(lambda each: bool(self.roles.get(each)))
        return key, self.chance.choice(self.roles[key])

    def value(self) -> None:
        key = self._one()
        values = {"name": "by hand", "amount": 1.0, "stage": "by hand", "closeDate": "2031-01-01", "isWon": None}
        name = self.chance.choice([*values])
        if name == "isWon":
            values["isWon"] = not self.stage.opportunities()[key]["isWon"]
        self.edit("update", "opportunities", {"externalOpportunityId": key}, **{name: values[name]})
        self.done["opportunity", key] = "different"

    def company(self) -> None:
        key = self.companies.pop()
        self.edit("update", "companies", {"externalCompanyId": key}, website="https://elsewhere.invalid")
        self.done["company", key] = "different"

    def company_deleted(self) -> None:
        named = {row.get("externalCompanyId") for row in self.stage.marketo.rows("opportunities")}
        key = next(each for each in self.companies if each in named)
        self.companies.remove(key)
        self.edit("delete", "companies", {"externalCompanyId": key})
        self.done["company", key] = "missing"

    def role_added(self) -> None:
        key = self._one()
        has = {row["leadId"] for row in self.roles.get(key, ())}
        lead = next(row["id"] for row in self.stage.marketo.rows("leads") if row["id"] not in has)
        record = {"externalOpportunityId": key, "leadId": lead, "role": "Decision Maker", "isPrimary": False}
        self.stage.marketo.edit({"op": "create", "object": "roles", "values": record})
        self.done["opportunity", key] = "different"

    def role_removed(self) -> None:
        key, role = self._with_role()
        self.edit("delete", "roles", {"marketoGUID": role["marketoGUID"]})
        self.done["opportunity", key] = "different"

    def role_changed(self) -> None:
        key, role = self._with_role()
        self.edit("update", "roles", {"marketoGUID": role["marketoGUID"]}, isPrimary=not role["isPrimary"])
        self.done["opportunity", key] = "different"

    def deleted(self) -> None:
        key = self._one()
        self.edit("delete", "opportunities", {"externalOpportunityId": key})
        self.done["opportunity", key] = "missing"

    def deleted_with_roles(self) -> None:
        key, _ = self._with_role()
        for role in self.roles[key]:
            self.edit("delete", "roles", {"marketoGUID": role["marketoGUID"]})
        self.edit("delete", "opportunities", {"externalOpportunityId": key})
        self.done["opportunity", key] = "missing"

    def orphan_role(self) -> None:
        key, lead = self.gone.pop(), self.stage.marketo.rows("leads")[0]["id"]
        record = {"externalOpportunityId": key, "leadId": lead, "role": "Influencer"}
        self.stage.marketo.edit({"op": "create", "object": "roles", "values": record})
        self.done["opportunity", key] = "different"

    def came_back(self) -> None:
        key = self.gone.pop()
        record = {"externalOpportunityId": key, "name": "came back", "stage": "Open", "amount": 5.0}
        self.stage.marketo.edit({"op": "create", "object": "opportunities", "values": record})
        self.done["opportunity", key] = "extra"

    def merged(self) -> None:
        """Somebody with a role becomes somebody else, whose address no contact has."""
        opportunities = {*self.opportunities}
        by_lead: dict[int, set[str]] = {}
        for key, held in self.roles.items():
            for role in held:
                by_lead.setdefault(role["leadId"], set()).add(key)
        lead, keys = next(each for each in sorted(by_lead.items()) if each[1] <= opportunities)
        winner = self.stage.people(f"winner{lead}@elsewhere.invalid")[0]
        self.stage.marketo.merge(winner, [lead])
        for key in keys:
            self.opportunities.remove(key)
            self.done["opportunity", key] = "different"


KINDS = ("value", "company", "role_added", "role_removed", "role_changed", "deleted", "deleted_with_roles")
RARE = ("merged", "orphan_role", "came_back", "company_deleted")


@pytest.mark.parametrize("seed", range(4))
def test_a_hundred_changes_by_hand_are_all_found_none_is_invented_and_all_are_mended(seed: int) -> None:
    stage = an_org(seed=seed)
    for row in stage.dataverse.rows("opportunity")[:8]:
        stage.edit("delete", table="opportunity", id=row["opportunityid"])
    stage.sync()
    assert wrong(stage) == []
    vandal = Vandal(stage, seed)
    before = stage.writes()

    for number in range(100):
        kind = RARE[number // 20 - 1] if number and number % 20 == 0 else vandal.chance.choice(KINDS)
        if kind == "company" and not vandal.companies:
            kind = "value"
        getattr(vandal, kind)()
    summary, found = audited(stage)

    assert {(each["object"], each["id"]): each["what"] for each in found} == vandal.done
    assert summary["differences"] == len(vandal.done) >= 99
    assert stage.writes() == before

    audits.repair(stage.world, summary)
    stage.drain()
    stage.clock.sleep(13 * 3600)
    stage.sync()

    assert wrong(stage) == []
    summary, found = audited(stage)
    assert (found, summary["differences"], summary["remembered otherwise"]) == ([], 0, 0)
