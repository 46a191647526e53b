"""The queue message: which opportunities and accounts to look at, never what changed (design.md §5).

One JSON object, at most 48 KiB before base64 (azure.md §3.8), ids as 22-character base64url of the GUID's bytes.
None of its top-level names is one the Functions host reserves (azure.md §0.4).
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sync_core.errors import NewerVersion, NotOurs
from sync_core.model import Lane, Work

VERSION = 1  # a higher one needs a higher `model.SCHEMA`: whoever can't read these messages stops at the stamp
MAX_IDS = 1_900
FULL = 1_800  # ids of one full message of a backlog: a multiple of Marketo's 300 records a call
MAX_BYTES = 48 * 1024

_KINDS = ("opportunities", "accounts", "users")
_LONGEST_WHY = 200
_SHORT_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_TRACEPARENT = re.compile(r"([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})?")


def encode(work: Work) -> str:
    """The message for *work*, each id once; ValueError if `decode` would not take it back."""
    body = json.dumps(
        {
            "v": VERSION,
            "lane": work.lane,
            "opportunities": _shorten(work.opportunities),
            "accounts": _shorten(work.accounts),
            **({"users": _shorten(work.users)} if work.users else {}),
            "force": work.force,
            "why": work.why,
            "seen": work.seen,
            "traceparent": work.traceparent,
            "postponed": work.postponed,
        },
        separators=(",", ":"),
    )
    try:
        decode(body)
    except NotOurs as error:
        raise ValueError(f"this work makes no message: {error}") from error
    return body


def decode(body: str) -> Work:
    """The work of a message of ours, also of an earlier version.

    Raises NewerVersion, and NotOurs, whose text never repeats the message but for names of fields.
    """
    if len(body) > MAX_BYTES or len(body.encode(errors="replace")) > MAX_BYTES:
        raise NotOurs(f"longer than {MAX_BYTES} bytes")
    fields = _object(body)
    version = fields.get("v")
    if type(version) is int and version > VERSION and type(fields.get("force")) is bool:  # what never changes is there
        raise NewerVersion(f"a queue message is of a newer version ({version}, not {VERSION}): deploy that one again")
    if version != VERSION or isinstance(version, bool):
        raise NotOurs(f"field v is not {VERSION}")
    fields = {"users": [], **fields}
    if missing := _CHECKS.keys() - fields.keys():
        raise NotOurs(f"missing fields: {', '.join(sorted(missing))}")
    if len(fields) > len(_CHECKS) + 1:
        raise NotOurs("unknown fields")
    values = {name: _checked(name, check, fields[name]) for name, check in _CHECKS.items()}
    work = Work(**values)
    if work.size > MAX_IDS:
        raise NotOurs(f"more than {MAX_IDS} ids")
    return work


def as_it_came(body: str, *, force: bool) -> str:
    """The message of any version, to be given back; *force*: it was received before, so something may have been sent.

    `v` and `force` mean the same in every version.
    """
    try:
        return json.dumps({**_object(body), "force": True}, separators=(",", ":")) if force else body
    except NotOurs:
        return body


def split(work: Work) -> list[Work]:
    """Messages for *work*: none, one, or full ones of at most `FULL` ids when one can't hold it."""
    return [work] if 0 < work.size <= MAX_IDS else parts(work, FULL)


def parts(work: Work, size: int) -> list[Work]:
    """*work* in parts of at most *size* ids."""
    ids = [(kind, id) for kind in _KINDS for id in getattr(work, kind)]
    return [_part(work, ids[start : start + size]) for start in range(0, len(ids), size)]


def _part(work: Work, ids: list[tuple[str, str]]) -> Work:
    opportunities, accounts, users = (tuple(id for of, id in ids if of == kind) for kind in _KINDS)
    return replace(work, opportunities=opportunities, accounts=accounts, users=users)


# --- ids ----------------------------------------------------------------------------------------------------


def _shorten(ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(urlsafe_b64encode(UUID(id).bytes)[:22].decode() for id in ids))


def _lengthen(short: Any) -> str:
    if not isinstance(short, str) or not _SHORT_ID.fullmatch(short):
        raise ValueError
    raw = urlsafe_b64decode(short + "==")
    if urlsafe_b64encode(raw)[:22].decode() != short:
        raise ValueError  # the last character has four unused bits; only zeros there are ours
    return str(UUID(bytes=raw))


# --- checks: the value as `Work` wants it, or ValueError --------------------------------------------------------


def _object(body: str) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise NotOurs("not JSON") from None
    if not isinstance(fields, dict):
        raise NotOurs("not a JSON object")
    return fields


def _checked(name: str, check: Callable[[Any], Any], value: Any) -> Any:
    try:
        return check(value)
    except (ValueError, binascii.Error):
        raise NotOurs(f"field {name} is not as we write it") from None


def _ids(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_IDS:
        raise ValueError
    return tuple(_lengthen(each) for each in value)


def _lane(value: Any) -> Lane:
    return Lane(_text(value))


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_WHY:
        raise ValueError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - one error for every kind of mismatch
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise ValueError
    return value


def _moment(value: Any) -> str:
    """An ISO time in UTC, as text; or nothing."""
    text = _text(value)
    if text and datetime.fromisoformat(text).utcoffset() != timedelta(0):
        raise ValueError
    return text


def _trace(value: Any) -> str:
    if not _TRACEPARENT.fullmatch(_text(value)):
        raise ValueError
    return str(value)


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "lane": _lane,
    "opportunities": _ids,
    "accounts": _ids,
    "users": _ids,
    "force": _flag,
    "why": _text,
    "seen": _moment,
    "traceparent": _trace,
    "postponed": _count,
}
