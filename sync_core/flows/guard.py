"""What keeps a mistake small: pause, removal guard, check of version and pair, the day's re-checks (design.md §2.7,
§2.11).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from sync_core import __version__
from sync_core.errors import CleaningUp, NewerVersion, Paused, TakingOver, WrongPair
from sync_core.flows.world import World
from sync_core.messages import decode, encode
from sync_core.model import SCHEMA, Document, State, Work
from sync_core.rules.words import numbered

WINDOW = timedelta(hours=24)
PAUSED_DELAY_S = 300.0
REMOVALS = ("counter", "removals")
PAIR = ("stamp", "pair")
PAUSE = ("stamp", "pause")
BEGAN = ("stamp", "began")
SET_ASIDE = "set-aside"
AT_WORK = timedelta(minutes=10)  # a part of a cleanup, to the last moment in which a write of it may be applied
RECHECKS = ("counter", "recheck")
COMPARISON = ("stamp", "comparison")
TAKING_OVER = "taking over"  # in the stamp: `{from, since}` while `flows.migrations` is at it
REMOVALS_HELD = "removals held:"
CLEANING = "what the sync wrote is removed from Marketo, since"
BACK = "`python -m sync_core resume --after-cleanup` would post everything again"
REMEDY = "If that is meant, run `python -m sync_core repoint --confirm`; otherwise correct the settings."


def reserve(world: World, what: str, number: int) -> str:
    """Reserve *number* removals of *what* (`opportunities` or `roles`) before they are sent.

    Empty when granted; otherwise why not, and nothing is reserved: a reservation over the limit is refused whole.
    """
    limit = world.config.removals.limit(known_records(world, what))
    total = 0

    def reserved(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
        nonlocal total
        window = _window(value, world.clock.now())
        total = int(window.get(what, 0)) + number
        return None if total > limit else {**window, what: total}

    world.change(*REMOVALS, reserved)
    told = f"{numbered(total, what)} within 24 hours, {limit:,} {'passes' if limit == 1 else 'pass'} without approval"
    return told if total > limit else ""


def release(world: World, what: str, number: int) -> None:
    """Give back what was reserved for removals that go back on the queue: they reserve again."""
    world.change(*REMOVALS, lambda value: {**value, what: max(0, int(value.get(what, 0)) - number)})


def known_records(world: World, what: str = "opportunities") -> int:
    """How many opportunities or companies (not gone), or roles, the ledgers know."""
    counts = (world.companies if what == "companies" else world.opportunities).counts()
    if what == "roles":
        return counts.get("roles", 0)
    return sum(counts.get(state, 0) for state in State if state is not State.GONE)


def _window(value: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The current window of 24 hours; it starts with the first removal after the last one ended."""
    started = value.get("started")
    if started and datetime.fromisoformat(started) + WINDOW > now:
        return dict(value)
    return {"started": now.isoformat()}


def ask_for_comparison(world: World) -> None:
    """Have the next tick compare the ledger's ids with all of Dataverse's (design.md §2.7: a complete full read)."""
    world.documents.write(*COMPARISON, {"asked": world.clock.now().isoformat()}, None)


def check_not_paused(world: World) -> None:
    """Raises Paused between `pause` and `resume`, CleaningUp from the beginning of a cleanup on."""
    pause = world.documents.read(*PAUSE)
    if pause and "cleanup" in pause.value:
        raise CleaningUp(f"{CLEANING} {pause.value['cleanup']['begun']}: {BACK}", delay=PAUSED_DELAY_S)
    if pause:
        raise Paused(f"paused since {pause.value['since']}: `python -m sync_core resume` goes on", delay=PAUSED_DELAY_S)


def set_aside(world: World, work: Work, *, sent: bool) -> None:
    """While a cleanup goes on: of a message it needs no more than what may be in Marketo and stands in no ledger.

    That is where a write may have been *sent*: the delivery went back forced, or was received before.
    """
    at, number = world.clock.now().isoformat(), 0
    while sent and not world.documents.write(SET_ASIDE, f"{at} {number:04}", {"body": encode(work)}, None):
        number += 1  # the name was somebody else's, at the same moment


def those_set_aside(world: World) -> Iterator[Work]:
    """What messages said that came off the queues since a cleanup began."""
    after = ""
    while some := world.documents.list(SET_ASIDE, after=after):
        yield from (decode(value["body"]) for _, value in some)
        after = some[-1][0]


def check_version(world: World) -> Document | None:
    """The stamp. Raises NewerVersion where one newer than ours wrote the state: nothing of that is used."""
    stamp = world.documents.read(*PAIR)
    if stamp is not None:
        check_not_newer(stamp.value)
    return stamp


def check_not_newer(stamp: Mapping[str, Any]) -> None:
    if stamp["schema"] > SCHEMA:
        newer = f"version {stamp['version']}" if "version" in stamp else "a newer version"
        raise NewerVersion(
            f"the state was written by {newer} (schema {stamp['schema']}), this is version {__version__} "
            f"(schema {SCHEMA}): deploy {newer if 'version' in stamp else 'that one'} or a later one again "
            "(docs/upgrading.md). Nothing was done."
        )


def check_taken_over(world: World) -> None:
    """As `check_version`. Raises TakingOver where an earlier version wrote the state and no tick has made it ours."""
    stamp = check_version(world)
    if stamp is not None and is_behind(stamp.value):
        raise TakingOver(
            f"the state of an earlier version is being taken over by version {__version__}, which the functions begin "
            "with at their next tick, or `sync` does; then deliveries of the old one get ten minutes to end"
        )


def is_behind(stamp: Mapping[str, Any]) -> bool:
    return stamp["schema"] < SCHEMA or TAKING_OVER in stamp


def pair_of(world: World) -> dict[str, Any]:
    """What the settings lead to now. `witnesses` are row versions of the opportunities written last."""
    found = {"organization": world.source.organization(), **_of_settings(world)}
    return found | {"witnesses": dict(world.source.newest_versions())}


def _of_settings(world: World) -> dict[str, Any]:
    prefixes = [world.config.opportunity.key.prefix, world.config.company.key.prefix]
    return {"munchkin": world.subscription, "schema": SCHEMA, "version": __version__, "prefixes": prefixes}


def check_pair(world: World) -> None:
    """Stop before any write when the state belongs to other services. The first start stamps the state."""
    pair, stamp = compare_pair(world)
    if stamp is None:
        begin(world)
    if pair != (stamp.value if stamp else None):
        world.documents.write(*PAIR, pair, stamp.ticket if stamp else None)


def begin(world: World) -> None:
    """Keep since when this state writes to Marketo: what is older there, somebody else made (`cleanup`)."""
    world.documents.write(*BEGAN, {"at": world.clock.now().isoformat()}, None)


def check_subscription(world: World) -> None:
    """As `check_pair`, for whom Dynamics is not asked any more."""
    stamp = world.documents.read(*PAIR)
    if stamp is not None:
        _compare(stamp.value, {**_of_settings(world), "organization": stamp.value["organization"]})


def compare_pair(world: World) -> tuple[Mapping[str, Any], Document | None]:
    """What the settings lead to, and the stamp of the state. Raises WrongPair if they don't belong together."""
    pair = pair_of(world)
    stamp = world.documents.read(*PAIR)
    if stamp is None:
        return pair, None
    _compare(stamp.value, pair)
    known = stamp.value["witnesses"]
    now = world.source.rows("opportunity", known.keys(), {"versionnumber"}) if known else {}
    if back := sorted(key for key, row in now.items() if row["versionnumber"] < known[key]):
        raise WrongPair(
            f"{len(back)} opportunities, such as {back[0]}, have a lower row version than before: "
            f"was Dynamics restored from a backup? {REMEDY}"
        )
    return pair, stamp


def _compare(stored: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    check_not_newer(stored)
    for name, what in (("organization", "Dataverse organization"), ("munchkin", "Marketo subscription")):
        if stored[name] != found[name]:
            raise WrongPair(f"the state belongs to {what} {stored[name]}, the settings lead to {found[name]}. {REMEDY}")
    if stored.get("prefixes", found["prefixes"]) != found["prefixes"]:
        raise WrongPair(
            f"the prefixes of the keys were {stored['prefixes']} and are {found['prefixes']} now: what Marketo holds "
            f"under the old keys would stay there beside new records. {REMEDY}"
        )


def recheck_calls_left(world: World) -> int:
    """How many of `people.recheck_calls` are left today (UTC)."""
    document = world.documents.read(*RECHECKS)
    return world.config.people.recheck_calls - int(_today(world, document.value if document else {})["calls"])


def spend_recheck_calls(world: World, calls: int) -> None:
    def spent(value: Mapping[str, Any]) -> Mapping[str, Any]:
        today = _today(world, value)
        return {**today, "calls": today["calls"] + calls}

    world.change(*RECHECKS, spent)


def _today(world: World, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The count if it is today's, else a new one."""
    day = world.clock.now().date().isoformat()
    return value if value.get("day") == day else {"day": day, "calls": 0}
