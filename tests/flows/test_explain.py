"""What `explain` tells of one opportunity, in data and in at most 80 columns."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from sync_core import cli
from sync_core.flows.explain import explain, named
from sync_core.report import story
from tests.flows.org import Org
from tests.flows.test_plan import positions, stored
from tests.stage import CONFIG, Stage, changed

LONG = "Überaus lange Bezeichnung, " * 20


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)
    return stage


def lines(found: dict[str, Any]) -> list[str]:
    told = story(found).splitlines()
    assert max(map(len, told)) <= 80
    return told


def configured(stage: Stage, old: str, new: str) -> Stage:
    return stage.adopt(changed({old: new}))


def test_it_writes_nothing_anywhere(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    before, (calls, _) = stored(stage), positions(stage)

    explain(stage.world, org.deal)

    assert stored(stage) == before
    assert [call for call in stage.marketo.journal.since(calls) if call["kind"] == "write"] == []


def test_each_value_says_where_it_comes_from(stage: Stage, org: Org) -> None:
    org.update("opportunity", org.deal, estimatedclosedate="2026-06-30")

    fields = explain(stage.world, org.deal)["fields"]

    assert fields["stage"]["value"] == "Open"
    assert fields["stage"]["from"] == "statecode (0), its label"
    assert fields["stage"]["converted from"] is None
    assert fields["closeDate"]["from"] == (
        "estimatedclosedate (2026-06-30), the first filled of actualclosedate, estimatedclosedate"
    )
    assert fields["isWon"]["from"] == "whether statecode (0) is 1"
    assert fields["description"]["from"] == "description (empty)"


@pytest.mark.parametrize(
    ("line", "value", "told"),
    [
        ('{ value = "Dynamics" }', "Dynamics", "the same for every opportunity"),
        ('{ first_of = ["description", "nothing"] }', None, ""),
        ('{ when = "statecode", is = { 0 = "name" } }', "Deal", "name (Deal), since statecode (0)"),
        ('{ when = "statecode", is = { 1 = "name" } }', None, "nothing, since statecode (0)"),
        ('{ column = "description", default = "none" }', "none", "description (empty): the default"),
        ('{ product = ["amount", "probability%"] }', "500.0", "the product of amount and probability%"),
        ('{ column = "estimatedvalue", currency = "transaction" }', "1000.0", "estimatedvalue (1000.0), as entered"),
        ('{ column = "statecode", in = [0, 1] }', "true", "whether statecode (0) is one of 0, 1"),
    ],
)
def test_every_kind_of_source_is_told(stage: Stage, org: Org, line: str, value: str | None, told: str) -> None:
    configured(stage, 'description  = "description"', f"description = {line}")
    org.update("opportunity", org.deal, closeprobability=50)

    found = explain(stage.world, org.deal)

    if "nothing" in line:
        assert "has no column nothing" in found["left alone"]["description"]
    else:
        assert (found["fields"]["description"]["value"], found["fields"]["description"]["from"]) == (value, told)
    assert lines(found)


def test_what_was_cut_and_converted_is_said(stage: Stage, org: Org) -> None:
    configured(
        stage, 'description  = "description"', 'description  = { column = "createdon" }\nnextStep = "description"'
    )
    org.update("opportunity", org.deal, description=LONG)

    found = explain(stage.world, org.deal)
    told = lines(found)

    assert found["cut"] == ["nextStep"]
    assert found["fields"]["nextStep"]["cut from"] == len(LONG.strip())
    assert f"    cut from {len(LONG.strip())} characters to what Marketo takes" in told


def test_a_number_that_becomes_text_is_converted(stage: Stage, org: Org) -> None:
    configured(stage, 'description  = "description"', 'description  = "statecode"')

    field = explain(stage.world, org.deal)["fields"]["description"]

    assert (field["value"], field["converted from"]) == ("0", 0)
    assert "    converted from 0" in lines(explain(stage.world, org.deal))


def test_what_marketo_holds_is_compared_value_by_value(stage: Stage, org: Org) -> None:
    stage.sync()
    assert explain(stage.world, org.deal)["differs in Marketo"] == []
    org.update("opportunity", org.deal, name="Renamed")

    found = explain(stage.world, org.deal)

    assert found["differs in Marketo"] == ["name"]
    assert found["differs from what was posted"] == ["name"]
    assert found["fields"]["name"]["in Marketo"] == "Deal"
    assert "    Marketo holds Deal" in lines(found)


def test_a_role_that_only_marketo_has_is_named(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.marketo.load({"roles": [{"externalOpportunityId": org.deal, "leadId": org.lead_cid, "role": "Friend"}]})

    assert f"  also in Marketo: Friend, person {org.lead_cid}" in lines(explain(stage.world, org.deal))


def test_what_it_waits_for_and_until_when(stage: Stage, org: Org) -> None:
    org.stakeholder(org.contact("nobody@acme.invalid"))
    stage.sync()

    told = lines(explain(stage.world, org.deal))

    due = (stage.clock.now() + timedelta(seconds=60)).isoformat(timespec="seconds")
    assert "Reason: people: 1 not in Marketo" in told
    assert any(line.startswith(f"Next try: {due}") for line in told)


def test_the_rule_that_leaves_it_out_is_named(stage: Stage, org: Org) -> None:
    configured(stage, "[removals]", '[[filter.rule]]\ncolumn = "statecode"\nin = [1]\n\n[removals]')

    found = explain(stage.world, org.deal)

    assert found["filter"] == "outside the filter: statecode"
    assert "Left out, outside the filter: statecode" in lines(found)
    assert "Nothing of it is posted; what follows is what would be." in lines(found)
    assert "Values (Marketo does not hold it):" in lines(found)


def test_company_and_sales_person_are_told(stage: Stage, org: Org) -> None:
    configured(stage, "salesperson = false", "salesperson = true")
    stage.sync()

    found = explain(stage.world, org.deal)

    assert (found["company"]["id"], found["company"]["in Marketo"]) == (org.acme, True)
    assert found["sales person"]["in Marketo"] is True
    assert f"Sales person {found['sales person']['id']}:" in lines(found)


def test_a_field_that_is_left_alone_says_why(stage: Stage, org: Org) -> None:
    configured(stage, 'description  = "description"', 'description  = "new_nothing"')

    found = explain(stage.world, org.deal)

    assert found["left alone"] == {"description": "Dynamics has no column new_nothing"}
    assert "  description: left alone, Dynamics has no column new_nothing" in lines(found)


def test_several_people_with_one_address_are_named_whatever_is_remembered(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    other = stage.people("ann@acme.invalid")[0]

    found = explain(stage.world, org.deal)

    assert found["several people"] == [{"people": [org.lead_ann, other], "taken": other}]
    assert "one contact matches several people" in story(found)


def test_of_a_parked_one_the_values_that_fit_are_shown(stage: Stage, org: Org) -> None:
    configured(stage, 'probability  = "closeprobability"', 'probability = "name"')
    stage.sync()

    fields = explain(stage.world, org.deal)["fields"]

    assert (fields["amount"]["value"], fields["probability"]["value"]) == (1000.0, None)


def test_the_company_it_is_linked_to_is_compared_too(stage: Stage, org: Org) -> None:
    stage.sync()
    field = explain(stage.world, org.deal)["fields"]["externalCompanyId"]
    assert (field["value"], field["in Marketo"], field["from"]) == (org.acme, org.acme, "the account")
    assert field["posted"]

    key = {"externalOpportunityId": org.deal}
    stage.marketo.edit({"op": "update", "object": "opportunities", "key": key, "values": {"externalCompanyId": None}})
    assert explain(stage.world, org.deal)["differs in Marketo"] == ["externalCompanyId"]


def test_of_a_deleted_one_it_tells_what_marketo_holds_and_what_was_posted(stage: Stage, org: Org) -> None:
    configured(stage, "[sync]", "[history]\nvalues = true\n[sync]")
    org.stakeholder(org.ann)
    stage.sync()
    org.delete("opportunity", org.deal)

    told = lines(explain(stage.world, org.deal))

    assert f"  role in Marketo: Decision Maker, person {org.lead_ann}" in told
    assert "Last posts:" in told


def test_a_case_in_the_base_currency_names_the_column_that_is_read(stage: Stage, org: Org) -> None:
    switch = 'amount = { when = "statecode", is = { 1 = "actualvalue" }, else = "estimatedvalue", currency = "base" }'
    configured(stage, next(line for line in CONFIG.splitlines() if line.startswith("amount")), switch)

    told = explain(stage.world, org.deal)["fields"]["amount"]["from"]

    assert told == "estimatedvalue_base (1000.0), in the base currency, since statecode (0)"


def test_what_a_rule_looks_at_is_among_what_was_read(stage: Stage, org: Org) -> None:
    configured(stage, "[removals]", '[[filter.rule]]\ncolumn = "statuscode"\nin = [1]\n[removals]')

    assert {"statuscode", "customerid"} <= explain(stage.world, org.deal)["row"].keys()


def test_a_single_long_word_is_cut_and_not_left_out(stage: Stage, org: Org) -> None:
    org.update("opportunity", org.deal, name="x" * 200)

    assert f"  name: {'x' * 70} …" in lines(explain(stage.world, org.deal))


def test_everything_fits_on_80_columns_whatever_it_says(stage: Stage, org: Org) -> None:
    configured(stage, "exclude       = []", 'exclude = ["Influencer"]')
    org.update("opportunity", org.deal, name=LONG[:200], description="x" * 400)
    for contact, role in ((org.ann, "Decision Maker"), (org.bob, "Influencer"), (org.contact(None), "Champion")):
        org.stakeholder(contact, role)
    stage.sync()
    org.update("opportunity", org.deal, name=LONG[:190], description="y" * 400)

    assert len(lines(explain(stage.world, org.deal))) > 40


# --- by name ------------------------------------------------------------------------------------------------------


def test_part_of_a_name_is_enough(stage: Stage, org: Org, capsys: Any) -> None:
    other = org.opportunity("O'Neill & Sons 100% #1")

    assert named(stage.world, "o'neill & sons 100% #") == {other: "O'Neill & Sons 100% #1"}
    assert cli.main(["explain", "O'Neill", "--json"]) == cli.GOOD
    assert json.loads(capsys.readouterr().out)["opportunity"] == other


def test_several_with_such_a_name_are_listed_with_their_ids(stage: Stage, org: Org, capsys: Any) -> None:
    other = org.opportunity("Deal " + "of a name that goes on and on " * 3)

    assert cli.main(["explain", "deal"]) == cli.PROBLEMS
    told = capsys.readouterr().out
    assert org.deal in told
    assert other in told
    assert max(map(len, told.splitlines())) <= 80

    assert cli.main(["explain", "deal", "--json"]) == cli.PROBLEMS
    assert set(json.loads(capsys.readouterr().out)["matches"]) == {org.deal, other}


def test_of_very_many_with_such_a_name_it_says_that_there_are_more(stage: Stage, org: Org, capsys: Any) -> None:
    for number in range(25):
        org.opportunity(f"Deal {number}")

    assert cli.main(["explain", "deal"]) == cli.PROBLEMS
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "At least 20 opportunities have such a name; ask again with an id, or more of it:"
    assert len(told) == 21


def test_a_name_that_nothing_has(stage: Stage, org: Org, capsys: Any) -> None:
    assert cli.main(["explain", "Nobody's"]) == cli.PROBLEMS
    assert "No opportunity has such a name" in capsys.readouterr().out
