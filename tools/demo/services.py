"""The processes of the demonstration: storage, both emulators, the local host. Each is stopped by its process id."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from tools.azurite import Ports, azurite
from tools.demo.screen import Failed
from tools.emulators.admin import Admin
from tools.emulators.serving import certificate_authority

REPOSITORY = Path(__file__).resolve().parent.parent.parent
STATE = REPOSITORY / ".state" / "demo"
KEPT_RUNS = 5

LATE_WRITE_S = 2
LEASE_S = 10  # seconds a message stays invisible to others: what a killed host delays its delivery by
TIMER_LOCK_S = 2
POLL_S = 0.2
EVERY_SECOND = "* * * * * *"
LOOK_EVERY_S = 0.02

START_S = 60
STOP_S = 10
TICK_S = 45
TICK_LINE = re.compile(r"detect_changes ok (\d+\.\d+) s")
PAGE_LINE = re.compile(r"^status_page: \S+ (http://[^/]+/api/status)", re.MULTILINE)
OURS = ("DATAVERSE_", "MARKETO_", "SYNC_", "AzureWebJobs")


def new_folder(state: Path = STATE) -> Path:
    """A folder for the logs of this run; of earlier ones the newest are kept."""
    state.mkdir(parents=True, exist_ok=True)
    for old in sorted(state.iterdir())[: 1 - KEPT_RUNS]:
        shutil.rmtree(old, ignore_errors=True)
    folder = state / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"
    folder.mkdir()
    return folder


def shown(path: Path) -> str:
    """As seen from here, where that is shorter."""
    return os.path.relpath(path) if Path.cwd() in path.parents else str(path)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """For signals: end as after Ctrl-C."""
    raise KeyboardInterrupt


class Program:
    """One of our processes, in a session of its own: Ctrl-C reaches us first. Its output goes to a log."""

    def __init__(self, name: str, arguments: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - modules of this repository
                [sys.executable, "-m", *arguments],
                cwd=REPOSITORY,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def facts(self) -> dict[str, Any]:
        """What an emulator tells about itself as soon as it serves."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            line = next((line for line in self.log.read_text().splitlines() if line.startswith("{")), None)
            if line:
                return dict(json.loads(line))
            self.require_running()
            time.sleep(LOOK_EVERY_S)
        raise Failed(f"{self.name} did not start within {START_S} s")

    def require_running(self) -> None:
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended with exit code {self.process.returncode}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL: no goodbye, no clean-up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Host(Program):
    """The local host with the functions of `function_app.py`; its log tells when a tick has ended.

    *more* are further arguments of `tools.local_host`.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], *more: str) -> None:
        options = {"settings": "none.json", "lease": LEASE_S, "timer-lock": TIMER_LOCK_S, "poll": POLL_S}
        arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        log = folder / "host.log"
        self._began = self._read = log.stat().st_size if log.exists() else 0
        self._looked = time.monotonic()
        super().__init__("host", ["tools.local_host", *arguments, "--timer-now", *more], folder, environment)

    def page(self) -> str:
        """Where the status page is, as soon as it is there."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if found := PAGE_LINE.search(self.log.read_bytes()[self._began :].decode(errors="replace")):
                return found[1]
            self.require_running()
            time.sleep(LOOK_EVERY_S)
        raise Failed(f"{self.name} did not start within {START_S} s")

    def wait_for_tick(self, *, after: float) -> None:
        """Until a tick has ended that began after the moment *after* (of the monotonic clock)."""
        deadline = time.monotonic() + TICK_S
        while True:
            # What the last look did not show has ended since then, and began as much earlier as it took.
            before, self._looked = self._looked, time.monotonic()
            lines = self._new_lines()
            if any("detect_changes failed" in line for line in lines):
                raise Failed(next(line for line in lines if "detect_changes failed" in line))
            spent = [float(match[1]) for match in map(TICK_LINE.match, lines) if match]
            if spent and before - spent[-1] - LOOK_EVERY_S / 2 > after:
                return
            self.require_running()
            if self._looked > deadline:
                raise Failed(f"no tick within {TICK_S} s")
            time.sleep(LOOK_EVERY_S)

    def _new_lines(self) -> list[str]:
        with self.log.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode(errors="replace").splitlines()


@dataclass(frozen=True)
class Places:
    """Loopback ports (0 or None: free ones) and the folder of certificates."""

    dataverse: int
    marketo: int
    storage: Ports | None
    certificates: Path


class Services:
    """Everything that runs, from `with` to its end; on free ports, with certificates of its own, without *places*."""

    def __init__(self, folder: Path, seed: int, places: Places | None = None) -> None:
        self.folder = folder
        self.seed = seed
        self.places = places or Places(0, 0, None, folder / "certificates")
        self._stack = ExitStack()

    def __enter__(self) -> Services:
        with self._stack:
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        self.ca = certificate_authority(self.places.certificates).resolve()
        plain = without_ours(os.environ)
        programs = [self._emulator("dataverse", plain), self._emulator("marketo", plain)]
        storage = self._stack.enter_context(azurite(ports=self.places.storage))
        dataverse, marketo = (program.facts()[program.name] for program in programs)
        self.dataverse_url, self.marketo_url = dataverse["url"], marketo["url"]
        self.dataverse, self.marketo = self.dataverse_admin(), self.marketo_admin()
        self.settings = settings(dataverse, marketo, storage.connection_string)
        self.environment = plain | self.settings | {"REQUESTS_CA_BUNDLE": str(self.ca)}
        self._stack.callback(self._stop_host)
        self.host: Host | None = None

    def _emulator(self, name: str, environment: Mapping[str, str]) -> Program:
        options = ["--folder", str(self.ca.parent), "--seed", str(self.seed)]
        options += ["--port", str(self.places.dataverse), "--marketo-port", str(self.places.marketo)]
        program = Program(name, ["tools.emulators", name, *options], self.folder, environment)
        self._stack.callback(program.stop)
        return program

    def dataverse_admin(self) -> Admin:
        return self._admin(self.dataverse_url)

    def marketo_admin(self) -> Admin:
        """One for each thread."""
        return self._admin(self.marketo_url)

    def _admin(self, url: str) -> Admin:
        admin = Admin(url, self.ca)
        self._stack.callback(admin.close)
        return admin

    def start_host(self, *more: str) -> Host:
        self.host = Host(self.folder, self.environment, *more)
        return self.host

    def _stop_host(self) -> None:
        if self.host is not None and self.host.process.poll() is None:
            self.host.stop()

    def command(self, *words: str, good: tuple[int, ...] = (0,)) -> str:
        """What `python -m sync_core …` prints. Raises Failed when its exit code is none of *good*."""
        found = subprocess.run(  # noqa: S603 - our own command line
            [sys.executable, "-m", "sync_core", *words],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if found.returncode not in good:
            raise Failed(f"`python -m sync_core {words[0]}` ended with {found.returncode}: {found.stderr.strip()}")
        return found.stdout

    def write_environment(self) -> Path:
        """A file for the shell's `.`: the settings, and whom to trust."""
        path = self.folder / "environment"
        values = self.settings | {"REQUESTS_CA_BUNDLE": str(self.ca)}
        path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items()))
        return path


def settings(dataverse: Mapping[str, Any], marketo: Mapping[str, Any], storage: str) -> dict[str, str]:
    """The app settings of design.md §8; the emulators' secrets are no secrets."""
    return {
        "DATAVERSE_URL": dataverse["url"],
        "DATAVERSE_TENANT_ID": dataverse["tenant_id"],
        "DATAVERSE_CLIENT_ID": dataverse["client_id"],
        "DATAVERSE_CLIENT_SECRET": dataverse["client_secret"],
        "DATAVERSE_AUTHORITY_HOST": dataverse["url"],
        "MARKETO_URL": marketo["url"],
        "MARKETO_CLIENT_ID": marketo["client_id"],
        "MARKETO_CLIENT_SECRET": marketo["client_secret"],
        "MARKETO_LATE_WRITE_S": str(LATE_WRITE_S),
        "SYNC_SCHEDULE": EVERY_SECOND,
        "AzureWebJobsStorage": storage,
    }


def without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without settings of another installation, and past any proxy to loopback."""
    kept = {name: value for name, value in environment.items() if not name.startswith(OURS)}
    return kept | dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1")
