"""The alert rules of Azure are the alerts that the sync knows, told in the runbook's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from sync_core.rules.alerts import ALERTS, BEHIND, FIRST, WATCH_WITHIN
from tests.docs.test_docs import section
from tools.kql import QUERIES, Checked, stored

ROOT = Path(__file__).parent.parent.parent
BICEP = (ROOT / "infra" / "modules" / "alerts.bicep").read_text(encoding="utf-8")
QUERY = (QUERIES / "alerts.kql").read_text(encoding="utf-8")


def known() -> list[tuple[str, ...]]:
    """The table of the query: name, when, what it means, where to begin."""
    cells = re.findall(r'"([^"]*)"', QUERY.partition("[\n")[2].partition("\n];")[0])
    return [tuple(cells[at : at + 4]) for at in range(0, len(cells), 4)]


def minutes(text: str) -> timedelta:
    return timedelta(minutes=int(re.sub(r"\D", "", text)))


def test_the_rules_know_every_alert_in_the_words_of_the_runbook() -> None:
    assert [(name, means, begin) for name, _, means, begin in known()] == [
        (name, means, FIRST[name]) for name, means in ALERTS.items()
    ]


def test_each_alert_belongs_to_one_rule_and_what_keeps_us_out_of_step_is_told_at_once() -> None:
    rules = re.findall(r"when: '(\w+)'\s+severity: (\d)", BICEP)

    assert rules == [("now", "1"), ("later", "3")]
    assert {when for _, when, *_ in known()} == {when for when, _ in rules}
    assert {name for name, when, *_ in known() if when == "now"} == BEHIND | {"watch-missed"}


def test_the_runbook_tells_which_alerts_are_told_at_once() -> None:
    table = section((ROOT / "docs" / "operations.md").read_text(encoding="utf-8"), "Alerts in Azure")
    (row,) = [line for line in table.splitlines() if "needed now" in line]

    assert set(re.findall("`([^`]+)`", row)) == BEHIND | {"watch-missed"}


def test_a_rule_splits_by_all_that_the_query_tells(checked: Mapping[str, Checked]) -> None:
    dimensions = re.findall(r"name: '(\w+)', operator: 'Include', values: \[(.*)\]", BICEP)

    assert sorted(checked["alerts.kql"].columns) == sorted((name, "string") for name, _ in dimensions)
    assert [name for name, values in dimensions if values != "'*'"] == ["when"]
    assert dict(dimensions)["when"] == "rule.when"


def test_nobody_watches_once_no_look_came_for_as_long_as_the_sync_itself_says() -> None:
    (back,) = re.findall(r"ago\((\d+m)\)", QUERY)
    (window,) = re.findall(r"windowSize: 'PT(\d+M)'", BICEP)
    (silence,) = re.findall(r'alert = "([\w-]+)"', QUERY)

    assert minutes(back) == minutes(window) == WATCH_WITHIN
    assert silence == "watch-missed"


def test_rules_are_off_until_the_sync_is_live() -> None:
    assert re.findall(r"enabled: (\w+)", BICEP.partition("resource alerts ")[2]) == ["live"]


def test_the_workbook_calls_the_same_alerts_behind() -> None:
    (names,) = re.findall(r"alert in \((.*?)\)", stored()["verdict.kql"])

    assert set(re.findall('"([^"]+)"', names)) == BEHIND
