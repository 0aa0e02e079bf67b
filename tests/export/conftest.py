"""Finished runs of small models, made without training: real families, no weight at a value that hides a mistake."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import ablc
from ablc.spec.proxy import scaled
from ablc.train.tokenizer import find_encoder

torch.set_num_threads(1)  # these models are tiny: more threads only get in each other's way
SPECS = sorted((Path(__file__).resolve().parents[2] / "specs").glob("*.abl"))

_SMALL = "hidden_size = 32, num_attention_heads = 4, vocab_size = 300, num_hidden_layers = 4"
NEOX = f'model = "EleutherAI/pythia-14m"({_SMALL}, intermediate_size = 96)\n'
LLAMA = f'model = "llama-3.1-8b"({_SMALL}, num_key_value_heads = 2, intermediate_size = 80)\n'
TIED = LLAMA.replace("intermediate_size", "tie_word_embeddings = true, intermediate_size")
BASES = {"gpt_neox": NEOX, "llama": LLAMA, "tied": TIED}


def plan_of(text: str) -> ablc.Plan:
    return ablc.plan(ablc.loads(text))


def proxy_plan(path: Path) -> ablc.Plan:
    """The plan of a spec at a width of 64, with 300 tokens."""
    spec = ablc.load(path)
    return ablc.plan(scaled(spec, Fraction(64, spec.config["hidden_size"]), 300))


def trained(plan: ablc.Plan, dtype: torch.dtype = torch.float32) -> Any:
    """A model whose biases and norms aren't zeros and ones, and whose logits depend on the context."""
    model = ablc.build(plan, seed=1)
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            parameter.add_(0.1 * noise if parameter.dim() == 2 else 0.3 * noise)
    return model.to(dtype).eval()


def record(folder: Path, plan: ablc.Plan, model: Any, tokenizer: str = "./missing.json") -> Path:
    """What `ablc run` leaves in a directory, as far as it is read again."""
    folder.mkdir()
    save_model(model, str(folder / "model.safetensors"))
    (folder / "plan.json").write_text(json.dumps(plan.to_json()))
    known = find_encoder(tokenizer, base_model="", vocab_size=300, corpus=None) if Path(tokenizer).exists() else None
    used = {"hash": known.digest if known else "0" * 64, "size": known.size if known else 300}
    run = {"format_version": "1.0", "status": "finished", "seconds": 1.0, "name": "small", "variant": None}
    base = {"model": plan.model, "base": plan.model, "weights": None}
    recipe = {"settings": {"tokenizer": tokenizer}, "recipe": "local", "scale": "full", "seed": 0, "steps": 1}
    plans = {"fingerprint": plan.fingerprint, "trained_fingerprint": plan.fingerprint}
    data = {"vocab_size": 300, "data": {"hash": "0" * 64, "tokenizer": used}}
    scores = {"baselines": {"unigram": 5.0, "bigram": 4.0}, "final": None, "best": None, "mirror_id": "0"}
    facts = {**run, **base, **recipe, **plans, **data, **scores}
    (folder / "run.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    """A tokenizer of single bytes, with an end of text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>"])
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def tokens(batch: int, length: int, vocabulary: int = 300) -> torch.Tensor:
    return torch.randint(1, vocabulary, (batch, length), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(tokens(3, 17)).logits
    return found
