"""One small change that breaks something the design promises."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


class Misfit(Exception):
    """The change no longer fits the code; the message says why."""


@dataclass(frozen=True, slots=True)
class Change:
    """*old*, which stands once in *file*, becomes *new*; then *test* has to fail.

    `breaks`: sections of design.md (2.4) and rules of reference/protocol.md (A to H), with blanks between.
    """

    name: str
    breaks: str
    file: str
    old: str
    new: str
    test: str

    @property
    def promises(self) -> str:
        """`breaks` for people: `§2.4, rule A`."""
        return ", ".join(f"rule {each}" if each.isalpha() else f"§{each}" for each in self.breaks.split())

    def applied(self, text: str) -> str:
        """The text of its file, broken. Raises Misfit if it does not fit, or if what comes out can't be loaded."""
        if (found := text.count(self.old)) != 1:
            raise Misfit(f"{self.name}: its old text stands {found} times in {self.file}")
        broken = text.replace(self.old, self.new)
        try:
            json.loads(broken) if self.file.endswith(".json") else compile(broken, self.file, "exec")
        except (SyntaxError, ValueError) as error:
            raise Misfit(f"{self.name}: {self.file} can't be loaded any more: {error}") from error
        return broken
