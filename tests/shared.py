"""Data made by others, beside the checkout; tests that need it are skipped where it isn't there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not FOLDER.is_dir(), reason="no ../shared/data beside the checkout")


def rows(path: str) -> list[dict[str, Any]]:
    """The rows of a `{"value": […]}` file below shared/data."""
    return list(json.loads((FOLDER / path).read_text(encoding="utf-8"))["value"])
