"""Base models on disk, for the tests of what is loaded from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import ablc

from .conftest import BASES, plan_of


def base_model(text: str, seed: int = 3) -> Any:
    """A base with weights as a training leaves them: no bias 0, no norm 1, and matrices with a falling spectrum."""
    model = ablc.build(plan_of(text + "mlp = full"), seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                left, _, right = torch.linalg.svd(
                    torch.randn(parameter.shape, generator=generator), full_matrices=False
                )
                falling = torch.logspace(0, -1.5, len(right))
                parameter.copy_((left * falling) @ right)
            else:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def saved(family: str, folder: Path, text: str | None = None, **options: Any) -> Any:
    """The base of a family, written as transformers writes it."""
    model = base_model(text or BASES[family])
    model.save_pretrained(folder, **options)
    return model


def logits(model: Any) -> torch.Tensor:
    ids = torch.randint(1, 120, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        result: torch.Tensor = model.eval()(ids, use_cache=False).logits
    return result
