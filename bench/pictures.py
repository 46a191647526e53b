"""Draw what the benches recorded, as SVG: `docs/calls.svg`, `time.svg`, `memory.svg` and `script.svg`.

    python -m bench.pictures [--results FOLDER] [--folder FOLDER]

Nothing is measured here, and the same results make the same bytes. Every figure of a picture is named in `FIGURES`, by
its file and its place in it. A result that isn't there is an error that names the command which makes it; those of
`LATER` take hours, and what needs them is left out until they exist.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench import pace
from bench.compare import FIRST, KINDS, OURS, SCRIPT, TICK
from bench.recording import RESULTS
from bench.services import ROOT

DOCS = ROOT / "docs"

# --- where the figures stand ------------------------------------------------------------------------------------

LATER = {"pace": "python -m bench.pace", "million": "python -m bench.million"}
MADE_BY = {name: f"python -m bench.{name}" for name in ("first_load", "plan", "compare")} | LATER

FIGURES: Mapping[str, str] = {
    # result: place in it, its parts apart by slashes
    "calls of 10,000": "first_load: 10000/first load/marketo/by_endpoint",
    "fewest of 10,000": "first_load: 10000/fewest",
    "calls of 100,000": "first_load: 100000/first load/marketo/by_endpoint",
    "fewest of 100,000": "first_load: 100000/fewest",
    "calls of 1,000,000": "million: 1000000/first load/marketo/by_endpoint",
    "fewest of 1,000,000": "million: 1000000/fewest",
    "calls of a tick": f"compare: {TICK}/{OURS}/by_kind",
    "fewest of a tick": f"compare: {TICK}/fewest",
    "s taken": "pace: first load/wall_s",
    "calls until then": "pace: first load/calls until then",
    "hosts": "pace: first load/hosts",
    "entities a second": "pace: entities a second",
    "opportunities loaded": "pace: rows/opportunities",
    "MB of a first load of 10,000": "million: 10000/first load/rss_mb/peak",
    "MB of a first load of 100,000": "million: 100000/first load/rss_mb/peak",
    "MB of a first load of 1,000,000": "million: 1000000/first load/rss_mb/peak",
    "MB of a full read of 10,000": "million: 10000/re-run/rss_mb/peak",
    "MB of a full read of 100,000": "million: 100000/re-run/rss_mb/peak",
    "MB of a full read of 1,000,000": "million: 1000000/re-run/rss_mb/peak",
    "MB of a plan of 10,000": "plan: 10000/rss_mb/peak",
    "MB of a plan of 100,000": "plan: 100000/rss_mb/peak",
    f"{FIRST}, {OURS}": f"compare: {FIRST}/{OURS}",
    f"{FIRST}, {SCRIPT}": f"compare: {FIRST}/{SCRIPT}",
    f"{TICK}, {OURS}": f"compare: {TICK}/{OURS}",
    f"{TICK}, {SCRIPT}": f"compare: {TICK}/{SCRIPT}",
    "opportunities compared": "compare: rows/opportunities",
    "changes compared": "compare: changes",
}
SIZES = ("10,000", "100,000", "1,000,000")


class Missing(Exception):
    """A result that isn't there; the text says which command makes it."""


class Results:
    """The figures of `FIGURES`, read from the files in *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        """False for a figure that is measured later and isn't there yet."""
        try:
            return self[name] is not None
        except Missing:
            return _place(name)[0] not in LATER

    def __getitem__(self, name: str) -> Any:
        file, place = _place(name)
        if not self._path(file).exists():
            raise Missing(f"{file}.json is missing: `{MADE_BY[file]}` makes it")
        found = json.loads(self._path(file).read_text(encoding="utf-8"))
        for part in place.split("/"):
            if part not in found:
                raise Missing(f"{file}.json has no {place}: `{MADE_BY[file]}` makes it anew")
            found = found[part]
        return found

    def _path(self, file: str) -> Path:
        return self.folder / f"{file}.json"


def _place(name: str) -> tuple[str, str]:
    """The result, and the place in it."""
    file, _, place = FIGURES[name].partition(": ")
    return file, place


# --- drawing ----------------------------------------------------------------------------------------------------

WIDTH = 860
COLOURS = {  # on white, on dark: as GitHub shows pages
    "ink": ("#1f2328", "#f0f6fc"),
    "soft": ("#59636e", "#9198a1"),
    "ours": ("#0969da", "#4493f8"),
    "other": ("#bc4c00", "#db6d28"),
    "rule": ("#d1d9e0", "#3d444d"),
    "paper": ("#f6f8fa", "#151b23"),
}
INK, SOFT, BLUE, ORANGE, RULE, PAPER = (white for white, _ in COLOURS.values())
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "opportunity-sync",
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same places everywhere
    "font.size": 12,
    "text.color": INK,
}
BAR = 0.56


def _canvas(height: int, title: str, under: str) -> Figure:
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor=PAPER)
    figure.text(24 / WIDTH, 1 - 34 / height, title, size=16, weight="bold")
    figure.text(24 / WIDTH, 1 - 56 / height, under, color=SOFT)
    return figure


def _panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes without any frame, their place in pixels from the upper left corner."""
    whole = figure.get_figheight() * 72
    axes = figure.add_axes((left / WIDTH, 1 - (top + height) / whole, width / WIDTH, height / whole))
    axes.set_axis_off()
    return axes


def _bars(
    axes: Axes, values: Sequence[float], texts: Sequence[str], colours: Sequence[str], room: float, longest: float = 0
) -> None:
    """One bar under the other, each with its text at the end; the longest, or *longest*, takes the share *room*."""
    axes.set_xlim(0, (longest or max(values)) / room)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.barh(range(len(values)), values, height=BAR, color=list(colours))
    for row, (value, text) in enumerate(zip(values, texts, strict=True)):
        axes.annotate(text, (value, row), xytext=(7, -4), textcoords="offset points")


def _names(figure: Figure, left: float, top: float, height: float, names: Sequence[str]) -> None:
    """The names of the bars beside them."""
    axes = _panel(figure, left, top, 100, height)
    axes.set_ylim(len(names) - 0.5, -0.5)
    for row, name in enumerate(names):
        axes.annotate(name, (0, row), xytext=(0, -4), textcoords="offset points")


# --- the pictures -----------------------------------------------------------------------------------------------


def calls(found: Results) -> Figure:
    loads = [size for size in SIZES if found.has(f"calls of {size}")]
    columns = [(f"first load of {size}", *_by_kind(found, f"of {size}")) for size in loads]
    columns.append(("a tick after a busy day", *_by_kind(found, "of a tick")))
    kinds = [kind for kind in KINDS.values() if any(kind in made for _, made, _ in columns)]
    killed = " The load of 1,000,000 was killed once." if SIZES[-1] in loads else ""
    figure = _canvas(
        330,
        "Marketo calls, and the fewest that could do",
        f"Bars: calls made. Lines: the fewest possible, with 300 records each. In brackets: made ÷ fewest.{killed}",
    )
    _names(figure, 24, 120, 180, kinds)
    width = (WIDTH - 170) / len(columns)
    for index, (title, made, fewest) in enumerate(columns):
        left = 160 + index * width
        total, least = sum(made.values()), sum(fewest.values())
        figure.text(left / WIDTH, 1 - 92 / 330, title, weight="bold")
        figure.text(left / WIDTH, 1 - 109 / 330, f"{total:,} calls ({total / least:.2f} ×)", color=SOFT)
        axes = _panel(figure, left, 120, width - 16, 180)
        numbers = [made.get(kind, 0) for kind in kinds]
        _bars(axes, numbers, [f"{number:,}" if number else "" for number in numbers], [BLUE] * len(kinds), 0.72)
        bounds = [(row, fewest[kind]) for row, kind in enumerate(kinds) if fewest.get(kind)]
        axes.vlines([n for _, n in bounds], [r - 0.4 for r, _ in bounds], [r + 0.4 for r, _ in bounds], INK, lw=2)
    return figure


def _by_kind(found: Results, of: str) -> tuple[dict[str, int], dict[str, int]]:
    """Calls made and the fewest possible; results name them by kind or by endpoint."""
    made = {KINDS.get(name, name): _number(value) for name, value in found[f"calls {of}"].items()}
    return made, {KINDS.get(name, name): number for name, number in found[f"fewest {of}"].items()}


def _number(line: Any) -> int:
    return int(line["calls"] if isinstance(line, dict) else line)


def time(found: Results) -> Figure:
    entities = sum(sum(host["storage"]["entities"].values()) for host in found["hosts"])
    rate, made = found["entities a second"], found["calls until then"]
    lines = {
        f"taken, by {len(found['hosts'])} hosts": (found["s taken"], BLUE),
        f"{made:,} Marketo calls ÷ {pace.OURS} a second": (made / pace.OURS, SOFT),
        f"{entities:,} entities ÷ {rate:,} a second": (entities / rate, SOFT),
    }
    number = f"{found['opportunities loaded']:,}"
    figure = _canvas(
        220,
        f"A first load of {number} at Marketo's limits",
        "Seconds: what it took, and what Marketo and storage allow at best",
    )
    _names(figure, 24, 80, 114, [*lines])
    seconds = [value for value, _ in lines.values()]
    axes = _panel(figure, 330, 80, WIDTH - 354, 114)
    _bars(axes, seconds, [f"{value:,.0f} s" for value in seconds], [colour for _, colour in lines.values()], 0.85)
    return figure


def memory(found: Results) -> Figure:
    height = 250
    under = "Peak memory of the process (RSS) in MB; storage in a file, for the plan in Azurite"
    figure = _canvas(height, "Memory, however many opportunities there are", under)
    columns = {
        "first load": "first load, killed once on the way",
        "full read": "everything read again, all delta links lost",
        "plan": "plan",
    }
    places = {(what, size): f"MB of a {what} of {size}" for what in columns for size in SIZES}
    peaks = {cell: found[name] for cell, name in places.items() if name in FIGURES}
    _names(figure, 24, 110, 114, SIZES)
    width = (WIDTH - 130) / len(columns)
    for index, (what, title) in enumerate(columns.items()):
        left = 120 + index * width
        figure.text(left / WIDTH, 1 - 92 / height, title, color=SOFT, size=11)
        values = [peaks.get((what, size), 0) for size in SIZES]
        texts = [f"{value}" if value else "" for value in values]
        _bars(_panel(figure, left, 110, width - 20, 114), values, texts, [BLUE] * 3, 0.8, longest=max(peaks.values()))
    return figure


def script(found: Results) -> Figure:
    height = 356
    number, changes = f"{found['opportunities compared']:,}", sum(found["changes compared"].values())
    figure = _canvas(
        height,
        "This sync and a straightforward script",
        "The same rows and changes; the script makes a call for each person, and for the roles of each opportunity",
    )
    parts = {FIRST: f"First load of {number}", TICK: f"A tick after {changes} changes"}
    measures: dict[str, tuple[str, Callable[[float], str]]] = {
        "calls": ("Marketo calls", lambda value: f"{value:,.0f}"),
        "marketo_s": ("time at Marketo's pace", _duration),
        "cpu_s": ("CPU", lambda value: f"{value:,.1f} s"),
    }
    width = (WIDTH - 130) / len(measures)
    for index, (title, _) in enumerate(measures.values()):
        figure.text((120 + index * width) / WIDTH, 1 - 92 / height, title, color=SOFT)
    for row, (part, title) in enumerate(parts.items()):
        top = 130 + row * 100
        figure.text(24 / WIDTH, 1 - (top - 8) / height, title, weight="bold")
        _names(figure, 24, top, 60, ["this sync", "script"])
        for index, (name, (_, shown)) in enumerate(measures.items()):
            values = [found[f"{part}, {side}"][name] for side in (OURS, SCRIPT)]
            axes = _panel(figure, 120 + index * width, top, width - 20, 60)
            _bars(axes, values, [shown(value) for value in values], [BLUE, ORANGE], 0.68)
    stale = found[f"{TICK}, {SCRIPT}"]["wrong"]["roles"]
    notes = (
        "Marketo's pace: a second for each call, 50 calls in 20 s; this sync makes 5 at once, the script 1.",
        f"After the tick, {stale} roles of people who are no stakeholders any more stay in Marketo with the script.",
    )
    for row, note in enumerate(notes):
        figure.text(24 / WIDTH, (34 - row * 16) / height, note, size=11, color=SOFT)
    return figure


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"


# --- files ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Picture:
    """*later*: a figure without which it can't be drawn, of a result that may not be there yet."""

    draw: Callable[[Results], Figure]
    title: str
    description: str
    later: str = ""


PICTURES = {
    "calls.svg": Picture(
        calls,
        "Marketo calls against the fewest possible",
        "Bars of the Marketo calls by kind, of first loads and of a tick, each with a line at the fewest possible.",
    ),
    "time.svg": Picture(
        time,
        "Time of a first load against the limits",
        "Bars of the seconds that a first load took and of those that Marketo's rate and storage need at least.",
        "s taken",
    ),
    "memory.svg": Picture(
        memory,
        "Memory against size",
        "Bars of the peak memory of a first load, of a full read and of a plan, for growing numbers of opportunities.",
        "MB of a first load of 1,000,000",
    ),
    "script.svg": Picture(
        script,
        "This sync and a straightforward script",
        "Bars of Marketo calls, time at Marketo's pace and CPU for both, in a first load and in a tick.",
    ),
}


def drawn(results: Path) -> Iterator[tuple[str, str]]:
    """Name and SVG of every picture whose results are there. Raises Missing."""
    found = Results(results)
    for name, picture in PICTURES.items():
        if not picture.later or found.has(picture.later):
            with rc_context(STYLE):
                yield name, _svg(picture, picture.draw(found))


def _svg(picture: Picture, figure: Figure) -> str:
    """As matplotlib writes it, with a title, the reader's own font, and colours that follow the reader's."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = file.getvalue()
    text = text[text.index("<svg") :].replace("'DejaVu Sans'", "system-ui, sans-serif")
    for name, (white, _) in COLOURS.items():
        text = text.replace(white, f"var(--{name})")
    opening, rest = text.replace('pt"', '"', 2).split(">", 1)  # pixels
    told = {"title": escape(picture.title), "desc": escape(picture.description), "style": _colours()}
    head = "".join(f"\n <{tag}>{what}</{tag}>" for tag, what in told.items())
    return "\n".join(line.rstrip() for line in f'{opening} role="img">{head}{rest}'.splitlines()) + "\n"


def _colours() -> str:
    white, dark = (" ".join(f"--{name}: {pair[at]};" for name, pair in COLOURS.items()) for at in (0, 1))
    return f":root {{ {white} }} @media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pictures", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="what the benches wrote")
    parser.add_argument("--folder", type=Path, default=DOCS, metavar="FOLDER", help="where the pictures go")
    options = parser.parse_args(arguments)
    try:
        made = dict(drawn(options.results))
    except Missing as error:
        print(error, file=sys.stderr)
        return 1
    for name, text in made.items():
        (options.folder / name).write_text(text, encoding="utf-8")
        print(f"{name}: {len(text.encode()) / 1000:.0f} KB")
    for name, picture in PICTURES.items():
        if name not in made:
            print(f"{name} is left out until `{LATER[_place(picture.later)[0]]}` was run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
