"""An opportunity that waits for a person: a change of the contact wakes it, time does so within the day's calls."""

from __future__ import annotations

import pytest

from tests.flows.org import Org
from tests.stage import Stage

UNASKED = {"recheck_calls = 100": "recheck_calls = 0"}


class Waiting:
    """`org.deal` waits for Dan, whom Marketo doesn't know yet."""

    def __init__(self, changes: dict[str, str] | None = None) -> None:
        self.stage = Stage(changes=changes)
        self.org = Org(self.stage)
        self.dan = self.org.contact("dan@acme.invalid")
        self.org.stakeholder(self.dan)
        self.stage.sync()

    def check_ann_has_her_role(self) -> None:
        assert self.stage.roles(self.org.deal) == {(self.org.deal, self.org.lead_ann, "Decision Maker")}

    def check_dan_has_his_role(self, lead: int) -> None:
        assert self.stage.roles(self.org.deal) == {(self.org.deal, lead, "Decision Maker")}


@pytest.mark.parametrize(
    ("address", "changed"),
    [
        ("daniel@acme.invalid", {"emailaddress1": "daniel@acme.invalid"}),
        ("dan@acme.invalid", {"lastname": "Same address"}),
    ],
    ids=["another address", "the same address"],
)
def test_a_changed_contact_is_asked_for_at_once_though_the_calls_are_used_up(
    address: str, changed: dict[str, str]
) -> None:
    scene = Waiting(UNASKED)
    (lead,) = scene.stage.people(address)
    scene.org.update("contact", scene.dan, **changed)
    scene.stage.clock.sleep(60)
    scene.stage.sync()

    scene.check_dan_has_his_role(lead)


def test_a_contact_that_changes_right_after_a_vain_try_is_asked_for_at_once() -> None:
    scene = Waiting()
    stage, deal = scene.stage, scene.org.deal
    for _ in range(14):  # the next try is then half a day away
        due = stage.world.opportunities.rows([deal])[deal].due
        assert due is not None
        stage.clock.sleep((due - stage.clock.now()).total_seconds() + 1)
        stage.sync()
    stage.clock.sleep(120)
    (lead,) = stage.people("dan@acme.invalid")
    scene.org.update("contact", scene.dan, lastname="Touched")
    stage.clock.sleep(120)
    stage.sync()
    stage.clock.sleep(3600)
    stage.sync()

    scene.check_dan_has_his_role(lead)


@pytest.mark.parametrize("hours", [1, 30], ids=["remembered", "forgotten"])
def test_roles_stay_while_nobody_may_be_asked(hours: int) -> None:
    """What is remembered of Ann may be too old to be used; that is no reason to take her role away."""
    scene = Waiting(UNASKED)
    scene.org.stakeholder(scene.org.ann)
    scene.stage.clock.sleep(60)
    scene.stage.sync()
    scene.check_ann_has_her_role()
    scene.stage.clock.sleep(hours * 3600)
    scene.stage.sync()

    scene.check_ann_has_her_role()


def test_asking_again_stays_within_the_calls_of_the_day() -> None:
    """700 people are three calls."""
    stage = Stage(changes={"recheck_calls = 100": "recheck_calls = 1"})
    org = Org(stage)
    for number in range(700):
        deal = org.opportunity(f"Deal {number}", account=org.acme)
        org.stakeholder(org.contact(f"person{number}@acme.invalid"), opportunity=deal)
    stage.sync()
    before = people_calls(stage)
    for _ in range(3):
        stage.clock.sleep(3600)
        stage.sync()

    assert people_calls(stage) - before == 1


def people_calls(stage: Stage) -> int:
    return sum("leads.json" in call["path"] for call in stage.marketo.journal.since(0))
