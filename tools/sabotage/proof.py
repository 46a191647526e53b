"""Changes of the audit: what it believes, what it takes for a difference, where it goes on."""

from __future__ import annotations

from tools.sabotage.change import Change

AUDIT = "sync_core/flows/audit.py"
PAGES = "sync_core/pages.py"
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
        "lane=lane, force=True)):",
        "lane=lane)):",
        HUNDRED,
    ),
    Change(
        "the second look believes the first",
        "2.2",
        AUDIT,
        "        self.rehearsal = self._rehearsal()  # nothing of the first look is believed\n",
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
        "    ours = change if missed else _of_others(change)\n",
        "    ours = change\n",
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
        "if not (again or stale or known.phase == DONE or known.mapping != self.book.mapping):",
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
        PAGES,
        "        autoescape=True,\n",
        "        autoescape=False,\n",
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
    Change(
        "what the sync missed stays on its way for ever",
        "2.9",
        AUDIT,
        "missed=change.before.id in missed",
        "missed=False",
        FOUND + "test_what_the_sync_lost_is_found_once_nothing_brings_it_any_more",
    ),
    Change(
        "a mapping that waits counts as missed",
        "2.9",
        AUDIT,
        'settled = settled and not (mapping and (mapping.value.get("applying") or mapping.value.get("waits")))',
        "settled = bool(settled)",
        FOUND + "test_a_mapping_that_waits_to_be_applied_is_applied_by_no_repair",
    ),
    Change(
        "repair of what is on its way",
        "2.9",
        AUDIT,
        "                    if found.what != LATER:\n",
        "                    if found.what:\n",
        FOUND + "test_a_mapping_that_waits_to_be_applied_is_applied_by_no_repair",
    ),
    Change(
        "what another mapping holds back is not told",
        "2.7",
        AUDIT,
        "replace(row, mapping=self._mapping)",
        "replace(row, mapping=row.mapping)",
        FOUND + "test_a_role_given_by_hand_is_found_while_a_mapping_waits",
    ),
    Change(
        "opportunities that only Dynamics knows counted again after each stop",
        "2.9",
        AUDIT,
        "yield from unknown.behind(self.book.after)",
        'yield from unknown.behind("")',
        FOUND + "test_opportunities_that_only_dynamics_knows_are_counted_once_however_often_it_ends",
    ),
    Change(
        "a second look that never stops",
        "2.6",
        AUDIT,
        """            self.book.after = name
            self._save()
            if not self.go_on():
                return False
""",
        """            self.book.after = name
            self._save()
""",
        FOUND + "test_the_second_look_stops_and_goes_on_as_well",
    ),
    Change(
        "values of sales persons are told",
        "2.10",
        AUDIT,
        "if self.kind is MarketoObject.SALES_PERSON:",
        "if self.kind is MarketoObject.LEAD:",
        FOUND + "test_of_sales_persons_no_value_is_told",
    ),
    Change(
        "a flag that somebody took back is not set again",
        "2.4",
        "sync_core/flows/reconcile.py",
        "(case.force or changed_fields(case.row, digest, flags))",
        "changed_fields(case.row, digest, flags)",
        FOUND + "test_a_flag_taken_back_by_hand_is_found_and_set_again",
    ),
)
