"""What the triggers and the command line call; the answer to each class of failure (design.md §6).

The wire's errors become classes in the clients' tables and `rules.verdicts`; what follows from a class is here:

* ConfigurationError   a tick fails with the message; a delivery goes back on the queue, nothing is poisoned
* RetryLater           back on the queue after the delay asked for; no record is blamed, no attempt counted
* NotOurs              kept aside with the reason
* NewerVersion         nothing is done, noted or changed; a delivery goes back as it came
* anything else        raised: the host tries again, `maxDequeueCount` times, and such deliveries are forced
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from textwrap import shorten
from typing import Any

from sync_core import events, telemetry
from sync_core.errors import (
    CleaningUp,
    ConfigurationError,
    NotOurs,
    NoTurn,
    Paused,
    RetryLater,
    SyncError,
    TakingOver,
)
from sync_core.flows.audit import piece
from sync_core.flows.cases import Outcome, seconds_to_wait
from sync_core.flows.detect import Tick, detect
from sync_core.flows.guard import (
    check_not_paused,
    check_pair,
    check_taken_over,
    check_version,
    set_aside,
    spend_recheck_calls,
)
from sync_core.flows.migrations import take_over
from sync_core.flows.reconcile import reconcile
from sync_core.flows.turns import turn
from sync_core.flows.watch import watch
from sync_core.flows.world import World
from sync_core.messages import as_it_came, decode
from sync_core.model import Lane, Work
from sync_core.rules.pace import with_one_more

TIME_BOX_S = 360.0  # 60 % of host.json's functionTimeout of ten minutes (design.md §4; a test compares)
AUDIT_BOX_S = 180.0  # of the five minutes until the timer looks again
NOTHING = Work()
LONGEST_TROUBLE = 500
HIDDEN = 100  # messages put back, of which it is remembered since when they wait: the oldest
GIVE_BACK = timedelta(minutes=1)  # what only another version may handle, or only after a tick
PAIR_CHECK_S = 3600.0  # the pair is checked when a process starts and hourly: three Dataverse requests


class Engine:
    """One per process; safe to call from several threads."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._pair_checked: float | None = None

    def detect(self, *, time_box: float = TIME_BOX_S) -> Tick:
        """One tick of the timer. Raises ConfigurationError or RetryLater; the next tick goes on where it ended."""
        with telemetry.run("tick"):
            return self._detect(time_box)

    def _detect(self, time_box: float) -> Tick:
        check_version(self.world)
        begun, began = self.world.clock.monotonic(), {"began": self.world.clock.now().isoformat(timespec="seconds")}
        try:
            check_not_paused(self.world)
            take_over(self.world, until=begun + time_box)
            self._check_pair()
            tick = detect(self.world, time_box=time_box)
        except Paused as paused:
            self._note("detect", begun, {"paused": str(paused), **began})
            return Tick()
        except TakingOver as waits:
            events.info("tick.taking_over", reason=str(waits))
            self._note("detect", begun, {"taking over": str(waits), **began})
            return Tick()
        except SyncError as error:
            self._note("detect", begun, _trouble(error) | began)
            raise
        read = {"read": began["began"]} if tick.current else {}
        self._note("detect", begun, {**tick.counts, "complete": tick.complete, **began, **read})
        return tick

    def watch(self) -> dict[str, Any]:
        """Look how things stand, keep what the status page draws, tell people of alerts; also while all is paused."""
        check_version(self.world)
        with telemetry.run("watch"):
            found = watch(self.world)
            telemetry.measure(found)
            return found

    def audit(self, *, time_box: float = AUDIT_BOX_S) -> dict[str, Any] | None:
        """Some minutes of the audit that sync.toml asks for; the summary of one that became complete. Not while paused.

        What keeps it from going on is logged: the next time goes on where it ended.
        """
        if not self.world.config.audit.every:
            return None
        ends, found = self.world.clock.monotonic() + time_box, None
        with telemetry.run("audit"):
            try:
                check_taken_over(self.world)
                self._check()
                found = piece(self.world, go_on=lambda: self.world.clock.monotonic() < ends)
            except SyncError as error:
                events.warning("audit.put_off", reason=str(error))
        if found is not None:
            counts = {name: found[name] for name in ("differences", "not shown by Dynamics", "Marketo calls")}
            events.info("audit.done", complete=found["complete"], **{k.replace(" ", "_"): n for k, n in counts.items()})
        return found

    def deliver(self, body: str, *, dequeue_count: int, lease_ends: datetime, lane: Lane) -> Outcome | None:
        """Handle one queue message. Returning acknowledges it: whatever is unfinished is on the queue again by then.

        *lease_ends* is when the message becomes visible to others; no Marketo write starts within L of it.
        """
        try:
            check_taken_over(self.world)
            work = replace(decode(body), lane=lane)
        except (RetryLater, ConfigurationError) as error:  # a newer state, an older one, or nobody can look
            events.warning("delivery.given_back", lane=lane, reason=str(error))
            self.world.queue.give_back(lane, as_it_came(body, force=dequeue_count > 1), after=GIVE_BACK)
            return Outcome(trouble=error)
        except NotOurs as error:
            events.warning("delivery.not_ours", reason=str(error))
            self.world.queue.set_aside(body, str(error))
            return None
        force = work.force or dequeue_count > 1
        with ExitStack() as held:
            try:
                if lane is Lane.SLOW:
                    held.enter_context(turn(self.world, until=lease_ends))
            except (RetryLater, ConfigurationError) as error:
                self.world.queue.put(replace(work, force=force), after=timedelta(seconds=seconds_to_wait(error)))
                told = Outcome(Counter({"put back": work.size}), trouble=error)
                return Outcome() if isinstance(error, NoTurn) else told
            return self.handle(work, force=force, lease_ends=lease_ends)

    def handle(self, work: Work, *, force: bool, lease_ends: datetime) -> Outcome:
        """The same for work that came from no queue: `sync --only`."""
        begun = self.world.clock.monotonic()
        with telemetry.delivery(work):
            try:
                return self._handle(work, begun, force=force, lease_ends=lease_ends)
            except Exception as error:
                # The host tries again, at last by way of the poison queue; meanwhile `status` should know why.
                failed = {"put back": work.size, "trouble": f"failed with {type(error).__name__}"}
                self._note(work.lane, begun, failed, work)
                raise

    def _handle(self, work: Work, begun: float, *, force: bool, lease_ends: datetime) -> Outcome:
        outcome = self._reconcile(work, force=force, lease_ends=lease_ends)
        for again, delay in outcome.again:
            self.world.queue.put(again, after=timedelta(seconds=delay))
        if outcome.trouble is not None:
            events.warning("delivery.put_back", lane=work.lane, reason=str(outcome.trouble))
        if work.why == "due" and outcome.counts["people calls"]:
            spend_recheck_calls(self.world, outcome.counts["people calls"])
        found = {**outcome.counts, **telemetry.fresh(outcome.ages), **_trouble(outcome.trouble)}
        self._note(work.lane, begun, found, work, outcome.again)
        return outcome

    def _reconcile(self, work: Work, *, force: bool, lease_ends: datetime) -> Outcome:
        try:
            self._check()
        except CleaningUp:
            set_aside(self.world, work, sent=force)
            return Outcome(Counter({"set aside": work.size}))
        except (RetryLater, ConfigurationError) as error:
            again = replace(work, force=force, postponed=work.postponed + 1)
            return Outcome(Counter({"put back": work.size}), [(again, seconds_to_wait(error))], error)
        world = self.world
        if work.lane is Lane.SLOW:
            world = replace(world, target=world.target.yielding(), fan_out=world.fan_out_slow)
        return reconcile(world, work, force=force, deadline=lease_ends - timedelta(seconds=self.world.late_write))

    def _check(self) -> None:
        """Raises Paused or WrongPair before anything is done."""
        check_not_paused(self.world)
        self._check_pair()

    def _check_pair(self) -> None:
        now = self.world.clock.monotonic()
        if self._pair_checked is None or now - self._pair_checked > PAIR_CHECK_S:
            check_pair(self.world)
            self._pair_checked = now

    def _note(
        self,
        name: str,
        begun: float,
        value: dict[str, Any],
        work: Work = NOTHING,
        again: Sequence[tuple[Work, float]] = (),
    ) -> None:
        """The last runs of their kind, for `status`, and what was put back out of sight: until when, and since when.

        `read` of detect: what had changed in Dynamics by then is on the queue; it outlives ticks that fail.
        """
        telemetry.done("tick.done" if name == "detect" else "delivery.done", {"lane": name, **value})
        now = self.world.clock.now()
        counts = {key: item for key, item in value.items() if item and type(item) is int}
        run = {
            "at": now.isoformat(timespec="seconds"),
            "seconds": round(self.world.clock.monotonic() - begun, 1),
            "counts": counts,
            "trouble": value.get("trouble", ""),
            **({"kind": value["kind"]} if "kind" in value else {}),
            "trace": telemetry.trace_id(),
            "freshness": value.get("freshness", []),
            "size": work.size,
            "done": work.size - counts.get("put back", 0),
        }
        hidden = [[(now + timedelta(seconds=delay)).isoformat(), each.seen] for each, delay in again if each.seen]

        def noted(known: Mapping[str, Any]) -> dict[str, Any]:
            still = [each for each in known.get("hidden", ()) if each[0] > now.isoformat()]
            oldest = sorted([*still, *hidden], key=lambda each: str(each[1]))[:HIDDEN]
            read = {"read": known["read"]} if "read" in known else {}
            kept = {"runs": with_one_more(known.get("runs", ()), run), "hidden": oldest}
            return {"at": run["at"], **read, **value, **kept}

        try:
            self.world.change("run", name, noted)
        except SyncError as trouble:  # what was done is done: it is not done again for the sake of its note
            events.warning("run.not_noted", lane=name, reason=str(trouble))


def _trouble(error: SyncError | None) -> dict[str, Any]:
    """For `status`: the kind tells the alerts apart."""
    stopped = isinstance(error, ConfigurationError)
    trouble = shorten(str(error or ""), LONGEST_TROUBLE, placeholder=" …")
    return {"trouble": trouble, "stopped": stopped, **({"kind": type(error).__name__} if stopped else {})}
