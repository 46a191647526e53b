"""The function app on this machine with all that it needs, in one step: `make local`, or `python -m tools.local`.

Azurite and both emulators start, with made-up data; local.settings.json is written where there is none; the functions
run with `func start` where Azure Functions Core Tools are on PATH, else in `tools.local_host`. Ctrl-C ends all of it.

The addresses are the same in each run, so that local.settings.json stays right.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from tools import checker
from tools.azurite import WELL_KNOWN_PORTS, AzuriteError, require_free
from tools.demo import crm
from tools.demo.screen import Failed
from tools.demo.services import REPOSITORY, Places, Services, interrupt, new_folder, shown, without_ours

EXAMPLE = REPOSITORY / "local.settings.json.example"
STATE = REPOSITORY / ".state" / "local"
HTTP_PORT = 7071  # that of `func start`
PLACES = Places(dataverse=7072, marketo=7073, storage=WELL_KNOWN_PORTS, certificates=REPOSITORY / ".certs")
SEED = 1

OFTEN = "*/10 * * * * *"
TRUST = "REQUESTS_CA_BUNDLE"
WHERE = ("DATAVERSE_URL", "DATAVERSE_AUTHORITY_HOST", "MARKETO_URL", "AzureWebJobsStorage", TRUST)

START_S = 120  # Core Tools download the extension bundle the first time
STOP_S = 20
LOOK_EVERY_S = 0.2
STOPPED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 130 after Ctrl-C, 1 when something does not start or ends by itself."""
    asked = parser()
    options = asked.parse_args(arguments)
    if options.free_ports and options.app.resolve() == REPOSITORY:
        asked.error("--free-ports needs --app: addresses that change would be left in this local.settings.json")
    os.environ.update(without_ours(os.environ))  # our own look at the emulators passes proxies by
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    port = free_port() if options.free_ports else HTTP_PORT
    try:
        host_command(options.host, options.app, port)
        if not options.free_ports:
            require_free((port, PLACES.dataverse, PLACES.marketo))
        say("Starting Azurite and the emulators of Dynamics and Marketo ...")
        with Services(new_folder(STATE), SEED, None if options.free_ports else PLACES) as services:
            run(services, options.app.resolve(), options.host, port)
    except (AzuriteError, Failed) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("Stopped; nothing was left running.")
        return STOPPED
    return 0


def run(services: Services, app: Path, host: str, port: int) -> None:
    """Until Ctrl-C, or until the functions' host ends, which raises Failed."""
    values = settings(services)
    path = app / "local.settings.json"
    say(f"{shown(path)}: {'written' if provide(path, values) else 'there already, left as it is'}.")
    fill(services)
    services.settings = values  # for the commands
    tell(services)
    if host == "none":
        say("Ready: start the functions with `func start`. Ctrl-C here ends the rest.")
        threading.Event().wait()
    command, folder = host_command(host, app, port)
    say(f"Starting {' '.join(command)} ...")
    with running(command, folder, environment(values)) as process:
        page = f"http://localhost:{port}/api"
        wait_for(process, f"{page}/health")
        say(f"Ready. The status page: {page}/status   for probes: {page}/health\nCtrl-C ends all of it.")
        raise Failed(f"the functions' host ended by itself with exit code {process.wait()}")


# --- settings -------------------------------------------------------------------------------------------------


def settings(services: Services) -> dict[str, str]:
    """The example's, with the emulators' addresses and credentials, which are no secrets."""
    values: dict[str, str] = json.loads(EXAMPLE.read_text())["Values"]
    here = services.settings | {"SYNC_SCHEDULE": OFTEN, TRUST: str(services.ca)}
    return values | here | {"MARKETO_LATE_WRITE_S": values["MARKETO_LATE_WRITE_S"]}


def provide(path: Path, values: Mapping[str, str]) -> bool:
    """Write *path* unless it is there; whether it was written.

    Raises Failed when the one that is there leads elsewhere: nobody starts the sync of a real organization by mistake.
    """
    with suppress(FileExistsError):
        with path.open("x") as file:
            json.dump({"IsEncrypted": False, "Values": dict(values)}, file, indent=2)
        return True
    try:
        there = json.loads(path.read_text())["Values"]
        elsewhere = [name for name in WHERE if there.get(name) != values[name]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failed(f"{shown(path)} can't be read: {type(error).__name__}: {error}") from error
    if elsewhere:
        raise Failed(
            f"{shown(path)} does not lead to these emulators: {', '.join(elsewhere)}. Move it away to have one "
            "written; or run the functions as it says with `func start` or `python -m tools.local_host`."
        )
    return False


def environment(values: Mapping[str, str]) -> dict[str, str]:
    """For the functions' host: what stands in local.settings.json is not set, since it would win over the file."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    kept = {name: value for name, value in without_ours(os.environ).items() if name not in values}
    return kept | {"PATH": path, "VIRTUAL_ENV": sys.prefix}  # Core Tools take the Python of both


# --- what runs ------------------------------------------------------------------------------------------------


def fill(services: Services) -> None:
    crm.fill(services.dataverse, None, SEED)
    rows = checker.dataverse_rows(services.dataverse)
    crm.introduce_people(services.marketo, rows["contact"], checker.expected(rows, []), SEED)


def host_command(host: str, app: Path, port: int) -> tuple[list[str], Path]:
    """What runs the functions, and where; *host* is "func", "local", or "" for whichever there is. Raises Failed."""
    func = shutil.which("func")
    if host == "func" and func is None:
        raise Failed("func is not on PATH: install Azure Functions Core Tools 4, or leave out --host func")
    if func and host != "local":
        return [func, "start", "--port", str(port)], app
    return [sys.executable, "-m", "tools.local_host", "--app", str(app), "--http-port", str(port)], REPOSITORY


@contextmanager
def running(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The host in a group of its own: Ctrl-C reaches us first, and the host's workers end with it."""
    process = subprocess.Popen(  # noqa: S603 - built above
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        for number, patience in ((signal.SIGINT, STOP_S), (signal.SIGTERM, STOP_S / 2), (signal.SIGKILL, None)):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                break
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers that outlived it


def wait_for(process: subprocess.Popen[bytes], address: str) -> None:
    """Until HTTP is spoken there; what is answered is the page's business. Raises Failed."""
    parts = urlsplit(address)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failed(f"the functions' host did not start: exit code {process.returncode}")
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", parts.path)
            if connection.getresponse().status in (200, 503):
                return
        connection.close()
        time.sleep(LOOK_EVERY_S)
    raise Failed(f"no answer from {address} within {START_S} s")


# --- what is told ---------------------------------------------------------------------------------------------


def tell(services: Services) -> None:
    say(f"Dynamics {services.dataverse_url}   Marketo {services.marketo_url}   logs in {shown(services.folder)}")
    say(f"For commands, in another terminal: . {shown(services.write_environment())}")


def say(text: str) -> None:
    print(text, flush=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m tools.local", description=(__doc__ or "").splitlines()[0])
    found.add_argument(
        "--host",
        choices=("func", "local", "none"),
        default="",
        help="what runs the functions: Core Tools, the local host, or nothing (default: Core Tools if they are there)",
    )
    found.add_argument("--app", type=Path, default=REPOSITORY, metavar="DIR", help="folder of function_app.py")
    found.add_argument(
        "--free-ports",
        action="store_true",
        help="take free ports, not 7071 to 7073 and 10000 to 10002; with --app",
    )
    return found


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # as in tools.demo
