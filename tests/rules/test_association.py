"""The association rules of design.md §3, one test for each sentence, and what holds whatever the data is."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_core.adapters.dataverse import fold
from sync_core.mapping import Stakeholders
from sync_core.model import Connection, ConnectionRole, Row
from sync_core.rules.association import (
    CUSTOMER,
    PARENT_CONTACT,
    Association,
    Exclusion,
    associate,
    is_contact,
    master,
    role_text,
    settle,
)
from tests.builders import (
    BUYER,
    CREATED,
    DECISION_MAKER,
    LATER,
    ROLES,
    SALES_TEAM,
    SELLER,
    STAKEHOLDER,
    a_connection,
    a_contact,
    a_pair_of_rows,
    a_stake,
    an_id,
    an_opportunity,
    association_of,
    by_id,
    roles_of,
)

ACME = "00000000-0000-4000-8000-00000000acce"
BOLT = "00000000-0000-4000-8000-0000000b0170"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
TWO_FIELDS = "account+contact"


def texts(association: Association) -> list[str]:
    return [role.text for role in roles_of(association)[0]]


def reasons_left_out(association: Association) -> list[Exclusion]:
    return [item.why for item in association.left_out]


# --- the customer ---------------------------------------------------------------------------------------------


def test_a_customer_that_is_a_contact_gives_its_account_and_a_primary_role() -> None:
    ann = a_contact(account=ACME)

    association = association_of(an_opportunity(customer=ann), contacts=[ann])
    roles, left_out = roles_of(association)

    assert association.account == ACME
    assert [(role.text, role.primary, role.reasons) for role in roles] == [("Primary Contact", True, (CUSTOMER,))]
    assert not left_out


def test_a_customer_that_is_a_contact_without_an_account_gives_no_account() -> None:
    ann = a_contact(account=None)

    association = association_of(an_opportunity(customer=ann, parent_account=ACME), contacts=[ann])

    assert association.account is None
    assert texts(association) == ["Primary Contact"]


def test_the_parent_of_a_contact_counts_only_if_it_is_an_account() -> None:
    ann = dict(a_contact()) | {"_parentcustomerid_value": an_id(), "_parentcontactid_value": an_id()}

    assert association_of(an_opportunity(customer=ann), contacts=[ann]).account is None


def test_a_customer_that_is_an_account_gives_that_account_and_no_role() -> None:
    association = association_of(an_opportunity(customer=ACME))

    assert association.account == ACME
    assert not association.stakes


def test_with_both_form_fields_filled_the_account_counts_and_the_contact_gives_no_role() -> None:
    ann = a_contact(account=BOLT)

    association = association_of(an_opportunity(customer=ACME, parent_account=ACME, parent_contact=ann), contacts=[ann])

    assert association.account == ACME
    assert not association.stakes


def test_without_a_customer_there_is_no_account_and_no_role_from_it() -> None:
    ann = a_contact(account=ACME)

    association = association_of(an_opportunity(parent_account=ACME, parent_contact=ann), contacts=[ann])

    assert association.account is None
    assert not association.stakes


def test_nobody_is_no_contact() -> None:
    assert is_contact(an_opportunity(), {}) is False


@pytest.mark.parametrize("customer", ["contact", "account", "nobody"])
def test_stakeholders_count_whatever_the_customer_is(customer: str) -> None:
    ann, bob = a_contact(), a_contact()
    found = {"contact": ann, "account": ACME, "nobody": None}[customer]

    association = association_of(an_opportunity(customer=found), a_connection(bob), contacts=[ann, bob])

    assert "Decision Maker" in texts(association)


def test_a_customer_without_shadow_columns_is_a_contact_if_it_was_read_as_one() -> None:
    ann = a_contact(account=ACME)
    opportunity = dict(an_opportunity(customer=ann)) | {"_contactid_value": None}

    assert association_of(opportunity, contacts=[ann]).account == ACME


def test_a_customer_contact_that_cannot_be_read_gives_no_role_and_a_reason() -> None:
    ann = a_contact(account=ACME)

    association = association_of(an_opportunity(customer=ann))

    assert association.account is None
    assert [(item.who, item.why, item.reason) for item in association.left_out] == [
        (ann["contactid"], Exclusion.UNREADABLE, CUSTOMER)
    ]


def test_a_customer_who_is_also_a_stakeholder_has_both_roles() -> None:
    ann = a_contact()

    roles, _ = roles_of(association_of(an_opportunity(customer=ann), a_connection(ann), contacts=[ann]))

    assert {(role.lead, role.text, role.primary) for role in roles} == {
        (1, "Primary Contact", True),
        (1, "Decision Maker", False),
    }


def test_the_customers_role_can_depend_on_a_column() -> None:
    ann = a_contact()
    rule = {"when": "new_kind", "is": {"2": "Grantor", "true": "Yes"}, "else": "Donor"}

    def text(value: object) -> list[str]:
        return texts(association_of(an_opportunity(customer=ann, new_kind=value), contacts=[ann], customer_role=rule))

    assert text(2) == ["Grantor"]
    assert text(True) == ["Yes"]
    assert text(7) == ["Donor"]
    assert text(None) == ["Donor"]


# --- both form fields: account+contact ------------------------------------------------------------------------


def test_account_and_contact_mode_gives_the_contact_field_a_primary_role() -> None:
    ann = a_contact(account=BOLT)

    association = association_of(an_opportunity(customer=ACME, parent_contact=ann), contacts=[ann], customer=TWO_FIELDS)
    roles, _ = roles_of(association)

    assert association.account == ACME
    assert [(role.text, role.primary, role.reasons) for role in roles] == [("Primary Contact", True, (PARENT_CONTACT,))]


def test_account_and_contact_mode_takes_the_account_field_for_a_contact_without_account() -> None:
    ann = a_contact(account=None)

    association = association_of(
        an_opportunity(customer=ann, parent_account=ACME, parent_contact=ann), contacts=[ann], customer=TWO_FIELDS
    )

    assert association.account == ACME
    assert texts(association) == ["Primary Contact"]


def test_account_and_contact_mode_prefers_the_contacts_own_account() -> None:
    ann = a_contact(account=BOLT)

    association = association_of(an_opportunity(customer=ann, parent_account=ACME), contacts=[ann], customer=TWO_FIELDS)

    assert association.account == BOLT


def test_in_account_and_contact_mode_two_form_contacts_have_roles_and_the_customer_alone_is_primary() -> None:
    ann, bob = a_contact("00000000-0000-4000-8000-00000000000b"), a_contact("00000000-0000-4000-8000-00000000000a")

    roles, _ = roles_of(
        association_of(an_opportunity(customer=ann, parent_contact=bob), contacts=[ann, bob], customer=TWO_FIELDS),
        {ann["contactid"]: 2, bob["contactid"]: 1},
    )

    assert [(role.lead, role.primary) for role in roles] == [(1, False), (2, True)]


# --- stakeholders ---------------------------------------------------------------------------------------------


def test_each_connection_to_a_contact_gives_one_role() -> None:
    ann, bob = a_contact(), a_contact()
    connections = [a_connection(ann), a_connection(ann, BUYER), a_connection(bob)]

    roles, left_out = roles_of(association_of(an_opportunity(), *connections, contacts=[ann, bob]))

    assert [role.key for role in roles] == [(1, "decision maker"), (1, "economic buyer"), (2, "decision maker")]
    assert [role.reasons for role in roles] == [(item.key,) for item in connections]
    assert not any(role.primary for role in roles)
    assert not left_out


def test_a_pair_of_mirrored_rows_gives_the_same_role_in_either_orientation() -> None:
    ann = a_contact()
    front, mirror = a_pair_of_rows(ann)

    found = [fold(rows, NOW) for rows in ([front], [mirror], [front, mirror], [mirror, front])]
    roles = [roles_of(association_of(an_opportunity(), *pair, contacts=[ann]))[0] for pair in found]

    assert [len(each) for each in roles] == [1, 1, 1, 1]
    assert all(each == roles[0] for each in roles)


@pytest.mark.parametrize(
    "columns",
    [{"statecode": 1}, {"effectiveend": "2026-02-28T23:59:59Z"}, {"effectivestart": "2026-03-02T00:00:00Z"}],
    ids=["deactivated", "ended", "not begun"],
)
def test_a_connection_that_is_not_in_force_gives_no_role(columns: dict[str, Any]) -> None:
    ann = a_contact()

    association = association_of(an_opportunity(), *fold(a_pair_of_rows(ann, **columns), NOW), contacts=[ann])

    assert not association.stakes
    assert reasons_left_out(association) == [Exclusion.ENDED]


def test_a_deleted_connection_takes_its_role_with_it() -> None:
    ann = a_contact()
    first, second = a_connection(ann), a_connection(ann, BUYER)

    before, _ = roles_of(association_of(an_opportunity(), first, second, contacts=[ann]))
    after, _ = roles_of(association_of(an_opportunity(), second, contacts=[ann]))

    assert {role.text for role in before} - {role.text for role in after} == {"Decision Maker"}


def test_a_role_goes_only_with_its_last_reason() -> None:
    ann = a_contact()
    first, second = a_connection(ann), a_connection(ann)

    both, _ = roles_of(association_of(an_opportunity(), first, second, contacts=[ann]))
    one, _ = roles_of(association_of(an_opportunity(), second, contacts=[ann]))
    none, _ = roles_of(association_of(an_opportunity(), contacts=[ann]))

    assert [role.reasons for role in both] == [tuple(sorted((first.key, second.key)))]
    assert [role.reasons for role in one] == [(second.key,)]
    assert none == ()


def test_a_changed_connection_role_gives_the_new_role_instead_of_the_old() -> None:
    ann = a_contact()
    connection = a_connection(ann)

    changed = replace(connection, role=BUYER)

    assert texts(association_of(an_opportunity(), connection, contacts=[ann])) == ["Decision Maker"]
    assert texts(association_of(an_opportunity(), changed, contacts=[ann])) == ["Economic Buyer"]


def test_a_merged_contact_stands_for_its_master_followed_to_the_end() -> None:
    winner = a_contact(account=ACME)
    middle = a_contact(master=winner["contactid"], inactive=True)
    loser = a_contact(account=BOLT, master=middle["contactid"], inactive=True)

    association = association_of(an_opportunity(customer=loser), a_connection(loser), contacts=[winner, middle, loser])

    assert {stake.contact for stake in association.stakes} == {winner["contactid"]}
    assert association.account == ACME


def test_a_merged_contact_and_its_master_share_one_role() -> None:
    winner = a_contact()
    loser = a_contact(master=winner["contactid"], inactive=True)
    connections = [a_connection(loser), a_connection(winner)]

    roles, _ = roles_of(association_of(an_opportunity(), *connections, contacts=[winner, loser]))

    assert [role.reasons for role in roles] == [tuple(sorted(item.key for item in connections))]


def test_merges_that_lead_in_a_circle_leave_everybody_as_they_are() -> None:
    ann = dict(a_contact())
    bob = a_contact(master=ann["contactid"])
    cid = a_contact(master=bob["contactid"])
    ann["_masterid_value"] = bob["contactid"]
    dan = dict(a_contact())
    dan["_masterid_value"] = dan["contactid"]
    contacts = by_id(ann, bob, cid, dan)

    assert {key: master(key, contacts) for key in contacts} == {key: key for key in contacts}


def test_a_contact_whose_master_cannot_be_read_is_left_out_with_that_reason() -> None:
    loser = a_contact(master=an_id(), inactive=True)

    association = association_of(an_opportunity(), a_connection(loser), contacts=[loser])

    assert reasons_left_out(association) == [Exclusion.UNREADABLE]


def test_an_inactive_contact_keeps_its_roles() -> None:
    ann = a_contact(inactive=True)

    association = association_of(an_opportunity(customer=ann), a_connection(ann), contacts=[ann])

    assert sorted(texts(association)) == ["Decision Maker", "Primary Contact"]


def test_a_connection_to_an_account_gives_no_role_and_a_reason() -> None:
    association = association_of(an_opportunity(), a_connection(ACME))

    assert not association.stakes
    assert [(item.who, item.why) for item in association.left_out] == [(ACME, Exclusion.NOT_A_CONTACT)]


@pytest.mark.parametrize("why", [Exclusion.UNKNOWN_PERSON, Exclusion.NO_EMAIL, Exclusion.BAD_EMAIL, Exclusion.TOO_MANY])
def test_a_contact_who_is_nobody_in_marketo_gives_no_role_and_a_reason(why: Exclusion) -> None:
    ann, bob = a_contact(), a_contact()
    connection = a_connection(ann)

    roles, left_out = roles_of(
        association_of(an_opportunity(), connection, a_connection(bob), contacts=[ann, bob]),
        {ann["contactid"]: why, bob["contactid"]: 7},
    )

    assert [role.lead for role in roles] == [7]
    assert [(item.who, item.why, item.reason, item.text) for item in left_out] == [
        (ann["contactid"], why, connection.key, "Decision Maker")
    ]


def test_a_customer_who_is_missing_in_marketo_is_left_out_and_the_stakeholders_stay() -> None:
    ann, bob = a_contact(account=ACME), a_contact()
    association = association_of(an_opportunity(customer=ann), a_connection(bob), contacts=[ann, bob])

    roles, left_out = roles_of(association, {ann["contactid"]: Exclusion.UNKNOWN_PERSON, bob["contactid"]: 7})

    assert association.account == ACME
    assert [(role.lead, role.primary) for role in roles] == [(7, False)]
    assert [(item.why, item.reason) for item in left_out] == [(Exclusion.UNKNOWN_PERSON, CUSTOMER)]


# --- which connection roles count -----------------------------------------------------------------------------


def test_a_connection_without_role_does_not_count() -> None:
    ann = a_contact()

    association = association_of(an_opportunity(), a_connection(ann, None), contacts=[ann])

    assert not association.stakes
    assert reasons_left_out(association) == [Exclusion.NO_ROLE]


def test_a_connection_without_role_counts_as_default_role_when_configured() -> None:
    ann = a_contact()

    association = association_of(
        an_opportunity(), a_connection(ann, None), contacts=[ann], without_role=True, default_role="Involved"
    )

    assert texts(association) == ["Involved"]


def test_a_connection_whose_role_cannot_be_read_never_counts_as_one_without_role() -> None:
    ann = a_contact()

    association = association_of(an_opportunity(), a_connection(ann, an_id()), contacts=[ann], without_role=True)

    assert reasons_left_out(association) == [Exclusion.UNKNOWN_ROLE]


def test_a_role_outside_the_stakeholder_category_does_not_count() -> None:
    ann = a_contact()

    association = association_of(an_opportunity(), a_connection(ann, SELLER), contacts=[ann])

    assert reasons_left_out(association) == [Exclusion.CATEGORY]
    assert association.left_out[0].text == "Account Manager"


def test_other_categories_count_when_configured_and_then_only_those() -> None:
    ann = a_contact()
    connections = [a_connection(ann, SELLER), a_connection(ann, DECISION_MAKER)]

    association = association_of(an_opportunity(), *connections, contacts=[ann], categories=[SALES_TEAM])

    assert texts(association) == ["Account Manager"]
    assert reasons_left_out(association) == [Exclusion.CATEGORY]


def test_an_excluded_role_does_not_count_whatever_its_case() -> None:
    ann = a_contact()

    association = association_of(an_opportunity(), a_connection(ann), contacts=[ann], exclude=["decision MAKER "])

    assert reasons_left_out(association) == [Exclusion.EXCLUDED]


def test_a_role_is_renamed_whatever_its_case() -> None:
    ann = a_contact()

    association = association_of(an_opportunity(), a_connection(ann), contacts=[ann], rename={"decision maker": "DM"})

    assert texts(association) == ["DM"]


def test_a_role_is_excluded_by_the_name_it_has_in_dynamics() -> None:
    ann = a_contact()
    rules: dict[str, Any] = {"rename": {"Decision Maker": "DM"}, "exclude": ["DM"]}

    assert texts(association_of(an_opportunity(), a_connection(ann), contacts=[ann], **rules)) == ["DM"]


# --- the text of a role ---------------------------------------------------------------------------------------


def test_the_text_of_a_role_is_cut_to_50_characters() -> None:
    ann = a_contact()
    roles = {DECISION_MAKER: ConnectionRole("x" * 49 + " y" + "z" * 60, STAKEHOLDER)}

    association = association_of(an_opportunity(), a_connection(ann), contacts=[ann], roles=roles)

    assert texts(association) == ["x" * 49]


def test_texts_that_are_the_same_after_50_characters_are_one_role() -> None:
    ann = a_contact()
    roles = {
        DECISION_MAKER: ConnectionRole("x" * 50 + "one", STAKEHOLDER),
        BUYER: ConnectionRole("x" * 50 + "two", STAKEHOLDER),
    }
    connections = [a_connection(ann, DECISION_MAKER), a_connection(ann, BUYER)]

    settled, _ = roles_of(association_of(an_opportunity(), *connections, contacts=[ann], roles=roles))

    assert [role.reasons for role in settled] == [tuple(sorted(item.key for item in connections))]


def test_blanks_around_the_text_of_any_role_are_dropped() -> None:
    ann = a_contact()
    roles = {DECISION_MAKER: ConnectionRole(" Decision Maker ", STAKEHOLDER)}

    association = association_of(
        an_opportunity(customer=ann), a_connection(ann), contacts=[ann], roles=roles, customer_role=" Donor "
    )

    assert sorted(texts(association)) == ["Decision Maker", "Donor"]


def test_texts_that_differ_only_in_case_are_one_role() -> None:
    ann = a_contact()
    roles = {
        DECISION_MAKER: ConnectionRole("Decision maker", STAKEHOLDER),
        BUYER: ConnectionRole("DECISION MAKER", STAKEHOLDER),
    }
    connections = [a_connection(ann, BUYER, created=LATER), a_connection(ann, DECISION_MAKER)]

    settled, _ = roles_of(association_of(an_opportunity(), *connections, contacts=[ann], roles=roles))

    assert [(role.text, len(role.reasons)) for role in settled] == [("Decision maker", 2)]


# --- people ---------------------------------------------------------------------------------------------------


def test_contacts_who_are_one_person_in_marketo_share_one_role_with_all_reasons() -> None:
    ann, anne = a_contact(), a_contact()
    connections = [a_connection(ann), a_connection(anne)]

    roles, _ = roles_of(
        association_of(an_opportunity(), *connections, contacts=[ann, anne]),
        {ann["contactid"]: 5, anne["contactid"]: 5},
    )

    assert [(role.lead, role.reasons) for role in roles] == [(5, tuple(sorted(item.key for item in connections)))]


def test_a_stakeholder_whose_role_is_named_as_the_customers_is_merged_into_it() -> None:
    ann = a_contact()
    connection = a_connection(ann, created="2026-01-01T00:00:00Z")

    roles, _ = roles_of(
        association_of(an_opportunity(customer=ann), connection, contacts=[ann], customer_role="DECISION MAKER")
    )

    assert [(role.text, role.primary, role.created) for role in roles] == [
        ("DECISION MAKER", True, "2026-01-01T00:00:00Z")
    ]
    assert set(roles[0].reasons) == {CUSTOMER, connection.key}


# --- primary --------------------------------------------------------------------------------------------------


def test_a_stakeholder_is_not_primary_by_default() -> None:
    ann = a_contact()

    roles, _ = roles_of(association_of(an_opportunity(), a_connection(ann), contacts=[ann]))

    assert [role.primary for role in roles] == [False]


@pytest.mark.parametrize("name", ["Decision Maker", "decision maker", "DM"], ids=["name", "other case", "renamed"])
def test_a_role_named_in_primary_roles_is_primary(name: str) -> None:
    ann = a_contact()
    rules: dict[str, Any] = {"primary_roles": [name], "rename": {"Decision Maker": "DM"}}

    roles, _ = roles_of(association_of(an_opportunity(), a_connection(ann), contacts=[ann], **rules))

    assert [role.primary for role in roles] == [True]


def test_of_several_primary_stakeholders_only_the_earliest_is_primary() -> None:
    ann, bob, cid = a_contact(), a_contact(), a_contact()
    connections = [a_connection(ann, created=LATER), a_connection(bob), a_connection(cid, created=LATER)]

    association = association_of(
        an_opportunity(), *connections, contacts=[ann, bob, cid], primary_roles=["Decision Maker"]
    )
    roles, _ = roles_of(association, {ann["contactid"]: 1, bob["contactid"]: 2, cid["contactid"]: 3})

    assert [(role.lead, role.primary) for role in roles] == [(1, False), (2, True), (3, False)]


def test_the_customer_is_primary_before_any_stakeholder_however_early() -> None:
    ann, bob = a_contact(), a_contact()
    early = a_connection(bob, created="2020-01-01T00:00:00Z")

    association = association_of(
        an_opportunity(customer=ann), early, contacts=[ann, bob], primary_roles=["Decision Maker"]
    )
    roles, _ = roles_of(association, {ann["contactid"]: 2, bob["contactid"]: 1})

    assert [(role.lead, role.primary) for role in roles] == [(1, False), (2, True)]


def test_a_primary_role_follows_when_the_customer_is_missing_in_marketo() -> None:
    ann, bob = a_contact(), a_contact()

    association = association_of(
        an_opportunity(customer=ann), a_connection(bob), contacts=[ann, bob], primary_roles=["Decision Maker"]
    )
    roles, _ = roles_of(association, {ann["contactid"]: Exclusion.UNKNOWN_PERSON, bob["contactid"]: 1})

    assert [(role.lead, role.primary) for role in roles] == [(1, True)]


# --- when it was created --------------------------------------------------------------------------------------


def test_a_role_dates_from_its_earliest_connection() -> None:
    ann = a_contact()
    connections = [a_connection(ann, created=LATER), a_connection(ann, created=CREATED), a_connection(ann, created="")]

    roles, _ = roles_of(association_of(an_opportunity(), *connections, contacts=[ann]))

    assert [role.created for role in roles] == [CREATED]


def test_the_customers_role_dates_from_the_opportunity() -> None:
    ann = a_contact()

    roles, _ = roles_of(association_of(an_opportunity(customer=ann, createdon=LATER), contacts=[ann]))

    assert [role.created for role in roles] == [LATER]


# --- whatever the data is -------------------------------------------------------------------------------------

CONTACTS = [f"00000000-0000-4000-8000-0000000000{number:02}" for number in range(6)]
MOMENTS = [CREATED, LATER, "2025-12-31T23:00:00Z"]
NAMES = ["Decision Maker", "DECISION MAKER", " Buyer ", "Buyer", "ß" * 60, "SS" * 30, "🤝" * 40]
role_maps = st.fixed_dictionaries(
    {role: st.builds(ConnectionRole, st.sampled_from(NAMES), st.sampled_from([1000, 1001, None])) for role in ROLES}
)
connections_lists = st.lists(
    st.builds(
        Connection,
        key=st.uuids().map(str),
        opportunity=st.just("opportunity"),
        other=st.sampled_from([*CONTACTS, "unreadable"]),
        other_type=st.sampled_from([1, 2, 2, 2, 2]),
        role=st.sampled_from([None, "unknown", *ROLES]),
        created=st.sampled_from(MOMENTS),
        active=st.sampled_from([True, True, True, False]),
    ),
    max_size=8,
    unique_by=lambda connection: connection.key,
)
contact_maps = st.fixed_dictionaries(
    {
        key: st.fixed_dictionaries(
            {
                "contactid": st.just(key),
                "_accountid_value": st.sampled_from([None, ACME, BOLT]),
                "_masterid_value": st.sampled_from([None, None, None, *CONTACTS]),
            }
        )
        for key in CONTACTS
    }
)
contact = st.sampled_from([{"contactid": key} for key in CONTACTS])
opportunities = st.builds(
    an_opportunity,
    customer=st.none() | st.just(ACME) | contact,
    parent_account=st.none() | st.just(BOLT),
    parent_contact=st.none() | contact,
    createdon=st.sampled_from(MOMENTS),
)
configurations = st.builds(
    Stakeholders,
    categories=st.sampled_from([[1000], [1000, 1001], []]),
    without_role=st.booleans(),
    customer=st.sampled_from(["account", TWO_FIELDS]),
    customer_role=st.sampled_from(["Primary Contact", "decision maker"]),
    primary_roles=st.sampled_from([[], ["Buyer"], ["buyer", "Decision Maker"]]),
    exclude=st.sampled_from([[], ["Buyer"]]),
    rename=st.sampled_from([{}, {"Buyer": "decision maker"}]),
)
people_maps = st.fixed_dictionaries(
    {key: st.integers(1, 3) | st.sampled_from([Exclusion.NO_EMAIL, Exclusion.UNKNOWN_PERSON]) for key in CONTACTS}
)


@dataclass(frozen=True)
class Case:
    """One opportunity with everything that the rules look at."""

    opportunity: Row
    connections: list[Connection]
    contacts: dict[str, Row]
    roles: dict[str, ConnectionRole]
    config: Stakeholders
    people: dict[str, int | Exclusion]

    def associate(self, connections: Sequence[Connection] | None = None) -> Association:
        chosen = self.connections if connections is None else connections
        return associate(self.opportunity, chosen, self.contacts, self.roles, self.config)


cases = st.builds(Case, opportunities, connections_lists, contact_maps, role_maps, configurations, people_maps)
chances = st.randoms(use_true_random=False)


@given(cases, chances)
def test_the_order_of_connections_and_stakes_does_not_matter(case: Case, chance: random.Random) -> None:
    association = case.associate()
    connections = chance.sample(case.connections, len(case.connections))
    stakes = tuple(chance.sample(association.stakes, len(association.stakes)))

    assert case.associate(connections) == association
    assert settle(replace(association, stakes=stakes), case.people) == settle(association, case.people)


@given(cases, chances)
def test_the_same_connection_twice_does_not_matter(case: Case, chance: random.Random) -> None:
    twice = [*case.connections, *chance.sample(case.connections, len(case.connections) // 2)]

    once, _ = settle(case.associate(), case.people)
    doubled, _ = settle(case.associate(twice), case.people)

    assert doubled == once


@given(cases)
def test_nobody_vanishes_each_connection_is_a_reason_of_one_role_or_left_out_once(case: Case) -> None:
    roles, left_out = settle(case.associate(), case.people)
    ends = Counter([*(reason for role in roles for reason in role.reasons), *(item.reason for item in left_out)])

    assert ends[CUSTOMER] == (case.opportunity["_contactid_value"] is not None)
    assert ends[PARENT_CONTACT] <= 1
    assert all(role.reasons for role in roles)
    del ends[CUSTOMER], ends[PARENT_CONTACT]
    assert ends == {connection.key: 1 for connection in case.connections}


@given(cases)
def test_keys_are_unique_and_at_most_one_role_is_primary(case: Case) -> None:
    association = case.associate()
    primary = [stake for stake in association.stakes if stake.primary and isinstance(case.people[stake.contact], int)]

    roles, _ = settle(association, case.people)

    assert len({role.key for role in roles}) == len(roles)
    assert sum(role.primary for role in roles) == bool(primary)
    assert all(role.text == role_text(role.text) and 0 < len(role.text) <= 50 for role in roles)


@given(cases)
def test_a_role_dates_from_the_earliest_of_its_reasons(case: Case) -> None:
    created: dict[str, str] = {connection.key: connection.created for connection in case.connections}
    created |= {reason: str(case.opportunity["createdon"]) for reason in (CUSTOMER, PARENT_CONTACT)}

    roles, _ = settle(case.associate(), case.people)

    assert all(role.created == min(created[reason] for reason in role.reasons) for role in roles)


def test_roles_are_settled_from_stakes_in_any_order() -> None:
    stakes = (
        a_stake(text="decision maker", created=LATER, reason="b"),
        a_stake(text="Decision Maker", created=CREATED, reason="c"),
        a_stake(text="DECISION MAKER", created=LATER, reason="a"),
    )

    found = [settle(Association(None, "", order, ()), {"contact": 1})[0] for order in (stakes, stakes[::-1])]

    assert found[0] == found[1]
    assert [(role.text, role.reasons) for role in found[0]] == [("Decision Maker", ("a", "b", "c"))]
