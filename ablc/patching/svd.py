"""Low-rank pairs as the truncated singular value decomposition of the matrices they replace.

With W = U Σ Vᵀ no matrix of rank r is nearer to W than U_r Σ_r V_rᵀ, in the Frobenius norm and in the spectral norm;
it misses W by √(Σ_{i>r} σ_i²) and by σ_{r+1} (Eckart and Young 1936; Mirsky 1960). Each factor takes √Σ_r, so that both
are equally large and equally fast to train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ablc.blueprint import Chain, Linear
from ablc.patching.modules import module_of
from ablc.patching.replaced import Replaced
from ablc.patching.sharded import put, whole

Original = Callable[[str], Tensor]  # the value of a parameter of the base model, by its full name

NOT_A_MATRIX = "not a matrix"


@dataclass(frozen=True)
class PairError:
    """How far a pair is from what it replaced, before any training.

    Attributes:
        slot: with `layer` and `path` the place; `layer` is None outside the layers.
        rank: the inner width of the pair.
        error: √(‖W − BA‖² + ‖b‖²) / ‖W‖ in the Frobenius norm, b the bias of the original where the pair has no place
            for it, else 0.
        optimal: the least that ‖W − BA‖ / ‖W‖ can be at this rank: √(Σ_{i>r} σ_i²) / ‖W‖.
        spectral: σ_{r+1} / σ_1, the same for the spectral norm.
        note: why there are no numbers: the pair has an activation inside, or stands for a whole MLP.
    """

    slot: str
    layer: int | None
    path: str
    rank: int
    error: float | None = None
    optimal: float | None = None
    spectral: float | None = None
    note: str = ""

    def facts(self) -> dict[str, Any]:
        return asdict(self)


def truncated(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """U_k √Σ_k (m, k), √Σ_k V_kᵀ (k, n) with k = min(rank, m, n), and all singular values, in fp64."""
    left, values, right = torch.linalg.svd(exact(matrix), full_matrices=False)
    kept = min(rank, len(values))
    roots = values[:kept].sqrt()
    return left[:, :kept] * roots, roots[:, None] * right[:kept], values


@torch.no_grad()
def start_pairs(model: nn.Module, places: Iterable[Replaced], original: Original, *, write: bool) -> list[PairError]:
    """The errors of all pairs; with `write` each product becomes the truncated SVD of what it replaces first.

    A pair that replaces no matrix keeps what it has, and its row says so. One original is asked for at a time, so that
    the base model needn't be in memory.
    """
    return [_start(model, one, original, write) for one in places if isinstance(one.after, Chain)]


def _start(model: nn.Module, one: Replaced, original: Original, write: bool) -> PairError:
    rank = one.rank
    assert rank is not None
    row = PairError(one.slot, one.layer, one.path, rank, note=NOT_A_MATRIX)
    if not one.is_product:
        return row
    there = model.get_submodule(one.path)
    pair = _whole_pair(there, one)
    outer, inner = factors_of(pair)
    matrix = original(f"{one.path}.weight").to(outer.device)
    left, right, values = truncated(matrix, rank)
    bias = original(f"{one.path}.bias") if isinstance(one.before, Linear) and one.before.bias else None
    if write:
        set_product(outer, inner, left, right)
        _set_biases(pair, bias)
        for name, parameter in pair.named_parameters():
            put(there.get_parameter(name), parameter)
    missed = torch.linalg.vector_norm(exact(matrix) - exact(outer) @ exact(inner))
    norm, tail = float(values.norm()) or 1.0, values[rank:]
    error = float(missed.square() + _lost_bias(pair, bias) ** 2) ** 0.5 / norm
    spectral = float(tail[0] / values[0]) if len(tail) and values[0] > 0 else 0.0
    return PairError(one.slot, one.layer, one.path, rank, error, float(tail.norm()) / norm, spectral)


def _whole_pair(pair: nn.Module, one: Replaced) -> nn.Module:
    """A pair by itself with the values of one in a model, which may be sharded: a pair is small."""
    values = {name: whole(parameter) for name, parameter in pair.named_parameters()}
    alone = module_of(one.after)
    alone.load_state_dict({name: value.detach().clone() for name, value in values.items()}, assign=True)
    return alone


def factors_of(pair: nn.Module) -> tuple[Tensor, Tensor]:
    """The product as the original has it, (m, r) · (r, n): B·A for a Linear's (outputs, inputs), A·Bᵀ for a table."""
    first, second = pair.get_submodule("A").weight, pair.get_submodule("B").weight
    assert isinstance(first, Tensor) and isinstance(second, Tensor)
    return (first, second.T) if isinstance(pair.get_submodule("A"), nn.Embedding) else (second, first)


def set_product(outer: Tensor, inner: Tensor, left: Tensor, right: Tensor) -> None:
    """A rank above both dimensions leaves columns over: zeros in the outer factor keep them out of the product, and
    what the inner one had lets them learn."""
    kept = left.shape[1]
    outer[:, :kept].copy_(left)
    outer[:, kept:].zero_()
    inner[:kept].copy_(right)


def _set_biases(pair: nn.Module, bias: Tensor | None) -> None:
    first, second = (getattr(pair.get_submodule(name), "bias", None) for name in "AB")
    if first is not None:
        first.zero_()
    if second is not None and bias is not None:
        second.copy_(bias)


def _lost_bias(pair: nn.Module, bias: Tensor | None) -> float:
    """‖b − b'‖, where b' = b_B + B·b_A is the bias of the whole pair."""
    first, second = (getattr(pair.get_submodule(name), "bias", None) for name in "AB")
    total = torch.zeros((), dtype=torch.float64) if bias is None else exact(bias)
    if first is not None:
        through = exact(factors_of(pair)[0]) @ exact(first)
        total = total.to(through.device) - through
    if second is not None:
        total = total.to(second.device) - exact(second)
    return float(torch.linalg.vector_norm(total))


def exact(values: Tensor) -> Tensor:
    """In fp64, on a device that has it."""
    return (values.cpu() if values.device.type == "mps" else values).detach().to(torch.float64)
