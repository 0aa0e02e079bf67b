"""The whole way from text to plans, on one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ablc.faults import Fault, Source, Span, did_you_mean, has_errors
from ablc.language.read import is_file, read, shown
from ablc.planning import Plan, make_plan
from ablc.planning.verdicts import Verdict, decide
from ablc.spec import Claim, Spec
from ablc.spec.calls import match_calls
from ablc.spec.gather import gather, is_recipe
from ablc.spec.original import find_original
from ablc.spec.resolve import resolve
from ablc.spec.settings import settings, train_settings, variants
from ablc.spec.values import Names


@dataclass(frozen=True)
class Planned:
    """One variant that could be planned."""

    spec: Spec
    plan: Plan
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class Compiled:
    """All of a file: its planned variants, and every fault. With an error among the faults, `variants` is empty; so it
    is for a recipe, a file that holds `train.…` statements only: then `recipe` has its keys."""

    file: str
    variants: tuple[Planned, ...]
    faults: tuple[Fault, ...]
    recipe: Mapping[str, Any] | None = None

    @property
    def ok(self) -> bool:
        return not has_errors(self.faults)


def compile_source(
    source: Source, path: Path | None = None, *, model: str | None = None, only: str | None = None, claims: bool = True
) -> Compiled:
    """Text to plans: gather → settings → variants → original → resolve → plan → verdicts.

    `model` is the base where the text names none; `only` picks the variant of this label; `claims` decides the
    claims too.
    """
    faults: list[Fault] = []
    program = gather(source, faults, path)
    found = settings(program, faults)
    if model is None and is_recipe(program):
        recipe = train_settings(found, Names({}, {}), faults)
        return Compiled(source.name, (), tuple(faults), recipe)
    calls = match_calls(program, faults)
    planned, labels = [], []
    for variant in variants(program, found, faults):
        labels.append(variant.label or "")
        if only is not None and variant.label != only:
            continue
        original = find_original(program, found, variant, faults, model)
        if original is None:
            train_settings(found, Names(variant.values, {}), faults)  # these can be told without a base
            break
        spec = resolve(program, found, calls, variant, original, faults)
        plan = make_plan(spec, original.blueprint, faults)
        verdicts = tuple(_verdicts(spec, plan, source, faults)) if claims and not has_errors(faults) else ()
        planned.append(Planned(spec, plan, verdicts))
        if has_errors(faults):
            break  # what is wrong in one variant is as a rule wrong in all
    if only is not None and only not in labels and not has_errors(faults):
        faults.append(_unknown_variant(source, only, labels))
    distinct = tuple(sorted(dict.fromkeys(faults), key=_place))
    return Compiled(source.name, () if has_errors(faults) else tuple(planned), distinct)


def compile_file(
    path: Path, *, model: str | None = None, only: str | None = None, claims: bool = True, name: str | None = None
) -> Compiled:
    """A file, or a variant of one (`file.abl@r=8`), to plans; `name` is how it is shown where that isn't its path."""
    file, label = split_variant(path)
    faults: list[Fault] = []
    source = read(file, faults, name=name)
    if source is None:
        return Compiled(name or str(path), (), tuple(faults))
    return compile_source(source, file, model=model, only=only or label, claims=claims)


def split_variant(path: Path) -> tuple[Path, str | None]:
    """`sweep.abl@r=8` as a file and a label. The file ends at the first `@` before which there is one."""
    text = str(path)
    if not is_file(path):
        for place in (i for i, char in enumerate(text) if char == "@"):
            if is_file(Path(text[:place])):
                return Path(text[:place]), text[place + 1 :]
    return path, None


def _unknown_variant(source: Source, label: str, labels: list[str]) -> Fault:
    help = did_you_mean(label, labels, "variants") if any(labels) else "it has no `vary`, and so no variants"
    return Fault("unknown-variant", f"{source.name} has no variant `{label}`", Span(source, 0, 0), help)


def _verdicts(spec: Spec, plan: Plan, source: Source, faults: list[Fault]) -> Iterator[Verdict]:
    for claim in spec.claims:
        verdict = decide(claim, plan, partial(_other, source), faults)
        if verdict is not None:
            yield verdict


def _other(source: Source, claim: Claim, faults: list[Fault]) -> Plan | None:
    """The one plan of the spec that a claim compares with."""
    path = source.folder / str(claim.reference)
    compiled = compile_file(path, claims=False, name=shown(split_variant(path)[0]))
    if compiled.ok and len(compiled.variants) == 1:
        return compiled.variants[0].plan
    errors = [fault for fault in compiled.faults if fault.level == "error"]
    help = None
    if errors:
        reason, help = errors[0].message, errors[0].help
    elif not compiled.variants:
        reason = "it is a recipe"
    else:
        labels = [planned.spec.variant for planned in compiled.variants[:3]]
        reason = f"it is a family: name a variant, as in {claim.reference}@{labels[0]}"
    faults.append(Fault("bad-reference", f"can't compare with {claim.reference}: {reason}", claim.value, help))
    return None


def _place(fault: Fault) -> tuple[str, int]:
    return (fault.span.source.name, fault.span.start) if fault.span is not None else ("", 0)
