"""What `status` and its page cost, on real storage."""

from __future__ import annotations

from typing import Any

import pytest
from azure.core.pipeline.transport import RequestsTransport

from sync_core.adapters.storage import open_storage
from sync_core.engine import Engine
from sync_core.flows.status import status
from sync_core.model import LedgerRow, State
from tests.flows.org import Org
from tests.stage import Stage
from tests.web.browser import Browser, a_site


def test_status_costs_at_most_fifty_storage_operations(azurite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """design.md §2.9, with the real adapters and a ledger in every partition; the page as well, and no Marketo call."""
    from dataclasses import replace

    stage = Stage()
    settings = replace(stage.settings, storage_connection=azurite.connection_string)
    storage = open_storage(settings, stage.clock, map, prefix="status")
    ports = {name: getattr(storage, name) for name in storage.__slots__ if name != "probes"}
    stage.engine = Engine(replace(stage.world, **ports))
    stage.world = stage.engine.world
    org = Org(stage)
    org.stakeholder(org.ann)
    stage.sync()
    ids = [f"{number:032x}" for number in range(0, 16**32, 16**31 // 8)]
    rows = [LedgerRow(f"{i[:8]}-{i[8:12]}-{i[12:16]}-{i[16:20]}-{i[20:]}", state=State.PARKED) for i in ids]
    assert storage.opportunities.write(rows) == set()
    calls: list[str] = []
    send = RequestsTransport.send

    def counted(self: RequestsTransport, request: Any, **named: Any) -> Any:
        calls.append(request.url)
        return send(self, request, **named)

    monkeypatch.setattr(RequestsTransport, "send", counted)

    found = status(stage.world)

    assert len(calls) <= 50
    calls.clear()
    marketo = len(stage.marketo.journal.entries)
    page = Browser(a_site(stage)).open(done="0")
    assert page.ids["parked"] == str(len(rows))
    assert len(calls) <= 50
    assert len(stage.marketo.journal.entries) == marketo
    assert found["opportunities"][State.PARKED] == len(rows)
    assert found["opportunities"][State.IN_STEP] == 1
