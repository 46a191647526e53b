"""The Dataverse client over real HTTPS, with real msal and azure-identity, against the emulated organization."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from werkzeug.wrappers import Request, Response

from sync_core.adapters.dataverse import CHUNK, DataverseClient, credentials_expire, fold, sign_in_remedy
from sync_core.errors import (
    ConfigurationError,
    CredentialsRefused,
    DeltaLinkExpired,
    NotTracked,
    Throttled,
    Unavailable,
)
from sync_core.model import Connection, ConnectionRole
from sync_core.settings import Settings
from tests.fakes import FakeClock
from tests.served import Served, dataverse_served
from tools.emulators.dataverse import saving
from tools.emulators.dataverse.administration import post
from tools.emulators.dataverse.state import CLIENT_ID, CLIENT_SECRET, TENANT, DataverseState
from tools.emulators.dataverse.web import DataverseApp

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "dataverse" / "connections-recorded-sample.json"
NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with dataverse_served(tmp_path_factory.mktemp("tls")) as served:
        yield served


@pytest.fixture
def app(service: Served, monkeypatch: pytest.MonkeyPatch) -> DataverseApp:
    app, _, authority = service
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    app.state = DataverseState()
    app.interceptors.clear()
    app.journal.clear()
    return app


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


def settings(url: str, **changes: Any) -> Settings:
    plain = {
        "dataverse_url": url,
        "dataverse_tenant_id": TENANT,
        "dataverse_client_id": CLIENT_ID,
        "dataverse_client_secret": CLIENT_SECRET,
        "dataverse_authority_host": url,
        "marketo_url": "https://123-abc-456.mktorest.com",
        "marketo_client_id": "id",
        "marketo_client_secret": "secret",
    }
    return Settings(**(plain | changes))


Connect = Callable[..., DataverseClient]


@pytest.fixture
def connect(service: Served, app: DataverseApp, clock: FakeClock) -> Connect:
    def connected(*, page_size: int = 3600, fan_out: Any = map, **changes: Any) -> DataverseClient:
        url = service[1]
        return DataverseClient(settings(url, **changes), clock, fan_out, page_size=page_size, random=lambda: 0.0)

    return connected


@pytest.fixture
def client(connect: Connect) -> DataverseClient:
    return connect()


def says(status: int, body: object = None, **headers: str) -> Response:
    content = body if isinstance(body, str) else json.dumps(body)
    kind = "text/html" if isinstance(body, str) else "application/json"
    return Response(
        content, status, {name.replace("_", "-"): text for name, text in headers.items()}, content_type=kind
    )


def refuses(status: int, code: str, message: str) -> Response:
    return says(status, {"error": {"code": code, "message": message}})


def instead(app: DataverseApp, *answers: Response | None) -> list[Request]:
    """The next answers of the Web API; None lets the emulator answer. Returns what was asked, as it comes in."""
    left, asked = list(answers), list[Request]()

    def intercept(request: Request) -> Response | None:
        asked.append(request)
        return left.pop(0) if left else None

    app.interceptors.append(intercept)
    return asked


def make(app: DataverseApp, table: str, **values: Any) -> str:
    return str(saving.create(app.state, table, values)[app.state.tables[table].key])


def drain(client: DataverseClient, table: str, link: str | None = None) -> tuple[list[str], list[str], str]:
    """Everything from *link* on: changed keys, deleted keys and the new delta link."""
    changed, deleted = [], []
    while True:
        page = client.changes(table, link)
        changed += [next(value for name, value in row.items() if name == f"{table}id") for row in page.rows]
        deleted += page.deleted
        if page.delta_link:
            return changed, deleted, page.delta_link
        link = page.next_link


# --- signing in ---------------------------------------------------------------------------------------------------


def test_a_secret_signs_in_once_for_many_requests(client: DataverseClient, app: DataverseApp) -> None:
    assert client.organization() == app.state.organization_id
    client.organization()

    assert sum("oauth2" in entry["path"] for entry in app.journal.since(0)) == 1


def test_a_refused_token_is_replaced_once(client: DataverseClient, app: DataverseApp) -> None:
    client.organization()
    instead(app, says(401))

    assert client.organization()
    assert sum("oauth2" in entry["path"] for entry in app.journal.since(0)) == 2


def test_a_token_that_is_refused_twice_is_a_setting(client: DataverseClient, app: DataverseApp) -> None:
    asked = instead(app, says(401), says(401))

    with pytest.raises(CredentialsRefused, match="DATAVERSE_URL"):
        client.organization()
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("changes", "code", "remedy"),
    [
        ({"dataverse_client_secret": "my own secret"}, "AADSTS7000215", "DATAVERSE_CLIENT_SECRET"),
        ({"dataverse_client_id": str(uuid.UUID(int=9))}, "AADSTS700016", "DATAVERSE_CLIENT_ID"),
        ({"dataverse_tenant_id": str(uuid.UUID(int=9))}, "AADSTS90002", "DATAVERSE_TENANT_ID"),
    ],
)
def test_entra_ids_refusals_come_with_code_and_remedy_but_no_secret(connect, changes, code, remedy) -> None:
    with pytest.raises(CredentialsRefused) as error:
        connect(**changes).organization()
    assert code in str(error.value)
    assert remedy in str(error.value)
    assert "my own secret" not in str(error.value)


def test_an_unknown_refusal_shows_its_code_and_nothing_it_quotes() -> None:
    text = sign_in_remedy("invalid_client AADSTS1234567: something with a secret")

    assert "AADSTS1234567" in text
    assert "something" not in text


def test_entra_id_out_of_reach_is_waited_for(connect) -> None:
    with pytest.raises(Unavailable, match="Entra ID"):
        connect(dataverse_authority_host="https://localhost:1").organization()


@pytest.fixture(scope="module")
def certificate() -> tuple[str, str]:
    """(private key, certificate) as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "opportunity-sync")])
    day = timedelta(days=1)
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    public = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), public.decode()


@pytest.mark.parametrize("form", ["text", "one line", "file"])
def test_a_certificate_signs_in(connect, app, certificate, tmp_path, form) -> None:
    private, public = certificate
    app.state.credentials.certificates.append(public)
    app.state.credentials.checks_certificates = True
    pem = private + public
    (tmp_path / "client.pem").write_text(pem)
    setting = {"text": pem, "one line": pem.replace("\n", "\\n"), "file": str(tmp_path / "client.pem")}[form]

    client = connect(dataverse_client_secret="", dataverse_client_certificate=setting)

    assert client.organization() == app.state.organization_id


def test_when_a_certificate_expires_is_read_from_it_and_of_a_secret_from_its_setting(certificate) -> None:
    pem = "".join(certificate)
    told = datetime(2027, 1, 31, tzinfo=UTC)
    secret = {"dataverse_client_secret_expires": told}
    tomorrow = x509.load_pem_x509_certificate(certificate[1].encode()).not_valid_after_utc

    def expire(**changes: Any) -> datetime | None:
        return credentials_expire(settings("https://org.invalid", **changes))

    assert expire(dataverse_client_certificate=pem, **secret) == tomorrow
    assert expire(**secret) == told
    assert expire() is None
    assert expire(dataverse_client_secret="", **secret) is None, "a managed identity expires never"
    assert expire(dataverse_client_certificate="/no/such/file.pem", **secret) is None
    assert expire(dataverse_client_certificate=pem.replace("MII", "MIX"), **secret) is None


def test_a_certificate_without_its_key_is_a_setting(connect, certificate) -> None:
    for setting in (certificate[1], "/no/such/file.pem"):
        client = connect(dataverse_client_secret="", dataverse_client_certificate=setting)
        with pytest.raises(ConfigurationError, match="DATAVERSE_CLIENT_CERTIFICATE"):
            client.organization()


def test_a_managed_identity_signs_in(service, connect, app, monkeypatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{service[1]}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", app.state.identity_header)
    client = connect(dataverse_client_secret="")
    client.organization()
    instead(app, says(401))

    assert client.organization() == app.state.organization_id


def test_a_managed_identity_that_is_refused_is_a_setting(service, connect, monkeypatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{service[1]}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")

    with pytest.raises(CredentialsRefused, match="managed identity"):
        connect(dataverse_client_secret="").organization()


# --- rights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "remedy"),
    [("missing", "create an application user"), ("disabled", "application user is disabled.*activate it")],
)
def test_a_missing_application_user_is_named_as_the_remedy(client, app, user, remedy) -> None:
    app.state.switches["application_user"] = user

    with pytest.raises(ConfigurationError, match=remedy):
        client.organization()


@pytest.mark.parametrize("depth", ["none", "business_unit"])
def test_a_missing_privilege_is_named_with_its_table(client, app, depth) -> None:
    app.state.switches["privileges"] = {"contact": depth}

    with pytest.raises(ConfigurationError, match="organization-level Read on contact") as error:
        client.changes("contact", None)
    assert "prvReadContact" in str(error.value)


def test_a_page_instead_of_an_answer_is_a_wrong_url(client, app) -> None:
    instead(app, says(403, "<html>Forbidden</html>"))

    with pytest.raises(ConfigurationError, match="DATAVERSE_URL"):
        client.organization()


# --- tracked reads ------------------------------------------------------------------------------------------------


def test_a_tracked_read_goes_from_the_start_to_a_delta_link_and_on(connect, app) -> None:
    client = connect(page_size=2)
    ids = [make(app, "contact", lastname=str(number)) for number in range(5)]
    changed, deleted, link = drain(client, "contact")
    assert (sorted(changed), deleted) == (sorted(ids), [])

    saving.update(app.state, "contact", ids[0], {"lastname": "new"})
    saving.delete(app.state, "contact", ids[1])
    new = make(app, "contact", lastname="another")
    changed, deleted, link = drain(client, "contact", link)

    assert (changed, deleted) == ([ids[0], new], [ids[1]])
    assert drain(client, "contact", link)[:2] == ([], [])


def test_tracked_rows_hold_what_detect_needs_and_no_annotations(client, app) -> None:
    opportunity, contact = make(app, "opportunity", name="Deal"), make(app, "contact", lastname="A")
    saving.connect(app.state, opportunity, ("contact", contact), "Champion")
    asked = instead(app)

    rows = client.changes("connection", None).rows
    client.changes("opportunity", None)

    ends = {"_record1id_value", "_record2id_value", "record1objecttypecode", "record2objecttypecode"}
    assert {frozenset(row) for row in rows} == {frozenset({"connectionid", "versionnumber", "modifiedon", *ends})}
    tracked = [request.headers["Prefer"] for request in asked if "EntityDefinitions" not in request.path]
    assert tracked == ["odata.track-changes,odata.maxpagesize=3600"] * 2


@pytest.mark.parametrize("table", ["opportunity", "connection", "contact", "account", "connectionrole"])
def test_every_table_can_be_tracked(client, table) -> None:
    assert drain(client, table)[2]


@pytest.mark.parametrize("manner", ["error", "silent"])
def test_a_table_that_is_not_tracked_says_how_to_switch_it_on(client, app, manner) -> None:
    app.state.switches["untracked_table"] = manner
    app.state.tables["connection"].tracked = False

    with pytest.raises(NotTracked, match="Track changes"):
        client.changes("connection", None)


def test_an_expired_link_asks_for_a_full_read(client, app) -> None:
    link = drain(client, "contact")[2]
    app.state.expire_delta_links()

    with pytest.raises(DeltaLinkExpired):
        client.changes("contact", link)


@pytest.mark.parametrize(
    "answer",
    [
        says(410, ""),
        refuses(404, "0x80044352", "text"),
        refuses(500, "0x80044352", "text"),
        refuses(412, "0x0", "Please perform a Full Sync."),
        refuses(400, "0x80040203", "The delta token is not valid."),
        refuses(400, "0x80060888", "The paging cookie is malformed"),
    ],
)
def test_a_link_that_is_not_accepted_asks_for_a_full_read(client, app, answer) -> None:
    link = drain(client, "contact")[2]
    instead(app, answer)

    with pytest.raises(DeltaLinkExpired):
        client.changes("contact", link)


@pytest.mark.parametrize(
    "foreign",
    [
        "https://evil.example/x",
        "http://localhost/x",
        "https://localhost:1/x",
        "https://localhost.evil.example/x",
        "https://ORG@evil.example/x",
        "https://evil.example\\@ORG/x",
        "/relative",
    ],
)
def test_links_to_another_address_are_refused_before_anything_is_sent(service, client, app, foreign) -> None:
    foreign = foreign.replace("ORG", service[1].removeprefix("https://"))
    client.changes("contact", None)
    with pytest.raises(ConfigurationError, match="another address"):
        client.changes("contact", foreign)

    instead(app, *[says(200, {"value": [], name: foreign}) for name in ("@odata.nextLink", "@odata.deltaLink")])
    with pytest.raises(ConfigurationError, match="another address"):
        list(client.ids("contact"))
    with pytest.raises(ConfigurationError, match="another address"):
        client.changes("contact", None)


def test_links_are_followed_as_they_are(service, client, app) -> None:
    link = f"{service[1]}/api/data/v9.2/contacts?$select=contactid&$skiptoken=%3Ca%20b=%22%2520%252b%22%3e&c=(d)'"
    asked = instead(app, says(200, {"value": [], "@odata.deltaLink": link}))

    assert client.changes("contact", link).delta_link == link
    # requests writes the hex digits of %3e in capitals, which is the same address (RFC 3986 §6.2.2.1).
    assert asked[0].environ["REQUEST_URI"].replace("%3E", "%3e") == link.removeprefix(service[1])


def test_paging_that_does_not_move_on_is_given_up(service, client, app) -> None:
    link = f"{service[1]}/api/data/v9.2/contacts?x=1"
    page = {"value": [], "@odata.nextLink": link}
    instead(app, *[says(200, page)] * 4)

    with pytest.raises(Unavailable, match="does not move on"):
        list(client.ids("contact"))
    with pytest.raises(Unavailable, match="does not move on"):
        client.changes("contact", link)


# --- reads by id --------------------------------------------------------------------------------------------------


def test_ids_and_rows_changed_since_come_page_by_page(connect, app) -> None:
    client = connect(page_size=2)
    ids = [make(app, "account", name=str(number)) for number in range(5)]

    assert sorted(each for page in client.ids("account") for each in page) == sorted(ids)
    assert max(len(page) for page in client.ids("account")) == 2
    since = datetime.now(UTC) - timedelta(hours=1)
    assert sorted(each for page in client.modified_since("account", since) for each in page) == sorted(ids)
    assert [list(page) for page in client.modified_since("account", since + timedelta(hours=2))] == [[]]


def test_rows_are_asked_for_in_chunks_side_by_side(connect, app) -> None:
    with ThreadPoolExecutor(4) as pool:
        client = connect(fan_out=pool.map)
        ids = [make(app, "opportunity", name=f"Deal {number}") for number in range(450)]
        asked = instead(app)

        rows = client.rows("opportunity", [*ids, str(uuid.UUID(int=1))], ["name", "statecode"])

    assert {row["name"] for row in rows.values()} == {f"Deal {number}" for number in range(450)}
    assert set(rows[ids[0]]) == {"opportunityid", "name", "statecode"}
    assert len(asked) == 2
    assert client.rows("opportunity", [], ["name"]) == {}


def test_the_longest_urls_stay_far_below_the_limit(client, app) -> None:
    ids = [str(uuid.UUID(int=number)) for number in range(CHUNK)]
    asked = instead(app)
    client.rows("opportunity", ids, ["name"])
    client.connections(ids)
    client.opportunities_of_contacts(ids)
    client.opportunities_of_roles(ids)

    assert len(asked) == 10, "where a condition names the ids twice, fewer at a time"
    assert max(len(request.environ["REQUEST_URI"]) for request in asked) < 24_000


def test_the_newest_versions_are_those_of_the_rows_written_last(client, app) -> None:
    assert client.newest_versions() == {}
    asked = instead(app)
    make(app, "opportunity", name="one")
    newest = make(app, "opportunity", name="two")

    assert client.newest_versions()[newest] == app.state.row("opportunity", newest)["versionnumber"]
    assert asked[0].headers["Prefer"] == "odata.maxpagesize=20"


def test_opportunities_are_found_by_part_of_their_name(client, app) -> None:
    other = make(app, "opportunity", name="Deal 2, O'Neill & Co. 50% #1")
    first = make(app, "opportunity", name="Deal 1")
    make(app, "opportunity", name="Else")

    assert list(client.opportunities_named("deal", 20).items()) == [
        (first, "Deal 1"),
        (other, "Deal 2, O'Neill & Co. 50% #1"),
    ]
    assert list(client.opportunities_named("deal", 1)) == [first]
    assert list(client.opportunities_named("O'Neill & Co. 50% #", 20)) == [other]


def test_an_unknown_column_is_named_with_where_to_correct_it(client, app) -> None:
    ids = [make(app, "opportunity", name="Deal")]

    with pytest.raises(ConfigurationError, match=r"new_missing: correct it in the mapping"):
        client.rows("opportunity", ids, ["name", "new_missing"])


# --- connections --------------------------------------------------------------------------------------------------


def test_stakeholders_are_found_once_whichever_way_they_were_connected(connect, app) -> None:
    client = connect(page_size=1)
    deals = [make(app, "opportunity", name=str(number)) for number in range(2)]
    contact, account = make(app, "contact", lastname="A"), make(app, "account", name="B")
    forward = saving.connect(app.state, deals[0], ("contact", contact), "Champion")
    post(app.state, "edit", {"op": "connect", "opportunity": deals[1], "account": account})

    found = client.connections([*deals, str(uuid.UUID(int=1))])

    (pair,) = found[deals[0]]
    assert pair == Connection(
        key=min(forward["connectionid"], forward["_relatedconnectionid_value"]),
        opportunity=deals[0],
        other=contact,
        other_type=2,
        role=app.state.role_named("Champion"),
        created=forward["createdon"],
        active=True,
    )
    assert [(each.other, each.other_type, each.role) for each in found[deals[1]]] == [(account, 1, None)]
    assert found[str(uuid.UUID(int=1))] == []


def test_opportunities_of_a_contact_are_found_by_customer_parent_and_connection(client, app) -> None:
    person, other = make(app, "contact", lastname="A"), make(app, "contact", lastname="B")
    as_customer = make(app, "opportunity", name="1", _parentcontactid_value=person)
    connected = make(app, "opportunity", name="2")
    saving.connect(app.state, connected, ("contact", person), None)
    apart = make(app, "opportunity", name="3", _parentcontactid_value=other)
    saving.connect(app.state, apart, ("contact", other), "Champion")

    assert client.opportunities_of_contacts([person]) == {as_customer, connected}
    assert client.opportunities_of_roles([app.state.role_named("Champion")]) == {apart}
    assert client.opportunities_of_contacts([]) == set()


def test_connection_roles_come_with_name_and_category(connect) -> None:
    roles = connect(page_size=5).connection_roles()

    assert ConnectionRole("Stakeholder", 1000) in roles.values()
    assert roles["adccf191-576b-463b-be78-019a427eb2e5"] == ConnectionRole("Decision Maker", 1000)
    assert len(roles) == 19


A, B = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


def row(key: str = A, related: str | None = B, ends: str = "oc", **values: Any) -> dict[str, Any]:
    """A connection row; *ends*: o(pportunity), c(ontact), a(ccount)."""
    types = {"o": 3, "c": 2, "a": 1}
    plain = {
        "connectionid": key,
        "_relatedconnectionid_value": related,
        "_record1id_value": ends[0],
        "_record2id_value": ends[1] if ends[1] != ends[0] else "p",
        "record1objecttypecode": types[ends[0]],
        "record2objecttypecode": types[ends[1]],
        "_record1roleid_value": None,
        "_record2roleid_value": None,
        "statecode": 0,
        "effectivestart": None,
        "effectiveend": None,
        "createdon": "2026-01-01T00:00:00Z",
    }
    return plain | values


def test_both_orientations_give_the_same_pair() -> None:
    forward = row(A, B, "oc", _record2roleid_value="R")
    mirror = row(B, A, "co", _record1roleid_value="R")

    assert fold([forward], NOW) == fold([mirror], NOW) == fold([mirror, forward], NOW)
    assert fold([forward], NOW) == [Connection(A, "o", "c", 2, "r", "2026-01-01T00:00:00Z", True)]


def test_the_row_that_starts_at_the_opportunity_decides() -> None:
    shown = row(A, B, "oc", statecode=1)
    mirror = row(B, A, "co", _record1roleid_value="R")

    for rows in ([shown, mirror], [mirror, shown]):
        (pair,) = fold(rows, NOW)
        assert (pair.active, pair.role) == (False, None)


def test_a_row_without_a_mirror_stands_for_itself() -> None:
    assert [pair.key for pair in fold([row(B, None, "co")], NOW)] == [B]


def test_several_connections_of_the_same_two_are_kept() -> None:
    assert len(fold([row(A, None), row(B, None)], NOW)) == 2


def test_two_opportunities_are_no_stakeholders_and_neither_is_a_gap() -> None:
    rows = [row(ends="oo"), row(ends="ca"), row(_record2id_value=None), row(record2objecttypecode=None)]

    assert fold(rows, NOW) == []


@pytest.mark.parametrize(
    ("values", "active"),
    [
        ({"statecode": 1}, False),
        ({"effectiveend": "2026-03-02T08:00:01Z"}, True),
        ({"effectiveend": "2026-03-02T08:00:00Z"}, False),
        ({"effectivestart": "2026-03-02T08:00:00Z"}, True),
        ({"effectivestart": "2026-03-02T08:00:01Z"}, False),
    ],
)
def test_a_pair_is_active_between_start_and_end(values: dict[str, Any], active: bool) -> None:
    assert [pair.active for pair in fold([row(**values)], NOW)] == [active]


def test_recorded_connections_are_understood(client, app) -> None:
    if not RECORDED.exists():
        pytest.skip("the recorded connections are not here (../shared)")
    recorded = json.loads(RECORDED.read_text())["value"]
    opportunity = "4883f907-720f-e711-80e8-480fcff29761"
    instead(app, says(200, {"value": recorded}))

    pairs = client.connections([opportunity])[opportunity]

    assert ("adccf191-576b-463b-be78-019a427eb2e5", 2) in {(pair.role, pair.other_type) for pair in pairs}
    assert len({pair.key for pair in pairs}) == len(pairs)
    assert all(pair.active for pair in pairs)


# --- metadata -----------------------------------------------------------------------------------------------------


def test_labels_of_choices_states_and_yes_or_no(client, app) -> None:
    new = {"name": "new_interests", "type": "multichoice", "options": [{"value": 1, "label": "Boats"}]}
    post(app.state, "columns", {"table": "opportunity", "add": [new]})

    assert client.labels("opportunity", "statecode", 1033) == {0: "Open", 1: "Won", 2: "Lost"}
    assert client.labels("opportunity", "statuscode", 1033)[3] == "Won"
    assert client.labels("opportunity", "opportunityratingcode", 1033)[1] == "Hot"
    assert set(client.labels("opportunity", "isrevenuesystemcalculated", 1033)) == {0, 1}
    assert client.labels("opportunity", "new_interests", 1033) == {1: "Boats"}
    assert client.columns("opportunity")["new_interests"] == "MultiSelectPicklist"


def test_labels_of_a_global_choice_are_found_too(client, app) -> None:
    label = {"LocalizedLabels": [{"Label": "Boats", "LanguageCode": 1033}], "UserLocalizedLabel": None}
    client.columns("opportunity")
    found = {"LogicalName": "x", "OptionSet": None, "GlobalOptionSet": {"Options": [{"Value": 7, "Label": label}]}}
    instead(app, says(200, found))

    assert client.labels("opportunity", "opportunityratingcode", 1033) == {7: "Boats"}


def test_a_language_without_labels_falls_back_to_the_organizations_own(client) -> None:
    assert client.labels("opportunity", "statecode", 1041) == client.labels("opportunity", "statecode", 1033)


def test_labels_of_what_has_none_are_a_fault_of_the_mapping(client) -> None:
    for column in ("name", "new_missing"):
        with pytest.raises(ConfigurationError, match=f"{column}.*the mapping"):
            client.labels("opportunity", column, 1033)


def test_metadata_is_asked_for_once_an_hour(client, app, clock) -> None:
    asked = instead(app)
    for _ in range(2):
        assert client.columns("opportunity")["estimatedvalue"] == "Money"
        client.labels("opportunity", "statecode", 1033)
    assert len(asked) == 2

    clock.sleep(3_600)
    client.columns("opportunity")
    assert len(asked) == 3


# --- trouble ------------------------------------------------------------------------------------------------------


def test_throttling_is_waited_for_as_asked(client, app, clock) -> None:
    client.organization()
    instead(app, says(429, {"error": {"code": "0x80072322", "message": "x"}}, Retry_After="7"))

    assert client.organization()
    assert clock.monotonic() == 7


def test_long_throttling_goes_back_to_the_queue(client, app, clock) -> None:
    instead(app, says(429, {"error": {"code": "0x80072322", "message": "x"}}, Retry_After="120"))

    with pytest.raises(Throttled) as error:
        client.organization()
    assert error.value.delay == 120
    assert clock.monotonic() == 0


@pytest.mark.parametrize(
    "trouble", [says(502, "<html>"), says(503), says(500), says(200, "<html>"), says(200, "{"), says(200, {})]
)
def test_passing_trouble_is_repeated_and_then_reported(client, app, trouble) -> None:
    instead(app, trouble, trouble)
    assert client.organization()

    app.interceptors.clear()
    instead(app, *[trouble] * 4)
    with pytest.raises(Unavailable) as error:
        client.organization()
    assert not error.value.unanswered


def test_a_token_that_dies_between_two_pages_is_replaced(connect, app) -> None:
    client = connect(page_size=1)
    for number in range(3):
        make(app, "contact", lastname=str(number))
    instead(app, None, says(401), None)

    assert len(drain(client, "contact")[0]) == 3


def test_no_address_gets_into_an_error(client, app) -> None:
    instead(app, refuses(400, "0x80040265", "A plug-in dislikes anna@example.test"))

    with pytest.raises(ConfigurationError) as error:
        client.organization()
    assert "anna" not in str(error.value)
    assert "0x80040265" in str(error.value)


# --- what only `validate` asks -------------------------------------------------------------------------------------


def test_signing_in_asks_dataverse_nothing(client, app) -> None:
    client.sign_in()

    assert [entry for entry in app.journal.since(0) if "/api/data/" in entry["path"]] == []


def test_a_wrong_secret_is_found_by_signing_in(connect) -> None:
    with pytest.raises(CredentialsRefused, match="AADSTS7000215"):
        connect(dataverse_client_secret="wrong").sign_in()


def test_reading_at_organization_level_is_told_from_reading_at_all(client, app) -> None:
    client.check_read("contact", tracked=True)
    app.state.switches["privileges"] = {"contact": "business_unit"}

    client.check_read("contact", tracked=False)
    with pytest.raises(ConfigurationError, match="organization-level Read on contact"):
        client.check_read("contact", tracked=True)


def test_change_tracking_and_retention_are_asked_anew_each_time(client, app) -> None:
    assert (client.tracked("contact"), client.retention()) == (True, 7)
    post(app.state, "columns", {"table": "contact", "tracked": False})
    app.state.write("organization", app.state.rows("organization")[0], expirechangetrackingindays=30)

    assert (client.tracked("contact"), client.retention()) == (False, 30)


def test_the_secured_columns_come_with_the_types(client, app) -> None:
    post(app.state, "columns", {"table": "opportunity", "secured": {"description": True}})
    asked = instead(app)

    assert client.columns("opportunity")["description"] == "Memo"
    assert client.secured("opportunity") == {"description"}
    assert client.secured("account") == set()
    assert len(asked) == 2


def test_the_rows_written_last_come_in_one_small_read(client, app) -> None:
    for number in range(22):
        make(app, "account", name=str(number))
    asked = instead(app)

    assert [row["name"] for row in client.newest("account", ["name"])] == [str(21 - number) for number in range(20)]
    assert len(asked) == 1


def test_the_lengths_of_text_columns_and_of_no_others(client) -> None:
    lengths = client.lengths("opportunity")

    assert (lengths["name"], lengths["description"]) == (300, 2000)
    assert "estimatedvalue" not in lengths
