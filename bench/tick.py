"""One tick: nothing changed, and a busy five minutes with every Marketo call taking a second.

    python -m bench.tick [--opportunities 10000] [--seed 1] [--json FILE]

Emulators and Azurite run in processes of their own; our engine runs here, at Marketo's limits and our default share
of them. Before, everything is loaded (without limits). Then

* idle ticks: the first of a process (it signs in and checks the pair), and ten more
* a busy tick: 500 opportunities changed, 20 stakeholders, 10 contacts who moved to another account

The fewest possible calls follow from what is different in Marketo afterwards: Σ ⌈n/300⌉ over opportunities changed,
roles added or changed, roles removed, companies new or changed, and people who got a role and had none before.
"Everything in Marketo" is counted from the start of the tick; a message may lie `maxPollingInterval` longer in the
queue before the Functions host takes it, which is added.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.changes import change
from bench.first_load import RECORDS, sync
from bench.meters import RESULTS, Meters, metered_engine
from bench.services import ROOT, Services, an_org, services
from bench.spending import Spending
from bench.traffic import Traffic
from tools.local_host import QueueOptions

IDLE_TICKS = 10
SECOND = 1.0  # that each Marketo call takes
CHANGES = {"opportunities": 500, "stakeholders": 20, "contacts": 10}
GOALS = {"Dataverse requests": 20, "everything in Marketo after s": 15, "CPU s of an idle tick": 0.3}
KEYS = {
    "opportunities": ("externalOpportunityId",),
    "roles": ("externalOpportunityId", "leadId", "role"),
    "companies": ("externalCompanyId",),
}
THEIR_OWN = {"updatedAt", "marketoGUID", "createdAt", "id"}  # what Marketo says of a row, not what we wrote

Run = dict[str, Any]


def measure(opportunities: int, seed: int) -> Run:
    rows = an_org(opportunities, seed=seed)
    with services(rows) as found:
        traffic, spending = Traffic(table_port=found.storage.ports.table), Spending()
        meters = Meters(found, traffic, spending)
        with metered_engine(found.settings, traffic, spending) as engine:
            sync(engine)
        found = found.at_real_limits(latency=SECOND)
        with metered_engine(found.settings, traffic, spending) as engine:
            idle = [meters.run(lambda: sync(engine)) for _ in range(1 + IDLE_TICKS)]
            held, made = _held(found), change(found.dataverse, **CHANGES, seed=seed)
            busy = meters.run(lambda: sync(engine))
        fewest = _fewest(held, _held(found))
    polling = QueueOptions.from_host_json(ROOT / "host.json").max_polling_interval
    return {
        "rows": rows,
        "idle": {"first of a process": idle[0], "CPU s": sorted(run["cpu_s"] for run in idle[1:]), "later": idle[-1]},
        "changes": made,
        "busy": {**busy, "fewest": fewest, "everything in Marketo after s": round(busy["wall_s"] + polling, 1)},
    }


def _held(found: Services) -> dict[str, dict[tuple[Any, ...], Any]]:
    """What Marketo holds, by kind and key."""
    return {
        kind: {_key(row, names): _ours(row) for row in found.marketo.get(f"rows/{kind}")}
        for kind, names in KEYS.items()
    }


def _key(row: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def _ours(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in THEIR_OWN}


def _fewest(before: Mapping[str, Mapping[Any, Any]], after: Mapping[str, Mapping[Any, Any]]) -> dict[str, int]:
    """Calls that can't be saved, by endpoint (design.md §7)."""
    changed = {kind: sum(before[kind].get(key) != row for key, row in rows.items()) for kind, rows in after.items()}
    people = {lead for _, lead, _ in after["roles"]} - {lead for _, lead, _ in before["roles"]}
    numbers = {
        "POST opportunities.json": changed["opportunities"],
        "POST opportunities/roles.json": changed["roles"],
        "POST opportunities/roles/delete.json": len(before["roles"].keys() - after["roles"].keys()),
        "POST companies.json": changed["companies"],
        "GET leads.json": len(people),
    }
    return {name: -(-number // RECORDS) for name, number in numbers.items()}


# --- showing ----------------------------------------------------------------------------------------------------


def report(found: Run) -> Iterator[str]:
    first, busy = found["idle"]["first of a process"], found["busy"]
    cpu = found["idle"]["CPU s"]
    yield "| nothing changed | first tick of a process | later ticks | goal |\n|---|---:|---:|---:|"
    later = found["idle"]["later"]
    yield f"| Marketo calls | {first['marketo']['calls']} | {later['marketo']['calls']} | 0 |"
    yield f"| Dataverse requests | {first['dataverse']['requests']} | {later['dataverse']['requests']} | |"
    yield f"| CPU s | {first['cpu_s']} | {median(cpu):.3f} (most {cpu[-1]:.3f}) | < {GOALS['CPU s of an idle tick']} |"
    yield f"| storage operations | {_operations(first)} | {_operations(later)} | |"
    yield f"\nDataverse requests of a later tick: {_listed(later['dataverse']['by_table'])}\n"
    yield f"Changed: {_listed(found['changes'])}\n"
    yield "| a busy tick | fewest possible | Marketo calls | items |\n|---|---:|---:|---:|"
    lines, none = busy["marketo"]["by_endpoint"], {"calls": 0, "items": 0}
    for name in dict.fromkeys((*busy["fewest"], *lines)):
        line = lines.get(name, none)
        yield f"| {name} | {busy['fewest'].get(name, 0)} | {line['calls']} | {line['items']:,} |"
    yield f"| together | {sum(busy['fewest'].values())} | {busy['marketo']['calls']} | |"
    yield f"\nApart: {busy['marketo']['apart']}; queued {busy['flow'].get('handled', 0)} records."
    requests, goal = busy["dataverse"], GOALS["Dataverse requests"]
    yield f"Dataverse requests: {requests['requests']} (goal ≤ {goal}): {_listed(requests['by_table'])}."
    seconds, goal = busy["everything in Marketo after s"], GOALS["everything in Marketo after s"]
    yield f"Everything in Marketo after {seconds} s (goal ≤ {goal}); CPU {busy['cpu_s']} s."


def _operations(run: Run) -> int:
    return sum(run["storage"]["operations"].values())


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    found = measure(options.opportunities, options.seed)
    print("\n".join(report(found)))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.tick", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--opportunities", type=int, default=10_000, metavar="N", help="default: 10000")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed, the same rows (default: 1)")
    parser.add_argument("--json", type=Path, default=RESULTS / "tick.json", metavar="FILE", help="where it goes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
