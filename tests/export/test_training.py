"""A patched model where others train: under `transformers.Trainer`, and with PEFT's adapters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

import ablc

from .conftest import LLAMA, NEOX, logits, plan_of, record, tokens, trained

STATEMENT = "attention[0] = none; attention.qkv[1:] = lora(4); mlp[2] = nonlinear_lora(5); freeze embedding"
PAIRS = r".*\.(query_key_value|q_proj|v_proj)\.[AB]"


def train(model: Any, folder: Path, steps: int = 3) -> float:
    rows = [{"input_ids": row, "labels": row} for row in tokens(12, 16)]
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=4, learning_rate=1e-2, use_cpu=True,
        logging_nan_inf_filter=False, report_to=[], save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    return float(Trainer(model=model, args=arguments, train_dataset=rows).train().training_loss)


def changed(model: Any, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}


def values(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("base", [NEOX, LLAMA], ids=["gpt_neox", "llama"])
def test_trainer_trains_what_is_read_and_not_frozen(tmp_path: Path, base: str) -> None:
    plan = plan_of(base + STATEMENT)
    model = ablc.build(plan, seed=1)
    before = values(model)
    assert math.isfinite(train(model, tmp_path))
    unread = {name for name in before if ".layers.0.input_layernorm." in name}
    frozen = {name for name in before if "embed" in name}
    assert changed(model, before) == before.keys() - unread - frozen
    assert frozen and unread


def test_trainer_trains_what_was_exported(tmp_path: Path) -> None:
    plan = plan_of(NEOX + STATEMENT)
    folder = tmp_path / "out"
    with pytest.warns(UserWarning, match="without a tokenizer"):
        ablc.export(record(tmp_path / "run", plan, trained(plan)), folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    before = values(model)
    assert math.isfinite(train(model, tmp_path))
    assert len(changed(model, before)) > 30


@pytest.mark.parametrize("base", [NEOX, LLAMA], ids=["gpt_neox", "llama"])
def test_adapters_stand_on_the_linears_inside_pairs(tmp_path: Path, base: str) -> None:
    model = trained(plan_of(base + STATEMENT))
    alone = logits(model)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=PAIRS, task_type="CAUSAL_LM"))
    on = {name.rpartition(".lora_A")[0] for name, _ in adapted.named_parameters() if ".lora_A" in name}
    projections = 1 if base == NEOX else 2
    assert len(on) == 3 * 2 * projections and all(name[-2:] in (".A", ".B") for name in on)
    assert torch.equal(logits(adapted), alone)  # an adapter starts as nothing
    before = values(adapted)
    assert math.isfinite(train(adapted, tmp_path))
    assert changed(adapted, before) == {name for name in before if "lora_" in name}
    adapted.eval()
    assert not torch.allclose(logits(adapted), alone)
    adapted.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(trained(plan_of(base + STATEMENT)), tmp_path / "adapter").eval()
    assert torch.equal(logits(again), logits(adapted))
    assert torch.allclose(logits(again.merge_and_unload()), logits(adapted), atol=1e-4)


def test_adapters_stand_on_every_linear_too(tmp_path: Path) -> None:
    model = trained(plan_of(NEOX + STATEMENT))
    linears = [module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    on = {name for name, _ in adapted.named_parameters() if ".lora_A" in name}
    assert len(on) == len(linears) - 1  # all but the head
