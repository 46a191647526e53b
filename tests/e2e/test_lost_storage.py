"""The storage account is lost under running hosts, and people go on editing: docs/operations.md says what is left."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tools.azurite import azurite
from tools.demo.services import REPOSITORY
from tools.kills.edits import People
from tools.kills.site import Site

EDITS = 15


@pytest.mark.timeout(240)
def test_an_empty_account_leaves_only_what_was_deleted_meanwhile_and_that_goes_by_its_id(tmp_path: Path) -> None:
    with Site(tmp_path, SYNC_SCHEDULE="*/2 * * * * *", MARKETO_CALLS_PER_20S="100") as site:
        site.fill(opportunities=30, accounts=8, contacts=15, roles_per_opportunity=1.0)
        site.start_host(0)
        site.rest()
        site.stop_hosts()
        site.storage.stop()

        people = People(site.dataverse, random.Random(3))
        gone = {row["opportunityid"] for row in site.dataverse.get("rows/opportunity")[:2]}
        for key in gone:
            site.dataverse.post("edit", {"op": "delete", "table": "opportunity", "id": key})
        for _ in range(EDITS):
            people.act()
        held = {row["externalOpportunityId"] for row in site.marketo.get("rows/opportunities")}
        gone = held - {row["opportunityid"] for row in site.dataverse.get("rows/opportunity")}
        with azurite(ports=site.storage.ports):
            site.start_host(1)
            site.rest()
            left = site.problems()
            assert {key for key in gone if any(key in line for line in left)} == gone
            others = [line for line in left if not any(key in line for key in gone)]
            assert [line for line in others if 'should not be in "Has Opportunity"' not in line] == []

            command = [sys.executable, "-m", "sync_core", "resync", *gone, "--gone"]
            subprocess.run(command, cwd=REPOSITORY, env=site.environment, check=True, capture_output=True)  # noqa: S603 - our own program
            site.rest()

            assert site.stop_hosts() == [0]
            assert site.problems() == []
