"""What a person reads: at most 80 columns, a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

WIDTH = 80
INDENT = "   "
LOOK_EVERY_S = 0.1


class Failed(Exception):
    """A step did not show what it had to; the text says what was expected."""


class Screen:
    """Prints the story and remembers which step it is in."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, markup=False, emoji=False)
        self.step = "the start"

    def title(self, text: str) -> None:
        self.console.print(text, style="bold")
        self.console.print()

    def end(self, text: str) -> None:
        self.console.print()
        self.say(text)

    def chapter(self, number: int, title: str) -> None:
        self.step = f"{number} {title}"
        self.console.print()
        self.console.print(f"{number}  {title}", style="bold")

    def scene(self, title: str) -> None:
        self.step = title
        self.console.print()
        self._wrapped(title, INDENT, style="cyan")

    def say(self, text: str) -> None:
        self._wrapped(text, INDENT)

    def good(self, text: str) -> None:
        self._wrapped(text, INDENT + "  ", first=INDENT + "✓ ")

    def bad(self, text: str) -> None:
        self._wrapped(text, INDENT, style="bold red")

    def lines(self, lines: Iterable[str], *, most: int | None = None) -> None:
        """As they are; of too many the first ones."""
        shown = list(lines)
        for line in shown[:most]:
            self.console.print(line, soft_wrap=True)
        if most is not None and len(shown) > most:
            self.console.print(f"… ({len(shown) - most} more lines)")

    def table(self, rows: Iterable[tuple[str, ...]]) -> None:
        """Text on the left, figures on the right, below each other."""
        rows = list(rows)
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            self.console.print(INDENT + "  ".join(cells).rstrip(), soft_wrap=True)

    def progress(self, total: int, done: Callable[[], tuple[int, str]], *, timeout: float) -> float:
        """Wait until *done* (number, remark) says *total*; the seconds that took. Raises Failed after *timeout*."""
        if not self.console.is_terminal:
            return self._wait(total, done, timeout, lambda number, remark: None)
        columns = (TextColumn("   {task.description}"), BarColumn(14), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task("", total=total)
            return self._wait(
                total, done, timeout, lambda number, remark: bar.update(task, completed=number, description=remark)
            )

    def _wait(
        self, total: int, done: Callable[[], tuple[int, str]], timeout: float, show: Callable[[int, str], None]
    ) -> float:
        started = time.monotonic()
        while True:
            number, remark = done()
            show(number, remark)
            spent = time.monotonic() - started
            if number >= total:
                return spent
            if spent > timeout:
                raise Failed(f"only {number} of {total} were done after {timeout:.0f} s")
            time.sleep(LOOK_EVERY_S)

    def _wrapped(self, text: str, indent: str, *, first: str | None = None, style: str | None = None) -> None:
        wrapped = textwrap.fill(
            text,
            WIDTH,
            initial_indent=indent if first is None else first,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
        self.console.print(wrapped, style=style, soft_wrap=True)


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 role`, `2 roles`, `1,000 companies`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def short(text: str, length: int = 44) -> str:
    return textwrap.shorten(text, length, placeholder=" …")
