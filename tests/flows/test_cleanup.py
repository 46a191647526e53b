"""Before an uninstall: what this system wrote leaves Marketo, and nothing else does, wherever it is interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import requests

from sync_core import cli
from sync_core.engine import Engine
from sync_core.errors import ConfigurationError, QuotaExhausted, RetryLater
from sync_core.flows import actions, cleanup
from sync_core.flows.cleanup import CLOCKS, NAMED, OTHERS, TIED, UNASKED
from sync_core.flows.guard import BEGAN, PAUSE
from sync_core.flows.status import status
from sync_core.model import Answer, Answers, Lane, LedgerRow, MarketoObject, State, Work
from sync_core.rules.origin import AFTER, BEFORE, OTHERS_ROLES, cleaned
from tests.flows.org import Org, lookup
from tests.stage import CONFIG, Stage, changed

OURS = "123-EMU-456"
NOBODY = "00000000-0000-4000-8000-000000000000"
KINDS = ("leads", "companies", "salespersons", "opportunities", "roles")


def dump(stage: Stage) -> dict[str, list[Mapping[str, Any]]]:
    """All that the emulated Marketo holds."""
    return {kind: sorted(stage.marketo.rows(kind), key=json.dumps) for kind in KINDS}


def quiet(_text: str) -> None: ...


def survey(stage: Stage) -> dict[str, Any]:
    return cleanup.survey(stage.world, since=None, progress=quiet)


def remove(stage: Stage, engine: Engine | None = None) -> dict[str, Any]:
    return cleanup.remove((engine or stage.engine).world, OURS, since=None, progress=quiet)


def later(stage: Stage) -> None:
    """What others made is older than our first write by more than clocks may differ."""
    stage.clock.sleep((2 * CLOCKS).total_seconds())


@pytest.fixture
def org(stage: Stage) -> Org:
    """Two deals with four roles of ours, after others had put something into Marketo."""
    org = Org(stage)
    stage.marketo.load(
        {
            "companies": [{"externalCompanyId": "theirs", "company": "Theirs"}],
            "salespersons": [{"externalSalesPersonId": "theirs", "email": "sales@theirs.invalid"}],
            "opportunities": [{"externalOpportunityId": "theirs", "name": "Theirs", "externalCompanyId": "theirs"}],
            "roles": [{"externalOpportunityId": "theirs", "leadId": org.lead_ann, "role": "Decision Maker"}],
        }
    )
    later(stage)
    org.stakeholder(org.ann)
    org.stakeholder(org.bob, "Influencer")
    second = org.opportunity("Second", contact=org.cid)
    org.stakeholder(org.ann, opportunity=second)
    return org


# --- all of ours, and only that -------------------------------------------------------------------------------


def test_marketo_is_as_it_was_before_the_first_load(stage: Stage, org: Org) -> None:
    before = dump(stage)
    stage.sync()
    assert dump(stage) != before

    done = remove(stage)

    assert dump(stage) == before
    assert done["removed"] == {"roles": 4, "opportunities": 2, "companies": 2, "sales persons": 0}
    assert done["finished"]
    assert done["stays"].keys() == {"people"}


def test_the_plan_says_what_is_then_done_and_changes_nothing(stage: Stage, org: Org) -> None:
    stage.sync()
    held, writes, documents = dump(stage), stage.writes(), stage.world.documents.list("stamp")

    told = survey(stage)

    assert (dump(stage), stage.writes(), stage.world.documents.list("stamp")) == (held, writes, documents)
    assert told["Marketo will log"][0] == "4 people Removed from Opportunity"
    assert told["to do it"] == f"python -m sync_core cleanup --confirm {OURS}"
    assert told["would be removed"] == remove(stage)["removed"]


def test_roles_go_before_their_opportunities(stage: Stage, org: Org) -> None:
    stage.sync()
    began = stage.writes()

    remove(stage)

    calls = [call["path"] for call in stage.marketo.journal.since(0) if call["kind"] == "write"][began:]
    assert [path.split("/v1/")[1] for path in calls] == [
        "opportunities/roles/delete.json",
        "opportunities/delete.json",
        "companies/delete.json",
    ]


def test_sales_persons_go_unless_somebody_uses_them(stage: Stage, org: Org) -> None:
    stage.adopt(changed({"salesperson = false": "salesperson = true"}))
    users = []
    for name in ("Tim", "Tess"):
        row = {"internalemailaddress": f"{name}@crm.invalid", "lastname": name}
        users.append(str(stage.edit("create", table="systemuser", values=row)["id"]))
        org.opportunity(f"Of {name}", account=org.acme, **lookup("ownerid", users[-1], "systemuser"))
    stage.sync()
    assert {row["externalSalesPersonId"] for row in stage.marketo.rows("salespersons")} > {"theirs", *users}
    stage.marketo.edit(
        {"op": "update", "object": "leads", "key": {"id": org.lead_cid}, "values": {"externalSalesPersonId": users[0]}}
    )

    done = remove(stage)

    assert {row["externalSalesPersonId"] for row in stage.marketo.rows("salespersons")} == {"theirs", users[0]}
    assert done["stays"]["sales persons"] == {cleanup.IN_USE: 1}
    assert done["removed"]["sales persons"] == 2, "and the owner of all else"
    assert done["finished"]


def test_what_was_under_our_key_before_us_stays_and_loses_our_roles(stage: Stage) -> None:
    org = Org(stage)
    mine, theirs = (
        {"externalOpportunityId": org.deal, "leadId": lead, "role": "Decision Maker"}
        for lead in (org.lead_bob, org.lead_ann)
    )
    stage.marketo.load(
        {
            "companies": [{"externalCompanyId": org.acme, "company": "Old"}],
            "opportunities": [{"externalOpportunityId": org.deal, "name": "Old", "externalCompanyId": org.acme}],
            "roles": [theirs],
        }
    )
    later(stage)
    org.stakeholder(org.ann)
    org.stakeholder(org.bob)
    stage.sync()
    assert stage.roles(org.deal) == {(org.deal, each["leadId"], each["role"]) for each in (mine, theirs)}
    told = survey(stage)

    done = remove(stage)

    assert stage.roles(org.deal) == {(org.deal, theirs["leadId"], theirs["role"])}, "it was there before"
    assert org.deal in stage.opportunities()
    assert done["stays"]["opportunities"] == {BEFORE: 1}
    assert done["stays"]["companies"] == {BEFORE: 1}
    assert told["stays"] == done["stays"]
    assert {each["id"] for each in done["listed"]} == {org.deal, org.acme}


def test_an_opportunity_with_somebody_elses_role_stays_with_its_company(stage: Stage, org: Org) -> None:
    stage.sync()
    theirs = {"externalOpportunityId": org.deal, "leadId": org.lead_cid, "role": "Partner"}
    stage.marketo.load({"roles": [theirs]})
    told = survey(stage)

    done = remove(stage)

    assert stage.roles(org.deal) == {(org.deal, org.lead_cid, "Partner")}
    assert stage.opportunities().keys() == {"theirs", org.deal}
    assert done["stays"]["opportunities"] == {OTHERS_ROLES: 1}
    assert done["stays"]["roles"] == {OTHERS: 1}
    assert done["stays"]["companies"] == {NAMED: 1}
    assert told["stays"] == done["stays"]
    assert told["would be removed"] == done["removed"]


def test_where_all_roles_are_said_to_be_ours_such_an_opportunity_goes(stage: Stage, org: Org) -> None:
    stage.sync()
    before = dump(stage)["roles"]
    stage.marketo.load({"roles": [{"externalOpportunityId": org.deal, "leadId": org.lead_cid, "role": "Partner"}]})
    stage.adopt(changed({'ownership     = "ours"': 'ownership     = "all"'}))

    remove(stage)

    assert stage.opportunities().keys() == {"theirs"}
    assert len(before) == 5
    assert len(stage.roles()) == 1


def test_a_company_with_people_stays(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.marketo.edit(
        {"op": "update", "object": "leads", "key": {"id": org.lead_ann}, "values": {"externalCompanyId": org.acme}}
    )
    people = stage.marketo.rows("leads")

    told, done = survey(stage), remove(stage)

    assert {row["externalCompanyId"] for row in stage.marketo.rows("companies")} == {"theirs", org.acme}
    assert stage.marketo.rows("leads") == people
    assert done["stays"]["companies"] == {TIED: 1} == told["stays"]["companies"]


def test_companies_stay_where_marketo_cant_be_asked_who_is_tied_to_them(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.sync()
    monkeypatch.setattr(stage.world.target, "searchable", lambda: {"email"})

    assert remove(stage)["stays"]["companies"] == {UNASKED: 2}


def test_an_opportunity_of_others_keeps_the_company_that_it_names(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.marketo.load(
        {"opportunities": [{"externalOpportunityId": "new", "name": "N", "externalCompanyId": org.bolt}]}
    )
    told, done = survey(stage), remove(stage)

    assert told["stays"]["companies"] == {NAMED: 1} == done["stays"]["companies"]
    assert stage.opportunities()["new"]["externalCompanyId"] == org.bolt


def test_what_a_filter_leaves_out_was_never_ours(stage: Stage, org: Org) -> None:
    rule = '\n[[filter.rule]]\ncolumn = "name"\nnot_in = ["Left out"]\n'
    stage.adopt(CONFIG + rule)
    left_out = org.opportunity("Left out")
    stage.sync()
    stage.marketo.load({"opportunities": [{"externalOpportunityId": left_out, "name": "By another program"}]})

    remove(stage)

    assert stage.opportunities().keys() == {"theirs", left_out}


def test_what_dynamics_deleted_goes_too_kept_held_or_not_visible(stage: Stage, org: Org) -> None:
    kept, held = org.opportunity("Kept"), org.opportunity("Held")
    before = {"theirs"}
    stage.adopt(changed({"[removals]": '[removals]\npolicy = "keep"'}))
    stage.sync()
    org.delete("opportunity", kept)
    stage.sync()
    assert kept in stage.opportunities()
    rows = stage.world.opportunities.rows([kept, held])
    assert rows[kept].state is State.GONE
    stage.world.opportunities.write([rows[held].become(State.HELD, reason="removals held: many")])
    unseen = stage.world.opportunities.rows([org.deal])[org.deal]
    stage.world.opportunities.write([unseen.become(State.WAITING, reason="not visible", due=stage.clock.now())])

    remove(stage)

    assert stage.opportunities().keys() == before
    assert all(cleaned(row) for row in stage.world.opportunities.content.values())


@pytest.mark.parametrize("moves", ["winner", "orphaned"])
def test_a_merged_persons_role_goes_by_its_text(stage: Stage, org: Org, moves: str) -> None:
    stage.marketo.switches.set({"roles_of_merged_lead": moves})
    stage.sync()
    (other,) = stage.people("ann.other@acme.invalid")
    stage.marketo.merge(other, [org.lead_ann])
    assert ((org.deal, other, "Decision Maker") in stage.roles(org.deal)) is (moves == "winner")

    remove(stage)

    assert stage.opportunities().keys() == {"theirs"}
    assert {key for key, _, _ in stage.roles()} == {"theirs"}


@pytest.mark.parametrize("stays", ["removed", "orphaned"])
def test_a_deleted_persons_role_goes(stage: Stage, org: Org, stays: str) -> None:
    stage.marketo.switches.set({"roles_of_deleted_lead": stays})
    stage.sync()
    stage.marketo.edit({"op": "delete-lead", "id": org.lead_bob})

    remove(stage)

    assert {key for key, _, _ in stage.roles()} == {"theirs"} == stage.opportunities().keys()


def test_the_orphaned_roles_of_what_somebody_deleted_in_marketo_go(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.marketo.edit({"op": "delete", "object": "opportunities", "key": {"externalOpportunityId": org.deal}})
    assert stage.roles(org.deal)

    done = remove(stage)

    assert stage.roles(org.deal) == set()
    assert done["removed"]["opportunities"] == 1


def test_an_earlier_installations_first_day_can_be_given(stage: Stage, org: Org) -> None:
    before = dump(stage)
    first_day = stage.clock.now()
    stage.sync()
    later(stage)
    stage.world.documents.delete(*BEGAN)  # the storage account was lost, and begun anew
    stage.world.documents.write(*BEGAN, {"at": stage.clock.now().isoformat()}, None)

    told = survey(stage)
    assert told["would be removed"]["opportunities"] == 0
    assert told["stays"]["opportunities"] == {BEFORE: 2}
    told = cleanup.survey(stage.world, since=first_day, progress=quiet)
    assert told["to do it"].endswith(f" --since {first_day.isoformat()}")
    cleanup.remove(stage.world, OURS, since=first_day, progress=quiet)

    assert dump(stage) == before


def test_without_a_beginning_nothing_is_taken_for_ours(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.world.documents.delete(*BEGAN)

    with pytest.raises(ConfigurationError, match="--since"):
        remove(stage)
    assert stage.world.documents.read(*PAUSE) is None


# --- asked before ---------------------------------------------------------------------------------------------


def test_another_id_changes_nothing(stage: Stage, org: Org) -> None:
    stage.sync()
    held = dump(stage)

    with pytest.raises(ConfigurationError, match="Nothing was done"):
        cleanup.remove(stage.world, "999-EMU-456", since=None, progress=quiet)

    assert dump(stage) == held
    assert stage.world.documents.read(*PAUSE) is None


@pytest.mark.parametrize("changes", [{"subscription": "999-EMU-456"}, {"config": "prefix"}])
def test_settings_that_lead_elsewhere_change_nothing(stage: Stage, org: Org, changes: dict[str, Any]) -> None:
    stage.sync()
    held = dump(stage)
    if "config" in changes:
        stage.adopt(
            changed({'{ column = "opportunityid", prefix = "" }': '{ column = "opportunityid", prefix = "x" }'})
        )
        world = stage.world
    else:
        world = replace(stage.world, **changes)

    with pytest.raises(ConfigurationError):
        cleanup.remove(world, world.subscription, since=None, progress=quiet)

    assert dump(stage) == held
    assert stage.world.documents.read(*PAUSE) is None


def test_a_state_that_never_wrote_has_nothing_to_remove(stage: Stage) -> None:
    assert "nothing to remove" in survey(stage)
    assert "nothing to remove" in remove(stage)
    assert stage.marketo.journal.since(0) == []
    assert stage.world.documents.read(*PAUSE) is None


# --- stopped half-way -----------------------------------------------------------------------------------------


class Killed(BaseException):
    """What no code of ours catches."""


def kill_at(stage: Stage, number: int, *, answered: bool) -> None:
    """The process dies before its *number*-th call to Marketo, or once that was answered."""
    calls = 0

    def count(_request: requests.PreparedRequest) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            raise Killed

    setattr(stage.marketo_wire, "after" if answered else "fault", count)


def alive(stage: Stage) -> None:
    stage.marketo_wire.after = stage.marketo_wire.fault = None


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("number", range(1, 10))
def test_killed_at_any_call_the_next_run_goes_on(stage: Stage, org: Org, number: int, *, answered: bool) -> None:
    """Described, made when, roles, two removals; made when, searchable, tied, named, the companies' removal."""
    before = dump(stage)
    stage.sync()
    kill_at(stage, number, answered=answered)
    with pytest.raises(Killed):
        remove(stage)
    alive(stage)

    remove(stage)

    assert dump(stage) == before


@pytest.mark.parametrize("ledger", ["opportunities", "companies"])
def test_killed_before_the_ledger_knows_the_next_run_goes_on(stage: Stage, org: Org, ledger: str) -> None:
    before = dump(stage)
    stage.sync()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(getattr(stage.world, ledger), "write", _die)
        with pytest.raises(Killed):
            remove(stage)
    writes = stage.writes()

    remove(stage)

    assert dump(stage) == before
    assert stage.writes() - writes == (1 if ledger == "opportunities" else 0)


def _die(*_: Any) -> Any:
    raise Killed


def test_killed_after_a_removal_it_leaves_alone_what_others_make_meanwhile(stage: Stage, org: Org) -> None:
    stage.sync()

    def kill(request: requests.PreparedRequest) -> None:
        if str(request.url).endswith("opportunities/delete.json"):
            raise Killed

    stage.marketo_wire.after = kill
    with pytest.raises(Killed):
        remove(stage)
    stage.marketo_wire.after = None
    stage.clock.sleep(5)
    stage.marketo.load({"opportunities": [{"externalOpportunityId": org.deal, "name": "By hand"}]})

    done = remove(stage)

    assert stage.opportunities()[org.deal]["name"] == "By hand"
    assert done["stays"]["opportunities"] == {AFTER: 1}


def test_the_quota_ends_it_and_the_next_day_it_goes_on(stage: Stage, org: Org) -> None:
    before = dump(stage)
    stage.sync()
    stage.limiter.daily_calls = stage.limiter.used + 3

    with pytest.raises(QuotaExhausted):
        remove(stage)
    assert stage.roles() == {("theirs", org.lead_ann, "Decision Maker")}
    assert len(stage.opportunities()) == 3
    stage.limiter.daily_calls += 1000
    remove(stage)

    assert dump(stage) == before


@pytest.mark.parametrize("path", ["roles/delete.json", "opportunities/delete.json", "companies/delete.json"])
@pytest.mark.parametrize("silence", [requests.ReadTimeout, requests.ConnectionError])
def test_a_write_without_an_answer_is_looked_at_again_once_it_must_be_over(
    stage: Stage, org: Org, silence: type[requests.RequestException], path: str
) -> None:
    """Also where repeating it at once was answered, as it is after a broken connection."""
    before = dump(stage)
    stage.sync()
    lost = iter([True])

    def lose(request: requests.PreparedRequest) -> None:
        if path in str(request.url) and next(lost, False):
            raise silence(request=request)

    stage.marketo_wire.after = lose
    began = stage.clock.now()

    assert remove(stage)["finished"]

    assert stage.clock.now() - began >= timedelta(seconds=stage.world.late_write)
    assert dump(stage) == before


def test_running_it_again_writes_nothing(stage: Stage, org: Org) -> None:
    stage.sync()
    remove(stage)
    writes, reads = stage.writes(), len(stage.marketo.journal.since(0))

    assert remove(stage)["removed"] == {"roles": 0, "opportunities": 0, "companies": 0, "sales persons": 0}

    assert stage.writes() == writes
    assert len(stage.marketo.journal.since(0)) == reads


# --- while the functions run ----------------------------------------------------------------------------------


def test_it_pauses_first_and_for_good(stage: Stage, org: Org) -> None:
    before = dump(stage)
    stage.sync()
    remove(stage)

    org.update("opportunity", org.deal, name="Changed")
    stage.tick()
    stage.world.queue.put(Work((org.deal,), force=True))
    outcomes = stage.drain()

    assert dump(stage) == before
    assert [outcome.counts["set aside"] for outcome in outcomes] == [1]
    assert sum(stage.world.queue.lengths().values()) == 0
    found = status(stage.world)
    assert found["paused"]["why"] == "cleanup"
    assert "--after-cleanup" in " ".join(found["needs you"])
    assert found["verdict"]["text"].startswith("Cleaned up")
    stage.clock.sleep(3600)
    assert "not-in-step" not in {alert["name"] for alert in status(stage.world)["alerts"]}


def test_an_unrecorded_first_post_is_known_by_its_message(stage: Stage, org: Org) -> None:
    """A worker died between Marketo's answer and the ledger: nothing but the message knows."""
    before = dump(stage)
    stage.tick()
    letter = stage.world.queue.receive(Lane.FRESH, lease=timedelta(minutes=10))
    assert letter is not None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.world.opportunities, "write", _die)
        with pytest.raises(Killed):
            stage.engine.deliver(letter.body, dequeue_count=1, lease_ends=letter.lease_ends, lane=Lane.FRESH)
    assert stage.world.opportunities.content == {}
    assert len(stage.opportunities()) == 3

    remove(stage)

    assert dump(stage) == before


def test_what_marketo_does_not_show_yet_is_waited_for(stage: Stage, org: Org) -> None:
    before = dump(stage)
    stage.marketo.switches.set({"visible_after": 20.0})
    stage.sync()

    remove(stage)

    assert dump(stage) == before


def test_a_delivery_in_hand_is_waited_for(stage: Stage, org: Org) -> None:
    """It posts after the pause was set: its message is on the queue until it is done."""
    before = dump(stage)
    stage.tick()
    letter = stage.world.queue.receive(Lane.FRESH, lease=timedelta(minutes=10))
    assert letter is not None
    waits: list[str] = []

    def meanwhile(text: str) -> None:
        if not waits:
            world = replace(stage.world, documents=_NotPaused(stage.world.documents))
            Engine(world).deliver(letter.body, dequeue_count=1, lease_ends=letter.lease_ends, lane=Lane.FRESH)
            stage.world.queue.done(Lane.FRESH, letter)
            assert len(stage.opportunities()) == 3
        waits.append(text)

    done = cleanup.remove(stage.world, OURS, since=None, progress=meanwhile)

    assert waits[0].startswith("waiting for 1 queue message")
    assert done["removed"]["opportunities"] == 2
    assert dump(stage) == before


class _NotPaused:
    """The documents of a worker that looked for a pause just before there was one."""

    def __init__(self, base: Any) -> None:
        self.base = base

    def read(self, kind: str, name: str) -> Any:
        return None if (kind, name) == PAUSE else self.base.read(kind, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.base, name)


def test_somebody_who_resumes_ends_it(stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.sync()
    roles = stage.world.target.roles

    def resumed(keys: Any) -> Any:
        stage.world.documents.delete(*PAUSE)
        return roles(keys)

    monkeypatch.setattr(stage.world.target, "roles", resumed)

    with pytest.raises(ConfigurationError, match="resumed"):
        remove(stage)
    assert len(stage.marketo.rows("companies")) == 3, "nothing after it was noticed"


def test_nobody_resumes_while_it_may_still_remove(stage: Stage, org: Org) -> None:
    stage.sync()
    kill_at(stage, 4, answered=False)
    with pytest.raises(Killed):
        remove(stage)
    alive(stage)

    with pytest.raises(RetryLater, match="a cleanup is at work"):
        actions.resume(stage.world, who="function key")
    stage.clock.sleep(601)
    actions.resume(stage.world, who="function key")
    stage.sync()

    assert stage.opportunities().keys() > {"theirs", org.deal}


# --- back again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
def test_everything_comes_back_when_somebody_resumes(stage: Stage, org: Org, *, whole: bool) -> None:
    stage.sync()
    held = {key: row["name"] for key, row in stage.opportunities().items()}, stage.roles()
    companies = {row["externalCompanyId"] for row in stage.marketo.rows("companies")}
    if whole:
        remove(stage)
    else:

        def kill(request: requests.PreparedRequest) -> None:
            if str(request.url).endswith("opportunities/delete.json"):
                raise Killed

        stage.marketo_wire.after = kill
        with pytest.raises(Killed):
            remove(stage)
        stage.marketo_wire.after = None
        stage.clock.sleep(601)

    done = actions.resume(stage.world, who="function key")
    stage.sync()

    assert "posted to Marketo again" in done.what
    assert ({key: row["name"] for key, row in stage.opportunities().items()}, stage.roles()) == held
    assert {row["externalCompanyId"] for row in stage.marketo.rows("companies")} == companies
    assert stage.world.opportunities.counts()[State.IN_STEP] == 2
    writes = stage.writes()
    stage.sync()
    assert stage.writes() == writes


def test_it_can_be_done_twice(stage: Stage, org: Org) -> None:
    before = dump(stage)
    stage.sync()
    remove(stage)
    actions.resume(stage.world, who="function key")
    stage.clock.sleep(200)
    stage.sync()

    assert remove(stage)["removed"]["opportunities"] == 2
    assert dump(stage) == before


# --- what it costs --------------------------------------------------------------------------------------------


def test_calls_are_full(stage: Stage) -> None:
    org = Org(stage)
    for number in range(699):
        deal = org.opportunity(f"Deal {number}", account=org.bolt)
        if number % 2:
            org.stakeholder(org.cid, opportunity=deal)
    stage.sync()
    writes, seen = stage.writes(), len(stage.marketo.journal.since(0))

    told = survey(stage)["Marketo calls"]
    planned = len(stage.marketo.journal.since(0)) - seen
    remove(stage)

    assert stage.writes() - writes == told["to write"] == 2 + 3 + 1, "349 roles, 700 opportunities, 2 companies"
    read = len(stage.marketo.journal.since(0)) - seen - planned - told["to write"]
    assert told["to read, at least"] == 3 + 3 + 1 + 1 + 1, "made when, roles; made when, people tied, who names them"
    assert read == told["to read, at least"] + 1, "by which fields people can be asked for; all else was described"
    assert planned == read + 2, "the opportunities that name a company, page by page"


# --- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def commands(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)
    return lambda *words: cli.main(words)


def test_the_command_tells_then_asks_for_the_id(
    stage: Stage, org: Org, commands: Callable[..., int], capsys: Any
) -> None:
    stage.sync()

    assert commands("cleanup") == cli.GOOD
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    assert "4 roles, 2 opportunities, 2 companies" in told
    assert told.splitlines()[-1] == f"  python -m sync_core cleanup --confirm {OURS}"
    assert commands("cleanup", "--confirm", "1-2-3") == cli.USAGE
    assert len(stage.opportunities()) == 3
    assert commands("cleanup", "--confirm", OURS, "--json") == cli.GOOD
    assert json.loads(capsys.readouterr().out)["removed"]["opportunities"] == 2
    assert stage.opportunities().keys() == {"theirs"}
    (entry, *_) = status(stage.world)["actions"]
    assert entry["what"] == "cleanup: removed from Marketo 4 roles, 2 opportunities, 2 companies"


def test_resume_after_a_cleanup_has_to_be_meant(
    stage: Stage, org: Org, commands: Callable[..., int], capsys: Any
) -> None:
    stage.sync()
    remove(stage)

    assert commands("resume") == cli.USAGE
    assert "--after-cleanup" in capsys.readouterr().err
    assert commands("pause", "--why", "still") == cli.GOOD
    assert commands("resume") == cli.USAGE, "another pause makes no difference"
    capsys.readouterr()
    assert commands("resume", "--after-cleanup") == cli.GOOD
    assert "posted to Marketo again" in capsys.readouterr().out
    assert stage.world.documents.read(*PAUSE) is None


def test_what_marketo_refuses_to_remove_is_listed_and_needs_somebody(
    stage: Stage, org: Org, commands: Callable[..., int], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.sync()
    delete = stage.world.target.delete

    def refuse(kind: MarketoObject, keys: Any, **rest: Any) -> Any:
        answers = delete(kind, keys, **rest)
        if kind is MarketoObject.COMPANY:
            first = replace(answers.records[0], status="skipped", code="1099")
            return replace(answers, records=[first, *answers.records[1:]])
        return answers

    monkeypatch.setattr(stage.world.target, "delete", refuse)

    assert commands("cleanup", "--confirm", OURS) == cli.PROBLEMS
    assert "1099" in capsys.readouterr().out


def test_a_role_that_can_not_be_removed_keeps_its_opportunity(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would come back to life with the opportunity (marketo.md §3.3)."""
    stage.sync()
    delete = stage.world.target.delete

    def refuse(kind: MarketoObject, keys: Any, **rest: Any) -> Any:
        if kind is MarketoObject.ROLE:
            return Answers([Answer("skipped", "1099") for _ in keys])
        return delete(kind, keys, **rest)

    monkeypatch.setattr(stage.world.target, "delete", refuse)

    done = remove(stage)

    assert len(stage.opportunities()) == 3
    assert done["removed"] == {"roles": 0, "opportunities": 0, "companies": 0, "sales persons": 0}
    assert not done["finished"]
    assert {each["id"] for each in done["listed"]} >= {org.deal}
    monkeypatch.undo()
    assert remove(stage)["finished"]
    assert stage.opportunities().keys() == {"theirs"}


def test_rows_that_were_never_posted_ask_for_nothing_more(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.world.opportunities.write([LedgerRow(NOBODY, state=State.PARKED, reason="1003: a value is invalid")])

    remove(stage)

    assert cleaned(stage.world.opportunities.content[NOBODY])
