"""Changes of the status page: who comes in, what a confirmation is good for, what is text."""

from __future__ import annotations

from tools.sabotage.change import Change

ACTS = "sync_core/web/acts.py"
CONFIRMATIONS = "sync_core/web/confirmations.py"
DOOR = "sync_core/web/door.py"
EXPORT = "sync_core/flows/export.py"
FUNCTIONS = "function_app.py"
PAGES = "sync_core/pages.py"
SITE = "sync_core/web/site.py"

DONE = "tests/web/test_actions.py::"
LET_IN = "tests/web/test_door.py::"
SHOWN = "tests/web/test_pages.py::"

CHANGES = (
    Change(
        "the page's functions ask for no key",
        "2.10",
        FUNCTIONS,
        '{"key": func.AuthLevel.FUNCTION,',
        '{"key": func.AuthLevel.ANONYMOUS,',
        "tests/host/test_functions.py::test_each_page_has_its_route_and_needs_a_key_but_for_probes",
    ),
    Change(
        "a wrong way to sign in opens the page with a key",
        "2.10",
        FUNCTIONS,
        "LEVELS.get(SIGN_IN, func.AuthLevel.ADMIN)",
        "LEVELS.get(SIGN_IN, func.AuthLevel.FUNCTION)",
        LET_IN + "test_the_host_asks_for_a_key_unless_entra_signs_in",
    ),
    Change(
        "whoever claims to be signed in is believed, also where nobody takes out forged headers",
        "2.10",
        DOOR,
        """    if env.get("WEBSITE_AUTH_ENABLED", "").strip().lower() != "true":
""",
        """    if env.get("WEBSITE_AUTH_ENABLED", "").strip().lower() == "never":
""",
        LET_IN + "test_a_forged_header_does_not_pass_where_nobody_takes_it_out",
    ),
    Change(
        "nobody has to be signed in",
        "2.10",
        DOOR,
        """f"entra:{UUID(request.headers.get('x-ms-client-principal-id', ''))}\"""",
        """f"entra:{request.headers.get('x-ms-client-principal-id', '')}\"""",
        LET_IN + "test_nobody_passes_who_is_not_signed_in",
    ),
    Change(
        "who is signed in with any provider is let in",
        "2.10",
        DOOR,
        """    if request.headers.get("x-ms-client-principal-idp") != "aad":
""",
        """    if not request.headers.get("x-ms-client-principal-idp"):
""",
        LET_IN + "test_who_is_signed_in_with_another_provider_is_nobody",
    ),
    Change(
        "another website's images and scripts cost calls in an operator's name",
        "2.7",
        DOOR,
        """        raise Refused(403, "This request comes from another website.", "Open the status page itself.")
""",
        """        return False
""",
        LET_IN + "test_what_another_website_makes_a_browser_ask_is_refused_and_costs_nothing",
    ),
    Change(
        "a link on another website costs calls before anybody wants that",
        "2.7",
        SITE,
        "        if from_elsewhere(request) and request.page:\n",
        "        if from_elsewhere(request) and not request.page:\n",
        LET_IN + "test_a_link_on_another_website_costs_nothing_until_somebody_wants_it",
    ),
    Change(
        "a form may come from another website",
        "2.7",
        SITE,
        "        check_own(request)\n",
        "",
        LET_IN + "test_a_form_of_another_site_is_refused_and_does_nothing",
    ),
    Change(
        "an unknown origin is as good as ours",
        "2.7",
        DOOR,
        """        own = site == "same-origin"
""",
        """        own = True
""",
        LET_IN + "test_a_form_of_another_site_is_refused_and_does_nothing",
    ),
    Change(
        "two that send a confirmation at once both get through",
        "2.7",
        CONFIRMATIONS,
        """    if world.documents.write(CONFIRMATION, nonce, {"used": True}, found.ticket) is None:
        raise _refused("was used already")
""",
        "",
        DONE + "test_of_two_that_send_it_at_once_one_gets_through",
    ),
    Change(
        "a confirmation never ends",
        "2.7",
        CONFIRMATIONS,
        """ or found.value.get("used") or int(nonce[:11]) <= _second(world):
""",
        """ or found.value.get("used"):
""",
        DONE + "test_a_confirmation_is_good_for_ten_minutes",
    ),
    Change(
        "a confirmation is good for anybody",
        "2.7",
        CONFIRMATIONS,
        """    if (found.value.get("action"), found.value.get("who")) != (action, who):
""",
        """    if found.value.get("action") != action:
""",
        DONE + "test_a_confirmation_is_good_for_who_asked_alone",
    ),
    Change(
        "a confirmation is good for any action",
        "2.7",
        CONFIRMATIONS,
        """    if (found.value.get("action"), found.value.get("who")) != (action, who):
""",
        """    if found.value.get("who") != who:
""",
        DONE + "test_a_confirmation_is_good_for_its_action_alone",
    ),
    Change(
        "more removals pass than were shown",
        "2.7",
        ACTS,
        """    if digest != targets["digest"]:
""",
        """    if number < 0:
""",
        DONE + "test_no_more_removals_pass_than_were_shown",
    ),
    Change(
        "other removals pass than were shown, if they are no more",
        "2.7",
        ACTS,
        """    if digest != targets["digest"]:
""",
        """    if number > targets["number"]:
""",
        DONE + "test_no_other_removals_pass_than_were_shown",
    ),
    Change(
        "a name or a reason can be markup",
        "2.10",
        PAGES,
        "        autoescape=True,\n",
        "        autoescape=False,\n",
        SHOWN + "test_hostile_reasons_are_text",
    ),
    Change(
        "a reason can be a formula in a spreadsheet",
        "2.10",
        EXPORT,
        """    return f"'{value}" if value.startswith(_FORMULA) or value.lstrip().startswith(_FORMULA) else value
""",
        """    return value
""",
        "tests/flows/test_export.py::test_a_formula_becomes_text",
    ),
    Change(
        "whoever asks without a key costs storage operations",
        "2.9",
        SITE,
        "HEALTH_S = 10.0",
        "HEALTH_S = 0.0",
        SHOWN + "test_probes_cost_us_one_status_in_ten_seconds",
    ),
    Change(
        "probes queue behind a storage account that hangs",
        "2.9",
        SITE,
        "self._asking.acquire(timeout=ONCE_S if self._expired(LAST_S) else 0):",
        "self._asking.acquire():",
        SHOWN + "test_a_probe_waits_for_no_other_and_gets_the_last_answer_for_a_minute",
    ),
    Change(
        "the last answer to a probe counts however old it is",
        "2.9",
        SITE,
        "LAST_S = 60.0",
        "LAST_S = 1e9",
        SHOWN + "test_a_probe_waits_for_no_other_and_gets_the_last_answer_for_a_minute",
    ),
    Change(
        "an action leaves no entry in the log until it has ended",
        "2.9",
        "sync_core/flows/actions.py",
        """    name, ticket = _insert(world, value)
    note = _Note(name, what)
""",
        """    name, ticket = "0", None
    note = _Note(name, what)
""",
        "tests/flows/test_actions.py::test_what_ends_early_says_so_and_what_dies_stays_begun",
    ),
)
