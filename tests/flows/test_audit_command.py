"""`audit` as an operator runs it: what it prints, writes, refuses, and queues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sync_core import cli
from sync_core.errors import Unavailable
from tests.flows.org import Org, wrong
from tests.flows.test_audit import Vandal, an_org
from tests.stage import Stage


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Sixty opportunities, three changed by hand."""
    stage = an_org(60)
    vandal = Vandal(stage, 1)
    vandal.role_added()
    vandal.deleted()
    vandal.value()
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)
    return stage


def ran(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = cli.GOOD) -> str:
    assert cli.main(["audit", *arguments]) == code
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = cli.GOOD) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ran(capsys, *arguments, "--json", code=code))
    return found


def test_it_says_on_a_screen_what_differs(damaged: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    said = ran(capsys, code=cli.PROBLEMS)

    assert said.startswith("3 differences: 60 opportunities compared.")
    assert "missing: opportunity" in said
    assert "Marketo" in said
    assert max(map(len, said.splitlines())) <= 80


def test_repair_queues_what_differs_and_says_so(damaged: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "--repair", code=cli.PROBLEMS)
    assert found["repair"] == {"records queued": 3}
    assert len(found["first differences"]) == 3

    damaged.drain()

    assert wrong(damaged) == []
    assert as_json(capsys)["differences"] == 0
    (entry,) = damaged.world.documents.list("action")
    assert entry[1]["what"].startswith("repair after the audit of")


def test_the_report_is_a_page_and_the_same_as_json(
    damaged: Stage, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "audit.html"
    ran(capsys, "--report", str(page), "--limit", "1", code=cli.PROBLEMS)

    found = json.loads((tmp_path / "audit.json").read_text("utf-8"))
    html = page.read_text("utf-8")
    assert len(found["every difference"]) == 3
    for each in found["every difference"]:
        assert each["id"] in html
    assert damaged.world.subscription in html
    assert found["sync.toml"].startswith("#")
    assert found["version"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["audit.html", "audit.json"]

    assert cli.main(["audit", "--report", str(page)]) == cli.USAGE
    assert "exists; --force replaces it" in capsys.readouterr().err


def test_hostile_values_stay_text_in_the_report(
    stage: Stage, org: Org, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cli, "engine", lambda: stage.engine)
    org.update("opportunity", org.deal, name="<script>alert(1)</script>")
    stage.sync()
    key = {"externalOpportunityId": org.deal}
    values = {"name": "</td><img src=x onerror=alert(2)>"}
    stage.marketo.edit({"op": "update", "object": "opportunities", "key": key, "values": values})

    cli.main(["audit", "--report", str(tmp_path / "audit.html")])

    html = (tmp_path / "audit.html").read_text("utf-8")
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_the_last_one_is_told_again_as_far_as_it_still_differs(
    damaged: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(capsys, "--repair", code=cli.PROBLEMS)
    damaged.drain()

    found = as_json(capsys, "--last")

    assert (found["differences"], found["of these still different"]) == (3, 0)
    assert found["first differences"] == []


def test_a_service_that_gives_no_answer_is_waited_for(
    damaged: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, times = damaged.world.target.roles, []

    def failing(keys: Any) -> Any:
        times.append(keys)
        if len(times) == 1:
            raise Unavailable("Marketo gave no answer", delay=30)
        return read(keys)

    monkeypatch.setattr(damaged.world.target, "roles", failing)
    found = as_json(capsys, code=cli.PROBLEMS)

    assert found["differences"] == 3
    assert found["compared"]["opportunities"] == 60


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--report", "audit.txt"), "does not end in .html"),
        (("--report", "/nowhere/at/all/audit.html"), "there is no folder /nowhere/at/all"),
        (("--repair", "--sample", "5"), "--repair needs a whole audit"),
        (("--last", "--restart"), "--last looks at what was found before"),
        (("--sample", "many"), "is no number"),
    ],
)
@pytest.mark.usefixtures("damaged")
def test_wrong_usage_is_refused_with_the_reason(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = cli.main(["audit", *arguments])
    except SystemExit as end:
        code = int(str(end.code))

    assert code == cli.USAGE
    assert says in capsys.readouterr().err


def test_before_any_audit_there_is_no_last_one(damaged: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", "--last"]) == cli.USAGE
    assert "no audit was completed yet" in capsys.readouterr().err
    assert damaged.world.documents.read("audit", "progress") is None
