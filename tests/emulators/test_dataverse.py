"""The Dataverse emulator against the checklist of the contract (dataverse.md §9), over real HTTPS.

The numbers in the docstrings are those of the checklist. msal and azure-identity are the real ones.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import jwt
import msal
import pytest
import requests
from azure.identity import ManagedIdentityCredential
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tools.emulators.admin import Admin
from tools.emulators.dataverse import generate, identity, loading
from tools.emulators.dataverse.state import CLIENT_ID, CLIENT_SECRET, IDENTITY_CLIENT_ID, TENANT, DataverseState
from tools.emulators.dataverse.web import DataverseApp
from tools.emulators.serving import serving

START = "2026-01-05T08:00:00Z"
FORMATTED = "@OData.Community.Display.V1.FormattedValue"
LOOKUP_NAME = "@Microsoft.Dynamics.CRM.lookuplogicalname"
NAVIGATION = "@Microsoft.Dynamics.CRM.associatednavigationproperty"
ALL_ANNOTATIONS = 'odata.include-annotations="*"'
TRACK = "odata.track-changes"
SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not SHARED.exists(), reason="the reference data is not there (a fresh clone has none)"
)


class Server:
    """The one server of the run: *app* gets a fresh organization for each test."""

    def __init__(self, app: DataverseApp, url: str, ca: Path) -> None:
        self.app, self.url, self.ca = app, url, ca
        self.tokens: dict[str, str] = {}


class Org:
    """A fresh organization, with the ways to read and to change it."""

    def __init__(self, server: Server) -> None:
        self.url, self.ca, self.app = server.url, server.ca, server.app
        self.root = f"{server.url}/api/data/v9.2/"
        self.state = server.app.state = DataverseState(start=START)
        server.app.journal.clear()
        self.admin = Admin(server.url, server.ca)
        self.session = requests.Session()
        self.token = server.tokens.get("secret") or server.tokens.setdefault("secret", self.sign_in()["access_token"])

    def sign_in(self, scope: str | None = None, credential: Any = CLIENT_SECRET) -> dict[str, Any]:
        client = msal.ConfidentialClientApplication(
            CLIENT_ID, client_credential=credential, authority=f"{self.url}/{TENANT}", instance_discovery=False
        )
        return dict(client.acquire_token_for_client([scope or f"{self.url}/.default"]))

    def ask(
        self, path: str, prefer: str = "", *, method: str = "GET", body: bytes = b"", **headers: str
    ) -> requests.Response:
        sent = {
            "Authorization": f"Bearer {self.token}",
            "If-None-Match": "null",
            **({"Prefer": prefer} if prefer else {}),
        }
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        url = path if path.startswith("https:") else self.root + path
        return self.session.request(method, url, headers=sent, data=body)

    def get(self, path: str, prefer: str = "", **headers: str) -> dict[str, Any]:
        response = self.ask(path, prefer, **headers)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def rows(self, path: str, prefer: str = "") -> list[dict[str, Any]]:
        return list(self.get(path, prefer)["value"])

    def refusal(self, path: str, prefer: str = "") -> tuple[int, str, str]:
        """Status, code and message of an answer that is an error."""
        response = self.ask(path, prefer)
        error = response.json()["error"]
        return response.status_code, error["code"], error["message"]

    def pages(self, path: str, prefer: str, prefer_next: str | None = None) -> list[dict[str, Any]]:
        found = [self.get(path, prefer)]
        while link := found[-1].get("@odata.nextLink"):
            found.append(self.get(link, prefer if prefer_next is None else prefer_next))
        return found

    def edit(self, op: str, **item: Any) -> Any:
        return self.admin.post("edit", {"op": op, **item})

    def make(self, table: str, **values: Any) -> str:
        return str(self.edit("create", table=table, values=values)["id"])

    def delta_link(self, path: str) -> str:
        return str(self.pages(path, TRACK)[-1]["@odata.deltaLink"])

    def close(self) -> None:
        self.admin.close()
        self.session.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("certificates")
    app = DataverseApp(DataverseState(start=START))
    with serving(app, folder=folder) as url:
        yield Server(app, url, folder / "ca.pem")


@pytest.fixture
def org(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Org]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca))
    made = Org(server)
    yield made
    made.close()


def ids(rows: list[dict[str, Any]], key: str) -> list[str]:
    return [row[key] for row in rows]


def in_list(column: str, values: list[str]) -> str:
    return f"Microsoft.Dynamics.CRM.In(PropertyName='{column}',PropertyValues={json.dumps(values)})"


# -- authentication and transport ---------------------------------------------------------------------


def test_msal_gets_a_token_with_a_secret_and_the_api_accepts_it(org: Org) -> None:
    """1."""
    answer = org.sign_in()
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3599)
    org.token = answer["access_token"]
    assert org.ask("WhoAmI").status_code == 200


def test_a_token_for_another_audience_is_refused_by_the_api(org: Org) -> None:
    """1."""
    org.token = org.sign_in("https://graph.microsoft.com/.default")["access_token"]
    assert org.ask("WhoAmI").status_code == 401


def test_a_wrong_secret_is_named_in_entra_s_words(org: Org) -> None:
    """1."""
    answer = org.sign_in(credential="guess")
    assert answer["error"] == "invalid_client"
    assert "AADSTS7000215" in answer["error_description"]


def certificate_of(name: str) -> tuple[str, str, str]:
    """Private key, certificate and thumbprint of a self-signed certificate."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return (
        private,
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        certificate.fingerprint(hashes.SHA1()).hex(),  # noqa: S303 - what msal calls the thumbprint
    )


def test_msal_signs_in_with_a_certificate_whose_signature_is_checked_when_it_is_registered(org: Org) -> None:
    """2."""
    private, public, thumbprint = certificate_of("ours")
    credential = {"private_key": private, "thumbprint": thumbprint, "public_certificate": public}
    assert "access_token" in org.sign_in(credential=credential)
    org.admin.post("credentials", {"add": {"certificate": public}})
    assert "access_token" in org.sign_in(credential=credential)
    org.admin.post("credentials", {"add": {"certificate": certificate_of("another's")[1]}})
    assert "access_token" in org.sign_in(credential=credential)
    org.admin.post("credentials", {"revoke": {"certificate": public}})
    assert "AADSTS700027" in org.sign_in(credential=credential)["error_description"]


def test_several_secrets_are_good_at_once_until_each_is_revoked_or_expires(org: Org) -> None:
    org.admin.post("credentials", {"add": {"secret": "second"}})
    assert "access_token" in org.sign_in(credential=CLIENT_SECRET)
    assert "access_token" in org.sign_in(credential="second")

    org.admin.post("credentials", {"revoke": {"secret": CLIENT_SECRET}})
    assert "AADSTS7000215" in org.sign_in(credential=CLIENT_SECRET)["error_description"]

    org.admin.post("credentials", {"expire": {"secret": "second"}})
    assert "AADSTS7000222" in org.sign_in(credential="second")["error_description"]


@pytest.mark.parametrize(("switch", "status"), [("live_on", 200), ("die", 401)])
def test_what_a_revoked_secret_was_given_lives_on_or_dies(org: Org, switch: str, status: int) -> None:
    org.admin.post("switches", {"tokens_of_revoked_credentials": switch})
    org.admin.post("credentials", {"add": {"secret": f"{switch} secret"}})
    org.token = org.sign_in(credential=f"{switch} secret")["access_token"]
    assert org.ask("WhoAmI").status_code == 200

    org.admin.post("credentials", {"revoke": {"secret": f"{switch} secret"}})

    assert org.ask("WhoAmI").status_code == status


def test_an_expired_certificate_signs_nobody_in(org: Org) -> None:
    private, public, thumbprint = certificate_of("short of breath")
    credential = {"private_key": private, "thumbprint": thumbprint, "public_certificate": public}
    org.admin.post("credentials", {"add": {"certificate": public}})
    assert "access_token" in org.sign_in(credential=credential)

    org.admin.post("clock", {"advance": 400 * 86_400})

    assert "AADSTS700027" in org.sign_in(credential=credential)["error_description"]


def test_an_assertion_for_another_audience_is_refused(org: Org) -> None:
    """2."""
    assertion = jwt.encode({"iss": CLIENT_ID, "sub": CLIENT_ID, "aud": "https://elsewhere.example"}, "k" * 32)
    answer = org.sign_in(credential={"client_assertion": lambda: assertion})
    assert "AADSTS7002121" in answer["error_description"]


def exchanged(org: Org, client_id: str = IDENTITY_CLIENT_ID) -> dict[str, Any]:
    """What Entra ID says to a token of the managed identity in a secret's place."""

    def assertion() -> str:
        answer = org.session.get(
            f"{org.url}/msi/token",
            params={"resource": "api://AzureADTokenExchange", "api-version": "2019-08-01", "client_id": client_id},
            headers={"X-IDENTITY-HEADER": org.state.identity_header},
        )
        return str(answer.json()["access_token"])

    return org.sign_in(credential={"client_assertion": assertion})


def test_a_managed_identity_s_token_serves_as_assertion_in_another_tenant(org: Org) -> None:
    """2. It is of the managed identity's tenant, and what comes of it is of the application's."""
    org.state.identity_tenant = str(uuid.UUID(int=7))
    trusted = f"{org.url}/{org.state.identity_tenant}/v2.0 {org.state.managed_identity_principal_id}"
    org.admin.post("credentials", {"add": {"federated": trusted}})

    org.token = exchanged(org)["access_token"]
    assert org.ask("WhoAmI").status_code == 200

    org.admin.post("credentials", {"revoke": {"federated": trusted}})
    assert "AADSTS700211" in exchanged(org)["error_description"]


@pytest.mark.parametrize(
    ("issuer", "subject", "code"),
    [
        ("{url}/{other}/v2.0", "{principal}", "AADSTS700211"),
        ("{url}/{tenant}/v2.0/", "{principal}", "AADSTS700211"),
        ("{url}/{tenant}/v2.0", "{other}", "AADSTS700213"),
        ("{url}/{tenant}/v2.0", IDENTITY_CLIENT_ID, "AADSTS700213"),
    ],
)
def test_an_assertion_that_no_federated_credential_fits_is_refused(
    org: Org, issuer: str, subject: str, code: str
) -> None:
    """2. Among the usual mistakes: the identity's client id in the place of its object id."""
    facts = {
        "url": org.url,
        "tenant": TENANT,
        "other": str(uuid.UUID(int=7)),
        "principal": org.state.managed_identity_principal_id,
    }
    org.admin.post("credentials", {"add": {"federated": f"{issuer} {subject}".format(**facts)}})

    assert code in exchanged(org)["error_description"]


def test_an_assertion_of_another_identity_or_out_of_its_time_is_refused(org: Org) -> None:
    """2."""
    trusted = f"{org.url}/{TENANT}/v2.0 {org.state.managed_identity_principal_id}"
    org.admin.post("credentials", {"add": {"federated": trusted}})
    assert "access_token" in exchanged(org)
    assert "AADSTS700213" in exchanged(org, CLIENT_ID)["error_description"]

    org.state.switches["token_lifetime"] = -1
    assert "AADSTS700024" in exchanged(org)["error_description"]


def test_a_token_of_another_tenant_or_application_is_refused(org: Org) -> None:
    """3."""
    for changes, status in (({}, 200), ({"tenant": str(uuid.UUID(int=7))}, 401), ({"application": "other"}, 401)):
        org.token = identity.issue(org.state, org.url, org.url, **changes)
        assert org.ask("WhoAmI").status_code == status


@pytest.mark.parametrize("arguments", [{}, {"client_id": CLIENT_ID}])
def test_azure_identity_gets_a_token_from_the_managed_identity_endpoint(
    org: Org, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, str]
) -> None:
    """App Service's endpoint; over HTTPS, trusted by REQUESTS_CA_BUNDLE."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{org.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", org.state.identity_header)
    with ManagedIdentityCredential(**arguments) as credential:
        token = credential.get_token(f"{org.url}/.default")
    assert token.expires_on > time.time() + 3000
    org.token = token.token
    assert org.ask("WhoAmI").status_code == 200


def test_the_managed_identity_endpoint_wants_its_header(org: Org) -> None:
    """As App Service does, against request forgery."""
    assert org.session.get(f"{org.url}/msi/token", params={"resource": org.url}).status_code == 401


def test_a_missing_expired_or_garbled_bearer_is_answered_401(org: Org) -> None:
    """3."""
    good = org.token
    assert org.session.get(f"{org.root}WhoAmI").status_code == 401
    org.token = good[:-4] + "xxxx"
    assert org.ask("WhoAmI").status_code == 401
    org.token = good
    org.admin.post("clock", {"advance": 3700})
    answer = org.ask("WhoAmI")
    assert answer.status_code == 401
    assert "authorization_uri" in answer.headers["WWW-Authenticate"]


def test_a_token_without_application_user_is_answered_403(org: Org) -> None:
    """4."""
    org.admin.post("switches", {"application_user": "missing"})
    assert org.refusal("accounts") == (403, "0x80072560", "The user is not a member of the organization.")


@pytest.mark.parametrize("condition", ["disabled", "no_role"])
def test_a_disabled_or_roleless_application_user_is_told_about_the_privilege(org: Org, condition: str) -> None:
    """5."""
    org.admin.post("switches", {"application_user": condition})
    status, _, message = org.refusal("opportunities")
    assert (status, "prvReadOpportunity" in message) == (403, True)


def test_reading_below_organization_depth_works_but_tracking_does_not(org: Org) -> None:
    """6."""
    org.admin.post("switches", {"privileges": {"account": "business_unit"}})
    assert org.ask("accounts?$select=name").status_code == 200
    status, _, message = org.refusal("accounts?$select=name", TRACK)
    assert status == 403
    assert message.startswith("SecLib::CheckPrivilege failed.")
    assert "Required Depth: Global" in message


def test_answers_carry_the_service_s_headers_and_are_compressed_when_asked(org: Org) -> None:
    """7."""
    for number in range(30):
        org.make("account", name=f"Account {number}")
    answer = org.ask("accounts?$select=name", "odata.maxpagesize=100", Accept_Encoding="gzip")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["OData-Version"] == "4.0"
    assert answer.headers["Preference-Applied"] == "odata.maxpagesize=100"
    assert answer.headers["Content-Type"].startswith("application/json; odata.metadata=minimal")
    for name in ("x-ms-dop-hint", "x-ms-service-request-id", "x-ms-ratelimit-burst-remaining-xrm-requests"):
        assert answer.headers[name]
    org.session.cookies.clear()
    assert "ARRAffinity" in org.ask("WhoAmI", Accept_Encoding="identity").headers["Set-Cookie"]


# -- reading ------------------------------------------------------------------------------------------


def test_the_key_the_etag_and_the_currency_of_an_amount_come_unasked(org: Org) -> None:
    """8."""
    org.make("opportunity", name="Mill", estimatedvalue=10.0)
    (row,) = org.rows("opportunities?$select=estimatedvalue")
    assert row.keys() == {"@odata.etag", "estimatedvalue", "_transactioncurrencyid_value", "opportunityid"}
    assert re.fullmatch(r'W/"\d+"', row["@odata.etag"])
    (row,) = org.rows("opportunities?$select=name")
    assert row.keys() == {"@odata.etag", "name", "opportunityid"}


def test_the_etag_is_the_version_number(org: Org) -> None:
    """8."""
    org.make("account", name="Contoso")
    (row,) = org.rows("accounts?$select=versionnumber")
    assert row["@odata.etag"] == f'W/"{row["versionnumber"]}"'


@pytest.mark.parametrize("name", ["color", "ownerid", "customeridname", "Name"])
def test_selecting_what_is_no_column_is_refused(org: Org, name: str) -> None:
    """9."""
    text = f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.opportunity'."
    assert org.refusal(f"opportunities?$select={name}") == (400, "0x80060888", text)


def test_a_lookup_is_selected_by_its_value(org: Org) -> None:
    """9."""
    org.make("opportunity", name="Mill")
    (row,) = org.rows("opportunities?$select=_ownerid_value")
    assert row["_ownerid_value"] == org.state.owner_id


def test_unknown_sets_and_rows_are_404_with_their_codes(org: Org) -> None:
    """10."""
    missing = str(uuid.uuid4())
    assert org.refusal("ontacts") == (404, "0x8006088a", "Resource not found for the segment 'ontacts'.")
    expected = (404, "0x80040217", f"opportunity With Id = {missing} Does Not Exist")
    assert org.refusal(f"opportunities({missing})") == expected
    assert org.refusal("accounts(accountnumber='A1')")[1] == "0x80060890"


def test_values_have_their_wire_form(org: Org) -> None:
    """11."""
    row_id = org.make(
        "opportunity", name="Mill", estimatedclosedate="2026-03-31", estimatedvalue=1234.5, closeprobability=40
    )
    row = org.get(f"opportunities({row_id})")
    assert row["estimatedclosedate"] == "2026-03-31"
    assert row["createdon"] == START
    assert (row["estimatedvalue"], row["closeprobability"], row["description"]) == (1234.5, 40, None)
    assert row["@odata.context"].endswith("/$metadata#opportunities/$entity")


def test_annotations_come_only_when_asked_for_and_before_their_value(org: Org) -> None:
    """12."""
    row_id = org.make("opportunity", name="Mill", estimatedvalue=1234.5)
    path = f"opportunities({row_id})?$select=statecode,estimatedvalue,_ownerid_value,_parentcontactid_value"
    assert not [name for name in org.get(path) if "@" in name[1:]]
    row = org.get(path, ALL_ANNOTATIONS)
    assert row[f"statecode{FORMATTED}"] == "Open"
    assert row[f"estimatedvalue{FORMATTED}"] == "$1,234.50"
    assert row[f"_ownerid_value{LOOKUP_NAME}"] == "systemuser"
    assert not [name for name in row if name.startswith("_parentcontactid_value@")]
    names = list(row)
    assert names.index(f"_ownerid_value{LOOKUP_NAME}") < names.index("_ownerid_value")


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ("OData.Community.Display.V1.FormattedValue", {FORMATTED}),
        ("Microsoft.Dynamics.CRM.lookuplogicalname", {LOOKUP_NAME}),
        ("Microsoft.Dynamics.CRM.*", {LOOKUP_NAME, NAVIGATION}),
        ("*", {FORMATTED, LOOKUP_NAME, NAVIGATION}),
    ],
)
def test_annotations_are_asked_for_by_name_list_or_wildcard(org: Org, asked: str, seen: set[str]) -> None:
    """12."""
    org.make("opportunity", name="Mill")
    (row,) = org.rows("opportunities?$select=_ownerid_value", f'odata.include-annotations="{asked}"')
    assert {name.removeprefix("_ownerid_value") for name in row if name.startswith("_ownerid_value@")} == seen


def test_a_polymorphic_lookup_tells_its_table_and_navigation_property(org: Org) -> None:
    """13."""
    account, contact = org.make("account", name="Contoso"), org.make("contact", lastname="Adler")
    org.make("opportunity", name="a", parentaccountid=account)
    org.make("opportunity", name="c", parentcontactid=contact)
    rows = org.rows(
        "opportunities?$select=_customerid_value,_accountid_value,_contactid_value&$orderby=name", ALL_ANNOTATIONS
    )
    found = [(row[f"_customerid_value{LOOKUP_NAME}"], row[f"_customerid_value{NAVIGATION}"]) for row in rows]
    assert found == [("account", "customerid_account"), ("contact", "customerid_contact")]
    assert [(row["_accountid_value"], row["_contactid_value"]) for row in rows] == [(account, None), (None, contact)]


def test_pages_have_the_size_asked_for_up_to_5000(org: Org) -> None:
    """14."""
    loading.load(org.state, {"account": [{"accountid": str(uuid.UUID(int=n)), "name": f"A{n}"} for n in range(5003)]})
    path = "accounts?$select=name"
    assert len(org.rows(path, "odata.maxpagesize=7")) == 7
    assert len(org.rows(path, "odata.maxpagesize=9000")) == 5000
    assert len(org.rows(path)) == 5000
    assert sum(len(page["value"]) for page in org.pages(path, "odata.maxpagesize=2000")) == 5003


def test_top_is_ignored_beside_a_page_size_and_skip_is_refused(org: Org) -> None:
    """14."""
    for number in range(5):
        org.make("account", name=f"A{number}")
    assert len(org.rows("accounts?$select=name&$top=2")) == 2
    page = org.get("accounts?$select=name&$top=2", "odata.maxpagesize=4")
    assert (len(page["value"]), "@odata.nextLink" in page) == (4, True)
    assert org.refusal("accounts?$skip=1")[0] == 400


def test_a_next_link_is_absolute_stable_and_can_not_be_tampered_with(org: Org) -> None:
    """15."""
    for number in range(5):
        org.make("account", name=f"A{number}")
    first, second, last = org.pages("accounts?$select=name", "odata.maxpagesize=2")
    link = first["@odata.nextLink"]
    assert link.startswith(f"{org.root}accounts?$select=name&$skiptoken=%3Ccookie%20pagenumber%3D%222%22")
    assert org.get(link, "odata.maxpagesize=2") == second
    assert "@odata.nextLink" not in last
    assert org.ask(link.replace("$select=name", "$select=accountnumber"), "odata.maxpagesize=2").status_code == 400
    assert org.ask(link[:-40] + "0" * 40).status_code == 400
    seen = ids([row for page in (first, second, last) for row in page["value"]], "accountid")
    assert len(set(seen)) == len(seen) == 5


def test_ordered_pages_neither_repeat_nor_lose_rows_that_stayed(org: Org) -> None:
    """15."""
    for number in range(9):
        org.make("account", name=f"A{number}", numberofemployees=number // 3)
    pages = org.pages("accounts?$select=name&$orderby=numberofemployees desc,name", "odata.maxpagesize=2")
    assert [row["name"] for page in pages for row in page["value"]] == [
        "A6",
        "A7",
        "A8",
        "A3",
        "A4",
        "A5",
        "A0",
        "A1",
        "A2",
    ]


def test_rows_come_and_go_during_paging_without_harm(org: Org) -> None:
    """16."""
    made = [org.make("account", name=f"A{number}") for number in range(6)]
    first = org.get("accounts?$select=name", "odata.maxpagesize=2")
    org.make("account", name="new")
    kept = first["value"][-1]["accountid"]
    org.edit("delete", table="account", id=kept)
    rest = org.rows(first["@odata.nextLink"], "odata.maxpagesize=5000")
    assert set(made) <= set(ids(first["value"] + rest, "accountid"))


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("numberofemployees eq 20", "b"),
        ("numberofemployees ne 20", "acd"),
        ("numberofemployees gt 10 and numberofemployees le 30", "bc"),
        ("numberofemployees ge 20 and not (name eq 'C')", "b"),
        ("(name eq 'A' or name eq 'B') and numberofemployees lt 20", "a"),
        ("name eq 'a' or name eq 'b' and numberofemployees eq 99", "a"),
        ("numberofemployees eq null", "d"),
        ("numberofemployees ne null", "abc"),
        ("contains(name,'b')", "b"),
        ("startswith(name,'C') or endswith(name,'D')", "cd"),
        ("createdon ge 2026-01-05T08:00:00Z", "abcd"),
        ("createdon gt 2026-01-05T08:00:00.0000000Z", ""),
        ("createdon lt 2026-01-05T09:30:00+01:00", "abcd"),
        ("createdon ge 2026-01-05T08:00:00.5Z", ""),
        ("createdon lt 2026-01-05T08:00:00.5Z", "abcd"),
        ("donotemail eq true", "a"),
        ("donotemail eq false or name eq 'd'", "d"),
        ("name eq @p1", "b"),
        ('Microsoft.Dynamics.CRM.In(PropertyName=\'name\',PropertyValues=["A","d"])', "ad"),
        ("Microsoft.Dynamics.CRM.In(PropertyName=@p2,PropertyValues=@p3)", "ac"),
        (f"statecode eq 0 and {in_list('numberofemployees', ['10', '20'])}", "ab"),
    ],
)
def test_filters_find_the_rows_they_describe(org: Org, condition: str, names: str) -> None:
    """17."""
    for name, employees in (("a", 10), ("b", 20), ("c", 30), ("d", None)):
        values: dict[str, Any] = {"name": name, "numberofemployees": employees}
        org.make("account", **values, **({"donotemail": True} if name == "a" else {}))
    aliases = {"@p1": "'B'", "@p2": "'numberofemployees'", "@p3": '["10","30"]'}
    more = "".join(f"&{name}={quote(value)}" for name, value in aliases.items())
    found = org.rows(f"accounts?$select=name&$orderby=name&$filter={quote(condition)}{more}")
    assert "".join(row["name"] for row in found) == names


def test_rows_are_found_by_their_lookups(org: Org) -> None:
    """17."""
    account, other = org.make("account", name="Contoso"), org.make("account", name="Fabrikam")
    wanted = org.make("opportunity", name="ours", parentaccountid=account)
    org.make("opportunity", name="theirs", parentaccountid=other)
    for condition in (
        f"_parentaccountid_value eq {account}",
        f"_customerid_value eq {account.upper()}",
        in_list("customerid", [account]),
        in_list("_customerid_value", [account, str(uuid.uuid4())]),
        in_list("opportunityid", [wanted.upper()]),
        f"{in_list('opportunityid', [wanted])} and statecode eq 0",
        f"opportunityid eq {wanted} or _parentaccountid_value eq {account}",
    ):
        assert ids(org.rows(f"opportunities?$select=name&$filter={quote(condition)}"), "opportunityid") == [wanted], (
            condition
        )


def test_lookups_are_found_where_they_point_now(org: Org) -> None:
    """17: the index follows every save and deletion."""
    old, new = org.make("account", name="Contoso"), org.make("account", name="Fabrikam")
    row_id = org.make("opportunity", name="Mill", parentaccountid=old)

    def sold_to(account: str) -> list[str]:
        return ids(org.rows(f"opportunities?$filter={in_list('customerid', [account])}"), "opportunityid")

    assert (sold_to(old), sold_to(new)) == ([row_id], [])
    org.edit("update", table="opportunity", id=row_id, values={"parentaccountid": new})
    assert (sold_to(old), sold_to(new)) == ([], [row_id])
    org.edit("delete", table="opportunity", id=row_id)
    assert sold_to(new) == []


@pytest.mark.parametrize(
    "condition",
    [
        "In(PropertyName='name',PropertyValues=[\"a\"])",
        "Microsoft.Dynamics.CRM.In(PropertyName='name',PropertyValues=['a'])",
        "name eq",
        "name is 'a'",
        "(name eq 'a'",
        "name eq @none",
        "numberofemployees eq 'x'",
        "color eq 1",
        "ownerid eq null",
    ],
)
def test_filters_that_make_no_sense_are_refused(org: Org, condition: str) -> None:
    """17."""
    assert org.ask(f"accounts?$filter={quote(condition)}").status_code == 400


def test_more_than_500_conditions_are_refused_but_in_counts_as_one(org: Org) -> None:
    """18."""
    wanted = org.make("account", name="Contoso")
    for term, word in (("name eq 'a'", " or "), ("(name eq 'a' or name eq 'b')", " and ")):
        many = word.join([term] * 501 if word == " or " else [term] * 251)
        assert org.refusal(f"accounts?$filter={quote(many)}")[1] == "0x8004430C"
    some = [wanted, *(str(uuid.UUID(int=number)) for number in range(399))]
    assert ids(org.rows(f"accounts?$select=name&$filter={quote(in_list('accountid', some))}"), "accountid") == [wanted]


def test_a_url_over_32768_characters_works_only_in_a_batch(org: Org) -> None:
    """18."""
    wanted = org.make("account", name="Contoso")
    some = [wanted, *(str(uuid.UUID(int=number)) for number in range(899))]
    path = f"accounts?$select=name&$filter={in_list('accountid', some).replace(' ', '').replace(chr(34), '%22')}"
    assert len(path) > 33_000
    assert org.ask(path).status_code == 414
    (part,) = batch(org, [path])[1]
    assert ids(part.body["value"], "accountid") == [wanted]
    assert batch(org, [path + "&x=" + "y" * 40_000])[1][0].status == 414


def test_not_modified_only_without_expansion_and_annotations(org: Org) -> None:
    """19."""
    row_id = org.make("account", name="Contoso")
    etag = org.get(f"accounts({row_id})?$select=name")["@odata.etag"]
    path = f"accounts({row_id})?$select=name"
    assert org.ask(path, If_None_Match=etag).status_code == 304
    assert org.ask(path, ALL_ANNOTATIONS, If_None_Match=etag).status_code == 200
    assert org.ask(f"{path}&$expand=primarycontactid($select=fullname)", If_None_Match=etag).status_code == 200
    org.edit("update", table="account", id=row_id, values={"name": "Contoso Ltd"})
    assert org.ask(path, If_None_Match=etag).status_code == 200


def test_tables_describe_themselves(org: Org) -> None:
    """20."""
    names = "LogicalName,EntitySetName,ChangeTrackingEnabled,CanChangeTrackingBeEnabled"
    found = org.get(f"EntityDefinitions(LogicalName='connection')?$select={names}")
    assert (found["EntitySetName"], found["ChangeTrackingEnabled"]) == ("connections", True)
    assert found["CanChangeTrackingBeEnabled"]["ManagedPropertyLogicalName"] == "canchangetrackingbeenabled"
    org.admin.post("columns", {"table": "connection", "tracked": False})
    tracked = org.rows(
        "EntityDefinitions?$select=LogicalName&$filter=ChangeTrackingEnabled eq true and IsCustomEntity eq false"
    )
    assert "opportunity" in ids(tracked, "LogicalName")
    assert "connection" not in ids(tracked, "LogicalName")
    able = org.rows("EntityDefinitions?$select=LogicalName&$filter=CanChangeTrackingBeEnabled/Value eq true")
    assert "connection" in ids(able, "LogicalName")
    assert org.refusal("EntityDefinitions?$filter=startswith(LogicalName,'o')")[0] == 501
    assert org.refusal("EntityDefinitions(LogicalName='nothing')")[0] == 404


def test_columns_describe_themselves(org: Org) -> None:
    """20."""
    rows = org.rows("EntityDefinitions(LogicalName='opportunity')/Attributes?$select=LogicalName,AttributeType")
    kinds = {row["LogicalName"]: row["AttributeType"] for row in rows}
    wanted = {"opportunityid": "Uniqueidentifier", "name": "String", "description": "Memo", "customerid": "Customer"}
    wanted |= {
        "estimatedvalue": "Money",
        "estimatedclosedate": "DateTime",
        "statecode": "State",
        "statuscode": "Status",
    }
    wanted |= {
        "ownerid": "Owner",
        "versionnumber": "BigInt",
        "isrevenuesystemcalculated": "Boolean",
        "need": "Picklist",
    }
    assert wanted.items() <= kinds.items()


@pytest.mark.parametrize(
    ("cast", "column", "value", "label"),
    [
        ("StateAttributeMetadata", "statecode", 1, "Won"),
        ("StatusAttributeMetadata", "statuscode", 5, "Out-Sold"),
        ("PicklistAttributeMetadata", "opportunityratingcode", 3, "Cold"),
    ],
)
def test_choices_have_labels_by_language(org: Org, cast: str, column: str, value: int, label: str) -> None:
    """20."""
    path = f"EntityDefinitions(LogicalName='opportunity')/Attributes/Microsoft.Dynamics.CRM.{cast}"
    rows = org.rows(f"{path}?$select=LogicalName&$expand=OptionSet")
    options = next(row for row in rows if row["LogicalName"] == column)["OptionSet"]["Options"]
    found = next(option for option in options if option["Value"] == value)
    assert found["Label"]["UserLocalizedLabel"]["Label"] == label
    languages = {item["LanguageCode"]: item["Label"] for item in found["Label"]["LocalizedLabels"]}
    assert languages[1033] == label
    if column == "statecode":
        assert (languages[1031], found["DefaultStatus"], found["InvariantName"]) == ("Gewonnen", 3, "Won")
    if column == "statuscode":
        assert found["State"] == 2


def test_yes_and_no_and_multi_selects_have_options_too(org: Org) -> None:
    """20."""
    interests = {"name": "new_interests", "type": "multichoice", "options": [{"value": 7, "label": "Sailing"}]}
    org.admin.post("columns", {"table": "contact", "add": [interests]})
    path = "EntityDefinitions(LogicalName='contact')/Attributes/Microsoft.Dynamics.CRM."
    (row,) = org.rows(f"{path}MultiSelectPicklistAttributeMetadata?$select=LogicalName&$expand=OptionSet")
    assert row["OptionSet"]["Options"][0]["Label"]["UserLocalizedLabel"]["Label"] == "Sailing"
    rows = org.rows(f"{path}BooleanAttributeMetadata?$select=LogicalName&$expand=OptionSet")
    assert rows[0]["OptionSet"]["TrueOption"]["Label"]["UserLocalizedLabel"]["Label"] == "Yes"


def test_the_organization_tells_who_it_is_and_how_long_it_remembers(org: Org) -> None:
    """21."""
    me = org.get("WhoAmI")
    assert me["OrganizationId"] == org.state.organization_id == DataverseState().organization_id
    assert (me["UserId"], me["BusinessUnitId"]) == (org.state.application_user_id, org.state.business_unit_id)
    (row,) = org.rows("organizations?$select=expirechangetrackingindays")
    assert row["expirechangetrackingindays"] == 7


def test_single_valued_navigation_properties_are_expanded(org: Org) -> None:
    """`$expand` of a lookup, polymorphic or not; null where it is empty."""
    contact = org.make("contact", firstname="Ada", lastname="Adler", emailaddress1="ada@example.invalid")
    org.make("opportunity", name="Mill", parentcontactid=contact)
    expand = "customerid_contact($select=fullname,emailaddress1),customerid_account($select=name),"
    expand += "owninguser($select=fullname)"
    page = org.get(f"opportunities?$select=name&$expand={expand}")
    (row,) = page["value"]
    assert row["customerid_contact"]["fullname"] == "Ada Adler"
    assert row["customerid_contact"].keys() == {"@odata.etag", "fullname", "emailaddress1", "contactid"}
    assert row["customerid_account"] is None
    assert row["owninguser"]["fullname"] == "Robin Vendor"
    assert "customerid_contact(fullname,emailaddress1)" in page["@odata.context"]


def test_counts_are_given_inline_and_as_a_number(org: Org) -> None:
    """`$count=true` and `/$count`."""
    for name in "abc":
        org.make("account", name=name)
    page = org.get("accounts?$select=name&$count=true&$filter=name ne 'a'", "odata.maxpagesize=1")
    assert (page["@odata.count"], len(page["value"])) == (2, 1)
    assert org.ask("accounts/$count").text == "3"
    assert org.ask("accounts/$count?$filter=name eq 'b'").text == "1"


# -- change tracking ----------------------------------------------------------------------------------


def test_a_first_tracked_read_ends_with_a_delta_link_on_its_last_page(org: Org) -> None:
    """22."""
    for number in range(5):
        org.make("account", name=f"A{number}")
    answer = org.ask("accounts?$select=name", f"{TRACK},odata.maxpagesize=2")
    assert answer.headers["Preference-Applied"] == f"{TRACK},odata.maxpagesize=2"
    pages = org.pages("accounts?$select=name", f"{TRACK},odata.maxpagesize=2")
    assert ["@odata.nextLink" in page for page in pages] == [True, True, False]
    assert ["@odata.deltaLink" in page for page in pages] == [False, False, True]
    assert pages[0]["@odata.context"] == f"{org.root}$metadata#accounts(name)"
    assert "istracking%3D%22True%22" in pages[0]["@odata.nextLink"]


@pytest.mark.parametrize("prefer_next", [f"{TRACK},odata.maxpagesize=2", "odata.maxpagesize=2", ""])
def test_next_links_need_not_repeat_the_wish_to_track(org: Org, prefer_next: str) -> None:
    """23."""
    for number in range(5):
        org.make("account", name=f"A{number}")
    pages = org.pages("accounts?$select=name", f"{TRACK},odata.maxpagesize=2", prefer_next)
    assert "@odata.deltaLink" in pages[-1]
    assert sum(len(page["value"]) for page in pages) == 5


def test_the_delta_link_keeps_the_selection_and_a_readable_token(org: Org) -> None:
    """24."""
    link = org.delta_link("accounts?$select=name,accountnumber")
    assert link.startswith(f"{org.root}accounts?$select=name,accountnumber&$deltatoken=")
    token = link.rpartition("=")[2]
    assert re.fullmatch(r"\d+%2101%2f05%2f2026%2008%3a00%3a00", token)
    assert unquote(token) == f"{org.state.version}!01/05/2026 08:00:00"


def test_a_delta_has_complete_changed_rows_and_bare_ids_of_deleted_ones(org: Org) -> None:
    """25."""
    changed, deleted = org.make("opportunity", name="A", estimatedvalue=1.0), org.make("opportunity", name="B")
    link = org.delta_link("opportunities?$select=name,estimatedvalue")
    org.edit("update", table="opportunity", id=changed, values={"name": "A2"})
    org.edit("delete", table="opportunity", id=deleted)
    delta = org.get(link)
    assert delta["@odata.context"] == f"{org.root}$metadata#opportunities(name,estimatedvalue)/$delta"
    upsert, tombstone = delta["value"]
    assert (upsert["name"], upsert["estimatedvalue"], upsert["opportunityid"]) == ("A2", 1.0, changed)
    context = f"{org.root}$metadata#opportunities/$deletedEntity"
    assert tombstone == {"@odata.context": context, "id": deleted, "reason": "deleted"}


def test_an_empty_delta_has_a_new_link_that_advances_or_stays(org: Org) -> None:
    """26."""
    link = org.delta_link("accounts?$select=name")
    org.make("contact", lastname="elsewhere")
    advanced = org.get(link)
    assert advanced["value"] == []
    assert advanced["@odata.deltaLink"] != link
    org.admin.post("switches", {"empty_delta_token": "stays"})
    assert org.get(link)["@odata.deltaLink"] == link


def test_what_was_created_and_deleted_between_polls_is_only_a_deletion(org: Org) -> None:
    """27."""
    link = org.delta_link("accounts?$select=name")
    row_id = org.make("account", name="short-lived")
    org.edit("delete", table="account", id=row_id)
    assert [row.get("id") for row in org.rows(link)] == [row_id]


def test_what_was_updated_and_deleted_is_only_a_deletion(org: Org) -> None:
    """28."""
    row_id = org.make("account", name="a")
    link = org.delta_link("accounts?$select=name")
    org.edit("update", table="account", id=row_id, values={"name": "b"})
    org.edit("delete", table="account", id=row_id)
    assert [row.get("id") for row in org.rows(link)] == [row_id]


def test_a_row_that_came_back_is_no_deletion(org: Org) -> None:
    """28, the other way round."""
    row_id = org.make("account", name="a")
    link = org.delta_link("accounts?$select=name")
    org.edit("delete", table="account", id=row_id)
    org.edit("create", table="account", id=row_id, values={"name": "restored"})
    assert [(row["accountid"], row["name"]) for row in org.rows(link)] == [(row_id, "restored")]


def test_deltas_list_changes_by_version_and_then_deletions_over_pages(org: Org) -> None:
    """29, 30."""
    made = [org.make("account", name=f"A{number}") for number in range(6)]
    link = org.delta_link("accounts?$select=name")
    for row_id in (made[3], made[0], made[4]):
        org.edit("update", table="account", id=row_id, values={"name": "changed"})
    for row_id in (made[5], made[1]):
        org.edit("delete", table="account", id=row_id)
    pages = org.pages(link, "odata.maxpagesize=2")
    found = [row.get("accountid") or row["id"] for page in pages for row in page["value"]]
    assert found == [made[3], made[0], made[4], made[5], made[1]]
    assert [len(page["value"]) for page in pages] == [2, 2, 1]
    assert ["@odata.deltaLink" in page for page in pages] == [False, False, True]
    assert all(page["@odata.context"].endswith("/$delta") for page in pages)


def test_what_changes_while_a_delta_is_paged_comes_with_the_next_one(org: Org) -> None:
    """30."""
    made = [org.make("account", name=f"A{number}") for number in range(4)]
    link = org.delta_link("accounts?$select=name")
    for row_id in made:
        org.edit("update", table="account", id=row_id, values={"name": "changed"})
    first = org.get(link, "odata.maxpagesize=2")
    org.edit("update", table="account", id=made[0], values={"name": "again"})
    last = org.get(first["@odata.nextLink"], "odata.maxpagesize=2")
    assert [row["name"] for row in org.rows(last["@odata.deltaLink"])] == ["again"]


def test_a_row_may_be_listed_twice_with_different_versions(org: Org) -> None:
    """31."""
    row_id = org.make("account", name="a")
    link = org.delta_link("accounts?$select=name,versionnumber")
    for name in "bc":
        org.edit("update", table="account", id=row_id, values={"name": name})
    assert len(org.rows(link)) == 1
    org.admin.post("switches", {"repeat_changed_rows": True})
    first, second = org.rows(link)
    assert first["accountid"] == second["accountid"]
    assert first["versionnumber"] < second["versionnumber"]


def test_a_row_comes_again_when_a_column_not_selected_changed(org: Org) -> None:
    """32."""
    row_id = org.make("account", name="a")
    link = org.delta_link("accounts?$select=name")
    org.edit("update", table="account", id=row_id, values={"description": "<p>new</p>"})
    assert ids(org.rows(link), "accountid") == [row_id]


def test_an_old_delta_link_gives_everything_since_again(org: Org) -> None:
    """33."""
    link = org.delta_link("accounts?$select=name")
    first = org.make("account", name="a")
    later = org.get(link)["@odata.deltaLink"]
    second = org.make("account", name="b")
    assert ids(org.rows(later), "accountid") == [second]
    assert ids(org.rows(link), "accountid") == [first, second]


@pytest.mark.parametrize("option", ["$filter=statecode eq 0", "$orderby=name", "$expand=primarycontactid", "$top=5"])
def test_tracked_reads_take_only_a_selection(org: Org, option: str) -> None:
    """34."""
    status, _, message = org.refusal(f"accounts?$select=name&{option}", TRACK)
    name = option.partition("=")[0]
    assert (status, message) == (400, f'The "{name}" query parameter isn\'t supported when Change Tracking is enabled.')


EXPIRED = (400, "0x80044352", "Version stamp associated with the client has expired. Please perform a full sync.")


def shorten_retention(org: Org) -> None:
    org.edit("update", table="organization", id=org.state.organization_id, values={"expirechangetrackingindays": 3})


@pytest.mark.parametrize(
    "cause",
    [
        lambda org: org.admin.post("clock", {"advance": 7 * 86_400 + 60}),
        shorten_retention,
        lambda org: org.admin.post("columns", {"table": "account", "add": [{"name": "new_tier", "type": "int"}]}),
        lambda org: org.admin.post("expire-delta-links", {"table": "account"}),
        lambda org: org.admin.post("expire-delta-links", {}),
    ],
    ids=["too old", "retention changed", "metadata published", "one table", "all tables"],
)
def test_delta_links_die(org: Org, cause: Callable[[Org], Any]) -> None:
    """35."""
    link = org.delta_link("accounts?$select=name")
    cause(org)
    org.token = org.sign_in()["access_token"]  # the clock may have moved past the old one's end
    assert org.refusal(link) == EXPIRED
    assert org.ask(org.delta_link("accounts?$select=name")).status_code == 200


def test_a_metadata_publish_leaves_other_tables_alone_and_ends_a_delta_in_the_middle(org: Org) -> None:
    """35."""
    for number in range(4):
        org.make("account", name=f"A{number}")
    contacts, accounts = org.delta_link("contacts?$select=fullname"), org.delta_link("accounts?$select=name")
    for row in org.rows("accounts?$select=name"):
        org.edit("update", table="account", id=row["accountid"], values={"name": "changed"})
    first = org.get(accounts, "odata.maxpagesize=2")
    org.admin.post("columns", {"table": "account", "add": [{"name": "new_tier", "type": "int"}]})
    assert org.refusal(first["@odata.nextLink"]) == EXPIRED
    assert org.ask(contacts).status_code == 200


def test_a_full_read_after_expiry_reports_no_deletions_of_the_gap(org: Org) -> None:
    """36."""
    gone, kept = org.make("account", name="gone"), org.make("account", name="kept")
    org.delta_link("accounts?$select=name")
    org.edit("delete", table="account", id=gone)
    org.admin.post("expire-delta-links", {})
    assert ids(org.rows("accounts?$select=name", TRACK), "accountid") == [kept]
    assert org.rows(org.delta_link("accounts?$select=name")) == []


def test_a_table_that_is_not_tracked_says_so_or_stays_silent(org: Org) -> None:
    """37."""
    path = "businessunits?$select=name"
    assert org.refusal(path, TRACK) == (400, "0x80072491", "Entity businessunit isn't enabled for change tracking.")
    org.admin.post("switches", {"untracked_table": "silent"})
    page = org.get(path, TRACK)
    assert (len(page["value"]), "@odata.deltaLink" in page) == (1, False)


def test_annotations_may_cost_the_delta_link(org: Org) -> None:
    """38."""
    org.make("account", name="a")
    prefer = f"{TRACK},{ALL_ANNOTATIONS}"
    page = org.get("accounts?$select=name,statecode", prefer)
    assert page["value"][0][f"statecode{FORMATTED}"] == "Active"
    assert "@odata.deltaLink" in page
    org.admin.post("switches", {"annotations_with_tracking": "lose_delta_link"})
    assert "@odata.deltaLink" not in org.get("accounts?$select=name,statecode", prefer)


def test_changes_since_a_token_are_counted(org: Org) -> None:
    """39."""
    token = org.delta_link("accounts?$select=name").rpartition("=")[2]
    org.make("account", name="a")
    org.edit("delete", table="account", id=org.make("account", name="b"))
    answer = org.ask(f"accounts/$count?$deltatoken={token}")
    assert (answer.text, answer.headers["Content-Type"].partition(";")[0]) == ("2", "text/plain")


@pytest.mark.parametrize(("position", "seen_again"), [("start", True), ("end", False)])
def test_changes_during_a_long_first_read_come_again_or_are_lost(org: Org, position: str, seen_again: bool) -> None:
    """40."""
    org.admin.post("switches", {"token_position": position})
    for number in range(4):
        org.make("account", name=f"A{number}")
    first = org.get("accounts?$select=name", f"{TRACK},odata.maxpagesize=2")
    changed = first["value"][0]["accountid"]
    org.edit("update", table="account", id=changed, values={"name": "changed meanwhile"})
    last = org.get(first["@odata.nextLink"], "odata.maxpagesize=2")
    assert ids(org.rows(last["@odata.deltaLink"]), "accountid") == ([changed] if seen_again else [])


@pytest.mark.parametrize("token", ["nonsense", "12", "12!yesterday", "x!01/05/2026 08:00:00", ""])
def test_a_malformed_token_is_refused(org: Org, token: str) -> None:
    """41."""
    assert org.refusal(f"accounts?$select=name&$deltatoken={quote(token)}")[0] == 400


def test_the_context_of_a_delta_may_lack_api(org: Org) -> None:
    """42."""
    org.admin.post("switches", {"delta_context": "without_api"})
    delta = org.get(org.delta_link("accounts?$select=name"))
    assert delta["@odata.context"] == f"{org.url}/data/v9.2/$metadata#accounts(name)/$delta"
    assert delta["@odata.deltaLink"].startswith(org.root)


def test_links_carry_the_host_that_was_asked(org: Org) -> None:
    """43: what a client compares with its configuration."""
    other = org.root.replace("localhost", "127.0.0.1")
    assert org.ask(f"{other}accounts").status_code == 401  # the token is for localhost
    assert org.delta_link("accounts?$select=name").startswith(f"{org.url}/")


# -- batch --------------------------------------------------------------------------------------------


class Part:
    """One answer in a batch's answer."""

    def __init__(self, text: str) -> None:
        outer, inner, body = text.split("\r\n\r\n", 2)
        assert "Content-Type: application/http" in outer
        first, *headers = inner.split("\r\n")
        self.status = int(first.split()[1])
        self.headers = dict(line.split(": ", 1) for line in headers)
        self.body = json.loads(body) if body.strip() else None


def batch(org: Org, paths: list[str], prefer: str = "", part_headers: str = "") -> tuple[requests.Response, list[Part]]:
    head = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    parts = [f"{head}GET /api/data/v9.2/{path} HTTP/1.1\r\n{part_headers}\r\n\r\n" for path in paths]
    return post_batch(org, parts, prefer)


def post_batch(org: Org, parts: list[str], prefer: str = "") -> tuple[requests.Response, list[Part]]:
    body = "".join(f"--batch_1\r\n{part}" for part in parts) + "--batch_1--\r\n"
    kind = 'multipart/mixed; boundary="batch_1"'
    answer = org.ask("$batch", prefer, method="POST", body=body.encode(), Content_Type=kind)
    boundary = re.fullmatch(r"multipart/mixed; boundary=(batchresponse_.+)", answer.headers["Content-Type"])
    if boundary is None:
        return answer, []
    pieces = answer.content.decode().split(f"--{boundary[1]}")
    assert pieces[-1] == "--\r\n"
    return answer, [Part(piece.removeprefix("\r\n")) for piece in pieces[1:-1]]


def test_a_batch_answers_in_order_with_headers_of_its_own(org: Org) -> None:
    """44."""
    names = {org.make("account", name=name): name for name in ("ä", "b", "c")}
    answer, parts = batch(org, [f"accounts({row_id})?$select=name" for row_id in names])
    assert answer.status_code == 200
    assert [part.body["name"] for part in parts] == list(names.values())
    assert parts[0].headers["OData-Version"] == "4.0"
    assert parts[0].headers["Content-Type"].endswith("odata.streaming=true")


def test_preferences_are_those_of_the_part(org: Org) -> None:
    """44."""
    for name in "abc":
        org.make("account", name=name)
    _, (part,) = batch(org, ["accounts?$select=name"], part_headers="Prefer: odata.maxpagesize=2\r\n")
    assert len(part.body["value"]) == 2
    assert part.body["@odata.nextLink"].startswith(org.root)


def test_the_first_failure_ends_a_batch_unless_it_shall_go_on(org: Org) -> None:
    """44."""
    row_id = org.make("account", name="a")
    paths = [f"accounts({row_id})?$select=name", f"accounts({uuid.uuid4()})", f"accounts({row_id})?$select=name"]
    answer, parts = batch(org, paths)
    assert (answer.status_code, [part.status for part in parts]) == (404, [200, 404])
    assert "REQ_ID" in parts[1].headers
    answer, parts = batch(org, paths, "odata.continue-on-error")
    assert (answer.status_code, [part.status for part in parts]) == (200, [200, 404, 200])


def test_a_batch_of_more_than_1000_operations_is_refused_as_plain_json(org: Org) -> None:
    """44."""
    answer, parts = batch(org, ["accounts"] * 1001)
    assert (answer.status_code, parts, answer.json()["error"]["code"]) == (400, [], "0x80048d06")
    assert len(batch(org, ["accounts?$select=name"] * 1000)[1]) == 1000


def test_a_change_set_holds_no_get_and_a_batch_no_batch(org: Org) -> None:
    """44."""
    inner = "Content-Type: application/http\r\n\r\nGET /api/data/v9.2/accounts HTTP/1.1\r\n\r\n"
    change_set = f'Content-Type: multipart/mixed; boundary="set_1"\r\n\r\n--set_1\r\n{inner}--set_1--\r\n'
    answer, parts = post_batch(org, [change_set])
    assert (answer.status_code, parts[0].status) == (400, 400)
    assert batch(org, ["$batch"])[0].status_code == 400
    garbled = org.ask("$batch", method="POST", body=b"hello", Content_Type="multipart/mixed; boundary=x")
    assert (garbled.status_code, "json" in garbled.headers["Content-Type"]) == (400, True)


# -- what the platform does with rows -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "contact", "origin", "customer"),
    [(True, False, False, "account"), (False, True, False, "contact"), (True, True, False, "account"),
     (True, True, True, "contact"), (False, False, False, None)],
)  # fmt: skip
def test_the_customer_is_derived_when_an_opportunity_is_created(
    org: Org, account: bool, contact: bool, origin: bool, customer: str | None
) -> None:
    """49."""
    known = {"account": org.make("account", name="Contoso"), "contact": org.make("contact", lastname="Adler")}
    values = {"name": "Mill", **({"parentaccountid": known["account"]} if account else {})}
    values |= {"parentcontactid": known["contact"]} if contact else {}
    row = org.edit("create", table="opportunity", values=values, contact_origin=origin)["row"]
    assert row.get("_customerid_value") == known.get(customer or "")
    shadows = (row.get("_accountid_value"), row.get("_contactid_value"))
    assert shadows == (
        known["account"] if customer == "account" else None,
        known["contact"] if customer == "contact" else None,
    )


def test_a_customer_written_alone_stays_as_written(org: Org) -> None:
    """49."""
    contact = org.make("contact", lastname="Adler")
    row = org.get(f"opportunities({org.make('opportunity', name='Mill', customerid=contact)})")
    assert (row["_customerid_value"], row["_contactid_value"]) == (contact, contact)
    assert (row["_parentcontactid_value"], row["_parentaccountid_value"]) == (None, None)


def test_filling_the_account_later_makes_it_the_customer(org: Org) -> None:
    """49."""
    contact, account = org.make("contact", lastname="Adler"), org.make("account", name="Contoso")
    row_id = org.make("opportunity", name="Mill", parentcontactid=contact)
    row = org.edit("update", table="opportunity", id=row_id, values={"parentaccountid": account})["row"]
    assert (row["_customerid_value"], row["_accountid_value"]) == (account, account)
    assert "_contactid_value" not in row
    row = org.edit("update", table="opportunity", id=row_id, values={"parentaccountid": None})["row"]
    assert (row["_customerid_value"], row["_contactid_value"]) == (contact, contact)


def test_winning_sets_date_and_value_and_reopening_takes_them_back(org: Org) -> None:
    """50."""
    row_id = org.make("opportunity", name="Mill", estimatedvalue=500.0)
    row = org.edit("win", id=row_id)["row"]
    assert (row["statecode"], row["statuscode"], row["actualclosedate"], row["actualvalue"]) == (
        1,
        3,
        "2026-01-05",
        500.0,
    )
    row = org.edit("reopen", id=row_id)["row"]
    assert (row["statecode"], row["statuscode"], "actualvalue" in row) == (0, 1, False)
    row = org.edit("lose", id=row_id, values={"statuscode": 5, "actualvalue": 0.0})["row"]
    assert (row["statecode"], row["statuscode"], row["actualvalue"]) == (2, 5, 0.0)


def test_a_closed_opportunity_is_read_only_until_it_is_reopened(org: Org) -> None:
    """50."""
    row_id = org.make("opportunity", name="Mill")
    org.edit("win", id=row_id)
    with pytest.raises(requests.HTTPError, match="read-only until it is reopened"):
        org.edit("update", table="opportunity", id=row_id, values={"name": "x"})
    org.admin.post("switches", {"closed_opportunities_are_read_only": False})
    assert org.edit("update", table="opportunity", id=row_id, values={"name": "x"})["row"]["name"] == "x"


def stakeholder(org: Org, role: str | None = "Decision Maker") -> tuple[str, str, dict[str, Any]]:
    contact = org.make("contact", firstname="Ada", lastname="Adler")
    opportunity = org.make("opportunity", name="Mill")
    return opportunity, contact, org.edit("connect", opportunity=opportunity, contact=contact, role=role)


def test_a_connection_is_two_rows_that_mirror_each_other(org: Org) -> None:
    """51."""
    opportunity, contact, made = stakeholder(org)
    mine, mirror = org.get(f"connections({made['id']})"), org.get(f"connections({made['mirror']})")
    for this, other in ((mine, mirror), (mirror, mine)):
        assert this["_relatedconnectionid_value"] == other["connectionid"]
        assert this["_record1id_value"] == other["_record2id_value"]
        assert this["record1objecttypecode"] == other["record2objecttypecode"]
        assert this["_record1roleid_value"] == other["_record2roleid_value"]
    assert (mine["_record1id_value"], mine["_record2id_value"]) == (opportunity, contact)
    assert (mine["record1objecttypecode"], mine["record2objecttypecode"]) == (3, 2)
    assert (mine["_record1roleid_value"], mine["_record2roleid_value"]) == (None, made["role"])
    assert (mine["ismaster"], mirror["ismaster"]) == (True, False)
    assert (mine["name"], mirror["name"]) == ("Ada Adler", "Mill")
    assert mirror["versionnumber"] == mine["versionnumber"] + 1


def test_a_changed_role_is_changed_on_both_sides(org: Org) -> None:
    """51."""
    *_, made = stakeholder(org)
    champion = org.state.role_named("Champion")
    org.edit("update", table="connection", id=made["mirror"], values={"record1roleid": champion})
    assert org.get(f"connections({made['id']})")["_record2roleid_value"] == champion
    org.edit("deactivate", table="connection", id=made["id"])
    assert org.get(f"connections({made['mirror']})")["statecode"] == 1


def test_a_role_that_did_not_exist_is_made_as_a_stakeholder_role(org: Org) -> None:
    """51."""
    *_, made = stakeholder(org, "Harbour Pilot")
    role = org.get(f"connectionroles({made['role']})?$select=name,category", ALL_ANNOTATIONS)
    assert (role["name"], role["category"], role[f"category{FORMATTED}"]) == ("Harbour Pilot", 1000, "Stakeholder")


def test_deleting_one_connection_deletes_both(org: Org) -> None:
    """52."""
    *_, made = stakeholder(org)
    link = org.delta_link("connections?$select=connectionid")
    gone = org.edit("disconnect", id=made["mirror"])["deleted"]
    assert {item["id"] for item in gone} == {made["id"], made["mirror"]}
    assert {row["id"] for row in org.rows(link)} == {made["id"], made["mirror"]}


@pytest.mark.parametrize("side", ["opportunity", "contact"])
def test_deleting_either_end_deletes_the_connections(org: Org, side: str) -> None:
    """53."""
    opportunity, contact, made = stakeholder(org)
    link = org.delta_link("connections?$select=connectionid")
    org.edit("delete", table=side, id={"opportunity": opportunity, "contact": contact}[side])
    assert {row["id"] for row in org.rows(link)} == {made["id"], made["mirror"]}


def test_deleting_a_customer_deletes_its_opportunities_and_unlinks_the_rest(org: Org) -> None:
    """53."""
    account, contact = org.make("account", name="Contoso"), org.make("contact", lastname="Adler")
    sold = org.make("opportunity", name="sold to Contoso", parentaccountid=account, parentcontactid=contact)
    link = org.delta_link("opportunities?$select=name")
    org.edit("delete", table="contact", id=contact)
    (row,) = org.rows(link)
    assert row["opportunityid"] == sold
    assert org.get(f"opportunities({sold})")["_parentcontactid_value"] is None
    org.edit("delete", table="account", id=account)
    assert [row.get("id") for row in org.rows(link)] == [sold]


@pytest.mark.parametrize("moves", [False, True])
def test_merging_contacts_repoints_what_pointed_at_the_loser(org: Org, moves: bool) -> None:
    """54."""
    org.admin.post("switches", {"merge_moves_modifiedon": moves})
    _, loser, made = stakeholder(org)
    bought = org.make("opportunity", name="bought", parentcontactid=loser)
    winner = org.make("contact", lastname="Winner")
    contacts, connections = org.delta_link("contacts?$select=fullname"), org.delta_link("connections?$select=name")
    opportunities = org.delta_link("opportunities?$select=name,modifiedon")
    org.admin.post("clock", {"advance": 60})
    org.edit("merge", table="contact", id=loser, into=winner)
    row = org.get(f"contacts({loser})")
    assert (row["statecode"], row["statuscode"], row["merged"], row["_masterid_value"]) == (1, 2, True, winner)
    assert {item["contactid"] for item in org.rows(contacts)} == {winner, loser}
    assert {item["connectionid"] for item in org.rows(connections)} == {made["id"], made["mirror"]}
    assert org.get(f"connections({made['id']})")["_record2id_value"] == winner
    assert org.get(f"connections({made['mirror']})")["_record1id_value"] == winner
    (changed,) = org.rows(opportunities)
    assert (changed["opportunityid"], changed["modifiedon"] != START) == (bought, moves)
    row = org.get(f"opportunities({bought})")
    assert [row[f"_{name}_value"] for name in ("customerid", "contactid", "parentcontactid")] == [winner] * 3


def test_merging_accounts_takes_contacts_and_opportunities_along(org: Org) -> None:
    """54."""
    loser, winner = org.make("account", name="Old"), org.make("account", name="New")
    contact = org.make("contact", lastname="Adler", parentcustomerid=loser)
    opportunity = org.make("opportunity", name="Mill", parentaccountid=loser)
    org.edit("merge", table="account", id=loser, into=winner)
    row = org.get(f"contacts({contact})")
    assert (row["_parentcustomerid_value"], row["_accountid_value"]) == (winner, winner)
    assert org.get(f"opportunities({opportunity})")["_customerid_value"] == winner


def test_deleting_a_connection_role_empties_it_on_the_connections(org: Org) -> None:
    """55."""
    *_, made = stakeholder(org)
    org.edit("delete", table="connectionrole", id=made["role"])
    assert org.get(f"connections({made['id']})")["_record2roleid_value"] is None
    assert org.get(f"connections({made['mirror']})")["_record1roleid_value"] is None


def test_base_amounts_follow_the_exchange_rate_at_each_save(org: Org) -> None:
    """56."""
    (euro,) = org.rows("transactioncurrencies?$select=exchangerate,currencysymbol&$filter=isocurrencycode eq 'EUR'")
    currency = euro["transactioncurrencyid"]
    row_id = org.make("opportunity", name="Mill", estimatedvalue=92.0, transactioncurrencyid=currency)
    assert org.get(f"opportunities({row_id})")["estimatedvalue_base"] == 100.0
    org.edit("update", table="transactioncurrency", id=currency, values={"exchangerate": 0.46})
    assert org.get(f"opportunities({row_id})")["estimatedvalue_base"] == 100.0
    org.edit("update", table="opportunity", id=row_id, values={"name": "Mill 2"})
    row = org.get(f"opportunities({row_id})", ALL_ANNOTATIONS)
    assert (row["estimatedvalue_base"], row["exchangerate"]) == (200.0, 0.46)
    assert (row[f"estimatedvalue{FORMATTED}"], row[f"estimatedvalue_base{FORMATTED}"]) == ("€92.00", "$200.00")
    org.edit("update", table="opportunity", id=row_id, values={"estimatedvalue": None})
    row = org.get(f"opportunities({row_id})")
    assert (row["estimatedvalue"], row["estimatedvalue_base"]) == (None, None)


def test_custom_columns_and_status_reasons_appear(org: Org) -> None:
    """57."""
    add = [{"name": "new_synctomkto", "type": "bool"}, {"name": "new_margin", "type": "money"}]
    reasons = [{"value": 100000001, "label": "Waiting", "state": 0}]
    org.admin.post("columns", {"table": "opportunity", "add": add, "status_reasons": reasons})
    row_id = org.make("opportunity", name="Mill", new_synctomkto=True, new_margin=3.0, statuscode=100000001)
    row = org.get(f"opportunities({row_id})?$select=new_synctomkto,new_margin_base,statuscode", ALL_ANNOTATIONS)
    assert (row["new_synctomkto"], row["new_margin_base"], row[f"statuscode{FORMATTED}"]) == (True, 3.0, "Waiting")
    org.admin.post("columns", {"table": "opportunity", "remove": ["new_synctomkto"]})
    assert org.refusal("opportunities?$select=new_synctomkto")[1] == "0x80060888"
    assert "new_synctomkto" not in org.get(f"opportunities({row_id})")


def test_a_secured_column_reads_as_null_for_whom_no_profile_lets_read_it(org: Org) -> None:
    """By id, in a list, annotated, as a related row, in a delta (dataverse.md §3.3); the rest of the row stays."""
    partner = {"name": "new_partner", "type": "lookup", "targets": ["account"]}
    secured = {"stepname": True, "new_partner": True, "estimatedvalue": True}
    org.admin.post("columns", {"table": "opportunity", "add": [partner], "secured": secured})
    row_id = org.make(
        "opportunity",
        name="Deal",
        stepname="1",
        estimatedvalue=5.0,
        _new_partner_value=org.make("account", name="Mill"),
    )
    link = org.delta_link("opportunities?$select=stepname")
    org.edit("update", table="opportunity", id=row_id, values={"name": "Deal 2"})
    select = "$select=name,stepname,estimatedvalue,estimatedvalue_base,_new_partner_value"

    def told() -> list[Any]:
        row = org.get(f"opportunities({row_id})?{select}&$expand=new_partner($select=name)", ALL_ANNOTATIONS)
        (listed,), (changed,) = org.rows(f"opportunities?{select}"), org.rows(link)
        assert (listed["name"], listed["estimatedvalue_base"]) == ("Deal 2", 5.0)
        partner = row["new_partner"] and row["new_partner"]["name"], row.get(f"_new_partner_value{FORMATTED}")
        return [row["stepname"], listed["stepname"], changed["stepname"], listed["estimatedvalue"], *partner]

    assert told() == [None] * 6
    profile = [f"opportunity.{column}" for column in secured]
    org.admin.post("switches", {"column_security_profile": profile})
    assert told() == ["1", "1", "1", 5.0, "Mill", "Mill"]
    path = "EntityDefinitions(LogicalName='opportunity')/Attributes?$select=LogicalName,IsSecured"
    assert {row["LogicalName"] for row in org.rows(path) if row["IsSecured"]} == set(secured)
    org.admin.post("columns", {"table": "opportunity", "secured": dict.fromkeys(secured, False)})
    assert not any(row["IsSecured"] for row in org.rows(path))
    with pytest.raises(requests.HTTPError, match="no column 'new_none'"):
        org.admin.post("columns", {"table": "opportunity", "secured": {"new_none": True}})


def test_rows_may_lack_contact_account_role_and_address(org: Org) -> None:
    """58."""
    contact, opportunity = org.make("contact"), org.make("opportunity", name="alone")
    row = org.get(f"opportunities({opportunity})")
    assert (row["_customerid_value"], row["_parentaccountid_value"], row["_parentcontactid_value"]) == (None,) * 3
    assert [org.get(f"contacts({contact})")[name] for name in ("emailaddress1", "fullname")] == [None, None]
    made = org.edit("connect", opportunity=opportunity, contact=contact)
    row = org.get(f"connections({made['id']})")
    assert (row["_record1roleid_value"], row["_record2roleid_value"], row["name"]) == (None, None, None)


def test_rows_owned_by_a_team_say_so(org: Org) -> None:
    """59."""
    team = org.make("team", name="Sales North")
    row_id = org.make("opportunity", name="Mill", ownerid=team)
    row = org.get(f"opportunities({row_id})", ALL_ANNOTATIONS)
    assert (row["_owningteam_value"], row["_owninguser_value"]) == (team, None)
    assert (row[f"_ownerid_value{LOOKUP_NAME}"], row[f"_ownerid_value{FORMATTED}"]) == ("team", "Sales North")


def test_texts_keep_their_characters_and_their_markup_but_not_any_length(org: Org) -> None:
    """60."""
    text = "<p>Übergrößenträger — 日本語 🌍 &amp; <b>O'Brien</b></p>\r\n"
    row_id = org.make("opportunity", name="Ñandú", description=text)
    assert org.get(f"opportunities({row_id})")["description"] == text
    assert ids(org.rows("opportunities?$filter=name eq 'ÑANDÚ'"), "opportunityid") == [row_id]
    with pytest.raises(requests.HTTPError, match="maximum allowed length of '2000'"):
        org.edit("update", table="opportunity", id=row_id, values={"description": "x" * 2001})


# -- the admin endpoint -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        ({"op": "paint"}, "none of create"),
        ({"op": "create", "table": "ship", "values": {}}, "segment 'ship'"),
        ({"op": "create", "table": "account", "values": {"color": 1}}, "named 'color'"),
        (
            {"op": "create", "table": "account", "values": {"numberofemployees": "many"}},
            "account.numberofemployees is int",
        ),
        ({"op": "create", "table": "opportunity", "values": {"statecode": 9}}, "outside the valid range"),
        (
            {"op": "create", "table": "opportunity", "values": {"statecode": 1, "statuscode": 5}},
            "not a valid status code",
        ),
        (
            {"op": "create", "table": "opportunity", "values": {"parentaccountid": str(uuid.UUID(int=1))}},
            "Does Not Exist",
        ),
        ({"op": "update", "table": "account", "id": str(uuid.UUID(int=1)), "values": {}}, "Does Not Exist"),
        ({"op": "merge", "table": "opportunity", "id": "a", "into": "b"}, "can't be merged"),
        ({"op": "delete", "table": "account"}, "needs 'id'"),
        ({"op": "deactivate", "table": "opportunity", "id": "a"}, "win it or lose it"),
    ],
)
def test_an_edit_that_fails_names_the_problem_and_changes_nothing(org: Org, edit: dict[str, Any], problem: str) -> None:
    """The edits of one call are made together or not at all."""
    version, link = org.state.version, org.delta_link("accounts?$select=name")
    good = {"op": "create", "table": "account", "values": {"name": "first"}}
    with pytest.raises(requests.HTTPError, match=re.escape(problem)) as raised:
        org.admin.post("edit", [good, edit])
    assert raised.value.response.status_code == 400
    assert (org.state.version, org.rows(link), org.rows("accounts")) == (version, [], [])


def test_a_rolled_back_deletion_leaves_no_trace(org: Org) -> None:
    """Rows, indexes, order and tombstones are as before."""
    account = org.make("account", name="Contoso")
    opportunity = org.make("opportunity", name="Mill", parentaccountid=account)
    link = org.delta_link("opportunities?$select=name")
    with pytest.raises(requests.HTTPError):
        org.admin.post("edit", [{"op": "delete", "table": "account", "id": account}, {"op": "win", "id": opportunity}])
    assert org.rows(link) == []
    found = org.rows(f"opportunities?$select=name&$filter={in_list('customerid', [account])}")
    assert ids(found, "opportunityid") == [opportunity]
    for name in ("first", "second"):
        org.edit("update", table="opportunity", id=opportunity, values={"name": name})
    assert [row["name"] for row in org.rows(link)] == ["second"]


def test_a_write_may_name_its_lookups_as_the_web_api_does(org: Org) -> None:
    """`nav@odata.bind`."""
    contact = org.make("contact", lastname="Adler")
    row_id = org.make("opportunity", **{"name": "Mill", "customerid_contact@odata.bind": f"/contacts({contact})"})
    assert org.get(f"opportunities({row_id})")["_contactid_value"] == contact


def test_raw_rows_and_the_journal_can_be_read(org: Org) -> None:
    """`/admin/rows`, `/admin/journal`."""
    row_id = org.make("account", name="Contoso")
    assert org.admin.get("rows/account") == [org.admin.get(f"rows/account/{row_id}")]
    org.ask(f"accounts?$select=name&$filter={quote(in_list('accountid', [row_id] * 30))}")
    *_, entry = org.admin.get("journal")
    assert (entry["method"], entry["path"], entry["status"], entry["rows"]) == (
        "GET",
        "/api/data/v9.2/accounts",
        200,
        1,
    )
    assert (entry["time"], len(entry["query"]) < 400) == (START, True)
    assert org.admin.get(f"journal?since={entry['n']}") == []
    org.admin.delete("journal")
    assert org.admin.get("journal") == []


def test_switches_and_clock_can_be_set(org: Org) -> None:
    """`/admin/switches`, `/admin/clock`."""
    assert org.admin.get("switches")["token_position"] == "start"
    with pytest.raises(requests.HTTPError, match="unknown switches"):
        org.admin.post("switches", {"gravity": 0})
    with pytest.raises(requests.HTTPError, match="none of"):
        org.admin.post("switches", {"token_position": "middle"})
    assert org.admin.post("clock", {"set": "2026-02-01T00:00:00Z"}) == {"now": "2026-02-01T00:00:00Z"}
    assert org.admin.post("clock", {"advance": 90}) == {"now": "2026-02-01T00:01:30Z"}


def test_generated_rows_are_the_same_for_the_same_seed(org: Org) -> None:
    """`/admin/generate`."""
    wishes = {"seed": 7, "opportunities": 200, "accounts": 20, "contacts": 80, "roles_per_opportunity": 1.5}
    made = generate.rows(**wishes, contact_customers=0.5)
    assert made == generate.rows(**wishes, contact_customers=0.5)
    assert made != generate.rows(**(wishes | {"seed": 8}), contact_customers=0.5)
    loaded = org.admin.post("generate", {**wishes, "contact_customers": 0.5})["loaded"]
    assert {name: loaded[name] for name in ("account", "contact", "opportunity")} == {
        "account": 20,
        "contact": 80,
        "opportunity": 200,
    }
    assert 250 < loaded["connection"] < 350
    assert len(org.state.stores["connection"].rows) == 2 * loaded["connection"]
    by_contact = [row for row in org.rows("opportunities?$select=_contactid_value") if row["_contactid_value"]]
    assert 70 < len(by_contact) < 130
    addresses = [row["emailaddress1"] for row in org.rows("contacts?$select=emailaddress1") if row["emailaddress1"]]
    assert len(set(addresses)) == len(addresses) > 70
    assert all(address.endswith(".example.invalid") and address.isascii() for address in addresses)


def test_two_organizations_of_the_same_seed_are_the_same() -> None:
    """In process, without sockets."""
    states = [DataverseState(seed=5, start=START) for _ in range(2)]
    for state in states:
        loading.load(state, generate.rows(opportunities=50))
    assert states[0].rows("connection") == states[1].rows("connection")
    assert DataverseState(seed=6).organization_id != states[0].organization_id


def test_loading_supplies_what_the_rows_lack(org: Org) -> None:
    """`/admin/load`: types from annotations, shadows, mirror, role, owner, currency, versions."""
    opportunity, contact, role, user = (str(uuid.uuid4()) for _ in range(4))
    rows = {
        "opportunities": [
            {
                "opportunityid": opportunity.upper(),
                "name": "Mill",
                "_customerid_value": contact,
                f"_customerid_value{LOOKUP_NAME}": "contact",
                "_ownerid_value": user,
                f"_ownerid_value{LOOKUP_NAME}": "systemuser",
                f"_ownerid_value{FORMATTED}": "Kim Seller",
                "estimatedvalue": 79.0,
                "transactioncurrency.isocurrencycode": "GBP",
                "createdon": "2020-02-02T10:00:00+01:00",
                "x_colour": "blue",
            }
        ],
        "contact": [{"contactid": contact, "firstname": "Ada", "lastname": "Adler"}],
        "connection": [
            {
                "_record1id_value": opportunity,
                f"_record1id_value{LOOKUP_NAME}": "opportunity",
                "_record2id_value": contact,
                f"_record2id_value{LOOKUP_NAME}": "contact",
                "_record2roleid_value": role,
                f"_record2roleid_value{FORMATTED}": "Grantor",
            }
        ],
    }
    assert org.admin.post("load", {"tables": rows})["loaded"] == {"opportunity": 1, "contact": 1, "connection": 1}
    row = org.get(f"opportunities({opportunity})", ALL_ANNOTATIONS)
    assert (row["_contactid_value"], row["_accountid_value"], row["x_colour"]) == (contact, None, "blue")
    assert (row["createdon"], row["modifiedon"], row["estimatedvalue_base"]) == ("2020-02-02T09:00:00Z",) * 2 + (100.0,)
    assert (row[f"_ownerid_value{FORMATTED}"], row["_owninguser_value"]) == ("Kim Seller", user)
    mine, mirror = sorted(org.rows("connections"), key=lambda item: item["ismaster"], reverse=True)
    assert (mine["record1objecttypecode"], mine["record2objecttypecode"], mine["name"]) == (3, 2, "Ada Adler")
    assert mirror["_record1roleid_value"] == role
    assert org.get(f"connectionroles({role})")["name"] == "Grantor"


def test_loading_again_replaces_what_is_given_and_recomputes_amounts(org: Org) -> None:
    """`/admin/load` of a known id: given columns over the old ones, null empties."""
    row = {"accountid": str(uuid.UUID(int=9)), "name": "a", "revenue": 10.0, "sic": "1"}
    org.admin.post("load", {"tables": {"account": [row]}})
    link = org.delta_link("accounts?$select=name")
    org.admin.post("load", {"tables": {"account": [{"accountid": row["accountid"], "revenue": 20.0, "sic": None}]}})
    found = org.get(f"accounts({row['accountid']})")
    assert (found["name"], found["revenue_base"], found["sic"]) == ("a", 20.0, None)
    assert len(org.rows(link)) == 1


# -- recorded shapes and other people's data ----------------------------------------------------------


@needs_shared
def test_recorded_connections_are_read_back_as_they_were_recorded(org: Org) -> None:
    """Keys, values and annotations; only the version is ours."""
    text = (SHARED / "dataverse" / "connections-recorded-sample.json").read_text(encoding="utf-8")
    recorded = json.loads(text)["value"]
    org.admin.post("load", {"tables": {"connection": recorded}})
    for row in {row["connectionid"]: row for row in recorded}.values():  # two ids were recorded twice, mirrored
        columns = [name for name in row if "@" not in name]
        prefer = 'odata.include-annotations="OData.Community.Display.V1.FormattedValue"'
        found = org.get(f"connections({row['connectionid']})?$select={','.join(columns)}", prefer)
        assert trimmed(found) == trimmed(row)


def trimmed(row: dict[str, Any]) -> dict[str, Any]:
    """Without etag and context; the old service padded the names of record types with a blank."""
    kept = {name: value for name, value in row.items() if not name.startswith("@")}
    return {name: value.strip() if isinstance(value, str) else value for name, value in kept.items()}


@needs_shared
@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("uk_public_procurement_ocds/derived", {"opportunity": 370, "account": 545, "contact": 301, "connection": 572}),
        ("ms_dynamics_financial_services/webapi_shape", {"opportunity": 23, "account": 5, "contact": 30, "lead": 19}),
    ],
)
def test_other_people_s_rows_load_and_come_back_unchanged(org: Org, folder: str, expected: dict[str, int]) -> None:
    """Every value that was given is there afterwards, in its wire form."""
    files = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))["value"]
        for path in (SHARED / "crm" / folder).glob("*.json")
    }
    assert org.admin.post("load", {"tables": files})["loaded"] == expected
    for name, rows in files.items():
        table = org.state.table_named(name)
        assert table is not None
        for row in rows:
            found = org.state.row(table.name, row[table.key]) or {}
            given = {
                key: value
                for key, value in row.items()
                if value is not None and key in table.wire and key != "versionnumber"
            }
            assert {key: found.get(key) for key in given} == given


@needs_shared
def test_the_recorded_web_api_sample_loads_with_tables_nobody_defined(org: Org) -> None:
    """Repeated rows are one row, an unknown table is made."""
    sample = json.loads((SHARED / "crm/dataverse_connection_webapi/en.json").read_text(encoding="utf-8"))
    org.admin.post("load", {"tables": sample})
    assert ids(org.rows("incidents?$select=title&$orderby=title"), "title") == [
        "Abnormal noise from BG-1",
        "Supported voltages by TX083",
    ]
    grinder = "4883f907-720f-e711-80e8-480fcff29761"
    condition = f"record2objecttypecode eq 2 and {in_list('record1id', [grinder])}"
    found = org.rows(f"connections?$select=name&$filter={condition}&$expand=record2roleid($select=name)")
    assert {row["record2roleid"]["name"] for row in found} == {"Decision Maker", "Budget Approver"}


# -- speed and start ----------------------------------------------------------------------------------


def test_a_large_organization_is_read_at_a_steady_pace() -> None:
    """A page or an empty delta must not cost a walk over all rows."""
    from tools.emulators.dataverse.service import Call, answer

    state = DataverseState(start=START)
    loading.load(state, generate.rows(opportunities=20_000, accounts=2_000, contacts=8_000))
    query = "$select=name"
    while True:
        body = answer(state, Call("GET", "https://o", "opportunities", query, {"prefer": TRACK})).body
        assert isinstance(body, dict)
        if "@odata.deltaLink" in body:
            break
        query = body["@odata.nextLink"].partition("?")[2]
    query = body["@odata.deltaLink"].partition("?")[2]
    began = time.perf_counter()
    for _ in range(200):
        answer(state, Call("GET", "https://o", "opportunities", query))
    assert time.perf_counter() - began < 2.0


def test_the_command_starts_serves_and_stops_cleanly(tmp_path: Path) -> None:
    """`python -m tools.emulators dataverse`."""
    (tmp_path / "accounts.json").write_text(json.dumps({"value": [{"name": "Contoso"}]}), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "tools.emulators",
        "dataverse",
        "--folder",
        str(tmp_path / "certs"),
        "--load",
        str(tmp_path),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own program
    try:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        admin = Admin(facts["dataverse"]["url"], facts["ca"])
        assert [row["name"] for row in admin.get("rows/account")] == ["Contoso"]
        admin.close()
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
