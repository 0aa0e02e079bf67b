"""What a family is, and how a config is read by one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ablc.blueprint import DTYPE_BYTES, Blueprint
from ablc.blueprint.activations import ACTIVATIONS
from ablc.faults import Level, did_you_mean

Config = Mapping[str, Any]

MAX_SIZE = 2**40
MAX_LAYERS = 10_000

# Fields of every transformers config that change neither shapes nor what a forward pass of a causal model computes.
HARMLESS = frozenset(
    """
    _attn_implementation _commit_hash _name_or_path add_cross_attention architectures attn_implementation auto_map
    bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward classifier_dropout
    cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample early_stopping
    encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task forced_bos_token_id
    forced_eos_token_id id2label is_decoder is_encoder_decoder label2id length_penalty max_length min_length
    model_type name_or_path no_repeat_ngram_size num_beam_groups num_beams num_labels num_return_sequences
    output_attentions output_hidden_states output_scores pad_token_id prefix pretraining_tp problem_type
    remove_invalid_values repetition_penalty return_dict return_dict_in_generate sep_token_id suppress_tokens
    task_specific_params temperature tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p torchscript
    transformers_version typical_p use_bfloat16 use_cache
    """.split()
)

# A field so named holds a shape more often than not. `null`, `false` and empty values switch such a feature off.
_SHAPE = re.compile(
    r"(_size|_dim|_dims|_rank|_width|_heads?|_experts?|_layers?|_bias|_groups?|_channels|_per_layer|_layer_types|_norm)$"
    r"|^n_|^num_|^d_|^head_dim|^layer_types$|experts|per_layer|quantization|lora|mtp|adapter|conv_|qk_|multi_query"
)


@dataclass(frozen=True)
class Field:
    """A config field that a family understands.

    `kind` is what its value may be; `default` what transformers assumes, None where it follows from others.
    `scales` says what becomes of it in a narrower proxy. `computes` marks what changes the forward pass or the
    start of training and can't be seen in the blueprint's nodes: those fields go into a plan's fingerprint.
    """

    kind: Literal["size", "depth", "not negative", "probability", "flag", "activation", "rope", "token"]
    default: Any = None
    scales: Literal["", "width", "vocabulary", "std"] = ""
    computes: bool = False


@dataclass(frozen=True)
class ConfigProblem:
    """What is wrong (`error`) or notable (`warning`) about one field."""

    level: Level
    code: str
    field: str
    message: str
    help: str | None = None


@dataclass(frozen=True)
class Family:
    """One kind of model.

    `build` gets a read config (every field of `fields` present) and returns the untouched blueprint, or raises
    ValueError with a sentence where the config can't be built. `legacy` maps older spellings to today's, dotted for
    nested ones.
    """

    model_type: str
    fields: Mapping[str, Field]
    build: Callable[[Config], Blueprint]
    legacy: Mapping[str, str] = field(default_factory=dict)

    def computing(self, config: Config) -> dict[str, Any]:
        """The fields of a config that change what is computed and can't be seen in the blueprint's nodes."""
        names = [name for name, known in self.fields.items() if known.computes]
        length = ["max_position_embeddings"] if reads_length(config) else []
        return {name: config[name] for name in (*names, *length)}

    def knows(self, name: str) -> bool:
        """Whether a (dotted) field may stand in an override."""
        first = today(self, name).split(".")[0]
        return first != "model_type" and (first in self.fields or first in HARMLESS or first == "dtype")


def read_config(family: Family, raw: Config, overrides: Config, problems: list[ConfigProblem]) -> dict[str, Any]:
    """The config as the family understands it: today's spelling, defaults filled in, overrides applied.

    Fields that a forward pass doesn't depend on are kept as they are. Problems are appended; the result is usable
    only where none of them is an error.
    """
    config: dict[str, Any] = {"model_type": family.model_type}
    for name, value in {"torch_dtype": raw.get("dtype"), **raw}.items():
        put(config, today(family, name), value, keep_old=True)
    for name, value in overrides.items():
        put(config, today(family, name), value)
    _name_rope_type(config)
    for name, spec in family.fields.items():
        if config.get(name) is None:
            config[name] = spec.default
        elif (wrong := _wrong(spec.kind, config[name])) is not None:
            value = "" if spec.kind == "rope" else f" = {_short(config[name])}"
            problems.append(ConfigProblem("error", "bad-config", name, f"{name}{value}: {wrong}"))
        elif spec.kind in ("not negative", "probability"):
            config[name] = float(config[name])
    for name in sorted(config.keys() - family.fields.keys() - HARMLESS - {"dtype"}):
        problems.extend(_unknown(family, name, config[name]))
    config["dtype"] = config.get("dtype") or "float32"  # what transformers assumes when nothing is said
    if config["dtype"] not in [*DTYPE_BYTES]:
        help = did_you_mean(str(config["dtype"]), DTYPE_BYTES, "dtypes")
        problems.append(ConfigProblem("error", "bad-config", "dtype", f"dtype = {_short(config['dtype'])}", help))
    return config


def today(family: Family, name: str) -> str:
    """Today's spelling of a (dotted) field."""
    first, _, rest = name.partition(".")
    today = "dtype" if first == "torch_dtype" else family.legacy.get(first, first)
    return f"{today}.{rest}" if rest else today


def put(config: dict[str, Any], name: str, value: Any, keep_old: bool = False) -> None:
    """Set a dotted field; with `keep_old` only where nothing stands yet, and dicts are merged."""
    *outer, last = name.split(".")
    for step in outer:
        inner = config.get(step)
        config[step] = dict(inner) if isinstance(inner, Mapping) else {}
        config = config[step]
    old = config.get(last)
    if isinstance(value, Mapping):
        config[last] = {**value, **(old if keep_old and isinstance(old, Mapping) else {})}
    elif not keep_old or old is None:
        config[last] = value


def _name_rope_type(config: dict[str, Any]) -> None:
    """Older configs say `type` for what is now `rope_type`."""
    rope = config.get("rope_parameters")
    if isinstance(rope, Mapping) and "type" in rope:
        config["rope_parameters"] = {"rope_type": rope["type"], **{k: v for k, v in rope.items() if k != "type"}}


def _unknown(family: Family, name: str, value: Any) -> list[ConfigProblem]:
    if value is None or value is False or value in ([], {}):
        return []
    if _SHAPE.search(name):
        message = f"`{name}` may change shapes, and the family {family.model_type} doesn't understand it"
        help = did_you_mean(name, family.fields, "fields it understands")
        return [ConfigProblem("error", "unknown-shape-field", name, message, help)]
    message = f"the family {family.model_type} ignores the config field `{name}`"
    return [ConfigProblem("warning", "ignored-field", name, message)]


def _wrong(kind: str, value: Any) -> str | None:
    """Why a value can't stand in a field of this kind, or None."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in ("size", "depth"):
        most = MAX_SIZE if kind == "size" else MAX_LAYERS
        ok = isinstance(value, int) and number and 0 < value <= most
        return None if ok else f"it must be an integer from 1 to {most:,}"
    if kind == "not negative":
        return None if number and math.isfinite(value) and value >= 0 else "it must be a number from 0 on"
    if kind == "probability":
        return None if number and 0 <= value <= 1 else "it must be a number from 0 to 1"
    if kind == "token":
        return None if isinstance(value, int) and number and value >= -1 else "it must be a token's number"
    if kind == "flag":
        return None if isinstance(value, bool) else "it must be true or false"
    if kind == "activation":
        return None if value in ACTIVATIONS else did_you_mean(str(value), ACTIVATIONS, "activations")
    if kind == "rope":
        return _wrong_rope(value) if isinstance(value, Mapping) else "it must be a dict of rotary settings"
    raise ValueError(f"no field kind {kind!r}")


# What each way of stretching rotary positions has to be told.
_ROPE_NEEDS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "longrope": ("short_factor", "long_factor"),
}


def _wrong_rope(rope: Config) -> str | None:
    kind = rope.get("rope_type", "default")
    if kind not in [*_ROPE_NEEDS]:
        return f"there is no rope_type {_short(kind)}; {did_you_mean(str(kind), _ROPE_NEEDS, 'rope types')}"
    if missing := [name for name in _ROPE_NEEDS[kind] if name not in rope]:
        return f"rope_type {kind} needs {' and '.join(missing)} too"
    for name, value in rope.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name == "partial_rotary_factor" and not (number and 0 < value <= 1):
            return f"{name} must be a number above 0, up to 1"
        scalar = name == "rope_theta" or (name.endswith("factor") and name not in ("short_factor", "long_factor"))
        if scalar and value is not None and not (number and math.isfinite(value) and value > 0):
            return f"{name} must be a number above 0"
    return None


def reads_length(config: Config) -> bool:
    """Whether the rotary positions depend on `max_position_embeddings`."""
    return config["rope_parameters"].get("rope_type", "default") not in ("default", "linear")


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def check_heads(config: Config) -> None:
    """Raise ValueError unless the heads divide the hidden size, and the key-value heads the heads."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if hidden % heads:
        raise ValueError(f"hidden_size {hidden} isn't divisible by num_attention_heads {heads}")
    kv_heads = config.get("num_key_value_heads") or heads
    if heads % kv_heads:
        raise ValueError(f"num_attention_heads {heads} isn't divisible by num_key_value_heads {kv_heads}")
