"""A WSGI application called as a server would call it, but without one; quicker than Werkzeug's client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any
from urllib.parse import unquote, urlsplit

Answer = tuple[int, list[tuple[str, str]], Iterable[bytes]]
"""Status, headers, and the pieces of the body: reading them may fail, as reading from a connection may."""


def call(app: Any, method: str, url: str, headers: Mapping[str, str], data: bytes | str | None) -> Answer:
    begun: list[Any] = []
    sent = data.encode() if isinstance(data, str) else data or b""
    pieces = app(_environ(method, url, headers, sent), lambda *told: begun.extend(told))
    status, answered = begun
    return int(status[:3]), answered, pieces


def _environ(method: str, url: str, headers: Mapping[str, str], data: bytes) -> dict[str, Any]:
    parts = urlsplit(url)
    found: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(parts.path),
        "QUERY_STRING": parts.query,
        "REQUEST_URI": f"{parts.path}?{parts.query}",
        "SERVER_NAME": parts.hostname,
        "SERVER_PORT": str(parts.port),
        "HTTP_HOST": parts.netloc,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": parts.scheme,
        "wsgi.input": BytesIO(data),
        "CONTENT_LENGTH": str(len(data)),
    }
    for name, value in headers.items():
        key = name.upper().replace("-", "_")
        found[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = value
    return found
