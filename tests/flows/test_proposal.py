"""`mapping init` proposes a sync.toml, `mapping show` tells the present one by an example."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sync_core import cli
from sync_core.flows.mapped import shown
from sync_core.flows.proposal import propose
from sync_core.flows.validate import Setup
from sync_core.mapping import Column, parse
from tests.flows.org import Org
from tests.stage import CONFIG, Stage
from tools.emulators.dataverse import metadata
from tools.emulators.dataverse.administration import columns as publish
from tools.emulators.marketo.catalogue import Field

ROOT = Path(__file__).parents[2]


def add_column(stage: Stage, table: str, name: str, kind: str, *labels: str, **more: Any) -> None:
    options = [{"value": number, "label": label} for number, label in enumerate(labels, 1)]
    publish(stage.dataverse, {"table": table, "add": [{"name": name, "type": kind, "options": options, **more}]})


def add_field(stage: Stage, kind: str, name: str, type_: str = "string") -> None:
    stage.marketo.add_field(kind, Field(name, type_, 255 if type_ == "string" else None, custom=True))


@pytest.fixture
def rich(stage: Stage) -> Stage:
    """An org with a custom column of each kind, and a Marketo with fields of the same names."""
    for name, kind, *labels in (
        ("new_region", "choice", "North", "South"),
        ("cr123_interests", "multichoice", "Skates", "Skis"),
        ("new_deposit", "money"),
        ("new_partner", "lookup"),
        ("new_signed_on", "date"),
        ("new_score", "int"),
        ("new_public", "bool"),
        ("new_pitch", "memo"),
        ("new_secret", "string"),
    ):
        add_column(stage, "opportunity", name, kind, *labels, targets=["account"] if kind == "lookup" else [])
    add_column(stage, "account", "new_segment", "choice", "Key")
    add_column(stage, "contact", "new_hobby", "multichoice", "Skates", "Skis")
    add_column(stage, "contact", "new_shoe_size", "int")
    for name, kind in (("new_company", "string"), ("new_email", "string"), ("new_id", "int")):
        add_column(stage, "contact", name, kind)
    for name, type_ in (
        ("region__c", "string"),
        ("Interests", "string"),
        ("deposit__c", "currency"),
        ("new_partner__c", "string"),
        ("signedOn", "date"),
        ("score__c", "float"),
        ("public__c", "boolean"),
        ("pitch__c", "integer"),  # a memo's text is no number
        ("elsewhere__c", "string"),
    ):
        add_field(stage, "opportunities", name, type_)
    add_field(stage, "companies", "segment__c")
    add_field(stage, "leads", "hobby__c")
    add_field(stage, "leads", "horoscope__c")
    return stage


def fields_of(text: str, section: str = "opportunity") -> Mapping[str, Any]:
    return {**getattr(parse(text), section.partition(".")[0]).fields}


# --- init -----------------------------------------------------------------------------------------------------


def test_the_defaults_of_the_package_are_the_checked_in_file() -> None:
    assert (ROOT / "sync_core/defaults.toml").read_text(encoding="utf-8") == CONFIG


def test_a_proposal_applied_unchanged_is_the_native_defaults(rich: Stage) -> None:
    proposed = parse(propose(rich.world)["toml"])

    assert proposed == parse(CONFIG)
    assert proposed.version == parse(CONFIG).version


def test_each_kind_of_column_is_proposed_in_the_form_that_fits(rich: Stage) -> None:
    found = propose(rich.world)

    lines = found["proposed"]["opportunity"]
    sources = fields_of("[opportunity]\n" + "\n".join(lines))
    assert {name: (each.column, each.form, each.currency, each.join) for name, each in sources.items()} == {
        "region__c": ("new_region", "label", None, None),
        "Interests": ("cr123_interests", "label", None, ";"),
        "deposit__c": ("new_deposit", "value", "base", None),
        "new_partner__c": ("new_partner", "name", None, None),
        "signedOn": ("new_signed_on", "value", None, None),
        "score__c": ("new_score", "value", None, None),
        "public__c": ("new_public", "value", None, None),
    }
    assert 'segment__c = { column = "new_segment", as = "label" }' in found["proposed"]["company"][-1]


def test_fields_of_created_people_are_proposed_and_what_comes_from_elsewhere_is_not(rich: Stage) -> None:
    """Not the id, nor the address that the match rules fill, nor what belongs to the company."""
    found = propose(rich.world)

    lines = found["proposed"]["people.fields"]
    sources = fields_of("[opportunity]\n[people.fields]\n" + "\n".join(lines), "people")
    assert {name: (each.column, each.form) for name, each in sources.items()} == {
        "hobby__c": ("new_hobby", "label"),
        "leadSource": ("leadsourcecode", "label"),
    }
    part = found["toml"].partition("[people.fields]")[2].partition("\n[")[0]
    assert 'when_missing = "create"' in part.splitlines()[0]
    assert 'lastName  = "lastname"\n# Proposed' in part
    assert "new_shoe_size (Integer)" in part
    assert "horoscope__c" not in found["toml"]
    assert "people.fields" not in found["Marketo fields left over"]


def test_what_has_no_counterpart_is_listed(rich: Stage) -> None:
    found = propose(rich.world)

    assert {"elsewhere__c", "pitch__c", "fiscal"} <= set(found["Marketo fields left over"]["opportunity"])
    assert found["custom columns left over"]["opportunity"] == ["new_pitch", "new_secret"]
    assert "elsewhere__c (string 255)" in found["toml"]
    assert "new_secret (String)" in found["toml"]


def test_every_line_stays_valid_when_it_is_uncommented_and_is_filled(rich: Stage) -> None:
    """One by one, and all together: each becomes one more field that both services can serve."""
    found = propose(rich.world)
    text = found["toml"]
    everything = text
    for section, lines in found["proposed"].items():
        assert lines
        before = fields_of(text, section).keys()
        for line in lines:
            assert text.count(f"# {line}\n") == 1
            name = line.split(" = ")[0]
            assert fields_of(text.replace(f"# {line}\n", f"{line}\n"), section).keys() - before == {name}
            everything = everything.replace(f"# {line}\n", f"{line}\n")
    everything = everything.replace('when_missing  = "wait"', 'when_missing  = "create"')
    stage = Stage(changes={CONFIG: everything})
    stage.dataverse.tables.update(rich.dataverse.tables)
    stage.marketo.database.kinds.update(rich.marketo.database.kinds)
    told = shown(stage.world, None)["fields"]
    assert {name: field["left alone"] for part in told.values() for name, field in part.items()} == dict.fromkeys(
        [field for section in ("opportunity", "company", "people") for field in fields_of(everything, section)]
    )


def test_nothing_that_somebody_named_breaks_the_file(stage: Stage) -> None:
    """Control characters end a comment of TOML, quotes and brackets a key; `key` means something else."""
    stage.dataverse.add_role("Line\nwith = [a break]\x01 and\u2028more", 1000)
    add_column(stage, "opportunity", "new_key", "string")
    add_column(stage, "opportunity", "new_odd_one", "string")
    add_field(stage, "opportunities", "key")
    add_field(stage, "opportunities", 'odd "one"')

    found = propose(stage.world)

    assert parse(found["toml"]) == parse(CONFIG)
    (line,) = found["proposed"]["opportunity"]
    assert fields_of(f"[opportunity]\n{line}") == {'odd "one"': Column(column="new_odd_one")}


def test_the_organizations_roles_stand_beside_the_rules_of_stakeholders(stage: Stage) -> None:
    stage.dataverse.add_role("Patron", 1001)

    text = propose(stage.world)["toml"]

    part = text.partition("[stakeholders]")[2].partition("[stakeholders.rename]")[0]
    assert "#   1000 (Stakeholder): " in part
    assert "Patron" in part.partition("#   1001 (Sales Team)")[2]


def test_columns_are_known_by_their_display_names_and_companions_are_left_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = metadata.attribute

    def described(table: Any, column: Any, *, expand: bool) -> dict[str, Any]:
        item = plain(table, column, expand=expand)
        if column.name == "stepname":
            item["DisplayName"] = metadata.label({1031: "Nächster Schritt", 1033: "Next Step"})
        return item | ({"AttributeOf": "new_owner"} if column.name == "new_ownername" else {})

    monkeypatch.setattr(metadata, "attribute", described)
    add_column(stage, "opportunity", "new_ownername", "string")
    add_field(stage, "opportunities", "ownername")

    found = propose(stage.world)

    assert found["proposed"]["opportunity"] == [
        'nextStep = "stepname"  # String "Next Step" → string 255, same display name'
    ]
    assert found["custom columns left over"]["opportunity"] == []


def test_init_writes_nothing_anywhere(rich: Stage) -> None:
    propose(rich.world)

    assert rich.writes() == 0
    assert rich.world.documents.list("stamp") == []


# --- show -----------------------------------------------------------------------------------------------------


def test_each_field_is_told_with_its_types_and_the_opportunity_written_last() -> None:
    changes = {'description  = "description"': 'description = { column = "description", too_long = "reject" }'}
    stage = Stage(changes=changes)
    org = Org(stage)
    org.opportunity("Older", account=org.bolt)
    org.update("opportunity", org.deal, name="N" * 300)
    stage.load(opportunity=[{"opportunityid": org.deal, "description": "d" * 2001}])

    found = shown(stage.world, None)

    assert found["example"] == {"opportunity": org.deal, "found": True, "account": org.acme}
    fields = found["fields"]["opportunity"]
    assert fields["name"]["cut"] is True
    assert (fields["name"]["row"], fields["name"]["sent"]) == ({"name": "N" * 300}, "N" * 255)
    assert (fields["name"]["Dynamics"], fields["name"]["Marketo"]) == (["name: String 300"], "string 255")
    assert "longer than the 2000 characters" in fields["description"]["parked"]
    assert (fields["stage"]["row"], fields["stage"]["sent"]) == ({"statecode": 0}, "Open")
    assert fields["amount"]["from"] == "estimatedvalue, in the base currency"
    assert fields["amount"]["row"] == {"estimatedvalue_base": 1000.0}
    assert found["fields"]["company"]["company"]["sent"] == "Acme"


def test_a_column_that_only_decides_is_no_source() -> None:
    amount = 'amount = { when = "statecode", is = { 1 = "actualvalue" }, else = "estimatedvalue" }'
    stage = Stage(changes={'amount       = { column = "estimatedvalue", currency = "base" }': amount})
    Org(stage)

    told = shown(stage.world, None)["fields"]["opportunity"]["amount"]

    assert told["Dynamics"] == ["actualvalue: Money", "estimatedvalue: Money"]
    assert (told["row"]["statecode"], told["sent"]) == (0, 1000.0)


def test_a_chosen_example_and_why_it_counts_not(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = '\n[[filter.rule]]\ncolumn = "name"\nnot_in = ["Older"]\n'
    only = 'website  = "websiteurl"\nonly = [{ column = "name", not_in = ["Bolt"] }]'
    stage = Stage(changes={CONFIG: CONFIG.replace('website  = "websiteurl"', only) + rules})
    org = Org(stage)
    older = org.opportunity("Older", account=org.bolt)
    org.update("opportunity", org.deal, description="Written last")
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)

    assert cli.main(["mapping", "show", "--id", older]) == cli.GOOD

    text = capsys.readouterr().out
    assert "The opportunity is outside the filter: name." in text
    assert "The account is outside the filter: name." in text
    assert '  - name is not "Older"\n' in text
    assert "sent: Older" in text


def test_a_field_that_is_left_alone_says_why_and_needs_a_person(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(changes={'description  = "description"': 'description = "new_nothing"\npitch__c = "name"'})
    Org(stage)
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)

    assert cli.main(["mapping", "show"]) == cli.PROBLEMS

    text = " ".join(capsys.readouterr().out.split())
    assert "description ← new_nothing LEFT ALONE: Dynamics has no column new_nothing" in text
    assert "pitch__c ← name LEFT ALONE: Marketo has no such field" in text


def test_a_column_that_came_with_somebodys_data_is_told_as_well() -> None:
    stage = Stage(changes={'description  = "description"': 'description = "new_story"'})
    stage.load(opportunity=[{"opportunityid": Org(stage).deal, "new_story": "Once upon a time"}])

    told = shown(stage.world, None)["fields"]["opportunity"]["description"]

    assert (told["Dynamics"], told["sent"]) == (["new_story: String 4000"], "Once upon a time")


def test_without_any_opportunity_the_rest_is_shown(stage: Stage) -> None:
    found = shown(stage.world, None)

    assert found["example"]["found"] is False
    assert "row" not in found["fields"]["opportunity"]["name"]


# --- the commands ---------------------------------------------------------------------------------------------


@pytest.fixture
def here(rich: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    problems = [("SYNC_CONFIG", "sync.toml line 7: whatever is wrong with the present one")]
    monkeypatch.setattr(cli, "setup", lambda _env: Setup(rich.world, problems, {}, ""))
    monkeypatch.setattr(cli, "engine", lambda: rich.engine)
    return rich


def test_init_prints_the_file_or_writes_it_and_never_over_another(here: Stage, capsys: Any, tmp_path: Path) -> None:
    file = tmp_path / "sync.toml"

    assert cli.main(["mapping", "init"]) == cli.GOOD
    text = capsys.readouterr().out
    assert cli.main(["mapping", "init", "--out", str(file)]) == cli.GOOD
    assert file.read_text(encoding="utf-8") == text
    file.write_text("mine", encoding="utf-8")
    assert cli.main(["mapping", "init", "--out", str(file)]) == cli.USAGE
    assert file.read_text(encoding="utf-8") == "mine"
    assert "--force" in capsys.readouterr().err
    assert cli.main(["mapping", "init", "--out", str(file), "--force"]) == cli.GOOD
    assert file.read_text(encoding="utf-8") == text
    assert cli.main(["mapping", "init", "--out", str(tmp_path / "no" / "such")]) == cli.USAGE


def test_a_setting_that_is_wrong_stops_init(rich: Stage, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    problems = [("MARKETO_URL", "MARKETO_URL is missing"), ("SYNC_CONFIG", "not this")]
    monkeypatch.setattr(cli, "setup", lambda _env: Setup(rich.world, problems, {}, ""))

    assert cli.main(["mapping", "init"]) == cli.USAGE

    assert capsys.readouterr().err == "mapping init: MARKETO_URL is missing\n"


@pytest.mark.parametrize("action", ["init", "show"])
def test_as_json_it_is_one_object(here: Stage, capsys: Any, action: str) -> None:
    Org(here)

    assert cli.main(["mapping", action, "--json"]) == cli.GOOD

    assert isinstance(json.loads(capsys.readouterr().out), dict)


def test_an_example_that_is_not_there(here: Stage, capsys: Any) -> None:
    assert cli.main(["mapping", "show", "--id", "00000000-0000-4000-8000-000000000000"]) == cli.PROBLEMS

    assert "Dynamics doesn't show the opportunity" in " ".join(capsys.readouterr().out.split())


def test_what_is_shown_fits_eighty_columns(here: Stage, capsys: Any) -> None:
    org = Org(here)
    org.update("opportunity", org.deal, name="A very long name " * 15, description="one\ntwo " * 90)

    assert cli.main(["mapping", "show"]) == cli.GOOD

    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
