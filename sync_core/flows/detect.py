"""One tick: follow the delta links, queue the ids that changes affect, only then store the links (design.md §4).

    links that are followed: opportunity, connection,          ┐
    contact, account …; connection roles                       │
                                                               ├─▶ basket of ids ──▶ queue ──▶ new links stored
    what is read from the start: the opportunities once all    │
    other links are taken, then the overlap query, then the    │
    comparison of ids                                          ┘

What changed comes before anything that is read from the start, and in the fresh lane: of a tick at most `fresh_max`
ids, and a table that brings more than that takes the slow lane alone.
A crash anywhere repeats work and skips none (design.md §2.1). Nothing here talks to Marketo.
A table without change tracking is followed by `modifiedon`, and read again as after a dead link once a day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, ClassVar

from sync_core.errors import DeltaLinkExpired, NewerVersion, NotOurs, NotTracked, SyncError, Unavailable
from sync_core.flows.applied import notice
from sync_core.flows.guard import COMPARISON, known_records
from sync_core.flows.id_file import IdFile
from sync_core.flows.observe import chunks
from sync_core.flows.reconcile import DUE
from sync_core.flows.world import World
from sync_core.mapping import SyncConfig
from sync_core.messages import decode, parts, split
from sync_core.model import ChangePage, Lane, LedgerRow, Letter, Row, State, Work
from sync_core.ports import Ledger
from sync_core.rules.filters import sides

OPPORTUNITY = "opportunity"
OPPORTUNITY_TYPE = 3
ROLES = ("stamp", "connection roles")
OVERLAP = timedelta(minutes=10)
GLANCE = timedelta(minutes=20)  # as long as two ticks may take, and some for clocks that differ
UNTRACKED_FOR = timedelta(hours=24)
HISTORY = ("stamp", "history")
HISTORY_FOR = timedelta(days=90)
FULL_READ = "read from the start"
UNMATCHED_FOR = timedelta(hours=1)
CONNECTION_ENDS = ("_record1id_value", "_record2id_value", "record1objecttypecode", "record2objecttypecode")
DUE_PER_TICK = 1800
BUSY_QUEUE = 20  # messages; above this, waiting rows wait on: they would only be queued twice


@dataclass(slots=True)
class Feed:
    """Where one table's reading stands. `phase`: reading → (overlap → compare →) following.

    `since` is when the present full read began; `again` says that a link had been lost before it. Without change
    tracking (`tracked` false) the link is the time up to which `modifiedon` was followed. `partway`: it leads to the
    next page, not yet to what changed after. `taken` is when the last delta link was got.
    """

    table: str
    ticket: str | None = None
    phase: str = "reading"
    link: str | None = None
    since: str = ""
    again: bool = False
    force: bool = False
    tracked: bool = True
    partway: bool = False
    taken: str = ""

    @property
    def following(self) -> bool:
        return self.phase == "following"

    def value(self) -> dict[str, Any]:
        names = ("phase", "link", "since", "again", "force", "tracked", "partway", "taken")
        return {name: getattr(self, name) for name in names}


@dataclass(slots=True)
class Basket:
    """Ids to be looked at, each once, in the order they were found."""

    opportunities: dict[str, None] = field(default_factory=dict)
    accounts: dict[str, None] = field(default_factory=dict)
    users: dict[str, None] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[dict[str, None], ...]:
        return self.opportunities, self.accounts, self.users

    def move_to(self, other: Basket) -> None:
        for mine, others in zip(self.kinds, other.kinds, strict=True):
            others |= mine
        self.clear()

    def clear(self) -> None:
        for ids in self.kinds:
            ids.clear()


@dataclass(slots=True)
class Tick:
    """What one tick saw and queued; `complete` is false when the time box ended it, the next tick goes on.

    `current`: whatever had changed when it began is on the queue, though a read from the start may go on.
    """

    counts: Counter[str] = field(default_factory=Counter)
    complete: bool = True
    current: bool = False


def side_tables(config: SyncConfig) -> tuple[str, ...]:
    """The tables followed besides the opportunity's, in order (design.md §4)."""
    owners = ("systemuser", "team") if config.owner.team == "administrator" else ("systemuser",)
    return ("connection", "contact", "account", *(owners if config.owner.salesperson else ()))


def detect(world: World, *, time_box: float) -> Tick:
    """Run one tick of at most about *time_box* seconds. Raises RetryLater or ConfigurationError: nothing is lost."""
    return _Detection(world, time_box).run()


class _Detection:
    def __init__(self, world: World, time_box: float) -> None:
        self.world = world
        self.stop_at = world.clock.monotonic() + time_box
        self.tick = Tick()
        self.found, self.fresh, self.slow = Basket(), Basket(), Basket()
        self.source = ""  # of what is in `found`: a table, or `FULL_READ`
        self.counted = Counter[str]()  # ids by source
        self.fresh_left = world.config.sync.fresh_max
        self.doomed: list[str] = []
        self.forget: list[str] = []
        self.unsaved: list[Feed] = []
        self.up_to_date: set[str] = set()  # tables that were followed to their end, or looked at for what changed
        self.force = False
        self.lengths: Mapping[str, int] = {}

    def run(self) -> Tick:
        """What was found is queued, and its links are kept, also when a table that is read later can't be."""
        try:
            return self._run()
        except SyncError:
            self._save()
            raise

    def _run(self) -> Tick:
        self._empty_poison()
        self.lengths = self.world.queue.lengths()
        self._queue_due()
        tables = side_tables(self.world.config)
        feeds = {table: self._load(table) for table in (*tables, OPPORTUNITY)}
        opportunities = feeds[OPPORTUNITY]
        self.force = opportunities.force
        if opportunities.following:
            self._follow(opportunities, _Detection._opportunities)
        self._glance(opportunities)
        self._retry_unmatched()
        self._compare_roles()
        for table in tables:
            if feeds[table].following:
                self._follow(feeds[table], self._SIDES[table], everything=opportunities)
        self._notice_mapping(opportunities)
        for table in tables:
            if not feeds[table].following:
                self._follow(feeds[table], self._SIDES[table], everything=opportunities)
        if all(feeds[table].following for table in tables) and self._time_left():
            if not opportunities.following:
                self._follow(opportunities, _Detection._opportunities)
            self._finish_full_read(opportunities)
            self._compare_if_asked(opportunities)
        self._save()
        self._tidy()
        self._forget_history()
        self.tick.complete = self.tick.complete and all(feed.following for feed in feeds.values())
        self.tick.current = feeds.keys() <= self.up_to_date
        return self.tick

    def _tidy(self) -> None:
        """Deliveries add to the map of connections: after a tick that saw or queued something, or found messages."""
        if self.tick.counts.total() or any(self.lengths[lane] for lane in Lane):
            self.world.connections.tidy(until=self.stop_at)

    def _forget_history(self) -> None:
        """Once a day, what is older than `HISTORY_FOR`."""
        if self.world.history is None or not self.world.config.history.values:
            return
        today = self.world.clock.now()
        document = self.world.documents.read(*HISTORY)
        if document is None or document.value["day"] != today.date().isoformat():
            self.world.history.forget(today - HISTORY_FOR)
            ticket = document.ticket if document else None
            self.world.documents.write(*HISTORY, {"day": today.date().isoformat()}, ticket)

    def _time_left(self) -> bool:
        left = self.world.clock.monotonic() < self.stop_at
        self.tick.complete = self.tick.complete and left
        return left

    # --- following one link -------------------------------------------------------------------------------

    def _load(self, table: str) -> Feed:
        document = self.world.documents.read("feed", table)
        if document is None:
            return Feed(table, since=self.world.clock.now().isoformat())
        return Feed(table, document.ticket, **document.value)

    def _follow(
        self, feed: Feed, take: Callable[[_Detection, ChangePage], None], *, everything: Feed | None = None
    ) -> None:
        """Read pages until the delta link; after each page but the last, queue, then keep the next link.

        A link that turns out to be lost ends the following; a read from the start begins again. Pages that an earlier
        tick began end where the table stood then: the delta link behind them is followed too.
        """
        full, behind = feed.phase == "reading", feed.partway
        self._turn_to(FULL_READ if full else feed.table)
        while feed.phase == ("reading" if full else "following") and self._time_left():
            try:
                page = self._page(feed, take)
            except DeltaLinkExpired as error:
                if full and feed.link is None:  # a read from the start has no link that could have expired
                    raise Unavailable(str(error)) from None
                self._start_over(feed)
                continue
            self.tick.counts[f"{feed.table} rows"] += len(page.rows) + len(page.deleted)
            if everything is None or not full:  # a first read of the side tables only takes the link (design.md §4)
                take(self, page)
            feed.partway = bool(page.next_link)
            if page.next_link:
                feed.link = page.next_link
                # Deletions come last and are judged together: until then the link before them is kept.
                if not self.doomed:
                    self._save(feed)
                continue
            self._bury(self.doomed)
            self.doomed = []
            feed.link = page.delta_link
            feed.taken = self.world.clock.now().isoformat(timespec="seconds")
            if full and everything is not None:
                self._link_in_hand(feed, everything)
            elif full:
                feed.phase = "overlap"
                self._save(feed)
            if full or not behind:
                self.unsaved.append(feed)
                self.up_to_date |= set() if full and everything is None else {feed.table}
                return
            self._save(feed)
            behind = False

    def _page(self, feed: Feed, take: Callable[[_Detection, ChangePage], None]) -> ChangePage:
        if not feed.tracked and feed.following:
            if datetime.fromisoformat(feed.since) + UNTRACKED_FOR < self.world.clock.now():
                raise DeltaLinkExpired(f"{feed.table} is not tracked: a day has passed")
            return self._modified(feed, take)
        try:
            page = self.world.source.changes(feed.table, feed.link)
            feed.tracked = True
        except NotTracked:
            feed.tracked = False
            if feed.table == OPPORTUNITY:
                self._turn_to(FULL_READ)
                for ids in self.world.source.ids(OPPORTUNITY):
                    self._add(ids)
                    self._flush()
            page = ChangePage((), (), None, feed.since)
        return page

    def _modified(self, feed: Feed, take: Callable[[_Detection, ChangePage], None]) -> ChangePage:
        """What changed by `modifiedon`; the overlap is for clocks that differ and for transactions under way."""
        now = self.world.clock.now().isoformat()
        for ids in self.world.source.modified_since(feed.table, datetime.fromisoformat(str(feed.link)) - OVERLAP):
            rows: Sequence[Row] = [{f"{feed.table}id": key} for key in ids]
            if feed.table == "connection":
                rows = [*self.world.source.rows("connection", ids, CONNECTION_ENDS).values()]
            take(self, ChangePage(rows, (), None, None))
            self._flush()
        return ChangePage((), (), None, now)

    def _link_in_hand(self, feed: Feed, everything: Feed) -> None:
        """The side table is followed from here; if its link had been lost, what shows it is looked at again."""
        if feed.again and feed.table == "account":
            self._add_all(self.world.companies, self.found.accounts)
        if feed.again and feed.table == "systemuser":
            self._add_all(self.world.sales_persons, self.found.users)
        if feed.again:
            self._read_again(everything)
        feed.phase, feed.again = "following", False

    def _read_again(self, feed: Feed) -> None:
        """Everything from the start. Raises Unavailable if another tick was first: what asked for it is not done."""
        self._save()
        self._start_over(feed)
        feed.ticket = self.world.documents.write("feed", feed.table, feed.value(), feed.ticket)
        if feed.ticket is None:
            raise Unavailable("another tick ran at the same time; the next one reads everything again")

    def _start_over(self, feed: Feed) -> None:
        feed.phase, feed.link, feed.again, feed.partway = "reading", None, True, False
        feed.since = self.world.clock.now().isoformat()
        self.tick.counts["links lost"] += 1

    def _finish_full_read(self, feed: Feed) -> None:
        """After the link is in hand: changes during the read, then deletions by comparison (design.md §2.8)."""
        self._turn_to(OPPORTUNITY)
        if feed.phase == "overlap" and self._time_left():
            since = datetime.fromisoformat(feed.since) - OVERLAP
            for ids in self.world.source.modified_since(OPPORTUNITY, since):
                self._add(ids)
                self._flush()
            feed.phase = "compare"
            self._save(feed)
        if feed.phase == "compare" and self._time_left():
            self._compare()
            feed.phase, feed.again, feed.force = "following", False, False
            self.unsaved.append(feed)
            self.up_to_date.add(OPPORTUNITY)

    def _glance(self, feed: Feed) -> None:
        """While a read from the start goes on over several ticks: the opportunities that changed since the last one."""
        if feed.phase == "reading" and feed.link is not None:
            self.counted[FULL_READ] = self.world.config.sync.fresh_max
            self._turn_to(OPPORTUNITY)
            for ids in self.world.source.modified_since(OPPORTUNITY, self.world.clock.now() - GLANCE):
                self._add(ids)
                self._flush()
            self.up_to_date.add(OPPORTUNITY)

    def _compare_if_asked(self, feed: Feed) -> None:
        """Reconcile met ids that stay invisible: only a complete enumeration tells whether they are gone."""
        asked = self.world.documents.read(*COMPARISON)
        if asked is not None and feed.following and self._time_left():
            self._compare()
            self._flush()
            self.world.documents.delete(*COMPARISON)

    def _add_all(self, ledger: Ledger, basket: dict[str, None]) -> None:
        for ids in ledger.ids():
            basket |= dict.fromkeys(ids)
            self._flush()

    def _compare(self) -> None:
        """Ledger ids that a complete, later enumeration lacks are candidates; the fresh read of reconcile decides."""
        if not known_records(self.world):
            return
        with IdFile() as present:
            for ids in self.world.source.ids(OPPORTUNITY):
                present.add(ids)
            self._bury([key for ids in self.world.opportunities.ids() for key in present.lacking(ids)])

    # --- what a page affects ------------------------------------------------------------------------------

    def _opportunities(self, page: ChangePage) -> None:
        self._add(row["opportunityid"] for row in page.rows)
        self.doomed += page.deleted

    def _connections(self, page: ChangePage) -> None:
        """The opportunity on either side now, and those on record: only they know a deleted connection."""
        for row in page.rows:
            self._add(row[f"_record{side}id_value"] for side in (1, 2) if _type(row, side) == OPPORTUNITY_TYPE)
        known = self.world.connections.read({row["connectionid"] for row in page.rows} | set(page.deleted))
        self._add(chain.from_iterable(known.values()))
        matched = [key for key in page.deleted if key in known]
        self.forget += matched
        self._keep_unmatched(set(page.deleted) - set(matched))

    def _contacts(self, page: ChangePage) -> None:
        changed = {row["contactid"] for row in page.rows} | set(page.deleted)
        remembered = self.world.people.read(changed) if changed else {}
        self.world.people.delete([key for key, entry in remembered.items() if not entry["lead"]])  # ask at once
        self._add(self.world.source.opportunities_of_contacts(changed) if changed else ())

    def _accounts(self, page: ChangePage) -> None:
        changed = {row["accountid"] for row in page.rows} | set(page.deleted)
        self.found.accounts |= dict.fromkeys(self.world.companies.rows(changed) if changed else ())
        if changed and sides(self.world.config.filter.rule)["account"]:
            self._add(self.world.source.opportunities_of_accounts(changed))

    def _users(self, page: ChangePage) -> None:
        changed = {row["systemuserid"] for row in page.rows}
        self.found.users |= dict.fromkeys(self.world.sales_persons.rows(changed) if changed else ())

    def _teams(self, page: ChangePage) -> None:
        changed = {row["teamid"] for row in page.rows}
        self._add(self.world.source.opportunities_of_teams(changed) if changed else ())

    _SIDES: ClassVar[Mapping[str, Callable[[_Detection, ChangePage], None]]] = {
        "connection": _connections,
        "contact": _contacts,
        "account": _accounts,
        "systemuser": _users,
        "team": _teams,
    }

    def _compare_roles(self) -> None:
        """Connection roles are few: reading them all costs what a delta link would, and needs no change tracking."""
        self._turn_to("connectionrole")
        now = {key: f"{role.category} {role.name}" for key, role in self.world.source.connection_roles().items()}
        known = self.world.documents.read(*ROLES)
        if known is not None and known.value == now:
            return
        changed = {key for key, text in known.value.items() if now.get(key) != text} if known else set()
        self._add(self.world.source.opportunities_of_roles(changed) if changed else ())
        self._flush()
        self.world.documents.write(*ROLES, now, known.ticket if known else None)

    def _keep_unmatched(self, ids: Collection[str]) -> None:
        """A worker may be about to record such a connection: look again at each tick for an hour (design.md §4)."""
        now = self.world.clock.now().isoformat()
        for number, batch in enumerate(chunks(sorted(ids), 1000)):
            self.world.documents.write("unmatched", f"{now} {number:04}", {"ids": batch}, None)

    def _retry_unmatched(self) -> None:
        documents = self.world.documents.list("unmatched", limit=1000)
        known = self.world.connections.read({key for _, value in documents for key in value["ids"]})
        self._add(chain.from_iterable(known.values()))
        self.forget += known
        for name, _ in documents:
            if datetime.fromisoformat(name.split()[0]) + UNMATCHED_FOR < self.world.clock.now():
                self._flush()
                self.world.documents.delete("unmatched", name)

    def _bury(self, ids: Sequence[str]) -> None:
        """Remember the evidence before the ids are queued; a tick full of deletions is held whole (design.md §2.7)."""
        if not ids:
            return
        at = self.world.clock.now().isoformat()
        self.world.tombstones.write({key: {"at": at} for key in ids})
        rows = [
            row
            for row in self.world.opportunities.rows(ids).values()
            if row.state is not State.GONE and not row.approved
        ]
        held = {row.id for row in rows if row.state is State.HELD}  # counted when they came: they wait for approval
        rows = [row for row in rows if row.id not in held]
        limit = self.world.config.removals.limit(known_records(self.world)) if rows else 0
        kept = held
        if len(rows) > limit and self.world.config.removals.policy == "delete":
            why = f"removals held: {len(rows)} deletions in one tick, {limit} pass without approval"
            lost = self.world.opportunities.write([row.become(State.HELD, reason=why) for row in rows])
            kept |= {row.id for row in rows} - lost
            self.tick.counts["held"] += len(rows) - len(lost)
        self._add(key for key in ids if key not in kept)

    # --- queue first, then mark ---------------------------------------------------------------------------

    def _add(self, ids: Iterable[str]) -> None:
        self.found.opportunities |= dict.fromkeys(ids)

    def _turn_to(self, source: str) -> None:
        """What is found from here on is of *source*."""
        if source != self.source:
            self._choose_lane()
            self.source = source

    def _choose_lane(self) -> None:
        """A source with more ids than are fresh in one tick goes to the slow lane, and takes nobody else along."""
        number = sum(map(len, self.found.kinds))
        self.counted[self.source] += number
        left = self.world.config.sync.fresh_max if self.source == FULL_READ else self.fresh_left
        fresh = number <= left and self.counted[self.source] <= self.world.config.sync.fresh_max
        if fresh and self.source != FULL_READ:
            self.fresh_left -= number
        self.found.move_to(self.fresh if fresh else self.slow)

    def _flush(self) -> None:
        """Put everything that was found on the queue: one fresh message, or full ones for the slow lane."""
        self._choose_lane()
        seen = self.world.clock.now().isoformat(timespec="seconds")
        for lane, basket in ((Lane.FRESH, self.fresh), (Lane.SLOW, self.slow)):
            opportunities, accounts, users = map(tuple, basket.kinds)
            whole = Work(opportunities, accounts, lane, users=users, force=self.force, seen=seen)
            for work in split(whole):
                self.world.queue.put(work)
            self.tick.counts["queued"] += whole.size
            basket.clear()

    def _save(self, *feeds: Feed) -> None:
        """The only way a link is stored: after the basket went to the queue (design.md §2.1).

        Whoever loses the conditional write drops its own position: an older link only repeats work.
        """
        self._flush()
        if self.forget:
            self.world.connections.delete(self.forget)
            self.forget = []
        waiting, self.unsaved = self.unsaved, []
        for feed in {id(feed): feed for feed in (*waiting, *feeds)}.values():
            feed.ticket = self.world.documents.write("feed", feed.table, feed.value(), feed.ticket) or feed.ticket

    # --- rows and messages that come back -----------------------------------------------------------------

    def _queue_due(self) -> None:
        """Waiting rows whose time has come; their deliveries ask for people within `people.recheck_calls`."""
        if self.lengths["fresh"] > BUSY_QUEUE:
            return
        now = self.world.clock.now()
        due = self.world.opportunities.due(now, DUE_PER_TICK)
        companies = self.world.companies.due(now, DUE_PER_TICK)
        users = self.world.sales_persons.due(now, DUE_PER_TICK) if self.world.config.owner.salesperson else ()
        seen = now.isoformat(timespec="seconds")
        whole = Work(tuple(due), tuple(companies), users=tuple(users), why=DUE, seen=seen)
        for work in split(whole):
            self.world.queue.put(work)
        self.tick.counts["due"] += whole.size

    def _notice_mapping(self, feed: Feed) -> None:
        """A changed mapping: every opportunity and every company is looked at again, in the slow lane."""

        def look_again() -> None:
            self.counted[FULL_READ] = self.world.config.sync.fresh_max
            self._turn_to(FULL_READ)
            self._add_all(self.world.companies, self.found.accounts)
            self._read_again(feed)

        notice(self.world, idle=feed.following and not self.lengths[Lane.SLOW], look_again=look_again)

    def _empty_poison(self) -> None:
        """Poison copies live 7 days and lose their count: queue the halves forced, park a single id (§2.9)."""
        for lane in Lane:
            for letter in self.world.queue.poisoned(lane):
                with suppress(NewerVersion):  # it stays for who understands it
                    self._cure(lane, letter)
                    self.world.queue.done_poisoned(lane, letter)

    def _cure(self, lane: Lane, letter: Letter) -> None:
        try:
            work = replace(decode(letter.body), force=True, lane=lane, why="poison")
        except NotOurs as error:
            self.world.queue.set_aside(letter.body, str(error))
            return
        self.tick.counts["poison"] += 1
        if not work.size:
            return
        if work.size > 1:
            for half in parts(work, -(-work.size // 2)):
                self.world.queue.put(half)
            return
        ledger, key = next(
            (ledger, ids[0]) for kind, ledger in self.world.ledgers.items() if (ids := getattr(work, kind))
        )
        row = ledger.rows([key]).get(key, LedgerRow(key))
        if row.state is State.HELD:  # it stays held: being poison is no approval
            return
        if ledger.write([row.become(State.PARKED, reason="unknown: handling it failed again and again; see the logs")]):
            self.world.queue.put(work)


def _type(row: Mapping[str, Any], side: int) -> int | None:
    value = row.get(f"record{side}objecttypecode")
    return int(value) if value is not None else None
