"""Observe and decide: what is true in Dynamics now, and what the rules make of it. Reads only; also for `explain`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sync_core.errors import ColumnsChanged, ConfigurationError, SplitBatch, Unavailable
from sync_core.flows.reading import Reading, check_rule, kind_of, plain_rows, require
from sync_core.flows.world import World
from sync_core.mapping import Place, RoleSwitch
from sync_core.model import MarketoObject, Row
from sync_core.rules.association import Association, associate, is_contact, master
from sync_core.rules.fields import NO_FIELD, Mapped, UnfitValueError
from sync_core.rules.filters import FILTER, outside, side_of, sides
from sync_core.rules.sources import no_case

PER_CALL = 300  # records or filter values of one Marketo call (marketo.md §2)
MERGE_DEPTH = 10  # how many merges in a row are followed
OPPORTUNITY_COLUMNS = (
    "opportunityid",
    "versionnumber",
    "modifiedon",
    "createdon",
    "_customerid_value",
    "_accountid_value",
    "_contactid_value",
    "_parentaccountid_value",
    "_parentcontactid_value",
)
OWNER_COLUMNS = ("_owninguser_value", "_owningteam_value")
CONTACT_COLUMNS = ("contactid", "_accountid_value", "_masterid_value")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Observed:
    """One opportunity as it is in Dynamics, with what the rules make of it; `mapped` or `unfit` is set.

    `owner` is the user who is its sales person, if sales persons are wanted; `outside` the rule of the filter that
    does not hold.
    """

    row: Row
    association: Association
    mapped: Mapped | None
    unfit: str = ""
    owner: str | None = None
    outside: str = ""

    @property
    def contacts(self) -> set[str]:
        return {stake.contact for stake in self.association.stakes}


@dataclass(frozen=True, slots=True)
class Observation:
    """What one delivery saw; opportunities that a fresh read lacks are missing from `opportunities`.

    `suspended` says which mapped fields are left alone for now, and why. `unflagged` are the values that say of a
    living opportunity that it is none of those that were deleted or left the filter.
    """

    opportunities: Mapping[str, Observed]
    contacts: Mapping[str, Row]
    suspended: Mapping[str, str] = field(default_factory=dict)
    unflagged: Mapping[str, Any] = field(default_factory=dict)


def chunks(items: Iterable[T], size: int = PER_CALL) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def in_halves(ask: Callable[[list[str]], Mapping[str, T]], keys: list[str]) -> dict[str, T]:
    """A question about at most `PER_CALL` keys: halved when it is too big; about one key it is tried again later."""
    try:
        return dict(ask(keys))
    except SplitBatch as error:
        if len(keys) == 1:
            raise Unavailable(str(error)) from None
        half = len(keys) // 2
        return in_halves(ask, keys[:half]) | in_halves(ask, keys[half:])


def observe(world: World, ids: Sequence[str]) -> Observation:
    """Read the present state of *ids*: a handful of requests per 300, never one per record."""
    try:
        return _observe(world, ids)
    except ColumnsChanged:  # what is left of them is known now; only the columns of `match` were not compared before
        require(world.config.file, "contact", world.source.columns("contact"), match_columns(world))
        return _observe(world, ids)


def _observe(world: World, ids: Sequence[str]) -> Observation:
    config = world.config
    reading = Reading(
        world, "opportunity", MarketoObject.OPPORTUNITY, config.opportunity.fields, more=rule_columns(world)
    )
    check_rules(world)
    unflagged = {name: not value if isinstance(value, bool) else None for name, value in _flags(world, reading).items()}
    owner_columns = OWNER_COLUMNS if config.owner.salesperson else ()
    rows = reading.rows(ids, select=(*OPPORTUNITY_COLUMNS, *owner_columns))
    owners = _owners(world, rows) if config.owner.salesperson else {}
    connections = world.source.connections(rows.keys()) if rows else {}
    roles = world.source.connection_roles() if any(connections.values()) else {}
    contacts = _contacts(
        world,
        {row["_customerid_value"] for row in rows.values() if row.get("_customerid_value")}
        | {row["_parentcontactid_value"] for row in rows.values() if row.get("_parentcontactid_value")}
        | {item.other for pairs in connections.values() for item in pairs if item.other_type == 2},
        known_accounts={row["_accountid_value"] for row in rows.values() if row.get("_accountid_value")},
    )
    associations = {
        key: associate(row, connections.get(key, ()), contacts, roles, config.stakeholders) for key, row in rows.items()
    }
    outsiders = _outsiders(world, rows, associations, contacts)
    observed = {}
    for key, row in rows.items():
        try:
            mapped, unfit = reading.values(row), ""
        except UnfitValueError as error:
            mapped, unfit = None, str(error)
        observed[key] = Observed(row, associations[key], mapped, unfit, owners.get(key), outsiders.get(key, ""))
    return Observation(observed, contacts, reading.suspended, unflagged)


def _flags(world: World, reading: Reading) -> Mapping[str, Any]:
    """The fields that mark a removed opportunity; a flag that Marketo lacks is an error, since it protects."""
    flags, file = world.config.removals.flag, world.config.file
    if unknown := [file.place("removals", "flag", name) for name in flags if name not in reading.described]:
        raise ConfigurationError("; ".join(f"{place}: {NO_FIELD}" for place in unknown))
    return flags


def _outsiders(
    world: World, rows: Mapping[str, Row], associations: Mapping[str, Association], contacts: Mapping[str, Row]
) -> dict[str, str]:
    """The opportunities that the filter leaves out, and by which rule; account and contact are those of the rules."""
    rules = world.config.filter.rule
    if not rules:
        return {}
    columns = sides(rules, *FILTER)
    people = {key: _standing(row, contacts) for key, row in rows.items()}
    companies = {key: association.account for key, association in associations.items()}
    of_account = plain_rows(world, "account", {key for key in companies.values() if key}, columns["account"])
    of_contact = plain_rows(world, "contact", {key for key in people.values() if key}, columns["contact"])
    now = world.clock.now()
    found = {}
    for key, row in rows.items():
        sided = {
            "": row,
            "account": of_account.get(companies[key] or ""),
            "contact": of_contact.get(people[key] or ""),
        }
        if why := outside(rules, sided, now):
            found[key] = why
    return found


def check_rules(world: World) -> None:
    """A rule of the filter, or a case of the customer's role, that its column never meets would decide wrongly."""
    file, role = world.config.file, world.config.stakeholders.customer_role
    for number, rule in enumerate(world.config.filter.rule):
        side, column = side_of(rule)
        if kind := kind_of(world, side or "opportunity", column):
            check_rule(file, (*FILTER, number), rule, kind)
    if isinstance(role, RoleSwitch):
        kind = kind_of(world, "opportunity", role.when)
        for case in role.cases:
            if why := no_case(role.when, kind, [case]):
                raise ConfigurationError(f"{file.place('stakeholders', 'customer_role', 'is', case)}: {why}")


def _standing(row: Row, contacts: Mapping[str, Row]) -> str | None:
    """The contact that the filter's `contact.` columns are about: the customer if it is one, else the Contact field."""
    customer = row["_customerid_value"] if is_contact(row, contacts) else row.get("_parentcontactid_value")
    return master(customer, contacts) if customer else None


def _owners(world: World, rows: Mapping[str, Row]) -> dict[str, str | None]:
    """The user who owns each opportunity; for a team its administrator, if sync.toml says so, else nobody."""
    teams: Mapping[str, Row] = {}
    if world.config.owner.team == "administrator":
        ids = {row["_owningteam_value"] for row in rows.values() if row.get("_owningteam_value")}
        teams = world.source.rows("team", ids, {"_administratorid_value"})
    return {
        key: row.get("_owninguser_value")
        or teams.get(row.get("_owningteam_value") or "", {}).get("_administratorid_value")
        for key, row in rows.items()
    }


def suspended(world: World) -> dict[str, str]:
    """Every mapped field that one of the services doesn't have as sync.toml names it, as `section.field`, and why."""
    config = world.config
    found: dict[str, str] = {}
    for section, table, kind, fields in (
        ("opportunity", "opportunity", MarketoObject.OPPORTUNITY, config.opportunity.fields),
        ("company", "account", MarketoObject.COMPANY, config.company.fields),
        ("people", "contact", MarketoObject.LEAD, config.people.fields),
    ):
        if section == "people" and config.people.when_missing != "create":
            continue
        reading = Reading(world, table, kind, fields, more=rule_columns(world) if section == "opportunity" else None)
        found |= {f"{section}.{name}": why for name, why in reading.suspended.items()}
    return found


def rule_columns(world: World) -> Mapping[Place, str]:
    """Columns of the opportunity that rules read: the customer's role, the filter."""
    role = world.config.stakeholders.customer_role
    of_role: dict[Place, str] = {} if isinstance(role, str) else {("stakeholders", "customer_role", "when"): role.when}
    return sides(world.config.filter.rule, *FILTER)[""] | of_role


def match_columns(world: World) -> Mapping[Place, str]:
    """Columns of the contact that the rules of `people.match` read."""
    rules = enumerate(world.config.people.match)
    return {("people", "match", number, "dataverse"): rule.dataverse for number, rule in rules}


def _contacts(world: World, ids: set[str], *, known_accounts: set[str]) -> dict[str, Row]:
    """The contacts among *ids*, and the masters of merged ones, to the end."""
    wanted = (*CONTACT_COLUMNS, *match_columns(world).values())
    found: dict[str, Row] = {}
    missing = ids - known_accounts
    for _ in range(MERGE_DEPTH):
        if not missing:
            break
        found |= world.source.rows("contact", missing, wanted)
        missing = {row["_masterid_value"] for row in found.values() if row.get("_masterid_value")} - found.keys()
    return found
