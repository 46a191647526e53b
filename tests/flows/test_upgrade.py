"""The present code starts on what earlier versions left: `tests/data/state`, written by their own code.

`python -m tools.state_dump` makes such a file, at each release (docs/releasing.md).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from sync_core.adapters.storage import Storage, open_storage
from sync_core.engine import Engine
from sync_core.flows.audit import audit
from sync_core.flows.guard import PAIR, TAKING_OVER
from sync_core.flows.status import approve_removals, status
from sync_core.mapping import parse
from sync_core.model import LEFT_OUT, SCHEMA, Lane, State
from tests.fakes import FakeQueue
from tests.stage import DATAVERSE, START, Stage
from tools.azurite import Azurite
from tools.state_dump import PLACE, Dump, hold, store

STATES = sorted((Path(__file__).parent.parent / "data" / "state").glob("*.json"))
OLDER = [path for path in STATES if f'\\"schema\\":{SCHEMA},' not in path.read_text(encoding="utf-8")]
LANES = {"opportunity-sync": Lane.FRESH, "opportunity-sync-slow": Lane.SLOW}
HELD, WAITING, LEFT_ALONE = 3, 2, 1
TO_POST = {"Deal 4, renamed", "Deal 9", "Deal 5"}  # an edit, a new one, and one that was asked for by `resync`


class Installation(Stage):
    """The services as they were, the tables in Azurite and the messages as that version left them; hours later."""

    def __init__(self, found: Dump, azurite: Azurite) -> None:
        super().__init__()
        hold(self.dataverse, self.marketo, found)
        passed = datetime.fromisoformat(found["at"]) - datetime.fromisoformat(START)
        self.clock.sleep(passed.total_seconds() + 60)
        prefix = f"U{uuid4().hex[:15]}"
        store(azurite.connection_string, found, prefix=prefix)
        ours = replace(self.settings, storage_connection=azurite.connection_string)
        self.storage: Storage = open_storage(ours, self.clock, map, prefix=prefix)
        stamp = self.storage.documents.read(*PAIR)
        assert stamp is not None
        self.world = replace(
            self.world,
            **{name: getattr(self.storage, name) for name in STORED},
            queue=FakeQueue(self.clock),
            config=parse(found["sync.toml"]),
            subscription=stamp.value["munchkin"],
        )
        self.engine = Engine(self.world)
        for name, bodies in found["queues"].items():
            for body in bodies:
                self.world.queue.give_back(LANES[name], body, after=timedelta(0))
        self.posted: Counter[str] = Counter()
        self.marketo_wire.after = self._note

    def _note(self, request: requests.PreparedRequest) -> None:
        if str(request.url).endswith("/opportunities.json"):
            body = json.loads(request.body or "{}")
            self.posted.update(str(each.get("name", "")) for each in body.get("input", ()))

    def stamp(self) -> Any:
        found = self.world.documents.read(*PAIR)
        assert found is not None
        return found.value

    def rest(self) -> None:
        """Ticks as the timer's, and deliveries, until nothing of the queues is left."""
        for _ in range(8):
            self.tick()
            self.drain()
            self.clock.sleep(300)
        assert sum(self.world.queue.lengths().values()) == 0

    def keys(self) -> dict[str, str]:
        return {row["name"]: row["opportunityid"] for row in self.dataverse.rows("opportunity")}


STORED = (
    *("opportunities", "companies", "sales_persons", "connections", "people", "tombstones", "history"),
    *("documents", "migrations"),
)


@pytest.fixture(params=STATES, ids=lambda path: path.stem)
def installation(request: pytest.FixtureRequest, azurite: Azurite) -> Iterator[Installation]:
    text = request.param.read_text(encoding="utf-8").replace(PLACE, DATAVERSE)
    return Installation(json.loads(text), azurite)


def test_what_the_previous_version_left_is_taken_over_and_ends_in_step(installation: Installation) -> None:
    org = installation
    before = org.world.opportunities.tally().counts

    org.rest()

    assert org.stamp()["schema"] == SCHEMA
    assert TAKING_OVER not in org.stamp()
    assert set(org.posted) == TO_POST
    assert max(org.posted.values()) == 1
    tally = org.world.opportunities.tally()
    assert tally.counts == {**before, State.IN_STEP: before[State.IN_STEP] + 1, "roles": before["roles"] + 1}
    assert tally.counts[LEFT_OUT] == LEFT_ALONE
    reasons = Counter(dict.fromkeys(State, 0))
    for (state, _), number in tally.reasons.items():
        reasons[State(state)] += number
    assert (reasons[State.HELD], reasons[State.WAITING], reasons[State.PARKED]) == (HELD, WAITING, 1)
    for ledger in org.world.ledgers.values():
        assert ledger.recount() == {}
    assert {"Deal 4, renamed", "Deal 9"} <= {row["name"] for row in org.marketo.rows("opportunities")}
    found = audit(org.world, lambda each: pytest.fail(str(each)))
    assert found["complete"]
    writes = org.writes()
    org.rest()
    assert org.writes() == writes


def test_a_connection_that_only_the_earlier_state_knows_takes_its_role_along(installation: Installation) -> None:
    org = installation
    org.rest()  # what was on the queues is looked at anyway
    deal = org.keys()["Deal 6"]
    ann = next(row["contactid"] for row in org.dataverse.rows("contact") if row["emailaddress1"].startswith("ann"))
    ends = {deal, ann}
    gone = next(
        row["connectionid"]
        for row in org.dataverse.rows("connection")
        if {row["_record1id_value"], row["_record2id_value"]} == ends
    )
    before = org.roles(deal)

    org.edit("disconnect", id=gone)
    org.rest()

    assert len(before) == 2
    assert len(org.roles(deal)) == 1


def test_what_was_held_is_listed_by_its_reason_and_goes_once_approved(installation: Installation) -> None:
    org = installation
    org.rest()
    group = next(each for each in status(org.world)["not in step"] if each["state"] == State.HELD)
    listed = [p.id for page in org.world.opportunities.pointers(State.HELD, reason=group["reason"]) for p in page]

    assert (len(listed), group["count"]) == (HELD, HELD)
    assert approve_removals(org.world) == HELD
    org.rest()

    assert not {"Deal 1", "Deal 2", "Deal 3"} & {row["name"] for row in org.marketo.rows("opportunities")}
    assert org.world.opportunities.tally().counts[State.HELD] == 0


@pytest.mark.parametrize("installation", OLDER, indirect=True, ids=lambda path: path.stem)
def test_nothing_is_sent_until_deliveries_of_the_old_version_have_ended(installation: Installation) -> None:
    org = installation
    bodies = {lane: [m.body for m in org.world.queue.queues[lane]] for lane in Lane}

    for _ in range(2):
        org.tick()
        org.drain()
        org.clock.sleep(299)

    assert org.writes() == 0
    assert {lane: sorted(m.body for m in org.world.queue.queues[lane]) for lane in Lane} == {
        lane: sorted(found) for lane, found in bodies.items()
    }
    assert org.stamp()[TAKING_OVER]["from"] < SCHEMA


def test_a_paused_state_stays_as_it_is(installation: Installation) -> None:
    org = installation
    before = org.stamp()
    org.world.documents.write("stamp", "pause", {"since": org.clock.now().isoformat(), "why": ""}, None)

    for _ in range(3):
        org.tick()
        org.clock.sleep(600)

    assert org.stamp() == before
