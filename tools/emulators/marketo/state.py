"""One emulated subscription, without HTTP. Everything that happens to it happens here, under one lock."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import leads, queries, writes
from .catalogue import Field
from .clock import Clock
from .database import Database
from .errors import ApiError, crm_enabled
from .identity import Client, Identity
from .journal import Journal
from .late import LateWrites
from .limits import Gate, Usage
from .switches import Switches
from .table import Row

MUNCHKIN_ID = "123-EMU-456"
SEEDING_ORDER = ("salespersons", "companies", "leads", "opportunities", "roles")


class MarketoState:
    """People, companies, opportunities and roles of one subscription, its clock, its limits and its journal.

    Thread-safe: callers from outside hold `lock` for each step, and the methods here take it themselves.
    """

    def __init__(
        self,
        *,
        clients: Iterable[Client] = (Client(),),
        munchkin_id: str = MUNCHKIN_ID,
        seed: int = 1,
        start: str | None = None,
        frozen: bool = False,
        switches: Mapping[str, Any] | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.munchkin_id = munchkin_id
        self.switches = Switches()
        self.switches.set(switches or {})
        self.clock = Clock(start, frozen=frozen)
        self.database = Database(self.clock, self.switches, seed=seed)
        self.identity = Identity(clients, self.clock, self.switches, seed=seed)
        self.usage = Usage(self.clock, self.switches)
        self.gate = Gate(self.clock, self.switches, self.usage)
        self.journal = Journal()
        self.late = LateWrites(self.clock, self.lock)
        self.clock.moved = self.late.settle

    def now(self) -> float:
        return self.clock.now()

    def sync(self, name: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """`{action, dedupeBy | lookupField, input}` to one result item per record."""
        with self.lock:
            self._require_roles(name)
            return leads.sync(self.database, body) if name == "leads" else writes.sync(self.database, name, body)

    def delete(self, name: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        with self.lock:
            self._require_roles(name)
            if name == "leads":
                return leads.delete(self.database, body)
            return writes.delete(self.database, name, body)

    def query(self, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """`{result, nextPageToken?, moreResult?}`."""
        with self.lock:
            self._require_roles(name)
            return queries.run(self.database, name, params)

    def merge(self, winner: int, losers: Sequence[int]) -> None:
        with self.lock:
            leads.merge(self.database, winner, list(losers))

    def rows(self, name: str, field: str = "", value: str = "") -> list[Row]:
        """Every row with every field, as copies; only those whose searchable *field*, if given, holds *value*."""
        with self.lock:
            table = self.database.tables[name]
            empty = dict.fromkeys(table.kind.fields)
            return [empty | row for row in (table.having(field, value) if field else table.rows.values())]

    def people_with_opportunity(self) -> list[dict[str, Any]]:
        with self.lock:
            return list(self.database.people_with_opportunity())

    def load(self, objects: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[Any]]:
        """Rows that others made, by object name; the ids given to them. Leads may bring an `id` of their own."""
        unknown = objects.keys() - set(SEEDING_ORDER)
        if unknown:
            raise ValueError(f"no object {', '.join(sorted(unknown))}; there are {', '.join(SEEDING_ORDER)}")
        with self.lock:
            return {name: [self._load(name, row) for row in objects.get(name, ())] for name in SEEDING_ORDER}

    def add_field(self, name: str, field: Field) -> None:
        """A custom field, from now on part of describe and of validation."""
        with self.lock:
            self.database.add_field(name, field)

    def edit(self, operation: Mapping[str, Any]) -> None:
        """What a user of the subscription does by hand. See `/admin/edit`."""
        with self.lock:
            EDITS[operation["op"]](self, operation)

    def _load(self, name: str, record: Mapping[str, Any]) -> Any:
        kind = self.database.kinds[name]
        values = writes.usable(writes.understood(kind, record, self.switches))
        table = self.database.tables[name]
        if table.find(values) or (values.get(kind.id_field) and table.get(values[kind.id_field])):
            raise ValueError(f"{name} has {record} already")
        return self.database.insert(name, values)[kind.id_field]

    def _require_roles(self, name: str) -> None:
        """With a native CRM sync the role API may be missing altogether (marketo.md §0.1)."""
        if name == "roles" and self.switches.native_crm_sync and self.switches.native_crm_roles != "read-only":
            error = crm_enabled()
            raise ApiError(error.code, error.message)

    def _row(self, operation: Mapping[str, Any]) -> Row:
        """The row that `object` and `key` name; a key is the id, or the dedupe key, or a lead's e-mail."""
        table = self.database.tables[operation["object"]]
        key = operation["key"]
        row = table.get(key[table.kind.id_field]) if table.kind.id_field in key else table.find(key)
        if row is None and table.kind.name == "API Lead" and "email" in key:
            row = next(iter(table.having("email", key["email"])), None)
        if row is None:
            raise ValueError(f"{operation['object']} has no {key}")
        return row

    def _create(self, operation: Mapping[str, Any]) -> None:
        record = {**operation.get("key", {}), **operation.get("values", {})}
        self._load(operation["object"], record)

    def _update(self, operation: Mapping[str, Any]) -> None:
        name = operation["object"]
        values = writes.understood(self.database.kinds[name], operation["values"], self.switches)
        self.database.update(name, self._row(operation), writes.usable(values))

    def _remove(self, operation: Mapping[str, Any]) -> None:
        self.database.remove(operation["object"], self._row(operation))

    def _remove_lead(self, operation: Mapping[str, Any]) -> None:
        self._remove({"object": "leads", "key": {"id": operation["id"]}})

    def _merge_leads(self, operation: Mapping[str, Any]) -> None:
        self.merge(operation["winner"], operation["losers"])


EDITS = {
    "create": MarketoState._create,
    "update": MarketoState._update,
    "delete": MarketoState._remove,
    "delete-lead": MarketoState._remove_lead,
    "merge-leads": MarketoState._merge_leads,
}
