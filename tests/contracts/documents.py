"""Promises of the port `Documents`."""

from __future__ import annotations

import pytest

from sync_core.ports import Documents


class DocumentsContract:
    """Give a fixture `documents` with an empty one."""

    def test_reads_what_was_written(self, documents: Documents) -> None:
        ticket = documents.write("feed", "contact", {"link": "https://x/y?z#ä'", "at": None}, None)

        found = documents.read("feed", "contact")

        assert found is not None
        assert (found.value, found.ticket) == ({"link": "https://x/y?z#ä'", "at": None}, ticket)
        assert documents.read("feed", "account") is None
        assert documents.read("run", "contact") is None

    def test_of_two_inserts_the_second_loses(self, documents: Documents) -> None:
        assert documents.write("feed", "contact", {"number": 1}, None)
        assert documents.write("feed", "contact", {"number": 2}, None) is None

    def test_a_ticket_holds_once(self, documents: Documents) -> None:
        first = documents.write("feed", "contact", {"number": 1}, None)
        second = documents.write("feed", "contact", {"number": 2}, first)

        assert second not in {first, None}
        assert documents.write("feed", "contact", {"number": 3}, first) is None
        assert documents.write("feed", "contact", {"number": 4}, second)

    def test_a_ticket_of_a_deleted_document_is_void(self, documents: Documents) -> None:
        ticket = documents.write("feed", "contact", {}, None)
        documents.delete("feed", "contact")
        documents.delete("feed", "contact")

        assert documents.write("feed", "contact", {}, ticket) is None
        assert documents.write("feed", "contact", {}, None)

    def test_lists_one_kind_in_order_of_name(self, documents: Documents) -> None:
        names = ["2026-05-04T12:00:00+00:00", "2026-05-04T12:00:00.5Z", "B", "a", "a b", "a-b", "a.b", "a|b"]
        for number, name in enumerate(reversed(names)):
            documents.write("run", name, {"number": number}, None)
        documents.write("runs", "other", {}, None)

        assert [name for name, _ in documents.list("run")] == sorted(names)
        assert [name for name, _ in documents.list("run", after="B", limit=3)] == sorted(names)[3:6]
        assert documents.list("run", limit=0) == []
        assert documents.list("run", after="~") == []
        assert documents.list("run", limit=1)[0][1] == {"number": 7}

    def test_a_large_document(self, documents: Documents) -> None:
        large = {"ids": ["ö" * 100] * 1_000}
        ticket = documents.write("run", "large", large, None)
        found = documents.read("run", "large")

        assert found is not None
        assert found.value == large
        assert documents.write("run", "large", {"ids": []}, ticket)
        assert documents.list("run") == [("large", {"ids": []})]

    @pytest.mark.parametrize("name", ["", "a/b", "a\\b", "a#b", "a?b", "a\nb", "é"])
    def test_refuses_names_that_tables_do_not_take(self, documents: Documents, name: str) -> None:
        with pytest.raises(ValueError, match="name"):
            documents.write("run", name, {}, None)
