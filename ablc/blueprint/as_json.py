"""Blueprints as JSON data and back. Layers that are equal are written once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ablc.blueprint.nodes import (
    Act,
    Blueprint,
    Chain,
    Embedding,
    Group,
    Identity,
    Linear,
    Node,
    Norm,
    Nothing,
    Part,
    Tied,
)

_KINDS: Mapping[str, type] = {
    kind.__name__: kind for kind in (Act, Chain, Embedding, Group, Identity, Linear, Norm, Nothing, Tied)
}


def encode_blueprint(blueprint: Blueprint) -> dict[str, Any]:
    nodes, layers = shared_nodes(blueprint.layers)
    return {
        "family": blueprint.family,
        "config": dict(blueprint.config),
        "root": encode(blueprint.root),
        "layers_path": blueprint.layers_path,
        "distinct_layers": [encode(node) for node in nodes],
        "layers": layers,
    }


def structure(blueprint: Blueprint) -> dict[str, Any]:
    """What makes two models the same: nodes, paths and frozen flags, without the names that slots have."""
    names = ("slots", "feeds", "aliases")

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(inner) for key, inner in value.items() if key not in names}
        return [strip(inner) for inner in value] if isinstance(value, list | tuple) else value

    encoded = encode_blueprint(blueprint)
    return {key: strip(encoded[key]) for key in ("family", "root", "layers_path", "distinct_layers", "layers")}


def decode_blueprint(data: Mapping[str, Any]) -> Blueprint:
    """Raises ValueError for what `encode_blueprint` didn't write."""
    try:
        root = decode(data["root"])
        nodes = [decode(node) for node in data["distinct_layers"]]
        layers = tuple(nodes[index] for index in data["layers"])
        assert isinstance(root, Group)
        return Blueprint(data["family"], data["config"], root, data["layers_path"], layers)
    except (KeyError, TypeError, IndexError, AssertionError) as error:
        raise ValueError(f"this is no blueprint: {error!r}") from error


def encode(node: Node) -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": type(node).__name__}
    for field in fields(node):
        value = getattr(node, field.name)
        plain[field.name if field.name != "kind" else "of"] = _encode_value(value)
    return plain


def _encode_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_encode_value(item) for item in value]
    if isinstance(value, Part):
        return {field.name: _encode_value(getattr(value, field.name)) for field in fields(value)}
    return encode(value) if type(value).__name__ in _KINDS else value


def decode(data: Mapping[str, Any]) -> Node:
    rest = {("kind" if key == "of" else key): value for key, value in data.items() if key != "kind"}
    kind = _KINDS[data["kind"]]
    if kind is Chain:
        rest["links"] = tuple((name, decode(node)) for name, node in rest["links"])
    if kind is Group:
        rest["parts"] = tuple(_decode_part(part) for part in rest["parts"])
        rest["nothing"] = decode(rest["nothing"]) if rest["nothing"] else None
    node: Node = kind(**rest)
    return node


def _decode_part(data: Mapping[str, Any]) -> Part:
    tuples = {name: tuple(data[name]) for name in ("slots", "aliases")}
    return Part(**{**data, **tuples, "node": decode(data["node"])})


def shared_nodes(nodes: Sequence[Node]) -> tuple[list[Node], list[int]]:
    """The distinct nodes among layers, and for each layer which of them it is."""
    distinct: dict[Node, int] = {}
    known: dict[int, int] = {}
    for node in nodes:
        if id(node) not in known:
            known[id(node)] = distinct.setdefault(node, len(distinct))
    return list(distinct), [known[id(node)] for node in nodes]
