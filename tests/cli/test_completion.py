"""What a shell completes, asked as a shell asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import ablc

from ablc.cli import completion

MODEL = 'model = "EleutherAI/pythia-70m"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "sweep.abl").write_text(f"{MODEL}vary r = 8, 16\nmlp = lora(r)")
    (tmp_path / "specs" / "notes.txt").touch()
    (tmp_path / ".hidden").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shell(folder: Path, words: str, shell: str = "bash") -> list[str]:
    """The answers to a shell that has these words, the last one incomplete."""
    said = {"_ABLC_COMPLETE": f"complete_{shell}", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    said |= {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return ablc(cwd=folder, **said).stdout.split("\n")


def test_files_and_variants(folder: Path) -> None:
    assert completion.specs("") == ["specs/"]
    assert completion.specs("specs/s") == ["specs/sweep.abl"]
    assert completion.specs("specs/sweep.abl@r=1") == ["specs/sweep.abl@r=16"]
    assert completion.specs("nowhere/x") == []


def test_words_of_a_text(folder: Path) -> None:
    assert completion.text("mlp.u") == ["mlp.up"]
    assert completion.text("mlp = lo") == ["mlp = lora(", "mlp = lora_mlp("]
    assert completion.text("mlp = none; fr") == ["mlp = none; freeze"]
    assert completion.text("mlp = none; freeze mlp.d") == ["mlp = none; freeze mlp.down"]
    assert completion.text("mlp = no") == ["mlp = none", "mlp = nonlinear_lora("]


def test_models_recipes_and_their_keys(folder: Path) -> None:
    assert completion.models("EleutherAI/pythia-410m") == ["EleutherAI/pythia-410m", "EleutherAI/pythia-410m-deduped"]
    assert completion.models("./") == ["./specs/"]
    assert completion.recipes("wiki") == ["wikitext2", "wikitext2-log"]
    assert completion.settings("train.w") == ["train.weight_decay=", "train.warmup_steps=", "train.weights="]
    assert completion.settings("train.parallel=") == ["train.parallel=ddp", "train.parallel=fsdp"]
    assert completion.settings("train.compile=t") == ["train.compile=true"]
    assert completion.operations("lora") == ["lora", "lora_mlp"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ablc params specs/s", "specs/sweep.abl"),
        ("ablc run specs/sweep.abl@r=1", "specs/sweep.abl@r=16"),
        ("ablc plan --model EleutherAI/pythia-14", "EleutherAI/pythia-14m"),
        ("ablc run --set train.parallel=f", "train.parallel=fsdp"),
        ("ablc ops non", "none"),
        ("ablc explain fro", "frozen-nothing"),
        ("ablc slots EleutherAI/pythia-14", "EleutherAI/pythia-14m"),
        ("ablc diff specs/s", "specs/sweep.abl"),
    ],
)
def test_a_shell_gets_them(folder: Path, words: str, expected: str) -> None:
    assert expected in shell(folder, words)
