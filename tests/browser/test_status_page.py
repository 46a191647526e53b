"""The status page in a real browser, over an emulated org: what it shows, to whom, and that nothing runs in it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests

from sync_core.model import Lane, LedgerRow, State, Work
from tests.browser.visitor import Visitor, address, cells, click, in_state, status, texts
from tools.showcase import HELD, LATER, REMOVED, RENAMED, Showcase

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.timeout(240)

HOSTILE = "<script>hacked = 1</script><img src=x onerror=hacked=1>\"'{{ 7 * 7 }}&amp;javascript:hacked=1"
NO_ID = "00000000-0000-4000-8000-00000000dead"
TALLEST_ROW = "Math.max(...[...document.querySelectorAll('tr')].map(each => each.offsetHeight), 0)"
STOP = """() => {
    const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
    const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    return [[...document.querySelectorAll("*")].indexOf(at), outlined && box.width > 0 && box.left >= 0];
}"""  # where in the document the focus is, and whether one sees that
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def deal(showcase: Showcase) -> str:
    """An open opportunity with a role, which Marketo holds."""
    rows = showcase.world.opportunities.rows(showcase.changeable())
    return next(key for key, row in rows.items() if row.roles)


@pytest.fixture(scope="module")
def pages(showcase: Showcase, deal: str) -> dict[str, str]:
    """Every page there is, by what is on it."""
    parked, held = in_state(showcase, State.PARKED)[0], in_state(showcase, State.HELD)[0]
    return {
        "the status": address(showcase),
        "failures": address(showcase, "failures"),
        "chosen failures": address(showcase, "failures", kind="opportunity", state="parked", text="amount"),
        "no such failure": address(showcase, "failures", text="nobody has this reason"),
        "in step": address(showcase, f"opportunities/{deal}"),
        "parked": address(showcase, f"opportunities/{parked}"),
        "held": address(showcase, f"opportunities/{held}"),
        "waiting": address(showcase, f"opportunities/{in_state(showcase, State.WAITING)[0]}"),
        "unknown": address(showcase, f"opportunities/{NO_ID}"),
        "found": address(showcase, "find", q="a"),
        "one action": address(showcase, "actions/redrive", kind="opportunity", id=parked),
        "all actions": address(showcase, "actions/redrive"),
        "approval": address(showcase, "actions/approve-removals"),
        "pause": address(showcase, "actions/pause"),
        "resync": address(showcase, "actions/resync", id=deal),
        "check": address(showcase, "actions/check"),
    }


TROUBLE = {
    "nothing found": ("find", {"q": "no opportunity is called that"}, 404),
    "no such page": ("nowhere", {}, 404),
    "no id": ("opportunities/1", {}, 400),
    "not paused": ("actions/resume", {}, 409),
}


# --- what it shows ------------------------------------------------------------------------------------------------


def but_for_times(text: str) -> str:
    """A minute may end between two looks."""
    return re.sub(r"\d\d:\d\d UTC", "… UTC", text)


def test_the_first_lines_say_how_it_stands(showcase: Showcase, visitor: Visitor) -> None:
    visitor.page.goto(showcase.page)
    found = status(showcase)

    assert list(map(but_for_times, texts(visitor.page, "#verdict"))) == [but_for_times(found["verdict"]["text"])]
    assert texts(visitor.page, "#alerts .alerts strong")[0].lower() == found["alerts"][0]["text"].lower()
    assert {each["name"] for each in found["alerts"]} == {"removals-held", "poison", "field-suspended"}
    assert visitor.page.locator("#alerts .alerts li").count() == 3
    told = texts(visitor.page, "#needs-you li")
    assert told
    assert set(told) <= set(found["needs you"])  # what an alert has told already stands there only once
    assert texts(visitor.page, "#oldest") == ["none"]
    assert re.fullmatch(r"\d+ (second|minute)s?", texts(visitor.page, "#last-tick")[0])


def test_the_ledger_and_what_is_not_in_step_by_reason(showcase: Showcase, visitor: Visitor) -> None:
    visitor.page.goto(showcase.page)
    found = status(showcase)
    deals = found["opportunities"]

    assert deals["held"] == HELD
    assert deals["gone"] == REMOVED
    assert min(deals.values()) > 0
    names = ("in step", "waiting", "parked", "held", "gone", "left out", "roles")
    assert cells(visitor.page, "#ledger-table")[0] == ["opportunities", *(str(deals[name]) for name in names)]
    assert texts(visitor.page, "#parked") == [str(deals["parked"])]
    shown = [(row[0], row[1], row[2]) for row in cells(visitor.page, "#groups-table")]
    assert shown == [(str(g["count"]), f"{g['kind']}, {g['state']}", g["reason"]) for g in found["not in step"]]
    assert {g["count"] for g in found["not in step"] if "closeDate" in g["reason"]} == {RENAMED}
    people = found["people missing"]
    assert texts(visitor.page, "#people")[0].startswith(
        f"{people['people']} people are missing in Marketo: {people['roles']} roles of {people['opportunities']} opp"
    )
    assert texts(visitor.page, "#removals") == [f"Removed within 24 hours without approval: {REMOVED} opportunities."]


def test_the_backlog_is_a_line_for_each_lane(showcase: Showcase, visitor: Visitor) -> None:
    visitor.page.goto(showcase.page)

    for lane, most in (("fresh", r"1\d"), ("slow", "58")):
        figure = visitor.page.locator(f"#backlog-{lane}")
        line = figure.locator("path.line")
        box = line.bounding_box()
        assert box is not None
        assert box["width"] > 300
        assert box["height"] > 60
        assert str(line.get_attribute("d")).count("L") > 250
        described = str(figure.locator("desc").text_content())
        assert re.search(rf"at most {most} \(at \d\d:\d\d UTC\), with 1 gap where nothing was noted", described)
        assert "0 messages now" in figure.inner_text()
        assert re.search(r"[\d,]+ records a minute lately; empty\.", figure.inner_text())
    assert visitor.page.get_by_role("img", name="Backlog of the fresh lane").count() == 1


def test_feeds_calls_mapping_checks_and_what_operators_did(showcase: Showcase, visitor: Visitor) -> None:
    visitor.page.goto(showcase.page)
    found = status(showcase)

    feeds = cells(visitor.page, "#feeds-table")
    assert [(row[0], row[1]) for row in feeds] == [(name, each["mode"]) for name, each in found["feeds"].items()]
    assert all(re.match(r"\d+ (second|minute)", row[2]) and row[3] == "7 days" for row in feeds)
    calls = found["Marketo calls"]
    assert texts(visitor.page, "label[for=calls-ours]") == [f"Ours: {calls['used today']} of {calls['our share']}"]
    assert visitor.page.locator("#calls-ours").evaluate("each => each.value / each.max") == pytest.approx(
        calls["used today"] / calls["our share"]
    )
    assert f"Everybody's: {calls['subscription today']} of 50,000" in texts(visitor.page, "label[for=calls-all]")[0]
    field = LATER[1].split()[0]
    assert f"opportunity.{field}: Marketo has no such field" in texts(visitor.page, "#left-alone li")[0]
    assert found["mapping"]["version"] in visitor.page.locator("#mapping").inner_text()
    lights = [" ".join(each["light"].split()) for each in found["warnings"]["checks"]]
    assert "red" in lights
    assert texts(visitor.page, "#warnings li .tag") == lights
    assert cells(visitor.page, "#actions-table")[0][2].startswith("checked everything: ")


def test_the_last_runs_say_what_came_of_them(showcase: Showcase, visitor: Visitor) -> None:
    visitor.page.goto(showcase.page)
    runs = cells(visitor.page, "#runs-table")

    assert {row[1] for row in runs} == {"detect", "fresh", "slow"}
    assert any("opportunities posted" in row[3] and "opportunities parked" in row[3] for row in runs)
    assert any("roles removed" in row[3] for row in runs)
    assert any("1 poison" in row[3] for row in runs)
    assert [row[0] for row in runs] == sorted((row[0] for row in runs), reverse=True)
    assert len(runs) <= 50


def test_the_same_as_json(showcase: Showcase, browser: Browser) -> None:
    with Visitor(browser) as visitor:
        visitor.page.goto(showcase.page)
        click(visitor.page, "#as-json")
        shown = json.loads(visitor.page.locator("body").inner_text())

    assert shown["opportunities"] == status(showcase)["opportunities"]


def test_probes_get_no_data_and_need_no_key(showcase: Showcase) -> None:
    answer = requests.get(f"{showcase.api}/health", timeout=30)

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    for page in ("status", "status.json", "status/failures", "status/actions/pause"):
        refused = requests.get(f"{showcase.api}/{page}", timeout=30)
        assert (refused.status_code, refused.text) == (401, "")


# --- failures and opportunities -----------------------------------------------------------------------------------


def test_from_a_reason_to_its_records_to_one_of_them(showcase: Showcase, visitor: Visitor) -> None:
    page = visitor.page
    page.goto(showcase.page)
    click(page, page.get_by_role("link", name=re.compile("closeDate")).first)

    rows = cells(page, "#failures-table")
    assert len(rows) == RENAMED
    assert all("parked" in row[1] and "closeDate" in row[2] for row in rows)
    click(page, page.locator("#failures-table a.id").first)
    assert "closeDate" in page.locator("#reason").inner_text()
    assert page.locator("#state").inner_text() == "parked"


def test_filter_and_search(showcase: Showcase, visitor: Visitor) -> None:
    page = visitor.page
    page.goto(address(showcase, "failures"))
    everything = len(cells(page, "#failures-table"))

    page.get_by_label("State").select_option("held")
    click(page, "#choose")
    assert len(cells(page, "#failures-table")) == HELD
    click(page, page.get_by_role("link", name="Show all"))
    assert len(cells(page, "#failures-table")) == everything
    page.get_by_label("Part of the reason or of the id").fill("NOT in marketo")
    click(page, "#choose")
    assert {row[1] for row in cells(page, "#failures-table")} == {"waiting"}
    key = in_state(showcase, State.HELD)[0]
    page.get_by_label("Part of the reason or of the id").fill(key[3:20])
    click(page, "#choose")
    assert [row[0].split()[-1] for row in cells(page, "#failures-table")] == [key]


def test_the_list_as_csv(showcase: Showcase, visitor: Visitor) -> None:
    visitor.page.goto(address(showcase, "failures", state="parked"))
    shown = {row[0].split()[-1] for row in cells(visitor.page, "#failures-table")}
    with visitor.page.expect_download() as download:
        visitor.page.locator("#csv").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8-sig"))))

    assert download.value.suggested_filename == "failures.csv"
    assert {row["id"] for row in rows} == shown
    assert {row["state"] for row in rows} == {"parked"}


def test_one_opportunity_tells_all_that_explain_tells(showcase: Showcase, visitor: Visitor, deal: str) -> None:
    told = json.loads(showcase.services.command("explain", deal, "--json"))
    visitor.page.goto(address(showcase, f"opportunities/{deal}"))
    page = visitor.page

    assert page.locator("#state").inner_text() == "in step"
    values = {row[0]: row for row in cells(page, "#values")}
    assert values.keys() == told["fields"].keys()
    assert values["name"][1].strip() == values["name"][2].strip() == told["row"]["name"]
    assert len(cells(page, "#roles")) == len(told["roles"]) > 0
    assert "forecast__c: Marketo has no such field" in page.locator("main").inner_text()
    assert told["row"]["name"] in page.locator("#row").inner_text()


def test_a_removed_one_says_so(showcase: Showcase, visitor: Visitor) -> None:
    visitor.page.goto(address(showcase, f"opportunities/{in_state(showcase, State.HELD)[0]}"))

    assert "It was deleted there." in visitor.page.locator("#summary").inner_text()
    assert "still holds it" in visitor.page.locator("main").inner_text()


def test_an_opportunity_is_found_by_id_and_by_name(showcase: Showcase, visitor: Visitor, deal: str) -> None:
    page, name = visitor.page, showcase.dataverse.get(f"rows/opportunity/{deal}")["name"]
    for text in (deal, deal.upper(), name):
        page.goto(showcase.page)
        page.get_by_role("searchbox", name="Opportunity, by id").fill(text)
        click(page, page.get_by_role("button", name="Find"))
        assert page.get_by_role("heading", level=1).inner_text() == f"Opportunity {deal}"
    page.get_by_role("searchbox").fill("a")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert len(texts(page, "#matches li")) > 1


@pytest.mark.parametrize("name", TROUBLE)
def test_what_goes_wrong_is_a_page_with_a_remedy(showcase: Showcase, browser: Browser, name: str) -> None:
    page, query, code = TROUBLE[name]
    with Visitor(browser) as visitor:
        answer = visitor.page.goto(address(showcase, page, **query))

        assert answer is not None
        assert answer.status == code
        assert visitor.barriers() == []
        click(visitor.page, visitor.page.get_by_role("link", name="Status", exact=True))
        assert visitor.page.locator("#verdict").count() == 1
    assert [fault for fault in visitor.faults if str(code) not in fault] == []  # the console tells of the status


# --- strangers' texts -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(showcase: Showcase) -> Iterator[str]:
    """An opportunity and an account with hostile names, and a record whose reason is hostile; the opportunity's id."""
    key = showcase.changeable()[5]
    row = showcase.dataverse.get(f"rows/opportunity/{key}")
    edits = [{"op": "update", "table": "opportunity", "id": key, "values": {"name": HOSTILE, "description": HOSTILE}}]
    if account := row.get("_parentaccountid_value"):
        edits.append({"op": "update", "table": "account", "id": account, "values": {"name": HOSTILE}})
    showcase.dataverse.post("edit", edits)
    wrong = LedgerRow(NO_ID, state=State.PARKED, reason=HOSTILE)
    assert showcase.world.opportunities.write([wrong]) == set()
    showcase.wait_for(
        lambda: any(HOSTILE[:200] in str(row.get("name")) for row in showcase.marketo.get("rows/opportunities")),
        "the hostile name is in Marketo",
    )
    yield key
    written = showcase.world.opportunities.rows([NO_ID])[NO_ID]
    showcase.world.opportunities.write([written.become(State.GONE)])


def require_harmless(visitor: Visitor) -> None:
    assert visitor.page.evaluate("typeof hacked") == "undefined"
    assert visitor.page.locator("main img, main script").count() == 0


def test_hostile_names_and_reasons_are_shown_as_text(showcase: Showcase, visitor: Visitor, hostile: str) -> None:
    page = visitor.page
    for where in ("", "failures", f"opportunities/{hostile}", f"opportunities/{NO_ID}"):
        page.goto(address(showcase, where))
        assert HOSTILE in page.locator("main").inner_text()
        require_harmless(visitor)
    page.goto(address(showcase, "find", q="<script>hacked"))
    assert page.locator("#row").count() == 1
    page.goto(showcase.page)
    click(page, page.locator("#groups-table").get_by_role("link", name=HOSTILE, exact=True))
    assert page.get_by_label("Just this reason").input_value() == HOSTILE
    assert len(cells(page, "#failures-table")) == 1
    click(page, "#redrive-group")
    assert HOSTILE in page.locator("main").inner_text()
    require_harmless(visitor)


@pytest.mark.parametrize(
    ("page", "name"), [("failures", "text"), ("failures", "reason"), ("find", "q"), ("", "done"), ("failures", "other")]
)
def test_hostile_addresses_are_shown_as_text(showcase: Showcase, browser: Browser, page: str, name: str) -> None:
    with Visitor(browser) as visitor:
        visitor.page.goto(address(showcase, page, **{name: f"{HOSTILE}no such"}))
        require_harmless(visitor)
    assert [fault for fault in visitor.faults if "404" not in fault] == []


# --- for everybody --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_barriers(browser: Browser, pages: dict[str, str], scheme: Any) -> None:
    found = {}
    with Visitor(browser, color_scheme=scheme) as visitor:
        for name, where in pages.items():
            visitor.page.goto(where)
            found[name] = visitor.barriers()
        ground = visitor.page.evaluate("getComputedStyle(document.body).backgroundColor")
    visitor.require_clean()

    assert {name: lines for name, lines in found.items() if lines} == {}
    brightness = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert brightness > 200 if scheme == "light" else brightness < 50


@pytest.fixture
def long_run(showcase: Showcase) -> Iterator[None]:
    """A run with everything that a run can say, as long as it gets."""
    said = {"counts": dict.fromkeys(("opportunities posted", "roles removed", "companies parked"), 123_456)}
    said |= {
        "size": 0,
        "done": 0,
        "trouble": "x" * 200,
        "trace": "0123456789abcdef" * 2,
        "freshness": [40_000.0, 7_000_000.5],
    }
    run = {"at": datetime.now(UTC).isoformat(), "seconds": 1234.567, **said}
    known = showcase.world.documents.read("run", "slow")
    assert known
    showcase.world.change("run", "slow", lambda value: {**value, "runs": [run, *value["runs"]]})
    yield
    showcase.world.change("run", "slow", lambda _: known.value)


@pytest.mark.usefixtures("long_run")
@pytest.mark.parametrize("width", [320, 700, 1000])
def test_at_no_width_the_page_scrolls_sideways_or_has_barriers(
    browser: Browser, pages: dict[str, str], width: int
) -> None:
    found = {}
    with Visitor(browser, viewport={"width": width, "height": 800}) as visitor:
        for name in ("the status", "failures", "in step", "approval"):
            visitor.page.goto(pages[name])
            found[name] = (visitor.page.evaluate("document.documentElement.scrollWidth"), visitor.barriers())
        visitor.page.goto(pages["the status"])
        assert "x" * 200 in visitor.page.locator("#runs-table").inner_text()
    visitor.require_clean()

    assert found == dict.fromkeys(found, (width, []))


@pytest.mark.usefixtures("long_run")
def test_on_a_phone_nothing_scrolls_sideways_and_nothing_is_a_barrier(browser: Browser, pages: dict[str, str]) -> None:
    found = {}
    with Visitor(browser, viewport=PHONE, is_mobile=True, has_touch=True) as visitor:
        for name, where in pages.items():
            visitor.page.goto(where)
            width = visitor.page.evaluate("document.documentElement.scrollWidth")
            tallest = visitor.page.evaluate(
                "Math.max(...[...document.querySelectorAll('tr')].map(e => e.offsetHeight), 0)"
            )
            found[name] = (width, tallest < 400, visitor.barriers())
        visitor.page.goto(pages["the status"])
        rights = "[...document.querySelectorAll('#ledger-table td')].map(e => e.getBoundingClientRect().right)"
        assert visitor.page.evaluate(f"Math.max(...{rights}) <= innerWidth"), "no state hidden at the side"
    visitor.require_clean()

    assert found == dict.fromkeys(pages, (PHONE["width"], True, []))


def test_the_keyboard_goes_everywhere_in_the_order_of_reading(showcase: Showcase, visitor: Visitor) -> None:
    page = visitor.page
    page.goto(showcase.page)
    page.get_by_role("button", name="Pause refreshing").wait_for()
    reachable = page.evaluate(
        "[...document.querySelectorAll('a[href], button, input:not([type=hidden]), [tabindex=\"0\"]')].length"
    )
    stops: list[tuple[float, bool]] = []
    for _ in range(reachable):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(STOP))

    assert [order for order, _ in stops] == sorted({order for order, _ in stops})  # each once, as they stand there
    assert all(seen for _, seen in stops)


def test_the_skip_link_goes_to_the_content(showcase: Showcase, visitor: Visitor) -> None:
    visitor.page.goto(showcase.page)
    visitor.page.keyboard.press("Tab")
    assert visitor.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    visitor.page.keyboard.press("Enter")

    assert visitor.page.evaluate("document.activeElement.id") == "main"
    visitor.page.keyboard.press("Tab")
    assert visitor.page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_a_screen_reader_is_told_of_sections_and_tables(showcase: Showcase, visitor: Visitor) -> None:
    page = visitor.page
    page.goto(showcase.page)

    assert page.get_by_role("status").inner_text() == page.locator("#verdict").inner_text()
    for name in ("Waiting, parked, held, by reason", "The ledger", "Backlog of the last 24 hours", "The last runs"):
        assert page.get_by_role("region", name=name).count() == 1
    assert page.get_by_role("table", name="Records by state").get_by_role("columnheader").count() == 8
    assert page.get_by_role("navigation", name="Pages").get_by_role("link", name="Status").get_attribute("aria-current")


def test_without_scripts_it_is_all_there(showcase: Showcase, browser: Browser) -> None:
    with Visitor(browser, java_script_enabled=False) as visitor:
        page = visitor.page
        page.goto(showcase.page)
        assert but_for_times(page.locator("#verdict").inner_text()) == but_for_times(
            status(showcase)["verdict"]["text"]
        )
        assert page.get_by_role("button", name="Pause refreshing").count() == 0
        assert "Reload the page" in page.locator("#refresh-note").inner_text()
        click(page, page.get_by_role("link", name="Search them all"))
        assert page.locator("#failures-table").count() == 1
    visitor.require_clean()


# --- refreshing itself ------------------------------------------------------------------------------------------------


def later(page: Page) -> None:
    """Half a minute passes in the browser."""
    page.clock.run_for(31_000)


@pytest.fixture
def watched(showcase: Showcase, visitor: Visitor) -> Page:
    """The page, in a browser whose time is ours; `mark` goes with the page."""
    visitor.page.clock.install()
    visitor.page.goto(showcase.page)
    visitor.page.evaluate("mark = 1")
    return visitor.page


def new_warning(showcase: Showcase, text: str) -> None:
    showcase.world.change("watch", "validate", lambda known: {**known, "checks": [warning(text)]})


def warning(text: str) -> dict[str, str]:
    return {"group": "Test", "name": "refresh", "light": "amber", "found": text, "remedy": "none"}


def test_it_shows_what_changed_without_a_reload_and_leaves_the_focus(showcase: Showcase, watched: Page) -> None:
    watched.locator("#pause").focus()
    top = watched.evaluate("scrollY")
    new_warning(showcase, "seen without a reload")
    later(watched)
    watched.get_by_text("seen without a reload").wait_for()

    assert watched.evaluate("mark") == 1
    assert watched.evaluate("document.activeElement.id") == "pause"
    assert abs(watched.evaluate("scrollY") - top) < 40


def test_it_does_not_disturb_who_types_or_has_paused_it(showcase: Showcase, watched: Page) -> None:
    watched.get_by_role("searchbox").fill("half a na")
    new_warning(showcase, "not while typing")
    later(watched)
    watched.get_by_text("Not refreshed just now: a form is being filled in.").wait_for()
    assert watched.get_by_role("searchbox").input_value() == "half a na"

    watched.get_by_role("button", name="Pause refreshing").click()
    later(watched)
    assert watched.get_by_text("not while typing").count() == 0
    watched.get_by_role("button", name="Go on refreshing").click()
    watched.get_by_text("not while typing").wait_for()


def test_without_an_answer_it_says_so_and_keeps_what_it_shows(showcase: Showcase, browser: Browser) -> None:
    with Visitor(browser) as visitor:
        page = visitor.page
        page.clock.install()
        page.goto(showcase.page)
        visitor.context.set_offline(True)
        later(page)
        page.get_by_text("Not refreshed just now: there was no answer.").wait_for()
        assert page.locator("#ledger-table").count() == 1
        visitor.context.set_offline(False)
        new_warning(showcase, "back again")
        later(page)
        page.get_by_text("back again").wait_for()
        assert page.locator("#refresh-note").inner_text() == "Refreshes every 30 seconds."


# --- last, since it leaves something on the queue ---------------------------------------------------------------------


def test_a_lane_that_is_behind_says_how_long_it_will_take(showcase: Showcase, visitor: Visitor) -> None:
    ids = tuple(showcase.changeable()[:20])
    showcase.world.queue.put(Work(ids, lane=Lane.SLOW, why="a backlog"), after=timedelta(minutes=30))
    visitor.page.goto(showcase.page)
    lane = status(showcase)["lanes (about)"]["slow"]

    shown = " ".join(visitor.page.locator("#backlog-slow").inner_text().split())
    assert lane["messages"] == 1
    assert f"1 message now, about {lane['records']} records" in shown
    assert lane["records a minute lately"] > 0
    assert re.search(r" [1-9][\d,]* records a minute lately; empty in about \d", shown)  # which goes on
    assert texts(visitor.page, "#queued") == ["1"]
