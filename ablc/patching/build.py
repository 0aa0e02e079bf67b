"""Builds the model of a plan from scratch: as modules without storage first, so that nothing removed ever takes
memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from ablc.patching.initial import PairInit, fill, planned_weights
from ablc.patching.patch import check_shapes, replace_modules
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

    `attention` is the implementation transformers is to use: `sdpa`, `eager`, ….
    """
    model = skeleton(plan, dtype=dtype, attention=attention)
    check_shapes(model, plan.original, "transformers builds another base than planned")
    replace_modules(model, plan)
    if str(device) == "meta":
        return model
    model.to_empty(device=device)
    model.tie_weights()
    _fill_buffers(model)
    std = plan.blueprint.config["initializer_range"]
    fill(model, planned_weights(plan.blueprint), std, seed=seed, init=init)
    return model.train()


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


def parameter_count(model: nn.Module, *, trainable: bool = False) -> int:
    """Parameters of a real model, shared ones once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)
