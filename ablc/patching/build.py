"""Builds the model of a plan from scratch: as modules without storage first, so that nothing removed ever takes
memory."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ablc.faults import expect
from ablc.patching.initial import PairInit, check_start, draw, fill, planned_weights
from ablc.patching.patch import check_shapes, replace_modules
from ablc.patching.replaced import replaced
from ablc.patching.svd import Original, start_pairs
from ablc.planning import Plan


def build(
    plan: Plan,
    *,
    seed: int = 0,
    init: PairInit = "normal",
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    attention: str = "sdpa",
) -> Any:
    """The plan's model with initial values from `seed`, in training mode. `device="meta"` builds it without storage.

    With `init="svd"` a low-rank pair is the truncated SVD of the initial values that the base would have in its place.
    `attention` is the implementation transformers is to use: `sdpa`, `eager`, ….
    """
    expect(plan, Plan, "build takes a plan: ablc.build(ablc.plan(spec))")
    check_start(seed, init)
    model = unfilled(plan, dtype=dtype, attention=attention)
    if str(device) != "meta":
        give_storage(model, device)
        fill(model, planned_weights(plan.blueprint), base_deviation(plan), seed=seed, init=init)
        start_pairs(model, replaced(plan) if init == "svd" else [], drawn(plan, seed), write=True)
    return model


def unfilled(plan: Plan, *, dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> Any:
    """The plan's model in training mode, on the meta device."""
    model = skeleton(plan, dtype=dtype, attention=attention)
    check_shapes(model, plan.original, "transformers builds another base than planned")
    replace_modules(model, plan)
    return model.train()


def give_storage(model: Any, device: str | torch.device) -> None:
    """Take a model from the meta device to another, its parameters still without values; only shares of those that are
    sharded."""
    model.to_empty(device=device)
    model.tie_weights()
    _fill_buffers(model)


def drawn(plan: Plan, seed: int) -> Original:
    """The initial values of the base model from `seed`, a parameter at a time."""
    entries = {weight.name: (layer, weight) for layer, weight in planned_weights(plan.original)}

    def values(name: str) -> torch.Tensor:
        layer, weight = entries[name]
        return draw(weight, layer, base_deviation(plan), seed=seed, init="normal")

    return values


def base_deviation(plan: Plan) -> float:
    """The standard deviation that matrices of the base start with."""
    return float(plan.blueprint.config["initializer_range"])


def skeleton(plan: Plan, *, dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> Any:
    """The untouched base model on the meta device."""
    fields = {name: value for name, value in plan.original.config.items() if name not in ("model_type", "dtype")}
    config = AutoConfig.for_model(plan.original.family, **fields)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)


def _fill_buffers(model: Any) -> None:
    """Compute again what isn't a parameter: the rotary frequencies. transformers does this when it initialises a
    module."""
    for module in model.modules():
        if any(True for _ in module.buffers(recurse=False)) and not any(True for _ in module.parameters(recurse=False)):
            model._init_weights(module)
    empty = [name for name, buffer in model.named_buffers() if not torch.isfinite(buffer.float()).all()]
    if empty:
        raise RuntimeError(f"transformers left the buffers {', '.join(empty)} empty")
