"""The pictures of the status page come from a command, and the README shows them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageStat

REPOSITORY = Path(__file__).parent.parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SMALL = 150_000  # bytes


def brightness(path: Path) -> float:
    with Image.open(path) as image:
        assert image.width > 1000
        assert 800 < image.height <= 1500
        return float(ImageStat.Stat(image.convert("L")).mean[0])


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("browser")
def test_the_command_makes_both(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.screenshots", "--to", str(tmp_path)]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)  # noqa: S603 - our own program

    assert run.returncode == 0, run.stderr
    light, dark = tmp_path / "status-light.png", tmp_path / "status-dark.png"
    assert brightness(light) > 200
    assert brightness(dark) < 60
    assert max(path.stat().st_size for path in (light, dark)) < SMALL


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_readme_shows_it(scheme: str) -> None:
    assert f"docs/status-{scheme}.png" in README
    assert (REPOSITORY / "docs" / f"status-{scheme}.png").stat().st_size < SMALL
