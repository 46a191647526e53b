"""Tables without change tracking: followed by `modifiedon`, read again once a day, nobody has to do anything."""

from __future__ import annotations

import pytest

from sync_core.flows.status import status
from tests.flows.org import Org, lookup
from tests.stage import Stage

TABLES = ("connection", "contact", "account", "opportunity")
DAY = 25 * 3600


@pytest.fixture(params=["error", "silent"])
def mode(request: pytest.FixtureRequest) -> str:
    """How Dataverse says that a table is not tracked (dataverse.md §12)."""
    return str(request.param)


def untracked(mode: str, *tables: str) -> tuple[Stage, Org]:
    stage = Stage(page_size=2)
    stage.dataverse.switches["untracked_table"] = mode
    for table in tables:
        stage.dataverse.tables[table].tracked = False
    return stage, Org(stage)


@pytest.mark.parametrize("table", TABLES)
def test_changes_are_followed_by_modifiedon(mode: str, table: str) -> None:
    stage, org = untracked(mode, table)
    stage.sync()
    stage.clock.sleep(3600)
    org.update("opportunity", org.deal, name="Renamed")
    org.update("account", org.acme, name="Acme renamed")
    org.stakeholder(org.ann)
    ours = org.opportunity("Cid's", contact=org.cid)
    stage.sync()
    stage.clock.sleep(3600)
    org.update("contact", org.cid, **lookup("parentcustomerid", org.acme, "account"))
    stage.sync()
    assert stage.opportunities()[org.deal]["name"] == "Renamed"
    assert stage.opportunities()[ours]["externalCompanyId"] == org.acme
    assert {row["company"] for row in stage.marketo.rows("companies")} == {"Acme renamed", "Bolt"}
    assert stage.roles(org.deal) == {(org.deal, org.lead_ann, "Decision Maker")}


def test_deletions_are_found_within_a_day(mode: str) -> None:
    stage, org = untracked(mode, "opportunity", "connection")
    doomed = org.opportunity("Doomed", account=org.bolt)
    connection = org.stakeholder(org.ann)
    stage.sync()
    stage.edit("disconnect", id=connection)
    org.delete("opportunity", doomed)
    stage.clock.sleep(DAY)
    stage.sync()
    assert stage.opportunities().keys() == {org.deal}
    assert stage.roles() == set()


def test_a_daily_full_read_writes_nothing_where_nothing_differs(mode: str) -> None:
    stage, org = untracked(mode, *TABLES)
    org.stakeholder(org.ann)
    stage.sync()
    before = stage.writes()
    stage.clock.sleep(DAY)
    stage.sync()
    assert stage.writes() == before


def test_links_are_used_again_once_tracking_is_switched_on(mode: str) -> None:
    stage, org = untracked(mode, "connection")
    stage.sync()
    assert "change tracking is off" in status(stage.world)["feeds"]["connection"]["mode"]
    stage.dataverse.tables["connection"].tracked = True
    stage.clock.sleep(DAY)
    stage.sync()
    assert status(stage.world)["feeds"]["connection"]["mode"] == "following"
    org.stakeholder(org.ann)
    stage.sync()
    assert stage.roles() == {(org.deal, org.lead_ann, "Decision Maker")}
