"""Numbers, ages, times and values as people read them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from sync_core.rules.words import lasting, numbered

NONE = "–"


def number(value: float | None) -> str:
    return NONE if value is None else f"{value:,}"


def age(seconds: float | None) -> str:
    """`3 minutes`; None is not known."""
    return NONE if seconds is None else lasting(max(0.0, seconds))


def moment(iso: str | datetime | None, *, seconds: bool = False) -> Markup:
    """A time in UTC as `<time>`; None is not known."""
    if not iso:
        return escape(NONE)
    at = (datetime.fromisoformat(iso) if isinstance(iso, str) else iso).astimezone(UTC)
    text = at.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")
    return Markup('<time datetime="{}">{} UTC</time>').format(at.strftime("%Y-%m-%dT%H:%M:%SZ"), text)


def clock(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%H:%M")


def ago(iso: str | None, now: str) -> str:
    """How long before *now*: `3 minutes`."""
    if not iso:
        return NONE
    return age(max(0.0, (datetime.fromisoformat(now) - datetime.fromisoformat(iso)).total_seconds()))


def plain(value: Any) -> str:
    """One value of a record, as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in (None, "", [], ()):
        return NONE
    return ", ".join(map(plain, value)) if isinstance(value, list | tuple) else str(value)


def begun(text: str) -> str:
    """As a sentence begins; the rest stays as it is."""
    return text[:1].upper() + text[1:]


def counts(found: Mapping[str, Any]) -> str:
    """`3 posted, 1 waiting`: the numbers of a run that are not zero."""
    return ", ".join(numbered(value, name) for name, value in found.items() if value and not isinstance(value, bool))
