"""What the flows need from the world, said from their side. Adapters and the tests' fakes keep the same contracts.

Every method may raise `RetryLater` (or a subclass) when a service or the storage cannot answer now, and
`ConfigurationError` when a person has to change something.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from sync_core.model import (
    Answers,
    ChangePage,
    Connection,
    ConnectionRole,
    DataverseColumn,
    Document,
    HttpAnswer,
    Lane,
    Lead,
    LedgerRow,
    Letter,
    MarketoField,
    MarketoObject,
    Pointer,
    Rate,
    Role,
    Row,
    State,
    Tally,
    Work,
)

T = TypeVar("T")
R = TypeVar("R")


class FanOut(Protocol):
    """`map`, or a thread pool's `map`: results in input order."""

    def __call__(self, function: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]: ...


class Clock(Protocol):
    """The only source of time; all waiting goes through it."""

    def now(self) -> datetime:
        """The present, in UTC, with zone."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def sleep(self, seconds: float) -> None: ...


class Limiter(Protocol):
    """Marketo's limits, shared by all our instances (design.md §7)."""

    def call(self, *, hold: float, slow: bool = False) -> AbstractContextManager[None]:
        """Enter to spend one call; leave to give the concurrency slot back. A *slow* one lets the others go first.

        *hold* (seconds) is how long the slot stays taken when the holder dies or gets no answer: leaving with
        `Unavailable(unanswered=True)` keeps it until then. Waits up to 30 s, then raises `Throttled`;
        raises `QuotaExhausted` when the day's share is used up, `ConfigurationError` while the lane is stopped.
        """

    def pause(self, *, until: datetime, reason: str, stop: bool = False, quota: bool = False) -> None:
        """No call of anybody before *until*: after 606/615 (plain), 607 (*quota*), 603/1018 (*stop*)."""

    def used_today(self) -> int:
        """Calls counted since the last quota reset."""

    @property
    def shares(self) -> tuple[int, int]:
        """Our share: calls in 20 seconds, calls a day."""


class Dataverse(Protocol):
    """Reads only; the sync never writes to Dynamics."""

    def sign_in(self) -> None:
        """Get a token. Raises ConfigurationError, saying what to correct."""

    def organization(self) -> str:
        """OrganizationId of `WhoAmI`, lower case."""

    def check_read(self, table: str, *, tracked: bool) -> None:
        """Read one row of *table*; *tracked*: as a tracked read, which needs the right at organization level."""

    def tracked(self, table: str) -> bool:
        """Whether Dataverse keeps the changes of *table*."""

    def retention(self) -> int:
        """For how many days a delta link is good."""

    def newest_versions(self) -> Mapping[str, int]:
        """`versionnumber` of the opportunities written last, about twenty, by id."""

    def newest(self, table: str, columns: Collection[str]) -> Sequence[Row]:
        """The rows of *table* written last, about twenty, with *columns* (`$select` names)."""

    def changes(self, table: str, link: str | None) -> ChangePage:
        """One page of the tracked read of *table*: from the start (None) or from a next or delta link.

        Raises DeltaLinkExpired.
        """

    def modified_since(self, table: str, since: datetime) -> Iterator[Sequence[str]]:
        """Ids of rows with `modifiedon` ≥ *since*, page by page."""

    def ids(self, table: str) -> Iterator[Sequence[str]]:
        """All ids of *table*, page by page."""

    def opportunities_named(self, text: str, limit: int) -> Mapping[str, str]:
        """Names by id of the first *limit* opportunities whose name contains *text*, in order of name."""

    def rows(
        self, table: str, ids: Collection[str], columns: Collection[str], names: Collection[str] = ()
    ) -> Mapping[str, Row]:
        """The rows of *ids* that exist, by id, with *columns* (`$select` names).

        For each lookup in *names* (logical names) the name of what it names, as `lookup@name`.
        """

    def connections(self, opportunities: Collection[str]) -> Mapping[str, Sequence[Connection]]:
        """Pairs between these opportunities and anything, in either orientation, by opportunity."""

    def connection_roles(self) -> Mapping[str, ConnectionRole]:
        """All connection roles by id."""

    def opportunities_of_contacts(self, contacts: Collection[str]) -> set[str]:
        """Opportunities with one of *contacts*, or one merged into them, as customer, parent contact or connected."""

    def opportunities_of_roles(self, roles: Collection[str]) -> set[str]:
        """Opportunities with a connection that shows one of these connection roles."""

    def opportunities_of_accounts(self, accounts: Collection[str]) -> set[str]:
        """Opportunities with one of *accounts*, or a contact of theirs, as customer or in the form's fields."""

    def opportunities_of_teams(self, teams: Collection[str]) -> set[str]:
        """Opportunities that one of these teams owns."""

    def columns(self, table: str) -> Mapping[str, str]:
        """AttributeType by logical name of every column of *table*; raises ConfigurationError for an unknown table."""

    def secured(self, table: str) -> Collection[str]:
        """The columns of *table* with column security; whom no profile lets read one gets it as null."""

    def described(self, table: str) -> Mapping[str, DataverseColumn]:
        """Every column of *table* that holds a value of its own, by logical name."""

    def lengths(self, table: str) -> Mapping[str, int]:
        """How many characters each text column of *table* holds, by logical name."""

    def targets(self, table: str, lookup: str) -> Sequence[str]:
        """The tables whose rows *lookup* may name."""

    def rates(self) -> Mapping[str, Rate]:
        """The currencies of the organization by ISO code."""

    def labels(self, table: str, column: str, language: int) -> Mapping[int, str]:
        """The labels of a choice, state or status column in one language (LCID)."""


class DynamicsProbe(Protocol):
    """Dynamics as it answers, refusals and all: for `probe`, the one that may write there, and for nothing else."""

    def ask(self, method: str, path: str, *, prefer: str = "", body: Mapping[str, Any] | None = None) -> HttpAnswer:
        """The answer to one request, whatever its status: *path* is below `/api/data/v9.2/`, or a link that came.

        Sent again where nobody answered, so it must do no harm twice; a PATCH changes only what there is. Raises
        RetryLater, ConfigurationError (the sign-in, or a link to another host).
        """


class Marketo(Protocol):
    """One method call is one or more REST calls, each through the `Limiter`."""

    def yielding(self) -> Marketo:
        """The same, with calls that let everybody else's go first."""

    def sign_in(self) -> None:
        """Get a token. Raises ConfigurationError, saying what to correct."""

    def describe(self, kind: MarketoObject) -> Mapping[str, MarketoField]:
        """Fields by name, as the subscription describes them."""

    def searchable(self) -> Collection[str]:
        """The fields by which people can be asked for."""

    def usage(self) -> int:
        """Calls of today by everybody who uses the subscription, as Marketo counts them."""

    def skew(self) -> float | None:
        """Seconds that our clock is ahead of Marketo's, by its latest answer; None if there was none."""

    def upsert(self, kind: MarketoObject, records: Sequence[Mapping[str, Any]], *, until: datetime) -> Answers:
        """One `createOrUpdate` of at most 300 records; not sent from *until* on. Raises SplitBatch, OutOfTime."""

    def delete(self, kind: MarketoObject, keys: Sequence[Mapping[str, Any]], *, until: datetime) -> Answers:
        """One `delete.json` of at most 300 keys; the same promises as `upsert`."""

    def create_people(self, records: Sequence[Mapping[str, Any]], partition: str, *, until: datetime) -> Answers:
        """Create at most 300 people by e-mail address, in *partition* if given; who exists is skipped (1005)."""

    def link_people(self, records: Sequence[Mapping[str, Any]], *, until: datetime) -> Answers:
        """Update at most 300 people by `id`."""

    def leads(self, filter_type: str, values: Sequence[str]) -> Sequence[Lead]:
        """People whose *filter_type* is one of at most 300 values. Raises SplitBatch (more than 1,000 match)."""

    def roles(self, external_ids: Sequence[str]) -> Mapping[str, Sequence[Role]]:
        """Present roles of at most 300 opportunities, by externalOpportunityId (as Marketo spells it)."""

    def records(
        self, kind: MarketoObject, keys: Sequence[str], fields: Collection[str]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Present values of *fields* by key, for at most 300 opportunities, companies or sales persons that exist.

        Raises SplitBatch when the answer would be too big.
        """

    def holders(self, kind: MarketoObject, field: str, values: Sequence[str]) -> Mapping[str, Set[str]]:
        """Who refers to at most 300 *values* in the searchable *field*: keys of records of *kind* (ids of people).

        By value; one that nobody refers to is left out. Raises SplitBatch (more than 1,000 people).
        """


class MarketoProbe(Protocol):
    """Marketo as it answers, refusals and all: for experiments with records of one's own, and for nothing else."""

    def sign_in(self) -> None:
        """Get a token. Raises ConfigurationError, saying what to correct."""

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        hurried: bool = False,
    ) -> Mapping[str, Any]:
        """The envelope of one call to *path* (below `/rest/v1/`), sent exactly as it is given: `success` or `errors`.

        In it `unanswered`: an attempt at a write got no answer, and may still be applied. Raises RetryLater for what
        passes (no answer, 502, 606 …), after the usual repetitions. A *hurried* call goes past the `Limiter`, and
        606, 607 and 615 are its answer.
        """


class Ledger(Protocol):
    """Rows of one kind (opportunities or companies), written only under the ticket they were read with."""

    def rows(self, ids: Collection[str]) -> Mapping[str, LedgerRow]:
        """The rows that exist."""

    def write(self, rows: Sequence[LedgerRow]) -> set[str]:
        """Write each row if its ticket still holds (no ticket = insert); the ids of those that lost.

        The counts by state and the pointers to rows not in step change together with the row.
        """

    def due(self, now: datetime, limit: int) -> Sequence[str]:
        """Ids of waiting rows with `due` ≤ *now*, oldest first."""

    def in_state(self, state: State) -> Iterator[Sequence[str]]:
        """Ids of rows in a state other than in step or gone, page by page."""

    def pointers(
        self, state: State, *, reason: str = "", after: str = "", size: int = 1000
    ) -> Iterator[Sequence[Pointer]]:
        """The same with reasons, always in the same order: only those for *reason*, if given, behind the mark *after*.

        *size*, at most 1,000, is how many to fetch at once: about as many as are wanted.
        """

    def counts(self) -> Mapping[str, int]:
        """Rows by state (`State` values), of those in step `LEFT_OUT`, and `"roles"`; at most 20 storage operations."""

    def tally(self) -> Tally:
        """The counts, and the reasons of what is not in step, at the cost of the counts alone."""

    def ids(self, *, after: str = "", gone: bool = False) -> Iterator[Sequence[str]]:
        """Ids of all rows behind *after*, page by page, in order of id; those that are gone only if asked for."""

    def recount(self, *, mend: bool = False) -> Mapping[str, int]:
        """How much the counts of `tally` exceed the rows, by state, `LEFT_OUT`, `"roles"` and reason; none: they agree.

        Reads every row. *mend*: put the counts right. What is written all the time meanwhile is not told.
        """


class Lookup(Protocol):
    """An id → small JSON value map without conditions: contact → lead, tombstones."""

    def missing(self) -> int:
        """How many values have a true `missing`; reads through all of them."""

    def read(self, ids: Collection[str]) -> Mapping[str, Mapping[str, Any]]: ...

    def write(self, values: Mapping[str, Mapping[str, Any]]) -> None: ...

    def delete(self, ids: Collection[str]) -> None: ...


class ConnectionMap(Protocol):
    """The opportunities that a connection gave a role in: its tombstone carries nothing but its id.

    Ids are GUIDs in lower case. A set of pairs: writing adds, whatever is there, and the order of writers is no matter.
    """

    def read(self, ids: Collection[str]) -> Mapping[str, Set[str]]:
        """The opportunities of those that are on record."""

    def write(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Add (connection, opportunity) pairs."""

    def delete(self, ids: Collection[str]) -> None:
        """Forget connections that are gone for good. One recorded at the same time may stay, which does no harm."""

    def tidy(self, *, until: float) -> None:
        """Keep reading cheap, no longer than *until* by the monotonic clock; loses nothing wherever it ends."""


class Documents(Protocol):
    """Small named values changed by compare-and-swap: feeds, stamp, counters, limiter, runs."""

    def read(self, kind: str, name: str) -> Document | None: ...

    def write(self, kind: str, name: str, value: Mapping[str, Any], ticket: str | None) -> str | None:
        """Replace under *ticket*, insert when it is None; the new ticket, or None if somebody was first."""

    def list(self, kind: str, *, after: str = "", limit: int = 100) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Names greater than *after* with their values, in order of name."""

    def delete(self, kind: str, name: str) -> None: ...


class History(Protocol):
    """What was posted for opportunities, for a while: the one place that keeps values, and never of people."""

    def add(self, at: datetime, values: Mapping[str, Mapping[str, Any]]) -> None:
        """By opportunity the fields that changed, with the values that were posted."""

    def of(self, id: str) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """(time in ISO, fields) of one opportunity, the latest first."""

    def forget(self, before: datetime) -> None: ...


class Webhook(Protocol):
    """Where people are told of alerts."""

    def tell(self, title: str, lines: Sequence[str]) -> None:
        """Raises Unavailable, or ConfigurationError if the address is not taken."""


class Queue(Protocol):
    """The transport of ids: at least once, in no order (azure.md §3)."""

    def put(self, work: Work, *, after: timedelta = timedelta(0)) -> None:
        """Send to the queue of the work's lane; invisible for *after* (at most 7 days)."""

    def receive(self, lane: Lane, *, lease: timedelta) -> Letter | None: ...

    def peek(self, lane: Lane) -> Sequence[Letter]:
        """Up to 32 visible messages as they lie there: none is leased, none counts as received, no queue is made."""

    def done(self, lane: Lane, letter: Letter) -> None: ...

    def poisoned(self, lane: Lane) -> Sequence[Letter]:
        """Up to 32 messages of the lane's poison queue, leased for five minutes."""

    def done_poisoned(self, lane: Lane, letter: Letter) -> None: ...

    def set_aside(self, body: str, reason: str) -> None:
        """Keep a message that is not ours, with the reason, where nothing consumes it."""

    def give_back(self, lane: Lane, body: str, *, after: timedelta) -> None:
        """Send a message as it came, of whatever version; invisible for *after*."""

    def probe(self) -> None:
        """Send a message to a queue of its own, and delete it."""

    def lengths(self) -> Mapping[str, int]:
        """About how many messages: `fresh`, `slow`, `fresh poison`, `slow poison`, `unreadable`."""
