"""Show on this machine what the sync does, and prove it: `python -m tools.demo`, or `make demo`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tools.azurite import AzuriteError
from tools.demo import crm
from tools.demo.screen import Failed, Screen
from tools.demo.services import Services, interrupt, new_folder, shown, without_ours
from tools.demo.story import Story

GOOD, BAD, STOPPED = 0, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 only if every step showed what it had to and nothing differs in the end."""
    options = parser().parse_args(arguments)
    os.environ.update(without_ours(os.environ))  # our own look at the storage emulator passes proxies by, too
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    screen, folder = Screen(), new_folder()
    started = time.monotonic()
    try:
        with Services(folder, options.seed) as services:
            code = tell(services, screen, options, started)
            if options.keep:
                keep(services, screen)
    except (AzuriteError, Failed) as error:
        code = failed(screen, folder, error)
    except KeyboardInterrupt:
        screen.say("Stopped; nothing was left running.")
        return STOPPED
    except Exception:
        screen.bad(f"BROKEN at “{screen.step}”. The logs are in {shown(folder)}.")
        raise
    return code


def tell(services: Services, screen: Screen, options: argparse.Namespace, started: float) -> int:
    screen.title("Opportunity Sync: from Dynamics 365 Sales to Marketo")
    screen.say("Both are emulated here, each a server of its own; the sync's functions run as they are deployed.")
    try:
        Story(
            services, screen, data=None if options.generated else options.data or crm.beside_us(), seed=options.seed
        ).run()
    except Failed as error:
        return failed(screen, services.folder, error)
    screen.end(f"All of it took {time.monotonic() - started:.0f} s.")
    return GOOD


def failed(screen: Screen, folder: Path, error: Exception) -> int:
    screen.bad(f"FAILED at “{screen.step}”: {error}")
    screen.say(f"The logs are in {shown(folder)}.")
    return BAD


def keep(services: Services, screen: Screen) -> None:
    """Leave everything running until Ctrl-C, and tell what can be done with it."""
    environment = services.write_environment()
    screen.step = "everything keeps running"
    screen.lines(
        [
            "",
            *([f"The status page: {services.host.page()}", ""] if services.host else []),
            "Everything keeps running until Ctrl-C here. In another terminal:",
            "",
            "  # the settings; the emulators' secrets are no secrets",
            f"  . {shown(environment)}",
            f"  {shown(Path(sys.executable))} -m sync_core status",
            f"  {shown(Path(sys.executable))} -m tools.checker --dataverse $DATAVERSE_URL \\",
            "      --marketo $MARKETO_URL --ca $REQUESTS_CA_BUNDLE",
            "",
            "  # change something in Dynamics, look at it in Marketo a second later",
            "  curl --cacert $REQUESTS_CA_BUNDLE $DATAVERSE_URL/admin/rows/opportunity",
            "  curl --cacert $REQUESTS_CA_BUNDLE $DATAVERSE_URL/admin/edit -H Content-Type:application/json \\",
            '    -d \'{"op": "win", "id": "..."}\'',
            "  curl --cacert $REQUESTS_CA_BUNDLE $MARKETO_URL/admin/rows/opportunities",
            "  curl --cacert $REQUESTS_CA_BUNDLE $MARKETO_URL/admin/people-with-opportunity",
            "",
            f"  Dynamics {services.dataverse_url}   Marketo {services.marketo_url}",
            f"  logs     {shown(services.folder)}",
        ]
    )
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m tools.demo",
        description="Load a CRM into Marketo, both emulated on this machine, live through a day with it, and prove "
        "that Marketo holds what the rules say. Takes about a minute, needs no account and no network.",
    )
    source = found.add_mutually_exclusive_group()
    source.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="opportunities.json, accounts.json, contacts.json and connections.json in Web API shape "
        "(default: the UK data beside the checkout if it is there, else generated)",
    )
    source.add_argument("--generated", action="store_true", help="make the CRM up, whatever data is there")
    found.add_argument("--seed", type=int, default=1, metavar="N", help="for generated data and random choices (1)")
    found.add_argument("--keep", action="store_true", help="leave everything running afterwards, until Ctrl-C")
    return found


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a pool's thread that Ctrl-C met while it started is one that the pool doesn't know, and that the
    # end of the interpreter would wait for without end.
    os._exit(code)
