"""The audit as an operator runs it: real storage, both services over TLS, hosts at work, and killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.demo.services import REPOSITORY
from tools.kills.site import Site

PIECES_OF_TEN = "import sync_core.flows.audit as a; a.PIECE = 10; import sync_core.cli as c; import sys; "
OPPORTUNITY_ID = "externalOpportunityId"
SLOWLY = PIECES_OF_TEN + "sys.exit(c.main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("audit")
    with Site(folder, SYNC_SCHEDULE="*/2 * * * * *", MARKETO_CALLS_PER_20S="100") as site:
        site.fill(opportunities=120, accounts=20, contacts=60, roles_per_opportunity=1.5)
        site.start_host(0)
        site.rest()
        yield site


def start(site: Site, *words: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-c", SLOWLY, "audit", *words, "--json"]
    return subprocess.Popen(  # noqa: S603 - our own program
        program, cwd=REPOSITORY, env=site.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def audited(site: Site, *words: str) -> dict[str, Any]:
    done = start(site, *words)
    out, errors = done.communicate(timeout=120)
    assert done.returncode in (0, 1), errors
    found: dict[str, Any] = json.loads(out)
    return found


def damage(site: Site) -> int:
    """Changes by hand, each to another opportunity; how many."""
    roles = site.marketo.get("rows/roles")
    keys = sorted(row[OPPORTUNITY_ID] for row in site.marketo.get("rows/opportunities"))
    by_key = {role[OPPORTUNITY_ID]: role for role in roles}
    with_role = [key for key in keys if key in by_key]
    edits: list[dict[str, Any]] = [
        {"op": "update", "object": "opportunities", "key": {OPPORTUNITY_ID: key}, "values": {"name": "by hand"}}
        for key in with_role[:4]
    ]
    edits += [{"op": "delete", "object": "opportunities", "key": {OPPORTUNITY_ID: key}} for key in with_role[4:7]]
    guids = [by_key[key]["marketoGUID"] for key in with_role[7:11]]
    edits += [{"op": "delete", "object": "roles", "key": {"marketoGUID": guid}} for guid in guids]
    site.marketo.post("edit", edits)
    return 11


def progress(site: Site) -> Any:
    found = site.world.documents.read("audit", "progress")
    return found.value if found else None


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_ended_in_the_middle_it_goes_on_there_finds_all_and_mends_it(site: Site, how: int, tmp_path: Path) -> None:
    wrong = damage(site)
    running = start(site)
    until = time.monotonic() + 60
    while not ((known := progress(site)) and 2 <= known["number"] < 10) and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(running.pid, how)
    out, errors = running.communicate(timeout=60)
    known = progress(site)
    assert known is not None, (out, errors)
    if how == signal.SIGINT:
        assert running.returncode == 1
        assert json.loads(out)["complete"] is False
        assert "Traceback" not in errors

    found = audited(site, "--repair", "--report", str(tmp_path / "audit.html"))

    assert found["audit"] == known["run"], "it went on with what was begun"
    assert (found["differences"], found["compared"]["opportunities"]) == (wrong, 120)
    assert found["counters that are wrong"] == {}
    assert len(json.loads((tmp_path / "audit.json").read_text("utf-8"))["every difference"]) == wrong
    site.rest()
    assert site.problems() == []
    assert audited(site)["differences"] == 0
