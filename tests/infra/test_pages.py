"""docs/deploy.md and docs/security.md say what the templates do."""

from __future__ import annotations

import re

from tests.infra.test_templates import MAIN, ROLES, ROOT, assigned
from tools import variables

DEPLOY = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
SECURITY = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")

SCOPES = {"account": "storage account", "vault": "vault", "insights": "Application Insights"}
WHO = {"appPrincipalId": "app", "operatorId": "operators"}


def test_the_table_of_variables_is_current() -> None:
    """`python -m tools.variables` writes it."""
    assert "\n".join(variables.table()) == between(DEPLOY, "variables")


def test_roles_are_told_as_they_are_assigned() -> None:
    rows = re.findall(r"^\| (\w+) \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", between(SECURITY, "roles"), re.MULTILINE)
    told = {row for row in rows if row[0] != "who"}
    assert told == {(WHO[who], role, SCOPES[scope]) for who, role, scope in assigned()}


def test_commands_name_variables_and_outputs_that_exist() -> None:
    known = {line.split("`")[1] for line in variables.table() if line.startswith("| `")}
    assert set(re.findall(r"azd env set ([A-Z_]+)", DEPLOY)) <= known
    assert set(re.findall(r"azd env get-value ([A-Z_]+)", DEPLOY)) <= set(MAIN.of("output")) | {
        "AZURE_SUBSCRIPTION_ID"
    }  # azd's own
    exported = known | set(MAIN.of("output")) | {"MARKETO_CLIENT_SECRET", "SECRET", "ADDRESS"}
    assert set(re.findall(r"\$([A-Z][A-Z_]+)", DEPLOY)) <= exported


def test_secrets_are_called_as_the_templates_look_for_them() -> None:
    text = (ROOT / "infra" / "modules" / "app.bicep").read_text(encoding="utf-8")
    looked_for = set(re.findall(r"\$\{secret\}([a-z-]+)\)", text))
    told = {name for name in looked_for if f"`{name}`" in DEPLOY or f"--name {name}" in DEPLOY}
    assert told == looked_for


def test_the_pipeline_may_assign_exactly_the_roles_of_the_templates() -> None:
    page = (ROOT / "docs" / "development.md").read_text(encoding="utf-8")
    assert set(re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", page)) == set(ROLES)


def between(text: str, mark: str) -> str:
    return text.partition(f"<!-- {mark} -->\n")[2].partition(f"\n<!-- /{mark} -->")[0]
