"""A small base that was trained for a moment, texts of its words, and a spec on it: what a calibration needs."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

import ablc

WORDS = [f"w{number}" for number in range(80)]
BASE = (
    'model = "EleutherAI/pythia-14m"(hidden_size = 32, num_attention_heads = 4, intermediate_size = 64, '
    "vocab_size = 81, num_hidden_layers = 3)\nmlp = full"
)
SPEC = """\
name = "small"
model = "./base"
mlp[0] = none
attention.qkv[1:] = lora(8)
mlp[1] = lora_mlp(6)
mlp[2] = nonlinear_lora(16)
train.data = "./texts"
train.block_size = 16
train.batch_size = 8
train.eval_blocks = 40
"""


def text(lines: int, seed: int) -> str:
    """Lines of words in which the next one mostly follows from the last two, and some words are frequent."""
    rng, said, last = random.Random(seed), [], (0, 1)
    for _ in range(lines * 10):
        follows = (last[0] + 2 * last[1] + 1) % 20
        last = (last[1], follows if rng.random() < 0.8 else int(80 * rng.random() ** 3))
        said.append(WORDS[last[1]])
    return "\n".join(" ".join(said[start : start + 10]) for start in range(0, len(said), 10)) + "\n"


def fill(folder: Path) -> None:
    """Put all of them into a folder."""
    (folder / "texts").mkdir()
    for part, lines in (("train", 600), ("validation", 100)):
        (folder / "texts" / f"{part}.txt").write_text(text(lines, lines))
    tokenizer = Tokenizer(models.WordLevel({"?": 0, **{word: i + 1 for i, word in enumerate(WORDS)}}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    base = ablc.build(ablc.plan(ablc.loads(BASE)), seed=1)
    ids = torch.tensor(tokenizer.encode(text(8000, 1)).ids).reshape(-1, 20)
    optimizer = torch.optim.AdamW(base.parameters(), lr=5e-3)
    for some in ids.split(32):
        base(some, labels=some).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    base.save_pretrained(folder / "base")
    tokenizer.save(str(folder / "base" / "tokenizer.json"))
    (folder / "base" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (folder / "small.abl").write_text(SPEC)
