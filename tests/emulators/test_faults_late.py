"""Marketo's writes whose answer is lost, and those that are done after the caller has given up."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.emulators.marketo_caller import OPPORTUNITIES, Api, code


@pytest.fixture
def api() -> Api:
    return Api()


def test_the_answer_of_a_write_may_be_lost(api: Api) -> None:
    api.plan("lost", times=1)
    with pytest.raises(ConnectionResetError):
        api.write("A")

    assert api.names() == ["A"]
    assert (api.entry.executed, api.entry.status, api.entry.statuses) == (True, 0, {"created": 1})
    assert api.write("A")["result"][0]["status"] == "updated"


def test_a_write_may_be_done_and_answered_with_a_timeout(api: Api) -> None:
    api.plan("lost_604")

    assert code(api.write("A")) == "604"
    assert api.names() == ["A"]
    assert (api.entry.executed, api.entry.codes, api.entry.statuses) == (True, ["604"], {"created": 1})


def late(api: Api, fault: str, name: str, seconds: float) -> None:
    api.plan(fault, seconds=seconds)
    if fault == "late":
        with pytest.raises(ConnectionResetError):
            api.write(name)
    else:
        assert code(api.write(name)) == "604"
    api.app.faults.clear()


@pytest.mark.parametrize("fault", ["late", "late_604"])
def test_a_late_write_is_done_when_its_time_has_come(api: Api, fault: str) -> None:
    late(api, fault, "A", 30)
    entry = api.entry
    assert (entry.late, entry.executed, api.names()) == (True, False, [])

    api.state.clock.advance(29.9)
    assert api.names() == []
    api.state.clock.advance(0.1)

    assert api.names() == ["A"]
    assert (entry.executed, entry.executed_at - entry.time) == (True, 30)
    assert entry.statuses == {"created": 1}
    assert entry.codes == (["604"] if fault == "late_604" else [])


def test_late_writes_come_in_the_order_of_their_time(api: Api) -> None:
    for name, seconds in (("second", 20), ("third", 30), ("first", 10)):
        late(api, "late_604", name, seconds)
    api.state.clock.advance(60)

    assert api.names() == ["first", "second", "third"]


def test_a_late_write_overwrites_what_was_written_meanwhile(api: Api) -> None:
    record = {"externalOpportunityId": "A"}
    api.plan("late_604", seconds=10)
    api.post(OPPORTUNITIES, {**record, "name": "old"})
    api.app.faults.clear()
    api.post(OPPORTUNITIES, {**record, "name": "new"})
    api.state.clock.advance(10)

    assert api.state.rows("opportunities")[0]["name"] == "old"


def test_a_call_whose_connection_broke_keeps_its_slot_until_it_is_done(api: Api) -> None:
    late(api, "late", "A", 30)
    late(api, "late_604", "B", 30)
    api.get()
    assert api.entry.in_flight == 2

    api.state.clock.advance(30)
    api.get()
    assert api.entry.in_flight == 1
    assert api.state.journal.entries[1].end == api.state.now()


def test_a_late_write_that_is_refused_says_so_in_the_journal_only(api: Api) -> None:
    api.plan("late", seconds=5)
    with pytest.raises(ConnectionResetError):
        api.post(OPPORTUNITIES, {"externalOpportunityId": "A", "externalSalesPersonId": "nobody"})
    api.state.clock.advance(5)
    written = api.state.journal.entries[-1]

    assert (written.executed, written.codes, api.state.gate.in_flight) == (False, ["718"], 0)


def until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_a_late_write_comes_by_itself_while_the_clock_runs() -> None:
    api = Api(frozen=False, start=None)
    late(api, "late", "B", 0.4)
    late(api, "late", "A", 0.2)
    assert api.names() == []
    until(lambda: len(api.names()) == 2)

    assert api.names() == ["A", "B"]


def test_a_clock_that_starts_to_run_takes_late_writes_along(api: Api) -> None:
    late(api, "late", "A", 0.2)
    time.sleep(0.3)
    assert api.names() == []
    api.state.clock.freeze(False)
    until(lambda: api.names() == ["A"])
