"""Why an opportunity looks the way it does in Marketo: the same rules, told instead of applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sync_core.flows.observe import observe, people
from sync_core.flows.world import World
from sync_core.model import LedgerRow, Role
from sync_core.rules.association import CUSTOMER, PARENT_CONTACT, settle
from sync_core.rules.fields import digests
from sync_core.rules.planning import changed_fields


def explain(world: World, key: str) -> dict[str, Any]:
    """Everything known about one opportunity, as plain values; reads both services, writes nothing to them."""
    row = world.opportunities.rows([key]).get(key, LedgerRow(key))
    answer: dict[str, Any] = {"opportunity": key, "ledger": _ledger(row)}
    seen = observe(world, [key])
    found = seen.opportunities.get(key)
    if found is None:
        return answer | {"found": False, "reported deleted": bool(world.tombstones.read([key]))}
    known, _ = people(world, seen.contacts, found.contacts)
    roles, left_out = settle(found.association, known)
    external = world.config.opportunity.key.external(key)
    present = world.target.roles([external]).get(external, ())
    values = dict(found.mapped.values) if found.mapped else {}
    return answer | {
        "found": True,
        "customer rule": found.association.rule,
        "account": found.association.account,
        "roles": [_role(role, found.association.stakes, row) for role in roles],
        "left out": [asdict(item) | {"why": str(item.why)} for item in left_out],
        "values": values,
        "cut": list(found.mapped.cut) if found.mapped else [],
        "unfit": found.unfit,
        "differs from what was posted": sorted(changed_fields(row, digests(values), values)) if row.known else [],
        "roles in Marketo": sorted([role.lead, role.text] for role in present),
    }


def reason_in_words(reason: str) -> str:
    words = {CUSTOMER: "the customer of the opportunity", PARENT_CONTACT: "the Contact field of the opportunity"}
    return words.get(reason, f"stakeholder, connection {reason}")


def _ledger(row: LedgerRow) -> Mapping[str, Any]:
    if not row.known:
        return {"state": "not known yet"}
    return {
        "state": str(row.state),
        "reason": row.reason,
        "attempts": row.attempts,
        "next try": row.due.isoformat(timespec="seconds") if row.due else None,
        "row version": row.version,
        "mapping": row.mapping,
    }


def _role(role: Role, stakes: Any, row: LedgerRow) -> Mapping[str, Any]:
    return {
        "lead": role.lead,
        "role": role.text,
        "primary": role.primary,
        "since": role.created,
        "contacts": sorted({stake.contact for stake in stakes if stake.reason in role.reasons}),
        "because": [reason_in_words(reason) for reason in role.reasons],
        "posted": role.key in {held.key for held in row.roles},
    }
