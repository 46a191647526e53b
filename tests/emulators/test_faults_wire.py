"""What a fault does to answers on the wire: over real HTTPS, for both emulators."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tools.emulators.admin import Admin
from tools.emulators.dataverse.identity import issue
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.web import DataverseApp
from tools.emulators.marketo.identity import Client
from tools.emulators.marketo.state import MarketoState
from tools.emulators.marketo.web import MarketoApp
from tools.emulators.serving import serving


class Service:
    """One of the emulators over HTTPS, and a request it answers."""

    def __init__(self, app: Any, base: str, ca: Path, path: str, headers: dict[str, str]) -> None:
        self.app, self.base, self.ca, self.path, self.headers = app, base, ca, path, headers
        self.admin = Admin(base, ca)
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(ca)

    def plan(self, *rules: dict[str, Any]) -> None:
        self.admin.post("faults", {"seed": 1, "rules": list(rules)})

    def get(self, **options: Any) -> requests.Response:
        asked = {"timeout": 10, "headers": self.headers, **options}
        return self.session.get(self.base + self.path, **asked)

    def calls(self) -> list[dict[str, Any]]:
        return [call for call in self.admin.get("journal") if call["path"] == self.path]


@pytest.fixture(scope="module", params=["dataverse", "marketo"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp(request.param)
    app: Any = DataverseApp(DataverseState()) if request.param == "dataverse" else MarketoApp(MarketoState())
    with serving(app, folder=folder) as base:
        if request.param == "dataverse":
            token, path = issue(app.state, base, base), "/api/data/v9.2/connectionroles"
        else:
            client = Client()
            token = app.state.identity.grant("client_credentials", client.id, client.secret)["access_token"]
            path = "/rest/v1/opportunities/describe.json"
        yield Service(app, base, folder / "ca.pem", path, {"Authorization": f"Bearer {token}"})


@pytest.fixture
def service(served: Service) -> Iterator[Service]:
    served.admin.delete("journal")
    served.admin.delete("faults")
    yield served
    served.admin.delete("faults")


def test_a_reset_breaks_the_connection_before_anything_is_done(service: Service) -> None:
    service.plan({"fault": "reset", "times": 1, "on": {"path": service.path}})
    with pytest.raises(requests.ConnectionError):
        service.get()

    assert service.get().status_code == 200
    assert [(call["status"], call["fault"]) for call in service.calls()] == [(0, "reset"), (200, "")]
    assert service.admin.get("faults")["rules"][0]["struck"] == 1


def test_the_connection_is_reset_and_not_just_closed(service: Service) -> None:
    """Seen below TLS, which tells its caller of an end in either case."""
    service.plan({"fault": "reset"})
    address = urlsplit(service.base)
    context = ssl.create_default_context(cafile=str(service.ca))
    with (
        socket.create_connection(("127.0.0.1", address.port or 0)) as plain,
        context.wrap_socket(plain, server_hostname=address.hostname) as secure,
    ):
        secure.sendall(f"GET {service.path} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        with socket.socket(fileno=os.dup(secure.fileno())) as below, pytest.raises(ConnectionResetError):
            list(iter(lambda: below.recv(4096), b""))


def test_a_connection_may_break_in_the_middle_of_the_body(service: Service) -> None:
    service.plan({"fault": "reset_mid_body"})

    response = service.get(stream=True)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        b"".join(response.iter_content(64))

    assert response.status_code == 200
    assert 0 < response.raw.tell() < int(response.headers["Content-Length"])
    assert service.calls()[-1]["fault"] == "reset_mid_body"


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_a_truncated_body_is_complete_as_http_and_broken_as_json(service: Service, encoding: str) -> None:
    headers = {**service.headers, "Accept-Encoding": encoding}
    whole = service.get(headers=headers).text
    service.plan({"fault": "truncated"})
    response = service.get(headers=headers)

    assert response.status_code == 200
    assert int(response.headers["Content-Length"]) == len(response.content) == len(whole.encode()) // 2
    with pytest.raises(requests.JSONDecodeError):
        response.json()


def test_an_answer_may_be_empty(service: Service) -> None:
    service.plan({"fault": "empty"})
    response = service.get()

    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize(("status", "title"), [(502, "Bad Gateway"), (503, "Service Unavailable"), (504, "Gateway")])
def test_a_gateway_answers_with_a_page(service: Service, status: int, title: str) -> None:
    service.plan({"fault": "html", "status": status})
    response = service.get()

    assert (response.status_code, response.headers["Content-Type"].partition(";")[0]) == (status, "text/html")
    assert f"<h1>{status} {title}" in response.text
    assert service.calls()[-1]["status"] == status


@pytest.mark.parametrize("told", [None, 9])
def test_any_status_may_come_bare(service: Service, told: int | None) -> None:
    service.plan({"fault": "status", "status": 429, "retry_after": told})
    response = service.get()

    assert (response.status_code, response.content) == (429, b"")
    assert response.headers.get("Retry-After") == (None if told is None else str(told))


def test_a_slow_answer_makes_the_caller_wait_while_the_clock_runs(service: Service) -> None:
    service.plan({"fault": "slow", "seconds": 0.6, "times": 1})
    with pytest.raises(requests.ReadTimeout):
        service.get(timeout=(5, 0.2))
    service.plan({"fault": "slow", "seconds": 0.3})
    started = time.monotonic()

    assert service.get().status_code == 200
    assert time.monotonic() - started >= 0.3


def test_a_bad_plan_is_told_over_http_and_a_good_one_can_be_read_and_ended(service: Service) -> None:
    rule = {"fault": "slow", "seconds": 0, "on": {"method": "GET"}}
    service.plan(rule)
    with pytest.raises(requests.HTTPError, match=r"400 .*there is no fault 'unheard'; there are slow, reset"):
        service.plan({"fault": "unheard"})
    service.get()

    assert service.admin.get("faults") == {"seed": 1, "rules": [{**rule, "matched": 1, "struck": 1}]}
    assert service.admin.delete("faults") == {"seed": 1, "rules": []}
    for method in ("PUT", "PATCH"):
        assert service.session.request(method, f"{service.base}/admin/faults").status_code in {404, 405}
    assert service.session.post(f"{service.base}/admin/faults", data="{").status_code == 400
