"""The checker finds each kind of difference, and agrees with itself where there is none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tools import checker
from tools.checker import Fewest, differences, expected, nothing, opportunity, usable_address
from tools.emulators.admin import Admin
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.web import DataverseApp
from tools.emulators.marketo.state import MarketoState
from tools.emulators.marketo.web import MarketoApp
from tools.emulators.serving import certificate_authority, serving

NOW = datetime(2026, 1, 5, tzinfo=UTC)
CREATED = "2025-06-01T10:00:00Z"
EARLIER = "2025-05-01T10:00:00Z"
ADA, BEN, CEM, TWIN = "c-ada", "c-ben", "c-cem", "c-twin"
LEADS = [
    {"id": 1, "email": "ada@example.test", "updatedAt": "2025-01-01T00:00:00Z"},
    {"id": 2, "email": "Ben@Example.test", "updatedAt": "2025-01-01T00:00:00Z"},
]

Rows = dict[str, list[dict[str, Any]]]


def deal(key: str = "o1", **columns: Any) -> dict[str, Any]:
    return {"opportunityid": key, "name": "Deal", "statecode": 0, "createdon": CREATED, **columns}


def contact(key: str, email: str | None = None, **columns: Any) -> dict[str, Any]:
    return {"contactid": key, **({"emailaddress1": email} if email else {}), **columns}


def connection(key: str, other: str, role: str | None = "r-champion", code: int = 2, **columns: Any) -> dict[str, Any]:
    """The row whose first side is opportunity o1."""
    return {
        "connectionid": key,
        "_relatedconnectionid_value": f"{key}-mirror",
        "_record1id_value": "o1",
        "record1objecttypecode": 3,
        "_record2id_value": other,
        "record2objecttypecode": code,
        "_record2roleid_value": role,
        "statecode": 0,
        "createdon": CREATED,
        **columns,
    }


def mirror(row: dict[str, Any]) -> dict[str, Any]:
    swapped = {name.translate(str.maketrans("12", "21")): value for name, value in row.items()}
    return swapped | {
        "connectionid": f"{row['connectionid']}-mirror",
        "_relatedconnectionid_value": row["connectionid"],
    }


def crm(*connections: dict[str, Any], **tables: Any) -> Rows:
    """One deal of an account, three contacts of whom Marketo knows two, and the connections."""
    return {
        "opportunity": [deal(_customerid_value="a1", _accountid_value="a1")],
        "account": [{"accountid": "a1", "name": "Acme ", "websiteurl": "https://acme.example"}],
        "contact": [
            contact(ADA, "ada@example.test"),
            contact(BEN, "ben@example.test"),
            contact(CEM),
            contact(TWIN, "ADA@example.test"),
        ],
        "connection": list(connections),
        "connectionrole": [
            {"connectionroleid": "r-champion", "name": "Champion", "category": 1000},
            {"connectionroleid": "r-shout", "name": "CHAMPION", "category": 1000},
            {"connectionroleid": "r-friend", "name": "Friend", "category": 3},
        ],
        **tables,
    }


def rules(rows: Rows, leads: list[dict[str, Any]] | None = None) -> checker.Expected:
    return expected(rows, LEADS if leads is None else leads, now=NOW)


# --- the rules ----------------------------------------------------------------------------------------------------


def test_an_opportunity_has_the_default_fields() -> None:
    row = deal(
        name=" " + "x" * 300,
        description="",
        estimatedvalue=10.0,
        estimatedvalue_base=12.3456,
        estimatedclosedate="2026-02-01",
        closeprobability=50,
        createdon="2025-06-01T12:00:00+02:00",
    )

    assert opportunity(row) == {
        "name": "x" * 255,
        "description": None,
        "amount": 12.35,
        "stage": "Open",
        "closeDate": "2026-02-01",
        "probability": 50,
        "isWon": False,
        "isClosed": False,
        "externalCreatedDate": "2025-06-01T10:00:00Z",
    }


@pytest.mark.parametrize(("state", "stage", "won", "closed"), [(1, "Won", True, True), (2, "Lost", False, True)])
def test_a_closed_deal(state: int, stage: str, won: bool, closed: bool) -> None:
    found = opportunity(deal(statecode=state, actualclosedate="2025-12-01", estimatedclosedate="2026-02-01", name=None))

    names = ("stage", "isWon", "isClosed", "closeDate", "name")
    assert [found[name] for name in names] == [stage, won, closed, "2025-12-01", "(no topic)"]


def test_a_customer_that_is_an_account_is_the_company_and_gives_no_role() -> None:
    found = rules(crm())

    assert found.opportunities["o1"]["externalCompanyId"] == "a1"
    assert found.companies == {"a1": {"company": "Acme", "website": "https://acme.example"}}
    assert found.roles == {}


def test_a_customer_that_is_a_contact_gives_its_account_and_a_primary_role() -> None:
    rows = crm(opportunity=[deal(_customerid_value=ADA, _contactid_value=ADA)])
    rows["contact"][0]["_accountid_value"] = "a1"

    found = rules(rows)

    assert found.opportunities["o1"]["externalCompanyId"] == "a1"
    assert found.roles == {("o1", 1, "primary contact"): {"isPrimary": True, "externalCreatedDate": CREATED}}


def test_a_pair_of_connection_rows_is_one_role() -> None:
    row = connection("k1", ADA)

    for pair in ([row, mirror(row)], [mirror(row), row], [mirror(row)]):
        assert list(rules(crm(*pair)).roles) == [("o1", 1, "champion")]


def test_the_row_that_starts_at_the_opportunity_decides() -> None:
    row = connection("k1", ADA, "r-friend")
    other = mirror(connection("k1", ADA, "r-champion"))

    assert rules(crm(row, other)).roles == rules(crm(other, row)).roles == {}


def test_one_person_with_two_contacts_and_two_spellings_of_a_role_has_one_role_since_the_earlier() -> None:
    found = rules(crm(connection("k1", ADA), connection("k2", TWIN, "r-shout", createdon=EARLIER)))

    assert found.roles == {("o1", 1, "champion"): {"isPrimary": False, "externalCreatedDate": EARLIER}}


def test_a_merged_contact_stands_for_its_master() -> None:
    rows = crm(connection("k1", CEM))
    rows["contact"][2]["_masterid_value"] = BEN

    assert list(rules(rows).roles) == [("o1", 2, "champion")]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (connection("k1", "a1", code=1), checker.ACCOUNT_ONLY),
        (connection("k1", ADA, statecode=1), checker.ENDED),
        (connection("k1", ADA, effectiveend="2026-01-01T00:00:00Z"), checker.ENDED),
        (connection("k1", ADA, effectivestart="2027-01-01T00:00:00Z"), checker.ENDED),
        (connection("k1", ADA, None), checker.NO_ROLE),
        (connection("k1", ADA, "r-friend"), checker.NO_STAKEHOLDER),
        (connection("k1", "c-nobody"), checker.UNREADABLE),
        (connection("k1", CEM), checker.NO_EMAIL),
    ],
)
def test_left_out_with_a_reason(row: dict[str, Any], why: str) -> None:
    found = rules(crm(row))

    assert found.roles == {}
    assert [item.why for item in found.left_out] == [why]


def test_somebody_whom_marketo_does_not_know_is_left_out_and_unknown() -> None:
    found = rules(crm(connection("k1", ADA)), [])

    assert [item.why for item in found.left_out] == [checker.UNKNOWN]
    assert found.unknown == {"ada@example.test"}


def test_of_people_with_one_address_the_last_changed_counts() -> None:
    newer = {"id": 9, "email": "ada@example.test", "updatedAt": "2025-02-01T00:00:00Z"}

    assert list(rules(crm(connection("k1", ADA)), [newer, *LEADS]).roles) == [("o1", 9, "champion")]


@pytest.mark.parametrize(
    "written", ["", None, "no address", "a@b@c", "é@example.test", "a@example.test, b@example.test"]
)
def test_unusable_addresses(written: str | None) -> None:
    assert usable_address(written) == ""


# --- the differences ----------------------------------------------------------------------------------------------


@pytest.fixture
def wanted() -> checker.Expected:
    rows = crm(connection("k1", ADA), connection("k2", BEN), opportunity=[deal(_accountid_value="a1"), deal("o2")])
    rows["account"].append({"accountid": "a2", "name": "Other"})
    return rules(rows)


@pytest.fixture
def marketo(wanted: checker.Expected) -> Rows:
    """Exactly what is wanted."""
    return {
        "opportunities": [{"externalOpportunityId": key, **row} for key, row in wanted.opportunities.items()],
        "roles": [
            {"externalOpportunityId": key, "leadId": lead, "role": text.title(), **row}
            for (key, lead, text), row in wanted.roles.items()
        ],
        "companies": [{"externalCompanyId": key, **row} for key, row in wanted.companies.items()],
        "leads": copy.deepcopy(LEADS),
        "people-with-opportunity": [{"id": 1}, {"id": 2}],
    }


def test_nothing_differs(wanted: checker.Expected, marketo: Rows) -> None:
    assert differences(wanted, marketo) == []
    assert wanted.figures == {"opportunities": 2, "fields": 20, "roles": 2, "companies": 1, "people": 2}


def second_primary(rows: Rows) -> None:
    rows["roles"][0]["isPrimary"] = rows["roles"][1]["isPrimary"] = True


PLANTED: dict[str, tuple[Callable[[Rows], object], str]] = {
    "opportunity missing": (lambda rows: rows["opportunities"].pop(), "opportunity o2 is missing"),
    "opportunity extra": (
        lambda rows: rows["opportunities"].append(rows["opportunities"][0] | {"externalOpportunityId": "o3"}),
        "opportunity o3 should not be",
    ),
    "opportunity twice": (
        lambda rows: rows["opportunities"].append(rows["opportunities"][0]),
        "opportunity o1 is in Marketo twice",
    ),
    "text": (lambda rows: rows["opportunities"][0].update(name="Other"), "o1: name is 'Other', not 'Deal'"),
    "amount": (lambda rows: rows["opportunities"][0].update(amount=1.0), "o1: amount is 1.0, not None"),
    "zero for nothing": (lambda rows: rows["opportunities"][0].update(amount=0.0), "o1: amount is 0.0, not None"),
    "no for nothing": (lambda rows: rows["opportunities"][0].update(isWon=None), "o1: isWon is None, not False"),
    "stage": (lambda rows: rows["opportunities"][0].update(stage="Won"), "o1: stage is 'Won'"),
    "wrong company": (
        lambda rows: rows["opportunities"][0].update(externalCompanyId="a2"),
        "o1: externalCompanyId is 'a2', not 'a1'",
    ),
    "role missing": (lambda rows: rows["roles"].pop(), 'role "champion" of person 2 on opportunity o1 is missing'),
    "role extra": (
        lambda rows: rows["roles"].append(rows["roles"][0] | {"role": "Buyer"}),
        'role "buyer" of person 1 on opportunity o1 should not be',
    ),
    "role of somebody else": (lambda rows: rows["roles"][0].update(leadId=2, role="Other"), "should not be"),
    "primary": (lambda rows: rows["roles"][0].update(isPrimary=True), "isPrimary is True, not False"),
    "two primaries": (second_primary, "opportunity o1 has 2 primary roles"),
    "role's date": (lambda rows: rows["roles"][0].update(externalCreatedDate=EARLIER), "externalCreatedDate is"),
    "orphan role": (
        lambda rows: rows["roles"].append(rows["roles"][0] | {"externalOpportunityId": "gone"}),
        "on opportunity gone is an orphan",
    ),
    "role of nobody": (lambda rows: rows["leads"].pop(), "belongs to nobody"),
    "company missing": (lambda rows: rows["companies"].clear(), "company a1 is missing"),
    "company wrong": (lambda rows: rows["companies"][0].update(website=None), "company a1: website is None"),
    "company extra": (
        lambda rows: rows["companies"].append({"externalCompanyId": "a9"}),
        "company a9 should not be",
    ),
    "person missing": (lambda rows: rows["people-with-opportunity"].pop(), 'person 2 is missing from "Has Opp'),
    "person extra": (lambda rows: rows["people-with-opportunity"].append({"id": 5}), "person 5 should not be"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_finds(name: str, wanted: checker.Expected, marketo: Rows) -> None:
    plant, told = PLANTED[name]
    plant(marketo)

    assert any(told in line for line in differences(wanted, marketo))


def test_a_company_that_no_deal_names_any_more_may_stay_if_it_was_named_once(
    wanted: checker.Expected, marketo: Rows
) -> None:
    marketo["companies"].append({"externalCompanyId": "a2", "company": "Other", "website": None})

    assert differences(wanted, marketo) == []
    assert differences(wanted, marketo, ever_named={"a1", "a2"}) == []
    assert differences(wanted, marketo, ever_named={"a1"}) == ["company a2 should not be in Marketo"]


def test_a_company_that_stayed_must_be_right_too(wanted: checker.Expected, marketo: Rows) -> None:
    marketo["companies"].append({"externalCompanyId": "a2", "company": "Old name", "website": None})

    assert differences(wanted, marketo) == ["company a2: company is 'Old name', not 'Other'"]


# --- the fewest calls ---------------------------------------------------------------------------------------------


def test_a_first_load_costs_a_call_for_each_kind_of_record_and_300_of_them() -> None:
    rows = crm(connection("k1", ADA))
    rows["opportunity"] += [deal(f"x{number}") for number in range(300)]

    calls = Fewest().calls(nothing(), rules(rows))

    assert calls == {"people looked up": 1, "companies": 1, "opportunities": 2, "roles": 1}


def test_no_change_costs_nothing_and_people_are_asked_for_once() -> None:
    fewest, before = Fewest(), rules(crm(connection("k1", ADA)))
    fewest.calls(nothing(), before)

    assert fewest.calls(before, before) == {}
    assert fewest.calls(before, rules(crm(connection("k1", ADA, createdon=EARLIER)))) == {"roles": 1}


def test_a_moved_person_costs_an_addition_and_a_removal_and_a_look_up() -> None:
    fewest, before = Fewest(), rules(crm(connection("k1", ADA)))
    fewest.calls(nothing(), before)

    calls = fewest.calls(before, rules(crm(connection("k1", BEN))))

    assert calls == {"people looked up": 1, "roles": 1, "roles removed": 1}


def test_a_deleted_deal_costs_its_roles_and_itself() -> None:
    fewest, before = Fewest(), rules(crm(connection("k1", ADA)))
    fewest.calls(nothing(), before)

    assert fewest.calls(before, rules(crm(opportunity=[]))) == {"roles removed": 1, "opportunities removed": 1}


def test_a_company_costs_a_call_when_it_is_new_and_when_it_changes() -> None:
    fewest, before = Fewest(), rules(crm())
    fewest.calls(nothing(), before)
    renamed = crm()
    renamed["account"][0]["name"] = "Renamed"

    assert fewest.calls(before, rules(renamed)) == {"companies": 1}


# --- against the emulators ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """URLs of both emulators and the authority's file; Dataverse has some rows, Marketo the right ones."""
    folder: Path = tmp_path_factory.mktemp("certificates")
    authority = certificate_authority(folder)
    with ExitStack() as stack:
        dataverse = stack.enter_context(serving(DataverseApp(DataverseState(seed=1)), folder=folder))
        marketo = stack.enter_context(serving(MarketoApp(MarketoState()), folder=folder))
        source, target = Admin(dataverse, authority), Admin(marketo, authority)
        stack.callback(source.close)
        stack.callback(target.close)
        source.post("generate", {"seed": 3, "opportunities": 20, "contact_customers": 0.5})
        fill(source, target)
        yield dataverse, marketo, authority


def fill(source: Admin, target: Admin) -> None:
    rows = checker.dataverse_rows(source)
    emails = [row["emailaddress1"] for row in rows["contact"] if row.get("emailaddress1")]
    target.post("leads", {"leads": [{"email": email} for email in emails]})
    wanted = expected(rows, target.get("rows/leads"))
    target.post(
        "load",
        {
            "companies": [{"externalCompanyId": key, **row} for key, row in wanted.companies.items()],
            "opportunities": [{"externalOpportunityId": key, **row} for key, row in wanted.opportunities.items()],
            "roles": [
                {"externalOpportunityId": key, "leadId": lead, "role": text, **row}
                for (key, lead, text), row in wanted.roles.items()
            ],
        },
    )


def run(addresses: Any) -> int:
    dataverse, marketo, authority = addresses
    return checker.main(["--dataverse", dataverse, "--marketo", marketo, "--ca", str(authority)])


def test_the_command_line_says_that_nothing_differs(addresses: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(addresses) == 0

    told = capsys.readouterr().out
    assert "compared: 20 opportunities, 200 fields, " in told
    assert told.endswith("differences: 0\n")


def test_the_command_line_names_what_differs(addresses: Any, capsys: pytest.CaptureFixture[str]) -> None:
    target = Admin(addresses[1], addresses[2])
    victim = target.get("rows/opportunities")[0]
    key = {"externalOpportunityId": victim["externalOpportunityId"]}
    target.post("edit", {"op": "delete", "object": "opportunities", "key": key})
    try:
        code = run(addresses)
    finally:
        names = ("externalOpportunityId", *checker.OPPORTUNITY_FIELDS)
        target.post("load", {"opportunities": [{name: victim[name] for name in names}]})
        target.close()

    told = capsys.readouterr().out
    assert code == 1
    assert f"opportunity {victim['externalOpportunityId']} is missing in Marketo" in told
    assert "the REST API shows 19 opportunities, not 20" in told
