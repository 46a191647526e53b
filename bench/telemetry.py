"""How much telemetry each kind of call sends: real functions, in Microsoft's runtime, with the exporter it starts.

    python -m bench.telemetry [--opportunities 10000] [--seed 1] [--json FILE]

Emulators and Azurite run in processes of their own; the functions of this repository run here, with the app settings
that infra/ gives them, and what they send arrives at an ingestion of our own. Everything is loaded before, without
telemetry. Then each kind of call is made: its items, and their bytes as JSON without spaces, not compressed.

* nothing: what a process sends each minute, and at the end of each call, whatever it does
* the first tick of a process, and a later one in which nothing changed
* a page of the status
* the busy tick of bench.tick, and its deliveries
* a look at how things stand

Azure bills less than these bytes: the columns of a record, without names and brackets; a quarter less on average, half
for small records (learn.microsoft.com, azure-monitor/logs/cost-logs, 2024). The Functions host's own telemetry isn't
among them: it does not run here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
from base64 import b64decode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from azure.storage.queue import QueueClient

from bench.changes import change
from bench.first_load import sync
from bench.host import environment
from bench.recording import parser, record
from bench.services import ROOT, Services, an_org, services
from bench.tick import CHANGES
from sync_core import telemetry, wiring
from tests.telemetry.ingestion import Ingestion, ingestion

RUNTIME = Path(sys.prefix) / "functions-runtime"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # as the host gives one to each call
NEVER_MS = "86400000"  # between exports by the clock, which would fall into any call

EXPORTED = {
    "SYNC_SCHEDULE": "0 */5 * * * *",
    "FUNCTIONS_WORKER_RUNTIME": "python",
    "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": "true",
    "PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME": "sync_core",
    **telemetry.SDK_SETTINGS,
}

Run = dict[str, Any]


def measure(opportunities: int, seed: int) -> Run:
    rows = an_org(opportunities, seed=seed)
    with services(rows) as found, ingestion(folder()) as (arrived, connection):
        sync(wiring.build(found.settings))
        found = found.at_real_limits(latency=0)
        where = {"APPLICATIONINSIGHTS_CONNECTION_STRING": connection, "OTEL_METRIC_EXPORT_INTERVAL": NEVER_MS}
        # The exporter sends first what an earlier process has left in the folder for temporary files.
        with (
            patch.object(tempfile, "tempdir", str(folder())),
            patch.dict(os.environ, {**environment(found), **EXPORTED, **where}),
        ):
            return {"rows": rows, **asyncio.run(calls(found, arrived, seed))}


def folder() -> Path:
    """Of the authority that `services` made everybody trust."""
    return Path(os.environ["REQUESTS_CA_BUNDLE"]).parent


async def calls(found: Services, arrived: Ingestion, seed: int) -> Run:
    """What each kind of call sent, by its name."""
    sys.path.append(str(RUNTIME))
    from azure_functions_runtime.bindings.datumdef import Datum

    from tests.host import runtime_probe as worker

    logging.getLogger().setLevel(logging.INFO)  # as Azure's worker does
    logging.getLogger("azure.monitor").setLevel(logging.CRITICAL)  # nobody looks at Live Metrics, and none are served
    worker.runtime.start_threadpool_executor()
    try:
        functions = {each.name: each for each in await worker.index(str(ROOT))}

        async def call(name: str, body: str | None = None) -> Run:
            arrived.clear()
            told = await worker.call(functions[name], body and Datum(body, "string"), traceparent=TRACEPARENT)
            if not told["succeeded"]:
                raise RuntimeError(f"{name}: {told['error']}")
            return sent(arrived)

        async def busy() -> Run:
            made = change(found.dataverse, **CHANGES, seed=seed)
            tick, deliveries = await call("detect_changes"), []
            with QueueClient.from_connection_string(found.settings.storage_connection, "opportunity-sync") as queue:
                for message in queue.receive_messages(visibility_timeout=600):
                    deliveries.append(await call("sync_opportunities", b64decode(message.content).decode()))
                    queue.delete_message(message)
            if len(deliveries) != 1:
                raise RuntimeError(f"{len(deliveries)} deliveries")
            return {"changes": made, "busy tick": tick, "its delivery": deliveries[0]}

        first, later = await call("detect_changes"), await call("detect_changes")
        arrived.clear()
        telemetry.flush()
        nothing = sent(arrived)
        await call("status_page")
        return {
            "nothing": nothing,
            "first tick": first,
            "idle tick": later,
            "status page": await call("status_page"),
            **await busy(),
            "first look": await call("watch_sync"),
            "look": await call("watch_sync"),
        }
    finally:
        worker.runtime.stop_threadpool_executor()
        for provider in telemetry._providers():  # at the end of the process nobody listens any more
            getattr(provider, "shutdown", int)()


def sent(arrived: Ingestion) -> Run:
    """Items and bytes, by the kind of item."""
    by_kind: dict[str, dict[str, int]] = {}
    for envelope in arrived.envelopes:
        line = by_kind.setdefault(envelope["data"]["baseType"], {"items": 0, "bytes": 0})
        line["items"] += 1
        line["bytes"] += len(json.dumps(envelope, separators=(",", ":")).encode())
    return {**{what: sum(line[what] for line in by_kind.values()) for what in ("items", "bytes")}, "by_kind": by_kind}


def report(found: Run) -> Iterator[str]:
    yield "| sent by | items | bytes | of which spans | log lines | metrics |\n|---|---:|---:|---:|---:|---:|"
    for name, run in found.items():
        if "by_kind" in run:
            kinds = {kind: line["bytes"] for kind, line in run["by_kind"].items()}
            spans = kinds.get("RequestData", 0) + kinds.get("RemoteDependencyData", 0)
            split = spans, kinds.get("MessageData", 0), kinds.get("MetricData", 0)
            yield f"| {name} | {run['items']} | {' | '.join(f'{number:,}' for number in (run['bytes'], *split))} |"


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser("telemetry", __doc__, opportunities=10_000).parse_args(arguments)
    found = measure(options.opportunities, options.seed)
    print("\n".join(report(found)))
    record(options.json, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
