"""Another secret, certificate or custom service while hosts are at work, as docs/operations.md says, and wrongly."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from sync_core.model import State
from tools.kills.edits import People
from tools.kills.site import Site

EDITS = 6
PATIENCE_S = 30


@dataclass(frozen=True)
class Rotation:
    """What is added, what is then set in its place, and what is revoked at last."""

    add: Callable[[], object]
    settings: dict[str, str]
    revoke: Callable[[], object]


def secret(site: Site) -> Rotation:
    site.change_settings(DATAVERSE_CLIENT_CERTIFICATE="")
    old, new = site.settings["DATAVERSE_CLIENT_SECRET"], f"another secret {time.monotonic()}"
    return Rotation(
        lambda: site.dataverse.post("credentials", {"add": {"secret": new}}),
        {"DATAVERSE_CLIENT_SECRET": new},
        lambda: site.dataverse.post("credentials", {"revoke": {"secret": old}}),
    )


def certificate(site: Site) -> Rotation:
    """From a certificate to another; the first takes the place of the secret, which stays where it is."""
    old, new = pem(), pem()
    site.dataverse.post("credentials", {"add": {"certificate": public(old)}})
    site.change_settings(DATAVERSE_CLIENT_CERTIFICATE=old)
    return Rotation(
        lambda: site.dataverse.post("credentials", {"add": {"certificate": public(new)}}),
        {"DATAVERSE_CLIENT_CERTIFICATE": new},
        lambda: site.dataverse.post("credentials", {"revoke": {"certificate": public(old)}}),
    )


def service(site: Site) -> Rotation:
    """Marketo has one secret for each custom service: the second service belongs to the same API-only user."""
    old = site.settings["MARKETO_CLIENT_ID"]
    new = {"id": f"service-{time.monotonic_ns()}", "secret": "another secret"}
    return Rotation(
        lambda: site.marketo.post("services", {"add": new}),
        {"MARKETO_CLIENT_ID": new["id"], "MARKETO_CLIENT_SECRET": new["secret"]},
        lambda: site.marketo.post("services", {"delete": old}),
    )


def pem() -> str:
    """A private key and its certificate."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "opportunity-sync")])
    now, day = datetime.now(UTC), timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    private = key.private_bytes(serialization.Encoding.PEM, *plain).decode()
    return private + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def public(text: str) -> str:
    return text[text.index("-----BEGIN CERTIFICATE") :]


ROTATIONS = {"secret": secret, "certificate": certificate, "Marketo's service": service}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """In step. What was given for a credential dies with it, so that the next call meets what a day's would."""
    folder = tmp_path_factory.mktemp("rotation")
    with Site(folder, SYNC_SCHEDULE="*/2 * * * * *", MARKETO_CALLS_PER_20S="100") as site:
        site.fill(opportunities=20, accounts=6, contacts=12, roles_per_opportunity=1.0)
        site.marketo.post("switches", {"latency": 0.03})
        site.dataverse.post("switches", {"tokens_of_revoked_credentials": "die"})
        yield site


@pytest.fixture
def people(site: Site) -> Iterator[People]:
    yield People(site.dataverse, random.Random(7))
    site.stop_hosts()


def edit(people: People) -> None:
    for _ in range(EDITS):
        people.act()


def at_work(site: Site) -> None:
    """A host that has signed in at both services."""
    host, before = site.start_host(0), calls(site)
    for _ in wait_until(lambda: host.gauge.ticked and calls(site) > before):
        pass


def calls(site: Site) -> int:
    return int(site.marketo.get("calls")["total"])


def stops(site: Site) -> list[Mapping[str, Any]]:
    """The last runs that stopped for a setting."""
    return [run for _, run in site.world.documents.list("run") if run.get("stopped")]


def wait_until(condition: Callable[[], object]) -> Iterator[None]:
    """Twice a second until *condition* holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        yield
        time.sleep(0.5)


def is_right(site: Site) -> None:
    """At rest everything is in Marketo, and nobody was blamed."""
    site.rest()
    assert site.stop_hosts() == [0]
    assert site.problems() == []
    counts = {**site.world.opportunities.counts(), **site.world.companies.counts()}
    assert counts[State.PARKED] == counts[State.HELD] == 0


@pytest.mark.timeout(240)
@pytest.mark.parametrize("which", ROTATIONS)
def test_in_the_right_order_nothing_stops(site: Site, people: People, which: str) -> None:
    rotation = ROTATIONS[which](site)
    failed = site.failed()
    edit(people)
    at_work(site)

    rotation.add()
    edit(people)
    site.change_settings(**rotation.settings)
    site.start_host(1)  # Azure starts new instances before the old ones have ended
    edit(people)
    assert site.stop_hosts(but=1) == [0]
    rotation.revoke()
    edit(people)

    is_right(site)
    assert site.failed() == failed, "no invocation noticed"
    assert stops(site) == []


@pytest.mark.timeout(240)
@pytest.mark.parametrize("which", ROTATIONS)
def test_in_the_wrong_order_all_stops_loses_nothing_and_goes_on_once_mended(
    site: Site, people: People, which: str
) -> None:
    rotation = ROTATIONS[which](site)
    edit(people)
    at_work(site)

    rotation.revoke()
    for _ in wait_until(lambda: stops(site)):
        people.act()
    stopped = stops(site)
    rotation.add()
    site.change_settings(**rotation.settings)
    site.stop_hosts()
    site.start_host(1)

    is_right(site)
    assert {run["kind"] for run in stopped} == {"CredentialsRefused"}
    assert {run["trouble"].partition(" ")[0] for run in stopped} <= {"Entra", "Dataverse", "Marketo"}
