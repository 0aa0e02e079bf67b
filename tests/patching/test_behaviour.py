"""Patched models compute, learn and generate as they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, StaticCache

import ablc
from ablc.patching import PatchError
from ablc.patching.initial import planned_weights

from .conftest import BASES, LLAMA, NEOX, SPECS, plan_of, proxy_plan


def tokens(batch: int, length: int, vocabulary: int = 120) -> torch.Tensor:
    return torch.randint(1, vocabulary, (batch, length), generator=torch.Generator().manual_seed(1))


def greedy(model: Any, ids: torch.Tensor, steps: int, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Greedy continuation without any cache: what `generate` must come to."""
    mask = torch.ones_like(ids) if mask is None else mask
    for _ in range(steps):
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = model(ids, attention_mask=mask, position_ids=positions, use_cache=False).logits[:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
    return ids


def left_padded() -> tuple[torch.Tensor, torch.Tensor]:
    ids, mask = tokens(3, 8), torch.ones(3, 8, dtype=torch.long)
    mask[0, :5], mask[1, :2] = 0, 0
    return ids.masked_fill(mask == 0, 0), mask


def generate(model: Any, ids: torch.Tensor, mask: torch.Tensor | None = None, **options: Any) -> torch.Tensor:
    mask = torch.ones_like(ids) if mask is None else mask
    arguments = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None, **options}
    result: torch.Tensor = model.generate(ids, attention_mask=mask, **arguments)
    return result


def test_the_26_train_and_generate(spec_path: Path) -> None:
    plan = proxy_plan(spec_path)
    model = ablc.build(plan, seed=3)
    ids = tokens(3, 12, 300)
    model(ids, labels=ids).loss.backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    weights = [weight for _, weight in planned_weights(plan.blueprint)]
    assert without == {weight.name for weight in weights if weight.frozen or not weight.read}
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    model.eval()
    assert torch.equal(generate(model, ids), greedy(model, ids, 6))


NO_ATTENTION = ["attention[0] = none", "attention[1:] = none", "attention = none", "layer[0] = none", "layer = none"]


@pytest.mark.parametrize("family", sorted(BASES))
@pytest.mark.parametrize("statement", [*NO_ATTENTION, "layer[2] = none; attention[0:2] = none", "attention = lora(2)"])
class TestGeneration:
    """With attention gone somewhere, above all in layer 0, where the cache reads its length."""

    def model(self, family: str, statement: str) -> Any:
        plan = plan_of(BASES[family] + statement)
        model = ablc.build(plan, seed=1).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() == 2 and "embed" not in name:
                    parameter.mul_(8)  # so that the context decides what comes next
        return model

    def test_left_padded(self, family: str, statement: str) -> None:
        model = self.model(family, statement)
        ids, mask = left_padded()
        assert torch.equal(generate(model, ids, mask), greedy(model, ids, 6, mask))

    def test_beams_with_and_without_cache(self, family: str, statement: str) -> None:
        model = self.model(family, statement)
        ids, mask = left_padded()
        cached = generate(model, ids, mask, num_beams=3)
        assert torch.equal(cached, generate(model, ids, mask, num_beams=3, use_cache=False))

    def test_static_cache(self, family: str, statement: str) -> None:
        model = self.model(family, statement)
        if not model.config.use_cache:
            assert "0" in statement or statement in ("attention = none", "layer = none")  # nothing to cache
            return
        ids, mask = left_padded()
        cache = StaticCache(config=model.config, max_cache_len=20)
        assert torch.equal(generate(model, ids, mask, past_key_values=cache), greedy(model, ids, 6, mask))


@pytest.mark.parametrize("statement", ["attention[0] = none", "layer[:2] = none", "attention = none"])
def test_an_older_transformers_generates_right_too(statement: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the cache knew of layers without a place in it."""
    monkeypatch.delattr("transformers.cache_utils.DummyLayer", raising=False)
    model = ablc.build(plan_of(NEOX + statement), seed=1).eval()
    assert getattr(model.config, "kv_sharing_modes", None) is None
    ids, mask = left_padded()
    assert torch.equal(generate(model, ids, mask), greedy(model, ids, 6, mask))


@pytest.mark.parametrize("family", sorted(BASES))
@pytest.mark.parametrize(
    "statement",
    [
        "mlp.act = none",
        "attention[1] = none",
        "layer[0] = none",
        "attention.out = none; mlp = lora_mlp(4)",
        "lm_head = lora(3)",
    ],
)
@pytest.mark.parametrize("length", [1, 7, 33])
def test_planned_flops_are_what_torch_counts(family: str, statement: str, length: int) -> None:
    plan = plan_of(BASES[family] + statement)
    model = ablc.build(plan, attention="eager").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(tokens(2, length), use_cache=False)
    assert counter.get_total_flops() == 2 * length * ablc.count(plan, length).flops_per_token


@pytest.mark.parametrize(
    "path", [p for p in SPECS if p.stem in ("01", "06", "10", "18", "23", "26")], ids=lambda p: p.stem
)
def test_planned_flops_of_the_experiments(path: Path) -> None:
    plan = proxy_plan(path)
    model = ablc.build(plan, attention="eager").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(tokens(1, 64), use_cache=False)
    assert counter.get_total_flops() == 64 * ablc.count(plan, 64).flops_per_token


@pytest.mark.parametrize("family", sorted(BASES))
def test_an_untouched_build_is_the_stock_model(family: str) -> None:
    """Rotary buffers and all: the stock class computes the same with the same weights."""
    built = ablc.build(plan_of(BASES[family] + "mlp = full"), seed=5).eval()
    stock = AutoModelForCausalLM.from_config(built.config).eval()
    stock.load_state_dict(built.state_dict())
    ids = tokens(2, 40)
    assert torch.equal(built(ids).logits, stock(ids).logits)


@pytest.mark.parametrize("family", sorted(BASES))
def test_a_low_rank_product_computes_what_its_dense_matrix_does(family: str) -> None:
    model = ablc.build(plan_of(BASES[family] + "lm_head = lora(5, bias=both); embedding = lora(7)"), seed=2)
    head, table = model.lm_head, model.get_input_embeddings()
    x = torch.randn(3, 32)
    dense = head.B.weight @ head.A.weight
    assert torch.allclose(head(x), x @ dense.T + head.B.weight @ head.A.bias + head.B.bias, atol=1e-5)
    ids = tokens(1, 9)
    assert torch.allclose(table(ids), (table.A.weight @ table.B.weight.T)[ids], atol=1e-6)


class _Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and not func.is_view:
                self.largest = max(self.largest, tensor.numel())
        return result


def test_a_low_rank_embedding_never_forms_the_full_table() -> None:
    text = NEOX.replace("vocab_size = 120", "vocab_size = 5000") + "embedding = lora(2); lm_head = lora(2)"
    table = ablc.build(plan_of(text)).get_input_embeddings()
    with _Largest() as watched:
        table(tokens(2, 10)).sum().backward()
    assert watched.largest < 5000 * 32
    assert watched.largest == 5000 * 2  # the gradient of its A factor


def test_frozen_parts_and_only_they_keep_still() -> None:
    model = ablc.build(plan_of(NEOX + "mlp[1] = lora(2); freeze mlp[1:3]; freeze embedding"))
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    layers = {f"gpt_neox.layers.{i}.mlp" for i in (1, 2)}
    assert frozen == {
        n for n, _ in model.named_parameters() if n.rpartition(".mlp")[0] + ".mlp" in layers or "embed_in" in n
    }


class TestPatch:
    """`patch` changes a model that exists."""

    def stock(self, text: str = NEOX) -> Any:
        return ablc.build(plan_of(text + "mlp = full"), seed=9)

    def test_keeps_the_weights_that_stay(self) -> None:
        model = self.stock()
        before = {name: p.clone() for name, p in model.named_parameters()}
        plan = plan_of(NEOX + "attention.qkv[1:] = lora(2); mlp[0] = none; attention.out[3] = none")
        assert ablc.patch(model, plan) is model
        after = dict(model.named_parameters())
        kept = before.keys() & after.keys()
        assert all(torch.equal(before[name], after[name]) for name in kept)
        assert set(after.keys() - before.keys()) == {
            f"gpt_neox.layers.{i}.attention.query_key_value.{factor}.{kind}"
            for i in (1, 2, 3)
            for factor in "AB"
            for kind in ("weight", "bias")
        }

    def test_follows_dtype_and_mode(self) -> None:
        model = self.stock().to(torch.bfloat16).eval()
        ablc.patch(model, plan_of(NEOX + "mlp = lora(2)"))
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
        assert not any(module.training for module in model.modules())

    def test_refuses_another_model_and_leaves_it_as_it_was(self) -> None:
        model = self.stock(LLAMA)
        names = [name for name, _ in model.named_parameters()]
        with pytest.raises(PatchError, match="isn't the plan's base"):
            ablc.patch(model, plan_of(NEOX + "mlp = lora(2)"))
        assert names == [name for name, _ in model.named_parameters()]

    def test_refuses_another_width(self) -> None:
        with pytest.raises(PatchError, match="120 × 32, and the plan has 120 × 64"):
            ablc.patch(self.stock(), plan_of(NEOX.replace("hidden_size = 32", "hidden_size = 64") + "mlp = lora(2)"))

    @pytest.mark.parametrize("wrong", [{"init": "svdd"}, {"seed": "0"}])
    def test_refuses_a_start_that_there_isnt_and_leaves_it_as_it_was(self, wrong: dict[str, Any]) -> None:
        model, plan = self.stock(), plan_of(NEOX + "mlp = lora(2)")
        names = [name for name, _ in model.named_parameters()]
        with pytest.raises(ValueError, match=r"init is one of normal, product, svd, not|seed is a whole number, not"):
            ablc.patch(model, plan, **wrong)
        assert names == [name for name, _ in model.named_parameters()]
        with pytest.raises(ValueError, match=r"init is one of|seed is a whole"):
            ablc.build(plan, **wrong)
        ablc.build(plan, seed=np.int64(3), device="meta")  # type: ignore[arg-type]

    def test_what_is_mixed_up_is_told(self) -> None:
        spec = ablc.loads(NEOX)
        plan: Any = ablc.plan(spec)
        calls: list[tuple[str, Any]] = [
            ("plan takes a spec.*; this is str", lambda: ablc.plan("specs/18.abl")),  # type: ignore[arg-type]
            ("plan takes a spec.*; this is Plan", lambda: ablc.plan(plan)),
            ("count takes a plan.*; this is Spec", lambda: ablc.count(spec)),  # type: ignore[arg-type]
            ("build takes a plan.*; this is Spec", lambda: ablc.build(spec)),  # type: ignore[arg-type]
            ("patch takes a model and a plan.*; this is Spec", lambda: ablc.patch(self.stock(), spec)),  # type: ignore[arg-type]
            ("loads takes the text.*; this is PosixPath", lambda: ablc.loads(Path("x.abl"))),  # type: ignore[arg-type]
        ]
        for sentence, call in calls:
            with pytest.raises(TypeError, match=sentence):
                call()

    def test_refuses_a_second_time(self) -> None:
        plan = plan_of(NEOX + "mlp = lora(2)")
        with pytest.raises(PatchError):
            ablc.patch(ablc.patch(self.stock(), plan), plan)


@pytest.mark.parametrize("family", sorted(BASES))
def test_attention_can_be_switched_and_gradients_checkpointed(family: str) -> None:
    plan = plan_of(BASES[family] + "attention[0] = none; attention.qkv[1:] = lora(3); mlp[2:] = nonlinear_lora(4)")
    model = ablc.build(plan, seed=4)
    ids = tokens(2, 20)
    sdpa = model(ids, labels=ids).loss
    model.set_attn_implementation("eager")
    assert model.config._attn_implementation == "eager"
    eager = model(ids, labels=ids).loss
    assert torch.allclose(sdpa, eager, atol=1e-5)
    eager.backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.gradient_checkpointing_enable()
    model(ids, labels=ids).loss.backward()
    again = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert plain.keys() == again.keys()
    assert all(torch.allclose(plain[name], again[name], atol=1e-6) for name in plain)
