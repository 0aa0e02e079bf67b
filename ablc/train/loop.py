"""The training loop, on one page.

All that is random in a step, the order of the data and dropout, is a pure function of (seed, step): it is the same for
all specs, and a resumed run goes on as it would have, on a CPU bit by bit. A loss or gradient that isn't finite ends
the run; nothing hides it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from ablc.spec.recipe import Recipe
from ablc.train.loss import targets_of
from ablc.train.workers import Workers, without_exchange


class Batches(Protocol):
    """What the loop needs of the data: fixed validation blocks, and the training blocks of any step, both of token
    ids."""

    @property
    def validation(self) -> np.ndarray[Any, Any]: ...

    def batch(self, step: int, *, seed: int, batch_size: int) -> np.ndarray[Any, Any]: ...


@dataclass(frozen=True)
class Job:
    """What is trained and on what. `loss` gives the summed loss of a batch of ids; `separator` is the id that ends a
    document where documents are kept apart, else None."""

    loss: nn.Module
    optimizer: torch.optim.Optimizer
    data: Batches
    recipe: Recipe
    steps: int
    eval_every: int
    workers: Workers
    separator: int | None = None


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


@dataclass(frozen=True, slots=True)
class Step:
    """An optimizer step that was taken (number 0: none yet), with the evaluation after it where one was due.

    `metrics` has `loss` (nats per predicted token), `lr`, `tokens_per_second`.
    """

    number: int
    metrics: dict[str, float]
    evaluation: Evaluation | None


class Diverged(Exception):
    """The loss or the gradient of a step wasn't finite."""

    def __init__(self, step: int, what: str) -> None:
        self.step = step
        super().__init__(f"the {what} of step {step} isn't finite")


def train(job: Job, after: int = 0) -> Iterator[Step]:
    """Take the steps that come `after` one; each is yielded when it is taken. There is an evaluation before the first,
    every `eval_every`, and after the last. Raises Diverged."""
    if after == 0:
        yield Step(0, {}, _finite(evaluate(job, 0)))
    for number in range(after + 1, job.steps + 1):
        started = time.perf_counter()
        torch.manual_seed(_seed(job, number))
        rate = learning_rate(job.recipe, number - 1, job.steps)
        for group in job.optimizer.param_groups:
            group["lr"] = rate
        blocks = job.data.batch(number - 1, seed=job.recipe.seed, batch_size=blocks_of(job.recipe))
        values = [accumulate(job, blocks), clip(job.optimizer, job.recipe.clip or math.inf)]
        job.optimizer.step()
        job.optimizer.zero_grad(set_to_none=True)
        # Only now is a number asked for: a GPU waits once a step, and the time is that of all it did.
        loss, norm = torch.stack([value.to(values[0]) for value in values]).tolist()
        speed = blocks.size / (time.perf_counter() - started)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise Diverged(number, "loss" if not math.isfinite(loss) else "gradient")
        is_due = number % job.eval_every == 0 or number == job.steps
        metrics = {"loss": loss, "lr": rate, "tokens_per_second": speed}
        yield Step(number, metrics, _finite(evaluate(job, number)) if is_due else None)


def accumulate(job: Job, blocks: np.ndarray[Any, Any]) -> torch.Tensor:
    """Gradients of the mean loss over all predicted tokens of a step, however it is cut into micro-batches and over
    processes; returns that loss. `blocks` are those of all processes."""
    workers, share = job.workers, len(blocks) // job.workers.size
    tokens = torch.from_numpy(blocks.astype(np.int64))
    predicted = _predicted(job, tokens)
    own = tokens[workers.rank * share : (workers.rank + 1) * share].to(workers.device)
    total = torch.zeros((), device=workers.device)
    micros = torch.split(own, job.recipe.batch_size)
    for number, micro in enumerate(micros, 1):
        with without_exchange(job.loss, last=number == len(micros)):
            with autocast(job.recipe, workers.device):
                # Processes exchange the mean of their gradients, where the sum is wanted.
                loss = job.loss(micro) * (workers.size / predicted)
            loss.backward()
        total += loss.detach() / workers.size
    return workers.total(total)


@torch.no_grad()
def evaluate(job: Job, step: int) -> Evaluation:
    """The loss on all validation blocks, in evaluation mode. Every process takes a share, and as many batches as the
    others, for they may have to exchange weights for each."""
    workers = job.workers
    tokens = torch.from_numpy(job.data.validation.astype(np.int64))
    share = -(-len(tokens) // workers.size)
    own = tokens[workers.rank * share : (workers.rank + 1) * share]
    total = torch.zeros((), dtype=torch.float64)
    job.loss.eval()
    for start in range(0, share, job.recipe.batch_size):
        micro = own[start : start + job.recipe.batch_size]
        with autocast(job.recipe, workers.device):
            loss = job.loss((micro if len(micro) else tokens[:1]).to(workers.device))
        if len(micro):
            total += float(loss)
    job.loss.train()
    return Evaluation(step, float(workers.total(total)) / _predicted(job, tokens))


def clip(optimizer: torch.optim.Optimizer, most: float) -> torch.Tensor:
    """Scale all gradients so that their common norm is at most `most`; returns what it was."""
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = nn.utils.clip_grad_norm_(trained, most)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over what is trained; weight decay on matrices, none on biases and norms."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    in_one_kernel = trained[0].device.type in ("cpu", "cuda")
    betas = (recipe.beta1, recipe.beta2)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=betas, eps=recipe.eps, fused=in_one_kernel)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of a step counted from 0: linear warm-up to the peak, then constant, or down to 0 linearly or along
    a cosine."""
    if step < recipe.warmup_steps:
        return recipe.lr * (step + 1) / recipe.warmup_steps
    if recipe.schedule == "constant":
        return recipe.lr
    left = (steps - step) / max(1, steps - recipe.warmup_steps)
    return recipe.lr * (left if recipe.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))


def blocks_of(recipe: Recipe) -> int:
    """Blocks a step, over all micro-batches and processes."""
    return recipe.batch_size * recipe.accumulation


def autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 for the matrix products of `bf16_autocast`, nothing for the others."""
    return torch.autocast(device.type, torch.bfloat16) if recipe.precision == "bf16_autocast" else nullcontext()


def _finite(evaluation: Evaluation) -> Evaluation:
    """The evaluation. Raises Diverged where it has no number: the step before may have ruined the weights."""
    if not math.isfinite(evaluation.eval_loss):
        raise Diverged(evaluation.step, "validation loss")
    return evaluation


def _predicted(job: Job, tokens: torch.Tensor) -> int:
    return max(1, int((targets_of(tokens, job.separator) != -100).sum()))


def _seed(job: Job, step: int) -> int:
    """What dropout starts from, where a base has any: other masks in each step and each process."""
    sequence = np.random.SeedSequence([job.recipe.seed, step, job.workers.rank])
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)
