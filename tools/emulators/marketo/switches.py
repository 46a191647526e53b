"""Everything about the emulated subscription that can be set while it runs.

The defaults are what was recorded or documented; where no source tells (marketo.md §6.1, U1-U18), the default of
that table, with its alternatives behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


def choice(default: str, *alternatives: str) -> Any:
    """A field that accepts its default or one of the alternatives."""
    return field(default=default, metadata={"choices": (default, *alternatives)})


@dataclass(slots=True)
class Switches:
    """Field by field what `/admin/switches` shows and takes."""

    # Open questions, in the order of marketo.md §6.1
    role_unknown_lead: str = choice("1004", "1013", "accepted")  # U1
    role_unknown_opportunity: str = choice("1013", "accepted")  # U2
    unknown_company: str = choice("1013", "accepted")  # U3
    unknown_sales_person: str = choice("1013", "accepted")  # U4
    too_long: str = choice("1003", "truncated", "1001")  # U5
    too_many_records: str = choice("1003", "accepted")  # U6
    too_many_filter_values: str = choice("1003", "accepted")  # U6
    duplicate_keys: str = choice("later", "all")  # U7
    roles_of_merged_lead: str = choice("winner", "orphaned")  # U8
    role_merged_lead: str = choice("unknown", "winner")  # U9
    absent_name: str = choice("accepted", "1002")  # U10
    unknown_field: str = choice("record", "request")  # U11
    type_mismatch: str = choice("1003", "1001")  # U12
    large_batch_size: str = choice("clamped", "1003")  # U13
    empty_input: str = choice("1003", "accepted")  # U14
    refused_calls_count: bool = True  # U15
    null_company: str = choice("cleared", "unchanged")  # U16
    noop_logs_update: bool = False  # U17
    recreation_logs_added: bool = True  # U18

    # Where sources disagree, or an instance may be configured differently
    missing_token: str = choice("603", "600")
    tokens_of_deleted_services: str = choice("die", "live_on")  # no source tells
    token_in_query: bool = False
    read_only_fields: str = choice("rejected", "ignored")
    documented_lengths: bool = False
    currency_32bit: bool = False
    roles_of_deleted_lead: str = choice("removed", "orphaned")
    lead_trailing_page: bool = False
    result_order: str = choice("reversed", "input", "shuffled")
    visible_after: float = 0.0
    native_crm_sync: bool = False
    native_crm_roles: str = choice("read-only", "unavailable")
    permissions: dict[str, list[str]] = field(default_factory=dict)  # client id -> names; absent = everything

    # Limits, and the share that other integrations use up
    token_lifetime: float = 3600
    rate_limit: int = 100
    rate_window: float = 20
    concurrency: int = 10
    daily_quota: int = 50_000
    quota_reset: str = "06:00Z"  # or the name of a time zone, whose midnight counts
    background_calls: int = 0
    background_in_flight: int = 0
    background_daily: int = 0
    latency: float | dict[str, float] = 0.0

    def set(self, values: Mapping[str, Any]) -> None:
        """Change several at once, or none when a name or value is unknown."""
        for name, value in values.items():
            self._check(name, value)
        for name, value in values.items():
            setattr(self, name, value)

    def _check(self, name: str, value: Any) -> None:
        known = {each.name: each for each in fields(self)}
        if name not in known:
            raise ValueError(f"no switch {name!r}; there are {', '.join(known)}")
        choices = known[name].metadata.get("choices")
        if choices and value not in choices:
            raise ValueError(f"{name} is one of {', '.join(choices)}")
        if isinstance(known[name].default, bool) and not isinstance(value, bool):
            raise TypeError(f"{name} is true or false")

    def delay(self, kind: str) -> float:
        """Seconds to wait before a call of this kind (identity, read, write, describe, usage)."""
        return self.latency.get(kind, 0.0) if isinstance(self.latency, dict) else self.latency
