"""Changes of the experiments on Marketo: confirmation, removal, answers."""

from __future__ import annotations

from tools.sabotage.change import Change

ACTIONS = "sync_core/flows/actions.py"
CLIENT = "sync_core/adapters/marketo.py"
EXPERIMENTS = "sync_core/flows/probe_marketo.py"
LIMITER = "sync_core/adapters/limiter.py"
PLAN = "sync_core/flows/plan.py"
PROBE = "sync_core/flows/probe.py"
REHEARSAL = "sync_core/flows/rehearsal.py"

TESTS = "tests/flows/test_probe.py::"
EACH = TESTS + "test_each_setting_is_found_out_and_nothing_is_left"

CHANGES = (
    Change(
        "any id confirms the sandbox",
        "2.11",
        PROBE,
        "if typed.strip().casefold() != world.subscription.casefold():",
        "if not typed:",
        TESTS + "test_another_id_than_that_of_the_settings_confirms_nothing",
    ),
    Change(
        "experiments where the sync writes",
        "2.11",
        PROBE,
        "if _is_used(world) and (pair is None or",
        "if pair is False and (pair is None or",
        TESTS + "test_where_the_sync_writes_nobody_experiments",
    ),
    Change(
        "confirmed only after something was done",
        "2.11",
        ACTIONS,
        "    check_sandbox(world, sandbox)\n    check_alone(world)\n",
        """    remove_traces(world, lab)
    keep(world, ())
    check_sandbox(world, sandbox)
    check_alone(world)
""",
        TESTS + "test_another_id_than_that_of_the_settings_confirms_nothing",
    ),
    Change(
        "records of an experiment stay after an error",
        "2.3",
        ACTIONS,
        "        finally:\n            left += experiments.clean()\n",
        "        except SyncError:\n            raise\n        left += experiments.clean()\n",
        TESTS + "test_an_error_or_ctrl_c_in_the_middle_leaves_nothing",
    ),
    Change(
        "what is made is noted after it was made",
        "2.3",
        EXPERIMENTS,
        "        if new:\n            self._note([*self.kinds, kind])\n        try:\n"
        "            return self.wire.post(kind, *records, **more)\n",
        "        try:\n            said = self.wire.post(kind, *records, **more)\n"
        "            self._note([*self.kinds, kind] if new else self.kinds)\n            return said\n",
        TESTS + "test_what_is_going_to_be_made_is_noted_before",
    ),
    Change(
        "a note goes though something is left",
        "2.3",
        EXPERIMENTS,
        "        if left:\n            self.world.change(",
        "        if not self.kinds:\n            self.world.change(",
        TESTS + "test_what_may_not_be_removed_is_named_and_removed_once_it_may",
    ),
    Change(
        "a second run takes the records of the first",
        "2.3",
        PROBE,
        'if not made.get("ended") and',
        'if made.get("ended") and',
        TESTS + "test_what_a_killed_run_left_the_next_one_removes",
    ),
    Change(
        "roles that a query doesn't show yet are forgotten",
        "2.3",
        EXPERIMENTS,
        "        if keys := [*shown, *(each for each in made if each not in shown)]:\n",
        "        if keys := [*shown]:\n",
        TESTS + "test_what_queries_do_not_show_for_minutes_is_removed_all_the_same",
    ),
    Change(
        "a write that may still be carried out is not told",
        "2.4",
        EXPERIMENTS,
        'self.late = self.late or bool(said.envelope.get("unanswered"))',
        "self.late = False",
        TESTS + "test_answers_that_are_lost_on_the_way_change_no_finding_and_are_looked_after",
    ),
    Change(
        "an update without a difference is taken for logged",
        "6",
        EXPERIMENTS,
        'YES if log["same", UPDATED] >= log["changed", UPDATED] else NO',
        'YES if log["changed", UPDATED] else NO',
        EACH,
    ),
    Change(
        "an unknown field's place in the answer the wrong way round",
        "6",
        EXPERIMENTS,
        '("request" if said.codes else "record")',
        '("record" if said.codes else "request")',
        EACH,
    ),
    Change(
        "a company is read back before its change shows",
        "6",
        EXPERIMENTS,
        "return (UNCHANGED if _value(shown, COMPANY_ID) else",
        "return (UNCHANGED if _value(shown, OPPORTUNITY_ID) else",
        EACH,
    ),
    Change(
        "calls that were refused are not among those sent",
        "6",
        EXPERIMENTS,
        "if abs(grown - sent) <= LEEWAY:",
        "if abs(grown - (sent - refused)) <= LEEWAY:",
        EACH,
    ),
    Change(
        "a refusal of an experiment stops the sync",
        "6",
        CLIENT,
        "if not request.hurried and _PASSING & {code for code, _ in errors}:",
        "if not request.hurried and errors:",
        "tests/adapters/test_marketo.py::test_what_marketo_refuses_an_experiment_stops_nobody",
    ),
    Change(
        "a sandbox's limits are the live subscription's",
        "7",
        LIMITER,
        "self._documents.read(KIND, self._name)",
        "self._documents.read(KIND, NAME)",
        "tests/adapters/test_limiter.py::test_another_name_is_another_subscriptions_limits",
    ),
    Change(
        "what posting again logs is told without knowing it",
        "6",
        PLAN,
        'if change.does == "update" and (change.fields or self.tally.logs_noop == YES):',
        'if change.does == "update" and change.fields:',
        TESTS + "test_what_is_posted_again_unchanged_is_foretold_as_marketo_logs_it",
    ),
    Change(
        "a company that null leaves is told as a difference",
        "6",
        REHEARSAL,
        'if keeps_company and values.get(COMPANY_ID, "") is None:',
        'if keeps_company and values.get(COMPANY_ID, "") == "":',
        TESTS + "test_a_company_that_null_leaves_is_no_difference",
    ),
)
