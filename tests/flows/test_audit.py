"""The audit finds what is different between the two services, invents nothing, and what it finds is mended."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from sync_core.errors import ConfigurationError, RetryLater, Unavailable
from sync_core.flows import audit as audits
from sync_core.model import Lane
from tests.flows.mapped import a_stage, add_column, remove_column
from tests.flows.org import Org, wrong
from tests.flows.test_plan import CHANGES, FLAG, Hand
from tests.stage import CONFIG, LEASE, Stage
from tools.emulators.dataverse.generate import rows
from tools.emulators.dataverse.loading import load

PER_CALL = 300


def audited(stage: Stage, **options: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []
    return audits.audit(stage.world, found.append, **options), found


def an_org(opportunities: int = 240, *, seed: int = 1, **options: Any) -> Stage:
    """Synced; every contact with an address is a person in Marketo, but for one in ten."""
    stage = Stage(seed=seed, **options)
    tables = rows(seed=seed, opportunities=opportunities)
    load(stage.dataverse, tables)
    addresses = [row["emailaddress1"] for row in tables["contact"] if row.get("emailaddress1")]
    stage.people(*(address for number, address in enumerate(addresses) if number % 10))
    stage.sync()
    return stage


def test_nothing_differs_after_a_sync(stage: Stage, org: Org) -> None:
    org.stakeholder(org.bob)
    stage.sync()
    before = stage.writes()

    summary, found = audited(stage)

    assert (found, summary["differences"], summary["counters that are wrong"]) == ([], 0, {})
    assert summary["complete"]
    assert summary["compared"] == {"opportunities": 1, "companies": 1, "roles": 1}
    assert summary["sums"] == [
        {
            "stage": "Open",
            "month": "-",
            "Dynamics": {"count": 1, "amount": 1000.0},
            "Marketo": {"count": 1, "amount": 1000.0},
        }
    ]
    assert stage.writes() == before


# --- damage -----------------------------------------------------------------------------------------------------


class Vandal:
    """Changes Marketo by hand, each time another record; `done`: by (object, id in Dynamics) what it did."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.chance = random.Random(seed)
        self.done: dict[tuple[str, str], str] = {}
        self.roles: dict[str, list[dict[str, Any]]] = {}
        for row in stage.marketo.rows("roles"):
            self.roles.setdefault(row["externalOpportunityId"], []).append(row)
        self.opportunities = sorted(stage.opportunities())
        self.companies = sorted(row["externalCompanyId"] for row in stage.marketo.rows("companies"))
        self.chance.shuffle(self.opportunities)
        self.chance.shuffle(self.companies)
        ledger = stage.world.opportunities
        self.gone = sorted({key for page in ledger.ids(gone=True) for key in page} - {*stage.opportunities()})

    def edit(self, op: str, table: str, key: dict[str, Any], **values: Any) -> None:
        self.stage.marketo.edit({"op": op, "object": table, "key": key, "values": values})

    def _one(self, fits: Callable[[str], bool] = lambda _: True) -> str:
        key = next(each for each in self.opportunities if fits(each))
        self.opportunities.remove(key)
        return key

    def _with_role(self) -> tuple[str, dict[str, Any]]:
        key = self._one(lambda each: bool(self.roles.get(each)))
        return key, self.chance.choice(self.roles[key])

    def value(self) -> None:
        key = self._one()
        values = {"name": "by hand", "amount": 1.0, "stage": "by hand", "closeDate": "2031-01-01", "isWon": None}
        name = self.chance.choice([*values])
        if name == "isWon":
            values["isWon"] = not self.stage.opportunities()[key]["isWon"]
        self.edit("update", "opportunities", {"externalOpportunityId": key}, **{name: values[name]})
        self.done["opportunity", key] = "different"

    def company(self) -> None:
        key = self.companies.pop()
        self.edit("update", "companies", {"externalCompanyId": key}, website="https://elsewhere.invalid")
        self.done["company", key] = "different"

    def company_deleted(self) -> None:
        named = {row.get("externalCompanyId") for row in self.stage.marketo.rows("opportunities")}
        key = next(each for each in self.companies if each in named)
        self.companies.remove(key)
        self.edit("delete", "companies", {"externalCompanyId": key})
        self.done["company", key] = "missing"

    def role_added(self) -> None:
        key = self._one()
        has = {row["leadId"] for row in self.roles.get(key, ())}
        lead = next(row["id"] for row in self.stage.marketo.rows("leads") if row["id"] not in has)
        record = {"externalOpportunityId": key, "leadId": lead, "role": "Decision Maker", "isPrimary": False}
        self.stage.marketo.edit({"op": "create", "object": "roles", "values": record})
        self.done["opportunity", key] = "different"

    def role_removed(self) -> None:
        key, role = self._with_role()
        self.edit("delete", "roles", {"marketoGUID": role["marketoGUID"]})
        self.done["opportunity", key] = "different"

    def role_changed(self) -> None:
        key, role = self._with_role()
        self.edit("update", "roles", {"marketoGUID": role["marketoGUID"]}, isPrimary=not role["isPrimary"])
        self.done["opportunity", key] = "different"

    def deleted(self) -> None:
        key = self._one()
        self.edit("delete", "opportunities", {"externalOpportunityId": key})
        self.done["opportunity", key] = "missing"

    def deleted_with_roles(self) -> None:
        key, _ = self._with_role()
        for role in self.roles[key]:
            self.edit("delete", "roles", {"marketoGUID": role["marketoGUID"]})
        self.edit("delete", "opportunities", {"externalOpportunityId": key})
        self.done["opportunity", key] = "missing"

    def orphan_role(self) -> None:
        key, lead = self.gone.pop(), self.stage.marketo.rows("leads")[0]["id"]
        record = {"externalOpportunityId": key, "leadId": lead, "role": "Influencer"}
        self.stage.marketo.edit({"op": "create", "object": "roles", "values": record})
        self.done["opportunity", key] = "different"

    def came_back(self) -> None:
        key = self.gone.pop()
        record = {"externalOpportunityId": key, "name": "came back", "stage": "Open", "amount": 5.0}
        self.stage.marketo.edit({"op": "create", "object": "opportunities", "values": record})
        self.done["opportunity", key] = "extra"

    def merged(self) -> None:
        """Somebody with a role becomes somebody else, whose address no contact has."""
        opportunities = {*self.opportunities}
        by_lead: dict[int, set[str]] = {}
        for key, held in self.roles.items():
            for role in held:
                by_lead.setdefault(role["leadId"], set()).add(key)
        lead, keys = next(each for each in sorted(by_lead.items()) if each[1] <= opportunities)
        winner = self.stage.people(f"winner{lead}@elsewhere.invalid")[0]
        self.stage.marketo.merge(winner, [lead])
        for key in keys:
            self.opportunities.remove(key)
            self.done["opportunity", key] = "different"


KINDS = ("value", "company", "role_added", "role_removed", "role_changed", "deleted", "deleted_with_roles")
RARE = ("merged", "orphan_role", "came_back", "company_deleted")


@pytest.mark.parametrize("seed", range(4))
def test_a_hundred_changes_by_hand_are_all_found_none_is_invented_and_all_are_mended(seed: int) -> None:
    stage = an_org(seed=seed)
    for row in stage.dataverse.rows("opportunity")[:8]:
        stage.edit("delete", table="opportunity", id=row["opportunityid"])
    stage.sync()
    assert wrong(stage) == []
    vandal = Vandal(stage, seed)
    before = stage.writes()

    for number in range(100):
        kind = RARE[number // 20 - 1] if number and number % 20 == 0 else vandal.chance.choice(KINDS)
        if kind == "company" and not vandal.companies:
            kind = "value"
        getattr(vandal, kind)()
    summary, found = audited(stage)

    assert {(each["object"], each["id"]): each["what"] for each in found} == vandal.done
    assert summary["differences"] == len(vandal.done) >= 99
    assert stage.writes() == before

    audits.repair(stage.world, summary)
    stage.drain()
    stage.clock.sleep(13 * 3600)
    stage.sync()

    assert wrong(stage) == []
    summary, found = audited(stage)
    assert (found, summary["differences"], summary["remembered otherwise"]) == ([], 0, 0)


# --- nothing is invented ------------------------------------------------------------------------------------------


def test_what_the_sync_has_not_handled_yet_is_on_its_way_and_no_difference(stage: Stage, org: Org) -> None:
    stage.sync()
    org.update("opportunity", org.deal, name="Renamed")
    org.stakeholder(org.bob)
    new = org.opportunity("New", account=org.bolt)

    summary, found = audited(stage)

    assert summary["differences"] == 0
    assert {(each["id"], each["what"]) for each in found} == {(org.deal, "on their way"), (new, "on their way")}
    assert summary["on their way"] == 2


def test_what_is_known_to_be_out_of_step_is_told_as_that(stage: Stage, org: Org) -> None:
    org.stakeholder(org.contact("unknown@acme.invalid", org.acme))
    stage.sync()

    summary, found = audited(stage)

    assert found == []
    assert summary["known to be out of step"] == {"waiting": {"people: 1 not in Marketo": 1}}


def test_roles_that_others_gave_are_counted_and_left_alone(stage: Stage, org: Org) -> None:
    stage.sync()
    theirs = {"externalOpportunityId": org.deal, "leadId": org.lead_cid, "role": "Given by others"}
    stage.marketo.edit({"op": "create", "object": "roles", "values": theirs})

    summary, found = audited(stage)
    audits.repair(stage.world, summary)
    stage.sync()

    assert (found, summary["roles of others"]) == ([], 1)
    assert (org.deal, org.lead_cid, "Given by others") in stage.roles()


@pytest.mark.parametrize("amount", [123_456.78, 9_999_999.99, 0.1, 33_333.33])
def test_what_marketo_rounds_is_no_difference(amount: float) -> None:
    stage = Stage()
    org = Org(stage)
    stage.marketo.switches.set({"currency_32bit": True})
    org.update("opportunity", org.deal, estimatedvalue=amount)
    stage.sync()

    summary, found = audited(stage)

    assert stage.opportunities()[org.deal]["amount"] != amount or amount == 0.1
    assert (found, summary["differences"]) == ([], 0)


def test_a_change_between_the_two_looks_is_no_difference(stage: Stage, org: Org) -> None:
    """Dynamics and Marketo are read one after the other; the sync goes on meanwhile."""
    stage.sync()
    read = stage.world.target.records
    done = []

    def slowly(*asked: Any) -> Any:
        if not done:
            done.append(True)
            org.update("opportunity", org.deal, name="Renamed just now")
            stage.sync()
        return read(*asked)

    stage.world.target.records = slowly  # type: ignore[method-assign]
    summary, found = audited(stage)

    assert done
    assert (found, summary["differences"]) == ([], 0)


def test_an_opportunity_that_dynamics_shows_no_more_is_asked_after(stage: Stage, org: Org) -> None:
    stage.sync()
    org.delete("opportunity", org.deal)  # and detect has not heard of it

    summary, found = audited(stage)
    audits.repair(stage.world, summary)

    assert (found, summary["not shown by Dynamics"]) == ([], 1)
    assert stage.world.documents.read("stamp", "comparison") is not None


def test_an_audit_writes_nothing_to_marketo_or_the_ledger(stage: Stage, org: Org) -> None:
    stage.sync()
    Vandal(stage, 1).value()
    before, ledger = stage.writes(), dict(stage.world.opportunities.content)  # type: ignore[attr-defined]

    audited(stage)

    assert stage.writes() == before
    assert stage.world.opportunities.content == ledger  # type: ignore[attr-defined]
    assert sum(stage.world.queue.lengths().values()) == 0


# --- what it costs, and that it goes on where it ended ---------------------------------------------------------------


def test_it_costs_a_call_for_three_hundred_of_each_object() -> None:
    stage = an_org(900)
    roles, companies = len(stage.marketo.rows("roles")), len(stage.marketo.rows("companies"))
    contacts = len({row["leadId"] for row in stage.marketo.rows("roles")}) + stage.world.people.missing()
    before = stage.limiter.used

    summary, _ = audited(stage)

    asked = stage.limiter.used - before
    assert summary["Marketo calls"] == asked
    assert asked <= sum(-(-number // PER_CALL) for number in (900, roles, companies, contacts)) + 1


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "PIECE", 20)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("seed", range(3))
def test_interrupted_after_any_piece_it_goes_on_there_and_finds_the_same(seed: int) -> None:
    stage = an_org(100, seed=seed)
    vandal = Vandal(stage, seed)
    for _ in range(12):
        getattr(vandal, vandal.chance.choice(KINDS))()
    whole, expected_found = audited(stage)

    for _ in range(40):
        summary, found = audited(stage, go_on=lambda: False)
        if summary["complete"]:
            break
    else:
        pytest.fail("it never ends")

    assert sorted(map(str, found)) == sorted(map(str, expected_found))
    same = ("compared", "differences", "sums", "known to be out of step", "opportunities", "roles", "companies")
    assert {name: summary[name] for name in same} == {name: whole[name] for name in same}


@pytest.mark.usefixtures("small_pieces")
def test_a_service_that_gives_no_answer_costs_only_the_piece() -> None:
    stage = an_org(100)
    whole, _ = audited(stage)
    asked, read = [0], stage.world.target.roles

    def failing(keys: Any) -> Any:
        asked[0] += 1
        if asked[0] == 3:
            raise Unavailable("no answer")
        return read(keys)

    stage.world.target.roles = failing  # type: ignore[method-assign]
    with pytest.raises(RetryLater, match="no answer"):
        audited(stage)
    summary, _ = audited(stage)

    assert summary["compared"] == whole["compared"]
    assert asked[0] < 2 * 5 + 3


@pytest.mark.usefixtures("small_pieces")
def test_two_audits_at_once_do_not_count_twice() -> None:
    stage = an_org(60)

    def meanwhile() -> bool:
        audited(stage, again=True)
        return True

    with pytest.raises(Unavailable, match="another audit"):
        audited(stage, go_on=meanwhile)


@pytest.mark.usefixtures("small_pieces")
def test_what_began_by_another_mapping_or_long_ago_begins_anew() -> None:
    stage = an_org(60)
    assert not audited(stage, go_on=lambda: False)[0]["complete"]
    stage.clock.sleep(8 * 86_400)
    stage.sync()

    summary, _ = audited(stage)

    assert summary["audit"] > "2026-03-09"
    assert summary["compared"]["opportunities"] == 60


@pytest.mark.usefixtures("small_pieces")
def test_the_suspects_of_an_older_audit_are_forgotten() -> None:
    stage = an_org(60)
    Vandal(stage, 1).value()
    audited(stage)
    stage.clock.sleep(60)
    audited(stage, go_on=lambda: False)
    stage.clock.sleep(60)
    summary, _ = audited(stage, again=True)

    kept = {name.split()[0] for name, _ in stage.world.documents.list("audit suspects")}
    assert kept == {summary["audit"]}


def test_a_sample_is_of_so_many_and_leaves_no_trace() -> None:
    stage = an_org(60)
    chance = random.Random(1)
    found: list[Any] = []

    summary = audits.sample(stage.world, found.append, 20, chance.randrange)

    assert summary["compared"]["opportunities"] == 20
    assert stage.world.documents.read("audit", "progress") is None
    assert found == []


def test_before_the_first_sync_there_is_nothing_to_compare(stage: Stage) -> None:
    with pytest.raises(ConfigurationError, match="Run `sync` first"):
        audited(stage)


def test_counters_that_are_wrong_are_told_and_put_right(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.sync()
    mended = []

    def recount(*, mend: bool = False) -> dict[str, int]:
        mended.append(mend)
        return {"parked": 3}

    monkeypatch.setattr(stage.world.opportunities, "recount", recount)
    summary, _ = audited(stage)

    assert summary["counters that are wrong"] == {"opportunities, parked": 3}
    assert audits.repair(stage.world, summary) == {"counters put right": 1}
    assert mended == [False, True]


# --- repair goes through the guard ------------------------------------------------------------------------------------


def test_roles_that_must_go_pass_the_guard_or_are_held() -> None:
    stage = an_org(60, changes={"max_count = 100": "max_count = 3", "max_share = 0.01": "max_share = 0.0"})
    vandal = Vandal(stage, 1)
    for _ in range(5):
        vandal.role_added()

    summary, found = audited(stage)
    assert summary["differences"] == len(found) == 5
    audits.repair(stage.world, summary)
    stage.drain()

    held = stage.world.opportunities.counts()["held"]
    assert held == 5
    assert audited(stage)[0]["known to be out of step"]["held"]


# --- by the timer -----------------------------------------------------------------------------------------------------

WEEKLY = {CONFIG: CONFIG + '\n[audit]\nevery = "P7D"\ncalls_a_day = 10\n'}


def pieces(stage: Stage, most: int = 200) -> Iterator[dict[str, Any] | None]:
    for _ in range(most):
        yield audits.piece(stage.world, go_on=lambda: True)
        stage.clock.sleep(300)


@pytest.mark.usefixtures("small_pieces")
def test_the_timer_compares_all_within_the_calls_of_a_day() -> None:
    stage = an_org(100, changes=WEEKLY)
    Vandal(stage, 1).value()
    began, before = stage.clock.now(), stage.limiter.used

    found = next(filter(None, pieces(stage, 1000)))

    days = (stage.clock.now() - began) / timedelta(days=1)
    assert found["differences"] == 1
    assert found["compared"]["opportunities"] == 100
    assert 0.5 < days < 3
    assert stage.limiter.used - before <= 2 * (10 + 3) + 2  # a piece begun is finished, and the second look
    assert list(filter(None, pieces(stage, 100))) == []
    stage.clock.sleep(7 * 86_400)
    assert any(pieces(stage, 1000))


def test_without_the_setting_the_timer_compares_nothing(stage: Stage, org: Org) -> None:
    stage.sync()
    before = stage.limiter.used

    assert list(filter(None, pieces(stage, 3))) == []
    assert stage.limiter.used == before


def test_the_timer_mends_if_it_is_told_to() -> None:
    stage = an_org(60, changes={CONFIG: CONFIG + '\n[audit]\nevery = "P1D"\nrepair = true\n'})
    Vandal(stage, 1).value()

    found = next(filter(None, pieces(stage)))
    stage.drain()

    assert found["repair"] == {"records queued": 1}
    assert wrong(stage) == []


# --- whatever the mapping, whatever happened --------------------------------------------------------------------------


def rested(stage: Stage) -> None:
    """Synced, with everything tried again that waited."""
    stage.sync()
    stage.clock.sleep(13 * 3600)
    stage.sync()


@pytest.mark.parametrize("seed", range(14))
def test_nothing_is_invented_and_all_is_mended_whatever_was_edited_and_mapped(seed: int) -> None:
    """Some of the edits are by hand in Marketo: roles with our texts, opportunities under our keys."""
    stage = Stage(changes=CHANGES[seed % len(CHANGES)], seed=seed, page_size=3)
    hand = Hand(stage, seed)
    stage.sync()
    for _ in range(5 + seed):
        hand.edit()
    rested(stage)

    summary, found = audited(stage)

    assert [
        each
        for each in found
        if "fields" in each or not {"extra", "on their way"} & {each["what"], *each.get("roles", ())}
    ] == []
    audits.repair(stage.world, summary)
    rested(stage)
    summary, found = audited(stage)
    assert (summary["differences"], summary["remembered otherwise"]) == (0, 0), found


# --- what is a difference, and whose task it is ------------------------------------------------


def by_hand(stage: Stage, deal: str, **values: Any) -> None:
    key = {"externalOpportunityId": deal}
    stage.marketo.edit({"op": "update", "object": "opportunities", "key": key, "values": values})


def found_of(stage: Stage, deal: str) -> list[str]:
    _, found = audited(stage)
    return [each["what"] for each in found if each["id"] == deal]


def test_a_record_that_waits_is_compared_all_the_same(stage: Stage, org: Org) -> None:
    org.stakeholder(org.contact("unknown@acme.invalid", org.acme))
    stage.sync()
    assert stage.world.opportunities.counts()["waiting"] == 1

    by_hand(stage, org.deal, amount=5.0)
    assert found_of(stage, org.deal) == ["different"]
    stage.marketo.edit({"op": "delete", "object": "opportunities", "key": {"externalOpportunityId": org.deal}})
    assert found_of(stage, org.deal) == ["missing"]


def test_what_the_sync_lost_is_found_once_nothing_brings_it_any_more(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.clock.sleep(3600)
    org.update("opportunity", org.deal, name="Renamed")
    new = org.opportunity("New", account=org.bolt)
    stage.tick()
    assert found_of(stage, org.deal) == ["on their way"], "the message is on the queue"
    letter = stage.world.queue.receive(Lane.FRESH, lease=LEASE)
    assert letter is not None
    stage.world.queue.done(Lane.FRESH, letter)  # thrown away
    stage.clock.sleep(3600)
    stage.tick()

    summary, found = audited(stage)

    assert {each["id"]: each["what"] for each in found} == {org.deal: "different", new: "missing"}
    audits.repair(stage.world, summary)
    stage.drain()
    assert audited(stage)[0]["differences"] == 0
    assert stage.opportunities()[org.deal]["name"] == "Renamed"


def test_a_mapping_that_waits_to_be_applied_is_applied_by_no_repair() -> None:
    stage = an_org(60, changes={CONFIG: CONFIG.replace("[sync]", '[sync]\napply_mapping = "manual"')})
    text = CONFIG.replace("[sync]", '[sync]\napply_mapping = "manual"').replace('"description"', '"stepname"')
    stage.adopt(text)
    stage.sync()
    changed = sorted(stage.opportunities())[0]
    by_hand(stage, changed, amount=1.0)

    summary, found = audited(stage)

    assert [each["id"] for each in found if each["what"] == "different"] == [changed]
    assert summary["on their way"] == 59
    assert audits.repair(stage.world, summary) == {"records queued": 1}


def test_a_role_given_by_hand_is_found_while_a_mapping_waits() -> None:
    stage = an_org(30, changes={CONFIG: CONFIG.replace("[sync]", '[sync]\napply_mapping = "manual"')})
    stage.adopt(
        CONFIG.replace("[sync]", '[sync]\napply_mapping = "manual"').replace(
            "primary_roles = []", 'primary_roles = ["None such"]'
        )
    )
    stage.sync()
    vandal = Vandal(stage, 1)
    vandal.role_added()

    summary, _ = audited(stage)

    assert (summary["differences"], summary["roles"]["extra"]) == (1, 1)


def test_a_flag_taken_back_by_hand_is_found_and_set_again() -> None:
    stage = Stage(changes={"[removals]": FLAG})
    org = Org(stage)
    stage.sync()
    stage.edit("win", id=org.deal)
    stage.sync()
    assert stage.opportunities()[org.deal]["nextStep"] == "left"
    by_hand(stage, org.deal, nextStep=None)

    summary, found = audited(stage)
    assert [each["what"] for each in found] == ["different"]
    audits.repair(stage.world, summary)
    stage.drain()

    assert stage.opportunities()[org.deal]["nextStep"] == "left"


def test_of_sales_persons_no_value_is_told(stage: Stage) -> None:
    stage = Stage(changes={"salesperson = false": "salesperson = true"})
    Org(stage)
    stage.sync()
    (person,) = stage.marketo.rows("salespersons")
    key = {"externalSalesPersonId": person["externalSalesPersonId"]}
    stage.marketo.edit({"op": "update", "object": "salespersons", "key": key, "values": {"lastName": "Changed"}})

    _, found = audited(stage)

    assert [set(each["fields"]) for each in found] == [{"lastName"}]
    assert "Changed" not in str(found)


def test_fields_that_are_left_alone_are_named(stage: Stage, org: Org) -> None:
    stage = a_stage("", opportunity=('description = "new_gone"',))
    Org(stage)
    add_column(stage, "new_gone", "string")
    stage.sync()
    remove_column(stage, "new_gone")
    stage.sync()

    summary, _ = audited(stage)

    assert list(summary["left alone"]) == ["opportunity.description"]


def test_after_a_cleanup_there_is_nothing_to_compare(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.world.documents.write("stamp", "pause", {"since": "now", "cleanup": {"begun": "now"}}, None)

    with pytest.raises(ConfigurationError, match="a cleanup removed"):
        audited(stage)


@pytest.mark.usefixtures("small_pieces")
def test_opportunities_that_only_dynamics_knows_are_counted_once_however_often_it_ends() -> None:
    stage = Stage()
    org = Org(stage)
    stage.sync()
    for number in range(90):
        org.opportunity(f"New {number}", account=org.acme)

    for _ in range(30):
        summary, _ = audited(stage, go_on=lambda: False)
        if summary["complete"]:
            break

    assert summary["complete"]
    assert summary["compared"]["opportunities"] == 91
    assert summary["on their way"] == 90


@pytest.mark.usefixtures("small_pieces")
def test_the_second_look_stops_and_goes_on_as_well() -> None:
    stage = an_org(100)
    for key in stage.opportunities():
        by_hand(stage, key, amount=1.0)
    asked = []

    for _ in range(100):
        before = stage.limiter.used
        summary, found = audited(stage, go_on=lambda: False)
        asked.append(stage.limiter.used - before)
        if summary["complete"]:
            break

    assert summary["differences"] == 100
    assert len(found) == 100, "told from what is kept, by looking again"
    assert max(asked[:-1]) <= 6
    assert len(asked) > 10, "each call looked at one piece"


@pytest.mark.usefixtures("small_pieces")
def test_a_restart_that_dies_at_once_robs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = an_org(60)
    for key in stage.opportunities():
        by_hand(stage, key, amount=1.0)
    audited(stage, go_on=lambda: False)

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(audits, "_discard", dies)
        stage.clock.sleep(60)
        with pytest.raises(KeyboardInterrupt):
            audited(stage, again=True)

    assert audited(stage)[0]["differences"] == 60
