"""What is about to be done, kept until somebody confirms it: once, within ten minutes, whoever asked.

A confirmation is a document of kind "confirmation"; its name is the nonce that the form brings back. What will be done
is read from it and not from the form, so that nobody confirms one thing and gets another. No secret is kept.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sync_core.flows.world import World
from sync_core.web.wire import Refused

CONFIRMATION = "confirmation"
GOOD_FOR = timedelta(minutes=10)
TIDIED = 20  # old ones that go when a new one comes
_NONCE = re.compile(r"[0-9]{11}-[A-Za-z0-9_-]{43}")


def offer(world: World, action: str, targets: Mapping[str, Any], who: str) -> str:
    """The nonce under which *who* may do *action* to *targets*."""
    _tidy(world)
    ends = _second(world) + int(GOOD_FOR.total_seconds())
    nonce = f"{ends:011d}-{secrets.token_urlsafe(32)}"  # in order of time: the oldest are found first
    world.documents.write(CONFIRMATION, nonce, {"action": action, "targets": dict(targets), "who": who}, None)
    return nonce


def redeem(world: World, nonce: str, action: str, who: str) -> Mapping[str, Any]:
    """The targets. Only one of several that come with the same nonce gets them. Raises Refused (403)."""
    found = world.documents.read(CONFIRMATION, nonce) if _NONCE.fullmatch(nonce) else None
    if found is None or found.value.get("used") or int(nonce[:11]) <= _second(world):
        raise _refused("was used already, or is older than ten minutes")
    if (found.value.get("action"), found.value.get("who")) != (action, who):
        raise _refused("was made for something or somebody else")
    if world.documents.write(CONFIRMATION, nonce, {"used": True}, found.ticket) is None:
        raise _refused("was used already")
    world.documents.delete(CONFIRMATION, nonce)
    targets: Mapping[str, Any] = found.value["targets"]
    return targets


def _refused(why: str) -> Refused:
    return Refused(
        403,
        f"This confirmation {why}. Nothing was done by this request.",
        "The log at the end of the status page says what was done. If it is still wanted, choose it there again.",
    )


def _second(world: World) -> int:
    return int(world.clock.now().timestamp())


def _tidy(world: World) -> None:
    now = f"{_second(world):011d}"
    for name, _ in world.documents.list(CONFIRMATION, limit=TIDIED):
        if name[:11] <= now:
            world.documents.delete(CONFIRMATION, name)
