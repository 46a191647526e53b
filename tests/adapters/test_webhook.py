"""Alerts reach a channel over real HTTPS, in the JSON that Teams or Slack takes; the address stays secret."""

from __future__ import annotations

import json
import logging
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import trustme

from sync_core.adapters.clock import SystemClock
from sync_core.adapters.webhook import WebhookClient, _payload
from sync_core.errors import ConfigurationError, SyncError, Unavailable

PATH = "/services/T000/B000/5ecretsignature"


class Receiver:
    """A server that answers as it is told and keeps what it got."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.authority = trustme.CA()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, json.loads(body)))
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("localhost").configure_cert(context)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_port}{PATH}?sig=5ecretsignature"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def test_one_message_with_a_card_for_teams_and_a_text_for_others(receiver: Receiver) -> None:
    WebhookClient(receiver.url, SystemClock()).tell("Not in step", ["tick-missed: no tick", "budget: over"])

    ((path, body),) = receiver.got
    assert path == f"{PATH}?sig=5ecretsignature"
    assert body["type"] == "message"
    assert body["text"] == "Not in step\ntick-missed: no tick\nbudget: over"
    (card,) = body["attachments"]
    assert card["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert card["content"]["type"] == "AdaptiveCard"
    texts = [block["text"] for block in card["content"]["body"]]
    assert texts == ["Not in step", "tick-missed: no tick", "budget: over"]


def test_slack_gets_its_own_form_with_its_markup_escaped() -> None:
    body = _payload("https://hooks.slack.com/services/x", "A & B", ["<!channel> is no mention"])

    assert body == {"text": "*A &amp; B*\n• &lt;!channel&gt; is no mention"}


@pytest.mark.parametrize("host", ["notslack.com", "slack.com.example", "example"])
def test_only_slack_gets_it(host: str) -> None:
    assert "attachments" in _payload(f"https://{host}/x", "A", [])


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, ConfigurationError) for status in (302, 400, 403, 404)),
        *((status, Unavailable) for status in (429, 500, 503)),
    ],
)
def test_a_refusal_names_the_setting_and_nothing_of_the_address(
    receiver: Receiver, status: int, kind: type[SyncError], caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = status

    with caplog.at_level(logging.DEBUG, logger="sync_core"), pytest.raises(kind) as raised:
        WebhookClient(receiver.url, SystemClock()).tell("t", [])

    assert str(raised.value) == f"the address in ALERT_WEBHOOK_URL answers HTTP {status}"
    assert "5ecret" not in caplog.text


def test_silence_and_a_certificate_that_is_not_trusted_show_nothing_of_it_either(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(ConfigurationError, match="TLS certificate of the address in ALERT_WEBHOOK_URL") as untrusted:
        WebhookClient(receiver.url, SystemClock()).tell("t", [])

    with pytest.raises(Unavailable, match="the address in ALERT_WEBHOOK_URL gives no answer") as silent:
        WebhookClient(f"https://localhost:1{PATH}", SystemClock()).tell("t", [])

    for raised in (untrusted, silent):
        assert "5ecret" not in str(raised.value)
        assert raised.value.__cause__ is None
