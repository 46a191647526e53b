"""Start the emulators: `python -m tools.emulators dataverse|marketo|both`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tools.emulators.faults import FaultPlan, PlanError
from tools.emulators.serving import certificate_authority, serving

FILES = ("accounts", "contacts", "opportunities", "connections")


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as servers:
        facts: dict[str, Any] = {"ca": str(certificate_authority(options.folder).resolve())}
        if options.which != "marketo":
            facts["dataverse"] = start_dataverse(options, servers)
        if options.which != "dataverse":
            facts["marketo"] = start_marketo(options, servers)
        print(json.dumps(facts), flush=True)
        stop.wait()
    return 0


def serve(app: Any, options: argparse.Namespace, port: int, servers: ExitStack) -> str:
    try:
        return servers.enter_context(serving(app, folder=options.folder, port=port))
    except OSError as error:
        sys.exit(f"port {port} can't be served: {error}")


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m tools.emulators",
        description="Serve emulated organizations over HTTPS on loopback until Ctrl-C. "
        "One line of JSON on standard output tells the URLs, the certificate authority and the credentials; "
        "point REQUESTS_CA_BUNDLE at the authority.",
        epilog="Both services take faults while they run: POST /admin/faults "
        '{"seed": 7, "rules": [{"fault": "reset", "rate": 0.2, "times": 5, "after": 3, "on": '
        '{"path": "opportunities"}}]}; '
        "GET tells how often each rule struck, DELETE ends them. An unknown fault is answered with the list of them.",
    )
    found.add_argument("which", choices=("dataverse", "marketo", "both"), help="what to start")
    found.add_argument("--port", type=int, default=0, metavar="N", help="port for Dataverse (default: a free one)")
    found.add_argument(
        "--marketo-port", type=int, default=0, metavar="N", help="port for Marketo (default: a free one)"
    )
    found.add_argument(
        "--folder", type=Path, default=Path(".certs"), help="where the certificates live (default: .certs)"
    )
    found.add_argument(
        "--load",
        type=Path,
        metavar="FOLDER",
        help="fill Dataverse from FOLDER/{opportunities,accounts,contacts,connections}.json, "
        "each a list of rows or an object with `value`",
    )
    found.add_argument(
        "--faults",
        type=Path,
        metavar="FILE",
        help='fault plans to begin with, as JSON: {"dataverse": {"rules": [...]}, "marketo": {"rules": [...]}}',
    )
    found.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed gives the same ids (default: 1)")
    return found


def start_dataverse(options: argparse.Namespace, servers: ExitStack) -> dict[str, Any]:
    from tools.emulators.dataverse import loading
    from tools.emulators.dataverse.errors import DataverseError
    from tools.emulators.dataverse.state import DataverseState
    from tools.emulators.dataverse.web import DataverseApp

    state = DataverseState(seed=options.seed)
    try:
        loaded = loading.load(state, read_folder(options.load)) if options.load else {}
    except (ValueError, TypeError, KeyError, AttributeError, DataverseError) as error:
        sys.exit(f"{options.load}: a row can't be loaded: {type(error).__name__}: {error}")
    app = DataverseApp(state)
    take_faults(app.faults, "dataverse", options.faults)
    url = serve(app, options, options.port, servers)
    return {
        "url": url,
        "tenant_id": state.tenant,
        "client_id": state.client_id,
        "client_secret": state.credentials.secrets[0],
        "identity_endpoint": f"{url}/msi/token",
        "identity_header": state.identity_header,
        "loaded": loaded,
    }


def read_folder(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The files that are there; at least one of them must be."""
    found = {name: folder / f"{name}.json" for name in FILES if (folder / f"{name}.json").exists()}
    if not found:
        sys.exit(f"{folder} holds none of {', '.join(f'{name}.json' for name in FILES)}")
    return {name: read_rows(path) for name, path in found.items()}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """A list of rows, or an object with `value`; anything else ends the program with the file's name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"{path.name}: {error}")
    rows = content.get("value") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        sys.exit(f"{path.name} must hold a list of rows, or an object whose `value` is one")
    return rows


def start_marketo(options: argparse.Namespace, servers: ExitStack) -> dict[str, Any]:
    from tools.emulators.marketo.identity import Client
    from tools.emulators.marketo.state import MarketoState
    from tools.emulators.marketo.web import MarketoApp

    client = Client()
    app = MarketoApp(MarketoState(seed=options.seed, clients=(client,)))
    take_faults(app.faults, "marketo", options.faults)
    url = serve(app, options, options.marketo_port, servers)
    return {"url": url, "client_id": client.id, "client_secret": client.secret}


def take_faults(plan: FaultPlan, service: str, path: Path | None) -> None:
    """The part of the file that is for *service*, if there is one."""
    if path is None:
        return
    try:
        plans = json.loads(path.read_text(encoding="utf-8"))
        if unknown := plans.keys() - {"dataverse", "marketo"}:
            raise PlanError(f"there are plans for dataverse and marketo, not for {', '.join(sorted(unknown))}")
        if service in plans:
            plan.set(plans[service])
    except (OSError, ValueError, AttributeError) as error:
        sys.exit(f"{path.name}: {error}")


if __name__ == "__main__":
    sys.exit(main())
