"""Rows that are made when they are asked for answer as the same rows do when they are held (`"made": true`)."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest

from tests.emulators.dataverse_caller import TRACK, Org
from tools.emulators.dataverse.administration import post
from tools.emulators.dataverse.errors import DataverseError
from tools.emulators.dataverse.made import TABLES, Ids, Made
from tools.emulators.dataverse.store import Store

SETS = {"account": "accounts", "contact": "contacts", "opportunity": "opportunities", "connection": "connections"}
ENDS = "_record1id_value,_record2id_value,record1objecttypecode,record2objecttypecode"


def both(seed: int, **wishes: Any) -> tuple[Org, Org]:
    """An organization that makes its rows, and one that holds the same ones."""
    made, held = Org(), Org()
    post(made.state, "generate", {"made": True, "seed": seed, **wishes})
    for name in TABLES:
        store = held.state.stores[name] = Store(held.state.tables[name])
        for row in sorted(made.state.stores[name].after(None), key=lambda row: row["versionnumber"]):
            store.put(dict(row))
        store.valid_from = made.state.stores[name].valid_from
    held.state.version = made.state.version
    return made, held


def within(column: str, ids: list[str]) -> str:
    values = ",".join(f'"{each}"' for each in ids)
    return f"Microsoft.Dynamics.CRM.In(PropertyName='{column}',PropertyValues=[{values}])"


def pages(org: Org, path: str, prefer: str) -> list[Any]:
    """All answers from *path* on; the last has no next link."""
    answers = [org.get(path, prefer)]
    while link := answers[-1].get("@odata.nextLink"):
        answers.append(org.get(link, prefer))
    return answers


def edit(org: Org, chance: random.Random) -> None:
    """Changes of each sort, the same for the same *chance*."""
    ids = {name: sorted(row[org.state.tables[name].key] for row in org.state.rows(name)) for name in TABLES}
    deal, other, lost, back = chance.sample(ids["opportunity"], 4)
    person, gone = chance.sample(ids["contact"], 2)
    pair = chance.choice(ids["connection"])
    post(org.state, "clock", {"advance": 60})
    edits: list[dict[str, Any]] = [
        {"op": "update", "table": "contact", "id": person, "values": {"jobtitle": "Chair"}},
        {"op": "connect", "opportunity": other, "contact": person, "role": "Champion"},
        {"op": "disconnect", "id": pair},
        {"op": "delete", "table": "opportunity", "id": lost},
        {"op": "merge", "table": "contact", "id": gone, "into": person},
        {"op": "create", "table": "opportunity", "values": {"name": "New"}},
        {"op": "delete", "table": "opportunity", "id": back},
        {"op": "create", "table": "opportunity", "id": back, "values": {"name": "Back"}},
    ]
    post(org.state, "switches", {"closed_opportunities_are_read_only": False})
    post(org.state, "edit", [*edits, {"op": "update", "table": "opportunity", "id": deal, "values": {"name": "Other"}}])


def questions(org: Org, chance: random.Random) -> list[tuple[str, str]]:
    """Everything the sync asks, as (path, Prefer)."""
    ids = {name: sorted(row[org.state.tables[name].key] for row in org.state.rows(name)) for name in TABLES}
    some = {name: [*chance.sample(ids[name], min(len(ids[name]), 9)), Ids(99, name, 7)[3]] for name in TABLES}
    deals, people = some["opportunity"], some["contact"]
    ends = " or ".join(f"(record{end}objecttypecode eq 3 and {within(f'record{end}id', deals)})" for end in "12")
    either = f"({within('record1id', people)} or {within('record2id', people)}) and record1objecttypecode eq 3"
    size = f"odata.maxpagesize={chance.choice((1, 3, 50))}"
    small = "odata.maxpagesize=20"
    named = f'odata.include-annotations="*",{small}'
    asked = [(f"{SETS[name]}?$select=versionnumber,modifiedon", f"{TRACK},{size}") for name in TABLES]
    asked += [(f"{SETS[name]}?$filter={within(f'{name}id', some[name])}", named) for name in TABLES]
    asked += [(f"{SETS[name]}?$select={name}id&$filter=modifiedon ge 2026-03-02T11:50:00Z", size) for name in TABLES]
    asked += [(f"{SETS[name]}?$select={name}id&$filter=modifiedon ge 2025-06-01T00:00:00Z", small) for name in TABLES]
    asked += [(f"{SETS[name]}?$select=versionnumber&$orderby=versionnumber desc", size) for name in TABLES]
    asked += [(f"connections?$select={ENDS}&$filter={condition}", size) for condition in (ends, either)]
    asked += [(f"opportunities?$filter={within('customerid', people)} or {within('parentcontactid', people)}", small)]
    asked += [("contacts?$filter=" + within("masterid", people), small), ("opportunities/$count", "")]
    return asked


@pytest.mark.parametrize("seed", range(12))
def test_they_answer_as_the_same_rows_held_before_and_after_edits(seed: int) -> None:
    chance = random.Random(seed)
    shape = {"opportunities": chance.randrange(5, 60), "roles_per_opportunity": chance.choice((0.4, 1.5, 2.0))}
    made, held = both(seed, **shape, contacts=chance.randrange(8, 30), accounts=chance.randrange(1, 9))
    links = {name: made.get(f"{SETS[name]}?$select=versionnumber", TRACK)["@odata.deltaLink"] for name in TABLES}

    for _ in range(2):
        for path, prefer in questions(held, random.Random(seed)):
            if path.endswith("$count"):
                assert made.ask(path).text == held.ask(path).text
                continue
            assert pages(made, path, prefer) == pages(held, path, prefer)
        for org in (made, held):
            edit(org, random.Random(seed))
    for link in links.values():
        assert pages(made, link, "odata.maxpagesize=3") == pages(held, link, "odata.maxpagesize=3")
    assert any("reason" in row for link in links.values() for row in made.get(link)["value"])


def test_an_edit_that_is_rolled_back_leaves_what_was_made() -> None:
    made, held = both(3, opportunities=10)
    deal = made.state.rows("opportunity")[4]["opportunityid"]
    for org in (made, held):
        with pytest.raises(DataverseError, match="edit 1"):
            post(org.state, "edit", [{"op": "delete", "table": "opportunity", "id": deal}] * 2)

    assert made.state.rows("opportunity") == held.state.rows("opportunity")


@pytest.mark.parametrize("rows", [1, 2, 3, 1_000, 999_983])
def test_an_id_tells_its_number(rows: int) -> None:
    ids = Ids(1, "opportunity", rows)
    some = sorted({0, 1, rows // 2, rows - 2, rows - 1} & set(range(rows)))

    assert [ids.number(ids[number]) for number in some] == some
    assert [ids.first(ids[number]) for number in some] == some
    assert [ids[number] for number in some] == sorted(ids[number] for number in some)
    assert ids.first("00000000") == 0
    assert ids.first("ffffffff-ffff") == rows
    strangers = ["", "no id", "ffffffff-ffff-4fff-8fff-ffffffffffff", ids[0][:-1] + "x"]
    assert [ids.number(each) for each in strangers] == [None] * 4


def test_ids_are_spread_over_their_first_digits() -> None:
    digits = Counter(each[0] for each in Ids(1, "opportunity", 1_600))

    assert set(digits.values()) == {100}
    assert len(digits) == 16


def test_the_same_wishes_make_the_same_rows_and_another_seed_others() -> None:
    first, again, other = (Made(seed=seed, opportunities=50) for seed in (1, 1, 2))

    assert first.opportunity(7) == again.opportunity(7) != other.opportunity(7)
    assert list(first.connections(7)) == list(again.connections(7))
    assert first.contact(3) == again.contact(3)


def test_they_are_drawn_as_generated_ones_are() -> None:
    made = Made(opportunities=2_000, contacts=600)
    deals = [made.opportunity(number) for number in range(2_000)]
    roles = [len(list(made.connections(number))) for number in range(2_000)]
    people = [made.contact(number) for number in range(600)]

    assert 1_300 < sum(deal["statecode"] == 0 for deal in deals) < 1_500
    assert 320 < sum("_parentcontactid_value" in deal for deal in deals) < 470
    assert set(roles) == {1, 2}
    assert 2_850 < sum(roles) < 3_150
    assert len({row["emailaddress1"] for row in people if "emailaddress1" in row}) > 560
    named = {c["_record2id_value"] for number in range(2_000) for c in made.connections(number)}
    assert named <= {row["contactid"] for row in people}


def test_only_an_empty_organization_can_be_filled_so() -> None:
    org = Org()
    org.make("Contoso")

    with pytest.raises(DataverseError, match="only for an organization without"):
        post(org.state, "generate", {"made": True})


def test_older_delta_links_have_expired() -> None:
    org = Org()
    link = org.get("opportunities?$select=name", TRACK)["@odata.deltaLink"]
    post(org.state, "generate", {"made": True, "opportunities": 5})

    assert org.ask(link).status_code == 400


def test_few_rows_are_at_hand_however_many_there_are() -> None:
    org = Org()
    post(org.state, "generate", {"made": True, "opportunities": 10**9})

    first = org.get("opportunities?$select=name", "odata.maxpagesize=3")
    newest = next(itertools.islice(org.state.stores["opportunity"].newest(), 1))

    assert [row["opportunityid"][:7] for row in first["value"]] == ["0000000"] * 3
    assert newest["opportunityid"].startswith("fffffff")
