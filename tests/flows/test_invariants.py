"""design.md §2, one heading each: what must hold whatever happens. Each test fails when its invariant is broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import requests

from sync_core.errors import ConfigurationError, Unavailable, WrongPair
from sync_core.messages import decode, encode
from sync_core.model import Lane, LedgerRow, State, Work
from tests.flows.org import Org
from tests.flows.test_changes import state_of
from tests.stage import LEASE, Stage


class Crash(Exception):
    """The process dies here."""


def crash(*_: Any, **__: Any) -> Any:
    raise Crash


def messages(stage: Stage, lane: Lane = Lane.FRESH) -> list[Work]:
    return [decode(message.body) for message in stage.world.queue.queues[lane]]


# --- 1 ack before mark ------------------------------------------------------------------------------------


def test_a_link_is_stored_only_after_its_ids_are_queued(stage: Stage, org: Org, monkeypatch: Any) -> None:
    stage.sync()
    org.update("opportunity", org.deal, name="Renamed")
    before = stage.world.documents.read("feed", "opportunity")
    monkeypatch.setattr(stage.world.queue, "put", crash)

    with pytest.raises(Crash):
        stage.tick()
    monkeypatch.undo()

    assert stage.world.documents.read("feed", "opportunity") == before
    stage.sync()
    assert stage.opportunities()[org.deal]["name"] == "Renamed"


def test_a_long_first_read_keeps_the_next_link_only_after_the_page_is_queued(monkeypatch: Any) -> None:
    stage = Stage(page_size=2)
    org = Org(stage)
    deals = {org.deal, *(org.opportunity(f"Deal {number}") for number in range(6))}
    puts = iter([None, None, crash])
    put = stage.world.queue.put
    monkeypatch.setattr(stage.world.queue, "put", lambda work, **k: (next(puts, None) or put)(work, **k))

    with pytest.raises(Crash):
        stage.tick()
    monkeypatch.undo()
    feed = stage.world.documents.read("feed", "opportunity")

    assert feed is not None
    assert feed.value["phase"] == "reading"
    stage.sync()
    assert stage.opportunities().keys() == deals


def test_the_time_box_ends_a_tick_and_the_next_one_goes_on(monkeypatch: Any) -> None:
    stage = Stage(page_size=2)
    org = Org(stage)
    deals = {org.deal, *(org.opportunity(f"Deal {number}") for number in range(6))}
    changes = stage.world.source.changes

    def slowly(table: str, link: str | None) -> Any:
        stage.clock.sleep(50)
        return changes(table, link)

    monkeypatch.setattr(stage.world.source, "changes", slowly)

    ticks = [stage.tick()]
    while not ticks[-1].complete:
        ticks.append(stage.tick())

    assert len(ticks) > 1
    stage.drain()
    assert stage.opportunities().keys() == deals


def test_a_tick_that_ends_the_pages_of_another_sees_what_changed_since(monkeypatch: Any) -> None:
    """They end where the table stood when they were begun; who says `complete` has seen everything."""
    stage = Stage(page_size=2)
    org = Org(stage)
    for number in range(5):
        org.opportunity(f"Deal {number}")
    stage.sync()
    for row in list(stage.opportunities()):
        org.update("opportunity", row, name="Renamed")
    changes, pages = stage.world.source.changes, iter([True, True])
    monkeypatch.setattr(stage.world.source, "changes", lambda *page: changes(*page) if next(pages, None) else crash())
    with pytest.raises(Crash):
        stage.tick()
    monkeypatch.undo()
    new = org.opportunity("Meanwhile")

    assert stage.tick().complete
    assert new in {key for work in messages(stage) for key in work.opportunities}


def test_of_two_timers_the_one_that_loses_the_feed_drops_its_result(stage: Stage, org: Org, monkeypatch: Any) -> None:
    stage.sync()
    org.update("opportunity", org.deal, name="Renamed")
    changes, first = stage.world.source.changes, [True]

    def overtaken(table: str, link: str | None) -> Any:
        page = changes(table, link)
        if table == "opportunity" and first.pop() if first else False:
            stage.variant().detect()
        return page

    monkeypatch.setattr(stage.world.source, "changes", overtaken)
    stage.tick()
    kept = stage.world.documents.read("feed", "opportunity")
    stage.tick()

    assert kept is not None
    stage.drain()
    assert stage.opportunities()[org.deal]["name"] == "Renamed"


# --- 2 the ledger follows Marketo -------------------------------------------------------------------------


def test_no_ledger_row_claims_what_marketo_did_not_answer(stage: Stage, org: Org) -> None:
    stage.tick()
    stage.marketo_wire.fault = refuse_writes
    stage.deliver()

    assert stage.world.opportunities.rows([org.deal]) == {}
    stage.marketo_wire.fault = None
    stage.sync()
    assert org.deal in stage.opportunities()


def test_a_crash_between_marketos_answer_and_the_ledger_repeats_and_ends_right(
    stage: Stage, org: Org, monkeypatch: Any
) -> None:
    org.stakeholder(org.ann)
    stage.tick()
    monkeypatch.setattr(stage.world.opportunities, "write", crash)

    with pytest.raises(Crash):
        stage.deliver()
    monkeypatch.undo()
    assert stage.world.opportunities.rows([org.deal]) == {}
    stage.clock.sleep(LEASE.total_seconds())
    stage.sync()

    assert stage.roles() == {(org.deal, org.lead_ann, "Decision Maker")}
    assert state_of(stage, org.deal)[0] is State.IN_STEP


# --- 4 stale never stays ----------------------------------------------------------------------------------


def test_a_worker_overtaken_after_its_reads_leaves_no_stale_value(stage: Stage, org: Org, monkeypatch: Any) -> None:
    """protocol.md finding 1 and 2: the other worker finds nothing to do, and still leaves its mark."""
    stage.sync()
    org.update("opportunity", org.deal, name="New")
    stage.tick()
    rows, once = stage.world.source.rows, [True]

    def overtaken(table: str, *rest: Any) -> Any:
        found = rows(table, *rest)
        if table == "opportunity" and once:
            once.clear()
            org.update("opportunity", org.deal, name="Deal")  # back to what Marketo holds
            deliver_directly(stage, Work((org.deal,)))
        return found

    monkeypatch.setattr(stage.world.source, "rows", overtaken)
    stage.drain()
    again = messages(stage)

    assert [work.force for work in again if org.deal in work.opportunities] == [True]
    stage.sync()
    assert stage.opportunities()[org.deal]["name"] == "Deal"


def test_the_ledger_is_read_before_the_rows(stage: Stage, org: Org, monkeypatch: Any) -> None:
    seen: list[str] = []
    spy(monkeypatch, stage.world.opportunities, "rows", seen, "ledger")
    spy(monkeypatch, stage.world.source, "rows", seen, "rows")
    stage.tick()
    seen.clear()

    stage.deliver()

    assert seen[:2] == ["ledger", "rows"]


def test_every_delivery_ends_with_a_write_of_the_row_even_with_nothing_to_post(stage: Stage, org: Org) -> None:
    stage.sync()
    before = stage.world.opportunities.rows([org.deal])[org.deal]

    deliver_directly(stage, Work((org.deal,)))

    after = stage.world.opportunities.rows([org.deal])[org.deal]
    assert after.ticket != before.ticket
    assert replace(after, ticket=before.ticket) == before


def test_a_delivery_received_twice_is_forced_and_reads_the_roles_back(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.marketo.edit(
        {
            "op": "create",
            "object": "roles",
            "key": {"externalOpportunityId": org.deal, "leadId": org.lead_bob, "role": "Champion"},
            "values": {},
        }
    )

    stage.engine.deliver(
        encode(Work((org.deal,))), dequeue_count=2, lease_ends=stage.clock.now() + LEASE, lane=Lane.FRESH
    )

    assert stage.roles() == set()


def test_a_tombstone_seen_before_its_connection_was_recorded_is_not_lost(
    stage: Stage, org: Org, monkeypatch: Any
) -> None:
    """The worker has read the connection, detect sees its end, only then the worker records and posts it."""
    stage.sync()
    connection = org.stakeholder(org.ann)
    stage.tick()
    write, first = stage.world.connections.write, [True]

    def overtaken(pairs: Sequence[tuple[str, str]]) -> None:
        if first:
            first.clear()
            stage.edit("disconnect", id=connection)
            stage.variant().detect()
        write(pairs)

    monkeypatch.setattr(stage.world.connections, "write", overtaken)
    stage.deliver()
    stage.world.queue.queues[Lane.FRESH].clear()  # whatever else would look at the opportunity again
    assert stage.roles() != set()

    stage.sync()

    assert stage.roles() == set()


def test_a_write_without_an_answer_is_put_back_forced_and_late_even_if_repeating_it_worked(
    stage: Stage, org: Org
) -> None:
    """protocol.md finding 6: the lost first attempt may still be applied, up to L later."""
    stage.tick()
    stage.marketo_wire.after = once(lose_answer)

    outcome = stage.deliver()

    assert outcome is not None
    assert state_of(stage, org.deal)[0] is State.IN_STEP
    ((again, delay),) = outcome.again
    assert again.force
    assert delay >= stage.world.late_write


@pytest.mark.parametrize("port", ["connections", "opportunities", "companies"])
def test_storage_that_fails_after_a_post_puts_the_ids_back_forced(
    stage: Stage, org: Org, monkeypatch: Any, port: str
) -> None:
    org.stakeholder(org.ann)
    stage.tick()

    def fail(*_: Any) -> Any:
        raise Unavailable("storage does not answer")

    monkeypatch.setattr(getattr(stage.world, port), "write", fail)

    outcome = stage.deliver()

    assert outcome is not None
    posted = org.acme if port == "companies" else org.deal
    assert {again.force for again, _ in outcome.again if posted in (*again.opportunities, *again.accounts)} == {True}
    assert any(again.accounts for again, _ in outcome.again) is (port == "companies")  # else it is on record already
    monkeypatch.undo()
    stage.sync()
    assert stage.roles() == {(org.deal, org.lead_ann, "Decision Maker")}


def test_dynamics_that_fails_before_any_post_puts_the_ids_back_as_they_were(
    stage: Stage, org: Org, monkeypatch: Any
) -> None:
    def fail(*_: Any) -> Any:
        raise Unavailable("Dynamics does not answer", delay=77)

    monkeypatch.setattr(stage.world.source, "rows", fail)

    stage.engine.deliver(
        encode(Work((org.deal,), (org.acme,))), dequeue_count=1, lease_ends=stage.clock.now() + LEASE, lane=Lane.FRESH
    )

    ((again,),) = [messages(stage)]
    assert (again.opportunities, again.accounts, again.force) == ((org.deal,), (org.acme,), False)


def test_force_survives_being_put_back(stage: Stage, org: Org) -> None:
    """protocol.md finding 5: a new message starts again with a dequeue count of one."""
    stage.marketo_wire.fault = refuse_writes

    stage.engine.deliver(
        encode(Work((org.deal,))), dequeue_count=2, lease_ends=stage.clock.now() + LEASE, lane=Lane.FRESH
    )

    assert {work.force for work in messages(stage)} == {True}


def test_no_marketo_write_starts_late_in_the_lease(stage: Stage, org: Org) -> None:
    before = stage.writes()

    late = stage.clock.now() + timedelta(seconds=stage.world.late_write)
    stage.engine.deliver(encode(Work((org.deal,))), dequeue_count=1, lease_ends=late, lane=Lane.FRESH)

    assert stage.writes() == before
    assert {work.force for work in messages(stage)} == {False}


def test_companies_follow_the_same_rules(stage: Stage, org: Org, monkeypatch: Any) -> None:
    stage.sync()
    org.update("account", org.acme, name="New")
    stage.tick()
    rows, once_ = stage.world.source.rows, [True]

    def overtaken(table: str, *rest: Any) -> Any:
        found = rows(table, *rest)
        if table == "account" and once_:
            once_.clear()
            org.update("account", org.acme, name="Acme")
            deliver_directly(stage, Work(accounts=(org.acme,)))
        return found

    monkeypatch.setattr(stage.world.source, "rows", overtaken)
    stage.sync()

    assert [row["company"] for row in stage.marketo.rows("companies")] == ["Acme"]


# --- 5 one bad record harms only itself -------------------------------------------------------------------


def test_one_refused_record_parks_and_the_others_go_on(stage: Stage, org: Org) -> None:
    bad = org.opportunity("Bad", description="x")
    stage.marketo_wire.fault = lambda request: poison_record(request, bad)

    stage.sync()

    assert org.deal in stage.opportunities()
    assert state_of(stage, bad) == (State.PARKED, "1003: a value is invalid (probability)")


# --- 6 systemic trouble is nobody's fault -----------------------------------------------------------------


def test_throttling_puts_the_message_back_and_blames_nobody(stage: Stage, org: Org) -> None:
    stage.tick()
    stage.marketo.switches.set({"background_calls": 100})

    outcome = stage.deliver()

    assert outcome is not None
    assert outcome.trouble is not None
    assert stage.world.opportunities.rows([org.deal]) == {}
    assert {work.force for work in messages(stage)} == {False}
    stage.marketo.switches.set({"background_calls": 0})
    stage.sync()
    assert state_of(stage, org.deal)[0] is State.IN_STEP


def test_a_used_up_quota_waits_for_the_reset(stage: Stage, org: Org) -> None:
    stage.marketo.switches.set({"background_daily": 50_000})
    stage.tick()

    outcome = stage.deliver()

    assert outcome is not None
    ((_, delay),) = outcome.again
    reset = stage.clock.now() + timedelta(seconds=delay)
    assert (reset.hour, reset.minute) >= (6, 5)
    assert state_of_none(stage, org.deal)


def test_refused_credentials_stop_the_lane_and_it_resumes_by_itself(stage: Stage, org: Org) -> None:
    stage.tick()
    stage.marketo.switches.set({"permissions": {"33333333-3333-4333-8333-333333333333": []}})

    outcome = stage.deliver()

    assert outcome is not None
    assert isinstance(outcome.trouble, ConfigurationError)
    stage.marketo.switches.set({"permissions": {}})
    stage.clock.sleep(600)
    stage.sync()
    assert org.deal in stage.opportunities()


def test_a_natively_linked_marketo_stops_everything(stage: Stage, org: Org) -> None:
    stage.marketo.switches.set({"native_crm_sync": True})
    stage.tick()

    outcome = stage.deliver()

    assert outcome is not None
    assert "natively" in str(outcome.trouble)
    assert stage.opportunities() == {}


# --- 7 removal needs evidence -----------------------------------------------------------------------------


def test_a_row_that_a_read_lacks_is_not_deleted_without_evidence(stage: Stage, org: Org, monkeypatch: Any) -> None:
    stage.sync()
    monkeypatch.setattr(stage.world.source, "rows", lambda *_: {})

    deliver_directly(stage, Work((org.deal,)))

    assert org.deal in stage.opportunities()
    state, reason = state_of(stage, org.deal)
    assert (state, reason.partition(":")[0]) == (State.WAITING, "not visible")


def test_not_visible_is_parked_after_some_tries(stage: Stage, org: Org, monkeypatch: Any) -> None:
    stage.sync()
    monkeypatch.setattr(stage.world.source, "rows", lambda *_: {})

    for _ in range(5):
        stage.clock.sleep(13 * 3600)
        deliver_directly(stage, Work((org.deal,)))

    assert state_of(stage, org.deal)[0] is State.PARKED


def test_what_stays_invisible_is_settled_by_a_comparison_of_all_ids(stage: Stage, org: Org, monkeypatch: Any) -> None:
    """A dead worker posted it, then it was deleted while the delta link was dead: no tombstone will ever come."""
    stage.tick()
    monkeypatch.setattr(stage.world.opportunities, "write", crash)
    with pytest.raises(Crash):
        stage.deliver()
    monkeypatch.undo()
    stage.world.documents.delete("feed", "opportunity")
    org.delete("opportunity", org.deal)

    for _ in range(8):
        stage.clock.sleep(3600)
        stage.sync()

    assert stage.opportunities() == {}
    assert state_of(stage, org.deal)[0] is State.GONE


def test_companies_are_looked_at_again_after_the_account_link_died(stage: Stage, org: Org) -> None:
    stage.sync()
    org.update("account", org.acme, name="Renamed in the gap")
    stage.dataverse.expire_delta_links("account")

    stage.sync()

    assert [row["company"] for row in stage.marketo.rows("companies")] == ["Renamed in the gap"]


def test_a_tombstone_alone_removes_nothing_that_a_fresh_read_still_shows(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.world.tombstones.write({org.deal: {"at": "2026-03-02T08:00:00+00:00"}})

    deliver_directly(stage, Work((org.deal,)))

    assert org.deal in stage.opportunities()


def test_a_tombstone_from_before_the_row_was_seen_again_is_no_evidence(
    stage: Stage, org: Org, monkeypatch: Any
) -> None:
    """Deleted, restored before anybody looked, and later missed by one read by id."""
    stage.sync()
    row = stage.dataverse.row("opportunity", org.deal)
    org.delete("opportunity", org.deal)
    stage.tick()
    stage.clock.sleep(1)
    stage.load(opportunity=[row])
    stage.drain()
    monkeypatch.setattr(stage.world.source, "rows", lambda *_: {})

    deliver_directly(stage, Work((org.deal,)))

    assert org.deal in stage.opportunities()
    assert state_of(stage, org.deal)[0] is State.WAITING


def test_a_first_post_that_raced_with_the_deletion_is_undone(stage: Stage, org: Org, monkeypatch: Any) -> None:
    """protocol.md finding 3: the fence row makes the late worker's insert fail."""
    org.stakeholder(org.ann)
    stage.tick()
    write, once_ = stage.world.opportunities.write, [True]

    def overtaken(found: Sequence[LedgerRow]) -> set[str]:
        if once_:
            once_.clear()
            org.delete("opportunity", org.deal)
            stage.variant().detect()
            deliver_next(stage)
        return write(found)

    monkeypatch.setattr(stage.world.opportunities, "write", overtaken)
    stage.deliver()
    stage.sync()

    assert stage.opportunities() == {}
    assert stage.roles() == set()
    assert state_of(stage, org.deal)[0] is State.GONE


def test_two_hundred_deletions_are_held_until_approved() -> None:
    stage = Stage()
    org = Org(stage)
    deals = [org.opportunity(f"Deal {number}") for number in range(200)]
    for deal in deals[:20]:
        org.stakeholder(org.ann, opportunity=deal)
    stage.sync()
    for deal in deals:
        org.delete("opportunity", deal)

    stage.sync()

    assert len(stage.opportunities()) == 201
    assert stage.world.opportunities.counts()[State.HELD] == 200

    from sync_core.flows.status import approve_removals

    assert approve_removals(stage.world) == 200
    stage.sync()
    assert stage.opportunities().keys() == {org.deal}
    assert stage.roles() == set()


def test_deletions_of_one_tick_are_counted_together_however_they_are_paged(monkeypatch: Any) -> None:
    stage = Stage(changes={"max_count = 100": "max_count = 5"}, page_size=4)
    org = Org(stage)
    deals = [org.opportunity(f"Deal {number}") for number in range(8)]
    stage.sync()
    for deal in deals:
        org.delete("opportunity", deal)

    tick = stage.tick()

    assert tick.counts["held"] == 8
    stage.sync()
    assert len(stage.opportunities()) == 9


def test_removals_that_come_in_small_portions_are_held_once_they_are_too_many() -> None:
    stage = Stage(changes={"max_count = 100": "max_count = 3"})
    org = Org(stage)
    deals = [org.opportunity(f"Deal {number}") for number in range(6)]
    stage.sync()
    for deal in deals:
        org.delete("opportunity", deal)
        stage.sync()

    assert len(stage.opportunities()) == 1 + 3
    assert stage.world.opportunities.counts()[State.HELD] == 3


def test_the_guard_opens_again_after_a_day() -> None:
    stage = Stage(changes={"max_count = 100": "max_count = 1"})
    org = Org(stage)
    deals = [org.opportunity(f"Deal {number}") for number in range(2)]
    stage.sync()
    for deal in deals:
        org.delete("opportunity", deal)
        stage.sync()
        stage.clock.sleep(25 * 3600)

    assert stage.opportunities().keys() == {org.deal}


def test_replacements_pass_the_guard_uncounted() -> None:
    stage = Stage(changes={"max_count = 100": "max_count = 0"})
    org = Org(stage)
    org.stakeholder(org.bob, "Champion")
    stage.sync()
    org.update("connectionrole", stage.dataverse.role_named("Champion"), name="Sponsor")

    stage.sync()

    assert stage.roles() == {(org.deal, org.lead_bob, "Sponsor")}


def test_lost_roles_are_held_and_everything_else_goes_on() -> None:
    stage = Stage(changes={"max_count = 100": "max_count = 0"})
    org = Org(stage)
    connection = org.stakeholder(org.bob, "Champion")
    stage.sync()
    stage.edit("disconnect", id=connection)
    org.update("opportunity", org.deal, name="Renamed")

    stage.sync()

    assert stage.opportunities()[org.deal]["name"] == "Renamed"
    assert stage.roles() == {(org.deal, org.lead_bob, "Champion")}
    assert state_of(stage, org.deal)[0] is State.HELD


def test_roles_that_a_change_of_the_mapping_would_remove_are_held(stage: Stage, org: Org) -> None:
    org.stakeholder(org.bob, "Champion")
    stage.sync()
    from sync_core.mapping import parse
    from tests.stage import CONFIG

    changed = parse(CONFIG.replace("categories    = [1000]", "categories    = [1002]"))
    engine = stage.variant(config=changed)
    engine.detect()
    while letter := stage.world.queue.receive(Lane.SLOW, lease=LEASE):
        engine.deliver(letter.body, dequeue_count=1, lease_ends=letter.lease_ends, lane=Lane.SLOW)
        stage.world.queue.done(Lane.SLOW, letter)

    assert stage.roles() == {(org.deal, org.lead_bob, "Champion")}
    assert state_of(stage, org.deal)[0] is State.HELD


# --- 8 delta links die --------------------------------------------------------------------------------------


def test_a_deletion_in_the_gap_of_a_dead_link_is_found_by_comparison(stage: Stage, org: Org) -> None:
    gone = org.opportunity("Gone")
    stage.sync()
    org.delete("opportunity", gone)
    stage.dataverse.expire_delta_links()

    stage.sync()

    assert stage.opportunities().keys() == {org.deal}


def test_a_stakeholder_removed_in_the_gap_of_a_dead_connection_link_loses_the_role(stage: Stage, org: Org) -> None:
    connection = org.stakeholder(org.ann)
    stage.sync()
    stage.edit("disconnect", id=connection)
    stage.dataverse.expire_delta_links("connection")

    stage.sync()

    assert stage.roles() == set()


@pytest.mark.parametrize("position", ["start", "end"])
def test_changes_during_a_first_read_are_not_lost(position: str, monkeypatch: Any) -> None:
    stage = Stage(page_size=2)
    stage.dataverse.switches["token_position"] = position
    org = Org(stage)
    deals = [org.opportunity(f"Deal {number}") for number in range(5)]
    changes = stage.world.source.changes
    calls: list[str] = []

    def meanwhile(table: str, link: str | None) -> Any:
        calls.append(table)
        if calls.count("opportunity") == 3 and table == "opportunity":
            stage.drain()  # what the first pages named is in Marketo already
            org.update("opportunity", deals[0], name="Changed meanwhile")
        return changes(table, link)

    monkeypatch.setattr(stage.world.source, "changes", meanwhile)
    stage.sync()

    assert stage.opportunities()[deals[0]]["name"] == "Changed meanwhile"


def test_a_side_link_that_dies_during_a_long_first_load_starts_it_over() -> None:
    stage = Stage(page_size=2)
    org = Org(stage)
    deals = [org.opportunity(f"Deal {number}") for number in range(5)]
    connection = org.stakeholder(org.ann, opportunity=deals[0])
    stage.clock.sleep(7200)
    changes = stage.world.source.changes
    stage.world.source.changes = lambda table, link: (stage.clock.sleep(60), changes(table, link))[1]  # type: ignore
    assert not stage.tick().complete
    stage.drain()
    stage.edit("disconnect", id=connection)
    stage.dataverse.expire_delta_links("connection")

    stage.sync()

    assert stage.roles() == set()


# --- 9 nothing is forgotten -------------------------------------------------------------------------------


def test_the_states_add_up_to_the_rows(stage: Stage, org: Org) -> None:
    org.stakeholder(org.contact("dan@acme.invalid"))
    org.opportunity("Second")
    stage.sync()

    counts = stage.world.opportunities.counts()

    assert sum(counts[state] for state in State) == 2
    assert (counts[State.WAITING], counts[State.IN_STEP]) == (1, 1)


def test_poison_is_halved_until_a_single_id_is_parked(stage: Stage, org: Org) -> None:
    deals = [org.deal, *(org.opportunity(f"Deal {number}") for number in range(3))]
    stage.world.queue.poison(Lane.FRESH, encode(Work(tuple(deals))))

    sizes = []
    for _ in range(2):
        stage.tick()
        sizes.append(sorted(work.size for work in messages(stage) if work.why == "poison"))
        for message in stage.world.queue.queues[Lane.FRESH]:
            if decode(message.body).why == "poison":
                stage.world.queue.poison(Lane.FRESH, message.body)
        stage.world.queue.queues[Lane.FRESH].clear()
    stage.tick()

    assert sizes == [[2, 2], [1, 1, 1, 1]]
    assert stage.world.opportunities.counts()[State.PARKED] == 4


def test_a_waiting_row_is_queued_by_the_tick_when_it_is_due(stage: Stage, org: Org) -> None:
    org.stakeholder(org.contact("dan@acme.invalid"))
    stage.sync()

    assert stage.tick().counts["due"] == 0
    stage.clock.sleep(61)
    assert stage.tick().counts["due"] == 1


# --- 10 secrets and people stay out -----------------------------------------------------------------------


def test_a_link_to_another_host_is_refused(stage: Stage, org: Org) -> None:
    stage.sync()
    feed = stage.world.documents.read("feed", "contact")
    assert feed is not None
    stolen = {**feed.value, "link": "https://elsewhere.invalid/api/data/v9.2/contacts?$deltatoken=1"}
    stage.world.documents.write("feed", "contact", stolen, feed.ticket)

    with pytest.raises(ConfigurationError, match="another address"):
        stage.tick()


def test_stored_state_and_messages_hold_no_name_and_no_address(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    org.stakeholder(org.contact("dan@acme.invalid"))
    stage.sync()
    world = stage.world

    stored = repr([vars(ledger) for ledger in (world.opportunities, world.companies)])
    stored += repr([vars(port) for port in (world.people, world.connections, world.tombstones, world.documents)])
    stored += repr(vars(world.queue))

    assert not [word for word in ("@", "Acme", "Deal", "Person", "emulator-secret") if word in stored]


# --- 11 never the wrong pair ------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["organization", "munchkin", "witnesses"])
def test_another_pair_stops_both_functions_before_any_write(stage: Stage, org: Org, part: str) -> None:
    stage.sync()
    org.update("opportunity", org.deal, name="Renamed")
    stage.tick()
    stamp = stage.world.documents.read("stamp", "pair")
    assert stamp is not None
    restored = {org.deal: 10**9}
    other = {"organization": "x", "munchkin": "999-XYZ-999", "witnesses": restored}[part]
    stage.world.documents.write("stamp", "pair", {**stamp.value, part: other}, stamp.ticket)
    before = stage.writes()
    engine = stage.variant()

    with pytest.raises(WrongPair):
        engine.detect()
    outcome = engine.deliver(
        encode(Work((org.deal,))), dequeue_count=1, lease_ends=stage.clock.now() + LEASE, lane=Lane.FRESH
    )

    assert outcome is not None
    assert isinstance(outcome.trouble, WrongPair)
    assert stage.writes() == before


def test_repoint_accepts_the_pair_and_trusts_no_memory(stage: Stage, org: Org) -> None:
    from sync_core.flows.status import repoint

    org.stakeholder(org.ann)
    stage.sync()
    for kind in ("opportunities", "companies"):
        for row in stage.marketo.rows(kind):
            key = "externalOpportunityId" if kind == "opportunities" else "externalCompanyId"
            stage.marketo.edit({"op": "delete", "object": kind, "key": {key: row[key]}})

    repoint(stage.world)
    stage.sync()

    assert org.deal in stage.opportunities()
    assert len(stage.marketo.rows("companies")) == 1


# --- bad messages -----------------------------------------------------------------------------------------


def test_a_message_that_is_not_ours_is_kept_with_the_reason(stage: Stage) -> None:
    outcome = stage.engine.deliver(
        '{"hello": 1}', dequeue_count=1, lease_ends=stage.clock.now() + LEASE, lane=Lane.FRESH
    )

    assert outcome is None
    (kept,) = stage.world.queue.queues["unreadable"]
    assert "field v" in kept.body


# --- helpers ----------------------------------------------------------------------------------------------


def deliver_directly(stage: Stage, work: Work) -> None:
    """Another worker handles a message for the same ids, now."""
    stage.variant().deliver(encode(work), dequeue_count=1, lease_ends=stage.clock.now() + LEASE, lane=Lane.FRESH)


def deliver_next(stage: Stage) -> None:
    letter = stage.world.queue.receive(Lane.FRESH, lease=LEASE)
    assert letter is not None
    stage.variant().deliver(
        letter.body, dequeue_count=letter.dequeue_count, lease_ends=letter.lease_ends, lane=Lane.FRESH
    )
    stage.world.queue.done(Lane.FRESH, letter)


def state_of_none(stage: Stage, key: str) -> bool:
    return stage.world.opportunities.rows([key]) == {}


def is_write(request: requests.PreparedRequest) -> bool:
    return request.method == "POST" and "_method=GET" not in str(request.url) and "/rest/" in str(request.url)


def refuse_writes(request: requests.PreparedRequest) -> None:
    if is_write(request):
        raise requests.ConnectionError("connection reset")


def lose_answer(request: requests.PreparedRequest) -> bool:
    """After the write was applied."""
    if is_write(request) and str(request.url).endswith("opportunities.json"):
        raise requests.ReadTimeout
    return False


def poison_record(request: requests.PreparedRequest, key: str) -> None:
    """Make one record's probability impossible on the wire."""
    if is_write(request) and isinstance(request.body, bytes) and key.encode() in request.body:
        import json

        body: Mapping[str, Any] = json.loads(request.body)
        for record in body["input"]:
            if record.get("externalOpportunityId") == key:
                record["probability"] = "many"
        request.body = json.dumps(body).encode()
        request.headers["Content-Length"] = str(len(request.body))


def once(action: Any) -> Any:
    done: list[bool] = []

    def run(request: requests.PreparedRequest) -> None:
        if not done:
            try:
                action(request)
            except requests.RequestException:
                done.append(True)
                raise

    return run


def spy(monkeypatch: Any, port: Any, name: str, seen: list[str], mark: str) -> None:
    original = getattr(port, name)

    def recorded(*arguments: Any, **named: Any) -> Any:
        seen.append(mark)
        return original(*arguments, **named)

    monkeypatch.setattr(port, name, recorded)
