"""What host.json and the engine have to agree on, and the map of the package."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import sync_core
from sync_core.engine import TIME_BOX_S
from sync_core.settings import LONGEST_LATE_WRITE_S, Settings

ROOT = Path(__file__).parent.parent
HOST = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))


def seconds(text: str) -> float:
    hours, minutes, rest = text.split(":")
    return timedelta(hours=int(hours), minutes=int(minutes), seconds=int(rest)).total_seconds()


def test_detect_stops_at_sixty_percent_of_the_functions_time() -> None:
    assert seconds(HOST["functionTimeout"]) * 0.6 == TIME_BOX_S


def test_a_failed_message_comes_back_no_sooner_than_a_late_write_may_happen() -> None:
    late = Settings.__dataclass_fields__["marketo_late_write_s"].default

    assert seconds(HOST["extensions"]["queues"]["visibilityTimeout"]) >= LONGEST_LATE_WRITE_S >= late


def test_the_map_names_every_module() -> None:
    package = ROOT / "sync_core"
    modules = {
        ".".join(path.relative_to(package).with_suffix("").parts)
        for path in package.rglob("*.py")
        if path.stem not in ("__init__", "__main__")
    }

    named = {name for name in modules if name in str(sync_core.__doc__)}

    assert named == modules
