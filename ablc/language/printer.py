"""Tree to text: the shortest canonical spelling of every node. `parse(show(node)) == node` for each statement."""

from __future__ import annotations

from functools import singledispatch

from ablc.language import tree

_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "//": 2}
_SIGN = 3


@singledispatch
def show(node: tree.Node) -> str:
    """The canonical text of a statement, a target, an operation or a value."""
    raise TypeError(f"no text for {type(node).__name__}")


@show.register
def _(node: tree.Metadata) -> str:
    return f"{node.key} = {show(node.value)}"


@show.register
def _(node: tree.Model) -> str:
    overrides = ", ".join(f"{o.field.name} = {show(o.value)}" for o in node.overrides)
    return f"model = {show(node.value)}" + (f"({overrides})" if overrides else "")


@show.register
def _(node: tree.Extends) -> str:
    return f"extends {show(node.path)}"


@show.register
def _(node: tree.Vary) -> str:
    return f"vary {node.name.name} = {', '.join(map(show, node.values))}"


@show.register
def _(node: tree.Freeze) -> str:
    return f"freeze {', '.join(map(show, node.targets))}"


@show.register
def _(node: tree.Train) -> str:
    return f"train.{node.key.name} = {show(node.value)}"


@show.register
def _(node: tree.Expect) -> str:
    relation = f"within {show(node.tolerance)}% of" if node.tolerance is not None else node.relation
    return f"expect {node.measure.name} {relation} {show(node.value)}"


@show.register
def _(node: tree.Assign) -> str:
    return f"{', '.join(map(show, node.targets))} = {show(node.call)}"


@show.register
def _(node: tree.Target) -> str:
    return node.slot.name + (show(node.layers) if node.layers is not None else "")


@show.register
def _(node: tree.Layers) -> str:
    return f"[{', '.join(map(show, node.items))}]"


@show.register
def _(node: tree.Index) -> str:
    return show(node.value)


@show.register
def _(node: tree.Slice) -> str:
    bounds = (node.first, node.last) if node.step is None else (node.first, node.last, node.step)
    first, *others = (show(bound) if bound is not None else "" for bound in bounds)
    if any(isinstance(bound, tree.Binary) for bound in bounds):  # without blanks, `a + 1:b` would seem to add `1:b`
        return " ".join(part for part in (first, *(p for other in others for p in (":", other))) if part)
    return ":".join((first, *others))


@show.register
def _(node: tree.Call) -> str:
    arguments = ", ".join(
        (f"{a.keyword.name}=" if a.keyword is not None else "") + show(a.value) for a in node.arguments
    )
    return node.operation.name + (f"({arguments})" if arguments else "")


@show.register(tree.Integer)
@show.register(tree.Float)
def _(node: tree.Integer | tree.Float) -> str:
    return node.text


@show.register
def _(node: tree.String) -> str:
    return f'"{node.value}"'


@show.register
def _(node: tree.Word) -> str:
    return node.name


@show.register
def _(node: tree.Negative) -> str:
    return f"-{_inside(node.operand, _SIGN)}"


@show.register
def _(node: tree.Binary) -> str:
    own = _PRECEDENCE[node.operator]
    # the right operand of an equally strong operator needs its brackets: a - (b - c)
    return f"{_inside(node.left, own)} {node.operator} {_inside(node.right, own + 1)}"


def _inside(node: tree.Value, outer: int) -> str:
    text = show(node)
    own = _PRECEDENCE[node.operator] if isinstance(node, tree.Binary) else _SIGN
    return f"({text})" if own < outer else text
