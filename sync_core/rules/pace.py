"""How fast a lane goes and when it will be empty, from its last deliveries. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sync_core.rules.words import counted

RECENT = 20  # deliveries that are remembered
LATELY = timedelta(hours=1)

Delivery = Sequence[Any]
"""When it ended (ISO, UTC), how many seconds it took, how many ids it held and how many of them it finished."""


def with_one_more(recent: Sequence[Delivery], delivery: Delivery) -> list[Delivery]:
    """The latest, the new one last."""
    return [*recent, delivery][-RECENT:]


def forecast(messages: int, recent: Sequence[Delivery], now: datetime) -> dict[str, int | None]:
    """About: what *messages* hold, if they are like those of lately, and the minutes they take at the pace of lately.

    None is what nobody can tell: of messages when none was delivered within an hour, of minutes when none got on. The
    pace is that of the time in which somebody was at work: pauses don't count, and several at once count together.
    """
    late = [each for each in recent if datetime.fromisoformat(each[0]) > now - LATELY]
    ids, done = (sum(each[place] for each in late) for place in (2, 3))
    busy = _busy([(datetime.fromisoformat(each[0]).timestamp(), each[1]) for each in late])
    left = messages * ids / len(late) if late else None
    minutes = left * busy / done / 60 if left is not None and done else None
    return {
        "messages": messages,
        "records": 0 if not messages else None if left is None else round(left),
        "records a minute lately": round(done * 60 / busy) if busy else None,
        "minutes until empty": 0 if not messages else None if minutes is None else -int(-minutes // 1),
    }


def _busy(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds in which at least one of the spans (end, length) lies."""
    total, until = 0.0, 0.0
    for begin, end in sorted((end - length, end) for end, length in spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def percentiles(ages: Sequence[float]) -> list[float]:
    """The median and the 99th percentile, by nearest rank: values that occurred."""
    ordered = sorted(ages)
    return [round(ordered[-(-len(ordered) * percent // 100) - 1], 1) for percent in (50, 99)]


def in_words(found: dict[str, int | None]) -> str:
    """`about 56 messages, empty in 42 minutes`."""
    messages, minutes = found["messages"] or 0, found["minutes until empty"]
    told = f"about {counted(messages, 'message')}"
    return told if minutes is None else f"{told}, empty in {counted(minutes, 'minute')}"
