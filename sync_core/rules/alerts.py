"""When somebody must be told: the one place that says which conditions are alerts. Pure.

Each name has a heading in docs/operations.md, which tells how to look and how to mend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from sync_core.rules.schedule import last_due
from sync_core.rules.words import counted

ALERTS: Mapping[str, str] = {
    "not-in-step": "a change in Dynamics is not in Marketo after 15 minutes",
    "tick-missed": "the timer did not look for changes when it should have",
    "wrong-pair": "the settings lead to another organization or subscription than the state belongs to",
    "credentials-refused": "Dynamics, Marketo or the storage account refuses our credentials",
    "stopped": "a setting, a permission or the mapping must be corrected before anything goes on",
    "removals-held": "more removals than pass without approval",
    "poison": "messages failed again and again, within the last hour",
    "field-suspended": "a mapped field can't be filled and is left alone",
    "budget": "80 % of the Marketo calls of the day are used",
    "delta-link": "a delta link is past half its life",
    "credentials-expire": "a secret or certificate expires within 30 days",
}
BEHIND = frozenset({"not-in-step", "tick-missed", "wrong-pair", "credentials-refused", "stopped"})
"""Alerts with which Marketo is not in step, or nobody knows."""

IN_STEP_WITHIN = timedelta(minutes=15)
TICK_WITHIN = timedelta(minutes=10)  # of its time: as long as the functionTimeout lets a tick run
POISON_FOR = timedelta(hours=1)
NEARLY_USED = 0.8
HALF = 0.5
EXPIRES_SOON = timedelta(days=30)

_STOPS = {"WrongPair": "wrong-pair", "CredentialsRefused": "credentials-refused"}


def alerts(found: Mapping[str, Any], *, schedule: str, expires: datetime | None) -> dict[str, str]:
    """What is on, by name, each with what is the matter, in the order of `ALERTS`.

    *found* is a status (flows.status) but for its own alerts; *expires*: when our credentials do.
    """
    now = datetime.fromisoformat(found["at"])
    told = dict(_told(found, now, schedule, expires))
    return {name: told[name] for name in ALERTS if name in told}


def _told(
    found: Mapping[str, Any], now: datetime, schedule: str, expires: datetime | None
) -> Iterator[tuple[str, str]]:
    yield from _stops(found)
    if missed := _missed(found, now, schedule):
        yield "tick-missed", missed
    if behind := _behind(found, now):
        yield "not-in-step", behind
    if held := found["opportunities"]["held"]:
        yield "removals-held", f"{counted(held, 'opportunity', 'opportunities')} with removals that wait for approval"
    if poison := _poison(found, now):
        yield "poison", f"{counted(poison, 'message')} failed again and again within the last hour"
    if left := found["mapping"].get("left alone"):
        yield "field-suspended", "; ".join(f"{name}: {why}" for name, why in left.items())
    if used := _nearly_used(found["Marketo calls"]):
        yield "budget", used
    if old := _old_links(found["feeds"]):
        yield "delta-link", old
    if expires is not None and expires - now < EXPIRES_SOON:
        when = "expired" if expires <= now else "expires"
        yield "credentials-expire", f"what signs in to Dynamics {when} on {expires.date().isoformat()}"


def _stops(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for run in found["last runs"].values():
        if run.get("stopped"):
            yield _STOPS.get(run.get("kind", ""), "stopped"), str(run["trouble"])


def _missed(found: Mapping[str, Any], now: datetime, schedule: str) -> str:
    """Whether the timer should have run and has not; before its first run, since somebody began to watch."""
    last = found["last tick"]["at"]
    since = last or (found["backlog"][0][0] if found["backlog"] else None)
    try:
        due = last_due(schedule, now - TICK_WITHIN)
    except ValueError:
        return ""  # `validate` says what is wrong with the schedule; the host doesn't start with it
    if since is None or due is None or due <= datetime.fromisoformat(since):
        return ""
    return f"no tick since {last[:16]}Z" if last else "the timer has never run"


def _behind(found: Mapping[str, Any], now: datetime) -> str:
    """Fresh changes that wait for too long, or a backlog that stands still."""
    at = found["oldest change not in Marketo"]["at"]
    if at is not None and now - datetime.fromisoformat(at) > IN_STEP_WITHIN:
        trouble = found["last runs"].get("detect", {}).get("trouble") or found["last runs"].get("fresh", {}).get(
            "trouble"
        )
        why = "paused" if "paused" in found else trouble or "it waits on the queue"
        return f"what changed since {at[:16]}Z may not be in Marketo: {why}"
    slow = found["lanes (about)"]["slow"]["messages"]
    samples = [each for each in found["backlog"] if datetime.fromisoformat(each[0]) <= now - IN_STEP_WITHIN]
    done = found["last runs"].get("slow", {}).get("at")
    still = done is None or datetime.fromisoformat(done) <= now - IN_STEP_WITHIN
    if slow and samples and samples[-1][2] and still and "paused" not in found:
        return f"{counted(slow, 'message')} of the slow lane wait, and none was handled for 15 minutes"
    return ""


def _poison(found: Mapping[str, Any], now: datetime) -> int:
    late = (run for run in found["runs"] if datetime.fromisoformat(run["at"]) > now - POISON_FOR)
    queues = found["queues (about)"]
    return int(sum(run["counts"].get("poison", 0) for run in late) + queues["fresh poison"] + queues["slow poison"])


def _nearly_used(calls: Mapping[str, Any]) -> str:
    every, quota = calls["subscription today"], calls["subscription's quota"]
    if calls["used today"] >= NEARLY_USED * calls["our share"]:
        return f"{calls['used today']:,} of our {calls['our share']:,} calls of today are used"
    if every is not None and every >= NEARLY_USED * quota:
        return f"{every:,} of the subscription's {quota:,} calls of today are used, by everybody"
    return ""


def _old_links(feeds: Mapping[str, Mapping[str, Any]]) -> str:
    old = [
        f"{table}: {feed['seconds'] // 86_400} of {feed['retention days']} days"
        for table, feed in feeds.items()
        if feed["seconds"] and feed["retention days"] and feed["seconds"] > HALF * 86_400 * feed["retention days"]
    ]
    return "; ".join(old)


def verdict(found: Mapping[str, Any]) -> dict[str, str]:
    """Whether Marketo is in step, in one line, and how bad it is; of a status with its alerts."""
    on = [alert["name"] for alert in found["alerts"]]
    states, lanes = found["opportunities"], found["lanes (about)"]
    if "paused" in found:
        return _level("not in step", f"Paused since {found['paused']['since'][:16]}Z: nothing is sent until `resume`")
    if behind := next((alert for alert in found["alerts"] if alert["name"] in BEHIND), None):
        return _level("not in step", f"Not in step: {behind['text'].rstrip('.')}")
    read = found["last tick"]["read"]
    if read is None:
        return _level("not in step", "Nothing was read from Dynamics yet: the timer has not run")
    unread = [table for table, feed in found["feeds"].items() if not feed["mode"].startswith("following")]
    if unread or lanes["slow"]["messages"]:
        minutes = lanes["slow"]["minutes until empty"]
        left = f"about {counted(lanes['slow']['messages'], 'message')} left"
        left += f", empty in {counted(minutes, 'minute')}" if minutes else ""
        return _level("catching up", f"Catching up: {left}; what changes now arrives meanwhile")
    except_for = [
        f"{states[state]:,} {word}" for state, word in (("parked", "parked"), ("held", "held")) if states[state]
    ]
    except_for += [f"{ALERTS[name]}" for name in on if name != "removals-held"]
    if except_for:
        return _level("needs you", f"In step, but for what needs you: {'; '.join(except_for)}")
    waits = f", but for {states['waiting']:,} that wait" if states["waiting"] else ""
    return _level("in step", f"In step: what changed in Dynamics until {read[:16]}Z is in Marketo{waits}")


def _level(level: str, text: str) -> dict[str, str]:
    return {"level": level, "text": text}
