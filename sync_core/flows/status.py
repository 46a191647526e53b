"""Where everything stands, and the two commands that answer a stop: approve and repoint."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sync_core.flows.detect import OPPORTUNITY, SIDE_TABLES, Feed
from sync_core.flows.guard import PAIR, pair_of
from sync_core.flows.world import World
from sync_core.messages import split
from sync_core.model import Lane, State, Work

PAGE = 1000


def status(world: World) -> dict[str, Any]:
    """At most 50 storage operations at any size: counters and single rows, never a scan (design.md §2.9)."""
    documents = world.documents
    removals = documents.read("counter", "removals")
    stamp = documents.read(*PAIR)
    feeds = {table: value["phase"] for table, value in documents.list("feed")}
    return {
        "opportunities": dict(world.opportunities.counts()),
        "companies": dict(world.companies.counts()),
        "queues (about)": dict(world.queue.lengths()),
        "feeds": {table: feeds.get(table, "not started") for table in (*SIDE_TABLES, OPPORTUNITY)},
        "last runs": {name: dict(value) for name, value in documents.list("run")},
        "Marketo calls today": world.limiter.used_today(),
        "removals within 24 hours, without approval": dict(removals.value) if removals else {},
        "pair": {name: stamp.value[name] for name in ("organization", "munchkin", "schema")} if stamp else {},
        "mapping": world.config.version,
    }


def problems(found: dict[str, Any]) -> list[str]:
    """What of a status needs a person: the exit code follows from it."""
    states, queues = found["opportunities"], found["queues (about)"]
    checks = (
        (states.get(State.HELD, 0), "removals are held: look at `approve-removals`, then `approve-removals --yes`"),
        (states.get(State.PARKED, 0), "opportunities are parked: `explain ID` says why"),
        (queues.get("unreadable", 0), "queue messages were not ours: see the queue opportunity-sync-unreadable"),
    )
    stopped = [f"stopped, {run['trouble']}" for run in found["last runs"].values() if run.get("stopped")]
    return [f"{number} {text}" for number, text in checks if number] + stopped


def held(world: World, *, limit: int = PAGE) -> dict[str, str]:
    """Opportunities with held removals, and why."""
    ids = world.opportunities.in_state(State.HELD, limit)
    return {key: row.reason for key, row in world.opportunities.rows(ids).items()}


def approve_removals(world: World) -> int:
    """Let every removal held now pass; each is queued, and the fresh read decides then. Returns how many."""
    approved: set[str] = set()
    while True:
        ids = set(world.opportunities.in_state(State.HELD, PAGE + len(approved))) - approved
        if not ids:
            return len(approved)
        rows = world.opportunities.rows(ids)
        still = [replace(row, approved=True) for row in rows.values() if row.state is State.HELD]
        lost = world.opportunities.write(still)
        done = tuple(sorted({row.id for row in still} - lost))
        for work in split(Work(done, lane=Lane.FRESH, why="approved")):
            world.queue.put(work)
        approved |= ids


def repoint(world: World) -> dict[str, Any]:
    """Accept the pair that the settings lead to. Nothing remembered is trusted: everything is read and posted again."""
    pair = pair_of(world)
    for table in (*SIDE_TABLES, OPPORTUNITY):
        feed = Feed(table, since=world.clock.now().isoformat(), again=True, force=table == OPPORTUNITY)
        known = world.documents.read("feed", table)
        world.documents.write("feed", table, feed.value(), known.ticket if known else None)
    for ids in world.companies.ids():
        for work in split(Work(accounts=tuple(ids), lane=Lane.SLOW, force=True, why="repoint")):
            world.queue.put(work)
    stamp = world.documents.read(*PAIR)
    world.documents.write(*PAIR, pair, stamp.ticket if stamp else None)
    return pair
