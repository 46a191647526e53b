"""Which Marketo fields and values a Dataverse row becomes (design.md §8). Pure."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sync_core.errors import ConfigurationError
from sync_core.mapping import Column, Constant, FirstOf, Source
from sync_core.model import MarketoField, Row

Labels = Mapping[tuple[str, int], Mapping[int, str]]
"""Choice labels by (column, LCID)."""

DOCUMENTED_LENGTHS = {"externalCompanyId": 50, "externalOpportunityId": 50}  # marketo.md §3.2, §3.4
DEFAULT_LENGTH = 255  # a string field that describes no length (marketo.md §5.4)
TEXT_BYTES = 30_000  # a text area holds this many bytes of UTF-8 (marketo.md §5.4)
LARGEST = 2**63 - 1
JOINER = "\u200d"  # ties two emoji into one


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
        value = _convert(field, row, source, labels)
        values[name] = _shortened(field, value) if isinstance(value, str) else value
        if values[name] != value:
            if isinstance(source, Column) and source.too_long == "reject":
                unit = "bytes" if field.type == "text" else "characters"
                raise UnfitValueError(f"{name}: the text is longer than the {_length(field)} {unit} that Marketo takes")
            cut.append(name)
    return Mapped(values, tuple(cut))


def _units(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def shorten(text: str, limit: int, size: Callable[[str], int] = _units) -> str:
    """The beginning of *text* that fits, never half an accented letter or emoji, without blanks at its end.

    A character counts as UTF-16 counts it, one or two; nothing public tells whether Marketo does.
    """
    if size(text) <= limit:
        return text.rstrip()
    used, whole, fits = 0, 0, len(text)
    for index, character in enumerate(text):
        if not _continues(text, index):
            whole = index
        used += size(character)
        if used > limit:
            fits = whole or index  # a tower of accents alone is cut through
            break
    return text[:fits].rstrip()


def _continues(text: str, index: int) -> bool:
    """Whether the character belongs to the one before it: accents, variants, skin tones, joined emoji."""
    character = text[index]
    tied = character == JOINER or "\U0001f3fb" <= character <= "\U0001f3ff" or unicodedata.category(character)[0] == "M"
    return index > 0 and (tied or text[index - 1] == JOINER)


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
        values = (_clean(row.get(name)) for name in source.first_of)
        return next((value for value in values if value is not None), None)
    if not isinstance(source, Column):
        raise TypeError(f"{type(source).__name__} is refused when the configuration is read")
    value = _clean(row.get(wire_name(source)))
    if source.equals is not None:
        return value == source.equals
    if source.among is not None:
        return value in source.among
    if source.form == "label" and value is not None:
        value = _clean(labels[source.column, source.language].get(value)) or value
    return _clean(source.default) if value is None else value


def _clean(value: Any) -> Any:
    """Text without blanks around it, or None if nothing is left.

    Dataverse cuts text by UTF-16 units, which can leave half an emoji at the end: no JSON can carry that.
    """
    if not isinstance(value, str):
        return value
    if value.isascii():
        return value.strip() or None
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "ignore").strip() or None


def _length(field: MarketoField) -> int | None:
    """How much text the field takes: characters, in a text area bytes; None for a type that is no text."""
    if field.type == "text":
        return TEXT_BYTES
    if field.type in _CONVERSIONS and field.type not in _LIMITED:
        return None
    length = field.length or DEFAULT_LENGTH
    return min(length, DOCUMENTED_LENGTHS.get(field.name, length))


def _shortened(field: MarketoField, text: str) -> str | None:
    limit = _length(field)
    if limit is None:
        return text
    return shorten(text, limit, _bytes if field.type == "text" else _units) or None


def _bytes(text: str) -> int:
    return len(text.encode())


def _convert(field: MarketoField, row: Row, source: Source, labels: Labels) -> Any:
    """The value of *source* as Marketo takes it (marketo.md §5.4), null for empty text."""
    try:
        value = _clean(_value(row, source, labels))
        convert: Callable[[Any], Any] = _CONVERSIONS.get(field.type, _text)
        return None if value is None else convert(value)
    except (TypeError, ValueError, ArithmeticError):
        raise UnfitValueError(f"{field.name}: the value does not fit Marketo's type {field.type}") from None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else str(_number(value))


def _email(value: Any) -> str:
    text = _text(value)
    if not text.isascii():
        raise ValueError
    return text


def _number(value: Any) -> Any:
    """*value* if it is a finite number; yes and no are none, although Python counts with them."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError
    return value


def _decimal(value: Any) -> Decimal:
    """A number, also one that is written as text, as exact as it is written and of a size that JSON readers bear."""
    number = Decimal(value if isinstance(value, str) else str(_number(value)))
    if abs(number) > LARGEST:  # NaN refuses to be compared
        raise ValueError
    return number


def _integer(value: Any) -> int:
    number = _decimal(value)
    whole = number.to_integral_value()
    if abs(number - whole) > Decimal("0.000001"):  # what binary fractions leave behind
        raise ValueError
    return int(whole)


def _float(value: Any) -> float:
    return float(_decimal(value))


def _money(value: Any) -> float:
    return float(_decimal(value).quantize(Decimal("0.01"), ROUND_HALF_UP)) + 0.0  # no -0.0


def _boolean(value: Any) -> bool:
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise ValueError


def _moment(value: Any) -> datetime:
    if not isinstance(value, str):
        raise TypeError
    return datetime.fromisoformat(value)


def _date(value: Any) -> str:
    return _moment(value).date().isoformat()


def _datetime(value: Any) -> str:
    moment = _moment(value)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


_LIMITED = ("email",)
_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "text": _text,
    "email": _email,
    "integer": _integer,
    "percent": _integer,
    "score": _integer,
    "float": _float,
    "currency": _money,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
}
