"""Changes of the flows and the engine: order, tickets, force, evidence, links."""

from __future__ import annotations

from tools.sabotage.change import Change

APPLIED = "sync_core/flows/applied.py"
CALLS = "sync_core/flows/calls.py"
CASES = "sync_core/flows/cases.py"
CLI = "sync_core/cli.py"
DETECT = "sync_core/flows/detect.py"
ENGINE = "sync_core/engine.py"
FAILURES = "sync_core/flows/failures.py"
GUARD = "sync_core/flows/guard.py"
OBSERVE = "sync_core/flows/observe.py"
PEOPLE = "sync_core/flows/people.py"
RECONCILE = "sync_core/flows/reconcile.py"
REFERENCES = "sync_core/flows/references.py"
ROLES = "sync_core/flows/roles.py"
STATUS = "sync_core/flows/status.py"
TURNS = "sync_core/flows/turns.py"
WATCH = "sync_core/flows/watch.py"
WORLD = "sync_core/flows/world.py"

BAD_INPUT = "tests/flows/test_bad_input.py::"
CHANGES_SEEN = "tests/flows/test_changes.py::"
INVARIANTS = "tests/flows/test_invariants.py::"
LANES = "tests/flows/test_lanes.py::"
NOT_IN_STEP = "tests/flows/test_not_in_step.py::"
ONCE_WRONG = "tests/flows/test_once_wrong.py::"
SABOTAGED = "tests/flows/test_sabotaged.py::"
SALES_PERSONS = "tests/flows/test_sales_persons.py::"
TURNS_TAKEN = "tests/flows/test_turns.py::"
UNTRACKED = "tests/flows/test_untracked.py::"
WATCHED = "tests/flows/test_watch.py::"

CHANGES = (
    # --- order of writes (design.md §1) -----------------------------------------------------------------------
    Change(
        "opportunities before the companies they name",
        "1",
        RECONCILE,
        """            self._sync_references()
            self._settle()
            self._sync_opportunities()
""",
        """            self._sync_opportunities()
            self._sync_references()
            self._settle()
""",
        CHANGES_SEEN + "test_a_saved_opportunity_shows_up_with_its_company_and_its_people",
    ),
    Change(
        "on deletion, the roles after their opportunity",
        "1",
        RECONCILE,
        """            self.roles.remove([case for case in self._to_remove() if not case.held])
            self._remove_opportunities()
""",
        """            self._remove_opportunities()
            self.roles.remove([case for case in self._to_remove() if not case.held])
""",
        CHANGES_SEEN + "test_a_deleted_deal_goes_and_its_roles_go_first",
    ),
    Change(
        "an opportunity removed though its roles are still there",
        "1",
        RECONCILE,
        "if not case.held and not case.roles]",
        "if not case.held]",
        SABOTAGED + "test_an_opportunity_stays_while_a_role_of_it_could_not_be_removed",
    ),
    Change(
        "of a replacement, the old role removed before the new one is there",
        "1",
        RECONCILE,
        """            self.roles.post()
            self.roles.reserve()
            self._reserve_removals()
            self.roles.remove([case for case in self._to_remove() if not case.held])
""",
        """            self.roles.reserve()
            self._reserve_removals()
            self.roles.remove([case for case in self._to_remove() if not case.held])
            self.roles.post()
""",
        CHANGES_SEEN + "test_a_changed_role_is_added_before_the_old_one_goes",
    ),
    Change(
        "of a replacement, the old role removed though the new one was refused",
        "1",
        ROLES,
        "if complete or role in case.plan.losses]",
        "]",
        SABOTAGED + "test_a_role_stays_while_its_replacement_is_refused",
    ),
    # --- ack before mark (§2.1) ---------------------------------------------------------------------------------
    Change(
        "the link stored before its ids are queued",
        "2.1",
        DETECT,
        """        self._flush()
        if self.forget:
            self.world.connections.delete(self.forget)
            self.forget = []
        waiting, self.unsaved = self.unsaved, []
        for feed in {id(feed): feed for feed in (*waiting, *feeds)}.values():
            feed.ticket = self.world.documents.write("feed", feed.table, feed.value(), feed.ticket) or feed.ticket
""",
        """        if self.forget:
            self.world.connections.delete(self.forget)
            self.forget = []
        waiting, self.unsaved = self.unsaved, []
        for feed in {id(feed): feed for feed in (*waiting, *feeds)}.values():
            feed.ticket = self.world.documents.write("feed", feed.table, feed.value(), feed.ticket) or feed.ticket
        self._flush()
""",
        INVARIANTS + "test_a_link_is_stored_only_after_its_ids_are_queued",
    ),
    Change(
        "a connection forgotten before its opportunity is queued",
        "2.1",
        DETECT,
        """        self._flush()
        if self.forget:
            self.world.connections.delete(self.forget)
            self.forget = []
""",
        """        if self.forget:
            self.world.connections.delete(self.forget)
            self.forget = []
        self._flush()
""",
        SABOTAGED + "test_a_crash_before_the_queue_forgets_no_connection",
    ),
    Change(
        "a poison message deleted before its ids are queued again",
        "2.1 2.9",
        DETECT,
        """                    self._cure(lane, letter)
                    self.world.queue.done_poisoned(lane, letter)
""",
        """                    self.world.queue.done_poisoned(lane, letter)
                    self._cure(lane, letter)
""",
        SABOTAGED + "test_a_crash_before_the_queue_loses_no_poison",
    ),
    Change(
        "opportunities read before the links of the other tables are taken",
        "2.1 2.8 4 E",
        DETECT,
        "        self._compare_roles()\n        for table in tables:\n",
        """        self._compare_roles()
        self._follow(feeds[OPPORTUNITY], _Detection._opportunities)
        for table in tables:
""",
        SABOTAGED + "test_opportunities_are_read_once_every_other_link_is_taken",
    ),
    # --- the ledger follows Marketo (§2.2) ----------------------------------------------------------------------
    Change(
        "a ledger row for a record that got no answer",
        "2.2",
        RECONCILE,
        "rows = [self._next(case) for case in self.cases.values() if case.going_on]",
        "rows = [self._next(case) for case in self.cases.values()]",
        INVARIANTS + "test_no_ledger_row_claims_what_marketo_did_not_answer",
    ),
    Change(
        "the ledger written before Marketo answers",
        "2.2",
        RECONCILE,
        """                changed.append((case, record))
""",
        """                changed.append((case, record))
                case.posted = True
        self.world.opportunities.write([self._next(case) for case, _ in changed])
""",
        INVARIANTS + "test_no_ledger_row_claims_what_marketo_did_not_answer",
    ),
    Change(
        "a refused opportunity recorded as posted",
        "2.2",
        RECONCILE,
        """        if answer.status in ("created", "updated"):
            case.posted = True
""",
        """        if answer.status:
            case.posted = True
""",
        SABOTAGED + "test_the_ledger_says_nothing_of_a_refused_opportunity",
    ),
    Change(
        "a refused role recorded as held",
        "2.2",
        ROLES,
        'case.held = case.held or f"role refused, {refusal(answer)}"',
        "case.roles[role.key] = role",
        SABOTAGED + "test_a_role_stays_while_its_replacement_is_refused",
    ),
    Change(
        "a role that was not removed recorded as gone",
        "2.2",
        ROLES,
        """            del case.roles[key]
            self.counts["roles removed"] += 1
        else:
""",
        """            del case.roles[key]
            self.counts["roles removed"] += 1
        else:
            del case.roles[key]
""",
        SABOTAGED + "test_an_opportunity_stays_while_a_role_of_it_could_not_be_removed",
    ),
    # --- running again writes nothing (§2.3) --------------------------------------------------------------------
    Change(
        "every opportunity posted again",
        "2.3",
        RECONCILE,
        "case.force or not case.row.known or changed_fields(case.row, case.digests, case.record)",
        "True",
        CHANGES_SEEN + "test_the_same_input_twice_costs_no_marketo_write",
    ),
    Change(
        "every company posted again",
        "2.3",
        REFERENCES,
        "for key in sorted(missing - (in_step - doubted - forced)):",
        "for key in sorted({key for key in wanted.values() if key} - self.cases.keys()):",
        SABOTAGED + "test_a_renamed_deal_costs_one_call",
    ),
    # --- stale never stays (§2.4), rules A to D -----------------------------------------------------------------
    Change(
        "the rows read before the ledger",
        "2.4 A",
        RECONCILE,
        """            self._take_tickets()
            self._decide(observe(self.world, list(self.cases)))
""",
        """            seen = observe(self.world, self.work.opportunities)
            self._take_tickets()
            self._decide(seen)
""",
        INVARIANTS + "test_the_ledger_is_read_before_the_rows",
    ),
    Change(
        "no write of the ledger when nothing differs",
        "2.4 A",
        RECONCILE,
        "rows = [self._next(case) for case in self.cases.values() if case.going_on]",
        """before = {case.id: case.row for case in self.cases.values()}
        rows = [self._next(case) for case in self.cases.values() if case.going_on]
        rows = [r for r in rows if replace(r, seen=before[r.id].seen, version=before[r.id].version) != before[r.id]]""",
        INVARIANTS + "test_a_worker_overtaken_after_its_reads_leaves_no_stale_value",
    ),
    Change(
        "the ledger written whoever else wrote it",
        "2.4 A G",
        RECONCILE,
        "lost = self.world.opportunities.write(rows) if rows else set()",
        """held = self.world.opportunities.rows([row.id for row in rows])
        rows = [replace(row, ticket=held[row.id].ticket if row.id in held else None) for row in rows]
        lost = self.world.opportunities.write(rows) if rows else set()""",
        INVARIANTS + "test_a_worker_overtaken_after_its_reads_leaves_no_stale_value",
    ),
    Change(
        "an id that lost its ticket dropped",
        "2.4 A",
        CASES,
        "return self.trouble is not None or self.unanswered or self.id in lost",
        "return self.trouble is not None or self.unanswered",
        INVARIANTS + "test_a_worker_overtaken_after_its_reads_leaves_no_stale_value",
    ),
    Change(
        "an id that lost its ticket after a post put back unforced",
        "2.4 A C",
        RECONCILE,
        "force=forced or self.force,",
        "force=self.force,",
        INVARIANTS + "test_a_worker_overtaken_after_its_reads_leaves_no_stale_value",
    ),
    Change(
        "an id that lost its ticket after a post back before a late write can have happened",
        "2.4 A",
        RECONCILE,
        "least = float(self.world.late_write) if forced else CONFLICT_DELAY_S",
        """late = any(case.unanswered for group in groups for case in group)
            least = float(self.world.late_write) if late else CONFLICT_DELAY_S""",
        SABOTAGED + "test_whoever_posted_and_lost_its_ticket_comes_back_after_l",
    ),
    Change(
        "an opportunity skipped because its version is not newer",
        "2.4 A",
        ROLES,
        "return [case for case in self.cases.values() if case.has_roles]",
        """return [
            case
            for case in self.cases.values()
            if case.has_roles and (case.row.version or 0) < case.seen.row["versionnumber"]
        ]""",
        CHANGES_SEEN + "test_a_stakeholder_added_later_gets_a_role",
    ),
    Change(
        "a message received again not forced",
        "2.4 A",
        ENGINE,
        "force = work.force or dequeue_count > 1",
        "force = work.force",
        INVARIANTS + "test_a_delivery_received_twice_is_forced_and_reads_the_roles_back",
    ),
    Change(
        "the force of a message skipped",
        "2.4 C",
        ENGINE,
        "force = work.force or dequeue_count > 1",
        "force = dequeue_count > 1",
        INVARIANTS + "test_repoint_accepts_the_pair_and_trusts_no_memory",
    ),
    Change(
        "a forced delivery trusts its digests",
        "2.4 A",
        RECONCILE,
        "case.force or not case.row.known or changed_fields(case.row, case.digests, case.record)",
        "not case.row.known or changed_fields(case.row, case.digests, case.record)",
        INVARIANTS + "test_repoint_accepts_the_pair_and_trusts_no_memory",
    ),
    Change(
        "a forced delivery does not read the roles back",
        "2.4 A",
        ROLES,
        "if case.force or case.adopt]",
        "if case.adopt]",
        INVARIANTS + "test_a_delivery_received_twice_is_forced_and_reads_the_roles_back",
    ),
    Change(
        "a forced removal does not read the roles back",
        "2.4 B",
        ROLES,
        "asked += [case for case in self.cases.values() if case.removed and case.force and case.going_on]",
        "",
        SABOTAGED + "test_a_forced_removal_takes_the_roles_that_only_marketo_knows",
    ),
    Change(
        "what was read back instead of the ledger's roles, not both",
        "2.4 A",
        ROLES,
        "held = {role.key: role for role in (*case.row.roles, *case.read_back)}",
        "held = {role.key: role for role in (case.read_back if case.force else case.row.roles)}",
        SABOTAGED + "test_a_forced_removal_takes_the_roles_that_only_the_ledger_knows",
    ),
    Change(
        "of a living opportunity, what was read back instead of the ledger's roles",
        "2.4 A",
        ROLES,
        "held = {role.key: role for role in case.row.roles} | {role.key: role for role in case.read_back}",
        "held = {role.key: role for role in (case.read_back if case.force else case.row.roles)}",
        SABOTAGED + "test_a_forced_look_takes_the_roles_that_only_the_ledger_knows",
    ),
    Change(
        "a row that is not in step trusted",
        "2.4",
        RECONCILE,
        "case.force = case.force or (case.row.known and not certain)",
        "pass",
        CHANGES_SEEN + "test_a_role_whose_person_was_merged_in_marketo_is_found_and_removed",
    ),
    Change(
        "the row of a removed opportunity trusted though it is not in step",
        "2.4",
        RECONCILE,
        "case.force = case.force or (case.row.known and case.row.state in UNTRUSTED)",
        "pass",
        SABOTAGED + "test_a_removal_after_a_wait_takes_the_roles_that_only_marketo_knows",
    ),
    Change(
        "a removal forced again not done again",
        "2.4 B",
        RECONCILE,
        "and (case.force or (case.row.state is not State.GONE and (case.row.fields or case.row.roles)))",
        "and (case.row.state is not State.GONE and (case.row.fields or case.row.roles))",
        INVARIANTS + "test_a_first_post_that_raced_with_the_deletion_is_undone",
    ),
    Change(
        "force lost when a message is put back",
        "2.4 C",
        RECONCILE,
        "force=forced or self.force,",
        "force=forced,",
        INVARIANTS + "test_force_survives_being_put_back",
    ),
    Change(
        "force lost by a pause",
        "2.4 C",
        ENGINE,
        "again = replace(work, force=force, postponed=work.postponed + 1)",
        "again = replace(work, postponed=work.postponed + 1)",
        NOT_IN_STEP + "test_a_pause_keeps_the_force_of_a_message",
    ),
    Change(
        "everything put back forced",
        "2.4",
        RECONCILE,
        "force=forced or self.force,",
        "force=True,",
        INVARIANTS + "test_dynamics_that_fails_before_any_post_puts_the_ids_back_as_they_were",
    ),
    Change(
        "a write without an answer forgotten once repeating it worked",
        "2.4 C",
        CALLS,
        "            case.unanswered |= answers.unanswered\n",
        "",
        INVARIANTS + "test_a_write_without_an_answer_is_put_back_forced_and_late_even_if_repeating_it_worked",
    ),
    Change(
        "a write without an answer put back unforced",
        "2.4 C",
        CALLS,
        '_mark(batch, unanswered=getattr(error, "unanswered", False))',
        "_mark(batch, unanswered=False)",
        SABOTAGED + "test_a_write_that_never_got_an_answer_goes_back_forced",
    ),
    Change(
        "a write that timed out in Marketo, then split, put back unforced",
        "2.4 C",
        CALLS,
        "_mark(batch, unanswered=error.unanswered)",
        "_mark(batch, unanswered=False)",
        SABOTAGED + "test_a_write_that_timed_out_in_marketo_goes_back_forced_though_its_halves_passed",
    ),
    Change(
        "a write without an answer tried again before it can have happened",
        "2.4 C",
        RECONCILE,
        "least = float(self.world.late_write) if forced else CONFLICT_DELAY_S",
        "least = CONFLICT_DELAY_S",
        INVARIANTS + "test_a_write_without_an_answer_is_put_back_forced_and_late_even_if_repeating_it_worked",
    ),
    Change(
        "what is put back visible at once",
        "2.4 C",
        ENGINE,
        "self.world.queue.put(again, after=timedelta(seconds=delay))",
        "self.world.queue.put(again)",
        SABOTAGED + "test_whoever_posted_and_lost_its_ticket_comes_back_after_l",
    ),
    Change(
        "a failed message back before a late write can have happened",
        "2.4",
        "host.json",
        '"visibilityTimeout": "00:05:00"',
        '"visibilityTimeout": "00:00:30"',
        "tests/test_engine.py::test_a_failed_message_comes_back_no_sooner_than_a_late_write_may_happen",
    ),
    Change(
        "Marketo writes until the lease ends",
        "2.4 D",
        ENGINE,
        "deadline=lease_ends - timedelta(seconds=self.world.late_write)",
        "deadline=lease_ends",
        INVARIANTS + "test_no_marketo_write_starts_late_in_the_lease",
    ),
    Change(
        "a company that was overtaken put back unforced",
        "2.4 A",
        REFERENCES,
        "            case.sent = case.id in self.lost\n",
        "            case.sent = False\n",
        SALES_PERSONS + "test_sales_persons_follow_the_protocol",
    ),
    Change(
        "a company that lost its ticket dropped",
        "2.4 A",
        REFERENCES,
        "case.unfinished(self.lost | self.moved)",
        "case.unfinished(self.moved)",
        SALES_PERSONS + "test_sales_persons_follow_the_protocol",
    ),
    # --- one bad record harms only itself (§2.5) ----------------------------------------------------------------
    Change(
        "a call that one record sinks not split",
        "2.5 6",
        CALLS,
        """            return [(*batch[0], Answer("skipped", error.code, getattr(error, "message", "")))]
        half = len(batch) // 2
""",
        """            pass
        return [(*each, Answer("skipped", error.code, getattr(error, "message", ""))) for each in batch]
        half = 0
""",
        BAD_INPUT + "test_a_record_too_large_for_any_call_harms_only_itself",
    ),
    Change(
        "a refused record stops its delivery",
        "2.5",
        CALLS,
        "        case.refused = refusal(answer)\n",
        '        raise RuntimeError("refused")\n',
        INVARIANTS + "test_one_refused_record_parks_and_the_others_go_on",
    ),
    Change(
        "a value that fits no Marketo field stops its delivery",
        "2.5",
        OBSERVE,
        "mapped, unfit = None, str(error)",
        "raise ConfigurationError(str(error)) from error",
        SABOTAGED + "test_a_value_that_fits_no_marketo_field_parks_its_opportunity_alone",
    ),
    # --- systemic trouble is nobody's fault (§2.6, §6) ----------------------------------------------------------
    Change(
        "throttling counted as an attempt",
        "2.6 6",
        CALLS,
        "        case.trouble = trouble\n",
        "        case.waits = str(trouble)\n",
        SABOTAGED + "test_a_throttled_write_counts_no_attempt",
    ),
    Change(
        "a setting that is wrong poisons the message",
        "2.6 6",
        ENGINE,
        "except (RetryLater, ConfigurationError) as error:\n            again = ",
        "except RetryLater as error:\n            again = ",
        INVARIANTS + "test_another_pair_stops_both_functions_before_any_write",
    ),
    Change(
        "trouble of Dynamics or the storage poisons the message",
        "2.6 6",
        RECONCILE,
        "        except SyncError as error:\n            return self._give_back(error)\n",
        "        except AssertionError as error:\n            return self._give_back(SyncError(error))\n",
        INVARIANTS + "test_dynamics_that_fails_before_any_post_puts_the_ids_back_as_they_were",
    ),
    Change(
        "a person counted as missing because the look-up failed",
        "2.6 6",
        PEOPLE,
        'if len(batch) == 1 and error.code != "1003":',
        "if not batch:",
        ONCE_WRONG + "test_trouble_of_a_people_look_up_takes_no_role_away",
    ),
    Change(
        "what waits for a person tried again at once",
        "2.6 6",
        CASES,
        "return STOPPED_DELAY_S if isinstance(trouble, ConfigurationError)",
        "return 0.0 if isinstance(trouble, ConfigurationError)",
        SABOTAGED + "test_what_a_person_must_mend_is_tried_every_five_minutes",
    ),
    Change(
        "a message of another program blocks the queue",
        "6",
        ENGINE,
        "            self.world.queue.set_aside(body, str(error))\n            return None\n",
        "            raise\n",
        INVARIANTS + "test_a_message_that_is_not_ours_is_kept_with_the_reason",
    ),
    Change(
        "a role whose person was merged away counts as removed",
        "6",
        ROLES,
        "moved = answer.code == GONE and not case.force",
        "moved = False",
        CHANGES_SEEN + "test_a_role_whose_person_was_merged_in_marketo_is_found_and_removed",
    ),
    Change(
        "a person missing in Marketo forgotten",
        "6",
        RECONCILE,
        'if unasked or (missing and config.when_missing != "skip"):',
        "if False:",
        CHANGES_SEEN + "test_a_person_missing_in_marketo_waits_and_completes_when_the_person_arrives",
    ),
    Change(
        "people asked for beyond the day's calls",
        "6",
        PEOPLE,
        "some = some[: max(0, most_calls - found.calls) * PER_CALL]",
        "some = list(some)",
        "tests/flows/test_waking.py::test_asking_again_stays_within_the_calls_of_the_day",
    ),
    Change(
        "whoever could not be asked for loses the role",
        "6",
        RECONCILE,
        "UNDECIDED = (Exclusion.SEVERAL, Exclusion.UNASKED)",
        "UNDECIDED = (Exclusion.SEVERAL,)",
        "tests/flows/test_waking.py::test_roles_stay_while_nobody_may_be_asked",
    ),
    Change(
        "a sales person deleted in Marketo never posted again",
        "6",
        REFERENCES,
        "force=key in doubted | forced)",
        "force=False)",
        SALES_PERSONS + "test_a_sales_person_deleted_in_marketo_comes_back_and_sinks_nobody",
    ),
    # --- removal needs evidence (§2.7), rules B and H -----------------------------------------------------------
    Change(
        "absent means deleted",
        "2.7 B",
        RECONCILE,
        'if case.row.state is State.GONE or (tombstone and tombstone["at"] >= case.row.seen):',
        "if True:",
        INVARIANTS + "test_a_row_that_a_read_lacks_is_not_deleted_without_evidence",
    ),
    Change(
        "a tombstone from before the row was seen again counts",
        "2.7",
        RECONCILE,
        'if case.row.state is State.GONE or (tombstone and tombstone["at"] >= case.row.seen):',
        "if case.row.state is State.GONE or tombstone:",
        INVARIANTS + "test_a_tombstone_from_before_the_row_was_seen_again_is_no_evidence",
    ),
    Change(
        "a tombstone counts though a fresh read shows the row",
        "2.7 F",
        RECONCILE,
        "absent = [case for case in self.cases.values() if case.seen is None]\n",
        """absent = [c for c in self.cases.values() if c.seen is None or self.world.tombstones.read([c.id])]
        for case in absent:
            case.seen = None
""",
        INVARIANTS + "test_a_tombstone_alone_removes_nothing_that_a_fresh_read_still_shows",
    ),
    Change(
        "no row left by the removal of an unknown opportunity",
        "2.7 B",
        RECONCILE,
        "rows = [self._next(case) for case in self.cases.values() if case.going_on]",
        "rows = [self._next(c) for c in self.cases.values() if c.going_on and not (c.removed and not c.row.known)]",
        INVARIANTS + "test_a_first_post_that_raced_with_the_deletion_is_undone",
    ),
    Change(
        "not visible noted nowhere",
        "2.7 B G",
        RECONCILE,
        "rows = [self._next(case) for case in self.cases.values() if case.going_on]",
        "rows = [self._next(c) for c in self.cases.values() if c.going_on and (c.removed or c.seen)]",
        INVARIANTS + "test_a_row_that_a_read_lacks_is_not_deleted_without_evidence",
    ),
    Change(
        "tombstones not remembered",
        "2.7 B",
        DETECT,
        '        self.world.tombstones.write({key: {"at": at} for key in ids})\n',
        "",
        CHANGES_SEEN + "test_a_deleted_deal_goes_and_its_roles_go_first",
    ),
    Change(
        "a tombstone forgotten while its removal is held",
        "2.7 B",
        RECONCILE,
        "[c.id for c in done if c.evidence and not (c.held or c.waits or c.refused)]",
        "[c.id for c in done if c.evidence]",
        SABOTAGED + "test_a_removal_held_by_reconcile_passes_once_approved",
    ),
    Change(
        "the removal guard lets everything pass",
        "2.7 H",
        GUARD,
        "limit = world.config.removals.limit(known_records(world, what))",
        "limit = 1_000_000",
        INVARIANTS + "test_removals_that_come_in_small_portions_are_held_once_they_are_too_many",
    ),
    Change(
        "two workers reserve the same removals",
        "2.7 H",
        WORLD,
        """            if self.documents.write(kind, name, new, document.ticket if document else None) is not None:
                return new
""",
        """            self.documents.write(kind, name, new, document.ticket if document else None)
            return new
""",
        SABOTAGED + "test_two_workers_cannot_reserve_the_same_removals",
    ),
    Change(
        "a reservation over the limit granted in part",
        "2.7 H",
        GUARD,
        "    limit = world.config.removals.limit(known_records(world, what))\n",
        "    limit = world.config.removals.limit(known_records(world, what))\n    number = min(number, limit)\n",
        SABOTAGED + "test_a_reservation_over_the_limit_is_refused_whole",
    ),
    Change(
        "the guard never opens again",
        "2.7",
        GUARD,
        "if started and datetime.fromisoformat(started) + WINDOW > now:",
        "if started:",
        INVARIANTS + "test_the_guard_opens_again_after_a_day",
    ),
    Change(
        "roles and opportunities counted together",
        "2.7",
        GUARD,
        "total = int(window.get(what, 0)) + number",
        'total = int(window.get("roles", 0)) + int(window.get("opportunities", 0)) + number',
        SABOTAGED + "test_removals_of_roles_and_opportunities_are_counted_apart",
    ),
    Change(
        "removals that were put back stay counted",
        "2.7",
        RECONCILE,
        "                release(self.world, what, number)\n",
        "                pass\n",
        ONCE_WRONG + "test_removals_tried_again_are_counted_once",
    ),
    Change(
        "deletions of one tick not counted together",
        "2.7",
        DETECT,
        '        if len(rows) > limit and self.world.config.removals.policy == "delete":\n',
        "        if not rows:\n",
        INVARIANTS + "test_deletions_of_one_tick_are_counted_together_however_they_are_paged",
    ),
    Change(
        "lost roles pass the guard",
        "2.7",
        ROLES,
        'why = reserve(self.world, "roles", number) if number else ""',
        'why = ""',
        INVARIANTS + "test_lost_roles_are_held_and_everything_else_goes_on",
    ),
    Change(
        "a change of the mapping removes roles",
        "2.7",
        ROLES,
        'elif case.row.mapping not in ("", self.world.config.version):',
        "elif not case.row.mapping:",
        INVARIANTS + "test_roles_that_a_change_of_the_mapping_would_remove_are_held",
    ),
    Change(
        "a held removal passes when it is read again",
        "2.7",
        RECONCILE,
        'case.held = case.row.reason if case.row.state is State.HELD else ""',
        'case.held = ""',
        SABOTAGED + "test_a_held_removal_stays_held_after_a_day",
    ),
    Change(
        "approved removals held again",
        "2.7",
        RECONCILE,
        "going = [case for case in self._to_remove() if not case.row.approved]",
        "going = self._to_remove()",
        INVARIANTS + "test_two_hundred_deletions_are_held_until_approved",
    ),
    # --- delta links die (§2.8), rule F -------------------------------------------------------------------------
    Change(
        "a dead link that an operator has to mend",
        "2.8",
        DETECT,
        """                self._start_over(feed)
                continue
""",
        """                raise
""",
        INVARIANTS + "test_a_deletion_in_the_gap_of_a_dead_link_is_found_by_comparison",
    ),
    Change(
        "no comparison of ids after a full read",
        "2.8 F",
        DETECT,
        """            self._compare()
            feed.phase, feed.again""",
        """            feed.phase, feed.again""",
        INVARIANTS + "test_a_deletion_in_the_gap_of_a_dead_link_is_found_by_comparison",
    ),
    Change(
        "all ids of the organization in memory while they are compared",
        "2.8 F",
        DETECT,
        "                present.add(ids)",
        "                present.add(self.forget.extend(ids) or ids)",
        "tests/flows/test_id_file.py::test_a_comparison_keeps_only_what_is_lacking",
    ),
    Change(
        "no overlap query after a full read",
        "2.8 F",
        DETECT,
        """            for ids in self.world.source.modified_since(OPPORTUNITY, since):
                self._add(ids)
""",
        """            for _ in self.world.source.modified_since(OPPORTUNITY, since):
""",
        INVARIANTS + "test_changes_during_a_first_read_are_not_lost",
    ),
    Change(
        "the overlap query starts where the read ended",
        "2.8 F",
        DETECT,
        "since = datetime.fromisoformat(feed.since) - OVERLAP",
        "since = self.world.clock.now()",
        SABOTAGED + "test_what_changed_early_in_a_long_first_read_is_not_lost",
    ),
    Change(
        "the loser of two timers stores its link",
        "2.8 F",
        DETECT,
        'feed.ticket = self.world.documents.write("feed", feed.table, feed.value(), feed.ticket) or feed.ticket',
        """known = self.world.documents.read("feed", feed.table)
            self.world.documents.write("feed", feed.table, feed.value(), known.ticket if known else None)""",
        SABOTAGED + "test_of_two_timers_the_loser_stores_no_link",
    ),
    Change(
        "stakeholders not looked at again after their link died",
        "2.8",
        DETECT,
        "        if feed.again:\n            self._read_again(everything)\n",
        "        if not feed.tracked:\n            self._read_again(everything)\n",
        INVARIANTS + "test_a_stakeholder_removed_in_the_gap_of_a_dead_connection_link_loses_the_role",
    ),
    Change(
        "companies not looked at again after their link died",
        "2.8",
        DETECT,
        'if feed.again and feed.table == "account":',
        'if not feed.tracked and feed.table == "account":',
        INVARIANTS + "test_companies_are_looked_at_again_after_the_account_link_died",
    ),
    Change(
        "what is not tracked never read in full again",
        "2.8 4",
        DETECT,
        "if datetime.fromisoformat(feed.since) + UNTRACKED_FOR < self.world.clock.now():",
        "if not feed.since:",
        UNTRACKED + "test_deletions_are_found_within_a_day",
    ),
    # --- nothing is forgotten (§2.9), rule G --------------------------------------------------------------------
    Change(
        "waiting rows never queued again",
        "2.9",
        DETECT,
        "due = self.world.opportunities.due(now, DUE_PER_TICK)",
        "due: tuple[str, ...] = ()",
        INVARIANTS + "test_a_waiting_row_is_queued_by_the_tick_when_it_is_due",
    ),
    Change(
        "what stays invisible never compared",
        "2.9 2.7",
        RECONCILE,
        "                ask_for_comparison(self.world)\n",
        "",
        INVARIANTS + "test_what_stays_invisible_is_settled_by_a_comparison_of_all_ids",
    ),
    Change(
        "of a poison message, the first id parked and the others dropped",
        "2.9",
        DETECT,
        "        if work.size > 1:\n",
        "        if not work.size:\n",
        INVARIANTS + "test_poison_is_halved_until_a_single_id_is_parked",
    ),
    Change(
        "poison queued again unforced",
        "2.9 C",
        DETECT,
        "replace(decode(letter.body), force=True, lane=lane",
        "replace(decode(letter.body), lane=lane",
        SABOTAGED + "test_what_comes_from_poison_is_forced",
    ),
    Change(
        "a poisoned id whose row somebody else wrote dropped",
        "2.9 G",
        DETECT,
        """failed again and again; see the logs")]):
            self.world.queue.put(work)
""",
        """failed again and again; see the logs")]):
            pass
""",
        SABOTAGED + "test_a_poisoned_id_that_another_worker_writes_is_queued_again",
    ),
    Change(
        "what an operator tries again not forced",
        "2.9",
        FAILURES,
        'force=True, why="redrive")',
        'why="redrive")',
        NOT_IN_STEP + "test_redriving_forces_and_brings_them_in_step",
    ),
    # --- never the wrong pair (§2.11) ---------------------------------------------------------------------------
    Change(
        "another organization or subscription accepted",
        "2.11",
        GUARD,
        "        if stored[name] != found[name]:\n",
        "        if not found[name]:\n",
        INVARIANTS + "test_another_pair_stops_both_functions_before_any_write",
    ),
    Change(
        "a Dynamics restored from a backup not noticed",
        "2.11",
        GUARD,
        'if row["versionnumber"] < known[key]):',
        'if row["versionnumber"] < 0):',
        INVARIANTS + "test_another_pair_stops_both_functions_before_any_write",
    ),
    Change(
        "repoint trusts what it remembers",
        "2.11",
        STATUS,
        "again=True, force=table == OPPORTUNITY)",
        "again=True)",
        INVARIANTS + "test_repoint_accepts_the_pair_and_trusts_no_memory",
    ),
    # --- what changes affect (§4), rule E -----------------------------------------------------------------------
    Change(
        "an index of earlier looks instead of asking Dynamics",
        "4 E",
        DETECT,
        "self._add(self.world.source.opportunities_of_contacts(changed) if changed else ())",
        "self._add(chain.from_iterable(self.world.connections.read(changed).values()))",
        CHANGES_SEEN + "test_a_contact_that_changes_its_account_moves_the_deals_it_is_customer_of",
    ),
    Change(
        "connections not on record when their role is posted",
        "4 E",
        ROLES,
        "        self._remember_connections(cases)\n",
        "",
        CHANGES_SEEN + "test_a_stakeholder_who_is_no_longer_one_loses_the_role",
    ),
    Change(
        "a tombstone that matches nothing dropped",
        "4 E",
        DETECT,
        "        self._keep_unmatched(set(page.deleted) - set(matched))\n",
        "",
        INVARIANTS + "test_a_tombstone_seen_before_its_connection_was_recorded_is_not_lost",
    ),
    Change(
        "the opportunity that a connection has left not looked at",
        "4 E",
        DETECT,
        """        self._add(chain.from_iterable(known.values()))
        matched =""",
        """        matched =""",
        CHANGES_SEEN + "test_a_connection_that_was_moved_to_another_deal_leaves_no_role_behind",
    ),
    Change(
        "the connection map never tidied up",
        "4 5",
        DETECT,
        "            self.world.connections.tidy(until=self.stop_at)\n",
        "            pass\n",
        CHANGES_SEEN + "test_a_tick_tidies_the_map_of_connections_up_unless_it_is_idle",
    ),
    Change(
        "a company that changed before it was on record not looked at again",
        "4 E",
        REFERENCES,
        "return {case.id for case in new if case.id in now and",
        "return {case.id for case in new if case.id not in now and",
        ONCE_WRONG + "test_an_account_that_changes_before_its_company_is_recorded_is_looked_at_again",
    ),
    Change(
        "a company whose first worker died not looked at again",
        "2.4 4 E",
        REFERENCES,
        "for key in sorted(missing - (in_step - doubted - forced)):",
        "for key in sorted(missing - (in_step - doubted)):",
        ONCE_WRONG + "test_a_company_that_changed_while_its_first_worker_died_is_looked_at_again",
    ),
    Change(
        "role texts not remembered before they are posted",
        "2.4 4 E",
        ROLES,
        "        self._remember_texts({role.text.casefold() for case in cases for role in case.plan.post})\n",
        "",
        ONCE_WRONG + "test_a_role_whose_ledger_write_failed_goes_though_its_connection_role_was_renamed",
    ),
    Change(
        "a renamed connection role not noticed",
        "4",
        DETECT,
        "if known is not None and known.value == now:",
        "if known is not None:",
        CHANGES_SEEN + "test_a_renamed_connection_role_replaces_the_role_everywhere",
    ),
    Change(
        "a tick without end",
        "4",
        DETECT,
        "left = self.world.clock.monotonic() < self.stop_at",
        "left = True",
        INVARIANTS + "test_the_time_box_ends_a_tick_and_the_next_one_goes_on",
    ),
    Change(
        "a backlog in the lane of fresh changes",
        "4",
        DETECT,
        "fresh = number <= left and self.counted[self.source] <= self.world.config.sync.fresh_max",
        "fresh = True",
        SABOTAGED + "test_a_backlog_goes_through_the_slow_lane",
    ),
    Change(
        "an edit during a read from the start queued behind it",
        "4",
        DETECT,
        """        self._turn_to(OPPORTUNITY)
        if feed.phase""",
        """        if feed.phase""",
        LANES + "test_an_edit_during_a_read_from_the_start_overtakes_it",
    ),
    Change(
        "edits between the ticks of a long read not looked for before its end",
        "4",
        DETECT,
        """                self._add(ids)
                self._flush()
            self.up_to_date.add(OPPORTUNITY)

    def _compare_if_asked""",
        """                self._flush()
            self.up_to_date.add(OPPORTUNITY)

    def _compare_if_asked""",
        LANES + "test_edits_between_the_ticks_of_a_long_read_overtake_it",
    ),
    Change(
        "one table's bulk update takes the others' changes along",
        "4",
        DETECT,
        "        if source != self.source:\n            self._choose_lane()\n",
        "        if source != self.source:\n",
        LANES + "test_an_edit_overtakes_a_bulk_update_of_people_in_the_same_tick",
    ),
    Change(
        "opportunities not followed while another table is read from the start",
        "4",
        DETECT,
        "        if opportunities.following:\n",
        "        if all(feed.following for feed in feeds.values()):\n",
        LANES + "test_opportunities_are_followed_while_another_table_is_read_from_the_start",
    ),
    Change(
        "everything looked at again before what changed",
        "4",
        DETECT,
        "        self.force = opportunities.force\n",
        "        self.force = opportunities.force\n        self._notice_mapping(opportunities)\n",
        LANES + "test_an_edit_before_everything_is_looked_at_again_overtakes_it",
    ),
    Change(
        "everything looked at again forgotten before it is queued",
        "2.1 4",
        APPLIED,
        "        look_again()\n    if left is not None:\n",
        "        world.documents.delete(*BACKFILL)\n        look_again()\n    if left is not None:\n",
        "tests/flows/test_mapping_applied.py::test_a_tick_that_dies_before_everything_is_queued_again_is_repeated",
    ),
    Change(
        "everything looked at again counted as begun when another tick stored its own position",
        "2.8 4",
        DETECT,
        "        if feed.ticket is None:\n            raise Unavailable(",
        "        if feed.ticket is None:\n            Unavailable(",
        "tests/flows/test_mapping_applied.py::test_a_backfill_is_not_lost_to_a_tick_at_the_same_time",
    ),
    Change(
        "storage that fails before a delivery of the slow lane counted against its message",
        "2.6",
        ENGINE,
        "            except (RetryLater, ConfigurationError) as error:\n                self.world.queue.put(",
        "            except NoTurn as error:\n                self.world.queue.put(",
        TURNS_TAKEN + "test_a_message_is_not_to_blame_for_storage_that_tells_no_turns",
    ),
    Change(
        "a long backlog handed round and round while others have the turns",
        "7",
        TURNS,
        "delay=_wait(world)",
        "delay=WAIT_S",
        TURNS_TAKEN + "test_a_long_backlog_is_not_handed_round_and_round",
    ),
    Change(
        "changes not looked for while `sync` works off a backlog",
        "4",
        CLI,
        "        if app.world.clock.monotonic() >= look_at:\n",
        "        if app.world.clock.monotonic() < 0:\n",
        "tests/test_cli.py::test_a_changed_opportunity_overtakes_the_backlog_that_sync_works_off",
    ),
    Change(
        "the slow lane's deliveries take Marketo's calls as fresh ones do",
        "7",
        ENGINE,
        "        if work.lane is Lane.SLOW:\n",
        "        if not work.size:\n",
        LANES + "test_deliveries_of_the_slow_lane_let_the_others_calls_go_first",
    ),
    Change(
        "threads of fresh deliveries taken by calls of the slow lane",
        "7",
        ENGINE,
        ", fan_out=world.fan_out_slow)",
        ")",
        LANES + "test_the_slow_lanes_calls_take_no_thread_that_fresh_ones_need",
    ),
    Change(
        "any number of approved removals in the lane of fresh changes",
        "4",
        STATUS,
        "lane = Lane.FRESH if approved <= world.config.sync.fresh_max else Lane.SLOW",
        "lane = Lane.FRESH",
        LANES + "test_many_approved_removals_take_the_slow_lane",
    ),
    # --- people in storage (§2.10, §5) --------------------------------------------------------------------------
    Change(
        "the address of a person kept in storage",
        "2.10 5",
        PEOPLE,
        '{"lead": lead, "key": _fingerprint(world, contacts, contact, missing=not lead), "at": at}',
        '{"lead": lead, "key": str(contacts[contact]), "at": at}',
        INVARIANTS + "test_stored_state_and_messages_hold_no_name_and_no_address",
    ),
    Change(
        "a remembered person never asked for again",
        "7",
        PEOPLE,
        'if entry["lead"] and entry["at"] > oldest:',
        'if entry["lead"]:',
        SABOTAGED + "test_a_remembered_person_is_asked_for_again_after_a_day",
    ),
    Change(
        "a remembered person found by an address the contact no longer has",
        "3",
        PEOPLE,
        """        if entry["key"] != _fingerprint(world, contacts, contact, missing=not entry["lead"]):
            continue
""",
        "",
        SABOTAGED + "test_a_contact_with_another_address_is_another_person",
    ),
    Change(
        "roles that Marketo had before never met",
        "3",
        RECONCILE,
        'case.adopt = answer.status == "updated" and not case.row.fields',
        "case.adopt = False",
        CHANGES_SEEN + "test_an_opportunity_that_marketo_has_already_is_adopted_with_its_roles",
    ),
    Change(
        "roles made by marketing people taken away",
        "3",
        ROLES,
        "if every or role.text.casefold() in texts)",
        "if every or role.text)",
        CHANGES_SEEN + "test_an_opportunity_that_marketo_has_already_is_adopted_with_its_roles",
    ),
    Change(
        "every machine at work on the backlog",
        "7",
        TURNS,
        "if len(taken) >= AT_ONCE:",
        "if len(taken) < 0:",
        TURNS_TAKEN + "test_one_too_many_goes_back_as_it_came_and_does_nothing",
    ),
    Change(
        "a turn of the backlog kept for ever by the dead",
        "7",
        TURNS,
        "for name, end in value.items() if end > now}",
        "for name, end in value.items()}",
        TURNS_TAKEN + "test_the_turn_of_the_dead_lapses_when_their_message_comes_back",
    ),
    Change(
        "a delivery that had no turn forgets that it is forced",
        "2.4",
        ENGINE,
        "self.world.queue.put(replace(work, force=force), after=timedelta(seconds=seconds_to_wait(error)))",
        "self.world.queue.put(work, after=timedelta(seconds=seconds_to_wait(error)))",
        TURNS_TAKEN + "test_one_too_many_goes_back_as_it_came_and_does_nothing",
    ),
    Change(
        "a tick that ends another's pages believes to have seen everything",
        "2.1",
        DETECT,
        "if full or not behind:",
        "if full or True:",
        INVARIANTS + "test_a_tick_that_ends_the_pages_of_another_sees_what_changed_since",
    ),
    Change(
        "one table that can't be read holds every edit up",
        "4",
        DETECT,
        """        except SyncError:
            self._save()
            raise
""",
        """        except SyncError:
            raise
""",
        "tests/flows/test_lanes.py::test_an_edit_is_queued_though_another_table_cannot_be_read",
    ),
    Change(
        "people are told of an alert at every look",
        "2.9",
        WATCH,
        """"told": sorted(told if trouble else on)""",
        """"told": sorted(told)""",
        WATCHED + "test_people_are_told_when_it_begins_and_when_it_is_over_and_not_in_between",
    ),
    Change(
        "an alert that could not be told is forgotten",
        "2.9",
        WATCH,
        """"told": sorted(told if trouble else on)""",
        """"told": sorted(on)""",
        WATCHED + "test_what_could_not_be_told_is_told_later_and_status_says_so",
    ),
    Change(
        "usage is asked for at every look",
        "7",
        WATCH,
        "USAGE_EVERY = timedelta(hours=1)",
        "USAGE_EVERY = timedelta(0)",
        WATCHED + "test_usage_is_asked_once_an_hour_and_only_while_we_use_any",
    ),
    Change(
        "work out of sight is not waited for",
        "2.9",
        STATUS,
        'for until, since in runs.get(Lane.FRESH, {}).get("hidden", ()) if until > now.isoformat()]',
        "for until, since in () if until > now.isoformat()]",
        WATCHED + "test_each_alert_begins_when_its_cause_does[not-in-step-marketo_has_no_calls_left]",
    ),
    Change(
        "in step though nobody reads Dynamics",
        "2.9",
        STATUS,
        """tick.get("read") if tick.get("read", "") < tick.get("began", "") else None""",
        "None",
        WATCHED + "test_each_alert_begins_when_its_cause_does[not-in-step-nobody_answers]",
    ),
    Change(
        "a page of failures begins where the last one began",
        "2.9",
        FAILURES,
        'behind = mark if place == begun else ""',
        'behind = ""',
        NOT_IN_STEP + "test_a_page_begins_behind_the_one_before",
    ),
    Change(
        "a tick that ended early counts as having read everything",
        "2.9",
        ENGINE,
        """{"read": began["began"]} if tick.current else {}""",
        """{"read": began["began"]}""",
        WATCHED + "test_a_tick_that_did_not_read_to_the_end_has_not_read_everything",
    ),
    Change(
        "a backfill makes everything look unread",
        "2.9",
        DETECT,
        """                self._flush()
            self.up_to_date.add(OPPORTUNITY)
""",
        """                self._flush()
""",
        WATCHED + "test_a_backfill_over_several_ticks_leaves_nothing_unread_that_changes_meanwhile",
    ),
    Change(
        "a backlog that is only put back counts as moving",
        "2.9",
        STATUS,
        """for run in reversed(runs.get(lane, {}).get("runs", ())) if run["done"])""",
        """for run in reversed(runs.get(lane, {}).get("runs", ())))""",
        WATCHED + "test_a_backlog_that_is_only_put_back_does_not_move",
    ),
    Change(
        "a stop begins and ends with every delivery",
        "2.9",
        STATUS,
        "STOPPED_FOR = timedelta(minutes=6)",
        "STOPPED_FOR = timedelta(0)",
        WATCHED + "test_a_stop_among_deliveries_that_pass_stays_one_alert",
    ),
    Change(
        "a delivery is done again because its note failed",
        "2.3",
        ENGINE,
        "except SyncError as trouble:  # what was done is done",
        "except KeyError as trouble:  # what was done is done",
        WATCHED + "test_a_note_that_cannot_be_written_does_not_do_the_delivery_again",
    ),
    Change(
        "a delivery that fails tells nobody why",
        "2.9",
        ENGINE,
        "                self._note(work.lane, begun, failed, work)\n",
        "",
        WATCHED + "test_deliveries_that_fail_again_and_again_are_seen",
    ),
)
