"""Break the code on purpose, one change at a time, in a copy of the tree: each must turn its test red.

The tests that are named are run on the unbroken copy first, where all have to pass. Nothing here touches the tree
itself.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

from tools.sabotage import CHANGES
from tools.sabotage.change import ROOT, Change, Misfit
from tools.sabotage.runner import pytest

GOOD, BAD, USAGE, STOPPED = 0, 1, 2, 130
SOME_FAILED = 1  # pytest's exit code; others mean that it could not run the test: nothing was seen
TOLD = 3000  # characters of what pytest printed
INSTALLED = (".azurite", ".browser")
LEFT_OUT = (".git", ".venv", *INSTALLED, ".infra", ".package", ".state", ".hypothesis", ".*_cache")
FAILED = re.compile(r"^FAILED (.+?)(?: - .*)?$", re.MULTILINE)
ERROR = re.compile(r"^E  +(.+)$", re.MULTILINE)


class Unusable(Exception):
    """The tests fail on the unbroken tree: a run would say nothing about the changes."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one change: the test that failed, if any, and what pytest said of it."""

    change: Change
    seen_by: str
    seconds: float
    output: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 only if every change was seen."""
    options = parser().parse_args(arguments)
    chosen = [each for each in CHANGES if not options.only or any(text in each.name for text in options.only)]
    if not chosen:
        print("No change has such a name; --list names them all.", file=sys.stderr)
        return USAGE
    if options.list:
        print("\n".join(f"{each.name}  ({each.promises})" for each in chosen))
        return GOOD
    if options.markdown:
        print(markdown(chosen))
        return GOOD
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    try:
        results = run(chosen, jobs=options.jobs, quiet=options.json)
    except (Misfit, Unusable) as error:
        print(error, file=sys.stderr)
        return BAD
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return STOPPED
    unseen = [result for result in results if not result.seen_by]
    if options.json:
        print(json.dumps([asdict(result) for result in results], ensure_ascii=False, indent=2))
    else:
        for result in unseen:
            print(f"\n--- {result.change.name}\n{result.output}")
        told = f"{len(unseen)} of {len(results)} changes stayed green" if unseen else f"all {len(results)} changes seen"
        print(f"\n{told}, in {time.monotonic() - started:.0f} s")
    return BAD if unseen else GOOD


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m tools.sabotage", description=(__doc__ or "").splitlines()[0])
    found.add_argument("--only", nargs="+", metavar="TEXT", help="only changes whose name contains one of these")
    found.add_argument("--jobs", type=int, default=2, help="how many copies of the tree are worked on side by side")
    how = found.add_mutually_exclusive_group()
    how.add_argument("--list", action="store_true", help="name the changes and run nothing")
    how.add_argument("--markdown", action="store_true", help="the table for docs/sabotage.md, without running")
    how.add_argument("--json", action="store_true", help="print the results as JSON")
    return found


def markdown(changes: Sequence[Change]) -> str:
    rows = (f"| {each.name} | {each.promises} | `{each.test}` |" for each in changes)
    return "\n".join(("| change | breaks | seen by |", "|---|---|---|", *rows))


# --- the run --------------------------------------------------------------------------------------------------


def run(changes: Sequence[Change], *, jobs: int, quiet: bool) -> list[Result]:
    """Every change once. Raises Misfit or Unusable if that would say nothing."""
    for change in changes:
        change.applied((ROOT / change.file).read_text(encoding="utf-8"))
    with copies(jobs) as free, ThreadPoolExecutor(jobs) as pool:

        def unbroken(tests: Sequence[str]) -> None:
            with taken(free) as copy:
                status, output = pytest(copy, tests)
            if status:
                raise Unusable(f"The tests must pass on the unbroken tree:\n{output[-TOLD:]}")

        def broken(change: Change) -> Result:
            with taken(free) as copy:
                return sabotage(copy, change)

        tests = list(dict.fromkeys(change.test for change in changes))
        list(pool.map(unbroken, (tests[part::jobs] for part in range(min(jobs, len(tests))))))
        width = max(len(change.name) for change in changes)
        results = []
        for result in pool.map(broken, changes):
            results.append(result)
            if not quiet:
                print(line(result, width), flush=True)
        return results


def line(result: Result, width: int) -> str:
    seen = "red  " if result.seen_by else "GREEN"
    test = result.seen_by.removeprefix("tests/") or f"not by {result.change.test.removeprefix('tests/')}"
    return f"{result.change.name:{width}}  {result.change.promises:22}  {seen}  {result.seconds:4.1f} s  {test}"


@contextmanager
def copies(number: int) -> Iterator[SimpleQueue[Path]]:
    """*number* copies of the tree, taken and given back by the queue."""
    with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
        free: SimpleQueue[Path] = SimpleQueue()
        for job in range(number):
            copy = Path(folder, str(job))
            shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
            for name in filter(lambda name: (ROOT / name).exists(), INSTALLED):
                (copy / name).symlink_to(ROOT / name)
            free.put(copy)
        yield free


@contextmanager
def taken(free: SimpleQueue[Path]) -> Iterator[Path]:
    copy = free.get()
    try:
        yield copy
    finally:
        free.put(copy)


def sabotage(copy: Path, change: Change) -> Result:
    """Break, test, mend. The old file's time comes back too, so that its compiled form is good again."""
    file = copy / change.file
    text, times = file.read_text(encoding="utf-8"), file.stat()
    started = time.monotonic()
    try:
        file.write_text(change.applied(text), encoding="utf-8")
        status, output = pytest(copy, [change.test])
    finally:
        file.write_text(text, encoding="utf-8")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    seconds = round(time.monotonic() - started, 1)
    failed = FAILED.search(output) if status == SOME_FAILED else None
    if not failed:
        return Result(change, "", seconds, output[-TOLD:])
    error = ERROR.search(output)
    return Result(change, failed[1], seconds, error[1] if error else "")


if __name__ == "__main__":
    sys.exit(main())
