"""The three examples of docs/mapping.md, taken from the page and run: what Marketo holds afterwards, to the field."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sync_core.mapping import SyncConfig, parse
from sync_core.model import State
from tests.flows.org import Org, lookup
from tests.stage import CONFIG, Stage
from tools.emulators.dataverse.administration import columns as publish
from tools.emulators.marketo.catalogue import Field

PAGE = (Path(__file__).parents[2] / "docs" / "mapping.md").read_text(encoding="utf-8")
MARKETOS_OWN = {"seq", "id", "marketoGUID", "createdAt", "updatedAt"}


def example(name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, name
    return found[1]


class Trial(Org):
    """An empty org under *config*; its services get the columns and fields that the example names."""

    def __init__(self, config: str) -> None:
        self.stage = Stage(changes={CONFIG: config})

    def add_columns(self, table: str, **types: str | list[str]) -> None:
        """A choice for a list of labels, numbered from 1."""
        for name, kind in types.items():
            options = [{"value": number, "label": text} for number, text in enumerate(kind, 1)]
            what = {"type": kind} if isinstance(kind, str) else {"type": "choice", "options": options}
            publish(self.stage.dataverse, {"table": table, "add": [{"name": name, **what}]})

    def add_fields(self, kind: str, **types: str) -> None:
        for name, type_ in types.items():
            self.stage.marketo.add_field(kind, Field(name, type_, 255 if type_ == "string" else None, custom=True))

    def held(self, kind: str, key: str) -> dict[str, dict[str, Any]]:
        """What Marketo holds, by key, without what it adds itself and what is empty."""
        return {row[key]: filled(row) for row in self.stage.marketo.rows(kind)}

    def state(self, key: str) -> State:
        return self.stage.world.opportunities.rows([key])[key].state

    def nothing_is_written_again(self) -> None:
        before = self.stage.writes()
        self.stage.dataverse.expire_delta_links()
        self.stage.sync()
        assert self.stage.writes() == before


def filled(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None and name not in MARKETOS_OWN}


def roles(org: Trial) -> set[tuple[str, int, str, bool]]:
    rows = org.stage.marketo.rows("roles")
    return {(row["externalOpportunityId"], row["leadId"], row["role"], row["isPrimary"]) for row in rows}


# --- the tables of the page -------------------------------------------------------------------------------------

NEEDED = {
    "removals": ("flag = { gone = true }",),  # by policy = "flag"
    "opportunity": ('amount = "estimatedvalue"', 'probability = "closeprobability"'),  # by products
    "[filter.rule]": ('column = "createdon"', "null = false"),
}


def rows_of(title: str) -> list[list[str]]:
    """The cells of every table row below the heading *title*."""
    part = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*) \|$", part, re.MULTILINE)
    return [re.split(r" *\| +", row) for row in rows]


def examples_of(title: str, section: str) -> list[tuple[str, str]]:
    """Each example of a key, with the table of sync.toml that it belongs to."""
    found = []
    for key, *_, last in rows_of(title):
        place = key.strip("`").partition(".")[0]
        where = (
            "[filter.rule]" if key.startswith("`rule.") else place if place in ("sync", "audit", "history") else section
        )
        found += [(where, code) for code in re.findall(r"`(\w+ += [^`]+)`", last)]
    return found


EXAMPLES = [
    *examples_of("`[opportunity]`", "opportunity"),
    *examples_of("`[company]`", "company"),
    *examples_of("`[people]`", "people"),
    *examples_of("`[stakeholders]`", "stakeholders"),
    *examples_of("`[owner]`", "owner"),
    *examples_of("`[filter]`", "filter"),
    *examples_of("`[removals]`", "removals"),
    *examples_of("`[sync]`, `[audit]` and `[history]`", "sync"),
]


@pytest.mark.parametrize(("section", "line"), EXAMPLES, ids=[f"{section} {line}" for section, line in EXAMPLES])
def test_every_example_of_a_key_is_valid_and_says_something(section: str, line: str) -> None:
    rest = [each for each in NEEDED.get(section, ()) if each.split()[0] != line.split()[0]]
    base = "[opportunity]\n" if section != "opportunity" else ""

    without = "\n".join([f"{base}[{section}]", *rest])

    assert parse(f"{without}\n{line}") != (parse(without) if section != "[filter.rule]" else None)


def test_there_is_an_example_for_every_section() -> None:
    assert {section for section, _ in EXAMPLES} == {*SyncConfig.model_fields, "[filter.rule]"}
    assert len(EXAMPLES) > 50


def test_the_tables_tell_the_real_defaults() -> None:
    config = SyncConfig.model_validate({"opportunity": {}})
    told = 0
    for section in ("people", "stakeholders", "owner", "filter", "removals", "sync"):
        title = "`[sync]`, `[audit]` and `[history]`" if section == "sync" else f"`[{section}]`"
        for key, _, default, *_ in rows_of(title):
            name, value = key.strip("`").removeprefix("sync."), default.strip("`")
            if re.fullmatch(r"[\d.]+|true|false|\".*\"|\[.*\]", value) and hasattr(getattr(config, section), name):
                assert getattr(getattr(config, section), name) == tomllib.loads(f"x = {value}")["x"], key
                told += 1
    assert told > 18


def test_the_filter_of_the_page_is_valid() -> None:
    block = re.search(r"```toml\n(\[filter\].*?)```", PAGE, re.DOTALL)

    assert block is not None
    config = parse(f"[opportunity]\n[removals]\nflag = {{ gone = true }}\n{block[1]}")
    assert [rule.column for rule in config.filter.rule] == [
        "new_synctomkto",
        "account.customertypecode",
        "createdon",
    ]


# --- a small business ---------------------------------------------------------------------------------------------


def test_a_small_business_with_one_currency() -> None:
    org = Trial(example("small business"))
    stage = org.stage
    acme = org.account("Acme")
    org.update("account", acme, websiteurl="https://acme.invalid", telephone1="+1 555 0100")
    ann, bob = org.contact("ann@acme.invalid", acme), org.contact("bob@acme.invalid", acme)
    lead_ann, lead_bob = stage.people("ann@acme.invalid", "bob@acme.invalid")
    open_deal = org.opportunity("Skates", account=acme, contact=ann, stepname="Propose", closeprobability=40)
    org.stakeholder(bob, "Decision Maker", open_deal)
    org.stakeholder(org.contact("nobody@acme.invalid", acme), "Champion", open_deal)
    won = org.opportunity("", account=acme, description=" Two pairs ", estimatedclosedate="2026-05-01")
    stage.edit("win", id=won, values={"actualvalue": 900.0, "actualclosedate": "2026-03-01"})
    old = org.opportunity("Old", account=acme)
    stage.load(opportunity=[{"opportunityid": old, "createdon": "2023-12-31T23:59:59Z"}])

    stage.sync()

    created = "2026-03-02T08:00:00Z"
    assert org.held("opportunities", "externalOpportunityId") == {
        open_deal: {
            "externalOpportunityId": open_deal,
            "externalCompanyId": acme,
            "name": "Skates",
            "amount": 1000.0,
            "stage": "Propose",
            "probability": 40,
            "isWon": False,
            "isClosed": False,
            "externalCreatedDate": created,
        },
        won: {
            "externalOpportunityId": won,
            "externalCompanyId": acme,
            "name": "(no topic)",
            "description": "Two pairs",
            "amount": 900.0,
            "stage": "New",
            "closeDate": "2026-03-01",
            "isWon": True,
            "isClosed": True,
            "externalCreatedDate": created,
        },
    }
    assert org.held("companies", "externalCompanyId") == {
        acme: {
            "externalCompanyId": acme,
            "company": "Acme",
            "website": "https://acme.invalid",
            "mainPhone": "+1 555 0100",
        }
    }
    assert roles(org) == {
        (open_deal, lead_ann, "Primary Contact", True),
        (open_deal, lead_bob, "Buyer", False),  # one primary a deal: the customer's
    }
    assert {org.state(open_deal), org.state(won), org.state(old)} == {State.IN_STEP}  # nobody waits
    org.nothing_is_written_again()
    org.delete("opportunity", open_deal)
    stage.sync()
    assert open_deal in stage.opportunities()


# --- an enterprise -----------------------------------------------------------------------------------------------


class Enterprise(Trial):
    """Acme is a key account of a team whose administrator is Tess; Small is none. Ann is in Marketo, Bob is not."""

    def __init__(self, config: str) -> None:
        super().__init__(config)
        self.prefix = "eu-" if '"eu-"' in config else "us-"
        self.prepare()
        stage = self.stage
        self.acme = self.company("Acme", new_segment=2, revenue=2e6, numberofemployees=120)
        self.small = self.company("Small", new_segment=None)
        self.rival = self.company("Rival", new_segment=1, customertypecode=1)
        self.ann = self.contact("ann@acme.invalid", self.acme)
        self.bob = self.contact("bob@acme.invalid", self.acme, firstname="Bob", jobtitle="Buyer")
        self.tess = self.user("Tess")
        team = {"name": "East", **lookup("administratorid", self.tess, "systemuser")}
        self.team = str(stage.edit("create", table="team", values=team)["id"])
        self.source = str(stage.edit("create", table="lead", values={"subject": "Fair", "leadsourcecode": 7})["id"])
        self.deal = self.opportunity(
            "Rollout",
            account=self.acme,
            estimatedvalue=92000.0,
            closeprobability=25,
            salesstage=2,
            new_interests="1,3",
            **lookup("transactioncurrencyid", stage.dataverse.currency("EUR"), "transactioncurrency"),
            **lookup("ownerid", self.team, "team"),
            **lookup("originatingleadid", self.source, "lead"),
        )
        self.unwanted = self.opportunity("No, thanks", account=self.acme, new_synctomkto=False)
        self.minor = self.opportunity("Minor", account=self.small)
        self.lost = self.opportunity("To the rival", account=self.rival, **lookup("ownerid", self.tess, "systemuser"))
        stage.dataverse.add_role("Former Sponsor")
        for contact, role in ((self.ann, "Champion"), (self.ann, "Former Sponsor"), (self.bob, "Account Manager")):
            self.stakeholder(contact, role, self.deal)

    def prepare(self) -> None:
        self.add_columns("opportunity", new_synctomkto="bool")
        interests = [{"value": number, "label": text} for number, text in enumerate(("Skates", "Skis", "Poles"), 1)]
        column = {"name": "new_interests", "type": "multichoice", "options": interests}
        publish(self.stage.dataverse, {"table": "opportunity", "add": [column]})
        self.add_columns("account", new_segment=["Strategic", "Key", "Standard"])
        texts = dict.fromkeys(("dealCurrency__c", "interests__c", "region__c", "source__c"), "string")
        money = dict.fromkeys(("dealAmount__c", "euroAmount__c"), "currency")
        self.add_fields("opportunities", **texts, **money, leftCrm__c="boolean")
        self.add_fields("companies", segment__c="string")
        self.add_fields("leads", externalPersonId="string")

    def company(self, name: str, **values: Any) -> str:
        key = self.account(name)
        self.update("account", key, **values)
        return key

    def user(self, first: str) -> str:
        row = {"firstname": first, "lastname": "Seller", "internalemailaddress": f"{first}@crm.invalid".lower()}
        return str(self.stage.edit("create", table="systemuser", values=row)["id"])

    def key(self, guid: str) -> str:
        return self.prefix + guid


def test_an_enterprise_with_several_currencies() -> None:
    org = Enterprise(example("enterprise"))
    stage = org.stage
    (lead_ann,) = stage.people("ann@acme.invalid")

    stage.sync()

    shared = {
        "isWon": False,
        "isClosed": False,
        "leftCrm__c": False,
        "externalCreatedDate": "2026-03-02T08:00:00Z",
        "externalSalesPersonId": org.tess,
        "region__c": "emulated",
        "source__c": "Dynamics Europe",
    }
    assert org.held("opportunities", "externalOpportunityId") == {
        org.key(org.deal): shared
        | {
            "externalOpportunityId": org.key(org.deal),
            "externalCompanyId": org.key(org.acme),
            "name": "Rollout",
            "amount": 100000.0,
            "dealAmount__c": 92000.0,
            "dealCurrency__c": "Euro",
            "euroAmount__c": 92000.0,
            "expectedRevenue": 25000.0,
            "probability": 25,
            "stage": "Propose",
            "leadSource": "Trade Show",
            "interests__c": "Skates, Poles",
        },
        org.key(org.lost): shared
        | {
            "externalOpportunityId": org.key(org.lost),
            "name": "To the rival",
            "amount": 1000.0,
            "dealAmount__c": 1000.0,
            "dealCurrency__c": "US Dollar",
            "euroAmount__c": 920.0,
        },
    }
    assert org.held("companies", "externalCompanyId") == {
        org.key(org.acme): {
            "externalCompanyId": org.key(org.acme),
            "company": "Acme",
            "annualRevenue": 2e6,
            "numberOfEmployees": 120,
            "segment__c": "Key",
        }
    }
    people = org.held("leads", "email")
    assert people["bob@acme.invalid"] == {
        "email": "bob@acme.invalid",
        "externalPersonId": org.bob,
        "firstName": "Bob",
        "lastName": "Person",
        "title": "Buyer",
        "externalCompanyId": org.key(org.acme),
    }
    assert people["ann@acme.invalid"]["externalCompanyId"] == org.key(org.acme)  # she was linked to none
    assert [row["email"] for row in stage.marketo.rows("salespersons")] == ["tess@crm.invalid"]
    lead_bob = next(row["id"] for row in stage.marketo.rows("leads") if row["email"] == "bob@acme.invalid")
    assert roles(org) == {
        (org.key(org.deal), lead_ann, "Champion", False),
        (org.key(org.deal), lead_bob, "Account Manager", False),
    }
    org.nothing_is_written_again()


def test_the_enterprise_marks_what_left_and_takes_the_mark_away() -> None:
    org = Enterprise(example("enterprise"))
    org.stage.sync()
    flag = "leftCrm__c"

    org.update("opportunity", org.deal, new_synctomkto=False)
    org.delete("opportunity", org.lost)
    org.stage.sync()

    shown = org.held("opportunities", "externalOpportunityId")
    assert (shown[org.key(org.deal)][flag], shown[org.key(org.lost)][flag]) == (True, True)
    assert len(roles(org)) == 2  # a flag removes nothing
    org.nothing_is_written_again()

    org.update("opportunity", org.deal, new_synctomkto=True)
    org.stage.sync()

    assert org.held("opportunities", "externalOpportunityId")[org.key(org.deal)][flag] is False


def test_two_organizations_share_one_marketo() -> None:
    """Even with the same ids in both, as after copying an environment."""
    europe = Enterprise(example("enterprise"))
    america = Enterprise(example("enterprise").replace('"eu-"', '"us-"'))
    assert (europe.deal, europe.acme) == (america.deal, america.acme)
    america.stage.marketo_wire.app = europe.stage.marketo_wire.app
    america.stage.marketo = europe.stage.marketo
    europe.stage.people("ann@acme.invalid")

    europe.stage.sync()
    before = europe.held("opportunities", "externalOpportunityId")
    america.stage.sync()

    after = europe.held("opportunities", "externalOpportunityId")
    assert {key: after[key] for key in before} == before
    assert after.keys() - before.keys() == {f"us-{key.removeprefix('eu-')}" for key in before}
    assert {key[:3] for key in europe.held("companies", "externalCompanyId")} == {"eu-", "us-"}
    assert len(europe.stage.marketo.rows("leads")) == 2  # found by the contact's id, not made twice
    europe.nothing_is_written_again()
    america.nothing_is_written_again()


# --- a nonprofit -------------------------------------------------------------------------------------------------


def test_a_nonprofit_with_households() -> None:
    org = Trial(example("nonprofit"))
    stage = org.stage
    org.add_columns("opportunity", new_gifttype=["Donation", "Grant"])
    org.add_columns("account", new_household="bool")
    home, trust = org.account("The Doe household"), org.account("Doe Trust")
    org.update("account", home, new_household=True)
    donor = org.contact("dora@doe.invalid", home, firstname="Dora")
    officer = org.contact("oscar@trust.invalid", trust)
    friend = org.contact("fritz@doe.invalid", home)
    (lead_officer,) = stage.people("oscar@trust.invalid")
    gift = org.opportunity("Spring appeal", estimatedvalue=50.0, **lookup("customerid", donor, "contact"))
    org.stakeholder(friend, None, gift)
    to_officer = lookup("customerid", officer, "contact")
    grant = org.opportunity("Clean water", estimatedvalue=9000.0, new_gifttype=2, **to_officer)
    stage.edit("win", id=grant, values={"actualvalue": 8000.0, "actualclosedate": "2026-02-28"})

    stage.sync()

    shared = {"externalCreatedDate": "2026-03-02T08:00:00Z"}
    assert org.held("opportunities", "externalOpportunityId") == {
        gift: shared
        | {
            "externalOpportunityId": gift,
            "name": "Spring appeal",
            "amount": 50.0,
            "stage": "In Progress",
            "type": "Donation",
            "isWon": False,
            "isClosed": False,
        },
        grant: shared
        | {
            "externalOpportunityId": grant,
            "externalCompanyId": trust,
            "name": "Clean water",
            "amount": 8000.0,
            "stage": "Won",
            "type": "Grant",
            "closeDate": "2026-02-28",
            "isWon": True,
            "isClosed": True,
        },
    }
    assert [row["externalCompanyId"] for row in stage.marketo.rows("companies")] == [trust]
    leads = {row["email"]: row for row in stage.marketo.rows("leads")}
    dora, fritz = leads["dora@doe.invalid"], leads["fritz@doe.invalid"]
    assert (dora["firstName"], dora.get("externalCompanyId")) == ("Dora", None)
    assert roles(org) == {
        (gift, dora["id"], "Donor", True),
        (gift, fritz["id"], "Friend", False),
        (grant, lead_officer, "Grantor", True),
    }
    org.nothing_is_written_again()
