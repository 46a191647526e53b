"""Azure Storage queues: the transport of ids, shared with the Functions host's queue trigger (azure.md §3)."""

from __future__ import annotations

import json
import math
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError
from azure.storage.queue import QueueClient, QueueMessage, QueueServiceClient, TextBase64EncodePolicy

from sync_core import events, telemetry
from sync_core.adapters.tables import error_code, storage_answers
from sync_core.messages import MAX_BYTES, encode, split
from sync_core.model import Lane, Letter, Work
from sync_core.ports import Clock

Name = Literal["fresh", "slow", "fresh poison", "slow poison", "unreadable"]
QUEUES: dict[Name, str] = {
    "fresh": "opportunity-sync",
    "slow": "opportunity-sync-slow",
    "fresh poison": "opportunity-sync-poison",
    "slow poison": "opportunity-sync-slow-poison",
    "unreadable": "opportunity-sync-unreadable",
}
PROBE, PROBE_S = "opportunity-sync-probe", 60
FOREVER = -1  # seconds to live; without it a message dies after 7 days (azure.md §3.8)
LONGEST_DELAY = timedelta(days=7)
POISON_LEASE = timedelta(minutes=5)
ROLE = "Storage Queue Data Contributor"
AT_ONCE = 32  # messages of one receive, the service's limit
LOST = {"MessageNotFound", "PopReceiptMismatch"}


class StorageQueue:
    """Port `Queue`. *prefix* stands in front of every queue's name, so that tests share an account."""

    def __init__(self, service: QueueServiceClient, clock: Clock, *, prefix: str = "") -> None:
        head = f"{prefix.lower()}-" if prefix else ""
        # No decode policy: the SDK's stops at a text that isn't base64 (azure.md §3.9).
        encoding = TextBase64EncodePolicy()
        self._queues = {
            name: service.get_queue_client(head + queue, message_encode_policy=encoding)
            for name, queue in QUEUES.items()
        }
        self._probe = service.get_queue_client(head + PROBE)
        self._clock = clock
        self._ready: set[Name] = set()

    def put(self, work: Work, *, after: timedelta = timedelta(0)) -> None:
        """Send it, in several messages if one can't hold its ids; a longer *after* than 7 days becomes 7 days."""
        delay = _seconds(min(after, LONGEST_DELAY))
        work = replace(work, traceparent=work.traceparent or telemetry.traceparent())
        for part in split(work):
            with self._answers(_queue_of(work.lane)) as queue:
                queue.send_message(encode(part), visibility_timeout=delay, time_to_live=FOREVER)

    def receive(self, lane: Lane, *, lease: timedelta) -> Letter | None:
        """One message that nobody else sees for *lease* (whole seconds), None when there is none."""
        with self._answers(_queue_of(lane)) as queue:
            asked = self._clock.now()  # before the request: our idea of the lease must not outlast the service's
            message = queue.receive_message(visibility_timeout=_seconds(lease))
        return _letter(message, asked, lease) if message else None

    def peek(self, lane: Lane) -> list[Letter]:
        found: list[Letter] = []
        with self._looking(_queue_of(lane)) as queue:
            messages = queue.peek_messages(max_messages=AT_ONCE)
            found += (_letter(message, self._clock.now(), timedelta(0)) for message in messages)
        return found

    def done(self, lane: Lane, letter: Letter) -> None:
        """Delete it. One that was lost meanwhile is somebody else's delivery now: at least once, so no error."""
        self._delete(_queue_of(lane), letter)

    def poisoned(self, lane: Lane) -> list[Letter]:
        with self._answers(_poison_of(lane)) as queue:
            asked = self._clock.now()
            messages = queue.receive_messages(
                messages_per_page=AT_ONCE, max_messages=AT_ONCE, visibility_timeout=_seconds(POISON_LEASE)
            )
            return [_letter(message, asked, POISON_LEASE) for message in messages]

    def done_poisoned(self, lane: Lane, letter: Letter) -> None:
        self._delete(_poison_of(lane), letter)

    def set_aside(self, body: str, reason: str) -> None:
        with self._answers("unreadable") as queue:
            queue.send_message(_envelope(body, reason), time_to_live=FOREVER)

    def give_back(self, lane: Lane, body: str, *, after: timedelta) -> None:
        with self._answers(_queue_of(lane)) as queue:
            queue.send_message(body, visibility_timeout=_seconds(after), time_to_live=FOREVER)

    def probe(self) -> None:
        with storage_answers(ROLE):
            _create(self._probe)
            self._probe.delete_message(self._probe.send_message("probe", time_to_live=PROBE_S))

    def lengths(self) -> dict[str, int]:
        return {name: self._length(name) for name in QUEUES}

    def _length(self, name: Name) -> int:
        properties: Any = None
        with self._looking(name) as queue:
            properties = queue.get_queue_properties()
        return int(properties.approximate_message_count or 0) if properties else 0

    def _delete(self, name: Name, letter: Letter) -> None:
        with self._answers(name) as queue:
            try:
                queue.delete_message(*letter.handle)
            except HttpResponseError as error:
                if error_code(error) not in LOST:
                    raise
                events.info("queue.lease_lost", queue=name)

    @contextmanager
    def _looking(self, name: Name) -> Iterator[QueueClient]:
        """Ends early where there is no such queue: nothing is in it, and looking does not create it."""
        with storage_answers(ROLE):
            try:
                yield self._queues[name]
            except HttpResponseError as error:
                if error_code(error) != "QueueNotFound":
                    raise

    @contextmanager
    def _answers(self, name: Name) -> Iterator[QueueClient]:
        """The queue, created if need be; its errors in our words."""
        with storage_answers(ROLE):
            queue = self._queues[name]
            try:
                if name not in self._ready:
                    _create(queue)
                    self._ready.add(name)
                yield queue
            except AzureError as error:
                if error_code(error).startswith("Queue"):
                    self._ready.discard(name)  # deleted meanwhile: create it at the next try
                raise


def _create(queue: QueueClient) -> None:
    """ResourceExistsError is the SDK's word for "there already", even with the same metadata (azure.md §6)."""
    try:
        queue.create_queue()
    except ResourceExistsError as error:
        if error_code(error).endswith("BeingDeleted"):
            raise


def _queue_of(lane: Lane) -> Name:
    return "fresh" if lane is Lane.FRESH else "slow"


def _poison_of(lane: Lane) -> Name:
    return "fresh poison" if lane is Lane.FRESH else "slow poison"


def _seconds(span: timedelta) -> int:
    """Whole seconds, the service's unit; never less than asked for."""
    return max(0, math.ceil(span.total_seconds()))


def _letter(message: QueueMessage, asked: Any, lease: timedelta) -> Letter:
    handle = (message.id, message.pop_receipt)
    return Letter(_text(str(message.content or "")), int(message.dequeue_count or 0), asked + lease, handle)


def _text(content: str) -> str:
    """What was sent; a body that isn't base64 of UTF-8 stays as it is, to be refused by `messages.decode`."""
    with suppress(ValueError):  # of which both binascii.Error and UnicodeDecodeError are
        return b64decode(content, validate=True).decode()
    return content


def _envelope(body: str, reason: str) -> str:
    """JSON of both; the body is cut until a message can hold it."""
    while True:
        envelope = json.dumps({"reason": reason, "body": body}, ensure_ascii=False)
        excess = len(envelope.encode(errors="replace")) - MAX_BYTES
        if excess <= 0:
            return envelope.encode(errors="replace").decode()
        body = body[: -max(1, excess // 6)]  # one character takes up to six bytes in JSON
