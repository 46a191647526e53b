"""Every action of the status page in a real browser, to its effect in Dynamics' and Marketo's emulators and storage."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests
from werkzeug.wrappers import Request, Response

from sync_core.flows.guard import PAUSE
from sync_core.flows.status import ACTION
from sync_core.model import State
from sync_core.web.confirmations import CONFIRMATION
from tests.browser.visitor import KEY, Visitor, address, cells, click, in_state, status, texts
from tools.http_triggers import principal, serving
from tools.showcase import HELD, RENAMED, Showcase

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.timeout(240)

NONCE = re.compile(r'name="nonce" value="([^"]+)"')


def do(page: Page, *, why: str = "") -> str:
    """Confirm what the page asks; what it says was done."""
    assert page.locator("#confirm").count() == 1
    if why:
        page.get_by_label("Why").fill(why)
    click(page, "#do")
    assert page.evaluate("document.activeElement.id") == "done"  # a screen reader reads it
    return page.locator("#done").inner_text().removeprefix("Done:").strip()


def entries(showcase: Showcase) -> list[dict[str, Any]]:
    """The log of what operators did, the latest first."""
    return [dict(value) for _, value in showcase.world.documents.list(ACTION)]


def require_entry(showcase: Showcase, page: Page, done: str) -> None:
    """What the page says was done stands in the log, in storage and at the end of the page."""
    entry = entries(showcase)[0]
    assert (entry["what"], entry["who"]) == (done, "function key")
    assert cells(page, "#actions-table")[0][1:] == ["function key", done]


def states(showcase: Showcase, keys: list[str]) -> set[State]:
    return {row.state for row in showcase.world.opportunities.rows(keys).values()}


def in_marketo(showcase: Showcase, key: str) -> dict[str, Any] | None:
    rows = showcase.marketo.get("rows/opportunities")
    return next((row for row in rows if row["externalOpportunityId"] == key), None)


def of_reason(showcase: Showcase, text: str) -> list[str]:
    rows = showcase.world.opportunities.rows(in_state(showcase, State.PARKED))
    return sorted(key for key, row in rows.items() if text in row.reason)


def become_in_step(showcase: Showcase, keys: list[str]) -> None:
    showcase.wait_for(lambda: states(showcase, keys) == {State.IN_STEP}, f"{keys} are in step")


# --- one by one ---------------------------------------------------------------------------------------------------


def test_trying_one_record_again(showcase: Showcase, visitor: Visitor) -> None:
    key, *others = of_reason(showcase, "amount")
    page = visitor.page
    page.goto(address(showcase, f"opportunities/{key}"))
    click(page, "#redrive")
    assert key in page.locator("main").inner_text()
    done = do(page)

    assert key in done
    require_entry(showcase, page, done)
    become_in_step(showcase, [key])
    assert states(showcase, others) == {State.PARKED}
    found = in_marketo(showcase, key)
    assert found is not None
    assert found["name"] == showcase.dataverse.get(f"rows/opportunity/{key}")["name"]


def test_trying_a_group_again(showcase: Showcase, visitor: Visitor) -> None:
    group, others = of_reason(showcase, "closeDate"), of_reason(showcase, "amount")
    page = visitor.page
    page.goto(showcase.page)
    click(page, page.locator("#groups-table tr", has_text="closeDate").get_by_role("link", name="Try again"))
    assert page.locator("#do").inner_text() == f"Try {RENAMED} again now"
    done = do(page)

    assert f"queued {RENAMED} records again" in done
    require_entry(showcase, page, done)
    become_in_step(showcase, group)
    assert states(showcase, others) == {State.PARKED}


def test_trying_everything_again(showcase: Showcase, visitor: Visitor) -> None:
    parked, held = in_state(showcase, State.PARKED), in_state(showcase, State.HELD)
    number = len(parked) + len(in_state(showcase, State.WAITING))
    page = visitor.page
    page.goto(showcase.page)
    click(page, "#redrive-all")
    done = do(page)

    assert f"queued {number} records again" in done
    require_entry(showcase, page, done)
    become_in_step(showcase, parked)
    assert states(showcase, held) == {State.HELD}


def test_looking_at_an_opportunity_again_mends_what_somebody_changed_in_marketo(
    showcase: Showcase, visitor: Visitor
) -> None:
    key = showcase.changeable()[3]
    theirs = {"object": "opportunities", "key": {"externalOpportunityId": key}, "values": {"name": "Theirs"}}
    showcase.marketo.post("edit", {"op": "update", **theirs})
    page = visitor.page
    page.goto(address(showcase, f"opportunities/{key}"))
    row = page.locator("#values tr", has=page.get_by_role("rowheader", name="name", exact=True))
    assert "differs" in row.inner_text()
    click(page, "#resync")
    done = do(page)

    assert key in done
    require_entry(showcase, page, done)
    showcase.wait_for(lambda: (in_marketo(showcase, key) or {}).get("name") != "Theirs", "Marketo has the name again")


def test_pausing_and_going_on(showcase: Showcase, visitor: Visitor) -> None:
    page, why = visitor.page, "a <b>new</b> field  is coming"
    key = showcase.changeable()[4]
    page.goto(showcase.page)
    click(page, "#pause")
    done = do(page, why=why)
    plain = "a <b>new</b> field is coming"

    assert done == f"paused the sync: {plain}"
    require_entry(showcase, page, done)
    stamp = showcase.world.documents.read(*PAUSE)
    assert stamp is not None
    assert stamp.value["why"] == plain
    assert plain in page.locator("#paused").inner_text()
    assert page.locator("#pause").count() == 0
    renamed = {"op": "update", "table": "opportunity", "id": key, "values": {"name": "Changed while paused"}}
    showcase.dataverse.post("edit", renamed)
    click(page, "#resume")
    assert plain in page.locator("main").inner_text()
    assert (in_marketo(showcase, key) or {})["name"] != "Changed while paused"
    done = do(page)

    require_entry(showcase, page, done)
    assert showcase.world.documents.read(*PAUSE) is None
    assert page.locator("#paused").count() == 0
    showcase.wait_for(
        lambda: (in_marketo(showcase, key) or {})["name"] == "Changed while paused", "what changed meanwhile arrives"
    )


def test_approving_one_removal_and_then_all(showcase: Showcase, visitor: Visitor) -> None:
    first, *others = in_state(showcase, State.HELD)
    page = visitor.page
    page.goto(address(showcase, "failures", state="held"))
    click(page, page.locator("#failures-table tr", has_text=first).get_by_role("link", name="Approve"))
    done = do(page)
    require_entry(showcase, page, done)
    showcase.wait_for(lambda: in_marketo(showcase, first) is None, "the first one is removed")
    assert states(showcase, others) == {State.HELD}

    click(page, "#approve-removals")
    assert sorted(texts(page, "#removals li a")) == sorted(others)
    assert all(re.search(r" not in Dynamics any more, \d+ roles?$", text) for text in texts(page, "#removals li"))
    assert page.locator("#do").inner_text() == f"Approve {HELD - 1} now"
    done = do(page)
    assert f"approved {HELD - 1} removals" in done
    require_entry(showcase, page, done)
    showcase.wait_for(lambda: states(showcase, others) == {State.GONE}, "the others are removed")
    assert all(in_marketo(showcase, key) is None for key in others)


def test_checking_everything(showcase: Showcase, visitor: Visitor) -> None:
    showcase.world.change("watch", "validate", lambda _: {"at": "2026-01-01T00:00:00+00:00", "checks": []})
    page = visitor.page
    page.goto(showcase.page)
    click(page, "#check")
    done = do(page)

    assert done.startswith("checked everything: ")
    require_entry(showcase, page, done)
    assert status(showcase)["warnings"]["at"] > "2026-01-02"
    assert "no field opportunity.forecast__c" in page.locator("#warnings").inner_text()


# --- with care ----------------------------------------------------------------------------------------------------


def test_whoever_cancels_has_done_nothing(showcase: Showcase, visitor: Visitor) -> None:
    before = entries(showcase)
    visitor.page.goto(address(showcase, "actions/pause"))
    click(visitor.page, "#cancel")

    assert visitor.page.locator("#verdict").count() == 1
    assert visitor.page.locator("#done").count() == 0
    assert entries(showcase) == before
    assert showcase.world.documents.read(*PAUSE) is None


def test_an_action_with_the_keyboard_alone(showcase: Showcase, visitor: Visitor) -> None:
    page = visitor.page
    page.goto(address(showcase, f"opportunities/{showcase.changeable()[0]}"))
    tab_to(page, "resync")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    tab_to(page, "do")
    with page.expect_navigation():
        page.keyboard.press("Space")

    assert page.evaluate("document.activeElement.id") == "done"
    require_entry(showcase, page, page.locator("#done").inner_text().removeprefix("Done:").strip())


def tab_to(page: Page, key: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == key:
            return
    raise AssertionError(f"no Tab leads to {key}")


def test_a_double_click_does_it_once(showcase: Showcase, visitor: Visitor) -> None:
    key, before = showcase.changeable()[0], len(entries(showcase))
    visitor.page.goto(address(showcase, "actions/resync", id=key))
    with visitor.page.expect_navigation():
        visitor.page.locator("#do").dblclick(delay=5)
    visitor.page.locator("#done").wait_for()

    assert len(entries(showcase)) == before + 1


@pytest.mark.parametrize("script", [True, False])
def test_reloading_repeats_nothing_and_going_back_asks_anew(showcase: Showcase, browser: Browser, script: bool) -> None:
    before, where = len(entries(showcase)), address(showcase, "actions/resync", id=showcase.changeable()[0])
    with Visitor(browser, java_script_enabled=script) as visitor:
        page, nonce = visitor.page, visitor.page.locator("input[name=nonce]")
        page.goto(where)
        first = nonce.input_value()
        click(page, "#do")
        page.reload()
        assert len(entries(showcase)) == before + 1
        page.go_back()
        assert nonce.input_value() != first
        assert page.locator("#do").is_enabled()
    visitor.require_clean()

    again = requests.post(where, data={"nonce": first}, timeout=30)
    assert (again.status_code, "was used already" in again.text) == (403, True)
    assert len(entries(showcase)) == before + 1


def test_of_many_at_the_same_time_one_is_heard(showcase: Showcase) -> None:
    before, where = len(entries(showcase)), address(showcase, "actions/resync", id=showcase.changeable()[0])
    found = NONCE.search(requests.get(where, timeout=30).text)
    assert found
    answers: list[int] = []

    def send() -> None:
        answer = requests.post(where, data={"nonce": found[1]}, allow_redirects=False, timeout=30)
        answers.append(answer.status_code)

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [303, *[403] * 5]
    assert len(entries(showcase)) == before + 1


# --- from elsewhere -------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere() -> Iterator[dict[str, str]]:
    """Another website on this machine: `{"page": what it shows, "url": where}`; write the page before going there."""
    site = {"page": ""}

    @Request.application
    def app(request: Request) -> Response:
        return Response(status=204) if request.path == "/favicon.ico" else Response(site["page"], mimetype="text/html")

    with serving(app, 0) as url:
        site["url"] = url
        yield site


FORM = """<form method="post" action="{where}">
<input name="nonce" value="{nonce}"><button id="go">Win a prize</button></form>"""
FETCH = """<script>
fetch("{where}", {{method: "POST", mode: "no-cors", body: new URLSearchParams({{nonce: "{nonce}"}})}});
</script><iframe src="{where}"></iframe>"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_another_website_can_send_no_form(
    showcase: Showcase, browser: Browser, elsewhere: dict[str, str], host: str
) -> None:
    """Though it had the key and a confirmation that is good; also one with our own host on another port."""
    before, where = entries(showcase), address(showcase, "actions/pause")
    found = NONCE.search(requests.get(where, timeout=30).text)
    assert found
    elsewhere["page"] = FORM.format(where=where.replace("&", "&amp;"), nonce=found[1])
    with Visitor(browser) as visitor:
        visitor.page.goto(elsewhere["url"].replace("127.0.0.1", host))
        with visitor.page.expect_response(lambda answer: answer.request.method == "POST") as answer:
            visitor.page.locator("#go").click()
        assert answer.value.status == 403
        assert "comes from another website" in visitor.page.get_by_role("heading", level=1).inner_text()

    assert entries(showcase) == before
    assert showcase.world.documents.read(*PAUSE) is None
    own = requests.post(where, data={"nonce": "none"}, timeout=30)
    assert own.status_code == 403


def test_another_website_can_neither_send_nor_frame_it_by_script(
    showcase: Showcase, browser: Browser, elsewhere: dict[str, str]
) -> None:
    before, where = entries(showcase), address(showcase, "actions/pause")
    found = NONCE.search(requests.get(where, timeout=30).text)
    assert found
    elsewhere["page"] = FETCH.format(where=where, nonce=found[1])
    with Visitor(browser) as visitor:
        with visitor.page.expect_response(lambda answer: answer.request.method == "POST") as answer:
            visitor.page.goto(elsewhere["url"])
        assert answer.value.status == 403
        visitor.page.wait_for_load_state()
        framed = visitor.page.frames[1]
        assert framed.locator("#do").count() == 0

    assert entries(showcase) == before


LINK = """<a id="go" href="{where}">An opportunity</a>"""
PICTURE = """<img alt="" src="{where}"><p id="shown">A picture</p>"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_link_on_another_website_waits_to_be_wanted_but_for_that_to_the_page(
    showcase: Showcase, browser: Browser, elsewhere: dict[str, str], host: str
) -> None:
    key = showcase.changeable()[0]
    start = elsewhere["url"].replace("127.0.0.1", host)
    with Visitor(browser) as visitor:
        page = visitor.page
        elsewhere["page"] = LINK.format(where=address(showcase, f"opportunities/{key}", q="a&b").replace("&", "&amp;"))
        page.goto(start)
        click(page, "#go")
        assert page.locator("#state").count() == 0
        assert visitor.barriers() == []
        click(page, "#open")
        assert page.locator("#state").inner_text() == "in step"
        elsewhere["page"] = LINK.format(where=showcase.page)
        page.goto(start)
        click(page, "#go")
        assert page.locator("#verdict").count() == 1
    assert visitor.faults == []


def test_what_another_website_shows_of_it_stores_nothing(
    showcase: Showcase, browser: Browser, elsewhere: dict[str, str]
) -> None:
    asked: list[str] = []
    before = showcase.world.documents.list(CONFIRMATION)
    elsewhere["page"] = PICTURE.format(where=address(showcase, "actions/pause").replace("&", "&amp;"))
    with Visitor(browser) as visitor:
        visitor.page.on("requestfailed", lambda request: asked.append(request.url))
        visitor.page.goto(elsewhere["url"])
    assert ["actions/pause" in url for url in asked] == [True]
    assert showcase.world.documents.list(CONFIRMATION) == before


# --- with Microsoft Entra ID ------------------------------------------------------------------------------------------


ANNA = "anna@example.com"


def test_with_entra_the_log_says_who_it_was_and_nobody_needs_a_key(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("entra")
    with (
        Showcase(folder, key=KEY, empty=True, arguments=("--easy-auth", ANNA), STATUS_SIGN_IN="entra") as showcase,
        Visitor(browser) as visitor,
    ):
        page = visitor.page
        page.goto(f"{showcase.api}/status")
        click(page, "#pause")
        do(page, why="a holiday")
        who = principal(ANNA)["x-ms-client-principal-id"]
        assert entries(showcase)[0]["who"] == f"entra:{who}"
        assert ANNA not in page.content()
        visitor.require_clean()


def test_with_entra_but_without_the_platform_nobody_comes_in(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("no-platform")
    with Showcase(folder, empty=True, STATUS_SIGN_IN="entra") as showcase:
        for page in ("", "/failures", "/actions/pause", ".json"):
            answer = requests.get(f"{showcase.api}/status{page}", headers=principal(ANNA), timeout=30)
            assert answer.status_code == 401
            assert 'id="verdict"' not in answer.text
