"""Whatever is deployed may be used, and docs/licences.md says under what."""

from __future__ import annotations

import pytest

from tools.licences import PAGE, UnknownLicence, page, said

pytestmark = pytest.mark.timeout(300)  # the first time, packages are downloaded


def test_the_page_says_what_the_packages_say_and_nobody_asks_for_more_than_we_allow() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(said()), "run `make licences`, and read what it changed"


def test_one_licence_has_one_name_and_packages_stand_in_order() -> None:
    rows = page({"b": "MIT License", "A": "Apache Software License; BSD License", "c": "MIT OR Apache-2.0"})

    assert rows.splitlines()[-3:] == ["| A | Apache-2.0; BSD |", "| b | MIT |", "| c | MIT OR Apache-2.0 |"]


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "MIT; GPL-2.0-only", "MIT AND SSPL-1.0", "UNKNOWN", ""])
def test_a_licence_that_nobody_looked_at_is_refused(licence: str) -> None:
    with pytest.raises(UnknownLicence, match="package: "):
        page({"package": licence})
