"""What differs between two blueprints of one base: slot by slot, layers put together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from ablc.blueprint.nodes import Blueprint, Group, Layers, Node, Part, size, trained_size


@dataclass(frozen=True)
class Difference:
    """Something stands in a slot that didn't. `paths` are the modules of one layer; `params` is the difference in
    parameters in one layer, all of its modules together, `trainable` that in trained ones. `frozen` says of both sides
    whether what stands there is frozen as a whole; a group's own parts say so themselves."""

    slot: str
    layers: Layers
    before: Node
    after: Node
    paths: tuple[str, ...]
    frozen: tuple[bool, bool] = (False, False)

    @cached_property
    def params(self) -> int:
        return len(self.paths) * (size(self.after) - size(self.before))

    @cached_property
    def trainable(self) -> int:
        sides = zip((self.before, self.after), self.frozen, strict=True)
        before, after = (0 if frozen else trained_size(node) for node, frozen in sides)
        return len(self.paths) * (after - before)


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
    alike: dict[tuple[str, Node, Node, bool, bool], list[tuple[Part, str]]] = defaultdict(list)
    whole: dict[str, int] = defaultdict(int)
    place = Part(("layer",), "", before)
    for old, new, path in _walk(place, replace(place, node=after), whole=whole):
        alike[old.slots[0], old.node, new.node, old.frozen, new.frozen].append((old, path))
    for (slot, one, other, *frozen), parts in alike.items():
        label = slot if len(parts) == whole[slot] else ", ".join(dict.fromkeys(part.slot for part, _ in parts))
        yield Difference(label, (), one, other, tuple(path for _, path in parts), (frozen[0], frozen[1]))


def _walk(before: Part, after: Part, path: str = "", *, whole: dict[str, int]) -> Iterator[tuple[Part, Part, str]]:
    """Both parts of every place where something else stands now, with its path."""
    if isinstance(before.node, Group) and isinstance(after.node, Group):
        for old, new in zip(before.node.parts, after.node.parts, strict=True):
            whole[old.slots[0]] += 1
            yield from _walk(old, new, f"{path}.{old.path}" if path else old.path, whole=whole)
    elif before.node != after.node:
        yield before, after, path
