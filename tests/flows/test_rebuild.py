"""`rebuild`: the state again, from both services, while nothing is sent to Marketo (docs/operations.md)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_core import cli
from sync_core.errors import ConfigurationError, RetryLater, Unavailable, WrongPair
from sync_core.flows.actions import rebuild as as_operator
from sync_core.flows.detect import detect
from sync_core.flows.guard import PAUSE
from sync_core.flows.rebuild import DIFFERS, LEAVES, MARK, MISSING, UNKNOWN, UNLINKED, rebuild
from sync_core.flows.status import approve_removals, pause, resume
from sync_core.flows.world import World
from sync_core.model import LedgerRow, State
from tests.flows.org import Org, lookup, wrong
from tests.flows.test_lost_state import becomes_another_organization, lose
from tests.flows.test_plan import CHANGES, HOLD, Hand
from tests.flows.test_switches import ALL, STOPPING, Setting, label, turn
from tests.stage import CONFIG, Stage

FILTER = '[filter]\nwhen_leaving = "{}"\n[[filter.rule]]\ncolumn = "statecode"\nin = [0]\n\n[removals]'
CREATE = {'when_missing  = "wait"': 'when_missing  = "create"\nlink_company = "always"'}
SALES_PERSONS = {"salesperson = false": "salesperson = true"}
WAITING = "not as the rules want it, so it waits"


def told(stage: Stage) -> dict[str, dict[str, tuple[Any, ...]]]:
    """What the ledgers say, but for tickets and times."""
    return {
        kind: {key: what(row) for key, row in ledger.content.items() if row.state is not State.GONE}
        for kind, ledger in stage.world.ledgers.items()
    }


def what(row: LedgerRow) -> tuple[Any, ...]:
    roles = {role.key: (role.primary, role.created, frozenset(role.reasons)) for role in row.roles}
    return row.state, row.reason, dict(row.fields), roles, row.mapping


def people(stage: Stage) -> dict[str, int]:
    return {key: json.loads(text)["lead"] for key, text in stage.world.people._texts.items()}


def waiting(stage: Stage) -> dict[str, str]:
    rows = (row for ledger in stage.world.ledgers.values() for row in ledger.content.values())
    return {row.id: row.reason for row in rows if row.state is State.WAITING}


class Dies(Exception):
    """As a killed process: nothing is caught."""


def dies(_number: int) -> None:
    raise Dies


def some_of_everything(stage: Stage, sync: Callable[[], object] | None = None) -> Org:
    """Roles, customers, a missing person, a company that nobody names any more, a record that Marketo refuses."""
    sync, org = sync or stage.sync, Org(stage)
    org.stakeholder(org.ann)
    org.stakeholder(org.bob, "Influencer")
    org.opportunity("Customer", contact=org.cid)
    org.opportunity("Alone", contact=org.contact("nobody@acme.invalid", org.acme))
    moved = org.opportunity("Moved", account=org.bolt)
    core = org.account("Core")
    org.opportunity("At Core", account=core)
    sync()
    org.update("opportunity", moved, **lookup("parentaccountid", org.acme, "account"))
    org.update("opportunity", org.deal, name="Renamed", estimatedvalue=123456.78)
    sync()
    return org


# --- as it was --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, SALES_PERSONS, CREATE, {"[removals]": FILTER.format("keep")}])
def test_the_ledgers_are_as_before_and_nothing_is_written(changes: Mapping[str, str]) -> None:
    stage = Stage(changes=changes)
    some_of_everything(stage)
    before, known, pairs = told(stage), people(stage), dict(stage.world.connections.content)
    texts = stage.world.documents.read("stamp", "role texts")
    writes = stage.writes()

    lose(stage)
    found = rebuild(stage.world)

    assert told(stage) == before
    assert people(stage) == known
    assert stage.world.connections.content == pairs
    assert stage.world.documents.read("stamp", "role texts").value == texts.value
    assert found[WAITING] == {}
    stage.sync()
    assert stage.writes() == writes
    assert told(stage) == before


class Alone(Hand):
    """Nobody else writes to Marketo: no opportunity or role of others, nobody who shares an address."""

    def _edit(self) -> None:
        state = self.random.getstate()
        if self.random.randrange(16) not in (8, 11, 12):
            self.random.setstate(state)
            super()._edit()


def content(stage: Stage) -> dict[str, Any]:
    """As `told`, but for what nobody can know: why a role is there, or when, of what the filter leaves out."""
    found = {kind: dict(rows) for kind, rows in told(stage).items()}
    for key, row in stage.world.opportunities.content.items():
        if row.left_out:
            found["opportunities"][key] = (row.state, row.reason, dict(row.fields), {role.key for role in row.roles})
    return found


@settings(max_examples=15, derandomize=True)
@given(seed=st.integers(0, 10_000), changes=st.sampled_from([each for each in CHANGES if each != HOLD]))
def test_whatever_people_did_the_ledgers_are_as_before_and_nothing_is_written(
    seed: int, changes: dict[str, str]
) -> None:
    stage = Stage(changes=changes, seed=seed, page_size=3)
    hand = Alone(stage, seed)
    for number in range(25):
        hand.edit()
        if number % 5 == 4:
            stage.sync()
    stage.clock.sleep(13 * 3600)  # whoever waits for somebody is asked for again
    stage.sync()
    before, writes = content(stage), stage.writes()

    lose(stage)
    rebuild(stage.world)
    assert content(stage) == before
    stage.sync()
    assert stage.writes() == writes


@settings(max_examples=15, derandomize=True)
@given(seed=st.integers(0, 10_000), changes=st.sampled_from(CHANGES))
def test_no_row_claims_what_marketo_does_not_hold(seed: int, changes: dict[str, str]) -> None:
    stage = Stage(changes=changes, seed=seed, page_size=3)
    hand = Hand(stage, seed)
    for number in range(25):
        hand.edit()
        if number % 5 == 4 and number < 20:
            stage.sync()
    lose(stage)
    writes = stage.writes()
    rebuild(stage.world)

    assert stage.writes() == writes
    held, roles = stage.opportunities(), {(key, lead, text.casefold()) for key, lead, text in stage.roles()}
    for row in stage.world.opportunities.content.values():
        assert not row.fields or row.id in held
        assert {(row.id, *role.key) for role in row.roles} <= roles
    companies = {row["externalCompanyId"] for row in stage.marketo.rows("companies")}
    assert {row.id for row in stage.world.companies.content.values() if row.fields} <= companies
    assert set(people(stage).values()) <= {0, *(row["id"] for row in stage.marketo.rows("leads"))}


def test_it_says_what_it_found_and_what_it_cost(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()

    lose(stage)
    used = stage.limiter.used
    found = rebuild(stage.world)

    assert found["opportunities"] == {"in step": 1}
    assert found["companies"] == {"in step": 1}
    assert (found["roles of ours"], found["people found"], found["connections remembered"]) == (1, 1, 1)
    assert found["Marketo calls"] == stage.limiter.used - used
    assert found["queued"] == 0


def test_three_hundred_records_cost_one_question_of_each_object() -> None:
    stage = Stage()
    org = Org(stage)
    for number in range(599):
        org.opportunity(f"Deal {number}", account=org.acme)
    stage.sync()

    lose(stage)
    before = len(stage.marketo.journal.entries)
    rebuild(stage.world)

    asked = Counter(call["path"] for call in stage.marketo.journal.since(before) if call["kind"] == "read")
    # Besides by their ids: once by companies, two pages; of the companies two questions, what is there and what it is.
    assert asked == {
        "/rest/v1/opportunities.json": 2 + 2,
        "/rest/v1/opportunities/roles.json": 2,
        "/rest/v1/companies.json": 2,
    }


# --- what differs -----------------------------------------------------------------------------------------------------


def test_what_differs_in_marketo_waits_and_sync_mends_exactly_that(stage: Stage) -> None:
    org = some_of_everything(stage)
    changed, bare, gone = (org.opportunity(name, account=org.acme) for name in ("Changed", "Bare", "Gone"))
    org.stakeholder(org.ann, opportunity=bare)
    org.stakeholder(org.bob, opportunity=gone)
    stage.sync()
    before = told(stage)

    def by_others(op: str, kind: str, key: Mapping[str, Any], **values: Any) -> None:
        stage.marketo.edit({"op": op, "object": kind, "key": dict(key), **values})

    by_others("update", "opportunities", {"externalOpportunityId": changed}, values={"name": "By somebody else"})
    (lead,) = {lead for _, lead, _ in stage.roles(bare)}
    by_others("delete", "roles", {"externalOpportunityId": bare, "leadId": lead, "role": "Decision Maker"})
    by_others("delete", "opportunities", {"externalOpportunityId": gone})
    by_others("update", "companies", {"externalCompanyId": org.bolt}, values={"company": "By somebody else"})

    lose(stage)
    rebuild(stage.world)

    known = stage.world.opportunities.content
    assert {key: reason for key, reason in waiting(stage).items() if reason.startswith("rebuild")} == {
        changed: DIFFERS.format("fields"),
        bare: DIFFERS.format("roles"),
        gone: MISSING,
        org.bolt: DIFFERS.format("fields"),
    }
    assert "name" not in known[changed].fields
    assert "stage" in known[changed].fields
    assert known[bare].roles == ()
    assert (known[gone].fields, known[gone].roles) == ({}, ())

    start = len(stage.marketo.journal.entries)
    stage.sync()
    assert wrong(stage) == []
    assert told(stage) == before
    touched = Counter(
        call["path"].removeprefix("/rest/v1/")
        for call in stage.marketo.journal.since(start)
        if call["kind"] == "write"
        for _ in range(sum(call["statuses"].values()))
    )
    # What waits is trusted in nothing: Acme, which its opportunities name, is posted with them.
    assert touched == {"opportunities.json": 3, "opportunities/roles.json": 2, "companies.json": 2}


def test_what_changed_in_dynamics_meanwhile_waits_too(stage: Stage, org: Org) -> None:
    ended = org.stakeholder(org.ann)
    org.stakeholder(org.bob, "Influencer")
    stage.sync()
    org.update("opportunity", org.deal, name="Renamed")
    stage.edit("disconnect", id=ended)
    new = org.opportunity("Meanwhile", account=org.bolt)
    org.stakeholder(org.cid, "Champion", new)

    lose(stage)
    found = rebuild(stage.world)

    row = stage.world.opportunities.content[org.deal]
    assert waiting(stage) == {org.deal: DIFFERS.format("fields and roles"), new: MISSING, org.bolt: MISSING}
    assert {role.text for role in row.roles} == {"Decision Maker", "Influencer"}, "both are in Marketo, and ours"
    assert found["queued"] == 3
    stage.sync()
    assert wrong(stage) == []


def test_many_roles_that_ended_meanwhile_are_held_by_the_sync_and_not_before() -> None:
    stage = Stage(changes={"max_count = 100": "max_count = 1", "max_share = 0.01": "max_share = 0.0"})
    org = Org(stage)
    ended = [org.stakeholder(each) for each in (org.ann, org.bob, org.cid)]
    stage.sync()
    for each in ended:
        stage.edit("disconnect", id=each)

    lose(stage)
    rebuild(stage.world)
    assert waiting(stage) == {org.deal: LEAVES}
    assert len(stage.world.opportunities.content[org.deal].roles) == 3
    stage.sync()

    assert len(stage.roles(org.deal)) == 3
    assert approve_removals(stage.world) == 1
    stage.sync()
    assert wrong(stage) == []


def test_a_value_that_marketo_rounds_is_no_difference(stage: Stage) -> None:
    stage.marketo.switches.set({"currency_32bit": True})
    org = Org(stage)
    org.update("opportunity", org.deal, estimatedvalue=123456.78)
    stage.sync()
    assert stage.opportunities()[org.deal]["amount"] != 123456.78

    lose(stage)
    rebuild(stage.world)

    assert waiting(stage) == {}


@pytest.mark.parametrize("setting", [each for each in ALL if each not in STOPPING], ids=label)
def test_whatever_the_services_answer_the_state_is_as_before(setting: Setting) -> None:
    stage = Stage()
    turn(stage, setting)
    some_of_everything(stage, lambda: at_rest(stage))
    before, writes = told(stage), stage.writes()

    lose(stage)
    patiently(stage, lambda: rebuild(stage.world))

    assert told(stage) == before
    at_rest(stage)
    assert stage.writes() == writes


def at_rest(stage: Stage) -> None:
    patiently(stage, stage.sync)
    stage.clock.sleep(3600)  # also what Marketo shows late
    patiently(stage, stage.sync)


def patiently(stage: Stage, action: Callable[[], Any]) -> None:
    """Again after a while, as people and timers do."""
    for _ in range(10):
        try:
            action()
        except RetryLater:
            stage.clock.sleep(6 * 3600)
        else:
            return
    raise AssertionError("not within 60 hours")


# --- deleted meanwhile ------------------------------------------------------------------------------------------------


def test_what_was_deleted_meanwhile_is_found_by_its_company_and_goes_once_approved(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    kept = org.opportunity("Kept", account=org.acme)
    stage.sync()
    stage.marketo.edit(
        {
            "op": "create",
            "object": "opportunities",
            "values": {"externalOpportunityId": "of-others", "externalCompanyId": org.acme},
        }
    )
    org.delete("opportunity", org.deal)

    lose(stage)
    found = rebuild(stage.world)

    assert found["in Marketo, not in Dynamics, so it is held"] == 1
    row = stage.world.opportunities.content[org.deal]
    assert (row.state, row.reason, len(row.roles)) == (State.HELD, UNKNOWN, 1)
    stage.sync()
    assert org.deal in stage.opportunities()
    assert approve_removals(stage.world) == 1
    stage.sync()

    assert set(stage.opportunities()) == {kept, "of-others"}
    assert stage.roles(org.deal) == set()


@pytest.mark.parametrize("policy", ["keep", "flag"])
def test_what_is_kept_or_marked_when_it_is_deleted_needs_nobody(policy: str) -> None:
    flags = 'flag = { nextStep = "gone" }' if policy == "flag" else ""
    stage = Stage(changes={"[removals]": f'[removals]\npolicy = "{policy}"\n{flags}'})
    org = Org(stage)
    stage.sync()
    org.delete("opportunity", org.deal)
    stage.sync()

    lose(stage)
    writes = stage.writes()
    assert rebuild(stage.world)["in Marketo, not in Dynamics, so it is held"] == 0
    stage.sync()
    assert stage.writes() == writes


def test_what_the_filter_leaves_out_and_marketo_still_has_is_removed_by_the_sync() -> None:
    stage = Stage(changes={"[removals]": FILTER.format("remove")})
    org = Org(stage)
    org.stakeholder(org.ann)
    stage.sync()
    org.update("opportunity", org.deal, statecode=1)

    lose(stage)
    rebuild(stage.world)
    assert waiting(stage) == {org.deal: LEAVES}
    assert len(stage.world.opportunities.content[org.deal].roles) == 1
    stage.sync()

    assert stage.opportunities() == {}
    assert stage.roles() == set()


def test_what_the_filter_leaves_out_and_is_kept_is_still_ours_when_it_is_deleted() -> None:
    stage = Stage(changes={"[removals]": FILTER.format("keep")})
    org = Org(stage)
    org.stakeholder(org.ann)
    stage.sync()
    org.update("opportunity", org.deal, statecode=1)
    stage.sync()

    lose(stage)
    rebuild(stage.world)
    assert waiting(stage) == {}
    assert len(stage.world.opportunities.content[org.deal].roles) == 1
    org.delete("opportunity", org.deal)
    stage.sync()

    assert stage.opportunities() == {}


def test_a_company_that_no_opportunity_names_any_more_is_followed_again(stage: Stage, org: Org) -> None:
    core = org.account("Core")
    deal = org.opportunity("Once at Core", account=core)
    stage.sync()
    org.update("opportunity", deal, **lookup("parentaccountid", org.acme, "account"))
    stage.sync()

    lose(stage)
    rebuild(stage.world)
    org.update("account", core, name="Core, renamed")
    stage.sync()

    names = {row["externalCompanyId"]: row["company"] for row in stage.marketo.rows("companies")}
    assert names[core] == "Core, renamed"


# --- people -----------------------------------------------------------------------------------------------------------


def test_nobody_who_is_not_in_marketo_is_remembered_as_if_he_were() -> None:
    stage = Stage(changes=CREATE)
    org = Org(stage)
    stage.sync()
    new = org.contact("new@acme.invalid", org.acme)
    org.stakeholder(new)

    lose(stage)
    rebuild(stage.world)

    assert people(stage)[new] == 0, "he is missing"
    row = stage.world.opportunities.content[org.deal]
    assert (row.reason, row.roles) == (DIFFERS.format("roles"), ())
    stage.sync()
    assert len(stage.roles(org.deal)) == 1
    assert people(stage)[new] > 0


def test_a_person_who_is_not_at_the_company_is_tied_by_the_sync() -> None:
    stage = Stage(changes={'when_missing  = "wait"': 'when_missing  = "wait"\nlink_company = "always"'})
    org = Org(stage)
    org.stakeholder(org.ann)
    stage.sync()
    org.update("contact", org.ann, **lookup("parentcustomerid", org.bolt, "account"))

    lose(stage)
    rebuild(stage.world)

    assert waiting(stage)[org.deal] == UNLINKED
    assert org.ann not in people(stage)
    stage.sync()
    companies = {row["id"]: row["externalCompanyId"] for row in stage.marketo.rows("leads")}
    assert companies[org.lead_ann] == org.bolt


# --- the order, and what happens meanwhile ----------------------------------------------------------------------------


def test_changes_in_dynamics_during_it_are_not_lost(stage: Stage, org: Org) -> None:
    first = org.stakeholder(org.ann)
    doomed = org.opportunity("Doomed", account=org.acme)
    stage.sync()
    lose(stage)
    seen = []

    def meanwhile(number: int) -> None:
        if not seen:
            org.update("opportunity", org.deal, name="Renamed meanwhile")
            stage.edit("disconnect", id=first)
            org.delete("opportunity", doomed)
            org.stakeholder(org.cid, "Champion", org.opportunity("New", account=org.bolt))
            org.update("account", org.acme, name="Acme, renamed")
        seen.append(number)

    rebuild(stage.world, progress=meanwhile)
    stage.sync()

    assert wrong(stage) == []


def test_what_is_deleted_before_its_row_is_rebuilt_goes_as_well(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    lose(stage)
    real = stage.world.source.rows
    done = []

    def rows(table: str, ids: Any, *more: Any, **named: Any) -> Any:
        if table == "opportunity" and list(ids) and not done:
            done.append(True)
            org.delete("opportunity", org.deal)
        return real(table, ids, *more, **named)

    stage.world.source.rows = rows  # type: ignore[method-assign]
    rebuild(stage.world)
    stage.sync()

    assert stage.opportunities() == {}
    assert stage.roles() == set()


def test_the_links_are_stored_once_every_row_is(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    lose(stage)
    documents, rows = stage.world.documents, stage.world.opportunities.content
    real, known = documents.write, []

    def write(kind: str, name: str, value: Mapping[str, Any], ticket: str | None) -> str | None:
        if kind == "feed":
            known.append((name, len(rows)))
        return real(kind, name, value, ticket)

    documents.write = write  # type: ignore[method-assign]
    rebuild(stage.world)

    assert {number for _, number in known} == {1}
    assert known[-1][0] == "opportunity"


@pytest.mark.parametrize("after", range(0, 60, 3))
def test_wherever_it_dies_running_it_again_ends_the_same(after: int) -> None:
    stage = Stage()
    some_of_everything(stage)
    before = told(stage)
    lose(stage)
    calls = 0

    def count(_request: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Dies

    stage.dataverse_wire.fault = stage.marketo_wire.fault = count
    try:
        rebuild(stage.world)
    except Dies:
        assert stage.world.documents.read("feed", "opportunity") is None
    stage.dataverse_wire.fault = stage.marketo_wire.fault = None
    writes = stage.writes()
    if stage.world.documents.read(*PAUSE):
        assert stage.tick().counts == {}
    if stage.world.documents.read("feed", "opportunity") is None:
        rebuild(stage.world)

    assert told(stage) == before
    assert stage.world.documents.read(*PAUSE) is None
    assert stage.world.documents.read(*MARK) is None
    stage.sync()
    assert stage.writes() == writes


def test_rows_that_are_rebuilt_cost_no_call_for_their_opportunity_again(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    lose(stage)

    with pytest.raises(Dies):
        rebuild(stage.world, progress=dies)
    start = len(stage.marketo.journal.entries)
    rebuild(stage.world)

    calls = [call["path"] for call in stage.marketo.journal.since(start) if call["kind"] == "read"]
    assert sorted(calls) == ["/rest/v1/companies.json", "/rest/v1/opportunities.json"], "only those by the accounts"


def test_a_change_between_two_attempts_is_not_lost(stage: Stage, org: Org) -> None:
    ended = org.stakeholder(org.ann)
    doomed = org.opportunity("Doomed", account=org.acme)
    stage.sync()
    lose(stage)

    with pytest.raises(Dies):
        rebuild(stage.world, progress=dies)
    org.update("opportunity", org.deal, name="Renamed")
    stage.edit("disconnect", id=ended)
    org.delete("opportunity", doomed)
    rebuild(stage.world)
    stage.sync()

    assert wrong(stage) == []
    assert doomed not in stage.opportunities()


def test_it_waits_for_services_that_fail_for_a_while(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    lose(stage)
    failures = 0

    def fail(request: Any) -> None:
        nonlocal failures
        if "opportunities" in request.url and failures < 12:
            failures += 1
            raise Unavailable("no answer")

    stage.marketo_wire.fault = fail
    rebuild(stage.world)

    assert failures
    assert waiting(stage) == {}
    assert stage.world.opportunities.counts()[State.IN_STEP] == 1


# --- pause and refusals -----------------------------------------------------------------------------------------------


def test_functions_that_run_meanwhile_post_nothing(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    lose(stage)
    writes = stage.writes()
    rebuild(stage.world, progress=lambda _: (stage.tick(), stage.drain()))

    assert stage.world.documents.read("run", "detect").value["paused"]
    assert stage.writes() == writes
    assert stage.world.documents.read(*PAUSE) is None


def test_a_tick_that_was_under_way_when_it_began_changes_nothing(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    org.stakeholder(org.ann)
    org.opportunity("Of nobody")
    stage.sync()
    before, writes = told(stage), stage.writes()
    lose(stage)

    def under_way(_world: World, *, time_box: float) -> None:
        detect(stage.world, time_box=time_box)
        raise Dies

    with monkeypatch.context() as patch:
        patch.setattr("sync_core.flows.rebuild.detect", under_way)
        with pytest.raises(Dies):
            rebuild(stage.world)
    assert stage.world.documents.read("feed", "opportunity") is not None
    rebuild(stage.world)

    assert told(stage) == before
    stage.sync()
    assert stage.writes() == writes
    assert told(stage) == before


def test_a_pause_of_an_operators_own_stays(stage: Stage, org: Org) -> None:
    stage.sync()
    lose(stage)
    pause(stage.world, "maintenance")
    rebuild(stage.world)

    assert stage.world.documents.read(*PAUSE).value["why"] == "maintenance"
    resume(stage.world)
    stage.sync()


def test_where_there_is_state_it_refuses_and_changes_nothing(stage: Stage, org: Org) -> None:
    stage.sync()
    before = dict(stage.world.documents._texts)

    with pytest.raises(ConfigurationError, match="audit --repair"):
        rebuild(stage.world)
    assert dict(stage.world.documents._texts) == before


def test_once_a_first_load_took_over_it_refuses(stage: Stage, org: Org) -> None:
    stage.sync()
    lose(stage)

    with pytest.raises(Dies):
        rebuild(stage.world, progress=dies)
    resume(stage.world)
    stage.sync()
    with pytest.raises(ConfigurationError, match="there is state already"):
        rebuild(stage.world)
    assert stage.world.documents.read(*MARK) is None


def test_an_interrupted_one_goes_on_with_the_same_pair_only(stage: Stage, org: Org) -> None:
    stage.sync()
    lose(stage)

    with pytest.raises(Dies):
        rebuild(stage.world, progress=dies)
    becomes_another_organization(stage)
    with pytest.raises(WrongPair):
        rebuild(stage.world)


def test_a_mapped_field_that_is_missing_is_named_before_anything_is_paused(stage: Stage, org: Org) -> None:
    stage.sync()
    lose(stage)
    stage.adopt(CONFIG.replace("[company]", 'nowhere__c = "name"\n\n[company]', 1))
    with pytest.raises(ConfigurationError, match="nowhere__c"):
        rebuild(stage.world)
    assert stage.world.documents.read(*PAUSE) is None


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_says_what_comes_next_and_leaves_an_entry(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    org.update("opportunity", org.deal, name="Renamed")
    lose(stage)
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)

    assert cli.main(["rebuild", "--json"]) == cli.GOOD
    found = json.loads(capsys.readouterr().out)
    assert found[WAITING] == {"opportunity fields differ in Marketo": 1}
    assert "posted" in found["then"]
    (entry,) = (value["what"] for _, value in stage.world.documents.list("action"))
    assert entry == "rebuild: the state is there again, 1 record queued"
    assert cli.main(["rebuild"]) == cli.USAGE
    assert "there is state already" in " ".join(capsys.readouterr().err.split())


def test_stopped_by_ctrl_c_the_command_says_that_the_sync_is_paused(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.sync()
    lose(stage)
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)

    def stop(_number: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_looked_at", stop)
    assert cli.main(["rebuild"]) == 130
    assert "the sync stays paused. Run it again" in " ".join(capsys.readouterr().err.split())
    assert stage.world.documents.read(*PAUSE) is not None
    monkeypatch.setattr(cli, "_looked_at", lambda _: None)
    assert cli.main(["rebuild"]) == cli.GOOD


def test_one_that_died_at_its_very_end_is_only_finished(stage: Stage, org: Org) -> None:
    stage.sync()
    lose(stage)
    real = stage.world.documents.delete
    stage.world.documents.delete = lambda *_: (_ for _ in ()).throw(Dies)  # type: ignore[method-assign]
    with pytest.raises(Dies):
        rebuild(stage.world)
    stage.world.documents.delete = real  # type: ignore[method-assign]
    asked = stage.limiter.used

    found = as_operator(stage.world, who="test", progress=lambda _: None)
    assert "ended before it said so" in str(found.values)
    assert stage.limiter.used == asked
    assert stage.world.documents.read(*PAUSE) is None
