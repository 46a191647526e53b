"""`python -m tools.emulators`: mistakes in what it is given end with the file's name, not with a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "text", ["{", "null", '["a"]', '{"rows": []}', '[{"estimatedvalue": "abc"}]', '[{"opportunityid": "x"}]']
)
def test_data_that_can_not_be_loaded_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "opportunities.json").write_text(text, encoding="utf-8")

    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "tools.emulators", "dataverse", "--load", str(tmp_path), "--folder", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert tmp_path.name in done.stderr or "opportunities.json" in done.stderr
    assert "Traceback" not in done.stderr
