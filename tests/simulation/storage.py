"""The storage ports in memory, where every operation is a step, may fail, and may fail after it was done."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from sync_core.errors import Unavailable
from sync_core.model import Lane, Letter
from tests.fakes import FakeQueue
from tests.simulation.steps import Stepper

READS = frozenset({"rows", "due", "in_state", "counts", "ids", "read", "list", "lengths"})


class Outage:
    """How the storage behaves now: a worker's next operations fail, or lose their answers, *left* times."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.left = 0
        self.failures = 0

    def strikes(self, stepper: Stepper) -> bool:
        worker = stepper.running
        if not self.left or worker is None or worker.safe or self.chance.random() < 0.6:
            return False
        self.left -= 1
        self.failures += 1
        return True

    def fate(self, name: str) -> str:
        """What became of a write that got no answer."""
        conditional = {"documents": ("done twice",), "ledger": ("done twice", "partly done")}
        return self.chance.choice(("not done", "done", *conditional.get(name, ())))


class Fragile:
    """Any port of the storage, made of *port*; attributes that are no operations show through."""

    def __init__(self, port: Any, name: str, stepper: Stepper, outage: Outage) -> None:
        self._port, self._name, self._stepper, self._outage = port, name, stepper, outage

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._port, attribute)
        if not callable(found):
            return found
        operation = self._reading if attribute in READS else self._writing
        wrapped = operation(found, f"{self._name}.{attribute}")
        setattr(self, attribute, wrapped)
        return wrapped

    def _reading(self, found: Callable[..., Any], what: str) -> Callable[..., Any]:
        def read(*args: Any, **options: Any) -> Any:
            if self._stepper.running is None:
                return found(*args, **options)
            self._stepper.step(what)
            if self._outage.strikes(self._stepper):
                raise Unavailable(f"{what}: no answer")
            return found(*args, **options)

        return read

    def _writing(self, found: Callable[..., Any], what: str) -> Callable[..., Any]:
        def write(*args: Any, **options: Any) -> Any:
            if self._stepper.running is None:
                return found(*args, **options)
            self._stepper.step(f"{what} …")
            fate = self._outage.fate(self._name) if self._outage.strikes(self._stepper) else "answered"
            if fate == "partly done":
                args = (args[0][: len(args[0]) // 2], *args[1:])
            answer = None if fate == "not done" else found(*args, **options)
            if fate not in ("answered", "done twice"):
                raise Unavailable(f"{what}: no answer, {fate}")
            self._stepper.step(what)
            if fate == "done twice":  # the storage's client repeats: then a condition no longer holds
                return None if self._name == "documents" else {row.id for row in args[0]}
            return answer

        return write


class AnyOrderQueue(FakeQueue):
    """Gives out any of the visible messages, as a storage queue may."""

    chance: random.Random

    def receive_any(self, lane: Lane, lease: Any) -> Letter | None:
        now = self.clock.now()
        visible = [message for message in self.queues[lane] if message.visible <= now]
        if not visible:
            return None
        message = self.chance.choice(visible)
        message.dequeued += 1
        return self._lease(message, lease)

    def failed(self, lane: Lane, letter: Letter, delay: Any) -> None:
        """The function raised: visible again after the host's `visibilityTimeout`, if the lease still holds."""
        if (held := self._held(lane, letter)) is not None:
            held.visible = self.clock.now() + delay
