"""What is not in step can be listed, shown and tried again; a pause holds across restarts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_core import cli
from sync_core.flows.failures import FAILURES, KINDS, Choice, Failure, by_reason, failures, first, of_ids, page, redrive
from sync_core.flows.status import pause, problems, resume, status
from sync_core.messages import decode, encode
from sync_core.model import Answer, Answers, Lane, LedgerRow, State, Work
from tests.flows.org import Org
from tests.stage import Stage

REFUSED = "1003: a value is invalid (name)"


@pytest.fixture
def parked(stage: Stage, org: Org) -> list[str]:
    """Three opportunities whose name Marketo refuses, until `stage.marketo_wire` lets them through."""
    deals = [org.opportunity(f"Refused {number}", account=org.acme) for number in range(3)]
    upsert = stage.world.target.upsert

    def refuse(kind: Any, records: Any, *, until: Any) -> Any:
        answers = upsert(kind, records, until=until)
        text = "Invalid value for field 'name' and value 'Refused'"
        bad = [str(record.get("name", "")).startswith("Refused") for record in records]
        found = [
            Answer("skipped", "1003", text) if is_bad else a for is_bad, a in zip(bad, answers.records, strict=True)
        ]
        return Answers(found)

    object.__setattr__(stage.world.target, "upsert", refuse)
    stage.sync()
    object.__setattr__(stage.world.target, "upsert", upsert)
    return deals


def test_failures_are_counted_by_reason_and_chosen_by_state_and_text(stage: Stage, parked: list[str]) -> None:
    found = list(failures(stage.world))

    assert {each.id for each in found} == set(parked)
    tallies = {kind: ledger.tally() for kind, ledger in stage.world.ledgers.items()}
    assert by_reason(tallies) == {("opportunity", "parked", REFUSED): 3}
    assert list(failures(stage.world, Choice(states=[State.WAITING]))) == []
    assert list(failures(stage.world, Choice(reason="1003"))) == []
    assert len(list(failures(stage.world, Choice(reason=REFUSED)))) == 3
    assert list(failures(stage.world, Choice(text="no such reason"))) == []
    assert len(list(failures(stage.world, Choice(text="A VALUE is")))) == 3
    assert [each.id for each in failures(stage.world, Choice(text=parked[0][4:20].upper()))] == [parked[0]]


def test_a_page_begins_behind_the_one_before(stage: Stage) -> None:
    rows = [LedgerRow(str(UUID(int=number << 120)), state=State.PARKED, reason="r") for number in range(5)]
    stage.world.opportunities.write(rows)

    first, after = page(stage.world, size=2)
    second, after = page(stage.world, after=after, size=2)
    third, end = page(stage.world, after=after, size=2)

    assert [each.id for each in (*first, *second, *third)] == [row.id for row in rows]
    assert end == ""
    with pytest.raises(ValueError, match="not in list"):
        page(stage.world, after="nowhere~1")


def test_a_search_ends_after_many_pointers_and_goes_on_from_there(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_core.flows.failures.LOOKED_AT", 14)  # two pages of the storage in memory
    rows = [LedgerRow(str(UUID(int=n << 120)), state=State.PARKED, reason=f"reason {n // 30}") for n in range(40)]
    stage.world.opportunities.write(rows)
    choice = Choice(in_reason="REASON 1")

    some, after = page(stage.world, choice)
    assert (some, bool(after)) == ([], True)

    assert [each.id for each in first(stage.world, choice, 7)] == [row.id for row in rows[30:37]]
    assert first(stage.world, choice, 0) == []


def test_a_reason_is_not_searched_for_in_ids(stage: Stage) -> None:
    rows = [
        LedgerRow("00000413-0000-4000-8000-000000000000", state=State.PARKED, reason="1003: a value is invalid"),
        LedgerRow("00000000-0000-4000-8000-000000000000", state=State.PARKED, reason="413: too big"),
    ]
    stage.world.opportunities.write(rows)

    assert [each.id for each in failures(stage.world, Choice(in_reason="413"))] == [rows[1].id]
    assert {each.id for each in failures(stage.world, Choice(text="413"))} == {row.id for row in rows}


@settings(max_examples=60)
@given(
    states=st.lists(st.sampled_from([State.PARKED, State.HELD, State.WAITING, State.IN_STEP]), max_size=30),
    size=st.integers(1, 12),
    choice=st.builds(
        Choice,
        kinds=st.sets(st.sampled_from(sorted(KINDS)), min_size=1),
        states=st.sets(st.sampled_from(FAILURES), min_size=1),
        reason=st.sampled_from(["", "reason 1"]),
        text=st.sampled_from(["", "on 1", "REASON"]),
    ),
)
def test_the_pages_together_are_all_that_was_chosen(states: list[State], size: int, choice: Choice) -> None:
    stage = Stage()
    for number, state in enumerate(states):
        ledger = list(stage.world.ledgers.values())[number % 3]
        row = LedgerRow(str(UUID(int=number * 7919)), state=state, reason=f"reason {number % 2}")
        ledger.write([replace(row, due=stage.clock.now() if state is State.WAITING else None)])
    found: list[Failure] = []
    after = ""
    while True:
        some, after = page(stage.world, choice, after=after, size=size)
        assert len(some) == size or not after
        found += some
        if not after:
            break

    assert found == list(failures(stage.world, choice))


def test_redriving_forces_and_brings_them_in_step(stage: Stage, parked: list[str]) -> None:
    assert redrive(stage.world, failures(stage.world)) == 3

    (message,) = stage.world.queue.queues["fresh"]
    assert decode(message.body).force
    stage.sync()
    assert set(parked) <= stage.opportunities().keys()
    assert list(failures(stage.world)) == []


def test_many_are_redriven_in_full_messages_through_the_slow_lane() -> None:
    stage = Stage(changes={"fresh_max     = 3000": "fresh_max = 10"})
    ids = [f"00000000-0000-4000-8000-{number:012x}" for number in range(4000)]
    assert redrive(stage.world, (Failure("opportunities", key, "parked", "", 0, "") for key in ids)) == 4000
    assert stage.world.queue.lengths() == {"fresh": 0, "slow": 3, "fresh poison": 0, "slow poison": 0, "unreadable": 0}


def test_companies_that_failed_are_found_and_redriven(stage: Stage, org: Org) -> None:
    stage.sync()
    row = stage.world.companies.rows([org.acme])[org.acme]
    stage.world.companies.write([row.become(State.PARKED, reason="1003: a value is invalid")])

    assert [(each.kind, each.id) for each in failures(stage.world)] == [("accounts", org.acme)]
    redrive(stage.world, failures(stage.world))
    stage.sync()
    assert stage.world.companies.rows([org.acme])[org.acme].state is State.IN_STEP


def test_what_is_in_step_can_be_shown_too(stage: Stage, org: Org) -> None:
    stage.sync()

    assert [(each.kind, each.state) for each in of_ids(stage.world, [org.deal, org.acme])] == [
        ("opportunities", "in step"),
        ("accounts", "in step"),
    ]


# --- the command --------------------------------------------------------------------------------------------


@pytest.fixture
def command(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)


@pytest.mark.usefixtures("command")
def test_the_command_lists_shows_exports_and_redrives(stage: Stage, parked: list[str], capsys: Any) -> None:
    assert cli.main(["failures", "list", "--limit", "1"]) == cli.PROBLEMS
    listed = capsys.readouterr().out
    assert f"3 × opportunity, parked: {REFUSED}" in listed
    assert max(map(len, listed.splitlines())) <= 80
    assert "The first 1:" in listed
    assert cli.main(["failures", "show", parked[0]]) == cli.PROBLEMS
    assert REFUSED in capsys.readouterr().out
    cli.main(["failures", "export"])
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert cli.main(["failures", "redrive", parked[0], "--json"]) == cli.GOOD
    assert json.loads(capsys.readouterr().out)["queued"] == 1
    assert cli.main(["failures", "redrive", "--all"]) == cli.GOOD
    stage.sync()
    assert cli.main(["failures", "list"]) == cli.GOOD
    assert "everything is in step" in capsys.readouterr().out


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize(
    "wrong", [[], ["00000000-0000-4000-8000-00000000000a", "--all"], ["00000000-0000-4000-8000-00000000000a"]]
)
def test_redriving_nothing_or_the_unknown_is_wrong_usage(stage: Stage, org: Org, wrong: list[str], capsys: Any) -> None:
    assert cli.main(["failures", "redrive", *wrong]) == cli.USAGE
    assert "Nothing was done" in " ".join(capsys.readouterr().err.split())
    assert sum(stage.world.queue.lengths().values()) == 0


# --- pause --------------------------------------------------------------------------------------------------


def test_a_pause_holds_across_restarts_and_loses_nothing(stage: Stage, org: Org) -> None:
    stage.tick()
    pause(stage.world, "Marketo is being cleaned up")
    org.update("opportunity", org.deal, name="Changed")
    stage.engine = stage.variant()

    assert stage.tick().counts == {}
    outcome = stage.deliver()

    assert outcome is not None
    assert [delay for _, delay in outcome.again] == [300.0]
    assert stage.writes() == 0
    assert status(stage.world)["paused"]["why"] == "Marketo is being cleaned up"
    assert any("paused since" in text for text in problems(status(stage.world)))

    assert resume(stage.world)
    stage.sync()
    assert stage.opportunities()[org.deal]["name"] == "Changed"
    assert not resume(stage.world)


def test_a_pause_keeps_the_force_of_a_message(stage: Stage, org: Org) -> None:
    stage.sync()
    pause(stage.world, "")
    body = encode(Work((org.deal,)))
    ends = stage.clock.now() + timedelta(minutes=10)

    outcome = stage.engine.deliver(body, dequeue_count=2, lease_ends=ends, lane=Lane.FRESH)

    assert outcome is not None
    assert [work.force for work, _ in outcome.again] == [True]


@pytest.mark.usefixtures("command")
def test_sync_says_that_it_is_paused(stage: Stage, org: Org, capsys: Any) -> None:
    assert cli.main(["pause", "--why", "a test"]) == cli.GOOD
    assert cli.main(["sync"]) == cli.PROBLEMS
    assert "resume" in capsys.readouterr().err
    assert cli.main(["resume"]) == cli.GOOD
    assert cli.main(["sync"]) == cli.GOOD


# --- poison -------------------------------------------------------------------------------------------------


def test_a_poisoned_id_outlives_the_seven_days_of_the_queue(stage: Stage, org: Org, monkeypatch: Any) -> None:
    """The host's copy lives seven days and has lost its count (azure.md §3.6); the ledger's row lives on."""
    other = org.opportunity("Other", account=org.bolt)
    stage.sync()
    connections = stage.world.source.connections

    def broken(ids: Any) -> Any:
        if org.deal in ids:
            raise ZeroDivisionError
        return connections(ids)

    monkeypatch.setattr(stage.world.source, "connections", broken)
    org.update("opportunity", other, name="Changed")
    org.update("opportunity", org.deal, name="Changed")
    stage.tick()
    for _ in range(20):
        deliver_as_the_host(stage)
        stage.clock.sleep(300)
        stage.tick()
    assert [(each.id, each.state) for each in failures(stage.world)] == [(org.deal, "parked")]
    assert stage.opportunities()[other]["name"] == "Changed"

    stage.clock.sleep(8 * 24 * 3600)
    monkeypatch.undo()
    assert sum(stage.world.queue.lengths().values()) == 0
    assert next(failures(stage.world)).reason.startswith("unknown:")
    redrive(stage.world, failures(stage.world))
    stage.sync()
    assert stage.opportunities()[org.deal]["name"] == "Changed"


def deliver_as_the_host(stage: Stage) -> None:
    """Up to five times; then a copy of the body goes to the poison queue (azure.md §3.6)."""
    queue = stage.world.queue
    while letter := queue.receive(Lane.FRESH, lease=timedelta(minutes=10)):
        try:
            stage.engine.deliver(
                letter.body, dequeue_count=letter.dequeue_count, lease_ends=letter.lease_ends, lane=Lane.FRESH
            )
        except ZeroDivisionError:
            if letter.dequeue_count < 5:
                stage.clock.sleep(600)
                continue
            queue.poison(Lane.FRESH, letter.body)
        queue.done(Lane.FRESH, letter)
