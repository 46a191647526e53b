"""What comes in and what goes out, so that only function_app.py knows azure.functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

LONGEST_FORM = 10_000  # bytes; a form brings a nonce and a reason


@dataclass(frozen=True, slots=True)
class Request:
    """*page* is the path below /api/status, '' for the page itself; *host* as the browser called it.

    Names of headers are in lower case.
    """

    page: str = ""
    method: str = "GET"
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
    body: bytes = field(default=b"", repr=False)

    def form(self) -> dict[str, str]:
        """The fields of a form; one that is too long or no text is as good as none."""
        if len(self.body) > LONGEST_FORM:
            return {}
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: str
    headers: Mapping[str, str]


class Refused(Exception):
    """An answer that is no page: *status* of HTTP, what is the matter, what to do about it, and where perhaps."""

    def __init__(self, status: int, what: str, remedy: str, *, page: str = "") -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.remedy = remedy
        self.page = page


ALWAYS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the key stands in the address
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def html(status: int, body: str, *, nonce: str, **headers: str) -> Response:
    """A page; of styles and scripts only those with *nonce* are taken, and nothing comes from elsewhere."""
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src 'nonce-{nonce}'",
            f"script-src 'nonce-{nonce}'",
            "img-src data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )
    kind = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy}
    return Response(status, body, {**ALWAYS, **kind, **headers})


def plain_json(status: int, value: Any) -> Response:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return Response(status, text, {**ALWAYS, "Content-Type": "application/json; charset=utf-8"})


def attachment(name: str, text: str) -> Response:
    kind = {"Content-Type": "text/csv; charset=utf-8", "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(200, text, {**ALWAYS, **kind})


def see_other(address: str) -> Response:
    return Response(303, "", {**ALWAYS, "Location": address, "Content-Type": "text/plain; charset=utf-8"})
