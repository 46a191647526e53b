"""`make infra-check`: what it says when something is wrong, and that something wrong is seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import infra_check
from tools.environments import EnvironmentFailed
from tools.infra_check import Found


def given(monkeypatch: pytest.MonkeyPatch, *found: Found) -> None:
    monkeypatch.setattr(infra_check, "CHECKS", [(each.check, lambda each=each: each) for each in found])


GOOD = Found("syntax", "ok", "8 files")
BAD = Found("types", "failed", "1 error", "infra/main.bicep:3: error: unknown name 'x'")
LEFT_OUT = Found("schemas", "SKIPPED", "no ../shared beside the checkout")


def test_all_is_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given(monkeypatch, GOOD, LEFT_OUT)
    assert infra_check.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["ok", "syntax"], ["SKIPPED", "schemas"]]
    assert lines[-1].startswith("all is well")


def test_what_failed_is_shown_and_the_others_are_done_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, BAD, GOOD)
    assert infra_check.main([]) == 1
    shown = capsys.readouterr().out
    assert BAD.output in shown
    assert shown.splitlines()[-1] == "types failed"
    assert "8 files" in shown


def test_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given(monkeypatch, GOOD, BAD)
    assert infra_check.main(["--json"]) == 1
    found = json.loads(capsys.readouterr().out)["checks"]
    assert [(each["check"], each["state"]) for each in found] == [("syntax", "ok"), ("types", "failed")]


def test_an_environment_that_cannot_be_made_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Found:
        raise EnvironmentFailed("no network")

    monkeypatch.setattr(infra_check, "CHECKS", [("checkov", broken)])
    assert infra_check.main([]) == 1
    assert "no network" in capsys.readouterr().out


def test_what_is_no_bicep_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    odd = tmp_path / "odd.bicep"
    odd.write_text("resource x 'A/b@2024-01-01' = {\n  name: \n  }}\n")
    monkeypatch.setattr(infra_check, "ROOT", tmp_path)
    monkeypatch.setattr(infra_check, "FILES", [odd])
    found = infra_check.syntax()
    assert found.state == "failed"
    assert "odd.bicep:" in found.output


def test_a_checkout_alone_skips_what_needs_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(infra_check, "SHARED", tmp_path)
    assert {infra_check.types().state, infra_check.schemas().state} == {"SKIPPED"}
