"""Changes of what operators are told and of what repairs."""

from __future__ import annotations

from tools.sabotage.change import Change

ACTIONS = "sync_core/flows/actions.py"
CLI = "sync_core/cli.py"
DATAVERSE = "sync_core/adapters/dataverse.py"
EXPLAIN = "sync_core/flows/explain.py"
STATUS = "sync_core/flows/status.py"
VALIDATE = "sync_core/flows/validate.py"

COMMANDS = "tests/test_cli.py::"
LOST = "tests/flows/test_lost_state.py::"
WATCHED = "tests/flows/test_watch.py::"

CHANGES = (
    Change(
        "each post is shown as if it were the first",
        "2.9",
        EXPLAIN,
        "        held |= fields\n",
        "",
        "tests/flows/test_history.py::test_of_each_post_every_field_is_told_with_what_it_was_before",
    ),
    Change(
        "of ids given, everything held is approved",
        "2.7",
        CLI,
        "done = actions.approve_removals(app.world, options.ids or None, who=_who())",
        "done = actions.approve_removals(app.world, None, who=_who())",
        COMMANDS + "test_held_removals_are_named_with_their_roles_and_some_can_be_approved",
    ),
    Change(
        "a removal is approved that is not held",
        "2.7",
        CLI,
        'if unheld := sorted(set(options.ids) - {each["id"] for each in found}):',
        "if unheld := sorted(set(options.ids) - set(options.ids)):",
        COMMANDS + "test_held_removals_are_named_with_their_roles_and_some_can_be_approved",
    ),
    Change(
        "held removals without the names they have now",
        "2.7",
        STATUS,
        'shown = world.source.rows("opportunity", list(rows), {"name"}) if rows else {}',
        'shown = dict.fromkeys(rows, {"name": ""})',
        COMMANDS + "test_held_removals_are_named_with_their_roles_and_some_can_be_approved",
    ),
    Change(
        "what was approved is listed as if nobody had",
        "2.7",
        STATUS,
        "[pointer.id for pointer in pointers if pointer.reason != APPROVED]",
        "[pointer.id for pointer in pointers]",
        "tests/web/test_actions.py::test_what_was_approved_is_not_asked_for_again",
    ),
    Change(
        "what Marketo never held counts as removed",
        "2.7",
        "sync_core/flows/reconcile.py",
        "if not case.held and (case.there or case.row.roles)]",
        "if not case.held]",
        LOST + "test_of_ids_said_to_be_gone_only_what_marketo_holds_counts_as_removed",
    ),
    Change(
        "a choice that nothing matches is an all-clear",
        "2.9",
        CLI,
        'print("nothing matches" if any(tally.reasons for tally in tallies.values()) else "everything is in step")',
        'print("everything is in step")',
        COMMANDS + "test_a_choice_that_nothing_matches_is_no_all_clear",
    ),
    Change(
        "a stop ends with whatever goes well first",
        "2.9",
        STATUS,
        'lately = name != "detect" and datetime.fromisoformat(run["at"]) > now - STOPPED_FOR',
        "lately = False",
        WATCHED + "test_a_stop_ends_once_what_it_put_back_came_again_and_says_meanwhile_that_others_pass",
    ),
    Change(
        "ticks without work push deliveries out of the last runs",
        "2.9",
        STATUS,
        'return quietly(sorted(every, key=lambda each: str(each["at"]), reverse=True))[:RUNS]',
        'return quietly(sorted(every, key=lambda each: str(each["at"]), reverse=True)[:RUNS])',
        WATCHED + "test_ticks_without_work_push_no_delivery_out_of_the_last_runs",
    ),
    Change(
        "what Dynamics shows is taken for gone by an operator's word",
        "2.7",
        CLI,
        'if shown := app.world.source.rows("opportunity", options.ids, {"opportunityid"}):',
        "if shown := {}:",
        LOST + "test_what_was_deleted_meanwhile_goes_by_its_id_once_all_ids_were_compared",
    ),
    Change(
        "what is said to be gone is compared with nothing",
        "2.7",
        ACTIONS,
        "        if gone:\n            ask_for_comparison(world)\n",
        "",
        LOST + "test_what_was_deleted_meanwhile_goes_by_its_id_once_all_ids_were_compared",
    ),
    Change(
        "repoint without being asked to",
        "2.11",
        CLI,
        "    if not options.confirm:\n        found = before_repoint(app.world)",
        "    if False:\n        found = before_repoint(app.world)",
        COMMANDS + "test_repoint_tells_what_it_would_do_and_changes_nothing_without_confirm",
    ),
    Change(
        "a program that asked for JSON gets prose",
        "6",
        CLI,
        '    if options.json:\n        show({"error": error}',
        '    if not options:\n        show({"error": error}',
        COMMANDS + "test_with_json_trouble_of_a_service_comes_with_what_to_do",
    ),
    Change(
        "an expired secret is a warning",
        "6",
        VALIDATE,
        'return Finding(Light.RED, f"expired on {day}", RENEW)',
        'return Finding(Light.AMBER, f"expired on {day}", RENEW)',
        "tests/flows/test_validate.py::test_what_signs_in_to_dynamics_is_told_of_a_month_before_it_expires",
    ),
)
