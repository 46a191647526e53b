"""One engine in a process, and who hears of it when there is none."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

import function_app
from sync_core import telemetry, wiring
from sync_core.adapters.clock import SystemClock
from sync_core.adapters.storage import open_storage
from sync_core.engine import Engine
from sync_core.errors import ConfigurationError, Unavailable
from sync_core.flows.guard import PAIR
from sync_core.flows.stopped import STOPPED, tell
from sync_core.model import SCHEMA
from sync_core.ports import Documents
from sync_core.settings import STORAGE, Settings
from tests.adapters.test_webhook import Receiver
from tests.flows.test_watch import Channel
from tests.stage import CONFIG, Stage
from tools.azurite import Azurite

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


# --- no engine, and people hear of it -------------------------------------------------------------------------

WRONG = "[opportunity]\nname =\n"


@dataclass
class Scene:
    """The watch's function as it is deployed, with a webhook and storage of its own."""

    env: pytest.MonkeyPatch
    receiver: Receiver
    mapping: Path
    looks: list[Engine] = field(default_factory=list)

    def look(self) -> str:
        """What the watch's function fails with, '' if it does not."""
        wiring._built.cache_clear()  # whoever corrects a setting or deploys starts the app again
        try:
            function_app.watch_sync.build().get_user_function()(None)  # type: ignore[attr-defined]  # a decorated function
        except ConfigurationError as error:
            return str(error)
        return ""

    def write(self, text: str) -> None:
        self.mapping.write_text(text, encoding="utf-8")

    @property
    def told(self) -> list[str]:
        return [body["text"] for _, body in self.receiver.got]


@pytest.fixture
def scene(env: pytest.MonkeyPatch, azurite: Azurite, tmp_path: Path) -> Iterator[Scene]:
    receiver = Receiver()
    receiver.authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    scene = Scene(env, receiver, tmp_path / "sync.toml")
    env.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    env.setenv(STORAGE, azurite.connection_string)
    env.setenv("ALERT_WEBHOOK_URL", receiver.url)
    env.setenv("SYNC_CONFIG", str(scene.mapping))
    env.setattr(Engine, "watch", lambda engine: scene.looks.append(engine))
    documents = open_storage(Settings.from_env(os.environ), SystemClock(), map).documents
    documents.delete(*STOPPED)
    yield scene
    receiver.server.shutdown()
    receiver.server.server_close()


def test_of_a_mapping_that_lets_nothing_run_people_are_told_once_and_when_it_is_over(scene: Scene) -> None:
    scene.write(WRONG)
    said = [scene.look() for _ in range(3)]
    assert said[0].startswith("sync.toml line 2")
    assert len(set(said)) == 1
    assert scene.looks == []
    (told,) = scene.told
    title, line = told.splitlines()
    assert title.startswith("Opportunity Sync")
    assert title.endswith(": nothing runs")
    assert line == f"stopped: {said[0].rstrip('.')}. How to look and to mend: docs/operations.md, stopped"

    scene.write(CONFIG)
    assert [scene.look(), scene.look()] == ["", ""]

    assert [told.splitlines()[1] for told in scene.told[1:]] == ["stopped: over"]
    assert len(scene.looks) == 2


def test_another_reason_is_told_as_well(scene: Scene) -> None:
    scene.write(WRONG)
    scene.look()
    scene.env.setenv("MARKETO_DAILY_CALLS", "lots")

    assert "MARKETO_DAILY_CALLS must be" in scene.look()

    assert ["sync.toml" in told for told in scene.told] == [True, False]
    assert "stopped: MARKETO_DAILY_CALLS must be a whole number above 0" in scene.told[1]


def test_what_the_webhook_did_not_take_is_told_later(scene: Scene) -> None:
    scene.write(WRONG)
    scene.receiver.status = 404
    scene.look()
    scene.look()
    scene.receiver.status = 200
    scene.receiver.got.clear()

    scene.look()
    scene.look()

    assert len(scene.told) == 1


@pytest.mark.parametrize(
    "connection",
    [
        "",
        "nonsense",
        "AccountName=x;AccountKey=eA==;TableEndpoint=http://127.0.0.1:9/x;QueueEndpoint=http://127.0.0.1:9/x",
    ],
    ids=["missing", "not understood", "nobody there"],
)
def test_without_storage_the_log_alone_tells(scene: Scene, connection: str) -> None:
    """Nobody could remember that it was told."""
    scene.write(WRONG)
    scene.env.setenv(STORAGE, connection)

    assert scene.look() != ""

    assert scene.told == []


def test_without_a_webhook_nothing_is_kept(scene: Scene) -> None:
    scene.write(WRONG)
    scene.env.delenv("ALERT_WEBHOOK_URL")

    assert scene.look() != ""

    scene.write(CONFIG)
    scene.env.setenv("ALERT_WEBHOOK_URL", scene.receiver.url)
    assert scene.look() == ""
    assert scene.told == []


def test_what_cannot_be_remembered_is_not_told() -> None:
    channel, documents = Channel(), Stage().world.documents

    class ReadOnly:
        read = staticmethod(documents.read)

        def write(self, *_: Any) -> str:
            raise Unavailable("the tables take nothing")

    with pytest.raises(Unavailable):
        tell(cast(Documents, ReadOnly()), channel, "a setting is wrong")

    assert channel.told == []


def test_of_a_newer_state_people_are_told_once_and_when_its_version_is_back(scene: Scene) -> None:
    scene.write("[opportunity]\nname = 'name'\n")
    documents = open_storage(Settings.from_env(os.environ), SystemClock(), map).documents
    documents.write(*PAIR, {"schema": SCHEMA + 1, "version": "9.8.7", "munchkin": "123-ABC-456"}, None)
    try:
        said = {scene.look() for _ in range(2)}
    finally:
        documents.delete(*PAIR)

    assert len(said) == 1
    assert "version 9.8.7" in said.pop()
    assert scene.looks == []
    assert len(scene.told) == 1
    assert scene.look() == ""
    assert scene.told[1].endswith("stopped: over")
