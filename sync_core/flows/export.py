"""What is not in step as CSV that a spreadsheet can open without running anything in it."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import astuple, fields
from typing import Any, TextIO

from sync_core.flows.failures import KINDS, Failure

HEAD = [each.name for each in fields(Failure)]
_FORMULA = tuple("=+-@\t\r\n＝＋－＠|")


def safe(value: Any) -> Any:
    """*value* as a cell: a text that a spreadsheet would take for a formula is marked as text.

    After OWASP's “CSV injection”: it may begin with one of some characters, blanks before it or not.
    """
    if not isinstance(value, str):
        return value
    return f"'{value}" if value.startswith(_FORMULA) or value.lstrip().startswith(_FORMULA) else value


def write_csv(found: Iterable[Failure], out: TextIO, end: str = "") -> None:
    """A row for each into *out*, one at a time, with *end* in a last row of its own."""
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(HEAD)
    for each in found:
        kind, *others = astuple(each)
        writer.writerow([safe(value) for value in (KINDS[kind], *others)])
    if end:
        writer.writerow([safe(end), *[""] * (len(HEAD) - 1)])
