"""What sync.toml says, in words: where fields come from, what counts, who has a role (`mapping show`). Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from sync_core.mapping import (
    Column,
    Constant,
    FirstOf,
    Key,
    People,
    Product,
    Rule,
    Source,
    Stakeholders,
    Switch,
    SyncConfig,
)

CURRENCIES = {"base": ", in the base currency", "transaction": ", in the currency it was entered in"}
SEVERAL = {
    "most_recent": "the most recently updated",
    "oldest": "the one updated longest ago",
    "park": "nobody: the opportunity is parked",
}
MISSING = {
    "wait": "the opportunity waits for whoever is missing in Marketo",
    "create": "whoever is missing in Marketo is created",
    "skip": "whoever is missing in Marketo has no role, and nothing waits",
}
LINKED = {
    "never": "people are not tied to companies",
    "when_unlinked": "people without a company are tied to that of their contact's account",
    "always": "people are tied to the company of their contact's account, and moved to it",
}
LEAVING = {
    "keep": "stays in Marketo as it is",
    "remove": "is removed from Marketo, its roles first",
    "flag": "stays in Marketo and is marked there",
}


def lasting(seconds: float) -> str:
    """`40 seconds`, `3 minutes`, `5 hours`, `2 days`: the largest unit of which there are two, rounded down."""
    for length, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * length or (seconds >= length and unit == "minute"):
            return counted(int(seconds // length), unit)
    return counted(int(seconds), "second")


def counted(number: int, one: str, many: str = "") -> str:
    """`1 message`, `1,000 messages`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


_ONE = {
    "calls": "call",
    "companies": "company",
    "deletions": "deletion",
    "links": "link",
    "messages": "message",
    "opportunities": "opportunity",
    "people": "person",
    "persons": "person",
    "roles": "role",
    "rows": "row",
}


def numbered(number: int, name: str) -> str:
    """`3 roles posted`, `1 role posted`, `1 people call`: of one, the last noun is one."""
    words = name.split()
    nouns = [place for place, word in enumerate(words) if word in _ONE]
    if number == 1 and nouns:
        words[nouns[-1]] = _ONE[words[nouns[-1]]]
    return f"{number:,} {' '.join(words)}"


def source_in_words(source: Source) -> str:
    match source:
        case Column():
            return _column(source)
        case FirstOf():
            return f"the first of {', '.join(source.first_of)} that is not empty"
        case Switch():
            cases = [f"{column} if it is {case}" for case, column in source.cases.items()]
            rest = f"else {source.otherwise or 'nothing'}"
            return f"by {source.when}: {', '.join([*cases, rest])}{_currency(source.currency)}"
        case Constant():
            return f"always {_value(source.value)}"
        case Product():
            return " × ".join(f"{each[:-1]}/100" if each.endswith("%") else each for each in source.product)


def key_in_words(key: Key) -> str:
    return f"{key.column}, after {_value(key.prefix)}" if key.prefix else key.column


def rule_in_words(rule: Rule) -> str:
    """`new_segment is 1 or 2`."""
    parts = []
    if rule.among is not None:
        parts.append(f"is {_list(rule.among, 'or')}")
    if rule.not_in is not None:
        parts.append(f"is not {_list(rule.not_in, 'or')}")
    if rule.equals is not None:
        parts.append(f"is {_value(rule.equals)}")
    if rule.since is not None:
        parts.append(f"is not before {rule.since}{' ago' if rule.since.startswith('P') else ''}")
    if rule.null is not None:
        parts.append("is empty" if rule.null else "is not empty")
    return f"{rule.column} {' and '.join(parts)}"


def rules_in_words(config: SyncConfig) -> dict[str, list[str]]:
    """By section of sync.toml what holds besides the fields."""
    flag = "; the mark is " + ", ".join(f"{name} = {_value(value)}" for name, value in config.removals.flag.items())
    flagging = "flag" in (config.filter.when_leaving, config.removals.policy)
    leaving = f"an opportunity that leaves the filter {LEAVING[config.filter.when_leaving]}"
    removed = LEAVING["remove" if config.removals.policy == "delete" else config.removals.policy]
    return {
        "filter": [*map(rule_in_words, config.filter.rule), leaving] if config.filter.rule else ["everything counts"],
        "company only": [*map(rule_in_words, config.company.only)] or ["every account that an opportunity needs"],
        "people": list(_people(config.people)),
        "stakeholders": list(_stakeholders(config.stakeholders)),
        "owner": [_owner(config)],
        "removals": [f"an opportunity that is deleted in Dynamics {removed}{flag if flagging else ''}"],
    }


def _column(source: Column) -> str:
    lookup, _, name = source.column.rpartition(".")
    text = f"{name} of the record in {lookup}" if lookup else name
    if source.equals is not None:
        return f"yes if {text} is {_value(source.equals)}, else no"
    if source.among is not None:
        return f"yes if {text} is {_list(source.among, 'or')}, else no"
    if source.form == "label":
        joined = "" if source.join is None else f", joined with {_value(source.join)}"
        text = f"the label of {text} (language {source.language}){joined}"
    elif source.form == "name":
        text = f"the name of what {text} names"
    text += _currency(source.currency)
    text += "" if source.default is None else f"; {_value(source.default)} when empty"
    return text + ("; too long: parked" if source.too_long == "reject" else "")


def _currency(currency: str | None) -> str:
    return "" if currency is None else CURRENCIES.get(currency, f", in {currency} by the organization's rate")


def _people(people: People) -> Iterator[str]:
    found = ", then ".join(f"{match.marketo} = {match.dataverse}" for match in people.match)
    yield f"matched by {found}; of several {SEVERAL[people.several]}"
    partition = f", in the partition {_value(people.partition)}" if people.partition else ""
    yield MISSING[people.when_missing] + (partition if people.when_missing == "create" else "")
    yield LINKED[people.link_company]


def _stakeholders(rules: Stakeholders) -> Iterator[str]:
    who = "the customer, if it is a contact,"
    if rules.customer == "account+contact":
        who += " and the Contact field of the form"
    role = rules.customer_role
    if isinstance(role, str):
        text = _value(role)
    else:
        cases = ", ".join(f"{_value(text)} if it is {case}" for case, text in role.cases.items())
        text = f"that {role.when} decides: {cases}, else {_value(role.otherwise)}"
    yield f"{who} has the role {text}"
    yield f"connection roles of category {_list(rules.categories, 'or')} give a role of their name"
    if rules.without_role:
        yield f"a connection without a role gives {_value(rules.default_role)}"
    if rules.exclude:
        yield f"never a role: {_list(rules.exclude, 'and')}"
    yield from (f"{_value(old)} is called {_value(new)}" for old, new in rules.rename.items())
    if rules.primary_roles:
        yield f"primary, where the customer gives none: {_list(rules.primary_roles, 'and')}"
    yield "roles that others gave " + ("stay" if rules.ownership == "ours" else "are removed too")


def _owner(config: SyncConfig) -> str:
    if not config.owner.salesperson:
        return "owners are not sent"
    team = "its administrator" if config.owner.team == "administrator" else "nobody"
    return f"the user who owns an opportunity is its sales person; of a team {team}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _list(values: Any, word: str) -> str:
    *most, last = map(_value, values)
    return f"{', '.join(most)} {word} {last}" if most else last


def wrapped(text: str, indent: str = "") -> list[str]:
    """Lines of at most 80 characters."""
    return textwrap.wrap(text, 80, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)
