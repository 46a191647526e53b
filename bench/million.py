"""The whole path at growing sizes: memory and cost of our process, and that a killed first load goes on where it was.

    python -m bench.million [--opportunities 10000 100000 1000000] [--seed 1] [--json FILE]

The emulators run in processes of their own, the services over HTTPS; Dataverse makes its rows from seed and number,
all people are known to Marketo. Our engine runs in a process that does nothing else; what it stores is in a file
(`bench.file_storage`) in the place of Azure Storage. Marketo's rate and daily limits are off, as in `bench.first_load`.

For each size: a first load whose process is killed (SIGKILL) in the middle of a delivery, once Marketo has two fifths
of the opportunities, and started again; then every delta link is lost and everything is read again. What only time
frees after a death, the lease of the message and the slots of the limiter, is freed at once.
The file of results keeps the figures of other sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from bench import file_storage
from bench.first_load import fewest_calls, steps
from bench.meters import PURPOSES, SDK_THREADS, Spent, dataverse_requests, marketo_calls, metered_engine
from bench.recording import Lines, parser, record_size, side_by_side
from bench.services import ROOT, Emulators, an_org, emulators
from bench.spending import Spending
from bench.traffic import Traffic
from sync_core.adapters.clock import SystemClock
from sync_core.adapters.limiter import KIND, NAME
from sync_core.adapters.marketo import MarketoClient
from sync_core.adapters.storage import Storage
from sync_core.model import Answers, MarketoObject
from sync_core.settings import Settings

SIZES = (10_000, 100_000, 1_000_000)
KILLED_AT = 0.4  # of the opportunities
TOLD_EVERY = 15  # seconds
SETTINGS, STORAGE, FIGURES = "settings.json", "storage", "figures.json"

Run = dict[str, Any]


# --- the engine's process ---------------------------------------------------------------------------------------


def work(folder: Path, dies_after: int) -> None:
    """Sync until nothing is left; FIGURES says after each step what this process spent so far."""
    settings = Settings(**json.loads((folder / SETTINGS).read_text(encoding="utf-8")))
    spending, storage = Spending(), partial(_storage, folder / STORAGE)
    with _dying(dies_after), metered_engine(settings, Traffic(table_port=0), spending, open_storage=storage) as engine:
        spent = Spent(spending)
        for total in steps(engine):
            figures = spent.so_far(total) | {"storage": spending.calls["storage"]}
            (folder / "new").write_text(json.dumps(figures), encoding="utf-8")
            (folder / "new").replace(folder / FIGURES)


def _storage(file: Path, *_: Any, **__: Any) -> Storage:
    return file_storage.open_storage(file, SystemClock())


@contextmanager
def _dying(after: int) -> Iterator[None]:
    """Kill this process once Marketo has answered for so many opportunities, before anybody hears of it; 0: never."""
    upsert, answered = MarketoClient.upsert, Counter[MarketoObject]()

    def counted(client: MarketoClient, kind: MarketoObject, *arguments: Any, **options: Any) -> Answers:
        answers = upsert(client, kind, *arguments, **options)
        answered[kind] += len(answers.records)
        if answered[MarketoObject.OPPORTUNITY] >= after > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answers

    with patch.object(MarketoClient, "upsert", counted):
        yield


# --- around it --------------------------------------------------------------------------------------------------


def measure(opportunities: int, seed: int) -> Run:
    rows = an_org(opportunities, seed=seed) | {"made": True}
    tell(f"{opportunities:,}: filling the emulators")
    with emulators(rows) as found, TemporaryDirectory() as name:
        folder = Path(name)
        (folder / SETTINGS).write_text(json.dumps(asdict(found.settings)), encoding="utf-8")
        first = _figures(found, lambda: _killed_and_resumed(found, folder, opportunities))
        tell(f"{opportunities:,}: first load: {json.dumps(first)}")
        found.dataverse.post("expire-delta-links")
        again = _figures(found, lambda: [_engine(found, folder, f"{opportunities:,}: all links lost")])
        fewest = fewest_calls(found.marketo)
        size = sum(file.stat().st_size for file in folder.glob(f"{STORAGE}*"))
    ratio = round(first["marketo"]["calls"] / sum(fewest.values()), 3)
    return {
        "rows": rows,
        "fewest": fewest,
        "ratio": ratio,
        "storage_mb": round(size / 1_000_000, 1),
        "first load": first,
        "re-run": again,
    }


def _killed_and_resumed(found: Emulators, folder: Path, opportunities: int) -> list[Run]:
    before = _engine(found, folder, f"{opportunities:,}: first load", round(opportunities * KILLED_AT))
    storage = file_storage.open_storage(folder / STORAGE, SystemClock())
    storage.queue.free()  # type: ignore[attr-defined]  # a FileQueue
    storage.documents.delete(KIND, NAME)
    before["in step"] = storage.opportunities.counts()["in step"]
    return [before, _engine(found, folder, f"{opportunities:,}: first load, after the kill")]


def _engine(found: Emulators, folder: Path, what: str, dies_after: int = 0) -> Run:
    """One life of our process, killed if *dies_after*; raises RuntimeError when it ended in another way."""
    command = [sys.executable, "-m", "bench.million", "--engine", str(folder), "--dies-after", str(dies_after)]
    (folder / FIGURES).unlink(missing_ok=True)
    with subprocess.Popen(command, cwd=ROOT) as process, _telling(found, folder, what):  # noqa: S603 - our own program
        ended = process.wait()
    if ended != (-signal.SIGKILL if dies_after else 0):
        raise RuntimeError(f"{what}: the engine's process ended with {ended}")
    return _last(folder)


def _last(folder: Path) -> Run:
    """Nothing yet: killed within its first step."""
    file = folder / FIGURES
    nothing = {"flow": {}, "wall_s": 0, "cpu_s": 0, "cpu_split_s": {}, "rss_mb": {"before": 0, "peak": 0}, "storage": 0}
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else nothing


@contextmanager
def _telling(found: Emulators, folder: Path, what: str) -> Iterator[None]:
    ended, started = threading.Event(), time.monotonic()

    def told() -> None:
        while not ended.wait(TOLD_EVERY):
            rows, last = found.marketo.get("subscription")["rows"], _last(folder)
            tell(
                f"{what}: {time.monotonic() - started:.0f} s, {last['flow'].get('handled', 0):,} handled, "
                f"{rows['opportunities']:,} opportunities in Marketo, peak {last['rss_mb']['peak']} MB"
            )

    thread = threading.Thread(target=told)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _figures(found: Emulators, live: Callable[[], list[Run]]) -> Run:
    """Of one or several lives of our process, together; a killed one is known up to its last whole delivery."""
    for door in (found.dataverse, found.marketo):
        door.delete("journal")
    lives = live()
    marketo = marketo_calls(found.marketo.get("journal"))
    split, flow = Counter[str](), Counter[str]()
    for each in lives:
        split.update(each["cpu_split_s"])
        flow.update(each["flow"])
    return {
        "flow": dict(flow),
        "wall_s": round(sum(each["wall_s"] for each in lives), 1),
        "cpu_s": round(sum(each["cpu_s"] for each in lives), 2),
        "cpu_split_s": {name: round(seconds, 3) for name, seconds in split.most_common()},
        "rss_mb": {end: max(each["rss_mb"][end] for each in lives) for end in ("before", "peak")},
        "storage_calls": sum(each["storage"] for each in lives),
        "in_step_at_the_kill": [each["in step"] for each in lives if "in step" in each],
        "marketo": marketo,
        "dataverse": dataverse_requests(found.dataverse.get("journal")),
    }


# --- showing ----------------------------------------------------------------------------------------------------


def report(runs: Sequence[Run]) -> Iterator[str]:
    return side_by_side("opportunities", runs, _lines())


def _lines() -> Lines:
    yield "fewest possible Marketo calls", lambda run: f"{sum(run['fewest'].values()):,}"
    yield "of a first load, killed once", lambda run: f"{run['first load']['marketo']['calls']:,} ({run['ratio']} ×)"
    yield "in step when it was killed", lambda run: f"{sum(run['first load']['in_step_at_the_kill']):,}"
    yield "opportunities posted twice", lambda run: f"{posted_twice(run):,}"
    yield "storage file MB", lambda run: f"{run['storage_mb']}"
    for which in ("first load", "re-run"):
        for name, value in _of_one(which):
            yield f"{which}: {name}", value


def posted_twice(run: Run) -> int:
    posted: int = run["first load"]["marketo"]["by_endpoint"]["POST opportunities.json"]["items"]
    return posted - int(run["rows"]["opportunities"])


def _of_one(which: str) -> Lines:
    yield "records written", lambda run: f"{run[which]['marketo']['records_written']:,}"
    yield "peak RSS MB (before)", lambda run: "{peak} ({before})".format(**run[which]["rss_mb"])
    yield "CPU ms per opportunity", lambda run: _each(run, run[which]["cpu_s"])
    for purpose in (each for each in PURPOSES if each != SDK_THREADS):  # of a storage that is not there
        yield f"… {purpose}", lambda run, name=purpose: _each(run, run[which]["cpu_split_s"].get(name, 0))
    yield "Dataverse requests per 1,000", lambda run: _each(run, run[which]["dataverse"]["requests"])
    yield "calls of the storage ports per 1,000", lambda run: _each(run, run[which]["storage_calls"])
    yield "wall s", lambda run: f"{run[which]['wall_s']:,}"


def _each(run: Run, thousands: float) -> str:
    return f"{thousands * 1000 / run['rows']['opportunities']:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.engine:
        work(options.engine, options.dies_after)
        return 0
    for opportunities in options.opportunities:
        runs = record_size(options.json, measure(opportunities, options.seed))
    print("\n".join(report([*runs.values()])))
    return 0


def _parser() -> argparse.ArgumentParser:
    found = parser("million", __doc__)
    sizes = " ".join(map(str, SIZES))
    found.add_argument(
        "--opportunities", type=int, nargs="+", default=SIZES, metavar="N", help=f"sizes (default: {sizes})"
    )
    found.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed, the same rows (default: 1)")
    found.add_argument("--engine", type=Path, help=argparse.SUPPRESS)  # the process of our engine, in this folder
    found.add_argument("--dies-after", type=int, default=0, help=argparse.SUPPRESS)
    return found


if __name__ == "__main__":
    sys.exit(main())
