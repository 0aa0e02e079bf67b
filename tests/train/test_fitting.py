"""Calibration: every block comes nearer to what it replaced, and the model with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import ablc
from ablc.patching.replaced import replaced
from ablc.train import fitting
from ablc.train.fitting import FROZEN, REMOVED, Fit, Texts, calibrate, in_order, inputs_of
from ablc.train.least_squares import solve

torch.set_num_threads(1)
V, LENGTH = 60, 16
NEOX = (
    'model = "EleutherAI/pythia-14m"(hidden_size = 32, num_attention_heads = 4, intermediate_size = 64, '
    f"vocab_size = {V}, num_hidden_layers = 2)\n"
)
LLAMA = (
    'model = "llama-3.1-8b"(hidden_size = 32, num_attention_heads = 4, num_key_value_heads = 2, '
    f"intermediate_size = 64, vocab_size = {V}, num_hidden_layers = 2)\n"
)
BASES = {"gpt_neox": NEOX, "llama": LLAMA}
FIT = Fit(steps=60, lr=3e-3)


def plan_of(text: str) -> ablc.Plan:
    return ablc.plan(ablc.loads(text))


def sequences(count: int, seed: int) -> Tensor:
    """Token ids where the next one mostly follows from the last two, and some are far more frequent than others: there
    is something to learn, and a weight's own singular vectors aren't the best for what it meets."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(V, (count, LENGTH), generator=generator)
    for place in range(2, LENGTH):
        follows = (3 * ids[:, place - 1] + 5 * ids[:, place - 2]) % V
        ids[:, place] = torch.where(torch.rand(count, generator=generator) < 0.9, follows, ids[:, place])
    return ids**3 // V**2


@pytest.fixture(scope="module", params=sorted(BASES))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def weights(family: str) -> dict[str, Tensor]:
    """Of a base that was trained for a moment, so that its activations have structure."""
    model = ablc.build(plan_of(BASES[family] + "mlp = full"), seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(300):
        ids = sequences(32, 100 + step)
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.clone() for name, value in model.state_dict().items()}


def base(family: str, weights: dict[str, Tensor]) -> Any:
    model = ablc.build(plan_of(BASES[family] + "mlp = full"), seed=1).eval()
    model.load_state_dict(weights)
    return model


def loss(model: Any) -> float:
    ids = sequences(64, 7)
    with torch.no_grad():
        return float(model(ids, labels=ids).loss)


def models(family: str, weights: dict[str, Tensor], statements: str) -> tuple[Any, Any, list[Any]]:
    plan = plan_of(BASES[family] + statements)
    student = ablc.patch(base(family, weights), plan, init="svd").eval()
    return base(family, weights), student, replaced(plan)


SPEC = (
    "embedding = lora(12); attention = lora(4); mlp[0] = lora_mlp(6); mlp[1] = nonlinear_lora(16); lm_head = lora(12)"
)


def test_every_block_comes_nearer_and_so_does_the_loss(family: str, weights: dict[str, Tensor]) -> None:
    teacher, student, places = models(family, weights, SPEC)
    start = loss(student)
    rows = list(calibrate(teacher, student, places, Texts(sequences(64, 3), 8), FIT))
    assert len(rows) == len(places)
    for row in rows:
        assert row.before is not None and row.after is not None
        assert row.after < 0.99 * row.before, row
    assert loss(teacher) < loss(student) < start - 0.2 * (start - loss(teacher))
    assert all(torch.equal(value, teacher.state_dict()[name]) for name, value in weights.items())


@pytest.mark.parametrize("bias", ["none", "out", "both"])
def test_a_product_is_fitted_as_well_as_can_be(bias: str) -> None:
    """Descending from there finds nothing better."""
    pair = torch.nn.Sequential()
    pair.add_module("A", torch.nn.Linear(12, 3, bias=bias == "both"))
    pair.add_module("B", torch.nn.Linear(3, 7, bias=bias != "none"))
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(500, 12, generator=generator) @ torch.randn(12, 12, generator=generator) + 1
    wanted = torch.tanh(x @ torch.randn(12, 7, generator=generator) * 0.3) + 0.5
    solve(pair, torch.nn.Sequential(), iter(zip(x.split(64), wanted.split(64), strict=True)))
    best = float((pair(x) - wanted).detach().square().mean())
    optimizer = torch.optim.Adam(pair.parameters(), lr=1e-3)
    for _ in range(300):
        optimizer.zero_grad()
        (pair(x) - wanted).square().mean().backward()
        optimizer.step()
    assert float((pair(x) - wanted).detach().square().mean()) > 0.995 * best


def test_what_the_inputs_leave_open_stays_as_it_was() -> None:
    """Fewer positions than inputs: in the other directions the pair does what the matrix did."""
    pair = torch.nn.Sequential()
    pair.add_module("A", torch.nn.Linear(12, 7, bias=False))
    pair.add_module("B", torch.nn.Linear(7, 7, bias=False))
    original, x = torch.nn.Linear(12, 7, bias=False), torch.randn(4, 12)
    solve(pair, original, iter([(x, original(x))]))
    assert torch.allclose(pair.B.weight @ pair.A.weight, original.weight, atol=1e-4)  # type: ignore[operator]


def test_inputs_that_are_all_the_same_are_no_error() -> None:
    pair = torch.nn.Sequential()
    pair.add_module("A", torch.nn.Linear(12, 3, bias=False))
    pair.add_module("B", torch.nn.Linear(3, 7))
    original = torch.nn.Linear(12, 7)
    for seed in range(20):  # what rounding leaves of no spread has either sign
        x = torch.randn(1, 12, generator=torch.Generator().manual_seed(seed)).expand(224, 12)
        solve(pair, original, iter((some, original(some)) for some in x.split(64)))
        assert torch.allclose(pair(x), original(x), atol=1e-4)


def test_only_the_new_modules_change(family: str, weights: dict[str, Tensor]) -> None:
    teacher, student, places = models(
        family, weights, "mlp[0] = lora_mlp(6); mlp[1] = nonlinear_lora(6); attention[0] = none"
    )
    list(calibrate(teacher, student, places, Texts(sequences(16, 3), 8), FIT))
    kept = [name for name in student.state_dict() if name in weights]
    assert kept and all(torch.equal(student.state_dict()[name], weights[name]) for name in kept)
    assert all(parameter.grad is None for parameter in student.parameters())


def test_the_order_is_that_of_a_token_and_each_sees_what_was_fitted_before_it(
    family: str, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, student, places = models(family, weights, SPEC)
    slots = [(one.layer, one.slot) for one in in_order(teacher, places)]
    assert slots[0] == (None, "embedding") and slots[-1] == (None, "lm_head")
    assert [layer for layer, _ in slots[1:-1]] == sorted(layer for layer, _ in slots[1:-1])  # type: ignore[type-var]
    assert next(slot for layer, slot in slots if layer == 0).startswith("attention")
    seen: list[Tensor] = []
    real = fitting.inputs_of

    def spy(model: Any, path: str, *rest: Any) -> Tensor:
        found = real(model, path, *rest)
        if model is student and path.endswith(("query_key_value", "q_proj")) and ".0." in path:
            seen.append(found)
        return found

    monkeypatch.setattr(fitting, "inputs_of", spy)
    path = next(one.path for one in places if one.path.endswith(("query_key_value", "q_proj")) and one.layer == 0)
    before = real(student, path, Texts(sequences(16, 3), 8))
    list(calibrate(teacher, student, places, Texts(sequences(16, 3), 8), FIT))
    assert len(seen) == 1 and not torch.equal(seen[0], before)  # the embedding was fitted by then
    assert torch.equal(seen[0], real(student, path, Texts(sequences(16, 3), 8)))


def test_what_is_gone_or_frozen_is_listed_and_left(family: str, weights: dict[str, Tensor]) -> None:
    text = "attention[0] = none; mlp = lora_mlp(4); freeze mlp[1]; final_norm = none"
    teacher, student, places = models(family, weights, text)
    frozen = {name: value.clone() for name, value in student.named_parameters() if not value.requires_grad}
    rows = list(calibrate(teacher, student, places, Texts(sequences(16, 3), 8), FIT))
    notes = {row.path.split(".", 1)[1]: row.note for row in rows if row.note}
    assert set(notes.values()) == {REMOVED, FROZEN}
    assert {row.layer for row in rows if row.note == FROZEN} == {1}
    assert {row.layer for row in rows if row.note == REMOVED} == {0, None}
    assert all(row.before is None and row.after is None for row in rows if row.note)
    assert frozen and all(torch.equal(dict(student.named_parameters())[name], value) for name, value in frozen.items())


def test_a_fit_that_goes_wrong_is_taken_back(family: str, weights: dict[str, Tensor]) -> None:
    for rate in (50.0, 1e30):
        teacher, student, places = models(family, weights, "mlp = nonlinear_lora(6)")
        before = {name: value.clone() for name, value in student.state_dict().items()}
        rows = list(calibrate(teacher, student, places, Texts(sequences(16, 3), 8), Fit(steps=3, lr=rate)))
        assert all(row.after == row.before for row in rows)
        assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_what_is_interrupted_is_taken_back_and_what_was_done_stays(
    family: str, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, student, places = models(family, weights, "mlp = nonlinear_lora(6)")
    whole = models(family, weights, "mlp = nonlinear_lora(6)")
    list(calibrate(*whole, Texts(sequences(16, 3), 8), FIT))
    steps, real = [0], torch.optim.AdamW.step

    def step(self: Any, *args: Any) -> Any:
        steps[0] += 1
        if steps[0] == FIT.steps + 3:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    start = {name: value.clone() for name, value in student.state_dict().items()}
    rows = []
    with pytest.raises(KeyboardInterrupt):
        rows += calibrate(teacher, student, places, Texts(sequences(16, 3), 8), FIT)
    first, second = (one.path for one in in_order(teacher, places)[:2])
    for name, value in student.state_dict().items():
        expected = whole[1].state_dict()[name] if name.startswith(f"{first}.") else start[name]
        assert torch.equal(value, expected), name
    assert not torch.equal(student.get_submodule(first).A.weight, start[f"{first}.A.weight"])
    assert second != first


def test_the_same_seed_fits_the_same(family: str, weights: dict[str, Tensor]) -> None:
    fitted = []
    for seed in (0, 0, 1):
        teacher, student, places = models(family, weights, "mlp[1] = nonlinear_lora(8)")
        fit = Fit(steps=20, lr=3e-3, seed=seed)
        # Fewer positions a step than there are, else all seeds see the same ones.
        list(calibrate(teacher, student, places, Texts(sequences(80, 3), 8), fit))
        fitted.append(student.get_submodule(places[0].path).A.weight.detach().clone())
    assert torch.equal(fitted[0], fitted[1]) and not torch.equal(fitted[0], fitted[2])


def test_inputs_are_what_the_module_gets(family: str, weights: dict[str, Tensor]) -> None:
    model, ids = base(family, weights), sequences(6, 3)
    table = next(name for name, module in model.named_modules() if isinstance(module, torch.nn.Embedding))
    assert torch.equal(inputs_of(model, table, Texts(ids, 4)), ids.flatten())
    got = inputs_of(model, "lm_head", Texts(ids, 4))
    with torch.no_grad():
        assert torch.allclose(model.lm_head(got), model(ids).logits.flatten(0, 1), atol=1e-5)
    apart = inputs_of(model, "lm_head", Texts(ids, 4, separator=int(ids[0, 5])))
    assert torch.allclose(apart[:6], got[:6], atol=1e-5) and not torch.allclose(
        apart[6:LENGTH], got[6:LENGTH], atol=1e-3
    )
    assert not any(module._forward_pre_hooks for module in model.modules())
