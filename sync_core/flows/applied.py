"""Which mapping the state was made with: its number, what is new in it, what of it is left alone for now."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from itertools import chain, islice
from typing import Any

from sync_core.flows.observe import PER_CALL
from sync_core.flows.world import World
from sync_core.mapping import Source, SyncConfig
from sync_core.messages import split
from sync_core.model import Document, Lane, MarketoField, Work
from sync_core.rules.words import counted

MAPPING = ("stamp", "mapping")
LEFT_ALONE = ("stamp", "left alone")
BACKFILL = ("stamp", "backfill")
CLEARED = ("stamp", "cleared")
CALLS_PER_SECOND = 2.5
LOOK_EVERY = timedelta(hours=1)


def mapped_fields(config: SyncConfig) -> dict[str, Source]:
    """What opportunities and companies are filled with, by `section.field`."""
    sections = (("opportunity", config.opportunity.fields), ("company", config.company.fields))
    return {f"{section}.{name}": source for section, fields in sections for name, source in fields.items()}


def _digest(source: Source) -> str:
    return hashlib.blake2b(source.model_dump_json().encode(), digest_size=4).hexdigest()


def notice(world: World, *, idle: bool, look_again: Callable[[], None]) -> None:
    """Remember the mapping that runs now, and have everything looked at again because of it.

    So after a change of the mapping (unless it is applied by hand), after a field that was left alone came back, and
    after `backfill`; remembered once *look_again* has returned, so that a crash before repeats it.
    *idle*: nothing is being read again, so that a changed mapping is applied by now.
    """
    document = world.documents.read(*MAPPING)
    known = document.value if document else {}
    asked = world.documents.read(*BACKFILL)
    changed = known.get("version") != world.config.version
    left = world.documents.read(*LEFT_ALONE)
    applied = changed and bool(known) and world.config.sync.apply_mapping == "auto"
    waits = not changed and known.get("waits", False)  # what is back comes with the rest then
    if applied or asked is not None or (left is not None and left.value["returned"] and not waits):
        look_again()
    if left is not None:
        _note_returned(world, left)
    if changed:
        fields = {name: _digest(source) for name, source in mapped_fields(world.config).items()}
        new = sorted(name for name, digest in fields.items() if known.get("fields", {}).get(name) != digest)
        value = {
            "version": world.config.version,
            "number": known.get("number", 0) + 1,
            "fields": fields,
            "new": new if known else [],
            "since": world.clock.now().isoformat(timespec="seconds"),
            "waits": bool(known) and world.config.sync.apply_mapping == "manual" and asked is None,
            "applying": bool(known) and (world.config.sync.apply_mapping == "auto" or asked is not None),
        }
        _forget_cleared(world)
        world.documents.write(*MAPPING, value, document.ticket if document else None)
    elif document is not None and (asked is not None or (idle and known.get("applying"))):
        waited = known.get("waits", False) and asked is not None
        world.documents.write(*MAPPING, {**known, "waits": False, "applying": waited}, document.ticket)
    if asked is not None:
        world.documents.delete(*BACKFILL)


def _forget_cleared(world: World) -> None:
    """A field that is mapped again is no longer to be emptied, also not when it is taken out once more."""
    if document := world.documents.read(*CLEARED):
        still = [name for name in document.value["fields"] if name not in mapped_fields(world.config)]
        world.documents.write(*CLEARED, {"fields": still}, document.ticket)


def leave_alone(world: World, section: str, suspended: Mapping[str, str]) -> Mapping[str, str]:
    """Keep for `status` which fields of *section* can't be filled now, and which came back since the last tick.

    All that are left alone, with the reasons. One that is mapped no more is left out, and has not come back.
    """
    people = world.config.people
    created = people.fields if people.when_missing == "create" else {}
    posted = mapped_fields(world.config).keys()
    mapped = posted | {f"people.{name}" for name in created}

    def noted(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
        fields = value.get("fields", {})
        now = {name: why for name, why in fields.items() if name in mapped and not name.startswith(f"{section}.")}
        now |= {f"{section}.{name}": why for name, why in suspended.items()}
        returned = sorted(((set(fields) - now.keys()) & posted) | set(value.get("returned", ())))
        return None if now == fields else {**value, "fields": now, "returned": returned}

    left: Mapping[str, str] = world.change(*LEFT_ALONE, noted).get("fields", {})
    return left


def _note_returned(world: World, document: Document) -> None:
    """Fields that are back are known now. While others are not, a record of each kind is looked at now and then."""
    value, now = document.value, world.clock.now()
    look = value["fields"] and value.get("looked", "") <= (now - LOOK_EVERY).isoformat()
    if value["returned"] or look:
        looked = {"looked": now.isoformat()} if look else {}
        world.documents.write(*LEFT_ALONE, {**value, "returned": [], **looked}, document.ticket)
    if look:
        opportunities = tuple(islice(world.source.newest_versions(), 1))
        accounts = tuple(islice(chain.from_iterable(world.companies.ids()), 1))
        for work in split(Work(opportunities, accounts, lane=Lane.SLOW, why="left alone")):
            world.queue.put(work)


def backfill(world: World, clear: Collection[str] = ()) -> None:
    """Have the next tick look at everything again; fields of *clear* (`section.field`) are emptied in Marketo."""
    if clear:
        world.change(*CLEARED, lambda value: {"fields": sorted({*value.get("fields", ()), *clear})})
    world.documents.write(*BACKFILL, {"asked": world.clock.now().isoformat()}, None)


def cleared(world: World, section: str, described: Mapping[str, MarketoField]) -> list[str]:
    """Fields of *section* that are to be emptied: no longer mapped, and there to be written."""
    document = world.documents.read(*CLEARED)
    asked = set(document.value["fields"] if document else ()) - mapped_fields(world.config).keys()
    names = (name.removeprefix(f"{section}.") for name in sorted(asked) if name.startswith(f"{section}."))
    return [name for name in names if name in described and described[name].updateable]


def holding(world: World, fields: Collection[str]) -> Counter[str]:
    """In how many records each of *fields* (`section.field`) would be emptied: filled by us, and not left out."""
    found: Counter[str] = Counter()
    for section, ledger in (("opportunity", world.opportunities), ("company", world.companies)):
        names = [field.removeprefix(f"{section}.") for field in fields if field.startswith(f"{section}.")]
        for ids in ledger.ids() if names else ():
            for row in ledger.rows(ids).values():
                filled = () if row.left_out else names
                found.update(f"{section}.{name}" for name in filled if name in row.fields)
    return found


def in_words(
    config: SyncConfig, stamps: Mapping[str, Mapping[str, Any]], known: Mapping[str, int], *, idle: bool
) -> dict[str, Any]:
    """For `status`: the mapping, what is new, what a re-read will cost at most, what is left alone.

    *stamps* are the documents of that kind by name; *known*: how many opportunities, companies and roles there are.
    """
    value, left = stamps.get(MAPPING[1]), stamps.get(LEFT_ALONE[1])
    found: dict[str, Any] = {"version": config.version}
    if value:
        found = {"number": value["number"], "version": value["version"], "new fields": value.get("new", [])}
        if (value.get("applying") and not idle) or value.get("waits"):
            records, companies, roles = (known[each] for each in ("opportunities", "companies", "roles"))
            # Roles may have to be looked up, added and removed.
            calls = sum(-(-number // PER_CALL) for number in (records, companies, roles, roles, roles))
            minutes = -(-calls // int(CALLS_PER_SECOND * 60))
            summary = f"mapping v{value['number']}: {counted(len(found['new fields']), 'field')} new, "
            summary += f"{counted(records, 'record')} to re-read, at most {counted(calls, 'call')}, "
            found = {"summary": summary + counted(minutes, "minute"), **found}
            found |= {"records to re-read": records, "Marketo calls at most": calls, "minutes at most": minutes}
        if value.get("waits"):
            found["waits for"] = "backfill"
    if left and left["fields"]:
        found["left alone"] = dict(left["fields"])
    return found
