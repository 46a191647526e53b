"""The variables that a deployment takes, as the table of docs/deploy.md, from the templates themselves.

python -m tools.variables
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.documents import written
from tools.bicep import Declaration, Expression, read

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "deploy.md"


def table() -> Iterator[str]:
    """One row for each parameter of infra/main.bicep, by the variable that azd fills it from."""
    given = json.loads((ROOT / "infra" / "main.parameters.json").read_text(encoding="utf-8"))["parameters"]
    template = read(ROOT / "infra" / "main.bicep")
    ranges = {each["name"]: f" {each['least']} to {each['most']}." for each in template.values("ranges")}
    yield "| variable | meaning | default |\n|---|---|---|"
    for name, param in template.of("param").items():
        variable = given[name]["value"].strip("${}")
        yield f"| `{variable}` | {_meaning(variable, param)}{ranges.get(variable, '')} | {_default(param, given)} |"


def _meaning(variable: str, param: Declaration) -> str:
    text = str(param.decorators["description"]).removeprefix(f"{variable}: ")
    if choices := param.decorators.get("allowed"):
        text += f" One of {', '.join(f'`{each}`' for each in choices)}."
    return text[0].upper() + text[1:]


def _default(param: Declaration, given: Mapping[str, Mapping[str, str]]) -> str:
    if param.value is None:
        return "asked for"
    if isinstance(param.value, Expression):
        other = given.get(param.value)
        return f"as `{other['value'].strip('${}')}`" if other else "the cloud's own"
    return f"`{param.value}`" if param.value else "–"


def main() -> int:
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), {"variables": table}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
