"""The training loop, on one page.

The data order is a pure function of (seed, step), so it is the same for all specs. A loss or gradient that isn't
finite ends the run; nothing hides it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ablc.spec.recipe import Recipe


class Batches(Protocol):
    """What the loop needs of the data: fixed validation blocks, and the training blocks of any step, both of token
    ids."""

    @property
    def validation(self) -> np.ndarray[Any, Any]: ...

    def batch(self, step: int, *, seed: int, batch_size: int) -> np.ndarray[Any, Any]: ...


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Mean cross-entropy on the validation blocks after `step` optimizer steps, in nats per predicted token."""

    step: int
    eval_loss: float

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.eval_loss, 700.0))

    def facts(self) -> dict[str, float]:
        return {"step": self.step, "eval_loss": self.eval_loss, "perplexity": self.perplexity}


class Diverged(Exception):
    """The loss or the gradient of a step wasn't finite."""

    def __init__(self, step: int, what: str) -> None:
        self.step = step
        super().__init__(f"the {what} of step {step} isn't finite")


Log = Callable[[dict[str, float]], None]


def train(
    model: nn.Module, data: Batches, recipe: Recipe, steps: int, eval_every: int, unread: set[str], log: Log
) -> Iterator[Evaluation]:
    """Train for `steps` optimizer steps; yields an evaluation before the first, every `eval_every`, and after the last.

    `log` gets a dict for every step. Parameters named in `unread` are left out of the optimizer: they have no gradient.
    Raises Diverged.
    """
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, recipe, unread)
    yield _logged(evaluate(model, data, recipe, 0), {"step": 0}, log)
    for step in range(1, steps + 1):
        started = time.perf_counter()
        rate = learning_rate(recipe, step - 1, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        blocks = data.batch(step - 1, seed=recipe.seed, batch_size=recipe.batch_size * recipe.accumulation)
        loss = accumulate(model, blocks, recipe, device)
        norm = nn.utils.clip_grad_norm_(_trained(optimizer), recipe.clip or math.inf)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise Diverged(step, "loss" if not math.isfinite(loss) else "gradient")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        speed = blocks.size / (time.perf_counter() - started)
        entry = {"step": step, "loss": loss, "lr": rate, "tokens_per_second": speed}
        if step % eval_every == 0 or step == steps:
            yield _logged(evaluate(model, data, recipe, step), entry, log)
        else:
            log(entry)


def accumulate(model: nn.Module, blocks: np.ndarray[Any, Any], recipe: Recipe, device: torch.device) -> float:
    """Gradients of the mean loss over all predicted tokens of a step, whatever the micro-batch; returns that loss."""
    tokens = torch.from_numpy(blocks.astype(np.int64)).to(device)
    predicted = tokens.shape[0] * (tokens.shape[1] - 1)
    total = torch.zeros((), device=device)
    for micro in torch.split(tokens, recipe.batch_size):
        with autocast(recipe, device):
            loss = summed_loss(model, micro) / predicted
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return float(total)


@torch.no_grad()
def evaluate(model: nn.Module, data: Batches, recipe: Recipe, step: int) -> Evaluation:
    """The loss on all validation blocks, in evaluation mode."""
    device = next(model.parameters()).device
    tokens = torch.from_numpy(data.validation.astype(np.int64))
    model.eval()
    total = 0.0
    for micro in torch.split(tokens, recipe.batch_size):
        with autocast(recipe, device):
            total += float(summed_loss(model, micro.to(device)))
    model.train()
    return Evaluation(step, total / (tokens.shape[0] * (tokens.shape[1] - 1)))


def summed_loss(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every next token of (batch, length) ids, summed, computed in fp32."""
    logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="sum")


def make_optimizer(model: nn.Module, recipe: Recipe, unread: set[str]) -> torch.optim.AdamW:
    """AdamW over the trained parameters that something reads; weight decay on matrices, none on biases and norms."""
    trained = [p for name, p in model.named_parameters() if p.requires_grad and name not in unread]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.beta1, recipe.beta2), eps=recipe.eps)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of a step counted from 0: linear warm-up to the peak, then constant, or down to 0 linearly or along
    a cosine."""
    if step < recipe.warmup_steps:
        return recipe.lr * (step + 1) / recipe.warmup_steps
    if recipe.schedule == "constant":
        return recipe.lr
    left = (steps - step) / max(1, steps - recipe.warmup_steps)
    return recipe.lr * (left if recipe.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))


def autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 for the matrix products of `bf16_autocast`, nothing for the others."""
    return torch.autocast(device.type, torch.bfloat16) if recipe.precision == "bf16_autocast" else nullcontext()


def _trained(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _logged(evaluation: Evaluation, entry: dict[str, float], log: Log) -> Evaluation:
    log({**entry, "eval_loss": evaluation.eval_loss, "perplexity": evaluation.perplexity})
    return evaluation
