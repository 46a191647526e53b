"""Opportunity Sync: keeps Marketo opportunities in step with Dynamics 365 Sales, one way.

The modules in the order the data meets them:

    settings      every app setting, read once
    mapping       sync.toml, read and validated once
    wiring        settings in, engine out; the only module that knows every class
    engine        what triggers and command line call; the answer to each class of failure
    flows.world   everything a flow may use
    flows.guard   pause, the check of version and pair, and the removal guard
    flows.migrations  what an earlier version stored, taken over step by step
    flows.applied which mapping the state was made with, and what of it is left alone
    flows.detect  delta links → ids on the queue
    flows.id_file a set of ids as large as the organization, on disk
    messages      the queue message: which ids, never what changed
    flows.reconcile   ids → ledger, observe, decide, apply, record
    flows.turns       which deliveries of the slow lane go on: few at once, over all instances
    flows.cases       one record on its way through a delivery
    flows.observe     what is true in Dynamics now, and what the rules make of it
    flows.reading     rows of one table with everything that the mapped fields need
    flows.people      who a contact is in Marketo: looked up, remembered, created, tied to a company
    flows.references  companies and sales persons, before the opportunities that name them
    flows.roles       the roles: read back, plan, post, remove
    flows.calls       full write calls across a delivery, halved where one record sinks them
    rules.association who and which account belongs to an opportunity, and why (pure)
    rules.fields      which Marketo fields and values it becomes (pure)
    rules.sources     what a mapped field reads of a row (pure)
    rules.filters     which records count (pure)
    rules.planning    which writes are still missing (pure)
    rules.batches     full calls of at most 300 records and 1 MB (pure)
    rules.verdicts    what Marketo's codes mean (pure)
    flows.rehearsal   a world in which everything runs as ever and nothing is written
    flows.foreseen    what rehearsed deliveries would do about each record
    flows.plan        what `sync` would do now: the real detect and deliveries, rehearsed
    flows.explain     the same rules, told instead of applied
    flows.mapped      what goes where, by the example of one opportunity
    flows.probe       what experiments on a sandbox found out: confirmed, kept, told
    flows.probe_marketo   the experiments on Marketo, and the removal of what they made
    rules.questions   the open questions about Marketo, and what each answer means (pure)
    flows.proposal    a sync.toml to begin with, from what both services describe
    rules.matching    which column has the name and a fitting type of a Marketo field (pure)
    rules.words       what sync.toml says, in words (pure)
    flows.audit       does Marketo hold what the rules demand: walk, second look, report, repair
    flows.rebuild     after the state was lost: a first load whose writes are only foretold
    flows.cleanup     before an uninstall: what the sync wrote leaves Marketo, and only that
    rules.origin      whose a record in Marketo is, by when Marketo made it (pure)
    flows.failures    what is not in step: count, list, show, queue again
    flows.export      the same as CSV in which nothing is run
    flows.status      where everything stands; approve, repoint, pause, resume
    flows.stopped     what keeps the sync from even beginning: kept, and told to people
    flows.watch       what changed for the worse or the better: kept, and told to people
    flows.actions     what operators do, from the command line and the status page; the audit log
    flows.validate    is everything as the sync needs it: every check, with its remedy
    flows.probe       what a customer's Marketo and Dynamics do where no source tells
    flows.probe_dynamics  the experiments on Dynamics
    rules.alerts      when somebody must be told; whether all is in step, in one line (pure)
    rules.pace        how fast a lane goes, and when it will be empty (pure)
    rules.sums        counts and sums of amount for each stage and month (pure)
    rules.schedule    when the timer is due (pure)
    ports         what the flows need from the world
    adapters.clock, adapters.transport, adapters.identity, adapters.dataverse, adapters.marketo,
    adapters.limiter, adapters.tables, adapters.work_queue, adapters.storage
                  the services and the storage behind the ports, and who signs in
    adapters.dataverse_probe   single requests to Dynamics for `probe`, the only ones that may write there
    adapters.webhook   a channel of Slack or Teams
    pages         templates of pages, in which all is escaped
    audit_report  what an audit found: a screen, a page, JSON
    cli, report   the operator's commands, and how they print
    web.site      the status page: which page an address is, and what goes wrong on the way
    web.door      who may open it, and what may come from other websites
    web.views, web.acts   what each page shows; its actions, asked before and done
    web.confirmations     what is about to be done, kept until somebody confirms it, once
    web.render, web.words, web.chart, web.wire   templates, words, lines, requests and responses
    telemetry     traces and metrics, and where they and the logs go
    events        log lines: a name and fields
    model         the nouns, frozen
    errors        the failures, by what happens next
"""

__version__ = "0.1.0"
