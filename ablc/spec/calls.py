"""Operations looked up and their arguments matched, which needs no base model: what is wrong here is told even where
the base can't be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ablc.faults import Fault, Span, did_you_mean
from ablc.language import tree
from ablc.language.tree import Statement
from ablc.ops import Operation, operation, operations
from ablc.ops.operation import Parameter
from ablc.spec.gather import Program


@dataclass(frozen=True)
class Call:
    """An operation with each argument it was given and the parameter that one fills."""

    operation: Operation
    said: tuple[tuple[Parameter, tree.Argument], ...]


Calls = Mapping[Span, Call]  # by the span of the statement; one with a fault is not there


def match_calls(program: Program, faults: list[Fault]) -> Calls:
    """The call of every assignment that has no fault in it."""
    found: dict[Span, Call] = {}
    for statement in program.statements:
        if isinstance(statement.node, tree.Assign):
            call = _call(statement, statement.node.call)
            if isinstance(call, Fault):
                faults.append(call)
            else:
                found[statement.span()] = call
    return found


def _call(statement: Statement, node: tree.Call) -> Call | Fault:
    """Each argument goes to a parameter as in Python: in order, or by name; none twice, none required left out."""
    name = node.operation.name
    if name not in operations():
        help = did_you_mean(name, operations(), "operations")
        return Fault("unknown-operation", f"there is no operation `{name}`", statement.span(node.operation), help)
    op = operation(name)
    positional = iter([parameter for parameter in op.parameters if not parameter.keyword_only])
    by_name = {parameter.name: parameter for parameter in op.parameters}
    matched: dict[str, tuple[Parameter, tree.Argument]] = {}

    def fault(code: str, node: tree.Node, message: str) -> Fault:
        return Fault(code, message, statement.span(node), f"it is written `{op.signature()}`")

    for argument in node.arguments:
        keyword = argument.keyword
        parameter = by_name.get(keyword.name) if keyword is not None else next(positional, None)
        if parameter is None and keyword is not None:
            near = did_you_mean(keyword.name, by_name, f"arguments of `{name}`") if by_name else "it takes none"
            message = f"`{name}` has no argument `{keyword.name}`"
            return Fault("unknown-argument", message, statement.span(keyword), near)
        if parameter is None:
            return fault("too-many-arguments", argument, f"`{name}` takes no further argument without a name")
        if parameter.name in matched:
            return fault("argument-twice", argument, f"`{parameter.name}` is given twice")
        matched[parameter.name] = (parameter, argument)
    for parameter in op.parameters:
        if parameter.required and parameter.name not in matched:
            return fault("missing-argument", node, f"`{name}` needs its argument `{parameter.name}`")
    return Call(op, tuple(matched.values()))
