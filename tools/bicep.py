"""Read Bicep files: what they declare, as plain values. Microsoft's compiler is in no package registry.

The grammar is tree-sitter's; what it can't read is named by `Bicep.faults`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

_PARSER = Parser(Language(tree_sitter_bicep.language()))
_KINDS = {
    "parameter_declaration": "param",
    "variable_declaration": "var",
    "resource_declaration": "resource",
    "module_declaration": "module",
    "output_declaration": "output",
}


class Expression(str):
    """What is no literal, as it is written."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Declaration:
    """A param, var, resource, module or output.

    `type`: of a param or output `string` and so on; of a resource `Microsoft.Web/sites@2024-11-01`; of a module its
    path. `value`: what it is set to, `None` if nothing: dict, list, str, int, bool, or an `Expression`. Of a loop or a
    condition it is the body; the loop or condition is in `when`.
    """

    kind: str
    name: str
    type: str
    value: Any
    when: str
    decorators: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bicep:
    """One file. `faults`: the lines that are no Bicep."""

    path: Path
    text: str
    declarations: Sequence[Declaration]
    faults: Sequence[int]

    def of(self, kind: str) -> dict[str, Declaration]:
        """All of a kind, by name."""
        return {each.name: each for each in self.declarations if each.kind == kind}

    def values(self, name: str) -> Any:
        """What a var, or a resource's or module's body, is."""
        return next(each.value for each in self.declarations if each.name == name)


def read(path: Path) -> Bicep:
    """The file, as far as it can be read."""
    text = path.read_text(encoding="utf-8")
    root = _PARSER.parse(text.encode()).root_node
    declarations = [_declaration(each) for each in root.children if each.type in _KINDS]
    faults = [each.start_point[0] + 1 for each in _walk(root) if each.type == "ERROR" or each.is_missing]
    return Bicep(path, text, declarations, faults)


def _declaration(node: Node) -> Declaration:
    kind = _KINDS[node.type]
    name = next(each for each in node.children if each.type == "identifier")
    after = node.children[node.children.index(name) + 1 :]
    equals = next((at for at, each in enumerate(after) if each.type == "="), len(after))
    head = after[0] if equals else None
    body = after[equals + 1] if equals + 1 < len(after) else None
    when = ""
    if body is not None and body.type in ("for_statement", "if_statement"):
        when = _text(body).partition("{")[0].strip()
        body = next(each for each in body.children if each.type == "object")
    kind_of = "" if head is None else str(_value(head))
    return Declaration(kind, _text(name), kind_of, None if body is None else _value(body), when, _decorators(node))


def _decorators(node: Node) -> dict[str, Any]:
    """By name: the first argument, `None` without one."""
    found: dict[str, Any] = {}
    before = node.prev_sibling
    calls = [] if before is None or before.type != "decorators" else before.children
    for each in calls:
        call = next(one for one in each.children if one.type == "call_expression")
        arguments = next(one for one in call.children if one.type == "arguments").named_children
        found[_text(call.children[0])] = _value(arguments[0]) if arguments else None
    return found


def _value(node: Node) -> Any:
    match node.type:
        case "object":
            pairs = [each.named_children for each in node.children if each.type == "object_property"]
            return {_text(key) if key.type == "identifier" else str(_value(key)): _value(value) for key, value in pairs}
        case "array":
            return [_value(each) for each in node.named_children]
        case "string" if not any(each.type == "interpolation" for each in node.children):
            return "".join(_text(each).removeprefix("\\") for each in node.named_children)
        case "string":
            return Expression(_text(node).strip("'"))
        case "number":
            return int(_text(node))
        case "boolean":
            return _text(node) == "true"
        case _:
            return Expression(_text(node))


def _text(node: Node) -> str:
    return (node.text or b"").decode()


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for each in node.children:
        yield from _walk(each)
