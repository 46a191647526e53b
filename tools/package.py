"""The package that goes to Azure, as a zip in .package: `python -m tools.package [--json]`.

It holds what git tracks and .funcignore lets through, as the working tree has it. The same content gives the same
bytes: no times, no compression (which differs between versions of zlib). Azure installs requirements.txt itself.
Printed are the sizes, and how long a new process takes to import the package with nothing but that installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pathspec

import sync_core
from tools.environments import ROOT, EnvironmentFailed, environment

HOME = ROOT / ".package"
NEEDED = ("function_app.py", "host.json", "requirements.txt", "sync.toml")
MODULES = ("function_app", "sync_core.wiring")
"""In the order in which a process imports them: the host's listing of functions, the first delivery."""

TIMED = f"""
from time import perf_counter
from importlib import import_module
for name in {MODULES}:
    start = perf_counter()
    import_module(name)
    print(perf_counter() - start)
"""
RUNS = 5
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can tell
READABLE = 0o100644 << 16  # a plain file, in the place where a zip keeps Unix's mode


class PackageError(RuntimeError):
    """The package can't be made; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Package:
    """What was made. *uncommitted*: what the commit does not have, or has otherwise; untracked files are left out."""

    path: str
    version: str
    files: int
    bytes: int
    sha256: str
    uncommitted: list[str]


@dataclass(frozen=True, slots=True)
class Cost:
    """What it takes where it runs: bytes that its dependencies take when installed, seconds of importing `MODULES`."""

    dependencies_bytes: int
    import_s: dict[str, float]


def build(home: Path = HOME, root: Path = ROOT) -> Package:
    """Write the zip of the checkout *root* into *home*. Raises PackageError."""
    names = deployed(root)
    if missing := [name for name in NEEDED if name not in names]:
        raise PackageError(
            f"Not in the package: {', '.join(missing)}. Does git track it, and .funcignore let it through?"
        )
    contents = {name: content(root / name) for name in names}
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"opportunity-sync-{sync_core.__version__}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = READABLE
            archive.writestr(entry, data)
    whole = path.read_bytes()
    digest = hashlib.sha256(whole).hexdigest()
    return Package(str(path), sync_core.__version__, len(names), len(whole), digest, uncommitted(root))


def deployed(root: Path = ROOT) -> list[str]:
    """Paths in the package, in order."""
    return _let_through(_git(root, "ls-files", "-z"), root)


def uncommitted(root: Path = ROOT) -> list[str]:
    """Paths that would be in the package, but with other content than the commit's, or not in it at all."""
    changed = _git(root, "diff", "--name-only", "-z", "HEAD")
    return _let_through([*changed, *_git(root, "ls-files", "-z", "--others", "--exclude-standard")], root)


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PackageError(f"git tracks {path.name}, but it can't be read: {error}") from error


def _let_through(names: list[str], root: Path) -> list[str]:
    ignored = pathspec.GitIgnoreSpec.from_lines((root / ".funcignore").read_text().splitlines())
    return sorted(name for name in names if not ignored.match_file(name))


def _git(root: Path, *words: str) -> list[str]:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)  # noqa: S603, S607 - git
    except OSError as error:
        raise PackageError("git is not installed: what it tracks is what is packed.") from error
    except subprocess.CalledProcessError as error:
        raise PackageError(f"What is packed is what git tracks, but: {error.stderr.strip()}") from error
    return [name for name in done.stdout.split("\0") if name]


@contextmanager
def unpacked(package: Package) -> Iterator[Path]:
    """A folder that holds the package's files and nothing else."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(package.path) as archive:
        archive.extractall(folder)
        yield Path(folder)


def clean_python(python: str = sys.executable) -> Path:
    """A Python like *python* with what requirements.txt names and nothing else. Raises EnvironmentFailed."""
    lock = (ROOT / "requirements.txt").read_text().splitlines()
    name = Path(python).resolve().name
    return environment(name, ["--require-hashes", *lock], home=HOME, python=python) / "bin" / "python"


def cost(package: Package, runs: int = RUNS) -> Cost:
    """Measure *package* in a clean environment; the seconds are medians of new processes. Raises EnvironmentFailed."""
    python = clean_python()
    with unpacked(package) as folder:
        imports(python, folder)  # compiles what isn't
        timed = [imports(python, folder) for _ in range(runs)]
    (installed,) = python.parent.parent.glob("lib/python*/site-packages")
    size = sum(path.stat().st_size for path in installed.rglob("*") if path.is_file())
    return Cost(size, {name: statistics.median(run[name] for run in timed) for name in MODULES})


def imports(python: Path, folder: Path) -> dict[str, float]:
    """Seconds that a new process takes for each of `MODULES`, one after the other; raises PackageError."""
    command = [str(python), "-I", "-c", f"import sys; sys.path.insert(0, '')\n{TIMED}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        raise PackageError(f"The package can't be imported with what requirements.txt names:\n{done.stderr.strip()}")
    return dict(zip(MODULES, map(float, done.stdout.split()), strict=True))


def report(package: Package, price: Cost) -> Iterator[str]:
    yield f"{os.path.relpath(package.path)}: {package.files} files, {package.bytes / 1e6:.2f} MB"
    yield f"sha256 {package.sha256}"
    yield f"dependencies, installed: {price.dependencies_bytes / 1e6:.0f} MB"
    for name, seconds in price.import_s.items():
        yield f"import {name}: {seconds:.2f} s in a new process"
    if package.uncommitted:
        yield f"Not as committed: {', '.join(package.uncommitted)}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.package", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help=f"processes to time (default: {RUNS})")
    options = parser.parse_args(arguments)
    try:
        package = build()
        price = cost(package, options.runs)
    except (PackageError, EnvironmentFailed) as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(asdict(package) | asdict(price), indent=2))
    else:
        print("\n".join(report(package, price)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
