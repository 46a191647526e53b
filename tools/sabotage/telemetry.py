"""Changes of what is measured and sent."""

from __future__ import annotations

from tools.sabotage.change import Change

TELEMETRY = "sync_core/telemetry.py"
OF_MEASURED = "tests/telemetry/test_measured.py::"

CHANGES = (
    # --- one trace (§5) -----------------------------------------------------------------------------------------
    Change(
        "new work put on the queue without its trace",
        "5",
        "sync_core/adapters/work_queue.py",
        "        work = replace(work, traceparent=work.traceparent or telemetry.traceparent())\n",
        "",
        OF_MEASURED + "test_the_queue_gives_new_work_the_trace_it_was_put_in",
    ),
    Change(
        "work put back into another trace",
        "5",
        "sync_core/adapters/work_queue.py",
        "traceparent=work.traceparent or telemetry.traceparent()",
        "traceparent=telemetry.traceparent() or work.traceparent",
        OF_MEASURED + "test_the_queue_gives_new_work_the_trace_it_was_put_in",
    ),
    Change(
        "a delivery beside the tick that queued it",
        "5",
        TELEMETRY,
        "parent = _below(work.traceparent) if work.traceparent else None",
        "parent = None",
        OF_MEASURED + "test_a_delivery_is_below_the_span_that_queued_it_and_several_share_a_trace",
    ),
    Change(
        "calls of other threads without their delivery",
        "5",
        "sync_core/wiring.py",
        "pool.map(telemetry.carried(function), todo)",
        "pool.map(function, todo)",
        OF_MEASURED + "test_spans_of_other_threads_hang_below_the_callers",
    ),
    Change(
        "what an instance saw sent until it ends",
        "5",
        TELEMETRY,
        "    return _looked.pop(name, [])\n",
        "    return _looked.get(name, [])\n",
        OF_MEASURED + "test_a_look_is_sent_once",
    ),
    # --- ids of requests, counts and codes only (§2.10) ---------------------------------------------------------
    Change(
        "addresses with queries sent by instrumented libraries",
        "2.10",
        TELEMETRY,
        "            if found.is_instrumented_by_opentelemetry:\n",
        "            if not found.is_instrumented_by_opentelemetry:\n",
        "tests/telemetry/test_worker.py::test_libraries_instrumented_by_the_worker_are_put_back",
    ),
    Change(
        "addresses with queries sent by the Azure SDKs",
        "2.10",
        TELEMETRY,
        "    settings.tracing_implementation = None\n    settings.tracing_enabled = False\n",
        "    assert settings\n",
        "tests/telemetry/test_worker.py::test_libraries_instrumented_by_the_worker_are_put_back",
    ),
    Change(
        "libraries instrumented by our own exporter",
        "2.10",
        TELEMETRY,
        '"psycopg2", "requests", "urllib", "urllib3")\n',
        '"psycopg2")\n',
        "tests/telemetry/test_commands.py::test_a_command_its_tick_and_its_deliveries_are_one_operation",
    ),
    Change(
        "the text of an error in a span",
        "2.10",
        TELEMETRY,
        "trace.StatusCode.ERROR, type(error).__name__)",
        "trace.StatusCode.ERROR, str(error))",
        OF_MEASURED + "test_an_error_is_told_by_its_class_alone",
    ),
    Change(
        "whatever stands for a code in an answer shown",
        "2.10",
        TELEMETRY,
        "known = [code for code in codes if _CODE.fullmatch(code)]",
        "known = [code for code in codes if code]",
        OF_MEASURED + "test_only_what_looks_like_a_code_or_an_id_is_shown",
    ),
    Change(
        "whatever stands for a request's id in an answer shown",
        "2.10",
        TELEMETRY,
        'return request_id if _REQUEST_ID.fullmatch(request_id) else ""',
        "return request_id",
        OF_MEASURED + "test_only_what_looks_like_a_code_or_an_id_is_shown",
    ),
    Change(
        "spans named after what is asked about",
        "2.10",
        "sync_core/adapters/dataverse.py",
        'return "EntityDefinitions" if "/EntityDefinitions(" in urlsplit(url).path else table or "WhoAmI"',
        "return url",
        OF_MEASURED + "test_names_of_spans_are_few_whatever_is_asked_about",
    ),
    # --- what it says is true, and it costs nothing (§1) ----------------------------------------------------------
    Change(
        "freshness told of what did not change",
        "1",
        "sync_core/flows/reconcile.py",
        'if not row.get("modifiedon") or row.get("versionnumber") == case.row.version:',
        'if not row.get("modifiedon"):',
        OF_MEASURED + "test_what_did_not_change_itself_or_posted_nothing_or_was_slow_has_no_freshness",
    ),
    Change(
        "freshness told of a first load",
        "1",
        "sync_core/flows/reconcile.py",
        'if case.row.version is None and datetime.fromisoformat(row["createdon"]) < now - NEW_FOR:',
        "if False:",
        OF_MEASURED + "test_of_a_new_opportunity_freshness_is_told_and_of_a_first_loads_old_ones_not",
    ),
    Change(
        "an invocation held up by a slow ingestion",
        "1",
        TELEMETRY,
        "    _flushing.join(FLUSH_S)\n",
        "    _flushing.join()\n",
        OF_MEASURED + "test_an_ingestion_that_does_not_answer_holds_no_invocation_up",
    ),
    Change(
        "a command held up at its end by an ingestion that never answers",
        "1",
        TELEMETRY,
        '        atexit.unregister(getattr(provider, "shutdown", int))\n',
        '        getattr(provider, "shutdown", int)\n',
        "tests/telemetry/test_commands.py::test_an_ingestion_that_never_answers_keeps_no_command_from_ending",
    ),
    Change(
        "an engine and an exporter for each of the first calls",
        "1",
        "sync_core/wiring.py",
        "    with _building:\n        return _built()",
        "    return _built()",
        "tests/test_wiring.py::test_calls_that_come_at_once_share_one_engine_and_telemetry_starts_once",
    ),
    Change(
        "a wrong date of a secret's expiry stops the sync",
        "1",
        "sync_core/settings.py",
        '    "DATAVERSE_CLIENT_SECRET_EXPIRES",\n',
        "",
        "tests/test_settings.py::test_what_is_no_date_is_doubted",
    ),
    Change(
        "nobody is told of a mapping that lets nothing run",
        "6",
        "sync_core/wiring.py",
        "        _tell_stopped(lambda: _channel(env), str(error))\n",
        "",
        "tests/test_wiring.py::test_of_a_mapping_that_lets_nothing_run_people_are_told_once_and_when_it_is_over",
    ),
    Change(
        "told every five minutes that nothing runs, where it can't be kept",
        "6",
        "sync_core/flows/stopped.py",
        """    ticket = documents.write(*STOPPED, {"text": text}, document.ticket if document else None)
    if ticket is None:
        return  # somebody else was first, and tells
""",
        "    ticket = None\n",
        "tests/test_wiring.py::test_what_cannot_be_remembered_is_not_told",
    ),
)
