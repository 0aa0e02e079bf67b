"""Rotary positions with half the work.

transformers turns queries and keys by copies: their halves are cut out, negated, put together, multiplied, added, and
put together with what isn't turned; and on the way back each of these again. Beside a narrow layer that is an eighth of
a step. Here a copy is turned in place, and its gradient by the opposite angle.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from types import FunctionType, MethodType
from typing import Any

import torch

NAME = "apply_rotary_pos_emb"


def quicken(model: torch.nn.Module) -> int:
    """Let the attention modules of this model, and of no other, use `rotate`; returns how many do.

    Left as they are: those whose function isn't the one that `rotate` computes.
    """
    count = 0
    for module in model.modules():
        forward = type(module).forward
        code = getattr(forward, "__code__", None)
        if code is None or NAME not in code.co_names or not _is_known(forward.__globals__.get(NAME)):
            continue
        names = {**forward.__globals__, NAME: rotate}
        own = FunctionType(code, names, forward.__name__, forward.__defaults__, forward.__closure__)
        own.__kwdefaults__ = forward.__kwdefaults__
        module.forward = MethodType(own, module)
        count += 1
    return count


def rotate(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, unsqueeze_dim: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys turned by their positions, as `apply_rotary_pos_emb` of transformers does.

    Args:
        q: (batch, heads, length, head width).
        k: the same, perhaps with fewer heads.
        cos: (batch or 1, length, turned width): of the first of the head's numbers so many are turned, number i
            together with number i + half of them.
        sin: the same.
        unsqueeze_dim: where the heads are.
    """
    turned: tuple[torch.Tensor, torch.Tensor] = _Rotation.apply(
        q, k, cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    )  # type: ignore[no-untyped-call]
    return turned


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        q, k, cos, sin = given
        ctx.save_for_backward(cos, sin)
        ctx.dtypes = q.dtype, k.dtype
        return _turned(q, cos, sin), _turned(k, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        half = sin.shape[-1] // 2
        back = -torch.cat((sin[..., half:], sin[..., :half]), -1)
        q, k = (_turned(grad, cos, back).to(dtype) for grad, dtype in zip(grads, ctx.dtypes, strict=True))
        return q, k, None, None


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    width = cos.shape[-1]
    half = width // 2
    out = x.to(torch.result_type(x, cos), copy=True, memory_format=torch.contiguous_format)
    out[..., :width].mul_(cos)
    out[..., :half].addcmul_(x[..., half:width], sin[..., :half], value=-1)
    out[..., half:width].addcmul_(x[..., :half], sin[..., half:])
    return out


@lru_cache(maxsize=16)
def _is_known(function: Any) -> bool:
    """Whether a function of transformers computes what `rotate` does: asked of it with numbers, in fp32 and where
    what is turned is bf16."""
    if function is None or list(inspect.signature(function).parameters) != list(inspect.signature(rotate).parameters):
        return False
    q, k, cos, sin = (torch.linspace(-3, 3, 48).add(shift).sin().reshape(1, 2, 3, 8) for shift in range(4))
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        with torch.no_grad():
            theirs, ours = (one(q.to(dtype), k.to(dtype), cos[:, 0], sin[:, 0]) for one in (function, rotate))
        for one, other in zip(theirs, ours, strict=True):
            if one.dtype != other.dtype or not torch.allclose(one, other, atol=tolerance):
                return False
    return True
