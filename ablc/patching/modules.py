"""Nodes as modules: standard torch layers, so that what works on Hugging Face models goes on working."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN

from ablc.blueprint import Act, Chain, Embedding, Identity, Linear, Node, Nothing


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

    def extra_repr(self) -> str:
        return "returns (zeros, None)" if self.returns_pair else "returns zeros"


class PassesOn(nn.Module):
    """Stands where a whole layer was: hands its input on."""

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return hidden_states


def module_of(node: Node) -> nn.Module:
    """The module of a node, its weights not yet filled; made on the default device and in the default dtype."""
    match node:
        case Linear(inputs, outputs, bias):
            return nn.Linear(inputs, outputs, bias=bias)
        case Embedding(rows, width):
            return nn.Embedding(rows, width)
        case Act(name):
            activation: nn.Module = ACT2FN[name]
            return activation
        case Identity():
            return nn.Identity()
        case Chain(links):
            return nn.Sequential(OrderedDict((name, module_of(link)) for name, link in links))
        case Nothing("input"):
            return PassesOn()
        case Nothing(returns):
            return AddsNothing(returns_pair=returns == "zeros, None")
    raise TypeError(f"a {type(node).__name__} stays the module it is; it is never made")
