"""Workers that share one world and never run at the same time: each goes on for some steps, then another one.

A step is anything the outside world can see. Whoever is told to stand still does so in a thread of its own, holding no
lock; time passes meanwhile, so a worker that stands still for long enough has lost its lease.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any


class Crash(BaseException):
    """The process dies: nothing catches it."""


class Stepper:
    """Tells the worker that runs now about each step it makes."""

    def __init__(self) -> None:
        self.running: Worker | None = None

    def step(self, where: str) -> None:
        if self.running is not None:
            self.running.step(where)


class Worker:
    """*action* on its way; `result`, `error` or `died` say how it ended."""

    def __init__(self, stepper: Stepper, name: str, action: Callable[[], Any]) -> None:
        self.stepper = stepper
        self.name = name
        self.action = action
        self.where = "start"
        self.ended = False
        self.died = False
        self.safe = False  # neither dies nor loses an answer of the storage any more
        self.deadline = datetime.max.replace(tzinfo=UTC)
        self.result: Any = None
        self.error: Exception | None = None
        self._left: int | None = None
        self._dies = False
        self._thread: threading.Thread | None = None
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)

    def go(self, steps: int | None = None, *, die: bool = False) -> None:
        """Run on, for *steps* or to the end; after *steps* the worker stands still, or dies."""
        self._left, self._dies = steps, die
        self.stepper.running = self
        try:
            if self._thread is None and (steps is None or die):
                self._run()
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            else:
                self._go.release()
            self._back.acquire()
            if self.ended:
                self._thread.join()
        finally:
            self.stepper.running = None

    def step(self, where: str) -> None:
        self.where = where
        if self._left is None:
            return
        self._left -= 1
        if self._left > 0:
            return
        if not self._dies:
            self._back.release()
            self._go.acquire()
        elif not self.safe:
            raise Crash

    def _run(self) -> None:
        try:
            self.result = self.action()
        except Crash:
            self.died = True
        except Exception as error:  # noqa: BLE001 - the driver tells trouble from mistakes
            self.error = error
        finally:
            self.ended = True
            self._back.release()
