"""The benches run at a tiny size and say what they claim to say; nothing here is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.layouts import LAYOUTS
from bench.meters import PURPOSES, RESULTS, marketo_calls
from bench.plan import LIMITER, _check_nothing_written

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
    return run("bench.first_load", "--opportunities", str(ROWS), folder=tmp_path_factory.mktemp("first"))


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


def test_the_recorded_first_load_of_ten_thousand_keeps_the_goal() -> None:
    recorded = recorded_in("first_load.json")

    assert recorded["rows"]["opportunities"] == 10_000
    assert recorded["ratio"] <= 1.15


# --- lanes -----------------------------------------------------------------------------------------------------


def test_an_edit_arrives_while_a_backlog_is_worked_off(tmp_path: Path) -> None:
    told, found = run("bench.lanes", "--opportunities", str(ROWS), "--edits", "1", "--tick", "2", folder=tmp_path)

    assert f"{ROWS} rows touched, then an edit" in told
    assert found["first load"]["refused"] == {}
    assert found["bulk"]["calls with those for the edit"] >= 2


def test_the_recorded_edits_arrived_within_two_ticks_and_the_rows_touched_cost_nothing() -> None:
    found = recorded_in("lanes.json")
    edits = [*found["first load"]["edits"], found["bulk"]["edit"]]

    assert [edit for edit in edits if edit["ticks"] > 2] == []
    assert found["bulk"]["calls with those for the edit"] == 2
    assert found["handled"]["slow"] >= 2 * found["opportunities"]


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
    first = recorded_in("first_load.json")["first load"]

    assert abs(large["rss_mb"]["peak"] / small["rss_mb"]["peak"] - 1) <= 0.1
    assert small["flow"]["calls to write"] + small["flow"]["calls to read"] == first["marketo"]["calls"]
    assert small["flow"]["roles added"] == first["flow"]["roles posted"]
