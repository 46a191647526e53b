"""The browser is a real one, and the visitor notices what the tests of the status page rely on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from werkzeug.wrappers import Request, Response

from tests.browser.visitor import Visitor
from tools import browser as tool
from tools.http_triggers import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REPOSITORY = Path(__file__).parent.parent.parent
POLICY = "default-src 'none'; style-src 'self'"
FINE = "<!doctype html><html lang=en><title>Fine</title><main><h1>Fine</h1><p>Text</p></main>"
BAD = {
    "a script the policy forbids": "<script>document.title = 'run'</script>",
    "an event handler": "<img src=/none onerror=\"document.title = 'run'\" alt=''>",
    "a style the policy forbids": "<p style='color: red'>Red</p>",
    "a resource of another host": "<img src=http://localhost:1/x alt=''>",
}


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """Pages by name: `/fine`, and `/bad/N` with the Nth of BAD in it."""

    @Request.application
    def pages(request: Request) -> Response:
        if request.path == "/favicon.ico":
            return Response(status=204)
        number = request.path.removeprefix("/bad/")
        added = list(BAD.values())[int(number)] if number.isdigit() else ""
        return Response(FINE + added, mimetype="text/html", headers={"Content-Security-Policy": POLICY})

    with serving(pages, 0) as url:
        yield url


def test_a_page_is_shown(visitor: Visitor, site: str) -> None:
    visitor.page.goto(f"{site}/fine")

    assert visitor.page.get_by_role("heading").inner_text() == "Fine"
    assert visitor.barriers() == []


@pytest.mark.parametrize("number", range(len(BAD)), ids=list(BAD))
def test_what_must_not_happen_is_noticed(browser: Browser, site: str, number: int) -> None:
    with Visitor(browser) as visitor:
        visitor.page.goto(f"{site}/bad/{number}")

        assert visitor.page.title() == "Fine"
        with pytest.raises(AssertionError):
            visitor.require_clean()


def test_barriers_are_found(visitor: Visitor, site: str) -> None:
    visitor.page.goto(f"{site}/fine")
    visitor.page.evaluate("document.querySelector('main').append(document.createElement('button'))")

    assert [line.partition(":")[0] for line in visitor.barriers()] == ["button-name"]


# --- where the browser comes from -----------------------------------------------------------------------------


def a_program(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


def test_the_setting_wins_over_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path, named = a_program(tmp_path / "bin", "google-chrome"), a_program(tmp_path, "mine")
    monkeypatch.setenv("PATH", str(on_path.parent))
    monkeypatch.delenv("CHROMIUM", raising=False)

    assert tool.find() == on_path
    monkeypatch.setenv("CHROMIUM", str(named))
    assert tool.find() == named


def test_a_setting_that_names_no_program_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM", "no-such-program")

    with pytest.raises(tool.BrowserError, match="no-such-program"):
        tool.find()


@pytest.mark.parametrize(
    ("allowed", "code", "outcome"), [({}, 1, "1 error"), ({"ALLOW_NO_BROWSER": "1"}, 0, "1 skipped")]
)
def test_without_a_browser_the_run_fails_unless_that_is_allowed(
    tmp_path: Path, allowed: dict[str, str], code: int, outcome: str
) -> None:
    test = f"{Path(__file__).relative_to(REPOSITORY)}::test_a_page_is_shown"
    kept = {name: value for name, value in os.environ.items() if name not in {"CHROMIUM", "ALLOW_NO_BROWSER"}}
    environment = kept | {"PATH": str(tmp_path)} | allowed
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", test]
    run = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own program

    assert run.returncode == code, run.stdout
    assert "SKIPPED: no browser" in run.stdout
    assert outcome in run.stdout
