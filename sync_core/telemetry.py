"""Traces and metrics, and where they and the logs go: the one module that knows OpenTelemetry.

What is measured here needs the API alone, which does nothing until somebody sets a provider. SDK and exporters are
imported by `start`, and only where telemetry is on (docs/decisions/0018). docs/telemetry.md lists all that is sent:
counts, codes, times and ids of requests; no record's id, no name, address, value, query or token.
"""

from __future__ import annotations

import atexit
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from typing import Any, TypeVar

from opentelemetry import metrics, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from sync_core import __version__, events
from sync_core.model import Lane, State, Work
from sync_core.rules.alerts import ALERTS
from sync_core.rules.pace import percentiles
from sync_core.settings import Settings

T = TypeVar("T")
R = TypeVar("R")

IN_WORKER = "FUNCTIONS_WORKER_RUNTIME"
"""Stands in the environment of every Functions worker, whose host forwards log lines."""

WORKER_CARRIES = "PYTHON_ENABLE_OPENTELEMETRY"
"""With it the worker configures nothing, but tells its host not to forward logs."""

LIBRARIES = ("azure_sdk", "django", "fastapi", "flask", "httpx", "httpx2", "psycopg2", "requests", "urllib", "urllib3")
"""What Azure's distribution would instrument by itself: our own spans twice, with the addresses and their queries."""

INSTRUMENTATIONS = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
DISABLED = ("_DISABLED", "_DISABLED_ALL")  # how the names end of what the exporter does unless it is told not to
AZURE = "to Application Insights"

SDK_SETTINGS: Mapping[str, str] = {
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
    "APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED": "true",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED": "true",
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "azure_functions",
    INSTRUMENTATIONS: ",".join(LIBRARIES),
    "OTEL_TRACES_SAMPLER": "microsoft.fixed_percentage",
    "OTEL_TRACES_SAMPLER_ARG": "1.0",
}
"""How the SDK is told to talk to nobody but the customer's own ingestion, to add nothing of its own, and to send every
trace: Marketo's limits bound their number."""

WORKER_EXPORTS = "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY"
"""With it, and a connection string, the worker exports by itself, and SDK_SETTINGS have to be app settings."""

FLUSH_S = 5.0
"""Seconds that the end of an invocation waits for an ingestion that is slow."""

REASONS = 20
"""Of the reasons for which records are parked, those that get a metric of their own; the others are one."""

NO_ANSWER = "no answer"
_CODE = re.compile(r"[0-9A-Za-z]{1,10}")
_REQUEST_ID = re.compile(r"[0-9A-Fa-f#-]{1,64}")
_LOGGER = "sync_core"

_tracer = trace.get_tracer(_LOGGER)
_meter = metrics.get_meter(_LOGGER)
_propagator = TraceContextTextMapPropagator()

_freshness = _meter.create_histogram(
    "sync.freshness",
    unit="s",
    description="from an opportunity's own change to Marketo's answer, in the fresh lane",
    explicit_bucket_boundaries_advisory=(30, 60, 120, 300, 450, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400),
)
_calls = _meter.create_counter("sync.calls", description="requests sent to Dataverse and Marketo, by what they came to")
GAUGES = (
    ("backlog.messages", "", "messages that wait, by lane"),
    ("backlog.records", "", "about how many records they hold, by lane"),
    ("oldest.pending", "s", "age of the oldest change that is not in Marketo"),
    ("parked", "", "records that are parked, by kind and reason"),
    ("budget.left", "", "Marketo calls that are left of today's share"),
    ("tick.age", "s", "since the last tick"),
    ("poison", "", "messages in the poison queues, by lane"),
    ("alert", "", "1 while an alert is on, else 0; by name"),
)
_looked: dict[str, list[metrics.Observation]] = {}  # of the last look, by gauge, until it is sent


def _observe(meter: metrics.Meter) -> None:
    """Each look is sent once. A gauge that is set would be sent every minute until its process ends: an instance that
    looks no more would go on telling old alerts, and nobody would miss the look that does not come."""
    for name, unit, text in GAUGES:
        meter.create_observable_gauge(f"sync.{name}", [partial(_taken, name)], unit=unit, description=text)


def _taken(name: str, _: metrics.CallbackOptions) -> list[metrics.Observation]:
    return _looked.pop(name, [])


_observe(_meter)

_exporting = False
_flushing: threading.Thread | None = None


# --- spans ------------------------------------------------------------------------------------------------------


@contextmanager
def span(
    name: str,
    attributes: Mapping[str, object] | None = None,
    *,
    kind: trace.SpanKind = trace.SpanKind.INTERNAL,
    parent: Context | None = None,
    links: Sequence[trace.Link] = (),
) -> Iterator[trace.Span]:
    """A span that is the current one within; of an error it tells the class, as its text may be anybody's."""
    with _tracer.start_as_current_span(
        name,
        context=parent,
        kind=kind,
        links=links,
        attributes=events.plain(attributes or {}),
        record_exception=False,
        set_status_on_exception=False,
    ) as found:
        try:
            yield found
        except BaseException as error:
            found.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise


def run(name: str) -> AbstractContextManager[trace.Span]:
    """A tick or a look: what a timer starts."""
    return span(name, _invocation_id())


def command(name: str) -> AbstractContextManager[trace.Span]:
    return span(f"command {name}")


def delivery(work: Work) -> AbstractContextManager[trace.Span]:
    """Below the span in which its ids were queued; whoever called us is linked."""
    parent = _below(work.traceparent) if work.traceparent else None
    here = trace.get_current_span().get_span_context()
    return span(
        "delivery",
        {
            "lane": work.lane,
            "why": work.why,
            "opportunities": len(work.opportunities),
            "accounts": len(work.accounts),
            "users": len(work.users),
            "force": work.force,
            "postponed": work.postponed,
            **_invocation_id(),
        },
        kind=trace.SpanKind.CONSUMER,
        parent=parent,
        links=[trace.Link(here)] if parent is not None and here.is_valid else (),
    )


def _below(traceparent: str) -> Context:
    return _propagator.extract({"traceparent": traceparent})


def traceparent() -> str:
    """Of the current span, as a message carries it; '' outside of any."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent", "")


def trace_id() -> str:
    """Of the current trace, in hex; '' outside of any."""
    found = trace.get_current_span().get_span_context()
    return trace.format_trace_id(found.trace_id) if found.is_valid else ""


def done(event: str, counts: Mapping[str, Any]) -> None:
    """What a tick or a delivery came to: an event, and attributes of its span. Counts of 0 are left out."""
    p50, p99 = counts.get("freshness") or (None, None)
    more = {"freshness": None, "freshness p50": p50, "freshness p99": p99}
    told: dict[str, Any] = dict(events.plain({name: value for name, value in {**counts, **more}.items() if value}))
    trace.get_current_span().set_attributes(told)
    events.info(event, **told)


# --- calls ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Call:
    """A request to a service with its repetitions; `records` sent or received. What is told of it is safe to show."""

    service: str
    endpoint: str
    attempts: int = 0
    status: int = 0
    codes: dict[str, None] = field(default_factory=dict)
    records: int = 0
    request_id: str = ""
    came_to: str = ""

    def take(self, codes: Iterable[str]) -> list[str]:
        """Those of *codes* that look like codes, which are shown: an answer may hold anything there."""
        known = [code for code in codes if _CODE.fullmatch(code)]
        self.codes |= dict.fromkeys(known)
        return known

    def end_attempt(self) -> None:
        if self.came_to:
            _calls.add(1, {"service": self.service, "endpoint": self.endpoint, "code": self.came_to})
        self.came_to = ""

    def attributes(self) -> Mapping[str, AttributeValue]:
        return events.plain(
            {
                "attempts": self.attempts,
                "status": self.status or NO_ANSWER,
                "codes": list(self.codes),
                "records": self.records,
                "requestId": self.request_id,
            }
        )


_CALL: ContextVar[Call | None] = ContextVar("call", default=None)


@contextmanager
def call(service: str, method: str, endpoint: str) -> Iterator[Call]:
    """A span around a call of *endpoint*, which names no record; the transport tells what becomes of each attempt."""
    found = Call(service, endpoint)
    token = _CALL.set(found)
    named = {"peer.service": service, "service": service, "method": method, "endpoint": endpoint}
    try:
        with span(f"{service} {method} {endpoint}", named, kind=trace.SpanKind.CLIENT) as it:
            try:
                yield found
            finally:
                found.end_attempt()
                it.set_attributes(found.attributes())
    finally:
        _CALL.reset(token)


def sent() -> None:
    """An attempt of the current call begins."""
    if found := _CALL.get():
        found.end_attempt()
        found.attempts += 1
        found.status, found.came_to = 0, NO_ANSWER


def answered(status: int, request_id: str) -> None:
    """The attempt has an HTTP answer."""
    if found := _CALL.get():
        found.status, found.came_to = status, str(status)
        found.request_id = _shown(request_id)


def refused(codes: Iterable[str], request_id: str = "") -> None:
    """What the body of the answer says: codes of errors, and Marketo's id of the request."""
    if found := _CALL.get():
        found.came_to = next(iter(found.take(codes)), found.came_to)
        found.request_id = _shown(request_id) or found.request_id


def _shown(request_id: str) -> str:
    """'' for what looks like none."""
    return request_id if _REQUEST_ID.fullmatch(request_id) else ""


# --- metrics ----------------------------------------------------------------------------------------------------


def fresh(ages: Sequence[float]) -> dict[str, list[float]]:
    """Take the *ages* (seconds) of a delivery into the histogram; their percentiles, for whoever shows the delivery."""
    for age in ages:
        _freshness.record(age)
    return {"freshness": percentiles(ages)} if ages else {}


def measure(found: Mapping[str, Any]) -> None:
    """The gauges of a status (flows.status); of what nobody knows nothing is said."""
    look: dict[str, list[metrics.Observation]] = {}
    for name, value, attributes in _measured(found):
        if value is not None:
            look.setdefault(name, []).append(metrics.Observation(value, attributes))
    _looked.update(look)


def _measured(found: Mapping[str, Any]) -> Iterator[tuple[str, float | None, dict[str, str]]]:
    for lane in Lane:
        about = found["lanes (about)"][lane]
        yield "backlog.messages", about["messages"], {"lane": lane}
        yield "backlog.records", about["records"], {"lane": lane}
        yield "poison", found["queues (about)"][f"{lane} poison"], {"lane": lane}
    yield "oldest.pending", found["oldest change not in Marketo"]["seconds"] or 0, {}
    yield "tick.age", found["last tick"]["seconds"], {}
    calls = found["Marketo calls"]
    yield "budget.left", max(0, calls["our share"] - calls["used today"]), {}
    on = {each["name"] for each in found["alerts"]}
    for name in ALERTS:
        yield "alert", int(name in on), {"alert": name}
    parked = [each for each in found["not in step"] if each["state"] == State.PARKED]
    for each in parked[:REASONS]:
        yield "parked", each["count"], {"kind": each["kind"], "reason": each["reason"]}
    yield "parked", sum(each["count"] for each in parked[REASONS:]), {"kind": "all", "reason": "others"}


# --- threads and invocations ------------------------------------------------------------------------------------

_INVOCATION: ContextVar[tuple[Any, str] | None] = ContextVar("invocation", default=None)


@contextmanager
def invocation(context: Any) -> Iterator[None]:
    """One call of a function by the host; *context* is its `azure.functions.Context`, None outside of a worker.

    What was measured is sent at its end: on Flex Consumption the machine may be frozen right after.
    """
    known = None if context is None else (context.thread_local_storage, str(context.invocation_id))
    token = _INVOCATION.set(known)
    # The worker attaches the host's span to async functions alone (azure-functions-runtime 1.3.0).
    caller = attach(_below(context.trace_context.trace_parent or "")) if context is not None else None
    try:
        yield
    finally:
        if caller is not None:
            detach(caller)
        _INVOCATION.reset(token)
        flush()


def _invocation_id() -> dict[str, str]:
    found = _INVOCATION.get()
    return {"invocation": found[1]} if found else {}


def carried(function: Callable[[T], R]) -> Callable[[T], R]:
    """*function* for another thread: below the same span, and its logs under the same invocation (azure.md §9)."""
    context = copy_context()
    return lambda item: context.copy().run(_inside, function, item)


def _inside(function: Callable[[T], R], item: T) -> R:
    found = _INVOCATION.get()
    if found is None:
        return function(item)
    storage, invocation_id = found
    storage.invocation_id = invocation_id
    try:
        return function(item)
    finally:
        storage.invocation_id = None


# --- where it goes ----------------------------------------------------------------------------------------------


def start(settings: Settings, env: MutableMapping[str, str]) -> None:
    """Send it where *settings* say; who has set a provider before is the worker, which then exports (azure.md §9).

    Never raises: the sync goes on without.
    """
    global _exporting
    where = _where(settings)
    by_worker = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    try:
        if by_worker:
            _forget_instrumentations()
        elif where == "console":
            _show()
        elif where == AZURE:
            _export(settings, env, logs=IN_WORKER not in env or _is_on(env, WORKER_CARRIES))
        _exporting = by_worker or where != "off"
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the sync matters more
        events.warning("telemetry.off", reason=type(error).__name__)


def _where(settings: Settings) -> str:
    return settings.sync_telemetry or (AZURE if settings.applicationinsights_connection_string else "off")


def standing(settings: Settings, env: Mapping[str, str]) -> tuple[str, list[str]]:
    """Where telemetry goes, and app settings without which the worker's exporter also talks to Microsoft, or sends
    the calls of libraries (docs/telemetry.md)."""
    if not (_is_on(env, WORKER_EXPORTS) and env.get("APPLICATIONINSIGHTS_CONNECTION_STRING", "").strip()):
        return _where(settings), []
    disabled = {each.strip() for each in env.get(INSTRUMENTATIONS, "").split(",")}
    lacking = [name for name in SDK_SETTINGS if name.endswith(DISABLED) and env.get(name, "").lower() != "true"]
    return AZURE, lacking if disabled >= set(LIBRARIES) else [*lacking, INSTRUMENTATIONS]


def _is_on(env: Mapping[str, str], name: str) -> bool:
    """As the worker reads it."""
    return env.get(name, "").lower() in ("1", "true", "t", "yes", "y")


def flush() -> None:
    """Send what waits, within `FLUSH_S`; what an ingestion does not take by then stays for the next time."""
    global _flushing
    if not _exporting or (_flushing is not None and _flushing.is_alive()):
        return
    _flushing = threading.Thread(target=_flush, name="telemetry", daemon=True)
    _flushing.start()
    _flushing.join(FLUSH_S)


def _flush() -> None:
    for provider in _providers():
        with suppress(Exception):  # the SDK has logged it
            getattr(provider, "force_flush", int)()


def _end_at_once() -> None:
    """The SDK would wait at the end of the process, half a minute for each provider; everything was flushed by then."""
    for provider in _providers():
        atexit.unregister(getattr(provider, "shutdown", int))


def _providers() -> Sequence[object]:
    from opentelemetry._logs import get_logger_provider

    return trace.get_tracer_provider(), metrics.get_meter_provider(), get_logger_provider()


def _export(settings: Settings, env: MutableMapping[str, str], *, logs: bool) -> None:
    """To Application Insights; without *logs* where the Functions host forwards them: they would come twice."""
    for name, value in SDK_SETTINGS.items():
        env.setdefault(name, value)
    env.setdefault("OTEL_SERVICE_NAME", env.get("WEBSITE_SITE_NAME", "opportunity-sync"))
    more = env.get("OTEL_RESOURCE_ATTRIBUTES", "")
    env["OTEL_RESOURCE_ATTRIBUTES"] = f"{more},service.version={__version__}".strip(",")
    if not logs:
        env["OTEL_LOGS_EXPORTER"] = "none"
    from azure.monitor.opentelemetry import configure_azure_monitor

    configure_azure_monitor(
        connection_string=settings.applicationinsights_connection_string,
        logger_name=_LOGGER,
        enable_live_metrics=False,
        enable_performance_counters=False,
        instrumentation_options={library: {"enabled": False} for library in LIBRARIES},
    )
    if logs:
        logging.getLogger(_LOGGER).setLevel(logging.INFO)
    _quiet()
    _end_at_once()


def _quiet() -> None:
    """At INFO these write a line for each request of the exporter."""
    for name in ("azure", "opentelemetry", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _forget_instrumentations() -> None:
    """The worker switched them on before our code was loaded, unless the app settings say otherwise."""
    from azure.core.settings import settings

    settings.tracing_implementation = None
    settings.tracing_enabled = False
    for each in entry_points(group="opentelemetry_instrumentor"):
        if each.name in LIBRARIES and each.module in sys.modules:
            found = each.load()()
            if found.is_instrumented_by_opentelemetry:
                found.uninstrument()
    _quiet()


def _show() -> None:
    """Lines on standard error: spans as they end, metrics when they are flushed, logs if nobody shows them yet."""
    from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        ConsoleMetricExporter,
        PeriodicExportingMetricReader,
    )
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    spans = TracerProvider()
    spans.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr, formatter=_span_line)))
    trace.set_tracer_provider(spans)
    since_last: dict[type, AggregationTemporality] = dict.fromkeys((Counter, Histogram), AggregationTemporality.DELTA)
    shown = ConsoleMetricExporter(out=sys.stderr, formatter=_metric_lines, preferred_temporality=since_last)
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(shown)]))
    logger = logging.getLogger(_LOGGER)
    logger.setLevel(logging.INFO)
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler(sys.stderr))


def _span_line(found: Any) -> str:
    name = f"span {found.name!r} {(found.end_time - found.start_time) / 1e6:.0f} ms"
    failed = {} if found.status.is_ok or found.status.description is None else {"error": found.status.description}
    where = {"trace": trace.format_trace_id(found.context.trace_id)}
    return f"{events.line(name, {**found.attributes, **failed, **where})}\n"


def _metric_lines(found: Any) -> str:
    scopes = (scope for resource in found.resource_metrics for scope in resource.scope_metrics)
    points = ((each.name, point) for scope in scopes for each in scope.metrics for point in each.data.data_points)
    return "".join(
        f"{events.line(f'metric {name}', {**point.attributes, **_numbers(point)})}\n" for name, point in points
    )


def _numbers(point: Any) -> dict[str, Any]:
    shown = ("value",) if hasattr(point, "value") else ("count", "sum", "min", "max")
    return {name: getattr(point, name) for name in shown}
