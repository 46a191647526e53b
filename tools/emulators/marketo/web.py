"""The subscription over HTTP: identity, REST and admin as one WSGI application."""

from __future__ import annotations

import gzip
import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from werkzeug.wrappers import Request, Response

from tools.emulators import wire
from tools.emulators.faults import Facts, FaultPlan, Strike

from . import admin, faults
from .endpoints import Call, Endpoint, route
from .errors import ApiError, IdentityError, PageError
from .identity import Client
from .journal import Entry
from .state import MarketoState

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

JSON = "application/json;charset=UTF-8"
FORM = "application/x-www-form-urlencoded"
MAX_BODY = 1 << 20
MAX_URI = 8 << 10
MIN_GZIP = 1_024
ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
SECRETS = ("access_token", "client_secret")
TOKEN_PATH = "/identity/oauth/token"  # noqa: S105 - a path
UNCOUNTED = frozenset({"605"})  # 601 and 602 never come as far as the count


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request on its way: to which subscription, noted in which journal entry, and struck by what."""

    state: MarketoState
    request: Request
    body: bytes
    entry: Entry
    strike: Strike | None


class MarketoApp:
    """Translates between HTTP and a `MarketoState`, which can be replaced while it serves.

    *sleep* is how a slow answer waits: a frozen clock is moved instead, and a test may put in its own.
    """

    def __init__(self, state: MarketoState) -> None:
        self.state = state
        self.faults = FaultPlan(faults.CATALOGUE, faults.KINDS)
        self.sleep: Callable[[float], None] = lambda seconds: wire.wait(self.state.clock, seconds)
        self._request_numbers = itertools.count(0x1000)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        return self._response(request)(environ, start_response)

    def _response(self, request: Request) -> Response:
        if request.path == "/admin/faults":
            return admin.faults(self.faults, request)
        if request.path.startswith("/admin/"):
            return admin.respond(self.state, request)
        exchange = self._opened(self.state, request)
        entry, strike = exchange.entry, exchange.strike
        try:
            response = wire.conveyed(strike, lambda: self._service(exchange))
            if strike is not None and strike.fault == "lost":
                raise wire.reset()
            entry.status = response.status_code
            return response
        finally:
            entry.end = exchange.state.now()

    def _opened(self, state: MarketoState, request: Request) -> Exchange:
        """Noted, and perhaps struck, before it is known whether the call is allowed at all."""
        body = request.get_data()
        state.late.settle()
        with state.lock:
            entry = state.journal.open(state.now(), request.method, request.path)
            entry.query, entry.token_in_url = safe_query(request)
            entry.kind, entry.endpoint = known(request) or (entry.kind, entry.endpoint)
            entry.in_flight = 0 if entry.kind == "identity" else state.gate.in_flight + 1
            strike = self.faults.strike(Facts(entry.kind, entry.path, entry.method))
        entry.fault = strike.fault if strike else ""
        return Exchange(state, request, body, entry, strike)

    def _service(self, exchange: Exchange) -> Response:
        try:
            check_size(exchange)
            if exchange.request.path == TOKEN_PATH:
                return self._identity(exchange)
            if exchange.request.path.startswith("/rest/"):
                return self._rest(exchange)
        except PageError as error:
            return wire.page(error.status)
        return wire.page(403)

    def _identity(self, exchange: Exchange) -> Response:
        """Never counted, never limited (marketo.md §1.2)."""
        state, request, entry = exchange.state, exchange.request, exchange.entry
        asked = {**request.args, **(form(exchange.body) if request.mimetype == FORM else {})}
        entry.client = asked.get("client_id", "")
        self._wait(exchange)
        try:
            with state.lock:
                granted = state.identity.grant(asked.get("grant_type"), entry.client, asked.get("client_secret"))
        except IdentityError as error:
            return refused(error)
        entry.executed, entry.executed_at = True, state.now()
        return json_response(request, granted, headers=NO_STORE)

    def _wait(self, exchange: Exchange) -> None:
        if delay := exchange.state.switches.delay(exchange.entry.kind):
            time.sleep(delay)
        if exchange.strike is not None and exchange.strike.fault == "slow":
            self.sleep(exchange.strike["seconds"])

    def _rest(self, exchange: Exchange) -> Response:
        """HTTP 200 whatever happens; the envelope tells (marketo.md §3.0)."""
        state = exchange.state
        try:
            answer = {"success": True} | self._called(exchange)
        except ApiError as error:
            answer = failure(error)
            with state.lock:
                state.usage.errors[state.usage.today()][error.code] += 1
        exchange.entry.outcome(answer)
        return json_response(exchange.request, {"requestId": self._request_id(state)} | answer)

    def _called(self, exchange: Exchange) -> dict[str, Any]:
        """Who calls, what is called, is there room: in that order. Then the work itself."""
        state, request, entry = exchange.state, exchange.request, exchange.entry
        with state.lock:
            token = bearer(state, request)
            client = state.identity.check(token)
            entry.client, entry.user = client.id, client.user
            endpoint, parts = self._routed(state, client, effective_method(request), request.path)
            entry.in_flight = state.gate.in_flight + 1
            faults.refuse(state, exchange.strike, client.user, token)
            state.gate.enter(client.user)
        try:
            self._wait(exchange)
            return self._answered(exchange, endpoint, Call({}, {}, parts))
        finally:
            with state.lock:
                state.gate.leave()

    def _routed(self, state: MarketoState, client: Client, method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
        """A refused call counts all the same, unless its code says not (marketo.md §2)."""
        try:
            endpoint, parts = route(method, path)
            require_permission(state, client, endpoint)
        except ApiError as error:
            if error.code not in UNCOUNTED:
                state.gate.enter(client.user)
                state.gate.leave()
            raise
        return endpoint, parts

    def _answered(self, exchange: Exchange, endpoint: Endpoint, call: Call) -> dict[str, Any]:
        state, request, body, entry = exchange.state, exchange.request, exchange.body, exchange.entry
        if endpoint.takes_json:
            require_content_type(request, "application/json")
            call.body = json_object(body)
        else:
            call.params = parameters(request, body)
        entry.records, entry.filter_values = sizes(call)
        with state.lock:
            return faults.performed(state, exchange.strike, endpoint, call, entry)

    def _request_id(self, state: MarketoState) -> str:
        """`hex#hex`, the second part the time in milliseconds (marketo.md §1.5)."""
        return f"{next(self._request_numbers):x}#{int(state.now() * 1000):x}"


def known(request: Request) -> tuple[str, str] | None:
    """Kind and title of what is called, if there is such a thing."""
    if request.path == TOKEN_PATH:
        return "identity", "identity"
    try:
        endpoint, _ = route(effective_method(request), request.path)
    except ApiError:
        return None
    return endpoint.kind, endpoint.title


def effective_method(request: Request) -> str:
    return "GET" if posted_query(request) else request.method


def posted_query(request: Request) -> bool:
    """`POST …?_method=GET`, or a form that says so itself, as marketorestpython sends it (marketo.md §5)."""
    if request.method != "POST":
        return False
    inside = form(request.get_data()) if request.mimetype == FORM else {}
    return "GET" in (request.args.get("_method"), inside.get("_method"))


def parameters(request: Request, body: bytes) -> Mapping[str, Any]:
    """From the query string, or from the body of a `_method=GET`: a form, or JSON with `input`."""
    if not posted_query(request):
        return request.args.to_dict()
    if request.mimetype == FORM:
        return {**request.args.to_dict(), **form(body)}
    require_content_type(request, "application/json")
    asked = json_object(body)
    return {name: value for name, value in asked.items() if name != "filterValues"}


def bearer(state: MarketoState, request: Request) -> str | None:
    """From the header alone; the query parameter only by switch (marketo.md §1.4)."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer" and token:
        return token.strip()
    return request.args.get("access_token") if state.switches.token_in_query else None


def require_permission(state: MarketoState, client: Client, endpoint: Endpoint) -> None:
    if not state.identity.allows(client, endpoint.permissions):
        raise ApiError("603", "Access denied")


def require_content_type(request: Request, wanted: str) -> None:
    if request.mimetype != wanted:
        raise ApiError("612", "Invalid Content Type")


def json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body.decode(), parse_constant=not_a_number)
    except ValueError:
        raise ApiError("609", "Invalid JSON") from None
    if not isinstance(value, dict):
        raise ApiError("609", "Invalid JSON")
    return value


def not_a_number(text: str) -> None:
    raise ValueError(text)


def form(body: bytes) -> dict[str, str]:
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def sizes(call: Call) -> tuple[int, int]:
    """How many records came in, and how many filter values."""
    records = call.body.get("input") or call.params.get("input") or ()
    values = call.params.get("filterValues") or ""
    return len(records) if isinstance(records, list) else 0, values.count(",") + bool(values)


def safe_query(request: Request) -> tuple[str, bool]:
    """The query string without secrets, and whether there was a token in it."""
    shown = {name: "…" if name in SECRETS else value for name, value in request.args.items()}
    return urlencode(shown, safe=",…"), "access_token" in request.args


def check_size(exchange: Exchange) -> None:
    """413 and 414 come from the gateway, as pages (marketo.md §2)."""
    request = exchange.request
    faults.refuse_page(exchange.strike)
    if len(exchange.body) > MAX_BODY:
        raise PageError(413, "Request Entity Too Large")
    if len(request.environ.get("REQUEST_URI", "") or request.full_path) > MAX_URI:
        raise PageError(414, "Request-URI Too Large")


def failure(error: ApiError) -> dict[str, Any]:
    """Without `result`; only 610 carries `warnings` as well (marketo.md §1.1, §3.0)."""
    answer: dict[str, Any] = {"success": False, "errors": [{"code": error.code, "message": error.message}]}
    return answer | {"warnings": []} if error.code == "610" else answer


def refused(error: IdentityError) -> Response:
    """HTTP 401 in OAuth shape, not in Marketo's envelope (marketo.md §1.2)."""
    body = {"error": error.error, "error_description": error.description}
    described = ", ".join(f'{name}="{value}"' for name, value in body.items())
    headers = {"WWW-Authenticate": f'Form realm="oauth", {header_text(described)}', **NO_STORE}
    return Response(json.dumps(body), 401, headers, content_type=JSON)


def header_text(text: str) -> str:
    """A client id is echoed; it must not be able to break the header."""
    return "".join(each for each in text if each.isprintable() and each.isascii())


def json_response(
    request: Request, content: Mapping[str, Any], *, headers: Mapping[str, str] | None = None
) -> Response:
    """Compressed only on request, and never below 1,024 bytes (marketo.md §1.5)."""
    body = ENCODER.encode(content).encode()
    response = Response(body, 200, {"Server": "nginx", **(headers or {})}, content_type=JSON)
    if len(body) >= MIN_GZIP:
        response.headers["Vary"] = "Accept-Encoding"
        if request.accept_encodings["gzip"]:
            response.data = gzip.compress(body, compresslevel=1, mtime=0)
            response.headers["Content-Encoding"] = "gzip"
    return response
