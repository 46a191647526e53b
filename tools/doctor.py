"""Ask azure-functions-doctor about the package for Azure: `python -m tools.doctor`.

It is asked about the unpacked package with what it likes to see beside it: .funcignore and infra. Exit code 1 if it
finds what is not in `NOISE`. What it skips is no finding: mostly what stands in Bicep as an expression.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tools.environments import ROOT, EnvironmentFailed, tool
from tools.package import PackageError, build, unpacked

BESIDE = (".funcignore", "infra")
PYTHONS = ("3.11", "3.12")
OPTIONS = ("--profile", "deploy", "--hosting-plan", "flex-consumption", "--format", "json")
FINE = ("pass", "skip")
SETTINGS = "the settings of the app are made in infra, by expressions that it doesn't read"

NOISE = {
    "check_native_dependency_risk": "Azure installs the dependencies itself, and the lock has wheels for Linux",
    "check_binding_connection_resolution": SETTINGS,
    "check_app_insights": SETTINGS,
}
"""Rules whose findings say nothing about us, each with the reason."""


class Finding(NamedTuple):
    """What a rule says, in one line."""

    rule: str
    text: str


class DoctorError(RuntimeError):
    """The doctor gave no answer; the text is what it said instead."""


def findings() -> list[Finding]:
    """Everything that is not fine, noise included. Raises DoctorError, EnvironmentFailed or PackageError."""
    with TemporaryDirectory() as home, unpacked(build(Path(home))) as folder:
        for name in BESIDE:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name)
            elif source.exists():
                shutil.copy(source, folder)
        return list(dict.fromkeys(each for python in PYTHONS for each in examined(folder, python)))


def examined(folder: Path, python: str) -> list[Finding]:
    """What is not fine about the app in *folder*, to be run by Python *python*. Raises as `findings`."""
    program = tool("doctor") / "bin" / "azure-functions-doctor"
    command = [str(program), "doctor", "--path", str(folder), "--target-python", python, *OPTIONS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    try:
        sections = json.loads(done.stdout)["results"]
    except (ValueError, KeyError) as error:
        raise DoctorError(f"azure-functions-doctor gave no answer: {(done.stderr or done.stdout).strip()}") from error
    items = [item for section in sections for item in section["items"] if item["status"] not in FINE]
    return [Finding(item["rule_id"], " ".join(item["value"].replace(str(folder), "").split())) for item in items]


def main() -> int:
    """Exit code 1 if something was found that is no noise, or nothing could be asked."""
    try:
        found = findings()
    except (DoctorError, EnvironmentFailed, PackageError) as error:
        print(error, file=sys.stderr)
        return 1
    for rule, text in found:
        print(f"noise: {rule}: {NOISE[rule]}" if rule in NOISE else f"{rule}: {text}")
    real = sum(rule not in NOISE for rule, _ in found)
    print(f"azure-functions-doctor: {real} findings besides {len(found) - real} that are noise")
    return int(bool(real))


if __name__ == "__main__":
    sys.exit(main())
