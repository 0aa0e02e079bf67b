"""The processes that train together: one by itself, or those that `torchrun` started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from ablc.faults import UserError, reason_of
from ablc.train.environment import keep_freed_memory, pick_device

T = TypeVar("T")


# The others wait while the first one tokenises, which can take hours; whoever started them notices if one has died.
PATIENCE = timedelta(hours=12)
# In the middle of a step nobody is that late. NCCL doesn't notice that another process has died.
STUCK = timedelta(hours=1)


class WorkersError(UserError):
    """Processes that can't work together."""

    code = "no-workers"


@dataclass(frozen=True)
class Workers:
    """`size` processes, of which this is number `rank`; each has its `device`. The first one writes the record.

    `group` is the process group in which they exchange what is in main memory, None torch's default one; what is on
    their devices goes through the default one.
    """

    device: torch.device
    rank: int = 0
    size: int = 1
    group: Any = None

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, made: T) -> T:
        """What the first process made, on all of them."""
        if self.size == 1:
            return made
        box = [made]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"), group=self.group)
        return box[0]

    def gather(self, made: T) -> list[T]:
        """What each process made, on all of them."""
        if self.size == 1:
            return [made]
        everybodys: list[Any] = [None] * self.size
        dist.all_gather_object(everybodys, made, group=self.group)
        return everybodys

    def first_does(self, make: Callable[[], T]) -> T | None:
        """What the first process makes, None in the others. What it raises is raised in all of them."""
        made, problem = None, None
        if self.is_first:
            try:
                made = make()
            except (UserError, OSError) as error:
                problem = error
        problem = self.share(problem)
        if problem is not None:
            raise problem
        return made

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes, which is put into it."""
        if self.size > 1:
            dist.all_reduce(value, group=self.group if value.device.type == "cpu" else None)
        return value


def writers(workers: Workers) -> Workers:
    """The same processes with a group for what they write beside the training: it must not come between."""
    if workers.size == 1:
        return workers
    return Workers(torch.device("cpu"), workers.rank, workers.size, dist.new_group(backend="gloo", timeout=PATIENCE))


@contextmanager
def workers() -> Iterator[Workers]:
    """This process among those it was started with: `torchrun` says in the environment how many there are."""
    keep_freed_memory()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Workers(pick_device())
        return
    on_gpus = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", local + 1)), torch.cuda.device_count()
    if on_gpus and here > gpus:
        message = f"{here} processes on a machine with {gpus} {'GPU' if gpus == 1 else 'GPUs'}"
        raise WorkersError(message, "start one process for each GPU")
    device = torch.device("cuda", local) if on_gpus else pick_device()
    if on_gpus:
        try:
            torch.cuda.set_device(device)
        except RuntimeError as error:
            raise WorkersError(f"GPU {local} can't be used: {reason_of(error)}") from error
    try:
        if on_gpus:
            dist.init_process_group("nccl", device_id=device, timeout=STUCK)
        else:
            dist.init_process_group("gloo", timeout=PATIENCE)
        group = dist.new_group(backend="gloo", timeout=PATIENCE) if on_gpus else None
    except (ValueError, RuntimeError) as error:
        message = f"the processes can't find each other: {reason_of(error)}"
        raise WorkersError(message, "start them with --nproc or torchrun") from error
    yield Workers(device, dist.get_rank(), dist.get_world_size(), group)
    # Not where something was raised: the others may be waiting for this process, and NCCL would wait for them.
    dist.destroy_process_group()


def shard(loss: nn.Module, model: Any) -> None:
    """Have every process keep a share of every layer, its gradient and its optimizer state. The model may be on the
    meta device still: then nobody ever holds the whole of it."""
    for layer in layers_of(model):
        if any(True for _ in layer.parameters()):
            fully_shard(layer)
    # Outside of a step all parameters are shares: what is saved must be what the optimizer holds.
    fully_shard(loss, reshard_after_forward=True)


def spread(loss: nn.Module, workers: Workers) -> nn.Module:
    """The loss as all processes compute it together; gradients are means over the processes."""
    if workers.size == 1 or isinstance(loss, FSDPModule):
        return loss
    # Buffers are the same everywhere, and stay so.
    return DistributedDataParallel(loss, broadcast_buffers=False, gradient_as_bucket_view=True)


def layers_of(model: Any) -> nn.ModuleList:
    """The decoder layers, the one list of modules that is as long as the model is deep."""
    depth = model.config.num_hidden_layers
    return next(m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth)


def without_exchange(loss: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """Gradients stay in their process until the last micro-batch of a step; those of a sharded model don't, since each
    process would hold the whole of them until then."""
    return loss.no_sync() if isinstance(loss, DistributedDataParallel) and not last else nullcontext()
