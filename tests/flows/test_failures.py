"""Every failure Marketo knows, at every kind of call: what design.md §6 promises holds while it lasts and afterwards.

While it lasts nobody is blamed for trouble that is no record's; afterwards everything is exact by itself.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import urllib3

from sync_core.errors import ConfigurationError, QuotaExhausted, RetryLater
from sync_core.flows.cases import Outcome
from sync_core.model import Lane, State, Work
from tests.flows.org import Org
from tests.stage import Stage
from tools.checker import differences, expected

DATAVERSE_TABLES = ("opportunity", "contact", "account", "connection", "connectionrole")
MARKETO_OBJECTS = ("opportunities", "roles", "companies", "leads")
Send = Callable[[requests.PreparedRequest], requests.Response]


class Kind(StrEnum):
    """The kinds of call, and how to know them: method and path, with `?` for a query."""

    IDENTITY = "POST /identity/oauth/token"
    DESCRIBE = "GET /rest/v1/opportunities/describe.json"
    PEOPLE = "POST /rest/v1/leads.json?"
    READ_BACK = "POST /rest/v1/opportunities/roles.json?"
    COMPANY = "POST /rest/v1/companies.json"
    OPPORTUNITY = "POST /rest/v1/opportunities.json"
    ROLE = "POST /rest/v1/opportunities/roles.json"
    ROLE_REMOVAL = "POST /rest/v1/opportunities/roles/delete.json"
    REMOVAL = "POST /rest/v1/opportunities/delete.json"


UPSERTS = (Kind.COMPANY, Kind.OPPORTUNITY, Kind.ROLE)
REMOVALS = (Kind.ROLE_REMOVAL, Kind.REMOVAL)
WRITES = (*UPSERTS, *REMOVALS)
REMOVED = {"opportunities": 2, "roles": 2}  # what people remove from the scene below, other than what goes with it
REST = (Kind.DESCRIBE, Kind.PEOPLE, Kind.READ_BACK, *WRITES)


def kind_of(request: requests.PreparedRequest) -> str:
    url = urlsplit(str(request.url))
    return f"{request.method} {url.path}{'?' if '_method=GET' in url.query else ''}"


# --- the stage: two accounts, five opportunities, and a wire that fails as told -----------------------------------


class Scene:
    """Every kind of write has at least two records in one call, so that one can be told from the rest."""

    def __init__(self, kind: Kind) -> None:
        self.stage = Stage()
        self.kind = kind
        self.fault: Callable[[requests.PreparedRequest, Send], requests.Response] | None = None
        self.wire = self.stage.marketo_wire.send
        self.stage.marketo_wire.send = self.send  # type: ignore[method-assign, assignment]
        self.org = Org(self.stage)
        self.deals = [self.org.deal, self.org.opportunity("Second", account=self.org.bolt)]
        self.doomed = [self.org.opportunity(f"Doomed {number}", account=self.org.acme) for number in range(2)]
        connections = [self.org.stakeholder(self.org.ann, opportunity=deal) for deal in (*self.deals, *self.doomed)]
        for deal in self.deals:
            self.org.stakeholder(self.org.bob, "Champion", deal)
        if kind in REMOVALS or kind is Kind.READ_BACK:
            self.stage.sync()
        if kind in REMOVALS:
            for connection in connections[:2]:
                self.stage.edit("disconnect", id=connection)
            for deal in self.doomed:
                self.org.delete("opportunity", deal)
        self.stage.tick()
        del self.stage.world.queue.queues[Lane.FRESH][1:]  # the overlap query of a first read names the same ids again
        if kind is Kind.READ_BACK:
            self.stage.world.queue.put(Work((*self.deals, *self.doomed), force=True))

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        if self.fault is not None and kind_of(request) == self.kind:
            return self.fault(request, self.wire)
        return self.wire(request)

    def deliver(self) -> Outcome:
        """The one message on the queue; what is put back stays there."""
        outcome = self.stage.deliver()
        assert outcome is not None
        return outcome

    def rows(self) -> list[Any]:
        world = self.stage.world
        return [*world.opportunities.content.values(), *world.companies.content.values()]  # type: ignore[attr-defined]

    def wrong(self) -> list[str]:
        tables = {table: self.stage.dataverse.rows(table) for table in DATAVERSE_TABLES}
        marketo = {name: self.stage.marketo.rows(name) for name in MARKETO_OBJECTS}
        return differences(expected(tables, marketo["leads"], now=self.stage.clock.now()), marketo)

    def rest(self) -> None:
        """Until nothing is queued and nothing waits."""
        for _ in range(20):
            self.stage.clock.sleep(301)
            self.stage.sync()
            due = [row.due for row in self.rows() if row.state is State.WAITING]
            if not due:
                return
            self.stage.clock.sleep(max(1.0, (min(due) - self.stage.clock.now()).total_seconds() + 1))
        pytest.fail("no rest")

    def check_the_end(self) -> None:
        queues, rows = self.stage.world.queue.lengths(), self.rows()

        assert self.wrong() == []
        assert {row.state for row in rows} <= {State.IN_STEP, State.GONE}
        assert not any(queues.values())

    def counted(self) -> dict[str, int]:
        """The removals of the last 24 hours, as the guard knows them."""
        known = self.stage.world.documents.read("counter", "removals")
        assert known is not None
        return {name: number for name, number in known.value.items() if name != "started"}


def answer(status: int, body: bytes, headers: Mapping[str, str]) -> requests.Response:
    response = requests.Response()
    response.status_code, response.headers = status, requests.structures.CaseInsensitiveDict(headers)
    response.raw = urllib3.HTTPResponse(io.BytesIO(body), headers, status, preload_content=False)
    return response


# --- trouble of the whole call ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble:
    """What comes back instead of an answer, and how it has to be taken."""

    name: str
    taken: type[Exception]
    status: int = 200
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    error: type[requests.RequestException] | None = None
    applied: bool = False

    def __str__(self) -> str:
        return self.name

    def happens(self, request: requests.PreparedRequest, send: Send) -> requests.Response:
        if self.applied:
            send(request)
        if self.error is not None:
            raise self.error
        return answer(self.status, self.body.encode(), dict(self.headers))


def refusal(code: Any, text: str = "told so") -> str:
    return json.dumps({"requestId": "1#2", "success": False, "errors": [{"code": code, "message": text}]})


PAGE = "<html><body><h1>Bad Gateway</h1></body></html>"
SETTINGS = ("600", "603", "605", "609", "610", "612", "613", "616", "701", "703", "704", "709", "710", "711", "712",
            "714", "1011", "1018", "1035")  # fmt: skip
WAITS = ("500", "502", "606", "608", "614", "615", "713", "719", "799", "")
SPLITS = ("604", "611", "718", "1001", "1002", "1003", "1004", "1007", "1013", "1999")

ANY_CALL = [
    *(Trouble(f"{code} setting", ConfigurationError, body=refusal(code)) for code in SETTINGS),
    *(Trouble(f"{code or 'no code'} wait", RetryLater, body=refusal(code)) for code in WAITS),
    Trouble("606 as a number", RetryLater, body=refusal(606)),
    Trouble("601", RetryLater, body=refusal("601", "Access token invalid")),
    Trouble("602", RetryLater, body=refusal("602", "Access token expired")),
    Trouble("607", QuotaExhausted, body=refusal("607", "Daily quota reached")),
    Trouble("1006 field", ConfigurationError, body=refusal("1006", "Field 'nothing__c' not found")),
    Trouble("1003 parameter", ConfigurationError, body=refusal("1003", "Invalid filterType 'nothing'")),
    Trouble("403 page", ConfigurationError, 403, "<html>Forbidden</html>"),
    Trouble("404 page", ConfigurationError, 404, "<html>Not Found</html>"),
    Trouble("429", RetryLater, 429),
    Trouble("429 in 5 s", RetryLater, 429, headers=(("Retry-After", "5"),)),
    Trouble("429 in 900 s", RetryLater, 429, headers=(("Retry-After", "900"),)),
    Trouble("500 page", RetryLater, 500, PAGE),
    Trouble("502 page", RetryLater, 502, PAGE),
    Trouble("503", RetryLater, 503),
    Trouble("empty answer", RetryLater),
    Trouble("page instead of JSON", RetryLater, body=PAGE),
    Trouble("no success", RetryLater, body='{"requestId": "1#2"}'),
    Trouble("cut answer", RetryLater, body='{"requestId": "1#2", "succ'),
    Trouble("no connection", RetryLater, error=requests.ConnectTimeout),
    Trouble("reset", RetryLater, error=requests.ConnectionError),
    Trouble("silence", RetryLater, error=requests.ReadTimeout),
    Trouble("answer lost", RetryLater, error=requests.ReadTimeout, applied=True),
]
AT_IDENTITY = [
    Trouble("401", ConfigurationError, 401, '{"error":"invalid_client","error_description":"Bad client credentials"}'),
    *(each for each in ANY_CALL if each.status != 200 or each.error or '"success"' not in each.body),
]


def blames_nobody(scene: Scene) -> None:
    """No row counts an attempt, waits, or is set aside."""
    assert {row.state for row in scene.rows()} <= {State.IN_STEP}
    assert not any(row.attempts or row.reason for row in scene.rows())
    lengths = scene.stage.world.queue.lengths()
    assert not any(lengths[name] for name in ("fresh poison", "slow poison", "unreadable"))


@pytest.mark.parametrize("part", range(0, len(ANY_CALL), 9))
@pytest.mark.parametrize("kind", [Kind.IDENTITY, *REST], ids=lambda kind: kind.name.lower())
def test_trouble_of_the_service_blames_nobody_and_passes(kind: Kind, part: int) -> None:
    """One trouble after another, each at the first call of its kind in a delivery, until it is put back."""
    scene = Scene(kind)
    for trouble in (AT_IDENTITY if kind is Kind.IDENTITY else ANY_CALL)[part : part + 9]:
        scene.stage.clock.sleep(7200)  # the token is old by then
        scene.fault = trouble.happens
        outcome = scene.deliver()

        assert isinstance(outcome.trouble, trouble.taken), (trouble.name, outcome)
        assert outcome.again, trouble.name
        blames_nobody(scene)
        if kind in WRITES and trouble.error in (requests.ConnectionError, requests.ReadTimeout):
            assert any(work.force and delay >= scene.stage.world.late_write for work, delay in outcome.again)
        scene.stage.clock.sleep(max(delay for _, delay in outcome.again))

    scene.fault = None
    scene.rest()
    scene.check_the_end()
    if kind in REMOVALS:  # a day's count begins anew in between
        assert all(number <= REMOVED[name] for name, number in scene.counted().items())


# --- trouble that halves help against -----------------------------------------------------------------------------


def once(trouble: Trouble, scene: Scene) -> Callable[[requests.PreparedRequest, Send], requests.Response]:
    def happens(request: requests.PreparedRequest, send: Send) -> requests.Response:
        scene.fault = None
        return trouble.happens(request, send)

    return happens


SPLITTING = [
    Trouble("413 page", RetryLater, 413, "<html>Request Entity Too Large</html>"),
    *(Trouble(code, RetryLater, body=refusal(code, "Invalid value")) for code in SPLITS),
    Trouble("too many results", RetryLater, body=refusal("1003", "Too many results match the filter")),
]


@pytest.mark.parametrize("trouble", SPLITTING, ids=str)
@pytest.mark.parametrize("kind", WRITES, ids=lambda kind: kind.name.lower())
def test_a_call_that_is_refused_whole_is_sent_in_halves(kind: Kind, trouble: Trouble) -> None:
    scene = Scene(kind)
    scene.fault = once(trouble, scene)
    outcome = scene.deliver()

    assert outcome.trouble is None
    blames_nobody_who_is_there(scene)
    scene.rest()
    scene.check_the_end()


def blames_nobody_who_is_there(scene: Scene) -> None:
    assert {row.state for row in scene.rows()} <= {State.IN_STEP, State.GONE}
    assert not any(row.attempts or row.reason for row in scene.rows())


@pytest.mark.parametrize("kind", [Kind.PEOPLE, Kind.READ_BACK], ids=lambda kind: kind.name.lower())
@pytest.mark.parametrize("trouble", [SPLITTING[0], *SPLITTING[1:3], SPLITTING[-1]], ids=str)
def test_a_question_that_is_too_big_is_asked_in_halves(kind: Kind, trouble: Trouble) -> None:
    scene = Scene(kind)
    scene.fault = once(trouble, scene)
    outcome = scene.deliver()

    assert outcome.trouble is None
    scene.check_the_end()


@pytest.mark.parametrize("kind", REST, ids=lambda kind: kind.name.lower())
@pytest.mark.parametrize("trouble", [each for each in SPLITTING if each.name in {"604", "611"}], ids=str)
def test_a_service_that_is_too_slow_for_anything_parks_nobody(kind: Kind, trouble: Trouble) -> None:
    """604 and 611 for every half as well. Behind 611 a bad record may hide, so that each waits a while by itself."""
    scene = Scene(kind)
    scene.fault = trouble.happens
    scene.deliver()

    if trouble.name == "611" and kind in WRITES:
        assert {row.state for row in scene.rows()} <= {State.IN_STEP, State.WAITING}
    else:
        blames_nobody(scene)
    scene.fault = None
    scene.rest()
    scene.check_the_end()


# --- trouble of one record ------------------------------------------------------------------------------------------

LATER = ("1004", "1013", "1014", "1016", "1017", "1019", "1020", "1022", "1029", "1011", "1018", "1035")
REFUSED = ("1001", "1002", "1003", "1005", "1006", "1007", "1008", "1009", "1010", "1012", "1015", "1021", "1036",
           "1077", "1080", "1999")  # fmt: skip


def skipping(scene: Scene, code: str, victim: str) -> Callable[[requests.PreparedRequest, Send], requests.Response]:
    """Marketo takes every record but those of *victim*."""

    def happens(request: requests.PreparedRequest, send: Send) -> requests.Response:
        body: dict[str, Any] = json.loads(request.body or b"{}")
        records = body["input"]
        bad = [victim in record.values() for record in records]
        body["input"] = [record for record, out in zip(records, bad, strict=True) if not out]
        results = []
        if body["input"]:
            request.body = json.dumps(body).encode()
            request.headers["Content-Length"] = str(len(request.body))
            results = send(request).json()["result"]
        good = iter(results)
        told = {
            "status": "skipped",
            "reasons": [{"code": code, "message": "told so"}],
        }
        shown = [told if out else next(good) for out in bad]
        items = [{**item, "seq": seq} for seq, item in enumerate(shown)]
        return answer(200, json.dumps({"requestId": "1#2", "success": True, "result": items}).encode(), {})

    return happens


def victim_of(scene: Scene) -> str:
    return {
        Kind.COMPANY: scene.org.bolt,
        Kind.OPPORTUNITY: scene.deals[1],
        Kind.ROLE: scene.deals[1],
        Kind.ROLE_REMOVAL: scene.deals[1],
        Kind.REMOVAL: scene.doomed[1],
    }[scene.kind]


def only_the_victim_suffers(scene: Scene, outcome: Outcome) -> None:
    suffering = {scene.doomed[1]} if scene.kind is Kind.REMOVAL else {scene.deals[1]}
    states = {row.id: row.state for row in scene.stage.world.opportunities.content.values()}  # type: ignore[attr-defined]

    assert outcome.trouble is None
    assert {key for key, state in states.items() if state not in (State.IN_STEP, State.GONE)} == suffering
    assert all(suffering & set(line.split()) or victim_of(scene) in line for line in scene.wrong()), scene.wrong()


@pytest.mark.parametrize(
    ("kind", "code"),
    # 1013 on the removal of an opportunity says that it is gone already: a success.
    [(kind, code) for kind in WRITES for code in LATER if (kind, code) != (Kind.REMOVAL, "1013")],
)
def test_a_record_that_has_to_wait_harms_only_itself_and_comes_right_by_itself(kind: Kind, code: str) -> None:
    scene = Scene(kind)
    scene.fault = skipping(scene, code, victim_of(scene))
    outcome = scene.deliver()

    only_the_victim_suffers(scene, outcome)
    scene.fault = None
    scene.rest()
    scene.check_the_end()


@pytest.mark.parametrize("kind", REMOVALS, ids=lambda kind: kind.name.lower())
def test_a_removal_that_has_to_wait_is_counted_once(kind: Kind) -> None:
    """Else the guard holds what is no mass deletion (design.md §2.7: confirmed ones only)."""
    scene = Scene(kind)
    scene.fault = skipping(scene, "1014", victim_of(scene))
    scene.deliver()
    scene.fault = None
    scene.rest()

    assert scene.counted() == REMOVED


@pytest.mark.parametrize("code", REFUSED)
@pytest.mark.parametrize("kind", WRITES, ids=lambda kind: kind.name.lower())
def test_a_refused_record_harms_only_itself_and_comes_right_once_it_changes(kind: Kind, code: str) -> None:
    scene = Scene(kind)
    scene.fault = skipping(scene, code, victim_of(scene))
    outcome = scene.deliver()

    only_the_victim_suffers(scene, outcome)
    parked = {row.id: row.reason for row in scene.rows() if row.state is State.PARKED}
    assert all(code in reason for reason in parked.values())
    assert bool(parked) == (kind in UPSERTS)
    scene.fault = None
    if kind is Kind.COMPANY:
        scene.org.update("account", scene.org.bolt, websiteurl="https://bolt.invalid")
    elif kind in UPSERTS:
        scene.org.update("opportunity", scene.deals[1], description="Corrected")
    scene.rest()
    scene.check_the_end()


@pytest.mark.parametrize("kind", WRITES, ids=lambda kind: kind.name.lower())
@pytest.mark.parametrize("code", ["1006", "1018", "603"])
def test_the_same_complaint_about_every_record_is_a_setting(kind: Kind, code: str) -> None:
    scene = Scene(kind)

    def happens(request: requests.PreparedRequest, _: Send) -> requests.Response:
        told = {"status": "skipped", "reasons": [{"code": code, "message": "told so"}]}
        items = [{**told, "seq": seq} for seq, _ in enumerate(json.loads(request.body or b"{}")["input"])]
        return answer(200, json.dumps({"requestId": "1#2", "success": True, "result": items}).encode(), {})

    scene.fault = happens
    outcome = scene.deliver()

    assert isinstance(outcome.trouble, ConfigurationError)
    blames_nobody(scene)
    scene.fault = None
    scene.rest()
    scene.check_the_end()
