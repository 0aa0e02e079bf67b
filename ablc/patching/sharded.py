"""Parameters that are spread over processes (FSDP2) are filled and read like any others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


@torch.no_grad()
def put(parameter: Tensor, values: Tensor) -> None:
    """Copy values, the whole of them, into a parameter; of a sharded one each process keeps its share."""
    if isinstance(parameter, DTensor):
        here = values.to(parameter.device, parameter.dtype)
        values = distribute_tensor(here, parameter.device_mesh, parameter.placements, src_data_rank=None)
    parameter.copy_(values)


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together again, for which all processes have to come here."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
