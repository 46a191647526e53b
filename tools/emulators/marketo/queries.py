"""Queries by filter, by compound key, and their pages (marketo.md §3.0, §5)."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .catalogue import ObjectType
from .database import Database
from .errors import ApiError
from .leads import inherited
from .table import Row, Table
from .values import integer, text

PAGE = 300
MAX_VALUES = 300
MAX_LEADS = 1_000


@dataclass(frozen=True, slots=True)
class Query:
    """What one request asks for. *keys* are one mapping of field to value per filter value or input."""

    name: str
    keys: list[dict[str, Any]]
    fields: tuple[str, ...] | None
    size: int
    offset: int
    fingerprint: bytes

    @property
    def end(self) -> int:
        return self.offset + self.size


def run(db: Database, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """`{result}` and, when there is more, `nextPageToken` and `moreResult`; leads page differently."""
    query = parsed(db, name, params)
    if name == "leads":
        return lead_page(db, query)
    rows = ordered(db, query, [row for key in query.keys for row in matches(db, name, key)])
    page: dict[str, Any] = {"result": shown(db, query, rows[query.offset : query.end])}
    if len(rows) > query.end:
        page |= {"nextPageToken": token(query, query.end), "moreResult": True}
    return page


def parsed(db: Database, name: str, params: Mapping[str, Any]) -> Query:
    """Checks in the order of the recorded messages (marketo.md §3.0)."""
    names = filter_fields(db.kinds[name], params.get("filterType"))
    keys = filter_keys(db, names, params)
    fields = requested(db.kinds[name], params.get("fields"))
    size = batch_size(db, params.get("batchSize"))
    asked = json.dumps([db.seed, name, names, keys, fields, size], sort_keys=True, default=str)
    fingerprint = hashlib.blake2b(asked.encode(), digest_size=12).digest()
    return Query(name, keys, fields, size, position(fingerprint, params.get("nextPageToken")), fingerprint)


def filter_fields(kind: ObjectType, filter_type: Any) -> tuple[str, ...]:
    """What to filter on: a searchable field, or one of the two aliases."""
    if not filter_type:
        raise ApiError("1003", "filterType not specified")
    if filter_type == "idField":
        return (kind.id_field,)
    if filter_type == "dedupeFields" and kind.dedupe_fields:
        return kind.dedupe_fields
    field = kind.field(str(filter_type))
    if field is None or (field.name,) not in kind.searchable:
        raise ApiError("1003", f"Invalid filterType '{filter_type}'")
    return (field.name,)


def filter_keys(db: Database, names: tuple[str, ...], params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """From `filterValues` (a comma-separated list), or `input` (a list of objects with every key field)."""
    if "input" in params:
        return limited(db, input_keys(names, params["input"]))
    values = params.get("filterValues")
    if not values or len(names) > 1:
        raise ApiError("1003", "filterValues not specified")
    return limited(db, [{names[0]: value} for value in dict.fromkeys(str(values).split(","))])


def input_keys(names: tuple[str, ...], records: Any) -> list[dict[str, Any]]:
    if not isinstance(records, list) or not records:
        raise ApiError("1003", "input not specified")
    return [input_key(names, record) for record in records]


def input_key(names: tuple[str, ...], record: Any) -> dict[str, Any]:
    if not isinstance(record, Mapping):
        raise ApiError("1003", "Invalid record in input")
    by_lower_name = {str(name).lower(): value for name, value in record.items()}
    for name in names:
        if by_lower_name.get(name.lower()) is None:
            raise ApiError("1003", f"Value for field '{name}' not specified in input")
    return {name: by_lower_name[name.lower()] for name in names}


def limited(db: Database, keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """U6: 300 values a query."""
    if len(keys) > MAX_VALUES and db.switches.too_many_filter_values == "1003":
        raise ApiError("1003", f"Number of filterValues exceeds the maximum of {MAX_VALUES}")
    return keys


def requested(kind: ObjectType, fields: Any) -> tuple[str, ...] | None:
    """Canonical names of the fields asked for, a list or comma-separated; None when nothing was asked."""
    if not fields:
        return None
    names = fields if isinstance(fields, list) else str(fields).split(",")
    found = [(name, kind.field(str(name).strip())) for name in names]
    for name, field in found:
        if field is None:
            raise ApiError("1006", f"Field '{name}' not found")
    return tuple(field.name for _, field in found if field)


def batch_size(db: Database, value: Any) -> int:
    """U13: more than 300 a page."""
    try:
        size = PAGE if value in (None, "") else integer(value)
    except (ValueError, TypeError):
        size = 0
    if size < 1 or (size > PAGE and db.switches.large_batch_size == "1003"):
        raise ApiError("1003", f"Invalid batchSize '{value}'")
    return min(size, PAGE)


def token(query: Query, offset: int) -> str:
    """Opaque, bound to its query, always padded with `=` (marketo.md §5.3)."""
    return base64.b32encode(offset.to_bytes(4, "big") + signature(query.fingerprint, offset)).decode()


def signature(fingerprint: bytes, offset: int) -> bytes:
    return hashlib.blake2b(fingerprint + offset.to_bytes(4, "big"), digest_size=12).digest()


def position(fingerprint: bytes, page_token: Any) -> int:
    if not page_token:
        return 0
    try:
        raw = base64.b32decode(str(page_token))
    except ValueError:
        raw = b""
    offset = int.from_bytes(raw[:4], "big")
    if raw[4:] != signature(fingerprint, offset):
        raise ApiError("1003", "Invalid nextPageToken")
    return offset


def matches(db: Database, name: str, key: dict[str, Any]) -> list[Row]:
    """Rows for one filter value; what was written just now may not show yet (switch `visible_after`)."""
    table = db.tables[name]
    try:
        typed = {field: search_value(table, field, value) for field, value in key.items()}
    except (ValueError, TypeError):
        return []
    rows = having_key(table, typed)
    if table.visible_from:
        now = db.clock.now()
        return [row for row in rows if table.visible_from.get(table.id_of(row), 0) <= now]
    return rows


def search_value(table: Table, field: str, value: Any) -> Any:
    return integer(value) if table.kind.fields[field].type == "integer" else text(value)


def having_key(table: Table, key: dict[str, Any]) -> list[Row]:
    if len(key) > 1:
        row = table.find(key)
        return [row] if row else []
    return [row for field, value in key.items() for row in table.having(field, value)]


def ordered(db: Database, query: Query, rows: list[Row]) -> list[Row]:
    """Not the order of the input unless a switch says so; the same on every page of a query."""
    if db.switches.result_order == "reversed":
        rows.reverse()
    elif db.switches.result_order == "shuffled":
        random.Random(query.fingerprint).shuffle(rows)
    return rows


def shown(db: Database, query: Query, rows: list[Row]) -> list[dict[str, Any]]:
    """With `seq`, which starts at 0 on each page."""
    names = shown_fields(db.kinds[query.name], query.fields)
    if query.name == "salespersons" and query.fields is None:
        return [{"seq": seq} | populated(row) for seq, row in enumerate(rows)]
    items = [{"seq": seq} | {n: row.get(n) for n in names} for seq, row in enumerate(rows)]
    if query.name == "companies":
        omit_unset_owner(items)
    return items


def shown_fields(kind: ObjectType, asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """Id and key always, then what was asked for, or the object's defaults (marketo.md §3.0)."""
    always = (kind.id_field, *kind.dedupe_fields)
    return tuple(dict.fromkeys(always + (kind.default_fields if asked is None else asked)))


def populated(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def omit_unset_owner(items: list[dict[str, Any]]) -> None:
    """Recorded: asked for, and missing instead of null (marketo.md §3.0)."""
    for each in items:
        if each.get("externalSalesPersonId", "") is None:
            del each["externalSalesPersonId"]


def lead_page(db: Database, query: Query) -> dict[str, Any]:
    """Walks the filter values: a page may have no `result`, and only the token tells of more (marketo.md §3.6)."""
    slots: list[Row | None] = []
    for key in query.keys:
        slots += matches(db, "leads", key) or [None]
    if len(slots) - slots.count(None) > MAX_LEADS:
        raise ApiError("1003", "Too many results match the filter")
    people = [row for row in slots[query.offset : query.end] if row is not None]
    names = shown_fields(db.kinds["leads"], query.fields)
    page: dict[str, Any] = {"result": [lead_item(db, row, names) for row in people]}
    full = len(slots) - query.offset >= query.size and db.switches.lead_trailing_page
    if len(slots) <= query.end and not full:
        return page
    return (page if people else {}) | {"nextPageToken": token(query, query.end)}


def lead_item(db: Database, row: Row, names: tuple[str, ...]) -> dict[str, Any]:
    row = inherited(db, row)
    return {name: row.get(name) for name in names}
