"""The whole sync in one process: real engine, real clients, both emulators behind WSGI, storage in memory.

No socket, no thread, no wait: time passes when the engine sleeps or a test says so, for both services as well.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import BaseAdapter

from sync_core.adapters.dataverse import DataverseClient
from sync_core.adapters.marketo import MarketoClient
from sync_core.engine import Engine
from sync_core.flows.cases import Outcome
from sync_core.flows.detect import Tick
from sync_core.flows.world import World
from sync_core.mapping import parse
from sync_core.model import Lane
from sync_core.settings import Settings
from tests.fakes import (
    FakeClock,
    FakeConnections,
    FakeDocuments,
    FakeHistory,
    FakeLedger,
    FakeLimiter,
    FakeLookup,
    FakeQueue,
)
from tests.wsgi import call
from tools.emulators.dataverse.administration import edit as dataverse_edit
from tools.emulators.dataverse.identity import issue
from tools.emulators.dataverse.loading import load
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.web import DataverseApp
from tools.emulators.marketo.state import MarketoState
from tools.emulators.marketo.web import MarketoApp

START = "2026-03-02T08:00:00Z"
DATAVERSE = "https://localhost:1"
MARKETO = "https://localhost:2"
LEASE = timedelta(minutes=10)
CONFIG = (Path(__file__).parent.parent / "sync.toml").read_text(encoding="utf-8")


class WsgiAdapter(BaseAdapter):
    """A requests transport that calls a WSGI application instead of a socket.

    An application that breaks the connection, or lets more time pass on *clock* than the caller would wait, fails the
    call as a socket would.
    """

    def __init__(self, app: Any, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.app = app
        self.fault: Callable[[requests.PreparedRequest], None] | None = None
        self.after: Callable[[requests.PreparedRequest], None] | None = None

    def send(self, request: requests.PreparedRequest, *_: Any, timeout: Any = None, **__: Any) -> requests.Response:
        if self.fault is not None:
            self.fault(request)
        started = self.clock.monotonic()
        try:
            status, headers, pieces = call(
                self.app, str(request.method), str(request.url), request.headers, request.body
            )
            body = received(pieces)
        except ConnectionResetError as error:
            raise requests.ConnectionError(error, request=request) from error
        if timeout and self.clock.monotonic() - started > timeout[1]:
            raise requests.ReadTimeout(request=request)
        if self.after is not None:
            self.after(request)
        response = requests.Response()
        response.status_code = status
        response.headers = requests.structures.CaseInsensitiveDict(headers)
        response.raw = urllib3.HTTPResponse(
            io.BytesIO(body), headers, status, preload_content=False
        )  # urllib3 misses the bytes that Content-Length promised: requests' ChunkedEncodingError
        response.request, response.url = request, str(request.url)
        return response

    def close(self) -> None: ...


def received(pieces: Iterable[bytes]) -> bytes:
    """The body, as far as it came before the connection broke."""
    body = b""
    with suppress(ConnectionResetError):
        for piece in pieces:
            body += piece
    return body


class StageClock(FakeClock):
    """One time for the engine and both services."""

    def __init__(self, dataverse: DataverseState, marketo: MarketoState) -> None:
        super().__init__(datetime.fromisoformat(START))
        self.services = (dataverse.clock, marketo.clock)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        for clock in self.services:
            clock.advance(max(0.0, seconds))


def _wired(client: DataverseClient | MarketoClient, url: str, wire: WsgiAdapter) -> None:
    """No proxy stands between, so none is looked for in the environment before each request."""
    client._transport._session.trust_env = False
    client._transport._session.mount(url, wire)


class _Tokens:
    def __init__(self, state: DataverseState) -> None:
        self.state = state

    def token(self, *, new: bool) -> str:
        return str(issue(self.state, DATAVERSE, DATAVERSE))


def changed(changes: Mapping[str, str], text: str = CONFIG) -> str:
    """The text of sync.toml with each old text replaced, which must be there."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


class Stage:
    """*config* is the text of sync.toml; *changes* replace text in the checked-in one."""

    def __init__(self, *, changes: Mapping[str, str] | None = None, page_size: int = 3600, seed: int = 1) -> None:
        text = changed(changes or {})
        self.dataverse = DataverseState(seed=seed, start=START)
        self.marketo = MarketoState(seed=seed, start=START, frozen=True)
        self.clock = StageClock(self.dataverse, self.marketo)
        self.limiter = FakeLimiter(self.clock)
        self.dataverse_app, self.marketo_app = DataverseApp(self.dataverse), MarketoApp(self.marketo)
        self.dataverse_app.sleep = self.marketo_app.sleep = self.clock.sleep
        self.dataverse_wire = WsgiAdapter(self.dataverse_app, self.clock)
        self.marketo_wire = WsgiAdapter(self.marketo_app, self.clock)
        self.world = World(
            source=self._source(page_size),
            target=self._target(),
            opportunities=FakeLedger(),
            companies=FakeLedger(),
            sales_persons=FakeLedger(),
            connections=FakeConnections(),
            people=FakeLookup(),
            tombstones=FakeLookup(),
            documents=FakeDocuments(),
            queue=FakeQueue(self.clock),
            history=FakeHistory(),
            limiter=self.limiter,
            clock=self.clock,
            config=parse(text),
            late_write=300,
            subscription="123-EMU-456",
        )
        self.engine = Engine(self.world)

    @property
    def settings(self) -> Settings:
        return Settings(
            dataverse_url=DATAVERSE,
            dataverse_tenant_id=self.dataverse.tenant,
            dataverse_client_id=self.dataverse.client_id,
            dataverse_client_secret=self.dataverse.credentials.secrets[0],
            dataverse_authority_host=DATAVERSE,
            marketo_url=MARKETO,
            marketo_client_id="33333333-3333-4333-8333-333333333333",
            marketo_client_secret="emulator-secret",
            storage_connection="none",
        )

    def _source(self, page_size: int) -> DataverseClient:
        client = DataverseClient(self.settings, self.clock, map, page_size=page_size, random=lambda: 0.5)
        _wired(client, DATAVERSE, self.dataverse_wire)
        client._tokens = _Tokens(self.dataverse)
        return client

    def _target(self) -> MarketoClient:
        client = MarketoClient(self.settings, self.clock, self.limiter)
        _wired(client, MARKETO, self.marketo_wire)
        return client

    # --- what people and others do --------------------------------------------------------------------------

    def load(self, **tables: Iterable[Mapping[str, Any]]) -> None:
        load(self.dataverse, {table: [dict(row) for row in rows] for table, rows in tables.items()})

    def edit(self, op: str, **values: Any) -> Any:
        return dataverse_edit(self.dataverse, {"op": op, **values})

    def people(self, *addresses: str) -> list[int]:
        """Make these people in Marketo."""
        return list(self.marketo.load({"leads": [{"email": address} for address in addresses]})["leads"])

    # --- what the host does -----------------------------------------------------------------------------------

    def tick(self) -> Tick:
        return self.engine.detect()

    def deliver(self, lane: Lane = Lane.FRESH) -> Outcome | None:
        """One message of *lane*, if one is visible."""
        letter = self.world.queue.receive(lane, lease=LEASE)
        if letter is None:
            return None
        outcome = self.engine.deliver(
            letter.body, dequeue_count=letter.dequeue_count, lease_ends=letter.lease_ends, lane=lane
        )
        self.world.queue.done(lane, letter)
        return outcome

    def drain(self) -> list[Outcome]:
        """Deliver everything that is visible now."""
        outcomes = []
        while outcome := self.deliver(Lane.FRESH) or self.deliver(Lane.SLOW):
            outcomes.append(outcome)
        return outcomes

    def sync(self) -> list[Outcome]:
        """Ticks until detect is complete, then everything on the queue, waiting for what was put back."""
        while not self.tick().complete:
            pass
        outcomes = self.drain()
        while sum(self.world.queue.lengths()[lane] for lane in Lane):
            self.clock.sleep(60)
            outcomes += self.drain()
        return outcomes

    # --- what Marketo shows -----------------------------------------------------------------------------------

    def opportunities(self) -> dict[str, Mapping[str, Any]]:
        return {row["externalOpportunityId"]: row for row in self.marketo.rows("opportunities")}

    def roles(self, opportunity: str | None = None) -> set[tuple[str, int, str]]:
        rows = self.marketo.rows("roles")
        found = {(row["externalOpportunityId"], row["leadId"], row["role"]) for row in rows}
        return {item for item in found if opportunity in (None, item[0])}

    def writes(self) -> int:
        """Marketo calls of kind `write` so far."""
        return sum(call["kind"] == "write" for call in self.marketo.journal.since(0))

    def adopt(self, text: str, *, name: str = "sync.toml") -> Stage:
        """From now on another sync.toml, as after a deployment: same state."""
        self.engine = self.variant(config=parse(text, name=name))
        self.world = self.engine.world
        return self

    def variant(self, **ports: Any) -> Engine:
        """A second engine on the same world, with some ports replaced: another worker, or one that misbehaves."""
        return Engine(replace(self.world, **ports))


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
