"""Fixtures that tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tools.azurite import Azurite
from tools.azurite import azurite as run_azurite

# Nothing is timed: a machine with other work to do is no mistake of ours.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

LONGEST = (
    "tests/simulation/",
    "tests/e2e/",
    "tests/browser/",
    "tests/test_bench.py",
    "tests/flows/",
    "tests/interleavings/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first: a worker that began it last would end long after the others."""

    def rank(item: pytest.Item) -> int:
        return next((rank for rank, path in enumerate(LONGEST) if item.nodeid.startswith(path)), len(LONGEST))

    items.sort(key=rank)


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
