"""Which records count: every operator of a rule, nothing as a value of its own, times and periods."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_core.mapping import Rule
from sync_core.rules.filters import holds, outside, sides, since
from tools import checker

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
scalars = st.one_of(st.booleans(), st.integers(-5, 5), st.sampled_from(["a", "B", "b", "Ünï", "1", ""]))
values = st.one_of(st.none(), scalars, st.sampled_from(["1,2", "2,1,-3"]))
lists = st.lists(scalars, min_size=1, max_size=4)


def a_rule(**condition: Any) -> Rule:
    return Rule.model_validate({"column": "column", **condition})


def passes(value: Any, *, now: datetime = NOW, **condition: Any) -> bool:
    return holds(a_rule(**condition), value, now)


# --- in, not_in, equals, null -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ({"in": [1, 2]}, 2, True),
        ({"in": [1, 2]}, 3, False),
        ({"in": [1, 2]}, None, False),
        ({"in": [1]}, 1.0, True),
        ({"in": ["gold", "silver"]}, "Gold", True),
        ({"in": ["STRASSE"]}, "straße", True),
        ({"in": ["gold"]}, "golden", False),
        ({"not_in": [1, 2]}, 2, False),
        ({"not_in": [1, 2]}, 3, True),
        ({"not_in": [1, 2]}, None, True),
        ({"not_in": [False]}, None, True),
        ({"not_in": [False]}, False, False),
        ({"not_in": [False]}, True, True),
        ({"equals": True}, True, True),
        ({"equals": True}, False, False),
        ({"equals": True}, None, False),
        ({"equals": 0}, 0, True),
        ({"equals": 0}, None, False),
        ({"equals": 1000.5}, 1000.5, True),
        ({"null": True}, None, True),
        ({"null": True}, 0, False),
        ({"null": True}, False, False),
        ({"null": False}, None, False),
        ({"null": False}, 0, True),
        ({"null": False}, False, True),
    ],
)
def test_each_operator(condition: dict[str, Any], value: Any, expected: bool) -> None:
    assert passes(value, **condition) is expected


@pytest.mark.parametrize(("value", "number"), [(True, 1), (False, 0), (1, True), (0, False)])
def test_yes_and_no_are_no_numbers(value: Any, number: Any) -> None:
    """A yes/no column and a choice are different things: `not_in = [false]` must not drop the choice 0."""
    assert not passes(value, equals=number)
    assert not passes(value, **{"in": [number]})
    assert passes(value, not_in=[number])


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ({"in": [2]}, "1,2", True),
        ({"in": [3]}, "1,2", False),
        ({"not_in": [2]}, "1,2", False),
        ({"not_in": [3]}, "1,2", True),
        ({"equals": 1}, "1,2", True),
        ({"in": [100000001]}, "100000000,100000001", True),
        ({"null": False}, "1,2", True),
    ],
)
def test_of_several_choices_each_counts(condition: dict[str, Any], value: str, expected: bool) -> None:
    assert passes(value, **condition) is expected


@pytest.mark.parametrize(
    ("condition", "expected"), [({"in": [2]}, True), ({"equals": 2}, True), ({"not_in": [2]}, False)]
)
def test_a_single_one_of_several_choices_counts_too(condition: dict[str, Any], expected: bool) -> None:
    """Dataverse writes a multi-select with one choice as the text `2` (dataverse.md §5)."""
    assert passes("2", **condition) is expected


@pytest.mark.parametrize("text", ["1,2", "2", "10,5"])
def test_a_text_column_that_looks_like_numbers_is_still_text(text: str) -> None:
    assert passes(text, equals=text)
    assert passes(text, **{"in": [text]})
    assert not passes(text, not_in=[text])


@given(values, lists)
def test_a_list_holds_a_value_or_it_does_not(value: Any, items: list[Any]) -> None:
    assert passes(value, **{"in": items}) is not passes(value, not_in=items)


@given(values, scalars)
def test_equals_is_a_list_of_one(value: Any, item: Any) -> None:
    assert passes(value, equals=item) is passes(value, **{"in": [item]})


@given(values)
def test_null_is_one_or_the_other(value: Any) -> None:
    assert passes(value, null=True) is (value is None)
    assert passes(value, null=False) is (value is not None)


@given(values, lists, lists)
def test_all_conditions_of_one_rule_must_hold(value: Any, one: list[Any], other: list[Any]) -> None:
    both = passes(value, **{"in": one}, not_in=other, null=False)
    assert both is (passes(value, **{"in": one}) and passes(value, not_in=other) and value is not None)


# --- since ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("2025-01-31", "2025-01-31", True),
        ("2025-01-31", "2025-01-30", False),
        ("2025-01-31", "2025-01-31T00:00:00Z", True),
        ("2025-01-31", "2025-01-30T23:59:59Z", False),
        ("2025-01-31", "2025-01-31T00:30:00+01:00", False),
        ("2025-01-31T12:00:00Z", "2025-01-31T11:59:59Z", False),
        ("2025-01-31T12:00:00+02:00", "2025-01-31T10:00:00Z", True),
        ("2025-01-31", None, False),
        ("P24M", "2024-03-02T08:00:00Z", True),
        ("P24M", "2024-03-02T07:59:59Z", False),
        ("P24M", None, False),
        ("P2Y", "2024-03-02T08:00:00Z", True),
        ("P1W", "2026-02-23T08:00:00Z", True),
        ("P1W", "2026-02-23T07:59:59Z", False),
        ("P1Y2M3W4D", "2024-12-08T08:00:00Z", True),
        ("P1Y2M3W4D", "2024-12-08T07:59:59Z", False),
        ("P0D", "2026-03-02T08:00:00Z", True),
        ("P0D", "2026-03-02T07:59:59Z", False),
    ],
)
def test_since_a_date_or_a_period(text: str, value: str | None, expected: bool) -> None:
    assert passes(value, since=text) is expected


def test_a_day_that_is_just_as_old_as_the_period_is_inside_all_day() -> None:
    """A date-only column has no time of day: since P24M on 2 March means from 2 March on."""
    assert passes("2024-03-02", since="P24M")
    assert not passes("2024-03-01", since="P24M")


@pytest.mark.parametrize(
    ("now", "text", "expected"),
    [
        ("2026-03-31", "P1M", "2026-02-28"),
        ("2024-03-31", "P1M", "2024-02-29"),
        ("2024-02-29", "P12M", "2023-02-28"),
        ("2024-02-29", "P1Y", "2023-02-28"),
        ("2024-02-29", "P48M", "2020-02-29"),
        ("2026-01-31", "P1M", "2025-12-31"),
        ("2026-01-01", "P1D", "2025-12-31"),
        ("2026-05-31", "P6M", "2025-11-30"),
        ("2026-12-31", "P24M", "2024-12-31"),
        ("2026-01-15", "P13M", "2024-12-15"),
        ("2026-03-31", "P1M1D", "2026-02-27"),
    ],
)
def test_periods_around_the_ends_of_months(now: str, text: str, expected: str) -> None:
    assert since(text, datetime.fromisoformat(now).replace(tzinfo=UTC)).date().isoformat() == expected


moments = st.integers(946_684_800, 4_102_444_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(moments, st.integers(0, 600))
def test_a_period_of_months_lands_in_that_month_on_the_same_or_its_last_day(now: datetime, months: int) -> None:
    back = since(f"P{months}M", now)
    assert (now.year - back.year) * 12 + now.month - back.month == months
    assert back.day == min(now.day, monthrange(back.year, back.month)[1])
    assert back.timetz() == now.timetz()


@given(moments, st.integers(0, 99), st.integers(0, 99))
def test_years_are_twelve_months_and_weeks_seven_days(now: datetime, one: int, other: int) -> None:
    assert since(f"P{one}Y", now) == since(f"P{one * 12}M", now)
    assert since(f"P{other}W", now) == since(f"P{other * 7}D", now) == now - timedelta(days=7 * other)


@given(moments, st.integers(0, 99), st.integers(0, 999), st.integers(0, 999), st.integers(0, 999))
def test_a_period_never_ends_in_the_future(now: datetime, years: int, months: int, weeks: int, days: int) -> None:
    assert since(f"P{years}Y{months}M{weeks}W{days}D", now) <= now


@pytest.mark.parametrize("text", ["P999Y9999M9999W99999D", "P999Y9999M", "P999Y"])
def test_a_period_longer_than_the_calendar_lets_everything_in(text: str) -> None:
    """The file accepts it, so a delivery must not die of it."""
    assert passes("1900-01-01", since=text)


@pytest.mark.parametrize("value", ["soon", 5, True, "2026-99-99"])
def test_what_is_no_time_is_before_any(value: Any) -> None:
    """`since` on a column that is no date: the delivery must not die of it, for then all its ids would."""
    assert not passes(value, since="2025-01-31")


CONDITIONS = {"in": lists, "not_in": lists, "equals": scalars, "null": st.booleans()}
times = st.sampled_from(["2024-02-29", "2026-03-01T12:00:00Z", "P1M", "P24M", "P1Y2M3W4D", "P0D"])


@given(values, st.fixed_dictionaries({}, optional=CONDITIONS).filter(bool))
def test_the_checker_agrees(value: Any, rule: dict[str, Any]) -> None:
    """`tools.checker` reads the same rules with code of its own."""
    assert passes(value, **rule) is checker.holds(rule, value, NOW)


@given(moments, moments, times, st.booleans())
def test_the_checker_agrees_about_times(moment: datetime, now: datetime, text: str, whole_day: bool) -> None:
    value = moment.date().isoformat() if whole_day else moment.isoformat().replace("+00:00", "Z")
    assert passes(value, now=now, since=text) is checker.holds({"since": text}, value, now)


# --- whose column it is -------------------------------------------------------------------------------------------


def test_columns_are_told_apart_by_their_side() -> None:
    rules = [
        Rule(column="statecode", equals=0),
        Rule(column="account.industrycode", null=False),
        Rule(column="contact.donotemail", not_in=[True]),
        Rule(column="account.name", null=False),
        Rule(column="originatingleadid.leadsourcecode", null=False),
    ]
    assert sides(rules, "filter", "rule") == {
        "": {
            ("filter", "rule", 0, "column"): "statecode",
            ("filter", "rule", 4, "column"): "originatingleadid.leadsourcecode",
        },
        "account": {("filter", "rule", 1, "column"): "industrycode", ("filter", "rule", 3, "column"): "name"},
        "contact": {("filter", "rule", 2, "column"): "donotemail"},
    }


def test_the_first_rule_that_fails_is_named() -> None:
    rules = [
        Rule(column="statecode", equals=0),
        Rule(column="account.industrycode", not_in=[12]),
        Rule(column="contact.donotemail", equals=False),
    ]
    good = {"": {"statecode": 0}, "account": {"industrycode": 1}, "contact": {"donotemail": False}}
    assert outside(rules, good, NOW) == ""
    assert outside(rules, good | {"": {"statecode": 1}}, NOW) == "outside the filter: statecode"
    assert outside(rules, good | {"account": {"industrycode": 12}}, NOW) == "outside the filter: account.industrycode"
    assert outside(rules, good | {"account": None}, NOW) == ""
    assert outside(rules, good | {"contact": None}, NOW) == "outside the filter: contact.donotemail"
    assert outside([], {}, NOW) == ""


def test_a_column_one_hop_away_is_the_records_own() -> None:
    rule = Rule(column="originatingleadid.leadsourcecode", equals=3)
    assert outside([rule], {"": {"originatingleadid.leadsourcecode": 3}}, NOW) == ""
    assert outside([rule], {"": {}}, NOW) != ""


@given(st.lists(st.tuples(st.sampled_from(["a", "account.b", "contact.c"]), scalars), max_size=4), st.data())
def test_all_rules_must_hold(conditions: list[tuple[str, Any]], data: st.DataObject) -> None:
    rules = [Rule(column=column, equals=value) for column, value in conditions]
    rows = {"": {"a": data.draw(values)}, "account": {"b": data.draw(values)}, "contact": None}
    found = {"a": rows[""]["a"], "account.b": rows["account"]["b"], "contact.c": None}  # type: ignore[index]
    good = all(holds(rule, found[rule.column], NOW) for rule in rules)
    assert (outside(rules, rows, NOW) == "") is good
