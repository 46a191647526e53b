"""What a Dataverse value becomes in Marketo: each line of the default mapping, each of Marketo's types, any JSON."""

from __future__ import annotations

import json
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_core.mapping import parse
from sync_core.model import MarketoField, Rate
from sync_core.rules.fields import (
    TEXT_BYTES,
    UnfitValueError,
    digests,
    marketo_fields,
    shorten,
    usable,
)
from sync_core.rules.sources import Knowledge
from tests.builders import a_config, a_field, converted, mapped, source

DEFAULTS = parse((Path(__file__).parents[2] / "sync.toml").read_text(encoding="utf-8"))
DESCRIBED = {
    name: MarketoField(name, type, length, updateable=True)
    for name, type, length in (
        ("name", "string", 255),
        ("description", "string", 2000),
        ("amount", "currency", None),
        ("stage", "string", 255),
        ("closeDate", "date", None),
        ("probability", "integer", None),
        ("isWon", "boolean", None),
        ("isClosed", "boolean", None),
        ("externalCreatedDate", "datetime", None),
    )
}
LABELS = {("statecode", 1033): {0: "Open", 1: "Won", 2: "Lost"}}
TYPES = ["string", "text", "email", "phone", "url", "integer", "percent", "score", "float", "currency"]
TYPES += ["boolean", "date", "datetime", "reference"]


def by_default(**row: Any) -> dict[str, Any]:
    return dict(marketo_fields(row, DEFAULTS.opportunity.fields, DESCRIBED, Knowledge(LABELS, {})).values)


# --- the default mapping --------------------------------------------------------------------------------------


def test_the_default_mapping_turns_a_won_deal_into_marketos_fields() -> None:
    values = by_default(
        name=" Coffee shop ",
        description="Two\nlines",
        estimatedvalue=1.0,
        estimatedvalue_base=1604.475,
        statecode=1,
        estimatedclosedate="2026-04-01",
        actualclosedate="2026-03-20",
        closeprobability=80,
        createdon="2026-01-05T09:00:00Z",
    )

    assert values == {
        "name": "Coffee shop",
        "description": "Two\nlines",
        "amount": 1604.48,
        "stage": "Won",
        "closeDate": "2026-03-20",
        "probability": 80,
        "isWon": True,
        "isClosed": True,
        "externalCreatedDate": "2026-01-05T09:00:00Z",
    }


def test_the_default_mapping_clears_what_is_empty_but_never_the_name() -> None:
    values = by_default(statecode=0)

    assert values == dict.fromkeys(DESCRIBED) | {
        "name": "(no topic)",
        "stage": "Open",
        "isWon": False,
        "isClosed": False,
    }


@pytest.mark.parametrize(("state", "won", "closed"), [(0, False, False), (1, True, True), (2, False, True)])
def test_won_and_closed_follow_the_state(state: int, won: bool, closed: bool) -> None:
    values = by_default(statecode=state)

    assert (values["isWon"], values["isClosed"]) == (won, closed)


# --- Marketo's types ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "value", "sent"),
    [
        ("string", " text ", "text"),
        ("string", " café ", "café"),
        ("string", 5, "5"),
        ("string", 5.5, "5.5"),
        ("string", True, "true"),
        ("string", "", None),
        ("string", " \t\n", None),
        ("text", "one\r\ntwo", "one\r\ntwo"),
        ("phone", "+1 555 0100", "+1 555 0100"),
        ("url", "https://example.invalid/?a=b", "https://example.invalid/?a=b"),
        ("email", "ann@example.invalid", "ann@example.invalid"),
        ("integer", 5, 5),
        ("integer", 5.0, 5),
        ("integer", 4.999999999, 5),
        ("integer", "42", 42),
        ("integer", 9_007_199_254_740_993, 9_007_199_254_740_993),
        ("percent", 99, 99),
        ("score", -3, -3),
        ("float", 5.4, 5.4),
        ("float", 5, 5.0),
        ("currency", 34.664, 34.66),
        ("currency", 2.675, 2.68),
        ("currency", 2.665, 2.67),
        ("currency", -0.001, 0.0),
        ("currency", 1_000_000, 1_000_000.0),
        ("boolean", True, True),
        ("boolean", 0, False),
        ("boolean", 1, True),
        ("date", "2026-08-30", "2026-08-30"),
        ("date", "2026-08-30T23:30:00Z", "2026-08-30"),
        ("date", "0099-01-01", "0099-01-01"),
        ("datetime", "2026-08-30T05:49:48Z", "2026-08-30T05:49:48Z"),
        ("datetime", "2026-08-30T05:49:48.123Z", "2026-08-30T05:49:48Z"),
        ("datetime", "2026-08-30T05:49:48.1234567Z", "2026-08-30T05:49:48Z"),
        ("datetime", "2026-08-30T05:49:48+02:00", "2026-08-30T03:49:48Z"),
        ("datetime", "2026-08-30T22:00:00-05:00", "2026-08-31T03:00:00Z"),
        ("datetime", "2026-08-30", "2026-08-30T00:00:00Z"),
        ("datetime", "0099-01-01T00:00:00Z", "0099-01-01T00:00:00Z"),
        ("reference", "text", "text"),
    ],
)
def test_a_value_is_sent_in_the_type_of_its_field(type: str, value: Any, sent: Any) -> None:
    found = converted(value, a_field(type))

    assert (found, found.__class__) == (sent, sent.__class__)


@pytest.mark.parametrize(
    ("type", "value"),
    [
        ("string", ["secret"]),
        ("string", {"secret": 1}),
        ("string", float("nan")),
        ("text", ["secret"]),
        ("email", "sécret@example.invalid"),
        ("integer", 14.1),
        ("integer", "secret"),
        ("integer", True),
        ("integer", float("inf")),
        ("integer", float("nan")),
        ("integer", 10**400),
        ("integer", "1e999999"),
        ("percent", [1]),
        ("float", float("-inf")),
        ("float", "nan"),
        ("float", "sNaN"),
        ("float", False),
        ("currency", float("inf")),
        ("currency", "Infinity"),
        ("currency", 1e300),
        ("currency", {"secret": 1}),
        ("boolean", "secret"),
        ("boolean", 2),
        ("boolean", [True]),
        ("date", "30.08.2026"),
        ("date", 20260830),
        ("date", "secret"),
        ("datetime", 1_700_000_000),
        ("datetime", "0001-01-01T00:00:00+05:00"),
        ("datetime", ["2026-08-30"]),
    ],
)
def test_a_value_that_marketo_would_refuse_is_refused_without_being_quoted(type: str, value: Any) -> None:
    with pytest.raises(UnfitValueError) as caught:
        converted(value, a_field(type, name="field__c"))

    assert str(caught.value) == f"field__c: the value does not fit Marketo's type {type}"
    assert caught.value.__suppress_context__


def test_a_moment_without_zone_is_utc_wherever_the_sync_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()

        found = converted("2026-08-30T05:49:48", a_field("datetime"))
    time.tzset()

    assert found == "2026-08-30T05:49:48Z"


@pytest.mark.parametrize("type", TYPES)
def test_null_clears_a_field_of_any_type(type: str) -> None:
    assert converted(None, a_field(type)) is None


# --- options of a line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [None, "", "  ", "\ud83d"])
def test_the_default_stands_in_for_empty_text(empty: str | None) -> None:
    assert converted(empty, default="none given") == "none given"


def test_the_default_does_not_replace_zero_or_no() -> None:
    assert converted(0, a_field("integer"), default=7) == 0
    assert converted(False, a_field("boolean"), default=True) is False


def test_a_constant_is_sent_whatever_the_row_holds() -> None:
    assert mapped({}, {"value": "Dynamics"}) == "Dynamics"


def test_the_first_of_several_columns_that_is_not_empty_counts() -> None:
    line = {"first_of": ["one", "two", "three"]}

    assert mapped({"one": " ", "two": "second", "three": "third"}, line) == "second"
    assert mapped({"one": None, "two": 0, "three": 3}, line, a_field("integer")) == 0
    assert mapped({}, line) is None


def test_equals_and_in_say_yes_or_no_also_for_an_empty_column() -> None:
    yes_no = a_field("boolean")

    assert [mapped({"c": value}, {"column": "c", "equals": 1}, yes_no) for value in (1, 2, None)] == [
        True,
        False,
        False,
    ]
    assert [mapped({"c": value}, {"column": "c", "in": [1, 2]}, yes_no) for value in (2, 3, None)] == [
        True,
        False,
        False,
    ]


def test_base_currency_reads_the_base_column_and_plain_money_the_other() -> None:
    row = {"revenue": 1.0, "revenue_base": 2.0}
    money = a_field("currency")

    assert mapped(row, {"column": "revenue", "currency": "base"}, money) == 2.0
    assert mapped(row, "revenue", money) == 1.0


def test_a_label_replaces_the_value_in_the_language_asked_for() -> None:
    labels = {("c", 1033): {1: "Won", 2: " "}, ("c", 1031): {1: "Gewonnen"}}

    assert mapped({"c": 1}, {"column": "c", "as": "label"}, labels=labels) == "Won"
    assert mapped({"c": 1}, {"column": "c", "as": "label", "language": 1031}, labels=labels) == "Gewonnen"


def test_a_choice_without_label_shows_its_number() -> None:
    labels = {("c", 1033): {2: " "}}

    assert mapped({"c": 7}, {"column": "c", "as": "label"}, labels=labels) == "7"
    assert mapped({"c": 2}, {"column": "c", "as": "label"}, labels=labels) == "2"
    assert mapped({"c": None}, {"column": "c", "as": "label", "default": "none"}, labels=labels) == "none"


# --- length ---------------------------------------------------------------------------------------------------


def test_text_is_cut_at_the_described_length_and_the_field_is_named() -> None:
    field = a_field(length=5)
    fields = {field.name: source("c")}

    found = marketo_fields({"c": "abcd efg"}, fields, {field.name: field}, Knowledge({}, {}))

    assert found.values == {"field": "abcd"}
    assert found.cut == ("field",)
    assert marketo_fields({"c": " abcde "}, fields, {field.name: field}, Knowledge({}, {})).cut == ()


def test_text_is_cut_at_255_where_nothing_is_described() -> None:
    assert [len(converted("x" * 300, a_field(type))) for type in ("string", "url", "phone", "email")] == [255] * 4


def test_a_text_area_is_cut_by_bytes() -> None:
    field = a_field("text")

    assert len(converted("é" * 20_000, field).encode()) == TEXT_BYTES
    assert converted("é" * 15_000, field) == "é" * 15_000


@pytest.mark.parametrize(("type", "length"), [("string", 5), ("text", None)])
def test_text_that_is_too_long_is_refused_where_the_mapping_says_so(type: str, length: int | None) -> None:
    with pytest.raises(UnfitValueError, match=r"^field: .* \d+ (characters|bytes)") as caught:
        converted("secret " * 10_000, a_field(type, length), too_long="reject")

    assert "secret" not in str(caught.value)
    assert converted("abc", a_field(type, length), too_long="reject") == "abc"


@pytest.mark.parametrize(
    ("text", "limit", "left"),
    [
        ("abcdef", 3, "abc"),
        ("ab cdef", 3, "ab"),
        ("ab😀cd", 3, "ab"),
        ("ab😀cd", 4, "ab😀"),
        ("cafe\u0301s", 4, "caf"),
        ("cafe\u0301s", 5, "cafe\u0301"),
        ("a👩\u200d👩\u200d👧b", 7, "a"),
        ("a👍🏽b", 4, "a"),
        ("a👍🏽b", 5, "a👍🏽"),
        ("e" + "\u0301" * 9, 4, "e" + "\u0301" * 3),
        ("a🇩🇪🇺🇦", 6, "a🇩🇪"),
        ("a🇩🇪🇺🇦", 8, "a🇩🇪"),
        ("a🇩🇪🇺🇦🇫🇷", 9, "a🇩🇪🇺🇦"),
        ("a🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", 14, "a"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", 5, "\u1112\u1161\u11ab"),
        ("\u1112\u1161\u11ab", 2, "\u1112\u1161"),
        ("ab\r\nc", 3, "ab"),
    ],
)
def test_a_cut_never_leaves_half_a_character(text: str, limit: int, left: str) -> None:
    assert shorten(text, limit) == left


any_text = st.text(st.characters()) | st.text("ab é\u0301\u200d👩👧🏽😀\ud83d\ude00", max_size=40)


@given(any_text, st.integers(1, 30))
def test_cut_text_is_the_beginning_of_the_text_and_fits(text: str, limit: int) -> None:
    cut = shorten(text, limit)

    assert text.startswith(cut)
    assert len(cut.encode("utf-16-le", "surrogatepass")) <= 2 * limit
    assert cut == cut.rstrip()


characters = st.sampled_from(
    [
        "a",
        "é",
        "e\u0301\u0323",
        "😀",
        "👍🏽",
        "👩\u200d👩\u200d👧",
        "🇩🇪",
        "🇺🇦",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "1\ufe0f\u20e3",
        "한",
        "\u1112\u1161\u11ab",
        "\u1112\u1161",
        "\u0915\u094d\u0937",
        "\u0e01\u0e33",
        "ﾊ\uff9f",
    ]
)


@given(st.lists(characters, max_size=12), st.integers(14, 40))
def test_a_cut_keeps_as_many_characters_as_fit_and_only_whole_ones(wanted: list[str], limit: int) -> None:
    """Characters as people see them; the longest of these, the flag of England, has 14 units."""

    def size(whole: list[str]) -> int:
        return len("".join(whole).encode("utf-16-le")) // 2

    fit = max(number for number in range(len(wanted) + 1) if size(wanted[:number]) <= limit)
    assert shorten("".join(wanted), limit) == "".join(wanted[:fit])


@given(any_text, st.integers(1, 30), st.sampled_from(["string", "text", "url"]))
def test_sent_text_can_always_be_written_as_json(text: str, limit: int, type: str) -> None:
    found = converted(text, a_field(type, limit))

    assert found is None or json.loads(json.dumps(found, ensure_ascii=False).encode()) == found
    assert found is None or not any(unicodedata.category(character) == "Cs" for character in found)
    assert found != ""


# --- any JSON at all ------------------------------------------------------------------------------------------

numbers = st.integers() | st.floats() | st.sampled_from([10**400, -(10**30), 1e308, 2**63, float("inf"), float("nan")])
written = st.sampled_from(
    ["1e400", "NaN", "-Infinity", "1e999999999", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
)
scalars = st.none() | st.booleans() | numbers | st.text(st.characters()) | written | st.datetimes().map(str)
any_json = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
lines: list[dict[str, Any]] = [
    {"column": "c"},
    {"column": "c", "as": "label"},
    {"column": "c", "equals": 1},
    {"column": "c", "in": [1, "a"]},
    {"column": "c", "default": "none"},
    {"first_of": ["b", "c"]},
]
LINES = [source(line) for line in lines]


@given(any_json, st.sampled_from(TYPES), st.sampled_from(LINES))
def test_any_value_is_either_sent_as_strict_json_or_refused_by_field_and_type(value: Any, type: str, line: Any) -> None:
    field = a_field(type)
    try:
        found = marketo_fields(
            {"c": value}, {"field": line}, {"field": field}, Knowledge({("c", 1033): {1: "Won"}}, {})
        )
    except UnfitValueError as error:
        assert str(error) == f"field: the value does not fit Marketo's type {type}"  # noqa: PT017 - the other outcome
        return

    sent = found.values["field"]
    assert sent is None or isinstance(sent, (str, int, float, bool))
    assert json.loads(json.dumps(sent, allow_nan=False, ensure_ascii=False).encode()) == sent
    assert set(digests(found.values)) == ({"field"} if sent is not None else set())


# --- fields that can't be filled now ----------------------------------------------------------------------------


KINDS = {
    "name": "String",
    "memo": "Memo",
    "number": "Integer",
    "money": "Money",
    "date": "DateTime",
    "flag": "Boolean",
    "choice": "Picklist",
    "several": "MultiSelectPicklist",
    "statecode": "State",
    "customerid": "Customer",
    "customerid.name": "String",
}


def suspended(line: Any, type: str = "string", *, updateable: bool = True) -> str:
    """Why a field with this line is left alone, or ''."""
    fields = a_config(opportunity={"field": line}).opportunity.fields
    _, found = usable(fields, {"field": a_field(type, name="field", updateable=updateable)}, KINDS)
    return found.get("field", "")


def test_a_field_that_marketo_lacks_is_left_alone_and_the_others_go_on() -> None:
    fields = a_config(opportunity={"stage": "name", "nope__c": "memo"}).opportunity.fields

    going, left = usable(fields, {"stage": a_field(name="stage")}, KINDS)

    assert going.keys() == {"stage"}
    assert left["nope__c"].startswith("Marketo has no such field")


def test_a_field_that_nobody_may_write_is_left_alone() -> None:
    assert suspended("name", updateable=False).startswith("Marketo lets nobody write it")


@pytest.mark.parametrize(
    ("line", "type", "why"),
    [
        ("gone", "string", "Dynamics has no column gone"),
        ({"first_of": ["name", "gone"]}, "string", "Dynamics has no column gone"),
        ({"when": "flag", "is": {"true": "gone"}}, "string", "Dynamics has no column gone"),
        ("customerid.gone", "string", "Dynamics has no column customerid.gone"),
        ({"column": "name", "as": "label"}, "string", "name has no labels (it is String)"),
        ({"column": "name", "as": "name"}, "string", "name is no lookup (it is String)"),
        ({"column": "number", "currency": "base"}, "float", "number has no currency (it is Integer)"),
        ("date", "integer", "date (DateTime) doesn't fit Marketo's type integer"),
        ("number", "date", "number (Integer) doesn't fit Marketo's type date"),
        ("flag", "currency", "flag (Boolean) doesn't fit Marketo's type currency"),
        ("customerid", "integer", "customerid (Customer) doesn't fit Marketo's type integer"),
        ({"column": "choice", "as": "label"}, "integer", "choice (Picklist) doesn't fit Marketo's type integer"),
        ({"column": "statecode", "equals": 1}, "date", "statecode (State) doesn't fit Marketo's type date"),
        ({"value": "x"}, "integer", "'x' in the mapping doesn't fit Marketo's type integer"),
        (
            {"column": "number", "default": "none"},
            "integer",
            "'none' in the mapping doesn't fit Marketo's type integer",
        ),
    ],
)
def test_a_column_that_is_gone_or_of_another_type_is_named(line: Any, type: str, why: str) -> None:
    assert suspended(line, type) == why


@pytest.mark.parametrize(
    ("line", "type"),
    [
        ("name", "integer"),  # text may spell anything
        ("number", "string"),
        ("number", "currency"),
        ("date", "datetime"),
        ("date", "string"),
        ("flag", "boolean"),
        ("choice", "integer"),
        ("customerid", "string"),
        ("customerid.name", "string"),
        ({"column": "customerid", "as": "name"}, "string"),
        ({"column": "several", "as": "label"}, "text"),
        ({"column": "statecode", "in": [1, 2]}, "boolean"),
        ({"value": "x"}, "string"),
        ({"value": 5}, "integer"),
    ],
)
def test_what_can_fit_is_not_left_alone(line: Any, type: str) -> None:
    assert suspended(line, type) == ""


def test_a_product_of_a_field_that_is_left_alone_is_left_alone_too() -> None:
    lines = {"amount": "gone", "probability": "number", "expected": {"product": ["amount", "probability%"]}}
    fields = a_config(opportunity=lines).opportunity.fields

    going, left = usable(fields, {name: a_field("float", name=name) for name in lines}, KINDS)

    assert going.keys() == {"probability"}
    assert left["expected"] == "it multiplies amount"


# --- where values come from ------------------------------------------------------------------------------------


def test_the_label_of_a_choice_and_of_several() -> None:
    labels = {("c", 1033): {1: "Boats", 2: "Cars", 3: "Trains"}}

    assert mapped({"c": 2}, {"column": "c", "as": "label"}, labels=labels) == "Cars"
    assert mapped({"c": "1,3"}, {"column": "c", "as": "label"}, labels=labels) == "Boats;Trains"
    assert mapped({"c": "1,9"}, {"column": "c", "as": "label", "join": " | "}, labels=labels) == "Boats | 9"
    assert mapped({"c": True}, {"column": "c", "as": "label"}, labels={("c", 1033): {0: "No", 1: "Yes"}}) == "Yes"


def test_the_id_and_the_name_of_a_lookup_and_a_column_one_hop_away() -> None:
    row = {"customerid": "an-id", "customerid@name": "Acme", "originatingleadid.leadsourcecode": 4}

    assert mapped(row, "customerid") == "an-id"
    assert mapped(row, {"column": "customerid", "as": "id"}) == "an-id"
    assert mapped(row, {"column": "customerid", "as": "name"}) == "Acme"
    assert mapped(row, "originatingleadid.leadsourcecode", a_field("integer")) == 4


def test_the_case_of_another_column_decides_and_none_takes_the_else() -> None:
    line = {"when": "statecode", "is": {"1": "actualvalue"}, "else": "estimatedvalue", "currency": "base"}
    row = {"actualvalue_base": 5.0, "estimatedvalue_base": 9.0}
    money = a_field("currency")

    assert mapped({**row, "statecode": 1}, line, money) == 5.0
    assert mapped({**row, "statecode": 0}, line, money) == 9.0
    assert mapped({**row, "statecode": None}, line, money) == 9.0
    assert mapped({"statecode": 2, "a": 1}, {"when": "statecode", "is": {"1": "a"}}, money) is None


@pytest.mark.parametrize(
    ("currency", "amount"), [("transaction", 100.0), ("base", 80.0), ("USD", 120.0), ("EUR", 100.0)]
)
def test_an_amount_as_entered_in_base_currency_or_converted(currency: str, amount: float) -> None:
    """One pound, the base, is 1.25 euros and 1.5 dollars; the deal was entered in euros, which stay exact."""
    row = {"v": 100.0, "v_base": 80.0, "transactioncurrencyid": "eur"}
    rates = {"EUR": Rate("eur", 1.25), "USD": Rate("usd", 1.5), "GBP": Rate("gbp", 1.0)}

    assert mapped(row, {"column": "v", "currency": currency}, a_field("currency"), rates=rates) == amount


def test_a_product_multiplies_what_other_fields_send() -> None:
    lines = {"amount": "a", "probability": "p", "expected": {"product": ["amount", "probability%"]}}
    fields = a_config(opportunity=lines).opportunity.fields
    described = {name: a_field("currency" if name != "probability" else "integer", name=name) for name in lines}

    def expected(**row: Any) -> Any:
        return marketo_fields(row, fields, described, Knowledge({}, {})).values["expected"]

    assert expected(a=1000.5, p=20) == 200.1
    assert expected(a=None, p=20) is None


# --- digests --------------------------------------------------------------------------------------------------


def test_a_null_has_no_digest_so_that_cleared_and_never_posted_are_the_same() -> None:
    assert digests({"a": None, "b": 0, "c": False, "d": ""}).keys() == {"b", "c", "d"}


def test_digests_are_the_same_in_every_process_and_version() -> None:
    assert digests({"name": "Café 😀", "amount": 10.5, "isWon": True}) == {
        "name": "RF_gITJ-lB4",
        "amount": "r7zb_pa9oiM",
        "isWon": "9Wl1yANk9j8",
    }


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.integers() | st.booleans() | st.floats(allow_nan=False))
def test_a_digest_has_8_bytes_and_depends_on_the_value_alone(value: Any) -> None:
    one = digests({"a": value, "b": 1})

    assert len(one["a"]) == 11  # 8 bytes in base64url
    assert one["a"] == digests({"c": value})["c"]
    assert one["a"] != digests({"a": [value]})["a"]


def test_values_of_different_types_have_different_digests() -> None:
    values = {"a": 1, "b": 1.0, "c": True, "d": "1", "e": "true"}

    assert len(set(digests(values).values())) == len(values)
