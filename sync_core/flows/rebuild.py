"""After the storage account was lost: our state again, from both services, while nothing is sent to Marketo.

A first load whose writes are only foretold: the real detect reads Dynamics, the real deliveries ask Marketo what it
holds. Between them and the real ledgers stands `LedgerFound`, which lets no row claim what Marketo does not hold
(design.md §2.2): what is in Marketo as the rules want it is written as it comes, everything else waits, for the
ordinary path and its guard.

    links taken → rows, people, connections → what only Marketo knows → queue → stamps and links stored

The links are stored last (design.md §2.1): they are older than every row, so that what changed meanwhile is found.
An interrupted rebuild begins again; rows that it wrote cost no Marketo call, unless they wait.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, TypeVar

from sync_core.errors import ConfigurationError, RetryLater
from sync_core.flows import status
from sync_core.flows.detect import OPPORTUNITY, detect, side_tables
from sync_core.flows.failures import by_reason
from sync_core.flows.guard import PAUSE, REMOVALS_HELD, ask_for_comparison, check_pair
from sync_core.flows.observe import chunks, in_halves, suspended
from sync_core.flows.reconcile import reconcile
from sync_core.flows.references import COMPANIES, COMPANY_ID, NOW_THERE, SALES_PERSON_ID, SALES_PERSONS, key_of
from sync_core.flows.rehearsal import (
    KEYS,
    TIME_BOX_S,
    WHOLE,
    DocumentsOver,
    Foretold,
    Kept,
    QueueApart,
    Rehearsal,
    rehearse,
    role_of,
    same_role,
    work_of,
)
from sync_core.flows.roles import OPPORTUNITY_ID, POSTED_TEXTS, ours, texts_of_ours
from sync_core.flows.world import World
from sync_core.mapping import SALES_PERSON_FIELDS, Key, place_of
from sync_core.messages import FULL, split
from sync_core.model import Lane, LedgerRow, MarketoObject, Pointer, Role, State, Work
from sync_core.ports import ConnectionMap, Ledger, Lookup
from sync_core.rules.fields import digests

MARK = ("stamp", "rebuild")
WHY = "rebuild"
STORED = ("feed", "stamp", "unmatched")  # of what detect and the deliveries keep; counters are of what was not sent
DUE_AFTER = timedelta(hours=1)  # what waits is queued at the end; if that message is lost, it is due then
OURS = "rebuild: "
MISSING = f"{OURS}not in Marketo"
DIFFERS = f"{OURS}{{}} differ in Marketo"
UNLINKED = f"{OURS}a person is tied to another company in Marketo, or to none"
LEAVES = f"{OURS}to be removed or marked in Marketo"
UNKNOWN = f"{REMOVALS_HELD} rebuild: Marketo has it under a key of ours, Dynamics does not have it"
T = TypeVar("T")
KINDS = {
    "opportunities": MarketoObject.OPPORTUNITY,
    "accounts": MarketoObject.COMPANY,
    "users": MarketoObject.SALES_PERSON,
}


def rebuild(world: World, *, progress: Callable[[int], object] = lambda _: None) -> dict[str, Any]:
    """Counts, for people. Raises ConfigurationError where there is state, or `sync` would not start; and RetryLater.

    The sync is paused before anything else happens, and stays so until a rebuild comes to its end.
    """
    if found := _begin(world):
        return found
    used = world.limiter.used_today()
    rehearsal = rehearse(world)
    try:
        run = _Rebuild(world, rehearsal, progress)
        run.run()
    finally:
        rehearsal.kept.close()
    calls = max(0, world.limiter.used_today() - used)  # the day's count may have begun anew
    return _summary(world, run, calls) | _end(world)


# --- begin and end ------------------------------------------------------------------------------------------------


def _begin(world: World) -> dict[str, Any]:
    """Stop the sync, before a tick takes the empty account for a first start; something if nothing is left to do."""
    mark, feed = world.documents.read(*MARK), world.documents.read("feed", OPPORTUNITY)
    by_us = _paused_by_us(world)
    if mark is not None and mark.value.get("stored") and feed is not None and by_us:
        return {"rebuilt": "by an earlier run, which ended before it said so"} | _end(world)
    if feed is not None and not by_us:
        world.documents.delete(*MARK)  # somebody resumed the sync: it went on with a first load
        raise ConfigurationError(
            "there is state already, so nothing was lost, or a first load is under way: let `sync` or the functions "
            "go on; `audit --repair` compares and mends. Nothing was done."
        )
    if left_alone := suspended(world):
        file = world.config.file
        told = "; ".join(f"{file.place(*place_of(name))}: {why}" for name, why in left_alone.items())
        raise ConfigurationError(f"a rebuild needs every mapped field. {told}. Nothing was done.")
    check_pair(world)
    if mark is None:
        value = {"since": world.clock.now().isoformat(timespec="seconds")}
        world.documents.write(*MARK, value | {"pauses": world.documents.read(*PAUSE) is None}, None)
        mark = world.documents.read(*MARK)
    if mark is not None and mark.value["pauses"] and world.documents.read(*PAUSE) is None:
        status.pause(world, WHY)
    return {}


def _paused_by_us(world: World) -> bool:
    mark, pause = world.documents.read(*MARK), world.documents.read(*PAUSE)
    return bool(mark and mark.value.get("pauses") and pause and pause.value["why"] == WHY)


def _end(world: World) -> dict[str, Any]:
    """Whoever paused the sync for another reason, before or meanwhile, resumes it."""
    if _paused_by_us(world):
        status.resume(world)
    world.documents.delete(*MARK)
    return {}


def _summary(world: World, run: _Rebuild, calls: int) -> dict[str, Any]:
    wanted = [name for name in KINDS if name != "users" or world.config.owner.salesperson]
    tallies = {name: world.ledgers[name].tally() for name in wanted}
    words = {"opportunities": "opportunities", "accounts": "companies", "users": "sales persons"}
    found: dict[str, Any] = {
        words[name]: {state: number for state in map(str, State) if (number := tally.counts.get(state, 0))}
        for name, tally in tallies.items()
    }
    reasons, unknown = Counter[str](), 0
    for (kind, _, reason), number in by_reason(tallies).items():
        unknown += number if reason == UNKNOWN else 0
        if reason.startswith(OURS):
            reasons[f"{kind} {reason.removeprefix(OURS)}"] += number
    return found | {
        "roles of ours": tallies["opportunities"].counts.get("roles", 0),
        "people found": run.people.found,
        "connections remembered": run.connections.remembered,
        "not as the rules want it, so it waits": dict(reasons),
        "in Marketo, not in Dynamics, so it is held": unknown,
        "queued": run.queued,
        "Marketo calls": calls,
    }


# --- the run --------------------------------------------------------------------------------------------------------


class _Rebuild:
    def __init__(self, real: World, rehearsal: Rehearsal, progress: Callable[[int], object]) -> None:
        self.real = real
        self.rehearsal = rehearsal
        self.progress = progress
        self.looked_at = self.queued = 0
        self.marketo = Asked(real.target, Forgetful())
        self.people = PeopleFound(real.people, self.marketo)
        self.connections = ConnectionsFound(real.connections)
        self.documents = DocumentsOver(real.documents)
        # A tick that was under way when the sync was paused began a first load: its place is not ours.
        self.documents.over |= {("feed", table): None for table in (*side_tables(real.config), OPPORTUNITY)}
        rehearsal.queue = QueueOfReads(rehearsal.kept)
        over = replace(
            rehearsal.world,
            queue=rehearsal.queue,
            target=self.marketo,
            people=self.people,
            connections=self.connections,
            documents=self.documents,
        )
        self.ledgers = {
            name: LedgerFound(over, self.marketo, ledger, KINDS[name]) for name, ledger in real.ledgers.items()
        }
        opportunities, companies, sales_persons = self.ledgers.values()
        self.world = replace(over, opportunities=opportunities, companies=companies, sales_persons=sales_persons)

    def run(self) -> None:
        while not self._patiently(lambda: detect(self.world, time_box=TIME_BOX_S)).complete:
            self._drain()
        self._drain()
        self._ask_marketo()
        self._queue_what_waits()
        self._store()

    def _patiently(self, action: Callable[[], T]) -> T:
        """As deliveries wait for the services, and no longer."""
        while True:
            try:
                found = action()
            except RetryLater as error:
                self.rehearsal.bear(error, error.delay)
            else:
                self.rehearsal.troubles = 0
                return found

    def _drain(self) -> None:
        while work := self.rehearsal.queue.take():
            self._deliver(work)

    def _deliver_all(self, work: Work) -> None:
        for part in split(work):
            self._deliver(part)
        self._drain()

    def _deliver(self, work: Work) -> None:
        deadline = self.world.clock.now() + WHOLE
        outcome = reconcile(self.world, work, force=work.force, deadline=deadline)
        self.marketo.forget()
        for ledger in self.ledgers.values():
            ledger.forget()
        self.looked_at += outcome.counts["handled"]
        self.progress(self.looked_at)
        self.rehearsal.put_back(outcome)

    # --- what Dynamics no longer leads to -----------------------------------------------------------------------

    def _ask_marketo(self) -> None:
        """By the accounts and users of Dynamics: what no opportunity names any more, opportunities that are gone."""
        for accounts in chunks(chain.from_iterable(self.world.source.ids("account"))):
            self._look_for_opportunities(self._adopt("accounts", accounts))
        if self.world.config.owner.salesperson:
            for users in chunks(chain.from_iterable(self.world.source.ids("systemuser"))):
                self._adopt("users", users)

    def _adopt(self, name: str, ids: Sequence[str]) -> list[str]:
        """Deliver those that Marketo has and the ledger does not know; the keys of all that Marketo has."""
        by_key = {self.ledgers[name].key.external(key): key for key in ids}

        def there(keys: Sequence[str]) -> Mapping[str, Any]:
            return self.marketo.records(KINDS[name], keys, ())

        found = list(self._patiently(lambda: in_halves(there, list(by_key))))
        self._deliver_all(work_of(KINDS[name], self._unknown(name, [by_key[key] for key in found]), WHY))
        return found

    def _look_for_opportunities(self, companies: list[str]) -> None:
        """Nobody but Marketo knows an opportunity any more that was deleted while there was no state."""

        def of_companies(keys: Sequence[str]) -> Mapping[str, Set[str]]:
            return self.marketo.holders(MarketoObject.OPPORTUNITY, COMPANY_ID, keys)

        ledger = self.ledgers["opportunities"]
        held = self._patiently(lambda: in_halves(of_companies, companies)) if companies else {}
        ids = {id for key in chain.from_iterable(held.values()) if (id := ledger.key.id_of(key))}
        unknown = self._unknown("opportunities", sorted(ids))
        shown = self.world.source.rows("opportunity", unknown, {"opportunityid"}) if unknown else {}
        self._deliver_all(Work(tuple(shown), why=WHY))
        self._patiently(lambda: ledger.hold([key for key in unknown if key not in shown]))
        self.marketo.forget()

    def _unknown(self, kind: str, ids: Collection[str]) -> tuple[str, ...]:
        known = self.real.ledgers[kind].rows(ids) if ids else {}
        return tuple(key for key in ids if key not in known)

    # --- queue, then mark ---------------------------------------------------------------------------------------

    def _queue_what_waits(self) -> None:
        for name, ledger in self.real.ledgers.items():
            pages = ledger.pointers(State.WAITING)
            ids = (pointer.id for page in pages for pointer in page if pointer.reason.startswith(OURS))
            for batch in chunks(ids, FULL):
                lane = Lane.FRESH if self.queued <= self.real.config.sync.fresh_max else Lane.SLOW
                seen = self.real.clock.now().isoformat(timespec="seconds")
                self.real.queue.put(replace(work_of(KINDS[name], batch, WHY), lane=lane, seen=seen))
                self.queued += len(batch)

    def _store(self) -> None:
        """The opportunity's link last: with it there is state. A comparison then looks for what went meanwhile."""
        self._remember_texts()
        ask_for_comparison(self.real)
        kept = {place: value for place, value in self.documents.over.items() if place[0] in STORED and value}
        self.real.change(*MARK, lambda value: {**value, "stored": True})
        for place in sorted(kept, key=lambda place: place == ("feed", OPPORTUNITY)):
            self._replace(place, kept[place])

    def _replace(self, place: tuple[str, str], value: Mapping[str, Any]) -> None:
        self.real.change(*place, lambda _: value)

    def _remember_texts(self) -> None:
        """A connection role may be renamed: what was adopted under the old name stays ours."""
        texts = self.ledgers["opportunities"].texts
        self.world.change(*POSTED_TEXTS, lambda value: {"texts": sorted(texts.union(value.get("texts", ())))})


# --- ports over the real ones -----------------------------------------------------------------------------------------


class Forgetful(Kept):
    """What would have been sent is forgotten: the next delivery, too, has to see what Marketo holds."""

    def __init__(self) -> None:
        pass

    def read(self, place: str, keys: Collection[str]) -> dict[str, str]:
        return {}

    def write(self, place: str, texts: Mapping[str, str]) -> None: ...


class Asked(Foretold):
    """Asks what there is, and nothing for a plan's sake alone."""

    __slots__ = ()

    @property
    def linked(self) -> set[int]:
        """People who would have been tied to another company by this delivery."""
        sent = (each for each in self.sent if each.kind is MarketoObject.LEAD)
        return {record["id"] for each in sent for record in each.records if "id" in record}

    def _ask_who_is_told(self, records: Sequence[Mapping[str, Any]], known: Sequence[bool]) -> None:
        missing = (record for record, there in zip(records, known, strict=True) if not there)
        self.roles_of |= {str(record[OPPORTUNITY_ID]): () for record in missing}


class QueueOfReads(QueueApart):
    """No company is there by what is only foretold: its opportunities would be looked at for ever."""

    def put(self, work: Work, *, after: timedelta = timedelta(0)) -> None:
        if work.why != NOW_THERE:
            super().put(work, after=after)


class PeopleFound:
    """Port `Lookup` over the real one: nobody who would have been created, or tied to a company, counts as done."""

    def __init__(self, base: Lookup, marketo: Asked) -> None:
        self._base = base
        self._marketo = marketo
        self.found = 0

    def read(self, ids: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        return self._base.read(ids)

    def write(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        undone = self._marketo.linked
        true = {key: each for key, each in values.items() if each["lead"] >= 0 and each["lead"] not in undone}
        self._base.write(true)
        self.found += sum(each["lead"] > 0 for each in true.values())

    def delete(self, ids: Collection[str]) -> None:
        self._base.delete(ids)

    def missing(self) -> int:
        return self._base.missing()


class ConnectionsFound:
    """Port `ConnectionMap`: the real one, counted."""

    def __init__(self, base: ConnectionMap) -> None:
        self.read, self.delete, self.tidy = base.read, base.delete, base.tidy
        self._base = base
        self.remembered = 0

    def write(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._base.write(pairs)
        self.remembered += len(pairs)


@dataclass(slots=True)
class _Told:
    """What one delivery would have sent for one record: its values and roles, the roles it takes away, its end."""

    record: dict[str, Any] = field(default_factory=dict)
    roles: list[Role] = field(default_factory=list)
    removed: list[Role] = field(default_factory=list)
    deleted: bool = False


class LedgerFound:
    """Port `Ledger` over the real one: what is written says what Marketo holds, not what it would if all had been sent.

    `texts` are those of the roles that were written.
    """

    def __init__(self, world: World, marketo: Asked, base: Ledger, kind: MarketoObject) -> None:
        self.in_state, self.tally, self.counts = base.in_state, base.tally, base.counts
        self.ids, self.recount = base.ids, base.recount
        self._world = world
        self._marketo = marketo
        self._base = base
        self._kind = kind
        self._before: dict[str, LedgerRow] = {}
        self.texts: set[str] = set()

    @property
    def key(self) -> Key:
        config = self._world.config
        if self._kind is MarketoObject.OPPORTUNITY:
            return config.opportunity.key
        return key_of(config, COMPANIES if self._kind is MarketoObject.COMPANY else SALES_PERSONS)

    def rows(self, ids: Collection[str]) -> Mapping[str, LedgerRow]:
        found = self._base.rows(ids)
        self._before |= found
        return found

    def forget(self) -> None:
        """What one delivery read."""
        self._before = {}

    def due(self, now: datetime, limit: int) -> Sequence[str]:
        """What waits does so for the ordinary path."""
        return ()

    def pointers(
        self, state: State, *, reason: str = "", after: str = "", size: int = 1000
    ) -> Iterator[Sequence[Pointer]]:
        return self._base.pointers(state, reason=reason, after=after, size=size)

    def write(self, rows: Sequence[LedgerRow]) -> set[str]:
        told = self._told()
        unasked = [row.id for row in rows if not self._was(row).fields and self._needs_asking(row, told)]
        held = self._held(unasked)
        true = [self._true(row, told.get(self.key.external(row.id)), held.get(row.id)) for row in rows]
        self.texts |= {role.text.casefold() for row in true for role in row.roles}
        return self._base.write(true)

    def hold(self, ids: Sequence[str]) -> int:
        """Opportunities that only Marketo knows; how many. Somebody has to say that they were ours (design.md §2.7)."""
        policy, flags = self._world.config.removals.policy, digests(self._world.config.removals.flag).items()
        if policy == "keep":
            return 0
        found = [row for row in self._held(ids).values() if policy == "delete" or not flags <= row.fields.items()]
        return len(found) - len(self._base.write([row.become(State.HELD, reason=UNKNOWN) for row in found]))

    # --- what Marketo holds -------------------------------------------------------------------------------------

    def _was(self, row: LedgerRow) -> LedgerRow:
        return self._before.get(row.id, LedgerRow(row.id))

    def _needs_asking(self, row: LedgerRow, told: Mapping[str, _Told]) -> bool:
        """Nothing would have been posted for it, so that nothing is known of what is there."""
        about = told.get(self.key.external(row.id))
        return about is None or about.deleted

    def _told(self) -> Mapping[str, _Told]:
        """By external key."""
        found = defaultdict[str, _Told](_Told)
        roles_too = self._kind is MarketoObject.OPPORTUNITY
        for sent in self._marketo.sent:
            if sent.kind is not self._kind and not (roles_too and sent.kind is MarketoObject.ROLE):
                continue
            for record in sent.records:
                told = found[str(record[KEYS[self._kind]])]
                if sent.kind is MarketoObject.ROLE:
                    (told.removed if sent.deleted else told.roles).append(role_of(record))
                elif sent.deleted:
                    told.deleted = True
                else:
                    told.record |= record
        return dict(found)

    def _held(self, ids: Sequence[str]) -> dict[str, LedgerRow]:
        """By id what Marketo holds of those it has, as rows: the mapped fields, and the roles that are ours."""
        by_key, names = {self.key.external(key): key for key in ids}, self._names()
        there: dict[str, Mapping[str, Any]] = {}
        roles: dict[str, Sequence[Role]] = {}
        for keys in chunks(by_key):
            there |= in_halves(lambda part: self._marketo.records(self._kind, part, names), keys)
        if there and self._kind is MarketoObject.OPPORTUNITY:
            for keys in chunks(there):
                roles |= in_halves(self._marketo.roles, keys)
        texts = texts_of_ours(self._world) if roles else set()
        found = {}
        for key, values in there.items():
            filled = {name: value for name, value in values.items() if value not in (None, "")}
            mine = ours(self._world, roles.get(key, ()), texts)
            found[by_key[key]] = LedgerRow(by_key[key], fields=digests({KEYS[self._kind]: key, **filled}), roles=mine)
        return found

    def _names(self) -> list[str]:
        config = self._world.config
        if self._kind is MarketoObject.COMPANY:
            return sorted(config.company.fields)
        if self._kind is MarketoObject.SALES_PERSON:
            return sorted(SALES_PERSON_FIELDS)
        owner = {SALES_PERSON_ID} if config.owner.salesperson else set()
        return sorted({*config.opportunity.fields, *config.removals.flag, COMPANY_ID, *owner})

    def _true(self, row: LedgerRow, told: _Told | None, held: LedgerRow | None) -> LedgerRow:
        """*row* as nothing was sent; *held*: what is in Marketo, where that was asked."""
        of_opportunity = self._kind is MarketoObject.OPPORTUNITY
        if (told is not None and told.deleted) or (of_opportunity and row.state is State.GONE):
            was = held or self._was(row)
            return self._later(replace(row, fields=was.fields, roles=was.roles), LEAVES) if was.fields else row
        reason = ""
        if told is not None:
            row, reason = self._compared(row, told)
        elif held is not None:
            row = replace(row, fields=held.fields, roles=held.roles, mapping=self._world.config.version)
        if not reason and not row.left_out and {role.lead for role in row.roles} & self._marketo.linked:
            reason = UNLINKED
        if not reason and of_opportunity and self._is_to_leave(row):
            reason = LEAVES
        return self._later(row, reason) if reason else row

    def _is_to_leave(self, row: LedgerRow) -> bool:
        """Whether the guard held its removals, on which it decides anew; or Marketo has what the filter leaves out."""
        config = self._world.config
        if row.state is State.HELD:
            return True
        marked = config.filter.when_leaving == "flag" and digests(config.removals.flag).items() <= row.fields.items()
        return row.left_out and bool(row.fields) and config.filter.when_leaving != "keep" and not marked

    def _compared(self, row: LedgerRow, told: _Told) -> tuple[LedgerRow, str]:
        """What would have been posted, against what Marketo holds: the row, and why it has to wait."""
        marketo, external = self._marketo, self.key.external(row.id)
        differing: set[str] = set()
        if told.record:
            if external not in marketo.present:
                return replace(row, fields={}, roles=()), MISSING
            differing = set(marketo.differing(self._kind, told.record))
            row = replace(row, fields={name: each for name, each in row.fields.items() if name not in differing})
        described = marketo.describe(self._kind) if differing else {}
        # What can be written only once stays as it is, whatever is done about it (marketo.md §3.5).
        mended = any(name not in described or described[name].updateable for name in differing)
        roles, wrong = _held_roles(row, told, {role.key: role for role in marketo.roles_of.get(external, ())})
        what = " and ".join((["fields"] if mended else []) + (["roles"] if wrong else []))
        return replace(row, roles=roles), DIFFERS.format(what) if what else ""

    def _later(self, row: LedgerRow, reason: str) -> LedgerRow:
        """It waits for the ordinary path, which trusts no memory of what waits."""
        return row.become(State.WAITING, reason=reason, due=self._world.clock.now() + DUE_AFTER)


def _held_roles(row: LedgerRow, told: _Told, present: Mapping[tuple[int, str], Role]) -> tuple[tuple[Role, ...], bool]:
    """Of the row's roles those that Marketo holds, as it holds them; and whether a write is missing."""
    posted = {role.key: role for role in told.roles}
    lacking = {key for key in posted if key not in present}
    changed = {key for key in posted.keys() - lacking if not same_role(posted[key], present[key])}
    staying = [present[role.key] for role in told.removed if role.key in present]
    kept = [
        replace(role, primary=present[role.key].primary, created=present[role.key].created)
        if role.key in changed
        else role
        for role in row.roles
        if role.key not in lacking
    ]
    return (*kept, *staying), bool(lacking or changed or staying)
