"""The queries of infra/queries: syntax, names and types, by Microsoft's own parser of Kusto.

    python -m tools.kql install     # the parser, from npm into .infra/kql/, once
    python -m tools.kql             # check every query; exit code 1 and a line for each fault

It runs on the Node.js that `tools.node` finds, asks nobody, and knows the tables of Application Insights by `TABLES`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.node import NodeError, any_node, npm_install

ROOT = Path(__file__).resolve().parent.parent
QUERIES = ROOT / "infra" / "queries"
HOME = ROOT / ".infra" / "kql"
NAME, VERSION = "@kusto/language-service-next", "12.4.1"
PROGRAM = Path(__file__).with_suffix(".cjs")

_ALL = (
    "timestamp: datetime, itemType: string, customDimensions: dynamic, operation_Name: string, operation_Id: string, "
    "operation_ParentId: string, cloud_RoleName: string, cloud_RoleInstance: string, appId: string, appName: string, "
    "sdkVersion: string, itemId: string"
)
_CALL = "id: string, name: string, success: string, resultCode: string, duration: real, itemCount: int"
TABLES: Mapping[str, str] = {
    "customMetrics": f"({_ALL}, name: string, valueCount: int, valueSum: real, valueMin: real, valueMax: real)",
    "traces": f"({_ALL}, message: string, severityLevel: int, itemCount: int)",
    "exceptions": f"({_ALL}, problemId: string, type: string, outerType: string, outerMessage: string, "
    "innermostMessage: string, severityLevel: int, details: dynamic, itemCount: int)",
    "requests": f"({_ALL}, {_CALL}, source: string, url: string)",
    "dependencies": f"({_ALL}, {_CALL}, target: string, type: string, data: string)",
}
"""Columns by Microsoft's “Workspace-based Application Insights resources”, where each stands beside its new name.
Left out is `value` of customMetrics, which the workspace behind has no column for."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One query: `problems` as lines with the place, `columns` of its result, name and type."""

    problems: list[str]
    columns: list[tuple[str, str]]


def install() -> bool:
    """Install the parser; False when it was there already. Raises NodeError."""
    HOME.parent.mkdir(exist_ok=True)
    return npm_install(any_node(), HOME, {NAME: VERSION})


def stored() -> dict[str, str]:
    """Every query of the repository, by its file's name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(QUERIES.glob("*.kql"))}


def check(queries: Mapping[str, str]) -> dict[str, Checked]:
    """What the parser says of each. Raises NodeError where it can't be had."""
    install()
    asked = json.dumps({"tables": TABLES, "queries": queries})
    command = [*any_node().node, str(PROGRAM), str(HOME / "node_modules" / NAME)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        raise NodeError(f"The Kusto parser failed:\n{done.stderr}")
    return {
        name: Checked(
            [f"{name}:{_place(queries[name], start)}: {text}" for start, text in found["problems"]],
            [(column, kind) for column, kind in found["columns"]],
        )
        for name, found in json.loads(done.stdout).items()
    }


def _place(text: str, start: int) -> str:
    """`line:column` of an offset, which counts as JavaScript does: in units of UTF-16."""
    before = text.encode("utf-16-le")[: 2 * start].decode("utf-16-le").split("\n")
    return f"{len(before)}:{len(before[-1]) + 1}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.kql", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", nargs="?", choices=["install"], help="only install the parser")
    arguments = parser.parse_args()
    try:
        if arguments.command == "install":
            print("Kusto parser installed." if install() else "Kusto parser is there.")
            return 0
        found = check(stored())
    except NodeError as error:
        print(error, file=sys.stderr)
        return 1
    problems = [line for each in found.values() for line in each.problems]
    print("\n".join(problems) or f"{len(found)} queries, no fault.")
    return 1 if problems or not found else 0


if __name__ == "__main__":
    sys.exit(main())
