"""The status page with nothing to show, and with ten thousand failures."""

from __future__ import annotations

import csv
import io
import random
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from sync_core.model import LedgerRow, State
from tests.browser.visitor import KEY, Visitor, address, cells, click, texts
from tools.showcase import Showcase

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.timeout(240)

MANY = 10_000
REASONS = 40
PAGE = 50
NO_TIMER = {f"AzureWebJobs.{name}.Disabled": "true" for name in ("detect_changes", "watch_sync")}


@pytest.fixture(scope="module")
def empty(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Showcase]:
    """Deployed just now: nothing has run yet."""
    with Showcase(tmp_path_factory.mktemp("empty"), key=KEY, empty=True, **NO_TIMER) as showcase:
        yield showcase


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_before_anything_has_run(empty: Showcase, browser: Browser, scheme: str) -> None:
    with Visitor(browser, color_scheme=scheme, viewport={"width": 390, "height": 844}) as visitor:
        page = visitor.page
        page.goto(empty.page)
        assert texts(page, "#last-tick") == ["never ran"]
        assert texts(page, "#nothing-waits") == ["Everything is in step."]
        shown = page.locator("main").inner_text()
        for text in (
            "Nothing was noted yet: the line begins within five minutes of the first watch.",
            "Nothing was checked yet.",
            "Nothing ran yet.",
            "Nobody did anything yet.",
            "No field is left alone.",
            "Nothing was removed within 24 hours that needed no approval.",
            "No role waits for a person who is missing in Marketo.",
            "not started",
        ):
            assert text in shown
        assert visitor.barriers() == []
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        click(page, "#open-failures")
        assert texts(page, "#none") == ["Everything is in step."]
        assert visitor.barriers() == []
        page.goto(address(empty, "actions/redrive"))
        assert "Nothing waits and nothing is parked." in page.get_by_role("heading", level=1).inner_text()
    assert [fault for fault in visitor.faults if "409" not in fault] == []


@pytest.fixture(scope="module")
def crowd(empty: Showcase) -> dict[str, str]:
    """Ten thousand parked opportunities, written by the sync's own adapter: the reason of each."""
    chance = random.Random(1)
    reasons = {
        str(uuid.UUID(int=chance.getrandbits(128), version=4)): f"1003: a value is invalid (field{number % REASONS})"
        for number in range(MANY)
    }
    rows = [LedgerRow(key, state=State.PARKED, reason=reason, attempts=1) for key, reason in reasons.items()]
    assert empty.world.opportunities.write(rows) == set()
    return reasons


def test_ten_thousand_failures_are_counted_grouped_and_paged(
    empty: Showcase, browser: Browser, crowd: dict[str, str]
) -> None:
    with Visitor(browser) as visitor:
        page = visitor.page
        page.goto(empty.page)
        assert texts(page, "#parked") == [f"{MANY:,}"]
        assert texts(page, "#redrive-all") == [f"Try all {MANY:,} again…"]
        groups = cells(page, "#groups-table")
        assert 0 < len(groups) <= REASONS
        assert {row[0] for row in groups} == {str(MANY // REASONS)}
        assert visitor.barriers() == []

        page.goto(address(empty, "failures"))
        seen: list[str] = []
        for _ in range(4):
            seen += [row[0].split()[-1] for row in cells(page, "#failures-table")]
            click(page, "#next")
        assert len(seen) == len(set(seen)) == 4 * PAGE
        assert set(seen) <= crowd.keys()
        click(page, "#first")
        assert [row[0].split()[-1] for row in cells(page, "#failures-table")] == seen[:PAGE]
    visitor.require_clean()


def test_one_of_ten_thousand_is_found(empty: Showcase, browser: Browser, crowd: dict[str, str]) -> None:
    key, reason = next(iter(crowd.items()))
    with Visitor(browser) as visitor:
        page = visitor.page
        page.goto(address(empty, "failures"))
        page.get_by_label("Part of the reason or of the id").fill(key[:20])
        click(page, "#choose")
        assert [row[0].split()[-1] for row in cells(page, "#failures-table")] == [key]
        page.goto(address(empty, "failures", kind="opportunity", state="parked", reason=reason))
        pages = 0
        while page.locator("#next").count():
            click(page, "#next")
            pages += 1
        assert pages == MANY // REASONS // PAGE - 1
        click(page, "#redrive-group")
        assert texts(page, "#do") == [f"Try {MANY // REASONS} again now"]
    visitor.require_clean()


def test_all_of_them_as_csv(empty: Showcase, browser: Browser, crowd: dict[str, str]) -> None:
    with Visitor(browser) as visitor:
        visitor.page.goto(address(empty, "failures"))
        with visitor.page.expect_download() as download:
            visitor.page.locator("#csv").click()
        rows = list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8-sig"))))
    visitor.require_clean()

    assert {row["id"]: row["reason"] for row in rows} == crowd
    assert len(rows) == MANY
