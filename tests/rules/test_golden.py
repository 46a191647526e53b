"""Real opportunities from a Dynamics export: account and roles as the customer table of design.md §3 says.

What is expected comes from the export's own annotations, which name the table a look-up leads to; the rules never see
them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from sync_core.mapping import Stakeholders
from sync_core.model import Row
from sync_core.rules.association import CUSTOMER, Association, associate
from tests.builders import roles_of
from tests.shared import needs_shared, rows

FOLDER = "crm/ms_dynamics_financial_services/webapi_shape"
ANNOTATION = "@Microsoft.Dynamics.CRM.lookuplogicalname"

pytestmark = needs_shared


def target(row: Row, column: str) -> str | None:
    """The table that a look-up leads to, as the export says."""
    value = row.get(f"_{column}_value{ANNOTATION}")
    return None if value is None else str(value)


def plain(row: dict[str, Any], shadows: dict[str, str], column: str) -> Row:
    """The row as the sync reads it: no annotations, but the read-only shadows of a polymorphic look-up."""
    values = {name: value for name, value in row.items() if "@" not in name}
    kind = target(row, column)
    return values | {f"_{name}_value": row[f"_{column}_value"] for table, name in shadows.items() if table == kind}


@pytest.fixture(scope="module")
def contacts() -> dict[str, Row]:
    found = rows(f"{FOLDER}/contact.json")
    shadows = {"account": "accountid", "contact": "parentcontactid"}
    return {row["contactid"]: plain(row, shadows, "parentcustomerid") for row in found}


@pytest.fixture(scope="module")
def parents() -> dict[str, str | None]:
    """The account of each contact, by the annotation."""
    found = rows(f"{FOLDER}/contact.json")
    return {
        row["contactid"]: row["_parentcustomerid_value"] if target(row, "parentcustomerid") == "account" else None
        for row in found
    }


@pytest.fixture(scope="module")
def found(contacts: dict[str, Row]) -> list[tuple[dict[str, Any], Association]]:
    shadows = {"account": "accountid", "contact": "contactid"}
    return [
        (row, associate(plain(row, shadows, "customerid"), (), contacts, {}, Stakeholders()))
        for row in rows(f"{FOLDER}/opportunity.json")
    ]


Found = list[tuple[dict[str, Any], Association]]


def test_the_export_has_the_three_kinds_of_customer(found: Found) -> None:
    assert Counter(target(row, "customerid") for row, _ in found) == {"contact": 11, "account": 11, None: 1}


def test_each_of_the_23_opportunities_has_the_account_and_roles_of_the_table(
    found: Found, parents: dict[str, str | None]
) -> None:
    for row, association in found:
        kind, customer = target(row, "customerid"), row.get("_customerid_value")
        role = (str(customer), "Primary Contact", True, row["createdon"], CUSTOMER)
        expected = {
            "contact": (parents.get(str(customer)), [role]),
            "account": (customer, []),
            None: (None, []),
        }[kind]
        stakes = [(s.contact, s.text, s.primary, s.created, s.reason) for s in association.stakes]

        assert (association.account, stakes) == expected, row["name"]
        assert association.left_out == ()


def test_roles_are_settled_for_the_eleven_contacts_and_nobody_else(found: Found) -> None:
    settled = [(row, roles_of(association)[0]) for row, association in found]

    assert sum(len(roles) for _, roles in settled) == 11
    assert all(len(roles) == (target(row, "customerid") == "contact") for row, roles in settled)


def test_both_form_fields_filled_is_decided_by_the_customer(found: Found) -> None:
    both = [(row, a) for row, a in found if row.get("_parentaccountid_value") and row.get("_parentcontactid_value")]
    accounts = {row["name"] for row, a in both if a.account == row["_parentaccountid_value"] and not a.stakes}

    assert len(both) >= 8
    assert accounts == {row["name"] for row, _ in both if target(row, "customerid") == "account"}
    assert {row["name"] for row, a in both if a.stakes} == {"Betty Welch Mortgage"}
