"""The whole path at size: a first load, then every delta link lost and everything read again.

    python -m bench.first_load [--opportunities 10000] [--roles 1.5] [--seed 1] [--json FILE] [--profile FILE]

Emulators and Azurite run in processes of their own, the services over HTTPS; our engine runs here, with all people
known to Marketo. Marketo's rate and daily limits, the emulator's and our share of them, are switched off: what is
measured is how much is asked, not how long it would have to wait. Concurrency stays 5.

The fewest possible calls are the sum of ⌈n/300⌉ over what Marketo holds in the end: opportunities, roles, companies,
and the people who have a role, since each had to be looked up once; tokens and describe calls apart.
With --profile everything runs in one thread, and the figures of CPU and time are those of a profiled run.
FILE of --json keeps the figures of each size.
"""

from __future__ import annotations

import cProfile
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.meters import PURPOSES, Meters, metered_engine
from bench.recording import parser, record_size
from bench.services import an_org, services
from bench.spending import REST, Spending
from bench.traffic import Traffic
from sync_core.engine import Engine
from sync_core.model import Lane
from tools.emulators.admin import Admin

RECORDS = 300  # of one Marketo call
LEASE = timedelta(minutes=10)
GOALS = {"ratio": 1.1, "our CPU ms": 1.6, "entities": 3, "operations": (400, 150), "RSS MB": 200}


# --- both runs --------------------------------------------------------------------------------------------------


def steps(engine: Engine) -> Iterator[Counter[str]]:
    """Ticks until everything is read, then deliveries until both queues are empty; after each, what was done so far."""
    total: Counter[str] = Counter()
    while not engine.detect().complete:
        total["ticks"] += 1
        yield total
    for lane in Lane:
        while letter := engine.world.queue.receive(lane, lease=LEASE):
            count, ends = letter.dequeue_count, letter.lease_ends
            outcome = engine.deliver(letter.body, dequeue_count=count, lease_ends=ends, lane=lane)
            engine.world.queue.done(lane, letter)
            total["deliveries"] += 1
            total.update(outcome.counts if outcome else {})
            if outcome is None or outcome.trouble:
                raise RuntimeError(f"a bench has no trouble: {outcome and outcome.trouble}")
            yield total


def sync(engine: Engine) -> Counter[str]:
    """All of them; what was done, nothing where nothing changed."""
    total = Counter[str]()
    for done in steps(engine):
        total = done
    return total


def measure(rows: dict[str, Any], profile: Path | None = None) -> dict[str, Any]:
    with services(rows) as found:
        traffic, spending = Traffic(table_port=found.storage.ports.table), Spending()
        with metered_engine(found.settings, traffic, spending, one_thread=profile is not None) as engine:
            meters = Meters(found, traffic, spending)
            with _profiled(profile):
                first = meters.run(lambda: sync(engine))
            found.dataverse.post("expire-delta-links")
            again = meters.run(lambda: sync(engine))
        fewest = fewest_calls(found.marketo)
    ratio = round(first["marketo"]["calls"] / sum(fewest.values()), 3)
    return {"rows": rows, "fewest": fewest, "ratio": ratio, "first load": first, "re-run": again}


@contextmanager
def _profiled(file: Path | None) -> Iterator[None]:
    if file is None:
        yield
        return
    profiler = cProfile.Profile()
    profiler.enable()
    try:
        yield
    finally:
        profiler.disable()
        profiler.dump_stats(file)


def fewest_calls(marketo: Admin) -> dict[str, int]:
    """Calls that can't be saved, by endpoint (design.md §7)."""
    holds = marketo.get("subscription")
    numbers = {
        "POST opportunities.json": holds["rows"]["opportunities"],
        "POST opportunities/roles.json": holds["rows"]["roles"],
        "POST companies.json": holds["rows"]["companies"],
        "GET leads.json": holds["people_with_role"],
    }
    return {name: -(-number // RECORDS) for name, number in numbers.items()}


# --- showing ----------------------------------------------------------------------------------------------------


def report(found: dict[str, Any]) -> Iterator[str]:
    first, again = found["first load"], found["re-run"]
    yield "| Marketo calls | fewest possible | first load | items | all links lost |\n|---|---:|---:|---:|---:|"
    lines, later = first["marketo"]["by_endpoint"], again["marketo"]["by_endpoint"]
    none = {"calls": 0, "items": 0}
    for name in dict.fromkeys((*found["fewest"], *lines, *later)):
        one, two = lines.get(name, none), later.get(name, none)
        yield f"| {name} | {found['fewest'].get(name, 0)} | {one['calls']} | {one['items']:,} | {two['calls']} |"
    calls = first["marketo"]["calls"], again["marketo"]["calls"]
    yield f"| together | {sum(found['fewest'].values())} | {calls[0]} | | {calls[1]} |"
    yield f"\n{found['ratio']} times the fewest possible; the goal is {GOALS['ratio']} or less."
    yield f"Records written when all links were lost: {again['marketo']['records_written']} (the goal is 0)."
    yield f"Apart: {first['marketo']['apart']}\n"
    yield "| of our process | first load | all links lost |\n|---|---:|---:|"
    for name, value in _comparison(found["rows"]["opportunities"]):
        yield f"| {name} | {value(first)} | {value(again)} |"


def _comparison(opportunities: int) -> Iterator[tuple[str, Callable[[dict[str, Any]], str]]]:
    yield "wall s", lambda run: f"{run['wall_s']}"
    yield "CPU s", lambda run: f"{run['cpu_s']}"
    yield "CPU ms per opportunity", lambda run: f"{run['cpu_s'] * 1000 / opportunities:.2f}"
    for purpose in PURPOSES:
        yield (
            f"… {purpose}",
            lambda run, name=purpose: f"{run['cpu_split_s'].get(name, 0) * 1000 / opportunities:.2f}",
        )
    yield f"… all but storage (goal {GOALS['our CPU ms']})", lambda run: f"{our_cpu_ms(run, opportunities):.2f}"
    yield (
        f"peak RSS MB (before; goal {GOALS['RSS MB']})",
        lambda run: f"{run['rss_mb']['peak']} ({run['rss_mb']['before']})",
    )
    most = " and ".join(map(str, GOALS["operations"]))
    yield (
        f"storage operations per 1,000 (goals {most})",
        lambda run: _per_thousand(run["storage"]["operations"], opportunities),
    )
    yield (
        f"entities written per opportunity (goal {GOALS['entities']})",
        lambda run: f"{sum(run['storage']['entities'].values()) / opportunities:.3f}",
    )
    for kind in ("OpportunityLedger", "ConnectionMap", "People", "CompanyLedger", "SyncState"):
        yield f"… {kind}", lambda run, name=kind: f"{_entities(run, name) / opportunities:.3f}"
    yield "Dataverse requests", lambda run: f"{run['dataverse']['requests']}"
    yield "deliveries", lambda run: f"{run['flow'].get('deliveries', 0)}"


def our_cpu_ms(run: dict[str, Any], opportunities: int) -> float:
    """Of an opportunity with its roles, in rules, mapping, planning and both clients."""
    split = run["cpu_split_s"]
    return float(
        sum(split.get(name, 0) for name in (REST, "Dataverse client", "Marketo client")) * 1000 / opportunities
    )


def _per_thousand(numbers: dict[str, int], opportunities: int) -> str:
    return f"{sum(numbers.values()) * 1000 / opportunities:.0f}"


def _entities(run: dict[str, Any], table: str) -> int:
    return sum(number for name, number in run["storage"]["entities"].items() if name.split()[0] == table)


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parser("first_load", __doc__, opportunities=10_000)
    asked.add_argument("--roles", type=float, default=1.5, metavar="N", help="on the average (default: 1.5)")
    asked.add_argument("--profile", type=Path, metavar="FILE", help="write a cProfile of the first load there")
    options = asked.parse_args(arguments)
    found = measure(an_org(options.opportunities, seed=options.seed, roles=options.roles), options.profile)
    print("\n".join(report(found)))
    record_size(options.json, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
