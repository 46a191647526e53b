"""`$filter`: from its text to a predicate over rows, and to the ids an index can name (dataverse.md §4)."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tools.emulators.dataverse.clock import parse_time, wire_time
from tools.emulators.dataverse.errors import DataverseError, bad_request, no_property
from tools.emulators.dataverse.schema import Column, Table
from tools.emulators.dataverse.store import Row, Store

MAX_CONDITIONS = 500
TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^']|'')*')
      | (?P<array>\[(?:[^\]"]|"(?:[^"\\]|\\.)*")*\])
      | (?P<moment>\d{4}-\d{2}-\d{2}T[0-9:.]+(?:Z|[+-]\d{2}:\d{2})?)
      | (?P<guid>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})
      | (?P<date>\d{4}-\d{2}-\d{2})
      | (?P<number>-?\d+(?:\.\d+)?)
      | (?P<word>@?[A-Za-z_][\w.]*)
      | (?P<mark>[(),=])
    )""",
    re.VERBOSE,
)
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "ne": operator.ne, "gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le,
}  # fmt: skip
TEXT_FUNCTIONS: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda text, part: part in text,
    "startswith": str.startswith,
    "endswith": str.endswith,
}
IN = "Microsoft.Dynamics.CRM.In"

Predicate = Callable[[Row], bool]
Candidates = Callable[[Store], "set[str] | None"]


@dataclass(frozen=True, slots=True)
class Condition:
    """*holds* decides a row; *candidates* names the only rows that can hold, or None when only a scan tells."""

    holds: Predicate
    candidates: Candidates
    count: int = 1


def parse_filter(text: str, table: Table, aliases: Mapping[str, str]) -> Condition:
    condition = _Parser(text, table, aliases).parse()
    if condition.count > MAX_CONDITIONS:
        raise DataverseError(400, "0x8004430C", "Number of conditions in query exceeded maximum limit.")
    return condition


def _tokens(text: str) -> list[tuple[str, str]]:
    found, position = [], 0
    while position < len(text.rstrip()):
        match = TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise bad_request(f"Syntax error at position {position} in '{text[:200]}'.", "0x80060888")
        found.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return found


class _Parser:
    """Recursive descent: or > and > not > comparison, function or parenthesis."""

    def __init__(self, text: str, table: Table, aliases: Mapping[str, str]) -> None:
        self.text, self.table, self.aliases = text, table, aliases
        self.tokens = _tokens(text)
        self.position = 0

    def parse(self) -> Condition:
        condition = self.disjunction()
        if self.position < len(self.tokens):
            raise self.error()
        return condition

    def error(self) -> DataverseError:
        return bad_request(f"Syntax error in '$filter': near token {self.position} of '{self.text[:200]}'.")

    def take(self, *wanted: str) -> str:
        if self.position >= len(self.tokens) or (wanted and self.tokens[self.position][1] not in wanted):
            raise self.error()
        self.position += 1
        return self.tokens[self.position - 1][1]

    def next_is(self, word: str) -> bool:
        found = self.position < len(self.tokens) and self.tokens[self.position][1] == word
        self.position += found
        return found

    def disjunction(self) -> Condition:
        parts = [self.conjunction()]
        while self.next_is("or"):
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else _any(parts)

    def conjunction(self) -> Condition:
        parts = [self.negation()]
        while self.next_is("and"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else _all(parts)

    def negation(self) -> Condition:
        if self.next_is("not"):
            inner = self.negation()
            return Condition(lambda row: not inner.holds(row), lambda store: None, inner.count)
        if self.next_is("("):
            inner = self.disjunction()
            self.take(")")
            return inner
        return self.comparison()

    def comparison(self) -> Condition:
        word = self.take()
        if self.position < len(self.tokens) and self.tokens[self.position][1] == "(":
            return self.function(word)
        column = column_named(self.table, word)
        comparison = self.take(*COMPARISONS)
        return compared(self.table, column, comparison, self.value(column))

    def function(self, name: str) -> Condition:
        self.take("(")
        if name in TEXT_FUNCTIONS:
            return self.text_function(name)
        if name != IN:
            raise bad_request(f"An unknown function with name '{name}' was found.")
        arguments = dict(self.argument() for _ in range(2))
        self.take(")")
        if arguments.keys() != {"PropertyName", "PropertyValues"}:
            raise self.error()
        return contained(self.table, str(arguments["PropertyName"]), arguments["PropertyValues"])

    def argument(self) -> tuple[str, Any]:
        name = self.take()
        self.take("=")
        value = self.raw()
        self.next_is(",")
        return name, value

    def raw(self) -> Any:
        """A string or an array, spelled out or behind an alias."""
        kind, text = self.tokens[self.position] if self.position < len(self.tokens) else ("", "")
        self.take()
        if text.startswith("@"):
            kind, text = _tokens(self.alias(text))[0]
        if kind == "string":
            return text[1:-1].replace("''", "'")
        return _array(text)

    def alias(self, name: str) -> str:
        if name not in self.aliases:
            raise bad_request(f"The parameter alias '{name}' has no value.")
        return self.aliases[name]

    def text_function(self, name: str) -> Condition:
        column = column_named(self.table, self.take())
        self.take(",")
        part = str(self.raw()).lower()
        self.take(")")
        test, wire = TEXT_FUNCTIONS[name], column.wire
        return Condition(lambda row: test((row.get(wire) or "").lower(), part), lambda store: None)

    def value(self, column: Column) -> Any:
        kind, text = self.tokens[self.position] if self.position < len(self.tokens) else ("", "")
        self.take()
        if text.startswith("@"):
            kind, text = _tokens(self.alias(text))[0]
        return literal(self.table, column, kind, text)


def _array(text: str) -> list[Any]:
    try:
        values = json.loads(text)
    except ValueError as error:  # apostrophes inside the array, for instance (dataverse.md §4)
        raise bad_request("Invalid JSON. A comma character ',' was expected in scope 'Array'.") from error
    if not isinstance(values, list):
        raise bad_request("PropertyValues must be an array of strings.")
    return values


def column_named(table: Table, name: str) -> Column:
    """A lookup only by its `_x_value` (dataverse.md §2)."""
    column = table.wire.get(name)
    if column is None:
        raise no_property(name, table.name)
    return column


def literal(table: Table, column: Column, kind: str, text: str) -> Any:
    """The literal as it stands in a row of that column; strings in lower case, since comparing ignores case."""
    if text == "null":
        return None
    expected = KINDS.get(column.kind, {"number"})
    if kind not in expected or (kind == "word" and text not in {"true", "false"}):
        raise bad_request(
            f"A binary operator with incompatible types was detected: '{table.name}.{column.name}' is {column.kind}."
        )
    if kind == "string":
        return text[1:-1].replace("''", "'").lower()
    if kind in {"moment", "date"}:
        return text
    return {"true": True, "false": False}.get(text, text.lower() if kind == "guid" else _number(text))


KINDS = {
    "string": {"string"}, "memo": {"string"}, "multichoice": {"string"}, "bool": {"word"}, "guid": {"guid"},
    "lookup": {"guid"}, "date": {"date", "moment"}, "datetime": {"moment", "date"},
}  # fmt: skip


def _number(text: str) -> float | str:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def compared(table: Table, column: Column, comparison: str, value: Any) -> Condition:
    wire = column.wire
    if column.kind in {"date", "datetime"} and value is not None:
        comparison, value = _moment(column, comparison, value)
    candidates: Candidates = _no_candidates
    if comparison == "eq" and column.kind in {"guid", "lookup"} and value is not None:
        candidates = _from_index(wire, [value])
    if column.name == "modifiedon" and comparison in {"ge", "gt"} and value is not None:
        candidates = _modified_since(value)
    return Condition(_comparing(column, COMPARISONS[comparison], comparison, value), candidates)


def _comparing(column: Column, compare: Callable[[Any, Any], bool], comparison: str, value: Any) -> Predicate:
    wire, empty = column.wire, comparison == "ne"
    if value is None:
        return (
            (lambda row: row.get(wire) is None)
            if comparison == "eq"
            else (lambda row: (row.get(wire) is not None) == empty)
        )
    if column.kind in {"string", "memo"}:
        return lambda row: empty if (found := row.get(wire)) is None else compare(found.lower(), value)
    # As the platform's own queries do, "not equal" also finds the rows without a value.
    return lambda row: empty if (found := row.get(wire)) is None else compare(found, value)


def _moment(column: Column, comparison: str, text: str) -> tuple[str, Any]:
    """Rows hold whole seconds: a fraction in the literal is moved into the comparison."""
    moment = parse_time(text)
    if column.kind == "date":
        return comparison, moment.date().isoformat()
    if moment.microsecond:
        comparison = {"ge": "gt", "lt": "le"}.get(comparison, comparison)
    return comparison, wire_time(moment)


def contained(table: Table, name: str, values: list[Any]) -> Condition:
    """The In function; *name* is the logical name of a column, or its name in a row."""
    column = table.columns.get(name) or column_named(table, name)
    wire = column.wire
    wanted = {_in_value(column, value) for value in values}
    if column.kind in {"string", "memo"}:
        return Condition(lambda row: (row.get(wire) or "").lower() in wanted, _no_candidates)
    return Condition(lambda row: row.get(wire) in wanted, _from_index(wire, wanted))


def _in_value(column: Column, value: Any) -> Any:
    text = str(value)
    if column.kind in {"guid", "lookup", "string", "memo"}:
        return text.strip("{}").lower()
    return _number(text)


def _from_index(wire: str, values: Any) -> Candidates:
    return lambda store: store.ids_with(wire, values)


def _modified_since(moment: str) -> Candidates:
    return lambda store: store.modified_since(moment)


def _no_candidates(store: Store) -> set[str] | None:
    return None


def _all(parts: list[Condition]) -> Condition:
    def candidates(store: Store) -> set[str] | None:
        known = [ids for part in parts if (ids := part.candidates(store)) is not None]
        return set.intersection(*known) if known else None

    tests = [part.holds for part in parts]
    return Condition(lambda row: all(test(row) for test in tests), candidates, sum(part.count for part in parts))


def _any(parts: list[Condition]) -> Condition:
    def candidates(store: Store) -> set[str] | None:
        known = [part.candidates(store) for part in parts]
        return None if None in known else set().union(*(ids for ids in known if ids is not None))

    tests = [part.holds for part in parts]
    return Condition(lambda row: any(test(row) for test in tests), candidates, sum(part.count for part in parts))
