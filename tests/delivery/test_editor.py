"""Dev container and VS Code: what they start exists, and says the words that they wait for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tools import local

ROOT = Path(__file__).parent.parent.parent
CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
TASKS = {task["label"]: task for task in json.loads((ROOT / ".vscode" / "tasks.json").read_text())["tasks"]}
LAUNCHES = json.loads((ROOT / ".vscode" / "launch.json").read_text())["configurations"]
EXTENSIONS = json.loads((ROOT / ".vscode" / "extensions.json").read_text())["recommendations"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

BACKGROUND = [task for task in TASKS.values() if isinstance(task["problemMatcher"], dict)]


def test_the_container_has_our_python_and_installs_all_with_one_target() -> None:
    assert CONTAINER["image"] == "mcr.microsoft.com/devcontainers/python:3.11-bookworm"
    assert CONTAINER["postCreateCommand"] == "make setup"
    assert {name.rpartition("/")[2].partition(":")[0] for name in CONTAINER["features"]} == {
        "azd",
        "azure-cli",
        "github-cli",
        "node",
    }
    assert "azure-functions-core-tools@4" in CONTAINER["onCreateCommand"]


def test_the_container_forwards_the_ports_that_are_used() -> None:
    used = [local.HTTP_PORT, local.PLACES.dataverse, local.PLACES.marketo]

    assert CONTAINER["forwardPorts"] == used
    assert CONTAINER["portsAttributes"].keys() == set(map(str, used))


def test_container_and_checkout_recommend_the_same_extensions() -> None:
    assert CONTAINER["customizations"]["vscode"]["extensions"] == EXTENSIONS == sorted(EXTENSIONS)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_what_a_task_runs_exists(task: dict[str, Any]) -> None:
    if task["type"] == "shell":
        assert set(re.findall(r"make ([a-z-]+)", task["command"])) <= TARGETS
        (options,) = re.findall(r"ARGS='([^']*)'", task["command"]) or [""]
        assert local.parser().parse_args(options.split())
    assert task.get("dependsOn", "services") in TASKS


def test_core_tools_start_in_one_step_with_all_that_they_need() -> None:
    task = TASKS["func: host start"]

    assert (task["type"], task["command"], task["dependsOn"]) == ("func", "host start", "services")
    assert "--host none" in TASKS["services"]["command"]


def test_what_is_debugged_is_started_first() -> None:
    attached, launched = LAUNCHES

    assert attached["preLaunchTask"] in TASKS
    assert launched["module"] == local.__name__
    assert local.parser().parse_args(launched["args"]).host == "local"


@pytest.mark.parametrize("task", BACKGROUND, ids=lambda task: task["label"])
def test_the_editor_waits_for_words_that_are_printed(task: dict[str, Any]) -> None:
    words = re.findall(r'say\(f?"([^"{]*)', (ROOT / "tools" / "local.py").read_text())
    waits = task["problemMatcher"]["background"]

    assert len(BACKGROUND) == 2
    assert any(re.search(waits["beginsPattern"], each) for each in words)
    assert any(re.search(waits["endsPattern"], each) for each in words)
    assert task["isBackground"]


def test_no_file_of_the_editor_belongs_to_one_machine() -> None:
    for path in [*(ROOT / ".vscode").iterdir(), *(ROOT / ".devcontainer").iterdir()]:
        assert re.findall(r'"[^"]*(?:/home/|/Users/|[A-Z]:\\\\)', path.read_text()) == [], path.name
