"""The ports in memory, with the promises of the real adapters (`tests/contracts`): no threads, waits or chance."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sync_core.errors import ConfigurationError, QuotaExhausted, Throttled, Unavailable
from sync_core.messages import encode, split
from sync_core.model import LEFT_OUT, Document, Lane, LedgerRow, Letter, Pointer, State, Tally, Work

LONGEST_ASIDE = 8_150  # characters that fit into a message whatever they are
LONG_AGO = datetime.min.replace(tzinfo=UTC)


class FakeClock:
    """Port `Clock`: time passes by sleeping only, or as a test says."""

    def __init__(self, now: datetime = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)) -> None:
        self._now = now
        self._elapsed = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def sleep(self, seconds: float) -> None:
        self._elapsed += max(0.0, seconds)
        self._now += timedelta(seconds=max(0.0, seconds))

    def set(self, now: datetime) -> None:
        """Another time of day, backwards too; `monotonic` doesn't notice."""
        self._now = now


class FakeLimiter:
    """Port `Limiter` for one instance: the daily share, the pauses, and which slots are kept after silence."""

    def __init__(self, clock: FakeClock, *, daily_calls: int = 25_000) -> None:
        self.clock = clock
        self.daily_calls = daily_calls
        self.used = self.slow = 0
        self.stops = True
        self.kept: list[datetime] = []
        self.pauses: list[tuple[datetime, str, str]] = []

    @contextmanager
    def call(self, *, hold: float, slow: bool = False) -> Iterator[None]:
        self._wait()
        if self.used >= self.daily_calls:
            raise QuotaExhausted("the daily share is used up")
        self.used += 1
        self.slow += slow
        try:
            yield
        except Unavailable as error:
            if error.unanswered:
                self.kept.append(self.clock.now() + timedelta(seconds=hold))
            raise

    def pause(self, *, until: datetime, reason: str, stop: bool = False, quota: bool = False) -> None:
        if stop and not self.stops:
            return
        self.pauses.append((until, "stop" if stop else "quota" if quota else "wait", reason))

    def used_today(self) -> int:
        return self.used

    @property
    def shares(self) -> tuple[int, int]:
        return 50, self.daily_calls

    def _wait(self) -> None:
        for until, kind, reason in self.pauses:
            left = (until - self.clock.now()).total_seconds()
            if left <= 0:
                continue
            if kind == "stop" and not self.stops:
                continue
            if kind == "stop":
                raise ConfigurationError(reason)
            if kind == "quota":
                raise QuotaExhausted(reason, delay=left)
            if left > 30:
                raise Throttled(reason, delay=left)
            self.clock.sleep(left)


class FakeLedger:
    """Port `Ledger`; `content` shows what is stored, tickets included."""

    def __init__(self) -> None:
        self.content: dict[str, LedgerRow] = {}
        self._writes = 0

    def rows(self, ids: Collection[str]) -> Mapping[str, LedgerRow]:
        return {id: self.content[id] for id in ids if id in self.content}

    def write(self, rows: Sequence[LedgerRow]) -> set[str]:
        if len({row.id for row in rows}) < len(rows):
            raise ValueError("an id is twice in one write")
        return {row.id for row in rows if not self._write(row)}

    def due(self, now: datetime, limit: int) -> Sequence[str]:
        due = [(row.due or LONG_AGO, row.id) for row in self._in(State.WAITING)]
        return [id for moment, id in sorted(due) if moment <= now][: max(0, limit)]

    def in_state(self, state: State) -> Iterator[Sequence[str]]:
        if state in {State.IN_STEP, State.GONE}:
            raise ValueError(f"nothing points at rows that are {state}")
        return ([pointer.id for pointer in page] for page in self.pointers(state))

    def pointers(
        self, state: State, *, reason: str = "", after: str = "", size: int = 1000
    ) -> Iterator[Sequence[Pointer]]:
        if state in {State.IN_STEP, State.GONE}:
            raise ValueError(f"nothing points at rows that are {state}")
        found = [Pointer(row.id, row.reason, _mark(row)) for row in self._in(state) if reason in ("", row.reason)]
        behind = sorted((pointer for pointer in found if pointer.mark > after), key=lambda pointer: pointer.mark)
        return (behind[start : start + min(size, 7)] for start in range(0, len(behind), min(size, 7)))

    def tally(self) -> Tally:
        unsettled = (row for row in self.content.values() if row.state not in {State.IN_STEP, State.GONE})
        return Tally(self.counts(), Counter((str(row.state), row.reason) for row in unsettled))

    def counts(self) -> Mapping[str, int]:
        states = Counter(row.state for row in self.content.values())
        roles = sum(len(row.roles) for row in self.content.values())
        left_out = sum(row.left_out for row in self.content.values())
        return {**{str(state): states[state] for state in State}, "roles": roles, LEFT_OUT: left_out}

    def ids(self, *, after: str = "", gone: bool = False) -> Iterator[Sequence[str]]:
        rows = self.content.values()
        return self._pages(row for row in rows if row.id > after and (gone or row.state is not State.GONE))

    def recount(self, *, mend: bool = False) -> Mapping[str, int]:
        return {}  # what it counts, it counts anew each time

    @staticmethod
    def _pages(rows: Iterable[LedgerRow]) -> Iterator[Sequence[str]]:
        """Short ones, as those of a table with several partitions are."""
        ids = sorted(row.id for row in rows)
        return (ids[start : start + 7] for start in range(0, len(ids), 7))

    def _in(self, state: State) -> list[LedgerRow]:
        return [row for row in self.content.values() if row.state is state]

    def _write(self, row: LedgerRow) -> bool:
        present = self.content.get(row.id)
        if row.ticket != (present.ticket if present else None):
            return False
        self._writes += 1
        self.content[row.id] = replace(row, ticket=f"ticket {self._writes}", fields=dict(row.fields))
        return True


def _mark(row: LedgerRow) -> str:
    return f"{row.due.isoformat()}|{row.id}" if row.due else row.id


class FakeLookup:
    """Port `Lookup`."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def read(self, ids: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        return {id: json.loads(self._texts[id]) for id in ids if id in self._texts}

    def write(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        self._texts |= {_name(id): json.dumps(value) for id, value in values.items()}

    def delete(self, ids: Collection[str]) -> None:
        for id in ids:
            self._texts.pop(id, None)

    def missing(self) -> int:
        return sum(json.loads(text).get("missing", False) for text in self._texts.values())


class FakeConnections:
    """Port `ConnectionMap`."""

    def __init__(self) -> None:
        self.content: dict[str, set[str]] = {}

    def read(self, ids: Collection[str]) -> Mapping[str, Set[str]]:
        return {id: set(self.content[id]) for id in ids if id in self.content}

    def write(self, pairs: Sequence[tuple[str, str]]) -> None:
        for connection, opportunity in pairs:
            self.content.setdefault(connection, set()).add(opportunity)

    def delete(self, ids: Collection[str]) -> None:
        for id in ids:
            self.content.pop(id, None)

    def tidy(self, *, until: float) -> None: ...


class FakeHistory:
    """Port `History`."""

    def __init__(self) -> None:
        self.content: dict[tuple[str, str], Mapping[str, Any]] = {}

    def add(self, at: datetime, values: Mapping[str, Mapping[str, Any]]) -> None:
        self.content |= {(id, _stamp(at)): json.loads(json.dumps(fields)) for id, fields in values.items()}

    def of(self, id: str) -> Sequence[tuple[str, Mapping[str, Any]]]:
        entries = [(at, fields) for (key, at), fields in self.content.items() if key == id]
        return sorted(entries, key=lambda entry: entry[0], reverse=True)

    def forget(self, before: datetime) -> None:
        self.content = {key: fields for key, fields in self.content.items() if key[1] >= _stamp(before)}


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class FakeDocuments:
    """Port `Documents`."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, str], tuple[str, str]] = {}
        self._writes = 0

    def read(self, kind: str, name: str) -> Document | None:
        text, ticket = self._texts.get((_name(kind), _name(name)), ("", ""))
        return Document(json.loads(text), ticket) if text else None

    def write(self, kind: str, name: str, value: Mapping[str, Any], ticket: str | None) -> str | None:
        present = self.read(kind, name)
        if ticket != (present.ticket if present else None):
            return None
        self._writes += 1
        self._texts[kind, name] = json.dumps(value), f"ticket {self._writes}"
        return f"ticket {self._writes}"

    def list(self, kind: str, *, after: str = "", limit: int = 100) -> Sequence[tuple[str, Mapping[str, Any]]]:
        names = sorted(name for each, name in self._texts if each == kind and name > after)
        return [(name, json.loads(self._texts[kind, name][0])) for name in names[: max(0, limit)]]

    def delete(self, kind: str, name: str) -> None:
        self._texts.pop((kind, name), None)


def _name(text: str) -> str:
    if not text or not text.isascii() or any(character in "/\\#?%'\"" or character < " " for character in text):
        raise ValueError(f"tables can't hold the name {text[:40]!r}")
    return text


@dataclass
class FakeMessage:
    body: str
    visible: datetime
    number: int
    dequeued: int = 0
    receipt: int = 0


@dataclass
class FakeQueue:
    """Port `Queue`, first in first out; the host's part, moving a message to poison, is `poison`."""

    clock: FakeClock
    queues: dict[str, list[FakeMessage]] = field(
        default_factory=lambda: {name: [] for name in ("fresh", "slow", "fresh poison", "slow poison", "unreadable")}
    )
    sent: int = 0

    def put(self, work: Work, *, after: timedelta = timedelta(0)) -> None:
        for part in split(work):
            self._send(work.lane, encode(part), min(after, timedelta(days=7)))

    def receive(self, lane: Lane, *, lease: timedelta) -> Letter | None:
        return next(iter(self._receive(lane, lease, 1)), None)

    def peek(self, lane: Lane) -> Sequence[Letter]:
        return [Letter(m.body, m.dequeued, self.clock.now()) for m in self._visible(lane, 32)]

    def done(self, lane: Lane, letter: Letter) -> None:
        self._delete(lane, letter)

    def poisoned(self, lane: Lane) -> Sequence[Letter]:
        return self._receive(f"{lane} poison", timedelta(minutes=5), 32)

    def done_poisoned(self, lane: Lane, letter: Letter) -> None:
        self._delete(f"{lane} poison", letter)

    def set_aside(self, body: str, reason: str) -> None:
        self._send("unreadable", json.dumps({"reason": reason, "body": body[:LONGEST_ASIDE]}))

    def give_back(self, lane: Lane, body: str, *, after: timedelta) -> None:
        self._send(lane, body, after)

    def probe(self) -> None: ...

    def lengths(self) -> Mapping[str, int]:
        return {name: len(messages) for name, messages in self.queues.items()}

    def poison(self, lane: Lane, body: str) -> None:
        """What the host does with a message that failed too often: a copy of the body, nothing else (azure.md §3.6)."""
        self._send(f"{lane} poison", body)

    def _send(self, name: str, body: str, after: timedelta = timedelta(0)) -> None:
        self.sent += 1
        self.queues[name].append(FakeMessage(body, self.clock.now() + after, self.sent))

    def _visible(self, name: str, limit: int) -> list[FakeMessage]:
        now = self.clock.now()
        return sorted((m for m in self.queues[name] if m.visible <= now), key=lambda m: (m.visible, m.number))[:limit]

    def _receive(self, name: str, lease: timedelta, limit: int) -> list[Letter]:
        visible = self._visible(name, limit)
        for message in visible:
            message.dequeued += 1
        return [self._lease(message, lease) for message in visible]

    def _lease(self, message: FakeMessage, lease: timedelta) -> Letter:
        message.receipt += 1
        message.visible = self.clock.now() + lease
        return Letter(message.body, message.dequeued, message.visible, (message.number, message.receipt))

    def _held(self, name: str, letter: Letter) -> FakeMessage | None:
        """The message, while *letter* is the latest that was given out of it."""
        return next((m for m in self.queues[name] if (m.number, m.receipt) == letter.handle), None)

    def _delete(self, name: str, letter: Letter) -> None:
        held = self._held(name, letter)
        self.queues[name] = [message for message in self.queues[name] if message is not held]
