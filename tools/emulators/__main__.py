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


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m tools.emulators",
        description="Serve emulated organizations over HTTPS on loopback until Ctrl-C. "
        "One line of JSON on standard output tells the URLs, the certificate authority and the credentials; "
        "point REQUESTS_CA_BUNDLE at the authority.",
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
    found.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed gives the same ids (default: 1)")
    return found


def start_dataverse(options: argparse.Namespace, servers: ExitStack) -> dict[str, Any]:
    from tools.emulators.dataverse import loading
    from tools.emulators.dataverse.state import DataverseState
    from tools.emulators.dataverse.web import DataverseApp

    state = DataverseState(seed=options.seed)
    loaded = loading.load(state, read_folder(options.load)) if options.load else {}
    url = servers.enter_context(serving(DataverseApp(state), folder=options.folder, port=options.port))
    return {
        "url": url,
        "tenant_id": state.tenant,
        "client_id": state.client_id,
        "client_secret": state.client_secret,
        "identity_endpoint": f"{url}/msi/token",
        "identity_header": state.identity_header,
        "loaded": loaded,
    }


def read_folder(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The files that are there; at least one of them must be."""
    found = {name: folder / f"{name}.json" for name in FILES if (folder / f"{name}.json").exists()}
    if not found:
        sys.exit(f"{folder} holds none of {', '.join(f'{name}.json' for name in FILES)}")
    content = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in found.items()}
    return {name: rows["value"] if isinstance(rows, dict) else rows for name, rows in content.items()}


def start_marketo(options: argparse.Namespace, servers: ExitStack) -> dict[str, Any]:
    from tools.emulators.marketo.identity import Client
    from tools.emulators.marketo.state import MarketoState
    from tools.emulators.marketo.web import MarketoApp

    client = Client()
    app = MarketoApp(MarketoState(seed=options.seed, clients=(client,)))
    url = servers.enter_context(serving(app, folder=options.folder, port=options.marketo_port))
    return {"url": url, "client_id": client.id, "client_secret": client.secret}


if __name__ == "__main__":
    sys.exit(main())
