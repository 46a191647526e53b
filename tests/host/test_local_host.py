"""The local host keeps the Functions host's promises about queues and timers (azure.md §2, §3), on real Azurite."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.storage.queue import QueueClient

from tools.azurite import Azurite
from tools.local_host import HostError, LocalHost, TimerListener, seconds

REPOSITORY = Path(__file__).parent.parent.parent
APP = Path(__file__).parent / "fixture_app"
FAR_AWAY = "0 0 0 1 1 *"
EVERY_SECOND = "* * * * * *"


class Bench:
    """The fixture app with a queue, a host id and a journal of its own."""

    def __init__(self, storage: str, folder: Path) -> None:
        name = f"q{uuid.uuid4().hex}"
        self.journal = folder / "journal"
        self.lines: list[str] = []
        self.queue = QueueClient.from_connection_string(storage, name)
        self.poison = QueueClient.from_connection_string(storage, f"{name}-poison")
        self.settings = {
            "AzureWebJobsStorage": storage,
            "FIXTURE_STORAGE": storage,
            "FIXTURE_QUEUE": name,
            "FIXTURE_SCHEDULE": FAR_AWAY,
            "FIXTURE_JOURNAL": str(self.journal),
            "AzureFunctionsWebHost__hostid": name,
        }

    def host(self, *, lease: int = 600, timer_lock: float = 60, **settings: str) -> LocalHost:
        return LocalHost(APP, self.settings | settings, lease=lease, timer_lock=timer_lock, log=self.lines.append)

    def send(self, **content: object) -> None:
        self.queue.send_message(base64.b64encode(json.dumps(content).encode()).decode(), time_to_live=-1)

    def events(self, name: str) -> list[dict[str, Any]]:
        text = self.journal.read_text() if self.journal.exists() else ""
        return [event for event in map(json.loads, text.splitlines()) if event["event"] == name]

    def waiting(self) -> int | None:
        """Messages in the queue, visible or not."""
        return self.queue.get_queue_properties().approximate_message_count

    def poisoned(self) -> list[str]:
        return [base64.b64decode(message.content).decode() for message in self.poison.receive_messages()]


@pytest.fixture
def bench(azurite: Azurite, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(azurite.connection_string, tmp_path)
    with bench.queue, bench.poison:
        bench.queue.create_queue()
        yield bench


def wait_for(what: Callable[[], object], timeout: float = 15) -> None:
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@contextmanager
def running(host: LocalHost) -> Iterator[LocalHost]:
    """*host* with its listeners going, in a thread of its own."""
    stop = threading.Event()
    with host:
        thread = threading.Thread(target=host.run_forever, args=(stop,))
        thread.start()
        try:
            yield host
        finally:
            stop.set()
            thread.join()


def test_a_handled_message_is_deleted(bench: Bench) -> None:
    bench.send(hello="world")
    with bench.host() as host:
        assert host.run_once() == 1

    assert bench.waiting() == 0
    assert len(bench.events("worked")) == 1
    assert [line.split()[:2] for line in bench.lines] == [["work", "ok"]]


def test_an_absent_queue_is_an_empty_one(bench: Bench) -> None:
    with bench.host(FIXTURE_QUEUE="never-made") as host:
        assert host.run_until_idle() == 0


def test_the_function_learns_when_its_lease_ends(bench: Bench) -> None:
    bench.send()
    with bench.host(lease=600) as host:
        host.run_once()

    (event,) = bench.events("work")
    left = datetime.fromisoformat(event["lease_ends"]) - datetime.now(UTC)
    assert timedelta(seconds=590) < left <= timedelta(seconds=601)


def test_the_lease_is_renewed_while_the_function_runs(bench: Bench) -> None:
    bench.send(sleep=3.5)
    with running(bench.host(lease=2)):
        wait_for(lambda: bench.events("work"))
        time.sleep(2.6)

        assert bench.queue.receive_message() is None
        wait_for(lambda: bench.events("worked"))
    assert bench.waiting() == 0


def test_after_a_crash_the_message_returns_when_its_lease_is_over(bench: Bench) -> None:
    bench.send()
    bench.queue.receive_message(visibility_timeout=1)
    with bench.host() as host:
        assert host.run_once() == 0
        time.sleep(1.1)
        assert host.run_once() == 1

    assert [event["count"] for event in bench.events("work")] == [2]


def test_a_failed_message_stays_away_for_the_visibility_timeout(bench: Bench) -> None:
    bench.send(fail=True)
    with bench.host() as host:
        assert host.run_once() == 1
        assert host.run_once() == 0
        time.sleep(1.1)
        assert host.run_once() == 1

    assert [event["count"] for event in bench.events("work")] == [1, 2]
    assert "as the message says" in bench.lines[0]


def test_the_last_attempt_ends_in_the_poison_queue_with_the_body_alone(bench: Bench) -> None:
    bench.send(fail=True)
    with running(bench.host()):
        wait_for(lambda: bench.waiting() == 0)

    assert [event["count"] for event in bench.events("work")] == [1, 2, 3]
    assert bench.poisoned() == ['{"fail": true}']
    assert any("Message has reached MaxDequeueCount of 3" in line for line in bench.lines)


def test_a_message_received_too_often_is_poisoned_without_a_call(bench: Bench) -> None:
    bench.send(killed="every host so far")
    for _ in range(3):
        message = bench.queue.receive_message()
        assert message is not None
        bench.queue.update_message(message, visibility_timeout=0)
    with bench.host() as host:
        host.run_once()

    assert bench.events("work") == []
    assert bench.poisoned() == ['{"killed": "every host so far"}']


def test_a_message_that_is_not_base64_is_poisoned_without_a_call(bench: Bench) -> None:
    bench.queue.send_message("not base64!")
    with bench.host() as host:
        host.run_once()

    assert bench.events("work") == []
    assert [message.content for message in bench.poison.receive_messages()] == ["not base64!"]


def test_a_poison_queue_has_no_poison_queue_of_its_own(bench: Bench) -> None:
    with bench.host(FIXTURE_QUEUE="some-poison") as host:
        assert host.queues["work"].poison is None


def test_fields_of_the_body_replace_those_of_the_message(bench: Bench) -> None:
    """The host's trap: no message of ours may have such a field."""
    bench.send(dequeueCount=7, id="mine")
    with bench.host() as host:
        host.run_once()

    (event,) = bench.events("work")
    assert (event["id"], event["count"]) == ("mine", 7)


def test_an_unreadable_field_of_that_name_fails_before_our_code_runs(bench: Bench) -> None:
    bench.send(dequeueCount="many")
    with bench.host() as host:
        host.run_once()

    assert bench.events("work") == []
    assert "DequeueCount" in bench.lines[0]


def test_losing_the_message_while_working_is_only_logged(bench: Bench) -> None:
    bench.send(sleep=1)
    with running(bench.host()):
        wait_for(lambda: bench.events("work"))
        bench.queue.clear_messages()
        wait_for(lambda: len(bench.lines) == 2)

    assert "not ours any more" in bench.lines[1]


def test_settings_are_the_environment_while_the_host_is_open(bench: Bench) -> None:
    with bench.host():
        assert os.environ["FIXTURE_SCHEDULE"] == FAR_AWAY

    assert "FIXTURE_SCHEDULE" not in os.environ


def test_another_app_of_the_same_name_is_back_afterwards(bench: Bench) -> None:
    import function_app as ours

    with bench.host():
        assert sys.modules["function_app"] is not ours

    assert sys.modules["function_app"] is ours


def test_a_setting_named_by_a_trigger_must_be_there(bench: Bench) -> None:
    del bench.settings["FIXTURE_SCHEDULE"]

    with pytest.raises(HostError, match="missing settings: FIXTURE_SCHEDULE"), bench.host():
        pass


def test_a_disabled_function_is_left_alone(bench: Bench) -> None:
    with bench.host(**{"AzureWebJobs.tick.Disabled": "true"}) as host:
        assert (list(host.timers), list(host.queues)) == ([], ["work"])


@pytest.mark.parametrize(
    ("schedule", "moment", "slot"),
    [
        ("0 */5 * * * *", "2026-11-22T12:00:00", "2026-11-22T12:05:00"),
        ("*/10 * * * * *", "2026-11-22T12:00:01", "2026-11-22T12:00:10"),
        ("30 0 9 * * 1-5", "2026-11-21T10:00:00", "2026-11-23T09:00:30"),
        ("0 0 1 13 * 5", "2026-11-22T12:00:00", "2027-08-13T01:00:00"),  # Friday the 13th
    ],
)
def test_slots_of_a_schedule(bench: Bench, schedule: str, moment: str, slot: str) -> None:
    with bench.host(FIXTURE_SCHEDULE=schedule) as host:
        after = host.timers["tick"].slot_after(datetime.fromisoformat(moment + "+00:00"))

    assert after == datetime.fromisoformat(slot + "+00:00")


@pytest.mark.parametrize("schedule", ["*/5 * * * *", "0 */5 * * * * *", "every minute", "0 99 * * * *"])
def test_a_schedule_that_the_host_would_refuse(bench: Bench, schedule: str) -> None:
    with pytest.raises(HostError, match="NCRONTAB"), bench.host(FIXTURE_SCHEDULE=schedule):
        pass


def test_a_timer_can_be_called_at_once(bench: Bench) -> None:
    with bench.host() as host:
        assert host.run_timer("tick")

    assert [event["past_due"] for event in bench.events("tick")] == [False]


def test_a_timer_runs_at_its_slots_and_never_over_itself(bench: Bench) -> None:
    with running(bench.host(FIXTURE_SCHEDULE=EVERY_SECOND, FIXTURE_TICK_S="1.4")):
        wait_for(lambda: len(bench.events("ticked")) >= 3)

    assert_one_at_a_time(bench)


def test_a_first_start_waits_for_its_slot(bench: Bench) -> None:
    with running(bench.host()):
        time.sleep(1)

    assert bench.events("tick") == []


def test_slots_missed_while_no_host_ran_give_one_call(bench: Bench) -> None:
    with bench.host() as host:
        remember_a_slot(host.timers["tick"], datetime.now(UTC) - timedelta(days=900))
    with running(bench.host()):
        wait_for(lambda: bench.events("ticked"))
        time.sleep(0.5)

    assert [event["past_due"] for event in bench.events("tick")] == [True]


def remember_a_slot(timer: TimerListener, slot: datetime) -> None:
    timer.lock.remember(
        schedule=timer.schedule, next=slot, owner="a host that died", until=datetime.now(UTC) - timedelta(seconds=1)
    )


def test_a_changed_schedule_forgets_the_missed_slot(bench: Bench) -> None:
    with bench.host(FIXTURE_SCHEDULE="0 0 0 2 2 *") as host:
        remember_a_slot(host.timers["tick"], datetime.now(UTC) - timedelta(days=900))
    with running(bench.host()):
        time.sleep(1)

    assert bench.events("tick") == []


def test_two_hosts_share_one_timer_though_a_call_outlasts_the_lock(bench: Bench) -> None:
    busy = {"FIXTURE_SCHEDULE": EVERY_SECOND, "FIXTURE_TICK_S": "3.5"}
    with running(bench.host(timer_lock=2, **busy)), running(bench.host(timer_lock=2, **busy)):
        wait_for(lambda: len(bench.events("ticked")) >= 2)

    assert_one_at_a_time(bench)


def assert_one_at_a_time(bench: Bench) -> None:
    starts = [event["at"] for event in bench.events("tick")]
    ends = [event["at"] for event in bench.events("ticked")]
    assert len(starts) == len(ends)
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


def test_the_lock_of_a_host_that_died_is_taken_over_when_its_life_is_over(bench: Bench) -> None:
    with bench.host(timer_lock=1) as dead, bench.host(timer_lock=1) as heir:
        assert dead.timers["tick"].lock.hold()
        assert not heir.timers["tick"].lock.hold()
        time.sleep(1.1)

        assert heir.timers["tick"].lock.hold()
        assert not dead.timers["tick"].lock.hold()


def test_the_lock_outlives_its_life_while_the_function_runs(bench: Bench) -> None:
    with bench.host(timer_lock=2) as holder, bench.host(timer_lock=2) as other:
        assert holder.timers["tick"].lock.hold()
        with holder.timers["tick"].lock.kept():
            time.sleep(3.1)

            assert not other.timers["tick"].lock.hold()


def test_sigterm_lets_the_running_invocation_finish_and_takes_no_further_message(bench: Bench) -> None:
    bench.send(sleep=2)
    bench.send()
    command = [sys.executable, "-m", "tools.local_host", "--app", str(APP), "--timer-now"]
    with subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | bench.settings, stdout=subprocess.PIPE) as host:  # noqa: S603 - our own program
        wait_for(lambda: bench.events("work"))
        host.send_signal(signal.SIGTERM)
        output, _ = host.communicate(timeout=30)

    assert host.returncode == 0
    assert [line.split()[:2] for line in output.decode().splitlines() if "[" not in line] == [
        ["tick", "ok"],
        ["work", "ok"],
    ]
    assert bench.waiting() == 1


@pytest.mark.parametrize(
    ("span", "expected"), [("00:00:02", 2), ("00:05:00", 300), ("1.00:00:00", 86400), ("00:00:00.5000000", 0.5)]
)
def test_reads_time_spans(span: str, expected: float) -> None:
    assert seconds(span) == expected
