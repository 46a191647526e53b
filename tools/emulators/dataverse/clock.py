"""A clock that a test can move. All times are UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

WIRE = "%Y-%m-%dT%H:%M:%SZ"


def wire_time(moment: datetime) -> str:
    """`2023-04-07T21:59:01Z`: how the Web API writes a time (dataverse.md §6.2)."""
    return moment.astimezone(UTC).strftime(WIRE)


def parse_time(text: str) -> datetime:
    """An ISO time or date; without an offset it is UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Clock:
    """Stands still at *start*; without one it goes with the computer's. `advance` and `set` shift either."""

    def __init__(self, start: str | None = None) -> None:
        self._frozen = parse_time(start) if start else None
        self._shift = timedelta()

    def now(self) -> datetime:
        return (self._frozen or datetime.now(UTC)) + self._shift

    @property
    def frozen(self) -> bool:
        return self._frozen is not None

    def advance(self, seconds: float) -> None:
        self._shift += timedelta(seconds=seconds)

    def set(self, moment: datetime) -> None:
        self._shift += moment - self.now()
