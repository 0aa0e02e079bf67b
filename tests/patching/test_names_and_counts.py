"""The plan and the real model agree in the name and shape of every parameter, which is stronger than in a sum."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ablc
from ablc.faults import Source
from ablc.patching.patch import real_shapes, shapes_of
from ablc.pipeline import compile_source

from .conftest import BASES, plan_of


def test_the_26_at_full_size_on_the_meta_device(spec_path: Path) -> None:
    plan = ablc.plan(ablc.load(spec_path))
    model = ablc.build(plan, device="meta")
    assert real_shapes(model) == shapes_of(plan.blueprint)
    counted = ablc.count(plan)
    assert sum(p.numel() for p in model.parameters()) == counted.params
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == counted.trainable


RANKS = st.integers(1, 32)
WHOLE = {
    "attention": st.one_of(
        st.just("none"), RANKS.map("lora({})".format), RANKS.map("nonlinear_lora({}, bias=out)".format)
    ),
    "mlp": st.one_of(st.just("none"), RANKS.map("lora({})".format), RANKS.map("lora_mlp({}, bias=both)".format)),
    "attention.norm": st.just("none"),
    "mlp.norm": st.just("none"),
    "layer": st.just("none"),
}
PARTS = {
    "attention.qkv": RANKS.map("lora({})".format),
    "attention.out": st.one_of(st.just("none"), RANKS.map("nonlinear_lora({}, act=tanh)".format)),
    "mlp.up": RANKS.map("lora({}, bias=none)".format),
    "mlp.down": RANKS.map("lora({})".format),
    "mlp.act": st.just("none"),
}
SINGLE = {
    "embedding": RANKS.map("lora({})".format),
    "lm_head": RANKS.map("lora({}, bias=out)".format),
    "final_norm": st.just("none"),
}
LAYERS = st.sampled_from(["", "[0]", "[-1]", "[1:3]", "[::2]", "[0, 3]"])


def assignment(slots: dict[str, st.SearchStrategy[str]], layered: bool) -> st.SearchStrategy[str]:
    """`slot[layers] = op`, for some slot of those."""

    def one(slot: str) -> st.SearchStrategy[str]:
        return st.tuples(LAYERS if layered else st.just(""), slots[slot]).map(lambda t: f"{slot}{t[0]} = {t[1]}")

    return st.sampled_from(sorted(slots)).flatmap(one)


STATEMENTS = st.lists(
    st.one_of(assignment(PARTS, True), assignment(WHOLE, True), assignment(SINGLE, False)), min_size=1, max_size=5
)


@pytest.mark.parametrize("family", sorted(BASES))
@settings(max_examples=40)
@given(statements=STATEMENTS, freeze=st.booleans())
def test_random_specs(family: str, statements: list[str], freeze: bool) -> None:
    text = BASES[family] + "\n".join([*statements, *(["freeze mlp, attention.norm"] if freeze else [])])
    compiled = compile_source(Source("random.abl", text))
    if not compiled.ok:  # a part of a whole that is gone: refused, and rightly
        assert {fault.code for fault in compiled.faults if fault.level == "error"} == {"whole-is-gone"}
        return
    plan = compiled.variants[0].plan
    model = ablc.build(plan, device="meta")
    assert real_shapes(model) == shapes_of(plan.blueprint)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == ablc.count(plan).trainable


@pytest.mark.parametrize("override", ["tie_word_embeddings = true", "attention_bias = false", "num_hidden_layers = 2"])
def test_configs_that_change_what_there_is(override: str) -> None:
    plan = plan_of(f'model = "EleutherAI/pythia-70m"({override}); mlp = lora(8)')
    assert real_shapes(ablc.build(plan, device="meta")) == shapes_of(plan.blueprint)


@pytest.mark.parametrize(
    "override", ["mlp_bias = true, attention_bias = true", "head_dim = 48", "tie_word_embeddings = true"]
)
def test_llama_configs_that_change_what_there_is(override: str) -> None:
    plan = plan_of(f'model = "llama-3.1-8b"({override}); attention = lora(8)')
    assert real_shapes(ablc.build(plan, device="meta")) == shapes_of(plan.blueprint)
