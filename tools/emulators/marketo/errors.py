"""The three places where Marketo puts a failure (marketo.md §1.2, §3.0)."""

from __future__ import annotations


class ApiError(Exception):
    """Fails the whole request: HTTP 200, `success: false`, `errors: [{code, message}]`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RecordError(ApiError):
    """Skips one record: `status: skipped`, `reasons: [{code, message}]`; the others go on."""


class IdentityError(Exception):
    """HTTP 401 of the identity service, in OAuth shape."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


class PageError(Exception):
    """An answer of the gateway itself: an HTML page with an HTTP status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def record_not_found() -> RecordError:
    return RecordError("1013", "Record not found")


def lead_not_found() -> RecordError:
    return RecordError("1004", "Lead not found")


def crm_enabled() -> RecordError:
    return RecordError("1018", "CRM Enabled")


def no_input() -> ApiError:
    return ApiError("1003", "input not specified")
