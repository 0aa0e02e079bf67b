"""Changes an existing Hugging Face model into what a plan describes, and asserts that it became that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from transformers import cache_utils

from ablc.blueprint import Blueprint, Group, Node
from ablc.faults import UserError, expect
from ablc.modeling_ablc import adopt
from ablc.patching.initial import PairInit, check_start, fill, planned_weights
from ablc.patching.modules import module_of
from ablc.patching.replaced import Replaced, replaced, replacements
from ablc.patching.svd import start_pairs
from ablc.planning import Plan

Shapes = Mapping[str, tuple[int, ...]]


class PatchError(UserError):
    """The model isn't the plan's base, or didn't become what was planned."""

    code = "not-as-planned"


def patch(model: Any, plan: Plan, *, seed: int = 0, init: PairInit = "normal") -> Any:
    """Change `model` in place into the plan's model, and return it.

    Weights that the plan keeps keep their values; new ones get theirs from `seed` and `init`. With `init="svd"` a
    low-rank pair becomes the truncated SVD of the weight that the model had in its place. New modules have the device
    and dtype of the model. Raises PatchError, before anything is changed, where the model isn't the plan's base, or a
    weight to be decomposed isn't finite, ValueError where `seed` or `init` is none.
    """
    expect(plan, Plan, "patch takes a model and a plan: ablc.patch(model, ablc.plan(spec))")
    check_start(seed, init)
    check_shapes(model, plan.original, "this model isn't the plan's base")
    real = not next(model.parameters()).is_meta
    places = replaced(plan) if init == "svd" and real else []
    before = {f"{one.path}.{name}": values for one in places for name, values in _held(model, one)}
    replace_modules(model, plan)
    kept = shapes_of(plan.original)
    new = [(layer, w) for layer, w in planned_weights(plan.blueprint) if w.name not in kept]
    fill(model, new, plan.blueprint.config["initializer_range"], seed=seed, init=init)
    start_pairs(model, places, before.__getitem__, write=True)
    return model


def _held(model: nn.Module, one: Replaced) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters of a module that a product will replace."""
    if one.is_product:
        for name, parameter in model.get_submodule(one.path).named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise PatchError(
                    f"{one.path}.{name} holds numbers that aren't finite: it has no decomposition",
                    "start from other weights, or without train.init = svd",
                )
            yield name, parameter.detach()


def replace_modules(model: Any, plan: Plan) -> None:
    """Put the planned modules in place, freeze, adapt the config, and assert names and shapes of every parameter."""
    like, places = next(model.parameters()), replaced(plan)
    if places:
        adopt(model, replacements(places))
    for one in places:
        with torch.device(like.device):
            module = module_of(one.after).to(like.dtype)
        _set(model, one.path, module.train(model.training))
    check_shapes(model, plan.blueprint, "the patched model isn't the planned one")
    frozen = {weight.name for _, weight in planned_weights(plan.blueprint) if weight.frozen}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    _adapt_cache(model, plan.blueprint)


def _set(model: nn.Module, path: str, module: nn.Module) -> None:
    outer, _, name = path.rpartition(".")
    parent = model.get_submodule(outer)
    if isinstance(parent, nn.ModuleList):
        parent[int(name)] = module
    else:
        setattr(parent, name, module)


def _adapt_cache(model: Any, blueprint: Blueprint) -> None:
    """Tell the KV cache which layers have no attention.

    Without this `DynamicCache` reads its length off layer 0: with no attention there, `generate` goes silently wrong on
    padded batches. `reuse` gives a layer an empty place in the cache. Where there is no attention anywhere, nothing is
    cached; nor where layer 0 has none and transformers is too old to know of empty places.
    """
    alive = [_has_attention(node) for node in blueprint.layers]
    if all(alive):
        return
    if any(alive) and hasattr(cache_utils, "DummyLayer"):
        model.config.kv_sharing_modes = [None if there else "reuse" for there in alive]
    elif not alive[0]:
        model.config.use_cache = False
        if getattr(model, "generation_config", None) is not None:
            model.generation_config.use_cache = False


def _has_attention(node: Node) -> bool:
    if not isinstance(node, Group):
        return False
    return node.kind == "attention" or any(_has_attention(part.node) for part in node.parts)


# --- names and shapes ------------------------------------------------------------------------------------------------


def shapes_of(blueprint: Blueprint) -> dict[str, tuple[int, ...]]:
    """Name and shape of every planned parameter."""
    return {weight.name: weight.shape for _, weight in planned_weights(blueprint)}


def real_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter a model has, shared ones once."""
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def check_shapes(model: nn.Module, blueprint: Blueprint, sentence: str) -> None:
    """Raise PatchError unless the model has exactly the planned parameters: stronger than an equal count."""
    planned, real = shapes_of(blueprint), real_shapes(model)
    if planned == real:
        return
    name = min(name for name in planned.keys() | real.keys() if planned.get(name) != real.get(name))
    message = f"{sentence}: {name} is {_shown(real, name)}, and the plan has {_shown(planned, name)}"
    raise PatchError(
        message, "take a model as its checkpoint has it, and the version of transformers that the plan was made for"
    )


def _shown(shapes: Shapes, name: str) -> str:
    return " × ".join(map(str, shapes[name])) if name in shapes else "missing"
