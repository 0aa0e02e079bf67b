"""This freezes what another `freeze` of the spec freezes already: taken out, it changes nothing.

```abl
model = "EleutherAI/pythia-70m"
freeze attention
freeze attention.qkv[3:]
```

```text
warning[frozen-twice]: what `attention.qkv[3:]` freezes is frozen by another `freeze` already
 --> example.abl:3:8
  |
3 | freeze attention.qkv[3:]
  |        ^^^^^^^^^^^^^^^^^
  help: take it out
```

Take the narrower one out: `ablc check --fix` does.
"""

from __future__ import annotations

from collections.abc import Iterator

from ablc.blueprint.measures import frozen_in
from ablc.faults import Fault, Span
from ablc.lints.lint import Subject, mended_lint
from ablc.pipeline import Planned

Places = frozenset[tuple[int | None, str]]


@mended_lint
def frozen_twice(subject: Subject) -> Iterator[Fault]:
    if any(len(planned.spec.freezes) < 2 for planned in subject.variants):
        return
    needless = set.intersection(*(_needless(planned) for planned in subject.variants))
    for span in sorted((span for span in needless if subject.is_own(span)), key=lambda span: span.start):
        message = f"what `{' '.join(span.text.split())}` freezes is frozen by another `freeze` already"
        yield Fault("frozen-twice", message, span, "take it out", "warning")


def _needless(planned: Planned) -> set[Span]:
    """The targets without which the others freeze as much; of two that freeze the same it is the later one."""
    covered: dict[Span, Places] = {}
    for freeze in planned.spec.freezes:
        covered[freeze.span] = frozenset(frozen_in(planned.plan.blueprint, freeze.slot, freeze.layers))
    how_often: dict[tuple[int | None, str], int] = {}
    for places in covered.values():
        for place in places:
            how_often[place] = how_often.get(place, 0) + 1
    needless: set[Span] = set()
    for span, places in reversed(covered.items()):
        if places and all(how_often[place] > 1 for place in places):
            needless.add(span)
            for place in places:
                how_often[place] -= 1
    return needless
