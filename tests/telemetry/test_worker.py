"""What arrives at the ingestion from Microsoft's own runtime, through a real queue; and that nothing goes elsewhere."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from sync_core.rules.alerts import ALERTS
from sync_core.telemetry import SDK_SETTINGS
from tests.telemetry.conftest import ADDRESS, PERSONAL, SECRETS, Services
from tests.telemetry.ingestion import KEY, data, operation, parent
from tests.telemetry.worker_run import SPAN, TRACE
from tools.kql import stored

pytestmark = pytest.mark.timeout(240)

EXPORTED = {
    "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": "true",
    "PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME": "sync_core",
}
GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}")
FORGOTTEN = {name: value for name, value in SDK_SETTINGS.items() if "INSTRUMENTATIONS" not in name}


@pytest.fixture(scope="module")
def first(services: Services) -> dict[str, Any]:
    """The settings as docs/telemetry.md has them, the worker exports. What arrived stays in `envelopes`."""
    connection = {"APPLICATIONINSIGHTS_CONNECTION_STRING": services.connection}
    found = services.in_the_worker(**connection, **EXPORTED, **SDK_SETTINGS)
    return found | {"envelopes": list(services.stub.envelopes), "asked": list(services.stub.asked)}


def of(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [each for each in found["envelopes"] if each["data"]["baseType"] == kind]


def named(found: dict[str, Any], kind: str, name: str) -> list[dict[str, Any]]:
    return [each for each in of(found, kind) if data(each)["name"] == name]


def test_the_host_is_told_and_every_call_succeeds(first: dict[str, Any]) -> None:
    assert first["told"] == "true"
    assert [(call["name"], call["succeeded"]) for call in first["calls"]] == [
        ("detect_changes", True),
        ("sync_opportunities", True),
    ], first["calls"]


def test_a_tick_and_its_delivery_are_one_operation_of_the_hosts(first: dict[str, Any]) -> None:
    [tick] = named(first, "RemoteDependencyData", "tick")
    [delivery] = named(first, "RequestData", "delivery")

    assert (operation(tick), parent(tick)) == (TRACE, SPAN)
    assert (operation(delivery), parent(delivery)) == (TRACE, data(tick)["id"])
    assert [json.loads(body)["traceparent"] for body in first["bodies"]] == [f"00-{TRACE}-{data(tick)['id']}-01"]
    assert [data(each)["properties"]["invocation"] for each in (tick, delivery)] == [
        call["invocation"] for call in first["calls"]
    ]
    assert json.loads(data(delivery)["properties"]["_MS.links"]) == [{"operation_Id": TRACE, "id": SPAN}]


def test_calls_hang_below_what_made_them_also_from_other_threads(first: dict[str, Any]) -> None:
    calls = [each for each in of(first, "RemoteDependencyData") if data(each)["type"] == "N/A"]
    spans = {data(each)["id"]: data(each)["name"] for each in first["envelopes"] if "id" in data(each)}

    assert {operation(each) for each in calls} == {TRACE}
    assert {spans[parent(each)] for each in calls} >= {"tick", "delivery"}
    below = {data(each)["name"] for each in calls if spans[parent(each)] == "delivery"}
    assert below >= {"Dataverse GET opportunity", "Marketo GET leads.json", "Marketo POST opportunities.json"}


def test_a_call_tells_counts_and_codes(first: dict[str, Any]) -> None:
    [write] = named(first, "RemoteDependencyData", "Marketo POST opportunities.json")
    told = data(write)["properties"]

    assert data(write)["target"] == "Marketo"
    assert {name: told[name] for name in ("service", "method", "endpoint", "status", "attempts", "records")} == {
        "service": "Marketo",
        "method": "POST",
        "endpoint": "opportunities.json",
        "status": "200",
        "attempts": "1",
        "records": "1",
    }
    assert re.fullmatch("[0-9a-f]+#[0-9a-f]+", told["requestId"])


def test_log_lines_carry_their_fields_and_the_operation(first: dict[str, Any]) -> None:
    lines = {data(each)["properties"]["event"]: each for each in of(first, "MessageData")}

    assert set(lines) == {"tick.done", "delivery.done"}
    told = lines["delivery.done"]
    assert operation(told) == TRACE
    assert data(told)["message"].startswith("delivery.done lane=fresh ")
    assert data(told)["properties"]["opportunities_posted"] == "1"
    assert float(data(told)["properties"]["freshness_p50"]) >= 0


def test_metrics_arrive(first: dict[str, Any]) -> None:
    points = [(data(each)["metrics"][0], data(each)["properties"]) for each in of(first, "MetricData")]
    calls = {
        (told["service"], told["endpoint"], told["code"]) for point, told in points if point["name"] == "sync.calls"
    }

    assert ("Marketo", "opportunities.json", "200") in calls
    assert ("Dataverse", "opportunity", "200") in calls
    assert [point["count"] for point, _ in points if point["name"] == "sync.freshness"] == [1]


def test_a_look_arrives_as_the_alert_rules_ask_for_it(services: Services) -> None:
    """infra/queries/alerts.kql: a row for each alert in each look, with its name as `alert`, and 0 or 1 as its sum."""
    connection = {"APPLICATIONINSIGHTS_CONNECTION_STRING": services.connection}

    found = services.in_the_worker("watch", **connection, **EXPORTED, **SDK_SETTINGS)

    assert found["calls"][-1]["succeeded"], found["calls"]
    sent = [(each, data(each)["metrics"][0], data(each)["properties"]) for each in services.stub.of("MetricData")]
    looks = [(each["time"], point, told) for each, point, told in sent if point["name"] == "sync.alert"]
    assert sorted(told["alert"] for _, _, told in looks) == sorted(ALERTS)
    assert {point["value"] for _, point, _ in looks} <= {0, 1}
    assert {(point["count"], *told) for _, point, told in looks} == {(1, "alert")}
    assert len({at for at, _, _ in looks}) == 1
    asked = set(re.findall(r'"(sync\.[a-z.]+)"', "".join(stored().values())))
    assert asked - {point["name"] for _, point, _ in sent} == set()


def test_nothing_of_it_is_personal_or_secret(services: Services, first: dict[str, Any]) -> None:
    text = json.dumps(first["envelopes"], ensure_ascii=False).replace(KEY, "")
    marks = (
        *PERSONAL,
        *SECRETS,
        ADDRESS,
        services.deal,
        "Bearer",
        "eyJ",
        "AccountKey",
        "filterValues",
        "_method",
        "$select",
        "?$",
    )

    assert [mark for mark in marks if mark.casefold() in text.casefold()] == []
    names = {data(each).get("name", "") for each in first["envelopes"]}
    assert [name for name in names if GUID.search(name)] == []


def test_nobody_but_the_ingestion_is_asked(first: dict[str, Any]) -> None:
    assert first["far"] == []
    assert {line for line in first["asked"] if "/track" in line} == {"POST /v2.1/track"}


def test_libraries_instrumented_by_the_worker_are_put_back(services: Services) -> None:
    """As where that app setting was forgotten: calls would come twice, with their addresses and queries."""
    connection = {"APPLICATIONINSIGHTS_CONNECTION_STRING": services.connection}

    found = services.in_the_worker(**connection, **EXPORTED, **FORGOTTEN)

    arrived = services.stub.of("RemoteDependencyData")
    assert [call["succeeded"] for call in found["calls"]] == [True, True]
    assert {data(each)["type"] for each in arrived} == {"N/A", "InProc"}
    assert [data(each)["data"] for each in arrived if data(each).get("data")] == []
    assert found["far"] == []


@pytest.mark.parametrize("carries", [True, False], ids=["the host forwards no logs", "the host forwards logs"])
def test_where_the_worker_exports_nothing_we_do_and_logs_come_once(services: Services, carries: bool) -> None:
    connection = {"APPLICATIONINSIGHTS_CONNECTION_STRING": services.connection}
    more = {"PYTHON_ENABLE_OPENTELEMETRY": "true"} if carries else {}

    found = services.in_the_worker(**connection, **more)

    assert found["told"] == ("true" if carries else "")
    assert found["far"] == []
    [delivery] = services.stub.of("RequestData")
    [tick] = [each for each in services.stub.of("RemoteDependencyData") if data(each)["name"] == "tick"]
    assert operation(tick) == operation(delivery)
    assert {data(each)["properties"]["event"] for each in services.stub.of("MessageData")} == (
        {"tick.done", "delivery.done"} if carries else set()
    )
    assert [line.partition(" ")[0] for _, line in found["lines"]] == ["tick.done", "delivery.done"]


@pytest.mark.parametrize(
    ("flags", "connection"),
    [(["without"], None), ([], "InstrumentationKey=nonsense"), ([], "")],
    ids=["no package", "a wrong connection string", "no connection string"],
)
def test_an_exporter_that_cant_be_had_costs_neither_work_nor_logs(
    services: Services, flags: list[str], connection: str | None
) -> None:
    """The host goes on forwarding logs where it isn't told otherwise, and each line still has its invocation."""
    given = services.connection if connection is None else connection

    found = services.in_the_worker(*flags, APPLICATIONINSIGHTS_CONNECTION_STRING=given, **EXPORTED)

    assert found["told"] == ""
    assert [call["succeeded"] for call in found["calls"]] == [True, True]
    tick, delivery = (call["invocation"] for call in found["calls"])
    said = [(invocation, line.partition(" ")[0]) for invocation, line in found["lines"]]
    off = [(tick, "telemetry.off")] if given else []
    assert said == [*off, (tick, "tick.done"), (delivery, "delivery.done")]


def test_without_a_connection_string_no_sdk_is_loaded(services: Services) -> None:
    found = services.in_the_worker()

    assert not found["sdk"]
    assert services.stub.asked == []
