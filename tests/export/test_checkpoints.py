"""What `ablc export` writes is the run's model: its logits, its dtype, what it generates, and what it saves again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import ablc
from ablc import modeling_ablc
from ablc.blueprint import Act, Chain, Embedding, Identity, Linear, Node, Nothing
from ablc.blueprint.as_json import encode
from ablc.patching.modules import module_of

from .conftest import BASES, LLAMA, NEOX, SPECS, TIED, logits, plan_of, proxy_plan, record, tokens, trained

pytestmark = pytest.mark.filterwarnings("ignore:exported without a tokenizer")
STATEMENTS = [
    "attention[0] = none; attention.qkv[1:] = lora(4); mlp[2] = nonlinear_lora(5); attention.norm[3] = none",
    "attention.out = none; mlp = lora_mlp(4); mlp.act[2] = none; final_norm = none",
    "layer[0] = none; layer[2] = none; mlp[1] = none; mlp.up[3] = nonlinear_lora(3, act = relu, bias = out)",
    "attention = none; mlp[0] = lora(3)",
]


def load(folder: Path) -> Any:
    """The model, and the assertion that transformers took every weight of it from the file."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


def exported(tmp_path: Path, plan: ablc.Plan, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """The model in memory, and the one that came through a run and an export."""
    live = trained(plan, dtype)
    return live, load(ablc.export(record(tmp_path / "run", plan, live), tmp_path / "out"))


@pytest.mark.parametrize("base", sorted(BASES))
@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_logits_are_the_same(tmp_path: Path, base: str, statement: str) -> None:
    live, model = exported(tmp_path, plan_of(BASES[base] + statement))
    assert type(model).__module__ == "ablc.modeling_ablc"
    assert torch.equal(logits(model), logits(live))
    assert {name: p.shape for name, p in model.named_parameters()} == {n: p.shape for n, p in live.named_parameters()}


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_logits_of_the_26_are_the_same(tmp_path: Path, path: Path) -> None:
    live, model = exported(tmp_path, proxy_plan(path))
    assert torch.equal(logits(model), logits(live))


def test_embeddings_and_heads(tmp_path: Path) -> None:
    live, model = exported(tmp_path, plan_of(NEOX + "embedding = lora(7); lm_head = lora(5, bias = both)"))
    assert torch.equal(logits(model), logits(live))


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    _, model = exported(tmp_path, plan_of(TIED + "mlp = lora(4)"))
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_weights_in_bf16_stay_so(tmp_path: Path) -> None:
    live, model = exported(tmp_path, plan_of(NEOX + "mlp = lora(4)"), torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert torch.equal(logits(model), logits(live))


@pytest.mark.parametrize("statement", ["mlp = full", "freeze embedding"])
def test_a_model_with_nothing_replaced_is_a_stock_checkpoint(tmp_path: Path, statement: str) -> None:
    live, model = exported(tmp_path, plan_of(NEOX + statement))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == "gpt_neox" and "auto_map" not in config
    assert not (tmp_path / "out" / "modeling_ablc.py").exists()
    assert torch.equal(logits(model), logits(live))


def test_the_config_names_the_file_beside_it(tmp_path: Path) -> None:
    exported(tmp_path, plan_of(LLAMA + "mlp[0:2] = lora(4); attention[0] = none"))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == "ablc_llama"
    assert set(config["auto_map"].values()) == {
        "modeling_ablc.AblcLlamaConfig",
        "modeling_ablc.AblcLlamaForCausalLM",
    }
    own = Path(modeling_ablc.__file__).read_text()
    assert (tmp_path / "out" / "modeling_ablc.py").read_text() == own
    assert config["kv_sharing_modes"] == ["reuse", None, None, None]
    at = [path for entry in config["replacements"] for path in entry["paths"]]
    assert sorted(at) == ["model.layers.0.mlp", "model.layers.0.self_attn", "model.layers.1.mlp"]


def test_special_tokens_that_a_proxy_has_not_are_left_out(tmp_path: Path) -> None:
    _, model = exported(tmp_path, plan_of(LLAMA + "mlp = lora(4)"))  # 300 tokens, and Llama's end is the 128,001st
    assert model.config.eos_token_id is None and model.generation_config.eos_token_id is None


def test_the_tokenizer_goes_along(tmp_path: Path, tokenizer_file: Path) -> None:
    plan = plan_of(NEOX + "mlp = lora(4)")
    folder = ablc.export(record(tmp_path / "run", plan, trained(plan), str(tokenizer_file)), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("Größe, 3 × 4").input_ids
    assert tokenizer.decode(ids) == "Größe, 3 × 4"
    assert tokenizer.eos_token == "<|endoftext|>"
    assert load(folder).generation_config.eos_token_id == tokenizer.eos_token_id == 256
    assert tokenizer.model_max_length == AutoConfig.from_pretrained(folder).max_position_embeddings


def test_saved_again_it_is_the_same_again(tmp_path: Path) -> None:
    live, model = exported(tmp_path, plan_of(NEOX + STATEMENTS[0]))
    model.save_pretrained(tmp_path / "again")
    assert {p.name for p in (tmp_path / "again").iterdir()} == {p.name for p in (tmp_path / "out").iterdir()}
    assert torch.equal(logits(load(tmp_path / "again")), logits(live))


# --- generation ------------------------------------------------------------------------------------------------------


def generate(model: Any, **options: Any) -> torch.Tensor:
    """Eight tokens after a batch with padding on the left."""
    ids, mask = tokens(3, 9), torch.ones(3, 9, dtype=torch.long)
    mask[0, :5], mask[1, :2] = 0, 0
    arguments = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None, **options}
    result: torch.Tensor = model.generate(ids.masked_fill(mask == 0, 0), attention_mask=mask, **arguments)
    return result


@pytest.mark.parametrize("base", ["gpt_neox", "llama"])
@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize("beams", [1, 3])
def test_it_generates_the_same_with_and_without_a_cache(tmp_path: Path, base: str, statement: str, beams: int) -> None:
    live, model = exported(tmp_path, plan_of(BASES[base] + statement))
    expected = generate(live, num_beams=beams, use_cache=False)
    assert torch.equal(generate(model, num_beams=beams), expected)
    assert torch.equal(generate(model, num_beams=beams, use_cache=False), expected)


def test_with_no_attention_anywhere_nothing_is_cached(tmp_path: Path) -> None:
    _, model = exported(tmp_path, plan_of(NEOX + "attention = none"))
    assert model.config.use_cache is False and model.generation_config.use_cache is False


def test_a_cache_that_knows_of_no_empty_places_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(tmp_path, plan_of(NEOX + "attention[0] = none"))
    monkeypatch.delattr("transformers.cache_utils.DummyLayer")
    with pytest.raises(ImportError, match="newer transformers"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "out")


# --- the class -------------------------------------------------------------------------------------------------------


def test_attention_can_be_switched_and_gradients_checkpointed(tmp_path: Path) -> None:
    live, model = exported(tmp_path, plan_of(LLAMA + STATEMENTS[0]))
    model.set_attn_implementation("eager")
    assert model.config._attn_implementation == "eager"
    assert torch.allclose(logits(model), logits(live), atol=1e-4)
    model.train().gradient_checkpointing_enable()
    model(tokens(2, 9), labels=tokens(2, 9)).loss.backward()
    assert sum(p.grad is not None for p in model.parameters()) > 20


def test_a_new_model_from_its_config_starts_as_transformers_starts_one(tmp_path: Path) -> None:
    wide = NEOX.replace("hidden_size = 32", "hidden_size = 256")
    exported(tmp_path, plan_of(wide + "attention.qkv = lora(64); embedding = lora(64)"))
    fresh = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path / "out"))
    for name, parameter in fresh.named_parameters():
        if parameter.dim() == 2:
            assert abs(float(parameter.detach().std()) / 0.02 - 1) < 0.05, name
        elif name.endswith("bias"):
            assert not parameter.any(), name


NODES: list[Node] = [
    Linear(3, 4, bias=True),
    Linear(3, 4, bias=False),
    Embedding(5, 3),
    Act("gelu_new"),
    Identity(),
    Nothing("zeros"),
    Nothing("zeros, None"),
    Nothing("input"),
    Chain((("A", Linear(3, 2, True)), ("act", Act("silu")), ("B", Chain((("A", Linear(2, 2, False)),))))),
]


@pytest.mark.parametrize("node", NODES, ids=str)
def test_a_node_from_config_json_is_what_patching_makes(node: Node) -> None:
    there, here = modeling_ablc.make(json.loads(json.dumps(encode(node)))), module_of(node)
    assert [type(module).__name__ for module in there.modules()] == [type(m).__name__ for m in here.modules()]
    assert [(n, p.shape) for n, p in there.named_parameters()] == [(n, p.shape) for n, p in here.named_parameters()]
    if isinstance(node, Nothing):
        x = torch.randn(2, 3)
        assert str(there(x, 1, mask=None)) == str(here(x, 1, mask=None))


def test_a_node_that_the_file_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="Convolution is newer than this"):
        modeling_ablc.make({"kind": "Convolution", "width": 3})


def test_names_that_are_no_class_are_refused() -> None:
    assert modeling_ablc.AblcLlamaConfig is modeling_ablc.config_class("llama")
    for name in ("AblcNonsense", "LlamaConfig"):
        with pytest.raises(AttributeError, match=name):
            getattr(modeling_ablc, name)
