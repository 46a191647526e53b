"""Rows of one table as one section of sync.toml sees them, with everything that its fields need (design.md §8)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sync_core.errors import ConfigurationError
from sync_core.flows.world import World
from sync_core.mapping import File, Place, Rule, Source
from sync_core.model import MarketoObject, Row
from sync_core.rules.fields import Mapped, marketo_fields, usable
from sync_core.rules.sources import CHOICES, CURRENCY, LOOKUPS, Knowledge, Need, misfit, needs

DATE_TIME = "DateTime"


class Reading:
    """Made for each delivery, from metadata that the clients remember; *more* are columns that rules want, by place.

    *creating*: some fields can be set when a record is made, and never again. `suspended` says which fields can't be
    filled now, and why: the rest goes on without them.
    """

    def __init__(
        self,
        world: World,
        table: str,
        kind: MarketoObject,
        fields: Mapping[str, Source],
        more: Mapping[Place, str] | None = None,
        *,
        creating: bool = False,
    ) -> None:
        self.world = world
        self.table = table
        self.described = world.target.describe(kind)
        self.kinds = dict(world.source.columns(table))
        more = more or {}
        wanted = {need.column for source in fields.values() for need in needs(source)} | set(more.values())
        self._look_one_hop_away({column for column in wanted if "." in column})
        require(world.config.file, table, self.kinds, more)
        settable = {n: replace(f, updateable=True) for n, f in self.described.items()} if creating else self.described
        converted = any(need.iso for source in fields.values() for need in needs(source))
        rates = world.source.rates() if converted else {}
        self.fields, self.suspended = usable(fields, settable, self.kinds, rates)
        going = {need for source in self.fields.values() for need in needs(source)}
        self.needs = going | {Need(column) for column in more.values()}
        self.known = Knowledge(self._labels(), rates)

    def rows(self, ids: Collection[str], *, select: Collection[str] = ()) -> Mapping[str, Row]:
        """The rows of *ids* that exist, by id, with logical names; *select* are more columns, by their wire names."""
        own = [need for need in self.needs if not need.lookup]
        lookups = {need.lookup for need in self.needs if need.lookup}
        columns = {name for need in own for name in _select(need.column, need.money, self.kinds[need.column])}
        columns |= {f"_{lookup}_value" for lookup in lookups}
        found = self.world.source.rows(self.table, ids, {*select, *columns}, {need.column for need in own if need.name})
        rows = {key: _logical(row) for key, row in found.items()}
        for lookup in lookups:
            self._add_hop(rows, lookup)
        return rows

    def values(self, row: Row) -> Mapped:
        """Raises UnfitValueError."""
        return marketo_fields(row, self.fields, self.described, self.known)

    def _look_one_hop_away(self, columns: Collection[str]) -> None:
        self._tables: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for column in columns:
            lookup, _, name = column.partition(".")
            if self.kinds.get(lookup) not in LOOKUPS:
                continue
            kind: str | None = None
            for table in self.world.source.targets(self.table, lookup):
                if found := self.world.source.columns(table).get(name):
                    kind = self.kinds[column] = found
                    self._tables[lookup][table].add(name)
            if kind in CHOICES and sum(name in names for names in self._tables[lookup].values()) > 1:
                self.kinds[column] = "a choice of several tables"

    def _labels(self) -> dict[tuple[str, int], Mapping[int, str]]:
        asked = {(need.column, need.language) for need in self.needs if need.language is not None}
        return {(column, lcid): self._labels_of(column, lcid) for column, lcid in asked if lcid is not None}

    def _labels_of(self, column: str, language: int) -> Mapping[int, str]:
        lookup, _, name = column.rpartition(".")
        tables = [table for table, names in self._tables[lookup].items() if name in names] if lookup else [self.table]
        return self.world.source.labels(tables[0], name, language)

    def _add_hop(self, rows: Mapping[str, dict[str, Any]], lookup: str) -> None:
        """`lookup.column` for every row; a lookup with several target tables finds its id in one of them."""
        ids = {row[lookup] for row in rows.values() if row.get(lookup)}
        needed = [(need.column.rpartition(".")[2], need) for need in self.needs if need.lookup == lookup]
        for table, names in self._tables[lookup].items() if ids else ():
            kinds = self.world.source.columns(table)
            here = [(name, need) for name, need in needed if name in names]
            select = {wire for name, need in here for wire in _select(name, need.money, kinds[name])}
            found = self.world.source.rows(table, ids, select, {name for name, need in here if need.name})
            for row in rows.values():
                there = _logical(found.get(row.get(lookup) or "", {}))
                row |= {f"{lookup}.{name}": value for name, value in there.items()}


def require(file: File, table: str, kinds: Mapping[str, str], columns: Mapping[Place, str]) -> None:
    """A rule without its column would decide wrongly: unlike a field it can't be left alone."""
    if missing := [(place, column) for place, column in columns.items() if column not in kinds]:
        remedy = "use a column's logical name"
        told = (f"{file.place(*place)}: Dynamics' {table} has no column {name}: {remedy}" for place, name in missing)
        raise ConfigurationError("; ".join(told))


def _select(column: str, money: str | None, kind: str) -> set[str]:
    """The Web API's names for a column (dataverse.md §6.2)."""
    if kind in LOOKUPS:
        return {f"_{column}_value"}
    if money is None or money == "transaction":
        return {column}
    base = f"{column}_base"
    return {base} if money == "base" else {column, base, f"_{CURRENCY}_value"}


def _logical(row: Row) -> dict[str, Any]:
    """Lookups by their logical names, besides what the Web API calls them; everything else keeps its name."""
    lookups = {name[1:-6]: value for name, value in row.items() if name[0] == "_" and name.endswith("_value")}
    return {**row, **lookups}


def kind_of(world: World, table: str, column: str) -> str:
    """The AttributeType of a column of *table*, also one hop away; '' if there is none."""
    lookup, _, name = column.rpartition(".")
    kinds = (world.source.columns(each).get(name) for each in tables_of(world, table, lookup))
    return next((kind for kind in kinds if kind), "")


def tables_of(world: World, table: str, lookup: str) -> Sequence[str]:
    """Where the columns of *table* stand, or those of what *lookup* names."""
    if not lookup:
        return (table,)
    return world.source.targets(table, lookup) if world.source.columns(table).get(lookup) in LOOKUPS else ()


def check_rule(file: File, where: Place, rule: Rule, kind: str) -> None:
    """A condition that a column of *kind* never meets would leave everything out, or nothing."""
    if rule.since is not None and kind != DATE_TIME:
        raise ConfigurationError(f"{file.place(*where, 'since')}: {rule.column} holds no time (it is {kind})")
    for key, named in (
        ("in", rule.among),
        ("not_in", rule.not_in),
        ("equals", [] if rule.equals is None else [rule.equals]),
    ):
        if why := misfit(rule.column, kind, named or ()):
            raise ConfigurationError(f"{file.place(*where, key)}: {why}")


def plain_rows(world: World, table: str, ids: Collection[str], columns: Mapping[Place, str]) -> Mapping[str, Row]:
    """The rows of *ids* with the *columns* of rules. Raises ConfigurationError for one that isn't there."""
    if not columns:
        return {}
    kinds = world.source.columns(table)
    require(world.config.file, table, kinds, columns)
    select = {wire for name in columns.values() for wire in _select(name, None, kinds[name])}
    return {key: _logical(row) for key, row in world.source.rows(table, ids, select).items()} if ids else {}
