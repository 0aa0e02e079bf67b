"""The weights of a dense stock model that computes what a model with replacements does, where there is one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch

from ablc.blueprint import Act, Chain, Embedding, Group, Identity, Linear, Node, Nothing, describe, weights
from ablc.exporting.finished import ExportError, Weights
from ablc.patching.initial import planned_weights
from ablc.patching.replaced import replaced
from ablc.planning import Plan
from ablc.spec.values import show_layers


class NotDense(Exception):
    """Why the weights of the stock class can't compute what stands in its place."""


def fold(plan: Plan, found: Weights) -> Weights:
    """Every weight of the base, with which it computes what `plan` does with the weights `found`.

    Products are multiplied out in fp64, and what was removed becomes zeros. Raises ExportError, which names the slots,
    where the stock class can't compute what stands there.
    """
    dense: Weights = {}
    refused: dict[tuple[str, str], list[int | None]] = defaultdict(list)
    dtype = next(iter(found.values())).dtype
    for one in replaced(plan):
        own = {name.removeprefix(f"{one.path}."): x for name, x in found.items() if name.startswith(f"{one.path}.")}
        try:
            made = dense_weights(one.before, one.after, {name: x.double() for name, x in own.items()})
            dense |= {f"{one.path}.{name}": values.to(dtype).contiguous() for name, values in made.items()}
        except NotDense as why:
            refused[one.slot, f"{describe(one.after)} ({why})"].append(one.layer)
    if refused:
        raise _refusal(refused, len(plan.blueprint.layers))
    names = [weight.name for _, weight in planned_weights(plan.original)]
    return {name: dense[name] if name in dense else found[name] for name in names}


def _refusal(refused: Mapping[tuple[str, str], list[int | None]], depth: int) -> ExportError:
    reasons = []
    for (slot, reason), at in refused.items():
        layers = tuple(sorted({layer for layer in at if layer is not None}))
        reasons.append(f"`{slot}{show_layers(layers, depth) if layers else ''}` is {reason}")
    message = f"no dense checkpoint of the stock class computes the same: {'; '.join(reasons)}"
    return ExportError(message, "leave out --folded: the model is then exported as it is")


def dense_weights(before: Node, after: Node, own: Weights) -> Weights:
    """The weights of `before`, by their names in it, with which it computes what `after` does with `own`, in fp64.

    Raises NotDense where there are none.
    """
    match before, after:
        case Group(), Nothing():
            return {w.name: torch.full(w.shape, float(w.init == "ones"), dtype=torch.float64) for w in weights(before)}
        case Group("mlp"), Chain((("A", Linear(_, width)), ("act", Act(act)), ("B", Linear()))):
            return _as_wide_mlp(before, width, act, own)
        case Embedding(), Chain((("A", Embedding()), *rest)):
            return {"weight": _apply(Chain(tuple(rest)), own["A.weight"], own)}
        case Linear(inputs, _, bias), _:
            matrix = _apply(after, torch.eye(inputs, dtype=torch.float64), own, biases=False).T
            shift = _apply(after, torch.zeros(1, inputs, dtype=torch.float64), own)[0]
            return {"weight": matrix, **_bias("bias", shift, bias)}
    raise NotDense(f"no weights of the stock {describe(before)} compute that")


def _apply(node: Node, x: torch.Tensor, own: Weights, prefix: str = "", *, biases: bool = True) -> torch.Tensor:
    """What a product of Linears makes of the rows of x."""
    match node:
        case Identity():
            return x
        case Linear():
            y = x @ own[f"{prefix}weight"].T
            return y + own[f"{prefix}bias"] if node.bias and biases else y
        case Chain(links):
            for name, link in links:
                x = _apply(link, x, own, f"{prefix}{name}.", biases=biases)
            return x
    raise NotDense("it isn't linear")


def _bias(name: str, values: torch.Tensor, there: bool) -> Weights:
    if there:
        return {name: values}
    if values.any():
        raise NotDense("it has a bias, and the stock class has none there")
    return {}


def _as_wide_mlp(mlp: Group, width: int, act: str, own: Weights) -> Weights:
    """A bottleneck in place of an MLP with the same activation and no gate: that MLP with its other units at zero."""
    parts = {part.slot: part for part in mlp.parts}
    up, down = parts["mlp.up"].node, parts["mlp.down"].node
    if not isinstance(up, Linear) or not isinstance(down, Linear) or parts.keys() != {"mlp.up", "mlp.down", "mlp.act"}:
        raise NotDense("the stock MLP has a gate")
    if parts["mlp.act"].node != Act(act) or width > up.outputs:
        raise NotDense("the stock MLP has another activation, or is narrower")
    first, second = (torch.zeros(n.outputs, n.inputs, dtype=torch.float64) for n in (up, down))
    first[:width], second[:, :width] = own["A.weight"], own["B.weight"]
    shift = torch.zeros(up.outputs, dtype=torch.float64)
    shift[:width] = own.get("A.bias", torch.zeros(width))
    shifts = (("mlp.up", shift, up.bias), ("mlp.down", own.get("B.bias", torch.zeros(down.outputs)), down.bias))
    made = {f"{parts['mlp.up'].path}.weight": first, f"{parts['mlp.down'].path}.weight": second}
    for slot, values, there in shifts:
        made |= _bias(f"{parts[slot].path}.bias", values, there)
    return made
