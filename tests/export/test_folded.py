"""`--folded`: a dense model of the stock class with the same logits, or a refusal that names the slots."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import ablc
from ablc.blueprint import Act, Chain, Linear
from ablc.exporting.finished import ExportError
from ablc.exporting.folding import NotDense, dense_weights

from .conftest import BASES, LLAMA, NEOX, SPECS, TIED, logits, plan_of, proxy_plan, record, trained
from .test_checkpoints import generate

pytestmark = pytest.mark.filterwarnings("ignore:exported without a tokenizer")
NOT_DENSE = {"03", "09"}  # an activation inside the projection, an MLP without one


def folded(tmp_path: Path, plan: ablc.Plan, live: Any) -> Any:
    folder = ablc.export(record(tmp_path / "run", plan, live), tmp_path / "out", folded=True)
    config = json.loads((folder / "config.json").read_text())
    assert "auto_map" not in config and "replacements" not in config and "kv_sharing_modes" not in config
    assert {path.name for path in folder.iterdir()} == {"config.json", "generation_config.json", "model.safetensors"}
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    assert type(model).__module__.startswith("transformers.models.")
    return model.eval()


def assert_same(model: Any, live: Any) -> None:
    there, here = logits(model), logits(live)
    assert here.std() > 0.1
    assert (there - here).abs().max() < 1e-5 * max(1.0, float(here.abs().max()))


@pytest.mark.parametrize("path", [p for p in SPECS if p.stem not in NOT_DENSE], ids=lambda path: path.stem)
def test_specs_fold(tmp_path: Path, path: Path) -> None:
    plan = proxy_plan(path)
    live = trained(plan)
    assert_same(folded(tmp_path, plan, live), live)


@pytest.mark.parametrize("path", [p for p in SPECS if p.stem in NOT_DENSE], ids=lambda path: path.stem)
def test_specs_that_do_not_fold(tmp_path: Path, path: Path) -> None:
    plan = proxy_plan(path)
    with pytest.raises(ExportError, match="no dense checkpoint"):
        folded(tmp_path, plan, trained(plan))


@pytest.mark.parametrize("base", sorted(BASES))
@pytest.mark.parametrize(
    "statement",
    [
        "attention.qkv = lora(4); attention.out[1:] = lora(3); attention.out[0] = none",
        "mlp = lora_mlp(4); mlp.down[2] = lora(50)",
        "attention[0] = none; mlp[1] = none; layer[2] = none",
        "layer = none",
    ],
)
def test_statements_fold(tmp_path: Path, base: str, statement: str) -> None:
    plan = plan_of(BASES[base] + statement)
    live = trained(plan)
    model = folded(tmp_path, plan, live)
    assert_same(model, live)
    assert torch.equal(generate(model), generate(live, use_cache=False))


@pytest.mark.parametrize("statement", ["embedding = lora(5); lm_head = lora(7)", "mlp = nonlinear_lora(5, bias = out)"])
def test_statements_fold_that_stand_in_one_base(tmp_path: Path, statement: str) -> None:
    plan = plan_of(NEOX + statement)
    live = trained(plan)
    assert_same(folded(tmp_path, plan, live), live)


def test_a_tied_model_stays_tied(tmp_path: Path) -> None:
    plan = plan_of(TIED + "mlp = none")
    model = folded(tmp_path, plan, trained(plan))
    assert model.lm_head.weight is model.model.embed_tokens.weight


REFUSED = [
    (NEOX + "attention.qkv[1:3] = nonlinear_lora(4)", "`attention.qkv[1:3]` is Linear(32, 4) · gelu · Linear(4, 96)"),
    (NEOX + "final_norm = none", "`final_norm` is identity (no weights of the stock LayerNorm(32) compute that)"),
    (NEOX + "mlp[2] = lora(4)", "`mlp[2]` is Linear(32, 4) · Linear(4, 32) (no weights of the stock mlp"),
    (NEOX + "mlp.act = none", "`mlp.act` is identity (no weights of the stock gelu compute that)"),
    (NEOX + "mlp = nonlinear_lora(4, act = relu)", "another activation"),
    (NEOX.replace("intermediate_size = 96", "intermediate_size = 8") + "mlp = nonlinear_lora(9)", "is narrower"),
    (LLAMA + "mlp = nonlinear_lora(4)", "the stock MLP has a gate"),
    (LLAMA + "attention.q = lora(4, bias = both)", "it has a bias, and the stock class has none there"),
    (NEOX + "lm_head = lora(4, bias = out)", "it has a bias"),
    (NEOX + "mlp.norm[0] = none; mlp.up[1] = nonlinear_lora(2)", "`mlp.norm[0]` is identity"),
    (NEOX + "mlp.norm[0] = none; mlp.up[1] = nonlinear_lora(2)", "`mlp.up[1]` is Linear(32, 2) · gelu"),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED, ids=[sentence[:20] for _, sentence in REFUSED])
def test_what_is_not_dense_is_refused_by_name(tmp_path: Path, text: str, sentence: str) -> None:
    plan = plan_of(text)
    with pytest.raises(ExportError, match=re.escape(sentence)) as raised:
        ablc.export(record(tmp_path / "run", plan, trained(plan)), tmp_path / "out", folded=True)
    assert raised.value.help is not None and "--folded" in raised.value.help
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_a_bias_of_zeros_is_no_bias() -> None:
    pair = Chain((("A", Linear(3, 2, True)), ("B", Linear(2, 3, True))))
    shapes = {"A.weight": (2, 3), "A.bias": (2,), "B.weight": (3, 2), "B.bias": (3,)}
    own = {name: torch.full(shape, float("weight" in name)).double() for name, shape in shapes.items()}
    assert dense_weights(Linear(3, 3, bias=False), pair, own)["weight"].tolist() == [[2.0] * 3] * 3
    with pytest.raises(NotDense):
        dense_weights(Linear(3, 3, bias=False), pair, {**own, "A.bias": torch.ones(2).double()})


def test_a_chain_in_a_chain_folds() -> None:
    inner = Chain((("A", Linear(3, 2, True)), ("B", Linear(2, 4, False))))
    outer = Chain((("first", inner), ("second", Linear(4, 5, True))))
    shapes = {"first.A.weight": (2, 3), "first.A.bias": (2,), "first.B.weight": (4, 2)}
    shapes |= {"second.weight": (5, 4), "second.bias": (5,)}
    own = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    made = dense_weights(Linear(3, 5, bias=True), outer, own)
    x = torch.randn(6, 3, dtype=torch.float64)
    hidden = (x @ own["first.A.weight"].T + own["first.A.bias"]) @ own["first.B.weight"].T
    assert torch.allclose(x @ made["weight"].T + made["bias"], hidden @ own["second.weight"].T + own["second.bias"])
    with pytest.raises(NotDense, match="isn't linear"):
        dense_weights(Linear(3, 5, bias=True), Chain((*outer.links, ("act", Act("relu")))), own)
