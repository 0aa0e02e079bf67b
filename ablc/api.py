"""The way in from Python: every step of the pipeline by itself."""

from __future__ import annotations

from pathlib import Path

from ablc.families import family
from ablc.faults import Fault, Source, Span, SpecError, expect, has_errors
from ablc.language.parse import parse as parse_source
from ablc.language.read import from_text
from ablc.language.tree import File
from ablc.pipeline import Compiled, compile_file, compile_source
from ablc.planning import Plan, make_plan
from ablc.spec import Spec


def parse(text: str, name: str = "<text>") -> File:
    """Text to a syntax tree. Raises SpecError with every syntax error."""
    faults: list[Fault] = []
    source = from_text(text, name, faults)
    file = parse_source(source or Source(name, ""), faults)
    if has_errors(faults):
        raise SpecError(faults)
    return file


def load(path: str | Path, *, model: str | None = None) -> Spec:
    """The spec of a file, or of one variant of a family (`"sweep.abl@r=8"`). Raises SpecError."""
    return _only(compile_file(Path(path), model=model, claims=False))


def load_family(path: str | Path, *, model: str | None = None) -> tuple[Spec, ...]:
    """The specs of every variant of a file. Raises SpecError."""
    compiled = _checked(compile_file(Path(path), model=model, claims=False))
    return tuple(planned.spec for planned in compiled.variants)


def loads(text: str, *, model: str | None = None, name: str = "<text>") -> Spec:
    """The spec that a text says; `model` is its base where the text names none. Raises SpecError."""
    expect(text, str, "loads takes the text of a spec; a file is taken by ablc.load")
    faults: list[Fault] = []
    source = from_text(text, name, faults)
    if source is None:
        raise SpecError(faults)
    return _only(compile_source(source, model=model, claims=False))


def plan(spec: Spec) -> Plan:
    """A spec to a plan. Raises SpecError where an operation can't stand where it was put."""
    expect(spec, Spec, 'plan takes a spec: ablc.plan(ablc.load("specs/18.abl"))')
    faults: list[Fault] = []
    made = make_plan(spec, family(spec.family).build(spec.config), faults)
    if has_errors(faults):
        raise SpecError(fault for fault in faults if fault.level == "error")
    return made


def _checked(compiled: Compiled) -> Compiled:
    if not compiled.ok:
        raise SpecError(fault for fault in compiled.faults if fault.level == "error")
    return compiled


def _only(compiled: Compiled) -> Spec:
    variants = _checked(compiled).variants
    if len(variants) == 1:
        return variants[0].spec
    if not variants:
        help = "name the base: model=…, or a `model = …` statement"
        raise SpecError([Fault("no-model", f"{compiled.file} is a recipe and names no model", help=help)])
    spec = variants[0].spec
    source = Source(spec.file, spec.sources[spec.file])
    message = f"{compiled.file} is a family of {len(variants)} variants"
    help = f'name one, as in "{compiled.file}@{spec.variant}", or use `ablc.load_family`'
    raise SpecError([Fault("is-a-family", message, Span(source, 0, 0), help)])
