"""A model as an expression over a few standard layers, and everything that is read off it.

The nodes and their base readings are exported here; measures, slots, comparison and JSON are modules beside them.
"""

from __future__ import annotations

from ablc.blueprint.nodes import (
    DTYPE_BYTES,
    Act,
    Blueprint,
    Chain,
    Embedding,
    Group,
    Identity,
    Init,
    Layers,
    Linear,
    Node,
    Norm,
    Nothing,
    Part,
    Tied,
    Weight,
    describe,
    flops,
    kv_width,
    leaves,
    pair_rank,
    size,
    slot_size,
    tensors,
    trained_size,
    weights,
)

__all__ = [
    "DTYPE_BYTES",
    "Act",
    "Blueprint",
    "Chain",
    "Embedding",
    "Group",
    "Identity",
    "Init",
    "Layers",
    "Linear",
    "Node",
    "Norm",
    "Nothing",
    "Part",
    "Tied",
    "Weight",
    "describe",
    "flops",
    "kv_width",
    "leaves",
    "pair_rank",
    "size",
    "slot_size",
    "tensors",
    "trained_size",
    "weights",
]
