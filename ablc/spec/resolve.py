"""Statements to a `Spec`: names looked up, numbers evaluated, layers counted out, defaults made explicit."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablc.blueprint import Layers
from ablc.blueprint.slots import SlotProblem, check_slot, slots_of
from ablc.faults import Fault
from ablc.language import tree
from ablc.language.parse import meant_keyword
from ablc.language.tree import Statement
from ablc.ops.operation import Parameter
from ablc.spec.calls import Call, Calls
from ablc.spec.claims import resolve_claims
from ablc.spec.gather import Program
from ablc.spec.model import Edit, Freeze, Spec
from ablc.spec.original import Original, value_of
from ablc.spec.settings import Settings, Variant, train_settings
from ablc.spec.values import BadValue, Names, Scalar, evaluate, integer, layer_set


def resolve(
    program: Program, found: Settings, calls: Calls, variant: Variant, original: Original, faults: list[Fault]
) -> Spec:
    """The spec of one variant. Statements with faults are left out of it, so that all faults of a file are told at
    once."""
    resolver = _Resolver(program, found, calls, variant, original, faults)
    resolver.vary_names()
    for statement in program.statements:
        if isinstance(statement.node, tree.Assign):
            resolver.assign(statement, statement.node)
        elif isinstance(statement.node, tree.Freeze):
            resolver.freeze(statement, statement.node)
    return Spec(
        file=program.source.name,
        sources={source.name: source.text for source in (program.source, *(s.source for s in program.statements))},
        name=resolver.text(found.name) or Path(program.source.name).stem or program.source.name,
        variant=variant.label,
        about=resolver.text(found.about),
        model=original.name,
        family=original.family,
        config=copy.deepcopy(dict(original.blueprint.config)),
        overrides=dict(original.overrides),
        edits=tuple(resolver.edits),
        freezes=tuple(resolver.freezes),
        train=train_settings(found, Names(variant.values, {}), faults),
        claims=tuple(resolve_claims(program, original.blueprint, faults)),
    )


@dataclass
class _Resolver:
    """Resolves the statements of one variant against one base model."""

    program: Program
    found: Settings
    calls: Calls
    variant: Variant
    original: Original
    faults: list[Fault]
    edits: list[Edit] = field(default_factory=list)
    freezes: list[Freeze] = field(default_factory=list)

    def text(self, statement: Statement | None) -> str | None:
        if statement is None or not isinstance(statement.node, tree.Metadata):
            return None
        value = value_of(statement, statement.node.value, Names(self.variant.values, {}), self.faults)
        if not isinstance(value, str) or not value:
            key = statement.node.key
            message = f'`{key}` must be a text that isn\'t empty, as in {key} = "…"'
            self.faults.append(Fault("not-a-text", message, statement.span(statement.node.value)))
            return None
        return value

    def _names(self, statement: Statement, layer: int | None = None) -> Names:
        def used(name: str, node: tree.Node) -> None:
            if name in self.original.overrides and self.original.overrides[name] != self.original.fields[name]:
                message = f"`{name}` is the base config's {self.original.fields[name]} here, not the override's"
                help = f"write {self.original.overrides[name]} if that is meant"
                self.faults.append(Fault("overridden-field", message, statement.span(node), help, "warning"))

        return Names(self.variant.values, self.original.fields, layer, used)

    def vary_names(self) -> None:
        for name, statement in self.found.vary.items():
            if name in self.original.names and isinstance(statement.node, tree.Vary):
                message = f"`{name}` is a config field of {self.original.name} and can't be a `vary` name"
                self.faults.append(Fault("bad-vary-name", message, statement.span(statement.node.name)))

    # targets

    def _targets(self, statement: Statement, targets: tuple[tree.Target, ...]) -> list[tuple[tree.Target, Layers]]:
        bracketed = [target for target in targets if target.layers is not None]
        if bracketed and len(bracketed) < len(targets):
            bare = next(target for target in targets if target.layers is None)
            message = "either all slots of a list have layers or none has: this reads as what it isn't"
            single = bare.slot.name in slots_of(self.original.blueprint).single
            help = "write two statements" if single else f"write {bare.slot.name}[…] too, or two statements"
            self.faults.append(Fault("mixed-brackets", message, statement.span(bare), help))
            return []
        resolved = [(target, self._layers(statement, target)) for target in targets]
        return [(target, layers) for target, layers in resolved if layers != (-1,)]

    def _layers(self, statement: Statement, target: tree.Target) -> Layers:
        """The layers of a target, None for a slot without layers, (-1,) where something is wrong."""
        try:
            check_slot(target.slot.name, self.original.blueprint)
            if target.slot.name in slots_of(self.original.blueprint).single:
                if target.layers is not None:
                    message = f"`{target.slot.name}` has no layers"
                    raise BadValue("no-layers", target.layers, message, "take the brackets out")
                return None
            if target.layers is None:
                return tuple(range(len(self.original.blueprint.layers)))
            return layer_set(target.layers, len(self.original.blueprint.layers), self._names(statement))
        except SlotProblem as problem:
            keyword = meant_keyword(target.slot.name) if problem.code == "unknown-slot" else None
            help = f"did you mean `{keyword} …`? ({problem.help})" if keyword else problem.help
            self.faults.append(Fault(problem.code, problem.message, statement.span(target.slot), help))
        except BadValue as bad:
            self.faults.append(Fault(bad.code, bad.message, statement.span(bad.node), bad.help))
        return (-1,)

    def freeze(self, statement: Statement, node: tree.Freeze) -> None:
        for target, layers in self._targets(statement, node.targets):
            span = statement.span(target)
            self.freezes.append(Freeze(slot=target.slot.name, layers=layers, span=span, statement=statement.span()))

    # assignments

    def assign(self, statement: Statement, node: tree.Assign) -> None:
        targets = self._targets(statement, node.targets)
        call = self.calls.get(statement.span())
        if call is None:
            return
        for target, layers in targets:
            for some, arguments in self._by_arguments(statement, call, layers):
                self.edits.append(
                    Edit(
                        slot=target.slot.name,
                        layers=some,
                        operation=call.operation.name,
                        arguments=arguments,
                        span=statement.span(target),
                        call=statement.span(node.call),
                        statement=statement.span(),
                    )
                )

    def _by_arguments(
        self, statement: Statement, call: Call, layers: Layers
    ) -> Iterator[tuple[Layers, dict[str, Any]]]:
        """The layers grouped by the values the arguments have there; one group unless an argument mentions `layer`."""
        depends = any(word.name == "layer" for _, argument in call.said for word in tree.words(argument.value))
        if layers is None or not depends:
            arguments = self._arguments(statement, call, None)
            if arguments is not None:
                yield layers, arguments
            return
        groups: dict[str, tuple[list[int], dict[str, Any]]] = {}
        for layer in layers:
            arguments = self._arguments(statement, call, layer)
            if arguments is None:
                return
            groups.setdefault(repr(arguments), ([], arguments))[0].append(layer)
        for some, arguments in groups.values():
            yield tuple(some), arguments

    def _arguments(self, statement: Statement, call: Call, layer: int | None) -> dict[str, Any] | None:
        values: dict[str, Any] = {}
        for parameter, argument in call.said:
            try:
                values[parameter.name] = _argument(parameter, argument.value, self._names(statement, layer))
            except BadValue as bad:
                self.faults.append(Fault(bad.code, bad.message, statement.span(bad.node), bad.help))
                return None
            if (wrong := parameter.kind.check(values[parameter.name])) is not None:
                message = f"`{parameter.name}` of `{call.operation.name}` can't be {_shown(values[parameter.name])}"
                message += f" in layer {layer}" if layer is not None else ""
                self.faults.append(Fault("bad-argument", message, statement.span(argument.value), wrong))
                return None
        return call.operation.explicit(values, self.original.blueprint.activation)


def _argument(parameter: Parameter, node: tree.Value, names: Names) -> Scalar:
    """A number or a word, as the parameter wants it; a float is let through to be refused with its own sentence."""
    literal = node.operand if isinstance(node, tree.Negative) else node
    if parameter.kind.numeric and not isinstance(literal, tree.Float):
        return integer(node, names)
    return evaluate(node, names)


def _shown(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
