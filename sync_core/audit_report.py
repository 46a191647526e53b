"""What an audit found, for people and for files: a screen, a page of HTML that needs nothing else, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from sync_core.flows.audit import DIFFERENT, EXTRA, FORGOTTEN, LATER, MISSING, TOLD
from sync_core.rules.words import counted, wrapped

OBJECTS = ("opportunities", "roles", "companies", "sales persons")
WHATS = (MISSING, EXTRA, DIFFERENT)
MEANS = {
    MISSING: "Dynamics demands it, Marketo lacks it",
    EXTRA: "ours in Marketo, and Dynamics no longer demands it",
    DIFFERENT: "on both sides, with other values or roles",
    LATER: "changed in Dynamics, and the sync has not come to it or knows why it can't; no difference yet",
}


def headline(found: Mapping[str, Any]) -> str:
    """The result in one line."""
    what = f"{counted(found['compared'].get('opportunities', 0), 'opportunity', 'opportunities')} compared"
    if "sample" in found:
        what += ", chosen by chance"
    if not found["complete"]:
        return f"Not complete: {what} so far. The next `audit` goes on from there."
    later = f"; {found[LATER]:,} on their way" if found[LATER] else ""
    if "of these still different" in found:
        left = f"{found['of these still different']:,} of {counted(found['differences'], 'difference')} left"
        return f"{left}, of the audit of {found['audit'][:10]}: {what}."
    if number := found["differences"]:
        return f"{counted(number, 'difference')}: {what}{later}."
    if later or found[FORGOTTEN] or found["not compared"]:
        return f"No difference in what could be compared: {what}{later}."
    return f"Marketo holds what Dynamics demands: {what}, no difference."


def in_words(found: Mapping[str, Any], first: Iterable[Mapping[str, Any]]) -> str:
    """A screen, at most 80 columns."""
    lines = wrapped(headline(found))
    lines += ["", f"{'':<15}{'compared':>10}{'missing':>10}{'extra':>10}{'different':>10}"]
    for name in found["compared"]:
        numbers = "".join(f"{found[name][what]:>10,}" for what in WHATS)
        lines.append(f"{name.capitalize():<15}{found['compared'][name]:>10,}{numbers}")
    lines.append("")
    for name in TOLD:
        lines += wrapped(f"{name.capitalize()}: {found[name]:,}") if found[name] else []
    for state, reasons in found["known to be out of step"].items():
        for reason, number in reasons.items():
            lines += wrapped(f"Known, {state}: {number:,} × {reason}")
    for name, why in found["left alone"].items():
        lines += wrapped(f"Not compared, since it is left alone: {name}: {why}")
    for name, number in found["counters that are wrong"].items():
        lines += wrapped(f"Counter that is wrong: {name}: {number:+,}")
    lines += ["", *_sums(found["sums"])] if found["sums"] else []
    lines += ["", f"From {found['audit'][:19]}Z to {found['until'][:19]}Z, {found['Marketo calls']:,} Marketo calls."]
    told = [line for each in first for line in _told(each)]
    return "\n".join([*lines, *(["", "The first differences:"] if told else []), *told])


def _sums(sums: Iterable[Mapping[str, Any]]) -> list[str]:
    """By stage; the months are in the report."""
    stages: dict[str, list[float]] = {}
    for line in sums:
        total = stages.setdefault(line["stage"], [0, 0.0, 0, 0.0])
        for place, side in enumerate(("Dynamics", "Marketo")):
            total[2 * place] += line[side]["count"]
            total[2 * place + 1] += line[side]["amount"]
    head = f"{'Stage':<18}{'Dynamics':>10}{'amount':>20}{'Marketo':>10}{'amount':>20}"
    rows = [f"{name[:17]:<18}{a:>10,.0f}{b:>20,.2f}{c:>10,.0f}{d:>20,.2f}" for name, (a, b, c, d) in stages.items()]
    return [head, *rows]


def _told(each: Mapping[str, Any]) -> list[str]:
    lines = [f"{each['what']}: {each['object']} {each['id']}"]
    for name, sides in each.get("fields", {}).items():
        lines += wrapped(f"{name}: Marketo {_value(sides['Marketo'])}, Dynamics {_value(sides['Dynamics'])}", "  ")
    for what, roles in each.get("roles", {}).items():
        lines += wrapped(f"role {what}: " + "; ".join(f"{r['role']}, person {r['person']}" for r in roles), "  ")
    return lines


def _value(value: Any) -> str:
    return "nothing" if value in (None, "") else str(value)


def write_json(found: Mapping[str, Any], mapping: str, differences: Iterable[Mapping[str, Any]], out: TextIO) -> None:
    """`{the summary, "sync.toml": text, "every difference": [one a line]}`."""
    out.write(json.dumps({**found, "sync.toml": mapping}, ensure_ascii=False)[:-1] + ', "every difference": [')
    for number, each in enumerate(differences):
        out.write((",\n" if number else "\n") + json.dumps(each, ensure_ascii=False))
    out.write("\n]}\n")


def write_html(found: Mapping[str, Any], mapping: str, differences: Iterable[Mapping[str, Any]], out: TextIO) -> None:
    """One page with everything in it, written as it is made."""
    from sync_core.pages import environment  # the other commands need no templates, and start without them

    template = environment().get_template("audit.html")
    page = template.stream(
        found=found,
        headline=headline(found),
        mapping=mapping,
        differences=differences,
        objects=[name for name in OBJECTS if name in found["compared"]],
        whats=WHATS,
        means=MEANS,
        value=_value,
    )
    page.enable_buffering(100)
    out.writelines(page)
