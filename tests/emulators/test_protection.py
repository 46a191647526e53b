"""Dataverse's service protection: real limits per user and web server (dataverse.md §5, §9 item 47)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.emulators.dataverse_caller import Org, refusal, told
from tools.emulators.dataverse.administration import post


def limited(*, cookies: bool = False, **switches: Any) -> Org:
    org = Org(cookies=cookies)
    post(org.state, "switches", switches)
    return org


def test_too_many_requests_in_a_window_are_refused_until_the_first_has_left_it() -> None:
    org = limited(limit_requests=3, limit_window_s=60)
    seen = []
    for _ in range(4):
        response = org.ask()
        seen.append(response.status_code)
        org.state.clock.advance(10)

    assert seen == [200, 200, 200, 429]
    assert refusal(response)[1:] == (
        "0x80072322",
        "Number of requests exceeded the limit of 3 over time window of 60 seconds.",
    )
    assert told(response) == 30
    org.state.clock.advance(20)
    assert org.ask().status_code == 200


def test_a_throttled_caller_that_does_not_wait_is_told_to_wait_longer() -> None:
    org = limited(limit_requests=1, limit_window_s=60)
    org.ask()

    assert [told(org.ask()) for _ in range(3)] == [60, 120, 240]


def test_the_time_that_requests_take_is_limited() -> None:
    org = limited(limit_time_s=100, limit_window_s=300)
    org.plan("slow", seconds=60, times=2)
    seen = [org.ask() for _ in range(3)]

    assert [response.status_code for response in seen] == [200, 200, 429]
    assert refusal(seen[-1])[1] == "0x80072321"
    assert "limit of 100,000 milliseconds" in refusal(seen[-1])[2]
    assert told(seen[-1]) == 240


def test_requests_at_a_time_are_limited() -> None:
    org = limited(limit_concurrency=2)
    inside: list[TestResponse] = []

    def nested(_: float) -> None:
        inside.append(org.ask())

    org.app.sleep = nested
    org.plan("slow", seconds=1, times=2)
    assert org.ask().status_code == 200
    assert [response.status_code for response in inside] == [429, 200]
    assert refusal(inside[0])[1:] == ("0x80072326", "Number of concurrent requests exceeded the limit of 2.")


@pytest.mark.parametrize(("cookies", "through"), [(True, 2), (False, 6)])
def test_limits_are_per_web_server_and_a_cookie_stays_with_one(cookies: bool, through: int) -> None:
    """47."""
    org = limited(cookies=cookies, limit_requests=2, web_servers=3)
    statuses = [org.ask().status_code for _ in range(8)]

    assert statuses == [200] * through + [429] * (8 - through)


def test_the_rate_header_counts_down() -> None:
    org = limited(limit_requests=3)

    assert [int(org.ask().headers["x-ms-ratelimit-burst-remaining-xrm-requests"]) for _ in range(3)] == [2, 1, 0]


def test_parallel_calls_leave_no_load_behind() -> None:
    org = limited(limit_concurrency=8)
    with ThreadPoolExecutor(8) as pool:
        assert {response.status_code for response in pool.map(lambda _: org.ask(), range(64))} == {200}

    assert org.ask().status_code == 200
