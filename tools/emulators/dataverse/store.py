"""The rows of one table, in the order of their keys and in the order of their changes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

from tools.emulators.dataverse.schema import INDEXED, Table

Row = dict[str, Any]
CREATED = ""  # no column: the version a row was created with


class Store:
    """Rows are replaced, never changed in place, so a reader may keep what it was given.

    A row holds only the columns that have a value. `log` names every change (version, id) in ascending
    version order; an entry is outdated once its row has a higher version. `deletions` likewise.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows: MutableMapping[str, Row] = {}
        self.log: tuple[list[int], list[str]] = ([], [])
        self.deletions: tuple[list[int], list[str]] = ([], [])
        self.touched: dict[str, dict[str, int]] = {}  # of rows written again: column → version of its last change
        self.valid_from = 0  # delta tokens of a lower version have expired
        self._order: list[str] = []
        self._sorted = True
        self._indexes: dict[str, dict[Any, set[str]]] = {}
        self._undo: dict[str, tuple[Row | None, dict[str, int] | None]] | None = None
        self._marks = (0, 0)

    def put(self, row: Row) -> None:
        row_id = row[self.table.key]
        before = self.rows.get(row_id)
        self._remember(row_id, before)
        self._touch(row_id, before, row)
        self._place(row_id, before, row)
        self.log[0].append(row["versionnumber"])
        self.log[1].append(row_id)

    def remove(self, row_id: str, version: int, *, listed: bool = True) -> None:
        before = self.rows[row_id]
        self._remember(row_id, before)
        self.touched.pop(row_id, None)
        self._place(row_id, before, None)
        if listed:
            self.deletions[0].append(version)
            self.deletions[1].append(row_id)

    def _remember(self, row_id: str, before: Row | None) -> None:
        if self._undo is not None and row_id not in self._undo:
            touched = self.touched.get(row_id)
            self._undo[row_id] = before, touched and dict(touched)

    def _touch(self, row_id: str, before: Row | None, after: Row) -> None:
        if before is None:
            return
        touched = self.touched.setdefault(row_id, {CREATED: before["versionnumber"]})
        for column in before.keys() | after.keys():
            if before.get(column) != after.get(column):
                touched[column] = after["versionnumber"]

    def changed_in(self, row_id: str, columns: Iterable[str], since: int) -> bool:
        """Whether one of *columns* changed after version *since*, or the row did not exist then."""
        touched = self.touched.get(row_id)
        return touched is None or any(touched.get(column, 0) > since for column in (CREATED, *columns))

    def _place(self, row_id: str, before: Row | None, after: Row | None) -> None:
        for column, index in self._indexes.items():
            _reindex(index, row_id, before and before.get(column), after and after.get(column))
        self._keep(row_id, before, after)

    def _keep(self, row_id: str, before: Row | None, after: Row | None) -> None:
        if after is None:
            del self.rows[row_id]
            order = self.order
            del order[bisect_left(order, row_id)]
            return
        if before is None:
            self._order.append(row_id)
            self._sorted = False
        self.rows[row_id] = after

    @property
    def order(self) -> list[str]:
        """All ids, ascending. Sorting a list that is nearly sorted is cheap, so it waits until someone reads."""
        if not self._sorted:
            self._order.sort()
            self._sorted = True
        return self._order

    def after(self, row_id: str | None) -> Iterator[Row]:
        """The rows behind *row_id* in the order of their keys."""
        order = self.order
        start = bisect_right(order, row_id) if row_id else 0
        return (self.rows[order[position]] for position in range(start, len(order)))

    def ids_with(self, column: str, values: Iterable[Any]) -> set[str] | None:
        """The ids of rows whose *column* has one of *values*; None where there is no index to ask."""
        if column == self.table.key:
            return {value for value in values if value in self.rows}
        if (self.table.name, column) not in INDEXED:
            return None
        if column not in self._indexes:
            self._indexes[column] = self._index(column)
        index = self._indexes[column]
        return set().union(*(index.get(value, ()) for value in values))

    def modified_since(self, moment: str) -> set[str] | None:
        """The only ids whose rows can have a `modifiedon` from *moment* on; None where only a scan tells."""
        return None

    def newest(self) -> Iterator[Row]:
        """All rows, the one written last first."""
        versions, ids = self.log
        for position in range(len(versions) - 1, -1, -1):
            row = self.rows.get(ids[position])
            if row is not None and row["versionnumber"] == versions[position]:
                yield row

    def _index(self, column: str) -> dict[Any, set[str]]:
        index: dict[Any, set[str]] = {}
        for row_id, row in self.rows.items():
            if (value := row.get(column)) is not None:
                index.setdefault(value, set()).add(row_id)
        return index

    def changes(self, since: int, upto: int, *, repeats: bool = False) -> Iterator[tuple[int, Row]]:
        """(version, row) of the rows changed in (since, upto]; *repeats* also gives the outdated entries."""
        versions, ids = self.log
        for position in range(bisect_right(versions, since), bisect_right(versions, upto)):
            row = self.rows.get(ids[position])
            if row is not None and (repeats or row["versionnumber"] == versions[position]):
                yield versions[position], row

    def removals(self, since: int, upto: int) -> Iterator[tuple[int, str]]:
        """(version, id) of the rows deleted in (since, upto] that haven't come back."""
        versions, ids = self.deletions
        for position in range(bisect_right(versions, since), bisect_right(versions, upto)):
            if ids[position] not in self.rows:
                yield versions[position], ids[position]

    def begin(self) -> None:
        self._undo = {}
        self._marks = (len(self.log[0]), len(self.deletions[0]))

    def commit(self) -> None:
        self._undo = None

    def rollback(self) -> None:
        for row_id, (before, touched) in (self._undo or {}).items():
            self.touched.pop(row_id, None)
            if touched is not None:
                self.touched[row_id] = touched
            after = self.rows.get(row_id)
            if after is not before:
                self._place(row_id, after, before)
        for history, length in zip((self.log, self.deletions), self._marks, strict=True):
            del history[0][length:]
            del history[1][length:]
        self._undo = None


def _reindex(index: dict[Any, set[str]], row_id: str, before: Any, after: Any) -> None:
    if before == after:
        return
    if before is not None:
        index[before].discard(row_id)
    if after is not None:
        index.setdefault(after, set()).add(row_id)
