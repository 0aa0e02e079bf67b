"""This spec is the same model, trained by the same recipe, as another one that is checked with it.

Compared is what is built and what is set for training, not the text: names, claims, and the words that say it may
differ. Two variants of a family are told where a `vary` makes no difference between them.

```abl first.abl
model = "EleutherAI/pythia-70m"
mlp[0:6] = lora(8)
```

```abl
model = "EleutherAI/pythia-70m"
mlp = lora(8)
```

```text
warning[same-model]: this spec is the same model, with the same recipe, as first.abl
 --> example.abl:1:1
  |
1 | model = "EleutherAI/pythia-70m"
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
```

Was one of the two meant to be different? If not, one is enough; `extends` gives one model a second name on purpose,
and then the warning can be allowed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from ablc.blueprint.measures import params
from ablc.faults import Fault, Span
from ablc.language import tree
from ablc.lints.lint import Subject, lint_together
from ablc.pipeline import Planned

Named = tuple[Subject, str | None]


@lint_together
def same_model(subjects: Sequence[Subject]) -> Iterator[Fault]:
    distinct = list({(subject.source.name, subject.source.text): subject for subject in subjects}.values())
    pairs: dict[tuple[int, int], list[tuple[Named, Named]]] = defaultdict(list)
    for alike in _alike(distinct):
        for number, (subject, label) in enumerate(alike[1:], start=1):
            earlier = next((one for one in alike[:number] if one[0] is subject), alike[0])
            pairs[id(subject), id(earlier[0])].append(((subject, label), earlier))
    for found in pairs.values():
        yield _fault(found)


def _alike(subjects: Sequence[Subject]) -> Iterator[list[Named]]:
    """Variants that are equal in effect, in the order they were given; only groups of more than one. What the numbers
    tell apart needs no fingerprint."""
    roughly: dict[object, list[tuple[Subject, Planned]]] = defaultdict(list)
    for subject in subjects:
        for planned in subject.variants:
            recipe = repr(sorted(planned.spec.train.items()))
            roughly[planned.spec.model, params(planned.plan.blueprint), recipe].append((subject, planned))
    for candidates in roughly.values():
        exactly: dict[str, list[Named]] = defaultdict(list)
        for subject, planned in candidates if len(candidates) > 1 else ():
            exactly[planned.plan.fingerprint].append((subject, planned.spec.variant))
        yield from (alike for alike in exactly.values() if len(alike) > 1)


def _fault(pairs: Sequence[tuple[Named, Named]]) -> Fault:
    (subject, label), (earlier, earlier_label) = pairs[0]
    more = f"; so it is with {len(pairs) - 1} more" if len(pairs) > 1 else ""
    if subject is earlier:
        who, than = f"the variant {label}", f"the variant {earlier_label}"
    else:
        who = f"the variant {label}" if label else "this spec"
        than = earlier.source.name + (f"@{earlier_label}" if earlier_label else "")
    message = f"{who} is the same model, with the same recipe, as {than}{more}"
    return Fault("same-model", message, _place(subject, family=label is not None), level="warning")


def _place(subject: Subject, family: bool) -> Span:
    """Where a file says what it is: its `vary`, its name, its base, or its beginning."""
    by_kind = {type(statement.node): statement.span() for statement in reversed(subject.tree.statements)}
    kinds = (*([tree.Vary] if family else []), tree.Metadata, tree.Model)
    return next((by_kind[kind] for kind in kinds if kind in by_kind), Span(subject.source, 0, 1))
