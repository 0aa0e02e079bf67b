"""The proxy means the same as the spec, at a fraction of the width."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

import ablc
from ablc.spec.proxy import ScaleError, factor_of, merged_ranks, scaled

ROOT = Path(__file__).parents[2]


def test_widths_and_ranks_shrink_and_the_rest_stays() -> None:
    spec = ablc.load(ROOT / "specs" / "18.abl")
    small = scaled(spec, Fraction(1, 8), 4096)
    config = small.config
    assert (config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]) == (128, 512, 2)
    assert (config["vocab_size"], config["num_hidden_layers"]) == (4096, 24)
    assert config["initializer_range"] == pytest.approx(0.02 * 8**0.5)
    assert [edit.arguments.get("r") for edit in small.edits] == [None, 1, 32]
    assert [edit.layers for edit in small.edits] == [edit.layers for edit in spec.edits]
    blueprint = ablc.plan(small).blueprint
    before = ablc.plan(spec).blueprint
    heads = [[p.node.head_dim for p in b.layers[0].parts if p.slot == "attention"] for b in (blueprint, before)]  # type: ignore[union-attr]
    assert heads == [[64], [64]]


def test_tokens_beyond_the_proxys_vocabulary_are_left_out() -> None:
    spec = ablc.loads('model = "meta-llama/Llama-3.1-8B"(eos_token_id = 7, pad_token_id = 4096); mlp = lora_mlp(64)')
    assert (spec.config["bos_token_id"], spec.config["pad_token_id"]) == (128000, 4096)
    config = scaled(spec, Fraction(1, 32), 4096).config
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (None, 7, None)


def test_a_rank_is_evaluated_on_the_full_config_first() -> None:
    text = 'model = "EleutherAI/pythia-410m"; attention.qkv = lora(hidden_size // 16); mlp = lora_mlp(8 + layer)'
    small = scaled(ablc.loads(text), Fraction(1, 8), 4096)
    ranks = [edit.arguments["r"] for edit in small.edits]
    assert ranks[0] == 8
    assert ranks[1:] == [max(1, round(Fraction(8 + layer, 8))) for layer in range(24)]


@pytest.mark.parametrize(
    ("model", "scale", "factor"),
    [
        ("EleutherAI/pythia-410m", "auto", Fraction(1, 8)),
        ("EleutherAI/pythia-2.8b", "auto", Fraction(1, 16)),
        ("EleutherAI/pythia-14m", "auto", Fraction(1)),
        ("llama-3.1-8b", "auto", Fraction(1, 32)),
        ("EleutherAI/pythia-410m", "full", Fraction(1)),
        ("EleutherAI/pythia-410m", "1/4", Fraction(1, 4)),
    ],
)
def test_factors(model: str, scale: str, factor: Fraction) -> None:
    spec = ablc.loads(f'model = "{model}"; mlp = lora(8)')
    assert factor_of(scale, spec.config) == factor
    assert ablc.count(ablc.plan(scaled(spec, factor, 500))).params > 0


def test_a_factor_that_cuts_heads_is_refused_with_those_that_fit() -> None:
    spec = ablc.loads('model = "EleutherAI/pythia-410m"; mlp = lora(8)')
    with pytest.raises(ScaleError) as raised:
        factor_of("1/3", spec.config)
    assert raised.value.help == "scales that fit: full, 1/2, 1/4, 1/8, 1/16"


def test_grouped_key_value_heads_shrink_to_at_least_one() -> None:
    spec = ablc.loads('model = "llama-3.1-70b"; attention = lora(8)')
    assert scaled(spec, Fraction(1, 16), 500).config["num_key_value_heads"] == 1


def test_groups_of_heads_stay_whole() -> None:
    """At 5 of 16 heads there would be 2 key-value heads, which 5 can't share."""
    text = (
        'model = "llama-3.1-8b"(hidden_size = 416, num_attention_heads = 16, num_key_value_heads = 8, head_dim = 26, '
        "intermediate_size = 512, num_hidden_layers = 1); mlp = lora(8)"
    )
    spec = ablc.loads(text)
    factor = factor_of("auto", spec.config)
    config = scaled(spec, factor, 500).config
    assert config["num_attention_heads"] % config["num_key_value_heads"] == 0
    assert ablc.count(ablc.plan(scaled(spec, factor, 500))).params > 0
    with pytest.raises(ScaleError, match="whole groups of heads"):
        factor_of("5/16", spec.config)


def test_ranks_that_fall_together_are_told() -> None:
    specs = [ablc.loads(f'model = "EleutherAI/pythia-410m"; mlp = lora({r})') for r in (6, 8, 256)]
    assert merged_ranks(specs, Fraction(1, 8)) == {1: [6, 8]}
    assert merged_ranks(specs, Fraction(1, 2)) == {}
    assert merged_ranks(specs, Fraction(1)) == {}
