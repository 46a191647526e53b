"""The story, step by step. Whatever it says about Marketo was read from Marketo; what fails to hold raises Failed."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from sync_core.flows.guard import recheck_calls_left
from sync_core.model import Lane, State
from sync_core.settings import Settings
from sync_core.wiring import build
from tools import checker
from tools.demo import crm
from tools.demo.screen import Failed, Screen, count, short
from tools.demo.services import LEASE_S, LOOK_EVERY_S, Services

QUIET_S = 90
QUIET_LOOK_S = 0.1  # a look asks for the length of every queue
SLOW_WRITE_S = 1.5  # shorter than MARKETO_LATE_WRITE_S: as late as a write may be
EXPLAIN_LINES = 30
SAMPLE_EVERY_S = 0.02
ONE_MESSAGE = 1_800  # opportunities; a larger first load may cost a tenth more than the fewest calls

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Spent:
    """Marketo calls of one part of the story, and the fewest that its changes could have cost."""

    title: str
    calls: int
    fewest: int
    apart: Counter[str]


class Story:
    """Tells it on *screen*; `run` raises Failed at the first step that does not show what it has to."""

    def __init__(self, services: Services, screen: Screen, *, data: Path | None, seed: int) -> None:
        self.services = services
        self.screen = screen
        self.data = data
        self.seed = seed
        self.dataverse, self.marketo = services.dataverse, services.marketo
        # For the ledger's counts and the queue only: it asks neither service anything.
        self.world = build(Settings.from_env(services.environment)).world
        self.fewest = checker.Fewest()
        self.wanted = checker.nothing()
        self.held: dict[str, Sequence[Row]] = {}
        self.before: dict[str, Row] = {}
        self.spent: list[Spent] = []
        self.recheck_left = recheck_calls_left(self.world)

    def run(self) -> None:
        self.prepare()
        self.first_load()
        self.left_out()
        self.a_day()
        self.has_opportunity()
        self.explain()
        self.second_full_run()
        self.calls()
        self.proof()

    # --- 0 and 1 ------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        origin = crm.fill(self.dataverse, self.data, self.seed)
        rows = self.rows = checker.dataverse_rows(self.dataverse)
        unknown = checker.expected(rows, [])
        people = crm.introduce_people(self.marketo, rows["contact"], unknown, self.seed)
        self.held = checker.marketo_rows(self.marketo)
        wanted = checker.expected(rows, self.held["leads"])
        self.cast = crm.Casting(rows, wanted, self.held["leads"], self.seed).cast()
        pairs = len(rows["connection"]) // 2
        self.screen.say(
            f"Dynamics ({origin}): {count(len(rows['opportunity']), 'opportunity', 'opportunities')}, "
            f"{count(len(rows['account']), 'account')}, {count(len(rows['contact']), 'contact')}, "
            f"{count(pairs, 'connection')}."
        )
        self.screen.say(
            f"Marketo knows {count(people, 'person', 'people')} of these and no opportunity yet; "
            f"{len(wanted.unknown)} people with a role in a deal are not there."
        )

    def first_load(self) -> None:
        self.screen.chapter(1, "The first load")
        total, mark = len(self.rows["opportunity"]), self.mark()
        self.host = self.services.start_host()
        seconds = self.screen.progress(total, self._loaded, timeout=QUIET_S + total / 20)
        self.wait_until_quiet()
        self.look()
        self.account("first load", mark)
        self.require_right()
        self.screen.good(f"{total:,} of {total:,} opportunities in {seconds:.1f} s, the start of the host included.")
        self.screen.good(f"Marketo now holds {self._holdings()}.")

    def _loaded(self) -> tuple[int, str]:
        self.host.require_running()
        rows = self.marketo.get("subscription")["rows"]
        remark = f"{rows['companies']} companies, {rows['opportunities']} opportunities, {rows['roles']} roles"
        counts = self.world.opportunities.counts()
        return sum(number for state, number in counts.items() if state != "roles"), remark

    def _holdings(self) -> str:
        rows = self.held
        return (
            f"{count(len(rows['opportunities']), 'opportunity', 'opportunities')}, {count(len(rows['roles']), 'role')} "
            f"and {count(len(rows['companies']), 'company', 'companies')}"
        )

    # --- 2 ------------------------------------------------------------------------------------------------------

    def left_out(self) -> None:
        self.screen.chapter(2, "Who was left out, and why")
        reasons = Counter(item.why for item in self.wanted.left_out)
        self.screen.table((why, f"{number:,}") for why, number in reasons.most_common())
        waiting = self.world.opportunities.counts()["waiting"]
        deals = len({item.opportunity for item in self.wanted.left_out if item.why == checker.UNKNOWN})
        self.require(waiting == deals, f"{deals} opportunities should wait for people, the ledger says {waiting}")
        self.screen.say(
            f"{count(waiting, 'opportunity is', 'opportunities are')} in Marketo without people who are not there yet; "
            "they are asked for again, less and less often."
        )
        opportunity, contact, role = self.cast.left_out
        told = json.loads(self.services.command("explain", opportunity, "--json"))
        why = next((item["why"] for item in told["left out"] if (item["who"], item["text"]) == (contact, role)), None)
        self.require(bool(why), f"explain {opportunity} should tell why contact {contact} is left out")
        self.screen.say(f'For example "{role or "no role"}" of opportunity {opportunity}, contact {contact}: {why}.')

    # --- 3 ------------------------------------------------------------------------------------------------------

    def a_day(self) -> None:
        self.screen.chapter(3, "A day in the CRM")
        self.screen.say("Each change is made in Dynamics; what follows was read from Marketo after the next tick.")
        self.stakeholder_added()
        self.deal_moved()
        self.contact_merged()
        self.deal_won()
        self.many_deleted()
        self.killed()

    def stakeholder_added(self) -> None:
        cast, lead, before = self.cast, self._lead(self.cast.newcomer), len(self._people())
        self.screen.scene(f'A stakeholder is added to "{self._deal(cast.welcoming)}"')
        edit = {"op": "connect", "opportunity": cast.welcoming, "contact": cast.newcomer, "role": "Champion"}
        seconds = self.change("stakeholder added", edit)
        found = [role for role in self._roles_of(lead) if role["externalOpportunityId"] == cast.welcoming]
        self.require([role["role"] for role in found] == ["Champion"], "the new stakeholder should have one role")
        after = len(self._people())
        self.require(after == before + 1, f'"Has Opportunity" should count {before + 1} people, not {after}')
        self.screen.good(
            f"{seconds:.1f} s later person {lead} is Champion there; "
            f'"Has Opportunity" counts {after} people instead of {before}.'
        )

    def deal_moved(self) -> None:
        cast = self.cast
        self.screen.scene(f'"{self._deal(cast.moving)}" moves to another account')
        known = {row["externalCompanyId"] for row in self.held["companies"]}
        values = {"parentaccountid@odata.bind": f"/accounts({cast.new_account})"}
        seconds = self.change(
            "deal moved", {"op": "update", "table": "opportunity", "id": cast.moving, "values": values}
        )
        company = self._opportunity(cast.moving)["externalCompanyId"]
        self.require(
            company == cast.new_account, f"the opportunity should name company {cast.new_account}, not {company}"
        )
        new = next((row for row in self.held["companies"] if row["externalCompanyId"] == company), None)
        self.require(new is not None and company not in known, "its company should have been created in Marketo")
        self.screen.good(
            f'{seconds:.1f} s later it belongs to "{short(str(new and new["company"]))}", which is a new company.'
        )

    def contact_merged(self) -> None:
        cast = self.cast
        loser, winner = self._lead(cast.loser), self._lead(cast.winner)
        before, mark = len(self._people()), self.mark()
        texts = [role["role"] for role in self._roles_of(loser)]
        self.screen.scene(
            f'The contact behind person {loser} is merged into another, on "{self._deal(cast.loser_deal)}"'
        )
        with Lowest(self.services) as lowest:
            edit = {"op": "merge", "table": "contact", "id": cast.loser, "into": cast.winner}
            seconds = self.change("contact merged", edit)
        self.require(
            [role["role"] for role in self._roles_of(winner)] == texts, f"person {winner} should have the role"
        )
        self.require(not self._roles_of(loser), f"person {loser} should have no role any more")
        added, removed = (
            self._first_write(mark, "opportunities/roles"),
            self._first_write(mark, "opportunities/roles/delete"),
        )
        self.require(0 < added < removed, "the new role should be added before the old one is removed")
        self.require(lowest.people >= before, f'"Has Opportunity" should never count less than {before} people')
        self.screen.good(
            f'{seconds:.1f} s later person {winner} is "{texts[0]}" in place of person {loser}: first added, '
            f"then removed (Marketo calls {added} and {removed})."
        )
        self.screen.good(
            f'"Has Opportunity" never counted less than {lowest.people} people; '
            f"it was looked at {lowest.looks} times meanwhile."
        )

    def deal_won(self) -> None:
        row, mark = self._row(self.cast.won), self.mark()
        self.screen.scene(f'"{self._deal(self.cast.won)}" is won')
        amount = round(row["estimatedvalue"] * 1.1, 2)
        values = {"estimatedvalue": amount, "actualvalue": amount}
        seconds = self.change("deal won", {"op": "win", "id": self.cast.won, "values": values})
        now, old = self._opportunity(self.cast.won), self.before[self.cast.won]
        names = ("stage", "isWon", "isClosed", "closeDate", "amount")
        expected = self.wanted.opportunities[self.cast.won]
        self.require(all(now[name] == expected[name] for name in names), "the opportunity should be won in Marketo")
        self.require(
            (now["stage"], now["isWon"], now["isClosed"]) == ("Won", True, True), "it should be won and closed"
        )
        writes = [call for call in self.journal(mark) if call["kind"] == "write"]
        self.require([call["records"] for call in writes] == [1], "all of that should come in one record of one call")
        self.screen.good(f"{seconds:.1f} s later, in one record of one call:")
        self.screen.table((f"  {name}", _plain(old[name]), "→", _plain(now[name])) for name in names)

    def many_deleted(self) -> None:
        number, before, mark = len(self.cast.deleted), self._holdings(), self.mark()
        self.screen.scene(f"Somebody deletes {number} opportunities")
        edits = [{"op": "delete", "table": "opportunity", "id": key} for key in self.cast.deleted]
        seconds = self.make(edits)
        self.held = checker.marketo_rows(self.marketo)
        waiting = sum(map(len, self.world.opportunities.in_state(State.HELD)))
        writes = sum(call["kind"] == "write" for call in self.journal(mark))
        self.require(waiting == number, f"the removal guard should hold {number} opportunities, not {waiting}")
        self.require(writes == 0 and self._holdings() == before, "nothing should have been removed from Marketo")
        self.screen.good(
            f"{seconds:.1f} s later all {number} are held by the removal guard. Marketo still holds {before}; "
            "nothing was written."
        )
        self._approve(number, mark)

    def _approve(self, number: int, mark: int) -> None:
        self.screen.say("It was meant. The operator runs `python -m sync_core approve-removals --yes`.")
        answer = json.loads(self.services.command("approve-removals", "--yes", "--json"))
        self.require(answer["approved"] == number, f"{number} removals should be approved, not {answer['approved']}")
        self.wait_until_quiet()
        roles = len(self.held["roles"])
        self.look()
        self.account("deletions, once approved", mark)
        self.require_right()
        last_role = self._first_write(mark, "opportunities/roles/delete", last=True)
        first = self._first_write(mark, "opportunities/delete")
        self.require(0 < last_role < first, "roles should be removed before their opportunities")
        self.screen.good(
            f"Gone: {count(roles - len(self.held['roles']), 'role')} first, then {number} opportunities; "
            f"no orphan is left. Marketo holds {self._holdings()}."
        )

    def killed(self) -> None:
        deals = [row for row in self.rows["opportunity"] if row.get("statecode", 0) == 0]
        self.screen.scene(f"{len(deals)} close dates move by a week, and the host is killed in the middle (kill -9)")
        mark = self.mark()
        self.marketo.post("switches", {"latency": {"write": SLOW_WRITE_S}})
        self.dataverse.post("edit", [_moved(row) for row in deals])
        self._wait_for(lambda: self._first_write(mark, "opportunities"), "Marketo should be called")
        self.host.kill()
        died = time.monotonic()
        self.marketo.post("switches", {"latency": 0.0})
        again = self.mark()
        self.host = self.services.start_host()
        self.host.wait_for_tick(after=died)
        self.wait_until_quiet()
        seconds = time.monotonic() - died
        self.look()
        self.account("the killed delivery", mark)
        read_back = [c for c in self.journal(again) if c["kind"] == "read" and c["path"].endswith("/roles.json")]
        self.require(bool(read_back), "the delivery that came back should have read the roles back from Marketo")
        self.require(
            self._first_write(again, "opportunities") > 0, "the delivery that came back should be posted again"
        )
        self.require_right()
        self.screen.good(
            "The call was on its way, its answer never read. The queue kept the message, and gave it to the new host "
            f"when the lease ({LEASE_S} s) was over. That one trusted no memory: it read the roles back and posted all "
            f"again. {seconds:.1f} s after the kill Marketo is right: 0 differences."
        )

    # --- 4 to 8 -------------------------------------------------------------------------------------------------

    def has_opportunity(self) -> None:
        self.screen.chapter(4, 'Who "Has Opportunity"')
        found, wanted = self._people(), self.wanted.people
        self.require(found == wanted, f"{len(wanted)} people should have an opportunity, Marketo counts {len(found)}")
        everybody = len(self.held["leads"])
        self.screen.good(f"Marketo counts {len(found)} of its {everybody} people, exactly those whom the rules name.")

    def explain(self) -> None:
        key = self.cast.explained
        self.screen.chapter(5, "The answer to one “why”")
        self.screen.say(f"python -m sync_core explain {key}")
        told = self.services.command("explain", key).splitlines()
        roles = sum(deal == key for deal, _, _ in self.wanted.roles)
        self.require(f"Roles ({roles}):" in told, f"explain should tell of {roles} roles")
        self.screen.lines(["", *told], most=EXPLAIN_LINES)

    def second_full_run(self) -> None:
        self.screen.chapter(6, "Everything once more")
        self.screen.say("Dynamics forgets all delta links, so that everything is read again from the start.")
        mark, read = self.mark(), self._read_from_dataverse()
        seconds = self.make(lambda: self.dataverse.post("expire-delta-links"))
        rows, total = self._read_from_dataverse() - read, sum(map(len, self.rows.values()))
        self.require(rows >= total, f"at least {total} rows should have been read again, not {rows}")
        calls = self.journal(mark)
        writes = sum(call["kind"] == "write" for call in calls)
        self.look()
        self.account("second full run", mark)
        self.require(writes == 0, f"a second run should write nothing, it made {writes} Marketo writes")
        self.require_right()
        self.screen.good(f"{seconds:.1f} s and {rows:,} rows later: {writes} Marketo writes.")

    def calls(self) -> None:
        self.screen.chapter(7, "Marketo calls, and the fewest that would do")
        rows = [(part.title, str(part.calls), str(part.fewest), _apart(part.apart)) for part in self.spent]
        self.screen.table([("", "calls", "fewest", "apart"), *rows])
        self.screen.say(
            "Apart: describing fields, reading roles back after a crash, asking again for people who are missing. "
            "A killed delivery is sent again as a whole, since nobody knows what arrived."
        )
        for part in self.spent:
            slack = 1.1 if part.title == "first load" and len(self.rows["opportunity"]) > ONE_MESSAGE else 1
            fine = part.title == "the killed delivery" or part.calls <= part.fewest * slack
            self.require(fine, f"{part.title}: {part.fewest} calls would do, {part.calls} were made")

    def proof(self) -> None:
        self.screen.chapter(8, "The proof")
        self.look()
        reader = checker.RestReader(self.services.marketo_url, self.services.ca)
        try:
            wrong = self._differences() + checker.rest_differences(self.wanted, reader)
        finally:
            reader.close()
        earlier = len({row["externalCompanyId"] for row in self.held["companies"]} - self.wanted.companies.keys())
        figures = self.wanted.figures | {"companies of earlier deals": earlier}
        self.screen.say(
            "Marketo, read back, against the rules, worked out apart from the sync (tools/checker.py), "
            "and counted again through Marketo's REST API:"
        )
        self.screen.table((name, f"{number:,}") for name, number in figures.items())
        self.screen.lines((f"   {line}" for line in wrong), most=20)
        self.require(not wrong, f"differences: {len(wrong)}")
        self.screen.good(f"differences: {len(wrong)}. Nothing missing, nothing extra, no orphan role.")

    # --- changing, waiting, reading -------------------------------------------------------------------------------

    def change(self, title: str, edit: Row | Sequence[Row]) -> float:
        """Make the *edit*, wait for the next tick and what it queued, and see that Marketo is right."""
        mark = self.mark()
        self.before = {row["externalOpportunityId"]: row for row in self.held["opportunities"]}
        seconds = self.make(edit)
        self.look()
        self.account(title, mark)
        self.require_right()
        return seconds

    def make(self, edit: Row | Sequence[Row] | Callable[[], object]) -> float:
        """Between two ticks, so that no tick sees half of it; the seconds until all that follows was done."""
        self.host.wait_for_tick(after=time.monotonic() - 1)
        started = time.monotonic()
        if callable(edit):
            edit()
        else:
            self.dataverse.post("edit", edit)
        self.host.wait_for_tick(after=time.monotonic())
        self.wait_until_quiet()
        return time.monotonic() - started

    def wait_until_quiet(self) -> None:
        """Until no message is left, not even one that is invisible now."""

        def quiet() -> bool:
            self.host.require_running()
            lengths = self.world.queue.lengths()
            return not any(lengths[lane] for lane in Lane)

        self._wait_for(quiet, "the queue should become empty", every=QUIET_LOOK_S)

    def _wait_for(self, holds: Callable[[], object], what: str, *, every: float = LOOK_EVERY_S) -> None:
        deadline = time.monotonic() + QUIET_S
        while not holds():
            if time.monotonic() > deadline:
                raise Failed(f"{what} within {QUIET_S} s")
            time.sleep(every)

    def look(self) -> None:
        """Read both services, and work out what Marketo should hold now."""
        self.rows = checker.dataverse_rows(self.dataverse)
        self.held = checker.marketo_rows(self.marketo)
        self.previous, self.wanted = self.wanted, checker.expected(self.rows, self.held["leads"])

    def account(self, title: str, mark: int) -> None:
        """Note what the changes since the last look have cost, of the calls since *mark*."""
        fewest = sum(self.fewest.calls(self.previous, self.wanted).values())
        calls, apart = Counter[str](), Counter[str]()
        for call in self.journal(mark):
            if call["kind"] == "usage":  # of the watch, once an hour, whatever else goes on
                continue
            counted = call["kind"] == "write" or call["path"].endswith("/leads.json")
            (calls if counted else apart)[_name(call)] += 1
        again = self._asked_again()
        apart["asking again"] += again
        self.spent.append(Spent(title, calls.total() - again, fewest, apart))

    def _asked_again(self) -> int:
        """Look-ups for people who were missing before, since the last account; they come as time passes."""
        left = recheck_calls_left(self.world)
        spent, self.recheck_left = max(0, self.recheck_left - left), left
        return spent

    def require(self, holds: bool, what: str) -> None:
        if not holds:
            raise Failed(what)

    def require_right(self) -> None:
        wrong = self._differences()
        self.require(
            not wrong, f"Marketo should be right, but there are {len(wrong)} differences: {'; '.join(wrong[:5])}"
        )

    def _differences(self) -> list[str]:
        return checker.differences(self.wanted, self.held, ever_named=self.fewest.named)

    def mark(self) -> int:
        return max((call["sequence"] for call in self.marketo.get("journal")), default=0)

    def journal(self, since: int) -> list[Row]:
        """The sync's calls to Marketo after the one of number *since*."""
        return list(self.marketo.get(f"journal?since={since}"))

    def _first_write(self, since: int, path: str, *, last: bool = False) -> int:
        """The number of the first (or last) write to *path*; 0 if there is none."""
        wanted = f"/rest/v1/{path}.json"
        found = [c["sequence"] for c in self.journal(since) if c["kind"] == "write" and c["path"] == wanted]
        return found[-1 if last else 0] if found else 0

    def _read_from_dataverse(self) -> int:
        return sum(entry["rows"] for entry in self.dataverse.get("journal"))

    def _people(self) -> set[int]:
        return {row["id"] for row in self.held["people-with-opportunity"]}

    def _lead(self, contact: str) -> int:
        address = checker.usable_address(self._contact(contact)["emailaddress1"])
        return int(checker.newest_by_address(self.held["leads"])[address])

    def _contact(self, key: str) -> Row:
        return next(row for row in self.rows["contact"] if row["contactid"] == key)

    def _row(self, key: str) -> Row:
        return next(row for row in self.rows["opportunity"] if row["opportunityid"] == key)

    def _deal(self, key: str) -> str:
        return short(self._row(key)["name"])

    def _opportunity(self, key: str) -> Row:
        return next(row for row in self.held["opportunities"] if row["externalOpportunityId"] == key)

    def _roles_of(self, lead: int) -> list[Row]:
        return [row for row in self.held["roles"] if row["leadId"] == lead]


class Lowest:
    """Counts "Has Opportunity" again and again while the block runs."""

    def __init__(self, services: Services) -> None:
        self._admin = services.marketo_admin()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)
        self.people = 1 << 31
        self.looks = 0

    def __enter__(self) -> Lowest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _count(self) -> None:
        with suppress(requests.RequestException):  # the emulator ended: whoever waits for it says so
            while not self._done.wait(SAMPLE_EVERY_S):
                self.people = min(self.people, len(self._admin.get("people-with-opportunity")))
                self.looks += 1


def _moved(row: Row) -> Row:
    values = {"estimatedclosedate": crm.a_week_later(row)}
    return {"op": "update", "table": "opportunity", "id": row["opportunityid"], "values": values}


def _name(call: Row) -> str:
    """What a call was for."""
    if call["kind"] == "read" and call["path"].endswith("/roles.json"):
        return "reading back"
    return {"identity": "token"}.get(call["kind"], call["kind"])


def _apart(apart: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(apart.items()) if number) or "-"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:,.2f}" if isinstance(value, float) else str(value)
