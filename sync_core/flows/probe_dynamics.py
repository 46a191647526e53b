"""The experiments on Dynamics (dataverse.md §12)."""

from __future__ import annotations

from collections.abc import Iterator

from sync_core.flows.probe import Finding
from sync_core.flows.world import World


def probe_dynamics(world: World, *, write: bool) -> Iterator[Finding]:
    """None yet."""
    return iter(())
