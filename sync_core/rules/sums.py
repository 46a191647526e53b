"""Counts and sums of amount for each stage and month, of both sides. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

NOTHING = "-"
SIDES = ("Dynamics", "Marketo")

Sums = dict[str, dict[str, list[Any]]]
"""By `stage|month of closeDate` (`-`: none) and side `[count, sum of amount as a decimal text]`."""

GROUPED = ("stage", "closeDate", "amount")
"""The Marketo fields that decide; what is not mapped counts as nothing."""


def add(sums: Sums, side: str, values: Mapping[str, Any]) -> None:
    """One opportunity more, with its values as Marketo's fields."""
    month = str(values.get("closeDate") or "")[:7] or NOTHING
    group = sums.setdefault(f"{values.get('stage') or NOTHING}|{month}", {each: [0, "0"] for each in SIDES})
    count, total = group[side]
    group[side] = [count + 1, str(Decimal(total) + _number(values.get("amount")))]


def lines(sums: Sums) -> list[dict[str, Any]]:
    """In order of stage and month: `{"stage", "month", "Dynamics": {"count", "amount"}, "Marketo": the same}`."""
    found = []
    for key, sides in sorted(sums.items()):
        stage, _, month = key.rpartition("|")
        told = {side: {"count": count, "amount": float(Decimal(total))} for side, (count, total) in sides.items()}
        found.append({"stage": stage, "month": month, **told})
    return found


def _number(value: Any) -> Decimal:
    return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else Decimal(0)
