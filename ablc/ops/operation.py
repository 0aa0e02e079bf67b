"""What an operation is: a rewrite function whose signature is its argument list."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ablc.blueprint import Node
from ablc.ops.arguments import Kind


class Refusal(Exception):
    """Raised by a rewrite that can't stand where it was put. With no sentence: the operation doesn't fit this slot
    at all."""

    def __init__(self, message: str = "", help: str | None = None) -> None:
        self.message, self.help = message, help
        super().__init__(message)


@dataclass(frozen=True)
class Parameter:
    """One argument of an operation: its name, type, and whether it must be said, and by keyword."""

    name: str
    kind: Kind
    required: bool
    keyword_only: bool
    default: Any


@dataclass(frozen=True)
class Operation:
    """A named rewrite. Call it as its function: `lora("attention.out", Linear(64, 64, bias=True), 8)`."""

    name: str
    parameters: tuple[Parameter, ...]
    rewrite: Callable[..., Node]

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.rewrite) or ""

    def __call__(self, slot: str, node: Node, *args: Any, **kwargs: Any) -> Node:
        return self.rewrite(slot, node, *args, **kwargs)

    def explicit(self, arguments: Mapping[str, Any], base_activation: str) -> dict[str, Any]:
        """The arguments with every default spelled out."""
        said = {p.name: arguments.get(p.name, p.default) for p in self.parameters}
        return {p.name: p.kind.default(said[p.name], base_activation) for p in self.parameters}

    def scaled(self, arguments: Mapping[str, Any], factor: Fraction) -> dict[str, Any]:
        """The arguments in a model whose width is `factor` times the original's."""
        return {p.name: p.kind.scaled(arguments[p.name], factor) for p in self.parameters}

    def signature(self) -> str:
        """How it is written: `lora(r, bias=…)`."""
        shown = [p.name if p.required else f"{p.name}=…" for p in self.parameters]
        return f"{self.name}({', '.join(shown)})" if shown else self.name


def operation(rewrite: Callable[..., Node]) -> Operation:
    """Make a rewrite function an operation. Its first two parameters are the slot and the node that stands there;
    the type of each of the others is `Annotated` with a `Kind`, and a default makes it optional."""
    hints = typing.get_type_hints(rewrite, include_extras=True)
    parameters = []
    for name, parameter in list(inspect.signature(rewrite).parameters.items())[2:]:
        kind = next(extra for extra in typing.get_args(hints[name]) if isinstance(extra, Kind))
        required = parameter.default is parameter.empty
        keyword_only = parameter.kind is parameter.KEYWORD_ONLY
        default = None if required else parameter.default
        parameters.append(Parameter(name, kind, required, keyword_only, default))
    return Operation(rewrite.__name__, tuple(parameters), rewrite)
