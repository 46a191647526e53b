"""docs/telemetry.md lists what is sent: no less, no more."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_core import events, telemetry
from sync_core.model import Lane, Work
from tests.docs.test_docs import first_cells, section
from tests.flows.org import Org
from tests.stage import LEASE, Stage
from tests.telemetry.measured import measured
from tests.telemetry.test_measured import Host, a_status

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
LEVELS = ("debug", "info", "warning", "error")


def rows(heading: str) -> list[list[str]]:
    lines = (line for line in section(PAGE, heading).splitlines() if line.startswith("| `"))
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def calls() -> Iterator[ast.Call]:
    """Every call of `events.<level>` and of `telemetry.done` in the package."""
    for path in sorted((ROOT / "sync_core").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                of = node.func.value
                known = {"events": LEVELS, "telemetry": ("done",)}.get(of.id if isinstance(of, ast.Name) else "", ())
                if node.func.attr in known:
                    yield node


def test_every_event_is_listed_with_its_level_and_fields() -> None:
    listed = {name.strip("`"): (level, quoted(fields)) for name, level, fields, _ in rows("Events")}
    found = {}
    for call in calls():
        assert isinstance(call.func, ast.Attribute)
        texts = (each.value for each in ast.walk(call.args[0]) if isinstance(each, ast.Constant))
        for name in (text for text in texts if "." in text):
            level = "info" if call.func.attr == "done" else call.func.attr
            found[name] = (level, {each.arg for each in call.keywords if each.arg != "exc_info"})

    assert found.keys() == listed.keys()
    assert {name: level for name, (level, _) in found.items()} == {name: level for name, (level, _) in listed.items()}
    plain = {name for name in listed if not name.endswith(".done")}
    assert {name: found[name][1] for name in plain} == {name: listed[name][1] for name in plain}


def test_no_log_line_is_written_past_the_events() -> None:
    files = [path for path in (ROOT / "sync_core").rglob("*.py") if path.name != "events.py"]
    writes = re.compile(r"\blog(?:ger|ging)?\.(?:debug|info|warning|error|exception|critical|log)\(")

    assert [path.name for path in files if writes.search(path.read_text(encoding="utf-8"))] == []


def test_every_span_is_listed_with_its_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {row[0].split()[0].strip("`"): quoted(row[2]) for row in rows("Traces")}
    with measured(monkeypatch) as seen:
        org = Org(Stage())
        org.stakeholder(org.ann)
        with telemetry.invocation(Host()), telemetry.command("sync"):
            org.stage.sync()
            org.stage.engine.watch()
            org.stage.marketo_app.faults.set({"rules": [{"fault": "1003", "on": {"kind": "write"}}]})
            org.stage.engine.handle(Work((org.deal,)), force=True, lease_ends=org.stage.clock.now() + LEASE)
        found: dict[str, set[str]] = {}
        for span in seen.spans:
            found.setdefault(span.name.split()[0], set()).update(span.attributes or ())

    found["Marketo"] |= {"codes"}
    assert found.keys() == listed.keys()
    for name in ("tick", "watch", "delivery"):
        counts = {each for each in found[name] if each not in listed[name]}
        assert listed[name] - {"tick.done", "delivery.done"} <= found[name]
        assert all(re.fullmatch(r"[a-z0-9_]+", each) for each in counts)
    assert found["command"] == set()
    calls = listed["Dataverse"] | {"peer.service"}
    assert found["Dataverse"] | {"codes"} == found["Marketo"] == calls


def test_every_metric_is_listed_with_what_it_is_split_by(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {name.strip("`"): (unit, quoted(by)) for name, unit, by, _ in rows("Metrics")}
    parked = [{"kind": "opportunity", "state": "parked", "reason": "1003", "count": 1}]
    with measured(monkeypatch) as seen:
        org = Org(Stage())
        org.stage.sync()
        lane = {"messages": 1, "records": 1}
        telemetry.measure(a_status(**{"not in step": parked, "lanes (about)": dict.fromkeys(Lane, lane)}))
        found = {name: set(attributes) for name, attributes, _ in seen.metrics()}

    assert found == {name: by for name, (_, by) in listed.items()}
    seconds = {"sync.freshness", "sync.oldest.pending", "sync.tick.age"}
    assert {name for name, (unit, _) in listed.items() if unit == "s"} == seconds


def test_the_host_uses_the_same_ids_of_traces() -> None:
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))

    assert f'"telemetryMode": "{host["telemetryMode"]}"' in PAGE


def test_the_settings_of_the_exporter_are_those_that_we_would_set() -> None:
    table = {name.strip("`"): quoted(value) for name, value, _ in rows("Switching it on")}

    assert {name: table[name] for name in telemetry.SDK_SETTINGS} == {
        name: {value} for name, value in telemetry.SDK_SETTINGS.items()
    }
    assert table["PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME"] == {events.__name__.partition(".")[0]}
    assert set(first_cells(section(PAGE, "Switching it on"))) == table.keys()
