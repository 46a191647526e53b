"""Every kind of Dataverse column into every Marketo field that takes it, by the real clients and both emulators."""

from __future__ import annotations

from typing import Any

import pytest

from sync_core.flows.observe import suspended
from sync_core.model import State
from tests.flows.mapped import a_stage, add_column, add_field, assert_still, shown
from tests.flows.org import Org, lookup
from tests.flows.test_changes import state_of
from tests.stage import Stage

OPTIONS = [{"value": 1, "label": "One"}, {"value": 2, "label": "Two"}, {"value": 30, "label": "Thirty"}]
COLUMNS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "new_text": ("string", {}, " Ünïcödé 👋 "),
    "new_memo": ("memo", {"length": 5000}, "Line one\r\nline two"),
    "new_whole": ("int", {}, 42),
    "new_big": ("bigint", {}, 2_000_000_000),
    "new_decimal": ("decimal", {}, 12.5),
    "new_round": ("decimal", {}, 12.0),
    "new_money": ("money", {}, 99.995),
    "new_date": ("date", {}, "2026-05-06"),
    "new_moment": ("datetime", {}, "2026-05-06T23:30:15Z"),
    "new_flag": ("bool", {}, True),
    "new_no": ("bool", {}, False),
    "new_choice": ("choice", {"options": OPTIONS}, 2),
    "new_several": ("multichoice", {"options": OPTIONS}, "1,30"),
    "new_one": ("multichoice", {"options": OPTIONS}, "30"),
    "new_guid": ("guid", {}, "11111111-2222-4333-8444-555555555555"),
}
TEXTS = ("string", "text", "phone", "url")
NUMBERS = ("float", "currency")
CASES: list[tuple[str, str, Any]] = [
    *(("new_text", type, "Ünïcödé 👋") for type in TEXTS),
    *(("new_memo", type, "Line one\r\nline two") for type in TEXTS),
    *(("new_whole", type, 42) for type in ("integer", "percent", "score", *NUMBERS)),
    *(("new_whole", type, "42") for type in TEXTS),
    *(("new_big", type, 2_000_000_000) for type in ("integer", *NUMBERS)),
    *(("new_decimal", type, 12.5) for type in NUMBERS),
    *(("new_decimal", type, "12.5") for type in TEXTS),
    *(("new_round", type, 12) for type in ("integer", "percent", "score", *NUMBERS)),
    ("new_money", "currency", 100.0),
    ("new_money", "float", 99.995),
    *(("new_money", type, "99.995") for type in TEXTS),
    ("new_date", "date", "2026-05-06"),
    ("new_date", "datetime", "2026-05-06T00:00:00Z"),
    *(("new_date", type, "2026-05-06") for type in TEXTS),
    ("new_moment", "date", "2026-05-06"),
    ("new_moment", "datetime", "2026-05-06T23:30:15Z"),
    *(("new_moment", type, "2026-05-06T23:30:15Z") for type in TEXTS),
    ("new_flag", "boolean", True),
    ("new_no", "boolean", False),
    *(("new_flag", type, "true") for type in TEXTS),
    *(("new_no", type, "false") for type in TEXTS),
    *(("new_choice", type, 2) for type in ("integer", "percent", "score", *NUMBERS)),
    *(("new_choice", type, "2") for type in TEXTS),
    *(("new_several", type, "1,30") for type in TEXTS),
    *(("new_one", type, "30") for type in TEXTS),
    *(("new_guid", type, "11111111-2222-4333-8444-555555555555") for type in TEXTS),
    ("emailaddress", "email", "buyer@acme.invalid"),
]
"""Column, Marketo's type, what arrives."""


def test_every_column_type_reaches_every_field_type_that_fits() -> None:
    names = [f"f{number}" for number in range(len(CASES))]
    lines = [f'{name} = "{column}"' for name, (column, _, _) in zip(names, CASES, strict=True)]
    stage = a_stage(opportunity=lines)
    for column, (kind, more, _) in COLUMNS.items():
        add_column(stage, column, kind, **more)
    for name, (_, type, _) in zip(names, CASES, strict=True):
        add_field(stage, name, type)
    org = Org(stage)
    values = {column: value for column, (_, _, value) in COLUMNS.items()}
    full = org.opportunity("Full", account=org.acme, emailaddress="buyer@acme.invalid", **values)
    stage.sync()
    assert state_of(stage, full) == (State.IN_STEP, "")
    found = shown(stage, full)
    wrong = [
        (column, type, found[name], wanted)
        for name, (column, type, wanted) in zip(names, CASES, strict=True)
        if found[name] != wanted or isinstance(found[name], bool) is not isinstance(wanted, bool)
    ]
    assert wrong == []
    empty = shown(stage, org.deal)
    assert {empty[name] for name, case in zip(names, CASES, strict=True) if case[1] != "boolean"} == {None}
    assert_still(stage)


def test_null_clears_every_kind() -> None:
    """Money in each of its currencies too: an amount that is taken out leaves none in any of them."""
    cases = [(f'"{column}"', type) for column, type, _ in CASES]
    cases += [
        (f'{{ column = "{column}", currency = "{currency}" }}', type)
        for column in ("new_money", "estimatedvalue")
        for currency in ("transaction", "base", "EUR", "USD")
        for type in NUMBERS
    ]
    stage = a_stage(opportunity=[f"f{number} = {source}" for number, (source, _) in enumerate(cases)])
    for column, (kind, more, _) in COLUMNS.items():
        add_column(stage, column, kind, **more)
    for number, (_, type) in enumerate(cases):
        add_field(stage, f"f{number}", type)
    org = Org(stage)
    values = {column: value for column, (_, _, value) in COLUMNS.items()}
    values |= {"emailaddress": "buyer@acme.invalid", "estimatedvalue": 1000.0}
    org.update("opportunity", org.deal, **values)
    stage.sync()
    found = shown(stage, org.deal)
    assert [source for number, (source, _) in enumerate(cases) if found[f"f{number}"] in (None, "")] == []
    org.update("opportunity", org.deal, **dict.fromkeys(values))
    stage.sync()
    found = shown(stage, org.deal)
    kept = [(*case, found[f"f{n}"]) for n, case in enumerate(cases) if found[f"f{n}"] not in (None, False)]
    assert kept == []
    assert found["amount"] is None
    assert_still(stage)


def test_labels_of_choices_in_a_language_and_joined() -> None:
    stage = a_stage(
        opportunity=[
            'choice__c = { column = "new_choice", as = "label" }',
            'several__c = { column = "new_several", as = "label", join = " | " }',
            'one__c = { column = "new_one", as = "label" }',
            'flag__c = { column = "new_flag", as = "label" }',
            'stage = { column = "statecode", as = "label", language = 1031 }',
            'reason__c = { column = "statuscode", as = "label" }',
        ]
    )
    for column in ("new_choice", "new_several", "new_one", "new_flag"):
        add_column(stage, column, COLUMNS[column][0], **COLUMNS[column][1])
    for name in ("choice__c", "several__c", "one__c", "flag__c", "reason__c"):
        add_field(stage, name)
    org = Org(stage)
    org.update("opportunity", org.deal, new_choice=30, new_several="2,30", new_one="1", new_flag=True)
    stage.sync()
    found = shown(stage, org.deal)
    assert [found[name] for name in ("choice__c", "several__c", "one__c", "flag__c", "stage", "reason__c")] == [
        "Thirty", "Two | Thirty", "One", "Yes", "Offen", "In Progress",
    ]  # fmt: skip
    assert_still(stage)


# --- lookups, owners, one hop -------------------------------------------------------------------------------------


def test_lookups_by_id_and_by_name_and_owners_that_are_users_or_teams() -> None:
    stage = a_stage(
        opportunity=[
            'unit__c = { column = "owningbusinessunit", as = "name" }',
            'unitid__c = { column = "owningbusinessunit", as = "id" }',
            'owner__c = { column = "ownerid", as = "name" }',
            'customer__c = { column = "customerid", as = "name" }',
            'customerid__c = "customerid"',
        ]
    )
    for name in ("unit__c", "unitid__c", "owner__c", "customer__c", "customerid__c"):
        add_field(stage, name)
    org = Org(stage)
    team = stage.edit("create", table="team", values={"name": "East"})["id"]
    teams = org.opportunity("Team's", account=org.acme, **lookup("ownerid", team, "team"))
    persons = org.opportunity("Person's", contact=org.cid)
    stage.sync()
    found = shown(stage, org.deal)
    assert (found["unit__c"], found["unitid__c"]) == ("emulated", stage.dataverse.business_unit_id)
    assert (found["owner__c"], found["customer__c"], found["customerid__c"]) == ("Robin Vendor", "Acme", org.acme)
    assert shown(stage, teams)["owner__c"] == "East"
    assert (shown(stage, persons)["customer__c"], shown(stage, persons)["customerid__c"]) == ("Person", org.cid)
    assert_still(stage)


def hop_stage(*lines: str) -> tuple[Stage, Org]:
    stage = a_stage(opportunity=lines)
    for line in lines:
        name = line.split()[0]
        if name not in ("leadSource", "nextStep", "amount", "expectedRevenue"):
            add_field(stage, name)
    return stage, Org(stage)


def test_a_column_one_hop_away() -> None:
    stage, org = hop_stage(
        'leadSource = { column = "originatingleadid.leadsourcecode", as = "label" }',
        'nextStep = "parentaccountid.websiteurl"',
        'city__c = "customerid.address1_city"',
    )
    lead = stage.edit("create", table="lead", values={"subject": "Fair", "leadsourcecode": 1})["id"]
    org.update("account", org.acme, websiteurl="https://acme.example.test", address1_city="Ulm")
    org.update("contact", org.cid, address1_city="Bonn")
    org.update("opportunity", org.deal, **lookup("originatingleadid", lead, "lead"))
    persons = org.opportunity("Person's", contact=org.cid)
    stage.sync()
    label = next(o.label for o in stage.dataverse.tables["lead"].columns["leadsourcecode"].options if o.value == 1)
    found = shown(stage, org.deal)
    assert (found["leadSource"], found["nextStep"], found["city__c"]) == (label, "https://acme.example.test", "Ulm")
    found = shown(stage, persons)
    assert (found["leadSource"], found["nextStep"], found["city__c"]) == (None, None, "Bonn")
    assert_still(stage)


def test_one_hop_costs_a_request_per_table_and_not_per_record() -> None:
    stage, org = hop_stage('nextStep = "parentaccountid.websiteurl"')
    for number in range(20):
        org.opportunity(f"Deal {number}", account=org.account(f"Account {number}"))
    stage.tick()
    asked: list[str] = []
    stage.dataverse_wire.fault = lambda request: asked.append(str(request.url))
    stage.deliver()
    # For the hop, for the companies, and once more for what changed meanwhile.
    assert len([url for url in asked if "/accounts" in url]) == 3


@pytest.mark.parametrize(("currency", "expected"), [("transaction", 92.0), ("base", 100.0), ("EUR", 92.0)])
def test_money_one_hop_away(currency: str, expected: float) -> None:
    stage, org = hop_stage(f'expectedRevenue = {{ column = "parentaccountid.creditlimit", currency = "{currency}" }}')
    euro = stage.dataverse.currency("EUR")
    org.update("account", org.acme, creditlimit=92.0, **lookup("transactioncurrencyid", euro, "transactioncurrency"))
    stage.sync()
    assert shown(stage, org.deal)["expectedRevenue"] == expected


def test_the_name_of_a_lookup_one_hop_away() -> None:
    stage, org = hop_stage('nextStep = { column = "parentaccountid.ownerid", as = "name" }')
    stage.sync()
    assert shown(stage, org.deal)["nextStep"] == "Robin Vendor"


def test_one_column_one_hop_away_in_several_ways() -> None:
    stage, org = hop_stage(
        'amount = { column = "parentaccountid.creditlimit", currency = "base" }',
        'expectedRevenue = { column = "parentaccountid.creditlimit", currency = "EUR" }',
        'pounds__c = { column = "parentaccountid.creditlimit", currency = "GBP" }',
        'owner__c = { column = "parentaccountid.ownerid", as = "name" }',
        'ownerid__c = "parentaccountid.ownerid"',
        'kind__c = { column = "parentaccountid.industrycode", as = "label" }',
        'german__c = { column = "parentaccountid.industrycode", as = "label", language = 1031 }',
        'code__c = "parentaccountid.industrycode"',
    )
    euro = lookup("transactioncurrencyid", stage.dataverse.currency("EUR"), "transactioncurrency")
    org.update("account", org.acme, creditlimit=92.0, industrycode=1, **euro)
    stage.sync()
    found = shown(stage, org.deal)
    names = ("amount", "expectedRevenue", "pounds__c", "owner__c", "ownerid__c", "code__c")
    assert [found[name] for name in names] == [100.0, 92.0, "79.0", "Robin Vendor", stage.dataverse.owner_id, "1"]
    assert found["kind__c"]
    assert found["german__c"]


def test_lookups_one_hop_away_by_id_and_by_name() -> None:
    columns = ("ownerid", "owningbusinessunit", "createdby", "modifiedby", "transactioncurrencyid")
    stage, org = hop_stage(
        *(f'name{n}__c = {{ column = "parentaccountid.{column}", as = "name" }}' for n, column in enumerate(columns)),
        *(f'id{n}__c = "parentaccountid.{column}"' for n, column in enumerate(columns)),
    )
    stage.sync()
    found = shown(stage, org.deal)
    names = [found[f"name{n}__c"] for n in range(len(columns))]
    assert names == ["Robin Vendor", "emulated", "Robin Vendor", "Robin Vendor", "US Dollar"]
    assert {len(str(found[f"id{n}__c"])) for n in range(len(columns))} == {36}


def test_one_column_of_the_row_itself_in_several_ways() -> None:
    stage, org = hop_stage(
        'amount = { column = "estimatedvalue", currency = "base" }',
        'expectedRevenue = { column = "estimatedvalue", currency = "EUR" }',
        'entered__c = "estimatedvalue"',
        'owner__c = { column = "ownerid", as = "name" }',
        'ownerid__c = "ownerid"',
    )
    stage.sync()
    found = shown(stage, org.deal)
    names = ("amount", "expectedRevenue", "entered__c", "owner__c", "ownerid__c")
    assert [found[name] for name in names] == [1000.0, 920.0, "1000.0", "Robin Vendor", stage.dataverse.owner_id]


def test_the_label_one_hop_away_of_a_lookup_with_two_tables_is_refused_in_words() -> None:
    """Accounts and contacts each have labels of their own for a column of one name."""
    stage = a_stage(
        opportunity=[
            'nextStep = { column = "customerid.new_kind", as = "label" }',
            'quantity = "customerid.new_kind"',
        ]
    )
    for table, label in (("account", "Firm"), ("contact", "Person")):
        add_column(stage, "new_kind", "choice", table, options=[{"value": 1, "label": label}])
    org = Org(stage)
    org.update("account", org.acme, new_kind=1)
    stage.sync()
    assert (shown(stage, org.deal)["nextStep"], shown(stage, org.deal)["quantity"]) == (None, 1)
    assert "choice of several tables" in suspended(stage.world)["opportunity.nextStep"]


# --- money --------------------------------------------------------------------------------------------------------


MONEY = (
    'amount = { column = "estimatedvalue", currency = "base" }',
    'expectedRevenue = { column = "estimatedvalue", currency = "EUR" }',
    'entered__c = { column = "estimatedvalue", currency = "transaction" }',
    'pounds__c = { column = "estimatedvalue", currency = "GBP" }',
    'dollars__c = { column = "estimatedvalue", currency = "USD" }',
)


def test_money_in_three_currencies() -> None:
    stage = a_stage(opportunity=MONEY)
    for name in ("entered__c", "pounds__c", "dollars__c"):
        add_field(stage, name, "currency")
    org = Org(stage)

    def deal(iso: str, value: float | None) -> tuple[Any, ...]:
        id = stage.dataverse.currency(iso)
        key = org.opportunity(iso, estimatedvalue=value, **lookup("transactioncurrencyid", id, "transactioncurrency"))
        stage.sync()
        found = shown(stage, key)
        return tuple(found[n] for n in ("entered__c", "amount", "dollars__c", "expectedRevenue", "pounds__c"))

    assert deal("USD", 100.0) == (100.0, 100.0, 100.0, 92.0, 79.0)
    assert deal("EUR", 920.0) == (920.0, 1000.0, 1000.0, 920.0, 790.0)
    assert deal("GBP", 7.9) == (7.9, 10.0, 10.0, 9.2, 7.9)
    assert deal("GBP", None) == (None,) * 5
    assert_still(stage)


def test_an_unknown_currency_is_told_and_leaves_its_field_alone() -> None:
    stage = a_stage(opportunity=['amount = { column = "estimatedvalue", currency = "CHF" }'])
    org = Org(stage)
    stage.sync()
    assert (shown(stage, org.deal)["name"], shown(stage, org.deal)["amount"]) == ("Deal", None)
    assert suspended(stage.world) == {"opportunity.amount": "Dynamics has no currency CHF"}


def test_a_currency_without_a_rate_is_told_apart_from_none() -> None:
    stage = a_stage(opportunity=['amount = { column = "estimatedvalue", currency = "EUR" }'])
    euro = stage.dataverse.currency("EUR")
    stage.edit("update", table="transactioncurrency", id=euro, values={"exchangerate": None})
    org = Org(stage)
    stage.sync()
    assert shown(stage, org.deal)["amount"] is None
    assert suspended(stage.world) == {"opportunity.amount": "Dynamics' currency EUR has no exchange rate"}


# --- what describes a deal's life -----------------------------------------------------------------------------------


LIFE = (
    'amount = { when = "statecode", is = { 1 = "actualvalue" }, else = "estimatedvalue", currency = "base" }',
    'expectedRevenue = { product = ["amount", "probability%"] }',
)


def life(stage: Stage, deal: str) -> tuple[Any, ...]:
    found = shown(stage, deal)
    names = ("stage", "isWon", "isClosed", "probability", "closeDate", "amount", "expectedRevenue")
    return tuple(found[name] for name in names)


def test_won_lost_and_reopened_travel_in_one_record() -> None:
    stage = a_stage(opportunity=LIFE)
    org = Org(stage)
    key = org.deal
    org.update("opportunity", key, closeprobability=40, estimatedclosedate="2026-06-30")
    stage.sync()
    assert life(stage, key) == ("Open", False, False, 40, "2026-06-30", 1000.0, 400.0)
    steps: list[tuple[Any, tuple[Any, ...]]] = [
        (
            lambda: stage.edit(
                "win",
                id=key,
                values={
                    "actualvalue": 1200.0,
                    "actualvalue_base": 1200.0,
                    "actualclosedate": "2026-03-15",
                    "closeprobability": 100,
                },
            ),
            ("Won", True, True, 100, "2026-03-15", 1200.0, 1200.0),
        ),
        (
            lambda: stage.edit("reopen", id=key),
            ("Open", False, False, 100, "2026-06-30", 1000.0, 1000.0),
        ),
        (
            lambda: stage.edit("lose", id=key, values={"actualclosedate": "2026-04-01", "closeprobability": 0}),
            ("Lost", False, True, 0, "2026-04-01", 1000.0, 0.0),
        ),
        (
            lambda: stage.edit("reopen", id=key),
            ("Open", False, False, 0, "2026-06-30", 1000.0, 0.0),
        ),
    ]
    for change, expected in steps:
        before = stage.writes()
        change()
        stage.sync()
        assert life(stage, key) == expected
        assert stage.writes() == before + 1
    assert_still(stage)


# --- what doesn't fit -----------------------------------------------------------------------------------------------


def test_a_value_that_does_not_fit_parks_its_record_alone() -> None:
    stage = a_stage(opportunity=['fiscalYear = "new_text"'])
    add_column(stage, "new_text", "string")
    org = Org(stage)
    org.update("opportunity", org.deal, new_text="2026")
    bad = org.opportunity("Bad", account=org.acme, new_text="next year")
    stage.sync()
    assert shown(stage, org.deal)["fiscalYear"] == 2026
    state, reason = state_of(stage, bad)
    assert state is State.PARKED
    assert "fiscalYear" in reason
    assert "next year" not in reason
    org.update("opportunity", bad, new_text="2027")
    stage.sync()
    assert shown(stage, bad)["fiscalYear"] == 2027


def test_too_long_text_is_cut_or_rejected() -> None:
    stage = a_stage(
        opportunity=[
            'nextStep = { column = "new_memo", too_long = "cut" }',
            'type = { column = "new_other", too_long = "reject" }',
        ]
    )
    add_column(stage, "new_memo", "memo", length=5000)
    add_column(stage, "new_other", "memo", length=5000)
    org = Org(stage)
    org.update("opportunity", org.deal, new_memo="👩‍👩‍👧" * 100)
    long = org.opportunity("Long", account=org.acme, new_other="x" * 256)
    fits = org.opportunity("Fits", account=org.acme, new_other="x" * 255)
    stage.sync()
    found = str(shown(stage, org.deal)["nextStep"])
    assert found == "👩‍👩‍👧" * (255 // 8)
    assert state_of(stage, long)[0] is State.PARKED
    assert len(shown(stage, fits)["type"]) == 255
    assert_still(stage)


def test_a_source_that_cannot_fit_is_left_alone_and_the_rest_goes_on() -> None:
    stage = a_stage(
        opportunity=[
            'fiscalYear = "new_moment"',
            'nextStep = { column = "name", as = "label" }',
            'type = "new_gone"',
            'gone__c = "name"',
            'marketoGUID = "name"',
            'quantity = { product = ["fiscalYear", "probability"] }',
        ]
    )
    add_column(stage, "new_moment", "datetime")
    org = Org(stage)
    stage.sync()
    assert shown(stage, org.deal)["name"] == "Deal"
    left = {"fiscalYear", "nextStep", "type", "gone__c", "marketoGUID", "quantity"}
    assert set(suspended(stage.world)) == {f"opportunity.{name}" for name in left}
    assert_still(stage)


def test_a_constant_that_does_not_fit_leaves_its_field_alone() -> None:
    stage = a_stage(opportunity=['fiscalYear = { value = "this year" }'])
    org = Org(stage)
    stage.sync()
    assert shown(stage, org.deal)["name"] == "Deal"


def test_the_company_has_the_same_sources() -> None:
    stage = a_stage(
        company=[
            'industry = { column = "industrycode", as = "label" }',
            'numberOfEmployees = "numberofemployees"',
            'annualRevenue = { column = "revenue", currency = "base" }',
            'billingCity = { first_of = ["address1_city"] }',
            'companyNotes = "description"',
            'site = { column = "ownerid", as = "name" }',
            'sicCode = { value = "Dynamics" }',
            'parent__c = { column = "parentaccountid", as = "name" }',
        ]
    )
    add_field(stage, "parent__c", kind="companies")
    org = Org(stage)
    euro = lookup("transactioncurrencyid", stage.dataverse.currency("EUR"), "transactioncurrency")
    org.update(
        "account", org.acme, numberofemployees=12, revenue=92.0, address1_city="Ulm", description="Notes", **euro,
        **lookup("parentaccountid", org.bolt, "account"), industrycode=1,
    )  # fmt: skip
    stage.sync()
    found = shown(stage, org.acme, "companies")
    names = ("numberOfEmployees", "annualRevenue", "billingCity", "companyNotes", "site", "sicCode", "parent__c")
    assert [found[name] for name in names] == [12, 100.0, "Ulm", "Notes", "Robin Vendor", "Dynamics", "Bolt"]
    assert found["industry"]
    assert_still(stage)


def test_created_people_have_the_same_sources() -> None:
    stage = a_stage(
        """[people.fields]
lastName = { column = "lastname", default = "(unknown)" }
title = { column = "new_kind", as = "label" }
leadSource = { column = "ownerid", as = "name" }
phone = { first_of = ["mobilephone", "telephone1"] }
leadScore = { value = 5 }
unsubscribed = "donotbulkemail"
city__c = "parentcustomerid.address1_city"
""",
        people=['when_missing = "create"'],
    )
    add_column(stage, "new_kind", "choice", "contact", options=OPTIONS)
    add_field(stage, "city__c", kind="leads")
    org = Org(stage)
    org.update("account", org.acme, address1_city="Ulm")
    eve = org.contact(
        "eve@acme.invalid", org.acme, lastname=None, new_kind=2, telephone1="+1 555 0100", donotbulkemail=True
    )
    org.stakeholder(eve)
    stage.sync()
    (found,) = (row for row in stage.marketo.rows("leads") if row["email"] == "eve@acme.invalid")
    names = ("lastName", "title", "leadSource", "phone", "leadScore", "unsubscribed", "city__c")
    assert [found[name] for name in names] == ["(unknown)", "Two", "Robin Vendor", "+1 555 0100", 5, True, "Ulm"]
    assert_still(stage)


def test_the_customers_role_by_a_choice_of_the_account() -> None:
    stage = a_stage(
        stakeholders=[
            'customer_role = { when = "parentaccountid.customertypecode", is = { 2 = "Grantor" }, else = "Donor" }'
        ]
    )
    org = Org(stage)
    org.update("account", org.acme, customertypecode=2)
    grant = org.opportunity("Grant", contact=org.ann)
    org.update("opportunity", grant, **lookup("parentaccountid", org.acme, "account"))
    org.update("opportunity", grant, **lookup("customerid", org.ann, "contact"))
    gift = org.opportunity("Gift", contact=org.bob)
    stage.sync()
    roles = {(key, role) for key, _, role in stage.roles()}
    assert (gift, "Donor") in roles
    assert (grant, "Grantor") in roles
    assert_still(stage)
