"""Rate, concurrency and daily quota of the whole subscription, and the usage reports (marketo.md §2, §3.7)."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from datetime import UTC, date, datetime, timedelta
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

from .clock import Clock
from .errors import ApiError
from .switches import Switches

OTHERS = "other-integrations@example.test"


class Usage:
    """Calls per day and user, errors per day and code. A day begins when the quota is reset."""

    def __init__(self, clock: Clock, switches: Switches) -> None:
        self.clock = clock
        self.switches = switches
        self.calls: defaultdict[date, Counter[str]] = defaultdict(Counter)
        self.errors: defaultdict[date, Counter[str]] = defaultdict(Counter)

    def today(self) -> date:
        """`06:00Z` resets at that hour in UTC, a zone name at its midnight (marketo.md §2)."""
        now, reset = datetime.fromtimestamp(self.clock.now(), UTC), self.switches.quota_reset
        if not reset.endswith("Z"):
            return now.astimezone(ZoneInfo(reset)).date()
        hours, minutes = reset[:-1].split(":")
        return (now - timedelta(hours=int(hours), minutes=int(minutes))).date()

    def used(self) -> int:
        return self.calls[self.today()].total() + self.switches.background_daily

    def report(self, days: int) -> list[dict[str, Any]]:
        """`[{date, total, users: [{userId, count}]}]`, the latest day first."""
        return [self._day(day, self._callers(day), "users", "userId") for day in self._last(days)]

    def error_report(self, days: int) -> list[dict[str, Any]]:
        """`[{date, total, errors: [{errorCode, count}]}]`, the latest day first."""
        return [self._day(day, self.errors[day], "errors", "errorCode") for day in self._last(days)]

    def _last(self, days: int) -> list[date]:
        return [self.today() - timedelta(days=each) for each in range(days)]

    def _callers(self, day: date) -> Counter[str]:
        others = self.switches.background_daily if day == self.today() else 0
        return self.calls[day] + Counter({OTHERS: others})

    @staticmethod
    def _day(day: date, counts: Counter[str], name: str, key: str) -> dict[str, Any]:
        items = [{key: each, "count": count} for each, count in counts.most_common()]
        return {"date": day.isoformat(), "total": counts.total(), name: items}


class Gate:
    """Lets a call in, or refuses it with 607, 606 or 615."""

    def __init__(self, clock: Clock, switches: Switches, usage: Usage) -> None:
        self.clock = clock
        self.switches = switches
        self.usage = usage
        self.in_flight = 0
        self._recent: deque[float] = deque()

    def enter(self, user: str) -> None:
        if refusal := self._refusal():
            self.refuse(user, refusal)
        self.usage.calls[self.usage.today()][user] += 1
        self._recent.append(self.clock.now())
        self.in_flight += 1

    def refuse(self, user: str, refusal: ApiError) -> NoReturn:
        if self.switches.refused_calls_count:  # U15
            self.usage.calls[self.usage.today()][user] += 1
        raise refusal

    def hold(self) -> None:
        """Another slot for work that outlives its call; `leave` frees it."""
        self.in_flight += 1

    def leave(self) -> None:
        self.in_flight -= 1

    def _refusal(self) -> ApiError | None:
        limits = self.switches
        if self.usage.used() >= limits.daily_quota:
            return ApiError("607", "Daily quota reached")
        if self._in_window() + limits.background_calls >= limits.rate_limit:
            message = f"Max rate limit '{limits.rate_limit}' exceeded with in '{limits.rate_window:g}' secs"
            return ApiError("606", message)
        if self.in_flight + limits.background_in_flight >= limits.concurrency:
            return ApiError("615", "Concurrent access limit reached")
        return None

    def _in_window(self) -> int:
        begin = self.clock.now() - self.switches.rate_window
        while self._recent and self._recent[0] <= begin:
            self._recent.popleft()
        return len(self._recent)
