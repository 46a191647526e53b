"""The local host keeps the Functions host's promises about HTTP (tools/http_triggers.py says whence they come)."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.host.test_local_host import APP, REPOSITORY, Bench, wait_for
from tools.azurite import Azurite
from tools.http_triggers import Route, RouteError
from tools.local_host import HostError, LocalHost

KEY = "a key of this test"
ANNA = "anna@example.com"


class Web:
    """The fixture app behind a real port."""

    def __init__(self, bench: Bench, **options: Any) -> None:
        self.bench = bench
        self.host = LocalHost(APP, bench.settings, log=bench.lines.append, **{"http_port": 0, **options})

    def ask(self, path: str, method: str = "GET", **options: Any) -> requests.Response:
        return requests.request(method, f"{self.host.url}{path}", timeout=10, **options)

    def told(self, path: str, method: str = "GET", **options: Any) -> dict[str, Any]:
        """What the function was told."""
        answer = self.ask(path, method, **options)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


@pytest.fixture
def bench(azurite: Azurite, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(azurite.connection_string, tmp_path)
    with bench.queue, bench.poison:
        yield bench


@pytest.fixture
def web(bench: Bench) -> Iterator[Web]:
    web = Web(bench)
    with web.host:
        yield web


@pytest.fixture
def locked(bench: Bench) -> Iterator[Web]:
    web = Web(bench, function_key=KEY)
    with web.host:
        yield web


@pytest.fixture
def signed_in(bench: Bench) -> Iterator[Web]:
    web = Web(bench, easy_auth=ANNA)
    with web.host:
        yield web


# --- requests and responses -------------------------------------------------------------------------------------


def test_the_function_learns_all_of_the_request(web: Web) -> None:
    told = web.told("/api/echo/a/b/c?x=1&x=2&empty=", "POST", data=b"one=1", headers={"X-Own": "mine"})

    assert told["method"] == "POST"
    assert told["url"] == f"{web.host.url}/api/echo/a/b/c?x=1&x=2&empty="
    assert told["route"] == {"kind": "a", "rest": "b/c"}
    assert told["params"] == {"x": "1,2"}
    assert told["headers"]["x-own"] == "mine"
    assert told["body"] == "one=1"


def test_the_response_is_what_the_function_said(web: Web) -> None:
    answer = web.ask("/api/echo/a")

    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["set-cookie"] == "taste=plain; Path=/"


def test_a_returned_text_is_plain_text(web: Web) -> None:
    answer = web.ask("/api/plain")

    assert (answer.status_code, answer.text) == (200, "plain – text")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_failure_tells_the_log_and_nobody_else(web: Web) -> None:
    answer = web.ask("/api/broken")

    assert (answer.status_code, answer.text) == (500, "")
    assert "a secret of ours" in web.bench.lines[0]


def test_parameters_are_decoded_but_for_slashes(web: Web) -> None:
    told = web.told("/api/echo/a%20b/%C3%BC%2Fc%3F")

    assert told["route"] == {"kind": "a b", "rest": "ü%2Fc?"}
    assert told["url"] == f"{web.host.url}/api/echo/a%20b/%C3%BC%2Fc%3F"


# --- routes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/echo/a", "/api/echo/a/", "/API/Echo/a"])
def test_a_catch_all_may_be_empty_and_case_is_no_matter(web: Web, path: str) -> None:
    assert web.told(path)["route"] == {"kind": "a"}


@pytest.mark.parametrize("path", ["/", "/api", "/api/", "/api/echo", "/api/echo//b", "/echo/a", "/api/plainly"])
def test_what_fits_no_route_is_not_found(web: Web, path: str) -> None:
    answer = web.ask(path)

    assert (answer.status_code, answer.text) == (404, "")


@pytest.mark.parametrize("method", ["DELETE", "PUT", "HEAD", "OPTIONS"])
def test_another_method_is_not_found_either(web: Web, method: str) -> None:
    assert web.ask("/api/echo/a", method).status_code == 404


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_without_methods_a_route_takes_them_all(web: Web, method: str) -> None:
    assert web.ask("/api/plain", method).status_code == 200


def test_the_first_in_the_alphabet_wins_not_the_more_exact(web: Web) -> None:
    """As in Azure: two routes that fit the same request are a mistake of the app."""
    assert web.told("/api/echo/never")["route"] == {"kind": "never"}


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("api/status", "api/STATUS/", {}),
        ("api/status.json", "api/statusxjson", None),
        ("api/status/{*rest}", "api/statusquo", None),
        ("api/status/{*rest}", "api/status/a//b/", {"rest": "a//b/"}),
        ("api/{**all}", "api", {}),
        ("{name?}", "", {}),
        ("a/{name?}", "a/b", {"name": "b"}),
        ("a/{name}/b", "a/x/b", {"name": "x"}),
        ("a/{name}/b", "a//b", None),
        ("a/{name}", "a/x/b", None),
    ],
)
def test_templates(template: str, path: str, expected: dict[str, str] | None) -> None:
    assert Route.parse(template).match(path) == expected


@pytest.mark.parametrize("template", ["/a", "a/{n:int}", "a/{*rest}/b", "a/{n?}/b", "a{n}b", "a/{", "~/a"])
def test_a_template_this_host_cannot_serve_is_refused(template: str) -> None:
    with pytest.raises(RouteError):
        Route.parse(template)


def test_the_prefix_is_the_one_of_host_json(bench: Bench, tmp_path: Path) -> None:
    for name in ("function_app.py", "host.json"):
        (tmp_path / name).write_text((APP / name).read_text())
    content = json.loads((APP / "host.json").read_text())
    content["extensions"]["http"] = {"routePrefix": ""}
    (tmp_path / "host.json").write_text(json.dumps(content))
    with LocalHost(tmp_path, bench.settings, http_port=0, log=bench.lines.append) as host:
        assert requests.get(f"{host.url}/plain", timeout=10).status_code == 200
        assert requests.get(f"{host.url}/api/plain", timeout=10).status_code == 404


# --- who may ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"x-functions-key": "another"}, {"x-functions-key": ""}])
def test_without_the_key_nothing_but_the_anonymous_is_answered(locked: Web, headers: dict[str, str]) -> None:
    for path in ("/api/echo/a", "/api/broken", "/api/echo/a?code=another"):
        answer = locked.ask(path, headers=headers)
        assert (answer.status_code, answer.text) == (401, "")
    assert locked.ask("/api/plain", headers=headers).status_code == 200
    assert locked.bench.events("echo") == []


def test_the_key_opens_as_header_or_parameter(locked: Web) -> None:
    locked.told("/api/echo/a", headers={"x-functions-key": KEY})
    locked.told("/api/echo/a", params={"code": KEY})

    assert locked.ask("/api/broken", params={"code": KEY}).status_code == 500


def test_who_is_not_signed_in_by_the_platform_may_send_any_header(web: Web) -> None:
    """Without Easy Auth nobody removes them: an app that believes them is open to everybody."""
    told = web.told("/api/echo/a", headers={"X-MS-CLIENT-PRINCIPAL-NAME": "anybody"})

    assert told["headers"]["x-ms-client-principal-name"] == "anybody"
    assert "WEBSITE_AUTH_ENABLED" not in os.environ


def test_with_easy_auth_the_platform_alone_says_who_it_is(signed_in: Web) -> None:
    sent = {"X-MS-CLIENT-PRINCIPAL-NAME": "anybody", "X-MS-CLIENT-PRINCIPAL-FOO": "1", "X-MS-CLIENT-PRINCIPAL": "2"}
    headers = signed_in.told("/api/echo/a", headers=sent)["headers"]
    claims = json.loads(base64.b64decode(headers["x-ms-client-principal"]))["claims"]

    assert headers["x-ms-client-principal-name"] == ANNA
    assert headers["x-ms-client-principal-idp"] == "aad"
    assert "x-ms-client-principal-foo" not in headers
    assert {"typ": "preferred_username", "val": ANNA} in claims
    assert os.environ["WEBSITE_AUTH_ENABLED"] == "True"


# --- beginning and end --------------------------------------------------------------------------------------------


def test_a_taken_port_is_reported(web: Web, bench: Bench) -> None:
    port = int(web.host.url.rpartition(":")[2])

    with pytest.raises(HostError, match=f"HTTP port {port}"), Web(bench, http_port=port).host:
        pass


def test_without_a_port_http_functions_are_left_alone(bench: Bench) -> None:
    with bench.host() as host:
        assert host.url == ""


def test_requests_run_beside_each_other(web: Web) -> None:
    slow = threading.Thread(target=web.ask, args=("/api/echo/a?sleep=3",))
    slow.start()
    wait_for(lambda: web.bench.events("echo"))

    assert web.ask("/api/plain").status_code == 200
    assert slow.is_alive()
    slow.join()


def test_sigterm_lets_the_running_request_finish(bench: Bench) -> None:
    command = [sys.executable, "-m", "tools.local_host", "--app", str(APP), "--function-key", KEY]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, cwd=REPOSITORY, env=os.environ | bench.settings, stdout=subprocess.PIPE, text=True
    ) as host:
        assert host.stdout
        lines = [host.stdout.readline().split() for _ in range(4)]
        url = next(line[-1] for line in lines if line[0] == "echo:").replace("{kind}/{*rest}", "a")
        answers: list[requests.Response] = []
        client = threading.Thread(
            target=lambda: answers.append(requests.get(url, params={"sleep": "2", "code": KEY}, timeout=20))
        )
        client.start()
        wait_for(lambda: bench.events("echo"))
        host.send_signal(signal.SIGTERM)
        output, _ = host.communicate(timeout=30)
        client.join()

    assert host.returncode == 0
    assert [line[:2] for line in lines] == [
        ["echo:", "[GET,POST]"], ["hidden:", "[GET]"], ["plain:", "[all]"], ["broken:", "[all]"]
    ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [201]
    assert "echo ok" in output
