"""A real browser for the tests of the status page and its screenshots: Chromium, and axe-core to look for barriers.

    python -m tools.browser install     # Debian's Chromium when there is none and we are root; axe-core into .browser/
    python -m tools.browser where       # which Chromium it is

The browser is the one that `CHROMIUM` names, else the first of NAMES on PATH; Playwright drives it and never downloads
one of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tools.node import NodeError, any_node, npm_install

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOME = Path(__file__).resolve().parent.parent / ".browser"
AXE = HOME / "node_modules" / "axe-core" / "axe.min.js"
AXE_VERSION = "4.14.1"

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Without a sandbox, since root has none; and no connection to anybody but the page's own server.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

NONE = "SKIPPED: no browser"
HOW = "set CHROMIUM to one, put Chromium or Chrome on PATH, or run `make setup` as root on Debian"
LOCK_S = 300  # how long another apt may keep us waiting
LOCK_PAUSE_S = 5
LOCKED = ("Could not get lock", "Unable to acquire", "Unable to lock")


class BrowserError(RuntimeError):
    """There is no browser, or none where CHROMIUM says; the text says what to do."""


def find() -> Path | None:
    """The browser's executable, or None. Raises BrowserError when CHROMIUM names none."""
    if named := os.environ.get("CHROMIUM"):
        if found := shutil.which(named):
            return Path(found)
        raise BrowserError(f"CHROMIUM is {named!r}, which is no program")
    return next((Path(path) for path in map(shutil.which, NAMES) if path), None)


def required() -> Path:
    """The same, but raises BrowserError when there is none."""
    if found := find():
        return found
    raise BrowserError(f"{NONE}: {HOW}")


@contextmanager
def launched(executable: Path) -> Iterator[Browser]:
    """The browser without a window, until the block ends."""
    from playwright.sync_api import sync_playwright  # so that `install` runs before it is there

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def install() -> str:
    """Get what is missing; returns what there is now, in a line. Raises NodeError, or BrowserError for CHROMIUM."""
    npm_install(any_node(), HOME, {"axe-core": AXE_VERSION})
    if (there := find()) is None and (refusal := _install_debians()):
        return f"{NONE} ({refusal}): {HOW}."
    return f"Browser: {there or find()}."


def _install_debians() -> str:
    """Install Debian's Chromium; returns why it couldn't be, "" when it is there."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return "installing Debian's package takes apt-get and root"
    print("No Chromium on PATH: installing Debian's, for the tests of the status page ...", flush=True)
    _apt("update", "--quiet")  # lists as old as the machine name versions that are gone
    said = _apt("install", "--quiet", "--yes", "--no-install-recommends", "chromium")
    return "" if find() else f"apt-get said: {said}"


def _apt(*arguments: str) -> str:
    """Run apt-get, once nobody else does; returns the last line it wrote."""
    deadline = time.monotonic() + LOCK_S
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    while True:
        done = subprocess.run(  # noqa: S603 - arguments of this module
            ["apt-get", *arguments],  # noqa: S607 - whichever the machine has
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = done.stderr.strip() or done.stdout.strip()
        if done.returncode == 0 or time.monotonic() > deadline or not any(text in said for text in LOCKED):
            return said.rpartition("\n")[2]
        print("Another apt is at work; waiting for it ...", flush=True)
        time.sleep(LOCK_PAUSE_S)


def main() -> int:
    """The command line; exit code 1 with the reason on standard error when something fails."""
    parser = argparse.ArgumentParser(prog="python -m tools.browser", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="get Chromium and axe-core, where they are not there")
    commands.add_parser("where", help="print the browser's path; exit code 1 when there is none")
    arguments = parser.parse_args()
    try:
        print(install() if arguments.command == "install" else required())
    except (BrowserError, NodeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
