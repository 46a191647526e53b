"""Both emulators, storage and some hosts: what runs, when it is at rest, and whether Marketo is right then."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sync_core.model import Lane, State
from sync_core.settings import Settings
from sync_core.wiring import build
from tools import checker
from tools.azurite import Azurite, AzuriteError, azurite
from tools.checker import usable_address
from tools.demo.services import Program, settings, without_ours
from tools.emulators.admin import Admin
from tools.emulators.serving import certificate_authority
from tools.kills.hosts import LATE_WRITE_S, Host, hasty_app

LOOK_EVERY_S = 0.3
QUIET_ROUNDS = 2
REST_S = 150
POISONED = "Message has reached MaxDequeueCount"
FAILED = re.compile(r"^\w+ failed \d", re.MULTILINE)


class Restless(RuntimeError):
    """Work is still going on after REST_S seconds; the text says which."""


class Site:
    """Runs from `with` to its end. *data*: where Azurite keeps its state; without it in memory."""

    def __init__(self, folder: Path, *, seed: int = 1, data: Path | None = None, **changed: str) -> None:
        self.folder = folder
        self.seed = seed
        self.data = data
        self.changed = changed
        self.hosts: dict[int, Host] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Site:
        with self._stack:
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        self.app = hasty_app(self.folder)
        self.ca = certificate_authority(self.folder / "certificates").resolve()
        plain = without_ours(os.environ)
        words = ["tools.emulators", "both", "--folder", str(self.ca.parent), "--seed", str(self.seed)]
        emulators = Program("emulators", words, self.folder, plain)
        self._stack.callback(emulators.stop)
        self.storage: Azurite = self._stack.enter_context(azurite(self.data))
        facts = emulators.facts()
        self.dataverse = self._admin(facts["dataverse"]["url"])
        self.marketo = self._admin(facts["marketo"]["url"])
        ours = settings(facts["dataverse"], facts["marketo"], self.storage.connection_string)
        ours |= {"MARKETO_LATE_WRITE_S": str(LATE_WRITE_S), "SYNC_CONFIG": str(self.app / "sync.toml"), **self.changed}
        self.settings = ours
        self.environment = plain | ours | {"REQUESTS_CA_BUNDLE": str(self.ca)}
        # To look at queues and ledger; it asks neither service anything.
        self.world = build(Settings.from_env(ours)).world
        self._stack.callback(self.stop_hosts)

    def _admin(self, url: str) -> Admin:
        admin = Admin(url, self.ca)
        self._stack.callback(admin.close)
        return admin

    def fill(self, **crowd: Any) -> None:
        """Generate rows in Dynamics; everybody with a usable address is in Marketo."""
        # Not with the emulator's own seed: what is created later would get the same ids.
        self.dataverse.post("generate", {"seed": self.seed + 1, **crowd})
        addresses = {usable_address(row.get("emailaddress1")) for row in self.dataverse.get("rows/contact")} - {""}
        self.marketo.post("leads", {"leads": [{"email": address} for address in sorted(addresses)]})

    def change_settings(self, **changed: str) -> None:
        """For hosts that are started from now on: Azure starts an app again when its settings change."""
        self.settings |= changed
        self.environment |= changed

    def storage_fails(self, seconds: float) -> None:
        """Stop Azurite, and start it again with the same data at the same address.

        Never SIGKILL: Azurite saves every five seconds and would lose writes that it had acknowledged. Azure doesn't.
        """
        self.storage.stop()
        if self.storage.process.returncode != 0:
            raise AzuriteError(f"Azurite did not end well: {self.storage.process.returncode}")
        time.sleep(seconds)
        self.storage = self._stack.enter_context(azurite(self.data, ports=self.storage.ports))

    # --- hosts ------------------------------------------------------------------------------------------------

    def start_host(self, number: int, *, timer: str = "shared") -> Host:
        """Hosts with the same word for *timer* take turns with the timer, others tick at the same time."""
        environment = {**self.environment, "AzureFunctionsWebHost__hostid": timer}
        self.hosts[number] = Host(self.app, environment, self.folder / f"host-{number}.log")
        return self.hosts[number]

    def stop_hosts(self, *, but: int | None = None) -> list[int | None]:
        """All, or all but one; their exit codes."""
        return [self.hosts.pop(number).stop() for number in list(self.hosts) if number != but]

    def failed(self) -> int:
        """Invocations that raised, in all hosts so far."""
        return len(FAILED.findall(self.log()))

    def log(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("host-*.log")))

    # --- at rest ------------------------------------------------------------------------------------------------

    def rest(self) -> None:
        """Until hosts have looked at everything and nothing is left to do. Raises Restless."""
        deadline, quiet = time.monotonic() + REST_S, 0
        while quiet < QUIET_ROUNDS:
            began = time.monotonic()
            self._wait(
                lambda began=began: any(h.gauge.ticked > began for h in self.hosts.values()), deadline, "no tick"
            )
            quiet = quiet + 1 if self.left() == {} else 0
            self._wait(lambda: self.left() == {}, deadline, "not done")

    def _ticked(self, after: float) -> bool:
        return any(host.gauge.ticked > after for host in self.hosts.values())

    def left(self) -> dict[str, int]:
        """Messages, waiting rows and feeds that are not followed; empty when there are none."""
        lengths = self.world.queue.lengths()
        if messages := sum(lengths[lane] for lane in Lane):
            return {"messages": messages}
        feeds = [value["phase"] for _, value in self.world.documents.list("feed")]
        found = {
            "poisoned": lengths["fresh poison"] + lengths["slow poison"],
            "waiting": self.world.opportunities.counts()[State.WAITING] + self.world.companies.counts()[State.WAITING],
            "feeds behind": 4 - feeds.count("following"),
        }
        return {what: number for what, number in found.items() if number}

    def _wait(self, until: Callable[[], bool], deadline: float, what: str) -> None:
        while not until():
            if time.monotonic() > deadline:
                raise Restless(f"{what} after {REST_S} s; left: {self.left()} {self._waiting()}")
            time.sleep(LOOK_EVERY_S)

    def _waiting(self) -> list[str]:
        ledger = self.world.opportunities
        ids = [key for page in ledger.in_state(State.WAITING) for key in page]
        return [f"{key}: {row.reason}" for key, row in ledger.rows(ids).items()]

    # --- is it right? -------------------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """Everything that is not as it has to be when all is at rest; hosts must have stopped."""
        rows, held = checker.dataverse_rows(self.dataverse), checker.marketo_rows(self.marketo)
        wanted = checker.expected(rows, held["leads"])
        # A company whose first post died with its worker, and that nothing names any more, is left to an audit.
        known = self.world.companies.rows([row["externalCompanyId"] for row in held["companies"]])
        named = {*known, *wanted.companies}
        held["companies"] = [row for row in held["companies"] if row["externalCompanyId"] in named]
        return [*checker.differences(wanted, held), *self._ledger_problems(wanted), *self._limit_problems()]

    def _ledger_problems(self, wanted: checker.Expected) -> list[str]:
        counts = dict(self.world.opportunities.counts())
        roles = counts.pop("roles")
        rows = [key for page in self.world.opportunities.ids() for key in page]
        gone = counts[State.GONE]
        found = {
            "rows that are not gone": (sum(counts.values()) - gone, len(rows)),
            "rows in step": (counts[State.IN_STEP], len(wanted.opportunities)),
            "roles in the ledger": (roles, len(wanted.roles)),
            "unreadable messages": (self.world.queue.lengths()["unreadable"], 0),
            "poisoned messages": (self.log().count(POISONED), 0),
        }
        return [f"{what}: {number}, not {right}" for what, (number, right) in found.items() if number != right]

    def _limit_problems(self) -> list[str]:
        calls = self.marketo.get("calls")
        found = {
            "Marketo calls in 20 s": (calls["max_in_window"], self.share),
            "Marketo calls at once": (calls["max_in_flight"], self.at_once),
        }
        return [f"{what}: {number}, more than {most}" for what, (number, most) in found.items() if number > most]

    @property
    def share(self) -> int:
        return Settings.from_env(self.settings).marketo_calls_per_20s

    @property
    def at_once(self) -> int:
        return Settings.from_env(self.settings).marketo_concurrency
