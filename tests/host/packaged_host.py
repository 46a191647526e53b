"""The local host in a Python that has no more than requirements.txt names; runs as a program of its own.

    PYTHON -I packaged_host.py BORROWED_PACKAGES ARGUMENTS OF tools.local_host

What the host itself needs besides is borrowed from the folder BORROWED_PACKAGES and from this repository while it is
imported, and then forgotten: the app finds only its own files, what is installed for it, and Python's own modules.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def borrowed(folders: list[str], name: str) -> object:
    """The module *name* with all that it needs, which nobody else finds afterwards."""
    own = set(sys.modules)
    sys.path.extend(folders)
    found = import_module(name)
    sys.path[-len(folders) :] = []
    installed = Path(sys.prefix).as_posix()
    for each in set(sys.modules) - own:
        origin = getattr(sys.modules[each], "__file__", None) or ""
        if origin.startswith(tuple(folders)) and not origin.startswith(installed):
            del sys.modules[each]
    return found


if __name__ == "__main__":
    host = borrowed([sys.argv.pop(1), str(REPOSITORY)], "tools.local_host")
    sys.exit(host.main())  # type: ignore[attr-defined]
