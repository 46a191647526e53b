"""Promises of the port `Queue`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sync_core.messages import MAX_BYTES, decode
from sync_core.model import Lane, Letter, Work
from tests.contracts.ledger import an_id

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
WORK = Work(opportunities=(an_id(1), an_id(2)), accounts=(an_id(3),), force=True, why="Prüfung")
BOTH = pytest.mark.parametrize("lane", list(Lane))


class QueueContract:
    """Give a fixture `queue` with an empty one, and say how to wait, to poison and to see what was set aside."""

    def wait(self, queue: Any, seconds: float) -> None:
        raise NotImplementedError

    def poison(self, queue: Any, lane: Lane, body: str) -> None:
        """As the host does: a copy of *body* on the lane's poison queue."""
        raise NotImplementedError

    def put_aside(self, queue: Any) -> list[dict[str, str]]:
        """What `set_aside` kept."""
        raise NotImplementedError

    def receive(self, queue: Any, lane: Lane = Lane.FRESH, lease: timedelta = MINUTE) -> Letter:
        letter: Letter | None = queue.receive(lane, lease=lease)
        assert letter is not None
        return letter

    @BOTH
    def test_delivers_to_its_lane(self, queue: Any, lane: Lane) -> None:
        work = Work(opportunities=WORK.opportunities, lane=lane, why="Prüfung")
        queue.put(work)

        assert queue.receive(Lane.SLOW if lane is Lane.FRESH else Lane.FRESH, lease=MINUTE) is None
        letter = self.receive(queue, lane)
        assert decode(letter.body) == work
        assert letter.dequeue_count == 1

    @BOTH
    def test_gives_back_what_came_as_it_came(self, queue: Any, lane: Lane) -> None:
        queue.give_back(lane, '{"v": 99, "für": [1]}', after=timedelta(0))

        letter = self.receive(queue, lane)
        assert (letter.body, letter.dequeue_count) == ('{"v": 99, "für": [1]}', 1)

    def test_what_is_given_back_is_hidden_for_a_while(self, queue: Any) -> None:
        queue.give_back(Lane.FRESH, "{}", after=SECOND)
        assert queue.receive(Lane.FRESH, lease=SECOND) is None

        self.wait(queue, 1.2)

        assert self.receive(queue).body == "{}"

    def test_nothing_there(self, queue: Any) -> None:
        assert queue.receive(Lane.FRESH, lease=MINUTE) is None
        assert list(queue.poisoned(Lane.FRESH)) == []
        assert queue.lengths() == {"fresh": 0, "slow": 0, "fresh poison": 0, "slow poison": 0, "unreadable": 0}

    def test_a_leased_message_is_hidden_until_the_lease_ends(self, queue: Any) -> None:
        queue.put(WORK)
        first = self.receive(queue, lease=SECOND)
        assert queue.receive(Lane.FRESH, lease=SECOND) is None

        self.wait(queue, 1.2)
        second = self.receive(queue)

        assert second.dequeue_count == 2
        assert second.body == first.body
        assert second.lease_ends > first.lease_ends

    def test_done_means_gone(self, queue: Any) -> None:
        queue.put(WORK)
        queue.done(Lane.FRESH, self.receive(queue))

        assert queue.lengths()["fresh"] == 0

    def test_who_lost_the_lease_deletes_nothing(self, queue: Any) -> None:
        queue.put(WORK)
        first = self.receive(queue, lease=SECOND)
        self.wait(queue, 1.2)
        second = self.receive(queue)

        queue.done(Lane.FRESH, first)
        assert queue.lengths()["fresh"] == 1

        queue.done(Lane.FRESH, second)
        queue.done(Lane.FRESH, second)
        assert queue.lengths()["fresh"] == 0

    def test_a_delayed_message_comes_later(self, queue: Any) -> None:
        queue.put(WORK, after=SECOND)
        assert queue.receive(Lane.FRESH, lease=MINUTE) is None
        assert queue.lengths()["fresh"] == 1

        self.wait(queue, 1.2)
        assert decode(self.receive(queue).body) == WORK

    def test_a_delay_is_at_most_seven_days(self, queue: Any) -> None:
        queue.put(WORK, after=timedelta(days=30))

        assert queue.receive(Lane.FRESH, lease=MINUTE) is None

    def test_more_ids_than_a_message_holds_become_several_messages(self, queue: Any) -> None:
        work = Work(opportunities=tuple(an_id(number) for number in range(2_000)))
        queue.put(work)

        parts = [decode(self.receive(queue).body) for _ in range(2)]

        assert sorted(part.size for part in parts) == [200, 1_800]
        assert {id for part in parts for id in part.opportunities} == set(work.opportunities)

    @BOTH
    def test_poisoned_messages_are_leased_and_done(self, queue: Any, lane: Lane) -> None:
        for number in range(40):
            self.poison(queue, lane, f"body {number}")

        first, second = list(queue.poisoned(lane)), list(queue.poisoned(lane))

        assert (len(first), len(second)) == (32, 8)
        assert {letter.body for letter in first + second} == {f"body {number}" for number in range(40)}
        for letter in first:
            queue.done_poisoned(lane, letter)
        assert queue.lengths()[f"{lane} poison"] == 8

    @BOTH
    def test_a_look_at_the_visible_messages_changes_nothing(self, queue: Any, lane: Lane) -> None:
        assert list(queue.peek(lane)) == []
        works = [Work((an_id(number),), lane=lane) for number in range(40)]
        for work in works[:2]:
            queue.put(work)
        self.receive(queue, lane, lease=SECOND)
        queue.put(works[2], after=MINUTE)

        for _ in range(2):
            assert [(decode(letter.body).size, letter.dequeue_count) for letter in queue.peek(lane)] == [(1, 0)]
        self.wait(queue, 1.2)
        assert sorted(letter.dequeue_count for letter in queue.peek(lane)) == [0, 1]

        for work in works[3:]:
            queue.put(work)
        assert len(queue.peek(lane)) == 32
        assert self.receive(queue, lane).dequeue_count in (1, 2)

    def test_a_probe_leaves_nothing(self, queue: Any) -> None:
        before = queue.lengths()
        queue.probe()
        queue.probe()

        assert queue.lengths() == before
        assert queue.receive(Lane.FRESH, lease=MINUTE) is None

    def test_sets_aside_what_is_not_ours(self, queue: Any) -> None:
        queue.set_aside("{'not': \"JSON\"} 💥", "not JSON")

        assert self.put_aside(queue) == [{"reason": "not JSON", "body": "{'not': \"JSON\"} 💥"}]
        assert queue.lengths()["unreadable"] == 1

    def test_cuts_what_is_too_long_to_set_aside(self, queue: Any) -> None:
        body = "\x01💥é" * 20_000
        queue.set_aside(body, "longer than 49152 bytes")

        [kept] = self.put_aside(queue)
        assert body.startswith(kept["body"])
        assert len(kept["body"]) > MAX_BYTES / 6 - 100  # no character takes more than six bytes in JSON
