"""What would `sync` do now? The real detect and the real deliveries, in a world that writes nothing.

In parts, counted apart: what `sync` would do now; what comes once that which waits is due; and, as nobody promises
that a change is noticed by its link alone (a mapping that waits for `backfill`, a filter that time has moved), what a
look at every other opportunity would bring. Counts add up, the first differences are kept, everything else is written
out as it is met.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from sync_core.errors import ConfigurationError, NewerVersion, NotOurs
from sync_core.flows.detect import OPPORTUNITY, detect
from sync_core.flows.foreseen import OBJECTS, ONE, OUT_OF_STEP, Change, foreseen
from sync_core.flows.guard import PAUSE, check_pair
from sync_core.flows.observe import chunks, suspended
from sync_core.flows.reconcile import DUE, reconcile
from sync_core.flows.references import COMPANY_ID
from sync_core.flows.rehearsal import REHEARSED, TIME_BOX_S, WHOLE, LedgerOver, Rehearsal, rehearse, work_of
from sync_core.flows.world import World
from sync_core.messages import FULL, decode, split
from sync_core.model import LEFT_OUT, Answer, Lane, LedgerRow, MarketoObject, State, Work
from sync_core.rules.pace import at_least
from sync_core.rules.questions import LOGS_NOOP, YES
from sync_core.rules.words import counted

FORMAT = 2
PERSON = "person"
STANDINGS = (*map(str, OUT_OF_STEP), LEFT_OUT)


@dataclass(slots=True)
class Tally:
    """Counts of one part; `reasons` of what is not in step or left out, `removals` all of them.

    *logs_noop*: whether Marketo logs an update that changes nothing, '' where that isn't known (`flows.probe`).
    """

    logs_noop: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, Counter[str]] = field(default_factory=lambda: {each: Counter() for each in STANDINGS})
    removals: list[str] = field(default_factory=list)

    @property
    def does_something(self) -> bool:
        return bool(self.counts["write calls"]) or any(
            number > 0 for state in OUT_OF_STEP for number in self.reasons[state].values()
        )

    def in_words(self, shares: tuple[int, int], used: int) -> dict[str, Any]:
        counts = self.counts
        calls = counts["write calls"] + counts["read calls"]
        found: dict[str, Any] = {
            what: {
                "created": counts[f"{what} created"],
                "updated": counts[f"{what} updated"],
                "of these without a difference": counts[f"{what} repeated"],
            }
            for what in OBJECTS.values()
        }
        found["opportunities"] |= {"looked at": counts["looked at"], "removed": counts["opportunities removed"]}
        found["people"] = {each: counts[f"people {each}"] for each in ("created", "linked", "moved")}
        found["roles"] = {each: counts[f"roles {each}"] for each in ("added", "changed", "repeated", "removed")}
        found["roles"]["of the removed replaced"] = counts["roles replaced"]
        found["Marketo calls"] = {
            "to write": counts["write calls"],
            "to read": counts["read calls"],
            **at_least(calls, shares, used),
        }
        found |= {state: {why: n for why, n in told.most_common() if n > 0} for state, told in self.reasons.items()}
        return found | {"removals": self.removals, "Marketo will log": self._activities()}

    def _activities(self) -> list[str]:
        """For marketing: what trigger campaigns listen to."""
        counts = self.counts
        words = (
            (counts["roles added"], "Added to Opportunity"),
            (counts["roles removed"] + counts["roles of others left"], "Removed from Opportunity"),
            (counts["people told"], "Opportunity Updated"),
            (counts["people created"], "Person Created"),
            (counts["people moved"], "moved to another company"),
        )
        told = [f"{number} {'person' if number == 1 else 'people'} {text}" for number, text in words if number]
        waiting = sum(n for n in self.reasons[str(State.WAITING)].values() if n > 0)
        later = [f"and whatever the {waiting} that wait bring when they are tried again"] if waiting else []
        if (repeated := counts["opportunities repeated"]) and not self.logs_noop:
            of = counted(repeated, "opportunity", "opportunities")
            later.append(f"perhaps Opportunity Updated for {of} without a difference: `probe` finds that out")
        if not told:
            return ["nothing now", *later] if later else ["nothing: no trigger campaign starts"]
        told += ["a person in several deals or roles counts once for each", "switch off trigger campaigns first"]
        return [*told, *later]


def plan(
    world: World,
    *,
    only: Sequence[str] = (),
    limit: int = 20,
    out: Callable[[str], object] | None = None,
    earlier: Iterable[str] | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> dict[str, Any]:
    """The summary; *out* gets the text of a plan file piece by piece, *earlier* are the lines of such a file.

    Raises ConfigurationError where `sync` would, and RetryLater when a service can't be read.
    """
    rehearsal = rehearse(world)
    try:
        return _Plan(world, rehearsal, limit, out, progress).run(only, earlier)
    finally:
        rehearsal.kept.close()


class _Plan:
    def __init__(
        self,
        real: World,
        rehearsal: Rehearsal,
        limit: int,
        out: Callable[[str], object] | None,
        progress: Callable[[int], object],
    ) -> None:
        self.real = real
        self.world = rehearsal.world
        self.rehearsal = rehearsal
        self.limit = limit
        self.out = out or (lambda _: None)
        self.progress = progress
        self.now, self.due, self.backfill = (Tally(rehearsal.marketo.known.get(LOGS_NOOP, "")) for _ in range(3))
        self.tally = self.now
        self.first: list[dict[str, Any]] = []
        self.shown = Counter[str]()
        self.queued = self.hidden = 0
        self.left_as_they_are: dict[str, Counter[str]] = {each: Counter() for each in STANDINGS}
        self.invisible = 0
        self.entries = 0
        self.diff: Difference | None = None

    def run(self, only: Sequence[str], earlier: Iterable[str] | None) -> dict[str, Any]:
        if earlier is not None:
            self.diff = Difference(self.rehearsal, earlier)
        check_pair(self.world)
        first_load = self.real.documents.read("feed", OPPORTUNITY) is None
        left_alone = suspended(self.world)
        head = {"plan": FORMAT, "mapping": self.world.config.version, "at": self.world.clock.now().isoformat()}
        self.out(json.dumps(head)[:-1] + ', "changes": [\n')
        if only:
            self._deliver_all(self.now, Work(tuple(only), why="only"))
        else:
            self._look_into_the_queue()
            self._as_sync_does()
            self._everything_else()
        summary = head | self._summary(first_load, left_alone)
        self.out(f'\n], "summary": {json.dumps(summary, ensure_ascii=False)}}}\n')
        return summary

    def _summary(self, first_load: bool, left_alone: Mapping[str, str]) -> dict[str, Any]:
        limiter = self.real.limiter
        shares, used = limiter.shares, limiter.used_today()
        pause = self.real.documents.read(*PAUSE)
        found: dict[str, Any] = {"paused": pause.value["since"]} if pause else {}
        if first_load and left_alone:
            found["sync refuses to start"] = "a first load needs every mapped field; `left alone` says what is missing"
        found |= self.now.in_words(shares, used)
        later = {"once what waits is due": self.due, "only after `backfill`": self.backfill}
        found |= {when: tally.in_words(shares, used) for when, tally in later.items() if tally.does_something}
        unchanged = {state: dict(reasons.most_common()) for state, reasons in self.left_as_they_are.items() if reasons}
        found |= {"stays as it is": unchanged} if unchanged else {}
        found |= {"neither shown nor reported deleted": self.invisible} if self.invisible else {}
        found |= {"messages on the queue": self.queued} if self.queued else {}
        found |= {"of these hidden for now": self.hidden} if self.hidden else {}
        found |= {"left alone": dict(left_alone), "first differences": self.first}
        return found | ({"compared with the earlier plan": self.diff.in_words(self.limit)} if self.diff else {})

    @property
    def rest(self) -> Tally:
        """What a hidden message asks for was noticed before, and can't be told apart from what was not."""
        return self.now if self.hidden else self.backfill

    # --- the path of `sync` -----------------------------------------------------------------------------------

    def _look_into_the_queue(self) -> None:
        """Rehearse the messages that are visible; others are being delivered, or were put back for a while."""
        queue, lengths = self.real.queue, self.real.queue.lengths()
        for lane in Lane:
            letters = queue.peek(lane)
            self.queued += max(lengths[lane], len(letters))
            self.hidden += max(lengths[lane] - len(letters), 0)
            for letter in letters:
                with suppress(NotOurs, NewerVersion):  # set aside, or given back, when it is delivered
                    work = decode(letter.body)
                    force = work.force or letter.dequeue_count > 0
                    self.rehearsal.queue.put(replace(work, lane=lane, force=force))

    def _as_sync_does(self) -> None:
        complete = False
        while not complete:
            complete = detect(self.world, time_box=TIME_BOX_S).complete
            self._count()  # what detect itself holds
            self._drain()

    def _drain(self) -> None:
        while work := self.rehearsal.queue.take():
            self._deliver(work)

    # --- what `sync` does not look at now ---------------------------------------------------------------------

    def _everything_else(self) -> None:
        """What is in step, or unknown; and what waits, as if it were due. The rest stays until somebody mends it."""
        ledger, kept = self.rehearsal.opportunities, self.rehearsal.kept
        for ids in chunks((key for page in self.world.source.ids(OPPORTUNITY) for key in page), FULL):
            self._look_at_the_others(MarketoObject.OPPORTUNITY, ledger, ids)
            kept.write("shown", dict.fromkeys(ledger.untouched(ids), ""))
        for page in ledger.ids():
            shown = kept.read("shown", page)
            self._look_at_the_others(
                MarketoObject.OPPORTUNITY, ledger, self._reported([key for key in page if key not in shown])
            )
        for page in self.rehearsal.companies.ids():
            self._look_at_the_others(MarketoObject.COMPANY, self.rehearsal.companies, page)
        if self.world.config.owner.salesperson:
            for page in self.rehearsal.sales_persons.ids():
                self._look_at_the_others(MarketoObject.SALES_PERSON, self.rehearsal.sales_persons, page)

    def _reported(self, ids: Sequence[str]) -> list[str]:
        """Of opportunities that Dynamics doesn't show those that a look at may bring to something."""
        rows = self.rehearsal.opportunities.rows(self.rehearsal.opportunities.untouched(ids))
        buried = self.world.tombstones.read([key for key, row in rows.items() if row.state is State.IN_STEP])
        found = []
        for key, row in rows.items():
            if row.state is State.IN_STEP and not (key in buried and buried[key]["at"] >= row.seen):
                self.invisible += 1
            elif row.state is not State.GONE:
                found.append(key)
        return found

    def _look_at_the_others(self, kind: MarketoObject, ledger: LedgerOver, ids: Sequence[str]) -> None:
        """Those of *ids* that nothing was written for."""
        ids = ledger.untouched(ids)
        rows = ledger.rows(ids)
        waiting, wanted = [], []
        for key in ids:
            row = rows.get(key, LedgerRow(key))
            if row.state is State.WAITING:
                waiting.append(key)
            elif row.approved and self.hidden:
                wanted.append(key)  # approving queues it
            elif row.state in OUT_OF_STEP:
                self._stays(_standing(kind, row))
            elif row.state is State.IN_STEP or kind is MarketoObject.OPPORTUNITY:
                wanted.append(key)
        self._deliver_all(self.due, work_of(kind, waiting, DUE))
        self._deliver_all(self.rest, work_of(kind, wanted, "plan"))

    def _stays(self, standing: tuple[str, str] | None) -> None:
        if standing:
            state, reason = standing
            self.left_as_they_are[state][reason] += 1

    def _deliver_all(self, tally: Tally, work: Work) -> None:
        """All of it, and what it leaves on the queue."""
        self.tally = tally
        for part in split(work):
            self._deliver(part)
        self._drain()

    def _deliver(self, work: Work) -> None:
        deadline = self.world.clock.now() + WHOLE
        outcome = reconcile(self.world, work, force=work.force, deadline=deadline)
        self._count()
        self.rehearsal.put_back(outcome)
        self.progress(self.now.counts["looked at"] + self.backfill.counts["looked at"])

    # --- what a delivery did ----------------------------------------------------------------------------------

    def _count(self) -> None:
        """Take everything that was recorded since the last time."""
        marketo, counts = self.rehearsal.marketo, self.tally.counts
        changes = foreseen(self.rehearsal, self.world.config)
        companies = {lead.id: lead.company for lead in marketo.matched}
        counts["read calls"] += len(marketo.reads)
        counts["write calls"] += len(marketo.sent)
        for sent in marketo.sent:
            for record, answer in zip(sent.records, sent.answers, strict=True):
                if sent.kind is MarketoObject.LEAD:
                    self._person(record, answer, companies)
                elif sent.kind is not MarketoObject.ROLE and not sent.deleted:
                    counts[f"{OBJECTS[sent.kind]} {answer.status}"] += 1
                    repeated = answer.status == "updated" and not marketo.differing(sent.kind, record)
                    counts[f"{OBJECTS[sent.kind]} repeated"] += repeated
        for change in changes:
            self._state(change)
            if change.kind is MarketoObject.OPPORTUNITY:
                self._roles(change)
            self._tell(change.entry())
        marketo.forget()
        self.rehearsal.people.made.clear()

    def _person(self, record: Mapping[str, Any], answer: Answer, companies: Mapping[int, str]) -> None:
        """By the contacts of whoever is created, by the id of whoever is there: names and addresses stay out."""
        lead = answer.id or 0
        company = companies.get(lead, "")
        does = "create" if answer.status == "created" else "move" if company else "link"
        self.tally.counts[f"people {does.removesuffix('e')}ed"] += 1
        fields = {COMPANY_ID: [company or None, record[COMPANY_ID]]} if record.get(COMPANY_ID) else {}
        contacts = self.rehearsal.people.made[lead]
        self._tell({"id": ", ".join(contacts) or str(lead), "object": PERSON, "does": does, "fields": fields})

    def _roles(self, change: Change) -> None:
        """Count what becomes of an opportunity and its roles."""
        counts = self.tally.counts
        counts["looked at"] += change.before.ticket != REHEARSED
        if change.does == "remove":
            counts["opportunities removed"] += 1
            counts["roles of others left"] += len(change.held) - len(change.removed)
            self.tally.removals.append(change.before.id)
        if change.does == "update" and (change.fields or self.tally.logs_noop == YES):
            counts["people told"] += len({role.lead for role in change.held})
        counts["roles added"] += len(change.added)
        counts["roles changed"] += len(change.changed)
        counts["roles repeated"] += len(change.kept) - len(change.changed)
        counts["roles removed"] += len(change.removed)
        counts["roles replaced"] += len(change.removed) - change.lost()

    def _tell(self, entry: dict[str, Any]) -> None:
        """Write it out; the first of each kind are kept, and all of them compared with the earlier plan."""
        if not entry:
            return
        self.out((",\n" if self.entries else "") + json.dumps(entry, ensure_ascii=False))
        self.entries += 1
        self.shown[entry["object"]] += 1
        if self.shown[entry["object"]] <= self.limit:
            self.first.append(entry)
        if self.diff:
            self.diff.add(entry)

    def _state(self, change: Change) -> None:
        """Where the row stands then. What `sync` doesn't look at now stays as it is; so does what stays left out."""
        reasons, now = self.tally.reasons, self.tally is self.now
        before, after = _standing(change.kind, change.before), _standing(change.kind, change.after)
        again = change.before.ticket == REHEARSED  # a second look, as after the overlap query of a first load
        if before and again:
            reasons[before[0]][before[1]] -= 1
        if before and not again and (before == after if before[0] == LEFT_OUT else not now):
            self._stays(before)
        if after and (before != after or again or (now and after[0] != LEFT_OUT)):
            reasons[after[0]][after[1]] += 1


def _standing(kind: MarketoObject, row: LedgerRow) -> tuple[str, str] | None:
    """State and reason of a row that is left out or not in step."""
    if row.state not in OUT_OF_STEP and not row.left_out:
        return None
    reason = row.reason if kind is MarketoObject.OPPORTUNITY else f"{ONE[kind]}: {row.reason}"
    return LEFT_OUT if row.left_out else str(row.state), reason


class Difference:
    """An earlier plan, kept on disk, and what the new one says otherwise."""

    def __init__(self, rehearsal: Rehearsal, lines: Iterable[str]) -> None:
        self._kept = rehearsal.kept
        self._counts: Counter[str] = Counter()
        self._first: list[dict[str, Any]] = []
        found = iter(lines)
        if f'"plan": {FORMAT}' not in next(found, ""):
            raise ConfigurationError("--diff: the file is no plan that `plan --out` wrote")
        for batch in chunks(_entries(found), 1000):
            self._kept.write("earlier", {_name(entry): json.dumps(entry) for entry in batch})

    def add(self, entry: Mapping[str, Any]) -> None:
        name = _name(entry)
        known = self._kept.read("earlier", [name]).get(name)
        self._kept.delete("earlier", [name])
        before = json.loads(known) if known else {}
        if _essence(before) == _essence(entry):
            self._counts["as before"] += 1
            return
        self._counts["different" if before else "new"] += 1
        who = {"object": entry["object"], "id": entry["id"]}
        self._first.append(who | {"before": _essence(before), "now": _essence(entry)})
        del self._first[100:]

    def in_words(self, limit: int) -> dict[str, Any]:
        gone = self._kept.count("earlier")
        first = [_only_different(each) for each in self._first[:limit]]
        gone_first = map(json.loads, self._kept.first("earlier", limit))
        first += [{"object": each["object"], "id": each["id"], "now": "nothing"} for each in gone_first]
        counts = {each: self._counts[each] for each in ("as before", "different", "new")}
        return counts | {"no longer": gone, "the first": first[:limit]}


def _entries(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """One a line, as they were written."""
    for line in lines:
        if line.startswith('{"id"'):
            yield json.loads(line.rstrip().removesuffix(","))


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry['object']} {entry['id']}"


def _essence(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What would stand in Marketo: not what stands there now, which moves by itself."""
    fields = {name: value for name, (_, value) in entry.get("fields", {}).items()}
    roles = {f"roles {what}": "; ".join(each) for what, each in entry.get("roles", {}).items()}
    rest = {name: value for name, value in entry.items() if name not in ("id", "object", "fields", "roles")}
    return {**rest, **roles, **fields}


def _only_different(each: Mapping[str, Any]) -> dict[str, Any]:
    before, now = each["before"], each["now"]
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return {"object": each["object"], "id": each["id"]} | {name: [before.get(name), now.get(name)] for name in names}
