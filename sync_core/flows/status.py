"""Where everything stands, and what answers a stop: approve, repoint, pause and resume."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from heapq import nlargest
from itertools import chain, islice
from typing import Any

from sync_core.errors import NotOurs, WrongPair
from sync_core.flows.applied import in_words
from sync_core.flows.detect import OPPORTUNITY, Feed, side_tables
from sync_core.flows.failures import KINDS, by_reason
from sync_core.flows.guard import PAIR, PAUSE, REMOVALS, compare_pair, pair_of
from sync_core.flows.observe import chunks
from sync_core.flows.reconcile import PEOPLE_MISSING
from sync_core.flows.world import World
from sync_core.messages import FULL, decode, split
from sync_core.model import LEFT_OUT, Lane, State, Tally, Work
from sync_core.rules.alerts import alerts, verdict
from sync_core.rules.batches import MAX_RECORDS
from sync_core.rules.pace import RUNS, forecast

SHOWN = 1000
ACTIONS_SHOWN = 20
STOPPED_FOR = timedelta(minutes=10)  # twice as long as what is put back because of a stop waits
POISON_FOR = timedelta(hours=1)
DAILY_QUOTA = 50_000  # of a subscription that bought no more (marketo.md §2)
WATCH = "watch"
ACTION = "action"
_MISSING = re.compile(rf"{re.escape(PEOPLE_MISSING)} (\d+) not in Marketo")

Values = Mapping[str, Mapping[str, Any]]
"""The documents of one kind, by name."""


def status(world: World) -> dict[str, Any]:
    """Where everything stands, as plain values: at most 50 storage operations at any size (design.md §2.9).

    Counters and single rows, never a scan, and no call to a service. Times are ISO in UTC, ages in seconds.
    """
    now = world.clock.now()
    stamps, runs, watched = (dict(world.documents.list(kind)) for kind in ("stamp", "run", WATCH))
    kinds = [kind for kind in KINDS if kind != "users" or world.config.owner.salesperson]
    tallies = {kind: world.ledgers[kind].tally() for kind in kinds}
    queues = dict(world.queue.lengths())
    feeds = _feeds(world, now, watched)
    idle = feeds[OPPORTUNITY]["mode"].startswith("following") and not queues[Lane.SLOW]
    pause, pair = stamps.get(PAUSE[1]), stamps.get(PAIR[1])
    removals, tick = world.documents.read(*REMOVALS), runs.get("detect", {})
    found: dict[str, Any] = {
        "at": now.isoformat(timespec="seconds"),
        "oldest change not in Marketo": _aged(_oldest(world, runs, now), now),
        "last tick": {**_aged(tick.get("at"), now), "read": tick.get("read")},
        "stops": _stops(runs, now),
        **({"paused": dict(pause)} if pause else {}),
        "opportunities": _states(tallies["opportunities"]),
        "companies": _states(tallies["accounts"]),
        **({"sales persons": _states(tallies["users"])} if "users" in tallies else {}),
        "not in step": [
            {"kind": kind, "state": state, "reason": reason, "count": number}
            for (kind, state, reason), number in by_reason(tallies).items()
        ],
        "people missing": _people_missing(tallies["opportunities"], watched),
        "queues (about)": queues,
        "lanes (about)": {
            lane: {**about, **_last_done(runs, lane)} for lane, about in _lanes(queues, runs, now).items()
        },
        "poison within an hour": _poison(runs, queues, now),
        "backlog": watched.get("backlog", {}).get("samples", []),
        "feeds": feeds,
        "last runs": {name: {k: v for k, v in run.items() if k not in _KEPT} for name, run in runs.items()},
        "runs": _runs(runs),
        "Marketo calls": _calls(world, watched),
        "removals within 24 hours, without approval": dict(removals.value) if removals else {},
        "pair": {name: pair[name] for name in ("organization", "munchkin", "schema")} if pair else {},
        "mapping": in_words(world.config, stamps, _known(tallies), idle=idle),
        "probe": _probed(stamps.get("probe")),
        "warnings": dict(watched.get("validate", {})),
        "actions": [dict(value) for _, value in world.documents.list(ACTION, limit=ACTIONS_SHOWN)],
        "doubts": list(world.doubts),
        "webhook": "none" if world.webhook is None else watched.get("alerts", {}).get("webhook") or "well",
    }
    since = watched.get("alerts", {}).get("on", {})
    told = alerts(found, schedule=world.schedule, expires=world.credentials_expire)
    found["alerts"] = [
        {"name": name, "since": since.get(name, {}).get("since", found["at"]), "text": text}
        for name, text in told.items()
    ]
    found["needs you"] = problems(found)
    said = verdict(found)
    return {"verdict": said, "healthy": said["level"] != "not in step" and "watch-missed" not in told, **found}


_KEPT = ("runs", "hidden")


def _probed(answers: Mapping[str, Any] | None) -> dict[str, Any]:
    """When open questions were tried last, in which subscription, and how many are answered."""
    found = answers or {"at": None, "munchkin": None, "answers": {}}
    return {"at": found["at"], "munchkin": found["munchkin"], "answered": len(found["answers"])}


def lanes(world: World) -> dict[str, dict[str, int | None]]:
    """What waits in each lane, and how long it will take (`rules.pace:forecast`)."""
    return _lanes(world.queue.lengths(), dict(world.documents.list("run")), world.clock.now())


def _lanes(queues: Mapping[str, int], runs: Values, now: datetime) -> dict[str, dict[str, Any]]:
    return {str(lane): forecast(queues[lane], runs.get(lane, {}).get("runs", ()), now) for lane in Lane}


def _states(tally: Tally) -> dict[str, int]:
    """How many rows stand where; what a filter leaves out apart from what is in step."""
    return {**tally.counts, State.IN_STEP: tally.counts[State.IN_STEP] - tally.counts[LEFT_OUT]}


def _known(tallies: Mapping[str, Tally]) -> dict[str, int]:
    """How many opportunities and companies (not gone), and roles, the ledgers know."""
    alive = {kind: sum(t.counts[each] for each in State if each is not State.GONE) for kind, t in tallies.items()}
    roles = tallies["opportunities"].counts["roles"]
    return {"opportunities": alive["opportunities"], "companies": alive["accounts"], "roles": roles}


def _aged(at: str | None, now: datetime) -> dict[str, Any]:
    seconds = max(0, round((now - datetime.fromisoformat(at)).total_seconds())) if at else None
    return {"at": at, "seconds": seconds}


def _oldest(world: World, runs: Values, now: datetime) -> str | None:
    """Since when the oldest fresh change waits: on the queue, put back out of sight, or in Dynamics where none is read.

    A message in a worker's hands is seen by nobody, for as long as its lease at most. The slow lane is another matter:
    a first load is behind by intention, and what changes meanwhile is fresh.
    """
    tick = runs.get("detect", {})
    unread = tick.get("read") if tick.get("read", "") < tick.get("began", "") else None
    seen = [since for until, since in runs.get(Lane.FRESH, {}).get("hidden", ()) if until > now.isoformat()]
    for letter in world.queue.peek(Lane.FRESH):
        try:
            seen.append(decode(letter.body).seen)
        except NotOurs:
            continue
    return min((each for each in (*seen, unread) if each), key=datetime.fromisoformat, default=None)


def _people_missing(tally: Tally, watched: Values) -> dict[str, Any]:
    """Roles that wait by the reasons of their opportunities; the people are counted now and then."""
    waiting = [
        (reason, n)
        for (state, reason), n in tally.reasons.items()
        if state == State.WAITING and reason.startswith(PEOPLE_MISSING)
    ]
    roles = sum(n * (int(found[1]) if (found := _MISSING.match(reason)) else 1) for reason, n in waiting)
    known = watched.get("people", {})
    return {
        "people": known.get("people") if roles else 0,
        "roles": roles,
        "opportunities": sum(n for _, n in waiting),
        "counted": known.get("counted"),
    }


def _feeds(world: World, now: datetime, watched: Values) -> dict[str, dict[str, Any]]:
    """How each table is followed, and how old its delta link is against the days that one is good for."""
    stored = dict(world.documents.list("feed"))
    days = watched.get("retention", {}).get("days")
    found = {}
    for table in (*side_tables(world.config), OPPORTUNITY):
        feed = stored.get(table, {})
        tracked = feed.get("tracked", True)
        link = _aged(feed.get("taken") or None, now)
        found[table] = {
            "mode": _mode(feed),
            "link taken": link["at"],
            "seconds": link["seconds"],
            "retention days": days if tracked else None,
            **({"reading since": feed["since"]} if feed and feed["phase"] != "following" else {}),
        }
    return found


def _mode(feed: Mapping[str, Any]) -> str:
    if not feed:
        return "not started"
    by = "" if feed.get("tracked", True) else ", by modifiedon and a full read a day: change tracking is off"
    return f"{feed['phase']}{', not to its end yet' if feed.get('partway') else ''}{by}"


def _stops(runs: Values, now: datetime) -> list[dict[str, str]]:
    """Why the last run of its kind was stopped, or one lately: what is put back comes again, others pass meanwhile."""
    stopped = {
        (run["kind"], run["trouble"])
        for each in runs.values()
        for number, run in enumerate(reversed(each.get("runs", ())))
        if "kind" in run and (number == 0 or datetime.fromisoformat(run["at"]) > now - STOPPED_FOR)
    }
    return [{"kind": kind, "trouble": trouble} for kind, trouble in sorted(stopped)]


def _last_done(runs: Values, lane: str) -> dict[str, Any]:
    """When a delivery of the lane last finished anything."""
    done = (run["at"] for run in reversed(runs.get(lane, {}).get("runs", ())) if run["done"])
    return {"last done": next(done, None)}


def _poison(runs: Values, queues: Mapping[str, int], now: datetime) -> int:
    """Messages that ticks found in the poison queues lately, and those that lie there."""
    ticks = runs.get("detect", {}).get("runs", ())
    late = (run["counts"] for run in ticks if datetime.fromisoformat(run["at"]) > now - POISON_FOR)
    return int(sum(counts.get("poison", 0) for counts in late) + queues["fresh poison"] + queues["slow poison"])


def _runs(runs: Values) -> list[dict[str, Any]]:
    every = ({"what": name, **each} for name, run in runs.items() for each in run.get("runs", ()))
    return nlargest(RUNS, every, key=lambda each: str(each["at"]))


def _calls(world: World, watched: Values) -> dict[str, Any]:
    usage = watched.get("usage", {})
    return {
        "used today": world.limiter.used_today(),
        "our share": world.limiter.shares[1],
        "subscription today": usage.get("total"),
        "subscription's quota": max(DAILY_QUOTA, world.limiter.shares[1]),
        "counted": usage.get("counted"),
    }


def problems(found: Mapping[str, Any]) -> list[str]:
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
    told = [f"{name} is left alone: {why}" for name, why in left.items()]
    told += [f"paused since {found['paused']['since']}: `resume` goes on"] if "paused" in found else []
    told += [f"stopped, {stop['trouble']}" for stop in found["stops"]]
    others_on = [each for each in found["alerts"] if each["name"] not in TOLD_OTHERWISE]
    told += [f"{each['name']}: {each['text']} (docs/operations.md)" for each in others_on]
    told += found["doubts"]
    told += [] if found["webhook"] in ("none", "well") else [f"nobody is told of alerts: {found['webhook']}"]
    return [f"{number} {text}" for number, text in checks if number] + told


TOLD_OTHERWISE = {"wrong-pair", "credentials-refused", "stopped", "removals-held", "field-suspended"}


def removals(world: World, only: Collection[str] | None = None) -> list[dict[str, Any]]:
    """What is held, or *only* these, at most SHOWN: `{"id", "name", "roles", "reason"}`, as both sides have it now.

    `name` is None of what Dynamics shows no more; `roles`: how many are in Marketo because of us.
    """
    held = world.opportunities.in_state(State.HELD) if only is None else [only]
    rows = world.opportunities.rows(list(islice(chain.from_iterable(held), SHOWN)))
    rows = {key: row for key, row in rows.items() if row.state is State.HELD}
    shown = world.source.rows("opportunity", list(rows), {"name"}) if rows else {}
    return [
        {"id": key, "name": shown[key].get("name") if key in shown else None, "roles": len(row.roles)}
        | {"reason": row.reason}
        for key, row in rows.items()
    ]


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


def before_repoint(world: World) -> dict[str, Any]:
    """What `repoint` would do: both pairs, what stops the sync now ('' if nothing does), and what it costs about.

    The calls are those for the records the ledgers know: each posted, its roles read back and posted, its people asked
    for. What else the other side holds is not known before it is read.
    """
    stamp, found = world.documents.read(*PAIR), pair_of(world)
    try:
        compare_pair(world)
        stops = ""
    except WrongPair as error:
        stops = str(error)
    known = _known({kind: ledger.tally() for kind, ledger in world.ledgers.items()})
    calls = {what: -(-number // MAX_RECORDS) for what, number in known.items()}
    return {
        "the state belongs to": _pair(stamp.value) if stamp else {},
        "the settings lead to": _pair(found),
        "stopped by": stops,
        "records known": known,
        "Marketo calls, about": 2 * calls["opportunities"] + calls["companies"] + 2 * calls["roles"],
    }


def _pair(pair: Mapping[str, Any]) -> dict[str, Any]:
    return {name: pair[name] for name in ("organization", "munchkin", "schema", "prefixes") if name in pair}


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
