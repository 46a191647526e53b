"""Companies and sales persons: what opportunities refer to by a key, in Marketo before them (design.md §1).

They have ledger rows of their own and keep the same rules: ticket, fresh rows, post, row again under the ticket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sync_core.flows.applied import cleared, leave_alone
from sync_core.flows.calls import Calls, judge
from sync_core.flows.cases import OpportunityCase, ReferenceCase
from sync_core.flows.reading import Reading, check_rule
from sync_core.flows.world import World
from sync_core.mapping import SALES_PERSON_FIELDS, Key, Source, SyncConfig
from sync_core.messages import split
from sync_core.model import Answer, Lane, LedgerRow, MarketoField, MarketoObject, State, Work
from sync_core.ports import Ledger
from sync_core.rules.fields import UnfitValueError, digests
from sync_core.rules.filters import ONLY, outside, sides
from sync_core.rules.origin import cleaned
from sync_core.rules.planning import changed_fields, wait

COMPANY_ID = "externalCompanyId"
SALES_PERSON_ID = "externalSalesPersonId"
NOW_THERE = "company"  # why opportunities are looked at once their company is in Marketo


@dataclass(frozen=True, slots=True)
class Kind:
    """What tells companies and sales persons apart. `doubts`: refusals of an opportunity that put it in question."""

    target: MarketoObject
    table: str
    column: str
    field: str
    what: str
    missing: str
    unreadable: str
    doubts: tuple[str, ...]


COMPANIES = Kind(
    MarketoObject.COMPANY,
    "account",
    "accountid",
    COMPANY_ID,
    "companies",
    "company: the account is not in Marketo yet",
    "the account can't be read in Dynamics; the company in Marketo stays",
    ("1013",),
)
SALES_PERSONS = Kind(
    MarketoObject.SALES_PERSON,
    "systemuser",
    "systemuserid",
    SALES_PERSON_ID,
    "sales persons",
    "sales person: the owner is not in Marketo yet",
    "the user can't be read in Dynamics; the sales person in Marketo stays",
    ("718", "1013"),
)


def key_of(config: SyncConfig, kind: Kind) -> Key:
    return config.company.key if kind is COMPANIES else Key(column=kind.column)


class References:
    """The records of one kind that one delivery looks at."""

    def __init__(self, world: World, kind: Kind, calls: Calls, counts: Counter[str]) -> None:
        self.world = world
        self.kind = kind
        self.calls = calls
        self.counts = counts
        self.cases: dict[str, ReferenceCase] = {}
        self.lost: set[str] = set()
        self.moved: set[str] = set()
        self.present: set[str] = set()
        self.excluded: set[str] = set()
        self.fixed: set[str] = set()

    @property
    def ledger(self) -> Ledger:
        return self.world.companies if self.kind is COMPANIES else self.world.sales_persons

    @property
    def _fields(self) -> Mapping[str, Source]:
        return self.world.config.company.fields if self.kind is COMPANIES else SALES_PERSON_FIELDS

    def take_tickets(self, ids: Collection[str], *, force: bool) -> None:
        """Those that the message names."""
        rows = self.ledger.rows(ids)
        for key in ids:
            self.cases[key] = ReferenceCase(rows.get(key, LedgerRow(key)), force)

    def sync(
        self,
        wanted: Mapping[str, str | None],
        cases: Mapping[str, OpportunityCase],
        *,
        again: bool = True,
        more: Collection[str] = (),
    ) -> None:
        """Post those of the message, and those that opportunities (by id in *wanted*) need and Marketo lacks.

        *more* are needed by people. *again*: those of forced opportunities, too.
        """
        needed = {key for id, key in wanted.items() if key and self._needs(cases[id], key)}
        doubted = {key for id, key in wanted.items() if key and cases[id].row.reason.startswith(self.kind.doubts)}
        # Whoever posted it last may have died before it wrote that down, or saw that the record changed meanwhile.
        forced = {key for id, key in wanted.items() if again and key and cases[id].force}
        missing = (needed | set(more)) - self.cases.keys()
        tickets = self.ledger.rows(missing)
        in_step = {key for key, row in tickets.items() if row.state is State.IN_STEP}
        self.present = {key for key, row in tickets.items() if row.fields}
        self.excluded = {key for key in in_step if not tickets[key].fields}
        for key in sorted(missing - (in_step - doubted - forced)):
            self.cases[key] = ReferenceCase(tickets.get(key, LedgerRow(key)), force=key in doubted | forced)
        if self.cases:
            self._post()
        for id, name in wanted.items():
            self._name(cases[id], name)

    def has(self, key: str) -> bool:
        """Whether Marketo has the record, as far as this delivery looked."""
        case = self.cases.get(key)
        return key in self.present if case is None else bool(case.row.fields) or case.posted

    def external(self, key: str) -> str:
        return key_of(self.world.config, self.kind).external(key)

    def _needs(self, case: OpportunityCase, key: str) -> bool:
        digest = digests({self.kind.field: self.external(key)})[self.kind.field]
        return case.force or case.row.fields.get(self.kind.field) != digest

    def _post(self) -> None:
        self._read()
        changed = [(case, case.record) for case in self.cases.values() if case.record is not None]
        self.calls.send(self.kind.target, changed, self._answered)
        self._post_without_fixed([case for case, _ in changed if case.refused])
        # At once, not with the opportunities: other workers then know them, and a crash forgets none.
        finished = [case for case in self.cases.values() if case.going_on]
        rows = [self._next(case) for case in finished]
        for row in rows:
            self.counts[f"{self.kind.what} {row.state}"] += 1
        self.lost = self.ledger.write(rows) if rows else set()
        self.moved = self._changed_meanwhile([case for case in finished if not case.row.known])
        for case in finished:
            case.sent = case.id in self.lost
        new = [case for case in finished if case.posted and case.row.known and not case.row.fields]
        # After a cleanup every opportunity is looked at again anyway.
        self._tell_opportunities([case.id for case in new if not cleaned(case.row)])

    def _read(self) -> None:
        only = self.world.config.company.only if self.kind is COMPANIES else ()
        reading = Reading(
            self.world,
            self.kind.table,
            self.kind.target,
            self._fields,
            more=sides(only, *ONLY)[""],
            creating=self.kind is SALES_PERSONS,
        )
        for number, rule in enumerate(only):
            check_rule(self.world.config.file, (*ONLY, number), rule, reading.kinds.get(rule.column, ""))
        rows = reading.rows(self.cases.keys(), select=("versionnumber",))
        emptied: list[str] = []
        if self.kind is COMPANIES:
            leave_alone(self.world, "company", reading.suspended)
            emptied = cleared(self.world, "company", reading.described)
        for key, case in self.cases.items():
            if key not in rows:
                case.held = self.kind.unreadable
                continue
            case.version = rows[key]["versionnumber"]
            case.left = outside(only, {"": rows[key]}, self.world.clock.now())
            if case.left:
                continue
            try:
                values = dict(reading.values(rows[key]).values)
            except UnfitValueError as error:
                case.refused = str(error)
                continue
            values |= {name: None for name in emptied if name in case.row.fields}
            values = self._writable(case, values, reading.described)
            record = {self.kind.field: self.external(key), **values}
            case.values, case.digests = values, digests(record)  # the key's too, as of opportunities
            stale = case.row.state is not State.IN_STEP or changed_fields(case.row, case.digests, values)
            if case.force or not case.row.known or stale:
                case.record = record

    def _writable(
        self, case: ReferenceCase, values: dict[str, Any], described: Mapping[str, MarketoField]
    ) -> dict[str, Any]:
        """A sales person's address can be set on creation and never again (marketo.md §3.5)."""
        self.fixed = {name for name in values if not described[name].updateable}
        if case.force or not case.row.fields:
            return values
        return {name: value for name, value in values.items() if name not in self.fixed}

    def _post_without_fixed(self, refused: list[ReferenceCase]) -> None:
        """Marketo had the sales person already, with another address: everything else can still be written."""
        again = []
        for case in refused:
            record = {name: value for name, value in (case.record or {}).items() if name not in self.fixed}
            if record != case.record and any(f"({name})" in case.refused for name in self.fixed):
                case.refused, case.record = "", record
                case.digests = {name: digest for name, digest in case.digests.items() if name not in self.fixed}
                case.values = {name: value for name, value in case.values.items() if name not in self.fixed}
                again.append((case, record))
        self.calls.send(self.kind.target, again, self._answered)

    def _changed_meanwhile(self, new: list[ReferenceCase]) -> set[str]:
        """Detect queues a changed record only if the ledger has it: look again once it does (design.md §4)."""
        ids = [case.id for case in new]
        now = self.world.source.rows(self.kind.table, ids, {"versionnumber"}) if new else {}
        return {case.id for case in new if case.id in now and now[case.id]["versionnumber"] != case.version}

    def _tell_opportunities(self, new: list[str]) -> None:
        """A company that only now may be in Marketo: the opportunities that went without it name it from here on."""
        if new and self.kind is COMPANIES:
            ids = sorted(self.world.source.opportunities_of_accounts(new))
            for work in split(Work(tuple(ids), why=NOW_THERE, lane=Lane.SLOW)):
                self.world.queue.put(work)

    def _answered(self, case: ReferenceCase, _record: Mapping[str, Any], answer: Answer) -> None:
        judge(case, self.kind.target, answer)
        case.posted = answer.status in ("created", "updated")
        if case.posted:
            self.counts[f"{self.kind.what} posted"] += 1

    def _next(self, case: ReferenceCase) -> LedgerRow:
        if case.held:
            return case.row.become(State.GONE if case.row.known else State.PARKED, reason=case.held)
        if case.waits:
            return wait(case.row, case.waits, self.world.clock.now())
        if case.refused:
            return case.row.become(State.PARKED, reason=case.refused)
        if case.left:
            return case.row.become(State.IN_STEP, reason=case.left)
        unsent = {name: digest for name, digest in case.row.fields.items() if name not in case.values}
        fields = {**unsent, **case.digests}
        return replace(case.row, fields=fields, mapping=self.world.config.version).become(State.IN_STEP)

    def _name(self, case: OpportunityCase, key: str | None) -> None:
        """Only what Marketo has may be named; otherwise the opportunity waits for it, without it."""
        found = self.cases.get(key or "")
        if key in self.excluded or (found is not None and found.left and not found.row.fields):
            key = None
        elif found is not None:
            if not found.going_on:
                case.trouble = found.trouble
            elif (found.refused or found.waits or found.held) and not found.row.fields:
                case.waits = case.waits or self.kind.missing
                key = None
        case.record[self.kind.field] = self.external(key) if key else None

    # --- what goes back on the queue ------------------------------------------------------------------------

    def unfinished(self, named: Collection[str]) -> list[ReferenceCase]:
        """One that only an opportunity needed and that nothing was sent for goes back with the opportunity."""
        cases = (case for case in self.cases.values() if case.unfinished(self.lost | self.moved))
        return [case for case in cases if case.sent or case.unanswered or case.id in named or case.id in self.moved]
