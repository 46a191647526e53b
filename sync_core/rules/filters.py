"""Which records count: the conditions of `only` and `[[filter.rule]]` (design.md §8). Pure."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sync_core.mapping import PERIOD, Place, Rule
from sync_core.rules.sources import matches

SIDES = ("account", "contact")
FILTER, ONLY = ("filter", "rule"), ("company", "only")  # where rules stand in the mapping
DATE_ONLY = len("2026-01-31")
BEGINNING = datetime.min.replace(tzinfo=UTC)


def sides(rules: Sequence[Rule], *where: str) -> dict[str, dict[Place, str]]:
    """The columns that *rules* read, each with its place in the mapping, where the rules stand at *where*.

    By whose they are: `""` the record's own, `account`, `contact`.
    """
    found: dict[str, dict[Place, str]] = {"": {}, "account": {}, "contact": {}}
    for number, rule in enumerate(rules):
        side, column = side_of(rule)
        found[side][(*where, number, "column")] = column
    return found


def side_of(rule: Rule) -> tuple[str, str]:
    """Whose column *rule* is about, as `sides` names them, and how it is called there."""
    side, _, column = rule.column.rpartition(".")
    return (side, column) if side in SIDES else ("", rule.column)


def outside(rules: Sequence[Rule], rows: Mapping[str, Mapping[str, Any] | None], now: datetime) -> str:
    """The first rule that does not hold, in words; '' if all do. *rows* as `sides` names them; None: there is none."""
    for rule in rules:
        side, column = side_of(rule)
        if not holds(rule, (rows.get(side) or {}).get(column), now):
            return f"outside the filter: {rule.column}"
    return ""


def holds(rule: Rule, value: Any, now: datetime) -> bool:
    """Every condition of *rule* about *value*; nothing is a value of its own: it is in no list and before any time."""
    if rule.null is not None and (value is None) is not rule.null:
        return False
    if rule.among is not None and not any(matches(value, one) for one in rule.among):
        return False
    if rule.not_in is not None and any(matches(value, one) for one in rule.not_in):
        return False
    if rule.equals is not None and not matches(value, rule.equals):
        return False
    return rule.since is None or _is_since(value, since(rule.since, now))


def _is_since(value: Any, begin: datetime) -> bool:
    """A date without a time counts from its first moment; what is no time is before any."""
    moment = _moment(value)
    if moment is None:
        return False
    return moment.date() >= begin.date() if len(str(value)) == DATE_ONLY else moment >= begin


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def since(text: str, now: datetime) -> datetime:
    """`P24M` (years, months, weeks, days back from *now*) or a date."""
    period = re.fullmatch(PERIOD, text)
    if period is None:
        return _moment(text) or BEGINNING
    years, months, weeks, days = (int(part or 0) for part in period.groups())
    month = now.year * 12 + now.month - 1 - years * 12 - months
    year, index = divmod(month, 12)
    try:
        day = min(now.day, monthrange(year, index + 1)[1])
        return now.replace(year=year, month=index + 1, day=day) - timedelta(weeks=weeks, days=days)
    except (ValueError, OverflowError):  # before the calendar begins
        return BEGINNING
