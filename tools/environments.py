"""Virtual environments of their own: for tools that are heavy or don't go together with ours, and for the app alone.

`environment` makes one; `tool` makes that of a tool whose packages are pinned in `infra/requirements/NAME.txt`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".infra"
PINS = ROOT / "infra" / "requirements"
INSTALLED = "installed.txt"  # named so last: without it an interrupted installation starts again
PIP = [sys.executable, "-m", "pip"]
INSTALL = ["install", "--quiet", "--disable-pip-version-check"]


class EnvironmentFailed(RuntimeError):
    """A virtual environment can't be made; the text says which and why."""


def environment(name: str, requirements: list[str], *, home: Path = HOME, python: str = sys.executable) -> Path:
    """The folder of the virtual environment *name* below *home*, with nothing but *requirements* in it.

    Its programs are in `bin`. *requirements* are lines as in a requirements.txt; with hashes, if one has them. Made by
    *python* where it is missing or was made for other lines; quick and without network otherwise. Two processes may
    ask at once. Raises EnvironmentFailed.
    """
    folder = home / name
    wanted = "\n".join([f"# {os.path.realpath(python)}", *requirements, ""])
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / f"{name}.lock"):
        if not _holds(folder, wanted):
            shutil.rmtree(folder, ignore_errors=True)
            # Our own pip fills it: one in each would take longer to install than most tools.
            _run(name, [python, "-m", "venv", "--without-pip", str(folder)])
            asked = folder / "asked.txt"
            asked.write_text(wanted)
            _run(name, [*PIP, "--python", str(folder / "bin" / "python"), *INSTALL, "--requirement", str(asked)])
            asked.rename(folder / INSTALLED)
    return folder


def tool(name: str) -> Path:
    """The environment of the tool *name*; its pins are kept by `make lock`. Raises EnvironmentFailed."""
    pins = PINS / f"{name}.txt"
    if not pins.exists():
        raise EnvironmentFailed(
            f"Nothing is pinned for {name}: write {pins.with_suffix('.in').name}, then `make lock`."
        )
    return environment(name, pins.read_text().splitlines())


def _holds(folder: Path, wanted: str) -> bool:
    stamp = folder / INSTALLED
    return stamp.exists() and stamp.read_text() == wanted


def _run(name: str, command: list[str]) -> None:
    """Run an installer with the caller's environment, which may name proxies and registries."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - commands of this module
    except OSError as error:
        raise EnvironmentFailed(f"The environment {name} can't be made: {error}") from error
    if done.returncode:
        raise EnvironmentFailed(
            f"The environment {name} can't be made. This failed: {' '.join(command)}\n{done.stderr.strip()[-2_000:]}\n"
            "It downloads packages: is the network there, and does pip reach its registry?"
        )
