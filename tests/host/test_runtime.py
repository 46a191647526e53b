"""The functions are found and called by the runtime that Microsoft's worker uses, not only by ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
FIXTURE_APP = Path(__file__).parent / "fixture_app"
PROBE = Path(__file__).parent / "runtime_probe.py"
RUNTIME = Path(sys.prefix) / "functions-runtime"


def in_the_runtime(app_dir: Path, *, python: str = sys.executable, **settings: str) -> dict[str, Any]:
    """What the probe says of *app_dir*, run by *python*, with *settings* and nothing else in the environment."""
    assert RUNTIME.is_dir(), "the Functions runtime is not installed: run `make setup`"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(RUNTIME), **settings}
    command = [python, str(PROBE), str(app_dir)]
    probe = subprocess.run(command, env=environment, cwd=app_dir, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert probe.returncode == 0, probe.stderr
    answer: dict[str, Any] = json.loads(probe.stdout.splitlines()[-1])
    return answer


@pytest.fixture(scope="module")
def without_settings() -> dict[str, Any]:
    return in_the_runtime(REPOSITORY)


def test_every_function_is_indexed(without_settings: dict[str, Any]) -> None:
    triggers = {name: found[0]["type"] for name, found in without_settings["functions"].items()}

    assert triggers == {
        "detect_changes": "timerTrigger",
        "watch_sync": "timerTrigger",
        "sync_opportunities": "queueTrigger",
        "sync_backlog": "queueTrigger",
        "status_page": "httpTrigger",
        "status_json": "httpTrigger",
        "health": "httpTrigger",
    }


@pytest.mark.parametrize("function", ["detect_changes", "watch_sync", "sync_opportunities", "sync_backlog"])
def test_without_settings_a_call_fails_naming_all_that_are_missing(
    function: str, without_settings: dict[str, Any]
) -> None:
    call = without_settings["calls"][function]

    assert not call["succeeded"]
    assert "ConfigurationError" in call["error"]
    assert "missing settings" in call["error"]
    for setting in ("DATAVERSE_URL", "MARKETO_URL", "AzureWebJobsStorage"):
        assert setting in call["error"]


def test_without_settings_the_page_names_them_and_a_probe_gets_no_data(without_settings: dict[str, Any]) -> None:
    page, plain, probe = (without_settings["calls"][name] for name in ("status_page", "status_json", "health"))

    assert (page["status"], plain["status"], probe["status"]) == ("503", "503", "503")
    assert "missing settings: DATAVERSE_URL" in page["body"]
    assert "missing settings: DATAVERSE_URL" in json.loads(plain["body"])["error"]
    assert json.loads(probe["body"]) == {"status": "needs attention"}


def test_what_the_local_host_drives_runs_there_too(tmp_path: Path) -> None:
    """The fixture of the local host's own tests is a real app."""
    answer = in_the_runtime(FIXTURE_APP, FIXTURE_JOURNAL=str(tmp_path / "journal"), FIXTURE_SCHEDULE="0 0 0 1 1 *")

    calls = answer["calls"]
    fine = {"succeeded": True, "error": None}
    assert {name: calls[name] for name in ("tick", "work")} == {"tick": fine, "work": fine}
    assert calls["plain"] == fine | {"status": "200", "body": "plain – text"}
    assert not calls["broken"]["succeeded"]
    assert calls["echo"]["status"] == "201"
    assert json.loads(calls["echo"]["body"])["route"] == {"kind": "kind"}
