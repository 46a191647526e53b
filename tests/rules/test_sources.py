"""What each form of a source takes of a row, and which Marketo field it may fill."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_core.mapping import case_of
from sync_core.model import MarketoField, Rate
from sync_core.rules.fields import UnfitValueError, marketo_fields, usable
from sync_core.rules.sources import Knowledge, matches, misfit, needs, unfit
from tests.builders import a_config, a_field, mapped, source

EURO, POUND = "00000000-0000-4000-8000-0000000000e0", "00000000-0000-4000-8000-0000000000f0"
RATES = {"EUR": Rate(EURO, 0.92), "GBP": Rate(POUND, 0.79)}
CHOICES = {1: "One", 2: "Two", 3: "", 4: "  Four "}
LABELS = {("c", 1033): CHOICES, ("c", 1031): {1: "Eins"}, ("flag", 1033): {0: "No", 1: "Yes"}}
MONEY = a_field("currency")


def labelled(value: Any, **options: Any) -> Any:
    return mapped({"c": value}, {"column": "c", "as": "label", **options}, labels=LABELS)


def several(row: Mapping[str, Any], types: Mapping[str, str], **fields: Any) -> Mapping[str, Any]:
    """More than one field at once, as products need."""
    described = {name: MarketoField(name, type, None, updateable=True) for name, type in types.items()}
    sources = a_config(opportunity=fields).opportunity.fields
    return marketo_fields(row, sources, described, Knowledge({}, RATES)).values


# --- one column -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "", "  ", "\t\n"])
def test_what_is_empty_clears_or_takes_the_default(value: Any) -> None:
    assert mapped({"c": value}, "c") is None
    assert mapped({}, "c") is None
    assert mapped({"c": value}, {"column": "c", "default": " none "}) == "none"
    assert mapped({"c": value}, {"column": "c", "default": " "}) is None


@pytest.mark.parametrize("value", [0, False, 0.0])
def test_nought_and_no_are_not_empty(value: Any) -> None:
    kind = a_field("boolean" if value is False else "float")
    assert mapped({"c": value}, {"column": "c", "default": True if value is False else 5}, kind) == value


@pytest.mark.parametrize(
    ("options", "value", "expected"),
    [
        ({"equals": 1}, 1, True),
        ({"equals": 1}, 2, False),
        ({"equals": 1}, None, False),
        ({"in": [1, 2]}, 2, True),
        ({"in": [1, 2]}, 3, False),
        ({"in": [1, 2]}, None, False),
        ({"equals": True}, True, True),
        ({"equals": False}, False, True),
        ({"equals": False}, None, False),
        ({"equals": "gold"}, " gold ", True),
        ({"equals": "gold"}, "silver", False),
    ],
)
def test_questions_are_answered_yes_or_no(options: dict[str, Any], value: Any, expected: bool) -> None:
    assert mapped({"c": value}, {"column": "c", **options}, a_field("boolean")) is expected


@pytest.mark.parametrize(("value", "other"), [(True, 1), (False, 0), (1, True), (0, False)])
def test_yes_and_no_are_no_numbers_as_in_filters(value: Any, other: Any) -> None:
    assert mapped({"c": value}, {"column": "c", "equals": other}, a_field("boolean")) is False
    assert mapped({"c": value}, {"column": "c", "in": [other]}, a_field("boolean")) is False


def test_questions_compare_text_as_filters_do() -> None:
    """`equals = "gold"` means the same in a field and in a filter."""
    assert mapped({"c": "Gold"}, {"column": "c", "equals": "gold"}, a_field("boolean")) is True


@pytest.mark.parametrize(("value", "expected"), [("1,2", True), ("2", True), ("1,3", False), (None, False)])
def test_questions_of_several_choices_ask_each(value: Any, expected: bool) -> None:
    """As a filter does: `in = [2]` is yes if 2 is among the choices."""
    assert mapped({"c": value}, {"column": "c", "in": [2]}, a_field("boolean")) is expected
    assert mapped({"c": value}, {"column": "c", "equals": 2}, a_field("boolean")) is expected


# --- labels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "options", "expected"),
    [
        (1, {}, "One"),
        (4, {}, "Four"),
        (1, {"language": 1031}, "Eins"),
        (3, {}, "3"),
        (9, {}, "9"),
        (None, {}, None),
        (None, {"default": "None"}, "None"),
        ("1", {}, "One"),
        ("1,2", {}, "One;Two"),
        ("2,1", {"join": ", "}, "Two, One"),
        ("1,9", {}, "One;9"),
        ("1,3", {}, "One;3"),
        ("", {}, None),
    ],
)
def test_labels(value: Any, options: dict[str, Any], expected: Any) -> None:
    assert labelled(value, **options) == expected


def test_labels_of_yes_and_no() -> None:
    for value, expected in ((True, "Yes"), (False, "No"), (None, None)):
        assert mapped({"flag": value}, {"column": "flag", "as": "label"}, labels=LABELS) == expected


@given(st.lists(st.integers(0, 12), min_size=1, max_size=8), st.sampled_from([";", ", ", "|"]))
def test_several_labels_come_in_the_order_of_the_choices(choices: list[int], join: str) -> None:
    names = {number: f"n{number}" for number in range(10)}
    row = {"c": ",".join(map(str, choices))}
    found = mapped(row, {"column": "c", "as": "label", "join": join}, labels={("c", 1033): names})
    assert found.split(join) == [names.get(number, str(number)) for number in choices]


def test_several_choices_as_values_stay_as_they_are() -> None:
    assert mapped({"c": "1,2"}, "c") == "1,2"


def test_several_choices_as_values_are_joined_as_wanted() -> None:
    assert mapped({"c": "1,2"}, {"column": "c", "join": ";"}) == "1;2"


# --- lookups ----------------------------------------------------------------------------------------------------


def test_a_lookup_gives_its_id_or_its_name() -> None:
    row = {"ownerid": EURO, "ownerid@name": " Ann Seller "}
    assert mapped(row, "ownerid") == EURO
    assert mapped(row, {"column": "ownerid", "as": "id"}) == EURO
    assert mapped(row, {"column": "ownerid", "as": "name"}) == "Ann Seller"


def test_a_lookup_without_a_name_falls_back() -> None:
    assert mapped({"ownerid": EURO}, {"column": "ownerid", "as": "name"}) == EURO
    assert mapped({"ownerid": None}, {"column": "ownerid", "as": "name", "default": "-"}) == "-"


def test_one_hop_is_a_column_like_another() -> None:
    row = {"originatingleadid.leadsourcecode": 1}
    labels = {("originatingleadid.leadsourcecode", 1033): {1: "Web"}}
    value = {"column": "originatingleadid.leadsourcecode", "as": "label"}
    assert mapped(row, value, labels=labels) == "Web"
    assert mapped({}, value, labels=labels) is None


# --- money ------------------------------------------------------------------------------------------------------


def amount(row: Mapping[str, Any], currency: str | None) -> Any:
    options = {"currency": currency} if currency else {}
    return mapped(row, {"column": "m", **options}, MONEY, rates=RATES)


def test_money_as_entered_in_base_or_in_a_named_currency() -> None:
    row = {"m": 92.0, "m_base": 100.0, "transactioncurrencyid": EURO}
    assert amount(row, None) == amount(row, "transaction") == 92.0
    assert amount(row, "base") == 100.0
    assert amount(row, "EUR") == 92.0
    assert amount(row, "GBP") == 79.0


def test_money_in_its_own_currency_is_exactly_what_was_entered() -> None:
    """The rate of the deal's day, which the base amount was made with, is not today's."""
    assert amount({"m": 100.0, "m_base": 111.11, "transactioncurrencyid": EURO}, "EUR") == 100.0


@pytest.mark.parametrize("currency", [None, "base", "transaction", "EUR", "GBP"])
def test_no_money_is_no_money(currency: str | None) -> None:
    assert amount({"m": None, "m_base": None, "transactioncurrencyid": EURO}, currency) is None
    assert amount({}, currency) is None


@given(st.decimals(-(10**9), 10**9, places=4), st.decimals("0.0001", 10**4, places=4))
def test_conversion_is_exact_to_the_cent(base: Decimal, rate: Decimal) -> None:
    found = mapped(
        {"m": 1.0, "m_base": float(base), "transactioncurrencyid": EURO},
        {"column": "m", "currency": "GBP"},
        MONEY,
        rates={"GBP": Rate(POUND, float(rate))},
    )
    assert abs(Decimal(str(found)) - base * rate) <= Decimal("0.005") + abs(base * rate) * Decimal("1e-15")


# --- first_of, when, value ---------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.none(), st.sampled_from(["", "  ", "x", "y"])), min_size=1, max_size=5))
def test_first_of_is_the_first_that_is_not_empty(values: list[str | None]) -> None:
    row = {f"c{number}": value for number, value in enumerate(values)}
    full = [value for value in values if value and value.strip()]
    assert mapped(row, {"first_of": list(row)}) == (full[0] if full else None)


def test_first_of_takes_nought_and_no() -> None:
    assert mapped({"a": 0, "b": 5}, {"first_of": ["a", "b"]}, a_field("integer")) == 0
    assert mapped({"a": False, "b": True}, {"first_of": ["a", "b"]}, a_field("boolean")) is False


WHEN = {"when": "s", "is": {"1": "won", "2": "lost"}, "else": "open"}


@pytest.mark.parametrize(("state", "expected"), [(1, "w"), (2, "l"), (0, "o"), (None, "o"), ("1", "w"), (1.0, "w")])
def test_when_takes_another_column_by_a_choice(state: Any, expected: str) -> None:
    assert mapped({"s": state, "won": "w", "lost": "l", "open": "o"}, WHEN) == expected


def test_when_without_else_clears() -> None:
    assert mapped({"s": 3, "won": "w"}, {"when": "s", "is": {"1": "won"}}) is None
    assert mapped({"s": 1, "won": None}, WHEN) is None


@pytest.mark.parametrize(("value", "expected"), [(True, "y"), (False, "n"), (None, "e")])
def test_when_by_yes_and_no(value: Any, expected: str) -> None:
    choice = {"when": "s", "is": {"true": "yes", "false": "no"}, "else": "empty"}
    assert mapped({"s": value, "yes": "y", "no": "n", "empty": "e"}, choice) == expected


def test_when_in_a_currency() -> None:
    value = {"when": "s", "is": {"1": "actual"}, "else": "m", "currency": "base"}
    row = {"s": 1, "actual": 9.2, "actual_base": 10.0, "m": 92.0, "m_base": 100.0}
    assert mapped(row, value, MONEY) == 10.0
    assert mapped(row | {"s": 0}, value, MONEY) == 100.0


@pytest.mark.parametrize(
    ("value", "type", "expected"), [("Dynamics", "string", "Dynamics"), (5, "integer", 5), (False, "boolean", False)]
)
def test_a_constant_is_the_same_for_all(value: Any, type: str, expected: Any) -> None:
    assert mapped({}, {"value": value}, a_field(type)) == expected


# --- product ----------------------------------------------------------------------------------------------------


def revenue(m: Any, chance: Any) -> Any:
    types = {"amount": "currency", "probability": "integer", "expectedRevenue": "currency"}
    fields = {"amount": "m", "probability": "p", "expectedRevenue": {"product": ["amount", "probability%"]}}
    return several({"m": m, "p": chance}, types, **fields)["expectedRevenue"]


@pytest.mark.parametrize(
    ("m", "chance", "expected"),
    [(1000.0, 80, 800.0), (0.1, 30, 0.03), (1000.0, 0, 0.0), (None, 80, None), (1000.0, None, None)],
)
def test_a_product_of_fields(m: Any, chance: Any, expected: Any) -> None:
    assert revenue(m, chance) == expected


@given(st.decimals(0, 10**7, places=2), st.integers(0, 100))
def test_a_product_is_exact_to_the_cent(m: Decimal, chance: int) -> None:
    assert abs(Decimal(str(revenue(float(m), chance))) - m * chance / 100) <= Decimal("0.005")


def test_a_product_of_text_parks_its_record_with_its_own_name() -> None:
    with pytest.raises(UnfitValueError, match=r"^expectedRevenue"):
        several(
            {"m": "a", "p": 2},
            {"stage": "string", "probability": "integer", "expectedRevenue": "currency"},
            stage="m",
            probability="p",
            expectedRevenue={"product": ["stage", "probability"]},
        )


# --- what is needed, and what doesn't fit -----------------------------------------------------------------------


def test_every_column_that_a_source_reads_is_told() -> None:
    def read(value: Any) -> list[str]:
        return [need.column for need in needs(source(value))]

    assert read("a") == ["a"]
    assert read({"first_of": ["a", "b.c"]}) == ["a", "b.c"]
    assert read(WHEN) == ["s", "won", "lost", "open"]
    assert read({"when": "s", "is": {"1": "won"}}) == ["s", "won"]
    assert read({"value": 1}) == []


KINDS = {
    "text": "String", "memo": "Memo", "whole": "Integer", "big": "BigInt", "decimal": "Decimal", "double": "Double",
    "money": "Money", "date": "DateTime", "flag": "Boolean", "choice": "Picklist", "several": "MultiSelectPicklist",
    "lookup": "Lookup", "customer": "Customer", "owner": "Owner", "state": "State", "status": "Status",
    "guid": "Uniqueidentifier",
}  # fmt: skip
EVERYTHING = ["string", "text", "phone", "url"]
NUMBERS = ["integer", "percent", "score", "float", "currency"]
ALL_TYPES = [*EVERYTHING, *NUMBERS, "email", "boolean", "date", "datetime"]
FITTING: dict[str, list[str]] = {
    **{column: [type for type in ALL_TYPES if type != "boolean"] for column in ("text", "memo")},
    **{column: [*EVERYTHING, *NUMBERS] for column in ("whole", "big", "decimal", "double", "money")},
    "date": [*EVERYTHING, "date", "datetime"],
    "flag": [*EVERYTHING, "boolean"],
    **{column: [*EVERYTHING, *NUMBERS, "boolean"] for column in ("choice", "state", "status")},
    "several": EVERYTHING,
    **dict.fromkeys(("lookup", "customer", "owner", "guid"), EVERYTHING),
}


@pytest.mark.parametrize("type", ALL_TYPES)
@pytest.mark.parametrize("column", FITTING)
def test_every_column_type_against_every_field_type(column: str, type: str) -> None:
    assert (unfit(source(column), KINDS, type) == "") is (type in FITTING[column])


@pytest.mark.parametrize(
    ("value", "type", "why"),
    [
        ("gone", "string", "Dynamics has no column gone"),
        ({"column": "text", "as": "label"}, "string", "text has no labels (it is String)"),
        ({"column": "whole", "as": "name"}, "string", "whole is no lookup (it is Integer)"),
        ({"column": "whole", "currency": "base"}, "currency", "whole has no currency (it is Integer)"),
        ({"column": "choice", "as": "label"}, "integer", "choice (Picklist) doesn't fit Marketo's type integer"),
        ({"column": "choice", "equals": 1}, "integer", "choice (Picklist) doesn't fit Marketo's type integer"),
        ({"column": "lookup", "as": "name"}, "date", "lookup (Lookup) doesn't fit Marketo's type date"),
        ({"first_of": ["text", "gone"]}, "string", "Dynamics has no column gone"),
        ({"when": "gone", "is": {"1": "text"}}, "string", "Dynamics has no column gone"),
        ({"when": "state", "is": {"1": "text"}, "else": "gone"}, "string", "Dynamics has no column gone"),
        ({"when": "state", "is": {"1": "text"}, "currency": "base"}, "currency", "text has no currency (it is String)"),
        (
            "text",
            "boolean",
            "text (String) doesn't fit Marketo's type boolean: ask for a value by equals or in",
        ),
        ({"first_of": ["text", "flag"]}, "boolean", "text (String) doesn't fit Marketo's type boolean"),
        (
            {"column": "state", "equals": "Won"},
            "boolean",
            "state holds numbers (it is State): name them, no labels",
        ),
        ({"column": "text", "as": "id"}, "string", "text is no lookup (it is String)"),
        (
            {"column": "choice", "as": "label", "join": ", "},
            "string",
            "choice is no multi-select choice (it is Picklist): take join out",
        ),
        ({"column": "flag", "in": [1]}, "boolean", "flag holds yes or no (it is Boolean): write true or false"),
        (
            {"when": "state", "is": {"0": "text", "Won": "memo"}},
            "string",
            "state holds numbers (it is State): name them, no labels",
        ),
    ],
)
def test_why_a_source_does_not_fit(value: Any, type: str, why: str) -> None:
    assert unfit(source(value), KINDS, type) == why


@pytest.mark.parametrize(
    ("value", "type"),
    [
        ({"first_of": ["date", "money"]}, "date"),
        ({"first_of": ["flag"]}, "integer"),
        ({"when": "state", "is": {"1": "money"}, "else": "date"}, "currency"),
        ({"when": "state", "is": {"1": "lookup"}}, "boolean"),
    ],
)
def test_a_retyped_column_of_first_of_or_when_suspends_its_field(value: Any, type: str) -> None:
    """Otherwise every record would be parked, when only the one field is in trouble."""
    assert unfit(source(value), KINDS, type) != ""


@pytest.mark.parametrize(
    ("value", "type"),
    [
        ({"value": "Dynamics"}, "integer"),
        ({"value": True}, "date"),
        ({"column": "whole", "default": "none"}, "integer"),
    ],
)
def test_a_constant_that_never_fits_suspends_its_field(value: Any, type: str) -> None:
    """Otherwise every record would be parked for what one line of sync.toml gets wrong."""
    suspended = usable({"field": source(value)}, {"field": a_field(type)}, KINDS)[1]
    assert "in the mapping doesn't fit" in suspended["field"]


ID = "11111111-2222-4333-8444-55555555555a"
GROUPS: list[tuple[str, list[Any], list[Any], list[str], list[str]]] = [
    ("text memo", ["", "5", "Won", ID, "true"], [5, 1.5, True], ["1", "Won", ID.upper()], []),
    (
        "whole big choice state status",
        [1, -1, 0, 2_000_000_000, 1.0],
        ["1", "Won", True, False, 1.5],
        ["1", "-1", "0"],
        ["Won", "1.5", "01", "true", "1.0", "1,2", ""],
    ),
    ("several", [1, 2], ["1", "1,2", "One", True, 1.5], ["1", "1,2"], ["One", "1,", "1;2"]),
    (
        "decimal double money",
        [1, 1.0, 1.5, -0.25],
        ["1.5", True],
        ["1", "1.5", "-0.25"],
        ["1.0", "1.50", "01", "nan", "1e3", "true"],
    ),
    (
        "date",
        ["2026-01-31", "2026-01-31T08:00:00Z"],
        ["today", "2026-01", 2026, True],
        ["2026-01-31", "2026-01-31T08:00:00Z"],
        ["today"],
    ),
    ("flag", [True, False], [0, 1, "Yes", "true"], ["true", "false"], ["1", "Yes", "True"]),
    ("lookup customer owner", [ID, ID.upper()], ["Robin Vendor", 1, True], [ID], ["Robin Vendor", ID.upper()]),
    ("guid", [ID, ID.upper()], ["x", 1, True], [ID], ["x", ID.upper()]),
]
"""Columns; what they may be asked for, and what not; which keys of `is` they may select, and which not."""
HELD = {column: group[1:] for group in GROUPS for column in group[0].split()}


@pytest.mark.parametrize("column", FITTING)
def test_only_what_a_column_may_hold_can_be_asked_for(column: str) -> None:
    """A rule about anything else holds for nobody, or by `not_in` for everybody."""
    held, never, _, _ = HELD[column]
    for value in held:
        assert misfit(column, KINDS[column], [value]) == "", value
    for value in never:
        assert misfit(column, KINDS[column], [*held, value]).startswith(f"{column} holds "), value


@pytest.mark.parametrize("column", [column for column in FITTING if column not in ("text", "memo", "several")])
def test_what_is_refused_is_what_no_value_of_the_column_is_equal_to(column: str) -> None:
    held, never, _, _ = HELD[column]
    assert all(any(matches(value, named) for value in held) for named in held)
    assert not any(matches(value, named) for value in held for named in never)


@pytest.mark.parametrize("column", FITTING)
def test_what_only_decides_may_be_of_any_type_in_its_own_words(column: str) -> None:
    """`{ when = column, is = { key = … } }`: a key that no value selects would take the `else` for all."""
    _, _, cases, no_cases = HELD[column]

    def why(*keys: str) -> str:
        return unfit(source({"when": column, "is": dict.fromkeys(keys, "whole"), "else": "money"}), KINDS, "float")

    assert why(*cases) == ""
    for key in no_cases:
        assert why(*cases, key).startswith(f"{column} holds "), key


@pytest.mark.parametrize("column", [column for column in FITTING if column not in ("text", "memo", "several")])
def test_each_key_that_is_taken_is_selected_by_a_value(column: str) -> None:
    held, _, cases, _ = HELD[column]
    assert set(cases) <= {case_of(value) for value in held}


@pytest.mark.parametrize("value", ["flag", {"column": "choice", "equals": 1}, {"column": "whole", "in": [1]}])
def test_questions_and_yes_or_no_fit_a_boolean(value: Any) -> None:
    assert unfit(source(value), KINDS, "boolean") == ""


def test_a_product_without_a_factor_is_left_alone_too() -> None:
    config = a_config(
        opportunity={"a": "gone", "b": "whole", "c": {"product": ["a%", "b"]}, "d": {"product": ["b", "b"]}}
    )
    described = {name: MarketoField(name, "float", None, updateable=True) for name in "abcd"}
    fields, suspended = usable(config.opportunity.fields, described, KINDS)
    assert set(fields) == {"b", "d"}
    assert suspended == {"a": "Dynamics has no column gone", "c": "it multiplies a"}


def test_a_product_fits_only_numbers() -> None:
    config = a_config(opportunity={"b": "whole", "c": {"product": ["b", "b"]}})
    described = {
        "b": MarketoField("b", "float", None, updateable=True),
        "c": MarketoField("c", "date", None, updateable=True),
    }
    assert set(usable(config.opportunity.fields, described, KINDS)[1]) == {"c"}
