"""`sync.toml`, read and validated once (design.md §8). Nothing in it is ignored; every error names line and key."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Any, Literal, get_args, get_origin
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from sync_core.errors import ConfigurationError

COLUMN = r"^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$"
CURRENCY = r"^(base|transaction|[A-Z]{3})$"
PREFIX = r"^[A-Za-z0-9._:-]*$"  # a comma would split Marketo's filter values
NOT_BLANK = r"\S"
EVERY = r"^(P[1-9]\d{0,2}D)?$"
PERIOD = r"P(?=\d)(?:(\d{1,3})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?"
OWN_FIELDS = ("externalOpportunityId", "externalCompanyId", "externalSalesPersonId")

Place = tuple[str | int, ...]
"""Keys, and numbers of entries from 0, that lead to a place of the file: `("filter", "rule", 0, "column")`."""

Scalar = str | int | float | bool
ColumnName = Annotated[str, Field(pattern=COLUMN)]
Share = Annotated[float, Field(ge=0, le=1)]


def _in_any_order(items: list[Any]) -> list[Any]:
    """Sorted, for a list whose order means nothing: the version of the mapping then doesn't change with it."""
    return sorted(items, key=repr)


Numbers = Annotated[list[int], AfterValidator(_in_any_order)]
Names = Annotated[list[str], AfterValidator(_in_any_order)]
Choices = Annotated[list[Scalar], Field(min_length=1), AfterValidator(_in_any_order)]


def case_of(value: Any) -> str | None:
    """The key of `is = { … }` that *value* selects: TOML writes yes/no as true and false; no value selects none.

    A whole number is the same one whether its column could hold fractions or not.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return None if value is None else str(value)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Column(_Strict):
    """One Dataverse column: `"name"`, or `{ column = "name", … }`."""

    column: ColumnName
    default: Scalar | None = None
    too_long: Literal["cut", "reject"] = "cut"
    currency: Annotated[str, Field(pattern=CURRENCY)] | None = None
    form: Literal["label", "value", "id", "name"] = Field(default="value", alias="as")
    language: int = 1033
    join: str | None = None
    equals: Scalar | None = None
    among: Choices | None = Field(default=None, alias="in")

    @model_validator(mode="after")
    def _nothing_idle(self) -> Column:
        """Options that go with others only; what needs a certain kind of column, Dynamics tells (`sources.unfit`)."""
        if self.equals is not None and self.among is not None:
            raise PydanticCustomError("both", "has both equals and in; only one of them can hold")
        given = self.model_fields_set - ({"form"} if self.form in ("value", "id") else set())
        if self.named and (idle := sorted(given & {"form", "default", "too_long", "join"})):
            name = idle[0].replace("form", "as")
            raise PydanticCustomError("idle", f"is yes or no by equals or in: take {name} out, or them")
        if "language" in given and self.form != "label":
            raise PydanticCustomError("language", 'language is that of a label: write as = "label", or take it out')
        return self

    @property
    def named(self) -> Sequence[Scalar]:
        """The values that it asks for; none if the field gets the column's own value."""
        return self.among or ([] if self.equals is None else [self.equals])


class FirstOf(_Strict):
    """The first of several columns that is not empty."""

    first_of: Annotated[list[ColumnName], Field(min_length=1)]


class Switch(_Strict):
    """`{ when = column, is = { value = column }, else = column }`."""

    when: ColumnName
    cases: Annotated[dict[str, str], Field(min_length=1)] = Field(alias="is")
    otherwise: str | None = Field(default=None, alias="else")
    currency: Annotated[str, Field(pattern=CURRENCY)] | None = None


class Constant(_Strict):
    value: Scalar


class Product(_Strict):
    product: Annotated[list[str], Field(min_length=2)]


_KINDS = {"column": Column, "first_of": FirstOf, "when": Switch, "value": Constant, "product": Product}


def _kind(value: Any) -> str | None:
    if isinstance(value, Mapping):
        return next((name for name in _KINDS if name in value), None)
    return next((name for name, model in _KINDS.items() if isinstance(value, model)), None)


Source = Annotated[
    Annotated[Column, Tag("column")]
    | Annotated[FirstOf, Tag("first_of")]
    | Annotated[Switch, Tag("when")]
    | Annotated[Constant, Tag("value")]
    | Annotated[Product, Tag("product")],
    Discriminator(
        _kind,
        custom_error_type="unknown_source",
        custom_error_message="must be a column name or a table with column, first_of, when, value or product",
    ),
]


class Key(_Strict):
    column: ColumnName
    prefix: Annotated[str, Field(max_length=14, pattern=PREFIX)] = ""

    def external(self, guid: str) -> str:
        """The Marketo key of a Dataverse id: prefix, then the GUID in lower case (at most 50 characters)."""
        return self.prefix + guid

    def id_of(self, external: str) -> str:
        """The Dataverse id in a Marketo key that may be ours, '' of any other; Marketo compares without case."""
        text = external.casefold()
        if not text.startswith(self.prefix.casefold()):
            return ""
        text = text[len(self.prefix) :]
        try:
            return text if str(UUID(text)) == text else ""
        except ValueError:
            return ""


class Rule(_Strict):
    """One condition of `only` or `[[filter.rule]]`."""

    column: ColumnName
    among: Choices | None = Field(default=None, alias="in")
    not_in: Choices | None = None
    equals: Scalar | None = None
    since: str | None = None
    null: bool | None = None

    @field_validator("since")
    @classmethod
    def _period_or_date(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(PERIOD, value):
            try:
                datetime.fromisoformat(value)
            except ValueError:
                raise PydanticCustomError(
                    "since", "must be a period such as P24M, or a date such as 2025-01-31"
                ) from None
        return value

    @model_validator(mode="after")
    def _asks_something(self) -> Rule:
        if self.model_fields_set <= {"column"}:
            raise PydanticCustomError("no_condition", "needs one of in, not_in, equals, since, null")
        return self


def _short(fields: Any) -> Any:
    """`"name"` for `{ column = "name" }`."""
    if not isinstance(fields, dict):
        return fields
    return {name: {"column": source} if isinstance(source, str) else source for name, source in fields.items()}


class _Fields(_Strict):
    """A table whose keys are Marketo fields, besides the few named ones."""

    fields: dict[str, Source] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        own = cls.model_fields.keys() - {"fields"}
        if mapped := [name for name in OWN_FIELDS if name in value]:
            raise PydanticCustomError("own_field", f"the sync fills {mapped[0]} itself; set key instead")
        named = {name: item for name, item in value.items() if name in own}
        rest = {name: item for name, item in value.items() if name not in own}
        return named | {"fields": _short(rest)}


class OpportunityMap(_Fields):
    key: Key = Key(column="opportunityid")


class CompanyMap(_Fields):
    key: Key = Key(column="accountid")
    only: list[Rule] = []


class Match(_Strict):
    marketo: str
    dataverse: ColumnName


class People(_Strict):
    """`fields` is what a created person gets besides its address: Marketo field = column of the contact."""

    match: Annotated[list[Match], Field(min_length=1)] = [Match(marketo="email", dataverse="emailaddress1")]
    several: Literal["most_recent", "oldest", "park"] = "most_recent"
    when_missing: Literal["wait", "create", "skip"] = "wait"
    link_company: Literal["never", "when_unlinked", "always"] = "never"
    partition: str = ""
    cache_hours: Annotated[int, Field(ge=0, le=24)] = 24
    recheck_calls: Annotated[int, Field(ge=0)] = 100
    fields: Annotated[dict[str, Source], BeforeValidator(_short)] = {
        "firstName": Column(column="firstname"),
        "lastName": Column(column="lastname"),
    }


RoleText = Annotated[str, Field(max_length=50, pattern=NOT_BLANK)]


class RoleSwitch(_Strict):
    """The customer's role by a choice of the opportunity: `{ when = column, is = { 2 = text }, else = text }`."""

    when: ColumnName
    cases: Annotated[dict[str, RoleText], Field(min_length=1)] = Field(alias="is")
    otherwise: RoleText = Field(alias="else")

    def text(self, row: Mapping[str, Any]) -> str:
        return self.cases.get(case_of(row.get(self.when)) or "", self.otherwise)


class Stakeholders(_Strict):
    categories: Numbers = [1000]
    without_role: bool = False
    default_role: RoleText = "Stakeholder"
    customer: Literal["account", "account+contact"] = "account"
    customer_role: RoleText | RoleSwitch = "Primary Contact"
    primary_roles: Names = []
    exclude: Names = []
    ownership: Literal["ours", "all"] = "ours"
    rename: dict[str, RoleText] = {}


class Owner(_Strict):
    """`team` says who stands for an opportunity that a team owns."""

    salesperson: bool = False
    team: Literal["none", "administrator"] = "none"


SALES_PERSON_FIELDS: Mapping[str, Source] = {
    "email": Column(column="internalemailaddress"),
    "firstName": Column(column="firstname"),
    "lastName": Column(column="lastname"),
    "title": Column(column="title"),
}
"""Marketo's sales person of a Dynamics user; its e-mail address must be the user's (marketo.md §0.2, §3.5)."""


class Filter(_Strict):
    rule: list[Rule] = []
    when_leaving: Literal["keep", "remove", "flag"] = "keep"


class Removals(_Strict):
    policy: Literal["delete", "keep", "flag"] = "delete"
    flag: dict[str, Scalar] = {}
    max_count: Annotated[int, Field(ge=0)] = 100
    max_share: Share = 0.01

    def limit(self, known: int) -> int:
        """How many removals within 24 h pass without approval: both limits must be exceeded to hold them."""
        return max(self.max_count, int(self.max_share * known))


class Sync(_Strict):
    fresh_max: Annotated[int, Field(ge=1)] = 3000
    apply_mapping: Literal["auto", "manual"] = "auto"


class History(_Strict):
    """`values`: what was posted for an opportunity is kept for 90 days, in clear; never anything of people."""

    values: bool = False


class Audit(_Strict):
    """How often the functions compare everything with Marketo, '' for never, with how many Marketo calls a day at most;
    `repair`: whether what differs is posted again without anybody asked.
    """

    every: Annotated[str, Field(pattern=EVERY)] = ""
    calls_a_day: Annotated[int, Field(ge=1)] = 2000
    repair: bool = False


def place_of(field: str) -> Place:
    """Where a field stands that people are told of as `section.field`: those of people are in a table of their own."""
    section, *rest = field.split(".")
    return (section, "fields", *rest) if section == "people" else (section, *rest)


@dataclass(frozen=True, slots=True)
class File:
    """What a configuration was read from; not compared, since wherever it stands it is the same one."""

    name: str = field(default="sync.toml", compare=False)
    text: str = field(default="", compare=False)

    def line(self, *path: str | int) -> str:
        """`sync.toml line 7`: of the deepest key that can be found; the name alone where none can."""
        number = _line(self.text, path)
        return f"{self.name} line {number}" if number else self.name

    def place(self, *path: str | int) -> str:
        """`sync.toml line 7, opportunity.amount.currency`."""
        keys = "".join(f" (entry {part + 1})" if isinstance(part, int) else f".{part}" for part in path)
        return f"{self.line(*path)}, {keys[1:]}"


class SyncConfig(_Strict):
    """The whole file."""

    _file: File = PrivateAttr(default=File())

    opportunity: OpportunityMap
    company: CompanyMap = CompanyMap()
    people: People = People()
    stakeholders: Stakeholders = Stakeholders()
    owner: Owner = Owner()
    filter: Filter = Filter()
    removals: Removals = Removals()
    sync: Sync = Sync()
    history: History = History()
    audit: Audit = Audit()

    @cached_property
    def version(self) -> str:
        """Changes with anything that can change what is posted; not with order, comments or defaults written out."""
        parts = {"opportunity", "company", "people", "stakeholders", "owner", "filter"}
        content = self.model_dump(mode="json", include=parts, exclude_defaults=True)
        for name in ("cache_hours", "recheck_calls"):
            content.get("people", {}).pop(name, None)
        text = json.dumps({name: part for name, part in content.items() if part}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()

    @property
    def file(self) -> File:
        """For whoever finds out later, from the services, that something in it is wrong."""
        return self._file


def parse(text: str, *, name: str = "sync.toml") -> SyncConfig:
    """The configuration in *text*; ConfigurationError lists every wrong line and key of it."""
    file = File(name, text.removeprefix("\ufeff"))  # some editors on Windows begin a file with a byte order mark
    try:
        data = tomllib.loads(file.text)
        config = SyncConfig.model_validate(data)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(_no_toml(file, str(error))) from None
    except ValidationError as error:
        raise ConfigurationError("; ".join(_problems(file, data, error.errors()))) from None
    if wrong := [f"{file.place(*path)}: {what}" for path, what in _contradictions(config)]:
        raise ConfigurationError("; ".join(wrong))
    config._file = file
    return config


def _contradictions(config: SyncConfig) -> Iterator[tuple[Place, str]]:
    """Where two places of the file don't fit together."""
    for section, table, primary in (
        ("opportunity", config.opportunity, "opportunityid"),
        ("company", config.company, "accountid"),
    ):
        if table.key.column != primary:
            yield (section, "key", "column"), f"must be {primary}, the primary key: it is the one id that never changes"
        yield from _bad_products((section,), table.fields)
    yield from _bad_products(("people", "fields"), config.people.fields)
    for name in OWN_FIELDS:
        if name in config.people.fields:
            yield ("people", "fields", name), "is a key that the sync looks after: take it out"
    if config.people.when_missing == "create" and "email" not in (match.marketo for match in config.people.match):
        yield ("people", "when_missing"), "create needs a rule in match whose marketo is email"
    for number, rule in enumerate(config.company.only):
        if "." in rule.column:
            yield ("company", "only", number), "is about columns of the account itself"
    for match in config.people.match:
        if "." in match.dataverse:
            yield ("people", "match"), "a person is matched by a column of the contact itself"
    if not config.removals.flag:
        for path, policy in (
            (("removals", "policy"), config.removals.policy),
            (("filter", "when_leaving"), config.filter.when_leaving),
        ):
            if policy == "flag":
                yield path, "flag needs [removals] flag = { a Marketo field = its value }"


def _bad_products(table: tuple[str, ...], fields: Mapping[str, Source]) -> Iterator[tuple[Place, str]]:
    for name, source in fields.items():
        factors = source.product if isinstance(source, Product) else []
        for factor in (each.removesuffix("%") for each in factors):
            if isinstance(fields.get(factor), Product) or factor not in fields:
                told = f"can only multiply fields of [{'.'.join(table)}] that are no products: not {factor}"
                yield (*table, name), told


# --- what is wrong, in words ----------------------------------------------------------------------------------


def _no_toml(file: File, message: str) -> str:
    """Python's message with the two most common mistakes in plain words; without a line it means the file's end."""
    what, _, place = message.partition(" (at ")
    lines = file.text.splitlines()
    line = int(number[0]) if (number := re.search(r"\d+", place)) else len(lines)
    if what == "Cannot overwrite a value":
        what = "the same key stands in this table twice"
    elif what.startswith("Cannot declare"):
        what = "the same table stands in the file twice"
    key = re.match(r"\s*([\w.-]+)\s*=", lines[line - 1])
    return f"{file.name} line {line}{f', {key[1]}' if key else ''}: not valid TOML: {what[:1].lower()}{what[1:]}"


def _problems(file: File, data: Any, errors: Iterable[ErrorDetails]) -> list[str]:
    """One sentence per wrong key: what each member of a union would have taken is joined."""
    found: dict[Place, list[str]] = {}
    for error in errors:
        path = _written(data, error)
        found.setdefault(path, []).append(_in_words(error))
    # A table whose keys were looked at is no wrong kind of value, whatever else could have stood there.
    looked_into = {path[:end] for path in found for end in range(1, len(path))}
    kept = [path for path in found if path not in looked_into or not found[path][0].startswith("must be a ")]
    kept.sort(key=lambda path: _line(file.text, path) or 0)
    return [f"{file.place(*path)}: {_joined(found[path])}" for path in kept]


def _written(data: Any, error: ErrorDetails) -> Place:
    """The keys as they stand in the file: without the names of our own models that pydantic puts between them."""
    path = list(error["loc"])
    if path[1:2] == ["fields"] and path[3:4] and path[3] in _KINDS:
        del path[3]  # which kind of source was taken
    written: list[str | int] = []
    for number, part in enumerate(path):
        if isinstance(data, Mapping) and part in data:
            data = data[str(part)]
        elif isinstance(data, list) and isinstance(part, int):
            data = data[part]
        elif error["type"] != "missing" or number < len(path) - 1:
            continue
        written.append(part)
    return tuple(written)


def _joined(messages: list[str]) -> str:
    """`must be a text` and `must be a whole number`: `must be a text or a whole number`."""
    must = "must be "
    kinds = [message.removeprefix(must) for message in dict.fromkeys(messages) if message.startswith(must)]
    rest = [message for message in dict.fromkeys(messages) if not message.startswith(must)]
    return "; ".join(rest or [must + " or ".join(kinds)])


def _in_words(error: ErrorDetails) -> str:
    kind, limits = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(error)
    if kind == "string_pattern_mismatch":
        return _PATTERNS[limits["pattern"]]
    words = _WORDS.get(kind)
    return words.format(**limits) if words else error["msg"]


def _unknown(error: ErrorDetails) -> str:
    """With what is near it, or all that may stand there."""
    *table, key = error["loc"]
    known = _keys_at(table)
    near = get_close_matches(str(key), known, 1)
    if table:
        return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; the keys are {', '.join(known)}"
    what = "unknown table" if isinstance(error["input"], (dict, list)) else "unknown key outside of any table"
    return f"{what}; did you mean [{near[0]}]?" if near else f"{what}; the tables are {', '.join(known)}"


def _keys_at(table: Iterable[str | int]) -> list[str]:
    """What may stand in *table*, which pydantic names: after a place where several kinds may stand, the one taken."""
    kind: Any = SyncConfig
    for part in table:
        kind = _inside(kind, part)
    return list(_types_by_key(kind))


def _types_by_key(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _inside(kind: Any, part: str | int) -> Any:
    """The type of *part* in a value of type *kind*: an entry, the value of a key, or the member of a union."""
    outer, inner = get_origin(kind), get_args(kind)
    if outer is None:
        return _types_by_key(kind)[str(part)]
    if outer is Annotated:
        return _inside(inner[0], part)
    if outer in (list, dict):
        return inner[-1]
    return RoleSwitch if part == RoleSwitch.__name__ else _KINDS[str(part)]


_WORDS = {
    "missing": "is missing",
    "string_type": "must be a text in quotes",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "list_type": "must be a list in [ ]",
    "dict_type": "must be a table in {{ }}",
    "model_type": "must be a table in {{ }}",
    "model_attributes_type": "must be a table in {{ }}",
    "literal_error": "must be {expected}",
    "string_too_long": "must be at most {max_length} characters long",
    "too_short": "must have {min_length} or more entries",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}
_PATTERNS = {
    COLUMN: "must be the logical name of a Dataverse column: lower-case letters, digits and _",
    CURRENCY: "must be base, transaction or an ISO code such as EUR",
    PREFIX: "must consist of letters, digits and . _ : -",
    NOT_BLANK: "must not be blank",
    EVERY: "must be a number of days such as P7D, or empty for never",
}


def _line(text: str, path: Place) -> int | None:
    """The line of a key under its table's header, else of that header; TOML readers keep no positions."""
    table: Place = ()
    best: int | None = None
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)\s*([^\[\]#]+?)\s*\]", line):
            table = tuple(_keys(header[2]))
            if header[1] == "[[":
                seen[header[2]] = seen.get(header[2], -1) + 1
                table = (*table, seen[header[2]])
            if table[: len(path)] == path:
                return number
            if path[: len(table)] == table:
                best = number
        elif (entry := re.match(r"\s*([^#=\[\]{}]+?)\s*=", line)) and path[: len(table)] == table:
            keys = tuple(_keys(entry[1]))
            if keys and path[len(table) : len(table) + len(keys)] == keys:
                return number
    return best


def _keys(text: str) -> list[str]:
    """The parts of a dotted key, without quotes."""
    return [quoted or single or bare for quoted, single, bare in re.findall(r"\"([^\"]*)\"|'([^']*)'|([\w-]+)", text)]
