"""Answers that a service shouldn't give: they repeat the request, or what stands in its records, or never end."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Answering = Callable[[Request], Response | None]


class Mischief:
    """Stands before an application. While `answering` is set, it may answer in the application's place."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self.answering: Answering | None = None
        self.struck = 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        body = request.get_data()
        answer = self.answering(request) if self.answering else None
        if answer is None:
            environ["wsgi.input"] = io.BytesIO(body)  # it was read
            return self._app(environ, start_response)
        self.struck += 1
        return answer(environ, start_response)


def echoed(request: Request) -> str:
    """All of the request, as the debug page of a proxy shows it."""
    headers = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    return f"{request.method} {request.url}\n{headers}\n\n{request.get_data(as_text=True)}"


def page(status: int, *, only: str = "") -> Answering:
    """An HTML page with the request in it; *only* for paths that contain this."""

    def answering(request: Request) -> Response | None:
        if only not in request.path:
            return None
        return Response(f"<html><body><pre>{echoed(request)}</pre></body></html>", status, content_type="text/html")

    return answering


def says(status: int, body: Callable[[str], Mapping[str, Any]], *, only: str = "", text: str = "") -> Answering:
    """A JSON answer; *body* makes it of *text*, or of the whole request."""

    def answering(request: Request) -> Response | None:
        if only not in request.path:
            return None
        content = body(text or echoed(request))
        return Response(json.dumps(content), status, content_type="application/json")

    return answering


def dataverse_error(code: str) -> Callable[[str], Mapping[str, Any]]:
    return lambda text: {"error": {"code": code, "message": text}}


def marketo_error(code: str) -> Callable[[str], Mapping[str, Any]]:
    return lambda text: {"requestId": "1#2", "success": False, "errors": [{"code": code, "message": text}]}


def identity_error(text: str) -> Mapping[str, Any]:
    """As Entra ID and Marketo's identity service word a refusal."""
    return {"error": "invalid_client", "error_description": f"AADSTS7000215: {text}"}


def skipping(code: str, text: str) -> Answering:
    """Every record of a write is skipped, with a text that quotes."""

    def answering(request: Request) -> Response | None:
        if request.args.get("_method") or request.method != "POST" or "/rest/" not in request.path:
            return None
        records = json.loads(request.get_data())["input"]
        reasons = [{"code": code, "message": text}]
        result = [{"seq": seq, "status": "skipped", "reasons": reasons} for seq in range(len(records))]
        return Response(
            json.dumps({"requestId": "1#2", "success": True, "result": result}), content_type="application/json"
        )

    return answering
