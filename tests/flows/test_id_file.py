"""Comparing all ids of an organization takes no memory that grows with it (design.md §2.8)."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Collection, Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from sync_core.flows import detect as flow
from sync_core.flows.id_file import IdFile

MANY, PAGE = 60_000, 1_000
MISSING = {7, 31_000, MANY - 1}


def an_id(number: int) -> str:
    return str(UUID(int=random.Random(number).getrandbits(128)))


def pages(without: Collection[int] = ()) -> Iterator[list[str]]:
    for start in range(0, MANY, PAGE):
        yield [an_id(number) for number in range(start, start + PAGE) if number not in without]


def test_tells_what_is_lacking() -> None:
    with IdFile() as ids:
        ids.add([an_id(1), an_id(2), an_id(1)])
        ids.add([])

        assert ids.lacking([an_id(3), an_id(2), an_id(4)]) == [an_id(3), an_id(4)]
        assert ids.lacking([]) == []


def test_a_comparison_keeps_only_what_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    """60,000 ids as integers in a set would be 4 MB and more; a page of a thousand texts is a tenth of one."""
    world: Any = SimpleNamespace(
        clock=SimpleNamespace(monotonic=lambda: 0.0),
        source=SimpleNamespace(ids=lambda table: pages(MISSING)),
        opportunities=SimpleNamespace(ids=pages, counts=lambda: {"in step": MANY}),
    )
    detection, buried = flow._Detection(world, 1.0), list[str]()
    monkeypatch.setattr(detection, "_bury", buried.extend)
    monkeypatch.setattr(flow, "known_records", lambda world: MANY)

    tracemalloc.start()
    try:
        detection._compare()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert buried == [an_id(number) for number in sorted(MISSING)]
    assert peak < 1_000_000
