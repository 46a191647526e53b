"""What is not in step: count it by reason, list it, show one, queue it again (design.md §2.9)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from sync_core.flows.observe import chunks
from sync_core.flows.world import World
from sync_core.messages import FULL, split
from sync_core.model import Lane, LedgerRow, Pointer, State, Tally, Work

FAILURES = (State.PARKED, State.HELD, State.WAITING)
LOOKED_AT = 20_000  # pointers: some seconds, of the minutes that an HTTP request may take
KINDS = {"opportunities": "opportunity", "accounts": "company", "users": "sales person"}


@dataclass(frozen=True, slots=True)
class Failure:
    """One row that is not in step; `kind` as the ledgers of `World` are named, `due` in ISO, UTC."""

    kind: str
    id: str
    state: str
    reason: str
    attempts: int
    due: str

    @classmethod
    def of(cls, kind: str, row: LedgerRow) -> Failure:
        due = row.due.isoformat(timespec="seconds") if row.due else ""
        return cls(kind, row.id, str(row.state), row.reason, row.attempts, due)


def plain(each: Failure) -> dict[str, Any]:
    """For programs and people: the kind in words, as everywhere else that they see it."""
    return {**asdict(each), "kind": KINDS[each.kind]}


@dataclass(frozen=True, slots=True)
class Choice:
    """Of these kinds (keys of `KINDS`) and states, for just this *reason*, with *in_reason* in the reason.

    *text* is for those who search: it may stand in the reason or in the id.
    """

    kinds: Collection[str] = tuple(KINDS)
    states: Collection[State] = FAILURES
    reason: str = ""
    in_reason: str = ""
    text: str = ""

    def takes(self, pointer: Pointer) -> bool:
        reason, text = pointer.reason.casefold(), self.text.casefold()
        return self.in_reason.casefold() in reason and (text in reason or text in pointer.id)


EVERYTHING = Choice()


def failures(world: World, choice: Choice = EVERYTHING) -> Iterator[Failure]:
    """All of them, page by page: constant memory however many there are."""
    for kind, state in product(KINDS, FAILURES):
        if kind in choice.kinds and state in choice.states:
            for pointers in world.ledgers[kind].pointers(state, reason=choice.reason):
                yield from _of(world, kind, state, [pointer for pointer in pointers if choice.takes(pointer)])


def page(world: World, choice: Choice = EVERYTHING, *, after: str = "", size: int = 50) -> tuple[list[Failure], str]:
    """At most *size* of them behind *after*, and what to pass as *after* for the next page; empty at the end.

    After looking at `LOOKED_AT` pointers a page ends, with what it has.
    Raises ValueError for an *after* that was never given out.
    """
    begun, _, mark = after.partition("~")
    places = [f"{kind}.{state}" for kind, state in product(KINDS, FAILURES)]
    number = places.index(begun) if after else 0
    found: list[Failure] = []
    looked = 0
    for place, (kind, state) in list(zip(places, product(KINDS, FAILURES), strict=True))[number:]:
        if kind not in choice.kinds or state not in choice.states:
            continue
        behind = mark if place == begun else ""
        most = 1000 if choice.text or choice.in_reason else size + 1
        for pointers in world.ledgers[kind].pointers(state, reason=choice.reason, after=behind, size=most):
            taken = [pointer for pointer in pointers if choice.takes(pointer)]
            room = size - len(found)
            found += _of(world, kind, state, taken[:room])
            if len(taken) > room:
                return found, f"{place}~{taken[room - 1].mark}" if room else f"{place}~{behind}"
            behind = pointers[-1].mark
            looked += len(pointers)
            if looked >= LOOKED_AT:
                return found, f"{place}~{behind}"
    return found, ""


def first(world: World, choice: Choice, number: int) -> list[Failure]:
    """The first *number* of them, however many have to be looked at."""
    found, after = page(world, choice, size=number) if number else ([], "")
    while after and len(found) < number:
        more, after = page(world, choice, after=after, size=number - len(found))
        found += more
    return found


def _of(world: World, kind: str, state: State, pointers: Collection[Pointer]) -> list[Failure]:
    """Their rows, in the same order; one that has left the state meanwhile is none any more."""
    rows = world.ledgers[kind].rows([pointer.id for pointer in pointers])
    present = (rows.get(pointer.id) for pointer in pointers)
    return [Failure.of(kind, row) for row in present if row is not None and row.state is state]


def by_reason(tallies: Mapping[str, Tally]) -> dict[tuple[str, str, str], int]:
    """How many of each (kind, state, reason), the most first, from the ledgers' tallies by kind: nothing is scanned."""
    every = ((KINDS[kind], *key, n) for kind, tally in tallies.items() for key, n in tally.reasons.items())
    return {(kind, state, reason): n for kind, state, reason, n in sorted(every, key=lambda each: (-each[3], each))}


def of_ids(world: World, ids: Collection[str]) -> list[Failure]:
    """What the ledgers know of *ids*, in step or not."""
    return [Failure.of(kind, row) for kind, ledger in world.ledgers.items() for row in ledger.rows(ids).values()]


def redrive(world: World, found: Iterable[Failure]) -> int:
    """Queue them again, always forced (design.md §2.9), in full messages; how many. Held removals stay held."""
    queued = 0
    for batch in chunks(found, FULL):
        ids = {kind: tuple(each.id for each in batch if each.kind == kind) for kind in KINDS}
        work = Work(ids["opportunities"], ids["accounts"], users=ids["users"], force=True, why="redrive")
        queued += len(batch)
        lane = Lane.FRESH if queued <= world.config.sync.fresh_max else Lane.SLOW
        for part in split(replace(work, lane=lane)):
            world.queue.put(part)
    return queued
