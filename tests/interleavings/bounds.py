"""The configurations: `SMALL` for every test run, `FULL` for as long as it takes.

One opportunity, one stakeholder and two names are enough for each counterexample that is known. A bound names what
it adds to the plain race of workers; edits come in any order and at any moment.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.interleavings.search import Bound

REMOVALS = ("rename", "delete", "restore")
ROLES = ("add", "remove", "delete")
ALL = ("rename", "add", "remove", "delete", "restore")
COMPANY = ("move", "rename account")
STAKEHOLDER = "with stakeholder"

SMALL = (
    Bound(name="edits", edits=3),
    Bound(name="split reads", edits=2, of=ALL, split=True, start=STAKEHOLDER),
    Bound(name="removal", edits=2, of=ALL, start=STAKEHOLDER),
    Bound(name="first post", edits=1, of=ALL, start="new"),
    Bound(name="three workers", workers=3, edits=2, of=ALL),
    Bound(name="crash", edits=2, crashes=1, of=("rename", "remove"), start=STAKEHOLDER),
    Bound(name="removal, crash", edits=1, crashes=1, of=ALL, start=STAKEHOLDER),
    Bound(name="first post, crash", edits=1, crashes=1, of=("delete",), start="new"),
    Bound(name="late", edits=2, late=1, of=ALL, start=STAKEHOLDER),
    Bound(name="late, crash", edits=1, late=1, crashes=1, of=ALL, start=STAKEHOLDER),
    Bound(name="lease", edits=2, leases=1, of=("rename", "remove"), start=STAKEHOLDER),
    Bound(name="lease, crash", edits=2, leases=1, crashes=1, of=("rename",)),
    Bound(name="lag", edits=2, lags=1, of=ROLES),
    Bound(name="lag, crash", edits=1, lags=1, crashes=1, of=ROLES, start=STAKEHOLDER),
    Bound(name="two timers", timers=2, edits=1, of=ALL, start=STAKEHOLDER),
    Bound(name="dead link", links=1, edits=2, of=("rename", "delete")),
    Bound(name="contact moved", customer=True, edits=2, of=(*COMPANY, "delete")),
    Bound(name="company", customer=True, edits=1, of=COMPANY, start="new"),
    Bound(name="company, crash", customer=True, edits=1, crashes=1, of=COMPANY, start="new"),
    Bound(name="company, late", customer=True, edits=1, late=1, of=COMPANY),
)
FULL = (
    Bound(name="edits", edits=4),
    Bound(name="removal", edits=3, of=ALL, start=STAKEHOLDER),
    Bound(name="split reads", edits=2, of=("rename", "remove"), split=True, ticks=True, start=STAKEHOLDER),
    Bound(name="three workers", workers=3, edits=3),
    Bound(name="three workers, crash", workers=3, edits=2, crashes=1),
    Bound(name="three workers, late", workers=3, edits=2, late=1, of=ALL),
    Bound(name="crash", edits=2, crashes=1, of=REMOVALS, start=STAKEHOLDER),
    Bound(name="crash, late", edits=2, crashes=1, late=1, of=("rename", "remove"), start=STAKEHOLDER),
    Bound(name="crash, late, lease", edits=1, crashes=1, late=1, leases=1, start=STAKEHOLDER),
    Bound(name="two late", edits=2, late=2, of=ALL, start=STAKEHOLDER),
    Bound(name="late, lease", edits=2, late=1, leases=1, of=("rename", "remove"), start=STAKEHOLDER),
    Bound(name="lease", edits=2, leases=1, of=ALL),
    Bound(name="first post", edits=2, of=("rename", "delete", "add"), start="new"),
    Bound(name="first post, crash", edits=1, crashes=1, of=ALL, start="new"),
    Bound(name="first post, late", edits=1, late=1, of=ALL, start="new"),
    Bound(name="lag, crash", edits=2, lags=1, crashes=1, of=("add", "remove")),
    Bound(name="lag, late", edits=2, lags=1, late=1, of=ROLES, start=STAKEHOLDER),
    Bound(name="two timers, crash", timers=2, edits=1, crashes=1, of=("remove",), start=STAKEHOLDER),
    Bound(name="dead link", links=1, edits=2, of=ALL, start=STAKEHOLDER),
    Bound(name="dead link, two timers", links=1, timers=2, edits=1, of=("rename",)),
    Bound(name="contact moved", customer=True, edits=3, of=(*COMPANY, "rename", "delete")),
    Bound(name="company", customer=True, edits=2, of=(*COMPANY, "delete"), start="new"),
    Bound(name="company, late", customer=True, edits=2, late=1, of=COMPANY),
    Bound(name="company, lease", customer=True, edits=1, leases=1, of=COMPANY, start="new"),
)
BOUNDS: Mapping[str, tuple[Bound, ...]] = {"small": SMALL, "full": FULL}
