"""A line through points in time: within its frame, broken where nothing is known."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sync_core.web.chart import GAP, chart

BEGIN = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
FIVE = timedelta(minutes=5)


def test_nothing_is_no_line() -> None:
    assert chart([]) is None


def test_one_point_is_a_dot() -> None:
    found = chart([(BEGIN, 0)], width=100, height=50)

    assert found is not None
    assert found.path == "M3.0 47.0h0"
    assert (found.begin, found.end, found.now, found.most, found.gaps) == (BEGIN, BEGIN, 0, 0, 0)


def test_the_most_is_at_the_top_and_nothing_at_the_bottom() -> None:
    found = chart([(BEGIN, 0), (BEGIN + FIVE, 8), (BEGIN + 2 * FIVE, 4)], width=106, height=56)

    assert found is not None
    assert found.path == "M3.0 53.0h0L53.0 3.0L103.0 28.0"
    assert (found.now, found.most, found.most_at) == (4, 8, BEGIN + FIVE)


def test_the_line_is_broken_where_nobody_looked() -> None:
    found = chart([(BEGIN, 1), (BEGIN + GAP, 1), (BEGIN + 3 * GAP, 1), (BEGIN + 4 * GAP, 1)])

    assert found is not None
    assert found.gaps == 1
    assert re.sub(r"[\d. ]", "", found.path) == "MhLMhL"


@given(
    st.lists(st.tuples(st.integers(0, 1440), st.integers(0, 10**9)), min_size=1, max_size=300, unique_by=lambda e: e[0])
)
def test_every_point_lies_within_the_frame(found: list[tuple[int, int]]) -> None:
    points = [(BEGIN + timedelta(minutes=at), number) for at, number in sorted(found)]

    drawn = chart(points)

    assert drawn is not None
    places = re.findall(r"[ML]([\d.]+) ([\d.]+)", drawn.path)
    assert len(places) == len(points)
    assert all(0 <= float(x) <= drawn.width and 0 <= float(y) <= drawn.height for x, y in places)
    assert [float(x) for x, _ in places] == sorted(float(x) for x, _ in places)
