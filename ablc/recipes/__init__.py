"""The recipes that ship, written in the language itself; and a recipe put together from all who have a say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ablc.faults import Fault, Source, Span, SpecError, did_you_mean, has_errors
from ablc.language import tree
from ablc.language.parse import parse
from ablc.language.read import is_file, read
from ablc.spec.gather import Program, gather
from ablc.spec.recipe import Recipe, recipe_keys
from ablc.spec.settings import recipe_value, settings, train_settings
from ablc.spec.values import BadValue, Names, evaluate

FOLDER = Path(__file__).resolve().parent


def builtin_recipes() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in FOLDER.glob("*.abl")))


def load_recipe(name: str) -> dict[str, Any]:
    """The keys that a recipe sets: a built-in one by name, or a file. Raises SpecError."""
    faults: list[Fault] = []
    path = FOLDER / f"{name}.abl" if name in builtin_recipes() else Path(name)
    if path.parent != FOLDER and not is_file(path):
        help = did_you_mean(name, builtin_recipes(), "recipes that ship") + ", or name a file"
        raise SpecError([Fault("unknown-recipe", f"there is no recipe `{name}`", help=help)])
    source = read(path, faults)
    said: dict[str, Any] = {}
    if source is not None:
        program = gather(source, faults, path)
        _only_recipe(program, faults)
        said = train_settings(settings(program, faults), Names({}, {}), faults)
    if has_errors(faults):
        raise SpecError(faults)
    return said


def _only_recipe(program: Program, faults: list[Fault]) -> None:
    for statement in program.statements:
        if not isinstance(statement.node, tree.Train | tree.Metadata):
            message = "a recipe holds `train.…` statements only"
            faults.append(Fault("not-a-recipe", message, statement.span(), "run the spec itself: ablc run FILE"))


def parse_setting(text: str) -> tuple[str, Any]:
    """`train.lr=1e-4` as a key and its value. What isn't a value of the language is taken as a text. Raises
    SpecError."""
    source = Source("--set", text)
    key, equals, value = text.partition("=")
    name = key.strip().removeprefix("train.")
    if not equals or name not in recipe_keys():
        help = did_you_mean(name, recipe_keys(), "recipe keys") if equals else "it is written train.lr=1e-4"
        raise SpecError(
            [Fault("unknown-recipe-key", f"there is no recipe key `{name}`", Span(source, 0, len(key)), help)]
        )
    faults: list[Fault] = []
    program = parse(Source("--set", f"train.{name} = {value}"), faults)
    result: Any = value.strip()
    if not faults and len(program.statements) == 1:
        node = program.statements[0].node
        assert isinstance(node, tree.Train)
        try:
            result = evaluate(node.value, Names({}, {}))
        except BadValue:
            result = value.strip()
    problem, result = recipe_value(name, result)
    if problem is not None:
        raise SpecError([Fault("bad-recipe-value", f"train.{name}: {problem}", Span(source, len(key) + 1, len(text)))])
    return name, result


def make_recipe(*layers: dict[str, Any]) -> Recipe:
    """One recipe of several sets of keys, the later ones stronger. `steps` and `epochs` replace each other. Raises
    SpecError."""
    merged: dict[str, Any] = {}
    for layer in layers:
        if layer.get("steps") is not None:
            merged["epochs"] = None
        elif layer.get("epochs") is not None:
            merged["steps"] = None
        merged.update(layer)
    recipe = Recipe.model_validate(merged)
    if (recipe.steps is None) == (recipe.epochs is None):
        both = (
            "neither train.steps nor train.epochs says"
            if recipe.steps is None
            else "train.steps and train.epochs both say"
        )
        raise SpecError([Fault("bad-recipe", f"{both} how long to train", help="set one of the two")])
    return recipe
