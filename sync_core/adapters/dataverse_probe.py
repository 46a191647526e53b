"""Port `DynamicsProbe` over the Web API v9.2: the only requests of ours that may change anything in Dynamics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sync_core import telemetry
from sync_core.adapters.dataverse import ODATA_HEADERS, DataverseClient
from sync_core.adapters.transport import Again, Reply
from sync_core.errors import Unavailable
from sync_core.model import HttpAnswer

PASSING = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses that say nothing about the request (dataverse.md §5)."""


class DataverseProbe(DataverseClient):
    """Signs in, repeats and keeps to its organization as the client does that it is made from."""

    def ask(self, method: str, path: str, *, prefer: str = "", body: Mapping[str, Any] | None = None) -> HttpAnswer:
        url = self._own(path) if urlsplit(path).scheme else f"{self._api}{path}"
        headers = {
            **ODATA_HEADERS,
            **({"Prefer": prefer} if prefer else {}),
            **({"If-Match": "*"} if method == "PATCH" else {}),  # without it an update of nothing makes a row
            **({"Content-Type": "application/json"} if body is not None else {}),
        }
        data = None if body is None else json.dumps(body).encode()

        def attempt() -> Reply:
            reply = self._signed(url, headers, method=method, data=data)
            if reply.status == 401:
                raise self._explained(reply, "", link=False)
            if reply.status in PASSING:
                raise self._transport.refuse(reply)
            if reply.status == 200 and reply.json() is None:
                raise Again(Unavailable("Dataverse answered with something that is no answer"))
            return reply

        with telemetry.call("Dataverse", method, _endpoint(url)):
            reply = self._transport.repeat(attempt)
        return HttpAnswer(reply.status, reply.json())


def _endpoint(url: str) -> str:
    """For telemetry: the set or the action, without any id."""
    return urlsplit(url).path.partition("/api/data/v9.2/")[2].partition("(")[0]
