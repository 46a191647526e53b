"""What rehearsed deliveries would do about each record: one value for each, for `plan`, `audit` and whoever counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_core.flows.rehearsal import KEYS, Foretold, Rehearsal, Sent, role_of, same_role
from sync_core.mapping import SyncConfig
from sync_core.model import LedgerRow, MarketoObject, Role, State
from sync_core.rules.planning import plan_roles

OBJECTS = {
    MarketoObject.OPPORTUNITY: "opportunities",
    MarketoObject.COMPANY: "companies",
    MarketoObject.SALES_PERSON: "sales persons",
}
ONE = {
    MarketoObject.OPPORTUNITY: "opportunity",
    MarketoObject.COMPANY: "company",
    MarketoObject.SALES_PERSON: "sales person",
}
OUT_OF_STEP = (State.WAITING, State.PARKED, State.HELD)


@dataclass(slots=True)
class Change:
    """Its ledger row before and after, and what was sent for it.

    `does`: create, update or remove; `record`: all that was posted; `present`: what Marketo holds of that; `fields`:
    where they differ, as [present, new]; `held`: the roles that Marketo has, whoever gave them; `kept`: those posted
    that it has already.
    """

    kind: MarketoObject
    external: str
    before: LedgerRow
    after: LedgerRow
    does: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    present: Mapping[str, Any] = field(default_factory=dict)
    fields: dict[str, list[Any]] = field(default_factory=dict)
    held: Sequence[Role] = ()
    added: list[Mapping[str, Any]] = field(default_factory=list)
    kept: list[Mapping[str, Any]] = field(default_factory=list)
    removed: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def changed(self) -> list[Mapping[str, Any]]:
        """Roles that Marketo has with other attributes."""
        held = {role.key: role for role in self.held}
        there = ((record, held.get(role_of(record).key)) for record in self.kept)
        return [record for record, role in there if role is None or not same_role(role, role_of(record))]

    @property
    def differs(self) -> bool:
        """Whether Marketo would hold something else then."""
        return bool(self.does in ("create", "remove") or self.fields or self.added or self.removed or self.changed)

    def lost(self) -> int:
        """How many of the removed roles nothing replaces, by the rule that the removal guard counts with."""
        gone = [role_of(record) for record in self.removed]
        staying = (role for role in self.before.roles if role.key not in {each.key for each in gone})
        wanted = [*staying, *(role_of(record) for record in self.added)] if self.does != "remove" else []
        held = {role.key: role for role in (*self.before.roles, *gone)}
        losses = plan_roles(wanted, tuple(held.values()), force=False, ours={role.key for role in gone}).losses
        return len(losses)

    def entry(self) -> dict[str, Any]:
        """In plain values; nothing for a record that stays as it is; people by their ids, new ones by none."""
        roles = {"added": self.added, "changed": self.changed, "removed": self.removed}
        told = {what: sorted(map(_told, records)) for what, records in roles.items() if records}
        moved = (self.after.state, self.after.reason) != (self.before.state, self.before.reason)
        out_of_step = moved and self.after.state in OUT_OF_STEP
        if not (self.does or told or out_of_step):
            return {}
        found: dict[str, Any] = {
            "id": self.before.id,
            "object": ONE[self.kind],
            "does": self.does or ("roles" if told else "nothing"),
            "fields": self.fields,
        }
        found |= {"roles": told} if told else {}
        return found | ({str(self.after.state): self.after.reason} if self.after.state in OUT_OF_STEP else {})


def foreseen(rehearsal: Rehearsal, config: SyncConfig) -> list[Change]:
    """Of every record whose ledger row was written since the last time; the rows are taken, what was sent is not."""
    changes: dict[tuple[MarketoObject, str], Change] = {}
    for kind, ledger, prefix in (
        (MarketoObject.OPPORTUNITY, rehearsal.opportunities, config.opportunity.key.prefix),
        (MarketoObject.COMPANY, rehearsal.companies, config.company.key.prefix),
        (MarketoObject.SALES_PERSON, rehearsal.sales_persons, ""),
    ):
        taken, ledger.taken = ledger.taken, {}
        for key, (before, after) in taken.items():
            changes[kind, prefix + key] = Change(kind, prefix + key, before, after)
    marketo = rehearsal.marketo
    for sent in marketo.sent:
        for record, answer in zip(sent.records, sent.answers, strict=True):
            kind = MarketoObject.OPPORTUNITY if sent.kind is MarketoObject.ROLE else sent.kind
            external = str(record.get(KEYS[kind])) if kind in KEYS else ""
            if change := changes.get((kind, external)):
                change.held = marketo.roles_of.get(external, ())
                _add(change, sent, record, answer.status, marketo)
    return list(changes.values())


def _add(change: Change, sent: Sent, record: Mapping[str, Any], status: str, marketo: Foretold) -> None:
    if sent.kind is MarketoObject.ROLE:
        if status != "skipped":
            (change.removed if sent.deleted else change.added if status == "created" else change.kept).append(record)
    elif not sent.deleted:
        change.does = "create" if status == "created" else "update"
        change.record = {**change.record, **record}
        change.present = marketo.present.get(change.external, {})
        change.fields |= marketo.differing(sent.kind, record)
    elif status == "deleted":
        change.does = "remove"


def _told(record: Mapping[str, Any]) -> str:
    lead = record["leadId"]
    return f"{record['role']}: {f'person {lead}' if lead > 0 else 'a new person'}"
