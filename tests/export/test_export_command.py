"""`ablc export` as a user meets it: what it says, what it leaves behind, and no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import ablc
from ablc.cli.export import export_command
from ablc.cli.output import answer
from ablc.exporting.finished import ExportError

from .conftest import NEOX, plan_of, record, trained

STATEMENT = "attention.qkv = nonlinear_lora(4)"
Export = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, tokenizer_file: Path) -> Path:
    plan = plan_of(NEOX + STATEMENT)
    return record(tmp_path / "run", plan, trained(plan), str(tokenizer_file))


@pytest.fixture
def export(run: Path, capsys: pytest.CaptureFixture[str]) -> Export:
    """`ablc export RUN DIR` in this process; gives the exit code and both outputs."""

    def export(to: Path | None = None, folded: bool = False, run: Path = run) -> tuple[int, str, str]:
        code = answer(lambda: export_command(run, to or run.parent / "out", folded))
        return code, *capsys.readouterr()

    return export


def edit(file: Path, **facts: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **facts}))


def test_it_writes_and_says_how_to_load(export: Export, tmp_path: Path) -> None:
    code, said, complaints = export()
    assert (code, complaints) == (0, "")
    assert said.startswith(f"wrote {tmp_path / 'out'}\n") and "trust_remote_code=True" in said
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors", "modeling_ablc.py", "tokenizer.json"} <= written
    assert {path.name for path in tmp_path.iterdir()} == {"run", "out", "tokenizer.json"}


def test_the_run_is_only_read(export: Export, run: Path) -> None:
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.iterdir()}
    export()
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.iterdir()} == before


def test_a_stock_checkpoint_needs_nothing(tmp_path: Path, export: Export) -> None:
    plan = plan_of(NEOX + "mlp = lora(4)" + "\nmlp = full")
    code, said, _ = export(run=record(tmp_path / "plain", plan, trained(plan)))
    assert code == 0 and "stock checkpoint" in said and "trust" not in said


def test_an_empty_directory_is_taken(export: Export, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    assert export(tmp_path / "here")[0] == 0
    assert (tmp_path / "here" / "config.json").exists()


def test_missing_folders_are_made(export: Export, tmp_path: Path) -> None:
    assert export(tmp_path / "a" / "b")[0] == 0
    assert (tmp_path / "a" / "b" / "config.json").exists()


def test_a_directory_that_holds_something_is_refused(export: Export, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    code, _, complaints = export()
    assert code == 2 and "isn't empty" in complaints and "help:" in complaints
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_file_in_its_place_is_refused(export: Export, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    code, _, complaints = export()
    assert code == 2 and "isn't empty" in complaints
    assert (tmp_path / "out").read_text() == "mine"


def test_where_nothing_can_be_written_nothing_is_left(export: Export, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, complaints = export(tmp_path / "file" / "out")
    assert code == 2 and "can't be written: not a directory" in complaints


def test_a_failure_while_writing_leaves_nothing(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedTokenizerFast.save_pretrained", full)
    code, _, complaints = export()
    assert code == 2 and "no space left on device" in complaints
    assert {path.name for path in tmp_path.iterdir()} == {"run", "tokenizer.json"}


def test_a_way_round_leaves_nothing(export: Export, tmp_path: Path) -> None:
    code, _, complaints = export(tmp_path / "new" / "..")
    assert code == 2 and f"{tmp_path} isn't empty" in complaints
    assert not (tmp_path / "new").exists()


def test_no_run(export: Export, tmp_path: Path) -> None:
    code, _, complaints = export(run=tmp_path / "nowhere")
    assert code == 2 and "there is no run in" in complaints and "run.json" in complaints


def test_a_run_that_is_not_finished(export: Export, run: Path) -> None:
    edit(run / "run.json", status="interrupted")  # its weights may be another's that was there
    code, _, complaints = export()
    assert code == 2 and "has no weights: it is interrupted" in complaints
    assert f"ablc run --resume {run}" in complaints
    edit(run / "run.json", status="finished")
    (run / "model.safetensors").unlink()
    assert "has no weights: it is finished" in export()[2]
    edit(run / "run.json", status="diverged")
    code, _, complaints = export()
    assert code == 2 and "diverged: it has no weights" in complaints and "--resume" not in complaints


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format_version": "0.1"}'])
def test_a_plan_that_cannot_be_read(export: Export, run: Path, text: str) -> None:
    (run / "plan.json").write_text(text)
    code, _, complaints = export()
    assert code == 2 and f"the plan in {run} can't be read" in complaints


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "can't be read: Expecting value"),
        ("[1]", "or no record"),
        ("{}", "of another version of ablc, or no record"),
    ],
)
def test_facts_that_cannot_be_read(export: Export, run: Path, text: str, sentence: str) -> None:
    (run / "run.json").write_text(text)
    code, _, complaints = export()
    assert code == 2 and f"{run / 'run.json'}" in complaints and sentence in complaints


def test_weights_that_are_damaged(export: Export, run: Path) -> None:
    data = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(data[: len(data) // 2])
    code, _, complaints = export()
    assert code == 2 and "can't be read" in complaints
    assert f"have it written anew: ablc run --resume {run}" in complaints


@pytest.mark.parametrize("wrong", ["missing", "more", "shape"])
def test_weights_of_another_plan(export: Export, run: Path, wrong: str) -> None:
    state = load_file(run / "model.safetensors")
    name = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"
    if wrong == "shape":
        state[name] = torch.zeros(1, 2)
    elif wrong == "missing":
        del state[name]
    else:
        name = "gpt_neox.extra"
        state[name] = torch.zeros(1)
    save_file(state, run / "model.safetensors")
    code, _, complaints = export()
    assert code == 2 and f"doesn't hold the weights of plan.json: look at {name}" in complaints


def test_what_does_not_fold(export: Export, tmp_path: Path) -> None:
    code, _, complaints = export(folded=True)
    assert code == 2 and "`attention.qkv` is Linear(32, 4)" in complaints and "leave out --folded" in complaints
    assert not (tmp_path / "out").exists()


def test_without_its_tokenizer_it_warns_and_goes_on(export: Export, run: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").unlink()
    code, _, complaints = export()
    assert code == 0 and "warning[incomplete-export]: exported without a tokenizer" in complaints
    assert not (tmp_path / "out" / "tokenizer.json").exists()


def test_another_tokenizer_than_it_was_trained_with(export: Export, run: Path) -> None:
    edit(run / "run.json", data={"hash": "0" * 64, "tokenizer": {"hash": "0" * 64, "size": 257}})
    code, _, complaints = export()
    assert code == 0 and "is another one here than the run was trained with" in complaints


def test_the_builtin_tokenizer_is_made_again(
    export: Export, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer_file: Path
) -> None:
    asked = []

    def kept(corpus: Any, size: int) -> Any:
        from tokenizers import Tokenizer

        asked.append(size)
        return Tokenizer.from_file(str(tokenizer_file))

    monkeypatch.setattr("ablc.train.tokenizer.builtin_tokenizer", kept)
    monkeypatch.setattr("ablc.exporting.finished.builtin_corpus", object)
    facts = json.loads((run / "run.json").read_text())
    edit(run / "run.json", settings={**facts["settings"], "tokenizer": "builtin"})
    assert export()[0] == 0
    assert asked == [257] and (tmp_path / "out" / "tokenizer.json").exists()


def test_the_base_has_no_tokenizer_here(export: Export, run: Path) -> None:
    edit(run / "run.json", settings={"tokenizer": "base"}, base="./nowhere")
    code, _, complaints = export()
    assert code == 0 and "exported without a tokenizer: `./nowhere` has no tokenizer" in complaints


def test_python_raises_what_the_command_says(run: Path) -> None:
    with pytest.raises(ExportError, match="isn't empty"):
        ablc.export(run, run)
    with pytest.raises(ExportError, match="there is no run"):
        ablc.export(run.parent, run.parent / "out")


def test_the_working_directory_can_be_the_one(export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert export(Path())[0] == 0
    assert (
        {path.name for path in Path().iterdir()}
        == {path.name for path in (tmp_path / "here").iterdir()}
        > {
            "config.json",
            "model.safetensors",
        }
    )


def test_a_link_to_nowhere_is_refused(export: Export, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    code, _, complaints = export()
    assert code == 2 and "isn't empty" in complaints


@pytest.mark.slow
def test_as_a_process(run: Path, tmp_path: Path) -> None:
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "ablc", "export", "run", "out", *words]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    done = command()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "wrote out"
    again = command("--folded")
    assert again.returncode == 2 and again.stderr.startswith("error[no-export]: ") and "Traceback" not in again.stderr
