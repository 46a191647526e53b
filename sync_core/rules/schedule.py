"""When a timer is due: NCRONTAB with six fields, as the Functions host reads SYNC_SCHEDULE, in UTC. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta

FIELDS = (("second", 0, 59), ("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 6))
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
NAMES: Mapping[str, Mapping[str, int]] = {
    "month": {name: number for number, name in enumerate(MONTHS, 1)},
    "weekday": {name: number for number, name in enumerate(WEEKDAYS)},
}
DAYS = 4 * 366  # a schedule may be for 29 February only


def last_due(schedule: str, before: datetime) -> datetime | None:
    """The last moment at or before *before* (UTC) at which *schedule* fires; None if it never does.

    Raises ValueError, saying which field is wrong.
    """
    seconds, minutes, hours, days, months, weekdays = _fields(schedule)
    times = [time(hour, minute, second) for hour in hours for minute in minutes for second in seconds]
    for back in range(DAYS):
        day = before.date() - timedelta(days=back)
        if day.day in days and day.month in months and day.isoweekday() % 7 in weekdays:
            moments = (datetime.combine(day, each, before.tzinfo) for each in reversed(times))
            if found := next((moment for moment in moments if moment <= before), None):
                return found
    return None


def _fields(schedule: str) -> Sequence[Sequence[int]]:
    parts = schedule.split()
    if len(parts) != len(FIELDS):
        raise ValueError(f"it must have six fields, not {len(parts)}")
    return [_numbers(part, *field) for part, field in zip(parts, FIELDS, strict=True)]


def _numbers(text: str, name: str, low: int, high: int) -> Sequence[int]:
    """The numbers that one field allows, in order: `*`, `5`, `1-5`, `*/10`, `8-18/2`, and lists of these."""
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin = low if span == "*" else _number(first, name)
        end = high if span == "*" or (step and not last) else _number(last or first, name)
        every = _number(step, name) if step else 1
        if not low <= begin <= end <= high or every < 1:
            raise ValueError(f"{part} is no {name}: {low} to {high}")
        found.update(range(begin, end + 1, every))
    return sorted(found)


def _number(text: str, name: str) -> int:
    named = NAMES.get(name, {}).get(text[:3].lower())
    if named is None and not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text or 'nothing'} is no {name}")
    return int(text) if named is None else named
