"""A whole status, as `flows.status:status` makes it, for what the page makes of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

NOW = datetime.fromisoformat("2026-03-02T08:00:00+00:00")
STATES = ("in step", "waiting", "parked", "held", "gone", "left out", "roles")


def before(**ago: float) -> str:
    return (NOW - timedelta(**ago)).isoformat()


def states(*numbers: int) -> dict[str, int]:
    return dict(zip(STATES, [*numbers, *[0] * len(STATES)], strict=False))


def a_lane(**changes: Any) -> dict[str, Any]:
    pace = {"messages": 0, "records": 0, "records a minute lately": None, "minutes until empty": 0}
    return pace | {"last done": None} | changes


def a_feed(**changes: Any) -> dict[str, Any]:
    return {"mode": "not started", "link taken": None, "seconds": None, "retention days": None} | changes


def an_empty_status(**changes: Any) -> dict[str, Any]:
    """Of a sync that never ran."""
    found: dict[str, Any] = {
        "at": NOW.isoformat(),
        "version": "0.1.0",
        "verdict": {"level": "not in step", "text": "Nothing was read from Dynamics yet: the timer has not run"},
        "alerts": [],
        "oldest change not in Marketo": {"at": None, "seconds": None},
        "last tick": {"at": None, "seconds": None, "read": None},
        "healthy": False,
        "stops": [],
        "removals approved": 0,
        "poison within an hour": 0,
        "opportunities": states(),
        "companies": states(),
        "queues (about)": {"fresh": 0, "slow": 0, "fresh poison": 0, "slow poison": 0, "unreadable": 0},
        "lanes (about)": {"fresh": a_lane(), "slow": a_lane()},
        "backlog": [],
        "feeds": {"opportunity": a_feed()},
        "last runs": {},
        "runs": [],
        "Marketo calls": {
            "used today": 0,
            "our share": 25_000,
            "subscription today": None,
            "subscription's quota": 50_000,
            "counted": None,
        },
        "people missing": {"people": None, "roles": 0, "opportunities": 0, "counted": None},
        "not in step": [],
        "audit": {},
        "probe": {"at": None, "munchkin": None, "answered": 0},
        "warnings": {},
        "actions": [],
        "removals within 24 hours, without approval": {},
        "pair": {},
        "taking over": False,
        "mapping": {"version": "065bd97b"},
        "doubts": [],
        "webhook": "none",
        "needs you": [],
    }
    return found | changes


def a_status(**changes: Any) -> dict[str, Any]:
    """Of a sync on a bad day: everything that the page can show has something in it."""
    minutes = [each for each in range(1435, -1, -5) if not 600 < each < 700]  # nobody watched for a while
    backlog = [[before(minutes=each), each % 7, max(0, 400 - abs(each - 900))] for each in minutes]
    runs = [
        {
            "at": before(minutes=5 * each),
            "what": ("detect", "fresh", "slow")[each % 3],
            "seconds": 1.5 + each,
            "counts": {"handled": 300 * each, "posted": each, "complete": True},
            "trouble": "Marketo: 606, too many calls" if each == 4 else "",
            "trace": f"{each:032x}" if each % 2 else "",
            "freshness": [40.0, 200.5] if each % 3 == 1 else [],
        }
        for each in range(50)
    ]
    found = an_empty_status(
        verdict={"level": "not in step", "text": "Not in step: no tick since 2026-03-02 07:20 UTC"},
        alerts=[
            {"name": "tick-missed", "since": before(minutes=30), "text": "no tick since 2026-03-02 07:20 UTC"},
            {"name": "removals-held", "since": before(hours=3), "text": "200 opportunities with removals that wait"},
        ],
        paused={"since": before(minutes=40), "why": "Marketo is being cleaned up"},
        opportunities=states(123_456, 1_204, 31, 200, 17, 4_000, 187_231),
        companies=states(54_321, 0, 1),
        pair={"organization": "0d0e5e2f-0000-4000-8000-00000000000a", "munchkin": "123-ABC-456", "schema": 2},
        backlog=backlog,
        runs=runs,
        actions=[
            {"at": before(minutes=40), "who": "function key", "what": "paused the sync: Marketo is being cleaned up"}
        ],
    )
    found |= {
        "oldest change not in Marketo": {"at": before(minutes=42), "seconds": 2_520},
        "last tick": {"at": before(minutes=40), "seconds": 2_400, "read": before(minutes=45)},
        "sales persons": states(120),
        "queues (about)": {"fresh": 3, "slow": 41, "fresh poison": 1, "slow poison": 0, "unreadable": 2},
        "lanes (about)": {
            "fresh": a_lane(messages=3, records=420),
            "slow": a_lane(
                messages=41, records=77_900, **{"records a minute lately": 1_250, "minutes until empty": 63}
            ),
        },
        "feeds": {
            "opportunity": a_feed(
                mode="following", **{"link taken": before(minutes=40), "seconds": 2_400, "retention days": 7}
            ),
            "connection": a_feed(mode="following, by modifiedon and a full read a day: change tracking is off"),
        },
        "Marketo calls": {
            "used today": 20_311,
            "our share": 25_000,
            "subscription today": 31_000,
            "subscription's quota": 50_000,
            "counted": before(minutes=12),
        },
        "people missing": {"people": 640, "roles": 702, "opportunities": 655, "counted": before(hours=5)},
        "not in step": [
            {"kind": "opportunity", "state": "waiting", "reason": "a person is missing in Marketo", "count": 1_204},
            {"kind": "opportunity", "state": "held", "reason": "removals held: 200 opportunities", "count": 200},
            {"kind": "opportunity", "state": "parked", "reason": "1003: a value is invalid (name)", "count": 31},
            {"kind": "company", "state": "parked", "reason": "1001: a value is too long (website)", "count": 1},
        ],
        "warnings": {
            "at": before(hours=20),
            "checks": [
                {
                    "group": "Dynamics",
                    "name": "change tracking",
                    "light": "amber",
                    "found": "off for connection",
                    "remedy": "switch it on in the table's properties",
                },
                {"group": "Marketo", "name": "calls", "light": "red", "found": "none left", "remedy": "wait"},
            ],
        },
        "removals within 24 hours, without approval": {"started": before(hours=2), "opportunities": 12, "roles": 3},
        "mapping": {
            "number": 4,
            "version": "065bd97b",
            "new fields": ["stage", "region__c"],
            "left alone": {"opportunity.region__c": "Marketo has no such field"},
        },
        "webhook": "the webhook answered 410",
        "needs you": [
            "200 removals are held: look at `approve-removals`",
            "31 opportunities are parked: `failures list --state parked` says why",
        ],
    }
    return found | changes
