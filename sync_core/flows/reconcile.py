"""One delivery of ids: ledger first, then observe, decide, apply, record (design.md §1, §2.4).

Two workers may hold the same id at once; there are no locks. What makes that safe is kept here, in this order:

    ledger row (its ETag is the ticket) → Dataverse rows → Marketo → ledger row again, only under the ticket

Every id ends with that last write, also when there was nothing to post. Whoever loses it, or got no answer to a
write, hands the id back; with `force` if anything was sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sync_core.errors import ConfigurationError, SplitBatch, SyncError, Unavailable
from sync_core.flows.guard import ask_for_comparison, release, reserve
from sync_core.flows.observe import Observation, Observed, chunks, observe, people
from sync_core.flows.world import World
from sync_core.model import Answer, LedgerRow, MarketoObject, Role, State, Verdict, Work
from sync_core.ports import Ledger
from sync_core.rules.association import CUSTOMER, PARENT_CONTACT, Exclusion, role_text, settle
from sync_core.rules.batches import batches
from sync_core.rules.fields import UnfitValueError, check_described, columns, digests, marketo_fields
from sync_core.rules.planning import (
    NOT_VISIBLE_ATTEMPTS,
    RolePlan,
    changed_fields,
    plan_roles,
    refusal,
    retry_delay,
)
from sync_core.rules.verdicts import verdict

COMPANY_ID = "externalCompanyId"
OPPORTUNITY_ID = "externalOpportunityId"
PEOPLE_MISSING = "people:"
REMOVALS_HELD = "removals held:"
REFERENCE_MISSING = "1013"
UNTRUSTED = (State.WAITING, State.PARKED)
ASK_AGAIN = ("due", "only")
DUE_UNASKED = "due, without asking for people"
MISSING_FOR = timedelta(minutes=10)
UNASKED = timedelta(days=365)
CONFLICT_DELAY_S = 5.0
STOPPED_DELAY_S = 300.0

C = TypeVar("C", bound="Case")


@dataclass(slots=True)
class Case:
    """One record on its way through a delivery."""

    row: LedgerRow
    force: bool
    sent: bool = False
    unanswered: bool = False
    trouble: SyncError | None = None
    refused: str = ""
    waits: str = ""
    held: str = ""
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def going_on(self) -> bool:
        return self.trouble is None


@dataclass(slots=True)
class CompanyCase(Case):
    record: dict[str, Any] | None = None
    version: int | None = None


@dataclass(slots=True)
class OpportunityCase(Case):
    external: str = ""
    seen: Observed | None = None
    wanted: tuple[Role, ...] = ()
    record: dict[str, Any] = field(default_factory=dict)
    posted: bool = False
    adopt: bool = False
    read_back: tuple[Role, ...] = ()
    plan: RolePlan = field(default_factory=RolePlan)
    roles: dict[tuple[int, str], Role] = field(default_factory=dict)
    planned: bool = False
    removed: bool = False
    reserved: tuple[str, int] = ("", 0)


@dataclass(slots=True)
class Outcome:
    """What one delivery did, and what has to be put back: (work, seconds until it is visible)."""

    counts: Counter[str] = field(default_factory=Counter)
    again: list[tuple[Work, float]] = field(default_factory=list)
    trouble: SyncError | None = None


def reconcile(world: World, work: Work, *, force: bool, deadline: datetime) -> Outcome:
    """Bring Marketo in step for every id of *work*. No Marketo write starts after *deadline*.

    Trouble of the services or the storage is in the outcome, with the ids to put back; nothing of ours is raised.
    """
    return _Delivery(world, work, force, deadline).run()


class _Delivery:
    def __init__(self, world: World, work: Work, force: bool, deadline: datetime) -> None:
        self.world = world
        self.work = work
        self.force = force
        self.deadline = deadline
        self.config = world.config
        self.counts: Counter[str] = Counter()
        self.cases: dict[str, OpportunityCase] = {}
        self.companies: dict[str, CompanyCase] = {}
        self.lost_companies: set[str] = set()
        self.moved_companies: set[str] = set()
        self.known_roles: set[str] = set()
        self.started = world.clock.now().isoformat()

    def run(self) -> Outcome:
        try:
            self._take_tickets()
            self._decide(observe(self.world, list(self.cases)))
            self._judge_absent()
            self._sync_companies()
            self._sync_opportunities()
            self._read_roles_back()
            self._plan_roles()
            self._post_roles()
            self._reserve_removals()
            self._remove_roles()
            self._remove_opportunities()
            return self._record()
        except SyncError as error:
            return self._give_back(error)

    # --- observe and decide -------------------------------------------------------------------------------

    def _take_tickets(self) -> None:
        rows = self.world.opportunities.rows(self.work.opportunities)
        for key in self.work.opportunities:
            row = rows.get(key, LedgerRow(key))
            self.cases[key] = OpportunityCase(row, self.force, external=self.config.opportunity.key.external(key))
        tickets = self.world.companies.rows(self.work.accounts)
        for key in self.work.accounts:
            self.companies[key] = CompanyCase(tickets.get(key, LedgerRow(key)), self.force)

    def _decide(self, observation: Observation) -> None:
        """Who is who in Marketo, and which roles follow."""
        stakes = {contact for seen in observation.opportunities.values() for contact in seen.contacts}
        known, calls = people(self.world, observation.contacts, stakes, missing_for=self._missing_for())
        self.counts["people calls"] += calls
        for key, seen in observation.opportunities.items():
            case = self.cases[key]
            case.seen = seen
            case.wanted, left_out = settle(seen.association, known)
            missing = sum(item.why is Exclusion.UNKNOWN_PERSON for item in left_out)
            if missing and self.config.people.when_missing == "wait":
                case.waits = f"{PEOPLE_MISSING} {missing} not in Marketo"
            if seen.mapped is None:
                case.refused = seen.unfit
            else:
                case.record = dict(seen.mapped.values)
            certain = case.row.state in (State.IN_STEP, State.HELD) or case.row.reason.startswith(PEOPLE_MISSING)
            case.force = case.force or (case.row.known and not certain)

    def _missing_for(self) -> timedelta:
        """How long somebody who was missing in Marketo counts as missing still, without asking again."""
        if self.force or self.work.why in ASK_AGAIN:
            return timedelta(0)
        return UNASKED if self.work.why == DUE_UNASKED else MISSING_FOR

    def _judge_absent(self) -> None:
        """A fresh read lacks these: gone with evidence, else not visible (design.md §2.7)."""
        absent = [case for case in self.cases.values() if case.seen is None]
        buried = self.world.tombstones.read([case.id for case in absent]) if absent else {}
        for case in absent:
            tombstone = buried.get(case.id)
            if case.row.state is State.GONE or (tombstone and tombstone["at"] >= case.row.seen):
                case.removed = True
                case.force = case.force or (case.row.known and case.row.state in UNTRUSTED)
            else:
                case.waits = "not visible: a read by id lacks it, and nothing says that it was deleted"

    # --- companies ----------------------------------------------------------------------------------------

    def _sync_companies(self) -> None:
        """Companies named in the message, and those that an opportunity needs and Marketo doesn't have yet."""
        needed = {self._account(case) for case in self.cases.values() if self._needs_company(case)}
        missing = needed - {None} - self.companies.keys()
        tickets = self.world.companies.rows([key for key in missing if key])
        in_step = {key for key, row in tickets.items() if row.state is State.IN_STEP}
        doubted = {self._account(case) for case in self.cases.values() if case.row.reason.startswith(REFERENCE_MISSING)}
        for key in sorted(str(key) for key in missing - (in_step - doubted)):
            self.companies[key] = CompanyCase(tickets.get(key, LedgerRow(key)), force=key in doubted)
        if self.companies:
            self._read_companies()
            changed = [case for case in self.companies.values() if case.record is not None]
            self._send(MarketoObject.COMPANY, [(case, case.record or {}) for case in changed], self._company_answer)
            # At once, not with the opportunities: other workers then know these companies, and a crash forgets none.
            finished = self._finished(self.companies)
            self.lost_companies = self._write(
                self.world.companies, [self._next_company(case) for case in finished], "companies"
            )
            self.moved_companies = self._changed_meanwhile([case for case in finished if not case.row.known])
            for company in finished:
                company.sent = company.id in self.lost_companies
        for case in self.cases.values():
            if case.seen is not None and case.record:
                self._name_company(case)

    def _needs_company(self, case: OpportunityCase) -> bool:
        account = self._account(case)
        if account is None:
            return False
        digest = digests({COMPANY_ID: self.config.company.key.external(account)})[COMPANY_ID]
        return case.force or case.row.fields.get(COMPANY_ID) != digest

    @staticmethod
    def _account(case: OpportunityCase) -> str | None:
        return case.seen.association.account if case.seen else None

    def _read_companies(self) -> None:
        fields = self.config.company.fields
        described = self.world.target.describe(MarketoObject.COMPANY)
        check_described(fields, described, "company")
        rows = self.world.source.rows(
            "account", self.companies.keys(), {"accountid", "versionnumber", *columns(fields)}
        )
        for key, case in self.companies.items():
            if key not in rows:
                case.held = "the account can't be read in Dynamics; the company in Marketo stays"
                continue
            case.version = rows[key]["versionnumber"]
            try:
                values = dict(marketo_fields(rows[key], fields, described, {}).values)
            except UnfitValueError as error:
                case.refused = str(error)
                continue
            case.digests = digests(values)
            stale = case.row.state is not State.IN_STEP or changed_fields(case.row, case.digests, values)
            if case.force or not case.row.known or stale:
                case.record = {COMPANY_ID: self.config.company.key.external(key), **values}

    def _changed_meanwhile(self, new: list[CompanyCase]) -> set[str]:
        """Detect queues a changed account only if the ledger has it: look again once it does (design.md §4)."""
        now = self.world.source.rows("account", [case.id for case in new], {"versionnumber"}) if new else {}
        return {case.id for case in new if case.id in now and now[case.id]["versionnumber"] != case.version}

    def _company_answer(self, case: CompanyCase, _record: Mapping[str, Any], answer: Answer) -> None:
        self._judge(case, MarketoObject.COMPANY, answer)
        if not case.refused and not case.waits:
            self.counts["companies posted"] += 1

    def _name_company(self, case: OpportunityCase) -> None:
        """Only a company that Marketo has may be named; otherwise the opportunity waits for it, without it."""
        account = self._account(case)
        company = self.companies.get(account or "")
        if company is not None:
            if not company.going_on:
                case.trouble = company.trouble
            elif (company.refused or company.waits or company.held) and not company.row.fields:
                case.waits = case.waits or "company: the account is not in Marketo yet"
                account = None
        case.record[COMPANY_ID] = self.config.company.key.external(account) if account else None

    # --- opportunities ------------------------------------------------------------------------------------

    def _sync_opportunities(self) -> None:
        changed = []
        for case in self._alive():
            case.digests = digests(case.record)
            if case.record and (
                case.force or not case.row.known or changed_fields(case.row, case.digests, case.record)
            ):
                changed.append((case, {OPPORTUNITY_ID: case.external, **case.record}))
        self._send(MarketoObject.OPPORTUNITY, changed, self._opportunity_answer)

    def _opportunity_answer(self, case: OpportunityCase, _record: Mapping[str, Any], answer: Answer) -> None:
        self._judge(case, MarketoObject.OPPORTUNITY, answer)
        if answer.status in ("created", "updated"):
            case.posted = True
            case.adopt = answer.status == "updated" and not case.row.known
            self.counts["opportunities posted"] += 1

    def _alive(self) -> list[OpportunityCase]:
        """Those that exist in Dynamics, may be posted and have not met trouble."""
        return [c for c in self.cases.values() if c.going_on and c.seen is not None and not c.refused]

    def _with_roles(self) -> list[OpportunityCase]:
        return [case for case in self._alive() if case.posted or case.row.fields]

    # --- roles --------------------------------------------------------------------------------------------

    def _read_roles_back(self) -> None:
        """Forced deliveries and first contacts trust no memory: ask Marketo for the roles (design.md §2.4, §3)."""
        asked = [c for c in self._with_roles() if c.force or c.adopt]
        asked += [c for c in self.cases.values() if c.removed and c.force and c.going_on]
        if not asked:
            return
        self.known_roles = self._role_texts()
        by_external = {case.external: case for case in asked}

        def read(keys: list[str]) -> Mapping[str, Sequence[Role]] | SyncError:
            try:
                return self._present_roles(keys)
            except SyncError as error:
                return error

        groups = list(chunks(by_external))
        for group, answer in zip(groups, self.world.fan_out(read, groups), strict=True):
            for key in group:
                if isinstance(answer, SyncError):
                    by_external[key].trouble = answer
                else:
                    by_external[key].read_back = tuple(answer.get(key, ()))

    def _present_roles(self, keys: list[str]) -> Mapping[str, Sequence[Role]]:
        """Roles by external id; a question that is too big is halved, one opportunity alone is tried again later."""
        try:
            return self.world.target.roles(keys)
        except SplitBatch as error:
            if len(keys) == 1:
                raise Unavailable(str(error)) from None
            half = len(keys) // 2
            return {**self._present_roles(keys[:half]), **self._present_roles(keys[half:])}

    def _role_texts(self) -> set[str]:
        """The texts that our rules can produce: such roles count as ours when met in Marketo (design.md §3)."""
        rules = self.config.stakeholders
        customer = rules.customer_role
        texts = {customer} if isinstance(customer, str) else {*customer.cases.values(), customer.otherwise}
        names = {role.name for role in self.world.source.connection_roles().values()}
        return {role_text(text).casefold() for text in texts | names | {*rules.rename.values(), rules.default_role}}

    def _ours(self, case: OpportunityCase) -> set[tuple[int, str]]:
        every = self.config.stakeholders.ownership == "all"
        found = {role.key for role in case.read_back if every or role.text.casefold() in self.known_roles}
        return {role.key for role in case.row.roles} | found

    def _plan_roles(self) -> None:
        for case in self._with_roles():
            held = {role.key: role for role in case.row.roles} | {role.key: role for role in case.read_back}
            case.plan = plan_roles(case.wanted, tuple(held.values()), force=case.force, ours=self._ours(case))
            case.roles = {role.key: role for role in (*case.row.roles, *case.plan.remove)}
            case.planned = True

    def _post_roles(self) -> None:
        cases = self._with_roles()
        self._remember_connections(cases)
        records = [(case, _role_record(case, role)) for case in cases for role in case.plan.post]
        self._send(MarketoObject.ROLE, records, self._role_answer)
        for case in cases:
            kept = (role for role in case.wanted if role not in case.plan.post)
            case.roles |= {role.key: role for role in kept}

    def _remember_connections(self, cases: list[OpportunityCase]) -> None:
        """Before a role is posted: its connections' tombstones will carry nothing but their ids (design.md §4)."""
        entries = {}
        for case in cases:
            known = {reason for role in case.row.roles for reason in role.reasons}
            reasons = {reason for role in case.wanted for reason in role.reasons}
            for reason in reasons - known - {CUSTOMER, PARENT_CONTACT}:
                entries[reason] = {"o": case.id}
        self.world.connections.write(entries)

    def _role_answer(self, case: OpportunityCase, record: Mapping[str, Any], answer: Answer) -> None:
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

    # --- removals -----------------------------------------------------------------------------------------

    def _reserve_removals(self) -> None:
        """Hold what the guard doesn't let through (design.md §2.7); replacements and approved ones pass uncounted."""
        self._reserve_roles([c for c in self._with_roles() if c.plan.losses and not c.row.approved])
        self._reserve_opportunities([c for c in self.cases.values() if self._to_remove(c) and not c.row.approved])

    def _reserve_roles(self, losing: list[OpportunityCase]) -> None:
        for case in losing:
            if case.row.state is State.HELD:
                self._hold(case, case.row.reason.removeprefix(f"{REMOVALS_HELD} "))
            elif case.row.mapping not in ("", self.config.version):
                self._hold(case, "a change of the mapping would remove roles")
        counted = [case for case in losing if not case.held.startswith(REMOVALS_HELD)]
        number = sum(len(case.plan.losses) for case in counted)
        why = reserve(self.world, "roles", number) if number else ""
        for case in counted:
            if why:
                self._hold(case, why)
            else:
                case.reserved = ("roles", len(case.plan.losses))

    def _reserve_opportunities(self, going: list[OpportunityCase]) -> None:
        for case in going:
            case.held = case.row.reason if case.row.state is State.HELD else ""
        # A row that is gone already was counted when it went: this is a second try.
        counted = [case for case in going if not case.held and case.row.state is not State.GONE]
        why = reserve(self.world, "opportunities", len(counted)) if counted else ""
        for case in counted:
            if why:
                case.held = f"{REMOVALS_HELD} {why}"
            else:
                case.reserved = ("opportunities", 1)

    def _hold(self, case: OpportunityCase, why: str) -> None:
        lost = {role.key for role in case.plan.losses}
        kept = tuple(role for role in case.plan.remove if role.key not in lost)
        case.plan = replace(case.plan, remove=kept, losses=())
        case.held = f"{REMOVALS_HELD} {why}"

    def _to_remove(self, case: OpportunityCase) -> bool:
        """Confirmed removals that Marketo may still hold; a row that is `gone` only when forced."""
        if not case.removed or not case.going_on:
            return False
        return case.force or (case.row.state is not State.GONE and bool(case.row.fields or case.row.roles))

    def _remove_roles(self) -> None:
        """Of living opportunities what is no longer wanted, of deleted ones everything that is ours, before they go."""
        doomed: list[tuple[OpportunityCase, Role]] = []
        for case in self._with_roles():
            complete = all(role.key in case.roles for role in case.plan.post)
            doomed += [(case, role) for role in case.plan.remove if complete or role in case.plan.losses]
        for case in self.cases.values():
            if self._to_remove(case) and not case.held:
                ours = self._ours(case)
                held = {role.key: role for role in (*case.row.roles, *case.read_back)}
                case.roles = {key: role for key, role in held.items() if key in ours}
                doomed += [(case, role) for role in case.roles.values()]
        records = [(case, _role_key(case, role)) for case, role in doomed]
        self._send(MarketoObject.ROLE, records, self._role_removed, delete=True)

    def _role_removed(self, case: OpportunityCase, record: Mapping[str, Any], answer: Answer) -> None:
        key = (record["leadId"], record["role"].casefold())
        moved = answer.code == REFERENCE_MISSING and not case.force  # its person may have been merged in Marketo
        if verdict(answer, removal=True, kind=MarketoObject.ROLE) is Verdict.DONE and not moved:
            del case.roles[key]
            self.counts["roles removed"] += 1
        else:
            case.waits = case.waits or refusal(answer)

    def _remove_opportunities(self) -> None:
        ready = [c for c in self.cases.values() if self._to_remove(c) and not c.held and not c.roles]
        records = [(case, {OPPORTUNITY_ID: case.external}) for case in ready]
        self._send(MarketoObject.OPPORTUNITY, records, self._opportunity_removed, delete=True)

    def _opportunity_removed(self, case: OpportunityCase, _record: Mapping[str, Any], answer: Answer) -> None:
        if verdict(answer, removal=True, kind=MarketoObject.OPPORTUNITY) is Verdict.DONE:
            self.counts["opportunities removed"] += 1
        else:
            case.waits = refusal(answer)

    # --- sending ------------------------------------------------------------------------------------------

    def _send(
        self,
        kind: MarketoObject,
        items: Sequence[tuple[C, Mapping[str, Any]]],
        answered: Callable[[C, Mapping[str, Any], Answer], None],
        *,
        delete: bool = False,
    ) -> None:
        """Full calls across the delivery; every record's answer goes to *answered*, trouble to its case."""
        items = [(case, record) for case, record in items if case.going_on]
        if not items:
            return
        calls, start = [], 0
        for batch in batches([record for _, record in items]):
            calls.append(items[start : start + len(batch)])
            start += len(batch)

        def call(batch: Sequence[tuple[C, Mapping[str, Any]]]) -> list[tuple[C, Mapping[str, Any], Answer]]:
            return self._call(kind, batch, delete=delete)

        for answers in self.world.fan_out(call, calls):
            for case, record, answer in answers:
                answered(case, record, answer)

    def _call(
        self, kind: MarketoObject, batch: Sequence[tuple[C, Mapping[str, Any]]], *, delete: bool
    ) -> list[tuple[C, Mapping[str, Any], Answer]]:
        """One call, halved while one record sinks it; a culprit alone is that record's refusal."""
        write = self.world.target.delete if delete else self.world.target.upsert
        try:
            answers = write(kind, [record for _, record in batch], until=self.deadline)
        except SplitBatch as error:
            _mark(batch, unanswered=error.unanswered)
            if len(batch) == 1:
                return [(*batch[0], Answer("skipped", error.code, error.message))]
            half = len(batch) // 2
            return self._call(kind, batch[:half], delete=delete) + self._call(kind, batch[half:], delete=delete)
        except SyncError as error:
            _mark(batch, unanswered=getattr(error, "unanswered", False))
            for case, _ in batch:
                case.trouble = error
            return []
        for case, _ in batch:
            case.sent = True
            case.unanswered |= answers.unanswered
        return [(case, record, answer) for (case, record), answer in zip(batch, answers.records, strict=True)]

    @staticmethod
    def _judge(case: Case, kind: MarketoObject, answer: Answer) -> None:
        outcome = verdict(answer, removal=False, kind=kind)
        if outcome is Verdict.LATER:
            case.waits = refusal(answer)
        elif outcome is Verdict.REFUSED:
            case.refused = refusal(answer)

    # --- record -------------------------------------------------------------------------------------------

    def _record(self) -> Outcome:
        """Write every row under its ticket, and hand back what could not be finished."""
        outcome = Outcome(self.counts)
        lost = self._write(
            self.world.opportunities, [self._next(case) for case in self._finished(self.cases)], "opportunities"
        )
        self._put_back(outcome, lost)
        done = [case for case in self.cases.values() if case.going_on and case.id not in lost]
        self.world.tombstones.delete([c.id for c in done if c.removed and not c.held and not c.waits])
        self.counts["handled"] = len(done)
        return outcome

    @staticmethod
    def _finished(cases: Mapping[str, C]) -> list[C]:
        return [case for case in cases.values() if case.going_on]

    def _write(self, ledger: Ledger, rows: list[LedgerRow], what: str) -> set[str]:
        for row in rows:
            self.counts[f"{what} {row.state}"] += 1
        return ledger.write(rows) if rows else set()

    def _next(self, case: OpportunityCase) -> LedgerRow:
        """The row that says what Marketo holds now and what comes next."""
        if case.seen is None:
            return self._next_absent(case)
        version = case.seen.row.get("versionnumber")
        row = replace(case.row, version=version, mapping=self.config.version, seen=self.started)
        if case.posted:
            unmapped = {name: digest for name, digest in row.fields.items() if name not in case.record}
            row = replace(row, fields=unmapped | case.digests)
        if case.planned:
            row = replace(row, roles=tuple(case.roles.values()))
        if case.held.startswith(REMOVALS_HELD):
            return row.become(State.HELD, reason=case.held, mapping=case.row.mapping)
        if case.waits:
            return self._wait(row, case.waits)
        if case.refused or case.held:
            return row.become(State.PARKED, reason=case.refused or case.held)
        return row.become(State.IN_STEP)

    def _next_absent(self, case: OpportunityCase) -> LedgerRow:
        if not case.removed:
            if case.row.attempts + 1 >= NOT_VISIBLE_ATTEMPTS:
                ask_for_comparison(self.world)
                return case.row.become(State.PARKED, reason=case.waits, attempts=case.row.attempts)
            return self._wait(case.row, case.waits)
        if case.held:
            return case.row.become(State.HELD, reason=case.held)
        if case.waits:
            return self._wait(replace(case.row, roles=tuple(case.roles.values())), case.waits)
        return replace(case.row, fields={}, roles=()).become(State.GONE)

    def _next_company(self, case: CompanyCase) -> LedgerRow:
        if case.held:
            return case.row.become(State.GONE if case.row.known else State.PARKED, reason=case.held)
        if case.waits:
            return self._wait(case.row, case.waits)
        if case.refused:
            return case.row.become(State.PARKED, reason=case.refused)
        return replace(case.row, fields=case.digests, mapping=self.config.version).become(State.IN_STEP)

    def _wait(self, row: LedgerRow, reason: str) -> LedgerRow:
        """A delivery before the time changes neither the time nor the count of attempts."""
        now = self.world.clock.now()
        if row.state is State.WAITING and row.reason == reason and row.due and row.due > now:
            return row.become(State.WAITING, reason=reason, attempts=row.attempts, due=row.due)
        due = now + timedelta(seconds=retry_delay(row.attempts))
        return row.become(State.WAITING, reason=reason, attempts=row.attempts + 1, due=due)

    def _give_back(self, error: SyncError) -> Outcome:
        """Dynamics or the storage failed somewhere on the way: nothing counts as recorded."""
        for key in self.work.opportunities:
            self.cases.setdefault(key, OpportunityCase(LedgerRow(key), self.force))
        for key in self.work.accounts:
            self.companies.setdefault(key, CompanyCase(LedgerRow(key), self.force))
        for case in (*self.cases.values(), *self.companies.values()):
            case.trouble = case.trouble or error
        outcome = Outcome(self.counts)
        self._put_back(outcome, set())
        return outcome

    def _put_back(self, outcome: Outcome, lost: set[str]) -> None:
        """Ids with a write sent since their last ledger write go back forced, the others as they were (§2.4).

        A company that only an opportunity needed and that nothing was sent for goes back with the opportunity.
        """
        mine = [case for case in self.cases.values() if _unfinished(case, lost)]
        for what in ("roles", "opportunities"):
            unwritten = (c.reserved for c in mine if c.trouble is not None or c.id in lost)
            if number := sum(count for kind, count in unwritten if kind == what):
                release(self.world, what, number)
        named = set(self.work.accounts)
        companies = [c for c in self.companies.values() if _unfinished(c, self.lost_companies | self.moved_companies)]
        companies = [c for c in companies if c.sent or c.unanswered or c.id in named | self.moved_companies]
        for forced in (True, False):
            ids = [case for case in mine if (case.sent or case.unanswered) is forced]
            accounts = [case for case in companies if (case.sent or case.unanswered) is forced]
            if ids or accounts:
                again = replace(
                    self.work,
                    opportunities=tuple(case.id for case in ids),
                    accounts=tuple(case.id for case in accounts),
                    force=forced or self.force,
                    postponed=self.work.postponed + 1,
                )
                least = float(self.world.late_write) if forced else CONFLICT_DELAY_S
                outcome.again.append(
                    (again, max(least, *(seconds_to_wait(case.trouble) for case in (*ids, *accounts))))
                )
        troubles = (case.trouble for case in (*mine, *companies) if case.trouble)
        outcome.trouble = next(troubles, None)
        self.counts["put back"] += len(mine)


def _unfinished(case: Case, lost: set[str]) -> bool:
    return case.trouble is not None or case.unanswered or case.id in lost


def seconds_to_wait(trouble: SyncError | None) -> float:
    """Until the ids are tried again: as asked for, a while for what a person must mend."""
    if trouble is None:
        return 0.0
    return STOPPED_DELAY_S if isinstance(trouble, ConfigurationError) else getattr(trouble, "delay", 60.0)


def _mark(batch: Sequence[tuple[Case, Any]], *, unanswered: bool) -> None:
    for case, _ in batch:
        case.sent |= unanswered
        case.unanswered |= unanswered


def _role_key(case: OpportunityCase, role: Role) -> dict[str, Any]:
    return {OPPORTUNITY_ID: case.external, "leadId": role.lead, "role": role.text}


def _role_record(case: OpportunityCase, role: Role) -> dict[str, Any]:
    record = _role_key(case, role) | {"isPrimary": role.primary}
    return record | {"externalCreatedDate": role.created} if role.created else record
