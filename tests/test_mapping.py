"""`sync.toml`: the whole grammar is read, and every mistake is named by line and key."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from sync_core.errors import ConfigurationError
from sync_core.mapping import Column, Constant, FirstOf, RoleSwitch, SyncConfig, case_of, parse

CHECKED_IN = (Path(__file__).parents[1] / "sync.toml").read_text(encoding="utf-8")

EVERYTHING = """
[opportunity]
key          = { column = "opportunityid", prefix = "crm-" }
name         = { column = "name", default = "(no topic)", too_long = "reject" }
description  = "description"
amount       = { when = "statecode", is = { 1 = "actualvalue" }, else = "estimatedvalue", currency = "base" }
budget__c    = { column = "budgetamount", currency = "transaction" }
euros__c     = { column = "budgetamount", currency = "EUR" }
stage        = { column = "statecode", as = "label", language = 1033 }
closeDate    = { first_of = ["actualclosedate", "estimatedclosedate"] }
probability  = "closeprobability"
isWon        = { column = "statecode", equals = 1 }
isClosed     = { column = "statecode", in = [1, 2] }
externalCreatedDate = "createdon"
interests__c = { column = "new_interests", as = "label", join = ";" }
leadSource   = { column = "originatingleadid.leadsourcecode", as = "label" }
region__c    = { column = "owningbusinessunit", as = "name" }
owner__c     = { column = "ownerid", as = "id" }
crm__c       = { value = "Dynamics" }
expectedRevenue = { product = ["amount", "probability%"] }

[company]
key      = { column = "accountid", prefix = "crm-" }
company  = "name"
website  = "websiteurl"
only     = [{ column = "customertypecode", not_in = [12] }]

[people]
match         = [
  { marketo = "externalPersonId", dataverse = "contactid" },
  { marketo = "email", dataverse = "emailaddress1" },
]
several       = "park"
when_missing  = "create"
link_company  = "when_unlinked"
partition     = "Europe"
cache_hours   = 12
recheck_calls = 10

[stakeholders]
categories    = [1000, 1001]
without_role  = true
default_role  = "Involved"
customer      = "account+contact"
customer_role = { when = "new_kind", is = { 2 = "Grantor" }, else = "Donor" }
primary_roles = ["Decision Maker"]
exclude       = ["Colleague"]
ownership     = "all"
[stakeholders.rename]
"Decision Maker" = "DM"

[owner]
salesperson = true
team        = "administrator"

[[filter.rule]]
column = "new_synctomkto"
not_in = [false]
[[filter.rule]]
column = "account.customertypecode"
equals = 3
[[filter.rule]]
column = "contact.emailaddress1"
null   = false
[[filter.rule]]
column = "createdon"
since  = "P24M"
[[filter.rule]]
column = "statecode"
in     = [0, 1]
[filter]
when_leaving = "flag"

[removals]
policy    = "flag"
flag      = { isDeletedInCrm = true }
max_count = 10
max_share = 0.5

[sync]
fresh_max     = 100
apply_mapping = "manual"
[history]
values = true
"""
OPPORTUNITY = '[opportunity]\nname = "name"\n'


def complaint(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    return str(caught.value)


def version(text: str) -> str:
    return parse(text).version


# --- the grammar ----------------------------------------------------------------------------------------------


def test_the_checked_in_file_holds_the_defaults_of_the_native_sync() -> None:
    config = parse(CHECKED_IN)

    assert config.opportunity.key.external("id") == "id"
    assert config.opportunity.fields["name"] == Column(column="name", default="(no topic)")
    assert config.opportunity.fields["description"] == Column(column="description")
    assert config.opportunity.fields["closeDate"] == FirstOf(first_of=["actualclosedate", "estimatedclosedate"])
    assert config.company.fields.keys() == {"company", "website"}
    assert config == SyncConfig.model_validate(
        {"opportunity": tomllib.loads(CHECKED_IN)["opportunity"], "company": tomllib.loads(CHECKED_IN)["company"]}
    )


def test_every_line_of_the_grammar_is_understood() -> None:
    config = SyncConfig.model_validate(tomllib.loads(EVERYTHING))

    assert len(config.opportunity.fields) == 17
    assert config.opportunity.key.external("id") == "crm-id"
    assert config.opportunity.fields["crm__c"] == Constant(value="Dynamics")
    assert isinstance(config.stakeholders.customer_role, RoleSwitch)
    assert config.stakeholders.rename == {"Decision Maker": "DM"}
    assert [rule.column for rule in config.filter.rule][:2] == ["new_synctomkto", "account.customertypecode"]


def test_everything_of_the_grammar_is_taken() -> None:
    assert parse(EVERYTHING).history.values


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('key = { column = "new_number" }', "line 2, opportunity.key.column: must be opportunityid"),
        ('x = "y"\n[company.key]\ncolumn = "accountnumber"', "line 4, company.key.column: must be accountid"),
    ],
)
def test_a_key_is_the_primary_key(text: str, place: str) -> None:
    found = complaint(f"[opportunity]\n{text}")

    assert found == f"sync.toml {place}, the primary key: it is the one id that never changes"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[opportunity]\nx = { product = ["y", "z%"] }\ny = "y"', "can only multiply fields of [opportunity]"),
        ('[opportunity]\nx = { product = ["x", "x"] }', "can only multiply"),
        ('[opportunity]\n[removals]\npolicy = "flag"', "flag needs [removals] flag"),
        ('[opportunity]\n[filter]\nwhen_leaving = "flag"', "flag needs [removals] flag"),
        ('[opportunity]\n[people]\nmatch = [{ marketo = "email", dataverse = "p.email" }]', "of the contact itself"),
        (
            '[opportunity]\n[people]\nwhen_missing = "create"\nmatch = [{ marketo = "x", dataverse = "y" }]',
            "create needs a rule",
        ),
        ('[opportunity]\n[[filter.rule]]\ncolumn = "x"\nsince = "24 months"', "a period such as P24M"),
        (
            '[opportunity]\n[people.fields]\nx = { product = ["y", "z"] }\ny = "y"',
            "line 3, people.fields.x: can only multiply fields of [people.fields] that are no products: not z",
        ),
        *(
            (f'[opportunity]\n[people.fields]\n{name} = "x"', f"line 3, people.fields.{name}: is a key")
            for name in ("externalCompanyId", "externalOpportunityId", "externalSalesPersonId")
        ),
        (
            '[opportunity]\nx = { column = "y", language = 1031 }',
            'line 2, opportunity.x: language is that of a label: write as = "label"',
        ),
        (
            '[opportunity]\nx = { column = "y", as = "label", equals = 1 }',
            "opportunity.x: is yes or no by equals or in",
        ),
        ('[opportunity]\nx = { column = "y", as = "name", in = [1] }', "take as out"),
        ('[opportunity]\nx = { column = "y", default = "z", equals = 1 }', "take default out"),
        ('[opportunity]\nx = { column = "y", too_long = "cut", equals = 1 }', "take too_long out"),
        ('[people.fields]\nx = { column = "y", join = ";", equals = 1 }\n[opportunity]', "people.fields.x: is yes or"),
    ],
)
def test_two_places_that_do_not_fit_together_are_named(text: str, why: str) -> None:
    assert why in complaint(text)


@pytest.mark.parametrize(
    "line",
    [
        "[people]\nseveral = 'oldest'",
        "[people]\nwhen_missing = 'skip'",
        "[stakeholders]\nownership = 'all'\ncustomer = 'account+contact'\nwithout_role = true",
        "[stakeholders]\ncustomer_role = { when = 'new_kind', is = { 2 = 'Grantor' }, else = 'Donor' }",
        "[stakeholders]\ncategories = []",
        "[removals]\nmax_share = 0\nmax_count = 0",
        "[removals]\nmax_share = 1",
        "[people]\ncache_hours = 0\nrecheck_calls = 0",
        "[filter]\nwhen_leaving = 'keep'\nrule = []",
        "[history]\nvalues = false",
        "[people.fields]\nx = { product = ['y', 'z%'] }\ny = 'y'\nz = 'z'",
        "[company]\nx = { column = 'y', as = 'value', equals = 1, currency = 'base' }",
    ],
)
def test_every_choice_is_taken(line: str) -> None:
    assert parse(OPPORTUNITY + line)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm() -> None:
    assert parse("\ufeff" + CHECKED_IN.replace("\n", "\r\n")) == parse(CHECKED_IN)


def test_a_case_is_selected_as_toml_writes_the_value() -> None:
    assert [case_of(value) for value in (2, True, False, "text", None)] == ["2", "true", "false", "text", None]
    assert [case_of(value) for value in (2.0, -3.0, 2.5, 0.0)] == ["2", "-3", "2.5", "0"]


# --- mistakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[opportunity\nx = 1", "line 1: not valid TOML: expected ']' at the end of a table declaration"),
        ("[opportunity]\nname = name", "line 2, name: not valid TOML: invalid value"),
        (
            '[opportunity]\nname = "a"\nname = "b"\nx = "y"',
            "line 3, name: not valid TOML: the same key stands in this table twice",
        ),
        (
            '[opportunity]\nname = "a"\nname = "b"',
            "line 3, name: not valid TOML: the same key stands in this table twice",
        ),
        ("[people]\n[opportunity]\n[people]", "line 3: not valid TOML: the same table stands in the file twice"),
    ],
)
def test_bad_toml_is_named_by_line(text: str, message: str) -> None:
    assert complaint(text) == f"sync.toml {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[oportunity]\n", "line 4, oportunity: unknown table; did you mean [opportunity]?"),
        ("[zebra]\n", "line 4, zebra: unknown table; the tables are opportunity, company, people, stakeholders"),
        ("[people]\nmatches = 1", "line 5, people.matches: unknown key; did you mean match?"),
        ("[sync]\nfresh_max = '3'", "line 5, sync.fresh_max: must be a whole number"),
        ("[sync]\nfresh_max = 1.5", "line 5, sync.fresh_max: must be a whole number"),
        ("[sync]\nfresh_max = 0", "line 5, sync.fresh_max: must be at least 1"),
        ("[sync]\nfresh_max = true", "line 5, sync.fresh_max: must be a whole number"),
        ("[removals]\nmax_count = -1", "line 5, removals.max_count: must be at least 0"),
        ("[removals]\nmax_share = -0.1", "line 5, removals.max_share: must be at least 0"),
        ("[removals]\nmax_share = 1.5", "line 5, removals.max_share: must be at most 1"),
        ("[removals]\nmax_share = '1 %'", "line 5, removals.max_share: must be a number"),
        ("[people]\ncache_hours = 25", "line 5, people.cache_hours: must be at most 24"),
        ("[people]\nrecheck_calls = -1", "line 5, people.recheck_calls: must be at least 0"),
        ("[people]\nmatch = []", "line 5, people.match: must have 1 or more entries"),
        ("[people]\nmatch = [{ marketo = 'email' }]", "line 5, people.match (entry 1).dataverse: is missing"),
        ("[people]\nseveral = 'newest'", "line 5, people.several: must be 'most_recent', 'oldest' or 'park'"),
        ("[stakeholders]\nwithout_role = 'yes'", "line 5, stakeholders.without_role: must be true or false"),
        ("[stakeholders]\ncategories = ['1000']", "line 5, stakeholders.categories (entry 1): must be a whole number"),
        ("[stakeholders]\nexclude = 'Friend'", "line 5, stakeholders.exclude: must be a list in [ ]"),
        ("[stakeholders]\ndefault_role = ' '", "line 5, stakeholders.default_role: must not be blank"),
        (
            f"[stakeholders]\ncustomer_role = '{'x' * 51}'",
            "line 5, stakeholders.customer_role: must be at most 50 characters long",
        ),
        ("[stakeholders]\ncustomer_role = 1", "line 5, stakeholders.customer_role: must be a text in quotes or"),
        (
            "[stakeholders]\ncustomer_role = { when = 'a', is = { 1 = 'A' } }",
            "line 5, stakeholders.customer_role.else: is missing",
        ),
        (
            f"[stakeholders]\n[stakeholders.rename]\n'Decision Maker' = '{'x' * 51}'",
            "line 6, stakeholders.rename.Decision Maker: must be at most 50 characters long",
        ),
        ("[company]\nkey = { column = 'accountid', prefix = 'ab,' }", "line 5, company.key.prefix: must consist of"),
        (
            "[company]\nkey = { column = 'accountid', prefix = '123456789012345' }",
            "line 5, company.key.prefix: must be at most 14 characters long",
        ),
        ("[company]\nkey = 'accountid'", "line 5, company.key: must be a table in { }"),
        ("[company]\nx = 5", "line 5, company.x: must be a column name or a table with column, first_of, when, value"),
        ("[company]\nx = { col = 'a' }", "line 5, company.x: must be a column name or a table with column, first_of"),
        ("[company]\nx = 'AccountName'", "line 5, company.x: must be the logical name of a Dataverse column"),
        ("[company]\nx = { first_of = [] }", "line 5, company.x.first_of: must have 1 or more entries"),
        ("[company]\nx = { column = 'a', in = [] }", "line 5, company.x.in: must have 1 or more entries"),
        ("[company]\nx = { when = 'a', is = {} }", "line 5, company.x.is: must have 1 or more entries"),
        ("[company]\nx = { column = 'a', curency = 'base' }", "line 5, company.x.curency: unknown key; did you"),
        ("[company]\nx = { column = 'a', currency = 'euro' }", "line 5, company.x.currency: must be base, transaction"),
        ("[company]\nx = { column = 'a', as = 'text' }", "line 5, company.x.as: must be 'label', 'value'"),
        ("[company]\nx = { column = 'a', default = [] }", "line 5, company.x.default: must be a text in quotes"),
        ("[company]\nx = { column = 'a', equals = 1, in = [2] }", "line 5, company.x: has both equals and in"),
        ("[company]\nexternalCompanyId = 'a'", "line 4, company: the sync fills externalCompanyId itself"),
        ("[[filter.rule]]\ncolumn = 'a'\nin = [1]\n[[filter.rule]]\ncolumn = 'b'", "line 7, filter.rule (entry 2): "),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_line_and_key_in_plain_words(text: str, message: str) -> None:
    found = complaint(f"{OPPORTUNITY}\n{text}")

    assert found.startswith(f"sync.toml {message}")
    assert "; sync.toml" not in found
    assert "nput should" not in found


def test_of_several_tables_of_one_name_the_line_of_the_right_one_is_named() -> None:
    rule = "[[filter.rule]]\ncolumn = 'a'\nnull = true\n"
    text = OPPORTUNITY + rule + rule.replace("true", "1") + rule + "[[filter.rule]]\ncolumn = 'a'\n" + rule

    assert [problem.partition(".rule")[0::2] for problem in complaint(text).split("; ")] == [
        ("sync.toml line 8, filter", " (entry 2).null: must be true or false"),
        ("sync.toml line 12, filter", " (entry 4): needs one of in, not_in, equals, since, null"),
    ]


SOURCE = "column, default, too_long, currency, as, language, join, equals, in"
CONDITIONS = "column, in, not_in, equals, since, null"
SWITCH = "{ when = 'a', is = { 1 = 'b' }, else = 'c', elze = 'd' }"


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("[sync]\nfast = true", "line 5, sync.fast", "the keys are fresh_max, apply_mapping"),
        ("[owner]\nsalesPerson = true", "line 5, owner.salesPerson", "did you mean salesperson?"),
        ("[[filter.rules]]\ncolumn = 'a'", "line 4, filter.rules", "did you mean rule?"),
        ("[[filter.rule]]\nnull = true\ncolumn = 'a'\nnul = 1", "line 7, filter.rule (entry 1).nul", "you mean null?"),
        ("[[filter.rule]]\nnull = true\ncolumn = 'a'\nx = 1", "line 7, filter.rule (entry 1).x", CONDITIONS),
        ("[company]\nonly = [{ column = 'a', notin = [1] }]", "line 5, company.only (entry 1).notin", "not_in?"),
        ("[company]\nkey = { column = 'accountid', prefx = 'a-' }", "line 5, company.key.prefx", "you mean prefix?"),
        ("[company]\nx = { column = 'name', defualt = 'x' }", "line 5, company.x.defualt", "did you mean default?"),
        ("[company]\nx = { column = 'name', form = 'label' }", "line 5, company.x.form", f"the keys are {SOURCE}"),
        ("[company]\nx = { when = 'a', is = { 1 = 'b' }, els = 'c' }", "line 5, company.x.els", "you mean else?"),
        ("[company]\nvalue = { value = 1, x = 2 }", "line 5, company.value.x", "the keys are value"),
        ("[people.fields]\nx = { column = 'a', lang = 1 }", "line 5, people.fields.x.lang", "did you mean language?"),
        ("[people]\nmatch = [{ marketo = 'a', dataverse = 'b', x = 1 }]", "line 5, people.match (entry 1).x", "keys"),
        (f"[stakeholders]\ncustomer_role = {SWITCH}", "line 5, stakeholders.customer_role.elze", "did you mean else?"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_told_with_the_nearest_that_is_valid_there_or_with_all(
    text: str, place: str, told: str
) -> None:
    found = complaint(f"{OPPORTUNITY}\n{text}")

    assert found.startswith(f"sync.toml {place}: unknown key; ")
    assert told in found
    assert found.count("sync.toml") == 1


def test_a_table_of_marketo_fields_takes_any_name() -> None:
    lines = "[company]\nonyl = 'a'\n[people.fields]\nfirstname = 'a'\n[removals]\nflag = { policy = true }\n"

    assert parse(f"{OPPORTUNITY}{lines}[stakeholders.rename]\nexclude = 'b'")


def test_a_file_without_opportunity_table_says_so() -> None:
    assert complaint("[people]\n") == "sync.toml, opportunity: is missing"


def test_a_key_outside_of_any_table_is_named_by_line() -> None:
    assert complaint(f"fresh_max = 1\n{OPPORTUNITY}").startswith(
        "sync.toml line 1, fresh_max: unknown key outside of any table; the tables are opportunity"
    )


def test_all_mistakes_are_named_at_once_in_the_order_of_the_file() -> None:
    text = f"{OPPORTUNITY}x = 5\n# amount = 1\n[removals]\nmax_share = 2\nmax_count = 'a'\n[sync]\nfast = true\n"

    assert re.findall(r"sync\.toml line \d+, [\w.]+", complaint(text)) == [
        "sync.toml line 3, opportunity.x",
        "sync.toml line 6, removals.max_share",
        "sync.toml line 7, removals.max_count",
        "sync.toml line 9, sync.fast",
    ]


@pytest.mark.parametrize(
    "text", ['key.prefix = "a,b"\nkey.column = "opportunityid"', '"key" = { column = "x", prefix = "," }']
)
def test_dotted_and_quoted_keys_are_found_too(text: str) -> None:
    assert complaint(f"[opportunity]\n{text}").startswith("sync.toml line 2, opportunity.key.prefix: ")


def test_the_file_is_called_by_its_own_name() -> None:
    with pytest.raises(ConfigurationError, match=r"^other\.toml, opportunity: is missing$"):
        parse("", name="other.toml")


# --- places ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("opportunity", "isWon"), "{isWon}, opportunity.isWon"),
        (("stakeholders", "customer_role", "when"), "{customer_role}, stakeholders.customer_role.when"),
        (("company", "only", 0, "column"), "{only}, company.only (entry 1).column"),
        (("removals", "flag", "isDeletedInCrm"), "{flag}, removals.flag.isDeletedInCrm"),
        (("filter", "rule", 3, "since"), "{since}, filter.rule (entry 4).since"),
    ],
)
def test_whoever_finds_a_mistake_later_can_name_its_place(path: tuple[str | int, ...], place: str) -> None:
    lines = {line.split(" ")[0]: f"mine.toml line {number}" for number, line in enumerate(EVERYTHING.splitlines(), 1)}

    config = parse(EVERYTHING, name="mine.toml")

    assert config.file.place(*path) == place.format(**lines)
    assert config.file.line(*path) == place.format(**lines).partition(", ")[0]


def test_a_default_has_a_place_without_a_line() -> None:
    config = parse(OPPORTUNITY, name="mine.toml")

    assert config.file.place("people", "match", 0) == "mine.toml, people.match (entry 1)"
    assert config.file.line("people", "match", 0) == config.file.name == "mine.toml"


def test_where_it_was_written_makes_no_other_mapping() -> None:
    here, there = parse(CHECKED_IN), parse(f"# moved\n{CHECKED_IN}", name="mine.toml")

    assert here == there
    assert here.version == there.version
    assert here.model_dump() == there.model_dump()
    assert "mine.toml" not in repr(there)


# --- limits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("known", "limit"), [(0, 100), (10_000, 100), (20_000, 200), (100_000, 1000)])
def test_removals_are_held_only_beyond_both_limits(known: int, limit: int) -> None:
    assert parse(CHECKED_IN).removals.limit(known) == limit


# --- the version of the mapping -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('description  = "description"\n', ""),
        ('description  = "description"', 'description  = "new_description"'),
        ('description  = "description"', 'summary__c  = "description"'),
        ('default = "(no topic)"', 'default = "-"'),
        ('too_long = "cut"', 'too_long = "reject"'),
        (', currency = "base"', ""),
        ("language = 1033", "language = 1031"),
        ('"actualclosedate", "estimatedclosedate"', '"estimatedclosedate", "actualclosedate"'),
        ("in = [1, 2]", "in = [2]"),
        ('{ column = "opportunityid", prefix = "" }', '{ column = "opportunityid", prefix = "a-" }'),
        ('{ column = "accountid", prefix = "" }', '{ column = "accountid", prefix = "a-" }'),
        ('website  = "websiteurl"', ""),
        ('dataverse = "emailaddress1"', 'dataverse = "emailaddress2"'),
        ('several       = "most_recent"', 'several = "oldest"'),
        ('when_missing  = "wait"', 'when_missing = "skip"'),
        ("[1000]", "[1000, 1001]"),
        ("without_role  = false", "without_role  = true"),
        ('"Stakeholder"', '"Involved"'),
        ('= "account"', '= "account+contact"'),
        ('"Primary Contact"', '"Buyer"'),
        ("primary_roles = []", 'primary_roles = ["Buyer"]'),
        ("exclude       = []", 'exclude = ["Buyer"]'),
        ('ownership     = "ours"', 'ownership = "all"'),
        ('# "Decision Maker" = "DM"', '"Decision Maker" = "DM"'),
        ("salesperson = false", "salesperson = true"),
        ('team        = "none"', 'team        = "administrator"'),
    ],
)
def test_the_version_changes_with_what_is_posted(old: str, new: str) -> None:
    assert CHECKED_IN.count(old) == 1

    assert version(CHECKED_IN.replace(old, new)) != version(CHECKED_IN)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[company]", "# a comment\n\n[company]"),
        ('"description"', '{ column = "description" }'),
        ("in = [1, 2]", "in = [2, 1]"),
        (', too_long = "cut"', ""),
        (', prefix = "" }\nname', " }\nname"),
        ('company  = "name"\nwebsite  = "websiteurl"', 'website  = "websiteurl"\ncompany  = "name"'),
        ("cache_hours   = 24", "cache_hours = 12"),
        ("recheck_calls = 100", "recheck_calls = 5"),
        ("max_count = 100", "max_count = 5"),
        ("max_share = 0.01", "max_share = 0.5"),
        ("fresh_max     = 3000", "fresh_max = 5"),
        ('default_role  = "Stakeholder"\n', ""),
        ("[sync]", "[history]\nvalues = false\n[filter]\nrule = []\n[sync]"),
    ],
)
def test_the_version_stays_when_what_is_posted_stays(old: str, new: str) -> None:
    assert CHECKED_IN.count(old) == 1

    assert version(CHECKED_IN.replace(old, new)) == version(CHECKED_IN)


def test_the_version_does_not_depend_on_the_order_of_names() -> None:
    lists = "[stakeholders]\ncategories = [{0}]\nexclude = [{1}]\nprimary_roles = [{1}]"

    one, two = lists.format("1, 2", "'a', 'b'"), lists.format("2, 1", "'b', 'a'")

    assert version(OPPORTUNITY + one) == version(OPPORTUNITY + two)


def test_the_version_is_the_same_in_every_process() -> None:
    assert version(OPPORTUNITY) == "bcb4a873"
