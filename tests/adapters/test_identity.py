"""Whose token it is: the app's in Azure, yours elsewhere; by real azure-identity, msal and storage SDKs.

Azurite takes tokens over HTTPS. Nobody can sign in here, so programs stand in for `az` and `azd` (`tests.signed_in`).
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.identity import ManagedIdentityCredential

from sync_core.adapters import identity
from sync_core.adapters.clock import SystemClock
from sync_core.adapters.dataverse import DataverseClient, signs_in
from sync_core.adapters.identity import OwnSignIn, in_azure
from sync_core.adapters.storage import Storage, open_storage
from sync_core.errors import ConfigurationError, CredentialsRefused, SyncError, Unavailable
from sync_core.model import Lane, SignIn, Work
from sync_core.settings import STORAGE, Settings
from tests.builders import an_id
from tests.fakes import FakeClock
from tests.served import Served, dataverse_served
from tests.signed_in import Programs
from tools.azurite import Azurite
from tools.azurite import azurite as run_azurite
from tools.emulators.dataverse.identity import AZURE_CLI, issue
from tools.emulators.dataverse.state import CLIENT_ID, CLIENT_SECRET, IDENTITY_CLIENT_ID, TENANT, DataverseState
from tools.emulators.dataverse.web import DataverseApp

STORAGE_RESOURCE = "https://storage.azure.com"
ELSEWHERE = "77777777-7777-4777-8777-777777777777"
PERSON = "ann@contoso.invalid"
KINDS = ("tables", "queues", "blobs")
YOURS = ("tables", "queues")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with dataverse_served(tmp_path_factory.mktemp("tls")) as served:
        yield served


@pytest.fixture(scope="module")
def secure_azurite(service: Served) -> Iterator[Azurite]:
    with run_azurite(tls=service[2].parent) as emulator:
        yield emulator


@pytest.fixture
def org(service: Served, monkeypatch: pytest.MonkeyPatch) -> DataverseApp:
    app, _, authority = service
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    app.state = DataverseState()
    app.interceptors.clear()
    app.journal.clear()
    return app


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """A machine outside Azure on which neither program is installed."""
    return Programs(tmp_path / "bin", monkeypatch)


@pytest.fixture
def azure(service: Served, org: DataverseApp, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the platform sets for an app with a managed identity."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{service[1]}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", org.state.identity_header)


def settings(url: str, **changes: str) -> Settings:
    plain = {
        "DATAVERSE_URL": url,
        "DATAVERSE_AUTHORITY_HOST": url,
        "MARKETO_URL": "https://123-abc-456.mktorest.com",
        "MARKETO_CLIENT_ID": "id",
        "MARKETO_CLIENT_SECRET": "secret",
        STORAGE: "UseDevelopmentStorage=true",
    }
    return Settings.from_env(plain | changes)


def addresses(azurite: Azurite) -> dict[str, str]:
    return {STORAGE: "", **{f"{STORAGE}__{kind}ServiceUri": uri for kind, uri in azurite.uris.items()}}


def opened(azurite: Azurite, prefix: str = "", **changes: str) -> Storage:
    found = settings("https://localhost:1", **addresses(azurite), **changes)
    return open_storage(found, SystemClock(), map, prefix=prefix)


def connected(service: Served, **changes: str) -> DataverseClient:
    return DataverseClient(settings(service[1], **changes), FakeClock(), map, random=lambda: 0.0)


def yours(service: Served, resource: str, tenant: str = TENANT) -> str:
    """What Entra ID gives to a person."""
    return issue(service[0].state, resource, service[1], tenant=tenant, application=AZURE_CLI)


# --- in Azure or not --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "inside"),
    [
        ({}, False),
        ({"IDENTITY_ENDPOINT": "http://localhost/msi", "IDENTITY_HEADER": "x"}, True),
        ({"MSI_ENDPOINT": "http://localhost/msi", "MSI_SECRET": "x"}, True),
        ({"IDENTITY_ENDPOINT": "", "IDENTITY_HEADER": ""}, False),
        ({"MSI_ENDPOINT": "http://localhost/msi"}, False),  # Cloud Shell
        ({"IDENTITY_ENDPOINT": "http://localhost/msi", "IMDS_ENDPOINT": "http://localhost"}, False),  # Azure Arc
    ],
)
def test_in_azure_is_where_the_platform_offers_an_app_s_identity(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, given: Mapping[str, str], inside: bool
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    assert in_azure() is inside


@pytest.mark.parametrize(
    ("changes", "inside", "outside"),
    [
        ({}, SignIn.MANAGED_IDENTITY, SignIn.OWN),
        ({"DATAVERSE_CLIENT_ID": CLIENT_ID}, SignIn.MANAGED_IDENTITY, SignIn.OWN),
        ({"DATAVERSE_FEDERATED_CLIENT_ID": IDENTITY_CLIENT_ID}, SignIn.FEDERATED, SignIn.OWN),
        ({"DATAVERSE_CLIENT_SECRET": "x"}, SignIn.SECRET, SignIn.SECRET),
        ({"DATAVERSE_CLIENT_CERTIFICATE": "x"}, SignIn.CERTIFICATE, SignIn.CERTIFICATE),
        (
            {"DATAVERSE_CLIENT_SECRET": "x", "DATAVERSE_CLIENT_CERTIFICATE": "x"},
            SignIn.CERTIFICATE,
            SignIn.CERTIFICATE,
        ),
    ],
)
def test_as_whom_follows_from_the_settings_and_the_place(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], inside: SignIn, outside: SignIn
) -> None:
    registered = {"DATAVERSE_TENANT_ID": TENANT, "DATAVERSE_CLIENT_ID": CLIENT_ID} if changes else {}
    found = settings("https://org.invalid", **registered | changes)

    assert signs_in(found) is outside
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://localhost/msi")
    monkeypatch.setenv("IDENTITY_HEADER", "x")
    assert signs_in(found) is inside


# --- storage ----------------------------------------------------------------------------------------------------


def use(storage: Storage) -> None:
    """Everything that is kept, and the probes."""
    for probe in storage.probes.values():
        probe()
    storage.documents.write("run", "detect", {"at": "now"}, None)
    found = storage.documents.read("run", "detect")
    assert found is not None
    assert found.value == {"at": "now"}
    storage.queue.put(Work(opportunities=(an_id(),)))
    assert len(storage.queue.peek(Lane.FRESH)) == 1


def test_a_managed_identity_opens_tables_queues_and_blobs(secure_azurite: Azurite, azure: None, org) -> None:
    use(opened(secure_azurite, "App", AzureWebJobsStorage__clientId=IDENTITY_CLIENT_ID))

    asked = [entry["path"] for entry in org.journal.since(0)]
    assert asked == ["/msi/token"], "one for all three"


@pytest.mark.parametrize("name", ["az", "azd"])
def test_your_own_sign_in_opens_tables_and_queues(
    secure_azurite: Azurite, service: Served, org: DataverseApp, programs: Programs, name: str
) -> None:
    programs.install(name)
    programs.sign_in(name, STORAGE_RESOURCE, yours(service, STORAGE_RESOURCE))

    storage = opened(secure_azurite, name.capitalize(), AzureWebJobsStorage__clientId=IDENTITY_CLIENT_ID)
    use(storage)

    assert set(storage.probes) == set(YOURS), "blobs are the app's alone"
    assert len(programs.calls(name)) == 1, "one for both"
    assert [entry["path"] for entry in org.journal.since(0)] == []


@pytest.mark.parametrize("kind", YOURS)
def test_a_token_for_something_else_is_refused_with_the_role(
    secure_azurite: Azurite, service: Served, org: DataverseApp, programs: Programs, kind: str
) -> None:
    programs.install("az")
    programs.sign_in("az", STORAGE_RESOURCE, yours(service, "https://vault.azure.net"))

    with pytest.raises(CredentialsRefused, match=r"Storage refuses us \(40[13].*or you, has the role 'Storage "):
        opened(secure_azurite).probes[kind]()


@pytest.mark.parametrize("kind", YOURS)
def test_with_nobody_signed_in_each_kind_says_what_to_do(
    secure_azurite: Azurite, org: DataverseApp, programs: Programs, kind: str
) -> None:
    programs.install("az")

    with pytest.raises(CredentialsRefused, match="nobody is signed in on this machine: run `az login"):
        opened(secure_azurite).probes[kind]()


@pytest.mark.parametrize("kind", KINDS)
def test_an_identity_that_the_app_does_not_have_names_the_setting(
    secure_azurite: Azurite, azure: None, kind: str
) -> None:
    storage = opened(secure_azurite, AzureWebJobsStorage__clientId=ELSEWHERE)

    with pytest.raises(CredentialsRefused, match="set AzureWebJobsStorage__clientId"):
        storage.probes[kind]()


@pytest.mark.parametrize("kind", KINDS)
def test_a_managed_identity_out_of_reach_is_waited_for(
    secure_azurite: Azurite, azure: None, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise ServiceRequestError("the address of somebody")

    monkeypatch.setattr(ManagedIdentityCredential, "get_token", lost)
    with pytest.raises(Unavailable, match=r"does not answer \(ServiceRequestError\)") as caught:
        opened(secure_azurite).probes[kind]()
    assert "somebody" not in str(caught.value)


def test_commands_work_on_a_laptop_after_az_login(
    secure_azurite: Azurite, service: Served, org: DataverseApp, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account takes no key, so nobody but `az` can open it; and `validate` says whose rights it saw."""
    url = service[1]
    programs.install("az")
    programs.sign_in("az", STORAGE_RESOURCE, yours(service, STORAGE_RESOURCE))
    programs.sign_in("az", url, yours(service, url), tenant=TENANT)
    given = {"DATAVERSE_URL": url, **FEDERATED, **addresses(secure_azurite), "DATAVERSE_AUTHORITY_HOST": url}
    marketo = {"MARKETO_URL": "https://localhost:1", "MARKETO_CLIENT_ID": "id", "MARKETO_CLIENT_SECRET": "secret"}

    def command(*words: str) -> Any:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "sync_core", *words, "--json"],
            cwd=ROOT,
            env={**os.environ, **given, **marketo},
            capture_output=True,
            check=False,
        )
        return json.loads(done.stdout)

    assert "error" not in command("status")
    checks = {each["name"]: each for each in command("validate")["checks"]}
    assert {checks[kind]["light"] for kind in YOURS} == {"green"}
    assert "blobs" not in checks
    assert checks["sign-in to Dynamics"]["light"] == "amber"
    assert "as you, not as the app" in checks["sign-in to Dynamics"]["found"]
    assert checks["application user"]["light"] == "green"


def test_a_key_asks_nobody_for_a_token(azurite: Azurite, programs: Programs) -> None:
    programs.install("az")
    storage = open_storage(
        settings("https://localhost:1", AzureWebJobsStorage=azurite.connection_string),
        SystemClock(),
        map,
        prefix="ByKey",
    )
    use(storage)

    assert programs.calls("az") == []


# --- your own sign-in -------------------------------------------------------------------------------------------

SCOPE = f"{STORAGE_RESOURCE}/.default"


def test_a_token_is_asked_of_the_tenant_and_kept_for_each(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    programs.install("az")
    programs.sign_in("az", STORAGE_RESOURCE, "one")
    programs.sign_in("az", STORAGE_RESOURCE, "another", tenant=ELSEWHERE)
    you = OwnSignIn()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: you.get_token(SCOPE).token, range(8)))
    assert set(found) == {"one"}
    assert you.get_token(SCOPE, tenant_id=ELSEWHERE, enable_cae=True).token == "another"
    plain = ["account", "get-access-token", "--output", "json", "--resource", STORAGE_RESOURCE]
    assert programs.calls("az") == [plain, [*plain, "--tenant", ELSEWHERE]]

    now = time.time()
    programs.sign_in("az", STORAGE_RESOURCE, "the next")
    monkeypatch.setattr(identity.time, "time", lambda: now + identity.KEEP - 5)
    assert you.get_token(SCOPE).token == "one"
    monkeypatch.setattr(identity.time, "time", lambda: now + identity.KEEP + 5)
    assert you.get_token(SCOPE).token == "the next"


def test_the_sdks_keep_no_token_for_longer(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    """East of Greenwich azure-identity takes azd's tokens for shorter-lived than they are, west of it for longer."""
    programs.install("azd")
    for zone in ("Etc/GMT+11", "Etc/GMT-14"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        programs.sign_in("azd", STORAGE_RESOURCE, "a token")
        before = len(programs.calls("azd"))
        you = OwnSignIn()
        assert you.get_token(SCOPE).expires_on - time.time() <= identity.KEEP
        you.get_token(SCOPE)
        assert len(programs.calls("azd")) - before == 1
    monkeypatch.undo()
    time.tzset()


def test_a_forgotten_token_is_asked_for_anew(programs: Programs) -> None:
    programs.install("az")
    programs.sign_in("az", STORAGE_RESOURCE, "one")
    you = OwnSignIn()
    you.get_token(SCOPE)
    programs.sign_in("az", STORAGE_RESOURCE, "the next")
    you.forget()

    assert you.get_token(SCOPE).token == "the next"


REFUSED = (
    f"ERROR: AADSTS50020: User account '{PERSON}' from identity provider 'live.com' does not exist in tenant 'Contoso'."
)
EXPIRED = "ERROR: AADSTS700082: The refresh token has expired due to inactivity. Please run 'az login'"


@pytest.mark.parametrize("az", ["", REFUSED, EXPIRED, f"ERROR: something about {PERSON}"])
def test_where_one_program_can_t_the_other_is_asked(programs: Programs, az: str) -> None:
    programs.install("az", error=az)
    programs.install("azd")
    programs.sign_in("azd", STORAGE_RESOURCE, "azd's")

    assert OwnSignIn().get_token(SCOPE).token == "azd's"


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ({}, "neither a managed identity nor `az` or `azd`: in Azure, switch on the function app's identity"),
        ({"az": ""}, "nobody is signed in on this machine: run `az login --tenant {tenant}` or `azd auth login"),
        ({"azd": ""}, "nobody is signed in on this machine: run `az login --tenant {tenant}` or `azd auth login"),
        ({"az": REFUSED}, "refuses your own sign-in with AADSTS50020: run `az login --tenant {tenant}` or "),
        ({"az": EXPIRED}, "refuses your own sign-in with AADSTS700082: run `az login --tenant {tenant}`"),
        ({"az": "", "azd": REFUSED}, "refuses your own sign-in with AADSTS50020: run "),
        ({"az": REFUSED, "azd": ""}, "refuses your own sign-in with AADSTS50020: run "),
        ({"az": f"no network, {PERSON}"}, "`az` gave no token: run `az account get-access-token` to see why"),
        ({"az": "", "azd": f"broken, {PERSON}"}, "`azd` gave no token: run `azd auth token` to see why"),
    ],
)
@pytest.mark.parametrize("tenant", ["", ELSEWHERE, "contoso.com"])
def test_each_failure_names_its_remedy_and_nobody(
    programs: Programs, errors: Mapping[str, str], words: str, tenant: str
) -> None:
    """Of a tenant only an id is repeated: what else stands in that setting may have been pasted by mistake."""
    for name, error in errors.items():
        programs.install(name, error=error)

    with pytest.raises(CredentialsRefused) as caught:
        OwnSignIn().get_token(SCOPE, tenant_id=tenant or None)

    text = str(caught.value)
    assert words.format(tenant=tenant if tenant == ELSEWHERE else "TENANT") in text
    assert PERSON not in text
    assert "contoso" not in text
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_what_can_t_be_a_tenant_is_a_setting(programs: Programs) -> None:
    with pytest.raises(ConfigurationError, match="check DATAVERSE_TENANT_ID") as caught:
        OwnSignIn().get_token(SCOPE, tenant_id="my s3cret!")
    assert "s3cret" not in str(caught.value)


def test_an_answer_that_is_none_is_not_repeated(programs: Programs, tmp_path: Path) -> None:
    """Half an answer may hold the token."""
    programs.install("az")
    script(tmp_path, 'echo \'{"accessToken": "s3cret\'')

    with pytest.raises(CredentialsRefused, match="`az` gave no token") as caught:
        OwnSignIn().get_token(SCOPE)
    assert "s3cret" not in str(caught.value)


def script(tmp_path: Path, line: str) -> None:
    az = tmp_path / "bin" / "az"
    az.write_text(f"#!/bin/sh\n{line}\n")
    az.chmod(az.stat().st_mode | stat.S_IXUSR)


def test_a_program_that_hangs_is_left_alone(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what it started itself, as `az`, a script, starts Python."""
    monkeypatch.setattr(identity, "PROGRAM_TIMEOUT", 1)
    programs.install("az")
    script(tmp_path, "/bin/sleep 8; echo")
    begun = time.monotonic()

    with pytest.raises(Unavailable, match="`az` gave no token within 1 s: run `az account get-access-token`"):
        OwnSignIn().get_token(SCOPE)
    assert time.monotonic() - begun < 6


def test_a_program_that_hangs_keeps_no_other_from_being_asked(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "PROGRAM_TIMEOUT", 1)
    programs.install("az")
    programs.install("azd")
    script(tmp_path, "/bin/sleep 5")
    programs.sign_in("azd", STORAGE_RESOURCE, "azd's")

    assert OwnSignIn().get_token(SCOPE).token == "azd's"


def test_a_program_that_gave_no_token_is_left_alone_for_a_minute(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several things are looked at, and each would wait for as long."""
    programs.install("az")
    script(tmp_path, f"echo x >> {tmp_path}/asked; exit 1")
    yours = OwnSignIn()
    told = set()
    for _ in range(3):
        with pytest.raises(CredentialsRefused) as caught:
            yours.get_token(SCOPE)
        told.add(str(caught.value))
    assert len(told) == 1
    assert (tmp_path / "asked").read_text() == "x\n"

    monkeypatch.setattr(identity, "REMEMBER", 0.0)
    with pytest.raises(CredentialsRefused):
        yours.get_token(SCOPE)
    assert (tmp_path / "asked").read_text() == "x\nx\n"


# --- Dynamics ---------------------------------------------------------------------------------------------------

REGISTERED = {"DATAVERSE_TENANT_ID": TENANT, "DATAVERSE_CLIENT_ID": CLIENT_ID}
FEDERATED = {**REGISTERED, "DATAVERSE_FEDERATED_CLIENT_ID": IDENTITY_CLIENT_ID}


def test_your_own_token_is_of_the_tenant_of_dynamics(service: Served, org: DataverseApp, programs: Programs) -> None:
    """The program's own tenant may be another."""
    url = service[1]
    programs.install("az")
    programs.sign_in("az", url, yours(service, url, ELSEWHERE))
    programs.sign_in("az", url, yours(service, url), tenant=TENANT)

    assert connected(service, DATAVERSE_TENANT_ID=TENANT).organization() == org.state.organization_id
    with pytest.raises(CredentialsRefused, match="belongs to its tenant, DATAVERSE_TENANT_ID"):
        connected(service).organization()


def test_many_requests_ask_for_your_token_once(service: Served, org: DataverseApp, programs: Programs) -> None:
    url = service[1]
    programs.install("az")
    programs.sign_in("az", url, yours(service, url))
    client = connected(service)
    for _ in range(3):
        client.organization()

    assert len(programs.calls("az")) == 1


def test_a_hanging_program_is_waited_for_once(
    service: Served, org: DataverseApp, programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "PROGRAM_TIMEOUT", 1)
    programs.install("az")
    script(tmp_path, f"echo x >> {tmp_path}/asked; /bin/sleep 5")

    with pytest.raises(Unavailable, match="gave no token within"):
        connected(service).sign_in()
    assert (tmp_path / "asked").read_text() == "x\n"


@pytest.mark.parametrize("tenant", [TENANT, ELSEWHERE])
def test_the_managed_identity_s_token_stands_in_for_a_secret(
    service: Served, org: DataverseApp, azure: None, tenant: str
) -> None:
    """Of the same tenant and of another; a refused token is replaced by a new one, for which it is asked again."""
    org.state.identity_tenant = tenant
    trusted = f"{service[1]}/{tenant}/v2.0 {org.state.managed_identity_principal_id}"
    org.state.credentials.federated.append(trusted)
    client = connected(service, **FEDERATED)

    assert client.organization() == org.state.organization_id
    client.organization()
    asked = [entry["path"] for entry in org.journal.since(0) if "/api/" not in entry["path"]]
    assert [path.rsplit("/", 1)[-1] for path in asked if "token" in path] == ["token", "token"]


def test_each_token_of_entra_id_has_an_assertion_of_its_own(service: Served, org: DataverseApp, azure: None) -> None:
    """The one before may be out of its time by then."""
    org.state.switches["token_lifetime"] = 60
    trusted = f"{service[1]}/{TENANT}/v2.0 {org.state.managed_identity_principal_id}"
    org.state.credentials.federated.append(trusted)
    client = connected(service, **FEDERATED)
    client.organization()
    org.state.clock.advance(90)

    assert client.organization() == org.state.organization_id


def test_without_the_federated_credential_the_refusal_says_where_it_belongs(
    service: Served, org: DataverseApp, azure: None
) -> None:
    with pytest.raises(CredentialsRefused, match=r"AADSTS700211: .*DATAVERSE_FEDERATED_CLIENT_ID"):
        connected(service, **FEDERATED).sign_in()


@pytest.mark.parametrize("settings_of", [FEDERATED, {"DATAVERSE_CLIENT_ID": ELSEWHERE}])
def test_an_identity_that_is_not_the_app_s_names_its_setting(
    service: Served, org: DataverseApp, azure: None, settings_of: dict[str, str]
) -> None:
    named = list(settings_of)[-1]

    with pytest.raises(CredentialsRefused, match=f"no managed identity answers: .* set {named} to its client id"):
        connected(service, **settings_of | {named: ELSEWHERE}).sign_in()


@pytest.mark.parametrize("settings_of", [FEDERATED, {}])
def test_a_managed_identity_that_does_not_answer_is_asked_again(
    service: Served, org: DataverseApp, azure: None, monkeypatch: pytest.MonkeyPatch, settings_of: dict[str, str]
) -> None:
    asked = ManagedIdentityCredential.get_token
    left = [ServiceRequestError("lost")]

    def sometimes(self: ManagedIdentityCredential, *scopes: str, **options: object) -> object:
        if left:
            raise left.pop()
        return asked(self, *scopes, **options)

    monkeypatch.setattr(ManagedIdentityCredential, "get_token", sometimes)
    trusted = f"{service[1]}/{TENANT}/v2.0 {org.state.managed_identity_principal_id}"
    org.state.credentials.federated.append(trusted)

    assert connected(service, **settings_of).organization() == org.state.organization_id


def test_outside_azure_nobody_vouches_so_you_sign_in(service: Served, org: DataverseApp, programs: Programs) -> None:
    url = service[1]
    programs.install("az")
    programs.sign_in("az", url, yours(service, url), tenant=TENANT)

    assert connected(service, **FEDERATED).organization() == org.state.organization_id


def test_with_a_secret_nobody_else_signs_in(service: Served, org: DataverseApp, programs: Programs) -> None:
    programs.install("az")
    client = connected(service, **REGISTERED, DATAVERSE_CLIENT_SECRET=CLIENT_SECRET)

    assert client.organization() == org.state.organization_id
    assert programs.calls("az") == []


def test_a_federated_credential_that_was_revoked_is_a_setting(service: Served, org: DataverseApp, azure: None) -> None:
    trusted = f"{service[1]}/{TENANT}/v2.0 {org.state.managed_identity_principal_id}"
    org.state.credentials.federated.append(trusted)
    client = connected(service, **FEDERATED)
    client.organization()
    org.state.credentials.federated.remove(trusted)
    org.state.dropped_tokens.add(client._token())

    with pytest.raises(SyncError, match="AADSTS700211"):
        client.organization()
    assert os.environ["IDENTITY_HEADER"] not in repr(client)
