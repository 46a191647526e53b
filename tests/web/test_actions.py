"""What is done from the page: asked before, done once, by whoever was asked, and written down."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sync_core.errors import ConfigurationError, Unavailable
from sync_core.flows import actions
from sync_core.flows.status import ACTION
from sync_core.flows.validate import Setup
from sync_core.messages import decode
from sync_core.model import Document, LedgerRow, State
from sync_core.web.confirmations import CONFIRMATION, GOOD_FOR, TIDIED, offer
from sync_core.web.site import Site
from tests.flows.org import Org
from tests.flows.test_actions import REASON, an_id, fill, queued
from tests.flows.test_validate import a_setup
from tests.stage import Stage
from tests.web.browser import Browser, Page, a_site
from tests.web.test_door import ANN


def log(stage: Stage) -> list[dict[str, Any]]:
    return [dict(value) for _, value in stage.world.documents.list(ACTION)]


def kept(stage: Stage) -> int:
    return len(stage.world.documents.list(CONFIRMATION))


def nothing_was_done(stage: Stage) -> bool:
    return not log(stage) and not sum(stage.world.queue.lengths().values())


# --- each action ----------------------------------------------------------------------------------------------


def test_one_record_is_tried_again(stage: Stage, browser: Browser) -> None:
    one, *_ = fill(stage, State.PARKED)

    page = browser.do("redrive", kind="opportunity", id=one)

    assert queued(stage) == [one]
    assert decode(stage.world.queue.queues["fresh"][0].body).force
    assert page.ids["done"] == f"Done: queued 1 record again: opportunity {one}"
    assert log(stage)[0]["who"] == "function key"


def test_a_group_is_tried_again_and_its_number_told_before(stage: Stage, browser: Browser) -> None:
    group = fill(stage, State.PARKED)
    fill(stage, State.WAITING, REASON, range(10, 15))

    asked = browser.open("actions/redrive", kind="opportunity", state="parked", reason=REASON)
    browser.do("redrive", kind="opportunity", state="parked", reason=REASON)

    assert asked.ids["do"] == "Try 3 again now"
    assert f"3 records (opportunity, parked): {REASON}" in asked.text
    assert sorted(queued(stage)) == group


def test_a_company_is_tried_again_as_such(stage: Stage, browser: Browser) -> None:
    stage.world.companies.write([LedgerRow(an_id(7), state=State.PARKED, reason=REASON)])

    browser.do("redrive", kind="company", state="parked", reason=REASON)

    (message,) = stage.world.queue.queues["fresh"]
    assert decode(message.body).accounts == (an_id(7),)


def test_everything_is_tried_again_but_held_removals(stage: Stage, browser: Browser) -> None:
    parked, waiting = fill(stage, State.PARKED), fill(stage, State.WAITING, ids=range(10, 12))
    fill(stage, State.HELD, ids=range(20, 24))

    assert browser.open("actions/redrive").ids["do"] == "Try 5 again now"
    browser.do("redrive")

    assert sorted(queued(stage)) == sorted([*parked, *waiting])


def test_what_can_t_be_tried_again_is_told(stage: Stage, org: Org, browser: Browser) -> None:
    stage.sync()
    fill(stage, State.HELD)

    held = browser.open("actions/redrive", kind="opportunity", state="held", reason=REASON)
    assert (held.status, "approve-removals" in held.links["to"]) == (409, True)
    assert browser.open("actions/redrive").status == 409
    assert browser.open("actions/redrive", kind="opportunity", state="parked", reason="gone").status == 409
    assert browser.open("actions/redrive", kind="opportunity", id=org.deal).status == 409
    assert browser.open("actions/redrive", kind="opportunity", id=an_id(99)).status == 404
    assert browser.open("actions/redrive", kind="person", id=org.deal).status == 400
    assert kept(stage) == 0


def test_an_opportunity_is_looked_at_again(stage: Stage, org: Org, browser: Browser) -> None:
    browser.do("resync", id="{" + org.deal.upper() + "}")  # only Dynamics knows it
    assert queued(stage) == [org.deal]
    stage.sync()
    org.delete("opportunity", org.deal)

    browser.do("resync", id=org.deal)  # only the ledger does

    assert queued(stage) == [org.deal]
    assert browser.open("actions/resync", id=an_id(5)).status == 404


def test_pause_and_resume(stage: Stage, browser: Browser) -> None:
    assert browser.open("actions/resume").status == 409

    paused = browser.do("pause", {"why": "Marketo is being  cleaned up " + "x" * 500})
    assert "Marketo is being cleaned up" in paused.ids["paused"]
    assert len(paused.ids["paused"]) < actions.LONGEST_WHY + 100
    assert "It is paused already, since 2026-03-02 08:00 UTC" in browser.open("actions/pause").text

    resumed = browser.do("resume")
    assert "paused" not in resumed.ids
    assert log(stage)[0]["what"] == "resumed the sync"


def test_one_held_removal_passes(stage: Stage, browser: Browser) -> None:
    held = fill(stage, State.HELD)

    browser.do("approve-removals", id=held[1])

    rows = stage.world.opportunities.rows(held)
    assert [key for key, row in rows.items() if row.approved] == [held[1]]
    assert browser.open("actions/approve-removals", id=an_id(77)).status == 409


def test_all_held_removals_pass_after_they_were_shown(stage: Stage, browser: Browser) -> None:
    held = fill(stage, State.HELD, ids=range(60))

    asked = browser.open("actions/approve-removals")
    assert asked.ids["do"] == "Approve 60 now"
    assert "And 10 more" in asked.text
    browser.do("approve-removals")

    assert all(row.approved for row in stage.world.opportunities.rows(held).values())


def test_no_more_removals_pass_than_were_shown(stage: Stage, browser: Browser) -> None:
    fill(stage, State.HELD)
    asked = browser.open("actions/approve-removals")
    later = fill(stage, State.HELD, ids=range(10, 11))

    refused = browser.send(asked.forms["confirm"])

    assert refused.status == 409
    assert "Meanwhile others are held than were shown: 4 now, 3 then" in Page(refused).text
    assert not any(row.approved for row in stage.world.opportunities.rows([an_id(0), *later]).values())
    assert browser.open("actions/approve-removals").ids["do"] == "Approve 4 now"


def test_no_other_removals_pass_than_were_shown(stage: Stage, browser: Browser) -> None:
    """As many as before, but one of them another: nobody has seen that one."""
    ledger, held = stage.world.opportunities, fill(stage, State.HELD, ids=range(60))
    asked = browser.open("actions/approve-removals")
    ledger.write([ledger.rows(held)[held[-1]].become(State.IN_STEP)])
    (other,) = fill(stage, State.HELD, ids=range(99, 100))

    refused = browser.send(asked.forms["confirm"])

    assert refused.status == 409
    assert "60 now, 60 then" in Page(refused).text
    assert not any(row.approved for row in ledger.rows([*held, other]).values())


def test_the_order_of_the_held_is_none_of_a_confirmation(stage: Stage, browser: Browser) -> None:
    """When one is due moves it within its list, and nothing else."""
    ledger, held = stage.world.opportunities, fill(stage, State.HELD)
    asked = browser.open("actions/approve-removals")
    ledger.write([replace(ledger.rows(held)[held[0]], due=stage.clock.now())])

    assert browser.send(asked.forms["confirm"]).status == 303
    assert all(row.approved for row in ledger.rows(held).values())


def test_removals_are_shown_with_names_and_roles(stage: Stage, org: Org, browser: Browser) -> None:
    stage.people("ann@acme.invalid")
    org.stakeholder(org.ann)
    stage.sync()
    gone = fill(stage, State.HELD)
    ledger = stage.world.opportunities
    ledger.write([ledger.rows([org.deal])[org.deal].become(State.HELD, reason=REASON)])

    for asked in (browser.open("actions/approve-removals"), browser.open("actions/approve-removals", id=org.deal)):
        assert f"{org.deal} Deal, 1 role" in asked.ids["removals"]
    assert f"{gone[0]} not in Dynamics any more, 0 roles" in browser.open("actions/approve-removals").ids["removals"]
    org.delete("opportunity", org.deal)
    asked = browser.open("actions/approve-removals", id=org.deal)
    assert f"{org.deal} Deal, not in Dynamics any more, 1 role" in asked.ids["removals"], "by Marketo's name"


def test_what_was_approved_is_not_asked_for_again(stage: Stage, org: Org, browser: Browser) -> None:
    stage.sync()
    fill(stage, State.HELD)
    page = browser.do("approve-removals")

    assert "approve-removals" not in page.ids
    assert "alert-removals-held" not in page.ids
    assert "held approved: goes with the next delivery" in page.ids["groups-table"].replace(", held", " held")
    assert "Approve" not in page.ids["groups-table"]
    assert "3 approved removals, which go with the next delivery" in page.ids["verdict"]
    assert "Approve" not in browser.open("failures").ids["failures-table"]
    assert "No removal waits for approval." in browser.open("actions/approve-removals").text


@pytest.mark.parametrize("query", [{}, {"id": an_id(1)}])
def test_removals_can_be_approved_while_dynamics_gives_no_answer(
    stage: Stage, browser: Browser, monkeypatch: pytest.MonkeyPatch, query: dict[str, str]
) -> None:
    def silent(*_: Any) -> None:
        raise Unavailable("Dynamics gives no answer")

    fill(stage, State.HELD)
    monkeypatch.setattr(stage.world.source, "rows", silent)
    asked = browser.open("actions/approve-removals", **query)

    assert "Names and roles can't be shown: Dynamics gives no answer" in asked.text
    assert an_id(1) in asked.ids["removals"]
    assert browser.send(asked.forms["confirm"]).status == 303


def test_check_now_keeps_the_warnings_and_shows_them(stage: Stage, org: Org) -> None:
    stage.sync()
    site = Site(lambda: stage.engine, lambda: a_setup(stage, schedule="never"), {})

    page = Browser(site).do("check")

    assert "1 red" in page.ids["done"]
    assert "Checked 0 seconds ago" in page.text
    assert "red" in page.ids["warnings"]


def test_a_check_without_storage_says_so(stage: Stage) -> None:
    def setup() -> Setup:
        return a_setup(stage, problems=[("AzureWebJobsStorage", "AzureWebJobsStorage is missing")])

    browser = Browser(Site(lambda: stage.engine, setup, {}))
    asked = browser.open("actions/check")

    assert browser.send(asked.forms["confirm"]).status == 503


def test_an_action_that_fails_says_why(
    stage: Stage, org: Org, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ConfigurationError("Storage refuses us (403)")

    asked = browser.open("actions/resync", id=org.deal)
    monkeypatch.setattr(stage.world.queue, "put", fails)

    refused = browser.send(asked.forms["confirm"])

    assert refused.status == 503
    assert "Storage refuses us (403)" in Page(refused).text
    assert log(stage)[0]["what"].endswith("ended early, Storage refuses us (403)")


# --- asked before, once, by the same --------------------------------------------------------------------------


def test_looking_does_nothing(stage: Stage, org: Org, browser: Browser) -> None:
    fill(stage, State.PARKED)
    for page in ("", "failures", "actions/redrive", "actions/pause", f"opportunities/{org.deal}"):
        browser.open(page)

    assert nothing_was_done(stage)


@pytest.mark.parametrize("nonce", [None, "", "x", "99999999999-" + "a" * 43, "99999999999-/../" + "a" * 43])
def test_without_a_confirmation_nothing_is_done(stage: Stage, browser: Browser, nonce: str | None) -> None:
    body = "" if nonce is None else f"nonce={nonce}"

    answer = browser.answer("actions/pause", "POST", body)

    assert answer.status == 403
    assert "Nothing was done" in Page(answer).text
    assert nothing_was_done(stage)


def test_a_form_sent_twice_is_done_once(stage: Stage, org: Org, browser: Browser) -> None:
    form = browser.open("actions/resync", id=org.deal).forms["confirm"]

    assert [browser.send(form).status for _ in range(3)] == [303, 403, 403]
    assert queued(stage) == [org.deal]
    assert kept(stage) == 0


def test_of_two_that_send_it_at_once_one_gets_through(
    stage: Stage, org: Org, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes when the first has read the confirmation, and is through before that one goes on."""
    form = browser.open("actions/resync", id=org.deal).forms["confirm"]
    read, second = stage.world.documents.read, []

    def overtaken(kind: str, name: str) -> Document | None:
        found = read(kind, name)
        if kind == CONFIRMATION and not second:
            second.append(0)
            second[0] = browser.send(form).status
        return found

    monkeypatch.setattr(stage.world.documents, "read", overtaken)

    first = browser.send(form).status

    assert (first, second) == (403, [303])
    assert queued(stage) == [org.deal]


def test_a_confirmation_is_good_for_ten_minutes(stage: Stage, org: Org, browser: Browser) -> None:
    form = browser.open("actions/resync", id=org.deal).forms["confirm"]
    stage.clock.sleep(GOOD_FOR.total_seconds())

    assert browser.send(form).status == 403
    assert nothing_was_done(stage)


def test_a_confirmation_is_good_for_its_action_alone(stage: Stage, org: Org, browser: Browser) -> None:
    form = browser.open("actions/resync", id=org.deal).forms["confirm"]
    other = browser.open("actions/pause").forms["confirm"]

    assert browser.send(form | {"action": other["action"]}).status == 403
    assert nothing_was_done(stage)


def test_what_is_done_is_what_was_shown_whatever_the_form_says(stage: Stage, org: Org, browser: Browser) -> None:
    fill(stage, State.PARKED)
    form = browser.open("actions/resync", id=org.deal).forms["confirm"]

    browser.send(form, id=an_id(1), kind="opportunity")

    assert queued(stage) == [org.deal]


def test_a_confirmation_is_good_for_who_asked_alone(stage: Stage, org: Org) -> None:
    env = {"STATUS_SIGN_IN": "entra", "WEBSITE_AUTH_ENABLED": "True"}
    ann, bob = (
        Browser(a_site(stage, env), code="", headers=ANN | {"x-ms-client-principal-id": an_id(number)})
        for number in (1, 2)
    )
    form = ann.open("actions/resync", id=org.deal).forms["confirm"]

    assert bob.send(form).status == 403
    assert ann.send(form).status == 303
    assert log(stage)[0]["who"] == f"entra:{an_id(1)}"


def test_old_confirmations_go_when_new_ones_come(stage: Stage, browser: Browser) -> None:
    for _ in range(TIDIED + 5):
        browser.open("actions/pause")
    stage.clock.sleep(GOOD_FOR.total_seconds())

    browser.open("actions/pause")
    assert kept(stage) == 6
    browser.open("actions/pause")
    assert kept(stage) == 2


def test_no_two_confirmations_are_alike_and_none_can_be_guessed(stage: Stage) -> None:
    made = {offer(stage.world, "pause", {}, "x") for _ in range(50)}

    assert len(made) == 50
    assert {len(each) for each in made} == {55}  # 11 digits, a dash, 32 bytes


def test_an_action_can_only_be_sent_to_an_action(stage: Stage, browser: Browser) -> None:
    for page in ("", "failures", "actions", "actions/shout", "status.json"):
        assert browser.answer(page, "POST", "nonce=x").status == 405
    assert browser.answer("actions/pause", "POST", "nonce=" + "x" * 20_000).status == 403


def test_the_log_names_nobody_out_of_crm(stage: Stage, org: Org, browser: Browser) -> None:
    """design.md §2.10: ids, counts and our own words, and whatever somebody gave as a reason for a pause."""
    org.update("opportunity", org.deal, name="Zoltana Quxworthy")
    stage.sync()
    browser.do("resync", id=org.deal)
    browser.do("check")

    assert len(log(stage)) == 2
    assert "Zoltana" not in str(log(stage))
