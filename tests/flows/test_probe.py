"""`probe` on the emulated subscription: every switch that is an open question, in each of its settings, is found out.

The settings come from the emulator's own definitions, as in test_switches.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests

from sync_core.errors import ConfigurationError, QuotaExhausted, Unavailable
from sync_core.flows import actions, probe, probe_marketo
from sync_core.flows.plan import plan
from sync_core.flows.probe import ANSWERS, MADE, Finding, answers, check_dynamics
from sync_core.flows.probe_marketo import DOMAIN, MOST_CALLS, PREFIX
from sync_core.flows.status import status
from sync_core.report import found_out
from sync_core.rules.questions import QUESTIONS
from tests.flows.org import Org
from tests.flows.test_switches import known_switches
from tests.stage import Stage
from tools.emulators.marketo.activities import ADDED, NEW_PERSON, UPDATED

SANDBOX = "123-EMU-456"
CLIENT = "33333333-3333-4333-8333-333333333333"
TABLES = ("opportunities", "roles", "companies", "salespersons", "leads")

NOTHING: dict[str, list[Any]] = {name: [] for name in TABLES}

SWITCHES = {
    "role_unknown_lead": "U1",
    "role_unknown_opportunity": "U2",
    "unknown_company": "U3",
    "unknown_sales_person": "U4",
    "too_long": "U5",
    "too_many_records": "U6a",
    "too_many_filter_values": "U6b",
    "duplicate_keys": "U7",
    "roles_of_merged_lead": "U8",
    "role_merged_lead": "U9",
    "absent_name": "U10",
    "unknown_field": "U11",
    "type_mismatch": "U12",
    "large_batch_size": "U13",
    "empty_input": "U14",
    "refused_calls_count": "U15",
    "null_company": "U16",
    "noop_logs_update": "U17",
    "recreation_logs_added": "U18",
}
"""The questions of marketo.md §6.1 by the emulator's switches."""

IN_WORDS = {"clamped": "accepted", True: "yes", False: "no"}
"""What an answer is called where it isn't the setting's own name. Whether 301 were cut to 300 no answer shows."""


def settings() -> Iterator[tuple[str, Any]]:
    for (service, name), (_, values) in known_switches().items():
        if service == "marketo" and name in SWITCHES:
            yield from ((name, value) for value in values)


def dump(stage: Stage) -> dict[str, Any]:
    return {name: stage.marketo.rows(name) for name in TABLES}


def calls(stage: Stage) -> list[dict[str, Any]]:
    return [call for call in stage.marketo.journal.since(0) if call["kind"] != "identity"]


def probed(stage: Stage, *besides: Finding, **more: Any) -> dict[str, Any]:
    return dict(actions.probe(stage.world, stage.world.target, SANDBOX, besides, who="a test", **more).values)


def answered(found: dict[str, Any]) -> dict[str, str]:
    return {each["question"]: each["answer"] for each in found["findings"]}


def why(found: dict[str, Any], question: str) -> str:
    return next(str(each["why"]) for each in found["findings"] if each["question"] == question)


def others(stage: Stage) -> None:
    """What the subscription held before, some of it looking as the probe's."""
    lead = stage.people("ann@customer.invalid", f"{PREFIX}mine@customer.invalid")[0]
    stage.marketo.load(
        {
            "companies": [{"externalCompanyId": f"{PREFIX}company"}],
            "opportunities": [{"externalOpportunityId": f"{PREFIX}same", "name": "A deal"}],
            "roles": [{"externalOpportunityId": f"{PREFIX}same", "leadId": lead, "role": PREFIX}],
        }
    )


DEFAULTS = {
    SWITCHES[name]: IN_WORDS.get(default, default)
    for (service, name), (default, _) in known_switches().items()
    if service == "marketo" and name in SWITCHES
}


def test_every_open_question_has_its_switch_and_every_switch_its_question() -> None:
    assert sorted(SWITCHES.values()) == sorted(QUESTIONS)
    marketo = [name for service, name in known_switches() if service == "marketo"]
    assert marketo[: len(SWITCHES)] == list(SWITCHES)


@pytest.mark.parametrize(("name", "value"), list(settings()), ids=lambda each: str(each))
def test_each_setting_is_found_out_and_nothing_is_left(name: str, value: Any) -> None:
    stage = Stage()
    others(stage)
    stage.marketo.switches.set({name: value})
    before, started = dump(stage), stage.clock.now()

    found = probed(stage, burst=True)

    assert answered(found) == DEFAULTS | {SWITCHES[name]: IN_WORDS.get(value, value)}
    assert dump(stage) == before
    assert found["left"] == []
    assert len(calls(stage)) == found["Marketo calls"] < 200
    assert stage.clock.now() - started < timedelta(minutes=5)
    assert answers(stage.world) == answered(found)
    assert stage.world.documents.list(MADE) == []
    assert all(each["means"] for each in found["findings"])


@pytest.mark.parametrize(
    "settings",
    [
        {"visible_after": 30.0},
        {"result_order": "shuffled", "lead_trailing_page": True},
        {"roles_of_deleted_lead": "orphaned", "roles_of_merged_lead": "orphaned"},
        {"role_unknown_lead": "accepted", "role_unknown_opportunity": "accepted", "unknown_company": "accepted"},
        {"role_unknown_lead": "accepted", "role_merged_lead": "winner", "visible_after": 10.0},
        {"unknown_field": "request", "empty_input": "accepted", "too_many_records": "accepted"},
        {"token_lifetime": 40},
    ],
    ids=str,
)
def test_what_else_a_subscription_does_spoils_no_answer(settings: dict[str, Any]) -> None:
    stage = Stage()
    others(stage)
    stage.marketo.switches.set(settings)
    before = dump(stage)

    found = probed(stage)

    told = {SWITCHES[name]: IN_WORDS.get(value, value) for name, value in settings.items() if name in SWITCHES}
    assert answered(found) == DEFAULTS | told | {"U15": ""}
    assert (dump(stage), found["left"]) == (before, [])
    assert len(calls(stage)) < 120


def test_what_queries_do_not_show_for_minutes_is_removed_all_the_same() -> None:
    stage = Stage()
    others(stage)
    stage.marketo.switches.set({"visible_after": 900.0, "roles_of_deleted_lead": "orphaned"})
    before, started = dump(stage), stage.clock.now()

    found = probed(stage)

    assert "Marketo's queries don't show" in why(found, "U16")
    assert (dump(stage), found["left"]) == (before, [])
    assert stage.clock.now() - started < timedelta(minutes=5)


def test_all_that_it_makes_bears_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    stage.marketo.switches.set(dict.fromkeys(("role_unknown_opportunity", "unknown_company"), "accepted"))
    monkeypatch.setattr(probe_marketo.Experiments, "clean", lambda _: [])

    probed(stage)

    made = dump(stage)
    assert {name: len(rows) > 0 for name, rows in made.items()} == dict.fromkeys(TABLES, True) | {"salespersons": False}
    assert all(row["externalOpportunityId"].startswith(PREFIX) for row in made["opportunities"] + made["roles"])
    assert all(row["externalCompanyId"].startswith(PREFIX) for row in made["companies"])
    assert all(re.fullmatch(rf"{PREFIX}\w+-\w+@{re.escape(DOMAIN)}", row["email"]) for row in made["leads"])


# --- confirmation -----------------------------------------------------------------------------------------------


def refused(stage: Stage, typed: str = SANDBOX) -> str:
    """Why it refused; nothing was sent, noted or kept."""
    before = stage.marketo.journal.since(0)
    kept = [stage.world.documents.list(kind) for kind in (MADE, "stamp", "action")]
    with pytest.raises(ConfigurationError) as error:
        actions.probe(stage.world, stage.world.target, typed, who="a test")
    assert stage.marketo.journal.since(0) == before
    assert [stage.world.documents.list(kind) for kind in (MADE, "stamp", "action")] == kept
    return str(error.value)


@pytest.mark.parametrize("typed", ["999-XYZ-999", "", "123-EMU-45", "123-EMU-4567"])
def test_another_id_than_that_of_the_settings_confirms_nothing(typed: str) -> None:
    assert "leads to subscription 123-EMU-456, --sandbox names another" in refused(Stage(), typed)


def test_the_id_may_be_typed_in_small_letters() -> None:
    assert answers(Stage().world) == {}
    actions.probe((stage := Stage()).world, stage.world.target, " 123-emu-456 ", who="a test")


def test_where_the_sync_writes_nobody_experiments() -> None:
    stage = Stage()
    Org(stage)
    stage.sync()

    assert "this state belongs to a sync that writes to 123-EMU-456" in refused(stage)


def test_nor_where_it_is_about_to_begin() -> None:
    stage = Stage()
    Org(stage)
    stage.tick()  # nothing is delivered yet

    assert "this state belongs to a sync that writes to 123-EMU-456" in refused(stage)


def test_nobody_writes_to_the_dynamics_that_the_state_follows() -> None:
    stage = Stage()
    Org(stage)
    check_dynamics(stage.world)
    stage.tick()

    with pytest.raises(ConfigurationError, match="follows the Dynamics of DATAVERSE_URL"):
        check_dynamics(stage.world)


def test_a_sandbox_beside_the_subscription_of_the_state_is_fine() -> None:
    stage = Stage()
    Org(stage)
    stage.sync()
    pair = stage.world.documents.read("stamp", "pair")
    assert pair is not None
    stage.world.documents.write("stamp", "pair", {**pair.value, "munchkin": "777-LIV-777"}, pair.ticket)

    assert answered(probed(stage)) == DEFAULTS | {"U15": ""}


# --- what is left -----------------------------------------------------------------------------------------------


def test_what_is_going_to_be_made_is_noted_before() -> None:
    stage = Stage()
    noted: list[tuple[str, bool]] = []

    def look(request: requests.PreparedRequest) -> None:
        kind = str(request.path_url).removeprefix("/rest/v1/").removesuffix(".json")
        if kind in ("opportunities", "opportunities/roles", "companies", "leads"):
            noted.append((kind, any(kind in made["kinds"] for _, made in stage.world.documents.list(MADE))))

    stage.marketo_wire.fault = look
    probed(stage)

    assert {kind for kind, _ in noted} == {"opportunities", "opportunities/roles", "companies", "leads"}
    assert all(there for _, there in noted)


class Stop(Exception):
    """Nothing that anybody expects."""


def after(
    number: int, raised: type[BaseException], *, for_good: bool = False
) -> Callable[[requests.PreparedRequest], None]:
    """Breaks off behind that many calls that were answered; *for_good*: and behind every one that follows."""
    left = [number]

    def fault(request: requests.PreparedRequest) -> None:
        left[0] -= "/rest/" in str(request.path_url)
        if left[0] == 0 or (for_good and left[0] < 0):
            raise raised

    return fault


@pytest.mark.parametrize("raised", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("number", [2, 8, 20, 30, 34])
def test_an_error_or_ctrl_c_in_the_middle_leaves_nothing(number: int, raised: type[BaseException]) -> None:
    stage = Stage()
    others(stage)
    before = dump(stage)
    stage.marketo_wire.after = after(number, raised)

    with pytest.raises(raised):
        probed(stage)

    assert dump(stage) == before
    assert stage.world.documents.list(MADE) == []
    assert answers(stage.world) == {}


@pytest.mark.parametrize("number", [1, 2, 8, 20, 30, 34, 38, 44])
def test_what_a_killed_run_left_the_next_one_removes(number: int) -> None:
    """Killed at once: with every call after it failing as well, so that it can't clean up."""
    stage = Stage()
    others(stage)
    before = dump(stage)
    stage.marketo_wire.after = after(number, Stop, for_good=True)
    with pytest.raises(Stop):
        probed(stage)
    stage.marketo_wire.after = None

    if dump(stage) != before:
        assert "has not ended" in refused(stage)  # it may be under way
    stage.clock.sleep(600)
    assert answered(probed(stage)) == DEFAULTS | {"U15": ""}

    assert dump(stage) == before
    assert stage.world.documents.list(MADE) == []


def test_what_a_run_left_in_another_subscription_is_told_and_kept() -> None:
    stage = Stage()
    made = {"at": "2026-03-01T08:00:00+00:00", "munchkin": "777-OLD-777", "kinds": ["leads"]}
    stage.world.documents.write(MADE, "0a0a0a0a", made, None)

    found = probed(stage)

    assert found["left"] == [f"in subscription 777-OLD-777, named {PREFIX}0a0a0a0a-…: let MARKETO_URL lead there"]
    assert stage.world.documents.list(MADE) == [("0a0a0a0a", made)]


# --- what the API user may not do -------------------------------------------------------------------------------

ALL = ["Read-Write Opportunity", "Read-Write Company", "Read-Write Lead", "Read-Only Activity"]


@pytest.mark.parametrize(
    ("lacks", "open_"),
    [
        ("Read-Write Company", {"U4", "U16"}),
        ("Read-Write Lead", {"U2", "U8", "U9", "U17", "U18"}),
        ("Read-Only Activity", {"U17", "U18"}),
        ("Read-Write Opportunity", set(DEFAULTS) - {"U4", "U15"}),
    ],
)
def test_without_a_permission_its_questions_stay_open(lacks: str, open_: set[str]) -> None:
    stage = Stage()
    stage.marketo.switches.set({"permissions": {CLIENT: [each for each in ALL if each != lacks]}})

    found = probed(stage)

    assert {question for question, answer in answered(found).items() if not answer} == open_ | {"U15"}
    assert all(why(found, question) == f"the API user's role lacks {lacks}" for question in open_)
    assert set(probe.open_questions(found["findings"])) == open_
    assert (dump(stage), found["left"]) == (NOTHING, [])


def test_what_may_not_be_removed_is_named_and_removed_once_it_may() -> None:
    stage = Stage()

    def revoke(request: requests.PreparedRequest) -> None:
        if str(request.path_url).startswith("/rest/v1/activities.json"):
            stage.marketo.switches.set({"permissions": {CLIENT: [each for each in ALL if each != "Read-Write Lead"]}})

    stage.marketo_wire.fault = revoke
    found = probed(stage)
    ((run, _),) = stage.world.documents.list(MADE)

    assert found["left"] == [f"people named {PREFIX}{run}-…: the API user's role lacks Read-Write Lead"]
    assert {name for name, rows in dump(stage).items() if rows} == {"leads"}
    assert f"people named {PREFIX}{run}-…" in " ".join(found_out(found).split())

    stage.marketo_wire.fault = None
    stage.marketo.switches.set({"permissions": {}})
    assert probed(stage)["left"] == []
    assert dump(stage) == NOTHING


def test_a_subscription_that_is_linked_to_a_crm_answers_nothing_and_breaks_nothing() -> None:
    stage = Stage()
    stage.marketo.switches.set({"native_crm_sync": True})

    found = probed(stage)

    assert "linked to a CRM" in why(found, "U3")
    assert (dump(stage)["leads"], dump(stage)["opportunities"]) == ([], [])


# --- trouble ----------------------------------------------------------------------------------------------------


def test_answers_that_are_lost_on_the_way_change_no_finding_and_are_looked_after() -> None:
    stage = Stage()
    numbers = iter(range(10_000))

    def lose(request: requests.PreparedRequest) -> None:
        if "/rest/" in str(request.path_url) and next(numbers) % 7 == 3:
            raise requests.ConnectionError("lost", request=request)

    stage.marketo_wire.after = lose
    found = probed(stage)

    assert dump(stage) == NOTHING
    assert "may still be carried out" in str(found["left"])
    stage.marketo_wire.after = None
    assert probed(stage)["left"] == []
    assert stage.world.documents.list(MADE) == []
    assert {k: v for k, v in answered(found).items() if v} == {k: v for k, v in DEFAULTS.items() if answered(found)[k]}
    assert len(probe.open_questions(found["findings"])) <= 2, found["findings"]


def test_a_marketo_that_answers_nothing_ends_in_time_and_is_told() -> None:
    stage = Stage()
    stage.people("x@customer.invalid")

    def quota(*_: Any, **__: Any) -> Any:
        raise QuotaExhausted("our calls of today are used up")

    stage.world.target.sign_in()
    started = stage.clock.now()
    stage.limiter.call = quota  # type: ignore[method-assign]
    found = probed(stage)

    assert set(answered(found).values()) == {""}
    assert all("used up" in each["why"] or each["question"] == "U15" for each in found["findings"])
    assert stage.clock.now() - started < timedelta(minutes=5)


def test_slow_answers_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    stage.marketo_wire.after = lambda _: stage.clock.sleep(9.0)

    started = stage.clock.now()
    found = probed(stage)

    assert "no time was left" in str(found["findings"])
    assert stage.clock.now() - started < timedelta(minutes=8)
    assert dump(stage) == NOTHING


def test_somebody_else_who_calls_meanwhile_leaves_the_count_open() -> None:
    stage = Stage()
    user = stage.marketo.identity.clients[CLIENT].user

    def others_call(request: requests.PreparedRequest) -> None:
        if "stats/usage" in str(request.path_url):
            stage.marketo.usage.calls[stage.marketo.usage.today()][user] += 3

    stage.marketo_wire.after = others_call

    assert "somebody else called meanwhile" in why(probed(stage, burst=True), "U15")


# --- what is kept, and where it matters ---------------------------------------------------------------------------


def test_a_later_run_keeps_the_answers_that_it_did_not_ask_for() -> None:
    stage = Stage()
    probed(stage, burst=True)
    probed(stage, Finding("D9", "a question of Dynamics", "yes"))

    assert answers(stage.world) == DEFAULTS | {"D9": "yes"}
    assert status(stage.world)["probe"]["answered"] == len(DEFAULTS) + 1


def test_answers_of_another_subscription_are_replaced() -> None:
    stage = Stage()
    value = {"at": "2026-03-01T08:00:00+00:00", "munchkin": "777-OLD-777", "answers": {"U15": "yes"}}
    stage.world.documents.write(*ANSWERS, value, None)

    probed(stage)

    assert "U15" not in answers(stage.world)


def test_what_was_asked_of_others_has_removed_its_records_before_an_error_is_heard() -> None:
    stage, removed = Stage(), list[str]()

    def dynamics() -> Iterator[Finding]:
        try:
            yield Finding("D9", "a question of Dynamics", "yes")
        finally:
            removed.append("all")

    def stop(question: str) -> None:
        if question == "D9":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        actions.probe(stage.world, stage.world.target, SANDBOX, dynamics(), who="a test", progress=stop)
    assert (removed, raised.type) == (["all"], KeyboardInterrupt)


def test_trouble_of_dynamics_loses_no_answer_of_marketo() -> None:
    def dynamics() -> Iterator[Finding]:
        yield Finding("D7", "a question of Dynamics", "all on")
        raise Unavailable("contact 1 could not be removed")

    stage = Stage()
    found = dict(actions.probe(stage.world, stage.world.target, SANDBOX, dynamics(), who="a test").values)

    assert found["ended early"] == "contact 1 could not be removed"
    assert answered(found) == DEFAULTS | {"U15": "", "D7": "all on"}
    assert [each["question"] for each in found["findings"]] == [*QUESTIONS, "D7"]


def test_the_audit_log_says_that_it_was_run() -> None:
    stage = Stage()
    probed(stage)

    (entry,) = status(stage.world)["actions"]
    assert entry["what"] == "probe of 123-EMU-456: answered 18 of 19 questions"


def test_nothing_of_a_person_is_kept_or_shown() -> None:
    stage = Stage()
    found = probed(stage)

    text = json.dumps([found, [stage.world.documents.list(kind) for kind in ("stamp", "action", MADE)]])
    assert "@" not in text


class Posted:
    """An opportunity with a stakeholder, posted; what a plan of it says that Marketo will log."""

    def __init__(self, **known: str) -> None:
        self.stage = Stage()
        self.org = Org(self.stage)
        self.org.stakeholder(self.org.ann)
        self.stage.sync()
        if known:
            value = {"at": "2026-03-01T08:00:00+00:00", "munchkin": "777-BOX-777", "answers": known}
            self.stage.world.documents.write(*ANSWERS, value, None)

    def logged(self) -> list[str]:
        actions.resync(self.stage.world, [self.org.deal], who="a test")
        return list(plan(self.stage.world)["Marketo will log"])


def told(lines: list[str]) -> list[str]:
    return [line for line in lines if "Opportunity Updated" in line]


def test_what_is_posted_again_unchanged_is_foretold_as_marketo_logs_it() -> None:
    unknown = told(Posted().logged())

    assert unknown == ["perhaps Opportunity Updated for 1 opportunity without a difference: `probe` finds that out"]
    assert told(Posted(U17="no").logged()) == []
    assert told(Posted(U17="yes").logged()) == ["1 person Opportunity Updated"]


def test_marketo_logs_what_the_plan_foretold_with_that_answer() -> None:
    posted = Posted(U17="yes")
    posted.stage.marketo.switches.set({"noop_logs_update": True})
    before = len(posted.stage.marketo.database.activities.entries)

    assert told(posted.logged()) == ["1 person Opportunity Updated"]
    posted.stage.sync()

    new = list(posted.stage.marketo.database.activities.since(before, {NEW_PERSON, ADDED, UPDATED}))
    assert [each.type for each in new] == [UPDATED]


@pytest.mark.parametrize(("known", "differs"), [({}, True), ({"U16": "cleared"}, True), ({"U16": "unchanged"}, False)])
def test_a_company_that_null_leaves_is_no_difference(known: dict[str, str], differs: bool) -> None:
    posted = Posted(**known)
    posted.org.update("opportunity", posted.org.deal, _parentaccountid_value=None, _customerid_value=None)

    found = plan(posted.stage.world)

    fields = {name for each in found["first differences"] for name in each.get("fields", {})}
    assert ("externalCompanyId" in fields) is differs


def test_the_calls_of_a_run_fit_its_own_limit() -> None:
    assert MOST_CALLS < 200
