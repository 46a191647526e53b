"""What others send us is bounded: queue messages of any kind, pages of any size, answers that never end.

`tests/test_messages.py` has what `decode` refuses and why; here whole deliveries are given what nobody expects.
"""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from werkzeug.wrappers import Request, Response

from sync_core.adapters.transport import Transport
from sync_core.adapters.work_queue import _envelope
from sync_core.errors import SyncError
from sync_core.messages import MAX_BYTES, MAX_IDS, decode, encode
from sync_core.model import Lane, Work
from tests.fakes import FakeClock
from tests.security.mischief import dataverse_error, marketo_error
from tests.stage import Stage
from tests.test_messages import RESERVED, a_message, many
from tools.emulators.serving import serving

MEGABYTE = 1 << 20
MOST = 64 * MEGABYTE
"""More memory than this for one answer is more than a function app can spare for each of its threads."""

stage = Stage()
stage.tick()


# --- queue messages ---------------------------------------------------------------------------------------------

nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
anything = st.text(st.characters()) | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
almost_ours = st.builds(
    lambda name, value: a_message(**{name: value}),
    st.sampled_from([*json.loads(encode(Work())), *RESERVED, "extra"]),
    nested,
)
bodies = anything | nested.map(json.dumps) | almost_ours


@settings(max_examples=300)
@given(body=bodies, count=st.integers(1, 6))
@example(body="\ud800\udfff\x00\ufffe" * 500, count=1)
@example(body="[" * 60_000, count=1)
@example(body='{"a":' * 9_000, count=1)
@example(body="9" * 47_000, count=1)
@example(body='{"v":1e999}', count=1)
@example(body='{"v":NaN}', count=1)
@example(body="\N{SNOWMAN}" * 60_000, count=5)
@example(body="x" * (10 << 20), count=2)
@example(body=a_message(why="x" * 61_440), count=1)
@example(body=a_message(opportunities=["AAAAAAAAQACAAAAAAAAAAQ"] * (MAX_IDS + 1)), count=1)
@example(body=a_message(users=None), count=1)
@example(body=a_message(seen="9999-99-99T00:00:00Z"), count=1)
@example(body=a_message(seen="0001-01-01T00:00:00+23:59"), count=1)
@example(body='{"v":1,"v":2}', count=1)
def test_a_message_that_is_not_ours_is_set_aside_and_nothing_else_happens(body: str, count: int) -> None:
    """Whatever it is, the delivery ends, Marketo isn't called, and what is kept fits into a queue."""
    before, kept = stage.marketo.journal.since(0), stage.world.queue.lengths()
    ends = stage.clock.now() + timedelta(minutes=10)

    outcome = stage.engine.deliver(body, dequeue_count=count, lease_ends=ends, lane=Lane.FRESH)

    if outcome is not None:
        decode(body)  # one of ours after all, by chance; that it ended is enough
        return
    envelope = json.loads(stage.world.queue.queues["unreadable"][-1].body)
    assert len(envelope["reason"]) < 200
    assert len(_envelope(body, envelope["reason"]).encode()) <= MAX_BYTES, "the real queue's, of the whole body"
    assert stage.world.queue.lengths() == {**kept, "unreadable": kept["unreadable"] + 1}
    assert stage.marketo.journal.since(0) == before


def test_a_full_message_of_ours_is_no_foreign_one() -> None:
    kept = stage.world.queue.lengths()["unreadable"]
    ends = stage.clock.now() + timedelta(minutes=10)
    body = encode(Work(opportunities=many(MAX_IDS)))

    assert stage.engine.deliver(body, dequeue_count=1, lease_ends=ends, lane=Lane.FRESH) is not None
    assert stage.world.queue.lengths()["unreadable"] == kept


# --- answers ----------------------------------------------------------------------------------------------------


HUGE = "Lorem ipsum dolor " * (2 * MEGABYTE // 18)


@pytest.mark.parametrize("status", [200, 400, 403, 500])
@pytest.mark.parametrize("where", ["page", "message", "code"])
def test_megabytes_of_error_make_a_short_text(status: int, where: str) -> None:
    here = Stage()
    content = {
        "page": f"<html>{HUGE}</html>",
        "message": json.dumps(dataverse_error("0x80040203")(HUGE)),
        "code": json.dumps(dataverse_error(HUGE)("short")),
    }[where]
    here.dataverse_app.interceptors.append(lambda request: Response(content, status))

    with pytest.raises(SyncError) as error:
        here.tick()

    assert len(str(error.value)) < 600
    assert len(repr(here.world.documents.read("run", "detect"))) < 1_000


@pytest.mark.parametrize("where", ["message", "code", "reason"])
def test_megabytes_from_marketo_make_a_short_text(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Stage()
    here.edit("create", table="opportunity", values={"name": "Deal"})
    here.tick()
    content: Any = {"message": marketo_error("611")(HUGE), "code": marketo_error(HUGE)("short")}.get(where)
    if where == "reason":
        reasons = [{"code": HUGE, "message": HUGE}]
        skipped = [{"seq": 0, "status": "skipped", "reasons": reasons}]
        content = {"requestId": "1#2", "success": True, "result": skipped}
    real = here.marketo_app._service
    monkeypatch.setattr(
        here.marketo_app,
        "_service",
        lambda exchange: (
            Response(json.dumps(content), content_type="application/json")
            if exchange.entry.kind == "write"
            else real(exchange)
        ),
    )

    outcomes = here.drain()

    assert outcomes
    assert all(len(str(outcome.trouble)) < 600 for outcome in outcomes)
    assert all(len(row.reason) < 300 for row in here.world.opportunities.content.values())


@pytest.mark.parametrize("status", [200, 502])
@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_that_never_ends_does_not_fill_the_memory(status: int, packed: bool, tmp_path, monkeypatch) -> None:
    """Of an error a few kilobytes are worth reading; of a good answer what one page may have at most."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    block = b" " * MEGABYTE
    most = 3 * MOST // MEGABYTE  # the test has an end in any case

    def endless() -> Iterator[bytes]:
        packer = gzip.compress(block * 16) if packed else block
        for _ in range(most // (16 if packed else 1)):
            yield packer

    @Request.application
    def app(_: Request) -> Response:
        headers = {"Content-Encoding": "gzip"} if packed else {}
        return Response(endless(), status, headers, content_type="application/json")

    transport = Transport("Service", FakeClock(), random=lambda: 0.5)
    tracemalloc.start()
    try:
        with serving(app, folder=tmp_path) as url, suppress(SyncError):
            transport.send("GET", url, read_timeout=30)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < MOST + 40 * MEGABYTE, f"{peak / MEGABYTE:.0f} MB"


def test_the_request_id_of_a_service_is_cut() -> None:
    here = Stage()
    headers = {"x-ms-service-request-id": "x" * 60_000}
    here.dataverse_app.interceptors.append(lambda request: Response("", 500, headers))

    with pytest.raises(SyncError) as error:
        here.tick()

    assert len(str(error.value)) < 600
