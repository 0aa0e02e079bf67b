"""What a program says once: name, about, model, `vary` and `train`; later files replace what the extended ones say."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ablc.faults import Fault, did_you_mean
from ablc.language import tree
from ablc.language.printer import show
from ablc.language.tree import Statement
from ablc.ops import operations
from ablc.spec.gather import Program
from ablc.spec.values import BadValue, Names, Scalar, evaluate

MAX_VARIANTS = 1_000


@dataclass(frozen=True)
class Settings:
    """The statement in force for each thing that is said once. `vary` and `train` are in the order they were first
    said."""

    name: Statement | None
    about: Statement | None
    model: Statement | None
    vary: Mapping[str, Statement]
    train: Mapping[str, Statement]


def settings(program: Program, faults: list[Fault]) -> Settings:
    """The statements in force; setting a thing twice in one file is a fault."""
    found: dict[str, Statement] = {}
    for statement in program.statements:
        key = _key(statement.node)
        if key is None or (key in ("name", "about") and not program.is_own(statement)):
            continue
        earlier = found.get(key)
        if earlier is not None and earlier.source is statement.source and earlier.offset != statement.offset:
            note = ((earlier.span(), "it is set here already"),)
            faults.append(Fault("set-twice", f"`{key}` is set twice in this file", statement.span(), related=note))
        found[key] = statement
    vary = {key.removeprefix("vary "): value for key, value in found.items() if key.startswith("vary ")}
    train = {key.removeprefix("train."): value for key, value in found.items() if key.startswith("train.")}
    return Settings(found.get("name"), found.get("about"), found.get("model"), vary, train)


def _key(node: tree.StatementNode) -> str | None:
    match node:
        case tree.Metadata():
            return node.key
        case tree.Model():
            return "model"
        case tree.Vary():
            return f"vary {node.name.name}"
        case tree.Train():
            return f"train.{node.key.name}"
    return None


# --- variants --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """One choice of every `vary` name. `label` is how it is named after `@`, None in a file without `vary`."""

    label: str | None
    values: Mapping[str, Scalar]


def variants(program: Program, found: Settings, faults: list[Fault]) -> Iterator[Variant]:
    """Every variant in grid order, the last `vary` changing fastest; none where a `vary` is wrong or the grid too
    large."""
    grids = [_choices(statement, found, faults) for statement in found.vary.values()]
    _report_unused(program, found, faults)
    count = math.prod(len(grid) for grid in grids)
    if count > MAX_VARIANTS:
        statement = list(found.vary.values())[-1]
        message = f"the `vary` statements make {count:,} variants; a family has at most {MAX_VARIANTS:,}"
        faults.append(Fault("too-many-variants", message, statement.span()))
        return
    for choice in itertools.product(*grids):
        label = ",".join(f"{name}={shown}" for name, (shown, _) in zip(found.vary, choice, strict=True))
        values = {name: value for name, (_, value) in zip(found.vary, choice, strict=True)}
        yield Variant(label or None, values)


def _choices(statement: Statement, found: Settings, faults: list[Fault]) -> list[tuple[str, Scalar]]:
    node = statement.node
    assert isinstance(node, tree.Vary)
    name = node.name.name
    if name == "layer" or name in operations() or name in ("true", "false", "null"):
        message = f"`{name}` has a meaning of its own and can't be a `vary` name"
        faults.append(Fault("bad-vary-name", message, statement.span(node.name)))
    choices: list[tuple[str, Scalar]] = []
    taken: set[object] = set()
    for value in node.values:
        try:
            result = evaluate(value, Names({}, {}))
        except BadValue as bad:
            faults.append(Fault(bad.code, bad.message, statement.span(bad.node), bad.help))
            continue
        if isinstance(value, tree.Word) and value.name in found.vary:
            message = f"`{name}` can't take the values of `{value.name}`: a `vary` doesn't read another"
            faults.append(
                Fault(
                    "bad-vary-value", message, statement.span(value), f'quote it if the word is meant: "{value.name}"'
                )
            )
        shown = result if isinstance(result, str) else show(value)
        if shown in taken or (type(result), result) in taken:  # variants are named by what is shown
            faults.append(Fault("vary-twice", f"`{name}` takes {shown} twice", statement.span(value)))
        taken |= {shown, (type(result), result)}
        choices.append((shown, result))
    return choices


def _report_unused(program: Program, found: Settings, faults: list[Fault]) -> None:
    if not found.vary:
        return
    used = {word.name for statement in program.statements for word in _value_words(statement.node)}
    for name, statement in found.vary.items():
        if name not in used:
            help = "write it in an argument, a layer range, an override, the model or a recipe key, or take it out"
            faults.append(Fault("unused-vary", f"nothing uses `{name}`", statement.span(), help))


def _value_words(node: tree.StatementNode) -> Iterator[tree.Word]:
    """The bare words that stand where a value may."""
    match node:
        case tree.Metadata():
            yield from tree.words(node.value)
        case tree.Model():
            yield from tree.words((node.value, *(override.value for override in node.overrides)))
        case tree.Train():
            yield from tree.words(node.value)
        case tree.Freeze():
            yield from tree.words(tuple(target.layers for target in node.targets))
        case tree.Assign():
            yield from tree.words(tuple(target.layers for target in node.targets))
            yield from tree.words(tuple(argument.value for argument in node.call.arguments))


# --- recipe keys -----------------------------------------------------------------------------------------------------


def train_settings(found: Settings, names: Names, faults: list[Fault]) -> dict[str, Any]:
    """The recipe keys that are said, each validated."""
    if not found.train:
        return {}
    from ablc.spec.recipe import recipe_keys  # pydantic's field types take a while to import, and most specs set no key

    said: dict[str, Any] = {}
    for key, statement in found.train.items():
        node = statement.node
        assert isinstance(node, tree.Train)
        if key not in recipe_keys():
            help = did_you_mean(key, recipe_keys(), "recipe keys")
            faults.append(
                Fault("unknown-recipe-key", f"there is no recipe key `{key}`", statement.span(node.key), help)
            )
            continue
        try:
            value = evaluate(node.value, names)
        except BadValue as bad:
            faults.append(Fault(bad.code, bad.message, statement.span(bad.node), bad.help))
            continue
        problem, said[key] = recipe_value(key, _from_file(statement, key, value))
        if problem is not None:
            faults.append(Fault("bad-recipe-value", f"train.{key}: {problem}", statement.span(node.value)))
    return said


def _from_file(statement: Statement, key: str, value: Scalar) -> Scalar:
    """A value where it is a relative path as one from the root: paths count from the file that says them."""
    if not isinstance(value, str) or value.startswith("~"):
        return value
    if (key == "data" and value.startswith(".")) or (key == "tokenizer" and value not in ("base", "builtin")):
        return os.path.abspath(statement.source.folder / value)  # noqa: PTH100 - links stay
    return value


@lru_cache(maxsize=4096, typed=True)
def recipe_value(key: str, value: Scalar) -> tuple[str | None, Any]:
    """Why a value can't be this recipe key's (or None), and the value as the recipe holds it."""
    from pydantic import ValidationError

    from ablc.spec.recipe import Recipe

    try:
        return None, getattr(Recipe.model_validate({key: value}), key)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "string_pattern_mismatch":
            return f"{value!r} should be {Recipe.model_fields[key].description}", value
        said = first["msg"].lower().replace("a valid integer", "an integer").replace("a valid", "a")
        return said.replace("input should", f"{value!r} should"), value
