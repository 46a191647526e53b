"""What is pinned is what was asked for, by hash, and says nothing of the machine it was pinned on; without network.

That nothing is missing is pip's to tell: with hashes it refuses a package that another needs and nobody pinned.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.lock import asked, compiling, main

ROOT = Path(__file__).parent.parent
REGISTRY = re.compile(r"://|--(?:extra-)?index|--find-links|--trusted-host|\bfile:")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


class Pin(NamedTuple):
    """One entry of a lock. *via*: what asked for it, packages or `-r FILE`."""

    requirement: Requirement
    hashes: int
    via: frozenset[str]


@cache
def pins(lock: Path) -> list[Pin]:
    """The entries of *lock*: `name==version [; marker] \\`, the hashes, then comments that say why."""
    found = []
    for entry in re.split(r"^(?=[\w.-]+==)", (ROOT / lock).read_text(), flags=re.MULTILINE)[1:]:
        head, _, rest = entry.partition("\\\n")
        via = re.findall(r"^ +# +(?:via +)?(\S.*)$", rest, re.MULTILINE)
        found.append(Pin(Requirement(head), len(HASH.findall(rest)), frozenset(via)))
    return found


def wanted(file: Path) -> dict[str, Requirement]:
    """What *file* itself asks for."""
    lines = (line.partition(" #")[0].strip() for line in (ROOT / file).read_text().splitlines())
    requirements = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {canonicalize_name(each.name): each for each in requirements}


def versions(lock: str) -> dict[str, str]:
    return {
        f"{pin.requirement.name} {pin.requirement.marker}": str(pin.requirement.specifier) for pin in pins(Path(lock))
    }


every_lock = pytest.mark.parametrize("file", asked(), ids=str)


@every_lock
def test_what_is_asked_for_is_pinned_and_nothing_else_is_pinned_as_asked_for(file: Path) -> None:
    found = {
        canonicalize_name(pin.requirement.name) for pin in pins(file.with_suffix(".txt")) if f"-r {file}" in pin.via
    }

    assert found == wanted(file).keys()


@every_lock
def test_a_pin_is_of_a_version_that_is_asked_for(file: Path) -> None:
    for pin in pins(file.with_suffix(".txt")):
        (exact,) = pin.requirement.specifier
        allowed = wanted(file).get(canonicalize_name(pin.requirement.name))

        assert exact.operator == "=="
        assert allowed is None or allowed.specifier.contains(exact.version, prereleases=True), str(pin.requirement)


@every_lock
def test_every_pin_has_hashes_and_something_that_needs_it(file: Path) -> None:
    found = pins(file.with_suffix(".txt"))
    names = {pin.requirement.name for pin in found}

    assert [str(pin.requirement) for pin in found if not pin.hashes] == []
    assert [
        str(pin.requirement) for pin in found if not any(via in names or via.startswith("-r ") for via in pin.via)
    ] == []


@every_lock
def test_a_lock_tells_how_it_was_made_and_nothing_of_where(file: Path) -> None:
    text = (ROOT / file).with_suffix(".txt").read_text()

    assert text.splitlines()[1] == f"#    uv pip compile {' '.join(compiling(file))}"
    assert REGISTRY.findall(text) == []


def test_developers_have_what_is_deployed() -> None:
    deployed, ours = versions("requirements.txt"), versions("requirements-dev.txt")

    assert deployed.items() <= ours.items()


def test_without_uv_the_reason_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("tools.environments.PINS", Path("nowhere"))

    assert main([]) == 1
    assert "Nothing is pinned for uv" in capsys.readouterr().err
