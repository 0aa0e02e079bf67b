"""Base models: named, overridden, and refused where their config isn't understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from spec_text import LLAMA, SMALL, codes, faults, plan, variants

from ablc.blueprint.measures import params, weight_bytes
from ablc.faults import Source
from ablc.pipeline import Compiled, compile_file, compile_source

NEOX = {
    "model_type": "gpt_neox", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100,
    "intermediate_size": 128,
}  # fmt: skip


def local(folder: Path, **fields: Any) -> Compiled:
    """A spec on a local config: the small one above with some fields replaced."""
    (folder / "base").mkdir(exist_ok=True)
    (folder / "base" / "config.json").write_text(json.dumps({**NEOX, **fields}))
    (folder / "spec.abl").write_text('model = "./base"')
    return compile_file(folder / "spec.abl")


def overridden(**fields: str) -> str:
    return f'model = "{SMALL}"({", ".join(f"{name} = {value}" for name, value in fields.items())})'


def config_of(text: str) -> dict[str, Any]:
    (one,) = variants(text)
    return one.spec.config


@pytest.mark.parametrize(
    ("rope", "sentence"),
    [
        ({"rope_type": "weird"}, "there is no rope_type"),
        ({"rope_type": "dynamic"}, "needs factor too"),
        ({"rope_type": "llama3", "factor": 8.0}, "needs low_freq_factor and high_freq_factor and original_max"),
        ({"rope_theta": "x"}, "rope_theta must be a number above 0"),
        ({"rope_theta": 0}, "rope_theta must be a number above 0"),
        ({"partial_rotary_factor": 7}, "partial_rotary_factor must be a number above 0, up to 1"),
        ({"rope_type": "linear", "factor": -2.0}, "factor must be a number above 0"),
    ],
)
def test_rotary_settings_that_no_model_has(rope: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    compiled = local(tmp_path, rope_parameters=rope)
    assert [fault.code for fault in compiled.faults] == ["bad-config"]
    assert sentence in compiled.faults[0].message


def test_a_padding_token_is_in_the_vocabulary() -> None:
    assert codes(f'model = "{LLAMA}"(pad_token_id = 77_777_777)') == ["bad-config"]
    assert codes(f'model = "{LLAMA}"(pad_token_id = 7)') == []


# --- overrides -------------------------------------------------------------------------------------------------------


def test_an_override_replaces_a_field() -> None:
    fields = {"num_hidden_layers": "3", "hidden_act": "relu", "tie_word_embeddings": "true", "layer_norm_eps": "1e-6"}
    config = config_of(overridden(**fields))
    assert [config[name] for name in fields] == [3, "relu", True, 1e-6]
    assert config["hidden_size"] == 512


def test_a_dotted_override_reaches_into_a_nested_field() -> None:
    rope = config_of(overridden(**{"rope_parameters.rope_theta": "500000"}))["rope_parameters"]
    assert rope["rope_theta"] == 500000 and rope["partial_rotary_factor"] == 0.25


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [("rotary_pct", "partial_rotary_factor", 0.5), ("rotary_emb_base", "rope_theta", 7)],
)
def test_an_older_spelling_is_the_same_field(old: str, new: str, value: float, tmp_path: Path) -> None:
    assert config_of(overridden(**{old: str(value)}))["rope_parameters"][new] == value
    compiled = local(tmp_path, **{old: value})
    assert compiled.faults == () and compiled.variants[0].spec.config["rope_parameters"][new] == value


@pytest.mark.parametrize("field", ["hiden_size", "n_layer", "head_dim", "num_key_value_heads", "foo.bar"])
def test_a_field_that_the_family_lacks_is_an_error(field: str) -> None:
    assert codes(overridden(**{field: "3"})) == ["unknown-field"]


def test_the_nearest_field_is_offered() -> None:
    (fault,) = faults(overridden(hiden_size="64"))
    assert fault.help == "did you mean `hidden_size`?"


def test_the_family_itself_cant_be_overridden() -> None:
    assert len(codes(overridden(model_type="llama"))) == 1


def test_an_unknown_dtype_isnt_taken_for_another() -> None:
    assert len(codes(overridden(dtype="fp16"))) == 1
    assert weight_bytes(plan(overridden(dtype="float32")).blueprint) == 2 * weight_bytes(plan("").blueprint)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", "0"),
        ("hidden_size", "-64"),
        ("hidden_size", "64.0"),
        ("hidden_size", "true"),
        ("hidden_size", "wide"),
        ("num_hidden_layers", "1000000"),
        ("hidden_act", "gleu"),
        ("tie_word_embeddings", "1"),
        ("layer_norm_eps", "small"),
        ("num_attention_heads", "7"),
        ("rope_parameters", "3"),
    ],
)
def test_a_value_that_cant_be_is_an_error(field: str, value: str) -> None:
    assert codes(overridden(**{field: value})) == ["bad-config"]


# --- configs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "code", "level"),
    [
        ({"num_experts": 8}, "unknown-shape-field", "error"),
        ({"num_key_value_heads": 2}, "unknown-shape-field", "error"),
        ({"qk_norm": True}, "unknown-shape-field", "error"),
        ({"layer_types": ["full"]}, "unknown-shape-field", "error"),
        ({"quantization_config": {"bits": 4}}, "unknown-shape-field", "error"),
        ({"favourite_colour": "blue"}, "ignored-field", "warning"),
        ({"num_attention_heads": 5}, "bad-config", "error"),
        ({"model_type": "llama", "num_key_value_heads": 3}, "bad-config", "error"),
        ({"model_type": "mamba"}, "unknown-family", "error"),
        ({"model_type": 3}, "bad-config", "error"),
        ({"hidden_size": "64"}, "bad-config", "error"),
        ({"hidden_size": 2**60}, "bad-config", "error"),
        ({"hidden_act": ["gelu"]}, "bad-config", "error"),
        ({"rope_scaling": 3}, "bad-config", "error"),
        ({"torch_dtype": ["float16"]}, "bad-config", "error"),
        ({"layer_norm_eps": float("nan")}, "bad-config", "error"),
    ],
)
def test_what_isnt_understood_is_told(fields: dict[str, Any], code: str, level: str, tmp_path: Path) -> None:
    found = local(tmp_path, **fields).faults
    assert [(fault.code, fault.level) for fault in found] == [(code, level)]


def test_an_unknown_dtype_of_a_config_is_told_too(tmp_path: Path) -> None:
    assert [fault.code for fault in local(tmp_path, torch_dtype="fp8").faults] == ["bad-config"]


OFF = [{"num_experts": None}, {"qk_norm": False}, {"layer_types": []}, {"architectures": ["X"]}]


@pytest.mark.parametrize("fields", OFF)
def test_a_feature_that_is_switched_off_is_no_problem(fields: dict[str, Any], tmp_path: Path) -> None:
    assert local(tmp_path, **fields).faults == ()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"hidden_size": 3}', "[" * 100_000, '{"model_type": "a"} x'])
def test_a_config_that_is_none_is_an_error(text: str, tmp_path: Path) -> None:
    local(tmp_path)
    (tmp_path / "base" / "config.json").write_text(text)
    assert [fault.code for fault in compile_file(tmp_path / "spec.abl").faults] == ["bad-config"]


def test_a_byte_order_mark_in_a_config_means_nothing(tmp_path: Path) -> None:
    local(tmp_path)
    config = tmp_path / "base" / "config.json"
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())
    assert compile_file(tmp_path / "spec.abl").ok


def test_defaults_are_those_of_transformers(tmp_path: Path) -> None:
    (one,) = local(tmp_path, model_type="llama").variants
    assert (one.spec.config["num_key_value_heads"], one.spec.config["head_dim"]) == (4, 16)


# --- names -----------------------------------------------------------------------------------------------------------


UNKNOWN = ["EleutherAI/pythia-41m", "./nowhere", "/nowhere", "a b", "../..", "./" + "x" * 300, "x" * 300, "."]


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_model_is_an_error(name: str) -> None:
    assert codes(f'model = "{name}"') == ["unknown-model"]


def test_the_nearest_model_is_offered() -> None:
    (fault,) = faults('model = "EleutherAI/pythia-41m"')
    assert fault.help is not None and "`EleutherAI/pythia-410m`" in fault.help


@pytest.mark.parametrize("value", ["3", "true", '""'])
def test_a_model_is_a_text(value: str) -> None:
    assert codes(f"model = {value}") == ["no-model"]


def test_a_word_is_no_model_while_its_vary_is_broken() -> None:
    text = 'vary m = "EleutherAI/pythia-14m", llama-2-7b\nmodel = m\nmlp = lroa(8)'
    assert [fault.code for fault in compile_source(Source("t", text)).faults] == ["syntax", "unknown-operation"]


def test_a_directory_is_relative_to_the_spec(tmp_path: Path) -> None:
    local(tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "spec.abl").write_text('model = "../base"')
    assert compile_file(tmp_path / "inner" / "spec.abl").ok


def test_a_model_from_outside_is_a_default_only() -> None:
    assert params(plan(f'model = "{SMALL}"', LLAMA).blueprint) == 70_426_624


def test_the_cache_of_the_hub_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    snapshot = tmp_path / "models--someone--neox" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(NEOX))
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert params(plan('model = "someone/neox"').blueprint) > 0
