"""What the functions make of Azure's requests, and of our answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest

import function_app
from sync_core.web import site as module
from sync_core.web.render import BASE
from tests.stage import Stage
from tests.web.browser import HOST, KEY, Page, a_site

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def site(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    made = a_site(stage)
    monkeypatch.setattr(module, "site", lambda: made)


def request(page: str = "", method: str = "GET", body: bytes = b"", **headers: str) -> func.HttpRequest:
    """As the host gives it: a catch-all that is empty is no route parameter."""
    return func.HttpRequest(
        method,
        f"https://{HOST}{BASE}/{page}?code={KEY}",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        params={"code": KEY},
        route_params={"page": page} if page else {},
        body=body,
    )


def as_page(answer: Any) -> Page:
    return Page(module.Response(answer.status_code, answer.get_body().decode(), dict(answer.headers)))


@pytest.mark.parametrize("page", ["", "failures", "nowhere/else"])
def test_a_page_goes_out_with_its_headers(page: str) -> None:
    answer = function_app.status_page(request(page))

    assert answer.status_code == (404 if page == "nowhere/else" else 200)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "script-src 'nonce-" in answer.headers["Content-Security-Policy"]


def test_a_form_comes_in_with_its_headers_and_fields(stage: Stage) -> None:
    nonce = as_page(function_app.status_page(request("actions/pause"))).forms["confirm"]["fields"]["nonce"]
    body = f"nonce={nonce}&why=a+test".encode()

    foreign = function_app.status_page(request("actions/pause", "POST", body, Origin="https://evil.test"))
    own = function_app.status_page(request("actions/pause", "POST", body, Origin=f"https://{HOST}"))

    assert (foreign.status_code, own.status_code) == (403, 303)
    assert own.headers["Location"].startswith(f"{BASE}?done=")
    assert stage.world.documents.read("stamp", "pause") is not None


def test_json_and_probes() -> None:
    found = function_app.status_json(request())
    probed = function_app.health(request())

    assert json.loads(found.get_body())["verdict"]["level"] == "not in step"
    assert json.loads(probed.get_body()) == {"status": "needs attention"}
    assert probed.status_code == 503


def test_links_begin_where_the_host_puts_the_functions() -> None:
    """Its default prefix; another one in host.json would have to stand in `BASE` as well."""
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))

    assert "routePrefix" not in host.get("extensions", {}).get("http", {})
    assert BASE == "/api/status"
