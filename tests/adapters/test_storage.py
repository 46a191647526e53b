"""Probing the storage account: what is written is deleted, and a refusal names the role."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count

import pytest
from azure.data.tables import TableClient

from sync_core.adapters.clock import SystemClock
from sync_core.adapters.storage import Storage, open_storage
from sync_core.errors import ConfigurationError, CredentialsRefused
from sync_core.model import Lane, State
from sync_core.settings import Settings
from tools.azurite import ACCOUNT_KEY, Azurite
from tools.contents import contents

ROLES = {
    "tables": "Storage Table Data Contributor",
    "queues": "Storage Queue Data Contributor",
    "blobs": "Storage Blob Data Owner",
}
numbers = count()


def opened(connection: str, **more: str) -> tuple[str, Storage]:
    """Tables and queues of this test alone, and the prefix of their names."""
    prefix = f"Probe{next(numbers)}"
    settings = Settings(
        dataverse_url="https://org.invalid",
        marketo_url="https://123-abc-456.invalid",
        marketo_client_id="id",
        marketo_client_secret="secret",
        storage_connection=connection,
        **more,
    )
    return prefix, open_storage(settings, SystemClock(), map, prefix=prefix)


def probes(connection: str, **more: str) -> tuple[str, dict[str, Callable[[], None]]]:
    prefix, storage = opened(connection, **more)
    return prefix, dict(storage.probes)


def test_what_is_only_read_is_not_created(azurite: Azurite) -> None:
    before = contents(azurite.connection_string)
    _, storage = opened(azurite.connection_string)
    ids = [f"0000000{number:x}-0000-4000-8000-000000000000" for number in range(16)]  # enough for a page

    assert storage.documents.read("feed", "opportunity") is None
    assert storage.documents.list("feed") == []
    assert storage.people.read(ids) == {}
    assert storage.opportunities.rows(ids) == {}
    assert storage.opportunities.due(datetime.max.replace(tzinfo=UTC), 9) == []
    assert list(storage.opportunities.in_state(State.HELD)) == []
    assert list(storage.opportunities.ids()) == []
    assert set(storage.opportunities.counts().values()) == {0}
    assert storage.history.of(ids[0]) == []
    assert set(storage.queue.lengths().values()) == {0}
    assert list(storage.queue.peek(Lane.FRESH)) == []

    assert contents(azurite.connection_string) == before


def test_every_kind_is_probed_twice_and_nothing_is_left(azurite: Azurite) -> None:
    prefix, found = probes(azurite.connection_string)

    assert found.keys() == ROLES.keys()
    for probe in (*found.values(), *found.values()):
        probe()

    table = TableClient.from_connection_string(azurite.connection_string, f"{prefix}SyncState")
    assert list(table.list_entities()) == []


@pytest.mark.parametrize("name", ROLES)
def test_a_wrong_key_is_refused_with_the_role_that_an_identity_would_need(azurite: Azurite, name: str) -> None:
    wrong = "A" * (len(ACCOUNT_KEY) - 2) + "=="
    _, found = probes(azurite.connection_string.replace(ACCOUNT_KEY, wrong))

    with pytest.raises(CredentialsRefused, match=r"Storage refuses us \(403") as refused:
        found[name]()
    assert ROLES[name] in str(refused.value)
    assert wrong not in str(refused.value)


def test_without_an_address_for_blobs_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://localhost:1")
    monkeypatch.setenv("IDENTITY_HEADER", "x")
    uris = {f"storage_{kind}_uri": f"https://x.{kind}.invalid" for kind in ("queue", "table")}

    with pytest.raises(ConfigurationError, match="blobServiceUri is not set"):
        probes("", **uris)[1]["blobs"]()
