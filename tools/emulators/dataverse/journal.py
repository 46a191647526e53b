"""What was asked of the emulator, for tests and for whoever wonders."""

from __future__ import annotations

from typing import Any

LONGEST_QUERY = 300
KEPT = 100_000


class Journal:
    """Every request, numbered from 1; the oldest are forgotten."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []
        self._count = 0

    def add(
        self, time: str, method: str, path: str, query: str, status: int, rows: int, *, kind: str = "", fault: str = ""
    ) -> None:
        """*status* 0 is no answer; *fault* is what struck the request."""
        self._count += 1
        shortened = query if len(query) <= LONGEST_QUERY else f"{query[:LONGEST_QUERY]}… ({len(query)} characters)"
        entry = {"n": self._count, "time": time, "method": method, "path": path, "query": shortened}
        self._entries.append({**entry, "status": status, "rows": rows, "kind": kind, "fault": fault})
        if len(self._entries) > KEPT:
            del self._entries[: KEPT // 2]

    def since(self, number: int) -> list[dict[str, Any]]:
        return [entry for entry in self._entries if entry["n"] > number]

    def clear(self) -> None:
        self._entries.clear()
