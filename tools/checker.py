"""Does Marketo hold what Dynamics says? The rules once more, written apart from the sync, and compared row by row.

    python -m tools.checker --dataverse URL --marketo URL --ca FILE

Reads the emulators' raw rows, works out what the checked-in `sync.toml` makes of them, and lists every difference.
Shares nothing with `sync_core`: a mistake made there is not repeated here.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from tools.emulators.admin import Admin
from tools.emulators.marketo.identity import Client

Row = Mapping[str, Any]
Tables = Mapping[str, Sequence[Row]]
RoleKey = tuple[str, int, str]
"""Opportunity, person, text without regard to case: as Marketo tells roles apart."""

DATAVERSE_TABLES = ("opportunity", "account", "contact", "connection", "connectionrole")
MARKETO_TABLES = ("opportunities", "roles", "companies", "leads")
OPPORTUNITY_FIELDS = (
    "name", "description", "amount", "stage", "closeDate", "probability", "isWon", "isClosed", "externalCreatedDate",
    "externalCompanyId",
)  # fmt: skip
COMPANY_FIELDS = ("company", "website")
ROLE_FIELDS = ("isPrimary", "externalCreatedDate")

OPPORTUNITY_CODE, CONTACT_CODE, STAKEHOLDER = 3, 2, 1000
CUSTOMER_ROLE = "Primary Contact"
STAGES = {0: "Open", 1: "Won", 2: "Lost"}
A_CALL = 300  # records, or values to look up

ACCOUNT_ONLY = "the connection is to an account, not to a person"
ENDED = "the connection has ended or was deactivated"
NO_ROLE = "the connection names no role"
NO_STAKEHOLDER = "the role is not a stakeholder role"
UNREADABLE = "the contact does not exist"
NO_EMAIL = "the contact has no e-mail address"
BAD_EMAIL = "the contact's e-mail address cannot be one in Marketo"
UNKNOWN = "nobody in Marketo has the contact's e-mail address"


@dataclass(frozen=True)
class LeftOut:
    """Somebody connected to an opportunity, or its customer, who has no role there in Marketo."""

    opportunity: str
    record: str
    role: str
    why: str


@dataclass(frozen=True)
class Expected:
    """What Marketo has to hold.

    `accounts`: what every account looks like as a company; one that some opportunity named once may stay there.
    `addresses`: for each opportunity the (contact, e-mail address) pairs that have to be looked up in Marketo;
    `unknown`: those among the addresses that nobody in Marketo has.
    """

    opportunities: Mapping[str, Row]
    roles: Mapping[RoleKey, Row]
    companies: Mapping[str, Row]
    accounts: Mapping[str, Row]
    left_out: Sequence[LeftOut] = ()
    addresses: Mapping[str, frozenset[tuple[str, str]]] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()

    @property
    def people(self) -> set[int]:
        """Who has an opportunity."""
        return {lead for _, lead, _ in self.roles}

    @property
    def figures(self) -> dict[str, int]:
        """How much is compared."""
        return {
            "opportunities": len(self.opportunities),
            "fields": sum(len(row) for row in self.opportunities.values()),
            "roles": len(self.roles),
            "companies": len(self.companies),
            "people": len(self.people),
        }


# --- what should be there ---------------------------------------------------------------------------------------


def expected(
    dataverse: Tables,
    leads: Iterable[Row],
    *,
    now: datetime | None = None,
    filters: Sequence[Row] = (),
    only: Sequence[Row] = (),
) -> Expected:
    """The default mapping and the association rules, for whole tables of raw rows.

    *filters* and *only* are `[[filter.rule]]` and `[company] only` as they stand in sync.toml; who left the filter is
    expected to be gone (`when_leaving = "remove"`).
    """
    return _Rules(dataverse, leads, now or datetime.now(UTC), filters, only).run(dataverse["opportunity"])


class _Rules:
    def __init__(
        self, dataverse: Tables, leads: Iterable[Row], now: datetime, filters: Sequence[Row], only: Sequence[Row]
    ) -> None:
        self.now = now
        self.filters = filters
        self.contacts = {row["contactid"]: row for row in dataverse["contact"]}
        self.role_names = {row["connectionroleid"]: row for row in dataverse["connectionrole"]}
        self.account_rows = {row["accountid"]: row for row in dataverse["account"]}
        fit = (row for row in dataverse["account"] if all(holds(rule, read(row, rule["column"]), now) for rule in only))
        self.accounts = {row["accountid"]: company(row) for row in fit}
        self.excluded = self.account_rows.keys() - self.accounts
        self.stakeholders = defaultdict(list)
        for end in _ends(dataverse["connection"]):
            self.stakeholders[end.opportunity].append(end)
        self.leads = newest_by_address(leads)
        self.roles: dict[RoleKey, dict[str, Any]] = {}
        self.left_out: list[LeftOut] = []
        self.addresses: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)

    def run(self, rows: Iterable[Row]) -> Expected:
        opportunities = {row["opportunityid"]: self._opportunity(row) for row in rows if self._passes(row)}
        named = {row["externalCompanyId"] for row in opportunities.values()} & self.accounts.keys()
        return Expected(
            opportunities,
            self.roles,
            {key: self.accounts[key] for key in named},
            self.accounts,
            self.left_out,
            {key: frozenset(pairs) for key, pairs in self.addresses.items()},
            frozenset(address for pairs in self.addresses.values() for _, address in pairs) - self.leads.keys(),
        )

    def _opportunity(self, row: Row) -> dict[str, Any]:
        key = row["opportunityid"]
        customer = row.get("_contactid_value")
        if customer:
            self._role(key, customer, CUSTOMER_ROLE, row["createdon"], primary=True)
        for end in self.stakeholders[key]:
            self._stakeholder(end)
        account = self._account(row)
        return opportunity(row) | {"externalCompanyId": None if account in self.excluded else account}

    def _passes(self, row: Row) -> bool:
        """All rules of the filter; `contact.` is the customer, or else the one in the Contact field."""
        person = self._master(row.get("_contactid_value") or row.get("_parentcontactid_value") or "")
        sides = {
            "account": self.account_rows.get(self._account(row) or "", {}),
            "contact": self.contacts.get(person or "", {}),
        }
        for rule in self.filters:
            side, dot, column = rule["column"].rpartition(".")
            if not holds(rule, read(sides[side] if dot else row, column), self.now):
                return False
        return True

    def _account(self, row: Row) -> str | None:
        if contact := row.get("_contactid_value"):
            standing = self._master(contact)
            return self.contacts[standing].get("_accountid_value") if standing else None
        return row.get("_accountid_value")

    def _stakeholder(self, end: End) -> None:
        role = self.role_names.get(end.role or "")
        name = role["name"] if role else ""
        if why := self._unfit(end, role):
            self.left_out.append(LeftOut(end.opportunity, end.other, name, why))
        else:
            self._role(end.opportunity, end.other, name.strip()[:50], end.created)

    def _unfit(self, end: End, role: Row | None) -> str:
        if end.other_code != CONTACT_CODE:
            return ACCOUNT_ONLY
        if not end.holds(self.now):
            return ENDED
        if role is None:
            return NO_ROLE
        return "" if role.get("category") == STAKEHOLDER else NO_STAKEHOLDER

    def _role(self, key: str, contact: str, text: str, created: str, *, primary: bool = False) -> None:
        lead = self._person(key, contact)
        if isinstance(lead, str):
            self.left_out.append(LeftOut(key, contact, text, lead))
            return
        since = instant(created)
        known = self.roles.get((key, lead, text.casefold()))
        if known:
            primary, since = primary or known["isPrimary"], min(since, known["externalCreatedDate"])
        self.roles[key, lead, text.casefold()] = {"isPrimary": primary, "externalCreatedDate": since}

    def _person(self, key: str, contact: str) -> int | str:
        """The lead, or why there is none."""
        standing = self._master(contact)
        if standing is None:
            return UNREADABLE
        written = self.contacts[standing].get("emailaddress1")
        address = usable_address(written)
        if not address:
            return BAD_EMAIL if str(written or "").strip() else NO_EMAIL
        self.addresses[key].add((standing, address))
        return self.leads.get(address, UNKNOWN)

    def _master(self, contact: str) -> str | None:
        passed: set[str] = set()
        while contact in self.contacts and contact not in passed:
            passed.add(contact)
            contact = self.contacts[contact].get("_masterid_value") or contact
        return contact if contact in self.contacts else None


def read(row: Row, column: str) -> Any:
    """A column by its logical name."""
    return row.get(column, row.get(f"_{column}_value"))


def holds(rule: Row, value: Any, now: datetime) -> bool:
    """One rule of sync.toml about one value."""
    asked = {
        "null": lambda wanted: wanted is (value is None),
        "in": lambda items: _among(value, items),
        "not_in": lambda items: not _among(value, items),
        "equals": lambda item: _among(value, [item]),
        "since": lambda text: value is not None and str(value) >= beginning(text, now)[: len(str(value))],
    }
    return all(holds_so(rule[name]) for name, holds_so in asked.items() if name in rule)


def _among(value: Any, items: Iterable[Any]) -> bool:
    """Text in any case; of several choices, which come as `1,2`, any; yes and no are no numbers."""
    found = {_comparable(value)}
    if isinstance(value, str) and value.replace(",", "").replace("-", "").isdigit():
        found |= {_comparable(int(each)) for each in value.split(",")}
    return value is not None and not found.isdisjoint(map(_comparable, items))


def _comparable(value: Any) -> tuple[str, Any]:
    if isinstance(value, bool):
        return "yes or no", value
    return ("text", value.lower()) if isinstance(value, str) else ("number", value)


def beginning(since: str, now: datetime) -> str:
    """The moment that `P1Y2M3W4D` or a date means, as Dataverse writes moments."""
    if not since.startswith("P"):
        return since
    back = {unit: int(number) for number, unit in re.findall(r"(\d+)([YMWD])", since)}
    months = now.year * 12 + now.month - 1 - 12 * back.get("Y", 0) - back.get("M", 0)
    first = now.replace(year=months // 12, month=months % 12 + 1, day=1)
    last = (first.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    begin = first.replace(day=min(now.day, last.day)) - timedelta(days=7 * back.get("W", 0) + back.get("D", 0))
    return begin.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class End:
    """A connection seen from its opportunity."""

    opportunity: str
    other: str
    other_code: int
    role: str | None
    created: str
    row: Row

    def holds(self, now: datetime) -> bool:
        start, end = (self.row.get(name) for name in ("effectivestart", "effectiveend"))
        begun = not start or datetime.fromisoformat(start) <= now
        return self.row.get("statecode", 0) == 0 and begun and (not end or datetime.fromisoformat(end) > now)


def _ends(connections: Iterable[Row]) -> Iterator[End]:
    """One for each pair of rows: the one whose first side is the opportunity, its mirror only without it."""
    pairs: dict[frozenset[str], End] = {}
    for row in connections:
        if (end := _end(row)) is None:
            continue
        pair = frozenset({row["connectionid"], row.get("_relatedconnectionid_value") or row["connectionid"]})
        if pair not in pairs or row["record1objecttypecode"] == OPPORTUNITY_CODE:
            pairs[pair] = end
    yield from pairs.values()


def _end(row: Row) -> End | None:
    codes = row.get("record1objecttypecode"), row.get("record2objecttypecode")
    if codes.count(OPPORTUNITY_CODE) != 1 or None in codes:
        return None
    own, other = ("1", "2") if codes[0] == OPPORTUNITY_CODE else ("2", "1")
    return End(
        row[f"_record{own}id_value"],
        row[f"_record{other}id_value"],
        row[f"record{other}objecttypecode"],
        row.get(f"_record{other}roleid_value"),
        row["createdon"],
        row,
    )


def opportunity(row: Row) -> dict[str, Any]:
    """The mapped fields of one opportunity, but for its company."""
    state = row.get("statecode")
    amount, chance = row.get("estimatedvalue_base"), row.get("closeprobability")
    closes = row.get("actualclosedate") or row.get("estimatedclosedate")
    return {
        "name": text(row.get("name"), 255) or "(no topic)",
        "description": text(row.get("description"), 2000),
        "amount": None if amount is None else round(float(amount), 2),
        "stage": STAGES.get(state),
        "closeDate": closes[:10] if closes else None,
        "probability": None if chance is None else int(chance),
        "isWon": state == 1,
        "isClosed": state in (1, 2),
        "externalCreatedDate": instant(row["createdon"]),
    }


def company(row: Row) -> dict[str, Any]:
    """The mapped fields of one account."""
    return {"company": text(row.get("name"), 255), "website": text(row.get("websiteurl"), 255)}


def text(value: Any, length: int) -> str | None:
    """Without blanks around it, cut; None for nothing."""
    return str(value or "").strip()[:length].rstrip() or None


def instant(value: str) -> str:
    return datetime.fromisoformat(value).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def usable_address(value: Any) -> str:
    """The address in lower case, or nothing if Marketo could not hold or find it."""
    address = str(value or "").strip().lower()
    fits = address.isascii() and address.count("@") == 1 and not any(mark in address for mark in ", ;\t\r\n")
    return address if fits else ""


def newest_by_address(leads: Iterable[Row]) -> dict[str, int]:
    """Of several people with one address the one who changed last."""
    found: dict[str, Row] = {}
    for lead in leads:
        address = str(lead.get("email") or "").strip().lower()
        known = found.get(address)
        if known is None or (lead["updatedAt"], lead["id"]) > (known["updatedAt"], known["id"]):
            found[address] = lead
    return {address: lead["id"] for address, lead in found.items() if address}


# --- is it there? -------------------------------------------------------------------------------------------------


def differences(wanted: Expected, marketo: Tables, *, ever_named: Collection[str] | None = None) -> list[str]:
    """Every difference in words; none means that Marketo is right.

    *ever_named*: the companies that opportunities have named so far. Without it, any account may be a company.
    """
    allowed = wanted.accounts.keys() if ever_named is None else {*wanted.companies, *ever_named}
    return [
        *_opportunity_differences(wanted, marketo["opportunities"]),
        *_role_differences(wanted, marketo["roles"]),
        *_lost_roles(marketo),
        *_company_differences(wanted, marketo["companies"], allowed),
        *_people_differences(wanted, marketo.get("people-with-opportunity")),
    ]


def _opportunity_differences(wanted: Expected, rows: Iterable[Row]) -> Iterator[str]:
    found, repeated = _by_key(rows, lambda row: row["externalOpportunityId"])
    yield from (f"opportunity {key} is in Marketo twice" for key in repeated)
    yield from (f"opportunity {key} is missing in Marketo" for key in sorted(wanted.opportunities.keys() - found))
    yield from (f"opportunity {key} should not be in Marketo" for key in sorted(found.keys() - wanted.opportunities))
    for key in sorted(found.keys() & wanted.opportunities):
        yield from _field_differences(f"opportunity {key}", wanted.opportunities[key], found[key])


def _role_differences(wanted: Expected, rows: Iterable[Row]) -> Iterator[str]:
    found, repeated = _by_key(rows, _role_key)
    yield from (f"{_named(key)} is in Marketo twice" for key in repeated)
    yield from (f"{_named(key)} is missing in Marketo" for key in sorted(wanted.roles.keys() - found))
    yield from (f"{_named(key)} should not be in Marketo" for key in sorted(found.keys() - wanted.roles))
    for key in sorted(found.keys() & wanted.roles):
        actual = {**found[key], "isPrimary": bool(found[key].get("isPrimary"))}
        yield from _field_differences(_named(key), wanted.roles[key], actual)
    primaries = Counter(row["externalOpportunityId"] for row in found.values() if row.get("isPrimary"))
    yield from (f"opportunity {key} has {number} primary roles" for key, number in primaries.items() if number > 1)


def _lost_roles(marketo: Tables) -> Iterator[str]:
    """Roles that outlived their opportunity or their person."""
    opportunities = {row["externalOpportunityId"] for row in marketo["opportunities"]}
    leads = {row["id"] for row in marketo["leads"]}
    for row in marketo["roles"]:
        if row["externalOpportunityId"] not in opportunities:
            yield f"{_named(_role_key(row))} is an orphan: Marketo has no such opportunity"
        if row["leadId"] not in leads:
            yield f"{_named(_role_key(row))} belongs to nobody: Marketo has no such person"


def _company_differences(wanted: Expected, rows: Iterable[Row], allowed: Collection[str]) -> Iterator[str]:
    found, repeated = _by_key(rows, lambda row: row["externalCompanyId"])
    yield from (f"company {key} is in Marketo twice" for key in repeated)
    yield from (f"company {key} is missing in Marketo" for key in sorted(wanted.companies.keys() - found))
    for key, row in sorted(found.items()):
        if key not in allowed:
            yield f"company {key} should not be in Marketo"
        elif key in wanted.accounts:
            yield from _field_differences(f"company {key}", wanted.accounts[key], row)


def _people_differences(wanted: Expected, rows: Iterable[Row] | None) -> Iterator[str]:
    if rows is None:
        return
    found = {row["id"] for row in rows}
    yield from (f'person {lead} is missing from "Has Opportunity"' for lead in sorted(wanted.people - found))
    yield from (f'person {lead} should not be in "Has Opportunity"' for lead in sorted(found - wanted.people))


def _field_differences(what: str, wanted: Row, found: Row) -> Iterator[str]:
    for name, value in wanted.items():
        if not _same(value, found.get(name)):
            yield f"{what}: {name} is {found.get(name)!r}, not {value!r}"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, float) and isinstance(other, int | float):
        return abs(one - other) < 0.005
    return (None if one == "" else one) == (None if other == "" else other)


def _by_key(rows: Iterable[Row], key: Any) -> tuple[dict[Any, Row], list[Any]]:
    found: dict[Any, Row] = {}
    repeated = []
    for row in rows:
        if key(row) in found:
            repeated.append(key(row))
        found[key(row)] = row
    return found, repeated


def _role_key(row: Row) -> RoleKey:
    return row["externalOpportunityId"], row["leadId"], row["role"].casefold()


def _named(key: RoleKey) -> str:
    return f'role "{key[2]}" of person {key[1]} on opportunity {key[0]}'


# --- what it may cost ---------------------------------------------------------------------------------------------


@dataclass
class Fewest:
    """The fewest Marketo calls for each set of changes (design.md §7), remembering what was looked up before."""

    known: set[tuple[str, str]] = field(default_factory=set)
    named: set[str] = field(default_factory=set)

    def calls(self, before: Expected, after: Expected) -> dict[str, int]:
        """By kind of call, for what changed from *before* to *after*; people asked for once count as known."""
        changed = _changed_opportunities(before, after)
        asked = {pair for key in changed for pair in after.addresses.get(key, ())} - self.known
        self.known |= asked
        records = {
            "people looked up": len({address for _, address in asked}),
            "companies": len(self._companies(before, after)),
            "opportunities": sum(before.opportunities.get(k) != row for k, row in after.opportunities.items()),
            "roles": sum(before.roles.get(key) != row for key, row in after.roles.items()),
            "roles removed": len(before.roles.keys() - after.roles),
            "opportunities removed": len(before.opportunities.keys() - after.opportunities),
        }
        return {name: -(-number // A_CALL) for name, number in records.items() if number}

    def _companies(self, before: Expected, after: Expected) -> set[str]:
        new = after.companies.keys() - self.named
        changed = {key for key in self.named if before.accounts.get(key) != after.accounts.get(key)}
        self.named |= new
        return new | changed


def nothing() -> Expected:
    """What an empty Marketo holds."""
    return Expected({}, {}, {}, {})


def _changed_opportunities(before: Expected, after: Expected) -> set[str]:
    rows = {key for key, row in after.opportunities.items() if before.opportunities.get(key) != row}
    keys = before.roles.keys() | after.roles.keys()
    with_roles = {key[0] for key in keys if before.roles.get(key) != after.roles.get(key)}
    addresses = {key for key, pairs in after.addresses.items() if before.addresses.get(key) != pairs}
    return (rows | with_roles | addresses) & after.opportunities.keys()


# --- reading the emulators ----------------------------------------------------------------------------------------


def dataverse_rows(admin: Admin) -> dict[str, list[Row]]:
    return {name: admin.get(f"rows/{name}") for name in DATAVERSE_TABLES}


def marketo_rows(admin: Admin) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {name: admin.get(f"rows/{name}") for name in MARKETO_TABLES}
    return found | {"people-with-opportunity": admin.get("people-with-opportunity")}


class RestReader:
    """Counts through Marketo's own REST API, as any other client of it would see them."""

    def __init__(self, url: str, ca: str | Path, client: Client | None = None) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(ca)
        client = client or Client()
        asked = {"grant_type": "client_credentials", "client_id": client.id, "client_secret": client.secret}
        answer = self._session.post(f"{self._url}/identity/oauth/token", data=asked, timeout=30)
        answer.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def count(self, path: str, key: str, values: Iterable[str]) -> int:
        """How many records of *path* have one of *values* in field *key*."""
        wanted = sorted(values)
        return sum(self._count(path, key, wanted[at : at + A_CALL]) for at in range(0, len(wanted), A_CALL))

    def close(self) -> None:
        self._session.close()

    def _count(self, path: str, key: str, values: Sequence[str]) -> int:
        form = {"filterType": key, "filterValues": ",".join(values), "batchSize": str(A_CALL)}
        number = 0
        while True:
            url = f"{self._url}/rest/v1/{path}.json"
            answer = self._session.post(url, params={"_method": "GET"}, data=form, timeout=60).json()
            if not answer["success"]:
                raise RuntimeError(f"Marketo refused to list {path}: {answer['errors']}")
            number += len(answer.get("result", ()))
            if "nextPageToken" not in answer:
                return number
            form["nextPageToken"] = answer["nextPageToken"]


def rest_differences(wanted: Expected, reader: RestReader) -> list[str]:
    """The same counts, asked for through the REST API."""
    counts = {
        "opportunities": ("externalOpportunityId", wanted.opportunities.keys(), len(wanted.opportunities)),
        "opportunities/roles": ("externalOpportunityId", wanted.opportunities.keys(), len(wanted.roles)),
        "companies": ("externalCompanyId", wanted.companies.keys(), len(wanted.companies)),
    }
    found = {path: reader.count(path, key, values) for path, (key, values, _) in counts.items()}
    return [
        f"the REST API shows {found[path]} {path}, not {number}"
        for path, (_, _, number) in counts.items()
        if found[path] != number
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: no difference, 1: there are some."""
    options = _parser().parse_args(arguments)
    dataverse, marketo = Admin(options.dataverse, options.ca), Admin(options.marketo, options.ca)
    reader = RestReader(options.marketo, options.ca, Client(options.client_id, options.client_secret))
    try:
        found = marketo_rows(marketo)
        wanted = expected(dataverse_rows(dataverse), found["leads"])
        wrong = differences(wanted, found) + rest_differences(wanted, reader)
    finally:
        for each in (dataverse, marketo, reader):
            each.close()
    print("compared: " + ", ".join(f"{number} {name}" for name, number in wanted.figures.items()))
    for line in wrong:
        print(f"  {line}")
    print(f"differences: {len(wrong)}")
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.checker", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataverse", required=True, metavar="URL", help="the Dataverse emulator")
    parser.add_argument("--marketo", required=True, metavar="URL", help="the Marketo emulator")
    parser.add_argument("--ca", required=True, type=Path, metavar="FILE", help="the emulators' authority, ca.pem")
    parser.add_argument("--client-id", default=Client().id, metavar="ID", help="for the REST API (default: theirs)")
    parser.add_argument("--client-secret", default=Client().secret, metavar="TEXT")
    return parser


if __name__ == "__main__":
    sys.exit(main())
