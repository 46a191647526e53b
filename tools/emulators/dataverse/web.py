"""The organization as a WSGI application: Web API, token endpoint, managed identity and `/admin/`."""

from __future__ import annotations

import gzip
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

from tools.emulators import wire
from tools.emulators.dataverse import administration, faults, identity
from tools.emulators.dataverse.calls import API, Answer, Call
from tools.emulators.dataverse.errors import DataverseError
from tools.emulators.dataverse.journal import Journal
from tools.emulators.dataverse.service import MAX_URL, answer, written
from tools.emulators.faults import Facts, FaultPlan, PlanError, Strike, administer

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from tools.emulators.dataverse.state import DataverseState

JSON = "application/json; odata.metadata=minimal"
TOKEN = re.compile(r"/([^/]+)/oauth2/v2\.0/token")
DISCOVERY = re.compile(r"/([^/]+)/v2\.0/\.well-known/openid-configuration")
WORTH_COMPRESSING = 1000
AFFINITY = "ARRAffinity"
Interceptor = Callable[[Request], "Response | None"]


class DataverseApp:
    """Answers for *state*, which a test may replace between two requests.

    *interceptors* see every request to the Web API before it is dispatched and may answer in its place.
    *sleep* is how a slow answer waits: a frozen clock is moved instead, and a test may put in its own.
    """

    def __init__(self, state: DataverseState) -> None:
        self.state = state
        self.journal = Journal()
        self.interceptors: list[Interceptor] = []
        self.faults = FaultPlan(faults.CATALOGUE, faults.KINDS)
        self.sleep: Callable[[float], None] = lambda seconds: wire.wait(self.state.clock, seconds)
        self._bearers = identity.Bearers()
        self._lock = threading.RLock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        response = self._respond(request)
        return response(environ, start_response)

    def _respond(self, request: Request) -> Response:
        path = request.path
        if path.startswith("/admin/"):
            return self._admin(request, path.removeprefix("/admin/"))
        kind = faults.kind_of(request)
        strike = self.faults.strike(Facts(kind, path, request.method))
        status = rows = 0

        def work() -> Response:
            nonlocal rows
            response, rows = self._dispatch(request, path, strike)
            return response

        try:
            response = wire.conveyed(strike, work)
            status = response.status_code
        finally:
            query, fault = request.query_string.decode("latin-1"), strike.fault if strike else ""
            with self._lock:
                self.journal.add(self.state.now(), request.method, path, query, status, rows, kind=kind, fault=fault)
        return response

    def _dispatch(self, request: Request, path: str, strike: Strike | None) -> tuple[Response, int]:
        if path.startswith(API) or path + "/" == API:
            return self._web_api(request, strike)
        self._wait(strike)
        if match := TOKEN.fullmatch(path):
            return self._token(request, match[1]), 0
        if match := DISCOVERY.fullmatch(path):
            return _json(identity.discovery(_base(request), match[1])), 0
        if path == "/msi/token":
            header = request.headers.get("X-IDENTITY-HEADER")
            status, body = identity.managed_identity(self.state, header, request.args, _base(request))
            return _json(body, status), 0
        return Response("Not found", 404), 0

    def _wait(self, strike: Strike | None) -> None:
        if strike is not None and strike.fault == "slow":
            self.sleep(strike["seconds"])

    def _token(self, request: Request, tenant: str) -> Response:
        if request.method != "POST":
            return Response("", 405)
        try:
            return _json(identity.token(self.state, tenant, request.form, _base(request)))
        except identity.TokenRefused as refused:
            return _json(refused.body, refused.status)

    # -- Web API --------------------------------------------------------------------------------------

    def _web_api(self, request: Request, strike: Strike | None) -> tuple[Response, int]:
        for intercept in self.interceptors:
            if (instead := intercept(request)) is not None:
                return instead, 0
        if self._unauthorized(request, strike):
            challenge = f"Bearer authorization_uri={_base(request)}/{self.state.tenant}/oauth2/authorize"
            return Response("", 401, {"WWW-Authenticate": challenge}), 0
        return self._protected(request, strike)

    def _unauthorized(self, request: Request, strike: Strike | None) -> bool:
        header = request.headers.get("Authorization")
        if strike is not None and strike.fault == "401":
            if strike["dropped"]:
                self._bearers.drop(self.state, header)
            return True
        return not self._bearers.accepts(self.state, header, _base(request))

    def _protected(self, request: Request, strike: Strike | None) -> tuple[Response, int]:
        """Answered by one of the web servers, if that has room for the caller."""
        state, user = self.state, self.state.client_id
        server = state.protection.server(request.cookies.get(AFFINITY))
        try:
            with self._lock:
                faults.refuse(state, strike)
                arrival = state.protection.enter(user, server)
        except DataverseError as error:
            found = Answer(error.status, error.body, error.headers)
        else:
            try:
                self._wait(strike)
                found = self._answer(request)
            finally:
                with self._lock:
                    state.protection.leave(user, server, arrival)
        remaining = state.protection.remaining(user, server)
        return _dressed(request, found, server, remaining), found.rows

    def _answer(self, request: Request) -> Answer:
        call = _call(request)
        if len(_target(request)) > MAX_URL:
            return Answer(414, DataverseError(414, "0x80060888", "The URL is longer than 32768 characters.").body)
        with self._lock:
            try:
                identity.check_user(self.state)
            except DataverseError as error:
                return Answer(error.status, error.body)
            return answer(self.state, call)

    # -- admin ----------------------------------------------------------------------------------------

    def _admin(self, request: Request, path: str) -> Response:
        try:
            with self._lock:
                found = self._administer(request, path)
        except DataverseError as error:
            return _json(error.body, error.status)
        if isinstance(found, dict | list):
            return _json(found)
        return Response(found, 200, content_type="application/json; charset=utf-8")

    def _administer(self, request: Request, path: str) -> Any:
        if path == "faults":
            return self._plan(request)
        if request.method == "GET":
            return administration.get(self.state, self.journal, path, request.args)
        if request.method == "DELETE" and path == "journal":
            self.journal.clear()
            return {}
        if request.method != "POST":
            raise DataverseError(405, "admin", f"/admin/{path} doesn't take {request.method}.")
        return administration.post(self.state, path, _body(request))

    def _plan(self, request: Request) -> Any:
        """`POST {seed, rules: [{fault, rate, times, after, on, …}]}`, `GET`, `DELETE`: plan and strikes."""
        if request.method not in {"GET", "POST", "DELETE"}:
            raise DataverseError(405, "admin", f"/admin/faults doesn't take {request.method}.")
        try:
            return administer(self.faults, request.method, _body(request) if request.method == "POST" else None)
        except PlanError as error:
            raise DataverseError(400, "admin", str(error)) from error


def _body(request: Request) -> Any:
    try:
        return json.loads(request.get_data() or b"{}")
    except ValueError as error:
        raise DataverseError(400, "admin", f"The body isn't JSON: {error}.") from error


def _base(request: Request) -> str:
    return request.host_url.rstrip("/")


def _target(request: Request) -> str:
    """Path and query as they were sent."""
    return str(request.environ.get("REQUEST_URI") or request.full_path)


def _call(request: Request) -> Call:
    headers = {name.lower(): value for name, value in request.headers.items()}
    path = request.path[len(API) :]
    query = request.query_string.decode("latin-1")
    return Call(request.method, _base(request), path, query, headers, request.get_data())


def _json(body: Any, status: int = 200) -> Response:
    return Response(written(body), status, content_type="application/json; charset=utf-8")


def _dressed(request: Request, found: Answer, server: int, remaining: int) -> Response:
    """With the headers of the service (dataverse.md §2), and compressed where that was asked for."""
    body = found.body if isinstance(found.body, bytes) else written(found.body) if found.body is not None else b""
    headers = {"OData-Version": "4.0", "Content-Type": JSON, **_facts(request, server, remaining), **found.headers}
    if len(body) > WORTH_COMPRESSING and request.accept_encodings["gzip"] > 0:
        body = gzip.compress(body, 1)
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(body, found.status, headers)


def _facts(request: Request, server: int, remaining: int) -> dict[str, str]:
    facts = {
        "x-ms-service-request-id": str(uuid.uuid4()),
        "REQ_ID": str(uuid.uuid4()),
        "x-ms-dop-hint": "4",
        "x-ms-ratelimit-burst-remaining-xrm-requests": str(remaining),
        "x-ms-ratelimit-time-remaining-xrm-requests": "1,200.00",
    }
    if AFFINITY not in request.cookies:  # the web server that answered; clients had better not keep it
        facts["Set-Cookie"] = f"{AFFINITY}={server}-{uuid.uuid4().hex}; path=/; HttpOnly; Secure"
    return facts
