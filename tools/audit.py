"""Ask the advisory database about every installed package: `python -m tools.audit`.

Exit code 1 if one of them has a known vulnerability. Without the database nothing is known and nothing fails; the
output then begins with SKIPPED, so that nobody takes it for a good result.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import requests

DATABASE = "https://pypi.org/pypi/requests/2.19.0/json"
"""Where pip-audit looks: PyPI's JSON API by version. This version has known vulnerabilities; mirrors know of none."""

PATIENCE_S = 5
LONGEST_S = 120
PIP_AUDIT = [sys.executable, "-m", "pip_audit", "--local", "--progress-spinner=off", "--format=json"]


def unreachable(address: str = DATABASE) -> str:
    """Why there are no advisories to be had; empty if there are."""
    try:
        answer = requests.get(address, timeout=PATIENCE_S)
        known = answer.ok and bool(answer.json().get("vulnerabilities"))
    except (requests.RequestException, ValueError) as error:
        return type(error).__name__
    return "" if known else f"HTTP {answer.status_code} without advisories"


def told(report: dict[str, Any]) -> tuple[int, list[str]]:
    """Exit code and lines for pip-audit's *report*; a package it could not ask about is named."""
    packages = report["dependencies"]
    skipped = [package for package in packages if "skip_reason" in package]
    lines = [f"not audited: {package['name']}: {package['skip_reason']}" for package in skipped]
    found = [(package, each) for package in packages for each in package.get("vulns", ())]
    for package, each in found:
        fixed = ", ".join(each["fix_versions"]) or "no version yet"
        lines.append(f"{package['name']} {package['version']}: {each['id']}, fixed in {fixed}")
    audited = len(packages) - len(skipped)
    if not audited:
        return 0, ["SKIPPED: the dependency audit: no package could be asked about", *lines]
    return int(bool(found)), [*lines, f"{audited} packages audited, {len(found)} known vulnerabilities"]


def main() -> int:
    if reason := unreachable():
        print(f"SKIPPED: the dependency audit: the advisory database of PyPI can't be reached ({reason})")
        return 0
    try:
        done = subprocess.run(PIP_AUDIT, capture_output=True, text=True, timeout=LONGEST_S, check=False)  # noqa: S603 - ours
    except subprocess.TimeoutExpired:
        print(f"SKIPPED: the dependency audit: no answer within {LONGEST_S} s")
        return 0
    try:
        code, lines = told(json.loads(done.stdout))
    except (ValueError, KeyError):
        code, lines = 1, ["the dependency audit failed:", done.stderr.strip()[-2_000:]]
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
