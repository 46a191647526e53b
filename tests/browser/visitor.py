"""Somebody who looks at a page with a real browser, and notes what must not happen there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import requests

from sync_core.model import State
from tools.browser import AXE
from tools.showcase import Showcase

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request

KEY = "k/e+y=&1"  # must be escaped wherever it goes
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
PATIENCE_MS = 20_000  # how long Playwright waits for what should come


class Visitor:
    """A browser context with one page, from `with` to its end; options as `Browser.new_context` takes them."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(f"script error: {error}"))
        self.page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        self.context.on("request", self._asked)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def barriers(self) -> list[str]:
        """What axe-core finds on the page, a line each."""
        # Not as a script of the page, whose Content-Security-Policy would refuse it.
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        options = {"runOnly": {"type": "tag", "values": list(RULES)}, "resultTypes": ["violations"]}
        found = self.page.evaluate("options => axe.run(document, options)", options)
        return [
            f"{each['id']}: {each['help']}: {node['html'][:200]} {node.get('failureSummary', '')}"
            for each in found["violations"]
            for node in each["nodes"]
        ]

    def require_clean(self) -> None:
        """No error, no violation of the page's policy, nobody asked but one server."""
        assert self.faults == [], self.faults
        assert len(self.hosts) <= 1, self.hosts

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme != "data":
            self.hosts.add(address.netloc)


def status(showcase: Showcase) -> dict[str, Any]:
    return dict(requests.get(f"{showcase.api}/status.json", params={"code": KEY}, timeout=30).json())


def address(showcase: Showcase, page: str = "", **query: str) -> str:
    return f"{showcase.api}/status{'/' if page else ''}{page}?{urlencode({**query, 'code': KEY})}"


def in_state(showcase: Showcase, state: State) -> list[str]:
    return [key for page in showcase.world.opportunities.in_state(state) for key in page]


def texts(page: Page, selector: str) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(selector).all_inner_texts()]


def click(page: Page, target: str | Locator) -> None:
    """Click what leads to another page, and wait for that."""
    with page.expect_navigation():
        (page.locator(target) if isinstance(target, str) else target).click()


def cells(page: Page, table: str) -> list[list[str]]:
    return [row.split("\t") for row in page.locator(f"{table} tbody tr").all_inner_texts()]
