"""Is everything as the sync needs it? Each check is green, amber or red, with what was found and what to do about it.

    settings ─▶ storage ─▶ sign-in ─▶ rights ─▶ mapping ─▶ what runs

Every check runs, whatever the others found; one whose ground is missing is "not checked". Nothing is written to
Dynamics. Marketo is asked to delete one random key of each object, which nobody has: whether it says "not found",
"access denied" or "natively linked" tells what we may do there (marketo.md §4; the answers are unconfirmed).
"""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from sync_core import events
from sync_core.errors import ConfigurationError, RetryLater, SplitBatch, SyncError
from sync_core.flows.detect import BUSY_QUEUE, OPPORTUNITY, side_tables
from sync_core.flows.guard import PAUSE, compare_pair
from sync_core.flows.observe import check_rules, match_columns, rule_columns
from sync_core.flows.reading import Reading, check_rule, kind_of, tables_of
from sync_core.flows.rehearsal import KEYS
from sync_core.flows.roles import OPPORTUNITY_ID
from sync_core.flows.status import DAILY_QUOTA
from sync_core.flows.world import World
from sync_core.mapping import SALES_PERSON_FIELDS, Column, Place, Source, place_of
from sync_core.model import Lane, MarketoField, MarketoObject, SignIn
from sync_core.rules.alerts import EXPIRES_SOON
from sync_core.rules.fields import length
from sync_core.rules.filters import FILTER, ONLY, sides
from sync_core.rules.schedule import last_due
from sync_core.rules.sources import LOOKUPS, Need, needs

RETENTION_DAYS = 7  # what Dataverse keeps by default (dataverse.md §0)
MORE_CALLS = "wait until 06:05 UTC, or raise MARKETO_DAILY_CALLS"
NEARLY = 0.8  # of a share
RENEW = "make another beside it and put that into the settings: docs/operations.md, “Another secret, without a stop”"
SKEW_S, LARGE_SKEW_S = 60.0, 300.0  # Entra ID and Azure refuse clocks that differ by more than minutes
LONGEST_TICK = timedelta(minutes=10)  # host.json's functionTimeout; a tick is noted at its end
DENIED, LINKED = "603", "1018"
PERMISSIONS: Mapping[MarketoObject, str] = {
    MarketoObject.OPPORTUNITY: "Read-Write Opportunity",
    MarketoObject.ROLE: "Read-Write Opportunity",
    MarketoObject.COMPANY: "Read-Write Company",
    MarketoObject.SALES_PERSON: "Read-Write Sales Person",
    MarketoObject.LEAD: "Read-Write Lead",
}
FOR_ROLES: Mapping[str, Collection[str]] = {
    OPPORTUNITY: ("customerid", "parentaccountid", "parentcontactid"),
    "contact": ("parentcustomerid", "masterid"),
}
"""What the association rules read, whatever sync.toml names: if it came as empty, roles would be removed."""
HIGHEST_PERSON = 2_000_000_000  # ids count up from 1 in each subscription
FILE = "mapping file"  # the name of the check that others stand on
NEVER_LATE = datetime.max.replace(tzinfo=UTC)


class Light(StrEnum):
    GREEN = "green"
    AMBER = "amber"
    RED = "red"
    UNKNOWN = "not checked"


class Finding(NamedTuple):
    light: Light
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the screen."""

    group: str
    name: str
    light: Light
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Setup:
    """What there is to look at. *problems* are settings that stop the sync, missing or wrong, each with why.

    *probes* write something small into each kind of storage and delete it; they raise as every other access does.
    *telemetry* is where it goes, and app settings that its exporter lacks. *signs_in*: as whom, to Dynamics.
    """

    world: World
    problems: Sequence[tuple[str, str]]
    probes: Mapping[str, Callable[[], None]]
    schedule: str
    telemetry: tuple[str, Sequence[str]] = ("off", ())
    signs_in: SignIn = SignIn.MANAGED_IDENTITY


GROUPS = ("Settings", "Storage", "Dynamics", "Mapping", "Marketo", "Running")


def validate(setup: Setup) -> list[Check]:
    """Every check, in the order of GROUPS."""
    done: dict[str, Check] = {}
    for group, name, run, grounds in _Checks(setup).all():
        missing = [ground for ground in grounds if done[ground].light in (Light.RED, Light.UNKNOWN)]
        finding = Finding(Light.UNKNOWN, f"needs “{missing[0]}”") if missing else _tried(run)
        done[name] = Check(group, name, *finding)
    return sorted(done.values(), key=lambda check: GROUPS.index(check.group))


def _tried(run: Callable[[], Finding]) -> Finding:
    try:
        return run()
    except RetryLater as error:
        return Finding(Light.RED, str(error), "try again; nothing was changed")
    except SyncError as error:
        return Finding(Light.RED, *_parted(str(error)))
    except Exception as error:  # noqa: BLE001 - one check must not keep the others from being shown
        code = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {Path(code.filename).name}:{code.lineno}"  # its text may be anybody's
        events.error("validate.unexpected", where=where)
        return Finding(
            Light.RED, f"an answer that nobody expected ({where})", "report it with this line; nothing was changed"
        )


def _parted(text: str) -> tuple[str, str]:
    """Our errors say first what is, then what to do: `the secret is wrong: copy the secret's value`."""
    for mark in (": ", "; ", ". "):
        found, _, remedy = text.rpartition(mark) if mark == ": " else text.partition(mark)
        if found and remedy:
            return found, remedy
    return text, "correct that, and validate again"


def _listed(names: Iterable[str], most: int = 6) -> str:
    all_names = list(names)
    more = f" and {len(all_names) - most} more" if len(all_names) > most else ""
    return ", ".join(all_names[:most]) + more


class _Part(NamedTuple):
    """One section of the mapping that fills an object of Marketo from a table of Dynamics."""

    section: str
    table: str
    kind: MarketoObject
    fields: Mapping[str, Source]
    creating: bool = False


class _Checks:
    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.world = setup.world
        self.config = setup.world.config
        self.refusals: dict[MarketoObject, str | SyncError] = {}
        self._lengths_of = cache(setup.world.source.lengths)

    def all(self) -> Sequence[tuple[str, str, Callable[[], Finding], Sequence[str]]]:
        """Group, name, check, and the names of the checks it stands on, which come first."""
        settings = self._settings
        dynamics = ("application user",)
        marketo = ("sign-in to Marketo", "calls left today")
        both = (*dynamics, *marketo, FILE)
        sales = [self._permission_line(MarketoObject.SALES_PERSON, "sales persons", marketo)]
        return (
            ("Settings", "storage settings", partial(settings, "AzureWebJobsStorage"), ()),
            ("Settings", "Dynamics settings", partial(settings, "DATAVERSE_"), ()),
            ("Settings", "Marketo settings", partial(settings, "MARKETO_"), ()),
            ("Settings", "optional settings", self._doubts, ()),
            ("Settings", "telemetry", self._telemetry, ()),
            ("Settings", FILE, self._config, ()),
            *(("Storage", name, partial(self._probe, name), ("storage settings",)) for name in self.setup.probes),
            ("Dynamics", "sign-in to Dynamics", self._dynamics_sign_in, ("Dynamics settings",)),
            ("Dynamics", "secret or certificate", self._expiry, ("Dynamics settings",)),
            ("Dynamics", "application user", self._application_user, ("sign-in to Dynamics",)),
            ("Dynamics", "read rights", self._read_rights, dynamics),
            ("Dynamics", "right pair", self._pair, ("tables", "read rights", "Marketo settings")),
            ("Dynamics", "change tracking", self._change_tracking, dynamics),
            ("Dynamics", "delta links", self._retention, dynamics),
            ("Marketo", "sign-in to Marketo", self._marketo_sign_in, ("Marketo settings",)),
            ("Marketo", "calls left today", self._calls, ("sign-in to Marketo", "tables")),
            ("Marketo", "no CRM link", self._link, marketo),
            self._permission_line(MarketoObject.OPPORTUNITY, "opportunities", marketo),
            self._permission_line(MarketoObject.ROLE, "opportunity roles", marketo),
            self._permission_line(MarketoObject.COMPANY, "companies", marketo),
            *(sales if self.config.owner.salesperson else []),
            self._permission_line(MarketoObject.LEAD, "people", marketo),
            ("Marketo", "clock", self._clock, marketo),
            ("Mapping", "columns", self._columns, (*dynamics, FILE)),
            ("Mapping", "rules", self._rules, ("columns",)),
            ("Mapping", "column security", self._column_security, ("columns",)),
            ("Mapping", "fields", self._fields, (*marketo, FILE)),
            ("Mapping", "types", self._types, (*both, "columns", "fields")),
            ("Mapping", "text lengths", self._lengths, (*both, "fields")),
            ("Mapping", "matching people", self._matching, (*marketo, "people", FILE)),
            ("Mapping", "stakeholder roles", self._stakeholders, (*dynamics, "read rights", FILE)),
            ("Running", "schedule", self._schedule, ()),
            ("Running", "queue", self._queue, ("queues",)),
            ("Running", "poison", self._poison, ("queues",)),
            ("Running", "last tick", self._last_tick, ("tables", "schedule")),
        )

    def _permission_line(
        self, kind: MarketoObject, name: str, grounds: Sequence[str]
    ) -> tuple[str, str, Callable[[], Finding], Sequence[str]]:
        return "Marketo", name, partial(self._permission, kind), grounds

    # --- settings and storage ---------------------------------------------------------------------------------

    def _settings(self, prefix: str) -> Finding:
        wrong = [what for name, what in self.setup.problems if name.startswith(prefix)]
        if wrong:
            return Finding(Light.RED, "; ".join(wrong), "set it; README.md, “Settings”, explains each")
        return Finding(Light.GREEN, "complete")

    def _doubts(self) -> Finding:
        if self.world.doubts:
            remedy = "correct it; until then the sync runs as if it were left out"
            return Finding(Light.AMBER, "; ".join(self.world.doubts), remedy)
        return Finding(Light.GREEN, "none is wrong")

    def _telemetry(self) -> Finding:
        where, lacking = self.setup.telemetry
        if lacking:
            remedy = "set them as docs/telemetry.md says: without them the exporter tells more than it should"
            return Finding(Light.AMBER, f"{where}, without {', '.join(lacking)}", remedy)
        return Finding(Light.GREEN, where)

    def _config(self) -> Finding:
        wrong = [what for name, what in self.setup.problems if name == "SYNC_CONFIG"]
        if wrong:
            return Finding(Light.RED, "; ".join(wrong), "correct it; docs/mapping.md explains each key")
        return Finding(Light.GREEN, f"{self.config.file.name} is understood, version {self.config.version}")

    def _probe(self, name: str) -> Finding:
        self.setup.probes[name]()
        return Finding(Light.GREEN, "a probe was written and deleted")

    # --- Dynamics -----------------------------------------------------------------------------------------------

    def _dynamics_sign_in(self) -> Finding:
        self.world.source.sign_in()
        if self.setup.signs_in is SignIn.OWN:
            remedy = "to see what the app may do, “Check now” on its status page"
            return Finding(Light.AMBER, f"as {self.setup.signs_in}, not as the app: the rights below are yours", remedy)
        return Finding(Light.GREEN, f"as {self.setup.signs_in}")

    def _expiry(self) -> Finding:
        expires, now = self.world.credentials_expire, self.world.clock.now()
        if self.setup.signs_in not in (SignIn.SECRET, SignIn.CERTIFICATE):
            return Finding(Light.GREEN, "none, so nothing expires")
        if expires is None:
            return Finding(Light.GREEN, "when it expires is not known, see DATAVERSE_CLIENT_SECRET_EXPIRES")
        day = expires.date().isoformat()
        if expires <= now:
            return Finding(Light.RED, f"expired on {day}", RENEW)
        if expires - now < EXPIRES_SOON:
            return Finding(Light.AMBER, f"expires on {day}", RENEW)
        return Finding(Light.GREEN, f"expires on {day}")

    def _application_user(self) -> Finding:
        self.world.source.organization()
        return Finding(Light.GREEN, "exists and is enabled")

    def _pair(self) -> Finding:
        pair, _ = compare_pair(self.world)
        return Finding(Light.GREEN, f"{pair['organization']} → {pair['munchkin']}")

    @property
    def _tracked(self) -> Sequence[str]:
        return (OPPORTUNITY, *side_tables(self.config))

    def _read_rights(self) -> Finding:
        """The level can be told of tracked tables only: a tracked read is refused below organization level."""
        tables = {table: self.world.source.tracked(table) for table in (*self._tracked, *self._one_hop_away())}
        tables |= dict.fromkeys(self._also_read(), False)
        refused = {}
        for table, tracked in tables.items():
            try:
                self.world.source.check_read(table, tracked=tracked)
            except ConfigurationError as error:
                refused[table] = str(error)
        if not refused:
            return Finding(Light.GREEN, _listed(tables, 9))
        remedy = next(iter(refused.values())) + (", and so on" if len(refused) > 1 else "")
        return Finding(Light.RED, f"no read at organization level of {_listed(refused, 9)}", remedy)

    def _also_read(self) -> Collection[str]:
        columns = {need for part in self._parts() for source in part.fields.values() for need in needs(source)}
        money = {"transactioncurrency"} if any(need.iso for need in columns) else set()
        return ["connectionrole", *sorted(money)]

    def _one_hop_away(self) -> Collection[str]:
        """Further tables whose columns are read. The name of what a lookup names comes with the lookup itself."""
        found = set()
        for table, columns in self._wanted(lambda need: (need.column,)).items():
            for lookup, _, name in (column.rpartition(".") for column in columns):
                found |= {
                    each for each in tables_of(self.world, table, lookup) if name in self.world.source.columns(each)
                }
        return sorted(found - {*self._tracked})

    def _change_tracking(self) -> Finding:
        off = [table for table in self._tracked if not self.world.source.tracked(table)]
        if off:
            return Finding(
                Light.AMBER,
                f"off for {_listed(off)}: followed by modifiedon, and read in full once a day for deletions",
                f"make.powerapps.com > Tables > {off[0]} > Properties > Advanced options > Track changes",
            )
        return Finding(Light.GREEN, f"on for {_listed(self._tracked)}")

    def _retention(self) -> Finding:
        try:
            days = self.world.source.retention()
        except ConfigurationError as error:
            return Finding(Light.AMBER, "how long Dynamics keeps them can't be read", str(error))
        if days < RETENTION_DAYS:
            return Finding(
                Light.AMBER,
                f"Dynamics keeps them for {days} days: after a longer stop everything is read again",
                f"let an administrator set the organization's ExpireChangeTrackingInDays to {RETENTION_DAYS}",
            )
        return Finding(Light.GREEN, f"Dynamics keeps them for {days} days")

    # --- Marketo ------------------------------------------------------------------------------------------------

    def _marketo_sign_in(self) -> Finding:
        self.world.target.sign_in()
        return Finding(Light.GREEN, "Marketo gave a token")

    def _calls(self) -> Finding:
        ours, share = self.world.limiter.used_today(), self.world.limiter.shares[1]
        if ours >= share:
            return Finding(Light.RED, f"our {share:,} are used up", MORE_CALLS)
        try:
            used = self.world.target.usage()
        except ConfigurationError as error:
            if error.code != DENIED:
                raise
            remedy = "let this machine's outbound address through Marketo's IP allowlist"
            return Finding(Light.RED, "access denied (603) to what needs no permission", remedy)
        ours = self.world.limiter.used_today()
        found = f"{share - ours:,} of our {share:,}; everybody used {used:,}"
        if ours >= NEARLY * share:
            return Finding(Light.AMBER, found, MORE_CALLS)
        if used + share - ours > DAILY_QUOTA:
            return Finding(
                Light.AMBER,
                f"{found}, which is too much for our share if Marketo allows {DAILY_QUOTA:,}",
                "lower MARKETO_DAILY_CALLS, or calls of other integrations (Admin > Web Services tells the limit)",
            )
        return Finding(Light.GREEN, found)

    def _link(self) -> Finding:
        code = self._refusal(MarketoObject.OPPORTUNITY)
        if code == LINKED:
            return Finding(
                Light.RED,
                "this Marketo is natively linked to a CRM: nobody can write its opportunities (1018)",
                "use a subscription without such a link; a link can't be undone",
            )
        if code == DENIED:
            return Finding(Light.UNKNOWN, "needs “opportunities”")
        return Finding(Light.GREEN, "a delete of an opportunity that nobody has was not refused")

    def _permission(self, kind: MarketoObject) -> Finding:
        """Reading by describe, writing by the probe; of people only if some are created or linked to companies."""
        people = self.config.people
        write = kind is not MarketoObject.LEAD or people.when_missing == "create" or people.link_company != "never"
        wanted = PERMISSIONS[kind] if write else PERMISSIONS[kind].replace("Read-Write", "Read-Only")
        remedy = f"give the API user's role “{wanted}” (Admin > Users & Roles > Roles > Access API)"
        try:
            self.world.target.describe(kind)
        except ConfigurationError as error:
            if error.code != DENIED:
                raise
            return Finding(Light.RED, "access denied (603)", remedy)
        code = self._refusal(kind) if write else ""
        if code == DENIED:
            return Finding(Light.RED, "we may read, not write (603)", remedy)
        if code == LINKED:
            return Finding(Light.UNKNOWN, "needs “no CRM link”")
        return Finding(Light.GREEN, "we may read and write" if write else "we may read")

    def _refusal(self, kind: MarketoObject) -> str:
        """603 or 1018 if Marketo refuses to delete a key that nobody has, else ''. Asked once for each object."""
        if kind not in self.refusals:
            try:
                self.refusals[kind] = self._asked(kind)
            except SyncError as error:
                self.refusals[kind] = error
        answer = self.refusals[kind]
        if isinstance(answer, SyncError):
            raise answer
        return answer

    def _asked(self, kind: MarketoObject) -> str:
        try:
            self.world.target.delete(kind, [_impossible(kind)], until=NEVER_LATE)
        except SplitBatch:
            return ""  # it looked at the record, so we may
        except ConfigurationError as error:
            if error.code in (DENIED, LINKED):
                return error.code
            if not error.code.startswith("1"):  # the others are about the record or its key
                raise
        return ""

    def _clock(self) -> Finding:
        skew = self.world.target.skew()
        if skew is None:
            return Finding(
                Light.AMBER, "Marketo's answers don't tell its time", "compare this machine's clock yourself"
            )
        found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} Marketo's"
        if abs(skew) > SKEW_S:
            light = Light.RED if abs(skew) > LARGE_SKEW_S else Light.AMBER
            return Finding(light, found, "set this machine's clock by a time server")
        return Finding(Light.GREEN, f"within {SKEW_S:.0f} s of Marketo's")

    # --- mapping ------------------------------------------------------------------------------------------------

    def _parts(self) -> Sequence[_Part]:
        config = self.config
        opportunity = _Part("opportunity", OPPORTUNITY, MarketoObject.OPPORTUNITY, config.opportunity.fields)
        parts = [opportunity, _Part("company", "account", MarketoObject.COMPANY, config.company.fields)]
        if config.people.when_missing == "create":
            parts.append(_Part("people", "contact", MarketoObject.LEAD, config.people.fields))
        if config.owner.salesperson:
            parts.append(_Part("owner", "systemuser", MarketoObject.SALES_PERSON, SALES_PERSON_FIELDS, creating=True))
        return parts

    def _columns(self) -> Finding:
        """Those of the fields and those of the rules; then a read with all of them, of a row that nobody has."""
        missing, wanted = [], self._wanted(lambda need: (need.column,))
        for table, columns in wanted.items():
            lacking = [column for column in sorted(columns) if not kind_of(self.world, table, column)]
            missing += [f"{table}.{column} ({self.config.file.place(*columns[column])})" for column in lacking]
        if missing:
            return Finding(Light.RED, f"Dynamics has no column {_listed(missing)}", "use logical names, in lower case")
        for table, columns in wanted.items():
            select = {self._selected(table, column) for column in columns}
            self.world.source.rows(table, [str(uuid4())], select)
        return Finding(Light.GREEN, f"all {sum(map(len, wanted.values()))} exist and can be read")

    def _rules(self) -> Finding:
        """Whether each rule of the filter, of `[company] only` and of the customer's role can hold at all."""
        only, columns = self.config.company.only, self.world.source.columns("account")
        try:
            check_rules(self.world)
            for number, rule in enumerate(only):
                check_rule(self.config.file, (*ONLY, number), rule, columns[rule.column])
        except ConfigurationError as error:
            return Finding(Light.RED, str(error), "correct the rule; until then nothing is posted")
        number = len(self.config.filter.rule) + len(only)
        return Finding(Light.GREEN, f"all {number} can hold" if number else "none: everything counts")

    def _column_security(self) -> Finding:
        """Our rights to a secured column can't be asked; without any it reads as null, so what it holds shows them."""
        held: dict[str, bool] = {}
        for table, columns in self._secured().items():
            selected = {column: self._selected(table, column) for column in sorted(columns)}
            rows = self.world.source.newest(table, selected.values())
            for column, name in selected.items():
                held[f"{table}.{column}"] = any(row.get(name) is not None for row in rows)
        if empty := [column for column, some in held.items() if not some]:
            return Finding(
                Light.AMBER,
                f"{_listed(empty)}: secured, and empty in the rows written last. May the application user read it?",
                "Power Platform admin center > the environment > Settings > Users + permissions > Column security "
                "profiles: add the application user to a profile that may read it",
            )
        return Finding(
            Light.GREEN, f"secured, and we may read them: {_listed(held)}" if held else "none of the columns is secured"
        )

    def _secured(self) -> Mapping[str, set[str]]:
        """By table the columns with column security that we read; one hop away that is the lookup and its column."""
        found = defaultdict(set, {table: set(columns) for table, columns in FOR_ROLES.items()})
        for table, columns in self._wanted(lambda need: need.read).items():
            for lookup, _, name in (column.rpartition(".") for column in columns):
                found[table].add(lookup or name)
                for target in tables_of(self.world, table, lookup):
                    found[target].add(name)
        secured = {table: columns & set(self.world.source.secured(table)) for table, columns in found.items()}
        return {table: columns for table, columns in secured.items() if columns}

    def _wanted(self, read: Callable[[Need], Iterable[str]]) -> Mapping[str, Mapping[str, Place]]:
        """By table the columns that the mapping needs, each with one of the places that name it.

        *read* gives the columns that a field's need comes down to.
        """
        wanted = defaultdict[str, dict[str, Place]](dict)
        for part in self._parts():
            for name, source in part.fields.items():
                place = place_of(f"{part.section}.{name}")
                wanted[part.table] |= {column: place for need in needs(source) for column in read(need)}
        filters = sides(self.config.filter.rule, *FILTER)
        for table, columns in (
            (OPPORTUNITY, rule_columns(self.world)),
            ("account", sides(self.config.company.only, *ONLY)[""] | filters["account"]),
            ("contact", {**match_columns(self.world), **filters["contact"]}),
        ):
            wanted[table] |= {column: place for place, column in columns.items()}
        return {table: columns for table, columns in wanted.items() if columns}

    def _selected(self, table: str, column: str) -> str:
        column = column.partition(".")[0]
        return f"_{column}_value" if kind_of(self.world, table, column) in LOOKUPS else column

    def _described(self) -> Mapping[str, MarketoField | None]:
        """What Marketo says of each mapped field, by `section.field`; None if there is no such field."""
        found: dict[str, MarketoField | None] = {}
        for part in self._parts():
            described = self.world.target.describe(part.kind)
            found |= {f"{part.section}.{name}": described.get(name) for name in part.fields}
        flags = self.world.target.describe(MarketoObject.OPPORTUNITY) if self.config.removals.flag else {}
        return found | {f"removals.flag.{name}": flags.get(name) for name in self.config.removals.flag}

    def _fields(self) -> Finding:
        described = self._described()
        if missing := [self._lined(name) for name, field in described.items() if field is None]:
            return Finding(
                Light.RED, f"Marketo has no field {_listed(missing)}", "take it out, or have Marketo support create it"
            )
        settable = {part.section for part in self._parts() if part.creating}
        fixed = [
            n for n, field in described.items() if field and not field.updateable and n.split(".")[0] not in settable
        ]
        if fixed:
            return Finding(Light.RED, f"Marketo lets nobody write {_listed(map(self._lined, fixed))}", "take it out")
        return Finding(Light.GREEN, f"all {len(described)} exist and can be written")

    def _lined(self, field: str) -> str:
        """`company.website (sync.toml line 15)`"""
        return f"{field} ({self.config.file.line(*place_of(field))})"

    def _types(self) -> Finding:
        bad: dict[str, str] = {}
        for part in self._parts():
            reading = Reading(self.world, part.table, part.kind, part.fields, creating=part.creating)
            bad |= {f"{part.section}.{name}": why for name, why in reading.suspended.items()}
        if bad:
            told = "; ".join(f"{self._lined(name)}: {why}" for name, why in bad.items())
            return Finding(Light.RED, told, "correct that; until then these fields are left alone")
        return Finding(Light.GREEN, "every column fits its field")

    def _lengths(self) -> Finding:
        """A cut that the mapping asks for by name is nobody's surprise."""
        long = [(name, source, why) for part in self._parts() for name, source, why in self._too_long(part)]
        columns = [(name, source, why) for name, source, why in long if isinstance(source, Column)]
        if rejected := [f"{name} {why}" for name, source, why in columns if source.too_long == "reject"]:
            return Finding(
                Light.AMBER,
                f"{_listed(rejected, 3)}: opportunities with longer texts will be parked",
                'shorten the texts in Dynamics, or write too_long = "cut"',
            )
        if unsaid := [f"{name} {why}" for name, source, why in long if "too_long" not in source.model_fields_set]:
            sayable = "; too_long goes with a single column" if len(columns) < len(long) else ""
            return Finding(
                Light.AMBER,
                f"{_listed(unsaid, 3)}: longer texts will be cut",
                f'write too_long = "cut" if that is meant, or "reject" to have them parked{sayable}',
            )
        return Finding(Light.GREEN, f"cut as the mapping says: {_listed(n for n, _, _ in long)}" if long else "all fit")

    def _too_long(self, part: _Part) -> Iterable[tuple[str, Source, str]]:
        """The fields that a text of Dynamics may overflow, with both lengths: the longest of their columns counts."""
        described = self.world.target.describe(part.kind)
        for name, source in part.fields.items():
            most = length(described[name])
            if most is None or (isinstance(source, Column) and source.named):
                continue
            longest = max(
                (self._length(part.table, need.column) for need in needs(source) if not need.asked), default=0
            )
            if longest > most:
                yield f"{part.section}.{name}", source, f"({longest} > {most})"

    def _length(self, table: str, column: str) -> int:
        """How long the text of a column may be, also one hop away; 0 if it is no text."""
        lookup, _, name = column.rpartition(".")
        return max((self._lengths_of(each).get(name, 0) for each in tables_of(self.world, table, lookup)), default=0)

    def _matching(self) -> Finding:
        searchable = self.world.target.searchable()
        asked = [match.marketo for match in self.config.people.match]
        if unknown := [name for name in asked if name not in searchable]:
            return Finding(
                Light.RED,
                f"Marketo can't search people by {_listed(unknown)}",
                f"name one of these in {self.config.file.place('people', 'match')}: {_listed(sorted(searchable), 8)}",
            )
        return Finding(Light.GREEN, f"by {_listed(asked)}")

    def _stakeholders(self) -> Finding:
        wanted, file = self.config.stakeholders, self.config.file
        roles = self.world.source.connection_roles().values()
        counted = {role.name for role in roles if role.category in wanted.categories}
        if not counted:
            return Finding(
                Light.AMBER,
                f"no connection role has category {_listed(map(str, wanted.categories))}: no connection gives a role",
                f"correct {file.place('stakeholders', 'categories')}, or give the roles that category in Dynamics",
            )
        known = {role.name.casefold() for role in roles}
        made = {text.casefold() for text in (*wanted.rename.values(), wanted.default_role, *self._customer_roles())}
        named = {"exclude": known, "rename": known, "primary_roles": known | made}
        unknown = [
            f"{name} ({file.line('stakeholders', key, name)})"
            for key, there in named.items()
            for name in getattr(wanted, key)
            if name.casefold() not in there
        ]
        if unknown:
            remedy = "correct it in [stakeholders]"
            return Finding(Light.AMBER, f"Dynamics has no connection role {_listed(unknown)}", remedy)
        return Finding(Light.GREEN, _listed(sorted(counted), 4))

    def _customer_roles(self) -> Collection[str]:
        role = self.config.stakeholders.customer_role
        return [role] if isinstance(role, str) else [*role.cases.values(), role.otherwise]

    # --- what runs ----------------------------------------------------------------------------------------------

    def _schedule(self) -> Finding:
        remedy = "such as 0 */5 * * * *: second, minute, hour, day, month, weekday, in UTC"
        try:
            due = last_due(self.setup.schedule, self.world.clock.now())
        except ValueError as error:
            return Finding(Light.RED, f"SYNC_SCHEDULE: {error}", remedy)
        if due is None:
            return Finding(Light.RED, f"SYNC_SCHEDULE {self.setup.schedule} never fires", remedy)
        return Finding(Light.GREEN, f"{self.setup.schedule} (UTC)")

    def _queue(self) -> Finding:
        lengths = self.world.queue.lengths()
        fresh, slow = (lengths[lane] for lane in Lane)
        found = f"about {fresh} messages, and {slow} in the slow lane"
        if fresh > BUSY_QUEUE:
            return Finding(
                Light.AMBER, f"{found}: behind", "wait; if it grows, `status` tells why deliveries come back"
            )
        return Finding(Light.GREEN, found if fresh or slow else "empty")

    def _poison(self) -> Finding:
        lengths = self.world.queue.lengths()
        if number := lengths["unreadable"]:
            return Finding(
                Light.AMBER, f"{number} messages that are not ours", "look at the queue opportunity-sync-unreadable"
            )
        if number := lengths["fresh poison"] + lengths["slow poison"]:
            return Finding(
                Light.AMBER,
                f"{number} messages failed again and again",
                "nothing: the next tick halves them until the culprit stands alone and is parked; the logs tell why",
            )
        return Finding(Light.GREEN, "none")

    def _last_tick(self) -> Finding:
        if pause := self.world.documents.read(*PAUSE):
            return Finding(Light.AMBER, f"paused since {pause.value['since']}", "`python -m sync_core resume` goes on")
        run = self.world.documents.read("run", "detect")
        if run is None:
            return Finding(Light.GREEN, "none yet")
        value: Mapping[str, Any] = run.value
        at = datetime.fromisoformat(value["at"])
        if trouble := value.get("trouble"):
            light = Light.RED if value.get("stopped") else Light.AMBER
            return Finding(light, f"failed at {value['at']}: {trouble}", "correct that; the next tick goes on")
        due = last_due(self.setup.schedule, self.world.clock.now() - LONGEST_TICK)
        if due is not None and at < due:
            return Finding(
                Light.AMBER,
                f"{value['at']}, though one was due at {due.isoformat(timespec='seconds')}",
                "start the functions again, or run `python -m sync_core sync`",
            )
        return Finding(Light.GREEN, f"at {value['at']}")


def _impossible(kind: MarketoObject) -> Mapping[str, Any]:
    """A key that nobody has."""
    key = str(uuid4())
    if kind is MarketoObject.LEAD:
        return {"id": HIGHEST_PERSON + uuid4().int % 100_000_000}
    if kind is MarketoObject.ROLE:
        return {OPPORTUNITY_ID: key, "leadId": 1, "role": key}
    return {KEYS[kind]: key}


def as_plain(checks: Sequence[Check]) -> Mapping[str, Any]:
    """For `--json`: the checks, and how many of each light."""
    counts = {str(light): sum(check.light is light for check in checks) for light in Light}
    names = ("group", "name", "light", "found", "remedy")
    return {"checks": [{name: str(getattr(check, name)) for name in names} for check in checks], "counts": counts}
