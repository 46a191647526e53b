"""Rows of a made-up company's sales, in Web API shape, the same for the same seed.

Distributions, all uniform unless said otherwise:
* accounts: a name of two parts and a legal form, an industry, a web site of its own under `.example.invalid`
* contacts: 97 % have an e-mail address at their account's domain, 92 % belong to an account
* opportunities: 70 % open, 20 % won, 10 % lost; amounts from 1,000 to 250,000 in steps of 500, 3 % without one;
  USD 70 %, EUR 20 %, GBP 10 %; created over the last two years, closing within half a year of that
* customer: a contact with the given share, else an account; 2 % have none
* roles: each opportunity has the whole part of *roles_per_opportunity*, and one more with the probability of the rest;
  their contacts are drawn from all contacts, their texts from the stock stakeholder roles
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tools.emulators.dataverse.clock import wire_time
from tools.emulators.dataverse.queries import LOOKUP_NAME
from tools.emulators.dataverse.store import Row

FIRST = (
    "Ada", "Amir", "Anna", "Ben", "Björn", "Carla", "Chen", "Chiara", "Daniel", "Dina", "Elif", "Emma", "Erik",
    "Fatima", "Felix", "Grace", "Hana", "Hugo", "Ines", "Ivan", "Jana", "Jonas", "Karim", "Lena", "Luis", "Maya",
    "Milan", "Nora", "Olga", "Omar", "Paula", "Priya", "Rafael", "Rosa", "Samir", "Sofia", "Tariq", "Thea",
    "Victor", "Yuki", "Zoë",
)  # fmt: skip
LAST = (
    "Abadi", "Adler", "Almeida", "Becker", "Bianchi", "Carlsen", "Cohen", "Costa", "Dubois", "Eriksen", "Fischer",
    "Garcia", "Haddad", "Hansen", "Ito", "Jansen", "Kaya", "Keller", "Kowalski", "Larsson", "Lindqvist", "Marino",
    "Meyer", "Moreau", "Müller", "Nakamura", "Novák", "O'Brien", "Okafor", "Petrov", "Quinn", "Reyes", "Rossi",
    "Sato", "Schneider", "Silva", "Tanaka", "Usman", "Vargas", "Weber", "Yilmaz", "Zhang",
)  # fmt: skip
PLACES = (
    "Alder", "Amber", "Bay", "Birch", "Bright", "Castle", "Cedar", "Clear", "Coral", "Delta", "Elm", "Falcon",
    "Glen", "Granite", "Harbor", "Hazel", "Iron", "Juniper", "Lark", "Maple", "Meadow", "North", "Oak", "Opal",
    "Pine", "Quartz", "River", "Silver", "Stone", "Summit", "Tidal", "Valley", "West", "Willow",
)  # fmt: skip
TRADES = (
    "Analytics", "Bakeries", "Builders", "Chemicals", "Clinics", "Dairy", "Energy", "Foods", "Freight",
    "Furniture", "Glass", "Hotels", "Instruments", "Labs", "Logistics", "Media", "Motors", "Optics", "Paper",
    "Pharma", "Robotics", "Software", "Solar", "Steel", "Textiles", "Tools", "Travel", "Water",
)  # fmt: skip
FORMS = ("Ltd", "GmbH", "Inc", "AG", "SA", "BV", "AB", "LLC")
PRODUCTS = (
    "Platform",
    "Upgrade",
    "Rollout",
    "Pilot",
    "Renewal",
    "Expansion",
    "Support",
    "Training",
    "Migration",
    "Audit",
)
JOBS = ("Head of Purchasing", "Managing Director", "IT Manager", "Engineer", "Controller", "Buyer", "Project Lead")
ROLES = (
    "Stakeholder", "Champion", "Decision Maker", "Budget Approver", "Economic Buyer", "End User", "Influencer",
    "Technical Buyer",
)  # fmt: skip
STEPS = ("1-Qualify", "2-Develop", "3-Propose", "4-Close")
NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


def rows(
    *,
    seed: int = 1,
    opportunities: int = 1000,
    accounts: int | None = None,
    contacts: int | None = None,
    roles_per_opportunity: float = 1.5,
    contact_customers: float = 0.2,
) -> dict[str, list[Row]]:
    """The rows by table, one connection row for each pair (loading adds the mirrors)."""
    maker = Maker(seed, contact_customers)
    number_of_accounts, number_of_contacts = sizes(opportunities, accounts, contacts)
    made_accounts = [maker.account(number) for number in range(number_of_accounts)]
    made_contacts = [maker.contact(number, made_accounts) for number in range(number_of_contacts)]
    account_ids = [row["accountid"] for row in made_accounts]
    contact_ids = [row["contactid"] for row in made_contacts]
    made = [maker.opportunity(number, account_ids, contact_ids) for number in range(opportunities)]
    connections = [c for item in made for c in maker.connections(item, contact_ids, roles_per_opportunity)]
    return {"account": made_accounts, "contact": made_contacts, "opportunity": made, "connection": connections}


def sizes(opportunities: int, accounts: int | None, contacts: int | None) -> tuple[int, int]:
    """How many accounts and contacts there are; None: as many as fit so many opportunities."""
    return (
        accounts if accounts is not None else opportunities // 10 + 1,
        contacts if contacts is not None else opportunities // 2 + 1,
    )


class Maker:
    """Draws one row after the other."""

    def __init__(self, seed: int, contact_customers: float) -> None:
        self.random = random.Random(seed)
        self.contact_customers = contact_customers

    def id(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def pick(self, choices: Any) -> Any:
        return choices[int(self.random.random() * len(choices))]

    def moment(self) -> datetime:
        return NOW - timedelta(seconds=self.random.randrange(1, 730 * 86_400))

    def account(self, number: int) -> Row:
        place, trade = self.pick(PLACES), self.pick(TRADES)
        created = wire_time(self.moment())
        return {
            "accountid": self.id(),
            "name": f"{place} {trade} {self.pick(FORMS)}",
            "accountnumber": f"A{number:07}",
            "websiteurl": f"https://{place.lower()}-{trade.lower()}-{number}.example.invalid",
            "industrycode": self.random.randint(1, 33),
            "customertypecode": 3,
            "numberofemployees": self.pick((5, 20, 80, 300, 1200, 9000)),
            "createdon": created,
            "modifiedon": created,
        }

    def contact(self, number: int, accounts: Sequence[Row]) -> Row:
        first, last = self.pick(FIRST), self.pick(LAST)
        account = self.pick(accounts) if accounts and self.random.random() < 0.92 else None
        created = wire_time(self.moment())
        row: Row = {"contactid": self.id(), "firstname": first, "lastname": last, "fullname": f"{first} {last}"}
        row |= {"jobtitle": self.pick(JOBS), "createdon": created, "modifiedon": created}
        domain = account["websiteurl"].removeprefix("https://") if account else "mail.example.invalid"
        if self.random.random() < 0.97:
            row["emailaddress1"] = f"{ascii_name(first)}.{ascii_name(last)}.{number}@{domain}"
        return row | (_lookup("parentcustomerid", account["accountid"], "account") if account else {})

    def opportunity(self, number: int, accounts: Sequence[str], contacts: Sequence[str]) -> Row:
        created = self.moment()
        closing = created + timedelta(days=self.random.randint(7, 180))
        row: Row = {"opportunityid": self.id(), "name": f"{self.pick(PLACES)} {self.pick(PRODUCTS)} {number}"}
        row |= {"createdon": wire_time(created), "modifiedon": wire_time(created), "stepname": self.pick(STEPS)}
        row |= {"estimatedclosedate": closing.date().isoformat(), "closeprobability": self.random.randrange(0, 101, 10)}
        if self.random.random() < 0.97:
            row["estimatedvalue"] = float(self.random.randrange(1_000, 250_001, 500))
        row["transactioncurrency.isocurrencycode"] = self.pick(("USD",) * 7 + ("EUR",) * 2 + ("GBP",))
        return row | self._outcome(row, closing) | self._customer(accounts, contacts)

    def _outcome(self, row: Row, closing: datetime) -> Row:
        drawn = self.random.random()
        if drawn < 0.7:
            return {"statecode": 0, "statuscode": 1 if drawn < 0.65 else 2}
        closed = {"actualclosedate": closing.date().isoformat()}
        if drawn < 0.9:
            return {"statecode": 1, "statuscode": 3, **closed, "actualvalue": row.get("estimatedvalue")}
        return {"statecode": 2, "statuscode": self.pick((4, 5)), **closed, "actualvalue": 0.0}

    def _customer(self, accounts: Sequence[str], contacts: Sequence[str]) -> Row:
        drawn = self.random.random()
        if drawn < 0.02:
            return {}
        if contacts and drawn < 0.02 + self.contact_customers * 0.98:
            contact = self.pick(contacts)
            return _lookup("customerid", contact, "contact") | _lookup("parentcontactid", contact, "contact")
        if not accounts:
            return {}
        account = self.pick(accounts)
        return _lookup("customerid", account, "account") | _lookup("parentaccountid", account, "account")

    def connections(self, opportunity: Row, contacts: Sequence[str], average: float) -> Iterator[Row]:
        whole = int(average)
        for _ in range((whole + (self.random.random() < average - whole)) if contacts else 0):
            contact = self.pick(contacts)
            yield {
                "connectionid": self.id(),
                **_lookup("record1id", opportunity["opportunityid"], "opportunity"),
                **_lookup("record2id", contact, "contact"),
                "connectionrole.name": self.pick(ROLES),
                "createdon": opportunity["createdon"],
                "modifiedon": opportunity["createdon"],
            }


def _lookup(column: str, row_id: str, table: str) -> Row:
    return {f"_{column}_value": row_id, f"_{column}_value@{LOOKUP_NAME}": table}


def ascii_name(name: str) -> str:
    """A name as it is written before the @."""
    plain = name.lower().translate(str.maketrans("äöüëñáéó", "aouenaeo"))
    return "".join(letter for letter in plain if letter.isascii() and letter.isalnum())
