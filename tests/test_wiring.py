"""One engine in a process, and who hears of it when there is none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sync_core import telemetry, wiring
from sync_core.errors import ConfigurationError
from sync_core.settings import STORAGE

SETTINGS = {
    "DATAVERSE_URL": "https://org.crm.dynamics.com",
    "DATAVERSE_TENANT_ID": "tenant",
    "DATAVERSE_CLIENT_ID": "client",
    "DATAVERSE_CLIENT_SECRET": "s3cr3t",
    "MARKETO_URL": "https://123-ABC-456.mktorest.com",
    "MARKETO_CLIENT_ID": "service",
    "MARKETO_CLIENT_SECRET": "s3cr3t-2",
    STORAGE: "UseDevelopmentStorage=true",
}


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The settings of a process that has no engine yet."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    wiring._built.cache_clear()
    yield monkeypatch
    wiring._built.cache_clear()


def test_calls_that_come_at_once_share_one_engine_and_telemetry_starts_once(env: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []
    others = threading.Event()

    def start(*given: Any) -> None:
        begun.append(given)
        others.wait(0.2)  # whoever is let in beside us comes meanwhile

    env.setattr(telemetry, "start", start)
    with ThreadPoolExecutor(4) as pool:
        engines = list(pool.map(lambda _: wiring.engine(), range(4)))

    assert len(begun) == 1
    assert len({id(engine) for engine in engines}) == 1


def test_an_engine_that_could_not_be_built_is_tried_again_at_the_next_call(env: pytest.MonkeyPatch) -> None:
    env.setenv("MARKETO_DAILY_CALLS", "lots")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="MARKETO_DAILY_CALLS"):
            wiring.engine()

    env.delenv("MARKETO_DAILY_CALLS")

    assert wiring.engine() is wiring.engine()
