"""Changes of the wire, the storage, the limiter and the settings."""

from __future__ import annotations

from tools.sabotage.change import Change

DATAVERSE = "sync_core/adapters/dataverse.py"
LIMITER = "sync_core/adapters/limiter.py"
MARKETO = "sync_core/adapters/marketo.py"
SETTINGS = "sync_core/settings.py"
TABLES = "sync_core/adapters/tables.py"
TRANSPORT = "sync_core/adapters/transport.py"
WORK_QUEUE = "sync_core/adapters/work_queue.py"

OF_CONNECTIONS = "tests/adapters/test_connections.py::"
OF_DATAVERSE = "tests/adapters/test_dataverse.py::"
OF_LIMITER = "tests/adapters/test_limiter.py::"
OF_MARKETO = "tests/adapters/test_marketo.py::"
OF_SETTINGS = "tests/test_settings.py::"
OF_TABLES = "tests/adapters/test_tables.py::"
OF_TRANSPORT = "tests/adapters/test_transport.py::"
OF_WORK_QUEUE = "tests/adapters/test_work_queue.py::"

CHANGES = (
    # --- Marketo's answers (design.md §2.2, §2.4, §6) -----------------------------------------------------------
    Change(
        "HTTP 200 taken for success",
        "2.2 6",
        MARKETO,
        '    if envelope["success"]:\n        return []\n',
        "    if envelope:\n        return []\n",
        OF_MARKETO + "test_the_daily_quota_pauses_everybody_until_five_past_six",
    ),
    Change(
        "a skipped record taken for written",
        "2.2 2.5",
        MARKETO,
        '    return Answer(status, *reason(_pairs(item.get("reasons"))))\n',
        '    return Answer("updated")\n',
        OF_MARKETO + "test_one_bad_record_harms_only_itself_and_its_value_stays_out_of_the_message",
    ),
    Change(
        "answers given to the wrong records",
        "2.2",
        MARKETO,
        'items = sorted(_items(envelope), key=lambda item: item.get("seq") or 0)',
        "items = _items(envelope)",
        OF_MARKETO + "test_results_are_put_in_the_order_of_the_records",
    ),
    Change(
        "a lost answer forgotten once repeating it worked",
        "2.4 C",
        MARKETO,
        "            self.unanswered = self.unanswered or again.unanswered\n",
        "",
        OF_MARKETO + "test_a_lost_answer_is_repeated_and_remembered",
    ),
    Change(
        "a lost answer forgotten once another error came",
        "2.4 C",
        MARKETO,
        "raise (_still_unanswered(error) if attempt.unanswered else error) from None",
        "raise error from None",
        OF_MARKETO + "test_whatever_comes_after_a_lost_answer_says_that_it_was_lost",
    ),
    Change(
        "silence after a write taken for not sent",
        "2.4 C",
        TRANSPORT,
        "sent = not isinstance(error, requests.ConnectTimeout) and not _never_connected(error)",
        "sent = False",
        OF_TRANSPORT + "test_silence_after_sending_may_hide_that_it_was_done",
    ),
    Change(
        "a 5xx taken for not written",
        "2.4 C",
        TRANSPORT,
        "return Unavailable(text, delay=delay, unanswered=write)",
        "return Unavailable(text, delay=delay)",
        OF_TRANSPORT + "test_a_5xx_says_nothing_about_a_write",
    ),
    Change(
        "the end of the lease looked at before waiting for the limiter",
        "2.4 D",
        MARKETO,
        """            with self._turn(request):
                self._check_time(request)
""",
        """            self._check_time(request)
            with self._turn(request):
""",
        OF_MARKETO + "test_a_write_that_waited_too_long_is_not_sent",
    ),
    Change(
        "a refused token not replaced",
        "6",
        MARKETO,
        "            envelope = self._exchange(request)\n        return envelope\n",
        "            pass\n        return envelope\n",
        OF_MARKETO + "test_a_token_that_died_is_replaced_once",
    ),
    Change(
        "the others not told of a native link",
        "6",
        MARKETO,
        '_STOPS = {"603", "1018"}',
        '_STOPS = {"603"}',
        OF_MARKETO + "test_a_natively_linked_marketo_stops_everybody",
    ),
    Change(
        "the others not told of a used-up quota",
        "6 7",
        MARKETO,
        "            self._limiter.pause(until=next_reset(now), reason=str(error), quota=True)\n",
        "            pass\n",
        OF_MARKETO + "test_the_daily_quota_pauses_everybody_until_five_past_six",
    ),
    Change(
        "the others not told of the rate limit",
        "7",
        MARKETO,
        "        elif code in PAUSES:\n",
        "        elif code not in PAUSES:\n",
        OF_MARKETO + "test_a_rate_limit_pauses_everybody_and_the_call_is_repeated",
    ),
    # --- Dataverse's answers (§2.8, §6) -------------------------------------------------------------------------
    Change(
        "a paging that does not move on followed for ever",
        "6",
        DATAVERSE,
        "if page.next_link and page.next_link == link:",
        "if page.next_link and not link:",
        OF_DATAVERSE + "test_paging_that_does_not_move_on_is_given_up",
    ),
    Change(
        "deletions of a tracked read taken for rows",
        "2.7",
        DATAVERSE,
        'if "$deletedEntity" in str(row.get("@odata.context", "")) or "reason" in row:',
        'if "$deletedEntity" in str(row.get("@odata.id", "")):',
        "tests/flows/test_changes.py::test_a_deleted_deal_goes_and_its_roles_go_first",
    ),
    Change(
        "both rows of a connection count",
        "3",
        DATAVERSE,
        "    key=min(ids),\n",
        "    key=ids[0],\n",
        OF_DATAVERSE + "test_both_orientations_give_the_same_pair",
    ),
    Change(
        "merged contacts that an opportunity still names not looked at",
        "4",
        DATAVERSE,
        "        named = self._with_merged(contacts)\n",
        "        named = set(contacts)\n",
        "tests/flows/test_once_wrong.py::test_a_change_of_the_master_reaches_what_still_names_a_merged_contact",
    ),
    Change(
        "an index asked one id at a time",
        "4",
        DATAVERSE,
        "CHUNK = 300",
        "CHUNK = 1",
        OF_DATAVERSE + "test_rows_are_asked_for_in_chunks_side_by_side",
    ),
    Change(
        "waiting in the process for as long as the service asks",
        "6",
        TRANSPORT,
        "return state.attempt_number >= ATTEMPTS or spent + state.upcoming_sleep > seconds",
        "return state.attempt_number >= ATTEMPTS or spent > 10 * seconds",
        OF_TRANSPORT + "test_no_repetition_starts_after_the_time_is_over",
    ),
    # --- secrets and people stay out (§2.10) --------------------------------------------------------------------
    Change(
        "a link to another host followed",
        "2.10",
        DATAVERSE,
        "if _origin(link) != _origin(self._org):",
        "if not _origin(link):",
        "tests/flows/test_invariants.py::test_a_link_to_another_host_is_refused",
    ),
    Change(
        "a link to another port of the host followed",
        "2.10",
        DATAVERSE,
        "if _origin(link) != _origin(self._org):",
        "if urlsplit(link).hostname != urlsplit(self._org).hostname:",
        OF_DATAVERSE + "test_links_to_another_address_are_refused_before_anything_is_sent",
    ),
    Change(
        "redirects followed",
        "2.10",
        TRANSPORT,
        "allow_redirects=False,",
        "allow_redirects=True,",
        OF_TRANSPORT + "test_redirects_are_not_followed",
    ),
    Change(
        "TLS certificates not looked at",
        "2.10",
        TRANSPORT,
        "                stream=True,\n",
        "                stream=True,\n                verify=False,\n",
        OF_TRANSPORT + "test_a_strange_certificate_is_never_trusted",
    ),
    Change(
        "plain HTTP to anywhere",
        "2.10 8",
        SETTINGS,
        'if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):',
        'if parts.scheme not in ("https", "http"):',
        OF_SETTINGS + "test_a_wrong_address_is_refused_by_name_and_never_quoted",
    ),
    Change(
        "the credentials of .netrc sent along",
        "2.10",
        TRANSPORT,
        "auth=auth or Anonymous(),",
        "auth=auth,",
        OF_TRANSPORT + "test_a_netrc_entry_does_not_take_the_tokens_place",
    ),
    Change(
        "the query shown in an error",
        "2.10",
        TRANSPORT,
        'where = f"{self._service} {method} {urlsplit(url).path}"',
        'where = f"{self._service} {method} {url}"',
        OF_TRANSPORT + "test_silence_after_sending_may_hide_that_it_was_done",
    ),
    Change(
        "Marketo's secret shown in an error",
        "2.10",
        MARKETO,
        '"Marketo does not accept MARKETO_CLIENT_ID and MARKETO_CLIENT_SECRET; copy both again "',
        'f"Marketo does not accept {form}; copy both again "',
        OF_MARKETO + "test_a_wrong_secret_is_a_setting_and_shows_nothing_of_it",
    ),
    Change(
        "what Entra ID quotes shown in an error",
        "2.10",
        DATAVERSE,
        "return f\"Entra ID refuses to sign us in{' with ' if code else ''}{code}: {remedy}\"",
        'return f"Entra ID refuses to sign us in: {text}: {remedy}"',
        OF_DATAVERSE + "test_an_unknown_refusal_shows_its_code_and_nothing_it_quotes",
    ),
    Change(
        "Dataverse's text shown in an error, with the people it names",
        "2.10",
        DATAVERSE,
        'self._transport.refuse(reply, f"{table} {code}" if code',
        'self._transport.refuse(reply, f"{table} {code} {message}" if code',
        OF_DATAVERSE + "test_no_address_gets_into_an_error",
    ),
    Change(
        "the text of the storage SDK shown, with what it quotes",
        "2.10",
        TABLES,
        "raise _translated(error, role) from None",
        "raise _translated(error, role) from error",
        "tests/flows/test_sabotaged.py::test_an_error_of_storage_does_not_carry_that_of_the_sdk",
    ),
    Change(
        "people's addresses in a URL",
        "2.10",
        MARKETO,
        'return _Request("POST", f"{path}?_method=GET", timeout, urlencode(query).encode(), _FORM)',
        'return _Request("GET", f"{path}?{urlencode(query)}", timeout)',
        OF_MARKETO + "test_three_hundred_ids_go_as_one_long_query_in_a_form",
    ),
    Change(
        "a secret shown when the settings are printed",
        "2.10",
        SETTINGS,
        "marketo_client_secret: str = field(repr=False)",
        "marketo_client_secret: str",
        OF_SETTINGS + "test_no_secret_shows_when_settings_are_printed",
    ),
    # --- storage (§2.4, §2.9, §2.11, §5) ------------------------------------------------------------------------
    Change(
        "a ledger row written without its ticket",
        "2.4 A",
        TABLES,
        'return ("update", entity, _under(ticket)) if ticket else ("create", entity, {})',
        'return ("upsert", entity, {"mode": UpdateMode.REPLACE})',
        OF_TABLES + "TestTableLedger::test_a_ticket_holds_once",
    ),
    Change(
        "a row inserted over another one",
        "2.4 B",
        TABLES,
        'if ticket else ("create", entity, {})',
        'if ticket else ("upsert", entity, {"mode": UpdateMode.REPLACE})',
        OF_TABLES + "TestTableLedger::test_of_two_inserts_the_second_loses",
    ),
    Change(
        "counts that do not follow the rows",
        "2.9 G",
        TABLES,
        '        moves.subtract({old.state: 1, "roles": old.roles, LEFT_OUT: old.left_out})\n',
        "        pass\n",
        OF_TABLES + "TestTableLedger::test_counts_and_pointers_match_the_rows_whatever_happened",
    ),
    Change(
        "a pointer to a row that is in step",
        "2.9 G",
        TABLES,
        '        operations.append(("delete", _entity(partition, before), {}))\n',
        "        pass\n",
        OF_TABLES + "TestTableLedger::test_pointers_follow_states_and_times",
    ),
    Change(
        "a ledger of a newer version read",
        "2.11",
        TABLES,
        'if plain.pop("v") > SCHEMA:',
        'if not plain.pop("v"):',
        OF_TABLES + "test_refuses_a_ledger_of_a_newer_version",
    ),
    # --- the map of connections (§4, §5) ------------------------------------------------------------------------
    Change(
        "segments of the connection map deleted before their pairs are in the leaves",
        "4 5",
        TABLES,
        """            if all(self._fan_out(partial(self._fold, changes, until), self._by_leaf(sorted(changes)))):
                for segment in segments:
                    self._table.drop("new", segment["RowKey"])
""",
        """            for segment in segments:
                self._table.drop("new", segment["RowKey"])
            if all(self._fan_out(partial(self._fold, changes, until), self._by_leaf(sorted(changes)))):
                pass
""",
        OF_CONNECTIONS + "test_no_pair_is_lost_wherever_a_fold_is_overtaken_or_dies",
    ),
    Change(
        "segments of the connection map deleted though time ran out",
        "4 5",
        TABLES,
        "            if all(self._fan_out(partial(self._fold, changes, until), self._by_leaf(sorted(changes)))):\n",
        "            if [*self._fan_out(partial(self._fold, changes, until), self._by_leaf(sorted(changes)))]:\n",
        OF_CONNECTIONS + "test_a_fold_without_time_loses_nothing_and_the_next_one_ends_it",
    ),
    Change(
        "leaves of the connection map read before the segments",
        "4 5",
        TABLES,
        """        for held in self._fan_out(self._in_leaves, parts):
            found |= held
        _add(found, later)
""",
        """        for held in self._fan_out(self._in_leaves, parts):
            found |= held
        pages = self._table.pages("PartitionKey eq 'new'")
        later = [pair for page in pages for entity in page for pair in _pairs(entity) if pair[0] in wanted]
        _add(found, later)
""",
        OF_CONNECTIONS + "test_whoever_reads_finds_what_a_fold_moves_meanwhile",
    ),
    Change(
        "a leaf of the connection map written over another fold's",
        "4 5",
        TABLES,
        "_put(entities[-1], ticket)]",
        '("upsert", entities[-1], {"mode": UpdateMode.REPLACE})]',
        OF_CONNECTIONS + "test_no_pair_is_lost_wherever_a_fold_is_overtaken_or_dies",
    ),
    Change(
        "a connection that was moved known with its last opportunity only",
        "4 5",
        TABLES,
        "            known.add(opportunity)\n",
        "            known.clear()\n            known.add(opportunity)\n",
        OF_CONNECTIONS + "TestTableConnections::test_reads_all_that_was_written",
    ),
    Change(
        "connections that are gone kept for ever",
        "4 5",
        TABLES,
        "            changed |= held.pop(connection, None) is not None\n",
        "            pass\n",
        OF_CONNECTIONS + "test_the_map_does_not_grow_by_what_comes_and_goes",
    ),
    Change(
        "messages that expire",
        "5 2.9",
        WORK_QUEUE,
        "queue.send_message(encode(part), visibility_timeout=delay, time_to_live=FOREVER)",
        "queue.send_message(encode(part), visibility_timeout=delay)",
        OF_WORK_QUEUE + "test_messages_never_expire",
    ),
    Change(
        "a lease thought longer than it is",
        "2.4 D",
        WORK_QUEUE,
        "return _letter(message, asked, lease) if message else None",
        "return _letter(message, asked + lease, lease) if message else None",
        "tests/flows/test_sabotaged.py::test_a_lease_counts_from_before_it_was_asked_for",
    ),
    # --- the limiter (§7) ---------------------------------------------------------------------------------------
    Change(
        "a window shorter than Marketo's",
        "7",
        LIMITER,
        "WINDOW = 20.5",
        "WINDOW = 10.0",
        OF_LIMITER + "test_no_window_of_20_seconds_holds_more_calls_than_our_share",
    ),
    Change(
        "a slot given back though Marketo may still be at work",
        "7",
        LIMITER,
        "            answered = not error.unanswered\n",
        "",
        OF_LIMITER + "test_a_slot_without_an_answer_is_kept_until_it_lapses",
    ),
    Change(
        "more calls at once than our share",
        "7",
        LIMITER,
        "if len(share.slots) + wishes >= (1 if",
        "if len(share.slots) + wishes > (1 if",
        OF_LIMITER + "test_slots_are_shared_and_given_back",
    ),
    Change(
        "everybody probes after a pause",
        "7",
        LIMITER,
        "(1 if share.pause else self._concurrency)",
        "self._concurrency",
        OF_LIMITER + "test_after_a_pause_one_call_probes_alone",
    ),
    Change(
        "a pause that nobody keeps",
        "7 6",
        LIMITER,
        "if share.pause and share.pause.until > second and",
        "if share.pause and share.pause.until < 0 and",
        OF_LIMITER + "test_a_long_pause_is_refused_with_its_reason",
    ),
    Change(
        "a shorter pause in the place of a longer one",
        "7",
        LIMITER,
        "return share if share.pause and share.pause.until >= new.until else replace(share, pause=new)",
        "return replace(share, pause=new)",
        OF_LIMITER + "test_a_shorter_pause_does_not_replace_a_longer_one",
    ),
    Change(
        "the day's calls without end",
        "7 6",
        LIMITER,
        "        if share.used >= daily:\n",
        "        if share.used < 0:\n",
        OF_LIMITER + "test_the_days_share_ends_until_the_reset",
    ),
    Change(
        "the day's quota new before Marketo's",
        "7 6",
        LIMITER,
        "RESET = timedelta(hours=6, minutes=5)",
        "RESET = timedelta(hours=5, minutes=5)",
        OF_LIMITER + "test_the_quota_is_new_at_five_past_six",
    ),
    Change(
        "a slot that fresh work waits for taken by the slow lane",
        "7",
        LIMITER,
        "len(share.slots) + wishes >=",
        "len(share.slots) >=",
        OF_LIMITER + "test_a_slot_given_back_while_fresh_work_waits_is_not_for_the_slow_lane",
    ),
    Change(
        "a call of the window that fresh work waits for taken by the slow lane",
        "7",
        LIMITER,
        "        if len(share.calls) + wishes >= self._calls:\n            return max(sorted(share.calls)[wishes -",
        "        if len(share.calls) >= self._calls:\n            return max(sorted(share.calls)[-",
        OF_LIMITER + "test_a_call_of_the_window_goes_to_fresh_work_that_waits_for_it",
    ),
    Change(
        "the slow lane held back by fresh work that was served",
        "7",
        LIMITER,
        "            wishes={other: end for other, end in share.wishes.items() if other != slot},\n",
        "",
        OF_LIMITER + "test_fresh_work_that_was_served_holds_nobody_back",
    ),
    Change(
        "the whole day's calls for the slow lane",
        "7",
        LIMITER,
        "KEPT = 10",
        "KEPT = 0",
        OF_LIMITER + "test_the_slow_lane_leaves_a_tenth_of_the_day_to_fresh_work",
    ),
    Change(
        "a backlog that asks Marketo as fresh work does",
        "7",
        MARKETO,
        "        other._slow = True\n",
        "",
        OF_MARKETO + "test_the_slow_lanes_calls_let_the_others_go_first",
    ),
    Change(
        "the limits of one instance only",
        "7",
        LIMITER,
        "new = self._documents.write(KIND, self._name, asdict(share), ticket)",
        """known = self._documents.read(KIND, NAME)
        new = self._documents.write(KIND, NAME, asdict(share), known.ticket if known else None)""",
        OF_LIMITER + "test_no_window_of_20_seconds_holds_more_calls_than_our_share",
    ),
    Change(
        "a refused secret is a setting like any other",
        "6",
        DATAVERSE,
        "raise CredentialsRefused(sign_in_remedy(text))",
        "raise ConfigurationError(sign_in_remedy(text))",
        OF_DATAVERSE + "test_a_wrong_secret_is_found_by_signing_in",
    ),
    Change(
        "nobody reads when a certificate expires",
        "6",
        DATAVERSE,
        "return load_pem_x509_certificate(found.encode()).not_valid_after_utc",
        "return None",
        OF_DATAVERSE + "test_when_a_certificate_expires_is_read_from_it_and_of_a_secret_from_its_setting",
    ),
    Change(
        "a reason that changes is counted twice",
        "2.9",
        TABLES,
        "        moves.subtract(_why(old.state, old.reason))\n",
        "",
        "tests/adapters/test_tables.py::TestTableLedger::test_pointers_say_why_and_follow_a_reason_that_changes",
    ),
    Change(
        "the pointer keeps an old reason",
        "2.9",
        TABLES,
        "if after and (before != after or (old and old.reason != row.reason)):",
        "if after and before != after:",
        "tests/adapters/test_tables.py::TestTableLedger::test_pointers_say_why_and_follow_a_reason_that_changes",
    ),
    Change(
        "the address of the webhook stands in an error",
        "2.10",
        "sync_core/adapters/webhook.py",
        """        except Unavailable:
            raise Unavailable(f"the address in {SETTING} gives no answer") from None
""",
        """        except Unavailable as error:
            raise Unavailable(str(error)) from None
""",
        "tests/adapters/test_webhook.py::test_silence_and_a_certificate_that_is_not_trusted_show_nothing_of_it_either",
    ),
)
