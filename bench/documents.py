"""What the benches recorded, as tables of README.md and pages of docs/ between `<!-- name -->` and `<!-- /name -->`.

    python -m bench.documents

Nothing is measured here. Beside what was recorded it is arithmetic: with the services' limits, for sizes that nobody
has measured; with Azure's list prices, for what a month costs.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import pace
from bench.first_load import GOALS, our_cpu_ms
from bench.million import posted_twice
from bench.recording import RESULTS, recorded
from bench.services import ROOT, an_org
from bench.tick import GOALS as TICK_GOALS
from sync_core.adapters.limiter import KEPT
from sync_core.engine import TIME_BOX_S
from sync_core.messages import FULL
from tools.bicep import read

SIZES = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)

CALLS_A_SECOND = 2.5  # our default share of Marketo's rate
CALLS_A_DAY = 25_000 * (100 - KEPT) // 100  # of our default share, what the slow lane may use
PAGE = 3_600  # rows that a tracked read asks for
ORG = an_org(1_000_000)
ROWS_READ = 1 + 2 * ORG["roles_per_opportunity"] + (ORG["accounts"] + ORG["contacts"]) / ORG["opportunities"]
"""By a first read for each opportunity: itself, both rows of each connection, accounts and contacts."""
PAGE_S = 1.0  # assumed: no source tells how long Dataverse takes for a page of ids
FUNCTION_S = 600  # host.json's functionTimeout
REQUESTS_A_SECOND = 6_000 / 300  # Dataverse, of one user at one web server (dataverse.md §5)
PARTITIONS, ENTITIES_A_SECOND = 16, 2_000  # the ledger's, and what one of them takes: Azure's scalability target

TICKS, DAYS = 288, 30
CHANGES_A_DAY = 5_000

PAGES_A_DAY = 100  # of the status, assumed
POLLS_A_DAY = 2 * 86_400 // 2  # both queues, an instance that never sleeps, every maxPollingInterval of two seconds
RENEWALS_A_DAY = 86_400 // 12 + 2 * 86_400 // 30
"""Of leases on blobs, by a host that never sleeps: its own, each timer's (Azure/azure-functions-host 11930, 10505)."""

PROCESSES = 4  # two timers and two queues, each with instances of its own (azure.md §3), that never sleep
GROUPS = PROCESSES + 1  # that scale apart: those, and all pages together
HOURS = 730  # of a month, as Azure's calculator counts
INFRA = ROOT / "infra"
INSTANCE_MB = int(read(INFRA / "main.bicep").of("param")["instanceMemoryMB"].value)
MEMORY_GB = INSTANCE_MB / 1024  # billed while a function runs
ENDPOINTS = len(read(INFRA / "modules/network.bicep").of("var")["targets"].value)
ALERT_RULES = len(read(INFRA / "modules/alerts.bicep").of("var")["rules"].value)
"""Looked at every five minutes. In an ordinary month no alert is on, so that none of their dimensions counts."""

RECORD = 1_000  # bytes of a line in a log that isn't ours, assumed
HOST_RECORDS = 4  # that the Functions host writes of a call, assumed
ALWAYS_READY = 2  # of each group, kept by zone redundancy (learn.microsoft.com, reliability-functions, 2025)

# List prices in US dollars, of 2025: a general-purpose v2 account with local redundancy, Flex Consumption. Those of
# queues, blobs, alerts, network, vault and other plans are also in the expected results of infracost's tests, taken
# from Azure's price list; those of Flex on demand in modal.com's guide of May 2025. They vary by region.
TABLE_OPERATIONS = 0.00036 / 10_000
QUEUE_OPERATIONS = 0.004 / 10_000
BLOB_OPERATIONS = 0.0044 / 10_000  # a lease is one of "all other" (learn.microsoft.com, map-rest-apis, 2025)
TABLE_GB = 0.045
ZONES = 1.25  # times as much for a GB in three zones
GB_SECOND = 0.000026
FREE_GB_SECONDS = 100_000
EXECUTION = 0.40 / 1_000_000
FREE_EXECUTIONS = 250_000
LEAST_S = 1.0  # billed of each execution (learn.microsoft.com, flex-consumption-plan, 2025)
READY_GB_SECOND, READY_WORK_GB_SECOND = 0.000004, 0.000016  # always ready, and at work; no source found for either
LOG_GB = 2.30  # no source found; infracost's region has 2.99
FREE_LOG_GB = 5
ALERT_RULE = 1.50
VAULT_OPERATION = 0.03 / 10_000
ENDPOINT_HOUR, DNS_ZONE = 0.01, 0.50
EP1 = HOURS * (1 * 0.173 + 3.5 * 0.0123)  # a core, and GB
B1 = HOURS * 0.017  # Linux


Line = tuple[str, float, float]
"""What it is, how many, and US dollars."""


@dataclass(frozen=True)
class Costs:
    """Per opportunity of a first load."""

    calls: float
    requests: float
    entities: float
    cpu_ms: float

    @classmethod
    def measured(cls) -> Costs:
        run = _recorded("first_load.json")["100000"]
        number, first = run["rows"]["opportunities"], run["first load"]
        entities = sum(first["storage"]["entities"].values())
        return cls(
            first["marketo"]["calls"] / number,
            first["dataverse"]["requests"] / number,
            entities / number,
            first["cpu_s"] * 1000 / number,
        )


def walls() -> Iterator[str]:
    """Each line: what it takes at each size, against the limit named in the first column."""
    costs = Costs.measured()
    yield f"| opportunities | {' | '.join(f'{size:,}' for size in SIZES)} |\n|---|{'---:|' * len(SIZES)}"
    for name, value in (
        ("Marketo calls of a first load", lambda size: f"{_calls(costs, size):,}"),
        (f"at {CALLS_A_SECOND} calls a second", lambda size: span(_calls(costs, size) / CALLS_A_SECOND)),
        (f"days of {CALLS_A_DAY:,} calls", lambda size: f"{_calls(costs, size) / CALLS_A_DAY:.1f}"),
        ("pages of a first read, a second each", lambda size: span(_pages(size * ROWS_READ) * PAGE_S)),
        ("ticks that it takes", lambda size: f"{math.ceil(_pages(size * ROWS_READ) * PAGE_S / TIME_BOX_S)}"),
        (f"comparison of all ids, of {FUNCTION_S} s", lambda size: f"{_pages(size) * PAGE_S / FUNCTION_S:.2f}"),
        ("messages of the backlog", lambda size: f"{math.ceil(size / FULL):,}"),
        ("Dataverse requests of a first load", lambda size: f"{round(costs.requests * size):,}"),
        ("entities written", lambda size: f"{round(costs.entities * size):,}"),
        ("CPU", lambda size: span(costs.cpu_ms * size / 1000)),
    ):
        yield f"| {name} | {' | '.join(map(value, SIZES))} |"


def rates() -> Iterator[str]:
    """At our share of Marketo's rate: how much of every other limit that takes."""
    costs = Costs.measured()
    pace = CALLS_A_SECOND / costs.calls
    yield "| at our share of Marketo's rate | a second | limit |\n|---|---:|---:|"
    yield f"| opportunities | {pace:.0f} | |"
    yield f"| Dataverse requests | {pace * costs.requests:.1f} | {REQUESTS_A_SECOND:.0f} |"
    entities = pace * costs.entities
    yield f"| entities written, to {PARTITIONS} partitions | {entities:.0f} | {PARTITIONS * ENTITIES_A_SECOND:,} |"
    yield f"| CPU of one core | {pace * costs.cpu_ms / 1000:.2f} | 1 |"


def tables() -> Iterator[str]:
    """What storage costs with its size: CPU and operations, first load and when everything is read again."""
    runs = _recorded("first_load.json")
    yield f"| opportunities | {' | '.join(f'{int(size):,}' for size in runs)} |\n|---|{'---:|' * len(runs)}"
    for part in ("first load", "re-run"):
        each = [(run[part], int(size)) for size, run in runs.items()]
        cpu = (f"{(run['cpu_s'] * 1000 / size - our_cpu_ms(run, size)):.2f} ms" for run, size in each)
        yield f"| CPU of an opportunity in storage, {part} | {' | '.join(cpu)} |"
        operations = (f"{sum(run['storage']['operations'].values()) * 1000 / size:.0f}" for run, size in each)
        yield f"| operations per 1,000, {part} | {' | '.join(operations)} |"
        yield f"| peak memory, {part} | {' | '.join(str(run['rss_mb']['peak']) + ' MB' for run, _ in each)} |"


@dataclass(frozen=True)
class Month:
    """What 100,000 opportunities with 5,000 changes a day ask of Azure in a month."""

    changes: int  # of a busy tick
    calls: float  # of Marketo
    tables: float  # operations on them, and so on
    queues: float
    polls: float
    renewals: float
    stored_gb: float
    executions: float
    seconds: float
    log_gb: float

    @classmethod
    def measured(cls) -> Month:
        tick, sent = _recorded("tick.json"), _recorded("telemetry.json")
        busy, idle, watch = tick["busy"], tick["idle"]["later"], tick["watch"]["later"]
        busy_ticks = CHANGES_A_DAY / busy["flow"]["handled"]

        def all_day(of_busy: float, of_idle: float, of_watch: float, of_page: float = 0) -> float:
            return busy_ticks * of_busy + TICKS * (of_idle + of_watch) + PAGES_A_DAY * of_page

        executions = all_day(2, 1, 1, 1)
        bytes_sent = all_day(
            sent["busy tick"]["bytes"] + sent["its delivery"]["bytes"],
            *(sent[name]["bytes"] for name in ("idle tick", "look", "status page")),
        )
        nothing = PROCESSES * 24 * 60 * sent["nothing"]["bytes"]
        # A call reads one secret at most, which is a line in the vault's log as each renewal is one in the blobs'.
        records = HOST_RECORDS * executions + RENEWALS_A_DAY + executions
        return cls(
            changes=busy["flow"]["handled"],
            calls=DAYS * busy_ticks * busy["marketo"]["calls"],
            tables=DAYS * all_day(*(_operations(run, "table") for run in (busy, idle, watch))),
            queues=DAYS * all_day(*(_operations(run, "queue") for run in (busy, idle, watch))),
            polls=DAYS * POLLS_A_DAY,
            renewals=DAYS * RENEWALS_A_DAY,
            stored_gb=_recorded("million.json")["100000"]["storage_mb"] / 1000,
            executions=DAYS * executions,
            seconds=DAYS * all_day(*(max(LEAST_S, run["wall_s"]) for run in (busy, idle, watch)), LEAST_S),
            log_gb=DAYS * (bytes_sent + nothing + records * RECORD) / 1e9,
        )

    def storage(self) -> Sequence[Line]:
        return (
            ("operations on tables", self.tables, self.tables * TABLE_OPERATIONS),
            ("operations on queues, ours", self.queues, self.queues * QUEUE_OPERATIONS),
            ("operations on queues, a host that polls all day", self.polls, self.polls * QUEUE_OPERATIONS),
            ("operations on blobs, locks of a host that never sleeps", self.renewals, self.renewals * BLOB_OPERATIONS),
            ("GB stored", self.stored_gb, self.stored_gb * TABLE_GB),
        )

    def flex(self) -> Sequence[Line]:
        gb_seconds = self.seconds * MEMORY_GB
        billed = max(0.0, gb_seconds - FREE_GB_SECONDS)
        return (
            (f"GB-seconds, {FREE_GB_SECONDS:,} of them free", gb_seconds, billed * GB_SECOND),
            (f"calls, {FREE_EXECUTIONS:,} of them free", self.executions, self._calls_beyond(FREE_EXECUTIONS)),
        )

    def ready(self) -> float:
        """Dollars for the app with two instances of each group in different zones, always there; nothing is free."""
        kept = ALWAYS_READY * GROUPS * HOURS * 3600 * MEMORY_GB * READY_GB_SECOND
        return kept + self.seconds * MEMORY_GB * READY_WORK_GB_SECOND + self._calls_beyond(0)

    def rest(self) -> Sequence[Line]:
        beyond = max(0.0, self.log_gb - FREE_LOG_GB)
        return (
            (f"GB of telemetry and logs, {FREE_LOG_GB} of them free", self.log_gb, beyond * LOG_GB),
            ("alert rules", ALERT_RULES, ALERT_RULES * ALERT_RULE),
            ("secrets read, one at each call", self.executions, self.executions * VAULT_OPERATION),
        )

    def _calls_beyond(self, free: int) -> float:
        return max(0.0, self.executions - free) * EXECUTION


def month() -> Iterator[str]:
    """Operations of the storage account, and dollars."""
    found = Month.measured()
    calls = (f"Marketo calls, ticks of {found.changes} changes", found.calls, 0.0)
    yield from _priced((calls, *found.flex(), *found.storage()))


def hosting() -> Iterator[str]:
    """All that infra/ creates."""
    found = Month.measured()
    named = (
        ("function app", found.flex()),
        ("storage account", found.storage()),
        ("", found.rest()),
    )
    lines = [(f"{of}: {name}" if of else name, *more) for of, part in named for name, *more in part]
    yield from _priced(lines)
    together = _dollars(lines)
    network = ENDPOINTS * (HOURS * ENDPOINT_HOUR + DNS_ZONE)
    zones = found.ready() - _dollars(found.flex()) + found.stored_gb * TABLE_GB * (ZONES - 1)
    for name, number, dollars in (
        ("with `PRIVATE_NETWORK`: private endpoints, each with a DNS zone", ENDPOINTS, network),
        (f"with `ZONE_REDUNDANT`: instances of {INSTANCE_MB:,} MB, always ready", ALWAYS_READY * GROUPS, zones),
    ):
        yield f"| {name} | {number} | {together + dollars:.2f} |"
    yield f"| with both | | {together + network + zones:.2f} |"


def plans() -> Iterator[str]:
    """The same work on other plans: what the plan itself costs, and with the rest of `hosting`."""
    found = Month.measured()
    rest = _dollars((*found.storage(), *found.rest()))
    yield "| plan | paid for | US dollars a month | with everything else |\n|---|---|---:|---:|"
    for name, what, dollars in (
        ("Flex Consumption", "seconds at work", _dollars(found.flex())),
        ("Flex Consumption in three zones", f"{ALWAYS_READY * GROUPS} instances, always ready", found.ready()),
        ("Premium, EP1", "one instance, a core and 3.5 GB, always there", EP1),
        ("App Service, B1", "one machine, a core and 1.75 GB, always on", B1),
    ):
        yield f"| {name} | {what} | {dollars:.2f} | {dollars + rest:.2f} |"


def _priced(lines: Sequence[Line]) -> Iterator[str]:
    yield "| a month | how many | US dollars |\n|---|---:|---:|"
    for name, number, dollars in lines:
        yield f"| {name} | {f'{number:.2g}' if number < 10 else f'{number:,.0f}'} | {dollars:.2f} |"
    yield f"| together | | {_dollars(lines):.2f} |"


def _dollars(lines: Iterable[Line]) -> float:
    return sum(dollars for _, _, dollars in lines)


def span(seconds: float) -> str:
    """Seconds in the greatest unit of which there are two."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _calls(costs: Costs, size: int) -> int:
    return round(costs.calls * size)


def _pages(rows: float) -> int:
    return math.ceil(rows / PAGE)


def _operations(run: dict[str, Any], service: str) -> int:
    return int(run["storage"]["operations"].get(service, 0))


def _recorded(name: str) -> Any:
    return recorded(RESULTS / name)


def several() -> Iterator[str]:
    return pace.report(_recorded("pace.json"))


# --- what was to be reached -------------------------------------------------------------------------------------


def measured() -> Iterator[str]:
    """Each line: what was measured, the goal, the figure, and the command that prints it again."""
    yield "| | goal | measured | command |\n|---|---|---|---|"
    for line in (*_first_loads(), *_ticks(), *_hosts(), *_sizes(), *_others()):
        yield f"| {' | '.join(line)} |"


def _first_loads() -> Iterator[Sequence[str]]:
    command = "`python -m bench.first_load`"
    runs = _recorded("first_load.json")
    for size in ("10000", "100000"):
        run = runs[size]
        first, again = run["first load"], run["re-run"]
        roles, number = first["flow"]["roles posted"], int(size)
        calls = f"{first['marketo']['calls']:,} of {sum(run['fewest'].values()):,} possible: {run['ratio']} times"
        name = f"first load of {number:,} opportunities, {roles:,} roles"
        yield f"Marketo calls, {name}", f"≤ {GOALS['ratio']} times", calls, command
        yield "… everything read again", "0 writes", f"{again['marketo']['records_written']} writes", command
        ours = f"{our_cpu_ms(first, number):.2f} ms"
        yield "… CPU of an opportunity, storage apart", f"≤ {GOALS['our CPU ms']} ms", ours, command
        peak = max(each["rss_mb"]["peak"] for each in (first, again))
        yield "… peak memory", f"≤ {GOALS['RSS MB']} MB", f"{peak} MB", command
        entities = sum(first["storage"]["entities"].values()) / number
        yield "… entities written for an opportunity", f"≤ {GOALS['entities']}", f"{entities:.2f}", command
        operations = [sum(each["storage"]["operations"].values()) * 1000 / number for each in (first, again)]
        goals = " and ".join(map(str, GOALS["operations"]))
        told = f"{operations[0]:.0f} and {operations[1]:.0f}"
        yield "… storage operations per 1,000, and when read again", f"≤ {goals}", told, command


def _ticks() -> Iterator[Sequence[str]]:
    command, tick = "`python -m bench.tick`", _recorded("tick.json")
    idle, busy = tick["idle"], tick["busy"]
    later = f"{idle['later']['marketo']['calls']}; {idle['later']['dataverse']['requests']} requests of Dataverse"
    yield "Marketo calls of an idle tick", "0", later, command
    cpu = f"{idle['CPU s'][-1]:.2f} s at most"
    yield "… CPU", f"< {TICK_GOALS['CPU s of an idle tick']} s", cpu, command
    fewest = sum(busy["fewest"].values())
    name = f"Marketo calls of a tick with {sum(tick['changes'].values())} changes"
    yield name, f"{fewest}, the fewest possible", f"{busy['marketo']['calls']}", command
    requests = f"≤ {TICK_GOALS['Dataverse requests']}"
    yield "… requests of Dataverse", requests, f"{busy['dataverse']['requests']}", command
    seconds = busy["everything in Marketo after s"]
    yield (
        "… all in Marketo, a second for each call",
        f"≤ {TICK_GOALS['everything in Marketo after s']} s",
        f"{seconds} s",
        command,
    )


def _hosts() -> Iterator[Sequence[str]]:
    command, run = "`python -m bench.pace`", _recorded("pace.json")
    load, bounds = run["first load"], pace.bounds(run)
    longest = max(bounds.values())
    name = f"time of {run['rows']['opportunities']:,} by {len(load['hosts'])} hosts at Marketo's limits"
    seconds = f"{load['wall_s']:.0f} s, {load['wall_s'] / longest:.2f} times"
    yield name, f"≤ {pace.GOAL} times {longest:.0f} s", seconds, command
    edits = [*load["edits"], run["touched"]["edit"]]
    yield "… an edit meanwhile, in Marketo after", "≤ 2 ticks", f"{max(e['ticks'] for e in edits)} ticks", command
    touched = f"{run['touched']['marketo']['calls'] - 1}"
    yield "… Marketo calls, every row touched without a mapped change", "0", touched, command
    most = [
        max(part["marketo"][what] for part in (load, run["touched"])) for what in ("max_in_window", "max_in_flight")
    ]
    yield "… calls in any 20 s, and at once", "≤ 50 and 5", f"{most[0]} and {most[1]}", command


def _sizes() -> Iterator[Sequence[str]]:
    command, runs = "`make bench-million`", _recorded("million.json")
    names = ", ".join(f"{int(size):,}" for size in runs)
    peaks = [max(run[part]["rss_mb"]["peak"] for part in ("first load", "re-run")) for run in runs.values()]
    told = ", ".join(f"{peak} MB" for peak in peaks)
    yield f"peak memory at {names}, storage in a file", "≤ 200 MB, ± 10 %", told, command
    cpu = [run["first load"]["cpu_s"] * 1000 / int(size) for size, run in runs.items()]
    ratio = f"{cpu[-1] / cpu[0]:.2f} times"
    yield "… CPU of an opportunity, the last size by the first", "≤ 1.3 times", ratio, command
    last = runs[max(runs, key=int)]
    ratio = f"{last['ratio']} times the fewest calls, one delivery of {posted_twice(last):,} posted again"
    yield "… a kill in the middle of the largest", "goes on", ratio, command


def _others() -> Iterator[Sequence[str]]:
    start, compare = _recorded("start.json"), _recorded("compare.json")
    most = start["function_app"]["with .pyc"]["max_s"]
    yield "`import function_app`", f"≤ {start['goal_s']} s", f"{most:.2f} s at most", "`python -m bench.start`"
    for part in ("first load", "tick"):
        ours, script = (compare[part][side]["calls"] for side in ("ours", "script"))
        name = f"Marketo calls of a straightforward script, {part}"
        yield name, "beside ours", f"{script:,}, ours {ours:,}", "`python -m bench.compare`"


# --- into the documents -----------------------------------------------------------------------------------------

PLACES: Mapping[str, Mapping[str, Callable[[], Iterator[str]]]] = {
    "README.md": {"measured": measured},
    "docs/scale.md": {
        "walls": walls,
        "rates": rates,
        "tables": tables,
        "pace": lambda: pace.report(_recorded("pace.json")),
        "month": month,
    },
    "docs/deploy.md": {"hosting": hosting},
    "docs/decisions/0029-hosting.md": {"plans": plans},
}


def written(text: str, parts: Mapping[str, Callable[[], Iterator[str]]]) -> str:
    """*text* with each part anew between its marks. Raises ValueError where the marks aren't."""
    for name, part in parts.items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not start or not end:
            raise ValueError(f"no <!-- {name} --> … <!-- /{name} -->")
        text = before + start + "\n".join(part()) + "\n" + end + after
    return text


def main() -> int:
    for name, parts in PLACES.items():
        path = ROOT / name
        path.write_text(written(path.read_text(encoding="utf-8"), parts), encoding="utf-8")
        print(f"{name}: {', '.join(parts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
