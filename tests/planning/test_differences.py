"""The difference of two models: what a reviewer reads, and data that makes the second of the first."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec_text import LLAMA, SMALL, compiled, plan

from ablc.blueprint import describe
from ablc.blueprint.measures import params, trainable
from ablc.planning import Plan
from ablc.planning.diff import apply, diff

BASES = [
    f'model = "{SMALL}"',
    f'model = "{SMALL}"(num_hidden_layers = 4)',
    f'model = "{SMALL}"(hidden_size = 256)',
    f'model = "{SMALL}"(tie_word_embeddings = true)',
    f'model = "{LLAMA}"(num_hidden_layers = 6)',
]
LAYERS = st.sampled_from(["", "[0]", "[:2]", "[2:]", "[::2]", "[1, 3]"])
ASSIGNMENTS = st.one_of(
    st.builds(
        "{}{} = {}".format,
        st.sampled_from(["mlp", "attention", "attention.qkv", "mlp.up"]),
        LAYERS,
        st.sampled_from(["lora(4)", "lora(5, bias = none)", "nonlinear_lora(6)"]),
    ),
    st.builds(
        "{}{} = none".format, st.sampled_from(["mlp", "attention", "mlp.act", "attention.norm", "layer"]), LAYERS
    ),
    st.builds("mlp{} = lora_mlp(3)".format, LAYERS),
    st.sampled_from(["embedding = lora(7)", "final_norm = none", "lm_head = lora(5)"]),
)
FREEZES = st.builds(
    "freeze {}{}".format, st.sampled_from(["mlp", "attention", "layer", "mlp.up", "attention.norm"]), LAYERS
) | st.just("freeze embedding")


@st.composite
def plans(draw: st.DrawFn, bases: Sequence[str] = BASES) -> Plan:
    """A model of a few statements; those that can't stand beside the ones before are left out."""
    lines = [draw(st.sampled_from(bases))]
    for statement in (*draw(st.lists(ASSIGNMENTS, max_size=4)), *draw(st.lists(FREEZES, max_size=2))):
        if compiled("\n".join([*lines, statement])).ok:
            lines.append(statement)
    return compiled("\n".join(lines)).variants[0].plan


@settings(max_examples=150, deadline=None)
@given(plans(), plans())
def test_applied_to_the_first_it_gives_the_second(before: Plan, after: Plan) -> None:
    data = json.loads(json.dumps(diff(before, after).to_json()))
    made = apply(data, before.blueprint)
    assert (made.layers, made.root) == (after.blueprint.layers, after.blueprint.root)
    assert (params(made), trainable(made)) == (params(after.blueprint), trainable(after.blueprint))


@settings(max_examples=60, deadline=None)
@given(plans(BASES[:1]), plans(BASES[:1]))
def test_the_lines_sum_up_to_the_whole(before: Plan, after: Plan) -> None:
    found = diff(before, after)
    old, new = before.blueprint, after.blueprint
    total = sum(one.params * len(one.layers or (0,)) for one in found.nodes)
    assert total == params(new) - params(old)
    trained = sum(one.trainable * len(one.layers or (0,)) for one in found.nodes)
    assert trained + sum(one.trainable for one in found.freezings) == trainable(new) - trainable(old)
    assert found.same_model == (not found.nodes and not found.freezings and not found.config)


@settings(max_examples=30, deadline=None)
@given(plans())
def test_from_a_model_to_itself_there_is_nothing(one: Plan) -> None:
    found = diff(one, one)
    assert found.same_model and not found.nodes and not found.freezings


def lines(before: str, after: str) -> list[tuple[str, object, str, str]]:
    found = diff(plan(before), plan(after))
    return [(one.slot, one.layers, describe(one.before), describe(one.after)) for one in found.nodes]


def test_layers_that_change_alike_are_one_line() -> None:
    before, after = "mlp[3:] = lora(8)", "mlp[2:] = lora(16); attention.qkv[2:] = lora(4)"
    pair, wide = "Linear(512, 8) · Linear(8, 512)", "Linear(512, 16) · Linear(16, 512)"
    assert lines(before, after) == [
        ("attention.qkv", (2, 3, 4, 5), "Linear(512, 1536)", "Linear(512, 4) · Linear(4, 1536)"),
        ("mlp", (2,), "mlp", wide),
        ("mlp", (3, 4, 5), pair, wide),
    ]


def frozen(before: str, after: str, model: str = SMALL) -> list[tuple[str, object, bool, int]]:
    found = diff(plan(before, model), plan(after, model))
    return [(one.slot, one.layers, one.frozen, one.trainable) for one in found.freezings]


def test_what_is_frozen_is_told_by_its_widest_slot() -> None:
    layer = 3_152_384
    assert frozen("mlp = full", "freeze layer[1, 4]") == [("layer", (1, 4), True, -2 * layer)]
    assert frozen("freeze mlp", "freeze mlp.up") == [("mlp.down", tuple(range(6)), False, 6 * (2048 * 512 + 512))]
    assert frozen("freeze embedding", "freeze lm_head") == [
        ("embedding", None, False, 50304 * 512),
        ("lm_head", None, True, -50304 * 512),
    ]


def test_a_whole_that_was_frozen_and_comes_back_is_trained() -> None:
    before, after = "mlp[0] = lora(8); freeze mlp[0]", "mlp = full"
    data = diff(plan(before), plan(after)).to_json()
    assert apply(data, plan(before).blueprint) == plan(after).blueprint


@pytest.mark.parametrize(
    ("before", "after", "trained"),
    [
        ("freeze mlp", "mlp = lora(8); freeze mlp", 0),
        ("mlp = lora(8); freeze mlp", "freeze mlp", 0),
        ("mlp = lora(8); freeze mlp", "mlp = full", 6 * 2_099_712),
        ("mlp = full", "mlp = lora(8); freeze mlp", -6 * 2_099_712),
    ],
)
def test_what_was_replaced_and_is_frozen_is_told_in_one_line(before: str, after: str, trained: int) -> None:
    found = diff(plan(before), plan(after))
    (one,) = found.nodes
    assert not found.freezings and one.trainable * 6 == trained


def test_other_bases() -> None:
    deeper = diff(plan(BASES[1], SMALL), plan("mlp[5] = none"))
    assert deeper.depth == (4, 6) and deeper.config["num_hidden_layers"] == (4, 6) and deeper.comparable
    other = diff(plan("mlp = full"), plan("mlp = full", LLAMA))
    assert not other.comparable and not other.nodes and not other.same_model


def test_a_difference_is_of_two_models_alone() -> None:
    before, after = plan("mlp = lora(8)"), plan("mlp = lora(9)")
    data = diff(before, after).to_json()
    with pytest.raises(ValueError, match="from another model"):
        apply(data, after.blueprint)
    data["changes"][0]["layers"] = [0]
    with pytest.raises(ValueError, match="changed after it was written"):
        apply(data, before.blueprint)
