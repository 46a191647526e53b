"""What the commands print: any plain value as lines or JSON, and the story of one opportunity."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from sync_core.flows.explain import reason_in_words
from sync_core.model import State


def show(value: Any, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(value, ensure_ascii=False, default=str))
        return
    for line in _lines(value):
        print(line)


def _lines(value: Any, indent: str = "") -> list[str]:
    if isinstance(value, dict):
        lines = []
        for key, item in value.items():
            nested = isinstance(item, dict | list) and item
            lines += [f"{indent}{key}:", *_lines(item, indent + "  ")] if nested else [f"{indent}{key}: {_plain(item)}"]
        return lines
    if isinstance(value, list):
        return [f"{indent}{_plain(item)}" for item in value]
    return [f"{indent}{_plain(value)}"]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None or isinstance(value, dict | list) else str(value)


def story(found: dict[str, Any]) -> str:
    """What `explain` prints for people: at most 80 columns."""
    ledger = found["ledger"]
    lines = [f"Opportunity {found['opportunity']}", f"State: {ledger['state']}"]
    if ledger.get("reason"):
        lines += _wrapped(f"Reason: {ledger['reason']}")
    if ledger.get("next try"):
        lines.append(f"Next try: {ledger['next try']}")
    if not found["found"]:
        gone = found["reported deleted"] or ledger["state"] == State.GONE
        deleted = "It was deleted there." if gone else "Nothing says that it was deleted."
        return "\n".join([*lines, "Dynamics doesn't show this opportunity.", deleted])
    lines += ["", *_wrapped(f"Customer: {found['customer rule']}."), f"Account: {found['account'] or 'none'}"]
    lines += ["", f"Roles ({len(found['roles'])}):" if found["roles"] else "Roles: none"]
    for role in found["roles"]:
        marks = [
            word for word, holds in (("primary", role["primary"]), ("not posted yet", not role["posted"])) if holds
        ]
        lines.append(f"  {role['role']}: person {role['lead']}" + (f" ({', '.join(marks)})" if marks else ""))
        lines += [f"    because: {reason}" for reason in role["because"]]
        lines += [f"    contact {contact}" for contact in role["contacts"]]
    lines += ["", f"Left out ({len(found['left out'])}):" if found["left out"] else "Left out: nobody"]
    for item in found["left out"]:
        lines += [f"  {item['text'] or 'no role'}: {item['who']}", *_wrapped(f"why: {item['why']}", "    ")]
        lines.append(f"    from: {reason_in_words(item['reason'])}")
    lines += ["", "Values:", *(_value(name, value, found["cut"]) for name, value in found["values"].items())]
    if found["unfit"]:
        lines += ["", *_wrapped(f"Can't be posted: {found['unfit']}")]
    return "\n".join(lines)


def _value(name: str, value: Any, cut: list[str]) -> str:
    text = textwrap.shorten(str(value) if value is not None else "-", 50, placeholder=" …")
    return f"  {name}: {text}{' (cut to what Marketo takes)' if name in cut else ''}"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 80, initial_indent=indent, subsequent_indent=indent + "  ")
