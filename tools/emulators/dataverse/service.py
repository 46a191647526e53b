"""The Web API itself: from a path, options and headers to an answer; knows nothing of sockets (dataverse.md §2-§4)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from tools.emulators.dataverse import metadata, multipart, paging, writing
from tools.emulators.dataverse.calls import API, ROW, Answer, Call, applied, key_of
from tools.emulators.dataverse.errors import DataverseError, bad_request, expired_version, no_row, no_segment
from tools.emulators.dataverse.identity import check_read
from tools.emulators.dataverse.queries import (
    MAX_PAGE,
    TOTAL,
    Query,
    parse_query,
    shape,
)
from tools.emulators.dataverse.schema import Table
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.store import Row

MAX_URL, MAX_BATCH_URL = 32_768, 65_536
UNTRACKABLE = ("$filter", "$orderby", "$expand", "$top")


def answer(state: DataverseState, call: Call) -> Answer:
    """Whatever goes wrong is an answer too."""
    try:
        return _dispatch(state, call)
    except DataverseError as error:
        return Answer(error.status, error.body)


def _dispatch(state: DataverseState, call: Call) -> Answer:
    if call.path == "$batch":
        return batch(state, call)
    if call.method != "GET":
        return writing.answer(state, call)
    if call.path in {"WhoAmI", "WhoAmI()"}:
        return Answer(200, who_am_i(state, call.root))
    if call.path.startswith("EntityDefinitions"):
        return Answer(200, metadata.answer(state, call.path, call.options, call.root))
    if call.path == "":
        return Answer(200, _service_document(state, call.root))
    return _read(state, call)


def who_am_i(state: DataverseState, root: str) -> dict[str, Any]:
    return {
        "@odata.context": f"{root}$metadata#Microsoft.Dynamics.CRM.WhoAmIResponse",
        "BusinessUnitId": state.business_unit_id,
        "UserId": state.application_user_id,
        "OrganizationId": state.organization_id,
    }


def _service_document(state: DataverseState, root: str) -> dict[str, Any]:
    sets = sorted(table.set_name for table in state.tables.values())
    return {
        "@odata.context": f"{root}$metadata",
        "value": [{"name": name, "kind": "EntitySet", "url": name} for name in sets],
    }


def _read(state: DataverseState, call: Call) -> Answer:
    segment, _, rest = call.path.partition("/")
    if match := ROW.fullmatch(segment):
        table = state.table_of_set(match[1])
        if rest:
            raise no_segment(rest)
        return one_row(state, call, table, match[2])
    table = state.table_of_set(segment)
    if rest == "$count":
        return count(state, call, table)
    if rest:
        raise no_segment(rest)
    return collection(state, call, table)


# -- one row ------------------------------------------------------------------------------------------


def one_row(state: DataverseState, call: Call, table: Table, key: str) -> Answer:
    row_id = key_of(table, key)
    check_read(state, table, tracking=False)
    query = parse_query(state, table, call.options)
    row = state.row(table.name, row_id)
    if row is None:
        raise no_row(table.name, key)
    if _unchanged(call, query, row):
        return Answer(304, None)
    wire = shape(state, query, call.preferences)(row)
    body = {"@odata.context": f"{query.context(call.root)}/$entity", **wire}
    return Answer(200, body, applied(call.preferences) | {"ETag": wire["@odata.etag"]}, 1)


def _unchanged(call: Call, query: Query, row: Row) -> bool:
    """Never when related rows or annotations were asked for: those may have changed alone (dataverse.md §2)."""
    same = call.headers.get("if-none-match") == f'W/"{row["versionnumber"]}"'
    return same and not query.expand and not call.preferences.annotations


# -- collections --------------------------------------------------------------------------------------


def count(state: DataverseState, call: Call, table: Table) -> Answer:
    check_read(state, table, tracking="$deltatoken" in call.options)
    store, options = state.store(table.name), call.options
    if "$deltatoken" in options:
        found = paging.count_changes(state, store, paging.read_delta_token(state, store, options["$deltatoken"]))
    else:
        found = min(paging.count_rows(store, parse_query(state, table, options)), MAX_PAGE)
    return Answer(200, str(found).encode(), {"Content-Type": "text/plain"})


def collection(state: DataverseState, call: Call, table: Table) -> Answer:
    cookie = _start(state, call, table)
    check_read(state, table, tracking=cookie.tracking)
    if cookie.tracking:
        _refuse_untrackable(state, call.options)
    query = parse_query(state, table, call.options)
    tracked = cookie.tracking and _is_tracked(state, table)
    page = _page(state, call, query, cookie)
    body = _body(state, call, query, cookie, page)
    if page.next is not None:
        body["@odata.nextLink"] = _next_link(state, call, table, page.next)
    elif tracked and not _loses_link(state, call):
        changed = cookie.since is not None and (bool(page.items) or cookie.page > 1)
        token = paging.next_token(state, cookie, changed=changed)
        body["@odata.deltaLink"] = paging.delta_link(call.root, query, token)
    return Answer(200, body, applied(call.preferences), len(page.items))


def _start(state: DataverseState, call: Call, table: Table) -> paging.Cookie:
    """Where this read stands: at its beginning, at a delta token, or behind the last page."""
    options = call.options
    if "$skiptoken" in options:
        cookie = paging.read_cookie(state, options["$skiptoken"], paging.bound(table.set_name, options))
        if cookie.since is not None and cookie.since < state.store(table.name).valid_from:
            raise expired_version(state.switches["expired_link_status"])
        return cookie
    if "$deltatoken" in options:
        since = paging.read_delta_token(state, state.store(table.name), options["$deltatoken"])
        return paging.Cookie(tracking=True, since=since, upto=state.version)
    return paging.Cookie(tracking=call.preferences.track_changes, upto=state.version)


def _refuse_untrackable(state: DataverseState, options: Mapping[str, str]) -> None:
    for name in UNTRACKABLE:
        if name in options:
            text = f'The "{name}" query parameter isn\'t supported when Change Tracking is enabled.'
            raise DataverseError(state.switches["untrackable_option_status"], "0x80060888", text)


def _is_tracked(state: DataverseState, table: Table) -> bool:
    """A table that isn't tracked: an error, or silence (dataverse.md §3.5)."""
    if not table.tracked and state.switches["untracked_table"] == "error":
        raise bad_request(f"Entity {table.name} isn't enabled for change tracking.", "0x80072491")
    return table.tracked


def _loses_link(state: DataverseState, call: Call) -> bool:
    return bool(call.preferences.annotations) and state.switches["annotations_with_tracking"] == "lose_delta_link"


def _page(state: DataverseState, call: Call, query: Query, cookie: paging.Cookie) -> paging.Page:
    store, asked = state.store(query.table.name), call.preferences.page_size
    if cookie.since is not None:
        return paging.read_changes(state, store, query, cookie, asked or MAX_PAGE)
    if query.top is not None and asked is None:
        page = paging.read_rows(store, query, cookie, min(query.top, MAX_PAGE)) if query.top else paging.Page([], None)
        return paging.Page(page.items, None)
    return paging.read_rows(store, query, cookie, asked or MAX_PAGE)


def _body(state: DataverseState, call: Call, query: Query, cookie: paging.Cookie, page: paging.Page) -> dict[str, Any]:
    delta = cookie.since is not None
    shaped, root = shape(state, query, call.preferences), _context_root(state, call.root, delta)
    deleted = f"{root}$metadata#{query.table.set_name}/$deletedEntity"
    body: dict[str, Any] = {"@odata.context": query.context(root) + ("/$delta" if delta else "")}
    if query.count:
        body["@odata.count"] = min(paging.count_rows(state.store(query.table.name), query), MAX_PAGE)
    if call.preferences.wants(TOTAL):
        body[f"@{TOTAL}"] = body.get("@odata.count", -1)
        body[f"@{TOTAL}limitexceeded"] = body.get("@odata.count") == MAX_PAGE
    body["value"] = [
        {"@odata.context": deleted, "id": item, "reason": "deleted"} if isinstance(item, str) else shaped(item)
        for item in page.items
    ]
    return body


def _context_root(state: DataverseState, root: str, delta: bool) -> str:
    """The documentation shows contexts of deltas without `/api` (dataverse.md §3.2)."""
    return root.replace("/api/", "/") if delta and state.switches["delta_context"] == "without_api" else root


def _next_link(state: DataverseState, call: Call, table: Table, cookie: paging.Cookie) -> str:
    """The same link as the client's, with another cookie."""
    kept = [part for part in call.query.split("&") if part and not _is_position(part)]
    text = paging.write_cookie(state, cookie, paging.bound(table.set_name, call.options))
    return f"{call.root}{table.set_name}?{'&'.join([*kept, '$skiptoken=' + quote(text, safe='')])}"


def _is_position(part: str) -> bool:
    return unquote(part.partition("=")[0]) in {"$skiptoken", "$deltatoken"}


# -- batch --------------------------------------------------------------------------------------------


def batch(state: DataverseState, call: Call) -> Answer:
    """In order; without continue-on-error the first failure ends it and names the outer status (dataverse.md §4.1)."""
    if call.method != "POST":
        raise DataverseError(405, "0x80060888", "$batch takes POST only.")
    parts, outer, rows = [], 200, 0
    for operation in multipart.parse(call.body, call.headers.get("content-type", "")):
        result = _operation(state, call, operation)
        parts.append(_part(result))
        rows += result.rows
        if result.status >= 400 and not call.preferences.continue_on_error:
            outer = result.status
            break
    body, content_type = multipart.write(parts)
    return Answer(outer, body, applied(call.preferences) | {"Content-Type": content_type}, rows)


def _operation(state: DataverseState, call: Call, operation: multipart.Operation) -> Answer:
    try:
        multipart.refuse(operation)
        inner = call_for(operation.method, call.base, operation.url, operation.headers)
    except DataverseError as error:
        return Answer(error.status, error.body)
    if len(operation.url) > MAX_BATCH_URL:
        return Answer(414, DataverseError(414, "0x80060888", "The URL is too long.").body)
    if inner.method != "GET":
        return Answer(405, DataverseError(405, "0x80060888", "The emulated $batch reads only.").body)
    if inner.path == "$batch":
        return Answer(400, bad_request("A batch can't hold another batch.").body)
    return answer(state, inner)


def call_for(method: str, base: str, url: str, headers: Mapping[str, str]) -> Call:
    """A request inside a batch: absolute, from the host's root, or relative to the service."""
    path, _, query = url.removeprefix(base).partition("?")
    if path.startswith("/") and not path.startswith(API):
        raise no_segment(path)
    return Call(method, base, unquote(path.removeprefix(API)), query, headers)


def _part(result: Answer) -> multipart.Part:
    body = (
        result.body.decode() if isinstance(result.body, bytes) else written(result.body).decode() if result.body else ""
    )
    return multipart.Part(result.status, {"OData-Version": "4.0", **result.headers}, body)


def written(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
