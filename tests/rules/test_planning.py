"""The plan turns what Marketo holds into what is wanted, removes only what is ours, and counts what would be lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_core.model import Answer, LedgerRow, Role
from sync_core.rules.planning import (
    FIRST_RETRY_S,
    LAST_RETRY_S,
    REFUSALS,
    RolePlan,
    changed_fields,
    plan_roles,
    refusal,
    retry_delay,
)
from tests.builders import CREATED, LATER, a_role

Key = tuple[int, str]


def plan(wanted: list[Role], held: list[Role], *, force: bool = False) -> RolePlan:
    """The plan where everything held is ours."""
    return plan_roles(wanted, held, force=force, ours={role.key for role in held})


def applied(plan: RolePlan, held: list[Role]) -> dict[Key, tuple[bool, str]]:
    """What Marketo holds afterwards."""
    after = {role.key: (role.primary, role.created) for role in held}
    after |= {role.key: (role.primary, role.created) for role in plan.post}
    for role in plan.remove:
        del after[role.key]
    return after


# --- which roles ----------------------------------------------------------------------------------------------


def test_nothing_is_posted_when_marketo_holds_what_is_wanted() -> None:
    held = a_role(text="DECISION MAKER", reasons=("old",))

    assert plan([a_role(reasons=("new", "reasons"))], [held]) == RolePlan()


@pytest.mark.parametrize("held", [a_role(primary=True), a_role(created=LATER)], ids=["primary", "created"])
def test_a_changed_attribute_is_posted_again(held: Role) -> None:
    wanted = a_role()

    assert plan([wanted], [held]) == RolePlan(post=(wanted,))


def test_a_role_that_nobody_recorded_as_ours_stays() -> None:
    foreign = a_role(9, "Champion")

    assert plan_roles([], [foreign], force=True, ours=set()) == RolePlan()


def test_a_role_without_successor_is_a_loss() -> None:
    gone = a_role()

    assert plan([], [gone]) == RolePlan(remove=(gone,), losses=(gone,))


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        (a_role(1, "Decision Maker"), a_role(1, "DM")),
        (a_role(1, "Decision Maker"), a_role(2, "Decision Maker")),
        (a_role(1, "Primary Contact", primary=True), a_role(2, "Primary Contact", primary=True)),
        (a_role(1, "BUYER"), a_role(2, "buyer")),
    ],
    ids=["renamed role", "merged or moved person", "changed customer", "in another case"],
)
def test_a_replacement_is_posted_and_removed_but_is_no_loss(held: Role, wanted: Role) -> None:
    assert plan([wanted], [held]) == RolePlan(post=(wanted,), remove=(held,))


def test_a_removal_beside_an_unrelated_addition_is_a_loss() -> None:
    gone, new = a_role(1, "Decision Maker"), a_role(2, "Buyer")

    assert plan([new], [gone]).losses == (gone,)


def test_a_role_that_was_there_already_replaces_nothing() -> None:
    gone, kept = a_role(1, "Decision Maker"), a_role(1, "Buyer")

    assert plan([kept], [gone, kept], force=True).losses == (gone,)


def test_each_addition_replaces_one_removal() -> None:
    gone = [a_role(1, "Decision Maker"), a_role(2, "Decision Maker"), a_role(3, "Decision Maker")]

    assert len(plan([a_role(4, "Decision Maker")], gone).losses) == 2


def test_additions_are_matched_so_that_no_replacement_is_counted_as_a_loss() -> None:
    held = [a_role(1, "a"), a_role(1, "b")]
    wanted = [a_role(1, "c"), a_role(2, "a")]

    assert plan(wanted, held).losses == ()
    assert plan(wanted[::-1], held[::-1]).losses == ()


texts = st.sampled_from(["a", "A", "b", "c"])
some_roles = st.lists(
    st.builds(
        Role, lead=st.integers(1, 3), text=texts, primary=st.booleans(), created=st.sampled_from([CREATED, LATER])
    ),
    max_size=6,
    unique_by=lambda role: role.key,
)
some_keys = st.sets(st.tuples(st.integers(1, 3), st.sampled_from(["a", "b", "c"])))


@given(some_roles, some_roles, some_keys, st.booleans())
def test_the_plan_turns_what_is_held_into_what_is_wanted_and_leaves_the_rest(
    wanted: list[Role], held: list[Role], ours: set[Key], force: bool
) -> None:
    found = plan_roles(wanted, held, force=force, ours=ours)
    foreign = {role.key: (role.primary, role.created) for role in held if role.key not in ours}

    assert applied(found, held) == foreign | {role.key: (role.primary, role.created) for role in wanted}
    assert {role.key for role in found.remove} <= ours


@given(some_roles, some_roles, some_keys, st.booleans())
def test_only_force_posts_what_is_already_there(
    wanted: list[Role], held: list[Role], ours: set[Key], force: bool
) -> None:
    found = plan_roles(wanted, held, force=force, ours=ours)
    same = {(role.key, role.primary, role.created) for role in held}

    assert (not force) or found.post == tuple(wanted)
    assert force or all((role.key, role.primary, role.created) not in same for role in found.post)


@given(some_roles, some_roles)
def test_planning_again_after_the_plan_was_applied_finds_nothing_to_do(wanted: list[Role], held: list[Role]) -> None:
    first = plan(wanted, held)
    left = {role.key for role in held} - {role.key for role in first.remove}
    now = [role for role in held if role.key in left and role.key not in {r.key for r in first.post}] + [*first.post]

    assert plan(wanted, now) == RolePlan()


@given(some_roles, some_roles)
def test_losses_are_removals_and_as_few_as_the_additions_allow(wanted: list[Role], held: list[Role]) -> None:
    found = plan(wanted, held)
    added = [role for role in wanted if role.key not in {other.key for other in held}]
    again = plan(wanted[::-1], held[::-1])

    assert set(found.losses) <= set(found.remove)
    assert len(found.losses) >= len(found.remove) - len(added)
    assert len(again.losses) == len(found.losses)
    assert len(found.remove) - len(found.losses) == most_pairs(list(found.remove), added)


def most_pairs(removed: list[Role], added: list[Role]) -> int:
    """By trying everything: how many removals can each have an addition of its own."""
    if not removed:
        return 0
    first, *others = removed
    best = most_pairs(others, added)
    for index, role in enumerate(added):
        if role.lead == first.lead or role.key[1] == first.key[1]:
            best = max(best, 1 + most_pairs(others, added[:index] + added[index + 1 :]))
    return best


# --- fields ---------------------------------------------------------------------------------------------------


def test_a_field_is_changed_when_its_digest_differs_or_is_on_one_side_only() -> None:
    row = LedgerRow("id", fields={"same": "1", "changed": "1", "cleared": "1"})
    now = {"same": "1", "changed": "2", "new": "3"}

    assert changed_fields(row, now, ["same", "changed", "cleared", "new", "never"]) == ["changed", "cleared", "new"]


def test_a_field_that_is_no_longer_mapped_stays_as_it_is_in_marketo() -> None:
    assert changed_fields(LedgerRow("id", fields={"old": "1"}), {}, []) == []


# --- trying again ---------------------------------------------------------------------------------------------


def test_the_first_retry_comes_after_a_minute_and_the_last_after_twelve_hours() -> None:
    assert (FIRST_RETRY_S, LAST_RETRY_S) == (60, 12 * 3600)
    assert [retry_delay(attempts) for attempts in (0, 1, 2, 9, 10, 1_000_000)] == [60, 120, 240, 30_720, 43_200, 43_200]


@given(st.integers(0, 100))
def test_delays_grow_and_stay_between_a_minute_and_twelve_hours(attempts: int) -> None:
    assert 60 <= retry_delay(attempts) <= retry_delay(attempts + 1) <= 43_200


# --- reasons --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message", "reason"),
    [
        ("1003", "Invalid value for field 'amount' and value 'ann@x.invalid'", "1003: a value is invalid (amount)"),
        ("1006", "Field 'nope__c' not found", "1006: the field does not exist in Marketo (nope__c)"),
        ("1004", "Lead not found", "1004: the person is not in Marketo any more"),
        ("1799", "Something about 'ann@x.invalid'", "1799: refused by Marketo"),
        ("1003", "Value 'my field 'Ann'' is wrong for field 'name'", "1003: a value is invalid"),
        ("1003", "Value \"my field 'Ann'\" is wrong", "1003: a value is invalid"),
    ],
)
def test_a_refusal_names_code_and_field(code: str, message: str, reason: str) -> None:
    assert refusal(Answer("skipped", code, message)) == reason


MARK = "SECRET"
messages = st.sampled_from(
    [
        "Invalid value for field 'amount' and value '{}'",
        "Value '{}' is invalid for field 'amount'",
        'Value "{}" is invalid',
        "Duplicate value '{}' for '{}'",
        "Field 'amount' does not take '{}'",
    ]
)
values = st.lists(st.sampled_from(["'", '"', " ", "field ", "Field '", MARK, "and value "]), max_size=8).map("".join)


@given(messages, values, st.sampled_from([*REFUSALS, "9999"]))
def test_a_refusal_never_contains_what_marketo_quoted(message: str, value: str, code: str) -> None:
    assert MARK not in refusal(Answer("skipped", code, message.replace("{}", MARK + value)))
    assert MARK not in refusal(Answer("skipped", code, message.replace("{}", value)))
