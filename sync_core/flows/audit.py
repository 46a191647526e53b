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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from sync_core import __version__
from sync_core.errors import ConfigurationError, Unavailable
from sync_core.flows.applied import MAPPING
from sync_core.flows.detect import OPPORTUNITY
from sync_core.flows.foreseen import OBJECTS, ONE, OUT_OF_STEP, Change, foreseen
from sync_core.flows.guard import PAIR, PAUSE, ask_for_comparison, check_pair
from sync_core.flows.id_file import IdFile
from sync_core.flows.observe import PER_CALL, chunks, suspended
from sync_core.flows.reconcile import AUDIT, NOT_VISIBLE, reconcile
from sync_core.flows.rehearsal import WHOLE, Rehearsal, rehearse, role_of, same_role, work_of
from sync_core.flows.world import World
from sync_core.messages import split
from sync_core.model import Lane, LedgerRow, MarketoObject, State
from sync_core.ports import Ledger
from sync_core.rules.fields import digests
from sync_core.rules.sums import GROUPED, add, lines

PROGRESS, LAST = ("audit", "progress"), ("audit", "last")
TOLD_LAST = ("stamp", "audit")
"""What `status` tells of the last complete one: `{"at", "opportunities", "differences", "repaired": bool}`."""
SUSPECTS = "audit suspects"
OPPORTUNITIES, UNKNOWN, COMPANIES, SALES_PERSONS = "opportunities", "unknown", "companies", "sales persons"
PHASES = (OPPORTUNITIES, UNKNOWN, COMPANIES, SALES_PERSONS)
SECOND_LOOK, DONE = "second look", "done"
KINDS = {
    OPPORTUNITIES: (MarketoObject.OPPORTUNITY, "opportunities"),
    COMPANIES: (MarketoObject.COMPANY, "accounts"),
    SALES_PERSONS: (MarketoObject.SALES_PERSON, "users"),
}
"""By phase: what is compared, and what `Work` and `World.ledgers` call it."""

MISSING, EXTRA, DIFFERENT = "missing", "extra", "different"
LATER = "on their way"  # the sync has not come to it yet, or knows why it can't
FORGOTTEN = "remembered otherwise"  # Marketo is as it can be, and our memory of it is not
GOES_STALE = timedelta(days=7)  # what nobody went on with for so long begins anew: a report is of one time
PIECE = 6 * PER_CALL  # full calls, and few enough to be looked at within a minute
UNLIMITED = 10**9
CLOCKS_DIFFER = timedelta(minutes=2)


TOLD = (LATER, FORGOTTEN, "not compared", "left out", "not shown by Dynamics", "roles of others")

Differs = Callable[[Mapping[str, Any]], object]


@dataclass(slots=True)
class Walk:
    """How far an audit came, as it is kept with the state.

    `run` names it: when it began; `at`: when it last got on. `phase` and `after` (an id, or the name of suspects) say
    where it goes on; `number` counts the pieces. Of what was compared `counts`, the reasons of what is known to be out
    of step, and the sums; `spent`: calls by day.
    """

    run: str
    mapping: str
    at: str = ""
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
        told = auditor.book.phase != SECOND_LOOK  # else some differences were told to whoever began it
        if not (auditor.walk() and auditor.second_look(differs if told else _nobody)):
            return auditor.summary(complete=False)
        found = auditor.finish()
    if not told:
        look_again(world, found, differs)
    return found


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
    """How many of the differences that an audit found are still there; when none is, `status` tells that."""
    with _auditor(world) as auditor:
        for _, confirmed in _suspects(world, found["audit"]):
            auditor.confirm(confirmed, differs)
        left = auditor.book.counts["differ"]
    if not left:
        _told_repaired(world)
    return left


def repair(world: World, found: Mapping[str, Any]) -> dict[str, int]:
    """Queue what a complete audit found, forced: the ordinary path with its guard; what was done, in numbers.

    What the sync will come to by itself is left to it.
    """
    queued: Counter[str] = Counter()
    lane = Lane.FRESH if found["differences"] + found[FORGOTTEN] <= world.config.sync.fresh_max else Lane.SLOW
    for _, confirmed in _suspects(world, found["audit"]):
        for phase, ids in confirmed.items():
            for work in split(replace(work_of(KINDS[phase][0], ids, "repair"), lane=lane, force=True)):
                world.queue.put(work)
                queued["records queued"] += work.size
    if found["not shown by Dynamics"]:
        ask_for_comparison(world)
        queued["looked for in Dynamics at the next tick"] = found["not shown by Dynamics"]
    if found["counters that are wrong"]:
        for ledger in world.ledgers.values():
            ledger.recount(mend=True)
        queued["counters put right"] = len(found["counters that are wrong"])
    _told_repaired(world)
    return dict(queued)


def _told_repaired(world: World) -> None:
    world.change(*TOLD_LAST, lambda told: {**told, "repaired": True} if told else None)


def _nobody(_: Mapping[str, Any]) -> None: ...


# --- by the timer -----------------------------------------------------------------------------------------------


def piece(world: World, *, go_on: Callable[[], bool]) -> dict[str, Any] | None:
    """Go on with the audit that sync.toml asks for, if one is due, while the day has calls left for it.

    The summary, if it became complete with this.
    """
    config, now, often = world.config.audit, world.clock.now(), every(world)
    if often is None:
        return None
    begun, ended = world.documents.read(*PROGRESS), world.documents.read(*LAST)
    idle = begun is None or begun.value["phase"] == DONE
    if idle and ended and datetime.fromisoformat(ended.value["audit"]) + often > now:
        return None
    with _auditor(world, lambda: go_on() and auditor.spent_today() < config.calls_a_day) as auditor:
        auditor.begin()
        if not (auditor.go_on() and auditor.walk() and auditor.second_look(_nobody)):
            return None
        found = auditor.finish()
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
        version = world.config.version
        # What the guard holds back, for its number or because of a changed mapping, would not be told.
        self.world = replace(
            world,
            config=world.config.model_copy(update={"removals": guard}),
            opportunities=LedgerOfToday(world.opportunities, version),
            target=world.target.yielding(),
            fan_out=world.fan_out_slow,
        )
        self.go_on = go_on
        self.progress = progress
        self.book = Walk(world.clock.now().isoformat(timespec="seconds"), version)
        self.ticket: str | None = None
        self.rehearsal = self._rehearsal()

    def _rehearsal(self) -> Rehearsal:
        rehearsal = rehearse(self.world)
        rehearsal.marketo.known = {}  # what a probe found out excuses nothing here
        return rehearsal

    def check(self) -> None:
        if self.world.documents.read("feed", OPPORTUNITY) is None:
            raise ConfigurationError("there is nothing to compare: nothing was synced yet. Run `sync` first")
        if (pause := self.world.documents.read(*PAUSE)) and "cleanup" in pause.value:
            raise ConfigurationError("a cleanup removed what the sync wrote: there is nothing to compare")
        check_pair(self.rehearsal.world)

    def begin(self, *, again: bool = False) -> None:
        """Go on with what was begun, unless nobody did for too long or it was by another mapping."""
        self.check()
        document = self.world.documents.read(*PROGRESS)
        if document is None:
            self._save()
            return
        self.ticket, known = document.ticket, _walk(document.value)
        goes_stale = max(GOES_STALE, every(self.world) or GOES_STALE)
        stale = datetime.fromisoformat(known.at) + goes_stale < self.world.clock.now()
        if not (again or stale or known.phase == DONE or known.mapping != self.book.mapping):
            self.book = known
            return
        self._save()
        if known.phase != DONE:
            _discard(self.world, known.run)

    def spent_today(self) -> int:
        return self.book.spent[self._today]

    def walk(self) -> bool:
        """Compare everything that was not compared yet; whether nothing is left."""
        for phase in PHASES[PHASES.index(self.book.phase) :] if self.book.phase in PHASES else ():
            self.book.phase = phase
            for batch in chunks(self._unknown() if phase == UNKNOWN else self._known(phase), PIECE):
                kind = OPPORTUNITIES if phase == UNKNOWN else phase
                if suspects := self.compare(kind, batch):
                    self._keep_suspects(f"{self.book.run} {self.book.number:08d}", {kind: suspects})
                self.book.number, self.book.after = self.book.number + 1, batch[-1]
                self._save()
                self.progress(sum(self.book.counts[each] for each in KINDS))
                if not self.go_on():
                    return False
            self.book.after = ""
        if self.book.phase in PHASES:
            self.book.phase = SECOND_LOOK
            self._save()
        return True

    def second_look(self, differs: Differs) -> bool:
        """Look again at what differed, and keep what does still; whether nothing is left."""
        for name, suspects in _suspects(self.world, self.book.run, after=self.book.after):
            self._keep_suspects(name, self.confirm(suspects, differs))
            self.book.after = name
            self._save()
            if not self.go_on():
                return False
        return True

    def finish(self) -> dict[str, Any]:
        """Then this is the last complete audit, and the one before is forgotten."""
        self.book.phase = DONE
        self._save()
        found, before = self.summary(complete=True), self.world.documents.read(*LAST)
        self.world.change(*LAST, lambda _: found)
        told = {"at": found["until"], "opportunities": found["compared"].get(OPPORTUNITIES, 0)}
        told |= {"differences": found["differences"], "repaired": False}
        self.world.change(*TOLD_LAST, lambda _: told)
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
        return [change.before.id for change in found if judge(change)]

    def confirm(self, suspects: Mapping[str, Sequence[str]], differs: Differs) -> dict[str, list[str]]:
        """Look again at what differed; what does still is told, and returned but for what is on its way."""
        self.close()
        self.rehearsal = self._rehearsal()  # nothing of the first look is believed
        confirmed: dict[str, list[str]] = {}
        for phase, ids in suspects.items():
            changes = self._deliver(phase, ids)
            later = (each.before for each in changes if judge(each).what == LATER)
            missed = self._missed(phase, [row.id for row in later if row.state not in OUT_OF_STEP])
            for change in changes:
                if found := judge(change, missed=change.before.id in missed):
                    self._count_difference(found)
                    differs(found.plain())
                    if found.what != LATER:
                        confirmed.setdefault(phase, []).append(change.before.id)
        return confirmed

    def _missed(self, phase: str, ids: Collection[str]) -> set[str]:
        """Of what the sync has yet to come to what it should have come to: it changed before the last tick that read
        Dynamics, every queue is empty, no mapping waits to be applied. Then nothing will bring it any more.
        """
        tick, mapping = self.world.documents.read("run", "detect"), self.world.documents.read(*MAPPING)
        settled = mapping is not None and mapping.value["version"] == self.world.config.version
        settled = settled and not (mapping and (mapping.value.get("applying") or mapping.value.get("waits")))
        read = tick.value.get("read") if tick else None
        if not ids or phase != OPPORTUNITIES or read is None or not settled or any(self.world.queue.lengths().values()):
            return set()
        rows = self.world.source.rows("opportunity", ids, {"modifiedon"})
        until = datetime.fromisoformat(read) - CLOCKS_DIFFER
        return {key for key, row in rows.items() if datetime.fromisoformat(row["modifiedon"]) < until}

    def _known(self, phase: str) -> Iterator[str]:
        """What the ledger knows, gone or not, behind where it goes on."""
        if phase == SALES_PERSONS and not self.world.config.owner.salesperson:
            return iter(())
        ledger = self.world.ledgers[KINDS[phase][1]]
        return chain.from_iterable(ledger.ids(after=self.book.after, gone=phase == OPPORTUNITIES))

    def _unknown(self) -> Iterator[str]:
        """Opportunities of Dynamics that the ledger doesn't know: new ones, or an oversight of ours; in order of id."""
        with IdFile() as known, IdFile() as unknown:
            for ids in self.world.opportunities.ids(gone=True):
                known.add(ids)
            for ids in self.world.source.ids(OPPORTUNITY):
                unknown.add(known.lacking(ids))
            yield from unknown.behind(self.book.after)

    def _deliver(self, phase: str, ids: Sequence[str]) -> list[Change]:
        """What a delivery would change that trusts no memory. Raises what would put it back on the queue."""
        kind = KINDS[phase][0]
        work = work_of(kind, ids, AUDIT)
        asked = self.rehearsal.marketo.asked
        outcome = reconcile(self.rehearsal.world, work, force=True, deadline=self.world.clock.now() + WHOLE)
        self.book.spent[self._today] += self.rehearsal.marketo.asked - asked
        if outcome.trouble is not None:
            raise outcome.trouble
        found = foreseen(self.rehearsal, self.world.config)
        described = self.rehearsal.marketo.describe(kind) if kind is MarketoObject.SALES_PERSON else {}
        for change in found:  # what can be set on creation alone is no difference afterwards (marketo.md §3.5)
            for name in [name for name in change.fields if name in described and not described[name].updateable]:
                del change.fields[name]
        self.rehearsal.marketo.forget()
        wanted = set(ids)
        return [change for change in found if change.kind is kind and change.before.id in wanted]

    # --- what is told -------------------------------------------------------------------------------------------

    def _count(self, change: Change) -> None:
        """What was compared, and what is known to be out of step."""
        before, after, counts = change.before, change.after, self.book.counts
        if change.record or after.state is State.GONE or after.left_out:
            counts[OBJECTS[change.kind]] += 1
        else:
            counts["not compared"] += 1
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

    def _count_difference(self, found: Judged) -> None:
        counts = self.book.counts
        if found.what in (LATER, FORGOTTEN):
            counts[found.what] += 1
            return
        counts["differ"] += 1
        if found.what in (MISSING, EXTRA) or found.fields:
            counts[f"{OBJECTS[found.kind]} {found.what}"] += 1
        for of_roles, records in found.roles.items():
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
            **{name: counts[name] for name in TOLD},
            "known to be out of step": book.reasons,
            "left alone": suspended(self.rehearsal.world),
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
        self.book.at = self.world.clock.now().isoformat(timespec="seconds")
        self.ticket = self.world.documents.write(*PROGRESS, _plain(self.book), self.ticket)
        if self.ticket is None:
            raise Unavailable("another audit is under way; this one ends here", delay=600)

    def _keep_suspects(self, name: str, ids: Mapping[str, Sequence[str]]) -> None:
        if ids:
            self.world.change(SUSPECTS, name, lambda _: dict(ids))
        else:
            self.world.documents.delete(SUSPECTS, name)

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


class LedgerOfToday:
    """Port `Ledger`: each row as if the mapping of now had made it, so that nothing is held because of another."""

    def __init__(self, base: Ledger, mapping: str) -> None:
        self.write, self.due, self.in_state, self.pointers = base.write, base.due, base.in_state, base.pointers
        self.counts, self.tally, self.ids, self.recount = base.counts, base.tally, base.ids, base.recount
        self._base = base
        self._mapping = mapping

    def rows(self, ids: Collection[str]) -> Mapping[str, LedgerRow]:
        return {key: replace(row, mapping=self._mapping) for key, row in self._base.rows(ids).items()}


# --- what a difference is ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judged:
    """`what` is the matter with a record, and with which `fields` ([in Marketo, demanded]) and roles, by what is."""

    what: str
    kind: MarketoObject
    id: str
    fields: Mapping[str, Sequence[Any]]
    roles: Mapping[str, Sequence[Mapping[str, Any]]]

    def __bool__(self) -> bool:
        return bool(self.what)

    def plain(self) -> dict[str, Any]:
        """People stand in it as their ids; of sales persons, who are people, no value is told."""
        fields = {name: {"Marketo": present, "Dynamics": wanted} for name, (present, wanted) in self.fields.items()}
        if self.kind is MarketoObject.SALES_PERSON:
            fields = {name: dict.fromkeys(sides, "(not shown)") for name, sides in fields.items()}
        roles = {
            what: [{"person": record["leadId"], "role": record["role"]} for record in records]
            for what, records in self.roles.items()
        }
        found = {"object": ONE[self.kind], "id": self.id, "what": self.what}
        return found | ({"fields": fields} if fields else {}) | ({"roles": roles} if roles else {})


def judge(change: Change, *, missed: bool = False) -> Judged:
    """What a forced delivery would change is a difference where the sync believes that Marketo has it already: then
    somebody else changed Marketo. The rest it will come to; unless it *missed* that.
    """
    ours = change if missed else _of_others(change)
    roles = {MISSING: ours.added, EXTRA: ours.removed, DIFFERENT: ours.changed}
    what = {"create": MISSING, "remove": EXTRA}.get(ours.does, DIFFERENT) if ours.differs else ""
    if not what and change.differs:
        what, roles = LATER, {}
    elif not what and _forgotten(change):
        what = FORGOTTEN
    told = {of: records for of, records in roles.items() if records}
    return Judged(what, change.kind, change.before.id, ours.fields, told)


def _of_others(change: Change) -> Change:
    """The part of it that the sync believes to be in Marketo already, or gone from there."""
    before, known = change.before, {role.key: role for role in change.before.roles}
    wanted = digests(change.record)
    fields = {name: both for name, both in change.fields.items() if before.fields.get(name) == wanted.get(name)}
    if change.does == "create":
        does = change.does if before.fields else ""
    elif change.does == "remove":
        does = "" if before.fields else change.does
    else:
        does = change.does
    return replace(
        change,
        does=does,
        fields=fields if does != "create" or before.fields else {},
        added=[record for record in change.added if role_of(record).key in known],
        kept=[r for r in change.kept if (role := known.get(role_of(r).key)) and same_role(role, role_of(r))],
        removed=[record for record in change.removed if role_of(record).key not in known],
    )


def _forgotten(change: Change) -> bool:
    """Marketo is as it can be, and what is remembered of it is something else: roles, or that somebody is there."""
    before, after = change.before, change.after
    if before.state is not State.IN_STEP or after.reason.startswith(NOT_VISIBLE):
        return False
    keys = [{role.key for role in row.roles} for row in (before, after)]
    return after.state is not State.IN_STEP or keys[0] != keys[1]


# --- plain values -------------------------------------------------------------------------------------------------


def every(world: World) -> timedelta | None:
    """How often sync.toml asks for an audit."""
    text = world.config.audit.every
    return timedelta(days=int(text.strip("PD"))) if text else None


def _walk(value: Mapping[str, Any]) -> Walk:
    return Walk(**{**value, "counts": Counter(value["counts"]), "spent": Counter(value["spent"])})


def _plain(walk: Walk) -> dict[str, Any]:
    plain = asdict(replace(walk, counts=Counter(), spent=Counter()))
    return {**plain, "counts": {**walk.counts}, "spent": {**walk.spent}}


def _suspects(world: World, run: str, *, after: str = "") -> Iterator[tuple[str, Mapping[str, Sequence[str]]]]:
    """What an audit has to look at again, or found to differ, by phase, piece by piece, with the piece's name."""
    after = after or f"{run} "
    while found := world.documents.list(SUSPECTS, after=after, limit=20):
        for name, value in found:
            if not name.startswith(f"{run} "):
                return
            yield name, value
        after = found[-1][0]


def _discard(world: World, run: str) -> None:
    """Forget the suspects of an audit that nobody will ask for any more."""
    while found := [name for name, _ in world.documents.list(SUSPECTS, after=f"{run} ") if name.startswith(f"{run} ")]:
        for name in found:
            world.documents.delete(SUSPECTS, name)
