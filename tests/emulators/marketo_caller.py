"""A caller of the Marketo emulator in the same process, for the tests of its faults."""

from __future__ import annotations

from typing import Any

from werkzeug.test import Client as Caller

from tools.emulators.marketo.identity import Client
from tools.emulators.marketo.state import MarketoState
from tools.emulators.marketo.web import MarketoApp

START = "2026-03-02T12:00:00Z"
OPPORTUNITIES = "/rest/v1/opportunities.json"
LEADS = "/rest/v1/leads.json"
USAGE = "/rest/v1/stats/usage.json"


class Api:
    """A caller in the same process."""

    def __init__(self, **options: Any) -> None:
        self.state = MarketoState(**{"start": START, "frozen": True, **options})
        self.app = MarketoApp(self.state)
        self.caller = Caller(self.app)
        self.sign_in()

    def sign_in(self) -> None:
        client = Client()
        asked = {"grant_type": "client_credentials", "client_id": client.id, "client_secret": client.secret}
        self.token = self.caller.post("/identity/oauth/token", data=asked).json["access_token"]  # type: ignore[index]

    def plan(self, fault: str, **rule: Any) -> None:
        self.app.faults.set({"seed": 5, "rules": [{"fault": fault, **rule}]})

    def get(self, path: str = USAGE) -> Any:
        return self.caller.get(path, headers={"Authorization": f"Bearer {self.token}"}).json

    def post(self, path: str, *records: dict[str, Any]) -> Any:
        return self.caller.post(path, json={"input": list(records)}, headers={"Authorization": f"Bearer {self.token}"})

    def write(self, *names: str) -> Any:
        return self.post(OPPORTUNITIES, *({"externalOpportunityId": name, "name": name} for name in names)).json

    def names(self) -> list[str]:
        return [row["externalOpportunityId"] for row in self.state.rows("opportunities")]

    @property
    def entry(self) -> Any:
        return self.state.journal.entries[-1]


def code(answer: Any) -> str:
    """The one code that an answer failed with."""
    assert answer["success"] is False
    assert "result" not in answer
    return str(answer["errors"][0]["code"])
