"""Which Marketo fields and values a Dataverse row becomes (design.md §8). Pure."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sync_core.mapping import Column, Constant, Product, Source
from sync_core.model import MarketoField, Rate, Row
from sync_core.rules.sources import Knowledge, clean, unfit, value_of

DEFAULT_LENGTH = 255  # a string field that describes no length (marketo.md §5.4)
TEXT_BYTES = 30_000  # a text area holds this many bytes of UTF-8 (marketo.md §5.4)
LARGEST = 2**63 - 1
NO_FIELD = "Marketo has no such field: take it out, or have Marketo support create it"
FLAG_LETTERS = "".join(map(chr, range(0x1F1E6, 0x1F200)))  # two of them are a flag
VIRAMA = 9  # the combining class of what ties two letters of Indian scripts
TIED = re.compile(
    "\r\n|\u200d."
    "|.[\u200c\u200d\u0e33\u0eb3\uff9e\uff9f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"  # skin tones, other flags
    "|[\u1100-\u115f\ua960-\ua97c][\u1100-\u11a7\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7c6]"  # Korean: it begins,
    "|[\u1160-\u11ff\uac00-\ud7a3\ud7b0-\ud7fb][\u1160-\u11ff\ud7b0-\ud7fb]",  # and goes on
    re.DOTALL,
)
"""Two characters that are one for whoever reads them."""


class UnfitValueError(Exception):
    """A value that Marketo would refuse; the record is parked with this reason, which never quotes the value."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """Values by Marketo field (null clears), and the fields whose text was cut."""

    values: Mapping[str, Any]
    cut: tuple[str, ...] = ()


def usable(
    fields: Mapping[str, Source],
    described: Mapping[str, MarketoField],
    kinds: Mapping[str, str],
    currencies: Mapping[str, Rate] | None = None,
) -> tuple[dict[str, Source], dict[str, str]]:
    """The fields that can be filled now, and why the others can't: those are left alone in Marketo until they can.

    *kinds* is the AttributeType of every column that is there, dotted ones one hop away included; *currencies* are
    those of the organization by their codes (None: not asked).
    """
    suspended: dict[str, str] = {}
    for name, source in fields.items():
        field = described.get(name)
        if field is None:
            suspended[name] = NO_FIELD
        elif not field.updateable:
            suspended[name] = "Marketo lets nobody write it: take it out"
        elif why := unfit(source, kinds, field.type, currencies) or _unfit_constant(source, field):
            suspended[name] = why
    while more := {name: f"it multiplies {bad}" for name, bad in _without_factor(fields, suspended)}:
        suspended |= more
    return {name: source for name, source in fields.items() if name not in suspended}, suspended


def _unfit_constant(source: Source, field: MarketoField) -> str:
    """Why a value that stands in the mapping itself can't be sent: every record would be refused for it."""
    value = source.value if isinstance(source, Constant) else source.default if isinstance(source, Column) else None
    try:
        if value is not None:
            convert: Callable[[Any], Any] = _CONVERSIONS.get(field.type, _text)
            convert(clean(value))
    except (TypeError, ValueError, ArithmeticError):
        return f"{value!r} in the mapping doesn't fit Marketo's type {field.type}"
    return ""


def _without_factor(fields: Mapping[str, Source], suspended: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, source in fields.items():
        if isinstance(source, Product) and name not in suspended:
            factors = (factor.removesuffix("%") for factor in source.product)
            yield from ((name, factor) for factor in factors if factor in suspended or factor not in fields)


def marketo_fields(
    row: Row, fields: Mapping[str, Source], described: Mapping[str, MarketoField], known: Knowledge
) -> Mapped:
    """Every mapped field of *row*, in Marketo's types. Raises UnfitValueError for a value that can't be sent."""
    values: dict[str, Any] = {}
    cut: list[str] = []
    for name, source in fields.items():
        field = described[name]
        value = _convert(field, row, fields, known)
        values[name] = _shortened(field, value) if isinstance(value, str) else value
        if values[name] != value:
            if isinstance(source, Column) and source.too_long == "reject":
                unit = "bytes" if field.type == "text" else "characters"
                raise UnfitValueError(f"{name}: the text is longer than the {length(field)} {unit} that Marketo takes")
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
    used, end = size(text[0]), 0
    while used <= limit:
        end += 1
        used += size(text[end])
    start = end
    while start and _continues(text, start):
        start -= 1
    return text[: start or end].rstrip()  # a tower of accents alone is cut through


def _continues(text: str, index: int) -> bool:
    """Whether the character belongs to the one before it: accents, joined emoji, flags, letters of a Korean syllable.

    It does within Unicode's grapheme clusters (UAX 29), and here and there beyond: then the cut comes earlier.
    """
    before, character = text[index - 1], text[index]
    if character in FLAG_LETTERS:
        return (index - len(text[:index].rstrip(FLAG_LETTERS))) % 2 == 1
    accent = unicodedata.category(character)[0] == "M" or unicodedata.combining(before) == VIRAMA
    return accent or TIED.match(before + character) is not None


def digests(values: Mapping[str, Any]) -> dict[str, str]:
    """8-byte digest per field, base64url; a null is absent, so that null and never posted are the same."""
    return {name: _digest(value) for name, value in values.items() if value is not None}


def _digest(value: Any) -> str:
    raw = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(hashlib.blake2b(raw, digest_size=8).digest()).decode().rstrip("=")


def length(field: MarketoField) -> int | None:
    """How much text the field takes: characters, in a text area bytes; None for a type that is no text."""
    if field.type == "text":
        return TEXT_BYTES
    if field.type in _CONVERSIONS and field.type not in _LIMITED:
        return None
    return field.length or DEFAULT_LENGTH


def _shortened(field: MarketoField, text: str) -> str | None:
    limit = length(field)
    if limit is None:
        return text
    return shorten(text, limit, _bytes if field.type == "text" else _units) or None


def _bytes(text: str) -> int:
    return len(text.encode())


def _convert(field: MarketoField, row: Row, fields: Mapping[str, Source], known: Knowledge) -> Any:
    """The field's value as Marketo takes it (marketo.md §5.4), null for empty text."""

    def of(name: str) -> Any:
        return value_of(row, fields[name], known, of)

    try:
        value = clean(of(field.name))
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
