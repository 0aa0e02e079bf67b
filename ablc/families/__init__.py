"""The model families: one file each, found by being here.

A family turns a config dict into a `Blueprint`. It says which config fields it understands; one that is known to
change shapes and that it doesn't understand is refused, since a refusal is better than a wrong count.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from ablc.families.family import ConfigProblem, Family, read_config, today

__all__ = ["ConfigProblem", "Family", "families", "family", "read_config", "today"]


@cache
def families() -> tuple[str, ...]:
    """The model types that can be planned."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "family"))


@cache
def family(model_type: str) -> Family:
    """The family of a model type that `families()` lists."""
    found: Family = importlib.import_module(f"{__name__}.{model_type}").FAMILY
    return found
