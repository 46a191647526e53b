"""What the emulated Web API answers to POST, PATCH, DELETE and Merge, and to whom (dataverse.md §6, §8)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from tests.emulators.dataverse_caller import API, BASE, TRACK, Org, refusal
from tools.emulators.dataverse.administration import post

TABLES = ("Contact", "Opportunity", "Connection", "Account")
VERBS = ("Create", "Write", "Delete", "Append", "AppendTo")
MERGING = ("prvMerge", "prvShareContact", "prvShareAccount", "prvAppendActivity", "prvWriteActivity")
EVERYTHING = [*(f"prv{verb}{table}" for verb in VERBS for table in TABLES), *MERGING]
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def org() -> Org:
    made = Org()
    post(made.state, "switches", {"write_privileges": EVERYTHING})
    return made


def send(org: Org, method: str, path: str, body: Mapping[str, Any] | None = None, **options: Any) -> Any:
    return org.ask(path, method=method, data=json.dumps(body) if body is not None else b"", **options)


def made(org: Org, path: str, **values: Any) -> str:
    response = send(org, "POST", path, values)
    assert response.status_code == 204, response.text
    return str(response.headers["OData-EntityId"]).partition("(")[2][:-1]


def contact_of(org: Org, name: str = "Adler") -> str:
    return made(org, "contacts", lastname=name)


def sale(org: Org, contact: str) -> tuple[str, str]:
    deal = made(org, "opportunities", name="Mill", **{"parentcontactid@odata.bind": f"/contacts({contact})"})
    ends = {
        "record1id_opportunity@odata.bind": f"/opportunities({deal})",
        "record2id_contact@odata.bind": f"/contacts({contact})",
    }
    return deal, made(org, "connections", **ends)


def merger(winner: str, loser: str, **more: Any) -> dict[str, Any]:
    def named(contact: str) -> dict[str, str]:
        return {"contactid": contact, "@odata.type": "Microsoft.Dynamics.CRM.contact"}

    return {"Target": named(winner), "Subordinate": named(loser), "PerformParentingChecks": False, **more}


def test_a_new_row_is_told_by_its_address(org: Org) -> None:
    response = send(org, "POST", "contacts", {"firstname": "Ada", "lastname": "Adler"})

    assert (response.status_code, response.get_data()) == (204, b"")
    address = response.headers["OData-EntityId"]
    assert address.startswith(f"{BASE}{API}contacts(")
    assert org.get(address)["fullname"] == "Ada Adler"


def test_whoever_wants_it_gets_the_new_row(org: Org) -> None:
    response = send(
        org, "POST", "contacts?$select=lastname", {"lastname": "Adler"}, headers={"Prefer": "return=representation"}
    )

    assert response.status_code == 201
    assert response.headers["Preference-Applied"] == "return=representation"
    assert response.json["lastname"] == "Adler"
    assert {"contactid", "@odata.etag"} < response.json.keys()
    assert "fullname" not in response.json


def test_the_id_may_be_the_caller_s_and_only_once(org: Org) -> None:
    mine = str(uuid.uuid4())

    assert made(org, "contacts", contactid=mine, lastname="Adler") == mine
    again = send(org, "POST", "contacts", {"contactid": mine, "lastname": "Adler"})
    assert refusal(again)[:2] == (412, "0x80040237")


def test_lookups_are_bound_and_the_platform_does_its_part(org: Org) -> None:
    contact = contact_of(org)
    deal, connection = sale(org, contact)

    assert org.get(f"opportunities({deal})")["_customerid_value"] == contact
    row = org.get(f"connections({connection})")
    mirror = org.get(f"connections({row['_relatedconnectionid_value']})")
    assert (mirror["_record1id_value"], mirror["record1objecttypecode"]) == (contact, 2)


def test_an_update_changes_what_it_names(org: Org) -> None:
    contact = contact_of(org)
    link = org.get("contacts?$select=jobtitle", TRACK)["@odata.deltaLink"]

    response = send(org, "PATCH", f"contacts({contact})", {"jobtitle": "Miller"})

    assert response.status_code == 204
    assert response.headers["OData-EntityId"].endswith(f"contacts({contact})")
    (row,) = org.get(link)["value"]
    assert (row["contactid"], row["jobtitle"]) == (contact, "Miller")
    assert org.get(f"contacts({contact})")["lastname"] == "Adler"


def test_an_update_of_nothing_makes_a_row_unless_that_is_forbidden(org: Org) -> None:
    strict = send(org, "PATCH", f"contacts({NOBODY})", {"lastname": "Adler"}, headers={"If-Match": "*"})
    assert refusal(strict)[:2] == (404, "0x80040217")

    assert send(org, "PATCH", f"contacts({NOBODY})", {"lastname": "Adler"}).status_code == 204
    assert org.get(f"contacts({NOBODY})")["lastname"] == "Adler"


def test_an_update_may_want_a_version(org: Org) -> None:
    contact = contact_of(org)
    old = org.get(f"contacts({contact})")["@odata.etag"]
    assert send(org, "PATCH", f"contacts({contact})", {"jobtitle": "a"}, headers={"If-Match": old}).status_code == 204

    late = send(org, "PATCH", f"contacts({contact})", {"jobtitle": "b"}, headers={"If-Match": old})

    assert refusal(late)[0] == 412
    assert org.get(f"contacts({contact})")["jobtitle"] == "a"


def test_a_deleted_row_is_gone_once(org: Org) -> None:
    contact = contact_of(org)
    deal, connection = sale(org, contact)
    link = org.get("connections?$select=name", TRACK)["@odata.deltaLink"]

    assert send(org, "DELETE", f"opportunities({deal})").status_code == 204

    assert len(org.get(link)["value"]) == 2
    assert send(org, "DELETE", f"connections({connection})").status_code == 404
    assert refusal(send(org, "DELETE", f"opportunities({deal})"))[:2] == (404, "0x80040217")


def test_two_people_become_one(org: Org) -> None:
    winner, loser = contact_of(org), contact_of(org, "Bauer")
    deal, _ = sale(org, loser)

    response = send(org, "POST", "Merge", merger(winner, loser, UpdateContent={"jobtitle": "Miller"}))

    assert (response.status_code, response.get_data()) == (204, b"")
    assert org.get(f"contacts({loser})")["_masterid_value"] == winner
    assert org.get(f"contacts({winner})")["jobtitle"] == "Miller"
    assert org.get(f"opportunities({deal})")["_parentcontactid_value"] == winner


@pytest.mark.parametrize("parameter", ["Target", "Subordinate", "PerformParentingChecks"])
def test_a_merge_without_one_of_its_parameters_is_refused(org: Org, parameter: str) -> None:
    body = merger(contact_of(org), contact_of(org))
    del body[parameter]

    status, _, message = refusal(send(org, "POST", "Merge", body))

    assert status == 400
    assert parameter in message


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "contacts", {"nosuch": 1}, 400),
        ("POST", "contacts", {"_parentcustomerid_value": NOBODY}, 400),
        ("POST", "contacts", {"lastname": 7}, 400),
        ("POST", "contacts", {"lastname": "x" * 51}, 400),
        ("POST", "opportunities", {"parentcontactid@odata.bind": f"/contacts({NOBODY})"}, 404),
        ("POST", "connections", {}, 400),
        ("POST", "nosuch", {}, 404),
        ("PATCH", "contacts", {}, 405),
        ("PATCH", "contacts(1)", {}, 400),
        ("PUT", f"contacts({NOBODY})", {}, 405),
        ("POST", "Merge", {"PerformParentingChecks": False, "Target": 1}, 400),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(
    org: Org, method: str, path: str, body: dict[str, Any], status: int
) -> None:
    version = org.state.version

    assert refusal(send(org, method, path, body))[0] == status
    assert org.state.version == version


@pytest.mark.parametrize("body", [b"", b"{", b"[]"])
def test_a_body_that_is_no_object_is_refused(org: Org, body: bytes) -> None:
    assert refusal(org.ask("contacts", method="POST", data=body))[0] == 400


def test_by_default_the_application_user_may_write_nothing() -> None:
    org = Org()
    contact = org.make("Contoso")

    for method, path, body in (
        ("POST", "accounts", {"name": "Fabrikam"}),
        ("PATCH", f"accounts({contact})", {"name": "Fabrikam"}),
        ("DELETE", f"accounts({contact})", None),
        ("POST", "Merge", merger(contact, NOBODY)),
    ):
        status, code, message = refusal(send(org, method, path, body))
        assert (status, code) == (403, "0x80040220")
        assert "is missing prv" in message
    assert org.get(f"accounts({contact})")["name"] == "Contoso"


@pytest.mark.parametrize(
    ("right", "refused"),
    [("prvCreateOpportunity", "sale"), ("prvAppendOpportunity", "sale"), ("prvAppendToContact", "sale"),
     ("prvMerge", "merge"), ("prvWriteContact", "merge"), ("prvShareContact", "merge"), ("prvDeleteContact", "delete")],
)  # fmt: skip
def test_each_change_needs_its_rights(org: Org, right: str, refused: str) -> None:
    winner, loser = contact_of(org), contact_of(org)
    post(org.state, "switches", {"write_privileges": [each for each in EVERYTHING if each != right]})
    tried = {
        "sale": ("POST", "opportunities", {"name": "x", "parentcontactid@odata.bind": f"/contacts({winner})"}),
        "merge": ("POST", "Merge", merger(winner, loser)),
        "delete": ("DELETE", f"contacts({loser})", None),
    }

    status, _, message = refusal(send(org, *tried[refused]))

    assert (status, right in message) == (403, True)


def test_a_batch_only_reads(org: Org) -> None:
    body = (
        "--b\r\nContent-Type: application/http\r\n\r\n"
        "DELETE /api/data/v9.2/contacts(00000000-0000-4000-8000-000000000000) HTTP/1.1\r\n\r\n\r\n--b--\r\n"
    )
    response = org.ask("$batch", method="POST", data=body, headers={"Content-Type": "multipart/mixed; boundary=b"})

    assert response.status_code == 405


@pytest.mark.parametrize("status", [400, 404, 410, 412, 500])
def test_an_expired_link_is_refused_with_the_status_that_was_chosen(org: Org, status: int) -> None:
    post(org.state, "switches", {"expired_link_status": status})
    link = org.get("contacts?$select=fullname", TRACK)["@odata.deltaLink"]
    post(org.state, "expire-delta-links", {})

    assert refusal(org.ask(link))[:2] == (status, "0x80044352")


def test_a_mirror_may_vanish_without_a_word(org: Org) -> None:
    _, connection = sale(org, contact_of(org))
    post(org.state, "switches", {"mirror_tombstone": "missing"})
    mirror = org.get(f"connections({connection})")["_relatedconnectionid_value"]
    link = org.get("connections?$select=name", TRACK)["@odata.deltaLink"]

    send(org, "DELETE", f"connections({connection})")

    assert [row["id"] for row in org.get(link)["value"]] == [connection]
    assert org.ask(f"connections({mirror})").status_code == 404
