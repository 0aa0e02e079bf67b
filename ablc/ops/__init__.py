"""The operations: one file each, found by being here.

An operation is a function from (slot, node, arguments) to the node that stands there instead. Its parameter count,
FLOPs, line in a diff and module all follow from that node.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from ablc.ops.operation import Operation, Refusal

__all__ = ["Operation", "Refusal", "operation", "operations"]

_HELPERS = {"operation", "arguments", "low_rank"}


@cache
def operations() -> tuple[str, ...]:
    """The names of all operations."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _HELPERS))


@cache
def operation(name: str) -> Operation:
    """The operation that `operations()` lists under this name."""
    found: Operation = getattr(importlib.import_module(f"{__name__}.{name}"), name)
    return found
