"""A real browser for these tests: one for all of them, and for each a visitor who notes what must not happen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.visitor import KEY, Visitor
from tools.browser import HOW, NONE, find, launched
from tools.showcase import Showcase

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium. Without one the tests fail, unless ALLOW_NO_BROWSER=1 has them skipped.

    For the package, not the session: Playwright's event loop runs in our thread as long as it is there.
    """
    executable = find()
    if executable is None:
        told = f"{NONE}: {HOW}"
        if os.environ.get("ALLOW_NO_BROWSER") == "1":
            pytest.skip(told)
        pytest.fail(f"{told}; ALLOW_NO_BROWSER=1 leaves these tests out", pytrace=False)
    with launched(executable) as browser:
        yield browser


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visitor]:
    """Somebody at a screen of ordinary size; at the end nothing may have happened that must not."""
    with Visitor(browser) as visitor:
        yield visitor
    visitor.require_clean()


@pytest.fixture(scope="module")
def showcase(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Showcase]:
    """An org with something of everything; *browser* is asked for first, so that nothing starts in vain."""
    with Showcase(tmp_path_factory.mktemp("showcase"), key=KEY) as showcase:
        yield showcase
