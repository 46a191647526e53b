"""The REST resources: path, method, permission, and which part of the state answers (marketo.md §3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from . import activities, describe
from .clock import iso, parse
from .errors import ApiError
from .state import MarketoState

PATHS = {
    "opportunities": "opportunities",
    "roles": "opportunities/roles",
    "companies": "companies",
    "salespersons": "salespersons",
    "leads": "leads",
}
WITH_SCHEMA = ("opportunities", "companies")
MAX_PEOPLE = 30
ANYBODY: frozenset[int] = frozenset()
SCHEMA_PERMISSIONS = ("Read-Write Schema Custom Field",)


@dataclass(slots=True)
class Call:
    """What a handler gets: the parameters of the query string or form, or the JSON body, and path parts."""

    params: Mapping[str, Any]
    body: Mapping[str, Any]
    parts: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[MarketoState, Call], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    method: str
    path: str
    kind: str
    permissions: tuple[str, ...]
    answer: Handler
    takes_json: bool = False

    @property
    def title(self) -> str:
        return f"{self.method} {self.path}"


def object_endpoints(name: str, permission: str) -> list[Endpoint]:
    path, write = f"/rest/v1/{PATHS[name]}", (f"Read-Write {permission}",)
    read = (f"Read-Only {permission}", *write)
    return [
        Endpoint("GET", f"{path}.json", "read", read, lambda s, c: s.query(name, c.params)),
        Endpoint("POST", f"{path}.json", "write", write, lambda s, c: listed(s.sync(name, c.body)), True),
        Endpoint("POST", f"{path}/delete.json", "write", write, lambda s, c: listed(s.delete(name, c.body)), True),
        Endpoint("GET", f"{path}/describe.json", "describe", read, describer(name)),
    ]


def describer(name: str) -> Handler:
    if name == "leads":
        return lambda s, c: listed(describe.described_leads_by_rest_name(s.database))
    return lambda s, c: listed(describe.described(s.database, name))


def schema_endpoints(name: str) -> list[Endpoint]:
    path = f"/rest/v1/{PATHS[name]}/schema/fields"
    return [
        Endpoint(
            "GET",
            f"{path}.json",
            "describe",
            SCHEMA_PERMISSIONS,
            lambda s, c: describe.schema(s.database, name, c.params),
        ),
        Endpoint(
            "GET",
            f"{path}/{{field}}.json",
            "describe",
            SCHEMA_PERMISSIONS,
            lambda s, c: listed(describe.schema_field(s.database, name, c.parts["field"])),
        ),
    ]


def listed(result: list[Any]) -> dict[str, Any]:
    return {"result": result}


def lead_by_id(state: MarketoState, call: Call) -> dict[str, Any]:
    """An unknown or deleted id has an empty result, not an error (marketo.md §3.6)."""
    params = {"filterType": "id", "filterValues": call.parts["id"], "fields": call.params.get("fields")}
    return {"result": state.query("leads", params).get("result", [])}


def merge_leads(state: MarketoState, call: Call) -> dict[str, Any]:
    """`leadIds` (or one `leadId`) are the losers."""
    losers = call.params.get("leadIds") or call.params.get("leadId") or ""
    try:
        state.merge(int(call.parts["id"]), [int(each) for each in losers.split(",") if each])
    except ValueError:
        raise ApiError("1003", "Invalid lead id") from None
    return {}


def paging_token(state: MarketoState, call: Call) -> dict[str, Any]:
    """Marks a place in the activity log; an answer without `result` (marketo.md §5.3)."""
    try:
        since = iso(parse(call.params.get("sinceDatetime", "")))
    except ValueError:
        raise ApiError("704", "Invalid date format") from None
    return {"nextPageToken": activity_token(state.database.activities.position(since))}


def activity_page(state: MarketoState, call: Call) -> dict[str, Any]:
    """Activities from the token on; always with a token, also at the end (marketo.md §5.3).

    `leadIds` are the people whose activities are wanted, at most 30 (activities.md).
    """
    kinds, people = (numbers(call.params.get(name, "")) for name in ("activityTypeIds", "leadIds"))
    if not kinds:
        raise ApiError("1003", "activityTypeIds not specified")
    if len(people) > MAX_PEOPLE:
        raise ApiError("1003", f"Number of leadIds exceeds the maximum of {MAX_PEOPLE}")
    return activity_answer(state, call, kinds, people)


def numbers(text: str) -> set[int]:
    return {int(each) for each in text.split(",") if each.isdigit()}


def deleted_leads(state: MarketoState, call: Call) -> dict[str, Any]:
    """Deleted people, and merged ones, who are gone as well (marketo.md §3.6)."""
    return activity_answer(state, call, {activities.DELETED, activities.MERGE})


def activity_answer(state: MarketoState, call: Call, kinds: set[int], people: Set[int] = ANYBODY) -> dict[str, Any]:
    log = state.database.activities
    begin, size = activity_position(call.params.get("nextPageToken")), 300
    wanted = (each for each in log.since(begin, kinds) if not people or each.lead_id in people)
    found = [each for _, each in zip(range(size + 1), wanted, strict=False)]
    more = len(found) > size
    after = found[size].id - 1 if more else len(log.entries)
    items = [each.shown() for each in found[:size]]
    return {"result": items, "nextPageToken": activity_token(after), "moreResult": more}


def activity_token(position: int) -> str:
    return f"ACT{position:010d}===="


def activity_position(text: Any) -> int:
    match = re.fullmatch(r"ACT(\d{10})====", str(text or ""))
    if match is None:
        raise ApiError("1003", "Invalid nextPageToken")
    return int(match[1])


LEAD_READ = ("Read-Only Lead", "Read-Write Lead")
ACTIVITY_READ = ("Read-Only Activity", "Read-Write Activity")

ENDPOINTS = [
    *object_endpoints("opportunities", "Opportunity"),
    *object_endpoints("roles", "Opportunity"),
    *object_endpoints("companies", "Company"),
    *object_endpoints("salespersons", "Sales Person"),
    *object_endpoints("leads", "Lead"),
    *(endpoint for name in WITH_SCHEMA for endpoint in schema_endpoints(name)),
    Endpoint(
        "GET",
        "/rest/v1/leads/describe2.json",
        "describe",
        LEAD_READ,
        lambda s, c: listed(describe.described_leads(s.database)),
    ),
    Endpoint("GET", "/rest/v1/lead/{id}.json", "read", LEAD_READ, lead_by_id),
    Endpoint("POST", "/rest/v1/leads/{id}/merge.json", "write", ("Read-Write Lead",), merge_leads),
    Endpoint("GET", "/rest/v1/activities/pagingtoken.json", "read", ACTIVITY_READ, paging_token),
    Endpoint("GET", "/rest/v1/activities/deletedleads.json", "read", ACTIVITY_READ, deleted_leads),
    Endpoint("GET", "/rest/v1/activities.json", "read", ACTIVITY_READ, activity_page),
    Endpoint("GET", "/rest/v1/stats/usage.json", "usage", (), lambda s, c: listed(s.usage.report(1))),
    Endpoint("GET", "/rest/v1/stats/usage/last7days.json", "usage", (), lambda s, c: listed(s.usage.report(7))),
    Endpoint("GET", "/rest/v1/stats/errors.json", "usage", (), lambda s, c: listed(s.usage.error_report(1))),
    Endpoint(
        "GET",
        "/rest/v1/stats/errors/last7days.json",
        "usage",
        (),
        lambda s, c: listed(s.usage.error_report(7)),
    ),
]

EXACT = {(each.method, each.path): each for each in ENDPOINTS if "{" not in each.path}
PATTERNS = [
    (re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(each.path))), each)
    for each in ENDPOINTS
    if "{" in each.path
]
METHODS = {path: {m for m, p in EXACT if p == path} for _, path in EXACT}


def route(method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
    """The endpoint and the variable parts of its path; 605 and 610 when there is none."""
    if (method, path) in EXACT:
        return EXACT[method, path], {}
    for pattern, endpoint in PATTERNS:
        match = pattern.fullmatch(path)
        if match and path not in METHODS:
            return permitted(endpoint, method), match.groupdict()
    if path in METHODS:
        raise not_supported(method)
    raise ApiError("610", "Requested resource not found")


def permitted(endpoint: Endpoint, method: str) -> Endpoint:
    if endpoint.method != method:
        raise not_supported(method)
    return endpoint


def not_supported(method: str) -> ApiError:
    return ApiError("605", f"Request method '{method}' not supported")
