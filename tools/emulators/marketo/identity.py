"""Custom services and their tokens (marketo.md §1.2, §1.3)."""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .clock import Clock
from .errors import ApiError, IdentityError
from .switches import Switches


@dataclass(frozen=True, slots=True)
class Client:
    """A custom service: its credentials and the API-only user it belongs to."""

    id: str = "33333333-3333-4333-8333-333333333333"
    secret: str = "emulator-secret"  # noqa: S105 - no secret
    user: str = "api-user@example.test"


@dataclass(slots=True)
class Token:
    text: str
    client: Client
    expires: float
    reported: bool = False


class Identity:
    """One living token per client: everybody who asks gets the same until it dies."""

    def __init__(self, clients: Iterable[Client], clock: Clock, switches: Switches, *, seed: int) -> None:
        self.clients = {client.id: client for client in clients}
        self.clock = clock
        self.switches = switches
        self._random = random.Random(f"tokens {seed}")
        self._current: dict[str, Token] = {}
        self._tokens: dict[str, Token] = {}

    def grant(self, grant_type: str | None, client_id: str, secret: str | None) -> dict[str, Any]:
        """Exactly the four members of a token answer; `expires_in` is what remains."""
        client = self.clients.get(client_id)
        if client is None:
            raise IdentityError("unauthorized", f"No client with requested id: {client_id}")
        if secret != client.secret:
            raise IdentityError("invalid_client", "Bad client credentials")
        if grant_type != "client_credentials":
            raise IdentityError("unsupported_grant_type", f"Unsupported grant type: {grant_type}")
        token = self._living(client)
        return {
            "access_token": token.text,
            "token_type": "bearer",
            "expires_in": max(0, math.ceil(token.expires - self.clock.now()) - 1),
            "scope": client.user,
        }

    def add(self, client: Client) -> None:
        self.clients[client.id] = client

    def remove(self, client_id: str) -> None:
        """The custom service is deleted."""
        client = self.clients.pop(client_id)
        token = self._current.pop(client.id, None)
        if token is not None and self.switches.tokens_of_deleted_services == "die":
            token.reported = True

    def check(self, text: str | None) -> Client:
        """The client of a living token. A dead one is told 602 once and 601 ever after (marketo.md §1.3)."""
        if not text:
            raise self._no_token()
        token = self._tokens.get(text)
        if token is None or token.reported:
            raise ApiError("601", "Access token invalid")
        if token.expires <= self.clock.now():
            token.reported = True
            raise ApiError("602", "Access token expired")
        return token.client

    def drop(self, text: str | None) -> None:
        """A token that died before its time: 601 from now on, and whoever asks gets a new one."""
        token = self._tokens.get(text or "")
        if token is not None:
            token.reported = True
            if self._current.get(token.client.id) is token:
                del self._current[token.client.id]

    def allows(self, client: Client, permissions: tuple[str, ...]) -> bool:
        """Whether the client has one of *permissions*; a client that no switch restricts has them all."""
        granted = self.switches.permissions.get(client.id)
        return granted is None or not permissions or not set(permissions).isdisjoint(granted)

    def _no_token(self) -> ApiError:
        if self.switches.missing_token == "600":  # noqa: S105 - a code
            return ApiError("600", "Access token not specified")
        return ApiError("603", "Access denied")

    def _living(self, client: Client) -> Token:
        token = self._current.get(client.id)
        if token is None or token.expires <= self.clock.now():
            token = self._new(client)
        return token

    def _new(self, client: Client) -> Token:
        text = f"{uuid.UUID(int=self._random.getrandbits(128), version=4)}:int"
        token = Token(text, client, self.clock.now() + self.switches.token_lifetime)
        self._tokens[text] = self._current[client.id] = token
        return token
