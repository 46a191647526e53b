"""Everything a flow may use: the ports, the configuration, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sync_core.mapping import SyncConfig
from sync_core.model import DEFAULT_SCHEDULE
from sync_core.ports import (
    Clock,
    ConnectionMap,
    Dataverse,
    Documents,
    FanOut,
    History,
    Ledger,
    Limiter,
    Lookup,
    Marketo,
    Queue,
    Webhook,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """`late_write` is L of design.md §2.4 in seconds: how long an unanswered write may still be applied.

    `subscription` is Marketo's munchkin id; it salts what is remembered of people, so that another subscription's
    lead ids are never believed. Without `history` nothing of it is kept, whatever sync.toml says. The slow lane's calls
    may wait long: with `fan_out_slow` they take no thread from others. `schedule` is the timer's (NCRONTAB);
    `credentials_expire`: when what signs in to Dynamics does, if that is known. Without `webhook` nobody is told.
    `doubts` say which settings are wrong and count as left out, since no write depends on them. `migrations`: by schema
    number what makes the storage of that one into the next one's, up to a moment; false if that was too early.
    """

    source: Dataverse
    target: Marketo
    opportunities: Ledger
    companies: Ledger
    sales_persons: Ledger
    connections: ConnectionMap
    people: Lookup
    tombstones: Lookup
    documents: Documents
    queue: Queue
    limiter: Limiter
    clock: Clock
    config: SyncConfig
    late_write: int
    subscription: str
    credentials_expire: datetime | None = None
    history: History | None = None
    schedule: str = DEFAULT_SCHEDULE
    webhook: Webhook | None = None
    doubts: Sequence[str] = ()
    migrations: Mapping[int, Callable[[float], bool]] = field(default_factory=dict)
    fan_out: FanOut = map
    fan_out_slow: FanOut = map

    def change(
        self, kind: str, name: str, change: Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
    ) -> Mapping[str, Any]:
        """Put *change* of a document's value in its place, again while somebody else was first; the new value.

        *change* gets an empty value for a document that does not exist, and returns None to leave it alone.
        """
        while True:
            document = self.documents.read(kind, name)
            value = document.value if document else {}
            new = change(value)
            if new is None:
                return value
            if self.documents.write(kind, name, new, document.ticket if document else None) is not None:
                return new

    @property
    def ledgers(self) -> Mapping[str, Ledger]:
        """By what their rows are, as `Work` names them."""
        return {"opportunities": self.opportunities, "accounts": self.companies, "users": self.sales_persons}
