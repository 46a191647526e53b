"""What a mapped field reads of a Dataverse row, and the value it takes from it (design.md §8). Pure.

A row is keyed by logical names here, whatever the Web API calls a column: `ownerid` is the id that a lookup holds,
`ownerid@name` the name of what it names, `estimatedvalue_base` money in the base currency, and
`originatingleadid.leadsourcecode` a column of the row that a lookup names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sync_core.mapping import Column, Constant, FirstOf, Product, Scalar, Source, Switch, case_of
from sync_core.model import Rate, Row

LOOKUPS = frozenset({"Lookup", "Customer", "Owner"})
IDS = LOOKUPS | {"Uniqueidentifier"}
CHOICES = frozenset({"Picklist", "State", "Status", "Boolean", "MultiSelectPicklist"})
NUMBERS = frozenset({"Integer", "BigInt", "Decimal", "Double", "Money"})
CURRENCY = "transactioncurrencyid"
ISO_CODE = 3
TEXTUAL = frozenset({"string", "text", "reference", "phone", "url"})
NUMERIC = frozenset({"integer", "percent", "score", "float", "currency"})

Labels = Mapping[tuple[str, int], Mapping[int, str]]
"""Choice labels by (column, LCID)."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What of the organization the values depend on: choice labels, and exchange rates by ISO code."""

    labels: Labels
    rates: Mapping[str, Rate]


@dataclass(frozen=True, slots=True)
class Need:
    """One column that a field reads; `language` asks for its labels, `money` for a currency (`mapping.Column`).

    `asked`: it only decides which column is taken.
    """

    column: str
    name: bool = False
    language: int | None = None
    money: str | None = None
    asked: bool = False

    @property
    def iso(self) -> str:
        """The currency asked for by its code, if it is."""
        return self.money if self.money and len(self.money) == ISO_CODE else ""

    @property
    def read(self) -> Sequence[str]:
        """The columns that are read for it: `currency = "base"` reads another one instead, an ISO code both."""
        base = f"{self.column}_base"
        if self.money in (None, "transaction"):
            return (self.column,)
        return (base,) if self.money == "base" else (self.column, base)

    @property
    def lookup(self) -> str:
        """The lookup that leads to the column, '' if it is the row's own."""
        return self.column.rpartition(".")[0]


def needs(source: Source) -> Iterator[Need]:
    """Every column that *source* reads."""
    match source:
        case Column():
            language = source.language if source.form == "label" else None
            yield Need(source.column, source.form == "name", language, source.currency)
        case FirstOf():
            yield from (Need(column) for column in source.first_of)
        case Switch():
            yield Need(source.when, asked=True)
            branches = (*source.cases.values(), *([source.otherwise] if source.otherwise else []))
            yield from (Need(column, money=source.currency) for column in branches)


def unfit(source: Source, kinds: Mapping[str, str], type: str, currencies: Mapping[str, Rate] | None = None) -> str:
    """Why *source* can't fill a Marketo field of *type*, given the AttributeType of each column; '' if it can."""
    for need in needs(source):
        kind = kinds.get(need.column)
        if kind is None:
            return f"Dynamics has no column {need.column}"
        if need.language is not None and kind not in CHOICES:
            return f"{need.column} has no labels (it is {kind})"
        if need.name and kind not in LOOKUPS:
            return f"{need.column} is no lookup (it is {kind})"
        if isinstance(source, Column) and (why := _idle(source, kind)):
            return why
        if currencies is not None and need.iso and (why := _no_rate(need.iso, currencies)):
            return why
        if need.money is not None and kind != "Money":
            return f"{need.column} has no currency (it is {kind})"
        if isinstance(source, Column) and (why := misfit(source.column, kind, source.named)):
            return why
        if isinstance(source, Switch) and need.asked and (why := no_case(source.when, kind, source.cases)):
            return why
        if not need.asked and not _fits(source, kind, type):
            remedy = ": ask for a value by equals or in" if type == "boolean" and isinstance(source, Column) else ""
            return f"{need.column} ({kind}) doesn't fit Marketo's type {type}{remedy}"
    if isinstance(source, Product) and type not in TEXTUAL | NUMERIC:
        return f"a product doesn't fit Marketo's type {type}"
    return ""


def _idle(source: Column, kind: str) -> str:
    """The option that a column of *kind* has no use for."""
    if source.form == "id" and kind not in IDS:
        return f"{source.column} is no lookup (it is {kind})"
    if source.join is not None and kind != "MultiSelectPicklist":
        return f"{source.column} is no multi-select choice (it is {kind}): take join out"
    return ""


def _no_rate(iso: str, currencies: Mapping[str, Rate]) -> str:
    if iso not in currencies:
        return f"Dynamics has no currency {iso}"
    return "" if currencies[iso].per_base else f"Dynamics' currency {iso} has no exchange rate"


def _fits(source: Source, kind: str, type: str) -> bool:
    """Text may spell any number or time; the other kinds can't turn into each other."""
    if type in TEXTUAL:
        return True
    if isinstance(source, Column) and source.named:
        return type == "boolean"
    if kind in ("String", "Memo"):
        return type != "boolean"
    words = isinstance(source, Column) and source.form in ("label", "name")
    if words or kind in IDS or kind == "MultiSelectPicklist":
        return False
    if kind == "DateTime":
        return type in ("date", "datetime")
    if kind == "Boolean":
        return type == "boolean"
    return type in NUMERIC or (type == "boolean" and kind not in NUMBERS)


def misfit(column: str, kind: str, named: Iterable[Scalar]) -> str:
    """Why a column of *kind* never holds one of the values that sync.toml names, as `matches` compares; '' if it may.

    A kind that isn't known here may hold anything.
    """
    what, remedy, possible = _HELD.get(kind, _ANYTHING)
    return "" if all(map(possible, named)) else f"{column} holds {what} (it is {kind}): {remedy}"


def no_case(column: str, kind: str, keys: Iterable[str]) -> str:
    """The same of the keys of `is = { … }`, which are text whatever they name."""
    several = kind == "MultiSelectPicklist"
    named = (part for key in keys for part in (key.split(",") if several else [key]))
    return misfit(column, kind, (_named(kind, part) for part in named))


def _named(kind: str, key: str) -> Scalar:
    """The value that selects *key*, or the key itself where none of *kind* does."""
    if kind == "Boolean":
        return {"true": True, "false": False}.get(key, key)
    if kind in CHOICES | NUMBERS and re.fullmatch(r"-?\d+(\.\d+)?", key):
        number = float(key) if "." in key else int(key)
        return number if case_of(number) == key else key
    return key if kind not in IDS or key == key.lower() else ""


def _number(value: Scalar) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Scalar) -> bool:
    return _number(value) and float(value).is_integer()


def _written(pattern: str) -> Callable[[Scalar], bool]:
    """Whether a value is a text of that pattern."""
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def value_of(row: Row, source: Source, known: Knowledge, field: Callable[[str], Any]) -> Any:
    """The raw value that *source* takes from *row*; *field* gives the value of another mapped field, for products."""
    match source:
        case Constant():
            return source.value
        case FirstOf():
            return next((value for name in source.first_of if (value := clean(row.get(name))) is not None), None)
        case Switch():
            column = source.cases.get(case_of(row.get(source.when)) or "", source.otherwise)
            return money(row, column, source.currency, known) if column else None
        case Column():
            return _column(row, source, known)
    factors = [_factor(name, field) for name in source.product]
    return None if None in factors else _product(factors)


def _column(row: Row, source: Column, known: Knowledge) -> Any:
    value = clean(money(row, source.column, source.currency, known))
    if source.named:
        return any(matches(value, one) for one in source.named)
    if source.form == "name" and value is not None:
        value = clean(row.get(f"{source.column}@name")) or value
    if source.form == "label" and value is not None:
        value = _label(value, known.labels[source.column, source.language], source.join or ";")
    elif source.join is not None and _choices(value):
        value = source.join.join(value.split(","))
    return clean(source.default) if value is None else value


def matches(value: Any, wanted: Any) -> bool:
    """Whether a column's *value* is what sync.toml names: text as Dataverse compares it, without regard to case; of
    several choices (`1,2`) any; yes and no are no numbers.
    """
    if isinstance(value, str) and isinstance(wanted, str):
        return value.casefold() == wanted.casefold()
    if _number(wanted) and (several := _choices(value)):
        return wanted in several
    return value is not None and isinstance(value, bool) is isinstance(wanted, bool) and bool(value == wanted)


def _choices(value: Any) -> list[int]:
    """The options of a multi-select choice, which comes as `1,2` (dataverse.md §5); none of anything else."""
    several = isinstance(value, str) and re.fullmatch(r"-?\d+(,-?\d+)*", value)
    return [int(each) for each in value.split(",")] if several else []


def _label(value: Any, labels: Mapping[int, str], join: str) -> Any:
    """The label of a choice; of several (Dataverse writes `1,2`) all. An option without a label stays a number."""
    if isinstance(value, str):
        return join.join(clean(labels.get(int(each))) or each for each in value.split(","))
    return clean(labels.get(int(value))) or value


def money(row: Row, column: str, currency: str | None, known: Knowledge) -> Any:
    """An amount in the currency asked for: as entered, in the base currency, or converted by the org's rate."""
    if currency in (None, "transaction"):
        return row.get(column)
    if currency == "base":
        return row.get(f"{column}_base")
    rate = known.rates[str(currency)]
    entered_in = f"{column.rpartition('.')[0]}.{CURRENCY}".removeprefix(".")
    if row.get(entered_in) == rate.id:
        return row.get(column)
    base = row.get(f"{column}_base")
    return None if base is None else float(Decimal(str(base)) * Decimal(str(rate.per_base)))


def _factor(name: str, field: Callable[[str], Any]) -> Decimal | None:
    value = field(name.removesuffix("%"))
    if value is None:
        return None
    return Decimal(str(value)) / (100 if name.endswith("%") else 1)


def _product(factors: list[Decimal | None]) -> float:
    result = Decimal(1)
    for factor in factors:
        result *= factor if factor is not None else 1
    return float(result)


_TEXT = ("text", "write it in quotes", _written("(?s).*"))
_ID = (
    "ids",
    "write one in quotes, in lower case",
    _written("(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
)
_CHOICE = ("numbers", "name them, no labels", _whole)
_ANYTHING: tuple[str, str, Callable[[Scalar], bool]] = ("", "", lambda _: True)
_HELD: Mapping[str, tuple[str, str, Callable[[Scalar], bool]]] = {
    "Boolean": ("yes or no", "write true or false", lambda value: isinstance(value, bool)),
    **dict.fromkeys(("Picklist", "State", "Status", "MultiSelectPicklist"), _CHOICE),
    **dict.fromkeys(("Integer", "BigInt"), ("whole numbers", "write one, without quotes", _whole)),
    **dict.fromkeys(("Decimal", "Double", "Money"), ("numbers", "write one, without quotes", _number)),
    **dict.fromkeys(("String", "Memo"), _TEXT),
    "DateTime": (
        "times",
        'write one as Dynamics does, such as "2026-01-31" or "2026-01-31T08:00:00Z"',
        _written(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?"),
    ),
    **dict.fromkeys(IDS, _ID),
}
"""By AttributeType: what its columns hold, what to write for it, and whether a value of sync.toml can be one."""


def clean(value: Any) -> Any:
    """Text without blanks around it, or None if nothing is left.

    Dataverse cuts text by UTF-16 units, which can leave half an emoji at the end: no JSON can carry that.
    """
    if not isinstance(value, str):
        return value
    if value.isascii():
        return value.strip() or None
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "ignore").strip() or None
