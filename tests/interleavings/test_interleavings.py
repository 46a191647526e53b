"""The small bounds hold, and each rule of the protocol is needed: without it, some order of steps leads astray."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.interleavings.ablations import ABLATIONS, Ablation
from tests.interleavings.bounds import SMALL
from tests.interleavings.search import Bound, Graph, Search
from tests.interleavings.steps import Steps

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Every run of every actor would log its end, and pytest would keep it."""
    caplog.set_level("CRITICAL", logger="sync_core")


@pytest.mark.parametrize("bound", SMALL, ids=lambda bound: bound.name)
def test_no_order_of_steps_leads_astray(bound: Bound, record_property: Callable[[str, object], None]) -> None:
    found = Search(bound).run()

    assert not found.trace, "\n".join(found.trace)
    assert found.complete
    assert found.at_rest
    record_property("proof", f"interleavings, {bound.name}: {found.states:,} states, {found.at_rest:,} at rest")


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.rule)
def test_each_rule_is_needed(ablation: Ablation) -> None:
    bound = next(bound for bound in SMALL if bound.name == ablation.bound)

    found = Search(bound, Steps(dated=bool(bound.links), engine=ablation.engine())).run()

    assert found.trace
    assert found.trace[-1].startswith("WRONG: ")


def test_a_state_that_never_comes_to_rest_is_found() -> None:
    graph = Graph()
    graph.parents.extend([0, 0, 2])
    for source, target in ((0, 1), (0, 2), (2, 3), (3, 2)):
        graph.edge(source, target)
    graph.at_rest.append(1)

    assert graph.never_at_rest() == 2

    graph.edge(3, 1)

    assert graph.never_at_rest() is None
