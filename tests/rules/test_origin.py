"""Whose a record in Marketo is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sync_core.model import LedgerRow, Role, State
from sync_core.rules.origin import AFTER, BEFORE, CLEANED, UNDATED, Span, cleaned, doubtful, ours

START = datetime(2026, 3, 2, 8, 0, 0, 500_000, tzinfo=UTC)
SPAN = Span(START, START + timedelta(hours=1))


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ("2026-03-02T07:59:59Z", BEFORE),
        ("2026-03-02T08:00:00Z", ""),  # whole seconds: it may be later than the start
        ("2026-03-02T09:00:00+00:00", ""),
        ("2026-03-02T03:00:00-06:00", ""),
        ("2026-03-02T09:00:01Z", AFTER),
        ("", UNDATED),
    ],
)
def test_only_what_was_made_in_our_time_may_be_ours(made: str, why: str) -> None:
    assert SPAN.foreign(made) == why


@pytest.mark.parametrize(
    ("text", "every", "mine"),
    [("Champion", False, True), ("POSTED", False, True), ("X", False, False), ("X", True, True)],
)
def test_a_role_is_ours_by_record_or_text(text: str, every: bool, mine: bool) -> None:
    role = Role(7, text, False, "", made="2026-03-02T08:30:00Z")

    assert ours(role, {(7, "champion")}, {"posted"}, SPAN, every=every) is mine


def test_no_role_from_before_is_ours_whatever_is_said() -> None:
    role = Role(7, "Champion", False, "", made="2026-03-01T08:30:00Z")

    assert not ours(role, {role.key}, {"champion"}, SPAN, every=True)


@pytest.mark.parametrize("state", list(State))
def test_marketo_is_asked_about_all_that_was_posted_or_is_in_doubt(state: State) -> None:
    untrusted = {State.WAITING, State.PARKED, State.GONE}

    assert doubtful(LedgerRow("a", state=state, fields={"name": "x"}))
    assert doubtful(LedgerRow("a", state=state, roles=(Role(7, "Champion", False, ""),)))
    assert doubtful(LedgerRow("a", state=state)) is (state in untrusted)


def test_what_was_cleaned_up_is_never_asked_about_again() -> None:
    row = LedgerRow("a").become(State.GONE, reason=CLEANED)

    assert cleaned(row)
    assert not doubtful(row)
    assert not cleaned(row.become(State.PARKED, reason=CLEANED))
