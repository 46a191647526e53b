"""What an earlier version stored is taken over, from one schema number to the next (decision 0026).

    the stamp is raised, and says since when ──▶ ten minutes ──▶ a step for each number ──▶ the stamp says no more

Whoever finds the raised stamp stops: the old version since it is newer, ours since a tick has to take over first.
Each delivery and each tick looks at it, so after ten minutes none of the old version is under way. What it holds of the
ledger it can't write over, whenever it comes: a row has moved to another ticket, or says `v`, which it refuses.

A step may be killed anywhere, run twice, at the same time or long after it was needed: it adds, or changes under a
ticket, and what is done already it skips. It holds a page in memory, and ends when its time is over. What a row of the
ledger can be understood from as it is needs no step: it is understood when it is read, and written anew when it is
written anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sync_core import __version__, events
from sync_core.errors import TakingOver
from sync_core.flows.guard import PAIR, TAKING_OVER, check_version, is_behind
from sync_core.flows.world import World
from sync_core.model import SCHEMA

IN_HAND = timedelta(minutes=10)  # what began before the stamp was raised has ended: host.json's functionTimeout
NEXT_TICK_S = 300.0


def take_over(world: World, *, until: float) -> None:
    """Take over an older state, or go on with it, up to *until* by the monotonic clock.

    Raises NewerVersion, and TakingOver as long as it is not done.
    """
    stamp = check_version(world)
    if stamp is None or not is_behind(stamp.value):
        return
    value, ticket, now = stamp.value, stamp.ticket, world.clock.now()
    if value["schema"] < SCHEMA:
        first = value.get(TAKING_OVER, {}).get("from", value["schema"])
        value = {**value, "schema": SCHEMA, "version": __version__}
        value[TAKING_OVER] = {"from": first, "since": now.isoformat(timespec="seconds")}
        ticket = _stamp(world, value, ticket)
        events.info("state.taking_over", schema=SCHEMA, before=first)
    begun = value[TAKING_OVER]
    steps = [world.migrations[number] for number in range(begun["from"], SCHEMA) if number in world.migrations]
    left = datetime.fromisoformat(begun["since"]) + IN_HAND - now
    if steps and left > timedelta(0):
        raise TakingOver(
            f"the state of schema {begun['from']} is taken over by version {__version__} once deliveries of the old "
            "one have ended",
            delay=left.total_seconds(),
        )
    if not all(step(until) for step in steps):
        raise TakingOver("there is more in the state to take over than one tick can do", delay=NEXT_TICK_S)
    _stamp(world, {name: each for name, each in value.items() if name != TAKING_OVER}, ticket)
    events.info("state.taken_over", schema=SCHEMA, before=begun["from"])


def _stamp(world: World, value: Mapping[str, Any], ticket: str) -> str:
    new = world.documents.write(*PAIR, value, ticket)
    if new is None:
        raise TakingOver("another instance takes the state over", delay=NEXT_TICK_S)
    return new
