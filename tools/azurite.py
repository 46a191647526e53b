"""Azurite, Microsoft's storage emulator: install it into the checkout, and run it while something needs storage.

    python -m tools.azurite install     # from npm into .azurite/, once
    python -m tools.azurite run         # until Ctrl-C, on the well-known ports; prints the connection string

It runs on the Node.js that `tools.node` finds.
"""

from __future__ import annotations

import argparse
import http.client
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from tools.node import OLDEST_NODE, NodeError, any_node, is_installed, npm_install, usable_node

HOME = Path(__file__).resolve().parent.parent / ".azurite"
PACKAGE = HOME / "node_modules" / "azurite"

AZURITE_FOR_NODE = {22: "3.37.0", OLDEST_NODE: "3.35.0"}  # oldest Node of each; azure.md §6

# Published by Microsoft for its emulators, the same on every machine.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10
START_ATTEMPTS = 3

# Our end of its standard input closes when we end, however that happens: no emulator is left behind.
# `unref`: listening to it is no reason for Node to stay when Azurite has closed its servers.
EXIT_WITH_PARENT = "process.stdin.on('end', () => process.exit()).on('error', () => process.exit()).resume().unref()"


class AzuriteError(RuntimeError):
    """Azurite can't be started; the text says what was tried."""


class Ports(NamedTuple):
    """The loopback ports of the three services."""

    blob: int
    queue: int
    table: int


WELL_KNOWN_PORTS = Ports(10000, 10001, 10002)  # what `UseDevelopmentStorage=true` means


@dataclass(frozen=True)
class Azurite:
    """A running emulator."""

    process: subprocess.Popen[bytes]
    ports: Ports
    tls: Path | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def connection_string(self) -> str:
        """For every storage SDK and for `AzureWebJobsStorage`."""
        endpoints = "".join(f"{service.capitalize()}Endpoint={uri};" for service, uri in self.uris.items())
        scheme = "https" if self.tls else "http"
        return f"DefaultEndpointsProtocol={scheme};AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};{endpoints}"

    @property
    def uris(self) -> dict[str, str]:
        """The address of each service, by its name: blob, queue, table."""
        scheme = "https" if self.tls else "http"
        return {service: f"{scheme}://127.0.0.1:{port}/{ACCOUNT}" for service, port in self.ports._asdict().items()}

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Let it write what it holds, then end; kills it after STOP_TIMEOUT_S seconds."""
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def azurite(folder: Path | None = None, *, ports: Ports | None = None, tls: Path | None = None) -> Iterator[Azurite]:
    """Run Azurite on loopback until the block ends; in memory, or on disk in *folder*.

    Without *ports* three free ones are taken; name them to come back at the same address. With *tls*, the folder of
    a certificate (`tools.emulators.serving`), it speaks HTTPS and takes Entra ID's tokens as well as its key: it looks
    at their issuer, audience and time, not at their signature.
    Raises AzuriteError when it is not installed or doesn't answer within START_TIMEOUT_S seconds.
    """
    if ports:
        require_free(ports)
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        emulator = _start(folder, ports, tls, log)
        stack.callback(emulator.process.stdin.close)  # type: ignore[union-attr]
        stack.callback(emulator.stop)
        yield emulator


def install() -> bool:
    """Install the Azurite that suits the Node at hand; False when it was there already. Raises NodeError."""
    node = any_node()
    version = next(version for oldest, version in AZURITE_FOR_NODE.items() if node.major >= oldest)
    return npm_install(node, HOME, {"azurite": version})


def require_free(ports: Iterable[int]) -> None:
    """Whoever else listens on one of them would answer in our place. Raises AzuriteError."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise AzuriteError(f"Port {port} is taken ({error}); does this run already?") from error


def _start(folder: Path | None, ports: Ports | None, tls: Path | None, log: IO[bytes]) -> Azurite:
    """Start it; on ports of our choice again, should another program have taken one in between."""
    for attempt in range(START_ATTEMPTS):
        emulator = _launch(folder, ports or _free_ports(), tls, log)
        try:
            _wait_until_it_answers(emulator, log)
        except AzuriteError:
            emulator.kill()
            emulator.process.stdin.close()  # type: ignore[union-attr]  # a pipe
            if ports or attempt == START_ATTEMPTS - 1:
                raise
        else:
            return emulator
    raise AssertionError("the last attempt returns or raises")


def _launch(folder: Path | None, ports: Ports, tls: Path | None, log: IO[bytes]) -> Azurite:
    node = usable_node()
    if node is None or not is_installed(HOME):
        raise AzuriteError("Azurite is not installed: run `make setup` (or `python -m tools.azurite install`).")
    storage = ["--inMemoryPersistence"] if folder is None else ["--location", str(folder)]
    secure = ["--cert", str(tls / "server.pem"), "--key", str(tls / "server.key"), "--oauth", "basic"] if tls else []
    command = [
        *node.node,
        "--import",
        f"data:text/javascript,{EXIT_WITH_PARENT}",
        str(PACKAGE / "dist" / "src" / "azurite.js"),
        *(word for service, port in ports._asdict().items() for word in (f"--{service}Port", str(port))),
        *storage,
        *secure,
        "--skipApiVersionCheck",  # it knows older versions of the protocol than the SDKs send (azure.md §6)
        "--disableTelemetry",
        "--silent",
    ]
    # A session of its own: Ctrl-C is for us, and we stop the emulator last.
    process = subprocess.Popen(  # noqa: S603 - the command is built above
        command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
    )
    return Azurite(process, ports, tls)


def _free_ports() -> Ports:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in Ports._fields]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return Ports(*(each.getsockname()[1] for each in sockets))


def _wait_until_it_answers(emulator: Azurite, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not all(_answers(port, emulator.tls) for port in emulator.ports):
        if emulator.process.poll() is not None or time.monotonic() > deadline:
            log.seek(0)
            raise AzuriteError(f"Azurite didn't start on {emulator.ports}:\n{log.read().decode(errors='replace')}")
        time.sleep(0.05)


def _answers(port: int, tls: Path | None) -> bool:
    """Whether HTTP is spoken there; any status will do."""
    if tls:
        trust = ssl.create_default_context(cafile=tls / "ca.pem")
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=trust)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _serve(folder: Path | None, ports: Ports | None) -> None:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with azurite(folder, ports=ports) as emulator:
        print(emulator.connection_string, flush=True)
        while not stopped.wait(1):
            if emulator.process.poll() is not None:
                raise AzuriteError(f"Azurite ended by itself with exit code {emulator.process.returncode}.")


def main() -> int:
    """The command line; exit code 1 with the reason on standard error when something fails."""
    parser = argparse.ArgumentParser(prog="python -m tools.azurite", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="install Azurite into .azurite/, when it is not there")
    run = commands.add_parser("run", help="serve until Ctrl-C and print the connection string")
    run.add_argument("--folder", type=Path, help="keep the data there (default: in memory)")
    run.add_argument("--free-ports", action="store_true", help="take free ports, not 10000 to 10002")
    arguments = parser.parse_args()
    try:
        if arguments.command == "install":
            print("Azurite installed." if install() else "Azurite is there.")
        else:
            _serve(arguments.folder, None if arguments.free_ports else WELL_KNOWN_PORTS)
    except (AzuriteError, NodeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
