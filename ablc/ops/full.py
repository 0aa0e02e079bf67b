from __future__ import annotations

from ablc.blueprint import Node
from ablc.ops.operation import operation


@operation
def full(slot: str, node: Node) -> Node:
    """The original, as the base model has it: takes back what an earlier statement put there.

    >>> from ablc.blueprint import Linear, describe
    >>> describe(full("attention.out", Linear(64, 64, bias=True)))
    'Linear(64, 64)'
    """
    return node
