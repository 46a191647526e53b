"""Under what the run-time dependencies may be used: `python -m tools.licences` writes docs/licences.md.

pip-licenses reads what the packages say of themselves, in the environment that holds just them. A licence that is not
in `ALLOWED` writes nothing and is exit code 1: somebody has to read it first.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping

from tools.environments import ROOT, EnvironmentFailed, tool
from tools.package import clean_python

PAGE = ROOT / "docs" / "licences.md"

ALLOWED = {
    "Apache Software License": "Apache-2.0",
    "Apache-2.0": "Apache-2.0",
    "BSD License": "BSD",
    "BSD-2-Clause": "BSD-2-Clause",
    "BSD-3-Clause": "BSD-3-Clause",
    "MIT": "MIT",
    "MIT License": "MIT",
    "MIT-0": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "MPL-2.0": "MPL-2.0",
    "PSF-2.0": "PSF-2.0",
}
"""What packages call their licence, and the short name of it. All of these let us use and deploy the package."""

PARTS = re.compile(r"(?:; | AND | OR )")

HEAD = """# Licences

What is installed beside Opportunity Sync where it runs, and what each package says of its licence. `make licences`
writes this page; a test compares it with the packages, and refuses a licence that nobody has looked at.

| package | licence |
|---|---|
"""


class UnknownLicence(ValueError):
    """A package has a licence that is not in `ALLOWED`; the text names both."""


def said() -> dict[str, str]:
    """The licence of each run-time dependency, in its own words. Raises EnvironmentFailed."""
    command = [tool("licences") / "bin" / "pip-licenses", f"--python={clean_python()}", "--from=mixed", "--format=json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    return {each["Name"]: each["License"] for each in json.loads(done.stdout)}


def page(licences: Mapping[str, str]) -> str:
    """The text of docs/licences.md; raises UnknownLicence."""
    unknown = [
        f"{name}: {licence}" for name, licence in licences.items() if not ALLOWED.keys() >= {*PARTS.split(licence)}
    ]
    if unknown:
        raise UnknownLicence(
            f"Read these licences, then allow them in tools/licences.py or drop the package: {unknown}"
        )
    rows = (f"| {name} | {_short(licences[name])} |\n" for name in sorted(licences, key=str.lower))
    return HEAD + "".join(rows)


def _short(licence: str) -> str:
    return "".join(ALLOWED.get(part, part) for part in re.split(f"({PARTS.pattern})", licence))


def main() -> int:
    try:
        text = page(said())
    except (EnvironmentFailed, UnknownLicence) as error:
        print(error, file=sys.stderr)
        return 1
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {text.count(chr(10)) - HEAD.count(chr(10))} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
