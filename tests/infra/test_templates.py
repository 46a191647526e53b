"""What the templates promise (docs/deploy.md, docs/security.md), read from the Bicep files themselves."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from sync_core.adapters import storage, tables, work_queue
from sync_core.settings import SIGN_INS, Settings, _environment
from tools.bicep import Bicep, Declaration, Expression, read

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
FILES = {path.relative_to(INFRA).as_posix(): read(path) for path in sorted(INFRA.rglob("*.bicep"))}
MAIN = FILES["main.bicep"]
APP = FILES["modules/app.bicep"]
STORAGE = FILES["modules/storage.bicep"]


def each_resource() -> Iterator[tuple[Bicep, Declaration]]:
    for file in FILES.values():
        for found in file.of("resource").values():
            yield file, found


def resource(kind: str) -> dict[str, Any]:
    """The body of the only resource of a type, such as `Microsoft.KeyVault/vaults`."""
    (found,) = [each.value for _, each in each_resource() if each.type.partition("@")[0] == kind]
    return dict(found)


def at(value: Any, path: str) -> Any:
    """What stands at `a.b` of nested dicts."""
    for part in path.split("."):
        value = value[part]
    return value


# --- every file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_it_is_bicep(name: str) -> None:
    assert FILES[name].faults == []


@pytest.mark.parametrize("name", FILES)
def test_every_parameter_says_what_it_is(name: str) -> None:
    undescribed = [each.name for each in FILES[name].of("param").values() if not each.decorators.get("description")]
    assert undescribed == []


def test_api_versions_are_pinned_and_stable() -> None:
    versions = {each.type for _, each in each_resource()}
    preview = {each for each in versions if not re.fullmatch(r"[A-Za-z.]+(/[A-Za-z]+)+@\d{4}-\d\d-\d\d", each)}
    assert preview == {"Microsoft.Insights/diagnosticSettings@2021-05-01-preview"}  # there is no newer one that is not


def test_no_secret_passes_through_a_deployment() -> None:
    for file in FILES.values():
        assert "secure" not in {name for each in file.declarations for name in each.decorators}
        assert not re.search(r"\blist(Keys|AccountSas|ServiceSas|Secrets)?\(", file.text)
    kinds = {each.type.partition("@")[0] for _, each in each_resource()}
    assert "Microsoft.KeyVault/vaults/secrets" not in kinds
    told = " ".join(MAIN.of("output")).lower()
    assert not re.search("secret|password|connection", told)


def test_names_come_from_one_token() -> None:
    assert "uniqueString(subscription().id, environmentName, location)" in MAIN.values("token")
    for name, module in MAIN.of("module").items():
        given = module.value["params"]
        assert "token" in f"{given.get('token', '')}{given.get('name', '')}" or name in {"budget", "workbook"}, name


def test_everything_is_tagged() -> None:
    for _, each in each_resource():
        if "location" in each.value:
            assert "tags" in each.value, each.name
    assert MAIN.values("allTags").endswith("{ 'azd-env-name': environmentName })")
    assert APP.values("app")["tags"] == "union(tags, { 'azd-service-name': 'app' })"


# --- safe by default --------------------------------------------------------------------------------------------------

PROMISES = [
    ("Microsoft.Storage/storageAccounts", "properties.allowSharedKeyAccess", False),
    ("Microsoft.Storage/storageAccounts", "properties.allowBlobPublicAccess", False),
    ("Microsoft.Storage/storageAccounts", "properties.allowCrossTenantReplication", False),
    ("Microsoft.Storage/storageAccounts", "properties.isLocalUserEnabled", False),
    ("Microsoft.Storage/storageAccounts", "properties.minimumTlsVersion", "TLS1_2"),
    ("Microsoft.Storage/storageAccounts", "properties.supportsHttpsTrafficOnly", True),
    ("Microsoft.Storage/storageAccounts", "properties.publicNetworkAccess", "publicAccess"),
    ("Microsoft.Storage/storageAccounts", "properties.networkAcls.defaultAction", "strangers"),
    ("Microsoft.Storage/storageAccounts/blobServices/containers", "properties.publicAccess", "None"),
    ("Microsoft.KeyVault/vaults", "properties.enableRbacAuthorization", True),
    ("Microsoft.KeyVault/vaults", "properties.enableSoftDelete", True),
    ("Microsoft.KeyVault/vaults", "properties.enablePurgeProtection", True),
    ("Microsoft.KeyVault/vaults", "properties.enabledForTemplateDeployment", False),
    ("Microsoft.KeyVault/vaults", "properties.publicNetworkAccess", "publicAccess"),
    ("Microsoft.KeyVault/vaults", "properties.networkAcls.defaultAction", "strangers"),
    ("Microsoft.Insights/components", "properties.DisableLocalAuth", True),
    ("Microsoft.OperationalInsights/workspaces", "properties.features.disableLocalAuth", True),
    ("Microsoft.Web/sites", "properties.httpsOnly", True),
    ("Microsoft.Web/sites", "properties.keyVaultReferenceIdentity", "identityId"),
    # And nothing else: Flex Consumption refuses ftpsState and the like.
    ("Microsoft.Web/sites", "properties.siteConfig", {"minTlsVersion": "1.2"}),
    ("Microsoft.Web/sites", "identity.type", "UserAssigned"),
    (
        "Microsoft.Web/sites",
        "properties.functionAppConfig.deployment.storage.authentication.type",
        "UserAssignedIdentity",
    ),
    ("Microsoft.Web/serverfarms", "sku.name", "FC1"),
]


@pytest.mark.parametrize(("kind", "path", "value"), PROMISES, ids=[f"{kind}.{path}" for kind, path, _ in PROMISES])
def test_safe_by_default(kind: str, path: str, value: object) -> None:
    assert at(resource(kind), path) == value


def test_nobody_deploys_with_a_password() -> None:
    kind = "Microsoft.Web/sites/basicPublishingCredentialsPolicies"
    found = {each.value["name"]: each.value["properties"] for _, each in each_resource() if each.type.startswith(kind)}
    assert found == {"ftp": {"allow": False}, "scm": {"allow": False}}


def test_a_new_app_does_nothing_until_it_is_told_to() -> None:
    assert MAIN.of("param")["live"].value == "false"
    assert APP.values("off") == "live ? 'false' : 'true'"


def test_private_means_every_service_that_the_app_keeps_data_in() -> None:
    targets = FILES["modules/network.bicep"].values("targets")
    assert {each["name"] for each in targets} == {"blob", "queue", "table", "vault"}
    assert {each["id"] for each in targets if each["name"] != "vault"} == {"storageId"}
    for file in (STORAGE, FILES["modules/vault.bicep"]):
        assert file.values("publicAccess") == "privateNetwork ? 'Disabled' : 'Enabled'"
        assert file.values("strangers") == "privateNetwork ? 'Deny' : 'Allow'"
    assert APP.values("app")["properties"]["virtualNetworkSubnetId"] == "empty(subnetId) ? null : subnetId"


# --- the app settings -------------------------------------------------------------------------------------------------

ALWAYS = APP.values("settings")
SIGN_IN = APP.values("signIns")
SOMETIMES = APP.values("webhook") | APP.values("visitors")
GIVEN = {**ALWAYS, **{name: value for each in SIGN_IN.values() for name, value in each.items()}, **SOMETIMES}
KNOWN = {_environment(each.name) for each in fields(Settings) if each.name != "doubts"}

OF_THE_HOST = {"AzureWebJobsStorage__credential", "OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID"}
NOT_IN_AZURE = {"AzureWebJobsStorage"}  # a connection string holds a key, and the account takes none


def test_every_setting_that_the_code_knows_is_set() -> None:
    assert set(GIVEN) & KNOWN == KNOWN - NOT_IN_AZURE


def test_no_setting_is_unknown() -> None:
    switches = {f"AzureWebJobs.{name}.Disabled" for name in background_functions()}
    assert set(GIVEN) - KNOWN == switches | OF_THE_HOST | told_in_telemetry() - KNOWN


def background_functions() -> set[str]:
    """What a timer or a queue starts."""
    tree = ast.parse((ROOT / "function_app.py").read_text())
    found = {}
    for each in tree.body:
        if isinstance(each, ast.FunctionDef) and each.decorator_list:
            found[each.name] = ast.unparse(each.decorator_list[0])
    return {name for name, how in found.items() if "timer_trigger" in how or "queue_trigger" in how}


def told_in_telemetry() -> set[str]:
    text = (ROOT / "docs" / "telemetry.md").read_text()
    return set(re.findall(r"^\| `([A-Z_]+)` \| ", text, re.MULTILINE))


def test_telemetry_is_switched_on_as_its_page_says() -> None:
    text = (ROOT / "docs" / "telemetry.md").read_text()
    told = dict(re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)` \|", text, re.MULTILINE))
    assert len(told) > 8
    assert {name: str(ALWAYS[name]) for name in told} == told


def test_defaults_are_those_of_the_code() -> None:
    defaults = {
        _environment(each.name): each.default
        for each in fields(Settings)
        if each.default is not MISSING and each.name != "doubts"
    }
    # Of the public cloud, which the code takes for granted; the template takes that of the cloud it is deployed to.
    authority = MAIN.of("param")["dataverseAuthorityHost"]
    assert authority.value == "environment().authentication.loginEndpoint"
    checked = set()
    for param in MAIN.of("param").values():
        name = str(param.decorators["description"]).partition(":")[0]
        if name in defaults and param is not authority:
            assert param.value == str(defaults[name] or ""), name
            checked.add(name)
    assert checked >= {"MARKETO_CALLS_PER_20S", "MARKETO_CONCURRENCY", "MARKETO_DAILY_CALLS", "SYNC_SCHEDULE"}


def test_limits_are_those_of_the_code() -> None:
    assert MAIN.of("param")["statusSignIn"].decorators["allowed"] == list(SIGN_INS)
    for each in MAIN.values("ranges"):
        if each["name"] in KNOWN:
            assert complaints(each["name"], each["least"]) == []
            assert complaints(each["name"], each["least"] - 1) != []
            assert complaints(each["name"], each["most"]) == []
            assert complaints(each["name"], each["most"] + 1) != []


def complaints(name: str, value: int) -> list[str]:
    """What the code says of a setting with that value."""
    _, problems = Settings.read({name: str(value)})
    return [each.text for each in problems if each.setting == name]


def test_what_is_no_number_or_switch_is_refused_instead_of_becoming_the_default() -> None:
    """azd leaves out what it can't make a bool or an int of; as text it reaches the template."""
    assert {each.type for each in MAIN.of("param").values()} == {"string"}
    counted = {str(each["value"]) for each in MAIN.values("ranges")}
    assert counted >= set(re.findall(r"\bint\((\w+)\)", MAIN.text)) - {"instanceMemoryMB"}
    assert counted >= {name for name, each in MAIN.of("param").items() if str(each.value).isdigit()} - {
        "instanceMemoryMB"
    }
    switches = set(re.findall(r"\bbool\((\w+)\)", MAIN.text))
    allowed = {name: each.decorators.get("allowed") for name, each in MAIN.of("param").items()}
    assert {name for name, choices in allowed.items() if choices == ["false", "true"]} == switches
    assert allowed["instanceMemoryMB"] == ["512", "2048", "4096"]


def test_each_way_to_sign_in_to_dynamics_is_complete_for_the_code() -> None:
    """What the template sets in each of them raises no complaint; Key Vault references stand for what they lead to."""
    assert list(SIGN_IN) == MAIN.of("param")["dataverseSignIn"].decorators["allowed"]
    for each in SIGN_IN.values():
        env = {name: name for name in {**ALWAYS, **each} if name in KNOWN}
        env |= dict.fromkeys([name for name in env if name.endswith(("URL", "Uri", "HOST"))], "https://a.example")
        env |= {name: "1" for name in env if name.startswith("MARKETO_C") and "CLIENT" not in name}
        env |= {"MARKETO_DAILY_CALLS": "1", "MARKETO_LATE_WRITE_S": "1", "STATUS_SIGN_IN": "key", "SYNC_TELEMETRY": ""}
        env |= {"DATAVERSE_CLIENT_SECRET_EXPIRES": ""}
        Settings.from_env(env)


def test_secrets_are_references_to_the_vault() -> None:
    secrets = {"MARKETO_CLIENT_SECRET", "DATAVERSE_CLIENT_SECRET", "DATAVERSE_CLIENT_CERTIFICATE", "ALERT_WEBHOOK_URL"}
    hidden = {_environment(each.name) for each in fields(Settings) if not each.repr}
    assert hidden - NOT_IN_AZURE - {"APPLICATIONINSIGHTS_CONNECTION_STRING"} == secrets
    assert APP.values("secret") == "@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/"
    for name in secrets:
        assert re.fullmatch(r"\$\{secret\}[a-z-]+\)", GIVEN[name]), name


# --- what exists, and who may what ------------------------------------------------------------------------------------


def test_queues_and_tables_are_those_of_the_code() -> None:
    assert sorted(STORAGE.values("queueNames")) == sorted(work_queue.QUEUES.values())
    opened = re.findall(r'\btable\("(\w+)"\)', Path(storage.__file__).read_text())
    assert len(opened) == 8
    assert sorted(STORAGE.values("tableNames")) == sorted(opened)


ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": storage.BLOB_ROLE,
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": work_queue.ROLE,
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": tables.ROLE,
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7": "Key Vault Secrets Officer",
}
"""Built-in roles of Azure, by their ids (azure.md §4)."""


def assigned() -> set[tuple[str, str, str]]:
    """Every role assignment of the templates: whose, which, on what."""
    found = set()
    for file, each in each_resource():
        if not each.type.startswith("Microsoft.Authorization/roleAssignments@"):
            continue
        body, names = each.value, file.of("var")
        loop = re.match(r"\[for role in (\w+):", each.when)
        roles = re.findall(r"[\w-]+", str(names[loop[1]].value)) if loop else [re.findall(r"\w+", body["name"])[-1]]
        for role in set(roles) - {"empty", "operatorId"}:
            found.add((str(body["properties"]["principalId"]), ROLES[names[role].value], str(body["scope"])))
    return found


def test_role_assignments_are_exactly_those_that_the_code_needs() -> None:
    assert assigned() == {
        ("appPrincipalId", storage.BLOB_ROLE, "account"),
        ("appPrincipalId", work_queue.ROLE, "account"),
        ("appPrincipalId", tables.ROLE, "account"),
        ("appPrincipalId", "Monitoring Metrics Publisher", "insights"),
        ("appPrincipalId", "Key Vault Secrets User", "vault"),
        ("operatorId", work_queue.ROLE, "account"),
        ("operatorId", tables.ROLE, "account"),
        ("operatorId", "Key Vault Secrets Officer", "vault"),
    }


def test_without_operators_nobody_but_the_app_gets_a_role() -> None:
    assert MAIN.of("param")["operatorId"].value == ""
    assert STORAGE.values("operatorRoles") == "empty(operatorId) ? [] : [queueDataContributor, tableDataContributor]"
    assert FILES["modules/vault.bicep"].of("resource")["operatorsWrite"].when == "if (!empty(operatorId))"


# --- scale, and what azd passes ---------------------------------------------------------------------------------------


def test_instances_follow_from_what_marketo_takes() -> None:
    assert MAIN.of("param")["maximumInstanceCount"].value == Expression("marketoConcurrency")
    scale = at(resource("Microsoft.Web/sites"), "properties.functionAppConfig.scaleAndConcurrency")
    assert scale == {"maximumInstanceCount": "maximumInstanceCount", "instanceMemoryMB": "instanceMemoryMB"}
    given = MAIN.values("app")["params"]
    assert (given["maximumInstanceCount"], given["instanceMemoryMB"]) == (
        "int(maximumInstanceCount)",
        "int(instanceMemoryMB)",
    )


def test_every_parameter_can_be_set_with_azd() -> None:
    """Those without a default are asked for by `azd up`."""
    given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    assert set(given) == set(MAIN.of("param"))
    for name, each in given.items():
        assert re.fullmatch(r"\$\{[A-Z0-9_]+\}", each["value"]), name
    asked = {name for name, each in MAIN.of("param").items() if each.value is None}
    assert asked == {"environmentName", "location", "dataverseUrl", "marketoUrl", "marketoClientId"}


def test_what_contradicts_itself_stops_the_deployment_at_its_first_resource() -> None:
    assert MAIN.values("group")["tags"] == "empty(wrong) ? allTags : fail(join(wrong, ' '))"
    given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    variables = {each["value"].strip("${}") for each in given.values()}
    parts = re.findall(r"\w+", MAIN.values("wrong").removeprefix("concat"))
    for part in parts:
        named = set(re.findall(r"[A-Z]+(?:_[A-Z]+)+", MAIN.values(part))) or {
            each["name"] for each in MAIN.values("ranges")
        }
        assert named, part
        assert named <= variables, part
    for name, module in MAIN.of("module").items():
        assert module.value["scope"] == "group", name


def test_what_is_called_as_a_setting_is_passed_as_that_setting() -> None:
    given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    for name, each in MAIN.of("param").items():
        setting = str(each.decorators["description"]).partition(":")[0]
        if setting in KNOWN:
            assert given[name]["value"] == f"${{{setting}}}"


def test_outputs_are_what_a_command_line_reads() -> None:
    outputs = set(MAIN.of("output"))
    assert {"DATAVERSE_URL", "MARKETO_URL", "MARKETO_CLIENT_ID"} <= outputs
    assert {each for each in outputs if "__" in each} <= KNOWN
    of_azure = {"AZURE_RESOURCE_GROUP", "FUNCTION_APP", "STATUS_PAGE", "KEY_VAULT"}
    made = of_azure | {"IDENTITY_CLIENT_ID", "IDENTITY_PRINCIPAL_ID"} | {each for each in outputs if "__" in each}
    given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    variables = {each["value"].strip("${}"): name for name, each in given.items()}
    for name in outputs - made:
        assert MAIN.of("output")[name].value == variables[name], "what came in under this name"


def test_what_another_machine_must_not_lose_comes_back_with_azd_env_refresh() -> None:
    """But for limits, logs and hosting, whose defaults may change with a version."""
    outputs = set(MAIN.of("output"))
    given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    lost = {each["value"].strip("${}") for each in given.values()} - outputs
    tuning = {each["name"] for each in MAIN.values("ranges")}
    assert lost - tuning == {
        *("AZURE_ENV_NAME", "AZURE_LOCATION", "TAGS", "SYNC_SCHEDULE", "SYNC_CONFIG", "BUDGET_START"),
        *("DATAVERSE_AUTHORITY_HOST", "DATAVERSE_CLIENT_SECRET_EXPIRES"),
        *("FUNCTIONS_PYTHON_VERSION", "INSTANCE_MEMORY_MB"),
    }
