"""The slots a model has, and what to say of one that it hasn't."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ablc.blueprint.nodes import Blueprint, Group, Node, Tied
from ablc.faults import nearest


class SlotProblem(Exception):
    """A slot that can't be addressed: one sentence and a way out."""

    def __init__(self, code: str, message: str, help: str | None) -> None:
        self.code, self.message, self.help = code, message, help
        super().__init__(message)


@dataclass(frozen=True)
class Slots:
    """The slots of one kind of model, in the order of its modules. `paths` gives for each module attribute the slot
    it stands in."""

    layered: tuple[str, ...]
    single: tuple[str, ...]
    paths: dict[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the order that a token meets them."""
        return (*self.single[:1], *self.layered, *self.single[1:])


def slots_of(blueprint: Blueprint) -> Slots:
    """The slots of an untouched blueprint; all its layers have the same."""
    return _slots(blueprint.root, blueprint.layers[0])


@lru_cache(maxsize=256)
def _slots(root: Node, layer: Node) -> Slots:
    paths: dict[str, str] = {}
    single = tuple(dict.fromkeys(_walk(root, paths)))
    layered = tuple(dict.fromkeys(["layer", *_walk(layer, paths)]))
    return Slots(layered, single, paths)


def _walk(node: Node, paths: dict[str, str]) -> list[str]:
    found: list[str] = []
    if isinstance(node, Group):
        for part in node.parts:
            found += [*part.slots, *_walk(part.node, paths)]
            for name in (part.path.rpartition(".")[2], *part.aliases):
                paths.setdefault(name, part.slots[0])
    return found


@lru_cache(maxsize=1024)
def slots_in(node: Node) -> tuple[str, ...]:
    """Every slot below a node of an untouched blueprint."""
    return tuple(dict.fromkeys(_walk(node, {})))


def check_slot(slot: str, blueprint: Blueprint) -> None:
    """Raise SlotProblem unless the untouched model has this slot for itself."""
    slots = slots_of(blueprint)
    if slot not in slots.names:
        message = f"{blueprint.family} has no slot `{slot}`"
        raise SlotProblem("unknown-slot", message, _way_out(slot, slots))
    for part in blueprint.root.parts:
        if slot in part.slots and isinstance(part.node, Tied):
            owner = next(p.slots[0] for p in blueprint.root.parts if p.path == part.node.to)
            message = f"`{slot}` is tied to `{owner}` in this model and has no weight of its own"
            raise SlotProblem(
                "tied-slot", message, f"address `{owner}`, or untie: model = …(tie_word_embeddings = false)"
            )


def _way_out(slot: str, slots: Slots) -> str:
    own_name = slot.rpartition(".")[2]
    if slot in ("attention.q", "attention.k", "attention.v") and "attention.qkv" in slots.names:
        return "query, key and value are one fused projection here: write `attention.qkv`"
    if own_name in slots.paths and slots.paths[own_name] != slot:
        return f"write `{slots.paths[own_name]}`"
    near = nearest(slot, slots.names)
    listed = f"it has {', '.join(sorted(slots.names))}"
    return f"did you mean `{near}`? ({listed})" if near else listed
