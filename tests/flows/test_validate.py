"""`validate`: each red and each amber by the very condition that it tells of; and it changes nothing anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sync_core import cli
from sync_core.errors import ConfigurationError, Unavailable
from sync_core.flows.status import pause
from sync_core.flows.validate import GROUPS, Check, Light, Setup, validate
from sync_core.mapping import parse
from sync_core.model import Lane, SignIn, Work
from sync_core.report import screen
from sync_core.settings import DEFAULT_SCHEDULE, STORAGE, Settings
from sync_core.telemetry import INSTRUMENTATIONS, LIBRARIES, SDK_SETTINGS
from sync_core.wiring import build, setup
from tests.builders import an_id
from tests.flows.org import Org, lookup
from tests.stage import CONFIG, Stage
from tools.azurite import Azurite
from tools.emulators.dataverse.administration import post
from tools.emulators.dataverse.state import CLIENT_ID, CLIENT_SECRET, TENANT, DataverseState
from tools.emulators.dataverse.web import DataverseApp
from tools.emulators.marketo.errors import ApiError
from tools.emulators.marketo.state import MarketoState
from tools.emulators.marketo.web import MarketoApp
from tools.emulators.serving import certificate_authority, serving

ROOT = Path(__file__).parents[2]
GREEN, AMBER, RED, UNKNOWN = Light
WORKER = {
    "APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=11111111-2222-4333-8444-555555555555",
    "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": "true",
}
BY_THE_WORKER = {name: SDK_SETTINGS[name] for name in SDK_SETTINGS if "DISABLED" in name}
MARKETO_CLIENT = "33333333-3333-4333-8333-333333333333"
SALES = {"salesperson = false": "salesperson = true"}
CREATE = {'when_missing  = "wait"': 'when_missing  = "create"'}


def a_setup(stage: Stage, **changes: Any) -> Setup:
    stage.limiter.stops = False  # as wiring.setup does
    probes: dict[str, Callable[[], None]] = {name: lambda: None for name in ("tables", "queues", "blobs")}
    plain = {"world": stage.world, "problems": [], "probes": probes, "schedule": DEFAULT_SCHEDULE}
    return Setup(**(plain | changes))


def checked(stage: Stage, **changes: Any) -> dict[str, Check]:
    """Every check by name; whatever the condition, nothing was changed by looking."""
    documents = dict(stage.world.documents._texts)  # type: ignore[attr-defined]
    rows = {name: stage.marketo.rows(name) for name in ("opportunities", "roles", "companies", "leads")}
    begun = len(stage.marketo.journal.entries)
    checks = validate(a_setup(stage, **changes))
    writes = [entry for entry in stage.marketo.journal.entries[begun:] if entry.kind == "write"]
    assert all(entry.endpoint.endswith("/delete.json") and entry.records <= 1 for entry in writes)
    assert all(entry.statuses in ({"skipped": 1}, {}) for entry in writes)
    assert set(Counter(entry.path for entry in writes).values()) <= {1}
    assert all(call["method"] == "GET" for call in stage.dataverse_app.journal.since(0))
    assert {name: stage.marketo.rows(name) for name in rows} == rows
    assert dict(stage.world.documents._texts) == documents  # type: ignore[attr-defined]
    return {check.name: check for check in checks}


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    Org(stage)
    stage.sync()
    return stage


def at(start: str, further: int = 0) -> str:
    """Where the line of the checked-in mapping is that begins with *start*, or one some lines *further*."""
    number = next(number for number, line in enumerate(CONFIG.splitlines(), 1) if line.startswith(start))
    return f"sync.toml line {number + further}"


def synced(changes: Mapping[str, str]) -> Stage:
    return Stage(changes=changes)


def same(light: Light, check: Check, *words: str) -> None:
    assert check.light is light, check
    assert all(word in f"{check.found} | {check.remedy}" for word in words), check
    assert check.remedy


def others(checks: Mapping[str, Check], *names: str) -> set[str]:
    """The lights of all checks but those of *names*."""
    return {check.light for name, check in checks.items() if name not in names}


# --- all is well ------------------------------------------------------------------------------------------------


def test_a_healthy_setup_is_green_throughout_in_at_least_twenty_checks(stage: Stage) -> None:
    checks = checked(stage)

    assert [check for check in checks.values() if check.light is not GREEN] == []
    assert len(checks) >= 20
    assert [check.group for check in checks.values()] == sorted(
        (check.group for check in checks.values()), key=GROUPS.index
    )


def test_before_the_first_tick_nothing_is_missing() -> None:
    assert others(checked(Stage())) == {GREEN}


def test_every_probe_is_a_delete_of_another_key_and_goes_through_the_limiter(stage: Stage) -> None:
    seen: list[Any] = []
    stage.marketo_wire.after = lambda request: seen.append(request) if "delete.json" in str(request.url) else None
    used, begun = stage.limiter.used, stage.marketo.journal._sequence
    checked(stage)
    checked(stage)

    assert [str(request.url).split("/v1/")[1] for request in seen[:3]] == [
        "opportunities/delete.json",
        "opportunities/roles/delete.json",
        "companies/delete.json",
    ]
    assert len({request.body for request in seen}) == 6
    calls = [entry for entry in stage.marketo.journal.since(begun) if entry["kind"] != "identity"]
    assert stage.limiter.used - used == len(calls)


def test_sales_persons_and_people_are_probed_only_where_they_are_written() -> None:
    stage = synced(SALES | CREATE)

    checks = checked(stage)

    assert others(checks) == {GREEN}
    deleted = {entry.path for entry in stage.marketo.journal.entries if entry.kind == "write"}
    assert {"/rest/v1/salespersons/delete.json", "/rest/v1/leads/delete.json"} <= deleted
    assert checks["people"].found == "we may read and write"


def test_the_screen_has_eighty_columns_and_fits_on_one(stage: Stage) -> None:
    text = screen(validate(a_setup(stage)))

    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) <= 50
    assert text.endswith("36 checks: 36 green")


# --- settings and storage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("DATAVERSE_URL", "Dynamics settings"),
        ("MARKETO_CLIENT_SECRET", "Marketo settings"),
        (STORAGE, "storage settings"),
        ("SYNC_CONFIG", "mapping file"),
    ],
)
def test_a_setting_that_is_missing_is_a_check_and_what_stands_on_it_is_not_checked(
    stage: Stage, setting: str, name: str
) -> None:
    checks = checked(stage, problems=[(setting, f"{setting} is missing")])

    same(RED, checks[name], f"{setting} is missing")
    assert UNKNOWN in others(checks, name)
    assert RED not in others(checks, name)


@pytest.mark.parametrize("name", ["tables", "queues", "blobs"])
def test_storage_that_refuses_us_is_red(stage: Stage, name: str) -> None:
    """The error is that of the adapters (tests/adapters): Azurite, reached with its key, never refuses."""

    def refused() -> None:
        raise ConfigurationError("Storage refuses us (403 AuthorizationPermissionMismatch): check that it has the role")

    probes = {each: refused if each == name else lambda: None for each in ("tables", "queues", "blobs")}
    checks = checked(stage, probes=probes)

    same(RED, checks[name], "403", "the role")
    assert RED not in others(checks, name)


def test_storage_that_does_not_answer_and_what_nobody_expected_are_red_and_the_rest_goes_on(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def silent() -> None:
        raise Unavailable("the storage account gives no answer")

    def odd() -> None:
        raise KeyError("a secret")

    checks = checked(stage, probes={"tables": lambda: None, "queues": silent, "blobs": odd})

    same(RED, checks["queues"], "no answer", "try again")
    same(RED, checks["blobs"], "KeyError in test_validate.py:", "report it")
    assert 'validate.unexpected where="KeyError in test_validate.py:' in caplog.text
    assert "secret" not in f"{checks['blobs']} {caplog.text}"
    assert checks["queue"].light is UNKNOWN
    assert checks["people"].light is GREEN


# --- Dynamics ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("user", "remedy"), [("missing", "create an application user"), ("disabled", "activate it")])
def test_an_application_user_who_is_missing_or_disabled(stage: Stage, user: str, remedy: str) -> None:
    stage.dataverse.switches["application_user"] = user
    checks = checked(stage)

    same(RED, checks["application user"], remedy)
    assert RED not in others(checks, "application user")
    assert checks["read rights"].light is UNKNOWN


@pytest.mark.parametrize("depth", ["none", "business_unit"])
def test_a_table_that_may_not_be_read_at_organization_level(stage: Stage, depth: str) -> None:
    stage.dataverse.switches["privileges"] = {"contact": depth}

    same(RED, checked(stage)["read rights"], "of contact", "prvReadContact")


HOP = {'description  = "description"': 'description  = "originatingleadid.subject"'}
ROLE_BY_HOP = {
    'customer_role = "Primary Contact"': (
        'customer_role = {when = "originatingleadid.leadsourcecode", is = {2 = "A"}, else = "B"}'
    )
}


@pytest.mark.parametrize("depth", ["none", "business_unit"])
@pytest.mark.parametrize("changes", [HOP, ROLE_BY_HOP])
def test_a_table_one_hop_away_that_may_not_be_read(changes: Mapping[str, str], depth: str) -> None:
    stage = synced(changes)
    stage.dataverse.switches["privileges"] = {"lead": depth}
    checks = checked(stage)

    same(RED, checks["read rights"], "of lead", "prvReadLead")
    assert checks["sign-in to Marketo"].light is GREEN


def test_only_the_tables_one_hop_away_that_have_the_column_are_read() -> None:
    """A customer is an account or a contact; contacts have no number of employees."""
    stage = synced({'description  = "description"': 'description  = "customerid.numberofemployees"'})
    stage.dataverse.switches["privileges"] = {"lead": "none"}

    assert others(checked(stage)) == {GREEN}


def test_the_name_of_a_lookup_needs_no_right_to_its_table() -> None:
    stage = synced({'description  = "description"': 'description  = { column = "originatingleadid", as = "name" }'})
    org = Org(stage)
    lead = str(stage.edit("create", table="lead", values={"lastname": "Fair", "firstname": "A"})["id"])
    org.update("opportunity", org.deal, **lookup("originatingleadid", lead, "lead"))
    stage.dataverse.switches["privileges"] = {"lead": "none"}

    assert others(checked(stage)) == {GREEN}
    stage.sync()
    assert stage.opportunities()[org.deal]["description"] == "A Fair"


def test_an_application_user_without_a_role_lacks_every_table(stage: Stage) -> None:
    stage.dataverse.switches["application_user"] = "no_role"

    found = checked(stage)["read rights"]

    same(RED, found, "opportunity, connection, contact, account, connectionrole")


def test_a_table_without_change_tracking_is_amber(stage: Stage) -> None:
    post(stage.dataverse, "columns", {"table": "contact", "tracked": False})
    checks = checked(stage)

    same(AMBER, checks["change tracking"], "off for contact", "modifiedon", "Track changes")
    assert others(checks, "change tracking") == {GREEN}


def test_short_lived_delta_links_are_amber(stage: Stage) -> None:
    row = stage.dataverse.rows("organization")[0]
    stage.dataverse.write("organization", row, expirechangetrackingindays=2)

    same(AMBER, checked(stage)["delta links"], "2 days", "ExpireChangeTrackingInDays")


def test_a_retention_that_may_not_be_read_is_amber(stage: Stage) -> None:
    stage.dataverse.switches["privileges"] = {"organization": "none"}

    same(AMBER, checked(stage)["delta links"], "can't be read", "prvReadOrganization")


def test_the_state_of_another_subscription(stage: Stage) -> None:
    stage.world = replace(stage.world, subscription="999-XXX-999")
    checks = checked(stage)

    same(RED, checks["right pair"], "123-EMU-456", "999-XXX-999", "repoint")
    assert others(checks, "right pair") == {GREEN}


def test_an_organization_that_was_set_back_to_a_backup(stage: Stage) -> None:
    row = stage.dataverse.rows("opportunity")[0]
    stage.dataverse.stores["opportunity"].put({**row, "versionnumber": 1})

    same(RED, checked(stage)["right pair"], "lower row version", "backup")


# --- mapping ----------------------------------------------------------------------------------------------------


RULE = {"[removals]": '[[filter.rule]]\ncolumn = "{}"\nequals = 1\n[removals]'}


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        (
            {'description  = "description"': 'description  = "new_nothing"'},
            f"opportunity.new_nothing ({at('description')}, opportunity.description)",
        ),
        ({'description  = "description"': 'description  = "originatingleadid.new_none"'}, "originatingleadid.new_none"),
        (
            {'dataverse = "emailaddress1"': 'dataverse = "new_address"'},
            f"contact.new_address ({at('match')}, people.match (entry 1).dataverse)",
        ),
        (
            {'customer_role = "Primary Contact"': 'customer_role = {when = "new_kind", is = {2 = "A"}, else = "B"}'},
            f"opportunity.new_kind ({at('customer_role')}, stakeholders.customer_role.when)",
        ),
        (
            {"[removals]": RULE["[removals]"].replace("{}", "new_synctomkto")},
            f"opportunity.new_synctomkto ({at('[removals]', 1)}, filter.rule (entry 1).column)",
        ),
        (
            {"[removals]": RULE["[removals]"].replace("{}", "account.new_region")},
            f"account.new_region ({at('[removals]', 1)}, filter.rule (entry 1).column)",
        ),
    ],
)
def test_a_column_that_dynamics_lacks(changes: Mapping[str, str], column: str) -> None:
    checks = checked(synced(changes))

    same(RED, checks["columns"], column)
    assert RED not in others(checks, "columns")


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ('[[filter.rule]]\ncolumn = "name"\nsince = "P1M"', "filter.rule (entry 1).since: name holds no time"),
        ('[[filter.rule]]\ncolumn = "statecode"\nin = ["Open"]', "filter.rule (entry 1).in: statecode holds numbers"),
        ('[[filter.rule]]\ncolumn = "account.customertypecode"\nequals = "Press"', "holds numbers"),
        ('[[filter.rule]]\ncolumn = "parentaccountid.customertypecode"\nequals = true', "holds numbers"),
        ('[[filter.rule]]\ncolumn = "account.donotemail"\nnot_in = [0]', "not_in: account.donotemail holds yes or no"),
    ],
)
def test_a_rule_of_the_filter_that_can_not_hold(section: str, told: str) -> None:
    checks = checked(synced({"[removals]": f"{section}\n[removals]"}))

    same(RED, checks["rules"], told)
    assert RED not in others(checks, "rules")


def test_a_rule_of_companies_that_can_not_hold() -> None:
    line = 'website  = "websiteurl"'
    checks = checked(
        synced(
            {line: f'{line}\nonly = [{{ column = "createdon", since = "P1Y" }}, {{ column = "name", since = "P1Y" }}]'}
        )
    )

    same(RED, checks["rules"], "company.only (entry 2).since: name holds no time")
    assert RED not in others(checks, "rules")


def test_a_role_by_a_value_that_its_column_never_holds() -> None:
    role = 'customer_role = { when = "statecode", is = { Won = "Customer" }, else = "Prospect" }'
    checks = checked(synced({'customer_role = "Primary Contact"': role}))

    same(RED, checks["rules"], f"{at('customer_role')}, stakeholders.customer_role.is.Won: statecode holds numbers")
    assert RED not in others(checks, "rules")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {'website  = "websiteurl"': 'nothing  = "websiteurl"'},
            (f"no field company.nothing ({at('website')})", "take it out"),
        ),
        (
            {'website  = "websiteurl"': 'createdAt = "createdon"'},
            (f"nobody write company.createdAt ({at('website')})", "take it out"),
        ),
        (
            {"[removals]": "[removals]\nflag = { isGone__c = true }"},
            (f"no field removals.flag.isGone__c ({at('[removals]', 1)})", "Marketo support"),
        ),
    ],
)
def test_a_field_that_marketo_lacks_or_lets_nobody_write(changes: Mapping[str, str], words: tuple[str, ...]) -> None:
    checks = checked(synced(changes))

    same(RED, checks["fields"], *words)
    assert RED not in others(checks, "fields")


RATED = {"[removals]": RULE["[removals]"].replace("{}", "account.numberofemployees")}
KIND = {'customer_role = "Primary Contact"': 'customer_role = {when = "need", is = {2 = "A"}, else = "B"}'}


def secured(changes: Mapping[str, str], column: str, value: Any = None) -> Stage:
    """An org whose *column* (`table.column`) is secured, and holds something in one of two rows."""
    stage, (table, _, name) = synced(changes), column.partition(".")
    org = Org(stage)
    lead = str(stage.edit("create", table="lead", values={"subject": "A fair"})["id"])
    org.update("opportunity", org.deal, **lookup("originatingleadid", lead, "lead"))
    if value is not None:
        org.update(table, {"opportunity": org.deal, "account": org.acme}[table], **{name: value})
    org.opportunity("Written later", account=org.bolt)
    post(stage.dataverse, "columns", {"table": table, "secured": {name: True}})
    return stage


def asked_of_dynamics(stage: Stage) -> list[str]:
    """Which addresses a fresh `validate` reads."""
    stage.world = replace(stage.world, source=stage._source(3600))
    begun = len(stage.dataverse_app.journal.since(0))
    checked(stage)
    return [entry["path"] for entry in stage.dataverse_app.journal.since(0)[begun:]]


@pytest.mark.parametrize(
    ("changes", "column", "value"),
    [
        ({}, "opportunity.description", "x"),
        ({}, "opportunity.estimatedvalue_base", None),
        ({}, "account.websiteurl", "https://acme.invalid"),
        ({}, "contact.emailaddress1", None),
        (CREATE, "contact.lastname", None),
        (HOP, "lead.subject", None),
        (HOP, "opportunity.originatingleadid", None),
        (RATED, "account.numberofemployees", 7),
        (KIND, "opportunity.need", 1),
        ({}, "opportunity.customerid", None),
        ({}, "contact.parentcustomerid", None),
    ],
)
def test_a_secured_column_is_amber_until_a_row_shows_that_we_may_read_it(
    changes: Mapping[str, str], column: str, value: Any
) -> None:
    stage = secured(changes, column, value)
    checks = checked(stage)

    same(AMBER, checks["column security"], f"{column}: secured, and empty", "the application user", "profile")
    assert others(checks, "column security") == {GREEN}

    stage.dataverse.switches["column_security_profile"] = [column]
    checks = checked(stage)

    assert others(checks) == {GREEN}
    assert checks["column security"].found == f"secured, and we may read them: {column}"


def test_a_secured_column_that_nothing_reads_does_not_matter() -> None:
    """The amount is read in the base currency, which is a column of its own."""
    stage = secured({}, "opportunity.estimatedvalue")

    found = checked(stage)["column security"]

    assert (found.light, found.found) == (GREEN, "none of the columns is secured")


def test_column_security_costs_one_read_of_each_table_that_has_some() -> None:
    stage = secured({}, "opportunity.description", "x")
    asked = asked_of_dynamics(stage)
    post(stage.dataverse, "columns", {"table": "opportunity", "secured": {"description": False}})

    assert Counter(asked) - Counter(asked_of_dynamics(stage)) == {"/api/data/v9.2/opportunities": 1}


def test_a_column_that_does_not_fit_its_field() -> None:
    checks = checked(synced({'probability  = "closeprobability"': 'probability  = "createdon"'}))

    same(
        RED,
        checks["types"],
        f"opportunity.probability ({at('probability')}): createdon",
        "doesn't fit Marketo's type integer",
        "left alone",
    )


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ('{ column = "statecode", equals = "Won" }', "statecode holds numbers (it is State): name them, no labels"),
        ('"stepname"', "stepname (String) doesn't fit Marketo's type boolean: ask for a value by equals or in"),
    ],
)
def test_a_question_that_is_always_answered_no_and_a_text_that_is_neither_yes_nor_no(source: str, told: str) -> None:
    checks = checked(synced({'isWon        = { column = "statecode", equals = 1 }': f"isWon = {source}"}))

    same(RED, checks["types"], f"opportunity.isWon ({at('isWon')}): {told}", "left alone")
    assert others(checks, "types") == {GREEN}


@pytest.mark.parametrize(
    ("how", "words"), [("", ("longer texts will be cut", 'too_long = "cut"')), ('"reject"', ("parked",))]
)
def test_a_field_that_is_too_short_is_amber_unless_a_cut_is_asked_for(how: str, words: tuple[str, ...]) -> None:
    with_or_without = f", too_long = {how}" if how else ""
    checks = checked(synced({', too_long = "cut"': with_or_without}))

    same(AMBER, checks["text lengths"], "opportunity.name (300 > 255)", *words)
    assert others(checks, "text lengths") == {GREEN}


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ('{ first_of = ["name", "customerneed"] }', "(2000 > 255)"),
        ('{ when = "statecode", is = { 0 = "customerneed" }, else = "name" }', "(2000 > 255)"),
        ('{ when = "customerneed", is = { "a" = "stepname" } }', ""),
        ('"originatingleadid.description"', "(2000 > 255)"),
        ('"customerid.description"', "(2000 > 255)"),
        ('{ column = "customerneed", equals = "x" }', ""),
        ('{ column = "originatingleadid", as = "name" }', ""),
    ],
)
def test_every_text_that_a_field_may_take_is_measured(source: str, told: str) -> None:
    """A longer text of any of them is cut, wherever it comes from."""
    check = checked(synced({"[company]": f"nextStep = {source}\n[company]"}))["text lengths"]

    if told:
        same(AMBER, check, f"opportunity.nextStep {told}: longer texts will be cut")
        assert ("a single column" in check.remedy) is source.startswith("{")
    else:
        assert check.light is GREEN


@pytest.mark.parametrize("how", ["cut", "reject"])
def test_too_long_is_heeded_one_hop_away(how: str) -> None:
    line = f'nextStep = {{ column = "originatingleadid.description", too_long = "{how}" }}'
    check = checked(synced({"[company]": f"{line}\n[company]"}))["text lengths"]

    if how == "cut":
        assert (check.light, "opportunity.nextStep" in check.found) == (GREEN, True)
    else:
        same(AMBER, check, "will be parked")


def test_people_can_only_be_matched_by_a_field_that_can_be_searched() -> None:
    checks = checked(synced({'marketo = "email"': 'marketo = "title"'}))

    same(RED, checks["matching people"], "by title", f"{at('match')}, people.match: ", "email")
    assert others(checks, "matching people") == {GREEN}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"categories    = [1000]": "categories    = [77]"},
            ("category 77", f"{at('categories')}, stakeholders.categories"),
        ),
        ({"exclude       = []": 'exclude       = ["Nobody"]'}, (f"no connection role Nobody ({at('exclude')})",)),
        (
            {"primary_roles = []": 'primary_roles = ["Nobody", "Primary Contact"]'},
            (f"no connection role Nobody ({at('primary_roles')})",),
        ),
        (
            {'# "Decision Maker" = "DM"': '"Decision Taker" = "DM"'},
            (f"no connection role Decision Taker ({at('[stakeholders.rename]', 1)})",),
        ),
    ],
)
def test_stakeholder_roles_and_categories_that_do_not_exist_are_amber(
    changes: Mapping[str, str], words: tuple[str, ...]
) -> None:
    checks = checked(synced(changes))

    same(AMBER, checks["stakeholder roles"], *words)
    assert others(checks, "stakeholder roles") == {GREEN}


def test_the_mapping_is_called_by_the_name_of_its_file(stage: Stage) -> None:
    text = CONFIG.replace('"emailaddress1"', '"new_address"').replace(
        'website  = "websiteurl"', 'nothing = "websiteurl"'
    )
    for exclude in ("[]", '["Nobody"]'):
        found = text.replace("exclude       = []", f"exclude = {exclude}")
        stage.world = replace(stage.world, config=parse(found, name="mine.toml"))
        checks = checked(stage)

        lines = screen(list(checks.values()))
        assert "sync.toml" not in lines
        assert max(map(len, lines.splitlines())) <= 80
        same(RED, checks["columns"], f"({at('match').replace('sync', 'mine')}, people.match (entry 1).dataverse)")
        same(RED, checks["fields"], at("website").replace("sync", "mine"))
        assert checks["mapping file"].found.startswith("mine.toml is understood")


def test_a_field_of_created_people_is_found_in_its_own_table() -> None:
    fields = {
        **CREATE,
        "[stakeholders]\n": '[people.fields]\nlastName = "lastname"\nnothing = "firstname"\n[stakeholders]\n',
    }

    same(RED, checked(synced(fields))["fields"], f"people.nothing ({at('[stakeholders]', 2)})")


# --- Marketo ----------------------------------------------------------------------------------------------------


def test_a_wrong_secret_of_marketo(stage: Stage) -> None:
    client = stage.marketo.identity.clients[MARKETO_CLIENT]
    stage.marketo.identity.clients[MARKETO_CLIENT] = replace(client, secret="another")
    stage.world = replace(stage.world, target=stage._target())
    checks = checked(stage)

    same(RED, checks["sign-in to Marketo"], "MARKETO_CLIENT_SECRET", "LaunchPoint")
    assert checks["opportunities"].light is UNKNOWN
    assert RED not in others(checks, "sign-in to Marketo")


EVERYTHING = ["Read-Write Opportunity", "Read-Write Company", "Read-Write Sales Person", "Read-Write Lead"]


@pytest.mark.parametrize(
    ("taken", "left", "name", "words"),
    [
        ("Read-Write Opportunity", "Read-Only Opportunity", "opportunities", ("not write", "“Read-Write Opportunity”")),
        ("Read-Write Opportunity", "", "opportunity roles", ("denied", "“Read-Write Opportunity”")),
        ("Read-Write Company", "Read-Only Company", "companies", ("not write", "“Read-Write Company”")),
        ("Read-Write Sales Person", "", "sales persons", ("denied", "“Read-Write Sales Person”")),
        ("Read-Write Lead", "Read-Only Lead", "people", ("not write", "“Read-Write Lead”")),
    ],
)
def test_a_permission_that_the_api_user_lacks(taken: str, left: str, name: str, words: tuple[str, ...]) -> None:
    stage = synced(SALES | CREATE)
    granted = [each for each in EVERYTHING if each != taken] + [left]
    stage.marketo.switches.set({"permissions": {MARKETO_CLIENT: granted}})

    checks = checked(stage)

    same(RED, checks[name], *words)
    assert stage.limiter.pauses == []
    for other in {"opportunities", "companies", "sales persons", "people"} - {name}:
        if not (other == "opportunities" and "Opportunity" in taken):
            assert checks[other].light is GREEN, other


def test_an_allowlist_that_keeps_us_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses even what needs no permission (marketo.md §1.6)."""
    monkeypatch.setattr(stage.marketo.identity, "allows", lambda *_: False)
    checks = checked(stage)

    same(RED, checks["calls left today"], "603", "allowlist")
    assert checks["opportunities"].light is UNKNOWN


@pytest.mark.parametrize(("code", "light"), [("1003", GREEN), ("1002", GREEN), ("610", RED)])
def test_only_an_answer_about_the_record_shows_that_we_may_write(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, code: str, light: Light
) -> None:
    def refused(name: str, _body: Any) -> list[dict[str, Any]]:
        raise ApiError(code, f"deleteBy of {name} not specified")

    monkeypatch.setattr(stage.marketo, "delete", refused)

    assert checked(stage)["companies"].light is light


def test_where_people_are_only_looked_up_reading_is_enough(stage: Stage) -> None:
    stage.marketo.switches.set({"permissions": {MARKETO_CLIENT: [*EVERYTHING[:3], "Read-Only Lead"]}})
    assert others(checked(stage)) == {GREEN}

    stage.marketo.switches.set({"permissions": {MARKETO_CLIENT: EVERYTHING[:3]}})
    stage.world = replace(stage.world, target=stage._target())
    same(RED, checked(stage)["people"], "“Read-Only Lead”")


@pytest.mark.parametrize("roles", ["read-only", "unavailable"])
def test_a_marketo_that_is_linked_to_a_crm(stage: Stage, roles: str) -> None:
    stage.marketo.switches.set({"native_crm_sync": True, "native_crm_roles": roles})
    checks = checked(stage)

    same(RED, checks["no CRM link"], "1018", "can't be undone")
    assert {checks[name].light for name in ("opportunities", "opportunity roles", "companies")} == {UNKNOWN}
    assert others(checks, "no CRM link") == {GREEN, UNKNOWN}
    assert stage.limiter.pauses == []


def test_what_stopped_the_sync_is_asked_again(stage: Stage) -> None:
    stage.limiter.pauses.append((stage.clock.now() + timedelta(minutes=5), "stop", "access denied a while ago"))

    assert others(checked(stage)) == {GREEN}


@pytest.mark.parametrize(
    ("used", "light", "words"),
    [(25_000, RED, ("used up", "MARKETO_DAILY_CALLS")), (21_000, AMBER, ("of our 25,000", "06:05"))],
)
def test_our_share_of_the_calls(stage: Stage, used: int, light: Light, words: tuple[str, ...]) -> None:
    stage.limiter.used = used
    checks = checked(stage)

    same(light, checks["calls left today"], *words)
    assert RED not in others(checks, "calls left today")


def test_a_subscription_that_others_use_up_is_amber_and_one_without_calls_is_red(stage: Stage) -> None:
    stage.marketo.switches.set({"background_daily": 40_000})
    same(AMBER, checked(stage)["calls left today"], "everybody used 40,0", "other integrations")

    stage.marketo.switches.set({"background_daily": 50_000})
    same(RED, checked(stage)["calls left today"], "607")


@pytest.mark.parametrize(("ahead", "light"), [(120, AMBER), (-120, AMBER), (1200, RED)])
def test_a_clock_that_differs_from_marketos(stage: Stage, ahead: int, light: Light) -> None:
    stage.marketo.clock.advance(-ahead)
    stage.world = replace(stage.world, target=stage._target())
    checks = checked(stage)

    same(light, checks["clock"], f"{abs(ahead)} s {'ahead' if ahead > 0 else 'behind'}", "time server")
    assert others(checks, "clock") == {GREEN}


def test_answers_that_tell_no_time_are_amber(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.marketo_app, "_request_id", lambda _state: "plain")
    stage.world = replace(stage.world, target=stage._target())

    same(AMBER, checked(stage)["clock"], "don't tell")


# --- what runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("*/5 * * * *", ("six fields, not 5",)),
        ("00:05:00", ("six fields, not 1",)),
        ("every 5 min; or so, ok?", ("every is no second",)),
        ("0 99 * * * *", ("99 is no minute",)),
        ("0 0 0 31 FEB *", ("never fires",)),
        ("0 0 0 * * Someday", ("no weekday",)),
    ],
)
def test_a_schedule_that_is_none(stage: Stage, schedule: str, words: tuple[str, ...]) -> None:
    checks = checked(stage, schedule=schedule)

    same(RED, checks["schedule"], *words)
    assert checks["last tick"].light is UNKNOWN


def test_a_secret_that_was_taken_for_a_schedule_is_not_repeated(stage: Stage) -> None:
    check = checked(stage, schedule="s3cr3t-value")["schedule"]

    assert check.light is RED
    assert "s3cr3t" not in f"{check.found} {check.remedy}"


def test_a_long_queue_is_amber(stage: Stage) -> None:
    for _ in range(21):
        stage.world.queue.put(Work((an_id(),)))

    same(AMBER, checked(stage)["queue"], "21 messages", "behind")


def test_poison_is_amber(stage: Stage) -> None:
    stage.world.queue.poison(Lane.SLOW, "a body")  # type: ignore[attr-defined]
    same(AMBER, checked(stage)["poison"], "1 messages failed", "next tick")

    stage.world.queue.set_aside("not ours", "why")
    same(AMBER, checked(stage)["poison"], "not ours", "opportunity-sync-unreadable")


def test_ticks_that_stopped_coming_are_amber(stage: Stage) -> None:
    stage.clock.sleep(600)
    assert checked(stage)["last tick"].light is GREEN

    stage.clock.sleep(3600)
    same(AMBER, checked(stage)["last tick"], "due at 2026-03-02T09:00", "start the functions")


def test_a_tick_that_failed_is_told_with_its_reason(stage: Stage) -> None:
    stage.dataverse.switches["application_user"] = "missing"
    with pytest.raises(ConfigurationError):
        stage.variant().detect()
    stage.dataverse.switches["application_user"] = "enabled"

    same(RED, checked(stage)["last tick"], "create an application user")


def test_a_pause_is_amber(stage: Stage) -> None:
    pause(stage.world, "")

    same(AMBER, checked(stage)["last tick"], "paused since", "resume")


# --- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(cli, "setup", lambda _env: a_setup(stage))
    return stage


def test_amber_is_no_problem_and_red_is_one(shown: Stage, capsys: Any) -> None:
    pause(shown.world, "")
    assert cli.main(["validate"]) == cli.GOOD
    assert "  amber  last tick: paused since" in capsys.readouterr().out

    shown.dataverse.switches["application_user"] = "missing"
    assert cli.main(["validate"]) == cli.PROBLEMS
    text = capsys.readouterr().out
    assert "  red    application user: Dataverse does not know us" in text
    assert "         → create an application user for" in text
    assert "  -      read rights: not checked, needs “application user”" in text
    assert max(map(len, text.splitlines())) <= 80


def test_json_tells_everything(shown: Stage, capsys: Any) -> None:
    assert cli.main(["validate", "--json"]) == cli.GOOD

    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"green": 36, "amber": 0, "red": 0, "not checked": 0}
    assert found["checks"][-1] == {
        "group": "Running",
        "name": "last tick",
        "light": "green",
        "found": "at 2026-03-02T08:00:00+00:00",
        "remedy": "",
    }


def in_a_process(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    command = [sys.executable, "-m", "sync_core", "validate", *arguments]
    return subprocess.run(command, cwd=ROOT, env=bare | settings, capture_output=True, text=True, check=False)  # noqa: S603 - our own program


def test_without_any_setting_each_service_says_what_is_missing() -> None:
    done = in_a_process()

    assert (done.returncode, done.stderr) == (cli.PROBLEMS, "")
    for name in ("DATAVERSE_URL", "MARKETO_URL", "MARKETO_CLIENT_ID", "MARKETO_CLIENT_SECRET", STORAGE):
        assert f"{name} is missing" in done.stdout
    assert "  green  mapping file: sync.toml is understood" in done.stdout


# --- real clients, real storage ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings that lead to both emulators over HTTPS."""
    folder = tmp_path_factory.mktemp("tls")
    authority = certificate_authority(folder)
    with (
        serving(DataverseApp(DataverseState()), folder=folder) as dataverse,
        serving(MarketoApp(MarketoState()), folder=folder) as marketo,
    ):
        yield {
            "DATAVERSE_URL": dataverse,
            "DATAVERSE_AUTHORITY_HOST": dataverse,
            "DATAVERSE_TENANT_ID": TENANT,
            "DATAVERSE_CLIENT_ID": CLIENT_ID,
            "DATAVERSE_CLIENT_SECRET": CLIENT_SECRET,
            "MARKETO_URL": marketo,
            "MARKETO_CLIENT_ID": MARKETO_CLIENT,
            "MARKETO_CLIENT_SECRET": "emulator-secret",
            "REQUESTS_CA_BUNDLE": str(authority),
        }


def test_a_process_of_its_own_finds_all_well_over_https_and_in_azurite(
    services: dict[str, str], azurite: Azurite
) -> None:
    done = in_a_process(**services, **{STORAGE: azurite.connection_string})

    assert (done.returncode, done.stderr) == (cli.GOOD, "")
    assert "36 checks: 36 green" in done.stdout


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"DATAVERSE_CLIENT_SECRET": "wrong"}, "sign-in to Dynamics", ("AADSTS7000215", "copy the secret's value")),
        ({"DATAVERSE_TENANT_ID": an_id()}, "sign-in to Dynamics", ("sign us in", "DATAVERSE_TENANT_ID")),
        ({"DATAVERSE_CLIENT_ID": an_id()}, "sign-in to Dynamics", ("AADSTS700016", "DATAVERSE_CLIENT_ID")),
        ({"DATAVERSE_CLIENT_SECRET_EXPIRES": "2020-01-31"}, "secret or certificate", ("expired on 2020-01-31",)),
        ({"MARKETO_CLIENT_ID": an_id()}, "sign-in to Marketo", ("MARKETO_CLIENT_ID", "LaunchPoint")),
        ({STORAGE: "nonsense"}, "storage settings", ("no connection string",)),
        ({STORAGE: "", f"{STORAGE}__queueServiceUri": "x"}, "storage settings", ("queueServiceUri must look like",)),
        ({"SYNC_SCHEDULE": "*/5 * * * *"}, "schedule", ("SYNC_SCHEDULE: it must have six fields, not 5",)),
        ({"SYNC_CONFIG": "missing.toml"}, "mapping file", ("missing.toml can't be read",)),
    ],
)
def test_what_only_the_real_clients_tell(
    services: dict[str, str], azurite: Azurite, monkeypatch: pytest.MonkeyPatch, changes: Any, name: str, words: Any
) -> None:
    environment = services | {STORAGE: azurite.connection_string} | changes
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", environment["REQUESTS_CA_BUNDLE"])

    checks = {check.name: check for check in validate(setup(environment, prefix="Validate"))}

    same(RED, checks[name], *words)
    assert RED not in others(checks, name)
    assert checks["queues" if STORAGE not in changes else "application user"].light is GREEN


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"DATAVERSE_CLIENT_SECRET_EXPIRES": "11/23/2028"}, "optional settings", ("a date such as 2027-01-31",)),
        ({"ALERT_WEBHOOK_URL": "hooks"}, "optional settings", ("ALERT_WEBHOOK_URL must look like", "left out")),
        ({"STATUS_SIGN_IN": "Entra"}, "optional settings", ("STATUS_SIGN_IN must be key or entra",)),
        (WORKER, "telemetry", ("to Application Insights, without ", *BY_THE_WORKER, "docs/telemetry.md")),
        (WORKER | BY_THE_WORKER | {INSTRUMENTATIONS: "requests"}, "telemetry", (f"without {INSTRUMENTATIONS}",)),
        (WORKER | {"SYNC_TELEMETRY": "off"}, "telemetry", ("to Application Insights, without ",)),
    ],
)
def test_what_stops_nothing_is_amber_and_everything_else_is_looked_at(
    services: dict[str, str], azurite: Azurite, monkeypatch: pytest.MonkeyPatch, changes: Any, name: str, words: Any
) -> None:
    environment = services | {STORAGE: azurite.connection_string} | changes
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", environment["REQUESTS_CA_BUNDLE"])

    checks = {check.name: check for check in validate(setup(environment, prefix="Validate"))}

    same(AMBER, checks[name], *words)
    assert others(checks, name) == {GREEN}


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({}, "off"),
        (WORKER | BY_THE_WORKER, "to Application Insights"),
        (WORKER | {"APPLICATIONINSIGHTS_CONNECTION_STRING": ""}, "off"),
        (WORKER | {"PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": "false"}, "to Application Insights"),
        (WORKER | BY_THE_WORKER | {INSTRUMENTATIONS: f"more, {','.join(LIBRARIES)}"}, "to Application Insights"),
        ({"SYNC_TELEMETRY": "console"}, "console"),
    ],
)
def test_where_telemetry_goes_is_told(services: dict[str, str], changes: Any, where: str) -> None:
    environment = services | {STORAGE: "UseDevelopmentStorage=true"} | changes

    assert setup(environment).telemetry == (where, [])


@pytest.mark.parametrize(
    ("days", "light", "words"),
    [(31, GREEN, "expires on 2"), (29, AMBER, "expires on 2"), (-1, RED, "expired on 2")],
)
def test_what_signs_in_to_dynamics_is_told_of_a_month_before_it_expires(
    stage: Stage, days: int, light: str, words: str
) -> None:
    expires = stage.clock.now() + timedelta(days=days)
    stage.world = replace(stage.world, credentials_expire=expires)

    check = checked(stage, signs_in=SignIn.SECRET)["secret or certificate"]

    assert (check.light, check.found) == (light, f"{words[:-1]}{expires.date().isoformat()}")
    assert bool(check.remedy) is (light is not GREEN)


@pytest.mark.parametrize(
    ("signs_in", "words", "expiry"),
    [
        (SignIn.MANAGED_IDENTITY, "as the app's managed identity", "none, so nothing expires"),
        (SignIn.FEDERATED, "as the app registration, by a managed identity", "none, so nothing expires"),
        (SignIn.SECRET, "as the app registration, by its secret", "when it expires is not known"),
        (SignIn.CERTIFICATE, "as the app registration, by its certificate", "when it expires is not known"),
    ],
)
def test_as_whom_the_app_signs_in_is_told(stage: Stage, signs_in: SignIn, words: str, expiry: str) -> None:
    checks = checked(stage, signs_in=signs_in)

    assert others(checks) == {GREEN}
    assert checks["sign-in to Dynamics"].found == words
    assert checks["secret or certificate"].found.startswith(expiry)


def test_your_own_sign_in_is_amber_since_the_rights_are_yours(stage: Stage) -> None:
    checks = checked(stage, signs_in=SignIn.OWN)

    same(AMBER, checks["sign-in to Dynamics"], "as you, not as the app", "“Check now”")
    assert others(checks, "sign-in to Dynamics") == {GREEN}, "they are looked at all the same"


UNREAD = "@Microsoft.KeyVault(SecretUri=https://v.vault.invalid/secrets/s)"


@pytest.mark.parametrize(
    ("setting", "name", "light"),
    [
        ("DATAVERSE_CLIENT_SECRET", "Dynamics settings", RED),
        ("MARKETO_CLIENT_SECRET", "Marketo settings", RED),
        (STORAGE, "storage settings", RED),
        ("ALERT_WEBHOOK_URL", "optional settings", AMBER),
    ],
)
def test_a_key_vault_reference_that_nobody_followed_is_told_and_not_sent(
    services: dict[str, str], azurite: Azurite, monkeypatch: pytest.MonkeyPatch, setting: str, name: str, light: Light
) -> None:
    environment = services | {STORAGE: azurite.connection_string, setting: UNREAD}
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", environment["REQUESTS_CA_BUNDLE"])

    checks = {check.name: check for check in validate(setup(environment, prefix="Unread"))}

    same(light, checks[name], f"{setting} is a Key Vault reference", "'Key Vault Secrets User'", "restart the app")
    assert "vault.invalid" not in f"{checks[name]}"
    assert RED not in others(checks, name)


def test_a_stop_of_the_running_sync_is_neither_heeded_nor_made(
    services: dict[str, str], azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = services | {STORAGE: azurite.connection_string}
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", environment["REQUESTS_CA_BUNDLE"])
    running = build(Settings.from_env(environment), prefix="Stopped").world
    running.limiter.pause(until=running.clock.now() + timedelta(minutes=5), reason="603 a while ago", stop=True)

    checks = validate(setup(environment, prefix="Stopped"))

    assert {check.light for check in checks} == {GREEN}
    with pytest.raises(ConfigurationError, match="603 a while ago"):
        running.target.usage()


def test_storage_that_is_not_there_is_red_for_each_of_its_parts(services: dict[str, str]) -> None:
    closed = "http://127.0.0.1:9"
    endpoints = "".join(f"{name}Endpoint={closed}/account;" for name in ("Blob", "Queue", "Table"))
    connection = f"DefaultEndpointsProtocol=http;AccountName=account;AccountKey=c2VjcmV0;{endpoints}"

    probes = setup(services | {STORAGE: connection}, prefix="None").probes

    for name in ("tables", "queues", "blobs"):
        with pytest.raises(Unavailable, match="no answer"):
            probes[name]()


# --- the documents ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["connect-dynamics.md", "connect-marketo.md"])
def test_every_line_that_the_pages_show_is_one_that_validate_prints(stage: Stage, page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    told = [line for line in text.splitlines() if line.startswith(("  green", "  amber", "  red", "  - "))]

    assert len(told) >= 7
    assert set(told) <= set(screen(validate(a_setup(stage))).splitlines())
    steps = [step for step in text.split("\n## ")[1:] if not step.startswith("What no documentation tells")]
    assert all("\n  green  " in step for step in steps)
