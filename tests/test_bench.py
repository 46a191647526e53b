"""The benches run at a tiny size and say what they claim to say; nothing here is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.first_load import SDK_THREADS, _marketo
from bench.layouts import LAYOUTS
from bench.spending import REST

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

    assert set(first["cpu_split_s"]) == {"storage", SDK_THREADS, "Dataverse client", "Marketo client", REST}
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

    found = _marketo(journal)

    assert found["calls"] == 2
    assert found["by_endpoint"]["GET leads.json"] == {"calls": 1, "items": 17}
    assert (found["writes"], found["records_written"]) == (1, 299)
    assert found["apart"] == {"identity": 1, "describe": 1}


def entry(kind: str, endpoint: str, **values: Any) -> dict[str, Any]:
    nothing = {"records": 0, "filter_values": 0, "statuses": {}, "codes": []}
    return {"kind": kind, "endpoint": endpoint, **nothing, **values}


def test_the_recorded_first_load_of_ten_thousand_keeps_the_goal() -> None:
    recorded = json.loads((Path(__file__).parent.parent / "bench/results/first_load.json").read_text(encoding="utf-8"))

    assert recorded["rows"]["opportunities"] == 10_000
    assert recorded["ratio"] <= 1.15
