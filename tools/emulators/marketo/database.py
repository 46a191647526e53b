"""What the subscription holds, and what follows from a change: ids, times, activities, roles of merged people."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from . import activities
from .activities import ActivityLog
from .catalogue import Field, catalogue
from .clock import Clock
from .switches import Switches
from .table import Row, Table


class Database:
    """Five tables and the activity log. Every change goes through insert, update, remove or merge."""

    def __init__(self, clock: Clock, switches: Switches, *, seed: int) -> None:
        self.clock = clock
        self.switches = switches
        self.kinds = catalogue()
        self.tables = {name: Table(kind) for name, kind in self.kinds.items()}
        self.activities = ActivityLog()
        self.merged: dict[int, int] = {}
        self.created = clock.stamp()
        self.seed = seed
        self._random = random.Random(seed)
        self._last_id = dict.fromkeys(self.kinds, 0)
        self._former_opportunities: set[str] = set()

    def insert(self, name: str, values: Mapping[str, Any]) -> Row:
        """Create; *values* may name the id (people that others made), else it is the next one."""
        table, now = self.tables[name], self.clock.stamp()
        identity = values.get(table.kind.id_field) or self._new_id(name)
        row = {table.kind.id_field: identity, **values, "createdAt": now, "updatedAt": now}
        if isinstance(identity, int):
            self._last_id[name] = max(self._last_id[name], identity)
        if self.switches.visible_after:
            table.visible_from[identity] = self.clock.now() + self.switches.visible_after
        table.add(row)
        self._log_created(name, row)
        return row

    def update(self, name: str, row: Row, values: Mapping[str, Any]) -> bool:
        """Write what differs; updatedAt moves only if something does (marketo.md §3.0)."""
        changes = {field: value for field, value in values.items() if row.get(field) != value}
        if changes:
            self.tables[name].change(row, {**changes, "updatedAt": self.clock.stamp()})
        if name == "opportunities" and (changes or self.switches.noop_logs_update):
            self._log_roles(activities.UPDATED, row, fields=sorted(changes))
        return bool(changes)

    def remove(self, name: str, row: Row) -> None:
        """Delete for good. An opportunity's roles stay (marketo.md §3.3)."""
        if name == "opportunities":
            self._log_roles(activities.REMOVED, row)
            self._former_opportunities.add(row["externalOpportunityId"].casefold())
        if name == "roles" and self.opportunity_of(row):
            self._log_role(activities.REMOVED, row)
        if name == "companies":
            self._unlink_people(row)
        self.tables[name].remove(row)
        if name == "leads":
            self._forget_person(row)

    def merge(self, winner: Row, losers: list[Row]) -> None:
        """The winner keeps its id and its values, and takes the losers' where it has none (marketo.md §3.6)."""
        for loser in losers:
            gained = {k: v for k, v in loser.items() if winner.get(k) in (None, "") and v is not None}
            self.tables["leads"].remove(loser)
            self.merged[loser["id"]] = winner["id"]
            if gained:
                self.update("leads", winner, gained)
            if self.switches.roles_of_merged_lead == "winner":
                self._move_roles(loser["id"], winner["id"])
        ids = [loser["id"] for loser in losers]
        self.activities.add(self.clock.stamp(), activities.MERGE, winner["id"], winner["id"], mergedIds=ids)

    def add_field(self, name: str, custom: Field) -> None:
        if self.kinds[name].field(custom.name):
            raise ValueError(f"{name} has a field {custom.name} already")
        self.kinds[name].add(custom)
        self.tables[name].index(each for names in self.kinds[name].searchable for each in names)

    def opportunity_of(self, role: Row) -> Row | None:
        return self.tables["opportunities"].find(role)

    def company_of(self, lead: Row) -> Row | None:
        return self.tables["companies"].find(lead)

    def surviving_lead(self, lead_id: Any) -> Any:
        """Follows merges to the person that is left."""
        while lead_id in self.merged:
            lead_id = self.merged[lead_id]
        return lead_id

    def in_use(self, sales_person: Row) -> bool:
        key = sales_person["externalSalesPersonId"]
        holders = ("leads", "companies", "opportunities")
        return any(self.tables[name].having("externalSalesPersonId", key) for name in holders)

    def people_with_opportunity(self) -> Iterator[dict[str, Any]]:
        """What the filter "Has Opportunity" shows: people with a role on an opportunity that exists."""
        for lead_id, lead in self.tables["leads"].rows.items():
            roles = self.tables["roles"].having("leadId", lead_id)
            held = {r["externalOpportunityId"] for r in roles if self.opportunity_of(r)}
            if held:
                yield {"id": lead_id, "email": lead.get("email"), "opportunities": sorted(held)}

    def _new_id(self, name: str) -> str | int:
        if self.kinds[name].id_field == "marketoGUID":
            return str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        return self._last_id[name] + 1

    def _log_created(self, name: str, row: Row) -> None:
        if name == "leads":
            self.activities.add(row["createdAt"], activities.NEW_PERSON, row["id"])
        elif name == "roles" and self.opportunity_of(row):
            self._log_role(activities.ADDED, row)
        elif name == "opportunities":
            key = row["externalOpportunityId"].casefold()
            if key not in self._former_opportunities or self.switches.recreation_logs_added:
                self._log_roles(activities.ADDED, row)

    def _log_roles(self, kind: int, opportunity: Row, **attributes: Any) -> None:
        """One entry per person, however many roles that person has."""
        roles = self.tables["roles"].having("externalOpportunityId", opportunity["externalOpportunityId"])
        for role in {role["leadId"]: role for role in reversed(roles)}.values():
            self._log_role(kind, role, **attributes)

    def _log_role(self, kind: int, role: Row, **attributes: Any) -> None:
        details = {"role": role["role"], "isPrimary": role.get("isPrimary", False), **attributes}
        subject = role["externalOpportunityId"]
        self.activities.add(self.clock.stamp(), kind, role["leadId"], subject, **details)

    def _unlink_people(self, company: Row) -> None:
        for lead in self.tables["leads"].having("externalCompanyId", company["externalCompanyId"]):
            self.update("leads", lead, {"externalCompanyId": None})

    def _forget_person(self, lead: Row) -> None:
        self.activities.add(self.clock.stamp(), activities.DELETED, lead["id"], lead["id"])
        if self.switches.roles_of_deleted_lead == "removed":
            for role in self.tables["roles"].having("leadId", lead["id"]):
                self.tables["roles"].remove(role)

    def _move_roles(self, loser: int, winner: int) -> None:
        """A role that the winner holds already is not doubled."""
        roles = self.tables["roles"]
        for role in roles.having("leadId", loser):
            if roles.find({**role, "leadId": winner}):
                roles.remove(role)
            else:
                roles.change(role, {"leadId": winner})
