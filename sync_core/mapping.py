"""`sync.toml`, read and validated once (design.md §8).

The whole grammar is parsed; what is valid but not built yet is a `ConfigurationError` of its own, never ignored.
Every error names the line and the key.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from sync_core.errors import ConfigurationError

Scalar = str | int | float | bool
ColumnName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$")]
Percent = Annotated[float, Field(gt=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Column(_Strict):
    """One Dataverse column: `"name"`, or `{ column = "name", … }`."""

    column: ColumnName
    default: Scalar | None = None
    too_long: Literal["cut", "reject"] = "cut"
    currency: Annotated[str, Field(pattern=r"^(base|transaction|[A-Z]{3})$")] | None = None
    form: Literal["label", "value", "id", "name"] = Field(default="value", alias="as")
    language: int = 1033
    join: str | None = None
    equals: Scalar | None = None
    among: list[Scalar] | None = Field(default=None, alias="in")


class FirstOf(_Strict):
    """The first of several columns that is not empty."""

    first_of: Annotated[list[ColumnName], Field(min_length=1)]


class Switch(_Strict):
    """`{ when = column, is = { value = column }, else = column }`."""

    when: ColumnName
    cases: dict[str, str] = Field(alias="is")
    otherwise: str | None = Field(default=None, alias="else")
    currency: str | None = None


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
    prefix: Annotated[str, Field(max_length=14)] = ""

    def external(self, guid: str) -> str:
        """The Marketo key of a Dataverse id: prefix, then the GUID in lower case (at most 50 characters)."""
        return self.prefix + guid


class Rule(_Strict):
    """One condition of `only` or `[[filter.rule]]`."""

    column: ColumnName
    among: list[Scalar] | None = Field(default=None, alias="in")
    not_in: list[Scalar] | None = None
    equals: Scalar | None = None
    since: str | None = None
    null: bool | None = None


class _Fields(_Strict):
    """A table whose keys are Marketo fields, besides the few named ones."""

    fields: dict[str, Source] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "fields" in value:
            return value
        own = cls.model_fields.keys()
        named = {name: item for name, item in value.items() if name in own}
        rest = {name: item for name, item in value.items() if name not in own}
        return named | {"fields": {n: {"column": s} if isinstance(s, str) else s for n, s in rest.items()}}


class OpportunityMap(_Fields):
    key: Key = Key(column="opportunityid")


class CompanyMap(_Fields):
    key: Key = Key(column="accountid")
    only: list[Rule] = []


class Match(_Strict):
    marketo: str
    dataverse: ColumnName


class People(_Strict):
    match: Annotated[list[Match], Field(min_length=1)] = [Match(marketo="email", dataverse="emailaddress1")]
    several: Literal["most_recent", "oldest", "park"] = "most_recent"
    when_missing: Literal["wait", "create", "skip"] = "wait"
    link_company: Literal["never", "when_unlinked", "always"] = "never"
    partition: str = ""
    cache_hours: Annotated[int, Field(ge=0, le=24)] = 24
    recheck_calls: Annotated[int, Field(ge=0)] = 100


RoleText = Annotated[str, Field(min_length=1, max_length=50, pattern=r"\S")]


class RoleSwitch(_Strict):
    when: ColumnName
    cases: dict[str, RoleText] = Field(alias="is")
    otherwise: RoleText = Field(alias="else")

    def text(self, row: Mapping[str, Any]) -> str:
        return self.cases.get(str(row.get(self.when)), self.otherwise)


class Stakeholders(_Strict):
    categories: list[int] = [1000]
    without_role: bool = False
    default_role: RoleText = "Stakeholder"
    customer: Literal["account", "account+contact"] = "account"
    customer_role: RoleText | RoleSwitch = "Primary Contact"
    primary_roles: list[str] = []
    exclude: list[str] = []
    ownership: Literal["ours", "all"] = "ours"
    rename: dict[str, RoleText] = {}


class Owner(_Strict):
    salesperson: bool = False
    team: Literal["none", "administrator"] = "none"


class Filter(_Strict):
    rule: list[Rule] = []
    when_leaving: Literal["keep", "remove", "flag"] = "keep"


class Removals(_Strict):
    policy: Literal["delete", "keep", "flag"] = "delete"
    flag: dict[str, Scalar] = {}
    max_count: Annotated[int, Field(ge=0)] = 100
    max_share: Percent = 0.01

    def limit(self, known: int) -> int:
        """How many removals within 24 h pass without approval: both limits must be exceeded to hold them."""
        return max(self.max_count, int(self.max_share * known))


class Sync(_Strict):
    fresh_max: Annotated[int, Field(ge=1)] = 3000
    apply_mapping: Literal["auto", "manual"] = "auto"


class History(_Strict):
    values: bool = False


class SyncConfig(_Strict):
    """The whole file; `version` changes with anything that can change what is posted or removed."""

    opportunity: OpportunityMap
    company: CompanyMap = CompanyMap()
    people: People = People()
    stakeholders: Stakeholders = Stakeholders()
    owner: Owner = Owner()
    filter: Filter = Filter()
    removals: Removals = Removals()
    sync: Sync = Sync()
    history: History = History()

    @property
    def version(self) -> str:
        parts = (self.opportunity, self.company, self.stakeholders, self.owner, self.filter)
        text = "\n".join(part.model_dump_json() for part in parts)
        return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def parse(text: str, *, name: str = "sync.toml") -> SyncConfig:
    """The configuration in *text*; ConfigurationError lists every wrong line and key of it."""
    try:
        config = SyncConfig.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{name} is not valid TOML: {error}") from None
    except ValidationError as error:
        problems = [_problem(text, name, item["loc"], item["msg"]) for item in error.errors()]
        raise ConfigurationError("; ".join(problems)) from None
    if missing := [_problem(text, name, path, f"{what} is not built yet") for path, what in _not_built(config)]:
        raise ConfigurationError("; ".join(missing))
    return config


def _not_built(config: SyncConfig) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Where the file asks for something valid that this version cannot do."""
    for section, table in (("opportunity", config.opportunity), ("company", config.company)):
        if table.key.column != f"{'account' if section == 'company' else section}id":
            yield (section, "key"), "a key other than the primary key"
        for field, source in table.fields.items():
            for what in _unbuilt_source(source):
                yield (section, field), what
    switches = (
        (("company", "only"), bool(config.company.only), "a filter on companies"),
        (("people", "match"), len(config.people.match) > 1, "more than one match rule"),
        (("people", "several"), config.people.several == "park", "several = park"),
        (("people", "when_missing"), config.people.when_missing == "create", "creating people"),
        (("people", "link_company"), config.people.link_company != "never", "linking people to companies"),
        (("people", "partition"), bool(config.people.partition), "a lead partition"),
        (("owner", "salesperson"), config.owner.salesperson, "sales persons"),
        (("owner", "team"), config.owner.team != "none", "owner teams"),
        (("filter", "rule"), bool(config.filter.rule), "a filter"),
        (("filter", "when_leaving"), config.filter.when_leaving != "keep", "when_leaving other than keep"),
        (("removals", "policy"), config.removals.policy != "delete", "a removal policy other than delete"),
        (("sync", "apply_mapping"), config.sync.apply_mapping != "auto", "apply_mapping = manual"),
        (("history", "values"), config.history.values, "the history of values"),
    )
    yield from ((path, what) for path, wanted, what in switches if wanted)


def _unbuilt_source(source: Column | FirstOf | Switch | Constant | Product) -> Iterator[str]:
    if isinstance(source, Switch):
        yield "when / is / else"
    if isinstance(source, Product):
        yield "product"
    if isinstance(source, Column):
        if "." in source.column:
            yield "a column one hop away"
        if source.currency not in (None, "base"):
            yield f"currency = {source.currency}"
        if source.form in ("id", "name") or source.join is not None:
            yield "lookup names and multi-select choices"


def _problem(text: str, name: str, path: tuple[str | int, ...], message: str) -> str:
    """`sync.toml line 7, opportunity.amount.currency: …`; the line of the deepest key that can be found."""
    keys = [str(part) for part in path if part != "fields" and not (part in _KINDS and part != path[-1])]
    where = f" line {line}" if (line := _line(text, keys)) else ""
    return f"{name}{where}, {'.'.join(keys)}: {message[0].lower()}{message[1:]}"


def _line(text: str, keys: list[str]) -> int | None:
    """The line of `key` under `[section]`, else of the section's header; TOML readers keep no positions."""
    section, best = "", None
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([\w.]+)\s*\]+", line):
            section = header[1]
            if section == ".".join(keys[: section.count(".") + 1]):
                best = best or number
        elif (entry := re.match(r"\s*\"?([\w .-]+?)\"?\s*=", line)) and section:
            depth = section.count(".") + 1
            if section == ".".join(keys[:depth]) and keys[depth : depth + 1] == [entry[1]]:
                return number
    return best
