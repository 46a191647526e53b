"""How long a new process takes to `import function_app`, and then what the first delivery imports.

    python -m bench.start [--runs 10] [--json FILE]

Each figure is of new interpreters, one after the other, with the files in the system's cache: once with the compiled
modules (.pyc) that Python keeps, and once without any, as in a package that was deployed without them. The first
delivery imports `sync_core.wiring`, which everything else hangs on; its seconds come on top. What dominates is read
from `-X importtime`: time spent in a package's own modules, not in those that they import.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from tempfile import TemporaryDirectory
from typing import Any

from bench.recording import parser, record
from bench.services import ROOT
from tools.package import MODULES, TIMED

GOAL_S = 0.8  # to import the first one, which the host does before anything else
TOP = 8
COMPILED, PLAIN = "with .pyc", "without .pyc"

LINE = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", re.MULTILINE)  # own µs, and those below

Figures = dict[str, Any]


def measure(runs: int) -> Figures:
    found: Figures = {"python": platform.python_version(), "runs": runs, "goal_s": GOAL_S}
    with TemporaryDirectory() as empty:
        nothing_compiled = {"PYTHONPYCACHEPREFIX": empty, "PYTHONDONTWRITEBYTECODE": "1"}
        _seconds({})  # compiles what isn't
        timed = {
            name: [_seconds(environment) for _ in range(runs)]
            for name, environment in ((COMPILED, {}), (PLAIN, nothing_compiled))
        }
    for index, module in enumerate(MODULES):
        found[module] = {name: _summary([run[index] for run in each]) for name, each in timed.items()}
    for module, own in zip(MODULES, _own_time(), strict=True):
        found[module]["packages_ms"] = {name: round(us / 1000, 1) for name, us in own.most_common(TOP)}
    return found


def _seconds(environment: dict[str, str]) -> list[float]:
    """Of importing each of `MODULES`, in a new interpreter."""
    return [float(line) for line in _python(["-c", TIMED], environment).stdout.split()]


def _own_time() -> Iterator[Counter[str]]:
    """Microseconds by package that importing each of `MODULES` adds to what is there before; in one interpreter."""
    _, _, told = _python(["-X", "importtime", "-c", f"import {', '.join(MODULES)}"], {}).stderr.rpartition("| site\n")
    own: Counter[str] = Counter()
    for microseconds, name in LINE.findall(told):  # a module's line comes after those that it imports
        own[_package(name)] += int(microseconds)
        if name in MODULES:
            yield own
            own = Counter()


def _package(module: str) -> str:
    """The distribution, as well as the name tells; all of Python's own modules are one."""
    top, _, rest = module.partition(".")
    if top in sys.stdlib_module_names:
        return "Python's own"
    return f"azure.{rest.split('.')[0]}" if top == "azure" and rest else top


def _python(arguments: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(  # noqa: S603 - our own program
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=True
    )


def _summary(seconds: Sequence[float]) -> dict[str, float]:
    return {"median_s": round(statistics.median(seconds), 3), "max_s": round(max(seconds), 3)}


# --- showing ----------------------------------------------------------------------------------------------------


def report(found: Figures) -> Iterator[str]:
    yield f"| import, {found['runs']} new interpreters | {COMPILED}: median s | max s | {PLAIN}: median s | max s |"
    yield "|---|---:|---:|---:|---:|"
    for module in MODULES:
        cells = [f"{found[module][name][what]:.3f}" for name in (COMPILED, PLAIN) for what in ("median_s", "max_s")]
        yield f"| {module} | {' | '.join(cells)} |"
    yield f"\nThe goal for {MODULES[0]} is {GOAL_S} s or less; {MODULES[1]} comes on top, at the first delivery."
    for module in MODULES:
        packages = ", ".join(f"{name} {ms}" for name, ms in found[module]["packages_ms"].items())
        yield f"Most of {module}, in ms: {packages}."


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parser("start", __doc__)
    asked.add_argument("--runs", type=int, default=10, metavar="N", help="interpreters for each figure (default: 10)")
    options = asked.parse_args(arguments)
    found = measure(options.runs)
    print("\n".join(report(found)))
    record(options.json, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
