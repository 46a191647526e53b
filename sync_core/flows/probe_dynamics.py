"""What the Dynamics of this organization does where no source tells (dataverse.md §12), found out by experiment.

    tables and their tracking ─▶ questions that only read ─▶ with consent: records of our own ─▶ experiments ─▶ removed

Wherever a delta is asked what it lists, a change that it must list is made as well: a delta that lacks that one says
nothing about the others. No record but those made here is ever changed. Their ids are ours to choose: a document has
them before any is made, so that the run after one that was killed knows what to remove.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from sync_core.errors import RetryLater, SyncError, Unavailable
from sync_core.flows.probe import Finding
from sync_core.flows.world import World
from sync_core.model import HttpAnswer
from sync_core.ports import Clock, DynamicsProbe

PREFIX = "opportunity-sync-probe"
"""How the names of all records begin that are made here."""

FOLLOWED = ("opportunity", "connection", "contact", "account")
SMALL = ("transactioncurrency", "connectionrole", "team", "systemuser")
OURS = (*FOLLOWED, *SMALL)
"""The tables that the sync reads (dataverse.md §6.1)."""

LIKELY_SMALL = (*SMALL, *reversed(FOLLOWED))
"""In this order: where any tracked table will do, the one with the fewest rows."""

LIKELY_UNTRACKED = ("organization", "businessunit", *LIKELY_SMALL)
"""The same for one that is not tracked; the first is one row."""

SETS = {"contact": "contacts", "opportunity": "opportunities", "connection": "connections"}
"""Where records are made."""

PAGE = 5000  # rows (dataverse.md §3.3)
PAGES = 6  # of one read: more rows are not worth an experiment's calls
SOME = 200  # rows that testify to what Dynamics keeps in its columns
FULL_SECOND = 2.0  # after so long, `modifiedon` has moved if it moves at all

TRACK = "odata.track-changes"
FORMATTED = "OData.Community.Display.V1.FormattedValue"
SELECTED = "versionnumber,modifiedon"
DATE = re.compile(r"(%2f|/)(?:19|20)\d\d(?=%20|\+|\s)", re.IGNORECASE)
"""The year in a delta token (dataverse.md §3.1)."""

LONG_AGO = "2004"  # a leap year, so that every day exists

ASKS: Mapping[str, str] = {
    "D1": "How Dynamics refuses a delta link that has expired, and an option that tracking does not allow",
    "D2": "How Dynamics refuses a delta link that is none",
    "D3": "A tracked read of a table without change tracking: an error, or no delta link",
    "D4": "Does a tracked read with annotations end with a delta link",
    "D5": "Where the first delta link stands: at the start of a full read, or at its end",
    "D6": "What puts a row into a delta: any change of it, or one of the selected columns",
    "D7": "Which of our tables have change tracking",
    "D8": "For how many days a delta link is good",
    "D9": "Does a deleted connection take its mirror along, and does the delta list both",
    "D10": "What moves with a contact that is merged: is it listed in deltas, and does modifiedon move",
    "D11": "Do _accountid_value and _contactid_value of an opportunity tell what its customer is",
    "D12": "Does importing a solution end the delta links of tables that it does not touch",
}

WITH_RECORDS = ("D5", "D6", "D9", "D10")
ONLY_WRITING = "not asked: it needs records of its own, and writing to Dynamics was not confirmed"
MAY_NOT_WRITE = "our user may not write in Dynamics; that is as it should be in production"
NOT_HARMLESS = (
    "not asked: it can't be tried without harm; after an import, the event tick.done says how many links were lost"
)

MADE = "probe-dynamics"
"""The kind of the documents that list what is made, or was left: `{"made": [[table, id], …]}`, by organization id."""


class _Unanswered(Exception):
    """Why an experiment says nothing."""


@dataclass(frozen=True, slots=True)
class _Table:
    """One table as its metadata describe it (dataverse.md §3.6)."""

    name: str
    path: str
    key: str
    tracked: bool
    can_be: bool


@dataclass(frozen=True, slots=True)
class _Delta:
    """What a delta lists, by lower-case id, and the link that follows it."""

    changed: frozenset[str]
    deleted: frozenset[str]
    link: str


def probe_dynamics(world: World, lab: DynamicsProbe, *, write: bool) -> Generator[Finding, None, None]:
    """The findings, one by one; without *write* nothing is written, whatever our user may do.

    What was made is removed at the end, also for who stops asking, and with it what an earlier run left. Raises
    Unavailable where that failed, naming the records.
    """
    reader = _Reader(lab)
    yield reader.finding("D1", reader.refusals)
    yield reader.finding("D2", reader.malformed)
    yield reader.finding("D3", reader.untracked)
    yield reader.finding("D4", reader.annotated)
    yield reader.finding("D7", reader.tracking)
    yield reader.finding("D8", reader.retention)
    yield Finding("D12", ASKS["D12"], "", NOT_HARMLESS)
    reason, organization = ONLY_WRITING, ""
    if write:
        try:
            organization = str(reader.good("WhoAmI")["OrganizationId"]).lower()
        except (_Unanswered, RetryLater) as error:
            reason = str(error)
    if not organization:
        yield reader.finding("D11", reader.customers)
        yield from (Finding(each, ASKS[each], "", reason) for each in WITH_RECORDS)
        return
    trial = _Trial(lab, world.clock, reader)
    earlier = left_behind(world, organization)
    _keep(world, organization, [*earlier, *trial.planned])
    try:
        yield reader.finding("D5", trial.position)
        yield reader.finding("D6", trial.reemission)
        yield reader.finding("D11", trial.customers)
        yield reader.finding("D10", trial.merge)
        yield reader.finding("D9", trial.mirror)
    finally:
        left = _remove(lab, [*earlier, *trial.made])
        _keep(world, organization, left)
        if left:
            named = ", ".join(f"{table} {row_id}" for table, row_id in left)
            raise Unavailable(f"of what the probe made in Dynamics this could not be removed: {named}")


def left_behind(world: World, organization: str) -> list[tuple[str, str]]:
    """(table, id) of what may be left of a run that was killed, or could not remove it."""
    found = world.documents.read(MADE, organization)
    return [(table, row_id) for table, row_id in found.value["made"]] if found else []


def _keep(world: World, organization: str, made: Sequence[tuple[str, str]]) -> None:
    if made:
        world.change(MADE, organization, lambda _: {"made": [list(each) for each in made]})
    else:
        world.documents.delete(MADE, organization)


def _remove(lab: DynamicsProbe, made: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Delete the latest first; what may still be there, in the order it was made.

    What failed is tried again after the others: an outage may have ended.
    """
    left = list(made[::-1])
    for _ in range(2):
        left = [each for each in left if not _removed(lab, *each)]
    return left[::-1]


def _removed(lab: DynamicsProbe, table: str, row_id: str) -> bool:
    """Who may no longer delete is told so, even of a row that is not there: then looking tells."""
    path = f"{SETS[table]}({row_id})"
    with suppress(SyncError):
        return _gone(lab.ask("DELETE", path)) or lab.ask("GET", f"{path}?$select={table}id").status == 404
    return False


def _gone(deleted: HttpAnswer) -> bool:
    """404 is good as well: a cascade, or a deletion whose answer got lost, was first."""
    return deleted.status < 300 or deleted.status == 404


class _Reader:
    """The questions that need nothing but rights to read."""

    def __init__(self, lab: DynamicsProbe) -> None:
        self._lab = lab
        self._known: dict[str, _Table] = {}
        self._small: tuple[_Table, str] | None = None

    def finding(self, question: str, experiment: Callable[[], tuple[str, str]]) -> Finding:
        """*experiment* gives the answer and what was seen."""
        try:
            return Finding(question, ASKS[question], *experiment())
        except (_Unanswered, RetryLater) as error:
            return Finding(question, ASKS[question], "", str(error))

    # --- the questions ----------------------------------------------------------------------------------------

    def tracking(self) -> tuple[str, str]:
        off = [self._table(name) for name in OURS if not self._table(name).tracked]
        if not off:
            return "all on", ""
        told = [f"{each.name} {'can' if each.can_be else 'cannot'} be switched on" for each in off]
        return f"off: {', '.join(each.name for each in off)}", ", ".join(told)

    def retention(self) -> tuple[str, str]:
        body = self.good("organizations?$select=expirechangetrackingindays")
        days = [row.get("expirechangetrackingindays") for row in body["value"]]
        if not days or days[0] is None:
            raise _Unanswered("the organization's row does not say")
        return str(days[0]), ""

    def refusals(self) -> tuple[str, str]:
        table, link = self._small_link()
        before, mark, token = link.partition("$deltatoken=")
        old = DATE.sub(rf"\g<1>{LONG_AGO}", token, count=1)
        if old == token:
            raise _Unanswered("the delta token shows no date that could be made older")
        expired = self._lab.ask("GET", f"{before}{mark}{old}")
        path = f"{table.path}?$select={table.key}&$filter=modifiedon ge 2000-01-01T00:00:00Z"
        option = self._lab.ask("GET", path, prefer=TRACK)
        return f"expired {_said(expired)}, option {_said(option)}", f"seen on {table.name}"

    def malformed(self) -> tuple[str, str]:
        table, link = self._small_link()
        before, mark, _ = link.partition("$deltatoken=")
        if not mark:
            raise _Unanswered("the delta link has no $deltatoken")
        return _said(self._lab.ask("GET", f"{before}{mark}{PREFIX}")), f"seen on {table.name}"

    def untracked(self) -> tuple[str, str]:
        for name in LIKELY_UNTRACKED:
            table = self._table(name)
            if table.tracked:
                continue
            answer = self._to_the_end(table, TRACK)[-1]
            if answer.status == 403:
                continue
            if answer.status >= 400:
                return "error", f"{name}: {_said(answer)}"
            return ("link" if "@odata.deltaLink" in answer.body else "silent"), f"seen on {name}"
        raise _Unanswered("there is no table without change tracking that our user may read")

    def annotated(self) -> tuple[str, str]:
        table, _ = self._small_link()
        answers = self._to_the_end(table, f'{TRACK},odata.include-annotations="{FORMATTED}"')
        if answers[-1].status >= 400:
            return _said(answers[-1]), f"seen on {table.name}"
        if not any(FORMATTED in name for answer in answers for row in answer.body["value"] for name in row):
            raise _Unanswered(f"no row of {table.name} came with annotations")
        return ("link" if "@odata.deltaLink" in answers[-1].body else "no link"), f"seen on {table.name}"

    def customers(self) -> tuple[str, str]:
        columns = ("_customerid_value", "_accountid_value", "_contactid_value")
        answer = self._lab.ask("GET", f"opportunities?$select={','.join(columns)}", prefer=f"odata.maxpagesize={SOME}")
        if answer.status == 400:
            return "not selectable", _said(answer)
        rows = [[row.get(name) for name in columns] for row in _good(answer, "opportunities")["value"]]
        held = [(customer, {account, contact}) for customer, account, contact in rows if customer]
        if not held:
            raise _Unanswered("no opportunity has a customer")
        wrong = sum(shadows != {customer, None} for customer, shadows in held)
        return ("inconsistent" if wrong else "consistent"), f"{len(held) - wrong} of {len(held)} opportunities"

    # --- reading ----------------------------------------------------------------------------------------------

    def good(self, path: str) -> Mapping[str, Any]:
        """The body of a good answer."""
        return _good(self._lab.ask("GET", path), path.partition("?")[0].partition("(")[0])

    def tracked_table(self, name: str) -> _Table:
        table = self._table(name)
        if not table.tracked:
            raise _Unanswered(f"{name} has no change tracking")
        return table

    def link(self, table: _Table) -> str:
        """A delta link of now."""
        answer = self._to_the_end(table, TRACK)[-1]
        return _link(_good(answer, table.path), table)

    def delta(self, table: _Table, link: str) -> _Delta:
        changed: set[str] = set()
        deleted: set[str] = set()
        for _ in range(PAGES):
            body = _good(self._lab.ask("GET", link, prefer=f"odata.maxpagesize={PAGE}"), table.path)
            for row in body["value"]:
                gone = "reason" in row or "$deletedEntity" in str(row.get("@odata.context", ""))
                (deleted if gone else changed).add(str(row["id" if gone else table.key]).lower())
            if "@odata.nextLink" not in body:
                return _Delta(frozenset(changed), frozenset(deleted), _link(body, table))
            link = body["@odata.nextLink"]
        raise _Unanswered(f"too much changed in {table.name} at the same time")

    def _table(self, name: str) -> _Table:
        if not self._known:
            named = " or ".join(f"LogicalName eq '{each}'" for each in dict.fromkeys((*OURS, *LIKELY_UNTRACKED)))
            select = "LogicalName,EntitySetName,PrimaryIdAttribute,ChangeTrackingEnabled,CanChangeTrackingBeEnabled"
            found = self.good(f"EntityDefinitions?$select={select}&$filter={named}")
            self._known = {item["LogicalName"]: _described(item) for item in found["value"]}
        if name not in self._known:
            raise _Unanswered(f"Dynamics has no table {name}")
        return self._known[name]

    def _small_link(self) -> tuple[_Table, str]:
        """A table with change tracking and a link of it; asked once."""
        for name in () if self._small else LIKELY_SMALL:
            table = self._table(name)
            if not table.tracked:
                continue
            answer = self._to_the_end(table, TRACK)[-1]
            if answer.status != 403:
                self._small = table, _link(_good(answer, table.path), table)
                break
        if self._small is None:
            raise _Unanswered("there is no table with change tracking that our user may read in full")
        return self._small

    def _to_the_end(self, table: _Table, prefer: str) -> list[HttpAnswer]:
        """The pages of a read, up to its last or an error."""
        prefer = f"{prefer},odata.maxpagesize={PAGE}"
        found = [self._lab.ask("GET", f"{table.path}?$select={SELECTED}", prefer=prefer)]
        while (body := found[-1].body) and "@odata.nextLink" in body:
            if len(found) == PAGES:
                raise _Unanswered(f"{table.name} has more than {PAGES * PAGE:,} rows, too many for an experiment")
            found.append(self._lab.ask("GET", body["@odata.nextLink"], prefer=prefer))
        return found


def _new_id() -> str:
    return str(uuid4())


@dataclass(slots=True)
class _Trial:
    """The questions that need records: two people, an opportunity and a connection between it and the one who loses."""

    lab: DynamicsProbe
    clock: Clock
    reader: _Reader
    winner: str = field(default_factory=_new_id)
    loser: str = field(default_factory=_new_id)
    deal: str = field(default_factory=_new_id)
    connection: str = field(default_factory=_new_id)
    made: list[tuple[str, str]] = field(default_factory=list)
    sure: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    barred: dict[str, str] = field(default_factory=dict)

    @property
    def planned(self) -> list[tuple[str, str]]:
        people = [("contact", self.winner), ("contact", self.loser)]
        return [*people, ("opportunity", self.deal), ("connection", self.connection)]

    # --- the questions ----------------------------------------------------------------------------------------

    def position(self) -> tuple[str, str]:
        """Change one of ours between two pages, after the page that had it.

        All rows but one on the first page: whatever their order, one of our two people is there.
        """
        self._people()
        table = self.reader.tracked_table("contact")
        counted = self.lab.ask("GET", "contacts?$select=contactid&$count=true", prefer="odata.maxpagesize=1")
        rows = int(_good(counted, "contacts").get("@odata.count", 0))
        prefer = f"{TRACK},odata.maxpagesize={max(1, min(rows - 1, PAGE))}"
        early, again, link = self._changed_while_read(table, prefer)
        late = self.winner if early == self.loser else self.loser
        self._change("contact", late, nickname="after the read")
        delta = self._delta(table, link, late)
        if early in delta.changed:
            return "start", ""
        return ("end, and read twice" if again else "end"), ""

    def reemission(self) -> tuple[str, str]:
        """The link selects the nickname alone."""
        self._people()
        if "contact" not in self.links:
            raise _Unanswered("there is no delta link of contact to go on from")
        table = self.reader.tracked_table("contact")
        self._change("contact", self.winner, jobtitle="not selected")
        self._change("contact", self.loser, nickname="selected")
        delta = self._delta(table, self.links["contact"], self.loser)
        return ("any change" if self.winner in delta.changed else "selected columns"), ""

    def customers(self) -> tuple[str, str]:
        with suppress(_Unanswered, RetryLater):  # with a customer for certain, if we may make one
            self._sale()
        return self.reader.customers()

    def merge(self) -> tuple[str, str]:
        self._sale()
        tables = [self.reader.tracked_table(name) for name in ("connection", "opportunity")]
        for table in tables:
            self.links[table.name] = self.reader.link(table)
        before = [self._row(table) for table in tables]
        self.clock.sleep(FULL_SECOND)
        _accepted(self.lab.ask("POST", "Merge", body=self._merger()), "the merge")
        told, moved = [], []
        for table, (_, modified) in zip(tables, before, strict=True):
            lookup, now = self._row(table)
            if lookup != self.winner:
                told.append(f"{table.name} not moved")
                continue
            moved.append(now != modified)
            told.append(f"{table.name} {'listed' if self._listed(table) else 'not listed'}")
        if moved:
            told.append(f"modifiedon {'moves' if all(moved) else 'moves on one' if any(moved) else 'stays'}")
        return ", ".join(told), ""

    def mirror(self) -> tuple[str, str]:
        self._sale()
        table = self.reader.tracked_table("connection")
        row = self.reader.good(f"connections({self.connection})?$select=_relatedconnectionid_value")
        mirror = str(row.get("_relatedconnectionid_value") or "").lower()
        if not mirror:
            return "no mirror", ""
        link = self.links.get("connection") or self.reader.link(table)
        deleted = self.lab.ask("DELETE", f"connections({self.connection})")
        if not _gone(deleted):
            raise _Unanswered(_refusal(deleted, "the deletion"))
        delta = self.reader.delta(table, link)
        if self.connection not in delta.deleted:
            raise _Unanswered("the delta does not list our own deletion")
        if mirror in delta.deleted:
            return "both listed", ""
        there = self.lab.ask("GET", f"connections({mirror})?$select=connectionid")
        if there.status != 404:
            self.made.append(("connection", mirror))
            return "mirror stays", ""
        return "one listed", "the mirror is gone, and no delta says so"

    # --- records ----------------------------------------------------------------------------------------------

    def _people(self) -> None:
        self._make("contact", self.winner, lastname=f"{PREFIX}-1")
        self._make("contact", self.loser, lastname=f"{PREFIX}-2")

    def _sale(self) -> None:
        self._people()
        customer = {"parentcontactid@odata.bind": f"/contacts({self.loser})"}
        self._make("opportunity", self.deal, name=f"{PREFIX}-3", **customer)
        ends = {
            "record1id_opportunity@odata.bind": f"/opportunities({self.deal})",
            "record2id_contact@odata.bind": f"/contacts({self.loser})",
        }
        self._make("connection", self.connection, description=f"{PREFIX}-4", **ends)

    def _make(self, table: str, row_id: str, **values: str) -> None:
        """Once; where no answer tells whether it is there, again, which the id makes harmless."""
        if table in self.barred:
            raise _Unanswered(self.barred[table])
        if row_id in self.sure:
            return
        if (table, row_id) not in self.made:
            self.made.append((table, row_id))
        answer = self.lab.ask("POST", SETS[table], body={f"{table}id": row_id, **values})
        if answer.status < 300 or answer.status == 412:  # the latter: by a request that got no answer
            self.sure.add(row_id)
            return
        self.made.remove((table, row_id))
        self.barred[table] = _refusal(answer, f"a new {table}")
        raise _Unanswered(self.barred[table])

    def _change(self, table: str, row_id: str, **values: str) -> None:
        answer = self.lab.ask("PATCH", f"{SETS[table]}({row_id})", body=values)
        _accepted(answer, f"a change of our own {table}")

    def _merger(self) -> dict[str, Any]:
        def named(contact: str) -> dict[str, str]:
            return {"contactid": contact, "@odata.type": "Microsoft.Dynamics.CRM.contact"}

        rows = {"Target": named(self.winner), "Subordinate": named(self.loser)}
        return {**rows, "PerformParentingChecks": False}

    def _row(self, table: _Table) -> tuple[str, str]:
        """Whom our record names, and when it was modified."""
        row_id = self._ours(table)
        lookup = "_record2id_value" if table.name == "connection" else "_parentcontactid_value"
        row = self.reader.good(f"{table.path}({row_id})?$select={lookup},modifiedon")
        return str(row.get(lookup)).lower(), str(row.get("modifiedon"))

    def _ours(self, table: _Table) -> str:
        return self.connection if table.name == "connection" else self.deal

    # --- reading ----------------------------------------------------------------------------------------------

    def _changed_while_read(self, table: _Table, prefer: str) -> tuple[str, bool, str]:
        """Which of our people was changed, whether a later page had them again, and the delta link."""
        body = _good(self.lab.ask("GET", f"{table.path}?$select=nickname", prefer=prefer), table.path)
        early, again = "", False
        for _ in range(PAGES):
            ids = [str(row[table.key]).lower() for row in body["value"]]
            ours = [each for each in (self.winner, self.loser) if each in ids]
            again = again or early in ours
            if "@odata.nextLink" not in body:
                if not early:
                    raise _Unanswered("our records came on the last page only")
                return early, again, _link(body, table)
            if ours and not early:
                early = ours[0]
                self._change("contact", early, nickname="during the read")
            body = _good(self.lab.ask("GET", body["@odata.nextLink"], prefer=prefer), table.path)
        raise _Unanswered(f"{table.name} has more than {PAGES * PAGE:,} rows, too many for an experiment")

    def _listed(self, table: _Table) -> bool:
        """Whether the next delta lists our record; if it does not, the one behind it must list a change of ours."""
        delta = self.reader.delta(table, self.links[table.name])
        self.links[table.name] = delta.link
        if self._ours(table) in delta.changed:
            return True
        self._change(table.name, self._ours(table), description=f"{PREFIX}-5")
        self._delta(table, delta.link, self._ours(table))
        return False

    def _delta(self, table: _Table, link: str, certain: str) -> _Delta:
        """What the delta lists, which must include *certain*."""
        delta = self.reader.delta(table, link)
        self.links[table.name] = delta.link
        if certain not in delta.changed:
            raise _Unanswered("the delta does not list a change that it must list")
        return delta


# --- answers --------------------------------------------------------------------------------------------------


def _described(item: Mapping[str, Any]) -> _Table:
    can_be = item.get("CanChangeTrackingBeEnabled") or {}
    return _Table(
        item["LogicalName"],
        item["EntitySetName"],
        item["PrimaryIdAttribute"],
        bool(item["ChangeTrackingEnabled"]),
        bool(can_be.get("Value")),
    )


def _code(answer: HttpAnswer) -> str:
    error = answer.body.get("error") if isinstance(answer.body, dict) else None
    code = str(error.get("code", "")).lower() if isinstance(error, dict) else ""
    return code if re.fullmatch(r"0x[0-9a-f]{1,8}", code) else ""


def _said(answer: HttpAnswer) -> str:
    """Status and code; of the message nothing, as it may name people."""
    return "accepted" if answer.status < 300 else f"{answer.status} {_code(answer)}".strip()


def _good(answer: HttpAnswer, what: str) -> Mapping[str, Any]:
    if answer.status == 403:
        raise _Unanswered(f"our user may not read {what} ({_said(answer)})")
    if answer.status >= 300 or not isinstance(answer.body, dict):
        raise _Unanswered(f"asked for {what}, Dynamics answered {answer.status} {_code(answer)}".strip())
    return answer.body


def _link(body: Mapping[str, Any], table: _Table) -> str:
    if "@odata.deltaLink" not in body:
        raise _Unanswered(f"a tracked read of {table.name} ended without a delta link")
    return str(body["@odata.deltaLink"])


def _accepted(answer: HttpAnswer, what: str) -> None:
    if answer.status >= 300:
        raise _Unanswered(_refusal(answer, what))


def _refusal(answer: HttpAnswer, what: str) -> str:
    return MAY_NOT_WRITE if answer.status == 403 else f"Dynamics refuses {what}: {_said(answer)}"
