"""What people would otherwise run: a straightforward script with the library `marketorestpython`, one thing at a time.

It reads the opportunities that changed by `modifiedon`, their accounts, connections and contacts, posts companies and
opportunities in full batches, looks each person up by its address, and posts the roles of each opportunity. It keeps
no ledger: what it is given is posted again. The library's pace of five calls a second is taken out, so that calls and
CPU are measured; what they take at Marketo's pace is computed from their number.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from unittest.mock import patch

import requests
from marketorestpython.client import MarketoClient
from marketorestpython.helper import http_lib

from sync_core.settings import Settings

BATCH = 300
CATEGORY = 1000
PAGE = "odata.maxpagesize=5000"

Row = Mapping[str, Any]


class Script:
    """*settings* are those of the sync; only the services' addresses and credentials are used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.http = requests.Session()
        self.marketo = MarketoClient("none", settings.marketo_client_id, settings.marketo_client_secret)
        self.marketo.host = settings.marketo_url
        self.people: dict[str, int | None] = {}

    def run(self, since: datetime | None = None) -> Counter[str]:
        """Everything, or what changed from *since* on; how many of what were posted."""
        with patch.object(http_lib.time, "sleep", lambda _: None):
            return self._run(since)

    def _run(self, since: datetime | None) -> Counter[str]:
        changed = f"modifiedon ge {since:%Y-%m-%dT%H:%M:%SZ}" if since else ""
        deals = list(self._rows("opportunities", "name,estimatedvalue,createdon,_customerid_value", changed))
        ids = {deal["opportunityid"] for deal in deals}
        accounts = {row["accountid"]: row for row in self._rows("accounts", "name")}
        addresses = {row["contactid"]: row["emailaddress1"] for row in self._rows("contacts", "emailaddress1")}
        stakes = self._stakes(ids)
        companies = sorted({str(deal["_customerid_value"]) for deal in deals} & accounts.keys())
        for batch in _batches([{"externalCompanyId": key, "company": accounts[key]["name"]} for key in companies]):
            self.marketo.create_update_companies(batch, "createOrUpdate")
        for batch in _batches([_opportunity(deal, accounts) for deal in deals]):
            self.marketo.create_update_opportunities(batch, "createOrUpdate")
        posted = Counter({"opportunities": len(deals), "companies": len(companies)})
        for deal in deals:
            roles = [
                {"externalOpportunityId": deal["opportunityid"], "leadId": lead, "role": role}
                for contact, role in stakes[deal["opportunityid"]]
                if (lead := self._lead(addresses.get(contact)))
            ]
            if roles:
                self.marketo.create_update_opportunities_roles(roles, "createOrUpdate")
                posted["roles"] += len(roles)
        return posted

    def _lead(self, address: str | None) -> int | None:
        if not address:
            return None
        if address not in self.people:
            found = self.marketo.get_multiple_leads_by_filter_type("email", [address], ["id"])
            self.people[address] = found[0]["id"] if found else None
        return self.people[address]

    # --- Dynamics ---------------------------------------------------------------------------------------------

    def _stakes(self, deals: set[str]) -> Mapping[str, Sequence[tuple[str, str]]]:
        """By opportunity its contacts, each with the name of its role."""
        roles = {
            row["connectionroleid"]: row["name"]
            for row in self._rows("connectionroles", "name", f"category eq {CATEGORY}")
        }
        found: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        columns = "_record1id_value,_record2id_value,_record2roleid_value"
        condition = "record1objecttypecode eq 3 and record2objecttypecode eq 2 and statecode eq 0"
        for row in self._rows("connections", columns, condition):
            if row["_record1id_value"] in deals and (role := roles.get(row["_record2roleid_value"])):
                found[row["_record1id_value"]].append((row["_record2id_value"], role))
        return found

    def _rows(self, table: str, columns: str, condition: str = "") -> Iterator[Row]:
        url: str | None = f"{self.settings.dataverse_url}/api/data/v9.2/{table}?$select={columns}"
        url += f"&$filter={condition}" if condition else ""
        while url:
            headers = {"Authorization": f"Bearer {self._token()}", "Prefer": PAGE, "OData-Version": "4.0"}
            answer = self.http.get(url, headers=headers, timeout=60)
            answer.raise_for_status()
            body = answer.json()
            yield from body["value"]
            url = body.get("@odata.nextLink")

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


def _opportunity(deal: Row, accounts: Mapping[str, Row]) -> dict[str, Any]:
    company = deal["_customerid_value"]
    return {
        "externalOpportunityId": deal["opportunityid"],
        "name": deal["name"],
        "amount": deal["estimatedvalue"],
        "externalCreatedDate": deal["createdon"],
        **({"externalCompanyId": company} if company in accounts else {}),
    }


def _batches(records: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(records), BATCH):
        yield records[start : start + BATCH]
