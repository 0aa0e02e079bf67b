"""Nothing reads these parameters: they are counted, and no gradient ever reaches them.

`attention = none` leaves `attention.norm`, which then stands before nothing, and `mlp = none` leaves `mlp.norm`. The
count of the model includes them; training never moves them.

```abl
model = "EleutherAI/pythia-70m"
attention[3:] = none
```

```text
warning[unread-parameters]: nothing reads `attention.norm` in 3 layers: 3,072 parameters that no gradient reaches
 --> example.abl:2:1
  |
2 | attention[3:] = none
  | ^^^^^^^^^^^^^
  help: `attention[3:], attention.norm[3:] = none` takes both out
```

Take the norm out with what it fed, or allow the warning where the count is meant to include it. It isn't mended by
`--fix`: that would change the count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ablc.blueprint import Group, Layers, Node, Nothing, Part, weights
from ablc.faults import Fault, Span
from ablc.lints.lint import Subject, by_owner, distinct_sections, each_variant, in_layers, last_edits, lint
from ablc.pipeline import Planned
from ablc.spec.values import show_layers


@lint
def unread_parameters(subject: Subject) -> Iterator[Fault]:
    def find(planned: Planned) -> Iterator[Fault]:
        depth = len(planned.plan.blueprint.layers)
        for (span, slot), (layers, count) in _unread(planned).items():
            if subject.is_own(span):
                message = f"nothing reads `{slot}`{in_layers(layers)}: {count:,} parameters that no gradient reaches"
                yield Fault("unread-parameters", message, span, _way_out(span, slot, layers, depth), "warning")

    return each_variant(subject, find)


def _unread(planned: Planned) -> dict[tuple[Span, str], tuple[Layers, int]]:
    """By the target that took the reader out and the slot that it read: layers, and parameters in all of them."""
    found: dict[tuple[Span, str], tuple[Layers, int]] = {}
    places: dict[tuple[Span, str], list[tuple[Layers, int]]] = defaultdict(list)
    for node, layers in distinct_sections(planned.plan.blueprint):
        for part in _without_reader(node):
            count = sum(weight.size for weight in weights(node) if not weight.read and weight.slot == part.slot)
            owners = last_edits(planned, part.feeds or "")
            for span, some in by_owner(layers, owners).items() if count else ():
                places[span, part.slot].append((some, count * len(some or (0,))))
    for key, parts in places.items():
        at = None if parts[0][0] is None else tuple(sorted(layer for some, _ in parts for layer in some or ()))
        found[key] = (at, sum(count for _, count in parts))
    return found


def _without_reader(node: Node) -> list[Part]:
    """The parts of a section that may have lost who reads them. Most sections have lost nothing: seen at a glance."""
    if not isinstance(node, Group) or not any(isinstance(part.node, Nothing) for part in node.parts):
        return []
    return [part for part in node.parts if part.feeds is not None]


def _way_out(span: Span, slot: str, layers: Layers, depth: int) -> str:
    target = "".join(span.text.split())
    where = show_layers(layers, depth) if layers is not None else ""
    if target.partition("[")[1:] == where.partition("[")[1:]:
        return f"`{target}, {slot}{where} = none` takes both out"
    return f"`{slot}{where} = none` takes it out too"
