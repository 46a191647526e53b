"""`plan` as a process of its own, on real storage: nothing moves, and the `sync` that follows does what it said."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sync_core.model import Work
from tests.flows.org import lookup
from tests.flows.test_plan import journal, said
from tools.contents import contents
from tools.demo.services import REPOSITORY
from tools.kills.site import Site

DEALS = 300
RENAMED, DELETED = 40, 3
SLOW_READ_S = 8.0
LIMITER = ("limiter", "marketo")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("plan"), MARKETO_CALLS_PER_20S="100") as site:
        site.fill(opportunities=DEALS, accounts=30, contacts=150, roles_per_opportunity=1.5)
        yield site


def start(site: Site, *words: str, **streams: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sync_core", *words]
    return subprocess.Popen(command, cwd=REPOSITORY, env=site.environment, text=True, **streams)  # noqa: S603 - our own program


def run(site: Site, *words: str) -> dict[str, Any]:
    program = start(site, *words, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    told, errors = program.communicate(timeout=100)
    assert (program.returncode, errors) == (0, "")
    return dict(json.loads(told))


def stored(site: Site) -> dict[str, Any]:
    """All tables and queues, but for the count of Marketo's calls: a plan's questions are calls like others."""
    found = {place: dict(held) for place, held in contents(site.storage.connection_string).items()}
    limits = found.get("table SyncState", {})
    limits.pop(LIMITER, None)
    return found if limits else {place: held for place, held in found.items() if place != "table SyncState"}


def mark(site: Site) -> int:
    return max((call["sequence"] for call in site.marketo.get("journal")), default=0)


def calls(site: Site, since: int) -> list[dict[str, Any]]:
    return list(site.marketo.get(f"journal?since={since}"))


def writes(site: Site, since: int) -> list[dict[str, Any]]:
    return [call for call in calls(site, since) if call["kind"] == "write"]


def holds(site: Site) -> dict[str, Any]:
    """A plan, which writes nothing, and the `sync` after it, which does what was said; the plan."""
    before, since = stored(site), mark(site)
    found = run(site, "plan", "--limit", "1000")
    assert stored(site) == before
    assert writes(site, since) == []

    since = mark(site)
    done = run(site, "sync")
    assert said(found) == journal(calls(site, since))
    assert done["messages left"] == 0
    return found


def edit(site: Site, *edits: dict[str, Any]) -> Any:
    return site.dataverse.post("edit", list(edits))


def rename(site: Site, number: int, name: str) -> list[str]:
    """The ids of the first *number* open deals, which have this name now."""
    ids = [row["opportunityid"] for row in site.dataverse.get("rows/opportunity") if row["statecode"] == 0][:number]
    edit(site, *({"op": "update", "table": "opportunity", "id": key, "values": {"name": name}} for key in ids))
    return ids


@pytest.mark.timeout(240)
def test_sync_does_what_plan_said_and_plan_does_nothing(site: Site) -> None:
    assert stored(site) == {}

    found = holds(site)
    assert found["opportunities"]["created"] == DEALS

    rename(site, RENAMED, "Renamed")
    rows = {row["opportunityid"]: row for row in site.dataverse.get("rows/opportunity")}
    *gone, same = [key for key, row in rows.items() if row["statecode"] != 0][: DELETED + 1]
    account = site.dataverse.get("rows/account")[0]["accountid"]
    edit(
        site,
        *({"op": "delete", "table": "opportunity", "id": key} for key in gone),
        {
            "op": "create",
            "table": "opportunity",
            "values": {"name": "New", **lookup("parentaccountid", account, "account")},
        },
    )
    site.world.queue.put(Work((same,)))  # it is seen, and left where it lies

    found = holds(site)
    assert found["messages on the queue"] == 1
    assert {what: found["opportunities"][what] for what in ("created", "updated", "removed")} == {
        "created": 1,
        "updated": RENAMED,
        "removed": DELETED,
    }
    assert set(found["removals"]) == set(gone)
    assert found["roles"]["removed"] > 0
    assert site.problems() == []


@pytest.mark.timeout(240)
def test_ctrl_c_leaves_no_file_and_nothing_written(site: Site, tmp_path: Path) -> None:
    rename(site, RENAMED, "Renamed again")
    before, since = stored(site), mark(site)
    site.marketo.post("switches", {"latency": {"read": SLOW_READ_S}})

    program = start(site, "plan", "--out", str(tmp_path / "plan.json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not [call for call in calls(site, since) if call["kind"] == "read"]:
        assert time.monotonic() < deadline, "no question within 60 s"
        time.sleep(0.02)
    begun = [path.name for path in tmp_path.iterdir()]
    program.send_signal(signal.SIGINT)
    told, errors = program.communicate(timeout=60)
    site.marketo.post("switches", {"latency": 0.0})

    assert begun == ["plan.json.part"]
    assert program.returncode == 128 + signal.SIGINT
    assert (told, errors) == ("", "\nplan: stopped. Nothing is lost; run it again.\n")
    assert list(tmp_path.iterdir()) == []
    assert stored(site) == before
    assert writes(site, since) == []


@pytest.mark.timeout(240)
def test_a_terminal_shows_how_far_it_is(site: Site) -> None:
    rename(site, RENAMED, "Renamed once more")
    terminal, end = pty.openpty()
    program = start(site, "plan", stdout=subprocess.DEVNULL, stderr=end)
    code = program.wait(100)
    shown = os.read(terminal, 10_000).decode()
    os.close(end)
    os.close(terminal)

    number = len(site.dataverse.get("rows/opportunity"))
    assert code == 0
    assert shown.endswith(f"\r{number} opportunities looked at \r\n")
