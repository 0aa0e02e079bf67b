"""ablc: a small language and its compiler for architecture ablations of transformers.

    spec = ablc.load("specs/18.abl")
    plan = ablc.plan(spec)
    ablc.count(plan).params                     # 220353704, before anything is built
    model = ablc.build(plan)                    # a Hugging Face model from scratch
    ablc.patch(model, plan)                     # or an existing one, in place
    ablc.export("runs/18/local-seed0", "18")    # a finished run, for AutoModelForCausalLM.from_pretrained

Nothing heavy is imported before `build`, `patch` or `export` is used. transformers learns of exported models when it is
imported itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ablc import registration

if TYPE_CHECKING:
    from ablc.api import load, load_family, loads, parse, plan
    from ablc.exporting.export import export
    from ablc.faults import Fault, SpecError
    from ablc.patching import build, patch
    from ablc.planning import Plan
    from ablc.planning.counting import Count, count
    from ablc.spec import Spec

__version__ = "0.1.0"

_HOMES = {
    "ablc.api": ("load", "load_family", "loads", "parse", "plan"),
    "ablc.exporting.export": ("export",),
    "ablc.planning.counting": ("Count", "count"),
    "ablc.faults": ("Fault", "SpecError"),
    "ablc.patching": ("build", "patch"),
    "ablc.planning": ("Plan",),
    "ablc.spec": ("Spec",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Count", "Fault", "Plan", "Spec", "SpecError",
    "build", "count", "export", "load", "load_family", "loads", "parse", "patch", "plan",
]  # fmt: skip


registration.install()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ablc' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
