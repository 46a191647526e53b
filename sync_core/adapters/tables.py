"""Azure Table storage: the ledger, the maps and the small documents (design.md §5).

    ledger  <first hex digit>  !counts                     rows by state, by reason, and roles of this partition
                               !waiting|<due>|<id>         points at a row that is neither in step nor gone; says why
                               <id>                        the row
    map     <hex digit of a hash>  <id>                    one small value
    pairs   new                    <time> <any>            a segment: what one write added
            base                   <greatest id in it>     a leaf: all pairs of the connections up to that id
    state   <kind>                 <name>                  one document

A row, its pointer and its partition's counts change in one transaction, so they can't disagree. Content is one JSON
text cut into `doc`, `doc1`, …: the SDK spends its CPU per entity and per property.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from itertools import count, islice, pairwise, product
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DeserializationError,
    HttpResponseError,
    ResourceExistsError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.data.tables import TableClient, UpdateMode

from sync_core.errors import CredentialsRefused, NewerVersion, Unavailable
from sync_core.model import LEFT_OUT, SCHEMA, Document, LedgerRow, Pointer, Role, State, Tally
from sync_core.ports import Clock, FanOut
from sync_core.settings import STORAGE

Entity = Mapping[str, Any]
Operation = tuple[str, Entity, Mapping[str, Any]]
"""One step of a transaction, as the SDK takes it: name, entity, conditions."""

PAGE = 1_000  # entities of one answer, the service's limit
SEGMENTS = 32  # of the connection map, until they go into the leaves: a read takes them all
PAIRS = 5_000  # of one entity: 43 characters each, 430 KB as the service counts them, of 1 MiB
FOLDED = 20_000  # connections that go into one leaf in one transaction, of 100 entities and 4 MiB
TRANSACTION_ENTITIES = 100  # the service's limit
TRANSACTION_BYTES = 3_000_000  # of 4 MiB, which the service counts with the headers of every part
CHUNK = 30_000  # characters of one property; the service takes 32,768 UTF-16 units (azure.md §6)
FEW = 8  # wanted keys of a partition below which a page is not even tried
POINT_READ = 50  # entities of a page that cost as much CPU as one point read does
RECOUNTS = 3  # of a partition that is written to all the time
COUNT_ATTEMPTS = 60  # conflicts on a partition's counts in a row before giving up; each means another writer got on
BUSY = {408, 429, 500, 502, 503, 504}
CONFLICT = {404, 409, 412}
MISSING = {"ResourceNotFound", "EntityNotFound"}
ROLE = "Storage Table Data Contributor"
BUCKETS = "0123456789abcdef"  # the partitions of a map
_WHOLE = "all"  # the partition of a ledger that has only one


# --- errors of both storage SDKs --------------------------------------------------------------------------------


@contextmanager
def storage_answers(role: str) -> Iterator[None]:
    """Inside, what the SDK raises becomes one of our errors; *role* is what the identity needs for this service."""
    try:
        yield
    except (AzureError, DeserializationError) as error:
        raise _translated(error, role) from None  # the SDK's text may hold a signature or a page that repeats one


def _translated(error: Exception, role: str) -> Exception:
    """Ours where we know what happens next; everything else stays what it is. Never quotes an answer's body."""
    status, code = getattr(error, "status_code", None), error_code(error)
    if isinstance(error, ClientAuthenticationError) or status in {401, 403}:
        return CredentialsRefused(
            f"Storage refuses us ({status or 'no token'} {code}): check {STORAGE} and that who signs in, the app's "
            f"identity or you, has the role {role!r} on that storage account."
        )
    silent = isinstance(error, ServiceRequestError | ServiceResponseError) or status is None
    if silent or status in BUSY or code.endswith(("BeingDeleted", "TableNotFound", "QueueNotFound")):
        detail = " ".join(filter(None, (type(error).__name__, str(status or ""), code)))
        return Unavailable(f"the storage account of {STORAGE} gives no answer ({detail}); locally: Azurite must run")
    return StorageError(f"storage answered {type(error).__name__} {status} {code}")


class StorageError(Exception):
    """What we have no answer to: the host tries again, and after some tries the message is poison (design.md §6)."""


def error_code(error: Exception) -> str:
    """Its code, such as `EntityAlreadyExists`; some of the SDK's errors have it in a header only (azure.md §6)."""
    code = getattr(error, "error_code", None)
    headers = getattr(getattr(error, "response", None), "headers", {})
    return str(getattr(code, "value", code) or headers.get("x-ms-error-code", ""))


# --- content ----------------------------------------------------------------------------------------------------


def _entity(partition: str, key: str, content: Any = None) -> dict[str, Any]:
    """An entity that holds *content* as JSON, or nothing but its key."""
    entity = {"PartitionKey": partition, "RowKey": key}
    if content is not None:
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        size = CHUNK if text.isascii() else CHUNK // 2  # beyond the BMP a character takes two units
        entity |= {_chunk(number): text[start : start + size] for number, start in _cuts(len(text), size)}
    return entity


def _cuts(length: int, size: int) -> Iterable[tuple[int, int]]:
    return enumerate(range(0, length, size))


def _chunk(number: int) -> str:
    return f"doc{number or ''}"


def _content(entity: Entity) -> Any:
    text: str = entity["doc"]
    if "doc1" in entity:
        text = "".join(entity[_chunk(number)] for number in range(len(entity)) if _chunk(number) in entity)
    return json.loads(text)


def _etag(entity: Entity) -> str:
    return str(entity.metadata["etag"])  # type: ignore[attr-defined]  # what is read is a TableEntity


def _weight(entity: Entity) -> int:
    """Bytes on the wire, where JSON stands in JSON: every quote and every character beyond ASCII is escaped."""
    return len(json.dumps(entity))


# --- one table --------------------------------------------------------------------------------------------------


class _Table:
    """A table that the first write creates, and until then holds nothing; it speaks of its failures in our words."""

    def __init__(self, client: TableClient) -> None:
        self._client = client
        self._ready = False

    @contextmanager
    def _reading(self) -> Iterator[TableClient]:
        """Ends early, without an error, where there is no table."""
        with storage_answers(ROLE):
            try:
                yield self._client
            except HttpResponseError as error:
                if error_code(error) != "TableNotFound":
                    raise

    @contextmanager
    def _writing(self) -> Iterator[TableClient]:
        with storage_answers(ROLE):
            try:
                self._create()
                yield self._client
            except HttpResponseError as error:
                if error_code(error).startswith("Table"):
                    self._ready = False  # dropped meanwhile, as `rebuild` does: create it at the next try
                raise

    def _create(self) -> None:
        if self._ready:
            return
        try:
            self._client.create_table()
        except ResourceExistsError as error:
            if error_code(error).endswith("BeingDeleted"):
                raise
        self._ready = True

    def get(self, partition: str, key: str) -> Entity | None:
        """The entity, if it exists."""
        with self._reading() as client:
            try:
                return client.get_entity(partition, key)
            except HttpResponseError as error:
                if error_code(error) not in MISSING:  # a 404 of another server says nothing about ours
                    raise
        return None

    def page(self, partition: str, first: str, last: str, size: int) -> tuple[Sequence[Entity], bool]:
        """Up to *size* entities from *first* to *last*, and whether there may be more behind them."""
        query = "PartitionKey eq @partition and RowKey ge @first and RowKey le @last"
        keys = {"partition": partition, "first": first, "last": last}
        with self._reading() as client:
            pages: Any = client.query_entities(query, parameters=keys, results_per_page=size).by_page()
            for page in pages:
                entities = list(page)
                if entities:  # a page may be empty though others follow
                    return entities, bool(pages.continuation_token)
        return [], False

    def query(self, query: str, keys: Mapping[str, str], limit: int, *select: str) -> Sequence[Entity]:
        """The first *limit* entities that fit, in order of their keys."""
        size = max(1, min(limit, PAGE))
        found: list[Entity] = []
        with self._reading() as client:
            entities = client.query_entities(
                query, parameters=dict(keys), results_per_page=size, select=list(select) or None
            )
            found += islice(entities, limit)
        return found

    def pages(
        self, query: str, *select: str, keys: Mapping[str, str] | None = None, size: int = PAGE
    ) -> Iterator[Sequence[Entity]]:
        """All that fits, in pages as they come, empty ones too."""
        pages = self._client.query_entities(
            query, parameters=dict(keys or {}), results_per_page=size, select=list(select) or None
        ).by_page()
        while True:
            entities = None
            with self._reading():
                page = next(pages, None)
                entities = None if page is None else list(page)
            if entities is None:
                return
            yield entities

    def read(self, keys: Iterable[tuple[str, str]], fan_out: FanOut) -> Iterator[Entity]:
        """The entities that exist of these (partition, key) pairs, in few operations.

        Not nested: a pool that waits for itself would stand still.
        """
        partitions: defaultdict[str, list[str]] = defaultdict(list)
        for partition, key in sorted(keys):
            partitions[partition].append(key)
        single: list[tuple[str, str]] = []
        for found, rest in fan_out(self._skip_scan, partitions.items()):
            yield from found
            single += rest
        yield from filter(None, fan_out(lambda pair: self.get(*pair), single))

    def _skip_scan(self, wanted: tuple[str, list[str]]) -> tuple[list[Entity], list[tuple[str, str]]]:
        """Entities found in pages, and the (partition, key) pairs that are cheaper to read one by one.

        Each page starts at the next wanted key. A page costs at most about as much as reading the wanted keys singly
        would, and there is another one only if the last was worth it.
        """
        partition, keys = wanted
        pairs = {key: (partition, key) for key in keys}
        found: list[Entity] = []
        while len(keys) >= FEW:
            page, more = self.page(partition, keys[0], keys[-1], min(PAGE, POINT_READ * len(keys)))
            found += [entity for entity in page if entity["RowKey"] in pairs]
            resolved = bisect_right(keys, page[-1]["RowKey"]) if more else len(keys)
            keys = keys[resolved:]
            if resolved * POINT_READ < len(page):
                break
        return found, [pairs[key] for key in keys]

    def submit(self, operations: Sequence[Operation]) -> int | None:
        """Do all or nothing; the index of the operation whose condition failed, None when all is done.

        Raises Unavailable when there is no answer: the transaction may have been committed.
        """
        with self._writing() as client:
            try:
                _submit(client, operations)
            except HttpResponseError as error:
                if not _is_conflict(error):
                    raise
                return int(getattr(error, "index", 0))
        return None

    def put(self, entity: Entity, ticket: str | None) -> str | None:
        """Insert, or replace under *ticket*; the new ETag, None if the condition failed."""
        with self._writing() as client:
            try:
                if ticket is None:
                    return str(client.create_entity(entity)["etag"])
                return str(client.update_entity(entity, **_under(ticket))["etag"])
            except HttpResponseError as error:
                if not _is_conflict(error):
                    raise
                return None

    def drop(self, partition: str, key: str) -> None:
        """Delete what may be missing."""
        with self._writing() as client:
            client.delete_entity(partition, key)


def _is_conflict(error: HttpResponseError) -> bool:
    return error.status_code in CONFLICT and not error_code(error).startswith("Table")


def _under(ticket: str) -> dict[str, Any]:
    return {"mode": UpdateMode.REPLACE, "etag": ticket, "match_condition": MatchConditions.IfNotModified}


def _submit(client: TableClient, operations: Sequence[Operation]) -> None:
    """A single update goes without the wrapping of a transaction, which costs as much again."""
    name, entity, conditions = operations[0]
    if len(operations) == 1 and name == "update":
        client.update_entity(entity, **conditions)
    else:
        client.submit_transaction(operations)


# --- the ledger -------------------------------------------------------------------------------------------------


class _Ticket(NamedTuple):
    """What a row was when it was read: all that its pointer and the counts need when it changes."""

    etag: str
    state: str
    due: str
    roles: int
    left_out: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Change:
    """One row's part of a transaction: operations, the row's first, and what it does to the counts."""

    id: str
    ticket: str | None
    operations: tuple[Operation, ...]
    moves: Mapping[str, int]
    weight: int


class TableLedger:
    """Port `Ledger`. *prefix* is how many hex digits of an id make its partition: 1, 16 or 256 of them."""

    def __init__(self, table: TableClient, clock: Clock, fan_out: FanOut, *, prefix: int = 1) -> None:
        self._table = _Table(table)
        self._clock = clock
        self._fan_out = fan_out
        self._prefix = prefix
        self._partitions = ["".join(digits) or _WHOLE for digits in product(BUCKETS, repeat=prefix)]

    def rows(self, ids: Collection[str]) -> Mapping[str, LedgerRow]:
        pairs = ((self._partition(id), id) for id in set(ids))
        return {entity["RowKey"]: _row(entity) for entity in self._table.read(pairs, self._fan_out)}

    def write(self, rows: Sequence[LedgerRow]) -> set[str]:
        changes: defaultdict[str, dict[str, _Change]] = defaultdict(dict)
        for row in rows:
            partition = self._partition(row.id)
            if row.id in changes[partition]:
                raise ValueError(f"{row.id} is twice in one write")
            changes[partition][row.id] = _change(partition, row)
        return set().union(*self._fan_out(lambda item: self._write(item[0], [*item[1].values()]), changes.items()))

    def due(self, now: datetime, limit: int) -> Sequence[str]:
        """Behind the pointers up to *now*, in order of the pointers over all partitions."""
        query = "PartitionKey eq @partition and RowKey ge @first and RowKey le @last"
        keys = {"first": f"!{State.WAITING}|", "last": f"!{State.WAITING}|{_stamp(now)}|~"}
        pages = self._fan_out(
            lambda partition: self._table.query(query, keys | {"partition": partition}, limit, "RowKey"),
            self._partitions,
        )
        pointers = sorted(entity["RowKey"] for page in pages for entity in page)
        return [_pointed_at(pointer) for pointer in pointers[:limit]]

    def in_state(self, state: State) -> Iterator[Sequence[str]]:
        return ([pointer.id for pointer in page] for page in self.pointers(state))

    def pointers(
        self, state: State, *, reason: str = "", after: str = "", size: int = PAGE
    ) -> Iterator[Sequence[Pointer]]:
        if state in {State.IN_STEP, State.GONE}:
            raise ValueError(f"nothing points at rows that are {state}")
        begun = self._partition(_pointed_at(after)) if after else ""
        query = "PartitionKey eq @partition and RowKey gt @after and RowKey le @last"
        query += " and reason eq @reason" if reason else ""
        pages = (
            page
            for partition in self._partitions
            if partition >= begun
            for page in self._table.pages(
                query,
                "RowKey",
                "reason",
                keys={
                    "partition": partition,
                    "after": f"!{state}|{after if partition == begun else ''}",
                    "last": f"!{state}|~",
                    **({"reason": reason} if reason else {}),
                },
                size=min(size, PAGE),
            )
        )
        return ([_told(entity, len(state) + 2) for entity in page] for page in pages if page)

    def counts(self) -> Mapping[str, int]:
        return self.tally().counts

    def tally(self) -> Tally:
        total = Counter(dict.fromkeys((*map(str, State), "roles", LEFT_OUT), 0))
        for numbers, _ in self._fan_out(self._read_counts, self._partitions):
            total.update(numbers)
        return _tally(total)

    def ids(self, *, after: str = "", gone: bool = False) -> Iterator[Sequence[str]]:
        query, keys = "PartitionKey ge @partition and RowKey gt @after", {"after": after or "0", "partition": ""}
        keys["partition"] = self._partition(after) if after else ""
        for page in self._table.pages(query, "RowKey", "gone", keys=keys):
            ids = [entity["RowKey"] for entity in page if gone or not entity.get("gone")]
            if ids:
                yield ids

    def recount(self, *, mend: bool = False) -> Mapping[str, int]:
        wrong: Counter[str] = Counter()
        for found in self._fan_out(lambda partition: self._miscounted(partition, mend), self._partitions):
            wrong.update(found)
        return {name: number for name, number in wrong.items() if number}

    def _miscounted(self, partition: str, mend: bool) -> Mapping[str, int]:
        """Of one partition, if nothing was written to it while it was read: else another time, some times."""
        for _ in range(RECOUNTS):
            numbers, ticket = self._read_counts(partition)
            right: Counter[str] = Counter()
            query, keys = "PartitionKey eq @partition and RowKey ge '0'", {"partition": partition}
            for page in self._table.pages(query, keys=keys):
                for entity in page:
                    right.update(_moves(None, _row(entity)))
            wrong = Counter(numbers)
            wrong.subtract(right)
            if self._read_counts(partition)[1] != ticket:
                continue
            if mend and any(wrong.values()):
                new = _entity(partition, "!counts", {name: number for name, number in right.items() if number})
                if self._table.put(new, ticket) is None:
                    continue
            return wrong
        return {}

    def take_over(self, *, until: float) -> bool:
        """What schema 1 may lack: reasons at the pointers, and counts by reason. Whether that was done by *until*.

        A partition is counted where its numbers by reason don't add up, so what was done is not done again.
        """
        for partition in self._partitions:
            if self._adds_up(partition):
                continue
            if self._clock.monotonic() >= until:
                return False
            self._tell_reasons(partition)
            self._miscounted(partition, mend=True)
        return True

    def _adds_up(self, partition: str) -> bool:
        tally = _tally(self._read_counts(partition)[0])
        told: Counter[str] = Counter()
        for (state, _), number in tally.reasons.items():
            told[state] += number
        return all(tally.counts.get(each, 0) == told[each] for each in (State.WAITING, State.PARKED, State.HELD))

    def _tell_reasons(self, partition: str) -> None:
        """A row that changes meanwhile writes its pointer itself; one that is left over leads to a row that decides."""
        query, keys = "PartitionKey eq @partition and RowKey lt '0'", {"partition": partition}
        for page in self._table.pages(query, "RowKey", "reason", keys=keys):
            silent = {each["RowKey"] for each in page if "|" in each["RowKey"] and each.get("reason") is None}
            for id, row in self.rows([_pointed_at(pointer) for pointer in silent]).items():
                pointer = _pointer(row.state, _stamp(row.due), id)
                if pointer and pointer in silent:
                    entity = _entity(partition, pointer) | {"reason": row.reason}
                    self._table.submit([("upsert", entity, {"mode": UpdateMode.REPLACE})])

    def _partition(self, id: str) -> str:
        return id[: self._prefix] or _WHOLE

    def _read_counts(self, partition: str) -> tuple[dict[str, int], str | None]:
        """The numbers of one partition and the ETag to change them under."""
        entity = self._table.get(partition, "!counts")
        return (_content(entity), _etag(entity)) if entity else ({}, None)

    def _write(self, partition: str, changes: Sequence[_Change]) -> set[str]:
        return set().union(*(self._commit(partition, part) for part in _transactions(changes)))

    def _commit(self, partition: str, changes: Sequence[_Change]) -> set[str]:
        """One transaction, again without those that lost until it passes; the ids that lost."""
        lost: set[str] = set()
        for attempt in range(COUNT_ATTEMPTS + len(changes)):
            if not changes:
                return lost
            steps = [(change, operation) for change in changes for operation in change.operations]
            count = self._count(partition, changes)
            failed = self._table.submit([operation for _, operation in steps] + count)
            if failed is None:
                return lost
            if failed < len(steps):
                stale = self._stale(partition, changes)
                changes = _without(changes, stale, steps[failed])
                lost |= stale
            else:
                self._clock.sleep(min(attempt * 0.01, 0.2))  # seconds; the other writer is through, read again
        raise Unavailable(f"The counts of partition {partition} change all the time.", delay=5)

    def _count(self, partition: str, changes: Sequence[_Change]) -> list[Operation]:
        """The operation that adds *changes* to the partition's counts; none if no number changes."""
        moves: Counter[str] = Counter()
        for change in changes:
            moves.update(change.moves)
        if not any(moves.values()):
            return []
        numbers, ticket = self._read_counts(partition)
        moves.update(numbers)
        return [_put(_entity(partition, "!counts", {name: number for name, number in moves.items() if number}), ticket)]

    def _stale(self, partition: str, changes: Sequence[_Change]) -> set[str]:
        """Which of *changes* no longer meet the row they were made for: all of them at once, not one per attempt."""
        present = self._table.read(((partition, change.id) for change in changes), map)
        etags = {entity["RowKey"]: _etag(entity) for entity in present}
        return {change.id for change in changes if etags.get(change.id) != change.ticket}


def _without(changes: Sequence[_Change], stale: set[str], failed: tuple[_Change, Operation]) -> list[_Change]:
    """What is left to submit; adds to *stale* the row that failed for a reason which is gone again.

    A pointer to be deleted that isn't there is left alone: the row decides, and must stay writable.
    """
    change, operation = failed
    if operation[0] == "delete" and change.id not in stale:
        healed = replace(change, operations=tuple(each for each in change.operations if each is not operation))
        changes = [healed if each is change else each for each in changes]
    else:
        stale.add(change.id)
    return [each for each in changes if each.id not in stale]


def _transactions(changes: Sequence[_Change]) -> Iterator[list[_Change]]:
    """*changes* in parts that fit into one transaction together with the counts."""
    part: list[_Change] = []
    entities = size = 0
    for change in changes:
        entities += len(change.operations)
        size += change.weight
        if part and (entities >= TRANSACTION_ENTITIES or size > TRANSACTION_BYTES):
            yield part
            part, entities, size = [], len(change.operations), change.weight
        part.append(change)
    if part:
        yield part


def _change(partition: str, row: LedgerRow) -> _Change:
    old = _Ticket(*json.loads(row.ticket)) if row.ticket else None
    entity = _entity(partition, row.id, _plain(row))
    if row.state == State.GONE:
        entity["gone"] = True  # so that `ids` needn't read the content
    before = _pointer(old.state, old.due, row.id) if old else None
    after = _pointer(row.state, _stamp(row.due), row.id)
    operations = [_put(entity, old.etag if old else None)]
    if before and before != after:
        operations.append(("delete", _entity(partition, before), {}))
    if after and (before != after or (old and old.reason != row.reason)):
        operations.append(("upsert", _entity(partition, after) | {"reason": row.reason}, {"mode": UpdateMode.REPLACE}))
    return _Change(row.id, old.etag if old else None, tuple(operations), _moves(old, row), _weight(entity))


def _moves(old: _Ticket | None, row: LedgerRow) -> Mapping[str, int]:
    moves = Counter({str(row.state): 1, "roles": len(row.roles), LEFT_OUT: int(row.left_out)})
    moves.update(_why(row.state, row.reason))
    if old:
        moves.subtract({old.state: 1, "roles": old.roles, LEFT_OUT: old.left_out})
        moves.subtract(_why(old.state, old.reason))
    return moves


def _why(state: str, reason: str) -> Mapping[str, int]:
    """The name under which a row that is not in step is counted besides."""
    return {} if state in {State.IN_STEP, State.GONE} else {f"{state}|{reason}": 1}


def _tally(numbers: Mapping[str, int]) -> Tally:
    return Tally(
        {name: number for name, number in numbers.items() if "|" not in name},
        {(name.partition("|")[0], name.partition("|")[2]): n for name, n in numbers.items() if "|" in name and n},
    )


def _put(entity: Entity, ticket: str | None) -> Operation:
    return ("update", entity, _under(ticket)) if ticket else ("create", entity, {})


def _pointer(state: str, due: str, id: str) -> str | None:
    """RowKey of the pointer to a row in *state*; a row that waits without a time is due at once."""
    match state:
        case State.WAITING:
            return f"!{state}|{due or '-'}|{id}"
        case State.PARKED | State.HELD:
            return f"!{state}|{id}"
    return None


def _pointed_at(pointer: str) -> str:
    return pointer.rpartition("|")[2]


def _told(entity: Entity, head: int) -> Pointer:
    key = entity["RowKey"]
    return Pointer(_pointed_at(key), entity.get("reason") or "", key[head:])


def _stamp(moment: datetime | None) -> str:
    """UTC in a fixed width, so that the order of texts is the order of times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment else ""


def _plain(row: LedgerRow) -> dict[str, Any]:
    return {
        "v": SCHEMA,
        "state": row.state,
        "fields": dict(row.fields),
        "roles": [[role.lead, role.text, role.primary, role.created, *role.reasons] for role in row.roles],
        "mapping": row.mapping,
        "version": row.version,
        "reason": row.reason,
        "attempts": row.attempts,
        "due": _stamp(row.due),
        "approved": row.approved,
        "seen": row.seen,
    }


def _row(entity: Entity) -> LedgerRow:
    return _understood(entity["RowKey"], _etag(entity), _content(entity))


def _understood(id: str, etag: str, plain: dict[str, Any]) -> LedgerRow:
    """The row that `_plain` wrote down."""
    if plain.pop("v") > SCHEMA:
        raise NewerVersion("the ledger was written by a newer version of this app: deploy that version again")
    state, due, roles = plain.pop("state"), plain.pop("due"), plain.pop("roles")
    row = LedgerRow(
        id=id,
        state=State(state),
        roles=tuple(map(_role, roles)),
        due=datetime.fromisoformat(due) if due else None,
        **plain,
    )
    return replace(row, ticket=json.dumps([etag, state, due, len(roles), row.left_out, row.reason]))


def _role(plain: Sequence[Any]) -> Role:
    lead, text, primary, created, *reasons = plain
    return Role(lead, text, primary, created, tuple(reasons))


# --- maps and documents -----------------------------------------------------------------------------------------


class TableMap:
    """Port `Lookup`: 16 partitions by a hash of the id, which need not be a GUID."""

    def __init__(self, table: TableClient, fan_out: FanOut) -> None:
        self._table = _Table(table)
        self._fan_out = fan_out

    def read(self, ids: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        pairs = ((_bucket(id), _name(id)) for id in set(ids))
        return {entity["RowKey"]: _content(entity) for entity in self._table.read(pairs, self._fan_out)}

    def write(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        entities = (
            _entity(_bucket(id), _name(id), dict(value)) | ({"missing": True} if value.get("missing") else {})
            for id, value in values.items()
        )
        self._submit("upsert", entities, {"mode": UpdateMode.REPLACE})

    def missing(self) -> int:
        return sum(map(len, self._table.pages("missing eq true", "RowKey")))

    def delete(self, ids: Collection[str]) -> None:
        """A transaction fails if one of its entities is missing: only those that are there go into one."""
        present = self._table.read(((_bucket(id), _name(id)) for id in set(ids)), self._fan_out)
        self._submit("delete", (_entity(each["PartitionKey"], each["RowKey"]) for each in present), {})

    def _submit(self, name: str, entities: Iterable[Entity], conditions: Mapping[str, Any]) -> None:
        partitions: defaultdict[str, list[_Change]] = defaultdict(list)
        for entity in entities:
            change = _Change(entity["RowKey"], None, ((name, entity, conditions),), {}, _weight(entity))
            partitions[entity["PartitionKey"]].append(change)
        parts = [part for changes in partitions.values() for part in _transactions(changes)]
        for _ in self._fan_out(self._commit, parts):
            pass

    def _commit(self, changes: Sequence[_Change]) -> None:
        operations = [operation for change in changes for operation in change.operations]
        if self._table.submit(operations) is not None:  # somebody else deleted one of them in between
            for _, entity, _ in operations:
                self._table.drop(entity["PartitionKey"], entity["RowKey"])


class TableConnections:
    """Port `ConnectionMap`: each write is one entity, a segment; `tidy` folds them into leaves, which are in order.

    A deletion is a segment's pair as well: with `_NOBODY` it ends what stands before it. Segments go only after all
    their pairs are in the leaves, and are read before the leaves: a pair that moves meanwhile is seen twice.
    """

    def __init__(self, table: TableClient, clock: Clock, fan_out: FanOut) -> None:
        self._table = _Table(table)
        self._clock = clock
        self._fan_out = fan_out
        self._numbers = count()  # a clock may stand still between two writes
        self._singly = TableMap(table, fan_out)

    def read(self, ids: Collection[str]) -> Mapping[str, Set[str]]:
        wanted = {_hex(id): id for id in ids}
        if not wanted:
            return {}
        pages = self._table.pages("PartitionKey eq 'new'")
        later = [pair for page in pages for entity in page for pair in _pairs(entity) if pair[0] in wanted]
        keys = sorted(wanted)
        parts = self._by_leaf(keys) if len(keys) >= FEW else [[key] for key in keys]
        found: _Pairs = {}
        for held in self._fan_out(self._in_leaves, parts):
            found |= held
        _add(found, later)
        return {wanted[key]: {str(UUID(each)) for each in known} for key, known in found.items()}

    def write(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Under keys that nobody else uses: writers are in nobody's way."""
        stamp = _stamp(self._clock.now())
        for start in range(0, len(pairs), PAIRS):
            part = [(_hex(connection), _hex(opportunity)) for connection, opportunity in pairs[start : start + PAIRS]]
            entity = _entity("new", f"{stamp} {next(self._numbers):08} {uuid4().hex}", _packed(part))
            if self._table.submit([("upsert", entity, {"mode": UpdateMode.REPLACE})]) is not None:
                raise Unavailable("The connection map takes no entry.")

    def delete(self, ids: Collection[str]) -> None:
        self.write([(id, _NOBODY) for id in ids])

    def tidy(self, *, until: float) -> None:
        """Once in `SEGMENTS` writes, each leaf that changes. What was done when time ran out, the next one skips."""
        query = "PartitionKey eq 'new'"
        while self._clock.monotonic() < until:
            if len(self._table.query(query, {}, SEGMENTS, "RowKey")) < SEGMENTS:
                return
            segments = self._table.query(query, {}, SEGMENTS)
            changes: defaultdict[str, list[str]] = defaultdict(list)
            for connection, opportunity in (pair for segment in segments for pair in _pairs(segment)):
                changes[connection].append(opportunity)
            if all(self._fan_out(partial(self._fold, changes, until), self._by_leaf(sorted(changes)))):
                for segment in segments:
                    self._table.drop("new", segment["RowKey"])

    def take_over(self, *, until: float) -> bool:
        """Schema 1 may have an entity for each connection: they become segments. Whether that was done by *until*.

        An entity goes after its pair is in a segment, so what was done is not done again.
        """
        for bucket in BUCKETS:
            for page in self._table.pages("PartitionKey eq @bucket", keys={"bucket": bucket}):
                if page and self._clock.monotonic() >= until:
                    return False
                self.write([(each["RowKey"], _content(each)["o"]) for each in page])
                self._singly.delete([each["RowKey"] for each in page])
                self.tidy(until=until)
        return True

    def _in_leaves(self, keys: Sequence[str]) -> _Pairs:
        found: _Pairs = {}
        while keys:
            leaf = self._leaf(keys[0])
            rest = bisect_right(keys, leaf["RowKey"]) if leaf else len(keys)
            wanted, keys = set(keys[:rest]), keys[rest:]
            _add(found, (pair for pair in (_pairs(leaf) if leaf else ()) if pair[0] in wanted))
        return found

    def _leaf(self, key: str) -> Entity | None:
        """Where *key* is, or would be; None before there is any leaf, since the last one takes all that is greater."""
        found = self._table.query("PartitionKey eq 'base' and RowKey ge @key", {"key": key}, 1)
        return found[0] if found else None

    def _by_leaf(self, keys: list[str]) -> Iterator[list[str]]:
        """*keys*, in order, in parts that no two leaves share."""
        for page in self._table.pages("PartitionKey eq 'base'", "RowKey"):
            for leaf in page:
                number = bisect_right(keys, leaf["RowKey"])
                if number:
                    yield keys[:number]
                keys = keys[number:]
        if keys:
            yield keys

    def _fold(self, changes: Mapping[str, Sequence[str]], until: float, keys: Sequence[str]) -> bool:
        """The *changes* of *keys* into their leaf, again when somebody else was first; False if time ran out."""
        while keys and self._clock.monotonic() < until:
            leaf = self._leaf(keys[0])
            last = leaf["RowKey"] if leaf else _LAST
            number = min(bisect_right(keys, last), FOLDED)
            held: _Pairs = {}
            _add(held, _pairs(leaf) if leaf else ())
            changed = _add(held, ((key, each) for key in keys[:number] for each in changes[key]))
            if not changed or self._table.submit(_leaves(held, last, _etag(leaf) if leaf else None)) is None:
                keys = keys[number:]
        return not keys


_Pair = tuple[str, str]  # connection and opportunity in 32 hex digits each
_Pairs = dict[str, set[str]]
_NOBODY = "0" * 32
_LAST = "f" * 32


def _add(held: _Pairs, pairs: Iterable[_Pair]) -> bool:
    """Put *pairs* into *held*, in order; whether that changed anything."""
    changed = False
    for connection, opportunity in pairs:
        if opportunity == _NOBODY:
            changed |= held.pop(connection, None) is not None
        elif opportunity not in (known := held.setdefault(connection, set())):
            known.add(opportunity)
            changed = True
    return changed


def _leaves(held: _Pairs, last: str, ticket: str | None) -> list[Operation]:
    """The leaf up to *last*, under *ticket*; of one that holds too much, even parts, each a new leaf but the last."""
    keys = sorted(held)
    number = min(-(-sum(map(len, held.values())) // PAIRS), len(keys)) or 1
    cuts = [len(keys) * part // number for part in range(number + 1)]
    parts = [keys[start:end] for start, end in pairwise(cuts)]
    names = [*(part[-1] for part in parts[:-1]), last]
    entities = [
        _entity("base", name, _packed((key, each) for key in part for each in sorted(held[key])))
        for name, part in zip(names, parts, strict=True)
    ]
    return [*(_put(entity, None) for entity in entities[:-1]), _put(entities[-1], ticket)]


def _packed(pairs: Iterable[_Pair]) -> str:
    return b64encode(b"".join(bytes.fromhex(connection + opportunity) for connection, opportunity in pairs)).decode()


def _pairs(entity: Entity) -> Iterator[_Pair]:
    digits = b64decode(_content(entity)).hex()
    return ((digits[start : start + 32], digits[start + 32 : start + 64]) for start in range(0, len(digits), 64))


def _hex(id: str) -> str:
    return id.replace("-", "")


class TableHistory:
    """Port `History`: an entity for each post of an opportunity, in the partition of its ledger row."""

    def __init__(self, table: TableClient) -> None:
        self._table = _Table(table)

    def add(self, at: datetime, values: Mapping[str, Mapping[str, Any]]) -> None:
        partitions: defaultdict[str, list[_Change]] = defaultdict(list)
        for id, fields in values.items():
            entity = _entity(id[:1], f"{id}|{_stamp(at)}", dict(fields))
            step = ("upsert", entity, {"mode": UpdateMode.REPLACE})
            partitions[id[:1]].append(_Change(id, None, (step,), {}, _weight(entity)))
        for part in (part for changes in partitions.values() for part in _transactions(changes)):
            self._table.submit([operation for change in part for operation in change.operations])

    def of(self, id: str) -> Sequence[tuple[str, Mapping[str, Any]]]:
        query = "PartitionKey eq @partition and RowKey ge @first and RowKey le @last"
        keys = {"partition": id[:1], "first": f"{id}|", "last": f"{id}|~"}
        found = self._table.query(query, keys, PAGE)
        return [(entity["RowKey"].rpartition("|")[2], _content(entity)) for entity in reversed(found)]

    def forget(self, before: datetime) -> None:
        for page in self._table.pages("RowKey ge '0'", "PartitionKey", "RowKey"):
            for entity in page:
                if entity["RowKey"].rpartition("|")[2] < _stamp(before):
                    self._table.drop(entity["PartitionKey"], entity["RowKey"])


class TableDocuments:
    """Port `Documents`: a partition for each kind."""

    def __init__(self, table: TableClient) -> None:
        self._table = _Table(table)

    def read(self, kind: str, name: str) -> Document | None:
        entity = self._table.get(_name(kind), _name(name))
        return Document(_content(entity), _etag(entity)) if entity else None

    def write(self, kind: str, name: str, value: Mapping[str, Any], ticket: str | None) -> str | None:
        return self._table.put(_entity(_name(kind), _name(name), dict(value)), ticket)

    def list(self, kind: str, *, after: str = "", limit: int = 100) -> Sequence[tuple[str, Mapping[str, Any]]]:
        query = "PartitionKey eq @kind and RowKey gt @after"
        entities = self._table.query(query, {"kind": _name(kind), "after": after}, limit)
        return [(entity["RowKey"], _content(entity)) for entity in entities]

    def delete(self, kind: str, name: str) -> None:
        self._table.drop(_name(kind), _name(name))


_NAME = re.compile(r"[A-Za-z0-9 !$&()*+,.:;<=>@\[\]^_`{|}~-]{1,200}")


def _name(text: str) -> str:
    """*text* as a key. Tables forbid / \\ # ? and control characters; an escape would change the order of names."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"a name in storage must be 1 to 200 of A-Z a-z 0-9 and plain punctuation, not {text[:40]!r}")
    return text


def _bucket(id: str) -> str:
    return blake2b(id.encode(), digest_size=1).hexdigest()[0]
