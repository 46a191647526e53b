"""sync.toml in words: every form of a source and of a rule."""

from __future__ import annotations

import pytest

from sync_core.mapping import parse
from sync_core.rules.words import key_in_words, numbered, rules_in_words, source_in_words


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('"name"', "name"),
        ('{ column = "name", default = "none", too_long = "reject" }', 'name; "none" when empty; too long: parked'),
        ('{ column = "amount", currency = "base" }', "amount, in the base currency"),
        ('{ column = "amount", currency = "transaction" }', "amount, in the currency it was entered in"),
        ('{ column = "amount", currency = "EUR" }', "amount, in EUR by the organization's rate"),
        ('{ column = "statecode", equals = 1 }', "yes if statecode is 1, else no"),
        ('{ column = "statecode", in = [1, 2] }', "yes if statecode is 1 or 2, else no"),
        ('{ column = "statecode", as = "label", language = 1031 }', "the label of statecode (language 1031)"),
        (
            '{ column = "new_a", as = "label", join = ", " }',
            'the label of new_a (language 1033), joined with ", "',
        ),
        ('{ column = "ownerid", as = "name" }', "the name of what ownerid names"),
        ('"originatingleadid.subject"', "subject of the record in originatingleadid"),
        ('{ first_of = ["a", "b"] }', "the first of a, b that is not empty"),
        (
            '{ when = "statecode", is = { 1 = "actualvalue" }, else = "estimatedvalue", currency = "base" }',
            "by statecode: actualvalue if it is 1, else estimatedvalue, in the base currency",
        ),
        ('{ when = "new_a", is = { true = "b" } }', "by new_a: b if it is true, else nothing"),
        ("{ value = true }", "always yes"),
        ('{ product = ["amount", "chance%"] }', "amount × chance/100"),
    ],
)
def test_a_source(source: str, words: str) -> None:
    fields = f"[opportunity]\namount = 'a'\nchance = 'b'\nx = {source}"

    assert source_in_words(parse(fields).opportunity.fields["x"]) == words


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("in = [1]", "a is 1"),
        ("not_in = [2, 1, 3]", "a is not 1, 2 or 3"),
        ('equals = "x"', 'a is "x"'),
        ('since = "P24M"', "a is not before P24M ago"),
        ('since = "2025-01-31"', "a is not before 2025-01-31"),
        ("null = true", "a is empty"),
        ('null = false\nsince = "P1Y"', "a is not before P1Y ago and is not empty"),
    ],
)
def test_a_rule(rule: str, words: str) -> None:
    told = rules_in_words(parse(f'[opportunity]\n[[filter.rule]]\ncolumn = "a"\n{rule}'))

    assert told["filter"] == [words, "an opportunity that leaves the filter stays in Marketo as it is"]


def test_the_rest() -> None:
    text = """
        [opportunity]
        key = { column = "opportunityid", prefix = "eu-" }
        [people]
        when_missing = "create"
        partition = "Sales"
        [stakeholders]
        customer = "account+contact"
        customer_role = { when = "a", is = { 2 = "Grantor" }, else = "Donor" }
        without_role = true
        exclude = ["Rival"]
        primary_roles = ["Buyer", "Champion"]
        ownership = "all"
        rename = { Old = "New" }
        [owner]
        salesperson = true
        [removals]
        policy = "flag"
        flag = { gone = true }
    """

    config = parse(text)

    assert key_in_words(config.opportunity.key) == 'opportunityid, after "eu-"'
    assert rules_in_words(config) == {
        "filter": ["everything counts"],
        "company only": ["every account that an opportunity needs"],
        "people": [
            "matched by email = emailaddress1; of several the most recently updated",
            'whoever is missing in Marketo is created, in the partition "Sales"',
            "people are not tied to companies",
        ],
        "stakeholders": [
            "the customer, if it is a contact, and the Contact field of the form has the role "
            'that a decides: "Grantor" if it is 2, else "Donor"',
            "connection roles of category 1000 give a role of their name",
            'a connection without a role gives "Stakeholder"',
            'never a role: "Rival"',
            '"Old" is called "New"',
            'primary, where the customer gives none: "Buyer" and "Champion"',
            "roles that others gave are removed too",
        ],
        "owner": ["the user who owns an opportunity is its sales person; of a team nobody"],
        "removals": [
            "an opportunity that is deleted in Dynamics stays in Marketo and is marked there; the mark is gone = yes"
        ],
    }


@pytest.mark.parametrize(
    ("number", "name", "told"),
    [
        (1, "opportunity rows", "1 opportunity row"),
        (1, "people calls", "1 people call"),
        (1, "links lost", "1 link lost"),
        (1, "opportunities", "1 opportunity"),
        (1, "sales persons parked", "1 sales person parked"),
        (1, "in step", "1 in step"),
        (2_000, "opportunities posted", "2,000 opportunities posted"),
    ],
)
def test_of_one_the_noun_is_one(number: int, name: str, told: str) -> None:
    assert numbered(number, name) == told
