"""Untouched models count as the closed forms say, the built-in ones and any others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablc.bases import builtin
from ablc.blueprint.measures import flops_per_token, kv_bytes_per_token, params
from ablc.families import family, read_config

TOTALS = {
    "EleutherAI/pythia-14m": 14_067_712,
    "EleutherAI/pythia-31m": 30_494_720,
    "EleutherAI/pythia-70m": 70_426_624,
    "EleutherAI/pythia-160m": 162_322_944,
    "EleutherAI/pythia-410m": 405_334_016,
    "EleutherAI/pythia-1b": 1_011_781_632,
    "EleutherAI/pythia-1.4b": 1_414_647_808,
    "EleutherAI/pythia-2.8b": 2_775_208_960,
    "EleutherAI/pythia-6.9b": 6_857_302_016,
    "EleutherAI/pythia-12b": 11_846_072_320,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-2-13b-hf": 13_015_864_320,
    "meta-llama/Llama-2-70b-hf": 68_976_648_192,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "meta-llama/Llama-3.1-405B": 405_853_388_800,
}


def counted(config: dict[str, Any]) -> int:
    kind = family(config["model_type"])
    return params(kind.build(read_config(kind, config, {}, [])))


def neox(c: dict[str, Any]) -> Any:
    h, f, t = c["hidden_size"], c["intermediate_size"], 1 if c["tie_word_embeddings"] else 2
    bias = 4 * h if c.get("attention_bias", True) else 0
    return t * c["vocab_size"] * h + c["num_hidden_layers"] * (4 * h * h + bias + 2 * h * f + f + h + 4 * h) + 2 * h


def llama(c: dict[str, Any]) -> Any:
    h, f, t = c["hidden_size"], c["intermediate_size"], 1 if c["tie_word_embeddings"] else 2
    heads, kv = c["num_attention_heads"], c.get("num_key_value_heads") or c["num_attention_heads"]
    d = c.get("head_dim") or h // heads
    attention = 2 * h * heads * d + 2 * h * kv * d + (heads * d + 2 * kv * d + h if c.get("attention_bias") else 0)
    mlp = 3 * h * f + (2 * f + h if c.get("mlp_bias") else 0)
    return t * c["vocab_size"] * h + c["num_hidden_layers"] * (attention + mlp + 2 * h) + h


FORMS = {"gpt_neox": neox, "llama": llama}


@pytest.mark.parametrize("name", sorted(builtin()))
def test_a_built_in_model(name: str) -> None:
    config = {"tie_word_embeddings": False, **builtin()[name]}
    assert counted(config) == FORMS[config["model_type"]](config)


@pytest.mark.parametrize("name", sorted(TOTALS))
def test_the_known_totals(name: str) -> None:
    assert counted(dict(builtin()[name])) == TOTALS[name]


def test_every_pythia_has_its_deduped_twin() -> None:
    for name in TOTALS:
        if "pythia" in name:
            assert builtin()[f"{name}-deduped"] == builtin()[name]


heads_and_width = st.tuples(st.integers(1, 16), st.integers(1, 32)).map(lambda pair: (pair[0], 2 * pair[0] * pair[1]))
common = {
    "vocab_size": st.integers(1, 60_000),
    "num_hidden_layers": st.integers(1, 9),
    "intermediate_size": st.integers(1, 5_000),
    "tie_word_embeddings": st.booleans(),
    "attention_bias": st.booleans(),
}


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    heads, hidden = draw(heads_and_width)
    config: dict[str, Any] = {name: draw(values) for name, values in common.items()}
    config["model_type"] = draw(st.sampled_from(["gpt_neox", "llama"]))
    config |= {"num_attention_heads": heads, "hidden_size": hidden}
    if config["model_type"] == "llama":
        divisors = [n for n in range(1, heads + 1) if heads % n == 0]
        config["num_key_value_heads"] = draw(st.none() | st.sampled_from(divisors))
        config["head_dim"] = draw(st.none() | st.integers(1, 128))
        config["mlp_bias"] = draw(st.booleans())
    return config


@settings(max_examples=150)
@given(configs())
def test_any_config(config: dict[str, Any]) -> None:
    assert counted(config) == FORMS[config["model_type"]](config)


@settings(max_examples=50)
@given(configs(), st.integers(1, 5000))
def test_flops_and_cache_of_any_config(config: dict[str, Any], length: int) -> None:
    kind = family(config["model_type"])
    blueprint = kind.build(read_config(kind, config, {}, []))
    h, layers, heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]
    d = config.get("head_dim") or h // heads
    kv = config.get("num_key_value_heads") or heads
    gate = 3 if config["model_type"] == "llama" else 2
    linears = 2 * h * heads * d + 2 * h * kv * d + gate * h * config["intermediate_size"]
    expected = 2 * config["vocab_size"] * h + layers * (2 * linears + 4 * length * heads * d)
    assert flops_per_token(blueprint, length) == expected
    assert kv_bytes_per_token(blueprint) == 4 * layers * 2 * kv * d  # float32 where no dtype is named
