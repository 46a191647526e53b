"""EntityDefinitions: what the Web API tells about tables, columns and choices (dataverse.md §3.6)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from tools.emulators.dataverse.errors import DataverseError, bad_request, no_segment
from tools.emulators.dataverse.schema import ENGLISH, Column, Option, Table
from tools.emulators.dataverse.state import DataverseState

PATH = re.compile(
    r"EntityDefinitions(?:\((?:LogicalName='(?P<name>\w+)'|(?P<id>[0-9a-fA-F-]{36}))\))?"
    r"(?:/Attributes(?:\(LogicalName='(?P<column>\w+)'\))?(?:/Microsoft\.Dynamics\.CRM\.(?P<cast>\w+))?)?"
)
CASTS = {
    "StateAttributeMetadata": {"state"},
    "StatusAttributeMetadata": {"status"},
    "PicklistAttributeMetadata": {"choice"},
    "MultiSelectPicklistAttributeMetadata": {"multichoice"},
    "BooleanAttributeMetadata": {"bool"},
    "LookupAttributeMetadata": {"lookup"},
    "StringAttributeMetadata": {"string"},
    "MemoAttributeMetadata": {"memo"},
    "MoneyAttributeMetadata": {"money"},
    "DateTimeAttributeMetadata": {"date", "datetime"},
}
LONGEST = {"string": 4000, "memo": 1_048_576}  # what a column of somebody's data may hold that came without a length
TERM = re.compile(r"([\w/]+) eq (true|false|'[^']*'|\d+)", re.IGNORECASE)


def answer(state: DataverseState, path: str, options: Mapping[str, str], root: str) -> dict[str, Any]:
    """The body for a GET below `EntityDefinitions`."""
    match = PATH.fullmatch(path)
    if match is None:
        raise no_segment(path)
    if match["name"] is None and match["id"] is None:
        return _collection(f"{root}$metadata#EntityDefinitions", _tables(state, options))
    table = _table(state, match["name"], match["id"])
    if "/Attributes" not in path:
        return {
            "@odata.context": f"{root}$metadata#EntityDefinitions/$entity",
            **_picked(entity(table), options, "MetadataId"),
        }
    return _attributes(table, match["column"], match["cast"], options, root)


def _collection(context: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"@odata.context": context, "value": rows}


def _table(state: DataverseState, name: str | None, metadata_id: str | None) -> Table:
    for table in state.tables.values():
        if table.name == name or metadata_id == _metadata_id(table.name):
            return table
    raise DataverseError(404, "0x80060888", f"Could not find an entity with name {name or metadata_id}.")


def _tables(state: DataverseState, options: Mapping[str, str]) -> list[dict[str, Any]]:
    found = [entity(table) for table in state.tables.values()]
    return [_picked(item, options, "MetadataId") for item in filtered(found, options.get("$filter"))]


def filtered(items: Iterable[dict[str, Any]], text: str | None) -> list[dict[str, Any]]:
    """Metadata is picky: only comparisons with `eq`, joined by `and` or, alone, by `or` (dataverse.md §3.6)."""
    if not text:
        return list(items)
    if "(" in text:
        raise DataverseError(501, "0x8006088a", "The query specified in the URI is not valid for metadata.")
    word = " or " if " or " in text else " and "
    terms = [TERM.fullmatch(part.strip()) for part in text.split(word)]
    if any(term is None for term in terms):
        raise bad_request(f"Syntax error in $filter: '{text}'.")
    join = any if word == " or " else all
    return [item for item in items if join(_holds(item, term) for term in terms if term)]


def _holds(item: Mapping[str, Any], term: re.Match[str]) -> bool:
    value: Any = item
    for part in term[1].split("/"):
        value = value.get(part) if isinstance(value, Mapping) else None
    wanted = term[2].strip("'")
    return str(value).lower() == wanted.lower()


def _picked(item: dict[str, Any], options: Mapping[str, str], *always: str) -> dict[str, Any]:
    names = [name.strip() for name in options.get("$select", "").split(",") if name.strip()]
    for name in names:
        if name not in item:
            raise bad_request(f"Could not find a property named '{name}' on the metadata type.")
    return {name: item[name] for name in item if not names or name in {*names, *always} or name[0] == "@"}


def entity(table: Table) -> dict[str, Any]:
    return {
        "MetadataId": _metadata_id(table.name),
        "LogicalName": table.name,
        "SchemaName": table.name.capitalize(),
        "EntitySetName": table.set_name,
        "LogicalCollectionName": table.set_name,
        "ObjectTypeCode": table.code,
        "PrimaryIdAttribute": table.key,
        "PrimaryNameAttribute": table.title,
        "IsCustomEntity": table.custom,
        "OwnershipType": "UserOwned" if table.owned else "OrganizationOwned",
        "ChangeTrackingEnabled": table.tracked,
        "CanChangeTrackingBeEnabled": managed(not table.tracked, "canchangetrackingbeenabled"),
        "DisplayName": label({ENGLISH: table.name.capitalize()}),
    }


def managed(value: bool, name: str) -> dict[str, Any]:
    return {"Value": value, "CanBeChanged": True, "ManagedPropertyLogicalName": name}


def _metadata_id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def _attributes(
    table: Table, column_name: str | None, cast: str | None, options: Mapping[str, str], root: str
) -> dict[str, Any]:
    if cast and cast not in CASTS:
        raise no_segment(f"Microsoft.Dynamics.CRM.{cast}")
    columns = [c for c in table.columns.values() if not cast or c.kind in CASTS[cast]]
    context = f"{root}$metadata#EntityDefinitions('{table.name}')/Attributes"
    if cast:
        context += f"/Microsoft.Dynamics.CRM.{cast}"
    with_options = "OptionSet" in options.get("$expand", "")
    if column_name is None:
        items = filtered([attribute(table, c, expand=with_options) for c in columns], options.get("$filter"))
        return _collection(context, [_attribute_picked(item, options) for item in items])
    for column in columns:
        if column.name == column_name:
            item = _attribute_picked(attribute(table, column, expand=with_options), options)
            return {"@odata.context": f"{context}/$entity", **item}
    raise DataverseError(404, "0x80060888", f"Could not find an attribute '{column_name}' of '{table.name}'.")


def _attribute_picked(item: dict[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
    return _picked(item, options, "MetadataId", "OptionSet")


def attribute(table: Table, column: Column, *, expand: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "@odata.type": f"#Microsoft.Dynamics.CRM.{_metadata_type(column)}",
        "LogicalName": column.name,
        "SchemaName": column.name.capitalize(),
        "EntityLogicalName": table.name,
        "AttributeType": column.attribute_type,
        "AttributeTypeName": {"Value": _type_name(column)},
        "AttributeOf": None,
        "IsCustomAttribute": column.custom,
        "IsValidForRead": True,
        "IsSecured": column.secured,
        "IsPrimaryId": column.name == table.key,
        "IsPrimaryName": column.name == table.title,
        "DisplayName": label({ENGLISH: column.name}),
        "MetadataId": _metadata_id(f"{table.name}.{column.name}"),
    }
    if column.kind in LONGEST:
        found["MaxLength"] = column.length or LONGEST[column.kind]
    if column.kind == "lookup":
        found["Targets"] = list(column.targets)
    if column.kind in {"date", "datetime"}:
        found["Format"] = "DateOnly" if column.kind == "date" else "DateAndTime"
        found["DateTimeBehavior"] = {"Value": "DateOnly" if column.kind == "date" else "UserLocal"}
    if expand and column.kind in {"choice", "multichoice", "state", "status", "bool"}:
        found["OptionSet"] = option_set(table, column)
    return found


def _metadata_type(column: Column) -> str:
    return next(
        (cast for cast, kinds in CASTS.items() if column.kind in kinds), f"{column.attribute_type}AttributeMetadata"
    )


def _type_name(column: Column) -> str:
    return "MultiSelectPicklistType" if column.kind == "multichoice" else f"{column.attribute_type}Type"


def option_set(table: Table, column: Column) -> dict[str, Any]:
    common = {
        "Name": f"{table.name}_{column.name}",
        "IsGlobal": False,
        "MetadataId": _metadata_id(f"set.{column.name}"),
    }
    if column.kind == "bool":
        true, false = column.options or (Option(1, {ENGLISH: "Yes"}), Option(0, {ENGLISH: "No"}))
        return {
            **common,
            "OptionSetType": "Boolean",
            "TrueOption": _option(column, true),
            "FalseOption": _option(column, false),
        }
    kind = {"state": "State", "status": "Status"}.get(column.kind, "Picklist")
    return {**common, "OptionSetType": kind, "Options": [_option(column, option, table) for option in column.options]}


def _option(column: Column, option: Option, table: Table | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"Value": option.value, "Label": label(option.labels), "Color": None, "IsManaged": True}
    if column.kind == "state" and table is not None:
        reasons = table.columns["statuscode"].options
        default = next((reason.value for reason in reasons if reason.state == option.value), None)
        found |= {"DefaultStatus": default, "InvariantName": option.label}
        return {"@odata.type": "#Microsoft.Dynamics.CRM.StateOptionMetadata", **found}
    if column.kind == "status":
        return {"@odata.type": "#Microsoft.Dynamics.CRM.StatusOptionMetadata", **found, "State": option.state}
    return found


def label(texts: Mapping[int, str]) -> dict[str, Any]:
    labels = [{"Label": text, "LanguageCode": code, "IsManaged": True} for code, text in texts.items()]
    return {"LocalizedLabels": labels, "UserLocalizedLabel": labels[0] if labels else None}
