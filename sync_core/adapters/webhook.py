"""Port `Webhook`: one message to a channel of Slack or Teams, or to whatever takes the same JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import random as chance
from typing import Any
from urllib.parse import urlsplit

from sync_core.adapters.transport import Transport
from sync_core.errors import ConfigurationError, Unavailable
from sync_core.ports import Clock

TIMEOUT = 15.0
SETTING = "ALERT_WEBHOOK_URL"


class WebhookClient:
    """The address is a secret: whoever has it can write there. No error names more of it than the setting."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url
        self._transport = Transport("Webhook", clock, random=chance)

    def tell(self, title: str, lines: Sequence[str]) -> None:
        body = json.dumps(_payload(self._url, title, lines)).encode()
        headers = {"Content-Type": "application/json"}
        try:
            reply = self._transport.send("POST", self._url, read_timeout=TIMEOUT, headers=headers, data=body)
        except Unavailable:
            raise Unavailable(f"the address in {SETTING} gives no answer") from None
        except ConfigurationError:
            raise ConfigurationError(f"the TLS certificate of the address in {SETTING} is not trusted") from None
        if not reply.ok:
            kind = ConfigurationError if reply.status < 500 and reply.status not in (408, 429) else Unavailable
            raise kind(f"the address in {SETTING} answers HTTP {reply.status}")


def _payload(url: str, title: str, lines: Sequence[str]) -> dict[str, Any]:
    slack = (urlsplit(url).hostname or "").endswith(".slack.com")
    return _slack(title, lines) if slack else _teams(title, lines)


def _slack(title: str, lines: Sequence[str]) -> dict[str, Any]:
    """Slack reads `&`, `<` and `>` as markup unless they are escaped."""
    text = "\n".join([f"*{title}*", *(f"• {line}" for line in lines)])
    return {"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}


def _teams(title: str, lines: Sequence[str]) -> dict[str, Any]:
    """An Adaptive Card in a message, as Teams' workflows take it; `text` is for what knows no cards."""
    head = {"type": "TextBlock", "text": title, "weight": "Bolder", "wrap": True}
    body = [head, *({"type": "TextBlock", "text": line, "wrap": True, "spacing": "Small"} for line in lines)]
    schema = "http://adaptivecards.io/schemas/adaptive-card.json"
    card = {"$schema": schema, "type": "AdaptiveCard", "version": "1.4", "body": body}
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "text": "\n".join([title, *lines]), "attachments": [attachment]}
