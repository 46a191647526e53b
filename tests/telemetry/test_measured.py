"""Spans and metrics of the whole sync in one process, and of its parts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from azure.storage.queue import QueueServiceClient
from opentelemetry import trace

from sync_core import telemetry
from sync_core.adapters.clock import SystemClock
from sync_core.adapters.work_queue import StorageQueue
from sync_core.errors import Unavailable
from sync_core.flows.cases import Outcome
from sync_core.messages import decode, encode
from sync_core.model import Lane, Work
from sync_core.rules.alerts import ALERTS
from sync_core.wiring import threads
from tests.contracts.ledger import an_id
from tests.flows.org import Org
from tests.stage import LEASE, Stage
from tests.telemetry.measured import Measured, measured
from tools.azurite import Azurite

PARENT = f"00-{'1' * 32}-{'2' * 16}-01"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Measured]:
    with measured(monkeypatch) as found:
        yield found


@pytest.fixture
def org(seen: Measured) -> Org:
    return Org(Stage())


def hand_over(stage: Stage, work: Work) -> Outcome:
    ends = stage.clock.now() + LEASE
    found = stage.engine.deliver(encode(work), dequeue_count=1, lease_ends=ends, lane=work.lane)
    assert found is not None
    return found


# --- the trace ----------------------------------------------------------------------------------------------------


def test_a_delivery_is_below_the_span_that_queued_it_and_several_share_a_trace(org: Org, seen: Measured) -> None:
    for _ in range(2):
        hand_over(org.stage, Work((org.deal,), traceparent=PARENT))

    deliveries = [each for each in seen.spans if each.name == "delivery"]
    assert len(deliveries) == 2
    assert {f"{each.parent.span_id:x}" for each in deliveries if each.parent} == {"2" * 16}
    assert {f"{each.context.trace_id:x}" for each in deliveries} == {"1" * 32}


def test_what_is_put_back_keeps_its_trace(org: Org, seen: Measured) -> None:
    org.stage.marketo_app.faults.set({"rules": [{"fault": "606", "on": {"kind": "write"}}]})

    hand_over(org.stage, Work((org.deal,), traceparent=PARENT))

    again = [decode(message.body) for message in org.stage.world.queue.queues["fresh"]]
    assert [work.traceparent for work in again] == [PARENT]


def test_the_queue_gives_new_work_the_trace_it_was_put_in(azurite: Azurite, seen: Measured) -> None:
    with QueueServiceClient.from_connection_string(azurite.connection_string) as service:
        queue = StorageQueue(service, SystemClock(), prefix="Traced")
        queue.put(Work((an_id(1),)))
        with telemetry.run("tick"):
            inside = telemetry.traceparent()
            queue.put(Work((an_id(2),)))
            queue.put(Work((an_id(3),), traceparent=PARENT))

        bodies = [queue.receive(Lane.FRESH, lease=timedelta(minutes=1)) for _ in range(3)]

    assert inside != ""
    assert {json.loads(each.body)["traceparent"] for each in bodies if each} == {"", inside, PARENT}


def test_spans_of_other_threads_hang_below_the_callers(seen: Measured) -> None:
    together = threading.Barrier(2, timeout=10)

    def work(number: int) -> None:
        together.wait()  # so that each has a thread of its own
        with telemetry.call("Marketo", "GET", f"endpoint {number}"):
            pass

    with telemetry.run("tick"):
        list(threads(2)(work, [1, 2]))

    calls, tick = [each for each in seen.spans if each.name != "tick"], seen.span("tick")
    assert len(calls) == 2
    assert {each.parent.span_id for each in calls if each.parent} == {tick.context.span_id}


class Host:
    """`azure.functions.Context`, as far as it is used."""

    invocation_id = "an invocation"

    class trace_context:  # noqa: N801 - as the worker spells it
        trace_parent = PARENT

    def __init__(self) -> None:
        self.thread_local_storage = threading.local()


def test_log_lines_of_other_threads_belong_to_the_invocation_while_it_lasts(seen: Measured) -> None:
    host = Host()
    together = threading.Barrier(2, timeout=10)

    def work(_: int) -> str:
        together.wait()
        return str(host.thread_local_storage.invocation_id)

    def left(_: int) -> object:
        together.wait()
        return getattr(host.thread_local_storage, "invocation_id", None)

    with ThreadPoolExecutor(2) as pool:
        with telemetry.invocation(host):
            told = list(pool.map(telemetry.carried(work), range(2)))
        after = list(pool.map(left, range(2)))

    assert (told, after) == (["an invocation"] * 2, [None] * 2)


def test_a_tick_is_below_the_hosts_own_span(seen: Measured) -> None:
    with telemetry.invocation(Host()), telemetry.run("tick"):
        pass

    tick = seen.span("tick")
    assert f"{tick.context.trace_id:x}" == "1" * 32
    assert dict(tick.attributes or {}) == {"invocation": "an invocation"}
    assert not trace.get_current_span().get_span_context().is_valid


def test_an_error_is_told_by_its_class_alone(seen: Measured) -> None:
    with pytest.raises(ValueError, match="zoltana"), telemetry.run("tick"):
        raise ValueError("zoltana@example.invalid")

    tick = seen.span("tick")
    assert (tick.status.status_code.name, tick.status.description) == ("ERROR", "ValueError")
    assert tick.events == ()


# --- calls --------------------------------------------------------------------------------------------------------


def calls(seen: Measured, endpoint: str) -> dict[str, int]:
    return {
        attributes["code"]: point.value
        for attributes, point in seen.points("sync.calls")
        if attributes["endpoint"] == endpoint
    }


def test_a_repeated_call_is_one_span_and_every_request_is_counted_by_what_it_came_to(org: Org, seen: Measured) -> None:
    rules = [{"fault": fault, "on": {"kind": "write"}, "times": 1} for fault in ("606", "reset")]
    org.stage.marketo_app.faults.set({"rules": rules})

    hand_over(org.stage, Work((org.deal,)))

    assert calls(seen, "companies.json") == {"606": 1, "no answer": 1, "200": 1}
    told = dict(seen.span("Marketo POST companies.json").attributes or {})
    assert {name: told[name] for name in ("attempts", "status", "codes", "records")} == {
        "attempts": 3,
        "status": 200,
        "codes": "606",
        "records": 1,
    }


def test_a_skipped_record_is_told_by_its_code(org: Org, seen: Measured) -> None:
    skip = {"fault": "skip", "share": 1, "code": "1003", "message": "zoltana", "on": {"kind": "write"}}
    org.stage.marketo_app.faults.set({"rules": [skip]})

    hand_over(org.stage, Work((org.deal,)))

    span = seen.span("Marketo POST companies.json")
    assert (span.attributes or {})["codes"] == "1003"
    assert "zoltana" not in span.to_json()


def test_a_refused_read_of_dynamics_is_told_by_its_code(org: Org, seen: Measured) -> None:
    org.stage.dataverse.switches["application_user"] = "disabled"

    hand_over(org.stage, Work((org.deal,)))

    span = [each for each in seen.spans if each.name.startswith("Dataverse")][-1]
    assert ((span.attributes or {})["status"], (span.attributes or {})["codes"]) == (403, "0x80040225")


def test_only_what_looks_like_a_code_or_an_id_is_shown(seen: Measured) -> None:
    with telemetry.call("Marketo", "GET", "leads.json"):
        telemetry.sent()
        telemetry.answered(200, "zoltana.quxworthy")
        telemetry.refused(["zoltana@x.invalid", "", "1003"], "Zoltana Quxworthy")

    told = dict(seen.span("Marketo GET leads.json").attributes or {})
    assert ("requestId" in told, told["codes"]) == (False, "1003")


def test_names_of_spans_are_few_whatever_is_asked_about(org: Org, seen: Measured) -> None:
    for number in range(3):
        org.opportunity(f"Deal {number}", account=org.acme, contact=org.ann)
    org.stage.sync()
    before = {each.name for each in seen.spans}

    for number in range(3):
        org.opportunity(f"Another {number}", account=org.bolt, contact=org.bob)
    org.stage.sync()

    assert {each.name for each in seen.spans} <= before | {"Marketo POST companies.json"}


# --- freshness ------------------------------------------------------------------------------------------------------


def ages(org: Org) -> list[float]:
    org.stage.tick()
    return [age for outcome in org.stage.drain() for age in outcome.ages]


def test_freshness_is_from_the_change_to_marketos_answer(org: Org, seen: Measured) -> None:
    org.stage.sync()
    org.update("opportunity", org.deal, name="A new name")
    org.stage.clock.sleep(90)

    assert ages(org) == [90]

    assert [point.max for _, point in seen.points("sync.freshness")] == [90]
    (run,) = [org.stage.world.documents.read("run", Lane.FRESH)]
    assert run is not None
    assert run.value["freshness"] == [90, 90]
    assert (seen.span("delivery").attributes or {})["freshness_p99"] == 90


def test_of_a_new_opportunity_freshness_is_told_and_of_a_first_loads_old_ones_not(org: Org) -> None:
    org.stage.clock.sleep(3 * 86_400)
    org.opportunity("New")
    org.stage.clock.sleep(60)

    assert ages(org) == [60]


def test_what_did_not_change_itself_or_posted_nothing_or_was_slow_has_no_freshness(org: Org) -> None:
    org.stage.sync()

    org.stakeholder(org.ann)
    assert ages(org) == []
    org.update("opportunity", org.deal, stepname="no field is mapped to it")
    assert ages(org) == []
    forced = hand_over(org.stage, Work((org.deal,), force=True))
    assert (forced.counts["opportunities posted"], forced.ages) == (1, [])
    org.update("opportunity", org.deal, name="Another name")
    slow = hand_over(org.stage, Work((org.deal,), lane=Lane.SLOW))
    assert (slow.counts["opportunities posted"], slow.ages) == (1, [])


def test_an_answer_that_refuses_is_no_freshness(org: Org) -> None:
    org.stage.sync()
    org.update("opportunity", org.deal, name="Refused")
    org.stage.marketo_app.faults.set({"rules": [{"fault": "skip", "share": 1, "code": "1003", "message": "no"}]})

    assert ages(org) == []


# --- gauges ---------------------------------------------------------------------------------------------------------


def a_status(**more: Any) -> dict[str, Any]:
    lane = {"messages": 4, "records": None, "records a minute lately": None, "minutes until empty": None}
    return {
        "alerts": [{"name": "poison", "since": "2026-03-02T08:00:00+00:00", "text": "two messages"}],
        "oldest change not in Marketo": {"at": None, "seconds": None},
        "last tick": {"at": "2026-03-02T08:00:00+00:00", "seconds": 61},
        "queues (about)": {"fresh": 4, "slow": 4, "fresh poison": 2, "slow poison": 0, "unreadable": 0},
        "lanes (about)": {"fresh": lane, "slow": {**lane, "records": 7200}},
        "Marketo calls": {"used today": 100, "our share": 25_000, "subscription today": None},
        "not in step": [],
        **more,
    }


def test_a_status_becomes_gauges_and_what_nobody_knows_is_left_out(seen: Measured) -> None:
    telemetry.measure(a_status())

    found = {(name, *attributes.values()): point.value for name, attributes, point in seen.metrics()}
    alerts = {alert: value for (name, *rest), value in found.items() if name == "sync.alert" for alert in rest}
    assert alerts == {name: int(name == "poison") for name in ALERTS}
    assert {key: value for key, value in found.items() if key[0] != "sync.alert"} == {
        ("sync.backlog.messages", "fresh"): 4,
        ("sync.backlog.messages", "slow"): 4,
        ("sync.backlog.records", "slow"): 7200,
        ("sync.poison", "fresh"): 2,
        ("sync.poison", "slow"): 0,
        ("sync.oldest.pending",): 0,
        ("sync.tick.age",): 61,
        ("sync.budget.left",): 24_900,
        ("sync.parked", "all", "others"): 0,
    }


def test_a_look_is_sent_once(seen: Measured) -> None:
    """What an instance said that looks no more is no news: who misses the look must see that it does not come."""
    telemetry.measure(a_status())

    assert seen.points("sync.alert")
    assert seen.metrics() == []


def test_what_a_look_no_longer_finds_is_not_said_again(seen: Measured) -> None:
    parked = {"kind": "opportunity", "state": "parked", "reason": "1003", "count": 1}
    telemetry.measure(a_status(**{"not in step": [parked]}))
    assert len(seen.points("sync.parked")) == 2

    telemetry.measure(a_status())

    assert [attributes["reason"] for attributes, _ in seen.points("sync.parked")] == ["others"]


def test_reasons_without_number_are_few_metrics(seen: Measured) -> None:
    parked = [{"kind": "opportunity", "state": "parked", "reason": f"reason {n}", "count": 100 - n} for n in range(50)]
    waiting = {"kind": "opportunity", "state": "waiting", "reason": "people: 1 not in Marketo", "count": 3}

    telemetry.measure(a_status(**{"not in step": [waiting, *parked]}))

    points = seen.points("sync.parked")
    assert len(points) == telemetry.REASONS + 1
    assert sum(point.value for _, point in points) == sum(each["count"] for each in parked)


# --- the end of an invocation -----------------------------------------------------------------------------------------


class Slow:
    """A provider whose ingestion takes nothing until it is told to."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.asked = 0

    def force_flush(self) -> None:
        self.asked += 1
        self.begun.set()
        self.go_on.wait(30)


def test_an_ingestion_that_does_not_answer_holds_no_invocation_up(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow()
    monkeypatch.setattr(telemetry, "_exporting", True)
    monkeypatch.setattr(telemetry, "_flushing", None)
    monkeypatch.setattr(telemetry, "FLUSH_S", 0.01)
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: slow)

    for _ in range(3):
        with telemetry.invocation(None):
            pass

    assert slow.begun.wait(10)
    assert slow.asked == 1, "the first is still under way"
    slow.go_on.set()
    assert telemetry._flushing is not None
    telemetry._flushing.join(10)


def test_one_provider_that_fails_keeps_no_other_from_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def force_flush(self) -> None:
            raise Unavailable("no ingestion")

    second = Slow()
    second.go_on.set()
    monkeypatch.setattr(telemetry, "_exporting", True)
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", Failing)
    monkeypatch.setattr("opentelemetry.metrics.get_meter_provider", lambda: second)

    telemetry.flush()

    assert second.asked == 1


def test_a_tick_that_has_no_trace_puts_none_into_a_message() -> None:
    assert telemetry.traceparent() == telemetry.trace_id() == ""
    with telemetry.run("tick"), telemetry.delivery(replace(Work((an_id(1),)))):
        assert telemetry.traceparent() == ""
