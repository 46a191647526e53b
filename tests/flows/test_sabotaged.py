"""What `tools.sabotage` breaks and no other test noticed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from sync_core.adapters.tables import storage_answers
from sync_core.adapters.work_queue import StorageQueue
from sync_core.errors import ConfigurationError, SplitBatch, Throttled, Unavailable
from sync_core.flows.guard import reserve
from sync_core.flows.status import approve_removals
from sync_core.messages import encode
from sync_core.model import Answer, Answers, Lane, LedgerRow, MarketoObject, State, Work
from sync_core.rules.batches import batches
from tests.fakes import FakeClock
from tests.flows.org import Org
from tests.flows.test_changes import state_of
from tests.flows.test_invariants import Crash, crash, deliver_directly, messages
from tests.stage import LEASE, Stage

LOCKED = Answer("skipped", "1014", "locked")
REFUSED = Answer("skipped", "1003", "Invalid value for field 'name'")


def answers(
    monkeypatch: pytest.MonkeyPatch, stage: Stage, kind: MarketoObject, answer: Answer, *, call: str = "upsert"
) -> None:
    """Marketo gives *answer* for every record of *kind*, until `monkeypatch.undo()`."""
    real = getattr(stage.world.target, call)

    def told(asked: MarketoObject, records: Sequence[Any], *, until: Any) -> Any:
        return Answers([answer] * len(records)) if asked is kind else real(asked, records, until=until)

    monkeypatch.setattr(stage.world.target, call, told)


def row_of(stage: Stage, key: str) -> LedgerRow:
    return stage.world.opportunities.rows([key])[key]


def role_in_marketo(stage: Stage, org: Org, lead: int, role: str) -> None:
    """One that Marketo holds and the ledger does not know: its worker died."""
    key = {"externalOpportunityId": org.deal, "leadId": lead, "role": role}
    stage.marketo.edit({"op": "create", "object": "roles", "key": key, "values": {}})


def deliver_again(stage: Stage) -> None:
    """The next message of the fresh lane, as if it had been received before."""
    letter = stage.world.queue.receive(Lane.FRESH, lease=LEASE)
    assert letter is not None
    stage.engine.deliver(letter.body, dequeue_count=2, lease_ends=letter.lease_ends, lane=Lane.FRESH)
    stage.world.queue.done(Lane.FRESH, letter)


def look_ups(stage: Stage) -> int:
    """Marketo calls that asked for people."""
    return int(stage.marketo.journal.summary()["by_endpoint"].get("GET /rest/v1/leads.json", 0))


# --- the order of writes --------------------------------------------------------------------------------------


def test_an_opportunity_stays_while_a_role_of_it_could_not_be_removed(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marketo leaves the roles of a deleted opportunity behind, and they come back with it (design.md §1)."""
    org.stakeholder(org.ann)
    stage.sync()
    org.delete("opportunity", org.deal)
    answers(monkeypatch, stage, MarketoObject.ROLE, LOCKED, call="delete")
    stage.sync()

    assert org.deal in stage.opportunities()
    assert [role.lead for role in row_of(stage, org.deal).roles] == [org.lead_ann]
    monkeypatch.undo()
    stage.clock.sleep(61)
    stage.sync()
    assert stage.opportunities() == {}
    assert stage.roles() == set()


def test_a_role_stays_while_its_replacement_is_refused(stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    org.stakeholder(org.bob, "Champion")
    stage.sync()
    org.update("connectionrole", stage.dataverse.role_named("Champion"), name="Sponsor")
    answers(monkeypatch, stage, MarketoObject.ROLE, REFUSED)
    stage.sync()

    assert stage.roles() == {(org.deal, org.lead_bob, "Champion")}
    assert [role.text for role in row_of(stage, org.deal).roles] == ["Champion"]


def test_the_ledger_says_nothing_of_a_refused_opportunity(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, stage, MarketoObject.OPPORTUNITY, REFUSED)
    stage.sync()

    assert (row_of(stage, org.deal).state, dict(row_of(stage, org.deal).fields)) == (State.PARKED, {})


def test_a_renamed_deal_costs_one_call(stage: Stage, org: Org) -> None:
    stage.sync()
    before = stage.writes()
    org.update("opportunity", org.deal, name="Renamed")
    stage.sync()

    assert stage.writes() == before + 1


# --- queue first ------------------------------------------------------------------------------------------------


def test_a_crash_before_the_queue_forgets_no_connection(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tombstone carries nothing but its id: only the map knows the opportunity."""
    connection = org.stakeholder(org.ann)
    stage.sync()
    stage.edit("disconnect", id=connection)
    monkeypatch.setattr(stage.world.queue, "put", crash)
    with pytest.raises(Crash):
        stage.tick()
    monkeypatch.undo()
    stage.sync()

    assert stage.roles() == set()


def test_a_crash_before_the_queue_loses_no_poison(stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.world.queue.poison(Lane.FRESH, encode(Work((org.deal, org.opportunity("Other")))))
    monkeypatch.setattr(stage.world.queue, "put", crash)
    with pytest.raises(Crash):
        stage.tick()
    monkeypatch.undo()
    stage.clock.sleep(301)
    stage.tick()

    assert [work.size for work in messages(stage) if work.why == "poison"] == [1, 1]


def test_what_comes_from_poison_is_forced(stage: Stage, org: Org) -> None:
    """The host's copy has lost its count (azure.md §3.6)."""
    stage.world.queue.poison(Lane.FRESH, encode(Work((org.deal, org.opportunity("Other")))))
    stage.tick()

    assert [work.force for work in messages(stage) if work.why == "poison"] == [True, True]


def test_a_poisoned_id_that_another_worker_writes_is_queued_again(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.sync()
    stage.world.queue.poison(Lane.FRESH, encode(Work((org.deal,))))
    rows = stage.world.opportunities.rows

    def overtaken(ids: Any) -> Mapping[str, LedgerRow]:
        found = rows(ids)
        monkeypatch.undo()
        stage.world.opportunities.write([found[org.deal].become(State.IN_STEP)])
        return found

    monkeypatch.setattr(stage.world.opportunities, "rows", overtaken)
    stage.tick()

    assert [(work.opportunities, work.force) for work in messages(stage)] == [((org.deal,), True)]
    assert row_of(stage, org.deal).state is State.IN_STEP


def test_opportunities_are_read_once_every_other_link_is_taken(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever changes while opportunities are read is then in one of the links (protocol.md finding 8)."""
    changes = stage.world.source.changes
    asked: list[str] = []

    def noted(table: str, link: str | None) -> Any:
        asked.append(table)
        return changes(table, link)

    monkeypatch.setattr(stage.world.source, "changes", noted)
    stage.tick()

    assert asked == ["connection", "contact", "account", "opportunity"]


def test_what_changed_early_in_a_long_first_read_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The link may stand for the end of the read: the overlap query has to reach back to its start (finding 9)."""
    stage = Stage(page_size=2)
    stage.dataverse.switches["token_position"] = "end"
    org = Org(stage)
    for number in range(5):
        org.opportunity(f"Deal {number}")
    changes, pages = stage.world.source.changes, iter(range(100))

    def slowly(table: str, link: str | None) -> Any:
        if table == "opportunity" and next(pages) == 1:
            stage.drain()  # what the first page named is in Marketo already
            for deal in stage.opportunities():
                org.update("opportunity", deal, name="Renamed meanwhile")
        found = changes(table, link)
        stage.clock.sleep(20)
        return found

    monkeypatch.setattr(stage.world.source, "changes", slowly)
    stage.sync()

    assert [row["name"] for row in stage.opportunities().values()].count("Renamed meanwhile") == 2


def test_a_backlog_goes_through_the_slow_lane() -> None:
    stage = Stage(changes={"fresh_max     = 3000": "fresh_max = 2"})
    org = Org(stage)
    deals = {org.deal, *(org.opportunity(f"Deal {number}") for number in range(4))}
    stage.tick()

    assert {id for work in messages(stage, Lane.SLOW) for id in work.opportunities} == deals
    assert messages(stage) == []


def test_of_two_timers_the_loser_stores_no_link(stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.sync()
    changes = stage.world.source.changes
    won: list[Any] = []

    def overtaken(table: str, link: str | None) -> Any:
        page = changes(table, link)
        if table == "opportunity" and not won:
            won.append(None)
            org.update("opportunity", org.deal, name="Renamed")
            stage.variant().detect()
            won[0] = stage.world.documents.read("feed", "opportunity")
        return page

    monkeypatch.setattr(stage.world.source, "changes", overtaken)
    stage.tick()

    assert stage.world.documents.read("feed", "opportunity") == won[0]


def test_a_call_holds_three_hundred_records() -> None:
    """Marketo takes no more, and calls are what is short (design.md §7)."""
    assert [len(batch) for batch in batches({"leadId": number} for number in range(700))] == [300, 300, 100]


# --- tickets and force --------------------------------------------------------------------------------------------


def test_whoever_posted_and_lost_its_ticket_comes_back_after_l(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it reads roles back that Marketo's query does not show yet (protocol.md finding 6)."""
    stage.sync()
    org.update("opportunity", org.deal, name="New")
    stage.tick()
    rows, once = stage.world.source.rows, [True]

    def overtaken(table: str, *rest: Any) -> Any:
        found = rows(table, *rest)
        if table == "opportunity" and once:
            once.clear()
            deliver_directly(stage, Work((org.deal,)))
        return found

    monkeypatch.setattr(stage.world.source, "rows", overtaken)
    outcome = stage.deliver()

    assert outcome is not None
    assert [(work.force, delay >= stage.world.late_write) for work, delay in outcome.again] == [(True, True)]
    stage.clock.sleep(stage.world.late_write - 1)
    assert stage.world.queue.receive(Lane.FRESH, lease=LEASE) is None


def test_a_write_that_never_got_an_answer_goes_back_forced(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.sync()
    org.update("opportunity", org.deal, name="New")
    stage.tick()

    def silence(*_: Any, **__: Any) -> Any:
        raise Unavailable("no answer", unanswered=True)

    monkeypatch.setattr(stage.world.target, "upsert", silence)
    outcome = stage.deliver()

    assert outcome is not None
    assert [(work.force, delay >= stage.world.late_write) for work, delay in outcome.again] == [(True, True)]


def test_a_write_that_timed_out_in_marketo_goes_back_forced_though_its_halves_passed(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    deals = {org.deal, org.opportunity("Other", account=org.acme)}
    stage.tick()
    upsert = stage.world.target.upsert

    def slow(kind: Any, records: Any, *, until: Any) -> Any:
        if len(records) > 1:
            raise SplitBatch("604", "Request timed out", unanswered=True)
        return upsert(kind, records, until=until)

    monkeypatch.setattr(stage.world.target, "upsert", slow)
    outcome = stage.deliver()

    assert outcome is not None
    assert [(set(work.opportunities), work.force) for work, _ in outcome.again] == [(deals, True)]


def test_a_forced_removal_takes_the_roles_that_only_marketo_knows(stage: Stage, org: Org) -> None:
    stage.sync()
    role_in_marketo(stage, org, org.lead_bob, "Champion")
    org.delete("opportunity", org.deal)
    stage.tick()
    deliver_again(stage)

    assert stage.opportunities() == {}
    assert stage.roles() == set()


def test_a_forced_removal_takes_the_roles_that_only_the_ledger_knows(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marketo's role query lags (protocol.md finding 6)."""
    org.stakeholder(org.ann)
    stage.sync()
    org.delete("opportunity", org.deal)
    stage.tick()
    monkeypatch.setattr(stage.world.target, "roles", lambda _: {})
    deliver_again(stage)

    assert stage.roles() == set()


def test_a_forced_look_takes_the_roles_that_only_the_ledger_knows(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = org.stakeholder(org.ann)
    stage.sync()
    stage.edit("disconnect", id=connection)
    stage.tick()
    monkeypatch.setattr(stage.world.target, "roles", lambda _: {})
    deliver_again(stage)

    assert stage.roles() == set()


def test_a_removal_after_a_wait_takes_the_roles_that_only_marketo_knows(stage: Stage, org: Org) -> None:
    org.stakeholder(org.contact("dan@acme.invalid"))
    stage.sync()
    assert row_of(stage, org.deal).state is State.WAITING
    role_in_marketo(stage, org, org.lead_bob, "Champion")
    org.delete("opportunity", org.deal)
    stage.sync()

    assert stage.opportunities() == {}
    assert stage.roles() == set()


class SlowQueue:
    """A queue client with one message, whose answer takes five seconds."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock

    def get_queue_client(self, *_: Any, **__: Any) -> SlowQueue:
        return self

    def create_queue(self) -> None: ...

    def receive_message(self, **_: Any) -> Any:
        self.clock.sleep(5)
        return SimpleNamespace(id="1", pop_receipt="1", content="", dequeue_count=1)


def test_a_lease_counts_from_before_it_was_asked_for() -> None:
    """Our idea of it must not outlast the service's: no write may start late (protocol.md finding 7)."""
    clock = FakeClock()
    end = clock.now() + LEASE
    letter = StorageQueue(SlowQueue(clock), clock).receive(Lane.FRESH, lease=LEASE)  # type: ignore[arg-type]

    assert letter is not None
    assert letter.lease_ends == end


def test_an_error_of_storage_does_not_carry_that_of_the_sdk() -> None:
    """A traceback would show it, with the signature or the body that it quotes (design.md §2.10)."""
    with pytest.raises(Unavailable) as caught, storage_answers("role"):
        raise HttpResponseError("the body of an answer")

    assert caught.value.__cause__ is None


# --- whose fault it is --------------------------------------------------------------------------------------------


def test_a_value_that_fits_no_marketo_field_parks_its_opportunity_alone() -> None:
    stage = Stage(changes={'too_long = "cut"': 'too_long = "reject"'})
    org = Org(stage)
    bad = org.opportunity("N" * 300)
    stage.sync()

    assert stage.opportunities().keys() == {org.deal}
    assert state_of(stage, bad)[0] is State.PARKED


def test_a_throttled_write_counts_no_attempt(stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.sync()
    before = row_of(stage, org.deal)
    org.update("opportunity", org.deal, name="New")
    stage.tick()

    def throttle(*_: Any, **__: Any) -> Any:
        raise Throttled("606 max rate limit", delay=20.0)

    monkeypatch.setattr(stage.world.target, "upsert", throttle)
    outcome = stage.deliver()

    assert outcome is not None
    assert [(work.force, delay) for work, delay in outcome.again] == [(False, 20.0)]
    assert row_of(stage, org.deal) == before


def test_what_a_person_must_mend_is_tried_every_five_minutes(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.tick()

    def refuse(*_: Any, **__: Any) -> Any:
        raise ConfigurationError("access denied")

    monkeypatch.setattr(stage.world.target, "upsert", refuse)
    outcome = stage.deliver()

    assert outcome is not None
    assert {delay for _, delay in outcome.again} == {300.0}


def test_missing_people_are_asked_for_within_the_days_calls() -> None:
    stage = Stage(changes={"recheck_calls = 100": "recheck_calls = 1"})
    org = Org(stage)
    org.stakeholder(org.contact("dan@acme.invalid"))
    stage.sync()
    before = look_ups(stage)
    for _ in range(3):
        stage.clock.sleep(3600)
        stage.sync()
    today = look_ups(stage)
    stage.clock.sleep(24 * 3600)
    stage.sync()

    assert (today - before, look_ups(stage) - today) == (1, 1)


def test_looking_before_the_time_counts_no_attempt(stage: Stage, org: Org) -> None:
    org.stakeholder(org.contact("dan@acme.invalid"))
    stage.sync()
    before = row_of(stage, org.deal)
    deliver_directly(stage, Work((org.deal,)))

    after = row_of(stage, org.deal)
    assert (after.attempts, after.due) == (before.attempts, before.due) == (1, before.due)


def test_a_row_in_step_has_no_reason_and_no_time(stage: Stage, org: Org) -> None:
    org.stakeholder(org.contact("dan@acme.invalid"))
    stage.sync()
    stage.people("dan@acme.invalid")
    stage.clock.sleep(61)
    stage.sync()

    row = row_of(stage, org.deal)
    assert (row.state, row.reason, row.attempts, row.due) == (State.IN_STEP, "", 0, None)


# --- people -------------------------------------------------------------------------------------------------------


def test_a_remembered_person_is_asked_for_again_after_a_day(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    before = look_ups(stage)
    for hours in (23, 2):
        stage.clock.sleep(timedelta(hours=hours).total_seconds())
        deliver_directly(stage, Work((org.deal,)))
        assert look_ups(stage) - before == (0 if hours == 23 else 1)


def test_a_contact_with_another_address_is_another_person(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    org.update("contact", org.ann, emailaddress1="bob@acme.invalid")
    stage.sync()

    assert stage.roles() == {(org.deal, org.lead_bob, "Decision Maker")}


# --- the removal guard --------------------------------------------------------------------------------------------


def guarded(most: int) -> Stage:
    return Stage(changes={"max_count = 100": f"max_count = {most}"})


def one_held() -> tuple[Stage, str]:
    """Of two deletions that came one after the other, the second is held."""
    stage = guarded(1)
    org = Org(stage)
    deals = [org.opportunity(f"Deal {number}") for number in range(2)]
    stage.sync()
    for deal in deals:
        org.delete("opportunity", deal)
        stage.sync()
    assert state_of(stage, deals[1])[0] is State.HELD
    return stage, deals[1]


def test_a_removal_held_by_reconcile_passes_once_approved() -> None:
    stage, deal = one_held()

    assert approve_removals(stage.world) == 1
    stage.sync()
    assert deal not in stage.opportunities()


def test_a_held_removal_stays_held_after_a_day() -> None:
    stage, deal = one_held()
    stage.clock.sleep(timedelta(hours=25).total_seconds())
    deliver_directly(stage, Work((deal,)))

    assert deal in stage.opportunities()
    assert state_of(stage, deal)[0] is State.HELD


def test_two_workers_cannot_reserve_the_same_removals(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = guarded(1)
    read = stage.world.documents.read
    refused: list[bool] = []

    def overtaken(kind: str, name: str) -> Any:
        found = read(kind, name)
        monkeypatch.undo()
        refused.append(bool(reserve(stage.world, "opportunities", 1)))
        return found

    monkeypatch.setattr(stage.world.documents, "read", overtaken)
    refused.append(bool(reserve(stage.world, "opportunities", 1)))

    assert refused == [False, True]


def test_a_reservation_over_the_limit_is_refused_whole() -> None:
    world = guarded(5).world

    assert reserve(world, "opportunities", 6)
    assert not reserve(world, "opportunities", 5)


def test_removals_of_roles_and_opportunities_are_counted_apart() -> None:
    world = guarded(3).world

    assert not reserve(world, "roles", 3)
    assert not reserve(world, "opportunities", 3)
