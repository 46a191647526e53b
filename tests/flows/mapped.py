"""A stage with a mapping of its own: lines of sync.toml, custom columns and fields, another mapping while it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sync_core.flows.status import status
from tests.stage import CONFIG, Stage
from tools.emulators.dataverse.administration import columns
from tools.emulators.marketo.catalogue import Field

TEXTUAL = ("string", "email", "phone", "url")


def written(lines: Mapping[str, Sequence[str]], text: str = CONFIG) -> str:
    """*text* with *lines* by table: a line replaces that of the same key, `-key` takes it out."""
    for table, new in lines.items():
        head, body, tail = _cut(text, table)
        gone = {re.split(r"[ =]", line.removeprefix("-"))[0] for line in new}
        kept = [line for line in body.splitlines() if line.split("=")[0].strip() not in gone]
        text = "\n".join([head, *(line for line in new if line[0] != "-"), *kept, tail])
    return text


def _cut(text: str, table: str) -> tuple[str, str, str]:
    found = re.search(rf"^\[{re.escape(table)}\].*$", text, re.MULTILINE)
    if found is None:
        return f"{text}\n[{table}]", "", ""
    rest = text[found.end() :]
    end = re.search(r"^\[", rest, re.MULTILINE)
    return text[: found.end()], rest[: end.start()] if end else rest, rest[end.start() :] if end else ""


def a_stage(rules: str = "", *, page_size: int = 3600, **lines: Sequence[str]) -> Stage:
    """*rules* is text that comes last, such as `[[filter.rule]]`."""
    return Stage(changes={CONFIG: f"{written(lines)}\n{rules}"}, page_size=page_size)


def remap(stage: Stage, rules: str = "", **lines: Sequence[str]) -> None:
    """From now on another sync.toml, the checked-in one with *lines*, as after a deployment: same state."""
    stage.adopt(f"{written(lines)}\n{rules}")


def add_column(stage: Stage, name: str, type: str, table: str = "opportunity", **more: Any) -> None:
    columns(stage.dataverse, {"table": table, "add": [{"name": name, "type": type, **more}]})


def remove_column(stage: Stage, name: str, table: str = "opportunity") -> None:
    columns(stage.dataverse, {"table": table, "remove": [name]})


def add_field(stage: Stage, name: str, type: str = "string", kind: str = "opportunities") -> None:
    limit = 255 if type in TEXTUAL else None
    stage.marketo.add_field(kind, Field(name, type, limit, limit, custom=True))


def remove_field(stage: Stage, name: str, kind: str = "opportunities") -> None:
    """Marketo's support hides it: from then on it is unknown (1006)."""
    fields = stage.marketo.database.kinds[kind]
    del fields.fields[name]
    fields.__post_init__()


def records_sent(stage: Stage, since: int) -> int:
    """Records of all upserts and removals after *since* of the journal, whatever became of them."""
    return sum(call["records"] for call in stage.marketo.journal.since(since) if call["kind"] == "write")


def journal(stage: Stage) -> int:
    """Where Marketo's journal stands now."""
    entries = stage.marketo.journal.entries
    return entries[-1].sequence if entries else 0


def rest(stage: Stage, hours: float = 0) -> None:
    """Sync, and then some time later look at everything again."""
    stage.sync()
    stage.clock.sleep(3600 * hours)
    stage.dataverse.expire_delta_links()
    stage.sync()


def assert_still(stage: Stage, hours: float = 0) -> None:
    """Looking at everything again writes nothing."""
    before = stage.writes()
    rest(stage, hours)
    assert stage.writes() == before


def shown(stage: Stage, key: str, kind: str = "opportunities") -> Mapping[str, Any]:
    name = {"opportunities": "externalOpportunityId", "companies": "externalCompanyId"}[kind]
    return next(row for row in stage.marketo.rows(kind) if row[name] == key)


def mapping_of(stage: Stage) -> Mapping[str, Any]:
    found: Mapping[str, Any] = status(stage.world)["mapping"]
    return found
