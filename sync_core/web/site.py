"""Which page an address is, and the answer to everything that goes wrong on the way."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from functools import cache, partial
from io import StringIO
from math import inf
from pathlib import Path
from uuid import UUID

from sync_core import events, wiring
from sync_core.engine import Engine
from sync_core.errors import ConfigurationError, RetryLater, SyncError
from sync_core.flows.export import write_csv
from sync_core.flows.guard import check_taken_over, check_version
from sync_core.flows.status import status
from sync_core.flows.validate import Setup
from sync_core.flows.world import World
from sync_core.web import views
from sync_core.web.acts import ACTIONS, Place
from sync_core.web.confirmations import offer, redeem
from sync_core.web.door import check_own, from_elsewhere, visitor
from sync_core.web.render import address, page
from sync_core.web.wire import Refused, Request, Response, attachment, plain_json, see_other

HEALTH_S = 10.0  # an answer to probes is good for so long: nobody who asks without a key costs us more
LAST_S = 60.0  # and if nobody has got a newer one since, for so long
ONCE_S = 2.0  # that a probe waits for another one, which looks for the first time in a minute
JSON, HEALTH = "status.json", "health"
EVER = ("pause", "resume", "check")  # may be done to a state that a tick has not taken over yet
BOM = "\ufeff"  # without it Excel takes UTF-8 for something else


class Site:
    """One per process; safe to call from several threads."""

    def __init__(
        self,
        engine: Callable[[], Engine],
        setup: Callable[[], Setup],
        env: Mapping[str, str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._setup, self._env, self._monotonic = engine, setup, env, monotonic
        self._health = (-inf, False)  # when somebody looked, and whether all was well
        self._asking = threading.Lock()

    def answer(self, request: Request) -> Response:
        """The answer to any request; whatever goes wrong is a page that says what to do."""
        if request.page == HEALTH:
            return self._answer_probe()
        try:
            who = visitor(request, self._env)
            return self._post(request, who) if request.method == "POST" else self._get(request, who)
        except Refused as refused:
            return _trouble(request, refused)
        except ConfigurationError as error:
            return _trouble(request, Refused(503, str(error), "Correct that; the page then comes back by itself."))
        except RetryLater as error:
            after = str(max(1, min(600, int(error.delay))))
            told = Refused(503, str(error), "Nothing is lost. Try again in a moment.")
            return _trouble(request, told, **{"Retry-After": after})
        except Exception as error:  # noqa: BLE001 - nobody is shown what nobody expected
            where = _place(error)
            events.error("page.unexpected", where=where)
            return _trouble(request, Refused(500, f"Something unexpected happened ({where}).", "Report this line."))

    @property
    def _world(self) -> World:
        """Raises NewerVersion: of a newer state nothing is shown."""
        world = self._engine().world
        check_version(world)
        return world

    def _get(self, request: Request, who: str) -> Response:
        if from_elsewhere(request) and request.page:
            return page(request, "elsewhere.html", {})  # nothing is read until somebody wants that
        name, _, rest = request.page.strip("/").partition("/")
        match name, rest:
            case "", "":
                return page(request, "status.html", views.main(self._world, request.query))
            case "status.json", "":
                return plain_json(200, status(self._world))
            case "failures", "":
                return page(request, "failures.html", views.failures(self._world, request.query))
            case "failures.csv", "":
                return self._export(request)
            case "opportunities", key if key:
                return page(request, "opportunity.html", views.opportunity(self._world, key))
            case "find", "":
                return self._find(request)
            case "actions", action if action in ACTIONS:
                ask = ACTIONS[action].ask(self._world, request.query)
                nonce = offer(self._world, action, ask.targets, who)
                return page(request, "confirm.html", {"ask": ask, "action": action, "confirmation": nonce})
        raise Refused(404, "There is no such page.", "Go to the status page and follow its links.")

    def _post(self, request: Request, who: str) -> Response:
        name, _, action = request.page.strip("/").partition("/")
        if name != "actions" or action not in ACTIONS:
            raise Refused(405, "Nothing can be sent to this page.", "Go to the status page and follow its links.")
        check_own(request)
        if action not in EVER:
            check_taken_over(self._world)
        form = request.form()
        targets = redeem(self._world, form.get("nonce", ""), action, who)
        done = ACTIONS[action].do(Place(self._world, self._setup), targets, form, who)
        return see_other(address(request, done=done.entry))

    def _find(self, request: Request) -> Response:
        text = request.query.get("q", "").strip()[: views.LONGEST_SEARCH]
        if not text:
            raise Refused(400, "Nothing to look for.", "Type an opportunity's id, or part of its name.")
        try:
            return see_other(address(request, f"opportunities/{UUID(text.strip('{}'))}"))
        except ValueError:
            found = views.matches(self._world, text)
        if len(found["matches"]) == 1:
            return see_other(address(request, f"opportunities/{next(iter(found['matches']))}"))
        return page(request, "found.html", found, status=200 if found["matches"] else 404)

    def _export(self, request: Request) -> Response:
        found, after = views.exported(self._world, request.query)
        more = f"more follow: open this address again with after={after}, or use the command `failures export`"
        table = StringIO()
        write_csv(found, table, more if after else "")
        return attachment("failures.csv", BOM + table.getvalue())

    def _answer_probe(self) -> Response:
        """200 while Marketo is in step or catching up and somebody watches, 503 else, with no more than that.

        One probe at a time looks; those that come meanwhile get its last answer, which counts for a minute. Where there
        is none they wait a moment for it.
        """
        if self._expired() and self._asking.acquire(timeout=ONCE_S if self._expired(LAST_S) else 0):
            try:
                if self._expired():  # not by the one that looked just before
                    well = self._is_well()
                    self._health = (self._monotonic(), well)
            finally:
                self._asking.release()
        well = self._health[1] and not self._expired(LAST_S)
        return plain_json(200 if well else 503, {"status": "ok" if well else "needs attention"})

    def _expired(self, seconds: float = HEALTH_S) -> bool:
        return self._monotonic() >= self._health[0] + seconds

    def _is_well(self) -> bool:
        try:
            return bool(status(self._world)["healthy"])
        except SyncError:
            return False
        except Exception as error:  # noqa: BLE001 - a probe learns one word, whatever happens
            events.error("page.unexpected", where=_place(error))
            return False


def _place(error: Exception) -> str:
    code = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(code.filename).name}:{code.lineno}"


def _trouble(request: Request, refused: Refused, **headers: str) -> Response:
    if request.page == JSON:
        return plain_json(refused.status, {"error": refused.what, "remedy": refused.remedy})
    context = {"status": refused.status, "what": refused.what, "remedy": refused.remedy, "to": refused.page}
    return page(request, "trouble.html", context, status=refused.status, **headers)


@cache
def site() -> Site:
    """The process's site, on the same engine as the other functions."""
    return Site(wiring.engine, partial(wiring.setup, os.environ), os.environ)
