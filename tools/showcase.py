"""An emulated org in which something of everything has happened, with its status page: for screenshots and tests.

Both services are emulated, storage is Azurite, the functions run in the local host. All that the page shows came about
there, but for the line of the backlog, which takes a day.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from azure.storage.queue import QueueClient

from sync_core.flows.status import WATCH
from sync_core.model import Lane, State, Work
from sync_core.settings import Settings
from sync_core.wiring import build
from tools import checker
from tools.demo import crm
from tools.demo.screen import Failed
from tools.demo.services import REPOSITORY, Host, Services

DEALS, COMPANIES, CONTACTS = 180, 40, 70
REMOVED, HELD = 3, 7  # the guard lets four pass
REFUSED, RENAMED = 0.04, 3
CALLS_A_DAY = 120
PATIENCE_S = 90
LOOK_EVERY_S = 0.1
EVERY_SECONDS = 5
SCHEDULE = f"*/{EVERY_SECONDS} * * * * *"
FRESH_QUEUE = "opportunity-sync"
DEQUEUES = 5  # maxDequeueCount of host.json
SAMPLE = timedelta(minutes=5)
SAMPLES = 288

FILTER = '\n[[filter.rule]]\ncolumn = "stepname"\nnot_in = ["1-Qualify"]\n'
GUARD = ("max_count = 100", "max_count = 4")
LATER = ("isClosed     =", 'forecast__c  = "stepname"\nisClosed     =')  # a field that Marketo does not have
REASONS = (
    ("1003", "Invalid value for field 'amount' and value '-1'"),
    ("1003", "Invalid value for field 'closeDate' and value '31.02.2026'"),
)


class Showcase:
    """Runs from `with` to its end; the page is at `page` then.

    *key*: what the host asks for, "" for nothing. *empty*: nothing is in Dynamics, and nothing happens there.
    *arguments* and *changed* are further ones of the local host, and settings.
    """

    def __init__(
        self,
        folder: Path,
        *,
        key: str = "",
        seed: int = 1,
        empty: bool = False,
        arguments: Sequence[str] = (),
        **changed: str,
    ) -> None:
        self.folder = folder
        self.key = key
        self.seed = seed
        self.empty = empty
        self.arguments = [*(("--function-key", key) if key else ()), *arguments]
        self.changed = {"SYNC_SCHEDULE": SCHEDULE, "MARKETO_DAILY_CALLS": str(CALLS_A_DAY), **changed}
        self._stack = ExitStack()

    def __enter__(self) -> Showcase:
        with self._stack:
            self.services = self._stack.enter_context(Services(self.folder, self.seed))
            self.dataverse, self.marketo = self.services.dataverse, self.services.marketo
            self.services.environment |= self.changed
            self._configure(self._mapping())
            self.world = build(Settings.from_env(self.services.environment)).world
            if not self.empty:
                self._happen()
            self.host = self._start()
            if not self.empty:
                self._settle()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def page(self) -> str:
        """The status page, with its key."""
        return f"{self.api}/status" + (f"?{urlencode({'code': self.key})}" if self.key else "")

    def wait_for(self, holds: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            self.host.require_running()
            if time.monotonic() > deadline:
                raise Failed(f"{what}: not within {PATIENCE_S} s")
            time.sleep(LOOK_EVERY_S)

    def quiet(self) -> bool:
        lengths = self.world.queue.lengths()
        return not any(lengths[lane] for lane in Lane)

    # --- what happens -----------------------------------------------------------------------------------------

    def _mapping(self) -> str:
        text = (REPOSITORY / "sync.toml").read_text(encoding="utf-8")
        return text.replace(*GUARD) + ("" if self.empty else FILTER)

    def _configure(self, text: str) -> None:
        path = self.folder / "sync.toml"
        path.write_text(text, encoding="utf-8")
        self.services.environment["SYNC_CONFIG"] = str(path)

    def _start(self) -> Host:
        host = self.services.start_host(*self.arguments)
        self.api = host.page().removesuffix("/status")
        return host

    def _happen(self) -> None:
        """A first load, some of which Marketo refuses; then removals, a message that nobody can handle, a new field."""
        shape = {"opportunities": DEALS, "accounts": COMPANIES, "contacts": CONTACTS, "roles_per_opportunity": 1.2}
        self.dataverse.post("generate", {"seed": self.seed, **shape})
        self.rows = checker.dataverse_rows(self.dataverse)
        crm.introduce_people(self.marketo, self.rows["contact"], checker.expected(self.rows, []), self.seed)
        self._refuse(REFUSED, *REASONS[0])
        self._sync()
        self.marketo.delete("faults")
        self._delete(REMOVED)
        self._sync()
        self._configure(self._mapping().replace(*LATER))
        self._refuse(1, *REASONS[0])  # what was refused is tried again with the new mapping
        self._sync()
        self._refuse(1, *REASONS[1])
        self.dataverse.post("edit", [renamed(key) for key in self.changeable()[:RENAMED]])
        self._sync()
        self.marketo.delete("faults")
        self._delete(HELD)
        self._nobody_can_handle(self.changeable()[0])

    def _sync(self) -> None:
        """What needs somebody is told by the exit code as well."""
        self.services.command("sync", good=(0, 1))

    def _refuse(self, share: float, code: str, message: str) -> None:
        """Have Marketo skip this share of the opportunities of each call that writes some."""
        rule = {"fault": "skip", "on": {"path": "/opportunities.json", "kind": "write"}}
        rules = [rule | {"share": share, "code": code, "message": message}]
        self.marketo.post("faults", {"seed": self.seed, "rules": rules})

    def changeable(self) -> list[str]:
        """What is in step and may be changed."""
        closed = {row["opportunityid"] for row in self.rows["opportunity"] if row["statecode"] != 0}
        return [key for key in self._in_step() if key not in closed]

    def _in_step(self) -> list[str]:
        ledger = self.world.opportunities
        known = ledger.rows([row["opportunityid"] for row in self.rows["opportunity"]])
        return sorted(key for key, row in known.items() if row.state is State.IN_STEP and not row.left_out)

    def _delete(self, number: int) -> None:
        edits = [{"op": "delete", "table": "opportunity", "id": key} for key in self._in_step()[-number:]]
        self.dataverse.post("edit", edits)

    def _nobody_can_handle(self, key: str) -> None:
        """As if five hosts had died of it: the next one makes it poison without a call."""
        self.world.queue.put(Work((key,)))
        with QueueClient.from_connection_string(self.services.settings["AzureWebJobsStorage"], FRESH_QUEUE) as queue:
            for _ in range(DEQUEUES):
                message = queue.receive_message()
                if message is None:
                    raise Failed("the message of a delivery should be there")
                queue.update_message(message, visibility_timeout=0)

    def _settle(self) -> None:
        """Until the host has done what there is to do, and `validate` has looked; then the past is told."""
        counts, before = self.world.opportunities.counts, self.world.opportunities.counts()[State.PARKED]
        self.wait_for(lambda: counts()[State.HELD] >= HELD, "removals are held")
        self.wait_for(lambda: counts()[State.PARKED] > before, "what failed again and again is parked")
        arrives = renamed(self.changeable()[-1], "Arrives at once")
        self.dataverse.post("edit", arrives)
        self.wait_for(lambda: self._in_marketo(arrives), "a change arrives")
        self.wait_for(self.quiet, "the queue is empty")
        self.services.command("validate", good=(0, 1, 2, 3))
        self.tell_the_past()

    def _in_marketo(self, edit: Mapping[str, Any]) -> bool:
        found = self.marketo.get(f"rows/opportunities/externalOpportunityId/{edit['id']}")
        return any(row["name"] == edit["values"]["name"] for row in found)

    def tell_the_past(self) -> None:
        """A day of backlog."""
        now = datetime.now(UTC)
        self.world.change(WATCH, "backlog", lambda _: {"samples": backlog(now, random.Random(self.seed))})


def renamed(key: str, name: str = "Renamed") -> dict[str, Any]:
    return {"op": "update", "table": "opportunity", "id": key, "values": {"name": name}}


def backlog(now: datetime, chance: random.Random) -> list[list[Any]]:
    """A quiet day with a busy morning in the fresh lane and a first load in the slow one; an hour nobody watched."""
    samples: list[list[Any]] = []
    for number in range(SAMPLES):
        hours = number * SAMPLE / timedelta(hours=1)
        busy = max(0.0, 14 - abs(hours - 9) * 6)
        fresh = int(busy + chance.random() * 2.2)
        slow = max(0, int(58 - abs(hours - 2) * (30 if hours < 2 else 5.5)))
        if not 16.5 < hours < 17.5:
            samples.append([(now - (SAMPLES - 1 - number) * SAMPLE).isoformat(timespec="seconds"), fresh, slow])
    samples[-1][1:] = [0, 0]
    return samples
