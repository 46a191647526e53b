"""Ctrl-C and SIGTERM in the middle of a delivery: what is in hand is finished, the rest waits on the queue."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sync_core.model import Lane, Work
from tools.demo.services import REPOSITORY
from tools.kills.site import Site

DEALS = 5
SLOW_WRITE_S = 0.5
SYNC = ("sync_core", "sync", "--json")
HOST = ("tools.local_host", "--settings", "none.json", "--poll", "0.3", "--timer-now")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """In step, with a Marketo that takes its time to write."""
    with Site(tmp_path_factory.mktemp("signals"), MARKETO_CALLS_PER_20S="100", SYNC_SCHEDULE="0 0 0 1 1 *") as site:
        site.fill(opportunities=DEALS, accounts=2, contacts=4, roles_per_opportunity=1.0)
        assert start(site, *SYNC).wait(60) == 0
        site.marketo.post("switches", {"latency": {"write": SLOW_WRITE_S}})
        yield site


def start(site: Site, *words: str) -> subprocess.Popen[str]:
    with (site.folder / "program.log").open("a") as log:
        return subprocess.Popen(  # noqa: S603 - our own programs
            [sys.executable, "-m", *words], cwd=REPOSITORY, env=site.environment, stdout=log, stderr=log, text=True
        )


def posted(site: Site, mark: int) -> list[dict[str, Any]]:
    """Writes of opportunities after *mark*, begun or done."""
    return [
        call
        for call in site.marketo.get(f"journal?since={mark}")
        if call["kind"] == "write" and call["path"].endswith("/opportunities.json")
    ]


def messages(site: Site) -> int:
    lengths = site.world.queue.lengths()
    return sum(lengths[lane] for lane in Lane)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("words", "number"),
    [(SYNC, signal.SIGINT), (SYNC, signal.SIGTERM), (HOST, signal.SIGTERM)],
    ids=["sync, Ctrl-C", "sync, SIGTERM", "host, SIGTERM"],
)
def test_a_signal_ends_the_program_with_nothing_half_done(site: Site, words: tuple[str, ...], number: int) -> None:
    rows = site.dataverse.get("rows/opportunity")
    for row in rows:
        values = {"name": f"{row['name']} {words[0]} {number}"}
        edit = {"op": "update", "table": "opportunity", "id": row["opportunityid"], "values": values}
        if row["statecode"] == 0:
            site.dataverse.post("edit", edit)
    changed = sum(row["statecode"] == 0 for row in rows)
    for row in rows:
        site.world.queue.put(Work((row["opportunityid"],)))
    mark = site.marketo.get("journal")[-1]["sequence"]

    program = start(site, *words)
    deadline = time.monotonic() + 30
    while not posted(site, mark):
        assert time.monotonic() < deadline, "no write within 30 s"
        time.sleep(0.02)
    time.sleep(SLOW_WRITE_S / 2)
    program.send_signal(number)
    code = program.wait(20)

    finished, left = len(posted(site, mark)), messages(site)
    assert code == (1 if words == SYNC else 0)  # 1: work is left
    assert finished < changed
    assert left == DEALS - finished + 1  # one a deal, and the one of the first tick

    assert start(site, *SYNC).wait(60) == 0
    done = posted(site, mark)
    assert sum(call["statuses"].get("updated", 0) for call in done) == changed, "each changed deal is written once"
    assert [call for call in done if set(call["statuses"]) != {"updated"}] == []
    assert site.problems() == []
