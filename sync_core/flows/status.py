"""Where everything stands, and what answers a stop: approve, repoint, pause and resume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from sync_core.flows.applied import in_words
from sync_core.flows.detect import OPPORTUNITY, Feed, side_tables
from sync_core.flows.guard import PAIR, PAUSE, pair_of
from sync_core.flows.observe import chunks
from sync_core.flows.world import World
from sync_core.messages import FULL, split
from sync_core.model import LEFT_OUT, Lane, State, Work
from sync_core.ports import Ledger
from sync_core.rules.pace import forecast

SHOWN = 1000


def status(world: World) -> dict[str, Any]:
    """At most 50 storage operations at any size: counters and single rows, never a scan (design.md §2.9)."""
    documents = world.documents
    removals = documents.read("counter", "removals")
    stamp = documents.read(*PAIR)
    pause = documents.read(*PAUSE)
    queues = dict(world.queue.lengths())
    feeds = {table: _phase(value) for table, value in documents.list("feed")}
    runs = dict(documents.list("run"))
    return {
        **({"paused": dict(pause.value)} if pause else {}),
        "opportunities": _states(world.opportunities),
        "companies": _states(world.companies),
        **({"sales persons": _states(world.sales_persons)} if world.config.owner.salesperson else {}),
        "queues (about)": queues,
        "lanes (about)": _lanes(world, queues, runs),
        "feeds": {table: feeds.get(table, "not started") for table in (*side_tables(world.config), OPPORTUNITY)},
        "last runs": {name: {k: v for k, v in run.items() if k != "recent"} for name, run in runs.items()},
        "Marketo calls today": world.limiter.used_today(),
        "removals within 24 hours, without approval": dict(removals.value) if removals else {},
        "pair": {name: stamp.value[name] for name in ("organization", "munchkin", "schema")} if stamp else {},
        "mapping": in_words(world, idle=feeds.get(OPPORTUNITY, "").startswith("following") and not queues[Lane.SLOW]),
    }


def lanes(world: World) -> dict[Lane, dict[str, int | None]]:
    """What waits in each lane, and how long it will take (`rules.pace:forecast`)."""
    return _lanes(world, world.queue.lengths(), dict(world.documents.list("run")))


def _lanes(
    world: World, queues: Mapping[str, int], runs: Mapping[str, Mapping[str, Any]]
) -> dict[Lane, dict[str, int | None]]:
    now = world.clock.now()
    return {lane: forecast(queues[lane], runs.get(lane, {}).get("recent", ()), now) for lane in Lane}


def _states(ledger: Ledger) -> dict[str, int]:
    """How many rows stand where; what a filter leaves out apart from what is in step."""
    counts = dict(ledger.counts())
    return {**counts, State.IN_STEP: counts[State.IN_STEP] - counts[LEFT_OUT]}


def _phase(feed: Mapping[str, Any]) -> str:
    by = "" if feed.get("tracked", True) else ", by modifiedon and a full read a day: change tracking is off"
    return f"{feed['phase']}{by}"


def problems(found: dict[str, Any]) -> list[str]:
    """What of a status needs a person: the exit code follows from it."""
    states, queues = found["opportunities"], found["queues (about)"]
    others = [*found["companies"].items(), *found.get("sales persons", {}).items()]
    checks = (
        (
            sum(number for state, number in others if state == State.PARKED),
            "companies or sales persons are parked: `failures list --state parked` says why",
        ),
        (states.get(State.HELD, 0), "removals are held: look at `approve-removals`, then `approve-removals --yes`"),
        (states.get(State.PARKED, 0), "opportunities are parked: `failures list --state parked` says why"),
        (queues.get("unreadable", 0), "queue messages were not ours: see the queue opportunity-sync-unreadable"),
    )
    left = found["mapping"].get("left alone", {})
    paused = [f"{name} is left alone: {why}" for name, why in left.items()]
    paused += [f"paused since {found['paused']['since']}: `resume` goes on"] if "paused" in found else []
    stopped = [f"stopped, {run['trouble']}" for run in found["last runs"].values() if run.get("stopped")]
    return [f"{number} {text}" for number, text in checks if number] + paused + stopped


def held(world: World) -> dict[str, str]:
    """Opportunities with held removals, and why; the first thousand of them."""
    ids = islice(chain.from_iterable(world.opportunities.in_state(State.HELD)), SHOWN)
    return {key: row.reason for key, row in world.opportunities.rows(list(ids)).items()}


def approve_removals(world: World, only: Iterable[str] | None = None) -> int:
    """Let every removal held now pass, or of them *only* some; queued in full messages, and the fresh read decides
    then. Returns how many.
    """
    approved = 0
    for ids in chunks(chain.from_iterable(world.opportunities.in_state(State.HELD)) if only is None else only, FULL):
        rows = world.opportunities.rows(ids)
        still = [replace(row, approved=True) for row in rows.values() if row.state is State.HELD]
        lost = world.opportunities.write(still)
        done = tuple(sorted({row.id for row in still} - lost))
        approved += len(done)
        lane = Lane.FRESH if approved <= world.config.sync.fresh_max else Lane.SLOW
        for work in split(Work(done, lane=lane, why="approved")):
            world.queue.put(work)
    return approved


def repoint(world: World) -> dict[str, Any]:
    """Accept the pair that the settings lead to. Nothing remembered is trusted: everything is read and posted again."""
    pair = pair_of(world)
    for table in (*side_tables(world.config), OPPORTUNITY):
        feed = Feed(table, since=world.clock.now().isoformat(), again=True, force=table == OPPORTUNITY)
        known = world.documents.read("feed", table)
        world.documents.write("feed", table, feed.value(), known.ticket if known else None)
    again = Work(lane=Lane.SLOW, force=True, why="repoint")
    works = [replace(again, accounts=tuple(ids)) for ids in world.companies.ids()]
    works += [replace(again, users=tuple(ids)) for ids in world.sales_persons.ids()]
    for work in works:
        for part in split(work):
            world.queue.put(part)
    stamp = world.documents.read(*PAIR)
    world.documents.write(*PAIR, pair, stamp.ticket if stamp else None)
    return pair


def pause(world: World, why: str) -> None:
    """Stop detect and both queues, across restarts, until `resume`: what is queued goes back for a while."""
    since = world.clock.now().isoformat(timespec="seconds")
    world.change(*PAUSE, lambda known: {"since": known.get("since", since), "why": why})


def resume(world: World) -> bool:
    """Whether it had been paused."""
    paused = world.documents.read(*PAUSE) is not None
    if paused:
        world.documents.delete(*PAUSE)
    return paused
