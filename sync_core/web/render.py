"""The status page's templates, filled in: what they may use, and where their links lead."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment

from sync_core import __version__
from sync_core.pages import environment
from sync_core.rules.words import counted, numbered
from sync_core.web import words
from sync_core.web.wire import Request, Response, html

BASE = "/api/status"  # the Functions host puts /api before our routes; host.json says nothing else


@cache
def _environment() -> Environment:
    made = environment()
    made.filters |= {
        "number": words.number,
        "age": words.age,
        "moment": words.moment,
        "clock": words.clock,
        "plain": words.plain,
        "counts": words.counts,
        "begun": words.begun,
    }
    made.globals |= {"ago": words.ago, "counted": counted, "numbered": numbered}
    return made


def address(request: Request, page: str = "", **query: str) -> str:
    """Where *page* is, with the key that this request brought: every link and every form carries it on."""
    carried = {"code": request.query["code"]} if request.query.get("code") else {}
    given = {name: value for name, value in query.items() if value}
    text = urlencode(given | carried)
    return f"{BASE}{'/' if page else ''}{page}{'?' if text else ''}{text}"


def page(request: Request, template: str, context: Mapping[str, Any], *, status: int = 200, **headers: str) -> Response:
    nonce = secrets.token_urlsafe(18)

    def link(name: str = "", **query: str) -> str:
        return address(request, name, **query)

    ours = {"link": link, "nonce": nonce, "base": BASE, "version": __version__, "here": request.page}
    text = _environment().get_template(template).render(**context, **ours, code=request.query.get("code", ""))
    return html(status, text, nonce=nonce, **headers)
