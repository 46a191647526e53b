"""Answers that nobody documents, and rows that are suddenly no longer there: one record waits, the others go on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import requests

from sync_core.errors import DeltaLinkExpired, Unavailable
from sync_core.flows.failures import failures
from sync_core.model import Work
from tests.flows.org import Org
from tests.flows.test_failures import answer, refusal
from tests.flows.test_sales_persons import OWNED, owned, user
from tests.stage import Stage

RELIABILITY = Path(__file__).parents[2] / "docs" / "reliability.md"


def test_a_record_that_sinks_its_call_with_an_unknown_code_waits_and_the_others_go_on(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = org.opportunity("Bad", account=org.acme)
    send = stage.marketo_wire.send

    def sunk(request: requests.PreparedRequest, **named: Any) -> requests.Response:
        if '"Bad"' in str(request.body):
            return answer(200, refusal("799").encode(), {})
        return send(request, **named)

    monkeypatch.setattr(stage.marketo_wire, "send", sunk)
    for _ in range(12):
        stage.tick()
        stage.drain()
        stage.clock.sleep(300)

    assert stage.opportunities().keys() == {org.deal}
    assert [(each.id, each.reason) for each in failures(stage.world)] == [(bad, "799: refused by Marketo")]


def test_a_link_that_always_expires_ends_the_tick(stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.sync()
    a_tight_loop = 500
    monkeypatch.setattr(stage.world.source, "changes", Mock(side_effect=[DeltaLinkExpired("gone")] * a_tight_loop))

    with pytest.raises(Unavailable):
        stage.tick()


def test_an_owner_deleted_in_dynamics_fails_nobody() -> None:
    stage = Stage(changes=OWNED)
    org = Org(stage)
    tim = user(stage, "Tim")
    deal = owned(stage, org, "Tim's", tim)
    stage.sync()
    stage.world.queue.put(Work(users=(tim,)))
    org.delete("systemuser", tim)
    stage.sync()
    stage.world.queue.put(Work((deal,), force=True))
    stage.sync()

    assert deal in stage.opportunities()
    assert list(failures(stage.world)) == []


def test_the_emulators_take_the_fault_plan_that_the_page_shows(stage: Stage) -> None:
    found = re.search(r"```json\n(.*?)```", RELIABILITY.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    plan = json.loads(found[1])

    for app, name in ((stage.marketo_app, "marketo"), (stage.dataverse_app, "dataverse")):
        app.faults.set(plan[name])
        assert len(app.faults.describe()["rules"]) == len(plan[name]["rules"])
