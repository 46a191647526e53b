"""What goes over the wire to the storage account, counted below the SDK's pipeline, retries included."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from azure.core.pipeline.transport import RequestsTransport

WRITES = {"POST", "PUT", "PATCH", "MERGE", "DELETE"}
NO_TABLE = {"Tables", "$batch"}

_KEY_IN_URL = re.compile(r"RowKey='((?:[^']|'')*)'")
_KEY_IN_BODY = re.compile(r'"RowKey":\s*"([^"]*)"')


class Traffic:
    """Requests by service, and entities written by (table, sort); a transaction is one request.

    Sorts: `row`, `counts` (the ledger's numbers of a partition) and `pointer` (to a row not in step). An entity that
    a write removes counts as written: the service works as much for it.
    """

    def __init__(self, *, table_port: int) -> None:
        self._table_port = table_port
        self._lock = threading.Lock()
        self.requests: Counter[str] = Counter()
        self.entities: Counter[tuple[str, str]] = Counter()

    def transport(self, **options: Any) -> RequestsTransport:
        """A transport for the SDK whose requests are counted here."""
        return _CountingTransport(self, **options)

    def note(self, request: Any) -> None:
        tables = urlsplit(request.url).port == self._table_port
        written = [entity for part in _parts(request) if (entity := _entity(part))] if tables else []
        with self._lock:
            self.requests["table" if tables else "queue"] += 1
            self.entities.update(written)

    def clear(self) -> None:
        with self._lock:
            self.requests.clear()
            self.entities.clear()

    def figures(self) -> dict[str, dict[str, int]]:
        """Requests by service, entities written by table and sort."""
        with self._lock:
            entities = {f"{table} {sort}": number for (table, sort), number in sorted(self.entities.items())}
            return {"operations": dict(self.requests), "entities": entities}

    @property
    def operations(self) -> int:
        return self.requests.total()

    @property
    def written(self) -> int:
        return self.entities.total()


class _CountingTransport(RequestsTransport):
    def __init__(self, traffic: Traffic, **options: Any) -> None:
        super().__init__(**options)
        self._traffic = traffic

    def send(self, request: Any, **options: Any) -> Any:
        self._traffic.note(request)
        return super().send(request, **options)


def _parts(request: Any) -> Iterator[Any]:
    """The requests inside a transaction, or the request itself."""
    inside = request.multipart_mixed_info
    if not inside:
        yield request
        return
    for part in inside[0]:
        yield from _parts(part)


def _entity(request: Any) -> tuple[str, str] | None:
    """Table and sort of the entity that *request* writes; None for a read and for work on whole tables."""
    table = unquote(urlsplit(request.url).path).rpartition("/")[2].partition("(")[0]
    if request.method not in WRITES or table in NO_TABLE:
        return None
    found = _KEY_IN_URL.search(unquote(request.url)) or _KEY_IN_BODY.search(_body(request))
    return table, _sort(found[1] if found else "")


def _body(request: Any) -> str:
    content = request.content
    return content.decode(errors="replace") if isinstance(content, bytes) else str(content or "")


def _sort(key: str) -> str:
    if key == "!counts":
        return "counts"
    return "pointer" if key.startswith("!") else "row"
