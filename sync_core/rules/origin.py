"""Whose a record in Marketo is, by when Marketo made it. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sync_core.model import LedgerRow, Role, State

CLEANED = "removed by `cleanup`"
"""The reason of a row that is gone because a cleanup removed what it stood for: it is not looked at again."""

BEFORE = "in Marketo before this system was: it keeps the values posted last"
AFTER = "made in Marketo since the cleanup began"
UNDATED = "Marketo doesn't say when it was made"
OTHERS_ROLES = "others gave it roles, which would be left without it"


@dataclass(frozen=True, slots=True)
class Span:
    """From the first to the last moment in which this system may have made anything, by Marketo's clock."""

    since: datetime
    until: datetime

    def foreign(self, made: str) -> str:
        """Why what Marketo made at *made* (ISO, whole seconds) is not ours; '' if nothing says so."""
        if not made:
            return UNDATED
        at = datetime.fromisoformat(made)
        if at < self.since.replace(microsecond=0):
            return BEFORE
        return AFTER if at > self.until else ""


def doubtful(row: LedgerRow) -> bool:
    """Whether Marketo may hold anything because of us: where the ledger's word isn't trusted, it is asked.

    A row that is gone is asked about too: `[removals] policy` may have kept what it stood for.
    """
    untrusted = row.state in (State.WAITING, State.PARKED, State.GONE)
    return bool(row.fields or row.roles or untrusted) and not cleaned(row)


def cleaned(row: LedgerRow) -> bool:
    return row.state is State.GONE and row.reason == CLEANED


def ours(role: Role, recorded: Collection[tuple[int, str]], texts: Collection[str], span: Span, *, every: bool) -> bool:
    """Whether a role read in Marketo is one that we made: in the time, and recorded or of a text that we post.

    A person who was merged has the role under another id: then only its text tells. *every*: sync.toml says that all
    roles of our opportunities are ours.
    """
    known = every or role.key in recorded or role.text.casefold() in texts
    return known and not span.foreign(role.made)
