"""Evaluates the values of a spec: integer expressions, literals, bare words and layer ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from ablc.faults import did_you_mean
from ablc.language import tree
from ablc.language.printer import show

Scalar = int | float | str | bool | None
CONSTANTS: Mapping[str, Scalar] = {"true": True, "false": False, "null": None}
LARGEST = 10**60


class BadValue(Exception):
    """A value that can't be; `node` is the part to point at."""

    def __init__(self, code: str, node: tree.Node, message: str, help: str | None = None) -> None:
        self.code, self.node, self.message, self.help = code, node, message, help
        super().__init__(message)


@dataclass(frozen=True)
class Names:
    """What bare words mean in an expression: the `vary` values of this variant, the untouched base config's
    integers, and `layer` where it has a meaning. `used` is told every config field that is read."""

    vary: Mapping[str, Scalar]
    fields: Mapping[str, int]
    layer: int | None = None
    used: Callable[[str, tree.Node], None] = lambda name, node: None


def evaluate(node: tree.Value, names: Names) -> Scalar:
    """A value where any kind may stand: a bare word is a `vary` name, a constant, or the same as the quoted word."""
    if isinstance(node, tree.Word):
        if node.name in names.vary:
            return names.vary[node.name]
        return CONSTANTS.get(node.name, node.name)
    if isinstance(node, tree.String | tree.Integer | tree.Float):
        return node.value
    if isinstance(node, tree.Negative):
        literal = evaluate(node.operand, names)
        if isinstance(literal, float):
            return -literal
    return integer(node, names)


def integer(node: tree.Value, names: Names) -> int:
    """An integer expression over literals, `vary` names, config fields and `layer`."""
    result = _arithmetic(node, names)
    if abs(result) > LARGEST:
        raise BadValue("number-too-large", node, f"`{show(node)}` is larger than 10^60")
    return result


def _arithmetic(node: tree.Value, names: Names) -> int:
    match node:
        case tree.Integer():
            return node.value
        case tree.Negative():
            return -_arithmetic(node.operand, names)
        case tree.Binary():
            return _combine(node, _arithmetic(node.left, names), _arithmetic(node.right, names))
        case tree.Word():
            return _number(node, names)
    raise BadValue("not-an-integer", node, f"{show(node)} isn't an integer")


def _combine(node: tree.Binary, left: int, right: int) -> int:
    match node.operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
    if right == 0:
        raise BadValue("division-by-zero", node.right, f"`{show(node)}` divides by zero")
    return left // right


def _number(node: tree.Word, names: Names) -> int:
    name = node.name
    if name == "layer" and names.layer is not None:
        return names.layer
    if name in names.fields:
        names.used(name, node)
        return names.fields[name]
    value = names.vary.get(name, "")
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if name in names.vary:
        raise BadValue("not-an-integer", node, f"`{name}` is {value!r} here, not an integer")
    if name == "layer":
        raise BadValue("unknown-name", node, "`layer` has a meaning only in the arguments of an operation on layers")
    known = [*names.vary, *names.fields]
    raise BadValue("unknown-name", node, f"`{name}` is no number here", did_you_mean(name, known, "numbers"))


def exact(node: tree.Value) -> Fraction | None:
    """A signed literal as a fraction, None for anything else."""
    if isinstance(node, tree.Negative):
        inner = exact(node.operand)
        return None if inner is None else -inner
    return Fraction(node.text.replace("_", "")) if isinstance(node, tree.Integer | tree.Float) else None


# --- layers ----------------------------------------------------------------------------------------------------------


def layer_set(node: tree.Layers, depth: int, names: Names) -> tuple[int, ...]:
    """The layers that `[…]` names in a model of `depth` layers, sorted, each once."""
    chosen: set[int] = set()
    for item in node.items:
        if isinstance(item, tree.Slice):
            chosen.update(_slice(item, depth, names))
        else:
            chosen.add(_index(item.value, depth, names))
    return tuple(sorted(chosen))


def _index(node: tree.Value, depth: int, names: Names) -> int:
    value = _bound(node, names)
    if not -depth <= value < depth:
        raise BadValue("layer-out-of-range", node, f"there is no layer {value}", _layers_help(depth))
    return value % depth


def _slice(node: tree.Slice, depth: int, names: Names) -> range:
    step = integer(node.step, names) if node.step is not None else 1
    if node.step is not None and step < 1:
        raise BadValue("bad-stride", node.step, f"a stride is at least 1, not {step}")
    ends = []
    for end, default in ((node.first, 0), (node.last, depth)):
        value = default if end is None else _bound(end, names)
        if end is not None and not -depth <= value <= depth:
            raise BadValue("layer-out-of-range", end, f"{value} lies beyond the layers", _layers_help(depth))
        ends.append(value + depth if value < 0 else value)
    layers = range(ends[0], ends[1], step)
    swept = any(word.name in names.vary for word in tree.words(node))
    if not layers and not swept:
        raise BadValue("empty-range", node, f"[{show(node)}] is no layer at all", "ranges are half-open: [3:5] is 3, 4")
    return layers


def _bound(node: tree.Value, names: Names) -> int:
    """An index or bound. Only a literal may be negative: a computed one below zero is a slip, not a count from the
    end."""
    value = integer(node, names)
    literal = isinstance(node, tree.Negative) and isinstance(node.operand, tree.Integer)
    if value < 0 and not literal:
        help = "only a literal counts from the end: [-1]"
        raise BadValue(
            "negative-bound", node, f"`{show(node)}` is {value}, and a computed bound can't be negative", help
        )
    return value


def _layers_help(depth: int) -> str:
    return f"this model has {depth} layers, 0 to {depth - 1}"


def show_layers(layers: tuple[int, ...], depth: int | None = None) -> str:
    """The shortest spelling of a sorted set of layers: `[0:3, 7]`; empty where it is all of `depth`."""
    if depth is not None and len(layers) == depth:
        return ""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([layer, layer + 1])
    spelled = [str(a) if b == a + 1 else f"{a}:{'' if b == depth and a else b}" for a, b in runs]
    return f"[{', '.join(spelled)}]"
