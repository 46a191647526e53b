"""Is this tree fit to be released as the version it says it is?

    python -m tools.release check [--tag v1.2.3]

Without a tag: the changelog is about this version, or about what comes after it. With one: tag, version, the dated
section of the changelog, the table of docs/upgrading.md and the kept state go together; that section is printed, and
is what the release is announced with. Exit code 0, or 1 with everything that is missing.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sync_core import __version__
from sync_core.messages import VERSION
from sync_core.model import SCHEMA

ROOT = Path(__file__).resolve().parent.parent
HEADING = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<day>\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)
NUMBER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
COMING = re.compile(r"^Will be (\d+\.\d+\.\d+)\b", re.MULTILINE)


class Section(NamedTuple):
    name: str
    day: str | None
    text: str


def sections(changelog: str) -> list[Section]:
    """In the order of the file, the newest first."""
    heads = list(HEADING.finditer(changelog))
    ends = [head.start() for head in heads[1:]] + [len(changelog)]
    return [
        Section(head["name"], head["day"], changelog[head.end() : end].strip())
        for head, end in zip(heads, ends, strict=True)
    ]


def problems(version: str, tag: str | None, root: Path = ROOT) -> Iterator[str]:
    """What keeps *version* from being released under *tag*, or, without one, what does not fit it now."""
    if not NUMBER.fullmatch(version):
        yield f"sync_core.__version__ is {version}: it has to be three numbers, as 1.2.3"
    found = sections((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    released = {each.name: each for each in found if each.name != "Unreleased"}
    if tag is None:
        coming = [match[1] for each in found if each.name == "Unreleased" for match in COMING.finditer(each.text)]
        newest = next(iter(released), None)
        if version not in (*coming, newest):
            yield f"CHANGELOG.md: {version} is not the newest release, and [Unreleased] says no “Will be {version}”"
        return
    if tag != f"v{version}":
        yield f"the tag is {tag}, the version {version}: the tag has to be v{version}"
    section = released.get(version)
    if section is None or section.day is None or not section.text:
        yield f"CHANGELOG.md: there is no section “## [{version}] - YYYY-MM-DD” with what is new"
    row = f"| {version} | {SCHEMA} | {VERSION} |"
    if row not in (root / "docs/upgrading.md").read_text(encoding="utf-8"):
        yield f"docs/upgrading.md: the table has no row “{row}”"
    state = f"tests/data/state/{version}.json"
    if not (root / state).exists():
        yield f"there is no {state}: run `python -m tools.state_dump {state}`"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=str(__doc__).partition("\n")[0])
    parser.add_argument("command", choices=["check"], help="look, and print what is new")
    parser.add_argument("--tag", metavar="vX.Y.Z", help="the tag it is released under")
    options = parser.parse_args(arguments)
    if wrong := list(problems(__version__, options.tag)):
        print("\n".join(wrong), file=sys.stderr)
        return 1
    if options.tag:
        text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
        print(next(each.text for each in sections(text) if each.name == __version__))
    else:
        print(f"{__version__}: changelog and documents are about this version")
    return 0


if __name__ == "__main__":
    sys.exit(main())
