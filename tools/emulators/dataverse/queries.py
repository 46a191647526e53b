"""One read of a table: which columns, which rows, in what order, and how a row looks on the wire (dataverse.md §2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tools.emulators.dataverse.errors import bad_request, no_property
from tools.emulators.dataverse.filters import Condition, column_named, parse_filter
from tools.emulators.dataverse.schema import Column, Table
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.store import Row

MAX_PAGE = 5000
FORMATTED = "OData.Community.Display.V1.FormattedValue"
LOOKUP_NAME = "Microsoft.Dynamics.CRM.lookuplogicalname"
NAVIGATION = "Microsoft.Dynamics.CRM.associatednavigationproperty"
TOTAL = "Microsoft.Dynamics.CRM.totalrecordcount"
OPTIONS = {"$select", "$filter", "$orderby", "$top", "$count", "$expand", "$skiptoken", "$deltatoken", "$apply"}

Shape = Callable[[Row], dict[str, Any]]
Order = tuple[tuple[Column, bool], ...]


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the `Prefer` header asked for; *annotations* are patterns such as `*` or `Microsoft.Dynamics.CRM.*`."""

    track_changes: bool = False
    page_size: int | None = None
    annotations: tuple[str, ...] = ()
    continue_on_error: bool = False
    representation: bool = False

    def wants(self, annotation: str) -> bool:
        return any(
            p in {"*", annotation} or (p[-1:] == "*" and annotation.startswith(p[:-1])) for p in self.annotations
        )

    def applied(self) -> str:
        parts = ["odata.track-changes"] * self.track_changes
        parts += [f"odata.maxpagesize={self.page_size}"] if self.page_size else []
        parts += [f'odata.include-annotations="{",".join(self.annotations)}"'] if self.annotations else []
        parts += ["return=representation"] * self.representation
        return ",".join(parts + ["odata.continue-on-error"] * self.continue_on_error)


def parse_prefer(header: str) -> Preferences:
    found: dict[str, str] = {}
    for name, quoted, plain in re.findall(r'([\w.-]+)(?:\s*=\s*(?:"([^"]*)"|([^,;\s]*)))?', header):
        found.setdefault(name.lower(), quoted or plain)
    size = found.get("odata.maxpagesize", "")
    annotations = found.get("odata.include-annotations", "")
    return Preferences(
        "odata.track-changes" in found,
        min(int(size), MAX_PAGE) if size.isdigit() and int(size) > 0 else None,
        tuple(part.strip() for part in annotations.split(",") if part.strip()),
        "odata.continue-on-error" in found,
        found.get("return") == "representation",
    )


@dataclass(frozen=True, slots=True)
class Query:
    """The options of one read. *select* keeps the client's spelling for contexts; *columns* are what is sent."""

    table: Table
    select: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    condition: Condition | None = None
    order: Order = ()
    top: int | None = None
    count: bool = False
    expand: tuple[Expansion, ...] = ()

    def context(self, root: str) -> str:
        return f"{root}$metadata#{self.table.set_name}{self.listed()}"

    def listed(self) -> str:
        expanded = [f"{part.name}{part.query.listed() or '()'}" for part in self.expand]
        names = [*self.select, *expanded]
        return f"({','.join(names)})" if names else ""


@dataclass(frozen=True, slots=True)
class Expansion:
    """A navigation property that is read along with the row."""

    name: str
    column: Column
    target: str
    query: Query = field(repr=False)


def parse_query(state: DataverseState, table: Table, options: Mapping[str, str]) -> Query:
    if "$skip" in options:
        raise bad_request("Skip Clause is not supported in CRM", "0x80060888")
    for name in options:
        if name.startswith("$") and name not in OPTIONS:
            raise bad_request(f"The query parameter {name} is not supported")
    aliases = {name: value for name, value in options.items() if name.startswith("@")}
    select = tuple(name.strip() for name in options.get("$select", "").split(",") if name.strip())
    return Query(
        table,
        select,
        selected(table, select),
        parse_filter(options["$filter"], table, aliases) if options.get("$filter") else None,
        _parse_order(table, options.get("$orderby", "")),
        _parse_top(options.get("$top")),
        options.get("$count", "").lower() == "true",
        tuple(_parse_expansion(state, table, text) for text in _split(options.get("$expand", ""), ",")),
    )


def selected(table: Table, select: tuple[str, ...]) -> tuple[Column, ...]:
    """The key always comes along, and the currency with any amount (dataverse.md §2)."""
    if not select or select == ("*",):
        return tuple(table.columns.values())
    columns = {name: column_named(table, name) for name in select}
    if any(column.kind == "money" for column in columns.values()):
        columns.setdefault("_transactioncurrencyid_value", table.wire["_transactioncurrencyid_value"])
    columns.setdefault(table.key, table.columns[table.key])
    return tuple(columns.values())


def _parse_order(table: Table, text: str) -> Order:
    order = []
    for part in text.split(",") if text else ():
        name, _, direction = part.strip().partition(" ")
        if direction.strip() not in {"", "asc", "desc"}:
            raise bad_request(f"Syntax error in $orderby: '{part}'.")
        order.append((column_named(table, name), direction.strip() == "desc"))
    return tuple(order)


def _parse_top(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit():
        raise bad_request(f"Invalid value '{text}' for $top query option found.")
    return int(text)


def _split(text: str, separator: str) -> list[str]:
    """Split, but not inside parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _parse_expansion(state: DataverseState, table: Table, text: str) -> Expansion:
    """`parentcontactid($select=fullname,emailaddress1)`."""
    name, _, inner = text.partition("(")
    navigation = table.navigations().get(name)
    if navigation is None:
        raise no_property(name, table.name)
    column, targets = navigation
    inner = inner[:-1] if inner.endswith(")") else inner
    options = dict(part.split("=", 1) for part in _split(inner, ";") if "=" in part)
    if targets[0] not in state.tables:
        raise no_property(name, table.name)
    return Expansion(name, column, targets[0], parse_query(state, state.tables[targets[0]], options))


# -- rows on the wire ---------------------------------------------------------------------------------


def shape(state: DataverseState, query: Query, preferences: Preferences) -> Shape:
    """How a stored row becomes a row of the answer: an etag, the columns, null where no value is or may be read."""
    shaped = _annotated(state, query, preferences) if preferences.annotations else _bare(state, query, preferences)
    if not (hidden := state.hidden(query.table)):
        return shaped
    return lambda row: shaped({name: value for name, value in row.items() if name not in hidden})


def _bare(state: DataverseState, query: Query, preferences: Preferences) -> Shape:
    names = [column.wire for column in query.columns]
    expanded = query.expand

    def plain(row: Row) -> dict[str, Any]:
        get = row.get
        wire: dict[str, Any] = {"@odata.etag": f'W/"{row["versionnumber"]}"'}
        wire.update([(name, get(name)) for name in names])
        return wire | _expansions(state, expanded, row, preferences) if expanded else wire

    return plain


def _expansions(state: DataverseState, expand: tuple[Expansion, ...], row: Row, preferences: Preferences) -> Row:
    """The rows behind the navigation properties; null where the lookup is empty or leads to another table."""
    found: Row = {}
    for part in expand:
        target = state.stores[part.target].rows.get(row.get(part.column.wire, ""))
        found[part.name] = shape(state, part.query, preferences)(target) if target else None
    return found


def _annotated(state: DataverseState, query: Query, preferences: Preferences) -> Shape:
    formatted, lookup, navigation = (preferences.wants(name) for name in (FORMATTED, LOOKUP_NAME, NAVIGATION))

    def annotated(row: Row) -> dict[str, Any]:
        wire: dict[str, Any] = {"@odata.etag": f'W/"{row["versionnumber"]}"'}
        for column in query.columns:
            name, value = column.wire, row.get(column.wire)
            if column.kind == "lookup" and value is not None:
                target = state.target_of(column, row)
                if navigation and (property_name := column.navigation(target or "")):
                    wire[f"{name}@{NAVIGATION}"] = property_name
                if lookup and target:
                    wire[f"{name}@{LOOKUP_NAME}"] = target
                if formatted:
                    wire[f"{name}@{FORMATTED}"] = state.title_of(target, value)
            elif formatted and value is not None and (text := formatted_value(state, column, row)) is not None:
                wire[f"{name}@{FORMATTED}"] = text
            wire[name] = value
        return wire | _expansions(state, query.expand, row, preferences)

    return annotated


def formatted_value(state: DataverseState, column: Column, row: Row) -> str | None:
    """The text a person would see, in the organization's English; None where the platform adds none."""
    value = row[column.wire]
    if column.kind in {"choice", "state", "status"}:
        return column.label(value)
    if column.kind == "multichoice":
        return "; ".join(column.label(int(part)) or part for part in value.split(",") if part)
    if column.kind == "bool":
        return next((o.label for o in column.options if o.value == int(value)), "Yes" if value else "No")
    if column.kind == "money":
        return f"{_symbol(state, column, row)}{value:,.2f}"
    return _plain_format(column.kind, value)


def _symbol(state: DataverseState, column: Column, row: Row) -> str:
    currency = state.base_currency_id if column.name.endswith("_base") else row.get("_transactioncurrencyid_value")
    return str(state.stores["transactioncurrency"].rows.get(currency or "", {}).get("currencysymbol", "$"))


def _plain_format(kind: str, value: Any) -> str | None:
    if kind == "date":
        return f"{int(value[5:7])}/{int(value[8:10])}/{value[:4]}"
    if kind == "datetime":
        hour, minute = int(value[11:13]), value[14:16]
        return f"{_plain_format('date', value)} {hour % 12 or 12}:{minute} {'PM' if hour > 11 else 'AM'}"
    if kind in {"int", "bigint"}:
        return f"{value:,}"
    return f"{value:,.2f}" if kind == "decimal" else None


# -- which rows, in what order ------------------------------------------------------------------------


def sort_key(column: Column, row: Row) -> tuple[bool, Any]:
    """Rows without a value come first, texts are ordered without regard to case."""
    value = row.get(column.wire)
    return (value is not None, value.lower() if isinstance(value, str) else value if value is not None else 0)


def ordered(rows: list[Row], query: Query) -> list[Row]:
    for column, descending in reversed(query.order):
        rows.sort(key=lambda row: sort_key(column, row), reverse=descending)
    return rows


def position_keys(query: Query, row: Row) -> list[Any]:
    """Where the row stands in the order, for the paging cookie."""
    return [row.get(column.wire) for column, _ in query.order]


def comes_after(query: Query, row: Row, keys: list[Any], last_id: str) -> bool:
    """Whether the row stands behind the place that a paging cookie remembers."""
    for (column, descending), value in zip(query.order, keys, strict=True):
        mine, theirs = sort_key(column, row), sort_key(column, {column.wire: value})
        if mine != theirs:
            return (mine < theirs) if descending else (mine > theirs)
    return bool(row[query.table.key] > last_id)
