"""Small models for the tests of patching: real families, real depth where it matters, little width."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch

import ablc
from ablc.spec.proxy import scaled

torch.set_num_threads(1)  # these models are tiny: more threads only get in each other's way
SPECS = sorted((Path(__file__).resolve().parents[2] / "specs").glob("*.abl"))

NEOX = (
    'model = "EleutherAI/pythia-14m"(hidden_size = 32, num_attention_heads = 4, intermediate_size = 96, '
    "vocab_size = 120, num_hidden_layers = 4)\n"
)
LLAMA = (
    'model = "llama-3.1-8b"(hidden_size = 32, num_attention_heads = 4, num_key_value_heads = 2, '
    "intermediate_size = 80, vocab_size = 120, num_hidden_layers = 4)\n"
)
BASES = {"gpt_neox": NEOX, "llama": LLAMA}


def plan_of(text: str) -> ablc.Plan:
    return ablc.plan(ablc.loads(text))


def proxy_plan(path: Path) -> ablc.Plan:
    """The plan of a spec at a width of 64, with 300 tokens."""
    spec = ablc.load(path)
    return ablc.plan(scaled(spec, Fraction(64, spec.config["hidden_size"]), 300))


@pytest.fixture(params=SPECS, ids=lambda path: path.stem)
def spec_path(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path
