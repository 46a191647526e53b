"""Ports `Marketo` and `MarketoProbe` over the REST API.

HTTP 200 means nothing there: every envelope and every record is read.

Each HTTP attempt spends one call of the `Limiter`. Writes are idempotent (marketo.md §3.0), so short repetitions
in the process are allowed; whoever called is told when one of the attempts got no answer, as it may still be
applied (design.md §2.4).
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import random as chance
from typing import Any
from urllib.parse import urlencode

from sync_core import events, telemetry
from sync_core.adapters.limiter import next_reset
from sync_core.adapters.transport import Again, Bearer, Memo, Reply, Transport, retry_after, status_error
from sync_core.errors import (
    ConfigurationError,
    CredentialsRefused,
    OutOfTime,
    RetryLater,
    SplitBatch,
    SyncError,
    Throttled,
    Unavailable,
)
from sync_core.model import Answer, Answers, Lead, MarketoField, MarketoObject, Role
from sync_core.ports import Clock, Limiter
from sync_core.rules.batches import encode
from sync_core.rules.verdicts import all_refused, failure, reason
from sync_core.settings import Settings

WRITE_TIMEOUT, QUERY_TIMEOUT, LEAD_TIMEOUT = 75.0, 45.0, 105.0
"""Seconds; each more than Marketo's own, so that Marketo speaks first (marketo.md §2)."""

HOLD = 30.0
"""Seconds that a concurrency slot outlives the client's patience: connecting, and Marketo finishing unheard."""

PAGE = 300
MAX_PAGES = 1_000

STOP = timedelta(minutes=5)
"""How long nobody calls after 603 or 1018; then one call probes whether it has been put right."""
PAUSES: Mapping[str, timedelta] = {"606": timedelta(seconds=20), "615": timedelta(seconds=3)}

WRITE_PATIENCE = 60.0
"""Seconds after the first attempt of a write in which it is repeated here; then the queue does the waiting."""

_REQUEST_ID = re.compile(r"[0-9a-fA-F]+#([0-9a-fA-F]{10,12})")
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_JSON = {"Content-Type": "application/json"}
_REFUSED_TOKENS = {"601", "602"}
_STOPS = {"603", "1018"}
# A subscription that can't be reached does not come back in seconds, and a new token was tried already.
_LONG_WAITS = {"614", *_REFUSED_TOKENS}

# What passes, and so is no answer to an experiment; 604 and 611 may be one.
_PASSING = {"502", "606", "607", "608", "614", "615", "713", "719", *_REFUSED_TOKENS}
_NEVER = datetime.max.replace(tzinfo=UTC)

_LEAD_FIELDS = ["id", "updatedAt", "externalCompanyId"]
_KEYS: Mapping[MarketoObject, str] = {
    MarketoObject.OPPORTUNITY: "externalOpportunityId",
    MarketoObject.COMPANY: "externalCompanyId",
    MarketoObject.SALES_PERSON: "externalSalesPersonId",
}

_Envelope = Mapping[str, Any]
_Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Request:
    """*path* below `/rest/v1/`, with its query; *timeout* in seconds; *until*: not sent from then on, for writes.

    *hurried*: past the limiter.
    """

    method: str
    path: str
    timeout: float
    data: bytes | None = None
    headers: Mapping[str, str] | None = None
    until: datetime | None = None
    hurried: bool = False

    @property
    def write(self) -> bool:
        return self.until is not None

    @property
    def resource(self) -> str:
        """For logs: without the query, which may hold addresses."""
        return self.path.partition("?")[0]


@dataclass(slots=True)
class _Attempts:
    """A call, as often as it is tried; remembers whether one of the attempts got no answer."""

    once: Callable[[], _Envelope]
    unanswered: bool = False

    def __call__(self) -> _Envelope:
        try:
            return self.once()
        except Again as again:
            self.unanswered = self.unanswered or again.unanswered
            raise


class MarketoTokens:
    """The access token everybody with our client id shares, by the rules of marketo.md §1.3."""

    MARGIN = 60.0
    BARELY = 5.0

    def __init__(self, transport: Transport, settings: Settings, clock: Clock) -> None:
        self._transport = transport
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0

    def get(self) -> str:
        """A token with some life left; one thread asks, the others wait for it."""
        with self._lock:
            if not self._token or self._clock.monotonic() >= self._until:
                self._refresh()
            return self._token

    def drop(self, token: str) -> None:
        """Forget *token*, unless another thread has replaced it already."""
        with self._lock:
            if token == self._token:
                self._token = ""

    def _refresh(self) -> None:
        """Inside the margin Marketo gives the old token again: use it for half its rest, or sleep it out."""
        for _ in range(3):
            with telemetry.call("Marketo", "POST", "identity/oauth/token"):
                token, seconds = self._transport.repeat(self._ask)
            if seconds > self.BARELY:
                self._token = token
                self._until = self._clock.monotonic() + seconds - min(self.MARGIN, seconds / 2)
                return
            self._clock.sleep(seconds + 1)
        raise Unavailable("Marketo identity keeps handing out a token that is about to expire")

    def _ask(self) -> tuple[str, float]:
        """The form body keeps the secret out of URLs; identity calls are not counted (marketo.md §1.2)."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self._settings.marketo_client_id,
            "client_secret": self._settings.marketo_client_secret,
        }
        url = f"{self._settings.marketo_url}/identity/oauth/token"
        reply = self._transport.ask("POST", url, read_timeout=30.0, headers=_FORM, data=urlencode(form).encode())
        body = reply.json()
        if reply.status == 401 or (isinstance(body, dict) and "error" in body and reply.status < 500):
            raise CredentialsRefused(
                "Marketo does not accept MARKETO_CLIENT_ID and MARKETO_CLIENT_SECRET; copy both again "
                "from Admin > LaunchPoint > View Details of the custom service"
            )
        if not reply.ok:
            raise self._transport.refuse(reply, _wrong_url(reply))
        if not isinstance(body, dict) or "access_token" not in body:
            raise Again(Unavailable("Marketo identity answered without a token"))
        return str(body["access_token"]), float(body.get("expires_in") or 0)


class MarketoClient:
    """Ports `Marketo` and `MarketoProbe`."""

    def __init__(
        self, settings: Settings, clock: Clock, limiter: Limiter, *, random: Callable[[], float] = chance
    ) -> None:
        self._url = f"{settings.marketo_url}/rest/v1/"
        self._clock = clock
        self._limiter = limiter
        self._random = random
        self._transport = Transport("Marketo", clock, random=random)
        self._tokens = MarketoTokens(self._transport, settings, clock)
        self._fields: Memo[Mapping[str, MarketoField]] = Memo(clock, 86_400)
        self._skew: float | None = None
        self._slow = False

    # --- the port ---------------------------------------------------------------------------------------------

    def yielding(self) -> MarketoClient:
        """It shares everything: the token, what was described, the connections."""
        other = copy(self)
        other._slow = True
        return other

    def sign_in(self) -> None:
        self._tokens.get()

    def describe(self, kind: MarketoObject) -> Mapping[str, MarketoField]:
        """Fields by name, asked once a day (marketo.md §6.33)."""
        return self._fields.get(kind, lambda: self._describe(kind))

    def searchable(self) -> Collection[str]:
        """Only those that can be searched for alone, by the names that a query takes."""
        described = self._described(MarketoObject.LEAD)
        return {str(names[0]) for names in described.get("searchableFields", []) if len(names) == 1}

    def usage(self) -> int:
        """One of the calls that it counts (marketo.md §3.7)."""
        days = _items(self._read(_Request("GET", "stats/usage.json", QUERY_TIMEOUT)))
        return int(days[0].get("total") or 0) if days else 0

    def skew(self) -> float | None:
        return self._skew

    def upsert(self, kind: MarketoObject, records: Sequence[Mapping[str, Any]], *, until: datetime) -> Answers:
        """One `createOrUpdate`, keyed by Marketo's default: the external id, for a person the e-mail address."""
        timeout = LEAD_TIMEOUT if kind is MarketoObject.LEAD else WRITE_TIMEOUT
        return self._write(f"{kind}.json", {"action": "createOrUpdate", "input": records}, timeout, until)

    def create_people(self, records: Sequence[Mapping[str, Any]], partition: str, *, until: datetime) -> Answers:
        body = {"action": "createOnly", "lookupField": "email", "input": records}
        where = {"partitionName": partition} if partition else {}
        return self._write(f"{MarketoObject.LEAD}.json", body | where, LEAD_TIMEOUT, until)

    def link_people(self, records: Sequence[Mapping[str, Any]], *, until: datetime) -> Answers:
        body = {"action": "updateOnly", "lookupField": "id", "input": records}
        return self._write(f"{MarketoObject.LEAD}.json", body, LEAD_TIMEOUT, until)

    def delete(self, kind: MarketoObject, keys: Sequence[Mapping[str, Any]], *, until: datetime) -> Answers:
        """A person has one key only, its id."""
        by = {} if kind is MarketoObject.LEAD else {"deleteBy": "dedupeFields"}
        return self._write(f"{kind}/delete.json", {**by, "input": keys}, WRITE_TIMEOUT, until)

    def leads(self, filter_type: str, values: Sequence[str]) -> Sequence[Lead]:
        """Raises ValueError for a value with a comma: it would be read as two (callers exclude those)."""
        if any("," in value for value in values):
            raise ValueError("a filter value with a comma is read as two values")
        items = self._query(MarketoObject.LEAD, filter_type, values, [*_LEAD_FIELDS, filter_type], LEAD_TIMEOUT)
        return [lead for lead in (_lead(item, filter_type) for item in items) if lead.value]

    def roles(self, external_ids: Sequence[str]) -> Mapping[str, Sequence[Role]]:
        fields = ["externalOpportunityId", "leadId", "role", "isPrimary", "externalCreatedDate", "createdAt"]
        asked = {key.casefold(): key for key in external_ids}
        found: dict[str, list[Role]] = {}
        for item in self._query(MarketoObject.ROLE, "externalOpportunityId", external_ids, fields, QUERY_TIMEOUT):
            key = str(item["externalOpportunityId"])  # in whatever case it was created with
            found.setdefault(asked.get(key.casefold(), key), []).append(_role(item))
        return found

    def records(
        self, kind: MarketoObject, keys: Sequence[str], fields: Collection[str]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Answers spell keys and field names in their own way (marketo.md §3.0); here they are as they were asked."""
        name = _KEYS[kind]
        asked = {key.casefold(): key for key in keys}
        found = {}
        for item in self._query(kind, name, keys, [name, *fields], QUERY_TIMEOUT):
            values = {each.casefold(): value for each, value in item.items()}
            key = str(values.get(name.casefold()))
            found[asked.get(key.casefold(), key)] = {each: values.get(each.casefold()) for each in fields}
        return found

    def holders(self, kind: MarketoObject, field: str, values: Sequence[str]) -> Mapping[str, Set[str]]:
        name = _KEYS.get(kind, "id")
        asked = {value.casefold(): value for value in values}
        found: defaultdict[str, set[str]] = defaultdict(set)
        for item in self._query(kind, field, values, [name, field], QUERY_TIMEOUT):
            held = {each.casefold(): str(value) for each, value in item.items()}
            value = held.get(field.casefold(), "").casefold()
            found[asked.get(value, value)].add(held[name.casefold()])
        return found

    # --- the port of experiments ------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        hurried: bool = False,
    ) -> Mapping[str, Any]:
        if method == "GET":
            question = _question(path, query, LEAD_TIMEOUT) if query else _Request("GET", path, QUERY_TIMEOUT)
            request = replace(question, hurried=hurried)
        else:
            where = f"{path}?{urlencode(query)}" if query else path
            data = None if body is None else encode(body)
            request = _Request(method, where, LEAD_TIMEOUT, data, _JSON, until=_NEVER, hurried=hurried)
        attempt = _Attempts(lambda: self._heard(request))
        with telemetry.call("Marketo", method, request.resource):
            envelope = self._transport.repeat(attempt, seconds=WRITE_PATIENCE)
            return {**envelope, "unanswered": attempt.unanswered}

    def _heard(self, request: _Request) -> _Envelope:
        """One attempt: the envelope, whatever it says, but for what passes."""
        envelope = self._admitted(request)
        errors = _errors(envelope)
        if not request.hurried and _PASSING & {code for code, _ in errors}:
            raise self._refused(errors, request)
        return envelope

    # --- requests ---------------------------------------------------------------------------------------------

    def _describe(self, kind: MarketoObject) -> Mapping[str, MarketoField]:
        fields = [_field(item) for item in self._described(kind).get("fields", [])]
        if not fields:
            raise Unavailable(f"Marketo described no fields of {kind}")
        return {field.name: field for field in fields}

    def _described(self, kind: MarketoObject) -> _Item:
        path = f"{kind}/{'describe2' if kind is MarketoObject.LEAD else 'describe'}.json"
        result = _items(self._read(_Request("GET", path, QUERY_TIMEOUT)))
        return result[0] if result else {}

    def _query(
        self, kind: MarketoObject, filter_type: str, values: Sequence[str], fields: Sequence[str], timeout: float
    ) -> Iterator[_Item]:
        """All items whose *filter_type* is one of *values*."""
        if len(values) > PAGE:
            raise ValueError(f"Marketo takes {PAGE} filter values, not {len(values)}")
        query = {
            "filterType": filter_type,
            "filterValues": ",".join(values),
            "fields": ",".join(dict.fromkeys(fields)),
            "batchSize": str(PAGE),
        }
        return self._pages(f"{kind}.json", query, timeout) if values else iter(())

    def _pages(self, path: str, query: Mapping[str, str], timeout: float) -> Iterator[_Item]:
        """Page after page, with all of the query each time (marketo.md §5.3)."""
        seen = {""}
        page = self._read(_question(path, query, timeout))
        yield from _items(page)
        while token := _next(page):
            if token in seen:
                raise Unavailable(f"Marketo's paging of {path} does not move on")
            seen.add(token)
            page = self._read(_question(path, {**query, "nextPageToken": token}, timeout))
            yield from _items(page)

    def _read(self, request: _Request) -> _Envelope:
        with telemetry.call("Marketo", "GET", request.resource) as call:
            envelope = self._transport.repeat(lambda: self._signed(request))
            call.records = len(_items(envelope))
            return envelope

    def _write(self, path: str, body: Mapping[str, Any], timeout: float, until: datetime) -> Answers:
        """One write call; once an attempt got no answer, every outcome says so."""
        request = _Request("POST", path, timeout, encode(body), _JSON, until=until)
        attempt = _Attempts(lambda: self._signed(request))
        with telemetry.call("Marketo", "POST", request.resource) as call:
            call.records = len(body["input"])
            try:
                answers = _answers(self._transport.repeat(attempt, seconds=WRITE_PATIENCE), len(body["input"]))
                call.take(answer.code for answer in answers)
                self._refuse_systemic(answers)
            except SyncError as error:
                raise (_still_unanswered(error) if attempt.unanswered else error) from None
            return Answers(answers, attempt.unanswered)

    def _refuse_systemic(self, answers: Sequence[Answer]) -> None:
        """The same complaint from every record is no record's fault (design.md §6)."""
        if code := all_refused(answers):
            self._fields.forget()
            error = failure([(code, answers[0].message)], write=True, seconds_to_reset=0)
            self._tell_others(code, error)
            raise error

    def _signed(self, request: _Request) -> _Envelope:
        """One attempt; raises what its answer means."""
        envelope = self._admitted(request)
        errors = _errors(envelope)
        if not errors or (not request.write and all(code == "702" for code, _ in errors)):
            return envelope
        raise self._refused(errors, request)

    def _admitted(self, request: _Request) -> _Envelope:
        """After 601 or 602 another with a new token, once (marketo.md §1.3)."""
        envelope = self._exchange(request)
        if _REFUSED_TOKENS & {code for code, _ in _errors(envelope)}:
            envelope = self._exchange(request)
        return envelope

    def _exchange(self, request: _Request) -> _Envelope:
        """One HTTP request inside one call of the limiter; a token it shows to be dead is dropped."""
        token = self._tokens.get()
        try:
            with self._turn(request):
                self._check_time(request)
                reply = self._transport.send(
                    request.method,
                    self._url + request.path,
                    read_timeout=request.timeout,
                    auth=Bearer(token),
                    headers=request.headers,
                    data=request.data,
                )
        except Unavailable as error:
            error.unanswered = error.unanswered and request.write
            raise Again(error) from None
        envelope = self._envelope(reply, request)
        if _REFUSED_TOKENS & {code for code, _ in _errors(envelope)}:
            self._tokens.drop(token)
        return envelope

    def _turn(self, request: _Request) -> AbstractContextManager[None]:
        if request.hurried:
            return nullcontext()
        return self._limiter.call(hold=request.timeout + HOLD, slow=self._slow)

    def _check_time(self, request: _Request) -> None:
        if request.until is not None and self._clock.now() >= request.until:
            raise OutOfTime(f"the lease is too old to start a write to {request.resource}", delay=1.0)

    def _envelope(self, reply: Reply, request: _Request) -> _Envelope:
        """The JSON object of *reply*; anything else says nothing about the request."""
        if not reply.ok:
            if status_error(reply.status) is Throttled:
                told = retry_after(reply, self._clock.now())
                pause = PAUSES["606"] if told is None else timedelta(seconds=told)
                self._limiter.pause(until=self._clock.now() + pause, reason="Marketo answered HTTP 429")
            raise self._transport.refuse(reply, _wrong_url(reply), write=request.write)
        body = reply.json()
        if not isinstance(body, dict) or not isinstance(body.get("success"), bool):
            text = f"Marketo answered {request.method} {request.resource} with something that is no answer"
            raise Again(Unavailable(text, unanswered=request.write))
        telemetry.refused((code for code, _ in _errors(body)), str(body.get("requestId", "")))
        self._skew = _skew(str(body.get("requestId", "")), self._clock.now(), self._skew)
        return body

    def _refused(self, errors: Sequence[tuple[str, str]], request: _Request) -> SyncError | Again:
        """What to raise for a refused answer, after the others were told to hold back where that is needed."""
        now = self._clock.now()
        error = failure(errors, write=request.write, seconds_to_reset=(next_reset(now) - now).total_seconds())
        for code, _ in errors:
            self._tell_others(code, error)
        events.info("marketo.refused", endpoint=request.resource, codes=[code for code, _ in errors])
        if isinstance(error, Throttled | Unavailable) and not any(code in _LONG_WAITS for code, _ in errors):
            return Again(error)
        return error

    def _tell_others(self, code: str, error: SyncError) -> None:
        """Pause everybody's calls where *code* concerns them all."""
        now = self._clock.now()
        if code == "607":
            self._limiter.pause(until=next_reset(now), reason=str(error), quota=True)
        elif code in _STOPS:
            self._limiter.pause(until=now + STOP, reason=str(error), stop=True)
        elif code in PAUSES:
            self._limiter.pause(until=now + PAUSES[code] * (1 + self._random() / 4), reason=str(error))


def _question(path: str, query: Mapping[str, str], timeout: float) -> _Request:
    """Always the POST form: 300 ids make no URL, and addresses in URLs would end in logs (marketo.md §5.2)."""
    return _Request("POST", f"{path}?_method=GET", timeout, urlencode(query).encode(), _FORM)


def _skew(request_id: str, now: datetime, known: float | None) -> float | None:
    """By `hex#hex`, whose second part is Marketo's time in milliseconds (marketo.md §1.5); else as *known*."""
    if found := _REQUEST_ID.fullmatch(request_id):
        return now.timestamp() - int(found[1], 16) / 1000
    return known


def _errors(envelope: _Envelope) -> list[tuple[str, str]]:
    """(code, text) of a refused answer; empty for a good one. Codes come as numbers too (marketo.md §4)."""
    if envelope["success"]:
        return []
    return _pairs(envelope.get("errors")) or [("", "no error given")]


def _pairs(found: object) -> list[tuple[str, str]]:
    entries = found if isinstance(found, list) else []
    return [
        (str(entry.get("code", ""))[:8], str(entry.get("message", ""))) for entry in entries if isinstance(entry, dict)
    ]


def _items(envelope: _Envelope) -> list[_Item]:
    """`result`, which pages of people may lack (marketo.md §3.6)."""
    return [item for item in envelope.get("result") or [] if isinstance(item, dict)]


def _next(envelope: _Envelope) -> str:
    """The token of the next page; `moreResult: false` ends the paging even if there is one (marketo.md §5.3)."""
    more, token = envelope.get("moreResult"), envelope.get("nextPageToken")
    if more and not token:
        raise Unavailable("Marketo announced another page without saying where")
    return str(token) if token and more is not False else ""


def _answers(envelope: _Envelope, expected: int) -> list[Answer]:
    """One answer per record in input order; any other number of them is no answer."""
    items = sorted(_items(envelope), key=lambda item: item.get("seq") or 0)
    if len(items) != expected:
        raise Unavailable(f"Marketo answered for {len(items)} records instead of {expected}", unanswered=True)
    return [_answer(item) for item in items]


def _answer(item: _Item) -> Answer:
    status = str(item.get("status", ""))
    if status != "skipped":
        return Answer(status, id=int(item["id"]) if str(item.get("id", "")).isdigit() else None)
    return Answer(status, *reason(_pairs(item.get("reasons"))))


def _still_unanswered(error: SyncError) -> SyncError:
    """*error* of the last attempt, remembering that an earlier one may still be applied."""
    if isinstance(error, SplitBatch):
        return SplitBatch(error.code, error.message, unanswered=True)
    delay = error.delay if isinstance(error, RetryLater) else 60.0
    return Unavailable(f"{error}; an earlier attempt got no answer", delay=delay, unanswered=True)


def _wrong_url(reply: Reply) -> str:
    """A path outside the gateway is answered 403 with a page, which looks like missing rights (marketo.md §1.1)."""
    return "check MARKETO_URL" if status_error(reply.status) is ConfigurationError else ""


def _lead(item: _Item, filter_type: str) -> Lead:
    """Answers spell field names in their own way (marketo.md §3.0)."""
    values = {name.casefold(): value for name, value in item.items()}
    value = values.get(filter_type.casefold())
    company = str(values.get("externalcompanyid") or "")
    return Lead(int(item["id"]), "" if value is None else str(value).lower(), str(item.get("updatedAt") or ""), company)


def _role(item: _Item) -> Role:
    created = str(item.get("externalCreatedDate") or "")
    made = str(item.get("createdAt") or "")
    return Role(int(item["leadId"]), str(item["role"]), bool(item.get("isPrimary")), created, made=made)


def _field(item: _Item) -> MarketoField:
    length = item.get("length")
    return MarketoField(
        str(item["name"]),
        str(item.get("dataType", "")),
        length if isinstance(length, int) else None,
        item.get("updateable") is not False,
        str(item.get("displayName") or ""),
    )
