"""The look at an app after its deployment, over the real status page and over whatever else may answer in its place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.wrappers import Request, Response

from tools.azurite import Azurite
from tools.http_triggers import serving
from tools.local_host import LocalHost
from tools.smoke import NoAnswer, look, wait

REPOSITORY = Path(__file__).parent.parent.parent


def smoke(page: str, seconds: float = 0) -> subprocess.CompletedProcess[str]:
    """As the workflow runs it: with nothing installed."""
    command = [sys.executable, "-I", "-S", "-c", PLAIN, page, "--seconds", str(seconds)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own


PLAIN = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from tools.smoke import main; sys.exit(main())"


@pytest.fixture
def page(azurite: Azurite) -> Iterator[str]:
    """The status page of an app that has just been deployed and never ran: it needs attention."""
    settings = {
        "AzureWebJobsStorage": azurite.connection_string,
        "SYNC_SCHEDULE": "0 0 0 1 1 *",
        "DATAVERSE_URL": "https://localhost:1",
        "MARKETO_URL": "https://localhost:1",
        "MARKETO_CLIENT_ID": "id",
        "MARKETO_CLIENT_SECRET": "no secret",
    }
    with LocalHost(REPOSITORY, settings, http_port=0, log=lambda _: None) as host:
        yield f"{host.url}/api/status"


def test_an_app_that_answers_is_good_though_it_needs_attention(page: str) -> None:
    done = smoke(page)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"The app answers: needs attention. {page} says what.\n"


def answering(*answers: Response) -> Iterator[str]:
    """A server that gives *answers* one after the other, the last again and again."""
    left = list(answers)

    @Request.application
    def app(_: Request) -> Response:
        return left.pop(0) if len(left) > 1 else left[0]

    with serving(app, 0) as url:
        yield f"{url}/api/health"


@pytest.mark.parametrize(
    "answer",
    [
        Response("<h1>Your Azure Function App is up and running.</h1>", status=200),
        Response("", status=404),
        Response("The service is unavailable.", status=503),
        Response('{"status": "something else"}', status=200),
        Response("[]", status=200),
    ],
    ids=["Azure's own page", "404", "Azure's own 503", "another word", "no object"],
)
def test_what_is_not_the_apps_answer_is_none(answer: Response) -> None:
    for url in answering(answer):
        with pytest.raises(NoAnswer, match=f"HTTP {answer.status_code}"):
            look(url)


def test_it_is_patient_while_the_app_starts() -> None:
    for url in answering(Response(status=503), Response(status=404), Response('{"status": "ok"}')):
        assert wait(url, longest=10, pause=0.01) == "ok"


def test_nobody_there_is_told_with_a_remedy() -> None:
    done = smoke("http://localhost:1/api/status")

    assert done.returncode == 1
    assert "http://localhost:1/api/health" in done.stderr
    assert "look at the log stream" in done.stderr


def test_only_https_is_asked() -> None:
    assert smoke("http://app.example/api/status").returncode == 2
