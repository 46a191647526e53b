"""From a JSON value to what Marketo stores, per field type (marketo.md §3.0, §3.6, §5.4)."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from .catalogue import Field, ObjectType
from .errors import ApiError, RecordError
from .switches import Switches

TEXT_BYTES = 30_000
DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
EMAIL = re.compile(r"[\x21-\x3f\x41-\x7e]+@[\x21-\x3f\x41-\x7e]+\.[\x21-\x3f\x41-\x7e]+")


def text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return str(value).lower() if isinstance(value, bool) else str(value)
    raise ValueError(value)


def integer(value: Any) -> int:
    """Whole numbers, also as text or as 5.0; 14.1 is refused (marketo.md §3.6)."""
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    number = int(value)
    if abs(number) >= 1 << 31:
        raise ValueError(value)
    return number


def number(value: Any) -> float | int:
    if isinstance(value, bool):
        raise TypeError(value)
    result = float(value) if isinstance(value, str) else value
    if not isinstance(result, (int, float)) or not math.isfinite(result):
        raise ValueError(value)
    return result


def boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]


def day(value: str) -> str:
    if not DATE.fullmatch(value):
        raise ValueError(value)
    date.fromisoformat(value)
    return value


def instant(value: str) -> str:
    """With Z or an offset, milliseconds dropped; stored as UTC (marketo.md §5.4)."""
    moment = datetime.fromisoformat(value)
    if len(value) == 20 and value[19] == "Z" and value[10] == "T":
        return value
    if moment.tzinfo is None:
        raise ValueError(value)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def email(value: str) -> str:
    if not EMAIL.fullmatch(value):
        raise ValueError(value)
    return value


CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "string": text,
    "text": text,
    "phone": text,
    "url": text,
    "email": email,
    "integer": integer,
    "score": integer,
    "percent": integer,
    "float": number,
    "currency": number,
    "boolean": boolean,
    "date": day,
    "datetime": instant,
}


def stored(field: Field, value: Any, switches: Switches) -> Any:
    """What the field holds after *value* was written; null and "" clear, and clear a boolean to false."""
    if value is None or value == "":
        return False if field.type == "boolean" else None
    try:
        result = CONVERTERS[field.type](value)
    except (ValueError, TypeError, KeyError, OverflowError):
        raise mismatch(field, value, switches) from None
    if isinstance(result, str):
        return fitting(field, result, switches)
    if field.type == "currency" and switches.currency_32bit:
        return struct.unpack("f", struct.pack("f", result))[0]
    return result


def fitting(field: Field, value: str, switches: Switches) -> str:
    """*value* if it is short enough; otherwise U5 decides (marketo.md §6.1)."""
    limit = max_length(field, switches)
    if limit is None or len(value) <= limit:
        if field.type == "text" and len(value.encode()) > TEXT_BYTES:
            raise RecordError("1003", invalid(field, value))
        return value
    if switches.too_long == "truncated":
        return value[:limit]
    raise RecordError(switches.too_long, invalid(field, value))


def max_length(field: Field, switches: Switches) -> int | None:
    return field.documented_length if switches.documented_lengths else field.length


def mismatch(field: Field, value: Any, switches: Switches) -> RecordError:
    if switches.type_mismatch == "1001":
        return RecordError("1001", f"Invalid value '{value}'. Required of type '{field.type}'")
    return RecordError("1003", invalid(field, value))


def invalid(field: Field, value: Any) -> str:
    return f"Invalid value for field '{field.name}' and value '{value}'"


def record_values(kind: ObjectType, record: Any, switches: Switches) -> dict[str, Any]:
    """Canonical names and stored values of one input record; raises what is wrong with it."""
    if not isinstance(record, Mapping):
        raise RecordError("1003", "Invalid record in input")
    values = {}
    for name, value in record.items():
        field = kind.field(name)
        if field is None:
            raise unknown_field(name, switches)
        values[field.name] = stored(field, value, switches)
    return values


def unknown_field(name: str, switches: Switches) -> ApiError:
    kind = RecordError if switches.unknown_field == "record" else ApiError
    return kind("1006", f"Field '{name}' not found")
