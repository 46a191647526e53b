"""Rows of one object in memory, found by id, by key and by every field that queries may filter on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .catalogue import ObjectType

Row = dict[str, Any]
Key = tuple[Any, ...]


def fold(value: Any) -> Any:
    """Keys and e-mail addresses match whatever their case (marketo.md §0.2)."""
    return value.casefold() if isinstance(value, str) else value


class Table:
    """Keeps its indexes right; knows nothing of rules."""

    def __init__(self, kind: ObjectType) -> None:
        self.kind = kind
        self.rows: dict[Any, Row] = {}
        self.visible_from: dict[Any, float] = {}
        self._keys: dict[Key, Row] = {}
        self._index: dict[str, dict[Any, dict[Any, None]]] = {}
        for names in kind.searchable:
            self.index(names)

    def index(self, names: Iterable[str]) -> None:
        for name in names:
            if name != self.kind.id_field:
                self._index.setdefault(name, {})

    def id_of(self, row: Row) -> Any:
        return row[self.kind.id_field]

    def key_of(self, values: Mapping[str, Any]) -> Key | None:
        """The folded dedupe key; None when a part of it is missing."""
        key = tuple(fold(values.get(name)) for name in self.kind.dedupe_fields)
        return key if key and None not in key else None

    def get(self, identity: Any) -> Row | None:
        return self.rows.get(fold(identity))

    def find(self, values: Mapping[str, Any]) -> Row | None:
        """The row with the dedupe key that *values* name."""
        key = self.key_of(values)
        return self._keys.get(key) if key else None

    def having(self, name: str, value: Any) -> list[Row]:
        """Rows whose indexed field *name* holds *value*, oldest first."""
        if name == self.kind.id_field:
            row = self.get(value)
            return [row] if row else []
        return [self.rows[each] for each in self._index[name].get(fold(value), ())]

    def different(self, name: str) -> int:
        """How many values the indexed field *name* has."""
        return len(self._index[name])

    def add(self, row: Row) -> None:
        self.rows[self.id_of(row)] = row
        self._enter(row, self._index)

    def remove(self, row: Row) -> None:
        self._leave(row, self._index)
        del self.rows[self.id_of(row)]
        self.visible_from.pop(self.id_of(row), None)

    def change(self, row: Row, values: Mapping[str, Any]) -> None:
        touched = [name for name in values if name in self._index]
        self._leave(row, touched)
        row.update(values)
        self._enter(row, touched)

    def _enter(self, row: Row, names: Iterable[str]) -> None:
        key = self.key_of(row)
        if key:
            self._keys[key] = row
        for name in names:
            value = row.get(name)
            if value is not None:
                self._index[name].setdefault(fold(value), {})[self.id_of(row)] = None

    def _leave(self, row: Row, names: Iterable[str]) -> None:
        key = self.key_of(row)
        if key and self._keys.get(key) is row:
            del self._keys[key]
        for name in names:
            value = row.get(name)
            if value is not None:
                self._drop(self._index[name], fold(value), self.id_of(row))

    @staticmethod
    def _drop(index: dict[Any, dict[Any, None]], value: Any, identity: Any) -> None:
        index[value].pop(identity)
        if not index[value]:
            del index[value]
