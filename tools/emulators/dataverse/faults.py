"""What can go wrong with a call beyond the wire: 429 of each facet, 503, a token that died (dataverse.md §5, §8).

See `tools.emulators.faults` for the plan and `tools.emulators.wire` for what happens to any answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tools.emulators.dataverse.errors import DataverseError
from tools.emulators.dataverse.protection import FACETS, throttled
from tools.emulators.faults import COMMON, Fault, Parameter, Strike

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from tools.emulators.dataverse.state import DataverseState

API = "/api/data/v9.2/"
KINDS = ("token", "tracked", "read", "write", "metadata", "batch", "other")
WEB_API = ("tracked", "read", "write", "metadata", "batch")
FACET_OF = {
    "429": "requests",
    "429_requests": "requests",
    "429_time": "time",
    "429_concurrency": "concurrency",
}


def throttling(name: str) -> Fault:
    """*limit* is the number in the message; an organization may have its own (dataverse.md §5)."""
    parameters = {
        "retry_after": Parameter("an integer", 10, nullable=True),
        "limit": Parameter("an integer", FACETS[FACET_OF[name]].limit),
    }
    return Fault(parameters, ("batch",) if name == "429" else WEB_API)


CATALOGUE: Mapping[str, Fault] = {
    **COMMON,
    **{name: throttling(name) for name in FACET_OF},
    "503": Fault({"retry_after": Parameter("an integer", None)}, WEB_API),
    "401": Fault({"dropped": Parameter("true or false", True)}, WEB_API),
}


def kind_of(request: Request) -> str:
    """What sort of request it is, for a rule's `on.kind`."""
    if not request.path.startswith(API):
        is_identity = "/oauth2/" in request.path or "/.well-known/" in request.path or request.path == "/msi/token"
        return "token" if is_identity else "other"
    what = request.path.removeprefix(API)
    if what == "$batch":
        return "batch"
    if request.method != "GET":
        return "write"
    if what.startswith(("EntityDefinitions", "WhoAmI")) or not what:
        return "metadata"
    tracked = (
        "$deltatoken" in request.args
        or "odata.track-changes" in request.headers.get("Prefer", "")
        or 'istracking="True"' in request.args.get("$skiptoken", "")
    )
    return "tracked" if tracked else "read"


def refuse(state: DataverseState, strike: Strike | None) -> None:
    """429 and 503. A Retry-After that is ignored grows, as the service's does."""
    if strike is None or strike.fault not in {*FACET_OF, "503"}:
        return
    told = strike["retry_after"]
    if strike.fault == "503":
        raise DataverseError(503, "", "The service is unavailable.", told)
    facet = FACET_OF[strike.fault]
    if told is not None:
        told = state.protection.patience.told(facet, told)
    raise throttled(facet, limit=strike["limit"], retry_after=told)
