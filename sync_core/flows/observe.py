"""Observe and decide: what is true in Dynamics now, and what the rules make of it. Reads only; also for `explain`."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from sync_core.errors import ConfigurationError, SplitBatch, Unavailable
from sync_core.flows.world import World
from sync_core.model import Lead, MarketoObject, Row
from sync_core.rules.association import Association, Exclusion, associate
from sync_core.rules.fields import (
    Labels,
    Mapped,
    UnfitValueError,
    check_described,
    columns,
    label_columns,
    marketo_fields,
)

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

    `owner` is the user who is its sales person, if sales persons are wanted.
    """

    row: Row
    association: Association
    mapped: Mapped | None
    unfit: str = ""
    owner: str | None = None

    @property
    def contacts(self) -> set[str]:
        return {stake.contact for stake in self.association.stakes}


@dataclass(frozen=True, slots=True)
class Observation:
    """What one delivery saw; opportunities that a fresh read lacks are missing from `opportunities`."""

    opportunities: Mapping[str, Observed]
    contacts: Mapping[str, Row]


def chunks(items: Iterable[T], size: int = PER_CALL) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def observe(world: World, ids: Sequence[str]) -> Observation:
    """Read the present state of *ids*: a handful of requests per 200, never one per record."""
    config = world.config
    labels = _labels(world)
    described = world.target.describe(MarketoObject.OPPORTUNITY)
    check_described(config.opportunity.fields, described, "opportunity")
    wanted = {*OPPORTUNITY_COLUMNS, *columns(config.opportunity.fields), *_rule_columns(world)}
    wanted |= set(OWNER_COLUMNS) if config.owner.salesperson else set()
    rows = world.source.rows("opportunity", ids, wanted)
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
    observed = {}
    for key, row in rows.items():
        association = associate(row, connections.get(key, ()), contacts, roles, config.stakeholders)
        try:
            mapped, unfit = marketo_fields(row, config.opportunity.fields, described, labels), ""
        except UnfitValueError as error:
            mapped, unfit = None, str(error)
        observed[key] = Observed(row, association, mapped, unfit, owners.get(key))
    return Observation(observed, contacts)


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


def check_mapping(world: World) -> None:
    """Ask both services whether they have what sync.toml names. Raises ConfigurationError; `observe` meets it later."""
    config, target = world.config, world.target
    check_described(config.opportunity.fields, target.describe(MarketoObject.OPPORTUNITY), "opportunity")
    check_described(config.company.fields, target.describe(MarketoObject.COMPANY), "company")
    for table, section, fields in (
        ("opportunity", "opportunity", config.opportunity.fields),
        ("account", "company", config.company.fields),
    ):
        named = {column for column in columns(fields) if not column.startswith("_")}
        if unknown := sorted(named - world.source.columns(table).keys()):
            raise ConfigurationError(f"sync.toml, [{section}]: Dynamics' {table} has no column {', '.join(unknown)}")


def _labels(world: World) -> Labels:
    wanted = label_columns(world.config.opportunity.fields)
    return {(column, lcid): world.source.labels("opportunity", column, lcid) for column, lcid in wanted}


def _rule_columns(world: World) -> set[str]:
    role = world.config.stakeholders.customer_role
    return set() if isinstance(role, str) else {role.when}


def _contacts(world: World, ids: set[str], *, known_accounts: set[str]) -> dict[str, Row]:
    """The contacts among *ids*, and the masters of merged ones, to the end."""
    wanted = (*CONTACT_COLUMNS, *(match.dataverse for match in world.config.people.match))
    found: dict[str, Row] = {}
    missing = ids - known_accounts
    for _ in range(MERGE_DEPTH):
        if not missing:
            break
        found |= world.source.rows("contact", missing, wanted)
        missing = {row["_masterid_value"] for row in found.values() if row.get("_masterid_value")} - found.keys()
    return found


def people(
    world: World,
    contacts: Mapping[str, Row],
    ids: Collection[str],
    *,
    doubted: Collection[str] = (),
    missing_for: timedelta = timedelta(0),
    most_calls: int | None = None,
) -> tuple[dict[str, int | Exclusion], int]:
    """Who each contact is in Marketo, a lead id or why none, and how many look-up calls that took.

    The *doubted* are asked for whatever is remembered. Somebody who was missing less than *missing_for* ago counts
    as missing still: one person may stand in many deliveries of a first load. Who would need more than *most_calls*
    counts as missing too, until the next time.
    """
    match = world.config.people.match[0]
    known: dict[str, int | Exclusion] = {}
    values: dict[str, str] = {}
    for contact in ids:
        value = address(contacts[contact].get(match.dataverse), email=match.marketo == "email")
        if isinstance(value, Exclusion):
            known[contact] = value
        else:
            values[contact] = value
    trusted = {contact: value for contact, value in values.items() if contact not in doubted}
    known |= _remembered(world, trusted, missing_for)
    unknown = {contact: value for contact, value in values.items() if contact not in known}
    asked = sorted(set(unknown.values()))
    if most_calls is not None:
        asked = asked[: max(0, most_calls) * PER_CALL]
    leads = _look_up(world, match.marketo, asked)
    found = {contact: leads.get(value, Exclusion.UNKNOWN_PERSON) for contact, value in unknown.items()}
    told = set(asked)
    _remember(world, {contact: (found[contact], value) for contact, value in unknown.items() if value in told})
    return known | found, -(-len(asked) // PER_CALL)


def address(value: object, *, email: bool = True) -> str | Exclusion:
    """The value to look up, in lower case: e-mail is ASCII only (marketo.md §3.6), a comma would split the filter."""
    text = str(value or "").strip().lower()
    if not text:
        return Exclusion.NO_EMAIL
    usable = text.isascii() and not set(text) & set(", \t\r\n;") and (not email or text.count("@") == 1)
    return text if usable else Exclusion.BAD_EMAIL


def _fingerprint(world: World, value: str) -> str:
    """8 bytes that change with the value and with the Marketo subscription: the address itself is never stored."""
    raw = hashlib.blake2b(value.encode(), digest_size=8, key=world.subscription.encode()[:64]).digest()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _remembered(world: World, values: Mapping[str, str], missing_for: timedelta) -> dict[str, int | Exclusion]:
    """Lead ids younger than `people.cache_hours` whose contact still has the same value; the missing a while."""
    now = world.clock.now()
    oldest = (now - timedelta(hours=world.config.people.cache_hours)).isoformat()
    missing_since = (now - missing_for).isoformat()
    found: dict[str, int | Exclusion] = {}
    for contact, entry in world.people.read(values.keys()).items():
        if entry["key"] != _fingerprint(world, values[contact]):
            continue
        if entry["lead"] and entry["at"] > oldest:
            found[contact] = int(entry["lead"])
        elif not entry["lead"] and entry["at"] > missing_since:
            found[contact] = Exclusion.UNKNOWN_PERSON
    return found


def _remember(world: World, leads: Mapping[str, tuple[int | Exclusion, str]]) -> None:
    at = world.clock.now().isoformat()
    world.people.write(
        {
            contact: {"lead": lead, "key": _fingerprint(world, value), "at": at}
            for contact, (found, value) in leads.items()
            if isinstance(lead := 0 if found is Exclusion.UNKNOWN_PERSON else found, int)
        }
    )


def _look_up(world: World, filter_type: str, values: Sequence[str]) -> dict[str, int | Exclusion]:
    """One lead id per value that Marketo knows; of several, as `people.several` says."""
    best: dict[str, Lead] = {}
    too_many: dict[str, int | Exclusion] = {}

    def ask(batch: list[str]) -> Sequence[Lead]:
        try:
            return world.target.leads(filter_type, batch)
        except SplitBatch as error:
            if len(batch) == 1 and error.code != "1003":  # trouble of Marketo's, not the person's
                raise Unavailable(str(error)) from None
            if len(batch) == 1:
                too_many[batch[0]] = Exclusion.TOO_MANY
                return ()
            half = len(batch) // 2
            return (*ask(batch[:half]), *ask(batch[half:]))

    newest = world.config.people.several == "most_recent"
    for leads in world.fan_out(ask, chunks(values)):
        for lead in leads:
            known = best.get(lead.value)
            if known is None or ((lead.updated, lead.id) > (known.updated, known.id)) is newest:
                best[lead.value] = lead
    return too_many | {value: lead.id for value, lead in best.items()}
