"""What the commands print: any plain value as lines or JSON; for people the story of one opportunity and the plan."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sync_core.flows.explain import reason_in_words
from sync_core.flows.failures import KINDS, Failure
from sync_core.flows.plan import PERSON
from sync_core.flows.validate import Check, Light
from sync_core.model import LEFT_OUT, State
from sync_core.rules.words import counted, lasting, numbered
from sync_core.rules.words import wrapped as _wrapped

WIDTH = 80
GROUPS = 8  # reasons that `status` shows
LAST_RUNS = 5
STAYING = 20  # records that `cleanup` names


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
            lines += (
                [f"{indent}{key}:", *_lines(item, indent + "  ")]
                if nested
                else _wrapped(f"{key}: {_plain(item)}", indent)
            )
        return lines
    if isinstance(value, list):
        return [line for item in value for line in _wrapped(_plain(item), indent)]
    return _wrapped(_plain(value), indent)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in (None, "") or isinstance(value, dict | list) else str(value)


def complain(text: str) -> None:
    """To stderr, for people."""
    print("\n".join(_wrapped(text)), file=sys.stderr)


def not_in_step(groups: Mapping[tuple[str, str, str], int], first: Sequence[Failure]) -> str:
    """What `failures list` prints for people: at most 80 columns."""
    lines: list[str] = []
    for (kind, state, reason), number in groups.items():
        lines += _wrapped(f"{number:,} × {kind}, {state}: {reason}")
    lines += ["", f"The first {len(first)}:"] if first else []
    for each in first:
        due = f", next try {each.due}" if each.due else ""
        lines += [f"  {each.id}  {KINDS[each.kind]}", *_wrapped(f"{each.state}{due}: {each.reason}", "    ")]
    return "\n".join(lines)


def standing(found: Mapping[str, Any]) -> str:
    """What `status` prints for people, what matters first; at most 80 columns, and about a screen at any size."""
    lines = _wrapped(found["verdict"]["text"])
    lines += ["", "Needs you:"] if found["needs you"] else []
    for each in found["needs you"]:
        lines += _wrapped(f"- {each}", "  ")
    oldest, last = found["oldest change not in Marketo"]["seconds"], found["last tick"]["seconds"]
    takes_over = ", taking over what an earlier version stored" if found["taking over"] else ""
    lines += ["", f"Version: {found['version']}{takes_over}"]
    lines.append(f"Last tick: {'never' if last is None else f'{lasting(last)} ago'}")
    lines.append(f"Oldest change not in Marketo: {'none' if oldest is None else f'{lasting(oldest)} old'}")
    for what in ("opportunities", "companies", "sales persons"):
        lines += _wrapped(f"{what.capitalize()}: {_numbers(found[what])}") if what in found else []
    groups = found["not in step"]
    lines += ["", "Waiting, parked, held:"] if groups else []
    for each in groups[:GROUPS]:
        lines += _wrapped(f"{each['count']:,} × {each['kind']}, {each['state']}: {each['reason']}", "  ")
    lines += [f"  {len(groups) - GROUPS} reasons more: `failures list`"] if len(groups) > GROUPS else []
    missing = found["people missing"]
    if missing["roles"]:
        who = "people, not counted yet" if missing["people"] is None else counted(missing["people"], "person", "people")
        lines += _wrapped(f"Missing in Marketo: {who}; {counted(missing['roles'], 'role')} wait for them")
    lines += ["", *_wrapped(f"Queues (about): {_numbers(found['queues (about)'])}")]
    for lane, about in found["lanes (about)"].items():
        lines += _wrapped(f"{lane}: {_lane(about)}", "  ") if about["messages"] else []
    lines.append("Feeds:")
    for table, feed in found["feeds"].items():
        age = "" if feed["seconds"] is None else f", link taken {lasting(feed['seconds'])} ago"
        days = f", good for {feed['retention days']} days" if feed["retention days"] else ""
        lines += _wrapped(f"{table}: {feed['mode']}{age}{days}", "  ")
    calls = found["Marketo calls"]
    everybody, quota = calls["subscription today"], calls["subscription's quota"]
    told = "" if everybody is None else f"; everybody's: {everybody:,} of {quota:,}, {_asked(calls, found['at'])}"
    lines += _wrapped(f"Marketo calls today: {calls['used today']:,} of our {calls['our share']:,}{told}")
    lines += _wrapped(f"Probe: {_probed(found['probe'])}")
    lines += ["Mapping:", *_lines(found["mapping"], "  ")]
    lines += ["Last runs:"] if found["runs"] else []
    for run in [each for each in found["runs"] if not each.get("quiet")][:LAST_RUNS]:
        did = run["trouble"] or _numbers(run["counts"]) or "nothing to do"
        lines += _wrapped(f"{run['at'][11:19]}Z {run['what']}, {run['seconds']} s: {did}", "  ")
    if idle := next((each for each in found["runs"] if each.get("quiet")), None):
        lines.append(f"  {idle['at'][11:19]}Z detect: {counted(idle['quiet'], 'tick')} with nothing to do")
    lines += ["Last actions:"] if found["actions"] else []
    for action in found["actions"][:LAST_RUNS]:
        lines += _wrapped(f"{action['at'][:16]}Z {action['who']}: {action['what']}", "  ")
    return "\n".join(lines)


def _asked(calls: Mapping[str, Any], at: str) -> str:
    """How old the figure of what everybody used is: it is asked for once an hour, ours is of the moment."""
    age = lasting((datetime.fromisoformat(at) - datetime.fromisoformat(calls["counted"])).total_seconds())
    return f"asked {age} ago{', before our last calls' if calls['used today'] > calls['subscription today'] else ''}"


def _probed(found: Mapping[str, Any]) -> str:
    if found["at"] is None:
        return "never run; what Marketo's documentation leaves open is not known here"
    return f"{counted(found['answered'], 'question')} answered in {found['munchkin']}, last on {found['at'][:10]}"


def _numbers(counts: Mapping[str, Any]) -> str:
    told = [numbered(number, name) for name, number in counts.items() if number]
    return ", ".join(told) if told else "none"


def _lane(about: Mapping[str, int | None]) -> str:
    records, pace, minutes = (about[each] for each in ("records", "records a minute lately", "minutes until empty"))
    told = [f"about {counted(about['messages'] or 0, 'message')}"]
    told += [f"{records:,} records"] if records is not None else []
    told += [f"{pace:,} a minute lately"] if pace is not None else []
    told += [f"empty in {counted(minutes, 'minute')}"] if minutes is not None else []
    return ", ".join(told)


def farewell(found: Mapping[str, Any]) -> str:
    """What `cleanup` prints for people: at most 80 columns."""
    if why := found.get("nothing to remove"):
        return "\n".join(_wrapped(f"There is nothing to remove: {why}."))
    plans = "would be removed" in found
    numbers = found["would be removed" if plans else "removed"]
    lines = _wrapped(f"Marketo subscription {found['subscription']}")
    lines += _wrapped(f"{'To be removed' if plans else 'Removed now'}: {_numbers(numbers)}")
    lines += _wrapped(f"Made by us: what Marketo made from {found['made from']} to {found['to']}, under our keys")
    lines += ["", "Stays in Marketo:"]
    for what, reasons in found["stays"].items():
        for why, number in reasons.items() if isinstance(reasons, Mapping) else ():
            lines += _wrapped(f"{number:,} {what}: {why}", "  ")
    lines += _wrapped(found["stays"]["people"], "  ")
    listed = found["listed"]
    lines += ["", f"The first {len(listed[:STAYING])} of these:"] if listed else []
    for each in listed[:STAYING]:
        lines += _wrapped(f"{each['id']} ({each['kind']}): {each['why']}", "  ")
    if not plans:
        return "\n".join([*lines, "", *_wrapped(f"Then: {found['then']}")])
    calls = found["Marketo calls"]
    text = f"Marketo calls: {calls['to write']:,} to write, {calls['to read, at least']:,} or more to read; "
    lines += ["", *_wrapped(text + _lasting(calls))]
    if messages := found["queue messages"]:
        lines += _wrapped(f"Besides, what {counted(messages, 'queue message')} may have sent is looked for.")
    lines += ["Marketo will log:", *(line for text in found["Marketo will log"] for line in _wrapped(text, "  "))]
    return "\n".join([*lines, "", "Nothing was changed. To do it:", f"  {found['to do it']}"])


def held_removals(found: Sequence[Mapping[str, Any]], number: int, approved: int) -> str:
    """What `approve-removals` prints for people: what is held, by reason; at most 80 columns."""
    on_their_way = f"{counted(approved, 'approved removal')} will go with the next delivery"
    if not number:
        told = f"No removal waits for approval; {on_their_way}. To queue them again: approve-removals --yes"
        return "\n".join(_wrapped(told if approved else "Nothing is held."))
    lines = [on_their_way] if approved else []
    for reason in dict.fromkeys(each["reason"] for each in found):
        of_reason = [each for each in found if each["reason"] == reason]
        lines += _wrapped(f"{counted(len(of_reason), 'opportunity', 'opportunities')}, {reason}:")
        for each in of_reason:
            gone = "" if each["in Dynamics"] else ", not in Dynamics any more"
            lines.append(f"  {each['id']}  {counted(each['roles'], 'role')}{gone}")
            lines += [] if each["name"] is None else [_short("    ", each["name"] or "without a name")]
    if number > len(found):
        lines.append(f"and {number - len(found):,} more: --limit names them")
    return "\n".join([*lines, "To let them pass: approve-removals --yes, or with the ids of some"])


def story(found: dict[str, Any]) -> str:
    """What `explain` prints for people: at most 80 columns."""
    ledger = found["ledger"]
    lines = [f"Opportunity {found['opportunity']}", f"State: {ledger['state']}"]
    if ledger.get("reason") and ledger["reason"] != found.get("filter"):
        lines += _wrapped(f"Reason: {ledger['reason']}")
    if ledger.get("next try"):
        lines.append(f"Next try: {ledger['next try']}, after {ledger['attempts']} before")
    if not found["found"]:
        gone = found["reported deleted"] or ledger["state"] == State.GONE
        deleted = "It was deleted there." if gone else "Nothing says that it was deleted."
        there = f"Marketo {'still holds' if found['in Marketo'] else 'does not hold'} it."
        lines += ["Dynamics doesn't show this opportunity.", deleted, there]
        lines += [f"  role in Marketo: {text}, person {lead}" for lead, text in found["roles in Marketo"]]
        return "\n".join([*lines, *_posts(found["history"])])
    if found["filter"]:
        lines += _wrapped(f"Left out, {found['filter']}")
        lines.append("Nothing of it is posted; what follows is what would be.")
    lines += ["", *_wrapped(f"Customer: {found['customer rule']}."), f"Account: {found['account'] or 'none'}"]
    lines += _reference("Company", found["company"]) + _reference("Sales person", found["sales person"])
    lines += ["", *_roles(found)]
    lines += ["", f"Left out ({len(found['left out'])}):" if found["left out"] else "Left out: nobody"]
    for item in found["left out"]:
        lines += _wrapped(f"{item['text'] or 'no role'}: {item['who']}", "  ") + _wrapped(f"why: {item['why']}", "    ")
        lines.append(f"    from: {reason_in_words(item['reason'])}")
    there = (
        "Marketo holds the same, but where it is said"
        if found["in Marketo"]
        else f"Marketo does not hold it{_yet(found)}"
    )
    lines += ["", f"Values ({there}):"]
    for name, field in found["fields"].items():
        lines += _field(name, field)
    for name, why in found["left alone"].items():
        lines += _wrapped(f"{name}: left alone, {why}", "  ")
    if found["unfit"]:
        lines += ["", *_wrapped(f"Can't be posted: {found['unfit']}")]
    lines += _posts(found["history"])
    lines += ["", "As read in Dynamics:", *(_short(f"  {name}: ", value) for name, value in found["row"].items())]
    return "\n".join(lines)


def _posts(history: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["", "Last posts:"] if history else []
    for post in history:
        lines.append(f"  {post['at'][:19]}Z")
        for name, field in post["fields"].items():
            was = "first post kept" if field["first"] else _before(field["was"])
            lines.append(_short(f"    {name}: {was} → "[: WIDTH - 20], field["now"]))
    return lines


def _before(value: Any) -> str:
    """An earlier value, as the head of the line that names the later one."""
    return textwrap.shorten(_plain(value), 24, placeholder=" …")


def _reference(what: str, found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    reason = f", {found['reason']}" if found.get("reason") else ""
    there = "in Marketo" if found["in Marketo"] else "not in Marketo"
    return [f"{what} {found['id']}:", *_wrapped(f"{there}; {found['state']}{reason}", "  ")]


def _roles(found: dict[str, Any]) -> list[str]:
    lines = [f"Roles ({len(found['roles'])}):" if found["roles"] else "Roles: none"]
    for role in found["roles"]:
        marks = [
            word
            for word, holds in (("primary", role["primary"]), (f"not posted{_yet(found)}", not role["posted"]))
            if holds
        ]
        marked = f" ({', '.join(marks)})" if marks else ""
        lines += _wrapped(f"{role['role']}: person {role['lead']}{marked}", "  ")
        lines += [f"    because: {reason}" for reason in role["because"]]
        lines += [f"    contact {contact}" for contact in role["contacts"]]
    for match in found["several people"]:
        people = ", ".join(map(str, match["people"]))
        lines += _wrapped(f"one contact matches several people: {people}; taken: {match['taken'] or 'none'}", "  ")
    wanted = {(role["lead"], role["role"].casefold()) for role in found["roles"]}
    for lead, text in found["roles in Marketo"]:
        if (lead, text.casefold()) not in wanted:
            lines += _wrapped(f"also in Marketo: {text}, person {lead}", "  ")
    return lines


def _yet(found: dict[str, Any]) -> str:
    return "" if found["filter"] else " yet"


def _field(name: str, field: dict[str, Any]) -> list[str]:
    lines = [_short(f"  {name}: ", field["value"]), *_wrapped(f"from {field['from']}", "    ")]
    if field["cut from"]:
        lines.append(f"    cut from {field['cut from']} characters to what Marketo takes")
    if field["converted from"] is not None:
        lines.append(_short("    converted from ", field["converted from"]))
    if field["differs"]:
        lines.append(_short("    Marketo holds ", field["in Marketo"]))
    return lines


def _short(head: str, value: Any) -> str:
    """*head* and as much of *value* as fits on the line; blanks within it don't matter here."""
    text = " ".join((_plain(value) if not isinstance(value, str) else value).split())
    head = head[: WIDTH - 20]
    return head + (text if len(text) <= WIDTH - len(head) else f"{text[: WIDTH - len(head) - 2]} …")


def outlook(found: dict[str, Any]) -> str:
    """What `plan` prints for people: at most 80 columns."""
    lines = _wrapped(f"Paused since {found['paused']}: sync does nothing until `resume`.") if "paused" in found else []
    if "sync refuses to start" in found:
        lines += _wrapped(f"sync refuses to start: {found['sync refuses to start']}.")
    lines += ["sync would do this now; nothing was written:", *_part(found)]
    for when in ("once what waits is due", "only after `backfill`"):
        if when in found:
            lines += ["", f"Besides, {when}:", *_part(found[when])]
    for state, reasons in found.get("stays as it is", {}).items():
        lines += ["", f"Already {state}:", *_reasons(reasons)]
    if "neither shown nor reported deleted" in found:
        lines += ["", *_wrapped(f"{found['neither shown nor reported deleted']:,} not shown, nor reported deleted")]
    if "messages on the queue" in found:
        text = f"{counted(found['messages on the queue'], 'message')} on the queue, looked at as well."
        if hidden := found.get("of these hidden for now"):
            text += (
                f" {hidden:,} of them can't be looked into now: whatever differs, was reported deleted or is approved "
            )
            text += "counts above as what they ask for. Parked records that they name may be sent again besides."
        lines += ["", *_wrapped(text)]
    if found["left alone"]:
        lines += ["", "Left alone:"]
        for name, why in found["left alone"].items():
            lines += _wrapped(f"{name}: {why}", "  ")
    entries = found["first differences"]
    for kind in dict.fromkeys(entry["object"] for entry in entries):
        of_kind = [entry for entry in entries if entry["object"] == kind]
        lines += ["", f"The first differences, {kind}:"]
        for entry in of_kind:
            lines += _entry(entry)
    if "compared with the earlier plan" in found:
        lines += ["", "Compared with the earlier plan:", *_compared(found["compared with the earlier plan"])]
    return "\n".join(lines)


def _lasting(calls: Mapping[str, int]) -> str:
    days = f", over {counted(calls['days at least'], 'day')} of it" if calls["days at least"] > 1 else ""
    return f"at least {counted(calls['minutes at least'], 'minute')} of our share{days}"


def _part(found: dict[str, Any]) -> list[str]:
    lines = []
    for what in ("opportunities", "companies", "sales persons", "people", "roles"):
        numbers = [f"{number:,} {name}" for name, number in found[what].items() if number]
        lines += _wrapped(f"{what}: {', '.join(numbers) or 'none'}", "  ")
    calls = found["Marketo calls"]
    text = f"Marketo calls: {calls['to write']:,} to write, {calls['to read']:,} to read; "
    lines += _wrapped(text + _lasting(calls), "  ")
    for state, word in (("parked", "Parked"), ("waiting", "Waiting"), ("held", "Held"), (LEFT_OUT, "Left out")):
        if found[state]:
            lines += [f"  {word}:", *_reasons(found[state])]
    if found["removals"]:
        lines += ["  Removed from Marketo:", *(f"    {key}" for key in found["removals"])]
    lines.append("  Marketo will log:")
    for text in found["Marketo will log"]:
        lines += _wrapped(text, "    ")
    return lines


def _reasons(reasons: dict[str, int]) -> list[str]:
    return [line for reason, number in reasons.items() for line in _wrapped(f"{number:,}: {reason}", "    ")]


def _entry(entry: dict[str, Any]) -> list[str]:
    which = (
        {"create": "contact ", "link": "person ", "move": "person "}[entry["does"]] if entry["object"] == PERSON else ""
    )
    lines = _wrapped(f"{which}{entry['id']}: {entry['does']}", "  ")
    for name, (present, value) in entry["fields"].items():
        was = "" if entry["does"] == "create" else f"{_before(present)} → "
        lines.append(_short(f"    {name}: {was}"[: WIDTH - 20], value))
    for what, roles in entry.get("roles", {}).items():
        for role in roles:
            lines += _wrapped(f"role {what}: {role}", "    ")
    for state in ("parked", "waiting", "held"):
        lines += _wrapped(f"{state}: {entry[state]}", "    ") if state in entry else []
    return lines


def _compared(found: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{found[each]:,} {each}" for each in ("as before", "different", "new", "no longer"))
    lines = [f"  {counts}"]
    for entry in found["the first"]:
        lines += _wrapped(f"{entry['object']} {entry['id']}:", "  ")
        for name, change in entry.items():
            if name not in ("object", "id"):
                told = " → ".join(map(_plain, change)) if isinstance(change, list) else change
                lines.append(_short(f"    {name}: ", told))
    return lines


def screen(checks: Sequence[Check]) -> str:
    """What `validate` prints for people: a line for what is well, more for what is not; at most 80 columns."""
    lines: list[str] = []
    group = ""
    for check in checks:
        lines += [check.group] if check.group != group else []
        group = check.group
        light = "-" if check.light is Light.UNKNOWN else check.light
        found = f"not checked, {check.found}" if check.light is Light.UNKNOWN else check.found
        text = f"  {light:<5}  {check.name}: {found}"
        if check.light in (Light.GREEN, Light.UNKNOWN):
            lines.append(text if len(text) <= WIDTH else text[: WIDTH - 2] + " …")
            continue
        lines += textwrap.wrap(text, WIDTH, subsequent_indent=" " * 9, drop_whitespace=True)
        lines += textwrap.wrap(f"→ {check.remedy}", WIDTH, initial_indent=" " * 9, subsequent_indent=" " * 11)
    counts = [(light, sum(check.light is light for check in checks)) for light in Light]
    return "\n".join([*lines, f"{len(checks)} checks: {', '.join(f'{n} {light}' for light, n in counts if n)}"])


def found_out(found: Mapping[str, Any]) -> str:
    """What `probe` prints for people: at most 80 columns."""
    lines = _wrapped(f"Found out on {found['at']} in {found['subscription']}:") if "at" in found else []
    for each in found["findings"]:
        asks = f": {each['asks']}" if each["asks"] else ""
        lines += _wrapped(f"{each['question']}{asks}")
        lines += _wrapped(f"{each['answer'] or 'not answered'}{_because(each['why'])}", "    ")
        lines += _wrapped(f"→ {each['means']}", "    ") if each["means"] else []
    lines += (
        ["", "It would do this; nothing was done:", *_lines(found["would do"], "  ")] if "would do" in found else []
    )
    if "seconds" in found:
        told = f"{counted(found['Marketo calls'], 'Marketo call')}, {counted(found['seconds'], 'second')}"
        lines += ["", *_wrapped(told)]
    lines += _wrapped(f"Ended early: {found['ended early']}") if "ended early" in found else []
    lines += ["", "Left behind; the next run tries again, or remove it by hand:"] if found["left"] else []
    return "\n".join(lines + [line for each in found["left"] for line in _wrapped(each, "  ")])


def _because(why: str) -> str:
    return f" ({why})" if why else ""


def what_goes_where(found: dict[str, Any]) -> str:
    """What `mapping show` prints for people: at most 80 columns."""
    example = found["example"]
    key = example["opportunity"]
    lines = [f"Mapping {found['version']}"]
    if not key:
        lines += _wrapped("No example: Dynamics has no opportunity.")
    elif not example["found"]:
        lines += _wrapped(f"No example: Dynamics doesn't show the opportunity {key}.")
    else:
        lines += _wrapped(f"Example: opportunity {key}, account {example['account'] or 'none'}")
        lines += _wrapped(f"The opportunity is {example['left out']}.") if "left out" in example else []
        lines += _wrapped(f"The account is {example['account left out']}.") if "account left out" in example else []
    lines += _wrapped(f"Key of opportunities in Marketo: {found['key of opportunities']}")
    lines += _wrapped(f"Key of companies in Marketo: {found['key of companies']}")
    for section, fields in found["fields"].items():
        lines += ["", f"{section[:1].upper()}{section[1:]}:" if fields else f"{section}: no field"]
        for name, field in fields.items():
            lines += [f"  {name}", *_wrapped(f"← {field['from']}", "    "), *_types(field), *_example_of(field)]
    for section, rules in found["rules"].items():
        lines += ["", f"{section[:1].upper()}{section[1:]}:"]
        lines += [line for rule in rules for line in _wrapped(f"- {rule}", "  ")]
    return "\n".join(lines)


def _types(field: dict[str, Any]) -> list[str]:
    if field["left alone"]:
        return _wrapped(f"LEFT ALONE: {field['left alone']}", "    ")
    kinds = list(dict.fromkeys(each.partition(": ")[2] for each in field["Dynamics"]))
    return _wrapped(f"{' or '.join(kinds)} → {field['Marketo']}" if kinds else f"→ {field['Marketo']}", "    ")


def _example_of(field: dict[str, Any]) -> list[str]:
    if "row" not in field:
        return []
    lines = [_short(f"    {column}: ", value) for column, value in field["row"].items()]
    if "parked" in field:
        return [*lines, *_wrapped(f"can't be sent: {field['parked']}", "    ")]
    return [*lines, _short(f"    sent{', cut' if field['cut'] else ''}: ", field["sent"])]
