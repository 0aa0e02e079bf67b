"""What a plan replaced, module by module, under the full names that the model has for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ablc.blueprint import Blueprint, Chain, Embedding, Linear, Node, pair_rank
from ablc.blueprint.as_json import encode
from ablc.blueprint.compare import compare
from ablc.planning import Plan


@dataclass(frozen=True)
class Replaced:
    """`after` stands at `path` where the base has `before`; `layer` is None outside the layers."""

    slot: str
    layer: int | None
    path: str
    before: Node
    after: Node

    @property
    def rank(self) -> int | None:
        """The inner width of the pair that stands there now; None where it's no pair."""
        return pair_rank(self.after)

    @property
    def is_product(self) -> bool:
        """Whether one matrix was replaced by a product of two with nothing between them."""
        match self.before, self.after:
            case Linear(), Chain((("A", Linear()), ("B", Linear()))):
                return True
            case Embedding(), Chain((("A", Embedding()), ("B", Linear()))):
                return True
        return False


def replaced(plan: Plan) -> list[Replaced]:
    """Every module that the plan replaced or removed, those outside the layers first, then layer by layer."""
    found = [
        Replaced(difference.slot, layer, full_path(plan.original, layer, path), difference.before, difference.after)
        for difference in compare(plan.original, plan.blueprint)
        for layer in difference.layers or (None,)
        for path in difference.paths
    ]
    return sorted(found, key=lambda one: -1 if one.layer is None else one.layer)


def full_path(blueprint: Blueprint, layer: int | None, path: str) -> str:
    """The name in the model of a module that stands at `path` in a layer, or outside the layers."""
    parts = [blueprint.layers_path, str(layer), path] if layer is not None else [path]
    return ".".join(part for part in parts if part)


def replacements(places: Iterable[Replaced]) -> list[dict[str, Any]]:
    """What stands where now, as `ablc.modeling_ablc` reads it from a config; equal nodes are written once."""
    paths: dict[Node, list[str]] = defaultdict(list)
    for one in places:
        paths[one.after].append(one.path)
    return [{"paths": at, "node": encode(node)} for node, at in paths.items()]
