"""`rebuild` as a process of its own, on an account that is really empty and on shapes of real data."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from sync_core.model import State
from tests.flows.test_rebuild import what
from tools.azurite import azurite
from tools.checker import usable_address
from tools.demo import crm
from tools.demo.services import REPOSITORY
from tools.kills.edits import People
from tools.kills.site import Site

MISSING = 3
EDITS = 20
SLOW_READ_S = 1.0
TWO_TICKS_S = 5.0


@contextmanager
def a_site(folder: Path) -> Iterator[Site]:
    """Procurement notices where they are at hand, else what is generated in their shape."""
    with Site(folder, SYNC_SCHEDULE="*/2 * * * * *", MARKETO_CALLS_PER_20S="100") as site:
        crm.fill(site.dataverse, crm.beside_us(), site.seed + 1)
        known = {usable_address(row.get("emailaddress1")) for row in site.dataverse.get("rows/contact")} - {""}
        leads = [{"email": address} for address in sorted(known)[MISSING:]]
        site.marketo.post("leads", {"leads": leads})
        yield site


def lose_storage(site: Site, stack: ExitStack) -> None:
    site.storage.stop()
    site.storage = stack.enter_context(azurite(ports=site.storage.ports))


def start(site: Site, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sync_core", *words, "--json"]
    return subprocess.Popen(  # noqa: S603 - our own program
        command, cwd=REPOSITORY, env=site.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(site: Site, *words: str) -> dict[str, Any]:
    program = start(site, *words)
    told, errors = program.communicate(timeout=100)
    assert (program.returncode in (0, 1), errors) == (True, ""), told + errors
    return dict(json.loads(told))


def told(site: Site) -> dict[str, dict[str, Any]]:
    """What the ledgers say, but for tickets and times."""
    found = {}
    for name, ledger in site.world.ledgers.items():
        rows = ledger.rows(list(chain.from_iterable(ledger.ids())))
        found[name] = {key: what(row) for key, row in rows.items()}
    return found


def calls(site: Site, kind: str, since: int = 0) -> list[dict[str, Any]]:
    return [call for call in site.marketo.get(f"journal?since={since}") if call["kind"] == kind]


def mark(site: Site) -> int:
    return max((call["sequence"] for call in site.marketo.get("journal")), default=0)


def written(site: Site, since: int) -> Counter[str]:
    """Records by resource."""
    found: Counter[str] = Counter()
    for call in calls(site, "write", since):
        found[call["path"].removeprefix("/rest/v1/").removesuffix(".json")] += sum(call["statuses"].values())
    return found


@pytest.mark.timeout(300)
def test_the_state_is_as_before_and_nothing_was_written(tmp_path: Path) -> None:
    with a_site(tmp_path) as site, ExitStack() as stack:
        run(site, "sync")
        people = People(site.dataverse, random.Random(5))
        for _ in range(EDITS):
            people.act()
        run(site, "sync")
        before, since = told(site), mark(site)
        assert before["opportunities"]
        assert before["accounts"]

        lose_storage(site, stack)
        found = run(site, "rebuild")

        assert told(site) == before
        assert calls(site, "write", since) == []
        asked = Counter(call["path"] for call in calls(site, "read", since))
        number = len(before["opportunities"])
        assert asked["/rest/v1/opportunities.json"] <= 2 * -(-number // 300) + 2, "by their keys, and by companies"
        assert found["Marketo calls"] >= sum(asked.values())
        run(site, "sync")
        assert calls(site, "write", since) == []
        assert told(site) == before


@pytest.mark.timeout(300)
def test_killed_in_the_middle_it_goes_on_and_what_others_changed_is_mended_by_the_functions(tmp_path: Path) -> None:
    with a_site(tmp_path) as site, ExitStack() as stack:
        run(site, "sync")
        before = told(site)
        changed, bare, gone = _by_others(site, before)
        since = mark(site)

        lose_storage(site, stack)
        site.marketo.post("switches", {"latency": {"read": SLOW_READ_S}})
        program = start(site, "rebuild")
        while not calls(site, "read", since):
            assert program.poll() is None, program.communicate()
            time.sleep(0.02)
        os.kill(program.pid, signal.SIGKILL)
        program.communicate()
        site.marketo.post("switches", {"latency": 0.0})
        assert run(site, "status")["paused"]["why"] == "rebuild"
        site.start_host(0)
        time.sleep(TWO_TICKS_S)
        assert calls(site, "write", since) == []

        in_step = (key for key, row in before["opportunities"].items() if row[0] is State.IN_STEP)
        renamed = next(key for key in in_step if key not in (changed, bare, gone))
        site.dataverse.post("edit", {"op": "update", "table": "opportunity", "id": renamed, "values": {"name": "New"}})
        found = run(site, "rebuild")
        assert "paused" not in run(site, "status")
        assert found["queued"] >= len({changed, bare, gone})
        deadline = time.monotonic() + 100
        while site.world.queue.lengths()["fresh"] or site.world.queue.lengths()["slow"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        site.stop_hosts()

        after = told(site)
        differing = {
            key for key in before["opportunities"] if before["opportunities"][key] != after["opportunities"][key]
        }
        assert differing == {renamed}
        assert site.world.opportunities.rows([renamed])[renamed].state is State.IN_STEP
        fewest = len({changed, bare, gone, renamed})
        assert fewest <= written(site, since)["opportunities"] <= 2 * fewest  # twice where a lease was lost


def _by_others(site: Site, before: dict[str, Any]) -> tuple[str, str, str]:
    """A value is changed, a role removed, an opportunity deleted; which opportunities."""
    in_step = [key for key, row in before["opportunities"].items() if row[0] is State.IN_STEP]
    with_role = [key for key in in_step if before["opportunities"][key][3]]
    bare, gone = with_role[0], with_role[1]
    changed = next(key for key in in_step if key not in (bare, gone))
    role = next(row for row in site.marketo.get("rows/roles") if row["externalOpportunityId"] == bare)
    key = {name: role[name] for name in ("externalOpportunityId", "leadId", "role")}
    for edit in (
        {"op": "update", "object": "opportunities", "key": {"externalOpportunityId": changed}, "values": {"name": "X"}},
        {"op": "delete", "object": "roles", "key": key},
        {"op": "delete", "object": "opportunities", "key": {"externalOpportunityId": gone}},
    ):
        site.marketo.post("edit", edit)
    return changed, bare, gone
