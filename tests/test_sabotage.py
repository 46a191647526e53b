"""`make sabotage` breaks the code on purpose; here: its changes fit the code as it is, and leave no promise out."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

from tools.sabotage import CHANGES
from tools.sabotage.__main__ import GOOD, USAGE, main, sabotage
from tools.sabotage.change import ROOT, Change, Misfit

INVARIANTS = {f"2.{number}" for number in range(1, 12)}
PROTOCOL = set("ABCDEFGH")
OTHERS = {"1", "3", "4", "5", "6", "7"}


def test_every_change_fits_and_leaves_something_that_can_be_loaded() -> None:
    for change in CHANGES:
        text = (ROOT / change.file).read_text(encoding="utf-8")

        assert change.applied(text) != text


def test_every_promise_is_broken_by_some_change() -> None:
    broken = {each for change in CHANGES for each in change.breaks.split()}

    assert broken >= INVARIANTS | PROTOCOL | OTHERS


def test_names_are_unique() -> None:
    assert [name for name, number in Counter(change.name for change in CHANGES).items() if number > 1] == []


def test_the_tests_that_have_to_see_them_exist() -> None:
    for path, _, name in sorted({change.test.partition("[")[0].partition("::") for change in CHANGES}):
        module = import_module(path.removesuffix(".py").replace("/", "."))

        assert callable(attrgetter(name.replace("::", "."))(module))


@pytest.mark.parametrize(("old", "why"), [("gone", "0 times"), ("twice", "2 times"), ("once", "can't be loaded")])
def test_a_change_that_does_not_fit_is_no_change(old: str, why: str) -> None:
    change = Change("a change", "2.1", "a.py", old, "(", "tests/test_a.py::test_a")

    with pytest.raises(Misfit, match=why):
        change.applied("twice = twice\nonce = 1\n")


def test_the_table_has_a_row_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--markdown"]) == GOOD
    table = capsys.readouterr().out

    assert len(table.splitlines()) == len(CHANGES) + 2
    assert all(f"| {change.name} | {change.promises} |" in table for change in CHANGES)


def test_a_name_that_is_none_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no such change"]) == USAGE
    assert "--list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("new", "seen"),
    [("2", "test_a.py::test_a"), ("1 + 0", ""), ("1 / 0", "")],
    ids=["seen by its test", "not seen", "nothing could be tested"],
)
def test_a_change_is_seen_by_a_test_that_fails(tmp_path: Path, new: str, seen: str) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "a.py").write_text("one = 1\n", encoding="utf-8")
    (copy / "test_a.py").write_text("from a import one\n\n\ndef test_a():\n    assert one == 1\n", encoding="utf-8")

    result = sabotage(copy, Change("one is another", "2.1", "a.py", "1", new, "test_a.py::test_a"))

    assert result.seen_by == seen
    assert (copy / "a.py").read_text(encoding="utf-8") == "one = 1\n"
