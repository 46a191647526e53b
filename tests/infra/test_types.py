"""Resources whose properties hang on their name, which the checker in `../shared` passes over."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.infra.test_templates import APP, FILES
from tests.shared import FOLDER, needs_shared
from tools.bicep import Declaration

BY_NAME = ("Microsoft.Web/sites/config", "Microsoft.Web/sites/basicPublishingCredentialsPolicies")
OF_BICEP = {"name", "parent", "scope", "dependsOn"}


def by_name() -> list[Declaration]:
    every = [each for file in FILES.values() for each in file.of("resource").values()]
    return [each for each in every if each.type.partition("@")[0] in BY_NAME]


@needs_shared
def test_each_property_is_one_that_azure_knows() -> None:
    assert {each.value["name"] for each in by_name()} == {"appsettings", "authsettingsV2", "ftp", "scm"}
    for each in by_name():
        if each.value["name"] == "authsettingsV2":
            assert each.value["properties"] == "statusSignIn == 'entra' ? signedIn : { platform: { enabled: false } }"
            assert list(unknown(each, {"properties": APP.values("signedIn")})) == []
        else:
            assert list(unknown(each, each.value)) == []


@needs_shared
def test_an_unknown_property_is_seen() -> None:
    (found,) = [each for each in by_name() if each.value["name"] == "authsettingsV2"]
    odd = {"properties": {"globalValidation": {"requireAuthentification": True}}}
    assert list(unknown(found, odd)) == ["properties.globalValidation.requireAuthentification"]


def unknown(found: Declaration, body: Mapping[str, Any]) -> Iterator[str]:
    """The paths in *body* that the type of the resource, by its name, does not have or that can't be written."""
    kind, _, version = found.type.partition("@")
    items = json.loads((FOLDER / f"bicep-types/web/microsoft.web/{version}/types.json").read_text())
    declared = next(each for each in items if each["$type"] == "ResourceType" and each["name"] == f"{kind}@{version}")
    chosen = follow(items, declared["body"])
    fields = chosen["baseProperties"] | follow(items, chosen["elements"][found.value["name"]])["properties"]
    given = {name: value for name, value in body.items() if name not in OF_BICEP}
    yield from _unknown(items, {"properties": fields}, given, "")


def _unknown(items: Sequence[Any], kind: Mapping[str, Any], given: Mapping[str, Any], path: str) -> Iterator[str]:
    if "additionalProperties" in kind:
        return
    for name, value in given.items():
        known = kind["properties"].get(name)
        if known is None or known.get("flags", 0) & 2:  # read-only
            yield path + name
        elif isinstance(value, dict):
            yield from _unknown(items, follow(items, known["type"]), value, f"{path}{name}.")


def follow(items: Sequence[Any], reference: Mapping[str, str]) -> Any:
    return items[int(reference["$ref"].rpartition("/")[2])]


def test_app_settings_are_text() -> None:
    """The platform takes nothing else."""
    for group in (APP.values("settings"), *APP.values("signIns").values()):
        assert all(isinstance(value, str) for value in group.values())
