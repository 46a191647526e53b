"""Full write calls across a delivery; every record's answer, and every trouble, finds its case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sync_core.errors import SplitBatch, SyncError, Unavailable, UnknownCode
from sync_core.flows.cases import Case
from sync_core.flows.world import World
from sync_core.model import Answer, MarketoObject, Verdict
from sync_core.rules.batches import batches
from sync_core.rules.planning import refusal
from sync_core.rules.verdicts import verdict

C = TypeVar("C", bound=Case)
T = TypeVar("T")

PATIENCE = 5  # deliveries, as many as the host's maxDequeueCount
SEARCHES = 40  # halvings of one delivery: enough for a few culprits of 1,800, and little if it is everybody's trouble


class Calls:
    """Marketo writes of one delivery; none starts after *deadline* (design.md §2.4)."""

    def __init__(self, world: World, deadline: datetime, *, postponed: int = 0) -> None:
        self.world = world
        self.deadline = deadline
        self.searches = SEARCHES if postponed >= PATIENCE else 0

    def send(
        self,
        kind: MarketoObject,
        items: Sequence[tuple[C, Mapping[str, Any]]],
        answered: Callable[[C, Mapping[str, Any], Answer], None],
        *,
        delete: bool = False,
    ) -> None:
        """Every record's answer goes to *answered*, trouble to its case, which then goes on no further."""
        items = [(case, record) for case, record in items if case.going_on]
        if not items:
            return
        calls, start = [], 0
        for batch in batches([record for _, record in items]):
            calls.append(items[start : start + len(batch)])
            start += len(batch)

        def call(batch: Sequence[tuple[C, Mapping[str, Any]]]) -> list[tuple[C, Mapping[str, Any], Answer]]:
            return self._call(kind, batch, delete=delete)

        for answers in self.world.fan_out(call, calls):
            for case, record, answer in answers:
                answered(case, record, answer)

    def _call(
        self, kind: MarketoObject, batch: Sequence[tuple[C, Mapping[str, Any]]], *, delete: bool
    ) -> list[tuple[C, Mapping[str, Any], Answer]]:
        """One call, halved while one record sinks it; a culprit alone is that record's refusal."""
        write = self.world.target.delete if delete else self.world.target.upsert
        try:
            answers = write(kind, [record for _, record in batch], until=self.deadline)
        except SplitBatch as error:
            _mark(batch, unanswered=error.unanswered)
            if len(batch) == 1 and error.unanswered:  # no record is too big to be answered in time: it is the service
                return _stop(batch, Unavailable(str(error), unanswered=True))
            return self._halves(kind, batch, error, delete=delete)
        except UnknownCode as error:  # waited for; after some deliveries one record may be behind it: look for it
            if not self.searches:
                return _stop(batch, error)
            self.searches -= len(batch) > 1
            return self._halves(kind, batch, error, delete=delete)
        except SyncError as error:
            _mark(batch, unanswered=getattr(error, "unanswered", False))
            return _stop(batch, error)
        for case, _ in batch:
            case.sent = True
            case.unanswered |= answers.unanswered
        return [(case, record, answer) for (case, record), answer in zip(batch, answers.records, strict=True)]

    def _halves(
        self,
        kind: MarketoObject,
        batch: Sequence[tuple[C, Mapping[str, Any]]],
        error: SplitBatch | UnknownCode,
        *,
        delete: bool,
    ) -> list[tuple[C, Mapping[str, Any], Answer]]:
        """Both halves of what was refused as a whole; of one record it is the answer."""
        if len(batch) == 1:
            return [(*batch[0], Answer("skipped", error.code, getattr(error, "message", "")))]
        half = len(batch) // 2
        return self._call(kind, batch[:half], delete=delete) + self._call(kind, batch[half:], delete=delete)


def _stop(batch: Sequence[tuple[Case, Any]], trouble: SyncError) -> list[Any]:
    """No answer for any of them: they go back on the queue."""
    for case, _ in batch:
        case.trouble = trouble
    return []


def _mark(batch: Sequence[tuple[Case, Any]], *, unanswered: bool) -> None:
    for case, _ in batch:
        case.sent |= unanswered
        case.unanswered |= unanswered


def judge(case: Case, kind: MarketoObject, answer: Answer) -> None:
    """What a record's answer to an upsert means for its case (design.md §6)."""
    outcome = verdict(answer, removal=False, kind=kind)
    if outcome is Verdict.LATER:
        case.waits = refusal(answer)
    elif outcome is Verdict.REFUSED:
        case.refused = refusal(answer)
