"""What people do in Dynamics and in Marketo: few records, few values, so that changes are often taken back."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any

from tests.flows.org import Org, lookup
from tests.stage import Stage

NAMES = ("Deal", "New")
ROLES = ("Decision Maker", "Champion", "Account Manager")  # the last one is no stakeholder role
ADDRESSES = ("ann@acme.invalid", "bob@acme.invalid", "dan@acme.invalid", "fay@bolt.invalid", None)
NEWCOMERS = ("dan@acme.invalid", "fay@bolt.invalid")
TABLES = ("opportunity", "connection", "contact", "account")
MOST_DEALS = 7


class Crm(Org):
    """Each edit is a method that says what it did, or '' when there was nothing to do it to."""

    def __init__(self, stage: Stage, chance: random.Random) -> None:
        for row in stage.dataverse.rows("connectionrole"):
            if row["name"] not in ROLES:  # fewer to read at each tick
                stage.dataverse.erase("connectionrole", row["connectionroleid"])
        super().__init__(stage)
        self.chance = chance
        self.dan = self.contact("dan@acme.invalid", self.acme)
        self.left: set[str] = set()  # people who left Marketo: their addresses never come back
        self.every_account = {self.acme, self.bolt}
        self.opportunity("Deal", contact=self.ann, account=chance.choice((None, self.acme)))
        for contact in chance.sample((self.ann, self.bob, self.cid, self.dan), chance.randint(0, 3)):
            self.stakeholder(contact, chance.choice(ROLES), self.deal)

    # --- whom and what ----------------------------------------------------------------------------------------

    def ids(self, table: str) -> list[str]:
        return sorted(self.stage.dataverse.store(table).rows)

    def row(self, table: str, key: str) -> dict[str, Any]:
        return dict(self.stage.dataverse.row(table, key) or {})

    def one(self, table: str) -> str | None:
        found = self.ids(table)
        return self.chance.choice(found) if found else None

    def deal_to_edit(self) -> str | None:
        """The first one often: what happens to one and the same record is what is interesting."""
        found = [key for key in self.ids("opportunity") if self.row("opportunity", key)["statecode"] == 0]
        if self.deal in found and self.chance.random() < 0.5:
            return self.deal
        return self.chance.choice(found) if found else None

    def standing(self) -> list[str]:
        return [key for key in self.ids("contact") if not self.row("contact", key).get("_masterid_value")]

    # --- opportunities ----------------------------------------------------------------------------------------

    def create(self) -> str:
        if len(self.ids("opportunity")) >= MOST_DEALS:
            return ""
        account, contact = self.one("account"), self.one("contact")
        customer = self.chance.choice(("account", "contact", "both", "none"))
        key = self.opportunity(
            self.chance.choice(NAMES),
            account=account if customer in ("account", "both") else None,
            contact=contact if customer in ("contact", "both") else None,
        )
        return f"create opportunity {key} customer={customer}"

    def rename(self) -> str:
        if (deal := self.deal_to_edit()) is None:
            return ""
        name = self.chance.choice(NAMES)
        self.update("opportunity", deal, name=name, description=self.chance.choice((None, "Text")))
        return f"opportunity {deal} name={name}"

    def change_customer(self) -> str:
        if (deal := self.deal_to_edit()) is None:
            return ""
        account, contact = self.one("account"), self.one("contact")
        what = self.chance.choice(("account", "contact"))
        values = lookup("parentaccountid", account if what == "account" else None, "account")
        values |= lookup("parentcontactid", contact if what == "contact" else None, "contact")
        self.update("opportunity", deal, **values)
        return f"opportunity {deal} customer={account if what == 'account' else contact}"

    def close(self) -> str:
        key = self.one("opportunity")
        if key is None:
            return ""
        is_open = self.row("opportunity", key)["statecode"] == 0
        self.stage.edit(self.chance.choice(("win", "lose")) if is_open else "reopen", id=key)
        return f"opportunity {key} {'closed' if is_open else 'reopened'}"

    def delete_deal(self) -> str:
        if (key := self.one("opportunity")) is None:
            return ""
        self.delete("opportunity", key)
        return f"delete opportunity {key}"

    # --- stakeholders -----------------------------------------------------------------------------------------

    def connect(self) -> str:
        deal, contact = self.one("opportunity"), self.one("contact")
        if deal is None or contact is None:
            return ""
        deal = self.deal if self.deal in self.ids("opportunity") and self.chance.random() < 0.5 else deal
        role = self.chance.choice((*ROLES, *ROLES, None))
        self.stakeholder(contact, self._named(role), deal)
        return f"connect {contact} to {deal} as {role}"

    def disconnect(self) -> str:
        if (key := self.one("connection")) is None:
            return ""
        self.stage.edit("disconnect", id=key)
        return f"disconnect {key}"

    def end(self) -> str:
        """Deactivated, or ended by date; or taken back."""
        if (key := self.one("connection")) is None:
            return ""
        before = (self.stage.clock.now() - timedelta(days=1)).isoformat()
        values: dict[str, Any] = self.chance.choice(
            ({"statecode": 1}, {"statecode": 0, "effectiveend": None}, {"effectiveend": before})
        )
        self.update("connection", key, **values)
        return f"connection {key} {values}"

    def change_role(self) -> str:
        """Or whom it is about."""
        keys = [key for key in self.ids("connection") if self.row("connection", key)["record1objecttypecode"] == 3]
        contact = self.one("contact")
        if not keys or contact is None:
            return ""
        key = self.chance.choice(keys)
        if self.chance.random() < 0.3:
            self.update("connection", key, **lookup("record2id", contact, "contact"))
            return f"connection {key} to {contact}"
        role = self.stage.dataverse.role_named(self._named(self.chance.choice(ROLES)) or "")
        self.update("connection", key, _record2roleid_value=role)
        return f"connection {key} role={role}"

    def rename_role(self) -> str:
        """There and back."""
        rows = self.stage.dataverse.rows("connectionrole")
        mine = [row for row in rows if str(row["name"]).removesuffix(" 2") in ROLES]
        row = self.chance.choice(sorted(mine, key=lambda row: str(row["connectionroleid"])))
        name = str(row["name"])
        new = name.removesuffix(" 2") if name.endswith(" 2") else f"{name} 2"
        self.update("connectionrole", row["connectionroleid"], name=new)
        return f"connection role {name} becomes {new}"

    def _named(self, role: str | None) -> str | None:
        return role if role is None or self.stage.dataverse.role_named(role) else f"{role} 2"

    def toggle(self) -> str:
        """Something small about the first opportunity, there and back."""
        if self.deal not in self.ids("opportunity"):
            return self.create() or self.rename()
        ends = self.stage.dataverse.store("connection").rows.values()
        mine = sorted(row["connectionid"] for row in ends if row["_record1id_value"] == self.deal)
        if mine and self.chance.random() < 0.5:
            key = self.chance.choice(mine)
            state = 1 - self.row("connection", key).get("statecode", 0)
            self.update("connection", key, statecode=state)
            return f"connection {key} statecode={state}"
        row = self.row("opportunity", self.deal)
        if row["statecode"]:
            self.stage.edit("reopen", id=self.deal)
            return f"opportunity {self.deal} reopened"
        name = next(name for name in NAMES if name != row["name"])
        self.update("opportunity", self.deal, name=name)
        return f"opportunity {self.deal} name={name}"

    # --- contacts and accounts --------------------------------------------------------------------------------

    def change_employer(self) -> str:
        contact, account = self.one("contact"), self.chance.choice((self.one("account"), None))
        if contact is None:
            return ""
        self.update("contact", contact, **lookup("parentcustomerid", account, "account"))
        return f"contact {contact} works at {account}"

    def change_address(self) -> str:
        if (contact := self.one("contact")) is None:
            return ""
        address = self.chance.choice([each for each in ADDRESSES if each not in self.left])
        self.update("contact", contact, emailaddress1=address)
        return f"contact {contact} address={address}"

    def merge_contacts(self) -> str:
        standing = self.standing()
        if len(standing) < 2:
            return ""
        loser, winner = self.chance.sample(standing, 2)
        self.stage.edit("merge", table="contact", id=loser, into=winner)
        return f"merge contact {loser} into {winner}"

    def delete_contact(self) -> str:
        """Opportunities whose customer it is go with it."""
        if len(self.ids("contact")) < 3:
            return ""
        key = self.chance.choice(self.ids("contact"))
        self.delete("contact", key)
        return f"delete contact {key}"

    def new_contact(self) -> str:
        if len(self.ids("contact")) > 6:
            return ""
        address = self.chance.choice([each for each in ADDRESSES if each not in self.left])
        key = self.contact(address, self.chance.choice((None, self.one("account"))))
        return f"create contact {key} address={address}"

    def rename_account(self) -> str:
        if (key := self.one("account")) is None:
            return ""
        name = self.chance.choice(("Acme", "Bolt"))
        self.update("account", key, name=name)
        return f"account {key} name={name}"

    def new_account(self) -> str:
        if len(self.ids("account")) > 3:
            return ""
        key = self.account(self.chance.choice(("Acme", "Bolt")))
        self.every_account.add(key)
        return f"create account {key}"

    def merge_accounts(self) -> str:
        standing = [key for key in self.ids("account") if not self.row("account", key).get("_masterid_value")]
        if len(standing) < 2:
            return ""
        loser, winner = self.chance.sample(standing, 2)
        self.stage.edit("merge", table="account", id=loser, into=winner)
        return f"merge account {loser} into {winner}"

    # --- Marketo ----------------------------------------------------------------------------------------------

    def arrive(self) -> str:
        present = {row["email"] for row in self.stage.marketo.rows("leads")}
        found = [each for each in NEWCOMERS if each not in present | self.left]
        if not found:
            return ""
        address = self.chance.choice(found)
        self.stage.people(address)
        return f"{address} arrives in Marketo"

    def leave(self) -> str:
        """Deleted in Marketo, with the roles; nobody with this address comes again."""
        leads = self.stage.marketo.rows("leads")
        if len(leads) < 3:
            return ""
        lead = self.chance.choice(leads)
        self.left.add(lead["email"])
        self.stage.marketo.edit({"op": "delete-lead", "id": lead["id"]})
        return f"{lead['email']} is deleted in Marketo"

    def a_stranger_is_merged(self) -> str:
        leads = self.stage.marketo.rows("leads")
        (stranger,) = self.stage.people(f"stranger{len(leads)}{self.chance.random()}@example.invalid")
        self.stage.marketo.merge(self.chance.choice(leads)["id"], [stranger])
        return "a stranger is merged into somebody in Marketo"


Edit = Callable[[Crm], str]
EDITS: tuple[tuple[int, Edit], ...] = (
    (4, Crm.create),
    (10, Crm.rename),
    (6, Crm.change_customer),
    (3, Crm.close),
    (4, Crm.delete_deal),
    (9, Crm.connect),
    (6, Crm.disconnect),
    (4, Crm.end),
    (5, Crm.change_role),
    (2, Crm.rename_role),
    (4, Crm.change_employer),
    (4, Crm.change_address),
    (3, Crm.merge_contacts),
    (1, Crm.delete_contact),
    (2, Crm.new_contact),
    (4, Crm.rename_account),
    (2, Crm.new_account),
    (1, Crm.merge_accounts),
    (2, Crm.arrive),
    (1, Crm.leave),
    (1, Crm.a_stranger_is_merged),
)


# Each with the table whose lost link hides it.
UNREAD: tuple[tuple[Edit, str], ...] = (
    (Crm.connect, "connection"),
    (Crm.disconnect, "connection"),
    (Crm.end, "connection"),
    (Crm.change_role, "connection"),
    (Crm.change_employer, "contact"),
    (Crm.change_address, "contact"),
    (Crm.rename_account, "account"),
    (Crm.delete_deal, "opportunity"),
)
PEOPLE_EDITS = (Crm.arrive, Crm.leave)


def edit(crm: Crm, without: Collection[Edit] = ()) -> str:
    """One edit that found something to do, none of *without*."""
    edits = [(weight, edit) for weight, edit in EDITS if edit not in without]
    for _ in range(20):
        (choice,) = crm.chance.choices([edit for _, edit in edits], [weight for weight, _ in edits])
        if told := choice(crm):
            return told
    return ""
