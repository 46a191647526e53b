"""What the host is told about our functions, and what is deployed with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pathspec
import pytest

import function_app
from tools.local_host import QueueOptions

REPOSITORY = Path(__file__).parent.parent.parent
OPTIONS = QueueOptions.from_host_json(REPOSITORY / "host.json")
IGNORED = pathspec.GitIgnoreSpec.from_lines((REPOSITORY / ".funcignore").read_text().splitlines())
LATE_WRITE_S = 300  # default of MARKETO_LATE_WRITE_S
TRIGGERS = {each.get_function_name(): each.get_trigger().get_dict_repr() for each in function_app.app.get_functions()}


def test_every_function_has_one_trigger() -> None:
    assert {name: trigger["type"] for name, trigger in TRIGGERS.items()} == {
        "detect_changes": "timerTrigger",
        "watch_sync": "timerTrigger",
        "sync_opportunities": "queueTrigger",
        "sync_backlog": "queueTrigger",
        "status_page": "httpTrigger",
        "status_json": "httpTrigger",
        "health": "httpTrigger",
    }


@pytest.mark.parametrize(
    ("function", "route", "methods", "level"),
    [
        ("status_page", "status/{*page}", ["GET", "POST"], "function"),
        ("status_json", "status.json", ["GET"], "function"),
        ("health", "health", ["GET"], "anonymous"),
    ],
)
def test_each_page_has_its_route_and_needs_a_key_but_for_probes(
    function: str, route: str, methods: list[str], level: str
) -> None:
    found = TRIGGERS[function]

    assert (found["route"], [each.value for each in found["methods"]]) == (route, methods)
    assert found["authLevel"].value.lower() == level


def test_the_timer_takes_its_schedule_from_a_setting_and_does_not_run_at_every_start() -> None:
    timer = TRIGGERS["detect_changes"]

    assert timer["schedule"] == "%SYNC_SCHEDULE%"
    assert not timer.get("runOnStartup")


@pytest.mark.parametrize(
    ("function", "queue"), [("sync_opportunities", "opportunity-sync"), ("sync_backlog", "opportunity-sync-slow")]
)
def test_each_lane_has_its_queue_in_the_storage_account_of_the_app(function: str, queue: str) -> None:
    assert TRIGGERS[function]["queueName"] == queue
    assert TRIGGERS[function]["connection"] == "AzureWebJobsStorage"


def test_importing_needs_no_setting_and_none_of_our_clients() -> None:
    """The host lists functions by importing, at every cold start, whatever state the settings are in."""
    program = "import sys, function_app; print([m for m in sys.modules if m.startswith(('sync_core', 'azure.data'))])"

    imported = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], env={}, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert imported.returncode == 0, imported.stderr
    assert imported.stdout.strip() == "[]"


def test_a_failed_delivery_comes_back_after_any_late_write() -> None:
    assert OPTIONS.visibility_timeout >= LATE_WRITE_S


def test_one_delivery_at_a_time_is_seen_within_two_seconds() -> None:
    assert OPTIONS.in_flight == 1
    assert OPTIONS.max_polling_interval <= 2


def test_messages_are_base64_as_the_host_decodes_them() -> None:
    assert OPTIONS.base64


def test_an_invocation_may_not_outlast_its_lease() -> None:
    host = json.loads((REPOSITORY / "host.json").read_text())

    assert host["functionTimeout"] == "00:10:00"


@pytest.mark.parametrize(
    "path",
    [
        "function_app.py",
        "host.json",
        "requirements.txt",
        "sync.toml",
        "sync_core/wiring.py",
        "sync_core/flows/detect.py",
        "sync_core/web/templates/status.html",
        "sync_core/web/templates/page.js",
    ],
)
def test_is_deployed(path: str) -> None:
    assert not IGNORED.match_file(path)


@pytest.mark.parametrize(
    "path",
    [
        "tests/conftest.py",
        "tools/azurite.py",
        "bench/anything.py",
        "docs/architecture.md",
        "infra/main.bicep",
        ".venv/bin/python",
        ".azurite/package.json",
        ".browser/package.json",
        ".git/config",
        ".github/workflows/ci.yml",
        ".ci/run",
        "sync_core/__pycache__/model.cpython-311.pyc",
        "README.md",
        "Makefile",
        "pyproject.toml",
        "requirements.in",
        "requirements-dev.in",
        "requirements-dev.txt",
        ".azure/production/.env",
        ".infra/doctor/bin/python",
        ".package/opportunity-sync-0.1.0.zip",
        ".state/demo/host.log",
        "LICENSE",
        "azure.yaml",
        "local.settings.json",
        "local.settings.json.example",
    ],
)
def test_stays_out_of_azure(path: str) -> None:
    assert IGNORED.match_file(path)


def test_the_example_settings_name_every_setting_the_triggers_use() -> None:
    values = json.loads((REPOSITORY / "local.settings.json.example").read_text())["Values"]

    assert {"SYNC_SCHEDULE", "AzureWebJobsStorage"} <= values.keys()
