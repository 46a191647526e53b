"""What must be true at rest, said in the words of the requirement and without the sync's code."""

from __future__ import annotations

from typing import Any

from sync_core.rules.fields import digests
from tests.interleavings.stage import Dynamics, Stage
from tests.interleavings.steps import BEN, CREATED, DEAL

CHAMPION = ((1, "Champion"), (False, CREATED))  # Ann
PRIMARY = ((2, "Primary Contact"), (True, CREATED))  # Ben


def differences(stage: Stage) -> list[str]:
    """Where Marketo, or the ledger, is not what Dynamics and the rules say."""
    dynamics, marketo = stage.dynamics, stage.marketo
    found = []
    wanted = wanted_opportunity(dynamics)
    if dict(marketo.opportunity) != wanted:
        found.append(f"the opportunity is {dict(marketo.opportunity)}, not {wanted}")
    roles = wanted_roles(dynamics)
    if marketo.roles != roles:
        found.append(f"the roles are {marketo.roles}, not {roles}")
    return found + _companies(stage) + _ledger(stage, wanted, roles)


def wanted_opportunity(dynamics: Dynamics) -> dict[str, Any]:
    if not dynamics.name:
        return {}
    company = dynamics.employer if dynamics.customer == BEN else None
    return {"externalOpportunityId": DEAL, "name": dynamics.name, "externalCompanyId": company}


def wanted_roles(dynamics: Dynamics) -> tuple[Any, ...]:
    if not dynamics.name:
        return ()
    return ((CHAMPION,) if dynamics.stakeholder else ()) + ((PRIMARY,) if dynamics.customer else ())


def _companies(stage: Stage) -> list[str]:
    """Those on record; one whose first post died with its worker may stay as it is, if no opportunity names it."""
    known = dict(stage.ledger)
    names = {key: name for key, name in stage.marketo.companies if key in known}
    wanted = {key: stage.dynamics.company(key)[1] for key in names}
    return [] if names == wanted else [f"the companies are {names}, not {wanted}"]


def _ledger(stage: Stage, wanted: dict[str, Any], roles: tuple[Any, ...]) -> list[str]:
    row = dict(stage.ledger).get(DEAL)
    if row is None:
        return ["the ledger has no row"] if wanted else []
    state, fields, held, *_ = row
    if state != ("in step" if wanted else "gone"):
        return [f"the ledger says {row}"]
    said = tuple(((lead, text), (primary, created)) for lead, text, primary, created, _ in held)
    if dict(fields) != digests(wanted) or said != roles:
        return [f"the ledger says {row}"]
    others = {key: content[0] for key, content in stage.ledger if content[0] != "in step" and key != DEAL}
    return [f"companies are {others}"] if others else []
