"""A seeded plan of what goes wrong, the same for both emulators; each brings a catalogue of its own faults.

Pure: no socket, no clock. The same plan and the same sequence of requests strike the same way. `wire` breaks answers,
`marketo.faults` and `dataverse.faults` do what only that service can do.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

REQUIRED = object()
TYPES: dict[str, tuple[type, ...]] = {
    "a number": (int, float),
    "an integer": (int,),
    "a text": (str,),
    "true or false": (bool,),
}


class PlanError(ValueError):
    """A plan that can't be followed; the message names the member and lists what there is."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One setting of a fault or a rule: its type, its default, and the values it may have."""

    type: str
    default: Any = REQUIRED
    low: float = 0
    high: float = float("inf")
    choices: tuple[Any, ...] = ()
    nullable: bool = False

    def check(self, name: str, value: Any) -> None:
        if value is None and self.may_be_null:
            return
        wrong_kind = isinstance(value, bool) is not (self.type == "true or false")
        if wrong_kind or not isinstance(value, TYPES[self.type]):
            raise PlanError(f"{name} is {self.type}{' or null' if self.may_be_null else ''}, not {value!r}")
        if self.choices and value not in self.choices:
            raise PlanError(f"{name} is one of {', '.join(map(str, self.choices))}, not {value!r}")
        if isinstance(value, int | float) and not self.low <= value <= self.high:
            raise PlanError(f"{name} is between {self.low:g} and {self.high:g}, not {value!r}")

    @property
    def may_be_null(self) -> bool:
        return self.nullable or self.default is None


@dataclass(frozen=True, slots=True)
class Fault:
    """What can go wrong. *kinds* are the requests it can happen to; none named means all."""

    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()


SECONDS = Parameter("a number")
HANDLED = Parameter("true or false", False)  # whether the request was handled before the answer went wrong
COMMON: Mapping[str, Fault] = {
    "slow": Fault({"seconds": SECONDS}),
    "reset": Fault(),
    "reset_mid_body": Fault(),
    "html": Fault({"status": Parameter("an integer", 502, choices=(502, 503, 504)), "handled": HANDLED}),
    "status": Fault(
        {
            "status": Parameter("an integer", low=200, high=599),
            "retry_after": Parameter("an integer", None),
            "handled": HANDLED,
        }
    ),
    "truncated": Fault(),
    "empty": Fault(),
}

RULE: Mapping[str, Parameter] = {
    "rate": Parameter("a number", 1.0, high=1),
    "times": Parameter("an integer", None, low=1),
    "after": Parameter("an integer", 0),
}
ON: Mapping[str, Parameter] = {name: Parameter("a text", None) for name in ("kind", "path", "method")}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a rule can tell requests apart by."""

    kind: str
    path: str
    method: str


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault that happens now. *luck* is for faults that choose something, such as records to skip."""

    fault: str
    parameters: Mapping[str, Any]
    luck: random.Random

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]


class Rule:
    """One rule of a plan, and how often it matched and struck."""

    def __init__(self, given: Mapping[str, Any], fault: Fault, luck: random.Random) -> None:
        self.given = dict(given)
        self.matched = self.struck = 0
        self._fault, self._luck = fault, luck
        self._parameters = {name: given.get(name, each.default) for name, each in fault.parameters.items()}
        self._rate, self._times, self._after = (given.get(name, each.default) for name, each in RULE.items())
        self._on = {name: value for name, value in (given.get("on") or {}).items() if value is not None}

    def strike(self, facts: Facts) -> Strike | None:
        if not self._matches(facts):
            return None
        self.matched += 1
        hit = self._luck.random() < self._rate  # drawn each time: what went before doesn't shift what follows
        if self.matched <= self._after or not hit or (self._times is not None and self.struck >= self._times):
            return None
        self.struck += 1
        luck = random.Random(self._luck.getrandbits(64))
        return Strike(self.given["fault"], self._parameters, luck)

    def _matches(self, facts: Facts) -> bool:
        if self._fault.kinds and facts.kind not in self._fault.kinds:
            return False
        return (
            self._on.get("kind", facts.kind) == facts.kind
            and self._on.get("path", "") in facts.path
            and self._on.get("method", facts.method).upper() == facts.method
        )

    def describe(self) -> dict[str, Any]:
        return {**self.given, "matched": self.matched, "struck": self.struck}


class FaultPlan:
    """The rules in force. The first one that matches a request and strikes wins; later ones don't see the request."""

    def __init__(self, catalogue: Mapping[str, Fault], kinds: Collection[str]) -> None:
        self.catalogue = catalogue
        self.kinds = kinds
        self._lock = threading.Lock()
        self.clear()

    def set(self, plan: Mapping[str, Any]) -> None:
        """Take *plan* in place of the last one, with all counts at zero; PlanError leaves the last one in force."""
        _is_object("the plan", plan)
        _check_members("the plan", plan, ("seed", "rules"))
        seed, rules = plan.get("seed", 1), plan.get("rules")
        Parameter("an integer", low=float("-inf")).check("seed", seed)
        if not isinstance(rules, list):
            raise PlanError(f"rules is a list, not {rules!r}")
        made = [self._rule(f"rule {number}", seed, number, rule) for number, rule in enumerate(rules)]
        with self._lock:
            self._seed, self._rules = seed, made

    def clear(self) -> None:
        with self._lock:
            self._seed, self._rules = 1, list[Rule]()

    def describe(self) -> dict[str, Any]:
        with self._lock:
            return {"seed": self._seed, "rules": [rule.describe() for rule in self._rules]}

    def strike(self, request_facts: Facts) -> Strike | None:
        with self._lock:
            return next((hit for rule in self._rules if (hit := rule.strike(request_facts))), None)

    def _rule(self, where: str, seed: int, number: int, rule: Any) -> Rule:
        _is_object(where, rule)
        name = rule.get("fault")
        if not isinstance(name, str) or name not in self.catalogue:
            raise PlanError(f"{where}: there is no fault {name!r}; there are {', '.join(self.catalogue)}")
        fault, where = self.catalogue[name], f"{where} ({name})"
        known = {**RULE, **fault.parameters}
        _check_members(where, rule, ("fault", "on", *known))
        for member, parameter in known.items():
            if member in rule:
                parameter.check(f"{where}: {member}", rule[member])
            elif parameter.default is REQUIRED:
                raise PlanError(f"{where} needs {member}, {parameter.type}")
        self._check_on(f"{where}: on", rule.get("on", {}), fault)
        return Rule(rule, fault, random.Random(f"{seed} {number}"))

    def _check_on(self, where: str, on: Any, fault: Fault) -> None:
        _is_object(where, on)
        _check_members(where, on, tuple(ON))
        for member, value in on.items():
            ON[member].check(f"{where}.{member}", value)
        kinds = fault.kinds or tuple(self.kinds)
        if on.get("kind") is not None and on["kind"] not in kinds:
            raise PlanError(f"{where}.kind is one of {', '.join(kinds)}, not {on['kind']!r}")


def _is_object(where: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise PlanError(f"{where} is an object, not {value!r}")


def _check_members(where: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    if unknown := sorted(map(str, given.keys() - set(known))):
        raise PlanError(f"{where} has no {', '.join(unknown)}; there are {', '.join(known)}")


def administer(plan: FaultPlan, method: str, body: Any) -> dict[str, Any]:
    """`GET`, `POST` and `DELETE /admin/faults`: always the plan as it is afterwards."""
    if method == "POST":
        plan.set(body)
    elif method == "DELETE":
        plan.clear()
    return plan.describe()
