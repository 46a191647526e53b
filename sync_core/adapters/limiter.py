"""Marketo's limits, shared by all our instances through one document that is changed by compare-and-swap.

* Rate: the times of the calls of the last 20 seconds stand in the document, so no window of 20 seconds ever
  holds more than our share. A bucket can't promise that for small shares: burst + refill must fit in it.
* Concurrency: a slot is a lease, given back when an answer came; without one it lapses by itself, since Marketo
  may still be at work on the request.
* Day: calls are counted before they are sent, from quota reset to quota reset.
* Pause: no call of anybody before a moment. After it one call alone probes; the others follow once it succeeds.
* Lanes: a fresh call that has to wait writes a wish. To the slow lane a wish counts as a call and a slot in use, so
  that what is free next goes to the fresh call; where nobody fresh waits, the slow lane has everything. Of the day
  it leaves `KEPT` to the fresh lane: a backlog of many days would else end each of them for everybody.

A call costs two storage writes: state and its ticket are kept between calls, and read again only after somebody
else has written, or before we wait or refuse.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sync_core import events
from sync_core.errors import ConfigurationError, QuotaExhausted, RetryLater, SyncError, Throttled, Unavailable
from sync_core.ports import Clock, Documents

KIND, NAME = "limiter", "marketo"

WINDOW = 20.5
"""Seconds: Marketo's 20, and some for requests that overtake each other on the way."""

RESET = timedelta(hours=6, minutes=5)
"""Time of day (UTC) after which the day's quota is new. Adobe says both "CST" (06:00 UTC all year) and "Central
Time" (05:00 or 06:00); this is after either, with five minutes for clocks that differ (marketo.md §2)."""

PATIENCE = 30.0
"""Seconds that one call waits here; more is left to the queue (design.md §7)."""

SLOW_PATIENCE = 120.0
"""The same in the slow lane, whose calls wait for each other: to give the ids back would only read them again."""

POLL = 0.5
"""Seconds between looks for a free slot; nobody can tell when an answer will come."""

WISH = 5.0
"""Seconds that a wish outlives the next look of its caller, who renews it then: one that died holds nobody up long."""

KEPT = 10
"""Percent of the day's calls that the slow lane leaves to the fresh one."""


@dataclass(frozen=True, slots=True)
class Pause:
    until: float
    reason: str
    kind: str = "plain"


@dataclass(frozen=True, slots=True)
class Share:
    """What the document says; times in seconds since 1970. `wishes`: until when who asked for a slot is waited for."""

    calls: tuple[float, ...] = ()
    slots: Mapping[str, float] = field(default_factory=dict)
    wishes: Mapping[str, float] = field(default_factory=dict)
    pause: Pause | None = None
    day: str = ""
    used: int = 0

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Share:
        pause = value.get("pause")
        return cls(
            tuple(value["calls"]),
            dict(value["slots"]),
            dict(value.get("wishes", {})),  # a document of an earlier version has none
            Pause(**pause) if pause else None,
            value["day"],
            value["used"],
        )

    def at(self, now: datetime) -> Share:
        """The same, without what no longer counts."""
        second, day = now.timestamp(), quota_day(now)
        return replace(
            self,
            calls=tuple(call for call in self.calls if call > second - WINDOW),
            slots={slot: end for slot, end in self.slots.items() if end > second},
            wishes={slot: end for slot, end in self.wishes.items() if end > second},
            day=day,
            used=self.used if self.day == day else 0,
        )


def quota_day(now: datetime) -> str:
    """Name of the day between two quota resets that *now* lies in."""
    return (now.astimezone(UTC) - RESET).date().isoformat()


def next_reset(now: datetime) -> datetime:
    """The first quota reset after *now*."""
    day = (now.astimezone(UTC) - RESET).replace(hour=0, minute=0, second=0, microsecond=0)
    return day + timedelta(days=1) + RESET


class SharedLimiter:
    """Port `Limiter` over port `Documents`. *random* gives numbers in [0, 1), for waits that don't collide.

    Without *stops* nobody is stopped and no stop is heeded: `validate` asks again what Marketo refused. Another *name*:
    limits of another subscription than the one that the sync writes to.
    """

    def __init__(
        self,
        documents: Documents,
        clock: Clock,
        *,
        calls_per_20s: int,
        concurrency: int,
        daily_calls: int,
        random: Callable[[], float],
        stops: bool = True,
        name: str = NAME,
    ) -> None:
        self._documents = documents
        self._name = name
        self._stops = stops
        self._clock = clock
        self._calls = calls_per_20s
        self._concurrency = concurrency
        self._daily = daily_calls
        self._random = random
        self._lock = threading.Lock()
        self._known: tuple[Share, str | None] | None = None

    @contextmanager
    def call(self, *, hold: float, slow: bool = False) -> Iterator[None]:
        slot = self._enter(hold, slow=slow)
        answered, good = True, False
        try:
            yield
            good = True
        except Unavailable as error:
            answered = not error.unanswered
            raise
        finally:
            if answered:
                self._leave(slot, good)

    def pause(self, *, until: datetime, reason: str, stop: bool = False, quota: bool = False) -> None:
        if stop and not self._stops:
            return
        new = Pause(until.timestamp(), reason, "stop" if stop else "quota" if quota else "plain")

        def longer(share: Share) -> Share:
            return share if share.pause and share.pause.until >= new.until else replace(share, pause=new)

        self._change(longer)
        events.warning("limiter.paused", kind=new.kind, until=until.isoformat(timespec="seconds"), reason=reason)

    def used_today(self) -> int:
        with self._lock:
            return self._read()[0].at(self._clock.now()).used

    @property
    def shares(self) -> tuple[int, int]:
        return self._calls, self._daily

    def _enter(self, hold: float, *, slow: bool) -> str:
        """Take one call and one slot, waiting for them if that is soon; the slot's name."""
        slot = uuid.uuid4().hex
        patience = self._clock.monotonic() + (SLOW_PATIENCE if slow else PATIENCE)
        while wait := self._try(slot, hold, patience, slow=slow):
            self._clock.sleep(wait)
        return slot

    def _try(self, slot: str, hold: float, patience: float, *, slow: bool) -> float:
        """0 if the call may be sent now and is written down, else the seconds until the next look.

        Raises Throttled when that is after *patience*.
        """
        with self._lock:
            if self._known is None or self._wait(self._known[0], slow=slow) is not None:
                self._known = self._read()
            share, ticket = self._known
            wait = self._wait(share, slow=slow)
            if isinstance(wait, SyncError):
                raise wait
            if wait is None:
                return 0.0 if self._write(self._taken(share, slot, hold), ticket) else self._soon()
            if self._clock.monotonic() + wait > patience:
                raise Throttled("our share of Marketo's limits is in use", delay=max(wait, 5.0) * (1 + self._random()))
            # Who only waits for a moment that is known looks soon after it: until then nothing goes to others.
            wait += (wait if slow else min(wait, POLL)) * self._random() / 4
            second = self._clock.now().timestamp()
            if slow or share.wishes.get(slot, 0.0) > second + wait + POLL:
                return wait
            wishing = replace(share, wishes={**share.wishes, slot: round(second + wait + WISH, 3)})
            return wait if self._write(wishing.at(self._clock.now()), ticket) else self._soon()

    def _soon(self) -> float:
        """Seconds after which somebody who was too late to write looks again."""
        return 0.02 + self._random() / 10

    def _taken(self, share: Share, slot: str, hold: float) -> Share:
        now = self._clock.now()
        share, second = share.at(now), round(now.timestamp(), 3)
        return replace(
            share,
            calls=(*share.calls, second),
            slots={**share.slots, slot: second + hold},
            wishes={other: end for other, end in share.wishes.items() if other != slot},
            used=share.used + 1,
        )

    def _wait(self, share: Share, *, slow: bool) -> float | SyncError | None:
        """None if a call may be sent now; the seconds until one may; or why none may for long."""
        now = self._clock.now()
        second, share = now.timestamp(), share.at(now)
        if share.pause and share.pause.until > second and (self._stops or share.pause.kind != "stop"):
            return self._paused(share.pause, share.pause.until - second)
        daily = self._daily - (self._daily * KEPT // 100 if slow else 0)
        if share.used >= daily:
            delay = (next_reset(now) - now).total_seconds()
            rest = ", the rest is for fresh changes" if daily < self._daily else ""
            return QuotaExhausted(f"our {daily} Marketo calls of today are used up{rest}", delay=delay)
        wishes = len(share.wishes) if slow else 0
        if len(share.slots) + wishes >= (1 if share.pause else self._concurrency) or wishes >= self._calls:
            return POLL
        if len(share.calls) + wishes >= self._calls:
            return max(sorted(share.calls)[wishes - self._calls] + WINDOW - second, 0.001)
        return None

    def _paused(self, pause: Pause, seconds: float) -> float | SyncError:
        if pause.kind == "stop":
            return ConfigurationError(pause.reason)
        if pause.kind == "quota":
            return QuotaExhausted(pause.reason, delay=seconds)
        return seconds

    def _leave(self, slot: str, good: bool) -> None:
        """Give *slot* back; a *good* call after a pause ends the probing."""

        def without(share: Share) -> Share:
            over = good and share.pause and share.pause.until <= self._clock.now().timestamp()
            slots = {name: end for name, end in share.slots.items() if name != slot}
            return replace(share, slots=slots, pause=None if over else share.pause)

        try:
            self._change(without)
        except RetryLater:
            # Marketo's answer matters more than the slot, which lapses by itself.
            events.warning("limiter.slot_not_given_back", exc_info=True)

    def _change(self, change: Callable[[Share], Share]) -> None:
        """Write *change*, on top of whatever others wrote in between."""
        for _ in range(100):
            with self._lock:
                share, ticket = self._known or self._read()
                if self._write(change(share.at(self._clock.now())), ticket):
                    return
            self._clock.sleep(self._random() / 10)
        raise Unavailable("the shared limiter's document is changed too often")

    def _read(self) -> tuple[Share, str | None]:
        document = self._documents.read(KIND, self._name)
        return (Share.of(document.value), document.ticket) if document else (Share(), None)

    def _write(self, share: Share, ticket: str | None) -> bool:
        """Whether nobody was first. What we know is forgotten before, so that an error leaves nothing stale."""
        self._known = None
        new = self._documents.write(KIND, self._name, asdict(share), ticket)
        if new is None:
            return False
        self._known = share, new
        return True
