"""Which Marketo fields and values a Dataverse row becomes (design.md §8). Pure."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sync_core.errors import ConfigurationError
from sync_core.mapping import Column, Constant, FirstOf, Source
from sync_core.model import MarketoField, Row

Labels = Mapping[tuple[str, int], Mapping[int, str]]
"""Choice labels by (column, LCID)."""

DOCUMENTED_LENGTHS = {"externalCompanyId": 50, "externalOpportunityId": 50}  # marketo.md §3.2, §3.4
DEFAULT_LENGTH = 255  # a string field that describes no length (marketo.md §5.4)
TEXT_BYTES = 30_000  # a text area holds this many bytes of UTF-8 (marketo.md §5.4)


class UnfitValueError(Exception):
    """A value that Marketo would refuse; the record is parked with this reason, which never quotes the value."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """Values by Marketo field (null clears), and the fields whose text was cut."""

    values: Mapping[str, Any]
    cut: tuple[str, ...] = ()


def columns(fields: Mapping[str, Source]) -> set[str]:
    """The `$select` names that *fields* read."""
    return {wire_name(column) for source in fields.values() for column in _columns(source)}


def label_columns(fields: Mapping[str, Source]) -> set[tuple[str, int]]:
    """The (column, LCID) pairs whose labels `marketo_fields` will look up."""
    sources = (source for source in fields.values() if isinstance(source, Column))
    return {(source.column, source.language) for source in sources if source.form == "label"}


def wire_name(column: Column | str) -> str:
    """The name in the Web API: money in the base currency has a column of its own (dataverse.md §6.2)."""
    if isinstance(column, str):
        return column
    return f"{column.column}_base" if column.currency == "base" else column.column


def _columns(source: Source) -> Iterator[Column | str]:
    if isinstance(source, Column):
        yield source
    elif isinstance(source, FirstOf):
        yield from source.first_of


def marketo_fields(
    row: Row, fields: Mapping[str, Source], described: Mapping[str, MarketoField], labels: Labels
) -> Mapped:
    """Every mapped field of *row*, in Marketo's types. Raises UnfitValueError for a value that can't be sent."""
    values: dict[str, Any] = {}
    cut: list[str] = []
    for name, source in fields.items():
        field = described[name]
        value = _convert(field, _value(row, source, labels))
        if isinstance(value, str) and (limit := _length(field)) is not None and len(value) > limit:
            if isinstance(source, Column) and source.too_long == "reject":
                raise UnfitValueError(f"{name}: {len(value)} characters, Marketo takes {limit}")
            value = value[:limit].rstrip()
            cut.append(name)
        values[name] = value
    return Mapped(values, tuple(cut))


def check_described(fields: Mapping[str, Source], described: Mapping[str, MarketoField], section: str) -> None:
    """ConfigurationError for mapped fields that Marketo doesn't have or doesn't let anybody write."""
    unknown = sorted(fields.keys() - described.keys())
    fixed = sorted(name for name in fields.keys() & described.keys() if not described[name].updateable)
    if unknown:
        raise ConfigurationError(
            f"sync.toml, [{section}]: Marketo has no field {', '.join(unknown)}. "
            "Take it out, or have Marketo support create it."
        )
    if fixed:
        raise ConfigurationError(f"sync.toml, [{section}]: Marketo lets nobody write {', '.join(fixed)}. Take it out.")


def digests(values: Mapping[str, Any]) -> dict[str, str]:
    """8-byte digest per field, base64url; a null is absent, so that null and never posted are the same."""
    return {name: _digest(value) for name, value in values.items() if value is not None}


def _digest(value: Any) -> str:
    raw = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(hashlib.blake2b(raw, digest_size=8).digest()).decode().rstrip("=")


def _value(row: Row, source: Source, labels: Labels) -> Any:
    if isinstance(source, Constant):
        return source.value
    if isinstance(source, FirstOf):
        return next((row[name] for name in source.first_of if not _empty(row.get(name))), None)
    if not isinstance(source, Column):
        raise TypeError(f"{type(source).__name__} is refused when the configuration is read")
    value = row.get(wire_name(source))
    if source.equals is not None:
        return value == source.equals
    if source.among is not None:
        return value in source.among
    if source.form == "label" and value is not None:
        value = labels[source.column, source.language].get(value, str(value))
    return source.default if _empty(value) else value


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _length(field: MarketoField) -> int | None:
    if field.type not in ("string", "email", "phone", "url"):
        return None
    return min(field.length or DEFAULT_LENGTH, DOCUMENTED_LENGTHS.get(field.name, DEFAULT_LENGTH * 100))


def _convert(field: MarketoField, value: Any) -> Any:
    """*value* as Marketo takes it (marketo.md §5.4), null for empty text."""
    if _empty(value):
        return None
    try:
        return _CONVERSIONS[field.type](value) if field.type in _CONVERSIONS else _text(value)
    except (TypeError, ValueError):
        raise UnfitValueError(f"{field.name}: the value does not fit Marketo's type {field.type}") from None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def _text_area(value: Any) -> str:
    return _text(value).encode()[:TEXT_BYTES].decode(errors="ignore")


def _integer(value: Any) -> int:
    number = round(float(value), 6)
    if number != int(number):
        raise ValueError(value)
    return int(number)


def _money(value: Any) -> float:
    return round(float(value), 2)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise ValueError(value)


def _date(value: Any) -> str:
    return datetime.fromisoformat(str(value)).date().isoformat()


def _datetime(value: Any) -> str:
    moment = datetime.fromisoformat(str(value))
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "text": _text_area,
    "integer": _integer,
    "percent": _integer,
    "score": _integer,
    "float": float,
    "currency": _money,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
}
