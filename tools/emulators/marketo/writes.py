"""Sync and delete of opportunities, roles, companies and sales persons (marketo.md §3.0, §7 items 20-44)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from .catalogue import ObjectType
from .database import Database
from .errors import ApiError, RecordError, crm_enabled, lead_not_found, no_input, record_not_found
from .switches import Switches
from .table import Row, Table
from .values import record_values

MAX_RECORDS = 300
ACTIONS = ("createOrUpdate", "createOnly", "updateOnly")

Values = dict[str, Any]
Item = dict[str, Any]


def sync(db: Database, name: str, body: Mapping[str, Any]) -> list[Item]:
    """One item per input record, in input order: `{seq, <id>, status}` or `{seq, status, reasons}`."""
    table = db.tables[name]
    action, by_id = sync_mode(table.kind, body)
    records = prepared(db, table, input_records(db.switches, body))
    if name == "opportunities":
        require_sales_persons(db, records)
    mark_repeated(db.switches, table, records, by_id=by_id)
    return [
        item(table, seq, lambda r=record: write(db, name, r, action=action, by_id=by_id))
        for seq, record in enumerate(records)
    ]


def delete(db: Database, name: str, body: Mapping[str, Any]) -> list[Item]:
    """`{seq, <id>, status: deleted}` per record; what is not there is skipped with 1013."""
    table = db.tables[name]
    by_id = chosen(body, "deleteBy", ("dedupeFields", "idField")) == "idField"
    records = prepared(db, table, input_records(db.switches, body))
    return [item(table, seq, lambda r=record: erase(db, name, r, by_id=by_id)) for seq, record in enumerate(records)]


def item(table: Table, seq: int, work: Any) -> Item:
    """The result of *work* on one record; a skipped one carries no id (marketo.md §3.0)."""
    try:
        row, status = work()
    except RecordError as error:
        return {"seq": seq, **skipped(error)}
    return {"seq": seq, table.kind.id_field: table.id_of(row), "status": status}


def skipped(error: ApiError) -> Item:
    return {"status": "skipped", "reasons": [{"code": error.code, "message": error.message}]}


def sync_mode(kind: ObjectType, body: Mapping[str, Any]) -> tuple[str, bool]:
    """The action, and whether records are found by id; the id never creates (marketo.md §3.0)."""
    action = chosen(body, "action", ACTIONS)
    by_id = chosen(body, "dedupeBy", ("dedupeFields", "idField")) == "idField"
    if by_id and action != "updateOnly":
        raise ApiError("1003", f"dedupeBy 'idField' is not valid with action '{action}'")
    return action, by_id


def chosen(body: Mapping[str, Any], name: str, values: tuple[str, ...]) -> str:
    """One of *values*, the first by default, in exactly this case (marketo.md §3.0)."""
    value = body.get(name) or values[0]
    if value not in values:
        raise ApiError("1003", f"Invalid {name} '{value}' value")
    return value


def input_records(switches: Switches, body: Mapping[str, Any]) -> list[Any]:
    """U6 and U14 decide on too many records and on none (marketo.md §6.1)."""
    records = body.get("input")
    if not isinstance(records, list) or (not records and switches.empty_input == "1003"):
        raise no_input()
    if len(records) > MAX_RECORDS and switches.too_many_records == "1003":
        raise ApiError("1003", f"Number of records in input exceeds the maximum of {MAX_RECORDS}")
    return records


def prepared(db: Database, table: Table, records: list[Any]) -> list[Values | RecordError]:
    """Each record as stored values, or as what is wrong with it."""
    if db.switches.native_crm_sync:
        return [crm_enabled() for _ in records]
    return [understood(table.kind, record, db.switches) for record in records]


def understood(kind: ObjectType, record: Any, switches: Switches) -> Values | RecordError:
    try:
        return record_values(kind, record, switches)
    except RecordError as error:
        return error


def require_sales_persons(db: Database, records: list[Values | RecordError]) -> None:
    """One unknown sales person sinks the whole batch (marketo.md §3.2)."""
    for record in records:
        if isinstance(record, dict) and unknown_sales_person(db, record):
            raise ApiError("718", "ExternalSalesPersonID not found")


def unknown_sales_person(db: Database, values: Values) -> bool:
    known = db.tables["salespersons"].find
    return values.get("externalSalesPersonId") is not None and known(values) is None


def mark_repeated(switches: Switches, table: Table, records: list[Values | RecordError], *, by_id: bool) -> None:
    """The second and later record of a key (U7: all of them) are refused."""
    keys = [record_key(table, record, by_id=by_id) for record in records]
    times, seen = Counter(keys), set()
    for index, key in enumerate(keys):
        if key is not None and times[key] > 1 and (key in seen or switches.duplicate_keys == "all"):
            records[index] = RecordError("1036", "Duplicate object found in input")
        seen.add(key)


def record_key(table: Table, record: Values | RecordError, *, by_id: bool) -> Any:
    if isinstance(record, RecordError):
        return None
    return record.get(table.kind.id_field) if by_id else table.key_of(record)


def write(db: Database, name: str, record: Values | RecordError, *, action: str, by_id: bool) -> tuple[Row, str]:
    """The row and `created` or `updated`; raises why the record is skipped."""
    values = usable(record)
    if name == "roles":
        check_person(db, values)
    row = located(db.tables[name], values, by_id=by_id)
    if row is None and action == "updateOnly":
        raise record_not_found()
    if row is not None and action == "createOnly":
        raise RecordError("1017", "Object already exists")
    values = writable(db, name, values, row)
    CHECKS[name](db, values, row)
    if row is None:
        return db.insert(name, values), "created"
    db.update(name, row, values)
    return row, "updated"


def erase(db: Database, name: str, record: Values | RecordError, *, by_id: bool) -> tuple[Row, str]:
    row = located(db.tables[name], usable(record), by_id=by_id)
    if row is None:
        raise record_not_found()
    if name == "salespersons" and db.in_use(row):
        raise RecordError("1022", "Object in use")
    db.remove(name, row)
    return row, "deleted"


def usable(record: Values | RecordError) -> Values:
    if isinstance(record, RecordError):
        raise record
    return record


def located(table: Table, values: Values, *, by_id: bool) -> Row | None:
    """The row that a record means; a record without the chosen key is skipped (marketo.md §3.0)."""
    for part in (table.kind.id_field,) if by_id else table.kind.dedupe_fields:
        if values.get(part) is None:
            raise missing(part)
    return table.get(values[table.kind.id_field]) if by_id else table.find(values)


def missing(name: str) -> RecordError:
    return RecordError("1002", f"Missing value for the required parameter '{name}'")


def writable(db: Database, name: str, values: Values, row: Row | None) -> Values:
    """*values* without what may not be written; a value that would not change anything never hurts."""
    kind = db.kinds[name]
    refused = [field for field in values if read_only(kind, field, values, row)]
    if refused and db.switches.read_only_fields == "rejected":
        raise RecordError("1003", f"Field '{refused[0]}' is not updateable")
    kept = {field: value for field, value in values.items() if field not in refused}
    if row is not None:  # the key found the row; in another case it is still the same key
        kept = {field: value for field, value in kept.items() if field not in kind.dedupe_fields}
    return kept


def read_only(kind: ObjectType, field: str, values: Values, row: Row | None) -> bool:
    if row is None:
        return kind.immutable(field)
    if kind.fields[field].updateable and field not in kind.dedupe_fields:
        return False
    return str(row.get(field)).casefold() != str(values[field]).casefold()


def check_opportunity(db: Database, values: Values, row: Row | None) -> None:
    if "name" in values and values["name"] is None:
        raise missing("name")
    if row is None and "name" not in values and db.switches.absent_name == "1002":
        raise missing("name")
    check_company(db, values)
    if row is not None and values.get("externalCompanyId", "") is None:
        keep_company(db, values)


def keep_company(db: Database, values: Values) -> None:
    """U16: whether null clears the company of an opportunity."""
    if db.switches.null_company == "unchanged":
        del values["externalCompanyId"]


def check_company(db: Database, values: Values) -> None:
    """U3: a company that is referred to must exist."""
    if values.get("externalCompanyId") is None or db.switches.unknown_company == "accepted":
        return
    if db.tables["companies"].find(values) is None:
        raise record_not_found()


def check_person(db: Database, values: Values) -> None:
    """U1 and U9: the person of a role must exist, also to change the role."""
    if db.switches.role_merged_lead == "winner":
        values["leadId"] = db.surviving_lead(values.get("leadId"))
    outcome = db.switches.role_unknown_lead
    if values.get("leadId") is None or outcome == "accepted" or db.tables["leads"].get(values["leadId"]):
        return
    raise record_not_found() if outcome == "1013" else lead_not_found()


def check_role(db: Database, values: Values, row: Row | None) -> None:
    """U2: a new role needs its opportunity; an orphan may still be changed (marketo.md §3.3)."""
    if row is None and db.switches.role_unknown_opportunity == "1013" and not db.opportunity_of(values):
        raise record_not_found()


def check_owner(db: Database, values: Values, row: Row | None) -> None:
    """U4: a sales person that a company or lead refers to must exist."""
    if db.switches.unknown_sales_person == "1013" and unknown_sales_person(db, values):
        raise record_not_found()


def nothing_to_check(db: Database, values: Values, row: Row | None) -> None:
    """Sales persons refer to nobody."""


CHECKS = {
    "opportunities": check_opportunity,
    "roles": check_role,
    "companies": check_owner,
    "salespersons": nothing_to_check,
}
