"""The table of codes against the vendor's list, transcribed from marketo.md §4 and not from our table."""

from __future__ import annotations

import pytest

from sync_core.errors import ConfigurationError, QuotaExhausted, SplitBatch, Throttled, Unavailable, UnknownCode
from sync_core.model import Answer, MarketoObject, Verdict
from sync_core.rules.verdicts import CODES, WORDS, Meaning, all_refused, failure, in_words, reason, verdict

WAIT = {"500", "502", "608", "614", "713", "719"}
THROTTLED = {"606", "615"}
SPLIT = {"604", "611", "718"}
SETTING = {
    *("600", "603", "605", "609", "610", "612", "613", "616", "701", "703", "704", "709", "710", "711", "712", "714"),
    *("1011", "1018", "1035"),
}
RECORD = {"1001", "1002", "1003", "1005", "1006", "1007", "1008", "1009", "1010", "1021", "1036", "1077", "1080"}
LATER = {"1004", "1013", "1014", "1022"}


def failed(*codes: str, text: str = "", write: bool = True) -> Exception:
    return failure([(code, text) for code in codes], write=write, seconds_to_reset=3600)


@pytest.mark.parametrize(
    ("codes", "kind"),
    [(WAIT, Unavailable), (THROTTLED, Throttled), (SPLIT, SplitBatch), (SETTING, ConfigurationError)],
)
def test_codes_over_a_whole_answer_become_the_error_that_says_what_happens_next(codes: set[str], kind: type) -> None:
    for code in codes:
        assert type(failed(code)) is kind, code


def test_the_quota_is_waited_for_until_its_reset() -> None:
    error = failed("607")

    assert isinstance(error, QuotaExhausted)
    assert error.delay == 3600


def test_unknown_codes_are_waited_for() -> None:
    assert type(failed("699")) is UnknownCode
    assert type(failed("699", write=False)) is Unavailable
    assert type(failed("")) is Unavailable


def test_the_gravest_of_several_codes_is_raised() -> None:
    assert type(failed("713", "603")) is ConfigurationError
    assert type(failed("606", "607")) is QuotaExhausted


@pytest.mark.parametrize("code", sorted(RECORD - {"1006"} | LATER))
def test_a_records_code_over_a_whole_write_means_that_one_of_its_records_sank_it(code: str) -> None:
    assert type(failed(code)) is SplitBatch
    assert type(failed(code, write=False)) is ConfigurationError


@pytest.mark.parametrize(
    "text", ["Invalid dedupeBy 'x' value", "Invalid filterType 'billingCountry'", "filterType not specified"]
)
def test_a_wrong_parameter_is_nothing_that_splitting_could_cure(text: str) -> None:
    assert type(failed("1003", text=text)) is ConfigurationError


def test_an_unknown_field_over_a_whole_answer_is_a_fault_of_the_mapping() -> None:
    error = failed("1006", text="Field 'crm__c' not found")

    assert isinstance(error, ConfigurationError)
    assert "unknown field in the mapping" in str(error)
    assert "crm__c" in str(error)


def test_too_many_matches_are_split_although_other_1003_are_not() -> None:
    assert type(failed("1003", text="Too many results match the filter", write=False)) is SplitBatch


@pytest.mark.parametrize("code", ["500", "502", "604"])
def test_whoever_gave_up_waiting_for_marketo_does_not_know_whether_it_wrote(code: str) -> None:
    assert getattr(failed(code), "unanswered", None) is True


@pytest.mark.parametrize("code", ["608", "611", "713", "718"])
def test_a_refusal_by_marketo_itself_wrote_nothing(code: str) -> None:
    assert getattr(failed(code), "unanswered", None) is False


@pytest.mark.parametrize("code", sorted(RECORD))
def test_a_bad_record_is_refused_until_it_changes(code: str) -> None:
    assert verdict(Answer("skipped", code), removal=False, kind=MarketoObject.OPPORTUNITY) is Verdict.REFUSED


@pytest.mark.parametrize("code", sorted(LATER))
def test_a_record_that_refers_to_something_missing_waits(code: str) -> None:
    assert verdict(Answer("skipped", code), removal=False, kind=MarketoObject.ROLE) is Verdict.LATER


@pytest.mark.parametrize("code", sorted(WAIT | THROTTLED | SPLIT | SETTING))
def test_the_services_own_trouble_is_never_a_records_fault(code: str) -> None:
    assert verdict(Answer("skipped", code), removal=False, kind=MarketoObject.OPPORTUNITY) is Verdict.LATER


@pytest.mark.parametrize("kind", list(MarketoObject))
def test_what_is_gone_already_counts_as_removed(kind: MarketoObject) -> None:
    assert verdict(Answer("skipped", "1013"), removal=True, kind=kind) is Verdict.DONE


def test_a_person_still_missing_is_no_finished_removal() -> None:
    assert verdict(Answer("skipped", "1004"), removal=True, kind=MarketoObject.ROLE) is Verdict.LATER


@pytest.mark.parametrize("status", ["created", "updated", "deleted"])
def test_written_is_done(status: str) -> None:
    assert verdict(Answer(status), removal=False, kind=MarketoObject.COMPANY) is Verdict.DONE


def test_an_unknown_1xxx_parks_the_record_and_anything_else_unknown_waits() -> None:
    assert verdict(Answer("skipped", "1999"), removal=False, kind=MarketoObject.LEAD) is Verdict.REFUSED
    assert verdict(Answer("skipped", "42"), removal=False, kind=MarketoObject.LEAD) is Verdict.LATER
    assert verdict(Answer("removed"), removal=True, kind=MarketoObject.LEAD) is Verdict.LATER


def test_what_waiting_cannot_cure_decides_among_several_reasons() -> None:
    assert reason([("1004", "Lead not found"), ("1003", "Field 'a' is bad")]) == ("1003", "field 'a'")
    assert reason([]) == ("", "")


def test_one_code_at_every_record_is_systemic_only_for_settings_and_unknown_fields() -> None:
    assert all_refused([Answer("skipped", "1018")] * 3) == "1018"
    assert all_refused([Answer("skipped", "1006")]) == "1006"
    assert all_refused([Answer("skipped", "1006"), Answer("updated")]) == ""
    assert all_refused([Answer("skipped", "1003")] * 3) == ""
    assert all_refused([]) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "Invalid value for field 'email' and value 'anna@example.test'",
            "1003 a value or a parameter was not accepted, field 'email'",
        ),
        ("Invalid value 'O'Brien'. Required of type 'int'", "1003 a value or a parameter was not accepted"),
        ("Invalid value 'x' for field 'y'", "1003 a value or a parameter was not accepted"),
        ("no person anna@example.test here", "1003 a value or a parameter was not accepted"),
        ("Field 'crm__c' not found", "1003 a value or a parameter was not accepted, field 'crm__c'"),
    ],
)
def test_texts_keep_the_field_and_lose_everything_else(text: str, shown: str) -> None:
    assert in_words("1003", text) == shown


def test_every_code_that_waits_has_words() -> None:
    waiting = {code for code, found in CODES.items() if found not in (Meaning.SETTING, Meaning.RECORD, Meaning.EMPTY)}

    assert {code for code in waiting if len(code) == 3} <= WORDS.keys()
