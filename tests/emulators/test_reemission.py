"""Which changed rows a delta lists again, by the switch `reemit` (dataverse.md §9 item 32, §12 question 6)."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.emulators.dataverse_caller import TRACK, Org
from tools.emulators.dataverse import saving
from tools.emulators.dataverse.administration import post


@pytest.fixture
def choosy() -> tuple[Org, str]:
    org = Org()
    post(org.state, "switches", {"reemit": "selected"})
    return org, org.make("Contoso")


def delta(org: Org, link: str) -> list[str]:
    return [row.get("accountid", "") for row in org.get(link)["value"]]


def test_a_row_may_come_again_only_if_a_selected_column_changed(choosy: tuple[Org, str]) -> None:
    """32, and §12 question 6."""
    org, account = choosy
    link = org.get("accounts?$select=name", TRACK)["@odata.deltaLink"]
    saving.update(org.state, "account", account, {"websiteurl": "https://www.example.test"})
    assert delta(org, link) == []

    saving.update(org.state, "account", account, {"name": "Fabrikam"})
    saving.update(org.state, "account", account, {"websiteurl": "https://example.test"})
    assert delta(org, link) == [account]


@pytest.mark.parametrize("select", ["?$select=websiteurl", "?$select=versionnumber", "?$select=*", ""])
def test_whoever_selects_what_changed_sees_it(choosy: tuple[Org, str], select: str) -> None:
    org, account = choosy
    link = org.get(f"accounts{select}", TRACK)["@odata.deltaLink"]
    saving.update(org.state, "account", account, {"websiteurl": "https://www.example.test"})

    assert delta(org, link) == [account]


def test_a_new_row_comes_whatever_was_changed_after(choosy: tuple[Org, str]) -> None:
    org, _ = choosy
    link = org.get("accounts?$select=name", TRACK)["@odata.deltaLink"]
    made = org.make("Fabrikam")
    saving.update(org.state, "account", made, {"websiteurl": "https://www.example.test"})

    assert delta(org, link) == [made]


def test_a_change_that_was_rolled_back_is_none(choosy: tuple[Org, str]) -> None:
    org, account = choosy
    link = org.get("accounts?$select=name", TRACK)["@odata.deltaLink"]
    saving.update(org.state, "account", account, {"websiteurl": "https://example.test"})
    with suppress(RuntimeError), org.state.transaction():
        saving.update(org.state, "account", account, {"name": "Fabrikam"})
        raise RuntimeError
    saving.update(org.state, "account", account, {"websiteurl": "https://www.example.test"})

    assert delta(org, link) == []
