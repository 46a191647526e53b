"""Which variables of a GitHub environment azd gets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.azd_variables import REQUIRED, SIGN_IN, chosen, known

ROOT = Path(__file__).parents[2]
COMPLETE = dict.fromkeys(REQUIRED, "x")


def test_those_that_the_templates_take_and_no_other() -> None:
    given = json.loads((ROOT / "infra" / "main.parameters.json").read_text())["parameters"].values()
    wanted = {match[1] for each in given if (match := re.fullmatch(r"\$\{(\w+)\}", str(each["value"])))}

    assert len(wanted) == len(given)
    assert set(known()) == wanted | set(SIGN_IN)
    assert set(chosen(COMPLETE | dict.fromkeys(known(), "x") | {"PATH": "x", "MARKETO_CLIENT_SECRET": "x"})) == set(
        known()
    )


def test_what_is_required_is_what_has_no_default_in_the_template() -> None:
    template = (ROOT / "infra" / "main.bicep").read_text()
    given = json.loads((ROOT / "infra" / "main.parameters.json").read_text())["parameters"]
    bare = re.findall(r"^param (\w+) \w+$", template, re.MULTILINE)

    assert set(REQUIRED) == {given[name]["value"].strip("${}") for name in bare} | set(SIGN_IN)


def test_an_empty_one_is_left_out_so_that_the_template_has_its_default() -> None:
    assert chosen(COMPLETE | {"SYNC_SCHEDULE": "", "DATAVERSE_SIGN_IN": "  ", "SYNC_LIVE": "true"}) == COMPLETE | {
        "SYNC_LIVE": "true"
    }


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"GitHub environment: AZURE_CLIENT_ID, MARKETO_URL$"):
        chosen(COMPLETE | {"AZURE_CLIENT_ID": "", "MARKETO_URL": " "})


def test_a_second_line_can_set_nothing_else() -> None:
    with pytest.raises(ValueError, match="more than one line: SYNC_CONFIG"):
        chosen(COMPLETE | {"SYNC_CONFIG": "sync.toml\nPATH=/elsewhere"})


@pytest.mark.parametrize(("variables", "code"), [(COMPLETE, 0), ({}, 1)])
def test_it_prints_lines_for_the_next_steps(variables: dict[str, str], code: int) -> None:
    """As the workflow runs it: a Python that has nothing installed."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "tools.azd_variables"],
        env=os.environ | {"VARIABLES": json.dumps(variables)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code
    assert done.stdout.splitlines() == ([f"{name}=x" for name in known() if name in REQUIRED] if not code else [])
    assert ("::error::" in done.stderr) == bool(code)
