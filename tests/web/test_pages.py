"""What each page shows, from an empty state to ten thousand failures, whatever stands in names and reasons."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_core.errors import ConfigurationError, Unavailable
from sync_core.flows.failures import of_ids as failures_of
from sync_core.flows.status import quietly, status
from sync_core.model import LedgerRow, State
from sync_core.web import views
from sync_core.web.acts import ACTIONS
from sync_core.web.render import BASE
from sync_core.web.site import Site
from sync_core.web.wire import Request
from tests.flows.org import Org
from tests.flows.test_actions import an_id, fill
from tests.stage import Stage
from tests.web.browser import HOST, KEY, Browser, Page, a_site
from tests.web.shape import a_lane, a_status, an_empty_status, before

HOSTILE = "</p><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7*7 }}&amp; javascript:alert(1)"


def shows(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any]) -> None:
    monkeypatch.setattr(views, "status", lambda _: found)


# --- the page itself ------------------------------------------------------------------------------------------


def test_the_builder_has_the_shape_of_a_status(stage: Stage) -> None:
    """Else these tests would prove nothing: the same keys, down to those of the empty lists' neighbours."""

    def shape(value: Any) -> Any:
        free = ("feeds", "last runs", "removals within 24 hours, without approval", "pair", "mapping")
        return (
            {name: None if name in free else shape(each) for name, each in value.items()}
            if isinstance(value, dict)
            else None
        )

    assert shape(an_empty_status()) == shape(status(stage.world))
    assert a_status().keys() - an_empty_status().keys() == {"paused", "sales persons"}


def test_before_the_first_tick_every_part_says_that_there_is_nothing(browser: Browser) -> None:
    page = browser.open()

    assert page.status == 200
    assert page.ids["verdict"].startswith("Nothing was read from Dynamics yet")
    assert (page.ids["oldest"], page.ids["last-tick"]) == ("none", "never ran")
    for text in ("Everything is in step.", "Nothing was noted yet", "Nothing ran yet", "Nobody did anything yet"):
        assert text in page.text
    assert "redrive-all" not in page.ids
    assert "undefined" not in page.text.lower()


def test_after_a_sync_it_says_what_the_sync_did(stage: Stage, org: Org, browser: Browser) -> None:
    stage.sync()

    page = browser.open()

    assert page.ids["verdict"].startswith("In step")
    assert page.ids["in-step"] == "1"
    assert page.ids["last-tick"] == "0 seconds"
    assert "following" in page.ids["feeds-table"]
    assert "detect" in page.ids["runs-table"]


def test_a_bad_day_shows_everything(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    shows(monkeypatch, a_status())

    page = browser.open()

    assert page.ids["verdict"] == "Not in step: no tick since 2026-03-02 07:20 UTC"
    assert page.ids["oldest"] == "42 minutes"
    assert page.ids["alert-tick-missed"].startswith("No tick since")
    assert "First: See what it is, by name: python" in page.ids["alert-removals-held"]
    assert "docs/operations.md, “removals-held”" in page.ids["alert-removals-held"]
    assert page.ids["needs-you"] == "31 opportunities are parked: `failures list --state parked` says why"
    assert "Marketo is being cleaned up" in page.ids["paused"]
    assert page.ids["in-step"] == "123,456"
    assert "a person is missing in Marketo" in page.ids["groups-table"]
    assert page.ids["redrive-all"] == "Try all 1,236 again…"
    assert "640 people are missing in Marketo: 702 roles of 655 opportunities" in page.ids["people"]
    assert "12 opportunities, 3 roles" in page.ids["removals"]
    assert "Ours: 20,311 of 25,000" in page.text
    assert "Everybody's: 31,000 of 50,000 (asked 12 minutes ago)" in page.text
    assert "41 messages now, about 77,900 records" in page.ids["backlog-slow"]
    assert "1,250 records a minute lately; empty in about 63 minutes." in page.ids["backlog-slow"]
    assert "40 minutes 7 days" in page.ids["feeds-table"]
    assert page.ids["last-read"] == "Read last 45 minutes ago."
    assert "opportunity.region__c : Marketo has no such field" in page.ids["left-alone"]
    assert "amber Dynamics, change tracking: off for connection" in page.ids["warnings"]
    assert "by this app" in page.ids["warnings"]
    assert page.ids["nav-failures"] == "Waiting, parked, held"
    assert "Backlog of the last 24 hours" in page.text
    assert "the webhook answered 410" in page.ids["webhook"]
    assert page.ids["runs-table"].count("UTC") == 50
    assert "40 seconds, 3 minutes" in page.ids["runs-table"]
    assert "function key paused the sync" in page.ids["actions-table"]
    assert "sales persons 120" in page.ids["ledger-table"]


def test_what_is_known_from_elsewhere_or_before_says_so(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = a_status()["Marketo calls"] | {"used today": 73, "subscription today": 22}
    checked = {"at": before(minutes=1), "by": "command line: root", "checks": []}
    backlog = [[before(minutes=28), 2, 0], [before(minutes=4), 1, 0]]
    lanes = {"fresh": a_lane(messages=9), "slow": a_lane()}
    found = {"Marketo calls": calls, "warnings": checked, "backlog": backlog, "lanes (about)": lanes}
    shows(monkeypatch, a_status(**found))

    page = browser.open()

    assert "Everybody's: 22 of 50,000 (asked 12 minutes ago, before our last calls)" in page.text
    assert "from a command line: root, with the settings there: nothing was amber or red" in page.ids["warnings"]
    assert "Backlog since 07:32 UTC" in page.text
    assert "from 07:32 to 08:00 UTC: 9 at the end, at most 9 (at 08:00 UTC)" in page.ids["chart-fresh-desc"]
    assert "now, 08:00 UTC" in page.ids["backlog-fresh"]


def test_whoever_wants_to_stop_the_sync_finds_that_beside_the_verdict(browser: Browser) -> None:
    ids = list(browser.open().ids)

    assert ids.index("refresh") < ids.index("verdict") < ids.index("pause") < ids.index("numbers")


def test_what_is_to_be_done_with_a_list_stands_above_it(stage: Stage, browser: Browser) -> None:
    fill(stage, State.PARKED)
    ids = list(browser.open("failures").ids)

    assert ids.index("redrive-all") < ids.index("failures-table")


def test_of_many_reasons_the_most_frequent_are_listed(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [
        {"kind": "opportunity", "state": "parked", "reason": f"reason {100 - count}", "count": count}
        for count in range(100, 0, -1)
    ]
    shows(monkeypatch, an_empty_status(**{"not in step": groups}))

    page = browser.open()

    assert page.ids["group-1"] == "reason 0"
    assert f"group-{views.GROUPS + 1}" not in page.ids
    assert page.ids["more-groups"] == "And 88 more reasons, of 3,916 records."
    assert page.ids["redrive-all"] == "Try all 5,050 again…"


def test_backlogs_are_drawn_with_a_text_for_who_cannot_see_them(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows(monkeypatch, a_status())

    page = browser.open()

    assert page.ids["chart-slow-title"] == "Backlog of the slow lane"
    assert "at most 400 (at 17:00 UTC), with 1 gap" in page.ids["chart-slow-desc"]
    labels = [given["aria-labelledby"] for tag, given in page.tags if tag == "svg"]
    assert labels == [f"chart-{lane}-title chart-{lane}-desc" for lane in ("fresh", "slow")]


@pytest.mark.parametrize("level", ["in step", "catching up", "needs you", "not in step"])
def test_each_level_has_its_colour_and_its_word(level: str, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    shows(monkeypatch, an_empty_status(verdict={"level": level, "text": "a line"}))

    page = browser.open()

    (verdict,) = [given for _, given in page.tags if given.get("id") == "verdict"]
    assert verdict["class"] == f"verdict {views.LEVELS[level]}"
    assert f"<title>{level.capitalize()} ·" in page.html


def test_what_nobody_knows_is_a_dash(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = a_lane(messages=5, records=None, **{"minutes until empty": None})
    shows(monkeypatch, an_empty_status(**{"lanes (about)": {"fresh": unknown, "slow": unknown}}))

    page = browser.open()

    assert "None" not in page.text
    assert "5 messages now" in page.text


def test_every_table_has_a_caption_and_every_field_a_label(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    shows(monkeypatch, a_status())
    for page in (browser.open(), browser.open("failures")):
        tags = [tag for tag, _ in page.tags]
        assert tags.count("table") == tags.count("caption")
        labelled = {given["for"] for tag, given in page.tags if tag == "label"}
        fields = {str(given["id"]) for tag, given in page.tags if tag in ("select", "meter")}
        fields |= {str(g["id"]) for tag, g in page.tags if tag == "input" and g.get("type") != "hidden"}
        assert fields <= labelled
        assert all(given.get("scope") for tag, given in page.tags if tag == "th")
        assert sum(given.get("aria-live") is not None for _, given in page.tags) <= 1


@pytest.mark.parametrize("page", ["", "failures", "x", "actions/pause", "find"])
def test_every_link_and_form_carries_the_key_on_and_leads_to_us(
    page: str, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows(monkeypatch, a_status())

    found = browser.open(page)

    for tag, attributes in found.tags:
        address = attributes.get("href") if tag == "a" else attributes.get("action") if tag == "form" else None
        if address is None or address.startswith("#"):
            continue
        assert re.match(rf"{BASE}([/?]|$)", address)  # anything else has a key of its own
        if tag == "a" or attributes.get("method") == "post":
            assert "code=k3y%2Fwith%2Bsigns%3D%3D" in address, address
    for name in ("find", "filter"):
        if name in found.forms:
            assert found.forms[name]["fields"]["code"] == KEY


def test_without_a_key_in_the_address_none_is_made_up(stage: Stage) -> None:
    """It may come in a header, or Microsoft Entra ID lets in."""
    page = Browser(a_site(stage), code="").open()

    assert "code" not in "".join(page.links.values())
    assert page.forms["find"]["fields"] == {"q": ""}


def test_a_page_says_that_nothing_may_be_kept_framed_or_fetched_from_elsewhere(browser: Browser) -> None:
    for page in (browser.open(), browser.open("nowhere")):
        policy = page.headers["Content-Security-Policy"]
        nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)
        assert nonce is not None
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        own = [given.get("nonce") for tag, given in page.tags if tag in ("style", "script")]
        assert own == [nonce[1], nonce[1]]
        assert not [given for _, given in page.tags if "style" in given or any(name.startswith("on") for name in given)]
        assert not [given["src"] for _, given in page.tags if given.get("src")]
    assert browser.open().headers["Content-Security-Policy"] != browser.open().headers["Content-Security-Policy"]


def test_what_an_action_did_is_told_once_it_is_done(browser: Browser) -> None:
    page = browser.do("pause", {"why": "cleaning up"})

    assert page.ids["done"] == "Done: paused the sync: cleaning up"
    assert "done" not in browser.open(done="999").ids
    assert "done" not in browser.open(done="../x").ids


# --- failures -------------------------------------------------------------------------------------------------


def test_ten_thousand_failures_are_paged_through_by_links(stage: Stage, browser: Browser) -> None:
    rows = [LedgerRow(an_id(number), state=State.PARKED, reason=f"reason {number % 7}") for number in range(10_000)]
    assert stage.world.opportunities.write(rows) == set()
    seen: set[str] = set()
    page, pages = browser.open("failures"), 1
    while True:
        found = {text for text in page.links if re.fullmatch(r"[0-9a-f-]{36}", text)}
        assert len(found) <= views.SIZE
        assert not found & seen
        seen |= found
        if "next" not in page.links:
            break
        page, pages = browser.follow(page.links["next"]), pages + 1

    assert seen == {row.id for row in rows}
    assert pages == 200
    assert "first" in page.links


def test_failures_are_chosen_by_kind_state_reason_and_text(stage: Stage, browser: Browser) -> None:
    parked = fill(stage, State.PARKED, "1003: a value is invalid (name)")
    fill(stage, State.WAITING, "a person is missing in Marketo", range(10, 12))
    stage.world.companies.write([LedgerRow(an_id(90), state=State.PARKED, reason="1001: too long")])

    def listed(**query: str) -> set[str]:
        return set(
            re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", browser.open("failures", **query).ids.get("failures-table", ""))
        )

    assert len(listed()) == 6
    assert listed(kind="company") == {an_id(90)}
    assert listed(state="waiting") == {an_id(10), an_id(11)}
    assert listed(reason="1003: a value is invalid (name)") == set(parked)
    assert listed(text="INVALID") == set(parked)
    assert listed(text=an_id(10)) == {an_id(10)}
    assert browser.open("failures", text="nothing").ids["none"] == "Nothing like that waits, is parked or held."


@pytest.mark.parametrize("number", [0, 3])
def test_a_page_that_comes_back_short_says_that_searching_goes_on(
    stage: Stage, browser: Browser, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """One request looks at so many and no more, whatever it has found by then."""
    found = failures_of(stage.world, fill(stage, State.PARKED, "rare", range(3)))
    answers = [(found[:number], "opportunities.parked~!"), (found, "")]
    monkeypatch.setattr(views, "page_of", lambda *_, **__: answers.pop(0))

    short = browser.open("failures", text="rare")
    last = browser.follow(short.links["next"])

    assert short.ids["goes-on"] == f"{number} shown; searching goes on: next page."
    assert "none" not in short.ids
    assert "csv" in short.links
    assert "goes-on" not in last.ids
    assert "next" not in last.links
    assert all(each.id in last.ids["failures-table"] for each in found)


def test_a_group_offers_to_try_just_itself_again(stage: Stage, browser: Browser) -> None:
    fill(stage, State.PARKED, "1003: a value is invalid (name)")
    group = browser.open().links["group-1"]

    page = browser.follow(browser.follow(group).links["redrive-group"])

    assert page.text.count("3 records (opportunity, parked): 1003: a value is invalid (name)") == 1


@pytest.mark.parametrize(
    "query", [{"kind": "person"}, {"state": "in step"}, {"after": "x"}, {"after": "opportunities.x~"}]
)
@pytest.mark.parametrize("page", ["failures", "failures.csv"])
def test_a_choice_that_is_none_is_told(browser: Browser, page: str, query: dict[str, str]) -> None:
    found = browser.open(page, **query)

    assert found.status == 400
    assert found.ids["remedy"]


# --- one opportunity ------------------------------------------------------------------------------------------


def test_an_opportunity_shows_what_explain_says(stage: Stage, org: Org, browser: Browser) -> None:
    org.stakeholder(org.ann)
    org.stakeholder(org.contact(None), "Influencer")
    stage.sync()
    org.update("opportunity", org.deal, name="Another")
    stage.clock.sleep(300)
    stage.sync()

    page = browser.open(f"opportunities/{{{org.deal.upper()}}}")

    assert page.status == 200
    assert page.ids["summary"] == "in step Marketo holds the same."
    assert f"Decision Maker {org.lead_ann} stakeholder, connection" in page.ids["roles"]
    assert "Influencer" in page.ids["left-out"]
    assert "the contact has no e-mail address" in page.ids["left-out"]
    assert "name Another Another name (Another)" in page.ids["values"]
    assert "name Another" in page.ids["row"]


def test_the_last_posts_are_told_field_by_field(stage: Stage, browser: Browser) -> None:
    deal = Org(stage).deal
    for number, name in enumerate(("One", "Two")):
        at = stage.clock.now().replace(minute=number)
        assert stage.world.history is not None
        stage.world.history.add(at, {deal: {"name": name}})

    text = browser.open(f"opportunities/{deal}").text

    assert "08:01:00 UTC Field Before Then name One Two" in text
    assert "08:00:00 UTC Field Before Then name first post kept One" in text


def test_an_opportunity_that_dynamics_does_not_show(stage: Stage, browser: Browser) -> None:
    page = browser.open(f"opportunities/{an_id(1)}")

    assert page.status == 200
    assert "Dynamics doesn't show this opportunity. Nothing says that it was deleted." in page.ids["summary"]


def test_one_that_is_parked_can_be_tried_again_and_one_that_is_held_approved(
    stage: Stage, org: Org, browser: Browser
) -> None:
    stage.sync()
    row = stage.world.opportunities.rows([org.deal])[org.deal]
    stage.world.opportunities.write([row.become(State.PARKED, reason="1003: bad")])
    assert "redrive" in browser.open(f"opportunities/{org.deal}").links

    row = stage.world.opportunities.rows([org.deal])[org.deal]
    stage.world.opportunities.write([row.become(State.HELD, reason="removals held")])
    page = browser.open(f"opportunities/{org.deal}")
    assert "approve" in page.links
    assert "redrive" not in page.links


def test_something_is_found_by_id_and_by_name(stage: Stage, org: Org, browser: Browser) -> None:
    two = [org.opportunity(f"Big {HOSTILE} {number}") for number in (1, 2)]
    assert browser.answer("find", q=org.deal).headers["Location"].startswith(f"{BASE}/opportunities/{org.deal}?code=")
    assert browser.answer("find", q=" Deal ").headers["Location"].startswith(f"{BASE}/opportunities/{org.deal}")

    page = browser.open("find", q="Big")

    assert page.status == 200
    assert page.ids["matches"].count(HOSTILE) == 2
    assert all(f"opportunities/{deal}" in "".join(page.links.values()) for deal in two)
    assert browser.open("find", q="Nobody").status == 404
    assert browser.open("find", q=" ").status == 400


# --- whatever stands in names and reasons ---------------------------------------------------------------------


def is_harmless(page: Page) -> None:
    """Nothing of what was put in became markup: no script, handler or address of its own."""
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "img" not in [tag for tag, _ in page.tags]
    assert not any(name.startswith("on") for _, given in page.tags for name in given)
    assert not [a for a in page.links.values() if not re.match(rf"#|{BASE}", a)]


def test_hostile_reasons_are_text(stage: Stage, browser: Browser) -> None:
    fill(stage, State.PARKED, HOSTILE)

    for page in (browser.open(), browser.open("failures"), browser.open("failures", text=HOSTILE, reason=HOSTILE)):
        is_harmless(page)
    assert HOSTILE in browser.open().ids["groups-table"]
    group = browser.follow(browser.open().links["group-1-redrive"])
    is_harmless(group)
    assert group.status == 200
    assert HOSTILE in group.text


def test_hostile_values_of_an_opportunity_are_text(stage: Stage, browser: Browser) -> None:
    org = Org(stage)
    org.update("opportunity", org.deal, name=HOSTILE, description=HOSTILE)
    stage.sync()

    page = browser.open(f"opportunities/{org.deal}")

    is_harmless(page)
    assert HOSTILE in page.ids["values"]


def test_hostile_input_is_text(browser: Browser) -> None:
    for page in (browser.open(HOSTILE), browser.open(f"opportunities/{HOSTILE}"), browser.open("find", q=HOSTILE)):
        is_harmless(page)
    is_harmless(browser.do("pause", {"why": HOSTILE}))
    is_harmless(Browser(browser.site, code=HOSTILE).open())


@settings(max_examples=60)
@given(
    st.sampled_from(
        ["", "failures", "failures.csv", "opportunities/x", "find", *(f"actions/{name}" for name in ACTIONS)]
    ),
    st.dictionaries(
        st.sampled_from(["kind", "state", "reason", "text", "after", "id", "q", "done", "code"]), st.text(max_size=40)
    ),
)
def test_whatever_is_asked_gets_an_answer(page: str, query: dict[str, str]) -> None:
    """None of it is our own surprise (500)."""
    answer = a_site(Stage()).answer(Request(page, "GET", query, {}, HOST))

    assert answer.status in (200, 303, 400, 404, 409)


# --- trouble --------------------------------------------------------------------------------------------------


def raising(error: Exception, **changes: Any) -> Browser:
    def engine() -> Any:
        raise error

    return Browser(Site(engine, lambda: None, {}, **changes))  # type: ignore[arg-type, return-value]  # asked by nobody


def test_a_page_that_does_not_exist_says_where_to_go(browser: Browser) -> None:
    for page in ("nowhere", "actions", "actions/shout", "opportunities", "opportunities/", "failures/1", "find/1"):
        found = browser.open(page)
        assert found.status in (400, 404), page
        assert found.links["back"].startswith(BASE)


def test_an_id_that_is_none_is_told(browser: Browser) -> None:
    for page, query in (("opportunities/12", {}), ("actions/resync", {"id": "12"}), ("actions/resync", {})):
        found = browser.open(page, **query)
        assert found.status == 400
        assert "GUID" in found.ids["remedy"]


def test_a_wrong_setting_is_named() -> None:
    page = raising(ConfigurationError("missing settings: MARKETO_URL.")).open()

    assert page.status == 503
    assert "MARKETO_URL" in page.text


def test_a_service_that_does_not_answer_is_named_with_a_time_to_come_back() -> None:
    page = raising(Unavailable("storage gives no answer", delay=90)).open()

    assert page.status == 503
    assert "storage gives no answer" in page.text
    assert page.headers["Retry-After"] == "90"


def test_an_error_that_nobody_expected_shows_its_place_and_no_text_of_its_own() -> None:
    page = raising(ValueError("s3cret")).open()

    assert page.status == 500
    assert "ValueError in test_pages.py" in page.text
    assert "s3cret" not in page.html


# --- JSON and probes ------------------------------------------------------------------------------------------


def test_the_json_is_the_status(stage: Stage, org: Org, browser: Browser) -> None:
    stage.sync()

    answer = browser.answer("status.json")
    linked = browser.follow(browser.open().links["as-json"])

    assert linked.html == answer.body
    assert answer.headers["Content-Type"].startswith("application/json")
    assert json.loads(answer.body) == json.loads(json.dumps(status(stage.world)))
    troubled = raising(ConfigurationError("missing settings: X.")).answer("status.json")
    assert troubled.status == 503
    assert json.loads(troubled.body)["error"] == "missing settings: X."


def test_a_probe_learns_one_word(stage: Stage, org: Org, browser: Browser) -> None:
    before = browser.answer("health")
    stage.sync()
    after = Browser(a_site(stage)).answer("health")

    assert (before.status, before.body) == (503, '{"status": "needs attention"}')
    assert (after.status, after.body) == (200, '{"status": "ok"}')
    assert raising(Unavailable("no answer")).answer("health").status == 503


def test_probes_cost_us_one_status_in_ten_seconds(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = [0.0], []
    monkeypatch.setattr("sync_core.web.site.status", lambda world: asked.append(world) or an_empty_status())
    browser = Browser(a_site(stage, monotonic=lambda: now[0]))

    for seconds in (0, 1, 9.9, 10, 15, 20.1):
        now[0] = seconds
        browser.answer("health")

    assert len(asked) == 3


def test_a_probe_waits_for_no_other_and_gets_the_last_answer_for_a_minute(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a storage account that hangs would use up every thread that requests are answered by."""
    now, found, hangs, goes_on = [0.0], [0], Event(), Event()

    def status_of(_: object) -> dict[str, Any]:
        if hangs.is_set():
            goes_on.wait(60)
        return an_empty_status(healthy=True)

    monkeypatch.setattr("sync_core.web.site.status", status_of)
    browser = Browser(a_site(stage, monotonic=lambda: now[0]))

    def probe() -> None:
        found.append(browser.answer("health").status)

    hangs.set()
    with ThreadPoolExecutor(2) as pool:
        try:
            first = pool.submit(probe)
            wait_until(browser.site._asking.locked)
            pool.submit(probe).result(30)
            assert found[-1] == 503  # there is no answer yet
        finally:
            goes_on.set()
        first.result(30)
        assert found[-1] == 200
        for seconds, told in ((10, 200), (59.9, 200), (60, 503)):
            goes_on.clear()
            now[0] = seconds
            first = pool.submit(probe)
            wait_until(browser.site._asking.locked)
            pool.submit(probe).result(30)
            assert found[-1] == told
            now[0] = 0
            goes_on.set()
            first.result(30)


def wait_until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.001)


def test_what_nobody_expected_is_an_answer_to_probes_and_kept_like_any_other() -> None:
    now, asked = [0.0], []

    def engine() -> Any:
        asked.append(now[0])
        raise KeyError("s3cret")

    browser = Browser(Site(engine, lambda: None, {}, lambda: now[0]))  # type: ignore[arg-type, return-value]  # as above

    for seconds in (0, 5, 10):
        now[0] = seconds
        assert browser.answer("health").status == 503

    assert asked == [0, 10]


def test_ticks_that_found_nothing_to_do_are_told_together() -> None:
    def run(minute: int, what: str = "detect", **more: Any) -> dict[str, Any]:
        return {"at": f"2026-03-02T08:{minute:02}:00+00:00", "what": what, "counts": {}, "trouble": "", **more}

    runs = [run(9), run(8), run(7, "fresh"), run(6), run(5, trouble="no answer"), run(4, counts={"due": 1}), run(3)]

    told = [(each["at"][14:16], each.get("quiet"), each.get("since", "")[14:16]) for each in quietly(runs)]

    assert told == [
        ("09", 2, "08"),
        ("07", None, ""),
        ("06", 1, "06"),
        ("05", None, ""),
        ("04", None, ""),
        ("03", 1, "03"),
    ]
