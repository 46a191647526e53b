"""The actions of the status page: what each would do and to how many, asked before; and doing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from sync_core.errors import SyncError
from sync_core.flows import actions
from sync_core.flows.actions import Done
from sync_core.flows.failures import FAILURES, KINDS, Failure, by_reason, of_ids
from sync_core.flows.guard import PAUSE
from sync_core.flows.status import removals, to_approve
from sync_core.flows.validate import Setup
from sync_core.flows.world import World
from sync_core.model import State
from sync_core.rules.alerts import moment
from sync_core.rules.words import counted
from sync_core.web.wire import Refused

SHOWN = 50  # opportunities that a confirmation names
LONGEST_REASON = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A confirmation: *targets* are what is kept until it comes back.

    *removals*: `{"id"}` of each opportunity shown, and what else `flows.status:removals` says if Dynamics answers.
    """

    title: str
    tells: tuple[str, ...]
    button: str
    targets: Mapping[str, Any] = field(default_factory=dict)
    removals: Sequence[Mapping[str, Any]] = ()
    more: int = 0
    wants_why: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """What actions are done with; *setup* is what `validate` looks at."""

    world: World
    setup: Callable[[], Setup]


class Action(NamedTuple):
    """`ask` gets the query of the link; `do` the targets that were confirmed, the form and who."""

    ask: Callable[[World, Mapping[str, str]], Ask]
    do: Callable[[Place, Mapping[str, Any], Mapping[str, str], str], Done]


def guid(text: str) -> str:
    """An id as Dataverse writes it. Raises Refused (400)."""
    try:
        return str(UUID(text.strip("{} ")))
    except ValueError:
        raise Refused(
            400, "This is no id.", "Give the GUID that Dynamics shows in the address of the record."
        ) from None


def of_kind(text: str) -> str:
    """A kind of record in words, as the ledgers are named. Raises Refused (400)."""
    found = next((name for name, word in KINDS.items() if word == text), None)
    if found is None:
        raise Refused(400, "This is no kind of record.", f"It is one of: {', '.join(KINDS.values())}.")
    return found


def state_of(text: str) -> State:
    """Raises Refused (400)."""
    if text not in FAILURES:
        raise Refused(
            400, "This is no state of a record that waits, is parked or held.", f"It is one of: {', '.join(FAILURES)}."
        )
    return State(text)


# --- try again ------------------------------------------------------------------------------------------------


def _ask_redrive(world: World, query: Mapping[str, str]) -> Ask:
    """One (`kind`, `id`), a group (`kind`, `state`, `reason`), or everything (nothing of these)."""
    again = "Each is read from Dynamics and posted to Marketo again, trusting no memory."
    if key := query.get("id"):
        one = _one(world, query.get("kind", ""), guid(key))
        tells = (f"The {KINDS[one.kind]} {one.id} is {one.state}: {one.reason}", again)
        targets = {"kind": KINDS[one.kind], "id": one.id}
        return Ask(title="Try one record again", tells=tells, button="Try it again now", targets=targets)
    groups = by_reason({kind: ledger.tally() for kind, ledger in world.ledgers.items()})
    if "kind" not in query:
        number = sum(n for (_, state, _), n in groups.items() if state in actions.RETRIED)
        if not number:
            raise _nothing("Nothing waits and nothing is parked.")
        which = f"{counted(number, 'record')} that wait or are parked are tried again now. Held removals stay held."
        return Ask(title="Try everything again", tells=(which, again), button=f"Try {number:,} again now")
    kind, state = KINDS[of_kind(query["kind"])], state_of(query.get("state", ""))
    if state is State.HELD:
        raise Refused(
            409,
            "Held removals are not tried again: they wait for approval.",
            "Approve them, or leave them held.",
            page="actions/approve-removals",
        )
    reason = query.get("reason", "")[:LONGEST_REASON]
    number = groups.get((kind, str(state), reason), 0)
    if not number:
        raise _nothing("Nothing is in this group any more.")
    return Ask(
        title="Try a group again",
        tells=(f"{counted(number, 'record')} ({kind}, {state}): {reason}", again),
        button=f"Try {number:,} again now",
        targets={"kind": kind, "state": str(state), "reason": reason},
    )


def _one(world: World, kind: str, key: str) -> Failure:
    found = next((each for each in of_ids(world, [key]) if each.kind == of_kind(kind)), None)
    if found is None:
        raise Refused(404, f"The sync knows no {kind} with the id {key}.", "Look for it on the list of failures.")
    if found.state not in actions.RETRIED:
        raise _nothing(f"The {kind} {key} is {found.state}: there is nothing to try again.")
    return found


def _redrive(place: Place, targets: Mapping[str, Any], _form: Mapping[str, str], who: str) -> Done:
    world = place.world
    if "id" in targets:
        one = _one(world, targets["kind"], targets["id"])
        return actions.redrive(world, [one], f"{targets['kind']} {targets['id']}", who=who)
    if "kind" in targets:
        kind, state, reason = targets["kind"], targets["state"], targets["reason"]
        found = actions.of_group(world, kind, state, reason)
        return actions.redrive(world, found, f"{kind}, {state}, {reason}", who=who)
    return actions.redrive(world, actions.to_retry(world), "all that wait or are parked", who=who)


def _ask_resync(world: World, query: Mapping[str, str]) -> Ask:
    key = guid(query.get("id", ""))
    known = key in world.opportunities.rows([key])
    if not known and key not in world.source.rows("opportunity", [key], {"opportunityid"}):
        raise Refused(
            404, f"Neither Dynamics nor the sync knows an opportunity {key}.", "Check the id, or search a name."
        )
    return Ask(
        title="Look at an opportunity again",
        tells=(f"The opportunity {key} is read from Dynamics now; values and roles are posted to Marketo again.",),
        button="Look at it again now",
        targets={"id": key},
    )


def _resync(place: Place, targets: Mapping[str, Any], _form: Mapping[str, str], who: str) -> Done:
    return actions.resync(place.world, [targets["id"]], who=who)


# --- stop and go ----------------------------------------------------------------------------------------------


def _ask_pause(world: World, _query: Mapping[str, str]) -> Ask:
    paused = world.documents.read(*PAUSE)
    tells: tuple[str, ...] = (
        "Nothing is read from Dynamics and nothing is sent to Marketo until somebody resumes, across restarts.",
        "Nothing is lost: what changes meanwhile is found afterwards.",
    )
    if paused:
        tells = (f"It is paused already, since {moment(paused.value['since'])}; this changes the reason.", *tells)
    return Ask(title="Pause the sync", tells=tells, button="Pause now", wants_why=True)


def _pause(place: Place, _targets: Mapping[str, Any], form: Mapping[str, str], who: str) -> Done:
    return actions.pause(place.world, form.get("why", ""), who=who)


def _ask_resume(world: World, _query: Mapping[str, str]) -> Ask:
    paused = world.documents.read(*PAUSE)
    if paused is None:
        raise _nothing("The sync is not paused.")
    why = f": {paused.value['why']}" if paused.value.get("why") else "."
    then = "What piled up is handled within five minutes."
    if "cleanup" in paused.value:
        then = f"What the sync wrote was removed from Marketo, or was being removed. If you resume, {actions.AGAIN}, "
        then += "which starts trigger campaigns that listen for opportunities."
    tells = (f"It was paused at {moment(paused.value['since'])}{why}", then)
    return Ask(title="Resume the sync", tells=tells, button="Resume now")


def _resume(place: Place, _targets: Mapping[str, Any], _form: Mapping[str, str], who: str) -> Done:
    return actions.resume(place.world, who=who)


# --- removals -------------------------------------------------------------------------------------------------


def _ask_approve(world: World, query: Mapping[str, str]) -> Ask:
    """One (`id`), or all that are held now."""
    then = "The next delivery reads Dynamics once more, and removes from Marketo only what is still gone there."
    if query.get("id"):
        key = guid(query["id"])
        row = world.opportunities.rows([key]).get(key)
        if row is None or row.state is not State.HELD:
            raise _nothing(f"No removal of the opportunity {key} is held.")
        shown, trouble = _told(world, [key])
        return Ask(
            title="Let one removal pass",
            tells=(f"The opportunity {key} is held: {row.reason}", *trouble, then),
            button="Approve this removal",
            targets={"id": key},
            removals=shown,
        )
    number, digest, first = _held(world)
    if not number:
        raise _nothing("No removal waits for approval.")
    shown, trouble = _told(world, first)
    return Ask(
        title="Let held removals pass",
        tells=(f"{counted(number, 'opportunity', 'opportunities')} with held removals.", *trouble, then),
        button=f"Approve {number:,} now" if number > 1 else "Approve it now",
        targets={"number": number, "digest": digest},
        removals=shown,
        more=number - len(first),
    )


def _held(world: World) -> tuple[int, str, list[str]]:
    """What waits for approval: how many, a digest of the ids in whatever order they come, and the first SHOWN ids."""
    number, digest = 0, 0
    first: list[str] = []
    for ids in to_approve(world):
        number += len(ids)
        digest += sum(int.from_bytes(sha256(key.encode()).digest()) for key in ids)
        first += ids[: SHOWN - len(first)]
    return number, f"{digest % 2**256:064x}", first


def _told(world: World, ids: Sequence[str]) -> tuple[Sequence[Mapping[str, Any]], tuple[str, ...]]:
    """What is removed, with names out of Dynamics; without an answer from there the ids alone, and why."""
    try:
        return removals(world, ids), ()
    except SyncError as error:
        return [{"id": key} for key in ids], (f"Names and roles can't be shown: {error}",)


def _approve(place: Place, targets: Mapping[str, Any], _form: Mapping[str, str], who: str) -> Done:
    if "id" in targets:
        return actions.approve_removals(place.world, [targets["id"]], who=who)
    number, digest, _ = _held(place.world)
    if digest != targets["digest"]:
        raise Refused(
            409,
            f"Meanwhile others are held than were shown: {number:,} now, {targets['number']:,} then. "
            "Nothing was approved.",
            "Look at them, and approve again if all of them are meant.",
            page="actions/approve-removals",
        )
    return actions.approve_removals(place.world, who=who)


# --- the checks -----------------------------------------------------------------------------------------------


def _ask_check(_world: World, _query: Mapping[str, str]) -> Ask:
    tells = (
        "Settings, storage, rights, mapping, limits and what runs are looked at, as `validate` does.",
        "It asks Dynamics and Marketo and takes some seconds; of Marketo's calls it costs about a dozen.",
    )
    return Ask(title="Check everything now", tells=tells, button="Check now")


def _check(place: Place, _targets: Mapping[str, Any], _form: Mapping[str, str], who: str) -> Done:
    _, done = actions.check(place.setup(), who=who)
    if done is None:
        raise Refused(
            503, "The storage account can't be reached, so that nothing can be kept.", "Check AzureWebJobsStorage."
        )
    return done


def _nothing(what: str) -> Refused:
    return Refused(409, what, "Nothing was done. The status page says how it is now.")


ACTIONS: Mapping[str, Action] = {
    "redrive": Action(_ask_redrive, _redrive),
    "resync": Action(_ask_resync, _resync),
    "pause": Action(_ask_pause, _pause),
    "resume": Action(_ask_resume, _resume),
    "approve-removals": Action(_ask_approve, _approve),
    "check": Action(_ask_check, _check),
}
