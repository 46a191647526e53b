"""Where everything stands, and what answers a stop: approve, repoint, pause and resume."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Any

from sync_core import __version__
from sync_core.errors import NewerVersion, NotOurs, RetryLater, SyncError, WrongPair
from sync_core.flows.applied import in_words
from sync_core.flows.audit import TOLD_LAST
from sync_core.flows.detect import OPPORTUNITY, Feed, side_tables
from sync_core.flows.failures import KINDS, by_reason
from sync_core.flows.guard import (
    AT_WORK,
    BACK,
    BEGAN,
    CLEANING,
    PAIR,
    PAUSE,
    REMOVALS,
    SET_ASIDE,
    begin,
    check_not_newer,
    compare_pair,
    is_behind,
    pair_of,
)
from sync_core.flows.observe import chunks
from sync_core.flows.reconcile import PEOPLE_MISSING
from sync_core.flows.world import World
from sync_core.messages import FULL, decode, split
from sync_core.model import LEFT_OUT, Lane, MarketoObject, State, Tally, Work
from sync_core.rules.alerts import alerts, paused_in_words, stop_in_words, verdict
from sync_core.rules.batches import MAX_RECORDS
from sync_core.rules.pace import RUNS, forecast
from sync_core.rules.words import counted

SHOWN = 1000
ACTIONS_SHOWN = 20
STOPPED_FOR = timedelta(minutes=6)  # what is put back because of a stop comes again after five: it had its say by then
POISON_FOR = timedelta(hours=1)
DAILY_QUOTA = 50_000  # of a subscription that bought no more (marketo.md §2)
APPROVED = "approved: goes with the next delivery, unless Dynamics shows it again"
"""The reason of what is held still and was approved: counted and listed apart from what waits for approval."""
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
    if pair:
        check_not_newer(pair)
    removals, tick = world.documents.read(*REMOVALS), runs.get("detect", {})
    found: dict[str, Any] = {
        "at": now.isoformat(timespec="seconds"),
        "version": __version__,
        "oldest change not in Marketo": _aged(_oldest(world, runs, now), now),
        "last tick": {**_aged(tick.get("at"), now), "read": tick.get("read")},
        "stops": _stops(runs, now),
        **({"paused": dict(pause)} if pause else {}),
        "opportunities": _states(tallies["opportunities"]),
        "removals approved": tallies["opportunities"].reasons.get((str(State.HELD), APPROVED), 0),
        "companies": _states(tallies["accounts"]),
        **({"sales persons": _states(tallies["users"])} if "users" in tallies else {}),
        "not in step": [
            {"kind": kind, "state": state, "reason": reason, "count": number}
            for (kind, state, reason), number in by_reason(tallies).items()
        ],
        "people missing": _people_missing(tallies["opportunities"], watched),
        "queues (about)": queues,
        "lanes (about)": {
            lane: {**_standing_still(about, runs, lane, paused=bool(pause)), **_last_done(runs, lane)}
            for lane, about in _lanes(queues, runs, now).items()
        },
        "poison within an hour": _poison(runs, queues, now),
        "backlog": watched.get("backlog", {}).get("samples", []),
        "feeds": feeds,
        "last runs": {name: {k: v for k, v in run.items() if k not in _KEPT} for name, run in runs.items()},
        "runs": _runs(runs),
        "Marketo calls": _calls(world, watched),
        "removals within 24 hours, without approval": dict(removals.value) if removals else {},
        "pair": {name: pair[name] for name in ("organization", "munchkin", "schema")} if pair else {},
        "taking over": bool(pair and is_behind(pair)),
        "mapping": in_words(world.config, stamps, _known(tallies), idle=idle),
        "audit": dict(stamps.get(TOLD_LAST[1], {})),
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
        except (NotOurs, NewerVersion):
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


def _stops(runs: Values, now: datetime) -> list[dict[str, Any]]:
    """Why the last run of its kind was stopped, or one lately: what is put back comes again, others pass meanwhile.

    `last`: when that was; `well`: since when runs of its kind go well, None while none did since. A tick that goes well
    ends the stop of an earlier one. A delivery that does may be of others than those put back, or by an instance that
    has the new secret already: it ends nothing before what was put back has come again (`STOPPED_FOR`).
    """
    stops: dict[tuple[str, str], dict[str, Any]] = {}
    for name, each in runs.items():
        well, stopped = None, False
        for run in reversed(each.get("runs", ())):
            if "kind" not in run:
                well = well if run["trouble"] else run["at"]
                continue
            lately = name != "detect" and datetime.fromisoformat(run["at"]) > now - STOPPED_FOR
            if lately or not (stopped or well):
                known = stops.setdefault((run["kind"], run["trouble"]), {"last": run["at"], "well": well})
                known["last"] = max(known["last"], run["at"])
                known["well"] = max(known["well"], well) if known["well"] and well else None
            stopped = True
    return [{"kind": kind, "trouble": trouble, **stops[kind, trouble]} for kind, trouble in sorted(stops)]


def _standing_still(about: dict[str, Any], runs: Values, lane: str, *, paused: bool) -> dict[str, Any]:
    """Nobody knows when a lane will be empty that is paused, or whose last delivery got nothing done."""
    last = next(reversed(runs.get(lane, {}).get("runs", ())), None)
    still = paused or bool(last and last["trouble"] and not last["done"])
    return {**about, "minutes until empty": None} if still and about["messages"] else about


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
    """The last of all kinds, the latest first; ticks that found nothing to do don't push the others out."""
    every = ({"what": name, **each} for name, run in runs.items() for each in run.get("runs", ()))
    return quietly(sorted(every, key=lambda each: str(each["at"]), reverse=True))[:RUNS]


def quietly(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """*runs*, the latest first, with ticks that found nothing to do told together: `quiet` of them since `since`."""
    told: list[dict[str, Any]] = []
    for run in runs:
        if run["what"] != "detect" or run["counts"] or run["trouble"]:
            told.append(dict(run))
        elif told and told[-1].get("quiet"):
            told[-1] |= {"quiet": told[-1]["quiet"] + 1, "since": run["at"]}
        else:
            told.append({**run, "quiet": 1, "since": run["at"]})
    return told


def put_back(world: World) -> dict[str, str]:
    """When the next message comes back that was put back, and why it was; as far as the last runs know."""
    now, runs = world.clock.now().isoformat(), dict(world.documents.list("run"))
    lanes = [runs[lane] for lane in Lane if lane in runs]
    back = min((until for run in lanes for until, _ in run.get("hidden", ()) if until > now), default="")
    why = next((run["trouble"] for run in lanes if run.get("trouble")), "")
    told = {"the next comes back": f"{back[:19].replace('T', ' ')} UTC" if back else "", "put back because": why}
    return {name: text for name, text in told.items() if text}


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
    held = states.get(State.HELD, 0) - found["removals approved"]
    parked, more = states.get(State.PARKED, 0), "`failures list --state parked` says why"
    parked_others = sum(number for state, number in others if state == State.PARKED)
    strange = queues.get("unreadable", 0)
    checks = (
        (parked_others, "company or sales person is", "companies or sales persons are", f"parked: {more}"),
        (held, "removal is", "removals are", "held: look at `approve-removals`, then `approve-removals --yes`"),
        (parked, "opportunity is", "opportunities are", f"parked: {more}"),
        (strange, "queue message was", "queue messages were", "not ours: see the queue opportunity-sync-unreadable"),
    )
    left = found["mapping"].get("left alone", {})
    told = [f"{name} is left alone: {why}" for name, why in left.items()]
    told += [_paused(found["paused"])] if "paused" in found else []
    told += [f"stopped, {stop_in_words(stop)}" for stop in found["stops"]]
    others_on = [each for each in found["alerts"] if each["name"] not in TOLD_OTHERWISE]
    told += [f"{each['name']}: {each['text']} (docs/operations.md)" for each in others_on]
    told += found["doubts"]
    told += [] if found["webhook"] in ("none", "well") else [f"nobody is told of alerts: {found['webhook']}"]
    return [f"{counted(number, one, many)} {text}" for number, one, many, text in checks if number] + told


def _paused(pause: Mapping[str, Any]) -> str:
    cleanup = pause.get("cleanup")
    if not cleanup:
        return f"{paused_in_words(pause)}: `resume` goes on"
    if not cleanup.get("ended"):
        return f"{CLEANING} {cleanup['begun']}, and not to the end: `cleanup --confirm` goes on. {BACK}"
    return f"a cleanup ended at {cleanup['ended']}: the function app and its storage can be deleted. {BACK}"


TOLD_OTHERWISE = {"wrong-pair", "credentials-refused", "stopped", "removals-held", "field-suspended"}


def to_approve(world: World) -> Iterator[Sequence[str]]:
    """The ids of what is held and was not approved yet, page by page."""
    for pointers in world.opportunities.pointers(State.HELD):
        yield [pointer.id for pointer in pointers if pointer.reason != APPROVED]


def removals(world: World, only: Collection[str] | None = None, limit: int = SHOWN) -> list[dict[str, Any]]:
    """What waits for approval, at most *limit*, or of *only* these what is held; as both sides have it now:
    `{"id", "name", "in Dynamics", "roles", "reason"}`.

    The name of what Dynamics shows no more is Marketo's, None if that gives no answer; `roles`: how many are in Marketo
    because of us.
    """
    ids = chain.from_iterable(to_approve(world)) if only is None else only
    found = world.opportunities.rows(list(islice(ids, limit)))
    rows = {key: row for key, row in found.items() if row.state is State.HELD}
    shown = world.source.rows("opportunity", list(rows), {"name"}) if rows else {}
    names = _names_in_marketo(world, [key for key in rows if key not in shown])
    return [
        {"id": key, "name": (shown[key].get("name") or "") if key in shown else names.get(key)}
        | {"in Dynamics": key in shown, "roles": len(row.roles), "reason": row.reason}
        for key, row in rows.items()
    ]


def _names_in_marketo(world: World, ids: Sequence[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    keys = {world.config.opportunity.key.external(key): key for key in ids}
    with suppress(SyncError):  # ids say enough to go on
        for some in chunks(keys):
            found = world.target.records(MarketoObject.OPPORTUNITY, some, ["name"])
            names |= {keys[key]: str(values["name"] or "") for key, values in found.items() if key in keys}
    return names


def approve_removals(world: World, only: Iterable[str] | None = None) -> int:
    """Let every removal held now pass, or of them *only* some; queued in full messages, and the fresh read decides
    then. Returns how many. One that is approved already is queued again: whoever approved it may have died before.
    """
    approved = 0
    for ids in chunks(chain.from_iterable(world.opportunities.in_state(State.HELD)) if only is None else only, FULL):
        rows = world.opportunities.rows(ids)
        still = [replace(row, approved=True, reason=APPROVED) for row in rows.values() if row.state is State.HELD]
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
    _read_again(world, "repoint")
    stamp = world.documents.read(*PAIR)
    if stamp is not None and stamp.value["munchkin"] != pair["munchkin"]:
        world.documents.delete(*BEGAN)
    begin(world)
    world.documents.write(*PAIR, pair, stamp.ticket if stamp else None)
    return pair


def _read_again(world: World, why: str) -> None:
    """Have everything read from the start and posted, trusting no memory."""
    for table in (*side_tables(world.config), OPPORTUNITY):
        feed = Feed(table, since=world.clock.now().isoformat(), again=True, force=table == OPPORTUNITY)
        known = world.documents.read("feed", table)
        world.documents.write("feed", table, feed.value(), known.ticket if known else None)
    again = Work(lane=Lane.SLOW, force=True, why=why)
    works = [replace(again, accounts=tuple(ids)) for ids in world.companies.ids()]
    works += [replace(again, users=tuple(ids)) for ids in world.sales_persons.ids()]
    for work in works:
        for part in split(work):
            world.queue.put(part)


def pause(world: World, why: str) -> Mapping[str, str]:
    """Stop detect and both queues, across restarts, until `resume`: what is queued goes back for a while.

    Returns the pause that was on already, if any: it keeps its time and gets the new reason.
    """
    since, before = world.clock.now().isoformat(timespec="seconds"), dict[str, str]()

    def paused(known: Mapping[str, Any]) -> Mapping[str, Any]:
        before.clear()
        before.update(known)
        return {"since": since, **known, "why": why}

    world.change(*PAUSE, paused)
    return before


def resume(world: World) -> Mapping[str, Any] | None:
    """The pause that was on. After a cleanup everything is read and posted again.

    Raises RetryLater while one is at work, or was so lately that a removal of it may still be applied (design.md §2.4).
    """
    paused = world.documents.read(*PAUSE)
    if paused is None:
        return None
    if cleanup := paused.value.get("cleanup"):
        at_work = cleanup.get("at")
        left = datetime.fromisoformat(at_work) + AT_WORK - world.clock.now() if at_work else timedelta(0)
        if left > timedelta(0):
            raise RetryLater("a cleanup is at work, or was a moment ago", delay=left.total_seconds())
        _read_again(world, "resume")
        if cleanup.get("ended"):
            world.documents.delete(*BEGAN)
            begin(world)
        while aside := world.documents.list(SET_ASIDE):
            for name, _ in aside:
                world.documents.delete(SET_ASIDE, name)
    world.documents.delete(*PAUSE)
    return paused.value
