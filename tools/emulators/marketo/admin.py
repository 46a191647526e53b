"""Doors that the real service does not have: seed, look inside, change by hand, turn the switches.

No authentication: the emulator listens on loopback only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

from tools.emulators.faults import FaultPlan, PlanError, administer

from .activities import NAMES
from .catalogue import Field
from .clock import iso
from .errors import ApiError
from .identity import Client
from .state import MarketoState
from .values import CONVERTERS

Answer = Any
ENCODER = json.JSONEncoder(ensure_ascii=False)
PIECE = 1_000


def respond(state: MarketoState, request: Request) -> Response:
    """JSON in, JSON out; 400 with `{error}` says what was wrong, 404 lists what there is."""
    name = f"{request.method} {request.path}"
    if name.startswith("GET /admin/rows/"):
        return rows(state, *request.path.removeprefix("/admin/rows/").split("/", 2))
    if name not in ACTIONS:
        known = [*ACTIONS, "GET /admin/rows/<object>[/<field>/<value>]", "GET, POST, DELETE /admin/faults"]
        return answered({"error": f"no {name}", "known": known}, 404)
    try:
        return answered(ACTIONS[name](state, request))
    except (ApiError, KeyError, ValueError, TypeError, AttributeError, HTTPException) as error:
        return answered({"error": f"{type(error).__name__}: {error}"}, 400)


def faults(plan: FaultPlan, request: Request) -> Response:
    """`POST {seed, rules: [{fault, rate, times, after, on, …}]}`, `GET`, `DELETE`: the plan and how often it struck."""
    if request.method not in ("GET", "POST", "DELETE"):
        return answered({"error": f"no {request.method} /admin/faults"}, 404)
    try:
        return answered(administer(plan, request.method, request.json if request.method == "POST" else None))
    except (PlanError, HTTPException) as error:
        return answered({"error": f"{type(error).__name__}: {error}"}, 400)


def answered(content: Answer, status: int = 200) -> Response:
    return Response(ENCODER.encode(content), status, content_type="application/json")


def rows(state: MarketoState, name: str, field: str = "", value: str = "") -> Response:
    """Every row of an object as one JSON list, a line each; or those whose searchable *field* holds *value*."""
    if name not in state.database.tables:
        return answered({"error": f"no {name}", "known": list(state.database.tables)}, 404)
    searchable = {each for names in state.database.kinds[name].searchable for each in names}
    if field and field not in searchable:
        return answered({"error": f"{name} can't be searched by {field}", "known": sorted(searchable)}, 404)
    return Response(json_lines(state.rows(name, field, value)), content_type="application/json")


def json_lines(items: list[Any]) -> Iterator[str]:
    """A JSON list, written in pieces of a thousand lines."""
    yield "[\n"
    for begin in range(0, len(items), PIECE):
        lines = ",\n".join(map(ENCODER.encode, items[begin : begin + PIECE]))
        yield lines + (",\n" if begin + PIECE < len(items) else "\n")
    yield "]\n"


def add_leads(state: MarketoState, request: Request) -> Answer:
    """`{leads: [{email, …}]}` to `{ids: [...]}`."""
    return {"ids": state.load({"leads": request.json["leads"]})["leads"]}


def load(state: MarketoState, request: Request) -> Answer:
    """`{opportunities: [...], roles: [...], companies: [...], salespersons: [...], leads: [...]}` to counts."""
    return {name: len(ids) for name, ids in state.load(request.json).items()}


def people_with_opportunity(state: MarketoState, request: Request) -> Answer:
    return state.people_with_opportunity()


def edit(state: MarketoState, request: Request) -> Answer:
    """One operation or a list: `delete-lead`, `merge-leads`, `create`, `update`, `delete`."""
    operations = request.json if isinstance(request.json, list) else [request.json]
    for operation in operations:
        state.edit(operation)
    return {"done": len(operations)}


def add_field(state: MarketoState, request: Request) -> Answer:
    """`{object, name, type, length?}`: a custom field."""
    asked = request.json
    if asked["type"] not in CONVERTERS:
        raise ValueError(f"type is one of {', '.join(CONVERTERS)}")
    limit = asked.get("length", 255 if asked["type"] in ("string", "email", "phone", "url") else None)
    state.add_field(asked["object"], Field(asked["name"], asked["type"], limit, limit, custom=True))
    return {"done": 1}


def journal(state: MarketoState, request: Request) -> Answer:
    """Every call, or with `?since=N` those after sequence N."""
    with state.lock:
        return state.journal.since(int(request.args.get("since", 0)))


def clear_journal(state: MarketoState, request: Request) -> Answer:
    with state.lock:
        state.journal.clear()
    return {}


def calls(state: MarketoState, request: Request) -> Answer:
    with state.lock:
        return state.journal.summary()


def services(state: MarketoState, request: Request) -> Answer:
    """`{add: {id, secret, user?}}`, `{delete: id}`, or both: the custom services that may sign in."""
    with state.lock:
        if "add" in request.json:
            state.identity.add(Client(**request.json["add"]))
        if "delete" in request.json:
            state.identity.remove(request.json["delete"])
    return {"clients": list(state.identity.clients)}


def switches(state: MarketoState, request: Request) -> Answer:
    return asdict(state.switches)


def set_switches(state: MarketoState, request: Request) -> Answer:
    with state.lock:
        state.switches.set(request.json)
    return asdict(state.switches)


def clock(state: MarketoState, request: Request) -> Answer:
    return {"now": iso(state.now()), "seconds": state.now(), "frozen": state.clock.frozen}


def set_clock(state: MarketoState, request: Request) -> Answer:
    """`{advance: seconds}`, `{set: instant}`, `{freeze: true|false}`, or several of them."""
    with state.lock:
        for name, value in request.json.items():
            MOVES[name](state, value)
    return clock(state, request)


def subscription(state: MarketoState, request: Request) -> Answer:
    tables = state.database.tables
    counts = {name: len(table.rows) for name, table in tables.items()}
    facts = {"munchkin_id": state.munchkin_id, "clients": list(state.identity.clients)}
    return {**facts, "rows": counts, "people_with_role": tables["roles"].different("leadId")}


def activity_log(state: MarketoState, request: Request) -> Answer:
    """All activities, or with `?since=N` those after id N."""
    with state.lock:
        found = list(state.database.activities.since(int(request.args.get("since", 0))))
    return [each.shown() | {"activityType": NAMES[each.type]} for each in found]


MOVES: dict[str, Callable[[MarketoState, Any], None]] = {
    "advance": lambda state, seconds: state.clock.advance(seconds),
    "set": lambda state, instant: state.clock.set(instant),
    "freeze": lambda state, frozen: state.clock.freeze(frozen),
}

ACTIONS: dict[str, Callable[[MarketoState, Request], Answer]] = {
    "POST /admin/leads": add_leads,
    "POST /admin/load": load,
    "POST /admin/edit": edit,
    "POST /admin/fields": add_field,
    "GET /admin/people-with-opportunity": people_with_opportunity,
    "GET /admin/journal": journal,
    "DELETE /admin/journal": clear_journal,
    "GET /admin/calls": calls,
    "POST /admin/services": services,
    "GET /admin/switches": switches,
    "POST /admin/switches": set_switches,
    "GET /admin/clock": clock,
    "POST /admin/clock": set_clock,
    "GET /admin/activities": activity_log,
    "GET /admin/subscription": subscription,
}
