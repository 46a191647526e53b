"""The storage account is lost, the settings lead elsewhere, Dynamics was restored: as docs/operations.md has it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest

from sync_core import cli
from sync_core.engine import PAIR_CHECK_S, Engine
from sync_core.errors import WrongPair
from sync_core.flows import actions
from sync_core.flows.status import approve_removals, pause, repoint
from sync_core.model import State
from tests.builders import an_id
from tests.fakes import FakeConnections, FakeDocuments, FakeHistory, FakeLedger, FakeLookup, FakeQueue
from tests.flows.org import Org, wrong
from tests.stage import Stage

RESTORED = ("version", "stores", "tables", "_by_set")
"""What of an organization a backup brings back."""


def lose(stage: Stage) -> None:
    """An empty storage account, and processes that start anew."""
    stage.world = replace(
        stage.world,
        opportunities=FakeLedger(),
        companies=FakeLedger(),
        sales_persons=FakeLedger(),
        connections=FakeConnections(),
        people=FakeLookup(),
        tombstones=FakeLookup(),
        documents=FakeDocuments(),
        queue=FakeQueue(stage.clock),
        history=FakeHistory(),
    )
    stage.engine = Engine(stage.world)


def becomes_another_organization(stage: Stage) -> None:
    state, new = stage.dataverse, an_id()
    rows = state.stores["organization"].rows
    rows[new] = {**rows[state.organization_id], "organizationid": new}
    state.organization_id = new


# --- a lost storage account ---------------------------------------------------------------------------------------


def test_a_new_account_adopts_what_marketo_holds_and_posts_what_changed_meanwhile(stage: Stage, org: Org) -> None:
    ended = org.stakeholder(org.ann)
    org.stakeholder(org.bob, "Influencer")
    stage.sync()
    org.update("opportunity", org.deal, name="Renamed")
    stage.edit("disconnect", id=ended)
    other = org.opportunity("Meanwhile", account=org.bolt)
    org.stakeholder(org.cid, "Champion", other)

    lose(stage)
    stage.sync()

    assert wrong(stage) == []
    assert stage.world.opportunities.counts()[State.IN_STEP] == 2


def test_what_was_deleted_meanwhile_stays_and_nothing_of_ours_knows_it(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    kept = org.opportunity("Kept", account=org.acme)
    stage.sync()
    org.delete("opportunity", org.deal)

    lose(stage)
    stage.sync()

    left = wrong(stage)
    assert f"opportunity {org.deal} should not be in Marketo" in left
    assert all(org.deal in line for line in left), "nothing else differs"
    assert org.deal not in stage.world.opportunities.rows([org.deal, kept])


def test_what_was_deleted_meanwhile_goes_by_its_id_once_all_ids_were_compared(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    org.stakeholder(org.ann)
    kept = org.opportunity("Kept", account=org.acme)
    stage.sync()
    org.delete("opportunity", org.deal)
    lose(stage)
    stage.sync()
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)

    assert cli.main(["resync", org.deal]) == cli.USAGE
    assert cli.main(["resync", org.deal, kept, "--gone"]) == cli.USAGE
    assert f"Dynamics shows {kept}: leave out --gone" in " ".join(capsys.readouterr().err.split())
    assert cli.main(["resync", org.deal, "--gone"]) == cli.GOOD
    stage.drain()
    assert org.deal in stage.opportunities(), "no removal without evidence"
    stage.tick()
    stage.sync()

    assert wrong(stage) == []
    assert set(stage.opportunities()) == {kept}


def test_of_ids_said_to_be_gone_only_what_marketo_holds_counts_as_removed(stage: Stage, org: Org) -> None:
    """One that never was leaves a row, as a fence against what is posted late, and nothing of the guard's number."""
    stage.sync()
    org.delete("opportunity", org.deal)
    lose(stage)
    stage.sync()
    never = "00000000-0000-4000-8000-00000000dead"
    told = actions.resync(stage.world, [org.deal, never], who="test", gone=True).what
    stage.drain()
    stage.tick()
    stage.sync()

    assert told.startswith("queued as gone, to be taken from Marketo unless a comparison of all ids finds them: ")
    assert stage.opportunities() == {}
    assert {row.state for row in stage.world.opportunities.rows([org.deal, never]).values()} == {State.GONE}
    removed = stage.world.documents.read("counter", "removals")
    assert removed is not None
    assert removed.value["opportunities"] == 1


def test_a_role_whose_name_changed_meanwhile_stays_beside_the_new_one(stage: Stage, org: Org) -> None:
    """Its text is no name of a connection role any more: it may be somebody else's."""
    org.stakeholder(org.ann, "Champion")
    stage.sync()
    role = next(row for row in stage.dataverse.rows("connectionrole") if row["name"] == "Champion")
    org.update("connectionrole", role["connectionroleid"], name="Sponsor")

    lose(stage)
    stage.sync()

    assert {text for _, _, text in stage.roles(org.deal)} == {"Champion", "Sponsor"}


def test_many_roles_that_ended_meanwhile_are_held_as_ever() -> None:
    stage = Stage(changes={"max_count = 100": "max_count = 1", "max_share = 0.01": "max_share = 0.0"})
    org = Org(stage)
    ended = [org.stakeholder(each) for each in (org.ann, org.bob, org.cid)]
    stage.sync()
    for each in ended:
        stage.edit("disconnect", id=each)

    lose(stage)
    stage.sync()

    assert len(stage.roles(org.deal)) == 3
    assert stage.world.opportunities.counts()[State.HELD] == 1
    assert approve_removals(stage.world) == 1
    stage.sync()
    assert wrong(stage) == []


def test_a_pause_and_the_days_calls_are_forgotten_with_the_account(stage: Stage, org: Org) -> None:
    stage.sync()
    pause(stage.world, "maintenance")

    lose(stage)
    stage.sync()

    assert stage.world.opportunities.counts()[State.IN_STEP] == 1


# --- another org, a refreshed sandbox, another subscription, a restored backup ------------------------------------


def test_a_refreshed_sandbox_holds_the_same_ids_and_is_stopped_by_its_organization(stage: Stage, org: Org) -> None:
    """A copy keeps the ids of its rows; its OrganizationId is its own."""
    role = org.stakeholder(org.ann)
    gone = org.opportunity("In the sandbox only", account=org.acme)
    stage.sync()
    becomes_another_organization(stage)
    org.delete("opportunity", gone)
    stage.edit("disconnect", id=role)
    org.update("opportunity", org.deal, name="As in production")
    written, stage.engine = stage.writes(), Engine(stage.world)

    with pytest.raises(WrongPair, match="the state belongs to Dataverse organization"):
        stage.tick()
    assert stage.writes() == written

    repoint(stage.world)
    stage.sync()
    assert wrong(stage) == []


def test_another_organization_altogether_removes_nothing_without_approval() -> None:
    stage = Stage(changes={"max_count = 100": "max_count = 1", "max_share = 0.01": "max_share = 0.0"})
    org = Org(stage)
    for name in ("Second", "Third"):
        org.opportunity(name, account=org.acme)
    org.stakeholder(org.ann)
    stage.sync()
    held = set(stage.opportunities())
    for key in held:
        org.delete("opportunity", key)
    new = org.opportunity("Of the other organization", account=org.bolt)
    becomes_another_organization(stage)
    stage.engine = Engine(stage.world)

    repoint(stage.world)
    stage.sync()

    assert set(stage.opportunities()) == {*held, new}
    assert stage.world.opportunities.counts()[State.HELD] == len(held)
    approve_removals(stage.world)
    stage.sync()
    assert wrong(stage) == []


def test_another_subscription_gets_everything_and_believes_no_remembered_person(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    for kind, key in (("roles", "leadId"), ("opportunities", "externalOpportunityId")):
        for row in stage.marketo.rows(kind):
            names = ("externalOpportunityId", "leadId", "role") if kind == "roles" else (key,)
            stage.marketo.edit({"op": "delete", "object": kind, "key": {name: row[name] for name in names}})
    for row in stage.marketo.rows("companies"):
        key = {"externalCompanyId": row["externalCompanyId"]}
        stage.marketo.edit({"op": "delete", "object": "companies", "key": key})
    stage.world = replace(stage.world, subscription="999-XYZ-999")
    stage.engine = Engine(stage.world)

    with pytest.raises(WrongPair, match="the state belongs to Marketo subscription"):
        stage.tick()
    repoint(stage.world)
    stage.sync()

    assert wrong(stage) == []


def test_a_restored_backup_is_noticed_and_repoint_makes_marketo_as_the_backup_is(stage: Stage, org: Org) -> None:
    role = org.stakeholder(org.ann)
    deleted = org.opportunity("Deleted after the backup", account=org.acme)
    stage.sync()
    backup = deepcopy({name: vars(stage.dataverse)[name] for name in RESTORED})
    org.delete("opportunity", deleted)
    stage.edit("disconnect", id=role)
    org.opportunity("Made after the backup", account=org.bolt)
    org.update("opportunity", org.deal, name="Renamed after the backup")
    stage.clock.sleep(PAIR_CHECK_S + 1)
    stage.sync()
    assert wrong(stage) == []

    vars(stage.dataverse).update(backup)
    stage.engine = Engine(stage.world)
    with pytest.raises(WrongPair, match="was Dynamics restored from a backup"):
        stage.tick()
    repoint(stage.world)
    stage.sync()

    assert wrong(stage) == []
