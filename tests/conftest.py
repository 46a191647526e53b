"""Fixtures that tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tools.azurite import Azurite
from tools.azurite import azurite as run_azurite


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
