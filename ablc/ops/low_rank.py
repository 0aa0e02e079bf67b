"""The low-rank pair, shared by the operations that put one in the place of a weight."""

from __future__ import annotations

from ablc.blueprint import Act, Chain, Group, Linear, Node
from ablc.ops.arguments import Bias
from ablc.ops.operation import Refusal


def pair(
    inputs: int, outputs: int, r: int, *, biases: tuple[bool, bool], bias: Bias = None, act: str | None = None
) -> Chain:
    """Linear(inputs, r), `act` if there is one, Linear(r, outputs). `biases` are the defaults that `bias` overrules.

    Raises Refusal for a rank above both dimensions: the product would be the full matrix with weights to spare.
    """
    if r > max(inputs, outputs):
        raise Refusal(
            f"rank {r} is above both dimensions of {inputs} → {outputs}",
            f"the largest useful rank is {min(inputs, outputs)}",
        )
    first, second = {None: biases, "both": (True, True), "out": (False, True), "none": (False, False)}[bias]
    middle = (("act", Act(act)),) if act else ()
    return Chain((("A", Linear(inputs, r, first)), *middle, ("B", Linear(r, outputs, second))))


def low_rank(slot: str, node: Node, r: int, bias: Bias, act: str | None = None) -> Node:
    """A pair in place of a Linear, of an attention's query, key and value projections, or of a whole MLP."""
    match slot, node:
        case _, Linear(inputs, outputs, has_bias):
            return pair(inputs, outputs, r, biases=(has_bias, has_bias), bias=bias, act=act)
        case "attention", Group():
            return node.map("attention.qkv", lambda projection: low_rank("attention.qkv", projection, r, bias, act))
        case "mlp", Group():
            up, down = (node.parts_of(name)[0].node for name in ("mlp.up", "mlp.down"))
            if isinstance(up, Linear) and isinstance(down, Linear):
                return pair(up.inputs, down.outputs, r, biases=(up.bias, down.bias), bias=bias, act=act)
    raise Refusal
