"""Service protection: limits per user and web server over a sliding window (dataverse.md §5)."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tools.emulators.dataverse.clock import Clock
from tools.emulators.dataverse.errors import DataverseError

AT_MOST = 600  # seconds that a growing Retry-After reaches
BUSY = 5  # seconds told to a call too many at a time


@dataclass(frozen=True, slots=True)
class Facet:
    code: str
    limit: int
    message: str


FACETS: Mapping[str, Facet] = {
    "requests": Facet(
        "0x80072322",
        6000,
        "Number of requests exceeded the limit of {limit} over time window of {window} seconds.",
    ),
    "time": Facet(
        "0x80072321",
        1_200_000,
        "Combined execution time of incoming requests exceeded limit of {limit:,} milliseconds over time window of "
        "{window} seconds. Decrease number of concurrent requests or reduce the duration of requests and try again "
        "later.",
    ),
    "concurrency": Facet("0x80072326", 52, "Number of concurrent requests exceeded the limit of {limit}."),
}


def throttled(facet: str, *, limit: int, window: int = 300, retry_after: int | None) -> DataverseError:
    known = FACETS[facet]
    return DataverseError(429, known.code, known.message.format(limit=limit, window=window), retry_after)


class Patience:
    """A Retry-After that doubles for whoever comes back too early."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[str, tuple[float, int]] = {}

    def told(self, facet: str, seconds: int) -> int:
        now = self._clock.now().timestamp()
        until, last = self._told.get(facet, (0.0, 0))
        grown = min(max(2 * last, seconds), AT_MOST) if now < until else seconds
        self._told[facet] = now + grown, grown
        return grown


@dataclass(slots=True)
class Load:
    """What one user keeps one web server busy with."""

    patience: Patience
    running: int = 0
    arrivals: deque[float] = field(default_factory=deque)
    spent: deque[tuple[float, float]] = field(default_factory=deque)  # (end, seconds)

    def forget(self, before: float) -> None:
        while self.arrivals and self.arrivals[0] <= before:
            self.arrivals.popleft()
        while self.spent and self.spent[0][0] <= before:
            self.spent.popleft()


class Protection:
    """The limits of the switches; 0 is no limit. Callers hold the organization's lock."""

    def __init__(self, clock: Clock, switches: Mapping[str, Any]) -> None:
        self.patience = Patience(clock)
        self._clock = clock
        self._switches = switches
        self._loads: dict[tuple[str, int], Load] = {}
        self._turns = itertools.count()

    def server(self, affinity: str | None) -> int:
        """The web server a cookie is bound to; without one, each in turn."""
        servers = max(1, int(self._switches["web_servers"]))
        number = (affinity or "").partition("-")[0]
        return (int(number) if number.isdecimal() else next(self._turns)) % servers

    def enter(self, user: str, server: int) -> float:
        """The time of arrival, to be given back to `leave`; a DataverseError (429) when there is no room."""
        load, now, limits = self._load(user, server), self._clock.now().timestamp(), self._switches
        window = int(limits["limit_window_s"])
        load.forget(now - window)
        if 0 < limits["limit_concurrency"] <= load.running:
            raise self._refusal(load, "concurrency", limits["limit_concurrency"], window, BUSY)
        if 0 < limits["limit_requests"] <= len(load.arrivals):
            room = load.arrivals[0] + window - now
            raise self._refusal(load, "requests", limits["limit_requests"], window, room)
        if 0 < limits["limit_time_s"] <= sum(seconds for _, seconds in load.spent):
            room = load.spent[0][0] + window - now
            raise self._refusal(load, "time", round(limits["limit_time_s"] * 1000), window, room)
        load.running += 1
        load.arrivals.append(now)
        return now

    def leave(self, user: str, server: int, arrival: float) -> None:
        load, now = self._load(user, server), self._clock.now().timestamp()
        load.running -= 1
        load.spent.append((now, now - arrival))

    def remaining(self, user: str, server: int) -> int:
        """Requests left in the window, as `x-ms-ratelimit-burst-remaining-xrm-requests` tells them."""
        limit = self._switches["limit_requests"] or FACETS["requests"].limit
        return max(0, int(limit) - len(self._load(user, server).arrivals))

    def _load(self, user: str, server: int) -> Load:
        return self._loads.setdefault((user, server), Load(Patience(self._clock)))

    def _refusal(self, load: Load, facet: str, limit: int, window: int, room: float) -> DataverseError:
        told = load.patience.told(facet, max(1, math.ceil(room)))
        return throttled(facet, limit=limit, window=window, retry_after=told)
