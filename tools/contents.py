"""What stands in a storage account, to be compared: that of two moments is equal if nobody wrote in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueServiceClient

PEEKED = 32  # messages, the service's limit

Contents = Mapping[str, Mapping[Any, Any]]


def contents(connection: str) -> Contents:
    """Every table with its entities, by keys; every queue with its length and its first visible messages, by id.

    ETags tell a write that changed nothing, dequeue counts a receipt. Looking leaves no trace.
    """
    found: dict[str, Mapping[Any, Any]] = {}
    with TableServiceClient.from_connection_string(connection) as tables:
        for table in tables.list_tables():
            entities = tables.get_table_client(table.name).list_entities()
            found[f"table {table.name}"] = {
                (each["PartitionKey"], each["RowKey"]): {**each, "etag": each.metadata["etag"]} for each in entities
            }
    with QueueServiceClient.from_connection_string(connection) as queues:
        for name in [each.name for each in queues.list_queues()]:
            queue = queues.get_queue_client(name)
            peeked = queue.peek_messages(max_messages=PEEKED)
            found[f"queue {name}"] = {
                "messages": queue.get_queue_properties().approximate_message_count,
                **{each.id: (each.dequeue_count, each.content) for each in peeked},
            }
    return found
