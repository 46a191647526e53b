"""What changed just now never waits behind what is read from the start, or behind a bulk update (design.md §4)."""

from __future__ import annotations

from typing import Any

import pytest

from sync_core.errors import Unavailable
from sync_core.flows.applied import backfill
from sync_core.flows.status import approve_removals
from sync_core.model import Lane, LedgerRow, State
from tests.flows.org import Org
from tests.flows.test_invariants import messages
from tests.stage import Stage, changed

SMALL = {"fresh_max     = 3000": "fresh_max = 3"}


def crowd(page_size: int = 3600, number: int = 8) -> tuple[Stage, Org, list[str]]:
    """More opportunities than are fresh in one tick, none of them changed lately."""
    stage = Stage(changes=SMALL, page_size=page_size)
    org = Org(stage)
    deals = [org.opportunity(f"Deal {each}") for each in range(number)]
    stage.clock.sleep(3600)
    return stage, org, deals


def queued(stage: Stage, lane: Lane) -> set[str]:
    """The opportunities on the queue of *lane*, taken from it."""
    found = {key for work in messages(stage, lane) for key in work.opportunities}
    stage.world.queue.queues[lane].clear()
    return found


def slow_down(stage: Stage, monkeypatch: pytest.MonkeyPatch, slow: str, *, seconds: float) -> None:
    """Every page of changes of one table takes so long."""
    changes = stage.world.source.changes

    def slowly(table: str, link: str | None) -> Any:
        if table == slow:
            stage.clock.sleep(seconds)
        return changes(table, link)

    monkeypatch.setattr(stage.world.source, "changes", slowly)


def test_an_edit_during_a_read_from_the_start_overtakes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, org, deals = crowd()
    changes = stage.world.source.changes

    def edited(table: str, link: str | None) -> Any:
        page = changes(table, link)
        if table == "opportunity":
            org.update("opportunity", deals[5], name="Renamed")
        return page

    monkeypatch.setattr(stage.world.source, "changes", edited)
    stage.tick()

    assert queued(stage, Lane.FRESH) == {deals[5]}
    assert queued(stage, Lane.SLOW) >= set(deals)


def test_edits_between_the_ticks_of_a_long_read_overtake_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, org, deals = crowd(page_size=2)
    slow_down(stage, monkeypatch, "opportunity", seconds=200)
    assert not stage.tick().complete
    queued(stage, Lane.FRESH)
    org.update("opportunity", deals[0], name="Renamed")
    org.stakeholder(org.ann, opportunity=deals[7])
    stage.clock.sleep(120)

    assert not stage.tick().complete
    assert queued(stage, Lane.FRESH) == {deals[0], deals[7]}


def test_the_later_pages_of_a_long_read_stay_in_the_slow_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, _, deals = crowd(page_size=2)
    slow_down(stage, monkeypatch, "opportunity", seconds=400)
    stage.tick()
    first = queued(stage, Lane.FRESH)
    while not stage.tick().complete:
        pass

    assert len(first) == 2
    assert queued(stage, Lane.FRESH) == set()
    assert first | queued(stage, Lane.SLOW) >= set(deals)


@pytest.mark.parametrize("asked", ["backfill", "mapping"])
def test_an_edit_before_everything_is_looked_at_again_overtakes_it(asked: str) -> None:
    stage, org, deals = crowd()
    stage.sync()
    stage.clock.sleep(3600)
    org.update("opportunity", deals[2], name="Renamed")
    stage.clock.sleep(3600)
    if asked == "backfill":
        backfill(stage.world)
    else:
        stage.adopt(changed({'= "description"': '= "name"'} | SMALL))

    stage.tick()

    assert queued(stage, Lane.FRESH) == {deals[2]}
    assert queued(stage, Lane.SLOW) >= set(deals)


def test_an_edit_overtakes_a_bulk_update_of_people_in_the_same_tick() -> None:
    stage, org, deals = crowd()
    for deal in deals:
        org.stakeholder(org.ann, opportunity=deal)
    stage.sync()
    stage.clock.sleep(3600)
    org.update("contact", org.ann, firstname="Anna")
    org.update("opportunity", deals[1], name="Renamed")

    stage.tick()

    assert queued(stage, Lane.FRESH) == {deals[1]}
    assert queued(stage, Lane.SLOW) >= set(deals)


def test_a_bulk_update_takes_the_slow_lane_and_an_edit_two_ticks_later_overtakes_it() -> None:
    stage, org, deals = crowd()
    stage.sync()
    stage.clock.sleep(3600)
    writes = stage.writes()
    for deal in deals:
        org.update("opportunity", deal, budgetamount=5)
    stage.tick()
    stage.tick()
    org.update("opportunity", deals[4], name="Renamed")
    stage.tick()

    assert len(messages(stage, Lane.SLOW)) == 1
    stage.deliver(Lane.FRESH)
    assert stage.opportunities()[deals[4]]["name"] == "Renamed"
    assert stage.writes() == writes + 1
    stage.drain()
    assert stage.writes() == writes + 1, "what is not mapped costs no write"


def test_opportunities_are_followed_while_another_table_is_read_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, org, deals = crowd()
    stage.sync()
    stage.clock.sleep(3600)
    known = stage.world.documents.read("feed", "contact")
    lost = {**known.value, "phase": "reading", "link": None, "again": True}
    stage.world.documents.write("feed", "contact", lost, known.ticket)
    slow_down(stage, monkeypatch, "contact", seconds=400)
    org.update("opportunity", deals[3], name="Renamed")

    assert not stage.tick().complete
    assert queued(stage, Lane.FRESH) == {deals[3]}


def test_many_approved_removals_take_the_slow_lane() -> None:
    stage, _, deals = crowd()
    stage.world.opportunities.write([LedgerRow(deal, state=State.HELD) for deal in deals])

    approve_removals(stage.world)

    assert queued(stage, Lane.FRESH) == set()
    assert queued(stage, Lane.SLOW) == set(deals)


def test_deliveries_of_the_slow_lane_let_the_others_calls_go_first() -> None:
    stage, org, deals = crowd()
    stage.tick()
    assert stage.deliver(Lane.SLOW)
    assert stage.limiter.slow == stage.limiter.used > 0
    stage.drain()
    slow, used = stage.limiter.slow, stage.limiter.used

    org.update("opportunity", deals[0], name="Renamed")
    stage.tick()
    assert stage.deliver(Lane.FRESH)

    assert (stage.limiter.slow, stage.limiter.used > used) == (slow, True)


def test_the_slow_lanes_calls_take_no_thread_that_fresh_ones_need() -> None:
    stage, _, _ = crowd()
    used: list[str] = []

    def noted(name: str) -> Any:
        return lambda function, items: [used.append(name), *map(function, items)][1:]

    stage.engine = stage.variant(fan_out=noted("fresh"), fan_out_slow=noted("slow"))
    stage.tick()
    stage.deliver(Lane.SLOW)

    assert set(used) == {"slow"}


def test_an_edit_is_queued_though_another_table_cannot_be_read(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.sync()
    org.update("opportunity", org.deal, name="Renamed")
    changes = stage.world.source.changes

    def contacts_are_away(table: str, link: str | None) -> Any:
        if table == "contact":
            raise Unavailable("Dataverse gives no answer")
        return changes(table, link)

    monkeypatch.setattr(stage.world.source, "changes", contacts_are_away)
    with pytest.raises(Unavailable):
        stage.tick()
    stage.drain()
    assert stage.opportunities()[org.deal]["name"] == "Renamed"

    with pytest.raises(Unavailable):
        stage.tick()
    assert stage.world.queue.lengths()[Lane.FRESH] == 0  # its link is kept: not queued again
