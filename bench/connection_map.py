"""What the map of connections costs, over the real adapter and SDK against Azurite.

    python -m bench.connection_map [--opportunities 100000] [--json FILE]

Steps, each on its own figures:
* first load   1.5 new pairs an opportunity, in deliveries of 1,800
* tidy         after each delivery, as a tick does it; most of them only look
* tick         10 connections read, half of them there
* page         3,600 connections read, half of them there: the largest page of changes
* forget       5 connections deleted

CPU is of this process alone; wall time has Azurite in it, which is one process and slower than the service.
"""

from __future__ import annotations

import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from azure.data.tables import TableServiceClient

from bench.recording import parser, record
from bench.traffic import Traffic
from sync_core.adapters.clock import SystemClock
from sync_core.adapters.tables import TableConnections
from sync_core.messages import FULL
from sync_core.wiring import STORAGE_THREADS, threads
from tools.azurite import azurite

SEED = 1
TICK, PAGE, FORGOTTEN = 10, 3_600, 5
NO_END = float("inf")


@dataclass(frozen=True, slots=True)
class Figures:
    """All of one step; *most* is the largest number of entities that one of its calls wrote."""

    step: str
    calls: int
    cpu_s: float
    wall_s: float
    operations: int
    entities: int
    most: int


class _Meter:
    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.total: dict[str, Counter[str]] = {}

    def on(self, step: str, work: Callable[[], object]) -> None:
        self.traffic.clear()
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        total = self.total.setdefault(step, Counter())
        total["cpu_us"] += round((time.process_time() - cpu) * 1e6)
        total["wall_us"] += round((time.perf_counter() - wall) * 1e6)
        total.update(calls=1, operations=self.traffic.operations, entities=self.traffic.written)
        total["most"] = max(total["most"], self.traffic.written)

    def figures(self) -> Iterator[Figures]:
        for step, total in self.total.items():
            counts = {name: total[name] for name in ("calls", "operations", "entities", "most")}
            yield Figures(step, cpu_s=total["cpu_us"] / 1e6, wall_s=total["wall_us"] / 1e6, **counts)


def measure(opportunities: int) -> list[Figures]:
    chance = random.Random(SEED)

    def guid() -> str:
        return str(uuid.UUID(int=chance.getrandbits(128), version=4))

    with azurite() as emulator:
        traffic = Traffic(table_port=emulator.ports.table)
        service = TableServiceClient.from_connection_string(
            emulator.connection_string, transport=traffic.transport(), retry_total=2
        )
        with service:
            fan_out = threads(STORAGE_THREADS)
            connections = TableConnections(service.get_table_client("ConnectionMap"), SystemClock(), fan_out)
            meter, known = _Meter(traffic), []
            for start in range(0, opportunities, FULL):
                deals = [guid() for _ in range(min(FULL, opportunities - start))]
                pairs = [(guid(), deal) for index, deal in enumerate(deals) for _ in range(1 + index % 2)]
                known += [connection for connection, _ in pairs]
                meter.on("first load", partial(connections.write, pairs))
                meter.on("tidy", partial(connections.tidy, until=NO_END))
            for step, number in (("tick", TICK), ("page", PAGE)):
                some = chance.sample(known, min(number // 2, len(known)))
                asked = [*some, *(guid() for _ in some)]
                meter.on(step, partial(_read, connections, asked, set(some)))
            meter.on("forget", partial(connections.delete, known[:FORGOTTEN]))
    return [*meter.figures()]


def _read(connections: TableConnections, asked: Sequence[str], there: set[str]) -> None:
    if connections.read(asked).keys() != there:
        raise AssertionError("the map has lost a connection")


def table(figures: Sequence[Figures], opportunities: int) -> str:
    lines = [
        "| step | calls | CPU s | wall s | operations | entities | most in one call | entities an opportunity |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for item in figures:
        cells = [item.step, str(item.calls), f"{item.cpu_s:.2f}", f"{item.wall_s:.2f}", f"{item.operations:,}"]
        cells += [f"{item.entities:,}", f"{item.most:,}", f"{item.entities / opportunities:.5f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parser("connection_map", __doc__)
    asked.add_argument("--opportunities", type=int, default=100_000, metavar="N", help="default: 100000")
    options = asked.parse_args(arguments)
    figures = measure(options.opportunities)
    print(table(figures, options.opportunities))
    record(options.json, {"opportunities": options.opportunities, "figures": [asdict(item) for item in figures]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
