"""What each statement does to the number of parameters, beside it; and an outline of the statements."""

from __future__ import annotations

from dataclasses import dataclass

from ablc.blueprint.measures import params
from ablc.language import tree
from ablc.language.printer import show
from ablc.language.tree import Statement, StatementNode
from ablc.lsp.analysis import Analysis
from ablc.lsp.hover import changes_of


@dataclass(frozen=True)
class Hint:
    """A text to show at a place that isn't in the document."""

    offset: int
    label: str
    tooltip: str


@dataclass(frozen=True)
class Symbol:
    """One statement in the outline: its left side, its right side, and what kind of statement it is."""

    name: str
    detail: str
    kind: str
    start: int
    end: int


def hints(analysis: Analysis, start: int, end: int) -> list[Hint]:
    """The hints of the statements that end between two places."""
    if analysis.planned is None:
        return []
    found = []
    for statement in analysis.file.statements:
        place = analysis.ends.get(statement.offset, statement.span().end)
        if start <= place <= end and (said := _said(analysis, statement)) is not None:
            found.append(Hint(place, said[0], said[1] + _variant(analysis)))
    return found


def _said(analysis: Analysis, statement: Statement) -> tuple[str, str] | None:
    if isinstance(statement.node, tree.Model) or _brings_the_model(analysis, statement):
        return _total(analysis)
    if not isinstance(statement.node, tree.Assign | tree.Freeze):
        return None
    changes = changes_of(analysis, statement)
    added, trained = sum(one.params for one in changes), sum(one.trainable for one in changes)
    if added:
        return f"{added:+,}", "difference in parameters"
    return (f"{trained:+,} trained", "difference in trained parameters") if trained else None


def _brings_the_model(analysis: Analysis, statement: Statement) -> bool:
    """Whether this is the last `extends` of a document whose base model another file names."""
    said = analysis.found.model
    if not isinstance(statement.node, tree.Extends) or said is None or analysis.program.is_own(said):
        return False
    return statement == [one for one in analysis.file.statements if isinstance(one.node, tree.Extends)][-1]


def _total(analysis: Analysis) -> tuple[str, str]:
    assert analysis.planned is not None
    plan = analysis.planned.plan
    base, here = params(plan.original), params(plan.blueprint)
    if base == here:
        return f"{here:,} parameters", f"of {plan.model}"
    return f"{here:,} parameters", f"{base:,} in {plan.model}, {100 * (here - base) / base:+.2f} %"


def _variant(analysis: Analysis) -> str:
    return f"; in {analysis.labels[0]}" if analysis.labels else ""


def symbols(analysis: Analysis) -> list[Symbol]:
    """The statements in text order."""
    return [_symbol(analysis, statement) for statement in analysis.file.statements]


def _symbol(analysis: Analysis, statement: Statement) -> Symbol:
    name, detail, kind = _outlined(statement.node)
    end = analysis.ends.get(statement.offset, statement.span().end)
    return Symbol(name or "?", detail, kind, statement.offset, end)


def _outlined(node: StatementNode) -> tuple[str, str, str]:
    """Left side, right side and kind of a statement."""
    match node:
        case tree.Metadata():
            return node.key, show(node.value), "text"
        case tree.Model():
            return "model", show(node).partition(" = ")[2], "model"
        case tree.Extends():
            return "extends", show(node.path), "file"
        case tree.Vary():
            return f"vary {node.name.name}", ", ".join(map(show, node.values)), "name"
        case tree.Freeze():
            return show(node), "", "freeze"
        case tree.Train():
            return f"train.{node.key.name}", show(node.value), "key"
        case tree.Expect():
            return show(node), "", "claim"
    return ", ".join(map(show, node.targets)), show(node.call), "slot"
