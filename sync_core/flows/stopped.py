"""A setting or the mapping keeps the sync from even beginning: told apart from the alerts, which need an engine."""

from __future__ import annotations

from sync_core.errors import SyncError
from sync_core.flows.guard import PAIR
from sync_core.flows.status import WATCH
from sync_core.ports import Documents, Webhook

STOPPED = (WATCH, "stopped")
LOOK = "How to look and to mend: docs/operations.md, stopped"


def tell(documents: Documents, webhook: Webhook, text: str) -> None:
    """Tell once that nothing runs and why, or that it runs again (*text* is ''). What can't be kept is not told:
    it would be every five minutes.

    Raises what storage and webhook do; then it is told later.
    """
    document = documents.read(*STOPPED)
    known = document.value["text"] if document else ""
    if text == known:
        return
    pair = documents.read(*PAIR)
    which = f" ({pair.value['munchkin']})" if pair else ""
    ticket = documents.write(*STOPPED, {"text": text}, document.ticket if document else None)
    if ticket is None:
        return  # somebody else was first, and tells
    try:
        if text:
            webhook.tell(f"Opportunity Sync{which}: nothing runs", [f"stopped: {text.rstrip('.')}. {LOOK}"])
        else:
            webhook.tell(f"Opportunity Sync{which}: runs again", ["stopped: over"])
    except SyncError:
        documents.write(*STOPPED, {"text": known}, ticket)
        raise
