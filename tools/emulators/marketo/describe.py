"""Describe and schema answers, from the catalogue that validation uses (marketo.md §3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import queries
from .catalogue import Field, ObjectType
from .database import Database
from .errors import ApiError
from .values import max_length


def described(db: Database, name: str) -> list[dict[str, Any]]:
    """`[{name, idField, dedupeFields, searchableFields, fields}]` of one object."""
    kind = db.kinds[name]
    head = {
        "name": kind.name,
        "createdAt": db.created,
        "updatedAt": db.created,
        "idField": kind.id_field,
        "dedupeFields": list(kind.dedupe_fields),
    }
    return [head | searchable(kind) | {"fields": [field_item(db, each) for each in kind.fields.values()]}]


def described_leads(db: Database) -> list[dict[str, Any]]:
    """describe2 for people: `[{name, searchableFields, fields}]`."""
    kind = db.kinds["leads"]
    fields = [field_item(db, each) for each in kind.fields.values()]
    return [{"name": kind.name, **searchable(kind), "fields": fields}]


def described_leads_by_rest_name(db: Database) -> list[dict[str, Any]]:
    """The older describe for people: one item per field, its API name under `rest`."""
    fields = db.kinds["leads"].fields.values()
    return [
        {
            "id": position,
            "displayName": field.name,
            "dataType": field.type,
            **length_of(db, field),
            "rest": {"name": field.name, "readOnly": not field.updateable},
        }
        for position, field in enumerate(fields, 1)
    ]


def searchable(kind: ObjectType) -> dict[str, Any]:
    return {"searchableFields": [list(names) for names in kind.searchable]}


def field_item(db: Database, field: Field) -> dict[str, Any]:
    """The recorded members; `displayName` equals the API name (marketo.md §3.2)."""
    return {
        "name": field.name,
        "displayName": field.name,
        "dataType": field.type,
        **length_of(db, field),
        "updateable": field.updateable,
        "crmManaged": False,
    }


def length_of(db: Database, field: Field) -> dict[str, int]:
    limit = max_length(field, db.switches)
    return {} if limit is None else {"length": limit}


def schema(db: Database, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """A page of schema fields: `{result, nextPageToken?, moreResult}`."""
    size = queries.batch_size(db, params.get("batchSize"))
    print_of_query = f"schema {name} {size} {db.seed}".encode()
    begin = queries.position(print_of_query, params.get("nextPageToken"))
    items = [schema_item(db, each) for each in db.kinds[name].fields.values()]
    page: dict[str, Any] = {"result": items[begin : begin + size]}
    if len(items) <= begin + size:
        return page | {"moreResult": False}
    query = queries.Query(name, [], None, size, begin, print_of_query)
    return page | {"moreResult": True, "nextPageToken": queries.token(query, query.end)}


def schema_field(db: Database, name: str, field_name: str) -> list[dict[str, Any]]:
    field = db.kinds[name].field(field_name)
    if field is None:
        raise ApiError("1006", f"Field '{field_name}' not found")
    return [schema_item(db, field)]


def schema_item(db: Database, field: Field) -> dict[str, Any]:
    return {
        "displayName": field.name,
        "name": field.name,
        "description": None,
        "dataType": "url" if field.name == "website" else field.type,
        **length_of(db, field),
        "isHidden": False,
        "isHtmlEncodingInEmail": True,
        "isSensitive": False,
        "isCustom": field.custom,
        "isApiCreated": field.custom,
    }
