"""A spreadsheet that opens the file runs nothing in it, and loses nothing."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_core.flows.export import HEAD, safe, write_csv
from sync_core.flows.failures import Failure
from tests.flows.test_actions import an_id

FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+1",
    "-1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "  =1",
    "\u00a0=1",
    "＝1",
    "|calc",
    '=HYPERLINK("https://evil.test")',
]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_text(text: str) -> None:
    out = io.StringIO()
    write_csv([Failure("opportunities", an_id(1), "parked", text, 3, "")], out)
    (head, row) = csv.reader(io.StringIO(out.getvalue(), newline=""))

    assert head == HEAD
    assert row == ["opportunity", an_id(1), "parked", f"'{text}", "3", ""]


@given(st.text())
def test_no_cell_begins_as_a_formula_does_and_every_text_comes_back(text: str) -> None:
    cell = safe(text)

    assert not cell.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    assert cell in (text, f"'{text}")
