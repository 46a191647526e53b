"""What the package for Azure holds, that it is the same for the same content, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from tools.package import NEEDED, ROOT, Cost, Package, PackageError, build, cost, deployed, main, report

pytestmark = pytest.mark.timeout(300)  # the first time, packages are downloaded

DATA = {".css", ".html", ".js", ".toml"}


def git(folder: Path, *words: str) -> list[str]:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603, S607 - git
    return done.stdout.splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small app, committed."""
    root = tmp_path / "checkout"
    for name in (*NEEDED, "sync_core/page.html", "tests/test_app.py", "notes.md"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / ".funcignore").write_bytes((ROOT / ".funcignore").read_bytes())
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "An app")
    return root


def names(package: Package) -> list[str]:
    with zipfile.ZipFile(package.path) as archive:
        return archive.namelist()


# --- what is in it ----------------------------------------------------------------------------------------------


def test_the_package_holds_the_app_with_all_of_sync_core_and_nothing_else(tmp_path: Path) -> None:
    sync_core = git(ROOT, "ls-files", "--cached", "sync_core")

    package = build(tmp_path)

    assert names(package) == sorted([*NEEDED, *sync_core])
    assert {Path(name).suffix for name in sync_core} == {".py", *DATA}


def test_every_file_is_as_in_the_tree(checkout: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(build(tmp_path, checkout).path) as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == {
            name: name for name in (*NEEDED, "sync_core/page.html")
        }


def test_the_same_content_gives_the_same_bytes(checkout: Path, tmp_path: Path) -> None:
    first = build(tmp_path / "first", checkout)
    for path in checkout.rglob("*.py"):
        os.utime(path, (0, 0))
        path.chmod(0o755)
    second = build(tmp_path / "second", checkout)

    assert Path(first.path).read_bytes() == Path(second.path).read_bytes()
    assert first.sha256 == second.sha256


def test_what_is_not_committed_is_told_and_what_git_does_not_track_is_left_out(checkout: Path, tmp_path: Path) -> None:
    (checkout / "host.json").write_text("changed")
    (checkout / "sync_core" / "new.py").touch()
    (checkout / "tests" / "test_new.py").touch()

    package = build(tmp_path, checkout)

    assert package.uncommitted == ["host.json", "sync_core/new.py"]
    assert "sync_core/new.py" not in names(package)
    assert build(tmp_path, ROOT).files == len(deployed(ROOT))


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NEEDED)
def test_without_one_of_its_four_files_there_is_no_package(name: str, checkout: Path, tmp_path: Path) -> None:
    git(checkout, "rm", "--quiet", name)

    with pytest.raises(PackageError, match=rf"Not in the package: {name}\. Does git track it"):
        build(tmp_path / "home", checkout)
    assert not (tmp_path / "home").exists()


def test_a_file_that_is_gone_is_named(checkout: Path, tmp_path: Path) -> None:
    (checkout / "sync_core" / "page.html").unlink()

    with pytest.raises(PackageError, match=r"git tracks page\.html, but it can't be read"):
        build(tmp_path / "home", checkout)
    assert not (tmp_path / "home").exists()


def test_outside_a_checkout_there_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"What is packed is what git tracks, but: .*not a git repository"):
        build(tmp_path, tmp_path)


def test_without_git_there_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(PackageError, match="git is not installed"):
        build(tmp_path)


# --- what it costs ----------------------------------------------------------------------------------------------


def test_sizes_and_imports_are_told() -> None:
    package = Package("home/app.zip", "1.2.3", 104, 1_120_000, "abc", ["host.json"])

    assert list(report(package, Cost(57_900_000, {"function_app": 0.1876, "sync_core.wiring": 0.7}))) == [
        "home/app.zip: 104 files, 1.12 MB",
        "sha256 abc",
        "dependencies, installed: 58 MB",
        "import function_app: 0.19 s in a new process",
        "import sync_core.wiring: 0.70 s in a new process",
        "Not as committed: host.json",
    ]


def test_a_package_that_cannot_be_imported_is_told(checkout: Path, tmp_path: Path) -> None:
    (checkout / "function_app.py").write_text("import pytest")

    with pytest.raises(PackageError, match=r"(?s)can't be imported.*No module named 'pytest'"):
        cost(build(tmp_path, checkout))


def test_the_command_measures_and_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--runs", "1"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["files"] == len(deployed())
    assert 20e6 < told["dependencies_bytes"] < 150e6
    assert told["import_s"].keys() == {"function_app", "sync_core.wiring"}
    assert told["import_s"]["function_app"] < 10  # a machine under load; bench.start tells the real figure


def test_the_command_tells_what_is_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    assert main([]) == 1
    assert "git is not installed" in capsys.readouterr().err


def test_git_tracks_nothing_that_it_is_told_to_ignore() -> None:
    """What was installed here belongs to this machine."""
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    assert subprocess.check_output(command, cwd=ROOT, text=True) == ""  # noqa: S603 - git
