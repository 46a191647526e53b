"""An uninstall beside running hosts, where hosts and the cleanup itself are killed: Marketo is as it was before."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tools.demo.services import REPOSITORY
from tools.kills.edits import People
from tools.kills.site import Site

LONG_AGO_S = 600
KINDS = ("leads", "companies", "salespersons", "opportunities", "roles")
AT_MOST_S = 60


def dump(site: Site) -> dict[str, list[Any]]:
    return {kind: sorted(site.marketo.get(f"rows/{kind}"), key=json.dumps) for kind in KINDS}


def writes(site: Site) -> int:
    return int(site.marketo.get("calls")["by_kind"].get("write", 0))


def start(site: Site, *words: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "sync_core", *words, "--json"]
    pipe = subprocess.PIPE
    return subprocess.Popen(program, cwd=REPOSITORY, env=site.environment, stdout=pipe, stderr=pipe, text=True)  # noqa: S603 - our own program


def command(site: Site, *words: str, code: int = 0) -> Any:
    run = start(site, *words)
    output, error = run.communicate(timeout=120)
    assert run.returncode == code, output + error
    return json.loads(output)


def killed_after(site: Site, ours: str, number: int) -> None:
    """A cleanup, killed once it has sent that many writes."""
    before, run, deadline = writes(site), start(site, "cleanup", "--confirm", ours), time.monotonic() + AT_MOST_S
    while writes(site) < before + number:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.kill()
    run.communicate()
    assert run.returncode == -signal.SIGKILL


def others(site: Site) -> str:
    """What others made in Marketo, long before; one opportunity and one company under our keys: the opportunity's."""
    lead = site.marketo.get("rows/leads")[0]["id"]
    deal, account = (site.dataverse.get(f"rows/{table}")[0][f"{table}id"] for table in ("opportunity", "account"))
    site.marketo.post("clock", {"advance": -LONG_AGO_S})
    keys = {"opportunities": "externalOpportunityId", "companies": "externalCompanyId"}
    rows = [
        *(("companies", {"externalCompanyId": key, "company": "Theirs"}) for key in ("theirs", account)),
        *(("opportunities", {"externalOpportunityId": key, "name": "Theirs"}) for key in ("theirs", deal)),
    ]
    for kind, row in rows:
        key = {keys[kind]: row.pop(keys[kind])}
        site.marketo.post("edit", {"op": "create", "object": kind, "key": key, "values": row})
    for key in ("theirs", deal):
        role = {"externalOpportunityId": key, "leadId": lead, "role": "Partner"}
        site.marketo.post("edit", {"op": "create", "object": "roles", "key": role, "values": {}})
    site.marketo.post("clock", {"advance": LONG_AGO_S})
    return str(deal)


def but(tables: dict[str, list[Any]], declared: set[str]) -> dict[str, list[Any]]:
    """Without what was told to stay; of that, the roles of others are there."""
    return {
        kind: [row for row in rows if kind == "roles" or not declared & {str(value) for value in row.values()}]
        for kind, rows in tables.items()
    }


@pytest.mark.timeout(280)
def test_marketo_is_as_it_was_and_everything_comes_back_on_request(tmp_path: Path) -> None:
    # A killed process keeps its slots for as long as a call may take.
    with Site(tmp_path, SYNC_SCHEDULE="*/2 * * * * *", MARKETO_CALLS_PER_20S="100", MARKETO_CONCURRENCY="10") as site:
        site.marketo.post("switches", {"concurrency": 30})
        site.fill(opportunities=120, accounts=10, contacts=30, roles_per_opportunity=1.0)
        deal = others(site)
        before = dump(site)
        site.marketo.post("switches", {"latency": 0.1})

        host = site.start_host(0)
        while len(site.marketo.get("rows/opportunities")) == 2:
            time.sleep(0.02)
        host.kill()
        del site.hosts[0]
        site.start_host(1)
        site.rest()
        people = People(site.dataverse, random.Random(5))
        for _ in range(10):
            people.act()

        told = command(site, "cleanup")
        ours = told["subscription"]
        assert command(site, "cleanup", "--confirm", "999-EMU-456", code=2)["error"].endswith("Nothing was done.")
        assert "paused" not in command(site, "status")
        site.marketo.post("switches", {"latency": 0.3})
        for number in (1, 2):
            killed_after(site, ours, number)
        done = command(site, "cleanup", "--confirm", ours)

        assert done["finished"], done
        assert told["stays"]["opportunities"] == done["stays"]["opportunities"]
        stays = {each["id"] for each in done["listed"]}
        assert but(dump(site), stays) == but(before, stays)
        assert [each["id"] for each in done["listed"] if each["kind"] == "opportunities"] == [deal]
        assert len(stays) <= 3, "its company then and now"
        after, sent = dump(site), writes(site)
        for _ in range(5):
            people.act()
        time.sleep(5)
        assert (dump(site), writes(site)) == (after, sent), "paused for good"

        site.marketo.post("switches", {"latency": 0.03})
        assert command(site, "resume", code=2)["error"].endswith("Nothing was done.")
        assert command(site, "resume", "--after-cleanup")["was paused"] is True
        site.rest()
        assert site.stop_hosts() == [0]
        assert [line for line in site.problems() if "theirs" not in line and deal not in line] == []
