"""The queries as Microsoft's parser sees them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tools.kql import Checked, check, stored

FAULTY = {
    "a column": ("customMetrics | where nam == 'sync.alert'", "1:23: Error KS142: The name 'nam' does not refer"),
    "an operator": ("traces\n| summarise count()", "2:3: Error KS176: Query operator expected"),
    "a type": ("traces\n| where message", "2:9: Error KS141: The expression must have the type bool"),
    "a column that is gone": ("customMetrics | project value", "1:25: Error KS142: The name 'value' does not refer"),
    "a table": ("customEvents | count", "1:1: Error KS204: The name 'customEvents' does not refer to any known table"),
    "quotes": ("traces\n| where '💡' == “a”", "2:16: Error KS002: Unexpected: “"),
}
"""Queries with a fault, and how the first line about it begins, after the query's name."""


@pytest.fixture(scope="session")
def checked() -> Mapping[str, Checked]:
    """The stored ones, and those of `FAULTY`: starting the parser takes seconds."""
    return check(stored() | {name: query for name, (query, _) in FAULTY.items()})
