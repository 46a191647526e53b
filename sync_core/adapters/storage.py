"""The storage account: how it is reached, and what we keep there (design.md §5)."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import requests
from azure.core.pipeline.transport import RequestsTransport
from azure.data.tables import TableServiceClient
from azure.storage.queue import (
    AccountSasPermissions,
    LinearRetry,
    QueueServiceClient,
    ResourceTypes,
    Services,
    generate_account_sas,
)
from requests.adapters import HTTPAdapter

from sync_core.adapters.identity import ManagedIdentity, OwnSignIn, identity
from sync_core.adapters.tables import (
    TableConnections,
    TableDocuments,
    TableHistory,
    TableLedger,
    TableMap,
)
from sync_core.adapters.transport import Anonymous
from sync_core.adapters.work_queue import StorageQueue
from sync_core.errors import ConfigurationError, CredentialsRefused, Unavailable
from sync_core.ports import Clock, FanOut
from sync_core.settings import STORAGE, Settings

CONNECT_S = 5
READ_S = 30  # seconds of silence before we give up; the service itself takes up to 30 for a table query
RETRIES = 2  # more than that is the queue's business: the message comes back
CONNECTIONS = 32  # kept open at a time; the fan-out has fewer threads

Account = ManagedIdentity | OwnSignIn | None
"""Who signs in to the storage account; None: its key does."""

_PREFIX = re.compile(r"([A-Za-z][A-Za-z0-9]{0,19})?")


@dataclass(frozen=True, slots=True)
class Storage:
    """Everything we keep, one table each and the queues."""

    opportunities: TableLedger
    companies: TableLedger
    sales_persons: TableLedger
    connections: TableConnections
    people: TableMap
    tombstones: TableMap
    history: TableHistory
    documents: TableDocuments
    queue: StorageQueue
    probes: Mapping[str, Callable[[], None]]

    @property
    def migrations(self) -> Mapping[int, Callable[[float], bool]]:
        """By schema number what makes these tables into those of the next one (`flows.migrations`)."""
        return {1: self._from_1}

    def _from_1(self, until: float) -> bool:
        ledgers = (self.opportunities, self.companies, self.sales_persons)
        return all(each.take_over(until=until) for each in (self.connections, *ledgers))


def open_storage(settings: Settings, clock: Clock, fan_out: FanOut, *, prefix: str = "") -> Storage:
    """Clients for the account of *settings*; nothing is sent yet, tables and queues are created by the first write.

    *prefix* (letters and digits) stands before all names. Raises ConfigurationError for settings no client can use.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"a prefix of names in storage is up to 20 letters and digits, a letter first: {prefix!r}")
    logging.getLogger("azure").setLevel(logging.WARNING)  # at INFO it writes every request with its headers
    account = None if settings.storage_connection else identity(settings.storage_client_id, f"{STORAGE}__clientId")
    tables, queues = _services(settings, account)

    def table(name: str) -> Any:
        return tables.get_table_client(prefix + name)

    documents = TableDocuments(table("SyncState"))
    # Operators have no right to write blobs, where the code is: whether the app's host can is not theirs to try.
    blobs = {} if isinstance(account, OwnSignIn) else {"blobs": partial(probe_blobs, settings, account, queues, clock)}
    queue = StorageQueue(queues, clock, prefix=prefix)
    return Storage(
        opportunities=TableLedger(table("OpportunityLedger"), clock, fan_out),
        companies=TableLedger(table("CompanyLedger"), clock, fan_out),
        sales_persons=TableLedger(table("SalesPersonLedger"), clock, fan_out, prefix=0),  # few: one partition
        connections=TableConnections(table("ConnectionMap"), clock, fan_out),
        people=TableMap(table("People"), fan_out),
        tombstones=TableMap(table("Tombstones"), fan_out),
        history=TableHistory(table("History")),
        documents=documents,
        queue=queue,
        probes={
            "tables": partial(_probe_tables, documents),
            "queues": queue.probe,
            **blobs,
        },
    )


def _probe_tables(documents: TableDocuments) -> None:
    name = uuid.uuid4().hex
    documents.write("probe", name, {}, None)
    documents.delete("probe", name)


# --- blobs: only the Functions host keeps any -----------------------------------------------------------------

BLOB_ROLE = "Storage Blob Data Owner"
_BLOB_API = {"x-ms-version": "2021-12-02", "x-ms-blob-type": "BlockBlob"}


def probe_blobs(settings: Settings, account: Account, queues: QueueServiceClient, clock: Clock) -> None:
    """Write and delete a blob, by plain HTTP: two requests are no reason for another library."""
    base, query, auth = _blobs(settings, account, queues, clock)
    container, name = f"{base}/opportunity-sync-probe", uuid.uuid4().hex
    for method, path in (
        ("PUT", f"{container}?restype=container{query}"),
        ("PUT", f"{container}/{name}?{query}"),
        ("DELETE", f"{container}/{name}?{query}"),
    ):
        try:
            answer = requests.request(method, path, headers=_BLOB_API | auth, data=b"", timeout=(CONNECT_S, READ_S))
        except requests.RequestException as error:
            raise Unavailable(f"the blobs of {STORAGE} give no answer ({type(error).__name__})") from None
        code = answer.headers.get("x-ms-error-code", "")
        if answer.status_code in (401, 403):
            raise CredentialsRefused(
                f"Storage refuses us ({answer.status_code} {code}): check {STORAGE} and that the app's identity "
                f"has the role {BLOB_ROLE!r} on that storage account."
            )
        if answer.status_code >= 400 and code != "ContainerAlreadyExists":
            raise Unavailable(f"the blobs of {STORAGE} give no answer (HTTP {answer.status_code} {code})")


def _blobs(
    settings: Settings, account: Account, queues: QueueServiceClient, clock: Clock
) -> tuple[str, str, dict[str, str]]:
    """The address of the account's blobs, and what signs a request: a query for a key, a header for an identity."""
    if account:
        if not settings.storage_blob_uri:
            raise ConfigurationError(f"{STORAGE}__blobServiceUri is not set: set it, the Functions host needs it")
        token = account.get_token("https://storage.azure.com/.default").token
        return settings.storage_blob_uri.rstrip("/"), "", {"Authorization": f"Bearer {token}"}
    given = re.search(r"BlobEndpoint=([^;]+)", settings.storage_connection)
    address = queues.url.partition("?")[0].replace(".queue.", ".blob.").replace(":10001/", ":10000/")
    base = (given[1] if given else address).rstrip("/")
    if signature := re.search(r"SharedAccessSignature=\??([^;]+)", settings.storage_connection):
        return base, f"&{signature[1]}", {}
    signature_of_ours = generate_account_sas(
        str(queues.account_name),
        queues.credential.account_key,
        ResourceTypes(container=True, object=True),
        AccountSasPermissions(write=True, delete=True, create=True),
        clock.now() + timedelta(minutes=5),
        services=Services(blob=True),
    )
    return base, f"&{signature_of_ours}", {}


def _services(settings: Settings, account: Account) -> tuple[TableServiceClient, QueueServiceClient]:
    try:
        if not account:
            # The tables SDK alone refuses a trailing semicolon after UseDevelopmentStorage=true (azure.md §6).
            connection = settings.storage_connection.rstrip("; ")
            tables = partial(TableServiceClient.from_connection_string, connection)
            queues = partial(QueueServiceClient.from_connection_string, connection)
        else:
            tables = partial(TableServiceClient, settings.storage_table_uri, credential=account)
            queues = partial(QueueServiceClient, settings.storage_queue_uri, credential=account)
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
