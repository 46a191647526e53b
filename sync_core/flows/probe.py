"""What a customer's Marketo and Dynamics do where no source tells (marketo.md §6.1, dataverse.md §12), found out by
experiment.

    confirm ─▶ what a killed run left ─▶ experiments ─▶ remove what was made ─▶ keep the answers

Experiments need records. All of them bear the name of their run, and before any is made a document says which kinds
this run will have made: who comes after a crash knows what to remove. Where nothing is known, the sync is right under
each answer; so an answer only ever makes it tell more precisely.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sync_core.errors import ConfigurationError, SyncError
from sync_core.flows.guard import PAIR
from sync_core.flows.world import World
from sync_core.rules.questions import QUESTIONS, means

ANSWERS = ("stamp", "probe")
MADE = "probe"
"""The kind of the documents that say what a run made, by the name of the run."""

LONGEST = timedelta(minutes=10)  # a run is over by then, or dead
NOT_ASKED = "not asked: "
"""How the reason begins where an answer was not wanted; whatever else is not answered needs a person."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one open question."""

    question: str  # "U5", "D9" (dataverse.md §12, number 9)
    asks: str  # the question in one line
    answer: str  # one of a small fixed vocabulary per question, e.g. "1003"; "" = not answered
    why: str = ""  # why not answered, or what was seen, in a line, no personal data


def check_sandbox(world: World, typed: str) -> None:
    """Raises ConfigurationError unless *typed* is the subscription, and it is not one that this state writes to."""
    if typed.strip().casefold() != world.subscription.casefold():
        raise ConfigurationError(
            f"MARKETO_URL leads to subscription {world.subscription}, --sandbox names another. Nothing was done."
        )
    pair = world.documents.read(*PAIR)
    if _is_used(world) and (pair is None or pair.value["munchkin"].casefold() == world.subscription.casefold()):
        raise ConfigurationError(
            f"this state belongs to a sync that writes to {world.subscription}: where it does, nobody experiments. Let "
            "MARKETO_URL, MARKETO_CLIENT_ID and MARKETO_CLIENT_SECRET lead to a sandbox for this one command; the "
            "answers are kept with this state. Nothing was done."
        )


def check_dynamics(world: World) -> None:
    """Raises ConfigurationError if this state follows the Dynamics that is to be written to."""
    pair = world.documents.read(*PAIR)
    if _is_used(world) and pair is not None and pair.value["organization"] == world.source.organization():
        raise ConfigurationError(
            "this state follows the Dynamics of DATAVERSE_URL: a tick would post to Marketo what is made there. Leave "
            "out --dynamics-sandbox, or run it with an empty storage account. Nothing was done."
        )


def _is_used(world: World) -> bool:
    """Whether a sync began on this state, even if nothing of it is left in Marketo."""
    first_load = world.documents.read("feed", "opportunity") is not None
    return first_load or any(next(iter(ledger.ids(gone=True)), ()) for ledger in world.ledgers.values())


def check_alone(world: World) -> None:
    """Raises ConfigurationError while another run may be under way: it would be robbed of its records."""
    for run, made in world.documents.list(MADE):
        if not made.get("ended") and world.clock.now() < (over := datetime.fromisoformat(made["at"]) + LONGEST):
            raise ConfigurationError(
                f"run {run} of the probe began at {made['at']} and has not ended. If it was killed, try again after "
                f"{over.isoformat(timespec='minutes')}: what it made is removed then. Nothing was done."
            )


def answers(world: World) -> Mapping[str, str]:
    """What earlier runs found out, by question; empty if there was none."""
    found = world.documents.read(*ANSWERS)
    return dict(found.value["answers"]) if found else {}


def keep(world: World, findings: Iterable[Finding]) -> None:
    """Keep what was answered, and of earlier answers about the same subscription the rest."""
    found = {each.question: each.answer for each in findings if each.answer}
    new = {"at": world.clock.now().isoformat(timespec="seconds"), "munchkin": world.subscription}

    def kept(value: Mapping[str, Any]) -> Mapping[str, Any]:
        earlier = value["answers"] if value.get("munchkin") == world.subscription else {}
        return {**new, "answers": {**earlier, **found}}

    world.change(*ANSWERS, kept)


def known(world: World, others: Mapping[str, str]) -> dict[str, Any]:
    """What earlier runs found out, for people, and what is left of them; without a call.

    *others*: what questions ask that are not about Marketo.
    """
    found = world.documents.read(*ANSWERS)
    stored = found.value if found else {"answers": {}}
    listed = [
        Finding(name, QUESTIONS[name].asks if name in QUESTIONS else others.get(name, ""), answer)
        for name, answer in stored["answers"].items()
    ]
    return {
        **({"at": stored["at"], "subscription": stored["munchkin"]} if found else {}),
        "findings": told(listed),
        "left": [f"of a run at {made['at']} in {made['munchkin']}" for _, made in world.documents.list(MADE)],
    }


def told(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """The findings as plain values in the order of their questions, each with what its answer means."""
    order = list(QUESTIONS)

    def place(each: Finding) -> tuple[int, str]:
        known = each.question in order
        return order.index(each.question) if known else len(order), each.question.rjust(4)

    ordered = sorted(findings, key=place)
    return [asdict(each) | {"means": means(each.question, each.answer)} for each in ordered]


def asked(part: Iterable[Finding], into: list[Finding], progress: Callable[[str], object]) -> str:
    """Take the findings of *part* one by one, telling which was tried; why it ended early, if it did.

    What *part* still has to do is done before anybody hears of an error: it may have records to remove.
    """
    try:
        for each in part:
            into.append(each)
            progress(each.question)
    except SyncError as error:
        return str(error)
    finally:
        if isinstance(part, Generator):
            part.close()
    return ""


def open_questions(findings: Iterable[Mapping[str, str]]) -> list[str]:
    """Those about Marketo that were asked, and not answered."""
    return [
        each["question"]
        for each in findings
        if each["question"] in QUESTIONS and not each["answer"] and not each["why"].startswith(NOT_ASKED)
    ]
