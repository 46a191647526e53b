"""How many messages waited, as a line: points in time to the path of an SVG. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

GAP = timedelta(minutes=12)  # longer than this without a point, and nobody knows what was between

Point = tuple[datetime, int]


@dataclass(frozen=True, slots=True)
class Chart:
    """`path` is the `d` of a `<path>` within *width* × *height*; `most` stands at its top, 0 at its bottom."""

    path: str
    width: int
    height: int
    begin: datetime
    end: datetime
    now: int
    most: int
    most_at: datetime
    gaps: int


def chart(points: Sequence[Point], *, width: int = 600, height: int = 120, margin: int = 3) -> Chart | None:
    """The line through *points*, earliest first; broken where none is for long. None without a point."""
    if not points:
        return None
    begin, end = points[0][0], points[-1][0]
    seconds = max(1.0, (end - begin).total_seconds())
    most, most_at = max(((number, at) for at, number in points), key=lambda each: each[0])
    pieces: list[str] = []
    gaps = 0
    before: datetime | None = None
    for at, number in points:
        x = margin + (at - begin).total_seconds() / seconds * (width - 2 * margin)
        y = height - margin - number / max(1, most) * (height - 2 * margin)
        joined = before is not None and at - before <= GAP
        gaps += before is not None and not joined
        # `h0` makes a point of a piece that has only one: with round ends it is drawn.
        pieces.append(f"L{x:.1f} {y:.1f}" if joined else f"M{x:.1f} {y:.1f}h0")
        before = at
    return Chart("".join(pieces), width, height, begin, end, points[-1][1], most, most_at, gaps)
