"""What differs between two blueprints of one base: slot by slot, layers put together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from ablc.blueprint.nodes import Blueprint, Group, Layers, Node, Part, size


@dataclass(frozen=True)
class Difference:
    """Something stands in a slot that didn't. `paths` are the modules of one layer, `params` the difference in
    parameters in one layer, all of its modules together."""

    slot: str
    layers: Layers
    before: Node
    after: Node
    paths: tuple[str, ...]

    @cached_property
    def params(self) -> int:
        return len(self.paths) * (size(self.after) - size(self.before))


def compare(before: Blueprint, after: Blueprint) -> list[Difference]:
    """Every difference, those outside the layers first. Both must be of one base: the same parts in the same places."""
    found = [replace(difference, layers=None) for difference in differences(before.root, after.root)]
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for layer, (old, new) in enumerate(zip(before.layers, after.layers, strict=True)):
        alike[id(old), id(new)].append(layer)
    layers: dict[Difference, list[int]] = defaultdict(list)
    for some in alike.values():
        for difference in differences(before.layers[some[0]], after.layers[some[0]]):
            layers[difference] += some
    return found + [replace(difference, layers=tuple(sorted(at))) for difference, at in layers.items()]


def differences(before: Node, after: Node) -> Iterator[Difference]:
    """The differences within one section, modules of one slot that changed alike put together."""
    alike: dict[tuple[str, Node, Node], list[tuple[Part, str]]] = defaultdict(list)
    whole: dict[str, int] = defaultdict(int)
    for part, path, old, new in _walk(before, after, whole=whole):
        alike[part.slots[0], old, new].append((part, path))
    for (slot, old, new), parts in alike.items():
        label = slot if len(parts) == whole[slot] else ", ".join(dict.fromkeys(part.slot for part, _ in parts))
        yield Difference(label, (), old, new, tuple(path for _, path in parts))


def _walk(
    before: Node, after: Node, path: str = "", *, whole: dict[str, int], part: Part | None = None
) -> Iterator[tuple[Part, str, Node, Node]]:
    if isinstance(before, Group) and isinstance(after, Group):
        for old, new in zip(before.parts, after.parts, strict=True):
            inner = f"{path}.{old.path}" if path else old.path
            whole[old.slots[0]] += 1
            yield from _walk(old.node, new.node, inner, whole=whole, part=old)
    elif before != after:
        yield part or Part(("layer",), "", before), path, before, after
