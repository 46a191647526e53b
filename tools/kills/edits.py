"""People at work in Dynamics, as random as a seed makes them: the same seed edits the same rows in the same order."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tools.emulators.admin import Admin

TABLES = ("opportunity", "connection", "contact", "account")
ROLES = ("Decision Maker", "Champion", "Influencer", "End User")
HOT = 6  # rows that most edits touch: two edits close together are what a killed delivery must survive
REMEMBERED = 4  # edits that may be taken back
LOOKUP = "@Microsoft.Dynamics.CRM.lookuplogicalname"

Row = Mapping[str, Any]


class People:
    """Edits through the emulator's own endpoint; nobody else may write there, or a seed would not repeat itself."""

    def __init__(self, dataverse: Admin, chance: random.Random) -> None:
        self.dataverse = dataverse
        self.chance = chance
        self.done: Counter[str] = Counter()
        self.undo: deque[Callable[[], Any]] = deque(maxlen=REMEMBERED)

    def take_back(self) -> None:
        """The last edits, as far as they can be: what a killed host has posted of them is wrong from now on."""
        while self.undo:
            self.undo.pop()()
            self.done["taken back"] += 1

    def act(self) -> None:
        """One edit."""
        names = list(EDITS)
        (name,) = self.chance.choices(names, [EDITS[name] for name in names])
        getattr(self, name)()
        self.done[name.replace("_", " ")] += 1

    # --- what they do -----------------------------------------------------------------------------------------

    def create(self) -> None:
        kind = self.chance.choice(("account", "contact", "none"))
        who = {"account": self._account, "contact": self._contact}.get(kind)
        customer = _lookup(f"parent{kind}id", who(), kind) if who else {}
        values = {"name": f"Deal {self._number()}", "estimatedvalue": float(self._number()), **customer}
        self._edit("create", table="opportunity", values=values)

    def rename(self) -> None:
        row = self._open_deal()
        key, name = row["opportunityid"], row["name"]
        self._update("opportunity", key, name=f"Deal {self._number()}")
        self.undo.append(lambda: self._if_open(key, name=name))

    def change_amount(self) -> None:
        self._update("opportunity", self._open_deal()["opportunityid"], estimatedvalue=float(self._number()))

    def move(self) -> None:
        deal = self._open_deal()["opportunityid"]
        self._update("opportunity", deal, **_lookup("parentaccountid", self._account(), "account"))

    def win(self) -> None:
        key = self._open_deal()["opportunityid"]
        self._edit("win", id=key)
        self.undo.append(lambda: self._if_there("opportunity", key, "reopen"))

    def delete(self) -> None:
        self._edit("delete", table="opportunity", id=self._deal()["opportunityid"])

    def connect(self) -> None:
        deal, contact, role = self._deal()["opportunityid"], self._contact(), self.chance.choice(ROLES)
        made = self._edit("connect", opportunity=deal, contact=contact, role=role)["id"]
        self.undo.append(lambda: self._if_there("connection", made, "disconnect"))

    def disconnect(self) -> None:
        made = self._hot("connection")
        if made:
            self._edit("disconnect", id=made["connectionid"])

    def change_employer(self) -> None:
        self._update("contact", self._contact(), **_lookup("parentcustomerid", self._account(), "account"))

    def change_address(self) -> None:
        addresses = sorted({row["emailaddress1"] for row in self._rows("contact") if row.get("emailaddress1")})
        self._update("contact", self._contact(), emailaddress1=self.chance.choice((*addresses, None)))

    def merge(self) -> None:
        loser, winner = self._contact(), self._contact()
        if loser != winner:
            self._edit("merge", table="contact", id=loser, into=winner)

    def rename_account(self) -> None:
        key = self._account()
        name = self.dataverse.get(f"rows/account/{key}")["name"]
        self._update("account", key, name=f"Account {self._number()}")
        self.undo.append(lambda: self._update("account", key, name=name))

    def lose_a_link(self) -> None:
        self.dataverse.post("expire-delta-links", {"table": self.chance.choice(TABLES)})

    # --- whom it concerns ---------------------------------------------------------------------------------------

    def _rows(self, table: str) -> list[Row]:
        return sorted(self.dataverse.get(f"rows/{table}"), key=lambda row: str(row[f"{table}id"]))

    def _hot(self, table: str, rows: Sequence[Row] | None = None) -> Row | None:
        """One of them; mostly one of the same few."""
        found = self._rows(table) if rows is None else rows
        if not found:
            return None
        return self.chance.choice(found[:HOT] if self.chance.random() < 0.7 else found)

    def _deal(self) -> Row:
        row = self._hot("opportunity")
        assert row is not None, "the seed deleted every opportunity"
        return row

    def _open_deal(self) -> Row:
        row = self._hot("opportunity", [row for row in self._rows("opportunity") if row["statecode"] == 0])
        assert row is not None, "the seed closed every opportunity"
        return row

    def _contact(self) -> str:
        row = self._hot("contact", [row for row in self._rows("contact") if not row.get("_masterid_value")])
        assert row is not None, "the seed merged every contact"
        return str(row["contactid"])

    def _account(self) -> str:
        row = self._hot("account")
        assert row is not None, "there are no accounts"
        return str(row["accountid"])

    def _number(self) -> int:
        return self.chance.randrange(1_000, 100_000)

    # --- how ----------------------------------------------------------------------------------------------------

    def _edit(self, op: str, **values: Any) -> Any:
        return self.dataverse.post("edit", {"op": op, **values})

    def _update(self, table: str, key: str, **values: Any) -> None:
        self._edit("update", table=table, id=key, values=values)

    def _if_open(self, deal: str, **values: Any) -> None:
        if any(row["opportunityid"] == deal and row["statecode"] == 0 for row in self._rows("opportunity")):
            self._update("opportunity", deal, **values)

    def _if_there(self, table: str, key: str, op: str) -> None:
        """A closed opportunity may have been reopened, or anything deleted, since."""
        row = next((row for row in self._rows(table) if row[f"{table}id"] == key), None)
        if row is not None and (op != "reopen" or row["statecode"]):
            self._edit(op, id=key)


EDITS = {
    "create": 3, "rename": 8, "change_amount": 2, "move": 2, "win": 3, "delete": 2, "connect": 9, "disconnect": 3,
    "change_employer": 2, "change_address": 1, "merge": 1, "rename_account": 3, "lose_a_link": 1,
}  # fmt: skip


def _lookup(column: str, key: str, table: str) -> dict[str, str]:
    return {f"_{column}_value": key, f"_{column}_value{LOOKUP}": table}
