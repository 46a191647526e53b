"""Rules of the protocol taken out of the real code, one at a time: each has to lead to a difference.

The text of one module is changed, and the flows are loaded once more over it. A rule whose text is no longer there
is an error, not a pass.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from sync_core.engine import Engine


@dataclass(frozen=True)
class Ablation:
    """*rule* says what is lost; *bound* is one of `bounds` that shows why it is there."""

    rule: str
    bound: str
    module: str
    old: str
    new: str

    def engine(self) -> type[Engine]:
        """The real engine, with this rule taken out."""
        text = _source(self.module)
        if text.count(self.old) != 1:
            raise LookupError(f"{self.module} has {text.count(self.old)} times:\n{self.old}")
        with _flows_loaded_again():
            changed = ModuleType(self.module)
            sys.modules[self.module] = changed
            code = compile(text.replace(self.old, self.new), self.module, "exec")
            exec(code, changed.__dict__)  # noqa: S102 - our own text
            found: type[Engine] = importlib.import_module("sync_core.engine").Engine
        return found


def _source(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise LookupError(module)
    return Path(spec.origin).read_text(encoding="utf-8")


@contextmanager
def _flows_loaded_again() -> Iterator[None]:
    """Imports of the engine and the flows give new modules inside, and afterwards the old ones as before."""
    importlib.import_module("sync_core.engine")
    kept = {
        name: module for name, module in sys.modules.items() if name.startswith(("sync_core.engine", "sync_core.flows"))
    }
    for name in kept:
        del sys.modules[name]
    try:
        yield
    finally:
        for name, module in kept.items():
            sys.modules[name] = module
            parent, _, child = name.rpartition(".")
            setattr(sys.modules[parent], child, module)


ENGINE = "sync_core.engine"
CASES, CALLS, DETECT, RECONCILE, REFERENCES, ROLES = (
    f"sync_core.flows.{name}" for name in ("cases", "calls", "detect", "reconcile", "references", "roles")
)

ABLATIONS = (
    Ablation(
        "the ledger is read before the rows",
        "edits",
        RECONCILE,
        """            self._take_tickets()
            self._decide(observe(self.world, list(self.cases)))
""",
        """            seen = observe(self.world, self.work.opportunities)
            self._take_tickets()
            self._decide(seen)
""",
    ),
    Ablation(
        "a delivery ends with a write, also if nothing differed",
        "edits",
        RECONCILE,
        "rows = [self._next(case) for case in self.cases.values() if case.going_on]",
        "rows = [row for case in self.cases.values() if case.going_on"
        " and replace(row := self._next(case), seen=case.row.seen) != case.row]",
    ),
    Ablation(
        "a row is written only under the ticket it was read with",
        "edits",
        RECONCILE,
        "        lost = self.world.opportunities.write(rows) if rows else set()\n",
        """        held = self.world.opportunities.rows([row.id for row in rows])
        rows = [replace(row, ticket=held[row.id].ticket if row.id in held else None) for row in rows]
        lost = self.world.opportunities.write(rows) if rows else set()
""",
    ),
    Ablation(
        "an id that lost its ticket goes back",
        "edits",
        CASES,
        "self.trouble is not None or self.unanswered or self.id in lost",
        "self.trouble is not None or self.unanswered",
    ),
    Ablation(
        "an id that a write was sent for goes back forced",
        "edits",
        RECONCILE,
        "force=forced or self.force,",
        "force=self.force,",
    ),
    Ablation(
        "a forced delivery posts the values again",
        "edits",
        RECONCILE,
        "case.force or not case.row.known or changed_fields(case.row, case.digests, case.record)",
        "not case.row.known or changed_fields(case.row, case.digests, case.record)",
    ),
    Ablation(
        "a forced delivery reads the roles back",
        "edits",
        ROLES,
        "asked = [case for case in self._with_roles() if case.force or case.adopt]",
        "asked = [case for case in self._with_roles() if case.adopt]",
    ),
    Ablation(
        "a forced delivery posts the roles again",
        "edits",
        ROLES,
        "tuple(held.values()), force=case.force,",
        "tuple(held.values()), force=False,",
    ),
    Ablation(
        "a message received again is forced",
        "crash",
        ENGINE,
        "work.force or dequeue_count > 1",
        "work.force",
    ),
    Ablation(
        "what came back forced goes back forced",
        "first post, crash",
        RECONCILE,
        "force=forced or self.force,",
        "force=forced,",
    ),
    Ablation(
        "a write without an answer puts its id back, even if repeating it succeeded",
        "late",
        CASES,
        "self.trouble is not None or self.unanswered or self.id in lost",
        "self.trouble is not None or self.id in lost",
    ),
    Ablation(
        "an id that a write was sent for is invisible for L (late writes)",
        "late",
        RECONCILE,
        "least = float(self.world.late_write) if forced else CONFLICT_DELAY_S",
        "least = CONFLICT_DELAY_S",
    ),
    Ablation(
        "an id that a write was sent for is invisible for L (lagging queries)",
        "lag",
        RECONCILE,
        "least = float(self.world.late_write) if forced else CONFLICT_DELAY_S",
        "least = CONFLICT_DELAY_S",
    ),
    Ablation(
        "roles held are those read back and those of the ledger",
        "edits",
        ROLES,
        "held = {role.key: role for role in case.row.roles} | {role.key: role for role in case.read_back}",
        "held = {role.key: role for role in (case.read_back if case.force else case.row.roles)}",
    ),
    Ablation(
        "no write starts later than L before the end of the lease",
        "lease, crash",
        ENGINE,
        "deadline=lease_ends - timedelta(seconds=self.world.late_write)",
        "deadline=lease_ends",
    ),
    Ablation(
        "a removal leaves a row, also for an id that was unknown",
        "first post",
        RECONCILE,
        "rows = [self._next(case) for case in self.cases.values() if case.going_on]",
        "rows = [self._next(c) for c in self.cases.values() if c.going_on and (c.row.known or not c.removed)]",
    ),
    Ablation(
        "a forced removal removes again, whatever the row says",
        "first post",
        RECONCILE,
        "and (case.force or (case.row.state is not State.GONE and (case.row.fields or case.row.roles)))",
        "and case.row.state is not State.GONE and (case.row.fields or case.row.roles)",
    ),
    Ablation(
        "a forced removal reads the roles back",
        "three workers",
        ROLES,
        "asked += [case for case in self.cases.values() if case.removed and case.force and case.going_on]",
        "",
    ),
    Ablation(
        "the roles of a deleted opportunity go with it",
        "removal",
        RECONCILE,
        "            self.roles.remove([case for case in self._to_remove() if not case.held])\n",
        "            self.roles.remove([])\n",
    ),
    Ablation(
        "a waiting row whose opportunity is gone is not trusted",
        "first post, crash",
        RECONCILE,
        "                case.force = case.force or (case.row.known and case.row.state in UNTRUSTED)\n",
        "",
    ),
    Ablation(
        "connections of roles are on record",
        "edits",
        ROLES,
        "        self._remember_connections(cases)\n",
        "",
    ),
    Ablation(
        "tombstones of connections that match nothing are looked up again",
        "edits",
        DETECT,
        "        self._keep_unmatched(set(page.deleted) - set(matched))\n",
        "",
    ),
    Ablation(
        "ids are on the queue before the link is stored",
        "crash",
        DETECT,
        """        self._flush()
        if self.forget:
            self.world.connections.delete(self.forget)
            self.forget = []
        waiting, self.unsaved = self.unsaved, []
        for feed in {id(feed): feed for feed in (*waiting, *feeds)}.values():
            feed.ticket = self.world.documents.write("feed", feed.table, feed.value(), feed.ticket) or feed.ticket
""",
        """        waiting, self.unsaved = self.unsaved, []
        for feed in {id(feed): feed for feed in (*waiting, *feeds)}.values():
            feed.ticket = self.world.documents.write("feed", feed.table, feed.value(), feed.ticket) or feed.ticket
        self._flush()
        if self.forget:
            self.world.connections.delete(self.forget)
            self.forget = []
""",
    ),
    Ablation(
        "a connection is forgotten after its opportunity is on the queue",
        "crash",
        DETECT,
        """        self._flush()
        if self.forget:
            self.world.connections.delete(self.forget)
            self.forget = []
        waiting""",
        """        if self.forget:
            self.world.connections.delete(self.forget)
            self.forget = []
        self._flush()
        waiting""",
    ),
    Ablation(
        "the tombstone is remembered",
        "removal",
        DETECT,
        '        self.world.tombstones.write({key: {"at": at} for key in ids})\n',
        "",
    ),
    Ablation(
        "a moved customer's opportunities are looked at",
        "contact moved",
        DETECT,
        "        self._add(self.world.source.opportunities_of_contacts(changed) if changed else ())\n",
        "",
    ),
    Ablation(
        "a new company is looked at again once it is on record",
        "company",
        REFERENCES,
        'return {case.id for case in new if case.id in now and now[case.id]["versionnumber"] != case.version}',
        "return set()",
    ),
    Ablation(
        "a forced delivery looks at its company again",
        "company, crash",
        REFERENCES,
        "(in_step - doubted - forced)",
        "(in_step - doubted)",
    ),
    Ablation(
        "a company that lost its ticket goes back",
        "contact moved",
        REFERENCES,
        "case.unfinished(self.lost | self.moved)",
        "case.unfinished(self.moved)",
    ),
    Ablation(
        "what changed during a full read is asked for",
        "dead link",
        DETECT,
        """                self._add(ids)
                self._flush()
            feed.phase = "compare"
""",
        """                self._flush()
            feed.phase = "compare"
""",
    ),
    Ablation(
        "ids of the ledger that a full read lacks are looked at",
        "dead link",
        DETECT,
        "            self._compare()\n            feed.phase, feed.again",
        "            feed.phase, feed.again",
    ),
)
