"""Us against a straightforward script (`bench.script`): a first load, then a tick after a day's changes.

    python -m bench.compare [--opportunities 10000] [--changed 500] [--stakeholders 20] [--moved 10] [--seed 1]
                            [--json FILE]

Each side has emulators of its own, with the same rows, the same people and the same changes, and the same meters.
What Marketo should hold, what it holds wrongly afterwards, and the fewest calls that the changes could have cost come
from `tools.checker`, which shares no code with either. Tokens and describe calls are apart.

The emulators answer at once and refuse nobody, so wall time is that of the two programs. How long Marketo would keep
each of them busy is computed from the calls, as the output says.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from bench.changes import change
from bench.first_load import sync
from bench.meters import Meters, metered_engine
from bench.recording import parser, record
from bench.script import Script
from bench.services import Services, an_org, services
from bench.spending import Spending
from bench.traffic import Traffic
from tools import checker

OURS, SCRIPT = "ours", "script"
PARTS = FIRST, TICK = "first load", "tick"

LATENCY_S = 1.0  # of a Marketo call
SHARE, WINDOW_S = 50, 20  # calls, in so many seconds: half of what Marketo lets a subscription make
AT_ONCE = {OURS: 5, SCRIPT: 1}
PACE = (
    f"calls × max({LATENCY_S:.0f} s ÷ calls at once, {WINDOW_S} s ÷ {SHARE} calls), {AT_ONCE[OURS]} at once for us and "
    f"{AT_ONCE[SCRIPT]} for the script; at least {LATENCY_S:.0f} s for each kind of call, "
    "since one kind waits for another"
)

KINDS = {
    "GET leads.json": "people looked up",
    "POST companies.json": "companies",
    "POST opportunities.json": "opportunities",
    "POST opportunities/roles.json": "roles",
    "POST opportunities/roles/delete.json": "roles removed",
    "GET opportunities/roles.json": "roles read back",
}

Figures = dict[str, Any]
Work = Callable[[], Counter[str]]


def measure(rows: Figures, changes: dict[str, int]) -> Figures:
    """Both parts for both sides; raises AssertionError if they weren't given the same."""
    sides = {name: _side(name, rows, changes) for name in (OURS, SCRIPT)}
    made, other = ((side.pop("changes"), side.pop("fewest")) for side in sides.values())
    if made != other:
        raise AssertionError(f"not the same work: {made} and {other}")
    parts = {part: {"fewest": made[1][part], **{name: side[part] for name, side in sides.items()}} for part in PARTS}
    return {"rows": rows, "changes": made[0], "pace": PACE, **parts}


def _side(name: str, rows: Figures, changes: dict[str, int]) -> Figures:
    fewest, before = checker.Fewest(), checker.nothing()
    side: Figures = {"fewest": {}, "changes": {}}
    with services(rows) as found, _program(name, found) as (meters, work):
        for part in PARTS:
            if part == TICK:
                side["changes"] = change(found.dataverse, seed=rows["seed"], **changes)
            run = meters.run(work)
            wanted, wrong = checked(found)
            side[part] = _figures(name, run) | {"wrong": wrong}
            side["fewest"][part], before = fewest.calls(before, wanted), wanted
    return side


@contextmanager
def _program(name: str, found: Services) -> Iterator[tuple[Meters, Work]]:
    """What is measured: the engine with a run of ticks and deliveries, or the script, which remembers when it ran."""
    traffic, spending = Traffic(table_port=found.storage.ports.table), Spending()
    meters = Meters(found, traffic, spending)
    if name == OURS:
        with metered_engine(found.settings, traffic, spending) as engine:
            yield meters, lambda: sync(engine)
        return
    remembered: list[datetime] = []

    def run() -> Counter[str]:
        since = remembered[-1] if remembered else None
        remembered.append(datetime.now(UTC))
        return Script(found.settings).run(since)

    yield meters, run


def _figures(name: str, run: Figures) -> Figures:
    marketo = run["marketo"]
    kinds: Counter[str] = Counter()
    for endpoint, line in marketo["by_endpoint"].items():
        kinds[KINDS.get(endpoint, endpoint)] += line["calls"]
    return {
        "calls": marketo["calls"],
        "by_kind": dict(kinds),
        "records": sum(line["items"] for line in marketo["by_endpoint"].values()),
        "marketo_s": round(pace(name, kinds), 1),
        "dataverse": run["dataverse"]["requests"],
        "cpu_s": run["cpu_s"],
        "wall_s": run["wall_s"],
        "apart": marketo["apart"],
    }


def pace(name: str, kinds: Mapping[str, int]) -> float:
    """Seconds that Marketo takes for so many calls of each kind, by `PACE`."""
    return max(sum(kinds.values()) * max(LATENCY_S / AT_ONCE[name], WINDOW_S / SHARE), LATENCY_S * len(kinds))


def checked(found: Services) -> tuple[checker.Expected, dict[str, int]]:
    """What Marketo should hold, and how much of what it holds is wrong."""
    held = checker.marketo_rows(found.marketo)
    wanted = checker.expected(checker.dataverse_rows(found.dataverse), held["leads"])
    told = checker.differences(wanted, held)
    stale = [each for each in told if each.startswith("role ") and each.endswith(" should not be in Marketo")]
    return wanted, {"roles": len(stale), "differences": len(told)}


# --- showing ----------------------------------------------------------------------------------------------------


def report(found: Figures) -> Iterator[str]:
    number = f"{found['rows']['opportunities']:,}"
    changes = ", ".join(f"{count} {kind}" for kind, count in found["changes"].items())
    yield f"First load: {number} opportunities. Tick, after: {changes}.\n"
    yield f"| Marketo calls | {' | '.join(f'{part}: {name}' for part in PARTS for name in COLUMNS)} |"
    yield f"|---|{'---:|' * len(PARTS) * len(COLUMNS)}"
    for kind in dict.fromkeys(kind for part in PARTS for name in COLUMNS for kind in _by_kind(found[part][name])):
        cells = [_by_kind(found[part][name]).get(kind, 0) for part in PARTS for name in COLUMNS]
        yield f"| {kind} | {' | '.join(f'{cell:,}' for cell in cells)} |"
    cells = [sum(_by_kind(found[part][name]).values()) for part in PARTS for name in COLUMNS]
    yield f"| together | {' | '.join(f'{cell:,}' for cell in cells)} |\n"
    yield "| | first load: ours | script | tick: ours | script |\n|---|---:|---:|---:|---:|"
    for title, value in LINES.items():
        yield f"| {title} | {' | '.join(value(found[part][name]) for part in PARTS for name in (OURS, SCRIPT))} |"
    noticed = (f"{name} {'no' if found[TICK][name]['wrong']['roles'] else 'yes'}" for name in (OURS, SCRIPT))
    yield f"\nStakeholder removals noticed: {', '.join(noticed)}."
    yield f"Time at Marketo's pace = {found['pace']}."
    yield "Wall time is against emulators that answer at once: no latency, no limit, no pause of the script's library."


COLUMNS = ("fewest", OURS, SCRIPT)
LINES: dict[str, Callable[[Figures], str]] = {
    "s at Marketo's pace": lambda run: f"{run['marketo_s']:,.0f}",
    "CPU s": lambda run: f"{run['cpu_s']:.1f}",
    "wall s": lambda run: f"{run['wall_s']:.1f}",
    "Dataverse requests": lambda run: f"{run['dataverse']:,}",
    "records and look-ups sent to Marketo": lambda run: f"{run['records']:,}",
    "roles in Marketo that should be gone": lambda run: f"{run['wrong']['roles']}",
    "differences from what Marketo should hold": lambda run: f"{run['wrong']['differences']}",
}


def _by_kind(side: Figures) -> dict[str, int]:
    return dict(side.get("by_kind", side))


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    rows = an_org(options.opportunities, seed=options.seed)
    changes = {"opportunities": options.changed, "stakeholders": options.stakeholders, "contacts": options.moved}
    found = measure(rows, changes)
    print("\n".join(report(found)))
    record(options.json, found)
    return 0


def _parser() -> argparse.ArgumentParser:
    found = parser("compare", __doc__)
    for name, number, what in (
        ("opportunities", 10_000, "of the first load"),
        ("changed", 500, "opportunities that changed before the tick"),
        ("stakeholders", 20, "changes of stakeholders before it"),
        ("moved", 10, "contacts that went to another account before it"),
        ("seed", 1, "the same seed, the same rows and changes"),
    ):
        found.add_argument(f"--{name}", type=int, default=number, metavar="N", help=f"{what} (default: {number})")
    return found


if __name__ == "__main__":
    sys.exit(main())
