"""Fixtures that tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

import pytest
from hypothesis import HealthCheck, settings

from tools.azurite import Azurite
from tools.azurite import azurite as run_azurite

# Nothing is timed: a machine with other work to do is no mistake of ours.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

WAITING = ("tests/e2e/", "tests/browser/", "tests/host/", "tests/telemetry/", "tests/adapters/test_limiter_processes")
CALCULATING = ("tests/simulation/", "tests/interleavings/", "tests/test_bench", "tests/flows/")  # the rest is short


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker ends long after the others; by turns, so that not all wait at once."""
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    waiting = [name for name in files if name.startswith(WAITING)]
    others = sorted(files.keys() - set(waiting), key=_turn)
    turns = [name for pair in zip_longest(waiting, others) for name in pair if name]
    items[:] = [item for name in turns for item in files[name]]


def _turn(name: str) -> tuple[int, str]:
    return next((turn for turn, path in enumerate(CALCULATING) if name.startswith(path)), len(CALCULATING)), name


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the proofs measured: each test that proves something records it as the property "proof"."""
    passed = terminalreporter.stats.get("passed", ())
    figures = [value for report in passed for name, value in report.user_properties if name == "proof"]
    if figures:
        terminalreporter.section("proofs")
        for line in sorted(map(str, figures)):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """Azurite in memory, one for the whole run: use table and queue names of your own."""
    with run_azurite() as emulator:
        yield emulator
