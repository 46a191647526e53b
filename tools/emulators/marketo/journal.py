"""What was called, when, by whom and with what outcome: tests and benchmarks count here."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

WINDOW = 20


@dataclass(slots=True)
class Entry:
    """One call. *time* is the emulator's clock at its arrival, *end* when Marketo was through with it.

    *in_flight* counts this call and those it met. *executed*: its work was done (at *executed_at*), whatever the
    caller was told; *late* marks a write put off beyond its call. *fault* is what struck it; *query* shows no token.
    """

    sequence: int
    time: float
    method: str
    path: str
    query: str = ""
    endpoint: str = ""
    kind: str = "refused"
    client: str = ""
    user: str = ""
    status: int = 0  # 0: no answer
    codes: list[str] = field(default_factory=list)
    records: int = 0
    filter_values: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    in_flight: int = 0
    token_in_url: bool = False
    end: float | None = None
    executed: bool = False
    executed_at: float | None = None
    late: bool = False
    fault: str = ""

    def outcome(self, answer: dict[str, Any]) -> None:
        """Adds the codes of an answer, and takes its record statuses if it has any."""
        items = [each for each in answer.get("result", ()) if isinstance(each, dict) and "status" in each]
        reasons = [reason for each in items for reason in each.get("reasons", ())]
        if items:
            self.statuses = dict(Counter(each["status"] for each in items))
        self.codes = sorted({*self.codes, *(each["code"] for each in [*answer.get("errors", ()), *reasons])})


class Journal:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._sequence = 0

    def open(self, time: float, method: str, path: str) -> Entry:
        self._sequence += 1
        entry = Entry(self._sequence, time, method, path, endpoint=f"{method} {path}")
        self.entries.append(entry)
        return entry

    def clear(self) -> None:
        self.entries = []

    def since(self, sequence: int) -> list[dict[str, Any]]:
        return [asdict(entry) for entry in self.entries if entry.sequence > sequence]

    def summary(self) -> dict[str, Any]:
        """Counts by endpoint, kind and code; identity calls are apart in `identity`."""
        calls = [entry for entry in self.entries if entry.kind != "identity"]
        statuses = sum((Counter(entry.statuses) for entry in calls), Counter())
        return {
            "total": len(calls),
            "identity": len(self.entries) - len(calls),
            "by_endpoint": dict(Counter(entry.endpoint for entry in self.entries)),
            "by_kind": dict(Counter(entry.kind for entry in self.entries)),
            "by_code": dict(Counter(code for entry in calls for code in entry.codes)),
            "statuses": dict(statuses),
            "records_written": statuses["created"] + statuses["updated"] + statuses["deleted"],
            "max_in_window": busiest(sorted(entry.time for entry in calls)),
            "max_in_flight": max((entry.in_flight for entry in calls), default=0),
        }


def busiest(times: Iterable[float]) -> int:
    """The most calls within any 20 seconds."""
    window: deque[float] = deque()
    most = 0
    for time in times:
        window.append(time)
        while window[0] <= time - WINDOW:
            window.popleft()
        most = max(most, len(window))
    return most
