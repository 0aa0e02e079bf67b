"""All numbers of a plan at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ablc.blueprint.measures import (
    DEFAULT_LENGTH,
    flops_per_token,
    kv_bytes_per_token,
    layer_params,
    optimizer_bytes,
    params,
    slot_params,
    trainable,
    unread,
    weight_bytes,
)
from ablc.blueprint.slots import slots_of
from ablc.faults import expect
from ablc.planning.plan import Plan


@dataclass(frozen=True)
class Count:
    """Exact numbers of a planned model. FLOPs are of a forward pass at sequences of `length` tokens, per token;
    `weight_bytes` and `kv_bytes_per_token` in the dtype of the base config, `optimizer_bytes` AdamW's fp32
    moments. `unread` parameters are counted, but nothing computes with them. `by_slot` lists every slot, wholes
    and parts alike."""

    params: int
    trainable: int
    unread: int
    base_params: int
    flops_per_token: int
    length: int
    weight_bytes: int
    optimizer_bytes: int
    kv_bytes_per_token: int
    by_slot: Mapping[str, int]
    by_layer: tuple[int, ...]


def count(plan: Plan, length: int = DEFAULT_LENGTH) -> Count:
    """Read every number off a plan; nothing is built."""
    expect(plan, Plan, "count takes a plan: ablc.count(ablc.plan(spec))")
    blueprint = plan.blueprint
    return Count(
        params=params(blueprint),
        trainable=trainable(blueprint),
        unread=unread(blueprint),
        base_params=params(plan.original),
        flops_per_token=flops_per_token(blueprint, length),
        length=length,
        weight_bytes=weight_bytes(blueprint),
        optimizer_bytes=optimizer_bytes(blueprint),
        kv_bytes_per_token=kv_bytes_per_token(blueprint),
        by_slot={slot: slot_params(blueprint, slot) for slot in slots_of(plan.original).names},
        by_layer=tuple(layer_params(blueprint)),
    )


def summary(plan: Plan) -> list[tuple[str, int, int]]:
    """Parameters before and after: a row a slot, what is inside attention and MLP in theirs, then `total` and
    `trainable`."""
    slots = [slot for slot in slots_of(plan.original).names if slot != "layer" and not _is_inside(slot)]
    rows = [(slot, slot_params(plan.original, slot), slot_params(plan.blueprint, slot)) for slot in slots]
    readings = {"total": params, "trainable": trainable}
    return rows + [(name, read(plan.original), read(plan.blueprint)) for name, read in readings.items()]


def _is_inside(slot: str) -> bool:
    """Whether a slot is a part of attention or MLP; their norms are parts of the layer."""
    return slot.split(".")[0] in ("attention", "mlp") and "." in slot and not slot.endswith(".norm")
