"""Does Marketo hold what the rules demand? Every record is delivered as if nobody remembered it, and nothing is sent.

What such a delivery would change is the difference: missing, extra or different in Marketo. It is the very code that
posts, rehearsed, so there is no second opinion on what should be there. In pieces: how far it came is kept with the
state after each, and whoever begins again goes on there. What a piece suspects is looked at once more at the end,
since Dynamics and Marketo are never read at the same moment.

    audit      the walk, then the second look, by whoever waits for it
    piece      a few minutes of it within a number of calls, for the timer
    repair     what differs goes back on the queue, forced: the ordinary path with its removal guard (design.md §2.7)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from sync_core import __version__
from sync_core.errors import ConfigurationError, Unavailable
from sync_core.flows.detect import OPPORTUNITY
from sync_core.flows.foreseen import OBJECTS, ONE, OUT_OF_STEP, Change, foreseen
from sync_core.flows.guard import PAIR, ask_for_comparison, check_pair
from sync_core.flows.id_file import IdFile
from sync_core.flows.observe import PER_CALL, chunks
from sync_core.flows.reconcile import AUDIT, NOT_VISIBLE, reconcile
from sync_core.flows.rehearsal import WHOLE, rehearse
from sync_core.flows.world import World
from sync_core.messages import split
from sync_core.model import Lane, LedgerRow, MarketoObject, State, Work
from sync_core.rules.sums import GROUPED, add, lines

PROGRESS, LAST = ("audit", "progress"), ("audit", "last")
TOLD_LAST = ("stamp", "audit")
"""What `status` tells of the last complete one: `{"at", "opportunities", "differences", "repaired": bool}`."""
SUSPECTS = "audit suspects"
OPPORTUNITIES, UNKNOWN, COMPANIES, SALES_PERSONS = "opportunities", "unknown", "companies", "sales persons"
PHASES = (OPPORTUNITIES, UNKNOWN, COMPANIES, SALES_PERSONS)
KINDS = {
    OPPORTUNITIES: (MarketoObject.OPPORTUNITY, "opportunities"),
    COMPANIES: (MarketoObject.COMPANY, "accounts"),
    SALES_PERSONS: (MarketoObject.SALES_PERSON, "users"),
}
"""By phase: what is compared, and what `Work` and `World.ledgers` call it."""

MISSING, EXTRA, DIFFERENT = "missing", "extra", "different"
LATER = "on their way"  # the sync has not handled it yet, or knows why it can't
FORGOTTEN = "remembered otherwise"  # Marketo is as it should be, and our memory of it is not
GOES_STALE = timedelta(days=7)  # what was begun longer ago begins anew: a report is of one time
PIECE = 6 * PER_CALL  # full calls, and few enough to be looked at within a minute
UNLIMITED = 10**9


TOLD = (LATER, FORGOTTEN, "left out", "not shown by Dynamics", "roles of others")

Differs = Callable[[Mapping[str, Any]], object]


@dataclass(slots=True)
class Walk:
    """How far an audit came, as it is kept with the state.

    `run` names it: when it began. `phase` and `after` (an id) say where it goes on; `number` counts the pieces. Of what
    was compared `counts`, the reasons of what is known to be out of step, and the sums; `spent`: calls by day.
    """

    run: str
    mapping: str
    phase: str = OPPORTUNITIES
    after: str = ""
    number: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, dict[str, int]] = field(default_factory=dict)
    sums: dict[str, Any] = field(default_factory=dict)
    spent: Counter[str] = field(default_factory=Counter)


# --- by whoever waits for it ------------------------------------------------------------------------------------


def audit(
    world: World,
    differs: Differs,
    *,
    again: bool = False,
    go_on: Callable[[], bool] = lambda: True,
    progress: Callable[[int], object] = lambda _: None,
) -> dict[str, Any]:
    """The summary; *differs* gets each difference with the values of both sides, which are kept nowhere.

    *again*: from the beginning, wherever an earlier one ended. When *go_on* says no it ends with what it has, and the
    next one goes on from there. Raises ConfigurationError where nothing was ever synced, RetryLater when a service
    can't be read: what was compared until then counts.
    """
    with _auditor(world, go_on, progress) as auditor:
        auditor.begin(again=again)
        return auditor.finish(differs) if auditor.walk() else auditor.summary(complete=False)


def sample(world: World, differs: Differs, number: int, chosen: Callable[[int], int]) -> dict[str, Any]:
    """So many opportunities and companies, by chance; nothing is kept. *chosen*(n) is a number below n."""
    with _auditor(world) as auditor:
        auditor.check()
        for phase in (OPPORTUNITIES, COMPANIES):
            ids: list[str] = []
            for seen, id in enumerate(chain.from_iterable(world.ledgers[KINDS[phase][1]].ids())):
                if len(ids) < number:
                    ids.append(id)
                elif (place := chosen(seen + 1)) < number:
                    ids[place] = id
            for batch in chunks(ids, PIECE):
                auditor.confirm({phase: auditor.compare(phase, batch)}, differs)
        return auditor.summary(complete=True, recount=False) | {"sample": number}


def last(world: World) -> dict[str, Any]:
    """What the last complete one found. Raises ConfigurationError if there is none."""
    document = world.documents.read(*LAST)
    if document is None:
        raise ConfigurationError("no audit was completed yet: run `audit`")
    return dict(document.value)


def look_again(world: World, found: Mapping[str, Any], differs: Differs) -> int:
    """How many of the differences that an audit found are still there."""
    with _auditor(world) as auditor:
        for suspects in _suspects(world, found["audit"]):
            auditor.confirm(suspects, differs)
        return auditor.book.counts["differ"]


def repair(world: World, found: Mapping[str, Any]) -> dict[str, int]:
    """Queue all that a complete audit found, forced: the ordinary path with its guard; what was done, in numbers."""
    queued: Counter[str] = Counter()
    lane = Lane.FRESH if found["differences"] <= world.config.sync.fresh_max else Lane.SLOW
    for suspects in _suspects(world, found["audit"]):
        for work in split(replace(_work(suspects, "repair"), lane=lane)):
            world.queue.put(work)
            queued["records queued"] += work.size
    if found["not shown by Dynamics"]:
        ask_for_comparison(world)
        queued["looked for in Dynamics at the next tick"] = found["not shown by Dynamics"]
    if found["counters that are wrong"]:
        for ledger in world.ledgers.values():
            ledger.recount(mend=True)
        queued["counters put right"] = len(found["counters that are wrong"])
    world.change(*TOLD_LAST, lambda told: {**told, "repaired": True} if told else None)
    return dict(queued)


# --- by the timer -----------------------------------------------------------------------------------------------


def piece(world: World, *, go_on: Callable[[], bool]) -> dict[str, Any] | None:
    """Go on with the audit that sync.toml asks for, if one is due, while the day has calls left for it.

    The summary, if it became complete with this.
    """
    config, now = world.config.audit, world.clock.now()
    if not config.every:
        return None
    begun, ended = world.documents.read(*PROGRESS), world.documents.read(*LAST)
    every = timedelta(days=int(config.every.strip("PD")))
    if begun is None and ended and datetime.fromisoformat(ended.value["audit"]) + every > now:
        return None
    with _auditor(world, lambda: go_on() and auditor.spent_today() < config.calls_a_day) as auditor:
        auditor.begin()
        if not auditor.go_on() or not auditor.walk():
            return None
        found = auditor.finish(lambda _: None)
    return found | {"repair": repair(world, found)} if config.repair else found


# --- the walk and the second look -------------------------------------------------------------------------------


class _Auditor:
    def __init__(
        self,
        world: World,
        go_on: Callable[[], bool] = lambda: True,
        progress: Callable[[int], object] = lambda _: None,
    ) -> None:
        guard = world.config.removals.model_copy(update={"max_count": UNLIMITED})
        self.world = replace(
            world,
            config=world.config.model_copy(update={"removals": guard}),  # what the guard holds back would not be told
            target=world.target.yielding(),
            fan_out=world.fan_out_slow,
        )
        self.go_on = go_on
        self.progress = progress
        self.book = Walk(world.clock.now().isoformat(timespec="seconds"), world.config.version)
        self.ticket: str | None = None
        self.rehearsal = rehearse(self.world)

    def check(self) -> None:
        if self.world.documents.read("feed", OPPORTUNITY) is None:
            raise ConfigurationError("there is nothing to compare: nothing was synced yet. Run `sync` first")
        check_pair(self.rehearsal.world)

    def begin(self, *, again: bool = False) -> None:
        """Go on with what was begun, unless that is too long ago or was by another mapping."""
        self.check()
        document = self.world.documents.read(*PROGRESS)
        if document is not None:
            self.ticket, known = document.ticket, _walk(document.value)
            stale = datetime.fromisoformat(known.run) + GOES_STALE < self.world.clock.now()
            if not (again or stale or known.mapping != self.book.mapping):
                self.book = known
                return
            _discard(self.world, known.run)
        self._save()

    def spent_today(self) -> int:
        return self.book.spent[self._today]

    def walk(self) -> bool:
        """Compare everything that was not compared yet; whether nothing is left."""
        for phase in PHASES[PHASES.index(self.book.phase) :] if self.book.phase else ():
            self.book.phase = phase
            ids = self._unknown() if phase == UNKNOWN else self._known(phase)
            for batch in chunks(ids, PIECE):
                kind = OPPORTUNITIES if phase == UNKNOWN else phase
                if suspects := self.compare(kind, batch):
                    name = f"{self.book.run} {self.book.number:08d}"
                    self.world.change(SUSPECTS, name, lambda _, found={kind: suspects}: found)  # type: ignore[misc]
                self.book.number, self.book.after = self.book.number + 1, batch[-1]
                self._save()
                self.progress(sum(self.book.counts[each] for each in KINDS))
                if not self.go_on():
                    return False
            self.book.after = ""
        self.book.phase = ""
        self._save()
        return True

    def finish(self, differs: Differs) -> dict[str, Any]:
        """The second look; then this is the last complete audit, and the one before is forgotten."""
        for suspects in _suspects(self.world, self.book.run):
            self.confirm(suspects, differs)
        found = self.summary(complete=True)
        before = self.world.documents.read(*LAST)
        self.world.change(*LAST, lambda _: found)
        told = {"at": found["until"], "opportunities": found["compared"].get(OPPORTUNITIES, 0)}
        told |= {"differences": found["differences"], "repaired": False}
        self.world.change(*TOLD_LAST, lambda _: told)
        self.world.documents.delete(*PROGRESS)
        if before is not None and before.value["audit"] != self.book.run:
            _discard(self.world, before.value["audit"])
        return found

    def compare(self, phase: str, ids: Sequence[str]) -> list[str]:
        """Look at one piece for the first time; what has to be looked at again."""
        found = self._deliver(phase, ids)
        for change in found:
            self._count(change)
        if phase == OPPORTUNITIES:
            self._sum(found)
        return [change.before.id for change in found if judged(change)]

    def confirm(self, suspects: Mapping[str, Sequence[str]], differs: Differs) -> None:
        """Look again at what differed; what differs still is told."""
        self.close()
        self.rehearsal = rehearse(self.world)  # nothing of the first look is believed
        for phase, ids in suspects.items():
            for change in self._deliver(phase, ids):
                if what := judged(change):
                    self._count_difference(what, change)
                    differs(_difference(what, change))

    def _known(self, phase: str) -> Iterator[str]:
        """What the ledger knows, gone or not, behind where it goes on."""
        if phase == SALES_PERSONS and not self.world.config.owner.salesperson:
            return iter(())
        ledger = self.world.ledgers[KINDS[phase][1]]
        return chain.from_iterable(ledger.ids(after=self.book.after, gone=phase == OPPORTUNITIES))

    def _unknown(self) -> Iterator[str]:
        """Opportunities of Dynamics that the ledger doesn't know: new ones, or an oversight of ours."""
        with IdFile() as known:
            for ids in self.world.opportunities.ids(gone=True):
                known.add(ids)
            for ids in self.world.source.ids(OPPORTUNITY):
                yield from known.lacking(ids)

    def _deliver(self, phase: str, ids: Sequence[str]) -> list[Change]:
        """What a delivery would change that trusts no memory. Raises what would put it back on the queue."""
        kind, work = KINDS[phase][0], _work({phase: ids}, AUDIT)
        asked = self.rehearsal.marketo.asked
        outcome = reconcile(self.rehearsal.world, work, force=True, deadline=self.world.clock.now() + WHOLE)
        self.book.spent[self._today] += self.rehearsal.marketo.asked - asked
        if outcome.trouble is not None:
            raise outcome.trouble
        found = foreseen(self.rehearsal, self.world.config)
        self.rehearsal.marketo.forget()
        wanted = set(ids)
        return [change for change in found if change.kind is kind and change.before.id in wanted]

    # --- what is told -------------------------------------------------------------------------------------------

    def _count(self, change: Change) -> None:
        """What was compared, and what is known to be out of step."""
        before, after, counts = change.before, change.after, self.book.counts
        counts[OBJECTS[change.kind]] += 1
        counts["left out"] += after.left_out
        counts["not shown by Dynamics"] += before.state is State.IN_STEP and after.reason.startswith(NOT_VISIBLE)
        counts["roles"] += len(change.added) + len(change.kept)
        counts["roles of others"] += len(change.held) - len(change.kept) - len(change.removed)
        if before.state in OUT_OF_STEP:
            reasons = self.book.reasons.setdefault(str(before.state), {})
            reasons[before.reason] = reasons.get(before.reason, 0) + 1

    def _sum(self, found: Sequence[Change]) -> None:
        fields = self.world.config.opportunity.fields.keys() & GROUPED
        extra = [change.external for change in found if change.does == "remove"]
        held: dict[str, Mapping[str, Any]] = {}
        for keys in chunks(extra if fields else ()):
            held |= self.rehearsal.marketo.records(MarketoObject.OPPORTUNITY, keys, fields)
        for change in found:
            if change.record:
                add(self.book.sums, "Dynamics", change.record)
            if change.does == "update" or change.external in held:
                add(self.book.sums, "Marketo", held.get(change.external, change.present))

    def _count_difference(self, what: str, change: Change) -> None:
        counts = self.book.counts
        if what in (LATER, FORGOTTEN):
            counts[what] += 1
            return
        counts["differ"] += 1
        if change.does in ("create", "remove") or change.fields:
            counts[f"{OBJECTS[change.kind]} {what}"] += 1
        for of_roles, records in _roles(change):
            counts[f"roles {of_roles}"] += len(records)

    def summary(self, *, complete: bool, recount: bool = True) -> dict[str, Any]:
        """What there is to say so far, in plain values; of a complete one all of it."""
        book, pair = self.book, self.world.documents.read(*PAIR)
        counts = book.counts
        objects = [*(name for name in OBJECTS.values() if counts[name]), "roles"]
        found: dict[str, Any] = {
            "audit": book.run,
            "until": self.world.clock.now().isoformat(timespec="seconds"),
            "complete": complete,
            "version": __version__,
            "mapping": book.mapping,
            "organization": pair.value["organization"] if pair else "",
            "subscription": self.world.subscription,
            "compared": {name: counts[name] for name in objects},
            "differences": counts["differ"],
            **{name: {what: counts[f"{name} {what}"] for what in (MISSING, EXTRA, DIFFERENT)} for name in objects},
            **{
                name: counts[name]
                for name in (LATER, FORGOTTEN, "left out", "not shown by Dynamics", "roles of others")
            },
            "known to be out of step": book.reasons,
            "sums": lines(book.sums),
            "Marketo calls": book.spent.total(),
        }
        return found | {"counters that are wrong": self._recounted() if complete and recount else {}}

    def _recounted(self) -> dict[str, int]:
        return {
            f"{name}, {of}": number
            for name, ledger in self.world.ledgers.items()
            for of, number in ledger.recount().items()
        }

    # --- what is kept -------------------------------------------------------------------------------------------

    @property
    def _today(self) -> str:
        return self.world.clock.now().date().isoformat()

    def _save(self) -> None:
        self.ticket = self.world.documents.write(*PROGRESS, _plain(self.book), self.ticket)
        if self.ticket is None:
            raise Unavailable("another audit is under way; this one ends here", delay=600)

    def close(self) -> None:
        self.rehearsal.kept.close()


@contextmanager
def _auditor(
    world: World, go_on: Callable[[], bool] = lambda: True, progress: Callable[[int], object] = lambda _: None
) -> Iterator[_Auditor]:
    auditor = _Auditor(world, go_on, progress)
    try:
        yield auditor
    finally:
        auditor.close()


def _work(ids: Mapping[str, Sequence[str]], why: str) -> Work:
    """Forced; *ids* by phase."""
    opportunities, accounts, users = (tuple(ids.get(phase, ())) for phase in KINDS)
    return Work(opportunities, accounts, users=users, force=True, why=why)


def judged(change: Change) -> str:
    """What a difference is; nothing for a record that is as it should be."""
    if not change.differs:
        return FORGOTTEN if _forgotten(change) else ""
    if _later(change):
        return LATER
    return {"create": MISSING, "remove": EXTRA}.get(change.does, DIFFERENT)


def _later(change: Change) -> bool:
    """Whether the sync has not come to it: what it remembers is not what Dynamics shows now, or it waits anyway."""
    before, after = change.before, change.after
    if not before.known or before.state in OUT_OF_STEP:
        return True
    if change.does == "remove":
        return bool(before.fields)  # of what was removed nothing is remembered
    was, now = _reasons(before), _reasons(after)
    reasons = now - was or (was - now and after.state is State.IN_STEP)
    return bool(reasons) or any(before.fields.get(name) != after.fields.get(name) for name in change.record)


def _forgotten(change: Change) -> bool:
    before, after = change.before, change.after
    if before.state is not State.IN_STEP or after.reason.startswith(NOT_VISIBLE):
        return False
    keys = [{role.key for role in row.roles} for row in (before, after)]
    return after.state is not State.IN_STEP or keys[0] != keys[1]


def _reasons(row: LedgerRow) -> set[str]:
    return {reason for role in row.roles for reason in role.reasons}


def _roles(change: Change) -> tuple[tuple[str, Sequence[Mapping[str, Any]]], ...]:
    return (MISSING, change.added), (EXTRA, change.removed), (DIFFERENT, change.changed)


def _difference(what: str, change: Change) -> dict[str, Any]:
    """In plain values; people by their ids."""
    fields = {name: {"Marketo": present, "Dynamics": wanted} for name, (present, wanted) in change.fields.items()}
    roles = {
        of: [{"person": record["leadId"], "role": record["role"]} for record in records]
        for of, records in _roles(change)
        if records
    }
    found = {"object": ONE[change.kind], "id": change.before.id, "what": what}
    return found | ({"fields": fields} if fields else {}) | ({"roles": roles} if roles else {})


def _walk(value: Mapping[str, Any]) -> Walk:
    return Walk(**{**value, "counts": Counter(value["counts"]), "spent": Counter(value["spent"])})


def _plain(walk: Walk) -> dict[str, Any]:
    return {
        **asdict(replace(walk, counts=Counter(), spent=Counter())),
        "counts": {**walk.counts},
        "spent": {**walk.spent},
    }


def _suspects(world: World, run: str) -> Iterator[Mapping[str, Sequence[str]]]:
    """What an audit has to look at again, by phase, piece by piece."""
    after = f"{run} "
    while found := world.documents.list(SUSPECTS, after=after, limit=20):
        for name, value in found:
            if not name.startswith(f"{run} "):
                return
            yield value
        after = found[-1][0]


def _discard(world: World, run: str) -> None:
    """Forget the suspects of an audit that nobody will ask for any more."""
    while found := [name for name, _ in world.documents.list(SUSPECTS, after=f"{run} ") if name.startswith(f"{run} ")]:
        for name in found:
            world.documents.delete(SUSPECTS, name)
