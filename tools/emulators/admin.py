"""A client for the emulators' own endpoint, `/admin/`: for tests, the demo and the bench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests


class Admin:
    """Speaks JSON with one emulator; an answer other than 2xx is an error that quotes it."""

    def __init__(self, base_url: str, ca_file: str | Path) -> None:
        self._root = f"{base_url.rstrip('/')}/admin/"
        self._session = requests.Session()
        # REQUESTS_CA_BUNDLE would override `verify`, and it may name another authority.
        self._session.trust_env = False
        self._session.verify = str(ca_file)

    def get(self, path: str) -> Any:
        return self._answer("GET", path)

    def post(self, path: str, body: Any = None) -> Any:
        return self._answer("POST", path, json={} if body is None else body)

    def delete(self, path: str) -> Any:
        return self._answer("DELETE", path)

    def close(self) -> None:
        self._session.close()

    def _answer(self, method: str, path: str, **options: Any) -> Any:
        response = self._session.request(method, self._root + path.lstrip("/"), timeout=600, **options)
        if not response.ok:
            raise requests.HTTPError(
                f"{method} {path}: {response.status_code} {response.text[:500]}", response=response
            )
        return response.json() if response.content else None
