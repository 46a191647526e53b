"""Writes that Marketo applies after the caller has given up on them (marketo.md §7 item 14)."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable

from .clock import Clock

Work = Callable[[], None]


class LateWrites:
    """Work by the time it is due. Done at the next request, when the clock is moved, or by a timer while it runs."""

    def __init__(self, clock: Clock, lock: threading.RLock) -> None:
        self._clock = clock
        self._lock = lock
        self._waiting: list[tuple[float, int, Work]] = []
        self._numbers = itertools.count()
        self._timer: threading.Timer | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, due: float, work: Work) -> None:
        with self._lock:
            heapq.heappush(self._waiting, (due, next(self._numbers), work))
            self._arm()

    def settle(self) -> None:
        """Do what is due, in the order of its time."""
        with self._lock:
            while self._waiting and self._waiting[0][0] <= self._clock.now():
                heapq.heappop(self._waiting)[2]()
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting and not self._clock.frozen:
            self._timer = threading.Timer(max(0.0, self._waiting[0][0] - self._clock.now()), self.settle)
            self._timer.daemon = True
            self._timer.start()
