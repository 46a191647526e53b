"""The roles of a delivery: read back where memory isn't trusted, plan, post, then remove (design.md §1, §2.4, §3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sync_core.errors import SyncError
from sync_core.flows.calls import Calls
from sync_core.flows.cases import OpportunityCase
from sync_core.flows.guard import REMOVALS_HELD, reserve
from sync_core.flows.observe import chunks, in_halves
from sync_core.flows.world import World
from sync_core.model import Answer, MarketoObject, Role, State, Verdict
from sync_core.rules.association import CUSTOMER, PARENT_CONTACT, role_text
from sync_core.rules.planning import plan_roles, refusal
from sync_core.rules.verdicts import verdict

OPPORTUNITY_ID = "externalOpportunityId"
GONE = "1013"
POSTED_TEXTS = ("stamp", "role texts")


class Roles:
    """The roles of all opportunities of one delivery."""

    def __init__(self, world: World, cases: Mapping[str, OpportunityCase], calls: Calls, counts: Counter[str]) -> None:
        self.world = world
        self.cases = cases
        self.calls = calls
        self.counts = counts
        self.known_texts: set[str] = set()

    def _with_roles(self) -> list[OpportunityCase]:
        return [case for case in self.cases.values() if case.has_roles]

    def read_back(self) -> None:
        """Forced deliveries and first contacts trust no memory: ask Marketo for the roles."""
        asked = [case for case in self._with_roles() if case.force or case.adopt]
        asked += [case for case in self.cases.values() if case.removed and case.force and case.going_on]
        if not asked:
            return
        self.known_texts = texts_of_ours(self.world)
        by_external = {case.external: case for case in asked}

        def read(keys: list[str]) -> Mapping[str, Sequence[Role]] | SyncError:
            try:
                return in_halves(self.world.target.roles, keys)
            except SyncError as error:
                return error

        groups = list(chunks(by_external))
        for group, answer in zip(groups, self.world.fan_out(read, groups), strict=True):
            for key in group:
                if isinstance(answer, SyncError):
                    by_external[key].trouble = answer
                else:
                    by_external[key].read_back = tuple(answer.get(key, ()))

    def _ours(self, case: OpportunityCase) -> set[tuple[int, str]]:
        found = ours(self.world, case.read_back, self.known_texts)
        return {role.key for role in (*case.row.roles, *found)}

    def plan(self) -> None:
        for case in self._with_roles():
            held = {role.key: role for role in case.row.roles} | {role.key: role for role in case.read_back}
            kept = {role.key for role in case.row.roles if case.undecided.intersection(role.reasons)}
            ours = self._ours(case) - kept
            case.plan = plan_roles(case.wanted, tuple(held.values()), force=case.force, ours=ours)
            case.roles = {role.key: role for role in (*case.row.roles, *case.plan.remove)}
            case.planned = True

    # --- additions ------------------------------------------------------------------------------------------

    def post(self) -> None:
        cases = self._with_roles()
        self._remember_connections(cases)
        self._remember_texts({role.text.casefold() for case in cases for role in case.plan.post})
        records = [(case, _record(case, role)) for case in cases for role in case.plan.post]
        self.calls.send(MarketoObject.ROLE, records, self._posted)
        for case in cases:
            posted = {role.key for role in case.plan.post}
            kept = (role for role in case.wanted if role.key not in posted)
            case.roles |= {role.key: role for role in kept}

    def _remember_connections(self, cases: list[OpportunityCase]) -> None:
        """Before a role is posted: its connections' tombstones will carry nothing but their ids (design.md §4)."""
        pairs = []
        for case in cases:
            known = {reason for role in case.row.roles for reason in role.reasons}
            reasons = {reason for role in case.wanted for reason in role.reasons}
            pairs += [(reason, case.id) for reason in reasons - known - {CUSTOMER, PARENT_CONTACT}]
        self.world.connections.write(pairs)

    def _remember_texts(self, texts: set[str]) -> None:
        """Before a role is posted: its connection role may be renamed before anybody knows that it was posted."""

        def added(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
            known = set(value.get("texts", ()))
            return None if texts <= known else {"texts": sorted(known | texts)}

        if texts:
            self.world.change(*POSTED_TEXTS, added)

    def _posted(self, case: OpportunityCase, record: Mapping[str, Any], answer: Answer) -> None:
        role = next(r for r in case.plan.post if r.lead == record["leadId"] and r.text == record["role"])
        outcome = verdict(answer, removal=False, kind=MarketoObject.ROLE)
        if outcome is Verdict.DONE:
            case.roles[role.key] = role
            self.counts["roles posted"] += 1
        elif outcome is Verdict.LATER:
            case.waits = case.waits or refusal(answer)
            self._forget_person(case, role)
        else:
            case.held = case.held or f"role refused, {refusal(answer)}"

    def _forget_person(self, case: OpportunityCase, role: Role) -> None:
        """The remembered lead id is no longer anyone: look the person up again next time (marketo.md §3.6)."""
        if case.seen is not None:
            stakes = case.seen.association.stakes
            self.world.people.delete([stake.contact for stake in stakes if stake.reason in role.reasons])

    # --- removals -------------------------------------------------------------------------------------------

    def reserve(self) -> None:
        """Hold losses that the guard doesn't let through (design.md §2.7); replacements and approved ones pass."""
        losing = [case for case in self._with_roles() if case.plan.losses and not case.row.approved]
        for case in losing:
            if case.row.state is State.HELD:
                self._hold(case, case.row.reason.removeprefix(f"{REMOVALS_HELD} "))
            elif case.row.mapping not in ("", self.world.config.version):
                self._hold(case, "a change of the mapping would remove roles")
        counted = [case for case in losing if not case.held.startswith(REMOVALS_HELD)]
        number = sum(len(case.plan.losses) for case in counted)
        why = reserve(self.world, "roles", number) if number else ""
        for case in counted:
            if why:
                self._hold(case, why)
            else:
                case.reserved = ("roles", len(case.plan.losses))

    def _hold(self, case: OpportunityCase, why: str) -> None:
        lost = {role.key for role in case.plan.losses}
        kept = tuple(role for role in case.plan.remove if role.key not in lost)
        case.plan = replace(case.plan, remove=kept, losses=())
        case.held = f"{REMOVALS_HELD} {why}"

    def remove(self, doomed: Sequence[OpportunityCase]) -> None:
        """Of living opportunities what is no longer wanted; of *doomed* ones all that is ours, before they go."""
        going: list[tuple[OpportunityCase, Role]] = []
        for case in self._with_roles():
            complete = all(role.key in case.roles for role in case.plan.post)
            going += [(case, role) for role in case.plan.remove if complete or role in case.plan.losses]
        for case in doomed:
            ours = self._ours(case)
            held = {role.key: role for role in (*case.row.roles, *case.read_back)}
            case.roles = {key: role for key, role in held.items() if key in ours}
            going += [(case, role) for role in case.roles.values()]
        records = [(case, role_key(case.external, role)) for case, role in going]
        self.calls.send(MarketoObject.ROLE, records, self._removed, delete=True)

    def _removed(self, case: OpportunityCase, record: Mapping[str, Any], answer: Answer) -> None:
        key = (record["leadId"], record["role"].casefold())
        moved = answer.code == GONE and not case.force  # its person may have been merged in Marketo
        if verdict(answer, removal=True, kind=MarketoObject.ROLE) is Verdict.DONE and not moved:
            del case.roles[key]
            self.counts["roles removed"] += 1
        else:
            case.waits = case.waits or refusal(answer)


def texts_of_ours(world: World) -> set[str]:
    """The texts that our rules can produce, or once did: such roles are ours when met in Marketo (design.md §3)."""
    rules = world.config.stakeholders
    customer = rules.customer_role
    texts = {customer} if isinstance(customer, str) else {*customer.cases.values(), customer.otherwise}
    names = {role.name for role in world.source.connection_roles().values()}
    now = {role_text(text).casefold() for text in texts | names | {*rules.rename.values(), rules.default_role}}
    posted = world.documents.read(*POSTED_TEXTS)
    return now | set(posted.value["texts"] if posted else ())


def ours(world: World, held: Iterable[Role], texts: Collection[str]) -> tuple[Role, ...]:
    """Of the roles that Marketo holds those that are ours by their text, one of *texts*."""
    every = world.config.stakeholders.ownership == "all"
    return tuple(role for role in held if every or role.text.casefold() in texts)


def role_key(external: str, role: Role) -> dict[str, Any]:
    """What Marketo knows a role of the opportunity by (marketo.md §3.3)."""
    return {OPPORTUNITY_ID: external, "leadId": role.lead, "role": role.text}


def _record(case: OpportunityCase, role: Role) -> dict[str, Any]:
    record = role_key(case.external, role) | {"isPrimary": role.primary}
    return record | {"externalCreatedDate": role.created} if role.created else record
