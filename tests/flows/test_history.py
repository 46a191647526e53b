"""`[history] values = true`: what was posted for an opportunity, for ninety days, and nothing of people."""

from __future__ import annotations

import json

from sync_core.flows.explain import explain
from sync_core.report import story
from tests.flows.org import Org
from tests.stage import Stage

KEPT = {"\n[sync]\n": "\n[history]\nvalues = true\n\n[sync]\n"}


def posts(stage: Stage, org: Org) -> list[dict[str, object]]:
    return [dict(fields) for _, fields in stage.world.history.of(org.deal)] if stage.world.history else []


def test_only_what_changed_is_kept_the_latest_first() -> None:
    stage = Stage(changes=KEPT)
    org = Org(stage)
    stage.sync()
    stage.clock.sleep(60)
    org.update("opportunity", org.deal, name="Renamed")
    stage.sync()
    stage.clock.sleep(60)
    org.stakeholder(org.ann)
    stage.sync()

    found = posts(stage, org)
    assert found[0] == {"name": "Renamed"}
    assert found[1]["name"] == "Deal"
    assert len(found) == 2
    told = story(explain(stage.world, org.deal))
    assert "Last posts:" in told
    assert max(map(len, told.splitlines())) <= 80


def test_after_ninety_days_it_is_forgotten() -> None:
    stage = Stage(changes=KEPT)
    org = Org(stage)
    stage.sync()
    stage.clock.sleep(91 * 24 * 3600)
    stage.tick()

    assert posts(stage, org) == []


def test_nothing_of_people_is_kept() -> None:
    stage = Stage(changes=KEPT)
    org = Org(stage)
    org.stakeholder(org.ann)
    stage.sync()

    assert "acme.invalid" not in json.dumps(posts(stage, org))


def test_without_the_setting_nothing_is_kept() -> None:
    stage = Stage()
    org = Org(stage)
    stage.sync()

    assert posts(stage, org) == []
