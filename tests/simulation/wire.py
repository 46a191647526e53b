"""What the clients take for an HTTP session: a WSGI application, with a step before and after each request."""

from __future__ import annotations

import random
from typing import Any

import requests

from tests.fakes import FakeClock
from tests.simulation.steps import Stepper
from tests.wsgi import call

TOLD_LATER, TOLD_NEVER = "1029", "1003"
READS = ("606", "615", "608", "713", "719", "602", "601", "603", "reset", "truncated", "empty", "html", "slow")
WRITES = ("lost", "late", "lost_604", "late_604", "lost html", "skip", "611", "604", "606", "reset", "reset_mid_body")
DATAVERSE = ("429_requests", "429_time", "503", "401", "html", "reset", "truncated", "reset_mid_body", "empty", "slow")
LASTING = ("606", "608", "html", "429_requests", "503")


class Wire:
    """The part of `requests.Session` that `Transport` uses; quicker than one, and never compressed."""

    def __init__(self, name: str, app: Any, stepper: Stepper, clock: FakeClock) -> None:
        self.name, self.app, self.stepper, self.clock = name, app, stepper, clock

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        asked = requests.Request(method, url, headers=dict(options["headers"] or {}))
        options["auth"](asked)
        if "/identity/" in url:  # asked for under a lock: nobody stands still there
            return self._sent(asked, options)
        write = method == "POST" and "_method=GET" not in url
        self.stepper.step(f"{self.name} {'write' if write else 'read'} …")
        answer = self._sent(asked, options)
        self.stepper.step(f"{self.name} {'write' if write else 'read'}")
        return answer

    def _sent(self, asked: requests.Request, options: Any) -> requests.Response:
        started = self.clock.monotonic()
        try:
            status, headers, pieces = call(self.app, asked.method, asked.url, asked.headers, options["data"])
            body = b"".join(pieces)
        except ConnectionResetError as error:
            raise requests.ConnectionError(error) from None
        if self.clock.monotonic() - started > options["timeout"][1]:
            raise requests.ReadTimeout
        found = requests.Response()
        found.status_code = status
        found.headers.update(dict(headers))
        found._content, found._content_consumed = body, True
        return found


def rules(service: str, chance: random.Random, longest_late: float) -> tuple[str, list[dict[str, Any]]]:
    """What it is called, and a fault plan with one fault of *service*: Marketo's reads or writes, or Dataverse."""
    kind = chance.choice({"reads": READS, "writes": WRITES, "Dataverse": DATAVERSE}[service])
    rule: dict[str, Any] = {"fault": kind.split()[-1], "on": {"kind": "write"} if service == "writes" else {}}
    if kind in LASTING and chance.random() < 0.3:
        rule["rate"] = chance.choice((0.5, 1.0))
    else:
        rule["times"] = 1 if kind == "401" else chance.randint(1, 3)
    if kind.startswith("late"):
        rule["seconds"] = chance.choice((1, 60, longest_late - 1, chance.uniform(1, longest_late - 1)))
    elif kind == "lost html":
        rule["handled"] = True
    elif kind == "slow":
        rule["seconds"] = chance.choice((20, 60, 130))
    elif kind == "skip":
        rule |= {"code": TOLD_LATER, "share": chance.choice((0.3, 1.0))}
    elif kind.startswith("429"):
        rule["retry_after"] = chance.choice((5, 10, 300))
    return f"{kind} {'for a while' if 'rate' in rule else rule['times']}", [rule]
