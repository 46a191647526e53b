"""The package works by itself: unpacked somewhere else, with what requirements.txt names and nothing more."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.host.test_runtime import in_the_runtime
from tools.checker import marketo_rows
from tools.kills.site import Site
from tools.package import Package, build, clean_python, imports, unpacked

HOST = Path(__file__).parent.parent / "host" / "packaged_host.py"
DEALS = 3
PAGE_LINE = re.compile(r"^status_page: \S+ (http://[^/]+/api/status)", re.MULTILINE)
PATIENCE_S = 60

pytestmark = pytest.mark.timeout(300)  # the first time, the packages are downloaded


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return build(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def app(package: Package) -> Iterator[Path]:
    with unpacked(package) as folder:
        yield folder


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        site.fill(opportunities=DEALS, accounts=2, contacts=4, roles_per_opportunity=1.0)
        yield site


@pytest.fixture
def host(app: Path, site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """The local host on the unpacked package, with that one's own sync.toml."""
    environment = {name: value for name, value in site.environment.items() if name != "SYNC_CONFIG"}
    options = ["--settings", "none.json", "--poll", "0.3", "--timer-now"]
    command = [clean_python(), "-I", HOST, sysconfig.get_paths()["purelib"], *options]
    with (site.folder / "host-1.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=app, env=environment, stdout=log, stderr=log)  # noqa: S603 - our own
    yield process
    process.kill()
    process.wait()


def wait_for(look: Callable[[], Any], process: subprocess.Popen[bytes], site: Site) -> Any:
    """What *look* finds before long."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert (process.poll(), site.failed()) == (None, 0), site.log()
        assert time.monotonic() < deadline, f"{site.left()}\n{site.log()[-5000:]}"
        time.sleep(0.1)
    return found


def test_a_change_in_dynamics_reaches_marketo_and_the_status_page_shows_it(
    host: subprocess.Popen[bytes], site: Site
) -> None:
    page = wait_for(lambda: PAGE_LINE.search(site.log()), host, site)[1]
    wait_for(lambda: not site.left(), host, site)

    answer = requests.get(page, timeout=30)
    host.terminate()

    assert host.wait(30) == 0
    assert (answer.status_code, "Opportunity Sync" in answer.text) == (200, True)
    assert len(marketo_rows(site.marketo)["opportunities"]) == DEALS
    assert site.problems() == []


def test_microsofts_runtime_finds_every_function_in_it(app: Path) -> None:
    found = in_the_runtime(app, python=str(clean_python()))

    assert len(found["functions"]) == 7
    assert "missing settings" in found["calls"]["detect_changes"]["error"]
    assert "missing settings: DATAVERSE_URL" in found["calls"]["status_page"]["body"]


def test_nothing_of_ours_and_nothing_of_the_tests_is_found_beside_it(app: Path) -> None:
    probe = """
import importlib.util, runpy, sys
runpy.run_path(sys.argv.pop(1))["borrowed"](sys.argv[1:3], "tools.local_host")
print([name for name in ("tools", "tests", "croniter", "cheroot", "pytest") if importlib.util.find_spec(name)])
print([name for name in sys.modules if name.split(".")[0] in ("tools", "croniter", "cheroot", "sync_core")])
"""
    command = [
        clean_python(),
        "-I",
        "-c",
        probe,
        HOST,
        sysconfig.get_paths()["purelib"],
        str(HOST.parent.parent.parent),
    ]
    done = subprocess.run(command, cwd=app, capture_output=True, text=True, check=True)  # noqa: S603 - our own

    assert done.stdout.splitlines() == ["[]", "[]"]


def python_312() -> str:
    """Its path; empty if there is none. pyenv offers each version under its name only when told to."""
    look = ["env", "PYENV_VERSION=3.12", "python3.12", "-c", "import sys; print(sys.executable)"]
    return subprocess.run(look, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 - our own


def test_it_installs_and_is_imported_with_python_312_too(app: Path) -> None:
    if sys.version_info[:2] == (3, 12):
        pytest.skip("all of these tests run with Python 3.12 already")
    if not (python := python_312()):
        pytest.skip("no Python 3.12 on this machine")

    assert imports(clean_python(python), app).keys() == {"function_app", "sync_core.wiring"}
