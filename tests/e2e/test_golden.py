"""Other people's data through the whole path: Microsoft's sample org and real UK tenders."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from tests.shared import FOLDER, needs_shared, rows
from tests.stage import Stage

MICROSOFT = "crm/ms_dynamics_financial_services/webapi_shape"
UK = "crm/uk_public_procurement_ocds/derived"
TYPE = "@Microsoft.Dynamics.CRM.lookuplogicalname"

pytestmark = needs_shared


def loaded(folder: str, *files: str) -> tuple[Stage, dict[str, list[dict[str, Any]]]]:
    """A stage with these files in Dynamics and everybody with an address in Marketo."""
    stage = Stage()
    tables = {file: rows(f"{folder}/{file}.json") for file in files}
    names = {"opportunities": "opportunity", "accounts": "account", "contacts": "contact", "connections": "connection"}
    stage.load(**{names.get(file, file): found for file, found in tables.items()})
    contacts = tables.get("contact", tables.get("contacts", []))
    stage.people(*sorted({row["emailaddress1"].lower() for row in contacts if row.get("emailaddress1")}))
    return stage, tables


def test_microsofts_cases_come_out_as_the_customer_table_says() -> None:
    """11 customers are contacts, 11 are accounts, one opportunity has none (design.md §3)."""
    stage, tables = loaded(MICROSOFT, "account", "contact", "opportunity")
    contacts = {row["contactid"]: row for row in tables["contact"]}
    leads = {row["email"]: row["id"] for row in stage.marketo.rows("leads")}

    stage.sync()

    kinds = Counter[str]()
    for row in tables["opportunity"]:
        customer = row.get("_customerid_value")
        kind = row.get(f"_customerid_value{TYPE}", "none") if customer else "none"
        kinds[kind] += 1
        company, roles = None, set()
        if kind == "account":
            company = customer
        elif kind == "contact":
            contact = contacts[customer]
            if contact.get(f"_parentcustomerid_value{TYPE}") == "account":
                company = contact["_parentcustomerid_value"]
            if contact.get("emailaddress1"):
                lead = leads[contact["emailaddress1"].lower()]
                roles = {(row["opportunityid"], lead, "Primary Contact")}
        assert stage.opportunities()[row["opportunityid"]]["externalCompanyId"] == company
        assert stage.roles(row["opportunityid"]) == roles
    assert kinds == {"contact": 11, "account": 11, "none": 1}


def test_the_uk_tenders_and_their_later_changes_end_as_the_last_release_says() -> None:
    stage, tables = loaded(UK, "accounts", "contacts", "connections")
    text = (FOLDER / UK / "changes.jsonl").read_text(encoding="utf-8")
    changes = [json.loads(line) for line in text.splitlines()]
    first = [change["row"] for change in changes if change["op"] == "create"]
    stage.load(opportunity=first)
    stage.sync()
    assert len(stage.opportunities()) == 370
    before = stage.marketo.journal.summary()["statuses"]

    for change in changes:
        if change["op"] == "update":
            stage.load(opportunity=[change["row"]])
    stage.sync()

    shown = stage.opportunities()
    last = {change["row"]["opportunityid"]: change["row"] for change in changes}
    assert {key: row["name"] for key, row in shown.items()} == {
        key: (row["name"] or "(no topic)")[:255].strip() for key, row in last.items()
    }
    assert sum(row["isWon"] for row in shown.values()) == sum(row["statecode"] == 1 for row in last.values())
    updated = stage.marketo.journal.summary()["statuses"].get("updated", 0) - before.get("updated", 0)
    assert updated <= 6  # 11 follow-up releases, 5 of them change no mapped column
    assert len(tables["connections"]) == 572


def test_every_uk_stakeholder_with_an_address_has_exactly_one_role_and_the_others_a_reason() -> None:
    stage, tables = loaded(UK, "accounts", "contacts", "opportunities", "connections")
    addresses = {row["contactid"]: (row["emailaddress1"] or "").lower() for row in tables["contacts"]}
    leads = {row["email"]: row["id"] for row in stage.marketo.rows("leads")}
    label = "@OData.Community.Display.V1.FormattedValue"

    stage.sync()

    expected = {
        (row["_record1id_value"], leads[addresses[row["_record2id_value"]]], row[f"_record2roleid_value{label}"])
        for row in tables["connections"]
        if row[f"_record2id_value{TYPE}"] == "contact"
        and addresses[row["_record2id_value"]]
        and row.get("_record2roleid_value")
    }
    assert stage.roles() == expected
    assert stage.world.opportunities.counts()["in step"] == 370
