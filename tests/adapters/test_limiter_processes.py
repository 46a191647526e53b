"""The shared limiter between real processes, over real tables: what Marketo's own journal says about its promise."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import pytest

from sync_core.errors import Throttled
from sync_core.settings import Settings
from sync_core.wiring import build
from tools.kills.hosts import PROCESSES
from tools.kills.site import Site

SHARE, AT_ONCE = 30, 5
HAMMERS, THREADS = 4, 3
CUT_THREADS = 2
LATENCY_S = 0.4
SECONDS = 24.0  # more than one window
FRESH, SLOW = "fresh@example.invalid", "slow@example.invalid"  # asked for: so the journal tells the lanes apart


def hammer(environment: dict[str, str], seconds: float, threads: int, *, slow: bool = False) -> None:
    """Ask Marketo as often as the limiter lets us, in *threads* threads; for the *slow* lane, for another person."""
    os.environ.update(environment)
    target = build(Settings.from_env(os.environ)).world.target
    if slow:
        target = target.yielding()
    end = time.monotonic() + seconds

    def ask(_: int) -> None:
        while time.monotonic() < end:
            try:
                target.leads("email", [SLOW if slow else FRESH])
            except Throttled:
                time.sleep(0.1)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(ask, range(threads)))


@pytest.mark.timeout(180)
def test_processes_together_keep_to_the_share_and_a_killed_one_gives_no_slot_away(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    limits = {"MARKETO_CALLS_PER_20S": str(SHARE), "MARKETO_CONCURRENCY": str(AT_ONCE)}
    with Site(tmp_path, **limits) as site:
        site.marketo.post("switches", {"latency": LATENCY_S})

        killed = PROCESSES.Process(target=hammer, args=(site.environment, SECONDS, CUT_THREADS))
        killed.start()
        while site.marketo.get("calls")["max_in_flight"] < CUT_THREADS:
            time.sleep(0.01)
        killed.kill()
        killed.join()
        mark = site.marketo.get("journal")[-1]["sequence"]
        document = site.world.documents.read("limiter", "marketo")
        assert document is not None
        assert len(document.value["slots"]) == CUT_THREADS, "it should have died with slots in hand"

        hammers = [
            PROCESSES.Process(target=hammer, args=(site.environment, 2 * SECONDS, THREADS)) for _ in range(HAMMERS)
        ]
        began = time.monotonic()
        for each in hammers:
            each.start()
        time.sleep(SECONDS)
        took = time.monotonic() - began
        for each in hammers:
            each.kill()
            each.join()

        calls = site.marketo.get("calls")
        after = [c["in_flight"] for c in site.marketo.get(f"journal?since={mark}") if c["kind"] != "identity"]
        figures = f"{calls['total']} calls in {took:.0f} s, {calls['max_in_window']} in 20 s, {max(after)} at once"
        record_property("proof", f"limiter: {figures}")
        assert calls["max_in_window"] == SHARE
        assert calls["max_in_flight"] <= AT_ONCE
        assert max(after) == AT_ONCE - CUT_THREADS, "the dead one's slots are kept, the others are used"
        assert calls["total"] > SHARE, "a second window should have been used as well"
        assert calls["by_code"] == {}


@pytest.mark.timeout(180)
def test_while_fresh_work_can_use_them_all_the_slow_lane_gets_next_to_no_calls(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    limits = {"MARKETO_CALLS_PER_20S": str(SHARE), "MARKETO_CONCURRENCY": str(AT_ONCE)}
    with Site(tmp_path, **limits) as site:
        site.marketo.post("switches", {"latency": LATENCY_S})
        backlog = [
            PROCESSES.Process(target=hammer, args=(site.environment, 4 * SECONDS, THREADS), kwargs={"slow": True})
            for _ in range(HAMMERS)
        ]
        for each in backlog:
            each.start()
        while site.marketo.get("calls")["total"] < SHARE:
            time.sleep(0.1)  # the slow lane alone has the whole share
        mark = site.marketo.get("journal")[-1]["sequence"]

        fresh = [PROCESSES.Process(target=hammer, args=(site.environment, 2 * SECONDS, AT_ONCE)) for _ in range(2)]
        for each in fresh:
            each.start()
        time.sleep(SECONDS)
        for each in (*fresh, *backlog):
            each.kill()
            each.join()

        calls = site.marketo.get("calls")
        after = [c for c in site.marketo.get(f"journal?since={mark}") if c["kind"] != "identity"]
        of_backlog = sum(SLOW in unquote(c["query"]) for c in after)
        record_property("proof", f"lanes: of {len(after)} calls while both ask, {of_backlog} of the slow lane")
        assert len(after) > SHARE / 2
        assert of_backlog < len(after) / 5
        assert calls["max_in_window"] == SHARE
        assert calls["max_in_flight"] <= AT_ONCE
