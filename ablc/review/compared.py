"""Two states of a spec side by side: what changes in the model, in its numbers, its recipe and its claims."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ablc.blueprint.measures import MEASURES
from ablc.pipeline import Compiled, Planned
from ablc.planning.diff import Diff, diff, differing
from ablc.planning.verdicts import Verdict

Status = Literal["changed", "same model", "same text", "added", "removed", "broken", "broken as before"]


@dataclass(frozen=True)
class ClaimChange:
    """A claim before and after; None on the side that doesn't make it. `word` is what became of it."""

    before: Verdict | None
    after: Verdict | None

    @property
    def word(self) -> str:
        if self.after is None:
            return "no longer claimed"
        now = self.after.word
        if self.before is None or self.before.claim.text != self.after.claim.text:
            return now
        return {"fails": "stopped holding", "holds": "holds now"}.get(now, now)


@dataclass(frozen=True)
class Change:
    """A model in two states. One side is None where the other stands alone: a spec or variant that was added or
    removed, or whose other state is broken."""

    before: Planned | None
    after: Planned | None

    @cached_property
    def diff(self) -> Diff | None:
        if self.before is None or self.after is None:
            return None
        return diff(self.before.plan, self.after.plan)

    @property
    def name(self) -> str:
        """What tells it from the others of its file: the variant, both where they differ, else nothing."""
        variants = [planned.spec.variant for planned in (self.before, self.after) if planned is not None]
        return " → @".join(dict.fromkeys(variant for variant in variants if variant))

    @cached_property
    def measures(self) -> dict[str, tuple[int | None, int | None]]:
        """Every dry-run measure before and after."""
        plans = [planned.plan if planned is not None else None for planned in (self.before, self.after)]
        values = [{name: read(plan.blueprint) for name, read in MEASURES.items()} if plan else {} for plan in plans]
        return {name: (values[0].get(name), values[1].get(name)) for name in MEASURES}

    @cached_property
    def recipe(self) -> dict[str, tuple[Any, Any]]:
        """The recipe keys that the spec sets otherwise."""
        before, after = (planned.spec.train if planned is not None else {} for planned in (self.before, self.after))
        return differing(before, after)

    @cached_property
    def claims(self) -> list[ClaimChange]:
        """The claims that were added, changed, taken away, or decided otherwise; none of a spec that is gone."""
        if self.after is None:
            return []
        return list(_claims(self.before.verdicts if self.before is not None else (), self.after.verdicts))

    @property
    def fails(self) -> str:
        """What is wrong with the claims after the change, in a few words; nothing where all hold or need runs."""
        words = {claim.word for claim in self.claims}
        return next((word for word in ("stopped holding", "fails") if word in words), "")

    @cached_property
    def is_same(self) -> bool:
        """Whether nothing at all changes but the text."""
        found = self.diff
        return found is not None and found.same_model and not (self.recipe or self.claims or self.moves)

    @property
    def moves(self) -> bool:
        """Whether a measure changes, as bytes do with the dtype though the model is the same."""
        found = self.diff
        known = found is not None and found.same_model and not found.config  # then none can
        return not known and any(before != after for before, after in self.measures.values())


@dataclass(frozen=True)
class Pair:
    """A file in two states, None where it isn't there. Neither is looked at where the `same_text` means the same, or
    was `broken_before` in the same words. `name` is what both are called where they are states of one file."""

    before: Compiled | None
    after: Compiled | None
    same_text: bool = False
    broken_before: bool = False
    name: str | None = None

    @property
    def names(self) -> tuple[str | None, str | None]:
        return tuple(one.file if one is not None else None for one in (self.before, self.after))  # type: ignore[return-value]

    @cached_property
    def status(self) -> Status:
        if self.same_text:
            return "same text"
        if self.broken_before:
            return "broken as before"
        if any(one is not None and not one.ok for one in self._sides()):
            return "broken"
        if self.before is None or self.after is None:
            return "removed" if self.after is None else "added"
        same = not self.recipe and all(change.is_same for change in self.changes)
        return "same model" if same else "changed"

    @property
    def is_broken_in_both(self) -> bool:
        return all(one is not None and not one.ok for one in self._sides())

    @cached_property
    def changes(self) -> list[Change]:
        """By variant, in the order of the second state, then those that it no longer has. The order of `vary`
        statements doesn't tell two apart, nor does a name where the models are the same."""
        before, after = ({_values(one): one for one in side.variants} if side else {} for side in self._sides())
        if len(before) == len(after) == 1:  # one that became a family of one is still that one
            return [Change(*before.values(), *after.values())]
        gone = {one.plan.fingerprint: label for label, one in before.items() if label not in after}
        found = []
        for label, planned in after.items():
            same = label if label in before else gone.pop(planned.plan.fingerprint, None) if gone else None
            found.append(Change(before.pop(same) if same is not None else None, planned))
        return found + [Change(planned, None) for planned in before.values()]

    @cached_property
    def recipe(self) -> dict[str, tuple[Any, Any]]:
        """Where the file is a recipe: the keys that it sets otherwise."""
        recipes = [side.recipe if side is not None else None for side in self._sides()]
        if recipes[0] is None and recipes[1] is None:
            return {}
        return differing(recipes[0] or {}, recipes[1] or {})

    def _sides(self) -> tuple[Compiled | None, Compiled | None]:
        return self.before, self.after


def _values(planned: Planned) -> tuple[str, ...]:
    """What tells a variant from the others of its family, whatever the order of its `vary` statements."""
    return tuple(sorted((planned.spec.variant or "").split(",")))


def _claims(before: tuple[Verdict, ...], after: tuple[Verdict, ...]) -> Iterator[ClaimChange]:
    """Claims in the same words are one; of those left over, claims about the same measure are one that changed."""
    old = {verdict.claim.text: verdict for verdict in before}
    new = {verdict.claim.text: verdict for verdict in after}
    gone = [verdict for text, verdict in old.items() if text not in new]
    for text, verdict in new.items():
        earlier = old.get(text)
        if earlier is None:
            earlier = next((one for one in gone if one.claim.measure == verdict.claim.measure), None)
            if earlier is not None:
                gone.remove(earlier)
        if earlier is None or earlier.claim.text != text or earlier.holds != verdict.holds:
            yield ClaimChange(earlier, verdict)
    for verdict in gone:
        yield ClaimChange(verdict, None)
