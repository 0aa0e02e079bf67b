"""What a spec says at a place, in Markdown: what stands there in the base, what a word means, what a statement does."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from ablc.blueprint import Blueprint
from ablc.blueprint.measures import measure, params, slot_params
from ablc.blueprint.slots import SlotProblem, check_slot, slots_of
from ablc.language import tree
from ablc.language.printer import show
from ablc.language.tree import Statement
from ablc.lsp.analysis import Analysis
from ablc.lsp.cursor import Cursor, cursor, keyword
from ablc.lsp.fit import fits, stands
from ablc.lsp.words import KEYWORD_TEXTS, MEASURE_TEXTS, argument_text, recipe_text
from ablc.ops import operation, operations
from ablc.planning import Change
from ablc.spec.claims import RUN_MEASURES
from ablc.spec.values import show_layers


@dataclass(frozen=True)
class Hover:
    """Markdown about some characters of the document."""

    start: int
    end: int
    text: str


def hover(analysis: Analysis, offset: int) -> Hover | None:
    """What is worth knowing of the word at a place and of its statement; None where nothing is."""
    at = cursor(analysis, offset)
    if at is None:
        return None
    word = keyword(at, offset)
    about_word = KEYWORD_TEXTS.get(word or "") or _about(analysis, at)
    texts = [text for text in (about_word, _effect(analysis, at.statement)) if text]
    if not texts:
        return None
    span = at.span() if at.narrowest is not at.parts[0] else at.statement.span()
    if word:
        return Hover(at.statement.offset, at.statement.offset + len(word), "\n\n---\n\n".join(texts))
    return Hover(span.start, span.end, "\n\n---\n\n".join(texts))


# --- words -----------------------------------------------------------------------------------------------------------


def _about(analysis: Analysis, at: Cursor) -> str | None:
    """What the word at the cursor means where it stands."""
    node, narrowest = at.statement.node, at.narrowest
    if isinstance(narrowest, tree.Dotted) and at.around(tree.Override) is not None:
        return _field(analysis, narrowest.name)
    if isinstance(narrowest, tree.Dotted) and isinstance(node, tree.Expect):
        return _measure(analysis, narrowest.name)
    if isinstance(narrowest, tree.Dotted):
        return _slot(analysis, narrowest.name)
    if isinstance(narrowest, tree.Word):
        return _word(analysis, at, narrowest)
    return None


def _word(analysis: Analysis, at: Cursor, word: tree.Word) -> str | None:
    node, call, argument = at.statement.node, at.around(tree.Call), at.around(tree.Argument)
    if call is not None and word is call.operation:
        return _operation(word.name)
    if call is not None and argument is not None and word is argument.keyword:
        return _argument(call.operation.name, word.name)
    if isinstance(node, tree.Train) and word is node.key:
        return recipe_text(word.name)
    if word.name in analysis.found.vary:
        return _vary(analysis.found.vary[word.name])
    if word.name == "layer" and argument is not None:
        return "`layer`: the index of the layer at hand, from 0"
    return _field(analysis, word.name)


def _slot(analysis: Analysis, slot: str) -> str | None:
    """What stands in a slot of the untouched base, and what may stand there instead."""
    if analysis.original is None:
        return None
    base = analysis.original.blueprint
    try:
        check_slot(slot, base)
    except SlotProblem as problem:
        return "\n\n".join(text for text in (problem.message, problem.help) if text)
    single = slot in slots_of(base).single
    where = "outside the layers" if single else f"in each of {len(base.layers)} layers"
    others = ", ".join(f"`{name}`" for name in fits(base, slot) if name != "full")
    lines = [
        f"**{slot}** of {analysis.original.name}: {stands(base, slot)}, {where}; {slot_params(base, slot):,} parameters"
    ]
    return "\n\n".join([*lines, *([f"may become {others}"] if others else [])])


def _operation(name: str) -> str | None:
    if name not in operations():
        return None
    op = operation(name)
    text, _, example = op.doc.partition("\n\n")
    code = f"\n\n```python\n{textwrap.dedent(example).strip()}\n```" if example else ""
    return f"```abl\n{op.signature()}\n```\n\n{' '.join(text.split())}{code}"


def _argument(name: str, argument: str) -> str | None:
    if name not in operations():
        return None
    found = next((parameter for parameter in operation(name).parameters if parameter.name == argument), None)
    return f"**{argument}** of `{name}`: {argument_text(found)}" if found is not None else None


def _vary(statement: Statement) -> str | None:
    if not isinstance(statement.node, tree.Vary):
        return None
    return f"**{statement.node.name.name}** is one of {', '.join(f'`{show(v)}`' for v in statement.node.values)}"


def _field(analysis: Analysis, name: str) -> str | None:
    """A field of the base config: its value as published, and what an override makes of it."""
    original = analysis.original
    if original is None:
        return None
    now = _dig(original.blueprint.config, name)
    before = original.fields.get(name, now)
    if now is None and before is None:
        return None
    text = f"**{name}** of {original.name} is `{before}`"
    return text if name not in original.overrides else f"{text}; here `{original.overrides[name]}`"


def _dig(config: object, name: str) -> object:
    for step in name.split("."):
        config = config.get(step) if hasattr(config, "get") else None
    return config


def _measure(analysis: Analysis, name: str) -> str | None:
    """What a claim is about, and how much it is here."""
    first, _, slot = name.partition(".")
    meaning = MEASURE_TEXTS.get(f"{first}.SLOT" if slot else name)
    if meaning is None:
        return None
    text = f"**{name}**: {meaning}"
    if analysis.planned is None or name in RUN_MEASURES:
        return text
    plan = analysis.planned.plan
    value = measure(name, plan.blueprint, plan.original)
    return (
        f"{text}\n\n{value:,}{_in_variant(analysis)}; the base model's {measure(name, plan.original, plan.original):,}"
    )


# --- statements ------------------------------------------------------------------------------------------------------


def _effect(analysis: Analysis, statement: Statement) -> str | None:
    """What a statement does to the model of the first variant."""
    node = statement.node
    if isinstance(node, tree.Model):
        return _model(analysis)
    if isinstance(node, tree.Extends):
        return _extends(analysis, node)
    if isinstance(node, tree.Expect):
        return _claim(analysis, statement)
    if not isinstance(node, tree.Assign | tree.Freeze) or analysis.planned is None:
        return None
    changes = changes_of(analysis, statement)
    if not changes:
        return f"changes nothing{_in_variant(analysis)}"
    depth = len(analysis.planned.plan.original.layers)
    lines = [line for change in changes for line in _change(change, depth)]
    return "\n".join(lines) + (f"\n\n{_in_variant(analysis).strip()}" if analysis.labels else "")


def changes_of(analysis: Analysis, statement: Statement) -> list[Change]:
    """The lines of the plan that are a statement's."""
    if analysis.planned is None:
        return []
    span = statement.span()
    said = (analysis.source.name, span.line, " ".join(span.text.split()))
    return [one for one in analysis.planned.plan.changes if (one.file, one.line, one.statement) == said]


def _change(change: Change, depth: int) -> Iterator[str]:
    layers = show_layers(change.layers, depth) if change.layers is not None else ""
    yield f"- `{change.slot}{layers}`: {change.before} → {change.after}"
    if change.matched:
        modules = f"{change.matched} module{'' if change.matched == 1 else 's'}"
        yield f"  {modules}{_where(change, depth)}, {difference(change)}"
    for erased in change.erased:
        yield f"- takes back {erased}"


def _where(change: Change, depth: int) -> str:
    return "" if change.layers is None else f" in {len(change.layers)} of {depth} layers"


def difference(change: Change) -> str:
    """The difference in parameters, or in trained ones where that is another."""
    return f"{change.params:+,} parameters" if change.params == change.trainable else f"{change.trainable:+,} trained"


def _model(analysis: Analysis) -> str | None:
    original = analysis.original
    if original is None:
        return None
    base: Blueprint = original.blueprint
    text = f"**{original.name}**: {original.family}, {params(base):,} parameters, {len(base.layers)} layers"
    if analysis.planned is None:
        return text
    return f"{text}\n\nhere {params(analysis.planned.plan.blueprint):,} parameters{_in_variant(analysis)}"


def _extends(analysis: Analysis, node: tree.Extends) -> str | None:
    said = [statement for statement in analysis.program.statements if not analysis.program.is_own(statement)]
    return f"brings in what `{node.path.value}` says" if said else None


def _claim(analysis: Analysis, statement: Statement) -> str | None:
    """Whether a claim holds."""
    for verdict in analysis.planned.verdicts if analysis.planned is not None else ():
        if verdict.claim.span == statement.span():
            return f"{verdict.word}{_in_variant(analysis)}"
    return None


def _in_variant(analysis: Analysis) -> str:
    return f" in {analysis.labels[0]}, the first of {len(analysis.labels)} variants" if analysis.labels else ""
