"""One request to the Web API and its answer, without sockets (dataverse.md §2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tools.emulators.dataverse.errors import bad_request
from tools.emulators.dataverse.queries import Preferences, parse_prefer
from tools.emulators.dataverse.schema import Table

API = "/api/data/v9.2/"
ROW = re.compile(r"(\w+)\(([^)]*)\)")
GUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the Web API. *path* is what follows the version; *base* is `https://host[:port]`."""

    method: str
    base: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case
    body: bytes = b""

    @property
    def root(self) -> str:
        return self.base + API

    @property
    def options(self) -> dict[str, str]:
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def preferences(self) -> Preferences:
        return parse_prefer(self.headers.get("prefer", ""))


@dataclass(frozen=True, slots=True)
class Answer:
    """*body* is JSON to be, or bytes as they are; *rows* is for the journal."""

    status: int
    body: dict[str, Any] | bytes | None
    headers: dict[str, str] = field(default_factory=dict)
    rows: int = 0


def key_of(table: Table, key: str) -> str:
    """The id that stands in the brackets of a row's address."""
    if not GUID.fullmatch(key):
        raise bad_request(
            f"The specified key attributes are not a defined key for the {table.name} entity", "0x80060890"
        )
    return key.lower()


def applied(preferences: Preferences) -> dict[str, str]:
    found = preferences.applied()
    return {"Preference-Applied": found} if found else {}
