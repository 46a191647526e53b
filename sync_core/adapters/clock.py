"""The only place that asks the machine for the time or waits."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """Port `Clock` over the machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))
