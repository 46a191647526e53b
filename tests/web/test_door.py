"""Who may come in, and from where a form may come."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sync_core.engine import Engine
from sync_core.web.door import SIGN_IN
from sync_core.web.site import Site
from tests.flows.test_actions import an_id
from tests.stage import Stage
from tests.web.browser import HOST, Browser, Page, a_site

ROOT = Path(__file__).parent.parent.parent
ENTRA = {SIGN_IN: "entra", "WEBSITE_AUTH_ENABLED": "True"}
ANN = {"x-ms-client-principal-id": an_id(1), "x-ms-client-principal-idp": "aad"}
PAGES = ["", "failures", "failures.csv", "status.json", f"opportunities/{an_id(1)}", "find", "actions/pause", "nowhere"]


def visit(stage: Stage, env: dict[str, str], headers: dict[str, str]) -> Browser:
    return Browser(a_site(stage, env), code="", headers=headers)


# --- Microsoft Entra ID ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_nobody_passes_who_is_not_signed_in(stage: Stage, page: str) -> None:
    answer = visit(stage, ENTRA, {}).answer(page)

    assert answer.status == 401
    assert "sign" in answer.body
    assert visit(stage, ENTRA, {}).answer(page, "POST").status == 401


@pytest.mark.parametrize("said", [None, "", "False", "0", "yes", "true;"])
@pytest.mark.parametrize("page", PAGES)
def test_a_forged_header_does_not_pass_where_nobody_takes_it_out(stage: Stage, page: str, said: str | None) -> None:
    """With App Service authentication switched off, the headers come from anybody."""
    env = {SIGN_IN: "entra"} | ({} if said is None else {"WEBSITE_AUTH_ENABLED": said})

    answer = visit(stage, env, ANN).answer(page)

    assert answer.status == 401
    if page != "status.json":
        assert "Switch it on" in Page(answer).ids["remedy"]


@pytest.mark.parametrize("said", ["True", "true", " TRUE "])
def test_who_is_signed_in_passes(stage: Stage, said: str) -> None:
    found = visit(stage, ENTRA | {"WEBSITE_AUTH_ENABLED": said}, ANN)

    assert found.open().status == 200
    found.do("pause")
    assert f"entra:{an_id(1)}" in found.open().ids["actions-table"]


@pytest.mark.parametrize("name", ["", "ann@example.invalid", "1", "<script>"])
def test_what_is_no_object_id_is_nobody(stage: Stage, name: str) -> None:
    """Another identity provider may put an address there, which belongs into no log."""
    assert visit(stage, ENTRA, {"x-ms-client-principal-id": name}).answer().status == 401


@pytest.mark.parametrize("said", ["", "key", "Entra", "everybody"])
def test_everything_else_is_the_key_that_the_host_asks_for(stage: Stage, said: str) -> None:
    found = visit(stage, {SIGN_IN: said}, ANN)

    found.do("pause")

    assert found.open().status == 200
    assert "function key" in found.open().ids["actions-table"]


def test_a_probe_needs_nobody(stage: Stage) -> None:
    assert visit(stage, ENTRA, {}).answer("health").status == 503


def levels(**env: str) -> str:
    """What the functions ask the host for, read in a process of its own with *env*."""
    program = (
        "import function_app as f\n"
        "for each in f.app.get_functions():\n"
        "    found = each.get_trigger().get_dict_repr()\n"
        "    if found['type'] == 'httpTrigger': print(each.get_function_name(), found['authLevel'].value.upper())\n"
    )
    command = [sys.executable, "-c", program]
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    return subprocess.run(  # noqa: S603 - our own program
        command, env=bare | env, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize(
    ("said", "level"), [(None, "FUNCTION"), ("key", "FUNCTION"), ("nonsense", "ADMIN"), (" entra ", "ANONYMOUS")]
)
def test_the_host_asks_for_a_key_unless_entra_signs_in(said: str | None, level: str) -> None:
    """For the master key if nobody can tell what is meant; and no value keeps the host from listing the functions."""
    found = levels(**({} if said is None else {SIGN_IN: said}))

    assert found.split() == ["status_page", level, "status_json", level, "health", "ANONYMOUS"]


@pytest.mark.parametrize("provider", ["", "github", "aad,github", "my-own"])
@pytest.mark.parametrize("page", PAGES)
def test_who_is_signed_in_with_another_provider_is_nobody(stage: Stage, page: str, provider: str) -> None:
    """Anybody in the world has an account there; its ids are nothing to us, even if they look like object ids."""
    headers = ANN | {"x-ms-client-principal-idp": provider}

    assert visit(stage, ENTRA, headers).answer(page).status == 401
    assert visit(stage, ENTRA, {"x-ms-client-principal-id": an_id(1)}).answer(page).status == 401


# --- what another website can make a browser ask --------------------------------------------------------------

LINK = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def asked(stage: Stage, page: str, headers: dict[str, str]) -> Page:
    return visit(stage, ENTRA, ANN | headers).open(page)


def asked_elsewhere(page: str, headers: dict[str, str]) -> Page:
    """What it says without a look at anything: whatever costs something needs the engine."""

    def engine() -> Engine:
        raise AssertionError

    site = Site(engine, lambda: None, ENTRA)  # type: ignore[arg-type, return-value]  # asked by nobody
    return Browser(site, code="", headers=ANN | headers).open(page)


@pytest.mark.parametrize("where", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    "how",
    [
        {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-fetch-mode": "cors", "sec-fetch-dest": "empty"},
        {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
        {"sec-fetch-mode": "navigate"},
        {"sec-fetch-dest": "document"},
        {},
    ],
)
def test_what_another_website_makes_a_browser_ask_is_refused_and_costs_nothing(how: dict[str, str], where: str) -> None:
    for page in PAGES:
        found = asked_elsewhere(page, how | {"sec-fetch-site": where})
        assert found.status == 403, page
        assert "comes from another website" in found.html


@pytest.mark.parametrize("where", ["cross-site", "same-site"])
@pytest.mark.parametrize("page", [each for each in PAGES if each])
def test_a_link_on_another_website_costs_nothing_until_somebody_wants_it(stage: Stage, page: str, where: str) -> None:
    found = asked_elsewhere(page, LINK | {"sec-fetch-site": where})

    assert (found.status, found.links["open"]) == (200, "")  # its own address, which is then asked for by our page
    assert 'id="open"' not in asked(stage, page, LINK | {"sec-fetch-site": "same-origin"}).html


@pytest.mark.parametrize("where", ["cross-site", "same-site", "none", "same-origin"])
def test_links_in_chat_and_mail_lead_to_the_page(stage: Stage, where: str) -> None:
    assert "verdict" in asked(stage, "", LINK | {"sec-fetch-site": where}).ids


def test_what_is_typed_or_kept_as_a_bookmark_opens_at_once(stage: Stage) -> None:
    assert "do" in asked(stage, "actions/pause", LINK | {"sec-fetch-site": "none"}).ids


def test_the_page_can_refresh_itself_and_programs_can_read(stage: Stage) -> None:
    own = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}

    assert "verdict" in asked(stage, "", own).ids
    assert asked(stage, "failures", {}).status == 200


# --- where a form comes from ----------------------------------------------------------------------------------


def sent(stage: Stage, **headers: str) -> int:
    browser = Browser(a_site(stage))
    form = browser.open("actions/pause").forms["confirm"]
    browser.headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return browser.send(form).status


@pytest.mark.parametrize(
    "headers",
    [
        {},  # no browser: who has the nonce got it from us
        {"sec_fetch_site": "same-origin", "origin": f"https://{HOST}"},
        {"sec_fetch_site": "same-origin", "origin": "null"},  # as browsers send it under our Referrer-Policy
        {"origin": f"https://{HOST.upper()}"},
        {"sec_fetch_site": "same-origin"},
    ],
)
def test_a_form_of_ours_is_taken(stage: Stage, headers: dict[str, str]) -> None:
    assert sent(stage, **headers) == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
        {"sec_fetch_site": "cross-site", "origin": f"https://{HOST}"},
        {"sec_fetch_site": "same-origin", "origin": "https://evil.test"},
        {"origin": "https://evil.test"},
        {"origin": f"https://{HOST}.evil.test"},
        {"origin": f"https://evil.test/{HOST}"},
        {"origin": "null"},
        {"origin": ""},
    ],
)
def test_a_form_of_another_site_is_refused_and_does_nothing(stage: Stage, headers: dict[str, str]) -> None:
    assert sent(stage, **headers) == 403
    assert stage.world.documents.read("stamp", "pause") is None
