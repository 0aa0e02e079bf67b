"""Nodes as modules: standard torch layers, so that what works on Hugging Face models goes on working."""

from __future__ import annotations

from torch import nn

from ablc.blueprint import Group, Node, Norm, Tied
from ablc.blueprint.as_json import encode
from ablc.modeling_ablc import make


def module_of(node: Node) -> nn.Module:
    """The module of a node, its weights not yet filled; made on the default device and in the default dtype.

    The same code makes it from an exported checkpoint, where ablc may not be installed.
    """
    if isinstance(node, Group | Norm | Tied):
        raise TypeError(f"a {type(node).__name__} stays the module it is; it is never made")
    return make(encode(node))
