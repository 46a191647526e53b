"""Batches against Marketo's two limits, and against what the client really sends."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sync_core.rules.batches import MAX_BYTES, MAX_RECORDS, batches, encode

long = st.characters(codec="utf-8").map(lambda character: character * 180_000)  # one drawn, so that drawing is quick
texts = st.one_of(st.text(max_size=20), long)
records = st.lists(st.fixed_dictionaries({"externalOpportunityId": st.text(max_size=8), "name": texts}), max_size=30)


def body(batch: list[Any]) -> bytes:
    return encode({"action": "createOrUpdate", "input": batch})


@given(records)
def test_batches_hold_all_records_in_order_and_stay_below_both_limits(found: list[dict[str, str]]) -> None:
    cut = list(batches(found))

    assert [record for batch in cut for record in batch] == found
    assert all(batch for batch in cut)
    assert all(len(body(batch)) < MAX_BYTES or len(batch) == 1 for batch in cut)


@given(st.integers(0, 1_000))
def test_small_records_fill_the_calls(count: int) -> None:
    sizes = [len(batch) for batch in batches({"leadId": number} for number in range(count))]

    assert sum(sizes) == count
    assert all(size == MAX_RECORDS for size in sizes[:-1])


def test_the_size_counts_bytes_not_characters() -> None:
    found = [{"name": "ü" * 300_000}, {"name": "ü" * 300_000}]

    assert len(list(batches(found))) == 2


def test_a_record_that_is_too_large_comes_alone() -> None:
    found = [{"name": "a"}, {"name": "b" * MAX_BYTES}, {"name": "c"}]

    assert [len(batch) for batch in batches(found)] == [1, 1, 1]


def test_half_a_surrogate_pair_spoils_nothing() -> None:
    assert json.loads(encode({"name": "a\ud800b"})) == {"name": "a?b"}
