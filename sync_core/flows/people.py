"""Who a contact is in Marketo: looked up by the rules of sync.toml in order, remembered a while, created if wanted."""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sync_core.errors import SplitBatch, SyncError, Unavailable
from sync_core.flows.applied import leave_alone
from sync_core.flows.observe import PER_CALL, chunks
from sync_core.flows.reading import Reading
from sync_core.flows.world import World
from sync_core.mapping import Match
from sync_core.model import Lead, MarketoObject, Row
from sync_core.rules.association import Exclusion, account_of
from sync_core.rules.fields import UnfitValueError
from sync_core.rules.planning import refusal

LOCK = ("lock", "people")
LOCKED_S = 120.0  # longer than Marketo's own limit for a write of people, 90 seconds (marketo.md §2)
EMAIL = "email"
OF_COMPANY = frozenset(
    (
        *("company", "website", "site", "industry", "mainPhone", "annualRevenue", "numberOfEmployees", "sicCode"),
        *("billingStreet", "billingCity", "billingState", "billingPostalCode", "billingCountry", "mktoCompanyNotes"),
    )
)
"""Fields of a person that belong to the company: refused for somebody who is tied to one (marketo.md §3.4, 1021)."""

Found = int | Exclusion


@dataclass(slots=True)
class People:
    """The people of one delivery: by contact a lead id or why none, and how many calls it took to know.

    `asked` are the contacts that Marketo was asked about just now; `companies`: externalCompanyId in Marketo of those
    looked up just now, by lead id, '' if they have none.
    """

    known: dict[str, Found] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    calls: int = 0
    companies: dict[int, str] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """Who is to be created; somebody who was missing a moment ago waits for the next time we ask."""
        return sorted(contact for contact in self.asked if self.known[contact] is Exclusion.UNKNOWN_PERSON)


def people(
    world: World,
    contacts: Mapping[str, Row],
    ids: Collection[str],
    *,
    doubted: Collection[str] = (),
    missing_for: timedelta = timedelta(0),
    most_calls: int | None = None,
) -> People:
    """Look up *ids*: of the rules of `people.match` the first that finds somebody decides.

    The *doubted* are asked for whatever is remembered. Somebody who was missing less than *missing_for* ago counts
    as missing still: one person may stand in many deliveries of a first load. Of who would need more than *most_calls*
    nothing is known until the next time.
    """
    rules = world.config.people.match
    found = People()
    values = {contact: [_value(rule, contacts[contact]) for rule in rules] for contact in ids}
    for contact, each in values.items():
        if all(isinstance(value, Exclusion) for value in each):
            found.known[contact] = next(value for value in each if isinstance(value, Exclusion))
    trusted = [contact for contact in values if contact not in found.known and contact not in doubted]
    found.known |= _remembered(world, contacts, trusted, missing_for)
    asked = [contact for contact in values if contact not in found.known]
    found.asked = set(asked)
    for number, rule in enumerate(rules):
        by_value = defaultdict(list)
        for contact in asked:
            if contact not in found.known and isinstance(value := values[contact][number], str):
                by_value[value].append(contact)
        some = sorted(by_value)
        if most_calls is not None:
            some = some[: max(0, most_calls - found.calls) * PER_CALL]
            found.asked -= {contact for value in by_value.keys() - set(some) for contact in by_value[value]}
        leads = _look_up(world, rule.marketo, some)
        found.calls += -(-len(some) // PER_CALL)
        for value, person in leads.items():
            found.known |= dict.fromkeys(by_value[value], person.id if isinstance(person, Lead) else person)
            if isinstance(person, Lead):
                found.companies[person.id] = person.company
    for contact in asked:
        if contact not in found.known:
            found.known[contact] = _missing(world, values[contact]) if contact in found.asked else Exclusion.UNASKED
    linked = world.config.people.link_company != "never"  # then `link` remembers them, once it is done
    remember(
        world, contacts, {c: found.known[c] for c in found.asked if not (linked and isinstance(found.known[c], int))}
    )
    return found


def _missing(world: World, values: Sequence[str | Exclusion]) -> Exclusion:
    """Why nobody was found; who has no usable address can't be created, and waiting would not help."""
    config = world.config.people
    if config.when_missing == "create":
        mail = next(value for rule, value in zip(config.match, values, strict=True) if rule.marketo == EMAIL)
        if isinstance(mail, Exclusion):
            return mail
    return Exclusion.UNKNOWN_PERSON


def _value(rule: Match, contact: Row) -> str | Exclusion:
    """What to look up, in lower case: e-mail is ASCII only (marketo.md §3.6), a comma would split the filter."""
    return address(contact.get(rule.dataverse), email=rule.marketo == EMAIL)


def address(value: object, *, email: bool = True) -> str | Exclusion:
    text = str(value or "").strip().lower()
    if not text:
        return Exclusion.NO_EMAIL
    usable = text.isascii() and not set(text) & set(", \t\r\n;") and (not email or text.count("@") == 1)
    return text if usable else Exclusion.BAD_EMAIL


# --- what is remembered ---------------------------------------------------------------------------------------


def _fingerprint(world: World, contacts: Mapping[str, Row], contact: str, *, missing: bool) -> str:
    """8 bytes that change with what the look-up depends on: the values, the Marketo subscription, and, where people
    are linked to companies, the contact's account; of the *missing* also what is done about them. The address itself
    is never stored.
    """
    config = world.config.people
    parts = [
        config.several,
        config.when_missing if missing else "",
        *(f"{rule.marketo} {_value(rule, contacts[contact])}" for rule in config.match),
    ]
    if config.link_company != "never":
        parts.append(account_of(contacts, contact) or "")
    raw = hashlib.blake2b("\n".join(parts).encode(), digest_size=8, key=world.subscription.encode()[:64]).digest()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _remembered(
    world: World, contacts: Mapping[str, Row], ids: Collection[str], missing_for: timedelta
) -> dict[str, Found]:
    """Lead ids younger than `people.cache_hours` whose contact still has the same values; the missing a while."""
    now = world.clock.now()
    oldest = (now - timedelta(hours=world.config.people.cache_hours)).isoformat()
    missing_since = (now - missing_for).isoformat()
    found: dict[str, Found] = {}
    for contact, entry in world.people.read(ids).items():
        if entry["key"] != _fingerprint(world, contacts, contact, missing=not entry["lead"]):
            continue
        if entry["lead"] and entry["at"] > oldest:
            found[contact] = int(entry["lead"])
        elif not entry["lead"] and entry["at"] > missing_since:
            found[contact] = Exclusion.UNKNOWN_PERSON
    return found


def remember(
    world: World, contacts: Mapping[str, Row], found: Mapping[str, Found], *, tied: Mapping[str, str] | None = None
) -> None:
    """*tied*: the companies that contacts asked for, whoever got the person."""
    at = world.clock.now().isoformat()
    world.people.write(
        {
            contact: {"lead": lead, "key": _fingerprint(world, contacts, contact, missing=not lead), "at": at}
            | ({} if lead else {"missing": True})
            | ({"tied": tied[contact]} if tied and contact in tied else {})
            for contact, each in found.items()
            if isinstance(lead := 0 if each is Exclusion.UNKNOWN_PERSON else each, int)
        }
    )


# --- asking Marketo -------------------------------------------------------------------------------------------


def _look_up(world: World, filter_type: str, values: Sequence[str]) -> dict[str, Lead | Exclusion]:
    """The person of each value that Marketo knows; of several, as `people.several` says."""
    found: defaultdict[str, list[Lead]] = defaultdict(list)
    too_many: dict[str, Lead | Exclusion] = {}

    def ask(batch: list[str]) -> Sequence[Lead]:
        try:
            return world.target.leads(filter_type, batch)
        except SplitBatch as error:
            if len(batch) == 1 and error.code != "1003":  # trouble of Marketo's, not the person's
                raise Unavailable(str(error)) from None
            if len(batch) == 1:
                too_many[batch[0]] = Exclusion.TOO_MANY
                return ()
            half = len(batch) // 2
            return (*ask(batch[:half]), *ask(batch[half:]))

    for leads in world.fan_out(ask, chunks(values)):
        for lead in leads:
            found[lead.value].append(lead)
    return too_many | {value: _one_of(world, leads) for value, leads in found.items()}


def _one_of(world: World, leads: Sequence[Lead]) -> Lead | Exclusion:
    several = world.config.people.several
    if several == "park" and len({lead.id for lead in leads}) > 1:
        return Exclusion.SEVERAL
    best = max if several == "most_recent" else min
    return best(leads, key=lambda lead: (lead.updated, lead.id))


# --- creating and linking -------------------------------------------------------------------------------------


def create(
    world: World,
    contacts: Mapping[str, Row],
    found: People,
    company_of: Callable[[str], str | None],
    until: datetime,
) -> dict[str, str]:
    """Create whoever of *found* is missing, and put the new ids there; why not, by contact.

    One delivery at a time: two that create the same address at once would make two people (marketo.md §3.6).
    *company_of* gives the externalCompanyId of a contact's account, if Marketo has it.
    """
    ids = found.missing()
    if not ids:
        return {}
    if not _lock(world):
        return dict.fromkeys(ids, "people: another delivery is creating some")
    records, failed = _records(world, contacts, ids, company_of)
    try:
        for batch in chunks(records.items()):
            answers = world.target.create_people(
                [record for _, (record, _) in batch], world.config.people.partition, until=until
            )
            found.calls += 1
            for (_, (_, same)), answer in zip(batch, answers.records, strict=True):
                if answer.id is None:
                    failed |= dict.fromkeys(same, f"people: {refusal(answer)}")
                else:
                    found.known |= dict.fromkeys(same, answer.id)
                    remember(world, contacts, dict.fromkeys(same, answer.id))
    except SyncError as error:
        if not getattr(error, "unanswered", False):
            world.documents.delete(*LOCK)
        raise
    world.documents.delete(*LOCK)
    return failed


def check_fields(world: World) -> Reading:
    """What created people get; keeps for `status` which of it can't be filled now."""
    reading = Reading(world, "contact", MarketoObject.LEAD, world.config.people.fields)
    leave_alone(world, "people", reading.suspended)
    return reading


def _records(
    world: World,
    contacts: Mapping[str, Row],
    ids: Sequence[str],
    company_of: Callable[[str], str | None],
) -> tuple[dict[str, tuple[dict[str, Any], list[str]]], dict[str, str]]:
    """By address the person to create and the contacts that share it; and why not, by contact."""
    rules = world.config.people.match
    reading = check_fields(world)
    rows = reading.rows(ids)
    records: dict[str, tuple[dict[str, Any], list[str]]] = {}
    failed: dict[str, str] = {}
    for contact in ids:
        values = {rule.marketo: _value(rule, contacts[contact]) for rule in rules}
        mail = str(values[EMAIL])  # `_missing` left out who has no usable one
        if mail in records:
            records[mail][1].append(contact)
        else:
            try:
                record = dict(reading.values(rows[contact]).values) if contact in rows else {}
            except UnfitValueError as error:
                failed[contact] = f"people: {error}"
                continue
            # Compared in lower case, written as it is; what sync.toml maps comes first, but for the address.
            looked_up = {rule.marketo: str(contacts[contact].get(rule.dataverse) or "").strip() for rule in rules}
            usable = {name for name, value in values.items() if isinstance(value, str)}
            record = {name: value for name, value in looked_up.items() if name in usable} | record | {EMAIL: mail}
            if company := company_of(contact):
                record = {name: value for name, value in record.items() if name not in OF_COMPANY}
                record["externalCompanyId"] = company
            records[mail] = (record, [contact])
    return records, failed


def link(
    world: World,
    contacts: Mapping[str, Row],
    found: People,
    company_of: Callable[[str], str | None],
    until: datetime,
) -> int:
    """Tie people to the companies of their contacts' accounts, as `people.link_company` allows; how many.

    Only those just looked up: their company is known. Marketo moves a person to another company, and never out of one.
    Contacts of different companies may share an address: each moves the person once, until its account changes.
    """
    always = world.config.people.link_company == "always"
    people = {
        c: lead for c in sorted(found.known) if isinstance(lead := found.known[c], int) and lead in found.companies
    }
    companies = {contact: company for contact in people if (company := company_of(contact))}
    tied = {contact: entry.get("tied") for contact, entry in world.people.read(companies.keys()).items()}
    fitting = {
        people[c] for c, company in companies.items() if company.casefold() == found.companies[people[c]].casefold()
    }
    wanted: dict[int, str] = {}
    for contact, company in companies.items():
        lead = people[contact]
        moves = always and tied.get(contact) != company
        if lead not in fitting and (moves or not found.companies[lead]):
            wanted.setdefault(lead, company)
    linked, refused = 0, set[int]()
    for batch in chunks(wanted.items()):
        records = [{"id": lead, "externalCompanyId": company} for lead, company in batch]
        answers = world.target.link_people(records, until=until)
        found.calls += 1
        linked += sum(answer.id is not None for answer in answers.records)
        refused |= {lead for (lead, _), answer in zip(batch, answers.records, strict=True) if answer.id is None}
    done = {c: found.known[c] for c in found.asked if isinstance(found.known[c], int) and found.known[c] not in refused}
    remember(world, contacts, done, tied=companies)
    return linked


def _lock(world: World) -> bool:
    """Whether it is ours now; one whose holder died opens by itself."""
    now, ours = world.clock.now(), False

    def taken(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
        nonlocal ours
        held = value.get("until")
        ours = not held or datetime.fromisoformat(held) <= now
        return {"until": (now + timedelta(seconds=LOCKED_S)).isoformat()} if ours else None

    world.change(*LOCK, taken)
    return ours
