"""Promises of the port `Lookup`."""

from __future__ import annotations

from sync_core.ports import Lookup
from tests.contracts.ledger import an_id


class LookupContract:
    """Give a fixture `lookup` with an empty one."""

    def test_reads_what_was_written_last(self, lookup: Lookup) -> None:
        lookup.write({"one": {"lead": 1}, "two": {"lead": 2, "name": "Ä"}})
        lookup.write({"one": {"other": None}})

        assert lookup.read(["one", "two", "three", "one"]) == {"one": {"other": None}, "two": {"lead": 2, "name": "Ä"}}

    def test_nothing(self, lookup: Lookup) -> None:
        lookup.write({})
        lookup.delete([])

        assert lookup.read([]) == {}

    def test_deletes_what_may_be_missing(self, lookup: Lookup) -> None:
        lookup.write({"one": {}, "two": {}, "three": {}})

        lookup.delete(["one", "three", "four"])
        lookup.delete(["one"])

        assert lookup.read(["one", "two", "three", "four"]).keys() == {"two"}

    def test_counts_what_is_missing(self, lookup: Lookup) -> None:
        assert lookup.missing() == 0
        lookup.write({an_id(n): {"lead": n % 2, "missing": True} if n % 2 else {"lead": n} for n in range(50)})
        assert lookup.missing() == 25

        lookup.write({an_id(1): {"lead": 7}})
        lookup.delete([an_id(3)])

        assert lookup.missing() == 23

    def test_hundreds_in_one_call(self, lookup: Lookup) -> None:
        values = {an_id(number): {"number": number} for number in range(400)}
        lookup.write(values)

        assert lookup.read([*values, an_id(1_000)]) == values

        lookup.delete([an_id(number) for number in range(0, 800, 2)])

        assert lookup.read(values.keys()) == {an_id(n): {"number": n} for n in range(1, 400, 2)}

    def test_what_is_read_is_a_copy(self, lookup: Lookup) -> None:
        value = {"roles": [1]}
        lookup.write({"one": value})
        value["roles"].append(2)
        lookup.read(["one"])["one"]["roles"].append(3)

        assert lookup.read(["one"]) == {"one": {"roles": [1]}}
