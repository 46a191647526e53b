"""What the actors share, as one small value, and what each request of theirs does to it.

Names stand for contents, lists for sets; nothing here counts or dates more than the actors can compare. So that
equal situations are equal:

* an ETag is "nobody wrote since I read": the keys under `Actor.tickets`, taken away from all by a write;
* a time is "younger or older than the row's last sight": `Stage.tombstone`, `Actor.tombstone`, `Actor.overtaken`;
* "invisible for L" is "until the writes pending now have come or never will": `Message.after`;
* a link is a position in the list of a table's changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.interleavings.steps import ACME, BEN, BOLT, DEAL, Request, Result

TABLES = ("opportunity", "connection", "contact", "account")
WRITES = ("upsert", "delete")


class Dynamics(NamedTuple):
    """The CRM, and the changes of each table in order. *name* is empty while the opportunity is deleted."""

    name: str
    stakeholder: str = ""  # the id of Ann's connection
    customer: str = ""  # nobody or Ben
    employer: str = ""
    renamed: tuple[int, int] = (0, 0)  # how often Acme and Bolt were
    opportunity: tuple[str, ...] = ()
    connection: tuple[str, ...] = ()
    contact: tuple[str, ...] = ()
    account: tuple[str, ...] = ()

    def exists(self, table: str, key: str) -> bool:
        if table == "opportunity":
            return bool(self.name)
        return key == self.stakeholder if table == "connection" else True

    def company(self, key: str) -> tuple[str, str, int]:
        """Id, name and version of an account."""
        number = self.renamed[key == BOLT]
        return key, f"{'Bolt' if key == BOLT else 'Acme'} {number % 2}", number


class Marketo(NamedTuple):
    opportunity: tuple[tuple[str, Any], ...] = ()
    roles: tuple[Any, ...] = ()  # ((lead, text), (primary, created)), of a deleted opportunity too
    shown: tuple[Any, ...] = ()  # the roles as a query shows them
    companies: tuple[tuple[str, str], ...] = ()


class Actor(NamedTuple):
    """A delivery or a tick under way; *point* numbers what it does next, -1 is nobody."""

    point: int = -1
    message: tuple[Any, ...] = ()
    tickets: tuple[str, ...] = ()
    lost: bool = False  # its lease
    tombstone: str = ""  # as against the row's last sight that it knows
    overtaken: bool = False  # buried again since it began


IDLE = Actor()


class Message(NamedTuple):
    opportunities: tuple[str, ...]
    accounts: tuple[str, ...]
    force: str = ""
    after: int = 0  # of `Stage.pending` the first so many go before it is visible


class Faults(NamedTuple):
    """How many of each may still happen."""

    edits: int = 0
    crashes: int = 0
    late: int = 0
    leases: int = 0
    lags: int = 0
    links: int = 0


class Stage(NamedTuple):
    dynamics: Dynamics
    marketo: Marketo = Marketo()
    ledger: tuple[tuple[str, Any], ...] = ()
    connections: tuple[str, ...] = ()  # those whose opportunity is remembered
    tombstone: str = ""  # `younger` or `older` than the row's last sight
    unmatched: tuple[str, ...] = ()
    comparison: bool = False
    feeds: tuple[tuple[Any, ...], ...] = ()  # as FEED, for each of TABLES
    queue: tuple[Message, ...] = ()
    pending: tuple[Request, ...] = ()  # Marketo may still apply these; ("show roles",): its queries lag behind
    workers: tuple[Actor, ...] = ()
    timers: tuple[Actor, ...] = ()
    left: Faults = Faults()


def replaced(items: tuple[Any, ...], index: int, item: Any) -> tuple[Any, ...]:
    return (*items[:index], item, *items[index + 1 :])


def without(items: tuple[Any, ...], index: int) -> tuple[Any, ...]:
    return (*items[:index], *items[index + 1 :])


# --- edits ----------------------------------------------------------------------------------------------------------


def _rename(d: Dynamics) -> Dynamics | None:
    other = "New" if d.name == "Deal" else "Deal"
    return d._replace(name=other, opportunity=(*d.opportunity, DEAL)) if d.name else None


def _add(d: Dynamics) -> Dynamics | None:
    key = f"{len(d.connection):08}-0000-4000-8000-00000000000b"
    return d._replace(stakeholder=key, connection=(*d.connection, key)) if d.name and not d.stakeholder else None


def _remove(d: Dynamics) -> Dynamics | None:
    return d._replace(stakeholder="", connection=(*d.connection, d.stakeholder)) if d.stakeholder else None


def _delete(d: Dynamics) -> Dynamics | None:
    """Dataverse deletes its connections as well."""
    if not d.name:
        return None
    rest = _remove(d) or d
    return rest._replace(name="", opportunity=(*d.opportunity, DEAL))


def _restore(d: Dynamics) -> Dynamics | None:
    return d._replace(name="Deal", opportunity=(*d.opportunity, DEAL)) if not d.name else None


def _move(d: Dynamics) -> Dynamics | None:
    """The customer goes to another account."""
    return d._replace(employer=BOLT if d.employer == ACME else ACME, contact=(*d.contact, BEN)) if d.customer else None


def _rename_account(d: Dynamics) -> Dynamics | None:
    return d._replace(renamed=(d.renamed[0] + 1, d.renamed[1]), account=(*d.account, ACME))


EDITS: dict[str, Callable[[Dynamics], Dynamics | None]] = {
    "rename": _rename,
    "add": _add,
    "remove": _remove,
    "delete": _delete,
    "restore": _restore,
    "move": _move,
    "rename account": _rename_account,
}


# --- Marketo ----------------------------------------------------------------------------------------------------------


def write(marketo: Marketo, request: Request) -> tuple[Marketo, tuple[str, ...]]:
    """Apply one call; the answers in order."""
    what, kind, records, _ = request
    answers = []
    for record in records:
        marketo, answer = _WRITERS[what, kind](marketo, dict(record))
        answers.append(answer)
    return marketo, tuple(answers)


def shown(marketo: Marketo, request: Request) -> Marketo:
    """Queries show all roles once they show one that was written later."""
    return marketo._replace(shown=marketo.roles) if request[1] == "opportunities/roles" else marketo


def _upsert_opportunity(marketo: Marketo, record: dict[str, Any]) -> tuple[Marketo, str]:
    company = record.get("externalCompanyId")
    if company and company not in dict(marketo.companies):
        return marketo, "1013"
    known = dict(marketo.opportunity)
    return marketo._replace(opportunity=tuple(sorted((known | record).items()))), "updated" if known else "created"


def _delete_opportunity(marketo: Marketo, record: dict[str, Any]) -> tuple[Marketo, str]:
    """Its roles stay behind."""
    return (marketo._replace(opportunity=()), "deleted") if marketo.opportunity else (marketo, "1013")


def _upsert_role(marketo: Marketo, record: dict[str, Any]) -> tuple[Marketo, str]:
    if not marketo.opportunity:
        return marketo, "1013"
    roles = dict(marketo.roles)
    key = (record["leadId"], record["role"])
    answer = "updated" if key in roles else "created"
    roles[key] = (record["isPrimary"], record.get("externalCreatedDate", ""))
    return marketo._replace(roles=tuple(sorted(roles.items()))), answer


def _delete_role(marketo: Marketo, record: dict[str, Any]) -> tuple[Marketo, str]:
    kept = tuple(item for item in marketo.roles if item[0] != (record["leadId"], record["role"]))
    return marketo._replace(roles=kept), "1013" if kept == marketo.roles else "deleted"


def _upsert_company(marketo: Marketo, record: dict[str, Any]) -> tuple[Marketo, str]:
    known = dict(marketo.companies)
    key = record["externalCompanyId"]
    answer = "updated" if key in known else "created"
    return marketo._replace(companies=tuple(sorted({**known, key: record["company"]}.items()))), answer


_WRITERS = {
    ("upsert", "opportunities"): _upsert_opportunity,
    ("delete", "opportunities"): _delete_opportunity,
    ("upsert", "opportunities/roles"): _upsert_role,
    ("delete", "opportunities/roles"): _delete_role,
    ("upsert", "companies"): _upsert_company,
}


# --- every other request: the stage after it, the actor after it, its answer ---------------------------------------


def read_or_store(stage: Stage, actor: Actor, request: Request) -> Iterator[tuple[Stage, Actor, Result]]:
    """Usually one way it may go; a link may die, and a new one stand for the reading's beginning or its end."""
    name = request[0]
    if name == "changes" and stage.left.links and request[2]:
        expired = stage._replace(left=stage.left._replace(links=stage.left.links - 1))
        yield expired, actor, "expired"
    if name == "changes" and request[2].startswith("page"):  # nothing public says which of the two it is
        for position in {int(request[2].split()[1]), len(getattr(stage.dynamics, request[1]))}:
            yield stage, actor, ((), (), "", f"link {position}")
    elif name in _READS:
        yield stage, actor, _READS[name](stage, *request[1:])
    else:
        yield _STEPS[name](stage, actor, *request[1:])


def _changes(stage: Stage, table: str, link: str) -> Result:
    """Without a link: a page with all rows, and that a second follows, which has nothing but the new link."""
    log = getattr(stage.dynamics, table)
    if not link:
        rows = (DEAL,) if table == "opportunity" and stage.dynamics.name else ()
        return rows, (), f"page {len(log)}", ""
    changed = sorted(set(log[int(link.split()[1]) :]))
    rows = tuple(key for key in changed if stage.dynamics.exists(table, key))
    deleted = tuple(key for key in changed if key not in rows)
    return rows, deleted, "", f"link {len(log)}"


def _opportunity(stage: Stage) -> Result:
    return (stage.dynamics.name, stage.dynamics.customer) if stage.dynamics.name else ()


def _of_ben(stage: Stage) -> Result:
    return (DEAL,) if stage.dynamics.customer and stage.dynamics.name else ()


def _modified_since(stage: Stage, position: int) -> Result:
    return (DEAL,) if stage.dynamics.name and len(stage.dynamics.opportunity) > position else ()


def _due(stage: Stage) -> Result:
    return tuple(key for key, content in stage.ledger if key == DEAL and content[0] == "waiting")


_READS: dict[str, Callable[..., Result]] = {
    "the time": lambda stage: len(stage.dynamics.opportunity),
    "changes": _changes,
    "modified since": _modified_since,
    "all ids": lambda stage: (DEAL,) if stage.dynamics.name else (),
    "read opportunity": _opportunity,
    "read connections": lambda stage: (stage.dynamics.stakeholder,) if stage.dynamics.stakeholder else (),
    "read employer": lambda stage: stage.dynamics.employer,
    "read accounts": lambda stage, ids: tuple(stage.dynamics.company(key) for key in ids),
    "opportunities of Ben": _of_ben,
    "read roles back": lambda stage: stage.marketo.shown,
    "is the opportunity in Marketo": lambda stage: bool(stage.marketo.opportunity),
    "due": _due,
    "opportunities of the ledger": lambda stage: tuple(k for k, row in stage.ledger if k == DEAL and row[0] != "gone"),
    "companies of the ledger": lambda stage: tuple(k for k, row in stage.ledger if k != DEAL and row[0] != "gone"),
    "recall": lambda stage, ids: tuple(key for key in ids if key in stage.connections),
    "list unmatched": lambda stage: stage.unmatched,
    "is a comparison asked for": lambda stage: stage.comparison,
}

Step = tuple[Stage, Actor, Result]


def _read_ledger(stage: Stage, actor: Actor, ids: tuple[str, ...]) -> Step:
    found = tuple(item for item in stage.ledger if item[0] in ids)
    actor = actor._replace(tickets=tuple(sorted({*actor.tickets, *ids})))
    return stage, actor._replace(tombstone=stage.tombstone) if DEAL in ids else actor, found


def _write_ledger(stage: Stage, actor: Actor, rows: tuple[Any, ...]) -> Step:
    """A row is written if its ticket still holds; then nobody else's does."""
    ledger, lost, tombstone = dict(stage.ledger), [], stage.tombstone
    for key, known, content in rows:
        if key not in actor.tickets or known is not (key in ledger):
            lost.append(key)
            continue
        if content[-1] == "now":
            content = (*content[:-1], "before")
            tombstone = tombstone and ("younger" if actor.overtaken else "older")
        ledger[key] = content
    written = {row[0] for row in rows} - set(lost)
    stage = _everybody(
        stage._replace(ledger=tuple(sorted(ledger.items())), tombstone=tombstone),
        lambda other: other._replace(tickets=tuple(key for key in other.tickets if key not in written)),
    )
    return stage, actor._replace(tickets=tuple(key for key in actor.tickets if key not in written)), tuple(lost)


def _everybody(stage: Stage, change: Callable[[Actor], Actor]) -> Stage:
    return stage._replace(
        workers=tuple(change(one) if one.point >= 0 else one for one in stage.workers),
        timers=tuple(change(one) if one.point >= 0 else one for one in stage.timers),
    )


def _read_tombstone(stage: Stage, actor: Actor) -> Step:
    return stage, actor, actor.tombstone


def _bury(stage: Stage, actor: Actor) -> Step:
    def overtake(other: Actor) -> Actor:
        return other._replace(tombstone="younger", overtaken=True)

    stage = stage._replace(workers=tuple(overtake(one) if one.point >= 0 else one for one in stage.workers))
    return stage._replace(tombstone="younger"), actor, ()


def _unbury(stage: Stage, actor: Actor) -> Step:
    def forget(other: Actor) -> Actor:
        return other._replace(tombstone="")

    stage = stage._replace(workers=tuple(forget(one) if one.point >= 0 else one for one in stage.workers))
    return stage._replace(tombstone=""), forget(actor), ()


def _remember(stage: Stage, actor: Actor, ids: tuple[str, ...]) -> Step:
    return stage._replace(connections=tuple(sorted({*stage.connections, *ids}))), actor, ()


def _forget(stage: Stage, actor: Actor, ids: tuple[str, ...]) -> Step:
    """Unmatched tombstones that were matched are looked up in vain from now on."""
    return stage._replace(connections=tuple(key for key in stage.connections if key not in ids)), actor, ()


def _read_link(stage: Stage, actor: Actor, table: str) -> Step:
    actor = actor._replace(tickets=tuple(sorted({*actor.tickets, table})))
    return stage, actor, stage.feeds[TABLES.index(table)]


def _store_link(stage: Stage, actor: Actor, table: str, value: tuple[Any, ...]) -> Step:
    """The writer's new ticket is good; everybody else's no longer."""
    if table not in actor.tickets:
        return stage, actor, False
    stage = stage._replace(
        feeds=replaced(stage.feeds, TABLES.index(table), value),
        timers=tuple(one._replace(tickets=tuple(key for key in one.tickets if key != table)) for one in stage.timers),
    )
    return stage, actor, True


def _keep_unmatched(stage: Stage, actor: Actor, ids: tuple[str, ...]) -> Step:
    return stage._replace(unmatched=tuple(sorted({*stage.unmatched, *ids}))), actor, ()


def _ask_for_comparison(stage: Stage, actor: Actor) -> Step:
    return stage._replace(comparison=True), actor, ()


def _drop(stage: Stage, actor: Actor, name: str) -> Step:
    if name != "comparison":
        raise AssertionError(f"{name} was dropped within the hour")
    return stage._replace(comparison=False), actor, ()


def _put(
    stage: Stage, actor: Actor, opportunities: tuple[str, ...], accounts: tuple[str, ...], force: bool, late: bool
) -> Step:
    message = Message(opportunities, accounts, "force" if force else "", len(stage.pending) if late else 0)
    return stage._replace(queue=tuple(sorted((*stage.queue, message)))), actor, ()


_STEPS: dict[str, Callable[..., Step]] = {
    "read ledger": _read_ledger,
    "write ledger": _write_ledger,
    "read tombstone": _read_tombstone,
    "bury": _bury,
    "unbury": _unbury,
    "remember": _remember,
    "forget": _forget,
    "read link": _read_link,
    "store link": _store_link,
    "keep unmatched": _keep_unmatched,
    "ask for a comparison": _ask_for_comparison,
    "drop": _drop,
    "put": _put,
}
