"""A stand-in for Application Insights: takes what the exporter sends, as it is on the wire, and keeps it."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from werkzeug import Request, Response

from tools.emulators.serving import serving

KEY = "11111111-2222-4333-8444-555555555555"


class Ingestion:
    """`envelopes` in the order they came; once `silent` is set, nobody is answered any more."""

    def __init__(self) -> None:
        self.envelopes: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.silent = threading.Event()
        self._go_on = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        self.asked.append(f"{request.method} {request.path}")
        if self.silent.is_set():
            self._go_on.wait()
        if not request.path.endswith("/track"):
            return Response(status=404)(environ, start_response)
        body = request.get_data()
        text = gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body
        found = json.loads(text)
        self.envelopes += found
        answer = {"itemsReceived": len(found), "itemsAccepted": len(found), "errors": []}
        return Response(json.dumps(answer), content_type="application/json")(environ, start_response)

    def end(self) -> None:
        self._go_on.set()

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The envelopes of one kind (`RequestData`, `RemoteDependencyData`, `MessageData`, `MetricData`)."""
        return [each for each in self.envelopes if each["data"]["baseType"] == kind]

    def clear(self) -> None:
        self.envelopes.clear()
        self.asked.clear()


@contextmanager
def ingestion(folder: Path) -> Iterator[tuple[Ingestion, str]]:
    """The stand-in, and a connection string that leads to it; live metrics too."""
    stub = Ingestion()
    with serving(stub, folder=folder) as url:
        # No slash at the end, as Azure's have: the exporter would ask for //v2.1/track, which this server refuses.
        try:
            yield stub, f"InstrumentationKey={KEY};IngestionEndpoint={url};LiveEndpoint={url}"
        finally:
            stub.end()


def data(envelope: dict[str, Any]) -> dict[str, Any]:
    return dict(envelope["data"]["baseData"])


def operation(envelope: dict[str, Any]) -> str:
    return str(envelope["tags"]["ai.operation.id"])


def parent(envelope: dict[str, Any]) -> str:
    return str(envelope["tags"].get("ai.operation.parentId", ""))
