"""Why an opportunity looks the way it does in Marketo: the same rules, told instead of applied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from sync_core.flows.mapped import example_of
from sync_core.flows.observe import Observed, observe, rule_columns
from sync_core.flows.people import people
from sync_core.flows.reading import Reading
from sync_core.flows.references import COMPANY_ID, SALES_PERSON_ID
from sync_core.flows.rehearsal import rehearse, same
from sync_core.flows.world import World
from sync_core.mapping import Column, Constant, FirstOf, Key, Source, Switch, case_of
from sync_core.model import LEFT_OUT, Lead, LedgerRow, MarketoObject, Role, Row
from sync_core.ports import Ledger
from sync_core.rules.association import CUSTOMER, PARENT_CONTACT, settle
from sync_core.rules.fields import UnfitValueError, digests
from sync_core.rules.planning import changed_fields
from sync_core.rules.sources import clean, needs, value_of

MATCHES = 20
LAST_POSTS = 10


def named(world: World, text: str) -> Mapping[str, str]:
    """The first opportunities whose name contains *text*: names by id."""
    return world.source.opportunities_named(text, MATCHES)


def explain(world: World, key: str) -> dict[str, Any]:
    """Everything known about one opportunity, as plain values; reads both services, writes nothing anywhere."""
    rehearsal = rehearse(world)
    try:
        return _explain(rehearsal.world, key, rehearsal.marketo.matched)
    finally:
        rehearsal.kept.close()


def _explain(world: World, key: str, matched: Sequence[Lead]) -> dict[str, Any]:
    row = world.opportunities.rows([key]).get(key, LedgerRow(key))
    answer: dict[str, Any] = {"opportunity": key, "ledger": _ledger(row)}
    observation = observe(world, [key])
    seen = observation.opportunities.get(key)
    external = world.config.opportunity.key.external(key)
    if seen is None:
        present = world.target.records(MarketoObject.OPPORTUNITY, [external], ())
        return answer | {
            "found": False,
            "reported deleted": bool(world.tombstones.read([key])),
            "in Marketo": bool(present),
            "roles in Marketo": _roles_in_marketo(world, external),
            "history": history(world, key),
        }
    # Asked for whatever is remembered: only then it shows whether several people match.
    known = people(world, observation.contacts, seen.contacts, doubted=seen.contacts).known
    roles, left_out = settle(seen.association, known)
    values = dict(seen.mapped.values) if seen.mapped else {}
    company = _reference(world.companies, seen.association.account)
    sales_person = _sales_person(world, seen)
    linked = _linked(world, company, sales_person)
    fields = _fields(world, row, seen, linked, external)
    return answer | {
        "found": True,
        "filter": seen.outside,
        "customer rule": seen.association.rule,
        "account": seen.association.account,
        "company": company,
        "sales person": sales_person,
        "roles": [_role(role, seen.association.stakes, row) for role in roles],
        "left out": [asdict(item) | {"why": str(item.why)} for item in left_out],
        "several people": _several(matched, roles),
        "values": values,
        "fields": fields,
        "cut": list(seen.mapped.cut) if seen.mapped else [],
        "unfit": seen.unfit,
        "left alone": dict(observation.suspended),
        "differs from what was posted": sorted(changed_fields(row, digests(values), values)) if row.known else [],
        "in Marketo": any(field["in Marketo"] is not None for field in fields.values()),
        "differs in Marketo": [name for name, field in fields.items() if field["differs"]],
        "roles in Marketo": _roles_in_marketo(world, external),
        "history": history(world, key),
        "row": _as_read(world, seen.row),
    }


def _roles_in_marketo(world: World, external: str) -> list[list[Any]]:
    return sorted([role.lead, role.text] for role in world.target.roles([external]).get(external, ()))


def history(world: World, key: str) -> list[dict[str, Any]]:
    """The last posts, the latest first: `{"at": iso, "fields": {name: {"was", "now", "first"}}}`.

    `was` is what the post before had; `first`: no earlier one of this field is kept (`[history]`, ninety days).
    """
    held: dict[str, Any] = {}
    told: list[dict[str, Any]] = []
    for at, fields in reversed(world.history.of(key) if world.history else ()):
        each = {name: {"was": held.get(name), "now": now, "first": name not in held} for name, now in fields.items()}
        told.insert(0, {"at": at, "fields": each})
        held |= fields
    return told[:LAST_POSTS]


def reason_in_words(reason: str) -> str:
    words = {CUSTOMER: "the customer of the opportunity", PARENT_CONTACT: "the Contact field of the opportunity"}
    return words.get(reason, f"stakeholder, connection {reason}")


def _ledger(row: LedgerRow) -> Mapping[str, Any]:
    if not row.known:
        return {"state": "not known yet"}
    return {
        "state": LEFT_OUT if row.left_out else str(row.state),
        "reason": row.reason,
        "attempts": row.attempts,
        "next try": row.due.isoformat(timespec="seconds") if row.due else None,
        "row version": row.version,
        "mapping": row.mapping,
    }


def _role(role: Role, stakes: Any, row: LedgerRow) -> Mapping[str, Any]:
    return {
        "lead": role.lead,
        "role": role.text,
        "primary": role.primary,
        "since": role.created,
        "contacts": sorted({stake.contact for stake in stakes if stake.reason in role.reasons}),
        "because": [reason_in_words(reason) for reason in role.reasons],
        "posted": role.key in {held.key for held in row.roles},
    }


def _several(matched: Sequence[Lead], roles: Sequence[Role]) -> list[dict[str, Any]]:
    """Where several people in Marketo match: all their ids, and whom of them the roles name."""
    by_value: defaultdict[str, set[int]] = defaultdict(set)
    for lead in matched:
        by_value[lead.value].add(lead.id)
    taken = {role.lead for role in roles}
    return [
        {"people": sorted(ids), "taken": next(iter(ids & taken), None)} for ids in by_value.values() if len(ids) > 1
    ]


def _reference(ledger: Ledger, key: str | None) -> dict[str, Any] | None:
    """What the ledger says of a company or a sales person; one without fields is not in Marketo."""
    if key is None:
        return None
    row = ledger.rows([key]).get(key, LedgerRow(key))
    return {"id": key, "in Marketo": bool(row.fields), **_ledger(row)}


def _sales_person(world: World, seen: Observed) -> dict[str, Any] | None:
    return _reference(world.sales_persons, seen.owner) if world.config.owner.salesperson else None


# --- values ---------------------------------------------------------------------------------------------------


def _fields(
    world: World, row: LedgerRow, seen: Observed, linked: Mapping[str, tuple[str | None, str]], external: str
) -> dict[str, dict[str, Any]]:
    """Every mapped field: its value, where it comes from, what became of it, and what Marketo holds."""
    reading = Reading(world, "opportunity", MarketoObject.OPPORTUNITY, world.config.opportunity.fields)
    values = dict(seen.mapped.values) if seen.mapped else _each_alone(reading, seen.row)
    found = world.target.records(MarketoObject.OPPORTUNITY, [external], sorted({*reading.fields, *linked}))
    present = found.get(external, {})
    wanted = values | {name: value for name, (value, _) in linked.items()}
    changed = changed_fields(row, digests(wanted), wanted)

    def raw(name: str) -> Any:
        return value_of(seen.row, reading.fields[name], reading.known, raw)

    def compared(name: str) -> dict[str, Any]:
        return {
            "posted": row.known and name not in changed,
            "in Marketo": present.get(name),
            "differs": name in wanted and external in found and not same(present.get(name), wanted[name]),
        }

    told = {}
    for name, source in reading.fields.items():
        taken = clean(raw(name))
        cut = seen.mapped is not None and name in seen.mapped.cut
        told[name] = {
            "value": values.get(name),
            "from": origin(source, seen.row),
            "cut from": len(taken) if cut and isinstance(taken, str) else None,
            "converted from": taken if name in values and not cut and taken != values[name] else None,
            **compared(name),
        }
    for name, (value, why) in linked.items():
        told[name] = {"value": value, "from": why, "cut from": None, "converted from": None, **compared(name)}
    return told


def _each_alone(reading: Reading, row: Row) -> dict[str, Any]:
    """Of a record that can't be posted whole, the values that could."""
    found = {}
    for name in reading.fields:
        with suppress(UnfitValueError):
            found[name] = example_of(name, row, reading).values[name]
    return found


def _linked(
    world: World, company: Mapping[str, Any] | None, sales_person: Mapping[str, Any] | None
) -> dict[str, tuple[str | None, str]]:
    """What the opportunity refers to by keys, each with where it comes from: only what Marketo has is named."""
    kinds = [(COMPANY_ID, world.config.company.key.external, company, "account")]
    if world.config.owner.salesperson:
        kinds.append((SALES_PERSON_ID, Key(column="systemuserid").external, sales_person, "owner"))
    return {
        name: (key(found["id"]) if found and found["in Marketo"] else None, f"{'the' if found else 'no'} {what}")
        for name, key, found, what in kinds
    }


def origin(source: Source, row: Row) -> str:
    """Where a field's value comes from, with what the row holds there."""
    match source:
        case Constant():
            return "the same for every opportunity"
        case FirstOf():
            taken = next((name for name in source.first_of if clean(row.get(name)) is not None), None)
            names = ", ".join(source.first_of)
            return f"{_held(taken, row)}, the first filled of {names}" if taken else f"none of {names} is filled"
        case Switch():
            column = source.cases.get(case_of(row.get(source.when)) or "", source.otherwise)
            what = _column(Column(column=column, currency=source.currency), row) if column else "nothing"
            return f"{what}, since {_held(source.when, row)}"
        case Column():
            return _column(source, row)
    return "the product of " + " and ".join(source.product)


def _column(source: Column, row: Row) -> str:
    base = source.currency not in (None, "transaction") and row.get(source.column) is None
    held = _held(f"{source.column}_base" if base else source.column, row)
    if source.equals is not None:
        return f"whether {held} is {source.equals}"
    if source.among is not None:
        return f"whether {held} is one of {', '.join(map(str, source.among))}"
    if clean(row.get(source.column)) is None and source.default is not None:
        return f"{held}: the default"
    how = {"label": "its label", "name": "the name of what it names"}.get(source.form, "")
    currency = {"base": "in the base currency", "transaction": "as entered"}.get(source.currency or "", "")
    if source.currency and not currency:
        currency = f"in {source.currency}, by the exchange rate"
    return ", ".join(part for part in (held, how, currency) if part)


def _held(column: str | None, row: Row) -> str:
    value = row.get(str(column))
    return f"{column} (empty)" if clean(value) is None else f"{column} ({value})"


def _as_read(world: World, row: Row) -> dict[str, Any]:
    """The columns that the mapping and its rules read, by their logical names."""
    columns = {need.column for source in world.config.opportunity.fields.values() for need in needs(source)}
    columns |= {*rule_columns(world).values(), "customerid", "parentaccountid", "parentcontactid"}
    names = {f"{column}{more}" for column in columns for more in ("", "@name", "_base")}
    return {name: row[name] for name in sorted(names) if name in row}
