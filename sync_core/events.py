"""Log lines as events: a name, then what belongs to it as `key=value`, and the same again as fields of the record.

Azure's classic mode keeps the text alone; with OpenTelemetry the fields become `customDimensions` (azure.md §0.10).
docs/telemetry.md lists every event with its fields.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import partial

_log = logging.getLogger("sync_core")


def _say(level: int, event: str, /, exc_info: bool = False, **fields: object) -> None:
    """Fields that are None or empty are left out; none may be called like an attribute of `logging.LogRecord`."""
    if _log.isEnabledFor(level):
        told = plain(fields)
        _log.log(level, "%s", line(event, told), extra={"event": event, **told}, exc_info=exc_info)


debug = partial(_say, logging.DEBUG)
info = partial(_say, logging.INFO)
warning = partial(_say, logging.WARNING)
error = partial(_say, logging.ERROR)


def line(what: str, fields: Mapping[str, object]) -> str:
    return " ".join([what, *(f"{name}={_word(value)}" for name, value in fields.items())])


def plain(fields: Mapping[str, object]) -> dict[str, str | int | float]:
    """*fields* as telemetry takes them: names without blanks, numbers as they are, lists with commas between."""
    return {name.replace(" ", "_"): _plain(value) for name, value in fields.items() if value not in (None, "", [], ())}


def _plain(value: object) -> str | int | float:
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return value if isinstance(value, (int, float)) else str(value)


def _word(value: object) -> str:
    """As it is, in quotes where the next blank would not end it."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(each in text for each in ' "\n=') else text
