"""What telemetry measures, kept in memory instead of sent: for a process that has set no provider."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sync_core import telemetry


@dataclass
class Measured:
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def span(self, name: str) -> ReadableSpan:
        """The last one of this name."""
        return [each for each in self.spans if each.name == name][-1]

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """(attributes, point) of one metric, since the beginning."""
        return [(attributes, point) for metric, attributes, point in self.metrics() if metric == name]

    def metrics(self) -> list[tuple[str, dict[str, Any], Any]]:
        found = self.reader.get_metrics_data()
        scopes = (scope for resource in (found.resource_metrics if found else ()) for scope in resource.scope_metrics)
        points = ((each.name, point) for scope in scopes for each in scope.metrics for point in each.data.data_points)
        return [(name, dict(point.attributes), point) for name, point in points]


@contextmanager
def measured(patch: pytest.MonkeyPatch) -> Iterator[Measured]:
    spans, exporter, reader = TracerProvider(), InMemorySpanExporter(), InMemoryMetricReader()
    spans.add_span_processor(SimpleSpanProcessor(exporter))
    meter = MeterProvider([reader]).get_meter("test")
    patch.setattr(telemetry, "_tracer", spans.get_tracer("test"))
    patch.setattr(telemetry, "_freshness", meter.create_histogram("sync.freshness"))
    patch.setattr(telemetry, "_calls", meter.create_counter("sync.calls"))
    patch.setattr(telemetry, "_looked", {})
    telemetry._observe(meter)
    yield Measured(exporter, reader)
