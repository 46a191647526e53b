"""What operators do is told, done once, and written into the audit log."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from sync_core import cli
from sync_core.errors import Unavailable
from sync_core.flows import actions
from sync_core.flows.status import ACTION, status
from sync_core.messages import decode
from sync_core.model import LedgerRow, State
from tests.flows.org import Org
from tests.flows.test_validate import a_setup
from tests.stage import Stage

WHO = "function key"
REASON = "1003: a value is invalid (name)"


def latest(stage: Stage) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = status(stage.world)["actions"]
    return entries


def an_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


def fill(stage: Stage, state: State, reason: str = REASON, ids: range = range(3)) -> list[str]:
    rows = [LedgerRow(an_id(number), state=state, reason=reason) for number in ids]
    assert stage.world.opportunities.write(rows) == set()
    return [row.id for row in rows]


def queued(stage: Stage) -> list[str]:
    return [key for message in stage.world.queue.queues["fresh"] for key in decode(message.body).opportunities]


def test_the_latest_entry_comes_first(stage: Stage) -> None:
    actions.pause(stage.world, "cleaning up", who=WHO)
    actions.pause(stage.world, "still", who=WHO)  # in the same microsecond
    stage.clock.sleep(3600)
    actions.resume(stage.world, who="entra:x")

    entries = latest(stage)

    assert entries[0] == {"at": "2026-03-02T09:00:00+00:00", "who": "entra:x", "what": "resumed the sync"}
    was = "it was paused already, since 2026-03-02 08:00 UTC"
    assert entries[1]["what"] == f"pause: {was}; the reason is another one now: still"
    assert len(latest(stage)) == 3


def test_a_group_is_redriven_by_its_exact_reason(stage: Stage) -> None:
    wanted = fill(stage, State.PARKED)
    fill(stage, State.PARKED, REASON + " and more", range(10, 12))
    fill(stage, State.WAITING, REASON, range(20, 22))

    found = actions.of_group(stage.world, "opportunity", "parked", REASON)
    done = actions.redrive(stage.world, found, f"parked, {REASON}", who=WHO)

    assert sorted(queued(stage)) == wanted
    assert done.values == {"queued": 3}
    assert done.what == f"queued 3 records again: parked, {REASON}"
    assert actions.done(stage.world, done.entry) == done.what


def test_no_state_but_those_of_failures_makes_a_group(stage: Stage, org: Org) -> None:
    stage.sync()

    assert list(actions.of_group(stage.world, "opportunity", "in step", "")) == []


def test_held_removals_are_not_tried_again(stage: Stage) -> None:
    fill(stage, State.HELD)

    assert list(actions.to_retry(stage.world)) == []


def test_of_held_removals_only_the_named_pass(stage: Stage) -> None:
    held = fill(stage, State.HELD)
    parked = fill(stage, State.PARKED, ids=range(10, 11))

    done = actions.approve_removals(stage.world, [held[1], *parked], who=WHO)

    assert done.values == {"approved": 1}
    rows = stage.world.opportunities.rows([*held, *parked])
    assert [key for key, row in rows.items() if row.approved] == [held[1]]


def test_what_ends_early_says_so_and_what_dies_stays_begun(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise Unavailable("the queues give no answer")

    monkeypatch.setattr(stage.world.queue, "put", fails)
    with pytest.raises(Unavailable):
        actions.resync(stage.world, [an_id(1)], who=WHO)
    assert latest(stage)[0]["what"].endswith("ended early, the queues give no answer")

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    stage.clock.sleep(1)
    monkeypatch.setattr(stage.world.queue, "put", dies)
    with pytest.raises(KeyboardInterrupt):
        actions.resync(stage.world, [an_id(1)], who=WHO)
    assert latest(stage)[0]["what"] == f"resync of {an_id(1)}: begun, its end is not noted"


def test_a_log_that_fails_at_the_end_does_not_undo_what_was_done(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    write = stage.world.documents.write

    def once(kind: str, name: str, value: Any, ticket: str | None) -> str | None:
        if kind == ACTION and ticket:
            raise Unavailable("storage gives no answer")
        return write(kind, name, value, ticket)

    monkeypatch.setattr(stage.world.documents, "write", once)

    assert actions.resync(stage.world, [an_id(1)], who=WHO).values == {"queued": 1}
    assert "begun" in latest(stage)[0]["what"]


def test_many_ids_are_told_by_number_and_a_long_reason_is_cut(stage: Stage) -> None:
    assert actions.named([an_id(number) for number in range(6)]) == "6 records"

    actions.pause(stage.world, "a\n" * 500, who=WHO)

    assert len(latest(stage)[0]["what"]) <= actions.LONGEST_WHY + 20


@pytest.mark.parametrize("entry", ["", "x", "²", "1/2", "9" * 30, "1"])
def test_an_entry_that_is_none_says_nothing(stage: Stage, entry: str) -> None:
    assert actions.done(stage.world, entry) == ""


def test_the_check_keeps_its_warnings_and_nothing_that_is_well(stage: Stage, org: Org) -> None:
    stage.sync()

    checks, done = actions.check(a_setup(stage, schedule="never"), who=WHO)

    kept = stage.world.documents.read(*actions.WARNINGS)
    assert kept is not None
    assert kept.value["at"] == stage.clock.now().isoformat(timespec="seconds")
    assert {each["light"] for each in kept.value["checks"]} == {"red"}
    assert kept.value["checks"][0].keys() == {"group", "name", "light", "found", "remedy"}
    assert done is not None
    assert "1 red" in done.what
    assert len(checks) > len(kept.value["checks"])


def test_without_storage_the_check_is_only_told(stage: Stage) -> None:
    found = a_setup(stage, problems=[("AzureWebJobsStorage", "AzureWebJobsStorage is missing")])

    checks, done = actions.check(found, who=WHO)

    assert checks
    assert done is None
    assert stage.world.documents.read(*actions.WARNINGS) is None


# --- the commands -----------------------------------------------------------------------------------------------


def test_the_commands_write_down_who_asked(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)
    monkeypatch.setenv("LOGNAME", "operator")
    stage.sync()
    held = fill(stage, State.HELD, "removals held: 3")
    commands = {
        ("resync", org.deal): f"queued to be looked at again, trusting no memory: {org.deal}",
        ("failures", "redrive", "--state", "parked"): "queued 0 records again: all parked",
        ("approve-removals", "--yes"): f"approved {len(held)} removals",
        ("backfill",): "backfill: everything is looked at again from the next tick on",
        ("backfill", "--since", "2026-01-01"): "backfill: queued 1 opportunity changed since 2026-01-01T00:00+00:00",
        ("pause", "--why", "a test"): "paused the sync: a test",
        ("resume",): "resumed the sync",
    }
    for command, what in commands.items():
        stage.clock.sleep(timedelta(seconds=1).total_seconds())
        assert cli.main(command) == cli.GOOD
        assert latest(stage)[0] == {
            "at": stage.clock.now().isoformat(timespec="seconds"),
            "who": "command line: operator",
            "what": what,
        }
    stage.clock.sleep(1)
    assert cli.main(["repoint", "--confirm", "--json"]) == cli.GOOD
    assert latest(stage)[0]["what"].startswith("repoint: accepted organization ")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["accepted"]["munchkin"] == "123-EMU-456"


def test_nobody_but_a_user_of_the_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(cli.getpass, "getuser", nobody)

    assert cli._who() == "command line"
