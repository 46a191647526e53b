"""The operator's commands: the same settings and the same engine as the functions (design.md §9).

Exit code 0: good, 1: something needs a person, 2: wrong usage or settings. With `--json` all that is printed is one
JSON object on standard output; an error is `{"error": text}`, with `remedy` where that is not part of the text.
"""

from __future__ import annotations

import argparse
import getpass
import json
import logging
import os
import re
import secrets
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from textwrap import shorten
from types import FrameType
from typing import Any, NoReturn, TextIO
from uuid import UUID

from sync_core import __version__, telemetry
from sync_core.audit_report import in_words as audited
from sync_core.audit_report import write_html, write_json
from sync_core.engine import TIME_BOX_S, Engine
from sync_core.errors import ConfigurationError, NewerVersion, RetryLater, SyncError
from sync_core.flows import actions, audit, cleanup
from sync_core.flows.applied import holding, mapped_fields
from sync_core.flows.cases import Outcome
from sync_core.flows.explain import MATCHES, explain, named
from sync_core.flows.export import write_csv
from sync_core.flows.failures import FAILURES, Choice, by_reason, failures, first, of_ids, plain
from sync_core.flows.guard import PAUSE, check_not_paused, check_taken_over, check_version
from sync_core.flows.mapped import shown
from sync_core.flows.migrations import take_over
from sync_core.flows.observe import suspended
from sync_core.flows.plan import plan
from sync_core.flows.probe import check_dynamics, known, open_questions
from sync_core.flows.probe_dynamics import ASKS, probe_dynamics
from sync_core.flows.probe_marketo import outline
from sync_core.flows.proposal import propose
from sync_core.flows.rebuild import MARK
from sync_core.flows.status import APPROVED, before_repoint, lanes, put_back, removals, status
from sync_core.flows.validate import Light, Setup, as_plain
from sync_core.mapping import OWN_FIELDS, PERIOD, place_of
from sync_core.messages import split
from sync_core.model import Lane, MarketoObject, State, Work
from sync_core.report import (
    complain,
    farewell,
    found_out,
    held_removals,
    not_in_step,
    outlook,
    screen,
    show,
    standing,
    story,
    what_goes_where,
)
from sync_core.rules.filters import since
from sync_core.rules.pace import in_words
from sync_core.rules.words import counted
from sync_core.wiring import dataverse_url, dynamics_probe, engine, laboratory, setup

GOOD, PROBLEMS, USAGE = 0, 1, 2
LEASE = timedelta(minutes=10)  # as long as the Functions host's (azure.md §3)
PAUSE_S = 1.0
AUDIT_PATIENCE = 5  # times that an audit waits for a service that gives no answer
LOOK_S = 300.0  # between looks for changes while a backlog is worked off: as often as the timer's
OLDEST = datetime(1900, 1, 1, tzinfo=UTC)  # Dataverse refuses to compare with times of long before


QUEUED = "the functions take it within seconds, after what waits before it; or run `sync`"
GOES_ON = "the sync goes on where the rebuild began"
AT_NEXT_TICK = "the functions begin at their next tick, by default within five minutes; or run `sync`"


class _Usage(Exception):
    """What the parser refuses; its own way to end is to print and exit."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Usage(self, message)


def main(arguments: Sequence[str]) -> int:
    try:
        options = _parser().parse_args(arguments)
    except _Usage as usage:
        parser, message = usage.args
        if "--json" not in arguments:
            argparse.ArgumentParser.error(parser, message)
        show({"error": f"{message}. Nothing was done.", "remedy": f"{parser.prog} --help"}, as_json=True)
        return USAGE
    logging.getLogger("sync_core").setLevel(logging.ERROR)  # what a command meets, it prints itself
    logging.getLogger("azure.identity").setLevel(logging.ERROR)
    try:
        app = setup(os.environ) if options.run in (_validate, _propose) else engine()
        if options.run not in (_propose, _sync):  # the one looks at no state, the other at the mapping first
            _check_version(app, options)
        with telemetry.invocation(None), telemetry.command(options.command):
            return int(options.run(app, options))
    except ConfigurationError as error:
        _tell(options, str(error))
        return USAGE
    except SyncError as error:
        minutes = -(-int(getattr(error, "delay", 0)) // 60)
        when = f"try again in {counted(minutes, 'minute')}" if minutes > 1 else "try again"
        _tell(options, f"{str(error).rstrip('.')}.", f"Nothing is lost; {when}.")
        return PROBLEMS
    except KeyboardInterrupt:
        print(file=sys.stderr)
        _tell(options, "stopped.", "Nothing is lost; run it again.")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GOOD


def _check_version(app: Engine | Setup, options: argparse.Namespace) -> None:
    """Nothing is done to a newer state, and little to an older one before a tick has taken it over."""
    try:
        if options.run in EVER:
            check_version(app.world)
        else:
            check_taken_over(app.world)
    except SyncError as error:
        if options.run is not _validate or isinstance(error, NewerVersion):  # which tells the rest with the others
            raise


def _tell(options: argparse.Namespace, error: str, remedy: str = "") -> None:
    if options.json:
        show({"error": error} | ({"remedy": remedy} if remedy else {}), as_json=True)
    else:
        name = " ".join(filter(None, (options.command, getattr(options, "action", ""))))
        complain(f"{name}: {error} {remedy}".rstrip())


def _said(app: Engine, options: argparse.Namespace, did: Mapping[str, Any], then: str) -> int:
    """What was done, and what comes of it when."""
    if pause := app.world.documents.read(*PAUSE):
        then = f"nothing before `resume`: paused since {pause.value['since']}"
    show({**did, "then": then}, as_json=options.json)
    return GOOD


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m sync_core",
        description="Keep Marketo opportunities in step with Dynamics 365 Sales. For the settings see README.md.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print one JSON object")
        added.set_defaults(run=run)
        return added

    command("validate", _validate, "Is everything as the sync needs it? Each check, with the remedy.")
    one = command("sync", _sync, "Detect what changed and post it to Marketo, until the queue is empty.")
    one.add_argument(
        "--only", nargs="+", type=_guid, metavar="ID", help="only these opportunities; nothing is detected"
    )
    one.add_argument("--no-wait", action="store_true", help="end when only postponed work is left")
    one = command("plan", _plan, "What would `sync` do now? Reads everything, writes nothing.")
    one.add_argument("--only", nargs="+", type=_guid, metavar="ID", help="as for sync: only these opportunities")
    one.add_argument("--limit", type=_count, default=20, metavar="N", help="how many differences to show (20)")
    one.add_argument("--out", type=Path, metavar="FILE", help="write every difference to this file, as JSON")
    one.add_argument("--force", action="store_true", help="replace the file of --out if it exists")
    one.add_argument("--diff", type=Path, metavar="FILE", help="what is different from an earlier plan's file")
    _add_mapping(commands)
    command("status", _status, "Where everything stands.")
    one = command("explain", _explain, "Why an opportunity has the roles and values it has in Marketo.")
    one.add_argument("id", metavar="ID|NAME", help="the opportunity's id in Dynamics, or part of its name")
    one = command("audit", _audit, "Does Marketo hold what the rules demand? Compares everything, writes nothing.")
    one.add_argument("--repair", action="store_true", help="queue what differs: the ordinary path, with its guard")
    one.add_argument("--sample", type=_count, default=0, metavar="N", help="only so many, by chance, for a quick look")
    one.add_argument("--report", type=_html, metavar="FILE.html", help="write this, and the same as FILE.json")
    one.add_argument("--force", action="store_true", help="replace the files of --report if they exist")
    one.add_argument("--restart", action="store_true", help="from the beginning, wherever an earlier one ended")
    one.add_argument("--last", action="store_true", help="what the last one found, as far as it still differs")
    one.add_argument("--limit", type=_count, default=20, metavar="N", help="how many differences to show (20)")
    one = command("approve-removals", _approve, "List held removals by name and, with --yes, let them pass.")
    one.add_argument("ids", type=_guid, nargs="*", metavar="ID", help="only these opportunities")
    one.add_argument("--yes", action="store_true", help="approve what is held now, or only the ids given")
    one.add_argument("--limit", type=_count, default=50, metavar="N", help="how many to name (50)")
    _add_failures(commands)
    one = command("resync", _resync, "Look at some opportunities again now, trusting no memory.")
    one.add_argument("ids", type=_guid, nargs="+", metavar="ID", help="opportunities, by their ids in Dynamics")
    one.add_argument(
        "--gone", action="store_true", help="Dynamics shows none of them: take from Marketo what a comparison lacks"
    )
    one = command("backfill", _backfill, "Look at all opportunities again in the slow lane; post only what differs.")
    one.add_argument(
        "--since", type=_since, metavar="WHEN", help="only those changed since 2026-01-31, or P24M: months"
    )
    one.add_argument(
        "--clear",
        action="append",
        default=[],
        metavar="FIELD",
        help="empty this field of opportunities, or company.FIELD, which is mapped no more",
    )
    command("rebuild", _rebuild, "After the storage account was lost: the state again, sending nothing to Marketo.")
    one = command("pause", _pause, "Stop the sync, across restarts, until `resume`; nothing is lost meanwhile.")
    one.add_argument(
        "--why", type=_why, default="", metavar="TEXT", help="shown by `status`; no names or addresses, please"
    )
    one = command("resume", _resume, "Go on after `pause`; what piled up is handled within five minutes.")
    one.add_argument("--after-cleanup", action="store_true", help="also after `cleanup`: everything is posted again")
    one = command("repoint", _repoint, "Tell whom the state belongs to and, with --confirm, accept other services.")
    one.add_argument("--confirm", action="store_true", help="do it: everything is read and posted again")
    text = "Before an uninstall: tell what this system wrote to Marketo and, with --confirm, remove it."
    one = command("cleanup", _cleanup, text)
    one.add_argument("--confirm", metavar="MUNCHKIN-ID", help="do it: the id of the Marketo subscription")
    one.add_argument(
        "--since", type=_since, metavar="WHEN", help="what Marketo made from then on is ours (our first start)"
    )
    one = command("probe", _probe, "Find out on a Marketo sandbox what no documentation tells; removes what it makes.")
    one.add_argument("--sandbox", metavar="ID", help="do it, on this subscription: the one that MARKETO_URL names")
    one.add_argument("--dynamics-sandbox", metavar="URL", help="also write to this Dynamics: the one of DATAVERSE_URL")
    one.add_argument("--burst", action="store_true", help="also make Marketo refuse calls, for some seconds")
    return parser


def _add_failures(commands: Any) -> None:
    text = "What is not in step: waiting, parked or held."
    actions = commands.add_parser("failures", help=text, description=text).add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )

    def action(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print one JSON object")
        added.set_defaults(run=run)
        return added

    def chosen(added: argparse.ArgumentParser) -> None:
        states = [str(state) for state in FAILURES]
        added.add_argument("--state", choices=states, action="append", help="only these; may be given several times")
        added.add_argument("--reason", default="", metavar="TEXT", help="only reasons that contain this")

    one = action("list", _list_failures, "Count them by reason, and name the first of them.")
    chosen(one)
    one.add_argument("--limit", type=_count, default=20, metavar="N", help="how many to name (20)")
    one = action("show", _show_failure, "All that is known of some ids.")
    one.add_argument("ids", type=_guid, nargs="+", metavar="ID", help="an opportunity, account or user of Dynamics")
    one = action("redrive", _redrive, "Try them again now, trusting no memory. Held removals stay held.")
    one.add_argument("ids", type=_guid, nargs="*", metavar="ID", help="these; or choose with --state, --reason, --all")
    chosen(one)
    one.add_argument("--all", action="store_true", help="everything that waits or is parked")
    one = action("export", _export_failures, "Print all of them as CSV.")
    chosen(one)


def _since(text: str) -> str:
    try:
        return text if re.fullmatch(PERIOD, text) else datetime.fromisoformat(text).isoformat()
    except ValueError:
        why = f"{text!r} is no date and no period: write it like 2026-01-31 or P24M"
        raise argparse.ArgumentTypeError(why) from None


def _add_mapping(commands: Any) -> None:
    text = "What becomes what: propose a sync.toml, or show the present one in words."
    actions = commands.add_parser("mapping", help=text, description=text).add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    text = "Propose a sync.toml: the native defaults, and as comments what else has the same name on both sides."
    one = actions.add_parser("init", help=text, description=text)
    one.add_argument("--out", type=Path, metavar="FILE", help="write it to this file, which must not exist")
    one.add_argument("--force", action="store_true", help="replace the file of --out if it exists")
    one.add_argument("--json", action="store_true", help="print one JSON object")
    one.set_defaults(run=_propose)
    text = "What goes where, by the example of one opportunity."
    one = actions.add_parser("show", help=text, description=text)
    one.add_argument("--id", type=_guid, metavar="ID", help="the example (the opportunity that was written last)")
    one.add_argument("--json", action="store_true", help="print one JSON object")
    one.set_defaults(run=_show_mapping)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines")
    return int(text)


def _html(text: str) -> Path:
    if not text.endswith(".html"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .html")
    return Path(text)


def _why(text: str) -> str:
    if len(text) > actions.LONGEST_WHY:
        raise argparse.ArgumentTypeError(f"at most {actions.LONGEST_WHY} characters")
    return text


def _guid(text: str) -> str:
    try:
        return str(UUID(text.strip("{} ")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no id: give the GUID that Dynamics shows") from None


def _who() -> str:
    """Who asks, for the audit log."""
    try:
        return f"command line: {getpass.getuser()}"
    except (KeyError, OSError):  # a user id without a name, as in a container
        return "command line"


# --- validate -----------------------------------------------------------------------------------------------


def _validate(found: Setup, options: argparse.Namespace) -> int:
    """Amber is no problem: the sync runs as it is. What is amber or red is kept for `status`."""
    checks, _ = actions.check(found, who=_who())
    if options.json:
        show(as_plain(checks), as_json=True)
    else:
        print(screen(checks))
    return PROBLEMS if any(check.light is Light.RED for check in checks) else GOOD


# --- sync ---------------------------------------------------------------------------------------------------


class _Stop:
    """Ctrl-C finishes the delivery in hand; what is left stays on the queue. A second one ends at once."""

    def __init__(self, told: str = "finishing the delivery in hand; the rest stays on the queue") -> None:
        self.asked = False
        self.told = told
        signal.signal(signal.SIGINT, self._ask)
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise SystemExit(128 + number)
        self.asked = True
        print(f"\n{self.told}", file=sys.stderr)


def _sync(app: Engine, options: argparse.Namespace) -> int:
    if left_alone := suspended(app.world):
        file = app.world.config.file
        told = "; ".join(f"{file.place(*place_of(name))}: {why}" for name, why in left_alone.items())
        if app.world.documents.read("feed", "opportunity") is None:
            raise ConfigurationError(f"a first load needs every mapped field. {told}. Nothing was done.")
        complain(f"left alone for now: {told}")
    check_version(app.world)
    check_not_paused(app.world)
    take_over(app.world, until=app.world.clock.monotonic() + TIME_BOX_S)
    stop, total, troubles = _Stop(), Counter[str](), Counter[str]()
    if options.only:
        _check_known(app, options.only)
        for work in split(Work(tuple(options.only), why="only")):
            _add(app.handle(work, force=False, lease_ends=app.world.clock.now() + LEASE), total, troubles)
    else:
        while not stop.asked and not app.detect().complete:
            _drain(app, stop, total, troubles, of=[Lane.FRESH], wait=False)
        _drain(app, stop, total, troubles, wait=not options.no_wait)
    left = sum(app.world.queue.lengths()[lane] for lane in Lane)
    report: dict[str, Any] = {key: number for key, number in total.items() if number} or {"changes in Dynamics": 0}
    report |= {"messages left": left} | (put_back(app.world) if left else {})
    show(report | ({"put back because": troubles} if troubles else {}), as_json=options.json)
    return PROBLEMS if troubles or left else GOOD


def _check_new(options: argparse.Namespace) -> None:
    if options.out and options.out.exists() and not options.force:
        raise ConfigurationError(f"--out: {options.out} exists; --force replaces it. Nothing was done.")


def _check_known(app: Engine, ids: Sequence[str]) -> None:
    shown = app.world.source.rows("opportunity", ids, {"opportunityid"})
    known = app.world.opportunities.rows(ids)
    if unknown := [key for key in dict.fromkeys(ids) if key not in shown and key not in known]:
        raise ConfigurationError(f"Dynamics doesn't show {', '.join(unknown)}. Nothing was done.")


def _drain(
    app: Engine,
    stop: _Stop,
    total: Counter[str],
    troubles: Counter[str],
    *,
    of: Sequence[Lane] = tuple(Lane),
    wait: bool,
) -> None:
    """Fresh work first, and what changes meanwhile: a backlog takes hours.

    Messages put back with a delay are waited for, unless told not to.
    """
    queue, told = app.world.queue, False
    look_at = app.world.clock.monotonic() + LOOK_S
    while not stop.asked:
        if app.world.clock.monotonic() >= look_at:
            try:
                app.detect()
            except RetryLater as error:
                troubles[str(error)] += 1
            look_at = app.world.clock.monotonic() + LOOK_S
        found = next(((lane, letter) for lane in of if (letter := queue.receive(lane, lease=LEASE))), None)
        if found is None:
            left = sum(queue.lengths()[lane] for lane in Lane)
            if not wait or not left:
                return
            if not told:
                why = f": {next(reversed(troubles))}" if troubles else " by an earlier run or another machine"
                complain(f"waiting for {counted(left, 'message')} put back{why}. Ctrl-C or --no-wait ends.")
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
        left = [f"{lane}: {in_words(found)}" for lane, found in lanes(app.world).items() if found["messages"]]
        text = "; ".join([f"{counted(total['handled'], 'opportunity', 'opportunities')} done", *left])
        print(f"\r\x1b[K{shorten(text, 79, placeholder=' …')}", end="", file=sys.stderr)


# --- the others ---------------------------------------------------------------------------------------------


def _status(app: Engine, options: argparse.Namespace) -> int:
    found = status(app.world)
    if options.json:
        show(found, as_json=True)
    else:
        print(standing(found))
    return PROBLEMS if found["needs you"] else GOOD


def _plan(app: Engine, options: argparse.Namespace) -> int:
    """A file is put in its place once it is whole; the earlier plan is read before."""
    _check_new(options)
    _check_known(app, options.only or ())
    part = options.out.with_name(f"{options.out.name}.part") if options.out else None
    try:
        with ExitStack() as files:
            earlier = files.enter_context(options.diff.open(encoding="utf-8")) if options.diff else None
            out = files.enter_context(part.open("w", encoding="utf-8")) if part else None
            found = plan(
                app.world,
                only=options.only or (),
                limit=options.limit,
                out=out.write if out else None,
                earlier=earlier,
                progress=_looked_at,
            )
        if part:
            part.replace(options.out)
        if sys.stderr.isatty():
            print(file=sys.stderr)
    except (OSError, UnicodeError, json.JSONDecodeError) as error:
        where = "--out" if isinstance(error, OSError) and part and error.filename == str(part) else "--diff"
        reason = error.strerror if isinstance(error, OSError) else "this is no file that `plan --out` wrote"
        file = options.out if where == "--out" else options.diff
        raise ConfigurationError(f"{where}: {file}: {reason}. Nothing was done.") from None
    finally:
        if part:
            part.unlink(missing_ok=True)
    show(found, as_json=True) if options.json else print(outlook(found))
    parts = (found, found.get("stays as it is", {}))
    needs = any(part.get(state) for part in parts for state in (State.PARKED, State.HELD))
    return PROBLEMS if needs or "sync refuses to start" in found else GOOD


def _looked_at(number: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{number:,} opportunities looked at ", end="", file=sys.stderr)


def _audit(app: Engine, options: argparse.Namespace) -> int:
    if options.repair and (options.sample or options.last):
        raise ConfigurationError("--repair needs a whole audit: leave out --sample and --last. Nothing was done.")
    if options.last and (options.sample or options.restart):
        raise ConfigurationError("--last looks at what was found before: leave out the rest. Nothing was done.")
    files = [options.report, options.report.with_suffix(".json")] if options.report else []
    if there := [str(file) for file in files if file.exists() and not options.force]:
        raise ConfigurationError(f"--report: {', '.join(there)} exists; --force replaces it. Nothing was done.")
    if options.report and not options.report.parent.is_dir():
        raise ConfigurationError(f"--report: there is no folder {options.report.parent}. Nothing was done.")
    try:
        with TemporaryFile("w+", encoding="utf-8") as kept:
            found = _compared(app, options, kept)
            for file, write in zip(files, (write_html, write_json), strict=False):
                part = file.with_name(f"{file.name}.part")
                with part.open("w", encoding="utf-8") as out:
                    write(found, app.world.config.file.text, _entries(kept), out)
                part.replace(file)
            first = list(islice(_entries(kept), options.limit))
    except OSError as error:
        raise ConfigurationError(f"--report: {error.filename}: {error.strerror}.") from None
    needs = not found["complete"] or found.get("of these still different", found["differences"])
    needs = needs or found["not shown by Dynamics"] or found["remembered otherwise"]
    if options.repair and found["complete"]:
        found["repair"] = dict(actions.repair(app.world, found, who=_who()).values)
    if options.json:
        show({**found, "first differences": first}, as_json=True)
    else:
        print(audited(found, first))
        for what, number in found.get("repair", {}).items():
            print(f"Repair: {what}: {number:,}; {QUEUED}")
    return PROBLEMS if needs or found["counters that are wrong"] else GOOD


def _compared(app: Engine, options: argparse.Namespace, kept: TextIO) -> dict[str, Any]:
    """The summary of an audit; each difference is a line of *kept*. Waits a while for services that give no answer."""
    stop, patience = _Stop("finishing the piece in hand; the next audit goes on from there"), AUDIT_PATIENCE

    def differs(each: Mapping[str, Any]) -> None:
        kept.write(json.dumps(each, ensure_ascii=False) + "\n")

    again = options.restart
    while True:
        kept.seek(0)
        kept.truncate()
        try:
            if options.last:
                found = audit.last(app.world)
                return found | {"of these still different": audit.look_again(app.world, found, differs)}
            if options.sample:
                return audit.sample(app.world, differs, options.sample, secrets.randbelow)
            return audit.audit(app.world, differs, again=again, go_on=lambda: not stop.asked, progress=_looked_at)
        except RetryLater as error:
            patience, again = patience - 1, False
            if not patience or error.delay > LOOK_S:
                raise
            complain(f"{error}; going on in {counted(int(error.delay), 'second')}")
            app.world.clock.sleep(error.delay)
        finally:
            if sys.stderr.isatty():
                print(file=sys.stderr)


def _entries(kept: TextIO) -> Iterator[dict[str, Any]]:
    kept.seek(0)
    return map(json.loads, kept)


def _explain(app: Engine, options: argparse.Namespace) -> int:
    try:
        key = _guid(options.id)
    except argparse.ArgumentTypeError:
        matches = named(app.world, options.id)
        if len(matches) != 1:
            return _tell_matches(options, matches)
        key = next(iter(matches))
    found = explain(app.world, key)
    if options.json:
        show(found, as_json=True)
    else:
        print(story(found))
    return GOOD if found["found"] else PROBLEMS


def _tell_matches(options: argparse.Namespace, matches: Mapping[str, str]) -> int:
    """Several: the operator chooses. The names are shown to whoever may read Dynamics with these settings."""
    if options.json:
        show({"found": False, "matches": dict(matches)}, as_json=True)
    elif matches:
        how_many = f"At least {MATCHES}" if len(matches) == MATCHES else str(len(matches))
        print(f"{how_many} opportunities have such a name; ask again with an id, or more of it:")
        for key, name in matches.items():
            print(f"{key}  {shorten(name, 42, placeholder=' …')}")
    else:
        print("No opportunity has such a name. Names are searched in Dynamics, ids are GUIDs.")
    return PROBLEMS


def _approve(app: Engine, options: argparse.Namespace) -> int:
    limit = len(options.ids) or (0 if options.yes else options.limit)
    found = removals(app.world, options.ids or None, limit)
    if unheld := sorted(set(options.ids) - {each["id"] for each in found}):
        raise ConfigurationError(f"nothing is held of {', '.join(unheld)}. Nothing was done.")
    tally = app.world.opportunities.tally()
    held, approved = tally.counts[State.HELD], tally.reasons.get((str(State.HELD), APPROVED), 0)
    if options.yes and held:
        done = actions.approve_removals(app.world, options.ids or None, who=_who())
        return _said(app, options, done.values, f"Dynamics is read once more, then they go: {QUEUED}")
    number = len(found) if options.ids else held - approved
    if options.json:
        show({"held": found, "number": number, "approved": approved}, as_json=True)
    else:
        print(held_removals(found, number, approved))
    return PROBLEMS if number and not options.yes else GOOD


def _repoint(app: Engine, options: argparse.Namespace) -> int:
    if not options.confirm:
        found = before_repoint(app.world)
        show(
            found | {"nothing was changed": "with --confirm everything is read and posted again"}, as_json=options.json
        )
        return PROBLEMS if found["stopped by"] else GOOD
    done = actions.repoint(app.world, who=_who()).values
    accepted = {name: done[name] for name in ("organization", "munchkin")}
    return _said(app, options, {"accepted": accepted}, f"everything is read and posted again: {AT_NEXT_TICK}")


def _cleanup(app: Engine, options: argparse.Namespace) -> int:
    first = since(options.since, app.world.clock.now()) if options.since else None
    if options.confirm is None:
        found: Mapping[str, Any] = cleanup.survey(app.world, since=first, progress=_so_far)
    else:
        done = actions.clean_up(app.world, options.confirm, since=first, progress=_so_far, who=_who())
        found = done.values
    if sys.stderr.isatty():
        print(file=sys.stderr)
    show(found, as_json=True) if options.json else print(farewell(found))
    return GOOD if found.get("finished", True) else PROBLEMS


def _so_far(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{shorten(text, 79, placeholder=' …')}", end="", file=sys.stderr)


# --- mapping ------------------------------------------------------------------------------------------------


def _propose(found: Setup, options: argparse.Namespace) -> int:
    """Whatever is wrong with the present mapping: this makes the next one."""
    if wrong := [what for setting, what in found.problems if setting != "SYNC_CONFIG"]:
        raise ConfigurationError("; ".join(wrong))
    _check_new(options)
    proposal = propose(found.world)
    if options.out:
        try:
            options.out.write_text(proposal["toml"], encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{options.out} can't be written: {error.strerror}. Nothing was done.") from None
    if options.json:
        show(proposal, as_json=True)
    elif options.out:
        show({"written": options.out, "proposed": proposal["proposed"]}, as_json=False)
    else:
        print(proposal["toml"], end="")
    return GOOD


def _show_mapping(app: Engine, options: argparse.Namespace) -> int:
    found = shown(app.world, options.id)
    if options.json:
        show(found, as_json=True)
    else:
        print(what_goes_where(found))
    alone = any(field["left alone"] for fields in found["fields"].values() for field in fields.values())
    return PROBLEMS if alone or (options.id and not found["example"]["found"]) else GOOD


# --- probe --------------------------------------------------------------------------------------------------


def _probe(app: Engine, options: argparse.Namespace) -> int:
    """What is not answered, or not removed, needs a person."""
    if not options.sandbox:
        if options.burst or options.dynamics_sandbox:
            raise ConfigurationError("--burst and --dynamics-sandbox go with --sandbox. Nothing was done.")
        found = known(app.world, ASKS) | {"would do": outline(app.world)}
        show(found, as_json=True) if options.json else print(found_out(found))
        return PROBLEMS if found["left"] else GOOD
    typed = options.dynamics_sandbox
    if typed is not None and typed.strip().rstrip("/").casefold() != dataverse_url().casefold():
        raise ConfigurationError("DATAVERSE_URL leads to another Dynamics than --dynamics-sandbox. Nothing was done.")
    if typed is not None:
        check_dynamics(app.world)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was made is removed, as after Ctrl-C
    lab, besides = laboratory(app.world.documents), probe_dynamics(app.world, dynamics_probe(), write=typed is not None)
    done = actions.probe(
        app.world, lab, options.sandbox, besides, burst=options.burst, who=_who(), progress=_answered
    ).values
    if sys.stderr.isatty():
        print(file=sys.stderr)
    show(done, as_json=True) if options.json else print(found_out(done))
    return PROBLEMS if done["left"] or "ended early" in done or open_questions(done["findings"]) else GOOD


def _answered(question: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{question} tried ", end="", file=sys.stderr)


# --- failures, pause ----------------------------------------------------------------------------------------


def _chosen(options: argparse.Namespace, states: Sequence[State] = FAILURES) -> Choice:
    return Choice(states=[State(each) for each in options.state or states], in_reason=options.reason)


def _list_failures(app: Engine, options: argparse.Namespace) -> int:
    choice = _chosen(options)
    tallies = {kind: ledger.tally() for kind, ledger in app.world.ledgers.items()}
    groups = {
        key: number
        for key, number in by_reason(tallies).items()
        if key[1] in choice.states and choice.in_reason.casefold() in key[2].casefold()
    }
    some = first(app.world, choice, options.limit)
    if options.json:
        reasons = [dict(zip(("kind", "state", "reason"), key, strict=True)) | {"count": n} for key, n in groups.items()]
        show({"reasons": reasons, "first": list(map(plain, some))}, as_json=True)
    elif groups:
        print(not_in_step(groups, some))
    else:
        print("nothing matches" if any(tally.reasons for tally in tallies.values()) else "everything is in step")
    return PROBLEMS if any(state != State.WAITING for _, state, _ in groups) else GOOD


def _show_failure(app: Engine, options: argparse.Namespace) -> int:
    found = of_ids(app.world, options.ids)
    unknown = sorted(set(options.ids) - {each.id for each in found})
    if options.json:
        show({"found": list(map(plain, found)), "unknown": unknown}, as_json=True)
    else:
        for each in found:
            show(plain(each), as_json=False)
        for key in unknown:
            print(f"{key}: not known to the sync")
    return PROBLEMS if unknown or any(each.state in FAILURES for each in found) else GOOD


def _redrive(app: Engine, options: argparse.Namespace) -> int:
    by_choice = bool(options.all or options.state or options.reason)
    if bool(options.ids) is by_choice:
        wrong = "both ids and a choice were given" if by_choice else "nothing was chosen"
        raise ConfigurationError(f"{wrong}: give either ids, or --state, --reason or --all. Nothing was done.")
    if options.all and (options.state or options.reason):
        raise ConfigurationError("--all takes everything: leave it out, or --state and --reason. Nothing was done.")
    if options.ids:
        known = of_ids(app.world, options.ids)
        if unknown := sorted(set(options.ids) - {each.id for each in known}):
            raise ConfigurationError(f"not known: {', '.join(unknown)}. Nothing was done.")
        done = actions.redrive(app.world, known, actions.named(options.ids), who=_who())
    else:
        chosen = failures(app.world, _chosen(options, actions.RETRIED))
        done = actions.redrive(app.world, chosen, _which(options), who=_who())
    return _said(app, options, done.values, QUEUED if done.values["queued"] else "there was nothing to try again")


def _which(options: argparse.Namespace) -> str:
    states = " or ".join(options.state or actions.RETRIED)
    return f"all {states}, of a reason with “{options.reason}”" if options.reason else f"all {states}"


def _export_failures(app: Engine, options: argparse.Namespace) -> int:
    if options.json:
        show({"failures": list(map(plain, failures(app.world, _chosen(options))))}, as_json=True)
        return GOOD
    write_csv(failures(app.world, _chosen(options)), sys.stdout)
    return GOOD


def _resync(app: Engine, options: argparse.Namespace) -> int:
    if options.gone:
        if shown := app.world.source.rows("opportunity", options.ids, {"opportunityid"}):
            raise ConfigurationError(f"Dynamics shows {', '.join(sorted(shown))}: leave out --gone. Nothing was done.")
        then = f"all ids are compared, and what Dynamics lacks goes from Marketo: {AT_NEXT_TICK}"
    else:
        _check_known(app, options.ids)
        then = QUEUED
    return _said(app, options, actions.resync(app.world, options.ids, who=_who(), gone=options.gone).values, then)


def _backfill(app: Engine, options: argparse.Namespace) -> int:
    if options.since and options.clear:
        raise ConfigurationError("--clear looks at everything: leave out --since. Nothing was done.")
    if options.since is None:
        emptied = _to_be_emptied(app, options.clear)
        return _said(app, options, actions.backfill(app.world, emptied, who=_who()).values, AT_NEXT_TICK)
    queued, now = 0, app.world.clock.now()
    begin = max(since(options.since, now), OLDEST)
    if begin > now:
        raise ConfigurationError(f"--since: {options.since} is yet to come. Nothing was done.")
    try:
        for queued in actions.backfill_since(app.world, begin, who=_who()):  # noqa: B007 - told if it ends early
            pass
    except (KeyboardInterrupt, SyncError):
        complain(f"backfill: {queued:,} were queued. Run it again: what is looked at twice is posted once.")
        raise
    return _said(app, options, {"queued": queued}, QUEUED if queued else "nothing was changed since then")


def _rebuild(app: Engine, options: argparse.Namespace) -> int:
    """Nothing to confirm: it writes our own state only, and only where there is none."""
    try:
        found = dict(actions.rebuild(app.world, who=_who(), progress=_looked_at).values)
    except (KeyboardInterrupt, SyncError):
        if app.world.documents.read(*MARK):
            complain("rebuild: the sync stays paused. Run it again: what is rebuilt is not asked for again.")
        raise
    if sys.stderr.isatty():
        print(file=sys.stderr)
    then = [f"what waits is posted: {QUEUED}"] if found.get("queued") else [GOES_ON]
    if found.get("in Marketo, not in Dynamics, so it is held"):
        then.append("`approve-removals` lists what is held, for you to decide")
    _said(app, options, found, "; ".join(then))
    states = found.get("opportunities", {})
    return PROBLEMS if states.get(State.PARKED) or states.get(State.HELD) else GOOD


def _to_be_emptied(app: Engine, names: Sequence[str]) -> dict[str, int]:
    """By `section.field` in how many records; ConfigurationError if there is nothing to empty, or it can't be."""
    described = {
        f"{section}.{name}": field
        for section, kind in (("opportunity", MarketoObject.OPPORTUNITY), ("company", MarketoObject.COMPANY))
        for name, field in (app.world.target.describe(kind).items() if names else ())
        if name not in OWN_FIELDS
    }
    fields = [name if "." in name else f"opportunity.{name}" for name in dict.fromkeys(names)]
    for field in fields:
        if field.removeprefix("opportunity.") in app.world.config.removals.flag:
            raise ConfigurationError(f"{field} is a flag of [removals]: take it out there first. Nothing was done.")
        if field not in described and field.rpartition(".")[2] not in OWN_FIELDS:
            where = "opportunities and companies have"
            raise ConfigurationError(f"in Marketo {where} no field {field}. Nothing was done.")
        if field not in described or not described[field].updateable:
            raise ConfigurationError(f"{field} can't be written in Marketo, so it can't be emptied. Nothing was done.")
        if field in mapped_fields(app.world.config):
            place = app.world.config.file.place(*place_of(field))
            raise ConfigurationError(f"{field} is still mapped ({place}): take it out first. Nothing was done.")
    held = holding(app.world, fields)
    if unheld := [field for field in fields if not held[field]]:
        raise ConfigurationError(f"the sync filled {', '.join(unheld)} in no record. Nothing was done.")
    return dict(held)


def _pause(app: Engine, options: argparse.Namespace) -> int:
    show(actions.pause(app.world, options.why, who=_who()).values, as_json=options.json)
    return GOOD


def _resume(app: Engine, options: argparse.Namespace) -> int:
    pause, then = app.world.documents.read(*PAUSE), "what piled up comes within five minutes"
    if pause and "cleanup" in pause.value:
        if not options.after_cleanup:
            why = "posts to Marketo again all that `cleanup` removed, and starts campaigns that listen for that"
            raise ConfigurationError(f"this {why}: if you mean it, add --after-cleanup. Nothing was done.")
        then = f"{actions.AGAIN}: {AT_NEXT_TICK}"
    done = actions.resume(app.world, who=_who()).values
    return _said(app, options, done, then if done["was paused"] else "nothing changes: it was not paused")


EVER = (_status, _pause, _resume, _validate)  # these may meet a state that a tick has not taken over yet
