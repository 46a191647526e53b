"""What it costs to foretell a first load: `plan` before anything was loaded, its file written to disk.

    python -m bench.plan [--opportunities 10000] [--seed 1] [--json FILE]

Emulators and Azurite run in processes of their own, the services over HTTPS; the plan runs here, with all people known
to Marketo, and without Marketo's rate and daily limits. Its memory must not depend on how many opportunities there
are: FILE keeps the figures of each size, and the table shows them beside each other.

A plan that wrote anything has no figures: Marketo's journal must hold no write, and storage no more than before, but
for the limiter's count of Marketo's calls.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.meters import PURPOSES, SDK_THREADS, Meters, metered_engine
from bench.recording import Lines, parser, record_size, side_by_side
from bench.services import an_org, services
from bench.spending import Spending
from bench.traffic import Traffic
from sync_core.engine import Engine
from sync_core.flows.plan import plan
from tools.contents import Contents, contents

LIMITER = ("limiter", "marketo")

Run = dict[str, Any]


def measure(opportunities: int, seed: int) -> Run:
    rows = an_org(opportunities, seed=seed)
    with services(rows) as found, TemporaryDirectory() as folder:
        traffic, spending = Traffic(table_port=found.storage.ports.table), Spending()
        before, file = contents(found.storage.connection_string), Path(folder) / "plan.json"
        with metered_engine(found.settings, traffic, spending) as engine:
            run = Meters(found, traffic, spending).run(lambda: _plan(engine, file))
        _check_nothing_written(run, before, contents(found.storage.connection_string))
        return {"rows": rows, **run, "file_mb": round(file.stat().st_size / 1_000_000, 1)}


def _plan(engine: Engine, file: Path) -> Counter[str]:
    """As `plan --out` does it; what it foretells."""
    with file.open("w", encoding="utf-8") as out:
        found = plan(engine.world, out=out.write)
    numbers = {f"{name} created": found[name]["created"] for name in ("opportunities", "companies")}
    numbers |= {"roles added": found["roles"]["added"]}
    return Counter(numbers | {f"calls {what}": found["Marketo calls"][what] for what in ("to write", "to read")})


def _check_nothing_written(run: Run, before: Contents, after: Contents) -> None:
    """*before* is the empty account; raises AssertionError."""
    left = {place: stored for place, stored in after.items() if stored.keys() != {LIMITER}}
    if run["marketo"]["writes"] or left != before:
        raise AssertionError(f"the plan wrote: {run['marketo']['by_endpoint']}, {run['storage']['entities']}")


# --- showing ----------------------------------------------------------------------------------------------------


def report(runs: Sequence[Run]) -> Iterator[str]:
    return side_by_side("a plan of so many opportunities", runs, _lines())


def _lines() -> Lines:
    yield "Marketo calls foretold", lambda run: f"{run['flow']['calls to write'] + run['flow']['calls to read']}"
    yield "Marketo calls of its own", lambda run: f"{run['marketo']['calls']}"
    yield "Marketo writes", lambda run: f"{run['marketo']['writes']}"
    yield "plan file MB", lambda run: f"{run['file_mb']}"
    yield "wall s", lambda run: f"{run['wall_s']}"
    yield "CPU ms per opportunity", lambda run: _per_opportunity(run, run["cpu_s"])
    for purpose in (each for each in PURPOSES if each != SDK_THREADS):  # of transactions, which write
        yield f"… {purpose}", lambda run, name=purpose: _per_opportunity(run, run["cpu_split_s"].get(name, 0))
    yield "peak RSS MB (before)", lambda run: f"{run['rss_mb']['peak']} ({run['rss_mb']['before']})"
    yield "storage operations per 1,000", lambda run: _per_opportunity(run, sum(run["storage"]["operations"].values()))
    yield "Dataverse requests", lambda run: f"{run['dataverse']['requests']}"


def _per_opportunity(run: Run, thousands: float) -> str:
    return f"{thousands * 1000 / run['rows']['opportunities']:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser("plan", __doc__, opportunities=10_000).parse_args(arguments)
    runs = record_size(options.json, measure(options.opportunities, options.seed))
    print("\n".join(report([*runs.values()])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
