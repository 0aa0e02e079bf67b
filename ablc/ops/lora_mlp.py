from __future__ import annotations

from dataclasses import replace

from ablc.blueprint import Group, Linear, Node
from ablc.ops.arguments import Bias, Rank
from ablc.ops.low_rank import low_rank
from ablc.ops.operation import Refusal, operation


@operation
def lora_mlp(slot: str, node: Node, r: Rank, *, bias: Bias = None) -> Node:
    """Every Linear of an MLP becomes a rank-r pair; its width, its gate and its activation stay.

    >>> from ablc.blueprint import Act, Group, Linear, Part, size
    >>> up, down = Linear(64, 256, bias=True), Linear(256, 64, bias=True)
    >>> parts = Part(("mlp.up",), "up", up), Part(("mlp.act",), "act", Act("gelu")), Part(("mlp.down",), "down", down)
    >>> mlp = Group("mlp", parts)
    >>> size(mlp), size(lora_mlp("mlp", mlp, 8))
    (33088, 5456)
    """
    if slot != "mlp" or not isinstance(node, Group):
        raise Refusal
    parts = tuple(
        replace(part, node=low_rank(part.slot, part.node, r, bias)) if isinstance(part.node, Linear) else part
        for part in node.parts
    )
    return replace(node, parts=parts)
