"""What the words of the language mean, for those who hover over them or are offered them."""

from __future__ import annotations

import typing
from functools import cache

from ablc.blueprint.activations import ACTIVATIONS
from ablc.blueprint.slots import slots_of
from ablc.families import families, family, read_config
from ablc.ops.arguments import ActivationKind, BiasKind
from ablc.ops.operation import Parameter
from ablc.spec.recipe import Recipe

KEYWORD_TEXTS = {
    "name": '`name = "…"`: what the spec is called; the file\'s name unless said',
    "about": '`about = "…"`: what the spec is about',
    "model": '`model = "…"(field = value, …)`: the base model, with overrides of fields of its config',
    "extends": '`extends "other.abl"`: what the other file says comes before all of this file',
    "vary": "`vary r = 8, 32`: a family, one variant for each value",
    "freeze": "`freeze slot[layers], …`: what finally stands there is not trained",
    "train": "`train.key = value`: a key of the training recipe",
    "expect": "`expect measure == value`: a claim about the result",
}
MEASURE_TEXTS = {
    "params": "parameters of the whole model",
    "trainable": "parameters that aren't frozen",
    "flops_per_token": "forward FLOPs a token, at 1,024 tokens",
    "bytes": "bytes of the weights in the config's dtype",
    "kv_bytes_per_token": "bytes of KV cache a token, in the config's dtype",
    "eval_loss": "validation loss; needs runs",
    "perplexity": "validation perplexity; needs runs",
    "bits_per_byte": "validation bits a byte; needs runs",
    "tokens_per_second": "training speed; needs runs",
    "params.SLOT": "parameters in a slot, over all layers",
    "layers.SLOT": "in how many layers the spec changes something in a slot",
}
RELATIONS = ("==", "<", "<=", ">", ">=", "within 1% of")
_BIASES = {"both": "both factors have one", "out": "the second factor has one", "none": "no factor has one"}


def recipe_text(key: str) -> str | None:
    """What a recipe key sets, and what it is unless said."""
    if key not in Recipe.model_fields:
        return None
    known = Recipe.model_fields[key]
    return f"**train.{key}**: {known.description}\n\nunless said: `{spelled(known.default)}`"


def recipe_choices(key: str) -> tuple[str, ...]:
    """The values of a recipe key that can be listed, as they are written."""
    if key not in Recipe.model_fields:
        return ()
    named = {"data": ("stdlib",), "tokenizer": ("base", "builtin"), "scale": ("auto", "full", '"1/2"', '"1/8"')}
    return named.get(key) or tuple(_choices(Recipe.model_fields[key].annotation))


def _choices(kind: object) -> list[str]:
    """The values that a type lists, as they are written."""
    if typing.get_origin(kind) is typing.Literal:
        return [spelled(value) for value in typing.get_args(kind)]
    if kind is bool:
        return ["true", "false"]
    if kind is type(None):
        return ["null"]
    return [choice for inner in typing.get_args(kind) for choice in _choices(inner)]


def spelled(value: object) -> str:
    """A plain value as the language writes it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def argument_text(parameter: Parameter) -> str:
    if isinstance(parameter.kind, BiasKind):
        return "which factors have a bias: as what they replace, unless said `both`, `out` or `none`"
    if isinstance(parameter.kind, ActivationKind):
        return "the activation between the factors; the base model's own unless said"
    return "the inner width, a positive integer"


def argument_choices(parameter: Parameter) -> dict[str, str]:
    """The words that an argument may be, each with what it means."""
    if isinstance(parameter.kind, BiasKind):
        return {choice: _BIASES.get(choice, "") for choice in parameter.kind.choices}
    if isinstance(parameter.kind, ActivationKind):
        return dict.fromkeys(ACTIVATIONS, "")
    return {}


@cache
def all_slots() -> tuple[str, ...]:
    """The slots of every family, for a spec whose base isn't known yet."""
    names: dict[str, None] = {}
    for kind in families():
        base = family(kind).build(read_config(family(kind), {"model_type": kind}, {}, []))
        names |= dict.fromkeys(slots_of(base).names)
    return tuple(names)
