"""The commands that repair, run as an operator does while two hosts are at work and people edit: nothing is harmed."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sync_core.model import State
from tools.demo.services import REPOSITORY
from tools.kills.edits import People
from tools.kills.site import Site

TWO_TICKS_S = 5


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("commands")
    with Site(folder, SYNC_SCHEDULE="*/2 * * * * *", MARKETO_CALLS_PER_20S="100") as site:
        site.fill(opportunities=20, accounts=6, contacts=12, roles_per_opportunity=1.0)
        site.marketo.post("switches", {"latency": 0.03})
        yield site


def command(site: Site, *words: str) -> Any:
    """What it says; no command may fail here, though some have something to tell."""
    program = [sys.executable, "-m", "sync_core", *words, "--json"]
    done = subprocess.run(  # noqa: S603 - our own program
        program, cwd=REPOSITORY, env=site.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert "error" not in found, found
    return found


def writes(site: Site) -> int:
    return int(site.marketo.get("calls")["by_kind"].get("write", 0))


@pytest.mark.timeout(240)
def test_whatever_an_operator_does_meanwhile_marketo_ends_up_right(site: Site) -> None:
    people = People(site.dataverse, random.Random(11))
    site.start_host(0)
    site.start_host(1)
    site.rest()
    known = next(iter(site.world.opportunities.ids()))[0]

    assert command(site, "pause", "--why", "a test")["paused"] is True
    time.sleep(TWO_TICKS_S)  # a delivery in hand is finished
    before = writes(site)
    for _ in range(4):
        people.act()
    assert command(site, "resync", known)["then"].startswith("nothing before `resume`")
    time.sleep(TWO_TICKS_S)
    assert writes(site) == before, "paused"
    assert command(site, "resume")["was paused"] is True

    for words in (
        ("resync", known),
        ("backfill",),
        ("backfill", "--since", "P1D"),
        ("failures", "redrive", "--all"),
        ("approve-removals", "--yes"),
        ("repoint",),
        ("repoint", "--confirm"),
        ("failures", "list"),
        ("failures", "export"),
        ("failures", "show", known),
        ("explain", known),
        ("status",),
    ):
        command(site, *words)
        people.act()

    site.rest()
    assert site.stop_hosts() == [0, 0]
    assert site.problems() == []
    failed = [line for line in site.log().splitlines() if re.match(r"\w+ failed \d", line)]
    assert [line for line in failed if "another tick ran at the same time" not in line] == []  # `repoint`, for one
    counts = {**site.world.opportunities.counts(), **site.world.companies.counts()}
    assert counts[State.PARKED] == counts[State.HELD] == 0
