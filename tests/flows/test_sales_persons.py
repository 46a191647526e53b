"""`[owner] salesperson = true`: the owner of an opportunity is in Marketo before the opportunity names it."""

from __future__ import annotations

from typing import Any

import pytest

from sync_core.messages import encode
from sync_core.model import Lane, State, Work
from tests.flows.org import Org, lookup
from tests.stage import LEASE, Stage

OWNED = {"salesperson = false": "salesperson = true"}
ADMINISTERED = OWNED | {'team        = "none"': 'team        = "administrator"'}


def user(stage: Stage, first: str, **values: Any) -> str:
    row = {"firstname": first, "lastname": "Seller", "internalemailaddress": f"{first}@crm.invalid".lower(), **values}
    return str(stage.edit("create", table="systemuser", values=row)["id"])


def owned(stage: Stage, org: Org, name: str, owner: str, table: str = "systemuser") -> str:
    return org.opportunity(name, account=org.acme, **lookup("ownerid", owner, table))


def sales_persons(stage: Stage) -> dict[str, Any]:
    return {row["externalSalesPersonId"]: row for row in stage.marketo.rows("salespersons")}


def test_the_owner_is_posted_before_the_opportunity_that_names_it() -> None:
    stage = Stage(changes=OWNED)
    org = Org(stage)
    tim = user(stage, "Tim")
    deal = owned(stage, org, "Tim's", tim)
    stage.sync()
    assert stage.opportunities()[deal]["externalSalesPersonId"] == tim
    found = sales_persons(stage)[tim]
    assert (found["firstName"], found["lastName"], found["email"]) == ("Tim", "Seller", "tim@crm.invalid")
    before = stage.writes()
    stage.sync()
    stage.dataverse.expire_delta_links()
    stage.sync()
    assert stage.writes() == before


def test_another_owner_and_a_renamed_one_arrive() -> None:
    stage = Stage(changes=OWNED)
    org = Org(stage)
    tim, tess = user(stage, "Tim"), user(stage, "Tess")
    deal = owned(stage, org, "Tim's", tim)
    stage.sync()
    org.update("opportunity", deal, **lookup("ownerid", tess, "systemuser"))
    org.update("systemuser", tim, lastname="Renamed")
    stage.sync()
    assert stage.opportunities()[deal]["externalSalesPersonId"] == tess
    assert sales_persons(stage)[tim]["lastName"] == "Renamed"


def test_a_changed_address_of_a_sales_person_blames_nobody() -> None:
    """Marketo lets nobody change it (marketo.md §3.5)."""
    stage = Stage(changes=OWNED)
    org = Org(stage)
    tim = user(stage, "Tim")
    owned(stage, org, "Tim's", tim)
    stage.sync()
    org.update("systemuser", tim, internalemailaddress="other@crm.invalid", firstname="Timothy")
    stage.sync()
    assert sales_persons(stage)[tim]["firstName"] == "Timothy"
    assert stage.world.sales_persons.counts()[State.PARKED] == 0


@pytest.mark.parametrize("changes", [OWNED, ADMINISTERED])
def test_a_team_has_no_sales_person_or_its_administrator(changes: dict[str, str]) -> None:
    stage = Stage(changes=changes)
    org = Org(stage)
    tim, tess = user(stage, "Tim"), user(stage, "Tess")
    team = stage.edit("create", table="team", values={"name": "East", **lookup("administratorid", tim, "systemuser")})[
        "id"
    ]
    deal = owned(stage, org, "The team's", team, "team")
    stage.sync()
    administered = changes == ADMINISTERED
    assert stage.opportunities()[deal]["externalSalesPersonId"] == (tim if administered else None)
    org.update("team", team, **lookup("administratorid", tess, "systemuser"))
    stage.sync()
    assert stage.opportunities()[deal]["externalSalesPersonId"] == (tess if administered else None)


def test_a_sales_person_deleted_in_marketo_comes_back_and_sinks_nobody() -> None:
    """718 names no record: halving finds it, the owner is posted again, the others go on (marketo.md §3.2)."""
    stage = Stage(changes=OWNED)
    org = Org(stage)
    tim, tess = user(stage, "Tim"), user(stage, "Tess")
    deals = [owned(stage, org, f"Tess {number}", tess) for number in range(5)]
    stage.sync()
    lost = owned(stage, org, "Tim's", tim)
    stage.sync()
    stage.marketo.edit({"op": "delete", "object": "salespersons", "key": {"externalSalesPersonId": tim}})
    for deal in (*deals, lost):
        org.update("opportunity", deal, name="Changed")
    stage.sync()
    assert {stage.opportunities()[deal]["name"] for deal in deals} == {"Changed"}
    stage.clock.sleep(3600)
    stage.sync()
    assert stage.opportunities()[lost]["name"] == "Changed"
    assert tim in sales_persons(stage)
    assert stage.world.opportunities.counts()[State.IN_STEP] == 7


def test_sales_persons_follow_the_protocol(monkeypatch: Any) -> None:
    """A worker overtaken between its read and its ledger write hands the user back, forced."""
    stage = Stage(changes=OWNED)
    org = Org(stage)
    tim = user(stage, "Tim")
    owned(stage, org, "Tim's", tim)
    stage.sync()
    org.update("systemuser", tim, lastname="Second")
    stage.tick()
    read = stage.world.source.rows

    def overtaken(table: str, *rest: Any) -> Any:
        found = read(table, *rest)
        if table == "systemuser":
            monkeypatch.undo()
            org.update("systemuser", tim, lastname="Third")
            other = encode(Work(users=(tim,)))
            stage.variant().deliver(other, dequeue_count=1, lease_ends=stage.clock.now() + LEASE, lane=Lane.FRESH)
        return found

    monkeypatch.setattr(stage.world.source, "rows", overtaken)
    outcome = stage.deliver()
    assert outcome is not None
    assert [(work.users, work.force) for work, _ in outcome.again] == [((tim,), True)]
    stage.sync()
    assert sales_persons(stage)[tim]["lastName"] == "Third"
