"""azure-functions-doctor is asked and heard; about the real package it is asked by `python -m tools.doctor`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import doctor
from tools.doctor import DoctorError, Finding, examined

pytestmark = pytest.mark.timeout(300)  # the first time, it is downloaded


def test_an_app_that_azure_would_not_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text("import azure.functions as func\napp = func.FunctionApp()\n")
    (tmp_path / "requirements.txt").touch()

    found = {finding.rule: finding.text for finding in examined(tmp_path, "3.11")}

    assert {"check_host_json", "check_azure_functions_library", "check_programming_model_v2"} <= found.keys()
    assert not any(str(tmp_path) in text for text in found.values())


def test_without_a_folder_to_look_at_the_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(DoctorError, match="gave no answer: "):
        examined(tmp_path / "nowhere", "3.11")


@pytest.mark.parametrize(
    ("rules", "code", "last"),
    [(["check_app_insights"], 0, "0 findings besides 1"), (["new", "check_app_insights"], 1, "1 findings besides 1")],
)
def test_only_what_is_no_noise_fails(
    rules: list[str], code: int, last: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "findings", lambda: [Finding(rule, "a text") for rule in rules])

    assert doctor.main() == code
    assert f"azure-functions-doctor: {last} that are noise" in capsys.readouterr().out
