"""The fault plan itself: when a rule strikes, which plans are refused, and the command that begins with one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.emulators.admin import Admin
from tools.emulators.dataverse import faults as dataverse_faults
from tools.emulators.faults import Facts, FaultPlan, PlanError
from tools.emulators.marketo import faults as marketo_faults

ROOT = Path(__file__).parents[2]
WRITE = Facts("write", "/rest/v1/opportunities.json", "POST")
READ = Facts("read", "/rest/v1/leads.json", "GET")


def a_plan(*rules: dict[str, Any], seed: int = 7) -> FaultPlan:
    plan = FaultPlan(marketo_faults.CATALOGUE, marketo_faults.KINDS)
    plan.set({"seed": seed, "rules": list(rules)})
    return plan


def struck(plan: FaultPlan, *requests: Facts) -> list[str]:
    return [hit.fault if (hit := plan.strike(each)) else "" for each in requests]


# The plan


def test_a_rule_without_limits_strikes_always() -> None:
    assert struck(a_plan({"fault": "606"}), WRITE, READ) == ["606", "606"]


def test_a_rule_lets_some_through_first_and_strikes_only_so_often() -> None:
    assert struck(a_plan({"fault": "606", "after": 2, "times": 1}), *[WRITE] * 4) == ["", "", "606", ""]


@pytest.mark.parametrize("on", [{"kind": "write"}, {"path": "opportunities"}, {"method": "post"}])
def test_a_rule_strikes_what_it_is_meant_for(on: dict[str, str]) -> None:
    assert struck(a_plan({"fault": "606", "on": on}), READ, WRITE) == ["", "606"]


def test_what_a_rule_is_not_meant_for_does_not_count_for_it() -> None:
    plan = a_plan({"fault": "606", "after": 1, "on": {"kind": "write"}})

    assert struck(plan, READ, WRITE, READ, WRITE) == ["", "", "", "606"]
    assert [(rule["matched"], rule["struck"]) for rule in plan.describe()["rules"]] == [(2, 1)]


def test_the_first_rule_that_strikes_wins_and_hides_the_request_from_the_others() -> None:
    plan = a_plan({"fault": "606", "times": 1}, {"fault": "reset", "after": 1})

    assert struck(plan, WRITE, WRITE, WRITE) == ["606", "", "reset"]


def test_a_fault_happens_only_to_the_requests_it_can_happen_to() -> None:
    identity = Facts("identity", "/identity/oauth/token", "POST")

    assert struck(a_plan({"fault": "606"}, {"fault": "lost"}), identity, READ) == ["", "606"]
    assert struck(a_plan({"fault": "lost"}), READ, WRITE) == ["", "lost"]


def test_the_same_plan_strikes_the_same_way_and_another_seed_another_way() -> None:
    rules = {"fault": "606", "rate": 0.5}, {"fault": "reset", "rate": 0.3}
    first, again, other = (struck(a_plan(*rules, seed=seed), *[WRITE] * 200) for seed in (7, 7, 8))

    assert first == again
    assert first != other
    assert 70 < first.count("606") < 130
    assert 15 < first.count("reset") < 45


def test_what_a_rule_chooses_is_seeded_too() -> None:
    chosen = [a_plan({"fault": "skip"}, seed=seed).strike(WRITE) for seed in (7, 7, 8)]
    first, again, other = (hit.luck.random() for hit in chosen if hit)

    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ([], "the plan is an object"),
        ({}, "rules is a list"),
        ({"rules": {}}, "rules is a list"),
        ({"rules": [], "sed": 1}, "the plan has no sed; there are seed, rules"),
        ({"rules": [], "seed": "x"}, "seed is an integer"),
        ({"rules": ["606"]}, "rule 0 is an object"),
        ({"rules": [{"fault": "666"}]}, "rule 0: there is no fault '666'; there are slow, reset, .*719"),
        ({"rules": [{"fault": 606}]}, "there is no fault 606"),
        ({"rules": [{}]}, "there is no fault None"),
        ({"rules": [{"fault": "reset", "odds": 1}]}, r"rule 0 \(reset\) has no odds; there are .*rate, times, after"),
        ({"rules": [{"fault": "reset", "seconds": 1}]}, r"rule 0 \(reset\) has no seconds"),
        ({"rules": [{"fault": "slow"}]}, r"rule 0 \(slow\) needs seconds, a number"),
        ({"rules": [{"fault": "slow", "seconds": "1"}]}, "seconds is a number, not '1'"),
        ({"rules": [{"fault": "slow", "seconds": True}]}, "seconds is a number, not True"),
        ({"rules": [{"fault": "slow", "seconds": -1}]}, "seconds is between 0 and inf"),
        ({"rules": [{"fault": "reset", "rate": 1.5}]}, "rate is between 0 and 1"),
        ({"rules": [{"fault": "reset", "times": 0}]}, "times is between 1 and inf"),
        ({"rules": [{"fault": "reset", "after": 1.5}]}, "after is an integer"),
        ({"rules": [{"fault": "html", "status": 404}]}, "status is one of 502, 503, 504"),
        ({"rules": [{"fault": "html", "handled": 1}]}, "handled is true or false"),
        ({"rules": [{"fault": "reset", "on": "write"}]}, "on is an object"),
        ({"rules": [{"fault": "reset", "on": {"verb": "GET"}}]}, "on has no verb; there are kind, path, method"),
        ({"rules": [{"fault": "reset", "on": {"kind": "batch"}}]}, "on.kind is one of identity, read, write"),
        ({"rules": [{"fault": "lost", "on": {"kind": "read"}}]}, "on.kind is one of write, not 'read'"),
        ({"rules": [{"fault": "reset", "on": {"path": 1}}]}, "on.path is a text or null"),
    ],
)
def test_a_bad_plan_is_refused_and_the_last_one_stays(plan: Any, message: str) -> None:
    kept = a_plan({"fault": "606"})
    with pytest.raises(PlanError, match=message):
        kept.set(plan)

    assert struck(kept, WRITE) == ["606"]


def test_every_fault_takes_every_member_of_its_rule_or_says_why_not() -> None:
    for catalogue, kinds in (
        (marketo_faults.CATALOGUE, marketo_faults.KINDS),
        (dataverse_faults.CATALOGUE, dataverse_faults.KINDS),
    ):
        for name, fault in catalogue.items():
            required = {"seconds": 1} if "seconds" in fault.parameters else {}
            required |= {"status": 503} if name == "status" else {}
            plan = FaultPlan(catalogue, kinds)
            plan.set({"rules": [{"fault": name, **required}]})
            facts = Facts((fault.kinds or tuple(kinds))[0], "/", "POST")
            assert struck(plan, facts) == [name]


# The command


def command(tmp_path: Path, plans: Any) -> subprocess.Popen[str]:
    file = tmp_path / "plans.json"
    file.write_text(plans if isinstance(plans, str) else json.dumps(plans), encoding="utf-8")
    order = [sys.executable, "-m", "tools.emulators", "both", "--faults", str(file), "--folder", str(tmp_path)]
    return subprocess.Popen(order, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own program


def test_the_command_begins_with_plans_from_a_file(tmp_path: Path) -> None:
    rule = {"fault": "reset", "times": 1}
    with command(tmp_path, {"marketo": {"seed": 3, "rules": [rule]}}) as process:
        try:
            assert process.stdout is not None
            facts = json.loads(process.stdout.readline())
            marketo, dataverse = (
                Admin(url, facts["ca"]) for url in (facts["marketo"]["url"], facts["dataverse"]["url"])
            )
            assert marketo.get("faults") == {"seed": 3, "rules": [{**rule, "matched": 0, "struck": 0}]}
            assert dataverse.get("faults")["rules"] == []
            marketo.close()
            dataverse.close()
        finally:
            process.terminate()


@pytest.mark.parametrize("plans", ["{", "[]", {"crm": {}}, {"dataverse": {"rules": [{"fault": "606"}]}}])
def test_a_file_that_holds_no_plans_is_named(tmp_path: Path, plans: Any) -> None:
    with command(tmp_path, plans) as process:
        _, problem = process.communicate(timeout=60)

    assert process.returncode == 1
    assert problem.startswith("plans.json: ")
    assert "Traceback" not in problem
