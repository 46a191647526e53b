"""The shared limiter under FakeClock: what its document promises to Marketo, whoever asks and when."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_core.adapters.clock import SystemClock
from sync_core.adapters.limiter import SharedLimiter, next_reset
from sync_core.errors import ConfigurationError, QuotaExhausted, Throttled, Unavailable
from tests.fakes import FakeClock, FakeDocuments


class CountingDocuments(FakeDocuments):
    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.failing = False

    def read(self, kind, name):
        self.operations += 1
        return super().read(kind, name)

    def write(self, kind, name, value, ticket):
        if self.failing:
            raise Unavailable("storage")
        operations = self.operations + 1
        new = super().write(kind, name, value, ticket)
        self.operations = operations  # the fake's own reading is none
        return new


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def documents() -> CountingDocuments:
    return CountingDocuments()


def limiter(documents, clock, *, calls=50, concurrency=5, daily=25_000, seed=1, stops=True) -> SharedLimiter:
    return SharedLimiter(
        documents,
        clock,
        calls_per_20s=calls,
        concurrency=concurrency,
        daily_calls=daily,
        random=random.Random(seed).random,
        stops=stops,
    )


def call(one: SharedLimiter) -> None:
    with one.call(hold=100):
        pass


waits = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.0, 0.01, 0.3, 1.7, 5.0, 19.9, 20.0])), max_size=80
)


@settings(deadline=None)
@given(st.one_of(st.integers(1, 10), st.just(50)), waits)
def test_no_window_of_20_seconds_holds_more_calls_than_our_share(share: int, schedule: list[tuple[int, float]]) -> None:
    clock, documents, sent = FakeClock(), FakeDocuments(), []
    limiters = [limiter(documents, clock, calls=share, seed=seed) for seed in range(3)]

    for who, wait in schedule:
        clock.sleep(wait)
        with suppress(Throttled), limiters[who].call(hold=100):
            sent.append(clock.now().timestamp())

    assert all(sum(begin <= time <= begin + 20 for time in sent) <= share for begin in sent)
    assert limiters[0].used_today() == len(sent)


def test_the_whole_share_can_be_used(documents, clock) -> None:
    one = limiter(documents, clock, calls=50)
    begin = clock.monotonic()

    for _ in range(500):
        call(one)

    assert clock.monotonic() - begin < 9 * 26


def test_a_share_of_one_call_is_used_too(documents, clock) -> None:
    one = limiter(documents, clock, calls=1)

    for _ in range(3):
        call(one)

    assert 40 < clock.monotonic() < 60


def test_slots_are_shared_and_given_back(documents, clock) -> None:
    first, second = limiter(documents, clock, concurrency=1), limiter(documents, clock, concurrency=1, seed=2)

    with first.call(hold=100), pytest.raises(Throttled):
        call(second)
    call(second)


def test_a_slot_without_an_answer_is_kept_until_it_lapses(documents, clock) -> None:
    one = limiter(documents, clock, concurrency=1)
    with pytest.raises(Unavailable), one.call(hold=100):
        raise Unavailable("silence", unanswered=True)

    with pytest.raises(Throttled):
        call(one)
    clock.sleep(100)
    call(one)


def test_an_answer_frees_the_slot_even_if_it_was_bad(documents, clock) -> None:
    one = limiter(documents, clock, concurrency=1)
    with pytest.raises(Unavailable), one.call(hold=100):
        raise Unavailable("608")

    call(one)


def test_an_answer_is_worth_more_than_a_slot_that_cannot_be_given_back(documents, clock) -> None:
    one = limiter(documents, clock)

    with one.call(hold=100):
        documents.failing = True


def test_the_days_share_ends_until_the_reset(documents, clock) -> None:
    clock.set(datetime(2026, 3, 2, 6, 4, tzinfo=UTC))
    one = limiter(documents, clock, daily=2)
    call(one)
    call(one)

    with pytest.raises(QuotaExhausted) as stopped:
        call(one)
    assert stopped.value.delay == 60

    clock.sleep(60)
    call(one)
    assert one.used_today() == 1


@pytest.mark.parametrize(("hour", "minute", "day"), [(0, 0, 2), (6, 4, 2), (6, 5, 3), (23, 59, 3)])
def test_the_quota_is_new_at_five_past_six(hour: int, minute: int, day: int) -> None:
    assert next_reset(datetime(2026, 3, 2, hour, minute, tzinfo=UTC)) == datetime(2026, 3, day, 6, 5, tzinfo=UTC)


def test_a_short_pause_is_waited_for_by_everybody(documents, clock) -> None:
    first, second = limiter(documents, clock), limiter(documents, clock, seed=2)
    call(second)
    first.pause(until=clock.now() + timedelta(seconds=20), reason="606")

    call(second)

    assert clock.monotonic() >= 20


@pytest.mark.parametrize(
    ("flags", "error"), [({}, Throttled), ({"quota": True}, QuotaExhausted), ({"stop": True}, ConfigurationError)]
)
def test_a_long_pause_is_refused_with_its_reason(documents, clock, flags, error) -> None:
    first, second = limiter(documents, clock), limiter(documents, clock, seed=2)
    call(second)
    first.pause(until=clock.now() + timedelta(hours=1), reason="the reason", **flags)

    with pytest.raises(error):
        call(second)
    assert clock.monotonic() < 1


def test_a_shorter_pause_does_not_replace_a_longer_one(documents, clock) -> None:
    one = limiter(documents, clock)
    one.pause(until=clock.now() + timedelta(hours=1), reason="607", quota=True)
    one.pause(until=clock.now() + timedelta(seconds=20), reason="606")

    with pytest.raises(QuotaExhausted):
        call(one)


def test_after_a_pause_one_call_probes_alone(documents, clock) -> None:
    one, other = limiter(documents, clock), limiter(documents, clock, seed=2)
    one.pause(until=clock.now() + timedelta(minutes=5), reason="603", stop=True)
    clock.sleep(300)

    with one.call(hold=100), pytest.raises(Throttled):
        call(other)
    with one.call(hold=100):
        call(other)


class OneAtATime(FakeDocuments):
    """As the storage does it: nobody writes between a comparison and its swap."""

    def __init__(self) -> None:
        super().__init__()
        self._one = threading.RLock()

    def write(self, kind, name, value, ticket):
        with self._one:
            return super().write(kind, name, value, ticket)


def test_threads_of_several_instances_never_hold_more_slots_than_there_are(monkeypatch) -> None:
    monkeypatch.setattr("sync_core.adapters.limiter.POLL", 0.005)
    documents, present, most = OneAtATime(), [], []
    limiters = [limiter(documents, SystemClock(), concurrency=3, seed=seed) for seed in range(3)]

    def work(number: int) -> None:
        with limiters[number % 3].call(hold=100):
            present.append(number)
            most.append(len(present))
            time.sleep(0.01)
            present.remove(number)

    with ThreadPoolExecutor(9) as pool:
        list(pool.map(work, range(30)))

    assert 1 < max(most) <= 3
    assert limiters[0].used_today() == 30
    assert limiters[0].shares[1] >= 30


def test_a_call_costs_two_storage_operations(documents, clock) -> None:
    one = limiter(documents, clock)
    call(one)
    documents.operations = 0

    for _ in range(10):
        call(one)

    assert documents.operations == 20


def test_without_stops_it_neither_makes_nor_heeds_one(documents, clock) -> None:
    plain, probing = limiter(documents, clock), limiter(documents, clock, stops=False)
    probing.pause(until=clock.now() + timedelta(minutes=5), reason="603", stop=True)
    with plain.call(hold=1):
        pass

    plain.pause(until=clock.now() + timedelta(minutes=5), reason="603", stop=True)
    with pytest.raises(ConfigurationError), plain.call(hold=1):
        pass
    with probing.call(hold=1):
        pass
    with pytest.raises(ConfigurationError), plain.call(hold=1):
        pass

    assert plain.used_today() == 2


def test_without_stops_the_quota_is_heeded_all_the_same(documents, clock) -> None:
    probing = limiter(documents, clock, stops=False)
    probing.pause(until=clock.now() + timedelta(hours=1), reason="607", quota=True)

    with pytest.raises(QuotaExhausted), probing.call(hold=1):
        pass
