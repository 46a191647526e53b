"""Who passes the filter and who leaves it; what becomes of those that leave, are deleted, and come back."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from sync_core.flows.status import approve_removals, problems, status
from sync_core.model import State
from tests.flows.mapped import (
    a_stage,
    add_column,
    add_field,
    assert_still,
    journal,
    records_sent,
    remap,
    rest,
    shown,
)
from tests.flows.org import Org, lookup
from tests.flows.test_changes import state_of
from tests.stage import Stage
from tools.checker import DATAVERSE_TABLES, MARKETO_TABLES, differences, expected

NATIVE = '[[filter.rule]]\ncolumn = "new_synctomkto"\nnot_in = [false]\n'
FLAG = "flag = { gone__c = true }"


def filtered(rules: str = NATIVE, leaving: str = "keep", removals: tuple[str, ...] = ()) -> tuple[Stage, Org]:
    """A stage whose filter is *rules*, with the column of Marketo's own sync and a field for the flag."""
    stage = a_stage(f'[filter]\nwhen_leaving = "{leaving}"\n{rules}', removals=removals)
    add_column(stage, "new_synctomkto", "bool")
    add_field(stage, "gone__c", "boolean")
    return stage, Org(stage)


def leave(org: Org, deal: str | None = None) -> None:
    org.update("opportunity", deal or org.deal, new_synctomkto=False)


def come_back(org: Org, deal: str | None = None) -> None:
    org.update("opportunity", deal or org.deal, new_synctomkto=True)


# --- who passes -----------------------------------------------------------------------------------------------------


def test_an_existing_new_synctomkto_is_honoured() -> None:
    """Without a value an opportunity passes, as in Marketo's own sync."""
    stage, org = filtered()
    yes = org.opportunity("Yes", account=org.acme, new_synctomkto=True)
    no = org.opportunity("No", account=org.bolt, new_synctomkto=False)
    org.stakeholder(org.cid, opportunity=no)
    stage.sync()
    assert set(stage.opportunities()) == {org.deal, yes}
    assert stage.roles() == set()
    assert [row["company"] for row in stage.marketo.rows("companies")] == ["Acme"]
    assert state_of(stage, no) == (State.IN_STEP, "outside the filter: new_synctomkto")
    found = status(stage.world)
    assert (found["opportunities"][State.IN_STEP], found["opportunities"]["left out"]) == (2, 1)
    assert problems(found) == []
    assert_still(stage)


def test_nobody_is_looked_up_for_an_opportunity_outside() -> None:
    stage, org = filtered()
    leave(org)
    org.stakeholder(org.ann)
    stage.sync()
    assert [call["path"] for call in stage.marketo.journal.since(0) if "leads" in call["path"]] == []


@pytest.mark.parametrize(
    ("rules", "values", "passes"),
    [
        ('column = "closeprobability"\nin = [40, 60]', {"closeprobability": 60}, True),
        ('column = "closeprobability"\nin = [40, 60]', {"closeprobability": 50}, False),
        ('column = "closeprobability"\nnull = false', {}, False),
        ('column = "closeprobability"\nnull = true', {}, True),
        ('column = "name"\nequals = "deal"', {}, True),
        ('column = "name"\nnot_in = ["Deal"]', {}, False),
        ('column = "statecode"\nequals = 0', {}, True),
        ('column = "estimatedclosedate"\nsince = "2026-01-01"', {"estimatedclosedate": "2026-01-01"}, True),
        ('column = "estimatedclosedate"\nsince = "2026-01-01"', {"estimatedclosedate": "2025-12-31"}, False),
        ('column = "estimatedclosedate"\nsince = "2026-01-01"', {}, False),
        ('column = "createdon"\nsince = "P1D"', {}, True),
        ('column = "new_several"\nin = [2]', {"new_several": "1,2"}, True),
        ('column = "new_several"\nin = [2]', {"new_several": "2"}, True),
        ('column = "new_several"\nnot_in = [2]', {"new_several": "2"}, False),
        ('column = "account.numberofemployees"\nequals = 12', {}, True),
        ('column = "account.numberofemployees"\nequals = 13', {}, False),
        ('column = "contact.jobtitle"\nequals = "CEO"', {}, False),
        ('column = "contact.jobtitle"\nnull = true', {}, True),
        ('column = "account.ownerid"\nnull = false', {}, True),
        ('column = "parentaccountid.numberofemployees"\nequals = 12', {}, True),
        ('column = "parentaccountid.numberofemployees"\nequals = 13', {}, False),
    ],
)
def test_operators(rules: str, values: dict[str, Any], passes: bool) -> None:
    stage, org = filtered(f"[[filter.rule]]\n{rules}\n")
    options = [{"value": 1, "label": "One"}, {"value": 2, "label": "Two"}]
    add_column(stage, "new_several", "multichoice", options=options)
    org.update("account", org.acme, numberofemployees=12)
    if values:
        org.update("opportunity", org.deal, **values)
    stage.sync()
    assert (org.deal in stage.opportunities()) is passes
    assert_still(stage)


def test_all_rules_must_hold() -> None:
    more = '[[filter.rule]]\ncolumn = "closeprobability"\nin = [50]\n'
    stage, org = filtered(NATIVE + more)
    both = org.opportunity("Both", account=org.acme, closeprobability=50)
    org.opportunity("One", account=org.acme, closeprobability=50, new_synctomkto=False)
    stage.sync()
    assert set(stage.opportunities()) == {both}


@pytest.mark.parametrize("column", ["new_missing", "account.new_missing", "contact.new_missing"])
def test_a_rule_about_a_missing_column_stops_everything(column: str) -> None:
    stage, org = filtered(f'[[filter.rule]]\ncolumn = "{column}"\nnot_in = [1]\n')
    org.opportunity(contact=org.cid)
    stage.tick()
    outcome = stage.deliver()
    assert outcome is not None
    assert "new_missing" in str(outcome.trouble)
    assert stage.opportunities() == {}


@pytest.mark.parametrize("column", ["account.new_missing", "contact.new_missing"])
def test_a_missing_column_of_the_other_table_is_told_with_the_first_delivery(column: str) -> None:
    """Also when no opportunity of that delivery has an account or a contact."""
    stage, org = filtered(f'[[filter.rule]]\ncolumn = "{column}"\nnot_in = [1]\n')
    org.delete("opportunity", org.deal)
    org.opportunity("Nobody's")
    stage.tick()
    outcome = stage.deliver()
    assert outcome is not None
    assert "new_missing" in str(outcome.trouble)


def test_since_on_a_column_that_is_no_time_is_an_error_in_words() -> None:
    stage, _ = filtered('[[filter.rule]]\ncolumn = "name"\nsince = "P1M"\n')
    stage.tick()
    outcome = stage.deliver()
    assert outcome is not None
    assert "name" in str(outcome.trouble)
    assert stage.opportunities() == {}


# --- accounts and contacts bring opportunities in and out -----------------------------------------------------------


def test_a_changed_account_brings_its_opportunities_in_and_out() -> None:
    stage, org = filtered('[[filter.rule]]\ncolumn = "account.customertypecode"\nin = [1]\n', "remove")
    contacts = org.opportunity("Contact's", contact=org.ann)
    org.stakeholder(org.bob)
    stage.sync()
    assert stage.opportunities() == {}
    org.update("account", org.acme, customertypecode=1)
    stage.sync()
    assert set(stage.opportunities()) == {org.deal, contacts}
    assert len(stage.roles()) == 2
    org.update("account", org.acme, customertypecode=None)
    stage.sync()
    assert stage.opportunities() == {}
    assert stage.roles() == set()
    assert_still(stage)


def test_another_account_of_the_customer_brings_it_in() -> None:
    stage, org = filtered('[[filter.rule]]\ncolumn = "account.customertypecode"\nin = [1]\n')
    org.update("account", org.bolt, customertypecode=1)
    deal = org.opportunity("Contact's", contact=org.ann)
    stage.sync()
    assert stage.opportunities() == {}
    org.update("contact", org.ann, **lookup("parentcustomerid", org.bolt, "account"))
    stage.sync()
    assert set(stage.opportunities()) == {deal}


def test_a_changed_contact_brings_its_opportunities_in_and_out() -> None:
    stage, org = filtered('[[filter.rule]]\ncolumn = "contact.donotemail"\nnot_in = [true]\n', "remove")
    customers = org.opportunity("Customer's", contact=org.ann)
    forms = org.opportunity("Form's", account=org.acme, contact=org.ann)
    org.update("contact", org.ann, donotemail=True)
    stage.sync()
    assert set(stage.opportunities()) == {org.deal}
    org.update("contact", org.ann, donotemail=False)
    stage.sync()
    assert set(stage.opportunities()) == {org.deal, customers, forms}
    org.update("contact", org.ann, donotemail=True)
    stage.sync()
    assert set(stage.opportunities()) == {org.deal}


def test_of_a_merged_contact_the_winner_counts() -> None:
    stage, org = filtered('[[filter.rule]]\ncolumn = "contact.donotemail"\nnot_in = [true]\n')
    deal = org.opportunity("Customer's", contact=org.ann)
    org.update("contact", org.ann, donotemail=True)
    stage.sync()
    assert deal not in stage.opportunities()
    stage.edit("merge", table="contact", id=org.ann, into=org.bob)
    stage.sync()
    assert deal in stage.opportunities()


# --- leaving --------------------------------------------------------------------------------------------------------


def test_keep_leaves_it_as_it_was() -> None:
    stage, org = filtered()
    org.stakeholder(org.ann)
    stage.sync()
    before = stage.writes()
    leave(org)
    org.update("opportunity", org.deal, name="Renamed")
    org.stakeholder(org.bob)
    stage.sync()
    assert stage.writes() == before
    assert shown(stage, org.deal)["name"] == "Deal"
    assert state_of(stage, org.deal) == (State.IN_STEP, "outside the filter: new_synctomkto")
    come_back(org)
    stage.sync()
    assert shown(stage, org.deal)["name"] == "Renamed"
    assert len(stage.roles()) == 2
    assert state_of(stage, org.deal) == (State.IN_STEP, "")
    assert_still(stage)


def test_remove_takes_roles_and_opportunity_and_coming_back_posts_everything() -> None:
    stage, org = filtered(leaving="remove")
    org.stakeholder(org.ann)
    stage.sync()
    before = shown(stage, org.deal)
    leave(org)
    stage.sync()
    assert stage.opportunities() == {}
    assert stage.roles() == set()
    assert_still(stage)
    come_back(org)
    stage.sync()
    after = shown(stage, org.deal)
    own = ("marketoGUID", "createdAt", "updatedAt")
    assert {n: v for n, v in after.items() if n not in own} == {n: v for n, v in before.items() if n not in own}
    assert stage.roles() == {(org.deal, org.lead_ann, "Decision Maker")}
    assert_still(stage)


def test_flag_marks_once_and_coming_back_clears_the_flag_and_posts_everything() -> None:
    stage, org = filtered(leaving="flag", removals=(FLAG,))
    org.stakeholder(org.ann)
    stage.sync()
    assert shown(stage, org.deal)["gone__c"] is False
    leave(org)
    org.update("opportunity", org.deal, name="Renamed")
    stage.sync()
    assert (shown(stage, org.deal)["gone__c"], shown(stage, org.deal)["name"]) == (True, "Deal")
    assert len(stage.roles()) == 1
    assert_still(stage)
    come_back(org)
    stage.sync()
    assert (shown(stage, org.deal)["gone__c"], shown(stage, org.deal)["name"]) == (False, "Renamed")
    assert_still(stage)


def test_nothing_that_was_never_in_marketo_is_flagged_or_removed() -> None:
    for leaving in ("flag", "remove"):
        stage, org = filtered(leaving=leaving, removals=(FLAG,))
        leave(org)
        stage.sync()
        assert stage.writes() == 0
        assert_still(stage)


def test_a_flag_that_is_mapped_as_well_shows_the_mapped_value_of_the_living() -> None:
    """`flag = { stage = "Deleted" }`: the most natural flag where no custom field can be had."""
    stage, org = filtered(leaving="flag", removals=('flag = { stage = "Deleted" }',))
    stage.sync()
    assert shown(stage, org.deal)["stage"] == "Open"
    leave(org)
    stage.sync()
    assert shown(stage, org.deal)["stage"] == "Deleted"
    come_back(org)
    stage.sync()
    assert shown(stage, org.deal)["stage"] == "Open"
    assert_still(stage)


def test_a_flag_that_says_no_is_yes_for_the_living() -> None:
    stage, org = filtered(leaving="flag", removals=("flag = { gone__c = false }",))
    stage.sync()
    assert shown(stage, org.deal)["gone__c"] is True
    leave(org)
    stage.sync()
    assert shown(stage, org.deal)["gone__c"] is False
    come_back(org)
    stage.sync()
    assert shown(stage, org.deal)["gone__c"] is True


def test_a_text_as_flag() -> None:
    stage, org = filtered(leaving="flag", removals=('flag = { nextStep = "left", gone__c = true }',))
    stage.sync()
    assert shown(stage, org.deal)["nextStep"] is None
    leave(org)
    stage.sync()
    assert (shown(stage, org.deal)["nextStep"], shown(stage, org.deal)["gone__c"]) == ("left", True)
    come_back(org)
    stage.sync()
    assert (shown(stage, org.deal)["nextStep"], shown(stage, org.deal)["gone__c"]) == (None, False)
    assert_still(stage)


def test_a_flag_that_marketo_lacks_is_an_error_before_anything_is_posted() -> None:
    stage, _ = filtered(leaving="flag", removals=("flag = { missing__c = true }",))
    stage.tick()
    outcome = stage.deliver()
    assert outcome is not None
    assert "missing__c" in str(outcome.trouble)
    assert stage.writes() == 0


@pytest.mark.parametrize("how", ["deleted", "left"])
def test_a_flag_that_marketo_refuses_is_told(how: str) -> None:
    stage, org = filtered(leaving="flag", removals=('policy = "flag"', 'flag = { quantity = "gone" }'))
    stage.sync()
    if how == "deleted":
        org.delete("opportunity", org.deal)
    else:
        leave(org)
    stage.sync()
    assert state_of(stage, org.deal)[0] is State.PARKED


# --- the guard ------------------------------------------------------------------------------------------------------


def test_leaving_passes_the_removal_guard() -> None:
    stage, org = filtered(leaving="remove", removals=("max_count = 1", "max_share = 0.0"))
    deals = [org.deal, org.opportunity("Two", account=org.acme), org.opportunity("Three", account=org.acme)]
    stage.sync()
    for deal in deals:
        leave(org, deal)
    stage.sync()
    assert len(stage.opportunities()) == 3
    assert {state_of(stage, deal)[0] for deal in deals} == {State.HELD}
    assert problems(status(stage.world))
    assert_still(stage)
    assert approve_removals(stage.world) == 3
    stage.sync()
    assert stage.opportunities() == {}
    assert {state_of(stage, deal)[0] for deal in deals} == {State.IN_STEP}
    assert_still(stage)


def test_a_held_one_that_comes_back_is_in_step() -> None:
    stage, org = filtered(leaving="remove", removals=("max_count = 0", "max_share = 0.0"))
    org.stakeholder(org.ann)
    stage.sync()
    leave(org)
    stage.sync()
    assert state_of(stage, org.deal)[0] is State.HELD
    come_back(org)
    org.update("opportunity", org.deal, name="Renamed")
    stage.sync()
    assert state_of(stage, org.deal) == (State.IN_STEP, "")
    assert shown(stage, org.deal)["name"] == "Renamed"
    assert_still(stage)


def test_all_that_a_changed_filter_would_remove_is_held() -> None:
    stage, org = filtered("", "remove")
    org.opportunity("Stays", account=org.acme)
    leave(org)
    stage.sync()
    assert len(stage.opportunities()) == 2
    remap(stage, f'[filter]\nwhen_leaving = "remove"\n{NATIVE}')
    stage.sync()
    assert len(stage.opportunities()) == 2
    assert state_of(stage, org.deal)[0] is State.HELD
    assert "a change of the filter" in state_of(stage, org.deal)[1]
    assert_still(stage)
    approve_removals(stage.world)
    stage.sync()
    assert org.deal not in stage.opportunities()
    assert len(stage.opportunities()) == 1


def test_a_changed_filter_that_is_taken_back_releases_what_it_held() -> None:
    stage, org = filtered("", "remove")
    leave(org)
    stage.sync()
    remap(stage, f'[filter]\nwhen_leaving = "remove"\n{NATIVE}')
    stage.sync()
    remap(stage, '[filter]\nwhen_leaving = "remove"\n')
    stage.sync()
    assert state_of(stage, org.deal) == (State.IN_STEP, "")
    assert org.deal in stage.opportunities()


# --- deleted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["keep", "flag"])
def test_deleted_is_kept_or_flagged_and_restored_comes_back(policy: str) -> None:
    stage, org = filtered("", removals=(f'policy = "{policy}"', FLAG))
    org.stakeholder(org.ann)
    stage.sync()
    row = dict(stage.dataverse.row("opportunity", org.deal) or {})
    before = journal(stage)
    org.delete("opportunity", org.deal)
    stage.sync()
    assert org.deal in stage.opportunities()
    assert len(stage.roles()) == 1
    assert shown(stage, org.deal)["gone__c"] is (policy == "flag")
    assert records_sent(stage, before) == (1 if policy == "flag" else 0)
    assert state_of(stage, org.deal)[0] is State.GONE
    assert_still(stage)
    stage.load(opportunity=[{**row, "name": "Restored"}])
    org.stakeholder(org.bob, "Champion")
    stage.sync()
    assert (shown(stage, org.deal)["gone__c"], shown(stage, org.deal)["name"]) == (False, "Restored")
    assert stage.roles() == {(org.deal, org.lead_bob, "Champion")}  # Ann's connection went with the deal
    assert_still(stage)


@pytest.mark.parametrize("policy", ["keep", "flag"])
def test_deletions_that_remove_nothing_are_not_held(policy: str) -> None:
    stage, org = filtered("", removals=(f'policy = "{policy}"', FLAG, "max_count = 0", "max_share = 0.0"))
    stage.sync()
    org.delete("opportunity", org.deal)
    stage.sync()
    assert state_of(stage, org.deal)[0] is State.GONE
    assert shown(stage, org.deal)["gone__c"] is (policy == "flag")


def test_deleted_after_it_left() -> None:
    stage, org = filtered(leaving="flag", removals=('policy = "delete"', FLAG))
    stage.sync()
    leave(org)
    stage.sync()
    org.delete("opportunity", org.deal)
    stage.sync()
    assert stage.opportunities() == {}
    assert_still(stage)


def test_a_flag_added_later_costs_nothing_where_nobody_left() -> None:
    """[removals] changes nothing that is posted: a deal that is touched for another reason may carry the flag then."""
    stage, _ = filtered()
    stage.sync()
    before = stage.writes()
    remap(stage, f'[filter]\nwhen_leaving = "flag"\n{NATIVE}', removals=[FLAG])
    rest(stage)
    assert stage.writes() == before


def test_time_alone_takes_an_opportunity_out_of_a_period() -> None:
    """Nothing changes in Dynamics when a deal grows too old; the next look at it counts."""
    stage, org = filtered('[[filter.rule]]\ncolumn = "createdon"\nsince = "P7D"\n', "remove")
    stage.sync()
    assert org.deal in stage.opportunities()
    rest(stage, hours=8 * 24)
    assert stage.opportunities() == {}


# --- all together, against the checker --------------------------------------------------------------------------------

RULES: list[dict[str, Any]] = [
    {"column": "new_synctomkto", "not_in": [False]},
    {"column": "account.customertypecode", "in": [1, 2]},
    {"column": "contact.donotemail", "not_in": [True]},
    {"column": "new_several", "not_in": [3]},
    {"column": "estimatedclosedate", "since": "P2M"},
    {"column": "closeprobability", "null": False},
]


def as_toml(rule: dict[str, Any]) -> str:
    return "[[filter.rule]]\n" + "\n".join(f"{name} = {json.dumps(value)}" for name, value in rule.items()) + "\n"


@pytest.mark.parametrize("seed", range(8))
def test_random_changes_end_where_the_checker_says(seed: int) -> None:
    chance = random.Random(seed)
    rules = chance.sample(RULES, k=chance.randint(1, 3))
    only = [{"column": "accountcategorycode", "not_in": [2]}] if chance.random() < 0.5 else []
    stage = a_stage(
        '[filter]\nwhen_leaving = "remove"\n' + "".join(map(as_toml, rules)),
        company=['only = [{ column = "accountcategorycode", not_in = [2] }]'] if only else [],
    )
    add_column(stage, "new_synctomkto", "bool")
    add_column(stage, "new_several", "multichoice", options=[{"value": n, "label": f"L{n}"} for n in (1, 2, 3)])
    org = Org(stage)
    org.update("account", org.acme, accountcategorycode=2)
    org.update("account", org.bolt, accountcategorycode=2)
    accounts, contacts = [org.acme, org.bolt], [org.ann, org.bob, org.cid]
    deals = [org.deal]
    for number in range(8):
        account, contact = chance.choice([None, *accounts]), chance.choice([None, *contacts])
        deals.append(org.opportunity(f"Deal {number}", account=account, contact=contact))
        org.stakeholder(chance.choice(contacts), opportunity=deals[-1])

    def change() -> None:
        deal = {
            "new_synctomkto": chance.choice([None, True, False]),
            "new_several": chance.choice([None, "1", "3", "1,3", "1,2"]),
            "estimatedclosedate": chance.choice([None, "2026-01-01", "2026-01-02", "2026-01-03", "2026-05-01"]),
            "closeprobability": chance.choice([None, 0, 50]),
        }
        for name, value in chance.sample(list(deal.items()), k=2):
            org.update("opportunity", chance.choice(deals), **{name: value})
        org.update("account", chance.choice(accounts), customertypecode=chance.choice([None, 1, 2, 3]))
        if chance.random() < 0.3:  # from excluded to a company: one that is a company stays one
            org.update("account", chance.choice(accounts), accountcategorycode=1)
        org.update("contact", chance.choice(contacts), donotemail=chance.choice([True, False]))
        org.update(
            "contact",
            chance.choice(contacts),
            **lookup("parentcustomerid", chance.choice([*accounts, None]), "account"),
        )

    for _ in range(6):
        for _ in range(4):
            change()
        stage.sync()
        tables = {name: stage.dataverse.rows(name) for name in DATAVERSE_TABLES}
        wanted = expected(tables, stage.marketo.rows("leads"), now=stage.clock.now(), filters=rules, only=only)
        assert differences(wanted, {name: stage.marketo.rows(name) for name in MARKETO_TABLES}) == []
    assert_still(stage)


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ('column = "statecode"\nin = ["Open"]', "filter.rule (entry 1).in: statecode holds numbers"),
        ('column = "new_synctomkto"\nnot_in = [0]', "filter.rule (entry 1).not_in: new_synctomkto holds yes or no"),
        ('column = "new_synctomkto"\nequals = "Yes"', "write true or false"),
        ('column = "ownerid"\nequals = 5', "ownerid holds ids"),
        ('column = "name"\nequals = 5', "name holds text"),
        ('column = "parentaccountid.customertypecode"\nequals = "Press"', "customertypecode holds numbers"),
        ('column = "parentaccountid.name"\nsince = "P1M"', "parentaccountid.name holds no time"),
    ],
)
def test_a_value_that_no_column_holds_is_refused_instead_of_leaving_all_out_or_nothing(rule: str, told: str) -> None:
    stage, org = filtered(f"[[filter.rule]]\n{rule}\n")
    org.opportunity("No", account=org.acme, new_synctomkto=False)
    stage.tick()
    outcome = stage.deliver()

    assert outcome is not None
    assert told in str(outcome.trouble)
    assert stage.opportunities() == {}


def test_a_role_for_a_value_that_no_column_holds_is_refused() -> None:
    role = 'customer_role = { when = "statecode", is = { 0 = "Buyer", "Won" = "Customer" }, else = "Prospect" }'
    stage = Stage(changes={'customer_role = "Primary Contact"': role})
    Org(stage).opportunity(contact=None)
    stage.tick()
    outcome = stage.deliver()

    assert outcome is not None
    assert "stakeholders.customer_role.is.Won: statecode holds numbers" in str(outcome.trouble)
    assert stage.opportunities() == {}
