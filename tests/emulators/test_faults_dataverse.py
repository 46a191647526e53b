"""Dataverse's own faults (dataverse.md §5, §9 items 44-48, by number below)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.emulators.dataverse_caller import BASE, TRACK, Org, refusal, told
from tools.emulators.dataverse.faults import CATALOGUE
from tools.emulators.dataverse.identity import issue

MESSAGES = {
    "429_requests": (
        "0x80072322",
        "Number of requests exceeded the limit of 6000 over time window of 300 seconds.",
    ),
    "429_time": (
        "0x80072321",
        "Combined execution time of incoming requests exceeded limit of 1,200,000 milliseconds over time window of "
        "300 seconds. Decrease number of concurrent requests or reduce the duration of requests and try again later.",
    ),
    "429_concurrency": ("0x80072326", "Number of concurrent requests exceeded the limit of 52."),
}


@pytest.fixture
def org() -> Org:
    return Org()


@pytest.mark.parametrize("fault", MESSAGES)
def test_each_limit_has_its_code_and_its_words(org: Org, fault: str) -> None:
    """45."""
    org.plan(fault, retry_after=17)
    response = org.ask()

    assert refusal(response) == (429, *MESSAGES[fault])
    assert told(response) == 17


@pytest.mark.parametrize(
    ("fault", "limit", "words"),
    [
        ("429_requests", 8000, "limit of 8000 over"),
        ("429_time", 600_000, "limit of 600,000 milliseconds"),
        ("429_concurrency", 104, "limit of 104."),
    ],
)
def test_an_organization_may_have_other_numbers(org: Org, fault: str, limit: int, words: str) -> None:
    """45."""
    org.plan(fault, limit=limit)

    assert words in refusal(org.ask())[2]


def test_who_comes_back_too_early_is_told_to_wait_longer(org: Org) -> None:
    """45."""
    org.plan("429_requests", retry_after=10)
    seen = [told(org.ask()) for _ in range(3)]
    org.state.clock.advance(40)
    seen.append(told(org.ask()))

    assert seen == [10, 20, 40, 10]


@pytest.mark.parametrize("fault", [*MESSAGES, "503"])
@pytest.mark.parametrize("seconds", [None, 7])
def test_retry_after_may_be_missing(org: Org, fault: str, seconds: int | None) -> None:
    """46."""
    org.plan(fault, retry_after=seconds)
    response = org.ask()

    assert (response.status_code, told(response)) == (int(fault[:3]), seconds)


def test_a_whole_batch_is_refused_as_plain_json(org: Org) -> None:
    """44: and nothing but a batch is."""
    org.plan("429")
    response = org.ask("$batch", method="POST", data=b"", content_type="multipart/mixed; boundary=b")

    assert refusal(response)[:2] == (429, "0x80072322")
    assert response.mimetype == "application/json"
    assert org.ask().status_code == 200


def test_a_token_may_die_between_two_pages_and_the_next_link_goes_on_with_a_new_one(org: Org) -> None:
    """48."""
    for number in range(4):
        org.make(str(number))
    first = org.get("accounts?$select=name", f"{TRACK},odata.maxpagesize=2")
    org.plan("401", times=1, on={"kind": "tracked"})
    refused = org.ask(first["@odata.nextLink"])

    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert org.ask(first["@odata.nextLink"]).status_code == 401  # the old token stays dead
    org.token = issue(org.state, BASE, BASE)
    assert "@odata.deltaLink" in org.get(first["@odata.nextLink"])


def test_a_token_may_be_refused_only_once(org: Org) -> None:
    org.plan("401", times=1, dropped=False)

    assert [org.ask().status_code for _ in range(2)] == [401, 200]


def test_a_slow_answer_moves_the_frozen_clock(org: Org) -> None:
    org.plan("slow", seconds=130, on={"path": "WhoAmI"})
    org.ask()

    assert org.state.now() == "2026-03-02T12:02:10Z"


LINK = "accounts?$skiptoken=%3Ccookie%20pagenumber=%222%22%20pagingcookie=%22x%22%20istracking=%22True%22%20/%3E"


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("tracked", lambda org: org.ask("accounts", TRACK)),
        ("tracked", lambda org: org.ask("accounts?$deltatoken=1%21x")),
        ("tracked", lambda org: org.ask(LINK)),
        ("read", lambda org: org.ask("accounts")),
        ("read", lambda org: org.ask(LINK.replace("True", "False"))),
        ("metadata", lambda org: org.ask("EntityDefinitions")),
        ("metadata", lambda org: org.ask("WhoAmI")),
        ("batch", lambda org: org.ask("$batch", method="POST")),
        ("token", lambda org: org.caller.post("/t/oauth2/v2.0/token")),
        ("token", lambda org: org.caller.get("/msi/token")),
        ("other", lambda org: org.caller.get("/elsewhere")),
    ],
)
def test_rules_tell_requests_apart_by_kind(org: Org, kind: str, call: Callable[[Org], Any]) -> None:
    org.plan("status", status=418, on={"kind": kind})

    assert call(org).status_code == 418
    (entry,) = org.app.journal.since(0)
    assert (entry["kind"], entry["fault"], entry["status"]) == (kind, "status", 418)


def test_every_fault_is_tried_here_or_on_the_wire() -> None:
    wire = {"slow", "reset", "reset_mid_body", "html", "status", "truncated", "empty"}

    assert set(CATALOGUE) == wire | {*MESSAGES, "429", "503", "401"}
