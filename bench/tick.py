"""One tick: nothing changed, and a busy five minutes with every Marketo call taking a second.

    python -m bench.tick [--opportunities 10000] [--seed 1] [--json FILE]

Emulators and Azurite run in processes of their own; our engine runs here, at Marketo's limits and our default share
of them. Before, everything is loaded (without limits). Then

* idle ticks: the first of a process (it signs in and checks the pair), and ten more
* as many looks at how things stand, which the watching function takes every five minutes
* a busy tick: 500 opportunities changed, 20 stakeholders, 10 contacts who moved to another account

What Marketo should hold afterwards, and the fewest calls that the changes could have cost, come from `tools.checker`.
"Everything in Marketo" is counted from the start of the tick; a message may lie `maxPollingInterval` longer in the
queue before the Functions host takes it, which is added.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from bench.changes import change
from bench.compare import KINDS, checked
from bench.first_load import sync
from bench.meters import Meters, metered_engine
from bench.recording import parser, record
from bench.services import ROOT, an_org, services
from bench.spending import Spending
from bench.traffic import Traffic
from sync_core.engine import Engine
from tools import checker
from tools.local_host import QueueOptions

IDLE_TICKS = 10
SECOND = 1.0  # that each Marketo call takes
CHANGES = {"opportunities": 500, "stakeholders": 20, "contacts": 10}
GOALS = {"Dataverse requests": 20, "everything in Marketo after s": 15, "CPU s of an idle tick": 0.3}

Run = dict[str, Any]


def measure(opportunities: int, seed: int) -> Run:
    rows = an_org(opportunities, seed=seed)
    fewest = checker.Fewest()
    with services(rows) as found:
        traffic, spending = Traffic(table_port=found.storage.ports.table), Spending()
        meters = Meters(found, traffic, spending)
        with metered_engine(found.settings, traffic, spending) as engine:
            sync(engine)
        before, _ = checked(found)
        fewest.calls(checker.nothing(), before)
        found = found.at_real_limits(latency=SECOND)
        with metered_engine(found.settings, traffic, spending) as engine:
            idle = [meters.run(lambda: sync(engine)) for _ in range(1 + IDLE_TICKS)]
            watched = [meters.run(lambda: watch(engine)) for _ in range(1 + IDLE_TICKS)]
            made = change(found.dataverse, **CHANGES, seed=seed)
            busy = meters.run(lambda: sync(engine))
        after, wrong = checked(found)
    polling = QueueOptions.from_host_json(ROOT / "host.json").max_polling_interval
    return {
        "rows": rows,
        "idle": {"first of a process": idle[0], "CPU s": sorted(run["cpu_s"] for run in idle[1:]), "later": idle[-1]},
        "watch": {"first": watched[0], "CPU s": sorted(run["cpu_s"] for run in watched[1:]), "later": watched[-1]},
        "changes": made,
        "wrong": wrong,
        "busy": {
            **busy,
            "fewest": fewest.calls(before, after),
            "everything in Marketo after s": round(busy["wall_s"] + polling, 1),
        },
    }


def watch(engine: Engine) -> Counter[str]:
    engine.watch()
    return Counter()


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
    look, cpu = found["watch"], found["watch"]["CPU s"]
    yield "\n| every five minutes, how things stand | first look of a process | later looks |\n|---|---:|---:|"
    yield f"| Marketo calls, for its own count of all calls | {_apart(look['first'])} | {_apart(look['later'])} |"
    yield f"| CPU s | {look['first']['cpu_s']} | {median(cpu):.3f} (most {cpu[-1]:.3f}) |"
    yield f"| storage operations | {_operations(look['first'])} | {_operations(look['later'])} |"
    yield f"\nDataverse requests of a later tick: {_listed(later['dataverse']['by_table'])}\n"
    yield f"Changed: {_listed(found['changes'])}\n"
    yield "| a busy tick | fewest possible | Marketo calls | items |\n|---|---:|---:|---:|"
    lines = {KINDS[endpoint]: line for endpoint, line in busy["marketo"]["by_endpoint"].items()}
    none = {"calls": 0, "items": 0}
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


def _apart(run: Run) -> int:
    return sum(run["marketo"]["apart"].values())


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser("tick", __doc__, opportunities=10_000).parse_args(arguments)
    found = measure(options.opportunities, options.seed)
    print("\n".join(report(found)))
    record(options.json, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
