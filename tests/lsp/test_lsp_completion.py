"""What is offered at a place."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import MODEL, marked, opened

from ablc.bases import builtin
from ablc.blueprint.activations import ACTIVATIONS
from ablc.lsp.analysis import reading
from ablc.lsp.completion import Offer, completion
from ablc.spec.recipe import recipe_keys

NEOX = """embedding layer attention.norm mlp.norm attention attention.qkv attention.out mlp mlp.up mlp.down mlp.act
final_norm lm_head""".split()
KEYWORDS = ["name", "about", "model", "extends", "vary", "freeze", "train", "expect"]


def offered(text: str, path: Path | None = None, texts: dict[Path, str] | None = None) -> Offer:
    """What is offered at the `|`."""
    text, place = marked(text)
    analysis = opened(text, path, texts)
    with reading(analysis.texts, analysis.reads):
        return completion(analysis, place)


def labels(text: str, path: Path | None = None, texts: dict[Path, str] | None = None) -> list[str]:
    return [item.label for item in offered(text, path, texts).items]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("|", [*NEOX, *KEYWORDS]),
        ("att|", [*NEOX, *KEYWORDS]),
        ("mlp = none; |", [*NEOX, *KEYWORDS]),
        ('about = "a;b"; |', [*NEOX, *KEYWORDS]),
        ("freeze |", NEOX),
        ("freeze mlp, |", NEOX),
        ("mlp, at|", NEOX),
        ("mlp[12:] |", []),
        ("mlp |", []),
        ("attention.qkv[3:] = |", ["full", "lora", "nonlinear_lora"]),
        ("attention = |", ["full", "lora", "none", "nonlinear_lora"]),
        ("mlp = |", ["full", "lora", "lora_mlp", "none", "nonlinear_lora"]),
        ("mlp = l|", ["full", "lora", "lora_mlp", "none", "nonlinear_lora"]),
        ("embedding = |", ["full", "lora"]),
        ("mlp.act = |", ["full", "none"]),
        ("attention[3:], mlp[3:] = |", ["full", "lora", "none", "nonlinear_lora"]),
        ("mlp = none |", []),
        ("mlp = lora(8, bias=|)", ["both", "out", "none"]),
        ("mlp = nonlinear_lora(8, act=|", [*ACTIVATIONS]),
        ("train.schedule = |", ["linear", "cosine", "constant"]),
        ("train.compile = |", ["true", "false"]),
        ("train.steps = |", ["null"]),
        ("train.scale = |", ["auto", "full", '"1/2"', '"1/8"']),
        ("train.lr = |", []),
        ("train.|", [f"train.{key}" for key in recipe_keys()]),
        ("train.sch| = linear", [f"train.{key}" for key in recipe_keys()]),
        ("expect params |", ["==", "<", "<=", ">", ">=", "within 1% of"]),
        ("expect params within 1% |", []),
        ("vary |", []),
        ('name = "|"', []),
        ("# at|", []),
        ("# a; b|", []),
        ('about = "a; b|', []),
        ("mlp = none # at|", []),
    ],
)
def test_what_is_offered(text: str, expected: list[str]) -> None:
    assert labels(MODEL + text) == expected


def test_numbers_are_the_fields_of_the_base_and_the_varied_names() -> None:
    found = labels(MODEL + "vary r = 8, 9\nmlp[r|")
    assert found[0] == "r" and "hidden_size" in found and "layer" not in found


def test_in_the_brackets_of_an_operation_its_arguments_are_offered_that_arent_said_yet() -> None:
    assert labels(MODEL + "mlp = nonlinear_lora(|)")[:4] == ["act=", "bias=", "layer", "bos_token_id"]
    assert labels(MODEL + "mlp = nonlinear_lora(8, act=gelu, |)")[:2] == ["bias=", "layer"]
    assert labels(MODEL + "mlp = nonlinear_lora(8 * |)")[:1] == ["layer"]
    assert labels(MODEL + "mlp = what(|)") == []


def test_measures_and_their_slots() -> None:
    found = labels(MODEL + "expect |")
    assert {"params", "eval_loss", "params.mlp", "layers.mlp", "params.embedding"} <= {*found}
    assert "layers.embedding" not in found


def test_models() -> None:
    assert labels('model = "|"') == [*builtin()]
    assert labels('model = "|') == [*builtin()]
    assert labels("model = |") == [f'"{name}"' for name in builtin()]


def test_fields_of_the_model_that_is_being_written() -> None:
    assert "num_key_value_heads" in labels('model = "llama-2-7b"(|')
    assert "num_key_value_heads" not in labels(MODEL.strip() + "(|")
    assert labels('model = "llama-2-7b"(mlp_bias = |') == ["true", "false"]
    assert labels('model = "llama-2-7b"(hidden_act = |') == [*ACTIVATIONS]
    assert "num_hidden_layers" in labels('model = "llama-2-7b"(num_hidden_layers = |')


def test_a_tied_head_is_no_slot_and_a_tied_table_stays() -> None:
    tied = 'model = "EleutherAI/pythia-410m"(tie_word_embeddings = true)\n'
    assert "lm_head" not in labels(tied + "|")
    assert labels(tied + "embedding = |") == ["full"]


def test_without_a_base_all_slots_and_all_operations_are_offered() -> None:
    assert {"mlp.gate", "attention.q", "attention.qkv"} <= {*labels("|")}
    assert labels("mlp = |") == ["full", "lora", "lora_mlp", "none", "nonlinear_lora"]


def test_a_base_is_known_beside_mistakes() -> None:
    assert labels(MODEL + "mlp = loar(\nmlp.act = |\nfreeze [") == ["full", "none"]


def test_files(tmp_path: Path) -> None:
    for name in ("base.abl", "a.abl", "notes.txt", ".hidden.abl", "more/deep.abl", "model/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}" if name.endswith("json") else MODEL)
    here = tmp_path / "a.abl"
    assert labels('extends "|"', here) == ["base.abl", "model/", "more/"]
    assert labels('extends "more/|"', here) == ["more/deep.abl"]
    assert labels('extends "nowhere/|"', here) == []
    assert labels("extends |", here) == ['"base.abl"', '"model/"', '"more/"']
    assert labels('expect params < "|"', here) == ["base.abl", "model/", "more/"]
    assert labels('expect params < 1.3 * "|"', here) == ["base.abl", "model/", "more/"]
    assert labels('model = "./|"', here) == ["./model", "./more/"]


def test_variants_of_a_family_that_isnt_saved(tmp_path: Path) -> None:
    family = (tmp_path / "family.abl").resolve()
    family.write_text(MODEL)
    texts = {family: MODEL + "vary r = 8, 9\nmlp = lora(r)\n"}
    assert labels('expect params < "family.abl@|"', tmp_path / "a.abl", texts) == ["family.abl@r=8", "family.abl@r=9"]


@pytest.mark.parametrize(
    ("text", "replaced"),
    [("attention.q|", "attention.q"), ("mlp = lo|", "lo"), ('extends "../sp|', "../sp"), ("mlp = |", "")],
)
def test_an_offer_completes_the_word_that_was_begun(text: str, replaced: str) -> None:
    plain, place = marked(MODEL + text)
    assert plain[offered(MODEL + text).start : place] == replaced


def test_an_operation_is_written_with_its_arguments() -> None:
    items = {item.label: item for item in offered(MODEL + "mlp = |").items}
    assert (items["lora"].insert, items["lora"].snippet) == ("lora(", "lora(${1:r})")
    assert (items["none"].insert, items["none"].snippet) == ("", "")
    assert items["lora"].detail == "lora(r, bias=…)" and "low-rank" in items["lora"].text


@pytest.mark.parametrize(
    "junk", ["))))|", "= = =|", '"""|', "train|", "train.|.", "expect|", "model|", "[|", "mlp[(|", "€|", "\r|"]
)
def test_nothing_that_is_written_stops_it(junk: str) -> None:
    offered(MODEL + junk)
    offered(junk)
