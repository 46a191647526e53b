"""pytest in a process of its own, which finds the large libraries loaded already: most of the time goes into them."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

TEST_S = 20  # a test that hangs on a broken tree has seen it
PRELOADED = [
    *("azure.data.tables", "azure.identity", "azure.storage.queue", "msal", "pydantic", "requests"),
    *("tenacity", "werkzeug.test"),
]

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(PRELOADED)


def pytest(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit code for *tests* in the tree *copy*, and what it printed. Also from several threads at once."""
    output, status = copy.with_suffix(".txt"), copy.with_suffix(".status")
    status.write_text("-1", encoding="utf-8")
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--timeout={TEST_S}"]
    process = _server.Process(target=_run, args=(str(copy), [*options, *tests], str(output), str(status)))
    process.start()
    process.join()
    return int(status.read_text(encoding="utf-8")), output.read_text(encoding="utf-8", errors="replace")


def _run(copy: str, arguments: list[str], output: str, status: str) -> None:
    """In the new process. Its own exit code gets lost when others are started at the same moment."""
    with Path(output).open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(copy)
    sys.path[:] = [copy, *(path for path in sys.path if path not in ("", str(Path(__file__).parents[2])))]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tools"]:
        del sys.modules[name]
    import pytest  # only now: it remembers where it was loaded

    Path(status).write_text(str(int(pytest.main(arguments))), encoding="utf-8")
