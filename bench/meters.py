"""An engine with meters between it and the world, and what they show of one run: time, CPU, memory, what was asked."""

from __future__ import annotations

import re
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
from sync_core.settings import Settings

PREFIX = "/rest/v1/"

SDK_THREADS = "storage SDK's threads"
"""CPU that no thread of ours has spent: the SDK starts threads for each transaction, which end with it."""

PURPOSES = ("storage", SDK_THREADS, "Dataverse client", "Marketo client", REST)

Journal = list[dict[str, Any]]


@contextmanager
def metering(
    traffic: Traffic,
    spending: Spending,
    *,
    one_thread: bool = False,
    open_storage: Callable[..., Storage] = storage_adapter.open_storage,
) -> Iterator[None]:
    """Engines built inside are as the functions build them; storage requests are counted, CPU is booked by adapter."""
    ports = {name: getattr(wiring, name) for name in ("DataverseClient", "MarketoClient")}

    def metered_storage(*arguments: Any, **options: Any) -> Storage:
        plain = open_storage(*arguments, **options)
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
def metered_engine(settings: Settings, traffic: Traffic, spending: Spending, **options: Any) -> Iterator[Engine]:
    """One of them; *options* are those of `metering`."""
    with metering(traffic, spending, **options):
        yield wiring.build(settings)


class Meters:
    """Everything that is read before and after a run."""

    def __init__(self, found: Services, traffic: Traffic, spending: Spending) -> None:
        self.found = found
        self.traffic = traffic
        self.spending = spending

    def run(self, work: Callable[[], Counter[str]]) -> dict[str, Any]:
        """Figures of *work*, those of CPU, time and memory of this process alone."""
        for door in (self.found.dataverse, self.found.marketo):
            door.delete("journal")
        self.traffic.clear()
        return {
            **Spent(self.spending).so_far(work()),
            "storage": self.traffic.figures(),
            "marketo": marketo_calls(self.found.marketo.get("journal")),
            "dataverse": dataverse_requests(self.found.dataverse.get("journal")),
        }


class Spent:
    """What this process costs from here on: CPU and time in seconds, memory in MB."""

    def __init__(self, spending: Spending) -> None:
        self._spending = spending
        self._before, self._cpu, self._wall = peak_mb(), time.process_time(), time.perf_counter()
        spending.start()

    def so_far(self, handled: Counter[str]) -> dict[str, Any]:
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        split = self._spending.stop()
        return {
            "flow": {name: number for name, number in handled.items() if number},
            "wall_s": round(wall, 1),
            "cpu_s": round(cpu, 2),
            "cpu_split_s": {**split, SDK_THREADS: round(cpu - sum(split.values()), 3)},
            "rss_mb": {"before": self._before, "peak": peak_mb()},
        }


def peak_mb() -> int:
    """Of this program; `ru_maxrss`, where there is nothing better, also counts whoever started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return round(int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))[0]) * 1024 / 1_000_000)
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
        "writes": sum(entry["kind"] == "write" for entry in counted),
        "records_written": sum(n for e in counted for name, n in e["statuses"].items() if name != "skipped"),
        "apart": dict(Counter(entry["kind"] for entry in journal if entry["kind"] not in ("read", "write"))),
        "refused": dict(Counter(code for entry in journal for code in entry["codes"])),
    }


def _endpoint(entry: dict[str, Any]) -> str:
    method, path = entry["endpoint"].split(" ", 1)
    return f"{method} {path.removeprefix(PREFIX)}"


def dataverse_requests(journal: Journal) -> dict[str, Any]:
    asked = [entry for entry in journal if "/api/data/" in entry["path"]]
    by_table = Counter(entry["path"].partition("/api/data/v9.2/")[2].partition("(")[0] for entry in asked)
    return {"requests": len(asked), "by_table": dict(by_table.most_common())}
