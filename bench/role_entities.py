"""A layout we don't use, real enough to be measured: every role is an entity of its own, next to its opportunity.

    <first hex digit>  <opportunity>                   the row, without roles
                       <opportunity>|<lead>|<text>     one role

Rows and roles change in the same transaction; an unchanged role isn't written again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from azure.data.tables import UpdateMode

from sync_core.adapters import tables
from sync_core.adapters.tables import TableLedger
from sync_core.model import LedgerRow, Role

ID = 36  # characters of an opportunity's id; the role's key stands behind it
LAST = "|~"


class RoleEntityLedger(TableLedger):
    """`TableLedger` with the roles outside; it remembers which it has read, to write only those that changed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._held: dict[str, dict[str, Role]] = {}

    def rows(self, ids: Collection[str]) -> Mapping[str, LedgerRow]:
        wanted: defaultdict[str, list[str]] = defaultdict(list)
        for id in sorted(set(ids)):
            wanted[self._partition(id)].append(id)
        pages = self._fan_out(lambda item: list(self._scan(*item)), wanted.items())
        return {row.id: row for entities in pages for row in self._assembled(entities)}

    def write(self, rows: Sequence[LedgerRow]) -> set[str]:
        changes: defaultdict[str, list[Any]] = defaultdict(list)
        for row in rows:
            partition = self._partition(row.id)
            changes[partition].append(self._change(partition, row))
        return set().union(*self._fan_out(lambda item: self._write(*item), changes.items()))

    # --- reading --------------------------------------------------------------------------------------------

    def _scan(self, partition: str, ids: list[str]) -> Iterator[Any]:
        """Entities of *ids*: a range for each of few, pages over all of them for many."""
        if len(ids) < tables.FEW:
            for id in ids:
                yield from self._range(partition, id, id + LAST)
            return
        names = set(ids)
        for entity in self._range(partition, ids[0], ids[-1] + LAST):
            if entity["RowKey"][:ID] in names:
                yield entity

    def _range(self, partition: str, first: str, last: str) -> Iterator[Any]:
        more = True
        while more:
            page, more = self._table.page(partition, first, last, tables.PAGE)
            yield from page
            if page:
                first = page[-1]["RowKey"] + " "  # below every key that can follow

    def _assembled(self, entities: list[Any]) -> Iterator[LedgerRow]:
        for id, group in groupby(entities, key=lambda entity: entity["RowKey"][:ID]):
            head, *rest = group
            if head["RowKey"] != id:
                continue
            roles = {entity["RowKey"]: tables._role(tables._content(entity)) for entity in rest}
            self._held[id] = roles
            yield replace(tables._row(head), roles=tuple(roles.values()))

    # --- writing --------------------------------------------------------------------------------------------

    def _change(self, partition: str, row: LedgerRow) -> Any:
        """As `TableLedger` does it for a row without roles, and the roles that differ from those it held."""
        bare = tables._change(partition, replace(row, roles=()))
        held = self._held.get(row.id, {}) if row.ticket else {}
        wanted = {_key(row.id, role): role for role in row.roles}
        steps = [
            ("upsert", tables._entity(partition, key, _plain(role)), {"mode": UpdateMode.REPLACE})
            for key, role in wanted.items()
            if held.get(key) != role
        ]
        steps += [("delete", tables._entity(partition, key), {}) for key in held.keys() - wanted.keys()]
        weight = bare.weight + sum(tables._weight(entity) for _, entity, _ in steps)
        moves = {**bare.moves, "roles": len(wanted) - len(held)}
        return replace(bare, operations=(*bare.operations, *steps), moves=moves, weight=weight)


def _key(id: str, role: Role) -> str:
    return f"{id}|{role.lead}|{role.text}"


def _plain(role: Role) -> list[Any]:
    return [role.lead, role.text, role.primary, role.created, *role.reasons]
