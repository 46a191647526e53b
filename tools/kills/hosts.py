"""Hosts to be killed: processes of their own, with the functions of `function_app.py`, driven by `tools.local_host`.

They are forked from a server that has imported everything already. To SIGKILL such a process is as real as any
other, and it is at work a hundredth of a second later.
"""

from __future__ import annotations

import ctypes
import json
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from sync_core import wiring
from sync_core.adapters import marketo
from sync_core.adapters.dataverse import DataverseClient
from sync_core.adapters.limiter import SharedLimiter
from sync_core.errors import Unavailable
from sync_core.flows import cases, guard
from sync_core.rules import planning
from tools.demo.services import REPOSITORY
from tools.local_host import Function, LocalHost

LATE_WRITE_S = 1
LEASE_S = 3  # must be longer than LATE_WRITE_S: what is left is the time to start writes in
TIMER_LOCK_S = 1
POLL_S = 0.3
PAGE_SIZE = 10
ANSWER_S = 2.0
SLOT_OUTLIVES_S = 0.5
FIRST_RETRY_S = 1
UNAVAILABLE_S = STOPPED_S = 2.0
STOP_S = 20

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


def hasty_app(folder: Path) -> Path:
    """The function app for hosts that die every second: patient with killed deliveries, not with time."""
    app = folder / "app"
    app.mkdir()
    shutil.copy(REPOSITORY / "function_app.py", app)
    host = json.loads((REPOSITORY / "host.json").read_text())
    # A message that five hosts died with would be poison in Azure; here it is bad luck.
    host["extensions"]["queues"] |= {"visibilityTimeout": f"00:00:0{LATE_WRITE_S}", "maxDequeueCount": 50}
    (app / "host.json").write_text(json.dumps(host))
    # Each killed delivery leaves its reservation of removals behind, and a day is too long to wait.
    mapping = (REPOSITORY / "sync.toml").read_text(encoding="utf-8")
    (app / "sync.toml").write_text(mapping.replace("max_count = 100", "max_count = 100000"), encoding="utf-8")
    return app


class Gauge(ctypes.Structure):
    """Shared with the host's process, so that it can be read after a kill.

    *ready*: signals are heard; *ticked*: when the last good tick began.
    """

    _fields_ = (
        ("ready", ctypes.c_bool),
        ("deliveries", ctypes.c_int),
        ("ticks", ctypes.c_int),
        ("calls", ctypes.c_int),
        ("ticked", ctypes.c_double),
    )


@dataclass(frozen=True)
class Cut:
    """What a killed host had in hand."""

    deliveries: int = 0
    ticks: int = 0
    calls: int = 0


class Host:
    """One host process; its output is added to *log*."""

    def __init__(self, app: Path, environment: Mapping[str, str], log: Path) -> None:
        self.gauge = RawValue(Gauge)
        self.log = log
        arguments = (app, dict(environment), log, self.gauge)
        self._process = PROCESSES.Process(target=run, args=arguments, name=log.stem)
        self._process.start()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> Cut:
        """SIGKILL: no goodbye, no clean-up."""
        self._process.kill()
        self._process.join()
        return Cut(self.gauge.deliveries, self.gauge.ticks, self.gauge.calls)

    def stop(self) -> int | None:
        """SIGTERM; returns the exit code. Kills it after STOP_S seconds."""
        deadline = monotonic() + STOP_S
        while self.alive and not self.gauge.ready and monotonic() < deadline:
            sleep(0.01)
        self._process.terminate()
        self._process.join(STOP_S)
        if self.alive:
            self.kill()
        return self._process.exitcode


# --- inside the process -----------------------------------------------------------------------------------------


def run(app: Path, environment: Mapping[str, str], log: Path, gauge: Any) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    gauge.ready = True
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    logging.getLogger("azure").setLevel(logging.WARNING)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(app)
    threading.Thread(target=end_with_parent, daemon=True).start()
    count = Counter(gauge)
    hurry(count)
    host = LocalHost(
        app, environment, lease=LEASE_S, timer_lock=TIMER_LOCK_S, poll=POLL_S, log=lambda line: print(line, flush=True)
    )
    with host:
        for listener in host.queues.values():
            listener.function = measured(listener.function, count.during("deliveries"))
        for timer in host.timers.values():
            timer.function = measured(timer.function, count.tick)
        host.run_forever(stop)


def end_with_parent() -> None:
    """Nobody is left to stop us: end at once."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Counter:
    """Keeps the gauge; safe to use from several threads."""

    def __init__(self, gauge: Any) -> None:
        self.gauge = gauge
        self._lock = threading.Lock()

    def during(self, name: str) -> Callable[[], Any]:
        """A context in which the named number is one higher."""

        @contextmanager
        def higher() -> Iterator[None]:
            self._add(name, 1)
            try:
                yield
            finally:
                self._add(name, -1)

        return higher

    @contextmanager
    def tick(self) -> Iterator[None]:
        began = monotonic()
        with self.during("ticks")():
            yield
        self.gauge.ticked = began

    def _add(self, name: str, number: int) -> None:
        with self._lock:
            setattr(self.gauge, name, getattr(self.gauge, name) + number)


def measured(function: Function, context: Callable[[], Any]) -> Function:
    def code(**arguments: object) -> object:
        with context():
            return function.code(**arguments)

    return replace(function, code=code)


def hurry(count: Counter) -> None:
    """Kills come every second here, so what waits for minutes in Azure waits for seconds: how long we wait for
    Marketo's answer, how long a slot of the limiter outlives that, when a waiting row is due for the first time, and
    when work is tried again that a silent storage, a wrong setting or a pause stopped.
    Small pages give more moments to be killed at.
    """
    marketo.WRITE_TIMEOUT = marketo.QUERY_TIMEOUT = marketo.LEAD_TIMEOUT = ANSWER_S
    marketo.HOLD = SLOT_OUTLIVES_S
    planning.FIRST_RETRY_S = FIRST_RETRY_S
    cases.STOPPED_DELAY_S = guard.PAUSED_DELAY_S = STOPPED_S
    Unavailable.__init__.__kwdefaults__["delay"] = UNAVAILABLE_S
    wiring.DataverseClient = partial(DataverseClient, page_size=PAGE_SIZE)  # type: ignore[misc, assignment]

    class Limiter(SharedLimiter):
        @contextmanager
        def call(self, *, hold: float, slow: bool = False) -> Iterator[None]:
            with super().call(hold=hold, slow=slow), count.during("calls")():
                yield

    wiring.SharedLimiter = Limiter  # type: ignore[misc]
