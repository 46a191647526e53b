"""Environments of their own are made once, anew for other pins, and fail with a reason."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tools.environments import INSTALLED, EnvironmentFailed, environment, tool

NOTHING = ["# nothing but pip"]


def made(folder: Path) -> int:
    return (folder / INSTALLED).stat().st_mtime_ns


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environments")


def test_an_environment_is_of_its_own_and_made_once(home: Path) -> None:
    with ThreadPoolExecutor() as threads:
        first, second = threads.map(lambda _: environment("once", NOTHING, home=home), range(2))
    stamp = made(first)
    look = "import importlib.util as found; print(found.find_spec('pytest'))"
    seen = subprocess.run([first / "bin" / "python", "-c", look], capture_output=True, text=True, check=True)  # noqa: S603 - ours

    assert seen.stdout.strip() == "None"
    assert first == second == environment("once", NOTHING, home=home)
    assert made(first) == stamp


def test_other_pins_make_it_anew(home: Path) -> None:
    stamp = made(environment("anew", NOTHING, home=home))

    assert made(environment("anew", ["# other pins"], home=home)) != stamp


def test_one_that_was_interrupted_is_made_anew(home: Path) -> None:
    folder = environment("interrupted", NOTHING, home=home)
    (folder / INSTALLED).unlink()
    (folder / "half").touch()

    assert not (environment("interrupted", NOTHING, home=home) / "half").exists()


def test_what_cannot_be_installed_is_told_and_leaves_no_stamp(home: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"(?s)environment failing can't be made.*no-such-file"):
        environment("failing", ["-r no-such-file.txt"], home=home)

    assert not (home / "failing" / INSTALLED).exists()


def test_a_python_that_is_not_there_is_told(home: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="no-such-python"):
        environment("no-python", NOTHING, home=home, python="no-such-python")


def test_a_tool_without_pins_is_told() -> None:
    with pytest.raises(EnvironmentFailed, match=r"Nothing is pinned for no-such-tool: write no-such-tool\.in"):
        tool("no-such-tool")
