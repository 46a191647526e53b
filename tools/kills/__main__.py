"""Kill hosts at random moments, and see whether Marketo is right afterwards: `python -m tools.kills`.

Several host processes, each with the timer and both queue workers, sync between the emulators over HTTPS, with their
state in Azurite. While people edit in Dynamics, one process after the other gets SIGKILL and is started again.
The seed decides every edit, every victim and every pause; what the victim is doing at that moment it doesn't.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from tools.azurite import AzuriteError
from tools.demo.screen import Failed
from tools.demo.services import without_ours
from tools.kills.edits import People
from tools.kills.hosts import LATE_WRITE_S, LEASE_S, Cut
from tools.kills.site import Restless, Site

GOOD, BAD, STOPPED = 0, 1, 130
CROWD = {"opportunities": 30, "accounts": 10, "contacts": 20, "roles_per_opportunity": 1.0}
LATENCY = {"read": 0.03, "write": 0.15}
SETTINGS = {"SYNC_SCHEDULE": "*/2 * * * * *", "MARKETO_CALLS_PER_20S": "100", "MARKETO_CONCURRENCY": "4"}
FAULTS = {
    "marketo": [
        {"fault": "lost", "rate": 0.02},
        {"fault": "late", "rate": 0.02, "seconds": 0.5},
        {"fault": "602", "rate": 0.01},
        {"fault": "html", "rate": 0.02},
    ],
    "dataverse": [{"fault": "429_requests", "rate": 0.01, "retry_after": 1}, {"fault": "503", "rate": 0.01}],
}
MOST_EDITS = 3  # between two kills
PAUSE_S = 0.15  # on average before each edit and each kill
CHANGE_OF_MIND = 0.8
PATIENCE_S = 0.7
MOMENTS = {"at once": 0.0, "deliveries": 0.7, "calls": 0.15}  # for how many seconds after that a kill may come


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 only if nothing differs in the end."""
    options = parser().parse_args(arguments)
    os.environ.update(without_ours(os.environ))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    print(
        f"{options.hosts} hosts, {options.kills} kills, seed {options.seed}; a message is leased for {LEASE_S} s, "
        f"a write may be late by {LATE_WRITE_S} s. Logs, kept if it fails: {folder}",
        flush=True,
    )
    try:
        with Site(folder, seed=options.seed, **SETTINGS) as site:
            code = Run(site, options).run()
    except (AzuriteError, Failed, Restless) as error:
        print(f"FAILED: {error}")
        return BAD
    except KeyboardInterrupt:
        print("Stopped; nothing was left running.")
        code = STOPPED
    if code != BAD:
        shutil.rmtree(folder)
    return code


class Run:
    """One run on *site*."""

    def __init__(self, site: Site, options: argparse.Namespace) -> None:
        self.site = site
        self.options = options
        self.chance = random.Random(options.seed)
        self.people = People(site.dataverse, self.chance)
        self.cut: Counter[str] = Counter()
        self.struck = 0

    def run(self) -> int:
        started = time.monotonic()
        self.site.fill(**CROWD)
        self.site.marketo.post("switches", {"latency": LATENCY})
        if self.options.faults:
            for name, rules in FAULTS.items():
                getattr(self.site, name).post("faults", {"seed": self.options.seed, "rules": rules})
        for number in range(self.options.hosts):
            self.start(number)
        for step in self.plan():
            step()
        killed = time.monotonic() - started
        for service in (self.site.dataverse, self.site.marketo):
            self.struck += sum(rule["struck"] for rule in service.get("faults")["rules"])
            service.delete("faults")
        # One is enough to finish; it has the processor for itself.
        codes = self.site.stop_hosts(but=self.options.hosts - 1)
        self.site.rest()
        codes += self.site.stop_hosts()
        return self.tell(killed, time.monotonic() - started, codes)

    def plan(self) -> Iterator[Callable[[], None]]:
        """What happens next, after a pause; all of it follows from the seed."""
        for _ in range(self.options.kills):
            for _ in range(self.chance.randint(0, MOST_EDITS)):
                self.pause()
                yield self.people.act
            self.pause()
            victim, when = self.chance.randrange(self.options.hosts), self.chance.choice(list(MOMENTS))
            yield partial(self.kill, victim, when, self.chance.uniform(0, MOMENTS[when]))
            if self.chance.random() < CHANGE_OF_MIND:
                yield self.people.take_back

    def pause(self) -> None:
        time.sleep(self.chance.uniform(0, 2 * PAUSE_S))

    def start(self, number: int) -> None:
        """The first two take turns with the timer, the others tick at the same time."""
        self.site.start_host(number, timer="shared" if number < 2 else f"own-{number}")

    def kill(self, victim: int, when: str, later: float) -> None:
        """At once, or some seconds after it has begun a delivery or a call to Marketo, if it begins one soon."""
        host, deadline = self.site.hosts[victim], time.monotonic() + PATIENCE_S
        while when != "at once" and not getattr(host.gauge, when) and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(later)
        self.count(host.kill())
        self.start(victim)

    def count(self, cut: Cut) -> None:
        self.cut.update(kills=1, deliveries=cut.deliveries, ticks=cut.ticks, calls=cut.calls)
        if self.cut["kills"] % 10 == 0:
            print(f"{self.cut['kills']} kills, {self.people.done.total()} edits", flush=True)

    def tell(self, killed: float, took: float, codes: Sequence[int | None]) -> int:
        problems = self.site.problems()
        if any(codes):
            problems.append(f"hosts ended with exit codes {codes}")
        if (failed := self.site.failed()) and not self.options.faults:  # a throttled tick fails, and the next goes on
            problems.append(f"{failed} invocations failed")
        calls = self.site.marketo.get("calls")
        rows = self.site.marketo.get("subscription")["rows"]
        cut, edits = self.cut, self.people.done
        print(f"{edits.total()} edits: {', '.join(f'{number} {name}' for name, number in edits.most_common())}")
        print(
            f"{cut['kills']} kills in {killed:.0f} s cut {cut['deliveries']} deliveries, {cut['ticks']} ticks and "
            f"{cut['calls']} calls to Marketo; {self.struck} faults struck; at rest after {took:.0f} s"
        )
        print(
            f"{calls['total']} calls to Marketo, at most {calls['max_in_window']} in 20 s ({self.site.share} allowed) "
            f"and {calls['max_in_flight']} at once ({self.site.at_once} allowed); codes: {calls['by_code'] or 'none'}"
        )
        for problem in problems:
            print(f"WRONG: {problem}")
        print(
            f"{rows['opportunities']} opportunities, {rows['roles']} roles, {rows['companies']} companies in Marketo; "
            f"differences: {len(problems)} (seed {self.options.seed})"
        )
        return BAD if problems else GOOD


def interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m tools.kills", description=(__doc__ or "").splitlines()[0])
    found.add_argument("--kills", type=int, default=50, metavar="N", help="how many (50)")
    found.add_argument("--hosts", type=int, default=3, metavar="N", help="host processes (3)")
    found.add_argument(
        "--seed", type=int, default=1, metavar="N", help="the same seed makes the same edits and kills (1)"
    )
    found.add_argument("--faults", action="store_true", help="both services fail now and then as well")
    return found


if __name__ == "__main__":
    sys.exit(main())
