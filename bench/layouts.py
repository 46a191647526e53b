"""What three layouts of the opportunity ledger cost, over the real adapter and SDK against Azurite.

    python -m bench.layouts [--rows 10000] [--json FILE]

Steps, each on its own figures:
* first load   rows inserted in deliveries of 1,800
* re-run       every row read and written unchanged, in such deliveries: what ends every delivery
* delta        1,000 random rows read, one value changed in each, a role replaced in every fifth
* tick         20 random rows, the same way
* counts       rows by state, as `status` asks for them

CPU is of this process alone; wall time has Azurite in it, which is one process and slower than the service.
"""

from __future__ import annotations

import base64
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.data.tables import TableServiceClient

from bench.recording import parser, record
from bench.role_entities import RoleEntityLedger
from bench.traffic import Traffic
from sync_core.adapters.clock import SystemClock
from sync_core.adapters.tables import TableLedger
from sync_core.messages import FULL
from sync_core.model import LedgerRow, Role
from sync_core.wiring import STORAGE_THREADS, threads
from tools.azurite import azurite

SEED = 1
DELTA, TICK = 1_000, 20
FIELDS = 11  # as many as the checked-in mapping posts, with the company
TEXTS = ("Champion", "Decision Maker", "Economic Buyer", "End User", "Influencer", "Stakeholder", "Technical Buyer")
CREATED = datetime(2026, 1, 5, 8, tzinfo=UTC)

LAYOUTS: dict[str, tuple[type[TableLedger], int]] = {
    "roles inside, 16 partitions": (TableLedger, 1),
    "roles inside, 256 partitions": (TableLedger, 2),
    "an entity per role, 16 partitions": (RoleEntityLedger, 1),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """One step on one layout; *rows* is how many opportunities it was about."""

    layout: str
    step: str
    rows: int
    cpu_s: float
    wall_s: float
    operations: int
    entities: int

    def per_thousand(self, number: int) -> float:
        return round(number * 1000 / self.rows, 1) if self.rows else 0.0


# --- rows -------------------------------------------------------------------------------------------------------


def made_up(number: int) -> list[LedgerRow]:
    """Rows as a first load writes them: digests of the mapped fields, and 1.5 roles with their reasons."""
    chance = random.Random(SEED)
    return [_row(chance, index) for index in range(number)]


def _row(chance: random.Random, index: int) -> LedgerRow:
    fields = {f"mappedField{number}": _digest(chance) for number in range(FIELDS)}
    roles = tuple(_role(chance) for _ in range(1 + index % 2))
    return LedgerRow(_guid(chance), fields=fields, roles=roles, mapping=_digest(chance), version=1_000_000 + index)


def _role(chance: random.Random) -> Role:
    created = (CREATED - timedelta(seconds=chance.randrange(60_000_000))).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Role(chance.randrange(1, 10_000_000), chance.choice(TEXTS), False, created, (_guid(chance),))


def _guid(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def _digest(chance: random.Random) -> str:
    return base64.urlsafe_b64encode(chance.randbytes(8)).decode().rstrip("=")


def _changed(index: int, row: LedgerRow) -> LedgerRow:
    """A value changed; in every fifth row the first role was given to somebody else."""
    fields = {**row.fields, "mappedField0": f"changed{index:04}"}
    if index % 5 or not row.roles:
        return replace(row, fields=fields)
    first = replace(row.roles[0], lead=row.roles[0].lead + 10_000_000)
    return replace(row, fields=fields, roles=(first, *row.roles[1:]))


# --- measuring --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Bench:
    """One layout in an empty account."""

    layout: str
    ledger: TableLedger
    traffic: Traffic
    rows: Sequence[LedgerRow]

    def run(self) -> Iterator[Figures]:
        ids = [row.id for row in self.rows]
        chance = random.Random(SEED)
        some = [chance.sample(ids, min(number, len(ids))) for number in (DELTA, TICK)]
        self.ledger.counts()  # the table is there, and connections are open
        yield self._measured("first load", len(ids), self._load)
        yield self._measured("re-run", len(ids), lambda: self._again(ids, lambda _index, row: row))
        yield self._measured("delta", len(some[0]), lambda: self._again(some[0], _changed))
        yield self._measured("tick", len(some[1]), lambda: self._again(some[1], _changed))
        yield self._measured("counts", 0, self._check_counts)

    def _measured(self, step: str, rows: int, work: Callable[[], None]) -> Figures:
        self.traffic.clear()
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        operations, entities = self.traffic.operations, self.traffic.written
        return Figures(self.layout, step, rows, round(cpu, 3), round(wall, 3), operations, entities)

    def _load(self) -> None:
        for part in _deliveries(self.rows):
            _all_written(self.ledger.write(part))

    def _again(self, ids: Sequence[str], change: Callable[[int, LedgerRow], LedgerRow]) -> None:
        for part in _deliveries(ids):
            found = self.ledger.rows(part)
            if found.keys() != set(part):
                raise AssertionError(f"{len(part)} rows were asked for, {len(found)} came")
            _all_written(self.ledger.write([change(index, found[id]) for index, id in enumerate(part)]))

    def _check_counts(self) -> None:
        """The figures would be worth nothing if a layout had lost rows or roles."""
        wanted = {"in step": len(self.rows), "roles": sum(len(row.roles) for row in self.rows)}
        found = self.ledger.counts()
        if {name: found[name] for name in wanted} != wanted:
            raise AssertionError(f"the ledger counts {found}, there are {wanted}")


def _deliveries(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + FULL] for start in range(0, len(items), FULL))


def _all_written(lost: set[str]) -> None:
    if lost:
        raise AssertionError(f"{len(lost)} rows were not written")


@contextmanager
def _opened(layout: str, rows: Sequence[LedgerRow]) -> Iterator[_Bench]:
    kind, prefix = LAYOUTS[layout]
    with azurite() as emulator:
        traffic = Traffic(table_port=emulator.ports.table)
        service = TableServiceClient.from_connection_string(
            emulator.connection_string, transport=traffic.transport(), retry_total=2
        )
        with service:
            fan_out = threads(STORAGE_THREADS)
            ledger = kind(service.get_table_client("OpportunityLedger"), SystemClock(), fan_out, prefix=prefix)
            yield _Bench(layout, ledger, traffic, rows)


def measure(number: int) -> list[Figures]:
    rows = made_up(number)
    found: list[Figures] = []
    for layout in LAYOUTS:
        with _opened(layout, rows) as bench:
            found += bench.run()
    return found


# --- showing ----------------------------------------------------------------------------------------------------


def table(figures: Sequence[Figures]) -> str:
    lines = [
        "| layout | step | CPU s | wall s | operations | per 1,000 | entities | per 1,000 |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for item in figures:
        operations, entities = item.per_thousand(item.operations), item.per_thousand(item.entities)
        cells = [item.layout, f"{item.step}, {item.rows:,}" if item.rows else item.step]
        cells += [f"{item.cpu_s:.2f}", f"{item.wall_s:.2f}", f"{item.operations:,}", f"{operations:,.0f}"]
        lines.append(f"| {' | '.join([*cells, f'{item.entities:,}', f'{entities:,.0f}'])} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parser("layouts", __doc__)
    asked.add_argument("--rows", type=int, default=10_000, metavar="N", help="opportunities (default: 10000)")
    options = asked.parse_args(arguments)
    figures = measure(options.rows)
    print(table(figures))
    record(options.json, {"rows": options.rows, "figures": [asdict(item) for item in figures]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
