"""A local host in a process of its own, with meters: for benches that need several machines.

python -m bench.host --figures FILE        # settings from the environment, until SIGTERM; then FILE is written
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.meters import metering, peak_mb
from bench.services import ROOT, Services
from bench.spending import Spending
from bench.traffic import Traffic
from tools.local_host import LocalHost

LATE_WRITE_S = "60"  # what two deliveries have both posted is posted once more after that, not after five minutes
STOP_S = 120  # a delivery at Marketo's pace is finished before a host ends

Figures = dict[str, Any]


class Host:
    """Started at once; *folder* holds its log and its figures."""

    def __init__(self, number: int, found: Services, schedule: str, folder: Path) -> None:
        self.log, self._figures = folder / f"host-{number}.log", folder / f"host-{number}.json"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "bench.host", "--figures", str(self._figures)],
                cwd=ROOT,
                env={**os.environ, **environment(found), "SYNC_SCHEDULE": schedule},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> Figures:
        """What it cost. Raises RuntimeError with the end of its log if it did not end well."""
        self.process.terminate()
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if code:
            raise RuntimeError(f"a host ended with {code}: {self.log.read_text(errors='replace')[-2000:]}")
        return dict(json.loads(self._figures.read_text(encoding="utf-8")))


@contextmanager
def hosts(number: int, found: Services, schedule: str, folder: Path) -> Iterator[list[Host]]:
    """So many host processes on one storage account; killed at the end if they still run."""
    started = [Host(each, found, schedule, folder) for each in range(1, number + 1)]
    try:
        yield started
    finally:
        for host in started:
            if host.process.poll() is None:
                host.process.kill()
                host.process.wait()


def environment(found: Services) -> dict[str, str]:
    """The app settings (design.md §8) of *found*."""
    names = ("dataverse_url", "dataverse_tenant_id", "dataverse_client_id", "dataverse_client_secret")
    names += ("dataverse_authority_host", "marketo_url", "marketo_client_id", "marketo_client_secret")
    names += ("marketo_calls_per_20s", "marketo_concurrency", "marketo_daily_calls", "sync_config")
    given = {name.upper(): str(getattr(found.settings, name)) for name in names}
    return {**given, "MARKETO_LATE_WRITE_S": LATE_WRITE_S, "AzureWebJobsStorage": found.settings.storage_connection}


def run(settings: Mapping[str, str], stop: threading.Event) -> Figures:
    """The functions of this repository until *stop*; the CPU, memory and storage requests that they took."""
    table_port = urlsplit(settings["AzureWebJobsStorage"].partition("TableEndpoint=")[2].partition(";")[0]).port or 0
    traffic, spending = Traffic(table_port=table_port), Spending()
    spending.start()
    with metering(traffic, spending), LocalHost(ROOT, settings, log=lambda line: print(line, flush=True)) as host:
        host.run_forever(stop)
    return {"cpu_s": round(time.process_time(), 2), "rss_mb": peak_mb(), "storage": traffic.figures()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.host", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figures", type=Path, required=True, metavar="FILE", help="where they go")
    options, stop = parser.parse_args(), threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    options.figures.write_text(json.dumps(run(dict(os.environ), stop)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
