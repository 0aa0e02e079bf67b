"""What a spec says once everything is resolved: the border between text and model, validated and frozen."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_serializer

from ablc.blueprint import Layers
from ablc.faults import Span

Relation = Literal["==", "<", "<=", ">", ">=", "within"]


class _Said(BaseModel):
    """Something a statement says; `span` is the place to point at."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, extra="forbid", defer_build=True)

    span: Span

    @field_serializer("span")
    def _place(self, span: Span) -> dict[str, Any]:
        return {"file": span.source.name, "line": span.line, "column": span.column, "text": span.text}


class Edit(_Said):
    """Put an operation into one slot of some layers (None: the slot has no layers). Arguments are numbers and words
    by now, defaults spelled out. `span` is the target, `call` the operation, `statement` all of it."""

    slot: str
    layers: Layers
    operation: str
    arguments: dict[str, Any]
    call: Span
    statement: Span

    @field_serializer("call", "statement")
    def _text(self, span: Span) -> str:
        return span.text


class Freeze(_Said):
    """What finally stands in a slot is not trained."""

    slot: str
    layers: Layers
    statement: Span

    @field_serializer("statement")
    def _text(self, span: Span) -> str:
        return span.text


class Claim(_Said):
    """`expect measure relation value`: the value is `factor`, or `factor` times the measure of another spec.
    `tolerance` is the fraction of `within … of`."""

    text: str
    measure: str
    relation: Relation
    factor: Fraction
    reference: str | None
    tolerance: Fraction | None
    value: Span

    @field_serializer("value")
    def _text(self, span: Span) -> str:
        return span.text

    @field_serializer("factor", "tolerance")
    def _exact(self, number: Fraction | None) -> str | None:
        return None if number is None else str(number)


class Spec(BaseModel):
    """One model to build: a variant of a file, with `extends` followed and `vary` decided.

    `sources` holds the text of the file and of all it extends, by name. `config` is the base config as the family
    understands it with `overrides` applied. `train` holds the recipe keys that were said, validated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    file: str
    sources: dict[str, str]
    name: str
    variant: str | None
    about: str | None
    model: str
    family: str
    config: dict[str, Any]
    overrides: dict[str, Any]
    edits: tuple[Edit, ...]
    freezes: tuple[Freeze, ...]
    train: dict[str, Any]
    claims: tuple[Claim, ...]

    @property
    def full_name(self) -> str:
        return f"{self.name}@{self.variant}" if self.variant else self.name
