"""What a shell may complete: spec files and their variants, models, operations, slots, recipes and their keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

EXAMPLE_BASE = "EleutherAI/pythia-410m"  # its slots stand for those of a text whose base isn't known yet


def specs(incomplete: str) -> list[str]:
    """Folders and specs; after `file.abl@` the variants of that file."""
    from ablc.pipeline import split_variant

    file, label = split_variant(Path(incomplete))
    if label is not None:
        return [f"{file}@{variant}" for variant in _variants(file) if variant.startswith(label)]
    return list(_paths(incomplete))


def models(incomplete: str) -> list[str]:
    from ablc.bases import builtin

    if incomplete.startswith((".", "/")):
        return [path for path in _paths(incomplete) if path.endswith("/")]
    return _beginning(incomplete, builtin())


def operations(incomplete: str) -> list[str]:
    from ablc import ops

    return _beginning(incomplete, ops.operations())


def codes(incomplete: str) -> list[str]:
    from ablc import explanations

    return _beginning(incomplete, explanations.codes())


def recipes(incomplete: str) -> list[str]:
    from ablc.recipes import builtin_recipes

    return [*_beginning(incomplete, builtin_recipes()), *_paths(incomplete)]


def settings(incomplete: str) -> list[str]:
    """`train.KEY=`, and after it the choices that a key has."""
    from ablc.spec.recipe import Recipe

    key, equals, value = incomplete.partition("=")
    if not equals:
        return _beginning(incomplete, [f"train.{name}=" for name in Recipe.model_fields])
    field = Recipe.model_fields.get(key.removeprefix("train."))
    choices = re.findall(r"'(\w+)'", str(field.annotation)) if field is not None else []
    if field is not None and field.annotation is bool:
        choices = ["true", "false"]
    return [f"{key}={choice}" for choice in _beginning(value, choices)]


def text(incomplete: str) -> list[str]:
    """The word that a text of statements ends with: an operation after `=`, else a slot or keyword."""
    found = re.search(r"[\w.]*$", incomplete)
    before, word = incomplete[: found.start() if found else None], found[0] if found else ""
    statement = re.split(r"[;\n]", before)[-1]
    return [before + one for one in _beginning(word, _words(statement))]


def _words(statement: str) -> Iterable[str]:
    from ablc.language.parse import KEYWORDS
    from ablc.ops import operation
    from ablc.ops import operations as names

    if "=" in statement:
        return [f"{name}(" if operation(name).parameters else name for name in names()]
    slots = _slots()
    return slots if statement.strip() else [*slots, *(word for word in KEYWORDS if word not in slots)]


def _slots() -> tuple[str, ...]:
    from ablc.blueprint.slots import slots_of
    from ablc.faults import Source
    from ablc.pipeline import compile_source

    return tuple(slots_of(compile_source(Source("", ""), model=EXAMPLE_BASE).variants[0].plan.original).names)


def _variants(path: Path) -> list[str]:
    from ablc.pipeline import compile_file

    return [planned.spec.variant for planned in compile_file(path, claims=False).variants if planned.spec.variant]


def _paths(incomplete: str) -> Iterator[str]:
    """Folders and specs below the folder that is written already, spelled as it is."""
    written, slash, beginning = incomplete.rpartition("/")
    try:
        there = sorted(Path(f"{written}{slash}" or ".").iterdir())
    except OSError:
        return
    for path in there:
        if path.name.startswith(beginning) and (beginning.startswith(".") or not path.name.startswith(".")):
            if path.is_dir():
                yield f"{written}{slash}{path.name}/"
            elif path.suffix == ".abl":
                yield f"{written}{slash}{path.name}"


def _beginning(word: str, choices: Iterable[str]) -> list[str]:
    return [choice for choice in choices if choice.startswith(word)]
