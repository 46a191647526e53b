"""A caller of the Dataverse emulator in the same process, for the tests of its faults and limits."""

from __future__ import annotations

from typing import Any

from werkzeug.test import Client as Caller
from werkzeug.test import TestResponse

from tools.emulators.dataverse import saving
from tools.emulators.dataverse.identity import issue
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.web import DataverseApp

START = "2026-03-02T12:00:00Z"
BASE = "https://localhost:1"
API = "/api/data/v9.2/"
TRACK = "odata.track-changes"


class Org:
    """A caller in the same process; *cookies* keeps it with one web server."""

    def __init__(self, *, cookies: bool = False, **options: Any) -> None:
        self.state = DataverseState(**{"start": START, **options})
        self.app = DataverseApp(self.state)
        self.caller = Caller(self.app, use_cookies=cookies)
        self.token = issue(self.state, BASE, BASE)

    def ask(self, path: str = "WhoAmI", prefer: str = "", *, method: str = "GET", **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.token}", "Prefer": prefer, **options.pop("headers", {})}
        path = path if path.startswith(BASE) else API + path
        return self.caller.open(path, method=method, base_url=BASE, headers=headers, **options)

    def get(self, path: str, prefer: str = "") -> Any:
        response = self.ask(path, prefer)
        assert response.status_code == 200, response.text
        return response.json

    def plan(self, fault: str, **rule: Any) -> None:
        self.app.faults.set({"seed": 5, "rules": [{"fault": fault, **rule}]})

    def make(self, name: str) -> str:
        return str(saving.create(self.state, "account", {"name": name})["accountid"])


def told(response: TestResponse) -> int | None:
    seconds = response.headers.get("Retry-After")
    return None if seconds is None else int(seconds)


def refusal(response: TestResponse) -> tuple[int, str, str]:
    error = response.json["error"]  # type: ignore[index]
    return response.status_code, error["code"], error["message"]
