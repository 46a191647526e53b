"""What `plan` says is what `sync` then does, and until then nothing is written anywhere."""

from __future__ import annotations

import copy
import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any
from unittest.mock import Mock

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_core import cli
from sync_core.errors import ConfigurationError, WrongPair
from sync_core.flows.failures import Choice, failures, of_ids, redrive
from sync_core.flows.plan import plan
from sync_core.flows.rehearsal import Kept, LedgerOver, QueueApart
from sync_core.flows.status import approve_removals
from sync_core.mapping import parse
from sync_core.messages import FULL
from sync_core.model import Lane, LedgerRow, MarketoObject, Role, State, Work
from sync_core.report import outlook
from tests.fakes import FakeLedger
from tests.flows.mapped import a_stage, add_field, remap
from tests.flows.org import Org, lookup
from tests.stage import CONFIG, LEASE, Stage, changed
from tools.emulators.dataverse.errors import DataverseError
from tools.emulators.marketo.activities import ADDED, NEW_PERSON, REMOVED, UPDATED

CREATE = {'when_missing  = "wait"': 'when_missing  = "create"\nlink_company = "always"'}
FILTER = '[filter]\nwhen_leaving = "{}"\n[[filter.rule]]\ncolumn = "statecode"\nin = [0]\n\n[removals]'
FLAG = FILTER.format("flag") + '\nflag = { nextStep = "left" }\npolicy = "flag"'
HOLD = {"max_count = 100": "max_count = 0", "max_share = 0.01": "max_share = 0.0"}
CHANGES: tuple[dict[str, str], ...] = (
    {},
    CREATE,
    {"salesperson = false": "salesperson = true"},
    HOLD,
    {"[removals]": FILTER.format("remove")},
    {"[removals]": FLAG},
    {'customer      = "account"': 'customer = "account+contact"', 'ownership     = "ours"': 'ownership = "all"'},
)
NOW = datetime(2026, 3, 2, tzinfo=UTC)
OBJECTS = {"opportunities": "opportunities", "companies": "companies", "salespersons": "sales persons"}


def stored(stage: Stage) -> Any:
    """All tables and queues."""
    world = stage.world
    ledgers = [copy.deepcopy(ledger.content) for ledger in world.ledgers.values()]
    lookups = [dict(lookup._texts) for lookup in (world.people, world.tombstones)]
    return (
        ledgers,
        copy.deepcopy(world.connections.content),
        lookups,
        dict(world.documents._texts),
        copy.deepcopy(world.queue.queues),
    )


def journal(calls: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the plan counts, as Marketo's journal tells it."""
    found: Counter[str] = Counter()
    for call in (each for each in calls if each["kind"] in ("write", "read")):
        resource = call["path"].removeprefix("/rest/v1/").removesuffix(".json")
        if call["kind"] == "write":
            found["write calls"] += 1
            for status, number in call["statuses"].items():
                found[f"{resource} {status}"] += number if status != "skipped" else 0
        elif resource in ("leads", "opportunities/roles"):
            found["read calls"] += 1
    return {name: number for name, number in found.items() if number}


def said(found: Mapping[str, Any]) -> dict[str, int]:
    """The same of a plan."""
    numbers = {
        "write calls": found["Marketo calls"]["to write"],
        "read calls": found["Marketo calls"]["to read"],
        "opportunities/roles created": found["roles"]["added"],
        "opportunities/roles updated": found["roles"]["changed"] + found["roles"]["repeated"],
        "opportunities/roles/delete deleted": found["roles"]["removed"],
        "opportunities/delete deleted": found["opportunities"]["removed"],
        "leads created": found["people"]["created"],
        "leads updated": found["people"]["linked"] + found["people"]["moved"],
    }
    for resource, what in OBJECTS.items():
        numbers |= {f"{resource} {status}": found[what][status] for status in ("created", "updated")}
    return {name: number for name, number in numbers.items() if number}


def logged(stage: Stage, since: int) -> dict[str, int]:
    words = {
        ADDED: "Added to Opportunity",
        REMOVED: "Removed from Opportunity",
        UPDATED: "Opportunity Updated",
        NEW_PERSON: "Person Created",
    }
    kinds = Counter(words[each.type] for each in stage.marketo.database.activities.since(since) if each.type in words)
    return dict(kinds)


def told(found: Mapping[str, Any]) -> dict[str, int]:
    """Each line says how many, `person` or `people`, and what Marketo calls it."""
    lines = [line.split(" ", 2) for line in found["Marketo will log"] if line[0].isdigit()]
    assert all((who == "person") is (number == "1") for number, who, _ in lines)
    return {text: int(number) for number, _, text in lines if "company" not in text}


def differences(found: Mapping[str, Any], kind: str = "opportunity") -> list[dict[str, Any]]:
    return [entry for entry in found["first differences"] if entry["object"] == kind]


def positions(stage: Stage) -> tuple[int, int]:
    entries = stage.marketo.journal.entries
    return (entries[-1].sequence if entries else 0), len(stage.marketo.database.activities.entries)


def holds(stage: Stage) -> dict[str, Any]:
    """Plan, then sync: nothing is written by the one, and the other does what the one said."""
    before, (calls, _) = stored(stage), positions(stage)
    found = plan(stage.world, limit=1000)
    assert stored(stage) == before
    assert [call for call in stage.marketo.journal.since(calls) if call["kind"] == "write"] == []

    calls, activities = positions(stage)
    run_once(stage)
    assert said(found) == journal(stage.marketo.journal.since(calls))
    assert told(found) == logged(stage, activities)
    assert standing(found) == standing_in(stage)
    return found


def standing(found: Mapping[str, Any]) -> dict[str, int]:
    """How many will be out of step, by state: those that the plan's first part leaves so, and those that stay so."""
    stays = found.get("stays as it is", {})
    return {
        state: sum(found[state].values()) + sum(stays.get(state, {}).values())
        for state in ("waiting", "parked", "held")
    }


def standing_in(stage: Stage) -> dict[str, int]:
    states = Counter(str(row.state) for ledger in stage.world.ledgers.values() for row in ledger.content.values())
    return {state: states[state] for state in ("waiting", "parked", "held")}


def run_once(stage: Stage) -> None:
    while not stage.tick().complete:
        pass
    stage.drain()


class Hand:
    """Random edits of a small org, each a choice of *random*."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.random = random.Random(seed)
        self.org = Org(stage)
        self.accounts = [self.org.acme, self.org.bolt, self.org.account("Core")]
        self.contacts = [self.org.ann, self.org.bob, self.org.cid, self.org.contact("dan@acme.invalid", self.org.acme)]
        self.contacts += [self.org.contact("new@bolt.invalid", self.org.bolt), self.org.contact(None)]
        self.deals = [self.org.deal]
        self.connections: list[str] = []

    def edit(self) -> None:
        with suppress(DataverseError, ValueError):  # closed, gone or there already: then nothing changes
            self._edit()
        self.stage.clock.sleep(self.random.choice((0, 1, 90, 4000)))

    def _edit(self) -> None:
        choice = self.random.choice
        match self.random.randrange(16):
            case 0 | 1:
                account, contact = choice([*self.accounts, None]), choice([*self.contacts, None])
                self.deals.append(self.org.opportunity(f"Deal {len(self.deals)}", account=account, contact=contact))
            case 2 | 3:
                if self.deals:
                    role = choice(("Decision Maker", "Champion", "Influencer"))
                    self.connections.append(self.org.stakeholder(choice(self.contacts), role, choice(self.deals)))
            case 4:
                if self.deals:
                    self.org.update("opportunity", choice(self.deals), name=f"Renamed {self.random.random()}")
            case 5:
                if self.deals:
                    self.org.delete("opportunity", self.deals.pop(self.random.randrange(len(self.deals))))
            case 6:
                self.org.update("account", choice(self.accounts), name=f"Account {self.random.random()}")
            case 7:
                self.org.update(
                    "contact", choice(self.contacts), emailaddress1=f"x{self.random.randrange(4)}@x.invalid"
                )
            case 8:
                self.stage.people(f"x{self.random.randrange(4)}@x.invalid")
            case 9:
                if self.connections:
                    self.org.delete("connection", self.connections.pop(self.random.randrange(len(self.connections))))
            case 10:
                if self.deals:
                    self.stage.edit("win", id=choice(self.deals))
            case 11:
                key = choice(self.deals) if self.deals else self.org.deal
                self.stage.marketo.load({"opportunities": [{"externalOpportunityId": key, "name": "By hand"}]})
            case 12:
                if theirs := sorted(self.stage.opportunities()):
                    role_of_others(self.stage, choice(theirs), choice([self.org.lead_ann, self.org.lead_bob]))
            case 13:
                approve_removals(self.stage.world)
            case 14:
                redrive(
                    self.stage.world, list(failures(self.stage.world, Choice(states=(State.PARKED, State.WAITING))))
                )
            case 15:
                self.stage.tick()


def role_of_others(stage: Stage, key: str, lead: int, text: str = "Influencer") -> None:
    stage.marketo.load({"roles": [{"externalOpportunityId": key, "leadId": lead, "role": text}]})


@settings(max_examples=25, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    rounds=st.lists(st.integers(0, 8), min_size=1, max_size=4),
    changes=st.sampled_from(CHANGES),
)
def test_sync_does_what_plan_said(seed: int, rounds: list[int], changes: dict[str, str]) -> None:
    stage = Stage(changes=changes, seed=seed, page_size=3)
    hand = Hand(stage, seed)
    for number in rounds:
        for _ in range(number):
            hand.edit()
        holds(stage)


# --- what it says, case by case -----------------------------------------------------------------------------------


def test_a_first_load_is_foretold_and_leaves_no_stamp(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    org.stakeholder(org.contact("nobody@acme.invalid"), "Champion")

    found = holds(stage)

    assert found["opportunities"] == {
        "created": 1,
        "updated": 0,
        "of these without a difference": 0,
        "looked at": 1,
        "removed": 0,
    }
    assert found["companies"]["created"] == 1
    assert found["waiting"] == {"people: 1 not in Marketo": 1}
    assert found["Marketo will log"][0] == "1 person Added to Opportunity"
    (deal,) = differences(found)
    assert deal["fields"]["amount"] == [None, 1000.0]
    assert deal["roles"] == {"added": [f"Decision Maker: person {org.lead_ann}"]}


def test_nothing_to_do_is_nothing(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()

    found = plan(stage.world)

    assert found["Marketo calls"] == {"to write": 0, "to read": 0, "minutes at least": 0, "days at least": 1}
    assert found["first differences"] == []
    assert found["Marketo will log"] == ["nothing: no trigger campaign starts"]


def test_a_difference_shows_what_marketo_holds_and_what_it_will(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    org.update("opportunity", org.deal, name="Bigger deal", estimatedvalue=2000.0)

    found = holds(stage)

    fields = {"name": ["Deal", "Bigger deal"], "amount": [1000.0, 2000.0]}
    assert found["first differences"] == [{"id": org.deal, "object": "opportunity", "does": "update", "fields": fields}]
    assert "1 person Opportunity Updated" in found["Marketo will log"]


def test_an_opportunity_that_marketo_has_already_is_an_update(stage: Stage, org: Org) -> None:
    stage.marketo.load({"opportunities": [{"externalOpportunityId": org.deal, "name": "Old"}]})

    found = holds(stage)

    assert (found["opportunities"]["created"], found["opportunities"]["updated"]) == (0, 1)
    assert differences(found)[0]["fields"]["name"] == ["Old", "Deal"]


def test_a_replaced_role_is_told_apart_from_a_lost_one(stage: Stage, org: Org) -> None:
    one, other = org.stakeholder(org.ann), org.stakeholder(org.bob, "Champion")
    stage.sync()
    for connection in (one, other):
        org.delete("connection", connection)
    org.stakeholder(org.ann, "Influencer")

    found = holds(stage)

    assert found["roles"] == {
        "added": 1,
        "changed": 0,
        "repeated": 0,
        "removed": 2,
        "of the removed replaced": 1,
    }


def test_removals_are_listed_wholly_and_held_ones_are_counted(stage: Stage, org: Org) -> None:
    deals = [org.opportunity(f"Deal {number}") for number in range(150)]
    stage.sync()
    for deal in deals[:30]:
        org.delete("opportunity", deal)

    assert sorted(plan(stage.world, limit=3)["removals"]) == sorted(deals[:30])

    for deal in deals[30:]:
        org.delete("opportunity", deal)
    found = holds(stage)
    assert found["removals"] == []
    assert found["held"] == {"removals held: 150 deletions in one tick, 100 pass without approval": 150}


def test_what_will_be_parked_says_why(stage: Stage, org: Org) -> None:
    bad = org.opportunity("Bad", closeprobability=50)
    under(stage, {'"closeprobability"': '"name"'})

    found = holds(stage)

    assert found["parked"] == {"probability: the value does not fit Marketo's type integer": 2}
    assert bad in {entry["id"] for entry in differences(found)}


def test_rows_that_wait_for_a_person_are_counted_and_left(stage: Stage, org: Org) -> None:
    org.stakeholder(org.contact("nobody@acme.invalid"))
    run_once(stage)

    found = holds(stage)

    assert found["opportunities"]["looked at"] == 0
    assert found["stays as it is"] == {"waiting": {"people: 1 not in Marketo": 1}}
    assert "once what waits is due" not in found


def under(stage: Stage, changes: Mapping[str, str]) -> Stage:
    """The same state under another mapping."""
    return stage.adopt(changed(changes))


def test_people_who_were_missing_a_moment_ago_are_created_at_once_when_that_is_wanted(stage: Stage, org: Org) -> None:
    org.stakeholder(org.contact("nobody@acme.invalid", org.acme))
    run_once(stage)

    found = holds(under(stage, CREATE))

    assert found["people"]["created"] == 1


def test_what_waits_is_foretold_for_when_it_is_due(stage: Stage, org: Org) -> None:
    nobody = org.contact("nobody@acme.invalid", org.acme)
    org.stakeholder(nobody)
    run_once(stage)
    under(stage, CREATE | {"fresh_max ": 'apply_mapping = "manual"\nfresh_max '})

    found = holds(stage)
    later = found["once what waits is due"]

    assert (found["people"]["created"], later["people"]["created"]) == (0, 1)
    assert later["Marketo will log"][:2] == ["1 person Added to Opportunity", "1 person Person Created"]
    assert differences(found, "person") == [
        {"id": nobody, "object": "person", "does": "create", "fields": {"externalCompanyId": [None, org.acme]}}
    ]
    stage.clock.sleep(12 * 3600)
    run_once(stage)
    assert len(stage.roles(org.deal)) == 1


def test_what_the_filter_leaves_out_is_counted_by_rule(stage: Stage, org: Org) -> None:
    for number in range(3):
        stage.edit("lose", id=org.opportunity(f"Lost {number}"))
    under(stage, {"[removals]": FILTER.format("keep")})

    assert holds(stage)["left out"] == {"outside the filter: statecode": 3}

    stage.edit("lose", id=org.deal)
    again = holds(stage)
    assert again["left out"] == {"outside the filter: statecode": 1}
    assert again["stays as it is"] == {"left out": {"outside the filter: statecode": 3}}


def test_companies_sales_persons_and_people_are_among_the_differences(stage: Stage, org: Org) -> None:
    org.update("contact", org.cid, **lookup("parentcustomerid", org.acme, "account"))
    new, other = org.contact("new@acme.invalid", org.acme), org.contact("NEW@acme.invalid", org.acme)
    for contact in (org.cid, new, other):
        org.stakeholder(contact)
    stage.marketo.load({"companies": [{"externalCompanyId": "theirs", "company": "Theirs"}]})
    stage.marketo.load({"leads": [{"email": "cid@bolt.invalid", "externalCompanyId": "theirs"}]})
    under(stage, CREATE | {"salesperson = false": "salesperson = true"})

    found = holds(stage)

    (company,) = differences(found, "company")
    assert (company["id"], company["does"], company["fields"]["company"]) == (org.acme, "create", [None, "Acme"])
    assert [entry["does"] for entry in differences(found, "sales person")] == ["create"]
    people = {
        entry["id"]: (entry["does"], entry["fields"]["externalCompanyId"]) for entry in differences(found, "person")
    }
    assert people == {
        ", ".join(sorted((new, other))): ("create", [None, org.acme]),
        str(stage.marketo.rows("leads")[-2]["id"]): ("move", ["theirs", org.acme]),
    }
    assert "invalid" not in json.dumps(differences(found, "person"))


def test_a_company_that_will_be_parked_says_why(stage: Stage, org: Org) -> None:
    under(stage, {'website  = "websiteurl"': 'annualRevenue = "name"'})

    found = holds(stage)

    assert found["parked"] == {"company: annualRevenue: the value does not fit Marketo's type currency": 1}
    assert [entry["parked"] for entry in differences(found, "company")] == [
        "annualRevenue: the value does not fit Marketo's type currency"
    ]


@pytest.mark.parametrize(
    ("type", "source"),
    [
        ("boolean", '{ column = "statecode", equals = 9 }'),
        ("integer", "{ value = 0 }"),
        ("boolean", "{ value = false }"),
    ],
)
def test_no_and_nought_in_a_new_field_are_differences(type: str, source: str) -> None:
    stage = a_stage()
    add_field(stage, "new__c", type)
    org = Org(stage)
    org.stakeholder(org.ann)
    stage.sync()
    remap(stage, opportunity=[f"new__c = {source}"])

    assert holds(stage)["Marketo will log"][0] == "1 person Opportunity Updated"


def test_a_small_change_of_a_large_number_is_a_difference(stage: Stage, org: Org) -> None:
    org.update("opportunity", org.deal, estimatedvalue=20_000_000.0)
    org.stakeholder(org.ann)
    stage.sync()
    org.update("opportunity", org.deal, estimatedvalue=20_000_010.0)

    assert holds(stage)["Marketo will log"][0] == "1 person Opportunity Updated"


def test_the_first_of_each_kind_are_shown(stage: Stage, org: Org) -> None:
    for number in range(5):
        org.opportunity(f"Deal {number}", account=org.account(f"Account {number}"))

    found = plan(stage.world, limit=2)

    assert [len(differences(found, kind)) for kind in ("opportunity", "company")] == [2, 2]


def test_a_mapping_that_waits_for_backfill_is_told_apart(org: Org, stage: Stage) -> None:
    stage.sync()
    text = CONFIG.replace('description  = "description"', 'description  = { value = "New" }')
    manual = parse(text.replace("fresh_max", 'apply_mapping = "manual"\nfresh_max', 1))
    changed = stage.variant(config=manual)

    found = plan(changed.world)

    assert found["opportunities"]["updated"] == 0
    assert found["only after `backfill`"]["opportunities"]["updated"] == 1
    assert differences(found)[0]["fields"] == {"description": [None, "New"]}


def test_what_is_on_the_queue_is_foretold_too(stage: Stage, org: Org) -> None:
    stage.sync()
    org.update("opportunity", org.deal, name="Renamed")
    stage.tick()

    found = holds(stage)

    assert found["messages on the queue"] == 1
    assert found["opportunities"]["updated"] == 1
    assert "only after `backfill`" not in found


def test_a_deletion_on_the_queue_is_foretold(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    org.delete("opportunity", org.deal)
    stage.tick()

    found = holds(stage)

    assert found["removals"] == [org.deal]
    assert found["roles"]["removed"] == 1
    assert "neither shown nor reported deleted" not in found
    assert stage.opportunities() == {}


def test_a_deletion_in_a_hidden_message_is_foretold(stage: Stage, org: Org) -> None:
    """As between `pause` and `resume`: what is delivered meanwhile goes back for five minutes."""
    stage.sync()
    org.delete("opportunity", org.deal)
    stage.tick()
    stage.world.documents.write("stamp", "pause", {"since": NOW.isoformat(), "why": ""}, None)
    stage.drain()

    found = plan(stage.world)

    assert (found["messages on the queue"], found["of these hidden for now"]) == (1, 1)
    assert found["removals"] == [org.deal]
    assert "only after `backfill`" not in found
    assert "1 of them can't be looked into now" in " ".join(outlook(found).split())

    stage.world.documents.delete("stamp", "pause")
    stage.clock.sleep(3600)
    run_once(stage)
    assert stage.opportunities() == {}


def test_a_held_deletion_stays_as_it_is_until_it_is_approved(org: Org, stage: Stage) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    under(stage, HOLD)
    org.delete("opportunity", org.deal)
    stage.sync()

    found = holds(stage)
    assert found["removals"] == []
    assert list(found["stays as it is"]) == ["held"]

    approve_removals(stage.world)
    assert holds(stage)["removals"] == [org.deal]


def test_approved_roles_in_a_hidden_message_are_foretold(stage: Stage, org: Org) -> None:
    connection = org.stakeholder(org.ann)
    stage.sync()
    under(stage, HOLD)
    org.delete("connection", connection)
    stage.sync()
    assert holds(stage)["stays as it is"].keys() == {"held"}

    approve_removals(stage.world)
    letter = stage.world.queue.receive(Lane.FRESH, lease=LEASE)  # a worker has it in hand
    assert letter is not None
    found = plan(stage.world)

    assert found["roles"]["removed"] == 1
    assert "stays as it is" not in found


def test_what_is_tried_again_on_request_is_foretold(org: Org, stage: Stage) -> None:
    under(stage, {'several       = "most_recent"': 'several       = "park"'})
    stage.people("ann@acme.invalid")
    org.stakeholder(org.ann)
    stage.sync()
    redrive(stage.world, of_ids(stage.world, [org.deal]))

    found = holds(stage)

    assert found["Marketo calls"]["to write"] > 0
    assert found["opportunities"]["of these without a difference"] == 1
    assert found["parked"] == {"people: 1 of several in Marketo each; see `explain`": 1}


def test_what_was_received_before_is_forced_and_what_is_not_ours_is_left(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.world.queue.put(Work((org.deal,)))
    assert stage.world.queue.receive(Lane.FRESH, lease=LEASE) is not None
    stage.clock.sleep(3600)
    stage.world.queue._send("fresh", "not ours")

    found = holds(stage)

    assert found["opportunities"]["of these without a difference"] == 1


def test_two_messages_for_one_opportunity_change_it_once(stage: Stage, org: Org) -> None:
    stage.sync()
    org.stakeholder(org.ann)
    org.update("opportunity", org.deal, name="Renamed")
    for _ in range(2):
        stage.world.queue.put(Work((org.deal,), force=True))

    found = holds(stage)

    assert found["opportunities"]["of these without a difference"] == 1
    assert (found["roles"]["added"], found["roles"]["repeated"]) == (1, 1)


def test_roles_that_others_made_are_told_too(stage: Stage, org: Org) -> None:
    stage.sync()
    role_of_others(stage, org.deal, org.lead_bob)
    org.update("opportunity", org.deal, name="Renamed")

    found = holds(stage)

    assert found["Marketo will log"][0] == "1 person Opportunity Updated"
    assert found["Marketo calls"] == {"to write": 1, "to read": 0, "minutes at least": 1, "days at least": 1}


def test_a_removal_is_told_to_people_with_roles_of_others_too(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    role_of_others(stage, org.deal, org.lead_bob)
    org.delete("opportunity", org.deal)

    found = holds(stage)

    assert found["roles"]["removed"] == 1
    assert found["Marketo will log"][0] == "2 people Removed from Opportunity"


def test_a_role_that_others_made_is_not_added(stage: Stage, org: Org) -> None:
    stage.sync()
    role_of_others(stage, org.deal, org.lead_ann, "Decision Maker")
    org.stakeholder(org.ann)

    assert holds(stage)["roles"]["added"] == 0


def test_companies_that_are_parked_or_wait_stay_as_they_are(stage: Stage, org: Org) -> None:
    other = org.account("Other")
    stage.sync()
    rows = stage.world.companies.rows([org.acme])
    due = stage.clock.now() + timedelta(hours=6)
    stage.world.companies.write([rows[org.acme].become(State.WAITING, reason="1018", due=due)])
    stage.world.companies.write([LedgerRow(other).become(State.PARKED, reason="why")])

    found = holds(stage)

    assert found["stays as it is"] == {"waiting": {"company: 1018": 1}, "parked": {"company: why": 1}}
    assert found["once what waits is due"]["companies"]["updated"] == 1


def test_what_only_leaves_on_the_queue_is_delivered(stage: Stage, org: Org) -> None:
    lost = iter(range(6))

    def fault(request: requests.PreparedRequest) -> None:
        if "/opportunities.json" in str(request.url) and next(lost, None) is not None:
            raise requests.ConnectionError

    stage.marketo_wire.fault = fault

    found = plan(stage.world, only=[org.deal])

    assert found["opportunities"]["created"] == 1


def test_only_looks_at_nothing_else(stage: Stage, org: Org) -> None:
    other = org.opportunity("Other")

    found = plan(stage.world, only=[other])

    assert found["opportunities"]["looked at"] == 1
    assert [entry["id"] for entry in differences(found)] == [other]


def test_another_pair_stops_it_as_it_stops_sync(stage: Stage, org: Org) -> None:
    stage.sync()

    with pytest.raises(WrongPair):
        plan(stage.variant(subscription="999-NEW-999").world)


def test_a_pause_and_a_missing_field_are_said_first(stage: Stage, org: Org) -> None:
    stage.world.documents.write("stamp", "pause", {"since": "2026-03-02T08:00:00+00:00", "why": ""}, None)
    text = CONFIG.replace('description  = "description"', 'description  = "new_nothing"')

    found = plan(stage.variant(config=parse(text)).world)

    assert found["paused"].startswith("2026-03-02")
    assert "sync refuses to start" in found
    assert "new_nothing" in found["left alone"]["opportunity.description"]


def test_the_plan_file_is_whole_json_and_a_later_plan_is_compared_with_it(stage: Stage, org: Org) -> None:
    same, gone = org.opportunity("Same"), org.opportunity("Gone")
    pieces: list[str] = []
    plan(stage.world, limit=0, out=pieces.append)
    file = "".join(pieces)
    assert {entry["id"] for entry in json.loads(file)["changes"]} == {org.acme, org.deal, same, gone}
    assert json.loads(file)["summary"]["first differences"] == []

    org.delete("opportunity", gone)
    org.update("opportunity", org.deal, name="Renamed")
    new = org.opportunity("New")
    compared = plan(stage.world, earlier=file.splitlines(keepends=True))["compared with the earlier plan"]

    counts = {name: compared[name] for name in ("as before", "different", "new", "no longer")}
    assert counts == {"as before": 2, "different": 1, "new": 1, "no longer": 1}
    by_id = {entry["id"]: entry for entry in compared["the first"]}
    assert by_id[org.deal] == {"object": "opportunity", "id": org.deal, "name": ["Deal", "Renamed"]}
    assert by_id[gone]["now"] == "nothing"
    assert by_id[new]["does"] == [None, "create"]


def test_another_file_is_no_plan(stage: Stage) -> None:
    with pytest.raises(ConfigurationError, match="no plan"):
        plan(stage.world, earlier=["hello\n"])


def test_memory_does_not_grow_with_the_number_of_opportunities() -> None:
    """Counted is what the sync itself allocates: the emulators keep everything in memory."""

    def grown(number: int) -> int:
        stage = Stage(page_size=100)
        org = Org(stage)
        for each in range(number):
            org.opportunity(f"Deal {each}", account=org.acme)
        found: list[int] = []

        def progress(_: int) -> None:
            snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/sync_core/flows/*")])
            found.append(sum(trace.size for trace in snapshot.traces))

        tracemalloc.start()
        plan(stage.world, progress=progress)
        tracemalloc.stop()
        assert len(found) >= number // 100
        return max(found)

    small, large = grown(200), grown(1000)
    assert large - small < 800 * 100, (small, large)  # bytes


def test_what_is_on_the_queue_is_not_in_memory() -> None:
    kept = Kept()
    queue = QueueApart(kept)
    tracemalloc.start()
    for first in range(0, 100 * FULL, FULL):
        queue.put(Work(tuple(f"{number:08x}-0000-4000-8000-000000000000" for number in range(first, first + FULL))))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert queue.lengths() == {"fresh": 100, "slow": 0}
    assert held < 1_000_000  # bytes, of 4.5 million
    kept.close()


def test_questions_of_every_size_are_one_statement() -> None:
    """Python keeps the last 128 of a connection, where tracemalloc doesn't see them."""
    kept = Kept()
    kept.write("place", {str(number): "text" for number in range(2000)})
    kept._file = Mock(wraps=kept._file)

    for number in (0, 1, 499, 500, 501, 2000):
        assert len(kept.read("place", [str(each) for each in range(number)])) == number

    assert len({call.args[0] for call in kept._file.execute.call_args_list}) == 1
    kept.close()


def test_the_file_is_closed_once_nobody_is_at_it() -> None:
    """Ctrl-C ends a plan while its threads are at work; SQLite would crash the process under them."""
    kept = Kept()
    kept.write("place", {"key": "text"})
    at_it, go_on = Event(), Event()

    def keys() -> Iterator[str]:
        at_it.set()
        go_on.wait()
        yield "key"

    deleting = Thread(target=kept.delete, args=("place", keys()))
    deleting.start()
    at_it.wait()
    closing = Thread(target=kept.close)
    closing.start()
    closing.join(0.2)
    waits = closing.is_alive()
    go_on.set()
    deleting.join()
    closing.join()

    assert waits


def test_a_ledger_laid_over_counts_as_the_real_one_would() -> None:
    real, over = FakeLedger(), FakeLedger()
    real.write([LedgerRow("a", roles=(Role(1, "x", False, ""),)), LedgerRow("b")])
    over.write([LedgerRow("a", roles=(Role(1, "x", False, ""),)), LedgerRow("b")])
    before = dict(over.content)
    kept = Kept()
    laid = LedgerOver(over, kept, "opportunities")

    for ledger in (real, laid):
        rows = ledger.rows(["a", "b"])
        more = LedgerRow(
            "c", roles=(Role(2, "y", True, "z", ("r",)), Role(3, "y", False, "")), state=State.WAITING, due=NOW
        )
        ledger.write([replace(rows["a"], roles=()).become(State.GONE), more])
        ledger.write([ledger.rows(["c"])["c"].become(State.PARKED, reason="why")])

    assert {name: number for name, number in laid.counts().items() if number} == {
        name: number for name, number in real.counts().items() if number
    }
    ids = ["a", "b", "c"]
    assert [replace(laid.rows(ids)[key], ticket=None) for key in ids] == [
        replace(real.rows(ids)[key], ticket=None) for key in ids
    ]
    assert over.content == before
    kept.close()


def test_lanes_are_served_as_sync_serves_them(stage: Stage) -> None:
    kept = Kept()
    queue = QueueApart(kept)
    queue.put(Work(("00000000-0000-4000-8000-000000000001",), lane=Lane.SLOW))
    queue.put(Work(("00000000-0000-4000-8000-000000000002",), lane=Lane.FRESH))

    assert [work.lane for work in (queue.take(), queue.take()) if work] == [Lane.FRESH, Lane.SLOW]
    assert queue.take() is None
    kept.close()


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Stage:
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)
    return stage


def test_the_command_tells_it_in_80_columns(command: Stage, org: Org, capsys: Any) -> None:
    org.stakeholder(org.ann)
    org.stakeholder(org.contact("nobody@acme.invalid"), "Champion")
    org.update("opportunity", org.deal, name="A rather long name " * 10, description="d" * 500)

    assert cli.main(["plan"]) == cli.GOOD

    told = capsys.readouterr().out.splitlines()
    assert max(map(len, told)) <= 80
    assert "  opportunities: 1 created, 1 looked at" in told
    assert "    1: people: 1 not in Marketo" in told
    assert "    1 person Added to Opportunity" in told
    assert {"The first differences, company:", "The first differences, opportunity:"} <= set(told)
    assert f"    role added: Decision Maker: person {org.lead_ann}" in told


def test_what_needs_a_person_is_a_problem(command: Stage, org: Org) -> None:
    deals = [org.opportunity(f"Deal {number}") for number in range(150)]
    run_once(command)
    for deal in deals:
        org.delete("opportunity", deal)

    assert cli.main(["plan", "--json"]) == cli.PROBLEMS


def test_files_are_written_whole_or_not_at_all(command: Stage, org: Org, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "plan.json"
    assert cli.main(["plan", "--out", str(file)]) == cli.GOOD
    first = file.read_text()
    assert [entry["id"] for entry in json.loads(first)["changes"]] == [org.deal, org.acme]

    other = org.opportunity("Other")
    assert cli.main(["plan", "--out", str(file), "--diff", str(file)]) == cli.USAGE
    assert "--force replaces it" in " ".join(capsys.readouterr().err.split())
    assert cli.main(["plan", "--out", str(file), "--diff", str(file), "--force"]) == cli.GOOD
    assert "2 as before, 0 different, 1 new, 0 no longer" in capsys.readouterr().out
    assert {entry["id"] for entry in json.loads(file.read_text())["changes"]} == {org.acme, org.deal, other}

    second = file.read_text()
    command.dataverse_wire.fault = _broken
    assert cli.main(["plan", "--out", str(file), "--force"]) == cli.PROBLEMS
    assert file.read_text() == second
    assert list(tmp_path.iterdir()) == [file]


def _broken(_: Any) -> None:
    raise requests.ConnectionError


def test_a_limit_is_a_number_of_lines(command: Stage, capsys: Any) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["plan", "--limit", "-1"])
    assert "'-1' is no number of lines" in capsys.readouterr().err


def test_what_stays_held_is_a_problem(command: Stage, org: Org) -> None:
    run_once(command)
    under(command, HOLD)
    org.delete("opportunity", org.deal)
    run_once(command)

    assert cli.main(["plan", "--json"]) == cli.PROBLEMS


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--out", "missing/plan.json"], "--out: missing/plan.json: No such file or directory. Nothing"),
        (["--diff", "missing.json"], "--diff: missing.json: No such file or directory. Nothing was"),
        (["--diff", "pyproject.toml"], "--diff: the file is no plan that `plan --out` wrote"),
        (["--diff", "docs"], "--diff: docs: Is a directory. Nothing was done"),
    ],
)
def test_a_file_that_is_none_is_wrong_usage(command: Stage, options: list[str], told: str, capsys: Any) -> None:
    assert cli.main(["plan", *options]) == cli.USAGE
    assert told in capsys.readouterr().err


def test_an_id_that_dynamics_lacks_is_wrong_usage(command: Stage, capsys: Any) -> None:
    assert cli.main(["plan", "--only", "00000000-0000-4000-8000-000000000000"]) == cli.USAGE
    assert "Dynamics doesn't show 00000000" in capsys.readouterr().err


def test_the_limit_and_the_ids_are_heeded(command: Stage, org: Org, capsys: Any) -> None:
    deals = [org.opportunity(f"Deal {number}") for number in range(3)]

    cli.main(["plan", "--json", "--limit", "1", "--only", *deals])
    found = json.loads(capsys.readouterr().out)

    assert found["opportunities"]["created"] == 3
    assert len(found["first differences"]) == 1


# --- what one delivery leaves for the next, and what Marketo holds besides ------------------------------------------


def two_deliveries(changes: dict[str, str]) -> Stage:
    """Two deals, a delivery each, whose customers share an address and an account."""
    stage = Stage(changes=changes, page_size=1)
    account = str(stage.edit("create", table="account", values={"name": "Acme"})["id"])
    org = Org.__new__(Org)
    org.stage = stage
    for number in range(2):
        org.opportunity(f"Deal {number}", contact=org.contact("same@acme.invalid", account))
    return stage


def test_somebody_is_created_once() -> None:
    assert holds(two_deliveries(CREATE))["people"]["created"] == 1


def test_somebody_is_linked_once() -> None:
    stage = two_deliveries({'when_missing  = "wait"': 'when_missing  = "wait"\nlink_company = "when_unlinked"'})
    stage.people("same@acme.invalid")

    assert holds(stage)["people"] == {"created": 0, "linked": 1, "moved": 0}


def test_a_role_that_somebody_removed_in_marketo_is_not_removed_again(stage: Stage, org: Org) -> None:
    connection = org.stakeholder(org.ann)
    stage.sync()
    _remove_roles(stage)
    org.delete("connection", connection)

    assert holds(stage)["roles"]["removed"] == 0


def test_what_is_not_trusted_is_posted_again_and_only_a_difference_is_logged(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    stage.world.opportunities.write([stage.world.opportunities.rows([org.deal])[org.deal].become(State.PARKED)])
    org.stakeholder(org.bob, "Champion")

    found = holds(stage)

    assert found["opportunities"]["of these without a difference"] == 1
    assert found["roles"]["repeated"] == 1
    assert found["Marketo will log"][0] == "1 person Added to Opportunity"


def test_a_role_that_marketo_lost_is_added_whatever_the_ledger_says(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    _remove_roles(stage)
    stage.world.opportunities.write([stage.world.opportunities.rows([org.deal])[org.deal].become(State.PARKED)])
    org.update("opportunity", org.deal, name="Renamed")

    assert holds(stage)["roles"]["added"] == 1


def _remove_roles(stage: Stage) -> None:
    """As somebody else with access to the API would."""
    keys = [{"externalOpportunityId": key, "leadId": lead, "role": text} for key, lead, text in stage.roles()]
    stage.world.target.delete(MarketoObject.ROLE, keys, until=datetime.max.replace(tzinfo=UTC))
