"""Whoever owns the sync is told within minutes what is wrong, once, and when it is right again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from sync_core.engine import Engine
from sync_core.errors import ConfigurationError, CredentialsRefused, Unavailable
from sync_core.flows import actions
from sync_core.flows.audit import audit
from sync_core.flows.status import status
from sync_core.flows.watch import SAMPLES
from sync_core.messages import encode
from sync_core.model import Lane, LedgerRow, State, Work
from sync_core.rules.alerts import ALERTS
from tests.flows.org import Org
from tests.stage import Stage, changed

FIVE_MINUTES = 300


@dataclass
class Channel:
    """Port `Webhook`: what people read."""

    told: list[tuple[str, list[str]]] = field(default_factory=list)
    fails: Exception | None = None

    def tell(self, title: str, lines: Sequence[str]) -> None:
        if self.fails:
            raise self.fails
        self.told.append((title, list(lines)))


@pytest.fixture
def channel(stage: Stage) -> Channel:
    channel = Channel()
    stage.engine = Engine(replace(stage.world, webhook=channel))
    stage.world = stage.engine.world
    return channel


def names(stage: Stage) -> list[str]:
    return [alert["name"] for alert in stage.engine.watch()["alerts"]]


# --- every alert, brought about --------------------------------------------------------------------------------


def nobody_answers(stage: Stage, org: Org) -> None:
    """Dynamics is down while something changes."""

    def silent(*_: Any) -> Any:
        raise Unavailable("no answer")

    org.update("opportunity", org.deal, name="Changed")
    object.__setattr__(stage.world.source, "changes", silent)
    for _ in range(4):
        with pytest.raises(Unavailable):
            stage.tick()
        stage.clock.sleep(FIVE_MINUTES)


def marketo_has_no_calls_left(stage: Stage, org: Org) -> None:
    """What changed is put back until the quota is new: no message to be seen."""
    org.update("opportunity", org.deal, name="Changed")
    stage.limiter.daily_calls = 100_000
    stage.limiter.pause(until=stage.clock.now() + timedelta(hours=9), reason="607", quota=True)
    stage.tick()
    stage.drain()
    assert stage.world.queue.peek(Lane.FRESH) == []
    for _ in range(4):
        stage.clock.sleep(FIVE_MINUTES)
        stage.tick()


def somebody_forgot_to_resume(stage: Stage, org: Org) -> None:
    actions.pause(stage.world, "", who="test")
    for _ in range(5):
        stage.tick()
        stage.clock.sleep(FIVE_MINUTES)


def the_timer_died(stage: Stage, org: Org) -> None:
    stage.clock.sleep(1200)


def deletions(stage: Stage, org: Org) -> None:
    for number in range(3):
        org.delete("opportunity", org.opportunity(f"Gone {number}", account=org.acme))
    stage.sync()
    deals = [org.opportunity(f"Deal {number}", account=org.acme) for number in range(200)]
    stage.sync()
    for deal in deals:
        org.delete("opportunity", deal)
    stage.sync()


def a_message_is_poison(stage: Stage, org: Org) -> None:
    stage.world.queue.poison(Lane.FRESH, encode(Work((org.deal,))))
    stage.tick()


def a_field_is_gone(stage: Stage, org: Org) -> None:
    text = changed({'probability  = "closeprobability"': 'probability  = "new_gone"'})
    stage.adopt(text)
    stage.sync()


def most_calls_are_used(stage: Stage, org: Org) -> None:
    stage.limiter.used = 20_000


def detect_stopped_for_days(stage: Stage, org: Org) -> None:
    """One table can't be read for four days of seven; the others go on."""
    changes = stage.world.source.changes

    def but_contacts(table: str, link: Any) -> Any:
        if table == "contact":
            raise Unavailable("no answer")
        return changes(table, link)

    object.__setattr__(stage.world.source, "changes", but_contacts)
    stage.engine.watch()
    stage.clock.sleep(4 * 86_400)
    with pytest.raises(Unavailable):
        stage.tick()


def refused(error: ConfigurationError) -> Callable[[Stage, Org], None]:
    def happen(stage: Stage, org: Org) -> None:
        def refuse(*_: Any) -> Any:
            raise error

        object.__setattr__(stage.world.source, "changes", refuse)
        with pytest.raises(ConfigurationError):
            stage.tick()

    return happen


def another_organization(stage: Stage, org: Org) -> None:
    stage.engine = stage.variant(subscription="999-XYZ-000")
    stage.world = stage.engine.world
    with pytest.raises(ConfigurationError):
        stage.tick()


def somebody_changed_marketo(stage: Stage, org: Org) -> None:
    key = {"externalOpportunityId": org.deal}
    stage.marketo.edit({"op": "update", "object": "opportunities", "key": key, "values": {"name": "by hand"}})
    audit(stage.world, lambda _: None)


def the_secret_ends(stage: Stage, org: Org) -> None:
    stage.engine = stage.variant(credentials_expire=stage.clock.now() + timedelta(days=29))
    stage.world = stage.engine.world


@pytest.mark.parametrize(
    ("name", "happen"),
    [
        ("not-in-step", nobody_answers),
        ("not-in-step", marketo_has_no_calls_left),
        ("not-in-step", somebody_forgot_to_resume),
        ("tick-missed", the_timer_died),
        ("removals-held", deletions),
        ("poison", a_message_is_poison),
        ("field-suspended", a_field_is_gone),
        ("audit-differs", somebody_changed_marketo),
        ("budget", most_calls_are_used),
        ("delta-link", detect_stopped_for_days),
        ("credentials-refused", refused(CredentialsRefused("the secret has expired"))),
        ("stopped", refused(ConfigurationError("grant the right"))),
        ("wrong-pair", another_organization),
        ("credentials-expire", the_secret_ends),
    ],
)
def test_each_alert_begins_when_its_cause_does(
    stage: Stage, org: Org, channel: Channel, name: str, happen: Callable[[Stage, Org], None]
) -> None:
    stage.sync()
    assert names(stage) == []

    happen(stage, org)

    assert name in names(stage)
    ((title, lines),) = channel.told
    assert any(line.startswith(f"{name}: ") for line in lines)
    assert title.startswith("Opportunity Sync (123-EMU-456): ")
    assert names(stage) == [line.partition(":")[0] for line in lines]
    assert len(channel.told) == 1


def test_all_alerts_are_brought_about_here() -> None:
    (mark,) = [m for m in test_each_alert_begins_when_its_cause_does.pytestmark if m.name == "parametrize"]  # type: ignore[attr-defined]

    assert {name for name, _ in mark.args[1]} | {"watch-missed"} == ALERTS.keys()


def test_who_looks_at_the_page_sees_that_nobody_watches(stage: Stage, org: Org, channel: Channel) -> None:
    stage.sync()
    stage.engine.watch()
    for _ in range(4):
        stage.clock.sleep(FIVE_MINUTES)
        stage.tick()

    assert [alert["name"] for alert in status(stage.world)["alerts"]] == ["watch-missed"]
    assert names(stage) == []
    assert channel.told == []


# --- told once -------------------------------------------------------------------------------------------------


def test_people_are_told_when_it_begins_and_when_it_is_over_and_not_in_between(
    stage: Stage, org: Org, channel: Channel
) -> None:
    stage.sync()
    rows = [LedgerRow(f"00000000-0000-4000-8000-{n:012x}", state=State.HELD, reason="removals held: x") for n in (1, 2)]
    stage.world.opportunities.write(rows[:1])
    stage.engine.watch()
    stage.world.opportunities.write(rows[1:])
    stage.clock.sleep(60)
    stage.engine.watch()
    assert [lines for _, lines in channel.told] == [
        [
            "removals-held: 1 opportunity with removals that wait for approval. See what it is, by name: "
            "python -m sync_core approve-removals. All of it: docs/operations.md, removals-held"
        ]
    ]

    held = stage.world.opportunities.rows([row.id for row in rows])
    stage.world.opportunities.write([row.become(State.GONE) for row in held.values()])
    stage.engine.watch()
    stage.engine.watch()

    assert [lines for _, lines in channel.told[1:]] == [["removals-held: over"]]


def test_what_could_not_be_told_is_told_later_and_status_says_so(stage: Stage, org: Org, channel: Channel) -> None:
    stage.sync()
    stage.limiter.used = 25_000
    channel.fails = ConfigurationError("the address in ALERT_WEBHOOK_URL answers HTTP 404")
    found = stage.engine.watch()
    found = stage.engine.watch()
    assert found["webhook"] == "the address in ALERT_WEBHOOK_URL answers HTTP 404"
    assert any("nobody is told" in need for need in found["needs you"])

    channel.fails = None
    stage.engine.watch()

    assert [[line.split(":")[0] for line in lines] for _, lines in channel.told] == [["budget"]]
    assert status(stage.world)["webhook"] == "well"


def test_what_began_while_nobody_was_told_is_not_told_once_it_is_over(stage: Stage, org: Org, channel: Channel) -> None:
    stage.sync()
    stage.limiter.used = 25_000
    channel.fails = Unavailable("no answer")
    stage.engine.watch()
    stage.limiter.used = 10
    channel.fails = None

    stage.engine.watch()

    assert channel.told == []


def test_a_webhook_that_is_set_later_tells_only_what_begins_then(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.limiter.used = 25_000
    stage.engine.watch()
    channel = Channel()
    stage.engine = stage.variant(webhook=channel)

    stage.engine.watch()

    assert channel.told == []


def test_since_when_an_alert_is_on_is_remembered(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.limiter.used = 25_000
    began = stage.engine.watch()["at"]
    stage.clock.sleep(FIVE_MINUTES)
    stage.tick()

    assert status(stage.world)["alerts"] == [
        {"name": "budget", "since": began, "text": "25,000 of our 25,000 calls of today are used"}
    ]


# --- what is kept ----------------------------------------------------------------------------------------------


def test_a_day_of_samples_is_kept(stage: Stage, org: Org) -> None:
    stage.sync()
    for number in range(SAMPLES + 10):
        if number == SAMPLES:
            stage.world.queue.put(Work((org.deal,), lane=Lane.SLOW))
        stage.engine.watch()
        stage.clock.sleep(FIVE_MINUTES)

    samples = status(stage.world)["backlog"]

    assert len(samples) == SAMPLES
    assert [slow for _, _, slow in samples] == [0] * (SAMPLES - 10) + [1] * 10
    assert samples == sorted(samples)


def test_usage_is_asked_once_an_hour_and_only_while_we_use_any(stage: Stage, org: Org) -> None:
    stage.sync()

    def asked() -> int:
        return sum("usage" in call["path"] for call in stage.marketo.journal.since(0))

    for _ in range(24):
        stage.engine.watch()
        stage.clock.sleep(FIVE_MINUTES)
    assert asked() == 1  # the second hour brought no call of ours but that one

    for number in range(13):
        org.update("opportunity", org.deal, name=f"Changed {number}")
        stage.sync()
        found = stage.engine.watch()
        stage.clock.sleep(FIVE_MINUTES)

    assert asked() == 3
    assert found["Marketo calls"]["subscription today"] == len(
        [call for call in stage.marketo.journal.since(0) if call["path"].startswith("/rest")]
    )


def test_people_who_are_missing_are_counted(stage: Stage, org: Org) -> None:
    strangers = [org.contact(f"nobody{number}@acme.invalid", org.acme) for number in range(3)]
    other = org.opportunity("Other", account=org.acme)
    for contact in strangers:
        org.stakeholder(contact)
    org.stakeholder(strangers[0], opportunity=other)
    while not stage.tick().complete:
        pass
    stage.drain()

    missing = stage.engine.watch()["people missing"]

    assert (missing["people"], missing["roles"], missing["opportunities"]) == (3, 4, 2)


def test_it_watches_while_everything_is_stopped(stage: Stage, org: Org, channel: Channel) -> None:
    stage.sync()

    def refuse(*_: Any) -> Any:
        raise CredentialsRefused("the secret has expired")

    for port, name in ((stage.world.source, "retention"), (stage.world.target, "usage")):
        object.__setattr__(port, name, refuse)
    actions.pause(stage.world, "at night", who="test")

    found = stage.engine.watch()

    assert found["verdict"]["text"].startswith("Paused since")
    assert found["feeds"]["opportunity"]["retention days"] is None
    assert found["Marketo calls"]["subscription today"] is None


def test_links_and_their_life(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.clock.sleep(3600)

    feed = stage.engine.watch()["feeds"]["contact"]

    assert (feed["mode"], feed["seconds"], feed["retention days"]) == ("following", 3600, 7)
    stage.tick()
    assert status(stage.world)["feeds"]["contact"]["seconds"] == 0


def test_runs_of_all_kinds_latest_first(stage: Stage, org: Org) -> None:
    for number in range(60):
        org.update("opportunity", org.deal, name=f"Deal {number}")
        stage.sync()
        stage.clock.sleep(60)

    runs = status(stage.world)["runs"]

    assert len(runs) == 50
    assert [run["at"] for run in runs] == sorted((run["at"] for run in runs), reverse=True)
    assert {run["what"] for run in runs} == {"detect", "fresh"}
    assert runs[0]["counts"]


# --- what must not look well --------------------------------------------------------------------------------------


def test_a_tick_that_did_not_read_to_the_end_has_not_read_everything(org: Org, stage: Stage) -> None:
    stage = Stage(page_size=1)
    org = Org(stage)
    stage.sync()
    stage.clock.sleep(FIVE_MINUTES)
    read = status(stage.world)["last tick"]["read"]
    for number in range(12):
        org.opportunity(f"New {number}", account=org.acme)
    changes = stage.world.source.changes

    def slow(table: str, link: Any) -> Any:
        stage.clock.sleep(200 if table == "opportunity" else 0)
        return changes(table, link)

    object.__setattr__(stage.world.source, "changes", slow)
    for _ in range(2):
        assert not stage.tick().complete
        stage.drain()
        found = stage.engine.watch()
        assert found["last tick"]["read"] == read
        assert found["oldest change not in Marketo"]["at"] == read
        assert found["feeds"]["opportunity"]["mode"] == "following, not to its end yet"

    assert "not-in-step" in names(stage)


def test_a_backfill_over_several_ticks_leaves_nothing_unread_that_changes_meanwhile(stage: Stage, org: Org) -> None:
    """The read from the start takes its time; what is followed is followed, and opportunities are glanced at."""
    stage = Stage(page_size=1)
    org = Org(stage)
    for number in range(6):
        org.opportunity(f"Old {number}", account=org.acme)
    stage.sync()
    actions.backfill(stage.world, {}, who="test")
    changes = stage.world.source.changes

    def slow(table: str, link: Any) -> Any:
        stage.clock.sleep(200 if table == "opportunity" else 0)
        return changes(table, link)

    object.__setattr__(stage.world.source, "changes", slow)
    stage.tick()
    for _ in range(2):
        began = stage.clock.now().isoformat(timespec="seconds")
        assert not stage.tick().complete
        stage.drain()
        found = stage.engine.watch()
        assert found["last tick"]["read"] == began
        assert found["verdict"]["level"] == "catching up"
        assert found["alerts"] == []


def test_a_first_read_is_no_alert_and_claims_nothing(org: Org) -> None:
    stage = Stage(page_size=1)
    org = Org(stage)
    for number in range(6):
        org.opportunity(f"Old {number}", account=org.acme)
    changes = stage.world.source.changes

    def slow(table: str, link: Any) -> Any:
        stage.clock.sleep(200)
        return changes(table, link)

    object.__setattr__(stage.world.source, "changes", slow)
    stage.tick()
    found = stage.engine.watch()

    assert found["verdict"]["level"] == "catching up"
    assert "meanwhile" not in found["verdict"]["text"]
    assert found["alerts"] == []


def test_deliveries_that_fail_again_and_again_are_seen(stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.sync()
    org.update("opportunity", org.deal, name="Changed")
    stage.tick()

    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError("nobody foresaw it")

    monkeypatch.setattr("sync_core.engine.reconcile", broken)
    for _ in range(2):
        with pytest.raises(KeyError):
            stage.deliver()  # whoever took it keeps it for ten minutes
        for _ in range(2):
            stage.clock.sleep(FIVE_MINUTES)
            stage.tick()
            found = stage.engine.watch()

    assert [alert["name"] for alert in found["alerts"]] == ["not-in-step"]
    assert found["alerts"][0]["text"].endswith(": failed with KeyError")
    assert "nobody foresaw" not in str(found)


def test_a_backlog_that_is_only_put_back_does_not_move(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.world.queue.put(Work((org.deal,), lane=Lane.SLOW, force=True))

    def silent(*_: Any, **__: Any) -> Any:
        raise Unavailable("no answer from Marketo")

    object.__setattr__(stage.world.target, "upsert", silent)
    for _ in range(5):
        stage.deliver(Lane.SLOW)
        found = stage.engine.watch()
        stage.clock.sleep(FIVE_MINUTES)
        stage.tick()

    assert [alert["name"] for alert in found["alerts"]] == ["not-in-step"]
    assert "no answer from Marketo" in found["verdict"]["text"]


def test_a_stop_among_deliveries_that_pass_stays_one_alert(stage: Stage, org: Org, channel: Channel) -> None:
    other = org.opportunity("Other", account=org.bolt)
    stage.sync()
    stage.engine.watch()
    rows = stage.world.source.rows

    def refuse(table: str, ids: Any, columns: Any, names: Any = ()) -> Any:
        if table == "opportunity" and org.deal in ids:
            raise ConfigurationError("give the application user Read on account")
        return rows(table, ids, columns, names)

    object.__setattr__(stage.world.source, "rows", refuse)
    stage.world.queue.put(Work((org.deal,)))
    for _ in range(4):
        stage.drain()
        stage.engine.watch()
        stage.world.queue.put(Work((other,)))
        stage.drain()
        stage.engine.watch()
        stage.clock.sleep(FIVE_MINUTES)
        stage.tick()
    assert [[line.partition(":")[0] for line in lines] for _, lines in channel.told] == [["stopped"]]

    object.__setattr__(stage.world.source, "rows", rows)
    for _ in range(3):
        stage.drain()
        stage.clock.sleep(FIVE_MINUTES)
        stage.tick()
        stage.engine.watch()

    assert [lines for _, lines in channel.told[1:]] == [["stopped: over"]]


@pytest.mark.parametrize("lane", Lane)
def test_a_stop_ends_once_what_it_put_back_came_again_and_says_meanwhile_that_others_pass(
    stage: Stage, org: Org, lane: Lane
) -> None:
    stage.sync()
    rows = stage.world.source.rows

    def refuse(*_: Any) -> Any:
        raise CredentialsRefused("Marketo does not accept MARKETO_CLIENT_ID and MARKETO_CLIENT_SECRET.")

    object.__setattr__(stage.world.source, "rows", refuse)
    stage.world.queue.put(Work((org.deal,), lane=lane))
    stage.drain()
    object.__setattr__(stage.world.source, "rows", rows)
    assert names(stage) == ["credentials-refused"]

    stage.clock.sleep(120)
    stage.world.queue.put(Work((org.deal,), lane=lane))
    stage.drain()
    found = stage.engine.watch()
    told = "(last at 08:00:00 UTC, and well since 08:02:00 UTC: over within six minutes of the last, if it stays well)"
    assert [alert["name"] for alert in found["alerts"]] == ["credentials-refused"]
    assert found["verdict"]["text"].endswith(told)

    stage.clock.sleep(200)
    stage.drain()
    assert names(stage) == ["credentials-refused"]
    stage.clock.sleep(60)
    assert names(stage) == []


def test_a_tick_that_goes_well_ends_the_stop_of_the_one_before(stage: Stage, org: Org) -> None:
    stage.sync()
    changes = stage.world.source.changes

    def refuse(*_: Any) -> Any:
        raise ConfigurationError("give the application user Read on contact")

    object.__setattr__(stage.world.source, "changes", refuse)
    with pytest.raises(ConfigurationError):
        stage.tick()
    assert names(stage) == ["stopped"]
    object.__setattr__(stage.world.source, "changes", changes)
    stage.tick()

    assert names(stage) == []


def test_of_a_lane_that_stands_still_nobody_says_when_it_is_empty(stage: Stage, org: Org) -> None:
    def empty_in() -> Any:
        return status(stage.world)["lanes (about)"]["slow"]["minutes until empty"]

    stage.sync()
    for _ in range(3):
        stage.world.queue.put(Work((org.deal,), lane=Lane.SLOW, force=True))
    stage.deliver(Lane.SLOW)
    assert empty_in() == 1, "never 0 with messages"
    actions.pause(stage.world, "", who="test")
    assert empty_in() is None
    actions.resume(stage.world, who="test")
    assert empty_in() == 1

    def refuse(*_: Any) -> Any:
        raise CredentialsRefused("the secret has expired")

    object.__setattr__(stage.world.source, "rows", refuse)
    stage.deliver(Lane.SLOW)
    assert empty_in() is None


def test_ticks_without_work_push_no_delivery_out_of_the_last_runs(stage: Stage, org: Org) -> None:
    stage.sync()
    for _ in range(60):
        stage.clock.sleep(FIVE_MINUTES)
        stage.tick()

    first, *others = status(stage.world)["runs"]
    assert (first["what"], first["quiet"]) == ("detect", 50)
    assert {run["what"] for run in others} == {"fresh"}


def test_what_needs_people_leads_the_message_while_a_backlog_is_worked_off(
    stage: Stage, org: Org, channel: Channel
) -> None:
    stage.sync()
    stage.world.queue.put(Work((org.deal,), lane=Lane.SLOW))
    stage.world.opportunities.write([LedgerRow("0" * 36, state=State.HELD, reason="removals held: x")])
    stage.engine.watch()

    ((title, _),) = channel.told
    assert title.startswith("Opportunity Sync (123-EMU-456): more removals than pass without approval. Catching up: ")


def test_poison_of_the_last_hour_is_counted_however_many_deliveries_came_since(stage: Stage, org: Org) -> None:
    stage.sync()
    a_message_is_poison(stage, org)
    for _ in range(60):
        stage.world.queue.put(Work((org.deal,)))
        stage.drain()

    assert names(stage) == ["poison"]


def test_an_alert_is_noted_once_though_nobody_can_be_told(
    stage: Stage, org: Org, channel: Channel, caplog: pytest.LogCaptureFixture
) -> None:
    stage.sync()
    channel.fails = Unavailable("no answer")
    stage.limiter.used = 25_000
    with caplog.at_level("INFO", logger="sync_core"):
        for _ in range(4):
            stage.engine.watch()

    assert sum("alert.began" in line for line in caplog.messages) == 1


def test_whoever_has_a_larger_share_has_a_larger_subscription(stage: Stage, org: Org) -> None:
    stage.sync()
    stage.limiter.daily_calls = 150_000
    stage.world.change("watch", "usage", lambda _: {"total": 41_000, "used": 1, "counted": stage.engine.watch()["at"]})

    assert [alert["name"] for alert in status(stage.world)["alerts"]] == []


def test_people_of_whom_there_are_several_are_not_missing(stage: Stage, org: Org) -> None:
    stage.sync()
    reason = "people: 2 of several in Marketo each; see `explain`"
    stage.world.opportunities.write([LedgerRow("0" * 36, state=State.PARKED, reason=reason)])

    assert status(stage.world)["people missing"]["roles"] == 0


def test_a_note_that_cannot_be_written_does_not_do_the_delivery_again(stage: Stage, org: Org) -> None:
    stage.sync()
    org.update("opportunity", org.deal, name="Changed")
    stage.tick()
    before = stage.writes()
    write = stage.world.documents.write

    def but_runs(kind: str, *rest: Any) -> Any:
        if kind == "run":
            raise Unavailable("storage is away")
        return write(kind, *rest)

    object.__setattr__(stage.world.documents, "write", but_runs)
    outcome = stage.deliver()

    assert outcome is not None
    assert outcome.counts["opportunities posted"] == 1
    assert stage.writes() == before + 1
