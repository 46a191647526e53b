"""The storage account: how it is reached, and what we keep there (design.md §5)."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import partial
from typing import Any

import requests
from azure.core.pipeline.transport import RequestsTransport
from azure.data.tables import TableServiceClient
from azure.identity import ManagedIdentityCredential
from azure.storage.queue import LinearRetry, QueueServiceClient
from requests.adapters import HTTPAdapter

from sync_core.adapters.tables import TableDocuments, TableLedger, TableMap
from sync_core.adapters.transport import Anonymous
from sync_core.adapters.work_queue import StorageQueue
from sync_core.errors import ConfigurationError
from sync_core.ports import Clock, FanOut
from sync_core.settings import STORAGE, Settings

CONNECT_S = 5
READ_S = 30  # seconds of silence before we give up; the service itself takes up to 30 for a table query
RETRIES = 2  # more than that is the queue's business: the message comes back
CONNECTIONS = 32  # kept open at a time; the fan-out has fewer threads

_PREFIX = re.compile(r"([A-Za-z][A-Za-z0-9]{0,19})?")


@dataclass(frozen=True, slots=True)
class Storage:
    """Everything we keep, one table each and the queues."""

    opportunities: TableLedger
    companies: TableLedger
    sales_persons: TableLedger
    connections: TableMap
    people: TableMap
    tombstones: TableMap
    documents: TableDocuments
    queue: StorageQueue


def open_storage(settings: Settings, clock: Clock, fan_out: FanOut, *, prefix: str = "") -> Storage:
    """Clients for the account of *settings*; nothing is sent yet, tables and queues are created on first use.

    *prefix* (letters and digits) stands before all names. Raises ConfigurationError for settings no client can use.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"a prefix of names in storage is up to 20 letters and digits, a letter first: {prefix!r}")
    logging.getLogger("azure").setLevel(logging.WARNING)  # at INFO it writes every request with its headers
    tables, queues = _services(settings)

    def table(name: str) -> Any:
        return tables.get_table_client(prefix + name)

    return Storage(
        opportunities=TableLedger(table("OpportunityLedger"), clock, fan_out),
        companies=TableLedger(table("CompanyLedger"), clock, fan_out),
        sales_persons=TableLedger(table("SalesPersonLedger"), clock, fan_out, prefix=0),  # few: one partition
        connections=TableMap(table("ConnectionMap"), fan_out),
        people=TableMap(table("People"), fan_out),
        tombstones=TableMap(table("Tombstones"), fan_out),
        documents=TableDocuments(table("SyncState")),
        queue=StorageQueue(queues, clock, prefix=prefix),
    )


def _services(settings: Settings) -> tuple[TableServiceClient, QueueServiceClient]:
    try:
        if settings.storage_connection:
            # The tables SDK alone refuses a trailing semicolon after UseDevelopmentStorage=true (azure.md §6).
            connection = settings.storage_connection.rstrip("; ")
            tables = partial(TableServiceClient.from_connection_string, connection)
            queues = partial(QueueServiceClient.from_connection_string, connection)
        else:
            credential = ManagedIdentityCredential(client_id=settings.storage_client_id or None)
            tables = partial(TableServiceClient, settings.storage_table_uri, credential=credential)
            queues = partial(QueueServiceClient, settings.storage_queue_uri, credential=credential)
        return tables(transport=_transport(), **_TABLE_RETRIES), queues(transport=_transport(), **_QUEUE_RETRIES)
    except ValueError:
        # Not "from": the SDK may quote the connection string, and with it the account's key.
        raise ConfigurationError(f"{STORAGE} is no connection string or address of a storage account.") from None


_TABLE_RETRIES: dict[str, Any] = {
    "retry_total": RETRIES,
    "retry_connect": RETRIES,
    "retry_read": RETRIES,
    "retry_status": RETRIES,
    "retry_backoff_factor": 0.4,
    "retry_backoff_max": 5,  # seconds
}
_QUEUE_RETRIES: dict[str, Any] = {"retry_policy": LinearRetry(backoff=1, retry_total=RETRIES, random_jitter_range=1)}


def _transport() -> RequestsTransport:
    """Connections for all threads: beyond the SDK's ten, each would be opened anew, with a warning."""
    session = requests.Session()
    session.auth = Anonymous()  # no `.netrc` entry in the place of the SDK's signature
    session.mount("https://", HTTPAdapter(pool_maxsize=CONNECTIONS))
    session.mount("http://", HTTPAdapter(pool_maxsize=CONNECTIONS))
    return RequestsTransport(session=session, connection_timeout=CONNECT_S, read_timeout=READ_S)
