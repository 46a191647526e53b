"""Rows and values of tests: each call names only what its test is about, the rest is plain and the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any
from uuid import UUID

from sync_core.mapping import Source, Stakeholders, SyncConfig
from sync_core.model import Connection, ConnectionRole, MarketoField, Rate, Role, Row
from sync_core.rules.association import CONTACT_TYPE, Association, Exclusion, LeftOut, Stake, associate, settle
from sync_core.rules.fields import marketo_fields
from sync_core.rules.sources import Knowledge, Labels

ACCOUNT_TYPE = 1  # object type codes (dataverse.md §6.5)
OPPORTUNITY_TYPE = 3
STAKEHOLDER = 1000  # connection role categories (dataverse.md §6.6)
SALES_TEAM = 1001
CREATED = "2026-01-05T09:00:00Z"
LATER = "2026-02-01T09:00:00Z"
DECISION_MAKER = "adccf191-576b-463b-be78-019a427eb2e5"
BUYER = "935e8a38-03dd-4fe2-9974-65266bf6fd33"
SELLER = "39c47e14-d479-457b-bbb6-bd43af886a05"
ROLES: Mapping[str, ConnectionRole] = {
    DECISION_MAKER: ConnectionRole("Decision Maker", STAKEHOLDER),
    BUYER: ConnectionRole("Economic Buyer", STAKEHOLDER),
    SELLER: ConnectionRole("Account Manager", SALES_TEAM),
}

_numbers = count(1)


def an_id() -> str:
    """A GUID that no other call gives."""
    return str(UUID(int=next(_numbers)))


def a_contact(
    id: str | None = None, *, account: str | None = None, master: str | None = None, inactive: bool = False
) -> Row:
    return {
        "contactid": id or an_id(),
        "_accountid_value": account,
        "_masterid_value": master,
        "statecode": int(inactive),
    }


def an_opportunity(
    *,
    customer: Row | str | None = None,
    parent_account: str | None = None,
    parent_contact: Row | None = None,
    **columns: Any,
) -> Row:
    """An opportunity whose customer is a contact (its row), an account (its id) or nobody."""
    contact = None if customer is None or isinstance(customer, str) else customer["contactid"]
    account = customer if isinstance(customer, str) else None
    return {
        "opportunityid": an_id(),
        "createdon": CREATED,
        "_customerid_value": contact or account,
        "_contactid_value": contact,
        "_accountid_value": account,
        "_parentaccountid_value": parent_account,
        "_parentcontactid_value": parent_contact and parent_contact["contactid"],
        **columns,
    }


def a_connection(
    other: Row | str,
    role: str | None = DECISION_MAKER,
    *,
    key: str | None = None,
    created: str = CREATED,
    active: bool = True,
) -> Connection:
    """One stakeholder pair; *other* is a contact's row, or the id of an account."""
    account = isinstance(other, str)
    return Connection(
        key=key or an_id(),
        opportunity=an_id(),
        other=other if isinstance(other, str) else other["contactid"],
        other_type=ACCOUNT_TYPE if account else CONTACT_TYPE,
        role=role,
        created=created,
        active=active,
    )


def a_pair_of_rows(contact: Row, role: str | None = DECISION_MAKER, **columns: Any) -> tuple[Row, Row]:
    """The two `connection` rows that Dataverse keeps of one stakeholder: from the opportunity, and its mirror."""
    opportunity, one, two = an_id(), an_id(), an_id()
    shared: dict[str, Any] = {"createdon": CREATED, "statecode": 0, **columns}

    def ends(own: str, other: str) -> dict[str, Any]:
        return {
            f"_record{own}id_value": opportunity,
            f"record{own}objecttypecode": OPPORTUNITY_TYPE,
            f"_record{own}roleid_value": None,
            f"_record{other}id_value": contact["contactid"],
            f"record{other}objecttypecode": CONTACT_TYPE,
            f"_record{other}roleid_value": role,
        }

    front = shared | ends("1", "2") | {"connectionid": one, "_relatedconnectionid_value": two}
    mirror = shared | ends("2", "1") | {"connectionid": two, "_relatedconnectionid_value": one}
    return front, mirror


def by_id(*contacts: Row) -> dict[str, Row]:
    return {contact["contactid"]: contact for contact in contacts}


def association_of(
    opportunity: Row,
    *connections: Connection,
    contacts: Sequence[Row] = (),
    roles: Mapping[str, ConnectionRole] = ROLES,
    **rules: Any,
) -> Association:
    """What the rules make of it, under the default configuration but for *rules*."""
    return associate(opportunity, connections, by_id(*contacts), roles, Stakeholders(**rules))


def roles_of(
    association: Association, people: Mapping[str, int | Exclusion] | None = None
) -> tuple[tuple[Role, ...], tuple[LeftOut, ...]]:
    """The settled roles and who is left out; without *people* each contact is a person of its own, from 1 on."""
    contacts = dict.fromkeys(stake.contact for stake in association.stakes)
    return settle(association, people if people is not None else {c: n for n, c in enumerate(contacts, 1)})


def a_stake(
    contact: str = "contact",
    text: str = "Decision Maker",
    *,
    primary: bool = False,
    created: str = CREATED,
    reason: str,
) -> Stake:
    return Stake(contact, text, primary, created, reason)


def a_role(
    lead: int = 1,
    text: str = "Decision Maker",
    *,
    primary: bool = False,
    created: str = CREATED,
    reasons: tuple[str, ...] = (),
) -> Role:
    return Role(lead, text, primary, created, reasons)


NOTHING_KNOWN = Knowledge({}, {})


def a_field(
    type: str = "string", length: int | None = None, *, name: str = "field", updateable: bool = True
) -> MarketoField:
    return MarketoField(name, type, length, updateable)


def a_config(**sections: Any) -> SyncConfig:
    return SyncConfig.model_validate({"opportunity": {}} | sections)


def source(value: str | Mapping[str, Any]) -> Source:
    """One line of `[opportunity]`, read as `sync.toml` is read."""
    return a_config(opportunity={"field": value}).opportunity.fields["field"]


def converted(value: Any, field: MarketoField | None = None, **options: Any) -> Any:
    """What one Dataverse value becomes in one Marketo field."""
    field = field or a_field()
    fields = {field.name: source({"column": "column", **options})}
    return marketo_fields({"column": value}, fields, {field.name: field}, NOTHING_KNOWN).values[field.name]


def mapped(
    row: Row,
    value: str | Mapping[str, Any],
    field: MarketoField | None = None,
    labels: Labels | None = None,
    rates: Mapping[str, Rate] | None = None,
) -> Any:
    """What one line of the mapping makes of *row*."""
    field = field or a_field()
    known = Knowledge(labels or {}, rates or {})
    return marketo_fields(row, {field.name: source(value)}, {field.name: field}, known).values[field.name]
