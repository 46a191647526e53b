"""The nouns, frozen: what is read, what the ledger remembers, what a service answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

Row = Mapping[str, Any]
"""One Dataverse row as the Web API sends it, without annotations: `{"opportunityid": …, "_customerid_value": …}`."""

DEFAULT_SCHEDULE = "0 */5 * * * *"
"""When the timer looks for changes: NCRONTAB, UTC (design.md §8)."""

SCHEMA = 2
"""Version of what is stored: an older one is taken over (`flows.migrations`), a newer one refused (design.md §2.11).

1: until the first release. 2: connections in segments and leaves; reasons counted, and told at the pointers.
"""


class State(StrEnum):
    """Where one opportunity, company or sales person stands; the five add up to the ledger's rows (design.md §2.9)."""

    IN_STEP = "in step"
    WAITING = "waiting"
    PARKED = "parked"
    HELD = "held"
    GONE = "gone"


LEFT_OUT = "left out"
"""In a ledger's counts: how many of the rows in step are so because a filter leaves them out."""


class SignIn(StrEnum):
    """As whom we sign in to Dynamics, in words."""

    MANAGED_IDENTITY = "the app's managed identity"
    SECRET = "the app registration, by its secret"  # noqa: S105 - no secret
    CERTIFICATE = "the app registration, by its certificate"
    FEDERATED = "the app registration, by a managed identity"
    OWN = "you"


# --- read from Dataverse -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connection:
    """One stakeholder pair, whichever of its mirrored rows was read (dataverse.md §6.5).

    `key` is the smaller of the two connection ids, so that both orientations give the same value.
    """

    key: str
    opportunity: str
    other: str
    other_type: int
    role: str | None
    created: str
    active: bool


@dataclass(frozen=True, slots=True)
class ConnectionRole:
    name: str
    category: int | None


@dataclass(frozen=True, slots=True)
class Rate:
    """A currency of the organization: its id, and how many units one unit of the base currency is worth; 0: unknown."""

    id: str
    per_base: float


@dataclass(frozen=True, slots=True)
class ChangePage:
    """One page of a tracked read: exactly one of `next_link` and `delta_link` is set (dataverse.md §3.1)."""

    rows: Sequence[Row]
    deleted: Sequence[str]
    next_link: str | None
    delta_link: str | None


@dataclass(frozen=True, slots=True)
class DataverseColumn:
    """One column as the metadata describe it; `titles` are its display names in all languages, our user's own first."""

    name: str
    type: str
    titles: Sequence[str]
    custom: bool


# --- Marketo ------------------------------------------------------------------------------------------------


class MarketoObject(StrEnum):
    """The REST resource, as it stands in the path `/rest/v1/<resource>.json`."""

    OPPORTUNITY = "opportunities"
    ROLE = "opportunities/roles"
    COMPANY = "companies"
    SALES_PERSON = "salespersons"
    LEAD = "leads"


class Verdict(StrEnum):
    """What one record's answer means for that record (design.md §6)."""

    DONE = "done"
    LATER = "later"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Answer:
    """One record's status in a Marketo write: `created | updated | deleted | skipped`, with its reasons."""

    status: str
    code: str = ""
    message: str = ""
    id: int | None = None  # of a person


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one call, in input order; `unanswered` if an earlier attempt of it got none."""

    records: Sequence[Answer]
    unanswered: bool = False


@dataclass(frozen=True, slots=True)
class Lead:
    """A person found by *value*; `company` is its externalCompanyId, '' if it has none."""

    id: int
    value: str
    updated: str
    company: str = ""


@dataclass(frozen=True, slots=True)
class MarketoField:
    """One field of a describe answer; `length` in characters, None where the type has none (marketo.md §3.2)."""

    name: str
    type: str
    length: int | None
    updateable: bool
    title: str = ""


@dataclass(frozen=True, slots=True)
class Role:
    """One Marketo opportunity role: key (lead, text), attributes, and why it is there.

    `made` is when Marketo made it; only of one that was read there.
    """

    lead: int
    text: str
    primary: bool
    created: str
    reasons: tuple[str, ...] = ()
    made: str = field(default="", compare=False)

    @property
    def key(self) -> tuple[int, str]:
        """As Marketo keys it within one opportunity: case-insensitive text (design.md §3)."""
        return self.lead, self.text.casefold()


# --- the ledger ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What Marketo holds because of us for one opportunity, company or sales person, and what comes next.

    `fields` maps each posted field to the 8-byte digest of its value (null = absent). `ticket` is the ETag under
    which the row was read, None for a row that does not exist yet. `due` is set while the row waits. `seen` (ISO, UTC)
    is when Dynamics last showed the record: a tombstone from before says nothing any more.
    """

    id: str
    ticket: str | None = None
    state: State = State.IN_STEP
    fields: Mapping[str, str] = field(default_factory=dict)
    roles: tuple[Role, ...] = ()
    mapping: str = ""
    version: int | None = None
    reason: str = ""
    attempts: int = 0
    due: datetime | None = None
    approved: bool = False
    seen: str = ""

    @property
    def known(self) -> bool:
        return self.ticket is not None

    @property
    def left_out(self) -> bool:
        """In step because a filter leaves it out: that is the only reason a row in step has."""
        return self.state is State.IN_STEP and bool(self.reason)

    def become(self, state: State, **changes: Any) -> LedgerRow:
        """The next content of this row, under the same ticket."""
        plain: dict[str, Any] = {"reason": "", "attempts": 0, "due": None, "approved": False}
        return replace(self, state=state, **(plain | changes))


@dataclass(frozen=True, slots=True)
class Pointer:
    """That a row is neither in step nor gone, and why; `mark` is its place in the order of its state's pointers."""

    id: str
    reason: str
    mark: str


@dataclass(frozen=True, slots=True)
class Tally:
    """A ledger in numbers: rows by state, `LEFT_OUT` and `"roles"`; those not in step by (state, reason)."""

    counts: Mapping[str, int]
    reasons: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Document:
    """A small named JSON value with the ETag it was read under (feeds, stamp, counters, limiter)."""

    value: Mapping[str, Any]
    ticket: str


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a service said to one request; *body* is the decoded JSON, None if there is none."""

    status: int
    body: Any = None


# --- work ---------------------------------------------------------------------------------------------------


class Lane(StrEnum):
    FRESH = "fresh"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Work:
    """One queue message: which ids to look at, never what changed (design.md §5).

    `accounts` and `users` are looked at for their own sake, as company and as sales person.
    """

    opportunities: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    lane: Lane = Lane.FRESH
    force: bool = False
    why: str = "delta"
    seen: str = ""
    traceparent: str = ""
    postponed: int = 0
    users: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return len(self.opportunities) + len(self.accounts) + len(self.users)


@dataclass(frozen=True, slots=True)
class Letter:
    """A received queue message: its body, how often it was received, until when it is ours."""

    body: str
    dequeue_count: int
    lease_ends: datetime
    handle: Any = None
