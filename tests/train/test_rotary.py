"""Positions with half the work: what transformers computes, in the model that was asked for alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ablc.train.rotary import NAME, quicken, rotate

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 90,
}
GROUPED = SMALL | {"num_key_value_heads": 2}
# All that this project plans for, and others whose rotary function is called alike.
FAMILIES: dict[str, tuple[dict[str, Any], int]] = {
    "gpt_neox": (SMALL, 2),
    "llama": (GROUPED, 2),
    "mistral": (GROUPED, 2),
    "qwen2": (GROUPED, 2),
    "phi": (SMALL, 2),
    "cohere": (GROUPED, 0),  # neighbours are turned together
    "olmo2": (GROUPED, 0),  # what is turned keeps its precision
    "gptj": ({"n_embd": 64, "n_layer": 2, "n_head": 4, "rotary_dim": 8, "vocab_size": 90}, 0),  # another signature
}


def model_of(family: str) -> Any:
    torch.manual_seed(0)
    fields = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **FAMILIES[family][0]}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **fields)).train()


def outcome(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits of two rows of ids, one with positions of its own, and the gradients of their sum of squares."""
    ids = torch.arange(48).reshape(2, 24) * 7 % 90
    places = torch.stack([torch.arange(24), torch.arange(24) % 9])
    logits = model(input_ids=ids, use_cache=False, position_ids=places).logits
    model.zero_grad()
    logits.float().square().sum().backward()
    return logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_computes_what_it_did(family: str) -> None:
    model = model_of(family)
    expected = outcome(model)
    assert quicken(model) == FAMILIES[family][1]
    assert_same(outcome(model), expected)


def test_other_models_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = model_of("llama"), model_of("llama")
    quicken(mine)
    called: list[int] = []

    def watched(*given: Any, **named: Any) -> Any:
        called.append(1)
        return rotate(*given, **named)

    module = "transformers.models.llama.modeling_llama"
    monkeypatch.setattr(f"{module}.{NAME}", watched)
    outcome(mine)
    assert called == []
    outcome(other)
    assert len(called) == 2


@pytest.mark.parametrize("family", ["gpt_neox", "llama"])
def test_in_bf16(family: str) -> None:
    """No further from the exact values than it would be, whether weights are bf16 or products alone."""
    for weights, products in ((torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)):
        model = model_of(family).to(weights)
        exact = outcome(copy.deepcopy(model).float())
        with torch.autocast("cpu", torch.bfloat16, enabled=products == torch.bfloat16):
            before = outcome(model)
            assert quicken(model) == 2
            after = outcome(model)
        assert 0 < distance(after, exact) < 1.05 * distance(before, exact)


def distance(found: Any, exact: Any) -> float:
    """Of the gradients, as a share of them."""
    apart = sum(float((found[1][name].float() - one).square().sum()) for name, one in exact[1].items())
    return float((apart / sum(float(one.square().sum()) for one in exact[1].values())) ** 0.5)


@pytest.mark.parametrize("family", ["gpt_neox", "llama"])
def test_where_activations_are_computed_again(family: str) -> None:
    model = model_of(family)
    expected = outcome(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    quicken(model)
    assert_same(outcome(model), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_gradients_are_those_of_the_rotation(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k = (torch.randn(2, heads, 5, 8, dtype=dtype, requires_grad=True) for heads in (4, 2))
    angle = torch.rand(2, 5, 2, dtype=torch.float64).repeat(1, 1, 2)
    if dtype == torch.float64:
        assert torch.autograd.gradcheck(lambda q, k: rotate(q, k, angle.cos(), angle.sin()), (q, k))
        return
    turned = rotate(q, k, angle.cos().float(), angle.sin().float())
    assert {one.dtype for one in turned} == {torch.float32}
    assert {g.dtype for g in torch.autograd.grad([one.sum() for one in turned], [q, k])} == {dtype}
