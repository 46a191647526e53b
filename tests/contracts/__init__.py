"""What every adapter of a port promises, and so does its fake: one class of tests for both."""

import pytest

pytest.register_assert_rewrite(
    *(f"tests.contracts.{name}" for name in ("connections", "ledger", "lookup", "documents", "queue"))
)
