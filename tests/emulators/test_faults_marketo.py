"""Marketo's own faults: codes by number and skipped records; and what the journal lets a test compute."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.emulators.marketo_caller import LEADS, OPPORTUNITIES, USAGE, Api, code
from tools.emulators.marketo.codes import PAGES, TEXTS
from tools.emulators.marketo.faults import CATALOGUE

ENVELOPE = [code for code in TEXTS if code not in PAGES]


@pytest.fixture
def api() -> Api:
    return Api()


# Codes


@pytest.mark.parametrize("number", ENVELOPE)
def test_a_code_is_answered_with_its_text_and_nothing_is_done(api: Api, number: str) -> None:
    api.plan(number)
    answer = api.write("A")

    assert answer["errors"] == [{"code": number, "message": TEXTS[number]}]
    assert api.names() == []
    assert (api.entry.codes, api.entry.executed, api.entry.fault, api.entry.kind) == ([number], False, number, "write")
    assert api.state.usage.errors[api.state.usage.today()][number] == 1


def test_a_code_may_have_another_text(api: Api) -> None:
    api.plan("611", message="Failed to sync opportunity")

    assert api.get()["errors"] == [{"code": "611", "message": "Failed to sync opportunity"}]


@pytest.mark.parametrize("number", ["601", "602"])
def test_a_token_that_died_stays_dead_and_a_new_one_is_given(api: Api, number: str) -> None:
    old = api.token
    api.plan(number, times=1)

    assert [code(api.get()), code(api.get())] == [number, "601"]
    api.sign_in()
    assert api.token != old
    assert api.get()["success"] is True


@pytest.mark.parametrize("number", ["606", "607", "615"])
@pytest.mark.parametrize("counted", [True, False])
def test_a_refusal_for_lack_of_room_counts_as_the_switch_says(api: Api, number: str, counted: bool) -> None:
    """U15."""
    api.state.switches.set({"refused_calls_count": counted})
    api.plan(number)
    api.get()

    assert api.state.usage.used() == int(counted)
    assert api.state.gate.in_flight == 0


@pytest.mark.parametrize("status", PAGES)
def test_the_gateway_refuses_what_is_too_large_with_a_page(api: Api, status: str) -> None:
    api.plan(status)
    response = api.post(OPPORTUNITIES, {"externalOpportunityId": "A"})

    assert (response.status_code, response.mimetype) == (int(status), "text/html")
    assert TEXTS[status] in response.text
    assert api.names() == []


@pytest.mark.parametrize("handled", [False, True])
def test_a_gateway_may_give_up_before_or_after_the_write(api: Api, handled: bool) -> None:
    api.plan("html", status=504, handled=handled)

    assert api.post(OPPORTUNITIES, {"externalOpportunityId": "A"}).status_code == 504
    assert api.names() == (["A"] if handled else [])
    assert (api.entry.executed, api.entry.status) == (handled, 504)


# Skipped records


@pytest.mark.parametrize(("share", "count"), [(0.25, 2), (0.01, 1), (1.0, 8)])
def test_a_share_of_the_records_is_skipped_and_the_rest_written(api: Api, share: float, count: int) -> None:
    api.plan("skip", share=share, code="1022", message="in use")
    names = list("ABCDEFGH")
    items = api.write(*names)["result"]
    skipped = [name for name, item in zip(names, items, strict=True) if item["status"] == "skipped"]

    assert [item["seq"] for item in items] == list(range(8))
    assert len(skipped) == count
    assert api.names() == [name for name in names if name not in skipped]
    assert {str(item.get("reasons")) for item in items if item["status"] == "skipped"} == {
        "[{'code': '1022', 'message': 'in use'}]"
    }
    assert api.entry.statuses == {"skipped": count, **({"created": 8 - count} if count < 8 else {})}


def test_the_same_seed_skips_the_same_records() -> None:
    def skipped() -> list[int]:
        api = Api()
        api.plan("skip")
        return [
            item["seq"] for item in api.write(*"ABCDEFGH")["result"] + api.write(*"ABCDEFGH")["result"]
            if item["status"] == "skipped"
        ]  # fmt: skip

    assert skipped() == skipped()


def test_skipped_people_have_no_number(api: Api) -> None:
    api.plan("skip", share=1)
    items = api.post(LEADS, {"email": "a@example.test"}).json["result"]

    assert items == [{"status": "skipped", "reasons": [{"code": "1003", "message": "Invalid data"}]}]
    assert api.state.rows("leads") == []


# The journal


def test_a_slow_call_moves_the_frozen_clock_and_is_seen_to_take_its_time(api: Api) -> None:
    api.plan("slow", seconds=90)
    assert api.write("A")["success"] is True

    assert (api.entry.end - api.entry.time, api.entry.executed) == (90, True)


def test_who_tests_may_wait_in_another_way(api: Api) -> None:
    waited = []
    api.app.sleep = waited.append
    api.plan("slow", seconds=90)
    api.get()

    assert waited == [90]


def test_the_journal_tells_how_many_calls_there_were_at_a_time() -> None:
    api = Api(frozen=False, start=None)
    api.plan("slow", seconds=0.5)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: api.get(), range(3)))
    calls = [call for call in api.state.journal.since(0) if call["kind"] == "usage"]

    assert sorted(call["in_flight"] for call in calls) == [1, 2, 3]
    assert min(call["end"] for call in calls) > max(call["time"] for call in calls)
    assert api.state.journal.summary()["max_in_window"] == 3


def test_every_kind_of_call_is_in_the_journal_whatever_became_of_it(api: Api) -> None:
    api.state.journal.clear()
    for fault, path in (("reset", USAGE), ("html", LEADS), ("606", OPPORTUNITIES), ("empty", LEADS)):
        api.plan(fault)
        with suppress(ConnectionResetError, ValueError):
            api.get(path)
    calls = api.state.journal.since(0)

    assert [call["kind"] for call in calls] == ["usage", "read", "read", "read"]
    assert [call["fault"] for call in calls] == ["reset", "html", "606", "empty"]
    assert all(call["end"] is not None and call["in_flight"] == 1 for call in calls)
    assert api.state.journal.summary()["total"] == 4


def test_every_fault_is_tried_here_or_on_the_wire() -> None:
    wire = {"slow", "reset", "reset_mid_body", "html", "status", "truncated", "empty"}
    here = {"lost", "lost_604", "late", "late_604", "skip", *TEXTS}

    assert set(CATALOGUE) == wire | here
