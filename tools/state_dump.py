"""What a version of this app leaves in the storage account, as a file that later versions are tested with.

    python -m tools.state_dump FILE [--code FOLDER]

runs the code in FOLDER (a checkout of the version; this one by default) over both emulators and Azurite until the
state holds something of everything, stops it with work on the queues, and writes down all tables, all queues, and what
the two services hold. `tests/flows/test_upgrade.py` starts the present code on every file in `tests/data/state`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueServiceClient

from tools.azurite import azurite
from tools.demo.services import REPOSITORY, settings, without_ours
from tools.emulators.dataverse.administration import edit
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.store import Store
from tools.emulators.dataverse.web import DataverseApp
from tools.emulators.marketo.identity import Client
from tools.emulators.marketo.state import SEEDING_ORDER, MarketoState
from tools.emulators.marketo.web import MarketoApp
from tools.emulators.serving import certificate_authority, serving

Dump = dict[str, Any]
"""`{"at", "sync.toml", "tables": {name: [entity]}, "queues": {name: [body]}, "dataverse": {"version", "rows": {table:
[row]}}, "marketo": {object: [row]}}`; in it `PLACE` stands for the address of Dataverse."""

PLACE = "https://dataverse.invalid"
MOST = 32  # messages that one call returns
GIVEN_BY_MARKETO = {"marketoGUID", "createdAt", "updatedAt"}
HALF_OF_IT = "from sync_core.wiring import engine; engine().detect()"

MAPPING = """[opportunity]
name = "name"
amount = { column = "estimatedvalue", currency = "base" }
stage = { column = "statecode", as = "label", language = 1033 }
isWon = { column = "statecode", equals = 1 }
isClosed = { column = "statecode", in = [1, 2] }

[company]
company = "name"

[people]
match = [{ marketo = "email", dataverse = "emailaddress1" }]
several = "park"

[stakeholders]
customer = "account"

[owner]
salesperson = true

[[filter.rule]]
column = "name"
not_in = ["Private"]

[removals]
max_count = 2
max_share = 0.0

[history]
values = true
"""


# --- storage ----------------------------------------------------------------------------------------------------


def stored(connection: str) -> Dump:
    """All tables and queues of the account; what was put back for later, too, so only when nobody else is at it."""
    with TableServiceClient.from_connection_string(connection) as tables:
        found = {
            table.name: [dict(entity) for entity in tables.get_table_client(table.name).list_entities()]
            for table in tables.list_tables()
        }
    with QueueServiceClient.from_connection_string(connection) as queues:
        letters = {queue.name: _bodies(queues.get_queue_client(queue.name)) for queue in queues.list_queues()}
    return {"tables": found, "queues": {name: bodies for name, bodies in letters.items() if bodies}}


def _bodies(queue: Any) -> list[str]:
    letters = queue.receive_messages(messages_per_page=MOST, visibility_timeout=1)
    return [b64decode(letter.content).decode() for letter in letters]


def store(connection: str, found: Dump, *, prefix: str = "") -> None:
    """Put the tables of *found* there, each name behind *prefix*."""
    with TableServiceClient.from_connection_string(connection) as tables:
        for name, entities in found["tables"].items():
            table = tables.create_table_if_not_exists(prefix + name)
            for entity in entities:
                table.upsert_entity(entity)


# --- the services -----------------------------------------------------------------------------------------------


def held(dataverse: DataverseState, marketo: MarketoState) -> Dump:
    rows = {name: found for name in dataverse.stores if (found := dataverse.rows(name))}
    kept = {name: [_plain(row) for row in marketo.rows(name)] for name in SEEDING_ORDER}
    return {"dataverse": {"version": dataverse.version, "rows": rows}, "marketo": kept}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None and name not in GIVEN_BY_MARKETO}


def hold(dataverse: DataverseState, marketo: MarketoState, found: Dump) -> None:
    """Give both emulated services what theirs held, with versions and ids; they are to be new ones."""
    for name, rows in found["dataverse"]["rows"].items():
        dataverse.stores[name] = Store(dataverse.tables[name])
        for row in sorted(rows, key=lambda row: int(row["versionnumber"])):
            dataverse.stores[name].put(row)
    (organization,) = found["dataverse"]["rows"]["organization"]
    dataverse.organization_id, dataverse.version = organization["organizationid"], found["dataverse"]["version"]
    marketo.load(found["marketo"])


# --- a state with something of everything -------------------------------------------------------------------------


class _Org:
    """The services, and the version of the code that is run over them."""

    def __init__(self, dataverse: DataverseState, marketo: MarketoState, run: Any) -> None:
        self.edit, self.marketo, self.run = partial(edit, dataverse), marketo, run

    def make(self, table: str, **values: Any) -> str:
        return str(self.edit({"op": "create", "table": table, "values": values})["id"])

    def opportunity(self, name: str, account: str, *contacts: str) -> str:
        made = self.make("opportunity", name=name, estimatedvalue=1000.0, **_lookup("parentaccountid", account))
        for contact in contacts:
            self.connect(made, contact)
        return made

    def connect(self, opportunity: str, contact: str) -> str:
        words = {"op": "connect", "opportunity": opportunity, "contact": contact, "role": "Decision Maker"}
        return str(self.edit(words)["id"])

    def delete(self, *opportunities: str) -> None:
        self.edit([{"op": "delete", "table": "opportunity", "id": each} for each in opportunities])

    def live(self) -> None:
        """In step, waiting, parked, held, gone, left out; fresh, slow and forced work on the queues."""
        acme, bolt = self.make("account", name="Acme"), self.make("account", name="Bolt")
        ann, bob, twice, unknown = (
            self.make("contact", lastname="Person", emailaddress1=f"{name}@acme.invalid", **_customer(acme))
            for name in ("ann", "bob", "twice", "unknown")
        )
        addresses = ("ann@acme.invalid", "bob@acme.invalid", "twice@acme.invalid", "twice@acme.invalid")
        self.marketo.load({"leads": [{"email": each} for each in addresses]})
        deals = [self.opportunity(f"Deal {number}", acme, ann, bob) for number in range(8)]
        self.opportunity("Waits for somebody", bolt, ann, unknown)
        self.opportunity("Waits as well", bolt, unknown)
        self.opportunity("Parked", bolt, twice)
        self.opportunity("Private", bolt, ann)
        self.run("-m", "sync_core", "sync", "--no-wait")
        self.delete(deals[0])
        self.run("-m", "sync_core", "sync", "--no-wait")
        self.delete(*deals[1:4])
        self.run("-m", "sync_core", "sync", "--no-wait")
        self.run("-m", "sync_core", "backfill")
        self.run("-c", HALF_OF_IT)
        self.edit({"op": "update", "table": "opportunity", "id": deals[4], "values": {"name": "Deal 4, renamed"}})
        self.connect(self.opportunity("Deal 9", acme), ann)
        self.run("-c", HALF_OF_IT)
        self.run("-m", "sync_core", "resync", deals[5])


def _lookup(column: str, account: str) -> dict[str, str]:
    return {f"_{column}_value": account, f"_{column}_value@Microsoft.Dynamics.CRM.lookuplogicalname": "account"}


def _customer(account: str) -> dict[str, str]:
    return _lookup("parentcustomerid", account)


def made_by(code: Path) -> Dump:
    """The state that the checkout in *code* leaves. Raises CalledProcessError, with what it said, if it fails."""
    with tempfile.TemporaryDirectory() as name, azurite() as storage:
        folder = Path(name)
        mapping = folder / "sync.toml"
        mapping.write_text(MAPPING, encoding="utf-8")
        client = Client()
        dataverse, marketo = DataverseState(), MarketoState(clients=(client,))
        authority = certificate_authority(folder)
        with (
            serving(DataverseApp(dataverse), folder=folder) as dataverse_url,
            serving(MarketoApp(marketo), folder=folder) as marketo_url,
        ):
            facts = {"tenant_id": dataverse.tenant, "client_id": dataverse.client_id}
            facts |= {"url": dataverse_url, "client_secret": dataverse.credentials.secrets[0]}
            theirs = {"url": marketo_url, "client_id": client.id, "client_secret": client.secret}
            environment = {
                **without_ours(os.environ),
                **settings(facts, theirs, storage.connection_string),
                "SYNC_CONFIG": str(mapping),
                "REQUESTS_CA_BUNDLE": str(authority),
            }

            def run(*words: str) -> None:
                """With work left for later, or something parked, a command ends with 1."""
                done = subprocess.run(  # noqa: S603 - a version of our own program
                    [sys.executable, *words], cwd=code, env=environment, capture_output=True, text=True, check=False
                )
                if done.returncode not in (0, 1) or "Traceback" in done.stderr:
                    raise subprocess.CalledProcessError(done.returncode, words, done.stdout, done.stderr)

            _Org(dataverse, marketo, run).live()
            found = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "sync.toml": MAPPING}
            found |= stored(storage.connection_string) | held(dataverse, marketo)
    return dict(json.loads(json.dumps(found).replace(dataverse_url, PLACE)))


# --- the file -----------------------------------------------------------------------------------------------------


def text_of(found: Dump) -> str:
    """JSON with a line for each entity, message and row."""
    return _lines(found) + "\n"


def _lines(found: Any, depth: int = 0) -> str:
    if isinstance(found, dict) and depth < 3:
        inner = (f"{json.dumps(name)}: {_lines(each, depth + 1)}" for name, each in found.items())
        return "{\n" + ",\n".join(inner) + "\n}"
    if isinstance(found, list) and found:
        return "[\n" + ",\n".join(json.dumps(each) for each in found) + "\n]"
    return json.dumps(found)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.state_dump", description=str(__doc__).partition("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="where to write it")
    parser.add_argument("--code", type=Path, default=REPOSITORY, metavar="FOLDER", help="a checkout (this one)")
    options = parser.parse_args(arguments)
    try:
        found = made_by(options.code.resolve())
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(error.cmd)} ended with {error.returncode}: {error.stderr.strip()[-2000:]}")
    options.file.write_text(text_of(found), encoding="utf-8")
    entities = sum(map(len, found["tables"].values()))
    print(f"{options.file}: {entities} entities, {sum(map(len, found['queues'].values()))} messages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
