"""GPT-NeoX (Pythia): one fused query-key-value projection, LayerNorms, an MLP without gate, biases on every Linear
but the head.

Parameters, untouched, with V vocabulary, h hidden, L layers, f intermediate, t = 1 where embeddings are tied, else
2: tVh + L(4h² + 4h + 2hf + f + h + 4h) + 2h, and L·4h fewer where `attention_bias` is false.
"""

from __future__ import annotations

from ablc.blueprint import Act, Blueprint, Embedding, Group, Linear, Node, Norm, Nothing, Part, Tied
from ablc.families.family import Config, Family, Field, check_heads

FIELDS = {
    "vocab_size": Field("size", 50432, scales="vocabulary"),
    "hidden_size": Field("size", 6144, scales="width"),
    "num_hidden_layers": Field("depth", 44),
    "num_attention_heads": Field("size", 64, scales="width"),
    "intermediate_size": Field("size", 24576, scales="width"),
    "hidden_act": Field("activation", "gelu"),
    "attention_bias": Field("flag", True),
    "tie_word_embeddings": Field("flag", False),
    "use_parallel_residual": Field("flag", True, computes=True),
    "layer_norm_eps": Field("not negative", 1e-5, computes=True),
    "initializer_range": Field("not negative", 0.02, scales="std", computes=True),
    "attention_dropout": Field("probability", 0.0, computes=True),
    "hidden_dropout": Field("probability", 0.0, computes=True),
    "max_position_embeddings": Field("size", 2048),
    "rope_parameters": Field("rope", {}, computes=True),
}
ROPE_DEFAULTS = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}


def build(config: Config) -> Blueprint:
    """The untouched model. Raises ValueError where the heads don't divide the hidden size."""
    check_heads(config)
    h, vocabulary = config["hidden_size"], config["vocab_size"]
    embedding_path = "gpt_neox.embed_in"
    head: Node = Linear(h, vocabulary, bias=False)
    if config["tie_word_embeddings"]:
        head = Tied(embedding_path, h, vocabulary)
    root = Group(
        "model",
        (
            Part(("embedding",), embedding_path, Embedding(vocabulary, h)),
            Part(("final_norm",), "gpt_neox.final_layer_norm", Norm("LayerNorm", h, bias=True)),
            Part(("lm_head",), "lm_head", head, aliases=("embed_out",)),
        ),
    )
    rope = {**ROPE_DEFAULTS, **config["rope_parameters"]}
    layers = (_layer(config),) * config["num_hidden_layers"]
    return Blueprint("gpt_neox", {**config, "rope_parameters": rope}, root, "gpt_neox.layers", layers)


def _layer(config: Config) -> Group:
    h, f = config["hidden_size"], config["intermediate_size"]
    heads, bias = config["num_attention_heads"], config["attention_bias"]
    attention = Group(
        "attention",
        (
            Part(("attention.qkv",), "query_key_value", Linear(h, 3 * h, bias)),
            Part(("attention.out",), "dense", Linear(h, h, bias)),
        ),
        nothing=Nothing("zeros, None"),
        heads=heads,
        kv_heads=heads,
        head_dim=h // heads,
    )
    mlp = Group(
        "mlp",
        (
            Part(("mlp.up",), "dense_h_to_4h", Linear(h, f, bias=True)),
            Part(("mlp.down",), "dense_4h_to_h", Linear(f, h, bias=True)),
            Part(("mlp.act",), "act", Act(config["hidden_act"])),
        ),
        nothing=Nothing("zeros"),
    )
    parts = (
        Part(("attention.norm",), "input_layernorm", Norm("LayerNorm", h, bias=True), feeds="attention"),
        Part(("mlp.norm",), "post_attention_layernorm", Norm("LayerNorm", h, bias=True), feeds="mlp"),
        Part(("attention",), "attention", attention),
        Part(("mlp",), "mlp", mlp),
    )
    return Group("layer", parts, nothing=Nothing("input"))


FAMILY = Family(
    "gpt_neox",
    FIELDS,
    build,
    legacy={
        "rotary_pct": "rope_parameters.partial_rotary_factor",
        "rotary_emb_base": "rope_parameters.rope_theta",
        "rope_scaling": "rope_parameters",
    },
)
