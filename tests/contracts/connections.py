"""Promises of the port `ConnectionMap`."""

from __future__ import annotations

from sync_core.ports import ConnectionMap
from tests.contracts.ledger import an_id

ONE, TWO, THREE, FOUR, DEAL, OTHER = (an_id(number) for number in range(6))
LATER = 1e12  # seconds: time enough


class ConnectionMapContract:
    """Give a fixture `connections` with an empty one."""

    def test_reads_all_that_was_written(self, connections: ConnectionMap) -> None:
        connections.write([(ONE, DEAL), (TWO, DEAL)])
        connections.write([(ONE, OTHER), (TWO, DEAL)])

        assert connections.read([ONE, TWO, THREE, ONE]) == {ONE: {DEAL, OTHER}, TWO: {DEAL}}

    def test_nothing(self, connections: ConnectionMap) -> None:
        connections.write([])
        connections.delete([])
        connections.tidy(until=LATER)

        assert connections.read([]) == {}
        assert connections.read([ONE]) == {}

    def test_deletes_what_may_be_missing(self, connections: ConnectionMap) -> None:
        connections.write([(ONE, DEAL), (TWO, DEAL), (THREE, DEAL), (THREE, OTHER)])

        connections.delete([ONE, THREE, FOUR])
        connections.delete([ONE])

        assert connections.read([ONE, TWO, THREE, FOUR]) == {TWO: {DEAL}}

    def test_a_connection_that_comes_back(self, connections: ConnectionMap) -> None:
        connections.write([(ONE, DEAL)])
        connections.delete([ONE])
        connections.write([(ONE, OTHER)])

        assert connections.read([ONE]) == {ONE: {OTHER}}

    def test_hundreds_in_one_call_and_tidied_up(self, connections: ConnectionMap) -> None:
        pairs = {an_id(number): an_id(number % 7) for number in range(1_000, 1_400)}
        connections.write([*pairs.items()])
        connections.tidy(until=LATER)

        assert connections.read([*pairs, ONE]) == {key: {each} for key, each in pairs.items()}

        connections.delete([key for number, key in enumerate(pairs) if number % 2])
        connections.tidy(until=LATER)

        assert connections.read(pairs.keys()).keys() == {key for number, key in enumerate(pairs) if not number % 2}
