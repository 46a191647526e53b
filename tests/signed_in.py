"""Stand-ins for `az` and `azd`: programs on PATH that answer as somebody's sign-in would, and write down the call."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

NOT_SIGNED_IN = {
    "az": "ERROR: Please run 'az login' to setup account.",
    "azd": "ERROR: not logged in, run `azd auth login` to login",
}
PROGRAM = """#!{python}
import json, pathlib, sys, time
here = pathlib.Path(__file__)
said = json.loads(here.with_name(here.name + ".json").read_text())
with here.with_name(here.name + ".log").open("a") as log:
    log.write(json.dumps(sys.argv[1:]) + chr(10))
given = dict(zip(sys.argv[1:], sys.argv[2:]))
tenant = given.get("--tenant") or given.get("--tenant-id") or ""
asked = given.get("--resource") or given["--scope"].removesuffix("/.default")
time.sleep(said["silent_s"])
found = said["tokens"].get(tenant + " " + asked)
if found is None:
    sys.exit(said["error"])
print(found)
"""


class Programs:
    """A folder that is all there is on PATH; at first it is empty."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))
        for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "MSI_SECRET"):
            monkeypatch.delenv(name, raising=False)

    def install(self, name: str, *, error: str = "", silent_s: float = 0) -> None:
        """Nobody is signed in there, or what it says instead."""
        path = self._folder / name
        path.write_text(PROGRAM.format(python=sys.executable))
        path.chmod(0o755)
        said = {"tokens": {}, "error": error or NOT_SIGNED_IN[name], "silent_s": silent_s}
        path.with_name(f"{name}.json").write_text(json.dumps(said))

    def sign_in(self, name: str, resource: str, token: str, *, tenant: str = "", lifetime_s: float = 3600) -> None:
        """From now on it gives this token for *resource*, if it is asked of *tenant*."""
        path = self._folder / f"{name}.json"
        said = json.loads(path.read_text())
        said["tokens"][f"{tenant} {resource}"] = json.dumps(_answer(name, token, int(time.time() + lifetime_s)))
        path.write_text(json.dumps(said))

    def calls(self, name: str) -> list[list[str]]:
        """What it was called with, in order."""
        log = self._folder / f"{name}.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def _answer(name: str, token: str, expires: int) -> dict[str, Any]:
    if name == "az":
        return {"accessToken": token, "expires_on": expires, "tokenType": "Bearer"}
    return {"token": token, "expiresOn": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.localtime(expires))}
