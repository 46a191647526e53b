"""What is not in step: list it, show one, queue it again (design.md §2.9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from sync_core.flows.observe import chunks
from sync_core.flows.world import World
from sync_core.messages import FULL, split
from sync_core.model import Lane, LedgerRow, State, Work

FAILURES = (State.PARKED, State.HELD, State.WAITING)
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


def failures(world: World, *, states: Collection[State] = FAILURES, reason: str = "") -> Iterator[Failure]:
    """Rows in *states* whose reason contains *reason*, page by page: constant memory however many there are."""
    for kind, ledger in world.ledgers.items():
        for state in states:
            for ids in ledger.in_state(state):
                for row in ledger.rows(ids).values():
                    if row.state is state and reason.casefold() in row.reason.casefold():
                        yield Failure.of(kind, row)


def by_reason(found: Iterable[Failure]) -> Counter[tuple[str, str, str]]:
    """How many of each (kind, state, reason)."""
    return Counter((KINDS[each.kind], each.state, each.reason) for each in found)


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
