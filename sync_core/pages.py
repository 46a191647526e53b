"""Templates of pages: everything that is put into one is escaped, and a name that is missing is an error."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def environment() -> Environment:
    """For the status page and the audit's report; each adds what only its templates use."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "web" / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
