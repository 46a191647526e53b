"""Which Dataverse column a Marketo field may be filled from, going by names and types (`mapping init`). Pure."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sync_core.mapping import Column
from sync_core.model import DataverseColumn, MarketoField
from sync_core.rules.fields import length
from sync_core.rules.sources import CHOICES, LOOKUPS, NUMBERS, TEXTUAL, unfit

PUBLISHER = re.compile(r"[a-z][a-z0-9]{1,7}_(?=.)")  # new_, cr123_: every custom column begins with one
READABLE = LOOKUPS | CHOICES | NUMBERS | {"String", "Memo", "DateTime", "Uniqueidentifier"}
SAME_NAME, SAME_WITHOUT_PREFIX, SAME_TITLE = "same name", "same name without prefix", "same display name"


@dataclass(frozen=True, slots=True)
class Match:
    """A Marketo field, the column that has its name, and how sync.toml would say it; *title* is what it is called."""

    field: MarketoField
    column: DataverseColumn
    source: Mapping[str, Any]
    why: str
    title: str

    @property
    def line(self) -> str:
        """The line of sync.toml, with the reason as its comment."""
        name = self.field.name if re.fullmatch(r"[\w-]+", self.field.name, re.ASCII) else json.dumps(self.field.name)
        content = ", ".join(f"{key} = {json.dumps(value)}" for key, value in self.source.items())
        source = f"{{ {content} }}" if len(self.source) > 1 else json.dumps(self.column.name)
        title = one_line(self.title)
        called = f' "{title}"' if title and title != self.column.name else ""
        return f"{name} = {source}  # {self.column.type}{called} → {type_of(self.field)}, {self.why}"


def matches(fields: Collection[MarketoField], columns: Mapping[str, DataverseColumn]) -> list[Match]:
    """For each of *fields* the column with the same name and a fitting type, if there is one: the nearest name wins."""
    called = defaultdict(list)
    for column in columns.values():
        if column.type in READABLE and not _base_twin(column, columns):
            for rank, (name, why, title) in enumerate(_names(column)):
                called[_plain(name)].append((rank, column, why, title))
    found = []
    for field in fields:
        near = [
            (rank, column.name, Match(field, column, source, why, title))
            for name in {_plain(field.name), _plain(field.title)} - {""}
            for rank, column, why, title in called[name]
            if (source := _source(column, field.type)) is not None
        ]
        if near:
            found.append(min(near, key=lambda each: each[:2])[2])
    return found


def unmatched(columns: Mapping[str, DataverseColumn], used: Collection[str]) -> list[DataverseColumn]:
    """The custom columns that nothing uses."""
    return [
        column
        for name, column in sorted(columns.items())
        if column.custom and column.type in READABLE and name not in used and not _base_twin(column, columns)
    ]


def type_of(field: MarketoField) -> str:
    """Marketo's type and how much it takes: `string 255`."""
    most = length(field)
    if most is None:
        return field.type
    return f"{field.type} {most}{' bytes' if field.type == 'text' else ''}"


def one_line(text: str) -> str:
    """A comment of TOML holds neither a line's end nor another control character."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def _base_twin(column: DataverseColumn, columns: Mapping[str, DataverseColumn]) -> bool:
    """Dataverse keeps the base currency's amount beside each amount; `currency = "base"` reads it."""
    return (
        column.type == "Money"
        and column.name.removesuffix("_base") != column.name
        and (column.name.removesuffix("_base") in columns)
    )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", re.sub(r"__c$", "", name.casefold()))


def _names(column: DataverseColumn) -> Iterator[tuple[str, str, str]]:
    """What a column may be called, the surest first, with the reason and the display name to show for it.

    Dynamics ends the names of its own choices with `code`.
    """
    title = next(iter(column.titles), "")
    yield column.name, SAME_NAME, title
    yield PUBLISHER.sub("", column.name, count=1) if column.custom else column.name, SAME_WITHOUT_PREFIX, title
    for each in column.titles:
        yield each, SAME_TITLE, each
    if column.type == "Picklist" and not column.custom:
        yield column.name.removesuffix("code"), SAME_NAME, title


def _source(column: DataverseColumn, type: str) -> Mapping[str, Any] | None:
    """How the column's content gets into a field of *type*; None if it can't, or hardly would."""
    texts = TEXTUAL | {"email"}
    if column.type in ("String", "Memo") and type not in texts:
        return None
    source: dict[str, Any] = {"column": column.name}
    if column.type == "MultiSelectPicklist":
        source |= {"as": "label", "join": ";"}
    elif column.type in CHOICES and type in texts:
        source |= {"as": "label"}
    elif column.type in LOOKUPS:
        source |= {"as": "name"}
    elif column.type == "Money":
        source |= {"currency": "base"}
    return None if unfit(Column.model_validate(source), {column.name: column.type}, type) else source
