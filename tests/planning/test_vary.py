"""`vary` makes a file a family: a variant for each value."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from spec_text import codes, variants

from ablc.pipeline import compile_file


def pair(r: int) -> str:
    return f"Linear(512, {r}) · Linear({r}, 1536)"


def test_each_value_is_a_variant() -> None:
    found = variants('name = "sweep"\nvary r = 8, 32, 256\nattention.qkv = lora(r)')
    assert [one.spec.full_name for one in found] == ["sweep@r=8", "sweep@r=32", "sweep@r=256"]
    assert [one.plan.changes[0].after for one in found] == [pair(r) for r in (8, 32, 256)]


def test_several_make_a_grid_the_last_changing_fastest() -> None:
    found = variants("vary r = 8, 16\nvary k = 0, 3\nmlp[k:] = lora(r)")
    assert [one.spec.variant for one in found] == ["r=8,k=0", "r=8,k=3", "r=16,k=0", "r=16,k=3"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("vary b = both, out, none\nmlp = lora(8, bias=b)", 3),
        ("vary a = gelu, relu\nmlp = nonlinear_lora(8, act=a)", 2),
        ('vary t = true, false\nmodel = "EleutherAI/pythia-70m"(tie_word_embeddings = t)', 2),
        ('vary m = "EleutherAI/pythia-70m", "EleutherAI/pythia-14m"\nmodel = m', 2),
        ('vary d = 3, 6\nmodel = "EleutherAI/pythia-70m"(num_hidden_layers = d)', 2),
        ("vary lr = 1e-3, 1e-4\ntrain.lr = lr", 2),
        ("vary k = 1, 2\nfreeze mlp[k:]", 2),
        ("vary x = -1, 1\nmlp[3 + x] = none", 2),
    ],
)
def test_a_vary_name_may_stand_for_any_value(text: str, values: int) -> None:
    found = variants(text)
    assert len(found) == values
    assert len({(one.plan.fingerprint, str(one.spec.train)) for one in found}) == values


def test_the_override_varies_with_its_value() -> None:
    small, large = variants('vary d = 3, 6\nmodel = "EleutherAI/pythia-70m"(num_hidden_layers = d)')
    assert (len(small.plan.blueprint.layers), len(large.plan.blueprint.layers)) == (3, 6)


@pytest.mark.parametrize("name", ["hidden_size", "num_hidden_layers", "layer", "lora", "none", "true", "null"])
def test_a_name_with_a_meaning_cant_be_one(name: str) -> None:
    assert "bad-vary-name" in codes(f"vary {name} = 1, 2\nmlp = lora({name})")


def test_a_config_field_that_is_no_integer_cant_be_one_either() -> None:
    text = 'vary hidden_act = gelu, relu\nmodel = "EleutherAI/pythia-70m"(hidden_act = hidden_act)'
    assert codes(text) == ["bad-vary-name"]


def test_one_that_nothing_uses_is_an_error() -> None:
    assert codes("vary r = 8, 16\nmlp = lora(8)") == ["unused-vary"]
    assert codes("vary r = 8, 16\nr = none\nmlp = lora(8)") == ["unused-vary", "unknown-slot"]


def test_the_same_value_twice_is_an_error() -> None:
    assert codes("vary r = 8, 8\nmlp = lora(r)") == ["vary-twice"]
    assert codes("vary r = 8, 4 + 4\nmlp = lora(r)") == ["vary-twice"]
    assert codes('vary r = "1", 1\nmodel = "EleutherAI/pythia-70m"(bos_token_id = r)')[:1] == ["vary-twice"]


def test_true_and_one_are_two_values() -> None:
    assert codes("vary x = true, 1\ntrain.seed = x") == ["bad-recipe-value"]


def test_a_billion_variants_are_refused_within_a_second() -> None:
    start = time.perf_counter()
    lists = "\n".join(f"vary {name} = {', '.join(map(str, range(1, 1001)))}" for name in "abc")
    assert codes(f"{lists}\nmlp = lora(a + b + c)") == ["too-many-variants"]
    assert time.perf_counter() - start < 1


def test_a_variant_equals_the_spec_written_out() -> None:
    (_, one) = variants("vary r = 8, 16\nmlp[3:] = lora(r)")
    (written,) = variants("mlp[3:] = lora(16)")
    assert one.plan.fingerprint == written.plan.fingerprint


def test_claims_are_put_to_every_variant() -> None:
    found = variants("vary r = 8, 16\nmlp = lora(r)\nexpect layers.mlp == 6\nexpect params.mlp == 52_272")
    assert [[verdict.holds for verdict in one.verdicts] for one in found] == [[True, True], [True, False]]


def test_a_variant_is_addressed_by_its_label(tmp_path: Path) -> None:
    path = tmp_path / "sweep.abl"
    path.write_text('model = "EleutherAI/pythia-70m"\nvary r = 8, 16\nmlp = lora(r)')
    (one,) = compile_file(tmp_path / "sweep.abl@r=16").variants
    assert one.spec.variant == "r=16"
    assert [fault.code for fault in compile_file(tmp_path / "sweep.abl@r=9").faults] == ["unknown-variant"]


def test_a_variant_whose_value_is_a_hub_id_can_be_addressed(tmp_path: Path) -> None:
    path = tmp_path / "bases.abl"
    path.write_text('vary m = "EleutherAI/pythia-70m", "EleutherAI/pythia-14m"\nmodel = m')
    label = compile_file(path).variants[1].spec.variant
    assert label is not None and '"' not in label  # so that a claim can name it
    (one,) = compile_file(Path(f"{path}@{label}")).variants
    assert one.spec.model == "EleutherAI/pythia-14m"
