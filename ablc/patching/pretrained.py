"""A plan's model from the weights of its base: what the plan keeps is read, what it replaced by a product of two
matrices may start as the best approximation of what stood there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ablc.patching.build import base_deviation, drawn, give_storage, unfilled
from ablc.patching.checkpoint import Checkpoint
from ablc.patching.initial import PairInit, check_start, fill, planned_weights
from ablc.patching.patch import shapes_of
from ablc.patching.replaced import Replaced, replaced
from ablc.patching.sharded import put
from ablc.patching.svd import PairError, start_pairs
from ablc.planning import Plan


def start_from(
    plan: Plan,
    source: str | Path | None,
    *,
    seed: int = 0,
    init: PairInit = "normal",
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    attention: str = "sdpa",
    report: bool = False,
) -> tuple[Any, tuple[PairError, ...]]:
    """The plan's model in training mode, and how far each of its low-rank pairs is from what it replaced: see `start`.

    Raises CheckpointError where the weights can't be had, or don't fit.
    """
    model = unfilled(plan, dtype=dtype, attention=attention)
    return model, start(model, plan, source, seed=seed, init=init, device=device, report=report)


def start(
    model: Any,
    plan: Plan,
    source: str | Path | None,
    *,
    seed: int,
    init: PairInit,
    device: str | torch.device,
    report: bool,
) -> tuple[PairError, ...]:
    """Give the plan's model, still on the meta device, its storage and its initial values.

    Args:
        model: may be sharded already: then a process never holds more than its shares and one whole parameter.
        plan: at the full size of its base. A scaled proxy has no pretrained weights: refuse it before.
        source: a local directory (a Path, or a text that begins with `.` or `/`) or a hub id, as `weights_source` says
            for a spec. None draws all values.
        seed: of all values that don't come from the source.
        init: how pairs start; with `svd` from the matrices of the source, or of the base that `seed` would build.
            A pair that replaces no matrix (an activation inside, a whole MLP) starts as with `normal`.
        report: measure the errors though `init` isn't `svd`; without either there are no rows.

    Only what the plan keeps, and one at a time what is to be decomposed, is ever read. Raises CheckpointError where
    the weights can't be had, or don't fit.
    """
    check_start(seed, init)
    places = replaced(plan) if report or init == "svd" else []
    own: PairInit = "normal" if init == "svd" else init
    if source is None:
        give_storage(model, device)
        fill(model, planned_weights(plan.blueprint), base_deviation(plan), seed=seed, init=own)
        return tuple(start_pairs(model, places, drawn(plan, seed), write=init == "svd"))
    with Checkpoint(source, plan.original) as checkpoint:
        kept = _kept(plan)
        originals = shapes_of(plan.original).items()
        checkpoint.check({name: shape for name, shape in originals if _needed(name, kept, places)})
        give_storage(model, device)
        new = [(layer, weight) for layer, weight in planned_weights(plan.blueprint) if weight.name not in kept]
        fill(model, new, base_deviation(plan), seed=seed, init=own)
        _load(model, checkpoint, kept)
        return tuple(start_pairs(model, places, checkpoint.read, write=init == "svd"))


def _kept(plan: Plan) -> set[str]:
    """The parameters that stay what they are in the base."""
    before = shapes_of(plan.original)
    return {name for name, shape in shapes_of(plan.blueprint).items() if before.get(name) == shape}


def _needed(name: str, kept: set[str], places: list[Replaced]) -> bool:
    module = name.rpartition(".")[0]
    return name in kept or any(one.is_product and one.path == module for one in places)


def _load(model: Any, checkpoint: Checkpoint, names: set[str]) -> None:
    for name, parameter in model.named_parameters():
        if name in names:
            put(parameter, checkpoint.read(name))
