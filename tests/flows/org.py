"""A small org on the stage, and the words of its people."""

from __future__ import annotations

from typing import Any

from tests.stage import Stage
from tools.checker import DATAVERSE_TABLES, MARKETO_TABLES, differences, expected


class Org:
    """Ann and Bob work at Acme, Cid at Bolt; all three are in Marketo. `deal` is an opportunity of Acme."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.acme = self.account("Acme")
        self.bolt = self.account("Bolt")
        self.ann = self.contact("ann@acme.invalid", self.acme)
        self.bob = self.contact("bob@acme.invalid", self.acme)
        self.cid = self.contact("cid@bolt.invalid", self.bolt)
        self.lead_ann, self.lead_bob, self.lead_cid = stage.people(
            "ann@acme.invalid", "bob@acme.invalid", "cid@bolt.invalid"
        )
        self.deal = self.opportunity(account=self.acme)

    def account(self, name: str) -> str:
        return str(self.stage.edit("create", table="account", values={"name": name})["id"])

    def contact(self, email: str | None, account: str | None = None, **values: Any) -> str:
        row = {"lastname": "Person", "emailaddress1": email, **values}
        if account:
            row |= lookup("parentcustomerid", account, "account")
        return str(self.stage.edit("create", table="contact", values=row)["id"])

    def opportunity(
        self, name: str = "Deal", *, account: str | None = None, contact: str | None = None, **v: Any
    ) -> str:
        row: dict[str, Any] = {"name": name, "estimatedvalue": 1000.0, **v}
        if account:
            row |= lookup("parentaccountid", account, "account")
        if contact:
            row |= lookup("parentcontactid", contact, "contact")
        return str(self.stage.edit("create", table="opportunity", values=row)["id"])

    def stakeholder(self, contact: str, role: str | None = "Decision Maker", opportunity: str | None = None) -> str:
        return str(self.stage.edit("connect", opportunity=opportunity or self.deal, contact=contact, role=role)["id"])

    def update(self, table: str, key: str, **values: Any) -> None:
        self.stage.edit("update", table=table, id=key, values=values)

    def delete(self, table: str, key: str) -> None:
        self.stage.edit("delete", table=table, id=key)


def lookup(column: str, key: str | None, table: str) -> dict[str, Any]:
    return {f"_{column}_value": key, f"_{column}_value@Microsoft.Dynamics.CRM.lookuplogicalname": table}


def wrong(stage: Stage) -> list[str]:
    """What differs between Marketo and the rules, by a checker that shares no code with the sync."""
    tables = {name: stage.dataverse.rows(name) for name in DATAVERSE_TABLES}
    marketo = {name: stage.marketo.rows(name) for name in MARKETO_TABLES}
    return differences(expected(tables, marketo["leads"], now=stage.clock.now()), marketo)
