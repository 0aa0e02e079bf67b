"""A difference as rows of words, whichever format shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ablc.blueprint import Node, describe, size, trained_size
from ablc.faults import one_line
from ablc.planning import Plan
from ablc.planning.diff import Diff, diff
from ablc.review.compared import Change, Pair
from ablc.spec.values import show_layers

MEASURES = {
    "params": "parameters",
    "trainable": "trainable",
    "flops_per_token": "forward FLOPs a token",
    "bytes": "bytes of weights",
    "kv_bytes_per_token": "bytes of KV cache a token",
}
Row = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows under columns; the columns in `right` hold numbers."""

    columns: Row
    rows: tuple[Row, ...]
    right: frozenset[str]


def title(pair: Pair) -> str:
    """The name of the file, or both where it has two."""
    if pair.name is not None:
        return one_line(pair.name)
    return one_line(" → ".join(dict.fromkeys(name for name in pair.names if name is not None)))


def changes(change: Change) -> Iterator[tuple[str, Table]]:
    """What stands where, under a heading that is empty where the two models are compared part by part."""
    found = change.diff
    if found is None:
        only = change.after or change.before
        assert only is not None
        yield from _filled("against its base", _own(only.plan))
    elif found.comparable:
        yield from _filled("", found)
    else:  # nothing of one base stands in the other: what each spec changes on its own
        names = (found.before.model, found.after.model)
        headings = ("before", "after") if names[0] == names[1] else (f"no longer on {names[0]}", f"on {names[1]}")
        yield from _filled(headings[0], _own(found.before))
        yield from _filled(headings[1], _own(found.after))


def base(change: Change) -> list[str]:
    """A line where the base is another, and one with the fields of its config that differ; the base of a spec that
    stands alone."""
    found = change.diff
    if found is None:
        return [f"base {planned.plan.model}" for planned in (change.before, change.after) if planned is not None]
    lines = []
    if found.before.model != found.after.model:
        lines.append(f"base {found.before.model} → {found.after.model}")
    if found.config:
        lines.append(", ".join(f"{name} {_value(old)} → {_value(new)}" for name, (old, new) in found.config.items()))
    return lines


def measures(change: Change) -> Table:
    """Before, after and the difference; one column for a spec that stands alone."""
    if change.before is None or change.after is None:
        values = ((name, old if old is not None else new) for name, (old, new) in change.measures.items())
        side = "before" if change.after is None else "after"
        return Table(("", side), tuple((MEASURES[name], f"{value:,}") for name, value in values), frozenset({side}))
    rows = []
    for name, (before, after) in change.measures.items():
        if before != after or not name.startswith("kv"):
            rows.append((MEASURES[name], *compared(before, after)))
    columns = ("", "before", "after", "difference", "%")
    return Table(columns, tuple(rows), frozenset(columns[1:]))


def compared(before: int | None, after: int | None) -> Row:
    """A number before and after, the difference, and how many per cent that is."""
    shown = tuple(f"{value:,}" if value is not None else "" for value in (before, after))
    if before is None or after is None:
        return *shown, "", ""
    if before == after:
        return *shown, "·", "·"
    return *shown, f"{after - before:+,}", f"{100 * (after - before) / before:+.2f}" if before else ""


def others(change: Change) -> Iterator[str]:
    """The recipe and the claims, a line each."""
    yield from settings(change.recipe)
    for claim in change.claims:
        texts = dict.fromkeys(one.claim.text for one in (claim.before, claim.after) if one is not None)
        yield f"{' → '.join(texts)}: {claim.word}"


def settings(recipe: dict[str, tuple[object, object]]) -> Iterator[str]:
    for name, (before, after) in recipe.items():
        yield f"train.{name} {_value(before)} → {_value(after)}"


def summary(pairs: list[Pair]) -> str:
    """How many files there are of each kind."""
    kinds = [pair.status for pair in pairs]
    kinds_told = ("changed", "added", "removed", "broken", "broken as before")
    said = [f"{kinds.count(kind)} {kind}" for kind in kinds_told if kind in kinds]
    same = kinds.count("same model") + kinds.count("same text")
    if same:
        said.append(f"{same} with the same model")
    return f"{len(pairs):,} {'spec' if len(pairs) == 1 else 'specs'}: {', '.join(said)}" if pairs else "no specs"


def _filled(heading: str, found: Diff) -> Iterator[tuple[str, Table]]:
    if rows := tuple(_change_rows(found)):
        columns = ("slot", "before → after", "modules", "parameters")
        yield heading, Table(columns, rows, frozenset(columns[2:]))


def _own(plan: Plan) -> Diff:
    """What a plan changes on its own base."""
    return diff(Plan(plan.name, plan.model, plan.original, plan.original, ()), plan)


def _change_rows(found: Diff) -> Iterator[Row]:
    was, now = found.depth
    for one in found.nodes:
        layers = len(one.layers or (0,))
        slot = one.slot + (show_layers(one.layers, max(was, now)) if one.layers is not None else "")
        sides = zip((one.before, one.after), one.frozen, strict=True)
        said = " → ".join(describe(node) + _frozen(node, frozen) for node, frozen in sides)
        yield slot, said, str(layers * len(one.paths)), _signed(layers * one.params)
    if was != now:
        deeper = found.after if now > was else found.before
        added = deeper.blueprint.layers[min(was, now) :]
        total = sum(map(size, added))
        said = "nothing → layer" if now > was else "layer → nothing"
        yield f"layer[{min(was, now)}:{max(was, now)}]", said, str(len(added)), _signed(total if now > was else -total)
    for frozen in found.freezings:
        slot = frozen.slot + (show_layers(frozen.layers, max(was, now)) if frozen.layers is not None else "")
        said = "trained → frozen" if frozen.frozen else "frozen → trained"
        count = len(frozen.paths) * len(frozen.layers or (0,))
        yield slot, said, str(count), f"{_signed(frozen.trainable)} trained"


def _frozen(node: Node, frozen: bool) -> str:
    """What is to be added to a node's words."""
    trained, held = 0 if frozen else trained_size(node), size(node)
    if trained == held:
        return ""
    return ", partly frozen" if trained else ", frozen"


def _signed(value: int) -> str:
    return f"{value:+,}" if value else "0"


def _value(value: object) -> str:
    """As the language writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "unset" if value is None else str(value)
