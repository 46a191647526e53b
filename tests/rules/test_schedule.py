"""When the timer was last due, by NCRONTAB."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sync_core.rules.schedule import last_due

NOW = datetime(2026, 3, 2, 8, 7, 30, tzinfo=UTC)  # a Monday


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        ("0 */5 * * * *", "2026-03-02T08:05:00"),
        ("* * * * * *", "2026-03-02T08:07:30"),
        ("31 7 8 * * *", "2026-03-01T08:07:31"),
        ("0 0 3 * * MON-FRI", "2026-03-02T03:00:00"),
        ("0 0 9 * * Mon-Fri", "2026-02-27T09:00:00"),
        ("0,30 */10 6-18/2 * * *", "2026-03-02T08:00:30"),
        ("0 30/10 * * * *", "2026-03-02T07:50:00"),
        ("0 0 0 31 * *", "2026-01-31T00:00:00"),
        ("0 0 0 1 january *", "2026-01-01T00:00:00"),
        ("0 0 0 29 2 *", "2024-02-29T00:00:00"),
        ("0 0 0 * * 0", "2026-03-01T00:00:00"),
    ],
)
def test_the_last_time_at_which_it_fired(schedule: str, due: str) -> None:
    assert last_due(schedule, NOW) == datetime.fromisoformat(due).replace(tzinfo=UTC)


def test_a_day_that_never_comes() -> None:
    assert last_due("0 0 0 30 2 *", NOW) is None


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("*/5 * * * *", "must have six fields, not 5"),
        ("60 * * * * *", "60 is no second: 0 to 59"),
        ("0 0 24 * * *", "24 is no hour"),
        ("0 0 0 0 * *", "0 is no day: 1 to 31"),
        ("0 0 0 * 13 *", "13 is no month"),
        ("0 0 0 * * 7", "7 is no weekday"),
        ("0 30-10 * * * *", "30-10 is no minute"),
        ("0 */0 * * * *", "is no minute"),
        ("0 5-*/2 * * * *", "is no minute"),
        ("0 , * * * *", "nothing is no minute"),
        ("0 mon * * * *", "mon is no minute"),
    ],
)
def test_what_is_no_schedule_is_told_by_field(schedule: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        last_due(schedule, NOW)
