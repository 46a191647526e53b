"""People: upsert, delete and merge (marketo.md §3.6). Their results carry no `seq`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .database import Database
from .errors import ApiError, RecordError, lead_not_found
from .table import Row
from .values import record_values
from .writes import Item, Values, check_company, check_owner, chosen, input_records, skipped

ACTIONS = ("createOrUpdate", "createOnly", "updateOnly", "createDuplicate")
MAX_LOSERS = 25

# What a person shows of its company, and must not write once it is linked to one (marketo.md §3.4).
COMPANY_FIELDS = {"mktoCompanyNotes": "companyNotes"} | {
    name: name
    for name in (
        *("company", "website", "site", "industry", "mainPhone", "annualRevenue", "numberOfEmployees", "sicCode"),
        *("billingStreet", "billingCity", "billingState", "billingPostalCode", "billingCountry"),
    )
}


def sync(db: Database, body: Mapping[str, Any]) -> list[Item]:
    """`{id, status}` or `{status: skipped, reasons}` per record, in input order."""
    action = chosen(body, "action", ACTIONS)
    lookup = lookup_field(db, body.get("lookupField") or "email", action)
    return [outcome(db, record, action, lookup) for record in input_records(db.switches, body)]


def delete(db: Database, body: Mapping[str, Any]) -> list[Item]:
    """Deletes by `id` alone; several writings of one e-mail address are different people."""
    return [erased(db, record) for record in input_records(db.switches, body)]


def merge(db: Database, winner_id: int, loser_ids: list[int]) -> None:
    """At most 25 losers in a call (marketo.md §2)."""
    if len(loser_ids) > MAX_LOSERS:
        raise ApiError("1080", f"A merge takes at most {MAX_LOSERS} leads")
    people = [db.tables["leads"].get(each) for each in (winner_id, *loser_ids)]
    if None in people or not loser_ids or winner_id in loser_ids:
        raise ApiError("1004", "Lead not found")
    winner, *losers = (person for person in people if person is not None)
    db.merge(winner, losers)


def lookup_field(db: Database, name: str, action: str) -> str:
    """A searchable field; the id only to update (marketo.md §3.6)."""
    field = db.kinds["leads"].field(str(name))
    if field is None or (field.name,) not in db.kinds["leads"].searchable:
        raise ApiError("1011", f"Field '{name}' not supported")
    if field.name == "id" and action != "updateOnly":
        raise ApiError("1003", f"lookupField 'id' is not valid with action '{action}'")
    return field.name


def outcome(db: Database, record: Any, action: str, lookup: str) -> Item:
    try:
        row, status = write(db, record_values(db.kinds["leads"], record, db.switches), action, lookup)
    except RecordError as error:
        return skipped(error)
    return {"id": row["id"], "status": status}


def write(db: Database, values: Values, action: str, lookup: str) -> tuple[Row, str]:
    row = None if action == "createDuplicate" else looked_up(db, values, lookup)
    if row is None and action == "updateOnly":
        raise lead_not_found()
    if row is not None and action == "createOnly":
        raise RecordError("1005", "Lead already exists")
    values = writable(db, values, row, lookup)
    check_references(db, values, row)
    if row is None:
        return db.insert("leads", values), "created"
    db.update("leads", row, values)
    return row, "updated"


def looked_up(db: Database, values: Values, lookup: str) -> Row | None:
    value = values.get(lookup)
    if value is None:
        raise RecordError("1003", f"Value for lookup field '{lookup}' not specified")
    rows = db.tables["leads"].having(lookup, value)
    if len(rows) > 1:
        raise RecordError("1007", "Multiple lead match lookup criteria")
    return rows[0] if rows else None


def writable(db: Database, values: Values, row: Row | None, lookup: str) -> Values:
    """Without the id; a lead can be moved to a company but not taken off it (marketo.md §3.4)."""
    read_only = {name for name in values if not db.kinds["leads"].fields[name].updateable}
    if lookup != "id" and "id" in values:
        read_only.add("id")
    if read_only and db.switches.read_only_fields == "rejected":
        raise RecordError("1003", f"Field '{min(read_only)}' is not updateable")
    kept = {name: value for name, value in values.items() if name not in read_only and name != "id"}
    if row is not None and kept.get("externalCompanyId", "") is None:
        del kept["externalCompanyId"]
    return kept


def check_references(db: Database, values: Values, row: Row | None) -> None:
    check_company(db, values)
    check_owner(db, values, row)
    linked = {**(row or {}), **values}.get("externalCompanyId")
    if linked and not COMPANY_FIELDS.keys().isdisjoint(values):
        raise RecordError("1021", "Company update not allowed")


def erased(db: Database, record: Any) -> Item:
    try:
        values = record_values(db.kinds["leads"], record, db.switches)
    except RecordError as error:
        return skipped(error)
    row = db.tables["leads"].get(values.get("id"))
    if row is None:
        return skipped(lead_not_found())
    db.remove("leads", row)
    return {"id": row["id"], "status": "deleted"}


def inherited(db: Database, lead: Row) -> Row:
    """The lead as queries show it: a linked one has its company's values (marketo.md §3.4)."""
    company = db.company_of(lead)
    if company is None:
        return lead
    return lead | {own: company.get(theirs) for own, theirs in COMPANY_FIELDS.items()}
