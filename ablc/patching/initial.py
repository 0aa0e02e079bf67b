"""Initial values: every weight has a generator of its own, seeded by (seed, slot, layer, factor).

So two specs that share a module start with equal weights in it, whatever else they change, and on every device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Literal, get_args

import torch
from torch import nn

from ablc.blueprint import Blueprint, Weight, weights
from ablc.patching.sharded import put

PairInit = Literal["normal", "product", "svd"]


def planned_weights(blueprint: Blueprint) -> Iterator[tuple[int | None, Weight]]:
    """Every weight of a plan with its layer (None outside the layers), under its full name in the model."""
    for layer, path, node in blueprint.sections():
        for weight in weights(node, path, slot="layer"):
            yield layer, weight


def fill(
    model: nn.Module, entries: Iterable[tuple[int | None, Weight]], std: float, *, seed: int, init: PairInit
) -> None:
    """Give weights their initial values: see `draw`."""
    parameters = dict(model.named_parameters())
    for layer, weight in entries:
        parameter = parameters[weight.name]
        if parameter.is_meta:
            continue
        values = draw(weight, layer, std, seed=seed, init=init)
        if weight.init == "normal":
            _zero_padding(model, weight.name, values)
        put(parameter, values)


def check_start(seed: int, init: PairInit) -> None:
    """Raise ValueError where something else is said: what is misspelt must not start in another way."""
    if init not in get_args(PairInit):
        raise ValueError(f"init is one of {', '.join(get_args(PairInit))}, not {init!r}")
    if not isinstance(seed, Integral):
        raise ValueError(f"seed is a whole number, not {seed!r}")


def draw(weight: Weight, layer: int | None, std: float, *, seed: int, init: PairInit) -> torch.Tensor:
    """The initial values of one weight, in fp32: matrices N(0, std²), biases 0, norms 1.

    With `init="product"` the factors of a rank-r pair get the standard deviation √(std/√r), with which their
    product has `std`; with `normal` each factor has `std` itself, as in the log. With `svd` so has each factor of a
    pair for which there is no decomposition: the others are set afterwards (`ablc.patching.svd`).
    """
    if weight.init != "normal":
        return torch.full(weight.shape, 1.0 if weight.init == "ones" else 0.0)
    of_pair = weight.pair_rank if init == "product" else None
    own = std if of_pair is None else (std / of_pair**0.5) ** 0.5
    generator = torch.Generator().manual_seed(_seed(seed, weight, layer))
    return torch.empty(weight.shape, dtype=torch.float32).normal_(0.0, own, generator=generator)


def _seed(seed: int, weight: Weight, layer: int | None) -> int:
    text = f"{seed}/{weight.slot}/{layer}/{weight.factor}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _zero_padding(model: nn.Module, name: str, values: torch.Tensor) -> None:
    """An embedding's padding row starts at zero, as transformers starts it."""
    owner = model.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, nn.Embedding) and owner.padding_idx is not None:
        values[owner.padding_idx] = 0.0
