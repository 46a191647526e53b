"""Who a contact is in Marketo: rules in order, several matches, created if wanted, linked to companies if wanted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from sync_core.errors import ConfigurationError
from sync_core.flows.status import status
from sync_core.mapping import parse
from sync_core.messages import encode
from sync_core.model import Lane, State, Work
from tests.flows.mapped import a_stage, add_column, add_field, assert_still, remap, rest, shown
from tests.flows.org import Org, lookup
from tests.flows.test_changes import state_of
from tests.stage import LEASE, Stage
from tools.emulators.marketo.leads import COMPANY_FIELDS

CREATE = 'when_missing = "create"'
TWO_RULES = (
    'match = [{ marketo = "externalPersonId", dataverse = "contactid" }, '
    '{ marketo = "email", dataverse = "emailaddress1" }]'
)


def scene(*people: str, rules: str = "", **lines: tuple[str, ...]) -> tuple[Stage, Org]:
    stage = a_stage(rules, people=people, **lines)
    add_field(stage, "externalPersonId", kind="leads")
    return stage, Org(stage)


def person(stage: Stage, **values: Any) -> int:
    return int(stage.marketo.load({"leads": [values]})["leads"][0])


def leads(stage: Stage, email: str) -> list[Mapping[str, Any]]:
    return [row for row in stage.marketo.rows("leads") if str(row["email"]).lower() == email]


def of_deal(stage: Stage, deal: str) -> set[int]:
    return {lead for _, lead, _ in stage.roles(deal)}


def lead_writes(stage: Stage) -> list[dict[str, Any]]:
    return [c for c in stage.marketo.journal.since(0) if c["kind"] == "write" and c["path"].endswith("leads.json")]


def is_write_of_people(request: requests.PreparedRequest) -> bool:
    url = urlsplit(str(request.url))
    return request.method == "POST" and url.path.endswith("/leads.json") and "_method=GET" not in url.query


# --- match rules in order -------------------------------------------------------------------------------------------


def test_the_first_rule_that_finds_somebody_decides() -> None:
    stage, org = scene(TWO_RULES)
    known = person(stage, email="other@acme.invalid", externalPersonId=org.ann)
    org.stakeholder(org.ann)
    org.stakeholder(org.bob)
    stage.sync()
    assert of_deal(stage, org.deal) == {known, org.lead_bob}
    assert_still(stage, hours=25)


def test_the_second_rule_is_asked_only_for_whom_the_first_did_not_find() -> None:
    stage, org = scene(TWO_RULES)
    person(stage, externalPersonId=org.ann)
    for contact in (org.ann, org.bob, org.cid):
        org.stakeholder(contact)
    stage.sync()
    asked = [call["filter_values"] for call in stage.marketo.journal.since(0) if call["path"].endswith("leads.json")]
    assert asked == [3, 2]


def test_somebody_without_an_address_is_found_by_another_rule() -> None:
    stage, org = scene(TWO_RULES)
    eve = org.contact(None, org.acme)
    lead = person(stage, externalPersonId=eve)
    org.stakeholder(eve)
    stage.sync()
    assert of_deal(stage, org.deal) == {lead}


def test_keys_are_matched_whatever_their_case() -> None:
    stage, org = scene(TWO_RULES)
    lead = person(stage, externalPersonId=org.ann.upper())
    upper = person(stage, email="Mixed@Acme.INVALID")
    mixed = org.contact("mIXED@acme.invalid", org.acme)
    org.stakeholder(org.ann)
    org.stakeholder(mixed)
    stage.sync()
    assert of_deal(stage, org.deal) == {lead, upper}


def test_two_contacts_with_one_address_are_one_person() -> None:
    stage, org = scene(TWO_RULES)
    twin = org.contact("ANN@acme.invalid", org.acme)
    org.stakeholder(org.ann)
    org.stakeholder(twin)
    stage.sync()
    assert stage.roles() == {(org.deal, org.lead_ann, "Decision Maker")}


def test_another_order_of_rules_counts_at_once() -> None:
    """A person's id is remembered for a day: not under other rules."""
    stage, org = scene()
    org.stakeholder(org.ann)
    stage.sync()
    assert of_deal(stage, org.deal) == {org.lead_ann}
    known = person(stage, email="other@acme.invalid", externalPersonId=org.ann)
    remap(stage, people=[TWO_RULES])
    rest(stage)
    assert of_deal(stage, org.deal) == {known}


def test_other_columns_of_the_contact_may_match() -> None:
    stage, org = scene('match = [{ marketo = "email", dataverse = "emailaddress2" }]')
    org.update("contact", org.ann, emailaddress2="bob@acme.invalid")
    org.stakeholder(org.ann)
    stage.sync()
    assert of_deal(stage, org.deal) == {org.lead_bob}


def test_a_match_column_that_dynamics_lacks_is_named() -> None:
    stage, org = scene('match = [{ marketo = "email", dataverse = "new_mail" }]')
    org.stakeholder(org.ann)
    stage.tick()
    outcome = stage.deliver()
    assert outcome is not None
    assert "new_mail" in str(outcome.trouble)
    assert stage.writes() == 0


# --- several --------------------------------------------------------------------------------------------------------


def twins(stage: Stage, org: Org) -> int:
    """A second Ann, changed later."""
    stage.clock.sleep(60)
    younger = person(stage, email="ann@acme.invalid")
    org.stakeholder(org.ann)
    return younger


@pytest.mark.parametrize("several", ["most_recent", "oldest"])
def test_of_several_one_counts(several: str) -> None:
    stage, org = scene(f'several = "{several}"')
    younger = twins(stage, org)
    stage.sync()
    assert of_deal(stage, org.deal) == {younger if several == "most_recent" else org.lead_ann}
    assert_still(stage)


def test_several_are_parked_until_one_is_left() -> None:
    stage, org = scene('several = "park"')
    younger = twins(stage, org)
    org.stakeholder(org.bob)
    stage.sync()
    assert of_deal(stage, org.deal) == {org.lead_bob}
    state, reason = state_of(stage, org.deal)
    assert state is State.PARKED
    assert reason.startswith("people: 1 of several")
    assert org.ann not in reason
    assert_still(stage, hours=25)
    stage.marketo.edit({"op": "merge-leads", "winner": younger, "losers": [org.lead_ann]})
    org.update("opportunity", org.deal, name="Touched")
    stage.sync()
    assert of_deal(stage, org.deal) == {org.lead_bob, younger}
    assert state_of(stage, org.deal) == (State.IN_STEP, "")


def test_parking_loses_no_role_that_was_there() -> None:
    """Somebody became two in Marketo: until a person decided, the role that is there stays."""
    stage, org = scene('several = "park"')
    org.stakeholder(org.ann)
    stage.sync()
    stage.clock.sleep(25 * 3600)
    person(stage, email="ann@acme.invalid")
    org.update("opportunity", org.deal, name="Touched")
    stage.sync()
    assert state_of(stage, org.deal)[0] is State.PARKED
    assert of_deal(stage, org.deal) == {org.lead_ann}


def test_a_changed_choice_of_several_counts_at_once() -> None:
    stage, org = scene('several = "most_recent"')
    younger = twins(stage, org)
    stage.sync()
    assert of_deal(stage, org.deal) == {younger}
    remap(stage, people=['several = "oldest"'])
    stage.sync()
    assert org.lead_ann in of_deal(stage, org.deal)


# --- when_missing = create ------------------------------------------------------------------------------------------


def newcomer(org: Org, email: str | None = "eve@acme.invalid", account: str | None = None, **values: Any) -> str:
    row = {"firstname": "Eve", "lastname": "New", "jobtitle": "CEO", **values}
    return org.contact(email, account or org.acme, **row)


def test_a_missing_person_is_created_with_name_fields_and_company() -> None:
    stage = a_stage('[people.fields]\nfirstName = "firstname"\ntitle = "jobtitle"\n', people=(CREATE,))
    org = Org(stage)
    org.stakeholder(newcomer(org, " Eve@Acme.invalid "))
    stage.sync()
    (eve,) = leads(stage, "eve@acme.invalid")
    assert (eve["firstName"], eve["title"], eve["lastName"]) == ("Eve", "CEO", None)
    assert eve["externalCompanyId"] == org.acme
    assert of_deal(stage, org.deal) == {eve["id"]}
    assert state_of(stage, org.deal) == (State.IN_STEP, "")
    assert_still(stage)
    assert_still(stage, hours=25)


def test_created_people_get_first_and_last_name_by_default() -> None:
    stage, org = scene(CREATE)
    org.stakeholder(newcomer(org))
    stage.sync()
    (eve,) = leads(stage, "eve@acme.invalid")
    assert (eve["firstName"], eve["lastName"]) == ("Eve", "New")


def test_the_key_of_another_rule_is_written_as_well() -> None:
    stage, org = scene(TWO_RULES, CREATE)
    eve = newcomer(org)
    org.stakeholder(eve)
    stage.sync()
    assert leads(stage, "eve@acme.invalid")[0]["externalPersonId"] == eve


def test_the_partition_is_named() -> None:
    stage, org = scene(CREATE, 'partition = "Sales"')
    sent: list[Mapping[str, Any]] = []
    stage.marketo_wire.fault = lambda request: (
        sent.append(json.loads(request.body or b"{}")) if is_write_of_people(request) else None
    )
    org.stakeholder(newcomer(org))
    stage.sync()
    assert [(body["partitionName"], body["action"]) for body in sent] == [("Sales", "createOnly")]


def test_exactly_one_person_though_many_opportunities_name_it() -> None:
    stage, org = scene(CREATE, sync=("fresh_max = 1",))
    eve = newcomer(org)
    twin = newcomer(org, "EVE@acme.invalid")
    deals = [org.opportunity(f"Deal {number}", account=org.acme) for number in range(25)]
    for number, deal in enumerate(deals):
        org.stakeholder(eve if number % 2 else twin, opportunity=deal)
    for deal in deals:  # each on its own: many deliveries
        stage.world.queue.put(Work(opportunities=(deal,)))
    stage.sync()
    (lead,) = leads(stage, "eve@acme.invalid")
    assert all(of_deal(stage, deal) == {lead["id"]} for deal in deals)
    assert len(lead_writes(stage)) == 1
    assert_still(stage)


def test_two_newcomers_with_one_address_are_one_person_at_once() -> None:
    stage, org = scene(CREATE)
    org.stakeholder(newcomer(org))
    org.stakeholder(newcomer(org, "EVE@acme.invalid"), "Champion")
    stage.tick()
    stage.deliver()
    (lead,) = leads(stage, "eve@acme.invalid")
    assert {role for _, _, role in stage.roles()} == {"Decision Maker", "Champion"}
    assert of_deal(stage, org.deal) == {lead["id"]}
    assert state_of(stage, org.deal) == (State.IN_STEP, "")
    assert len(lead_writes(stage)) == 1


def during_the_creation(stage: Stage, act: Callable[[], None]) -> None:
    """Once, just before Marketo gets the first creation."""
    done: list[bool] = []

    def fault(request: requests.PreparedRequest) -> None:
        if is_write_of_people(request) and not done:
            done.append(True)
            act()

    stage.marketo_wire.fault = fault


def test_two_workers_at_once_make_one_person() -> None:
    stage, org = scene(CREATE)
    eve = newcomer(org)
    other = org.opportunity("Other", account=org.acme)
    for deal in (org.deal, other):
        org.stakeholder(eve, opportunity=deal)

    def second_worker() -> None:
        work = encode(Work(opportunities=(other,)))
        stage.variant().deliver(work, dequeue_count=1, lease_ends=stage.clock.now() + LEASE, lane=Lane.FRESH)

    during_the_creation(stage, second_worker)
    stage.sync()
    assert state_of(stage, other)[0] in (State.WAITING, State.IN_STEP)
    stage.clock.sleep(3600)
    stage.sync()
    (lead,) = leads(stage, "eve@acme.invalid")
    assert of_deal(stage, org.deal) == of_deal(stage, other) == {lead["id"]}
    assert {state_of(stage, deal)[0] for deal in (org.deal, other)} == {State.IN_STEP}
    assert len(lead_writes(stage)) == 1


@pytest.mark.parametrize("lost", ["question", "answer"])
def test_a_lost_creation_makes_one_person(lost: str) -> None:
    stage, org = scene(CREATE)
    org.stakeholder(newcomer(org))
    left = [1]

    def lose(request: requests.PreparedRequest) -> None:
        if is_write_of_people(request) and left[0]:
            left[0] -= 1
            raise requests.ReadTimeout(request=request)

    setattr(stage.marketo_wire, "fault" if lost == "question" else "after", lose)
    stage.sync()
    stage.clock.sleep(3600)
    stage.sync()
    (lead,) = leads(stage, "eve@acme.invalid")
    assert of_deal(stage, org.deal) == {lead["id"]}
    assert state_of(stage, org.deal) == (State.IN_STEP, "")


def test_a_late_creation_makes_one_person() -> None:
    """Marketo gets round to what it was sent shortly before it is believed lost."""
    stage, org = scene(CREATE)
    org.stakeholder(newcomer(org))
    late: list[requests.PreparedRequest] = []

    def lose(request: requests.PreparedRequest) -> None:
        if is_write_of_people(request) and not late:
            late.append(request)
            raise requests.ReadTimeout(request=request)

    stage.marketo_wire.fault = lose
    stage.tick()
    stage.deliver()
    stage.clock.sleep(80)
    stage.marketo_wire.send(late[0])
    stage.sync()
    stage.clock.sleep(3600)
    stage.sync()
    assert len(leads(stage, "eve@acme.invalid")) == 1
    assert state_of(stage, org.deal) == (State.IN_STEP, "")


def test_somebody_else_creates_the_person_meanwhile() -> None:
    """createOnly answers 1005; the person is then looked up as any other."""
    stage, org = scene(CREATE)
    org.stakeholder(newcomer(org))
    made: list[int] = []
    during_the_creation(stage, lambda: made.append(person(stage, email="eve@acme.invalid", lastName="Form")))
    stage.sync()
    stage.clock.sleep(3600)
    stage.sync()
    (lead,) = leads(stage, "eve@acme.invalid")
    assert (lead["id"], lead["lastName"]) == (made[0], "Form")
    assert of_deal(stage, org.deal) == set(made)
    assert state_of(stage, org.deal) == (State.IN_STEP, "")


def test_a_refused_person_holds_up_only_its_own_role() -> None:
    stage = a_stage('[people.fields]\nleadScore = "new_score"\n', people=(CREATE,))
    add_column(stage, "new_score", "string", "contact")
    org = Org(stage)
    org.stakeholder(newcomer(org, new_score="very high"))
    org.stakeholder(newcomer(org, "fay@acme.invalid", new_score="7"), "Champion")
    stage.sync()
    (fay,) = leads(stage, "fay@acme.invalid")
    assert fay["leadScore"] == 7
    assert leads(stage, "eve@acme.invalid") == []
    assert of_deal(stage, org.deal) == {fay["id"]}
    state, reason = state_of(stage, org.deal)
    assert state in (State.WAITING, State.PARKED)
    assert "leadScore" in reason
    assert "very high" not in reason
    assert_still(stage)


def test_a_person_that_marketo_refuses_blames_nobody_else() -> None:
    """`eve@acme` is an address to us and none to Marketo (1003)."""
    stage, org = scene(CREATE)
    org.stakeholder(newcomer(org, "eve@acme"))
    org.stakeholder(newcomer(org, "fay@acme.invalid"), "Champion")
    stage.sync()
    (fay,) = leads(stage, "fay@acme.invalid")
    assert of_deal(stage, org.deal) == {fay["id"]}
    state, reason = state_of(stage, org.deal)
    assert state in (State.WAITING, State.PARKED)
    assert reason.startswith("people: 1003")
    assert "eve" not in reason


def test_a_refused_person_is_not_sent_again_and_again() -> None:
    """What Marketo refuses until it changes is not tried again with every other change of the opportunity."""
    stage, org = scene(CREATE)
    org.stakeholder(newcomer(org, "eve@acme"))
    stage.sync()
    before = len(lead_writes(stage))
    for number in range(5):
        org.update("opportunity", org.deal, name=f"Name {number}")
        stage.sync()
    assert len(lead_writes(stage)) <= before + 1


@pytest.mark.parametrize("rules", [(), (TWO_RULES,)])
def test_nobody_is_created_without_an_address(rules: tuple[str, ...]) -> None:
    stage, org = scene(CREATE, *rules)
    org.stakeholder(newcomer(org, None))
    before = len(stage.marketo.rows("leads"))
    stage.sync()
    assert len(stage.marketo.rows("leads")) == before
    assert org.deal in stage.opportunities()
    assert_still(stage)


def test_nobody_is_created_for_an_opportunity_outside_the_filter() -> None:
    stage, org = scene(CREATE, rules='[[filter.rule]]\ncolumn = "name"\nnot_in = ["Deal"]\n')
    org.stakeholder(newcomer(org))
    stage.sync()
    assert leads(stage, "eve@acme.invalid") == []


def test_nobody_is_created_for_an_opportunity_that_is_refused() -> None:
    stage, org = scene(CREATE, opportunity=('fiscalYear = "description"',))
    org.update("opportunity", org.deal, description="next year")
    org.stakeholder(newcomer(org))
    stage.sync()
    assert state_of(stage, org.deal)[0] is State.PARKED
    assert leads(stage, "eve@acme.invalid") == []


def test_a_created_person_without_an_account_has_no_company() -> None:
    stage, org = scene(CREATE)
    eve = org.contact("eve@home.invalid", None, lastname="New")
    org.stakeholder(eve)
    stage.sync()
    assert leads(stage, "eve@home.invalid")[0]["externalCompanyId"] is None


def test_the_company_of_a_created_person_is_in_marketo_first() -> None:
    stage, org = scene(CREATE)
    org.stakeholder(newcomer(org, account=org.bolt))
    stage.sync()
    assert leads(stage, "eve@acme.invalid")[0]["externalCompanyId"] == org.bolt
    assert {row["company"] for row in stage.marketo.rows("companies")} == {"Acme", "Bolt"}
    assert_still(stage)


def test_prefixed_companies_are_named_with_their_prefix() -> None:
    stage, org = scene(CREATE, company=('key = { column = "accountid", prefix = "eu:" }',))
    org.stakeholder(newcomer(org))
    stage.sync()
    assert leads(stage, "eve@acme.invalid")[0]["externalCompanyId"] == f"eu:{org.acme}"


def test_a_mapped_company_name_does_not_stop_creation() -> None:
    """Marketo refuses `company` on somebody who is linked to one (1021)."""
    stage = a_stage('[people.fields]\nlastName = "lastname"\ncompany = "jobtitle"\n', people=(CREATE,))
    org = Org(stage)
    org.stakeholder(newcomer(org))
    stage.sync()
    (eve,) = leads(stage, "eve@acme.invalid")
    assert eve["externalCompanyId"] == org.acme


def test_a_field_of_people_that_marketo_lacks_is_told() -> None:
    stage = a_stage('[people.fields]\nlastName = "lastname"\nmissing__c = "jobtitle"\n', people=(CREATE,))
    org = Org(stage)
    org.stakeholder(newcomer(org))
    stage.sync()
    assert len(leads(stage, "eve@acme.invalid")) == 1
    assert "people.missing__c" in status(stage.world)["mapping"].get("left alone", {})


def test_seven_hundred_people_are_created_in_three_calls() -> None:
    stage, org = scene(CREATE)
    for number in range(700):
        org.stakeholder(newcomer(org, f"p{number}@acme.invalid"))
    stage.sync()
    assert len(of_deal(stage, org.deal)) == 700
    assert len(lead_writes(stage)) == 3
    assert_still(stage)


@pytest.mark.parametrize("mode", ["wait", "skip"])
def test_wait_and_skip_create_nobody(mode: str) -> None:
    stage, org = scene(f'when_missing = "{mode}"')
    org.stakeholder(newcomer(org))
    stage.sync()
    assert leads(stage, "eve@acme.invalid") == []
    assert state_of(stage, org.deal)[0] is (State.WAITING if mode == "wait" else State.IN_STEP)


# --- link_company ---------------------------------------------------------------------------------------------------


def linked(stage: Stage, lead: int) -> str | None:
    return next(row["externalCompanyId"] for row in stage.marketo.rows("leads") if row["id"] == lead)


@pytest.mark.parametrize("mode", ["never", "when_unlinked", "always"])
def test_people_are_linked_as_far_as_wanted(mode: str) -> None:
    stage, org = scene(f'link_company = "{mode}"')
    stage.marketo.load({"companies": [{"externalCompanyId": "other", "company": "Other"}]})
    stage.marketo.edit(
        {"op": "update", "object": "leads", "key": {"id": org.lead_bob}, "values": {"externalCompanyId": "other"}}
    )
    org.stakeholder(org.ann)
    org.stakeholder(org.bob)
    stage.sync()
    acme = {"never": None, "when_unlinked": org.acme, "always": org.acme}[mode]
    assert linked(stage, org.lead_ann) == acme
    assert linked(stage, org.lead_bob) == (org.acme if mode == "always" else "other")
    assert linked(stage, org.lead_cid) is None
    assert_still(stage)
    assert_still(stage, hours=25)


def test_a_contact_that_moves_takes_its_person_along() -> None:
    stage, org = scene('link_company = "always"')
    org.stakeholder(org.ann)
    stage.sync()
    org.update("contact", org.ann, **lookup("parentcustomerid", org.bolt, "account"))
    stage.sync()
    assert linked(stage, org.lead_ann) == org.bolt
    assert_still(stage)


def test_a_contact_that_leaves_its_account_stays_linked() -> None:
    """Marketo moves people, and never takes one out of a company."""
    stage, org = scene('link_company = "always"')
    org.stakeholder(org.ann)
    stage.sync()
    org.update("contact", org.ann, _parentcustomerid_value=None)
    stage.sync()
    assert linked(stage, org.lead_ann) == org.acme
    assert_still(stage)


def test_linking_switched_on_later_links_those_already_known() -> None:
    stage, org = scene()
    org.stakeholder(org.ann)
    stage.sync()
    remap(stage, people=['link_company = "when_unlinked"'])
    stage.sync()
    assert linked(stage, org.lead_ann) == org.acme
    assert_still(stage)


@pytest.mark.parametrize(
    "trouble",
    [
        requests.ReadTimeout,
        requests.ConnectTimeout,
        requests.ConnectionError,
    ],
)
def test_a_link_that_failed_is_made_later(trouble: type[Exception]) -> None:
    stage, org = scene('link_company = "always"')
    org.stakeholder(org.ann)
    left = [8]

    def fail(request: requests.PreparedRequest) -> None:
        if is_write_of_people(request) and left[0]:
            left[0] -= 1
            raise trouble

    stage.marketo_wire.fault = fail
    stage.sync()
    stage.clock.sleep(3600)
    stage.sync()
    assert linked(stage, org.lead_ann) == org.acme


def test_a_link_that_was_not_tried_because_of_a_failed_creation_is_made_later() -> None:
    """Eve can't be created for a while: Ann, just looked up, is to be linked all the same in the end."""
    stage, org = scene(CREATE, 'link_company = "always"')
    org.stakeholder(org.ann)
    org.stakeholder(newcomer(org))
    tries = [8]

    def fail(request: requests.PreparedRequest) -> None:
        if is_write_of_people(request) and b"createOnly" in (request.body or b"") and tries[0]:  # type: ignore[operator]
            tries[0] -= 1
            raise requests.ConnectionError

    stage.marketo_wire.fault = fail
    for _ in range(4):
        stage.sync()
        stage.clock.sleep(3600)
    (eve,) = leads(stage, "eve@acme.invalid")
    assert linked(stage, org.lead_ann) == linked(stage, eve["id"]) == org.acme


def test_links_of_later_calls_are_made_though_an_earlier_one_failed() -> None:
    stage, org = scene('link_company = "always"')
    for number in range(320):
        stage.people(f"p{number}@acme.invalid")
        org.stakeholder(org.contact(f"p{number}@acme.invalid", org.acme))
    tries = [8]

    def fail(request: requests.PreparedRequest) -> None:
        if is_write_of_people(request) and tries[0]:
            tries[0] -= 1
            raise requests.ConnectionError

    stage.marketo_wire.fault = fail
    stage.sync()
    stage.clock.sleep(3600)
    stage.sync()
    assert sum(row["externalCompanyId"] == org.acme for row in stage.marketo.rows("leads")) == 320


def test_a_link_is_made_though_dynamics_failed_in_between() -> None:
    """The accounts can't be read for a while, right after the people were looked up."""
    stage, org = scene('link_company = "always"')
    org.stakeholder(org.ann)

    def fail(request: requests.PreparedRequest) -> None:
        if "/accounts" in str(request.url):
            raise requests.ConnectionError

    stage.tick()
    stage.dataverse_wire.fault = fail
    stage.deliver()
    stage.dataverse_wire.fault = None
    stage.sync()
    stage.clock.sleep(3600)
    stage.sync()
    assert linked(stage, org.lead_ann) == org.acme


def test_a_link_refused_by_quota_is_made_the_next_day() -> None:
    stage, org = scene('link_company = "always"')
    org.stakeholder(org.ann)
    stage.tick()

    def used_up(request: requests.PreparedRequest) -> None:
        if is_write_of_people(request):
            stage.marketo_wire.fault = None
            stage.marketo.switches.set({"daily_quota": 1})

    stage.marketo_wire.fault = used_up
    stage.deliver()
    stage.marketo.switches.set({"daily_quota": 50_000})
    stage.clock.sleep(25 * 3600)
    stage.sync()
    assert linked(stage, org.lead_ann) == org.acme


def test_a_person_found_before_its_company_came_is_linked_when_it_comes() -> None:
    """The account's own record was refused at first; mending it links its people without another change of theirs."""
    stage, org = scene('link_company = "always"', company=('numberOfEmployees = "description"',))
    org.update("account", org.acme, description="many")
    org.stakeholder(org.ann)
    stage.sync()
    assert linked(stage, org.lead_ann) is None
    org.update("account", org.acme, description="12")
    stage.sync()
    stage.clock.sleep(3600)
    stage.sync()
    assert shown(stage, org.acme, "companies")["numberOfEmployees"] == 12
    assert linked(stage, org.lead_ann) == org.acme


@pytest.mark.parametrize("field", sorted(COMPANY_FIELDS.keys() - {"annualRevenue", "numberOfEmployees"}))
def test_a_created_person_gets_what_belongs_to_its_company_by_the_company_alone(field: str) -> None:
    """Marketo refuses such a field of somebody who is tied to a company (1021), and takes it of somebody who isn't."""
    stage, org = scene(CREATE, f'fields = {{ lastName = "lastname", {field} = "jobtitle" }}')
    for contact in (newcomer(org), org.contact("alone@acme.invalid")):
        org.update("contact", contact, jobtitle="Text")
        org.stakeholder(contact)
    stage.sync()
    assert leads(stage, "eve@acme.invalid")[0]["externalCompanyId"] == org.acme
    assert leads(stage, "alone@acme.invalid")[0][field] == "Text"
    assert_still(stage)


def test_people_of_an_excluded_account_are_not_linked_to_it() -> None:
    stage, org = scene(
        'link_company = "always"',
        CREATE,
        company=('only = [{ column = "customertypecode", not_in = [12] }]',),
    )
    org.update("account", org.acme, customertypecode=12)
    org.stakeholder(org.ann)
    org.stakeholder(newcomer(org))
    stage.sync()
    assert stage.marketo.rows("companies") == []
    assert linked(stage, org.lead_ann) is None
    assert leads(stage, "eve@acme.invalid")[0]["externalCompanyId"] is None
    assert shown(stage, org.deal)["externalCompanyId"] is None
    assert_still(stage)


def test_accounts_of_nobody_in_marketo_become_no_companies() -> None:
    stage, org = scene('link_company = "always"')
    org.stakeholder(org.contact(None, org.bolt))
    org.stakeholder(org.contact("nobody@bolt.invalid", org.bolt))
    stage.sync()
    assert [row["company"] for row in stage.marketo.rows("companies")] == ["Acme"]


def test_contacts_of_two_companies_with_one_address_do_not_move_the_person_to_and_fro() -> None:
    stage, org = scene('link_company = "always"')
    twin = org.contact("ann@acme.invalid", org.bolt)
    other = org.opportunity("Other", account=org.bolt)
    org.stakeholder(org.ann)
    org.stakeholder(twin, opportunity=other)
    stage.sync()
    first = linked(stage, org.lead_ann)
    for day in range(4):
        stage.clock.sleep(25 * 3600)
        org.update("opportunity", (org.deal, other)[day % 2], description=f"Touched {day}")
        stage.sync()
        assert linked(stage, org.lead_ann) == first
    moved = org.account("Core")
    org.update("contact", org.ann, **lookup("parentcustomerid", moved, "account"))
    stage.clock.sleep(25 * 3600)
    org.update("opportunity", org.deal, description="Again")
    stage.sync()
    assert linked(stage, org.lead_ann) == moved


def test_what_a_person_is_matched_by_is_compared_in_lower_case_and_written_as_it_is() -> None:
    rules = (
        '{ marketo = "externalPersonId", dataverse = "jobtitle" }, { marketo = "email", dataverse = "emailaddress1" }'
    )
    stage, org = scene(CREATE, f"match = [{rules}]")
    org.stakeholder(newcomer(org, "Eve@Acme.invalid", jobtitle="ABCdef-99"))
    stage.sync()
    assert [(row["email"], row["externalPersonId"]) for row in leads(stage, "eve@acme.invalid")] == [
        ("eve@acme.invalid", "ABCdef-99")
    ]
    assert_still(stage)


def test_linking_is_one_call_for_all() -> None:
    stage, org = scene('link_company = "always"')
    for number in range(250):
        stage.people(f"p{number}@acme.invalid")
        org.stakeholder(org.contact(f"p{number}@acme.invalid", org.acme))
    stage.sync()
    assert len(lead_writes(stage)) == 1
    assert sum(row["externalCompanyId"] == org.acme for row in stage.marketo.rows("leads")) == 250


# --- [company] only -------------------------------------------------------------------------------------------------

HOUSEHOLDS = ('only = [{ column = "customertypecode", not_in = [12] }]',)


def test_an_excluded_account_becomes_no_company_and_its_opportunities_go_without() -> None:
    stage, org = scene(company=HOUSEHOLDS)
    org.update("account", org.acme, customertypecode=12)
    donor = org.opportunity("Donor's", contact=org.ann)
    stage.sync()
    assert stage.marketo.rows("companies") == []
    assert {shown(stage, key)["externalCompanyId"] for key in (org.deal, donor)} == {None}
    assert {state_of(stage, key)[0] for key in (org.deal, donor)} == {State.IN_STEP}
    assert stage.roles() == {(donor, org.lead_ann, "Primary Contact")}
    assert_still(stage)


def test_since_on_a_column_of_the_account_that_is_no_time_is_an_error_in_words() -> None:
    stage, _ = scene(company=('only = [{ column = "name", since = "P1M" }]',))
    stage.tick()
    outcome = stage.deliver()
    assert outcome is not None
    assert "name" in str(outcome.trouble)
    assert stage.writes() == 0


@pytest.mark.parametrize("column", ["account.customertypecode", "contact.jobtitle"])
def test_a_rule_of_only_is_about_the_account_itself(column: str) -> None:
    """`account.` and `contact.` are words of the filter: here they would silently read nothing."""
    with pytest.raises(ConfigurationError, match="only"):
        parse(f'[opportunity]\n[company]\nonly = [{{ column = "{column}", not_in = [12] }}]\n')


def test_an_account_that_passes_later_is_named_by_its_opportunities_by_itself() -> None:
    stage, org = scene(company=HOUSEHOLDS)
    org.update("account", org.acme, customertypecode=12)
    donor = org.opportunity("Donor's", contact=org.ann)
    stage.sync()
    org.update("account", org.acme, customertypecode=1)
    stage.sync()
    assert {shown(stage, key)["externalCompanyId"] for key in (org.deal, donor)} == {org.acme}
    assert_still(stage)


def test_an_account_that_no_longer_passes_stays_as_it_is() -> None:
    stage, org = scene(company=HOUSEHOLDS)
    stage.sync()
    org.update("account", org.acme, customertypecode=12, name="Household")
    stage.sync()
    assert shown(stage, org.acme, "companies")["company"] == "Acme"
    assert shown(stage, org.deal)["externalCompanyId"] == org.acme
    assert_still(stage)


def test_a_changed_only_is_applied_to_all() -> None:
    stage, org = scene(company=HOUSEHOLDS)
    org.update("account", org.acme, customertypecode=12)
    stage.sync()
    remap(stage)
    stage.sync()
    assert shown(stage, org.deal)["externalCompanyId"] == org.acme
    assert_still(stage)
