"""The storage account goes away in the middle of a sync and comes back; nothing is lost and nothing poisoned."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sync_core.settings import Settings
from tools.kills.edits import People
from tools.kills.site import Site

OUTAGES_S = (0.5, 5.0, 2.0)  # shorter and longer than what the storage clients wait for by themselves
EDITS = 6


def wait_for_a_delivery(site: Site) -> None:
    """Until some host has one in hand; after a few seconds whatever."""
    deadline = time.monotonic() + 5
    while not any(host.gauge.deliveries for host in site.hosts.values()) and time.monotonic() < deadline:
        time.sleep(0.005)


@pytest.mark.timeout(240)
def test_storage_may_fail_in_the_middle(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    data = tmp_path / "storage"
    with Site(tmp_path, data=data, SYNC_SCHEDULE="*/2 * * * * *", MARKETO_CALLS_PER_20S="100") as site:
        site.fill(opportunities=20, accounts=6, contacts=12, roles_per_opportunity=1.0)
        site.marketo.post("switches", {"latency": 0.05})
        site.start_host(0)
        site.start_host(1, timer="own")
        people = People(site.dataverse, random.Random(4))
        for seconds in OUTAGES_S:
            for _ in range(EDITS):
                people.act()
            wait_for_a_delivery(site)
            site.storage_fails(seconds)
        began = time.monotonic()
        site.rest()
        took = time.monotonic() - began
        figures = f"{people.done.total()} edits, {site.failed()} invocations failed, at rest {took:.0f} s later"
        record_property("proof", f"storage outage: {figures}")

        assert site.stop_hosts() == [0, 0]
        assert site.problems() == []
        assert site.failed() > 0, "the outages should have hit something"
        log = site.log()
        assert "the storage account of AzureWebJobsStorage gives no answer" in log
        assert [secret for secret in Settings.from_env(site.settings).secrets() if secret in log] == []
        assert "@" not in log
