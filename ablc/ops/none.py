from __future__ import annotations

from ablc.blueprint import Act, Group, Identity, Linear, Node, Norm
from ablc.ops.operation import Refusal, operation


@operation
def none(slot: str, node: Node) -> Node:
    """Takes a part out. An attention or MLP then adds nothing to the residual, and its norm stays; a skipped layer
    passes its input on; in place of an output projection, a norm or the MLP's activation, what comes in goes
    out.

    >>> from ablc.blueprint import Linear, describe
    >>> describe(none("attention.out", Linear(64, 64, bias=True)))
    'identity'
    """
    match slot, node:
        case _, Group(nothing=nothing) if nothing is not None:
            return nothing
        case _, Norm() | Act():
            return Identity()
        case "attention.out", Linear(inputs, outputs, _):
            if inputs != outputs:
                raise Refusal(
                    f"the heads give {inputs} numbers and the residual has {outputs}: a projection must stand between",
                    f"`lora({max(1, min(inputs, outputs) // 8)})` makes it small",
                )
            return Identity()
    raise Refusal
