"""Tokens and secrets go to the configured services and to nobody else, over TLS that can't be turned off.

Next and delta links to other addresses are refused before anything is sent: `tests/adapters/test_dataverse.py`,
`test_links_to_another_address_are_refused_before_anything_is_sent`. What URL settings may look like is tested in
`tests/test_settings.py`, except for the storage account.

Proxies: with https, requests asks a proxy of HTTPS_PROXY for a tunnel and speaks TLS with the service through it, so
the proxy sees host and port and no header of ours. Plain http exists on loopback only, where HTTP_PROXY would be
used: that is for emulators, whose secrets are none.
"""

from __future__ import annotations

import io
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from azure.core.pipeline.transport import HttpTransport
from werkzeug.wrappers import Request, Response

from sync_core.adapters.clock import SystemClock
from sync_core.adapters.dataverse import DataverseClient
from sync_core.adapters.marketo import MarketoClient
from sync_core.adapters.storage import open_storage
from sync_core.errors import ConfigurationError, SyncError
from sync_core.model import MarketoObject
from sync_core.settings import Settings
from tests.fakes import FakeClock, FakeLimiter
from tools.azurite import ACCOUNT, ACCOUNT_KEY
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.web import DataverseApp
from tools.emulators.marketo.state import MarketoState
from tools.emulators.marketo.web import MarketoApp
from tools.emulators.serving import serving

ROOT = Path(__file__).parents[2]
SECRET = "s3cret-of-the-test"
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
PROXIES = [name for each in ("HTTP", "HTTPS", "ALL", "NO") for name in (f"{each}_PROXY", f"{each}_PROXY".lower())]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the machine's own, and nobody waits between two attempts of the Azure SDKs."""
    monkeypatch.setattr(HttpTransport, "sleep", lambda *_: None)
    for name in (*CERTIFICATES, *PROXIES, "NETRC", "IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
        monkeypatch.delenv(name, raising=False)


class Witness:
    """A service that writes down what it was asked, and by whom; it answers as *app* does, or with *answer*."""

    def __init__(self) -> None:
        self.reset(None)

    def reset(self, app: Any, answer: Callable[[Request], Response | None] = lambda request: None) -> None:
        self._app, self._answer = app, answer
        self.asked: list[tuple[str, str, str]] = []

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        body = request.get_data()
        self.asked.append((request.path, request.headers.get("Authorization", ""), body.decode()))
        environ["wsgi.input"] = io.BytesIO(body)  # it was read
        answer = self._answer(request) or (None if self._app else Response("", 404))
        return answer(environ, start_response) if answer else self._app(environ, start_response)


@dataclass
class Places:
    """A service under a trusted authority, another one, and the same service under an authority nobody knows."""

    folder: Path
    service: Witness
    url: str
    thief: Witness
    elsewhere: str
    strange: str

    @property
    def trusted(self) -> str:
        return str(self.folder / "trusted" / "ca.pem")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    folder = tmp_path_factory.mktemp("places")
    service, thief = Witness(), Witness()
    with (
        serving(service, folder=folder / "trusted") as url,
        serving(thief, folder=folder / "trusted") as elsewhere,
        serving(service, folder=folder / "strange") as strange,
    ):
        yield Places(folder, service, url, thief, elsewhere, strange)


@pytest.fixture
def places(servers: Places, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", servers.trusted)
    servers.service.reset(DataverseApp(DataverseState()))
    servers.thief.reset(None)
    return servers


def settings(dataverse: str, marketo: str = "https://localhost:1", **more: Any) -> Settings:
    state = DataverseState()
    return Settings(
        dataverse_url=dataverse,
        dataverse_tenant_id=state.tenant,
        dataverse_client_id=state.client_id,
        dataverse_client_secret=state.credentials.secrets[0],
        dataverse_authority_host=more.pop("authority", dataverse),
        marketo_url=marketo,
        marketo_client_id="33333333-3333-4333-8333-333333333333",
        marketo_client_secret="emulator-secret",
        storage_connection=more.pop("storage", "UseDevelopmentStorage=true"),
        **more,
    )


def dataverse(found: Settings) -> None:
    DataverseClient(found, FakeClock(), map).organization()


def marketo(found: Settings) -> None:
    clock = FakeClock()
    MarketoClient(found, clock, FakeLimiter(clock)).describe(MarketoObject.OPPORTUNITY)


def queues(found: Settings) -> None:
    open_storage(found, FakeClock(), map).queue.lengths()


def tables(found: Settings) -> None:
    open_storage(found, SystemClock(), map).documents.read("feed", "x")


# --- redirects --------------------------------------------------------------------------------------------------


def redirecting(path: str, status: int, elsewhere: str) -> Callable[[Request], Response | None]:
    def answer(request: Request) -> Response | None:
        return Response("", status, {"Location": f"{elsewhere}{request.path}"}) if path in request.path else None

    return answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", ["/api/", "/oauth2/v2.0/token"])
def test_dataverse_and_entra_id_send_nobody_elsewhere(status: int, path: str, places: Places) -> None:
    """307 and 308 ask for the same body again, and at the token endpoint the body has the secret."""
    places.service.reset(DataverseApp(DataverseState()), redirecting(path, status, places.elsewhere))

    with pytest.raises(SyncError):
        dataverse(settings(places.url))

    assert any(path in asked for asked, _, _ in places.service.asked)
    assert places.thief.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", ["/rest/", "/identity/"])
def test_marketo_sends_nobody_elsewhere(status: int, path: str, places: Places) -> None:
    places.service.reset(MarketoApp(MarketoState()), redirecting(path, status, places.elsewhere))

    with pytest.raises(ConfigurationError):
        marketo(settings("https://localhost:1", places.url))

    assert any(path in asked for asked, _, _ in places.service.asked)
    assert places.thief.asked == []


@pytest.mark.parametrize("client", ["queues", "tables"])
@pytest.mark.parametrize("status", [302, 307])
def test_storage_lets_nobody_carry_a_key_elsewhere(client: str, status: int, places: Places) -> None:
    """The SDK does follow redirects; what it is given to sign with it keeps."""
    places.service.reset(None, redirecting("/", status, places.elsewhere))

    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever a page of another server means
        CLIENTS[client](places.url)

    assert places.service.asked
    assert not [sent for _, sent, body in places.thief.asked if sent or ACCOUNT_KEY in body]


# --- addresses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "storage",
    [
        f"DefaultEndpointsProtocol=http;AccountName=x;AccountKey={ACCOUNT_KEY};EndpointSuffix=core.windows.net",
        f"DefaultEndpointsProtocol=https;AccountName=x;AccountKey={ACCOUNT_KEY};QueueEndpoint=http://x.example.test",
        "TableEndpoint=http://x.example.test;QueueEndpoint=https://x.example.test;SharedAccessSignature=sig=x",
    ],
)
def test_a_storage_account_without_tls_is_refused(storage: str) -> None:
    environment = {
        "DATAVERSE_URL": "https://org.example.test",
        "MARKETO_URL": "https://123-abc-456.example.test",
        "MARKETO_CLIENT_ID": "x",
        "MARKETO_CLIENT_SECRET": "y",
        "AzureWebJobsStorage": storage,
    }

    with pytest.raises(ConfigurationError, match="AzureWebJobsStorage") as error:
        Settings.from_env(environment)
    assert ACCOUNT_KEY not in str(error.value)


# --- certificates -----------------------------------------------------------------------------------------------


def storage_at(url: str) -> str:
    ends = "".join(f"{kind}Endpoint={url}/{ACCOUNT};" for kind in ("Blob", "Queue", "Table"))
    return f"DefaultEndpointsProtocol=https;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};{ends}"


CLIENTS: dict[str, Callable[[str], None]] = {
    "Dataverse": lambda url: dataverse_alone(settings(url)),
    "Entra ID": lambda url: dataverse(settings("https://localhost:1", authority=url)),
    "Marketo": lambda url: marketo(settings("https://localhost:1", url)),
    "queues": lambda url: queues(settings("https://localhost:1", storage=storage_at(url))),
    "tables": lambda url: tables(settings("https://localhost:1", storage=storage_at(url))),
    "managed identity": lambda url: dataverse(replace(settings(url), dataverse_client_secret="")),
}


def dataverse_alone(found: Settings) -> None:
    """With a token in hand, so that it is Dataverse itself that is asked."""
    client = DataverseClient(found, FakeClock(), map)
    client._tokens = type("Token", (), {"token": lambda self, *, new: SECRET})()
    client.organization()


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("wrong", ["authority", "host"])
def test_a_strange_server_is_told_nothing(client: str, wrong: str, places: Places, monkeypatch: Any) -> None:
    """Its authority is unknown, or it has a good certificate for another name."""
    monkeypatch.setattr(socket, "getaddrinfo", to_loopback(socket.getaddrinfo))
    url = places.strange if wrong == "authority" else places.url.replace("localhost", "elsewhere.example.test")
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "emulator-identity-header")

    with pytest.raises(SyncError):
        CLIENTS[client](url)

    assert places.service.asked == []


@pytest.mark.parametrize("client", CLIENTS)
def test_the_same_server_is_asked_where_its_certificate_is_good(client: str, places: Places, monkeypatch: Any) -> None:
    """Without this the tests above might pass for another reason."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{places.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "emulator-identity-header")
    with suppress(Exception):  # Dataverse's emulator is no Marketo and no storage account
        CLIENTS[client](places.url)

    assert places.service.asked


def to_loopback(resolve: Callable[..., Any]) -> Callable[..., Any]:
    def resolved(host: str, *rest: Any, **named: Any) -> Any:
        return resolve("127.0.0.1" if str(host).endswith("example.test") else host, *rest, **named)

    return resolved


OFF = {"PYTHONHTTPSVERIFY": "0", "AZURE_CORE_CONNECTION_VERIFY": "false", "CURL_CA_BUNDLE": "", "SSL_CERT_FILE": ""}


@pytest.mark.parametrize("bundle", ["", "0", "False"])
@pytest.mark.parametrize("client", CLIENTS)
def test_no_variable_turns_verification_off(client: str, bundle: str, places: Places, monkeypatch: Any) -> None:
    for name, value in {**OFF, "REQUESTS_CA_BUNDLE": bundle}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{places.strange}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "emulator-identity-header")

    with pytest.raises((SyncError, OSError)):
        CLIENTS[client](places.strange)

    assert places.service.asked == []


def test_nothing_in_the_tree_turns_verification_off() -> None:
    off = re.compile(
        r"verify\s*=\s*False|_create_unverified|CERT_NONE|check_hostname\s*=\s*False|connection_verify\s*="
    )
    files = [path for folder in ("sync_core", "tools", "bench") for path in (ROOT / folder).rglob("*.py")]
    breakers = ROOT / "tools" / "sabotage"  # holds this very fault as text, to see the tests fail

    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in [*files, ROOT / "function_app.py"]
        if breakers not in path.parents
        for line in path.read_text(encoding="utf-8").splitlines()
        if off.search(line)
    ]

    assert files
    assert found == []


def test_no_setting_speaks_of_verification() -> None:
    assert not [name for name in Settings.__dataclass_fields__ if re.search("verify|tls|ssl|insecure", name)]


# --- proxies and .netrc -----------------------------------------------------------------------------------------


@contextmanager
def proxy() -> Iterator[tuple[str, list[bytes]]]:
    """Refuses everything, and keeps what it was sent."""
    heard: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                heard.append(peer.recv(65536))
                peer.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"http://someone:proxy-password@127.0.0.1:{server.getsockname()[1]}", heard
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


@pytest.mark.parametrize("client", ["Dataverse", "Entra ID", "Marketo", "queues", "tables"])
def test_a_proxy_is_asked_for_a_tunnel_and_told_nothing_else(client: str, monkeypatch: Any) -> None:
    with proxy() as (url, heard):
        monkeypatch.setenv("HTTPS_PROXY", url)
        with pytest.raises(SyncError) as error:
            CLIENTS[client]("https://service.example.test")

    assert heard
    for request in heard:
        assert request.startswith(b"CONNECT service.example.test:443 HTTP/1.")
        assert not [
            secret for secret in (SECRET, "emulator-secret", "Bearer", "SharedKey") if secret.encode() in request
        ]
    assert "proxy-password" not in str(error.value)


@pytest.mark.parametrize("client", ["Dataverse", "Marketo", "queues", "tables"])
def test_a_netrc_entry_changes_nothing(client: str, places: Places, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "netrc").write_text("default login somebody password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with suppress(Exception):  # Dataverse's emulator is no Marketo and no storage account
        CLIENTS[client](places.url)

    assert places.service.asked
    assert not [sent for _, sent, _ in places.service.asked if sent.startswith("Basic")]
