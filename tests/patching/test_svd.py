"""Pairs as truncated SVDs: as good as the singular values allow, exact at full rank, and never worse than chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import ablc
from ablc.faults import Source
from ablc.patching import PatchError, start_from
from ablc.patching.replaced import replaced
from ablc.patching.svd import NOT_A_MATRIX, start_pairs, truncated
from ablc.pipeline import compile_source

from .checkpoints import base_model, logits
from .conftest import BASES, NEOX, plan_of
from .test_names_and_counts import STATEMENTS

FULL = "attention = lora(32); attention.out = lora(32); mlp = lora_mlp(32); embedding = lora(32); lm_head = lora(32)"


def weights_of(model: Any) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def product(model: Any, path: str) -> Tensor:
    """The matrix that a pair at `path` computes, as the base has it."""
    pair = model.get_submodule(path)
    if isinstance(pair.A, torch.nn.Embedding):
        return (pair.A.weight @ pair.B.weight.T).detach()
    return (pair.B.weight @ pair.A.weight).detach()


@pytest.mark.parametrize("family", sorted(BASES))
@pytest.mark.parametrize("rank", [1, 5, 31])
def test_the_error_is_the_optimal_one(family: str, rank: int) -> None:
    base = base_model(BASES[family])
    before = weights_of(base)
    plan = plan_of(BASES[family] + FULL.replace("32", str(rank)))
    model = ablc.patch(base, plan, init="svd")
    rows = start_pairs(model, replaced(plan), before.__getitem__, write=False)
    assert len(rows) == 4 * (4 if family == "gpt_neox" else 7) + 2
    for row in rows:
        weight = before[f"{row.path}.weight"].double()
        values = torch.linalg.svdvals(weight)
        optimal = float(values[rank:].norm() / values.norm())
        assert row.rank == rank and row.note == ""
        assert row.optimal == pytest.approx(optimal, abs=1e-9)
        next_one = float(values[rank] / values[0]) if rank < len(values) else 0.0
        assert row.spectral == pytest.approx(next_one, abs=1e-9)
        assert row.error == pytest.approx(optimal, abs=1e-6)
        missed = (weight - product(model, row.path).double()).norm() / weight.norm()
        assert float(missed) == pytest.approx(optimal, abs=1e-6)


@pytest.mark.parametrize("family", sorted(BASES))
def test_at_full_rank_it_is_the_base(family: str) -> None:
    base = base_model(BASES[family])
    expected = logits(base)
    model = ablc.patch(base, plan_of(BASES[family] + FULL), init="svd")
    assert float((logits(model) - expected).abs().max()) < 1e-4


@pytest.mark.parametrize("slot", ["embedding", "lm_head", "mlp.up"])
def test_a_rank_above_both_dimensions_stays_exact_and_can_learn(slot: str) -> None:
    """The factors are wider than the matrix has dimensions: what is over adds nothing, and gets a gradient."""
    base = base_model(NEOX)
    expected = logits(base)
    model = ablc.patch(base, plan_of(NEOX + f"{slot} = lora(40)"), init="svd")
    assert float((logits(model) - expected).abs().max()) < 1e-4
    ids = torch.arange(1, 13)[None]
    model(ids, labels=ids).loss.backward()
    (first, second) = [p for name, p in model.named_parameters() if name.endswith(("A.weight", "B.weight"))][:2]
    outer = first.grad if slot == "embedding" else second.grad
    assert outer.shape[1] == 40 and bool((outer[:, 32:].abs().sum(0) > 0).all())


def test_both_factors_are_equally_large() -> None:
    left, right, values = truncated(torch.randn(9, 20), 4)
    assert torch.allclose(left.norm(dim=0), values[:4].sqrt())
    assert torch.allclose(right.norm(dim=1), values[:4].sqrt())


@pytest.mark.parametrize(("bias", "loses"), [("both", False), ("out", False), ("none", True)])
def test_the_bias_goes_where_there_is_one(bias: str, loses: bool) -> None:
    base = base_model(NEOX)
    before = weights_of(base)
    plan = plan_of(NEOX + f"mlp.up[1] = lora(32, bias={bias})")
    model = ablc.patch(base, plan, init="svd")
    (row,) = start_pairs(model, replaced(plan), before.__getitem__, write=False)
    weight, own = before[f"{row.path}.weight"], before[f"{row.path}.bias"]
    assert row.error == pytest.approx(float(own.norm() / weight.norm()) if loses else 0.0, abs=1e-6)
    assert row.optimal == 0.0
    x = torch.randn(3, 32)
    expected = x @ weight.T + (0 if loses else own)
    assert torch.allclose(model.get_submodule(row.path)(x), expected, atol=1e-4)


def test_a_bias_before_the_second_factor_counts_too() -> None:
    """A pair that trained has a bias in its first factor as well: the report is of the whole map."""
    plan = plan_of(NEOX + "mlp.up[1] = lora(32, bias=both)")
    base = base_model(NEOX)
    before = weights_of(base)
    model = ablc.patch(base, plan, init="svd")
    pair = model.gpt_neox.layers[1].mlp.dense_h_to_4h
    with torch.no_grad():
        pair.A.bias.fill_(0.5)
        pair.B.bias.sub_(pair.B.weight @ pair.A.bias)
    (row,) = start_pairs(model, replaced(plan), before.__getitem__, write=False)
    assert row.error == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("statement", "noted"),
    [("mlp[0] = nonlinear_lora(4)", 1), ("mlp[0] = lora(4)", 1), ("attention.qkv[0] = nonlinear_lora(4)", 1)],
)
def test_what_replaces_no_matrix_starts_as_ever_and_says_so(statement: str, noted: int) -> None:
    plan = plan_of(NEOX + statement + "; attention.out[3] = lora(2); mlp[2] = none")
    model, rows = start_from(plan, None, seed=5, init="svd")
    assert [(row.layer, row.note) for row in rows] == [(0, NOT_A_MATRIX), (3, "")]
    assert rows[0].error is rows[0].optimal is rows[0].spectral is None
    plain = weights_of(ablc.build(plan, seed=5))
    for name, value in weights_of(model).items():
        assert torch.equal(value, plain[name]) == ("layers.3.attention.dense" not in name or name.endswith("bias")), (
            name
        )


def test_from_scratch_it_decomposes_what_the_base_would_start_with() -> None:
    plan = plan_of(NEOX + "attention.qkv = lora(32); embedding = lora(32)")
    model, base = ablc.build(plan, seed=8, init="svd"), ablc.build(plan_of(NEOX + "mlp = full"), seed=8)
    assert float((logits(model) - logits(base)).abs().max()) < 1e-5
    assert ablc.build(plan, init="svd", device="meta").lm_head.weight.is_meta


def test_patching_is_the_same_as_building() -> None:
    plan = plan_of(NEOX + "mlp = lora_mlp(3); attention.out = none")
    patched = ablc.patch(ablc.build(plan_of(NEOX + "mlp = full"), seed=2), plan, seed=2, init="svd")
    built = weights_of(ablc.build(plan, seed=2, init="svd"))
    assert all(torch.allclose(value, built[name], atol=1e-6) for name, value in weights_of(patched).items())


def test_numbers_that_arent_finite_are_refused_before_anything_changes() -> None:
    model = base_model(NEOX)
    with torch.no_grad():
        model.gpt_neox.layers[2].mlp.dense_h_to_4h.weight[1, 1] = float("nan")
    names = set(weights_of(model))
    with pytest.raises(PatchError, match=r"layers\.2\.mlp\.dense_h_to_4h\.weight holds numbers that aren't finite"):
        ablc.patch(model, plan_of(NEOX + "mlp = lora_mlp(2)"), init="svd")
    assert set(weights_of(model)) == names


def test_in_bf16_the_error_is_that_of_the_rounded_factors() -> None:
    base = base_model(NEOX).to(torch.bfloat16)
    before = weights_of(base)
    plan = plan_of(NEOX + "mlp.up[0] = lora(32)")
    model = ablc.patch(base, plan, init="svd")
    (row,) = start_pairs(model, replaced(plan), before.__getitem__, write=False)
    assert row.error is not None and 1e-4 < row.error < 1e-2
    assert row.optimal == 0.0


def errors(model: Any, plan: ablc.Plan, before: Mapping[str, Tensor]) -> dict[str, float | None]:
    rows = start_pairs(model, replaced(plan), before.__getitem__, write=False)
    return {row.path: row.error for row in rows}


@pytest.mark.parametrize("family", sorted(BASES))
@settings(max_examples=25, deadline=None)
@given(statements=STATEMENTS)
def test_on_random_specs_it_is_never_worse_than_another_start(family: str, statements: list[str]) -> None:
    compiled = compile_source(Source("random.abl", BASES[family] + "\n".join(statements)))
    if not compiled.ok:
        return
    plan = compiled.variants[0].plan
    before = weights_of(base_model(BASES[family]))
    start: Callable[[str], Any] = lambda init: ablc.patch(base_model(BASES[family]), plan, init=init)  # noqa: E731
    best, other = errors(start("svd"), plan, before), errors(start("normal"), plan, before)
    for path, error in best.items():
        rival = other[path]
        assert (error is None) == (rival is None)
        if error is not None and rival is not None:
            assert error <= rival + 1e-6
