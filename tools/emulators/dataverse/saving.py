"""What the platform does when somebody saves, deletes, merges or closes a row (dataverse.md §6)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tools.emulators.dataverse.clock import parse_time, wire_time
from tools.emulators.dataverse.errors import DataverseError, bad_request, no_property, no_row
from tools.emulators.dataverse.schema import RELATIONSHIPS, TABLES_BY_CODE, Column, Table
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.store import Row

GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
BIND = re.compile(r"/?(\w+)\(([0-9A-Fa-f-]{36})\)")
LOOKUP_TYPE = "Microsoft.Dynamics.CRM.lookuplogicalname"
VALIDATION = "0x80044331"
WON, LOST = 1, 2

Types = dict[str, str]  # wire name of a lookup → the table it leads to


def create(
    state: DataverseState,
    table: str,
    values: Mapping[str, Any],
    row_id: str | None = None,
    *,
    contact_origin: bool = False,
) -> Row:
    """A new row. *contact_origin*: the opportunity was made from the contact's form (dataverse.md §6.2)."""
    store = state.store(table)
    accepted, types = accept(state, store.table, values)
    new_id = str(row_id or accepted.get(store.table.key) or state.new_id()).lower()
    if new_id in store.rows:
        raise DataverseError(412, "0x80040237", "A record with matching key values already exists.")
    row = {store.table.key: new_id, "createdon": state.now(), "modifiedon": state.now()}
    row |= {name: value for name, value in accepted.items() if value is not None}
    row["_createdby_value"] = row["_modifiedby_value"] = row.get("_createdby_value", state.owner_id)
    complete(state, store.table, row, set(accepted), types)
    if table == "opportunity":
        derive_customer(row, set(accepted), contact_origin=contact_origin)
    return _mirrored(state, row) if table == "connection" else state.write(table, row)


def update(state: DataverseState, table: str, row_id: str, values: Mapping[str, Any]) -> Row:
    """Change the given columns; None empties one."""
    before = existing(state, table, row_id)
    definition = state.tables[table]
    accepted, types = accept(state, definition, values)
    _refuse_closed(state, table, before, accepted)
    row = {**before, "modifiedon": state.now(), **accepted}
    row["_modifiedby_value"] = state.owner_id
    row = {name: value for name, value in row.items() if value is not None}
    complete(state, definition, row, set(accepted), types)
    if table == "opportunity":
        derive_customer(row, set(accepted))
        _close_or_reopen(state, before, row, set(accepted))
    saved = state.write(table, row)
    if table == "connection":
        _mirror_update(state, saved)
    if table == "organization":  # how long changes are remembered is one of its columns (dataverse.md §3.5)
        state.expire_delta_links()
    return saved


def delete(state: DataverseState, table: str, row_id: str) -> list[tuple[str, str]]:
    """Delete the row and what hangs on it; the (table, id) of everything that went."""
    existing(state, table, row_id)
    gone = _delete_children(state, table, row_id)
    if (row := state.row(table, row_id)) is not None:
        state.erase(table, row_id)
        gone.append((table, row_id))
        if table == "connection":
            gone += _delete_mirror(state, row)
    return gone


def merge(state: DataverseState, table: str, loser: str, winner: str) -> Row:
    """The loser is deactivated and points at the winner; what pointed at it is re-pointed (dataverse.md §6.9)."""
    if table not in {"account", "contact", "lead"}:
        raise bad_request(f"{table} rows can't be merged: only accounts, contacts, leads and cases can")
    if loser == winner:
        raise bad_request("a row can't be merged into itself")
    for row_id in (loser, winner):
        existing(state, table, row_id)
    _repoint(state, table, loser, winner)
    state.write(table, existing(state, table, winner), modifiedon=state.now())
    lost = existing(state, table, loser)
    inactive = {"statecode": 1, "statuscode": 2, "merged": True, "_masterid_value": winner}
    return state.write(table, lost, **inactive, modifiedon=state.now())


def close(state: DataverseState, row_id: str, outcome: int, values: Mapping[str, Any] | None = None) -> Row:
    """Win or lose an opportunity."""
    if existing(state, "opportunity", row_id).get("statecode", 0) != 0:
        raise bad_request(f"opportunity {row_id} is already closed")
    return update(state, "opportunity", row_id, {"statecode": outcome, **(values or {})})


def reopen(state: DataverseState, row_id: str) -> Row:
    return update(state, "opportunity", row_id, {"statecode": 0, "statuscode": 1})


def connect(
    state: DataverseState,
    opportunity: str,
    target: tuple[str, str],
    role: str | None,
    values: Mapping[str, Any] | None = None,
) -> Row:
    """A connection from the opportunity to *target* (table, id), with the role on the target's side."""
    record1 = {"_record1id_value": opportunity, f"_record1id_value@{LOOKUP_TYPE}": "opportunity"}
    record2 = {"_record2id_value": target[1], f"_record2id_value@{LOOKUP_TYPE}": target[0]}
    role_id = (state.role_named(role) or state.add_role(role)) if role else None
    return create(state, "connection", {**record1, **record2, "_record2roleid_value": role_id, **(values or {})})


def deactivate(state: DataverseState, table: str, row_id: str) -> Row:
    if table == "opportunity":
        raise bad_request("an opportunity isn't deactivated: win it or lose it")
    return update(state, table, row_id, {"statecode": 1})


def existing(state: DataverseState, table: str, row_id: str) -> Row:
    row = state.row(table, row_id)
    if row is None:
        raise no_row(table, row_id)
    return row


# -- values -------------------------------------------------------------------------------------------


def accept(state: DataverseState, table: Table, values: Mapping[str, Any]) -> tuple[Row, Types]:
    """The values by wire name, checked, and the tables that the lookups among them lead to."""
    accepted: Row = {}
    types: Types = {}
    for key, value in values.items():
        if key.endswith("@odata.bind"):
            _bind(state, table, key.removesuffix("@odata.bind"), value, accepted, types)
        elif "@" not in key:
            column = table.wire.get(key) or table.columns.get(key)
            if column is None:
                raise no_property(key, table.name)
            accepted[column.wire] = None if value is None else checked(table, column, value)
        elif key.endswith(LOOKUP_TYPE) and value:
            types[key.split("@")[0]] = value
    _check_lookups(state, table, accepted, types)
    return accepted, types


def _bind(state: DataverseState, table: Table, name: str, link: str, accepted: Row, types: Types) -> None:
    """`parentcontactid@odata.bind: /contacts(<id>)`."""
    match, known = BIND.fullmatch(str(link)), table.navigations().get(name)
    if match is None or known is None:
        raise no_property(name, table.name)
    wire = known[0].wire
    accepted[wire], types[wire] = match[2].lower(), state.table_of_set(match[1]).name


def _check_lookups(state: DataverseState, table: Table, accepted: Row, types: Types) -> None:
    for wire, value in accepted.items():
        column = table.wire[wire]
        if column.kind != "lookup" or value is None:
            continue
        targets = [types[wire]] if wire in types else [t for t in column.targets if t in state.stores]
        found = next((t for t in targets if t in state.stores and value in state.stores[t].rows), None)
        if found is None and targets:
            raise no_row(" or ".join(targets), value)
        if found:
            types[wire] = found


def checked(table: Table, column: Column, value: Any) -> Any:
    """The value in its wire form, or an error that names the column."""
    try:
        value = CHECKS[column.kind](value)
    except (ValueError, TypeError, AttributeError) as error:
        raise bad_request(f"{table.name}.{column.name} is {column.kind} and can't be {value!r}", VALIDATION) from error
    if column.length and len(value) > column.length:
        raise bad_request(
            f"A validation error occurred. The length of the '{column.name}' attribute of the '{table.name}' "
            f"entity exceeded the maximum allowed length of '{column.length}'.",
            VALIDATION,
        )
    if column.options and column.kind in {"choice", "state", "status"}:
        _check_option(table, column, value)
    return value


def _check_option(table: Table, column: Column, value: int) -> None:
    if value not in {option.value for option in column.options}:
        raise bad_request(
            f"A validation error occurred. The value {value} of '{column.name}' on record of type '{table.name}' "
            "is outside the valid range.",
            VALIDATION,
        )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value:
        raise ValueError
    return int(value)


def _number(value: Any) -> float | int:
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise TypeError
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _guid(value: Any) -> str:
    if not GUID.fullmatch(value.lower()):
        raise ValueError
    return str(value.lower())


def wire_datetime(value: str) -> str:
    return value if len(value) == 20 and value[19] == "Z" else wire_time(parse_time(value))


def wire_date(value: str) -> str:
    return parse_time(value).date().isoformat()


CHECKS = {
    "string": _text, "memo": _text, "multichoice": _text, "int": _whole, "bigint": _whole, "choice": _whole,
    "state": _whole, "status": _whole, "decimal": _number, "money": _number, "bool": _truth, "guid": _guid,
    "lookup": _guid, "datetime": wire_datetime, "date": wire_date,
}  # fmt: skip


# -- what the platform fills in -----------------------------------------------------------------------


def complete(state: DataverseState, table: Table, row: Row, changed: set[str], types: Types) -> None:
    """Owner, state, amounts in base currency, names and shadows: in place, before the row is stored."""
    if table.owned:
        _own(state, row, types)
        _state_and_reason(table, row, changed)
        count_base(state, table, row, changed)
    if table.name == "opportunity":
        shadow(row, "_customerid_value", types, {"account": "_accountid_value", "contact": "_contactid_value"})
    elif table.name == "contact":
        shadow(
            row, "_parentcustomerid_value", types, {"account": "_accountid_value", "contact": "_parentcontactid_value"}
        )
    elif table.name == "connection":
        _describe_connection(state, row, types)
    if changed & {"firstname", "lastname"} and "fullname" not in changed and "fullname" in table.columns:
        row["fullname"] = " ".join(part for part in (row.get("firstname"), row.get("lastname")) if part)


def _own(state: DataverseState, row: Row, types: Types) -> None:
    owner = row.setdefault("_ownerid_value", state.owner_id)
    team = types.get("_ownerid_value") == "team" or owner in state.stores["team"].rows
    row["_owningteam_value" if team else "_owninguser_value"] = owner
    row.pop("_owninguser_value" if team else "_owningteam_value", None)
    row.setdefault("_owningbusinessunit_value", state.business_unit_id)


def _state_and_reason(table: Table, row: Row, changed: set[str]) -> None:
    """A reason belongs to one state: whichever of the two was written decides the other."""
    reasons = table.columns["statuscode"].options
    row.setdefault("statecode", 0)
    by_reason: dict[int | None, int | None] = {option.value: option.state for option in reasons}
    if "statuscode" in changed and "statecode" not in changed:
        row["statecode"] = by_reason.get(row.get("statuscode"), row["statecode"])
    if by_reason.get(row.get("statuscode"), row["statecode"]) != row["statecode"] or row.get("statuscode") is None:
        if {"statuscode", "statecode"} <= changed:
            raise bad_request(
                f"{row.get('statuscode')} is not a valid status code for state {row['statecode']}", "0x80048408"
            )
        row["statuscode"] = next(option.value for option in reasons if option.state == row["statecode"])


def count_base(state: DataverseState, table: Table, row: Row, changed: set[str]) -> None:
    """Amounts in the base currency are recomputed with every save (dataverse.md §6.2)."""
    currency = row.setdefault("_transactioncurrencyid_value", state.base_currency_id)
    if "exchangerate" not in changed:
        rate = state.stores["transactioncurrency"].rows.get(currency, {}).get("exchangerate", 1.0)
        row["exchangerate"] = rate
    for name, base in table.money.items():
        if row.get(name) is not None:
            row[base] = round(row[name] / (row["exchangerate"] or 1.0), 4)
        elif name in changed:
            row.pop(base, None)


def shadow(row: Row, wire: str, types: Types, shadows: Mapping[str, str]) -> None:
    """The read-only lookups that repeat a polymorphic one by type; exactly one has a value."""
    value = row.get(wire)
    if value is not None and wire not in types and value in {row.get(name) for name in shadows.values()}:
        return
    for table, name in shadows.items():
        row.pop(name, None)
        if value is not None and types.get(wire, "account") == table:
            row[name] = value


def derive_customer(row: Row, changed: set[str], *, contact_origin: bool = False) -> None:
    """The table of dataverse.md §6.2: which of account and contact becomes the customer."""
    account, contact = row.get("_parentaccountid_value"), row.get("_parentcontactid_value")
    if not changed & {"_parentaccountid_value", "_parentcontactid_value"}:
        return
    table = "contact" if contact and (contact_origin or not account) else "account" if account else None
    if table is None:
        return
    for name in ("_accountid_value", "_contactid_value"):
        row.pop(name, None)
    row["_customerid_value"] = row[f"_{table}id_value"] = contact if table == "contact" else account


def _refuse_closed(state: DataverseState, table: str, before: Row, accepted: Row) -> None:
    closed = table == "opportunity" and before.get("statecode", 0) != 0
    if closed and "statecode" not in accepted and state.switches["closed_opportunities_are_read_only"]:
        raise bad_request(
            f"opportunity {before['opportunityid']} is closed and read-only until it is reopened "
            "(switch closed_opportunities_are_read_only)",
            "0x80040265",
        )


def _close_or_reopen(state: DataverseState, before: Row, row: Row, changed: set[str]) -> None:
    if row["statecode"] == before.get("statecode", 0):
        return
    given = changed | {f"{name}_base" for name in changed}
    for name in {"actualclosedate", "actualvalue", "actualvalue_base"} - given:
        row.pop(name, None)
    if row["statecode"] in {WON, LOST}:
        row.setdefault("actualclosedate", state.now()[:10])
    if row["statecode"] == WON and row.get("actualvalue") is None and row.get("estimatedvalue") is not None:
        row["actualvalue"] = row["estimatedvalue"]
        row["actualvalue_base"] = row["estimatedvalue_base"]


# -- connections --------------------------------------------------------------------------------------


def _describe_connection(state: DataverseState, row: Row, types: Types) -> None:
    for side in ("record1", "record2"):
        wire = f"_{side}id_value"
        if wire in types:
            row[f"{side}objecttypecode"] = state.tables[types[wire]].code
        if row.get(wire) is None:
            raise bad_request(f"a connection needs {side}id", VALIDATION)
    target = TABLES_BY_CODE.get(row.get("record2objecttypecode", 0))
    name = state.title_of(target, row["_record2id_value"])
    row.pop("name", None)
    if name:
        row["name"] = name
    row.setdefault("ismaster", True)


SWAPPED = {
    "_record1id_value": "_record2id_value", "record1objecttypecode": "record2objecttypecode",
    "_record1roleid_value": "_record2roleid_value",
}  # fmt: skip
OTHER_SIDE = {**SWAPPED, **{right: left for left, right in SWAPPED.items()}}


def seen_from_the_other_side(row: Row, mirror_id: str) -> Row:
    """The same connection with record1 and record2 swapped, as its mirror row has it (dataverse.md §6.5)."""
    mirror = {OTHER_SIDE.get(name, name): value for name, value in row.items()}
    related = {"connectionid": mirror_id, "_relatedconnectionid_value": row["connectionid"]}
    return mirror | related | {"ismaster": not row["ismaster"]}


def mirror_of(state: DataverseState, row: Row, mirror_id: str) -> Row:
    mirror = seen_from_the_other_side(row, mirror_id)
    _describe_connection(state, mirror, {})
    return mirror


def _mirrored(state: DataverseState, row: Row) -> Row:
    mirror_id = state.new_id()
    row = state.write("connection", {**row, "_relatedconnectionid_value": mirror_id})
    state.write("connection", mirror_of(state, row, mirror_id))
    return row


def _mirror_update(state: DataverseState, row: Row) -> None:
    mirror = state.row("connection", row.get("_relatedconnectionid_value", ""))
    if mirror is not None:
        state.write("connection", mirror_of(state, row, mirror["connectionid"]) | {"createdon": mirror["createdon"]})


def _delete_mirror(state: DataverseState, row: Row) -> list[tuple[str, str]]:
    mirror_id = row.get("_relatedconnectionid_value", "")
    if state.row("connection", mirror_id) is None:
        return []
    state.erase("connection", mirror_id, listed=state.switches["mirror_tombstone"] == "listed")
    return [("connection", mirror_id)]


# -- related rows -------------------------------------------------------------------------------------


def _related(state: DataverseState, table: str, row_id: str) -> list[tuple[str, Column, str, bool, list[str]]]:
    """(child table, lookup, delete behaviour, re-pointed by a merge, ids of the children)."""
    found = []
    for child, name, parents, behaviour, merges in RELATIONSHIPS:
        if not parents or table in parents:
            column = state.tables[child].columns[name]
            ids = state.stores[child].ids_with(column.wire, [row_id]) or set()
            found.append((child, column, behaviour, merges, sorted(ids)))
    return found


def _delete_children(state: DataverseState, table: str, row_id: str) -> list[tuple[str, str]]:
    gone: list[tuple[str, str]] = []
    for child, column, behaviour, _, ids in _related(state, table, row_id):
        for child_id in ids:
            row = state.row(child, child_id)
            if row is None:
                continue  # went with an earlier one, as a mirror does
            if behaviour == "cascade":
                gone += delete(state, child, child_id)
            else:
                state.write(child, row, **{column.wire: None})
    return gone


def _repoint(state: DataverseState, table: str, loser: str, winner: str) -> None:
    when = {"modifiedon": state.now()} if state.switches["merge_moves_modifiedon"] else {}
    for child, column, _, merges, ids in _related(state, table, loser):
        for child_id in ids if merges else ():
            row = state.stores[child].rows[child_id]
            state.write(child, _shadows_repointed(row, column, loser, winner), **{column.wire: winner}, **when)


def _shadows_repointed(row: Row, column: Column, loser: str, winner: str) -> Row:
    if column.name not in {"customerid", "parentcustomerid"}:
        return row
    shadows = {"_accountid_value", "_contactid_value"} | (
        {"_parentcontactid_value"} if column.name[0] == "p" else set()
    )
    return {name: winner if name in shadows and value == loser else value for name, value in row.items()}
