"""Two linear maps in a row with nothing between them are one linear map, and hold more parameters than it needs.

`mlp.act = none` leaves the two Linears of an MLP without gate as a product: W₂·W₁ of widths i → m → o does what a
single o × i matrix does, or a product of the least of the widths in it where that is smaller. A low-rank pair by
itself is meant so and isn't told; nor are value and output projection of an attention, between which the heads are
mixed.

```abl
model = "EleutherAI/pythia-70m"
mlp.act = none
```

```text
warning[linear-in-a-row]: two linear maps in a row in 6 layers: 11,022,336 of their 12,598,272 parameters are redundant
 --> example.abl:2:1
  |
2 | mlp.act = none
  | ^^^^^^^
  help: leave the activation in, or write the product: `mlp = lora(512, bias=out)`
```

Leave the activation in, or write the product that is meant, or allow the warning where the surplus is the experiment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from ablc.blueprint import Act, Chain, Group, Identity, Layers, Linear, Node, Part, size
from ablc.faults import Fault, Span
from ablc.language import tree
from ablc.lints.lint import Subject, by_owner, distinct_sections, each_variant, in_layers, last_edits, lint
from ablc.pipeline import Planned
from ablc.spec.values import show_layers

IN_ORDER = ("mlp.up", "mlp.act", "mlp.down")


@dataclass(frozen=True)
class Surplus:
    """Linears of several parts that follow each other directly: `params` they hold, `least` what the same map needs, as
    one matrix or as a product of rank `rank`. `whole` where nothing else stands in the MLP."""

    params: int
    least: int
    rank: int
    bias: bool
    whole: bool


@lint
def linear_in_a_row(subject: Subject) -> Iterator[Fault]:
    def find(planned: Planned) -> Iterator[Fault]:
        for span, found in _by_place(subject, planned).items():
            if subject.is_own(span):
                yield _fault(span, found, len(planned.plan.original.layers))

    return each_variant(subject, find)


def _fault(span: Span, found: list[tuple[tuple[int, ...], Surplus]], depth: int) -> Fault:
    layers = tuple(sorted(layer for some, _ in found for layer in some))
    held = sum(len(some) * one.params for some, one in found)
    needless = sum(len(some) * (one.params - one.least) for some, one in found)
    message = f"two linear maps in a row{in_layers(layers)}: {needless:,} of their {held:,} parameters are redundant"
    help = "leave the activation in"
    kinds = {one for _, one in found}
    if len(kinds) == 1 and (one := kinds.pop()).whole:
        product = f"lora({one.rank}{', bias=out' if one.bias else ''})"
        help += f", or write the product: `mlp{show_layers(layers, depth)} = {product}`"
    return Fault("linear-in-a-row", message, span, help, "warning")


def _by_place(subject: Subject, planned: Planned) -> dict[Span, list[tuple[tuple[int, ...], Surplus]]]:
    """What is redundant in which layers, by the target that took the activation out, or the base that has none."""
    found: dict[Span, list[tuple[tuple[int, ...], Surplus]]] = defaultdict(list)
    for node, layers in distinct_sections(planned.plan.blueprint):
        for surplus in _surplus(node) if layers is not None else ():
            for span, some in _to_blame(subject, planned, layers).items():
                found[span].append((some or (), surplus))
    return found


def _to_blame(subject: Subject, planned: Planned, layers: Layers) -> dict[Span, Layers]:
    owners = last_edits(planned, "mlp.act")
    if _is_linear(Act(planned.plan.original.activation)):
        models = [statement.span() for statement in subject.tree.statements if isinstance(statement.node, tree.Model)]
        owners = {**{layer: place for place in models for layer in layers or ()}, **owners}
    return by_owner(layers, owners)


def _surplus(node: Node) -> list[Surplus]:
    """What could be fewer parameters in the MLP of a layer."""
    mlps = [p.node for p in node.parts if "mlp" in p.slots] if isinstance(node, Group) else []
    return [surplus for mlp in mlps if isinstance(mlp, Group) for run in _runs(mlp) if (surplus := _least(mlp, run))]


def _runs(mlp: Group) -> Iterator[list[tuple[Part, Linear]]]:
    """Linears that directly follow each other, with the parts they stand in. A gate multiplies what `mlp.up` gives by
    what depends on the input too, so nothing there is in a row."""
    parts = [part for slot in IN_ORDER for part in mlp.parts_of(slot)]
    if mlp.parts_of("mlp.gate") or [part.slot for part in parts] != [*IN_ORDER]:
        return
    run: list[tuple[Part, Linear]] = []
    for part in parts:
        for node in [link for _, link in part.node.links] if isinstance(part.node, Chain) else [part.node]:
            if isinstance(node, Linear):
                run.append((part, node))
            elif not _is_linear(node):
                yield run
                run = []
    yield run


def _is_linear(node: Node) -> bool:
    return isinstance(node, Identity) or node == Act("linear")


def _least(mlp: Group, run: list[tuple[Part, Linear]]) -> Surplus | None:
    """The surplus of a run that reaches over several parts, None where its matrices hold no more than they need."""
    if len({part.path for part, _ in run}) < 2:
        return None
    linears = [linear for _, linear in run]
    inputs, outputs = linears[0].inputs, linears[-1].outputs
    rank = min(inputs, outputs, *(linear.outputs for linear in linears))
    matrices = sum(linear.inputs * linear.outputs for linear in linears)
    fewest = min(inputs * outputs, rank * (inputs + outputs))
    if fewest >= matrices:
        return None
    bias = any(linear.bias for linear in linears)
    params = sum(size(linear) for linear in linears)
    whole = params == size(mlp)
    return Surplus(params, fewest + outputs * bias, rank, bias, whole)
