"""Two things at once: a worker that dies and a value taken back, a removal held and tried again, a read that dies."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import Any

import pytest
import requests

from sync_core import cli
from sync_core.flows.failures import failures, redrive
from sync_core.flows.status import pause, problems, repoint, status
from sync_core.messages import encode
from sync_core.model import Lane, LedgerRow, State, Work
from sync_core.ports import Ledger
from tests.flows.mapped import a_stage, add_column, remap, shown
from tests.flows.org import Org
from tests.flows.test_changes import state_of
from tests.flows.test_invariants import Crash, crash, deliver_directly, is_write
from tests.flows.test_sales_persons import OWNED, owned, sales_persons, user
from tests.stage import Stage

LEASE_OVER = 600
HOUR, DAY = 3600, 24 * 3600


# --- companies and sales persons ----------------------------------------------------------------------------


class Owned:
    """Tim owns `deal`; nothing is read yet."""

    def __init__(self) -> None:
        self.stage = Stage(changes=OWNED)
        self.org = Org(self.stage)
        self.tim = user(self.stage, "Tim")
        self.deal = owned(self.stage, self.org, "Tim's", self.tim)

    def delete_tim_in_marketo(self) -> None:
        self.stage.marketo.edit({"op": "delete", "object": "salespersons", "key": {"externalSalesPersonId": self.tim}})


@pytest.fixture
def scene() -> Owned:
    return Owned()


def deliver_and_die(stage: Stage, ledger: Ledger) -> None:
    """The worker posts, and dies before *ledger* knows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "write", crash)
        with pytest.raises(Crash):
            stage.deliver()


def companies(stage: Stage) -> dict[str, str]:
    return {row["externalCompanyId"]: row["company"] for row in stage.marketo.rows("companies")}


def test_a_company_that_a_dead_forced_worker_posted_is_taken_back(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.world.queue.put(Work((org.deal,), force=True, why="redrive"))
    org.update("account", org.acme, name="Typo")
    deliver_and_die(stage, stage.world.companies)
    assert companies(stage)[org.acme] == "Typo"
    org.update("account", org.acme, name="Acme")
    stage.clock.sleep(LEASE_OVER)
    stage.sync()
    stage.clock.sleep(HOUR)
    stage.sync()

    assert companies(stage)[org.acme] == "Acme"
    assert sum(stage.world.queue.lengths().values()) == 0


def test_a_sales_person_that_a_dead_forced_worker_posted_is_taken_back(scene: Owned) -> None:
    stage = scene.stage
    stage.sync()
    stage.world.queue.put(Work((scene.deal,), force=True, why="redrive"))
    scene.org.update("systemuser", scene.tim, lastname="Typo")
    deliver_and_die(stage, stage.world.sales_persons)
    assert sales_persons(stage)[scene.tim]["lastName"] == "Typo"
    scene.org.update("systemuser", scene.tim, lastname="Seller")
    stage.clock.sleep(LEASE_OVER)
    stage.sync()

    assert sales_persons(stage)[scene.tim]["lastName"] == "Seller"


@pytest.mark.parametrize("address", ["tim@crm.invalid", "other@crm.invalid"])
def test_a_sales_person_whose_first_worker_died_fails_nobody_even_with_another_address(
    scene: Owned, address: str
) -> None:
    stage = scene.stage
    stage.tick()
    deliver_and_die(stage, stage.world.sales_persons)
    assert scene.tim in sales_persons(stage)
    scene.org.update("systemuser", scene.tim, internalemailaddress=address)
    stage.clock.sleep(LEASE_OVER)
    stage.sync()
    stage.clock.sleep(DAY)
    stage.sync()

    assert list(failures(stage.world)) == []
    assert stage.opportunities()[scene.deal]["externalSalesPersonId"] == scene.tim


def test_a_sales_person_deleted_in_marketo_comes_back_with_its_address(scene: Owned) -> None:
    stage = scene.stage
    stage.sync()
    scene.delete_tim_in_marketo()
    scene.org.update("opportunity", scene.deal, name="Changed")
    stage.sync()
    stage.clock.sleep(HOUR)
    stage.sync()

    assert sales_persons(stage)[scene.tim]["email"] == "tim@crm.invalid"


def test_a_sales_person_has_its_address_in_another_marketo_too(scene: Owned) -> None:
    stage = scene.stage
    stage.sync()
    for key in stage.opportunities():
        stage.marketo.edit({"op": "delete", "object": "opportunities", "key": {"externalOpportunityId": key}})
    scene.delete_tim_in_marketo()
    repoint(stage.world)
    stage.sync()
    stage.clock.sleep(HOUR)
    stage.sync()

    assert sales_persons(stage)[scene.tim]["email"] == "tim@crm.invalid"


def test_a_sales_person_whose_answer_was_lost_is_put_back_forced_and_late(scene: Owned) -> None:
    stage = scene.stage
    stage.sync()
    scene.org.update("systemuser", scene.tim, lastname="Second")

    def lost(request: requests.PreparedRequest) -> None:
        if is_write(request) and "salespersons.json" in str(request.url):
            raise requests.ReadTimeout(request=request)

    stage.marketo_wire.after = lost
    stage.tick()
    outcome = stage.deliver()
    stage.marketo_wire.after = None

    assert outcome is not None
    assert [(work.users, work.force) for work, _ in outcome.again] == [((scene.tim,), True)]
    assert outcome.again[0][1] >= stage.world.late_write
    stage.sync()
    assert sales_persons(stage)[scene.tim]["lastName"] == "Second"


def test_a_worker_that_another_overtook_hands_back_the_sales_person_that_only_its_opportunity_named(
    scene: Owned, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = scene.stage
    stage.tick()
    write = stage.world.sales_persons.write

    def overtaken(rows: Any) -> Any:
        monkeypatch.undo()
        scene.org.update("systemuser", scene.tim, lastname="Second")
        deliver_directly(stage, Work(users=(scene.tim,)))
        return write(rows)

    monkeypatch.setattr(stage.world.sales_persons, "write", overtaken)
    outcome = stage.deliver()

    assert outcome is not None
    assert [(work.users, work.force) for work, _ in outcome.again] == [((scene.tim,), True)]
    stage.sync()
    assert sales_persons(stage)[scene.tim]["lastName"] == "Second"


def test_a_sales_person_redriven_while_they_are_switched_off_is_not_posted(stage: Stage, org: Org) -> None:
    stage.world.sales_persons.write([LedgerRow(user(stage, "Tim")).become(State.PARKED, reason="1003")])
    stage.sync()
    redrive(stage.world, failures(stage.world))
    stage.sync()

    assert sales_persons(stage) == {}


def test_an_untracked_user_is_followed_and_costs_no_write_where_nothing_differs() -> None:
    stage = Stage(changes=OWNED, page_size=2)
    stage.dataverse.tables["systemuser"].tracked = False
    org = Org(stage)
    tim = user(stage, "Tim")
    owned(stage, org, "Tim's", tim)
    stage.sync()
    stage.clock.sleep(HOUR)
    org.update("systemuser", tim, lastname="New")
    stage.sync()
    assert sales_persons(stage)[tim]["lastName"] == "New"
    before = stage.writes()
    stage.clock.sleep(DAY + HOUR)
    stage.sync()

    assert stage.writes() == before


# --- poison -------------------------------------------------------------------------------------------------


def test_an_empty_message_in_poison_does_not_stop_detect(stage: Stage, org: Org) -> None:
    stage.world.queue.poison(Lane.FRESH, encode(Work()))

    assert stage.tick().complete


@pytest.mark.parametrize("kind", ["users", "accounts"])
def test_a_poisoned_company_or_sales_person_is_parked_and_can_be_redriven(scene: Owned, kind: str) -> None:
    stage = scene.stage
    stage.sync()
    key = {"users": scene.tim, "accounts": scene.org.acme}[kind]
    stage.world.queue.poison(Lane.FRESH, encode(Work(**{kind: (key,)})))
    stage.tick()
    assert [(each.kind, each.id, each.state) for each in failures(stage.world)] == [(kind, key, "parked")]
    redrive(stage.world, failures(stage.world))
    stage.sync()

    assert list(failures(stage.world)) == []


# --- removals -----------------------------------------------------------------------------------------------


class Guarded:
    """At most two removals a day pass."""

    def __init__(self) -> None:
        self.stage = Stage(changes={"max_count = 100": "max_count = 2", "max_share = 0.01": "max_share = 0.0"})
        self.org = Org(self.stage)

    def deals(self, number: int) -> list[str]:
        return [self.org.opportunity(f"Deal {each}", account=self.org.acme) for each in range(number)]

    def delete(self, *deals: str) -> None:
        for deal in deals:
            self.org.delete("opportunity", deal)


def test_the_guard_counts_across_restarts_and_for_a_whole_day() -> None:
    guarded = Guarded()
    stage = guarded.stage
    deals = guarded.deals(4)
    stage.sync()
    for deal in deals:
        guarded.delete(deal)
        stage.engine = stage.variant()
        stage.sync()
    assert len(stage.opportunities()) == 3
    stage.clock.sleep(23 * HOUR)
    stage.engine = stage.variant()
    stage.sync()

    assert len(stage.opportunities()) == 3


def test_a_single_deletion_passes_though_others_are_held() -> None:
    guarded = Guarded()
    stage = guarded.stage
    *held, single = guarded.deals(4)
    stage.sync()
    guarded.delete(*held)
    stage.sync()
    stage.clock.sleep(2 * DAY)
    guarded.delete(single)
    stage.dataverse.expire_delta_links()
    stage.sync()

    assert stage.opportunities().keys() == {guarded.org.deal, *held}


def test_redriving_a_poisoned_removal_approves_nothing() -> None:
    guarded = Guarded()
    stage = guarded.stage
    deals = guarded.deals(3)
    stage.sync()
    guarded.delete(*deals)
    stage.sync()
    assert len(stage.opportunities()) == 4
    stage.world.queue.poison(Lane.FRESH, encode(Work((deals[0],))))
    stage.tick()
    redrive(stage.world, failures(stage.world))
    stage.sync()

    assert len(stage.opportunities()) == 4


def test_a_comparison_that_dies_anywhere_ends_right_and_costs_one_removal() -> None:
    stage = Stage(page_size=2)
    org = Org(stage)
    doomed = [org.opportunity(f"Deal {number}", account=org.acme) for number in range(5)]
    stage.sync()
    before = stage.writes()
    for deal in doomed:
        org.delete("opportunity", deal)
    world = stage.world
    for port, name in (
        (world.tombstones, "write"),
        (world.queue, "put"),
        (world.documents, "write"),
        (world.source, "ids"),
        (world.source, "modified_since"),
        (world.source, "changes"),
    ):
        stage.dataverse.expire_delta_links()
        for survived in range(4):
            with pytest.MonkeyPatch.context() as patch, suppress(Crash):
                patch.setattr(port, name, dying(getattr(port, name), survived))
                stage.variant().detect()
    stage.sync()

    assert stage.opportunities().keys() == {org.deal}
    assert stage.writes() - before == 1


def dying(call: Any, survived: int) -> Any:
    """*call*, until it has been called *survived* times: the next one never returns."""
    calls = count()

    def run(*arguments: Any, **named: Any) -> Any:
        return crash() if next(calls) == survived else call(*arguments, **named)

    return run


# --- status and commands ------------------------------------------------------------------------------------


def test_status_says_that_a_company_is_parked(stage: Stage, org: Org) -> None:
    stage.sync()
    assert problems(status(stage.world)) == []
    row = stage.world.companies.rows([org.acme])[org.acme]
    stage.world.companies.write([row.become(State.PARKED, reason="1003: a value is invalid")])

    assert problems(status(stage.world))


def test_the_last_reason_of_a_pause_is_shown(stage: Stage) -> None:
    pause(stage.world, "first")
    pause(stage.world, "second")

    assert status(stage.world)["paused"]["why"] == "second"


@pytest.fixture
def command(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)


@pytest.mark.usefixtures("command")
def test_redriving_all_leaves_held_removals_alone(stage: Stage, org: Org, capsys: pytest.CaptureFixture[str]) -> None:
    stage.sync()
    row = stage.world.opportunities.rows([org.deal])[org.deal]
    stage.world.opportunities.write([row.become(State.HELD, reason="removals held")])

    assert cli.main(["failures", "redrive", "--all", "--json"]) == cli.GOOD
    assert capsys.readouterr().out == '{"queued": 0, "then": "there was nothing to try again"}\n'


@pytest.mark.usefixtures("command")
def test_a_command_that_is_interrupted_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "first", interrupted)

    assert cli.main(["failures", "list"]) != cli.GOOD
    assert "Traceback" not in capsys.readouterr().err


# --- records with nothing but empty values, answers that never came ---------------------------------------------------


def test_a_company_whose_every_mapped_value_is_empty_stays_named() -> None:
    stage = a_stage(company=["-company"])
    org = Org(stage)
    stage.sync()
    assert shown(stage, org.deal)["externalCompanyId"] == org.acme

    stage.world.queue.put(Work((org.deal,), force=True))
    other = org.opportunity("Other", account=org.acme)
    stage.sync()

    assert {shown(stage, deal)["externalCompanyId"] for deal in (org.deal, other)} == {org.acme}


def test_roles_and_removal_of_an_opportunity_with_nothing_but_empty_values() -> None:
    stage = a_stage(opportunity=["-name", "-amount", "-stage", "-isWon", "-isClosed", "-externalCreatedDate"])
    org = Org(stage)
    alone = org.opportunity("Alone", estimatedvalue=None)
    stage.sync()
    org.stakeholder(org.ann, opportunity=alone)
    stage.sync()
    assert stage.roles(alone) == {(alone, org.lead_ann, "Decision Maker")}

    org.delete("opportunity", alone)
    stage.sync()
    assert set(stage.opportunities()) == {org.deal}
    assert stage.roles(alone) == set()


def test_roles_that_a_changed_mapping_would_remove_are_held_though_the_deal_was_outside_meanwhile() -> None:
    rule = '[[filter.rule]]\ncolumn = "new_synctomkto"\nnot_in = [false]\n'
    stage = a_stage(rule)
    add_column(stage, "new_synctomkto", "bool")
    org = Org(stage)
    org.stakeholder(org.ann)
    stage.sync()
    org.update("opportunity", org.deal, new_synctomkto=False)
    stage.sync()
    remap(stage, rule, stakeholders=['exclude = ["Decision Maker"]'])
    stage.sync()
    org.update("opportunity", org.deal, new_synctomkto=True)
    stage.sync()

    assert state_of(stage, org.deal)[0] is State.HELD
    assert len(stage.roles(org.deal)) == 1


@pytest.mark.parametrize("policy", ["remove", "flag"])
@pytest.mark.parametrize("gone", ["won", "deleted"])
def test_a_create_without_an_answer_is_undone_or_flagged_though_the_deal_left_meanwhile(policy: str, gone: str) -> None:
    rules = f'[filter]\nwhen_leaving = "{policy}"\n[[filter.rule]]\ncolumn = "statecode"\nin = [0]\n'
    removals = ['flag = { nextStep = "left" }', *(['policy = "flag"'] if policy == "flag" else [])]
    stage = a_stage(rules, removals=removals)
    org = Org(stage)

    def lost(request: Any) -> None:
        if request.method == "POST" and "/opportunities.json" in request.url:
            raise requests.ReadTimeout(request=request)

    stage.tick()
    stage.marketo_wire.after = lost
    stage.deliver()
    stage.marketo_wire.after = None
    assert set(stage.opportunities()) == {org.deal}
    if gone == "won":
        stage.edit("win", id=org.deal)
    else:
        org.delete("opportunity", org.deal)
    stage.sync()

    found = stage.opportunities()
    assert [row["nextStep"] for row in found.values()] == (["left"] if policy == "flag" else [])
