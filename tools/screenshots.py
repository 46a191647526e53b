"""Pictures of the status page, light and dark, over an emulated org: `python -m tools.screenshots`.

Writes status-light.png and status-dark.png into docs/. What happens in the org is the same each time, but for the
times of day and what depends on them.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image

from tools.azurite import AzuriteError
from tools.browser import BrowserError, launched, required
from tools.demo.screen import Failed
from tools.demo.services import REPOSITORY
from tools.showcase import Showcase

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WIDTH, MOST_HEIGHT = 1180, 1500
LAST = "#ledger"  # the pictures end below it
COLOURS = 128  # enough for text on three grounds and what is coloured; a third of the bytes
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
# The emulator's place on this machine says nothing to anybody.
PLAIN = """() => {
    for (const each of document.querySelectorAll("#as-of .id")) {
        each.textContent = each.textContent.replace(/^localhost:\\d+$/, "000-AAA-000");
    }
    return document.querySelector(LAST).getBoundingClientRect().bottom;
}"""


def picture(browser: Browser, url: str, scheme: Literal["light", "dark"]) -> bytes:
    """A PNG of the upper part of the page at *url*."""
    page = browser.new_page(viewport={"width": WIDTH, "height": MOST_HEIGHT}, color_scheme=scheme)
    try:
        page.goto(url)
        bottom = page.evaluate(PLAIN.replace("LAST", f"{LAST!r}"))
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": min(MOST_HEIGHT, round(bottom) + 12)}
        shot = Image.open(io.BytesIO(page.screenshot(clip=clip)))  # type: ignore[arg-type]  # its type is private
    finally:
        page.close()
    small = io.BytesIO()
    shot.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        small, "PNG", optimize=True
    )
    return small.getvalue()


def take(executable: Path, to: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, Showcase(Path(folder)) as showcase, launched(executable) as browser:
        for scheme in SCHEMES:
            path = to / f"status-{scheme}.png"
            path.write_bytes(picture(browser, showcase.page, scheme))
            print(f"{path.name}: {path.stat().st_size:,} bytes")


def main() -> int:
    """Exit code 1 when there is no browser, or the org doesn't come to what is to be shown."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", type=Path, default=REPOSITORY / "docs", metavar="FOLDER", help="default: docs/")
    to = parser.parse_args().to
    try:
        take(required(), to)
    except (AzuriteError, BrowserError, Failed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
