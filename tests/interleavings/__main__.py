"""Explore every interleaving of the real steps up to a bound, and print what was seen.

    python -m tests.interleavings                    the small bounds, as in `make test`
    python -m tests.interleavings --bound full       the large ones, each for as long as it takes
    python -m tests.interleavings --only late        those whose name contains a word
    python -m tests.interleavings --ablations        each rule taken out: the difference that follows

Ends with 1 if some state at rest is not as the rules say, with the shortest way to it.
"""

from __future__ import annotations

import argparse
import logging
import sys

from tests.interleavings.ablations import ABLATIONS
from tests.interleavings.bounds import BOUNDS, SMALL
from tests.interleavings.search import Bound, Found, Search
from tests.interleavings.steps import Steps

HEAD = f"{'states':>9} {'transitions':>11} {'at rest':>7} {'CPU s':>6}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.interleavings", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bound", choices=BOUNDS, default="small")
    parser.add_argument("--only", metavar="WORD", default="", help="bounds (rules, with --ablations) that contain WORD")
    parser.add_argument("--ablations", action="store_true", help="take out one rule after the other")
    parser.add_argument("--most", type=int, metavar="STATES", help="cut each search off after so many states")
    chosen = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    return ablations(chosen.only) if chosen.ablations else bounds(BOUNDS[chosen.bound], chosen.only, chosen.most)


def bounds(chosen: tuple[Bound, ...], word: str, most: int | None) -> int:
    say(f"{'configuration':22} {HEAD}  {'result':21} bound")
    wrong = False
    for bound in chosen:
        if word not in bound.name:
            continue
        found = Search(bound).run(most=most)
        say(f"{bound.name:22} {figures(found)}  {found.verdict:21} {bound}")
        wrong = wrong or bool(found.trace)
        for line in found.trace:
            say(f"    {line}")
    return int(wrong)


def ablations(word: str) -> int:
    """A rule that nothing misses is as wrong as a difference elsewhere."""
    say(f"{'rule taken out':76} {'configuration':18} {HEAD}  steps")
    missed = False
    for ablation in ABLATIONS:
        if word not in ablation.rule:
            continue
        bound = next(bound for bound in SMALL if bound.name == ablation.bound)
        found = Search(bound, Steps(dated=bool(bound.links), engine=ablation.engine())).run()
        steps = str(sum(line.startswith(" ") for line in found.trace)) if found.trace else "NOT MISSED"
        say(f"{ablation.rule:76} {bound.name:18} {figures(found)}  {steps}")
        missed = missed or not found.trace
    return int(missed)


def figures(found: Found) -> str:
    return f"{found.states:9,} {found.transitions:11,} {found.at_rest:7,} {found.seconds:6.1f}"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
