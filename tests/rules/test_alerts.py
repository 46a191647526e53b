"""Which conditions are alerts, at their thresholds, and the one line that says whether Marketo is in step."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_core.model import DEFAULT_SCHEDULE
from sync_core.rules.alerts import ALERTS, BEHIND, alerts, verdict

NOW = datetime(2026, 3, 2, 12, 2, tzinfo=UTC)
AUDIT = {"at": "2026-03-01T08:00:00+00:00", "opportunities": 9, "differences": 1, "repaired": False}
FEED = {"mode": "following", "seconds": 120, "retention days": 7}


def ago(**span: float) -> str:
    return (NOW - timedelta(**span)).isoformat(timespec="seconds")


def well() -> dict[str, Any]:
    """The status of a sync that runs and has nothing to do."""
    return {
        "at": ago(),
        "oldest change not in Marketo": {"at": None, "seconds": None},
        "last tick": {"at": ago(minutes=2), "seconds": 120, "read": ago(minutes=2)},
        "stops": [],
        "removals approved": 0,
        "needs you": [],
        "companies": {"parked": 0},
        "poison within an hour": 0,
        "opportunities": {"in step": 370, "waiting": 0, "parked": 0, "held": 0, "gone": 0, "left out": 0, "roles": 400},
        "queues (about)": {"fresh": 0, "slow": 0, "fresh poison": 0, "slow poison": 0, "unreadable": 0},
        "lanes (about)": {
            lane: {"messages": 0, "minutes until empty": 0, "last done": ago(hours=3)} for lane in ("fresh", "slow")
        },
        "backlog": [[ago(minutes=m), 0, 0] for m in range(60, -1, -5)],
        "feeds": {"opportunity": dict(FEED), "connection": dict(FEED)},
        "last runs": {"detect": {"at": ago(minutes=2)}, "fresh": {"at": ago(hours=3)}},
        "runs": [{"at": ago(minutes=2), "what": "detect", "counts": {}}],
        "Marketo calls": {
            "used today": 100,
            "our share": 25_000,
            "subscription today": 9_000,
            "subscription's quota": 50_000,
        },
        "audit": {},
        "mapping": {"version": "m1"},
    }


def on(found: dict[str, Any], *, expires: datetime | None = None, schedule: str = DEFAULT_SCHEDULE) -> dict[str, str]:
    return alerts(found, schedule=schedule, expires=expires)


def with_(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """`a/b` of a status becomes *value*."""

    def change(found: dict[str, Any]) -> None:
        *path, last = place.split("/")
        for name in path:
            found = found[name]
        found[last] = value

    return change


def stopped(kind: str) -> Callable[[dict[str, Any]], None]:
    return with_("stops", [{"trouble": "correct it", "kind": kind, "last": ago(), "well": None}])


def test_a_sync_that_runs_and_has_nothing_to_do_is_well() -> None:
    found = {**well(), "alerts": []}

    assert on(found) == {}
    assert verdict(found) == {
        "level": "in step",
        "text": "In step: what changed in Dynamics until 2026-03-02 12:00 UTC is in Marketo",
    }


@pytest.mark.parametrize(
    ("name", "below", "above"),
    [
        (
            "not-in-step",
            with_("oldest change not in Marketo/at", ago(minutes=15)),
            with_("oldest change not in Marketo/at", ago(minutes=15, seconds=1)),
        ),
        # Due at 11:50 and 11:55; a tick has ten minutes, so that at 12:02 only the one of 11:50 must have been.
        ("tick-missed", with_("last tick/at", ago(minutes=12)), with_("last tick/at", ago(minutes=12, seconds=1))),
        ("removals-held", with_("opportunities/held", 0), with_("opportunities/held", 1)),
        ("poison", with_("queues (about)/unreadable", 1), with_("poison within an hour", 1)),
        (
            "watch-missed",
            with_("backlog", [[ago(minutes=15), 0, 0]]),
            with_("backlog", [[ago(minutes=15, seconds=1), 0, 0]]),
        ),
        (
            "not-in-step",
            with_("feeds/contact", {**FEED, "mode": "reading", "reading since": ago(hours=24)}),
            with_("feeds/contact", {**FEED, "mode": "reading", "reading since": ago(hours=24, seconds=1)}),
        ),
        ("field-suspended", with_("mapping/left alone", {}), with_("mapping/left alone", {"opportunity.x": "gone"})),
        ("audit-differs", with_("audit", {**AUDIT, "repaired": True}), with_("audit", AUDIT)),
        ("audit-differs", with_("audit", {**AUDIT, "differences": 0}), with_("audit", AUDIT)),
        ("budget", with_("Marketo calls/used today", 19_999), with_("Marketo calls/used today", 20_000)),
        (
            "budget",
            with_("Marketo calls/subscription today", 39_999),
            with_("Marketo calls/subscription today", 40_000),
        ),
        ("budget", with_("Marketo calls/subscription today", None), with_("Marketo calls/subscription today", 50_000)),
        (
            "delta-link",
            with_("feeds/connection/seconds", 302_400),
            with_("feeds/connection/seconds", 302_401),
        ),
        (
            "delta-link",
            with_("feeds/connection", {"mode": "following", "seconds": 9e9, "retention days": None}),
            with_("feeds/connection", {"mode": "following", "seconds": 9e9, "retention days": 90}),
        ),
        ("wrong-pair", stopped("CredentialsRefused"), stopped("WrongPair")),
        ("credentials-refused", stopped("ConfigurationError"), stopped("CredentialsRefused")),
        ("stopped", stopped("WrongPair"), stopped("ConfigurationError")),
    ],
)
def test_each_alert_begins_at_its_threshold(name: str, below: Any, above: Any) -> None:
    found = well()
    below(found)
    assert name not in on(found)

    found = well()
    above(found)
    assert list(on(found)) == [name]


@pytest.mark.parametrize(("left", "told"), [(30.0, False), (29.9, True), (-1.0, True)])
def test_credentials_that_expire_within_30_days(left: float, told: bool) -> None:
    assert ("credentials-expire" in on(well(), expires=NOW + timedelta(days=left))) is told


@pytest.mark.parametrize(("place", "lane"), [(1, "fresh"), (2, "slow")])
def test_a_lane_that_stands_still_is_behind_and_one_that_moves_is_not(place: int, lane: str) -> None:
    found = well()
    found["last runs"][lane] = {"trouble": "608"}
    found["lanes (about)"][lane] |= {"messages": 7, "last done": ago(minutes=16)}
    found["backlog"] = [[ago(minutes=m), 7, 7] for m in range(60, -1, -5)]
    assert on(found) == {"not-in-step": f"7 messages in the {lane} lane, and none was done for 15 minutes: 608"}

    found["lanes (about)"][lane]["last done"] = ago(minutes=14)
    assert on(found) == {}

    found["lanes (about)"][lane]["last done"] = None
    assert "not-in-step" in on(found)

    found["backlog"] = [[ago(minutes=16), 0, 0], [ago(minutes=4), 7, 7]]  # they came four minutes ago
    assert on(found) == {}


@pytest.mark.parametrize("samples", [[], [[ago(minutes=10), 0, 0], [ago(), 0, 0]]])
def test_a_timer_that_never_ran_is_missed_once_somebody_has_watched_long_enough(samples: list[Any]) -> None:
    found = well() | {"backlog": samples, "last tick": {"at": None, "seconds": None, "read": None}, "alerts": []}
    assert on(found) == {}
    assert verdict(found)["level"] == "not in step"

    found["backlog"] = [[ago(minutes=20), 0, 0], [ago(), 0, 0]]
    assert on(found) == {"tick-missed": "the timer has never run"}


@pytest.mark.parametrize("schedule", ["every day", "00:05:00", "0 0 0 30 2 *"])
def test_with_a_schedule_that_never_fires_ticks_are_missed_soon(schedule: str) -> None:
    assert on(well(), schedule=schedule) == {}

    found = well()
    found["last tick"]["at"] = ago(minutes=16)

    told = on(found, schedule=schedule)["tick-missed"]
    assert (schedule in told) is (schedule != "0 0 0 30 2 *")


def test_a_schedule_of_once_a_day_is_not_missed_at_noon() -> None:
    found = well()
    found["last tick"]["at"] = ago(hours=10)

    assert on(found, schedule="0 0 2 * * *") == {}
    assert "tick-missed" in on(found, schedule="0 0 11 * * *")


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        (
            {"opportunities/waiting": 6},
            "in step",
            "In step: what changed in Dynamics until 2026-03-02 12:00 UTC is in Marketo",
        ),
        (
            {"oldest change not in Marketo/at": ago(minutes=9)},
            "in step",
            "In step: what changed in Dynamics until 2026-03-02 11:53 UTC is in Marketo",
        ),
        ({"opportunities/parked": 12}, "needs you", "In step, but for what needs you: 12 parked; what changed"),
        ({"opportunities/held": 200}, "needs you", "In step, but for what needs you: 200 held; what changed"),
        ({"companies/parked": 5}, "needs you", "In step, but for what needs you: 5 parked of companies and sales"),
        (
            {"queues (about)/unreadable": 1},
            "needs you",
            "In step, but for what needs you: 1 message not ours; what",
        ),
        ({"mapping/left alone": {"a": "b"}}, "needs you", "In step, but for what needs you: a mapped field"),
        (
            {"lanes (about)/slow/messages": 56, "lanes (about)/slow/minutes until empty": 42},
            "catching up",
            "Catching up: about 56 messages left, empty in 42 minutes; what changes now arrives meanwhile",
        ),
        (
            {"feeds/contact": {**FEED, "mode": "reading"}, "last tick/read": None},
            "catching up",
            "Catching up: contact is read from the start",
        ),
        (
            {"opportunities/held": 9, "removals approved": 9, "opportunities/waiting": 2},
            "in step",
            "In step: what changed in Dynamics until 2026-03-02 12:00 UTC is in Marketo, but for 2 that wait "
            "and 9 approved removals, which go with the next delivery",
        ),
        (
            {"paused": {"since": ago(minutes=3), "why": "cleaning up"}},
            "not in step",
            "Paused since 2026-03-02 11:59 UTC (cleaning up): nothing is sent",
        ),
        ({"paused": {"since": ago(minutes=3), "why": ""}}, "not in step", "Paused since 2026-03-02 11:59 UTC"),
        (
            {"stops": [{"kind": "X", "trouble": "correct it.", "last": ago(minutes=4), "well": None}]},
            "not in step",
            "Not in step: correct it",
        ),
        (
            {"stops": [{"kind": "X", "trouble": "correct it.", "last": ago(minutes=4), "well": ago(minutes=2)}]},
            "not in step",
            "Not in step: correct it (last at 11:58:00 UTC, and well since 12:00:00 UTC: over within six minutes",
        ),
    ],
)
def test_one_line_says_how_it_stands(changes: dict[str, Any], level: str, text: str) -> None:
    found = well()
    for place, value in changes.items():
        with_(place, value)(found)
    found["alerts"] = [{"name": name, "since": ago(), "text": told} for name, told in on(found).items()]
    found["needs you"] = ["x"] if level == "needs you" else []

    assert verdict(found)["level"] == level
    assert verdict(found)["text"].startswith(text)


PLACES = ["oldest change not in Marketo/at", "last tick/at", "last tick/read"]


@given(
    changes=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(PLACES), st.sampled_from([None, ago(), ago(minutes=20), ago(days=400)])),
            st.tuples(
                st.sampled_from([f"opportunities/{s}" for s in ("waiting", "parked", "held")]), st.integers(0, 9)
            ),
            st.tuples(st.just("paused"), st.just({"since": ago(minutes=9), "why": "x"})),
            st.tuples(st.just("stops"), st.just([{"trouble": "t", "kind": "X", "last": ago(), "well": None}])),
            st.tuples(st.just("needs you"), st.just(["something"])),
            st.tuples(st.just("feeds/contact"), st.just({**FEED, "mode": "overlap"})),
        )
    )
)
def test_whatever_is_the_matter_there_is_one_line_and_only_known_alerts(changes: list[tuple[str, Any]]) -> None:
    found = deepcopy(well())
    for place, value in changes:
        with_(place, value)(found)

    told = on(found)
    found["alerts"] = [{"name": name, "since": ago(), "text": text} for name, text in told.items()]
    said = verdict(found)

    assert list(told) == [name for name in ALERTS if name in told]
    assert all(told.values())
    assert "\n" not in said["text"]
    assert said["text"]
    assert (said["level"] == "not in step") or not (BEHIND & told.keys())
