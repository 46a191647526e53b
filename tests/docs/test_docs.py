"""The documents say what the code does: whatever can be compared is compared here."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from uuid import UUID

import pytest

import sync_core
from bench.documents import PLACES, written
from sync_core.cli import _parser
from sync_core.mapping import SyncConfig, parse
from sync_core.rules.alerts import ALERTS, FIRST
from sync_core.rules.questions import QUESTIONS
from sync_core.settings import HARMLESS, Settings, _environment

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
PACKAGE = ROOT / "sync_core"

TEST_ID = re.compile(r"`(tests/[\w/]+\.py(?:::\w+)*)`")
TARGET = re.compile(r"`make ([\w-]+)[^`]*`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

# Neither belongs into a document: places on one machine, real addresses, how the project was made.
HOST_PATH = re.compile(r"(?<![\w.:/-])/(?:home|root|work|tmp|usr|var|opt|Users)/")
ADDRESS = re.compile(r"[\w.+-]+@([\w-]+\.)+[\w-]+")
RESERVED = (".invalid", ".test", ".example", "example.com", "example.org")
ANNOTATION = "@Microsoft.Dynamics.CRM."
MAKING = re.compile(r"issue #|#\d+\b|\bsession\b|\bsubagent\b|\bprompt(ed)?\b|\bLLM\b|\bchatbot\b", re.IGNORECASE)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands under *heading*, up to the next one of the same level."""
    level, rest = re.split(rf"^(#+) {re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)[1:]
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text: str) -> list[str]:
    """The first cell of each row of the tables in *text*, without their heads and rules."""
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return [re.findall(r"`([^`]+)`", row.split("|")[1])[0] for row in rows]


def every_page(pages: list[Path] = PAGES) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=name_of)


# --- settings, modules, commands ------------------------------------------------------------------------------


def test_every_setting_has_a_row_and_every_row_is_a_setting() -> None:
    settings = {_environment(item.name) for item in fields(Settings) if item.name != "doubts"}

    assert set(first_cells(section(README, "Settings"))) == settings


def test_the_rows_tell_the_real_defaults() -> None:
    defaults = {
        _environment(item.name): item.default for item in fields(Settings) if item.default not in ("", None, ())
    }
    rows = [line.split("|") for line in section(README, "Settings").splitlines() if line.startswith("| `")]
    told = {row[1].strip(" `"): row[3].strip(" `") for row in rows}

    assert {name: told[name] for name, value in defaults.items() if isinstance(value, (str, int))} == {
        name: str(value) for name, value in defaults.items() if isinstance(value, (str, int))
    }


def test_the_readme_names_what_stops_nothing() -> None:
    (said,) = [line for line in section(README, "Settings").splitlines() if "stops nothing" in line]

    assert set(re.findall("`([^`]+)`", said.partition("stops nothing")[0])) == HARMLESS


def modules() -> set[str]:
    paths = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.stem not in ("__init__", "__main__"))
    return {".".join(path.with_suffix("").parts) for path in paths}


def test_the_map_of_modules_is_complete() -> None:
    assert set(first_cells(section(ARCHITECTURE, "The modules, in the order the data meets them"))) == modules()


def test_the_packages_docstring_names_every_module() -> None:
    named = set(re.findall(r"[\w.]+", str(sync_core.__doc__)))

    assert modules() - named == set()


def places() -> list[tuple[str, str]]:
    """`module:name` as the documents write it, with the page."""
    found = re.compile(r"`((?:\w+\.)*\w+):(\w+(?:\.\w+)*)`")
    return sorted({(name_of(page), match[0].strip("`")) for page in PAGES for match in found.finditer(text_of(page))})


@pytest.mark.parametrize(("page", "place"), places())
def test_every_named_place_in_the_code_exists(page: str, place: str) -> None:
    module, _, name = place.partition(":")
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")

    assert path.exists(), f"{page} names the module {module}"
    assert name in defined(tree_of(path)), f"{page} names {place}"


def defined(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        names |= _names(node)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner}" for member in node.body for inner in _names(member)}
    return names


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_every_command_is_in_the_readme_and_every_row_is_a_command() -> None:
    actions = [action for action in _parser()._actions if isinstance(action.choices, dict)]
    commands = set(actions[0].choices or ())

    rows = first_cells(section(README, "Command line"))

    assert {row.split()[0] for row in rows} == commands


def options_of(parser: ArgumentParser) -> Iterator[str]:
    """The long options of a parser and of all commands below it."""
    for action in parser._actions:
        yield from (name for name in action.option_strings if name.startswith("--"))
        for below in (action.choices or {}).values() if isinstance(action.choices, dict) else ():
            yield from options_of(below)


def test_every_option_of_a_command_is_in_the_readme() -> None:
    assert {name for name in options_of(_parser()) if name not in section(README, "Command line")} == set()


def commands() -> list[tuple[str, str]]:
    """Every `python -m sync_core …` of the pages: in a line of its own, or between backquotes."""
    found = re.compile(r"(?:^|`)python -m sync_core ([a-z][^`#\n]*)", re.MULTILINE)
    return sorted({(name_of(page), match.strip()) for page in PAGES for match in found.findall(text_of(page))})


@pytest.mark.parametrize(("page", "command"), commands())
def test_every_command_that_a_page_tells_to_run_exists(page: str, command: str) -> None:
    words = [str(UUID(int=1)) if word == "ID" else word for word in shlex.split(command) if word != "…"]

    assert _parser().parse_args(words).run, page


def test_the_runbook_has_a_heading_for_each_alert_and_no_other() -> None:
    found = re.findall(r"^### `([^`]+)` \S", section(text_of(DOCS / "operations.md"), "Alerts"), re.MULTILINE)

    assert found == list(ALERTS)


def test_where_to_begin_with_an_alert_is_the_first_step_of_the_runbook() -> None:
    headings = re.split(r"^### `([^`]+)`", section(text_of(DOCS / "operations.md"), "Alerts"), flags=re.MULTILINE)
    parts = dict(zip(headings[1::2], headings[2::2], strict=True))
    steps = {name: re.findall(r"^1\. (.*)$", part.replace("`", ""), re.MULTILINE) for name, part in parts.items()}

    assert FIRST.keys() == ALERTS.keys() == steps.keys()
    assert [name for name, first in FIRST.items() if not steps[name] or not steps[name][0].startswith(first)] == []


@pytest.mark.parametrize("page", ["go-live.md", "moving-from-native.md"])
def test_what_a_page_puts_into_the_mapping_is_valid(page: str) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```$", text_of(DOCS / page), re.MULTILINE | re.DOTALL)

    assert blocks
    assert all(parse(f"[opportunity]\n{block}").filter.rule for block in blocks)


def test_every_key_of_the_mapping_is_explained() -> None:
    text = (DOCS / "mapping.md").read_text(encoding="utf-8")
    missing = []
    for table, field in SyncConfig.model_fields.items():
        model = type(getattr(SyncConfig.model_validate({"opportunity": {}}), table))
        keys = [item.alias or name for name, item in model.model_fields.items() if name != "fields"]
        missing += [f"{table}.{key}" for key in keys if not re.search(rf"`(?:{table}\.)?{key}(?:\.\w+)?`", text)]
        assert f"[{table}]" in text, field

    assert missing == []


# --- tests, links, targets --------------------------------------------------------------------------------------


def named_tests() -> list[tuple[str, str]]:
    return sorted({(name_of(page), found) for page in PAGES for found in TEST_ID.findall(text_of(page))})


@pytest.mark.parametrize(("page", "test"), named_tests())
def test_every_named_test_exists(page: str, test: str) -> None:
    path, *names = test.split("::")
    file = ROOT / path

    assert file.exists(), f"{page} names {path}"
    if names:
        assert "::".join(names) in ids_in(file), f"{page} names {test}"


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path))


@cache
def ids_in(path: Path) -> set[str]:
    """Ids of the tests in *path*, without running it: functions, and methods, inherited ones too."""
    tree = tree_of(path)
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{name}" for name in methods_of(path, node.name)}
    return found


def methods_of(path: Path, name: str) -> set[str]:
    """Methods of the class *name*, defined or imported in *path*, and those of its bases."""
    tree = tree_of(path)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            own = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
            return own.union(*(methods_of(path, base.id) for base in node.bases if isinstance(base, ast.Name)))
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            source = ROOT.joinpath(*str(node.module).split(".")).with_suffix(".py")
            return methods_of(source, name) if source.exists() else set()
    return set()


def test_every_invariant_has_tests() -> None:
    lines = section(ARCHITECTURE, "What must always hold").splitlines()
    rows = [line for line in lines if re.match(r"\| \d+ \|", line)]

    assert [int(row.split("|")[1]) for row in rows] == list(range(1, 12))
    assert all(TEST_ID.search(row.split("|")[-2]) for row in rows)


def test_every_rule_names_the_test_that_proves_it() -> None:
    text = (DOCS / "association-rules.md").read_text(encoding="utf-8")
    rules = [part for part in text.split("\n\n") if part.startswith("**")]

    assert len(rules) > 20
    assert [rule.partition("\n")[0] for rule in rules if "Proved by" not in rule] == []


@every_page()
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = FENCED.sub("", text_of(page))
    broken = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


def anchors(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    titles = (title for _, title in HEADING.findall(FENCED.sub("", text_of(page))))
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))


@every_page()
def test_every_make_target_exists(page: Path) -> None:
    assert set(TARGET.findall(text_of(page))) - targets() == set()


@every_page(DECISIONS)
def test_every_decision_has_context_decision_and_consequences(page: Path) -> None:
    titles = [title for level, title in HEADING.findall(text_of(page)) if level == "##"]

    assert [title for title in titles if title in ("Context", "Decision", "Consequences")] == [
        "Context",
        "Decision",
        "Consequences",
    ]
    assert re.match(r"# \d{4}: ", text_of(page))


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@every_page()
def test_nothing_in_a_page_belongs_to_one_machine_or_to_its_making(page: Path) -> None:
    text = text_of(page)
    addresses = [
        match[0] for match in ADDRESS.finditer(text.replace(ANNOTATION, " ")) if not match[0].endswith(RESERVED)
    ]

    assert HOST_PATH.findall(text) == []
    assert addresses == []
    assert [match[0] for match in MAKING.finditer(text)] == []


# --- what the readme shows --------------------------------------------------------------------------------------


def shown() -> Iterator[tuple[str, str]]:
    """Each `$ command` of the readme's console blocks with the output under it."""
    for block in CONSOLE.findall(README):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def run(command: str) -> str:
    words = shlex.split(command)
    words = [sys.executable if word == "python" else word for word in words]
    environment = {**os.environ, "COLUMNS": "80", "LC_ALL": "C.UTF-8", "MAKEFLAGS": "", "MAKELEVEL": "0"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own program
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_shows_help() -> None:
    assert {command for command, _ in shown()} >= {
        "make help",
        "python -m sync_core --help",
        "python -m tools.emulators --help",
    }


@pytest.mark.parametrize(("command", "output"), list(shown()), ids=[command for command, _ in shown()])
def test_the_readme_shows_what_the_command_prints(command: str, output: str) -> None:
    assert output == run(command)


def test_the_readme_shows_what_the_demo_prints() -> None:
    marked = re.search(r"<!-- demo output -->\n```text\n(.*?)```\n<!-- end -->", README, re.DOTALL)

    assert marked is not None
    assert "differences: 0" in marked[1]
    assert "0 Marketo writes" in marked[1]


def test_the_picture_is_described_and_follows_the_readers_colours() -> None:
    picture = (DOCS / "path.svg").read_text(encoding="utf-8")

    assert "<title" in picture
    assert "<desc" in picture
    assert "prefers-color-scheme: dark" in picture
    assert re.search(r"!\[[^\]]{40,}\]\(docs/path\.svg\)", README)


@pytest.mark.parametrize("name", PLACES)
def test_the_tables_of_figures_are_those_that_the_benches_recorded(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")

    assert written(text, PLACES[name]) == text, "`python -m bench.documents` puts them in"


def test_a_document_without_its_marks_is_told() -> None:
    with pytest.raises(ValueError, match="no <!-- measured -->"):
        written("nothing", PLACES["README.md"])


def test_the_figures_of_a_plan_are_those_that_the_bench_recorded() -> None:
    recorded = json.loads((ROOT / "bench/results/plan.json").read_text(encoding="utf-8"))
    small, large = recorded["10000"], recorded["100000"]
    guide = (DOCS / "go-live.md").read_text(encoding="utf-8")
    assert f"{small['marketo']['calls']} for a first load of\n10,000 opportunities" in guide
    assert f"{small['rss_mb']['peak']} MB for 10,000, {large['rss_mb']['peak']} MB for 100,000" in guide


def test_the_guide_tells_what_every_answer_of_marketo_means() -> None:
    rows = [line for line in text_of(DOCS / "connect-marketo.md").splitlines() if re.match(r"\| U\d", line)]

    assert len(rows) == len(QUESTIONS)
    for row, (name, question) in zip(rows, QUESTIONS.items(), strict=True):
        assert row.startswith(f"| {name} {question.asks} |")
        assert all(f"`{answer}`" in row and text in row for answer, text in question.means.items())
