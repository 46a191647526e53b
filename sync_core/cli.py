"""The operator's commands: the same settings and the same engine as the functions (design.md §9).

Exit code 0: good, 1: something needs a person, 2: wrong usage or settings.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from types import FrameType
from typing import Any
from uuid import UUID

from sync_core.engine import Engine
from sync_core.errors import ConfigurationError, SyncError
from sync_core.flows.explain import explain, reason_in_words
from sync_core.flows.observe import check_mapping
from sync_core.flows.reconcile import Outcome
from sync_core.flows.status import approve_removals, held, problems, repoint, status
from sync_core.messages import split
from sync_core.model import Lane, State, Work
from sync_core.wiring import engine

GOOD, PROBLEMS, USAGE = 0, 1, 2
LEASE = timedelta(minutes=10)  # as long as the Functions host's (azure.md §3)
PAUSE_S = 1.0


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    logging.getLogger("sync_core").setLevel(logging.ERROR)  # what a command meets, it prints itself
    logging.getLogger("azure.identity").setLevel(logging.ERROR)
    try:
        return int(options.run(engine(), options))
    except ConfigurationError as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return USAGE
    except SyncError as error:
        print(f"{options.command}: {error}. Nothing is lost; try again.", file=sys.stderr)
        return PROBLEMS
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GOOD


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sync_core",
        description="Keep Marketo opportunities in step with Dynamics 365 Sales. For the settings see README.md.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print one JSON object")
        added.set_defaults(run=run)
        return added

    one = command("sync", _sync, "Detect what changed and post it to Marketo, until the queue is empty.")
    one.add_argument(
        "--only", nargs="+", type=_guid, metavar="ID", help="only these opportunities; nothing is detected"
    )
    one.add_argument("--no-wait", action="store_true", help="end when only postponed work is left")
    command("status", _status, "Where everything stands.")
    one = command("explain", _explain, "Why an opportunity has the roles and values it has in Marketo.")
    one.add_argument("id", type=_guid, metavar="ID", help="the opportunity's id in Dynamics")
    one = command("approve-removals", _approve, "List held removals and, with --yes, let them pass.")
    one.add_argument("--yes", action="store_true", help="approve everything that is held now")
    one = command("repoint", _repoint, "Accept another org or Marketo subscription than the state was made with.")
    one.add_argument("--confirm", action="store_true", help="do it: everything is read and posted again")
    return parser


def _guid(text: str) -> str:
    try:
        return str(UUID(text.strip("{} ")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no id: give the GUID that Dynamics shows") from None


# --- sync ---------------------------------------------------------------------------------------------------


class _Stop:
    """Ctrl-C finishes the delivery in hand; what is left stays on the queue. A second one ends at once."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGINT, self._ask)
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise SystemExit(128 + number)
        self.asked = True
        print("\nfinishing the delivery in hand; the rest stays on the queue", file=sys.stderr)


def _sync(app: Engine, options: argparse.Namespace) -> int:
    check_mapping(app.world)
    stop, total, troubles = _Stop(), Counter[str](), Counter[str]()
    if options.only:
        shown = app.world.source.rows("opportunity", options.only, {"opportunityid"})
        known = app.world.opportunities.rows(options.only)
        if unknown := [key for key in options.only if key not in shown and key not in known]:
            print(f"sync: Dynamics doesn't show {', '.join(unknown)}. Nothing was done.", file=sys.stderr)
            return USAGE
        for work in split(Work(tuple(options.only), why="only")):
            _add(app.handle(work, force=False, lease_ends=app.world.clock.now() + LEASE), total, troubles)
    else:
        while not stop.asked and not app.detect().complete:
            _progress(app, total)
        _drain(app, stop, total, troubles, wait=not options.no_wait)
    left = sum(app.world.queue.lengths()[lane] for lane in Lane)
    report = {key: number for key, number in total.items() if number} or {"changes in Dynamics": 0}
    _print(
        report | {"messages left": left} | ({"put back because": troubles} if troubles else {}), as_json=options.json
    )
    return PROBLEMS if troubles or left else GOOD


def _drain(app: Engine, stop: _Stop, total: Counter[str], troubles: Counter[str], *, wait: bool) -> None:
    """Fresh work first. Messages put back with a delay are waited for, unless told not to."""
    queue, told = app.world.queue, False
    while not stop.asked:
        found = next(((lane, letter) for lane in Lane if (letter := queue.receive(lane, lease=LEASE))), None)
        if found is None:
            left = sum(queue.lengths()[lane] for lane in Lane)
            if not wait or not left:
                return
            if not told:
                why = f": {next(reversed(troubles))}" if troubles else " by an earlier run"
                print(f"waiting for {left} messages put back{why}. Ctrl-C or --no-wait ends.", file=sys.stderr)
            told = True
            app.world.clock.sleep(PAUSE_S)
            continue
        lane, letter = found
        count, ends = letter.dequeue_count, letter.lease_ends
        _add(app.deliver(letter.body, dequeue_count=count, lease_ends=ends, lane=lane), total, troubles)
        queue.done(lane, letter)
        _progress(app, total)


def _add(outcome: Outcome | None, total: Counter[str], troubles: Counter[str]) -> None:
    if outcome is not None:
        total.update(outcome.counts)
        if outcome.trouble is not None:
            troubles[str(outcome.trouble)] += 1


def _progress(app: Engine, total: Counter[str]) -> None:
    if sys.stderr.isatty():
        left = sum(app.world.queue.lengths()[lane] for lane in Lane)
        print(
            f"\r{total['handled']} opportunities in hand or done, about {left} messages left ", end="", file=sys.stderr
        )


# --- the others ---------------------------------------------------------------------------------------------


def _status(app: Engine, options: argparse.Namespace) -> int:
    found = status(app.world)
    needs = problems(found)
    _print(found | {"needs you": needs}, as_json=options.json)
    return PROBLEMS if needs else GOOD


def _explain(app: Engine, options: argparse.Namespace) -> int:
    found = explain(app.world, options.id)
    if options.json:
        _print(found, as_json=True)
    else:
        print(_story(found))
    return GOOD if found["found"] else PROBLEMS


def _approve(app: Engine, options: argparse.Namespace) -> int:
    waiting = held(app.world)
    if options.yes:
        _print({"approved": approve_removals(app.world)}, as_json=options.json)
        return GOOD
    _print(
        {"held": waiting, "to approve them": "approve-removals --yes"} if waiting else {"held": 0}, as_json=options.json
    )
    return PROBLEMS if waiting else GOOD


def _repoint(app: Engine, options: argparse.Namespace) -> int:
    if not options.confirm:
        print("repoint: nothing was changed. With --confirm everything is read and posted again.", file=sys.stderr)
        return USAGE
    _print(repoint(app.world), as_json=options.json)
    return GOOD


# --- printing -----------------------------------------------------------------------------------------------


def _print(value: Any, *, as_json: bool) -> None:
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


def _story(found: dict[str, Any]) -> str:
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
