"""The emulator's own time: it flows with the machine's, or stands still until moved."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime


class Clock:
    """Seconds since the epoch, shifted at will; tests of windows and expiries never sleep."""

    def __init__(self, start: str | None = None, *, frozen: bool = False) -> None:
        self._frozen_at: float | None = time.time() if frozen else None
        self._offset = 0.0
        self.moved: Callable[[], None] = lambda: None  # told after each shift
        if start is not None:
            self.set(start)

    def now(self) -> float:
        return (time.time() if self._frozen_at is None else self._frozen_at) + self._offset

    def advance(self, seconds: float) -> None:
        self._offset += seconds
        self.moved()

    def set(self, instant: str) -> None:
        self._offset += parse(instant) - self.now()
        self.moved()

    def freeze(self, frozen: bool) -> None:
        """Stop or restart the flow of time without a jump."""
        now = self.now()
        self._frozen_at = time.time() if frozen else None
        self._offset += now - self.now()
        self.moved()

    @property
    def frozen(self) -> bool:
        return self._frozen_at is not None

    def stamp(self) -> str:
        return iso(self.now())


def parse(instant: str) -> float:
    """Epoch seconds of an ISO instant; one without an offset counts as UTC."""
    moment = datetime.fromisoformat(instant)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def iso(seconds: float) -> str:
    """UTC, whole seconds, `Z`: how Marketo returns datetimes (marketo.md §3.0)."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
