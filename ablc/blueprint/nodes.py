"""A model as an expression over a few standard layers, and the readings every other part lives on.

A family makes a `Blueprint` of a base config; an operation rewrites nodes of it. Nodes are frozen and know nothing
of where they stand, so that equal layers can be one object and are then counted once.

`weights` is the base reading: counts, bytes, initial values and the check against the real model all follow from
it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

Init = Literal["normal", "zeros", "ones"]
Layers = tuple[int, ...] | None  # sorted layer indices; None for what stands outside the layers
DTYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Linear:
    """y = x Wᵀ (+ b), W of shape (outputs, inputs)."""

    inputs: int
    outputs: int
    bias: bool


@dataclass(frozen=True)
class Embedding:
    """A table of `rows` vectors of `width` numbers."""

    rows: int
    width: int


@dataclass(frozen=True)
class Norm:
    """LayerNorm or RMSNorm over `width` numbers; `bias` only where the norm has one."""

    kind: Literal["LayerNorm", "RMSNorm"]
    width: int
    bias: bool


@dataclass(frozen=True)
class Act:
    """An activation, by the name transformers gives it (`gelu`, `silu`, …)."""

    name: str


@dataclass(frozen=True)
class Identity:
    """What comes in goes out."""


@dataclass(frozen=True)
class Nothing:
    """Stands where a whole group was. `returns` is what the family's layer needs from it so that nothing is added:
    `zeros` (a tensor), `zeros, None` (an attention's pair), or `input` (a skipped layer passes its input on)."""

    returns: Literal["zeros", "zeros, None", "input"]


@dataclass(frozen=True)
class Tied:
    """A projection that borrows the weight of the part at `to`; it computes and holds nothing of its own."""

    to: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Chain:
    """Layers applied one after the other, each under a name."""

    links: tuple[tuple[str, Node], ...]


@dataclass(frozen=True)
class Part:
    """A node in its place in a group.

    `slots` are its names in the language, the widest first; `path` its attribute in the Hugging Face module;
    `feeds` names the sibling slot that alone reads it, so that a norm before a removed attention is known to be
    read by nobody.
    """

    slots: tuple[str, ...]
    path: str
    node: Node
    frozen: bool = False
    feeds: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def slot(self) -> str:
        """The narrowest name: `attention.q` for a projection that is also part of `attention.qkv`."""
        return self.slots[-1]


@dataclass(frozen=True)
class Group:
    """A Hugging Face module that stays what it is while its parts are rewritten (`layer`, `attention`, `mlp`,
    `model`).

    `nothing` is what stands here when the group is removed, None where it can't be. An attention has `heads`,
    `kv_heads` and `head_dim`; they are 0 elsewhere.
    """

    kind: Literal["model", "layer", "attention", "mlp"]
    parts: tuple[Part, ...]
    nothing: Nothing | None = None
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Taken once, as the size is: groups are deep, and looked up again and again."""
        return hash((self.kind, self.parts, self.nothing, self.heads, self.kv_heads, self.head_dim))

    @cached_property
    def size(self) -> int:
        return sum(size(part.node) for part in self.parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return Group, (self.kind, self.parts, self.nothing, self.heads, self.kv_heads, self.head_dim)

    def parts_of(self, slot: str) -> list[Part]:
        """The direct parts that `slot` names."""
        return [part for part in self.parts if slot in part.slots]

    def map(self, slot: str, change: Callable[[Node], Node]) -> Group:
        """This group with every direct part of a slot changed; the parts stay where they are."""
        return replace(self, parts=tuple(replace(p, node=change(p.node)) if slot in p.slots else p for p in self.parts))


Node = Linear | Embedding | Norm | Act | Identity | Nothing | Tied | Chain | Group


@dataclass(frozen=True)
class Blueprint:
    """A whole model.

    `root` holds the parts outside the layers; `layers` the decoder layers, which stand at `layers_path` + index in
    the Hugging Face module tree. `config` is the base config the family understood, normalised, with the overrides
    of the spec.
    """

    family: str
    config: Mapping[str, Any] = field(hash=False)
    root: Group
    layers_path: str
    layers: tuple[Node, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.config, MappingProxyType):  # that is another blueprint's, which nobody changes either
            object.__setattr__(self, "config", MappingProxyType(copy.deepcopy(dict(self.config))))

    def __reduce__(self) -> tuple[Any, ...]:
        return Blueprint, (self.family, dict(self.config), self.root, self.layers_path, self.layers)

    @property
    def activation(self) -> str:
        """The base model's own activation: what its MLP has."""
        return next(part.node.name for _, part in leaves(self.layers[0]) if isinstance(part.node, Act))

    def sections(self) -> Iterator[tuple[int | None, str, Node]]:
        """Every independent piece: (layer index or None, path prefix, node)."""
        yield None, "", self.root
        for index, node in enumerate(self.layers):
            yield index, f"{self.layers_path}.{index}.", node


class Weight(NamedTuple):
    """A parameter tensor. `factor` is its name inside its part (`weight`, `A.weight`); `pair_rank` the rank of the
    low-rank product it is a factor of, None for all others; `read` is False where nothing uses it."""

    slot: str
    name: str
    factor: str
    shape: tuple[int, ...]
    init: Init
    pair_rank: int | None
    frozen: bool
    read: bool

    @property
    def size(self) -> int:
        return math.prod(self.shape)


# --- readings --------------------------------------------------------------------------------------------------------


def tensors(node: Node, rank: int | None = None) -> Iterator[tuple[str, tuple[int, ...], Init, int | None]]:
    """Name, shape, kind of initial value and pair rank of each weight in one part (shapes as torch has them)."""
    match node:
        case Linear(inputs, outputs, bias):
            yield "weight", (outputs, inputs), "normal", rank
            if bias:
                yield "bias", (outputs,), "zeros", None
        case Embedding(rows, width):
            yield "weight", (rows, width), "normal", rank
        case Norm(_, width, bias):
            yield "weight", (width,), "ones", None
            if bias:
                yield "bias", (width,), "zeros", None
        case Chain(links):
            for name, link in links:
                for inner, shape, init, inner_rank in tensors(link, pair_rank(node)):
                    yield f"{name}.{inner}", shape, init, inner_rank


def pair_rank(node: Node) -> int | None:
    """The inner width of a low-rank product, None for anything else."""
    match node:
        case Chain((("A", Linear(_, rank)), *_)) | Chain((("A", Embedding(_, rank)), *_)):
            return rank
    return None


def weights(node: Node, path: str = "", slot: str = "") -> Iterator[Weight]:
    """Every weight of a node, in the order of the module tree, with its full name below `path`."""
    if isinstance(node, Group):
        removed = {name for part in node.parts if isinstance(part.node, Nothing) for name in part.slots}
        for part in node.parts:
            inner = f"{path}{part.path}."
            read = part.feeds is None or part.feeds not in removed
            for weight in weights(part.node, inner, part.slot):
                yield weight._replace(frozen=weight.frozen or part.frozen, read=weight.read and read)
    else:
        for factor, shape, init, rank in tensors(node):
            yield Weight(slot, path + factor, factor, shape, init, rank, False, True)


def leaves(node: Node, path: str = "") -> Iterator[tuple[str, Part]]:
    """Every part that isn't a group, with its path; a group that was removed or replaced as a whole is one."""
    if isinstance(node, Group):
        for part in node.parts:
            inner = f"{path}.{part.path}" if path else part.path
            if isinstance(part.node, Group):
                yield from leaves(part.node, inner)
            else:
                yield inner, part


def size(node: Node) -> int:
    """Number of parameters, frozen and unread ones included."""
    if isinstance(node, Group):
        return node.size
    return sum(math.prod(shape) for _, shape, _, _ in tensors(node))


def trained_size(node: Node) -> int:
    """Number of parameters that no part of the node has frozen."""
    if isinstance(node, Group):
        return sum(trained_size(part.node) for part in node.parts if not part.frozen)
    return size(node)


def slot_size(node: Node, slot: str) -> int:
    """Number of parameters that stand in a slot of a section; `layer` is all of a layer."""
    if slot == "layer":
        return size(node)
    if not isinstance(node, Group):
        return 0
    return sum(size(p.node) if slot in p.slots else slot_size(p.node, slot) for p in node.parts)


def flops(node: Node, length: int) -> int:
    """Matrix-multiply FLOPs of a forward pass per token at a sequence of `length` tokens, two per multiply-add.

    What torch's FlopCounterMode counts: projections, and for an attention Q Kᵀ and its product with V over the full
    length × length square, as eager attention computes it. Norms, activations and rotations count nothing (older
    versions of transformers form the angles of the rotation by a small matrix product, which torch then counts).
    """
    match node:
        case Linear(inputs, outputs, _) | Tied(_, inputs, outputs):
            return 2 * inputs * outputs
        case Chain(links):
            return sum(flops(link, length) for _, link in links)
        case Group("attention"):
            scores_and_mix = 2 * 2 * length * node.heads * node.head_dim
            return scores_and_mix + sum(flops(part.node, length) for part in node.parts)
        case Group():
            return sum(flops(part.node, length) for part in node.parts)
    return 0


def kv_width(node: Node) -> int:
    """Numbers that a node keeps per token in the KV cache; nothing where there is no attention."""
    if not isinstance(node, Group):
        return 0
    own = 2 * node.kv_heads * node.head_dim if node.kind == "attention" else 0
    return own + sum(kv_width(part.node) for part in node.parts)


def describe(node: Node) -> str:
    """A node in words, as a plan or a diff shows it."""
    match node:
        case Linear(inputs, outputs, bias):
            return f"Linear({inputs}, {outputs})" if bias else f"Linear({inputs}, {outputs}, no bias)"
        case Embedding(rows, width):
            return f"Embedding({rows}, {width})"
        case Norm(kind, width, _):
            return f"{kind}({width})"
        case Act(name):
            return name
        case Identity():
            return "identity"
        case Nothing():
            return "nothing"
        case Tied(to, _, _):
            return f"tied to {to}"
        case Chain(links):
            return " · ".join(describe(link) for _, link in links)
        case Group(kind):
            return kind
