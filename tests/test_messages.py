"""The queue message comes back as it was written, and nothing else is taken for one."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_core.errors import NewerVersion, NotOurs
from sync_core.messages import FULL, MAX_BYTES, MAX_IDS, decode, encode, split
from sync_core.model import Lane, Work

RESERVED = {
    *("id", "dequeueCount", "insertionTime", "expirationTime", "nextVisibleTime", "popReceipt"),
    *("queueTrigger", "sys"),
}  # names the host would overwrite its own metadata with (azure.md §0.4)
ONE = "00000000-0000-4000-8000-000000000001"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

ids = st.lists(st.uuids().map(str), max_size=30, unique=True).map(tuple)
works = st.builds(
    Work,
    opportunities=ids,
    accounts=ids,
    lane=st.sampled_from(Lane),
    force=st.booleans(),
    why=st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    seen=st.sampled_from(["", "2026-05-04T12:00:00Z", "2026-05-04T12:00:00.123456+00:00"]),
    traceparent=st.sampled_from(["", TRACE]),
    postponed=st.integers(0, 2**31 - 1),
)


def many(number: int) -> tuple[str, ...]:
    return tuple(str(UUID(int=index)) for index in range(number))


def a_message(**fields: Any) -> str:
    return json.dumps(json.loads(encode(Work(opportunities=(ONE,)))) | fields, separators=(",", ":"))


@given(works)
def test_comes_back_as_it_was(work: Work) -> None:
    assert decode(encode(work)) == work


@given(works)
def test_uses_no_name_of_the_host(work: Work) -> None:
    assert not RESERVED & json.loads(encode(work)).keys()


def test_writes_what_the_design_says() -> None:
    body = json.loads(encode(Work(opportunities=(ONE,), accounts=(ONE,), seen="2026-05-04T12:00:00Z")))

    assert body == {
        "v": 1,
        "lane": "fresh",
        "opportunities": ["AAAAAAAAQACAAAAAAAAAAQ"],
        "accounts": ["AAAAAAAAQACAAAAAAAAAAQ"],
        "force": False,
        "why": "delta",
        "seen": "2026-05-04T12:00:00Z",
        "traceparent": "",
        "postponed": 0,
    }


def test_writes_each_id_once_in_lower_case() -> None:
    shouted = "0000000A-0000-4000-8000-00000000000B"

    assert decode(encode(Work(opportunities=(shouted, shouted.lower(), shouted)))).opportunities == (shouted.lower(),)


def test_the_largest_message_fits() -> None:
    full = Work(opportunities=many(MAX_IDS), why="w" * 200, seen="2026-05-04T12:00:00.123456+00:00", traceparent=TRACE)

    assert len(encode(full)) <= MAX_BYTES
    assert decode(encode(full)) == full


@pytest.mark.parametrize(
    "work",
    [
        Work(opportunities=many(MAX_IDS), accounts=(ONE,)),
        Work(why="w" * 201),
        Work(seen="yesterday"),
        Work(seen="2026-05-04T12:00:00"),
        Work(seen="2026-05-04T12:00:00+02:00"),
        Work(traceparent="trace"),
        Work(postponed=-1),
        Work(opportunities=("{not an id}",)),
    ],
)
def test_writes_nothing_it_would_refuse(work: Work) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - two causes, one outcome
        encode(work)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "not JSON"),
        ("secret", "not JSON"),
        ("[" * 30_000, "not JSON"),
        ("[]", "not a JSON object"),
        ('"secret"', "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", "field v is not 1"),
        (a_message(v=0), "field v is not 1"),
        (a_message(v="1"), "field v is not 1"),
        (a_message(v=True), "field v is not 1"),
        ('{"v":1}', "missing fields: accounts, force, lane, opportunities, postponed, seen, traceparent, why"),
        (a_message(secret=1), "unknown fields"),
        (a_message(lane="secret"), "field lane is not as we write it"),
        (a_message(lane=1), "field lane is not as we write it"),
        (a_message(opportunities="secret"), "field opportunities is not as we write it"),
        (a_message(opportunities=[1]), "field opportunities is not as we write it"),
        (a_message(opportunities=["secret"]), "field opportunities is not as we write it"),
        (a_message(opportunities=[ONE]), "field opportunities is not as we write it"),
        (a_message(opportunities=["AAAAAAAAQACAAAAAAAAAA!"]), "field opportunities is not as we write it"),
        (a_message(accounts=["AAAAAAAAQACAAAAAAAAAAR"]), "field accounts is not as we write it"),
        (a_message(accounts=None), "field accounts is not as we write it"),
        (a_message(accounts=["A"] * (MAX_IDS + 1)), "field accounts is not as we write it"),
        (a_message(force=1), "field force is not as we write it"),
        (a_message(why=None), "field why is not as we write it"),
        (a_message(why="s" * 201), "field why is not as we write it"),
        (a_message(seen="secret"), "field seen is not as we write it"),
        (a_message(seen=5), "field seen is not as we write it"),
        (a_message(seen="2026-05-04T12:00:00"), "field seen is not as we write it"),
        (a_message(traceparent="secret"), "field traceparent is not as we write it"),
        (a_message(postponed=True), "field postponed is not as we write it"),
        (a_message(postponed=1.5), "field postponed is not as we write it"),
        (a_message(postponed=-1), "field postponed is not as we write it"),
        (a_message(postponed=2**31), "field postponed is not as we write it"),
        (a_message(why="s" * MAX_BYTES), f"longer than {MAX_BYTES} bytes"),
        ("é" * (MAX_BYTES // 2 + 1), f"longer than {MAX_BYTES} bytes"),
        (a_message(accounts=json.loads(encode(Work(accounts=many(MAX_IDS))))["accounts"]), f"more than {MAX_IDS} ids"),
    ],
)
def test_refuses_what_it_did_not_write(body: str, reason: str) -> None:
    with pytest.raises(NotOurs) as caught:
        decode(body)

    assert str(caught.value) == reason


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda e: st.lists(e) | st.dictionaries(st.text(), e)
    )
)
def test_any_other_json_is_refused(value: Any) -> None:
    with pytest.raises(NotOurs):
        decode(json.dumps(value))


@given(
    st.sampled_from(["v", *json.loads(encode(Work()))]), st.none() | st.integers(2) | st.floats() | st.text(max_size=3)
)
def test_any_other_value_of_a_field_is_refused_or_taken_as_it_is(name: str, value: Any) -> None:
    try:
        work = decode(a_message(**{name: value}))
    except (NotOurs, NewerVersion):
        return
    assert getattr(work, name) == value


def test_a_message_of_a_newer_version_is_told_from_what_is_not_ours() -> None:
    with pytest.raises(NewerVersion, match="2, not 1"):
        decode(a_message(v=2, something="new"))


def test_keeps_what_fits_into_one_message() -> None:
    work = Work(opportunities=many(MAX_IDS))

    assert split(work) == [work]


def test_without_ids_there_is_nothing_to_send() -> None:
    assert split(Work()) == []


@pytest.mark.parametrize(("opportunities", "accounts"), [(1_901, 0), (1_000, 901), (0, 4_000), (3_700, 3_700)])
def test_cuts_a_backlog_into_full_messages(opportunities: int, accounts: int) -> None:
    work = Work(many(opportunities), many(accounts), Lane.SLOW, force=True, why="backfill", postponed=2)

    parts = split(work)

    assert {part.size for part in parts[:-1]} == {FULL}
    assert FULL % 300 == 0
    assert sum((part.opportunities for part in parts), ()) == work.opportunities
    assert sum((part.accounts for part in parts), ()) == work.accounts
    assert {(part.lane, part.force, part.why, part.postponed) for part in parts} == {(Lane.SLOW, True, "backfill", 2)}
