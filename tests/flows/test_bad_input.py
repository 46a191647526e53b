"""Bad input of every kind: a clear error or a documented outcome, and nothing changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sync_core.errors import ConfigurationError
from sync_core.mapping import parse
from sync_core.model import Lane, State
from sync_core.wiring import read_config
from tests.flows.mapped import written
from tests.flows.org import Org
from tests.flows.test_changes import state_of
from tests.stage import Stage


def trouble_of(stage: Stage) -> str:
    stage.tick()
    outcome = stage.deliver()
    assert outcome is not None
    assert isinstance(outcome.trouble, ConfigurationError)
    assert stage.opportunities() == {}
    return str(outcome.trouble)


def test_a_rule_about_a_column_that_dynamics_does_not_have_stops_the_lane() -> None:
    """A field can be left alone; without its column a rule would decide wrongly."""
    rule = {'customer_role = "Primary Contact"': 'customer_role = { when = "new_kind", is = { 2 = "A" }, else = "B" }'}
    stage = Stage(changes=rule)
    Org(stage)

    assert "opportunity has no column new_kind" in trouble_of(stage)


RULE = '[[filter.rule]]\ncolumn = "statecode"\nnull = false\n[[filter.rule]]\ncolumn = '
NO_COLUMN = "Dynamics' {} has no column new_missing: use a column's logical name"


@pytest.mark.parametrize(
    ("text", "line", "place", "told"),
    [
        (f'{RULE}"new_missing"\nin = [1]', "new_missing", "filter.rule (entry 2).column", "opportunity"),
        (f'{RULE}"account.new_missing"\nin = [1]', "new_missing", "filter.rule (entry 2).column", "account"),
        (f'{RULE}"contact.new_missing"\nin = [1]', "new_missing", "filter.rule (entry 2).column", "contact"),
        (
            {"stakeholders": ['customer_role = { when = "new_missing", is = { 2 = "A" }, else = "B" }']},
            "new_missing",
            "stakeholders.customer_role.when",
            "opportunity",
        ),
        (
            {"company": ['only = [{ column = "new_missing", in = [1] }]']},
            "new_missing",
            "company.only (entry 1).column",
            "account",
        ),
        (
            {"people": ['match = [{ marketo = "email", dataverse = "new_missing" }]']},
            "new_missing",
            "people.match (entry 1).dataverse",
            "contact",
        ),
        (
            f'{RULE}"name"\nsince = "P1M"',
            "since =",
            "filter.rule (entry 2).since",
            "name holds no time (it is String)",
        ),
        (
            f'{RULE}"account.customertypecode"\nnull = false\nnot_in = ["Vendor"]',
            "not_in =",
            "filter.rule (entry 2).not_in",
            "account.customertypecode holds numbers (it is Picklist): name them, no labels",
        ),
        (
            {"company": ['only = [{ column = "customertypecode", equals = "Vendor" }]']},
            "Vendor",
            "company.only (entry 1).equals",
            "customertypecode holds numbers (it is Picklist): name them, no labels",
        ),
        (
            {"removals": ["flag = { gone__c = true }"]},
            "gone__c",
            "removals.flag.gone__c",
            "Marketo has no such field: take it out, or have Marketo support create it",
        ),
    ],
)
def test_what_only_the_services_show_is_told_with_the_file_the_line_and_the_key(
    text: str | dict[str, list[str]], line: str, place: str, told: str
) -> None:
    text = f"{written({})}\n{text}" if isinstance(text, str) else written(text)
    number = next(number for number, each in enumerate(text.splitlines(), 1) if line in each and each[0] != "#")
    stage = Stage()
    org = Org(stage)
    org.opportunity(contact=org.cid)
    stage.engine = stage.variant(config=parse(text, name="mine.toml"))

    what = told if " " in told else NO_COLUMN.format(told)
    assert trouble_of(stage) == f"mine.toml line {number}, {place}: {what}"


def test_all_rules_without_their_columns_are_told_at_once() -> None:
    rules = f'{RULE}"new_one"\nin = [1]\n[[filter.rule]]\ncolumn = "new_two"\nin = [1]\n'
    stage = Stage()
    Org(stage)
    stage.engine = stage.variant(config=parse(f"{written({})}\n{rules}", name="mine.toml"))

    text = trouble_of(stage)

    assert (
        "(entry 2).column: Dynamics' opportunity has no column new_one: use a column's logical name; mine.toml" in text
    )
    assert "(entry 3).column: Dynamics' opportunity has no column new_two" in text


def test_a_missing_privilege_is_named(stage: Stage) -> None:
    stage.dataverse.switches["privileges"] = {"contact": "business_unit"}

    with pytest.raises(ConfigurationError, match="contact"):
        stage.tick()


@pytest.mark.parametrize("address", ["not an address", "two@at@signs.invalid", "jörg@acme.invalid", "a,b@acme.invalid"])
def test_an_address_that_marketo_refuses_gives_no_role_and_stops_nobody(stage: Stage, org: Org, address: str) -> None:
    org.stakeholder(org.contact(address))
    org.stakeholder(org.bob, "Champion")

    stage.sync()

    assert stage.roles() == {(org.deal, org.lead_bob, "Champion")}
    assert state_of(stage, org.deal)[0] is State.IN_STEP


def test_an_unreadable_configuration_is_named(tmp_path: Path) -> None:
    settings = Stage().settings
    with pytest.raises(ConfigurationError, match=r"SYNC_CONFIG: other/missing\.toml can't be read: No such file"):
        read_config(replace(settings, sync_config="other/missing.toml"))
    (tmp_path / "latin.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        read_config(replace(settings, sync_config=str(tmp_path / "latin.toml")))


def test_a_record_too_large_for_any_call_harms_only_itself(stage: Stage, org: Org) -> None:
    big = org.opportunity("Big")

    def too_large(request: object) -> None:
        body = getattr(request, "body", b"") or b""
        if isinstance(body, bytes) and big.encode() in body and b'"input"' in body:
            request.body = body.replace(b'"Big"', b'"' + b"x" * 1_100_000 + b'"')  # type: ignore[attr-defined]
            request.headers["Content-Length"] = str(len(request.body))  # type: ignore[attr-defined]

    stage.marketo_wire.fault = too_large
    stage.sync()

    assert org.deal in stage.opportunities()
    assert state_of(stage, big) == (State.PARKED, "413: the record is larger than Marketo takes")


def test_poison_that_is_not_ours_is_kept_aside(stage: Stage) -> None:
    stage.world.queue.poison(Lane.FRESH, "what is this?")

    stage.tick()

    assert stage.world.queue.lengths()["unreadable"] == 1
    assert stage.world.queue.lengths()["fresh poison"] == 0
