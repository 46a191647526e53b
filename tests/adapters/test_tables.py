"""Tables and their fakes keep the same promises; and what only the real ones can get wrong."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    DeserializationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline.transport import RequestsTransport
from azure.data.tables import TableClient, TableServiceClient, UpdateMode

from sync_core.adapters import tables
from sync_core.adapters.clock import SystemClock
from sync_core.adapters.storage import Storage, open_storage
from sync_core.adapters.tables import StorageError, TableDocuments, TableLedger, TableMap, storage_answers
from sync_core.errors import ConfigurationError, CredentialsRefused, NewerVersion, Unavailable
from sync_core.model import LedgerRow, State
from sync_core.ports import FanOut
from sync_core.settings import Settings
from tests.contracts.documents import DocumentsContract
from tests.contracts.ledger import NOON, LedgerContract, a_row, an_id, assert_adds_up, inserted, stored
from tests.contracts.lookup import LookupContract
from tests.fakes import FakeClock, FakeDocuments, FakeLedger, FakeLookup
from tools.azurite import Azurite

numbers = count()


def settings_of(connection: str = "", **more: str) -> Settings:
    services = {"dataverse_url": "", "marketo_url": "", "marketo_client_id": "", "marketo_client_secret": ""}
    return Settings(**services, storage_connection=connection, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def fan_out() -> Iterator[FanOut]:
    with ThreadPoolExecutor(8) as pool:
        yield pool.map


@pytest.fixture
def storage(azurite: Azurite, fan_out: FanOut) -> Storage:
    """Tables and queues of this test alone."""
    return open_storage(settings_of(azurite.connection_string), SystemClock(), fan_out, prefix=f"tables{next(numbers)}")


@contextmanager
def a_table(azurite: Azurite, **options: Any) -> Iterator[TableClient]:
    """A new table, for what `open_storage` leaves no choice in."""
    service = TableServiceClient.from_connection_string(azurite.connection_string, **options)
    with service, service.get_table_client(f"single{next(numbers)}") as table:
        yield table


# --- the promises -----------------------------------------------------------------------------------------------


class TestFakeLedger(LedgerContract):
    @pytest.fixture
    def ledger(self) -> FakeLedger:
        return FakeLedger()


class TestTableLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, storage: Storage) -> TableLedger:
        return storage.opportunities


class TestFakeLookup(LookupContract):
    @pytest.fixture
    def lookup(self) -> FakeLookup:
        return FakeLookup()


class TestTableMap(LookupContract):
    @pytest.fixture
    def lookup(self, storage: Storage) -> TableMap:
        return storage.people


class TestFakeDocuments(DocumentsContract):
    @pytest.fixture
    def documents(self) -> FakeDocuments:
        return FakeDocuments()


class TestTableDocuments(DocumentsContract):
    @pytest.fixture
    def documents(self, storage: Storage) -> TableDocuments:
        return storage.documents


# --- reading ----------------------------------------------------------------------------------------------------


@pytest.fixture
def crowded(storage: Storage) -> TableLedger:
    """300 rows in two partitions, every third id missing."""
    ids = [f"{digit}{an_id(number)[1:]}" for digit in "0f" for number in range(225)]
    storage.opportunities.write([LedgerRow(id) for number, id in enumerate(ids) if number % 3])
    return storage.opportunities


@pytest.mark.parametrize(("page", "point_read"), [(1_000, 50), (10, 3), (7, 50), (1, 1)])
def test_finds_the_same_however_it_reads(
    crowded: TableLedger, monkeypatch: pytest.MonkeyPatch, page: int, point_read: int
) -> None:
    ids = [f"{digit}{an_id(number)[1:]}" for digit in "0f" for number in range(225)]
    present = {id for number, id in enumerate(ids) if number % 3}
    monkeypatch.setattr(tables, "PAGE", page)
    monkeypatch.setattr(tables, "POINT_READ", point_read)
    chance = random.Random(page)

    for size in (1, 7, 8, 9, 40, 449, 450):
        some = chance.sample(ids, size)
        assert crowded.rows(some).keys() == present & set(some)


def test_a_ticket_is_good_however_the_row_was_read(storage: Storage) -> None:
    ledger = storage.opportunities
    ids = [f"7{an_id(number)[1:]}" for number in range(20)]
    ledger.write([LedgerRow(id) for id in ids])
    in_a_page, singly = ledger.rows(ids), {id: ledger.rows([id])[id] for id in ids}

    assert in_a_page == singly


def test_reads_many_rows_in_few_operations(azurite: Azurite) -> None:
    transport = CountingTransport()
    with a_table(azurite, transport=transport) as table:
        ledger = TableLedger(table, SystemClock(), map)
        rows = inserted(ledger, *(a_row(number) for number in range(400)))

        assert transport.during(lambda: ledger.rows([row.id for row in rows])) == 16
        assert transport.during(lambda: ledger.rows([rows[0].id])) == 1
        assert transport.during(ledger.counts) == 16
        assert transport.during(lambda: ledger.due(NOON, 1_000)) == 16
        assert transport.during(lambda: ledger.write(rows)) == 16


class CountingTransport(RequestsTransport):  # type: ignore[misc]  # the SDK exports it in a way mypy cannot see
    """Counts requests."""

    requests = 0

    def send(self, request: Any, **options: Any) -> Any:
        self.requests += 1
        return super().send(request, **options)

    def during(self, action: Any) -> int:
        """How many requests *action* takes."""
        before = self.requests
        action()
        return self.requests - before


def test_256_partitions_hold_the_same(azurite: Azurite, fan_out: FanOut) -> None:
    with a_table(azurite) as table:
        ledger = TableLedger(table, SystemClock(), fan_out, prefix=2)
        inserted(ledger, *(a_row(number, State.WAITING, due=NOON) for number in range(60)))

        assert_adds_up(ledger, [an_id(number) for number in range(60)])


# --- writing ----------------------------------------------------------------------------------------------------


def test_writers_in_threads_keep_the_counts_exact(azurite: Azurite, fan_out: FanOut) -> None:
    ids = [f"c{an_id(number)[1:]}" for number in range(12)]

    def work(seed: int) -> int:
        chance = random.Random(seed)
        ledger = TableLedger(table, SystemClock(), map)
        won = 0
        for _ in range(8):
            rows = ledger.rows(some := chance.sample(ids, 5))
            wanted = [rows.get(id, LedgerRow(id)) for id in some]
            states = [chance.choice(list(State)) for _ in wanted]
            won += 5 - len(
                ledger.write([row.become(state, due=NOON) for row, state in zip(wanted, states, strict=True)])
            )
        return won

    with a_table(azurite) as table:
        won = sum(fan_out(work, range(8)))

        assert 0 < won < 8 * 8 * 5
        assert_adds_up(TableLedger(table, SystemClock(), map), ids)


def test_a_missing_pointer_does_not_lock_its_row(azurite: Azurite) -> None:
    with a_table(azurite) as table:
        ledger = TableLedger(table, SystemClock(), map)
        [row] = inserted(ledger, a_row(1, State.PARKED))
        table.delete_entity(row.id[0], f"!parked|{row.id}")

        assert ledger.write([row.become(State.IN_STEP)]) == set()
        assert_adds_up(ledger, [row.id])


def test_counts_that_somebody_changed_are_told_and_put_right(azurite: Azurite) -> None:
    with a_table(azurite) as table:
        ledger = TableLedger(table, SystemClock(), map)
        [row, *_] = inserted(ledger, a_row(1, State.PARKED), a_row(2), a_row(17, State.GONE))
        entity = table.get_entity(row.id[0], "!counts")
        entity["doc"] = json.dumps({**json.loads(entity["doc"]), "parked": 9, "held": 2})
        table.update_entity(entity, mode="replace")

        assert ledger.recount() == {"parked": 8, "held": 2}
        assert ledger.recount(mend=True) == {"parked": 8, "held": 2}
        assert ledger.recount() == {}
        assert ledger.counts()["parked"] == 1


def test_counts_of_a_partition_that_is_written_to_all_the_time_are_not_called_wrong(azurite: Azurite) -> None:
    with a_table(azurite) as table:
        ledger, other = (TableLedger(table, SystemClock(), map, prefix=0) for _ in range(2))
        inserted(ledger, a_row(1), a_row(2))
        read = ledger._read_counts

        def busy(partition: str) -> Any:
            found = read(partition)
            [row] = stored(other, 1)
            moved = row.become(State.IN_STEP) if row.state is State.HELD else row.become(State.HELD, reason="held")
            assert other.write([moved]) == set()
            return found

        ledger._read_counts = busy  # type: ignore[method-assign]
        assert ledger.recount() == ledger.recount(mend=True) == {}
        assert_adds_up(other, [an_id(1), an_id(2)])


def test_gives_up_on_counts_that_never_rest(azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    with a_table(azurite) as table:
        ledger = TableLedger(table, clock, map)
        inserted(ledger, a_row(1))
        monkeypatch.setattr(ledger, "_read_counts", lambda _: ({}, None))

        with pytest.raises(Unavailable, match="counts"):
            ledger.write([stored(ledger, 1)[0].become(State.HELD)])

    assert 5 < clock.monotonic() < 15


def test_a_transaction_without_an_answer_is_unavailable_and_counts_stay_exact(azurite: Azurite) -> None:
    transport = DeafTransport()
    with a_table(azurite, transport=transport) as table:
        ledger = TableLedger(table, SystemClock(), map)
        [row] = inserted(ledger, a_row(1))

        transport.deaf = True
        with pytest.raises(Unavailable):
            ledger.write([row.become(State.HELD)])
        transport.deaf = False

        assert ledger.write([row.become(State.HELD)]) == {row.id}
        assert_adds_up(ledger, [row.id])


class DeafTransport(RequestsTransport):  # type: ignore[misc]
    """Sends transactions and hears no answer."""

    deaf = False

    def send(self, request: Any, **options: Any) -> Any:
        answer = super().send(request, **options)
        if self.deaf and request.method == "POST":
            raise ServiceResponseTimeoutError("no answer")
        return answer


def test_refuses_a_ledger_of_a_newer_version(azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_table(azurite) as table:
        ledger = TableLedger(table, SystemClock(), map)
        inserted(ledger, a_row(1))
        monkeypatch.setattr(tables, "SCHEMA", 0)

        with pytest.raises(NewerVersion):
            ledger.rows([an_id(1)])


def without_reasons(table: TableClient) -> None:
    """As schema 1 may have left it: counts by state alone, pointers that say nothing."""
    for entity in list(table.list_entities()):
        if entity["RowKey"] == "!counts":
            numbers = {name: n for name, n in tables._content(entity).items() if "|" not in name}
            table.upsert_entity(tables._entity(entity["PartitionKey"], "!counts", numbers), mode=UpdateMode.REPLACE)
        elif "|" in entity["RowKey"]:
            table.upsert_entity(tables._entity(entity["PartitionKey"], entity["RowKey"]), mode=UpdateMode.REPLACE)


def test_reasons_that_an_earlier_version_did_not_count_are_counted(azurite: Azurite) -> None:
    with a_table(azurite) as table:
        clock = FakeClock()
        ledger = TableLedger(table, clock, map)
        rows = inserted(ledger, *(a_row(number) for number in range(40)))
        ledger.write([row.become(State.PARKED, reason="bad") for row in rows[:15]])
        ledger.write([row.become(State.WAITING, reason="no person", due=clock.now()) for row in rows[15:20]])
        right = ledger.tally()
        without_reasons(table)
        assert ledger.tally() != right

        assert not ledger.take_over(until=clock.monotonic())
        assert ledger.take_over(until=clock.monotonic() + 1)

        assert ledger.tally() == right
        told = [each for page in ledger.pointers(State.PARKED, reason="bad") for each in page]
        assert {each.id for each in told} == {row.id for row in rows[:15]}
        assert ledger.take_over(until=clock.monotonic()), "what adds up is not counted again"


def test_a_map_survives_a_deletion_in_between(azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_table(azurite) as table:
        first, second = TableMap(table, map), TableMap(table, map)
        first.write({an_id(number): {} for number in range(60)})
        read = first._table.read

        def read_and_lose(*pairs: Any) -> Any:
            present = list(read(*pairs))
            second.delete([an_id(3)])
            return present

        monkeypatch.setattr(first._table, "read", read_and_lose)
        first.delete([an_id(number) for number in range(60)])

        assert second.read([an_id(number) for number in range(60)]) == {}


def test_a_dropped_table_is_created_again(azurite: Azurite) -> None:
    with a_table(azurite) as table:
        documents = TableDocuments(table)
        documents.write("feed", "contact", {}, None)
        table.delete_table()

        with pytest.raises(Unavailable):
            documents.write("feed", "contact", {}, None)

        assert documents.write("feed", "contact", {}, None)


# --- the account ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, None])
def test_a_busy_service_is_unavailable(status: int | None) -> None:
    with pytest.raises(Unavailable), storage_answers("role"):
        raise answered(status)


@pytest.mark.parametrize(
    "error", [ServiceRequestError("refused"), ServiceResponseTimeoutError("silence"), DeserializationError("<html>")]
)
def test_no_connection_or_no_answer_of_storage_is_unavailable(error: Exception) -> None:
    with pytest.raises(Unavailable) as caught, storage_answers("role"):
        raise error
    assert str(error) not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_names_the_setting_and_the_role(status: int) -> None:
    with pytest.raises(CredentialsRefused, match=r"AzureWebJobsStorage.*'Storage Table Data Contributor'"):  # noqa: SIM117
        with storage_answers("Storage Table Data Contributor"):
            raise answered(status)


def test_an_identity_without_a_token_is_a_setting() -> None:
    with pytest.raises(CredentialsRefused, match="no token"), storage_answers("role"):
        raise ClientAuthenticationError("no managed identity endpoint found")


def test_what_we_do_not_know_is_raised_without_the_answers_text() -> None:
    with (
        pytest.raises(StorageError, match="storage answered HttpResponseError 400") as caught,
        storage_answers("role"),
    ):
        raise answered(400)
    assert "the body of an answer" not in str(caught.value)
    assert caught.value.__suppress_context__


def answered(status: int | None) -> HttpResponseError:
    error = HttpResponseError("the body of an answer")
    error.status_code = status
    return error


def test_a_wrong_key_is_a_setting(azurite: Azurite) -> None:
    head, _, tail = azurite.connection_string.partition("AccountKey=")
    wrong = f"{head}AccountKey={'A' * 86}==;{tail.partition(';')[2]}"
    storage = open_storage(settings_of(wrong), SystemClock(), map)

    with pytest.raises(CredentialsRefused, match="Storage Table Data Contributor"):
        storage.documents.read("feed", "contact")
    with pytest.raises(CredentialsRefused, match="Storage Queue Data Contributor"):
        storage.queue.lengths()


def test_nobody_listening_is_unavailable() -> None:
    nowhere = "http://127.0.0.1:1/devstoreaccount1"
    connection = f"AccountName=devstoreaccount1;AccountKey=QUJD;TableEndpoint={nowhere};QueueEndpoint={nowhere}"
    storage = open_storage(settings_of(connection), SystemClock(), map)

    with pytest.raises(Unavailable):
        storage.documents.read("feed", "contact")
    with pytest.raises(Unavailable):
        storage.queue.lengths()


def test_opens_an_account_by_identity_without_asking_it() -> None:
    uris = {
        "storage_table_uri": "https://x.table.core.windows.net",
        "storage_queue_uri": "https://x.queue.core.windows.net",
    }

    assert open_storage(settings_of(**uris, storage_client_id="1234"), SystemClock(), map)
    assert open_storage(settings_of(**uris), SystemClock(), map)
    assert logging.getLogger("azure.core").getEffectiveLevel() == logging.WARNING


@pytest.mark.parametrize("connection", ["secret nonsense", "AccountName=x", "UseDevelopmentStorage=secret"])
def test_a_bad_connection_string_is_not_repeated(connection: str) -> None:
    with pytest.raises(ConfigurationError, match="AzureWebJobsStorage") as caught:
        open_storage(settings_of(connection), SystemClock(), map)

    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_takes_the_short_form_of_local_storage_with_its_semicolon() -> None:
    assert open_storage(settings_of("UseDevelopmentStorage=true;"), SystemClock(), map)


@pytest.mark.parametrize("prefix", ["1a", "a-b", "ä", "a" * 21])
def test_refuses_a_prefix_that_makes_no_names(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        open_storage(settings_of("UseDevelopmentStorage=true"), SystemClock(), map, prefix=prefix)


def test_rows_are_due_across_time_zones(storage: Storage) -> None:
    elsewhere = NOON.astimezone(tz=None) + timedelta(0)
    inserted(storage.companies, replace(a_row(1, State.WAITING), due=elsewhere))

    assert storage.companies.due(NOON, 1) == [an_id(1)]


def test_history_is_kept_by_opportunity_and_forgotten_by_age(azurite: Azurite) -> None:
    history = open_storage(settings_of(azurite.connection_string), SystemClock(), map, prefix="History").history
    one, other = (f"{digit}0000000-0000-4000-8000-000000000001" for digit in "1f")
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    history.add(early, {one: {"name": "First", "amount": 1.5}, other: {"name": None}})
    history.add(late, {one: {"name": "Second"}})

    assert [fields for _, fields in history.of(one)] == [{"name": "Second"}, {"name": "First", "amount": 1.5}]
    history.forget(datetime(2026, 2, 1, tzinfo=UTC))
    assert [fields for _, fields in history.of(one)] == [{"name": "Second"}]
    assert history.of(other) == []
