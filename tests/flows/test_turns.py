"""A few deliveries of the slow lane at once, however many machines there are; the fresh lane needs no turn."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import pytest

from sync_core.errors import ConfigurationError, SyncError, Unavailable
from sync_core.flows import turns
from sync_core.flows.cases import Outcome
from sync_core.flows.turns import AT_ONCE, WAIT_S, turn
from sync_core.messages import decode, encode
from sync_core.model import Lane, Work
from tests.contracts.ledger import an_id
from tests.flows.org import Org
from tests.stage import LEASE, Stage


def deliver(stage: Stage, work: Work, lane: Lane, *, dequeue_count: int = 1) -> Outcome | None:
    ends = stage.clock.now() + LEASE
    return stage.engine.deliver(encode(work), dequeue_count=dequeue_count, lease_ends=ends, lane=lane)


def taken(stage: Stage, number: int) -> ExitStack:
    """So many deliveries of other machines are under way."""
    stack = ExitStack()
    for _ in range(number):
        stack.enter_context(turn(stage.world, until=stage.clock.now() + LEASE))
    return stack


def test_one_too_many_goes_back_as_it_came_and_does_nothing(stage: Stage, org: Org) -> None:
    stage.tick()
    stage.world.queue.done(Lane.FRESH, stage.world.queue.receive(Lane.FRESH, lease=LEASE))
    asked, work = len(stage.dataverse_app.journal.since(0)), Work((org.deal,), lane=Lane.SLOW, postponed=4)
    with taken(stage, AT_ONCE):
        outcome = deliver(stage, work, Lane.SLOW, dequeue_count=2)

    assert outcome is not None
    assert (dict(outcome.counts), outcome.trouble) == ({}, None)
    assert len(stage.dataverse_app.journal.since(0)) == asked
    assert stage.world.queue.receive(Lane.SLOW, lease=LEASE) is None
    stage.clock.sleep(WAIT_S)
    letter = stage.world.queue.receive(Lane.SLOW, lease=LEASE)
    assert letter is not None
    assert decode(letter.body) == replace(work, force=True)


def test_the_last_turn_is_enough(stage: Stage, org: Org) -> None:
    with taken(stage, AT_ONCE - 1):
        deliver(stage, Work((org.deal,)), Lane.SLOW)

    assert org.deal in stage.opportunities()


def test_fresh_changes_need_no_turn(stage: Stage, org: Org) -> None:
    with taken(stage, AT_ONCE):
        deliver(stage, Work((org.deal,)), Lane.FRESH)

    assert org.deal in stage.opportunities()


def test_a_turn_is_given_back_whatever_the_delivery_did(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr("sync_core.engine.reconcile", fails)
        for _ in range(AT_ONCE):
            with pytest.raises(ZeroDivisionError):
                deliver(stage, Work((org.deal,)), Lane.SLOW)
    deliver(stage, Work((org.deal,)), Lane.SLOW)

    assert org.deal in stage.opportunities()
    assert stage.world.documents.read(*turns.TURNS).value == {}


def test_the_turn_of_the_dead_lapses_when_their_message_comes_back(stage: Stage, org: Org) -> None:
    dead = taken(stage, AT_ONCE)
    stage.clock.sleep((LEASE - timedelta(seconds=1)).total_seconds())
    deliver(stage, Work((org.deal,)), Lane.SLOW)
    assert org.deal not in stage.opportunities()

    stage.clock.sleep(1)
    deliver(stage, Work((org.deal,)), Lane.SLOW)

    assert org.deal in stage.opportunities()
    dead.close()


def test_storage_that_fails_takes_no_turn_for_ever(stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outcome counts: what was posted is recorded by then."""
    written = stage.world.documents.write

    def failing(kind: str, name: str, value: dict[str, str], ticket: str | None) -> str | None:
        if (kind, name) == turns.TURNS and not value:
            raise turns.RetryLater("the storage account gives no answer")
        return written(kind, name, value, ticket)

    monkeypatch.setattr(stage.world.documents, "write", failing)

    outcome = deliver(stage, Work((org.deal,)), Lane.SLOW)

    assert outcome is not None
    assert outcome.counts["opportunities in step"] == 1


@pytest.mark.parametrize("error", [Unavailable("no answer"), ConfigurationError("no right to the tables")])
def test_a_message_is_not_to_blame_for_storage_that_tells_no_turns(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch, error: SyncError
) -> None:
    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(stage.world.documents, "read", fails)
        outcome = deliver(stage, Work((org.deal,)), Lane.SLOW)

    assert outcome is not None
    assert outcome.trouble is error
    stage.clock.sleep(3600)
    letter = stage.world.queue.receive(Lane.SLOW, lease=LEASE)
    assert letter is not None
    assert decode(letter.body) == Work((org.deal,)), "as it came"


def test_a_long_backlog_is_not_handed_round_and_round(stage: Stage, org: Org) -> None:
    for number in range(1_000):
        stage.world.queue.put(Work((an_id(number),), lane=Lane.SLOW))
    tries = 0
    with taken(stage, AT_ONCE):
        until = stage.clock.now() + LEASE / 2
        while stage.clock.now() < until:
            tries += stage.deliver(Lane.SLOW) is not None
            stage.clock.sleep(0.04)

    assert tries <= 3_300, "ten a second"
