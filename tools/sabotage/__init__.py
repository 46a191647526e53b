"""Break the code on purpose: each change must turn a test red. `python -m tools.sabotage --help`.

change    one small change: what it breaks, where, and the test that has to see it
flows     changes of the flows and the engine: order, tickets, force, evidence, links
rules     changes of the pure rules, the model and the messages
adapters  changes of the wire, the storage, the limiter and the settings
identity  changes of who signs in
proof     changes of the audit
repair    changes of what operators are told and of what repairs
rebuild   changes of what makes the state anew after it was lost
cleanup   changes of what leaves Marketo before an uninstall
probe_marketo   changes of the experiments on Marketo
web       changes of the status page
probe     changes of the experiments
telemetry changes of what is measured and sent
upgrade   changes of what becomes of what another version wrote
runner    pytest in a copy of the tree
"""

from tools.sabotage import (
    adapters,
    cleanup,
    flows,
    identity,
    probe,
    probe_marketo,
    proof,
    rebuild,
    repair,
    rules,
    telemetry,
    upgrade,
    web,
)

CHANGES = (
    *(*flows.CHANGES, *rules.CHANGES, *adapters.CHANGES, *identity.CHANGES),
    *(*proof.CHANGES, *repair.CHANGES, *rebuild.CHANGES, *cleanup.CHANGES),
    *(*probe_marketo.CHANGES, *probe.CHANGES, *web.CHANGES, *telemetry.CHANGES),
    *upgrade.CHANGES,
)
