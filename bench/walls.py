"""What one meets on the way from ten thousand opportunities to a hundred million, and what a month costs.

    python -m bench.walls

Arithmetic over what the other benches measured (bench/results), the services' limits and Azure's list prices. It prints
the tables of docs/scale.md, which a test holds against them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.meters import RESULTS
from sync_core.adapters.limiter import KEPT
from sync_core.engine import TIME_BOX_S
from sync_core.messages import FULL

SIZES = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)

CALLS_A_SECOND = 2.5  # our default share of Marketo's rate
CALLS_A_DAY = 25_000 * (100 - KEPT) // 100  # of our default share, what the slow lane may use
PAGE = 3_600  # rows that a tracked read asks for
PAGE_S = 1.0  # assumed: no source tells how long Dataverse takes for a page of ids
FUNCTION_S = 600  # host.json's functionTimeout
REQUESTS_A_SECOND = 6_000 / 300  # Dataverse, of one user at one web server (dataverse.md §5)
PARTITIONS, ENTITIES_A_SECOND = 16, 2_000  # the ledger's, and what one of them takes: Azure's scalability target

TICKS, DAYS = 288, 30
CHANGES_A_DAY = 5_000

# List prices in US dollars, of 2025, for a general-purpose v2 account with local redundancy and Flex Consumption.
TABLE_OPERATIONS = 0.00036 / 10_000
QUEUE_OPERATIONS = 0.004 / 10_000
TABLE_GB = 0.045
GB_SECOND = 0.000026
FREE_GB_SECONDS = 100_000
MEMORY_GB = 2.0  # of an instance; billed while a function runs
POLLS_A_DAY = 2 * 86_400 // 2  # both queues, an instance that never sleeps, every maxPollingInterval of two seconds


@dataclass(frozen=True)
class Costs:
    """Per opportunity of a first load."""

    calls: float
    requests: float
    entities: float
    cpu_ms: float

    @classmethod
    def measured(cls) -> Costs:
        run = _recorded("first_load.json")["100000"]
        number, first = run["rows"]["opportunities"], run["first load"]
        entities = sum(first["storage"]["entities"].values())
        return cls(
            first["marketo"]["calls"] / number,
            first["dataverse"]["requests"] / number,
            entities / number,
            first["cpu_s"] * 1000 / number,
        )


def walls() -> Iterator[str]:
    """Each line: what it takes at each size, against the limit named in the first column."""
    costs = Costs.measured()
    yield f"| opportunities | {' | '.join(f'{size:,}' for size in SIZES)} |\n|---|{'---:|' * len(SIZES)}"
    for name, value in (
        ("Marketo calls of a first load", lambda size: f"{_calls(costs, size):,}"),
        (f"at {CALLS_A_SECOND} calls a second", lambda size: span(_calls(costs, size) / CALLS_A_SECOND)),
        (f"days of {CALLS_A_DAY:,} calls", lambda size: f"{_calls(costs, size) / CALLS_A_DAY:.1f}"),
        ("pages of ids, a second each", lambda size: span(_pages(size) * PAGE_S)),
        ("ticks of the first read", lambda size: f"{math.ceil(_pages(size) * PAGE_S / TIME_BOX_S)}"),
        (f"comparison of all ids, of {FUNCTION_S} s", lambda size: f"{_pages(size) * PAGE_S / FUNCTION_S:.2f}"),
        ("messages of the backlog", lambda size: f"{math.ceil(size / FULL):,}"),
        ("Dataverse requests of a first load", lambda size: f"{round(costs.requests * size):,}"),
        ("entities written", lambda size: f"{round(costs.entities * size):,}"),
        ("CPU", lambda size: span(costs.cpu_ms * size / 1000)),
    ):
        yield f"| {name} | {' | '.join(map(value, SIZES))} |"


def rates() -> Iterator[str]:
    """At our share of Marketo's rate: how much of every other limit that takes."""
    costs = Costs.measured()
    pace = CALLS_A_SECOND / costs.calls
    yield "| at our share of Marketo's rate | a second | limit |\n|---|---:|---:|"
    yield f"| opportunities | {pace:.0f} | |"
    yield f"| Dataverse requests | {pace * costs.requests:.1f} | {REQUESTS_A_SECOND:.0f} |"
    entities = pace * costs.entities
    yield f"| entities written, to {PARTITIONS} partitions | {entities:.0f} | {PARTITIONS * ENTITIES_A_SECOND:,} |"
    yield f"| CPU of one core | {pace * costs.cpu_ms / 1000:.2f} | 1 |"


def month() -> Iterator[str]:
    """100,000 opportunities, 5,000 changes a day: operations of the storage account, and dollars."""
    tick = _recorded("tick.json")
    busy, idle = tick["busy"], tick["idle"]["later"]
    busy_ticks = CHANGES_A_DAY / tick["busy"]["flow"]["handled"]
    tables = DAYS * (busy_ticks * _operations(busy, "table") + TICKS * _operations(idle, "table"))
    queues = DAYS * (busy_ticks * _operations(busy, "queue") + TICKS * _operations(idle, "queue"))
    polls = DAYS * POLLS_A_DAY
    seconds = DAYS * (busy_ticks * busy["wall_s"] + TICKS * idle["wall_s"])
    billed = max(0.0, seconds * MEMORY_GB - FREE_GB_SECONDS)
    gigabytes = _recorded("million.json")["100000"]["storage_mb"] / 1000
    calls = DAYS * busy_ticks * busy["marketo"]["calls"]
    lines = (
        (f"Marketo calls, ticks of {busy['flow']['handled']} changes", calls, 0.0),
        ("operations on tables", tables, tables * TABLE_OPERATIONS),
        ("operations on queues, ours", queues, queues * QUEUE_OPERATIONS),
        ("operations on queues, a host that polls all day", polls, polls * QUEUE_OPERATIONS),
        (f"GB-seconds, {FREE_GB_SECONDS:,} of them free", seconds * MEMORY_GB, billed * GB_SECOND),
        ("GB stored", gigabytes, gigabytes * TABLE_GB),
    )
    yield "| a month | how many | US dollars |\n|---|---:|---:|"
    for name, number, dollars in lines:
        yield f"| {name} | {f'{number:.2f}' if number < 1 else f'{number:,.0f}'} | {dollars:.2f} |"
    yield f"| together | | {sum(dollars for _, _, dollars in lines):.2f} |"


def span(seconds: float) -> str:
    """Seconds in the greatest unit of which there are two."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _calls(costs: Costs, size: int) -> int:
    return round(costs.calls * size)


def _pages(size: int) -> int:
    return math.ceil(size / PAGE)


def _operations(run: dict[str, Any], service: str) -> int:
    return int(run["storage"]["operations"].get(service, 0))


def _recorded(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def main() -> int:
    print("\n\n".join("\n".join(part()) for part in (walls, rates, month)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
