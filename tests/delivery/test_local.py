"""The app on this machine in one step: it runs, changes arrive, everything ends, and no file of yours is touched."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path

import pytest
import requests

from sync_core.settings import Settings, _environment
from tools import local
from tools.demo.screen import Failed

REPOSITORY = Path(__file__).parent.parent.parent
EXAMPLE = json.loads((REPOSITORY / "local.settings.json.example").read_text())
AT_MOST_S = 90

FUNC = """#!{python}
import json, os, signal, sys, http.server
from pathlib import Path
told = {{"arguments": sys.argv[1:], "folder": os.getcwd(), "python": sys.prefix, "environment": dict(os.environ)}}
Path({record!r}).write_text(json.dumps(told))
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
try:
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), Answer).serve_forever()
except KeyboardInterrupt:
    Path({record!r}).with_suffix(".ended").touch()
"""
"""Stands for Core Tools, which can't be installed where these tests run: it records how it was called."""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The function app in a folder of its own, without settings."""
    folder = tmp_path / "app"
    folder.mkdir()
    for name in ("function_app.py", "host.json", "sync.toml", "sync_core"):
        (folder / name).symlink_to(REPOSITORY / name)
    return folder


class Run:
    def __init__(self, process: subprocess.Popen[str], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def told(self) -> str:
        return self._output.read_text()

    def wait_for(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + AT_MOST_S
        while not holds():
            assert self.process.poll() is None, self.told
            assert time.monotonic() < deadline, self.told
            time.sleep(0.1)

    def wait_until_ready(self) -> None:
        self.wait_for(lambda: "\nReady" in self.told)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextmanager
def started(app: Path, *arguments: str, **environment: str) -> Iterator[Run]:
    output = app.parent / "output"
    with output.open("w") as file:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "tools.local", "--free-ports", "--app", str(app), *arguments],
            cwd=REPOSITORY,
            env=os.environ | environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield Run(process, output)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def values(app: Path) -> dict[str, str]:
    return dict(json.loads((app / "local.settings.json").read_text())["Values"])


def listening(text: str) -> set[int]:
    """The ports in *text* on which somebody listens."""
    found = set()
    for port in {int(each) for each in re.findall(r"(?:localhost|127\.0\.0\.1):(\d+)", text)}:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
            found.add(port)
    return found


def test_one_step_and_marketo_holds_what_dynamics_says(app: Path) -> None:
    """With Marketo's and Entra's certificates trusted by what stands in local.settings.json, and nowhere else."""
    elsewhere = {"DATAVERSE_URL": "https://elsewhere.example", "REQUESTS_CA_BUNDLE": "", "MARKETO_DAILY_CALLS": "1"}
    with started(app, "--host", "local", **elsewhere) as run:
        run.wait_until_ready()
        run.wait_for(lambda: "opportunities_posted=370" in run.told)
        written = values(app)
        places = f"{written} {run.told}"
        assert len(listening(places)) == 6  # Azurite's three, the emulators, the host
        status = re.search(r"The status page: (\S+)", run.told)
        assert status is not None
        page = requests.get(status[1], timeout=30)
        code = run.interrupt()

    assert page.status_code == 200
    assert "Opportunity Sync" in page.text
    assert written["DATAVERSE_URL"] in run.told
    assert code == local.STOPPED
    assert run.told.endswith("Stopped; nothing was left running.\n")
    assert listening(places) == set()


def test_core_tools_run_the_functions_where_they_are(app: Path, tmp_path: Path) -> None:
    func, record = tmp_path / "bin" / "func", tmp_path / "func.json"
    func.parent.mkdir()
    func.write_text(FUNC.format(python=sys.executable, record=str(record)))
    func.chmod(0o755)
    path = f"{func.parent}{os.pathsep}{os.environ['PATH']}"
    with started(app, PATH=path, DATAVERSE_URL="https://elsewhere.example", REQUESTS_CA_BUNDLE="other.pem") as run:
        run.wait_until_ready()
        assert run.interrupt() == local.STOPPED
    called = json.loads(record.read_text())

    assert called["arguments"][:2] == ["start", "--port"]
    assert Path(called["folder"]) == app
    assert called["environment"]["PATH"].startswith(str(Path(sys.executable).parent))
    assert called["environment"]["VIRTUAL_ENV"] == sys.prefix
    assert called["environment"].keys() & values(app).keys() == set()  # they would win over the file
    assert record.with_suffix(".ended").exists()


def test_a_host_that_ends_is_told_and_everything_ends(app: Path, tmp_path: Path) -> None:
    func = tmp_path / "bin" / "func"
    func.parent.mkdir()
    func.write_text("#!/bin/sh\nexit 3\n")
    func.chmod(0o755)
    with started(app, "--host", "func", PATH=f"{func.parent}{os.pathsep}{os.environ['PATH']}") as run:
        assert run.process.wait(AT_MOST_S) == 1

    assert "the functions' host did not start: exit code 3" in run.told


def test_settings_that_lead_elsewhere_are_left_alone_and_nothing_runs_with_them(app: Path) -> None:
    path = app / "local.settings.json"
    path.write_text(json.dumps(EXAMPLE))
    before = path.read_bytes()
    with started(app, "--host", "local") as run:
        assert run.process.wait(AT_MOST_S) == 1

    assert path.read_bytes() == before
    assert "does not lead to these emulators: DATAVERSE_URL, " in run.told
    assert "Move it away" in run.told
    assert "Starting " + sys.executable not in run.told


def test_settings_of_an_earlier_run_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "local.settings.json"
    there = dict.fromkeys(local.WHERE, "here")
    assert local.provide(path, there)
    mine = path.read_text().replace('"Values": {', '"Values": {"MARKETO_CONCURRENCY": "1",')
    path.write_text(mine)

    assert not local.provide(path, there)
    assert path.read_text() == mine


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Values": []}'])
def test_settings_that_cannot_be_read_are_told_and_left_alone(text: str, tmp_path: Path) -> None:
    path = tmp_path / "local.settings.json"
    path.write_text(text)

    with pytest.raises(Failed, match=r"local.settings.json can't be read"):
        local.provide(path, dict.fromkeys(local.WHERE, "here"))

    assert path.read_text() == text


def test_what_needs_core_tools_says_so_without_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Failed, match="install Azure Functions Core Tools 4"):
        local.host_command("func", tmp_path, 1)


# --- the example ----------------------------------------------------------------------------------------------

NOT_LOCAL = {"DATAVERSE_FEDERATED_CLIENT_ID", "APPLICATIONINSIGHTS_CONNECTION_STRING"}


def test_the_example_names_every_setting_that_a_machine_of_ones_own_needs_and_no_other() -> None:
    """An identity and its storage are Azure's; so is Application Insights."""
    known = {_environment(item.name) for item in fields(Settings) if item.name != "doubts"}
    wanted = {name for name in known if "__" not in name} - NOT_LOCAL

    assert EXAMPLE["Values"].keys() == wanted | {"FUNCTIONS_WORKER_RUNTIME"}


def test_the_example_holds_the_defaults_and_no_secret() -> None:
    values = EXAMPLE["Values"]
    defaults = {_environment(item.name): item.default for item in fields(Settings)}

    assert EXAMPLE["IsEncrypted"] is False
    assert all(isinstance(value, str) for value in values.values())
    assert {name: value for name, value in values.items() if "SECRET" in name or "CERTIFICATE" in name} == {
        name: "" for name in values if "SECRET" in name or "CERTIFICATE" in name
    }
    for name, default in defaults.items():
        if name in values and isinstance(default, (str, int)) and default != "":
            assert (name in local.WHERE and values[name]) or values[name] == str(default), name
