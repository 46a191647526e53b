"""What a run leaves behind: log records, exceptions, requests to storage and what stands there afterwards, as text."""

from __future__ import annotations

import logging
import traceback
from base64 import b64decode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import unescape
from re import findall
from urllib.parse import quote, quote_plus

import requests
from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueServiceClient

_FORMAT = logging.Formatter("%(levelname)s %(name)s %(message)s")


@dataclass(frozen=True, slots=True)
class Trace:
    """A piece of text and where it came from."""

    kind: str
    where: str
    text: str


@dataclass
class Evidence:
    """Everything a run leaves behind. Texts are kept whole, so that a test may look for anything in them."""

    traces: list[Trace] = field(default_factory=list)

    def add(self, kind: str, where: str, *texts: object) -> None:
        self.traces += [Trace(kind, where, str(text)) for text in texts]

    def add_error(self, where: str, error: BaseException) -> None:
        """The traceback as Python prints it, and each error in it by its text, its repr and its notes."""
        self.add("exception", where, "".join(traceback.format_exception(error)))
        for each in chain(error):
            self.add("exception", f"{where}: {type(each).__name__}", each, repr(each), *getattr(each, "__notes__", ()))

    def of(self, *kinds: str) -> list[Trace]:
        return [trace for trace in self.traces if trace.kind in kinds]


def chain(error: BaseException) -> Iterator[BaseException]:
    """*error* and what stands behind it, as tracebacks show it: what `from None` hides is printed by nobody."""
    seen: dict[int, BaseException] = {}
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is not None and id(each) not in seen:
            seen[id(each)] = each
            todo += [each.__cause__, None if each.__suppress_context__ else each.__context__]
    yield from seen.values()


class Listener(logging.Handler):
    """Takes every record of every logger: the text as it is written, the arguments, what `extra` added, the error."""

    def __init__(self, evidence: Evidence) -> None:
        super().__init__(logging.DEBUG)
        self._evidence = evidence

    def emit(self, record: logging.LogRecord) -> None:
        where = f"{record.name} {record.levelname}"
        kind = "log" if record.levelno >= logging.INFO or record.name.startswith("sync_core") else "debug"
        more = {name: value for name, value in vars(record).items() if name not in ("exc_info", "exc_text", "msg")}
        self._evidence.add(kind, where, _FORMAT.format(record), more)
        if record.exc_info and record.exc_info[1]:
            self._evidence.add_error(f"logged by {where}", record.exc_info[1])


def sent_to_storage(request: requests.PreparedRequest) -> Trace:
    """One request to the storage account: address and body, a queue message as it was before base64."""
    body = request.body.decode(errors="replace") if isinstance(request.body, bytes) else str(request.body or "")
    kind = "unreadable" if "opportunity-sync-unreadable" in str(request.url) else "storage"
    messages = [_decoded(text) for text in findall(r"<MessageText>([^<]*)", body)]
    return Trace(kind, f"{request.method} {request.path_url.partition('?')[0]}", "\n".join([unescape(body), *messages]))


def stored(connection: str) -> Iterator[Trace]:
    """Every entity of every table, and every visible message of every queue."""
    with TableServiceClient.from_connection_string(connection) as tables:
        for table in tables.list_tables():
            for entity in tables.get_table_client(table.name).list_entities():
                yield Trace("storage", f"table {table.name}", repr(dict(entity)))
    with QueueServiceClient.from_connection_string(connection) as queues:
        for queue in queues.list_queues():
            kind = "unreadable" if "unreadable" in queue.name else "storage"
            for message in queues.get_queue_client(queue.name).peek_messages(max_messages=32):
                yield Trace(kind, f"queue {queue.name}", f"{message.content}\n{_decoded(str(message.content))}")


def _decoded(content: str) -> str:
    try:
        return b64decode(content, validate=True).decode(errors="replace")
    except ValueError:
        return ""


def spellings(marker: str) -> set[str]:
    """How *marker* may stand in a text: as it is, in a URL, in JSON."""
    escaped = marker.encode("unicode_escape").decode()
    return {each.casefold() for each in (marker, quote(marker, safe=""), quote_plus(marker), escaped)}


def leaks(traces: Iterable[Trace], markers: Iterable[str]) -> list[str]:
    """Where one of *markers* stands, with the text around it."""
    wanted = {spelling for marker in markers for spelling in spellings(marker)}
    found = []
    for trace in traces:
        text = trace.text.casefold()
        hits = sorted((text.index(each), each) for each in wanted if each in text)
        if hits:
            at, marker = hits[0]
            found.append(f"{trace.kind}, {trace.where}: {marker!r} in …{trace.text[max(0, at - 200) : at + 80]}…")
    return list(dict.fromkeys(found))
