"""The demonstration as a user starts it; it fails by itself when Marketo is not what the rules say."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tools.demo import crm

REPOSITORY = Path(__file__).resolve().parent.parent.parent
AT_MOST_S = 240


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tools.demo", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "REQUESTS_CA_BUNDLE"}
    return subprocess.Popen(  # noqa: S603 - our own module
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def told(demo: subprocess.Popen[str]) -> str:
    try:
        return demo.communicate(timeout=AT_MOST_S)[0]
    except subprocess.TimeoutExpired:
        demo.terminate()
        pytest.fail(f"the demonstration hangs:\n{demo.communicate()[0]}")


@pytest.mark.parametrize(
    "source",
    [
        "--generated",
        pytest.param(
            f"--data={crm.UK}",
            marks=pytest.mark.skipif(not crm.UK.is_dir(), reason="the UK data is not beside this checkout"),
            id="UK data",
        ),
    ],
)
def test_the_demonstration_shows_everything_and_proves_it(source: str) -> None:
    demo = start(source)
    output = told(demo)

    assert demo.returncode == 0, output
    assert "0 Marketo writes" in output
    assert "differences: 0. Nothing missing, nothing extra, no orphan role." in output
    assert max(map(len, output.splitlines())) <= 80


def test_an_interrupted_demonstration_leaves_nothing_running() -> None:
    demo = start("--generated")
    folders = REPOSITORY / ".state" / "demo"
    deadline = time.monotonic() + 60
    while not (logs := list(folders.glob(f"*-{demo.pid}/host.log"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert logs, told(demo)

    demo.send_signal(signal.SIGINT)
    output = told(demo)

    assert demo.returncode == 130, output
    assert "nothing was left running" in output
    assert not answers(logs[0].parent / "marketo.log")
    assert not answers(logs[0].parent / "dataverse.log")


def answers(log: Path) -> bool:
    """Whether the emulator that told its address there still listens."""
    facts = next(json.loads(line) for line in log.read_text().splitlines() if line.startswith("{"))
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(facts[log.stem]["url"]).port or 0)) == 0
