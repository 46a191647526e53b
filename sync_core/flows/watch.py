"""Every five minutes: keep what the status page draws, and tell people what has become wrong, or right again.

Apart from detect: it goes on while detect is paused, stopped, stuck or dead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sync_core import events
from sync_core.errors import SyncError
from sync_core.flows.status import WATCH, status
from sync_core.flows.world import World
from sync_core.model import Lane
from sync_core.rules.alerts import ALERTS, FIRST

SAMPLES = 288  # of five minutes each: 24 hours
USAGE_EVERY = timedelta(hours=1)
PEOPLE_EVERY = timedelta(hours=1)
RETENTION_EVERY = timedelta(hours=24)


def watch(world: World) -> dict[str, Any]:
    """The status, once what is seldom counted is counted and everybody is told what changed."""
    queues = world.queue.lengths()
    sample = [world.clock.now().isoformat(timespec="seconds"), queues[Lane.FRESH], queues[Lane.SLOW]]
    world.change(WATCH, "backlog", lambda known: {"samples": [*known.get("samples", ()), sample][-SAMPLES:]})
    found = status(world)
    if _count(world, found):
        found = status(world)
    _tell(world, found)
    return found


def _count(world: World, found: Mapping[str, Any]) -> bool:
    """What costs a call, or reading through a table, is asked for seldom; if it can't be had, the old figure stays.

    Whether anything was counted.
    """
    waits = found["people missing"]["roles"] > 0
    counted = (
        _seldom(world, "retention", RETENTION_EVERY, lambda _: {"days": world.source.retention()}),
        _seldom(world, "people", PEOPLE_EVERY, lambda _: {"people": world.people.missing()}) if waits else False,
        _seldom(world, "usage", USAGE_EVERY, lambda known: _usage(world, known, found["Marketo calls"]["used today"])),
    )
    return any(counted)


def _usage(world: World, known: Mapping[str, Any], used: int) -> Mapping[str, Any] | None:
    """What everybody used of the day, which costs a call: not while we make none ourselves."""
    if known.get("used", 0) == used:
        return None
    total = world.target.usage()
    return {"total": total, "used": world.limiter.used_today()}


def _seldom(
    world: World, name: str, every: timedelta, count: Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
) -> bool:
    document = world.documents.read(WATCH, name)
    known = document.value if document else {}
    now = world.clock.now()
    if known and datetime.fromisoformat(known["counted"]) + every > now:
        return False
    try:
        found = count(known)
    except SyncError as error:
        events.info("watch.not_counted", what=name, reason=str(error))
        return False
    if found is not None:
        value = {**found, "counted": now.isoformat(timespec="seconds")}
        world.documents.write(WATCH, name, value, document.ticket if document else None)
    return found is not None


def _tell(world: World, found: Mapping[str, Any]) -> None:
    """One message for everything that began or ended since the last one. What could not be told is told later."""
    document = world.documents.read(WATCH, "alerts")
    known = document.value if document else {}
    on = {alert["name"]: {"since": alert["since"], "text": alert["text"]} for alert in found["alerts"]}
    told = set(known.get("told", ()))
    began, ended = [name for name in on if name not in told], sorted(told - on.keys())
    trouble = ""
    if world.webhook is not None and (began or ended):
        try:
            world.webhook.tell(_title(found, began), _lines(on, began, ended))
        except SyncError as error:
            trouble = str(error)
            events.warning("watch.not_told", reason=trouble)
    before = known.get("on", {})
    for name in on.keys() - before.keys():
        events.warning("alert.began", alert=name, text=on[name]["text"])
    for name in before.keys() - on.keys():
        events.info("alert.ended", alert=name)
    value = {"on": on, "told": sorted(told if trouble else on), "webhook": trouble}
    if value != known:
        world.documents.write(WATCH, "alerts", value, document.ticket if document else None)


def _title(found: Mapping[str, Any], began: Sequence[str]) -> str:
    """The verdict; while it only says that a backlog is worked off, what began and needs people stands before it."""
    pair, told = found["pair"], [found["verdict"]["text"]]
    which = f" ({pair['munchkin']})" if pair else ""
    if found["verdict"]["level"] == "catching up":
        told = [*(ALERTS[name] for name in began), *told]
    return f"Opportunity Sync{which}: {'. '.join(told)}"


def _first(name: str) -> str:
    return FIRST[name] + ("" if FIRST[name].endswith("?") else ".")


def _lines(on: Mapping[str, Mapping[str, str]], began: Sequence[str], ended: Sequence[str]) -> list[str]:
    return [
        *(f"{name}: {on[name]['text']}. {_first(name)} All of it: docs/operations.md, {name}" for name in began),
        *(f"{name}: over" for name in ended),
    ]
