"""Decides claims: what the dry run can decide it decides now, what needs runs says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from ablc.blueprint.measures import measure
from ablc.faults import Fault
from ablc.planning.plan import Plan
from ablc.spec import Claim
from ablc.spec.claims import RUN_MEASURES

# The plans of the spec that a claim names; given the claim and a place for faults.
Lookup = Callable[[Claim, list[Fault]], Plan | None]


@dataclass(frozen=True)
class Verdict:
    """`holds` is None where runs are needed; `expected` is the number compared with, exact."""

    claim: Claim
    holds: bool | None
    actual: int | None
    expected: Fraction | None

    @property
    def word(self) -> str:
        return {True: "holds", False: "fails", None: "needs runs"}[self.holds]


def decide(claim: Claim, plan: Plan, lookup: Lookup, faults: list[Fault]) -> Verdict | None:
    """The verdict on a claim about a plan; None where the spec it compares with has faults."""
    expected = claim.factor
    other = None
    if claim.reference is not None and (other := lookup(claim, faults)) is None:
        return None
    if claim.measure in RUN_MEASURES:
        return Verdict(claim, None, None, None)
    if other is not None:
        expected *= measure(claim.measure, other.blueprint, other.original)
    actual = measure(claim.measure, plan.blueprint, plan.original)
    return Verdict(claim, _holds(actual, claim, expected), actual, expected)


def _holds(actual: int, claim: Claim, expected: Fraction) -> bool:
    match claim.relation:
        case "==":
            return actual == expected
        case "<":
            return actual < expected
        case "<=":
            return actual <= expected
        case ">":
            return actual > expected
        case ">=":
            return actual >= expected
    assert claim.tolerance is not None
    return abs(actual - expected) <= claim.tolerance * abs(expected)


def failure(verdict: Verdict, variant: str | None) -> Fault:
    """A failed claim as a fault: expected, actual, difference, and for `==` the corrected line."""
    claim = verdict.claim
    assert verdict.actual is not None and verdict.expected is not None
    difference = verdict.actual - verdict.expected
    where = f" in {variant}" if variant else ""
    relation = claim.relation if claim.tolerance is None else f"within {float(100 * claim.tolerance):g}% of"
    message = (
        f"`{claim.measure}`{where} is {verdict.actual:,}; expected {relation} {_number(verdict.expected)}, "
        f"a difference of {_number(difference, sign=True)}"
    )
    corrected = claim.relation == "==" and claim.reference is None
    help = f"expect {claim.measure} == {verdict.actual:_}" if corrected else None
    return Fault("claim-fails", message, claim.value, help)


def _number(value: Fraction, sign: bool = False) -> str:
    shown = int(value) if value.denominator == 1 else float(value)
    return f"{shown:+,}" if sign else f"{shown:,}"
