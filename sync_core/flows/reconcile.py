"""One delivery of ids: ledger first, then observe, decide, apply, record (design.md §1, §2.4).

Two workers may hold the same id at once; there are no locks. What makes that safe is kept here, in this order:

    ledger row (its ETag is the ticket) → Dataverse rows → Marketo → ledger row again, only under the ticket

Every id ends with that last write, also when there was nothing to post. Whoever loses it, or got no answer to a
write, hands the id back; with `force` if anything was sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sync_core.errors import SyncError
from sync_core.flows.calls import Calls, judge
from sync_core.flows.cases import OpportunityCase, Outcome, ReferenceCase, seconds_to_wait
from sync_core.flows.guard import REMOVALS_HELD, ask_for_comparison, recheck_calls_left, release, reserve
from sync_core.flows.observe import Observation, observe, people
from sync_core.flows.references import COMPANIES, SALES_PERSONS, References
from sync_core.flows.roles import OPPORTUNITY_ID, Roles
from sync_core.flows.world import World
from sync_core.model import Answer, LedgerRow, MarketoObject, State, Verdict, Work
from sync_core.rules.association import Exclusion, settle
from sync_core.rules.fields import digests
from sync_core.rules.planning import NOT_VISIBLE_ATTEMPTS, changed_fields, refusal, wait
from sync_core.rules.verdicts import verdict

PEOPLE_MISSING = "people:"
UNTRUSTED = (State.WAITING, State.PARKED)
DUE = "due"
ASK_AGAIN = (DUE, "only")
DUE_UNASKED = "due, without asking for people"
MISSING_FOR = timedelta(minutes=10)
UNASKED = timedelta(days=365)
CONFLICT_DELAY_S = 5.0


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
        self.cases: dict[str, OpportunityCase] = {}
        self.calls = Calls(world, deadline, postponed=work.postponed)
        self.companies = References(world, COMPANIES, self.calls, self.counts)
        self.sales_persons = References(world, SALES_PERSONS, self.calls, self.counts)
        self.roles = Roles(world, self.cases, self.calls, self.counts)
        self.started = world.clock.now().isoformat()

    def run(self) -> Outcome:
        try:
            self._take_tickets()
            self._decide(observe(self.world, list(self.cases)))
            self._judge_absent()
            self._sync_references()
            self._sync_opportunities()
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
            certain = case.row.state in (State.IN_STEP, State.HELD) or case.row.reason.startswith(PEOPLE_MISSING)
            case.force = case.force or (case.row.known and not certain)
            stakes |= seen.contacts
            doubted |= seen.contacts if case.force else set()
        most = recheck_calls_left(self.world) if self.work.why in (DUE, DUE_UNASKED) else None
        known, calls = people(
            self.world,
            observation.contacts,
            stakes,
            doubted=doubted,
            missing_for=self._missing_for(),
            most_calls=most,
        )
        self.counts["people calls"] += calls
        for key, seen in observation.opportunities.items():
            case = self.cases[key]
            case.wanted, left_out = settle(seen.association, known)
            missing = sum(item.why is Exclusion.UNKNOWN_PERSON for item in left_out)
            if missing and self.config.people.when_missing == "wait":
                case.waits = f"{PEOPLE_MISSING} {missing} not in Marketo"
            if seen.mapped is None:
                case.refused = seen.unfit
            else:
                case.record = dict(seen.mapped.values)

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

    # --- what opportunities refer to ------------------------------------------------------------------------

    def _sync_references(self) -> None:
        """Sales persons, then companies: the message's, and those that an opportunity needs and Marketo lacks."""
        alive = {key: case.seen for key, case in self.cases.items() if case.seen is not None and case.record}
        owners = {key: seen.owner for key, seen in alive.items()} if self.config.owner.salesperson else {}
        self.sales_persons.sync(owners, self.cases)
        self.companies.sync({key: seen.association.account for key, seen in alive.items()}, self.cases)

    # --- opportunities ------------------------------------------------------------------------------------

    def _sync_opportunities(self) -> None:
        changed = []
        for case in self.cases.values():
            if not case.alive:
                continue
            case.digests = digests(case.record)
            if case.record and (
                case.force or not case.row.known or changed_fields(case.row, case.digests, case.record)
            ):
                changed.append((case, {OPPORTUNITY_ID: case.external, **case.record}))
        self.calls.send(MarketoObject.OPPORTUNITY, changed, self._opportunity_answer)

    def _opportunity_answer(self, case: OpportunityCase, _record: Mapping[str, Any], answer: Answer) -> None:
        judge(case, MarketoObject.OPPORTUNITY, answer)
        if answer.status in ("created", "updated"):
            case.posted = True
            case.adopt = answer.status == "updated" and not case.row.known
            self.counts["opportunities posted"] += 1

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

    def _reserve_removals(self) -> None:
        """Hold what the guard doesn't let through (design.md §2.7)."""
        going = [case for case in self._to_remove() if not case.row.approved]
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
        outcome = Outcome(self.counts)
        rows = [self._next(case) for case in self.cases.values() if case.going_on]
        for row in rows:
            self.counts[f"opportunities {row.state}"] += 1
        lost = self.world.opportunities.write(rows) if rows else set()
        self._put_back(outcome, lost)
        done = [case for case in self.cases.values() if case.going_on and case.id not in lost]
        self.world.tombstones.delete([c.id for c in done if c.removed and not c.held and not c.waits])
        self.counts["handled"] = len(done)
        return outcome

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
            return wait(row, case.waits, self.world.clock.now())
        if case.refused or case.held:
            return row.become(State.PARKED, reason=case.refused or case.held)
        return row.become(State.IN_STEP)

    def _next_absent(self, case: OpportunityCase) -> LedgerRow:
        if not case.removed:
            if case.row.attempts + 1 >= NOT_VISIBLE_ATTEMPTS:
                ask_for_comparison(self.world)
                return case.row.become(State.PARKED, reason=case.waits, attempts=case.row.attempts)
            return wait(case.row, case.waits, self.world.clock.now())
        if case.held:
            return case.row.become(State.HELD, reason=case.held)
        if case.waits:
            return wait(replace(case.row, roles=tuple(case.roles.values())), case.waits, self.world.clock.now())
        return replace(case.row, fields={}, roles=()).become(State.GONE)

    def _give_back(self, error: SyncError) -> Outcome:
        """Dynamics or the storage failed somewhere on the way: nothing counts as recorded."""
        for key in self.work.opportunities:
            self.cases.setdefault(key, OpportunityCase(LedgerRow(key), self.force))
        for references, ids in self._references():
            for key in ids:
                references.cases.setdefault(key, ReferenceCase(LedgerRow(key), self.force))
        for case in (*self.cases.values(), *self.companies.cases.values(), *self.sales_persons.cases.values()):
            case.trouble = case.trouble or error
        outcome = Outcome(self.counts)
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
