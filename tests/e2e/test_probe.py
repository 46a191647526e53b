"""`probe` as a process of its own, on real storage: it answers, Ctrl-C in the middle leaves nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tools.demo.services import REPOSITORY
from tools.kills.site import Site

KINDS = ("opportunities", "roles", "companies", "leads")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("probe")) as site:
        site.marketo.post("leads", {"leads": [{"email": "ann@customer.invalid"}]})
        yield site


def start(site: Site, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sync_core", "probe", "--json", *words]
    return subprocess.Popen(  # noqa: S603 - our own program
        command, cwd=REPOSITORY, env=site.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def held(site: Site) -> dict[str, Any]:
    return {kind: site.marketo.get(f"rows/{kind}") for kind in KINDS}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_nothing(site: Site, number: signal.Signals) -> None:
    before = held(site)
    program = start(site, "--sandbox", site.world.subscription)
    deadline = time.monotonic() + 60
    while len(site.marketo.get("rows/leads")) == len(before["leads"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    program.send_signal(number)
    _, errors = program.communicate(timeout=120)

    assert (program.returncode, "Traceback" in errors) == (130, False)
    assert held(site) == before
    assert site.world.documents.list("probe") == []


@pytest.mark.timeout(240)
def test_it_answers_within_its_limits(site: Site) -> None:
    before, mark = held(site), len(site.marketo.get("journal"))
    began = time.monotonic()
    told, errors = start(site, "--sandbox", site.world.subscription).communicate(timeout=200)
    found = json.loads(told)
    calls = [call for call in site.marketo.get("journal")[mark:] if call["kind"] != "identity"]

    assert errors == ""
    unanswered = [each["question"] for each in found["findings"] if not each["answer"]]
    assert [each for each in unanswered if each.startswith("U")] == ["U15"]
    assert (held(site), found["left"]) == (before, [])
    assert len(calls) == found["Marketo calls"] < 100
    assert time.monotonic() - began < 100
    limits = dict(site.world.documents.list("limiter"))
    assert limits.keys() == {"probe"}  # not the sync's
