"""What a customer's Marketo and Dynamics do where no source tells (marketo.md §6.1, dataverse.md §12), found out by
experiment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one open question."""

    question: str  # "U5", "D9" (dataverse.md §12, number 9)
    asks: str  # the question in one line
    answer: str  # one of a small fixed vocabulary per question, e.g. "1003"; "" = not answered
    why: str = ""  # why not answered, or what was seen, in a line, no personal data
