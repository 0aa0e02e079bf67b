"""A patched model in memory knows what was replaced in it, so what it saves by itself is what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM

import ablc
from ablc.patching.build import skeleton

from .conftest import BASES, NEOX, logits, plan_of, trained

STATEMENT = "attention[0] = none; attention.qkv[1:] = lora(4); mlp[2] = nonlinear_lora(5); layer[3] = none"


def again(model: Any, folder: Path) -> Any:
    model.save_pretrained(folder)
    loaded, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return loaded.eval()


def stock(plan: ablc.Plan, kind: type[GPTNeoXForCausalLM] = GPTNeoXForCausalLM) -> tuple[Any, GPTNeoXConfig]:
    config = skeleton(plan).config
    return kind(config).eval(), config


@pytest.mark.parametrize("base", sorted(BASES))
def test_one_that_was_built_saves_what_it_is(tmp_path: Path, base: str) -> None:
    live = trained(plan_of(BASES[base] + STATEMENT))
    assert torch.equal(logits(again(live, tmp_path)), logits(live))


def test_one_that_was_patched_saves_what_it_is_too(tmp_path: Path) -> None:
    plan = plan_of(NEOX + STATEMENT)
    model, _ = stock(plan)
    ablc.patch(model, plan, init="svd")
    assert isinstance(model, GPTNeoXForCausalLM)
    assert torch.equal(logits(again(model, tmp_path)), logits(model))


def test_another_model_of_the_same_config_stays_a_stock_one(tmp_path: Path) -> None:
    plan = plan_of(NEOX + STATEMENT)
    model, config = stock(plan)
    other = GPTNeoXForCausalLM(config).eval()
    ablc.patch(model, plan)
    assert model.gpt_neox.config is model.config is not other.config
    assert type(again(other, tmp_path)) is GPTNeoXForCausalLM and config.model_type == "gpt_neox"


def test_what_was_patched_twice_knows_of_both(tmp_path: Path) -> None:
    model, _ = stock(plan_of(NEOX + "mlp = full"))
    for statement in ("mlp.act[1] = none", "mlp.act[2] = none"):  # neither has a parameter
        ablc.patch(model, plan_of(NEOX + statement))
    loaded = again(model, tmp_path)
    assert [type(layer.mlp.act).__name__ for layer in loaded.gpt_neox.layers].count("Identity") == 2
    assert torch.equal(logits(loaded), logits(model))


def test_a_class_of_ones_own_stays_that() -> None:
    class Own(GPTNeoXForCausalLM):
        pass

    plan = plan_of(NEOX + STATEMENT)
    model, _ = stock(plan, Own)
    assert type(ablc.patch(model, plan)) is Own


def test_where_nothing_is_replaced_it_stays_the_stock_class() -> None:
    assert type(ablc.build(plan_of(NEOX + "freeze embedding"))) is GPTNeoXForCausalLM
