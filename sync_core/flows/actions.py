"""What operators do, from the command line and the status page alike: each tells what it did and leaves an entry.

The audit log is a document of kind "action" for each: `{"at": iso, "who": text, "what": text}`. *who* is
`command line: <user of the machine>`, `entra:<object id>` or `function key`; no name out of CRM stands in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from sync_core.errors import RetryLater, SyncError
from sync_core.flows import applied, audit, cleanup, status
from sync_core.flows import rebuild as rebuilding
from sync_core.flows.failures import FAILURES, KINDS, Choice, Failure, failures
from sync_core.flows.failures import redrive as queue_again
from sync_core.flows.guard import ask_for_comparison
from sync_core.flows.observe import chunks
from sync_core.flows.probe import Finding, asked, check_alone, check_sandbox, keep, told
from sync_core.flows.probe_marketo import Experiments
from sync_core.flows.probe_marketo import clean_up as remove_traces
from sync_core.flows.status import ACTION, WATCH
from sync_core.flows.validate import Check, Light, Setup, as_plain, validate
from sync_core.flows.world import World
from sync_core.messages import FULL, split
from sync_core.model import Lane, State, Work
from sync_core.ports import MarketoProbe
from sync_core.rules.alerts import moment
from sync_core.rules.words import counted

WARNINGS = (WATCH, "validate")
LONGEST_WHY = 200
AGAIN = "everything is read and posted to Marketo again"
NAMED = 5  # ids that an entry names; of more it says how many
RETRIED = (State.WAITING, State.PARKED)  # held removals stay held until they are approved
_END = datetime.max.replace(tzinfo=UTC)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Done:
    """What an action did: in words, as values, and the name of its entry in the audit log."""

    what: str
    values: Mapping[str, Any]
    entry: str


@dataclass(slots=True)
class _Note:
    """What stands in the entry while the action is under way, and what it did."""

    entry: str
    what: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def tell(self, what: str, **values: Any) -> None:
        self.what, self.values = what, values

    @property
    def done(self) -> Done:
        return Done(self.what, self.values, self.entry)


@contextmanager
def _noted(world: World, who: str, what: str) -> Iterator[_Note]:
    """An entry from before anything is done, which says at the end what came of it.

    Whatever dies in between leaves `… begun`: an entry too many is better than an action that stands nowhere.
    """
    at = world.clock.now().isoformat(timespec="seconds")
    value = {"at": at, "who": who, "what": f"{what}: begun, its end is not noted"}
    name, ticket = _insert(world, value)
    note = _Note(name, what)
    try:
        yield note
    except SyncError as error:
        note.what = f"{what}: ended early, {error}"
        raise
    finally:
        if note.what != what:
            with suppress(RetryLater):  # it is done; the entry says that it was begun
                world.documents.write(ACTION, name, value | {"what": note.what}, ticket)


def _insert(world: World, value: Mapping[str, Any]) -> tuple[str, str]:
    """Name and ticket of a new entry. Names count backwards, so that the latest comes first in order of name."""
    left = (_END - world.clock.now()) // _TICK
    while True:
        name = f"{left:018d}"
        if ticket := world.documents.write(ACTION, name, value, None):
            return name, ticket
        left -= 1  # somebody else's, in the same microsecond


def done(world: World, entry: str) -> str:
    """What an entry of the audit log says, '' if there is none of that name."""
    if not (entry.isascii() and entry.isdigit() and len(entry) <= 20):
        return ""
    found = world.documents.read(ACTION, entry)
    return str(found.value["what"]) if found else ""


# --- what is not in step --------------------------------------------------------------------------------------


def of_group(world: World, kind: str, state: str, reason: str) -> Iterator[Failure]:
    """The failures of one line of `status`: *kind* in words (`opportunity`), *reason* exactly."""
    kinds = [name for name, word in KINDS.items() if word == kind]
    states = [each for each in FAILURES if each == state]
    found = failures(world, Choice(kinds, states, reason))
    return (each for each in found if each.reason == reason)


def to_retry(world: World) -> Iterator[Failure]:
    """Everything that waits or is parked."""
    return failures(world, Choice(states=RETRIED))


def redrive(world: World, found: Iterable[Failure], which: str, *, who: str) -> Done:
    """Queue *found* again, forced; *which* says in words what they are."""
    with _noted(world, who, f"redrive of {which}") as note:
        queued = queue_again(world, found)
        note.tell(f"queued {counted(queued, 'record')} again: {which}", queued=queued)
    return note.done


def resync(world: World, ids: Collection[str], *, who: str, gone: bool = False) -> Done:
    """Look at these opportunities again, trusting no memory.

    *gone*: nobody remembers them; what a comparison of all ids then lacks is taken for deleted (design.md §2.7).
    """
    taken = " as gone" if gone else ""
    with _noted(world, who, f"resync of {named(ids)}{taken}") as note:
        for work in split(Work(tuple(ids), force=True, why="resync")):
            world.queue.put(work)
        if gone:
            ask_for_comparison(world)
        told = "queued as gone, to be taken from Marketo unless a comparison of all ids finds them"
        told = told if gone else "queued to be looked at again, trusting no memory"
        note.tell(f"{told}: {named(ids)}", queued=len(set(ids)))
    return note.done


def named(ids: Collection[str], what: str = "") -> str:
    """The ids of a few, the number of many."""
    different = list(dict.fromkeys(ids))
    told = ", ".join(different) if len(different) <= NAMED else counted(len(different), "record")
    return f"{what} {told}".strip()


# --- everything at once ---------------------------------------------------------------------------------------


def backfill(world: World, emptied: Mapping[str, int], *, who: str) -> Done:
    """Look at everything again from the next tick on; *emptied*: fields that the records holding them lose."""
    with _noted(world, who, "backfill") as note:
        applied.backfill(world, emptied)
        also = f", emptying {', '.join(emptied)}" if emptied else ""
        told: dict[str, Any] = {"emptied then, in so many records": dict(emptied)} if emptied else {}
        values = {"next tick": "everything is looked at again, in the slow lane", **told}
        note.tell(f"backfill: everything is looked at again from the next tick on{also}", **values)
    return note.done


def backfill_since(world: World, since: datetime, *, who: str) -> Iterator[int]:
    """Queue every opportunity changed since; yields how many are queued so far."""
    queued, which = 0, f"changed since {since.isoformat(timespec='minutes')}"
    with _noted(world, who, f"backfill of opportunities {which}") as note:
        for ids in chunks(chain.from_iterable(world.source.modified_since("opportunity", since)), FULL):
            world.queue.put(Work(tuple(ids), lane=Lane.SLOW, why="backfill"))
            queued += len(ids)
            yield queued
        note.tell(f"backfill: queued {counted(queued, 'opportunity', 'opportunities')} {which}", queued=queued)


def repoint(world: World, *, who: str) -> Done:
    """Accept the pair of organization and subscription that the settings lead to."""
    with _noted(world, who, "repoint") as note:
        pair = status.repoint(world)
        told = f"organization {pair['organization']}, subscription {pair['munchkin']}"
        note.tell(f"repoint: accepted {told}; everything is read and posted again", **pair)
    return note.done


def repair(world: World, found: Mapping[str, Any], *, who: str) -> Done:
    """Queue all that a complete audit found (flows.audit)."""
    with _noted(world, who, f"repair after the audit of {found['audit']}") as note:
        did = audit.repair(world, found)
        told = ", ".join(f"{what}: {number}" for what, number in did.items()) or "nothing to do"
        note.tell(f"repair after the audit of {found['audit']}: {told}", **did)
    return note.done


def rebuild(world: World, *, who: str, progress: Callable[[int], object]) -> Done:
    """Make our state anew from both services; sends nothing to Marketo (`flows.rebuild`)."""
    with _noted(world, who, "rebuild") as note:
        found = rebuilding.rebuild(world, progress=progress)
        note.tell(f"rebuild: the state is there again, {counted(found.get('queued', 0), 'record')} queued", **found)
    return note.done


# --- stop and go ----------------------------------------------------------------------------------------------


def pause(world: World, why: str, *, who: str) -> Done:
    why = " ".join(why.split())[:LONGEST_WHY]
    with _noted(world, who, "pause") as note:
        before = status.pause(world, why)
        because = f": {why}" if why else ""
        if not before:
            note.tell(f"paused the sync{because}", paused=True, **{"to go on": "resume"})
            return note.done
        was = f"was paused already, since {moment(before['since'])}"
        replaced = "the reason is another one now" if before["why"] != why else "for the same reason"
        values = {"before": f"it {was}", "reason": replaced, "to go on": "resume"}
        note.tell(f"pause: it {was}; {replaced}{because}", paused=True, **values)
    return note.done


def resume(world: World, *, who: str) -> Done:
    with _noted(world, who, "resume") as note:
        was = status.resume(world)
        told = "resumed the sync" if was is not None else "resume: it was not paused"
        if was and "cleanup" in was:
            told += f" after a cleanup: {AGAIN}"
        note.tell(told, **{"was paused": was is not None})
    return note.done


def clean_up(
    world: World, confirmed: str, *, since: datetime | None, progress: Callable[[str], None], who: str
) -> Done:
    """Remove from Marketo what this system wrote, and pause it for good."""
    with _noted(world, who, "cleanup") as note:
        found = cleanup.remove(world, confirmed, since=since, progress=progress)
        gone = ", ".join(f"{number:,} {what}" for what, number in found.get("removed", {}).items() if number)
        note.tell(f"cleanup: removed from Marketo {gone or 'nothing'}", **found)
    return note.done


def approve_removals(world: World, only: Sequence[str] | None = None, *, who: str) -> Done:
    """Let removals that are held now pass: all, or *only* these."""
    which = "held removals" if only is None else named(only, "held removals:")
    with _noted(world, who, f"approval of {which}") as note:
        approved = status.approve_removals(world, only)
        note.tell(
            f"approved {counted(approved, 'removal')}{'' if only is None else f', {named(only)}'}", approved=approved
        )
    return note.done


# --- experiments ----------------------------------------------------------------------------------------------


def probe(
    world: World,
    lab: MarketoProbe,
    sandbox: str,
    besides: Iterable[Finding] = (),
    *,
    burst: bool = False,
    who: str,
    progress: Callable[[str], object] = lambda _: None,
) -> Done:
    """Find out about Marketo what no source tells, and take in what was found out *besides*; remove what was made.

    Raises ConfigurationError, before anything is sent, unless *sandbox* confirms the subscription.
    """
    check_sandbox(world, sandbox)
    check_alone(world)
    begun = world.clock.monotonic()
    with _noted(world, who, f"probe of {world.subscription}") as note:
        lab.sign_in()
        left = remove_traces(world, lab)
        experiments, findings = Experiments(world, lab, burst=burst), list[Finding]()
        try:
            trouble = asked(experiments.findings(), findings, progress)
        finally:
            left += experiments.clean()
        trouble = trouble or asked(besides, findings, progress)
        keep(world, findings)
        answered = sum(bool(each.answer) for each in findings)
        at = world.clock.now().isoformat(timespec="seconds")
        values: dict[str, Any] = {"at": at, "subscription": world.subscription, "findings": told(findings)}
        values |= {"Marketo calls": experiments.calls, "seconds": round(world.clock.monotonic() - begun)}
        values |= {"ended early": trouble} if trouble else {}
        what = f"probe of {world.subscription}: answered {answered} of {counted(len(findings), 'question')}"
        note.tell(what + (f", left {counted(len(left), 'kind')} of records" if left else ""), **values, left=left)
    return note.done


# --- the checks -----------------------------------------------------------------------------------------------


def check(setup: Setup, *, who: str) -> tuple[list[Check], Done | None]:
    """Run `validate` and keep its warnings for `status`; without an entry where storage can't be reached."""
    checks = validate(setup)
    if any(each.group == "Storage" and each.light in (Light.RED, Light.UNKNOWN) for each in checks):
        return checks, None
    world, found = setup.world, as_plain(checks)
    kept = [each for each in found["checks"] if each["light"] in (Light.AMBER, Light.RED)]
    with _noted(world, who, "check of everything") as note:
        at = world.clock.now().isoformat(timespec="seconds")
        world.change(*WARNINGS, lambda _: {"at": at, "by": who, "checks": kept})
        told = ", ".join(f"{number} {light}" for light, number in found["counts"].items() if number)
        note.tell(f"checked everything: {told}", **found["counts"])
    return checks, note.done
