"""This claim about a run can't hold, whatever the run does.

A loss is never below 0, a perplexity never below 1, and no number is less than itself. Claims that the plan decides
need no such lint: they are decided, and one that fails is an error.

```abl
model = "EleutherAI/pythia-70m"
expect perplexity < 1
```

```text
warning[impossible-claim]: no run can fulfil this: `perplexity` is never below 1
 --> example.abl:2:21
  |
2 | expect perplexity < 1
  |                     ^
```

Correct the number, or the relation.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from ablc.faults import Fault
from ablc.lints.lint import Subject, lint
from ablc.spec import Claim
from ablc.spec.claims import RUN_MEASURES

LEAST = {"perplexity": Fraction(1)}  # of any other measure of a run it is 0


@lint
def impossible_claim(subject: Subject) -> Iterator[Fault]:
    claims = {claim.span: claim for planned in subject.variants for claim in planned.spec.claims}
    for claim in claims.values():
        if claim.measure in RUN_MEASURES and (why := _why(subject, claim)) is not None:
            yield Fault("impossible-claim", f"no run can fulfil this: {why}", claim.value, level="warning")


def _why(subject: Subject, claim: Claim) -> str | None:
    least = LEAST.get(claim.measure, Fraction(0))
    largest = _largest(claim)
    if largest is not None and (largest < least or (largest == least and claim.relation == "<")):
        return f"`{claim.measure}` is never below {least}"
    if claim.reference is not None and _is_itself(subject, claim) and not _holds_of_itself(claim):
        return "the spec is compared with itself"
    return None


def _largest(claim: Claim) -> Fraction | None:
    """The largest number that a claim allows, None where it sets no bound that is known now. Another spec's measure
    is at least 0, so a factor that isn't positive bounds it."""
    if claim.relation in (">", ">="):
        return None
    if claim.reference is not None:
        return Fraction(0) if claim.factor <= 0 and claim.tolerance is None else None
    return claim.factor + (claim.tolerance or 0) * abs(claim.factor)


def _is_itself(subject: Subject, claim: Claim) -> bool:
    """Whether a claim names the file that it stands in. Variants of a family may well be compared with each other."""
    source = claim.span.source
    named, own = source.folder / str(claim.reference), Path(subject.source.name)
    return len(subject.variants) == 1 and named.name == own.name and named.resolve() == own.resolve()


def _holds_of_itself(claim: Claim) -> bool:
    """Whether x stands in this relation to `factor` · x, for an x above 0."""
    match claim.relation:
        case "<":
            return claim.factor > 1
        case ">":
            return claim.factor < 1
        case "<=":
            return claim.factor >= 1
        case ">=":
            return claim.factor <= 1
        case "==":
            return claim.factor == 1
    return abs(1 - claim.factor) <= (claim.tolerance or 0) * abs(claim.factor)
