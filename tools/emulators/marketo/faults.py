"""What can go wrong with a call beyond the wire: codes by number, lost and late writes, records that are skipped.

See `tools.emulators.faults` for the plan and `tools.emulators.wire` for what happens to any answer (marketo.md §4, §7).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tools.emulators import wire
from tools.emulators.faults import COMMON, SECONDS, Fault, Parameter, Strike

from .codes import DEAD_TOKEN, NO_ROOM, PAGES, TEXTS
from .endpoints import Call, Endpoint
from .errors import ApiError, PageError
from .journal import Entry

if TYPE_CHECKING:
    from .state import MarketoState

Found = dict[str, Any]
KINDS = ("identity", "read", "write", "describe", "usage", "refused")
REST = ("read", "write", "describe", "usage")
MESSAGE = Parameter("a text", None)  # null: the documented text
SKIP = {
    "share": Parameter("a number", 0.5, high=1),
    "code": Parameter("a text", "1003", choices=tuple(code for code in TEXTS if len(code) == 4)),
    "message": MESSAGE,
}
CATALOGUE: Mapping[str, Fault] = {
    **COMMON,
    **{code: Fault({"message": MESSAGE}, REST) for code in TEXTS if code not in PAGES},
    **{code: Fault() for code in PAGES},
    "lost": Fault(kinds=("write",)),
    "lost_604": Fault(kinds=("write",)),
    "late": Fault({"seconds": SECONDS}, ("write",)),
    "late_604": Fault({"seconds": SECONDS}, ("write",)),
    "skip": Fault(SKIP, ("write",)),
}


def error_of(strike: Strike) -> ApiError:
    return ApiError(strike.fault, strike["message"] or TEXTS[strike.fault])


def refuse(state: MarketoState, strike: Strike | None, user: str, token: str | None) -> None:
    """What happens in front of the gate: a token that died, or no room. Other codes are raised behind it."""
    if strike is None:
        return
    if strike.fault in DEAD_TOKEN:
        state.identity.drop(token)
        raise error_of(strike)
    if strike.fault in NO_ROOM:
        state.gate.refuse(user, error_of(strike))


def refuse_page(strike: Strike | None) -> None:
    if strike is not None and strike.fault in PAGES:
        raise PageError(int(strike.fault), TEXTS[strike.fault])


def performed(state: MarketoState, strike: Strike | None, endpoint: Endpoint, call: Call, entry: Entry) -> Found:
    """The work of a call, or what *strike* makes of it. The caller holds the lock."""
    fault = strike.fault if strike else ""
    if strike is not None and fault in TEXTS:
        raise error_of(strike)
    if strike is not None and fault in ("late", "late_604"):
        raise later(state, strike, endpoint, call, entry)
    if strike is not None and fault == "skip":
        return skipping(state, strike, endpoint, call, entry)
    found = done(state, endpoint, call, entry)
    if fault == "lost_604":
        raise ApiError("604", TEXTS["604"])
    return found


def done(state: MarketoState, endpoint: Endpoint, call: Call, entry: Entry) -> Found:
    found = endpoint.answer(state, call)
    entry.executed, entry.executed_at = True, state.now()
    entry.outcome(found)
    return found


def later(state: MarketoState, strike: Strike, endpoint: Endpoint, call: Call, entry: Entry) -> Exception:
    """Puts the work off; the result is what the caller is left with.

    A call whose connection broke is still in flight for Marketo until it is done; one answered with 604 is not.
    """
    answered = strike.fault == "late_604"
    entry.late = True
    if not answered:
        state.gate.hold()

    def work() -> None:
        try:
            done(state, endpoint, call, entry)
        except ApiError as error:
            entry.outcome(failed(error))
        if not answered:
            entry.end = state.now()
            state.gate.leave()

    state.late.add(state.now() + strike["seconds"], work)
    return ApiError("604", TEXTS["604"]) if answered else wire.reset()


def failed(error: ApiError) -> Found:
    return {"errors": [{"code": error.code, "message": error.message}]}


def skipping(state: MarketoState, strike: Strike, endpoint: Endpoint, call: Call, entry: Entry) -> Found:
    """A share of the records, at least one, is skipped; the others are written."""
    records = call.body.get("input")
    if not isinstance(records, list) or not records:
        return done(state, endpoint, call, entry)
    count = max(1, round(strike["share"] * len(records)))
    unlucky = set(strike.luck.sample(range(len(records)), count))
    call.body = {**call.body, "input": [each for seq, each in enumerate(records) if seq not in unlucky]}
    written = iter(done(state, endpoint, call, entry)["result"] if call.body["input"] else ())
    reason = {"code": strike["code"], "message": strike["message"] or TEXTS[strike["code"]]}
    numbered = "/leads" not in endpoint.path  # results of leads carry no `seq`
    result = []
    for seq in range(len(records)):
        item = {"status": "skipped", "reasons": [reason]} if seq in unlucky else next(written)
        result.append({**item, "seq": seq} if numbered else item)
    return {"result": result}
