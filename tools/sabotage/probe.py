"""Changes of the experiments: what is found out, on what, and what is left."""

from __future__ import annotations

from tools.sabotage.change import Change

DATAVERSE = "sync_core/adapters/dataverse.py"
DYNAMICS = "sync_core/flows/probe_dynamics.py"
WIRE = "sync_core/adapters/dataverse_probe.py"

OF_DYNAMICS = "tests/flows/test_probe_dynamics.py::"
OF_WIRE = "tests/adapters/test_dataverse_probe.py::"
EACH_SETTING = OF_DYNAMICS + "test_each_setting_is_found_out"

CHANGES = (
    Change(
        "Dynamics is written to though nobody agreed",
        "1",
        DYNAMICS,
        "    if write:\n",
        "    if reader:\n",
        OF_DYNAMICS + "test_without_consent_nothing_is_written",
    ),
    Change(
        "the probe's records stay in Dynamics once somebody stops asking",
        "7",
        DYNAMICS,
        "    finally:\n        left =",
        "    except ZeroDivisionError:\n        left =",
        OF_DYNAMICS + "test_who_stops_asking_leaves_nothing",
    ),
    Change(
        "of a record of the probe nobody knows after a crash",
        "7",
        DYNAMICS,
        "_keep(world, organization, [*earlier, *trial.planned])",
        "_keep(world, organization, earlier)",
        OF_DYNAMICS + "test_what_a_killed_run_left_is_removed_by_the_next",
    ),
    Change(
        "what could not be removed from Dynamics is forgotten",
        "7",
        DYNAMICS,
        "        _keep(world, organization, left)\n",
        "        _keep(world, organization, ())\n",
        OF_DYNAMICS + "test_what_may_not_be_deleted_is_named",
    ),
    Change(
        "where the first link stands is told the wrong way round",
        "2.8",
        DYNAMICS,
        "        if early in delta.changed:\n",
        "        if early not in delta.changed:\n",
        EACH_SETTING,
    ),
    Change(
        "a change after the full read is taken for one during it",
        "2.8",
        DYNAMICS,
        "        if early in delta.changed:\n",
        "        if late in delta.changed:\n",
        EACH_SETTING,
    ),
    Change(
        "a delta that lists nothing of ours is believed",
        "2.8",
        DYNAMICS,
        "        if certain not in delta.changed:\n",
        "        if not certain:\n",
        OF_DYNAMICS + "test_a_delta_that_lacks_what_it_must_list_says_nothing",
    ),
    Change(
        "after a merge modifiedon is looked at within the second it was written in",
        "2.8",
        DYNAMICS,
        "        self.clock.sleep(FULL_SECOND)\n",
        "",
        EACH_SETTING,
    ),
    Change(
        "a message of Dynamics, which may name people, becomes an answer",
        "2.10",
        DYNAMICS,
        'code = str(error.get("code", "")).lower() if isinstance(error, dict) else ""\n'
        '    return code if re.fullmatch(r"0x[0-9a-f]{1,8}", code) else ""\n',
        'code = str(error) if isinstance(error, dict) else ""\n    return code\n',
        OF_DYNAMICS + "test_no_message_of_the_service_is_repeated",
    ),
    Change(
        "an update of the probe makes a row that is gone",
        "1",
        WIRE,
        '**({"If-Match": "*"} if method == "PATCH" else {}),',
        '**({} if method == "PATCH" else {}),',
        OF_WIRE + "test_an_update_never_makes_a_row",
    ),
    Change(
        "the probe takes a token to whatever host a link names",
        "2.10",
        WIRE,
        "self._own(path) if urlsplit(path).scheme else",
        "path if urlsplit(path).scheme else",
        OF_WIRE + "test_nothing_is_sent_to_another_host",
    ),
    Change(
        "an expired link is waited for where its status is 500",
        "2.8",
        DATAVERSE,
        'reply.status == 410 or code == "0x80044352" or told',
        'reply.status == 410 or (code == "0x80044352" and reply.status < 500) or told',
        "tests/adapters/test_dataverse.py::test_a_link_that_is_not_accepted_asks_for_a_full_read",
    ),
)
