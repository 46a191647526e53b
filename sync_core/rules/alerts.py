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
    "audit-differs": "the last audit found that Marketo holds something else than Dynamics demands",
    "budget": "80 % of the Marketo calls of the day are used",
    "delta-link": "a delta link is past half its life",
    "credentials-expire": "a secret or certificate expires within 30 days",
    "watch-missed": "nobody is told of alerts: the function that looks every five minutes does not run",
}
FIRST: Mapping[str, str] = {
    "not-in-step": "Look at the alerts beside it",
    "tick-missed": "Function app → Overview: is it running?",
    "wrong-pair": "python -m sync_core repoint shows both pairs, what stops, and what going on would cost",
    "credentials-refused": "python -m sync_core validate: the line that is red is the one",
    "stopped": "Correct what the text names",
    "removals-held": "See what it is, by name: python -m sync_core approve-removals",
    "poison": "python -m sync_core failures list --reason unknown names the records",
    "field-suspended": "python -m sync_core mapping show says which field and why",
    "audit-differs": "python -m sync_core audit --last shows what still differs, field by field",
    "budget": "“Marketo calls today” of python -m sync_core status: are they ours, or everybody's?",
    "delta-link": "python -m sync_core status: “Feeds” and “Last runs” say which table, and what the ticks meet",
    "credentials-expire": "Make another one beside it, and put that into the settings",
    "watch-missed": "Function app → Overview: is it running?",
}
"""Where to begin, for who has the alert before him and the runbook not at hand: its first step, in its words."""

BEHIND = frozenset({"not-in-step", "tick-missed", "wrong-pair", "credentials-refused", "stopped"})
"""Alerts with which Marketo is not in step, or nobody knows."""

IN_STEP_WITHIN = timedelta(minutes=15)
TICK_WITHIN = timedelta(minutes=10)  # of its time: as long as the functionTimeout lets a tick run
WATCH_WITHIN = timedelta(minutes=15)
READ_WITHIN = timedelta(hours=24)
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
    if held := found["opportunities"]["held"] - found["removals approved"]:
        yield "removals-held", f"{counted(held, 'opportunity', 'opportunities')} with removals that wait for approval"
    if poison := found["poison within an hour"]:
        yield "poison", f"{counted(poison, 'message')} failed again and again within the last hour"
    if left := found["mapping"].get("left alone"):
        yield "field-suspended", "; ".join(f"{name}: {why}" for name, why in left.items())
    if (audit := found["audit"]) and audit["differences"] and not audit["repaired"]:
        number = counted(audit["differences"], "difference")
        yield "audit-differs", f"the audit of {audit['at'][:10]} found {number} between Dynamics and Marketo"
    if used := _nearly_used(found["Marketo calls"]):
        yield "budget", used
    if old := _old_links(found["feeds"]):
        yield "delta-link", old
    if expires is not None and expires - now < EXPIRES_SOON:
        when = "expired" if expires <= now else "expires"
        yield "credentials-expire", f"what signs in to Dynamics {when} on {expires.date().isoformat()}"
    if found["backlog"] and now - datetime.fromisoformat(found["backlog"][-1][0]) > WATCH_WITHIN:
        yield "watch-missed", f"nobody has looked since {moment(found['backlog'][-1][0])}"


def _stops(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for stop in found["stops"]:
        yield _STOPS.get(stop["kind"], "stopped"), stop_in_words(stop)


def _missed(found: Mapping[str, Any], now: datetime, schedule: str) -> str:
    """Whether the timer should have run and has not; before its first run, since somebody began to watch."""
    last = found["last tick"]["at"]
    since = last or (found["backlog"][0][0] if found["backlog"] else None)
    try:
        due, unreadable = last_due(schedule, now - TICK_WITHIN), ""
    except ValueError:
        due, unreadable = None, f", and SYNC_SCHEDULE, {schedule}, is no schedule of six fields"
    due = due or now - IN_STEP_WITHIN
    if since is None or due <= datetime.fromisoformat(since):
        return ""
    return (f"no tick since {moment(last)}" if last else "the timer has never run") + unreadable


def _behind(found: Mapping[str, Any], now: datetime) -> str:
    """Changes that wait for too long, a lane that stands still, or a read from the start that does not end.

    Not after a cleanup: then nothing is to arrive any more.
    """
    if "cleanup" in found.get("paused", ()):
        return ""
    at = found["oldest change not in Marketo"]["at"]
    if at is not None and now - datetime.fromisoformat(at) > IN_STEP_WITHIN:
        why = "paused" if "paused" in found else _trouble(found, "detect", "fresh") or "it waits on the queue"
        return f"what changed since {moment(at)} may not be in Marketo: {why}"
    for place, lane in enumerate(("fresh", "slow"), 1):
        if _still(found, now, lane, place) and "paused" not in found:
            messages = counted(found["lanes (about)"][lane]["messages"], "message")
            why = _trouble(found, lane)
            return f"{messages} in the {lane} lane, and none was done for 15 minutes{f': {why}' if why else ''}"
    for table, feed in found["feeds"].items():
        if "reading since" in feed and now - datetime.fromisoformat(feed["reading since"]) > READ_WITHIN:
            return f"{table} is being read from the start since {moment(feed['reading since'])}, for more than a day"
    return ""


def _still(found: Mapping[str, Any], now: datetime, lane: str, place: int) -> bool:
    """Whether messages of the lane wait, did so 15 minutes ago, and none was done in between."""
    about = found["lanes (about)"][lane]
    samples = [each for each in found["backlog"] if datetime.fromisoformat(each[0]) <= now - IN_STEP_WITHIN]
    done = about["last done"]
    late = done is None or datetime.fromisoformat(done) <= now - IN_STEP_WITHIN
    return bool(about["messages"] and samples and samples[-1][place] and late)


def _trouble(found: Mapping[str, Any], *names: str) -> str:
    """What the last run of one of them met."""
    return next((str(text) for name in names if (text := found["last runs"].get(name, {}).get("trouble"))), "")


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


def moment(iso: str) -> str:
    """A time in UTC as the page writes it."""
    return f"{iso[:10]} {iso[11:16]} UTC"


def paused_in_words(pause: Mapping[str, str]) -> str:
    why = f" ({pause['why']})" if pause.get("why") else ""
    return f"paused since {moment(pause['since'])}{why}"


def stop_in_words(stop: Mapping[str, Any]) -> str:
    """What stopped a lane; once others pass again, since when: what was put back has yet to come again."""
    if not stop["well"]:
        return str(stop["trouble"])
    times = f"last at {stop['last'][11:19]} UTC, and well since {stop['well'][11:19]} UTC"
    return f"{stop['trouble'].rstrip('.')} ({times}: over within six minutes of the last, if it stays well)"


def verdict(found: Mapping[str, Any]) -> dict[str, str]:
    """Whether Marketo is in step, in one line, and how bad it is; of a status with all but this."""
    states, read = found["opportunities"], found["last tick"]["read"]
    if "cleanup" in found.get("paused", ()):
        return _level("not in step", "Cleaned up, or about to be: nothing is sent to Marketo any more")
    if "paused" in found:
        told = f"{paused_in_words(found['paused'])}: nothing is sent until somebody resumes"
        return _level("not in step", told[:1].upper() + told[1:])
    if behind := next((alert for alert in found["alerts"] if alert["name"] in BEHIND), None):
        return _level("not in step", f"Not in step: {behind['text'].rstrip('.')}")
    if found["last tick"]["at"] is None:
        return _level("not in step", "Nothing was read from Dynamics yet: the timer has not run")
    if catching_up := _catching_up(found):
        return _level("catching up", f"Catching up: {catching_up}")
    oldest = found["oldest change not in Marketo"]["at"]
    until = min((each for each in (read, oldest) if each), key=datetime.fromisoformat, default=None)
    said = f"what changed in Dynamics until {moment(until)} is in Marketo" if until else "nothing was read yet"
    if found["needs you"]:
        return _level("needs you", f"In step, but for what needs you: {_what(found)}; {said}")
    approved = found["removals approved"]
    waits = [f"{states['waiting']:,} that wait"] if states["waiting"] else []
    waits += [f"{counted(approved, 'approved removal')}, which go with the next delivery"] if approved else []
    return _level("in step", f"In step: {said}{', but for ' if waits else ''}{' and '.join(waits)}")


def _catching_up(found: Mapping[str, Any]) -> str:
    """What is read from the start, or waits in the slow lane, and whether changes arrive meanwhile."""
    reading = [table for table, feed in found["feeds"].items() if not feed["mode"].startswith("following")]
    slow = found["lanes (about)"]["slow"]
    told = [f"{', '.join(reading)} {'is' if len(reading) == 1 else 'are'} read from the start"] if reading else []
    if slow["messages"]:
        minutes = slow["minutes until empty"]
        left = f", empty in {counted(minutes, 'minute')}" if minutes else ""
        told.append(f"about {counted(slow['messages'], 'message')} left{left}")
    if told and found["last tick"]["read"]:
        told.append("what changes now arrives meanwhile")
    return "; ".join(told)


def _what(found: Mapping[str, Any]) -> str:
    """What of a status needs somebody, in few words."""
    others = [found[kind]["parked"] for kind in ("companies", "sales persons") if kind in found]
    strange = found["queues (about)"]["unreadable"]
    counts = (
        (found["opportunities"]["parked"], "parked"),
        (found["opportunities"]["held"] - found["removals approved"], "held"),
        (sum(others), "parked of companies and sales persons"),
    )
    told = [f"{number:,} {what}" for number, what in counts if number]
    told += [f"{counted(strange, 'message')} not ours"] if strange else []
    told += [ALERTS[alert["name"]] for alert in found["alerts"] if alert["name"] != "removals-held"]
    return "; ".join(told) or found["needs you"][0]


def _level(level: str, text: str) -> dict[str, str]:
    return {"level": level, "text": text}
