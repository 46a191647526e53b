"""What each change in Dynamics becomes in Marketo, by the real path: delta links, queue, rules, REST calls."""

from __future__ import annotations

import pytest

from sync_core.model import State
from tests.flows.org import Org, lookup
from tests.stage import Stage


def state_of(stage: Stage, key: str) -> tuple[State, str]:
    row = stage.world.opportunities.rows([key])[key]
    return row.state, row.reason


def test_a_saved_opportunity_shows_up_with_its_company_and_its_people(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)

    stage.sync()

    shown = stage.opportunities()[org.deal]
    assert (shown["name"], shown["amount"], shown["stage"]) == ("Deal", 1000.0, "Open")
    assert (shown["isWon"], shown["isClosed"], shown["externalCompanyId"]) == (False, False, org.acme)
    assert stage.roles() == {(org.deal, org.lead_ann, "Decision Maker")}
    assert [row["company"] for row in stage.marketo.rows("companies")] == ["Acme"]


def test_a_contact_as_customer_brings_its_account_and_a_primary_role(stage: Stage, org: Org) -> None:
    deal = org.opportunity(contact=org.cid)

    stage.sync()

    assert stage.opportunities()[deal]["externalCompanyId"] == org.bolt
    role = next(row for row in stage.marketo.rows("roles") if row["externalOpportunityId"] == deal)
    assert (role["leadId"], role["role"], role["isPrimary"]) == (org.lead_cid, "Primary Contact", True)


def test_the_same_input_twice_costs_no_marketo_write(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    before = stage.writes()
    stage.dataverse.expire_delta_links()

    outcomes = stage.sync()

    assert stage.writes() == before
    assert sum(outcome.counts["handled"] for outcome in outcomes) >= 1


def test_a_stakeholder_added_later_gets_a_role(stage: Stage, org: Org) -> None:
    stage.sync()
    org.stakeholder(org.bob, "Champion")

    stage.sync()

    assert stage.roles() == {(org.deal, org.lead_bob, "Champion")}


@pytest.mark.parametrize("how", ["deleted", "deactivated", "ended"])
def test_a_stakeholder_who_is_no_longer_one_loses_the_role(stage: Stage, org: Org, how: str) -> None:
    connection = org.stakeholder(org.bob, "Champion")
    stage.sync()
    if how == "deleted":
        stage.edit("disconnect", id=connection)
    else:
        mirror = stage.dataverse.row("connection", connection)["_relatedconnectionid_value"]
        change = {"statecode": 1, "statuscode": 2} if how == "deactivated" else {"effectiveend": "2026-03-01T00:00:00Z"}
        for row in (connection, mirror):
            org.update("connection", row, **change)

    stage.sync()

    assert stage.roles() == set()


def test_a_changed_role_is_added_before_the_old_one_goes(stage: Stage, org: Org) -> None:
    connection = org.stakeholder(org.bob, "Champion")
    stage.sync()
    champion = stage.dataverse.role_named("Influencer")
    row = stage.dataverse.row("connection", connection)
    org.update("connection", connection, **lookup("record2roleid", champion, "connectionrole"))
    org.update("connection", row["_relatedconnectionid_value"], **lookup("record1roleid", champion, "connectionrole"))

    stage.sync()

    assert stage.roles() == {(org.deal, org.lead_bob, "Influencer")}
    assert _role_writes(stage)[-2:] == ["sync", "delete"]


def test_a_renamed_connection_role_replaces_the_role_everywhere(stage: Stage, org: Org) -> None:
    org.stakeholder(org.bob, "Champion")
    stage.sync()
    org.update("connectionrole", stage.dataverse.role_named("Champion"), name="Sponsor")

    stage.sync()

    assert stage.roles() == {(org.deal, org.lead_bob, "Sponsor")}


def test_a_deal_moved_to_another_account_names_the_other_company(stage: Stage, org: Org) -> None:
    stage.sync()
    org.update("opportunity", org.deal, **lookup("parentaccountid", org.bolt, "account"))

    stage.sync()

    assert stage.opportunities()[org.deal]["externalCompanyId"] == org.bolt


def test_a_contact_that_changes_its_account_moves_the_deals_it_is_customer_of(stage: Stage, org: Org) -> None:
    deal = org.opportunity(contact=org.cid)
    stage.sync()
    org.update("contact", org.cid, **lookup("parentcustomerid", org.acme, "account"))

    stage.sync()

    assert stage.opportunities()[deal]["externalCompanyId"] == org.acme


def test_a_merged_contact_stands_for_its_master(stage: Stage, org: Org) -> None:
    org.stakeholder(org.bob, "Champion")
    stage.sync()
    stage.edit("merge", table="contact", id=org.bob, into=org.ann)

    stage.sync()

    assert stage.roles() == {(org.deal, org.lead_ann, "Champion")}
    assert _role_writes(stage)[-2:] == ["sync", "delete"]


def test_a_won_deal_tells_its_whole_state_in_one_record(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.edit("win", id=org.deal)

    stage.sync()

    shown = stage.opportunities()[org.deal]
    assert (shown["stage"], shown["isWon"], shown["isClosed"]) == ("Won", True, True)
    assert shown["closeDate"] == "2026-03-02"


def test_a_deleted_deal_goes_and_its_roles_go_first(stage: Stage, org: Org) -> None:
    org.stakeholder(org.bob)
    others = [org.opportunity(f"Other {number}") for number in range(3)]
    stage.sync()
    org.delete("opportunity", org.deal)

    stage.sync()

    assert stage.opportunities().keys() == set(others)
    assert stage.roles() == set()
    deletions = [call["endpoint"] for call in stage.marketo.journal.since(0) if "delete" in call["endpoint"]]
    assert [("roles" in endpoint) for endpoint in deletions] == [True, False]
    assert state_of(stage, org.deal)[0] is State.GONE


def test_a_deleted_deal_that_marketo_never_had_leaves_a_fence_and_costs_nothing(stage: Stage, org: Org) -> None:
    stage.sync()
    short_lived = org.opportunity("Mistake")
    org.delete("opportunity", short_lived)
    before = stage.writes()

    stage.sync()

    assert stage.writes() == before
    assert state_of(stage, short_lived)[0] is State.GONE


def test_a_company_follows_its_account(stage: Stage, org: Org) -> None:
    stage.sync()
    org.update("account", org.acme, name="Acme Ltd", websiteurl="https://acme.invalid")

    stage.sync()

    shown = next(row for row in stage.marketo.rows("companies") if row["externalCompanyId"] == org.acme)
    assert (shown["company"], shown["website"]) == ("Acme Ltd", "https://acme.invalid")


def test_an_account_nobody_sells_to_never_becomes_a_company(stage: Stage, org: Org) -> None:
    stage.sync()
    org.update("account", org.bolt, name="Bolt Ltd")

    stage.sync()

    assert {row["externalCompanyId"] for row in stage.marketo.rows("companies")} == {org.acme}


def test_a_cleared_column_clears_the_field(stage: Stage, org: Org) -> None:
    org.update("opportunity", org.deal, description="Talked about skates")
    stage.sync()
    org.update("opportunity", org.deal, description=None)

    stage.sync()

    assert stage.opportunities()[org.deal]["description"] is None


def test_a_row_without_a_name_gets_the_default(stage: Stage, org: Org) -> None:
    stage.load(opportunity=[{"opportunityid": "0b8f2f38-0000-4000-8000-000000000001", "name": None}])

    stage.sync()

    assert stage.opportunities()["0b8f2f38-0000-4000-8000-000000000001"]["name"] == "(no topic)"


def test_a_person_missing_in_marketo_waits_and_completes_when_the_person_arrives(stage: Stage, org: Org) -> None:
    dan = org.contact("dan@acme.invalid", org.acme)
    org.stakeholder(dan)
    stage.sync()

    assert state_of(stage, org.deal) == (State.WAITING, "people: 1 not in Marketo")

    (lead,) = stage.people("dan@acme.invalid")
    stage.clock.sleep(120)
    stage.sync()

    assert stage.roles() == {(org.deal, lead, "Decision Maker")}
    assert state_of(stage, org.deal)[0] is State.IN_STEP


def test_a_waiting_opportunity_whose_person_is_still_missing_costs_one_look_up_and_no_write(
    stage: Stage, org: Org
) -> None:
    org.stakeholder(org.contact("dan@acme.invalid"))
    stage.sync()
    before = stage.marketo.journal.summary()["total"]
    stage.clock.sleep(120)

    stage.sync()

    assert stage.marketo.journal.summary()["total"] == before + 1
    assert stage.marketo.journal.summary()["by_endpoint"]["GET /rest/v1/leads.json"] == 2


def test_a_contact_without_email_gives_no_role_and_nothing_waits(stage: Stage, org: Org) -> None:
    org.stakeholder(org.contact(None))

    stage.sync()

    assert stage.roles() == set()
    assert state_of(stage, org.deal)[0] is State.IN_STEP


def test_contacts_who_share_an_address_share_one_role(stage: Stage, org: Org) -> None:
    twin = org.contact("ANN@acme.invalid")
    org.stakeholder(org.ann)
    org.stakeholder(twin)

    stage.sync()

    assert stage.roles() == {(org.deal, org.lead_ann, "Decision Maker")}


def test_of_several_people_with_one_address_the_most_recent_is_taken(stage: Stage, org: Org) -> None:
    stage.clock.sleep(60)
    (newer,) = stage.marketo.load({"leads": [{"email": "Ann@acme.invalid"}]})["leads"]
    org.stakeholder(org.ann)

    stage.sync()

    assert stage.roles() == {(org.deal, newer, "Decision Maker")}


def test_a_connection_to_an_account_gives_no_role(stage: Stage, org: Org) -> None:
    stage.edit("connect", opportunity=org.deal, account=org.bolt, role="Champion")

    stage.sync()

    assert stage.roles() == set()


def test_an_opportunity_that_marketo_has_already_is_adopted_with_its_roles(stage: Stage, org: Org) -> None:
    stage.marketo.load(
        {
            "opportunities": [{"externalOpportunityId": org.deal, "name": "Old"}],
            "roles": [
                {"externalOpportunityId": org.deal, "leadId": org.lead_bob, "role": "Champion"},
                {"externalOpportunityId": org.deal, "leadId": org.lead_bob, "role": "Invited by marketing"},
            ],
        }
    )
    org.stakeholder(org.ann)

    stage.sync()

    assert stage.roles() == {
        (org.deal, org.lead_ann, "Decision Maker"),
        (org.deal, org.lead_bob, "Invited by marketing"),
    }


def test_a_connection_that_was_moved_to_another_deal_leaves_no_role_behind(stage: Stage, org: Org) -> None:
    other = org.opportunity("Other")
    connection = org.stakeholder(org.ann)
    stage.sync()
    mirror = stage.dataverse.row("connection", connection)["_relatedconnectionid_value"]
    org.update("connection", connection, **lookup("record1id", other, "opportunity"))
    org.update("connection", mirror, **lookup("record2id", other, "opportunity"))

    stage.sync()

    assert stage.roles() == {(other, org.lead_ann, "Decision Maker")}


def test_a_restored_opportunity_comes_back(stage: Stage, org: Org) -> None:
    org.stakeholder(org.ann)
    stage.sync()
    row = stage.dataverse.row("opportunity", org.deal)
    org.delete("opportunity", org.deal)
    stage.sync()
    stage.load(opportunity=[row])
    stage.dataverse.expire_delta_links()

    stage.sync()

    assert org.deal in stage.opportunities()
    assert state_of(stage, org.deal)[0] is State.IN_STEP


def test_a_role_whose_person_was_merged_in_marketo_is_found_and_removed(stage: Stage, org: Org) -> None:
    connection = org.stakeholder(org.ann)
    stage.sync()
    stage.marketo.merge(org.lead_bob, [org.lead_ann])
    stage.edit("disconnect", id=connection)

    stage.sync()
    stage.clock.sleep(120)
    stage.sync()

    assert stage.roles() == set()
    assert state_of(stage, org.deal)[0] is State.IN_STEP


def test_a_person_deleted_and_made_again_in_marketo_gets_the_role_back(stage: Stage, org: Org) -> None:
    stage.sync()
    org.stakeholder(org.ann)
    stage.sync()
    stage.marketo.edit({"op": "delete-lead", "id": org.lead_ann})
    (again,) = stage.people("ann@acme.invalid")
    org.stakeholder(org.ann, "Champion")

    stage.sync()
    stage.clock.sleep(120)
    stage.sync()

    assert stage.roles() == {(org.deal, again, "Decision Maker"), (org.deal, again, "Champion")}


def test_a_tick_tidies_the_map_of_connections_up_unless_it_is_idle(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidied: list[float] = []
    monkeypatch.setattr(stage.world.connections, "tidy", lambda *, until: tidied.append(until))

    stage.tick()
    stage.tick()
    assert len(tidied) == 2, "it queued something, and found it on the queue"

    stage.sync()
    tidied.clear()
    stage.tick()
    assert tidied == []


def _role_writes(stage: Stage) -> list[str]:
    calls = [call for call in stage.marketo.journal.since(0) if "roles" in call["endpoint"] and call["kind"] == "write"]
    return ["delete" if "delete" in call["endpoint"] else "sync" for call in calls]
