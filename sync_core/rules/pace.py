"""How fast a lane goes and when it will be empty, from its last deliveries. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sync_core.rules.words import counted

RUNS = 50  # ticks, and deliveries of each lane, that are remembered
LATELY = timedelta(hours=1)

Run = Mapping[str, Any]
"""`at`: when it ended (ISO, UTC), `seconds` that it took; of a delivery the `size` in ids, and how many were `done`."""


def with_one_more(runs: Sequence[Run], run: Run) -> list[Run]:
    """The latest, the new one last."""
    return [*runs, run][-RUNS:]


def forecast(messages: int, runs: Sequence[Run], now: datetime) -> dict[str, int | None]:
    """About: what *messages* hold, if they are like those of lately, and the minutes they take at the pace of lately.

    None is what nobody can tell: of messages when none was delivered within an hour, of minutes when none got on. The
    pace is that of the time in which somebody was at work: pauses don't count, and several at once count together.
    """
    late = [run for run in runs if datetime.fromisoformat(run["at"]) > now - LATELY]
    ids, done = (sum(run[name] for run in late) for name in ("size", "done"))
    busy = _busy([(datetime.fromisoformat(run["at"]).timestamp(), run["seconds"]) for run in late])
    left = messages * ids / len(late) if late else None
    minutes = left * busy / done / 60 if left is not None and done else None
    return {
        "messages": messages,
        "records": 0 if not messages else None if left is None else round(left),
        "records a minute lately": round(done * 60 / busy) if busy else None,
        "minutes until empty": 0 if not messages else None if minutes is None else max(1, -int(-minutes // 1)),
    }


def _busy(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds in which at least one of the spans (end, length) lies."""
    total, until = 0.0, 0.0
    for begin, end in sorted((end - length, end) for end, length in spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def at_least(calls: int, shares: tuple[int, int], used: int) -> dict[str, int]:
    """The minutes and days that so many Marketo calls take within our *shares* (in 20 seconds, a day); *used* today."""
    today = max(0, shares[1] - used)
    return {
        "minutes at least": -(-calls * 20 // (shares[0] * 60)),
        "days at least": 1 + max(0, -(-(calls - today) // shares[1])),
    }


def percentiles(ages: Sequence[float]) -> list[float]:
    """The median and the 99th percentile, by nearest rank: values that occurred."""
    ordered = sorted(ages)
    return [round(ordered[-(-len(ordered) * percent // 100) - 1], 1) for percent in (50, 99)]


def in_words(found: dict[str, int | None]) -> str:
    """`about 56 messages, empty in 42 minutes`."""
    messages, minutes = found["messages"] or 0, found["minutes until empty"]
    told = f"about {counted(messages, 'message')}"
    return told if minutes is None else f"{told}, empty in {counted(minutes, 'minute')}"
