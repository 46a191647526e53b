"""An app for the tests of the local host: writes down each call, and does what the message or the request says."""

import json
import os
import time
from pathlib import Path

import azure.functions as func

app = func.FunctionApp()


@app.timer_trigger(arg_name="timer", schedule="%FIXTURE_SCHEDULE%")
def tick(timer: func.TimerRequest) -> None:
    write_down({"event": "tick", "past_due": timer.past_due})
    time.sleep(float(os.environ.get("FIXTURE_TICK_S", "0")))
    write_down({"event": "ticked"})


@app.queue_trigger(arg_name="message", queue_name="%FIXTURE_QUEUE%", connection="FIXTURE_STORAGE")
def work(message: func.QueueMessage) -> None:
    content = json.loads(message.get_body())
    lease_ends = message.time_next_visible
    write_down({"event": "work", "id": message.id, "count": message.dequeue_count, "lease_ends": str(lease_ends)})
    time.sleep(content.get("sleep", 0))
    if content.get("fail"):
        raise RuntimeError("as the message says")
    write_down({"event": "worked"})


@app.route(route="echo/{kind}/{*rest}", methods=["GET", "POST"])
def echo(req: func.HttpRequest) -> func.HttpResponse:
    """All that the host told about the request, as JSON; `?sleep=` seconds later."""
    write_down({"event": "echo"})
    time.sleep(float(req.params.get("sleep", "0")))
    told = {
        "method": req.method,
        "url": req.url,
        "route": dict(req.route_params),
        "params": dict(req.params),
        "headers": dict(req.headers),
        "body": req.get_body().decode(),
    }
    cookies = {"Set-Cookie": "taste=plain; Path=/"}
    return func.HttpResponse(json.dumps(told), status_code=201, mimetype="application/json", headers=cookies)


@app.route(route="echo/never", methods=["GET"])
def hidden(req: func.HttpRequest) -> str:
    """Never called by GET: `echo` comes before it in the alphabet and fits, too."""
    return "hidden"


@app.route(auth_level=func.AuthLevel.ANONYMOUS)
def plain(req: func.HttpRequest) -> str:
    return "plain – text"


@app.route(auth_level=func.AuthLevel.ADMIN)
def broken(req: func.HttpRequest) -> str:
    raise RuntimeError("a secret of ours")


def write_down(line: dict[str, object]) -> None:
    with Path(os.environ["FIXTURE_JOURNAL"]).open("a") as journal:
        journal.write(json.dumps({**line, "at": time.time()}) + "\n")
