from __future__ import annotations

from ablc.blueprint import Node
from ablc.ops.arguments import Activation, Bias, Rank
from ablc.ops.low_rank import low_rank
from ablc.ops.operation import operation


@operation
def nonlinear_lora(slot: str, node: Node, r: Rank, *, act: Activation = None, bias: Bias = None) -> Node:
    """A bottleneck in place of a weight: Linear(i, o) becomes Linear(i, r) · act · Linear(r, o). In `attention` it
    replaces the query, key and value projections, in `mlp` the whole MLP. `act` is the base model's own unless
    said.

    >>> from ablc.blueprint import Linear, describe
    >>> describe(nonlinear_lora("attention.qkv", Linear(1024, 3072, bias=True), 8, act="gelu"))
    'Linear(1024, 8) · gelu · Linear(8, 3072)'
    """
    if act is None:
        raise TypeError("nonlinear_lora needs an activation: a spec takes the base model's, Python says which")
    return low_rank(slot, node, r, bias, act)
