"""The emulated Dataverse over real HTTPS, for the tests of what talks to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.web import DataverseApp
from tools.emulators.serving import certificate_authority, serving

Served = tuple[DataverseApp, str, Path]
"""The application, its URL, and the certificate of the authority that vouches for it."""


@contextmanager
def dataverse_served(folder: Path) -> Iterator[Served]:
    authority = certificate_authority(folder)
    app = DataverseApp(DataverseState())
    with serving(app, folder=folder) as url:
        yield app, url, authority
