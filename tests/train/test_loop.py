"""The loop itself: exact accumulation, the schedule, what the optimizer holds, and that nothing hides a NaN."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ablc
from ablc.patching.initial import planned_weights
from ablc.spec.recipe import Recipe
from ablc.train.loop import Diverged, Job, Step, accumulate, clip, evaluate, learning_rate, make_optimizer, train
from ablc.train.loss import NextTokenLoss
from ablc.train.workers import Workers

MODEL = (
    'model = "EleutherAI/pythia-14m"(hidden_size = 32, num_attention_heads = 4, intermediate_size = 64, '
    "vocab_size = 90, num_hidden_layers = 2)\n"
)
CPU = torch.device("cpu")


class Toy:
    """Random tokens, in an order that (seed, step) determine, as the real data has it."""

    def __init__(self) -> None:
        self.validation = np.random.default_rng(0).integers(0, 90, (6, 16))

    def batch(self, step: int, *, seed: int, batch_size: int) -> np.ndarray[Any, Any]:
        return np.random.default_rng([seed, step]).integers(0, 90, (batch_size, 16))


def model_of(text: str = "mlp[1] = lora(4)", seed: int = 0) -> Any:
    return ablc.build(ablc.plan(ablc.loads(MODEL + text)), seed=seed)


def recipe(**keys: Any) -> Recipe:
    return Recipe.model_validate({"steps": 6, "batch_size": 4, "eval_every": 2, "lr": 1e-2, **keys})


def job(model: Any, keys: Recipe, steps: int = 6, data: Toy | None = None) -> Job:
    optimizer = make_optimizer(model, keys)
    return Job(NextTokenLoss(model), optimizer, data or Toy(), keys, steps, keys.eval_every or steps, Workers(CPU))


def losses(model: Any, keys: Recipe, steps: int = 6) -> list[dict[str, float]]:
    return [entry(step) for step in train(job(model, keys, steps))]


def entry(step: Step) -> dict[str, float]:
    """What the record says of a step."""
    return {"step": step.number, **step.metrics, **(step.evaluation.facts() if step.evaluation else {})}


def test_a_step_is_the_same_however_it_is_cut_in_micro_batches() -> None:
    blocks = Toy().batch(0, seed=0, batch_size=12)
    found = []
    for micro in (12, 4, 5):
        model = model_of()
        loss = float(accumulate(job(model, recipe(batch_size=micro)), blocks))
        found.append((loss, {name: p.grad for name, p in model.named_parameters()}))
    (loss, gradients), *others = found
    for other, others_gradients in others:
        assert other == pytest.approx(loss, rel=1e-6)
        assert all(torch.allclose(gradients[n], others_gradients[n], atol=1e-7) for n in gradients)


def test_the_loss_is_that_of_transformers() -> None:
    model, blocks = model_of(), Toy().batch(0, seed=0, batch_size=4)
    ids = torch.from_numpy(blocks)
    expected = float(model(ids, labels=ids).loss.detach())
    assert float(accumulate(job(model, recipe()), blocks)) == pytest.approx(expected, rel=1e-6)
    validation = torch.from_numpy(Toy().validation)
    expected = float(model(validation, labels=validation).loss.detach())
    assert evaluate(job(model, recipe(batch_size=4)), 0).eval_loss == pytest.approx(expected, rel=1e-6)
    assert model.training


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"schedule": "linear"}, [1.0, 0.75, 0.5, 0.25]),
        ({"schedule": "linear", "warmup_steps": 2}, [0.5, 1.0, 1.0, 0.5]),
        ({"schedule": "constant", "warmup_steps": 3}, [1 / 3, 2 / 3, 1.0, 1.0]),
        ({"schedule": "cosine"}, [1.0, 0.8535533905932737, 0.5, 0.14644660940672627]),
        ({"schedule": "linear", "warmup_steps": 9}, [1 / 9, 2 / 9, 3 / 9, 4 / 9]),
    ],
)
def test_schedules(keys: dict[str, Any], expected: list[float]) -> None:
    chosen = recipe(lr=1.0, **keys)
    assert [learning_rate(chosen, step, 4) for step in range(4)] == pytest.approx(expected)


def test_a_line_for_every_step_and_evaluations_where_they_belong() -> None:
    entries = losses(model_of(), recipe(), steps=5)
    assert [entry["step"] for entry in entries] == [0, 1, 2, 3, 4, 5]
    assert [entry["step"] for entry in entries if "eval_loss" in entry] == [0, 2, 4, 5]
    assert all(entry.keys() >= {"loss", "lr", "tokens_per_second"} for entry in entries[1:])
    assert entries[-1]["eval_loss"] < entries[0]["eval_loss"]


@pytest.mark.parametrize("most", [1e-3, 1e9])
def test_gradients_are_scaled_to_the_norm_that_is_allowed(most: float) -> None:
    work = job(model_of(), recipe(clip=most))
    accumulate(work, work.data.batch(0, seed=0, batch_size=4))
    trained = [p for p in work.loss.parameters() if p.grad is not None]
    before = [p.grad.clone() for p in trained if p.grad is not None]
    norm = math.sqrt(sum(float(gradient.double().pow(2).sum()) for gradient in before))
    assert float(clip(work.optimizer, most)) == pytest.approx(norm, rel=1e-5)
    scale = min(1.0, most / norm)
    for parameter, gradient in zip(trained, before, strict=True):
        assert parameter.grad is not None and torch.allclose(parameter.grad, gradient * scale, rtol=1e-4)


def test_a_step_clips_as_the_recipe_says() -> None:
    """AdamW's second moment after one step is 0.05 of the squared gradient."""
    seen = []
    for most in (1e-3, 0.0):
        work = job(model_of(), recipe(clip=most), steps=1)
        list(train(work))
        squares = sum(float(state["exp_avg_sq"].double().sum()) for state in work.optimizer.state.values())
        seen.append(math.sqrt(squares / (1 - work.recipe.beta2)))
    assert seen[0] == pytest.approx(1e-3, rel=1e-3) and seen[1] > 0.1


def test_the_same_seed_gives_the_same_losses_to_the_last_bit() -> None:
    one, two, other = (losses(model_of(seed=s), recipe(seed=s)) for s in (0, 0, 1))
    values = [[one.get("loss") for one in run] for run in (one, two, other)]
    assert values[0] == values[1] != values[2]


def test_specs_see_the_same_data() -> None:
    class Remembers(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Any] = []

        def batch(self, step: int, *, seed: int, batch_size: int) -> np.ndarray[Any, Any]:
            self.seen.append((step, seed, batch_size))
            return super().batch(step, seed=seed, batch_size=batch_size)

    asked = []
    for text in ("mlp = full", "attention = none; mlp = lora(2)"):
        data = Remembers()
        list(train(job(model_of(text), recipe(seed=5), 3, data)))
        asked.append(data.seen)
    assert asked[0] == asked[1] == [(0, 5, 4), (1, 5, 4), (2, 5, 4)]


@pytest.mark.parametrize(("poisoned", "what"), [("weight", "loss"), ("gradient", "gradient")])
def test_what_isnt_finite_ends_the_run(poisoned: str, what: str) -> None:
    model = model_of()
    weight = model.lm_head.weight
    count = itertools.count(1)

    def poison(gradient: torch.Tensor) -> torch.Tensor:
        if next(count) < 3:
            return gradient
        if poisoned == "weight":
            weight.data.fill_(float("nan"))
            return gradient
        return gradient * float("inf")

    weight.register_hook(poison)
    entries: list[dict[str, float]] = []
    with pytest.raises(Diverged, match=f"the {what} of step") as raised:
        for step in train(job(model, recipe(), 8)):
            entries.append(entry(step))
    assert raised.value.step == (4 if poisoned == "weight" else 3)
    assert entries[-1]["step"] == raised.value.step - 1


def test_the_optimizer_holds_what_is_trained_and_read() -> None:
    plan = ablc.plan(ablc.loads(MODEL + "attention[0] = none; freeze embedding"))
    model = ablc.build(plan)
    unread = {weight.name for _, weight in planned_weights(plan.blueprint) if not weight.read}
    for name in unread:
        model.get_parameter(name).requires_grad_(False)
    optimizer = make_optimizer(model, recipe(weight_decay=0.1))
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, plain = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert decayed | plain == set(names.values()) - unread - {"gpt_neox.embed_in.weight"}
    assert unread == {f"gpt_neox.layers.0.input_layernorm.{kind}" for kind in ("weight", "bias")}
    assert all(name.endswith("bias") or "norm" in name for name in plain)
    assert not any(name.endswith("bias") or "norm" in name for name in decayed)


@pytest.mark.parametrize(
    ("precision", "weights"), [("fp32", torch.float32), ("bf16_autocast", torch.float32), ("bf16", torch.bfloat16)]
)
def test_precisions(precision: str, weights: torch.dtype) -> None:
    model = model_of()
    model = model.to(torch.bfloat16) if precision == "bf16" else model
    seen: set[torch.dtype] = set()
    head: nn.Module = model.lm_head
    head.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    entries = losses(model, recipe(precision=precision))
    assert {p.dtype for p in model.parameters()} == {weights}
    assert seen == {torch.float32 if precision == "fp32" else torch.bfloat16}
    assert entries[-1]["eval_loss"] < entries[0]["eval_loss"]


def test_the_estimate_takes_no_first_time_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from ablc.train import work

    now = 0.0
    first = {"accumulate": 100.0, "evaluate": 100.0}  # what compiling takes

    def taking(name: str, seconds: float) -> Any:
        def call(*given: Any) -> float:
            nonlocal now
            now += first.pop(name, seconds)
            return 0.0

        return call

    monkeypatch.setattr(work, "accumulate", taking("accumulate", 2.0))
    monkeypatch.setattr(work, "evaluate", taking("evaluate", 1.0))
    monkeypatch.setattr(work.time, "perf_counter", lambda: now)
    seconds = work.estimate_seconds(job(model_of(), recipe(batch_size=4), steps=10))
    # Ten steps with a tenth for what is beside them, and an evaluation of two batches at 0, 2, 4, 6, 8, 10.
    assert seconds == pytest.approx(10 * 2.0 * 1.1 + 6 * 2 * 1.0)
