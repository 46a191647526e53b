"""Both services, the storage and the ingestion, and processes that use them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.telemetry.ingestion import Ingestion, ingestion
from tools.azurite import azurite as run_azurite
from tools.emulators.dataverse.administration import edit
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.web import DataverseApp
from tools.emulators.marketo.identity import Client
from tools.emulators.marketo.state import MarketoState
from tools.emulators.marketo.web import MarketoApp
from tools.emulators.serving import serving

REPOSITORY = Path(__file__).parent.parent.parent
RUNTIME = Path(sys.prefix) / "functions-runtime"
WORKER_RUN = Path(__file__).parent / "worker_run.py"

ADDRESS, FIRST, LAST, DEAL = "zoltana@leakmark.invalid", "Zoltana", "Quxworthy", "Xylodeal of the year"
SECRETS = ("dv~Hushhush8~q", "mk.Whisper7Kept")
PERSONAL = ("leakmark", FIRST, LAST, "Xylodeal", "Vexilonium")


@dataclass
class Services:
    """Everything that the processes talk to; `environment` are their settings, without any of telemetry."""

    dataverse: DataverseState
    marketo: MarketoState
    marketo_app: MarketoApp
    stub: Ingestion
    connection: str
    environment: dict[str, str]
    deal: str = ""
    changes: int = 0

    def change(self) -> None:
        """The deal is edited and gets another stakeholder: something to queue, and somebody to look up."""
        self.changes += 1
        values = {"name": f"{DEAL} {self.changes}"}
        edit(self.dataverse, {"op": "update", "table": "opportunity", "id": self.deal, "values": values})
        self.add_person(f"{self.changes}.{ADDRESS}")

    def create(self, table: str, **values: Any) -> str:
        return str(edit(self.dataverse, {"op": "create", "table": table, "values": values})["id"])

    def add_person(self, address: str) -> None:
        contact = self.create("contact", firstname=FIRST, lastname=LAST, emailaddress1=address)
        self.marketo.load({"leads": [{"email": address, "firstName": FIRST, "lastName": LAST}]})
        connection = {"op": "connect", "opportunity": self.deal, "contact": contact, "role": "Decision Maker"}
        edit(self.dataverse, connection)

    def python(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """A process of its own: providers of OpenTelemetry are set once in a process."""
        self.stub.clear()
        return subprocess.run(  # noqa: S603 - our own programs
            [sys.executable, *arguments],
            env=self.environment | settings,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    def in_the_worker(self, *flags: str, **settings: str) -> dict[str, Any]:
        """A tick and its deliveries in Microsoft's runtime, after a change."""
        self.change()
        done = self.python(str(WORKER_RUN), str(REPOSITORY), *flags, FUNCTIONS_WORKER_RUNTIME="python", **settings)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="package")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("telemetry")
    dataverse = DataverseState(seed=5, client_secret=SECRETS[0])
    client = Client(secret=SECRETS[1])
    marketo = MarketoState(seed=5, clients=(client,))
    marketo_app = MarketoApp(marketo)
    with ExitStack() as open_:
        urls = [open_.enter_context(serving(app, folder=folder)) for app in (DataverseApp(dataverse), marketo_app)]
        stub, connection = open_.enter_context(ingestion(folder))
        storage = open_.enter_context(run_azurite())
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{RUNTIME}:{REPOSITORY}",
            "TMPDIR": str(folder),
            "REQUESTS_CA_BUNDLE": str(folder / "ca.pem"),
            "DATAVERSE_URL": urls[0],
            "DATAVERSE_TENANT_ID": dataverse.tenant,
            "DATAVERSE_CLIENT_ID": dataverse.client_id,
            "DATAVERSE_CLIENT_SECRET": SECRETS[0],
            "DATAVERSE_AUTHORITY_HOST": urls[0],
            "MARKETO_URL": urls[1],
            "MARKETO_CLIENT_ID": client.id,
            "MARKETO_CLIENT_SECRET": SECRETS[1],
            "AzureWebJobsStorage": storage.connection_string,
            "SYNC_SCHEDULE": "0 */5 * * * *",
        }
        found = Services(dataverse, marketo, marketo_app, stub, connection, environment)
        account = found.create("account", name="Vexilonium Holdings", websiteurl="https://vexilonium.invalid")
        found.deal = found.create("opportunity", name=DEAL, _parentaccountid_value=account, estimatedvalue=7.5)
        found.add_person(ADDRESS)
        synced = found.python("-m", "sync_core", "sync")
        assert synced.returncode == 0, synced.stderr
        yield found
