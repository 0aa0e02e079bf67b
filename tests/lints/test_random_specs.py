"""Lints on random specs: none crashes, and what they count is what the plan counts."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from linted import LLAMA, SMALL

from ablc.blueprint.measures import params, unread
from ablc.checking import check
from ablc.faults import Source
from ablc.pipeline import Compiled, compile_source

NARROW = "num_hidden_layers = 6, hidden_size = 64, num_attention_heads = 4, num_key_value_heads = 2, head_dim = 16"
SMALL_LLAMA = f'model = "{LLAMA}"({NARROW})'
BASES = (f'model = "{SMALL}"', SMALL_LLAMA, f'model = "{SMALL}"(hidden_act = linear, use_parallel_residual = false)')
SLOTS = "attention attention.qkv attention.out attention.norm mlp mlp.up mlp.down mlp.act mlp.norm layer".split()
ranges = st.sampled_from(["", "[0:3]", "[2:]", "[1]", "[::2]", "[0, 5]", "[2:5]"])
operations = st.sampled_from(["full", "none", "lora(8)", "lora(4 + layer)", "nonlinear_lora(8)", "lora_mlp(16)"])
edits = st.builds("{}{} = {}".format, st.sampled_from(SLOTS), ranges, operations)
frozen = st.builds("freeze {}{}".format, st.sampled_from(SLOTS), ranges)
comments = st.sampled_from(["", "  # layers 2 to 5", "  # seven layers", "  # ablc: allow erased because", "  # 0-3"])
lines = st.lists(st.builds("{}{}".format, edits | frozen, comments), min_size=1, max_size=7)


def compiled(base: str, statements: list[str]) -> Compiled:
    """A file of those of the statements that can stand together."""
    kept = [base]
    found = compile_source(Source("spec.abl", base))
    for statement in statements:
        longer = compile_source(Source("spec.abl", "\n".join([*kept, statement])))
        if longer.ok:
            kept, found = [*kept, statement], longer
    return found


def numbers(message: str, before: str) -> int:
    return int(re.findall(rf"([\d,]+){before}", message)[0].replace(",", ""))


@settings(max_examples=150)
@given(st.sampled_from(BASES), lines)
def test_what_is_unread_is_what_the_plan_says(base: str, statements: list[str]) -> None:
    found = compiled(base, statements)
    (checked,) = check([found])
    said = [numbers(f.message, " parameters") for f in checked.faults if f.code == "unread-parameters"]
    assert sum(said) == unread(found.variants[0].plan.blueprint)


@settings(max_examples=150)
@given(st.sampled_from(BASES[::2]), lines, st.sampled_from(["[0:3]", "[2:]", ""]))
def test_what_is_redundant_is_what_the_way_out_saves(base: str, statements: list[str], where: str) -> None:
    found = compiled(base, [*statements, f"mlp.act{where} = none"])
    (checked,) = check([found])
    (planned,) = found.variants
    source = planned.spec.sources["spec.abl"]
    for fault in checked.faults:
        if fault.code == "linear-in-a-row" and fault.help is not None and (product := fault.help.split("`")[1::2]):
            (better,) = compile_source(Source("spec.abl", "\n".join([source, *product]))).variants
            depth = int((re.findall(r"in (\d+) layers", fault.message) or ["1"])[0])
            rank = int(re.findall(r"lora\((\d+)", product[0])[0])
            width = planned.plan.original.config["hidden_size"]
            # at full rank the product holds two matrices, and the surplus is counted to one
            surplus = depth * width * width if rank == width else 0
            saved = params(planned.plan.blueprint) - params(better.plan.blueprint)
            assert numbers(fault.message, " of their") == saved + surplus


@settings(max_examples=150)
@given(st.sampled_from(BASES), lines)
def test_what_has_no_effect_can_go(base: str, statements: list[str]) -> None:
    found = compiled(base, statements)
    (checked,) = check([found])
    text = found.variants[0].spec.sources["spec.abl"]
    for fault in checked.faults:
        if fault.code in ("no-effect", "frozen-twice") and fault.span is not None:
            start, end = text.rfind("\n", 0, fault.span.start), fault.span.end
            without = compile_source(Source("spec.abl", text[:start] + text[end:]))
            assert without.ok and without.variants[0].plan.fingerprint == found.variants[0].plan.fingerprint


@settings(max_examples=60)
@given(st.sampled_from(BASES), lines)
def test_an_assignment_that_can_go_alone_is_told(base: str, statements: list[str]) -> None:
    """A last assignment whose absence changes nothing erased nothing either, or was told with what it repeats."""
    found = compiled(base, statements)
    (planned,) = found.variants
    text = planned.spec.sources["spec.abl"]
    if not planned.spec.edits or planned.spec.freezes:
        return
    last = planned.spec.edits[-1].statement
    without = compile_source(Source("spec.abl", text[: last.start] + text[last.end :]))
    if without.ok and without.variants[0].plan.fingerprint == planned.plan.fingerprint:
        (checked,) = check([found])
        told = {fault.code for fault in checked.faults if fault.span is not None}
        spelled = planned.spec.edits[-1].operation == "full"
        assert told & {"no-effect", "erased", "unused-allow"} or spelled
