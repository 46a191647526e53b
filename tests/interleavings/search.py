"""Breadth first through everything that may happen next, until nothing new does.

A state is a `Stage`: what is shared, and where each actor stands. Equal ones are visited once; workers are told
apart by nothing but where they stand. Steps that nobody else can notice, or that lose nothing by happening at once,
are not states of their own (`_goes_on`).
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.interleavings.rules import differences
from tests.interleavings.stage import (
    EDITS,
    IDLE,
    TABLES,
    WRITES,
    Actor,
    Dynamics,
    Faults,
    Message,
    Stage,
    read_or_store,
    replaced,
    shown,
    without,
    write,
)
from tests.interleavings.steps import ACME, BEN, BOLT, DEAL, Point, Request, Result, Steps

Label = tuple[Any, ...]
"""What happened: who (`worker`, `timer` or what it is), which slot, what; for the trace."""

CATCH_UP = ("show roles",)


class Broken(Exception):
    """The code under test raised something that is none of its own errors."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a search covers. *start*: `new`, `in step` or `with stakeholder` (in step as well); *customer*: Ben."""

    name: str
    workers: int = 2
    timers: int = 1
    edits: int = 0
    of: tuple[str, ...] = ("rename", "add", "remove")
    crashes: int = 0
    late: int = 0
    leases: int = 0
    lags: int = 0
    links: int = 0
    start: str = "in step"
    customer: bool = False
    split: bool = False  # every read is a step of its own
    ticks: bool = False  # a tick may begin although nothing happened yet

    def __str__(self) -> str:
        actors = (("worker", self.workers), ("timer", self.timers), ("crash", self.crashes), ("late write", self.late))
        others = (("lost lease", self.leases), ("lagging query", self.lags), ("dead link", self.links))
        counted = [f"{number} {what}{'s' * (number > 1)}" for what, number in (*actors, *others) if number]
        more = (("every read apart", self.split), ("idle ticks", self.ticks), ("customer", self.customer))
        said = [f"{self.edits} of {'/'.join(self.of)}", f"from {self.start}", *(what for what, true in more if true)]
        return ", ".join((*counted, *said))


@dataclass
class Found:
    """What a search saw; *trace* is empty if every state at rest is as the rules say."""

    states: int = 0
    transitions: int = 0
    at_rest: int = 0
    seconds: float = 0.0
    complete: bool = True
    trace: list[str] = field(default_factory=list)
    points: int = 0

    @property
    def verdict(self) -> str:
        if self.trace:
            return "DIFFERENCE"
        return "as the rules say" if self.complete else "cut off, none so far"


class Search:
    def __init__(self, bound: Bound, steps: Steps | None = None) -> None:
        self.bound = bound
        self.steps = steps or Steps(dated=bool(bound.links))
        self.at_once = {"the time"}
        self.at_once_unless_crash = {"put"}
        if not bound.split:
            self.at_once |= {"read connections", "read employer"}
        if bound.timers == 1:
            self.at_once |= {"read link", "list unmatched", "keep unmatched"}
            self.at_once_unless_crash |= {"store link"}

    def run(self, *, most: int | None = None) -> Found:
        """*most*: stop after so many states."""
        found, began = Found(), time.process_time()
        first = self.start()
        numbers: dict[Stage, int] = {first: 0}
        graph = Graph()
        frontier = deque([first])
        parts: dict[Any, Any] = {}
        while frontier and not found.trace:
            stage = frontier.popleft()
            number = numbers[stage]
            at_rest, wrong = True, []
            try:
                for label, after in self.following(stage):
                    at_rest = at_rest and label[0] in ("edit", "idle tick")
                    after = in_order(after)
                    if after not in numbers:
                        after = Stage(*(parts.setdefault(part, part) for part in after))
                        numbers[after] = len(numbers)
                        frontier.append(after)
                        graph.parents.append(number)
                    graph.edge(number, numbers[after])
            except Broken as error:
                at_rest, wrong = False, [str(error)]
            if at_rest:
                graph.at_rest.append(number)
                wrong = differences(stage)
            if wrong:
                found.trace = [*self.trace(list(numbers), graph.path(number)), *(f"WRONG: {line}" for line in wrong)]
            if most is not None and len(numbers) >= most:
                found.complete = False
                break
        found.states, found.transitions, found.at_rest = len(numbers), len(graph.targets), len(graph.at_rest)
        found.points = len(self.steps.points)
        if found.complete and not found.trace and (stuck := graph.never_at_rest()) is not None:
            found.trace = [*self.trace(list(numbers), graph.path(stuck)), "WRONG: no way leads to rest from here"]
        found.seconds = time.process_time() - began
        return found

    # --- the beginning --------------------------------------------------------------------------------------------

    def start(self) -> Stage:
        """A new opportunity; or everything done, in the first order that comes."""
        bound = self.bound
        dynamics = Dynamics(
            "Deal", customer=BEN if bound.customer else "", employer=ACME if bound.customer else "", opportunity=(DEAL,)
        )
        if bound.start == "with stakeholder":
            dynamics = EDITS["add"](dynamics) or dynamics
        feed = ("following", "link 0", "", "", "", True)
        workers, timers = (IDLE,) * bound.workers, (IDLE,) * bound.timers
        stage = Stage(dynamics, feeds=(feed,) * len(TABLES), workers=workers, timers=timers)
        while bound.start != "new" and (following := list(self.following(stage))):
            stage = in_order(following[0][1])
        left = Faults(bound.edits, bound.crashes, bound.late, bound.leases, bound.lags, bound.links)
        return stage._replace(left=left)

    # --- what may happen next -------------------------------------------------------------------------------------

    def following(self, stage: Stage) -> Iterator[tuple[Label, Stage]]:
        left = stage.left
        if left.edits:
            for name in self.bound.of:
                if dynamics := EDITS[name](stage.dynamics):
                    yield ("edit", 0, name), stage._replace(dynamics=dynamics, left=left._replace(edits=left.edits - 1))
        yield from self._begin_tick(stage)
        yield from self._receive(stage)
        for slot, actor in enumerate(stage.workers):
            if actor.point >= 0:
                yield from self._step(stage, "workers", slot)
                yield from self._die(stage, slot)
        for slot, actor in enumerate(stage.timers):
            if actor.point >= 0:
                yield from self._step(stage, "timers", slot)
                if left.crashes:
                    yield (
                        ("timers", slot, "dies"),
                        _spent(stage, "crashes")._replace(timers=replaced(stage.timers, slot, IDLE)),
                    )
        yield from self._settle(stage)

    def _begin_tick(self, stage: Stage) -> Iterator[tuple[Label, Stage]]:
        if IDLE not in stage.timers:
            return
        something = _something_to_detect(stage)
        if something or (self.bound.ticks and stage.left.edits and set(stage.timers) == {IDLE}):
            slot = stage.timers.index(IDLE)
            actor = Actor(self.steps.tick().number)
            begun = stage._replace(timers=replaced(stage.timers, slot, actor))
            yield from self._first_step(begun, "timers" if something else "idle tick", "timers", slot, "begins a tick")

    def _receive(self, stage: Stage) -> Iterator[tuple[Label, Stage]]:
        if IDLE not in stage.workers:
            return
        slot = stage.workers.index(IDLE)
        for index, message in enumerate(stage.queue):
            if message.after or (index and stage.queue[index - 1] == message):
                continue
            point = self.steps.delivery(message.opportunities, message.accounts, message.force)
            actor = Actor(point.number, message)
            begun = stage._replace(queue=without(stage.queue, index), workers=replaced(stage.workers, slot, actor))
            what = f"receives a message{', forced' if message.force else ''}"
            yield from self._first_step(begun, "workers", "workers", slot, what)

    def _first_step(self, stage: Stage, who: str, group: str, slot: int, what: str) -> Iterator[tuple[Label, Stage]]:
        """Only a tombstone tells when an actor began from when it first looked: *split* keeps them apart."""
        if self.bound.split:
            yield (who, slot, what), stage
        else:
            for label, after in self._step(stage, group, slot):
                yield (who, slot, what, *label[2:]), after

    def _step(self, stage: Stage, group: str, slot: int) -> Iterator[tuple[Label, Stage]]:
        actor = getattr(stage, group)[slot]
        point = self.steps.points[actor.point]
        if point.request is None:
            yield (group, slot, "acknowledges"), _placed(stage, group, slot, IDLE)
        elif point.request[0] == "raise":
            raise Broken(f"{group} raised {point.request[1]}")
        elif point.request[0] in WRITES:
            for what, after, result in _answers(stage, actor, point.request):
                yield (group, slot, what, point.request, result), self._go_on(after, group, slot, actor, point, result)
        else:
            for after, changed, result in read_or_store(stage, actor, point.request):
                yield (
                    (group, slot, "", point.request, result),
                    self._go_on(after, group, slot, changed, point, result),
                )

    def _go_on(self, stage: Stage, group: str, slot: int, actor: Actor, point: Point, result: Result) -> Stage:
        """To the next point that others can tell apart.

        At once go: what only this actor notices; a message put (it is received whenever somebody does) and the
        acknowledgement, unless it may die in between; unless *split*, the reads after the opportunity's row.
        """
        while True:
            point = self.steps.after(point, result)
            request = point.request
            alone = request is None or request[0] in self.at_once_unless_crash
            if not ((alone and not stage.left.crashes) or (request and request[0] in self.at_once)):
                return _placed(stage, group, slot, actor._replace(point=point.number))
            if request is None:
                return _placed(stage, group, slot, IDLE)
            [(stage, actor, result)] = read_or_store(stage, actor, request)

    def _die(self, stage: Stage, slot: int) -> Iterator[tuple[Label, Stage]]:
        """A crash, with a write on its way or not; a lease that ends although the worker lives.

        Either way the message is visible again when the lease ends: L after the last write that may have begun.
        """
        actor = stage.workers[slot]
        gone = _placed(stage, "workers", slot, IDLE)
        if stage.left.crashes:
            yield ("workers", slot, "dies"), _redelivered(_spent(gone, "crashes"), actor)
            request = self.steps.points[actor.point].request
            if request and request[0] in WRITES and not actor.lost:
                pending = _spent(gone, "crashes")._replace(pending=(*stage.pending, request))
                yield ("workers", slot, "dies while it sends", request, ""), _redelivered(pending, actor)
        if stage.left.leases and not actor.lost:
            lost = _placed(_spent(stage, "leases"), "workers", slot, actor._replace(lost=True))
            yield ("workers", slot, "loses its lease"), _redelivered(lost, actor)

    def _settle(self, stage: Stage) -> Iterator[tuple[Label, Stage]]:
        """What is pending comes, or never will; then messages that waited for it may be visible."""
        for index, request in enumerate(stage.pending):
            queue = tuple(
                message._replace(after=message.after - 1) if message.after > index else message
                for message in stage.queue
            )
            rest = stage._replace(pending=without(stage.pending, index), queue=tuple(sorted(queue)))
            if request == CATCH_UP:
                marketo = stage.marketo._replace(shown=stage.marketo.roles)
                yield ("Marketo", 0, "shows the roles as they are"), rest._replace(marketo=marketo)
                continue
            marketo, result = write(stage.marketo, request)
            yield ("Marketo", 0, "applies late", request, result), rest._replace(marketo=shown(marketo, request))
            yield ("Marketo", 0, "never applies", request, ""), rest

    # --- how it came to this ----------------------------------------------------------------------------------------

    def trace(self, stages: Sequence[Stage], path: Sequence[int]) -> list[str]:
        """One line a step. Workers keep their names, although states don't tell them apart."""
        lines = [f"at first: {_shown(stages[path[0]])}"]
        names = {group: [f"{group[:-1]} {n + 1}" for n in range(len(getattr(stages[0], group)))] for group in _GROUPS}
        for here, there in pairwise(path):
            label, after = next(
                (label, after) for label, after in self.following(stages[here]) if in_order(after) == stages[there]
            )
            group = "timers" if label[0] == "idle tick" else label[0]
            who = names[group][label[1]] if group in names else label[0]
            lines.append(f"{len(lines):3}  {who:9} {told(label[2:])}")
            for each in names:
                order = sorted(range(len(names[each])), key=getattr(after, each).__getitem__)
                names[each] = [names[each][index] for index in order]
        return [*lines, f"at last: {_shown(stages[path[-1]])}"]


_GROUPS = ("workers", "timers")


class Graph:
    """States by number: where each was first reached from, and all steps between them."""

    def __init__(self) -> None:
        self.parents = array("i", [-1])
        self.sources = array("i")
        self.targets = array("i")
        self.at_rest = array("i")

    def edge(self, source: int, target: int) -> None:
        self.sources.append(source)
        self.targets.append(target)

    def path(self, number: int) -> list[int]:
        found = [number]
        while found[-1]:
            found.append(self.parents[found[-1]])
        return found[::-1]

    def never_at_rest(self) -> int | None:
        """A state that no order of steps leads to rest from, if there is one."""
        count = len(self.parents)
        starts = array("i", bytes(4 * (count + 1)))
        for target in self.targets:
            starts[target + 1] += 1
        for number in range(count):
            starts[number + 1] += starts[number]
        free, before = starts[:], array("i", bytes(4 * len(self.targets)))
        for source, target in zip(self.sources, self.targets, strict=True):
            before[free[target]] = source
            free[target] += 1
        reached, todo = bytearray(count), list(self.at_rest)
        for number in todo:
            reached[number] = 1
        while todo:
            number = todo.pop()
            for source in before[starts[number] : starts[number + 1]]:
                if not reached[source]:
                    reached[source] = 1
                    todo.append(source)
        missing = reached.find(0)
        return None if missing < 0 else missing


def in_order(stage: Stage) -> Stage:
    """The one way to write a state down, whichever worker stands where."""
    workers, timers = tuple(sorted(stage.workers)), tuple(sorted(stage.timers))
    if workers == stage.workers and timers == stage.timers:
        return stage
    return stage._replace(workers=workers, timers=timers)


def _placed(stage: Stage, group: str, slot: int, actor: Actor) -> Stage:
    if group == "workers":
        return stage._replace(workers=replaced(stage.workers, slot, actor))
    return stage._replace(timers=replaced(stage.timers, slot, actor))


def _spent(stage: Stage, what: str) -> Stage:
    return stage._replace(left=stage.left._replace(**{what: getattr(stage.left, what) - 1}))


def _redelivered(stage: Stage, actor: Actor) -> Stage:
    if actor.lost:
        return stage
    message = Message(*actor.message)
    message = message._replace(force=message.force or "again", after=len(stage.pending))
    return stage._replace(queue=tuple(sorted((*stage.queue, message))))


def _something_to_detect(stage: Stage) -> bool:
    """Whether a tick would do more than look: changes, a wish, matched tombstones; waiting rows while all is quiet."""
    for table, feed in zip(TABLES, stage.feeds, strict=True):
        if feed[0] != "following" or feed[1] != f"link {len(getattr(stage.dynamics, table))}":
            return True
    if stage.comparison or set(stage.unmatched) & set(stage.connections):
        return True
    quiet = not stage.queue and set(stage.workers) | set(stage.timers) == {IDLE}
    return quiet and any(content[0] == "waiting" for _, content in stage.ledger)


def _answers(stage: Stage, actor: Actor, request: Request) -> Iterator[tuple[str, Stage, Result]]:
    """How a write may end: answered, applied later or never, answered when repeated while the first is under way."""
    if actor.lost and request[-1]:
        yield "may not start", stage, "out of time"
        return
    marketo, answers = write(stage.marketo, request)
    applied = stage._replace(marketo=shown(marketo, request))
    yield "", applied, (answers, False)
    if stage.left.lags and marketo.roles != stage.marketo.roles:
        lagging = _spent(stage, "lags")._replace(marketo=marketo, pending=(*stage.pending, CATCH_UP))
        yield "unseen by queries:", lagging, (answers, False)
    if stage.left.late:
        late = _spent(stage, "late")._replace(pending=(*stage.pending, request))
        yield "without an answer:", late, "no answer"
        yield "answered when repeated:", late._replace(marketo=applied.marketo), (answers, True)


# --- words ------------------------------------------------------------------------------------------------------------

_WORDS = {DEAL: "deal", BEN: "Ben", ACME: "Acme", BOLT: "Bolt", "-0000-4000-8000-00000000000b": ""}


def told(what: Sequence[Any]) -> str:
    """Some words, then perhaps a request and its answer."""
    words = [str(one) for one in what if isinstance(one, str)]
    rest = [one for one in what if not isinstance(one, str)]
    if rest:
        words.append(" ".join(_plain(one) for one in rest[0]))
    if len(rest) > 1 and rest[1] != ():
        words.append(f"→ {_plain(rest[1])}")
    return " ".join(word for word in words if word)


def _plain(value: object) -> str:
    text = str(value)
    for long, short in _WORDS.items():
        text = text.replace(long, short)
    return text


def _shown(stage: Stage) -> str:
    ledger = ", ".join(f"{key}: {row[0]} {[role[:2] for role in row[2]]}" for key, row in stage.ledger)
    dynamics = f"{stage.dynamics.name or 'deleted'} stakeholder {stage.dynamics.stakeholder or 'none'}"
    fields = dict(stage.marketo.opportunity)
    return _plain(
        f"Dynamics {dynamics} {stage.dynamics.employer}; Marketo {fields.get('name', 'nothing')} "
        f"{fields.get('externalCompanyId') or ''} {[key for key, _ in stage.marketo.roles]}; ledger {ledger or 'empty'}"
    )
