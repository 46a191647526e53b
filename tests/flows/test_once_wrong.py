"""Cases that once went wrong."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from sync_core.errors import SplitBatch, Unavailable, WrongPair
from sync_core.messages import encode
from sync_core.model import Answer, Answers, Lane, State, Work
from tests.flows.org import Org, lookup
from tests.flows.test_changes import state_of
from tests.stage import LEASE, Stage

ROLE_NAMES = ("Champion", "Influencer", "Decision Maker")


def force(stage: Stage, *ids: str) -> Any:
    return stage.engine.deliver(
        encode(Work(ids)), dequeue_count=2, lease_ends=stage.clock.now() + LEASE, lane=Lane.FRESH
    )


def test_an_account_that_changes_before_its_company_is_recorded_is_looked_at_again(stage: Stage, org: Org) -> None:
    stage.tick()

    def after(request):
        if request.url.split("?")[0].endswith("/companies.json") and request.method == "POST":
            stage.marketo_wire.after = None
            org.update("account", org.acme, name="Acme renamed")
            stage.variant().detect()

    stage.marketo_wire.after = after
    stage.sync()
    stage.sync()
    assert [r["company"] for r in stage.marketo.rows("companies")] == ["Acme renamed"]


@pytest.mark.parametrize("error", [SplitBatch("611", "System error"), SplitBatch("604", "time out")])
def test_trouble_of_a_people_look_up_takes_no_role_away(stage: Stage, org: Org, monkeypatch: Any, error) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    assert stage.roles()
    stage.clock.sleep(25 * 3600)
    org.update("opportunity", org.deal, name="X")

    def bad(*a):
        monkeypatch.undo()
        raise error

    monkeypatch.setattr(stage.world.target, "leads", bad)
    stage.sync()
    assert stage.roles() == {(org.deal, org.lead_ann, "Decision Maker")}


def test_trouble_of_a_describe_call_puts_the_message_back(stage: Stage, org: Org, monkeypatch: Any) -> None:
    stage.tick()

    def bad(*a):
        raise SplitBatch("611", "System error")

    monkeypatch.setattr(stage.world.target, "describe", bad)
    outcome = stage.deliver()
    assert outcome is not None
    assert outcome.again


def test_a_connection_that_no_longer_names_an_opportunity_leaves_no_role_behind(stage: Stage, org: Org) -> None:
    connection = org.stakeholder(org.ann)
    stage.sync()
    assert stage.roles()
    mirror = stage.dataverse.row("connection", connection)["_relatedconnectionid_value"]
    org.update("connection", connection, **lookup("record1id", org.bolt, "account"))
    org.update("connection", mirror, **lookup("record2id", org.bolt, "account"))
    stage.sync()
    assert stage.roles() == set()


def test_removals_tried_again_are_counted_once(monkeypatch) -> None:
    stage = Stage(changes={"max_count = 100": "max_count = 5"})
    org = Org(stage)
    deals = [org.opportunity(f"Deal {n}") for n in range(4)]
    stage.sync()
    for deal in deals:
        org.delete("opportunity", deal)

    def down(*a, **k):
        monkeypatch.undo()
        raise Unavailable("down", delay=60)

    monkeypatch.setattr(stage.world.target, "delete", down)
    stage.sync()
    assert stage.world.opportunities.counts()[State.HELD] == 0
    assert stage.opportunities().keys() == {org.deal}


def test_a_removal_whose_answer_was_lost_is_counted_once() -> None:
    stage = Stage(changes={"max_count = 100": "max_count = 5"})
    org = Org(stage)
    deals = [org.opportunity(f"Deal {n}") for n in range(4)]
    stage.sync()
    for deal in deals:
        org.delete("opportunity", deal)
    stage.tick()

    def after(request):
        if "opportunities/delete" in request.url:
            stage.marketo_wire.after = None
            raise requests.exceptions.ReadTimeout

    stage.marketo_wire.after = after
    stage.sync()
    assert stage.opportunities().keys() == {org.deal}
    assert stage.world.opportunities.counts()[State.HELD] == 0, stage.world.opportunities.counts()


def test_role_removals_tried_again_are_counted_once(monkeypatch) -> None:
    stage = Stage(changes={"max_count = 100": "max_count = 5"})
    org = Org(stage)
    deals = [org.opportunity(f"Deal {n}") for n in range(4)]
    cs = [org.stakeholder(org.ann, opportunity=d) for d in deals]
    stage.sync()
    for c in cs:
        stage.edit("disconnect", id=c)

    def down(*a, **k):
        monkeypatch.undo()
        raise Unavailable("down", delay=60)

    monkeypatch.setattr(stage.world.target, "delete", down)
    stage.sync()
    assert stage.world.opportunities.counts()[State.HELD] == 0
    assert stage.roles() == set()


def test_a_company_whose_update_was_refused_stays_named() -> None:
    stage = Stage(changes={'company  = "name"': 'company = { column = "name", too_long = "reject" }'})
    org = Org(stage)
    stage.sync()
    org.update("account", org.acme, name="A" * 160)
    org.update("account", org.acme, websiteurl=None)
    # Marketo refuses the update
    up = stage.world.target.upsert

    def refuse(kind, records, *, until):
        if kind == "companies":
            return Answers([Answer("skipped", "1003", "Invalid value for field 'company'") for _ in records])
        return up(kind, records, until=until)

    object.__setattr__(stage.world.target, "upsert", refuse)
    stage.sync()
    assert stage.opportunities()[org.deal]["externalCompanyId"] == org.acme
    force(stage, org.deal)
    assert stage.opportunities()[org.deal]["externalCompanyId"] == org.acme


def test_an_opportunity_in_upper_case_is_adopted_too(stage: Stage, org: Org) -> None:
    up = org.deal.upper()
    stage.marketo.load(
        {
            "opportunities": [{"externalOpportunityId": up, "name": "Old"}],
            "roles": [{"externalOpportunityId": up, "leadId": org.lead_bob, "role": "Champion"}],
        }
    )
    org.stakeholder(org.ann)
    stage.sync()
    assert stage.roles() in ({(org.deal, org.lead_ann, "Decision Maker")}, {(up, org.lead_ann, "Decision Maker")}), (
        stage.roles()
    )


def test_status_tells_that_detect_is_stopped(stage: Stage, org: Org) -> None:
    from sync_core.flows.status import problems, status

    stage.sync()
    stamp = stage.world.documents.read("stamp", "pair")
    stage.world.documents.write("stamp", "pair", {**stamp.value, "organization": "x"}, stamp.ticket)
    with pytest.raises(WrongPair):
        stage.variant().detect()
    assert problems(status(stage.world))


def test_a_read_back_that_is_too_big_is_halved(stage: Stage, org: Org, monkeypatch) -> None:
    d2 = org.opportunity("Two", account=org.acme)
    org.stakeholder(org.ann)
    stage.sync()
    roles = stage.world.target.roles

    def bad(keys):
        if len(keys) > 1:
            raise SplitBatch("604", "time-out")
        return roles(keys)

    monkeypatch.setattr(stage.world.target, "roles", bad)
    out = force(stage, org.deal, d2)
    assert out.trouble is None, out


def test_an_approval_survives_a_full_read_before_its_delivery() -> None:
    from sync_core.flows.status import approve_removals

    stage = Stage(changes={"max_count = 100": "max_count = 3"})
    org = Org(stage)
    deals = [org.opportunity(f"Deal {n}") for n in range(6)]
    stage.sync()
    for d in deals:
        org.delete("opportunity", d)
    stage.sync()
    assert approve_removals(stage.world) == 6
    stage.dataverse.expire_delta_links()
    stage.tick()
    stage.sync()
    assert stage.opportunities().keys() == {org.deal}


def test_a_held_opportunity_costs_no_write_when_read_again() -> None:
    stage = Stage(changes={"max_count = 100": "max_count = 3"})
    org = Org(stage)
    cs = [
        org.stakeholder(c, r) for c in (org.ann, org.bob, org.cid) for r in ("Champion", "Influencer", "Decision Maker")
    ]
    stage.sync()
    for c in cs[:4]:
        stage.edit("disconnect", id=c)
    stage.sync()
    before = stage.writes()
    stage.dataverse.expire_delta_links()
    stage.sync()
    assert stage.writes() == before


def test_a_forced_look_after_a_merge_in_marketo_takes_no_role_away(stage: Stage, org: Org) -> None:
    stage.marketo.switches.set({"role_merged_lead": "winner"})
    org.stakeholder(org.ann)
    stage.sync()
    stage.marketo.merge(org.lead_bob, [org.lead_ann])
    stage.marketo.edit(
        {"op": "update", "object": "leads", "key": {"id": org.lead_bob}, "values": {"email": "ann@acme.invalid"}}
    )

    force(stage, org.deal)

    assert stage.roles() == {(org.deal, org.lead_bob, "Decision Maker")}


def test_a_forced_look_gives_nobody_a_role(stage: Stage, org: Org) -> None:
    stage.marketo.switches.set({"role_unknown_lead": "accepted"})
    org.stakeholder(org.ann)
    stage.sync()
    stage.marketo.edit({"op": "delete-lead", "id": org.lead_ann})

    force(stage, org.deal)

    assert stage.roles() == set()
    assert state_of(stage, org.deal)[1] == "people: 1 not in Marketo"


def test_an_approved_removal_of_a_role_that_marketo_removed_itself_comes_to_an_end() -> None:
    from sync_core.flows.status import approve_removals

    stage = Stage(changes={"max_count = 100": "max_count = 1"})
    org = Org(stage)
    connections = [org.stakeholder(org.ann, role) for role in ROLE_NAMES]
    stage.sync()
    for connection in connections:
        stage.edit("disconnect", id=connection)
    stage.marketo.edit({"op": "delete-lead", "id": org.lead_ann})
    stage.sync()
    assert stage.world.opportunities.counts()[State.HELD] == 1

    assert approve_removals(stage.world) == 1
    for _ in range(3):
        stage.sync()
        stage.clock.sleep(120)

    assert stage.world.opportunities.counts()[State.IN_STEP] == 1


def test_a_change_of_the_master_reaches_what_still_names_a_merged_contact(stage: Stage, org: Org) -> None:
    stage.edit("merge", table="contact", id=org.ann, into=org.bob)
    stage.sync()
    org.update("opportunity", org.deal, **lookup("parentaccountid", None, "account"))
    org.update("opportunity", org.deal, **lookup("parentcontactid", org.ann, "contact"))
    stage.sync()
    stage.edit("merge", table="contact", id=org.bob, into=org.cid)
    stage.sync()

    assert stage.roles() == {(org.deal, org.lead_cid, "Primary Contact")}
    assert stage.opportunities()[org.deal]["externalCompanyId"] == org.bolt


def test_a_role_whose_ledger_write_failed_goes_though_its_connection_role_was_renamed(
    stage: Stage, org: Org, monkeypatch: Any
) -> None:
    org.stakeholder(org.ann, "Champion")
    stage.tick()

    def down(rows: Any) -> Any:
        monkeypatch.undo()
        raise Unavailable("no answer", delay=60)

    monkeypatch.setattr(stage.world.opportunities, "write", down)
    stage.deliver()
    (role,) = [row for row in stage.dataverse.rows("connectionrole") if row["name"] == "Champion"]
    org.update("connectionrole", str(role["connectionroleid"]), name="Advocate")
    stage.sync()

    assert stage.roles() == {(org.deal, org.lead_ann, "Advocate")}


def test_a_company_that_changed_while_its_first_worker_died_is_looked_at_again(stage: Stage, org: Org) -> None:
    stage.tick()
    write = stage.world.companies.write

    def renamed_then_dead(rows: Any) -> Any:
        stage.world.companies.write = write  # type: ignore[method-assign]
        org.update("account", org.acme, name="Acme renamed")
        stage.variant().detect()
        write(rows)
        raise ZeroDivisionError  # the process dies

    stage.world.companies.write = renamed_then_dead  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        stage.deliver()
    stage.clock.sleep(600)
    stage.sync()

    assert [row["company"] for row in stage.marketo.rows("companies")] == ["Acme renamed"]


def test_approved_removals_are_queued_together() -> None:
    """A message for each page of the ledger would cost calls of its own."""
    from sync_core.flows.status import approve_removals, removals

    stage = Stage(changes={"max_count = 100": "max_count = 3"})
    org = Org(stage)
    deals = [org.opportunity(f"Deal {number}") for number in range(20)]
    stage.sync()
    for deal in deals:
        org.delete("opportunity", deal)
    stage.sync()

    assert {each["id"] for each in removals(stage.world)} == set(deals)
    assert approve_removals(stage.world) == 20
    assert stage.world.queue.lengths()["fresh"] == 1
