"""The open questions about Marketo (marketo.md §6.1): what is asked, and what each answer means for whoever syncs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """*means*: answer → what follows from it; answers that are not there are told as Marketo gave them."""

    asks: str
    means: Mapping[str, str]


LATER = "the opportunity waits, and is tried again by itself"
SENT_AGAIN = "nothing: what is not there yet is sent before"
OWN_CHECK = "nothing: the sync never sends that"
FITS = "nothing: the sync cuts texts to what Marketo describes, which it asks for once a day"
LOOKED_AT_AGAIN = "the sync gives them to the person that is left when it looks at the opportunity again"
LEFT_ALONE = "a field that is deleted in Marketo is noticed at the next post, left alone then, and told by `status`"
TAKEN, NO, YES = "accepted", "no", "yes"
LOGS_NOOP, CLEARS_COMPANY = "U17", "U16"
UNCHANGED = "unchanged"

QUESTIONS: Mapping[str, Question] = {
    "U1": Question(
        "A role for a person that Marketo doesn't have",
        {
            "1004": f"{LATER}; the person is looked up again",
            "1013": f"{LATER}; the person is looked up again",
            TAKEN: "roles of people who were deleted may stay in Marketo unnoticed; they hang at nobody",
        },
    ),
    "U2": Question(
        "A role for an opportunity that Marketo doesn't have",
        {"1013": SENT_AGAIN, TAKEN: "nothing: roles are sent only once their opportunity was accepted"},
    ),
    "U3": Question(
        "An opportunity of a company that Marketo doesn't have",
        {"1013": SENT_AGAIN, TAKEN: "who deletes a company in Marketo leaves opportunities that are tied to nothing"},
    ),
    "U4": Question(
        "A company of a sales person that Marketo doesn't have",
        {"1013": SENT_AGAIN, TAKEN: "who deletes a sales person in Marketo leaves companies that are tied to nobody"},
    ),
    "U5": Question(
        "A text longer than its field",
        {
            "1003": FITS,
            "1001": FITS,
            "truncated": FITS,
            TAKEN: FITS,
        },
    ),
    "U6a": Question("301 records in one call", {"1003": OWN_CHECK, TAKEN: OWN_CHECK}),
    "U6b": Question("301 values in one query", {"1003": OWN_CHECK, TAKEN: OWN_CHECK}),
    "U7": Question(
        "The same key twice in one call",
        {"later": OWN_CHECK, "all": OWN_CHECK, "earlier": OWN_CHECK, TAKEN: OWN_CHECK},
    ),
    "U8": Question(
        "The roles of a person who is merged into another",
        {
            "winner": "Marketo moves them by itself; the sync finds them there",
            "orphaned": LOOKED_AT_AGAIN,
            "removed": LOOKED_AT_AGAIN,
        },
    ),
    "U9": Question(
        "A role for a person who was merged into another",
        {
            "unknown": "it is answered as for a person that Marketo doesn't have (U1)",
            "winner": "the person that is left gets it at once",
        },
    ),
    "U10": Question(
        "A new opportunity without a name",
        {TAKEN: "nothing: the sync always sends one", "1002": "nothing: the sync always sends one"},
    ),
    "U11": Question(
        "A field that Marketo doesn't have",
        {
            "record": LEFT_ALONE,
            "request": LEFT_ALONE,
            TAKEN: "a field that is deleted in Marketo is noticed within a day, by what Marketo describes",
        },
    ),
    "U12": Question(
        "A value of another type than its field's",
        {
            "1003": "such a record is parked until it changes, with the field's name",
            "1001": "such a record is parked until it changes, with the field's name",
            TAKEN: "such a value is turned into something by Marketo; `explain` shows into what",
        },
    ),
    "U13": Question("A page of 301", {TAKEN: OWN_CHECK, "1003": OWN_CHECK}),
    "U14": Question("A call without records", {"1003": OWN_CHECK, TAKEN: OWN_CHECK}),
    "U15": Question(
        "Do calls that are refused for the rate count against the day's quota",
        {
            YES: "calls of all integrations together beyond the rate eat up the day: keep MARKETO_CALLS_PER_20S low",
            NO: "calls beyond the rate cost time only",
        },
    ),
    CLEARS_COMPANY: Question(
        "Does null take the company off an opportunity",
        {
            "cleared": "an opportunity that loses its account loses its company",
            UNCHANGED: "an opportunity that loses its account keeps its company in Marketo; `plan` doesn't call that "
            "a difference",
        },
    ),
    LOGS_NOOP: Question(
        "Does an update that changes nothing log “Opportunity Updated”",
        {
            NO: "what is posted again unchanged starts no campaign",
            YES: "what is posted again unchanged, as by `resync`, starts campaigns; `plan` counts it",
        },
    ),
    "U18": Question(
        "Does re-creating a deleted opportunity log “Added to Opportunity” again",
        {
            YES: "an opportunity that is deleted by others and posted again starts campaigns for its people",
            NO: "an opportunity that is deleted by others and posted again starts no campaign",
        },
    ),
}


def means(question: str, answer: str) -> str:
    """'' for what stands in no list: questions of Dynamics, and answers that nobody foresaw."""
    known = QUESTIONS.get(question)
    return known.means.get(answer, "") if known else ""
