"""Every open question about both services, answered every way: the same story ends right under each setting.

The settings come from the emulators' own definitions, so that a new switch, or a new value, is tried by itself.
What is right says `tools.checker`, which shares no code with the sync.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from datetime import timedelta
from typing import Any

import pytest

from sync_core.errors import ConfigurationError, RetryLater
from sync_core.flows.audit import audit
from sync_core.flows.cases import Outcome
from sync_core.model import Lane, State, Work
from tests.flows.org import Org, lookup, wrong
from tests.flows.test_invariants import is_write
from tests.stage import Stage
from tools.checker import differences, expected
from tools.emulators.dataverse.administration import switch as switch_dataverse
from tools.emulators.dataverse.state import SWITCH_VALUES, SWITCHES
from tools.emulators.marketo.catalogue import Field
from tools.emulators.marketo.switches import Switches

Setting = tuple[str, str, Any]
"""Service, switch, value."""

OUR_CLIENT = "33333333-3333-4333-8333-333333333333"
DATAVERSE_TABLES = ("opportunity", "contact", "account", "connection", "connectionrole")
MARKETO_OBJECTS = ("opportunities", "roles", "companies", "leads")
TRACKED_TABLES = ("opportunity", "connection", "contact", "account")
A_CALL = 300
WAIT_FOR_OTHERS = ("people:", "company:")  # reasons that only somebody else can end

SAMPLES: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("marketo", "visible_after"): (30.0,),
    ("marketo", "permissions"): (
        {OUR_CLIENT: []},
        {OUR_CLIENT: ["Read-Write Opportunity", "Read-Write Company", "Read-Only Lead"]},
    ),
    ("marketo", "token_lifetime"): (40,),
    ("marketo", "rate_limit"): (5,),
    ("marketo", "rate_window"): (90,),
    ("marketo", "concurrency"): (1,),
    ("marketo", "daily_quota"): (25,),
    ("marketo", "quota_reset"): ("America/Chicago",),
    ("marketo", "background_calls"): (97,),
    ("marketo", "background_in_flight"): (9,),
    ("marketo", "background_daily"): (49_975,),
    ("marketo", "latency"): (0.0001, {"write": 0.0001}),
    ("dataverse", "privileges"): ({"contact": "none"}, {"connection": "business_unit"}),
    ("dataverse", "token_lifetime"): (60,),
    ("dataverse", "web_servers"): (3,),
    ("dataverse", "limit_requests"): (40,),
    ("dataverse", "limit_time_s"): (0.001,),
    ("dataverse", "limit_concurrency"): (1,),
    ("dataverse", "limit_window_s"): (20,),
}
"""Values for the switches that take any number, text or table: enough to make the limit felt."""

NOT_ON_THE_STAGE = {("dataverse", "column_security_profile"), ("dataverse", "write_privileges")}
"""None of the stage's columns is secured; what comes of those is tried in tests/flows/test_validate.py.

Nothing but `probe` ever writes to Dynamics; see tests/flows/test_probe_dynamics.py.
"""

STOPS: Mapping[tuple[str, str, str], str] = {
    ("marketo", "native_crm_sync", "True"): "natively linked to a CRM.*use a subscription without such a link",
    ("marketo", "native_crm_roles", "unavailable"): "natively linked to a CRM.*use a subscription without such a link",
    ("marketo", "permissions", str({OUR_CLIENT: []})): "access denied: give the API user's role",
    ("dataverse", "application_user", "disabled"): "application user",
    ("dataverse", "application_user", "missing"): "application user",
    ("dataverse", "application_user", "no_role"): "(?i)read privilege|privilege to read|security role",
    ("dataverse", "privileges", str({"contact": "none"})): "contact",
    ("dataverse", "privileges", str({"connection": "business_unit"})): "connection",
}
"""Settings no sync can live with, and what the message has to say."""

COMPANIONS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("marketo", "native_crm_roles"): {"native_crm_sync": True},  # says what the role API of such a subscription does
    ("marketo", "rate_window"): {"rate_limit": 15},
    ("marketo", "quota_reset"): {"daily_quota": 25},
    ("dataverse", "web_servers"): {"limit_requests": 40},
    ("dataverse", "limit_window_s"): {"limit_requests": 40},
}
"""What has to be switched as well, for the switch to matter."""


FELT: Mapping[tuple[str, str], str] = {
    ("marketo", "rate_limit"): "606",
    ("marketo", "rate_window"): "606",
    ("marketo", "background_calls"): "606",
    ("marketo", "daily_quota"): "607",
    ("marketo", "quota_reset"): "607",
    ("marketo", "background_daily"): "607",
    ("dataverse", "web_servers"): "429",
    ("dataverse", "limit_requests"): "429",
    ("dataverse", "limit_window_s"): "429",
}
"""Limits, and what the services must have said in the course of the story, or its samples are too kind."""


def known_switches() -> dict[tuple[str, str], tuple[Any, tuple[Any, ...]]]:
    """(service, switch) → its default, and the values to try besides."""
    found: dict[tuple[str, str], tuple[Any, tuple[Any, ...]]] = {}
    for each in fields(Switches):
        default = each.default if each.default is not MISSING else each.default_factory()  # type: ignore[misc]
        values = each.metadata.get("choices") or ((True, False) if isinstance(default, bool) else ())
        found["marketo", each.name] = default, values
    for name, default in SWITCHES.items():
        found["dataverse", name] = default, tuple(SWITCH_VALUES.get(name, ()))
    return {key: (default, values or SAMPLES.get(key, ())) for key, (default, values) in found.items()}


def settings() -> Iterator[Setting]:
    """Each value that is not the default, alone; the defaults together are a setting of their own."""
    yield "both", "defaults", None
    for (service, name), (default, values) in known_switches().items():
        for value in sorted(values, key=str):
            if value != default:
                yield service, name, value


ALL = list(settings())
STOPPING = [each for each in ALL if (each[0], each[1], str(each[2])) in STOPS]


def label(setting: Setting) -> str:
    return "-".join(map(str, setting[1:]))


def turn(stage: Stage, setting: Setting) -> None:
    service, name, value = setting
    values = {name: value, **COMPANIONS.get((service, name), {})}
    if service == "marketo":
        stage.marketo.switches.set(values)
    elif service == "dataverse":
        switch_dataverse(stage.dataverse, values)


def test_every_switch_has_values_to_try() -> None:
    untried = {key for key, (default, values) in known_switches().items() if not set(map(str, values)) - {str(default)}}

    assert untried == NOT_ON_THE_STAGE


# --- the story --------------------------------------------------------------------------------------------------


class Story:
    """An org with every case at once; each chapter ends with `rest` and what the oracle says."""

    def __init__(self, setting: Setting) -> None:
        self.stage = Stage(page_size=160)
        turn(self.stage, setting)
        self.service, self.switch, self.value = setting
        self.org = Org(self.stage)
        self.stage.clock.sleep(60)

    # --- chapter one: a first load ------------------------------------------------------------------------------

    def first_load(self) -> None:
        stage, org = self.stage, self.org
        self.lead = dict(zip(self.WRITTEN, stage.people(*self.WRITTEN), strict=True))
        self.bulk()
        org.stakeholder(org.ann)
        org.stakeholder(org.contact(" ANN@acme.invalid "))  # the same person for Marketo
        org.stakeholder(org.ann, "decision maker")  # the same role for Marketo
        org.stakeholder(org.contact(None))
        stage.edit("connect", opportunity=org.deal, account=org.bolt, role="Champion")
        self.cid_deal = org.opportunity("Sold to a contact", contact=org.cid)
        org.stakeholder(org.cid, "Champion", self.cid_deal)
        org.update("account", org.acme, name="Acme " + "of the long name " * 9, websiteurl="https://acme.invalid")
        self.long = org.opportunity("Long", account=org.acme, estimatedvalue=1_234_567.89)
        stage.load(opportunity=[{"opportunityid": self.long, "name": "N" * 300, "description": "d" * 2500}])
        org.stakeholder(org.bob, "A role with a name that is longer than fifty characters: that much", self.long)
        org.stakeholder(org.bob, "A role with a name that is longer than fifty characters, its twin", self.long)
        self.late = org.opportunity("Somebody is missing", account=org.acme)
        org.stakeholder(org.contact("late@acme.invalid"), "Champion", self.late)
        org.stakeholder(org.bob, "Champion", self.late)
        self.hidden = "0b8f2f38-0000-4000-8000-00000000aaaa"
        self.unknown = "0b8f2f38-0000-4000-8000-00000000bbbb"
        row = {"opportunityid": self.unknown, "name": "Sold to whom?", "_accountid_value": self.hidden}
        stage.load(opportunity=[row | lookup("customerid", self.hidden, "account")])
        self.changes_to_come()
        self.while_somebody_works()

    WRITTEN = ("mia@old.invalid", "mia@new.invalid", "eve@acme.invalid", "fay@acme.invalid", "gus@acme.invalid")

    def bulk(self) -> None:
        """More than one call takes: opportunities, people, roles."""
        stage, org, number = self.stage, self.org, A_CALL + 3
        self.crowded = org.opportunity("Everybody has a say", account=org.acme)
        ids = [f"0b8f2f38-0000-4000-8000-{n:012}" for n in range(number)]
        self.many = ids
        contacts = [
            {"contactid": id, "lastname": "Guest", "emailaddress1": f"g{n}@x.invalid"} for n, id in enumerate(ids)
        ]
        deals = [
            {"opportunityid": id, "name": f"Bulk {n}", **lookup("customerid", org.acme, "account")}
            for n, id in enumerate(ids)
        ]
        ends = [
            lookup("record1id", self.crowded, "opportunity")
            | lookup("record2id", id, "contact")
            | {"connectionrole.name": "End User"}
            for id in ids
        ]
        stage.load(contact=contacts, opportunity=deals, connection=ends)
        stage.people(*(f"g{n}@x.invalid" for n in range(number)))

    def changes_to_come(self) -> None:
        """Opportunities that the second chapter changes."""
        org = self.org
        deal: Callable[..., str] = org.opportunity
        self.moving, self.cleared, self.won = (deal(name, account=org.acme) for name in ("Moving", "Cleared", "Won"))
        self.mine = deal("People change", account=org.bolt)
        self.leaving = org.stakeholder(org.bob, "Champion", self.mine)
        self.promoted = org.stakeholder(org.ann, "Champion", self.mine)
        self.merging = org.contact("gus@acme.invalid", org.acme)
        org.stakeholder(self.merging, "Influencer", self.mine)
        self.master = org.contact("fay@acme.invalid", org.bolt)
        self.mia, self.mio = org.contact("mia@old.invalid"), org.contact("mia@new.invalid")
        self.twice = deal("Two people who are one", account=org.acme)
        for contact, role in ((self.mia, "Champion"), (self.mio, "Champion"), (self.mio, "Influencer")):
            org.stakeholder(contact, role, self.twice)
        self.eve = org.contact("eve@acme.invalid", org.acme)
        self.deserted = deal("Somebody vanishes", contact=self.eve)
        org.stakeholder(self.eve, "Champion", self.deserted)
        self.restored, self.dropped = deal("Restored", account=org.acme), deal("Dropped", account=org.acme)
        org.stakeholder(org.bob, "Champion", self.restored)
        org.stakeholder(self.mio, "Champion", self.dropped)
        org.stakeholder(org.bob, "Champion", self.dropped)
        self.erased = deal("Erased in Marketo", account=org.bolt)
        org.stakeholder(org.bob, "Champion", self.erased)

    def while_somebody_works(self) -> None:
        """An opportunity of the first page changes after that page was queued and handled."""
        source, pages = self.stage.world.source, []
        changes = source.changes

        def meanwhile(table: str, link: str | None) -> Any:
            if table == "opportunity":
                pages.append(link)
                if len(pages) == 2:
                    self.stage.drain()
                    self.org.update("opportunity", self.many[0], name="Changed meanwhile")
            return changes(table, link)

        source.changes = meanwhile  # type: ignore[method-assign]

    # --- chapter two: everything changes -------------------------------------------------------------------------

    def changes(self) -> None:
        stage, org = self.stage, self.org
        for name in ("Renamed", "Renamed again"):  # a row that changed twice
            org.update("opportunity", org.deal, name=name)
        org.update("opportunity", self.moving, **lookup("parentaccountid", org.bolt, "account"))
        org.update("opportunity", self.cleared, **lookup("customerid", None, "account"))
        stage.edit("win", id=self.won)
        if self.switch == "closed_opportunities_are_read_only":
            org.update("opportunity", self.won, name="Corrected after the end")
        org.update("account", org.bolt, name="Bolt Ltd", websiteurl=None)
        stage.edit("disconnect", id=self.leaving)
        influencer = lookup("record2roleid", stage.dataverse.role_named("Influencer"), "connectionrole")
        org.update("connection", self.promoted, **influencer)
        stage.edit("merge", table="contact", id=self.merging, into=self.master)
        org.update("connectionrole", stage.dataverse.role_named("End User"), name="Daily User")
        self.people_change_in_marketo()
        row = stage.dataverse.row("opportunity", self.restored)
        self.kept = {k: v for k, v in row.items() if k != "versionnumber"}  # type: ignore[union-attr]
        for gone in (self.restored, self.dropped, org.opportunity("Never seen")):
            org.delete("opportunity", gone)
        key = {"externalOpportunityId": self.erased}
        stage.marketo.edit({"op": "delete", "object": "opportunities", "key": key})
        org.stakeholder(org.ann, "Champion", self.erased)

    def people_change_in_marketo(self) -> None:
        stage, org = self.stage, self.org
        one, other = self.lead["mia@old.invalid"], self.lead["mia@new.invalid"]
        stage.marketo.merge(one, [other])
        address = {"email": "mia@new.invalid"}
        stage.marketo.edit({"op": "update", "object": "leads", "key": {"id": one}, "values": address})
        org.update("contact", self.mia, emailaddress1="mia@new.invalid")
        stage.marketo.edit({"op": "delete-lead", "id": self.lead["eve@acme.invalid"]})
        org.stakeholder(self.eve, "Influencer", self.deserted)

    # --- chapter three: who was missing is there again -----------------------------------------------------------

    def everybody_returns(self) -> None:
        stage, org = self.stage, self.org
        self.lead |= dict(zip(("late", "eve"), stage.people("late@acme.invalid", "eve@acme.invalid"), strict=True))
        stage.edit("create", table="account", id=self.hidden, values={"name": "Known at last"})
        stage.load(opportunity=[self.kept])
        org.stakeholder(org.ann, "Champion", self.restored)

    # --- what holds at the end of every chapter -------------------------------------------------------------------

    def rest(self, *, others: bool = False) -> None:
        """Ticks and deliveries until nothing is to be done; *others*: also for what waits for somebody else."""
        for _ in range(30):
            self.stage.clock.sleep(31)
            self.sync()
            due = self.due(others=others)
            if not due:
                return
            self.stage.clock.sleep(max(1.0, (min(due) - self.stage.clock.now()).total_seconds() + 1))
        pytest.fail(f"no rest: {self.waiting()}")

    def sync(self) -> list[Outcome]:
        """A tick that Dataverse has no time for is the timer's to repeat."""
        for _ in range(100):
            try:
                return self.stage.sync()
            except RetryLater as error:
                self.stage.clock.sleep(error.delay)
        pytest.fail("Dataverse never has time")

    def due(self, *, others: bool) -> list[Any]:
        rows = [*self.ledger().values(), *self.companies().values()]
        waiting = [row for row in rows if row.state is State.WAITING]
        return [row.due for row in waiting if others or not row.reason.startswith(WAIT_FOR_OTHERS)]

    def look_again(self) -> None:
        """What `resync` does: everything is looked at, and no memory is trusted."""
        ids = {row["opportunityid"] for row in self.stage.dataverse.rows("opportunity")} - {*self.many[1:]}
        self.stage.world.queue.put(Work(tuple(sorted(ids)), (self.org.acme, self.org.bolt), Lane.SLOW, force=True))
        self.rest()

    def ledger(self) -> dict[str, Any]:
        return self.stage.world.opportunities.content  # type: ignore[attr-defined,no-any-return]

    def companies(self) -> dict[str, Any]:
        return self.stage.world.companies.content  # type: ignore[attr-defined,no-any-return]

    def waiting(self) -> dict[str, str]:
        return {key: row.reason for key, row in self.ledger().items() if row.state is State.WAITING}

    def check(self, *but: str) -> None:
        """Exact but for *but*, and nobody is parked, held or poisoned."""
        tables = {table: self.stage.dataverse.rows(table) for table in DATAVERSE_TABLES}
        marketo = {name: self.stage.marketo.rows(name) for name in MARKETO_OBJECTS}
        wanted = expected(tables, marketo["leads"], now=self.stage.clock.now())
        PROMISES.get((self.switch, str(self.value)), as_it_is)(self, wanted)

        assert differences(wanted, marketo) == list(but)
        counts = self.stage.world.opportunities.counts()
        assert (counts[State.PARKED], counts[State.HELD]) == (0, 0)
        assert not any(self.stage.world.queue.lengths().values())
        companies = {key for key, row in self.companies().items() if row.state is not State.IN_STEP}
        assert companies == ({self.hidden} if but else set())

    def heard(self) -> set[str]:
        """Every code and status that the services gave."""
        codes = {code for call in self.stage.marketo.journal.since(0) for code in call["codes"]}
        return codes | {str(call["status"]) for call in self.stage.dataverse_app.journal.since(0)}

    def check_calls(self) -> None:
        """No call that an open question could turn against us: full at most, never empty, signed in the header."""
        calls = [call for call in self.stage.marketo.journal.since(0) if not {"606", "607"} & {*call["codes"]}]

        assert {1 <= call["records"] <= A_CALL for call in calls if call["kind"] == "write"} == {True}
        assert max(call["filter_values"] for call in calls) == A_CALL
        assert not any(call["token_in_url"] for call in calls)
        assert not {code for call in calls for code in call["codes"]} & {"600", "603", "609", "610", "1003", "1036"}


# --- where a setting makes the exact result impossible, what is promised instead ---------------------------------


def as_it_is(story: Story, wanted: Any) -> None: ...


def company_stays(story: Story, wanted: Any) -> None:
    """Marketo takes null for nothing said: no call can clear a company, so the last one stays named."""
    if hasattr(story, "kept"):  # chapter two is over
        wanted.opportunities[story.cleared]["externalCompanyId"] = story.org.acme


def single_precision(story: Story, wanted: Any) -> None:
    """Marketo keeps 24 bits of an amount: what is left of ours is exactly what 32 bits hold."""
    for row in wanted.opportunities.values():
        if row["amount"] is not None:
            row["amount"] = struct.unpack("f", struct.pack("f", row["amount"]))[0]


PROMISES: Mapping[tuple[str, str], Callable[[Story, Any], None]] = {
    ("null_company", "unchanged"): company_stays,
    ("currency_32bit", "True"): single_precision,
}


@pytest.mark.parametrize("setting", [each for each in ALL if each not in STOPPING], ids=label)
def test_the_story_ends_right_whatever_the_answer(setting: Setting) -> None:
    story = Story(setting)
    stage = story.stage
    story.first_load()

    story.rest()
    no_company = f"opportunity {story.unknown}: externalCompanyId is None, not {story.hidden!r}"
    story.check(no_company)
    assert story.waiting() == {
        story.late: "people: 1 not in Marketo",
        story.unknown: "company: the account is not in Marketo yet",
    }

    story.changes()
    story.rest()
    story.look_again()
    story.check(no_company)
    assert story.waiting() == {
        story.late: "people: 1 not in Marketo",
        story.deserted: "people: 3 not in Marketo",
        story.unknown: "company: the account is not in Marketo yet",
    }

    story.everybody_returns()
    story.rest(others=True)
    story.check()
    assert story.waiting() == {}
    assert stage.roles(story.late) >= {(story.late, story.lead["late"], "Champion")}
    story.check_calls()
    assert FELT.get(setting[:2], "200") in story.heard()

    before, activities = stage.writes(), len(stage.marketo.database.activities.entries)
    stage.clock.sleep(timedelta(hours=25).total_seconds())  # whoever is remembered in Marketo is looked up again
    stage.dataverse.expire_delta_links()
    outcomes = story.sync()
    assert sum(outcome.counts["handled"] for outcome in outcomes) > A_CALL
    assert stage.writes() == before
    assert len(stage.marketo.database.activities.entries) == activities
    assert audited(stage) == (PROMISES.get((setting[1], str(setting[2]))) is company_stays)


def audited(stage: Stage) -> int:
    """What the audit finds different; waits for a service as the command does."""
    while True:
        try:
            return int(audit(stage.world, lambda _: None)["differences"])
        except RetryLater as error:
            stage.clock.sleep(error.delay)


# --- settings no sync can live with -------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", STOPPING, ids=label)
def test_a_setting_no_sync_can_live_with_stops_it_and_says_what_to_do(setting: Setting) -> None:
    stage = Stage()
    org = Org(stage)
    org.stakeholder(org.ann)
    usual = known_switches()
    turn(stage, setting)

    assert re.search(STOPS[setting[0], setting[1], str(setting[2])], trouble(stage))
    assert not any(stage.marketo.rows(name) for name in MARKETO_OBJECTS[:3])
    assert not stage.world.opportunities.content  # type: ignore[attr-defined]
    lengths = stage.world.queue.lengths()
    assert not any(number for name, number in lengths.items() if name not in ("fresh", "slow"))

    names = {setting[1], *COMPANIONS.get(setting[:2], {})}
    for name in names:
        turn(stage, (setting[0], name, usual[setting[0], name][0]))
    stage.marketo.switches.set({"native_crm_sync": False})
    stage.clock.sleep(600)
    stage.sync()
    assert wrong(stage) == []


def trouble(stage: Stage) -> str:
    """What the tick, or else the delivery, says is to be done."""
    try:
        stage.tick()
    except ConfigurationError as error:
        return str(error)
    outcome = stage.deliver()
    assert outcome is not None
    assert isinstance(outcome.trouble, ConfigurationError)
    return str(outcome.trouble)


def test_every_stop_is_a_setting() -> None:
    assert {(service, name, str(value)) for service, name, value in STOPPING} == STOPS.keys()


# --- what the story does not provoke --------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TRACKED_TABLES)
@pytest.mark.parametrize("answer", sorted(SWITCH_VALUES["untracked_table"]))
def test_a_table_without_change_tracking_is_followed_all_the_same(answer: str, table: str) -> None:
    """Changes at once; a deletion leaves nothing behind to follow, so that the daily comparison finds it."""
    stage = Stage()
    turn(stage, ("dataverse", "untracked_table", answer))
    stage.dataverse.tables[table].tracked = False
    org = Org(stage)
    gone, connection = org.opportunity("Gone", contact=org.cid), org.stakeholder(org.ann)
    stage.sync()
    assert wrong(stage) == []

    stage.clock.sleep(1200)
    org.update("opportunity", org.deal, name="Renamed")
    org.update("account", org.acme, name="Acme Ltd")
    org.update("contact", org.cid, **lookup("parentcustomerid", org.acme, "account"))
    org.stakeholder(org.bob, "Champion")
    stage.sync()
    assert wrong(stage) == []

    stage.edit("disconnect", id=connection)
    org.delete("opportunity", gone)
    for _ in range(2):
        stage.clock.sleep(timedelta(hours=25).total_seconds())
        stage.sync()
    assert wrong(stage) == []


def choices(name: str) -> tuple[str, ...]:
    return next(tuple(each.metadata["choices"]) for each in fields(Switches) if each.name == name)


@pytest.mark.parametrize(
    ("switch", "answer", "field", "value"),
    [("too_long", answer, "name", "x" * 300) for answer in choices("too_long")]
    + [("type_mismatch", answer, "probability", "many") for answer in choices("type_mismatch")],
)
def test_a_value_that_marketo_takes_amiss_harms_only_its_record(
    switch: str, answer: str, field: str, value: Any
) -> None:
    """The mapping cuts and converts, so that only something between us and Marketo can send such a value."""
    stage = Stage()
    turn(stage, ("marketo", switch, answer))
    org = Org(stage)
    bad = org.opportunity("Bad", account=org.acme)
    stage.marketo_wire.fault = lambda request: spoil(request, bad, field, value)
    stage.sync()

    row = stage.world.opportunities.rows([bad])[bad]
    if answer == "truncated":  # Marketo says "created": nobody can know
        assert (row.state, len(stage.opportunities()[bad]["name"])) == (State.IN_STEP, 255)
    else:
        assert (row.state, row.reason.partition(":")[0]) == (State.PARKED, answer)
    assert [line for line in wrong(stage) if bad not in line] == []
    stage.marketo_wire.fault = None
    org.update("opportunity", bad, name="Good", description="Corrected")
    stage.sync()
    assert wrong(stage) == []


def spoil(request: Any, key: str, field: str, value: Any) -> None:
    if is_write(request) and str(request.url).endswith("/opportunities.json"):
        body = json.loads(request.body)
        for record in body["input"]:
            if record["externalOpportunityId"] == key:
                record[field] = value
        request.body = json.dumps(body).encode()
        request.headers["Content-Length"] = str(len(request.body))


@pytest.mark.parametrize("answer", choices("unknown_field"))
def test_a_field_that_vanishes_from_marketo_stops_the_lane_until_it_is_back(answer: str) -> None:
    stage = Stage(changes={'description  = "description"': 'pitch__c = "description"'})
    turn(stage, ("marketo", "unknown_field", answer))
    pitch = Field("pitch__c", "text", custom=True)
    stage.marketo.add_field("opportunities", pitch)
    org = Org(stage)
    org.opportunity("Second", account=org.acme)
    stage.sync()
    kind = stage.marketo.database.kinds["opportunities"]
    del kind.fields["pitch__c"], kind.by_lower_name["pitch__c"]
    org.update("opportunity", org.deal, description="Buy two")

    text = trouble(stage)

    assert re.search("pitch__c|unknown field in the mapping", text)
    assert not stage.world.opportunities.counts()[State.PARKED]
    stage.marketo.add_field("opportunities", pitch)
    stage.clock.sleep(600)
    stage.sync()
    assert stage.opportunities()[org.deal]["pitch__c"] == "Buy two"
