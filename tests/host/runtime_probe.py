"""Index a function app and call its functions in Microsoft's own Python runtime; runs as a program of its own.

    python runtime_probe.py APP_DIR

Prints one JSON object: the functions with their bindings, and what each call came to. The runtime is the library
that Azure's worker calls on Python 3.13 (azure.md §7). It takes the protobuf classes as an argument, so objects with
attributes do in their place; calls go through its path without protobuf.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import azure_functions_runtime as runtime
from azure_functions_runtime import native_invocation
from azure_functions_runtime.bindings.datumdef import Datum

MESSAGE = '{"v": 1, "opportunities": []}'


class StatusResult(SimpleNamespace):
    """How a request to the runtime ended."""

    Failure, Success, Cancelled = range(3)


class BindingInfo(SimpleNamespace):
    """Directions and data types of a binding, by the numbers of the protocol."""

    out, inout = 1, 2
    undefined, string, binary, stream = range(4)


class Messages:
    """Stands in for the generated protobuf module: every other message is a plain object."""

    StatusResult = StatusResult
    BindingInfo = BindingInfo

    def __getattr__(self, name: str) -> type[SimpleNamespace]:
        return SimpleNamespace


def request(**content: object) -> SimpleNamespace:
    return SimpleNamespace(request=SimpleNamespace(**content), properties={"host": "127.0.0.1", "protos": Messages()})


async def index(app_dir: str) -> list[Any]:
    """The functions the runtime finds; raises RuntimeError with its message when it can't."""
    start = SimpleNamespace(capabilities={}, function_app_directory=app_dir)
    answer = await runtime.worker_init_request(request(worker_init_request=start))
    if answer.result.status != StatusResult.Success:
        raise RuntimeError(answer.result.exception.message)
    metadata = await runtime.functions_metadata_request(request())
    return list(metadata.function_metadata_results)


async def call(function: Any, given: Datum | None = None, *, traceparent: str = "") -> dict[str, object]:
    """How it ended; for HTTP with the status and the body it answered. With *given*, that is what it is called with."""
    trigger = next(binding for binding in bindings(function) if binding["type"].endswith("Trigger"))
    argument, metadata = INPUTS[trigger["type"]](trigger)
    inputs = [(trigger["name"], given or argument)]
    invocation, identity = str(uuid.uuid4()), function.function_id
    succeeded, returned, _, error, _ = await native_invocation.invocation_request_native(
        invocation, identity, inputs, metadata, traceparent, ""
    )
    return {"succeeded": succeeded, "error": error} | (answered(returned) if succeeded else {})


def answered(returned: Any) -> dict[str, object]:
    if returned is None or returned.type != "http":
        return {} if returned is None else {"status": "200", "body": returned.value}
    return {"status": returned.value["status_code"].value, "body": returned.value["body"].value.decode()}


def http_input(trigger: dict[str, Any]) -> tuple[Datum, dict[str, Datum]]:
    """A GET of the route; parameters get their own names as values, but for the catch-all, which is empty."""
    route = trigger.get("route") or ""
    names = re.findall(r"\{(\w+)\}", route)
    path = re.sub(r"/?\{\*\*?\w+\}", "", route).replace("{", "").replace("}", "")
    content = {
        "method": Datum("GET", "string"),
        "url": Datum(f"http://localhost/api/{path}", "string"),
        "headers": {"host": Datum("localhost", "string")},
        "query": {},
        "params": {name: Datum(name, "string") for name in names},
        "body": Datum(b"", "bytes"),
    }
    return Datum(content, "http"), {}


def timer_input(_trigger: dict[str, Any]) -> tuple[Datum, dict[str, Datum]]:
    moment = datetime.now(UTC).isoformat()
    status = {"Last": moment, "Next": moment, "LastUpdated": moment}
    info = {"IsPastDue": False, "Schedule": {"AdjustForDST": True}, "ScheduleStatus": status}
    return Datum(json.dumps(info), "json"), {}


def queue_input(_trigger: dict[str, Any]) -> tuple[Datum, dict[str, Datum]]:
    received = datetime.now(UTC).replace(microsecond=0)
    lease_ends, expires = received + timedelta(minutes=10), received + timedelta(days=7)
    times = {"InsertionTime": received, "NextVisibleTime": lease_ends, "ExpirationTime": expires}
    metadata = {name: Datum(json.dumps(moment.isoformat()), "json") for name, moment in times.items()}
    metadata |= {"Id": Datum(str(uuid.uuid4()), "string"), "PopReceipt": Datum("receipt", "string")}
    return Datum(MESSAGE, "string"), metadata | {"DequeueCount": Datum("1", "json")}


INPUTS = {"timerTrigger": timer_input, "queueTrigger": queue_input, "httpTrigger": http_input}


def bindings(function: Any) -> list[dict[str, Any]]:
    return [json.loads(binding) for binding in function.raw_bindings]


async def probe(app_dir: str) -> dict[str, object]:
    runtime.start_threadpool_executor()
    try:
        functions = await index(app_dir)
        return {
            "functions": {function.name: bindings(function) for function in functions},
            "calls": {function.name: await call(function) for function in functions},
        }
    finally:
        runtime.stop_threadpool_executor()


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    sys.stdout.write(json.dumps(asyncio.run(probe(sys.argv[1]))) + "\n")
