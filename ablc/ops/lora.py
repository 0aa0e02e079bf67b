from __future__ import annotations

from ablc.blueprint import Chain, Embedding, Linear, Node
from ablc.ops.arguments import Bias, Rank
from ablc.ops.low_rank import low_rank
from ablc.ops.operation import Refusal, operation


@operation
def lora(slot: str, node: Node, r: Rank, *, bias: Bias = None) -> Node:
    """A low-rank product in place of a weight: Linear(i, o) becomes Linear(i, r) · Linear(r, o). It replaces the
    weight; no frozen base stays under it. In `attention` it replaces the query, key and value projections, in
    `mlp` the whole MLP (no activation), in `embedding` the table, as a product of V × r and r × d without bias.

    >>> from ablc.blueprint import Linear, describe, size
    >>> pair = lora("attention.qkv", Linear(1024, 3072, bias=True), 8)
    >>> describe(pair), size(pair)
    ('Linear(1024, 8) · Linear(8, 3072)', 35848)
    """
    match node:
        case Embedding(rows, width):
            if bias not in (None, "none"):
                raise Refusal("a low-rank embedding has no bias")
            if r > max(rows, width):
                raise Refusal(f"rank {r} is above both dimensions of {rows} × {width}")
            return Chain((("A", Embedding(rows, r)), ("B", Linear(r, width, bias=False))))
    return low_rank(slot, node, r, bias)
