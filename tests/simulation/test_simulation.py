"""A thousand seeds; see the package for what one is. `make soak` runs as many as one likes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEEDS, BLOCK = 1000, 100


def simulation(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command, as it replays: in a process whose sets have an order."""
    command = [sys.executable, "-m", "tests.simulation", *map(str, arguments)]
    env = os.environ | {"PYTHONHASHSEED": "0"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)  # noqa: S603 - ours


@pytest.mark.timeout(600)
@pytest.mark.parametrize("start", range(0, SEEDS, BLOCK))
def test_whatever_happens_marketo_ends_up_as_the_rules_say(
    start: int, record_property: Callable[[str, object], None]
) -> None:
    done = simulation("--start", start, "--seeds", BLOCK)
    found = [line for line in done.stdout.splitlines() if "FAILED" in line or line.startswith("longest")]
    assert done.returncode == 0, done.stdout + done.stderr
    for line in found:
        record_property("proof", f"simulation, seeds {start} to {start + BLOCK - 1}: {line}")
    assert f"{BLOCK} seeds: " in done.stdout
    assert any("until its next delivery" in line for line in found)


def test_a_seed_replays_alone() -> None:
    first, second = (simulation("--seed", 11, "--trace") for _ in range(2))

    assert first.returncode == 0, first.stdout
    assert first.stdout == second.stdout
    assert len(first.stdout.splitlines()) > 30
