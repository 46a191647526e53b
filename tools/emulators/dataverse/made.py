"""An organization too large to hold: its rows are made when they are asked for, from a seed and their number.

They are drawn as `generate` draws them and completed as `loading` completes them, each from a random state of its own.
An id begins with the place of its row, number·2³²/rows, so ids ascend with the numbers, are spread evenly over their
first digits, and give the number back. What is written later is kept, and stands in the place of what would be made.

Quick are: rows by id, connections by their opportunities, pages in order of id, the newest rows, and what was modified
after the rows were made. Any other question makes every row of its table, and by an indexed column keeps all ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from heapq import merge
from itertools import count
from math import ceil
from typing import Any, TypeVar

from tools.emulators.dataverse import saving
from tools.emulators.dataverse.clock import wire_time
from tools.emulators.dataverse.errors import bad_request
from tools.emulators.dataverse.generate import NOW, Maker, sizes
from tools.emulators.dataverse.loading import Loader
from tools.emulators.dataverse.schema import Table
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.store import Row, Store

TABLES = ("account", "contact", "opportunity", "connection")
ENDS = ("_record1id_value", "_record2id_value")
AT_HAND = 4_000  # rows of a table that are not made again at once
T = TypeVar("T")
PLACES = 2**32


def fill(state: DataverseState, **wishes: Any) -> dict[str, int]:
    """*wishes* as for `generate.rows`; the rows of each table, but for connections, whose number nobody knows."""
    if any(state.stores[name].rows for name in TABLES):
        raise bad_request("rows can be made only for an organization without accounts, contacts and opportunities")
    made = Made(**wishes)
    makers: dict[str, Callable[[int], Row | None]] = {
        "account": _completed(state, "account", made.account),
        "contact": _completed(state, "contact", made.contact),
        "opportunity": _completed(state, "opportunity", made.opportunity),
        "connection": _Pairs(state, made).row,
    }
    for name, make in makers.items():
        state.stores[name] = MadeStore(state.tables[name], made, make, state.version)
        state.version += len(made.ids[name])
        state.stores[name].valid_from = state.version
    return {name: len(ids) for name, ids in made.ids.items() if name != "connection"}


# -- by number ----------------------------------------------------------------------------------------


class _Numbers(Sequence[T]):
    """As many as there are rows, each made when it is picked."""

    def __init__(self, make: Callable[[int], T], rows: int) -> None:
        self._make = make
        self._rows = rows

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, number: Any) -> Any:
        if number >= self._rows:
            raise IndexError(number)
        return self._make(number)


class Ids(_Numbers[str]):
    """The ids of one table's rows, in order."""

    def __init__(self, seed: int, table: str, rows: int) -> None:
        super().__init__(self._id, rows)
        self._salt = f"{seed} {table} "

    def _id(self, number: int) -> str:
        rest = blake2b(f"{self._salt}{number}".encode(), digest_size=11).hexdigest()
        place = number * PLACES // self._rows
        return f"{place:08x}-{rest[:4]}-4{rest[4:7]}-8{rest[7:10]}-{rest[10:]}"

    def number(self, row_id: str) -> int | None:
        """Which row has this id; None if none has."""
        number = self.first(row_id)
        return number if number < self._rows and self[number] == row_id else None

    def first(self, row_id: str) -> int:
        """The first row whose id is not lower than this."""
        try:
            number = -(-int(row_id[:8], 16) * self._rows // PLACES)
        except ValueError:
            return self._rows
        return number + (number < self._rows and self[number] < row_id)


class Made:
    """The rows of `generate.rows` with the same wishes, drawn one by one: same distributions, other rows."""

    def __init__(
        self,
        *,
        seed: int = 1,
        opportunities: int = 1000,
        accounts: int | None = None,
        contacts: int | None = None,
        roles_per_opportunity: float = 1.5,
        contact_customers: float = 0.2,
    ) -> None:
        self.roles_per_opportunity = roles_per_opportunity
        self.most = ceil(roles_per_opportunity)  # connections of one opportunity
        accounts, contacts = sizes(opportunities, accounts, contacts)
        numbers = {"account": accounts, "contact": contacts, "opportunity": opportunities}
        numbers["connection"] = opportunities * self.most * 2  # places: not each is taken
        self.ids = {name: Ids(seed, name, number) for name, number in numbers.items()}
        self._makers = {name: _Numbered(seed, contact_customers, place) for place, name in enumerate(TABLES)}
        self._accounts = _Numbers(self.account, accounts)

    def account(self, number: int) -> Row:
        return self._maker("account", number).account(number)

    def contact(self, number: int) -> Row:
        return self._maker("contact", number).contact(number, self._accounts)

    def opportunity(self, number: int) -> Row:
        return self._maker("opportunity", number).opportunity(number, self.ids["account"], self.ids["contact"])

    def connections(self, number: int) -> Iterator[Row]:
        """Those of opportunity *number*, without their mirrors, whose ids are the odd ones."""
        created = wire_time(self._maker("opportunity", number).moment())  # what is drawn first
        opportunity = {"opportunityid": self.ids["opportunity"][number], "createdon": created}
        maker = self._maker("connection", number, count(number * self.most * 2, 2))
        return maker.connections(opportunity, self.ids["contact"], self.roles_per_opportunity)

    def _maker(self, table: str, number: int, numbers: Iterable[int] | None = None) -> Maker:
        return self._makers[table].start(number, map(self.ids[table].__getitem__, numbers or (number,)))


class _Numbered(Maker):
    """A random state for each number, and ids that are given."""

    def __init__(self, seed: int, contact_customers: float, place: int) -> None:
        super().__init__(seed, contact_customers)
        self._seed = (seed * len(TABLES) + place) * PLACES
        self._ids: Iterator[str] = iter(())

    def start(self, number: int, ids: Iterator[str]) -> Maker:
        self.random.seed(self._seed + number)
        self._ids = ids
        return self

    def id(self) -> str:
        return next(self._ids)


# -- as the organization keeps them -------------------------------------------------------------------


def _completed(state: DataverseState, table: str, make: Callable[[int], Row]) -> Callable[[int], Row | None]:
    loader = Loader(state, state.tables[table], roles_given=False)  # over the empty store that was there before
    return lambda number: loader.completed(make(number))


class _Pairs:
    """Connections and their mirrors, by number; those of one opportunity are made together.

    They have no `name`: that is what one of the ends is called, which would have to be made for it.
    """

    def __init__(self, state: DataverseState, made: Made) -> None:
        self._made = made
        self._ids = made.ids["connection"]
        self._loader = Loader(state, state.tables["connection"], roles_given=False)
        self._of = lru_cache(AT_HAND)(self._make)

    def row(self, number: int) -> Row | None:
        opportunity, place = divmod(number, self._made.most * 2)
        rows = self._of(opportunity)
        return rows[place] if place < len(rows) else None

    def _make(self, opportunity: int) -> list[Row]:
        rows = []
        for number, raw in enumerate(self._made.connections(opportunity), opportunity * self._made.most):
            mirror = self._ids[2 * number + 1]
            row = self._loader.completed(raw | {"name": ""}) | {"_relatedconnectionid_value": mirror}
            del row["name"]
            rows += [row, saving.seen_from_the_other_side(row, mirror)]
        return rows


class _Kept(MutableMapping[str, Row]):
    """Rows by id: those that were written, and behind them those that are made. None stands for a deleted one."""

    def __init__(self, ids: Ids, make: Callable[[int], Row | None], version: int) -> None:
        self.ids = ids
        self.written: dict[str, Row | None] = {}
        self._make = make
        self._version = version
        self._made = lru_cache(AT_HAND)(self._versioned)

    def _versioned(self, number: int) -> Row | None:
        row = self._make(number)
        return None if row is None else row | {"versionnumber": self._version + number + 1}

    def made(self, numbers: Iterable[int]) -> Iterator[Row]:
        """Those of *numbers* that nobody has written since."""
        for number in numbers:
            row = self._made(number)
            if row is not None and not (self.written and self.ids[number] in self.written):
                yield row

    def __getitem__(self, row_id: str) -> Row:
        if row_id in self.written:
            row = self.written[row_id]
        else:
            number = self.ids.number(row_id)
            row = None if number is None else self._made(number)
        if row is None:
            raise KeyError(row_id)
        return row

    def __setitem__(self, row_id: str, row: Row) -> None:
        self.written[row_id] = row

    def __delitem__(self, row_id: str) -> None:
        self.written[row_id] = None

    def __iter__(self) -> Iterator[str]:
        made = (self.ids[number] for number in range(len(self.ids)) if self._made(number) is not None)
        yield from (row_id for row_id in made if row_id not in self.written)
        yield from (row_id for row_id, row in self.written.items() if row is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None


class MadeStore(Store):
    """A `Store` whose first rows are made; its log begins behind them, so older delta tokens have expired."""

    def __init__(self, table: Table, made: Made, make: Callable[[int], Row | None], version: int) -> None:
        super().__init__(table)
        self._opportunities, self._most = made.ids["opportunity"], made.most
        self.kept = self.rows = _Kept(made.ids[table.name], make, version)

    def _keep(self, row_id: str, before: Row | None, after: Row | None) -> None:
        if after is None:
            del self.rows[row_id]
        else:
            self.rows[row_id] = after

    def after(self, row_id: str | None) -> Iterator[Row]:
        ids, key, last = self.kept.ids, self.table.key, row_id or ""
        first = ids.first(last) if last else 0
        made = (row for row in self.kept.made(range(first, len(ids))) if row[key] > last)
        written = (row for _, row in sorted(self.kept.written.items()) if row is not None and row[key] > last)
        return merge(made, written, key=lambda row: str(row[key]))

    def newest(self) -> Iterator[Row]:
        yield from super().newest()
        yield from self.kept.made(range(len(self.kept.ids) - 1, -1, -1))

    def modified_since(self, moment: str) -> set[str] | None:
        return {row_id for row_id, row in self.kept.written.items() if row} if moment >= wire_time(NOW) else None

    def ids_with(self, column: str, values: Iterable[Any]) -> set[str] | None:
        """Connections by their opportunities without an index: the numbers tell."""
        values = set(values)
        numbers = [number for value in values if (number := self._opportunities.number(value)) is not None]
        if column not in ENDS or len(numbers) < len(values):
            return super().ids_with(column, values)
        found = {row_id for row_id, row in self.kept.written.items() if row and row.get(column) in values}
        places = (number * self._most * 2 + place for number in numbers for place in range(self._most * 2))
        return found | {row[self.table.key] for row in self.kept.made(places) if row[column] in values}
