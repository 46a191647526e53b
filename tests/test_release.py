"""The version stands in one place, and what is written about it fits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sync_core
from sync_core import __version__
from sync_core.adapters.transport import AGENT
from sync_core.flows.status import status
from sync_core.messages import VERSION
from sync_core.model import SCHEMA
from tests.flows.org import Org
from tests.stage import Stage
from tests.web.browser import Browser, a_site
from tools import release

ROOT = Path(__file__).parent.parent
STATE = "tests/data/state"


def test_the_changelog_is_about_this_version() -> None:
    assert list(release.problems(__version__, None)) == []


def test_the_table_of_versions_knows_this_one() -> None:
    assert f"| {__version__} | {SCHEMA} | {VERSION} |" in (ROOT / "docs/upgrading.md").read_text(encoding="utf-8")


def test_the_version_stands_in_one_place() -> None:
    found = [
        path.relative_to(ROOT).as_posix()
        for path in [*ROOT.glob("*.toml"), *(ROOT / "sync_core").rglob("*.py")]
        if re.search(rf'version(__)?\s*=\s*"{re.escape(__version__)}"', path.read_text(encoding="utf-8"))
    ]

    assert found == ["sync_core/__init__.py"]


def test_the_command_line_says_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sync_core", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == __version__


def test_it_is_shown_wherever_somebody_looks() -> None:
    stage = Stage()
    Org(stage)
    page = Browser(a_site(stage)).open()

    assert status(stage.world)["version"] == __version__
    assert json.loads(Browser(a_site(stage)).answer("status.json").body)["version"] == __version__
    assert page.ids["version"] == f"Opportunity Sync {__version__}"
    assert AGENT.endswith(f"/{__version__}")


# --- the check of a release -----------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Fit to be released as 1.2.3."""
    for name, text in {
        "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n"
        "## [1.2.3] - 2026-11-30\n\n- One thing.\n\n## [1.2.2] - 2026-11-01\n\n- Old.\n",
        "docs/upgrading.md": f"| version | schema | messages |\n|---|---|---|\n| 1.2.3 | {SCHEMA} | {VERSION} |\n",
        f"{STATE}/1.2.3.json": "{}",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_release_that_is_complete(tree: Path) -> None:
    assert list(release.problems("1.2.3", "v1.2.3", tree)) == []
    assert release.sections((tree / "CHANGELOG.md").read_text())[1] == ("1.2.3", "2026-11-30", "- One thing.")


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("CHANGELOG.md", "## [1.2.3] - 2026-11-30", "## [1.2.3]", "no section"),
        ("CHANGELOG.md", "## [1.2.3] - 2026-11-30\n", "", "no section"),
        ("CHANGELOG.md", "- One thing.", "", "no section"),
        ("docs/upgrading.md", f"| {SCHEMA} |", f"| {SCHEMA + 1} |", "the table has no row"),
        (f"{STATE}/1.2.3.json", "", None, "there is no tests/data/state/1.2.3.json"),
    ],
)
def test_what_is_missing_is_said(tree: Path, file: str, old: str, new: Any, said: str) -> None:
    path = tree / file
    path.unlink() if new is None else path.write_text(path.read_text().replace(old, new))

    (problem,) = release.problems("1.2.3", "v1.2.3", tree)

    assert said in problem


@pytest.mark.parametrize("tag", ["1.2.3", "v1.2.4", "v1.2.3-rc1"])
def test_another_tag_is_refused(tree: Path, tag: str) -> None:
    (problem,) = release.problems("1.2.3", tag, tree)

    assert "the tag has to be v1.2.3" in problem


@pytest.mark.parametrize("version", ["1.2", "v1.2.3", "1.2.3rc1", "01.2.3"])
def test_a_version_is_three_numbers(tree: Path, version: str) -> None:
    assert any("three numbers" in problem for problem in release.problems(version, None, tree))


COMES = [("Will be 1.3.0, soon.", True), ("Will be 1.3.1.", False), ("", False)]


@pytest.mark.parametrize(("unreleased", "fits"), COMES)
def test_without_a_tag_the_version_is_the_newest_one_or_the_coming_one(tree: Path, unreleased: str, fits: bool) -> None:
    path = tree / "CHANGELOG.md"
    path.write_text(path.read_text().replace("## [Unreleased]\n", f"## [Unreleased]\n\n{unreleased}\n"))

    assert (not list(release.problems("1.3.0", None, tree))) is fits
    assert list(release.problems("1.2.3", None, tree)) == []


def test_the_command_prints_what_is_new(capsys: Any, monkeypatch: pytest.MonkeyPatch, tree: Path) -> None:
    monkeypatch.setattr(release, "__version__", "1.2.3")
    monkeypatch.setattr(release, "ROOT", tree)
    monkeypatch.setattr(release.problems, "__defaults__", (tree,))

    assert release.main(["check", "--tag", "v1.2.3"]) == 0
    assert capsys.readouterr().out == "- One thing.\n"
    assert release.main(["check", "--tag", "v9.9.9"]) == 1
    assert "v1.2.3" in capsys.readouterr().err


def test_every_kept_state_is_of_a_version_that_the_table_knows() -> None:
    table = (ROOT / "docs/upgrading.md").read_text(encoding="utf-8")
    kept = [path.stem for path in (ROOT / STATE).glob("*.json")]

    assert kept
    assert [name for name in kept if f"| {name.replace('-', ' ')} |" not in table] == []
    assert sync_core.__version__ in kept
