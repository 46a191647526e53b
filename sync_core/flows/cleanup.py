"""Before an uninstall: take out of Marketo what this system wrote, and only that.

    pause for good → nobody at work any more → roles → opportunities → companies → sales persons

Roles go first: Marketo leaves those of a deleted opportunity behind (marketo.md §3.3). Dynamics is asked nothing: what
may have to go stands in the ledger, or in messages whose delivery did not come to its end. Marketo is asked when it
made each record: what is older than this state was there before us, what is younger than the cleanup others made
since, and both stay. A row is emptied only after Marketo's answer, so whatever ends a cleanup, the next one goes on.

A write without an answer may still be applied (design.md §2.4): its ids are looked at again L later, and nobody
resumes before.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from sync_core.errors import ConfigurationError, NotOurs, RetryLater, SplitBatch
from sync_core.flows.calls import Calls
from sync_core.flows.cases import Case
from sync_core.flows.guard import AT_WORK, BEGAN, PAIR, PAUSE, check_subscription, set_aside, those_set_aside
from sync_core.flows.id_file import IdFile
from sync_core.flows.observe import chunks, in_halves
from sync_core.flows.references import COMPANIES, SALES_PERSONS, Kind, key_of
from sync_core.flows.roles import OPPORTUNITY_ID, POSTED_TEXTS, role_key
from sync_core.flows.world import World
from sync_core.messages import FULL, decode
from sync_core.model import Answer, Lane, LedgerRow, MarketoObject, Role, State, Verdict
from sync_core.ports import Ledger
from sync_core.rules.batches import MAX_RECORDS
from sync_core.rules.origin import CLEANED, OTHERS_ROLES, Span, cleaned, doubtful, ours
from sync_core.rules.pace import at_least
from sync_core.rules.planning import refusal
from sync_core.rules.verdicts import verdict

CLOCKS = timedelta(minutes=1)  # what `validate` lets our clock differ from Marketo's
LISTED = 1000  # records that stay, of which the ids are told
TRIES = 3
PATIENCE_S = 300.0
LOOK_S = 1.0
SHOWN_AFTER = timedelta(seconds=30)  # a record that was just written may be missing from answers (marketo.md §7.56)
POLL = timedelta(seconds=30)

TIED = "people are tied to it, and Marketo takes nobody out of a company"
NAMED = "an opportunity that stays names it"
UNASKED = "Marketo can't be asked who is tied to it"
IN_USE = "Marketo says that it is in use"
OTHERS = "made by others"
IN_USE_CODE = "1022"
PEOPLE = "people stay, whoever made them, and stay tied to their companies"

Progress = Callable[[str], None]
T = TypeVar("T")


def survey(world: World, *, since: datetime | None, progress: Progress) -> dict[str, Any]:
    """What a cleanup would remove, leave, cost and set off; Marketo is read, nothing is changed."""
    if not _known(world):
        return {"nothing to remove": "this state never wrote to a Marketo"}
    check_subscription(world)
    with IdFile() as going:
        one = _Cleanup(world, Span(_since(world, since), _until(world) or _marketo_now(world)), progress, going)
        one.run()
    return one.told("would be removed") | {
        "Marketo calls": one.cost(),
        "queue messages": _waiting(world),
        "Marketo will log": one.activities(),
        "to do it": command(world, since),
    }


def remove(world: World, confirmed: str, *, since: datetime | None, progress: Progress) -> dict[str, Any]:
    """Do it, or go on with it. Raises ConfigurationError, with nothing changed, unless *confirmed* is whom it empties.

    RetryLater where Marketo or the storage can't go on now, its daily share of calls above all: run it again then.
    """
    if confirmed != world.subscription:
        raise ConfigurationError(
            f"--confirm: the settings lead to Marketo subscription {world.subscription}, not to {confirmed}. "
            "Nothing was done."
        )
    if not _known(world):
        return {"nothing to remove": "this state never wrote to a Marketo"}
    check_subscription(world)
    first = _since(world, since)
    _settle(world, _pause(world), progress)
    until = _until(world)
    if until is None:
        until = _marketo_now(world)
        _note(world, until=until.isoformat())
    one = _Cleanup(world, Span(first, until), progress)
    one.run()
    done = not one.unfinished
    _note(world, at=None, ended=world.clock.now().isoformat(timespec="seconds") if done else None)
    then = "the function app and the storage account can be deleted" if done else f"once more: {command(world, since)}"
    return one.told("removed") | {"finished": done, "then": then}


def command(world: World, since: datetime | None) -> str:
    return f"python -m sync_core cleanup --confirm {world.subscription}" + (
        f" --since {since.isoformat()}" if since else ""
    )


def _known(world: World) -> bool:
    return world.documents.read(*PAIR) is not None


def _since(world: World, given: datetime | None) -> datetime:
    if given is not None:
        return given
    began = world.documents.read(*BEGAN)
    if began is None:
        raise ConfigurationError(
            "it is not known since when this system writes to Marketo: give its first day with --since. "
            "Nothing was done."
        )
    return datetime.fromisoformat(began.value["at"]) - CLOCKS


def _marketo_now(world: World) -> datetime:
    """By Marketo's clock, which dates the records."""
    world.target.describe(MarketoObject.OPPORTUNITY)
    return world.clock.now() - timedelta(seconds=world.target.skew() or 0.0)


def _waiting(world: World) -> int:
    lengths = world.queue.lengths()
    return sum(number for name, number in lengths.items() if name != "unreadable")


# --- alone with Marketo ---------------------------------------------------------------------------------------


def _pause(world: World) -> datetime:
    """For good, also over a pause that is on: the functions put nothing back, until somebody resumes knowingly.

    When the cleanup began.
    """
    now = world.clock.now().isoformat(timespec="seconds")

    def paused(value: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"since": now, **value, "why": "cleanup", "cleanup": {"begun": now, **value.get("cleanup", {})}}

    return datetime.fromisoformat(world.change(*PAUSE, paused)["cleanup"]["begun"])


def _note(world: World, **changes: Any) -> None:
    """Keep how far the cleanup is. Raises ConfigurationError if somebody has resumed the sync."""

    def noted(value: Mapping[str, Any]) -> Mapping[str, Any]:
        if "cleanup" not in value:
            raise ConfigurationError("somebody resumed the sync meanwhile: the cleanup ends here, what is gone is gone")
        return {**value, "cleanup": {**value["cleanup"], **changes}}

    world.change(*PAUSE, noted)


def _until(world: World) -> datetime | None:
    """When nobody was at work any more, if a cleanup got that far."""
    pause = world.documents.read(*PAUSE)
    until = pause.value.get("cleanup", {}).get("until") if pause else None
    return datetime.fromisoformat(until) if until else None


def _settle(world: World, began: datetime, progress: Progress) -> None:
    """Until the queues are empty: then no delivery is under way, and no write of one can still be applied.

    A queue tells no fewer messages than it has, those in hand or out of sight too (Microsoft's documentation of
    `ApproximateMessagesCount`; that they are counted was tried with Azurite only), and whoever sent a write that got
    no answer keeps its ids out of sight for L. What was perhaps sent and stands in no ledger is known by its message
    alone.
    """
    told = 0
    while True:
        for lane in Lane:
            for poisoned in world.queue.poisoned(lane):
                _keep(world, poisoned.body, sent=True)
                world.queue.done_poisoned(lane, poisoned)
            while letter := world.queue.receive(lane, lease=POLL):
                _keep(world, letter.body, sent=letter.dequeue_count > 1)
                world.queue.done(lane, letter)
        waiting = _waiting(world)
        if not waiting:
            break
        if waiting != told:
            progress(f"waiting for {waiting} queue messages that are in hand or were postponed")
        told = waiting
        world.clock.sleep(LOOK_S)
    left = (began + SHOWN_AFTER - world.clock.now()).total_seconds()
    if left > 0:
        progress("waiting until Marketo surely shows what was written last")
        world.clock.sleep(left)


def _keep(world: World, body: str, *, sent: bool) -> None:
    try:
        work = decode(body)
    except NotOurs as error:
        world.queue.set_aside(body, str(error))
        return
    set_aside(world, work, sent=sent or work.force)


# --- look, remove, record ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Leaving(Case):
    """One record on its way out. `stays` is why it does not go; `others`: roles that are not ours."""

    external: str = ""
    there: bool = False
    stays: str = ""
    roles: dict[tuple[int, str], Role] = field(default_factory=dict)
    others: int = 0

    @property
    def going(self) -> bool:
        return self.there and not (self.stays or self.roles or self.waits or self.refused)


class _Kind(NamedTuple):
    """`ids`: as `Work` names them; `remove` gets rows of the ledger."""

    what: str
    ids: str
    remove: Callable[[list[LedgerRow]], list[_Leaving]]


class _Cleanup:
    """With *going* it only looks, and remembers there which opportunities would go."""

    def __init__(self, world: World, span: Span, progress: Progress, going: IdFile | None = None) -> None:
        self.world = world
        self.span = span
        self.progress = progress
        self.going = going
        self.counts: Counter[str] = Counter()
        self.stays: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.listed: list[dict[str, str]] = []
        self.unfinished = 0
        self.calls = Calls(world, world.clock.now())
        texts = world.documents.read(*POSTED_TEXTS)
        self.texts = frozenset(texts.value["texts"] if texts else ())
        self.every = world.config.stakeholders.ownership == "all"

    def run(self) -> None:
        self._all(_Kind("opportunities", "opportunities", self._opportunities))
        self._all(_Kind(COMPANIES.what, "accounts", partial(self._references, COMPANIES)))
        self._all(_Kind(SALES_PERSONS.what, "users", partial(self._references, SALES_PERSONS)))

    def _all(self, kind: _Kind) -> None:
        """First what messages alone may know of, then the ledger."""
        ledger = self.world.ledgers[kind.ids]
        for work in those_set_aside(self.world):
            ids = getattr(work, kind.ids)
            rows = ledger.rows(ids)
            self._finish(kind, ledger, [key for key in ids if key not in rows or not doubtful(rows[key])], named=True)
        for ids in chunks(chain.from_iterable(ledger.ids(gone=True)), FULL):
            self._finish(kind, ledger, ids, named=False)

    def _finish(self, kind: _Kind, ledger: Ledger, ids: Sequence[str], *, named: bool) -> None:
        """*ids* until nothing of them is in doubt any more, with some patience."""
        for left in reversed(range(TRIES)):
            rows = ledger.rows(ids)
            wanted = (rows.get(key, LedgerRow(key)) for key in ids)
            asked = [row for row in wanted if doubtful(row) or (named and not cleaned(row))]
            if not asked:
                return
            if self.going is None:
                now = self.world.clock.now()
                _note(self.world, at=now.isoformat())
                self.calls = Calls(self.world, now + AT_WORK - timedelta(seconds=self.world.late_write))
            try:
                cases = kind.remove(asked)
                trouble = next((case.trouble for case in cases if case.trouble), None)
            except RetryLater as error:
                cases, trouble = [], error
            else:
                ids = self._record(kind, ledger, cases)
                self.progress(self._so_far())
            if trouble is None and not ids:
                return
            if trouble and (not left or not isinstance(trouble, RetryLater) or trouble.delay > PATIENCE_S):
                raise trouble
            if left:
                late = self.world.late_write if any(case.unanswered for case in cases) else 0
                self.world.clock.sleep(max(late, getattr(trouble, "delay", 0.0)))
        for key in ids:
            self._leave(kind, key, "Marketo gave no clear answer")
        self.unfinished += len(ids)

    def _record(self, kind: _Kind, ledger: Ledger, cases: Sequence[_Leaving]) -> list[str]:
        """Empty the rows of what is gone; which ids have to be looked at again."""
        done = [case for case in cases if case.going_on and not (case.unanswered or case.waits)]
        rows = [row for case in done if (row := _next(case)) is not None] if self.going is None else []
        lost = ledger.write(rows) if rows else set()
        for case in done:
            self.counts["roles of others"] += case.others
            if (why := case.refused or case.stays) and case.id not in lost:
                self._leave(kind, case.id, why)
                self.unfinished += bool(case.refused)
        again = {case.id for case in cases} - {case.id for case in done} | set(lost)
        return [case.id for case in cases if case.id in again]

    def _leave(self, kind: _Kind, key: str, why: str) -> None:
        self.stays[kind.what][why] += 1
        if len(self.listed) < LISTED:
            self.listed.append({"kind": kind.what, "id": key, "why": why})

    # --- opportunities and their roles ------------------------------------------------------------------------

    def _opportunities(self, rows: list[LedgerRow]) -> list[_Leaving]:
        key = self.world.config.opportunity.key
        cases = {key.external(row.id): _Leaving(row, True, external=key.external(row.id)) for row in rows}
        made = self._made(MarketoObject.OPPORTUNITY, cases)
        for group in self._asked(self.world.target.roles, cases):
            for external, roles in group.items():
                case = cases[external]
                recorded = {role.key for role in case.row.roles}
                mine = (r for r in roles if ours(r, recorded, self.texts, self.span, every=self.every))
                case.roles = {role.key: role for role in mine}
                case.others = len(roles) - len(case.roles)
        for external, case in cases.items():
            case.there = external in made
            if case.there:
                case.stays = self.span.foreign(made[external]) or (OTHERS_ROLES if case.others else "")
        found = list(cases.values())
        held = [(case, role_key(case.external, role)) for case in found for role in case.roles.values()]
        if self.going is not None:
            going_too = [case.id for case in found if case.there and not case.stays]
            self.going.add(going_too)
            self._foretell("roles", len(held))
            self._foretell("opportunities", len(going_too))
            return found
        self.calls.send(MarketoObject.ROLE, held, self._role_removed, delete=True)
        going = [(case, {OPPORTUNITY_ID: case.external}) for case in found if case.going]
        self.calls.send(MarketoObject.OPPORTUNITY, going, self._removed("opportunities"), delete=True)
        return found

    def _role_removed(self, case: _Leaving, record: Mapping[str, Any], answer: Answer) -> None:
        if answer.status == "deleted":
            del case.roles[record["leadId"], record["role"].casefold()]
            self.counts["roles"] += 1
        elif verdict(answer, removal=True, kind=MarketoObject.ROLE) is Verdict.DONE:
            case.waits = refusal(answer)  # gone, or its person was merged a moment ago: look again
        else:
            case.refused = f"a role was not removed, {refusal(answer)}"

    # --- companies and sales persons ----------------------------------------------------------------------------

    def _references(self, kind: Kind, rows: list[LedgerRow]) -> list[_Leaving]:
        key = key_of(self.world.config, kind)
        cases = {key.external(row.id): _Leaving(row, True, external=key.external(row.id)) for row in rows}
        for external, made in self._made(kind.target, cases).items():
            cases[external].there = True
            cases[external].stays = self.span.foreign(made)
        if kind is COMPANIES:
            self._keep_used(kind, {each: case for each, case in cases.items() if case.going})
        found = list(cases.values())
        going = [(case, {kind.field: case.external}) for case in found if case.going]
        if self.going is not None:
            self._foretell(kind.what, len(going))
        else:
            self.calls.send(kind.target, going, self._removed(kind.what), delete=True)
        return found

    def _keep_used(self, kind: Kind, cases: Mapping[str, _Leaving]) -> None:
        """No source says what becomes of the people of a deleted company, or of an opportunity that names one."""
        askable = bool(cases) and kind.field in self.world.target.searchable()
        tied = self._holders(MarketoObject.LEAD, kind.field, cases) if askable else {}
        named = self._holders(MarketoObject.OPPORTUNITY, kind.field, cases)
        for external, case in cases.items():
            if not askable:
                case.stays = UNASKED
            elif external in tied:
                case.stays = TIED
            elif self._left_of(named.get(external, ())):
                case.stays = NAMED

    def _left_of(self, opportunities: Iterable[str]) -> bool:
        """Whether one of those that name a company stays; once ours are removed, whoever is left does."""
        key = self.world.config.opportunity.key
        for each in opportunities:
            if self.going is None or not (id := key.id_of(each)) or self.going.lacking([id]):
                return True
        return False

    def _holders(self, kind: MarketoObject, name: str, values: Collection[str]) -> Mapping[str, Collection[str]]:
        def ask(keys: list[str]) -> Mapping[str, Collection[str]]:
            try:
                return self.world.target.holders(kind, name, keys)
            except SplitBatch:
                if len(keys) > 1:
                    raise
                return {keys[0]: ("more than Marketo tells",)}

        return dict(chain.from_iterable(group.items() for group in self._asked(ask, values)))

    # --- both -----------------------------------------------------------------------------------------------

    def _foretell(self, what: str, number: int) -> None:
        self.counts[what] += number
        self.counts["write calls"] += -(-number // MAX_RECORDS)

    def _made(self, kind: MarketoObject, keys: Collection[str]) -> dict[str, str]:
        """When Marketo made those that it has."""

        def ask(some: list[str]) -> Mapping[str, Mapping[str, Any]]:
            return self.world.target.records(kind, some, ("createdAt",))

        found = chain.from_iterable(group.items() for group in self._asked(ask, keys))
        return {key: str(values["createdAt"] or "") for key, values in found}

    def _asked(self, ask: Callable[[list[str]], Mapping[str, T]], keys: Collection[str]) -> Iterator[Mapping[str, T]]:
        groups = list(chunks(keys))
        self.counts["read calls"] += len(groups)
        return self.world.fan_out(lambda group: in_halves(ask, group), groups)

    def _removed(self, what: str) -> Callable[[_Leaving, Mapping[str, Any], Answer], None]:
        def removed(case: _Leaving, _record: Mapping[str, Any], answer: Answer) -> None:
            if verdict(answer, removal=True, kind=MarketoObject.OPPORTUNITY) is Verdict.DONE:
                case.there = False
                self.counts[what] += answer.status == "deleted"
            elif answer.code == IN_USE_CODE:
                case.stays = IN_USE
            else:
                case.refused = refusal(answer)

        return removed

    # --- told -----------------------------------------------------------------------------------------------

    def _so_far(self) -> str:
        return ", ".join(f"{self.counts[what]:,} {what}" for what in OBJECTS)

    def told(self, what: str) -> dict[str, Any]:
        stays: dict[str, Any] = {kind: dict(why.most_common()) for kind, why in self.stays.items()}
        if others := self.counts["roles of others"]:
            stays["roles"] = {OTHERS: others}
        return {
            "subscription": self.world.subscription,
            "made from": self.span.since.isoformat(timespec="seconds"),
            "to": self.span.until.isoformat(timespec="seconds"),
            what: {each: self.counts[each] for each in OBJECTS},
            "stays": {**stays, "people": PEOPLE},
            "listed": self.listed,
        }

    def cost(self) -> dict[str, int]:
        """Of doing it: what was read is read again."""
        limiter = self.world.limiter
        writes, reads = self.counts["write calls"], self.counts["read calls"]
        told = {"to write": writes, "to read, at least": reads}
        return told | at_least(writes + reads, limiter.shares, limiter.used_today())

    def activities(self) -> list[str]:
        number = self.counts["roles"]
        if not number:
            return ["nothing: no trigger campaign starts"]
        who = "1 person" if number == 1 else f"{number:,} people"
        return [
            f"{who} Removed from Opportunity",
            "a person in several deals or roles counts once for each",
            "switch off trigger campaigns first",
        ]


OBJECTS = ("roles", "opportunities", COMPANIES.what, SALES_PERSONS.what)


def _next(case: _Leaving) -> LedgerRow | None:
    """The row once Marketo has answered; None where it may stay as it is."""
    if not case.there and not case.roles:
        return replace(case.row, fields={}, roles=()).become(State.GONE, reason=CLEANED)
    if case.there and case.stays and case.row.roles and not case.roles:
        return replace(case.row, roles=())
    return None
