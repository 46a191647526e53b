"""All that is not in step comes as a file, however much it is."""

from __future__ import annotations

import csv
import io

import pytest

from sync_core.flows.export import HEAD
from sync_core.model import LedgerRow, State
from sync_core.web import views
from sync_core.web.site import BOM
from tests.flows.test_actions import an_id, fill
from tests.stage import Stage
from tests.web.browser import Browser


def rows(text: str) -> list[list[str]]:
    assert text.startswith(BOM)
    return list(csv.reader(io.StringIO(text.removeprefix(BOM), newline="")))


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
