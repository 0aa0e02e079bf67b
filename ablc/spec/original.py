"""The untouched base model of a spec: its config found, overridden and read by its family."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ablc.bases import Base, BaseProblem, builtin, load_base
from ablc.blueprint import Blueprint
from ablc.families import ConfigProblem, families, family, read_config, today
from ablc.faults import Fault, Span, did_you_mean, has_errors
from ablc.language import tree
from ablc.language.parse import SYNTAX_CODES
from ablc.language.tree import Statement
from ablc.spec.gather import Program
from ablc.spec.settings import Settings, Variant
from ablc.spec.values import BadValue, Names, Scalar, evaluate, integer


@dataclass(frozen=True)
class Original:
    """A base model before any operation. `fields` are the integers of its config before any override; `blueprint`
    has the overrides applied."""

    name: str
    family: str
    names: frozenset[str]
    fields: Mapping[str, int]
    overrides: Mapping[str, Any]
    blueprint: Blueprint


def find_original(
    program: Program, found: Settings, variant: Variant, faults: list[Fault], default_model: str | None = None
) -> Original | None:
    """The base model of one variant, or None after a fault."""
    statement = found.model
    if statement is not None and isinstance(statement.node, tree.Model):
        name = value_of(statement, statement.node.value, Names(variant.values, {}), faults)
        folder, overrides = statement.source.folder, statement.node.overrides
        span = statement.span(statement.node.value)
    else:  # a model that a command names counts from where the command runs
        name, folder, span, overrides = default_model, Path(), None, ()
    if isinstance(name, str) and _may_be_broken_name(statement, name, faults):
        return None
    if not isinstance(name, str) or not name:
        if not has_errors(faults):  # what went wrong before may be why none is
            faults.append(_no_model(span or Span(program.source, 0, 0)))
        return None
    try:
        base = load_base(name, folder)
        kind = _family_of(base)
    except BaseProblem as problem:
        faults.append(Fault(problem.code, problem.message, span, problem.help))
        return None
    problems: list[ConfigProblem] = []
    config = read_config(family(kind), base.config, {}, problems)
    fields = {k: v for k, v in {**config, **base.config}.items() if isinstance(v, int) and not isinstance(v, bool)}
    said = _overrides(statement, overrides, kind, Names(variant.values, fields), base, faults)
    if said:
        problems.clear()
        config = read_config(family(kind), base.config, said, problems)
    fields_said = [(today(family(kind), one.field.name).partition(".")[0], one) for one in overrides]
    places = {name: statement.span(one) for name, one in fields_said if statement is not None}
    faults.extend(_config_fault(problem, name, span, places.get(problem.field)) for problem in problems)
    if any(problem.level == "error" for problem in problems):
        return None
    try:
        blueprint = _blueprint(kind, json.dumps(config, sort_keys=True))
    except ValueError as error:
        faults.append(Fault("bad-config", f"{name}: {error}", span))
        return None
    own = replace(blueprint, config=dict(blueprint.config))  # the one that is kept is nobody's
    return Original(name, kind, frozenset({**config, **base.config}), fields, said, own)


def _may_be_broken_name(statement: Statement | None, name: str, faults: list[Fault]) -> bool:
    """Whether a bare word may be the name of a `vary` that couldn't be read, and so is no model to look for."""
    node = statement.node if statement is not None else None
    is_word = isinstance(node, tree.Model) and isinstance(node.value, tree.Word)
    return is_word and name not in builtin() and any(fault.code in SYNTAX_CODES for fault in faults)


def _no_model(place: Span) -> Fault:
    help = 'say which: model = "EleutherAI/pythia-410m"'
    return Fault("no-model", "no base model is named", place, help)


def _config_fault(problem: ConfigProblem, model: str, span: Span | None, override: Span | None) -> Fault:
    """A problem of the config, told at the override that made it, else at the model's name."""
    message = problem.message if override is not None else f"{model}: {problem.message}"
    return Fault(problem.code, message, override or span, problem.help, problem.level)


def _family_of(base: Base) -> str:
    kind = base.config["model_type"]
    if kind not in families():
        message = f"`{base.name}` is of the family {kind}, which ablc doesn't know"
        raise BaseProblem("unknown-family", message, f"families: {', '.join(families())}")
    return str(kind)


def _overrides(
    statement: Statement | None,
    nodes: tuple[tree.Override, ...],
    kind: str,
    names: Names,
    base: Base,
    faults: list[Fault],
) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for node in nodes:
        assert statement is not None
        name = node.field.name
        elsewhere = name != "model_type" and name.split(".")[0] in base.config
        if not family(kind).knows(name) and not elsewhere:
            help = did_you_mean(name, family(kind).fields, "fields")
            fault = Fault("unknown-field", f"{kind} has no config field `{name}`", statement.span(node.field), help)
            faults.append(fault)
        elif name in said:
            first = next(other for other in nodes if other.field.name == name)
            note = ((statement.span(first.field), "it is set here already"),)
            faults.append(Fault("set-twice", f"`{name}` is set twice", statement.span(node.field), related=note))
        else:
            is_field = isinstance(node.value, tree.Word) and node.value.name in names.fields
            said[name] = value_of(statement, node.value, names, faults, want_integer=is_field)
    return said


@lru_cache(maxsize=256)
def _blueprint(kind: str, config: str) -> Blueprint:
    """The untouched model of a config, given as JSON so that specs of one base share it."""
    return family(kind).build(json.loads(config))


def value_of(
    statement: Statement, node: tree.Value, names: Names, faults: list[Fault], want_integer: bool = False
) -> Scalar:
    """A value, or None after a fault."""
    try:
        return integer(node, names) if want_integer else evaluate(node, names)
    except BadValue as bad:
        faults.append(Fault(bad.code, bad.message, statement.span(bad.node), bad.help))
        return None
