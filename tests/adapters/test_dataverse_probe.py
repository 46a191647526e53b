"""The port of `probe`, over real HTTPS: answers as they come, and the client's own rules of the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from werkzeug.wrappers import Request, Response

from sync_core.adapters.dataverse_probe import DataverseProbe
from sync_core.errors import ConfigurationError, CredentialsRefused, Unavailable
from sync_core.model import HttpAnswer
from tests.adapters.test_dataverse import instead, refuses, says, settings
from tests.fakes import FakeClock
from tests.served import Served, dataverse_served
from tools.emulators.dataverse.administration import switch
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.web import DataverseApp

RIGHTS = ("prvCreateContact", "prvWriteContact", "prvDeleteContact")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with dataverse_served(tmp_path_factory.mktemp("tls")) as served:
        yield served


@pytest.fixture
def app(service: Served, monkeypatch: pytest.MonkeyPatch) -> DataverseApp:
    app, _, authority = service
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    app.state = DataverseState()
    switch(app.state, {"write_privileges": RIGHTS})
    app.interceptors.clear()
    return app


@pytest.fixture
def lab(app: DataverseApp, service: Served) -> DataverseProbe:
    return DataverseProbe(settings(service[1]), FakeClock(), map, random=lambda: 0.0)


def test_a_row_is_made_changed_read_and_deleted(lab: DataverseProbe) -> None:
    mine = str(uuid4())

    assert lab.ask("POST", "contacts", body={"contactid": mine, "lastname": "A"}) == HttpAnswer(204)
    assert lab.ask("PATCH", f"contacts({mine})", body={"lastname": "Ä"}) == HttpAnswer(204)
    assert lab.ask("GET", f"contacts({mine})?$select=lastname").body["lastname"] == "Ä"
    assert lab.ask("DELETE", f"contacts({mine})") == HttpAnswer(204)
    assert lab.ask("DELETE", f"contacts({mine})").status == 404


def test_an_update_never_makes_a_row(app: DataverseApp, lab: DataverseProbe) -> None:
    mine = str(uuid4())

    assert lab.ask("PATCH", f"contacts({mine})", body={"lastname": "A"}).status == 404
    assert app.state.row("contact", mine) is None


@pytest.mark.parametrize("status", [400, 403, 404, 409, 410, 412, 500, 501])
def test_a_refusal_is_an_answer(app: DataverseApp, lab: DataverseProbe, status: int) -> None:
    asked = instead(app, refuses(status, "0x80044352", "no"))

    answer = lab.ask("GET", "contacts?$select=lastname")

    assert (answer.status, answer.body["error"]["code"]) == (status, "0x80044352")
    assert len(asked) == 1


@pytest.mark.parametrize("trouble", [says(503), says(429, Retry_After="2"), says(502, "<html>"), says(200, "cut")])
def test_what_passes_is_waited_for(app: DataverseApp, lab: DataverseProbe, trouble: Response) -> None:
    asked = instead(app, trouble)

    assert lab.ask("GET", "organizations?$select=name").status == 200
    assert len(asked) == 2


def test_what_does_not_pass_is_told(app: DataverseApp, lab: DataverseProbe) -> None:
    instead(app, *[says(503)] * 4)

    with pytest.raises(Unavailable):
        lab.ask("POST", "contacts", body={"lastname": "A"})


def test_a_token_that_is_refused_is_replaced_once(app: DataverseApp, lab: DataverseProbe) -> None:
    instead(app, says(401))
    assert lab.ask("GET", "WhoAmI").status == 200

    instead(app, says(401), says(401))
    with pytest.raises(CredentialsRefused):
        lab.ask("GET", "WhoAmI")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("link", ["https://elsewhere.invalid/api/data/v9.2/contacts", "http://localhost/x"])
def test_nothing_is_sent_to_another_host(app: DataverseApp, lab: DataverseProbe, method: str, link: str) -> None:
    asked = instead(app)

    with pytest.raises(ConfigurationError, match="another address"):
        lab.ask(method, link, body={})
    assert not asked


def test_what_is_sent_is_what_was_given(app: DataverseApp, lab: DataverseProbe) -> None:
    sent: list[tuple[str, dict[str, Any]]] = []

    def look(request: Request) -> None:
        sent.append((request.headers["Prefer"], json.loads(request.get_data())))

    app.interceptors.append(look)
    lab.ask("POST", "contacts", prefer="return=representation", body={"lastname": "A"})

    assert sent == [("return=representation", {"lastname": "A"})]
