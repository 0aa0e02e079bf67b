"""Which operations may stand in a slot: asked of the rewrite, which knows of ties and of shapes too."""

from __future__ import annotations

from functools import lru_cache

from ablc.blueprint import Blueprint, Node, describe
from ablc.blueprint.nodes import Group
from ablc.blueprint.slots import slots_of
from ablc.faults import Fault, Source, Span
from ablc.ops import Operation, operation, operations
from ablc.planning.places import standing
from ablc.planning.rewrite import rewrite
from ablc.spec import Edit

_NOWHERE = Span(Source("", ""), 0, 0)


def fits(base: Blueprint, slot: str) -> tuple[str, ...]:
    """The operations that aren't refused in a slot, with the smallest rank."""
    section = base.root if slot in slots_of(base).single else base.layers[0]
    return _fits(section, base.root, base.layers[0], slot, base.activation)


def stands(base: Blueprint, slot: str) -> str:
    """What stands in a slot of the untouched base, in words; of a group its parts."""
    return ", ".join(dict.fromkeys(_words(node) for node in standing(base, slot)))


@lru_cache(maxsize=1024)
def _fits(section: Node, root: Node, layer: Node, slot: str, activation: str) -> tuple[str, ...]:
    def fit(op: Operation) -> bool:
        smallest = op.explicit({parameter.name: 1 for parameter in op.parameters if parameter.required}, activation)
        edit = Edit(
            slot=slot,
            layers=None,
            operation=op.name,
            arguments=smallest,
            span=_NOWHERE,
            call=_NOWHERE,
            statement=_NOWHERE,
        )
        faults: list[Fault] = []
        rewrite(section, [(0, edit)], (root, layer), faults)
        return not faults

    return tuple(name for name in operations() if fit(operation(name)))


def _words(node: Node) -> str:
    if not isinstance(node, Group):
        return describe(node)
    parts = (f"{part.slot.removeprefix(f'{node.kind}.')} {describe(part.node)}" for part in node.parts)
    return ", ".join(part if not part.startswith(f"{node.kind} ") else node.kind for part in parts)
