"""Folds edits over one section of a model: what stands where in the end, which edit put it there, and what it
erased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ablc.blueprint import Group, Node, Part, Tied, leaves, size, slot_size
from ablc.blueprint.slots import slots_in
from ablc.faults import Fault
from ablc.ops import Refusal, operation
from ablc.spec import Edit, Freeze


@dataclass(frozen=True)
class Section:
    """One layer, or the root, after the fold.

    `owner` gives for each leaf of the original the edit that last put something there; `effects` for each edit the
    leaves it changed at the time; `erased` for each edit the later ones that took back all that was left of it.
    """

    node: Node
    owner: Mapping[str, int]
    effects: Mapping[int, frozenset[str]]
    erased: Mapping[int, int]


@dataclass
class _Fold:
    original: Node
    node: Node
    faults: list[Fault]
    owner: dict[str, int] = field(default_factory=dict)
    effects: dict[int, frozenset[str]] = field(default_factory=dict)
    standing: dict[int, set[str]] = field(default_factory=dict)
    erased: dict[int, int] = field(default_factory=dict)

    @cached_property
    def leaf_slots(self) -> list[tuple[str, tuple[str, ...]]]:
        return _leaf_slots(self.original)


class _WholeIsGone(Exception):
    """A part was addressed whose whole is no longer made of parts."""

    def __init__(self, whole: str, path: str) -> None:
        self.whole, self.path = whole, path
        super().__init__(whole)


def rewrite(
    original: Node, edits: Sequence[tuple[int, Edit]], everywhere: Sequence[Node], faults: list[Fault]
) -> Section:
    """Apply numbered edits in order to one section. Each puts its operation on the *original* of its slot.

    `everywhere` holds the untouched root and layer, to say of a misplaced operation where it may stand.
    """
    fold = _Fold(original, original, faults)
    for number, edit in edits:
        try:
            node = _put(fold.node, original, edit)
            _check_ties(node, original)
        except Refusal as refusal:
            faults.append(_refused(edit, refusal, everywhere))
        except _WholeIsGone as gone:
            faults.append(_whole_is_gone(edit, gone, edits, fold))
        else:
            _record(fold, number, edit, node)
            fold.node = node
    return Section(fold.node, fold.owner, fold.effects, fold.erased)


def _put(current: Node, original: Node, edit: Edit, path: str = "") -> Node:
    if edit.slot == "layer":
        return operation(edit.operation)(edit.slot, original, **edit.arguments)
    if not isinstance(original, Group):
        return current
    if not isinstance(current, Group):
        raise _WholeIsGone("layer", path)
    parts = tuple(_put_part(now, part, edit, path) for now, part in zip(current.parts, original.parts, strict=True))
    return replace(current, parts=parts)


def _put_part(now: Part, part: Part, edit: Edit, path: str) -> Part:
    inner = f"{path}.{part.path}" if path else part.path
    if edit.slot in part.slots:
        return replace(now, node=operation(edit.operation)(edit.slot, part.node, **edit.arguments))
    if edit.slot in slots_in(part.node):
        if not isinstance(now.node, Group):
            raise _WholeIsGone(part.slots[0], inner)
        return replace(now, node=_put(now.node, part.node, edit, inner))
    return now


def _check_ties(node: Node, original: Node) -> None:
    """What another part borrows its weight from must stay what it is."""
    if not isinstance(node, Group) or not isinstance(original, Group):
        return
    borrowed = {part.node.to: part.slot for part in original.parts if isinstance(part.node, Tied)}
    for now, before in zip(node.parts, original.parts, strict=True):
        if before.path in borrowed and now.node != before.node:
            message = f"`{borrowed[before.path]}` is tied to `{before.slot}`, which must stay a table as it is"
            raise Refusal(message, "untie them: model = …(tie_word_embeddings = false)")


def _record(fold: _Fold, number: int, edit: Edit, node: Node) -> None:
    """Note whose leaves the edit took over and what it changed."""
    touched = {path for path, slots in fold.leaf_slots if edit.slot == "layer" or edit.slot in slots}
    for earlier, left in list(fold.standing.items()):
        if left <= touched:
            fold.erased[earlier] = number
            del fold.standing[earlier]
        left -= touched
    changed = frozenset(touched & _changed(fold.original, node))
    fold.owner.update(dict.fromkeys(touched, number))
    fold.effects[number] = changed
    if changed:
        fold.standing[number] = set(changed)


def _leaf_slots(node: Node, path: str = "", outer: tuple[str, ...] = ()) -> list[tuple[str, tuple[str, ...]]]:
    """Every leaf of an untouched section with all the slots that contain it."""
    if not isinstance(node, Group):
        return [(path, outer)]
    found = []
    for part in node.parts:
        found += _leaf_slots(part.node, f"{path}.{part.path}" if path else part.path, (*outer, *part.slots))
    return found


def _changed(original: Node, node: Node, path: str = "") -> set[str]:
    """The leaves of the original at or above which something else stands now."""
    if node is original:
        return set()
    if isinstance(node, Group) and isinstance(original, Group):
        changed: set[str] = set()
        for now, part in zip(node.parts, original.parts, strict=True):
            changed |= _changed(part.node, now.node, f"{path}.{part.path}" if path else part.path)
        return changed
    if node == original:
        return set()
    return {leaf for leaf, _ in leaves(original, path)} if isinstance(original, Group) else {path}


def _refused(edit: Edit, refusal: Refusal, everywhere: Sequence[Node]) -> Fault:
    if refusal.message:
        return Fault("refused", refusal.message, edit.call, refusal.help)
    places = {slot: node for node in everywhere for slot in slots_in(node)} | {"layer": everywhere[-1]}
    where = sorted(slot for slot, node in places.items() if _may_stand(edit, slot, node))
    help = f"it may stand in {', '.join(where)}" if where else None
    return Fault("cannot-stand", f"`{edit.operation}` can't stand in `{edit.slot}`", edit.call, help)


def _may_stand(edit: Edit, slot: str, original: Node) -> bool:
    try:
        _put(original, original, edit.model_copy(update={"slot": slot}))
    except Refusal as refusal:
        return bool(refusal.message)
    return True


def _whole_is_gone(edit: Edit, gone: _WholeIsGone, edits: Sequence[tuple[int, Edit]], fold: _Fold) -> Fault:
    owner = next(n for path, n in fold.owner.items() if path == gone.path or path.startswith(gone.path))
    earlier = next(e for n, e in edits if n == owner)
    message = f"`{edit.slot}` is a part of `{gone.whole}`, which is no longer made of parts"
    label = f"`{gone.whole}` became {earlier.operation} here"
    help = f"take layers out of one of the two, or put `{gone.whole} = full` before"
    return Fault("whole-is-gone", message, edit.span, help, related=((earlier.statement, label),))


# --- freezing --------------------------------------------------------------------------------------------------------


def freeze(node: Node, freezes: Sequence[Freeze]) -> tuple[Node, list[Freeze]]:
    """The section with what stands in these slots frozen, and those of the freezes that found nothing with weights."""
    vain = []
    for entry in freezes:
        if slot_size(node, entry.slot) == 0:
            vain.append(entry)
        node = _freeze(node, entry.slot, everything=entry.slot == "layer")
    return node, vain


def _freeze(node: Node, slot: str, everything: bool) -> Node:
    if not isinstance(node, Group):
        return node
    return replace(node, parts=tuple(_freeze_part(part, slot, everything) for part in node.parts))


def _freeze_part(part: Part, slot: str, everything: bool) -> Part:
    hit = everything or slot in part.slots
    if isinstance(part.node, Group):
        return replace(part, node=_freeze(part.node, slot, hit))
    return replace(part, frozen=part.frozen or (hit and size(part.node) > 0))
