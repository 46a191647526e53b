"""Which deliveries of the slow lane go on: few at once, over all instances. For economy only, no rule rests on it.

A backlog waits for Marketo's rate, and a few deliveries fill that. With one for each machine all would look up the
same people and post the same companies at the same time, and then lose each other's ledger rows (decision 0016).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sync_core import events
from sync_core.errors import NoTurn, RetryLater
from sync_core.flows.world import World
from sync_core.model import Lane

TURNS = ("limiter", "turns")
AT_ONCE = 4
WAIT_S = 5.0
WAIT_MOST_S = 300.0
A_MESSAGE_S = 0.1  # of waiting for each that waits: of a long backlog ten come by a second, however many machines ask


@contextmanager
def turn(world: World, *, until: datetime) -> Iterator[None]:
    """One turn of `AT_ONCE`; whoever dies with it keeps it *until* its message is visible again. Raises NoTurn."""
    mine, now = uuid.uuid4().hex, world.clock.now().isoformat()

    def take(value: Mapping[str, Any]) -> Mapping[str, Any]:
        taken = {name: end for name, end in value.items() if end > now}
        if len(taken) >= AT_ONCE:
            raise NoTurn(f"{AT_ONCE} deliveries of the slow lane are under way", delay=_wait(world))
        return {**taken, mine: until.isoformat()}

    world.change(*TURNS, take)
    try:
        yield
    finally:
        try:
            world.change(*TURNS, lambda value: {name: end for name, end in value.items() if name != mine})
        except RetryLater:
            # What the delivery did matters more than its turn, which lapses by itself.
            events.warning("turn.not_given_back", exc_info=True)


def _wait(world: World) -> float:
    return min(max(WAIT_S, A_MESSAGE_S * world.queue.lengths()[Lane.SLOW]), WAIT_MOST_S)
