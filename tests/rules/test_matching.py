"""Names and types that fit, and those that only seem to."""

from __future__ import annotations

import pytest

from sync_core.model import DataverseColumn, MarketoField
from sync_core.rules.matching import matches, unmatched


def a_field(name: str, type: str = "string", title: str = "") -> MarketoField:
    return MarketoField(name, type, 255 if type == "string" else None, True, title)


def a_column(name: str, type: str = "String", *titles: str) -> DataverseColumn:
    return DataverseColumn(name, type, titles, custom=name.startswith(("new_", "cr123_")))


def line(field: MarketoField, *columns: DataverseColumn) -> str:
    return "".join(match.line for match in matches([field], {column.name: column for column in columns}))


@pytest.mark.parametrize(
    ("field", "column", "why"),
    [
        (a_field("nextStep"), a_column("nextstep"), "same name"),
        (a_field("new_Next_Step__c"), a_column("new_nextstep"), "same name"),
        (a_field("nextStep__c"), a_column("new_next_step"), "same name without prefix"),
        (a_field("nextStep"), a_column("cr123_nextstep"), "same name without prefix"),
        (a_field("mainPhone"), a_column("telephone1", "String", "Main Phone"), "same display name"),
        (a_field("f_17", title="Next step"), a_column("new_nextstep"), "same name without prefix"),
        (a_field("industry"), a_column("industrycode", "Picklist"), "same name"),
        (a_field("größe"), a_column("new_a", "String", "Größe"), "same display name"),
    ],
)
def test_names_are_the_same(field: MarketoField, column: DataverseColumn, why: str) -> None:
    assert line(field, column).endswith(f", {why}")


@pytest.mark.parametrize(
    ("field", "column"),
    [
        (a_field("line1"), a_column("address1_line1")),  # no publisher: Dynamics' own
        (a_field("post"), a_column("postcode")),  # only choices are called so
        (a_field("step"), a_column("new_nextstep")),
        (a_field("___"), a_column("new_x", "String", "???")),
    ],
)
def test_names_only_look_alike(field: MarketoField, column: DataverseColumn) -> None:
    assert line(field, column) == ""


@pytest.mark.parametrize(
    ("kind", "type", "source"),
    [
        ("String", "string", '"new_x"'),
        ("Memo", "text", '"new_x"'),
        ("String", "email", '"new_x"'),
        ("Picklist", "string", '{ column = "new_x", as = "label" }'),
        ("Status", "string", '{ column = "new_x", as = "label" }'),
        ("Boolean", "string", '{ column = "new_x", as = "label" }'),
        ("Boolean", "boolean", '"new_x"'),
        ("Picklist", "integer", '"new_x"'),
        ("MultiSelectPicklist", "string", '{ column = "new_x", as = "label", join = ";" }'),
        ("Money", "currency", '{ column = "new_x", currency = "base" }'),
        ("Integer", "percent", '"new_x"'),
        ("Lookup", "string", '{ column = "new_x", as = "name" }'),
        ("Owner", "string", '{ column = "new_x", as = "name" }'),
        ("DateTime", "datetime", '"new_x"'),
        ("String", "integer", ""),
        ("Memo", "boolean", ""),
        ("Lookup", "integer", ""),
        ("DateTime", "float", ""),
        ("MultiSelectPicklist", "integer", ""),
        ("Money", "boolean", ""),
        ("Virtual", "string", ""),
        ("EntityName", "string", ""),
    ],
)
def test_the_form_follows_from_both_types(kind: str, type: str, source: str) -> None:
    found = line(a_field("x", type), a_column("new_x", kind))

    assert found.partition("  # ")[0] == (f"x = {source}" if source else "")


def test_the_nearest_name_wins() -> None:
    columns = (a_column("a", "String", "Region"), a_column("new_region"), a_column("region", "Lookup"))

    assert line(a_field("Region"), *columns) == (
        'Region = { column = "region", as = "name" }  # Lookup → string 255, same name'
    )
    assert line(a_field("Region", "text"), *columns[:2]).startswith('Region = "new_region"')


def test_a_display_name_in_any_language_is_one_and_the_users_own_wins() -> None:
    german = a_column("new_a", "String", "Gebiet", "Area")
    english = a_column("new_b", "String", "Area", "Gebiet")

    assert line(a_field("area"), german) == 'area = "new_a"  # String "Area" → string 255, same display name'
    assert line(a_field("area"), german, english).startswith('area = "new_b"')
    assert line(a_field("gebiet"), german, english).startswith('gebiet = "new_a"  # String "Gebiet"')
    assert line(a_field("A"), german) == 'A = "new_a"  # String "Gebiet" → string 255, same name without prefix'


def test_the_amount_in_base_currency_is_no_column_of_its_own() -> None:
    pair = (a_column("new_sum", "Money"), a_column("new_sum_base", "Money"))

    assert line(a_field("sumBase", "currency"), *pair) == ""
    assert unmatched({column.name: column for column in pair}, used=()) == [pair[0]]


def test_only_custom_columns_that_nothing_uses_are_left_over() -> None:
    columns = {name: a_column(name) for name in ("new_used", "new_free", "plain")}

    assert [column.name for column in unmatched(columns, {"new_used"})] == ["new_free"]
