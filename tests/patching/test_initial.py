"""Initial values: seeded for each weight by itself, and as large as they should be."""

from __future__ import annotations

import pytest
import torch

import ablc

from .conftest import BASES, LLAMA, plan_of

WIDE = (
    'model = "EleutherAI/pythia-14m"(hidden_size = 512, num_attention_heads = 8, intermediate_size = 512, '
    "num_hidden_layers = 2)\n"
)


def state(text: str, **options: object) -> dict[str, torch.Tensor]:
    return dict(ablc.build(plan_of(text), **options).named_parameters())  # type: ignore[arg-type]


@pytest.mark.parametrize("family", sorted(BASES))
def test_a_module_that_two_specs_share_starts_with_equal_weights(family: str) -> None:
    one = state(BASES[family] + "mlp[0] = lora(2); attention.out[1:] = lora(3)", seed=7)
    two = state(BASES[family] + "attention[2:] = none; attention.out[1] = lora(3); layer[3] = none", seed=7)
    shared = {name for name in one.keys() & two.keys() if one[name].shape == two[name].shape}
    assert len(shared) > 10
    assert any(name.endswith("A.weight") for name in shared)
    assert all(torch.equal(one[name], two[name]) for name in shared)


def test_another_seed_layer_slot_or_factor_starts_otherwise() -> None:
    text = WIDE + "attention.out = lora(8); mlp.up = lora(8)"
    one, other = state(text, seed=0), state(text, seed=1)
    matrices = [name for name in one if one[name].dim() == 2]
    assert not any(torch.equal(one[name], other[name]) for name in matrices)
    first = {name: one[name].flatten()[:64] for name in matrices}
    assert len({tuple(values.tolist()) for values in first.values()}) == len(matrices)


def test_matrices_biases_and_norms() -> None:
    for name, value in state(WIDE + "mlp.up = lora(8)").items():
        if value.dim() == 2:
            assert abs(float(value.detach().std()) / 0.02 - 1) < 0.05, name
            assert abs(float(value.detach().mean())) < 0.001, name
        else:
            expected = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            assert torch.equal(value, torch.full_like(value, expected)), name


@pytest.mark.parametrize("rank", [1, 8, 128])
def test_product_gives_the_product_the_models_deviation(rank: int) -> None:
    values = state(WIDE + f"attention.qkv = lora({rank})", init="product")
    prefix = "gpt_neox.layers.0.attention.query_key_value."
    a, b = values[prefix + "A.weight"], values[prefix + "B.weight"]
    assert abs(float((b @ a).std()) / 0.02 - 1) < 0.2
    assert abs(float(a.std()) / float(b.std()) - 1) < 0.2
    assert abs(float(values["lm_head.weight"].std()) / 0.02 - 1) < 0.05


def test_normal_leaves_the_product_small() -> None:
    values = state(WIDE + "attention.qkv = lora(8)", init="normal")
    prefix = "gpt_neox.layers.0.attention.query_key_value."
    product = values[prefix + "B.weight"] @ values[prefix + "A.weight"]
    assert float(product.std()) < 0.002


def test_the_dtype_doesnt_change_the_draw() -> None:
    plan = plan_of(WIDE + "mlp = lora(4)")
    full, half = ablc.build(plan, seed=2), ablc.build(plan, seed=2, dtype=torch.bfloat16)
    for one, other in zip(full.parameters(), half.parameters(), strict=True):
        assert torch.equal(one.to(torch.bfloat16), other)


def test_a_padding_row_starts_at_zero() -> None:
    model = ablc.build(plan_of(LLAMA.replace("vocab_size", "pad_token_id = 3, vocab_size") + "mlp = lora(2)"))
    assert not model.get_input_embeddings().weight[3].any()
    assert model.get_input_embeddings().weight[4].all()
