"""`[history] values = true`: what was posted for an opportunity, for ninety days, and nothing of people."""

from __future__ import annotations

import json

from sync_core.flows.explain import LAST_POSTS, explain, history
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


def test_of_each_post_every_field_is_told_with_what_it_was_before() -> None:
    stage = Stage(changes=KEPT)
    org = Org(stage)
    stage.sync()
    for value in (2500.0, None):
        stage.clock.sleep(60)
        org.update("opportunity", org.deal, estimatedvalue=value)
        stage.sync()

    found = explain(stage.world, org.deal)

    changed = [post["fields"]["amount"] for post in found["history"]]
    assert changed == [
        {"was": 2500.0, "now": None, "first": False},
        {"was": 1000.0, "now": 2500.0, "first": False},
        {"was": None, "now": 1000.0, "first": True},
    ]
    told = story(found).splitlines()
    assert "    amount: 2500.0 → -" in told
    assert "    amount: 1000.0 → 2500.0" in told
    assert "    amount: first post kept → 1000.0" in told
    assert max(map(len, told)) <= 80


def test_the_post_before_the_last_ten_still_tells_what_the_tenth_changed() -> None:
    stage = Stage(changes=KEPT)
    org = Org(stage)
    for number in range(12):
        org.update("opportunity", org.deal, name=f"Name {number}")
        stage.sync()
        stage.clock.sleep(60)

    found = history(stage.world, org.deal)

    assert len(found) == LAST_POSTS
    assert found[-1]["fields"] == {"name": {"was": "Name 1", "now": "Name 2", "first": False}}


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
