"""The shared limiter under FakeClock: what its document promises to Marketo, whoever asks and when."""

from __future__ import annotations

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
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


def call(one: SharedLimiter, *, slow: bool = False) -> None:
    with one.call(hold=100, slow=slow):
        pass


waits = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.0, 0.01, 0.3, 1.7, 5.0, 19.9, 20.0])), max_size=80
)


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


# --- lanes ----------------------------------------------------------------------------------------------------------


class Waiting(FakeClock):
    """A clock whose sleepers are others' chance to act: *meanwhile* runs once, in the middle of the next sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile = lambda: None

    def sleep(self, seconds: float) -> None:
        act, self.meanwhile = self.meanwhile, lambda: None
        act()
        super().sleep(seconds)


def test_a_slot_given_back_while_fresh_work_waits_is_not_for_the_slow_lane(documents) -> None:
    clock = Waiting()
    backlog, fresh = limiter(documents, clock, concurrency=1), limiter(documents, clock, concurrency=1, seed=2)
    waits = []

    def overtake() -> None:
        held.close()
        waits.append(backlog._try("slow", 100, clock.monotonic() + 30, slow=True))

    with ExitStack() as held:
        held.enter_context(backlog.call(hold=100, slow=True))
        clock.meanwhile = overtake
        call(fresh)

    assert 0.5 <= waits[0] < 0.7
    call(backlog, slow=True)


def test_a_call_of_the_window_goes_to_fresh_work_that_waits_for_it(documents) -> None:
    clock = Waiting()
    backlog, fresh = limiter(documents, clock, calls=2), limiter(documents, clock, calls=2, seed=2)
    call(backlog, slow=True)
    clock.sleep(10)
    call(backlog, slow=True)
    waits = []

    def overtake() -> None:
        clock.sleep(10.6)  # the first of them is out of the window, and the fresh call is about to look
        looks = (backlog._try("slow", 100, clock.monotonic() + 30, slow=True) for _ in range(2))
        waits.extend(looks)  # what it knew is old: the first look only finds that out

    clock.meanwhile = overtake
    call(fresh)

    assert waits[1] > 5


def test_the_slow_lane_alone_has_the_whole_share(documents, clock) -> None:
    one = limiter(documents, clock, calls=50, concurrency=1)
    begin = clock.monotonic()

    for _ in range(500):
        call(one, slow=True)

    assert clock.monotonic() - begin < 9 * 26


def test_fresh_work_that_was_served_holds_nobody_back(documents, clock) -> None:
    one = limiter(documents, clock, calls=1)
    for _ in range(2):
        call(one)

    assert documents.read("limiter", "marketo").value["wishes"] == {}
    begin = clock.monotonic()
    call(one, slow=True)
    assert clock.monotonic() - begin < 1.25 * 20.5


def test_a_wish_of_somebody_who_died_lapses(documents) -> None:
    class Death(Exception): ...

    clock = Waiting()
    backlog, fresh = limiter(documents, clock, concurrency=1), limiter(documents, clock, concurrency=1, seed=2)

    def die() -> None:
        raise Death

    clock.meanwhile = die
    with backlog.call(hold=100, slow=True), pytest.raises(Death):
        call(fresh)

    begin = clock.monotonic()
    call(backlog, slow=True)
    assert 0 < clock.monotonic() - begin < 10


def test_who_gives_up_leaves_no_wish_behind(documents, clock) -> None:
    one = limiter(documents, clock)
    one.pause(until=clock.now() + timedelta(hours=1), reason="606")

    with pytest.raises(Throttled):
        call(one)

    assert documents.read("limiter", "marketo").value["wishes"] == {}


def test_a_wish_costs_no_write_at_every_look(documents, clock) -> None:
    one = limiter(documents, clock, concurrency=1)
    with pytest.raises(Unavailable), one.call(hold=20):
        raise Unavailable("silence", unanswered=True)
    documents.operations = 0

    call(one)

    looks = 20 / 0.5
    assert documents.operations < 1.5 * looks


def test_the_slow_lane_leaves_a_tenth_of_the_day_to_fresh_work(documents, clock) -> None:
    one = limiter(documents, clock, daily=20)
    for _ in range(18):
        call(one, slow=True)

    with pytest.raises(QuotaExhausted):
        call(one, slow=True)
    for _ in range(2):
        call(one)
    with pytest.raises(QuotaExhausted):
        call(one)


def test_a_document_of_an_earlier_version_is_understood(documents, clock) -> None:
    call(limiter(documents, clock))
    known = documents.read("limiter", "marketo")
    old = {name: value for name, value in known.value.items() if name != "wishes"}
    documents.write("limiter", "marketo", json.loads(json.dumps(old)), known.ticket)

    call(limiter(documents, clock), slow=True)

    assert limiter(documents, clock).used_today() == 2


class _Caller:
    """One call on its way in, a look at a time."""

    def __init__(self, documents: FakeDocuments, clock: FakeClock, *, slow: bool, seed: int, calls: int) -> None:
        self.limiter = limiter(documents, clock, calls=calls, concurrency=2, seed=seed)
        self.clock, self.slow, self.slot, self.served = clock, slow, f"{seed:03}", False
        self.patience = clock.monotonic() + 30
        self.look_at = clock.monotonic()

    def look(self) -> None:
        wait = self.limiter._try(self.slot, 100, self.patience, slow=self.slow)
        if 0 < wait < 0.15:  # somebody else wrote first
            wait = self.limiter._try(self.slot, 100, self.patience, slow=self.slow)
        self.served = not wait
        self.look_at = self.clock.monotonic() + wait


arrivals = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.4, 2.0, 7.0]), st.booleans()), min_size=3, max_size=40
)


@given(st.integers(1, 5), arrivals)
def test_nothing_slow_takes_what_a_fresh_call_waits_for(calls: int, schedule: list[tuple[bool, float, bool]]) -> None:
    """Whoever comes when: at each slow call there is a call and a slot left for every wish in the document."""
    clock, documents = FakeClock(), FakeDocuments()
    waiting: list[_Caller] = []
    inside: list[_Caller] = []
    sent: list[float] = []
    for number, (slow, wait, leaves) in enumerate(schedule):
        waiting.append(_Caller(documents, clock, slow=slow, seed=number, calls=calls))
        for each in sorted(waiting, key=lambda each: each.look_at):
            if each.look_at > clock.monotonic():
                continue
            known = documents.read("limiter", "marketo")
            wishes = (
                {s for s, end in known.value["wishes"].items() if end > clock.now().timestamp()} if known else set()
            )
            try:
                each.look()
            except Throttled:
                waiting.remove(each)
                continue
            if each.served:
                waiting.remove(each)
                inside.append(each)
                sent.append(clock.now().timestamp())
                recent = sum(time > sent[-1] - 20.5 for time in sent)
                if each.slow:
                    assert len(inside) + len(wishes) <= 2
                    assert recent + len(wishes) <= calls
            elif not each.slow:
                assert each.slot in documents.read("limiter", "marketo").value["wishes"]
        assert len(inside) <= 2
        if leaves and inside:
            gone = inside.pop(0)
            gone.limiter._leave(gone.slot, good=True)
        clock.sleep(wait)

    assert all(sum(begin <= time <= begin + 20 for time in sent) <= calls for begin in sent)


def test_another_name_is_another_subscriptions_limits(documents: CountingDocuments, clock: FakeClock) -> None:
    ours = limiter(documents, clock)
    other = SharedLimiter(
        documents, clock, calls_per_20s=50, concurrency=5, daily_calls=100, random=random.Random(2).random, name="probe"
    )
    with other.call(hold=10):
        pass
    other.pause(until=clock.now() + timedelta(hours=9), reason="607", quota=True)

    with ours.call(hold=10):
        pass
    assert (ours.used_today(), other.used_today()) == (1, 1)
    with pytest.raises(QuotaExhausted), other.call(hold=10):
        pass
