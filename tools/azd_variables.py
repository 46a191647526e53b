"""In the pipeline: the variables of the GitHub environment, as azd wants them: `python -m tools.azd_variables`.

Reads the JSON object in VARIABLES; prints `NAME=value` for each that signs in or that infra/main.parameters.json names.
An empty one is left out: azd takes an empty variable for a value, and the template's default would be lost. Exit code 1
when one is missing that has no default. Needs nothing but Python, since it runs where nothing is installed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

PARAMETERS = Path(__file__).resolve().parent.parent / "infra" / "main.parameters.json"
SIGN_IN = ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID")
REQUIRED = (*SIGN_IN, "AZURE_ENV_NAME", "AZURE_LOCATION", "DATAVERSE_URL", "MARKETO_URL", "MARKETO_CLIENT_ID")


def known() -> tuple[str, ...]:
    """What signs in, and what the templates take."""
    given = json.loads(PARAMETERS.read_text(encoding="utf-8"))["parameters"].values()
    return (*SIGN_IN, *(each["value"].strip("${}") for each in given))


def chosen(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of *variables* that azd gets. Raises ValueError for what is missing, or can't be passed on."""
    found = {name: variables[name].strip() for name in known() if variables.get(name, "").strip()}
    if missing := [name for name in REQUIRED if name not in found]:
        raise ValueError(f"set these variables in the GitHub environment: {', '.join(missing)}")
    if broken := [name for name, value in found.items() if len(value.splitlines()) > 1]:
        raise ValueError(f"these variables have more than one line: {', '.join(broken)}")
    return found


def main() -> int:
    try:
        found = chosen(json.loads(os.environ.get("VARIABLES", "{}")))
    except ValueError as error:
        print(f"::error::{error}", file=sys.stderr)
        return 1
    for name, value in found.items():
        print(f"{name}={value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
