"""The storage emulator is the real thing: it starts, stores, stops, and leaves nothing behind."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueServiceClient

from tools import azurite as azurite_module
from tools.azurite import Azurite, AzuriteError
from tools.azurite import azurite as run_azurite

REPOSITORY = Path(__file__).parent.parent


def alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def store_a_row(connection_string: str) -> None:
    with TableServiceClient.from_connection_string(connection_string) as tables:
        table = tables.create_table_if_not_exists("roundtrip")
        table.upsert_entity({"PartitionKey": "p", "RowKey": "r", "value": 42})


def read_the_row(connection_string: str) -> object:
    with TableServiceClient.from_connection_string(connection_string) as tables:
        return tables.get_table_client("roundtrip").get_entity("p", "r")["value"]


def test_keeps_a_table_row(azurite: Azurite) -> None:
    store_a_row(azurite.connection_string)

    assert read_the_row(azurite.connection_string) == 42


def test_delivers_a_queue_message(azurite: Azurite) -> None:
    with QueueServiceClient.from_connection_string(azurite.connection_string) as queues:
        queue = queues.create_queue("roundtrip")
        queue.send_message("hello", time_to_live=-1)
        message = queue.receive_message()

    assert message is not None
    assert (message.content, message.dequeue_count) == ("hello", 1)


def test_a_folder_keeps_the_data_for_the_next_start(tmp_path: Path) -> None:
    with run_azurite(tmp_path) as emulator:
        store_a_row(emulator.connection_string)
    with run_azurite(tmp_path, ports=emulator.ports) as again:
        assert read_the_row(again.connection_string) == 42


def test_can_be_killed() -> None:
    with run_azurite() as emulator:
        emulator.kill()

        assert emulator.process.returncode == -signal.SIGKILL


def test_a_taken_port_is_reported(azurite: Azurite) -> None:
    with pytest.raises(AzuriteError, match="is taken"), run_azurite(ports=azurite.ports):
        pass


def test_does_not_outlive_a_crashed_parent() -> None:
    program = (
        "import os, signal\n"
        "from tools.azurite import azurite\n"
        "with azurite() as emulator:\n"
        "    print(emulator.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    parent = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert parent.returncode == -signal.SIGKILL
    assert wait_until_gone(int(parent.stdout))


def test_another_try_on_other_ports_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else took a port between our look and Azurite's."""
    real = azurite_module._free_ports
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        taken = real()._replace(blob=other.getsockname()[1])
        ports = iter([taken])
        monkeypatch.setattr(azurite_module, "_free_ports", lambda: next(ports, None) or real())

        with run_azurite() as emulator:
            assert emulator.ports != taken
    gc.collect()  # what was left open warns, and a warning is an error
