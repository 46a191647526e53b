"""How fast a lane goes, from its last deliveries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_core.rules.pace import RUNS, Run, forecast, in_words, with_one_more

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def ended(seconds_ago: float, took: float = 60.0, ids: int = 1800, done: int = 1800) -> Run:
    at = (NOW - timedelta(seconds=seconds_ago)).isoformat()
    return {"at": at, "seconds": took, "size": ids, "done": done}


def test_what_is_left_is_taken_to_be_like_what_was_delivered() -> None:
    found = forecast(56, [ended(60), ended(0)], NOW)

    assert found == {
        "messages": 56,
        "records": 100_800,
        "records a minute lately": 1800,
        "minutes until empty": 56,
    }


def test_several_at_once_are_faster_together() -> None:
    assert forecast(10, [ended(0), ended(0)], NOW)["minutes until empty"] == 5


def test_pauses_between_deliveries_do_not_count() -> None:
    assert forecast(1, [ended(3000), ended(0)], NOW)["records a minute lately"] == 1800


def test_what_was_put_back_is_not_done() -> None:
    assert forecast(2, [ended(60), ended(0, done=0)], NOW)["records a minute lately"] == 900


@pytest.mark.parametrize("recent", [[], [ended(7200)]])
def test_nobody_can_tell_when_nothing_was_delivered_lately(recent: list[tuple[str, float, int, int]]) -> None:
    found = forecast(3, recent, NOW)

    assert (found["records"], found["minutes until empty"]) == (None, None)
    assert in_words(found) == "about 3 messages"


def test_nobody_can_tell_when_nothing_got_on() -> None:
    assert forecast(3, [ended(0, done=0)], NOW)["minutes until empty"] is None


def test_an_empty_lane_is_empty_now() -> None:
    found = forecast(0, [], NOW)

    assert (found["records"], found["minutes until empty"]) == (0, 0)


def test_what_is_left_takes_a_minute_at_least() -> None:
    runs = [{"at": NOW.isoformat(), "seconds": 0.0, "size": 300, "done": 300}]

    assert forecast(1, runs, NOW)["minutes until empty"] == 1


def test_in_words() -> None:
    assert in_words(forecast(1, [ended(0)], NOW)) == "about 1 message, empty in 1 minute"


@given(st.lists(st.tuples(st.floats(0, 7200), st.floats(0, 600), st.integers(1, 1900), st.integers(0, 1900))))
def test_any_deliveries_give_numbers_that_are_none_below_zero(given_: list[tuple[float, float, int, int]]) -> None:
    recent: list[object] = []
    for delivery in given_:
        recent = with_one_more(recent, ended(*delivery))  # type: ignore[arg-type]

    assert len(recent) <= RUNS
    assert all(number is None or number >= 0 for number in forecast(5, recent, NOW).values())  # type: ignore[arg-type]
