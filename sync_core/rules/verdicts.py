"""What Marketo's codes mean for us: one table, whether a code stands at a record or over the whole answer.

Codes are strings and decide alone; texts vary and are asked only where a code has two meanings (marketo.md §4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum

from sync_core.errors import (
    ConfigurationError,
    QuotaExhausted,
    SplitBatch,
    SyncError,
    Throttled,
    Unavailable,
    UnknownCode,
)
from sync_core.model import Answer, MarketoObject, Verdict


class Meaning(StrEnum):
    """What a code asks of us, in the words of design.md §6."""

    SETTING = "fix a setting"
    RESET = "wait for the reset"
    THROTTLED = "wait, all of us"
    SPLIT = "split"
    WAIT = "wait"
    SIGN_IN = "sign in again"
    EMPTY = "nothing found"
    LATER = "the record, later"
    RECORD = "the record, until it changes"


_SETTING, _WAIT, _RECORD = Meaning.SETTING, Meaning.WAIT, Meaning.RECORD

CODES: Mapping[str, Meaning] = {
    "413": _RECORD,
    "500": _WAIT,
    "502": _WAIT,
    "600": _SETTING,
    "601": Meaning.SIGN_IN,
    "602": Meaning.SIGN_IN,
    "603": _SETTING,
    "604": Meaning.SPLIT,
    "605": _SETTING,
    "606": Meaning.THROTTLED,
    "607": Meaning.RESET,
    "608": _WAIT,
    "609": _SETTING,
    "610": _SETTING,
    "611": Meaning.SPLIT,
    "612": _SETTING,
    "613": _SETTING,
    "614": _WAIT,
    "615": Meaning.THROTTLED,
    "616": _SETTING,
    "701": _SETTING,
    "702": Meaning.EMPTY,
    "703": _SETTING,
    "704": _SETTING,
    "709": _SETTING,
    "710": _SETTING,
    "711": _SETTING,
    "712": _SETTING,
    "713": _WAIT,
    "714": _SETTING,
    "718": Meaning.SPLIT,
    "719": _WAIT,
    "1001": _RECORD,
    "1002": _RECORD,
    "1003": _RECORD,
    "1004": Meaning.LATER,
    "1005": _RECORD,
    "1006": _RECORD,
    "1007": _RECORD,
    "1008": _RECORD,
    "1009": _RECORD,
    "1010": _RECORD,
    "1011": _SETTING,
    "1012": _RECORD,
    "1013": Meaning.LATER,
    "1014": Meaning.LATER,
    "1015": _RECORD,
    "1016": Meaning.LATER,
    "1017": Meaning.LATER,
    "1018": _SETTING,
    "1019": Meaning.LATER,
    "1020": Meaning.LATER,
    "1021": _RECORD,
    "1022": Meaning.LATER,
    "1029": Meaning.LATER,
    "1035": _SETTING,
    "1036": _RECORD,
    "1077": _RECORD,
    "1080": _RECORD,
}
"""Code → meaning, after the table of marketo.md §4; what is not here is told by `meaning`."""

ERRORS: Mapping[Meaning, type[SyncError]] = {
    Meaning.SETTING: ConfigurationError,
    Meaning.RESET: QuotaExhausted,
    Meaning.THROTTLED: Throttled,
    Meaning.SPLIT: SplitBatch,
    Meaning.WAIT: Unavailable,
    Meaning.SIGN_IN: Unavailable,
}
"""What is raised when the code stands over a whole answer, in order of precedence if there are several."""

REMEDIES: Mapping[str, str] = {
    "600": "the request carried no token; this is a fault of this program",
    "603": "access denied: give the API user's role 'Access API' with Read-Write Opportunity and Company, Read-Only "
    "Lead, where owners are sent Read-Write Sales Person (marketo.md §1.6), and let this app's outbound address "
    "through Marketo's IP allowlist",
    "605": "Marketo does not know this method here; check MARKETO_URL",
    "609": "Marketo could not read the JSON we sent; this is a fault of this program",
    "610": "this address does not exist in the subscription; check MARKETO_URL",
    "612": "Marketo did not accept our content type; check what stands between this app and MARKETO_URL",
    "616": "this kind of subscription has no such API; ask Adobe",
    "703": "this feature is not switched on in the subscription; ask Adobe",
    "1006": "unknown field in the mapping; take it out, or have the field created in Marketo",
    "1018": "this Marketo is natively linked to a CRM, and then nobody can write opportunities through its API; "
    "use a subscription without such a link (a link cannot be undone)",
}
"""What a person has to do about a code, in words."""

WORDS: Mapping[str, str] = {
    "500": "Marketo had an internal error",
    "502": "Marketo's gateway timed out",
    "601": "the access token was not accepted",
    "602": "the access token had expired",
    "604": "the request timed out",
    "606": "the rate limit was reached",
    "607": "the daily quota is used up",
    "608": "the API is not available for a while",
    "611": "a system error",
    "614": "the subscription can't be reached",
    "615": "too many calls at once",
    "713": "a passing error",
    "718": "a sales person is missing",
    "719": "a lock was not released in time",
    "1003": "a value or a parameter was not accepted",
}
"""What a code says, where there is nothing for a person to do."""

_WRITTEN = {"created", "updated", "deleted"}
_TIME_OUT = {"500", "502", "604"}  # nobody may have waited for the end of what was begun
_REQUEST = re.compile(r"Invalid (filterType|dedupeBy|deleteBy|action|lookupField)|not specified", re.IGNORECASE)
_FIELD = re.compile(r"[^'\"“”]*\b[Ff]ield '(\w{1,100})'")  # what stands first in quotes; a value comes later


def meaning(code: str) -> Meaning:
    """As the table says; an unknown 1xxx blames the record, anything else unknown is waited for."""
    return CODES.get(code, Meaning.RECORD if len(code) == 4 and code.startswith("1") else Meaning.WAIT)


def verdict(answer: Answer, *, removal: bool, kind: MarketoObject) -> Verdict:
    """What one record's answer means for that record (design.md §6).

    1013 on a *removal* is success: gone already. For a role the caller still reads back, since its person may
    have been merged (marketo.md §3.6). 1013 elsewhere names something that is not there *yet*; a sales person
    refers to nothing, so for that *kind* waiting would not help.
    """
    if answer.status in _WRITTEN or (answer.code == "1013" and removal):
        return Verdict.DONE
    if answer.code == "1013" and kind is MarketoObject.SALES_PERSON:
        return Verdict.REFUSED
    return Verdict.REFUSED if meaning(answer.code) is Meaning.RECORD else Verdict.LATER


def reason(reasons: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The (code, text) that decides about a record with several reasons: what waiting can't cure comes first."""
    ranked = sorted(reasons, key=lambda found: meaning(found[0]) is not Meaning.RECORD)
    code, text = ranked[0] if ranked else ("", "")
    return code, field_of(text)


def failure(errors: Sequence[tuple[str, str]], *, write: bool, seconds_to_reset: float) -> SyncError:
    """The error for the `errors` (code, text) of a refused answer; all are looked at, the gravest is raised."""
    return min((_error(code, text, write, seconds_to_reset) for code, text in errors), key=_gravity)


def _gravity(error: SyncError) -> int:
    return next(number for number, kind in enumerate(ERRORS.values()) if isinstance(error, kind))


def _error(code: str, text: str, write: bool, seconds_to_reset: float) -> SyncError:
    kind = ERRORS[over_all(code, text, write=write)]
    told = in_words(code, text)
    if kind is ConfigurationError:
        remedy = REMEDIES.get(code, "a fault of the mapping or of this program")
        return ConfigurationError(f"Marketo: {told}: {remedy}", code=code)
    if kind is QuotaExhausted:
        return QuotaExhausted(f"Marketo: {told}", delay=seconds_to_reset)
    if kind is SplitBatch:
        return SplitBatch(code, field_of(text) or WORDS.get(code, ""), unanswered=code in _TIME_OUT)
    if kind is Unavailable and write and code and code not in CODES:
        return UnknownCode(code, f"Marketo: {told}")
    if kind is Unavailable:
        return Unavailable(f"Marketo: {told}", unanswered=code in _TIME_OUT)
    return Throttled(f"Marketo: {told}", delay=20.0)


def over_all(code: str, text: str, *, write: bool) -> Meaning:
    """The meaning of a code that stands over the whole answer.

    1xxx come there too (marketo.md §4 rule 1). On a write, one record may have sunk the rest: splitting finds
    it. A wrong parameter, an unknown field or anything wrong with a query is a setting.
    """
    if "too many results" in text.lower():
        return Meaning.SPLIT
    found = meaning(code)
    if found not in (Meaning.RECORD, Meaning.LATER, Meaning.EMPTY):
        return found
    if not write or code == "1006" or found is Meaning.EMPTY or _REQUEST.search(text):
        return Meaning.SETTING
    return Meaning.SPLIT


def all_refused(answers: Sequence[Answer]) -> str:
    """The code that every record of a call came back with, if that means a setting is wrong; else ''."""
    codes = {answer.code if answer.status == "skipped" else "" for answer in answers}
    code = codes.pop() if len(codes) == 1 else ""
    return code if code == "1006" or meaning(code) is Meaning.SETTING else ""


def in_words(code: str, text: str) -> str:
    """A code in our own words, with the field that Marketo's text names. Nothing else of the text: it may quote a
    value, a person or a token, in ways that no pattern foresees (marketo.md §4.3).
    """
    parts = (code, WORDS.get(code, "" if code in REMEDIES else "an answer we have no words for"), field_of(text))
    return ", ".join(part for part in (" ".join(filter(None, parts[:2])), parts[2]) if part)


def field_of(text: str) -> str:
    """`field 'x'` if *text* begins with naming one, else nothing."""
    found = _FIELD.match(text)
    return f"field '{found[1]}'" if found else ""
