"""What is said of the word at a place, and of its statement."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import MODEL, marked, opened

from ablc.lsp.analysis import reading
from ablc.lsp.hover import hover


def said(text: str, path: Path | None = None) -> str:
    """The text of the hover at the `|`."""
    text, place = marked(text)
    analysis = opened(text, path)
    with reading(analysis.texts, analysis.reads):
        found = hover(analysis, place)
    return found.text if found is not None else ""


def over(text: str) -> str:
    """The characters that the hover at the `|` is about."""
    text, place = marked(text)
    found = hover(opened(text), place)
    return text[found.start : found.end] if found is not None else ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mo|del", ["the base model, with overrides"]),
        ("fre|eze embedding", ["what finally stands there is not trained", "trained → frozen", "-51,511,296 trained"]),
        ("m|lp.up = lora(8)", ["up", "Linear(1024, 4096)", "in each of 24 layers", "100,761,600 parameters"]),
        ("m|lp = none", ["up Linear(1024, 4096), down Linear(4096, 1024), act gelu", "`lora_mlp`"]),
        ("embed|ding = lora(8)", ["Embedding(50304, 1024)", "outside the layers", "may become `lora`"]),
        ("mlp = lo|ra(8)", ["```abl\nlora(r, bias=…)\n```", "A low-rank product", ">>> pair"]),
        ("mlp = lora(8, bi|as=none)", ["**bias** of `lora`", "`both`, `out` or `none`"]),
        ("mlp = lora(hidden|_size // 2)", ["**hidden_size** of EleutherAI/pythia-410m is `1024`"]),
        ("mlp[:num_hidden_lay|ers // 2] = none", ["is `24`"]),
        ("mlp = lora(lay|er + 1)", ["the index of the layer at hand"]),
        ("train.l|r = 1e-3", ["peak learning rate", "unless said: `0.003`"]),
        ("train.st|eps = 10", ["unless said: `null`"]),
        ("train.compi|le = true", ["unless said: `false`"]),
        ("expect par|ams > 1", ["parameters of the whole model", "405,334,016; the base model's 405,334,016", "holds"]),
        ("mlp[12:] = lora(8)\nexpect layers.m|lp == 1", ["in how many layers", "12; the base model's 0", "fails"]),
        ("expect eval_|loss < 3", ["needs runs"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    found = said(MODEL + text if "mo|del" not in text else MODEL.replace("model", "mo|del"))
    assert [word for word in words if word not in found] == []


def test_a_statement_says_layers_before_after_and_difference() -> None:
    assert said(MODEL + "attention.qkv[3|:] = lora(8)") == (
        "- `attention.qkv[3:]`: Linear(1024, 3072) → Linear(1024, 8) · Linear(8, 3072)\n"
        "  21 modules in 21 of 24 layers, -65,371,992 parameters"
    )


def test_a_statement_says_what_it_took_back_and_one_without_effect_so() -> None:
    both = MODEL + "mlp[0:3] = lora(8)\nmlp[0:|3] = none"
    assert "a.abl:2 mlp[0:3] = lora(8) in [0:3]" in said(both)
    assert said(MODEL + "mlp[0:|3] = lora(8)\nmlp[0:3] = none") == "changes nothing"


def test_the_model_says_name_family_parameters_and_layers() -> None:
    found = said('model = "Eleu|therAI/pythia-410m"\nmlp = none')
    assert "**EleutherAI/pythia-410m**: gpt_neox, 405,334,016 parameters, 24 layers" in found
    assert "here 203,884,544 parameters" in found


def test_an_override_says_both_values() -> None:
    found = said('model = "EleutherAI/pythia-410m"(num_hidden_la|yers = 6)')
    assert "**num_hidden_layers** of EleutherAI/pythia-410m is `24`; here `6`" in found


def test_a_vary_name_says_its_values_and_a_family_which_variant_is_shown() -> None:
    found = said(MODEL + "vary r = 8, 32\nmlp = lora(r|)")
    assert "**r** is one of `8`, `32`" in found
    assert "in r=8, the first of 2 variants" in found


def test_a_slot_that_isnt_there_says_which_there_are() -> None:
    assert "did you mean `attention.qkv`?" in said(MODEL + "attention.qk|w = none")


def test_an_extends_says_what_it_brings(tmp_path: Path) -> None:
    (tmp_path / "base.abl").write_text(MODEL)
    assert "brings in what `base.abl` says" in said('extends "ba|se.abl"', tmp_path / "a.abl")


def test_beside_an_error_the_rest_is_said() -> None:
    assert "-65,371,992" in said(MODEL + "attention.qkv[3|:] = lora(8)\nmlp = loar(3)\nfreeze (")


@pytest.mark.parametrize("text", ["|", "# com|ment", MODEL + "\n|\n", MODEL + "mlp = no(|", "\0|"])
def test_where_there_is_nothing_to_say_nothing_is(text: str) -> None:
    assert said(text) == ""


@pytest.mark.parametrize(
    ("text", "characters"),
    [
        ("at|tention.qkv[3:] = lora(8)", "attention.qkv"),
        ("attention.qkv[3:] = lo|ra(8)", "lora"),
        ("fr|eeze mlp", "freeze"),
    ],
)
def test_a_hover_is_about_its_word(text: str, characters: str) -> None:
    assert over(MODEL + text) == characters
