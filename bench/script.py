"""What people would otherwise run: a straightforward script with the library `marketorestpython`, one thing at a time.

Rows that changed since the last run are found by `modifiedon`: opportunities, connections, and contacts, whose
opportunities as customers follow them. Accounts, contacts and connections are read whole. Companies and opportunities
are posted in full batches; a person is looked up by address, once a run, and the roles of an opportunity are one call.

It posts what the checked-in `sync.toml` maps and gives the same roles. It keeps no ledger: what it looks at is posted
again, and a role that is no more stays in Marketo, since the rows left don't tell of it. The library's pace of five
calls a second is taken out, so that calls and CPU are measured; what they take at Marketo's pace is computed from
their number.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import requests
from marketorestpython.client import MarketoClient
from marketorestpython.helper import http_lib

from sync_core.settings import Settings

BATCH = 300
AT_ONCE = 100  # ids in one condition: a URL may have 32 KB
CATEGORY = 1000
PAGE = "odata.maxpagesize=5000"
STAGES = ("Open", "Won", "Lost")
DEAL = (
    "name,description,estimatedvalue_base,statecode,actualclosedate,estimatedclosedate,closeprobability,createdon,"
    "_accountid_value,_contactid_value"
)
STAKE = "_record1id_value,_record2id_value,_record2roleid_value,createdon"
STANDING = "record1objecttypecode eq 3 and record2objecttypecode eq 2 and statecode eq 0 and effectiveend eq null"

NO_WAIT = SimpleNamespace(time=time.time, sleep=lambda _: None)

Row = Mapping[str, Any]


class Script:
    """One run; *settings* are those of the sync, of which only the services' addresses and credentials are used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.http = requests.Session()
        self.marketo = MarketoClient("none", settings.marketo_client_id, settings.marketo_client_secret)
        self.marketo.host = settings.marketo_url
        self.people: dict[str, int | None] = {}

    def run(self, since: datetime | None = None) -> Counter[str]:
        """Everything, or what changed from *since* on; how many of what were posted."""
        with patch.object(http_lib, "time", NO_WAIT):
            return self._run(since)

    def _run(self, since: datetime | None) -> Counter[str]:
        self.http.headers["Authorization"] = f"Bearer {self._token()}"
        deals = self._changed(since) if since else list(self._rows("opportunities", DEAL))
        accounts = {row["accountid"]: row for row in self._rows("accounts", "name,websiteurl")}
        contacts = {row["contactid"]: row for row in self._rows("contacts", "emailaddress1,_accountid_value")}
        stakes = self._stakes()
        employer = {deal["opportunityid"]: _account(deal, contacts) for deal in deals}
        companies = [_company(accounts[key]) for key in sorted({key for key in employer.values() if key})]
        opportunities = [_opportunity(deal, employer[deal["opportunityid"]]) for deal in deals]
        for batch in _batches(companies):
            self.marketo.create_update_companies(batch, "createOrUpdate")
        for batch in _batches(opportunities):
            self.marketo.create_update_opportunities(batch, "createOrUpdate")
        posted = Counter({"opportunities": len(opportunities), "companies": len(companies)})
        for deal in deals:
            if roles := list(self._roles(deal, stakes[deal["opportunityid"]], contacts)):
                self.marketo.create_update_opportunities_roles(roles, "createOrUpdate")
                posted["roles"] += len(roles)
        return posted

    def _roles(self, deal: Row, stakes: Sequence[tuple[Row, str]], contacts: Mapping[str, Row]) -> Iterator[Row]:
        """The oldest first: of two connections with the same role the first one counts."""
        found = [(row["_record2id_value"], role, False, row["createdon"]) for row, role in stakes]
        if customer := deal["_contactid_value"]:
            found.append((customer, "Primary Contact", True, deal["createdon"]))
        seen = set()
        for contact, role, primary, created in sorted(found, key=lambda item: str(item[3])):
            lead = self._lead(contacts[contact]["emailaddress1"])
            if lead and (lead, role) not in seen:
                seen.add((lead, role))
                yield {
                    "externalOpportunityId": deal["opportunityid"],
                    "leadId": lead,
                    "role": role,
                    "isPrimary": primary,
                    "externalCreatedDate": created,
                }

    def _lead(self, address: str | None) -> int | None:
        if not address:
            return None
        if address not in self.people:
            found = self.marketo.get_multiple_leads_by_filter_type("email", [address], ["id"])
            self.people[address] = found[0]["id"] if found else None
        return self.people[address]

    # --- Dynamics ---------------------------------------------------------------------------------------------

    def _changed(self, since: datetime) -> list[Row]:
        """Opportunities that changed themselves, got a stakeholder, or whose customer changed."""
        later = f"modifiedon ge {since:%Y-%m-%dT%H:%M:%SZ}"
        deals = {row["opportunityid"]: row for row in self._rows("opportunities", DEAL, later)}
        ends = self._rows("connections", "_record1id_value", f"{later} and record1objecttypecode eq 3")
        customers = {row["contactid"] for row in self._rows("contacts", "contactid", later)}
        also = {row["_record1id_value"] for row in ends} - deals.keys()
        for column, ids in (("opportunityid", also), ("customerid", customers)):
            for condition in _conditions(column, ids):
                deals |= {row["opportunityid"]: row for row in self._rows("opportunities", DEAL, condition)}
        return list(deals.values())

    def _stakes(self) -> Mapping[str, Sequence[tuple[Row, str]]]:
        """By opportunity its connections, each with the name of its role."""
        kinds = self._rows("connectionroles", "name", f"category eq {CATEGORY}")
        roles = {row["connectionroleid"]: row["name"] for row in kinds}
        found: defaultdict[str, list[tuple[Row, str]]] = defaultdict(list)
        for row in self._rows("connections", STAKE, STANDING):
            if role := roles.get(row["_record2roleid_value"]):
                found[row["_record1id_value"]].append((row, role))
        return found

    def _rows(self, table: str, columns: str, condition: str = "") -> Iterator[Row]:
        only = f"&$filter={condition}" if condition else ""
        url = f"{self.settings.dataverse_url}/api/data/v9.2/{table}?$select={columns}{only}"
        while url:
            answer = self.http.get(url, headers={"Prefer": PAGE, "OData-Version": "4.0"}, timeout=60)
            answer.raise_for_status()
            body = answer.json()
            yield from body["value"]
            url = body.get("@odata.nextLink", "")

    def _token(self) -> str:
        settings = self.settings
        form = {
            "grant_type": "client_credentials",
            "client_id": settings.dataverse_client_id,
            "client_secret": settings.dataverse_client_secret,
            "scope": f"{settings.dataverse_url}/.default",
        }
        url = f"{settings.dataverse_authority_host}/{settings.dataverse_tenant_id}/oauth2/v2.0/token"
        return str(self.http.post(url, data=form, timeout=60).json()["access_token"])


def _account(deal: Row, contacts: Mapping[str, Row]) -> str:
    """Of the customer: a contact's, or the account that it is."""
    of: Row = contacts.get(deal["_contactid_value"], deal)
    return str(of["_accountid_value"] or "")


def _company(account: Row) -> dict[str, Any]:
    return {
        "externalCompanyId": account["accountid"],
        "company": account["name"],
        "website": account["websiteurl"],
    }


def _opportunity(deal: Row, company: str) -> dict[str, Any]:
    state = deal["statecode"]
    return {
        "externalOpportunityId": deal["opportunityid"],
        "name": deal["name"],
        "description": deal["description"],
        "amount": deal["estimatedvalue_base"],
        "stage": STAGES[state],
        "closeDate": deal["actualclosedate"] or deal["estimatedclosedate"],
        "probability": deal["closeprobability"],
        "isWon": state == 1,
        "isClosed": state > 0,
        "externalCreatedDate": deal["createdon"],
        "externalCompanyId": company or None,
    }


def _conditions(column: str, ids: Collection[str]) -> Iterator[str]:
    wanted = sorted(ids)
    for start in range(0, len(wanted), AT_ONCE):
        values = ",".join(f'"{key}"' for key in wanted[start : start + AT_ONCE])
        yield f"Microsoft.Dynamics.CRM.In(PropertyName='{column}',PropertyValues=[{values}])"


def _batches(records: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(records), BATCH):
        yield records[start : start + BATCH]
