"""Changes of the pure rules, the model, the mapping and the messages."""

from __future__ import annotations

from tools.sabotage.change import Change

ASSOCIATION = "sync_core/rules/association.py"
BATCHES = "sync_core/rules/batches.py"
FIELDS = "sync_core/rules/fields.py"
MAPPING = "sync_core/mapping.py"
MESSAGES = "sync_core/messages.py"
MODEL = "sync_core/model.py"
PLANNING = "sync_core/rules/planning.py"
VERDICTS = "sync_core/rules/verdicts.py"

OF_ASSOCIATION = "tests/rules/test_association.py::"
OF_BATCHES = "tests/rules/test_batches.py::"
OF_FIELDS = "tests/rules/test_fields.py::"
OF_MESSAGES = "tests/test_messages.py::"
OF_PLANNING = "tests/rules/test_planning.py::"
OF_VERDICTS = "tests/rules/test_verdicts.py::"

CHANGES = (
    # --- association (design.md §3) -----------------------------------------------------------------------------
    Change(
        "roles folded on the contact",
        "3",
        ASSOCIATION,
        """        known = merged.get(role.key)
        merged[role.key] = role if known is None else _merge(known, role)
""",
        """        known = merged.get((lead, ""))
        merged[lead, ""] = role if known is None else _merge(known, role)
""",
        OF_ASSOCIATION + "test_each_connection_to_a_contact_gives_one_role",
    ),
    Change(
        "a customer that is a contact gives no account",
        "3",
        ASSOCIATION,
        "        account = account_of(contacts, customer)\n",
        "",
        OF_ASSOCIATION + "test_a_customer_that_is_a_contact_gives_its_account_and_a_primary_role",
    ),
    Change(
        "the Contact field counts though the customer is an account",
        "3",
        ASSOCIATION,
        'if config.customer == "account+contact" and parent and parent != customer:',
        "if parent and parent != customer:",
        OF_ASSOCIATION + "test_with_both_form_fields_filled_the_account_counts_and_the_contact_gives_no_role",
    ),
    Change(
        "an ended connection keeps its role",
        "3",
        ASSOCIATION,
        "    if not connection.active:\n        return Exclusion.ENDED\n",
        "",
        OF_ASSOCIATION + "test_a_connection_that_is_not_in_force_gives_no_role",
    ),
    Change(
        "roles of every category count",
        "3",
        ASSOCIATION,
        "    if role is not None and role.category not in config.categories:\n        return Exclusion.CATEGORY\n",
        "",
        OF_ASSOCIATION + "test_a_role_outside_the_stakeholder_category_does_not_count",
    ),
    Change(
        "a connection without a role counts",
        "3",
        ASSOCIATION,
        "    if role is None and not config.without_role:\n        return Exclusion.NO_ROLE\n",
        "",
        OF_ASSOCIATION + "test_a_connection_without_role_does_not_count",
    ),
    Change(
        "a merged contact does not stand for its master",
        "3",
        ASSOCIATION,
        "        standing = winner\n",
        "        break\n",
        OF_ASSOCIATION + "test_a_merged_contact_stands_for_its_master_followed_to_the_end",
    ),
    Change(
        "a role has only its first reason",
        "3",
        ASSOCIATION,
        "reasons=tuple(sorted({*one.reasons, *other.reasons})),",
        "reasons=one.reasons,",
        OF_ASSOCIATION + "test_contacts_who_are_one_person_in_marketo_share_one_role_with_all_reasons",
    ),
    Change(
        "a role dates from its latest connection",
        "3",
        ASSOCIATION,
        "created=min(filter(None, (one.created, other.created))",
        "created=max(filter(None, (one.created, other.created))",
        OF_ASSOCIATION + "test_a_role_dates_from_its_earliest_connection",
    ),
    Change(
        "several primary roles",
        "3",
        ASSOCIATION,
        "    if len(primary) > 1:\n",
        "    if not roles:\n",
        OF_ASSOCIATION + "test_the_customer_is_primary_before_any_stakeholder_however_early",
    ),
    Change(
        "the text of a role not cut",
        "3",
        ASSOCIATION,
        "ROLE_LENGTH = 50",
        "ROLE_LENGTH = 255",
        OF_ASSOCIATION + "test_the_text_of_a_role_is_cut_to_50_characters",
    ),
    Change(
        "roles that differ in case are two",
        "3",
        MODEL,
        "return self.lead, self.text.casefold()",
        "return self.lead, self.text",
        OF_ASSOCIATION + "test_texts_that_differ_only_in_case_are_one_role",
    ),
    # --- which writes are missing (§1, §2.3, §2.7) --------------------------------------------------------------
    Change(
        "every role posted again",
        "2.3",
        PLANNING,
        "post = tuple(role for role in wanted if force or not _same(role, present.get(role.key)))",
        "post = tuple(wanted)",
        OF_PLANNING + "test_nothing_is_posted_when_marketo_holds_what_is_wanted",
    ),
    Change(
        "a forced plan trusts what it remembers",
        "2.4 A",
        PLANNING,
        "if force or not _same(role, present.get(role.key)))",
        "if not _same(role, present.get(role.key)))",
        OF_PLANNING + "test_only_force_posts_what_is_already_there",
    ),
    Change(
        "a cleared column not noticed",
        "2.3",
        PLANNING,
        "return [name for name in names if row.fields.get(name) != digests.get(name)]",
        "return [name for name in digests if row.fields.get(name) != digests[name]]",
        OF_PLANNING + "test_a_field_is_changed_when_its_digest_differs_or_is_on_one_side_only",
    ),
    Change(
        "roles of others removed",
        "2.7 3",
        PLANNING,
        "if key not in keys and key in ours)",
        "if key not in keys)",
        OF_PLANNING + "test_a_role_that_nobody_recorded_as_ours_stays",
    ),
    Change(
        "a replacement counted as a removal",
        "2.7 H",
        PLANNING,
        "tuple(role for role in remove if role.key not in replaced)",
        "remove",
        OF_PLANNING + "test_a_replacement_is_posted_and_removed_but_is_no_loss",
    ),
    Change(
        "one addition stands for many removals",
        "2.7 H",
        PLANNING,
        "if new not in taken or place(taken[new], tried):\n                taken[new] = lost\n",
        "if True:\n                taken[lost] = lost\n",
        OF_PLANNING + "test_each_addition_replaces_one_removal",
    ),
    Change(
        "removals held beyond the smaller of the two limits",
        "2.7 H",
        MAPPING,
        "return max(self.max_count, int(self.max_share * known))",
        "return min(self.max_count, int(self.max_share * known))",
        "tests/test_mapping.py::test_removals_are_held_only_beyond_both_limits",
    ),
    Change(
        "waits that do not grow",
        "6",
        PLANNING,
        "FIRST_RETRY_S * 2 ** min(max(attempts, 0), 16)",
        "FIRST_RETRY_S",
        OF_PLANNING + "test_the_first_retry_comes_after_a_minute_and_the_last_after_twelve_hours",
    ),
    Change(
        "an early look counted as an attempt",
        "6 2.9",
        PLANNING,
        "if row.state is State.WAITING and row.reason == reason and row.due and row.due > now:",
        "if not reason:",
        "tests/flows/test_sabotaged.py::test_looking_before_the_time_counts_no_attempt",
    ),
    Change(
        "a state that keeps the reason of the one before",
        "2.9 G",
        MODEL,
        'plain: dict[str, Any] = {"reason": "", "attempts": 0, "due": None, "approved": False}',
        "plain: dict[str, Any] = {}",
        "tests/flows/test_sabotaged.py::test_a_row_in_step_has_no_reason_and_no_time",
    ),
    # --- what Marketo's codes mean (§2.6, §6) -------------------------------------------------------------------
    Change(
        "the daily quota a record's fault",
        "2.6 6",
        VERDICTS,
        '"607": Meaning.RESET',
        '"607": _RECORD',
        OF_VERDICTS + "test_the_quota_is_waited_for_until_its_reset",
    ),
    Change(
        "the rate limit a record's fault",
        "2.6 6",
        VERDICTS,
        '"606": Meaning.THROTTLED',
        '"606": _RECORD',
        OF_VERDICTS + "test_the_services_own_trouble_is_never_a_records_fault",
    ),
    Change(
        "missing rights waited for",
        "2.6 6",
        VERDICTS,
        '"603": _SETTING',
        '"603": _WAIT',
        OF_VERDICTS + "test_codes_over_a_whole_answer_become_the_error_that_says_what_happens_next",
    ),
    Change(
        "a native link waited for",
        "6",
        VERDICTS,
        '"1018": _SETTING',
        '"1018": Meaning.LATER',
        OF_VERDICTS + "test_codes_over_a_whole_answer_become_the_error_that_says_what_happens_next",
    ),
    Change(
        "what is gone already can't be removed",
        "6",
        VERDICTS,
        'if answer.status in _WRITTEN or (answer.code == "1013" and removal):',
        "if answer.status in _WRITTEN:",
        OF_VERDICTS + "test_what_is_gone_already_counts_as_removed",
    ),
    Change(
        "what is refused for good tried again and again",
        "6 2.5",
        VERDICTS,
        '"1003": _RECORD',
        '"1003": Meaning.LATER',
        OF_VERDICTS + "test_a_bad_record_is_refused_until_it_changes",
    ),
    Change(
        "a time-out told by Marketo counts as answered",
        "2.4 C",
        VERDICTS,
        '_TIME_OUT = {"500", "502", "604"}',
        "_TIME_OUT: set[str] = set()",
        OF_VERDICTS + "test_whoever_gave_up_waiting_for_marketo_does_not_know_whether_it_wrote",
    ),
    # --- secrets and people stay out (§2.10) --------------------------------------------------------------------
    Change(
        "Marketo's text kept in the reason, with the value it quotes",
        "2.10",
        PLANNING,
        "REFUSALS.get(code, 'refused by Marketo')",
        "answer.message",
        OF_PLANNING + "test_a_refusal_names_code_and_field",
    ),
    Change(
        "Marketo's text shown in an error, with the value it quotes",
        "2.10",
        VERDICTS,
        '"an answer we have no words for"), field_of(text))',
        '"an answer we have no words for"), text)',
        OF_VERDICTS + "test_texts_keep_the_field_and_lose_everything_else",
    ),
    # --- messages and calls (§5, §7) ----------------------------------------------------------------------------
    Change(
        "an id twice in a message",
        "5",
        MESSAGES,
        "return list(dict.fromkeys(urlsafe_b64encode(UUID(id).bytes)[:22].decode() for id in ids))",
        "return [urlsafe_b64encode(UUID(id).bytes)[:22].decode() for id in ids]",
        OF_MESSAGES + "test_writes_each_id_once_in_lower_case",
    ),
    Change(
        "a backlog in small messages",
        "5 7",
        MESSAGES,
        "return [work] if 0 < work.size <= MAX_IDS else parts(work, FULL)",
        "return [work] if 0 < work.size <= 300 else parts(work, 300)",
        OF_MESSAGES + "test_cuts_a_backlog_into_full_messages",
    ),
    Change(
        "a call over 1 MB",
        "7",
        BATCHES,
        "size + more >= MAX_BYTES",
        "size >= MAX_BYTES",
        OF_BATCHES + "test_the_size_counts_bytes_not_characters",
    ),
    Change(
        "calls that are not filled",
        "7",
        BATCHES,
        "MAX_RECORDS = 300",
        "MAX_RECORDS = 200",
        "tests/flows/test_sabotaged.py::test_a_call_holds_three_hundred_records",
    ),
    Change(
        "more records in a call than Marketo takes",
        "7",
        BATCHES,
        "MAX_RECORDS = 300",
        "MAX_RECORDS = 301",
        "tests/flows/test_sabotaged.py::test_a_call_holds_three_hundred_records",
    ),
)
