"""Changes of what becomes of a state, or a message, that another version wrote."""

from __future__ import annotations

from tools.sabotage.change import Change

MIGRATIONS, GUARD, ENGINE = (f"sync_core/{name}.py" for name in ("flows/migrations", "flows/guard", "engine"))
TABLES, MESSAGES = "sync_core/adapters/tables.py", "sync_core/messages.py"
TESTS = "tests/flows/test_migrations.py::"
UPGRADE = "tests/flows/test_upgrade.py::"
CONNECTIONS = "tests/adapters/test_connections.py::"

CHANGES = (
    Change(
        "state of a newer version accepted",
        "2.11",
        GUARD,
        'if stamp["schema"] > SCHEMA:',
        'if not stamp["schema"]:',
        TESTS + "test_a_function_refuses_a_newer_state_and_says_which_version_wrote_it",
    ),
    Change(
        "the version is looked at once an hour",
        "2.11",
        ENGINE,
        "            check_taken_over(self.world)\n            work =",
        "            work =",
        TESTS + "test_the_version_is_looked_at_by_each_delivery_not_once_an_hour",
    ),
    Change(
        "a delivery given back to a newer version forgets that something may have been sent",
        "2.4 2.11",
        ENGINE,
        "as_it_came(body, force=dequeue_count > 1)",
        "as_it_came(body, force=False)",
        TESTS + "test_what_was_received_before_is_forced_when_it_comes_to_who_understands_it",
    ),
    Change(
        "a message of a newer version taken for one of somebody else's",
        "2.9",
        MESSAGES,
        "if type(version) is int and version > VERSION and",
        "if version is None and",
        TESTS + "test_a_newer_message_goes_back_and_is_not_set_aside",
    ),
    Change(
        "a tick on a newer state",
        "2.11",
        ENGINE,
        "        check_version(self.world)\n        begun",
        "        begun",
        TESTS + "test_a_function_refuses_a_newer_state_and_says_which_version_wrote_it",
    ),
    Change(
        "a command on a newer state",
        "2.11",
        "sync_core/cli.py",
        "            check_taken_over(app.world)\n    except",
        "            pass\n    except",
        TESTS + "test_every_command_refuses_a_newer_state",
    ),
    Change(
        "a page of a newer state",
        "2.11",
        "sync_core/web/site.py",
        "        check_version(world)\n",
        "",
        TESTS + "test_no_page_shows_a_newer_state",
    ),
    Change(
        "a state taken over while deliveries of the old version are under way",
        "2.4",
        MIGRATIONS,
        "if steps and left > timedelta(0):",
        "if not steps:",
        TESTS + "test_the_stamp_is_raised_first_and_the_old_version_gets_time_to_end",
    ),
    Change(
        "deliveries go on in a state that is not taken over yet",
        "2.11",
        GUARD,
        'return stamp["schema"] < SCHEMA or TAKING_OVER in stamp',
        'return stamp["schema"] < SCHEMA',
        TESTS + "test_what_one_tick_cannot_do_the_next_one_goes_on_with",
    ),
    Change(
        "half a step counts as all of it",
        "2.11",
        MIGRATIONS,
        "if not all(step(until) for step in steps):",
        "if not [step(until) for step in steps]:",
        TESTS + "test_what_one_tick_cannot_do_the_next_one_goes_on_with",
    ),
    Change(
        "the steps of a version that was skipped are left out",
        "2.11",
        MIGRATIONS,
        'value.get(TAKING_OVER, {}).get("from", value["schema"])',
        'value["schema"]',
        TESTS + "test_two_versions_on_in_one_go_take_the_steps_of_both",
    ),
    Change(
        "two who take a state over write over each other's stamp",
        "2.11",
        MIGRATIONS,
        "    if new is None:\n",
        "    if new == 0:\n",
        TESTS + "test_two_who_begin_at_once_take_over_once",
    ),
    Change(
        "connections of an earlier version are not taken over",
        "4",
        "sync_core/adapters/storage.py",
        "for each in (self.connections, *ledgers))",
        "for each in ledgers)",
        UPGRADE + "test_a_connection_that_only_the_earlier_state_knows_takes_its_role_along",
    ),
    Change(
        "an earlier connection goes before its pair is in a segment",
        "4",
        TABLES,
        """                self.write([(each["RowKey"], _content(each)["o"]) for each in page])
                self._singly.delete([each["RowKey"] for each in page])
""",
        """                self._singly.delete([each["RowKey"] for each in page])
                self.write([(each["RowKey"], _content(each)["o"]) for each in page])
""",
        CONNECTIONS + "test_wherever_a_take_over_is_killed_the_next_one_ends_it",
    ),
    Change(
        "reasons that an earlier version did not count stay uncounted",
        "2.9",
        TABLES,
        "            self._tell_reasons(partition)\n            self._miscounted(partition, mend=True)\n",
        "            self._tell_reasons(partition)\n",
        UPGRADE + "test_what_the_previous_version_left_is_taken_over_and_ends_in_step",
    ),
    Change(
        "pointers of an earlier version stay silent",
        "2.9",
        TABLES,
        "            self._tell_reasons(partition)\n            self._miscounted",
        "            self._miscounted",
        UPGRADE + "test_what_was_held_is_listed_by_its_reason_and_goes_once_approved",
    ),
    Change(
        "a poison message of a newer version set aside as somebody else's",
        "2.9",
        "sync_core/flows/detect.py",
        "        except NotOurs as error:\n            self.world.queue.set_aside",
        "        except (NotOurs, NewerVersion) as error:\n            self.world.queue.set_aside",
        TESTS + "test_a_newer_message_stays_in_the_poison_queue",
    ),
)
