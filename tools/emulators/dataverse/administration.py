"""`/admin/`: what a test, a demo or a person does to the organization behind the Web API's back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tools.emulators.dataverse import generate, loading, made, saving
from tools.emulators.dataverse.clock import parse_time
from tools.emulators.dataverse.errors import DataverseError, bad_request, no_row
from tools.emulators.dataverse.identity import fingerprint
from tools.emulators.dataverse.schema import Column, english_options
from tools.emulators.dataverse.service import written
from tools.emulators.dataverse.state import SWITCH_VALUES, DataverseState

if TYPE_CHECKING:
    from tools.emulators.dataverse.journal import Journal

ROWS_A_CHUNK = 1000
Edit = Mapping[str, Any]


def post(state: DataverseState, path: str, body: Any) -> Any:
    """The answer to a POST; a KeyError names the member that the body lacks."""
    if path not in POSTS:
        raise DataverseError(404, "admin", f"There is no POST /admin/{path}: only {', '.join(sorted(POSTS))}.")
    try:
        return POSTS[path](state, body)
    except KeyError as error:
        raise bad_request(f"/admin/{path} needs {error} in its body", "admin") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise bad_request(f"/admin/{path}: {error}", "admin") from error


def get(state: DataverseState, journal: Journal, path: str, query: Mapping[str, str]) -> Any:
    parts = path.split("/")
    if parts[0] == "rows" and len(parts) in {2, 3}:
        return _one(state, parts[1], parts[2]) if len(parts) == 3 else _streamed(state.rows(parts[1]))
    if path == "journal":
        return journal.since(int(query.get("since", "0")))
    if path == "switches":
        return state.switches
    if path == "clock":
        return {"now": state.now()}
    raise DataverseError(404, "admin", f"There is no GET /admin/{path}.")


def _one(state: DataverseState, table: str, row_id: str) -> Any:
    row = state.row(table, row_id.lower())
    if row is None:
        raise no_row(table, row_id)
    return row


def _streamed(rows: list[Any]) -> Iterator[bytes]:
    """A JSON list, a thousand rows at a time."""
    yield b"["
    for start in range(0, len(rows), ROWS_A_CHUNK):
        chunk = written(rows[start : start + ROWS_A_CHUNK])[1:-1]
        yield (b"," if start else b"") + chunk
    yield b"]"


def load(state: DataverseState, body: Any) -> Any:
    tables = {name: rows["value"] if isinstance(rows, dict) else rows for name, rows in body["tables"].items()}
    with state.transaction():
        return {"loaded": loading.load(state, tables), "version": state.version}


def generate_rows(state: DataverseState, body: Any) -> Any:
    """Rows as `generate` draws them; with `"made": true` they are made when they are asked for (`made`)."""
    wishes = {name: value for name, value in body.items() if name != "made"}
    loaded = made.fill(state, **wishes) if body.get("made") else loading.load(state, generate.rows(**wishes))
    return {"loaded": loaded, "version": state.version}


# -- edits --------------------------------------------------------------------------------------------


def edit(state: DataverseState, body: Any) -> Any:
    """One edit or a list of them: all are made, or none."""
    edits = body if isinstance(body, list) else [body]
    with state.transaction():
        done = [_edit(state, number, item) for number, item in enumerate(edits)]
    return done if isinstance(body, list) else done[0]


def _edit(state: DataverseState, number: int, item: Edit) -> Any:
    operation = EDITS.get(item["op"])
    if operation is None:
        raise bad_request(f"edit {number}: '{item['op']}' is none of {', '.join(EDITS)}", "admin")
    try:
        return operation(state, item)
    except DataverseError as error:
        raise bad_request(f"edit {number} ({item['op']}): {error.message}", error.code) from error


def _values(item: Edit) -> Mapping[str, Any]:
    return item.get("values") or {}


def _saved(table: str, row: Mapping[str, Any], state: DataverseState) -> Any:
    return {"table": table, "id": row[state.tables[table].key], "row": row}


def _create(state: DataverseState, item: Edit) -> Any:
    table, origin = item["table"], bool(item.get("contact_origin"))
    return _saved(table, saving.create(state, table, _values(item), item.get("id"), contact_origin=origin), state)


def _update(state: DataverseState, item: Edit) -> Any:
    return _saved(item["table"], saving.update(state, item["table"], _id(item), _values(item)), state)


def _delete(state: DataverseState, item: Edit) -> Any:
    gone = saving.delete(state, item["table"], _id(item))
    return {"deleted": [{"table": table, "id": row_id} for table, row_id in gone]}


def _merge(state: DataverseState, item: Edit) -> Any:
    return _saved(item["table"], saving.merge(state, item["table"], _id(item), item["into"].lower()), state)


def _close(outcome: int) -> Callable[[DataverseState, Edit], Any]:
    return lambda state, item: _saved("opportunity", saving.close(state, _id(item), outcome, _values(item)), state)


def _reopen(state: DataverseState, item: Edit) -> Any:
    return _saved("opportunity", saving.reopen(state, _id(item)), state)


def _connect(state: DataverseState, item: Edit) -> Any:
    table = "contact" if "contact" in item else "account"
    row = saving.connect(state, item["opportunity"], (table, item[table]), item.get("role"), _values(item))
    mirror = row["_relatedconnectionid_value"]
    return {"id": row["connectionid"], "mirror": mirror, "role": row.get("_record2roleid_value"), "row": row}


def _disconnect(state: DataverseState, item: Edit) -> Any:
    return _delete(state, {"table": "connection", "id": item["id"]})


def _deactivate(state: DataverseState, item: Edit) -> Any:
    return _saved(item["table"], saving.deactivate(state, item["table"], _id(item)), state)


def _id(item: Edit) -> str:
    return str(item["id"]).lower()


EDITS: dict[str, Callable[[DataverseState, Edit], Any]] = {
    "create": _create,
    "update": _update,
    "delete": _delete,
    "merge": _merge,
    "win": _close(saving.WON),
    "lose": _close(saving.LOST),
    "reopen": _reopen,
    "connect": _connect,
    "disconnect": _disconnect,
    "deactivate": _deactivate,
}


# -- settings -----------------------------------------------------------------------------------------


def switch(state: DataverseState, body: Any) -> Any:
    if unknown := body.keys() - state.switches.keys():
        raise bad_request(f"unknown switches {sorted(unknown)}; there are {sorted(state.switches)}", "admin")
    for name, value in body.items():
        if name in SWITCH_VALUES and value not in SWITCH_VALUES[name]:
            raise bad_request(f"switch {name} is none of {sorted(map(str, SWITCH_VALUES[name]))}: {value!r}", "admin")
    state.switches.update(body)
    return state.switches


def credentials(state: DataverseState, body: Any) -> Any:
    """`{"add" | "revoke" | "expire": {"secret": text}}`; instead of that a `certificate` (PEM), or `federated`: an
    issuer and a subject with a blank between.
    """
    held = state.credentials
    for what, given in body.items():
        ((kind, value),) = given.items()
        known = {"secret": held.secrets, "certificate": held.certificates, "federated": held.federated}[kind]
        held.checks_certificates |= kind == "certificate"
        if what == "add":
            known.append(value)
        elif what == "expire":
            held.expired.add(value)
        elif what == "revoke":
            known.remove(value)
            if state.switches["tokens_of_revoked_credentials"] == "die":
                held.killed.add(fingerprint(value))
        else:
            raise bad_request(f"/admin/credentials takes add, revoke or expire, not '{what}'", "admin")
    return {"secrets": len(held.secrets), "certificates": len(held.certificates)}


def clock(state: DataverseState, body: Any) -> Any:
    if "advance" in body:
        state.clock.advance(float(body["advance"]))
    if "set" in body:
        state.clock.set(parse_time(body["set"]))
    return {"now": state.now()}


def expire(state: DataverseState, body: Any) -> Any:
    state.expire_delta_links(body.get("table"))
    return {"version": state.version}


def columns(state: DataverseState, body: Any) -> Any:
    """Add or remove custom columns, status reasons, column security and change tracking: each a metadata publish.

    `{"table": t, "add": [{"name", "type", "length", "targets", "options": [{"value", "label"}]}], "remove": [name],
    "status_reasons": [{"value", "label", "state"}], "secured": {name: bool}, "tracked": bool}`; the switch
    `column_security_profile` says which of the secured ones the application user may read.
    """
    table = state.store(body["table"]).table
    new = [_column(item) for item in body.get("add", ())]
    for name in body.get("remove", ()):
        if not (name in table.columns and table.columns[name].custom):
            raise bad_request(f"{table.name} has no custom column '{name}'", "admin")
    for column in new:
        table.add(column)
    for name in body.get("remove", ()):
        table.remove(name)
    for reason in body.get("status_reasons", ()):
        loading.add_reason(table, reason["value"], reason["label"], reason.get("state", 0), reason.get("german"))
    for name, secured in body.get("secured", {}).items():
        if name not in table.columns:
            raise bad_request(f"{table.name} has no column '{name}'", "admin")
        table.secure(name, bool(secured))
    table.tracked = bool(body.get("tracked", table.tracked))
    state.publish(table.name)
    return {"table": table.name, "columns": [column.name for column in table.columns.values() if column.custom]}


def _column(item: Mapping[str, Any]) -> Column:
    kind = item.get("type", "string")
    if kind not in saving.CHECKS:
        raise bad_request(f"'{kind}' is none of the column types {sorted(saving.CHECKS)}", "admin")
    options = _options(item.get("options", ()))
    length = item.get("length") or {"string": 100, "memo": 2000}.get(kind)
    return Column(item["name"], kind, length, tuple(item.get("targets", ())), options, custom=True)


def _options(items: Iterable[Mapping[str, Any]]) -> Any:
    return english_options((item["value"], item["label"]) for item in items)


POSTS: dict[str, Callable[[DataverseState, Any], Any]] = {
    "load": load,
    "generate": generate_rows,
    "edit": edit,
    "switches": switch,
    "credentials": credentials,
    "clock": clock,
    "expire-delta-links": expire,
    "columns": columns,
}
