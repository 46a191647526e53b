"""The Dynamics part of `probe`, over real HTTPS: it finds out how the emulated organization is set.

The questions are those of dataverse.md §12.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from werkzeug.wrappers import Request, Response

from sync_core.adapters.dataverse_probe import DataverseProbe
from sync_core.errors import ConfigurationError, Unavailable
from sync_core.flows.probe import Finding
from sync_core.flows.probe_dynamics import (
    ASKS,
    MADE,
    MAY_NOT_WRITE,
    NOT_HARMLESS,
    ONLY_WRITING,
    PREFIX,
    WITH_RECORDS,
    left_behind,
    probe_dynamics,
)
from tests.fakes import FakeClock
from tests.served import Served, dataverse_served
from tests.stage import Stage
from tools.emulators.dataverse import generate, loading
from tools.emulators.dataverse.administration import columns, switch
from tools.emulators.dataverse.state import SWITCH_VALUES, DataverseState
from tools.emulators.dataverse.web import DataverseApp
from tools.emulators.faults import FaultPlan

START = "2026-03-02T08:00:00Z"
FEW_CALLS = 100
VERBS = ("Create", "Write", "Delete", "Append", "AppendTo")
MERGING = ("prvMerge", "prvShareContact", "prvAppendActivity", "prvWriteActivity")
RIGHTS = (*(f"prv{verb}{table}" for verb in VERBS for table in ("Contact", "Opportunity", "Connection")), *MERGING)
"""What docs/connect-dynamics.md asks for."""

USUAL = {
    "D1": "expired 400 0x80044352, option 400 0x80060888",
    "D2": "400 0x80040203",
    "D3": "error",
    "D4": "link",
    "D5": "start",
    "D6": "any change",
    "D7": "all on",
    "D8": "7",
    "D9": "both listed",
    "D10": "connection listed, opportunity listed, modifiedon stays",
    "D11": "consistent",
    "D12": "",
}
"""The answers of an emulated organization as it comes."""

CHANGED: dict[tuple[str, Any], dict[str, str]] = {
    ("untracked_table", "silent"): {"D3": "silent"},
    ("annotations_with_tracking", "lose_delta_link"): {"D4": "no link"},
    ("token_position", "end"): {"D5": "end"},
    ("reemit", "selected"): {"D6": "selected columns"},
    ("mirror_tombstone", "missing"): {"D9": "one listed"},
    ("merge_moves_modifiedon", True): {"D10": "connection listed, opportunity listed, modifiedon moves"},
    ("expired_link_status", 404): {"D1": "expired 404 0x80044352, option 400 0x80060888"},
    ("expired_link_status", 410): {"D1": "expired 410 0x80044352, option 400 0x80060888"},
    ("expired_link_status", 412): {"D1": "expired 412 0x80044352, option 400 0x80060888"},
    ("expired_link_status", 500): {"D1": "expired 500 0x80044352, option 400 0x80060888"},
    ("untrackable_option_status", 501): {"D1": "expired 400 0x80044352, option 501 0x80060888"},
}
"""What differs under one setting; under every other setting nothing does."""

STOPS = {("application_user", each) for each in ("disabled", "missing", "no_role")}
SETTINGS = sorted(
    ((name, value) for name, values in SWITCH_VALUES.items() for value in values if (name, value) not in STOPS), key=str
)


class ServedClock(FakeClock):
    """One time for us and the organization."""

    def __init__(self, app: DataverseApp) -> None:
        super().__init__()
        self.app = app

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.app.state.clock.advance(seconds)


class Org:
    """A served organization with some rows, and a role that may write unless it is taken away."""

    def __init__(self, app: DataverseApp, url: str) -> None:
        self.app = app
        self.state = app.state = DataverseState(start=START)
        loading.load(self.state, generate.rows(opportunities=12))
        app.faults = FaultPlan(app.faults.catalogue, app.faults.kinds)
        app.interceptors.clear()
        self.switch(write_privileges=RIGHTS)
        self.stage = Stage()
        self.clock = ServedClock(app)
        plain = {"dataverse_url": url, "dataverse_authority_host": url}
        self.settings = replace(self.stage.settings, **plain)
        self.lab = DataverseProbe(self.settings, self.clock, map, random=lambda: 0.0)
        app.journal.clear()

    def switch(self, **values: Any) -> None:
        switch(self.state, values)

    def asked(self, *, write: bool = True) -> Generator[Finding, None, None]:
        return probe_dynamics(replace(self.stage.world, clock=self.clock), self.lab, write=write)

    @property
    def noted(self) -> list[tuple[str, str]]:
        return left_behind(self.stage.world, self.state.organization_id)

    def answers(self, *, write: bool = True) -> dict[str, str]:
        return {each.question: each.answer for each in self.asked(write=write)}

    def reasons(self, *, write: bool = True) -> dict[str, str]:
        return {each.question: each.why for each in self.asked(write=write) if not each.answer}

    def dump(self) -> dict[str, Any]:
        return {name: self.state.rows(name) for name in self.state.stores}

    def calls(self, *methods: str) -> list[dict[str, Any]]:
        """What the Web API was asked."""
        api = [each for each in self.app.journal.since(0) if each["path"].startswith("/api/")]
        return [each for each in api if not methods or each["method"] in methods]

    def intercept(self, method: str, path: str, status: int, *, times: int = 1) -> None:
        """The next *times* requests of this kind get this answer instead."""
        left = [times]

        def instead(request: Request) -> Response | None:
            if request.method != method or not re.search(path, request.path) or not left[0]:
                return None
            left[0] -= 1
            return Response('{"error": {"code": "0x80040265", "message": "Robin Vendor"}}', status)

        self.app.interceptors.append(instead)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with dataverse_served(tmp_path_factory.mktemp("tls")) as served:
        yield served


@pytest.fixture
def org(service: Served, monkeypatch: pytest.MonkeyPatch) -> Org:
    app, url, authority = service
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    return Org(app, url)


# --- what it finds out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_each_setting_is_found_out(org: Org, name: str, value: Any) -> None:
    org.switch(**{name: value})

    assert org.answers() == USUAL | CHANGED.get((name, value), {})


def test_every_setting_that_changes_an_answer_exists() -> None:
    assert CHANGED.keys() <= set(SETTINGS)


@pytest.mark.parametrize(("table", "answer"), [("connection", "off: connection"), ("team", "off: team")])
def test_a_table_without_tracking_is_named_with_what_can_be_done(org: Org, table: str, answer: str) -> None:
    columns(org.state, {"table": table, "tracked": False})
    found = {each.question: each for each in org.asked(write=False)}

    assert (found["D7"].answer, found["D7"].why) == (answer, f"{table} can be switched on")


def test_without_tracking_of_a_table_its_experiments_are_not_answered(org: Org) -> None:
    before = org.dump()
    columns(org.state, {"table": "connection", "tracked": False})

    reasons = org.reasons()

    assert reasons["D9"] == reasons["D10"] == "connection has no change tracking"
    assert {"D5", "D6", "D11"}.isdisjoint(reasons)
    assert org.dump() == before


def test_how_long_links_live_is_read_from_the_organization(org: Org) -> None:
    org.state.write("organization", org.state.rows("organization")[0], expirechangetrackingindays=30)

    assert org.answers(write=False)["D8"] == "30"


def test_a_customer_that_is_not_where_it_should_be_is_seen(org: Org) -> None:
    row = org.state.rows("opportunity")[0]
    org.state.write("opportunity", row, _accountid_value=None, _contactid_value=None)
    found = {each.question: each for each in org.asked(write=False)}

    assert (found["D11"].answer, found["D11"].why) == ("inconsistent", "10 of 11 opportunities")


def test_an_organization_without_rows_answers_by_what_is_made_for_it(org: Org) -> None:
    org.state = org.app.state = DataverseState(start=START)
    org.switch(write_privileges=RIGHTS)
    before = org.dump()

    assert org.reasons(write=False)["D11"] == "no opportunity has a customer"
    assert org.answers() == USUAL
    assert org.dump() == before


def test_more_rows_than_a_page_are_read_to_the_end(org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_core.flows.probe_dynamics.PAGE", 40)
    loading.load(org.state, generate.rows(seed=2, opportunities=60))

    assert org.answers() == USUAL


def test_a_table_that_is_too_large_is_left_alone(org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_core.flows.probe_dynamics.PAGE", 20)
    loading.load(org.state, generate.rows(seed=2, opportunities=100))
    before = org.dump()

    reasons = org.reasons()

    assert reasons["D10"] == "connection has more than 120 rows, too many for an experiment"
    assert reasons["D9"] == reasons["D10"]
    assert org.dump() == before


def test_no_message_of_the_service_is_repeated(org: Org) -> None:
    """It may name people; see `intercept`."""
    org.intercept("GET", "organizations", 400, times=9)
    org.intercept("POST", "opportunities", 400)
    reasons = org.reasons()

    assert reasons["D8"] == "asked for organizations, Dynamics answered 400 0x80040265"
    assert reasons["D9"] == reasons["D10"] == "Dynamics refuses a new opportunity: 400 0x80040265"
    assert "Robin" not in str(reasons)


# --- what it leaves alone -------------------------------------------------------------------------------------


def test_every_question_is_asked_and_told_once(org: Org) -> None:
    for write in (True, False):
        found = list(org.asked(write=write))

        assert sorted(each.question for each in found) == sorted(ASKS)
        assert all(each.asks == ASKS[each.question] and "\n" not in each.asks + each.why for each in found)
        assert all(each.answer or each.why for each in found)


def test_nothing_is_left_of_it_and_it_costs_little(org: Org) -> None:
    before = org.dump()

    org.answers()

    assert org.dump() == before
    assert len(org.calls()) < FEW_CALLS
    assert not org.noted


def test_without_consent_nothing_is_written(org: Org) -> None:
    reasons = org.reasons(write=False)

    assert {name for name, why in reasons.items() if why == ONLY_WRITING} == set(WITH_RECORDS)
    assert org.calls() == org.calls("GET")
    assert not org.noted


def test_a_role_that_may_only_read_gets_everything_else_answered(org: Org) -> None:
    """As the documentation tells customers to set it up."""
    org.switch(write_privileges=())
    before = org.dump()

    assert org.reasons() == {**dict.fromkeys(WITH_RECORDS, MAY_NOT_WRITE), "D12": NOT_HARMLESS}
    assert org.dump() == before


@pytest.mark.parametrize("right", [each for each in RIGHTS if not each.startswith("prvDelete")])
def test_each_right_is_needed_and_its_lack_leaves_nothing_behind(org: Org, right: str) -> None:
    org.switch(write_privileges=tuple(each for each in RIGHTS if each != right))
    before = org.dump()

    needed = right not in {"prvWriteOpportunity", "prvWriteConnection", "prvAppendToConnection"}
    assert (MAY_NOT_WRITE in org.reasons().values()) == needed
    assert org.dump() == before


def test_what_may_not_be_deleted_is_named(org: Org) -> None:
    before = org.dump()
    org.switch(write_privileges=tuple(each for each in RIGHTS if not each.startswith("prvDelete")))

    with pytest.raises(Unavailable, match=r"could not be removed: contact .*, contact .*, opportunity .*, connection "):
        org.answers()

    assert [table for table, _ in org.noted] == ["contact", "contact", "opportunity", "connection"]
    org.switch(write_privileges=RIGHTS)
    assert org.answers() == USUAL
    assert org.dump() == before
    assert not org.noted


@pytest.mark.parametrize(
    ("privileges", "question", "why"),
    [
        ({"organization": "none"}, "D8", "our user may not read organizations (403 0x80040220)"),
        ({"opportunity": "none"}, "D11", "our user may not read opportunities (403 0x80040220)"),
        ({"connection": "business_unit"}, "D10", "our user may not read connections (403 0x80040220)"),
    ],
)
def test_what_may_not_be_read_is_said(org: Org, privileges: dict[str, str], question: str, why: str) -> None:
    org.switch(privileges=privileges)
    before = org.dump()

    assert org.reasons()[question] == why
    assert org.dump() == before


@pytest.mark.parametrize("user", ["disabled", "missing", "no_role"])
def test_a_user_who_may_do_nothing_gets_no_answer_and_no_crash(org: Org, user: str) -> None:
    org.switch(application_user=user)

    answers = org.answers()
    assert set(answers) == set(ASKS)
    assert {name for name, answer in answers.items() if answer} <= {"D7"}  # metadata are open to everybody


@pytest.mark.parametrize("after", range(10, 45, 5))
def test_after_an_outage_everything_is_removed(org: Org, after: int) -> None:
    """The service is away for four attempts, which is longer than one request is tried."""
    before = org.dump()
    org.app.faults.set({"seed": 1, "rules": [{"fault": "503", "after": after, "times": 4, "retry_after": 1}]})

    found = list(org.asked())

    assert len(found) == len(ASKS)
    assert org.dump() == before


@pytest.mark.parametrize("fault", ["reset", "reset_mid_body", "html", "empty", "429"])
def test_trouble_that_passes_changes_no_answer(org: Org, fault: str) -> None:
    before = org.dump()
    org.app.faults.set({"seed": 3, "rules": [{"fault": fault, "rate": 0.2, "times": 8, "on": {"path": "/api/"}}]})

    assert org.answers() == USUAL
    assert org.dump() == before


@pytest.mark.parametrize("questions", range(8, 13))
def test_who_stops_asking_leaves_nothing(org: Org, questions: int) -> None:
    before = org.dump()
    found = org.asked()
    for _ in range(questions):
        next(found)

    found.close()

    assert org.dump() == before


def test_a_record_is_noted_before_it_is_made(org: Org) -> None:
    def seen(request: Request) -> None:
        if request.method == "POST" and "Merge" not in request.path:
            assert any(row_id in request.get_data(as_text=True) for _, row_id in org.noted)

    org.app.interceptors.append(seen)

    assert org.answers() == USUAL


def test_no_record_but_those_made_for_it_is_ever_named_in_a_change(org: Org) -> None:
    theirs = {row[store.table.key] for store in org.state.stores.values() for row in org.state.rows(store.table.name)}

    def seen(request: Request) -> None:
        if request.method != "GET":
            assert not [row_id for row_id in theirs if row_id in request.get_data(as_text=True) + request.path]

    org.app.interceptors.append(seen)

    assert org.answers() == USUAL


def test_what_a_killed_run_left_is_removed_by_the_next(org: Org) -> None:
    """Killed: neither removing nor the note that all is removed happened."""
    before = org.dump()
    killed = org.asked()
    for _ in range(10):
        next(killed)
    earlier = org.noted
    assert len([row for row in org.state.rows("contact") if row["lastname"].startswith(PREFIX)]) == 2

    assert org.answers() == USUAL

    assert org.dump() == before
    assert len(earlier) == 4
    assert not org.noted
    killed.close()


def test_a_link_to_another_host_is_not_followed(org: Org) -> None:
    def elsewhere(request: Request) -> Response | None:
        if "transactioncurrencies" not in request.path:
            return None
        return Response('{"value": [], "@odata.nextLink": "https://elsewhere.invalid/api/data/v9.2/x"}', 200)

    org.app.interceptors.append(elsewhere)
    with pytest.raises(ConfigurationError, match=r"elsewhere\.invalid"):
        org.answers()


def empty_delta(org: Org, table: str, times: int) -> None:
    """The next *times* deltas of *table* list nothing, and lead back to where they began."""
    left = [times]

    def instead(request: Request) -> Response | None:
        if not request.path.endswith(table) or "$deltatoken" not in request.args or not left[0]:
            return None
        left[0] -= 1
        return Response(json.dumps({"value": [], "@odata.deltaLink": request.url}), 200)

    org.app.interceptors.append(instead)


@pytest.mark.parametrize(
    ("table", "silent"),
    [("contacts", {"D5", "D6"}), ("connections", {"D9", "D10"}), ("opportunities", {"D10"})],
)
def test_a_delta_that_lacks_what_it_must_list_says_nothing(org: Org, table: str, silent: set[str]) -> None:
    empty_delta(org, table, 99)
    before = org.dump()

    assert org.reasons().keys() == silent | {"D12"}
    assert org.dump() == before


@pytest.mark.parametrize("table", ["connection", "opportunity"])
def test_what_a_merge_does_not_show_is_told(org: Org, table: str) -> None:
    empty_delta(org, "connections" if table == "connection" else "opportunities", 1)
    expected = USUAL["D10"].replace(f"{table} listed", f"{table} not listed")

    assert org.answers() == USUAL | {"D10": expected}


def test_a_row_that_changed_and_was_read_twice_is_told(org: Org) -> None:
    """As where pages are in the order of changes."""
    org.switch(token_position="end")

    def with_all(request: Request) -> Response | None:
        if "$skiptoken" not in request.args or request.headers["Prefer"].endswith("=9999"):
            return None
        page = org.lab.ask("GET", request.url, prefer="odata.maxpagesize=9999").body
        rows = [{"contactid": row["contactid"]} for row in org.state.rows("contact")]
        return Response(json.dumps({**page, "value": rows}), 200)

    org.app.interceptors.append(with_all)

    assert org.answers()["D5"] == "end, and read twice"


def test_who_may_no_longer_delete_is_told_of_nothing_that_is_not_there(org: Org) -> None:
    org.stage.world.documents.write(MADE, org.state.organization_id, {"made": [["contact", str(uuid4())]]}, None)
    org.switch(write_privileges=())

    assert MAY_NOT_WRITE in org.reasons().values()
    assert not org.noted
