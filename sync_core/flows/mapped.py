"""What goes where: each Marketo field with its source and type, by the example of one opportunity (`mapping show`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sync_core.flows.observe import observe
from sync_core.flows.reading import Reading, plain_rows
from sync_core.flows.world import World
from sync_core.mapping import SALES_PERSON_FIELDS, Product, Source
from sync_core.model import MarketoObject, Row
from sync_core.rules.fields import Mapped, UnfitValueError, marketo_fields
from sync_core.rules.filters import ONLY, outside, sides
from sync_core.rules.matching import type_of
from sync_core.rules.sources import Need, needs
from sync_core.rules.words import key_in_words, rules_in_words, source_in_words


def shown(world: World, key: str | None) -> dict[str, Any]:
    """The mapping in words, with *key* or the opportunity written last as the example. Reads both services."""
    config = world.config
    if key is None:
        newest = world.source.newest_versions()
        key = max(newest, key=lambda each: newest[each], default=None)
    seen = observe(world, [key]).opportunities.get(key) if key else None
    account = seen.association.account if seen else None
    answer: dict[str, Any] = {
        "version": config.version,
        "example": {"opportunity": key, "found": seen is not None, "account": account},
        "key of opportunities": key_in_words(config.opportunity.key),
        "key of companies": key_in_words(config.company.key),
    }
    if seen and seen.outside:
        answer["example"]["left out"] = seen.outside
    if account and (why := _left_out(world, account)):
        answer["example"]["account left out"] = why
    sections: list[tuple[str, str, MarketoObject, Mapping[str, Source], str | None]] = [
        ("opportunity", "opportunity", MarketoObject.OPPORTUNITY, config.opportunity.fields, key if seen else None),
        ("company", "account", MarketoObject.COMPANY, config.company.fields, account),
    ]
    if config.people.when_missing == "create":
        sections.append(("created people", "contact", MarketoObject.LEAD, config.people.fields, None))
    if config.owner.salesperson:
        sections.append(("sales person", "systemuser", MarketoObject.SALES_PERSON, SALES_PERSON_FIELDS, None))
    fields = {each[0]: _section(world, *each[1:]) for each in sections}
    return answer | {"fields": fields, "rules": rules_in_words(config)}


def _left_out(world: World, account: str) -> str:
    """The rule of `[company] only` that does not hold for *account*, in words."""
    rules = world.config.company.only
    rows = plain_rows(world, "account", {account}, sides(rules, *ONLY)[""])
    return outside(rules, {"": rows.get(account)}, world.clock.now())


def _section(
    world: World, table: str, kind: MarketoObject, fields: Mapping[str, Source], example: str | None
) -> dict[str, dict[str, Any]]:
    reading = Reading(world, table, kind, fields, creating=kind is MarketoObject.SALES_PERSON)
    row = reading.rows([example]).get(example) if example else None
    lengths = world.source.lengths(table)
    return {
        name: {
            "from": source_in_words(source),
            "Dynamics": [_type(need.column, reading, lengths) for need in needs(source) if not need.asked],
            "Marketo": type_of(reading.described[name]) if name in reading.described else None,
            "left alone": reading.suspended.get(name),
            **(_example(name, source, row, reading) if row and name in reading.fields else {}),
        }
        for name, source in fields.items()
    }


def _type(column: str, reading: Reading, lengths: Mapping[str, int]) -> str:
    most = f" {lengths[column]}" if column in lengths else ""
    return f"{column}: {reading.kinds[column]}{most}" if column in reading.kinds else f"{column}: not there"


def example_of(name: str, row: Row, reading: Reading) -> Mapped:
    """One field of *row*, as if it were the only one. Raises UnfitValueError."""
    source = reading.fields[name]
    factors = [each.removesuffix("%") for each in source.product] if isinstance(source, Product) else []
    wanted = {each: reading.fields[each] for each in (*factors, name)}
    return marketo_fields(row, wanted, reading.described, reading.known)


def _example(name: str, source: Source, row: Row, reading: Reading) -> dict[str, Any]:
    """The columns read, as Dynamics gives them, and what Marketo would get."""
    raw = {column: row.get(column) for need in needs(source) for column in _read(need)}
    try:
        mapped = example_of(name, row, reading)
    except UnfitValueError as error:
        return {"row": raw, "parked": str(error)}
    return {"row": raw, "sent": mapped.values[name], "cut": name in mapped.cut}


def _read(need: Need) -> list[str]:
    return [*need.read, f"{need.column}@name"] if need.name else [*need.read]
