"""What each page shows: the flows' plain values, arranged for the templates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sync_core.flows.actions import RETRIED, done
from sync_core.flows.explain import MATCHES, explain, named, reason_in_words
from sync_core.flows.failures import FAILURES, KINDS, Choice, Failure
from sync_core.flows.failures import page as page_of
from sync_core.flows.status import APPROVED, status
from sync_core.flows.world import World
from sync_core.model import Lane, State
from sync_core.rules.alerts import ALERTS, FIRST
from sync_core.rules.words import counted
from sync_core.web.acts import LONGEST_REASON, guid, of_kind, state_of
from sync_core.web.chart import chart
from sync_core.web.wire import Refused

GROUPS = 12  # reasons that the page itself lists, the most frequent
SIZE = 50
EXPORTED = 1_000  # a page of the ledger
EXPORT_S = 150.0  # the platform ends an HTTP request after 230 seconds
LONGEST_SEARCH = 200
WHOLE = timedelta(hours=23, minutes=45)  # of samples: 24 hours, but for a few that came late
LEVELS = {"in step": "good", "catching up": "busy", "needs you": "warn", "not in step": "bad"}
STATES = ("in step", "waiting", "parked", "held", "gone", "left out")
WHERE = {
    "removals-held": ("actions/approve-removals", "Look at the removals"),
    "poison": ("failures", "Look at what failed"),
    "not-in-step": ("failures", "Look at what waits, is parked or held"),
}
"""Alerts that a page of ours helps with; for the others the checks say most."""


SAID = {
    "removals-held": "approve-removals",
    "field-suspended": "is left alone",
    "wrong-pair": "stopped, ",
    "credentials-refused": "stopped, ",
    "stopped": "stopped, ",
}
"""By alerts that are on: what a line of “needs you” says once more."""


def main(world: World, query: Mapping[str, str]) -> dict[str, Any]:
    found = status(world)
    return {
        "s": found,
        "level": LEVELS.get(found["verdict"]["level"], "bad"),
        "alerts": [_alert(each) for each in found["alerts"]],
        "needs": _besides(found),
        "ledgers": [name for name in ("opportunities", "companies", "sales persons") if name in found],
        "states": STATES,
        "charts": [_lane(found, place, lane) for place, lane in enumerate(Lane, 1)],
        "done": done(world, query["done"]) if query.get("done") else "",
        "runs": found["runs"],
        "since": _since(found),
        "approved": APPROVED,
        "groups": found["not in step"][:GROUPS],
        "more_groups": found["not in step"][GROUPS:],
        "retried": list(map(str, RETRIED)),
        "to_retry": sum(each["count"] for each in found["not in step"] if each["state"] in RETRIED),
    }


def _alert(found: Mapping[str, Any]) -> dict[str, Any]:
    page, text = WHERE.get(found["name"], ("actions/check", "Check everything"))
    return {**found, "means": ALERTS.get(found["name"], ""), "first": FIRST[found["name"]], "page": page, "link": text}


def _besides(found: Mapping[str, Any]) -> list[str]:
    """What needs somebody and is neither an alert nor the pause, which stand there already."""
    on = [each["name"] for each in found["alerts"]]
    said = [SAID.get(name, f"{name}: ") for name in on] + ["paused since"]
    return [text for text in found["needs you"] if not any(each in text for each in said)]


def _lane(found: Mapping[str, Any], place: int, lane: Lane) -> dict[str, Any]:
    points = [(datetime.fromisoformat(each[0]), int(each[place])) for each in found["backlog"]]
    about, now = found["lanes (about)"][lane], datetime.fromisoformat(found["at"])
    points += [(now, about["messages"])] if points and points[-1][0] < now else []
    return {"name": str(lane), "chart": chart(points), **about}


def _since(found: Mapping[str, Any]) -> datetime | None:
    """When the lines begin, if that is not as long ago as they get."""
    begin = datetime.fromisoformat(found["backlog"][0][0]) if found["backlog"] else None
    return begin if begin and datetime.fromisoformat(found["at"]) - begin < WHOLE else None


# --- what is not in step --------------------------------------------------------------------------------------


def _chosen(query: Mapping[str, str]) -> tuple[Choice, dict[str, str]]:
    """What a list is of, and the same as it stands in the address."""
    given = {name: query.get(name, "") for name in ("kind", "state")}
    given["reason"] = query.get("reason", "")[:LONGEST_REASON]
    given["text"] = query.get("text", "").strip()[:LONGEST_SEARCH]
    kinds = (of_kind(given["kind"]),) if given["kind"] else tuple(KINDS)
    states = (state_of(given["state"]),) if given["state"] else FAILURES
    return Choice(kinds, states, given["reason"], text=given["text"]), given


def failures(world: World, query: Mapping[str, str]) -> dict[str, Any]:
    choice, given = _chosen(query)
    found, after = _page(world, choice, query.get("after", ""), SIZE)
    one_group = bool(given["kind"] and given["state"] in RETRIED and given["reason"] and not given["text"])
    return {
        "given": given,
        "chosen": any(given.values()),
        "rows": [_row(each) for each in found],
        "after": after,
        "size": SIZE,
        "paged": bool(query.get("after")),
        "kinds": list(KINDS.values()),
        "states": list(map(str, FAILURES)),
        "one_group": one_group,
    }


def _row(each: Failure) -> dict[str, Any]:
    return {
        "kind": KINDS[each.kind],
        "id": each.id,
        "state": each.state,
        "reason": each.reason,
        "attempts": each.attempts,
        "due": each.due,
        "opens": each.kind == "opportunities",
        "retried": each.state in RETRIED,
        "held": each.state == State.HELD and each.reason != APPROVED,
    }


def _page(world: World, choice: Choice, after: str, size: int) -> tuple[list[Failure], str]:
    try:
        return page_of(world, choice, after=after, size=size)
    except ValueError:
        raise Refused(
            400, "This page of the list does not exist.", "Begin at its first page.", page="failures"
        ) from None


def exported(world: World, query: Mapping[str, str]) -> tuple[list[Failure], str]:
    """All of them, for as long as a request may take, and *after* for the rest if that was not long enough."""
    choice, _ = _chosen(query)
    until = world.clock.monotonic() + EXPORT_S
    found, after = _page(world, choice, query.get("after", ""), EXPORTED)
    while after and world.clock.monotonic() < until:
        more, after = _page(world, choice, after, EXPORTED)
        found += more
    return found, after


# --- one opportunity ------------------------------------------------------------------------------------------


def opportunity(world: World, text: str) -> dict[str, Any]:
    key = guid(text)
    found = explain(world, key)
    wanted = {(role["lead"], role["role"].casefold()) for role in found.get("roles", ())}
    others = [(lead, role) for lead, role in found["roles in Marketo"] if (lead, role.casefold()) not in wanted]
    state = found["ledger"]["state"]
    return {
        "key": key,
        "e": found,
        "others": others,
        "left_out": [{**each, "from": reason_in_words(each["reason"])} for each in found.get("left out", ())],
        "retried": state in RETRIED,
        "held": state == State.HELD and found["ledger"]["reason"] != APPROVED,
        "summary": _summary(found, state),
    }


def _summary(found: Mapping[str, Any], state: str) -> str:
    if not found["found"]:
        gone = found["reported deleted"] or state == State.GONE
        deleted = "It was deleted there." if gone else "Nothing says that it was deleted."
        return f"Dynamics doesn't show this opportunity. {deleted}"
    if found["filter"]:
        return f"Left out: {found['filter']}. What follows is what would be posted."
    if not found["in Marketo"]:
        return "Marketo does not hold it yet."
    differ = len(found["differs in Marketo"])
    return f"Marketo holds it, but {counted(differ, 'field')} differ." if differ else "Marketo holds the same."


def matches(world: World, text: str) -> dict[str, Any]:
    """Opportunities by id whose name contains *text*."""
    found = named(world, text)
    return {"text": text, "matches": dict(found), "more": len(found) == MATCHES}
