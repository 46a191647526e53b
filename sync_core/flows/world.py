"""Everything a flow may use: the ports, the configuration, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sync_core.mapping import SyncConfig
from sync_core.ports import Clock, Dataverse, Documents, FanOut, Ledger, Limiter, Lookup, Marketo, Queue


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """`late_write` is L of design.md §2.4 in seconds: how long an unanswered write may still be applied.

    `subscription` is Marketo's munchkin id; it salts what is remembered of people, so that another subscription's
    lead ids are never believed.
    """

    source: Dataverse
    target: Marketo
    opportunities: Ledger
    companies: Ledger
    sales_persons: Ledger
    connections: Lookup
    people: Lookup
    tombstones: Lookup
    documents: Documents
    queue: Queue
    limiter: Limiter
    clock: Clock
    config: SyncConfig
    late_write: int
    subscription: str
    fan_out: FanOut = map

    @property
    def ledgers(self) -> Mapping[str, Ledger]:
        """By what their rows are, as `Work` names them."""
        return {"opportunities": self.opportunities, "accounts": self.companies, "users": self.sales_persons}
