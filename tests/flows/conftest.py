import pytest

from tests.flows.org import Org
from tests.stage import Stage


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def org(stage: Stage) -> Org:
    return Org(stage)
