"""How long an edit takes to reach Marketo while a backlog is worked off, at the limits as they are.

    python -m bench.lanes [--opportunities 20000] [--edits 3] [--tick 30] [--seed 1] [--json FILE]

Emulators and Azurite run in processes of their own, the services over HTTPS; Marketo takes 0.3 s for a call, allows 100
in 20 s, and we keep to our share of 50. Here a timer ticks and one worker for each lane delivers, as the functions do,
each with an engine of its own; the timer's five minutes are shortened to --tick seconds, so that there is something to
wait behind. First a first load, with edits of opportunities at its end; then every row is touched in a column
that is not mapped, and two ticks later one is edited. An edit has arrived when the ledger knows Marketo's answer.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.meters import RESULTS, marketo_calls
from bench.services import Services, services
from sync_core import wiring
from sync_core.engine import Engine
from sync_core.model import Lane, MarketoObject
from sync_core.settings import Settings

LEASE = timedelta(minutes=10)
MARKETO = {"rate_limit": 100, "daily_quota": 50_000, "latency": 0.3}
SHARE = {"marketo_calls_per_20s": 50, "marketo_daily_calls": 25_000}
LOOK_S = 0.5
AT_ONCE = 1_000  # edits of one admin request


@dataclass(slots=True)
class Running:
    """The timer and a worker for each lane, in threads; how many `ticks` began, and are `done`."""

    settings: Settings
    every: float
    ticks: int = 0
    done: int = 0
    handled: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(Lane, 0))
    troubles: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def timer(self) -> None:
        engine = wiring.build(self.settings)
        while not self.ended.is_set():
            begun = time.monotonic()
            self.ticks += 1
            engine.detect()
            self.done += 1
            self.ended.wait(max(0.0, begun + self.every - time.monotonic()))

    def worker(self, lane: Lane) -> None:
        engine = wiring.build(self.settings)
        while not self.ended.is_set():
            letter = engine.world.queue.receive(lane, lease=LEASE)
            if letter is None:
                self.ended.wait(LOOK_S)
                continue
            count, ends = letter.dequeue_count, letter.lease_ends
            outcome = engine.deliver(letter.body, dequeue_count=count, lease_ends=ends, lane=lane)
            engine.world.queue.done(lane, letter)
            if outcome is not None:
                self.handled[lane] += outcome.counts["handled"]
                self.troubles += [str(outcome.trouble)] if outcome.trouble else []


@contextmanager
def running(settings: Settings, every: float) -> Iterator[Running]:
    found = Running(settings, every)
    threads = [threading.Thread(target=found.timer), *(threading.Thread(target=found.worker, args=[x]) for x in Lane)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found.ended.set()
        for thread in threads:
            thread.join()


def measure(opportunities: int, edits: int, tick_s: float, seed: int) -> dict[str, Any]:
    with services({"seed": seed, "opportunities": opportunities, "roles_per_opportunity": 1.5}) as found:
        found.marketo.post("switches", MARKETO)
        found.dataverse.post("switches", {"closed_opportunities_are_read_only": False})  # every row is touched
        settings = replace(found.settings, **SHARE)
        watcher = wiring.build(settings)
        ids = sorted(row["opportunityid"] for row in found.dataverse.get("rows/opportunity"))
        with running(settings, tick_s) as run:
            begun = time.monotonic()
            _wait(lambda: run.done > 0)
            during = [_edit(found, watcher, run, ids[-1 - number]) for number in range(edits)]
            _wait(lambda: _empty(watcher))
            load_s = time.monotonic() - begun
            load = marketo_calls(found.marketo.get("journal"))
            found.marketo.delete("journal")
            touched = [{"op": "update", "table": "opportunity", "id": id, "values": {"budgetamount": 5}} for id in ids]
            for start in range(0, len(touched), AT_ONCE):
                found.dataverse.post("edit", touched[start : start + AT_ONCE])
            ticks = run.ticks
            _wait(lambda: run.ticks > ticks + 2)
            later = _edit(found, watcher, run, ids[0])
            _wait(lambda: _empty(watcher))
            bulk = marketo_calls(found.marketo.get("journal"))
    return {
        "opportunities": opportunities,
        "tick_s": tick_s,
        "first load": {
            "seconds": round(load_s),
            "calls": load["calls"],
            "calls a second": round(load["calls"] / load_s, 2),
            "refused": load["refused"],
            "edits": during,
        },
        "bulk": {"touched": len(ids), "calls with those for the edit": bulk["calls"], "edit": later},
        "handled": {str(lane): number for lane, number in run.handled.items()},
        "put back because": sorted(set(run.troubles)),
    }


def _edit(found: Services, watcher: Engine, run: Running, key: str) -> dict[str, Any]:
    """Rename one opportunity and wait until Marketo has it; what that took, and what it overtook."""
    name, before = f"Renamed at {time.time()}", _digest(watcher, key)
    found.dataverse.post("edit", {"op": "update", "table": "opportunity", "id": key, "values": {"name": name}})
    begun, ticks = time.monotonic(), run.ticks

    def arrived() -> bool:
        if _digest(watcher, key) == before:
            return False
        there = watcher.world.target.records(MarketoObject.OPPORTUNITY, [key], ["name"])
        return bool(there[key]["name"] == name)

    left = watcher.world.queue.lengths()[Lane.SLOW]
    _wait(arrived)
    return {
        "ticks": run.ticks - ticks,
        "seconds": round(time.monotonic() - begun, 1),
        "messages in the slow lane": left,
        "still there when it arrived": watcher.world.queue.lengths()[Lane.SLOW],
    }


def _digest(watcher: Engine, key: str) -> str | None:
    row = watcher.world.opportunities.rows([key]).get(key)
    return row.fields.get("name") if row else None


def _empty(watcher: Engine) -> bool:
    lengths = watcher.world.queue.lengths()
    return not any(lengths[lane] for lane in Lane)


def _wait(until: Callable[[], bool]) -> None:
    while not until():
        time.sleep(LOOK_S)


def report(found: dict[str, Any]) -> Iterator[str]:
    load, bulk = found["first load"], found["bulk"]
    yield f"First load of {found['opportunities']:,} opportunities, a tick every {found['tick_s']:.0f} s:"
    yield f"  {load['calls']} Marketo calls in {load['seconds']} s, {load['calls a second']} a second"
    for edit in load["edits"]:
        yield f"  {_told(edit)}"
    calls = bulk["calls with those for the edit"]
    yield f"{bulk['touched']:,} rows touched, then an edit: {calls} Marketo calls, of which one looked for it"
    yield f"  {_told(bulk['edit'])}"


def _told(edit: dict[str, Any]) -> str:
    return (
        f"an edit arrived after {edit['ticks']} ticks and {edit['seconds']} s; messages in the slow lane: "
        f"{edit['messages in the slow lane']}, then {edit['still there when it arrived']}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.lanes", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--opportunities", type=int, default=20_000, metavar="N", help="default: 20000; more than `fresh_max`"
    )
    parser.add_argument("--edits", type=int, default=3, metavar="N", help="during the first load (default: 3)")
    parser.add_argument("--tick", type=float, default=30.0, metavar="S", help="seconds between ticks (default: 30)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed, the same rows (default: 1)")
    parser.add_argument("--json", type=Path, default=RESULTS / "lanes.json", metavar="FILE", help="where it goes")
    options = parser.parse_args(arguments)
    found = measure(options.opportunities, options.edits, options.tick, options.seed)
    print("\n".join(report(found)))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
