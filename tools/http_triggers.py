"""HTTP triggers as the Functions host serves them, on loopback; used by `tools.local_host`.

Routes are what the host's own source makes of them (WebScriptHostHttpRoutesManager, FunctionInvocationMiddleware,
GrpcMessageConversionExtensions of azure-functions-host): functions are asked in the order of their names and the first
whose template and methods fit answers, with no precedence of literal text over parameters (azure-functions-host#9876);
nothing that fits is 404, a wrong method included (#10098), and so is HEAD on a route for GET (azure.md §4; the newest
source of the host answers it, #11625). A key that is missing or wrong is 401; a function that raised is 500; none of
these has a body. What the worker gets lacks parameters and query values that are empty.

Left out: constraints and defaults in templates, /admin, CORS, async functions, limits of size and time.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import socket
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from azure.functions.http import HttpRequestConverter, HttpResponseConverter
from azure.functions.meta import Datum
from cheroot import wsgi
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

DEFAULT_PREFIX = "api"
ANONYMOUS = "anonymous"
PRINCIPAL = "x-ms-client-principal"  # the platform's own headers begin like that
SEGMENT = re.compile(r"[^{}]*|\{(?P<name>\w+)(?P<optional>\?)?\}|\{\*\*?(?P<rest>\w+)\}")
UTF8_TEXT = "text/plain; charset=utf-8"


class RouteError(ValueError):
    """A template that this host can't serve, or the real one would refuse."""


@dataclass(frozen=True)
class Route:
    """A template such as `status/{name}/{*rest}`, ready to be compared with paths."""

    template: str
    pattern: re.Pattern[str]

    @classmethod
    def parse(cls, template: str) -> Route:
        """Read it; raises RouteError for what is not `text`, `{name}`, `{name?}` or a last `{*rest}`."""
        segments = template.split("/")
        found = [SEGMENT.fullmatch(segment) for segment in segments]
        if template.startswith(("/", "~")) or not all(found):
            raise RouteError(f"{template!r}: this host knows text, {{name}}, {{name?}} and a last {{*rest}}")
        expression = ""
        for position, match in enumerate(each for each in found if each):
            last = position == len(segments) - 1
            if (match["rest"] or match["optional"]) and not last:
                raise RouteError(f"{template!r}: only the last segment may be {match[0]}")
            slash = "/" if position else ""
            if name := match["rest"]:
                expression += f"(?:{slash}(?P<{name}>.*))?"
            elif name := match["name"]:
                part = f"{slash}(?P<{name}>[^/]+)"
                expression += f"(?:{part})?" if match["optional"] else part
            else:
                expression += slash + re.escape(match[0])
        return cls(template, re.compile(f"{expression}/?", re.IGNORECASE | re.DOTALL))

    def match(self, path: str) -> dict[str, str] | None:
        """The parameters *path* (decoded, without its first slash) gives, empty ones left out; None if it differs."""
        match = self.pattern.fullmatch(path)
        return None if match is None else {name: value for name, value in match.groupdict().items() if value}


@dataclass(frozen=True)
class HttpFunction:
    """A function with an HTTP trigger; *call* gets its HttpRequest and returns (succeeded, what it returned)."""

    name: str
    route: Route
    methods: frozenset[str]  # upper case; none means all
    level: str  # anonymous, function or admin
    call: Callable[[object], tuple[bool, object]]

    @classmethod
    def of(
        cls, name: str, trigger: Mapping[str, Any], prefix: str, call: Callable[[object], tuple[bool, object]]
    ) -> HttpFunction:
        """From its binding, below *prefix*. Raises RouteError."""
        route = trigger.get("route") or name
        methods = frozenset(str(getattr(each, "value", each)).upper() for each in trigger.get("methods") or ())
        level = str(getattr(trigger.get("authLevel"), "value", trigger.get("authLevel") or "function")).lower()
        return cls(name, Route.parse(f"{prefix}/{route}" if prefix else route), methods, level, call)


@dataclass(frozen=True)
class HttpApp:
    """The WSGI application of the host.

    *key*: what `?code=` or `x-functions-key` must be for all that is not anonymous; "" asks for none, as `func start`.
    *signed_in*: the person Easy Auth has let in; "" leaves the platform's headers as the caller sent them.
    """

    functions: tuple[HttpFunction, ...]
    key: str = ""
    signed_in: str = ""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        return self._respond(request)(environ, start_response)

    def _respond(self, request: Request) -> Response:
        path = request.path.removeprefix("/")
        for function in sorted(self.functions, key=lambda each: each.name):
            parameters = function.route.match(path)
            if parameters is None or (function.methods and request.method not in function.methods):
                continue
            if not self._allowed(function, request):
                return Response(status=401)
            succeeded, returned = function.call(self._argument(request, parameters))
            return answer(returned) if succeeded else Response(status=500)
        return Response(status=404)

    def _allowed(self, function: HttpFunction, request: Request) -> bool:
        if function.level == ANONYMOUS or not self.key:
            return True
        given = request.headers.get("x-functions-key") or request.args.get("code", "")
        return hmac.compare_digest(given.encode(), self.key.encode())

    def _argument(self, request: Request, parameters: Mapping[str, str]) -> object:
        query = request.query_string.decode("latin-1")
        path = quote(request.path, safe="/%:@!$&'()*+,;=~")
        content = {
            "method": _text(request.method),
            "url": _text(f"{request.scheme}://{request.host}{path}{'?' if query else ''}{query}"),
            "headers": {name: _text(value) for name, value in self._headers(request).items()},
            "query": {name: _text(",".join(values)) for name, values in request.args.lists() if any(values)},
            "params": {name: _text(value) for name, value in parameters.items()},
            "body": Datum(request.get_data(), "bytes"),
        }
        return HttpRequestConverter.decode(Datum(content, "http"), trigger_metadata={})

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {name.lower(): value for name, value in request.headers.items()}
        if not self.signed_in:
            return headers
        kept = {name: value for name, value in headers.items() if not name.startswith(PRINCIPAL)}
        return kept | principal(self.signed_in)


def principal(name: str) -> dict[str, str]:
    """The headers Easy Auth puts on a request of *name*, signed in with Entra ID; whatever the caller sent is gone."""
    identity = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    claims = [{"typ": "preferred_username", "val": name}, {"typ": "name", "val": name}]
    content = {"auth_typ": "aad", "claims": claims, "name_typ": "preferred_username", "role_typ": "roles"}
    return {
        PRINCIPAL: base64.b64encode(json.dumps(content).encode()).decode(),
        f"{PRINCIPAL}-id": identity,
        f"{PRINCIPAL}-idp": "aad",
        f"{PRINCIPAL}-name": name,
    }


def answer(returned: object) -> Response:
    """What a function returned, as the worker encodes it: str or HttpResponse; anything else is a failure."""
    try:
        encoded = HttpResponseConverter.encode(returned, expected_type=None)
    except NotImplementedError:
        return Response(status=500)
    if encoded.type == "string":
        return Response(encoded.value, content_type=UTF8_TEXT)
    content = encoded.value
    response = Response(content["body"].value, status=int(content["status_code"].value))
    for name, value in content["headers"].items():
        response.headers[name] = value.value
    for cookies in content["cookies"] or ():
        for morsel in cookies.values():
            response.headers.add("set-cookie", morsel.OutputString())
    return response


@contextmanager
def serving(app: WSGIApplication, port: int) -> Iterator[str]:
    """Serve on loopback until the block ends, and the running requests with it; yields `http://127.0.0.1:PORT`.

    Port 0 takes a free one. Raises OSError when the port is taken.
    """
    with socket.socket() as probe:  # cheroot leaves its own open when it fails
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
    server = wsgi.Server(("127.0.0.1", port), app, shutdown_timeout=None)  # type: ignore[arg-type]  # its stub wants an int, but None waits as long as it takes
    server.prepare()
    thread = threading.Thread(target=server.serve, name="http", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.bind_addr[1]}"
    finally:
        server.stop()
        thread.join()


def _text(value: str) -> Datum:
    return Datum(value, "string")
