"""What the tests of planning share: a text compiled on a small base."""

from __future__ import annotations

from ablc.faults import Fault, Source
from ablc.pipeline import Compiled, Planned, compile_source
from ablc.planning import Plan

SMALL = "EleutherAI/pythia-70m"  # hidden 512, 6 layers, 8 heads, intermediate 2048, vocabulary 50304
LLAMA = "meta-llama/Llama-2-7b-hf"


def compiled(text: str, model: str = SMALL) -> Compiled:
    """A text with everything found wrong with it; `model` is the base where it names none."""
    return compile_source(Source("spec.abl", text), model=model)


def faults(text: str, model: str = SMALL) -> tuple[Fault, ...]:
    return compiled(text, model).faults


def codes(text: str, model: str = SMALL) -> list[str]:
    return [fault.code for fault in faults(text, model)]


def variants(text: str, model: str = SMALL) -> tuple[Planned, ...]:
    """The planned variants of a text without errors; warnings may be."""
    found = compiled(text, model)
    assert found.ok, [fault.message for fault in found.faults]
    return found.variants


def plan(text: str, model: str = SMALL) -> Plan:
    (one,) = variants(text, model)
    return one.plan


def changed(text: str, model: str = SMALL) -> list[tuple[str, tuple[int, ...] | None, str]]:
    """What stands where now: slot, layers, in words."""
    return sorted(((c.slot, c.layers, c.after) for c in plan(text, model).changes), key=str)


def same(one: str, other: str, model: str = SMALL) -> bool:
    """Whether two texts describe the same model."""
    return plan(one, model).fingerprint == plan(other, model).fingerprint
