"""Drive the functions of an app the way the Azure Functions host does, where Core Tools aren't installed.

    python -m tools.local_host [--settings local.settings.json] [--timer-now] [--http-port 7071]

Mirrors what the host promises about timers and Storage queues (azure.md §2 and §3): leases and their renewal,
visibility after a failure, dequeue counts, poison queues, one holder of each timer; and about HTTP, as
`tools.http_triggers` says. Left out: `functionTimeout` (a slow function is not killed), output bindings, async
functions, scaling out.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import importlib.util
import json
import logging
import os
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import azure.functions as func
from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.data.tables import TableClient, TableServiceClient, UpdateMode
from azure.functions.meta import Datum
from azure.functions.queue import QueueMessageInConverter
from azure.functions.timer import TimerRequestConverter
from azure.identity import DefaultAzureCredential
from azure.storage.queue import ExponentialRetry, QueueClient, QueueMessage, QueueServiceClient
from croniter import croniter

from tools.http_triggers import DEFAULT_PREFIX, HttpApp, HttpFunction, RouteError, serving

LEASE_S = 600  # how long a received message stays invisible (azure.md §3)
TIMER_LOCK_S = 60.0  # how long a host that died keeps its timers (azure.md §2)
FIRST_POLL_S = 0.1
LONGEST_QUEUE_NAME = 63
HOST_STORAGE = "AzureWebJobsStorage"
TIMER_TABLE = "localhosttimers"

Log = Callable[[str], None]
logger = logging.getLogger(__name__)


class HostError(RuntimeError):
    """The app or its settings are such that the host can't start; the text says what to change."""


@dataclass(frozen=True)
class QueueOptions:
    """`extensions.queues` of host.json, times in seconds; defaults as in azure.md §2."""

    batch_size: int = 16
    new_batch_threshold: int | None = None
    max_dequeue_count: int = 5
    visibility_timeout: int = 0
    max_polling_interval: float = 60.0
    base64: bool = True

    @classmethod
    def from_host_json(cls, path: Path) -> QueueOptions:
        """Read them; a missing file or section means the defaults."""
        queues = _host_json(path).get("extensions", {}).get("queues", {})
        return cls(
            batch_size=queues.get("batchSize", cls.batch_size),
            new_batch_threshold=queues.get("newBatchThreshold"),
            max_dequeue_count=queues.get("maxDequeueCount", cls.max_dequeue_count),
            visibility_timeout=int(seconds(queues.get("visibilityTimeout", "00:00:00"))),
            max_polling_interval=seconds(queues.get("maxPollingInterval", "00:01:00")),
            base64=queues.get("messageEncoding", "base64") == "base64",
        )

    @property
    def in_flight(self) -> int:
        """Messages one function works on at once."""
        threshold = self.new_batch_threshold
        return self.batch_size + (threshold if threshold is not None else self.batch_size // 2 * (os.cpu_count() or 1))


def _host_json(path: Path) -> dict[str, Any]:
    """Its content; a missing file is an empty one."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def seconds(span: str) -> float:
    """The seconds of a .NET TimeSpan such as `00:05:00` or `1.00:00:00`."""
    days, _, clock = span.rpartition(".") if re.match(r"\d+\.\d+:", span) else ("0", "", span)
    hours, minutes, rest = clock.split(":")
    return int(days) * 86400 + int(hours) * 3600 + int(minutes) * 60 + float(rest)


@dataclass(frozen=True)
class Storage:
    """Clients for a connection, which a binding names by its setting."""

    settings: Mapping[str, str]
    connection: str = HOST_STORAGE

    def queues(self) -> QueueServiceClient:
        """By connection string, or `<connection>__queueServiceUri` with an identity."""
        # The default retry starts with 15 s; the host comes back to a message anyway.
        retry = ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=3)
        if text := self.settings.get(self.connection):
            return QueueServiceClient.from_connection_string(text, retry_policy=retry)
        return QueueServiceClient(self._uri("queue"), self._credential(), retry_policy=retry)

    def tables(self) -> TableServiceClient:
        """By connection string, or `<connection>__tableServiceUri` with an identity."""
        if text := self.settings.get(self.connection):
            return TableServiceClient.from_connection_string(text)
        return TableServiceClient(self._uri("table"), credential=self._credential())

    def _uri(self, service: str) -> str:
        name = f"{self.connection}__{service}ServiceUri"
        if name not in self.settings:
            raise HostError(f"missing settings: {self.connection} (or {name})")
        return self.settings[name]

    def _credential(self) -> DefaultAzureCredential:
        return DefaultAzureCredential(managed_identity_client_id=self.settings.get(f"{self.connection}__clientId"))


@dataclass(frozen=True)
class Function:
    """One function of the app: its name, its trigger binding with settings filled in, and the code."""

    name: str
    trigger: Mapping[str, Any]
    code: Callable[..., object]
    log: Log

    def call(self, argument: object) -> bool:
        """Run it and write its line; False when it raised."""
        succeeded, _ = self.answer(argument)
        return succeeded

    def answer(self, argument: object) -> tuple[bool, object]:
        """The same, with what it returned."""
        started = time.monotonic()
        try:
            returned = self.code(**{self.trigger["name"]: argument})
        except Exception as error:
            logger.exception("%s failed", self.name)
            self.log(f"{self.name} failed {time.monotonic() - started:.2f} s: {type(error).__name__}: {error}")
            return False, None
        self.log(f"{self.name} ok {time.monotonic() - started:.2f} s")
        return True, returned


class MessageLease:
    """Keeps a received message invisible while its function runs, renewing at half time (azure.md §3)."""

    def __init__(self, queue: QueueClient, message: QueueMessage, life: int) -> None:
        self.receipt = message.pop_receipt
        self._queue = queue
        self._id = message.id
        self._life = life
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> MessageLease:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _renew(self) -> None:
        pause = self._life / 2
        while not self._done.wait(pause):
            try:
                renewed = self._queue.update_message(self._id, self.receipt, visibility_timeout=self._life)
            except AzureError as error:
                logger.warning("lease of message %s not renewed: %s", self._id, error)
                pause = self._life / 8
            else:
                self.receipt = renewed.pop_receipt
                pause = self._life / 2


class QueueListener:
    """Takes the messages of one queue, one at a time, and sees each through to its end."""

    def __init__(self, function: Function, service: QueueServiceClient, options: QueueOptions, lease: int) -> None:
        name = function.trigger["queueName"]
        poison = f"{name}-poison"
        has_poison = not name.endswith("-poison") and len(poison) <= LONGEST_QUEUE_NAME
        self.function = function
        self.options = options
        self.lease = lease
        self.queue = service.get_queue_client(name)
        self.poison = service.get_queue_client(poison) if has_poison else None

    def poll(self) -> bool:
        """Handle the next visible message; False when there is none, or no such queue."""
        try:
            message = self.queue.receive_message(visibility_timeout=self.lease)
        except ResourceNotFoundError:
            return False
        if message is None:
            return False
        self._handle(message)
        return True

    def run(self, stop: threading.Event) -> None:
        """Poll until *stop*: 100 ms after a message, then ever more slowly up to maxPollingInterval."""
        pause = FIRST_POLL_S
        while not stop.is_set():
            if self.poll():
                pause = FIRST_POLL_S
            else:
                stop.wait(min(pause, self.options.max_polling_interval))
                pause *= 2

    def _handle(self, message: QueueMessage) -> None:
        body = self._body(message)
        if body is None or (self.poison and message.dequeue_count > self.options.max_dequeue_count):
            # Without a call: it crashed every host so far, or can't be decoded (azure-sdk-for-net#18326).
            self._finish(message, message.pop_receipt, self._to_poison)
            return
        with MessageLease(self.queue, message, self.lease) as lease:
            succeeded = self._call(message, body)
        last_attempt = message.dequeue_count >= self.options.max_dequeue_count
        failed = self._to_poison if last_attempt else self._make_visible_later
        self._finish(message, lease.receipt, self._delete if succeeded else failed)

    def _body(self, message: QueueMessage) -> str | None:
        if not self.options.base64:
            return message.content
        try:
            return base64.b64decode(message.content, validate=True).decode(errors="replace")
        except (binascii.Error, ValueError):
            return None

    def _call(self, message: QueueMessage, body: str) -> bool:
        metadata = trigger_metadata(message, body)
        try:
            argument = QueueMessageInConverter.decode(Datum(body, "string"), trigger_metadata=metadata)
        except ValueError as error:
            # Where the body's fields have replaced the message's own by something unreadable.
            self.function.log(f"{self.function.name} failed 0.00 s: {error}")
            return False
        return self.function.call(argument)

    def _finish(self, message: QueueMessage, receipt: str, how: Callable[[QueueMessage, str], None]) -> None:
        try:
            how(message, receipt)
        except HttpResponseError as error:
            # Somebody else has the message by now: at least once, never exactly once.
            code = getattr(error, "error_code", error.status_code)
            self.function.log(f"{self.function.name}: message {message.id} is not ours any more ({code})")

    def _delete(self, message: QueueMessage, receipt: str) -> None:
        self.queue.delete_message(message.id, receipt)

    def _make_visible_later(self, message: QueueMessage, receipt: str) -> None:
        self.queue.update_message(message.id, receipt, visibility_timeout=self.options.visibility_timeout)

    def _to_poison(self, message: QueueMessage, receipt: str) -> None:
        """Copy the body, and only that, with the default life of 7 days (azure.md §0 no. 3); then delete it."""
        if self.poison is None:
            self._make_visible_later(message, receipt)
            return
        self.function.log(
            f"Message has reached MaxDequeueCount of {self.options.max_dequeue_count}. "
            f"Moving message to queue '{self.poison.queue_name}'."
        )
        try:
            self.poison.send_message(message.content)
        except ResourceNotFoundError:
            self.poison.create_queue()
            self.poison.send_message(message.content)
        self._delete(message, receipt)


def trigger_metadata(message: QueueMessage, body: str) -> dict[str, Datum]:
    """What the worker gets beside the body.

    Top-level fields of a JSON body replace the message's own of that name, in any case (azure.md §0 no. 4).
    """
    metadata = {
        "Id": message.id,
        "DequeueCount": str(message.dequeue_count),
        "PopReceipt": message.pop_receipt,
        "InsertionTime": _iso(message.inserted_on),
        "ExpirationTime": _iso(message.expires_on),
        "NextVisibleTime": _iso(message.next_visible_on),
    }
    own_name = {name.lower(): name for name in metadata}
    for field, value in _top_level_fields(body).items():
        metadata[own_name.get(field.lower(), field)] = value if isinstance(value, str) else json.dumps(value)
    return {name: Datum(value, "string") for name, value in metadata.items()}


def _iso(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat() if moment else ""


def _top_level_fields(body: str) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    fields = content if isinstance(content, dict) else {}
    return {field: value for field, value in fields.items() if not isinstance(value, list)}


class TimerLock:
    """One holder for each timer among the hosts of a storage account, and the memory of its schedule.

    A table row stands in for the host's blob lease and status blob: a blob lease lives 15 s at least, and tests
    that kill hosts can't wait that long. *life* is in seconds; a host that died keeps the lock that long.
    """

    def __init__(self, table: TableClient, host_id: str, function: str, life: float) -> None:
        self.life = life
        self._table = table
        self._key = {"PartitionKey": host_id, "RowKey": function}
        self._owner = str(uuid.uuid4())
        self._writing = threading.Lock()  # renewal and `remember` come from two threads

    def hold(self) -> bool:
        """Take it, or keep it for another *life*; False while another host has it."""
        claim = {**self._key, "owner": self._owner, "until": now() + timedelta(seconds=self.life)}
        with self._writing:
            row = self.recall()
            try:
                if row is None:
                    self._table.create_entity(claim)
                elif row["owner"] == self._owner or row["until"] <= now():
                    etag = row.metadata["etag"]
                    self._table.update_entity(
                        claim, UpdateMode.MERGE, etag=etag, match_condition=MatchConditions.IfNotModified
                    )
                else:
                    return False
            except (ResourceExistsError, HttpResponseError) as error:
                logger.info("timer lock of %s not taken: %s", self._key["RowKey"], error)
                return False
        return True

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew it at half time as long as the block runs."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(self.life / 2):
                try:
                    self.hold()
                except AzureError as error:
                    logger.warning("timer lock of %s not renewed: %s", self._key["RowKey"], error)

        thread = threading.Thread(target=renew, name="timer-lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def release(self) -> None:
        """Let the next host have it at once."""
        with self._writing:
            row = self.recall()
            if row and row["owner"] == self._owner:
                self._table.update_entity({**self._key, "until": now()}, UpdateMode.MERGE)

    def recall(self) -> Any:
        """The row with what was remembered, or None."""
        try:
            return self._table.get_entity(self._key["PartitionKey"], self._key["RowKey"])
        except ResourceNotFoundError:
            return None

    def remember(self, **fields: object) -> None:
        """Keep *fields* for the host that comes next."""
        with self._writing:
            self._table.upsert_entity({**self._key, **fields}, UpdateMode.MERGE)


class TimerListener:
    """Calls one timer function at its slots (UTC); never two calls at once, and one for all slots missed."""

    def __init__(self, function: Function, lock: TimerLock) -> None:
        self.function = function
        self.schedule = function.trigger["schedule"]
        self.lock = lock
        if len(self.schedule.split()) != 6 or not croniter.is_valid(self.schedule, second_at_beginning=True):
            raise HostError(f"{function.name}: {self.schedule!r} is no six-field NCRONTAB expression")

    def slot_after(self, moment: datetime) -> datetime:
        """The first slot later than *moment*."""
        # NCRONTAB wants day of month AND day of week to fit, where Unix cron is content with one of them.
        return croniter(self.schedule, moment, second_at_beginning=True, day_or=False).get_next(datetime)

    def fire(self, *, past_due: bool = False, due: datetime | None = None) -> bool:
        """Call it once, whatever its schedule says; False when it raised."""
        started = now()
        status = {"Last": started, "Next": self.slot_after(started), "LastUpdated": due or started}
        info = {
            "IsPastDue": past_due,
            "Schedule": {"AdjustForDST": True},
            "ScheduleStatus": {name: moment.isoformat() for name, moment in status.items()},
        }
        return self.function.call(TimerRequestConverter.decode(Datum(json.dumps(info), "json"), trigger_metadata={}))

    def run(self, stop: threading.Event) -> None:
        """Keep the schedule until *stop*, whenever no other host has the lock."""
        while not stop.is_set():
            if self.lock.hold():
                try:
                    self._keep_schedule(stop)
                finally:
                    self.lock.release()
            stop.wait(self.lock.life / 2)

    def _keep_schedule(self, stop: threading.Event) -> None:
        due = self._first_due()
        late = due <= now()
        while not stop.is_set():
            if (wait := (due - now()).total_seconds()) > 0:
                stop.wait(min(wait, self.lock.life / 2))
                if not self.lock.hold():
                    return
                continue
            started = now()
            with self.lock.kept():
                self.fire(past_due=late, due=due)
            # A call longer than the period is followed by the next at once; slots between are skipped.
            due, late = self.slot_after(started), False
            self.lock.remember(last=started, next=due)

    def _first_due(self) -> datetime:
        """The remembered slot, though it be past; the next one where there is none or the schedule changed."""
        row = self.lock.recall()
        if row and row.get("schedule") == self.schedule:
            return row["next"]
        due = self.slot_after(now())
        self.lock.remember(schedule=self.schedule, next=due)
        return due


def now() -> datetime:
    return datetime.now(UTC)


class LocalHost:
    """The functions of *app_dir*, driven by their triggers; use it in a `with` block.

    *settings* become environment variables until the block ends, as the host does with app settings.
    *lease* (seconds, whole) and *timer_lock* (seconds) are the host's by default; *poll* (seconds) replaces
    maxPollingInterval. HTTP functions are served at `url` from the block's beginning to its end, on *http_port* (0: a
    free one; None: not at all); *function_key* and *easy_auth* as in `tools.http_triggers.HttpApp`. *log* gets one line
    for each invocation. Raises HostError for an app it can't drive.
    """

    def __init__(
        self,
        app_dir: Path,
        settings: Mapping[str, str],
        *,
        lease: int = LEASE_S,
        timer_lock: float = TIMER_LOCK_S,
        poll: float | None = None,
        http_port: int | None = None,
        function_key: str = "",
        easy_auth: str = "",
        log: Log = print,
    ) -> None:
        self.app_dir = app_dir.resolve()
        self.settings = {**settings, **({"WEBSITE_AUTH_ENABLED": "True"} if easy_auth else {})}
        self.lease = lease
        self.timer_lock = timer_lock
        self.log = log
        options = QueueOptions.from_host_json(self.app_dir / "host.json")
        self.options = options if poll is None else replace(options, max_polling_interval=poll)
        self.timers: dict[str, TimerListener] = {}
        self.queues: dict[str, QueueListener] = {}
        self.http: dict[str, HttpFunction] = {}
        self.url = ""
        self._http_port = http_port
        self._http_app = partial(HttpApp, key=function_key, signed_in=easy_auth)
        self._stack = ExitStack()

    def __enter__(self) -> LocalHost:
        with self._stack:
            self._stack.enter_context(_environment(self.settings))
            self._stack.enter_context(_importable(self.app_dir))
            for function in self._functions():
                self._listen(function)
            if self.http and self._http_port is not None:
                self.url = self._stack.enter_context(self._serving(self._http_port))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run_timer(self, name: str) -> bool:
        """Call a timer function once, now; False when it raised."""
        return self.timers[name].fire()

    def run_once(self) -> int:
        """Handle at most one visible message of each queue; returns how many there were."""
        return sum(listener.poll() for listener in self.queues.values())

    def run_until_idle(self, *, timeout: float = 600) -> int:
        """Handle messages until none is visible; returns how many. Raises TimeoutError after *timeout* seconds.

        A message that failed and becomes visible again at once (visibilityTimeout 0) is taken again.
        """
        handled, deadline = 0, time.monotonic() + timeout
        while done := self.run_once():
            handled += done
            if time.monotonic() > deadline:
                raise TimeoutError(f"messages still come after {timeout} s")
        return handled

    def run_forever(self, stop: threading.Event) -> None:
        """Keep schedules and queues going until *stop* is set, and the running invocations have finished."""
        runs = [timer.run for timer in self.timers.values()]
        runs += [queue.run for queue in self.queues.values() for _ in range(self.options.in_flight)]
        threads = [threading.Thread(target=self._keep_going, args=(run, stop)) for run in runs]
        for thread in threads:
            thread.start()
        # A wait without end would keep a signal handler from being called on some platforms.
        while not stop.wait(1):
            pass
        for thread in threads:
            thread.join()

    def _keep_going(self, run: Callable[[threading.Event], None], stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                run(stop)
            except Exception as error:
                # Storage away, mostly. A listener that ended would look like a quiet queue.
                logger.exception("a listener stumbled and goes on")
                self.log(f"{type(error).__name__}: {error}")
                stop.wait(self.options.max_polling_interval)

    def _functions(self) -> Iterator[Function]:
        for each in _app_object(_import_app(self.app_dir)).get_functions():
            name = each.get_function_name()
            if self.settings.get(f"AzureWebJobs.{name}.Disabled", "").lower() not in {"true", "1"}:
                yield Function(
                    name, self._resolved(each.get_trigger().get_dict_repr()), each.get_user_function(), self.log
                )

    def _resolved(self, binding: Mapping[str, Any]) -> dict[str, Any]:
        return {field: self._resolve(value) if isinstance(value, str) else value for field, value in binding.items()}

    def _resolve(self, text: str) -> str:
        def setting(match: re.Match[str]) -> str:
            if match[1] not in self.settings:
                raise HostError(f"missing settings: {match[1]} (a trigger names %{match[1]}%)")
            return self.settings[match[1]]

        return re.sub(r"%([^%\s]+)%", setting, text)

    def _listen(self, function: Function) -> None:
        kind = function.trigger["type"]
        if kind == "timerTrigger":
            self.timers[function.name] = TimerListener(function, self._timer_lock_of(function))
        elif kind == "queueTrigger":
            storage = Storage(self.settings, function.trigger["connection"])
            service = self._stack.enter_context(storage.queues())
            self.queues[function.name] = QueueListener(function, service, self.options, self.lease)
        elif kind == "httpTrigger":
            try:
                self.http[function.name] = HttpFunction.of(
                    function.name, function.trigger, self._prefix(), function.answer
                )
            except RouteError as error:
                raise HostError(f"{function.name}: {error}") from error
        else:
            raise HostError(f"{function.name}: this host can't drive a {kind}")

    def _prefix(self) -> str:
        http = _host_json(self.app_dir / "host.json").get("extensions", {}).get("http", {})
        return str(http.get("routePrefix", DEFAULT_PREFIX)).strip("/")

    @contextmanager
    def _serving(self, port: int) -> Iterator[str]:
        try:
            with serving(self._http_app(tuple(self.http.values())), port) as url:
                yield url
        except OSError as error:
            raise HostError(f"HTTP port {port}: {error}") from error

    def _timer_lock_of(self, function: Function) -> TimerLock:
        tables = self._stack.enter_context(Storage(self.settings).tables())
        table = tables.create_table_if_not_exists(TIMER_TABLE)
        host_id = self.settings.get("AzureFunctionsWebHost__hostid", self.app_dir.name)
        return TimerLock(table, host_id, function.name, self.timer_lock)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """What *folder* holds, its `function_app` in the place of any other."""
    sys.path.insert(0, str(folder))
    other = sys.modules.get("function_app")
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("function_app", None)
        if other is not None:
            sys.modules["function_app"] = other


def _import_app(app_dir: Path) -> ModuleType:
    path = app_dir / "function_app.py"
    spec = importlib.util.spec_from_file_location("function_app", path)
    if spec is None or spec.loader is None or not path.exists():
        raise HostError(f"no function_app.py in {app_dir}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["function_app"] = module
    spec.loader.exec_module(module)
    return module


def _app_object(module: ModuleType) -> func.FunctionRegister:
    apps = [each for each in vars(module).values() if isinstance(each, func.FunctionRegister)]
    if len(apps) != 1:
        raise HostError(f"function_app.py must have exactly one FunctionApp, not {len(apps)}")
    return apps[0]


def read_settings(path: Path) -> dict[str, str]:
    """`Values` of a local.settings.json; environment variables win, as with Core Tools."""
    values = json.loads(path.read_text())["Values"] if path.exists() else {}
    return {**values, **os.environ}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.local_host", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--app", type=Path, default=Path(), metavar="DIR", help="folder of function_app.py")
    parser.add_argument("--settings", type=Path, help="default: local.settings.json of the app")
    parser.add_argument("--lease", type=int, default=LEASE_S, help="seconds a received message stays invisible")
    parser.add_argument("--timer-lock", type=float, default=TIMER_LOCK_S, help="seconds a dead host keeps its timers")
    parser.add_argument("--poll", type=float, help="longest pause between polls, in seconds")
    parser.add_argument("--timer-now", action="store_true", help="call each timer function once at the start")
    parser.add_argument(
        "--http-port", type=int, default=0, metavar="PORT", help="of HTTP functions (default: a free one)"
    )
    parser.add_argument(
        "--function-key", default="", metavar="KEY", help="ask for it (default: for none, as func start)"
    )
    parser.add_argument("--easy-auth", default="", metavar="NAME", help="every HTTP request comes from NAME, signed in")
    return parser.parse_args()


def main() -> int:
    """Run until SIGTERM or Ctrl-C, which let running invocations finish; exit code 1 when it can't start."""
    given = arguments()
    app_dir = given.app.resolve()
    settings = read_settings(given.settings or app_dir / "local.settings.json")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("azure.core").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    os.chdir(app_dir)  # as the worker does
    host = LocalHost(
        app_dir, settings, lease=given.lease, timer_lock=given.timer_lock, poll=given.poll,
        http_port=given.http_port, function_key=given.function_key, easy_auth=given.easy_auth,
        log=lambda line: print(line, flush=True),
    )  # fmt: skip
    try:
        with host:
            for function in host.http.values():
                methods = ",".join(sorted(function.methods)) or "all"
                print(f"{function.name}: [{methods}] {host.url}/{function.route.template}", flush=True)
            for name in host.timers if given.timer_now else ():
                host.run_timer(name)
            host.run_forever(stop)
    except HostError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
