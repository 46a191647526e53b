"""Fill the organization with rows in Web API shape, as they are, quickly.

Unlike a save, loading keeps times, customers and long texts as given. What the rows lack (owner, currency, type codes,
shadows, mirror rows, versions) is supplied; annotations are used and dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from tools.emulators.dataverse import saving
from tools.emulators.dataverse.queries import FORMATTED, LOOKUP_NAME
from tools.emulators.dataverse.schema import ENGLISH, GERMAN, TABLES_BY_CODE, Column, Option, Table
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.store import Row

# What others refer to comes first.
ORDER = (
    "organization", "businessunit", "transactioncurrency", "systemuser", "team", "connectionrole",
    "account", "contact", "lead", "opportunity",
)  # fmt: skip
# Pseudo columns: the currency by its code, the role on the side of record2 by its name.
ISO_CODE, ROLE_NAME = "transactioncurrency.isocurrencycode", "connectionrole.name"
MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}")
ACTUAL_CUSTOMER = {
    "opportunity": ("_customerid_value", {"account": "_accountid_value", "contact": "_contactid_value"}),
    "contact": ("_parentcustomerid_value", {"account": "_accountid_value", "contact": "_parentcontactid_value"}),
}


def load(state: DataverseState, tables: Mapping[str, Iterable[Row]]) -> dict[str, int]:
    """Insert or replace the rows, by logical or entity set name of their table; rows per table."""
    named = {_table_for(state, name): rows for name, rows in tables.items()}
    counts: dict[str, int] = {}
    for name in sorted(named, key=_rank):
        counts[name] = _load_table(state, state.tables[name], named[name], roles_given="connectionrole" in named)
    return counts


def _rank(name: str) -> tuple[int, str]:
    if name == "connection":
        return len(ORDER) + 1, name
    return (ORDER.index(name) if name in ORDER else len(ORDER)), name


def _table_for(state: DataverseState, name: str) -> str:
    if known := state.table_named(name):
        return known.name
    singular = re.sub(r"ies$", "y", name) if name.endswith("ies") else name.removesuffix("s")
    return state.add_table(singular, title="title" if singular == "incident" else "name").name


def _load_table(state: DataverseState, table: Table, rows: Iterable[Row], *, roles_given: bool) -> int:
    loader = Loader(state, table, roles_given=roles_given)
    count = 0
    for raw in rows:
        loader.load(raw)
        count += 1
    if table.name == "connection":
        loader.supply_mirrors()
    return count


class Loader:
    """Loads the rows of one table; what is the same for all of them is looked up once."""

    def __init__(self, state: DataverseState, table: Table, *, roles_given: bool) -> None:
        self.state, self.table = state, table
        self.store = state.stores[table.name]
        self.roles_given = roles_given
        self.without_mirror: list[str] = []
        self.seen: set[str] = set()
        self.roles: dict[str, str] = {}

    def load(self, raw: Mapping[str, Any]) -> None:
        row = self.completed(raw)
        row["versionnumber"] = self.state.new_version()
        self.store.put(row)
        row_id = row[self.table.key]
        if self.table.name == "connection" and row_id not in self.seen:
            self.seen.add(row_id)
            self.without_mirror.append(row_id)

    def completed(self, raw: Mapping[str, Any]) -> Row:
        """The row as the organization keeps it, but for its version."""
        row, types, names = taken_apart(raw)
        self._currency_by_code(row)
        self._role_by_name(row)
        if unknown := row.keys() - self.table.wire.keys():
            self._add_columns(sorted(unknown), row, types)
        self._mention(row, types, names)
        row_id = row[self.table.key] = self._id(row)
        if (before := self.store.rows.get(row_id)) is not None:
            row = self._over(before, raw, row)
        self._normalise(row)
        self._complete(row, types)
        return row

    def _id(self, row: Row) -> str:
        """The row's id, or a new one; Dataverse knows no ids but GUIDs."""
        given = row.get(self.table.key) or self.state.new_id()
        try:
            return str(UUID(str(given)))
        except ValueError:
            raise ValueError(f"{self.table.key} {given!r} is no GUID") from None

    def _over(self, before: Row, raw: Mapping[str, Any], row: Row) -> Row:
        """The new values over the old ones; null empties, and what is computed from them is computed again."""
        computed = {self.table.money[name] for name in row if name in self.table.money}
        if "_transactioncurrencyid_value" in row:
            computed.add("exchangerate")
        kept = {name: value for name, value in before.items() if name not in raw and name not in computed}
        return {**kept, **row}

    def _currency_by_code(self, row: Row) -> None:
        code = row.pop(ISO_CODE, None)
        if code and "_transactioncurrencyid_value" not in row:
            row["_transactioncurrencyid_value"] = self.state.currency(code) or self._new_currency(code, code)

    def _role_by_name(self, row: Row) -> None:
        if name := row.pop(ROLE_NAME, None):
            if name not in self.roles:
                self.roles[name] = self.state.role_named(name) or self.state.add_role(name)
            row["_record2roleid_value"] = self.roles[name]

    def _new_currency(self, code: str, name: str, row_id: str | None = None) -> str:
        columns = {"isocurrencycode": code[:5], "currencyname": name, "currencysymbol": code, "currencyprecision": 2}
        facts = {"exchangerate": 1.0, "statecode": 0, "statuscode": 1, "createdon": self.state.now()}
        row = {
            "transactioncurrencyid": row_id or self.state.new_id(),
            **columns,
            **facts,
            "modifiedon": self.state.now(),
        }
        return str(self.state.write("transactioncurrency", row)["transactioncurrencyid"])

    def _add_columns(self, names: list[str], row: Row, types: saving.Types) -> None:
        """Columns we don't know are somebody's own: kept, with the type their first value suggests."""
        for name in names:
            if name not in self.table.wire:  # money brings its twin along
                self.table.add(guessed_column(name, row[name], types.get(name), row))

    def _mention(self, row: Row, types: saving.Types, names: Mapping[str, str]) -> None:
        """Rows that are only referred to: users, currencies and roles are made, the others' names remembered."""
        for wire, name in names.items():
            row_id, column = row.get(wire), self.table.wire.get(wire)
            if not row_id or column is None or column.kind != "lookup":
                self._label(column, row_id, name)
                continue
            target = types.get(wire) or (column.targets[0] if len(column.targets) == 1 else None)
            self._supply(target, str(row_id).lower(), name)

    def _supply(self, target: str | None, row_id: str, name: str) -> None:
        store = self.state.stores.get(target or "")
        if store is not None and row_id in store.rows:
            return
        if target == "systemuser":
            self.state.add_user(row_id, name)
        elif target == "transactioncurrency":
            self._new_currency({"US Dollar": "USD", "Euro": "EUR"}.get(name, name[:3].upper()), name, row_id)
        elif target == "connectionrole" and not self.roles_given:
            self.state.add_role(name, 1000, row_id)
        else:
            self.state.known_names[row_id] = name

    def _label(self, column: Column | None, value: Any, label: str) -> None:
        """A status reason of somebody's own, with the label it was shown by."""
        if column is not None and column.kind == "status" and isinstance(value, int):
            add_reason(self.table, value, label)

    def _normalise(self, row: Row) -> None:
        for name, value in row.items():
            if isinstance(value, str):
                kind = self.table.wire[name].kind
                if kind in {"lookup", "guid"}:
                    row[name] = value.lower()
                elif kind == "datetime":
                    row[name] = saving.wire_datetime(value)
                elif kind == "date" and len(value) != 10:
                    row[name] = saving.wire_date(value)

    def _complete(self, row: Row, types: saving.Types) -> None:
        now = self.state.now()
        created = row.setdefault("createdon", now)
        row.setdefault("modifiedon", created)
        if self.table.owned:
            row.setdefault("_createdby_value", self.state.owner_id)
            row.setdefault("_modifiedby_value", row["_createdby_value"])
            self._own(row, types)
            self._state(row)
            self._money(row)
        if shadows := ACTUAL_CUSTOMER.get(self.table.name):
            self._guess_type(shadows[0], row, types)
            saving.shadow(row, shadows[0], types, shadows[1])
        if self.table.name == "connection":
            self._describe_connection(row, types)
        elif "fullname" in self.table.columns and "fullname" not in row and (row.keys() & {"firstname", "lastname"}):
            row["fullname"] = " ".join(part for part in (row.get("firstname"), row.get("lastname")) if part)

    def _own(self, row: Row, types: saving.Types) -> None:
        owner = row.setdefault("_ownerid_value", self.state.owner_id)
        if "_owninguser_value" not in row and "_owningteam_value" not in row:
            team = types.get("_ownerid_value") == "team" or owner in self.state.stores["team"].rows
            row["_owningteam_value" if team else "_owninguser_value"] = owner
        row.setdefault("_owningbusinessunit_value", self.state.business_unit_id)

    def _state(self, row: Row) -> None:
        state = row.setdefault("statecode", 0)
        reasons = self.table.columns["statuscode"].options
        if "statuscode" not in row:
            row["statuscode"] = next((option.value for option in reasons if option.state == state), 1)
        elif all(option.value != row["statuscode"] for option in reasons):
            add_reason(self.table, row["statuscode"], f"Reason {row['statuscode']}", state)

    def _money(self, row: Row) -> None:
        currency = row.setdefault("_transactioncurrencyid_value", self.state.base_currency_id)
        if "exchangerate" not in row:
            known = self.state.stores["transactioncurrency"].rows.get(currency)
            row["exchangerate"] = known.get("exchangerate", 1.0) if known else 1.0
        for name in row.keys() & self.table.money.keys():
            row.setdefault(self.table.money[name], round(row[name] / (row["exchangerate"] or 1.0), 4))

    def _guess_type(self, wire: str, row: Row, types: saving.Types) -> None:
        if wire in row and wire not in types and row[wire] in self.state.stores["contact"].rows:
            types[wire] = "contact"

    def _describe_connection(self, row: Row, types: saving.Types) -> None:
        for side in ("record1", "record2"):
            code, wire = f"{side}objecttypecode", f"_{side}id_value"
            if code not in row and (target := types.get(wire) or self._table_holding(row.get(wire))):
                row[code] = self.state.tables[target].code
        if "name" not in row:
            target = TABLES_BY_CODE.get(row.get("record2objecttypecode", 0))
            if title := self.state.title_of(target, row.get("_record2id_value")):
                row["name"] = title
        row.setdefault("ismaster", True)

    def _table_holding(self, row_id: str | None) -> str | None:
        wanted = ("opportunity", "contact", "account", "lead", "systemuser", "team")
        return next((name for name in wanted if row_id in self.state.stores[name].rows), None)

    def supply_mirrors(self) -> None:
        """Connections exist in pairs (dataverse.md §6.5): make the second row where only one was given."""
        for row_id in self.without_mirror:
            row = self.store.rows[row_id]
            mirror_id = row.get("_relatedconnectionid_value")
            if mirror_id in self.store.rows:
                continue
            if mirror_id is None:
                mirror_id = self.state.new_id()
                row = self.state.write("connection", row, _relatedconnectionid_value=mirror_id)
            self.state.write("connection", saving.mirror_of(self.state, row, mirror_id))


def taken_apart(raw: Mapping[str, Any]) -> tuple[Row, saving.Types, dict[str, str]]:
    """A row of the wire as values, types of lookups, and names; empty values and other annotations are dropped."""
    row: Row = {}
    types: saving.Types = {}
    names: dict[str, str] = {}
    for key, value in raw.items():
        if value is None:
            continue
        name, at, annotation = key.partition("@")
        if not at:
            row[key] = value
        elif annotation == LOOKUP_NAME:
            types[name] = value
        elif annotation == FORMATTED:
            names[name] = value
    return {key: value for key, value in row.items() if not isinstance(value, list | dict)}, types, names


def guessed_column(name: str, value: Any, target: str | None, row: Row) -> Column:
    if name.startswith("_") and name.endswith("_value"):
        return Column(name[1:-6], "lookup", targets=(target,) if target else (), custom=True)
    return Column(name, _guessed_kind(name, value, row), custom=True)


def _guessed_kind(name: str, value: Any, row: Row) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return (
            "money"
            if f"{name}_base" in row or name.endswith("_base")
            else "int"
            if isinstance(value, int)
            else "decimal"
        )
    text = str(value)
    if saving.GUID.fullmatch(text.lower()):
        return "guid"
    if MOMENT.match(text):
        return "datetime"
    return "memo" if len(text) > 100 else "string"


def add_reason(table: Table, value: int, label: str, state: int = 0, german: str | None = None) -> None:
    """One more status reason; a known value keeps the label it has."""
    column = table.columns["statuscode"]
    if any(option.value == value for option in column.options):
        return
    option = Option(value, {ENGLISH: label, **({GERMAN: german} if german else {})}, state)
    table.add(Column(column.name, column.kind, options=(*column.options, option)))
