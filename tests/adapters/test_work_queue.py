"""The queue and its fake keep the same promises; and what only the real one can get wrong."""

from __future__ import annotations

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from itertools import count

import pytest
from azure.storage.queue import QueueClient, QueueServiceClient

from sync_core.adapters.clock import SystemClock
from sync_core.adapters.work_queue import QUEUES, StorageQueue
from sync_core.errors import NotOurs, Unavailable
from sync_core.messages import decode
from sync_core.model import Lane, Work
from tests.contracts.ledger import an_id
from tests.contracts.queue import MINUTE, QueueContract
from tests.fakes import FakeClock, FakeQueue
from tools.azurite import Azurite

numbers = count()


@pytest.fixture
def service(azurite: Azurite) -> Iterator[QueueServiceClient]:
    with QueueServiceClient.from_connection_string(azurite.connection_string) as service:
        yield service


@pytest.fixture
def queue(service: QueueServiceClient) -> StorageQueue:
    return StorageQueue(service, SystemClock(), prefix=f"Test{next(numbers)}")


def raw(queue: StorageQueue, name: str) -> QueueClient:
    """The queue itself, past our encoding, created if need be."""
    with queue._answers(name) as found:  # type: ignore[arg-type]
        return found


class TestFakeQueue(QueueContract):
    @pytest.fixture
    def queue(self) -> FakeQueue:
        return FakeQueue(FakeClock())

    def wait(self, queue: FakeQueue, seconds: float) -> None:
        queue.clock.sleep(seconds)

    def poison(self, queue: FakeQueue, lane: Lane, body: str) -> None:
        queue.poison(lane, body)

    def put_aside(self, queue: FakeQueue) -> list[dict[str, str]]:
        return [json.loads(message.body) for message in queue.queues["unreadable"]]


class TestStorageQueue(QueueContract):
    @pytest.fixture
    def queue(self, queue: StorageQueue) -> StorageQueue:
        return queue

    def wait(self, queue: StorageQueue, seconds: float) -> None:
        time.sleep(seconds)

    def poison(self, queue: StorageQueue, lane: Lane, body: str) -> None:
        raw(queue, f"{lane} poison").send_message(body)

    def put_aside(self, queue: StorageQueue) -> list[dict[str, str]]:
        messages = raw(queue, "unreadable").peek_messages(32)
        return [json.loads(_decoded(message.content)) for message in messages]


def _decoded(content: str) -> str:
    return b64decode(content).decode()


@pytest.mark.parametrize(
    "content", ["no base64", "", b64encode(b"\xff\xfe").decode(), b64encode(b"{}").decode(), "💥", "e30"]
)
def test_a_message_of_somebody_else_arrives_and_is_refused(queue: StorageQueue, content: str) -> None:
    client = raw(queue, "fresh")
    plain = QueueClient(client.url.rpartition("/")[0], client.queue_name, credential=client.credential)
    with plain:
        plain.send_message(content)

    letter = queue.receive(Lane.FRESH, lease=MINUTE)

    assert letter is not None
    with pytest.raises(NotOurs):
        decode(letter.body)


def test_messages_never_expire(queue: StorageQueue) -> None:
    queue.put(Work(opportunities=(an_id(1),)))
    queue.set_aside("body", "reason")

    for name in ("fresh", "unreadable"):
        [message] = raw(queue, name).peek_messages()
        assert message.expires_on is not None
        assert message.expires_on.year > 2100


def test_the_host_reads_base64(queue: StorageQueue) -> None:
    work = Work(opportunities=(an_id(1),), why="Prüfung")
    queue.put(work)

    [message] = raw(queue, "fresh").peek_messages()

    assert decode(_decoded(message.content)) == work


def test_a_deleted_queue_is_created_again(queue: StorageQueue) -> None:
    raw(queue, "fresh").delete_queue()

    with pytest.raises(Unavailable):
        queue.put(Work(opportunities=(an_id(1),)))
    queue.put(Work(opportunities=(an_id(1),)))

    assert queue.lengths()["fresh"] == 1


def test_a_probe_is_deleted_from_its_own_queue(queue: StorageQueue) -> None:
    queue.probe()

    assert queue._probe.get_queue_properties().approximate_message_count == 0


def test_poison_queues_are_named_as_the_host_does() -> None:
    assert QUEUES["fresh poison"] == f"{QUEUES['fresh']}-poison"
    assert QUEUES["slow poison"] == f"{QUEUES['slow']}-poison"
