"""The real engine as a tree of steps: run it until it asks a port for something, stop there, go on with an answer.

An actor (one delivery, one tick) is ordinary code without memory of its own, so what it does next follows from
what it was told so far. `Steps` therefore runs it from its start, gives the answers already known, and stops it at
the first call that has none. Every such point is kept: the code runs once for each history, however many
interleavings lead there.

Only what other actors can notice is such a call. The rest is answered at once, the same each time: descriptions,
labels, people (every look-up finds the same person, remembered or not), counters far below their limits, notes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from typing import Any

from sync_core.engine import Engine
from sync_core.errors import DeltaLinkExpired, OutOfTime, Unavailable
from sync_core.flows.world import World
from sync_core.mapping import parse
from sync_core.messages import encode
from sync_core.model import (
    SCHEMA,
    Answer,
    Answers,
    ChangePage,
    Connection,
    ConnectionRole,
    Document,
    Lane,
    Lead,
    LedgerRow,
    MarketoField,
    MarketoObject,
    Role,
    State,
    Work,
)

CONFIG = """
[opportunity]
key  = { column = "opportunityid", prefix = "" }
name = "name"
[company]
key     = { column = "accountid", prefix = "" }
company = "name"
[people]
match = [{ marketo = "email", dataverse = "emailaddress1" }]
"""
DEAL = "d0000000-0000-4000-8000-000000000000"
ANN = "a0000000-0000-4000-8000-000000000001"  # the stakeholder
BEN = "a0000000-0000-4000-8000-000000000002"  # the customer, where there is one
ACME = "c0000000-0000-4000-8000-000000000001"
BOLT = "c0000000-0000-4000-8000-000000000002"
LEADS = {"ann@example.test": 1, "ben@example.test": 2}
CONTACTS = {ANN: "ann@example.test", BEN: "ben@example.test"}
ROLE_ID = "e0000000-0000-4000-8000-000000000001"
ROLES = {ROLE_ID: ConnectionRole("Champion", 1000)}
CREATED = "2026-01-05T09:00:00Z"
LATE_WRITE = 300

# Times are told only as far as the code compares them: a row was seen before now; its tombstone is older or younger.
NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
LEASE_ENDS = NOW + timedelta(minutes=10)
LONG_AGO, SEEN, LATELY = (datetime(2026, month, 1, tzinfo=UTC).isoformat() for month in (1, 2, 3))
AGES = {"older": LONG_AGO, "younger": LATELY}
TICKET = "the ticket it was read with"
FEED = ("phase", "link", "since", "again", "force", "tracked")

Request = tuple[Any, ...]
Result = Any


class Halt(BaseException):
    """The actor stops at a call that has no answer yet: nothing of ours catches it."""


class Point:
    """One actor between two steps: what it asks for next (None: it is done), and where each answer leads."""

    __slots__ = ("history", "next", "number", "request", "root")

    def __init__(self, number: int, root: Request, history: tuple[Result, ...], request: Request | None) -> None:
        self.number = number
        self.root = root
        self.history = history
        self.request = request
        self.next: dict[Result, Point] = {}


class Steps:
    """The points of all actors, found as they are needed. *dated*: ticks tell the time by the edits made so far."""

    def __init__(self, *, dated: bool = False, engine: type[Engine] = Engine) -> None:
        self.dated = dated
        self.points: list[Point] = []
        self._starts: dict[Request, Point] = {}
        self._answers: Sequence[Result] = ()
        self._given = 0
        self._request: Request | None = None
        self._ticking = False
        clock = _Clock(self)
        self.engine = engine(
            World(
                source=_Dataverse(self),
                target=_Marketo(self),
                opportunities=_Opportunities(self),
                companies=_Ledger(self),
                sales_persons=_Ledger(self),
                connections=_Connections(self),
                people=_People(),
                tombstones=_Tombstones(self),
                documents=_Documents(self),
                queue=_Queue(self),
                limiter=None,
                clock=clock,
                config=parse(CONFIG),
                late_write=LATE_WRITE,
                subscription="123-TST-456",
            )
        )

    def delivery(self, opportunities: tuple[str, ...], accounts: tuple[str, ...], force: str) -> Point:
        """A worker receives a message; *force* is `""`, `"force"` (it says so) or `"again"` (not the first time)."""
        return self._start(("delivery", opportunities, accounts, force))

    def tick(self) -> Point:
        return self._start(("tick",))

    def after(self, point: Point, result: Result) -> Point:
        found = point.next.get(result)
        if found is None:
            found = point.next[result] = self._run(point.root, (*point.history, result))
        return found

    def ask(self, *request: Any) -> Result:
        """The answer to *request*, or the end of this run."""
        if self._given < len(self._answers):
            self._given += 1
            return self._answers[self._given - 1]
        self._request = request
        raise Halt

    def now(self) -> datetime:
        """Ticks of a *dated* search: an hour for each edit, so that `modified_since` can be answered exactly."""
        return NOW + timedelta(hours=self.ask("the time")) if self.dated and self._ticking else NOW

    def _start(self, root: Request) -> Point:
        if root not in self._starts:
            self._starts[root] = self._run(root, ())
        return self._starts[root]

    def _run(self, root: Request, history: tuple[Result, ...]) -> Point:
        self._answers, self._given, self._request = history, 0, None
        self._ticking = root[0] == "tick"
        try:
            if self._ticking:
                self.engine.detect()
            else:
                self._deliver(*root[1:])
        except Halt:
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, the search shows how it came about
            self._request = ("raise", repr(error))
        point = Point(len(self.points), root, history, self._request)
        self.points.append(point)
        return point

    def _deliver(self, opportunities: tuple[str, ...], accounts: tuple[str, ...], force: str) -> None:
        body = encode(Work(opportunities, accounts, force=force == "force"))
        count = 2 if force == "again" else 1
        self.engine.deliver(body, dequeue_count=count, lease_ends=LEASE_ENDS, lane=Lane.FRESH)


# --- ports: each call is a question to whoever schedules the actor ------------------------------------------------


class _Port:
    def __init__(self, steps: Steps) -> None:
        self.ask = steps.ask
        self.now = steps.now


class _Clock(_Port):
    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None: ...


class _Dataverse(_Port):
    """One opportunity; Ann is or is not its stakeholder; Ben may be its customer and works somewhere."""

    def organization(self) -> str:
        return "org"

    def newest_versions(self) -> Mapping[str, int]:
        return {}

    def changes(self, table: str, link: str | None) -> ChangePage:
        page = self.ask("changes", table, link or "")
        if page == "expired":
            raise DeltaLinkExpired
        rows, deleted, next_link, delta_link = page
        return ChangePage([_tracked(table, key) for key in rows], deleted, next_link or None, delta_link or None)

    def modified_since(self, table: str, since: datetime) -> Iterator[Sequence[str]]:
        yield self.ask("modified since", -(-(since - NOW) // timedelta(hours=1)))

    def ids(self, table: str) -> Iterator[Sequence[str]]:
        yield self.ask("all ids")

    def columns(self, table: str) -> Mapping[str, str]:
        return {"name": "String"}

    def rows(
        self, table: str, ids: Collection[str], columns: Collection[str], names: Collection[str] = ()
    ) -> Mapping[str, Mapping[str, Any]]:
        if not ids:
            return {}
        if table == "opportunity":
            found = self.ask("read opportunity")
            return {DEAL: _opportunity(*found)} if found else {}
        if table == "account":
            found = self.ask("read accounts", tuple(sorted(ids)))
            return {key: {"accountid": key, "name": name, "versionnumber": number} for key, name, number in found}
        return {key: self._contact(key) for key in sorted(ids)}

    def _contact(self, key: str) -> Mapping[str, Any]:
        employer = self.ask("read employer") if key == BEN else None
        return {"contactid": key, "_accountid_value": employer, "_masterid_value": None, "emailaddress1": CONTACTS[key]}

    def connections(self, opportunities: Collection[str]) -> Mapping[str, Sequence[Connection]]:
        found = self.ask("read connections")
        return {DEAL: [Connection(key, DEAL, ANN, 2, ROLE_ID, CREATED, True) for key in found]}

    def connection_roles(self) -> Mapping[str, ConnectionRole]:
        return ROLES

    def opportunities_of_contacts(self, contacts: Collection[str]) -> set[str]:
        return set(self.ask("opportunities of Ben")) if BEN in contacts else set()


def _opportunity(name: str, customer: str) -> dict[str, Any]:
    return {
        "opportunityid": DEAL,
        "name": name,
        "createdon": CREATED,
        "_customerid_value": customer or None,
        "_contactid_value": customer or None,
        "_accountid_value": None,
    }


def _tracked(table: str, key: str) -> dict[str, Any]:
    """A row of a tracked read."""
    if table != "connection":
        return {f"{table}id": key}
    ends = {"_record1id_value": DEAL, "record1objecttypecode": 3, "_record2id_value": ANN, "record2objecttypecode": 2}
    return {"connectionid": key, **ends}


class _Marketo(_Port):
    def yielding(self) -> _Marketo:
        return self

    def describe(self, kind: MarketoObject) -> Mapping[str, MarketoField]:
        return {name: MarketoField(name, "string", 255, updateable=True) for name in ("name", "company")}

    def upsert(self, kind: MarketoObject, records: Sequence[Mapping[str, Any]], *, until: datetime) -> Answers:
        return self._write("upsert", kind, records, until)

    def delete(self, kind: MarketoObject, keys: Sequence[Mapping[str, Any]], *, until: datetime) -> Answers:
        return self._write("delete", kind, keys, until)

    def _write(self, what: str, kind: MarketoObject, records: Sequence[Mapping[str, Any]], until: datetime) -> Answers:
        in_time = until <= LEASE_ENDS - timedelta(seconds=LATE_WRITE)
        result = self.ask(what, kind.value, tuple(tuple(sorted(record.items())) for record in records), in_time)
        if result == "out of time":
            raise OutOfTime("the lease is too old", delay=1.0)
        if result == "no answer":
            raise Unavailable("no answer", unanswered=True)
        answers, unanswered = result
        return Answers([Answer("skipped", "1013") if one == "1013" else Answer(one) for one in answers], unanswered)

    def leads(self, filter_type: str, values: Sequence[str]) -> Sequence[Lead]:
        return [Lead(LEADS[value], value, CREATED) for value in values]

    def roles(self, external_ids: Sequence[str]) -> Mapping[str, Sequence[Role]]:
        found = self.ask("read roles back")
        return {DEAL: [Role(lead, text, primary, created) for (lead, text), (primary, created) in found]}

    def records(
        self, kind: MarketoObject, keys: Sequence[str], fields: Collection[str]
    ) -> Mapping[str, Mapping[str, Any]]:
        return {DEAL: {}} if self.ask("is the opportunity in Marketo") else {}


class _Ledger(_Port):
    """Whether a ticket still holds is the scheduler's knowledge: here every ticket is the same word."""

    def rows(self, ids: Collection[str]) -> Mapping[str, LedgerRow]:
        found = self.ask("read ledger", tuple(sorted(ids))) if ids else ()
        return {key: _unpacked(key, content) for key, content in found}

    def write(self, rows: Sequence[LedgerRow]) -> set[str]:
        return set(self.ask("write ledger", tuple((row.id, row.known, _packed(row)) for row in rows)))

    def due(self, now: datetime, limit: int) -> Sequence[str]:
        return ()

    def counts(self) -> Mapping[str, int]:
        return {State.IN_STEP: 1000, "roles": 1000}

    def ids(self) -> Iterator[Sequence[str]]:
        yield self.ask("companies of the ledger")


class _Opportunities(_Ledger):
    def due(self, now: datetime, limit: int) -> Sequence[str]:
        return self.ask("due")

    def ids(self) -> Iterator[Sequence[str]]:
        yield self.ask("opportunities of the ledger")


def _packed(row: LedgerRow) -> tuple[Any, ...]:
    roles = tuple(sorted((role.lead, role.text, role.primary, role.created, role.reasons) for role in row.roles))
    seen = "now" if row.seen == NOW.isoformat() else "before" if row.seen else ""
    fields = tuple(sorted(row.fields.items()))
    return row.state.value, fields, roles, row.mapping, row.reason, row.attempts, row.approved, seen


def _unpacked(key: str, content: tuple[Any, ...]) -> LedgerRow:
    state, fields, roles, mapping, reason, attempts, approved, seen = content
    return LedgerRow(
        key,
        TICKET,
        State(state),
        dict(fields),
        tuple(Role(*role) for role in roles),
        mapping,
        reason=reason,
        attempts=attempts,
        due=NOW if state == "waiting" else None,
        approved=approved,
        seen=SEEN if seen else "",
    )


class _Connections(_Port):
    """Which opportunity a connection belonged to."""

    def read(self, ids: Collection[str]) -> Mapping[str, Set[str]]:
        return {key: {DEAL} for key in (self.ask("recall", tuple(sorted(ids))) if ids else ())}

    def write(self, pairs: Sequence[tuple[str, str]]) -> None:
        if pairs:
            self.ask("remember", tuple(sorted({connection for connection, _ in pairs})))

    def delete(self, ids: Collection[str]) -> None:
        if ids:
            self.ask("forget", tuple(sorted(ids)))

    def tidy(self, *, until: float) -> None: ...


class _People:
    def read(self, ids: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        return {}

    def write(self, values: Mapping[str, Mapping[str, Any]]) -> None: ...

    def delete(self, ids: Collection[str]) -> None: ...


class _Tombstones(_Port):
    def read(self, ids: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        age = self.ask("read tombstone")
        return {DEAL: {"at": AGES[age]}} if age else {}

    def write(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        self.ask("bury")

    def delete(self, ids: Collection[str]) -> None:
        if ids:
            self.ask("unbury")


class _Documents(_Port):
    """Feeds, unmatched tombstones and the wish for a comparison are shared; the rest nobody waits for."""

    def read(self, kind: str, name: str) -> Document | None:
        if kind == "feed":
            return Document(_feed(self.ask("read link", name)), TICKET)
        if name == "comparison":
            return Document({}, TICKET) if self.ask("is a comparison asked for") else None
        value = _STAMPS.get(name) if kind == "stamp" else None
        return Document(value, TICKET) if value is not None else None

    def write(self, kind: str, name: str, value: Mapping[str, Any], ticket: str | None) -> str | None:
        if kind == "feed":
            return TICKET if self.ask("store link", name, tuple(value[part] or "" for part in FEED)) else None
        if name == "comparison":
            self.ask("ask for a comparison")
        if kind == "unmatched":
            self.ask("keep unmatched", tuple(value["ids"]))
        return TICKET

    def list(self, kind: str, *, after: str = "", limit: int = 100) -> Sequence[tuple[str, Mapping[str, Any]]]:
        ids = self.ask("list unmatched")
        return [(f"{NOW.isoformat()} 0000", {"ids": list(ids)})] if ids else []

    def delete(self, kind: str, name: str) -> None:
        self.ask("drop", name)


def _feed(value: Sequence[Any]) -> dict[str, Any]:
    phase, link, since, *flags = value
    return dict(zip(FEED, (phase, link or None, since, *map(bool, flags)), strict=True))


_STAMPS: Mapping[str, Mapping[str, Any]] = {
    "pair": {"organization": "org", "munchkin": "123-TST-456", "schema": SCHEMA, "witnesses": {}},
    "mapping": {"version": parse(CONFIG).version},
    "connection roles": {key: f"{role.category} {role.name}" for key, role in ROLES.items()},
}


class _Queue(_Port):
    def put(self, work: Work, *, after: timedelta = timedelta(0)) -> None:
        """Lane, reason and counts change nothing here: a delay counts only as at least L or less."""
        late = after >= timedelta(seconds=LATE_WRITE)
        self.ask("put", tuple(sorted(work.opportunities)), tuple(sorted(work.accounts)), work.force, late)

    def lengths(self) -> Mapping[str, int]:
        return {"fresh": 0, "slow": 0}

    def poisoned(self, lane: Lane) -> Sequence[Any]:
        return ()
