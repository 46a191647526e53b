"""Who and which account belongs to an opportunity, and why (design.md §3). Pure.

Two steps, since Marketo keys roles by person and several contacts may share one address:
`associate` says which contacts count and as what, `settle` turns them into Marketo's roles once the people are known.
Every role carries its reasons, every contact left out carries one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from enum import StrEnum

from sync_core.mapping import RoleSwitch, Stakeholders
from sync_core.model import Connection, ConnectionRole, Role, Row
from sync_core.rules.fields import shorten

CONTACT_TYPE = 2  # object type code of contact (dataverse.md §6.1)
ROLE_LENGTH = 50  # the smaller of the documented 50 and the described 255 (marketo.md §3.3)
CUSTOMER = "customer"
PARENT_CONTACT = "parent contact"


class Exclusion(StrEnum):
    """Why somebody connected to an opportunity has no role on it in Marketo."""

    NOT_A_CONTACT = "the connection leads to a record that is not a contact"
    ENDED = "the connection is inactive or has ended"
    NO_ROLE = "the connection has no role"
    UNKNOWN_ROLE = "the connection role can't be read in Dynamics"
    CATEGORY = "the connection role is in no stakeholder category"
    EXCLUDED = "the connection role is excluded in the mapping"
    UNREADABLE = "the contact can't be read in Dynamics"
    NO_EMAIL = "the contact has no e-mail address in Dynamics"
    BAD_EMAIL = "the contact's e-mail address is none that Marketo accepts"
    TOO_MANY = "more than 1,000 people in Marketo share the contact's e-mail address"
    SEVERAL = "several people in Marketo have what the contact is matched by"
    UNKNOWN_PERSON = "no person in Marketo has the contact's e-mail address"
    UNASKED = "nobody could be asked for today any more (people.recheck_calls)"


@dataclass(frozen=True, slots=True)
class Stake:
    """One contact's standing in an opportunity, before it is known who that is in Marketo."""

    contact: str
    text: str
    primary: bool
    created: str
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    who: str
    why: Exclusion
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Association:
    """The account and the stakes of one opportunity, with the rule that applied to its customer."""

    account: str | None
    rule: str
    stakes: tuple[Stake, ...]
    left_out: tuple[LeftOut, ...]


def associate(
    opportunity: Row,
    connections: Iterable[Connection],
    contacts: Mapping[str, Row],
    roles: Mapping[str, ConnectionRole],
    config: Stakeholders,
) -> Association:
    """Apply the customer table, then one stake for each stakeholder connection.

    *contacts* holds every contact that may matter, masters of merged ones included, by id.
    """
    account, rule, found = _customer(opportunity, contacts, config)
    stakes = [item for item in found if isinstance(item, Stake)]
    left_out = [item for item in found if isinstance(item, LeftOut)]
    for connection in sorted(connections, key=lambda item: (item.created, item.key)):
        item = _stakeholder(connection, contacts, roles, config)
        if isinstance(item, Stake):
            stakes.append(item)
        else:
            left_out.append(item)
    return Association(account, rule, tuple(stakes), tuple(left_out))


def _customer(
    opportunity: Row, contacts: Mapping[str, Row], config: Stakeholders
) -> tuple[str | None, str, list[Stake | LeftOut]]:
    """Account, rule in words, and what the customer contributes: the table of design.md §3."""
    customer = opportunity.get("_customerid_value")
    stakes: list[Stake | LeftOut] = []
    account: str | None = None
    if customer is None:
        rule = "no customer: no account and no role from it"
    elif is_contact(opportunity, contacts):
        account = account_of(contacts, customer)
        rule = "the customer is a contact: its account, and a primary role for it"
        stakes.append(_form_stake(customer, CUSTOMER, opportunity, contacts, config))
        if account is None and config.customer == "account+contact":
            account = opportunity.get("_parentaccountid_value")
            rule = "the customer is a contact without an account: the Account field, and a primary role for the contact"
    else:
        account = customer
        rule = "the customer is an account: that account, and no role from it"
    parent = opportunity.get("_parentcontactid_value")
    if config.customer == "account+contact" and parent and parent != customer:
        stakes.append(_form_stake(parent, PARENT_CONTACT, opportunity, contacts, config))
    return account, rule, stakes


def is_contact(opportunity: Row, contacts: Mapping[str, Row]) -> bool:
    """Whether `customerid` is a contact: by its shadow columns, else by having been read as one (dataverse.md §6.2)."""
    customer = opportunity.get("_customerid_value")
    if customer == opportunity.get("_contactid_value"):
        return customer is not None
    return customer != opportunity.get("_accountid_value") and customer in contacts


def master(contact: str, contacts: Mapping[str, Row]) -> str | None:
    """The contact that *contact* stands for after merges, followed to the end; None when that can't be read.

    Merges that lead in a circle have no end: the contact stands for itself.
    """
    standing, seen = contact, {contact}
    while standing in contacts and (winner := contacts[standing].get("_masterid_value")):
        if winner in seen:
            return contact
        seen.add(winner)
        standing = winner
    return standing if standing in contacts else None


def account_of(contacts: Mapping[str, Row], contact: str) -> str | None:
    """The account in `parentcustomerid`, if that is one: its read-only shadow `accountid` tells (dataverse.md §6.3)."""
    standing = master(contact, contacts)
    return contacts[standing].get("_accountid_value") if standing else None


def role_text(text: str) -> str:
    """A role's text as it is posted."""
    return shorten(text.strip(), ROLE_LENGTH)


def _form_stake(
    contact: str, reason: str, opportunity: Row, contacts: Mapping[str, Row], config: Stakeholders
) -> Stake | LeftOut:
    role = config.customer_role
    text = role.text(opportunity) if isinstance(role, RoleSwitch) else role
    standing = master(contact, contacts)
    if standing is None:
        return LeftOut(contact, Exclusion.UNREADABLE, reason, text)
    return Stake(standing, role_text(text), True, str(opportunity.get("createdon") or ""), reason)


def _stakeholder(
    connection: Connection,
    contacts: Mapping[str, Row],
    roles: Mapping[str, ConnectionRole],
    config: Stakeholders,
) -> Stake | LeftOut:
    role = roles.get(connection.role or "")
    name = config.default_role if role is None else role.name
    text = name if role is None else {_fold(old): new for old, new in config.rename.items()}.get(_fold(name), name)
    standing = master(connection.other, contacts)
    if why := _excluded(connection, role, standing, config):
        return LeftOut(connection.other, why, connection.key, "" if role is None else role.name)
    primary = not {_fold(name), _fold(text)}.isdisjoint(map(_fold, config.primary_roles))
    return Stake(str(standing), role_text(text), primary, connection.created, connection.key)


def _fold(name: str) -> str:
    """Role names are compared as Marketo compares them: without regard to case and blanks around."""
    return name.strip().casefold()


def _excluded(
    connection: Connection, role: ConnectionRole | None, standing: str | None, config: Stakeholders
) -> Exclusion | None:
    if connection.other_type != CONTACT_TYPE:
        return Exclusion.NOT_A_CONTACT
    if not connection.active:
        return Exclusion.ENDED
    if role is None and connection.role:
        return Exclusion.UNKNOWN_ROLE
    if role is None and not config.without_role:
        return Exclusion.NO_ROLE
    if role is not None and role.category not in config.categories:
        return Exclusion.CATEGORY
    if role is not None and _fold(role.name) in map(_fold, config.exclude):
        return Exclusion.EXCLUDED
    return Exclusion.UNREADABLE if standing is None else None


def settle(
    association: Association, people: Mapping[str, int | Exclusion]
) -> tuple[tuple[Role, ...], tuple[LeftOut, ...]]:
    """Marketo's roles, and everybody left out, once *people* says who each contact is: a lead id or why not.

    Stakes with the same key (lead, text without regard to case) become one role with all their reasons, written as
    the first of them writes it: the customer, the Contact field, then the earliest connection. The first primary
    one in the same order stays primary, the others don't. The order of *association* doesn't matter.
    """
    merged: dict[tuple[int, str], Role] = {}
    left_out = list(association.left_out)
    for stake in sorted(association.stakes, key=lambda item: (_rank((item.reason,)), item.created, astuple(item))):
        lead = people[stake.contact]
        if isinstance(lead, Exclusion):
            left_out.append(LeftOut(stake.contact, lead, stake.reason, stake.text))
            continue
        role = Role(lead, stake.text, stake.primary, stake.created, (stake.reason,))
        known = merged.get(role.key)
        merged[role.key] = role if known is None else _merge(known, role)
    return _one_primary(list(merged.values())), tuple(left_out)


def _merge(one: Role, other: Role) -> Role:
    return replace(
        one,
        primary=one.primary or other.primary,
        created=min(filter(None, (one.created, other.created)), default=""),
        reasons=tuple(sorted({*one.reasons, *other.reasons})),
    )


def _rank(reasons: Sequence[str]) -> int:
    return 0 if CUSTOMER in reasons else 1 if PARENT_CONTACT in reasons else 2


def _one_primary(roles: Sequence[Role]) -> tuple[Role, ...]:
    primary = [role for role in roles if role.primary]
    if len(primary) > 1:
        chosen = min(primary, key=lambda role: (_rank(role.reasons), role.created, role.key))
        roles = [replace(role, primary=role is chosen) for role in roles]
    return tuple(sorted(roles, key=lambda role: role.key))
