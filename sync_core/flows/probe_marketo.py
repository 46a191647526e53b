"""The experiments on Marketo (marketo.md §6.1, U1-U18), each sending exactly what its question asks about.

A person for each role that is counted, so that Marketo's activity log can be read by person: who stands for what is
compared with somebody to whom the same happened but for what is in question. What Marketo does in its own time (the
log, merges, new records in queries) is waited for by something that is sure to come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

from sync_core.errors import RetryLater, SyncError, Unavailable
from sync_core.flows.probe import MADE, NOT_ASKED, Finding
from sync_core.flows.references import COMPANY_ID, SALES_PERSON_ID
from sync_core.flows.roles import OPPORTUNITY_ID
from sync_core.flows.world import World
from sync_core.ports import MarketoProbe
from sync_core.rules.questions import NO, QUESTIONS, TAKEN, UNCHANGED, YES

T = TypeVar("T")
Record = Mapping[str, Any]

PREFIX = "opportunity-sync-probe-"
DOMAIN = "example.com"  # reserved, and takes no mail (RFC 2606, RFC 7505)
NOBODY = 2_147_483_647  # ids of people count up from 1
MOST_RECORDS = 300
GONE = (TAKEN, "1013", "1004")
DENIED, LINKED, MERGE_LOSER = "603", "1018", "loser"

MOST_CALLS = 195  # of one run, with its cleaning
FOR_CLEANING = 25
FOR_BURST = 112
TIME_S = 230.0  # for experiments; cleaning takes some seconds
SETTLE = (2.0, 5.0, 10.0, 15.0, 30.0)  # seconds between looks for what Marketo does in its own time
ONCE_MORE_S = 10.0

RATE_WINDOW_S = 21.0
REFUSED_ENOUGH = 10
AT_ONCE = 8  # below Marketo's ten
LEEWAY = 2  # the calls that ask for the count may be in it or not

ADDED, UPDATED = 34, 36  # activity types, the same in every subscription
OPPORTUNITIES, ROLES, COMPANIES, LEADS = "opportunities", "opportunities/roles", "companies", "leads"
PERMISSIONS: Mapping[str, str] = {
    OPPORTUNITIES: "Read-Write Opportunity",
    ROLES: "Read-Write Opportunity",
    COMPANIES: "Read-Write Company",
    LEADS: "Read-Write Lead",
    "activities": "Read-Only Activity",
}
WORDS = {OPPORTUNITIES: "opportunities", ROLES: "roles", COMPANIES: "companies", LEADS: "people"}

OPPORTUNITY_NAMES = (
    *("same", "changed", "again", "merged", "owned"),
    *("nowhere", "u3", "u5", "u7", "u10", "u11", "u12"),
)
COMPANY_NAMES = ("company", "u4")
PEOPLE = ("same", "changed", "again", "winner", MERGE_LOSER)


class _NotAnswered(Exception):
    """Why a question stays open."""


@dataclass(frozen=True, slots=True)
class _Said:
    """An answer of Marketo: the codes that refuse it as a whole, or its items."""

    codes: Sequence[str]
    items: Sequence[Record]
    envelope: Record

    @property
    def fates(self) -> list[str]:
        """For each record `accepted`, or the code that it was skipped for."""
        return [_code(item) if item.get("status") == "skipped" else TAKEN for item in self.items]

    @property
    def fate(self) -> str:
        """Of one record, or of the whole call."""
        return self.codes[0] if self.codes else self.fates[0] if self.items else TAKEN


def _said(envelope: Record) -> _Said:
    codes = [] if envelope.get("success") else [_code({"reasons": envelope.get("errors")})]
    items = [item for item in envelope.get("result") or [] if isinstance(item, dict)]
    return _Said(codes, sorted(items, key=lambda item: item.get("seq") or 0), envelope)


def _code(item: Record) -> str:
    reasons = [each for each in item.get("reasons") or [] if isinstance(each, dict)]
    return str(reasons[0].get("code", "?"))[:8] if reasons else "?"


def _value(item: Record, name: str) -> Any:
    """Answers spell field names in their own way (marketo.md §3.0)."""
    return next((value for key, value in item.items() if key.casefold() == name.casefold()), None)


class Records:
    """What one run makes, by name; and how it goes again."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.opportunities = [self.key(name) for name in OPPORTUNITY_NAMES]
        self.companies = [self.key(name) for name in COMPANY_NAMES]
        self.addresses = {name: f"{self.key(name)}@{DOMAIN}" for name in PEOPLE}

    def key(self, name: str) -> str:
        return f"{PREFIX}{self.run}-{name}"


@dataclass(slots=True)
class _Wire:
    """Calls to Marketo, counted. *limit*: no more than so many. *late*: a write may still be applied."""

    lab: MarketoProbe
    limit: int = MOST_CALLS - FOR_CLEANING
    calls: int = 0
    late: bool = False

    def ask(self, about: str, method: str, path: str, **more: Any) -> _Said:
        """Raises _NotAnswered where the API user may not, or nobody may since a CRM is linked."""
        if self.calls >= self.limit:
            raise _NotAnswered(f"no more than {MOST_CALLS} calls are made")
        self.calls += 1
        try:
            said = _said(self.lab.ask(method, f"{path}.json", **more))
        except Unavailable as error:
            self.late = self.late or error.unanswered
            raise
        self.late = self.late or bool(said.envelope.get("unanswered"))
        if DENIED in said.codes:
            raise _Denied(f"the API user's role lacks {PERMISSIONS[about]}")
        if LINKED in (*said.codes, *said.fates):
            raise _NotAnswered("this subscription is linked to a CRM, and takes no opportunities from others")
        return said

    def post(self, kind: str, *records: Record, action: str = "createOrUpdate", **more: Any) -> _Said:
        return self.ask(kind, "POST", kind, body={"action": action, **more, "input": list(records)})

    def get(self, kind: str, filter_type: str, values: Collection[str], *fields: str) -> Sequence[Record]:
        """Of a few records; pages of people may lack `result` (marketo.md §3.6)."""
        query = {"filterType": filter_type, "filterValues": ",".join(values), "batchSize": str(MOST_RECORDS)}
        query |= {"fields": ",".join(fields)} if fields else {}
        found: list[Record] = []
        while True:
            said = self.ask(kind, "GET", kind, query=query)
            if said.codes:
                raise _NotAnswered(f"Marketo refused a query of {WORDS[kind]}: {said.codes[0]}")
            found += said.items
            token = said.envelope.get("nextPageToken")
            if not token or said.envelope.get("moreResult") is False or token == query.get("nextPageToken"):
                return found
            query["nextPageToken"] = str(token)


class _Denied(_NotAnswered):
    """603: nothing was done."""


# --- what is left -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Cleaning:
    """Takes away what *records* may name, of the kinds that were noted. *known*: people and roles that were made."""

    world: World
    wire: _Wire
    records: Records
    people: Collection[int] = ()
    roles: Collection[tuple[str, int, str]] = ()

    def run(self, kinds: Collection[str]) -> list[str]:
        """Roles, then opportunities, people and companies; in words what is left and why."""
        left = []
        for kind, remove in (
            (ROLES, self._roles),
            (OPPORTUNITIES, lambda: self._keyed(OPPORTUNITIES, OPPORTUNITY_ID, self.records.opportunities)),
            (LEADS, self._people),
            (COMPANIES, lambda: self._keyed(COMPANIES, COMPANY_ID, self.records.companies)),
        ):
            if kind in kinds and (why := self._tried(remove)):
                left.append(f"{WORDS[kind]} named {self.records.key('')}…: {why}")
        return left

    def _tried(self, remove: Callable[[], Collection[Any]]) -> str:
        """Until a query shows nothing any more; why not, if not."""
        try:
            for wait in (*SETTLE, 0.0):
                if not (shown := remove()):
                    return ""
                self.world.clock.sleep(wait)
        except (_NotAnswered, SyncError) as error:
            return str(error)
        return f"Marketo still shows {len(shown)}"

    def _roles(self) -> Collection[Record]:
        shown = [
            {OPPORTUNITY_ID: _value(role, OPPORTUNITY_ID), "leadId": _value(role, "leadId"), "role": role["role"]}
            for role in self.wire.get(ROLES, OPPORTUNITY_ID, self.records.opportunities)
        ]
        made = [dict(zip((OPPORTUNITY_ID, "leadId", "role"), each, strict=True)) for each in self.roles]
        self.roles = ()
        if keys := [*shown, *(each for each in made if each not in shown)]:
            self._delete(ROLES, keys)
        return keys

    def _people(self) -> Collection[int]:
        found = self.wire.get(LEADS, "email", list(self.records.addresses.values()), "id")
        ids = sorted({*(int(item["id"]) for item in found), *self.people})
        self.people = ()
        if ids:
            self._delete(LEADS, [{"id": each} for each in ids])
        return ids

    def _keyed(self, kind: str, name: str, keys: Sequence[str]) -> Collection[Record]:
        """A query may not show yet what was made just now; a delete finds it."""
        said = self._delete(kind, [{name: key} for key in keys])
        return [] if TAKEN not in said.fates else said.items

    def _delete(self, kind: str, keys: Sequence[Record]) -> _Said:
        by = {} if kind == LEADS else {"deleteBy": "dedupeFields"}
        said = self.wire.ask(kind, "POST", f"{kind}/delete", body={**by, "input": list(keys)})
        if refused := [*said.codes, *(fate for fate in said.fates if fate not in GONE)]:
            raise _NotAnswered(f"Marketo refused the removal: {refused[0]}")
        return said


def outline(world: World) -> list[str]:
    """What a run would do, in words."""
    kinds = f"{len(OPPORTUNITY_NAMES)} opportunities, {len(COMPANY_NAMES)} companies, {len(PEOPLE)} people, their roles"
    return [
        f"in subscription {world.subscription}, if `--sandbox {world.subscription}` says that it is a sandbox:",
        f"make up to {kinds}, all named {PREFIX}…; people with addresses in {DOMAIN}, which takes no mail",
        "send what is in question: unknown keys, texts too long, too many records; merge two of the people",
        "remove all of it at the end. Campaigns that listen to new people or opportunities may start for them",
        "about 80 calls in about two minutes; with --burst about 190, 100 of them within seconds",
        "read Dynamics; with --dynamics-sandbox and its address write there as well, and remove it",
    ]


def clean_up(world: World, lab: MarketoProbe) -> list[str]:
    """Remove what runs that were killed left in this subscription; in words what can't be removed."""
    left = []
    for run, made in world.documents.list(MADE):
        if made["munchkin"] == world.subscription:
            of_run = _Cleaning(world, _Wire(lab, limit=MOST_CALLS), Records(run)).run(made["kinds"])
            if not of_run:
                world.documents.delete(MADE, run)
            left += of_run
        else:
            left.append(
                f"in subscription {made['munchkin']}, named {Records(run).key('')}…: let MARKETO_URL lead there"
            )
    return left


# --- the experiments ----------------------------------------------------------------------------------------


class Experiments:
    """One run. `findings` may be left at any point; `clean` belongs behind it, whatever happened."""

    def __init__(self, world: World, lab: MarketoProbe, *, burst: bool) -> None:
        self.world = world
        self.wire = _Wire(lab)
        self.burst = burst
        self.records = Records(uuid4().hex[:8])
        self.kinds: list[str] = []
        self.roles: set[tuple[str, int, str]] = set()
        self.made: dict[str, int] = {}
        self.ends = world.clock.monotonic() + TIME_S
        self._once: dict[str, Any] = {}

    @property
    def calls(self) -> int:
        return self.wire.calls

    def findings(self) -> Iterator[Finding]:
        """One for each question; last the one that makes Marketo refuse calls."""
        for number, experiment in _EXPERIMENTS.items():
            yield Finding(number, QUESTIONS[number].asks, *self._tried(experiment))

    def clean(self) -> list[str]:
        """In words what could not be removed, or may still come to be, and why; its note stays for the next run."""
        self.wire.limit = MOST_CALLS
        cleaning = _Cleaning(self.world, self.wire, self.records, set(self.made.values()), self.roles)
        left = cleaning.run(self.kinds)
        if self.wire.late:
            minutes = self.world.late_write // 60
            named = f"named {self.records.key('')}…"
            left.append(
                f"perhaps a record {named}: a call got no answer, and may still be carried out. Run it again "
                f"in {minutes} minutes"
            )
        if left:
            self.world.change(MADE, self.records.run, lambda value: {**value, "ended": True})
        else:
            self.world.documents.delete(MADE, self.records.run)
        return left

    def _tried(self, experiment: Callable[[Experiments], tuple[str, str]]) -> tuple[str, str]:
        try:
            self._check_time()
            return experiment(self)
        except _NotAnswered as why:
            return "", str(why)
        except RetryLater as error:
            return "", f"{error}; run it again"
        except SyncError as error:
            return "", str(error)

    def _check_time(self) -> None:
        if self.world.clock.monotonic() >= self.ends:
            raise _NotAnswered("no time was left: Marketo is slow now; run it again")

    def _wait(self, seconds: float) -> None:
        self._check_time()
        self.world.clock.sleep(seconds)

    def _only_once(self, name: str, prepare: Callable[[], T]) -> T:
        """What several experiments stand on; what can't be had once isn't tried again."""
        if name not in self._once:
            try:
                self._once[name] = prepare()
            except (_NotAnswered, RetryLater) as why:
                self._once[name] = why
        found = self._once[name]
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]  # as it was prepared

    # --- records ----------------------------------------------------------------------------------------------

    def _make(self, kind: str, *records: Record, **more: Any) -> _Said:
        """Note first what is going to be there, so that whoever finds the note can remove it."""
        new = kind not in self.kinds
        if new:
            self._note([*self.kinds, kind])
        try:
            return self.wire.post(kind, *records, **more)
        except _Denied:
            if new:
                self._note([each for each in self.kinds if each != kind])
            raise

    def _note(self, kinds: list[str]) -> None:
        self.kinds = kinds
        at = self.world.clock.now().isoformat(timespec="seconds")
        self.world.change(
            MADE,
            self.records.run,
            lambda value: {"at": at, **value, "munchkin": self.world.subscription, "kinds": kinds},
        )

    def _must(self, said: _Said, what: str) -> _Said:
        """Raises _NotAnswered if Marketo refused what is in no question."""
        if refused := [*said.codes, *(fate for fate in said.fates if fate != TAKEN)]:
            raise _NotAnswered(f"Marketo refused {what} for the experiment: {refused[0]}")
        return said

    def _opportunity(self, which: str, /, **values: Any) -> dict[str, Any]:
        key = self.records.key(which)
        return {OPPORTUNITY_ID: key, "name": key, **values}

    def _opportunities(self) -> None:
        """Those that something is done to."""
        names = ("same", "changed", "again", "merged")
        self._only_once(
            "opportunities",
            lambda: self._must(
                self._make(OPPORTUNITIES, *(self._opportunity(name) for name in names)), "an opportunity"
            ),
        )

    def _company(self) -> str:
        key = self.records.key("company")
        record = {COMPANY_ID: key, "company": key}
        self._only_once("company", lambda: self._must(self._make(COMPANIES, record), "a company"))
        return key

    def _people(self) -> dict[str, int]:
        """The ids of five people."""

        def prepare() -> dict[str, int]:
            people = [{"email": address, "lastName": PREFIX} for address in self.records.addresses.values()]
            said = self._must(self._make(LEADS, *people, lookupField="email"), "a person")
            self.made = {name: int(item["id"]) for name, item in zip(PEOPLE, said.items, strict=True)}
            return self.made

        return self._only_once("people", prepare)

    def _role(self, opportunity: str, lead: int, text: str = PREFIX) -> _Said:
        key = self.records.key(opportunity)
        self.roles.add((key, lead, text))
        return self._make(ROLES, {OPPORTUNITY_ID: key, "leadId": lead, "role": text})

    def _shown(self, look: Callable[[], T | None], what: str) -> T:
        """What *look* finds, once it does: queries may lag behind writes."""
        for wait in (*SETTLE, 0.0):
            if (found := look()) is not None:
                return found
            self._wait(wait)
        raise _NotAnswered(f"Marketo's queries don't show {what} a minute after it was written")

    def _look(self, name: str, *fields: str) -> Record | None:
        found = self.wire.get(OPPORTUNITIES, OPPORTUNITY_ID, [self.records.key(name)], *fields)
        return found[0] if found else None

    def _holders(self, text: str = PREFIX) -> list[int]:
        """Who has the role *text* on the opportunity of the merge."""
        found = self.wire.get(ROLES, OPPORTUNITY_ID, [self.records.key("merged")], "role")
        return [int(_value(role, "leadId")) for role in found if role["role"] == text]

    # --- one record -------------------------------------------------------------------------------------------

    def unknown_person(self) -> tuple[str, str]:
        self._opportunities()
        return self._role("same", NOBODY).fate, ""

    def unknown_opportunity(self) -> tuple[str, str]:
        return self._role("nowhere", self._people()["winner"]).fate, ""

    def unknown_company(self) -> tuple[str, str]:
        record = self._opportunity("u3", **{COMPANY_ID: self.records.key("nowhere")})
        return self._make(OPPORTUNITIES, record).fate, ""

    def unknown_sales_person(self) -> tuple[str, str]:
        key = self.records.key("u4")
        record = {COMPANY_ID: key, "company": key, SALES_PERSON_ID: self.records.key("nobody")}
        return self._make(COMPANIES, record).fate, ""

    def too_long(self) -> tuple[str, str]:
        said = self.wire.ask(OPPORTUNITIES, "GET", f"{OPPORTUNITIES}/describe")
        described = said.items[0].get("fields", []) if said.items else []
        length = next((each.get("length") for each in described if each.get("name") == "name"), None) or 255
        name = self.records.key("u5").ljust(length + 1, "x")
        fate = self._make(OPPORTUNITIES, self._opportunity("u5", name=name)).fate
        if fate != TAKEN:
            return fate, ""
        kept = str(_value(self._shown(lambda: self._look("u5", "name"), "the opportunity"), "name") or "")
        return ("truncated" if len(kept) < len(name) else TAKEN), f"{len(name)} characters came to {len(kept)}"

    def same_key_twice(self) -> tuple[str, str]:
        said = self._make(OPPORTUNITIES, self._opportunity("u7"), self._opportunity("u7"))
        fates = ", ".join(said.fates)
        known = {
            f"{TAKEN}, 1036": "later",
            f"1036, {TAKEN}": "earlier",
            "1036, 1036": "all",
            f"{TAKEN}, {TAKEN}": TAKEN,
        }
        return (said.codes[0], "") if said.codes else (known.get(fates, fates), f"the two: {fates}")

    def without_name(self) -> tuple[str, str]:
        return self._make(OPPORTUNITIES, {OPPORTUNITY_ID: self.records.key("u10")}).fate, ""

    def unknown_field(self) -> tuple[str, str]:
        said = self._make(OPPORTUNITIES, self._opportunity("u11", opportunitySyncProbe="x"))
        if said.fate == TAKEN:
            return TAKEN, ""
        return ("request" if said.codes else "record"), f"with code {said.fate}"

    def wrong_type(self) -> tuple[str, str]:
        return self._make(OPPORTUNITIES, self._opportunity("u12", probability="no number")).fate, ""

    def cleared_company(self) -> tuple[str, str]:
        """The name changes in the same call: once a query shows that, it shows what became of the company."""
        company = self._company()
        self._must(self._make(OPPORTUNITIES, self._opportunity("owned", **{COMPANY_ID: company})), "an opportunity")
        named = self.records.key("without")
        said = self._make(OPPORTUNITIES, self._opportunity("owned", name=named, **{COMPANY_ID: None}))
        if said.fate != TAKEN:
            return said.fate, ""

        def look() -> Record | None:
            found = self._look("owned", "name", COMPANY_ID)
            return found if found and _value(found, "name") == named else None

        shown = self._shown(look, "the opportunity")
        return (UNCHANGED if _value(shown, COMPANY_ID) else "cleared"), ""

    # --- whole calls ------------------------------------------------------------------------------------------

    def too_many_records(self) -> tuple[str, str]:
        """As `updateOnly` of keys that nobody has: nothing is made, however it is answered."""
        records = ({OPPORTUNITY_ID: self.records.key(f"no-{n}")} for n in range(MOST_RECORDS + 1))
        said = self.wire.post(OPPORTUNITIES, *records, action="updateOnly")
        return (said.codes[0] if said.codes else TAKEN), ""

    def too_many_values(self) -> tuple[str, str]:
        keys = ",".join(self.records.key(f"no-{n}") for n in range(MOST_RECORDS + 1))
        return self._query(keys, MOST_RECORDS), ""

    def large_page(self) -> tuple[str, str]:
        return self._query(self.records.key("same"), MOST_RECORDS + 1), ""

    def _query(self, values: str, size: int) -> str:
        query = {"filterType": OPPORTUNITY_ID, "filterValues": values, "batchSize": str(size)}
        said = self.wire.ask(OPPORTUNITIES, "GET", OPPORTUNITIES, query=query)
        return said.codes[0] if said.codes else TAKEN

    def no_records(self) -> tuple[str, str]:
        said = self.wire.post(OPPORTUNITIES)
        return (said.codes[0] if said.codes else TAKEN), ""

    # --- merged people ----------------------------------------------------------------------------------------

    def _merged(self) -> tuple[int, int]:
        """Winner and loser, merged; the loser had a role."""

        def prepare() -> tuple[int, int]:
            self._opportunities()
            winner, loser = (self._people()[name] for name in ("winner", MERGE_LOSER))
            self._must(self._role("merged", loser), "a role")
            self._shown(lambda: self._holders() or None, "the role")
            path = f"{LEADS}/{winner}/merge"
            self._must(self.wire.ask(LEADS, "POST", path, query={"leadId": str(loser)}), "a merge of two people")
            return winner, loser

        return self._only_once("merged", prepare)

    def roles_of_merged(self) -> tuple[str, str]:
        """Marketo may take its time to move them; that they stay is known only after a while."""
        winner, loser = self._merged()
        holders: list[int] = []
        for wait in (*SETTLE[:3], 0.0):
            holders = self._holders()
            if winner in holders:
                return "winner", ""
            self._wait(wait)
        return ("orphaned" if loser in holders else "removed"), ""

    def role_for_merged(self) -> tuple[str, str]:
        winner, loser = self._merged()
        text = f"{PREFIX}again"
        if (fate := self._role("merged", loser, text).fate) != TAKEN:
            return "unknown", f"refused with {fate}"
        holders = self._shown(lambda: self._holders(text) or None, "the role")
        return ("winner", "") if winner in holders else ("unknown", "accepted as it is")

    # --- what Marketo logs ------------------------------------------------------------------------------------

    def _log(self) -> Counter[tuple[str, int]]:
        """How often what was logged of whom, by (person, activity type), after everything was done to them.

        Last comes a change that is sure to be logged: once it shows, so does what was logged before.
        """
        return self._only_once("log", self._logged)

    def _logged(self) -> Counter[tuple[str, int]]:
        since = (self.world.clock.now() - timedelta(minutes=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
        begun = self.wire.ask("activities", "GET", "activities/pagingtoken", query={"sinceDatetime": since})
        token = str(begun.envelope.get("nextPageToken") or "")
        if begun.codes or not token:
            raise _NotAnswered("Marketo gave no place in its activity log to begin at")
        self._opportunities()
        people = {name: self._people()[name] for name in ("same", "changed", "again")}
        for name, lead in people.items():
            self._must(self._role(name, lead), "a role")
        self._must(self._make(OPPORTUNITIES, self._opportunity("same")), "an update")
        key = {OPPORTUNITY_ID: self.records.key("again")}
        body = {"deleteBy": "dedupeFields", "input": [key]}
        self._must(self.wire.ask(OPPORTUNITIES, "POST", f"{OPPORTUNITIES}/delete", body=body), "a removal")
        self._must(self._make(OPPORTUNITIES, self._opportunity("again")), "an opportunity")
        self._must(self._make(OPPORTUNITIES, self._opportunity("changed", stage=PREFIX)), "an update")

        def look() -> Counter[tuple[str, int]] | None:
            found = self._activities(token, people)
            return found if found["changed", UPDATED] and found["same", ADDED] else None

        self._shown(look, "in the activity log what was done")
        self._wait(ONCE_MORE_S)
        return self._activities(token, people)

    def _activities(self, token: str, people: Mapping[str, int]) -> Counter[tuple[str, int]]:
        names = {lead: name for name, lead in people.items()}
        query = {"activityTypeIds": f"{ADDED},{UPDATED}", "leadIds": ",".join(map(str, names))}
        found: Counter[tuple[str, int]] = Counter()
        more: Any = True
        while more:
            page = self.wire.ask("activities", "GET", "activities", query={**query, "nextPageToken": token})
            if page.codes:
                raise _NotAnswered(f"Marketo refused to show its activity log: {page.codes[0]}")
            for item in page.items:
                if int(item.get("leadId") or 0) in names:
                    found[names[int(item["leadId"])], int(item.get("activityTypeId") or 0)] += 1
            last, token = token, str(page.envelope.get("nextPageToken") or "")
            more = page.envelope.get("moreResult") and token and token != last
        return found

    def noop_logs(self) -> tuple[str, str]:
        """Who had a real change has one entry more, if the other's update that changed nothing was not logged."""
        log = self._log()
        return (YES if log["same", UPDATED] >= log["changed", UPDATED] else NO), ""

    def recreation_logs(self) -> tuple[str, str]:
        log = self._log()
        return (YES if log["again", ADDED] > log["same", ADDED] else NO), ""

    # --- the rate ---------------------------------------------------------------------------------------------

    def refused_calls_count(self) -> tuple[str, str]:
        """Calls past our own limiter until Marketo refuses some, and what its count of calls says then."""
        if not self.burst:
            raise _NotAnswered(f"{NOT_ASKED}only with --burst, which makes Marketo refuse calls for some seconds")
        if self.wire.calls + FOR_BURST > self.wire.limit:
            raise _NotAnswered("too few calls are left for it; run it again")
        before, sent, refused = self._usage(), 0, 0
        while refused < REFUSED_ENOUGH and sent < FOR_BURST:
            codes = list(self.world.fan_out(self._hurry, range(AT_ONCE)))
            sent, refused = sent + len(codes), refused + sum(map(bool, codes))
        self.wire.calls += sent
        self._wait(RATE_WINDOW_S)
        if refused < REFUSED_ENOUGH:
            raise _NotAnswered(f"Marketo refused only {refused} of {sent} calls in a row")
        after = self._usage()
        grown = max((after[user] - before[user] for user in after), default=0)
        seen = f"{sent} calls, {refused} of them refused: {grown} counted"
        if abs(grown - sent) <= LEEWAY:
            return YES, seen
        if abs(grown - (sent - refused)) <= LEEWAY:
            return NO, seen
        raise _NotAnswered(f"somebody else called meanwhile, or Marketo counts late; {seen}")

    def _hurry(self, _: int) -> str:
        """The code that the call was refused with."""
        said = _said(self.wire.lab.ask("GET", "stats/usage.json", hurried=True))
        return said.codes[0] if said.codes else ""

    def _usage(self) -> Counter[str]:
        """Calls of today by user, as Marketo counts them."""
        said = self.wire.ask("usage", "GET", "stats/usage")
        users = said.items[0].get("users") or [] if said.items else []
        return Counter({str(each["userId"]): int(each["count"]) for each in users})


_EXPERIMENTS: Mapping[str, Callable[[Experiments], tuple[str, str]]] = {
    "U1": Experiments.unknown_person,
    "U2": Experiments.unknown_opportunity,
    "U3": Experiments.unknown_company,
    "U4": Experiments.unknown_sales_person,
    "U5": Experiments.too_long,
    "U6a": Experiments.too_many_records,
    "U6b": Experiments.too_many_values,
    "U7": Experiments.same_key_twice,
    "U8": Experiments.roles_of_merged,
    "U9": Experiments.role_for_merged,
    "U10": Experiments.without_name,
    "U11": Experiments.unknown_field,
    "U12": Experiments.wrong_type,
    "U13": Experiments.large_page,
    "U14": Experiments.no_records,
    "U16": Experiments.cleared_company,
    "U17": Experiments.noop_logs,
    "U18": Experiments.recreation_logs,
    "U15": Experiments.refused_calls_count,
}
