"""Port `Dataverse` over the Web API v9.2: reads only, by tracked reads and by id (dataverse.md §2–§5)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import random as chance
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

import msal
import requests
from cryptography.x509 import load_pem_x509_certificate
from urllib3.util import parse_url

from sync_core import telemetry
from sync_core.adapters.identity import AADSTS, OwnSignIn, identity, in_azure
from sync_core.adapters.transport import Again, Anonymous, Bearer, Memo, Reply, Transport
from sync_core.errors import (
    ColumnsChanged,
    ConfigurationError,
    CredentialsRefused,
    DeltaLinkExpired,
    NotTracked,
    SyncError,
    Unavailable,
)
from sync_core.model import ChangePage, Connection, ConnectionRole, DataverseColumn, Rate, Row, SignIn
from sync_core.ports import Clock, FanOut
from sync_core.settings import Settings

READ_TIMEOUT = 120.0
"""Seconds, as Microsoft's own sample client waits (dataverse.md §5)."""

SIGN_IN_TIMEOUT = 30.0

CHUNK = 300
"""Ids a request may name: 43 characters each, of the 32,768 of a URL (dataverse.md §4), which has room for four hundred
columns of a mapping beside them."""

TWICE = 200
"""The same, where a condition names each id at two places."""

MERGE_DEPTH = 10
"""Merges in a row that are followed."""

WITNESSES = 20
"""Rows written last that testify: by their versions to a backup, by their values to our rights."""

MAX_PAGES = 10_000
"""More pages than this is a paging that does not end (dataverse.md §4)."""

OPPORTUNITY = 3
"""Object type code of an opportunity (dataverse.md §6.1)."""

PUBLIC_CLOUD = "login.microsoftonline.com"

EXCHANGE = "api://AzureADTokenExchange/.default"
"""Scope of a managed identity's token that stands in for a secret (dataverse.md §1.3)."""


class Table(NamedTuple):
    """How the Web API calls a table, and what a tracked read selects of it."""

    path: str
    key: str
    tracked: tuple[str, ...] = ("versionnumber", "modifiedon")


class Columns(NamedTuple):
    """Of one table: AttributeType by logical name, and those with column security."""

    types: Mapping[str, str]
    secured: frozenset[str]


_ENDS = ("_record1id_value", "_record2id_value", "record1objecttypecode", "record2objecttypecode")

TABLES: Mapping[str, Table] = {
    "opportunity": Table("opportunities", "opportunityid"),
    "connection": Table("connections", "connectionid", ("versionnumber", "modifiedon", *_ENDS)),
    "contact": Table("contacts", "contactid"),
    "account": Table("accounts", "accountid"),
    "connectionrole": Table("connectionroles", "connectionroleid"),
    "systemuser": Table("systemusers", "systemuserid"),
    "team": Table("teams", "teamid"),
    "transactioncurrency": Table("transactioncurrencies", "transactioncurrencyid"),
}
"""The tables we read (dataverse.md §6.1)."""

_PAIR = (
    "connectionid",
    "_relatedconnectionid_value",
    *_ENDS,
    "_record1roleid_value",
    "_record2roleid_value",
    "statecode",
    "effectivestart",
    "effectiveend",
    "createdon",
)

FORMATTED = "OData.Community.Display.V1.FormattedValue"

ODATA_HEADERS = {"OData-MaxVersion": "4.0", "OData-Version": "4.0", "If-None-Match": "null"}

_CHOICES = {
    "Picklist": "PicklistAttributeMetadata",
    "State": "StateAttributeMetadata",
    "Status": "StatusAttributeMetadata",
    "Boolean": "BooleanAttributeMetadata",
    "MultiSelectPicklist": "MultiSelectPicklistAttributeMetadata",
}
"""Attribute type → metadata type that has the options."""


# --- tokens ---------------------------------------------------------------------------------------------------


class TokenSource(Protocol):
    def token(self, *, new: bool) -> str:
        """An access token; *new*: not the one given last. Raises ConfigurationError and Again."""


class AppRegistration:
    """msal: a confidential client with a secret, a certificate, or a managed identity's token in their place.

    msal keeps the token until it is about to expire.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scopes = [f"{settings.dataverse_url}/.default"]
        self._app: Any = None

    def token(self, *, new: bool) -> str:
        try:
            result = self._acquire(new=new)
        except Unavailable as error:  # the managed identity
            raise Again(error) from None
        except requests.exceptions.SSLError:
            raise ConfigurationError(
                "the TLS certificate of DATAVERSE_AUTHORITY_HOST is not trusted; check it and REQUESTS_CA_BUNDLE"
            ) from None
        except requests.RequestException as error:
            raise Again(Unavailable(f"Entra ID does not answer ({type(error).__name__})")) from None
        except ValueError as error:
            raise CredentialsRefused(sign_in_remedy(str(error))) from None
        except OSError as error:
            raise ConfigurationError(f"REQUESTS_CA_BUNDLE can't be used: {error}") from None
        if "access_token" in result:
            return str(result["access_token"])
        text = f"{result.get('error', '')} {result.get('error_description', '')}"
        if "AADSTS" not in text and result.get("error") in {None, "temporarily_unavailable", "server_error"}:
            raise Again(Unavailable("Entra ID cannot sign in anybody now"))
        raise CredentialsRefused(sign_in_remedy(text))

    def _acquire(self, *, new: bool) -> Mapping[str, Any]:
        if self._app is None:
            self._app = self._application()
        elif new:
            self._app.remove_tokens_for_client()
        result: Mapping[str, Any] = self._app.acquire_token_for_client(scopes=self._scopes)
        return result

    def _application(self) -> Any:
        host = self._settings.dataverse_authority_host
        return msal.ConfidentialClientApplication(
            self._settings.dataverse_client_id,
            client_credential=self._credential(),
            authority=f"{host}/{self._settings.dataverse_tenant_id}",
            # Instance discovery asks the public cloud about the authority; others it does not know.
            instance_discovery=None if urlsplit(host).hostname == PUBLIC_CLOUD else False,
            http_client=_session(),
        )

    def _credential(self) -> str | Mapping[str, Any]:
        if client_id := self._settings.dataverse_federated_client_id:
            own = identity(client_id, "DATAVERSE_FEDERATED_CLIENT_ID")
            return {"client_assertion": lambda: own.get_token(EXCHANGE).token}  # asked for each of Entra ID's tokens
        certificate = self._settings.dataverse_client_certificate
        return certificate_credential(certificate) if certificate else self._settings.dataverse_client_secret


def _session() -> requests.Session:
    """For msal: a redirect would take the secret to another host, so it is an error; no `.netrc`, no endless wait."""
    session = requests.Session()
    session.max_redirects = 0
    session.auth = Anonymous()
    session.request = partial(session.request, timeout=SIGN_IN_TIMEOUT)  # type: ignore[method-assign]  # msal's way
    return session


class Identity:
    """The app's managed identity, user-assigned if a client id is set (dataverse.md §1.2); outside Azure yours."""

    def __init__(self, settings: Settings) -> None:
        self._scope = f"{settings.dataverse_url}/.default"
        self._tenant = settings.dataverse_tenant_id or None  # a managed identity has only its own
        self._identity = identity(settings.dataverse_client_id, "DATAVERSE_CLIENT_ID")

    def token(self, *, new: bool) -> str:
        if new:
            self._identity.forget()
        try:
            return self._identity.get_token(self._scope, tenant_id=self._tenant).token
        except Unavailable as error:
            if isinstance(self._identity, OwnSignIn):
                raise  # somebody waits, and has waited for long
            raise Again(error) from None


def signs_in(settings: Settings) -> SignIn:
    """As the settings say: a certificate, a secret, a federated identity, else an identity of ours alone.

    Outside Azure there is no managed identity, so where it would sign in or vouch for us, it is you who signs in.
    """
    if settings.dataverse_client_certificate:
        return SignIn.CERTIFICATE
    if settings.dataverse_client_secret:
        return SignIn.SECRET
    if not in_azure():
        return SignIn.OWN
    return SignIn.FEDERATED if settings.dataverse_federated_client_id else SignIn.MANAGED_IDENTITY


def token_source(settings: Settings) -> TokenSource:
    return (Identity if signs_in(settings) in (SignIn.OWN, SignIn.MANAGED_IDENTITY) else AppRegistration)(settings)


def certificate_credential(setting: str) -> dict[str, str]:
    """msal's credential from PEM text, or from the file it names, with private key and certificate."""
    text = setting.replace("\\n", "\n") if "-----BEGIN" in setting else _file(setting)
    key = re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----", text, re.DOTALL)
    public = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", text, re.DOTALL)
    if not key or not public:
        raise ConfigurationError("DATAVERSE_CLIENT_CERTIFICATE must hold a private key and its certificate, as PEM")
    return {"private_key": key[0], "public_certificate": "\n".join(public)}


def credentials_expire(settings: Settings) -> datetime | None:
    """When what signs us in expires; None: never, or nobody tells. Of a secret Entra ID tells no application."""
    if not settings.dataverse_client_certificate:
        return settings.dataverse_client_secret_expires if settings.dataverse_client_secret else None
    try:
        found = certificate_credential(settings.dataverse_client_certificate)["public_certificate"]
        return load_pem_x509_certificate(found.encode()).not_valid_after_utc  # the first, as msal takes it
    except (ConfigurationError, ValueError):
        return None  # signing in says what is wrong with it


def _file(name: str) -> str:
    try:
        return Path(name).read_text(encoding="ascii")
    except (OSError, ValueError):
        raise ConfigurationError(
            "DATAVERSE_CLIENT_CERTIFICATE is neither PEM text nor a PEM file we can read"
        ) from None


NO_FEDERATION = (
    "the application has no federated credential for this managed identity: compare issuer, subject and audience as "
    "docs/connect-dynamics.md says, and DATAVERSE_FEDERATED_CLIENT_ID"
)
SIGN_IN_REMEDIES: Mapping[str, str] = {
    "AADSTS7000215": "the secret is wrong: copy the secret's value (not its id) into DATAVERSE_CLIENT_SECRET",
    "AADSTS7000222": "the secret has expired: make a new one and put its value into DATAVERSE_CLIENT_SECRET",
    "AADSTS700016": "the tenant does not know this application: check DATAVERSE_CLIENT_ID and DATAVERSE_TENANT_ID",
    "AADSTS90002": "there is no such tenant: check DATAVERSE_TENANT_ID and DATAVERSE_AUTHORITY_HOST",
    "AADSTS900023": "this is no tenant: check DATAVERSE_TENANT_ID",
    "AADSTS700024": "what the certificate signed is out of its time: check this machine's clock",
    "AADSTS700027": "the certificate has expired or does not belong to the application: upload it there, or change "
    "DATAVERSE_CLIENT_CERTIFICATE",
    "AADSTS70021": NO_FEDERATION,
    "AADSTS700211": NO_FEDERATION,
    "AADSTS700212": NO_FEDERATION,
    "AADSTS700213": NO_FEDERATION,
    "AADSTS7002138": NO_FEDERATION,
    "AADSTS700226": NO_FEDERATION,
    "AADSTS700236": "the application must be registered in the tenant of the managed identity, as multitenant, and be "
    "consented to in DATAVERSE_TENANT_ID: docs/connect-dynamics.md says how",
    "AADSTS500011": "Entra ID does not know DATAVERSE_URL as a resource of this tenant: check both",
}
"""AADSTS code of Entra ID → what to do about it."""


def sign_in_remedy(text: str) -> str:
    """The remedy for the AADSTS code in *text*; nothing else of *text* is shown, as it may quote what we sent."""
    code = next(iter(AADSTS.findall(text)), "")
    remedy = SIGN_IN_REMEDIES.get(
        code, "check DATAVERSE_TENANT_ID, DATAVERSE_CLIENT_ID, the secret or certificate and DATAVERSE_AUTHORITY_HOST"
    )
    return f"Entra ID refuses to sign us in{' with ' if code else ''}{code}: {remedy}"


# --- the client -----------------------------------------------------------------------------------------------


class DataverseClient:
    """Port `Dataverse`. *fan_out* runs requests about chunks of ids side by side; *page_size* is rows a page."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        fan_out: FanOut,
        *,
        page_size: int = 3600,
        random: Callable[[], float] = chance,
    ) -> None:
        self._org = settings.dataverse_url
        self._api = f"{settings.dataverse_url}/api/data/v9.2/"
        self._clock = clock
        self._fan_out = fan_out
        self._page_size = page_size
        self._transport = Transport("Dataverse", clock, random=random)
        self._tokens = token_source(settings)
        self._token_lock = threading.Lock()
        self._columns: Memo[Columns] = Memo(clock, 3_600)
        self._targets: Memo[Sequence[str]] = Memo(clock, 3_600)
        self._rates: Memo[Mapping[str, Rate]] = Memo(clock, 3_600)
        self._tables: Memo[Table] = Memo(clock, 86_400)
        self._tracked: Memo[bool] = Memo(clock, 3_600)
        self._labels: Memo[Mapping[int, str]] = Memo(clock, 3_600)

    # --- the port ---------------------------------------------------------------------------------------------

    def sign_in(self) -> None:
        self._transport.repeat(self._token)

    def organization(self) -> str:
        return str(self._get(f"{self._api}WhoAmI", need="OrganizationId")["OrganizationId"]).lower()

    def check_read(self, table: str, *, tracked: bool) -> None:
        url = self._url(table, self._table(table).key)
        self._get(url, table=table, prefer=["odata.track-changes"] if tracked else [], page_size=1)

    def tracked(self, table: str) -> bool:
        return self._read_tracked(table)

    def retention(self) -> int:
        url = self._url("organization", "expirechangetrackingindays")
        return int(self._get(url, table="organization")["value"][0]["expirechangetrackingindays"])

    def newest_versions(self) -> Mapping[str, int]:
        rows = self.newest("opportunity", ("versionnumber",))
        return {str(row["opportunityid"]).lower(): int(row["versionnumber"]) for row in rows}

    def newest(self, table: str, columns: Collection[str]) -> Sequence[Row]:
        """By a small page, since `$top` is ignored where a page size is asked for (dataverse.md §4)."""
        url = self._url(table, *columns, orderby="versionnumber desc")
        return [_plain(row) for row in self._get(url, table=table, page_size=WITNESSES)["value"]]

    def changes(self, table: str, link: str | None) -> ChangePage:
        found = TABLES[table]
        if not link and not self._tracked.get(table, lambda: self._read_tracked(table)):
            raise NotTracked(_untracked(table))
        tracking = [] if link else ["odata.track-changes"]
        url = self._own(link) if link else self._url(table, *found.tracked)
        body = self._get(url, table=table, prefer=tracking, link=bool(link))
        page = _change_page(body)
        self._own(page.next_link or page.delta_link or self._org)
        if page.next_link and page.next_link == link:
            raise Unavailable(f"Dataverse's paging of {table} does not move on: the next link is the one just read")
        if not page.next_link and not page.delta_link:
            raise NotTracked(_untracked(table))
        return page

    def modified_since(self, table: str, since: datetime) -> Iterator[Sequence[str]]:
        stamp = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return self._id_pages(table, filter=f"modifiedon ge {stamp}")

    def ids(self, table: str) -> Iterator[Sequence[str]]:
        return self._id_pages(table)

    def opportunities_named(self, text: str, limit: int) -> Mapping[str, str]:
        """By a small page, as for `newest`; a quote inside of OData's text is written twice."""
        condition = "contains(name,'{}')".format(text.replace("'", "''"))
        url = self._url("opportunity", "name", filter=condition, orderby="name")
        rows = self._get(url, table="opportunity", page_size=limit)["value"]
        return {str(row["opportunityid"]).lower(): str(row.get("name") or "") for row in rows}

    def rows(
        self, table: str, ids: Collection[str], columns: Collection[str], names: Collection[str] = ()
    ) -> Mapping[str, Row]:
        key = self._table(table).key
        found = self._by_chunk(table, ids, lambda chunk: within(key, chunk), key, *columns, names=bool(names))
        return {str(row[key]).lower(): {**_plain(row), **_names(row, names)} for row in found}

    def connections(self, opportunities: Collection[str]) -> Mapping[str, Sequence[Connection]]:
        """See `fold` for how the two rows of a pair become one; every id asked for is in the answer."""
        rows = self._by_chunk("connection", opportunities, _either_end_among, *_PAIR, twice=True)
        pairs = fold(rows, self._clock.now())
        by_opportunity: dict[str, list[Connection]] = {name.lower(): [] for name in opportunities}
        for pair in pairs:
            if pair.opportunity in by_opportunity:
                by_opportunity[pair.opportunity].append(pair)
        return by_opportunity

    def connection_roles(self) -> Mapping[str, ConnectionRole]:
        roles = {}
        for page in self._pages(self._url("connectionrole", "name", "category"), "connectionrole"):
            for row in page:
                roles[str(row["connectionroleid"]).lower()] = ConnectionRole(str(row["name"]), row["category"])
        return roles

    def opportunities_of_contacts(self, contacts: Collection[str]) -> set[str]:
        def customer_or_parent(chunk: Sequence[str]) -> str:
            return f"{within('customerid', chunk)} or {within('parentcontactid', chunk)}"

        named = self._with_merged(contacts)
        rows = self._by_chunk("opportunity", named, customer_or_parent, "opportunityid", twice=True)
        return {str(row["opportunityid"]).lower() for row in rows} | self._connected(named, "id")

    def opportunities_of_roles(self, roles: Collection[str]) -> set[str]:
        return self._connected(roles, "roleid")

    def opportunities_of_accounts(self, accounts: Collection[str]) -> set[str]:
        def customer_or_parent(chunk: Sequence[str]) -> str:
            return f"{within('customerid', chunk)} or {within('parentaccountid', chunk)}"

        rows = self._by_chunk("opportunity", accounts, customer_or_parent, "opportunityid", twice=True)
        staff = self._by_chunk("contact", accounts, lambda chunk: within("parentcustomerid", chunk), "contactid")
        people = {str(row["contactid"]).lower() for row in staff}
        of_people = self.opportunities_of_contacts(people) if people else set()
        return {str(row["opportunityid"]).lower() for row in rows} | of_people

    def opportunities_of_teams(self, teams: Collection[str]) -> set[str]:
        rows = self._by_chunk("opportunity", teams, lambda chunk: within("owningteam", chunk), "opportunityid")
        return {str(row["opportunityid"]).lower() for row in rows}

    def described(self, table: str) -> Mapping[str, DataverseColumn]:
        """Without the virtual companions of other columns, such as `owneridname`, which nobody can select."""
        path = f"{self._api}EntityDefinitions(LogicalName='{table}')/Attributes"
        select = "LogicalName,AttributeType,AttributeTypeName,AttributeOf,DisplayName,IsCustomAttribute"
        items = self._get(f"{path}?$select={select}", table=table)["value"]
        return {item["LogicalName"]: _described(item) for item in items if not item.get("AttributeOf")}

    def lengths(self, table: str) -> Mapping[str, int]:
        return {
            item["LogicalName"]: int(item["MaxLength"])
            for kind in ("String", "Memo")
            for item in self._get(self._attributes(table, kind), table=table)["value"]
            if item.get("MaxLength")
        }

    def targets(self, table: str, lookup: str) -> Sequence[str]:
        return self._targets.get((table, lookup), lambda: self._read_targets(table, lookup))

    def rates(self) -> Mapping[str, Rate]:
        """Asked once an hour: an exchange rate is a row that somebody edits."""
        return self._rates.get("", self._read_rates)

    def labels(self, table: str, column: str, language: int) -> Mapping[int, str]:
        """An option without a label in *language* has the one that the organization's own language gives it."""
        return self._labels.get((table, column, language), lambda: self._read_labels(table, column, language))

    def columns(self, table: str) -> Mapping[str, str]:
        """`MultiSelectPicklist` where Dataverse says `Virtual`."""
        return self._columns_of(table).types

    def secured(self, table: str) -> Collection[str]:
        return self._columns_of(table).secured

    # --- reads ------------------------------------------------------------------------------------------------

    def _id_pages(self, table: str, **options: str) -> Iterator[Sequence[str]]:
        key = TABLES[table].key
        for page in self._pages(self._url(table, key, **options), table):
            yield [str(row[key]).lower() for row in page]

    def _with_merged(self, contacts: Collection[str]) -> set[str]:
        """*contacts*, and those merged into them: an opportunity or a connection may still name one of those."""
        found, latest = set(contacts), set(contacts)
        for _ in range(MERGE_DEPTH):
            rows = self._by_chunk("contact", latest, lambda chunk: within("masterid", chunk), "contactid")
            latest = {str(row["contactid"]).lower() for row in rows} - found
            if not latest:
                break
            found |= latest
        return found

    def _connected(self, ids: Collection[str], what: str) -> set[str]:
        """Opportunities in a connection that has one of *ids* as record or role (*what*) at either end."""

        def either(chunk: Sequence[str]) -> str:
            named = " or ".join(within(f"record{end}{what}", chunk) for end in "12")
            return f"({named}) and ({' or '.join(map(_is_opportunity, '12'))})"

        rows = self._by_chunk("connection", ids, either, *_ENDS, twice=True)
        return {end for row in rows for end in _opportunity_ends(row)}

    def _by_chunk(
        self,
        table: str,
        ids: Collection[str],
        condition: Callable[[Sequence[str]], str],
        *columns: str,
        names: bool = False,
        twice: bool = False,
    ) -> list[Row]:
        """All rows that meet *condition*, asked for side by side; *twice*: it names each id at two places."""

        def fetch(chunk: Sequence[str]) -> list[Row]:
            url = self._url(table, *columns, filter=condition(chunk))
            return [row for page in self._pages(url, table, names=names) for row in page]

        chunks = list(_chunks(ids, TWICE if twice else CHUNK))
        return [row for rows in self._fan_out(fetch, chunks) for row in rows]

    def _pages(self, url: str, table: str, *, names: bool = False) -> Iterator[list[Row]]:
        """The rows of *url* and of all its next links, which are followed as they are; *names*: with annotations."""
        seen: set[str] = set()
        link: str | None = url
        while link:
            if link in seen or len(seen) == MAX_PAGES:
                raise Unavailable(f"Dataverse's paging of {table} does not move on: a next link came again")
            seen.add(link)
            body = self._get(link, table=table, prefer=[f'odata.include-annotations="{FORMATTED}"'] if names else ())
            yield [row if names else _plain(row) for row in body["value"]]
            link = self._own(body["@odata.nextLink"]) if "@odata.nextLink" in body else None

    def _read_tracked(self, table: str) -> bool:
        """Asked first: where a table is not tracked, Dataverse may say so only after its last page (§3.5)."""
        path = f"EntityDefinitions(LogicalName='{table}')?$select=ChangeTrackingEnabled"
        return bool(self._get(f"{self._api}{path}", table=table, need="ChangeTrackingEnabled")["ChangeTrackingEnabled"])

    def _read_targets(self, table: str, lookup: str) -> Sequence[str]:
        path = f"EntityDefinitions(LogicalName='{table}')/Attributes(LogicalName='{lookup}')"
        cast = "Microsoft.Dynamics.CRM.LookupAttributeMetadata?$select=LogicalName,Targets"
        return tuple(self._get(f"{self._api}{path}/{cast}", table=table, need="Targets")["Targets"])

    def _attributes(self, table: str, kind: str) -> str:
        path = f"{self._api}EntityDefinitions(LogicalName='{table}')/Attributes"
        return f"{path}/Microsoft.Dynamics.CRM.{kind}AttributeMetadata?$select=LogicalName,MaxLength"

    def _read_rates(self) -> Mapping[str, Rate]:
        url = self._url("transactioncurrency", "isocurrencycode", "exchangerate")
        rows = (row for page in self._pages(url, "transactioncurrency") for row in page)
        return {
            str(row["isocurrencycode"]): Rate(
                str(row["transactioncurrencyid"]).lower(), float(row.get("exchangerate") or 0)
            )
            for row in rows
        }

    def _table(self, name: str) -> Table:
        """How the Web API calls a table; asked for one that is not among those we always read."""
        return TABLES.get(name) or self._tables.get(name, lambda: self._read_table(name))

    def _read_table(self, name: str) -> Table:
        path = f"EntityDefinitions(LogicalName='{name}')?$select=EntitySetName,PrimaryIdAttribute"
        body = self._get(f"{self._api}{path}", table=name, need="EntitySetName")
        return Table(str(body["EntitySetName"]), str(body["PrimaryIdAttribute"]))

    def _columns_of(self, table: str) -> Columns:
        """Asked once an hour."""
        return self._columns.get(table, lambda: self._read_columns(table))

    def _read_columns(self, table: str) -> Columns:
        path = f"EntityDefinitions(LogicalName='{table}')/Attributes"
        select = "LogicalName,AttributeType,AttributeTypeName,IsSecured"
        items = self._get(f"{self._api}{path}?$select={select}", table=table)["value"]
        secured = frozenset(item["LogicalName"] for item in items if item.get("IsSecured"))
        return Columns({item["LogicalName"]: _attribute_type(item) for item in items}, secured)

    def _read_labels(self, table: str, column: str, language: int) -> Mapping[int, str]:
        kind = self.columns(table).get(column)
        if kind is None:
            raise ConfigurationError(_no_column(column, table))
        if kind not in _CHOICES:
            raise ConfigurationError(f"{table}.{column} has no labels (it is {kind}): correct the mapping")
        path = f"EntityDefinitions(LogicalName='{table}')/Attributes(LogicalName='{column}')"
        cast = f"Microsoft.Dynamics.CRM.{_CHOICES[kind]}"
        query = "$select=LogicalName&$expand=OptionSet,GlobalOptionSet"
        body = self._get(f"{self._api}{path}/{cast}?{query}", table=table, need="LogicalName")
        return {int(option["Value"]): _label(option["Label"], language) for option in _options(body)}

    # --- requests ---------------------------------------------------------------------------------------------

    def _url(self, table: str, *columns: str, **options: str) -> str:
        """The address of a query; *options* are OData's, without the dollar sign."""
        query = {"select": ",".join(dict.fromkeys(columns)), **options}
        parts = [f"${name}={quote(value, safe=_SAFE)}" for name, value in query.items()]
        return f"{self._api}{self._table(table).path}?{'&'.join(parts)}"

    def _own(self, link: str) -> str:
        """*link* itself, if it leads to our organization: whoever gets the request gets the token (§1.1).

        It is sent as it came, but for hex digits, which requests writes in capitals: the same address (RFC 3986).
        """
        if _origin(link) != _origin(self._org):
            raise ConfigurationError(
                f"Dataverse sent a link to another address than DATAVERSE_URL ({urlsplit(link).hostname}); not followed"
            )
        return link

    def _get(
        self,
        url: str,
        *,
        table: str = "",
        prefer: Sequence[str] = (),
        link: bool = False,
        need: str = "value",
        page_size: int | None = None,
    ) -> Mapping[str, Any]:
        """The JSON object at *url*, which has the member *need*; *link*: it was stored, so it may have expired."""
        size = f"odata.maxpagesize={page_size or self._page_size}"
        headers = {**ODATA_HEADERS, "Prefer": ",".join([*prefer, size])}

        def attempt() -> Mapping[str, Any]:
            reply = self._signed(url, headers)
            if not reply.ok:
                raise self._explained(reply, table, link=link)
            body = reply.json()
            if not isinstance(body, dict) or need not in body:
                raise Again(Unavailable("Dataverse answered with something that is no answer"))
            return body

        with telemetry.call("Dataverse", "GET", _endpoint(url, table)) as call:
            found = self._transport.repeat(attempt)
            call.records = len(found["value"]) if isinstance(found.get("value"), list) else 1
            return found

    def _signed(self, url: str, headers: Mapping[str, str], *, method: str = "GET", data: bytes | None = None) -> Reply:
        """One request, and after a 401 another with a new token, once (dataverse.md §1.1)."""

        def send(token: str) -> Reply:
            auth = Bearer(token)
            return self._transport.ask(method, url, read_timeout=READ_TIMEOUT, auth=auth, headers=headers, data=data)

        token = self._token()
        reply = send(token)
        return send(self._token(refused=token)) if reply.status == 401 else reply

    def _forget_columns(self) -> bool:
        """A column was deleted since we asked: the next delivery leaves the fields alone that need it."""
        return sum(memo.forget() for memo in (self._columns, self._targets, self._labels)) > 0

    def _token(self, *, refused: str = "") -> str:
        """The token in use; a new one if that is the one just *refused*, which another thread may have replaced."""
        with self._token_lock:
            token = self._tokens.token(new=False)
            return self._tokens.token(new=True) if token == refused else token

    def _explained(self, reply: Reply, table: str, *, link: bool) -> SyncError | Again:
        """The error for *reply*: by its code where Dataverse gave one, else by its status."""
        code, message = _error_of(reply)
        telemetry.refused([code])
        if _expired(reply, code, message):
            return DeltaLinkExpired(f"the delta link of {table} has expired ({code or reply.status})")
        if reply.status == 403:
            return ConfigurationError(_forbidden(code, message))
        if reply.status == 401:
            return CredentialsRefused(
                "Dataverse refuses our token: check that DATAVERSE_URL is the environment's own address and that "
                "the application, or who else signs in, belongs to its tenant, DATAVERSE_TENANT_ID"
            )
        if link and reply.status == 400 and code not in _UNTRACKED:
            # Nobody can repair a link. Reading the table again gives a new one, or says what is wrong with it.
            return DeltaLinkExpired(f"Dataverse does not accept the stored link of {table} ({code})")
        if 400 <= reply.status < 500 and code in _UNTRACKED:
            return NotTracked(_untracked(table))
        if code == NO_COLUMN and self._forget_columns():
            return ColumnsChanged(f"{_unknown_column(message, table)}; its columns are asked for anew", delay=5)
        if 400 <= reply.status < 500 and code in _BY_CODE:
            return ConfigurationError(_BY_CODE[code](message, table))
        return self._transport.refuse(reply, f"{table} {code}" if code else "check DATAVERSE_URL")


_SAFE = "(),'=$:/"


def _endpoint(url: str, table: str) -> str:
    """For telemetry: the table, or what else is asked for; nothing of what *url* asks about it."""
    return "EntityDefinitions" if "/EntityDefinitions(" in urlsplit(url).path else table or "WhoAmI"


def _origin(url: str) -> tuple[str | None, str | None, int | None]:
    """As urllib3 reads *url*, because that is who connects: parsers differ about odd characters in a host.

    What follows the question mark is left out: it names no host, and urllib3 takes long over thousands of characters.
    """
    parts = parse_url(url.partition("?")[0])
    return parts.scheme, parts.host, parts.port or {"https": 443, "http": 80}.get(parts.scheme or "")


def _chunks(ids: Iterable[str], size: int) -> Iterator[list[str]]:
    distinct = list(dict.fromkeys(ids))
    return (distinct[start : start + size] for start in range(0, len(distinct), size))


def within(column: str, ids: Sequence[str]) -> str:
    """The condition that *column* is one of *ids*; one condition of the 500, however many ids (§4)."""
    values = ",".join(f'"{value}"' for value in ids)
    return f"Microsoft.Dynamics.CRM.In(PropertyName='{column}',PropertyValues=[{values}])"


def _is_opportunity(end: str) -> str:
    return f"record{end}objecttypecode eq {OPPORTUNITY}"


def _either_end_among(ids: Sequence[str]) -> str:
    return " or ".join(f"({_is_opportunity(end)} and {within(f'record{end}id', ids)})" for end in "12")


def _opportunity_ends(row: Row) -> list[str]:
    return [
        str(row[f"_record{end}id_value"]).lower()
        for end in "12"
        if row.get(f"record{end}objecttypecode") == OPPORTUNITY and row.get(f"_record{end}id_value")
    ]


# --- what comes back ------------------------------------------------------------------------------------------


def _plain(row: Row) -> Row:
    return {name: value for name, value in row.items() if "@" not in name}


def _names(row: Row, lookups: Collection[str]) -> dict[str, Any]:
    """Only lookups that name something are annotated (dataverse.md §5)."""
    return {f"{lookup}@name": row.get(f"_{lookup}_value@{FORMATTED}") for lookup in lookups}


def _change_page(body: Mapping[str, Any]) -> ChangePage:
    """A deletion is told by its context or reason, never by the missing key (dataverse.md §3.2)."""
    rows, deleted = [], []
    for row in body["value"]:
        if "$deletedEntity" in str(row.get("@odata.context", "")) or "reason" in row:
            deleted.append(str(row["id"]).lower())
        else:
            rows.append(_plain(row))
    return ChangePage(rows, deleted, body.get("@odata.nextLink"), body.get("@odata.deltaLink"))


def fold(rows: Iterable[Row], now: datetime) -> list[Connection]:
    """Each pair once, in order of key, from rows of either orientation (dataverse.md §6.5).

    Dataverse keeps two rows per connection. Where they differ, the row that starts at the opportunity decides
    alone: it is the one that the opportunity's form shows under "Stakeholders" (§6.7), so Marketo shows what
    people see there. The mirror counts only when that row was not read. A connection of two opportunities is no
    stakeholder and is left out.
    """
    pairs: dict[tuple[str, str], Connection] = {}
    for row in rows:
        for mirrored, pair in _sides(row, now):
            key = pair.opportunity, pair.key
            if not mirrored or key not in pairs:
                pairs[key] = pair
    return [pairs[key] for key in sorted(pairs)]


def _sides(row: Row, now: datetime) -> Iterator[tuple[bool, Connection]]:
    """The pair as (is it the mirror, pair), if exactly one end is an opportunity and the other end is known."""
    types = row.get("record1objecttypecode"), row.get("record2objecttypecode")
    if types.count(OPPORTUNITY) != 1 or None in types:
        return
    own, other = ("1", "2") if types[0] == OPPORTUNITY else ("2", "1")
    if row.get("_record1id_value") and row.get("_record2id_value"):
        yield own == "2", _connection(row, own, other, now)


def _connection(row: Row, own: str, other: str, now: datetime) -> Connection:
    ids = [str(row[name]).lower() for name in ("connectionid", "_relatedconnectionid_value") if row.get(name)]
    role = row.get(f"_record{other}roleid_value")
    return Connection(
        key=min(ids),
        opportunity=str(row[f"_record{own}id_value"]).lower(),
        other=str(row[f"_record{other}id_value"]).lower(),
        other_type=int(row[f"record{other}objecttypecode"]),
        role=str(role).lower() if role else None,
        created=str(row.get("createdon") or ""),
        active=_active(row, now),
    )


def _active(row: Row, now: datetime) -> bool:
    start, end = row.get("effectivestart"), row.get("effectiveend")
    begun = not start or datetime.fromisoformat(start) <= now
    return row.get("statecode", 0) == 0 and begun and (not end or datetime.fromisoformat(end) > now)


def _attribute_type(item: Mapping[str, Any]) -> str:
    """Several types hide behind `Virtual`; their own name tells them apart."""
    kind = str(item.get("AttributeType") or "")
    name = str((item.get("AttributeTypeName") or {}).get("Value") or "")
    return name.removesuffix("Type") if kind == "Virtual" and name.startswith("MultiSelect") else kind


def _described(item: Mapping[str, Any]) -> DataverseColumn:
    name = item.get("DisplayName") or {}
    labels = (name.get("UserLocalizedLabel"), *(name.get("LocalizedLabels") or ()))
    titles = dict.fromkeys(str(label["Label"]) for label in labels if label and label.get("Label"))
    return DataverseColumn(
        item["LogicalName"], _attribute_type(item), tuple(titles), custom=bool(item.get("IsCustomAttribute"))
    )


def _options(attribute: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The options of a choice, its own or global, or the two of a yes/no column."""
    found = attribute.get("OptionSet") or attribute.get("GlobalOptionSet") or {}
    return list(found.get("Options") or [found[name] for name in ("TrueOption", "FalseOption") if name in found])


def _label(label: Mapping[str, Any], language: int) -> str:
    own = label.get("UserLocalizedLabel") or {}
    texts = {each["LanguageCode"]: each["Label"] for each in label.get("LocalizedLabels") or []}
    return str(texts.get(language, own.get("Label", "")))


# --- what goes wrong ------------------------------------------------------------------------------------------


def _error_of(reply: Reply) -> tuple[str, str]:
    body = reply.json()
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return "", ""
    code = str(error.get("code", "")).lower()
    return code if re.fullmatch(r"0x[0-9a-f]{1,8}", code) else "", str(error.get("message", ""))


def _expired(reply: Reply, code: str, message: str) -> bool:
    """By the code with any status, as no source tells which (dataverse.md §3.5); waiting would not help."""
    told = "full sync" in message.lower() and reply.status < 500
    return reply.status == 410 or code == "0x80044352" or told


def _forbidden(code: str, message: str) -> str:
    """Which of the three kinds of 403 it is (dataverse.md §1.2, §1.4, §8)."""
    if code == "0x80072560":
        return (
            "Dataverse does not know us: create an application user for DATAVERSE_CLIENT_ID (Power Platform admin "
            "center > Environment > Settings > Application users)"
        )
    if code == "0x80040225":
        return (
            "the application user is disabled, or has no security role: activate it and give it the role (Power "
            "Platform admin center > Environment > Settings > Application users)"
        )
    if found := re.search(r"prv([A-Z][a-z]+)(\w+)", message):
        verb, table = found.groups()
        return (
            f"give the application user organization-level {verb} on {table.lower()} ({found[0]}) in its security role"
        )
    if not code:
        return "DATAVERSE_URL is not the address of a Dataverse environment (it answered 403 without saying why)"
    return f"Dataverse denies access ({code}): enable the application user and give it its security role again"


def _untracked(table: str) -> str:
    return (
        f"change tracking is off for {table}: switch it on in make.powerapps.com > Tables > {table} > Properties > "
        "Advanced options > Track changes (it cannot be switched off again)"
    )


def _no_column(column: str, table: str) -> str:
    return f"Dataverse's {table} has no column {column}: correct it in the mapping"


def _unknown_column(message: str, table: str) -> str:
    name = re.search(r"property named '(\w{1,100})'", message)
    return _no_column(name[1], table) if name else f"Dataverse does not understand our query of {table}"


NO_COLUMN = "0x80060888"
_UNTRACKED = ("0x80072491", "0x80072492")

_BY_CODE: Mapping[str, Callable[[str, str], str]] = {
    NO_COLUMN: _unknown_column,
    "0x8006088a": lambda message, table: f"Dataverse has no table {table}: check DATAVERSE_URL and the mapping",
}
"""Codes that a person has to act on, whatever their status (dataverse.md §8)."""
