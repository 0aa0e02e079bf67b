"""The loss as a module: exact through any head, never the whole matrix of logits, and documents kept apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

import ablc
from ablc.families import families
from ablc.spec.recipe import Recipe
from ablc.train import loss
from ablc.train.loop import Job, accumulate, make_optimizer
from ablc.train.loss import NextTokenLoss, documents, head_loss, targets_of
from ablc.train.workers import Workers

MODEL = (
    'model = "EleutherAI/pythia-14m"(hidden_size = 32, num_attention_heads = 4, intermediate_size = 64, '
    "vocab_size = 90, num_hidden_layers = 2)\n"
)
HEADS = {
    "linear": lambda: nn.Linear(16, 500, bias=False),
    "with a bias": lambda: nn.Linear(16, 500),
    "low-rank": lambda: nn.Sequential(nn.Linear(16, 4), nn.Linear(4, 500)),
}


def gradients(head: nn.Module, hidden: torch.Tensor, targets: torch.Tensor) -> tuple[float, list[torch.Tensor]]:
    hidden = hidden.clone().requires_grad_()
    total = head_loss(hidden, head, targets)
    found = torch.autograd.grad(total, [hidden, *head.parameters()])
    return float(total.detach()), list(found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ignored", ["none", "some", "all"])
@pytest.mark.parametrize("head", HEADS)
def test_loss_and_gradients_are_pytorchs(head: str, ignored: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = HEADS[head]().to(dtype)
    hidden, targets = torch.randn(301, 16).to(dtype), torch.randint(0, 500, (301,))
    hidden[5] *= 1e4  # beyond what exp() takes
    targets[{"none": slice(0), "some": slice(None, None, 7), "all": slice(None)}[ignored]] = -100
    total, found = gradients(module, hidden, targets)
    theirs = hidden.clone().requires_grad_()
    expected = nn.functional.cross_entropy(module(theirs).float(), targets, reduction="sum")
    assert total == pytest.approx(float(expected.detach()), rel=1e-5, abs=1e-6)
    for one, other in zip(found, torch.autograd.grad(expected, [theirs, *module.parameters()]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4 if dtype == torch.float32 else 2e-2, atol=1e-4)


def test_a_loss_beside_large_logits_keeps_its_digits() -> None:
    same = torch.full((1, 2), 1e4)
    assert float(head_loss(same, nn.Identity(), torch.tensor([1]))) == pytest.approx(np.log(2), rel=1e-6)


def test_a_head_that_needs_its_result_is_noticed() -> None:
    """The logits become their gradient in place: never silently under something that was kept."""
    head = nn.Sequential(nn.Linear(16, 500), nn.Tanh())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(head, torch.randn(8, 16), torch.randint(0, 500, (8,)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head", HEADS)
def test_a_piece_at_a_time_is_the_whole(head: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = HEADS[head]().to(dtype)
    hidden, targets = torch.randn(301, 16).to(dtype), torch.randint(0, 500, (301,))
    targets[::7] = -100
    whole, expected = gradients(module, hidden, targets)
    seen: list[int] = []
    module.register_forward_hook(lambda module, inputs, output: seen.append(output.numel()))
    monkeypatch.setattr(loss, "MOST_LOGITS", 10_000)
    pieces, found = gradients(module, hidden, targets)
    assert pieces == pytest.approx(whole, rel=1e-6)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).float().norm() <= (1e-5 if dtype == torch.float32 else 2e-2) * other.float().norm()
    assert max(seen) <= 10_000 and len(seen) == 16, "once each"
    with torch.no_grad():
        assert float(head_loss(hidden, module, targets)) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("frozen", ["head", "what is below"])
def test_pieces_where_only_a_part_is_trained(frozen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head, hidden, targets = nn.Linear(16, 500), torch.randn(301, 16), torch.randint(0, 500, (301,))
    head.requires_grad_(frozen != "head")
    hidden.requires_grad_(frozen == "head")
    trained = [hidden] if frozen == "head" else list(head.parameters())
    expected = torch.autograd.grad(head_loss(hidden, head, targets), trained)
    monkeypatch.setattr(loss, "MOST_LOGITS", 10_000)
    torch.testing.assert_close(torch.autograd.grad(head_loss(hidden, head, targets) * 0.5 * 2, trained), expected)


def test_pieces_of_bf16_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """autocast keeps the bf16 weights of one piece for the next."""
    torch.manual_seed(0)
    head, hidden, targets = nn.Linear(16, 500), torch.randn(301, 16), torch.randint(0, 500, (301,))
    with torch.autocast("cpu", torch.bfloat16):
        whole, expected = gradients(head, hidden, targets)
    monkeypatch.setattr(loss, "MOST_LOGITS", 10_000)
    with torch.autocast("cpu", torch.bfloat16):
        pieces, found = gradients(head, hidden, targets)
    assert pieces == pytest.approx(whole, rel=1e-6)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2)


def test_the_sum_of_a_bf16_loss_is_kept_in_fp32() -> None:
    """A sum of thousands of losses of about 6 doesn't fit into the 8 bits of bf16."""
    head = nn.Linear(16, 500).to(torch.bfloat16)
    hidden, targets = torch.randn(4000, 16).to(torch.bfloat16), torch.randint(0, 500, (4000,))
    exact = nn.functional.cross_entropy(head(hidden).double(), targets, reduction="sum")
    assert float(head_loss(hidden, head, targets).detach()) == pytest.approx(float(exact.detach()), rel=1e-5)


@pytest.mark.parametrize("family", families())
def test_the_loss_is_that_of_transformers(family: str) -> None:
    """A family may do more to its logits than its head does."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, vocab_size=90, **sizes)).eval()
    ids = torch.randint(0, 90, (3, 20))
    expected = float(model(input_ids=ids, labels=ids).loss.detach()) * 3 * 19
    assert float(NextTokenLoss(model)(ids).detach()) == pytest.approx(expected, rel=1e-5)


# --- documents -------------------------------------------------------------------------------------------------------


def test_what_keeps_documents_apart() -> None:
    layout = documents(torch.tensor([[5, 0, 6, 7, 0], [5, 6, 7, 8, 9]]), 0)
    assert layout["position_ids"].tolist() == [[0, 1, 0, 1, 2], [0, 1, 2, 3, 4]]
    assert layout["attention_mask"][0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 1],
    ]
    assert layout["attention_mask"][1, 0].equal(torch.ones(5, 5, dtype=torch.bool).tril())
    assert targets_of(torch.tensor([[5, 0, 6, 7, 0]]), 0).tolist() == [[0, -100, 7, 0]]


@pytest.mark.parametrize("base", [MODEL, MODEL.replace("EleutherAI/pythia-14m", "meta-llama/Llama-3.1-8B")])
@pytest.mark.parametrize("edits", ["", "attention[0] = none", "attention.qkv = lora(4); mlp = none"])
def test_packed_documents_are_as_if_alone(base: str, edits: str) -> None:
    heads = "num_attention_heads = 4, num_key_value_heads = 2, head_dim = 8"
    text = base.replace("num_attention_heads = 4", heads) if "llama" in base.lower() else base
    model = ablc.build(ablc.plan(ablc.loads(text + edits)), seed=0).eval()
    rows = [torch.randint(1, 90, (length,)) for length in (5, 1, 9)]
    closed = [torch.cat([row, torch.tensor([0])]) for row in rows]
    alone = sum(float(NextTokenLoss(model)(row[None]).detach()) for row in closed)
    packed = torch.cat(closed)[None]
    together = float(NextTokenLoss(model, separator=0)(packed).detach())
    assert together == pytest.approx(alone, rel=1e-5)
    assert float(NextTokenLoss(model)(packed).detach()) != pytest.approx(alone, rel=1e-3)


def test_a_mean_counts_what_is_predicted() -> None:
    """Blocks with many documents have fewer predicted tokens; micro-batches are weighted by them."""

    class Data:
        validation = np.zeros((1, 4), np.int64)

        def batch(self, step: int, *, seed: int, batch_size: int) -> Any:
            raise AssertionError

    blocks = np.array([[0] * 8, [3, 0, 4, 0, 5, 0, 6, 0], [7, 8, 9, 10, 11, 12, 13, 14]])
    found = []
    for size in (3, 1):
        model = ablc.build(ablc.plan(ablc.loads(MODEL)), seed=0)
        recipe = Recipe.model_validate({"steps": 1, "batch_size": size})
        job = Job(
            NextTokenLoss(model, 0),
            make_optimizer(model, recipe),
            Data(),
            recipe,
            1,
            1,
            Workers(torch.device("cpu")),
            0,
        )
        found.append(float(accumulate(job, blocks)))
    summed = float(NextTokenLoss(model, 0)(torch.from_numpy(blocks)).detach())
    assert found == pytest.approx([summed / (0 + 4 + 7)] * 2, rel=1e-6)
