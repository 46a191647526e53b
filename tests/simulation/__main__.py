"""Many seeds, in several processes; exit code 1 if one of them fails.

python -m tests.simulation [--seeds N] [--start S] [--jobs J]
python -m tests.simulation --seed S [--trace]
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.simulation import Report, run

A_CHUNK = 20
PROGRESS_S = 10.0
SHOWN = ("events", "edits", "ticks", "deliveries", "Marketo calls", "crashes", "links lost", "removals approved")


@dataclass
class Totals:
    """What many seeds did together; `longest` has the seed beside each time."""

    seeds: int = 0
    figures: Counter[str] = field(default_factory=Counter)
    longest: dict[str, tuple[float, int]] = field(default_factory=dict)
    failed: list[Report] = field(default_factory=list)

    def add(self, report: Report) -> None:
        self.seeds += 1
        self.figures += report.figures
        for sort, seconds in report.longest.items():
            self.longest[sort] = max(self.longest.get(sort, (0.0, 0)), (seconds, report.seed))
        if report.wrong:
            self.failed.append(report)

    def lines(self) -> Iterator[str]:
        named = Counter({name: self.figures[name] for name in SHOWN})
        yield f"{self.seeds} seeds: " + ", ".join(f"{number:,} {name}" for name, number in named.items())
        for service in ("Marketo", "Dataverse"):
            yield f"faults of {service}: {_counts(self.figures, f'fault {service} ')}"
        yield f"storage operations without an answer: {self.figures['storage without an answer']:,}"
        yield f"messages: {_counts(self.figures, 'messages ')}"
        for sort, (seconds, seed) in sorted(self.longest.items()):
            yield f"longest time a stale value was visible {sort}: {seconds:,.0f} s (seed {seed})"
        above, fewest = self.figures["calls above the fewest"], self.figures["calm calls"]
        yield f"calls without faults: {above} above the fewest possible, {fewest:,}"
        for report in sorted(self.failed, key=lambda report: report.seed):
            yield f"FAILED seed {report.seed}: {report.wrong}"
            yield f"    alone: python -m tests.simulation --seed {report.seed} --trace"


def _counts(figures: Counter[str], prefix: str) -> str:
    found = {name.removeprefix(prefix): number for name, number in sorted(figures.items()) if name.startswith(prefix)}
    return ", ".join(f"{number:,} {name}" for name, number in found.items()) or "none"


def simulate(seeds: Iterable[int], *, jobs: int = 1, progress: bool = False) -> Totals:
    """Run *seeds*; with one job in this process."""
    totals, told = Totals(), time.monotonic()
    for report in _reports(seeds, jobs):
        totals.add(report)
        if progress and time.monotonic() - told > PROGRESS_S:
            told = time.monotonic()
            _print(f"{totals.seeds} seeds, {len(totals.failed)} failed", flush=True)
    return totals


def _reports(seeds: Iterable[int], jobs: int) -> Iterator[Report]:
    if jobs == 1:
        yield from map(_quietly, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_quietly, seeds, chunksize=A_CHUNK)


def _quietly(seed: int) -> Report:
    """A mistake in the program is a failure of the seed, not of the whole run; the sync's own log is left out."""
    logging.disable(logging.CRITICAL)
    try:
        return run(seed)
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed that shows it is what counts
        return Report(seed, wrong=f"{type(error).__name__}: {error}")
    finally:
        logging.disable(logging.NOTSET)


def main(arguments: Sequence[str] | None = None) -> int:
    if os.environ.get("PYTHONHASHSEED") != "0":
        given = sys.argv[1:] if arguments is None else arguments
        command = [sys.executable, "-m", "tests.simulation", *given]
        return subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "0"}, check=False).returncode  # noqa: S603 - ourselves
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        logging.disable(logging.CRITICAL)
        report = run(options.seed, trace=_print if options.trace else None)
        _print(report.wrong or f"seed {options.seed}: everything held")
        return 1 if report.wrong else 0
    started = time.monotonic()
    seeds = range(options.start, options.start + options.seeds)
    totals = simulate(seeds, jobs=options.jobs, progress=True)
    for line in totals.lines():
        _print(line)
    _print(f"{time.monotonic() - started:.0f} s, {len(totals.failed)} seeds failed")
    return 1 if totals.failed else 0


def _print(line: str, *, flush: bool = False) -> None:
    print(line, flush=flush)  # noqa: T201 - a command line prints


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000, metavar="N", help="how many (default: 1000)")
    parser.add_argument("--start", type=int, default=0, metavar="S", help="the first one (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="processes (default: 1)")
    parser.add_argument("--seed", type=int, metavar="S", help="this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: every event and every delivery")
    return parser


if __name__ == "__main__":
    sys.exit(main())
