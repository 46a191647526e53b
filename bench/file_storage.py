"""The storage ports in one SQLite file: as the real adapters promise, in memory that doesn't grow, and in one process.

What a crash of the process leaves is whole, as a transaction of the service is. One file holds the rows of all
ledgers, maps and documents, apart by *kind*; contents are written down as `adapters.tables` does.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sync_core.adapters.storage import Storage
from sync_core.adapters.tables import PAGE, _moves, _name, _plain, _stamp, _tally, _Ticket, _understood
from sync_core.adapters.work_queue import (
    AT_ONCE,
    LONGEST_DELAY,
    POISON_LEASE,
    QUEUES,
    Name,
    _envelope,
    _poison_of,
    _queue_of,
)
from sync_core.messages import encode, split
from sync_core.model import LEFT_OUT, Document, Lane, LedgerRow, Letter, Pointer, State, Tally, Work
from sync_core.ports import Clock

TABLES = """
CREATE TABLE IF NOT EXISTS ledger
    (kind TEXT, id TEXT, etag TEXT, state TEXT, due TEXT, doc TEXT, PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pointer ON ledger (kind, state, due, id) WHERE state IN ('waiting', 'parked', 'held');
CREATE TABLE IF NOT EXISTS counts (kind TEXT, name TEXT, number INTEGER, PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS map (kind TEXT, id TEXT, doc TEXT, PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pair
    (connection TEXT, opportunity TEXT, PRIMARY KEY (connection, opportunity)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS document
    (kind TEXT, name TEXT, etag TEXT, doc TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (id TEXT, at TEXT, doc TEXT, PRIMARY KEY (id, at)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS message
    (number INTEGER PRIMARY KEY, queue TEXT, body TEXT, visible TEXT, received INTEGER DEFAULT 0, receipt TEXT);
"""


def open_storage(path: Path, clock: Clock) -> Storage:
    """Everything the engine keeps, in the file *path*, which is made if there is none."""
    file = File(path)
    queue = FileQueue(file, clock)
    kept: dict[str, Any] = {
        "opportunities": FileLedger(file, "opportunities"),
        "companies": FileLedger(file, "companies"),
        "sales_persons": FileLedger(file, "sales persons"),
        "connections": FileConnections(file),
        "people": FileMap(file, "people"),
        "tombstones": FileMap(file, "tombstones"),
        "history": FileHistory(file),
        "documents": FileDocuments(file),
        "queue": queue,
    }
    return Storage(**kept, probes={})


class File:
    """One connection for all threads."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._sql = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._sql.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; {TABLES}")

    def all(self, query: str, *values: Any) -> list[Any]:
        """Every row of the answer."""
        with self._lock:
            return self._sql.execute(query, values).fetchall()

    def change(self, query: str, *values: Any) -> int:
        """How many rows it touched."""
        with self._lock:
            return self._sql.execute(query, values).rowcount

    def change_each(self, query: str, values: Iterable[Sequence[Any]]) -> None:
        with self.transaction():
            self._sql.executemany(query, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._lock:
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._sql.execute("ROLLBACK")
                raise
            self._sql.execute("COMMIT")


class FileLedger:
    """Port `Ledger`."""

    def __init__(self, file: File, kind: str) -> None:
        self._file = file
        self._kind = kind

    def rows(self, ids: Collection[str]) -> Mapping[str, LedgerRow]:
        query = "SELECT id, etag, doc FROM ledger WHERE kind = ? AND id IN (SELECT value FROM json_each(?))"
        found = self._file.all(query, self._kind, _listed(ids))
        return {id: _understood(id, etag, json.loads(doc)) for id, etag, doc in found}

    def write(self, rows: Sequence[LedgerRow]) -> set[str]:
        if len({row.id for row in rows}) < len(rows):
            raise ValueError("an id is twice in one write")
        lost, moves = set[str](), Counter[str]()
        with self._file.transaction():
            for row in rows:
                old = _Ticket(*json.loads(row.ticket)) if row.ticket else None
                if self._put(row, old):
                    moves.update(_moves(old, row))
                else:
                    lost.add(row.id)
            for name, number in moves.items():
                query = "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET number = number + ?3"
                self._file.change(query, self._kind, name, number)
        return lost

    def _put(self, row: LedgerRow, old: _Ticket | None) -> bool:
        values = _etag(), row.state, _stamp(row.due), _json(_plain(row))
        if old is None:
            query = "INSERT OR IGNORE INTO ledger VALUES (?, ?, ?, ?, ?, ?)"
            return self._file.change(query, self._kind, row.id, *values) > 0
        query = "UPDATE ledger SET etag = ?, state = ?, due = ?, doc = ? WHERE kind = ? AND id = ? AND etag = ?"
        return self._file.change(query, *values, self._kind, row.id, old.etag) > 0

    def due(self, now: datetime, limit: int) -> Sequence[str]:
        query = "SELECT id FROM ledger WHERE kind = ? AND state = 'waiting' AND due <= ? ORDER BY due, id LIMIT ?"
        return [id for (id,) in self._file.all(query, self._kind, _stamp(now), max(0, limit))]

    def in_state(self, state: State) -> Iterator[Sequence[str]]:
        return ([pointer.id for pointer in page] for page in self.pointers(state))

    def pointers(
        self, state: State, *, reason: str = "", after: str = "", size: int = PAGE
    ) -> Iterator[Sequence[Pointer]]:
        if state in {State.IN_STEP, State.GONE}:
            raise ValueError(f"nothing points at rows that are {state}")
        return self._pointers(state, reason, after, size)

    def _pointers(self, state: State, reason: str, after: str, size: int) -> Iterator[Sequence[Pointer]]:
        query = """SELECT id, json_extract(doc, '$.reason'), due || '|' || id AS mark FROM ledger
            WHERE kind = ? AND state = ? AND mark > ? AND (? = '' OR json_extract(doc, '$.reason') = ?4)
            ORDER BY mark LIMIT ?"""
        while found := self._file.all(query, self._kind, state, after, reason, size):
            yield [Pointer(*each) for each in found]
            after = found[-1][2]

    def tally(self) -> Tally:
        found = dict(self._file.all("SELECT name, number FROM counts WHERE kind = ?", self._kind))
        return _tally(dict.fromkeys((*map(str, State), "roles", LEFT_OUT), 0) | found)

    def counts(self) -> Mapping[str, int]:
        return self.tally().counts

    def ids(self, *, after: str = "", gone: bool = False) -> Iterator[Sequence[str]]:
        return self._pages(None if gone else State.GONE, such=False, last=after)

    def recount(self, *, mend: bool = False) -> Mapping[str, int]:
        return {}  # what it counts, it counts anew each time

    def _pages(self, state: State | None, *, such: bool, last: str = "") -> Iterator[Sequence[str]]:
        query = "SELECT id FROM ledger WHERE kind = ? AND id > ? AND (state IS ?) = ? ORDER BY id LIMIT ?"
        while ids := [id for (id,) in self._file.all(query, self._kind, last, state, such, PAGE)]:
            yield ids
            last = ids[-1]


class FileMap:
    """Port `Lookup`."""

    def __init__(self, file: File, kind: str) -> None:
        self._file = file
        self._kind = kind

    def read(self, ids: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        query = "SELECT id, doc FROM map WHERE kind = ? AND id IN (SELECT value FROM json_each(?))"
        return {id: json.loads(doc) for id, doc in self._file.all(query, self._kind, _listed(ids))}

    def write(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        rows = ((self._kind, id, _json(value)) for id, value in values.items())
        self._file.change_each("INSERT OR REPLACE INTO map VALUES (?, ?, ?)", rows)

    def delete(self, ids: Collection[str]) -> None:
        self._file.change(
            "DELETE FROM map WHERE kind = ? AND id IN (SELECT value FROM json_each(?))", self._kind, _listed(ids)
        )

    def missing(self) -> int:
        query = "SELECT count(*) FROM map WHERE kind = ? AND json_extract(doc, '$.missing')"
        return int(self._file.all(query, self._kind)[0][0])


class FileConnections:
    """Port `ConnectionMap`."""

    def __init__(self, file: File) -> None:
        self._file = file

    def read(self, ids: Collection[str]) -> Mapping[str, Set[str]]:
        query = "SELECT connection, opportunity FROM pair WHERE connection IN (SELECT value FROM json_each(?))"
        found: defaultdict[str, set[str]] = defaultdict(set)
        for connection, opportunity in self._file.all(query, _listed(ids)):
            found[connection].add(opportunity)
        return dict(found)

    def write(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._file.change_each("INSERT OR IGNORE INTO pair VALUES (?, ?)", pairs)

    def delete(self, ids: Collection[str]) -> None:
        self._file.change("DELETE FROM pair WHERE connection IN (SELECT value FROM json_each(?))", _listed(ids))

    def tidy(self, *, until: float) -> None:
        """A file with an index is tidy."""


class FileDocuments:
    """Port `Documents`."""

    def __init__(self, file: File) -> None:
        self._file = file

    def read(self, kind: str, name: str) -> Document | None:
        found = self._file.all("SELECT doc, etag FROM document WHERE kind = ? AND name = ?", _name(kind), _name(name))
        return Document(json.loads(found[0][0]), found[0][1]) if found else None

    def write(self, kind: str, name: str, value: Mapping[str, Any], ticket: str | None) -> str | None:
        place, new, content = (_name(kind), _name(name)), _etag(), _json(value)
        if ticket is None:
            done = self._file.change("INSERT OR IGNORE INTO document VALUES (?, ?, ?, ?)", *place, new, content)
        else:
            query = "UPDATE document SET etag = ?, doc = ? WHERE kind = ? AND name = ? AND etag = ?"
            done = self._file.change(query, new, content, *place, ticket)
        return new if done else None

    def list(self, kind: str, *, after: str = "", limit: int = 100) -> Sequence[tuple[str, Mapping[str, Any]]]:
        query = "SELECT name, doc FROM document WHERE kind = ? AND name > ? ORDER BY name LIMIT ?"
        return [(name, json.loads(doc)) for name, doc in self._file.all(query, _name(kind), after, limit)]

    def delete(self, kind: str, name: str) -> None:
        self._file.change("DELETE FROM document WHERE kind = ? AND name = ?", _name(kind), _name(name))


class FileHistory:
    """Port `History`."""

    def __init__(self, file: File) -> None:
        self._file = file

    def add(self, at: datetime, values: Mapping[str, Mapping[str, Any]]) -> None:
        rows = ((id, _stamp(at), _json(fields)) for id, fields in values.items())
        self._file.change_each("INSERT OR REPLACE INTO history VALUES (?, ?, ?)", rows)

    def of(self, id: str) -> Sequence[tuple[str, Mapping[str, Any]]]:
        found = self._file.all("SELECT at, doc FROM history WHERE id = ? ORDER BY at DESC", id)
        return [(at, json.loads(doc)) for at, doc in found]

    def forget(self, before: datetime) -> None:
        self._file.change("DELETE FROM history WHERE at < ?", _stamp(before))


class FileQueue:
    """Port `Queue`."""

    def __init__(self, file: File, clock: Clock) -> None:
        self._file = file
        self._clock = clock

    def put(self, work: Work, *, after: timedelta = timedelta(0)) -> None:
        for part in split(work):
            self._send(_queue_of(work.lane), encode(part), min(after, LONGEST_DELAY))

    def receive(self, lane: Lane, *, lease: timedelta) -> Letter | None:
        return next(iter(self._lease(_queue_of(lane), 1, lease)), None)

    def peek(self, lane: Lane) -> Sequence[Letter]:
        now = self._clock.now()
        return [Letter(body, received, now) for _, body, received in self._visible(_queue_of(lane), AT_ONCE)]

    def done(self, lane: Lane, letter: Letter) -> None:
        self._file.change("DELETE FROM message WHERE number = ? AND receipt = ?", *letter.handle)

    def poisoned(self, lane: Lane) -> Sequence[Letter]:
        return self._lease(_poison_of(lane), AT_ONCE, POISON_LEASE)

    def done_poisoned(self, lane: Lane, letter: Letter) -> None:
        self.done(lane, letter)

    def set_aside(self, body: str, reason: str) -> None:
        self._send("unreadable", _envelope(body, reason))

    def give_back(self, lane: Lane, body: str, *, after: timedelta) -> None:
        self._send(_queue_of(lane), body, after)

    def probe(self) -> None:
        """There is nothing to sign in to."""

    def lengths(self) -> Mapping[str, int]:
        found = dict(self._file.all("SELECT queue, count(*) FROM message GROUP BY queue"))
        return {name: found.get(name, 0) for name in QUEUES}

    def free(self) -> None:
        """End every lease, as time does: whoever held one is dead."""
        self._file.change("UPDATE message SET visible = ?", _stamp(self._clock.now()))

    def _send(self, queue: Name, body: str, after: timedelta = timedelta(0)) -> None:
        visible = _stamp(self._clock.now() + after)
        self._file.change("INSERT INTO message (queue, body, visible) VALUES (?, ?, ?)", queue, body, visible)

    def _visible(self, queue: Name, limit: int) -> list[Any]:
        query = "SELECT number, body, received FROM message WHERE queue = ? AND visible <= ? ORDER BY number LIMIT ?"
        return self._file.all(query, queue, _stamp(self._clock.now()), limit)

    def _lease(self, queue: Name, limit: int, lease: timedelta) -> list[Letter]:
        ends, receipt = self._clock.now() + lease, _etag()
        letters = []
        with self._file.transaction():
            for number, body, received in self._visible(queue, limit):
                query = "UPDATE message SET visible = ?, received = ?, receipt = ? WHERE number = ?"
                self._file.change(query, _stamp(ends), received + 1, receipt, number)
                letters.append(Letter(body, received + 1, ends, (number, receipt)))
        return letters


def _listed(ids: Collection[str]) -> str:
    return json.dumps([*ids])


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _etag() -> str:
    return os.urandom(8).hex()
