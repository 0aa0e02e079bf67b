"""`expect`: what the dry run can decide it decides now."""

from __future__ import annotations

from pathlib import Path

import pytest
from spec_text import codes, compiled, variants

from ablc.pipeline import compile_file
from ablc.planning.verdicts import failure

ROOT = Path(__file__).parents[2]

SIZE = 70_426_624


def holds(claim: str, text: str = "", model: str = "EleutherAI/pythia-70m") -> bool | None:
    (one,) = variants(f"{text}\nexpect {claim}", model)
    (verdict,) = one.verdicts
    return verdict.holds


@pytest.mark.parametrize(
    ("claim", "truth"),
    [
        (f"params == {SIZE}", True),
        (f"params == {SIZE:_}", True),
        (f"params == {SIZE}.0", True),
        (f"params == {SIZE - 1}", False),
        (f"params < {SIZE + 1}", True),
        (f"params < {SIZE}", False),
        (f"params <= {SIZE}", True),
        (f"params <= {SIZE - 1}", False),
        (f"params > {SIZE - 1}", True),
        (f"params > {SIZE}", False),
        (f"params >= {SIZE}", True),
        (f"params >= {SIZE + 1}", False),
        ("params > -1", True),
        ("params > 7.0e7", True),
        ("params within 1% of 70_000_000", True),
        ("params within 0.5% of 70_000_000", False),
        (f"params within 0% of {SIZE}", True),
        ("kv_bytes_per_token within 10% of -12288", False),
        ("kv_bytes_per_token within 200% of -12288", True),
    ],
)
def test_a_relation_to_a_number(claim: str, truth: bool) -> None:
    assert holds(claim) is truth


def test_within_includes_its_ends_exactly() -> None:
    assert holds("layers.mlp within 50% of 4", "mlp = none") is True  # |6 - 4| = 0.5 · 4
    assert holds("layers.mlp within 49.999% of 4", "mlp = none") is False
    assert holds("layers.mlp within 0.1% of 6.006", "mlp = none") is True  # 0.006 ≤ 0.006006, in floats a close call


@pytest.mark.parametrize(
    ("measure", "value", "text"),
    [
        ("params", SIZE, ""),
        ("trainable", SIZE - 50304 * 512, "freeze embedding"),
        ("bytes", 2 * SIZE, ""),
        ("kv_bytes_per_token", 2 * 2 * 6 * 512, ""),
        ("kv_bytes_per_token", 2 * 2 * 4 * 512, "attention[:2] = none"),
        ("kv_bytes_per_token", 0, "layer = none"),
        ("params.embedding", 50304 * 512, ""),
        ("params.mlp", 6 * (2 * 512 * 2048 + 2048 + 512), ""),
        ("params.mlp.up", 6 * (512 * 2048 + 2048), ""),
        ("params.attention.norm", 6 * 2 * 512, "attention = none"),
        ("params.attention", 0, "attention = none"),
        ("params.layer", 6 * 3_152_384, ""),
        ("layers.mlp", 0, ""),
        ("layers.mlp", 3, "mlp.act[3:] = none"),
        ("layers.mlp.act", 3, "mlp.act[3:] = none"),
        ("layers.mlp.up", 0, "mlp.act[3:] = none"),
        ("layers.mlp.up", 2, "mlp[:2] = none"),
        ("layers.attention.norm", 0, "attention = none"),
        ("layers.mlp.norm", 0, "mlp = lora(8)"),
        ("layers.attention.norm", 1, "layer[2] = none"),
        ("layers.layer", 4, "mlp[:3] = none; attention.norm[5] = none"),
        ("layers.attention", 0, "attention = full"),
        ("layers.attention", 0, "freeze attention"),
    ],
)
def test_a_measure(measure: str, value: int, text: str) -> None:
    (one,) = variants(f"{text}\nexpect {measure} == {value}")
    assert one.verdicts[0].actual == value


@pytest.mark.parametrize("measure", ["eval_loss", "perplexity", "bits_per_byte", "tokens_per_second"])
def test_what_only_runs_can_decide_needs_runs(measure: str) -> None:
    (one,) = variants(f'expect {measure} within 1% of "{ROOT / "specs" / "01.abl"}"')
    assert (one.verdicts[0].holds, one.verdicts[0].word) == (None, "needs runs")
    assert codes(f'expect {measure} within 1% of "nowhere.abl"') == ["bad-reference"]


@pytest.mark.parametrize("value", ["1 + 1", "gpt2", "r", "-(2 * 3)", '"a.abl" + 1', '2 * 3 * "a.abl"', "2 * 3"])
def test_only_a_signed_number_or_a_factor_of_a_spec_is_a_value(value: str) -> None:
    assert codes(f"expect params < {value}") == ["bad-claim"]


@pytest.mark.parametrize("measure", ["parms", "layers", "params.", "layers.embedding", "params.mlp.gate", "mlp"])
def test_unknown_measures_are_errors(measure: str) -> None:
    assert len(codes(f"expect {measure} == 1")) == 1


def test_a_failed_equality_offers_the_corrected_line() -> None:
    (one,) = variants("expect params == 70_000_000")
    fault = failure(one.verdicts[0], None)
    assert "70,426,624" in fault.message and "70,000,000" in fault.message and "+426,624" in fault.message
    assert fault.help == "expect params == 70_426_624"
    assert compiled(fault.help).variants[0].verdicts[0].holds


def test_a_failed_claim_names_its_variant_and_its_tolerance() -> None:
    (_, one) = variants("vary r = 8, 16\nmlp = lora(r)\nexpect params within 1% of 5")
    message = failure(one.verdicts[0], one.spec.variant).message
    assert "r=16" in message and "within 1% of 5" in message


# --- other specs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.abl").write_text('model = "EleutherAI/pythia-70m"\nexpect params == 3')
    (tmp_path / "sweep.abl").write_text('model = "EleutherAI/pythia-70m"\nvary r = 8, 16\nmlp = lora(r)')
    (tmp_path / "broken.abl").write_text("mlp = lroa(8)")
    return tmp_path


def verdict(folder: Path, claim: str, text: str = "") -> bool | None:
    path = folder / "top.abl"
    path.write_text(f'model = "EleutherAI/pythia-70m"\n{text}\nexpect {claim}')
    found = compile_file(path)
    assert found.faults == ()
    return found.variants[0].verdicts[0].holds


@pytest.mark.parametrize(
    ("claim", "truth"),
    [
        ('params == "base.abl"', True),
        ('params < "base.abl"', False),
        ('params == 1 * "base.abl"', True),
        ('params < 1.3 * "base.abl"', True),
        ('params < "base.abl" * 1.3', True),
        ('params < 0.9 * "base.abl"', False),
        ('params > -1 * "base.abl"', True),
        ('params within 1% of "base.abl"', True),
        ('params within 10% of 0.9 * "base.abl"', False),
        ('params > "sweep.abl@r=8"', True),
        ('params.mlp within 1% of "sweep.abl@r=16"', False),
    ],
)
def test_a_relation_to_another_spec(folder: Path, claim: str, truth: bool) -> None:
    assert verdict(folder, claim) is truth


UNFIT = ["missing.abl", "sweep.abl", "sweep.abl@r=9", "broken.abl", ".", ".@r=8", "x" * 300 + "@r=8"]


@pytest.mark.parametrize("reference", UNFIT)
def test_a_spec_that_cant_be_compared_with_is_an_error_at_the_value(folder: Path, reference: str) -> None:
    path = folder / "top.abl"
    path.write_text(f'model = "EleutherAI/pythia-70m"\nexpect params == "{reference}"')
    (fault,) = compile_file(path).faults
    assert fault.code == "bad-reference" and fault.span is not None and fault.span.column == 18


def test_claims_may_point_at_each_other(folder: Path) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        (folder / f"{name}.abl").write_text(f'model = "EleutherAI/pythia-70m"\nexpect params == "{other}.abl"')
    assert compile_file(folder / "one.abl").variants[0].verdicts[0].holds
