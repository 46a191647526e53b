"""The emulated organization: its tables, its clock, its version counter and its switches; no sockets.

`saving` changes it the way the platform would, `loading` fills it, `tracking` and `queries` read it.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tools.emulators.dataverse.clock import Clock, wire_time
from tools.emulators.dataverse.errors import no_segment
from tools.emulators.dataverse.protection import Protection
from tools.emulators.dataverse.schema import Column, Table, new_table, standard_tables
from tools.emulators.dataverse.store import Row, Store

TENANT = "11111111-1111-4111-8111-111111111111"
CLIENT_ID = "22222222-2222-4222-8222-222222222222"
IDENTITY_CLIENT_ID = "44444444-4444-4444-8444-444444444444"
"""Of the managed identity that the application may trust in a secret's place."""
CLIENT_SECRET = "emulator-secret"  # noqa: S105 - the emulator's own, no secret

# What the contract leaves open or an administrator may set; the first value is the default.
SWITCHES: dict[str, Any] = {
    "token_position": "start",  # | "end": changes made during a tracked read are lost (dataverse.md §3.3)
    "empty_delta_token": "advances",  # | "stays"
    "untracked_table": "error",  # | "silent": 200 without a delta link (§3.5)
    "annotations_with_tracking": "work",  # | "lose_delta_link" (powerapps-docs issue 439)
    "reemit": "any",  # | "selected": a changed row comes again only if a selected column changed (§12 question 6)
    "repeat_changed_rows": False,  # a row changed twice is listed twice (§3.3)
    "delta_context": "complete",  # | "without_api": the quirk of the documentation (§3.2)
    "merge_moves_modifiedon": False,  # re-pointed rows get a new modifiedon (§3.3)
    "mirror_tombstone": "listed",  # | "missing": of a deleted connection only the row that was named (§12 question 9)
    "expired_link_status": 400,  # | 404 | 410 | 412 | 500 (§3.5)
    "untrackable_option_status": 400,  # | 501 (§3.4)
    "closed_opportunities_are_read_only": True,  # §6.2
    "application_user": "enabled",  # | "disabled" | "missing" | "no_role"
    "privileges": {},  # table → "none" | "business_unit"; absent = organization-wide read
    "write_privileges": (),  # such as "prvCreateContact"; the role we ask customers for has none
    "column_security_profile": (),  # "table.column" of each secured column that the application user may read
    "token_lifetime": 3599,
    "web_servers": 1,  # each with limits of its own; a cookie stays with one (§2, §5)
    "limit_requests": 0,  # service protection per user and web server; 0 = off
    "limit_time_s": 0,
    "limit_concurrency": 0,
    "limit_window_s": 300,
    "tokens_of_revoked_credentials": "live_on",  # | "die": no source tells; they are signed for an hour
}

SWITCH_VALUES: dict[str, set[Any]] = {
    "token_position": {"start", "end"},
    "empty_delta_token": {"advances", "stays"},
    "untracked_table": {"error", "silent"},
    "annotations_with_tracking": {"work", "lose_delta_link"},
    "reemit": {"any", "selected"},
    "repeat_changed_rows": {True, False},
    "delta_context": {"complete", "without_api"},
    "merge_moves_modifiedon": {True, False},
    "mirror_tombstone": {"listed", "missing"},
    "expired_link_status": {400, 404, 410, 412, 500},
    "untrackable_option_status": {400, 501},
    "closed_opportunities_are_read_only": {True, False},
    "application_user": {"enabled", "disabled", "missing", "no_role"},
    "tokens_of_revoked_credentials": {"live_on", "die"},
}

# dataverse.md §6.6; the ids were seen in a recorded organization, the rest get ids of their own.
STOCK_ROLES: tuple[tuple[str, int, str | None], ...] = (
    ("Stakeholder", 1000, None),
    ("Champion", 1000, None),
    ("Decision Maker", 1000, "adccf191-576b-463b-be78-019a427eb2e5"),
    ("Budget Approver", 1000, "935e8a38-03dd-4fe2-9974-65266bf6fd33"),
    ("Economic Buyer", 1000, None),
    ("End User", 1000, None),
    ("Influencer", 1000, None),
    ("Technical Buyer", 1000, None),
    ("Account Manager", 1001, None),
    ("Delivery Professional", 1001, None),
    ("Industry Expert", 1001, None),
    ("Service Professional", 1001, None),
    ("Technical Sales Professional", 1001, None),
    ("Territory Manager", 1001, None),
    ("Colleague", 1, "39c47e14-d479-457b-bbb6-bd43af886a05"),
    ("Former Employee", 1, "63e69a22-8e7f-4524-be97-37e05480f7f0"),
    ("Former Employer", 1, "a428209a-89af-4661-b9bb-9bf455dc0c09"),
    ("Spouse/Partner", 2, "ee375944-5415-437d-9336-7698cf665b26"),
    ("Friend", 3, "3a71217e-5941-4c4e-a6e8-7fb4df02d5db"),
)
CURRENCIES = (("USD", "US Dollar", "$", 1.0), ("EUR", "Euro", "€", 0.92), ("GBP", "Pound Sterling", "£", 0.79))


@dataclass(slots=True)
class Credentials:
    """What the application signs in with; Entra ID takes any of them.

    Until the first certificate (PEM) is registered, every assertion is good. `killed`: fingerprints whose tokens died.
    `federated`: issuer and subject of identities whose tokens stand in for a secret, with a blank between.
    """

    secrets: list[str]
    certificates: list[str] = field(default_factory=list)
    federated: list[str] = field(default_factory=list)
    checks_certificates: bool = False
    expired: set[str] = field(default_factory=set)
    killed: set[str] = field(default_factory=set)


class DataverseState:
    """One organization. The same *seed* and *start* give the same ids, versions and times."""

    def __init__(
        self,
        *,
        seed: int = 1,
        start: str | None = None,
        tenant: str = TENANT,
        client_id: str = CLIENT_ID,
        client_secret: str = CLIENT_SECRET,
        identity_header: str = "emulator-identity-header",
        retention_days: int = 7,
    ) -> None:
        self.seed = seed
        self.clock = Clock(start)
        self.tenant = tenant
        self.client_id = client_id
        self.credentials = Credentials([client_secret])
        self.identity_header = identity_header
        self.identity_tenant = tenant  # of the function app; another one than the organization's, if somebody says so
        self.switches: dict[str, Any] = {**SWITCHES, "privileges": {}}
        self.protection = Protection(self.clock, self.switches)
        self.dropped_tokens: set[str] = set()
        self.version = 1_000_000
        self.known_names: dict[str, str] = {}  # of rows that were mentioned but never loaded
        self._random = random.Random(seed)
        self.tables: dict[str, Table] = standard_tables()
        self.stores = {name: Store(table) for name, table in self.tables.items()}
        self._by_set = {table.set_name: table for table in self.tables.values()}
        self._found(retention_days)

    # -- identity and time ------------------------------------------------------------------------------

    def new_id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def new_version(self) -> int:
        self.version += 1
        return self.version

    def now(self) -> str:
        return wire_time(self.clock.now())

    # -- tables -----------------------------------------------------------------------------------------

    def store(self, table: str) -> Store:
        if table not in self.stores:
            raise no_segment(table)
        return self.stores[table]

    def table_of_set(self, set_name: str) -> Table:
        if set_name not in self._by_set:
            raise no_segment(set_name)
        return self._by_set[set_name]

    def table_named(self, name: str) -> Table | None:
        """By logical name or by entity set name."""
        return self.tables.get(name) or self._by_set.get(name)

    def add_table(self, name: str, *, title: str = "name") -> Table:
        table = new_table(name, title=title)
        self.tables[name] = table
        self._by_set[table.set_name] = table
        self.stores[name] = Store(table)
        return table

    def hidden(self, table: Table) -> set[str]:
        """What a row calls the columns that are secured against the application user (dataverse.md §3.3)."""
        readable = self.switches["column_security_profile"]
        return {c.wire for c in table.columns.values() if c.secured and f"{table.name}.{c.name}" not in readable}

    def publish(self, table: str) -> None:
        """A metadata change: delta tokens of the table, taken before it, have expired (dataverse.md §3.5)."""
        self.store(table).valid_from = self.new_version()

    def expire_delta_links(self, table: str | None = None) -> None:
        for name in [table] if table else list(self.stores):
            self.publish(name)

    # -- rows -------------------------------------------------------------------------------------------

    def row(self, table: str, row_id: str) -> Row | None:
        return self.store(table).rows.get(row_id)

    def rows(self, table: str) -> list[Row]:
        return list(self.store(table).after(None))

    def write(self, table: str, row: Row, **columns: Any) -> Row:
        """Replace the row, with *columns* changed and a new version; None removes a value."""
        kept = {name: value for name, value in {**row, **columns}.items() if value is not None}
        kept["versionnumber"] = self.new_version()
        self.stores[table].put(kept)
        return kept

    def erase(self, table: str, row_id: str, *, listed: bool = True) -> None:
        """Delete the row; a delta lists that unless not *listed*."""
        self.stores[table].remove(row_id, self.new_version(), listed=listed)

    def target_of(self, column: Column, row: Row) -> str | None:
        """The table that a lookup of this row leads to; polymorphic ones tell by their neighbours (§6.2-6.5)."""
        if len(column.targets) < 2:
            return column.targets[0] if column.targets else None
        if column.name in {"record1id", "record2id"}:
            return self._name_of_code(row.get(column.name[:-2] + "objecttypecode"))
        if column.name == "ownerid":
            return "team" if row.get("_owningteam_value") else "systemuser"
        if row.get("_accountid_value") == row.get(column.wire):
            return "account"
        return "contact" if "contact" in column.targets else column.targets[0]

    def _name_of_code(self, code: int | None) -> str | None:
        return next((table.name for table in self.tables.values() if table.code == code), None)

    def title_of(self, table: str | None, row_id: str | None) -> str | None:
        """What a person would call the row: its primary name, or the name it was mentioned by.

        Recorded answers show no name for a connection, though it has one.
        """
        if table == "connection":
            return None
        store = self.stores.get(table or "")
        row = store.rows.get(row_id or "") if store else None
        return row.get(store.table.title) if store and row else self.known_names.get(row_id or "")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything in the block is kept, or nothing."""
        stores, version, names = list(self.stores.values()), self.version, dict(self.known_names)
        for store in stores:
            store.begin()
        try:
            yield
        except BaseException:
            for store in stores:
                store.rollback()
            self.version, self.known_names = version, names
            raise
        for store in stores:
            store.commit()

    # -- a new organization -----------------------------------------------------------------------------

    @property
    def retention_days(self) -> int:
        return int(self.stores["organization"].rows[self.organization_id]["expirechangetrackingindays"])

    def currency(self, iso: str) -> str | None:
        rows = self.stores["transactioncurrency"].rows
        return next((row_id for row_id, row in rows.items() if row.get("isocurrencycode") == iso), None)

    def role_named(self, name: str) -> str | None:
        rows = self.stores["connectionrole"].rows
        return next((row_id for row_id, row in rows.items() if row.get("name") == name), None)

    def _found(self, retention_days: int) -> None:
        self.organization_id, self.business_unit_id = self.new_id(), self.new_id()
        self.system_user_id, self.owner_id, self.application_user_id = (self.new_id() for _ in range(3))
        self.managed_identity_principal_id = self.new_id()
        self.signing_key = f"{self._random.getrandbits(256):064x}"
        self.started = self.now()
        currencies = [self._enter("transactioncurrency", **_currency(*facts)) for facts in CURRENCIES]
        self.base_currency_id = currencies[0]
        self._enter(
            "organization", self.organization_id, name="emulated", _basecurrencyid_value=self.base_currency_id,
            basecurrencysymbol="$", basecurrencyprecision=2, expirechangetrackingindays=retention_days,
            localeid=1033, languagecode=1033,
        )  # fmt: skip
        self._enter("businessunit", self.business_unit_id, name="emulated", isdisabled=False)
        self._enter("systemuser", self.system_user_id, **_user("SYSTEM", "", accessmode=3))
        self._enter(
            "systemuser", self.owner_id, **_user("Robin", "Vendor", internalemailaddress="robin@seller.invalid")
        )
        application = _user("# Opportunity Sync", "", accessmode=4, applicationid=self.client_id)
        self._enter("systemuser", self.application_user_id, **application)
        for name, category, row_id in STOCK_ROLES:
            self.add_role(name, category, row_id)

    def add_role(self, name: str, category: int = 1000, row_id: str | None = None) -> str:
        state = {"statecode": 0, "statuscode": 1, "componentstate": 0, "ismanaged": False}
        return self._enter("connectionrole", row_id, name=name, category=category, **state)

    def add_user(self, row_id: str, fullname: str) -> None:
        self._enter("systemuser", row_id, **_user(fullname, ""))

    def _enter(self, table: str, row_id: str | None = None, /, **columns: Any) -> str:
        key = self.tables[table].key
        times = {"createdon": self.now(), "modifiedon": self.now()}
        if table == "systemuser":
            columns["_businessunitid_value"] = self.business_unit_id
        return str(self.write(table, {key: row_id or self.new_id(), **times, **columns})[key])


def _currency(iso: str, name: str, symbol: str, rate: float) -> Row:
    return {
        "isocurrencycode": iso, "currencyname": name, "currencysymbol": symbol, "currencyprecision": 2,
        "exchangerate": rate, "statecode": 0, "statuscode": 1,
    }  # fmt: skip


def _user(first: str, last: str, **columns: Any) -> Row:
    names = {"firstname": first, "lastname": last or None, "fullname": f"{first} {last}".strip()}
    return {**names, "isdisabled": False, "accessmode": 0, **columns}
