"""Which writes are still missing between what Marketo holds and what the rules say (design.md §1, §2). Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sync_core.model import Answer, LedgerRow, Role, State

FIRST_RETRY_S = 60
LAST_RETRY_S = 12 * 3600
NOT_VISIBLE_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class RolePlan:
    """Roles to post and to remove; `losses` are the removals that nothing replaces."""

    post: tuple[Role, ...] = ()
    remove: tuple[Role, ...] = ()
    losses: tuple[Role, ...] = ()


def changed_fields(row: LedgerRow, digests: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """The mapped *names* whose digest is not the ledger's; absent on both sides is equal.

    A field once posted and no longer mapped is not looked at: it stays as it is in Marketo.
    """
    return [name for name in names if row.fields.get(name) != digests.get(name)]


def plan_roles(
    wanted: Sequence[Role], held: Sequence[Role], *, force: bool, ours: Collection[tuple[int, str]]
) -> RolePlan:
    """Turn *held* into *wanted*. Only roles whose key is in *ours* are ever removed.

    A removal is a replacement when a role is added for the same person or with the same text: it follows the addition,
    and nobody drops out of "Has Opportunity" in between (design.md §1).
    """
    present = {role.key: role for role in held}
    keys = {role.key for role in wanted}
    post = tuple(role for role in wanted if force or not _same(role, present.get(role.key)))
    remove = tuple(role for key, role in present.items() if key not in keys and key in ours)
    replaced = _replaced([role.key for role in remove], [role.key for role in wanted if role.key not in present])
    return RolePlan(post, remove, tuple(role for role in remove if role.key not in replaced))


def _same(role: Role, held: Role | None) -> bool:
    """Reasons are ours alone: they never cost a call."""
    return held is not None and (role.primary, role.created) == (held.primary, held.created)


def _replaced(removed: Sequence[tuple[int, str]], added: Sequence[tuple[int, str]]) -> set[tuple[int, str]]:
    """The removals that an addition stands for: as many as possible, one for each addition (a maximum matching)."""
    taken: dict[tuple[int, str], tuple[int, str]] = {}

    def place(lost: tuple[int, str], tried: set[tuple[int, str]]) -> bool:
        for new in added:
            if new in tried or (new[0] != lost[0] and new[1] != lost[1]):
                continue
            tried.add(new)
            if new not in taken or place(taken[new], tried):
                taken[new] = lost
                return True
        return False

    for lost in removed:
        place(lost, set())
    return set(taken.values())


def wait(row: LedgerRow, reason: str, now: datetime) -> LedgerRow:
    """*row* waiting for *reason*; a delivery before the time changes neither the time nor the count of attempts.

    An approval of its removals stays: the wait may be for one of them.
    """
    if row.state is State.WAITING and row.reason == reason and row.due and row.due > now:
        return row.become(State.WAITING, reason=reason, attempts=row.attempts, due=row.due, approved=row.approved)
    due = now + timedelta(seconds=retry_delay(row.attempts))
    return row.become(State.WAITING, reason=reason, attempts=row.attempts + 1, due=due, approved=row.approved)


def retry_delay(attempts: int) -> int:
    """Seconds until the next try: 1 min, then twice as long each time, at most 12 h (design.md §6)."""
    return int(min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(max(attempts, 0), 16)))


def refusal(answer: Answer) -> str:
    """A refused record's reason as it is stored: code and field, never Marketo's text, which quotes the value."""
    field = re.match(r"[^'\"]*\b[Ff]ield '(\w{1,100})'", answer.message)  # first in quotes; a value comes later
    code = answer.code[:8]
    return f"{code}: {REFUSALS.get(code, 'refused by Marketo')}" + (f" ({field[1]})" if field else "")


REFUSALS = {  # marketo.md §4.3
    "413": "the record is larger than Marketo takes",
    "1001": "the value has the wrong type",
    "1002": "a required field is missing",
    "1003": "a value is invalid",
    "1004": "the person is not in Marketo any more",
    "1006": "the field does not exist in Marketo",
    "1007": "several records match",
    "1013": "a record that this one refers to is not in Marketo",
    "1036": "the same record twice in one call",
    "718": "the sales person is not in Marketo",
}
