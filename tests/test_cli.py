"""The operator's commands: what they print, what they return, what they say to wrong usage."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sync_core import cli
from sync_core.engine import Engine
from sync_core.errors import Throttled
from sync_core.model import Lane, LedgerRow, State, Work
from tests.flows.org import Org
from tests.stage import CONFIG, DATAVERSE, LEASE, Stage, changed

ROOT = Path(__file__).parent.parent
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)
    return stage


@pytest.fixture
def org(stage: Stage) -> Org:
    return Org(stage)


def run(*arguments: str) -> int:
    return cli.main(arguments)


def in_a_process(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command with these settings and no others."""
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    command = [sys.executable, "-m", "sync_core", *arguments]
    return subprocess.run(command, cwd=ROOT, env=bare | settings, capture_output=True, text=True, check=False)  # noqa: S603 - our own program


def configured(stage: Stage, old: str, new: str, text: str = CONFIG) -> None:
    """The same state under another mapping."""
    stage.adopt(changed({old: new}, text))


def printed(capsys: Any) -> Any:
    return json.loads(capsys.readouterr().out)


def test_sync_runs_until_the_queue_is_empty(stage: Stage, org: Org, capsys: Any) -> None:
    code = run("sync", "--json")

    assert code == cli.GOOD
    assert printed(capsys)["opportunities posted"] == 1
    assert org.deal in stage.opportunities()


def test_sync_only_touches_the_named_opportunities_and_detects_nothing(stage: Stage, org: Org) -> None:
    other = org.opportunity("Other")

    code = run("sync", "--only", "{" + other.upper() + "}")

    assert code == cli.GOOD
    assert stage.opportunities().keys() == {other}
    assert stage.world.documents.read("feed", "opportunity") is None


def test_status_counts_states_and_says_what_needs_a_person(stage: Stage, org: Org, capsys: Any) -> None:
    run("sync")
    capsys.readouterr()

    code = run("status", "--json")
    found = printed(capsys)

    assert code == cli.GOOD
    assert found["opportunities"][State.IN_STEP] == 1
    assert {feed["mode"] for feed in found["feeds"].values()} == {"following"}
    assert found["needs you"] == []


def test_held_removals_are_listed_and_pass_once_approved(stage: Stage, capsys: Any) -> None:
    org = Org(stage)
    deals = [org.opportunity(f"Deal {number}") for number in range(150)]
    run("sync")
    for deal in deals:
        org.delete("opportunity", deal)
    run("sync")
    capsys.readouterr()

    assert run("status") == cli.PROBLEMS
    assert "150 removals are held" in capsys.readouterr().out
    assert run("approve-removals", "--json") == cli.PROBLEMS
    found = printed(capsys)
    assert (len(found["held"]), found["number"]) == (50, 150)
    assert found["held"][0]["name"].startswith("Deal "), "by the name that Marketo holds"
    assert run("approve-removals", "--limit", "2") == cli.PROBLEMS
    assert "and 148 more: --limit names them" in capsys.readouterr().out
    assert run("approve-removals", "--yes", "--json") == cli.GOOD
    assert printed(capsys)["approved"] == 150

    assert run("status") == cli.GOOD
    told = " ".join(capsys.readouterr().out.split())
    assert "150 approved removals, which go with the next delivery" in told
    assert "150 × opportunity, held: approved: goes with the next delivery" in told
    assert run("approve-removals") == cli.GOOD
    assert "No removal waits for approval; 150 approved removals will go" in capsys.readouterr().out
    assert run("approve-removals", "--yes", "--json") == cli.GOOD  # whoever approved may have died before queueing
    assert printed(capsys)["approved"] == 150
    run("sync")
    assert stage.opportunities().keys() == {org.deal}
    for options in ((), ("--yes",)):
        capsys.readouterr()
        assert run("approve-removals", *options) == cli.GOOD
        assert capsys.readouterr().out == "Nothing is held.\n"
    assert not any("approved 0" in action["what"] for _, action in stage.world.documents.list("action"))


def test_held_removals_are_listed_while_marketo_gives_no_answer(
    stage: Stage, org: Org, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: Any) -> None:
        raise Throttled("no calls left")

    stage.world.opportunities.write([LedgerRow(NOBODY, state=State.HELD, reason="removals held: 3")])
    monkeypatch.setattr(stage.world.target, "records", silent)

    assert run("approve-removals") == cli.PROBLEMS
    assert f"  {NOBODY}  0 roles, not in Dynamics any more\nTo let them pass" in capsys.readouterr().out


def test_a_choice_that_nothing_matches_is_no_all_clear(stage: Stage, capsys: Any) -> None:
    assert run("failures", "list") == cli.GOOD
    stage.world.opportunities.write([LedgerRow(NOBODY, state=State.HELD, reason="removals held: 3")])
    for options in (("--state", "parked"), ("--reason", "unknown")):
        assert run("failures", "list", *options) == cli.GOOD
    assert capsys.readouterr().out == "everything is in step\nnothing matches\nnothing matches\n"


def test_what_is_known_of_failures_is_one_object_with_kinds_in_words(stage: Stage, capsys: Any) -> None:
    stage.world.opportunities.write([LedgerRow(NOBODY, state=State.PARKED, reason="1003")])
    found = {}
    for action in ("list", "show", "export"):
        run("failures", action, *([NOBODY] if action == "show" else []), "--json")
        found |= printed(capsys)

    kinds = [each["kind"] for name in ("first", "found", "failures") for each in found[name]]
    assert kinds == ["opportunity"] * 3


def test_who_does_not_wait_is_told_when_what_is_left_comes_back(stage: Stage, org: Org, capsys: Any) -> None:
    stage.sync()
    org.update("opportunity", org.deal, name="Changed")
    stage.limiter.daily_calls = 100_000
    stage.limiter.pause(until=stage.clock.now() + timedelta(hours=9), reason="607", quota=True)
    run("sync", "--no-wait")
    capsys.readouterr()

    assert run("sync", "--no-wait", "--json") == cli.PROBLEMS
    found = printed(capsys)
    assert found["messages left"] == 1
    assert "607" in found["put back because"]
    assert re.fullmatch(r"2026-03-02 1\d:\d\d:\d\d UTC", found["the next comes back"])


def test_explain_tells_why_why_each_role_is_there_and_the_others_are_not(stage: Stage, org: Org, capsys: Any) -> None:
    org.stakeholder(org.ann)
    org.stakeholder(org.bob, "Champion")
    org.stakeholder(org.contact(None), "Influencer")
    stage.edit("connect", opportunity=org.deal, account=org.bolt, role="Champion")
    run("sync")
    capsys.readouterr()

    assert run("explain", org.deal) == cli.GOOD
    text = capsys.readouterr().out

    assert f"Champion: person {org.lead_bob}" in text
    assert "why: the contact has no e-mail address in Dynamics" in text
    assert "leads to a record that is not a contact" in text
    assert max(map(len, text.splitlines())) <= 80


def test_explain_writes_nothing(stage: Stage, org: Org) -> None:
    assert run("explain", org.deal) == cli.GOOD

    assert stage.opportunities() == {}
    assert stage.writes() == 0


def test_explain_of_an_unknown_id_says_so(stage: Stage, capsys: Any) -> None:
    assert run("explain", NOBODY) == cli.PROBLEMS

    assert "Dynamics doesn't show this opportunity." in capsys.readouterr().out


def test_repoint_tells_what_it_would_do_and_changes_nothing_without_confirm(
    stage: Stage, org: Org, capsys: Any
) -> None:
    org.stakeholder(org.ann)
    run("sync")
    capsys.readouterr()
    before = stage.world.documents.read("feed", "opportunity")

    assert run("repoint", "--json") == cli.GOOD
    found = printed(capsys)
    assert found["the state belongs to"] == found["the settings lead to"]
    assert (found["stopped by"], found["Marketo calls, about"]) == ("", 5)
    assert found["records known"] == {"opportunities": 1, "companies": 1, "roles": 1}

    stage.world = replace(stage.world, subscription="999-XYZ-999")
    stage.engine = Engine(stage.world)
    assert run("repoint") == cli.PROBLEMS
    told = capsys.readouterr().out
    assert "stopped by: the state belongs to Marketo subscription 123-EMU-456" in told
    assert "with --confirm everything is read and posted again" in told
    assert stage.world.documents.read("feed", "opportunity") == before


def test_repoint_costs_about_what_it_says(stage: Stage, org: Org, capsys: Any) -> None:
    for number in range(700):
        org.stakeholder(org.ann, "Champion", org.opportunity(f"Deal {number}", account=org.acme))
    run("sync")
    capsys.readouterr()
    run("repoint", "--json")
    about = printed(capsys)["Marketo calls, about"]
    stage.clock.sleep(86_400)  # what changed lately is looked at twice: the overlap of a full read
    begun = len(stage.marketo.journal.entries)

    run("repoint", "--confirm")
    stage.sync()

    calls = sum(entry.kind != "identity" for entry in stage.marketo.journal.entries[begun:])
    assert about == 13
    assert abs(calls - about) <= 3


def test_held_removals_are_named_with_their_roles_and_some_can_be_approved(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(changes={"max_count = 100": "max_count = 0", "max_share = 0.01": "max_share = 0.0"})
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)
    org = Org(stage)
    ended = org.stakeholder(org.ann)
    org.stakeholder(org.bob, "Champion")
    gone = org.opportunity("Deleted", account=org.acme)
    run("sync")
    org.delete("opportunity", gone)
    stage.edit("disconnect", id=ended)
    org.update("opportunity", org.deal, name="Renamed meanwhile")
    run("sync")
    capsys.readouterr()

    assert run("approve-removals") == cli.PROBLEMS
    told = capsys.readouterr().out.splitlines()
    assert max(map(len, told)) <= 80
    left = f"  {gone}  0 roles, not in Dynamics any more"
    assert [told[told.index(f"  {org.deal}  2 roles") + 1], told[told.index(left) + 1]] == [
        "    Renamed meanwhile",
        "    Deleted",
    ]

    assert run("approve-removals", org.deal, NOBODY, "--yes") == cli.USAGE
    assert f"nothing is held of {NOBODY}. Nothing was done." in said(capsys)
    assert run("approve-removals", org.deal, "--yes", "--json") == cli.GOOD
    assert printed(capsys)["approved"] == 1
    run("sync")
    assert len(stage.roles(org.deal)) == 1
    assert gone in stage.opportunities()


# --- errors as JSON ---------------------------------------------------------------------------------------------


def test_with_json_a_wrong_usage_is_told_as_json(stage: Stage, capsys: Any) -> None:
    assert run("failures", "redrive", "--json") == cli.USAGE
    give = "give either ids, or --state, --reason or --all. Nothing was done."
    assert printed(capsys) == {"error": f"nothing was chosen: {give}"}
    assert run("failures", "redrive", NOBODY, "--all", "--json") == cli.USAGE
    assert printed(capsys) == {"error": f"both ids and a choice were given: {give}"}
    assert run("failures", "redrive", "--state", "parked", "--all", "--json") == cli.USAGE
    assert "leave it out" in printed(capsys)["error"]

    assert run("explain", "--json") == cli.USAGE
    found = printed(capsys)
    assert found["error"] == "the following arguments are required: ID|NAME. Nothing was done."
    assert found["remedy"] == "python -m sync_core explain --help"


def test_with_json_trouble_of_a_service_comes_with_what_to_do(
    stage: Stage, org: Org, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any) -> None:
        raise Throttled("Dynamics is busy", delay=300)

    monkeypatch.setattr(stage.world.source, "rows", busy)

    assert run("resync", org.deal, "--json") == cli.PROBLEMS
    assert printed(capsys) == {"error": "Dynamics is busy.", "remedy": "Nothing is lost; try again in 5 minutes."}


def test_missing_settings_are_json_too() -> None:
    done = in_a_process("status", "--json")

    assert (done.returncode, done.stderr) == (cli.USAGE, "")
    assert "missing settings: DATAVERSE_URL" in json.loads(done.stdout)["error"]


def test_what_is_queued_while_paused_waits_for_resume(stage: Stage, org: Org, capsys: Any) -> None:
    run("pause", "--why", "maintenance")
    capsys.readouterr()

    run("resync", org.deal, "--json")
    assert printed(capsys)["then"].startswith("nothing before `resume`: paused since 2026-")
    run("resume", "--json")
    assert printed(capsys)["then"] == "what piled up comes within five minutes"
    run("resume", "--json")
    assert printed(capsys)["then"] == "nothing changes: it was not paused"


def test_status_says_why_it_is_paused_and_a_second_pause_that_it_was(stage: Stage, org: Org, capsys: Any) -> None:
    run("pause", "--why", "maintenance")
    run("pause", "--why", "still at it")
    told = " ".join(capsys.readouterr().out.split())
    assert "before: it was paused already, since 2026-03-02 08:00 UTC reason: the reason is another one now" in told

    assert run("status") == cli.PROBLEMS
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith("Paused since 2026-03-02 08:00 UTC (still at it): nothing is sent")
    assert "- paused since 2026-03-02 08:00 UTC (still at it): `resume` goes on" in told


def test_an_id_that_is_none_is_wrong_usage(capsys: Any) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("sync", "--only", "deal-7")

    assert stopped.value.code == cli.USAGE
    assert "give the GUID" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["sync", "status", "explain", "approve-removals", "repoint", None])
def test_every_command_has_help(command: str | None, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(*([command] if command else []), "--help")

    assert stopped.value.code == 0
    assert "usage: python -m sync_core" in capsys.readouterr().out


def test_missing_settings_are_named_together() -> None:
    done = in_a_process("status")

    assert done.returncode == cli.USAGE
    for name in ("DATAVERSE_URL", "MARKETO_URL", "MARKETO_CLIENT_ID", "MARKETO_CLIENT_SECRET", "AzureWebJobsStorage"):
        assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mapping_that_a_service_does_not_know_stops_sync_before_anything_is_queued(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    stage = Stage(changes={'description  = "description"': 'description  = "new_nothing"'})
    Org(stage)
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)

    assert run("sync") == cli.USAGE

    told = r"sync\.toml line \d+, opportunity\.description: Dynamics has no column new_nothing"
    assert re.search(told, said(capsys))
    assert stage.world.queue.lengths()["fresh"] == 0


def test_sync_says_what_it_waits_for(stage: Stage, org: Org, capsys: Any) -> None:
    stage.engine.detect()
    cli.suspended(stage.world)
    stage.limiter.pauses.append((stage.clock.now() + timedelta(seconds=90), "wait", "busy"))

    run("sync")

    assert "put back: busy. Ctrl-C or --no-wait ends." in capsys.readouterr().err


def test_only_an_opportunity_that_exists_is_taken(stage: Stage, org: Org, capsys: Any) -> None:
    assert run("sync", "--only", NOBODY) == cli.USAGE

    assert "Nothing was done" in said(capsys)
    assert stage.world.opportunities.counts()[State.WAITING] == 0


def said(capsys: Any) -> str:
    """What was complained of, without the ends of its lines."""
    text = capsys.readouterr().err
    assert max(map(len, text.splitlines()), default=0) <= 80
    return " ".join(text.split())


# --- resync, backfill ---------------------------------------------------------------------------------------------


def test_resync_takes_only_what_one_of_both_knows(stage: Stage, org: Org, capsys: Any) -> None:
    assert run("resync", org.deal, NOBODY) == cli.USAGE
    assert f"Dynamics doesn't show {NOBODY}. Nothing was done." in said(capsys)
    assert stage.world.queue.lengths()["fresh"] == 0

    assert run("resync", org.deal, "--json") == cli.GOOD
    assert printed(capsys) == {"queued": 1, "then": cli.QUEUED}
    stage.drain()
    assert set(stage.opportunities()) == {org.deal}


def test_resync_takes_what_only_the_ledger_knows(stage: Stage, org: Org) -> None:
    stage.sync()
    org.delete("opportunity", org.deal)

    assert run("resync", org.deal) == cli.GOOD


def test_backfill_counts_no_record_that_the_filter_leaves_out(stage: Stage, org: Org, capsys: Any) -> None:
    step = 'description  = "description"'
    configured(stage, step, 'nextStep = "name"')
    lost = org.opportunity("Lost", account=org.bolt)
    stage.sync()
    configured(stage, step, "", f"{CONFIG}\n[[filter.rule]]\ncolumn = 'statecode'\nin = [0]\n")
    stage.edit("lose", id=lost)
    stage.sync()

    assert run("backfill", "--clear", "nextStep", "--json") == cli.GOOD
    assert printed(capsys)["emptied then, in so many records"] == {"opportunity.nextStep": 1}


def test_a_flag_in_use_is_not_emptied(stage: Stage, org: Org, capsys: Any) -> None:
    stage.sync()
    configured(stage, "[removals]", '[removals]\npolicy = "flag"\nflag = { nextStep = "gone" }')

    assert run("backfill", "--clear", "nextStep") == cli.USAGE
    assert "opportunity.nextStep is a flag of [removals]" in said(capsys)


def test_a_changed_prefix_of_keys_stops_everything(stage: Stage, org: Org, capsys: Any) -> None:
    stage.sync()
    configured(stage, 'column = "opportunityid", prefix = ""', 'column = "opportunityid", prefix = "eu-"')
    org.update("opportunity", org.deal, name="Renamed")

    assert run("sync") == cli.USAGE
    assert "the prefixes of the keys were ['', ''] and are ['eu-', ''] now" in said(capsys)
    assert set(stage.opportunities()) == {org.deal}

    assert run("repoint", "--confirm") == cli.GOOD
    org.stakeholder(org.ann)
    assert run("sync") == cli.GOOD
    assert stage.roles(f"eu-{org.deal}") == {(f"eu-{org.deal}", org.lead_ann, "Decision Maker")}


@pytest.mark.parametrize("when", ["2026-13-31", "P", "24M", "yesterday", "P2H"])
def test_a_time_that_is_none_is_wrong_usage(when: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("backfill", "--since", when)

    assert stopped.value.code == cli.USAGE
    assert "write it like 2026-01-31 or P24M" in " ".join(capsys.readouterr().err.split())


def test_backfill_since_takes_a_period(stage: Stage, org: Org, capsys: Any) -> None:
    stage.clock.sleep(40 * 86400)
    org.update("opportunity", org.opportunity("New"), name="Newer")

    assert run("backfill", "--since", "P1M", "--json") == cli.GOOD
    assert printed(capsys) == {"queued": 1, "then": cli.QUEUED}
    assert run("backfill", "--since", "P999Y", "--json") == cli.GOOD
    assert printed(capsys) == {"queued": 2, "then": cli.QUEUED}
    assert len(stage.world.queue.queues["slow"]) == 2


def test_a_backfill_that_is_stopped_says_how_many_are_queued(
    stage: Stage, org: Org, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pages(*_: Any) -> Iterator[list[str]]:
        yield [str(uuid4()) for _ in range(1800)]
        raise KeyboardInterrupt

    monkeypatch.setattr(stage.world.source, "modified_since", pages)

    assert run("backfill", "--since", "P1M") == 130
    assert "1,800 were queued. Run it again" in said(capsys)


def test_a_changed_opportunity_overtakes_the_backlog_that_sync_works_off(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sync` looks for changes as often as the timer would, and delivers them first."""
    stage.sync()
    handled: list[str] = []
    deliver = stage.engine.deliver

    def slowly(body: str, **named: Any) -> Any:
        handled.append(named["lane"])
        if len(handled) == 2:
            org.update("opportunity", org.deal, name="Renamed")
        stage.clock.sleep(100)
        return deliver(body, **named)

    monkeypatch.setattr(stage.engine, "deliver", slowly)
    for _ in range(9):
        stage.world.queue.put(Work((org.deal,), lane=Lane.SLOW))

    assert run("sync") == cli.GOOD

    assert handled.index("fresh") < 5
    assert handled.count("slow") == 9
    assert stage.opportunities()[org.deal]["name"] == "Renamed"


def test_status_tells_how_long_the_backlog_takes(stage: Stage, org: Org, capsys: Any) -> None:
    stage.sync()
    stage.clock.sleep(4000)
    stage.engine.detect()
    for _ in range(3):
        stage.world.queue.put(Work((org.deal,), lane=Lane.SLOW))
    assert run("status", "--json") == cli.GOOD
    assert printed(capsys)["lanes (about)"]["slow"] == {
        "messages": 3,
        "records": None,
        "records a minute lately": None,
        "minutes until empty": None,
        "last done": None,
    }

    letter = stage.world.queue.receive(Lane.SLOW, lease=LEASE)
    clock = stage.clock.now
    stage.engine.deliver(letter.body, dequeue_count=1, lease_ends=clock() + LEASE, lane=Lane.SLOW)
    stage.world.queue.done(Lane.SLOW, letter)
    run("status", "--json")
    found = printed(capsys)

    assert found["lanes (about)"]["slow"]["records"] == 2
    assert "runs" not in found["last runs"]["slow"]


def test_status_shows_the_last_deliveries_among_ticks_without_work_and_how_old_a_figure_is(
    stage: Stage, org: Org, capsys: Any
) -> None:
    stage.sync()
    for _ in range(60):
        stage.clock.sleep(300)
        stage.tick()
    counted = {"total": 1, "used": 1, "counted": stage.clock.now().isoformat()}
    stage.world.change("watch", "usage", lambda _: counted)
    stage.limiter.used = 73
    stage.clock.sleep(360)
    run("status")
    told = " ".join(capsys.readouterr().out.split())

    runs = told.partition("Last runs: ")[2]
    assert "fresh, 0.0 s: 1 company posted, 1 company in step, 1 opportunity posted" in runs
    assert runs.endswith("Z detect: 50 ticks with nothing to do")
    assert "everybody's: 1 of 50,000, asked 6 minutes ago, before our last calls" in told


def test_backfill_since_queues_what_changed_since(stage: Stage, org: Org, capsys: Any) -> None:
    stage.sync()
    stage.clock.sleep(48 * 3600)
    other = org.opportunity("New")

    assert run("backfill", "--since", "2026-03-03", "--json") == cli.GOOD
    assert printed(capsys) == {"queued": 1, "then": cli.QUEUED}
    stage.drain()
    assert other in stage.opportunities()


def test_backfill_empties_a_field_of_companies_too_and_says_in_how_many(stage: Stage, org: Org, capsys: Any) -> None:
    for account in (org.acme, org.bolt):
        org.update("account", account, websiteurl="https://example.invalid")
    org.opportunity(account=org.bolt)
    stage.sync()
    configured(stage, 'website  = "websiteurl"', "")
    stage.sync()
    assert [row["website"] for row in stage.marketo.rows("companies")] == ["https://example.invalid"] * 2

    assert run("backfill", "--clear", "company.website", "--json") == cli.GOOD
    assert json.loads(capsys.readouterr().out)["emptied then, in so many records"] == {"company.website": 2}
    stage.sync()
    assert [row["website"] for row in stage.marketo.rows("companies")] == [None, None]
    before = stage.writes()
    stage.sync()
    assert stage.writes() == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--clear", "nextStep"], "the sync filled opportunity.nextStep in no record"),
        (["--clear", "company.industry"], "the sync filled company.industry in no record"),
        (["--clear", "stage"], "opportunity.stage is still mapped (sync.toml line 9, opportunity.stage)"),
        (["--clear", "company.company"], "company.company is still mapped"),
        (["--clear", "nothing"], "have no field opportunity.nothing"),
        (["--clear", "people.firstName"], "have no field people.firstName"),
        (["--since", "2099-01-01"], "2099-01-01T00:00:00 is yet to come"),
        (["--clear", "externalCompanyId"], "opportunity.externalCompanyId can't be written"),
        (["--clear", "externalOpportunityId"], "opportunity.externalOpportunityId can't be written"),
        (["--clear", "nextStep", "--since", "2026-01-01"], "leave out --since"),
    ],
)
def test_backfill_says_what_it_can_not_empty(
    stage: Stage, org: Org, options: list[str], told: str, capsys: Any
) -> None:
    stage.sync()

    assert run("backfill", *options) == cli.USAGE
    text = said(capsys)
    assert told in text
    assert text.endswith("Nothing was done.")
    assert stage.world.documents.read("stamp", "backfill") is None


def test_a_missing_certificate_bundle_is_named(tmp_path: Path) -> None:
    stage = Stage()
    environment = {
        "DATAVERSE_URL": stage.settings.dataverse_url,
        "DATAVERSE_AUTHORITY_HOST": stage.settings.dataverse_url,
        "DATAVERSE_TENANT_ID": stage.settings.dataverse_tenant_id,
        "DATAVERSE_CLIENT_ID": stage.settings.dataverse_client_id,
        "DATAVERSE_CLIENT_SECRET": "x",
        "MARKETO_URL": stage.settings.marketo_url,
        "MARKETO_CLIENT_ID": "x",
        "MARKETO_CLIENT_SECRET": "x",
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "REQUESTS_CA_BUNDLE": str(tmp_path / "missing.pem"),
    }

    done = in_a_process("sync", **environment)

    assert done.returncode == cli.USAGE
    assert "REQUESTS_CA_BUNDLE can't be used" in done.stderr
    assert "Traceback" not in done.stderr


# --- probe ------------------------------------------------------------------------------------------------------

SANDBOX = "123-EMU-456"


@pytest.fixture
def sandbox(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(cli, "laboratory", lambda _: stage.world.target)
    monkeypatch.setattr(cli, "dataverse_url", lambda: DATAVERSE)
    monkeypatch.setattr(cli, "dynamics_probe", lambda: None)
    monkeypatch.setattr(cli, "probe_dynamics", lambda *_, **__: iter(()))
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    return stage


def asked(stage: Stage) -> int:
    return len(stage.marketo.journal.since(0))


def test_probe_alone_says_what_it_would_do_and_asks_nobody(sandbox: Stage, capsys: Any) -> None:
    assert run("probe") == cli.GOOD

    told = capsys.readouterr().out
    assert "in subscription 123-EMU-456, if `--sandbox 123-EMU-456` says" in " ".join(told.split())
    assert max(map(len, told.splitlines())) <= 80
    assert asked(sandbox) == 0


def test_probe_answers_and_status_and_probe_remember(sandbox: Stage, capsys: Any) -> None:
    assert run("probe", "--sandbox", SANDBOX, "--burst") == cli.GOOD
    told = capsys.readouterr().out
    assert "U17: Does an update that changes nothing log" in told
    assert max(map(len, told.splitlines())) <= 80

    assert run("probe", "--json") == cli.GOOD
    remembered = {each["question"]: each["answer"] for each in printed(capsys)["findings"]}
    assert (remembered["U5"], remembered["U15"]) == ("1003", "yes")
    run("status")
    assert "Probe: 19 questions answered in 123-EMU-456, last on 2026-03-02" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ("--sandbox", "999-XYZ-999"),
        ("--burst",),
        ("--dynamics-sandbox", DATAVERSE),
        ("--sandbox", SANDBOX, "--dynamics-sandbox", "https://other.example"),
    ],
    ids=" ".join,
)
def test_probe_refuses_what_was_not_confirmed(sandbox: Stage, capsys: Any, words: tuple[str, ...]) -> None:
    assert run("probe", *words, "--json") == cli.USAGE

    assert "Nothing was done" in printed(capsys)["error"]
    assert asked(sandbox) == 0


def test_probe_needs_a_person_where_a_permission_is_missing(sandbox: Stage, capsys: Any) -> None:
    allowed = ["Read-Write Opportunity", "Read-Write Company", "Read-Only Lead"]
    sandbox.marketo.switches.set({"permissions": {sandbox.settings.marketo_client_id: allowed}})

    assert run("probe", "--sandbox", SANDBOX) == cli.PROBLEMS
    assert "not answered (the API user's role lacks Read-Write Lead)" in capsys.readouterr().out


def test_ctrl_c_in_a_probe_removes_what_it_made(sandbox: Stage, capsys: Any) -> None:
    left = [20]

    def interrupted(_: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    sandbox.marketo_wire.after = interrupted

    assert run("probe", "--sandbox", SANDBOX) == 130
    assert "Nothing is lost; run it again." in capsys.readouterr().err
    assert not any(sandbox.marketo.rows(name) for name in ("opportunities", "roles", "companies", "leads"))
