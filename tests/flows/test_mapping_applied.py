"""A mapping that changes while it runs, and columns and fields that go and come back under it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from sync_core.errors import SyncError, Unavailable
from sync_core.flows.applied import backfill
from sync_core.flows.status import problems, status
from sync_core.messages import decode
from sync_core.model import Lane, State, Work
from tests.flows.mapped import (
    a_stage,
    add_column,
    add_field,
    assert_still,
    journal,
    mapping_of,
    records_sent,
    remap,
    remove_column,
    remove_field,
    rest,
    shown,
)
from tests.flows.org import Org
from tests.flows.test_changes import state_of
from tests.flows.test_invariants import messages
from tests.stage import Stage

NEXT_STEP = 'nextStep = "stepname"'
MANUAL = ('apply_mapping = "manual"',)


def crowd(stage: Stage, org: Org, number: int = 10, **values: Any) -> list[str]:
    """So many deals more, the even ones with *values*."""
    return [org.opportunity(f"Deal {n}", account=org.acme, **(values if n % 2 == 0 else {})) for n in range(number)]


def calmly(stage: Stage, hours: int = 2, ticks: int = 6) -> None:
    """So many ticks an hour, and what they queue, whatever goes wrong on the way."""
    for _ in range(hours * ticks):
        with suppress(SyncError):
            stage.tick()
        stage.drain()
        stage.clock.sleep(3600 / ticks)


def busily(stage: Stage, org: Org, hours: int = 3) -> None:
    """The same while people work: every hour somebody saves the account and the deal, without mapped content."""
    for hour in range(hours):
        org.update("account", org.acme, telephone2=str(hour))
        org.update("opportunity", org.deal, qualificationcomments=str(hour))
        calmly(stage, 1)


# --- a field added to sync.toml -------------------------------------------------------------------------------------


def test_a_new_field_is_read_in_the_slow_lane_and_only_changed_content_is_posted() -> None:
    stage = a_stage()
    org = Org(stage)
    deals = crowd(stage, org, stepname="Propose")
    stage.sync()
    assert mapping_of(stage)["number"] == 1
    assert mapping_of(stage)["new fields"] == []
    before = journal(stage)

    stage.clock.sleep(3600)  # what changed in the last minutes is looked at in the fresh lane as well
    remap(stage, opportunity=[NEXT_STEP])
    stage.tick()
    assert stage.world.queue.lengths()[Lane.FRESH] == 0
    assert stage.world.queue.lengths()[Lane.SLOW] > 0
    stage.sync()

    assert records_sent(stage, before) == 5
    assert {shown(stage, deal)["nextStep"] for deal in deals} == {"Propose", None}
    found = mapping_of(stage)
    assert (found["number"], found["new fields"]) == (2, ["opportunity.nextStep"])
    assert_still(stage)


def test_status_says_what_a_new_mapping_will_cost() -> None:
    stage = a_stage(sync=MANUAL)
    org = Org(stage)
    crowd(stage, org)
    stage.sync()
    remap(stage, opportunity=[NEXT_STEP], sync=MANUAL)
    stage.tick()
    found = mapping_of(stage)
    assert found["number"] == 2
    assert found["new fields"] == ["opportunity.nextStep"]
    assert found["records to re-read"] == 11
    assert found["Marketo calls at most"] == 2
    assert found["minutes at most"] == 1
    assert found["waits for"] == "backfill"


def test_while_it_is_applied_status_says_how_much_there_is_to_do() -> None:
    stage = a_stage(page_size=2)
    org = Org(stage)
    crowd(stage, org)
    stage.sync()
    remap(stage, opportunity=[NEXT_STEP])
    stage.tick()
    assert mapping_of(stage)["number"] == 2
    assert "records to re-read" in mapping_of(stage)
    stage.sync()
    assert "records to re-read" not in mapping_of(stage)


def test_while_the_slow_lane_applies_it_status_says_how_much_there_is_to_do() -> None:
    stage = a_stage()
    org = Org(stage)
    crowd(stage, org)
    stage.sync()
    remap(stage, opportunity=[NEXT_STEP])
    assert stage.tick().complete
    summary = "mapping v2: 1 field new, 11 records to re-read, at most 2 calls, 1 minute"
    assert mapping_of(stage)["summary"] == summary
    stage.drain()
    stage.tick()
    assert "summary" not in mapping_of(stage)
    stage.world.queue.put(Work((org.deal,), lane=Lane.SLOW))
    assert "summary" not in mapping_of(stage)


def test_a_changed_line_counts_as_new_and_a_comment_does_not() -> None:
    stage = a_stage()
    Org(stage)
    stage.sync()
    remap(stage, "# nothing but words\n")
    stage.sync()
    assert mapping_of(stage)["number"] == 1
    remap(stage, opportunity=['description = "customerneed"'], company=['site = "name"'])
    stage.sync()
    found = mapping_of(stage)
    assert (found["number"], found["new fields"]) == (2, ["company.site", "opportunity.description"])


def test_a_new_field_of_the_company_is_posted_for_those_that_have_content() -> None:
    stage = a_stage()
    org = Org(stage)
    org.opportunity("Bolt's", account=org.bolt)
    org.update("account", org.acme, tickersymbol="ACME")
    stage.sync()
    before = journal(stage)
    remap(stage, company=['site = "tickersymbol"'])
    stage.sync()
    assert shown(stage, org.acme, "companies")["site"] == "ACME"
    assert records_sent(stage, before) == 1
    assert_still(stage)


def test_manual_waits_for_backfill() -> None:
    stage = a_stage(sync=MANUAL)
    org = Org(stage)
    other = org.opportunity("Other", account=org.acme, stepname="Propose")
    org.update("opportunity", org.deal, stepname="Close")
    stage.sync()
    remap(stage, opportunity=[NEXT_STEP], sync=MANUAL)
    before = stage.writes()
    stage.sync()
    assert stage.writes() == before
    org.update("opportunity", org.deal, name="Touched")
    stage.sync()
    assert shown(stage, org.deal)["nextStep"] == "Close"  # what is touched follows the mapping of today
    assert shown(stage, other)["nextStep"] is None
    backfill(stage.world)
    stage.sync()
    assert shown(stage, other)["nextStep"] == "Propose"
    assert "waits for" not in mapping_of(stage)
    assert_still(stage)


def test_backfill_asked_for_before_the_first_tick_of_a_manual_mapping_is_not_forgotten() -> None:
    stage = a_stage(sync=MANUAL)
    org = Org(stage)
    org.update("opportunity", org.deal, stepname="Close")
    stage.sync()
    remap(stage, opportunity=[NEXT_STEP], sync=MANUAL)
    backfill(stage.world)
    stage.sync()
    assert shown(stage, org.deal)["nextStep"] == "Close"
    assert "waits for" not in mapping_of(stage)


# --- a field taken out ----------------------------------------------------------------------------------------------


def with_next_step() -> tuple[Stage, Org]:
    stage = a_stage(opportunity=[NEXT_STEP])
    org = Org(stage)
    org.update("opportunity", org.deal, stepname="Propose")
    org.opportunity("Empty", account=org.acme)
    stage.sync()
    return stage, org


def test_a_field_taken_out_stays_as_it_is() -> None:
    stage, org = with_next_step()
    before = stage.writes()
    remap(stage)
    org.update("opportunity", org.deal, stepname="Close")
    stage.sync()
    assert stage.writes() == before
    assert shown(stage, org.deal)["nextStep"] == "Propose"
    org.update("opportunity", org.deal, name="Touched")
    stage.sync()
    assert shown(stage, org.deal)["nextStep"] == "Propose"
    assert_still(stage)


def test_a_field_put_back_is_posted_where_its_content_changed() -> None:
    stage, org = with_next_step()
    remap(stage)
    org.update("opportunity", org.deal, name="Renamed meanwhile")
    stage.sync()
    before = stage.writes()
    remap(stage, opportunity=[NEXT_STEP])
    stage.sync()
    assert stage.writes() == before
    org.update("opportunity", org.deal, stepname="Close")
    stage.sync()
    assert shown(stage, org.deal)["nextStep"] == "Close"


def test_backfill_empties_a_field_that_is_no_longer_mapped() -> None:
    stage, org = with_next_step()
    remap(stage)
    stage.sync()
    before = journal(stage)
    backfill(stage.world, ["opportunity.nextStep"])
    stage.sync()
    assert shown(stage, org.deal)["nextStep"] is None
    assert records_sent(stage, before) == 1
    assert_still(stage)


def test_backfill_empties_no_field_that_is_mapped() -> None:
    stage, org = with_next_step()
    before = stage.writes()
    backfill(stage.world, ["opportunity.nextStep"])
    stage.sync()
    assert shown(stage, org.deal)["nextStep"] == "Propose"
    assert stage.writes() == before


def test_what_was_emptied_once_is_not_emptied_when_it_was_mapped_again_and_taken_out_again() -> None:
    stage, org = with_next_step()
    remap(stage)
    backfill(stage.world, ["opportunity.nextStep"])
    stage.sync()
    remap(stage, opportunity=[NEXT_STEP])
    stage.sync()
    assert shown(stage, org.deal)["nextStep"] == "Propose"
    remap(stage)
    stage.sync()
    assert shown(stage, org.deal)["nextStep"] == "Propose"


def test_backfill_of_a_field_that_marketo_no_longer_has_stops_nobody() -> None:
    stage = a_stage(opportunity=['mine__c = "stepname"'])
    add_field(stage, "mine__c")
    org = Org(stage)
    org.update("opportunity", org.deal, stepname="Propose")
    stage.sync()
    remap(stage)
    stage.sync()
    remove_field(stage, "mine__c")
    backfill(stage.world, ["opportunity.mine__c"])
    org.update("opportunity", org.deal, name="Renamed")
    calmly(stage)
    assert shown(stage, org.deal)["name"] == "Renamed"
    assert state_of(stage, org.deal)[0] is State.IN_STEP


def test_backfill_without_a_change_writes_nothing() -> None:
    stage, _ = with_next_step()
    before = stage.writes()
    backfill(stage.world)
    stage.sync()
    assert stage.writes() == before


def test_the_same_backfill_twice_is_one() -> None:
    stage, org = with_next_step()
    remap(stage)
    stage.sync()
    backfill(stage.world, ["opportunity.nextStep"])
    backfill(stage.world, ["opportunity.nextStep"])
    stage.sync()
    assert shown(stage, org.deal)["nextStep"] is None
    before = stage.writes()
    stage.sync()
    assert stage.writes() == before


# --- a column that goes and comes back ------------------------------------------------------------------------------


def with_custom() -> tuple[Stage, Org, list[str]]:
    stage = a_stage(opportunity=['mine__c = "new_mine"'])
    add_column(stage, "new_mine", "string")
    add_field(stage, "mine__c")
    org = Org(stage)
    deals = crowd(stage, org, 6, new_mine="value")
    stage.sync()
    return stage, org, deals


def left_alone(stage: Stage) -> dict[str, str]:
    return dict(mapping_of(stage).get("left alone", {}))


def test_a_deleted_column_is_left_alone_at_once_and_the_rest_goes_on() -> None:
    stage, org, deals = with_custom()
    remove_column(stage, "new_mine")
    org.update("opportunity", org.deal, name="Renamed")
    stage.tick()
    outcomes = stage.drain()
    assert [outcome.trouble for outcome in outcomes if outcome.trouble] == []
    assert shown(stage, org.deal)["name"] == "Renamed"
    assert shown(stage, deals[0])["mine__c"] == "value"
    assert left_alone(stage) == {"opportunity.mine__c": "Dynamics has no column new_mine"}


def test_a_deleted_column_is_told_and_the_rest_goes_on() -> None:
    stage, org, deals = with_custom()
    remove_column(stage, "new_mine")
    org.update("opportunity", org.deal, name="Renamed")
    calmly(stage)
    assert shown(stage, org.deal)["name"] == "Renamed"
    assert shown(stage, deals[0])["mine__c"] == "value"
    assert left_alone(stage) == {"opportunity.mine__c": "Dynamics has no column new_mine"}
    assert any("opportunity.mine__c is left alone" in text for text in problems(status(stage.world)))
    assert_still(stage)


def test_a_column_added_back_is_followed_by_itself_and_only_changes_are_posted() -> None:
    stage, org, deals = with_custom()
    remove_column(stage, "new_mine")
    calmly(stage)
    add_column(stage, "new_mine", "string")
    stage.load(
        opportunity=[
            {"opportunityid": deal, "new_mine": "other" if n == 0 else "value"} for n, deal in enumerate(deals)
        ]
    )
    before = journal(stage)
    busily(stage, org)
    assert left_alone(stage) == {}
    assert shown(stage, deals[0])["mine__c"] == "other"
    assert_still(stage)
    changed = 1 + 3  # one other value; three had none before
    assert records_sent(stage, before) == changed


@pytest.mark.parametrize("kind", ["datetime", "lookup", "int"])
def test_a_retyped_column_is_left_alone_and_back_again(kind: str) -> None:
    stage = a_stage(opportunity=['mine__c = "new_mine"'])
    add_column(stage, "new_mine", "money")
    add_field(stage, "mine__c", "currency" if kind != "int" else "date")
    org = Org(stage)
    org.update("opportunity", org.deal, new_mine=5.0)
    right = {"datetime": "money", "lookup": "money", "int": "date"}[kind]
    if kind == "int":
        remove_column(stage, "new_mine")
        add_column(stage, "new_mine", right)
        stage.clock.sleep(3700)
    stage.sync()
    remove_column(stage, "new_mine")
    add_column(stage, "new_mine", kind, targets=["account"] if kind == "lookup" else [])
    org.update("opportunity", org.deal, name="Renamed")
    busily(stage, org)
    assert shown(stage, org.deal)["name"] == "Renamed"
    assert set(left_alone(stage)) == {"opportunity.mine__c"}
    assert state_of(stage, org.deal)[0] is State.IN_STEP
    assert_still(stage)
    remove_column(stage, "new_mine")
    add_column(stage, "new_mine", right)
    busily(stage, org)
    assert left_alone(stage) == {}


def test_a_retyped_column_of_first_of_parks_nobody() -> None:
    stage = a_stage(opportunity=['closeDate = { first_of = ["new_mine", "estimatedclosedate"] }'])
    add_column(stage, "new_mine", "date")
    org = Org(stage)
    stage.sync()
    remove_column(stage, "new_mine")
    add_column(stage, "new_mine", "money")
    org.update("opportunity", org.deal, new_mine=5.0, name="Renamed")
    busily(stage, org)
    assert shown(stage, org.deal)["name"] == "Renamed"
    assert set(left_alone(stage)) == {"opportunity.closeDate"}


def test_a_column_of_the_account_that_went_is_left_alone_and_comes_back_unposted() -> None:
    stage = a_stage(company=['site = "new_mine"'])
    add_column(stage, "new_mine", "string", "account")
    org = Org(stage)
    org.update("account", org.acme, new_mine="value")
    stage.sync()
    rows = [{"accountid": org.acme, "new_mine": "value"}]
    remove_column(stage, "new_mine", "account")
    org.update("account", org.acme, websiteurl="https://acme.example.test")
    busily(stage, org)
    found = shown(stage, org.acme, "companies")
    assert (found["site"], found["website"]) == ("value", "https://acme.example.test")
    assert set(left_alone(stage)) == {"company.site"}
    assert_still(stage)
    add_column(stage, "new_mine", "string", "account")
    stage.load(account=rows)
    before = journal(stage)
    busily(stage, org)
    assert left_alone(stage) == {}
    assert records_sent(stage, before) == 0


# --- a field that Marketo no longer has -----------------------------------------------------------------------------


def test_a_field_removed_in_marketo_is_left_alone_and_the_rest_goes_on() -> None:
    stage, org, deals = with_custom()
    remove_field(stage, "mine__c")
    org.update("opportunity", org.deal, name="Renamed")
    org.update("opportunity", deals[0], new_mine="other")
    calmly(stage)
    assert shown(stage, org.deal)["name"] == "Renamed"
    assert set(left_alone(stage)) == {"opportunity.mine__c"}
    assert {state_of(stage, deal)[0] for deal in (org.deal, *deals)} == {State.IN_STEP}
    assert_still(stage)


def test_a_field_back_in_marketo_is_filled_by_itself_in_a_busy_org() -> None:
    stage, org, deals = with_custom()
    remove_field(stage, "mine__c")
    org.update("opportunity", org.deal, name="Renamed")
    org.update("opportunity", deals[0], new_mine="other")
    calmly(stage)
    add_field(stage, "mine__c")
    stage.clock.sleep(25 * 3600)
    org.update("opportunity", org.deal, name="Again")
    calmly(stage)
    assert shown(stage, deals[0])["mine__c"] == "other"
    assert left_alone(stage) == {}
    assert_still(stage)


def test_what_is_back_is_noticed_where_nothing_changes() -> None:
    """A field of Marketo and a column of the account; nobody saves anything meanwhile."""
    stage = a_stage(opportunity=['mine__c = "new_mine"'], company=['site = "new_site"'])
    add_column(stage, "new_mine", "string")
    add_column(stage, "new_site", "string", "account")
    org = Org(stage)
    org.update("opportunity", org.deal, new_mine="mine")
    org.update("account", org.acme, new_site="there")
    rows = [{"accountid": org.acme, "new_site": "there"}]
    remove_column(stage, "new_site", "account")
    stage.sync()
    assert set(left_alone(stage)) == {"opportunity.mine__c", "company.site"}
    add_field(stage, "mine__c")
    add_column(stage, "new_site", "string", "account")
    stage.load(account=rows)
    before = journal(stage)

    calmly(stage, 26)

    assert left_alone(stage) == {}
    assert (shown(stage, org.deal)["mine__c"], shown(stage, org.acme, "companies")["site"]) == ("mine", "there")
    assert records_sent(stage, before) == 2


def test_a_new_field_that_marketo_gets_later_is_filled_then() -> None:
    """sync.toml was deployed first, and Marketo's support made the field a day later."""
    stage = a_stage(opportunity=['mine__c = "stepname"'])
    org = Org(stage)
    org.update("opportunity", org.deal, stepname="Propose")
    stage.sync()
    assert set(left_alone(stage)) == {"opportunity.mine__c"}
    add_field(stage, "mine__c")
    stage.clock.sleep(25 * 3600)
    org.opportunity("New", account=org.acme)
    calmly(stage)
    assert shown(stage, org.deal)["mine__c"] == "Propose"


def test_a_line_taken_out_while_it_is_left_alone_applies_no_mapping_that_waits() -> None:
    stage = a_stage(opportunity=['bogus__c = "name"'], sync=MANUAL)
    org = Org(stage)
    deals = crowd(stage, org, 10, stepname="Propose")
    stage.sync()
    remap(stage, opportunity=[NEXT_STEP], sync=MANUAL)
    org.update("opportunity", deals[0], name="Touched")
    calmly(stage)
    assert shown(stage, deals[0])["nextStep"] == "Propose"
    assert {shown(stage, deal)["nextStep"] for deal in deals[1:9]} == {None}
    assert (mapping_of(stage)["waits for"], left_alone(stage)) == ("backfill", {})


@pytest.mark.parametrize("mend", ["the line", "the policy", "the field"])
def test_a_field_of_created_people_that_was_left_alone_is_so_no_more(mend: str) -> None:
    create = 'when_missing = "create"'
    stage = a_stage(people=[create, 'fields = { lastName = "lastname", bogus__c = "jobtitle" }'])
    org = Org(stage)
    org.stakeholder(org.contact("new@acme.invalid"))
    stage.sync()
    assert set(left_alone(stage)) == {"people.bogus__c"}
    if mend == "the field":
        add_field(stage, "bogus__c", kind="leads")
    else:
        remap(stage, people=[create] if mend == "the line" else ['when_missing = "wait"'])
    before = journal(stage)
    calmly(stage, 26)
    assert left_alone(stage) == {}
    assert records_sent(stage, before) == 0


def test_a_line_taken_out_while_it_is_left_alone_is_no_problem_any_more() -> None:
    stage, _, _ = with_custom()
    remove_column(stage, "new_mine")
    calmly(stage)
    remap(stage)
    stage.sync()
    assert left_alone(stage) == {}
    rest(stage)
    assert problems(status(stage.world)) == []


@pytest.mark.parametrize("asked", ["backfill", "mapping"])
def test_a_tick_that_dies_before_everything_is_queued_again_is_repeated(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = a_stage()
    org = Org(stage)
    stage.sync()
    if asked == "backfill":
        backfill(stage.world)
    else:
        remap(stage, opportunity=[NEXT_STEP])
    put = stage.world.queue.put

    def fail(work: Work, **_: Any) -> None:
        raise Unavailable("storage")

    monkeypatch.setattr(stage.world.queue, "put", fail)
    with pytest.raises(Unavailable):
        stage.tick()
    monkeypatch.setattr(stage.world.queue, "put", put)
    stage.clock.sleep(3600)
    stage.tick()

    queued = {key for message in stage.world.queue.queues[Lane.SLOW] for key in decode(message.body).opportunities}
    assert queued >= {org.deal}


def test_a_backfill_is_not_lost_to_a_tick_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as `backfill` and `sync` on the command line while the timer's tick is under way."""
    stage = a_stage()
    org = Org(stage)
    stage.sync()
    stage.clock.sleep(3600)
    changes, others = stage.world.source.changes, [stage.variant()]

    def meanwhile(table: str, link: str | None) -> Any:
        if table == "contact" and others:
            others.pop().detect()
            backfill(stage.world)
        return changes(table, link)

    monkeypatch.setattr(stage.world.source, "changes", meanwhile)
    with pytest.raises(Unavailable):
        stage.tick()
    stage.tick()

    assert org.deal in {key for lane in Lane for work in messages(stage, lane) for key in work.opportunities}
