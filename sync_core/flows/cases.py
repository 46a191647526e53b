"""One record on its way through a delivery, and what a delivery leaves behind."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sync_core.errors import ConfigurationError, SyncError
from sync_core.flows.observe import Observed
from sync_core.model import LedgerRow, Role, Work
from sync_core.rules.planning import RolePlan

STOPPED_DELAY_S = 300.0


@dataclass(slots=True)
class Case:
    """What one delivery knows of one record.

    `sent`: a write left for it since its last ledger write. `unanswered`: one of them may still be applied.
    `trouble`: systemic, it goes back on the queue; `waits`, `refused`, `held`: why it is not in step, in its own row.
    """

    row: LedgerRow
    force: bool
    sent: bool = False
    unanswered: bool = False
    trouble: SyncError | None = None
    refused: str = ""
    waits: str = ""
    held: str = ""
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def going_on(self) -> bool:
        return self.trouble is None

    def unfinished(self, lost: set[str]) -> bool:
        """Whether it goes back on the queue; *lost* are the ids whose ledger write came too late."""
        return self.trouble is not None or self.unanswered or self.id in lost


@dataclass(slots=True)
class ReferenceCase(Case):
    """A company or a sales person; `left` is the rule of `[company] only` that does not hold."""

    record: dict[str, Any] | None = None
    values: dict[str, Any] = field(default_factory=dict)
    version: int | None = None
    posted: bool = False
    left: str = ""


@dataclass(slots=True)
class OpportunityCase(Case):
    """`left` is the filter's rule that does not hold, `evidence` that Dynamics deleted it; `removed`: it is to leave
    Marketo, `flagged`: it is to be marked there, `there`: Marketo holds it, as far as is known. Of `undecided` reasons
    nobody knows whose role they give.
    """

    external: str = ""
    seen: Observed | None = None
    wanted: tuple[Role, ...] = ()
    undecided: set[str] = field(default_factory=set)
    record: dict[str, Any] = field(default_factory=dict)
    posted: bool = False
    adopt: bool = False
    read_back: tuple[Role, ...] = ()
    plan: RolePlan = field(default_factory=RolePlan)
    roles: dict[tuple[int, str], Role] = field(default_factory=dict)
    planned: bool = False
    left: str = ""
    evidence: bool = False
    there: bool = False
    removed: bool = False
    flagged: bool = False
    reserved: tuple[str, int] = ("", 0)

    @property
    def alive(self) -> bool:
        """It exists in Dynamics, passes the filter, may be posted and has not met trouble."""
        return self.going_on and self.seen is not None and not self.refused and not self.left

    @property
    def has_roles(self) -> bool:
        """Marketo has the opportunity, so roles can be posted to it."""
        return self.alive and (self.posted or bool(self.row.fields))

    def unspent(self, lost: set[str]) -> int:
        """Removals that were reserved and will be tried, and reserved, again (design.md §2.7)."""
        kind, number = self.reserved
        if self.trouble is not None or self.id in lost:
            return number
        if kind == "roles":
            return sum(role.key in self.roles for role in self.plan.losses)
        return number if self.waits else 0


@dataclass(slots=True)
class Outcome:
    """What one delivery did, and what has to be put back: (work, seconds until it is visible).

    `ages`: of each opportunity that changed itself, the seconds from then to Marketo's answer; in the fresh lane only.
    """

    counts: Counter[str] = field(default_factory=Counter)
    again: list[tuple[Work, float]] = field(default_factory=list)
    trouble: SyncError | None = None
    ages: list[float] = field(default_factory=list)


def seconds_to_wait(trouble: SyncError | None) -> float:
    """Until the ids are tried again: as asked for, a while for what a person must mend."""
    if trouble is None:
        return 0.0
    return STOPPED_DELAY_S if isinstance(trouble, ConfigurationError) else getattr(trouble, "delay", 60.0)
