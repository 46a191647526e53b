"""A spreadsheet that opens the file runs nothing in it, and loses nothing."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_core.flows.failures import Failure
from sync_core.model import LedgerRow, State
from sync_core.web import views
from sync_core.web.export import BOM, HEAD, as_csv, safe
from tests.flows.test_actions import an_id, fill
from tests.stage import Stage
from tests.web.browser import Browser

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


def rows(text: str) -> list[list[str]]:
    assert text.startswith(BOM)
    return list(csv.reader(io.StringIO(text.removeprefix(BOM), newline="")))


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_text(text: str) -> None:
    (_, row) = rows(as_csv([Failure("opportunities", an_id(1), "parked", text, 3, "")]))

    assert row == ["opportunity", an_id(1), "parked", f"'{text}", "3", ""]


@given(st.text())
def test_no_cell_begins_as_a_formula_does_and_every_text_comes_back(text: str) -> None:
    cell = safe(text)

    assert not cell.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    assert cell in (text, f"'{text}")


def test_all_failures_come_however_many_pages_they_fill(
    stage: Stage, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(stage, State.PARKED, 'a "reason", with\nlines', range(200))
    fill(stage, State.WAITING, "another", range(200, 230))
    monkeypatch.setattr(views, "EXPORTED", 17)

    answer = browser.answer("failures.csv")
    found = rows(answer.body)

    assert found[0] == HEAD
    assert len({row[1] for row in found[1:]}) == len(found) - 1 == 230
    assert found[1][3] == 'a "reason", with\nlines'
    assert answer.headers["Content-Disposition"] == 'attachment; filename="failures.csv"'
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert len(rows(browser.answer("failures.csv", state="waiting").body)) == 31


def test_a_file_that_took_too_long_says_where_it_goes_on(
    stage: Stage, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.world.opportunities.write([LedgerRow(an_id(n), state=State.PARKED, reason="x") for n in range(50)])
    monkeypatch.setattr(views, "EXPORTED", 20)
    monkeypatch.setattr(views, "EXPORT_S", 0)

    first = rows(browser.answer("failures.csv").body)

    assert len(first) == 22
    after = first[-1][0].partition("after=")[2].partition(",")[0]
    rest = rows(browser.answer("failures.csv", after=after).body)
    assert {row[1] for row in first[1:-1]} & {row[1] for row in rest[1:]} == set()
