"""The emulators as a bench needs them: processes of their own, filled, and without limits that would make us wait."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sync_core.settings import Settings
from tools.azurite import Azurite, azurite
from tools.emulators.admin import Admin
from tools.emulators.dataverse.made import Made
from tools.emulators.marketo.switches import Switches
from tools.emulators.serving import certificate_authority

ROOT = Path(__file__).parent.parent
STOP_S = 10
AT_ONCE = 5_000  # people of one admin request

NO_LIMIT = {"rate_limit": 10_000_000, "daily_quota": 100_000_000}
"""Marketo's switches; its ten concurrent calls stay."""

OUR_SHARE = {"marketo_calls_per_20s": 1_000_000, "marketo_daily_calls": 100_000_000, "marketo_concurrency": 5}


def an_org(opportunities: int, *, seed: int = 1, roles: float = 1.5) -> dict[str, Any]:
    """What Dataverse is filled with: an account for five opportunities, three contacts for five."""
    return {
        "seed": seed,
        "opportunities": opportunities,
        "roles_per_opportunity": roles,
        "accounts": opportunities // 5,
        "contacts": opportunities * 3 // 5,
    }


@dataclass(frozen=True, slots=True)
class Emulators:
    """Both services, and the doors to look behind them."""

    settings: Settings
    dataverse: Admin
    marketo: Admin


@dataclass(frozen=True, slots=True)
class Services(Emulators):
    """Everything the engine talks to."""

    storage: Azurite

    def at_real_limits(self, *, latency: float) -> Services:
        """The same at Marketo's limits, with our default share of them; every call takes *latency* seconds."""
        limits = {each.name: each.default for each in fields(Switches) if each.name in NO_LIMIT}
        self.marketo.post("switches", limits | {"latency": latency})
        share: dict[str, Any] = {each.name: each.default for each in fields(Settings) if each.name in OUR_SHARE}
        return replace(self, settings=replace(self.settings, **share))


@contextmanager
def services(rows: dict[str, Any]) -> Iterator[Services]:
    """The emulators and Azurite."""
    with azurite() as storage, emulators(rows) as found:
        settings = replace(found.settings, storage_connection=storage.connection_string)
        yield Services(settings, found.dataverse, found.marketo, storage)


@contextmanager
def emulators(rows: dict[str, Any]) -> Iterator[Emulators]:
    """Dataverse filled as its `/admin/generate` is asked with *rows*, everybody with an address in Marketo."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        authority = certificate_authority(folder)
        stack.enter_context(_trusting(authority))
        dataverse = stack.enter_context(_emulator("dataverse", folder))
        marketo = stack.enter_context(_emulator("marketo", folder))
        doors = [Admin(facts["url"], authority) for facts in (dataverse, marketo)]
        for door in doors:
            stack.callback(door.close)
        doors[0].post("generate", rows)
        doors[1].post("switches", NO_LIMIT)
        _make_known(rows, dataverse["url"], marketo["url"], authority)
        yield Emulators(_settings(dataverse, marketo), *doors)


def _settings(dataverse: dict[str, Any], marketo: dict[str, Any]) -> Settings:
    return Settings(
        dataverse_url=dataverse["url"],
        dataverse_tenant_id=dataverse["tenant_id"],
        dataverse_client_id=dataverse["client_id"],
        dataverse_client_secret=dataverse["client_secret"],
        dataverse_authority_host=dataverse["url"],
        marketo_url=marketo["url"],
        marketo_client_id=marketo["client_id"],
        marketo_client_secret=marketo["client_secret"],
        sync_config=str(ROOT / "sync.toml"),
        **OUR_SHARE,
    )


@contextmanager
def _trusting(authority: Path) -> Iterator[None]:
    before = os.environ.get("REQUESTS_CA_BUNDLE")
    os.environ["REQUESTS_CA_BUNDLE"] = str(authority)
    try:
        yield
    finally:
        if before is None:
            del os.environ["REQUESTS_CA_BUNDLE"]
        else:
            os.environ["REQUESTS_CA_BUNDLE"] = before


@contextmanager
def _emulator(which: str, folder: Path) -> Iterator[dict[str, Any]]:
    """One emulator until the block ends; the facts it prints."""
    command = [sys.executable, "-m", "tools.emulators", which, "--folder", str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own program
    try:
        line = process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise RuntimeError(f"the {which} emulator didn't start")
        yield json.loads(line)[which]
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def _make_known(rows: dict[str, Any], dataverse: str, marketo: str, authority: Path) -> None:
    """In another process, so that the contacts never count as memory of ours."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        process.submit(_copy_people, rows, dataverse, marketo, str(authority)).result()


def _copy_people(rows: dict[str, Any], dataverse: str, marketo: str, authority: str) -> None:
    target = Admin(marketo, authority)
    contacts = _made(rows) if rows.get("made") else Admin(dataverse, authority).get("rows/contact")
    emails = (str(row["emailaddress1"]).lower() for row in contacts if row.get("emailaddress1"))
    while some := [*islice(emails, AT_ONCE)]:
        target.post("leads", {"leads": [{"email": email} for email in some]})


def _made(rows: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The contacts of an organization that makes its rows, without asking it."""
    made = Made(**{name: value for name, value in rows.items() if name != "made"})
    return (made.contact(number) for number in range(len(made.ids["contact"])))
