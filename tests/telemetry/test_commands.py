"""Commands send the same; and what the console shows, and what nobody asked for costs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sync_core.telemetry import LIBRARIES
from tests.telemetry.conftest import PERSONAL, SECRETS, Services
from tests.telemetry.ingestion import data, ingestion, operation, parent

pytestmark = pytest.mark.timeout(240)

WATCHED = """
import json, sys
from tests.telemetry.worker_run import FAR, watch
sys.addaudithook(watch)
from sync_core.cli import main
code = main(sys.argv[1:])
loaded = [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "azure.monitor"))]
print(json.dumps({"code": code, "far": FAR, "sdk": bool(loaded)}))
"""

PATIENT = """
import sys
from opentelemetry.sdk._shared_internal import BatchProcessor
from opentelemetry.sdk.metrics import MeterProvider
for shutdown in (BatchProcessor.shutdown, MeterProvider.shutdown):
    assert shutdown.__defaults__ == (30_000,)
    shutdown.__defaults__ = (86_400_000,)
from sync_core.cli import main
sys.exit(main(sys.argv[1:]))
"""


def command(services: Services, *arguments: str, **settings: str) -> tuple[dict[str, object], str, str]:
    """What the process came to, and what it printed on standard output and standard error."""
    done = services.python("-c", WATCHED, *arguments, **settings)
    *said, last = done.stdout.splitlines()
    return json.loads(last), "\n".join(said), done.stderr


def test_a_command_its_tick_and_its_deliveries_are_one_operation(services: Services) -> None:
    services.change()

    found, _, said = command(services, "sync", APPLICATIONINSIGHTS_CONNECTION_STRING=services.connection)

    assert (found, said) == ({"code": 0, "far": [], "sdk": True}, "")
    arrived = services.stub.envelopes
    names = {data(each)["id"]: data(each)["name"] for each in arrived if "id" in data(each)}
    [delivery] = services.stub.of("RequestData")
    assert names[parent(delivery)] == "tick"
    [tick] = [each for each in arrived if data(each).get("name") == "tick"]
    assert names[parent(tick)] == "command sync"
    assert len({operation(each) for each in arrived if "id" in data(each)}) == 1
    events = [data(each)["properties"]["event"] for each in services.stub.of("MessageData")]
    assert {"tick.done", "delivery.done"} <= set(events)
    assert {data(each)["type"] for each in services.stub.of("RemoteDependencyData")} == {"N/A", "InProc"}
    assert [path for path in services.stub.asked if "QuickPulse" in path] == []
    metrics = {data(each)["metrics"][0]["name"] for each in services.stub.of("MetricData")}
    assert metrics == {"sync.calls", "sync.freshness"}


def test_the_console_shows_spans_metrics_and_events(services: Services) -> None:
    services.change()

    found, _, said = command(services, "sync", SYNC_TELEMETRY="console")

    assert found == {"code": 0, "far": [], "sdk": True}
    assert re.search(r"^span 'Marketo POST opportunities.json' \d+ ms .*attempts=1 status=200 records=1", said, re.M)
    assert re.search(r"^span 'delivery' \d+ ms .*lane=fresh .*trace=[0-9a-f]{32}$", said, re.M)
    assert re.search(r"^metric sync.calls service=Marketo endpoint=opportunities.json code=200 value=1$", said, re.M)
    assert re.search(r"^metric sync.freshness count=1 sum=", said, re.M)
    assert re.search(r"^delivery.done lane=fresh .*opportunities_posted=1", said, re.M)
    assert [mark for mark in (*PERSONAL, *SECRETS, services.deal) if mark in said] == []


@pytest.mark.parametrize("more", [{}, {"SYNC_TELEMETRY": "off"}], ids=["no setting", "switched off"])
def test_where_it_is_off_nothing_of_the_sdk_is_loaded(services: Services, more: dict[str, str]) -> None:
    connection = {"APPLICATIONINSIGHTS_CONNECTION_STRING": services.connection} if more else {}

    found, _, _ = command(services, "status", **connection, **more)

    assert found == {"code": 0, "far": [], "sdk": False}
    assert services.stub.asked == []


def test_a_wrong_connection_string_costs_no_command(services: Services) -> None:
    found, said, told = command(services, "status", APPLICATIONINSIGHTS_CONNECTION_STRING="nonsense")

    assert (found["code"], found["far"]) == (0, [])
    assert "Opportunities: " in said
    assert "nonsense" not in told


def test_an_ingestion_that_never_answers_keeps_no_command_from_ending(services: Services) -> None:
    """However patient the SDK is with it: a day here, else this would have to be timed."""
    with ingestion(Path(services.environment["TMPDIR"])) as (stub, connection):
        stub.silent.set()

        done = services.python("-c", PATIENT, "status", APPLICATIONINSIGHTS_CONNECTION_STRING=connection)

        assert (done.returncode, done.stderr) == (0, "")
        assert stub.asked
        assert stub.envelopes == []


def test_every_library_that_azures_distribution_instruments_is_left_alone() -> None:
    """A new version that knows another one turns this red."""
    from azure.monitor.opentelemetry import _constants

    assert set(LIBRARIES) == set(_constants._ALL_SUPPORTED_INSTRUMENTED_LIBRARIES)
