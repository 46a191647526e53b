"""One seed: random edits, deliveries, faults and crashes, a check after each; then rest, and what must hold there.

The oracle is `tools.checker`, which shares no code with the sync. A stale opportunity is no mistake as long as
something will look at it again: a change that no complete tick has seen, a message on a queue, a row that waits.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sync_core.adapters.marketo import MarketoClient
from sync_core.engine import Engine
from sync_core.errors import ConfigurationError, SyncError
from sync_core.flows.failures import Choice, failures, redrive
from sync_core.flows.guard import COMPARISON
from sync_core.flows.status import approve_removals
from sync_core.messages import decode
from sync_core.model import Lane, LedgerRow, Letter, State
from tests.fakes import FakeConnections, FakeDocuments, FakeLedger, FakeLimiter, FakeLookup
from tests.simulation.crm import PEOPLE_EDITS, TABLES, UNREAD, Crm, edit
from tests.simulation.steps import Stepper, Worker
from tests.simulation.storage import AnyOrderQueue, Fragile, Outage
from tests.simulation.wire import TOLD_NEVER, Wire, rules
from tests.stage import LEASE, Stage, StageClock
from tools.checker import DATAVERSE_TABLES, MARKETO_TABLES, Expected, Fewest, differences, expected, nothing
from tools.emulators.dataverse.administration import columns
from tools.emulators.marketo.late import LateWrites

VISIBILITY_TIMEOUT = timedelta(minutes=5)
MAX_DEQUEUE_COUNT = 5
TICK_EVERY_S = 300
PIECE_S = 10.0
TOKEN_KEPT_S = 3000
ROUNDS = 150
TICK_STEPS, DELIVERY_STEPS = 60, 40  # about as many as one makes
NAMED = re.compile(r"\b(opportunity|company) ([0-9a-f-]{36})")
PEOPLE = "people:"
REFUSED = ("1003:", "role refused")
UNKNOWN = "unknown:"
KINDS = {  # in the order of writes (design.md §1)
    "POST /rest/v1/companies.json": "companies",
    "POST /rest/v1/opportunities.json": "opportunities",
    "POST /rest/v1/opportunities/roles.json": "roles",
    "POST /rest/v1/opportunities/roles/delete.json": "roles removed",
    "POST /rest/v1/opportunities/delete.json": "opportunities removed",
}


class Wrong(AssertionError):
    """Something that must hold does not."""


class Gremlin(Exception):
    """Something nobody foresaw, inside a delivery."""


@dataclass
class Report:
    """What one seed did; `wrong` is empty when everything held."""

    seed: int
    figures: Counter[str] = field(default_factory=Counter)
    longest: dict[str, float] = field(default_factory=dict)
    wrong: str = ""
    lines: list[str] = field(default_factory=list)


class SimulationClock(StageClock):
    """Time passes in small pieces while Marketo still has to do what it was sent long ago: it does it in time."""

    late: LateWrites

    def sleep(self, seconds: float) -> None:
        left = max(0.0, seconds)
        while len(self.late) and left > 0:
            super().sleep(min(left, PIECE_S))
            left -= PIECE_S
        super().sleep(left)


class _KeptToken:
    """Dataverse's token, kept as msal keeps it."""

    def __init__(self, tokens: Any, clock: StageClock) -> None:
        self.tokens, self.clock = tokens, clock
        self.kept, self.until = "", 0.0

    def token(self, *, new: bool) -> str:
        if new or self.clock.monotonic() >= self.until:
            self.kept, self.until = self.tokens.token(new=new), self.clock.monotonic() + TOKEN_KEPT_S
        return self.kept


def run(seed: int, *, trace: Callable[[str], None] | None = None) -> Report:
    """Run *seed* from start to end."""
    simulation = Simulation(seed, trace)
    try:
        simulation.run()
    except Wrong as wrong:
        simulation.report.wrong = str(wrong)
    finally:
        simulation.close()
    return simulation.report


class Simulation:
    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.chance = chance = random.Random(seed)
        self.report = Report(seed)
        self.figures = self.report.figures
        self.trace = trace
        self.stepper, self.outage = Stepper(), Outage(chance)
        self.workers: list[Worker] = []
        self.mark = self.covered = 0
        self.changed: dict[tuple[str, str], int] = {}
        self.stale: dict[tuple[str, str], tuple[float, set[str]]] = {}
        self.gremlin_left = 0
        self.hidden = ""
        self.custom_columns: list[tuple[str, str]] = []
        self._build(seed)

    def _build(self, seed: int) -> None:
        chance = self.chance
        self.page_size = chance.choice((2, 3, 3600, 3600))
        self.guarded = chance.random() < 0.15
        changes = {}
        if chance.random() < 0.2:
            changes["fresh_max     = 3000"] = "fresh_max     = 2"
        if self.guarded:
            changes |= {"max_count = 100": "max_count = 2", "max_share = 0.01": "max_share = 0.0"}
        self.stage = stage = Stage(seed=seed, page_size=self.page_size, changes=changes)
        stage.clock = self.clock = SimulationClock(stage.dataverse, stage.marketo)
        self.clock.late = stage.marketo.late
        stage.limiter = FakeLimiter(self.clock)
        self.faulty_until = math.inf
        self.apps = {"Dataverse": stage.dataverse_app, "Marketo": stage.marketo_app}
        for app in self.apps.values():
            app.sleep = self.clock.sleep
        self.wires = {name: Wire(name, app, self.stepper, self.clock) for name, app in self.apps.items()}
        self.queue = AnyOrderQueue(self.clock)
        self.queue.chance = chance
        self.opportunities, self.companies, self.documents = FakeLedger(), FakeLedger(), FakeDocuments()
        ports = {
            "opportunities": ("ledger", self.opportunities),
            "companies": ("ledger", self.companies),
            "connections": ("connections", FakeConnections()),
            "people": ("people", FakeLookup()),
            "tombstones": ("tombstones", FakeLookup()),
            "documents": ("documents", self.documents),
            "queue": ("queue", self.queue),
        }
        fragile = {port: Fragile(made, name, self.stepper, self.outage) for port, (name, made) in ports.items()}
        stage.world = replace(stage.world, **fragile, clock=self.clock, limiter=stage.limiter)
        self.engines = [self._instance(), self._instance()]
        self._set_switches()
        self.crm = Crm(stage, chance)
        self.wanted = nothing()
        self._note_changes()

    def _instance(self) -> Engine:
        """A process of its own: its clients remember nothing."""
        source = self.stage._source(self.page_size)
        target = MarketoClient(self.stage.settings, self.clock, self.stage.limiter, random=lambda: 0.5)
        source._transport._session, target._transport._session = self.wires["Dataverse"], self.wires["Marketo"]
        source._tokens = _KeptToken(source._tokens, self.clock)
        read = source.rows

        def rows(table: str, *asked: Any) -> Mapping[str, Any]:
            return {key: row for key, row in read(table, *asked).items() if key != self.hidden}

        source.rows = rows
        return Engine(replace(self.stage.world, source=source, target=target))

    def _set_switches(self) -> None:
        """What nobody knows of the services; every setting has to be safe (design.md §10)."""
        choose = self.chance.choice
        lag = choose((0.0, 0.0, 20.0, 200.0))
        self.longest_late = self.stage.world.late_write - lag  # L covers both
        self.stage.marketo.switches.set(
            {
                "result_order": choose(("reversed", "input", "shuffled")),
                "role_unknown_lead": choose(("1004", "1013")),
                "visible_after": lag,
                "recreation_logs_added": choose((True, False)),
            }
        )
        self.stage.dataverse.switches.update(
            {
                "token_position": choose(("start", "end")),
                "empty_delta_token": choose(("advances", "stays")),
                "repeat_changed_rows": choose((True, False)),
                "merge_moves_modifiedon": choose((True, False)),
                "closed_opportunities_are_read_only": choose((True, False)),
            }
        )

    def say(self, text: str) -> None:
        if self.trace is not None:
            self.trace(f"{self.clock.now():%d %H:%M:%S}  {text}")

    # --- the course of a seed -----------------------------------------------------------------------------------

    def run(self) -> None:
        if self.chance.random() < 0.4:
            self.rest()
        for _ in range(self.chance.randint(15, 35)):
            self._event()
            self.check()
        self.say("--- rest")
        self.rest()
        self.check_rest()
        for _ in range(self.chance.randint(1, 2)):
            self.calm()

    def _event(self) -> None:
        (choice,) = self.chance.choices([event for _, event in EVENTS], [weight for weight, _ in EVENTS])
        self.figures["events"] += 1
        if self.clock.monotonic() > self.faulty_until:
            self._quiet()
            self.faulty_until = math.inf
        choice(self)

    def close(self) -> None:
        """No thread stays behind."""
        self._quiet()
        for worker in self.workers:
            worker.safe = False
            while not worker.ended:
                worker.go(1, die=True)
        self.figures["storage without an answer"] = self.outage.failures
        self.figures["Marketo calls"] = sum(entry.kind != "identity" for entry in self.stage.marketo.journal.entries)

    # --- events -------------------------------------------------------------------------------------------------

    def edit(self, without: tuple[Any, ...] = ()) -> None:
        for _ in range(self.chance.choice((1, 1, 2))):
            told = edit(self.crm, without)
            self.say(f"edit     {told}")
            self.figures["edits"] += 1
        self._note_changes()

    def tick(self) -> None:
        if sum(worker.name == "tick" for worker in self.workers) < 2:
            self._start(self._ticking())

    def deliver(self) -> None:
        if (worker := self._next_delivery()) is not None:
            self._start(worker)

    def go_on(self) -> None:
        if self.workers:
            worker = self.chance.choice(self.workers)
            steps = self.chance.choice((None, self._some_steps(), 1))
            self._go(worker, steps, die=steps == 1)

    def race(self) -> None:
        """One opportunity changes twice; whoever handles the first change is overtaken, and may have lost the lease."""
        chance = self.chance
        self._toggle()
        if chance.random() < 0.3:
            name, plan = rules("writes", chance, self.longest_late)
            self._plan("Marketo", name, plan)
        first = self._next_delivery()
        if first is not None:
            self.workers.append(first)
            self._go(first, chance.randint(1, DELIVERY_STEPS))
        if chance.random() < 0.8:
            self._toggle()
        self.clock.sleep(chance.choice((0, 0, 6, 30, LEASE.total_seconds() + 1)))
        for _ in range(chance.randint(0, 2)):
            if (other := self._next_delivery()) is not None:
                self.workers.append(other)
                self._go(other)
                self.check()
        if first in self.workers and chance.random() < 0.8:
            self._go(first, chance.choice((None, chance.randint(1, 25))), die=chance.random() < 0.5)

    def race_of_ticks(self) -> None:
        """Something changes, perhaps while links are lost and read again; whoever reads that stands still, or dies."""
        if self.chance.random() < 0.7:
            change, table = self.chance.choice(UNREAD)
            self.say(f"edit     {change(self.crm)}")
            self._note_changes()
            self.links_die(table)
        else:
            self.edit()
        first = self._ticking()
        self.workers.append(first)
        self._go(first, self.chance.randint(1, TICK_STEPS), die=self.chance.random() < 0.4)
        self.edit()
        if self.chance.random() < 0.3:
            self.tick()
        if first in self.workers and self.chance.random() < 0.8:
            self._go(first)

    def dataverse_hides_one(self) -> None:
        """A read by id lacks a row that is there, and nothing says that it was deleted (design.md §2.7)."""
        key, worker = self.crm.one("opportunity"), self._next_delivery()
        if key is None or worker is None:
            return
        self.say(f"hidden   opportunity {key}")
        self.workers.append(worker)
        self.hidden = key
        self._go(worker)
        self.hidden = ""

    def _toggle(self) -> None:
        self.say(f"edit     {self.crm.toggle()}")
        self.figures["edits"] += 1
        self._note_changes()
        worker = self._ticking()
        self.workers.append(worker)
        self._go(worker)

    def _next_delivery(self) -> Worker | None:
        lanes = [lane for lane in Lane if self._visible(lane)]
        return self._delivery(self.chance.choice(lanes)) if lanes else None

    def wait(self) -> None:
        seconds = self.chance.choice((5, 60, 200, 290, 310, 310, 700, 1300, 4000))
        self.say(f"wait     {seconds} s")
        self.clock.sleep(seconds)

    def services_fail(self) -> None:
        """The fault plan of one service is replaced; a fault that lasts ends with the next event after its time."""
        service = self.chance.choice(("reads", "writes", "writes", "Dataverse"))
        name, plan = rules(service, self.chance, self.longest_late)
        self._plan("Dataverse" if service == "Dataverse" else "Marketo", name, plan)
        self.faulty_until = self.clock.monotonic() + self.chance.choice((30, 200, 900))

    def records_are_refused(self) -> None:
        rule = {"fault": "skip", "times": 1, "code": TOLD_NEVER, "share": 0.3}
        self._plan("Marketo", "skip with 1003", [rule])

    def _plan(self, name: str, what: str, plan: list[dict[str, Any]]) -> None:
        self._note_faults(name)
        self.apps[name].faults.set({"seed": self.chance.randrange(1_000_000), "rules": plan})
        self.say(f"fault    {name} {what}")

    def _note_faults(self, name: str) -> None:
        for rule in self.apps[name].faults.describe()["rules"]:
            self.figures[f"fault {name} {rule['fault']}"] += rule["struck"]

    def storage_fails(self) -> None:
        self.outage.left = self.chance.randint(1, 4)
        self.say(f"fault    storage, {self.outage.left} times")

    def others_use_marketo(self) -> None:
        switches = self.stage.marketo.switches
        what = self.chance.choice(("calls", "in flight", "day"))
        if what == "calls":
            switches.background_calls = self.chance.choice((0, 97, 100))
        elif what == "in flight":
            switches.background_in_flight = self.chance.choice((0, 9, 10))
        elif self.chance.random() < 0.3:
            usage = self.stage.marketo.usage
            usage.calls[usage.today()]["others"] += switches.daily_quota
        self.say(f"fault    others use Marketo ({what})")

    def a_mistake_shows(self) -> None:
        self.gremlin_left = self.chance.choice((1, 3, 6, 12))
        self.say(f"fault    the next {self.gremlin_left} deliveries raise")

    def queue_misbehaves(self) -> None:
        lane = self.chance.choice(list(Lane))
        found = self.queue.queues[lane]
        if not found:
            return
        message, what = self.chance.choice(found), self.chance.choice(("doubled", "delayed", "poisoned"))
        if what == "doubled":
            self.queue.put(decode(message.body))
        elif what == "delayed":
            message.visible = max(message.visible, self.clock.now()) + timedelta(seconds=self.chance.choice((30, 900)))
        elif message.visible <= self.clock.now():
            found.remove(message)
            self.queue.poison(lane, message.body)
        else:
            return
        self.figures[f"messages {what}"] += 1
        self.say(f"queue    message {message.number} {what}")

    def links_die(self, table: str | None = None) -> None:
        table = table or self.chance.choice((None, *TABLES))
        if table is not None and self.chance.random() < 0.5:
            self._change_metadata(table)
        else:
            self.stage.dataverse.expire_delta_links(table)
        self.figures["links lost"] += 1
        self.say(f"links    of {table or 'all tables'} are invalid")

    def _change_metadata(self, table: str) -> None:
        mine = [name for where, name in self.custom_columns if where == table]
        if mine and self.chance.random() < 0.5:
            self.custom_columns.remove((table, mine[0]))
            columns(self.stage.dataverse, {"table": table, "remove": [mine[0]]})
            return
        name = f"new_column{len(self.custom_columns)}_{self.figures['links lost']}"
        self.custom_columns.append((table, name))
        columns(self.stage.dataverse, {"table": table, "add": [{"name": name, "type": "string"}]})

    # --- what the host does -------------------------------------------------------------------------------------

    def _some_steps(self) -> int:
        return self.chance.choice((1, 2, 3, 5, 8, 13, 21, 30))

    def _start(self, worker: Worker) -> None:
        """Most run to their end; some stand still on the way, some die there."""
        self.workers.append(worker)
        fate = self.chance.random()
        if fate < 0.55:
            self._go(worker)
        else:
            self._go(
                worker, self.chance.randint(1, TICK_STEPS if worker.name == "tick" else DELIVERY_STEPS), die=fate > 0.85
            )

    def _go(self, worker: Worker, steps: int | None = None, *, die: bool = False) -> None:
        """Goes on with a worker, and writes down how it ended or where it stands."""
        if worker.where == "Marketo write …" and self.clock.now() >= worker.deadline:
            worker.safe = True  # frozen between check and send: whatever follows, only an audit would find it
        started = f"{worker.name}{'' if worker.where == 'start' else f' from {worker.where!r}'}"
        worker.go(steps, die=die)
        if not worker.ended:
            self.say(f"{started} stands still at {worker.where!r}")
            return
        self.workers.remove(worker)
        self.figures["crashes"] += worker.died
        if worker.died:
            self.engines[self.chance.randrange(2)] = self._instance()
        told = f"died at {worker.where!r}" if worker.died else worker.error or worker.result
        self.say(f"{started}: {told}")
        if self.trace is not None:
            for row in (*self.opportunities.content.values(), *self.companies.content.values()):
                if row.id in worker.name and row.reason:
                    self.say(f"ledger     {row.id} {row.state}: {row.reason} (due {row.due})")
        if worker.error is not None and not isinstance(worker.error, SyncError | Gremlin):
            raise Wrong(f"{worker.name} raised {type(worker.error).__name__}: {worker.error}") from worker.error
        if isinstance(worker.error, ConfigurationError):
            raise Wrong(f"{worker.name} wants a setting mended: {worker.error}")

    def _ticking(self) -> Worker:
        engine, mark = self.chance.choice(self.engines), self.mark if self._sees_all() else 0

        def tick() -> Any:
            done = engine.detect()
            if done.complete:
                self.covered = max(self.covered, mark)
            return {name: number for name, number in done.counts.items() if number} | {"complete": done.complete}

        self.figures["ticks"] += 1
        return Worker(self.stepper, "tick", tick)

    def _sees_all(self) -> bool:
        """A tick that only ends what an earlier one began leaves what came between to the next, by the link."""
        feed = self.documents.read("feed", "opportunity")
        return feed is None or feed.value["phase"] == "following" or feed.value["link"] is None

    def _visible(self, lane: Lane) -> bool:
        return any(message.visible <= self.clock.now() for message in self.queue.queues[lane])

    def _delivery(self, lane: Lane) -> Worker | None:
        letter = self.queue.receive_any(lane, LEASE)
        if letter is None or letter.dequeue_count > MAX_DEQUEUE_COUNT:
            if letter is not None:
                self._poison(lane, letter)
            return None
        engine, raises = self.chance.choice(self.engines), self._raises()
        self.figures["deliveries"] += 1
        work = decode(letter.body)
        name = f"delivery {letter.handle[0]} {[*work.opportunities, *work.accounts]} force={work.force} "
        worker = Worker(self.stepper, f"{name}count={letter.dequeue_count}", lambda: None)
        worker.deadline = letter.lease_ends - timedelta(seconds=self.stage.world.late_write)

        def deliver() -> Any:
            try:
                outcome = engine.deliver(
                    letter.body, dequeue_count=letter.dequeue_count, lease_ends=letter.lease_ends, lane=lane
                )
                if raises and not worker.safe:
                    raise Gremlin("something nobody foresaw")  # noqa: TRY301 - as if from within
            except (SyncError, Gremlin):
                self._failed(lane, letter)
                raise
            self.stepper.step("acknowledge")
            self.queue.done(lane, letter)
            return {k: n for k, n in outcome.counts.items() if n} | {"again": outcome.again} if outcome else None

        worker.action = deliver
        return worker

    def _raises(self) -> bool:
        self.gremlin_left -= self.gremlin_left > 0
        return self.gremlin_left > 0

    def _failed(self, lane: Lane, letter: Letter) -> None:
        if letter.dequeue_count >= MAX_DEQUEUE_COUNT:
            self._poison(lane, letter)
        else:
            self.queue.failed(lane, letter, VISIBILITY_TIMEOUT)

    def _poison(self, lane: Lane, letter: Letter) -> None:
        self.queue.poison(lane, letter.body)
        self.queue.done(lane, letter)
        self.figures["messages poisoned"] += 1

    # --- what should be, and what is ------------------------------------------------------------------------------

    def _expected(self) -> Expected:
        dataverse = {table: self.stage.dataverse.rows(table) for table in DATAVERSE_TABLES}
        return expected(dataverse, self.stage.marketo.rows("leads"), now=self.clock.now())

    def _note_changes(self) -> None:
        """Which records the rules see differently since the last edit."""
        self.mark += 1
        before, self.wanted = self.wanted, self._expected()
        old, new = _by_id(before), _by_id(self.wanted)
        for key in old.keys() | new.keys():
            if old.get(key) != new.get(key):
                self.changed[key] = self.mark

    def _differences(self) -> list[str]:
        found: dict[str, Any] = {name: self.stage.marketo.rows(name) for name in MARKETO_TABLES}
        # Left to an audit: a company whose first post died with its worker, and that no opportunity names any more.
        found["companies"] = [
            row
            for row in found["companies"]
            if row["externalCompanyId"] in self.companies.content or row["externalCompanyId"] in self.wanted.companies
        ]
        return differences(self.wanted, found, ever_named=self.crm.every_account)

    def check(self) -> None:
        """Whatever is stale will be looked at again."""
        wrong = self._differences()
        now = self.clock.monotonic()
        stale: dict[tuple[str, str], str] = {}
        for text in wrong:
            match = NAMED.search(text)
            if match is None:
                raise Wrong(text)
            key = match[1], match[2]
            stale[key] = text
        for key in self.stale.keys() - stale.keys():
            since, whys = self.stale.pop(key)
            self._stale_for(now - since, whys)
        for key, text in stale.items():
            whys = set(self._whys(*key))
            if not whys:
                raise Wrong(f"{text}; and nothing will look at it again ({self._facts(*key)})")
            since, before = self.stale.get(key, (now, set()))
            self.stale[key] = since, before | whys

    def _stale_for(self, seconds: float, whys: set[str]) -> None:
        sort = "until its next delivery"
        if whys & {"held", "refused"}:
            sort = "until somebody acted"
        elif "waiting" in whys:
            sort = "until its row was due"
        self.report.longest[sort] = max(self.report.longest.get(sort, 0.0), seconds)

    def _whys(self, kind: str, key: str) -> Iterator[str]:
        """What will bring *key* back."""
        if self.changed.get((kind, key), 0) > self.covered:
            yield "not yet seen"
        if self._queued(kind, key):
            yield "queued"
        row = (self.opportunities if kind == "opportunity" else self.companies).content.get(key)
        yield from _row_whys(row)
        if kind == "company":
            for opportunity, record in self.wanted.opportunities.items():
                if record["externalCompanyId"] == key:
                    yield from self._whys("opportunity", opportunity)
        elif self._unmatched(key):
            yield "unmatched"
        if row is not None and row.state is State.PARKED and self.documents.read(*COMPARISON):
            yield "compared"

    def _queued(self, kind: str, key: str) -> bool:
        for name, messages in self.queue.queues.items():
            for message in messages if name != "unreadable" else ():
                work = decode(message.body)
                if key in (work.opportunities if kind == "opportunity" else work.accounts):
                    return True
        return False

    def _unmatched(self, opportunity: str) -> bool:
        """A tombstone of a connection whose opportunity was not on record then, and is now."""
        for _, value in self.documents.list("unmatched", limit=1000):
            if any(opportunity in known for known in self.stage.world.connections.read(value["ids"]).values()):
                return True
        return False

    def _facts(self, kind: str, key: str) -> str:
        row = (self.opportunities if kind == "opportunity" else self.companies).content.get(key)
        told = f"{row.state}, {row.reason!r}" if row else "no row"
        return f"ledger: {told}; changed {self.changed.get((kind, key))}, ticks saw all until {self.covered}"

    # --- rest -------------------------------------------------------------------------------------------------------

    def _quiet(self) -> None:
        """No fault of the services any more."""
        for name, app in self.apps.items():
            self._note_faults(name)
            app.faults.clear()
        self.stage.marketo.switches.set({"background_calls": 0, "background_in_flight": 0})

    def rest(self) -> None:
        """Everything under way ends, all that was put back is handled, people who are missing are asked for once."""
        self._quiet()
        self.outage.left = self.gremlin_left = 0
        while self.workers:
            self._go(self.workers[0])
        self.check()
        self.clock.sleep(700)
        since = self.clock.now().isoformat()
        for _ in range(ROUNDS):
            self._tick_to_the_end()
            self._drain()
            self.check()
            if (seconds := self._rest_in(since)) is None:
                return
            self.clock.sleep(max(1.0, seconds))
            self.check()
        raise Wrong(f"no rest after {ROUNDS} rounds: {self._unrest(since)}")

    def _tick_to_the_end(self) -> None:
        for _ in range(ROUNDS):
            worker = self._ticking()
            self.workers.append(worker)
            self._go(worker)
            if isinstance(worker.error, SyncError):
                raise Wrong(f"a tick fails without any fault: {worker.error}")
            if worker.result["complete"] and self.covered >= self.mark:
                break
        if approved := approve_removals(self.stage.world):
            self.figures["removals approved"] += approved
            self.say(f"approve  {approved}")
        self._help_parked()

    def _help_parked(self) -> None:
        """What Marketo refused is saved again in Dynamics; what failed for reasons unknown is queued again by hand."""
        for table, ledger in (("opportunity", self.opportunities), ("account", self.companies)):
            for row in [row for row in ledger.content.values() if row.state is State.PARKED]:
                present = self.stage.dataverse.row(table, row.id)
                if row.reason.startswith(REFUSED) and present is not None:
                    self.stage.dataverse.write(table, present, modifiedon=self.stage.dataverse.now())
                    self.say(f"edit     {table} {row.id} is saved again")
        if redriven := redrive(
            self.stage.world, failures(self.stage.world, Choice(states=[State.PARKED], in_reason=UNKNOWN))
        ):
            self.say(f"redrive  {redriven}")

    def _drain(self) -> int:
        number = 0
        for lane in Lane:
            while self._visible(lane):
                worker = self._delivery(lane)
                if worker is not None:
                    self.workers.append(worker)
                    self._go(worker)
                    number += 1
        return number

    def _unrest(self, since: str) -> list[datetime]:
        """When the next thing happens by itself."""
        moments = [message.visible for name, found in self.queue.queues.items() for message in found if found]
        moments += [self.clock.now() for table, name in [COMPARISON] if self.documents.read(table, name)]
        for ledger in (self.opportunities, self.companies):
            for row in ledger.content.values():
                if row.state is State.WAITING and not (row.reason.startswith(PEOPLE) and row.seen >= since):
                    moments.append(row.due or self.clock.now())
                if row.state in (State.HELD, State.PARKED) and self._comes_back(row):
                    moments.append(self.clock.now())
        return moments + [self.clock.now() + timedelta(seconds=PIECE_S)] * len(self.clock.late)

    def _comes_back(self, row: LedgerRow) -> bool:
        known = self.stage.dataverse.row("opportunity", row.id) or self.stage.dataverse.row("account", row.id)
        return row.state is State.HELD or (row.reason.startswith(REFUSED) and known is not None)

    def _rest_in(self, since: str) -> float | None:
        moments = self._unrest(since)
        if not moments:
            return None
        ahead = [moment for moment in moments if moment > self.clock.now()]
        return (min(ahead) - self.clock.now()).total_seconds() if ahead else TICK_EVERY_S

    def check_rest(self) -> None:
        """Marketo is what the rules say, and nothing is left over."""
        wrong = self._differences()
        if wrong:
            raise Wrong(f"at rest: {'; '.join(wrong)}")
        lengths = self.queue.lengths()
        if sum(lengths.values()):
            raise Wrong(f"at rest there are messages: {lengths}")
        for row in self.opportunities.content.values():
            if row.state in (State.PARKED, State.HELD):
                raise Wrong(f"at rest opportunity {row.id} is {row.state}: {row.reason}")
            if row.state is State.WAITING and not row.reason.startswith(PEOPLE):
                raise Wrong(f"at rest opportunity {row.id} waits: {row.reason}")
        held = {(row.id, *role.key) for row in self.opportunities.content.values() for role in row.roles}
        leads = {row["id"] for row in self.stage.marketo.rows("leads")}
        found = {
            (row["externalOpportunityId"], row["leadId"], row["role"].casefold())
            for row in self.stage.marketo.rows("roles")
        }
        if {item for item in held if item[1] in leads} != found:
            raise Wrong(f"at rest the ledger knows other roles than Marketo holds: {sorted(held ^ found)}")

    # --- the call budget ---------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """Without any fault: some edits cost the fewest possible calls, and looking again costs none.

        Unless removals wait for an approval, or remembered people have left Marketo: that is told by a refusal.
        """
        if self.guarded or self.crm.left:
            return
        self.clock.sleep(TICK_EVERY_S)
        before = self._expected()
        named = {row.id for row in self.companies.content.values() if row.fields}
        for _ in range(self.chance.choice((1, 1, 2, 4))):
            self.edit(PEOPLE_EDITS)
        after = self.wanted
        doubted = any(row.state is not State.IN_STEP for row in self.opportunities.content.values())
        calls, deliveries = self._count_calls()
        fewest = Fewest(set().union(*after.addresses.values()), named & after.accounts.keys()).calls(before, after)
        for kind in KINDS.values():
            least, most = fewest.get(kind, 0), fewest.get(kind, 0) * max(1, deliveries)
            if not least <= calls[kind] <= most:
                raise Wrong(f"{calls[kind]} calls for {kind}, where {least} are the fewest ({deliveries} deliveries)")
            self.figures["calls above the fewest"] += calls[kind] - least
        if calls["other writes"] or (calls["role read-backs"] and not doubted):
            raise Wrong(f"calls that nothing asked for: {dict(calls)}")
        self.figures["calm calls"] += sum(fewest.values())
        if wrong := self._differences():
            raise Wrong(f"after one tick without any fault: {'; '.join(wrong)}")
        self.clock.sleep(TICK_EVERY_S)
        again, _ = self._count_calls()
        if sum(again.values()) > again["look-ups"]:
            raise Wrong(f"nothing had changed, and these calls were made: {dict(again)}")

    def _count_calls(self) -> tuple[Counter[str], int]:
        """By kind, and the number of deliveries, of one tick and what it queued."""
        start = len(self.stage.marketo.journal.entries)
        self._tick_to_the_end()
        deliveries = self._drain()
        calls: Counter[str] = Counter()
        order: list[str] = []
        for entry in self.stage.marketo.journal.entries[start:]:
            if {"601", "602"} & set(entry.codes):
                continue  # a token of before
            if entry.kind == "write":
                kind = KINDS.get(f"{entry.method} {entry.path}", "other writes")
                calls[kind] += 1
                order.append(kind)
            elif entry.kind == "read":
                calls["look-ups" if entry.path.endswith("leads.json") else "role read-backs"] += 1
        if deliveries == 1 and order != sorted(order, key=[*KINDS.values(), "other writes"].index):
            raise Wrong(f"writes in the wrong order: {order}")
        return calls, deliveries


EVENTS: tuple[tuple[int, Callable[[Simulation], None]], ...] = (
    (40, Simulation.edit),
    (15, Simulation.tick),
    (22, Simulation.deliver),
    (12, Simulation.go_on),
    (10, Simulation.race),
    (5, Simulation.race_of_ticks),
    (2, Simulation.dataverse_hides_one),
    (12, Simulation.wait),
    (9, Simulation.services_fail),
    (1, Simulation.records_are_refused),
    (3, Simulation.storage_fails),
    (2, Simulation.others_use_marketo),
    (1, Simulation.a_mistake_shows),
    (4, Simulation.queue_misbehaves),
    (3, Simulation.links_die),
)


def _by_id(wanted: Expected) -> dict[tuple[str, str], Any]:
    """Everything the rules say about one opportunity, or one account."""
    found: dict[tuple[str, str], Any] = {("company", key): row for key, row in wanted.accounts.items()}
    for key, row in wanted.opportunities.items():
        found["opportunity", key] = (row, {})
    for (key, lead, text), role in wanted.roles.items():
        found["opportunity", key][1][lead, text] = role
    return found


def _row_whys(row: LedgerRow | None) -> Iterator[str]:
    if row is None:
        return
    if row.state is State.WAITING and row.due is not None:
        yield "waiting"
    elif row.state is State.HELD:
        yield "held"
    elif row.state is State.PARKED and row.reason.startswith((*REFUSED, UNKNOWN)):
        yield "refused"
