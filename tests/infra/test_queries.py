"""Queries of alert rules and workbook: sound, used, and about what is really sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from sync_core import telemetry
from sync_core.model import Work
from tests.flows.org import Org
from tests.infra.conftest import FAULTY
from tests.stage import LEASE, Stage
from tests.telemetry.measured import measured
from tests.telemetry.test_documented import quoted, rows
from tools.kql import Checked, stored

MODULES = Path(__file__).parent.parent.parent / "infra" / "modules"


@pytest.mark.parametrize("name", stored())
def test_a_query_has_no_fault(checked: Mapping[str, Checked], name: str) -> None:
    assert checked[name].problems == []


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_is_told_with_its_place(checked: Mapping[str, Checked], name: str) -> None:
    assert any(line.startswith(f"{name}:{FAULTY[name][1]}") for line in checked[name].problems)


def test_every_query_is_loaded_once_and_every_one_that_is_loaded_exists() -> None:
    texts = [path.read_text(encoding="utf-8") for path in sorted(MODULES.glob("*.bicep"))]
    loaded = [name for text in texts for name in re.findall(r"loadTextContent\('\.\./queries/([^']+)'\)", text)]

    assert sorted(loaded) == sorted(stored())


def test_every_part_of_the_workbook_has_the_name_of_its_query() -> None:
    text = (MODULES / "workbook.bicep").read_text(encoding="utf-8")
    parts = re.findall(r"name: '([^']+)', title: .*queries/([^']+)\.kql'", text)

    assert len(parts) == len(stored()) - 1
    assert [name for name, query in parts if name != query] == []


def test_queries_ask_for_metrics_events_and_fields_that_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = {name.strip("`"): quoted(by) for name, _, by, _ in rows("Metrics")}
    events = {name.strip("`"): quoted(fields) for name, _, fields, _ in rows("Events")}
    text = "\n".join(stored().values())
    names = set(re.findall(r'"((?:[a-z]+\.)+[a-z_]+)"', text))
    fields = set(re.findall(r"customDimensions\.(\w+)", text))

    assert {"sync.alert", "delivery.done"} <= names
    assert names - metrics.keys() - events.keys() == set()
    known = {"event"}.union(*metrics.values(), *events.values(), counts_of_deliveries(monkeypatch))
    assert fields - known == set()


def counts_of_deliveries(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    with measured(monkeypatch) as seen:
        org = Org(Stage())
        org.stakeholder(org.ann)
        org.stage.sync()
        org.stage.marketo_app.faults.set({"rules": [{"fault": "606", "on": {"kind": "write"}}]})
        with telemetry.command("sync"):
            org.stage.engine.handle(Work((org.deal,)), force=True, lease_ends=org.stage.clock.now() + LEASE)
        return {name for span in seen.spans if span.name == "delivery" for name in span.attributes or ()}
