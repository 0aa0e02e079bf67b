"""This assignment puts there what stands there already: the model is the same without it.

`full` on what nothing has changed, or an operation that an extended file, or a statement before, has put there with
the same arguments. `full` in some layers beside another statement for the other layers spells a whole out
(`attention[0:3] = full; attention[3:] = lora(8)`), and isn't told.

```abl
model = "EleutherAI/pythia-70m"
mlp[3:] = full
```

```text
warning[no-effect]: this statement has no effect: `full` stands there already
 --> example.abl:2:1
  |
2 | mlp[3:] = full
  | ^^^^^^^^^^^^^^
  help: take it out
```

Take it out: `ablc check --fix` does. Or did it mean other layers, or a slot that has been changed?
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from ablc.blueprint import Group, Layers, Node
from ablc.faults import Fault, Span
from ablc.lints.lint import Subject, mended_lint
from ablc.pipeline import Planned
from ablc.planning.rewrite import rewrite
from ablc.spec import Edit

Numbered = Sequence[tuple[int, Edit]]


@mended_lint
def no_effect(subject: Subject) -> Iterator[Fault]:
    vain = _vain(subject, subject.variants[0])
    for planned in subject.variants[1:]:
        vain = vain & _vain(subject, planned) if vain else vain
    statements: dict[Span, list[Edit]] = defaultdict(list)
    for edit in subject.variants[0].spec.edits if vain else ():
        statements[edit.statement].append(edit)
    for statement, edits in statements.items():
        targets = list(dict.fromkeys(edit.span for edit in edits if edit.span in vain))
        there = f"`{' '.join(edits[0].call.text.split())}` stands there already"
        if targets and len(targets) == len({edit.span for edit in edits}):
            yield Fault("no-effect", f"this statement has no effect: {there}", statement, "take it out", "warning")
        elif targets:
            for span in targets:
                message = f"`{' '.join(span.text.split())}` has no effect here: {there}"
                yield Fault("no-effect", message, span, "take it out", "warning")


def _vain(subject: Subject, planned: Planned) -> set[Span]:
    """The file's own targets that change nothing in any layer when their turn comes."""
    edits = planned.spec.edits
    slots = _leaves_by_slot(planned)
    if not _is_suspicious(subject, planned, slots):
        return set()
    root = planned.plan.original.root
    layers: dict[Span, set[int]] = defaultdict(set)
    for edit in edits:
        layers[edit.span].update(edit.layers or ())
    acting: set[Span] = {edit.span for edit in edits if _spells_out(edit, edits) or not subject.is_own(edit.span)}
    for node, numbers in _touched(planned):
        for place, number in enumerate(numbers):
            edit = edits[number]
            if edit.span not in acting:
                before = _standing([(n, edits[n]) for n in numbers[:place]], edit, slots)
                if _is_told(before, edit, layers) or _acts(node, root, before, (number, edit)):
                    acting.add(edit.span)
    return {edit.span for edit in edits} - acting


def _is_suspicious(subject: Subject, planned: Planned, slots: Mapping[str, frozenset[str]]) -> bool:
    """Whether any statement may be without effect. Most specs say nothing twice, and all that they say is there in the
    end: those need no second look."""
    owners = {(change.line, change.statement) for change in planned.plan.changes if change.file == subject.source.name}
    seen: dict[str, set[int | None]] = defaultdict(set)
    for edit in planned.spec.edits:
        if (edit.statement.line, " ".join(edit.statement.text.split())) not in owners and subject.is_own(edit.span):
            return True
        layers = (None,) if edit.layers is None else edit.layers
        for leaf in slots[edit.slot]:
            if not seen[leaf].isdisjoint(layers):
                return True
            seen[leaf].update(layers)
    return False


def _meet(one: Layers, other: Layers) -> bool:
    if one is None or other is None:
        return one == other
    return not set(one).isdisjoint(other)


def _touched(planned: Planned) -> Iterator[tuple[Node, tuple[int, ...]]]:
    """Each untouched section that edits reach, with their numbers; layers that the same edits reach come once."""
    original = planned.plan.original
    numbers: dict[int, list[int]] = defaultdict(list)
    for number, edit in enumerate(planned.spec.edits):
        for layer in edit.layers or ():
            numbers[layer].append(number)
    yield original.root, tuple(number for number, edit in enumerate(planned.spec.edits) if edit.layers is None)
    alike = {(id(original.layers[layer]), tuple(some)): layer for layer, some in numbers.items()}
    for (_, some), layer in alike.items():
        yield original.layers[layer], some


def _standing(earlier: Numbered, edit: Edit, slots: Mapping[str, frozenset[str]]) -> Numbered:
    """Of the edits before this one, those that decide what stands in its slot: back to the last that took all of it."""
    found: list[tuple[int, Edit]] = []
    for number, other in reversed(earlier):
        if slots[other.slot] & slots[edit.slot]:
            found.append((number, other))
        if slots[other.slot] >= slots[edit.slot]:
            break
    return found[::-1]


def _is_told(before: Numbered, edit: Edit, layers: Mapping[Span, set[int]]) -> bool:
    """Whether a statement before says as much in the same file: that one is told, as erased."""
    return any(
        (other.slot, layers[other.span], other.span.source) == (edit.slot, layers[edit.span], edit.span.source)
        and other.statement != edit.statement
        for _, other in before
    )


def _acts(node: Node, root: Node, before: Numbered, edit: tuple[int, Edit]) -> bool:
    """Whether an edit changes what those before it left."""
    was, now = (rewrite(node, some, (root, node), []).node for some in (before, [*before, edit]))
    return was != now


def _spells_out(edit: Edit, edits: Sequence[Edit]) -> bool:
    """Whether `full` in some layers only says what a statement for other layers leaves."""
    return edit.operation == "full" and any(
        other.slot == edit.slot
        and other.operation != "full"
        and bool(other.layers)
        and not _meet(other.layers, edit.layers)
        for other in edits
    )


def _leaves_by_slot(planned: Planned) -> dict[str, frozenset[str]]:
    """For each slot that is edited, the leaves of an untouched section that stand in it."""
    original = planned.plan.original
    sections = {edit.slot: original.root if edit.layers is None else original.layers[0] for edit in planned.spec.edits}
    return {slot: frozenset(_paths(node, slot, "", slot == "layer")) for slot, node in sections.items()}


def _paths(node: Node, slot: str, path: str, inside: bool) -> Iterator[str]:
    if isinstance(node, Group):
        for part in node.parts:
            yield from _paths(part.node, slot, f"{path}.{part.path}", inside or slot in part.slots)
    elif inside:
        yield path
