"""The bench's storage in a file keeps the promises of the real one, also when its process is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from bench.file_storage import (
    File,
    FileConnections,
    FileDocuments,
    FileHistory,
    FileLedger,
    FileMap,
    FileQueue,
    open_storage,
)
from sync_core.model import Lane, Work
from tests.contracts.connections import ConnectionMapContract
from tests.contracts.documents import DocumentsContract
from tests.contracts.ledger import NOON, LedgerContract, a_row, an_id
from tests.contracts.lookup import LookupContract
from tests.contracts.queue import MINUTE, QueueContract
from tests.fakes import FakeClock

ROOT = Path(__file__).parent.parent


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "storage")


class TestFileLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, file: File) -> FileLedger:
        return FileLedger(file, "opportunities")


class TestFileMap(LookupContract):
    @pytest.fixture
    def lookup(self, file: File) -> FileMap:
        return FileMap(file, "people")


class TestFileConnections(ConnectionMapContract):
    @pytest.fixture
    def connections(self, file: File) -> FileConnections:
        return FileConnections(file)


class TestFileDocuments(DocumentsContract):
    @pytest.fixture
    def documents(self, file: File) -> FileDocuments:
        return FileDocuments(file)


class TestFileQueue(QueueContract):
    @pytest.fixture
    def queue(self, file: File) -> FileQueue:
        return FileQueue(file, FakeClock())

    def wait(self, queue: FileQueue, seconds: float) -> None:
        queue._clock.sleep(seconds)

    def poison(self, queue: FileQueue, lane: Lane, body: str) -> None:
        queue._send(f"{lane} poison", body)  # type: ignore[arg-type]  # a name of QUEUES

    def put_aside(self, queue: FileQueue) -> list[dict[str, str]]:
        return [json.loads(body) for _, body, _ in queue._visible("unreadable", 9)]


def test_history_is_told_backwards_and_forgotten(file: File) -> None:
    history = FileHistory(file)
    for hour in range(3):
        history.add(NOON + timedelta(hours=hour), {an_id(1): {"amount": hour}, an_id(2): {}})

    history.forget(NOON + timedelta(hours=1))

    assert [fields for _, fields in history.of(an_id(1))] == [{"amount": 2}, {"amount": 1}]
    assert history.of(an_id(3)) == []


def test_kinds_in_one_file_know_nothing_of_each_other(file: File) -> None:
    FileLedger(file, "companies").write([a_row(1)])
    FileMap(file, "people").write({"one": {}})

    assert FileLedger(file, "opportunities").rows([an_id(1)]) == {}
    assert FileLedger(file, "opportunities").counts()["in step"] == 0
    assert FileMap(file, "tombstones").read(["one"]) == {}


KILLED = """
import os, signal, sys
from pathlib import Path
from bench.file_storage import File, FileLedger
from tests.contracts.ledger import a_row
file = File(Path(sys.argv[1]))
ledger = FileLedger(file, "opportunities")
ledger.write([a_row(1)])
with file.transaction():
    ledger._put(a_row(2), None)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_whole_transactions(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "storage")], cwd=ROOT, check=False)  # noqa: S603 - our own program

    storage = open_storage(tmp_path / "storage", FakeClock())

    assert storage.opportunities.rows([an_id(1), an_id(2)]).keys() == {an_id(1)}
    assert storage.opportunities.counts()["in step"] == 1


def test_a_dead_workers_lease_can_be_ended(file: File) -> None:
    queue = FileQueue(file, FakeClock())
    queue.put(Work((an_id(1),)))
    queue.receive(Lane.FRESH, lease=MINUTE)

    queue.free()

    letter = queue.receive(Lane.FRESH, lease=MINUTE)
    assert letter is not None
    assert letter.dequeue_count == 2
