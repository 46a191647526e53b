"""A set of ids that may be as large as the organization, in a process that may not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from types import TracebackType
from uuid import UUID


class IdFile:
    """GUIDs in a temporary file that SQLite deletes; it keeps 2 MB of it in memory, however many there are."""

    def __enter__(self) -> IdFile:
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("CREATE TABLE ids (id BLOB PRIMARY KEY) WITHOUT ROWID")
        self._file.execute("BEGIN")  # never committed: nobody else reads it
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, ids: Iterable[str]) -> None:
        self._file.executemany("INSERT OR IGNORE INTO ids VALUES (?)", ((_short(id),) for id in ids))

    def behind(self, after: str) -> Iterator[str]:
        """All of them in order, from the first that is greater than *after*."""
        with closing(self._file.cursor()) as found:
            for (short,) in found.execute("SELECT id FROM ids WHERE id > ? ORDER BY id", (_short(after),)):
                yield str(UUID(bytes=short))

    def lacking(self, ids: Iterable[str]) -> list[str]:
        """Which of *ids* are not in it."""
        with closing(self._file.cursor()) as found:
            query = "SELECT 1 FROM ids WHERE id = ?"
            return [id for id in ids if not found.execute(query, (_short(id),)).fetchone()]


def _short(id: str) -> bytes:
    return bytes.fromhex(id.replace("-", ""))
