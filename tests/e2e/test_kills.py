"""Hosts killed fifty times, as a user runs it; `python -m tools.kills` fails by itself when Marketo is not right."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
AT_MOST_S = 280


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "tools.kills", *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603 - our own module


@pytest.mark.timeout(AT_MOST_S + 20)
def test_fifty_kills_leave_marketo_right(record_property: Callable[[str, object], None]) -> None:
    run = start()
    try:
        output = run.communicate(timeout=AT_MOST_S)[0]
    except subprocess.TimeoutExpired:
        run.terminate()
        pytest.fail(f"it hangs:\n{run.communicate()[0]}")

    for line in FIGURES.findall(output):
        record_property("proof", f"kills: {line}")
    assert run.returncode == 0, output
    assert "a message is leased for 3 s" in output
    assert "differences: 0" in output
    kills, deliveries, calls = map(int, CUT.findall(output)[0])
    assert kills == 50
    assert deliveries > 10
    assert calls > 0


FIGURES = re.compile(r"^(?:\d+ kills in|\d+ calls to Marketo|.*differences:).*", re.MULTILINE)
CUT = re.compile(r"(\d+) kills in .* cut (\d+) deliveries, \d+ ticks and (\d+) calls to Marketo")


def test_an_interrupted_run_leaves_nothing_running() -> None:
    run = start("--kills", "1000")
    assert run.stdout is not None
    while "kills," not in run.stdout.readline():
        assert run.poll() is None
    while not (begun := run.stdout.readline()).startswith("10 kills"):
        assert begun, "it ended by itself"
    began = time.monotonic()

    run.send_signal(signal.SIGINT)
    output = run.communicate(timeout=60)[0]

    assert run.returncode == 130, output
    assert "nothing was left running" in output
    assert time.monotonic() - began < 45
