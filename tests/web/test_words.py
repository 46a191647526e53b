"""Numbers, ages and times as people read them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_core.web import words


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "–"),
        (-5, "0 seconds"),
        (0, "0 seconds"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "1 minute"),
        (7_199, "119 minutes"),
        (7_200, "2 hours"),
        (172_799, "47 hours"),
        (172_800, "2 days"),
        (10**8, "1,157 days"),
    ],
)
def test_an_age_is_told_in_its_largest_fitting_unit(seconds: float | None, told: str) -> None:
    assert words.age(seconds) == told


@given(st.integers(0, 10**9))
def test_an_age_is_never_told_as_longer_than_it_is(seconds: int) -> None:
    number, unit = words.age(seconds).replace(",", "").split()
    size = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}[unit.rstrip("s")]

    assert int(number) * size <= seconds < (int(number) + 1) * size


def test_a_time_is_told_in_utc_and_can_be_read_by_programs() -> None:
    told = '<time datetime="2026-03-02T07:00:05Z">2026-03-02 07:00 UTC</time>'

    assert words.moment("2026-03-02T08:00:05+01:00") == told
    assert words.moment(datetime.fromisoformat("2026-03-02T07:00:05+00:00")) == told
    assert "07:00:05 UTC" in words.moment("2026-03-02T07:00:05Z", seconds=True)
    assert words.moment(None) == words.moment("") == "–"


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "–"), ("", "–"), (0, "0"), (False, "no"), (True, "yes"), (["a", None], "a, –"), ([], "–"), (1.5, "1.5")],
)
def test_a_value_is_told_in_words(value: Any, told: str) -> None:
    assert words.plain(value) == told


def test_numbers_of_a_run() -> None:
    assert words.counts({"handled": 1_800, "posted": 0, "complete": True, "roles": 2}) == "1,800 handled, 2 roles"
    assert words.number(None) == "–"
    assert words.begun("a change in Dynamics") == "A change in Dynamics"
    assert words.ago("2026-03-02T08:00:00+00:00", "2026-03-02T08:03:00+00:00") == "3 minutes"
    assert words.ago(None, "") == "–"
