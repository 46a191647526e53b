"""A first load by several hosts at Marketo's real limits, and edits that overtake it.

    python -m bench.pace [--opportunities 100000] [--hosts 4] [--seed 1] [--json FILE]

Everything runs in processes of its own: emulators, Azurite, and so many local hosts with the functions of this
repository on one storage account, without a word between them. Marketo is at its real limits and takes a second for
each call; we have our default share of it (50 calls in 20 s, 5 at once). There is a tick every 30 s, and
`MARKETO_LATE_WRITE_S` is a minute.

1. How many entities a second Azurite takes, measured before: 20,000 in transactions of a hundred, eight threads.
2. A first load. No faster than our share (calls ÷ 2.5 a second), no faster than storage (entities ÷ Azurite's rate).
3. Meanwhile somebody edits an opportunity, twice: after how many ticks is it in Marketo?
4. Every opportunity is touched in a column that no field is filled from; two ticks later somebody edits one.

Marketo's journal tells the most calls of any 20 seconds and at once.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.first_load import fewest_calls
from bench.host import hosts
from bench.meters import marketo_calls
from bench.recording import parser, record
from bench.services import Services, an_org, services
from sync_core.adapters.clock import SystemClock
from sync_core.adapters.storage import open_storage
from sync_core.model import Lane
from sync_core.wiring import STORAGE_THREADS, build, threads

LATENCY = 1.0  # seconds of each Marketo call
OURS = 2.5  # calls a second, our default share
GOAL = 1.15
TICK_S = 30
SCHEDULE = f"*/{TICK_S} * * * * *"
PROBE = 20_000  # entities that Azurite is measured with
EDITS_AT = (0.3, 0.6)  # of the opportunities that Marketo has
AT_ONCE = 5_000  # edits of one admin request
LOOK_EVERY_S = 0.3
LONGEST_S = 7_200
UNMAPPED = "budgetamount"

Run = dict[str, Any]


def measure(rows: dict[str, Any], machines: int) -> Run:
    with services(rows) as found, TemporaryDirectory() as folder:
        rate = entities_per_second(found)
        found = found.at_real_limits(latency=LATENCY)
        stage = Stage(found)
        with hosts(machines, found, SCHEDULE, Path(folder)) as started:
            load = stage.load()
            load["hosts"] = [host.stop() for host in started]
        bound = fewest_calls(found.marketo)
        with hosts(machines, found, SCHEDULE, Path(folder)) as started:
            touched = stage.touch_everything()
            touched["hosts"] = [host.stop() for host in started]
    return {
        "rows": rows,
        "tick_s": TICK_S,
        "entities a second": rate,
        "fewest": bound,
        "first load": load,
        "touched": touched,
    }


def entities_per_second(found: Services) -> int:
    """Through our own adapter and the SDK: what a first load writes with."""
    people = open_storage(found.settings, SystemClock(), threads(STORAGE_THREADS), prefix="rate").people
    people.write({"0": {"lead": 0}})
    values = {str(number): {"lead": number} for number in range(PROBE)}
    started = time.perf_counter()
    people.write(values)
    return round(PROBE / (time.perf_counter() - started))


class Stage:
    """What happens while the hosts run; it looks at the services from outside, and at the queues' lengths."""

    def __init__(self, found: Services) -> None:
        self.found = found
        self.world = build(found.settings).world
        rows = found.dataverse.get("rows/opportunity")
        self.keys = [row["opportunityid"] for row in rows]
        self.open = [row["opportunityid"] for row in rows if row["statecode"] == 0]
        random.Random(0).shuffle(self.open)

    def load(self) -> Run:
        """Until everything is in Marketo, with the edits on the way."""
        edits = [self.edit(share) for share in EDITS_AT]
        self._until(self._loaded)
        journal = self.found.marketo.get("journal")
        begun = datetime.fromisoformat(self.found.dataverse.get("journal")[0]["time"])
        created = [entry for entry in journal if entry["statuses"].get("created")]
        return {
            "wall_s": round(max(entry["end"] for entry in created) - begun.timestamp(), 1),
            "calls until then": sum(
                entry["kind"] in ("read", "write") for entry in journal[: journal.index(created[-1])]
            ),
            "edits": edits,
            "marketo": self._calls(journal),
        }

    def touch_everything(self) -> Run:
        """A year-end bulk update; two ticks later a rep's edit."""
        self.found.marketo.delete("journal")
        self.found.dataverse.post("switches", {"closed_opportunities_are_read_only": False})
        began = time.monotonic()
        for start in range(0, len(self.keys), AT_ONCE):
            numbered = enumerate(self.keys[start : start + AT_ONCE], start)
            self.found.dataverse.post("edit", [_update(key, {UNMAPPED: 1000.0 + number}) for number, key in numbered])
        self._until(lambda: self.world.queue.lengths()[Lane.SLOW] > 0)
        time.sleep(2 * TICK_S)
        waiting = self.world.queue.lengths()[Lane.SLOW]
        edit = self.edit()
        self._until(self._at_rest)
        return {
            "messages waiting when the edit was made": waiting,
            "edit": edit,
            "wall_s": round(time.monotonic() - began, 1),
            "marketo": self._calls(self.found.marketo.get("journal")),
        }

    def edit(self, share: float = 0.0) -> Run:
        """Once Marketo has that *share* of all: rename an opportunity that it has, and wait until it has the name."""
        self._until(lambda: self._share() >= share)
        key = next(key for key in self.open if self._in_marketo(key))
        self.open.remove(key)
        name, made = f"Edited at {share}", time.time()
        self.found.dataverse.post("edit", _update(key, {"name": name}))
        self._until(lambda: self._in_marketo(key).get("name") == name)
        arrived = time.time()
        return {"seconds": round(arrived - made, 1), "ticks": int(arrived // TICK_S - made // TICK_S)}

    def _in_marketo(self, key: str) -> Mapping[str, Any]:
        found = self.found.marketo.get(f"rows/opportunities/externalOpportunityId/{key}")
        return dict(found[0]) if found else {}

    def _share(self) -> float:
        return float(self.found.marketo.get("subscription")["rows"]["opportunities"]) / len(self.keys)

    def _loaded(self) -> bool:
        return self._share() == 1.0 and self._at_rest()

    def _at_rest(self) -> bool:
        """No message in either queue, also none under way, and nothing left to read."""
        feeds = {value["phase"] for _, value in self.world.documents.list("feed")}
        return feeds == {"following"} and not any(self.world.queue.lengths()[lane] for lane in Lane)

    def _calls(self, journal: list[dict[str, Any]]) -> Run:
        summary = self.found.marketo.get("calls")
        return marketo_calls(journal) | {name: summary[name] for name in ("max_in_window", "max_in_flight")}

    def _until(self, done: Callable[[], bool]) -> None:
        deadline, shown = time.monotonic() + LONGEST_S, time.monotonic()
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"still not done after {LONGEST_S} s; queues: {self.world.queue.lengths()}")
            if time.monotonic() > shown + TICK_S:
                shown = time.monotonic()
                print(f"{self._share():.0%} in Marketo, queues {self.world.queue.lengths()}", file=sys.stderr)
            time.sleep(LOOK_EVERY_S)


def _update(key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {"op": "update", "table": "opportunity", "id": key, "values": dict(values)}


# --- showing ----------------------------------------------------------------------------------------------------


def report(found: Run) -> Iterator[str]:
    load, touched = found["first load"], found["touched"]
    number = found["rows"]["opportunities"]
    bound, terms = sum(found["fewest"].values()), bounds(found)
    calls = load["marketo"]["calls"]
    yield f"First load of {number:,} opportunities by {len(load['hosts'])} hosts at Marketo's limits:\n"
    yield "| | |\n|---|---:|"
    yield f"| Marketo calls (fewest possible: {bound}) | {calls}, {calls / bound:.3f} × |"
    yield f"| at our share, {OURS} a second | {terms['calls']:.0f} s |"
    yield f"| entities written, at Azurite's {found['entities a second']} a second | {terms['entities']:.0f} s |"
    ratio = load["wall_s"] / max(terms.values())
    yield f"| took | {load['wall_s']} s, {ratio:.3f} × the longer of both (goal {GOAL}) |"
    yield f"| opportunities posted, with {len(load['edits'])} edits | {posted(load):,} |"
    for edit in load["edits"]:
        yield f"| an edit meanwhile, in Marketo after | {_arrival(edit)} |"
    yield f"| most calls of any 20 s, and at once | {_most(load)} |"
    yield f"\n{number:,} rows touched without a mapped change, and one edit:\n"
    yield "| | |\n|---|---:|"
    yield f"| Marketo calls | {touched['marketo']['calls']} |"
    waiting = touched["messages waiting when the edit was made"]
    yield f"| that edit, made while {waiting} messages waited, in Marketo after | {_arrival(touched['edit'])} |"
    yield f"| everything handled after | {touched['wall_s']} s |"
    yield f"| most calls of any 20 s, and at once | {_most(touched)} |"
    hosts_of_both = [*load["hosts"], *touched["hosts"]]
    yield f"| memory of a host, at most | {max(host['rss_mb'] for host in hosts_of_both)} MB |"


def bounds(found: Run) -> dict[str, float]:
    """Seconds that the first load can't be faster than: by our share of Marketo's rate, by storage."""
    load = found["first load"]
    entities = sum(sum(host["storage"]["entities"].values()) for host in load["hosts"])
    return {"calls": load["calls until then"] / OURS, "entities": entities / found["entities a second"]}


def posted(load: Run) -> int:
    return int(load["marketo"]["by_endpoint"]["POST opportunities.json"]["items"])


def _arrival(edit: Run) -> str:
    return f"{edit['seconds']} s, {edit['ticks']} ticks"


def _most(run: Run) -> str:
    return f"{run['marketo']['max_in_window']}, {run['marketo']['max_in_flight']} (ours: 50, 5)"


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parser("pace", __doc__, opportunities=100_000)
    asked.add_argument("--hosts", type=int, default=4, metavar="N", help="default: 4")
    options = asked.parse_args(arguments)
    found = measure(an_org(options.opportunities, seed=options.seed), options.hosts)
    print("\n".join(report(found)))
    record(options.json, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
