"""The benches run at a tiny size and say what they claim to say; nothing here is timed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.changes import change
from bench.compare import FIRST, OURS, SCRIPT, TICK, pace
from bench.documents import FREE_GB_SECONDS, FREE_LOG_GB, GB_SECOND, LOG_GB, MEMORY_GB, Month
from bench.first_load import GOALS, our_cpu_ms
from bench.layouts import LAYOUTS
from bench.meters import PURPOSES, marketo_calls
from bench.million import _engine, posted_twice
from bench.pace import GOAL as PACE_GOAL
from bench.pace import bounds, posted
from bench.pictures import DOCS, PICTURES, Missing, drawn
from bench.plan import LIMITER, _check_nothing_written
from bench.recording import RESULTS
from bench.start import COMPILED, MODULES, PLAIN
from bench.tick import GOALS as TICK_GOALS
from tools.emulators.admin import Admin
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.web import DataverseApp
from tools.emulators.serving import certificate_authority, serving

REPOSITORY = Path(__file__).parent.parent
ROWS = 200
STEPS = ["first load", "re-run", "delta", "tick", "counts"]


def run(module: str, *arguments: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """What a bench printed, and what it wrote."""
    file = folder / "figures.json"
    command = [sys.executable, "-W", "error", "-m", module, *arguments, "--json", str(file)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False)  # noqa: S603 - our own program
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    return run("bench.layouts", "--rows", str(ROWS), folder=tmp_path_factory.mktemp("layouts"))


@pytest.fixture(scope="module")
def first_load(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    printed, found = run("bench.first_load", "--opportunities", str(ROWS), folder=tmp_path_factory.mktemp("first"))
    return printed, found[str(ROWS)]


def figure(layouts: dict[str, Any], layout: str, step: str) -> dict[str, Any]:
    return next(item for item in layouts["figures"] if (item["layout"], item["step"]) == (layout, step))


def test_every_layout_has_every_step(layouts: tuple[str, dict[str, Any]]) -> None:
    printed, found = layouts

    assert [(item["layout"], item["step"]) for item in found["figures"]] == [
        (layout, step) for layout in LAYOUTS for step in STEPS
    ]
    assert all(layout in printed for layout in LAYOUTS)
    assert all(item["operations"] > 0 and item["cpu_s"] > 0 for item in found["figures"])


def test_a_row_costs_one_entity_and_each_partition_one_for_its_counts(layouts: tuple[str, dict[str, Any]]) -> None:
    inside, many, apart = LAYOUTS
    entities = {layout: figure(layouts[1], layout, "first load")["entities"] for layout in LAYOUTS}

    assert entities[inside] == ROWS + 16
    assert entities[many] > entities[inside]
    assert entities[apart] >= ROWS + ROWS * 3 // 2 + 16


def test_counts_cost_one_operation_for_each_partition(layouts: tuple[str, dict[str, Any]]) -> None:
    assert [figure(layouts[1], layout, "counts")["operations"] for layout in LAYOUTS] == [16, 256, 16]


def test_an_unchanged_row_is_written_once_more_and_its_roles_are_not(layouts: tuple[str, dict[str, Any]]) -> None:
    assert {figure(layouts[1], layout, "re-run")["entities"] for layout in LAYOUTS} == {ROWS}


def test_the_ratio_is_of_the_emulators_journal(first_load: tuple[str, dict[str, Any]]) -> None:
    marketo, fewest = first_load[1]["first load"]["marketo"], first_load[1]["fewest"]

    assert sum(line["calls"] for line in marketo["by_endpoint"].values()) == marketo["calls"]
    assert first_load[1]["ratio"] == round(marketo["calls"] / sum(fewest.values()), 3)
    assert all(marketo["by_endpoint"][endpoint]["calls"] >= calls for endpoint, calls in fewest.items())


def test_one_delivery_takes_exactly_the_fewest_possible_calls(first_load: tuple[str, dict[str, Any]]) -> None:
    assert first_load[1]["first load"]["flow"]["deliveries"] == 1
    assert first_load[1]["ratio"] == 1.0


def test_the_second_run_writes_nothing(first_load: tuple[str, dict[str, Any]]) -> None:
    again = first_load[1]["re-run"]

    assert again["flow"]["handled"] == ROWS  # it did look at everything
    assert again["marketo"]["writes"] == 0
    assert again["marketo"]["records_written"] == 0


def test_the_first_load_says_what_it_costs(first_load: tuple[str, dict[str, Any]]) -> None:
    printed, found = first_load
    first = found["first load"]

    assert set(first["cpu_split_s"]) == set(PURPOSES)
    assert first["storage"]["entities"]["OpportunityLedger row"] == ROWS
    assert first["storage"]["entities"]["ConnectionMap row"] == 1  # all of one delivery
    assert first["dataverse"]["requests"] > 0
    assert first["rss_mb"]["peak"] > 0
    assert "times the fewest possible" in printed


def test_tokens_and_descriptions_are_counted_apart() -> None:
    journal = [
        entry("identity", "POST /identity/oauth/token"),
        entry("describe", "GET /rest/v1/opportunities/describe.json"),
        entry("write", "POST /rest/v1/opportunities.json", records=300, statuses={"created": 299, "skipped": 1}),
        entry("read", "GET /rest/v1/leads.json", filter_values=17),
    ]

    found = marketo_calls(journal)

    assert found["calls"] == 2
    assert found["by_endpoint"]["GET leads.json"] == {"calls": 1, "items": 17}
    assert (found["writes"], found["records_written"]) == (1, 299)
    assert found["apart"] == {"identity": 1, "describe": 1}


def entry(kind: str, endpoint: str, **values: Any) -> dict[str, Any]:
    nothing = {"records": 0, "filter_values": 0, "statuses": {}, "codes": []}
    return {"kind": kind, "endpoint": endpoint, **nothing, **values}


def recorded_in(name: str) -> dict[str, Any]:
    return dict(json.loads((RESULTS / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("size", [10_000, 100_000])
def test_the_recorded_first_loads_keep_the_goals(size: int) -> None:
    recorded = recorded_in("first_load.json")[str(size)]
    first, again = recorded["first load"], recorded["re-run"]
    operations = [sum(run["storage"]["operations"].values()) * 1000 / size for run in (first, again)]

    assert recorded["ratio"] <= GOALS["ratio"]
    assert again["marketo"]["records_written"] == 0
    assert our_cpu_ms(first, size) <= GOALS["our CPU ms"]
    assert sum(first["storage"]["entities"].values()) / size <= GOALS["entities"]
    assert [number <= goal for number, goal in zip(operations, GOALS["operations"], strict=True)] == [True, True]
    assert max(run["rss_mb"]["peak"] for run in (first, again)) <= GOALS["RSS MB"]


def test_the_recorded_tick_keeps_the_goals() -> None:
    recorded = recorded_in("tick.json")
    idle, busy = recorded["idle"], recorded["busy"]

    assert busy["marketo"]["calls"] == sum(busy["fewest"].values())
    assert busy["dataverse"]["requests"] <= TICK_GOALS["Dataverse requests"]
    assert busy["everything in Marketo after s"] <= TICK_GOALS["everything in Marketo after s"]
    assert (idle["later"]["marketo"]["calls"], idle["later"]["dataverse"]["requests"]) == (0, 5)
    assert idle["CPU s"][-1] < TICK_GOALS["CPU s of an idle tick"]


def test_the_recorded_load_by_several_hosts_keeps_the_goals() -> None:
    recorded = recorded_in("pace.json")
    load, touched = recorded["first load"], recorded["touched"]

    assert recorded["rows"]["opportunities"] == 100_000
    assert load["wall_s"] <= PACE_GOAL * max(bounds(recorded).values())
    assert posted(load) <= 100_000 + 10 * len(load["edits"])
    for run in (load, touched):
        assert run["marketo"]["max_in_window"] <= 50
        assert run["marketo"]["max_in_flight"] <= 5
        assert run["marketo"]["refused"] == {}
    assert max(edit["ticks"] for edit in (*load["edits"], touched["edit"])) <= 2
    assert touched["messages waiting when the edit was made"] > 0
    assert touched["marketo"]["calls"] == 1  # the edit's


# --- the map of connections ------------------------------------------------------------------------------------


def test_the_map_of_connections_costs_an_entity_a_delivery(tmp_path: Path) -> None:
    printed, found = run("bench.connection_map", "--opportunities", "4000", folder=tmp_path)

    assert {item["step"]: item["entities"] for item in found["figures"]} == {
        "first load": 3,
        "tidy": 0,
        "tick": 0,
        "page": 0,
        "forget": 1,
    }
    assert "| first load | 3 |" in printed


def test_the_recorded_map_of_connections_keeps_the_budget() -> None:
    recorded = recorded_in("connection_map.json")
    entities = sum(item["entities"] for item in recorded["figures"])

    assert recorded["opportunities"] == 100_000
    assert entities / recorded["opportunities"] <= 0.15


# --- a plan -----------------------------------------------------------------------------------------------------


def test_a_plan_is_measured_beside_that_of_another_size_and_wrote_nothing(tmp_path: Path) -> None:
    run("bench.plan", "--opportunities", str(ROWS // 2), folder=tmp_path)
    printed, found = run("bench.plan", "--opportunities", str(ROWS), folder=tmp_path)

    assert "| a plan of so many opportunities | 100 | 200 |" in printed
    assert [each["flow"]["opportunities created"] for each in found.values()] == [ROWS // 2, ROWS]
    assert [each["marketo"]["writes"] for each in found.values()] == [0, 0]
    assert [set(each["storage"]["entities"]) for each in found.values()] == [{"SyncState row"}] * 2  # the limiter's
    assert all(each["marketo"]["calls"] > 0 and each["file_mb"] > 0 for each in found.values())


@pytest.mark.parametrize(
    ("writes", "left"),
    [
        (1, {}),
        (0, {"table People": {}}),
        (0, {"queue opportunity-sync": {"messages": 0}}),
        (0, {"table SyncState": {LIMITER: {}, ("stamp", "pair"): {}}}),
    ],
)
def test_a_plan_that_wrote_has_no_figures(writes: int, left: dict[str, Any]) -> None:
    figures = {"marketo": {"writes": writes, "by_endpoint": {}}, "storage": {"entities": {}}}

    with pytest.raises(AssertionError, match="the plan wrote"):
        _check_nothing_written(figures, {}, left)


def test_the_recorded_plans_need_the_same_memory_and_foretell_the_recorded_load() -> None:
    small, large = (recorded_in("plan.json")[size] for size in ("10000", "100000"))
    first = recorded_in("first_load.json")["10000"]["first load"]

    assert abs(large["rss_mb"]["peak"] / small["rss_mb"]["peak"] - 1) <= 0.1
    assert small["flow"]["calls to write"] + small["flow"]["calls to read"] == first["marketo"]["calls"]
    assert small["flow"]["roles added"] == first["flow"]["roles posted"]


def test_a_tick_costs_the_fewest_calls_and_an_idle_one_none(tmp_path: Path) -> None:
    printed, found = run("bench.tick", "--opportunities", "1200", folder=tmp_path)
    busy, idle = found["busy"], found["idle"]["later"]

    assert found["changes"]["moved"] == 10
    assert found["wrong"] == {"roles": 0, "differences": 0}
    assert busy["marketo"]["calls"] == sum(busy["fewest"].values()) > 0
    assert busy["dataverse"]["requests"] <= 20
    assert (idle["marketo"]["calls"], idle["dataverse"]["requests"]) == (0, 5)
    assert f"| together | {sum(busy['fewest'].values())} | {busy['marketo']['calls']} | |" in printed


# --- telemetry, and what a month costs --------------------------------------------------------------------------


def test_each_kind_of_call_tells_what_it_sent(tmp_path: Path) -> None:
    printed, found = run("bench.telemetry", "--opportunities", "1200", folder=tmp_path)
    calls = {name: line for name, line in found.items() if "by_kind" in line}
    items = {name: {kind: each["items"] for kind, each in line["by_kind"].items()} for name, line in calls.items()}

    assert items["idle tick"] | {"MetricData": 0} == {"RemoteDependencyData": 6, "MessageData": 1, "MetricData": 0}
    assert items["its delivery"]["RequestData"] == 1
    assert items["look"]["RemoteDependencyData"] == 1
    assert items["look"]["MetricData"] > items["nothing"]["MetricData"] > 0
    assert all(f"| {name} | {line['items']} | {line['bytes']:,} |" in printed for name, line in calls.items())


def test_an_ordinary_month_stays_within_what_is_free() -> None:
    month = Month.measured()

    assert 0 < month.seconds * MEMORY_GB < FREE_GB_SECONDS
    assert 0 < month.log_gb < FREE_LOG_GB
    assert [dollars for _, _, dollars in month.flex()] == [0, 0]


def test_what_goes_beyond_it_costs() -> None:
    month = replace(Month.measured(), seconds=(FREE_GB_SECONDS + 1_000_000) / MEMORY_GB, log_gb=FREE_LOG_GB + 2)

    assert month.flex()[0][2] == pytest.approx(1_000_000 * GB_SECOND)
    assert month.rest()[0][2] == pytest.approx(2 * LOG_GB)


# --- a day's changes ----------------------------------------------------------------------------------------------


def changed_day(folder: Path, seed: int) -> tuple[dict[str, int], dict[str, dict[str, Any]]]:
    """What `change` says it did, and the rows that it left behind, by table and id."""
    with serving(DataverseApp(DataverseState(seed=1)), folder=folder) as url:
        door = Admin(url, certificate_authority(folder))
        door.post("generate", {"seed": 1, "opportunities": ROWS})
        before = tables_of(door)
        summary = change(door, opportunities=30, stakeholders=8, contacts=3, seed=seed)
        after = tables_of(door)
        door.close()
    return summary, {
        name: {key: row for key, row in rows.items() if row != before[name].get(key)}
        | dict.fromkeys(before[name].keys() - rows.keys())
        for name, rows in after.items()
    }


def tables_of(door: Admin) -> dict[str, dict[str, Any]]:
    names = ("opportunity", "connection", "contact", "account")
    return {name: {row[f"{name}id"]: row for row in door.get(f"rows/{name}")} for name in names}


def test_a_days_changes_are_as_many_as_were_asked_for(tmp_path: Path) -> None:
    summary, changed = changed_day(tmp_path, seed=1)

    assert summary == {
        "renamed": 10, "amounts": 10, "won": 10, "connected": 4, "ended": 2, "disconnected": 2, "moved": 3,
    }  # fmt: skip
    assert {name: len(rows) for name, rows in changed.items()} == {
        "opportunity": 30, "connection": 2 * 8, "contact": 3, "account": 0,
    }  # fmt: skip
    assert sum(row is None for row in changed["connection"].values()) == 2 * 2


def test_the_same_seed_makes_the_same_day_and_another_makes_another(tmp_path: Path) -> None:
    one, same, other = (changed_day(tmp_path, seed)[1] for seed in (1, 1, 2))

    assert one["opportunity"].keys() == same["opportunity"].keys() != other["opportunity"].keys()
    assert one["contact"].keys() == same["contact"].keys()


# --- growing sizes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """At 700 opportunities: two fifths of them are Marketo's after the first call of 300."""
    return run("bench.million", "--opportunities", "700", "60", folder=tmp_path_factory.mktemp("million"))


def test_each_size_has_its_figures(million: tuple[str, dict[str, Any]]) -> None:
    printed, found = million

    assert "| opportunities | 60 | 700 |" in printed
    assert [*found] == ["60", "700"]
    for each in found.values():
        assert set(each["first load"]["cpu_split_s"]) == set(PURPOSES)
        assert each["first load"]["storage_calls"] > 0
        assert each["first load"]["dataverse"]["requests"] > 0
        assert each["first load"]["rss_mb"]["peak"] >= each["first load"]["rss_mb"]["before"] > 0


def test_a_killed_load_goes_on_and_everything_is_in_step(million: tuple[str, dict[str, Any]]) -> None:
    for opportunities, each in million[1].items():
        marketo = each["first load"]["marketo"]

        assert each["first load"]["in_step_at_the_kill"] == [0]  # one delivery, killed before the ledger heard of it
        assert min(300, int(opportunities)) <= posted_twice(each) <= int(opportunities)
        assert each["first load"]["flow"]["opportunities in step"] == int(opportunities)
        assert marketo["by_endpoint"]["GET opportunities/roles.json"]["calls"] > 0  # what may be there was read
        assert marketo["calls"] == round(each["ratio"] * sum(each["fewest"].values()))


def test_after_all_links_were_lost_everything_is_read_and_nothing_written(
    million: tuple[str, dict[str, Any]],
) -> None:
    for opportunities, each in million[1].items():
        assert each["re-run"]["flow"]["handled"] >= int(opportunities)
        assert each["re-run"]["marketo"]["writes"] == 0


def test_an_engine_that_ends_by_itself_where_it_should_be_killed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")  # with which it can't begin
    nobody: Any = None

    with pytest.raises(RuntimeError, match="ended with 1"):
        _engine(nobody, tmp_path, "first load", dies_after=1)


# --- us and a script ----------------------------------------------------------------------------------------------


def test_both_sides_did_the_same_work_and_only_ours_noticed_who_left(tmp_path: Path) -> None:
    few = ("--opportunities", str(ROWS), "--changed", "30", "--stakeholders", "8", "--moved", "3")
    printed, found = run("bench.compare", *few, folder=tmp_path)
    first, tick = found[FIRST], found[TICK]

    assert [first[side]["wrong"]["differences"] for side in (OURS, SCRIPT)] == [0, 0]
    assert first[OURS]["records"] == first[SCRIPT]["records"]
    assert first[OURS]["by_kind"] == first["fewest"]
    assert tick[OURS]["by_kind"] == tick["fewest"]
    assert tick[OURS]["wrong"] == {"roles": 0, "differences": 0}
    assert 0 < tick[SCRIPT]["wrong"]["roles"] <= min(4, tick[SCRIPT]["wrong"]["differences"])
    assert "Stakeholder removals noticed: ours yes, script no." in printed


def test_marketos_pace_counts_the_share_what_is_at_once_and_what_waits_for_another() -> None:
    assert pace(SCRIPT, {"roles": 1_000}) == 1_000
    assert pace(OURS, {"roles": 1_000}) == 400
    assert pace(OURS, {"opportunities": 2, "roles": 1, "roles removed": 1}) == 3


def test_the_recorded_tick_took_exactly_the_fewest_possible_calls() -> None:
    recorded = recorded_in("compare.json")

    assert recorded["rows"]["opportunities"] == 10_000
    assert recorded[TICK][OURS]["by_kind"] == recorded[TICK]["fewest"]
    assert [recorded[part][OURS]["wrong"]["differences"] for part in (FIRST, TICK)] == [0, 0]


# --- the start of a process ---------------------------------------------------------------------------------------


def test_the_start_is_measured_with_and_without_compiled_modules(tmp_path: Path) -> None:
    printed, found = run("bench.start", "--runs", "1", folder=tmp_path)

    for module in MODULES:
        assert all(0 < found[module][name]["median_s"] <= found[module][name]["max_s"] for name in (COMPILED, PLAIN))
        assert module in printed
    app, wiring = (found[module]["packages_ms"] for module in MODULES)
    assert "azure.functions" in app
    assert "sync_core" in wiring
    assert "sync_core" not in app  # the host lists functions without any of it


def test_the_recorded_start_keeps_the_goal() -> None:
    recorded = recorded_in("start.json")

    assert recorded["runs"] == 10
    assert recorded[MODULES[0]][COMPILED]["max_s"] <= recorded["goal_s"]


# --- pictures -----------------------------------------------------------------------------------------------------


def test_the_pictures_follow_from_what_was_recorded() -> None:
    made = dict(drawn(RESULTS))

    assert made.keys() == {name for name in PICTURES if (DOCS / name).exists()}
    assert [name for name, text in made.items() if text != (DOCS / name).read_text(encoding="utf-8")] == []


def test_the_same_results_are_drawn_as_the_same_bytes() -> None:
    assert dict(drawn(RESULTS)) == dict(drawn(RESULTS))


def test_a_picture_is_small_tells_what_it_shows_and_follows_the_readers_colours() -> None:
    for name, text in drawn(RESULTS):
        assert len(text.encode()) < 60_000, name
        assert PICTURES[name].title in text
        assert "<desc>" in text
        assert "prefers-color-scheme: dark" in text
        assert set(re.findall(r"(?:fill|stroke): (#\w+)", text)) == set(), name
        assert "this sync" in text or name != "script.svg"  # text stays text


def test_a_missing_result_names_the_command_that_makes_it(tmp_path: Path) -> None:
    (tmp_path / "first_load.json").write_text((RESULTS / "first_load.json").read_text(encoding="utf-8"))

    with pytest.raises(Missing, match=r"compare\.json is missing.*`python -m bench\.compare` makes it"):
        dict(drawn(tmp_path))


def test_a_result_of_another_shape_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "first_load.json").write_text("{}", encoding="utf-8")

    with pytest.raises(Missing, match=r"has no 10000/first load/.*`python -m bench\.first_load` makes it anew"):
        dict(drawn(tmp_path))


def test_what_takes_hours_is_drawn_once_it_is_there(tmp_path: Path) -> None:
    for name in ("first_load", "plan", "compare"):
        (tmp_path / f"{name}.json").write_text(json.dumps(recorded_in(f"{name}.json")), encoding="utf-8")
    load = recorded_in("first_load.json")["10000"]
    assert dict(drawn(tmp_path)).keys() == {"calls.svg", "script.svg"}

    sizes = {size: load | {"re-run": load["first load"]} for size in ("10000", "100000", "1000000")}
    (tmp_path / "million.json").write_text(json.dumps(sizes), encoding="utf-8")
    load["first load"] |= {
        "wall_s": 60.0,
        "calls until then": 25,
        "hosts": [{"storage": {"entities": {"OpportunityLedger row": 10_000}}}],
    }
    (tmp_path / "pace.json").write_text(json.dumps(load | {"entities a second": 500}), encoding="utf-8")

    made = dict(drawn(tmp_path))
    assert made.keys() == PICTURES.keys()
    assert "10,000 entities ÷ 500 a second" in made["time.svg"]
    assert "25 Marketo calls ÷ 2.5 a second" in made["time.svg"]


def test_recorded_sizes_need_the_same_memory_and_about_the_same_work_for_each_opportunity() -> None:
    recorded = {int(size): each for size, each in recorded_in("million.json").items()}
    small = recorded[10_000]

    assert len(recorded) > 1
    for opportunities, each in recorded.items():
        for which in ("first load", "re-run") if "re-run" in each else ("first load",):
            assert each[which]["rss_mb"]["peak"] <= 200
            assert abs(each[which]["rss_mb"]["peak"] / small[which]["rss_mb"]["peak"] - 1) <= 0.1
            assert each[which]["cpu_s"] / opportunities <= 1.3 * small[which]["cpu_s"] / 10_000
        assert posted_twice(each) <= 1_800  # no more than the delivery that was under way
        assert each["first load"]["in_step_at_the_kill"][0] > 0.3 * opportunities
        assert each["first load"]["flow"]["opportunities in step"] == opportunities
        assert "re-run" not in each or each["re-run"]["marketo"]["records_written"] == 0
