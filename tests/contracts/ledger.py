"""Promises of the port `Ledger`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from uuid import UUID

import pytest

from sync_core.model import LedgerRow, Role, State
from sync_core.ports import Ledger

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
POINTED_AT = (State.WAITING, State.PARKED, State.HELD)


def an_id(number: int) -> str:
    """The same id for the same number; one in sixteen shares its first digit."""
    return str(UUID(int=random.Random(number).getrandbits(128)))


def a_row(number: int, state: State = State.IN_STEP, *, roles: int = 1, due: datetime | None = None) -> LedgerRow:
    held = tuple(Role(lead, "Decision Maker", False, "2026-01-01T00:00:00Z") for lead in range(roles))
    return LedgerRow(an_id(number), state=state, roles=held, due=due, mapping="m1")


def stored(ledger: Ledger, *numbers: int) -> list[LedgerRow]:
    """The rows as they are, with their tickets."""
    rows = ledger.rows([an_id(number) for number in numbers])
    return [rows[an_id(number)] for number in numbers]


def inserted(ledger: Ledger, *rows: LedgerRow) -> list[LedgerRow]:
    assert ledger.write(rows) == set()
    found = ledger.rows([row.id for row in rows])
    return [found[row.id] for row in rows]


def without_ticket(row: LedgerRow) -> LedgerRow:
    return LedgerRow(row.id, None, *(getattr(row, name) for name in LedgerRow.__slots__[2:]))


class LedgerContract:
    """Give a fixture `ledger` with an empty one."""

    def test_gives_back_all_that_was_written(self, ledger: Ledger) -> None:
        roles = (
            Role(7, "Économiste 💶", True, "2026-01-01T00:00:00Z", ("customer", an_id(9))),
            Role(8, "", False, ""),
        )
        row = LedgerRow(
            id=an_id(1),
            state=State.WAITING,
            fields={"name": "AbCd_-12", "amount": "34567890"},
            roles=roles,
            mapping="m1",
            version=0,
            reason="person 8 is missing: \"'\\/\n",
            attempts=3,
            due=NOON + timedelta(microseconds=1),
            approved=True,
        )

        [found] = inserted(ledger, row)

        assert found.known
        assert without_ticket(found) == row

    def test_reads_only_what_exists(self, ledger: Ledger) -> None:
        inserted(ledger, a_row(1))

        assert ledger.rows([an_id(1), an_id(2), an_id(1)]).keys() == {an_id(1)}
        assert ledger.rows([]) == {}

    def test_of_two_inserts_the_second_loses(self, ledger: Ledger) -> None:
        [first] = inserted(ledger, a_row(1, State.PARKED))

        assert ledger.write([a_row(1, roles=3)]) == {an_id(1)}
        assert stored(ledger, 1) == [first]
        assert ledger.counts()["roles"] == 1

    def test_a_stale_ticket_loses_and_the_rest_of_the_call_is_written(self, ledger: Ledger) -> None:
        rows = inserted(ledger, *(a_row(number) for number in range(40)))
        ledger.write([row.become(State.HELD) for row in rows[:40:4]])

        lost = ledger.write([row.become(State.PARKED) for row in rows])

        assert lost == {row.id for row in rows[:40:4]}
        assert (ledger.counts()["held"], ledger.counts()["parked"]) == (10, 30)

    def test_all_tickets_stale(self, ledger: Ledger) -> None:
        rows = inserted(ledger, *(a_row(number) for number in range(40)))
        ledger.write(rows)

        assert ledger.write([row.become(State.PARKED) for row in rows]) == {row.id for row in rows}

    def test_a_ticket_holds_once(self, ledger: Ledger) -> None:
        [row] = inserted(ledger, a_row(1))

        assert ledger.write([row]) == set()
        assert ledger.write([row]) == {row.id}

    def test_a_ticket_of_a_row_that_is_not_there_loses(self, ledger: Ledger) -> None:
        [row] = inserted(ledger, a_row(1))
        elsewhere = LedgerRow(an_id(2), row.ticket)

        assert ledger.write([elsewhere]) == {an_id(2)}
        assert ledger.rows([an_id(2)]) == {}

    def test_refuses_an_id_twice_in_one_call(self, ledger: Ledger) -> None:
        with pytest.raises(ValueError, match="twice"):
            ledger.write([a_row(1), a_row(1)])

    def test_250_rows_in_one_call(self, ledger: Ledger) -> None:
        rows = inserted(ledger, *(a_row(number, State.WAITING, due=NOON) for number in range(250)))

        assert ledger.write([row.become(State.IN_STEP) for row in rows]) == set()
        assert ledger.counts() == {
            "in step": 250,
            "waiting": 0,
            "parked": 0,
            "held": 0,
            "gone": 0,
            "roles": 250,
            "left out": 0,
        }
        assert ledger.due(NOON, 1_000) == []

    def test_counts_what_a_filter_leaves_out(self, ledger: Ledger) -> None:
        rows = inserted(
            ledger, *(a_row(number).become(State.IN_STEP, reason="left out") for number in range(3)), a_row(9)
        )
        ledger.write([rows[0].become(State.IN_STEP), rows[1].become(State.PARKED, reason="refused")])

        assert (ledger.counts()["in step"], ledger.counts()["left out"]) == (3, 1)

    def test_a_row_with_1000_roles(self, ledger: Ledger) -> None:
        roles = tuple(Role(lead, "Ж" * 50, False, "2026-01-01T00:00:00Z", (an_id(lead),)) for lead in range(1_000))
        [row] = inserted(ledger, LedgerRow(an_id(1), roles=roles))

        assert row.roles == roles
        assert ledger.write([row.become(State.IN_STEP, roles=roles[:1])]) == set()
        assert stored(ledger, 1)[0].roles == roles[:1]
        assert ledger.counts()["roles"] == 1

    def test_many_large_rows_in_one_call(self, ledger: Ledger) -> None:
        roles = tuple(Role(lead, "Ж" * 50, False, "2026-01-01T00:00:00Z", (an_id(lead),)) for lead in range(1_000))
        rows = [LedgerRow(f"a{an_id(number)[1:]}", roles=roles) for number in range(12)]

        assert ledger.write(rows) == set()
        assert ledger.counts()["roles"] == 12_000

    def test_due_rows_oldest_first(self, ledger: Ledger) -> None:
        inserted(ledger, *(a_row(n, State.WAITING, due=NOON + timedelta(minutes=(n * 7) % 30)) for n in range(30)))
        later = [n for minute in range(30) for n in range(30) if (n * 7) % 30 == minute]

        assert ledger.due(NOON + timedelta(minutes=9), 100) == [an_id(n) for n in later[:10]]
        assert ledger.due(NOON + timedelta(minutes=9), 4) == [an_id(n) for n in later[:4]]
        assert ledger.due(NOON - timedelta(microseconds=1), 100) == []
        assert ledger.due(NOON, 0) == []

    def test_a_row_that_waits_without_a_time_is_due(self, ledger: Ledger) -> None:
        inserted(ledger, a_row(1, State.WAITING))

        assert ledger.due(NOON, 1) == [an_id(1)]

    def test_pointers_follow_states_and_times(self, ledger: Ledger) -> None:
        inserted(ledger, a_row(1, State.WAITING, due=NOON))
        hour = timedelta(hours=1)

        ledger.write([stored(ledger, 1)[0].become(State.WAITING, due=NOON + hour)])
        assert ledger.due(NOON, 9) == []
        assert ledger.due(NOON + hour, 9) == ids_in(ledger, State.WAITING) == [an_id(1)]

        ledger.write([stored(ledger, 1)[0].become(State.PARKED, reason="1003")])
        assert ids_in(ledger, State.WAITING) == ledger.due(NOON + hour, 9) == []
        assert ids_in(ledger, State.PARKED) == [an_id(1)]

        ledger.write([stored(ledger, 1)[0].become(State.PARKED, reason="1004")])
        ledger.write([stored(ledger, 1)[0].become(State.HELD)])
        assert [ids_in(ledger, state) for state in POINTED_AT] == [[], [], [an_id(1)]]

        ledger.write([stored(ledger, 1)[0].become(State.GONE)])
        assert [ids_in(ledger, state) for state in POINTED_AT] == [[], [], []]

    def test_pointers_say_why_and_follow_a_reason_that_changes(self, ledger: Ledger) -> None:
        rows = inserted(ledger, *(a_row(n, State.PARKED) for n in range(5)))
        ledger.write([row.become(State.PARKED, reason='1003: it\'s "bad"') for row in rows[:3]])

        assert pointed(ledger, State.PARKED) == {
            row.id: '1003: it\'s "bad"' if number < 3 else "" for number, row in enumerate(rows)
        }
        assert ledger.tally().reasons == {("parked", '1003: it\'s "bad"'): 3, ("parked", ""): 2}

        ledger.write([stored(ledger, 0)[0].become(State.IN_STEP), stored(ledger, 1)[0].become(State.HELD, reason="h")])

        assert ledger.tally().reasons == {
            ("parked", '1003: it\'s "bad"'): 1,
            ("parked", ""): 2,
            ("held", "h"): 1,
        }
        assert ledger.tally().counts == ledger.counts()

    @pytest.mark.parametrize("state", POINTED_AT)
    @pytest.mark.parametrize("size", [1, 4, 1000])
    def test_pointers_from_any_mark_on(self, ledger: Ledger, state: State, size: int) -> None:
        due = {n: NOON + timedelta(minutes=n % 3) if state is State.WAITING else None for n in range(40)}
        rows = [replace(a_row(n, state, due=due[n]), reason=f"reason {n % 2}") for n in range(40)]
        inserted(ledger, *rows)
        every = [pointer for page in ledger.pointers(state) for pointer in page]

        for number in (0, 17, 39):
            behind = chain.from_iterable(ledger.pointers(state, after=every[number].mark, size=size))
            assert list(behind) == every[number + 1 :]
        odd = chain.from_iterable(ledger.pointers(state, reason="reason 1", after=every[9].mark, size=size))
        assert list(odd) == [pointer for pointer in every[10:] if pointer.reason == "reason 1"]

    @pytest.mark.parametrize("state", [State.IN_STEP, State.GONE])
    def test_has_no_list_of_rows_that_need_nothing(self, ledger: Ledger, state: State) -> None:
        with pytest.raises(ValueError, match="points"):
            ledger.in_state(state)
        with pytest.raises(ValueError, match="points"):
            ledger.pointers(state)

    def test_ids_of_all_that_is_not_gone(self, ledger: Ledger) -> None:
        inserted(ledger, *(a_row(n, State.GONE if n % 3 else State.PARKED) for n in range(60)))

        pages = list(ledger.ids())

        assert list(chain.from_iterable(pages)) == sorted(an_id(n) for n in range(0, 60, 3))
        assert all(pages)
        assert sorted(chain.from_iterable(ledger.ids(gone=True))) == sorted(an_id(n) for n in range(60))

    def test_ids_go_on_behind_one_and_name_what_is_gone_if_asked(self, ledger: Ledger) -> None:
        inserted(ledger, *(a_row(n, State.GONE if n % 3 else State.PARKED) for n in range(60)))
        every = sorted(an_id(n) for n in range(60))

        for number in (0, 31, 58):
            behind = list(chain.from_iterable(ledger.ids(after=every[number], gone=True)))
            assert behind == every[number + 1 :]
        assert list(ledger.ids(after=every[59], gone=True)) == []

    def test_a_recount_of_counts_that_are_right(self, ledger: Ledger) -> None:
        inserted(ledger, *(a_row(n, State.GONE if n % 3 else State.PARKED) for n in range(60)))

        assert ledger.recount() == {}
        assert ledger.recount(mend=True) == {}

    def test_an_empty_ledger(self, ledger: Ledger) -> None:
        assert ledger.counts() == {
            "in step": 0,
            "waiting": 0,
            "parked": 0,
            "held": 0,
            "gone": 0,
            "roles": 0,
            "left out": 0,
        }
        assert (list(ledger.ids()), ledger.due(NOON, 9), ids_in(ledger, State.HELD)) == ([], [], [])
        assert ledger.write([]) == set()

    @pytest.mark.parametrize("seed", range(2))
    def test_counts_and_pointers_match_the_rows_whatever_happened(self, ledger: Ledger, seed: int) -> None:
        chance = random.Random(seed)
        seen: list[LedgerRow] = [a_row(number) for number in range(24)]
        for _ in range(15):
            some = {row.id: row for row in chance.sample(seen, min(len(seen), 12))}
            ledger.write([changed(row, chance) for row in some.values()])
            seen += ledger.rows(some).values()  # older ones stay among them: their tickets are stale

        assert_adds_up(ledger, [an_id(number) for number in range(24)])


def changed(row: LedgerRow, chance: random.Random) -> LedgerRow:
    state = chance.choice(list(State))
    due = NOON + timedelta(minutes=chance.randrange(5)) if state is State.WAITING else None
    reason = chance.choice(["", "outside the filter: name"])
    return row.become(state, due=due, reason=reason, roles=a_row(0, roles=chance.randrange(4)).roles)


def ids_in(ledger: Ledger, state: State) -> list[str]:
    return [id for page in ledger.in_state(state) for id in page]


def pointed(ledger: Ledger, state: State) -> dict[str, str]:
    return {pointer.id: pointer.reason for page in ledger.pointers(state) for pointer in page}


def assert_adds_up(ledger: Ledger, ids: Sequence[str]) -> None:
    """Counts and pointers say what the rows say."""
    rows = list(ledger.rows(ids).values())
    states = {str(state): sum(row.state is state for row in rows) for state in State}
    others = {"roles": sum(len(row.roles) for row in rows), "left out": sum(row.left_out for row in rows)}
    assert ledger.counts() == states | others
    unsettled = [row for row in rows if row.state in POINTED_AT]
    assert ledger.tally().reasons == Counter((str(row.state), row.reason) for row in unsettled)
    for state in POINTED_AT:
        assert pointed(ledger, state) == {row.id: row.reason for row in rows if row.state is state}
    waiting = sorted((row.due or NOON, row.id) for row in rows if row.state is State.WAITING)
    assert ledger.due(NOON + timedelta(days=1), 10_000) == [id for _, id in waiting]
