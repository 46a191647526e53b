"""Pin every package that is installed, with its hashes: `python -m tools.lock [--upgrade]`.

Each `.in` file names what we ask for; uv writes the `.txt` beside it, for Python 3.11 and newer on every system, which
plain pip installs. What is pinned stays as it is unless its `.in` file asks for another, or with `--upgrade`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.environments import PINS, ROOT, EnvironmentFailed, tool

OLDEST = "3.11"
NEWER = {"runtime": ["--no-deps", "--python-version", "3.13"]}
"""Locks for another Python: the Makefile installs the Functions runtime against its word."""


def asked() -> list[Path]:
    """Every `.in` file, relative to the root; each after those that it reads."""
    ours = [Path("requirements.in"), Path("requirements-dev.in")]
    return [*ours, *sorted(path.relative_to(ROOT) for path in PINS.glob("*.in"))]


def compiling(asked_for: Path) -> list[str]:
    """uv's arguments; they become the head of the file, from which Dependabot takes them again."""
    python = NEWER.get(asked_for.stem, ["--python-version", OLDEST])
    target = asked_for.with_suffix(".txt").as_posix()
    return ["--universal", "--generate-hashes", *python, "--output-file", target, asked_for.as_posix()]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.lock", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that are allowed")
    upgrade = ["--upgrade"] if parser.parse_args(arguments).upgrade else []
    try:
        program = str(tool("uv") / "bin" / "uv")
    except EnvironmentFailed as error:
        print(error, file=sys.stderr)
        return 1
    for each in asked():
        words = compiling(each)
        head = {"UV_CUSTOM_COMPILE_COMMAND": " ".join(["uv pip compile", *words]), "UV_PYTHON": sys.executable}
        command = [program, "pip", "compile", "--quiet", *upgrade, *words]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | head, check=False)  # noqa: S603 - our own
        if done.returncode:
            print(f"{each} was not pinned; what uv says of it stands above.", file=sys.stderr)
            return 1
        print(f"{each.with_suffix('.txt')}: {pins(each.with_suffix('.txt'))} packages")
    return 0


def pins(lock: Path) -> int:
    return sum("==" in line for line in (ROOT / lock).read_text().splitlines())


if __name__ == "__main__":
    sys.exit(main())
