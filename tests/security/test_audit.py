"""The dependency audit never takes silence for a good answer, and never fails for lack of a network."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tools import audit

ROOT = Path(__file__).parents[2]
GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "ours", "skip_reason": "not found on PyPI"}


def test_without_the_database_it_says_so_and_passes(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(audit.requests, "get", refused)

    assert audit.main() == 0
    assert capsys.readouterr().out.startswith("SKIPPED: ")


def refused(*_: Any, **__: Any) -> Any:
    raise audit.requests.ConnectionError


@pytest.mark.parametrize(
    "answer", [SimpleNamespace(ok=False, status_code=404), SimpleNamespace(ok=True, status_code=200, json=dict)]
)
def test_a_mirror_without_advisories_is_no_database(answer: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(audit.requests, "get", lambda *_, **__: answer)

    assert "without advisories" in audit.unreachable()


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([GOOD], 0, "1 packages audited, 0 known"),
        ([GOOD, BAD], 1, "bad 2: PYSEC-1, fixed in 3"),
        ([GOOD, UNKNOWN], 0, "not audited: ours"),
        ([UNKNOWN], 0, "SKIPPED: "),
        ([], 0, "SKIPPED: "),
    ],
)
def test_what_was_found_decides(packages: list[Any], code: int, said: str) -> None:
    found = audit.told({"dependencies": packages})

    assert found[0] == code
    assert said in "\n".join(found[1])


@pytest.mark.parametrize("output", ["", "{}", "no JSON"])
def test_an_audit_that_breaks_is_a_failure(output: str, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(audit, "unreachable", lambda: "")
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=output, stderr="why"))

    assert audit.main() == 1
    assert "why" in capsys.readouterr().out


def test_a_hanging_audit_is_no_failure(monkeypatch: Any, capsys: Any) -> None:
    def hangs(*_: Any, **__: Any) -> Any:
        raise subprocess.TimeoutExpired("pip-audit", 1)

    monkeypatch.setattr(audit, "unreachable", lambda: "")
    monkeypatch.setattr(audit.subprocess, "run", hangs)

    assert audit.main() == 0
    assert capsys.readouterr().out.startswith("SKIPPED: ")


def test_make_test_runs_it_and_the_security_rules_of_the_linter() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    assert re.search(r"^test: lint audit\b", makefile, re.MULTILINE)
    assert re.search(r'^select = \[.*"S"', rules, re.MULTILINE)


def test_every_exception_from_a_security_rule_has_its_reason() -> None:
    """In the code behind the rule, in pyproject.toml behind the entry."""
    bare = re.compile(r"#\s*noqa:[^-#\n]*\bS\d{3}\b[^-#\n]*$")
    files = [path for folder in ("sync_core", "tools", "bench", "tests") for path in (ROOT / folder).rglob("*.py")]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if bare.search(line)
    ]
    ignored = [line for line in (ROOT / "pyproject.toml").read_text().splitlines() if re.match(r'\s+"S\d{3}",', line)]

    assert found == []
    assert ignored
    assert [line for line in ignored if "#" not in line] == []
