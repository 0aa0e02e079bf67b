"""Which operations may stand where: asked of the operations themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ablc.blueprint import Blueprint, Group, Node
from ablc.blueprint.slots import slots_in
from ablc.ops import Operation, Refusal, operation, operations


def fitting(base: Blueprint, slot: str) -> list[str]:
    """The operations that fit a slot of an untouched base; one may still refuse a rank."""
    return [name for name in operations() if _fits(operation(name), base, slot)]


def _fits(op: Operation, base: Blueprint, slot: str) -> bool:
    arguments = op.explicit(_smallest(op), base.activation)
    found = list(standing(base, slot))
    try:
        for node in found:
            op(slot, node, **arguments)
    except Refusal as refusal:
        return bool(refusal.message)
    return bool(found)


def _smallest(op: Operation) -> dict[str, Any]:
    """An argument for each that must be said: they are ranks."""
    return {parameter.name: 1 for parameter in op.parameters if parameter.required}


def standing(base: Blueprint, slot: str) -> Iterator[Node]:
    """What stands in a slot of an untouched base: in its first layer, or outside the layers."""
    if slot == "layer":
        yield base.layers[0]
        return
    for section in (base.root, base.layers[0]):
        yield from _in(section, slot)


def _in(node: Node, slot: str) -> Iterator[Node]:
    for part in node.parts if isinstance(node, Group) else ():
        if slot in part.slots:
            yield part.node
        elif slot in slots_in(part.node):
            yield from _in(part.node, slot)
