"""What changes between two models, as data that makes the second out of the first.

Slots and layers come from comparing what stands where, never from the texts: two specs that say the same in other words
have no difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ablc.blueprint import Blueprint, Group, Identity, Layers, Node, Part, leaves, size
from ablc.blueprint.as_json import decode, decode_blueprint, encode, encode_blueprint
from ablc.blueprint.compare import Difference, compare
from ablc.planning.plan import Plan, fingerprint


@dataclass(frozen=True)
class Freezing:
    """Parts of a slot that stand in both models, trained in one and frozen in the other; `trainable` is the difference
    in trained parameters, all layers together."""

    slot: str
    layers: Layers
    paths: tuple[str, ...]
    frozen: bool
    trainable: int


@dataclass(frozen=True)
class Diff:
    """From one model to another.

    Attributes:
        nodes: what stands where something else stood, in the layers that both have.
        freezings: what stands in both and is frozen in one.
        depth: the number of layers before and after.
        config: the fields of the bases' configs that differ, before and after.
        comparable: False where the two have other parts in other places, as bases of two families have; then nothing is
            said slot by slot.
    """

    before: Plan
    after: Plan
    nodes: tuple[Difference, ...]
    freezings: tuple[Freezing, ...]
    depth: tuple[int, int]
    config: Mapping[str, tuple[Any, Any]]
    comparable: bool

    @property
    def same_model(self) -> bool:
        """Whether the fingerprints are equal; these are only taken where the lines don't tell."""
        if self.nodes or self.freezings or self.depth[0] != self.depth[1]:
            return False
        if self.comparable and not self.config:
            return True
        return self.before.fingerprint == self.after.fingerprint

    def to_json(self) -> dict[str, Any]:
        """Plain data; `apply` makes the second model of it and the first."""
        old, new = self.before.blueprint, self.after.blueprint
        return {
            "before": {"model": self.before.model, "fingerprint": self.before.fingerprint},
            "after": {"model": self.after.model, "fingerprint": self.after.fingerprint},
            "changes": [_change(one) for one in self.nodes],
            "freezes": [
                {"slot": one.slot, "layers": _list(one.layers), "paths": list(one.paths), "frozen": one.frozen}
                for one in self.freezings
            ],
            "config": {name: {"before": a, "after": b} for name, (a, b) in self.config.items()},
            "layers_added": [encode(node) for node in new.layers[len(old.layers) :]] if self.comparable else [],
            "layers_removed": max(0, len(old.layers) - len(new.layers)),
            "replaced_by": None if self.comparable else encode_blueprint(new),
        }


def diff(before: Plan, after: Plan) -> Diff:
    """Everything that differs between the models of two plans."""
    old, new = before.blueprint, after.blueprint
    comparable = _alike(before.original, after.original)
    nodes: tuple[Difference, ...] = ()
    freezings: tuple[Freezing, ...] = ()
    if comparable:
        both = min(len(old.layers), len(new.layers))
        first, second = (
            one if len(one.layers) == both else replace(one, layers=one.layers[:both]) for one in (old, new)
        )
        nodes = tuple(compare(first, second))
        freezings = tuple(_freezings(first, second))
    config = differing(old.config, new.config)
    return Diff(before, after, nodes, freezings, (len(old.layers), len(new.layers)), config, comparable)


def apply(difference: Mapping[str, Any], before: Blueprint) -> Blueprint:
    """The second model of a difference that `Diff.to_json` gave. Raises ValueError where `before` isn't the first one,
    or the difference was changed by hand."""
    if fingerprint(before) != difference["before"]["fingerprint"]:
        raise ValueError("this difference is one from another model")
    if difference["replaced_by"] is not None:
        after = decode_blueprint(difference["replaced_by"])
    else:
        after = _applied(difference, before)
    if fingerprint(after) != difference["after"]["fingerprint"]:
        raise ValueError("this difference doesn't lead to the model that it names: it was changed after it was written")
    return after


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys whose values differ, with both; None where a side has none."""
    names = [*before, *(name for name in after if name not in before)]
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


# --- finding ---------------------------------------------------------------------------------------------------------


def _alike(first: Blueprint, second: Blueprint) -> bool:
    """Whether two bases have the same parts in the same places, and heads of the same number and width."""
    if first.root is second.root and first.layers[0] is second.layers[0]:  # as a rule it's one base
        return True
    keys = [(one.family, one.layers_path, _skeleton(one.root), _skeleton(one.layers[0])) for one in (first, second)]
    return keys[0] == keys[1]


def _skeleton(node: Node) -> Any:
    """A section without its leaves: what no difference of parts can say."""
    if not isinstance(node, Group):
        return None
    bones = tuple(replace(part, node=Identity()) for part in node.parts)
    return replace(node, parts=bones), [_skeleton(part.node) for part in node.parts]


def _slotted(node: Node, path: str = "", outer: tuple[str, ...] = ()) -> Iterator[tuple[str, Part, tuple[str, ...]]]:
    """Every part that is no group, with its path and all the slots that it stands in."""
    if isinstance(node, Group):
        for part in node.parts:
            inner, slots = f"{path}.{part.path}" if path else part.path, (*outer, *part.slots)
            if isinstance(part.node, Group):
                yield from _slotted(part.node, inner, slots)
            else:
                yield inner, part, slots


def _freezings(before: Blueprint, after: Blueprint) -> Iterator[Freezing]:
    """Layers that froze alike put together, parts put together to the widest slots that are whole."""
    yield from _frozen_otherwise(before.root, after.root, ())
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for layer, (old, new) in enumerate(zip(before.layers, after.layers, strict=True)):
        alike[id(old), id(new)].append(layer)
    found: dict[Freezing, list[int]] = defaultdict(list)
    for layers in alike.values():
        for one in _frozen_otherwise(before.layers[layers[0]], after.layers[layers[0]], ("layer",)):
            found[one] += layers
    for one, layers in found.items():
        yield replace(one, layers=tuple(sorted(layers)), trainable=one.trainable * len(layers))


def _frozen_otherwise(before: Node, after: Node, outer: tuple[str, ...]) -> Iterator[Freezing]:
    """What stands in both of two sections and is frozen in one, by slot."""
    was = dict(leaves(before))
    both = ((path, part, was[path]) for path, part in leaves(after) if path in was)
    left = {path: part.frozen for path, part, old in both if part.node == old.node and part.frozen != old.frozen}
    in_slot: dict[str, dict[str, int]] = defaultdict(dict)
    for path, part, slots in _slotted(after, outer=outer) if left else ():
        for slot in slots if size(part.node) or path in left else ():
            in_slot[slot][path] = size(part.node)
    for slot, parts in sorted(in_slot.items(), key=lambda item: -len(item[1])):
        frozen = {left.get(path) for path in parts}
        if len(frozen) == 1 and None not in frozen:
            weights = sum(parts.values())
            yield Freezing(slot, None, tuple(parts), True in frozen, -weights if True in frozen else weights)
            left = {path: now for path, now in left.items() if path not in parts}


def _change(one: Difference) -> dict[str, Any]:
    return {
        "slot": one.slot,
        "layers": _list(one.layers),
        "paths": list(one.paths),
        "before": encode(one.before),
        "after": encode(one.after),
        "frozen": {"before": one.frozen[0], "after": one.frozen[1]},
        "params": one.params * len(one.layers or (0,)),
        "trainable": one.trainable * len(one.layers or (0,)),
    }


def _list(layers: Layers) -> list[int] | None:
    return None if layers is None else list(layers)


# --- applying --------------------------------------------------------------------------------------------------------

Step = Callable[[Part], Part]


def _applied(difference: Mapping[str, Any], before: Blueprint) -> Blueprint:
    steps: dict[int | None, list[tuple[str, Step]]] = defaultdict(list)
    for change in difference["changes"]:
        _note(steps, change, _putting(decode(change["after"]), change["frozen"]["after"]))
    for change in difference["freezes"]:
        _note(steps, change, _freezing(change["frozen"]))
    kept = before.layers[: len(before.layers) - difference["layers_removed"]]
    done: dict[tuple[Any, ...], Node] = {}  # layers that were one object stay one
    layers = []
    for layer, node in enumerate(kept):
        key = (id(node), *((path, id(step)) for path, step in steps[layer]))
        if key not in done:
            done[key] = _stepped(node, steps[layer])
        layers.append(done[key])
    layers += [decode(node) for node in difference["layers_added"]]
    root = _stepped(before.root, steps[None])
    assert isinstance(root, Group)
    config = {**before.config, **{name: both["after"] for name, both in difference["config"].items()}}
    return replace(before, root=root, layers=tuple(layers), config=config)


def _note(steps: dict[int | None, list[tuple[str, Step]]], change: Mapping[str, Any], step: Step) -> None:
    for layer in change["layers"] if change["layers"] is not None else (None,):
        steps[layer] += [(path, step) for path in change["paths"]]


def _putting(node: Node, frozen: bool) -> Step:
    return lambda part: replace(part, node=node, frozen=frozen)


def _freezing(frozen: bool) -> Step:
    return lambda part: replace(part, frozen=frozen)


def _stepped(node: Node, steps: Sequence[tuple[str, Step]]) -> Node:
    for path, step in steps:
        node = _at(node, path, step)
    return node


def _at(node: Node, path: str, step: Step) -> Node:
    """A section with one part changed; no path means the section itself."""
    if not path:
        return step(Part(("layer",), "", node)).node
    if not isinstance(node, Group):
        raise ValueError(f"there is no {path} in this model")
    parts = []
    for part in node.parts:
        if path == part.path:
            part = step(part)
        elif path.startswith(f"{part.path}."):
            part = replace(part, node=_at(part.node, path[len(part.path) + 1 :], step))
        parts.append(part)
    return replace(node, parts=tuple(parts))
