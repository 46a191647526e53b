"""What is left of a service's text in ours: the field perhaps, never a value, a name, an address or a token."""

from __future__ import annotations

import json

import pytest
from werkzeug.wrappers import Response

from sync_core.errors import SyncError
from sync_core.model import Answer
from sync_core.rules import verdicts
from sync_core.rules.planning import refusal
from tests.stage import Stage

ADDRESS, NAME, PHONE = "zoltana.quxworthy@leakmark.invalid", "Zoltana Quxworthy", "+49 30 77712345"
MARKERS = ("zoltana", "quxworthy", "leakmark", "77712345", "s3cret", "eyjhbgcioi", "98765432")

TEXTS = [
    f"Invalid value for field 'email' and value '{ADDRESS}'",  # recorded, marketo.md §4.3
    f"Invalid value '{NAME}'. Required of type 'Integer'",
    f"Invalid value '{NAME}'",
    f"Invalid value '{NAME}' of field 'name'",
    "Invalid value 'Zoltana O'Quxworthy'. Required of type 'Integer'",
    f"Invalid value for field 'name' and value '{NAME}' or '{PHONE}'",
    f"Value '{NAME}' for field 'name' exceeds max length",
    f'Invalid value "{NAME}" for field "name"',
    f"Invalid value “{NAME}” for field name",
    f"Invalid value for field 'name': {NAME}",
    f"Lead '{NAME}' not found",
    f"Lead {NAME} not found",
    f"No data found for {PHONE}",
    f"Invalid email address [{ADDRESS}]",
    "Invalid email address zoltana.quxworthy%40leakmark.invalid",
    "Access token 's3cret-123:int' invalid",
    "Access token s3cret-123:int invalid",
    "Authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.s3cret",
    "client_id=1&client_secret=s3cret&grant_type=client_credentials",
    "Sql error: Conversion failed when converting the nvarchar value 'Zoltana' to data type int.",
    "The value 98765432.10 is out of range for amount",
]


def shows(text: str) -> list[str]:
    return [marker for marker in MARKERS if marker in text.casefold()]


@pytest.mark.parametrize("text", TEXTS)
def test_an_error_over_a_whole_answer_of_marketo_shows_no_value(text: str) -> None:
    for code in ("603", "609", "611", "1003", "9999"):
        error = verdicts.failure([(code, text)], write=False, seconds_to_reset=0)

        assert not shows(str(error)), str(error)


@pytest.mark.parametrize("text", TEXTS)
def test_the_reason_of_a_refused_record_shows_no_value(text: str) -> None:
    code, kept = verdicts.reason([("1003", text)])

    assert not shows(refusal(Answer("skipped", code, kept)))


@pytest.mark.parametrize("text", TEXTS)
def test_a_refusal_of_dataverse_shows_no_value(text: str) -> None:
    stage = Stage()
    for status, code in ((400, "0x80040203"), (400, "0x80060888"), (403, "0x80040220"), (500, "0x80040216")):
        answer = json.dumps({"error": {"code": code, "message": text}})
        stage.dataverse_app.interceptors[:] = [lambda _, answer=answer, status=status: Response(answer, status)]

        with pytest.raises(SyncError) as error:
            stage.tick()

        assert not shows(str(error.value)), str(error.value)
