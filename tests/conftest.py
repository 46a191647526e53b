"""Fixtures that tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tools.azurite import Azurite
from tools.azurite import azurite as run_azurite


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """Azurite in memory, one for the whole run: use table and queue names of your own."""
    with run_azurite() as emulator:
        yield emulator
