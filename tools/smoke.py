"""After a deployment: does the app answer? `python -m tools.smoke https://APP/api/status`, the status page's address.

Asks `/api/health` beside it until our code answers, for LONGEST_S at most; then exit code 0, whether all is well or
somebody is needed, which is printed. Needs nothing but Python, since it runs where nothing is installed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import urlopen

LONGEST_S = 300.0
PATIENCE_S = 30
PAUSE_S = 5.0
WORDS = ("ok", "needs attention")  # docs/status-page.md


class NoAnswer(Exception):
    """Something else than the app answered, or nobody; the text says what."""


def look(address: str) -> str:
    """What the app says there, one of WORDS. Raises NoAnswer."""
    try:
        try:
            with urlopen(address, timeout=PATIENCE_S) as found:  # noqa: S310 - https, or loopback, as main demands
                status, body = found.status, found.read()
        except HTTPError as error:
            status, body = error.code, error.read()
        word = json.loads(body)["status"]
    except OSError as error:
        raise NoAnswer(str(error)) from error
    except (ValueError, KeyError, TypeError):
        raise NoAnswer(f"HTTP {status}, and not the app's answer") from None
    if word not in WORDS:
        raise NoAnswer(f"HTTP {status}, and not the app's answer")
    return str(word)


def wait(address: str, longest: float = LONGEST_S, pause: float = PAUSE_S) -> str:
    """`look` until there is an answer. Raises the last NoAnswer after *longest* seconds."""
    deadline = time.monotonic() + longest
    while True:
        try:
            return look(address)
        except NoAnswer:
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.smoke", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", help="the status page, such as https://APP/api/status")
    parser.add_argument("--seconds", type=float, default=LONGEST_S, help=f"for how long to try ({LONGEST_S:.0f})")
    options = parser.parse_args()
    parts = urlsplit(options.page)
    if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1"):
        parser.error("the address of the status page must start with https://")
    address = urljoin(options.page, "health")
    try:
        word = wait(address, options.seconds)
    except NoAnswer as error:
        print(f"{address}: {error}. The functions do not run; look at the log stream of the app.", file=sys.stderr)
        return 1
    print(f"The app answers: {word}." + ("" if word == WORDS[0] else f" {options.page} says what."))
    return 0


if __name__ == "__main__":
    sys.exit(main())
