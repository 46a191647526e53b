"""Records into as few write calls as Marketo allows: 300 records and 1 MB a call (marketo.md §2)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Record = Mapping[str, Any]

MAX_RECORDS = 300
MAX_BYTES = 1_000_000
ENVELOPE = 64
"""Bytes for what stands around the records: `{"action":"createOrUpdate","input":[…]}`."""


def encode(value: object) -> bytes:
    """JSON as it is sent: UTF-8, no spaces. Half a surrogate pair becomes `?`: it may not sink the whole call."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """*records* in order, cut so that each call's body stays below MAX_BYTES and MAX_RECORDS.

    One record over the limit comes alone, and is refused alone.
    """
    batch: list[Record] = []
    size = ENVELOPE
    for record in records:
        more = len(encode(record)) + 1
        if batch and (len(batch) == MAX_RECORDS or size + more >= MAX_BYTES):
            yield batch
            batch, size = [], ENVELOPE
        batch.append(record)
        size += more
    if batch:
        yield batch
