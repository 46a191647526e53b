"""The activity log: what smart campaigns of marketing would react to (marketo.md §3.2, §3.6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

NEW_PERSON, MERGE, ADDED, REMOVED, UPDATED, DELETED = 12, 32, 34, 35, 36, 37

NAMES = {
    NEW_PERSON: "New Person",
    MERGE: "Merge Leads",
    ADDED: "Add to Opportunity",
    REMOVED: "Remove from Opportunity",
    UPDATED: "Opportunity Updated",
    DELETED: "Delete Lead",
}


@dataclass(frozen=True, slots=True)
class Activity:
    id: int
    at: str
    type: int
    lead_id: int
    subject: str | int
    attributes: dict[str, Any]

    def shown(self) -> dict[str, Any]:
        """As `activities.json` returns it."""
        return {
            "id": self.id,
            "marketoGUID": str(self.id),
            "leadId": self.lead_id,
            "activityDate": self.at,
            "activityTypeId": self.type,
            "primaryAttributeValue": self.subject,
            "attributes": [{"name": name, "value": value} for name, value in self.attributes.items()],
        }


@dataclass(slots=True)
class ActivityLog:
    entries: list[Activity] = field(default_factory=list)

    def add(self, at: str, kind: int, lead_id: int, subject: str | int = "", **attributes: Any) -> None:
        self.entries.append(Activity(len(self.entries) + 1, at, kind, lead_id, subject, attributes))

    def since(self, position: int, kinds: set[int] | None = None) -> Iterator[Activity]:
        """Entries from *position* on, of these types only."""
        for index in range(position, len(self.entries)):
            if kinds is None or self.entries[index].type in kinds:
                yield self.entries[index]

    def position(self, instant: str) -> int:
        """Where the entries of *instant* or later begin."""
        return next((i for i, each in enumerate(self.entries) if each.at >= instant), len(self.entries))
