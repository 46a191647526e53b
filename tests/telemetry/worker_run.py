"""A tick and its deliveries in Microsoft's own Python runtime, with telemetry as the settings say; a program.

    python worker_run.py APP_DIR

The queue is the real one of the settings' storage account. Prints one JSON object: what the runtime told its host,
what each call came to, and whom the process asked that is not on this machine.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import uuid
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from typing import Any

FAR: list[str] = []
STORAGE = "AzureWebJobsStorage"
NEAR = ("127.0.0.1", "localhost", "::1", "", None)
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Whoever is asked for, by name or number, that is not this machine."""
    host = None
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    if (host.decode() if isinstance(host, bytes) else host) not in NEAR:
        FAR.append(str(host))


class Lines(logging.Handler):
    """What the worker would send to its host by itself: the text, and the invocation it belongs to."""

    def __init__(self, invocation: Any) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []
        self._invocation = invocation

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("sync_core"):
            self.lines.append((str(self._invocation()), record.getMessage()))


async def run(app_dir: str) -> dict[str, object]:
    import azure_functions_runtime as runtime
    from azure.storage.queue import QueueClient
    from azure_functions_runtime import native_invocation
    from azure_functions_runtime.bindings.datumdef import Datum
    from azure_functions_runtime.utils.executor import invocation_id_cv

    from tests.host.runtime_probe import SimpleNamespace, StatusResult, request, timer_input

    def queue_input(message: Any) -> tuple[Datum, dict[str, Datum]]:
        received = datetime.now(UTC).replace(microsecond=0)
        times = {"InsertionTime": received, "NextVisibleTime": received + timedelta(minutes=10)}
        times["ExpirationTime"] = received + timedelta(days=7)
        metadata = {name: Datum(json.dumps(moment.isoformat()), "json") for name, moment in times.items()}
        metadata |= {"Id": Datum(message.id, "string"), "PopReceipt": Datum(message.pop_receipt, "string")}
        body = Datum(b64decode(message.content).decode(), "string")
        return body, metadata | {"DequeueCount": Datum(str(message.dequeue_count), "json")}

    root = logging.getLogger()
    root.setLevel(logging.INFO)
    lines = Lines(invocation_id_cv.get)
    root.addHandler(lines)
    runtime.start_threadpool_executor()
    try:
        init = SimpleNamespace(capabilities={}, function_app_directory=app_dir)
        answer = await runtime.worker_init_request(request(worker_init_request=init))
        if answer.result.status != StatusResult.Success:
            raise RuntimeError(answer.result.exception.message)
        functions = {
            each.name: each for each in (await runtime.functions_metadata_request(request())).function_metadata_results
        }

        async def call(name: str, argument: str, given: Any, metadata: Any) -> Any:
            invocation = str(uuid.uuid4())
            good, _, _, error, _ = await native_invocation.invocation_request_native(
                invocation, functions[name].function_id, [(argument, given)], metadata, f"00-{TRACE}-{SPAN}-01", ""
            )
            return {"name": name, "invocation": invocation, "succeeded": good, "error": error}

        calls = [await call("detect_changes", "timer", *timer_input(None))]
        bodies = []
        with QueueClient.from_connection_string(os.environ[STORAGE], "opportunity-sync") as queue:
            for message in queue.receive_messages(visibility_timeout=600):
                bodies.append(b64decode(message.content).decode())
                calls.append(await call("sync_opportunities", "message", *queue_input(message)))
                queue.delete_message(message)
        if "watch" in sys.argv:
            calls.append(await call("watch_sync", "timer", *timer_input(None)))
        return {
            "told": answer.capabilities.get("WorkerOpenTelemetryEnabled", ""),
            "calls": calls,
            "bodies": bodies,
            "lines": lines.lines,
            "far": FAR,
            "sdk": "opentelemetry.sdk.trace" in sys.modules,
        }
    finally:
        runtime.stop_threadpool_executor()


if __name__ == "__main__":
    sys.addaudithook(watch)
    sys.path.insert(0, sys.argv[1])
    if "without" in sys.argv:
        sys.modules["azure.monitor.opentelemetry"] = None  # type: ignore[assignment]  # how Python marks what is missing
    sys.stdout.write(json.dumps(asyncio.run(run(sys.argv[1]))) + "\n")
