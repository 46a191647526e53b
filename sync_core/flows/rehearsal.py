"""A world in which everything runs as ever and nothing is written, for `plan` and `explain`, and in parts `rebuild`.

Reads go to the services and the storage. What would be written to storage lies over it until the end, so that one
delivery sees what another would have left. What would be sent to Marketo is answered as Marketo would answer, as far
as that can be known by asking what exists, and kept for whoever wants to count it.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import struct
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

from sync_core.errors import ConfigurationError, SyncError
from sync_core.flows.cases import Outcome
from sync_core.flows.observe import PER_CALL, chunks
from sync_core.flows.probe import answers
from sync_core.flows.references import COMPANY_ID, SALES_PERSON_ID
from sync_core.flows.roles import GONE, OPPORTUNITY_ID
from sync_core.flows.world import World
from sync_core.messages import decode, encode, split
from sync_core.model import (
    LEFT_OUT,
    Answer,
    Answers,
    Document,
    Lane,
    Lead,
    LedgerRow,
    Letter,
    MarketoField,
    MarketoObject,
    Pointer,
    Role,
    State,
    Tally,
    Work,
)
from sync_core.ports import ConnectionMap, Documents, History, Ledger, Lookup, Marketo
from sync_core.rules.questions import CLEARS_COMPANY, LOGS_NOOP, UNCHANGED, YES

KEYS = {
    MarketoObject.OPPORTUNITY: OPPORTUNITY_ID,
    MarketoObject.COMPANY: COMPANY_ID,
    MarketoObject.SALES_PERSON: SALES_PERSON_ID,
}
LARGEST_SINGLE = 3.4e38
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)")
PATIENCE = 5  # troubles of the services, one after the other, that a rehearsal bears
LONGEST_WAIT_S = 60.0
TIME_BOX_S = 60.0
WHOLE = timedelta(days=1)  # no lease ends here
REHEARSED = "rehearsed"  # the ticket of a row that lies over the storage


class Kept:
    """Texts by place and key, in a temporary file of SQLite's own that goes with it: memory stays flat."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._file = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute(
            "CREATE TABLE kept (place TEXT, key TEXT, text TEXT, PRIMARY KEY (place, key)) WITHOUT ROWID"
        )

    def read(self, place: str, keys: Collection[str]) -> dict[str, str]:
        # One statement for any number of keys: Python keeps the last 128, and with a mark for each key that is 10 MB.
        query = "SELECT key, text FROM kept WHERE place = ? AND key IN (SELECT value FROM json_each(?))"
        with self._lock:
            return dict(self._file.execute(query, (place, json.dumps(list(keys)))))

    def write(self, place: str, texts: Mapping[str, str]) -> None:
        with self._lock:
            rows = [(place, key, text) for key, text in texts.items()]
            self._file.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", rows)

    def delete(self, place: str, keys: Iterable[str]) -> None:
        with self._lock:
            self._file.executemany("DELETE FROM kept WHERE place = ? AND key = ?", [(place, key) for key in keys])

    def count(self, place: str) -> int:
        with self._lock:
            return int(self._file.execute("SELECT count(*) FROM kept WHERE place = ?", (place,)).fetchone()[0])

    def first(self, place: str, limit: int) -> list[str]:
        """The texts of the first keys."""
        query = "SELECT text FROM kept WHERE place = ? ORDER BY key LIMIT ?"
        with self._lock:
            return [text for (text,) in self._file.execute(query, (place, limit))]

    def close(self) -> None:
        """Once nobody is at it: whoever uses it may end, by Ctrl-C too, while its threads are at work."""
        with self._lock:
            self._file.close()


# --- storage ------------------------------------------------------------------------------------------------


class LedgerOver:
    """Port `Ledger` over the real one. `taken`: by id the row before and after, until somebody takes them."""

    def __init__(self, base: Ledger, kept: Kept, place: str) -> None:
        self._base = base
        self._kept = kept
        self._place = place
        self._moved: Counter[str] = Counter()
        self.taken: dict[str, tuple[LedgerRow, LedgerRow]] = {}

    def rows(self, ids: Collection[str]) -> Mapping[str, LedgerRow]:
        over = {key: _row(text) for key, text in self._kept.read(self._place, ids).items()}
        return {**self._base.rows([key for key in ids if key not in over]), **over}

    def untouched(self, ids: Collection[str]) -> list[str]:
        """Those that nothing was written for."""
        over = self._kept.read(self._place, ids)
        return [key for key in ids if key not in over]

    def write(self, rows: Sequence[LedgerRow]) -> set[str]:
        """Nobody else writes here, so nobody loses."""
        present = self.rows([row.id for row in rows])
        for row in rows:
            before = present.get(row.id, LedgerRow(row.id))
            if before.known:
                self._moved[before.state] -= 1
                self._moved[LEFT_OUT] -= before.left_out
            self._moved[row.state] += 1
            self._moved[LEFT_OUT] += row.left_out
            self._moved["roles"] += len(row.roles) - len(before.roles)
            self.taken[row.id] = (self.taken.get(row.id, (before, row))[0], row)
        self._kept.write(self._place, {row.id: _text(row) for row in rows})
        return set()

    def due(self, now: datetime, limit: int) -> Sequence[str]:
        return self.untouched(self._base.due(now, limit))

    def in_state(self, state: State) -> Iterator[Sequence[str]]:
        return self._base.in_state(state)

    def pointers(
        self, state: State, *, reason: str = "", after: str = "", size: int = 1000
    ) -> Iterator[Sequence[Pointer]]:
        return self._base.pointers(state, reason=reason, after=after, size=size)

    def tally(self) -> Tally:
        return replace(self._base.tally(), counts=self.counts())

    def counts(self) -> Mapping[str, int]:
        counts = Counter(self._base.counts())
        counts.update(self._moved)
        return counts

    def ids(self, *, after: str = "", gone: bool = False) -> Iterator[Sequence[str]]:
        return self._base.ids(after=after, gone=gone)

    def recount(self, *, mend: bool = False) -> Mapping[str, int]:
        return self._base.recount()


def _text(row: LedgerRow) -> str:
    due = row.due.isoformat() if row.due else None
    return json.dumps({**asdict(row), "ticket": REHEARSED, "due": due}, separators=(",", ":"))


def _row(text: str) -> LedgerRow:
    value = json.loads(text)
    value["state"] = State(value["state"])
    value["due"] = datetime.fromisoformat(value["due"]) if value["due"] else None
    value["roles"] = tuple(Role(**{**role, "reasons": tuple(role["reasons"])}) for role in value["roles"])
    return LedgerRow(**value)


class LookupOver:
    """Port `Lookup` over the real one; an empty text stands for what was deleted."""

    def __init__(self, base: Lookup, kept: Kept, place: str) -> None:
        self._base = base
        self._kept = kept
        self._place = place

    def read(self, ids: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        over = self._kept.read(self._place, ids)
        found = dict(self._base.read([key for key in ids if key not in over]))
        return found | {key: json.loads(text) for key, text in over.items() if text}

    def write(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        self._kept.write(self._place, {key: json.dumps(value) for key, value in values.items()})

    def delete(self, ids: Collection[str]) -> None:
        self._kept.write(self._place, dict.fromkeys(ids, ""))

    def missing(self) -> int:
        return self._base.missing()


class ConnectionsOver:
    """Port `ConnectionMap` over the real one, which a write does not read; an empty text: deleted."""

    def __init__(self, base: ConnectionMap, kept: Kept) -> None:
        self._base = base
        self._kept = kept

    def read(self, ids: Collection[str]) -> Mapping[str, Set[str]]:
        over = self._kept.read("connections", ids)
        found = dict(self._base.read([key for key in ids if over.get(key) != ""]))
        return found | {key: found.get(key, set()) | set(json.loads(text)) for key, text in over.items() if text}

    def write(self, pairs: Sequence[tuple[str, str]]) -> None:
        over = self._kept.read("connections", {connection for connection, _ in pairs})
        new = defaultdict[str, set[str]](set, {key: set(json.loads(text or "[]")) for key, text in over.items()})
        for connection, opportunity in pairs:
            new[connection].add(opportunity)
        self._kept.write("connections", {key: json.dumps(sorted(each)) for key, each in new.items()})

    def delete(self, ids: Collection[str]) -> None:
        self._kept.write("connections", dict.fromkeys(ids, ""))

    def tidy(self, *, until: float) -> None: ...


class PeopleOver(LookupOver):
    """`made`: the contacts of people who would have been created, by their ids below zero, until they are taken."""

    def __init__(self, base: Lookup, kept: Kept, place: str) -> None:
        super().__init__(base, kept, place)
        self.made: defaultdict[int, dict[str, None]] = defaultdict(dict)

    def write(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        super().write(values)
        for contact, entry in values.items():
            if entry["lead"] < 0:
                self.made[entry["lead"]][contact] = None


class HistoryOver:
    """What is kept can be read; nothing is added."""

    def __init__(self, history: History) -> None:
        self.of = history.of

    def add(self, at: datetime, values: Mapping[str, Mapping[str, Any]]) -> None:
        pass

    def forget(self, before: datetime) -> None:
        pass


class DocumentsOver:
    """Port `Documents` over the real one. `over`: what was written, by kind and name; None for what was deleted."""

    def __init__(self, base: Documents) -> None:
        self._base = base
        self.over: dict[tuple[str, str], Mapping[str, Any] | None] = {}

    def read(self, kind: str, name: str) -> Document | None:
        if (kind, name) not in self.over:
            return self._base.read(kind, name)
        value = self.over[kind, name]
        return None if value is None else Document(value, REHEARSED)

    def write(self, kind: str, name: str, value: Mapping[str, Any], ticket: str | None) -> str | None:
        present = self.read(kind, name)
        if ticket != (present.ticket if present else None):
            return None
        self.over[kind, name] = json.loads(json.dumps(value))
        return REHEARSED

    def list(self, kind: str, *, after: str = "", limit: int = 100) -> Sequence[tuple[str, Mapping[str, Any]]]:
        found = dict(self._base.list(kind, after=after, limit=limit))
        for (each, name), value in self.over.items():
            if each == kind and name > after:
                found.pop(name, None)
                found |= {} if value is None else {name: value}
        return sorted(found.items())[:limit]

    def delete(self, kind: str, name: str) -> None:
        self.over[kind, name] = None


class QueueApart:
    """Port `Queue` without the real one: receiving from that would already change it."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._sent: Counter[Lane] = Counter()
        self._taken: Counter[Lane] = Counter()

    def put(self, work: Work, *, after: timedelta = timedelta(0)) -> None:
        for part in split(work):
            self._kept.write(f"queue {work.lane}", {str(self._sent[work.lane]): encode(part)})
            self._sent[work.lane] += 1

    def take(self) -> Work | None:
        """The next work, fresh before slow, as `sync` takes it."""
        lane = next((lane for lane in Lane if self._taken[lane] < self._sent[lane]), None)
        if lane is None:
            return None
        place, key = f"queue {lane}", str(self._taken[lane])
        body = self._kept.read(place, [key])[key]
        self._kept.delete(place, [key])
        self._taken[lane] += 1
        return replace(decode(body), lane=lane)

    def receive(self, lane: Lane, *, lease: timedelta) -> Letter | None:
        return None

    def peek(self, lane: Lane) -> Sequence[Letter]:
        return ()

    def done(self, lane: Lane, letter: Letter) -> None: ...

    def poisoned(self, lane: Lane) -> Sequence[Letter]:
        return ()

    def done_poisoned(self, lane: Lane, letter: Letter) -> None: ...

    def set_aside(self, body: str, reason: str) -> None: ...

    def give_back(self, lane: Lane, body: str, *, after: timedelta) -> None: ...

    def probe(self) -> None: ...

    def lengths(self) -> Mapping[str, int]:
        return {str(lane): self._sent[lane] - self._taken[lane] for lane in Lane}


# --- Marketo ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """One write call that would have left, with Marketo's answers."""

    kind: MarketoObject
    records: Sequence[Mapping[str, Any]]
    answers: Sequence[Answer]
    deleted: bool = False


@dataclass(slots=True)
class Foretold:
    """Port `Marketo`: asks the real one what exists, and sends it nothing.

    `sent`, `reads` (calls that the real run would make as well) and `matched` (people who were found) grow until they
    are forgotten; `present` and `roles_of` are what Marketo holds before the delivery of what was asked about, by
    external key, with what earlier deliveries would have left there. People who would have been created are found
    again by the digests of what they are looked up by, under ids below zero. About a person the real one is asked
    once: many deliveries meet them. `asked`: calls that were made for it. *known*: what `probe`
    found out.
    """

    base: Marketo
    kept: Kept
    known: Mapping[str, str] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    reads: list[MarketoObject] = field(default_factory=list)
    present: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    roles_of: dict[str, Sequence[Role]] = field(default_factory=dict)
    matched: list[Lead] = field(default_factory=list)
    created: int = 0
    asked: int = 0
    lock: Lock = field(default_factory=Lock)

    def yielding(self) -> Foretold:
        """A person waits for a plan: its calls are nobody's backlog."""
        return self

    def describe(self, kind: MarketoObject) -> Mapping[str, MarketoField]:
        return self.base.describe(kind)

    def sign_in(self) -> None:
        self.base.sign_in()

    def searchable(self) -> Collection[str]:
        return self.base.searchable()

    def usage(self) -> int:
        return self.base.usage()

    def skew(self) -> float | None:
        return self.base.skew()

    def leads(self, filter_type: str, values: Sequence[str]) -> Sequence[Lead]:
        self.reads.append(MarketoObject.LEAD)
        found = [self._linked(lead) for lead in self._people(filter_type, values)]
        of = {_digest(filter_type, value): value for value in values}
        for digest, text in self.kept.read("new people", of.keys()).items():
            found.append(Lead(**json.loads(text), value=of[digest], updated=""))
        self.matched += found
        return found

    def roles(self, external_ids: Sequence[str]) -> Mapping[str, Sequence[Role]]:
        self.reads.append(MarketoObject.ROLE)
        found = self._roles(external_ids)
        self.roles_of |= found
        return found

    def records(
        self, kind: MarketoObject, keys: Sequence[str], fields: Collection[str]
    ) -> Mapping[str, Mapping[str, Any]]:
        self.reads.append(kind)
        self.asked += 1
        return self.base.records(kind, keys, fields)

    def holders(self, kind: MarketoObject, field: str, values: Sequence[str]) -> Mapping[str, Set[str]]:
        self.reads.append(kind)
        return self.base.holders(kind, field, values)

    def upsert(self, kind: MarketoObject, records: Sequence[Mapping[str, Any]], *, until: datetime) -> Answers:
        if kind is MarketoObject.ROLE:
            known = self._known_roles(records)
            self._keep_roles(records, there=True)
        else:
            known = self._known(kind, records)
            if kind is MarketoObject.OPPORTUNITY:
                self._ask_who_is_told(records, known)
            self._keep(kind, records)
        return self._answered(kind, records, [Answer("updated" if each else "created") for each in known])

    def delete(self, kind: MarketoObject, keys: Sequence[Mapping[str, Any]], *, until: datetime) -> Answers:
        if kind is MarketoObject.ROLE:
            known = self._known_roles(keys)
            self._keep_roles(keys, there=False)
        else:
            known = self._known(kind, keys)
            if kind is MarketoObject.OPPORTUNITY:  # their people are told, whoever gave them the role
                self._ask_roles({str(key[OPPORTUNITY_ID]) for key, there in zip(keys, known, strict=True) if there})
            self.kept.write(f"made {kind}", {str(key[KEYS[kind]]): "null" for key in keys})
        answers = [Answer("deleted") if each else Answer("skipped", GONE) for each in known]
        return self._answered(kind, keys, answers, deleted=True)

    def create_people(self, records: Sequence[Mapping[str, Any]], partition: str, *, until: datetime) -> Answers:
        answers = []
        for record in records:
            self.created += 1
            text = json.dumps({"id": -self.created, "company": record.get(COMPANY_ID) or ""})
            self.kept.write("new people", {_digest(name, str(value)): text for name, value in record.items()})
            answers.append(Answer("created", id=-self.created))
        return self._answered(MarketoObject.LEAD, records, answers)

    def link_people(self, records: Sequence[Mapping[str, Any]], *, until: datetime) -> Answers:
        self.kept.write("linked", {str(record["id"]): record[COMPANY_ID] for record in records})
        return self._answered(MarketoObject.LEAD, records, [Answer("updated", id=record["id"]) for record in records])

    def _answered(
        self,
        kind: MarketoObject,
        records: Sequence[Mapping[str, Any]],
        answers: Sequence[Answer],
        *,
        deleted: bool = False,
    ) -> Answers:
        self.sent.append(Sent(kind, records, answers, deleted))
        return Answers(answers)

    def _known(self, kind: MarketoObject, records: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Whether each is in Marketo, or would be by now."""
        name = KEYS[kind]
        keys = [str(record[name]) for record in records]
        fields = {each for record in records for each in record} - {name}
        self.asked += 1
        held = {key: dict(values) for key, values in self.base.records(kind, keys, sorted(fields)).items()}
        for key, text in self.kept.read(f"made {kind}", keys).items():
            made = json.loads(text)
            held[key] = held.get(key, {}) | (made or {})
            if made is None:
                del held[key]
        self.present |= held
        return [key in held for key in keys]

    def _people(self, filter_type: str, values: Sequence[str]) -> list[Lead]:
        """Everybody found by *values*; addresses are kept as digests only."""
        of = {_digest(filter_type, value): value for value in values}
        known = self.kept.read("asked leads", of.keys())
        if unknown := [value for digest, value in of.items() if digest not in known]:
            found = defaultdict[str, list[Any]](list)
            self.asked += 1
            for lead in self.base.leads(filter_type, unknown):
                found[_digest(filter_type, lead.value)].append({**asdict(lead), "value": ""})
            new = {digest: json.dumps(found[digest]) for digest in of.keys() - known.keys()}
            self.kept.write("asked leads", new)
            known |= new
        return [Lead(**{**lead, "value": of[digest]}) for digest, text in known.items() for lead in json.loads(text)]

    def _keep(self, kind: MarketoObject, records: Sequence[Mapping[str, Any]]) -> None:
        """What Marketo would hold for those who are asked about it again."""
        made = {str(record[KEYS[kind]]): dict(record) for record in records}
        for key, text in self.kept.read(f"made {kind}", made.keys()).items():
            made[key] = (json.loads(text) or {}) | made[key]
        self.kept.write(f"made {kind}", {key: json.dumps(record) for key, record in made.items()})

    def _ask_who_is_told(self, records: Sequence[Mapping[str, Any]], known: Sequence[bool]) -> None:
        """The roles of those whose update Marketo logs for each of their people; new ones have none."""
        asked = set()
        for record, there in zip(records, known, strict=True):
            external = str(record[OPPORTUNITY_ID])
            if not there:
                self.roles_of[external] = ()
            elif self.known.get(LOGS_NOOP) == YES or self.differing(MarketoObject.OPPORTUNITY, record):
                asked.add(external)
        self._ask_roles(asked)

    def _ask_roles(self, external_ids: set[str]) -> None:
        """For the plan alone: no call of the real run."""
        for batch in chunks(sorted(external_ids - self.roles_of.keys()), PER_CALL):
            self.roles_of |= self._roles(batch)

    def _roles(self, external_ids: Sequence[str]) -> dict[str, Sequence[Role]]:
        """Those in Marketo, and what would have become of them by now."""
        found = self.base.roles(external_ids)
        self.asked += max(1, -(-sum(map(len, found.values())) // PER_CALL))  # they come in pages
        kept = self.kept.read("roles", external_ids)
        roles: dict[str, Sequence[Role]] = {}
        for key in external_ids:
            held = {role.key: role for role in found.get(key, ())}
            for record, there in json.loads(kept.get(key, "[]")):
                role = role_of(record)
                held.pop(role.key, None)
                held |= {role.key: role} if there else {}
            roles[key] = tuple(held.values())
        return roles

    def _keep_roles(self, records: Sequence[Mapping[str, Any]], *, there: bool) -> None:
        new = defaultdict[str, list[Any]](list)
        for record in records:
            new[str(record[OPPORTUNITY_ID])].append((record, there))
        with self.lock:  # the roles of one opportunity may be in two calls at once
            kept = self.kept.read("roles", new.keys())
            texts = {key: json.dumps([*json.loads(kept.get(key, "[]")), *each]) for key, each in new.items()}
            self.kept.write("roles", texts)

    def differing(self, kind: MarketoObject, record: Mapping[str, Any]) -> dict[str, list[Any]]:
        """What Marketo holds and what it would, by field, of a record that was asked about."""
        present = self.present.get(str(record[KEYS[kind]]), {})
        values = {name: value for name, value in record.items() if name != KEYS[kind]}
        keeps_company = kind is MarketoObject.OPPORTUNITY and self.known.get(CLEARS_COMPANY) == UNCHANGED
        if keeps_company and values.get(COMPANY_ID, "") is None:
            del values[COMPANY_ID]
        return {name: [present.get(name), v] for name, v in values.items() if not same(present.get(name), v)}

    def forget(self) -> None:
        """What was told about one delivery."""
        self.sent, self.reads, self.matched, self.present, self.roles_of = [], [], [], {}, {}

    def _known_roles(self, records: Sequence[Mapping[str, Any]]) -> list[bool]:
        externals = [str(record[OPPORTUNITY_ID]) for record in records]
        self._ask_roles(set(externals))
        held = {key: {role.key for role in self.roles_of[key]} for key in set(externals)}
        return [role_of(record).key in held[key] for key, record in zip(externals, records, strict=True)]

    def _linked(self, lead: Lead) -> Lead:
        linked = self.kept.read("linked", [str(lead.id)])
        return replace(lead, company=linked[str(lead.id)]) if linked else lead


def work_of(kind: MarketoObject, ids: Sequence[str], why: str) -> Work:
    """Work that looks at records of one kind."""
    match kind:
        case MarketoObject.COMPANY:
            return Work(accounts=tuple(ids), why=why)
        case MarketoObject.SALES_PERSON:
            return Work(users=tuple(ids), why=why)
    return Work(tuple(ids), why=why)


def role_of(record: Mapping[str, Any]) -> Role:
    """The role that a record posts or takes away."""
    created = str(record.get("externalCreatedDate") or "")
    return Role(record["leadId"], str(record["role"]), bool(record.get("isPrimary")), created)


def _digest(name: str, value: str) -> str:
    """Addresses are nowhere written down."""
    return hashlib.blake2b(f"{name}\n{value.lower()}".encode(), digest_size=16).hexdigest()


def same(present: Any, value: Any) -> bool:
    """Whether Marketo holds *value*: numbers are 32-bit floats there, times whole seconds, an empty text nothing.

    No and 0 are no nothing: a field that gets one of them for the first time is changed, and Marketo logs it. But
    nothing makes No of a boolean that holds something (marketo.md §3.0).
    """
    if present in (None, "") and value in (None, ""):
        return True
    if present is False and value is None:
        return True
    if isinstance(present, float) or isinstance(value, float):
        return bool(_single(present) == _single(value))
    return bool(present == value) or (_moment(value) is not None and _moment(present) == _moment(value))


def same_role(one: Role, other: Role) -> bool:
    """Whether two roles of the same key hold the same."""
    return one.primary == other.primary and same(one.created, other.created)


def _moment(value: Any) -> datetime | None:
    """As Marketo keeps a time: to the second, wherever the clock stood (marketo.md §3.0)."""
    if not isinstance(value, str) or not MOMENT.fullmatch(value):
        return None
    with suppress(ValueError):  # no such day
        return datetime.fromisoformat(value).replace(microsecond=0)
    return None


def _single(value: Any) -> Any:
    """As a 32-bit float, where it is a number that fits into one."""
    if not isinstance(value, int | float) or abs(value) > LARGEST_SINGLE:
        return value
    return struct.unpack("f", struct.pack("f", value))[0]


# --- all of it ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Rehearsal:
    """`world` reads as the real one does and writes nowhere."""

    world: World
    marketo: Foretold
    opportunities: LedgerOver
    companies: LedgerOver
    sales_persons: LedgerOver
    people: PeopleOver
    queue: QueueApart
    kept: Kept
    troubles: int = 0

    def put_back(self, outcome: Outcome) -> None:
        """As the engine does what a delivery left, and waits here for the services; but nobody waits for ever."""
        for again, _ in outcome.again:
            self.queue.put(again)
        if outcome.trouble is None:
            self.troubles = 0
        else:
            self.bear(outcome.trouble, max(delay for _, delay in outcome.again))

    def bear(self, trouble: SyncError, delay: float) -> None:
        self.troubles += 1
        if isinstance(trouble, ConfigurationError) or self.troubles > PATIENCE:
            raise trouble
        self.world.clock.sleep(min(LONGEST_WAIT_S, delay))


def rehearse(world: World) -> Rehearsal:
    kept = Kept()
    opportunities, companies, sales_persons = (
        LedgerOver(ledger, kept, place) for place, ledger in world.ledgers.items()
    )
    marketo = Foretold(world.target, kept, answers(world))
    people, queue = PeopleOver(world.people, kept, "people"), QueueApart(kept)
    over = replace(
        world,
        target=marketo,
        opportunities=opportunities,
        companies=companies,
        sales_persons=sales_persons,
        connections=ConnectionsOver(world.connections, kept),
        people=people,
        tombstones=LookupOver(world.tombstones, kept, "tombstones"),
        documents=DocumentsOver(world.documents),
        history=HistoryOver(world.history) if world.history is not None else None,
        queue=queue,
    )
    return Rehearsal(over, marketo, opportunities, companies, sales_persons, people, queue, kept)
