"""One delivery of ids: ledger first, then observe, decide, apply, record (design.md §1, §2.4).

Two workers may hold the same id at once; there are no locks. What makes that safe is kept here, in this order:

    ledger row (its ETag is the ticket) → Dataverse rows → Marketo → ledger row again, only under the ticket

Every id ends with that last write, also when there was nothing to post. Whoever loses it, or got no answer to a
write, hands the id back; with `force` if anything was sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sync_core.errors import SyncError
from sync_core.flows.applied import cleared, leave_alone
from sync_core.flows.calls import Calls, judge
from sync_core.flows.cases import OpportunityCase, Outcome, ReferenceCase, seconds_to_wait
from sync_core.flows.guard import REMOVALS_HELD, ask_for_comparison, recheck_calls_left, release, reserve
from sync_core.flows.observe import Observation, chunks, observe
from sync_core.flows.people import People, check_fields, create, link, people
from sync_core.flows.references import COMPANIES, SALES_PERSONS, References
from sync_core.flows.roles import OPPORTUNITY_ID, Roles
from sync_core.flows.world import World
from sync_core.model import Answer, Lane, LedgerRow, MarketoObject, Row, State, Verdict, Work
from sync_core.rules.association import Exclusion, account_of, settle
from sync_core.rules.fields import digests
from sync_core.rules.planning import NOT_VISIBLE_ATTEMPTS, changed_fields, refusal, wait
from sync_core.rules.verdicts import verdict

PEOPLE_MISSING = "people:"
NOT_VISIBLE = "not visible:"
UNTRUSTED = (State.WAITING, State.PARKED)
DUE = "due"
AUDIT = "audit"  # rehearsed only: it looks at companies and sales persons apart
ASK_AGAIN = (DUE, "only")
MISSING_FOR = timedelta(minutes=10)
CONFLICT_DELAY_S = 5.0
NEW_FOR = timedelta(days=1)  # an opportunity the ledger doesn't know yet counts as new: freshness is told of it
UNDECIDED = (Exclusion.SEVERAL, Exclusion.UNASKED)  # nobody knows who it is: the role that is there stays


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
        self.config = world.config
        self.counts: Counter[str] = Counter()
        self.ages: list[float] = []
        self.cases: dict[str, OpportunityCase] = {}
        self.calls = Calls(world, deadline, postponed=work.postponed)
        self.companies = References(world, COMPANIES, self.calls, self.counts)
        self.sales_persons = References(world, SALES_PERSONS, self.calls, self.counts)
        self.roles = Roles(world, self.cases, self.calls, self.counts)
        self.people = People()
        self.contacts: Mapping[str, Row] = {}
        self.started = world.clock.now().isoformat()

    def run(self) -> Outcome:
        try:
            self._take_tickets()
            self._decide(observe(self.world, list(self.cases)))
            self._judge_absent()
            self._sync_references()
            self._settle()
            self._sync_opportunities()
            self._flag()
            self.roles.read_back()
            self.roles.plan()
            self.roles.post()
            self.roles.reserve()
            self._reserve_removals()
            self.roles.remove([case for case in self._to_remove() if not case.held])
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
        for references, ids in self._references():
            references.take_tickets(ids, force=self.force)

    def _references(self) -> tuple[tuple[References, tuple[str, ...]], ...]:
        """Both kinds, with the ids that the message names."""
        users = self.work.users if self.config.owner.salesperson else ()
        return (self.sales_persons, users), (self.companies, self.work.accounts)

    def _decide(self, observation: Observation) -> None:
        """Who is who in Marketo, and which roles follow."""
        stakes, doubted = set[str](), set[str]()
        for key, seen in observation.opportunities.items():
            case = self.cases[key]
            case.seen = seen
            case.left = seen.outside
            certain = case.row.state in (State.IN_STEP, State.HELD) or case.row.reason.startswith(PEOPLE_MISSING)
            case.force = case.force or (case.row.known and not certain)
            stakes |= set() if case.left or seen.mapped is None else seen.contacts
            doubted |= seen.contacts if case.force else set()
        self._part([case for case in self.cases.values() if case.left], self.config.filter.when_leaving)
        left = leave_alone(self.world, "opportunity", observation.suspended)
        if any(name.startswith("people.") for name in left):
            check_fields(self.world)
        described = self.world.target.describe(MarketoObject.OPPORTUNITY)
        emptied = cleared(self.world, "opportunity", described)
        self.contacts = observation.contacts
        self.people = people(
            self.world,
            observation.contacts,
            stakes,
            doubted=doubted,
            missing_for=self._missing_for(),
            most_calls=recheck_calls_left(self.world) if self.work.why == DUE else None,
        )
        self.counts["people calls"] += self.people.calls
        for key, seen in observation.opportunities.items():
            case = self.cases[key]
            if seen.mapped is None:
                case.refused = "" if case.left else seen.unfit
            elif not case.left:
                flags = observation.unflagged if case.force or not case.row.fields else _known(observation, case)
                case.record = {**flags, **seen.mapped.values}
                case.record |= {name: None for name in emptied if name in case.row.fields}

    def _missing_for(self) -> timedelta:
        """How long somebody who was missing in Marketo counts as missing still, without asking again."""
        return timedelta(0) if self.force or self.work.why in ASK_AGAIN else MISSING_FOR

    def _judge_absent(self) -> None:
        """A fresh read lacks these: gone with evidence, else not visible (design.md §2.7)."""
        absent = [case for case in self.cases.values() if case.seen is None]
        buried = self.world.tombstones.read([case.id for case in absent]) if absent else {}
        for case in absent:
            tombstone = buried.get(case.id)
            if case.row.state is State.GONE or (tombstone and tombstone["at"] >= case.row.seen):
                case.evidence = True
                case.force = case.force or (case.row.known and case.row.state in UNTRUSTED)
            else:
                case.waits = f"{NOT_VISIBLE} a read by id lacks it, and nothing says that it was deleted"
        self._part([case for case in absent if case.evidence], self.config.removals.policy)

    def _part(self, parting: Sequence[OpportunityCase], policy: str) -> None:
        """What becomes of those that are deleted or left the filter: delete or remove, flag, keep.

        Of a forced one that the ledger doesn't know to be posted, Marketo is asked: a create may have got no answer.
        What is deleted in Dynamics is deleted all the same where Marketo holds nothing yet, but is no removal then.
        """
        unknown = (case for case in parting if case.force and not case.row.fields)
        asked = (case for case in unknown if case.left or policy == "flag" or case.row.state is not State.GONE)
        held: set[str] = set()
        for keys in chunks(case.external for case in asked if policy != "keep"):
            held |= self.world.target.records(MarketoObject.OPPORTUNITY, keys, ()).keys()
        for case in parting:
            case.there = bool(case.row.fields) or case.external in held
            case.removed = policy in ("delete", "remove") and (case.there or case.evidence)
            case.flagged = policy == "flag" and case.there

    # --- what opportunities refer to ------------------------------------------------------------------------

    def _sync_references(self) -> None:
        """Sales persons, then companies: the message's, and those that an opportunity needs and Marketo lacks."""
        alive = {key: case.seen for key, case in self.cases.items() if case.seen is not None and case.record}
        owners = {key: seen.owner for key, seen in alive.items()} if self.config.owner.salesperson else {}
        again = self.work.why != AUDIT
        self.sales_persons.sync(owners, self.cases, again=again)
        accounts = {key: seen.association.account for key, seen in alive.items()}
        self.companies.sync(accounts, self.cases, more=self._accounts_of_people(), again=again)

    def _accounts_of_people(self) -> set[str]:
        """Accounts that people may be tied to: they must be in Marketo before."""
        config = self.config.people
        tied = self.people.missing() if config.when_missing == "create" else []
        if config.link_company != "never":
            tied += [contact for contact, lead in self.people.known.items() if isinstance(lead, int)]
        return {account for contact in tied if (account := account_of(self.contacts, contact))}

    def _settle(self) -> None:
        """Create and link people if sync.toml says so; then the roles follow."""
        config, failed = self.config.people, dict[str, str]()
        if config.when_missing == "create":
            failed = create(self.world, self.contacts, self.people, self._company_of, self.calls.deadline)
        if config.link_company != "never":
            linked = link(self.world, self.contacts, self.people, self._company_of, self.calls.deadline)
            self.counts["people linked"] += linked
        for case in self.cases.values():
            if case.seen is None or case.left or case.refused:
                continue
            case.wanted, left_out = settle(case.seen.association, self.people.known)
            reasons = {why: {item.reason for item in left_out if item.why is why} for why in UNDECIDED}
            case.undecided = set().union(*reasons.values())
            missing = [item.who for item in left_out if item.why is Exclusion.UNKNOWN_PERSON]
            unasked = [item.who for item in left_out if item.why is Exclusion.UNASKED]
            if unasked or (missing and config.when_missing != "skip"):
                case.waits = case.waits or self._who_is_missing(case, [*missing, *unasked], failed)
            if several := reasons[Exclusion.SEVERAL]:
                case.held = f"{PEOPLE_MISSING} {len(several)} of several in Marketo each; see `explain`"

    def _who_is_missing(self, case: OpportunityCase, missing: list[str], failed: Mapping[str, str]) -> str:
        """Why it waits: as told by this delivery, or by the one that asked last."""
        told = next((failed[contact] for contact in missing if contact in failed), "")
        if not told and not self.people.asked.intersection(missing) and case.row.reason.startswith(PEOPLE_MISSING):
            return case.row.reason
        return told or f"{PEOPLE_MISSING} {len(missing)} not in Marketo"

    def _company_of(self, contact: str) -> str | None:
        """The externalCompanyId of a contact's account, if Marketo has that company."""
        account = account_of(self.contacts, contact)
        return self.companies.external(account) if account and self.companies.has(account) else None

    # --- opportunities ------------------------------------------------------------------------------------

    def _sync_opportunities(self) -> None:
        changed = []
        for case in self.cases.values():
            if not case.alive:
                continue
            record = {OPPORTUNITY_ID: case.external, **case.record}
            case.digests = digests(record)  # the key's too: what was posted with nothing but empty values has one
            if case.record and (
                case.force or not case.row.known or changed_fields(case.row, case.digests, case.record)
            ):
                changed.append((case, record))
        self.calls.send(MarketoObject.OPPORTUNITY, changed, self._opportunity_answer)

    def _opportunity_answer(self, case: OpportunityCase, _record: Mapping[str, Any], answer: Answer) -> None:
        judge(case, MarketoObject.OPPORTUNITY, answer)
        if answer.status in ("created", "updated"):
            case.posted = True
            case.adopt = answer.status == "updated" and not case.row.fields
            self.counts["opportunities posted"] += 1
            if self.work.lane is Lane.FRESH and (changed := _changed(case, self._now)):
                self.ages.append(max(0.0, (self._now - changed).total_seconds()))

    # --- removals -----------------------------------------------------------------------------------------

    def _to_remove(self) -> list[OpportunityCase]:
        """Confirmed removals that Marketo may still hold; a row that is `gone` only when forced."""
        return [
            case
            for case in self.cases.values()
            if case.removed
            and case.going_on
            and (case.force or (case.row.state is not State.GONE and (case.row.fields or case.row.roles)))
        ]

    def _flag(self) -> None:
        """Mark in Marketo what is deleted in Dynamics or left the filter, where sync.toml says so."""
        flags = self.config.removals.flag
        digest = digests(flags)
        marked = [
            (case, {OPPORTUNITY_ID: case.external, **flags})
            for case in self.cases.values()
            if case.flagged and case.going_on and (case.force or changed_fields(case.row, digest, flags))
        ]
        self.calls.send(MarketoObject.OPPORTUNITY, marked, self._flag_answer)

    def _flag_answer(self, case: OpportunityCase, _record: Mapping[str, Any], answer: Answer) -> None:
        judge(case, MarketoObject.OPPORTUNITY, answer)
        if answer.status in ("created", "updated"):
            case.row = replace(case.row, fields={**case.row.fields, **digests(self.config.removals.flag)})
            self.counts["opportunities flagged"] += 1

    def _reserve_removals(self) -> None:
        """Hold what the guard doesn't let through (design.md §2.7), and all that a changed filter would remove."""
        going = [case for case in self._to_remove() if not case.row.approved]
        for case in going:
            case.held = case.row.reason if case.row.state is State.HELD else ""
            if case.left and not case.held and case.row.mapping not in ("", self.config.version):
                case.held = f"{REMOVALS_HELD} a change of the filter would remove it"
        # A row that is gone already was counted when it went: this is a second try. Roles alone count as a removal.
        counted = [case for case in going if not case.held and (case.there or case.row.roles)]
        counted = [case for case in counted if case.row.state is not State.GONE]
        why = reserve(self.world, "opportunities", len(counted)) if counted else ""
        for case in counted:
            if why:
                case.held = f"{REMOVALS_HELD} {why}"
            else:
                case.reserved = ("opportunities", 1)

    def _remove_opportunities(self) -> None:
        ready = [case for case in self._to_remove() if not case.held and not case.roles]
        records = [(case, {OPPORTUNITY_ID: case.external}) for case in ready]
        self.calls.send(MarketoObject.OPPORTUNITY, records, self._opportunity_removed, delete=True)

    def _opportunity_removed(self, case: OpportunityCase, _record: Mapping[str, Any], answer: Answer) -> None:
        if verdict(answer, removal=True, kind=MarketoObject.OPPORTUNITY) is Verdict.DONE:
            self.counts["opportunities removed"] += 1
        else:
            case.waits = refusal(answer)

    # --- record -------------------------------------------------------------------------------------------

    def _record(self) -> Outcome:
        """Write every row under its ticket, and hand back what could not be finished."""
        outcome = Outcome(self.counts, ages=self.ages)
        rows = [self._next(case) for case in self.cases.values() if case.going_on]
        for row in rows:
            self.counts[f"opportunities {row.state}"] += 1
        lost = self.world.opportunities.write(rows) if rows else set()
        self._put_back(outcome, lost)
        self._keep_history(lost)
        done = [case for case in self.cases.values() if case.going_on and case.id not in lost]
        self.world.tombstones.delete([c.id for c in done if c.evidence and not (c.held or c.waits or c.refused)])
        self.counts["handled"] = len(done)
        return outcome

    def _keep_history(self, lost: set[str]) -> None:
        """The values that changed, of the mapped fields alone: `[history] values` of sync.toml, never of people."""
        if self.world.history is None or not self.config.history.values:
            return
        changes = {}
        for case in self.cases.values():
            if case.posted and case.going_on and case.id not in lost:
                names = changed_fields(case.row, case.digests, case.record)
                changes[case.id] = {name: case.record[name] for name in names}
        self.world.history.add(self._now, {key: fields for key, fields in changes.items() if fields})

    @property
    def _now(self) -> datetime:
        return self.world.clock.now()

    def _next(self, case: OpportunityCase) -> LedgerRow:
        """The row that says what Marketo holds now and what comes next."""
        if case.seen is None:
            return self._next_absent(case)
        if case.left:
            return self._next_outside(case)
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
            return wait(row, case.waits, self._now)
        if case.refused or case.held:
            return row.become(State.PARKED, reason=case.refused or case.held)
        return row.become(State.IN_STEP)

    def _next_absent(self, case: OpportunityCase) -> LedgerRow:
        if not case.evidence:
            if case.row.attempts + 1 >= NOT_VISIBLE_ATTEMPTS:
                ask_for_comparison(self.world)
                return case.row.become(State.PARKED, reason=case.waits, attempts=case.row.attempts)
            return wait(case.row, case.waits, self._now)
        if case.held:
            return case.row.become(State.HELD, reason=case.held)
        if case.waits:
            return wait(replace(case.row, roles=tuple(case.roles.values())), case.waits, self._now)
        if case.refused:
            return case.row.become(State.PARKED, reason=case.refused)
        return replace(case.row, fields={}, roles=()).become(State.GONE)

    def _next_outside(self, case: OpportunityCase) -> LedgerRow:
        """It left the filter: removed from Marketo, flagged there, or kept as it was."""
        row = replace(case.row, seen=self.started)
        if case.held:
            return row.become(State.HELD, reason=case.held)
        if case.waits:
            return wait(
                replace(row, roles=tuple(case.roles.values()) if case.removed else row.roles), case.waits, self._now
            )
        if case.refused:
            return row.become(State.PARKED, reason=case.refused)
        if case.removed:
            row = replace(row, fields={}, roles=(), mapping=self.config.version)
        return row.become(State.IN_STEP, reason=case.left)

    def _give_back(self, error: SyncError) -> Outcome:
        """Dynamics or the storage failed somewhere on the way: nothing counts as recorded."""
        for key in self.work.opportunities:
            self.cases.setdefault(key, OpportunityCase(LedgerRow(key), self.force))
        for references, ids in self._references():
            for key in ids:
                references.cases.setdefault(key, ReferenceCase(LedgerRow(key), self.force))
        for case in (*self.cases.values(), *self.companies.cases.values(), *self.sales_persons.cases.values()):
            case.trouble = case.trouble or error
        outcome = Outcome(self.counts, ages=self.ages)
        self._put_back(outcome, set())
        return outcome

    def _put_back(self, outcome: Outcome, lost: set[str]) -> None:
        """Ids with a write sent since their last ledger write go back forced, the others as they were (§2.4)."""
        mine = [case for case in self.cases.values() if case.unfinished(lost)]
        for what in ("roles", "opportunities"):
            unspent = (case.unspent(lost) for case in self.cases.values() if case.reserved[0] == what)
            if number := sum(unspent):
                release(self.world, what, number)
        companies = self.companies.unfinished(self.work.accounts)
        users = self.sales_persons.unfinished(self.work.users)
        for forced in (True, False):
            groups = [[c for c in cases if (c.sent or c.unanswered) is forced] for cases in (mine, companies, users)]
            if not any(groups):
                continue
            opportunities, accounts, owners = (tuple(case.id for case in group) for group in groups)
            again = replace(
                self.work,
                opportunities=opportunities,
                accounts=accounts,
                users=owners,
                force=forced or self.force,
                postponed=self.work.postponed + 1,
            )
            least = float(self.world.late_write) if forced else CONFLICT_DELAY_S
            delays = (seconds_to_wait(case.trouble) for group in groups for case in group)
            outcome.again.append((again, max(least, *delays)))
        troubles = (case.trouble for case in (*mine, *companies, *users) if case.trouble)
        outcome.trouble = next(troubles, None)
        self.counts["put back"] += len(mine)


def _changed(case: OpportunityCase, now: datetime) -> datetime | None:
    """When its own row changed, if that is what brought it here; a first load's old rows did not change just now."""
    row = case.seen.row if case.seen else {}
    if not row.get("modifiedon") or row.get("versionnumber") == case.row.version:
        return None
    if case.row.version is None and datetime.fromisoformat(row["createdon"]) < now - NEW_FOR:
        return None
    return datetime.fromisoformat(row["modifiedon"])


def _known(observation: Observation, case: OpportunityCase) -> dict[str, Any]:
    """The flags that the ledger says Marketo holds: only those have to be taken back."""
    return {name: value for name, value in observation.unflagged.items() if name in case.row.fields}
