"""`ablc ops`, `ablc slots`, `ablc models`: what exists, as the code has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from processes import ablc

from ablc.bases import builtin
from ablc.blueprint.slots import slots_of
from ablc.faults import Source
from ablc.ops import operations
from ablc.pipeline import compile_source
from ablc.planning.places import fitting

MODELS = ["EleutherAI/pythia-410m", "llama-3.1-8b", "meta-llama/Llama-2-7b-hf"]


def test_every_operation_with_an_example_that_holds() -> None:
    said = ablc("ops").stdout
    for name in operations():
        (block,) = [part for part in said.split("\n\n") if re.match(rf"{name}(\(|\n)", part)]
        statement = re.search(r"written: (.*)", block)
        assert statement and ">>> " in block and "stands in: " in block
        assert compile_source(Source("x", statement[1]), model=MODELS[0]).ok
    assert "stands in: mlp\n" in ablc("ops", "lora_mlp").stdout


def test_an_unknown_operation() -> None:
    done = ablc("ops", "lroa")
    assert done.returncode == 2 and "did you mean `lora`?" in done.stderr and done.stdout == ""


@pytest.mark.parametrize("model", MODELS)
def test_what_is_said_to_fit_a_slot_fits_and_nothing_else_does(model: str) -> None:
    base = compile_source(Source("x", ""), model=model).variants[0].plan.original
    for slot in slots_of(base).names:
        for name in operations():
            call = name if name in ("full", "none") else f"{name}(1)"
            found = compile_source(Source("x", f"{slot} = {call}"), model=model)
            misplaced = any(fault.code == "cannot-stand" for fault in found.faults)
            assert misplaced == (name not in fitting(base, slot)), (slot, name)


def test_slots_of_a_model() -> None:
    done = ablc("slots", "llama-3.1-8b")
    head, *_ = done.stdout.splitlines()
    assert head == "llama-3.1-8b: llama, 8,030,261,248 parameters, 32 layers"
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("mlp.gate"))
    assert row == [
        "mlp.gate",
        "Linear(4096,",
        "14336,",
        "no",
        "bias)",
        "32",
        "1,879,048,192",
        "lora,",
        "nonlinear_lora",
    ]
    example = re.search(r"ablc (plan -m \S+ -e) '(.*)'", done.stdout)
    assert example and ablc(*example[1].split(), example[2]).returncode == 0


def test_slots_of_a_local_model(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text('{"model_type": "gpt_neox", "num_hidden_layers": 3}')
    assert "3 layers" in ablc("slots", "./base", cwd=tmp_path).stdout
    assert ablc("slots", "./nowhere", cwd=tmp_path).stderr.startswith("error[unknown-model]: ")


def test_models() -> None:
    lines = ablc("models").stdout.splitlines()
    assert [line.split()[0] for line in lines[1 : len(builtin()) + 1]] == list(builtin())
    row = next(line.split() for line in lines if line.startswith("EleutherAI/pythia-410m "))
    assert row == ["EleutherAI/pythia-410m", "gpt_neox", "405,334,016", "24", "1,024"]
