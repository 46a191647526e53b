"""Everything about the deployment that can be checked without Azure: `make infra-check`.

    python -m tools.infra_check [--json]

A line for each check; what it printed stands below if it failed. What needs `../shared` beside the checkout (types of
Azure's resources, JSON schemas) is skipped where that isn't there, and says so. Microsoft's own compiler is in no
package registry: the pipeline runs it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.bicep import read
from tools.environments import EnvironmentFailed, tool

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
FILES = sorted((ROOT / "infra").rglob("*.bicep"))

NOT_FOR_CHECKOV = {"main.bicep"}
"""Its parser does not know `fail`. The file makes nothing but the resource group."""

NOT_IN_THE_SELECTION = ("error: no API version 2024-06-01 of Microsoft.Network in bicep-types-az",)
"""Private DNS zones have versions of their own, which the selection of types in `../shared` does not hold."""


@dataclass(frozen=True, slots=True)
class Found:
    """Of one check: `state` is ok, failed or SKIPPED; `text` a line, `output` what a failed one printed."""

    check: str
    state: str
    text: str
    output: str = ""


def syntax() -> Found:
    faults = [f"{path.relative_to(ROOT)}:{line}: this is no Bicep" for path in FILES for line in read(path).faults]
    return Found("syntax", "failed" if faults else "ok", f"{len(FILES)} Bicep files", "\n".join(faults))


def types() -> Found:
    """Names and properties against the exact API versions."""
    program = SHARED / "tools" / "bicep_check.py"
    if not program.exists():
        return Found("types", "SKIPPED", "no ../shared beside the checkout")
    done = _run([sys.executable, str(program), *map(str, FILES)])
    told = [line for line in done.stdout.splitlines() if ": error: " in line or ": warning: " in line]
    faults = [line for line in told if not line.endswith(NOT_IN_THE_SELECTION)]
    bad = faults or done.returncode not in (0, 1)
    text = f"{len(FILES)} Bicep files, {len(faults)} faults, {len(told) - len(faults)} that no type is at hand for"
    return Found("types", "failed" if bad else "ok", text, "\n".join(faults) + done.stderr)


def checkov() -> Found:
    """What the scanner finds; a file that it can't read counts as a finding."""
    done = _run([str(tool("checkov") / "bin" / "checkov"), "--config-file", "infra/checkov.yaml", "--output", "json"])
    try:
        result = json.loads(done.stdout)
        summary, unread = result["summary"], {Path(each).name for each in result["results"]["parsing_errors"]}
    except (ValueError, KeyError):
        return Found("checkov", "failed", "it printed no result", done.stdout + done.stderr)
    good = summary["passed"] and not summary["failed"] and unread <= NOT_FOR_CHECKOV
    text = f"{summary['passed']} passed, {summary['failed']} failed, not read: {', '.join(sorted(unread)) or 'none'}"
    failed = result["results"]["failed_checks"]
    told = [
        f"infra{each['file_path']}:{each['file_line_range'][0]}: {each['check_id']} {each['check_name']}"
        for each in failed
    ]
    return Found("checkov", "ok" if good else "failed", text, "\n".join([*told, done.stderr]))


def schemas() -> Found:
    """azure.yaml and host.json against their JSON schemas; `tools.workflows` does it for the workflows."""
    folder = SHARED / "data" / "schemas"
    if not folder.is_dir():
        return Found("schemas", "SKIPPED", "no ../shared beside the checkout")
    program = str(tool("schemas") / "bin" / "check-jsonschema")
    for name, schema in (("azure.yaml", "azure.yaml.json"), ("host.json", "host.json")):
        done = _run([program, "--schemafile", str(folder / schema), name])
        if done.returncode:
            break
    return _of("schemas", done, "azure.yaml, host.json")


def _module(name: str) -> Callable[[], Found]:
    return lambda: _of(name, _run([sys.executable, "-m", f"tools.{name}"]))


CHECKS: Sequence[tuple[str, Callable[[], Found]]] = (
    ("syntax", syntax),
    ("types", types),
    ("checkov", checkov),
    ("schemas", schemas),
    *((name, _module(name)) for name in ("workflows", "kql", "doctor")),
)


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)  # noqa: S603 - our own programs


def _of(name: str, done: subprocess.CompletedProcess[str], text: str = "") -> Found:
    """By its exit code; its last line is what it has to say."""
    output = done.stdout + done.stderr
    lines = done.stdout.strip().splitlines()
    return Found(name, "failed" if done.returncode else "ok", text or (lines[-1] if lines else ""), output)


def checks() -> Iterator[Found]:
    for name, check in CHECKS:
        try:
            yield check()
        except EnvironmentFailed as error:
            yield Found(name, "failed", "its environment can't be made", str(error))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.infra_check", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object in place of lines")
    asked = parser.parse_args(arguments)
    started, found = time.monotonic(), []
    for each in checks():
        found.append(each)
        if not asked.json:
            print(f"{each.state:8} {each.check:10} {each.text}", flush=True)
            if each.state == "failed":
                print(each.output.rstrip())
    failed = [each.check for each in found if each.state == "failed"]
    if asked.json:
        print(json.dumps({"checks": [asdict(each) for each in found]}))
    else:
        print(f"{', '.join(failed)} failed" if failed else f"all is well, {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
