"""Makes `AutoModelForCausalLM` know the models that `ablc export` writes, once ablc is imported."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

_CONFIGS = "transformers.models.auto.configuration_auto"
_MODELS = "transformers.models.auto.modeling_auto"


class _AfterImport:
    """Among the finders of `sys.meta_path`: registers when transformers' tables of models have been imported.

    Importing them ourselves would make every `import ablc` wait for torch, and transformers asks nobody for model types
    that it doesn't know. So the modules are left to Python's own finder and loader, and something is done after them.
    """

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name in (_CONFIGS, _MODELS) else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            _after(name)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Register now where transformers' tables are there already, else when they come."""
    if _CONFIGS in sys.modules:
        _after(_MODELS)
    elif _AfterImport not in sys.meta_path:
        sys.meta_path.insert(0, _AfterImport)


def _after(name: str) -> None:
    try:
        # The first config that is imported reads the table of models, so that has to be whole; it may be on its way.
        importlib.import_module(_MODELS)
        if name == _MODELS:
            _register()
    except Exception as error:  # whoever imports transformers may not want our models at all
        warnings.warn(f"AutoModelForCausalLM won't know the exports of ablc: {error!r}", stacklevel=2)


def _register() -> None:
    """Tell transformers the config class of every family; a model's class follows when a config is made."""
    modeling, auto = importlib.import_module("ablc.modeling_ablc"), importlib.import_module(_CONFIGS)
    for family in importlib.import_module("ablc.families").families():
        if family in auto.CONFIG_MAPPING:
            auto.AutoConfig.register(f"ablc_{family}", modeling.config_class(family), exist_ok=True)
