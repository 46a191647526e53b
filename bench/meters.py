"""An engine with meters between it and the world, and what they show of one run: time, CPU, memory, what was asked."""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench.services import Services
from bench.spending import REST, Port, Spending
from bench.traffic import Traffic
from sync_core import wiring
from sync_core.adapters import storage as storage_adapter
from sync_core.adapters.storage import Storage
from sync_core.engine import Engine

RESULTS = Path(__file__).parent / "results"
PREFIX = "/rest/v1/"

SDK_THREADS = "storage SDK's threads"
"""CPU that no thread of ours has spent: the SDK starts threads for each transaction, which end with it."""

PURPOSES = ("storage", SDK_THREADS, "Dataverse client", "Marketo client", REST)

Journal = list[dict[str, Any]]


@contextmanager
def metering(traffic: Traffic, spending: Spending, *, one_thread: bool = False) -> Iterator[None]:
    """Engines built inside are as the functions build them, but count storage requests and book CPU by adapter."""
    ports = {name: getattr(wiring, name) for name in ("DataverseClient", "MarketoClient", "open_storage")}

    def metered_storage(*arguments: Any, **options: Any) -> Storage:
        plain = ports["open_storage"](*arguments, **options)
        return Storage(**{item.name: Port(getattr(plain, item.name), spending, "storage") for item in fields(plain)})

    def metered(name: str, purpose: str) -> Callable[..., Any]:
        return lambda *arguments, **options: Port(ports[name](*arguments, **options), spending, purpose)

    with ExitStack() as stack:
        for target, name, replacement in (
            (wiring, "threads", lambda number: spending.pool(1 if one_thread else number)),
            (wiring, "open_storage", metered_storage),
            (wiring, "DataverseClient", metered("DataverseClient", "Dataverse client")),
            (wiring, "MarketoClient", metered("MarketoClient", "Marketo client")),
            (storage_adapter, "RequestsTransport", traffic.transport),
        ):
            stack.enter_context(patch.object(target, name, replacement))
        yield


@contextmanager
def metered_engine(found: Services, traffic: Traffic, spending: Spending, *, one_thread: bool) -> Iterator[Engine]:
    with metering(traffic, spending, one_thread=one_thread):
        yield wiring.build(found.settings)


class Meters:
    """Everything that is read before and after a run."""

    def __init__(self, found: Services, traffic: Traffic, spending: Spending) -> None:
        self.found = found
        self.traffic = traffic
        self.spending = spending

    def run(self, work: Callable[[], Counter[str]]) -> dict[str, Any]:
        """Figures of *work*; CPU in seconds, memory in MB, everything of this process alone."""
        for door in (self.found.dataverse, self.found.marketo):
            door.delete("journal")
        self.traffic.clear()
        before, cpu, wall = peak_mb(), time.process_time(), time.perf_counter()
        self.spending.start()
        handled = work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        split = self.spending.stop()
        memory = {"before": before, "peak": peak_mb()}
        return {
            "flow": {name: number for name, number in handled.items() if number},
            "wall_s": round(wall, 1),
            "cpu_s": round(cpu, 2),
            "cpu_split_s": {**split, SDK_THREADS: round(cpu - sum(split.values()), 3)},
            "rss_mb": memory,
            "storage": self.traffic.figures(),
            "marketo": marketo_calls(self.found.marketo.get("journal")),
            "dataverse": _dataverse(self.found.dataverse.get("journal")),
        }


def peak_mb() -> int:
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1_000_000)


def marketo_calls(journal: Journal) -> dict[str, Any]:
    """Calls by endpoint, with how full they were; what was written."""
    counted = [entry for entry in journal if entry["kind"] in ("read", "write")]
    by_endpoint: dict[str, dict[str, int]] = {}
    for entry in counted:
        line = by_endpoint.setdefault(_endpoint(entry), {"calls": 0, "items": 0})
        line["calls"] += 1
        line["items"] += entry["records"] if entry["kind"] == "write" else entry["filter_values"]
    return {
        "calls": len(counted),
        "by_endpoint": by_endpoint,
        "sizes": {name: [_items(e) for e in counted if _endpoint(e) == name] for name in by_endpoint},
        "writes": sum(entry["kind"] == "write" for entry in counted),
        "records_written": sum(n for e in counted for name, n in e["statuses"].items() if name != "skipped"),
        "apart": dict(Counter(entry["kind"] for entry in journal if entry["kind"] not in ("read", "write"))),
        "refused": dict(Counter(code for entry in journal for code in entry["codes"])),
    }


def _endpoint(entry: dict[str, Any]) -> str:
    method, path = entry["endpoint"].split(" ", 1)
    return f"{method} {path.removeprefix(PREFIX)}"


def _items(entry: dict[str, Any]) -> int:
    return int(entry["records"] if entry["kind"] == "write" else entry["filter_values"])


def _dataverse(journal: Journal) -> dict[str, Any]:
    asked = [entry for entry in journal if "/api/data/" in entry["path"]]
    by_table = Counter(entry["path"].partition("/api/data/v9.2/")[2].partition("(")[0] for entry in asked)
    return {"requests": len(asked), "by_table": dict(by_table.most_common())}
