"""Llama 2 and 3: separate q, k and v with grouped key-value heads, RMSNorms, a gated MLP, no biases unless the
config says so.

Parameters, untouched, with V vocabulary, h hidden, L layers, f intermediate, H heads, K key-value heads, d head
size, t = 1 where embeddings are tied, else 2: tVh + L(2hHd + 2hKd + 3hf + 2h) + h.
"""

from __future__ import annotations

from ablc.blueprint import Act, Blueprint, Embedding, Group, Linear, Node, Norm, Nothing, Part, Tied
from ablc.families.family import Config, Family, Field, check_heads

FIELDS = {
    "vocab_size": Field("size", 32000, scales="vocabulary"),
    "hidden_size": Field("size", 4096, scales="width"),
    "num_hidden_layers": Field("depth", 32),
    "num_attention_heads": Field("size", 32, scales="width"),
    "num_key_value_heads": Field("size", scales="width"),
    "head_dim": Field("size"),
    "intermediate_size": Field("size", 11008, scales="width"),
    "hidden_act": Field("activation", "silu"),
    "attention_bias": Field("flag", False),
    "mlp_bias": Field("flag", False),
    "tie_word_embeddings": Field("flag", False),
    "rms_norm_eps": Field("not negative", 1e-6, computes=True),
    "initializer_range": Field("not negative", 0.02, scales="std", computes=True),
    "attention_dropout": Field("probability", 0.0, computes=True),
    "max_position_embeddings": Field("size", 2048),
    "rope_parameters": Field("rope", {}, computes=True),
    "pad_token_id": Field("token", computes=True),  # the embedding's row of it starts at zero and stays there
}
ROPE_DEFAULTS = {"rope_type": "default", "rope_theta": 10000.0}


def build(config: Config) -> Blueprint:
    """The untouched model. Raises ValueError where heads, key-value heads and hidden size don't divide."""
    check_heads(config)
    if (config["pad_token_id"] or 0) >= config["vocab_size"]:
        raise ValueError(f"pad_token_id {config['pad_token_id']} isn't in a vocabulary of {config['vocab_size']}")
    h, vocabulary, heads = config["hidden_size"], config["vocab_size"], config["num_attention_heads"]
    embedding_path = "model.embed_tokens"
    head: Node = Linear(h, vocabulary, bias=False)
    if config["tie_word_embeddings"]:
        head = Tied(embedding_path, h, vocabulary)
    root = Group(
        "model",
        (
            Part(("embedding",), embedding_path, Embedding(vocabulary, h)),
            Part(("final_norm",), "model.norm", Norm("RMSNorm", h, bias=False)),
            Part(("lm_head",), "lm_head", head),
        ),
    )
    filled = {
        **config,
        "num_key_value_heads": config["num_key_value_heads"] or heads,
        "head_dim": config["head_dim"] or h // heads,
        "rope_parameters": {**ROPE_DEFAULTS, **config["rope_parameters"]},
    }
    return Blueprint("llama", filled, root, "model.layers", (_layer(filled),) * config["num_hidden_layers"])


def _layer(config: Config) -> Group:
    h, f, bias = config["hidden_size"], config["intermediate_size"], config["attention_bias"]
    heads, kv_heads, head_dim = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    q, kv = heads * head_dim, kv_heads * head_dim
    attention = Group(
        "attention",
        (
            Part(("attention.qkv", "attention.q"), "q_proj", Linear(h, q, bias)),
            Part(("attention.qkv", "attention.k"), "k_proj", Linear(h, kv, bias)),
            Part(("attention.qkv", "attention.v"), "v_proj", Linear(h, kv, bias)),
            Part(("attention.out",), "o_proj", Linear(q, h, bias)),
        ),
        nothing=Nothing("zeros, None"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
    )
    mlp = Group(
        "mlp",
        (
            Part(("mlp.gate",), "gate_proj", Linear(h, f, config["mlp_bias"])),
            Part(("mlp.up",), "up_proj", Linear(h, f, config["mlp_bias"])),
            Part(("mlp.down",), "down_proj", Linear(f, h, config["mlp_bias"])),
            Part(("mlp.act",), "act_fn", Act(config["hidden_act"])),
        ),
        nothing=Nothing("zeros"),
    )
    parts = (
        Part(("attention",), "self_attn", attention),
        Part(("mlp",), "mlp", mlp),
        Part(("attention.norm",), "input_layernorm", Norm("RMSNorm", h, bias=False), feeds="attention"),
        Part(("mlp.norm",), "post_attention_layernorm", Norm("RMSNorm", h, bias=False), feeds="mlp"),
    )
    return Group("layer", parts, nothing=Nothing("input"))


FAMILY = Family(
    "llama",
    FIELDS,
    build,
    legacy={"rope_theta": "rope_parameters.rope_theta", "rope_scaling": "rope_parameters"},
)
