"""What the GitHub workflows promise: no secret, no right too many, nothing unpinned, nothing that isn't there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.workflows import FOLDER, ROOT, Script, actionlint, schema, scripts, shellcheck, workflows

FILES = sorted((ROOT / FOLDER).glob("*.yml"))
WORKFLOWS = workflows()
SCRIPTS = list(scripts())
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

SIGNS_IN = {"contents": "read", "id-token": "write", "attestations": "read"}
RIGHTS = {
    ("deploy.yml", "deploy"): SIGNS_IN,
    ("release.yml", "release"): {"contents": "write", "id-token": "write", "attestations": "write"},
    ("release.yml", "deploy-to-test"): SIGNS_IN,
    ("release.yml", "deploy-to-production"): SIGNS_IN,
}
"""The jobs that may do more than read the repository."""

OWN = {"AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID"}
"""What azd itself needs; everything else is a parameter."""


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for file, workflow in WORKFLOWS.items():
        for name, job in workflow["jobs"].items():
            yield file, name, job


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for file, name, job in jobs():
        for step in job.get("steps", ()):
            yield f"{file}, {name}", step


# --- secrets and rights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_workflow_knows_a_secret(path: Path) -> None:
    text = path.read_text()

    assert "secrets" not in text
    assert re.findall(r"(?i)(?:password|client-?secret|creds|publish-profile|api-?key)\b", text) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_workflow_may_only_read_unless_a_job_says_otherwise(path: Path) -> None:
    assert WORKFLOWS[path.name]["permissions"] == {"contents": "read"}


def test_only_the_jobs_that_release_and_deploy_may_do_more() -> None:
    assert {(file, name): job["permissions"] for file, name, job in jobs() if "permissions" in job} == RIGHTS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_pull_request_gets_no_rights_of_ours(path: Path) -> None:
    events = WORKFLOWS[path.name][True]  # what YAML 1.1 makes of `on`

    assert "pull_request_target" not in events
    assert "workflow_run" not in events
    if "pull_request" in events:
        assert not any(file == path.name for file, _ in RIGHTS)


def test_no_checkout_leaves_its_token_behind() -> None:
    checkouts = [(place, step) for place, step in steps() if step.get("uses", "").startswith("actions/checkout@")]

    assert len(checkouts) >= 5
    assert [place for place, step in checkouts if step["with"]["persist-credentials"] is not False] == []


def test_no_script_holds_an_expression() -> None:
    """A title or a name of a branch put into a script would be run; through the environment it is only text."""
    assert [script.place for script in SCRIPTS if "${{" in script.text] == []


def test_every_script_runs_in_a_shell_that_fails_in_the_middle_of_a_pipe() -> None:
    assert {workflow["defaults"]["run"]["shell"] for workflow in WORKFLOWS.values()} == {"bash"}
    assert [place for place, step in steps() if "shell" in step] == []


# --- what is used ---------------------------------------------------------------------------------------------


def test_every_action_is_pinned_to_a_commit_and_says_which_version_that_is() -> None:
    used = [line for path in FILES for line in path.read_text().splitlines() if re.match(r"\s*(- )?uses:", line)]
    foreign = [line for line in used if "uses: ./" not in line]

    assert len(foreign) > 10
    assert [
        line for line in foreign if not re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)
    ] == []


def test_one_action_is_one_version_everywhere() -> None:
    used = {step["uses"] for _, step in steps() if "uses" in step}

    assert len({each.partition("@")[0] for each in used}) == len(used)


def test_every_job_ends_some_time() -> None:
    assert [name for _, name, job in jobs() if "uses" not in job and "timeout-minutes" not in job] == []


def test_every_workflow_called_is_there() -> None:
    called = [job["uses"] for _, _, job in jobs() if "uses" in job]

    assert [each for each in called if not (ROOT / each).is_file()] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.place)
def test_every_target_module_and_template_that_is_used_exists(script: Script) -> None:
    targets = set(re.findall(r"\bmake ([a-z-]+)", script.text))
    modules = set(re.findall(r"\bpython3? -m (tools[\w.]*|sync_core[\w.]*)", script.text))
    templates = set(re.findall(r"[\w/]+\.bicep\b", script.text))

    assert targets <= TARGETS
    assert [name for name in modules if not (ROOT / name.replace(".", "/")).with_suffix(".py").exists()] == []
    assert [name for name in templates if not (ROOT / name).exists()] == []


def test_what_a_pull_request_runs_is_what_the_readme_says() -> None:
    assert "make test" in [step.get("run") for step in WORKFLOWS["test.yml"]["jobs"]["test"]["steps"]]


# --- deployment -----------------------------------------------------------------------------------------------


def deployment() -> dict[str, Any]:
    """The one job that signs in to Azure."""
    (found,) = [job for _, _, job in jobs() if "azd auth login" in str(job)]
    return dict(found)


def test_azure_is_reached_only_with_a_token_of_the_moment_and_from_an_environment() -> None:
    job = deployment()
    (sign_in,) = [script.text for script in SCRIPTS if "azd auth login" in script.text]

    assert "--federated-credential-provider github" in sign_in
    assert job["environment"] == "${{ inputs.environment }}"
    assert WORKFLOWS["deploy.yml"][True]["workflow_dispatch"]["inputs"]["environment"]["options"] == [
        "test",
        "production",
    ]


def test_two_deployments_of_one_environment_never_overlap() -> None:
    assert deployment()["concurrency"] == {"group": "deploy-${{ inputs.environment }}", "cancel-in-progress": False}


def test_a_deployment_takes_the_variables_of_its_environment() -> None:
    (taken,) = [step for step in deployment()["steps"] if "toJSON(vars)" in str(step)]

    assert taken["env"] == {"VARIABLES": "${{ toJSON(vars) }}"}
    assert taken["run"] == 'python3 -m tools.azd_variables >> "$GITHUB_ENV"'
    assert deployment()["env"].keys() == {"VERSION", "AZURE_DEV_COLLECT_TELEMETRY"}


def test_what_is_deployed_is_the_package_of_the_release_from_its_tag() -> None:
    found = deployment()["steps"]
    (checkout,) = [step for step in found if "checkout" in step.get("uses", "")]
    order = [
        next(number for number, step in enumerate(found) if what in str(step))
        for what in ("gh release download", "sha256sum", "gh attestation verify", "azd deploy app --from-package")
    ]

    assert checkout["with"]["ref"] == "refs/tags/${{ inputs.version }}"
    assert order == sorted(order)


def test_what_would_change_is_shown_first_and_a_preview_changes_nothing() -> None:
    found = [step for step in deployment()["steps"] if re.search(r"azd (provision|deploy)|tools\.smoke", str(step))]

    assert "azd provision --preview" in found[0]["run"]
    assert len(found) == 4
    assert {step["if"] for step in found[1:]} == {"${{ !inputs.preview }}"}


def test_production_follows_the_test_environment_and_a_release_follows_the_tests() -> None:
    release = WORKFLOWS["release.yml"]["jobs"]

    assert release["test"]["uses"] == "./.github/workflows/test.yml"
    assert [release[name]["needs"] for name in ("release", "deploy-to-test", "deploy-to-production")] == [
        "test",
        "release",
        "deploy-to-test",
    ]
    assert release["deploy-to-test"]["if"] == "${{ vars.DEPLOY_RELEASES == 'true' }}"


# --- the checkers ---------------------------------------------------------------------------------------------


def written(root: Path, text: str) -> Path:
    (root / FOLDER).mkdir(parents=True)
    (root / FOLDER / "wrong.yml").write_text(text)
    return root


GOOD = "on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: make test\n"


def test_actionlint_finds_what_is_wrong(tmp_path: Path) -> None:
    wrong = written(tmp_path, GOOD.replace("ubuntu-24.04", "${{ matrix.machine }}"))

    assert any('"machine" is not defined' in line for line in actionlint(wrong))


def test_shellcheck_finds_what_is_wrong(tmp_path: Path) -> None:
    wrong = written(tmp_path, GOOD.replace("make test", "rm $HOME/$1"))

    found = shellcheck(wrong)
    assert found
    assert all(line.startswith("wrong.yml, job a, step 1: ") for line in found)


def test_the_schema_finds_what_is_wrong(tmp_path: Path) -> None:
    wrong = written(tmp_path, GOOD.replace("runs-on", "run-on"))

    assert any("run-on" in line for line in schema(wrong))


def test_none_of_them_finds_anything_here() -> None:
    assert [*actionlint(), *shellcheck(), *schema()] == []
