"""The triggers of the function app: what starts a piece of work. The work itself is in `sync_core`."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, cast

import azure.functions as func

if TYPE_CHECKING:
    from sync_core.engine import Engine

app = func.FunctionApp()
OUTSIDE = cast(func.Context, None)  # who calls a function without being a worker gives no context

# Read when the host lists the functions, and once more for each request (sync_core.web.door): with Microsoft Entra ID
# the host asks for no key, and the page lets in nobody who is not signed in. What is neither keeps the page shut: the
# host then asks for its master key, which opens everything anyway.
SIGN_IN = os.environ.get("STATUS_SIGN_IN", "").strip() or "key"
LEVELS = {"key": func.AuthLevel.FUNCTION, "entra": func.AuthLevel.ANONYMOUS}
VISITORS = LEVELS.get(SIGN_IN, func.AuthLevel.ADMIN)


@app.timer_trigger(arg_name="timer", schedule="%SYNC_SCHEDULE%")
def detect_changes(timer: func.TimerRequest, context: func.Context = OUTSIDE) -> None:
    """Find what changed in Dynamics and put its ids on the queue."""
    with invocation(context):
        engine().detect()


@app.timer_trigger(arg_name="timer", schedule="0 2-59/5 * * * *")
def watch_sync(timer: func.TimerRequest, context: func.Context = OUTSIDE) -> None:
    """Look how things stand, and tell people what has become wrong, or right again."""
    with invocation(context):
        from sync_core import wiring

        wiring.watch(os.environ)


@app.queue_trigger(arg_name="message", queue_name="opportunity-sync", connection="AzureWebJobsStorage")
def sync_opportunities(message: func.QueueMessage, context: func.Context = OUTSIDE) -> None:
    """Bring Marketo into step with the opportunities of one delivery."""
    with invocation(context):
        deliver(message)


@app.queue_trigger(arg_name="message", queue_name="opportunity-sync-slow", connection="AzureWebJobsStorage")
def sync_backlog(message: func.QueueMessage, context: func.Context = OUTSIDE) -> None:
    """The same for a delivery of the slow lane: first loads and full reads, which fresh changes overtake."""
    with invocation(context):
        deliver(message, slow=True)


@app.route("status/{*page}", methods=["GET", "POST"], auth_level=VISITORS)
def status_page(req: func.HttpRequest, context: func.Context = OUTSIDE) -> func.HttpResponse:
    """The status page, what lies below it, and its actions."""
    with invocation(context):
        return answer(req, req.route_params.get("page") or "")


@app.route("status.json", methods=["GET"], auth_level=VISITORS)
def status_json(req: func.HttpRequest, context: func.Context = OUTSIDE) -> func.HttpResponse:
    """The status as plain values."""
    with invocation(context):
        return answer(req, "status.json")


@app.route("health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def health(req: func.HttpRequest) -> func.HttpResponse:
    """Whether somebody should look at the status page, for probes: no key, no data."""
    return answer(req, "health")


def invocation(context: func.Context) -> AbstractContextManager[None]:
    """What is measured within is sent at the end (docs/telemetry.md)."""
    from sync_core import telemetry

    return telemetry.invocation(context)


def engine() -> Engine:
    """The engine, built on first use: a bad setting fails the invocation, never the host's listing of functions."""
    from sync_core import wiring

    return wiring.engine()


def deliver(message: func.QueueMessage, *, slow: bool = False) -> None:
    """Hand a delivery to the engine, with the moment its lease ends as the host knew it on receipt (azure.md §3).

    Raises ValueError without that moment: what may still be written depends on it.
    """
    if message.dequeue_count is None or message.time_next_visible is None:
        raise ValueError("the host gave no dequeue count or no lease")
    from sync_core.model import Lane

    engine().deliver(
        message.get_body().decode(),
        dequeue_count=message.dequeue_count,
        lease_ends=message.time_next_visible,
        lane=Lane.SLOW if slow else Lane.FRESH,
    )


def answer(req: func.HttpRequest, page: str) -> func.HttpResponse:
    """What *page* says to a request, in the words of Azure."""
    from urllib.parse import urlsplit

    from sync_core.web.site import site
    from sync_core.web.wire import Request

    found = site().answer(
        Request(
            page=page,
            method=req.method,
            query=dict(req.params),
            headers={name.lower(): value for name, value in req.headers.items()},
            host=urlsplit(req.url).netloc,
            body=req.get_body(),
        )
    )
    headers = dict(found.headers)
    return func.HttpResponse(found.body, status_code=found.status, headers=headers, mimetype=None)
