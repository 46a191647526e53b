"""Changes of the audit: what it believes, what it takes for a difference, where it goes on."""

from __future__ import annotations

from tools.sabotage.change import Change

AUDIT = "sync_core/flows/audit.py"
REPORT = "sync_core/audit_report.py"
TABLES = "sync_core/adapters/tables.py"
FOUND = "tests/flows/test_audit.py::"
TOLD = "tests/flows/test_audit_command.py::"
HUNDRED = FOUND + "test_a_hundred_changes_by_hand_are_all_found_none_is_invented_and_all_are_mended"

CHANGES = (
    Change(
        "an audit that believes the ledger",
        "2.2",
        AUDIT,
        "reconcile(self.rehearsal.world, work, force=True,",
        "reconcile(self.rehearsal.world, work, force=False,",
        HUNDRED,
    ),
    Change(
        "what is gone is not looked at",
        "2.7",
        AUDIT,
        "gone=phase == OPPORTUNITIES",
        "gone=False",
        HUNDRED,
    ),
    Change(
        "repair that trusts the ledger",
        "2.4",
        AUDIT,
        "users=users, force=True, why=why)",
        "users=users, force=why == AUDIT, why=why)",
        HUNDRED,
    ),
    Change(
        "the second look believes the first",
        "2.2",
        AUDIT,
        "        self.rehearsal = rehearse(self.world)  # nothing of the first look is believed\n",
        "        self.rehearsal = rehearse(replace(self.world, target=self.rehearsal.marketo))\n",
        FOUND + "test_a_change_between_the_two_looks_is_no_difference",
    ),
    Change(
        "what the guard would hold back is not told",
        "2.7",
        AUDIT,
        'update={"max_count": UNLIMITED}',
        "update={}",
        FOUND + "test_roles_that_must_go_pass_the_guard_or_are_held",
    ),
    Change(
        "opportunities that only Dynamics knows are not compared",
        "2.9",
        AUDIT,
        "PHASES = (OPPORTUNITIES, UNKNOWN, COMPANIES, SALES_PERSONS)",
        "PHASES = (OPPORTUNITIES, COMPANIES, SALES_PERSONS)",
        FOUND + "test_what_the_sync_has_not_handled_yet_is_on_its_way_and_no_difference",
    ),
    Change(
        "what is on its way counts as a difference",
        "2.9",
        AUDIT,
        "    if _later(change):\n        return LATER\n",
        "",
        FOUND + "test_what_the_sync_has_not_handled_yet_is_on_its_way_and_no_difference",
    ),
    Change(
        "two audits at once",
        "2.4",
        AUDIT,
        "        if self.ticket is None:\n",
        "        if self.ticket == '':\n",
        FOUND + "test_two_audits_at_once_do_not_count_twice",
    ),
    Change(
        "an audit that begins anew each time",
        "2.1",
        AUDIT,
        "if not (again or stale or known.mapping != self.book.mapping):",
        "if known.run == '':",
        FOUND + "test_interrupted_after_any_piece_it_goes_on_there_and_finds_the_same",
    ),
    Change(
        "an audit of the timer spends more than its calls",
        "2.6",
        AUDIT,
        " and auditor.spent_today() < config.calls_a_day",
        "",
        FOUND + "test_the_timer_compares_all_within_the_calls_of_a_day",
    ),
    Change(
        "values are no text in the report",
        "2.10",
        REPORT,
        "    autoescape=True,\n",
        "    autoescape=False,\n",
        TOLD + "test_hostile_values_stay_text_in_the_report",
    ),
    Change(
        "counts that change while they are compared are called wrong",
        "2.9",
        TABLES,
        "            if self._read_counts(partition)[1] != ticket:\n                continue\n",
        "",
        "tests/adapters/test_tables.py::"
        "test_counts_of_a_partition_that_is_written_to_all_the_time_are_not_called_wrong",
    ),
)
