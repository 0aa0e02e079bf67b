"""What can be measured of a blueprint without building it. Every number is a sum of one reading over its sections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ablc.blueprint.nodes import (
    DTYPE_BYTES,
    Blueprint,
    Group,
    Layers,
    Node,
    Part,
    flops,
    kv_width,
    leaves,
    size,
    slot_size,
    trained_size,
    weights,
)
from ablc.blueprint.slots import slots_in

DEFAULT_LENGTH = 1024
ADAMW_BYTES = 8  # two fp32 moments for each trained parameter


def params(blueprint: Blueprint) -> int:
    """Parameters of the whole model, frozen ones included, tied ones once."""
    return _total(blueprint, size)


def trainable(blueprint: Blueprint) -> int:
    """Parameters that aren't frozen."""
    return _total(blueprint, trained_size)


def unread(blueprint: Blueprint) -> int:
    """Parameters that no computation reads: the norm before a removed attention."""
    return _total(blueprint, lambda node: sum(w.size for w in weights(node) if not w.read))


def flops_per_token(blueprint: Blueprint, length: int = DEFAULT_LENGTH) -> int:
    """Forward FLOPs per token in a sequence of `length` tokens, as torch's FlopCounterMode counts them with eager
    attention."""
    return _total(blueprint, lambda node: flops(node, length))


def weight_bytes(blueprint: Blueprint) -> int:
    """Bytes of the weights in the dtype that the config names (float32 where it names none)."""
    return params(blueprint) * DTYPE_BYTES[blueprint.config["dtype"]]


def optimizer_bytes(blueprint: Blueprint) -> int:
    """Bytes of AdamW's state: two fp32 moments for every parameter that is trained and read."""
    return ADAMW_BYTES * _total(blueprint, lambda node: sum(w.size for w in weights(node) if w.read and not w.frozen))


def kv_bytes_per_token(blueprint: Blueprint) -> int:
    """Bytes of KV cache per token in the config's dtype; a layer without attention keeps nothing."""
    return _total(blueprint, kv_width) * DTYPE_BYTES[blueprint.config["dtype"]]


def slot_params(blueprint: Blueprint, slot: str) -> int:
    """Parameters that stand in a slot, over all layers."""
    if slot == "layer":
        return sum(layer_params(blueprint))
    return _total(blueprint, lambda node: slot_size(node, slot))


def frozen_in(blueprint: Blueprint, slot: str, layers: Layers) -> dict[tuple[int | None, str], int]:
    """The frozen modules of a slot in some layers (None: outside them), by layer and path, with their parameters."""
    sections = [(None, blueprint.root)] if layers is None else [(layer, blueprint.layers[layer]) for layer in layers]
    return {
        (layer, path): size(part.node)
        for layer, node in sections
        for path, part in _parts_in(node, slot)
        if part.frozen
    }


def layer_params(blueprint: Blueprint) -> list[int]:
    """Parameters of each layer."""
    known = {id(node): size(node) for node in {id(n): n for n in blueprint.layers}.values()}
    return [known[id(node)] for node in blueprint.layers]


def changed_layers(blueprint: Blueprint, original: Blueprint, slot: str) -> int:
    """How many layers have something else in a slot, or in a part of it, than the original."""
    known: dict[tuple[int, int], bool] = {}
    count = 0
    for now, before in zip(blueprint.layers, original.layers, strict=True):
        key = (id(now), id(before))
        if key not in known:
            known[key] = _stands(now, before, slot) != _stands(before, before, slot)
        count += known[key]
    return count


MEASURES: Mapping[str, Callable[[Blueprint], int]] = {
    "params": params,
    "trainable": trainable,
    "flops_per_token": flops_per_token,
    "bytes": weight_bytes,
    "kv_bytes_per_token": kv_bytes_per_token,
}
SLOT_MEASURES = ("params", "layers")


def measure(name: str, blueprint: Blueprint, original: Blueprint) -> int:
    """A dry-run measure by the name a claim gives it: `params`, `params.mlp.up`, `layers.attention`, …"""
    if name in MEASURES:
        return MEASURES[name](blueprint)
    first, _, slot = name.partition(".")
    return slot_params(blueprint, slot) if first == "params" else changed_layers(blueprint, original, slot)


def _total(blueprint: Blueprint, reading: Callable[[Node], int]) -> int:
    """The sum of a reading over all sections; a layer that occurs many times is read once."""
    known: dict[int, int] = {}
    total = 0
    for _, _, node in blueprint.sections():
        if id(node) not in known:
            known[id(node)] = reading(node)
        total += known[id(node)]
    return total


def _parts_in(node: Node, slot: str, path: str = "", inside: bool = False) -> Iterator[tuple[str, Part]]:
    """The leaves that stand in a slot, with their paths."""
    if isinstance(node, Group):
        for part in node.parts:
            inner, hit = f"{path}.{part.path}", inside or slot == "layer" or slot in part.slots
            if isinstance(part.node, Group):
                yield from _parts_in(part.node, slot, inner, hit)
            elif hit:
                yield inner, part


def _stands(node: Node, original: Node, slot: str) -> list[object]:
    """What stands in a slot, whether frozen or not; the whole where a whole was removed or replaced."""
    if not isinstance(node, Group) or not isinstance(original, Group):
        return [node]
    if slot == "layer":
        return [(path, part.node) for path, part in leaves(node)]
    found: list[object] = []
    for part, before in zip(node.parts, original.parts, strict=True):
        if slot in part.slots:
            inner = list(leaves(part.node)) if isinstance(part.node, Group) else []
            found += [(path, leaf.node) for path, leaf in inner] or [part.node]
        elif slot in slots_in(before.node):
            found += _stands(part.node, before.node, slot)
    return found
