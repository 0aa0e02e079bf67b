"""A causal LM of transformers in which some modules are replaced.

`ablc export` puts this very file beside the weights: with torch and transformers it is all that is needed to load them.
What stands where is data in config.json: `replacements` lists the paths and the layers that stand there now.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import Any

import torch
import transformers
from torch import nn
from transformers import cache_utils
from transformers.activations import ACT2FN

PREFIX = "Ablc"


class AddsNothing(nn.Module):
    """Stands where an attention or an MLP was: adds zeros to the residual, whatever it is called with.

    Not named after what it replaces: transformers takes a class `…Attention` outside its own files for one it can't
    switch.
    """

    def __init__(self, returns_pair: bool) -> None:
        super().__init__()
        self.returns_pair = returns_pair

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        zeros = torch.zeros_like(hidden_states)
        return (zeros, None) if self.returns_pair else zeros


class PassesOn(nn.Module):
    """Stands where a whole layer was: hands its input on."""

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return hidden_states


def make(node: Mapping[str, Any]) -> nn.Module:
    """The module that a node of `replacements` describes. Raises ValueError for a kind that this file doesn't know."""
    match node:
        case {"kind": "Linear", "inputs": inputs, "outputs": outputs, "bias": bias}:
            return nn.Linear(inputs, outputs, bias=bias)
        case {"kind": "Embedding", "rows": rows, "width": width}:
            return nn.Embedding(rows, width)
        case {"kind": "Act", "name": name}:
            activation: nn.Module = ACT2FN[name]
            return activation
        case {"kind": "Identity"}:
            return nn.Identity()
        case {"kind": "Chain", "links": links}:
            return nn.Sequential(OrderedDict((name, make(link)) for name, link in links))
        case {"kind": "Nothing", "returns": "input"}:
            return PassesOn()
        case {"kind": "Nothing", "returns": returns}:
            return AddsNothing(returns_pair=returns == "zeros, None")
    raise ValueError(f"{node.get('kind')} is newer than this modeling_ablc.py")


def adopt(model: Any, replacements: list[dict[str, Any]]) -> None:
    """Make a stock model in which modules were replaced a model with replacements, which can be saved and loaded.

    A class of somebody's own stays what it is. The config becomes a new one: other models may share the old one.
    """
    before = model.config
    family = before.model_type.removeprefix("ablc_")
    if type(model) not in (_stock_model(family), model_class(family)):
        return
    config = deepcopy(before)
    config.__class__ = config_class(family)
    config.replacements = [*(getattr(before, "replacements", None) or []), *replacements]
    for module in model.modules():
        if getattr(module, "config", None) is before:
            module.config = config
    model.__class__ = model_class(family)


class _Config:
    """Stands before a stock config class. `replacements` and `kv_sharing_modes` are plain fields of config.json."""

    model_type: str

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)  # type: ignore[misc]
        # Not earlier: the class of a model costs importing all that models need, and whoever wants none needn't wait.
        _register(self.model_type)


class _Model:
    """Stands before a stock class for causal LMs."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        _check_cache(config)
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        for entry in getattr(config, "replacements", None) or []:
            for path in entry["paths"]:
                self.set_submodule(path, make(entry["node"]))  # type: ignore[attr-defined]
        self.post_init()  # type: ignore[attr-defined]


def _check_cache(config: Any) -> None:
    modes = getattr(config, "kv_sharing_modes", None) or [None]
    if modes[0] is not None and not hasattr(cache_utils, "DummyLayer"):
        # The cache would take the model for empty for ever, and generate nonsense without a word.
        raise ImportError("layer 0 of this model has no attention: its KV cache needs a newer transformers")


@cache
def config_class(family: str) -> Any:
    """The config class of a family of transformers (`gpt_neox`), for models with replacements."""
    stock = transformers.models.auto.configuration_auto.CONFIG_MAPPING[family]
    # `_auto_class` makes `save_pretrained` copy this file and name it in config.json.
    own = {"model_type": f"ablc_{family}", "_auto_class": "AutoConfig", "__module__": __name__}
    return type(PREFIX + stock.__name__, (_Config, stock), own)


@cache
def model_class(family: str) -> Any:
    """The class of a family's causal LMs with replacements."""
    stock = _stock_model(family)
    own = {"config_class": config_class(family), "_auto_class": "AutoModelForCausalLM", "__module__": __name__}
    return type(PREFIX + stock.__name__, (_Model, stock), own)


def _stock_model(family: str) -> Any:
    auto = transformers.models.auto
    return auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING[auto.configuration_auto.CONFIG_MAPPING[family]]


@cache
def _register(model_type: str) -> None:
    family = model_type.removeprefix("ablc_")
    transformers.AutoModelForCausalLM.register(config_class(family), model_class(family), exist_ok=True)


def __getattr__(name: str) -> Any:
    """`AblcGPTNeoXConfig`, `AblcGPTNeoXForCausalLM`, …: what `auto_map` in a config.json names."""
    stock = getattr(transformers, name.removeprefix(PREFIX), None) if name.startswith(PREFIX) else None
    if stock is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if issubclass(stock, transformers.PreTrainedConfig):
        return config_class(stock.model_type)
    return model_class(stock.config_class.model_type)
