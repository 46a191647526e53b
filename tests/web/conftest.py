import pytest

from tests.flows.org import Org
from tests.stage import Stage
from tests.web.browser import Browser, a_site


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def org(stage: Stage) -> Org:
    return Org(stage)


@pytest.fixture
def browser(stage: Stage) -> Browser:
    return Browser(a_site(stage))
