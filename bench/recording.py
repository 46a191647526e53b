"""The files in bench/results: how benches are asked for one, write it and show several sizes beside each other."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

Run = dict[str, Any]
Lines = Iterator[tuple[str, Callable[[Run], str]]]
"""What a line is about, and its cell for one run."""


def parser(name: str, doc: str | None, *, opportunities: int | None = None) -> argparse.ArgumentParser:
    """Of `python -m bench.NAME`: with --json, and for a bench on made-up rows --opportunities and --seed."""
    found = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=(doc or "").splitlines()[0])
    if opportunities is not None:
        help = f"default: {opportunities}"
        found.add_argument("--opportunities", type=int, default=opportunities, metavar="N", help=help)
        found.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed, the same rows (default: 1)")
    found.add_argument("--json", type=Path, default=RESULTS / f"{name}.json", metavar="FILE", help="where it goes")
    return found


def record(file: Path, figures: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def record_size(file: Path, run: Run) -> dict[str, Run]:
    """Beside the runs of other sizes that *file* holds; all of them, by size."""
    runs = recorded(file) if file.exists() else {}
    runs[str(run["rows"]["opportunities"])] = run
    runs = dict(sorted(runs.items(), key=lambda item: int(item[0])))
    record(file, runs)
    return runs


def recorded(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8")))


def side_by_side(title: str, runs: Sequence[Run], lines: Lines) -> Iterator[str]:
    """A table with a column for each run, headed by its size."""
    heads = [f"{run['rows']['opportunities']:,}" for run in runs]
    yield f"| {title} | {' | '.join(heads)} |\n|---|{'---:|' * len(runs)}"
    for name, value in lines:
        yield f"| {name} | {' | '.join(map(value, runs))} |"
