"""POST, PATCH, DELETE and the action Merge: what others than the sync do to rows by the Web API (dataverse.md §6-§9).

`saving` has the platform's rules. The shapes are Microsoft's "Create, update and delete a table row using the Web API"
and "Merge Action", the rights for that one those of "Merge message privileges".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tools.emulators.dataverse import saving
from tools.emulators.dataverse.calls import ROW, Answer, Call, applied, key_of
from tools.emulators.dataverse.errors import DataverseError, bad_request, no_row
from tools.emulators.dataverse.identity import check_privileges, check_write
from tools.emulators.dataverse.queries import parse_query, shape
from tools.emulators.dataverse.schema import Table
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.store import Row

MERGEABLE = ("account", "contact", "lead")


def answer(state: DataverseState, call: Call) -> Answer:
    """All of the change is made, or nothing."""
    with state.transaction():
        if call.method == "POST":
            return _merge(state, call) if call.path == "Merge" else _create(state, call)
        match = ROW.fullmatch(call.path)
        if match is None or call.method not in ON_ROWS:
            raise DataverseError(405, "0x80060888", f"The emulated Web API has no {call.method} for '{call.path}'.")
        table = state.table_of_set(match[1])
        return ON_ROWS[call.method](state, call, table, key_of(table, match[2]))


def _create(state: DataverseState, call: Call) -> Answer:
    table = state.table_of_set(call.path)
    return _created(state, call, table, _body(call))


def _created(state: DataverseState, call: Call, table: Table, values: Mapping[str, Any]) -> Answer:
    check_write(state, "Create", table)
    _check_links(state, table, values)
    return _saved(state, call, table, saving.create(state, table.name, values), 201)


def _update(state: DataverseState, call: Call, table: Table, row_id: str) -> Answer:
    """An update of a row that does not exist creates it, unless `If-Match` forbids that."""
    values = _body(call)
    row = state.row(table.name, row_id)
    if row is None and "if-match" not in call.headers:
        return _created(state, call, table, {**values, table.key: row_id})
    check_write(state, "Write", table)
    _check_version(call, table, row, row_id)
    _check_links(state, table, values)
    return _saved(state, call, table, saving.update(state, table.name, row_id, values), 200)


def _delete(state: DataverseState, call: Call, table: Table, row_id: str) -> Answer:
    check_write(state, "Delete", table)
    _check_version(call, table, state.row(table.name, row_id), row_id)
    saving.delete(state, table.name, row_id)
    return Answer(204, None)


ON_ROWS: Mapping[str, Callable[[DataverseState, Call, Table, str], Answer]] = {"PATCH": _update, "DELETE": _delete}


def _merge(state: DataverseState, call: Call) -> Answer:
    """`{"Target": row, "Subordinate": row, "UpdateContent": row, "PerformParentingChecks": bool}`, each row typed."""
    body = _body(call)
    if "PerformParentingChecks" not in body:
        raise bad_request("The parameter 'PerformParentingChecks' is missing.")
    table, winner = _named(state, body, "Target")
    same, loser = _named(state, body, "Subordinate")
    if table is not same:
        raise bad_request("Target and Subordinate are rows of different tables.")
    for verb in ("Append", "AppendTo", "Share", "Write"):
        check_write(state, verb, table)
    check_privileges(state, table, "prvMerge", "prvAppendActivity", "prvWriteActivity")
    if content := {name: value for name, value in body.get("UpdateContent", {}).items() if name[0] != "@"}:
        saving.update(state, table.name, winner, content)
    saving.merge(state, table.name, loser, winner)
    return Answer(204, None)


def _named(state: DataverseState, body: Mapping[str, Any], parameter: str) -> tuple[Table, str]:
    row = body.get(parameter)
    name = str(row.get("@odata.type", "")).rpartition(".")[2] if isinstance(row, dict) else ""
    if not isinstance(row, dict) or name not in MERGEABLE:
        raise bad_request(f"The parameter '{parameter}' names no row that can be merged: it needs '@odata.type'.")
    table = state.tables[name]
    return table, key_of(table, str(row.get(table.key, "")))


def _body(call: Call) -> dict[str, Any]:
    try:
        found = json.loads(call.body)
    except ValueError:
        raise bad_request("Error identified in Payload provided by the user: it isn't JSON.", "0x80048d19") from None
    if not isinstance(found, dict):
        raise bad_request("Error identified in Payload provided by the user: it isn't an object.", "0x80048d19")
    return found


def _check_links(state: DataverseState, table: Table, values: Mapping[str, Any]) -> None:
    """To tie two rows together one has to be allowed to append, and to append to the other (dataverse.md §8)."""
    for name, link in values.items():
        if name.endswith("@odata.bind") and (match := saving.BIND.fullmatch(str(link))):
            check_write(state, "Append", table)
            check_write(state, "AppendTo", state.table_of_set(match[1]))
    if unknown := [name for name in values if name.startswith("_")]:
        raise bad_request(f"'{unknown[0]}' can't be written: a lookup is set by '@odata.bind'.")


def _check_version(call: Call, table: Table, row: Row | None, row_id: str) -> None:
    if row is None:
        raise no_row(table.name, row_id)
    wanted = call.headers.get("if-match", "*")
    if wanted not in {"*", f'W/"{row["versionnumber"]}"'}:
        text = "The version of the existing record doesn't match the RowVersion property provided."
        raise DataverseError(412, "0x80060882", text)


def _saved(state: DataverseState, call: Call, table: Table, row: Row, status: int) -> Answer:
    """204 and the row's address, or the row itself to whom asked for it."""
    address = {"OData-EntityId": f"{call.root}{table.set_name}({row[table.key]})"}
    if not call.preferences.representation:
        return Answer(204, None, address)
    query = parse_query(state, table, call.options)
    wire = shape(state, query, call.preferences)(row)
    body = {"@odata.context": f"{query.context(call.root)}/$entity", **wire}
    return Answer(status, body, applied(call.preferences) | address, 1)
