"""What `expect` may claim, and claims with their measures and values looked up."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from ablc.blueprint import Blueprint
from ablc.blueprint.measures import MEASURES, SLOT_MEASURES
from ablc.blueprint.slots import SlotProblem, check_slot, slots_of
from ablc.faults import Fault, did_you_mean
from ablc.language import tree
from ablc.language.tree import Statement
from ablc.spec.gather import Program
from ablc.spec.model import Claim
from ablc.spec.values import exact

RUN_MEASURES = ("eval_loss", "perplexity", "bits_per_byte", "tokens_per_second")


def resolve_claims(program: Program, blueprint: Blueprint, faults: list[Fault]) -> Iterator[Claim]:
    """The claims of the file itself; those of an extended file are about that file."""
    for statement in program.of(tree.Expect):
        node = statement.node
        if program.is_own(statement) and isinstance(node, tree.Expect):
            problem = _measure_problem(statement, node.measure, blueprint)
            claim = _claim(statement, node)
            if problem is not None:
                faults.append(problem)
            elif claim is None:
                message = 'a claim compares with a number, with "other.abl", or with 1.3 * "other.abl"'
                faults.append(Fault("bad-claim", message, statement.span(node.value)))
            else:
                yield claim


def _claim(statement: Statement, node: tree.Expect) -> Claim | None:
    factor, reference = _claim_value(node.value)
    if factor is None:
        return None
    tolerance = exact(node.tolerance) if node.tolerance is not None else None
    return Claim(
        text=" ".join(statement.span().text.split()),
        measure=node.measure.name,
        relation=node.relation,  # type: ignore[arg-type]
        factor=factor,
        reference=reference,
        tolerance=tolerance / 100 if tolerance is not None else None,
        span=statement.span(),
        value=statement.span(node.value),
    )


def _measure_problem(statement: Statement, measure: tree.Dotted, blueprint: Blueprint) -> Fault | None:
    first, _, slot = measure.name.partition(".")
    place = statement.span(measure)
    if measure.name in MEASURES or measure.name in RUN_MEASURES:
        return None
    if first not in SLOT_MEASURES or not slot:
        known = [*MEASURES, *RUN_MEASURES, *(f"{name}.SLOT" for name in SLOT_MEASURES)]
        help = did_you_mean(measure.name, known, "measures")
        return Fault("unknown-measure", f"there is no measure `{measure.name}`", place, help)
    try:
        check_slot(slot, blueprint)
    except SlotProblem as problem:
        return Fault(problem.code, problem.message, place, problem.help)
    if first == "layers" and slot in slots_of(blueprint).single:
        return Fault("no-layers", f"`{slot}` has no layers", place, f"`params.{slot}` counts its weights")
    return None


def _claim_value(node: tree.Value) -> tuple[Fraction | None, str | None]:
    """The number of a claim, and the spec it is multiplied with; (None, None) for what isn't a claim's value."""
    if isinstance(node, tree.String):
        return Fraction(1), node.value
    if isinstance(node, tree.Binary) and node.operator == "*":
        for number, text in ((node.left, node.right), (node.right, node.left)):
            if isinstance(text, tree.String):
                return exact(number), text.value
    return exact(node), None
