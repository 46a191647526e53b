"""A log line is a name and fields, in its text and in its record."""

from __future__ import annotations

import logging

import pytest

from sync_core import events


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="sync_core")
    return caplog


def test_the_text_holds_what_the_fields_hold(log: pytest.LogCaptureFixture) -> None:
    events.info("tick.done", **{"opportunities posted": 3, "complete": True, "codes": ["606", "615"], "seconds": 1.5})

    [record] = log.records
    assert (record.name, record.levelname) == ("sync_core", "INFO")
    assert record.getMessage() == "tick.done opportunities_posted=3 complete=True codes=606,615 seconds=1.5"
    assert {name: getattr(record, name) for name in ("event", "opportunities_posted", "complete", "codes")} == {
        "event": "tick.done",
        "opportunities_posted": 3,
        "complete": True,
        "codes": "606,615",
    }


def test_a_text_that_a_blank_would_not_end_stands_in_quotes(log: pytest.LogCaptureFixture) -> None:
    events.warning("delivery.put_back", reason='Marketo said "no"\nand hung up', lane="fresh")

    assert log.records[0].getMessage() == 'delivery.put_back reason="Marketo said \\"no\\"\\nand hung up" lane=fresh'
    assert vars(log.records[0])["reason"] == 'Marketo said "no"\nand hung up'


def test_what_is_empty_is_left_out_and_zero_is_not(log: pytest.LogCaptureFixture) -> None:
    events.error("an.event", none=None, text="", codes=[], zero=0, no=False)

    assert log.records[0].getMessage() == "an.event zero=0 no=False"


def test_per_cent_signs_are_text(log: pytest.LogCaptureFixture) -> None:
    events.debug("an.event", reason="100%s")

    assert log.records[0].getMessage() == "an.event reason=100%s"
