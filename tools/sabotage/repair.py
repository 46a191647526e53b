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
