"""What holds while a version takes over an older state, and of a newer one: refused by everything, left untouched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sync_core import __version__, cli
from sync_core.engine import GIVE_BACK, Engine
from sync_core.errors import NewerVersion, TakingOver
from sync_core.flows import guard, migrations
from sync_core.flows.guard import PAIR, TAKING_OVER
from sync_core.flows.migrations import IN_HAND, take_over
from sync_core.flows.validate import Setup
from sync_core.messages import VERSION, as_it_came, encode
from sync_core.model import SCHEMA, Lane, Work
from tests.flows.org import Org
from tests.stage import LEASE, Stage
from tests.web.browser import Browser, a_site

ROOT = Path(__file__).parent.parent.parent
NOT_ENDED = "deliveries of the old one have ended"


def stamped(stage: Stage, **changes: Any) -> None:
    stamp = stage.world.documents.read(*PAIR)
    assert stamp is not None
    stage.world.documents.write(*PAIR, {**stamp.value, **changes}, stamp.ticket)


def stamp_of(stage: Stage) -> Any:
    stamp = stage.world.documents.read(*PAIR)
    assert stamp is not None
    return stamp.value


def stored(stage: Stage) -> Any:
    """All that is kept, to compare."""
    world = stage.world
    rows = {kind: dict(ledger.content) for kind, ledger in world.ledgers.items()}
    documents = dict(world.documents._texts)
    return rows, documents, {name: [m.body for m in messages] for name, messages in world.queue.queues.items()}


@pytest.fixture
def newer(stage: Stage, org: Org) -> Stage:
    """A newer version was here; now this one is deployed."""
    stage.sync()
    org.update("opportunity", org.deal, name="Renamed")
    stage.tick()
    stamped(stage, schema=SCHEMA + 1, version="9.8.7")
    stage.engine = stage.variant()
    return stage


# --- a newer state ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["detect", "watch"])
def test_a_function_refuses_a_newer_state_and_says_which_version_wrote_it(newer: Stage, what: str) -> None:
    before = stored(newer)

    with pytest.raises(NewerVersion, match=r"version 9\.8\.7 .*deploy version 9\.8\.7 or a later one again"):
        getattr(newer.engine, what)()

    assert stored(newer) == before


@pytest.mark.parametrize("lane", list(Lane))
def test_a_delivery_on_a_newer_state_goes_back_as_it_came(newer: Stage, org: Org, lane: Lane) -> None:
    body = encode(Work((org.deal,), lane=lane))
    before, writes = stored(newer), newer.writes()

    outcome = newer.engine.deliver(body, dequeue_count=1, lease_ends=newer.clock.now() + LEASE, lane=lane)

    assert outcome is not None
    assert isinstance(outcome.trouble, NewerVersion)
    before[2][lane].append(body)
    assert stored(newer) == before
    assert newer.writes() == writes
    assert newer.world.queue.queues[lane][-1].visible == newer.clock.now() + GIVE_BACK


def test_the_version_is_looked_at_by_each_delivery_not_once_an_hour(stage: Stage, org: Org) -> None:
    stage.sync()
    org.update("opportunity", org.deal, name="Renamed")
    stage.tick()
    writes = stage.writes()

    stamped(stage, schema=SCHEMA + 1)
    stage.deliver()

    assert stage.writes() == writes


def test_what_was_received_before_is_forced_when_it_comes_to_who_understands_it(newer: Stage, org: Org) -> None:
    newer.engine.deliver(encode(Work((org.deal,))), dequeue_count=2, lease_ends=newer.clock.now(), lane=Lane.FRESH)

    assert json.loads(newer.world.queue.queues[Lane.FRESH][-1].body)["force"] is True


def a_newer_message(**more: Any) -> str:
    return json.dumps({**json.loads(encode(Work())), "v": VERSION + 1, "new": [1], **more})


def test_a_newer_message_goes_back_and_is_not_set_aside(stage: Stage, org: Org) -> None:
    stage.sync()
    body = a_newer_message()

    stage.engine.deliver(body, dequeue_count=1, lease_ends=stage.clock.now() + LEASE, lane=Lane.FRESH)

    assert [message.body for message in stage.world.queue.queues[Lane.FRESH]] == [body]
    assert stage.world.queue.lengths()["unreadable"] == 0


def test_a_newer_message_stays_in_the_poison_queue(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.world.queue.poison(Lane.FRESH, a_newer_message())

    stage.tick()

    assert stage.world.queue.lengths()["fresh poison"] == 1
    assert stage.world.queue.lengths()["unreadable"] == 0


def test_a_newer_message_is_given_back_whatever_else_it_says() -> None:
    assert json.loads(as_it_came(a_newer_message(), force=True)) == json.loads(a_newer_message(force=True))
    assert as_it_came(a_newer_message(), force=False) == a_newer_message()
    assert as_it_came("no JSON", force=True) == "no JSON"


@pytest.mark.parametrize("page", ["", "failures", "failures.csv", "status.json", "actions/pause", "find"])
def test_no_page_shows_a_newer_state(newer: Stage, page: str) -> None:
    before = stored(newer)

    found = Browser(a_site(newer)).open(page, q="deal")

    assert found.status == 503
    assert "version 9.8.7" in found.text
    assert stored(newer) == before


def test_health_is_not_well_on_a_newer_state(newer: Stage) -> None:
    assert Browser(a_site(newer)).open("health").status == 503


ID = "00000000-0000-4000-8000-000000000000"
COMMANDS = [
    *("validate", "sync", f"sync --only {ID}", "plan", "status", f"explain {ID}", "audit", "audit --last"),
    *("approve-removals", "failures list", f"failures show {ID}", "failures redrive --all", "failures export"),
    *(f"resync {ID}", "backfill", "backfill --since P1D", "rebuild", "pause", "resume", "repoint --confirm"),
    *("cleanup", "mapping show", "probe"),
]
UNLIKE = {"validate", "sync", "status", "pause", "resume"}  # these may meet an older one


def test_every_command_is_tried() -> None:
    parser = cli._parser()
    (commands,) = (action.choices for action in parser._actions if isinstance(action.choices, dict))

    assert {words.split()[0] for words in COMMANDS} == set(commands)


@pytest.fixture
def told(stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[[str], tuple[int, str]]:
    """A command's exit code and what it says."""
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)
    monkeypatch.setattr(cli, "setup", lambda env: Setup(stage.world, [], {}, "0 */5 * * * *"))

    def run(words: str) -> tuple[int, str]:
        code = cli.main(words.split())
        found = capsys.readouterr()
        return code, " ".join((found.out + found.err).split())

    return run


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_refuses_a_newer_state(newer: Stage, told: Callable[[str], tuple[int, str]], words: str) -> None:
    before, writes = stored(newer), newer.writes()

    code, said = told(words)

    assert code == cli.USAGE
    assert "deploy version 9.8.7" in said
    assert stored(newer) == before
    assert newer.writes() == writes


@pytest.mark.parametrize("words", [each for each in COMMANDS if each.split()[0] not in UNLIKE])
def test_other_commands_wait_until_a_tick_has_taken_over(
    stage: Stage, org: Org, told: Callable[[str], tuple[int, str]], words: str
) -> None:
    stage.sync()
    stamped(stage, schema=SCHEMA - 1)
    before = stored(stage)

    code, said = told(words)

    assert code == cli.PROBLEMS
    assert "earlier version" in said
    assert stored(stage) == before


# --- an older state -----------------------------------------------------------------------------------------------


class Steps:
    """What a migration does, as it is asked for; *fails* and *ends* say how the next calls end."""

    def __init__(self) -> None:
        self.done: list[float] = []
        self.fails, self.enough = 0, True

    def __call__(self, until: float) -> bool:
        self.done.append(until)
        if self.fails:
            self.fails -= 1
            raise RuntimeError("killed")
        return self.enough


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def older(stage: Stage, org: Org, steps: Steps) -> Stage:
    """The version before was here, and left something on the queue."""
    stage.sync()
    org.update("opportunity", org.deal, name="Renamed")
    stage.tick()
    stamped(stage, schema=SCHEMA - 1)
    stage.world = replace(stage.world, migrations={SCHEMA - 1: steps})
    stage.engine = Engine(stage.world)
    return stage


def test_the_stamp_is_raised_first_and_the_old_version_gets_time_to_end(older: Stage, steps: Steps) -> None:
    older.tick()
    older.clock.sleep(IN_HAND.total_seconds() - 1)
    older.tick()
    older.drain()

    assert steps.done == []
    assert stamp_of(older)["schema"] == SCHEMA
    assert stamp_of(older)[TAKING_OVER]["from"] == SCHEMA - 1
    assert older.world.documents.read("run", "detect").value["taking over"].endswith(NOT_ENDED)  # type: ignore[union-attr]

    older.clock.sleep(1)
    older.tick()

    assert len(steps.done) == 1
    assert TAKING_OVER not in stamp_of(older)


def test_what_waited_is_delivered_once_all_is_taken_over(older: Stage, org: Org, steps: Steps) -> None:
    older.tick()
    older.clock.sleep(IN_HAND.total_seconds())
    older.sync()

    assert older.opportunities()[org.deal]["name"] == "Renamed"
    writes = older.writes()
    older.sync()
    assert older.writes() == writes


def test_the_time_given_is_as_long_as_the_host_lets_a_function_run() -> None:
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    hours, minutes, seconds = map(int, host["functionTimeout"].split(":"))

    assert timedelta(hours=hours, minutes=minutes, seconds=seconds) == IN_HAND


def test_a_step_that_was_killed_is_done_again(older: Stage, steps: Steps) -> None:
    steps.fails = 1
    older.tick()
    older.clock.sleep(IN_HAND.total_seconds())

    with pytest.raises(RuntimeError):
        older.tick()
    assert TAKING_OVER in stamp_of(older)
    older.tick()

    assert len(steps.done) == 2
    assert TAKING_OVER not in stamp_of(older)


def test_what_one_tick_cannot_do_the_next_one_goes_on_with(older: Stage, steps: Steps) -> None:
    steps.enough = False
    older.tick()
    older.clock.sleep(IN_HAND.total_seconds())
    older.tick()
    assert TAKING_OVER in stamp_of(older)
    assert steps.done == [older.clock.monotonic() + 360]

    steps.enough = True
    older.tick()

    assert TAKING_OVER not in stamp_of(older)


def test_two_who_begin_at_once_take_over_once(older: Stage, steps: Steps) -> None:
    read, raced = older.world.documents.read, []

    def read_and_lose(kind: str, name: str) -> Any:
        found = read(kind, name)
        if (kind, name) == PAIR and not raced:
            raced.append(True)
            stamped(older, witnesses={})
        return found

    older.world.documents.read = read_and_lose  # type: ignore[method-assign]
    with pytest.raises(TakingOver, match="another instance"):
        take_over(older.world, until=1e9)

    assert stamp_of(older)["schema"] == SCHEMA - 1


def test_two_versions_on_in_one_go_take_the_steps_of_both(
    older: Stage, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version began to take over; before it had ended, the next one is deployed."""
    older.tick()
    second = Steps()
    for module in (guard, migrations):
        monkeypatch.setattr(module, "SCHEMA", SCHEMA + 1)
    older.world = replace(older.world, migrations={**older.world.migrations, SCHEMA: second})
    older.engine = Engine(older.world)

    older.tick()
    assert stamp_of(older)[TAKING_OVER]["from"] == SCHEMA - 1
    older.clock.sleep(IN_HAND.total_seconds())
    older.tick()

    assert (len(steps.done), len(second.done)) == (1, 1)
    assert stamp_of(older)["schema"] == SCHEMA + 1


def test_without_a_step_nothing_is_waited_for(older: Stage, org: Org) -> None:
    older.world = replace(older.world, migrations={})
    older.engine = Engine(older.world)

    older.sync()

    assert stamp_of(older)["schema"] == SCHEMA
    assert older.opportunities()[org.deal]["name"] == "Renamed"


def test_a_worker_of_the_old_version_writes_no_old_stamp(
    older: Stage, monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    """It has read the stamp, and asks Dynamics for its witnesses; meanwhile the new version raises it."""
    rows = older.world.source.rows

    def asked(*words: Any) -> Any:
        with monkeypatch.context() as ours:
            for module in (guard, migrations):
                ours.setattr(module, "SCHEMA", SCHEMA)
            older.engine.detect()
        return rows(*words)

    monkeypatch.setattr(older.world.source, "rows", asked)
    for module in (guard, migrations):
        monkeypatch.setattr(module, "SCHEMA", SCHEMA - 1)
    guard.check_pair(older.world)

    assert stamp_of(older)["schema"] == SCHEMA
    assert TAKING_OVER in stamp_of(older)


def test_the_stamp_says_which_version_writes(stage: Stage, org: Org) -> None:
    stage.sync()

    assert stamp_of(stage)["version"] == __version__
    assert stamp_of(stage)["schema"] == SCHEMA


def test_status_says_that_a_state_is_being_taken_over(
    older: Stage, told: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    older.tick()

    assert "taking over what an earlier version stored" in told("status")[1]
    assert "is being taken over" in Browser(a_site(older)).open().text


@pytest.mark.parametrize(("action", "status"), [("resync", 503), ("pause", 303)])
def test_from_the_page_little_is_done_to_what_is_not_taken_over_yet(
    older: Stage, org: Org, action: str, status: int
) -> None:
    browser = Browser(a_site(older))
    before = older.world.queue.lengths()

    asked = browser.open(f"actions/{action}", id=org.deal)
    done = browser.send(asked.forms["confirm"])

    assert done.status == status
    assert older.world.queue.lengths() == before
