"""Spec to `Plan`: the blueprint after the rewrites, with what changed where and which statement did it."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from ablc.blueprint import Blueprint, Chain, Layers, Node, describe, size
from ablc.blueprint.as_json import decode_blueprint, encode_blueprint, structure
from ablc.blueprint.compare import Difference, compare
from ablc.blueprint.measures import frozen_in
from ablc.families import family
from ablc.faults import Fault, Span
from ablc.planning.rewrite import Section, freeze, rewrite
from ablc.spec import Edit, Freeze, Spec
from ablc.spec.values import show_layers

FORMAT_VERSION = "1.0"


@dataclass(frozen=True)
class Change:
    """One line of a plan. `matched` counts the modules, `params` is the difference in parameters, `trainable` that
    in trained ones; `erased` lists the earlier statements (file:line and text) that this one took back, with the
    layers."""

    slot: str
    layers: Layers
    before: str
    after: str
    matched: int
    params: int
    trainable: int
    file: str
    line: int
    statement: str
    erased: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is to be built, and how it differs from the base. Plain data; `to_json` and `from_json` are inverse."""

    name: str
    model: str
    original: Blueprint
    blueprint: Blueprint
    changes: tuple[Change, ...]

    @cached_property
    def fingerprint(self) -> str:
        """Equal exactly when the models are."""
        return fingerprint(self.blueprint)

    def to_json(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "original": encode_blueprint(self.original),
            "blueprint": encode_blueprint(self.blueprint),
            "changes": [asdict(change) for change in self.changes],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The plan that `to_json` wrote. Raises ValueError where it isn't one, or was changed by hand."""
        if not isinstance(data, Mapping):
            raise ValueError("this is no plan: it isn't an object")
        if data.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"this plan has format_version {data.get('format_version')}, not {FORMAT_VERSION}")
        try:
            original, blueprint = (decode_blueprint(data[key]) for key in ("original", "blueprint"))
            plan = cls(data["name"], data["model"], original, blueprint, tuple(map(_change, data["changes"])))
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no plan: {error!r}") from error
        if plan.fingerprint != data.get("fingerprint"):
            raise ValueError("this plan doesn't match its fingerprint: it was changed after it was written")
        return plan


def fingerprint(blueprint: Blueprint) -> str:
    """Equal exactly when the models are: names, hub ids and the statements' places are left out."""
    config = family(blueprint.family).computing(blueprint.config)
    content = {**structure(blueprint), "config": {name: _as_floats(value) for name, value in config.items()}}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _change(data: Mapping[str, Any]) -> Change:
    layers = None if data["layers"] is None else tuple(data["layers"])
    return Change(**{**data, "layers": layers, "erased": tuple(data["erased"])})


def _as_floats(value: Any) -> Any:
    """A config value with its integers as floats: a base of 10000 and one of 10000.0 are one."""
    if isinstance(value, Mapping):
        return {key: _as_floats(inner) for key, inner in value.items()}
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@dataclass
class _Draft:
    """What the fold leaves behind, before it becomes a plan."""

    spec: Spec
    original: Blueprint
    faults: list[Fault]
    sections: dict[int | None, Section] = field(default_factory=dict)
    vain: dict[Span, list[Freeze]] = field(default_factory=lambda: defaultdict(list))


def make_plan(spec: Spec, original: Blueprint, faults: list[Fault]) -> Plan:
    """Fold the edits over the original, then freeze. Layers that the same edits touch are planned once."""
    draft = _Draft(spec, original, faults)
    folded = _fold(draft)
    frozen = _freeze(draft, folded)
    _report_erased(draft)
    _report_vain_freezes(draft)
    changes = [*_changes(draft, folded), *_freeze_changes(draft, frozen)]
    return Plan(spec.full_name, spec.model, original, frozen, tuple(changes))


def _touching(said: Sequence[Edit | Freeze], depth: int) -> tuple[list[list[int]], list[int]]:
    """For every layer, and for the root, the numbers of the edits that touch it."""
    per_layer: list[list[int]] = [[] for _ in range(depth)]
    root: list[int] = []
    for number, entry in enumerate(said):
        for layer in entry.layers or ():
            per_layer[layer].append(number)
        if entry.layers is None:
            root.append(number)
    return per_layer, root


def _fold(draft: _Draft) -> Blueprint:
    original, edits = draft.original, draft.spec.edits
    per_layer, root = _touching(edits, len(original.layers))
    done: dict[tuple[int, tuple[int, ...]], Section] = {}
    reported: list[Fault] = []
    everywhere = (original.root, original.layers[0])
    for layer, numbers in enumerate(per_layer):
        key = (id(original.layers[layer]), tuple(numbers))
        if key not in done:
            done[key] = rewrite(original.layers[layer], [(n, edits[n]) for n in numbers], everywhere, reported)
        draft.sections[layer] = done[key]
    draft.sections[None] = rewrite(original.root, [(n, edits[n]) for n in root], everywhere, reported)
    draft.faults.extend(dict.fromkeys(reported))
    layers = tuple(draft.sections[layer].node for layer in range(len(original.layers)))
    return replace(original, root=draft.sections[None].node, layers=layers)  # type: ignore[arg-type]


def _freeze(draft: _Draft, folded: Blueprint) -> Blueprint:
    freezes = draft.spec.freezes
    if not freezes:
        return folded
    per_layer, root = _touching(freezes, len(folded.layers))
    done: dict[tuple[int, tuple[int, ...]], tuple[Node, list[Freeze]]] = {}

    def frozen(node: Node, numbers: list[int]) -> Node:
        key = (id(node), tuple(numbers))
        if key not in done:
            done[key] = freeze(node, [freezes[n] for n in numbers])
        for entry in done[key][1]:
            draft.vain[entry.span].append(entry)
        return done[key][0]

    layers = tuple(frozen(node, numbers) for node, numbers in zip(folded.layers, per_layer, strict=True))
    return replace(folded, root=frozen(folded.root, root), layers=layers)  # type: ignore[arg-type]


# --- warnings --------------------------------------------------------------------------------------------------------


def _report_erased(draft: _Draft) -> None:
    """Within one file, a statement whose effect later ones take back in some layers, or in all, deserves a word."""
    had: dict[Span, set[int | None]] = defaultdict(set)
    lost: dict[Span, dict[int | None, Span]] = defaultdict(dict)
    statements: dict[Span, set[Span]] = defaultdict(set)
    for layer, section in draft.sections.items():
        for number, leaves in section.effects.items():
            edit = draft.spec.edits[number]
            if leaves:
                had[edit.span].add(layer)
                statements[edit.statement].add(edit.span)
            eraser = draft.spec.edits[section.erased[number]].statement if number in section.erased else None
            if eraser is not None and eraser.source is edit.statement.source and eraser != edit.statement:
                lost[edit.span][layer] = eraser
    for statement, targets in statements.items():
        gone = [target for target in targets if target in lost]
        if gone:
            _report_lost(draft, statement, sorted(gone, key=lambda t: t.start), len(targets), had, lost)


def _report_lost(
    draft: _Draft,
    statement: Span,
    gone: Sequence[Span],
    targets: int,
    had: Mapping[Span, set[int | None]],
    lost: Mapping[Span, Mapping[int | None, Span]],
) -> None:
    by = sorted({eraser for target in gone for eraser in lost[target].values()}, key=lambda span: span.start)
    lines = f"line {', '.join(str(line) for line in dict.fromkeys(span.line for span in by))}"
    if len(gone) == targets and all(len(lost[target]) == len(had[target]) for target in gone):
        message = f"this statement has no effect: {lines} puts something else there"
    else:
        layers = sorted({layer for target in gone for layer in lost[target] if layer is not None})
        what = "this" if targets == 1 else " and ".join(f"`{target.text}`" for target in gone)
        where = f" in layers {show_layers(tuple(layers))}" if layers else ""
        message = f"{lines} takes {what} back{where}"
    notes = tuple((span, "here") for span in by[:3])
    draft.faults.append(Fault("erased", message, statement, level="warning", related=notes))


def _report_vain_freezes(draft: _Draft) -> None:
    for place, entries in draft.vain.items():
        wanted = len(entries[0].layers or (0,))
        where = "" if len(entries) == wanted else f" in {len(entries)} of its {wanted} layers"
        message = f"there is nothing left to freeze in `{entries[0].slot}`{where}"
        draft.faults.append(Fault("frozen-nothing", message, place, level="warning"))


def _report_large_pair(draft: _Draft, edit: Edit, difference: Difference) -> None:
    if isinstance(difference.after, Chain) and difference.params > 0:
        figures = f"{size(difference.after):,} weights, and what it replaces {size(difference.before):,}"
        fault = Fault("large-pair", f"the pair in `{difference.slot}` holds {figures}", edit.call, level="warning")
        if fault not in draft.faults:
            draft.faults.append(fault)


# --- changes ---------------------------------------------------------------------------------------------------------


def _changes(draft: _Draft, folded: Blueprint) -> Iterable[Change]:
    """One line for each statement, slot and kind of replacement, its layers put together."""
    lines: dict[tuple[Span, str, str, str], list[tuple[Difference, Layers]]] = defaultdict(list)
    for difference in compare(draft.original, folded):
        before, after = describe(difference.before), describe(difference.after)
        for number, layers in _by_owner(draft, difference):
            edit = draft.spec.edits[number]
            lines[edit.statement, difference.slot, before, after].append((difference, layers))
            _report_large_pair(draft, edit, difference)
    erased = _erased_by(draft)
    edits_of: dict[Span, list[Edit]] = defaultdict(list)
    for edit in draft.spec.edits:
        edits_of[edit.statement].append(edit)
    order = {statement: number for number, statement in enumerate(edits_of)}
    for (statement, slot, before, after), entries in sorted(lines.items(), key=lambda item: order[item[0][0]]):
        at = None if entries[0][1] is None else tuple(sorted(layer for _, some in entries for layer in some or ()))
        matched = sum(len(difference.paths) * len(layers or (0,)) for difference, layers in entries)
        params = sum(difference.params * len(layers or (0,)) for difference, layers in entries)
        yield _line(statement, slot, at, before, after, matched, params, params, tuple(erased.pop(statement, ())))
    for statement, taken_back in erased.items():  # one that only put the original back left no difference
        edits = edits_of[statement]
        layers = None if edits[0].layers is None else tuple(sorted({n for e in edits for n in e.layers or ()}))
        yield _line(statement, edits[0].slot, layers, "replaced", "original", 0, 0, 0, tuple(taken_back))


def _by_owner(draft: _Draft, difference: Difference) -> Iterable[tuple[int, Layers]]:
    """The layers of a difference by the edit that made it. Layers planned together have one section, looked at once."""
    if difference.layers is None:
        return [(_owner(draft.sections[None].owner, difference.paths[0]), None)]
    known: dict[int, int] = {}
    found: dict[int, list[int]] = defaultdict(list)
    for layer in difference.layers:
        section = draft.sections[layer]
        if id(section) not in known:
            known[id(section)] = _owner(section.owner, difference.paths[0])
        found[known[id(section)]].append(layer)
    return [(number, tuple(layers)) for number, layers in found.items()]


def _line(
    statement: Span,
    slot: str,
    layers: Layers,
    before: str,
    after: str,
    matched: int,
    params: int,
    trainable: int,
    erased: tuple[str, ...] = (),
) -> Change:
    file, text = statement.source.name, " ".join(statement.text.split())
    return Change(slot, layers, before, after, matched, params, trainable, file, statement.line, text, erased)


def _owner(owner: Mapping[str, int], path: str) -> int:
    """The edit that put something at a path: for a whole, whoever last took over its leaves."""
    if path in owner:
        return owner[path]
    return max(number for leaf, number in owner.items() if not path or leaf.startswith(f"{path}."))


def _erased_by(draft: _Draft) -> dict[Span, list[str]]:
    """For each statement, the earlier ones that it erased, with the layers."""
    found: dict[tuple[Span, Span], list[int]] = defaultdict(list)
    for layer, section in draft.sections.items():
        for number, by in section.erased.items():
            earlier, later = draft.spec.edits[number].statement, draft.spec.edits[by].statement
            if earlier != later:
                found[later, earlier].append(-1 if layer is None else layer)
    result: dict[Span, list[str]] = defaultdict(list)
    for (later, earlier), layers in found.items():
        where = show_layers(tuple(layers), len(draft.original.layers)) if layers != [-1] else ""
        text = " ".join(earlier.text.split())
        result[later].append(f"{earlier.source.name}:{earlier.line} {text}" + (f" in {where}" if where else ""))
    return result


def _freeze_changes(draft: _Draft, frozen: Blueprint) -> Iterable[Change]:
    """One line for each target of a freeze; a module that several freeze counts for the first."""
    seen: set[tuple[int | None, str]] = set()
    for entry in draft.spec.freezes:
        found = frozen_in(frozen, entry.slot, entry.layers)
        new = sum(weights for place, weights in found.items() if place not in seen)
        seen |= found.keys()
        if found:
            yield _line(entry.statement, entry.slot, entry.layers, "trained", "frozen", len(found), 0, -new)
