"""A sync.toml to begin with: the native defaults, and what else has the same name on both sides, commented out."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

from sync_core.flows.people import OF_COMPANY
from sync_core.flows.world import World
from sync_core.mapping import OWN_FIELDS, CompanyMap, OpportunityMap, parse
from sync_core.model import DataverseColumn, MarketoField, MarketoObject
from sync_core.rules.matching import Match, matches, one_line, type_of, unmatched
from sync_core.rules.sources import needs

HEAD = """\
# Proposed by `mapping init` from what Dynamics and Marketo describe. As it stands it maps what Marketo's own Dynamics
# sync maps. Take away the # before a proposed line to have that field as well.

"""
ENGLISH = 1033
WIDTH = 110
PEOPLE = "people.fields"
CREATED = f"""
[{PEOPLE}]                                 # only with when_missing = "create": what a created person gets as well
firstName = "firstname"
lastName  = "lastname"
"""


def propose(world: World) -> dict[str, Any]:
    """`toml`, the text; by section what it proposes and what has no counterpart. Reads both services.

    A person has hundreds of fields that Dynamics lacks: those are not listed.
    """
    text = (files("sync_core") / "defaults.toml").read_text(encoding="utf-8")
    config = parse(text)
    text = _at_the_end_of(text, "people", CREATED.splitlines())
    answer: dict[str, Any] = {"proposed": {}, "Marketo fields left over": {}, "custom columns left over": {}}
    of_person = {"id", *(match.marketo for match in config.people.match), *OF_COMPANY}
    for section, table, kind, mapped, reserved in (
        ("opportunity", "opportunity", MarketoObject.OPPORTUNITY, config.opportunity, OpportunityMap.model_fields),
        ("company", "account", MarketoObject.COMPANY, config.company, CompanyMap.model_fields),
        (PEOPLE, "contact", MarketoObject.LEAD, config.people, of_person),
    ):
        columns = world.source.described(table)
        taken = {name.casefold() for name in (*mapped.fields, *OWN_FIELDS, *reserved)}
        free = [f for n, f in sorted(world.target.describe(kind).items()) if f.updateable and n.casefold() not in taken]
        found = matches(free, columns)
        named = {match.field.name for match in found}
        fields = [field for field in free if field.name not in named]
        if section == PEOPLE:
            fields = []
        else:
            answer["Marketo fields left over"][section] = [field.name for field in fields]
        used = {need.column for source in mapped.fields.values() for need in needs(source)}
        custom = unmatched(columns, used | {match.column.name for match in found})
        text = _at_the_end_of(text, section, _comments(table, found, fields, custom))
        answer["proposed"][section] = [match.line for match in found]
        answer["custom columns left over"][section] = [column.name for column in custom]
    text = _at_the_end_of(text, "stakeholders", _roles(world))
    return {"toml": HEAD + text, **answer}


def _comments(
    table: str, found: Iterable[Match], fields: Iterable[MarketoField], custom: Iterable[DataverseColumn]
) -> list[str]:
    lines = [f"# {match.line}" for match in found]
    lines = ["# Proposed, since names and types fit:", *lines] if lines else []
    left = [f"{one_line(field.name)} ({type_of(field)})" for field in fields]
    lines += _listed(f"Fields of Marketo for which Dynamics' {table} has nothing of that name that fits:", left)
    columns = [f"{column.name} ({column.type})" for column in custom]
    return lines + _listed(f"Custom columns of Dynamics' {table} for which Marketo has nothing of that name:", columns)


def _roles(world: World) -> list[str]:
    """The organization's categories of connection roles, and the roles in each."""
    by_category: dict[int, list[str]] = defaultdict(list)
    for role in world.source.connection_roles().values():
        if role.category is not None:
            by_category[role.category].append(one_line(role.name))
    labels = world.source.labels("connectionrole", "category", ENGLISH) if by_category else {}
    lines = ["# The connection roles of this organization, by category:"] if by_category else []
    for category, names in sorted(by_category.items()):
        title = one_line(labels.get(category, ""))
        lines += _wrapped(f"{category}{f' ({title})' if title else ''}: {', '.join(sorted(names))}")
    return lines


def _listed(title: str, items: list[str]) -> list[str]:
    return [f"# {title}", *_wrapped(", ".join(items))] if items else []


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="#   ", subsequent_indent="#   ", break_on_hyphens=False)


def _at_the_end_of(text: str, section: str, added: list[str]) -> str:
    """*text* with the lines of *added* after the last one of `[section]`."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"[{section}]"))
    after = (number for number, line in enumerate(lines) if number > start and line.startswith("["))
    end = next(after, len(lines))
    while not lines[end - 1].strip():
        end -= 1
    return "\n".join([*lines[:end], *added, *lines[end:]]) + "\n"
