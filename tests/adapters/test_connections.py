"""The connection map: nothing is lost whoever writes, reads, folds or dies between any two requests."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from azure.core.pipeline.transport import RequestsTransport
from azure.data.tables import TableClient

from sync_core.adapters import tables
from sync_core.adapters.storage import Storage
from sync_core.adapters.tables import BUCKETS, TableConnections, TableMap
from sync_core.flows.rehearsal import ConnectionsOver, Kept
from tests.adapters.test_tables import CountingTransport, a_table, fan_out, storage  # noqa: F401 - fixtures
from tests.contracts.connections import DEAL, LATER, ONE, OTHER, THREE, TWO, ConnectionMapContract
from tests.contracts.ledger import an_id
from tests.fakes import FakeClock, FakeConnections
from tools.azurite import Azurite


class TestFakeConnections(ConnectionMapContract):
    @pytest.fixture
    def connections(self) -> FakeConnections:
        return FakeConnections()


class TestTableConnections(ConnectionMapContract):
    @pytest.fixture
    def connections(self, storage: Storage) -> TableConnections:  # noqa: F811 - the fixture
        return storage.connections


class TestFoldedTableConnections(ConnectionMapContract):
    """All of it in leaves, each of a few connections."""

    @pytest.fixture
    def connections(self, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> TableConnections:  # noqa: F811
        monkeypatch.setattr(tables, "SEGMENTS", 1)
        monkeypatch.setattr(tables, "PAIRS", 40)
        monkeypatch.setattr(tables, "FOLDED", 90)
        return storage.connections


class TestRehearsedConnections(ConnectionMapContract):
    @pytest.fixture
    def connections(self) -> Iterator[ConnectionsOver]:
        kept = Kept()
        yield ConnectionsOver(FakeConnections(), kept)
        kept.close()

    def test_what_it_lies_over_shows_through_and_stays_as_it_is(self) -> None:
        base, kept = FakeConnections(), Kept()
        base.write([(ONE, DEAL), (TWO, DEAL)])
        over = ConnectionsOver(base, kept)

        over.write([(ONE, OTHER), (THREE, OTHER)])
        over.delete([TWO])

        assert over.read([ONE, TWO, THREE]) == {ONE: {DEAL, OTHER}, THREE: {OTHER}}
        assert base.content == {ONE: {DEAL}, TWO: {DEAL}}
        kept.close()


def test_a_leaf_is_cut_by_its_pairs_however_many_a_connection_has() -> None:
    held = {f"{number:032x}": {f"{number:026x}{deal:06x}" for deal in range(5)} for number in range(4_000)}

    leaves = [entity for _, entity, _ in tables._leaves(held, tables._LAST, None)]

    assert len(leaves) == 4
    assert max(2 * sum(map(len, leaf.values())) for leaf in leaves) < 2**20 / 2  # UTF-16, of 1 MiB
    assert dict.fromkeys(connection for leaf in leaves for connection, _ in tables._pairs(leaf)).keys() == held.keys()


def test_one_connection_is_never_cut() -> None:
    held = {"0" * 31 + "1": {f"{deal:032x}" for deal in range(1, 6_000)}}

    assert len(tables._leaves(held, tables._LAST, None)) == 1


# --- between two requests ---------------------------------------------------------------------------------------


class Died(BaseException):
    """The process ends: nobody catches it."""


class Between(RequestsTransport):  # type: ignore[misc]  # the SDK exports it in a way mypy cannot see
    """Lets a test do something before each request of one client, also die."""

    happens: Callable[[], None] | None = None

    def send(self, request: Any, **options: Any) -> Any:
        if self.happens is not None:
            self.happens()
        return super().send(request, **options)


@contextmanager
def two(azurite: Azurite) -> Iterator[tuple[TableConnections, Between, TableConnections, TableClient]]:
    """Two processes with one map, and what happens between the requests of the first; the table."""
    transport = Between()
    with a_table(azurite, transport=transport) as table, a_client(azurite, table.table_name) as other:
        first = TableConnections(table, FakeClock(), map)
        yield first, transport, TableConnections(other, FakeClock(), map), other


@contextmanager
def a_client(azurite: Azurite, name: str) -> Iterator[TableClient]:
    with TableClient.from_connection_string(azurite.connection_string, table_name=name) as table:
        yield table


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments are folded soon and leaves cut soon."""
    for name, number in (("SEGMENTS", 3), ("PAIRS", 4), ("FOLDED", 7), ("FEW", 5)):
        monkeypatch.setattr(tables, name, number)


class Crowd:
    """Random writers, deleters and folders of one map, and a plain dict of what must be found."""

    def __init__(self, seed: int, connections: TableConnections) -> None:
        self.chance = random.Random(seed)
        self.connections = connections
        self.ids = [an_id(number) for number in range(40)]
        self.wanted: dict[str, set[str]] = {}
        self.deleted: set[str] = set()

    def act(self) -> None:
        """A write mostly; a deleted id never comes back."""
        some = self.chance.sample(self.ids, self.chance.choice((1, 2, 9)))
        action = self.chance.random()
        if action < 0.6:
            pairs = [(key, an_id(self.chance.randrange(100, 103))) for key in some if key not in self.deleted]
            self.connections.write(pairs)
            for key, opportunity in pairs:
                self.wanted.setdefault(key, set()).add(opportunity)
        elif action < 0.75:
            self.connections.delete(some[:2])
            self.deleted |= set(some[:2])
            self.wanted = {key: known for key, known in self.wanted.items() if key not in self.deleted}
        else:
            self.connections.tidy(until=LATER)

    def missing(self, found: Mapping[str, Any]) -> dict[str, set[str]]:
        return {key: lost for key, known in self.wanted.items() if (lost := known - found.get(key, set()))}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(6))
def test_no_pair_is_lost_wherever_a_fold_is_overtaken_or_dies(azurite: Azurite, seed: int) -> None:
    """Garbage may be left, of deleted connections only, and only where two folded at once."""
    with two(azurite) as (first, between, second, _):
        crowd = Crowd(seed, second)

        def happens() -> None:
            if crowd.chance.random() < 0.1:
                raise Died
            if crowd.chance.random() < 0.4:
                crowd.act()

        for _ in range(15):
            crowd.act()
            between.happens = happens
            with suppress(Died):
                first.tidy(until=LATER)
            between.happens = None
            found = first.read(crowd.ids)
            assert crowd.missing(found) == {}
            assert {key: known for key, known in found.items() if key not in crowd.deleted} == crowd.wanted
            one = crowd.chance.choice(crowd.ids)
            assert second.read([one]).get(one) == found.get(one)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(3))
def test_whoever_reads_finds_what_a_fold_moves_meanwhile(azurite: Azurite, seed: int) -> None:
    """All that was there before the reading began."""
    with two(azurite) as (first, between, second, _):
        crowd = Crowd(seed, second)

        def happens() -> None:
            if crowd.chance.random() < 0.3:
                second.tidy(until=LATER)

        for _ in range(15):
            for _ in range(4):
                crowd.act()
            between.happens = happens
            found = first.read(crowd.ids)
            between.happens = None
            assert found == crowd.wanted


@pytest.mark.usefixtures("small")
def test_a_fold_without_time_loses_nothing_and_the_next_one_ends_it(azurite: Azurite) -> None:
    with two(azurite) as (first, between, second, table):
        pairs = [(an_id(number), an_id(100)) for number in range(60)]
        for start in range(0, 60, 4):
            second.write(pairs[start : start + 4])
        clock = first._clock
        between.happens = lambda: clock.sleep(1)

        for _ in range(40):
            first.tidy(until=clock.monotonic() + 18)
            assert second.read([key for key, _ in pairs]).keys() == {key for key, _ in pairs}
            if not segments(table):
                break

        assert not segments(table)


def segments(table: TableClient) -> list[Any]:
    return [*table.query_entities("PartitionKey eq 'new'", select=["RowKey"])]


# --- what it costs ----------------------------------------------------------------------------------------------


def test_a_full_delivery_is_one_entity_and_a_deletion_another(azurite: Azurite) -> None:
    with a_table(azurite) as table:
        connections = TableConnections(table, FakeClock(), map)
        connections.write([(an_id(number), an_id(-number)) for number in range(2_850)])
        connections.delete([an_id(number) for number in range(3)])

        assert len([*table.list_entities()]) == 2


@pytest.mark.usefixtures("small")
def test_the_map_does_not_grow_by_what_comes_and_goes(azurite: Azurite) -> None:
    with a_table(azurite) as table:
        connections = TableConnections(table, FakeClock(), map)
        for number in range(20):
            connections.write([(an_id(number), an_id(-1))])
            connections.delete([an_id(number)])
            connections.tidy(until=LATER)

        assert len([*table.list_entities()]) <= 2 + 1  # segments, and the only leaf
        assert connections.read([an_id(number) for number in range(20)]) == {}


def test_reading_and_looking_whether_to_fold_are_few_operations(
    azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = CountingTransport()
    with a_table(azurite, transport=transport) as table:
        connections = TableConnections(table, FakeClock(), map)
        ids = [an_id(number) for number in range(400)]
        connections.write([(key, an_id(-1)) for key in ids])

        assert transport.during(lambda: connections.read([])) == 0
        assert transport.during(lambda: connections.tidy(until=LATER)) == 1
        assert transport.during(lambda: connections.tidy(until=-1)) == 0
        monkeypatch.setattr(tables, "SEGMENTS", 1)
        monkeypatch.setattr(tables, "PAIRS", 100)
        connections.tidy(until=LATER)
        assert transport.during(lambda: connections.read(ids)) == 1 + 1 + 4  # segments, names of leaves, leaves
        assert transport.during(lambda: connections.read(ids[:1])) == 1 + 1


# --- the earlier layout -------------------------------------------------------------------------------------------


def singly(table: TableClient, pairs: Mapping[str, str]) -> None:
    """As the first layout kept them: an entity for each connection."""
    TableMap(table, map).write({connection: {"o": deal} for connection, deal in pairs.items()})


def test_wherever_a_take_over_is_killed_the_next_one_ends_it(azurite: Azurite, small: None) -> None:
    pairs = {an_id(number): an_id(1000 + number % 7) for number in range(20)}
    ended, killed_after = False, 0
    while not ended:
        with two(azurite) as (first, transport, second, other):
            singly(other, pairs)
            transport.happens = dying_after(killed_after)
            killed_after += 11
            try:
                ended = first.take_over(until=LATER)
            except Died:
                assert second.take_over(until=LATER)
            assert {key: {deal} for key, deal in pairs.items()} == second.read(list(pairs))
            assert [each["PartitionKey"] for each in other.list_entities() if each["PartitionKey"] in BUCKETS] == []


def dying_after(requests: int) -> Callable[[], None]:
    left = iter(range(requests))

    def happens() -> None:
        if next(left, None) is None:
            raise Died

    return happens


def test_two_take_over_at_once(azurite: Azurite, small: None) -> None:
    pairs = {an_id(number): an_id(1000 + number) for number in range(12)}
    with two(azurite) as (first, transport, second, other):
        singly(other, pairs)
        turns = iter(range(1000))

        def happens() -> None:
            if next(turns) % 9 == 4:
                transport.happens = None
                second.take_over(until=LATER)
                transport.happens = happens

        transport.happens = happens
        assert first.take_over(until=LATER)
        transport.happens = None

        assert {key: {deal} for key, deal in pairs.items()} == second.read(list(pairs))


def test_a_take_over_ends_when_its_time_is_over(azurite: Azurite) -> None:
    with two(azurite) as (first, _, second, other):
        singly(other, {ONE: DEAL})

        assert not first.take_over(until=0.0)
        assert second.take_over(until=LATER)
        assert first.read([ONE]) == {ONE: {DEAL}}
        assert first.take_over(until=0.0), "nothing is left"
